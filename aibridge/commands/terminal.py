"""What a command writes: lines as their reader can take them, colours and progress bars for people alone.

Colours go to a terminal only, and not where `NO_COLOR` is set (no-color.org) or the terminal is dumb. A progress bar
goes to a terminal that standard error is, so that what standard output is piped to never sees it.
"""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TypeVar

from aibridge.errors import AibridgeError

_Item = TypeVar("_Item")


class Colour(StrEnum):
    """The codes of ECMA-48 (SGR) that every terminal has."""

    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    MAGENTA = "35"
    DIM = "2"


def print_lines(lines: Iterable[str], *, as_json: bool) -> None:
    """Print lines: JSON in UTF-8 wherever it goes, text as the terminal can show it."""
    if not is_open():
        return
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


def plain(text: str) -> str:
    """Return text that a terminal takes for nothing but text: clients choose some of it."""
    return "".join(character if character.isprintable() else " " for character in text)


def is_open() -> bool:
    """Whether standard output is read still."""
    return sys.stdout is not None


def painter() -> Callable[[str, Colour], str]:
    """Return what colours text for standard output: nothing, where that is no terminal or nobody wants colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return _as_it_is
    return _coloured


def progress(items: Iterable[_Item], what: str, total: Callable[[], int] | None = None) -> Iterator[_Item]:
    """Yield the items, and draw how many there were: on standard error, where that is a terminal.

    Args:
        items: gone through.
        what: one of them is called so.
        total: counts them; asked only where it is drawn.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm  # noqa: PLC0415 - for who looks at a bar

    yield from tqdm(items, total=total() if total is not None else None, unit=f" {what}", leave=False)


def _as_it_is(text: str, _: Colour) -> str:
    return text


def _coloured(text: str, colour: Colour) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"
