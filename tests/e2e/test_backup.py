"""A backup is taken and put back by the very lines of docs/operations.md, while a real gateway is under load."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from process_kit import ENVIRONMENT, PATIENCE, run, serving
from waiting_kit import until

from aibridge.audit import audit

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().partition("## Backup and restore")[2]
BACKUP, RESTORE = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[:2]
OPEN = "open, and held by no running process"
CLIENTS = 6


@pytest.fixture
def house(tmp_path):
    """Return the environment of a gateway on the simulator, and of its operator's shell."""
    store = tmp_path / "records.db"
    ours = {"AIBRIDGE_PORT": "0", "AIBRIDGE_ADMIN_PORT": "0", "AIBRIDGE_RECORDS": str(store), "HOME": str(tmp_path)}
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return ENVIRONMENT | ours | {"STORE": str(store), "BACKUP": str(tmp_path / "backup.db"), "PATH": paths}


async def shell(lines, house):
    process = await asyncio.create_subprocess_exec("sh", "-eu", "-c", lines, env=house)
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 0


class Load:
    """Clients that stream one answer after the other, and one whose answer never ends."""

    def __init__(self, started):
        self._port = int(started["data"].rpartition(":")[2])
        self._tasks = [asyncio.create_task(self._go_on()) for _ in range(CLIENTS)]
        self._news = asyncio.Condition()
        self._enough = False
        self.finished = 0

    async def ask(self, fault):
        """Ask, and return the connection, of whose answer one event has been read, and the interception's id."""
        body = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        raw = json.dumps(body | {"stream": True}).encode()
        head = f"x-sim-fault: {fault}\r\nconnection: close\r\ncontent-length: {len(raw)}\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        line = b"POST /anthropic/v1/messages HTTP/1.1\r\nhost: gateway\r\nanthropic-version: 2023-06-01\r\n"
        writer.write(line + head.encode() + raw)
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"message_start")
        return reader, writer, re.search(rb"x-aibridge-id: (\S+)", answer)[1].decode()

    async def _go_on(self):
        while not self._enough:
            reader, writer, _ = await self.ask("slow:1")
            assert b"message_stop" in await reader.read()
            writer.close()
            await writer.wait_closed()
            async with self._news:
                self.finished += 1
                self._news.notify_all()

    async def more(self, count):
        """Wait until so many more answers are finished."""
        wanted = self.finished + count
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.finished >= wanted or any(task.done() for task in self._tasks))
        assert self.finished >= wanted

    async def stop(self):
        self._enough = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)


def ids(path, condition):
    with closing(sqlite3.connect(path)) as db:
        return {row[0] for row in db.execute(f"SELECT id FROM interceptions WHERE {condition}")}


async def back_up_under_load(house, started):
    """Take a backup while answers go on; return the id of one that is under way all the time."""
    load = Load(started)
    await load.more(30)
    _, held, held_id = await load.ask("stall@3")
    await until(lambda: held_id in ids(house["STORE"], "ended_at IS NULL"))
    ended = ids(house["STORE"], "ended_at IS NOT NULL")
    await shell(BACKUP, house)
    await load.more(1)
    await load.stop()
    held.close()
    await held.wait_closed()
    assert ended <= ids(house["BACKUP"], "termination = 'completed'")
    return held_id


@asynccontextmanager
async def gateway(house):
    """Run a gateway, whose log is read so that it never waits for us; give its start line. It is stopped as by hand."""
    async with serving(environment=house) as (process, started):
        log = asyncio.create_task(process.stderr.read())
        try:
            yield started
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            await log


async def test_a_backup_under_load_is_a_good_store_that_can_be_put_back(house):
    async with gateway(house) as started:
        held_id = await back_up_under_load(house, started)
    backup = Path(house["BACKUP"])
    found = audit(backup)
    assert [(difference.what, held_id in difference.ids) for difference in found.differences] == [(OPEN, True)]
    assert set(found.differences[0].ids) == ids(backup, "ended_at IS NULL")
    assert found.started == sum(found.ended.values()) + len(found.differences[0].ids)

    kept = ids(backup, "ended_at IS NOT NULL")
    await shell(RESTORE, house)
    async with gateway(house) as started:
        load = Load(started)
        await load.more(5)
        await load.stop()
    assert kept <= ids(house["STORE"], "cause != 'crashed'")
    assert ids(house["STORE"], "cause = 'crashed'") == set(found.differences[0].ids)
    assert len(ids(house["STORE"], "cause = 'clean'")) >= len(kept) + 5
    status, told, _ = await run("audit", house["STORE"], environment=house)
    assert (status, told.splitlines()[-1]) == (0, "no difference")
