"""From cells to tables and plots: medians over the rounds, their spread, and ratios to nginx of the same round."""

import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import goals
import plot

RUNS = ("gateway", "peers")  # results, tables in the page, and plots go by these names
FLOOR, NOTHING = "nginx", "direct"
RAW = ("nginx", "haproxy", "aiohttp")  # they relay Bedrock's frames as they come

Cell = dict[str, Any]
Rows = dict[str, list[Cell]]  # by subject, one cell a round
Column = tuple[str, Callable[[Rows, str], str]]


def tables(results: Cell) -> str:
    """All of it in Markdown."""
    parts = [_environment(results), _direct(results)]
    for name, scenario in results["scenarios"].items():
        rows = _rows(results, name)
        parts += [f"### {name}", scenario["says"], _table(rows, COLUMNS[scenario["shape"]]), *_remarks(name, rows)]
    return "\n\n".join(parts) + "\n"


def as_json(results: Cell) -> str:
    """The results as a file: the facts, then a line for each cell."""
    cells = (json.dumps({key: _rounded(value) for key, value in cell.items()}) for cell in results["cells"])
    facts = json.dumps({key: value for key, value in results.items() if key != "cells"}, indent=1)
    return facts.removesuffix("\n}") + ',\n "cells": [\n  ' + ",\n  ".join(cells) + "\n ]\n}\n"


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def render(directory: Path, page: Path) -> None:
    """Write the tables of all results in `directory` into a page, and draw their plots beside them."""
    found = {name: _read(directory / f"{name}.json") for name in (*RUNS, "kernel")}
    for name in RUNS:
        if results := found[name]:
            _write_into(page, name, tables(results))
            (directory / f"{name}.svg").write_text(plot.svg(results))
    if found["kernel"]:
        _write_into(page, "kernel", _kernel(found["kernel"]) + "\n")
    head = ["goal", "target", "stretch", "measured", ""]
    books = goals.Books(found["gateway"], found["peers"], found["kernel"])
    _write_into(page, "goals", _markdown(head, goals.rows(books)) + "\n")


def _read(path: Path) -> Cell | None:
    return json.loads(path.read_text()) if path.exists() else None


def _write_into(page: Path, name: str, text: str) -> None:
    """Replace what stands between two marks of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text().partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


# ---- the parts


def _kernel(results: Cell) -> str:
    """Frames to text: CPU µs a frame of each row, one line a size of chunk."""
    groups: dict[str, dict[str, float]] = {}
    for row in results["results"]:
        if row["group"].startswith("frames to text"):
            groups.setdefault(row["group"].removeprefix("frames to text, "), {})[row["name"]] = row["cpu_us"]
    names = list(dict.fromkeys(name for costs in groups.values() for name in costs if name != "nothing"))
    body = [
        [
            group,
            *(f"{costs[name]:.3g}" if name in costs else "-" for name in names),
            f"{costs['botocore'] / costs['compiled']:.0f}",
        ]
        for group, costs in groups.items()
    ]
    return _markdown(["frames", *names, "botocore / compiled"], body)


def _environment(results: Cell) -> str:
    machine = results["machine"]
    facts = {
        "date": results["date"],
        "machine": f"{machine['cores']} cores, {machine['cpu']}, {machine['memory_mb']:,} MB",
        "kernel": f"{machine['system']} {machine['kernel']}",
        "versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "rounds": f"{results['rounds']}, with windows of {results['seconds']:g} s",
        "method": results["method"],
        "figures": "medians; in brackets the least and the most of all rounds",
        "cores that others used meanwhile": _spread(_values(results["cells"], "cores_others")),
        "error of the CPU account": f"{results['accounting_error']:+.2%}, against a child that burned a known amount",
    }
    lines = [f"- **{name}**: {fact}" for name, fact in facts.items()]
    return "\n".join(lines + [f"- **{name}**: {says}" for name, says in results["subjects"].items()])


def _direct(results: Cell) -> str:
    """What upstream and load generator can do alone, and how many times that is what each subject did."""
    others = [name for name in results["subjects"] if name != NOTHING]
    head = ["", "requests/s", "events/s", "cores of load generator", "cores of upstream"]
    loops = [name for name, scenario in results["scenarios"].items() if scenario["shape"] in {"json", "burst"}]
    lines = [_direct_line(name, _rows(results, name), others) for name in loops]
    table = _markdown([*head, *(f"times {name}" for name in others)], [line for line in lines if line])
    return f"### direct\n\nThe load generator straight at the upstream: what the two can do.\n\n{table}"


def _direct_line(name: str, rows: Rows, others: list[str]) -> list[str]:
    if NOTHING not in rows:
        return []
    keys = ("requests_per_second", "events_per_second", "cores_load", "cores_upstream")
    figures = [_number(_median(rows[NOTHING], key)) for key in keys]
    return [name, *figures, *(_times(rows, other) for other in others)]


def _times(rows: Rows, other: str) -> str:
    pairs = [pair for pair in _paired(rows, NOTHING, other, "requests_per_second") if all(pair)]
    return f"{statistics.median(mine / theirs for mine, theirs in pairs):.1f}" if pairs else "-"


def _rows(results: Cell, scenario: str) -> Rows:
    rows: Rows = {name: [] for name in results["subjects"]}
    for cell in results["cells"]:
        if cell["scenario"] == scenario:
            rows[cell["subject"]].append(cell)
    return {name: cells for name, cells in rows.items() if cells}


def _table(rows: Rows, columns: list[Column]) -> str:
    head = ["", *(title for title, _ in columns)]
    return _markdown(head, [[name, *(show(rows, name) for _, show in columns)] for name in rows])


def _markdown(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _remarks(name: str, rows: Rows) -> Iterator[str]:
    raw = [subject for subject in rows if subject in RAW]
    if name.startswith("bedrock") and name != "bedrock-json" and raw:
        yield f"Raw frames, not decoded: {', '.join(raw)}."
    for subject, cells in rows.items():
        if failed := sum(cell["failed"] for cell in cells):
            why = next(cell["failure"] for cell in cells if cell["failed"])
            yield f"**{subject}: {failed} answers failed** ({why})."


# ---- the columns


def _values(cells: list[Cell], key: str) -> list[float]:
    return [cell[key] for cell in cells if cell.get(key) is not None]


def _median(cells: list[Cell], key: str) -> float:
    values = _values(cells, key)
    return statistics.median(values) if values else 0.0


def _number(value: float) -> str:
    if abs(value) >= 100 or not value:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(key: str) -> Callable[[Rows, str], str]:
    """Median, least and most."""

    def show(rows: Rows, name: str) -> str:
        return _spread(_values(rows[name], key))

    return show


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{_number(statistics.median(values))} ({_number(min(values))} to {_number(max(values))})"


def plain(key: str) -> Callable[[Rows, str], str]:
    """Median."""
    return lambda rows, name: _number(_median(rows[name], key)) if _values(rows[name], key) else "-"


def pair(first: str, second: str) -> Callable[[Rows, str], str]:
    """Two medians."""
    return lambda rows, name: f"{plain(first)(rows, name)} / {plain(second)(rows, name)}"


def ratio(key: str) -> Callable[[Rows, str], str]:
    """Median of the ratios to nginx, round by round."""

    def show(rows: Rows, name: str) -> str:
        pairs = _paired(rows, name, FLOOR, key)
        return f"{statistics.median(mine / other for mine, other in pairs):.2f}" if pairs else "-"

    return show


def added(*keys: str) -> Callable[[Rows, str], str]:
    """Medians of what a subject adds to the direct way, round by round."""

    def show(rows: Rows, name: str) -> str:
        differences = [[mine - other for mine, other in _paired(rows, name, NOTHING, key)] for key in keys]
        if name == NOTHING or not all(differences):
            return "-"
        return " / ".join(_number(statistics.median(one)) for one in differences)

    return show


def figure_and_added(key: str) -> Callable[[Rows, str], str]:
    """A median, and what of it is added to the direct way."""
    more = added(key)
    return lambda rows, name: f"{plain(key)(rows, name)}, {more(rows, name)}"


def _paired(rows: Rows, name: str, other: str, key: str) -> list[tuple[float, float]]:
    """The figures of both, of each round that has both."""
    theirs = {cell["round"]: cell[key] for cell in rows.get(other, ()) if cell.get(key)}
    mine = {cell["round"]: cell[key] for cell in rows[name] if cell.get(key) is not None}
    return [(mine[number], theirs[number]) for number in mine if number in theirs]


_CORES: Column = ("cores used", spread("cores"))
_ADDED_EVENT: Column = ("added to first event p50 / p99, ms", added("first_event_p50_ms", "first_event_p99_ms"))

COLUMNS: dict[str, list[Column]] = {
    "json": [
        ("CPU µs per request", spread("cpu_us_per_request")),
        ("times nginx", ratio("cpu_us_per_request")),
        ("requests/s", spread("requests_per_second")),
        ("first byte p50 / p99, ms", pair("first_byte_p50_ms", "first_byte_p99_ms")),
        _CORES,
    ],
    "burst": [
        ("CPU µs per event", spread("cpu_us_per_event")),
        ("times nginx", ratio("cpu_us_per_event")),
        ("CPU µs per request", plain("cpu_us_per_request")),
        ("events/s", plain("events_per_second")),
        ("first event p50 / p99, ms", pair("first_event_p50_ms", "first_event_p99_ms")),
        _ADDED_EVENT,
    ],
    "paced": [
        ("CPU µs per event", spread("cpu_us_per_event")),
        ("times nginx", ratio("cpu_us_per_event")),
        ("first event p50 / p99, ms", pair("first_event_p50_ms", "first_event_p99_ms")),
        _ADDED_EVENT,
        _CORES,
    ],
    "trickle": [
        ("CPU µs per event", spread("cpu_us_per_event")),
        ("times nginx", ratio("cpu_us_per_event")),
        ("events/s", plain("events_per_second")),
        _CORES,
        ("gap p99, added, ms", figure_and_added("gap_p99_ms")),
        ("late p99, ms", plain("late_p99_ms")),
        _ADDED_EVENT,
    ],
    "idle": [
        ("CPU µs per event", spread("cpu_us_per_event")),
        ("times nginx", ratio("cpu_us_per_event")),
        ("late p99, added, ms", figure_and_added("late_p99_ms")),
        ("RSS KB per stream", spread("rss_kb_per_stream")),
        ("PSS KB per stream", spread("pss_kb_per_stream")),
        ("RSS idle, MB", plain("idle_rss_mb")),
        ("RSS live, MB", plain("live_rss_mb")),
    ],
}
