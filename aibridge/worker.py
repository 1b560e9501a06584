"""A worker as it hears of its supervisor: what it is told, it does.

One JSON object a line, both ways, on a socket pair. The worker says once that it is ready, and of each reload what came
of it; the supervisor says what to `do`. The line's end is the supervisor's end: then the worker stops too.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aibridge.app import App
from aibridge.errors import AibridgeError
from aibridge.jsontext import dumps, loads
from aibridge.reload import Read, reload_once
from aibridge.share import adopted

logger = logging.getLogger(__name__)

_MAX_ERROR = 8000
"""Characters of what is wrong with a configuration: a line has a bound."""


class Worker:
    """Does what the supervisor says.

    Args:
        app: that serves; started.
        stop: called when it shall stop, within the drain deadline.
        read: reads the configuration; None: there is no file, and it is not told to.
    """

    def __init__(self, app: App, stop: Callable[[], None], read: Read | None) -> None:
        self._app = app
        self._stop = stop
        self._read = read
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def report(self, control: int, fields: Mapping[str, Any]) -> None:
        """Say that it is ready, and begin to listen to what is said.

        Args:
            control: the descriptor of the line.
            fields: of the start line.
        """
        (line,) = adopted([control])
        reader, writer = await asyncio.open_unix_connection(sock=line)
        writer.write(dumps({"ready": fields}) + b"\n")
        self._keep(self._obey(reader, writer))

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # one that was killed leaves answers unread: that is no plain end
            while line := await reader.readline():
                said = loads(line)
                if said["do"] == "adopt":
                    await self._app.adopt(said["slot"])
                elif said["do"] == "release":
                    self._app.release(said["slot"])
                elif said["do"] == "reload" and self._read is not None:
                    self._keep(self._reload(writer, self._read))
                elif said["do"] == "retire":
                    self._keep(self._retire())
                elif said["do"] == "stop":
                    self._stop()
                elif said["do"] == "hurry":
                    self._keep(self._app.drain(0))
        logger.warning("the supervisor is gone: this worker stops")
        writer.close()
        self._app.stop_listening()  # or a new supervisor would find the port taken
        self._stop()

    async def _reload(self, writer: asyncio.StreamWriter, read: Read) -> None:
        """Take the configuration that is there now, and say what is wrong; nothing, where it is taken."""
        error = ""
        try:
            async with self._reloading:
                await reload_once(read, self._app, set())
        except AibridgeError as refused:
            error = str(refused)
        except Exception as failed:
            logger.exception("a reload failed in itself")
            error = type(failed).__name__
        writer.write(dumps({"reloaded": error[:_MAX_ERROR]}) + b"\n")

    async def _retire(self) -> None:
        await self._app.retire()
        self._stop()

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
