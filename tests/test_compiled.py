"""Which typed modules run: three answers, and never modules that were built of other sources."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["aibridge"]["compiled"]

SHOW = f"""
import importlib, aibridge.compiled
kinds = {{importlib.import_module(name).__spec__.loader.__class__.__name__ for name in {NAMES}}}
print(aibridge.compiled.MODULES, *kinds)
"""
COMPILED, PURE = "compiled ExtensionFileLoader\n", "pure SourceFileLoader\n"


def run(answer, script=SHOW, *, tree=ROOT):
    environment = {**os.environ, "AIBRIDGE_SPEEDUPS": answer, "PYTHONPATH": str(tree)}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False, cwd=tree
    )


@pytest.fixture
def tree(tmp_path):
    """Another tree of the package, with all that was built."""
    shutil.copytree(ROOT / "aibridge", tmp_path / "aibridge", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_must_not():
    assert run("0").stdout == PURE


@pytest.mark.compiled
@pytest.mark.parametrize("answer", ["1", ""])
def test_must_and_if_possible(answer):
    assert run(answer).stdout == COMPILED


def test_not_there(tree):
    shutil.rmtree(tree / "aibridge/_compiled", ignore_errors=True)
    said = run("", tree=tree)
    assert (said.stdout, said.stderr) == (PURE, "")
    said = run("1", tree=tree)
    assert said.returncode == 1
    assert (
        "ImportError: AIBRIDGE_SPEEDUPS=1, but the compiled modules cannot be used: they are not there" in said.stderr
    )


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["relay.py", "values.py", "dialects/__init__.py"])
def test_built_of_another_source(tree, name):
    """One edited file, compiled or imported by what is, and none of the compiled modules is used."""
    with (tree / "aibridge" / name).open("a") as source:
        source.write("# edited\n")
    said = run("", tree=tree)
    assert said.stdout == PURE
    assert f"aibridge/{name} is another than they were built from; `make dev` builds them anew" in said.stderr
    assert run("0", tree=tree).stderr == ""
    said = run("1", tree=tree)
    assert said.returncode == 1
    assert f"aibridge/{name} is another than they were built from" in said.stderr


@pytest.mark.compiled
def test_what_is_not_built_from_may_change(tree):
    with (tree / "aibridge/cli.py").open("a") as source:
        source.write("# edited\n")
    assert run("1", tree=tree).stdout == COMPILED


@pytest.mark.compiled
def test_a_source_that_is_gone(tree):
    (tree / "aibridge/telemetry/conventions.py").unlink()
    assert run("", "import aibridge.compiled as c; print(c.MODULES)", tree=tree).stdout == "pure\n"


@pytest.mark.compiled
def test_tracebacks_name_the_line():
    said = run("1", "from aibridge.routing import RouteTable; RouteTable([]).resolve('GET', '/x')")
    line = next(
        number
        for number, text in enumerate((ROOT / "aibridge/routing.py").read_text().splitlines(), 1)
        if '"unknown_route"' in text
    )
    assert f'aibridge/routing.py", line {line}, in resolve' in said.stderr
