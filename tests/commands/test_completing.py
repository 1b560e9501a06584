"""Completion, as the shells themselves do it: what Tab would offer behind a line."""

import os
import re
import shutil
import subprocess

import pytest

from aibridge.cli import main

needs = {shell: pytest.mark.skipif(not shutil.which(shell), reason=f"no {shell} here") for shell in ("zsh", "fish")}


@pytest.fixture
def script(tmp_path, capsys):
    """Return a function that writes a shell's script to a file."""

    def script(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / ("_aibridge" if shell == "zsh" else f"aibridge.{shell}")
        path.write_text(capsys.readouterr().out)
        return path

    return script


LINES = [
    ("aibridge ta", {"tail"}),
    ("aibridge keys r", {"revoke", "rotate"}),
    ("aibridge tail --ter", {"--termination"}),
    ("aibridge tail --termination g", {"gateway_error"}),
    ("aibridge completion z", {"zsh"}),
    ("aibridge check some", {"some.yaml"}),
    ("aibridge serve --config some", {"some.yaml"}),
    ("aibridge serve --sha", set()),
]


def run(command, tmp_path, **more):
    (tmp_path / "some.yaml").touch()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm"}
    return subprocess.run(
        command, capture_output=True, check=True, cwd=tmp_path, env=environment, **more
    ).stdout.decode()


@pytest.mark.parametrize(("line", "offered"), LINES)
def test_bash(script, tmp_path, line, offered):
    words = line.split(" ")
    complete = f"""
    source {script("bash")}
    COMP_LINE={line!r} COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
    name=$(complete -p aibridge | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    $name aibridge {words[-1]!r} {words[-2]!r}
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    told = run(["bash", "--norc", "-c", complete], tmp_path)
    assert {word.strip() for word in told.splitlines() if word.strip()} == offered


@needs["fish"]
@pytest.mark.parametrize(("line", "offered"), LINES)
def test_fish(script, tmp_path, line, offered):
    told = run(["fish", "--no-config", "-c", f"source {script('fish')}; complete -C '{line}'"], tmp_path)
    found = {row.split("\t")[0] for row in told.splitlines()}
    assert {word for word in found if not word.endswith("/")} == offered


@needs["zsh"]
@pytest.mark.parametrize(("line", "offered"), LINES)
def test_zsh(script, tmp_path, line, offered):
    """Zsh completes in its line editor alone: one runs on a terminal of its own (zpty), and Tab is typed."""
    script("zsh")
    typed = f"""
    zmodload zsh/zpty
    zpty shell 'zsh -f -i'
    zpty -w shell "PS1=; unsetopt beep; fpath=({tmp_path} \\$fpath); autoload -Uz compinit; compinit -u -D"
    zpty -w shell 'tell() {{ print -r -- "$BUFFER" > {tmp_path}/buffer; print -r -- TYP""ED }}; zle -N tell'
    zpty -w shell 'bindkey "^X" tell; LISTMAX=1000; print -r -- REA""DY'
    zpty -r shell seen '*READY*'
    zpty -w -n shell $'{line}\t\t\x18'
    zpty -r shell seen '*TYPED*'
    print -r -- $seen
    """
    told = run(["zsh", "-f", "-c", typed], tmp_path, timeout=60) + (tmp_path / "buffer").read_text()
    words = set(re.findall(r"[\w.-]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x07|\x08", " ", told)))
    assert offered <= words, told
    assert "--share" not in words
