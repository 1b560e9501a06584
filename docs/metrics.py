"""Writes docs/metrics.md: every metric of the data plane, from the families in the code.

`python docs/metrics.py` prints it; with `--write` it becomes the page. `make docs` does that, and a test compares.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aibridge.reload import ReloadCounts
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.series import CounterFamily, Family, HistogramFamily

PAGE = Path(__file__).with_name("metrics.md")

_HEAD = """# Metrics

Written by `make docs` from the families in `aibridge/telemetry/`, where the worst case of each is worked out.
Those of the configuration are in `aibridge/reload.py`, and there with a configuration file.
`GET /metrics` on the admin port tells them; with several workers it tells the sums. A counter ends in `_total`; a
histogram has `_bucket`, `_sum` and `_count`. Those of the process, of Python and of its garbage collector are the
library's own.

| metric | kind | labels | what it says |
|---|---|---|---|
"""


def page() -> str:
    """Return the page, in Markdown."""
    families = [*Metrics().families().values()]
    families += ReloadCounts().families
    return _HEAD + "".join(_rows(sorted(families, key=lambda family: family.name)))


def _rows(families: list[Family[Any]]) -> Iterator[str]:
    for family in families:
        kind, end = next((said for made, said in _KINDS.items() if isinstance(family, made)), ("gauge", ""))
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}{end}` | {kind} | {labels} | {family.text} |\n"


_KINDS = {CounterFamily: ("counter", "_total"), HistogramFamily: ("histogram", "")}


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())
