"""The parser of the command line: help that teaches, and mistakes that are answered with what may have been meant."""

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

Run = Callable[[argparse.Namespace], int]
"""Acts a command out, and returns the exit status."""

_MOST_DIGITS = 18
"""A number of so many fits SQLite's 64 bits."""

_NEAR = 0.6
"""From 0, nothing in common, to 1, the same: `sesions` and `sessions` have 0.93, `stat` and `start` 0.89."""


class Parser(argparse.ArgumentParser):
    """A parser of one command."""

    def __init__(self, *args: Any, **more: Any) -> None:
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **more)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Take arguments; what is left over is a mistake, told by the command that it was said to."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            options = [option for action in self._actions for option in action.option_strings]
            name = rest[0].partition("=")[0]
            what = f"there is no option {name}" if name.startswith("-") else f"{name!r} is one too many"
            self.error(what + _meant(name, options))
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check a word of a closed set, a command's name among them."""
        if action.choices is not None and value not in action.choices:
            words = [str(choice) for choice in action.choices]
            near = _meant(str(value), words) or f"; there are {', '.join(words)}"
            raise argparse.ArgumentError(action, f"there is no {value!r}{near}")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, and end with 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}\n`{self.prog} --help` says more\n")


class Commands:
    """The commands below a parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._below = parser.add_subparsers(
            title="commands", dest=f"{parser.prog} COMMAND", required=True, metavar="COMMAND", parser_class=Parser
        )

    def add(self, name: str, run: Run, text: str, examples: Sequence[str], more: str = "docs/cli.md") -> Parser:
        """Add a command, and return its parser.

        Args:
            name: as it is typed.
            run: acts it out.
            text: what it does, in one sentence.
            examples: command lines without `aibridge`; what stands behind a `#` says what for.
            more: the pages that say more.
        """
        command = self._add(name, text, _teaching(examples, more))
        command.set_defaults(run=run)
        return command

    def group(self, name: str, text: str, examples: Sequence[str], more: str) -> "Commands":
        """Add a name that has commands below it, and return these; else as `add`."""
        return Commands(self._add(name, text, _teaching(examples, more)))

    def _add(self, name: str, text: str, epilog: str) -> Parser:
        return self._below.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog)


def number(least: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number from `least` on."""

    def read(text: str) -> int:
        if not (text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) >= least):
            raise argparse.ArgumentTypeError(f"should be a number from {least} on, not {text!r}")
        return int(text)

    return read


def add_json(parser: argparse.ArgumentParser, text: str = "one JSON value, for programs") -> None:
    """Add the option `--json`."""
    parser.add_argument("--json", action="store_true", help=text)


def _teaching(examples: Sequence[str], more: str) -> str:
    pairs = [example.partition("#") for example in examples]
    width = max((len(command.strip()) for command, _, why in pairs if why), default=0)
    lines = [
        f"  $ aibridge {command.strip():<{width}}  {f'# {why.strip()}' if why else ''}".rstrip()
        for command, _, why in pairs
    ]
    return "\n".join(["examples:", *lines, "", f"more: {more}"])


def _meant(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(words), n=1, cutoff=_NEAR)
    return f"; did you mean {near[0]}?" if near else ""
