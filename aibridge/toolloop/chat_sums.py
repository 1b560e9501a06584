"""Usage of several turns in one object, as a client of Chat Completions is told it."""

from typing import Any

from aibridge.dialects.counts import MOST_COUNTS, is_count

_LEVELS = 3
"""Of objects in each other: the usage, its details, and one more."""


def summed(earlier: dict[str, Any], later: dict[str, Any], levels: int = _LEVELS) -> dict[str, Any]:
    """Return a usage object with the numbers of both, whatever they are called; all else is as the later one says it.

    The counts, with those in details, and the costs and seconds that some servers tell.
    """
    total = dict(later)
    for name, value in earlier.items():
        said = later.get(name)
        if isinstance(value, dict) and isinstance(said, dict) and levels > 1:
            total[name] = summed(value, said, levels - 1)
        elif _is_number(value) and _is_number(said):
            total[name] = value + said
        elif said is None and not isinstance(value, str) and (name in total or len(total) < MOST_COUNTS):
            total[name] = value
    return total


def _is_number(value: Any) -> bool:
    return is_count(value) or isinstance(value, float)
