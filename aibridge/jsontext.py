"""JSON text and back: the only door to orjson. This file knows no provider and no framing.

orjson decides quickly; where it refuses, or would lose digits, the standard library decides. Both together accept
exactly the JSON of RFC 8259 in UTF-8, with lone surrogate escapes (models do write them) and integers of any size.
Refused: NaN, Infinity, a byte order mark, invalid UTF-8.
"""

import json
from typing import Any, NamedTuple, NoReturn

import orjson

from aibridge.errors import PayloadError

MAX_DEPTH = 512
"""Levels of arrays and objects accepted by `is_valid` and `scan_object`. Half of the interpreter's recursion limit,
which the standard library's decoder spends one by one; real requests stay below 30."""

LONG_INTEGER = b"0" * 19
"""The shortest integer that may not fit 64 bits, with all its digits made zero."""
FOUR_DIGITS = b"0" * 4
"""What is left of that, at least, in every fourth byte of a text."""
DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
BRACKETS_AND_QUOTES = b'"[]{}'
NEITHER_BRACKET_NOR_QUOTE = bytes([byte for byte in range(256) if byte not in BRACKETS_AND_QUOTES])


class Member(NamedTuple):
    """One top-level member of a JSON object, as offsets into its text.

    `start` is the opening quote of the key; the value is `text[value_start:value_end]`, without blanks around it.
    """

    key: str
    start: int
    value_start: int
    value_end: int


def loads(data: bytes) -> Any:
    """Return the value of a JSON text.

    Raises `PayloadError`, which says nothing of the content. Integers are exact up to 4300 digits, where the
    interpreter stops; longer ones become infinity, as floats too large do.
    """
    # orjson would make a float of a long integer, without a word. Every fourth byte is looked at first.
    if FOUR_DIGITS not in data[3::4].translate(DIGITS_TO_ZERO) or LONG_INTEGER not in data.translate(DIGITS_TO_ZERO):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return _loads_slowly(data)


def reload(data: bytes) -> Any:
    """Return the value of a text that `dumps` wrote of values whose integers fit 64 bits: `loads`, and quicker."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _loads_slowly(data)


def dumps(value: Any) -> bytes:
    """Return the compact JSON text of a value. Raises `PayloadError` where there is none."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return _dumps_slowly(value)


def is_valid(data: bytes) -> bool:
    """Tell whether `data` is one JSON text, not nested deeper than `MAX_DEPTH`."""
    try:
        loads(data)
    except PayloadError:
        return False
    return not too_deep(data)


def too_deep(data: bytes) -> bool:
    """Tell whether valid JSON text is nested deeper than `MAX_DEPTH`. Means nothing for other text."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, NEITHER_BRACKET_NOR_QUOTE)
    depth = 0
    for byte in b"".join(bare.split(b'"')[::2]):
        depth += 1 if byte in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _loads_slowly(data: bytes) -> Any:
    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            raise PayloadError("not valid JSON")
        return json.loads(text, parse_int=_integer, parse_constant=_refuse)
    except ValueError:
        raise PayloadError("not valid JSON") from None
    except RecursionError:
        raise PayloadError("JSON nested too deep") from None


def _dumps_slowly(value: Any) -> bytes:
    """Write what orjson does not: lone surrogates (as escapes), and integers over 64 bits."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"no JSON for this value: {error}") from None


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # over 4300 digits
        return float(digits)


def _refuse(constant: str) -> NoReturn:
    raise PayloadError(f"not valid JSON: {constant}")


def text_of(value: Any) -> str:
    """Return a value that is a string; the empty one where it is another."""
    return value if isinstance(value, str) else ""
