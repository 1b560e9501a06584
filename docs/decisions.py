"""Writes docs/decisions/index.md: every decision by its number and title.

`python docs/decisions.py` prints it; with `--write` it becomes the page. `make docs` does that, and a test compares.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).with_name("decisions")
PAGE = FOLDER / "index.md"

_HEAD = """# Decisions

What was decided, why, and what it costs. Written by `make docs` from the pages' titles.

"""


def page() -> str:
    """Return the page, in Markdown."""
    return _HEAD + "".join(f"- [{_title(path)}]({path.name})\n" for path in sorted(FOLDER.glob("[0-9]*.md")))


def _title(path: Path) -> str:
    with path.open() as lines:
        return next(lines).removeprefix("# ").strip()


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())
