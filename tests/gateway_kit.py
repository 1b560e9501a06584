"""A gateway that runs as a process, alone or with workers, as a test sees it from outside."""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from process_kit import ENVIRONMENT, PATIENCE
from prometheus_client.parser import text_string_to_metric_families
from waiting_kit import until

VERSION = ("anthropic-version", "2023-06-01")
CLIENTS = 6


def children(pid):
    """The pids of the workers: what they start themselves is a generation further."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


def is_there(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def holder(pids, client):
    """Return the process that holds the other end of a client's connection."""
    (ours, theirs) = client.ends
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, _, _, _, _, _, inode, *_ = line.split()
        if (int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)) == (theirs, ours):
            break
    else:
        raise AssertionError("there is no such connection")
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if file.readlink() == Path(f"socket:[{inode}]"):
                    return pid
    raise AssertionError("nobody holds it")


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def read_metrics(admin):
    """Return the samples of a scrape, by name and labels."""
    families = text_string_to_metric_families(get(admin + "/metrics")[1].decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def total(metrics, name, **labels):
    return sum(value for (found, of), value in metrics.items() if found == name and labels.items() <= dict(of).items())


class Gateway:
    """A supervisor with its workers, as a test sees it."""

    def __init__(self, process, file, records):
        self.process, self.file, self.records = process, file, records
        self.lines = []
        self._reading = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def serving(cls, file, records):
        """Run a gateway on a configuration; at the end it is killed, and its workers are waited for."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aibridge", "serve", "--config", str(file),
            stderr=asyncio.subprocess.PIPE, env={**ENVIRONMENT, "NO_PROXY": "*"},
        )  # fmt: skip
        gateway = cls(process, file, records)
        try:
            await gateway.started()
            yield gateway
        finally:
            left = gateway.workers if process.returncode is None else set()
            with suppress(ProcessLookupError):
                process.kill()
            await gateway.end()
            await until(lambda: not any(map(is_there, left)))

    async def _read(self):
        while raw := await self.process.stderr.readline():
            is_line = raw.startswith(b"{")  # what is wrong with a configuration is said in plain words
            self.lines.append(json.loads(raw) if is_line else {"message": raw.decode().strip()})

    def told(self, message):
        return [line for line in self.lines if line["message"] == message]

    async def hear(self, message, times=1):
        return (await until(lambda: len(told := self.told(message)) >= times and told))[-1]

    async def started(self):
        line = await self.hear("aibridge started")
        self.port, self.admin = int(line["data"].rpartition(":")[2]), line["admin"]

    @property
    def workers(self):
        return children(self.process.pid)

    def health(self):
        status, body = get(self.admin + "/readyz")
        return status, json.loads(body)

    def _is_ready(self):
        workers = self.health()[1]["workers"]
        return workers["ready"] == workers["wanted"] and not workers["retiring"]

    async def all_ready(self, patience=PATIENCE):
        await until(lambda: asyncio.to_thread(self._is_ready), patience)

    async def end(self):
        """Wait for the end, and for the end of the log. Returns the exit status."""
        async with asyncio.timeout(PATIENCE):
            await self._reading
            return await self.process.wait()


class Asking:
    """Clients that ask all the time, each on a connection that it keeps as long as it may."""

    def __init__(self, port, new_client, body, fault=""):
        self._port, self._new_client, self._body = port, new_client, body
        self._headers = [VERSION, *([("x-sim-fault", fault)] if fault else [])]
        self.seen, self.broken = [], 0
        self._stopped = False

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(CLIENTS)]
        return self

    async def __aexit__(self, *_):
        self._stopped = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)

    async def more(self, number):
        """Wait for so many answers more."""
        wanted = len(self.seen) + number
        await until(lambda: len(self.seen) >= wanted or any(task.done() for task in self._tasks))

    async def _ask(self):
        while not self._stopped:
            async with self._new_client(self._port) as client:
                goes_on = True
                while goes_on and not self._stopped:
                    goes_on = await self._ask_once(client)

    async def _ask_once(self, client):
        try:
            await client.ask("/anthropic/v1/messages", self._body, headers=self._headers)
            answer = await client.answer()
        except (AssertionError, OSError):  # the connection broke before there was a head
            self.broken += 1
            return False
        whole = answer.complete and b"message_stop" in answer.body
        if not whole:
            self.broken += 1
            return False
        assert answer.status == 200
        self.seen.append(answer.headers["x-aibridge-id"])
        return answer.headers.get("connection") != "close"
