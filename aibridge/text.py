"""Text from outside, cut to a bound, or read as a time. Pure."""

import re
from datetime import UTC, datetime

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

_LAST = 253_402_300_799.0
"""The end of the year 9999: no calendar shows what is beyond."""

CUT = " […cut]"
"""Ends a text that was longer than its bound, where that is to be seen."""


def bounded(text: str, limit: int) -> str:
    """Return the text, cut to `limit` bytes of UTF-8, never inside a character.

    What UTF-8 cannot say (a lone surrogate, from a header that was not UTF-8) becomes a question mark.
    """
    if text.isascii():
        return text[:limit]
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def shortened(text: str, limit: int) -> str:
    """Return the text, cut to `limit` bytes and ended by `CUT` where it is longer."""
    if len(text) * 4 <= limit or len(text.encode("utf-8", "replace")) <= limit:
        return text
    return bounded(text, limit) + CUT


def moment(text: str, now: float, *, ahead: bool) -> float | None:
    """Return a moment as UTC seconds; None where the text is none, or one behind the year 9999.

    Args:
        text: a span as 30s, 15m, 24h or 7d, or a date or time as 2026-01-31T12:00, of UTC where it names no zone.
        now: from which the span is counted.
        ahead: whether it leads to what comes, or to what was.
    """
    span = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text)
    if span:
        seconds = float(span[1]) * _UNITS[span[2]]
        found = now + seconds if ahead else now - seconds
    else:
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            return None
        found = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return found if found <= _LAST else None
