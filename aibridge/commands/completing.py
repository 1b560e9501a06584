"""The command `completion`: a script for a shell, so that Tab completes commands, options, words and files."""

import argparse

from aibridge.commands.parser import Commands
from aibridge.commands.terminal import print_lines

_SHELLS = ("bash", "zsh", "fish")
_FILES = frozenset({"FILE", "STORE"})
"""Metavariables behind which a path stands."""


def add_commands(commands: Commands, whole: argparse.ArgumentParser) -> None:
    """Add the command of this file; `whole` is the parser whose commands are completed."""

    def run(options: argparse.Namespace) -> int:
        print_lines([_script(whole, options.shell)], as_json=False)
        return 0

    completion = commands.add(
        "completion",
        run,
        "write a script that lets a shell complete commands, options and files",
        [
            "completion bash > ~/.local/share/bash-completion/completions/aibridge",
            'completion zsh > "${fpath[1]}/_aibridge"',
            "completion fish > ~/.config/fish/completions/aibridge.fish",
        ],
    )
    completion.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=f"one of {', '.join(_SHELLS)}")


def _script(whole: argparse.ArgumentParser, shell: str) -> str:
    import shtab  # noqa: PLC0415 - for who asks for a script

    _name_files(whole, shtab.FILE)
    return shtab.complete(whole, shell)


def _name_files(parser: argparse.ArgumentParser, complete: object) -> None:
    """Say to shtab, on all actions of a parser and of those below it, where a file is expected."""
    for action in parser._actions:  # noqa: SLF001 - shtab walks there too
        if action.metavar in _FILES:
            action.complete = complete  # type: ignore[attr-defined]  # shtab's way to be told
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for below in action.choices.values():
                _name_files(below, complete)
