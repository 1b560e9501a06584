"""A picture of the tables, as SVG: CPU of every subject, one panel a scenario, on a logarithmic axis."""

import math
import statistics
from collections.abc import Iterator
from html import escape
from typing import Any

PANELS = (
    ("json", "cpu_us_per_request", "JSON request, 32 connections: CPU µs a request"),
    ("burst", "cpu_us_per_event", "200 events at once: CPU µs an event"),
    ("trickle-10", "cpu_us_per_event", "10 streams, an event every 10 ms: CPU µs an event"),
    ("trickle-apart", "cpu_us_per_event", "100 streams, an event every 10 ms: CPU µs an event"),
    ("trickle-together", "cpu_us_per_event", "200 streams, all at the same moments: CPU µs an event"),
    ("trickle-tls", "cpu_us_per_event", "the same, TLS to the upstream: CPU µs an event"),
    ("bedrock-burst", "cpu_us_per_event", "200 Bedrock frames at once: CPU µs an event"),
    ("chat-burst", "cpu_us_per_event", "200 events of OpenAI's chat at once: CPU µs an event"),
)
OURS = "aibridge"
WIDTH, LEFT, RIGHT = 760, 150, 90
STEP, HEAD, GAP = 20, 26, 30

# Greys that can be read on white and on black, as the picture has no ground; more contrast where the viewer is known.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #768390 }
.title { font-weight: 600 }
.axis { stroke: #8b949e; stroke-opacity: .35 }
.stem { stroke: #8b949e; stroke-opacity: .6 }
.tick { font-size: 10px; fill: #768390 }
.dot { fill: #8b949e }
.ours { fill: #2f81f7 }
.spread { stroke: #768390; stroke-width: 2 }
@media (prefers-color-scheme: light) { text { fill: #24292f } .spread { stroke: #24292f } }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .spread { stroke: #e6edf3 } }
"""

Lines = list[tuple[str, list[float]]]


def svg(results: dict[str, Any]) -> str:
    """The whole picture of a results file."""
    panels = [(title, lines) for scenario, key, title in PANELS if len(lines := _lines(results, scenario, key)) > 1]
    parts: list[str] = []
    top = 8
    for title, lines in panels:
        parts += _panel(title, lines, top)
        top += HEAD + STEP * len(lines) + GAP
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    label = f"<title>CPU of each subject, {results['date'][:10]}</title>"
    return "\n".join([head, label, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


def _lines(results: dict[str, Any], scenario: str, key: str) -> Lines:
    found = []
    for name in results["subjects"]:
        cells = (cell for cell in results["cells"] if cell["scenario"] == scenario and cell["subject"] == name)
        values = [cell[key] for cell in cells if cell.get(key) and not cell["failed"]]
        if values:
            found.append((name, values))
    return sorted(found, key=lambda line: statistics.median(line[1]))


def _panel(title: str, lines: Lines, top: int) -> Iterator[str]:
    lowest = 10 ** math.floor(math.log10(min(min(values) for _, values in lines)))
    decades = max(1, math.ceil(math.log10(max(max(values) for _, values in lines) / lowest)))
    bottom = top + HEAD + STEP * len(lines)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(value / lowest) / decades

    yield f'<text class="title" x="8" y="{top + 14}">{escape(title)}</text>'
    for power in range(decades + 1):
        at, value = x(lowest * 10**power), lowest * 10**power
        yield f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{top + HEAD - 4}" y2="{bottom}"/>'
        yield f'<text class="tick" x="{at:.1f}" y="{bottom + 12}" text-anchor="middle">{value:,g}</text>'
    for number, (name, values) in enumerate(lines):
        yield from _line(
            name, values, top + HEAD + STEP * number, x(statistics.median(values)), x(min(values)), x(max(values))
        )


def _line(name: str, values: list[float], y: int, middle: float, least: float, most: float) -> Iterator[str]:
    kind = "ours" if name.startswith(OURS) else "dot"
    value = statistics.median(values)
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    yield f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>'
    yield f'<line class="stem" x1="{LEFT}" x2="{middle:.1f}" y1="{y + 7}" y2="{y + 7}"/>'
    yield f'<line class="spread" x1="{least:.1f}" x2="{most:.1f}" y1="{y + 7}" y2="{y + 7}"/>'
    yield f'<circle class="{kind}" cx="{middle:.1f}" cy="{y + 7}" r="5"/>'
    yield f'<text x="{max(middle, most) + 10:.1f}" y="{y + 11}">{shown}</text>'
