"""The commands that read the records: `sessions`, `usage`, `export`; and `prune`, which shortens them."""

import argparse
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from aibridge import jsontext
from aibridge.reporting import (
    Add,
    Fields,
    add_source,
    dollars,
    moment,
    plain,
    print_lines,
    records_path,
    table,
)
from aibridge.stores import ledger
from aibridge.stores.sqlite import prune, querying

_DEFAULT_GROUPS = ("day", "actor", "provider", "model")
_PROMPT_SHOWN = 100
"""Characters of a prompt on a terminal."""


def add_commands(add: Add) -> None:
    """Add the commands of this file; `add` takes name, function and help, and returns the command's parser."""
    sessions = add("sessions", _sessions, "list the latest sessions, with their threads and interceptions")
    add_source(sessions, since="24h")
    sessions.add_argument("--limit", type=int, default=20, metavar="N", help="sessions at most (default: 20)")
    sessions.add_argument("--json", action="store_true", help="as one JSON array")
    usage = add("usage", _usage, "sum requests, tokens and costs")
    add_source(usage, since="30d")
    groups = f"of {', '.join(ledger.GROUPS)}; several with commas (default: {','.join(_DEFAULT_GROUPS)})"
    usage.add_argument("--by", type=_groups, default=_DEFAULT_GROUPS, metavar="NAMES", help=groups)
    usage.add_argument("--json", action="store_true", help="as one JSON array")
    export = add("export", _export, "write every interception as a line of JSON, with all that is kept of it")
    add_source(export, since="all")
    pruning = add("prune", _prune, "delete interceptions, with all that is kept of them")
    add_source(pruning)
    pruning.add_argument("--older-than", type=moment, required=True, metavar="TIME", help="as 90d or 2026-01-31")


def _groups(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in ledger.GROUPS]:
        raise argparse.ArgumentTypeError(f"should be of {', '.join(ledger.GROUPS)}, not {unknown[0]!r}")
    return names


def _sessions(options: argparse.Namespace) -> int:
    with querying(records_path(options)) as query:
        found = ledger.sessions(query, options.since, options.limit)
    print_lines([jsontext.dumps(found).decode()] if options.json else _session_lines(found), as_json=options.json)
    return 0


def _usage(options: argparse.Namespace) -> int:
    with querying(records_path(options)) as query:
        found = ledger.usage(query, options.since, options.by)
    print_lines([jsontext.dumps(found).decode()] if options.json else table(_with_dollars(found)), as_json=options.json)
    return 0


def _export(options: argparse.Namespace) -> int:
    with querying(records_path(options)) as query:
        print_lines((jsontext.dumps(row).decode() for row in ledger.export(query, options.since)), as_json=True)
    return 0


def _prune(options: argparse.Namespace) -> int:
    path, deleted = records_path(options), 0
    while some := prune(path, options.older_than):
        deleted += some
    print_lines([f"{deleted} interceptions deleted"], as_json=False)
    return 0


def _session_lines(found: Sequence[Fields]) -> Iterable[str]:
    for session in found:
        names = "  ".join(plain(name) for name in (session["session"], session["actor"], session["client"]))
        yield f"{_time(session['started_at'])}  session {names}"
        for thread in session["threads"]:
            prompt = plain(thread["prompt"] or "")
            shown = prompt if len(prompt) <= _PROMPT_SHOWN else prompt[:_PROMPT_SHOWN] + "…"
            yield f"  thread {plain(thread['thread'])}" + (f'  "{shown}"' if shown else "")
            yield from map(_interception_line, thread["interceptions"])


def _interception_line(row: Fields) -> str:
    end = "running" if row["termination"] is None else row["termination"]
    end += f" ({row['cause']})" if end not in {"running", "completed"} else ""
    took = "" if row["duration"] is None else f"{row['duration']:.1f} s"
    counts = f"in {row['input_tokens'] or 0} out {row['output_tokens'] or 0}"
    cost = _cost(row)
    tools = ", ".join(row["tools"])
    who = row["answered_by"] or row["provider"]
    parts = [_time(row["started_at"]), row["id"], who, row["model"] or "-", end, took, counts, cost, tools]
    return "    " + "  ".join(plain(part) for part in parts if part)


def _cost(row: Fields) -> str:
    """Return what an interception cost: at least so much where its answer broke off; nothing where none was told."""
    if row["cost_nanodollars"] is None:
        return f"unpriced ({row['unpriced']})" if row["unpriced"] else ""
    return f"{'>=' if row['usage_source'] == 'provider_partial' else ''}${dollars(row['cost_nanodollars'])}"


def _with_dollars(rows: Iterable[Fields]) -> list[Fields]:
    """Return rows whose cost is written in dollars."""
    return [
        {
            "cost_usd" if name == "cost_nanodollars" else name: dollars(cell) if name == "cost_nanodollars" else cell
            for name, cell in row.items()
        }
        for row in rows
    ]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
