"""The commands that read the records: `sessions`, `usage`, `export`; and `prune`, which shortens them."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

from aibridge import jsontext
from aibridge.commands.parser import Commands, add_json, number
from aibridge.commands.reporting import (
    Fields,
    add_source,
    cost_of,
    dollars,
    moment,
    records_path,
    table,
    told_time,
)
from aibridge.commands.terminal import plain, print_lines, progress
from aibridge.stores import browsing, ledger
from aibridge.stores.browsing import Filters
from aibridge.stores.sqlite import prune, querying

_DEFAULT_GROUPS = ("day", "actor", "provider", "model")
_PROMPT_SHOWN = 100
"""Characters of a prompt on a terminal."""


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sessions = commands.add(
        "sessions",
        _sessions,
        "list the latest sessions, with their threads and interceptions",
        ["sessions --since 2h", "sessions --json | jq '.[].actor'  # the same for programs"],
    )
    add_source(sessions, since="24h")
    sessions.add_argument("--limit", type=number(1), default=20, metavar="N", help="sessions at most (default: 20)")
    add_json(sessions, "as one JSON array")
    usage = commands.add(
        "usage",
        _usage,
        "sum requests, tokens and costs",
        ["usage --since 7d --by actor  # who spent what this week", "usage --since 2026-01-01 --by model,day --json"],
        "docs/prices.md",
    )
    add_source(usage, since="30d")
    groups = f"of {', '.join(ledger.GROUPS)}; several with commas (default: {','.join(_DEFAULT_GROUPS)})"
    usage.add_argument("--by", type=_groups, default=_DEFAULT_GROUPS, metavar="NAMES", help=groups)
    add_json(usage, "as one JSON array")
    export = commands.add(
        "export",
        _export,
        "write every interception as a line of JSON, with all that is kept of it",
        ["export --since 7d > records.jsonl", "export | jq 'select(.termination != \"completed\")'"],
    )
    add_source(export, since="all")
    pruning = commands.add(
        "prune",
        _prune,
        "delete interceptions, with all that is kept of them",
        ["prune --older-than 90d", "prune --older-than 2026-01-31 --records aibridge.db"],
        "docs/operations.md",
    )
    add_source(pruning)
    pruning.add_argument("--older-than", type=moment, required=True, metavar="TIME", help="as 90d or 2026-01-31")
    add_json(pruning)


def _groups(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in ledger.GROUPS]:
        raise argparse.ArgumentTypeError(f"should be of {', '.join(ledger.GROUPS)}, not {unknown[0]!r}")
    return names


def _sessions(options: argparse.Namespace) -> int:
    with querying(records_path(options)) as query:
        found, _ = browsing.sessions(query, options.since, None, None, options.limit)
    print_lines([jsontext.dumps(found).decode()] if options.json else _session_lines(found), as_json=options.json)
    return 0


def _usage(options: argparse.Namespace) -> int:
    with querying(records_path(options)) as query:
        found = ledger.usage(query, options.since, options.by)
    print_lines([jsontext.dumps(found).decode()] if options.json else table(_with_dollars(found)), as_json=options.json)
    return 0


def _export(options: argparse.Namespace) -> int:
    with querying(records_path(options)) as query:
        asked = Filters(since=options.since)
        found: Iterable[Fields] = browsing.export(query, asked)
        if not sys.stdout.isatty():  # there the lines themselves show how far it is
            found = progress(found, "interceptions", lambda: browsing.count(query, asked))
        print_lines((jsontext.dumps(row).decode() for row in found), as_json=True)
    return 0


def _prune(options: argparse.Namespace) -> int:
    path = records_path(options)
    deleted = sum(1 for _ in progress(_pruned(path, options.older_than), "interceptions"))
    text = jsontext.dumps({"deleted": deleted}).decode() if options.json else f"{deleted} interceptions deleted"
    print_lines([text], as_json=options.json)
    return 0


def _pruned(path: Path, before: float) -> Iterator[None]:
    """Delete, and yield as often as an interception was deleted."""
    while some := prune(path, before):
        yield from repeat(None, some)


def _session_lines(found: Sequence[Fields]) -> Iterable[str]:
    for session in found:
        names = "  ".join(plain(name) for name in (session["session"], session["actor"], session["client"]))
        yield f"{told_time(session['started_at'])}  session {names}"
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
    cost = cost_of(row)
    tools = ", ".join(row["tools"])
    parts = [
        told_time(row["started_at"]),
        row["id"],
        row["answered_by"],
        row["model"] or "-",
        end,
        took,
        counts,
        cost,
        tools,
    ]
    return "    " + "  ".join(plain(part) for part in parts if part)


def _with_dollars(rows: Iterable[Fields]) -> list[Fields]:
    """Return rows whose cost is written in dollars."""
    return [
        {
            "cost_usd" if name == "cost_nanodollars" else name: dollars(cell) if name == "cost_nanodollars" else cell
            for name, cell in row.items()
        }
        for row in rows
    ]
