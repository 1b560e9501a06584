"""A worker as its supervisor sees it: a process, how far it is, and a line to talk on."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from aibridge.jsontext import dumps

logger = logging.getLogger(__name__)

RELOAD_WITHIN_S = 120.0
"""For a worker to take another configuration: it may have to find credentials."""


class Stage(Enum):
    """Where a worker stands."""

    STARTING = auto()
    READY = auto()
    RETIRING = auto()
    """Serves what it has, and takes nothing new: another has its slot."""


class Member:
    """A worker's process, as the supervisor sees it."""

    def __init__(
        self, slot: int, process: asyncio.subprocess.Process, line: asyncio.StreamWriter, reloads: int
    ) -> None:
        self.slot = slot
        self.reloads = reloads
        """That it was told of, or that were before it was begun."""
        self._reloaded: deque[asyncio.Future[str]] = deque()
        self.stage = Stage.STARTING
        self.process = process
        self.born = asyncio.get_running_loop().time()
        self.ready: asyncio.Future[Mapping[str, Any] | None] = asyncio.get_running_loop().create_future()
        """Fields of its start line; None where it ended before it was ready."""
        self.watch: asyncio.Task[None] | None = None
        self._line = line

    def say(self, do: str, **more: int) -> None:
        """Tell it to do something."""
        self._line.write(dumps({"do": do, **more}) + b"\n")

    async def reload(self, reloads: int) -> str:
        """Tell it to take the configuration that is there now. Returns what is wrong with that; empty: nothing."""
        self.reloads = reloads
        reloaded: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reloaded.append(reloaded)
        self.say("reload")
        try:
            async with asyncio.timeout(RELOAD_WITHIN_S):
                why = await reloaded
        except TimeoutError:
            why = f"nothing was heard for {RELOAD_WITHIN_S:g} s"
        if why:
            logger.error("a worker keeps its configuration", extra={"fields": self.fields | {"error": why}})
        return why

    @property
    def fields(self) -> dict[str, Any]:
        """Return what the log calls it."""
        return {"worker": self.slot, "pid": self.process.pid}

    def hear(self, said: Mapping[str, Any]) -> None:
        """Take what it says."""
        if "ready" in said:
            self.stage = Stage.READY
            self.ready.set_result(said["ready"])
            logger.info("worker ready", extra={"fields": self.fields})
        elif not (reloaded := self._reloaded.popleft()).done():
            reloaded.set_result(said["reloaded"])

    def close(self) -> None:
        """Let go of one that is gone."""
        self._line.close()
        if not self.ready.done():
            self.ready.set_result(None)
        for reloaded in self._reloaded:
            if not reloaded.done():
                reloaded.set_result("it has ended")
