"""A test that hangs fails within its time limit, whatever it runs on, and the others still run."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from process_kit import PATIENCE

CONFTEST = """
from hang_kit import LOOPS

def pytest_asyncio_loop_factories(config, item):
    return LOOPS
"""
HANGS = """
import asyncio

async def test_it_hangs():
    await asyncio.Event().wait()

async def test_it_hangs_at_its_end():
    try:
        raise ValueError
    finally:
        await asyncio.Event().wait()

async def test_another():
    pass
"""
HANGS_AGAIN = """
import asyncio

async def test_it_hangs_again():
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.Event().wait()
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs pytest on a file, with a time limit of a second: exit status, and what it said."""

    async def run(tests, loop="", **options):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "test_it.py").write_text(tests)
        options = {"asyncio_mode": "auto", "asyncio_default_fixture_loop_scope": "function", "timeout": 1, **options}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, "-p", "hang_kit"),
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            *("-k", loop),
            tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )
        try:
            async with asyncio.timeout(PATIENCE):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return process.returncode, said.decode()

    return run


async def test_a_hang_fails_in_time(run):
    status, said = await run(HANGS)
    assert status == 1
    assert "4 failed, 2 passed" in said
    assert "Timeout (>1.0s) from pytest-timeout" in said


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_hang_that_cannot_be_cancelled_ends_the_run(run, loop):
    status, said = await run(HANGS_AGAIN, loop, faulthandler_timeout=2, faulthandler_exit_on_timeout="true")
    assert status == 1
    assert "Timeout (0:00:02)!" in said
