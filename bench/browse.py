"""What the admin API's questions cost on a large store: how long each takes, and how SQLite goes about it.

    python bench/browse.py [--rows 1000000] [--store FILE] [--json FILE]

The store is made once, in the shape of a month of agents' work, by what writes records in a gateway; the time of that
is told too, since each index is paid for there. Then each question is asked `ROUNDS` times, of a file whose pages the
system has in memory. A figure is the best of the rounds: CPU time, and behind it the clock on the wall.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from aibridge.adminapi.questions import ALONE, BOUNDS, IN_A_LIST
from aibridge.ids import uuid7
from aibridge.lifecycle import TERMINATION_OF, Cause
from aibridge.stores import browsing, ledger, recorded, summaries
from aibridge.stores.base import CLOSED_COLUMNS, OPENED_COLUMNS, TOKEN_USAGES, TOOL_USAGES, WHOLE, Query, Row, Rows
from aibridge.stores.browsing import Filters
from aibridge.stores.sqlite import SQLiteStore, querying

ROUNDS = 5
_AT_ONCE = 2000
_MONTH = 30 * 86_400
_NOW = 1_800_000_000.0

_MODELS = [f"claude-{name}-{number}" for name in ("opus", "sonnet", "haiku") for number in (4, 5)] + [
    "gpt-5",
    "gpt-5-mini",
]
_CAUSES = [Cause.TRUNCATED, Cause.HTTP_STATUS, Cause.DISCONNECTED, Cause.CONNECTION_RESET, Cause.IDLE_TIMEOUT]
_TOOLS = ["Bash", "Read", "Edit", "Grep", "Write", "WebFetch"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path, required=True, help="where it is made, if it is not there")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if not options.store.exists():
        started = time.process_time()
        fill(options.store, options.rows)
        print(f"{options.rows:,} interceptions written in {time.process_time() - started:.1f} s of CPU")
    print(f"{options.store.stat().st_size / 1e6:,.0f} MB")
    figures = {name: measured(options.store, name, ask) for name, ask in questions(options.store).items()}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    slow = [name for name, figure in figures.items() if name.startswith("page") and figure["cpu_ms"] > 100]
    if slow:
        sys.exit(f"more than 100 ms of CPU: {', '.join(slow)}")


def fill(path: Path, rows: int) -> None:
    """Write interceptions with their usage and tools, as a gateway's writer does."""
    store, chance = SQLiteStore(path), random.Random(1)
    sessions = [f"session-{number}" for number in range(max(rows // 30, 1))]
    for first in range(0, rows, _AT_ONCE):
        batch: Rows = {WHOLE: [], TOKEN_USAGES.name: [], TOOL_USAGES.name: []}
        for number in range(first, min(first + _AT_ONCE, rows)):
            add(batch, number, rows, chance, sessions)
        store.write(batch, "bench", first)
    store.close()


def add(batch: Rows, number: int, rows: int, chance: random.Random, sessions: list[str]) -> None:
    started_at = _NOW - _MONTH + _MONTH * number / rows + chance.random()
    cause = chance.choice(_CAUSES) if chance.random() < 0.03 else Cause.CLEAN
    duration = chance.lognormvariate(1.5, 0.8)
    session = sessions[min(int(number / rows * len(sessions) + chance.random() * 40), len(sessions) - 1)]
    model = chance.choice(_MODELS)
    id_ = uuid7(int(started_at * 1000))
    told: dict[str, Any] = {
        "id": id_,
        "started_at": started_at,
        "actor_id": f"actor-{int(chance.expovariate(0.08))}",
        "actor_name": "",
        "credential_kind": "centralized",
        "credential_hint": "sk-a…abcd",
        "provider": "openai" if model.startswith("gpt") else chance.choice(["anthropic", "bedrock"]),
        "provider_kind": "anthropic",
        "dialect": "messages",
        "route": "/v1/messages",
        "request_path": "/anthropic/v1/messages",
        "method": "POST",
        "model": model,
        "upstream_model": model,
        "streaming": 1,
        "client": chance.choice(["Claude Code", "Codex", "Cursor", "Zed"]),
        "user_agent": "claude-cli/2.0.1 (external, cli)",
        "request_bytes": 120_000,
        "session_id": session,
        "journal": "bench",
        "ended_at": started_at + duration,
        "duration": duration,
        "termination": TERMINATION_OF[cause].value,
        "cause": cause.value,
        "error": None if cause is Cause.CLEAN else "upstream closed the connection",
        "terminal_event_seen": 1,
        "last_event": "message_stop",
        "events": 400,
        "bytes_in": 50_000,
        "bytes_out": 50_000,
        "http_status": 200,
        "upstream_request_id": f"req_{number:024}",
        "time_to_first_event": min(chance.lognormvariate(-0.2, 0.5), duration),
        "message_id": f"msg_{number:024}",
        "stop_reason": "end_turn",
        "usage_source": "provider_final",
    }
    batch[WHOLE].append([told.get(name) for name in OPENED_COLUMNS + CLOSED_COLUMNS])
    usage = {
        "interception_id": id_,
        "created_at": started_at + duration,
        "usage_source": "provider_final",
        "input_tokens": 2000,
        "output_tokens": int(duration * 60) + 1,
        "cache_read_input_tokens": 40_000,
        "cache_creation_input_tokens": 500,
        "cost_nanodollars": 30_000_000,
        "price_version": "bench",
    }
    batch[TOKEN_USAGES.name].append([usage.get(column.name) for column in TOKEN_USAGES.columns])
    if chance.random() < 0.6:
        tool: Row = [id_, 1, started_at, "msg", f"toolu_{number}", chance.choice(_TOOLS)]
        batch[TOOL_USAGES.name].append(tool + [None] * (len(TOOL_USAGES.columns) - len(tool)))


def questions(path: Path) -> dict[str, Callable[[Query], object]]:
    """Return what is asked, by name."""
    with querying(path) as query:
        middle, _ = browsing.interceptions(query, Filters(until=_NOW - _MONTH / 2), None, 1)
        session = middle[0]["session_id"]
    place = browsing.Place(middle[0]["started_at"], middle[0]["id"])
    pages = {
        "first": Filters(),
        "of a day": Filters(since=_NOW - 86_400),
        "of an actor": Filters(actor="actor-3"),
        "of a rare actor": Filters(actor="actor-90"),
        "of nobody": Filters(actor="nobody"),
        "of a model": Filters(model="gpt-5"),
        "of no model": Filters(model="none"),
        "of a termination": Filters(termination="client_gone"),
        "of a cause": Filters(cause="idle_timeout"),
        "of no cause": Filters(cause="crashed"),
        "of a session": Filters(session=session),
        "running": Filters(running=True),
        "of an actor's failures": Filters(actor="actor-40", termination="upstream_error", cause="idle_timeout"),
        "of four at once": Filters(actor="actor-20", model="gpt-5", client="Zed", cause="truncated"),
        "of none of four": Filters(actor="actor-0", provider="bedrock", model="gpt-5", client="Zed"),
    }
    found: dict[str, Callable[[Query], object]] = {
        f"page {name}": partial(_page, filters=filters) for name, filters in pages.items()
    }
    found["page in the middle"] = partial(_page, filters=Filters(), after=place)
    found["page in the middle of a time"] = partial(_page, filters=Filters(until=_NOW), after=place)
    found["page in the middle of an actor"] = partial(_page, filters=Filters(actor="actor-3"), after=place)
    found["interception"] = partial(recorded.interception, interception_id=middle[0]["id"], bounds=BOUNDS)
    found["facets of a day"] = partial(browsing.facets, since=_NOW - 86_400)
    found["facets of all"] = partial(browsing.facets, since=0.0)
    for span, since in (("a day", _NOW - 86_400), ("a month", 0.0)):
        filters = Filters(since=since)
        found[f"outcomes of {span}"] = partial(summaries.outcomes, filters=filters, bucket="hour")
        found[f"latency of {span}"] = partial(summaries.latency, filters=filters, by="model", bucket=None)
        found[f"usage of {span}"] = partial(ledger.usage, since=since, by=("day", "actor", "model"))
        listed = partial(browsing.sessions, actor=None, after=None, limit=20, shown=IN_A_LIST)
        found[f"sessions of {span}"] = partial(listed, since=since)
    found["usage of a day by tool"] = partial(ledger.usage, since=_NOW - 86_400, by=("tool",))
    found["session"] = partial(ledger.session, actor=middle[0]["actor_id"], name=session, since=0.0, shown=ALONE)
    found["ends of this second"] = partial(browsing.ended_since, horizon=_NOW - 15, most=20_000)
    found["page of an export"] = partial(browsing.exported, filters=Filters(), after=place, limit=20, in_full=True)
    return found


def _page(query: Query, filters: Filters, after: browsing.Place | None = None) -> object:
    return browsing.interceptions(query, filters, after, 50)


def measured(path: Path, name: str, ask: Callable[[Query], object]) -> dict[str, Any]:
    """Ask a question some times; print and return how long it takes, and the plans of its queries."""
    rounds = [once(path, ask)]
    while len(rounds) < ROUNDS and rounds[-1][0] < 2:
        rounds.append(once(path, ask))
    with querying(path) as query:
        plans = list(dict.fromkeys(planned(query, ask)))
    cpu, wall = (round(min(times) * 1000, 1) for times in zip(*rounds, strict=True))
    print(f"{cpu:9.1f} ms {wall:9.1f} ms  {name}")
    for plan in plans:
        print(f"{'':14}{plan}")
    return {"cpu_ms": cpu, "ms": wall, "plans": plans}


def once(path: Path, ask: Callable[[Query], object]) -> tuple[float, float]:
    """Ask on a new connection, as the admin API does; return the seconds of CPU, and on the wall."""
    wall, cpu = time.perf_counter(), time.process_time()
    with querying(path) as query:
        ask(query)
    return time.process_time() - cpu, time.perf_counter() - wall


def planned(query: Query, ask: Callable[[Query], object]) -> Iterator[str]:
    """Yield how SQLite does each of the queries that a question comes to."""
    plans: list[str] = []

    def explain(text: str, values: Any) -> list[dict[str, Any]]:
        plans.append("; ".join(row["detail"] for row in query(f"EXPLAIN QUERY PLAN {text}", values)))
        return query(text, values)

    ask(explain)
    yield from plans


if __name__ == "__main__":
    main()
