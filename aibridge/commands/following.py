"""The commands that show single ends: `tail`, as they happen, and `show`, with all that is known of one."""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aibridge import jsontext
from aibridge.commands.parser import Commands, add_json, number
from aibridge.commands.reporting import Fields, add_source, cost_of, records_path, told_time
from aibridge.commands.terminal import Colour, is_open, painter, plain, print_lines
from aibridge.errors import AibridgeError
from aibridge.lifecycle import Cause, Termination
from aibridge.stores import recorded
from aibridge.stores.base import StoreUnavailable
from aibridge.stores.following import FILTERS, Follower, latest
from aibridge.stores.recorded import COSTED
from aibridge.stores.sqlite import querying

LOOK_EVERY_S = 0.5
"""Between two looks at the store; a record is there a tenth of a second after its end."""

_COLOURS = {
    Termination.COMPLETED: Colour.GREEN,
    Termination.UPSTREAM_ERROR: Colour.RED,
    Termination.CLIENT_GONE: Colour.YELLOW,
    Termination.GATEWAY_ERROR: Colour.MAGENTA,
}
_CHOICES: dict[str, list[Any]] = {"termination": list(Termination), "cause": list(Cause)}

Paint = Callable[[str, Colour], str]


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    tail = commands.add(
        "tail",
        _tail,
        "follow how interceptions end, as they do; Ctrl-C ends it",
        [
            "tail",
            "tail --termination upstream_error --provider bedrock",
            "tail -n 100 --no-follow --json | jq .cause  # the last hundred, and no more",
        ],
        "docs/outcomes.md",
    )
    add_source(tail)
    tail.add_argument(
        "-n", "--lines", type=number(0), default=10, metavar="N", help="of the last ones first (default: 10)"
    )
    tail.add_argument("--no-follow", action="store_true", help="show these, and end")
    for name in FILTERS:
        words = _CHOICES.get(name)
        tail.add_argument(f"--{name}", choices=words, metavar=name.upper(), help=f"of this {name} only")
    add_json(tail, "a line of JSON for each")
    show = commands.add(
        "show",
        _show,
        "show one interception: its evidence, attempts, tools, tokens and cost",
        [
            "show 0198c0de-0000-7000-8000-000000000001",
            "show 0198c0de-0000-7000-8000-000000000001 --json | jq .attempts",
        ],
        "docs/outcomes.md",
    )
    show.add_argument("id", metavar="ID", help="its id, as in the log, in the header x-aibridge-id, and in `tail`")
    add_source(show)
    add_json(show, "as `export` writes it")


# tail


def _tail(options: argparse.Namespace) -> int:
    path = records_path(options)
    wanted = {name: getattr(options, name) for name in FILTERS if getattr(options, name) is not None}
    paint = painter()
    with querying(path) as query:
        follower = Follower(query, wanted)
        _print(latest(query, wanted, options.lines), paint, as_json=options.json)
    try:
        while is_open() and not options.no_follow:
            time.sleep(LOOK_EVERY_S)
            _print(_look(path, follower), paint, as_json=options.json)
    except KeyboardInterrupt:
        pass  # which is how one ends it
    return 0


def _look(path: Path, follower: Follower) -> list[Fields]:
    try:
        with querying(path) as query:
            return follower.look(query)
    except StoreUnavailable:  # locked, or about to be replaced: the next look finds it
        return []


def _print(rows: Iterable[Fields], paint: Paint, *, as_json: bool) -> None:
    write = (lambda row: jsontext.dumps(row).decode()) if as_json else (lambda row: _line(row, paint))
    print_lines(map(write, rows), as_json=as_json)


def _line(row: Fields, paint: Paint) -> str:
    parts = [
        (told_time(row["ended_at"]), Colour.DIM),
        (f"{_end_of(row):<30}", _COLOURS.get(row["termination"])),
        (f"{row['provider'] or '-'}/{row['model'] or '-'}", None),
        (row["actor_name"] or row["actor_id"] or "-", None),
        (row["client"] or "-", None),
        (_seconds(row["duration"]), None),
        (f"in {row['input_tokens'] or 0} out {row['output_tokens'] or 0}", None),
        (cost_of(row), None),
        (row["id"], Colour.DIM),
    ]
    shown = ((plain(text), colour) for text, colour in parts if text)
    line = "  ".join(text if colour is None else paint(text, colour) for text, colour in shown)
    return line + (f"\n    {plain(row['error'])}" if row["error"] else "")


def _end_of(row: Mapping[str, Any]) -> str:
    if row["termination"] is None:
        return "running"
    end = str(row["termination"])
    return end if end == Termination.COMPLETED else f"{end} ({row['cause']})"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


# show


def _show(options: argparse.Namespace) -> int:
    path = records_path(options)
    with querying(path) as query:
        found = recorded.interception(query, options.id)
    if found is None:
        raise AibridgeError(f"{options.id}: {path} has no such interception; `aibridge tail` shows ids")
    lines = [jsontext.dumps(found).decode()] if options.json else _sheet(found)
    print_lines(lines, as_json=options.json)
    return 0


_OF_ROWS = ("attempts", "tools", "prompts", "thoughts")
_TIMES = frozenset({"started_at", "ended_at", "created_at"})


def _sheet(found: Fields) -> Iterator[str]:
    """Yield all that is known of an interception; what nobody said is left out."""
    yield f"{found['id']}  {_end_of(found)}"
    yield from _pairs({name: value for name, value in found.items() if name not in COSTED})
    if found["usage"] is not None:
        yield "usage"
        yield f"  {'cost':<28}{cost_of(found['usage']) or '-'}"
        yield from _pairs(found["usage"])
    for name in _OF_ROWS:
        if found[name]:
            yield f"{name}: {len(found[name])}"
        for row in found[name]:
            yield from (f"  {line}" for line in _pairs(row))
            yield ""


def _pairs(row: Fields) -> Iterator[str]:
    for name, value in row.items():
        if name not in {*_OF_ROWS, "usage", "id"} and value not in (None, "", {}):
            yield f"  {name:<28}{plain(_told(name, value))}"


def _told(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return told_time(value) if name in _TIMES else str(value)
