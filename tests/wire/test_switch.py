"""The switch: three answers, and nothing quiet about a wrong one."""

import os
import subprocess
import sys

import pytest

from aibridge import wire as chosen


def run(answer, script, **kwargs):
    environment = {**os.environ, "AIBRIDGE_SPEEDUPS": answer}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False, **kwargs
    )


SHOW = "import aibridge.wire as wire; print(wire.IMPLEMENTATION, wire.FrameDecoder.__module__)"
HIDDEN = "import sys; sys.modules['aibridge._speedups'] = None; " + SHOW


def test_must_not():
    assert run("0", SHOW).stdout == "pure aibridge.wire.eventstream\n"


@pytest.mark.compiled
def test_must():
    assert run("1", SHOW).stdout == "compiled aibridge._speedups\n"


@pytest.mark.compiled
def test_if_possible():
    assert run("", SHOW).stdout == "compiled aibridge._speedups\n"


def test_if_possible_and_it_is_not():
    assert run("", HIDDEN).stdout == "pure aibridge.wire.eventstream\n"


def test_must_and_it_is_not_there():
    said = run("1", HIDDEN)
    assert said.returncode == 1
    assert "ImportError: AIBRIDGE_SPEEDUPS=1, but the compiled wire is not there" in said.stderr
    assert "AIBRIDGE_SPEEDUPS=1 pip install ." in said.stderr


def test_any_other_answer():
    said = run("yes", SHOW)
    assert said.returncode == 1
    assert "ImportError: AIBRIDGE_SPEEDUPS must be 1, 0 or unset, not 'yes'" in said.stderr


def test_exports():
    assert {name for name in chosen.__all__ if not hasattr(chosen, name)} == set()
    assert chosen.IMPLEMENTATION in ("compiled", "pure")
