"""Counts of usage and of time, and words for how they are billed: what is taken from an upstream."""

import re
from typing import Any, TypeGuard

COUNT_NAME = re.compile("[a-z][a-z0-9_]{0,63}")
"""Names of counts as the APIs have them. They are kept as they come: what else stands there is no name of a count."""

_WORD = re.compile("[a-z][a-z0-9_-]{0,31}")

MOST_COUNTS = 64
"""Of one answer; the APIs tell a dozen."""


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value can be a number of tokens."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def counts_in(fields: Any) -> dict[str, int]:
    """Return the counts in a JSON object by their names; none of another value."""
    if not isinstance(fields, dict):
        return {}
    return {name: value for name, value in fields.items() if is_count(value) and COUNT_NAME.fullmatch(name)}


def word_in(fields: dict[str, Any], name: str) -> str:
    """Return a word that an API has for a way of billing; empty where it says none."""
    value = fields.get(name)
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def seconds_of(milliseconds: Any) -> float | None:
    """Return a time that an upstream tells in whole milliseconds; None of another value."""
    return milliseconds / 1000 if is_count(milliseconds) else None
