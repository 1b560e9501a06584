"""What the first process of a container has to do besides its work: bury the orphans that the kernel hands to it.

Such are what a killed worker had started, and what somebody starts in a running container and leaves. Nobody waits for
them, so that they would stay as zombies. For what we have started ourselves somebody does wait, and at once: whoever is
still dead at a second look is nobody's.
"""

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

LOOK_EVERY_S = 2.0

_Result = TypeVar("_Result")


async def burying(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a program to its end, and bury orphans meanwhile where this process is the first."""
    burial = asyncio.create_task(_bury()) if os.getpid() == 1 else None
    try:
        return await main
    finally:
        if burial is not None:
            burial.cancel()


async def _bury() -> None:
    known: set[int] = set()
    while True:
        dead = _dead_children()
        for pid in dead & known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
        known = dead
        await asyncio.sleep(LOOK_EVERY_S)


def _dead_children() -> set[int]:
    ours = str(os.getpid())
    dead = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it is gone
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and parent == ours:
                dead.add(int(stat.parent.name))
    return dead
