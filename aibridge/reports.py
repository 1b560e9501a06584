"""The commands that read the records: `sessions`, `usage`, `export`; and `prune`, which shortens them."""

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aibridge import config, jsontext
from aibridge.errors import AibridgeError, ConfigError
from aibridge.stores import ledger
from aibridge.stores.sqlite import prune, querying
from aibridge.text import moment

_DEFAULT_GROUPS = ("day", "actor", "provider", "model")
_PROMPT_SHOWN = 100
"""Characters of a prompt on a terminal."""

Fields = dict[str, Any]
Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the commands of this file; `add` takes name, function and help, and returns the command's parser."""
    sessions = add("sessions", _sessions, "list the latest sessions, with their threads and interceptions")
    _add_source(sessions, since="24h")
    sessions.add_argument("--limit", type=int, default=20, metavar="N", help="sessions at most (default: 20)")
    sessions.add_argument("--json", action="store_true", help="as one JSON array")
    usage = add("usage", _usage, "sum requests and tokens")
    _add_source(usage, since="30d")
    groups = f"of {', '.join(ledger.GROUPS)}; several with commas (default: {','.join(_DEFAULT_GROUPS)})"
    usage.add_argument("--by", type=_groups, default=_DEFAULT_GROUPS, metavar="NAMES", help=groups)
    usage.add_argument("--json", action="store_true", help="as one JSON array")
    export = add("export", _export, "write every interception as a line of JSON, with all that is kept of it")
    _add_source(export, since="all")
    pruning = add("prune", _prune, "delete interceptions, with all that is kept of them")
    _add_source(pruning)
    pruning.add_argument("--older-than", type=_moment, required=True, metavar="TIME", help="as 90d or 2026-01-31")


def _add_source(parser: argparse.ArgumentParser, since: str = "") -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--records", metavar="FILE", help="the SQLite file (default: where the gateway's records go)")
    source.add_argument("--config", metavar="FILE", help="a configuration that names it")
    if since:
        text = f"30m, 24h, 7d, a date or time as 2026-01-31T12:00 (UTC), or all (default: {since})"
        parser.add_argument("--since", type=_since, default=since, metavar="TIME", help=text)


def _since(text: str) -> float:
    return 0.0 if text == "all" else _moment(text)


def _moment(text: str) -> float:
    """Return a moment as UTC seconds: so long ago, or a date or time."""
    found = moment(text, time.time(), ahead=False)
    if found is None:
        raise argparse.ArgumentTypeError(f"should be as 24h, 7d or 2026-01-31, not {text!r}")
    return found


def _groups(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in ledger.GROUPS]:
        raise argparse.ArgumentTypeError(f"should be of {', '.join(ledger.GROUPS)}, not {unknown[0]!r}")
    return names


def _path(options: argparse.Namespace) -> Path:
    if options.records:
        path = Path(options.records)
    else:
        loaded = config.load(options.config) if options.config else config.from_environment()
        path = loaded.records.path
    if not path.exists():
        raise ConfigError(f"{path}: there are no records; --records FILE or --config FILE says where they are")
    return path


def _sessions(options: argparse.Namespace) -> int:
    with querying(_path(options)) as query:
        found = ledger.sessions(query, options.since, options.limit)
    _print([jsontext.dumps(found).decode()] if options.json else _session_lines(found), as_json=options.json)
    return 0


def _usage(options: argparse.Namespace) -> int:
    with querying(_path(options)) as query:
        found = ledger.usage(query, options.since, options.by)
    _print([jsontext.dumps(found).decode()] if options.json else _table(found), as_json=options.json)
    return 0


def _export(options: argparse.Namespace) -> int:
    with querying(_path(options)) as query:
        _print((jsontext.dumps(row).decode() for row in ledger.export(query, options.since)), as_json=True)
    return 0


def _prune(options: argparse.Namespace) -> int:
    path, deleted = _path(options), 0
    while some := prune(path, options.older_than):
        deleted += some
    print(f"{deleted} interceptions deleted")
    return 0


def _print(lines: Iterable[str], *, as_json: bool) -> None:
    """Print lines: JSON in UTF-8 wherever it goes, text as the terminal can show it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if as_json:
            sys.stdout.reconfigure(encoding="utf-8")
        else:
            sys.stdout.reconfigure(errors="replace")
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = None  # the interpreter must not try again at its end
        if not isinstance(error, BrokenPipeError):  # `| head` has seen enough
            raise AibridgeError(f"standard output: {error.strerror}") from error


def _session_lines(found: Sequence[Fields]) -> Iterable[str]:
    for session in found:
        names = "  ".join(_plain(name) for name in (session["session"], session["actor"], session["client"]))
        yield f"{_time(session['started_at'])}  session {names}"
        for thread in session["threads"]:
            prompt = _plain(thread["prompt"] or "")
            shown = prompt if len(prompt) <= _PROMPT_SHOWN else prompt[:_PROMPT_SHOWN] + "…"
            yield f"  thread {_plain(thread['thread'])}" + (f'  "{shown}"' if shown else "")
            yield from map(_interception_line, thread["interceptions"])


def _interception_line(row: Fields) -> str:
    end = "running" if row["termination"] is None else row["termination"]
    end += f" ({row['cause']})" if end not in {"running", "completed"} else ""
    took = "" if row["duration"] is None else f"{row['duration']:.1f} s"
    counts = f"in {row['input_tokens'] or 0} out {row['output_tokens'] or 0}"
    tools = ", ".join(row["tools"])
    parts = [_time(row["started_at"]), row["id"], row["provider"], row["model"] or "-", end, took, counts, tools]
    return "    " + "  ".join(_plain(part) for part in parts if part)


def _table(found: Sequence[Fields]) -> Iterable[str]:
    if not found:
        return []
    rows = [list(found[0])] + [[_plain("-" if cell is None else str(cell)) for cell in row.values()] for row in found]
    numbers = [isinstance(cell, int) for cell in found[0].values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    ]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _plain(text: str) -> str:
    """Return text that a terminal takes for nothing but text: clients choose some of it."""
    return "".join(character if character.isprintable() else " " for character in text)
