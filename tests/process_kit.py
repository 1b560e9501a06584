"""`aibridge` as a process of its own, with an environment of the test's choice."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

PATIENCE = 30.0
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "AIBRIDGE_SPEEDUPS") if name in os.environ}


async def run(*arguments, environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aibridge", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def serving(*arguments, environment):
    """Run `aibridge serve`, and give the process and the fields of its start line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aibridge", "serve", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            yield process, await line_with(process.stderr, "aibridge started")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(stream, message):
    while raw := await stream.readline():
        line = json.loads(raw)
        if line["message"] == message:
            return line
    raise AssertionError(f"{message!r} was never said")
