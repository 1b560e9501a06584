"""Draws the reference of the command line from its parser into docs/cli.md.

`python docs/commandline.py` prints it; with `--write` it goes between the page's marks. `make docs` does that, and a
test compares: the page names every command and option that there is, and no other.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from aibridge.cli import parser

PAGE = Path(__file__).with_name("cli.md")
BEGIN = "<!-- commands: begin (drawn by `make docs`) -->\n"
END = "<!-- commands: end -->\n"


def drawing() -> str:
    """Return a section for each command, in Markdown."""
    return "\n" + "\n".join("".join(section(name, command)) for name, command in leaves(parser()))


def leaves(whole: argparse.ArgumentParser, prefix: str = "aibridge") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the commands that can be run, each with its whole name."""
    groups = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001 - its own list is nowhere else
    if not groups:
        yield prefix, whole
    for group in groups:
        for name, below in group.choices.items():
            yield from leaves(below, f"{prefix} {name}")


def section(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    """Yield what the page says of one command."""
    yield f"### {name}\n\n{command.description}\n\n"
    rows = [row for action in command._actions if (row := cells(action))]  # noqa: SLF001 - as above
    if rows:
        yield "| argument | meaning |\n|---|---|\n"
        yield from (f"| {' | '.join(row)} |\n" for row in rows)
        yield "\n"
    examples = (command.epilog or "").partition("examples:\n")[2].partition("\n\nmore:")[0]
    yield "```console\n" + "".join(f"{line.strip()}\n" for line in examples.splitlines()) + "```\n"


def cells(action: argparse.Action) -> tuple[str, str] | None:
    """Return how an argument is written, and what it means; None for what the page need not tell."""
    if action.help is argparse.SUPPRESS or isinstance(action, argparse._HelpAction):  # noqa: SLF001 - as above
        return None
    word = str(action.metavar or "")
    if isinstance(action.choices, list) and not word:
        word = "|".join(map(str, action.choices))
    shown = " ".join([", ".join(action.option_strings), word if action.nargs != 0 else ""]).strip()
    meaning = (action.help or "").replace("%(default)s", str(action.default)).replace("|", "\\|")
    if action.required and action.option_strings:
        meaning += " (needed)"
    return f"`{shown}`".replace("|", "\\|"), meaning


def drawn_into(page: str) -> str:
    """Return a page with the drawing between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page needs {BEGIN.strip()} and {END.strip()}")
    return before + begin + drawing() + end + after


def main() -> None:
    """Print the drawing, or write it."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(drawn_into(PAGE.read_text()))
    else:
        sys.stdout.write(drawing())


if __name__ == "__main__":
    main()
