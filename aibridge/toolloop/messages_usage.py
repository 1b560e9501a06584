"""Counts of several turns of the Messages API, as one. Pure."""

from typing import Any

from aibridge.dialects.counts import is_count


def summed(before: dict[str, Any], turn: dict[str, Any]) -> dict[str, Any]:
    """Return the usage of the turns before and of one more: counts are added up, also nested ones; lists are joined.

    Of what is no count the last word is kept. None says nothing, wherever it stands.
    """
    total = dict(before)
    for name, value in turn.items():
        old = total.get(name)
        if value is None:
            total.setdefault(name, None)
        elif is_count(old) and is_count(value):
            total[name] = old + value
        elif isinstance(old, dict) and isinstance(value, dict):
            total[name] = summed(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            total[name] = old + value
        else:
            total[name] = value
    return total


def updated(usage: dict[str, Any], later: Any) -> dict[str, Any]:
    """Return a turn's usage after a later word of it: these counts are cumulative, and the last one holds."""
    if not isinstance(later, dict):
        return usage
    return usage | {name: value for name, value in later.items() if value is not None}


FIRST_BYTE_LATENCY = "firstByteLatency"


def summed_metrics(before: dict[str, Any], turn: Any) -> dict[str, Any]:
    """Return Bedrock's invocation metrics of all turns.

    Counts and `invocationLatency` are summed, as they are what the client's one request cost. `firstByteLatency` is the
    first turn's: it tells when the client saw the first byte.
    """
    if not isinstance(turn, dict):
        return before
    first = before.get(FIRST_BYTE_LATENCY)
    total = summed(before, turn)
    return total if first is None else total | {FIRST_BYTE_LATENCY: first}
