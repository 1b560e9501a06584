"""The command line itself: what it says when it is asked for nothing, for help, or for what is not there."""

import argparse
import re
import shlex
import socket
import subprocess
import sys
from contextlib import closing
from itertools import takewhile

import pytest

from aibridge import __version__, cli
from aibridge.cli import main, parser
from aibridge.errors import AibridgeError


def commands_of(whole, prefix=()):
    """Yield every command with its parser, those below others too."""
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield (*prefix, name), below
                yield from commands_of(below, (*prefix, name))


COMMANDS = dict(commands_of(parser()))
LEAVES = {name: below for name, below in COMMANDS.items() if not dict(commands_of(below))}


def test_without_a_command_a_short_start_is_printed(capsys):
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"aibridge {__version__}")
    assert "aibridge serve --demo" in out
    assert err == ""
    assert len(out.splitlines()) < 12


def test_the_start_names_commands_that_are_there(capsys):
    main([])
    lines = re.findall(r"\$ aibridge (.*?)(?:  .*)?$", capsys.readouterr().out, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        assert callable(parser().parse_args(line.split()).run)


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_help_teaches(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "examples:" in told
    assert "more: docs/" in told


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_examples_can_be_typed(name):
    epilog = COMMANDS[name].epilog.partition("\nmore:")[0]
    lines = [line.strip() for line in epilog.splitlines() if line.strip().startswith("$ aibridge ")]
    assert lines
    for line in lines:
        words = shell_words(line.removeprefix("$ aibridge "))
        parsed = parser().parse_args(words)
        assert callable(parsed.run)
        assert words[: len(name)] == list(name)


def shell_words(line):
    """Return the words of a command line, without what is piped to, redirected or a comment."""
    return list(takewhile(lambda word: word not in {"|", ">", "<"}, shlex.split(line, comments=True)))


@pytest.mark.parametrize(
    "said",
    [
        ["sessions", "--limit", "0"],
        ["sessions", "--limit", "-3"],
        ["sessions", "--limit", "9" * 20],
        ["tail", "-n", "-1"],
        ["tail", "-n", "9" * 5000],
        ["simulate", "--port", "65536"],
        ["simulate", "--port", "-1"],
        ["simulate", "--port", "9" * 5000],
        ["simulate", "--pace", "-1"],
        ["simulate", "--pace", "nan"],
        ["simulate", "--pace", "inf"],
        ["simulate", "--pace", "fast"],
    ],
    ids=lambda said: " ".join(said)[:30],
)
def test_a_number_out_of_its_bounds_is_refused(said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(said)
    assert ended.value.code == 2
    assert f"argument {'-n/--lines' if said[1] == '-n' else said[1]}: should be " in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_with_the_option_that_names_another(capsys):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        assert main(["simulate", "--port", str(taken.getsockname()[1])]) == 1
    told = capsys.readouterr().err
    assert "; --port names another" in told
    assert "AIBRIDGE_PORT" not in told


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (["sesions"], "did you mean sessions?"),
        (["tale"], "did you mean tail?"),
        (["keys", "lst"], "did you mean list?"),
        (["prices", "rerat"], "did you mean rerate?"),
        (["tail", "--provder", "x"], "there is no option --provder; did you mean --provider?"),
        (["usage", "--sinse=7d"], "there is no option --sinse; did you mean --since?"),
        (["tail", "--cause", "truncatd"], "did you mean truncated?"),
        (["keys", "create", "--owner", "ann", "--expire-at", "1d"], "did you mean --expires?"),
        (["version", "now"], "'now' is one too many"),
        (["completion", "powershell"], "there are bash, zsh, fish"),
        (["xyzzy"], "there are serve, "),
    ],
)
def test_a_mistake_is_answered_with_what_may_have_been_meant(said, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        main(said)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: " in err
    assert meant in err
    assert err.splitlines()[-1].endswith("--help` says more")


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [
        (AibridgeError("it is so"), 2, "it is so\n"),
        (OSError(2, "No such file or directory", "x"), 1, "aibridge: [Errno 2] No such file or directory: 'x'\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            RuntimeError("a secret"),
            1,
            f"aibridge: a bug: RuntimeError in {__file__}, line 1; PYTHONDEVMODE=1 shows more\n",
        ),
    ],
)
def test_errors_are_words_and_a_status(raised, status, words, monkeypatch, capsys):
    def fail(_):
        raise raised

    monkeypatch.setattr(cli, "parser", lambda: argparse.Namespace(parse_args=lambda _: argparse.Namespace(run=fail)))
    assert main(["version"]) == status
    assert re.sub(r"line \d+", "line 1", capsys.readouterr().err) == words


def test_libraries_of_a_few_commands_are_loaded_by_these_alone():
    script = (
        "import sys; from aibridge.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print({'tqdm', 'shtab', 'mcp'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert ended.stdout.decode().endswith("set()\n")


NOT_FOR_PROGRAMS = {("serve",), ("simulate",), ("completion",), ("export",)}
"""Servers, whose log is JSON; a script for a shell; and what writes JSON anyway."""


def test_all_others_can_write_json():
    with_json = {name for name, below in LEAVES.items() if "--json" in below._option_string_actions}
    assert set(LEAVES) - with_json == NOT_FOR_PROGRAMS
