"""What the metrics say, for people: how many streams there are, and how the providers are."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aibridge.telemetry.series import Sample

Fields = dict[str, Any]

Snapshot = Callable[[Callable[[str], bool]], Iterable[Sample]]
"""Returns the samples of the families whose names are wanted, taken at one moment."""

_STARTED = "aibridge_interceptions_started"
_ENDED = "aibridge_interceptions"
_INFLIGHT = "aibridge_interceptions_inflight"
_EVENTS = "aibridge_events"
_CIRCUITS = "aibridge_circuit_breaker_state"
_TOOL_SERVERS = "aibridge_mcp_server_up"
_KEY_POOLS = "aibridge_key_pool_"
_CIRCUIT_STATES = {0.0: "closed", 0.5: "half_open", 1.0: "open"}

_COUNTED = frozenset({_STARTED, _ENDED, _INFLIGHT})
_IN_STATS = _COUNTED | {_EVENTS}
_COUNTS = (f"{_STARTED}_total", f"{_ENDED}_total", _INFLIGHT)


def stats(snapshot: Snapshot, at: float) -> Fields:
    """Return the numbers of this moment: interceptions under way; begun, ended, and events since the start."""
    sums = dict.fromkeys((*_COUNTS, f"{_EVENTS}_total"), 0.0)
    ended: dict[str, int] = {}
    for sample in snapshot(_IN_STATS.__contains__):
        if sample.name in sums:
            sums[sample.name] += sample.value
        if sample.name == f"{_ENDED}_total":
            termination = sample.labels["termination"]
            ended[termination] = ended.get(termination, 0) + int(sample.value)
    return {
        "at": at,
        "inflight": int(sums[_INFLIGHT]),
        "started": int(sums[f"{_STARTED}_total"]),
        "ended": int(sums[f"{_ENDED}_total"]),
        "events": int(sums[f"{_EVENTS}_total"]),
        "terminations": ended,
    }


def providers(snapshot: Snapshot) -> Fields:
    """Return how the providers are: their traffic since the start, circuits, key pools, and the tool servers."""
    samples = [sample for sample in snapshot(_is_of_providers) if not math.isnan(sample.value)]  # NaN: it is gone
    return {
        "providers": _traffic(samples),
        "breakers": [
            {**sample.labels, "state": _CIRCUIT_STATES.get(sample.value, "unknown")}
            for sample in samples
            if sample.name == _CIRCUITS
        ],
        "key_pools": [
            {"metric": sample.name, "labels": sample.labels, "value": sample.value}
            for sample in samples
            if sample.name.startswith(_KEY_POOLS)
        ],
        "tool_servers": [
            {"server": sample.labels["server"], "up": sample.value == 1}
            for sample in samples
            if sample.name == _TOOL_SERVERS
        ],
    }


def _is_of_providers(name: str) -> bool:
    return name in _COUNTED | {_CIRCUITS, _TOOL_SERVERS} or name.startswith(_KEY_POOLS)


def _traffic(samples: Iterable[Sample]) -> list[Fields]:
    found: dict[str, Fields] = {}
    for sample in samples:
        if sample.name in _COUNTS:
            row = found.setdefault(sample.labels["provider"], _nothing(sample.labels))
            for name in _meanings(sample.name, sample.labels):
                row[name] += int(sample.value)
    return [found[name] for name in sorted(found)]


def _nothing(labels: Mapping[str, str]) -> Fields:
    return {"provider": labels["provider"], "started": 0, "inflight": 0, "completed": 0, "failed": 0, "client_gone": 0}


def _meanings(name: str, labels: Mapping[str, str]) -> Sequence[str]:
    if name == f"{_ENDED}_total":
        return (labels["status"],)
    return ("inflight",) if name == _INFLIGHT else ("started",)
