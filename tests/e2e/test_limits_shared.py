"""Limits that several processes share: workers of one gateway, and two gateways; also when one of them is killed."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from process_kit import ENVIRONMENT, line_with
from valkey_kit import needs_server, valkey

from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")

PATIENCE = 60.0
VERSION = ("anthropic-version", "2023-06-01")
LIMIT, CLIENTS = 100, 200
LEASE = 3.0


def children(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sorted({int(child) for task in tasks for child in (task / "children").read_text().split()})


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def ended(pid):
    """Wait until a process is no more, and its sockets are closed."""
    give_up_at = time.monotonic() + PATIENCE
    with suppress(OSError):
        while state_of(pid) != "Z":
            assert time.monotonic() < give_up_at, "it is still there"
            await asyncio.sleep(0.01)


class Gateway:
    """A gateway's process."""

    def __init__(self, process, line):
        self.process = process
        self.port = int(line["data"].rpartition(":")[2])

    @property
    def workers(self):
        return children(self.process.pid)


@asynccontextmanager
async def running(file, **raw):
    file.write_text(json.dumps({"listen": ANYWHERE, "admin": ANYWHERE, **raw}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aibridge", "serve", "--config", str(file),
        stderr=asyncio.subprocess.PIPE, env={**ENVIRONMENT, "NO_PROXY": "*"},
    )  # fmt: skip
    reading = None
    try:
        async with asyncio.timeout(PATIENCE):
            line = await line_with(process.stderr, "aibridge started")
        reading = asyncio.create_task(process.stderr.read())  # or its pipe would be full
        yield Gateway(process, line)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(PATIENCE):
            await (reading or process.stderr.read())
            await process.wait()


ANYWHERE = {"host": "127.0.0.1", "port": 0}


@pytest.fixture
async def house(tmp_path):
    """Gateways that share their limits: two workers on a file, or two gateways on a server."""

    @asynccontextmanager
    async def house(kind, **sections):
        async with AsyncExitStack() as stack:
            simulator = await stack.enter_async_context(Simulator(Settings(any_credentials=True)))
            common = {"timeout": PATIENCE, "lease": LEASE, "when_away": "deny"}
            if kind == "workers":
                stores, count = {"kind": "sqlite", "path": str(tmp_path / "limits.db")}, 2
            else:
                server = await stack.enter_async_context(valkey(tmp_path))
                stores, count = {"kind": "valkey", "url": server.url}, 1
            gateways = []
            for number in range(1 if kind == "workers" else 2):
                raw = {
                    "providers": {"anthropic": {"base_url": simulator.url, "api_key": "any"}},
                    "records": {"path": str(tmp_path / f"records-{number}.db")},
                    "timeouts": {"idle": PATIENCE, "response": PATIENCE},
                    "drain_deadline": 0.3,
                    "workers": count,
                    "limit_store": {**common, **stores},
                    **sections,
                }
                gateways.append(await stack.enter_async_context(running(tmp_path / f"{number}.yaml", **raw)))
            yield gateways

    return house


class Crowd:
    """Clients that ask at once, and hold what they got."""

    def __init__(self, new_client, body):
        self._new_client, self._body = new_client, body
        self._stack = AsyncExitStack()
        self.held, self.refused, self.retry_after = [], 0, []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        await self._stack.aclose()

    async def ask(self, gateways, number, fault):
        """Ask all gateways, in turn, so often at once; what passes is held until its end."""
        before = len(self.held)
        clients = [
            await self._stack.enter_async_context(self._new_client(gateways[i % len(gateways)].port))
            for i in range(number)
        ]
        await asyncio.gather(*(self._ask_once(client, fault) for client in clients))
        return len(self.held) - before

    async def _ask_once(self, client, fault):
        headers = [VERSION, *([("x-sim-fault", fault)] if fault else [])]
        await client.ask("/anthropic/v1/messages", self._body, headers=headers)
        await client.read_until(b"\r\n\r\n")
        if client._buffer.startswith(b"HTTP/1.1 200 "):
            await client.read_until(b"event: content_block_delta")
            self.held.append(client)
            return
        answer = await client.answer()
        assert answer.status == 429, answer.body
        self.refused += 1
        self.retry_after.append(int(answer.headers["retry-after"]))

    async def broken(self):
        """Wait for the ends of those whose process was killed, and forget them; returns how many they were.

        The others do not end: there are no more once a second brings none.
        """
        waiting = {asyncio.create_task(client.answer()): client for client in self.held}
        done, pending = set(), set(waiting)
        while pending and (found := await asyncio.wait(pending, timeout=1.0))[0]:
            done |= found[0]
            pending = found[1]
        for task in pending:
            task.cancel()
        gone = [waiting[task] for task in done if not task.result().complete]
        self.held = [client for client in self.held if client not in gone]
        return len(gone)


@pytest.fixture
def crowd(new_client, request_body):
    return Crowd(new_client, request_body())


KINDS = ["workers", pytest.param("gateways", marks=needs_server)]


@pytest.mark.parametrize("kind", KINDS)
async def test_of_two_hundred_at_once_exactly_the_limit_passes(house, crowd, kind):
    rates = [{"for": "all", "requests_per_minute": LIMIT}]
    async with house(kind, rate_limits=rates) as gateways, crowd:
        began = time.monotonic()
        assert await crowd.ask(gateways, CLIENTS, "") == LIMIT
        assert crowd.refused == CLIENTS - LIMIT
        assert time.monotonic() - began < 55, "too slow to say anything"
        assert all(1 <= wait <= 60 for wait in crowd.retry_after)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_killed_process_held_is_free_after_its_lease(house, crowd, kind):
    async with house(kind, rate_limits=[{"for": "all", "concurrent": LIMIT}]) as gateways, crowd:
        assert await crowd.ask(gateways, CLIENTS, "stall@5") == LIMIT
        assert await crowd.ask(gateways, 10, "stall@5") == 0
        victim = gateways[0].workers[0] if kind == "workers" else gateways[0].process.pid
        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        await ended(victim)
        broken = await crowd.broken()
        assert 0 < broken < LIMIT, "both had some"
        alive = gateways if kind == "workers" else gateways[1:]
        if time.monotonic() - killed_at < LEASE / 2:
            assert await crowd.ask(alive, 5, "stall@5") == 0, "their leases last still"
        await asyncio.sleep(max(0.0, killed_at + LEASE + 0.5 - time.monotonic()))
        assert await crowd.ask(alive, CLIENTS, "stall@5") == broken
        await asyncio.sleep(LEASE + 0.5)
        assert await crowd.ask(alive, 10, "stall@5") == 0, "and those that go on are prolonged"
