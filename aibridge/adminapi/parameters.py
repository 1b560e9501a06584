"""What the admin API takes in a query: each parameter read by its name, or refused with what it should be."""

import base64
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from aibridge import jsontext
from aibridge.adminapi.problems import Problem
from aibridge.errors import PayloadError
from aibridge.lifecycle import Cause, Termination
from aibridge.stores import browsing, ledger, summaries
from aibridge.text import moment

MAX_LIMIT = 500
MAX_SESSIONS = 100
MAX_TEXT = 1024
"""Characters of a name to filter by; no longer one is recorded."""
_MAX_FIELDS = 32
_MAX_TIME = 253_402_300_800.0
"""The year 10000. What is beyond is milliseconds, or a slip."""

Arguments = Mapping[str, Any]
"""What a request said, by parameter, read; what it did not say is missing."""

Reader = Callable[[str, float], Any]
"""Reads the text of a parameter, at a time. Raises `ValueError` with what it should be."""

Readers = Mapping[str, Reader]


def read(query: str, readers: Readers, now: float) -> Arguments:
    """Return the parameters of a query.

    Args:
        query: as it came, without its question mark.
        readers: of those that the route takes.
        now: UTC seconds, from which spans are counted.

    Raises:
        Problem: one is not known, comes twice, or is not what it should be; all of them are named.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise Problem(400, "bad_query", "the query cannot be read, or has too many parameters") from None
    found: dict[str, Any] = {}
    errors: list[tuple[str, str]] = []
    for name, text in pairs:
        if name not in readers:
            errors.append((name[:MAX_TEXT], _unknown(name, list(readers))))
        elif name in found:
            errors.append((name, "comes twice"))
        else:
            try:
                found[name] = readers[name](text, now)
            except ValueError as error:
                errors.append((name, str(error)))
                found[name] = None
    if errors:
        detail = f"{errors[0][0]}: {errors[0][1]}" + (f", and {len(errors) - 1} more" if errors[1:] else "")
        raise Problem(400, "bad_parameter", detail, errors=errors)
    return found


def filters(arguments: Arguments) -> browsing.Filters:
    """Return which interceptions are asked for."""
    return browsing.Filters(**{name: arguments[name] for name in FILTERS if name in arguments})


def cursor(place: Sequence[Any]) -> str:
    """Return where a page ends, as a word that the next request brings back."""
    return base64.urlsafe_b64encode(jsontext.dumps(list(place))).decode().rstrip("=")


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name[:MAX_TEXT], names, 1)
    if near:
        return f"is not known here; did you mean {near[0]}?"
    return f"is not known here; known are {', '.join(names)}" if names else "is not known here; there are none"


def _text(text: str, _: float) -> str:
    if not 0 < len(text) <= MAX_TEXT:
        raise ValueError(f"should be a name of 1 to {MAX_TEXT} characters")
    return text


def _time(text: str, now: float) -> float:
    try:
        found: float | None = float(text)
    except ValueError:
        found = _moment(text, now)
    if found is None or not 0 <= found <= _MAX_TIME:
        raise ValueError("should be UTC seconds since the epoch, a time as 2026-01-31T12:00, or a span as 24h")
    return found


def _moment(text: str, now: float) -> float | None:
    """Return the time that a span or a date comes to; one before 1970 is as good as its beginning."""
    found = moment(text, now, ahead=False)
    return None if found is None else max(found, 0.0)


def _flag(text: str, _: float) -> bool:
    return {"true": True, "false": False}[_one_of("true", "false")(text, 0.0)]


def _one_of(*words: str) -> Reader:
    def read_word(text: str, _: float) -> str:
        if text not in words:
            raise ValueError(f"should be one of {', '.join(words)}")
        return text

    return read_word


def _up_to(most: int) -> Reader:
    def read_number(text: str, _: float) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
            raise ValueError(f"should be a number from 1 to {most}")
        return int(text)

    return read_number


def _groups(text: str, _: float) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(ledger.GROUPS):
        raise ValueError(f"should be of {', '.join(ledger.GROUPS)}, with commas")
    return names


def _cursor(kind: type[Any]) -> Reader:
    """Return what reads the end of a page: a time, and names."""
    names = len(kind._fields) - 1

    def read_place(text: str, _: float) -> Any:
        try:
            place = jsontext.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        except (PayloadError, ValueError):
            place = None
        if not (isinstance(place, list) and len(place) == names + 1 and _is_time(place[0])) or not all(
            map(_is_storable, place[1:])
        ):
            raise ValueError("should be the `next` of the page before")
        return kind(float(place[0]), *place[1:])

    return read_place


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_TIME


def _is_storable(name: object) -> bool:
    """Whether a value is a text that SQLite takes: half a surrogate pair, which JSON has a way to say, it does not."""
    return isinstance(name, str) and name == name.encode("utf-8", "ignore").decode()


RANGE: Readers = {"since": _time, "until": _time}
FILTERS: Readers = {
    **RANGE,
    "actor": _text,
    "provider": _text,
    "model": _text,
    "client": _text,
    "termination": _one_of(*(termination.value for termination in Termination)),
    "cause": _one_of(*(cause.value for cause in Cause)),
    "session": _text,
    "running": _flag,
}
BUCKET: Readers = {"bucket": _one_of(*summaries.BUCKETS)}

INTERCEPTIONS: Readers = {"cursor": _cursor(browsing.Place), "limit": _up_to(MAX_LIMIT), **FILTERS}
SESSIONS: Readers = {
    "cursor": _cursor(browsing.SessionPlace), "limit": _up_to(MAX_SESSIONS), "since": _time, "actor": _text
}  # fmt: skip
SESSION: Readers = {"actor": _text}
FACETS: Readers = {"since": _time}
OUTCOMES: Readers = {**FILTERS, **BUCKET}
LATENCY: Readers = {**FILTERS, **BUCKET, "by": _one_of(*summaries.LATENCY_GROUPS)}
USAGE: Readers = {**RANGE, "by": _groups}
EXPORT: Readers = {"format": _one_of("jsonl", "csv"), **FILTERS}
