"""What an answer's head tells of the limits of the key that it was asked with. Pure: times are seconds from the head.

Sources: Anthropic's `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`, whose
resets are moments (RFC 3339); OpenAI's `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, whose resets are
durations (`6m0s`, `20ms`); `retry-after`, and `retry-after-ms` as OpenAI and Azure have it. A moment is taken against
the `date` of the same head, so that the clocks of the two sides may differ.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from aibridge.values import ResponseHead

KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
"""What is limited. A closed set: whatever else a head names is not looked at."""

_SHARE = 20
"""A limit of which less than one part in so many remains is as good as reached."""
_UNTOLD_RESET = 60.0
"""Seconds, where a head does not say when a limit is restored: they are told by the minute."""


class Limit(NamedTuple):
    """One limit as a head tells it. None: not told."""

    limit: int | None = None
    remaining: int | None = None
    reset: bytes = b""
    """As it came: read only where it counts."""

    @property
    def scarce(self) -> bool:
        """Whether nearly nothing remains."""
        return self.remaining is not None and self.remaining * _SHARE <= (self.limit or 0)


def limits_in(head: ResponseHead) -> dict[str, Limit]:
    """Return the limits that a head tells, by kind. Of two headers of one name the first counts."""
    told: dict[tuple[str, str], bytes] = {}
    for name, value in head.headers:
        place = _PLACES.get(name)
        if place is not None:
            told.setdefault(place, value.strip())
    return {
        kind: Limit(
            _count(told.get((kind, "limit"))), _count(told.get((kind, "remaining"))), told.get((kind, "reset"), b"")
        )
        for kind in dict.fromkeys(kind for kind, _ in told)
    }


def reset_of(limit: Limit, head: ResponseHead) -> float:
    """Return the seconds until a limit of this head is restored."""
    told = _duration(limit.reset)
    if told is None:
        told = _until(_moment(limit.reset), head)
    return _UNTOLD_RESET if told is None else told


def told_pause(head: ResponseHead, limits: Mapping[str, Limit]) -> float | None:
    """Return the seconds for which a refused key is to be left alone: the longest that is told; None where none is.

    Args:
        head: of an answer with status 429 or 401.
        limits: that it tells. One that is used up holds until its reset.
    """
    told = [reset_of(limit, head) for limit in limits.values() if limit.remaining == 0]
    asked = asked_pause(head)
    return max(told if asked is None else [*told, asked], default=None)


def asked_pause(head: ResponseHead) -> float | None:
    """Return the seconds for which the upstream wants to be left alone, the longest of those it names; None: of none.

    What cannot be read is not told (RFC 9110, section 10.2.3, knows seconds and dates).
    """
    told = []
    for name, unit in ((b"retry-after-ms", 1000.0), (b"retry-after", 1.0)):
        value = head.header(name).strip()
        if _WAIT.fullmatch(value):
            told.append(float(value) / unit)
        elif (seconds := _until(_http_date(value), head)) is not None:
            told.append(seconds)
    return max(told, default=None)


_PLACES = {
    **{f"anthropic-ratelimit-{kind}-{field}".encode(): (kind, field) for kind in KINDS for field in Limit._fields},
    **{f"x-ratelimit-{field}-{kind}".encode(): (kind, field) for kind in KINDS[:2] for field in Limit._fields},
}
_WHOLE = re.compile(rb"[0-9]{1,15}")
_SECONDS = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_WAIT = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
"""However long: whoever says a number of a thousand digits means a long time."""
_DURATION = re.compile(
    rb"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)ms)?"
)
_UNITS = (3600.0, 60.0, 1.0, 0.001)


def _count(text: bytes | None) -> int | None:
    return int(text) if text is not None and _WHOLE.fullmatch(text) else None


def _duration(text: bytes) -> float | None:
    """Read `1h2m3.5s`, `20ms`, or plain seconds."""
    if _SECONDS.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    return sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)


def _moment(text: bytes) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.decode("latin-1"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _http_date(text: bytes) -> datetime | None:
    """Read the one form of RFC 9110, section 5.6.7, that is to be sent."""
    try:
        return datetime.strptime(text.decode("latin-1"), "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None


def _until(moment: datetime | None, head: ResponseHead) -> float | None:
    """Return the seconds from the head's own date to a moment, none below zero."""
    said = _http_date(head.header(b"date").strip()) if moment else None
    return max(0.0, (moment - said).total_seconds()) if moment and said else None
