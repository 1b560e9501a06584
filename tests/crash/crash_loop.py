"""Kills a real gateway with SIGKILL under load, again and again, and looks what its books say after: at random moments,
and half of the times just when a client has seen an answer finished.

`python tests/crash/crash_loop.py --rounds 200` prints a line a round, with its seed, and the sum. Each round starts
`aibridge serve` on the same records, with `aibridge simulate` as its upstream in another process. Once it has taken
over what the round before left, these must hold:

- every answer that a client saw finished is completed in the store, with the tokens that the client saw;
- every other interception has an end: its true one, or `crashed`;
- the audit finds no difference, and nothing in flight.

With `--carrier` every batch is a child process's to write, also the smallest.
With `--lock` another process holds the store's lock from the load to some time after the new start.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sqlite3
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from aibridge import config
from aibridge.audit import audit, report
from aibridge.journal import journal_folder, names_in

PATIENCE = 60.0
CLIENTS = 12
FAULTS = ["", "", "", "slow:1", "slow:3", "slow:10", "truncate@4", "rst@4", "status:529", "error_event@4"]
MODELS = {"anthropic": "claude-sonnet-5", "bedrock": "anthropic.claude-sonnet-5-v1:0"}
TAKEN_OVER = "the journal of a dead process is in the store"
LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""
CARRIED = """
import sys
from aibridge import cli, writer
writer.LARGE_BYTES = 0
sys.exit(cli.main())
"""


@dataclass
class Tally:
    """What all rounds come to. `finished` is what clients saw finished: id, and tokens in and out."""

    asked: int = 0
    finished: list = field(default_factory=list)
    wrong: list = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Program:
    """A child process whose JSON lines on standard error are kept."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, *arguments):
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe, stderr=pipe)
        )

    async def _read(self):
        while raw := await self.process.stderr.readline():
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(raw))
            async with self._news:
                self._news.notify_all()

    async def line(self, message):
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: any(line["message"] == message for line in self.lines))
        return next(line for line in self.lines if line["message"] == message)

    async def end(self, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        await self.process.wait()
        await self._reading


async def ask(port, draw, tally):
    """Ask once; note what was finished at the moment at which it is seen."""
    provider, stream = draw.choice(list(MODELS)), draw.random() < 0.7
    body = {"model": MODELS[provider], "max_tokens": 200, "messages": [{"role": "user", "content": "hello"}]}
    raw = json.dumps({**body, "stream": stream}).encode()
    lines = [f"POST /{provider}/v1/messages HTTP/1.1", "host: gateway", "anthropic-version: 2023-06-01"]
    lines += [f"x-sim-fault: {fault}"] if (fault := draw.choice(FAULTS)) else []
    lines += ["connection: close", f"content-length: {len(raw)}"]
    tally.asked += 1
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        id_ = head.partition("x-aibridge-id: ")[2].partition("\r\n")[0]
        if stream and head.startswith("http/1.1 200"):
            tokens = await read_stream(reader)
        else:
            tokens = await read_body(reader, head)
    finally:
        writer.close()
    if tokens:
        tally.finished.append((id_, *tokens))
        tally.news.set()


async def read_stream(reader):
    """Return the tokens that a stream told, once its last event is whole; None where it has none."""
    tokens_in = tokens_out = None
    while line := await reader.readline():
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line[6:])
        if event["type"] == "message_start":
            tokens_in = event["message"]["usage"]["input_tokens"]
        elif event["type"] == "message_delta":
            tokens_out = event["usage"]["output_tokens"]
        elif event["type"] == "message_stop":
            return tokens_in, tokens_out
    return None


async def read_body(reader, head):
    body = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    if not head.startswith("http/1.1 200"):
        return None
    usage = json.loads(body)["usage"]
    return usage["input_tokens"], usage["output_tokens"]


async def load(port, draw, tally):
    """Ask without a pause until the gateway is gone."""
    with contextlib.suppress(OSError, EOFError):  # EOFError: asyncio's IncompleteReadError
        while True:
            await ask(port, draw, tally)


def check(path, tally, number):
    """Look what the store says once all is taken over."""
    wrong = tally.wrong
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        query = "SELECT * FROM interceptions LEFT JOIN token_usages ON interception_id = id"
        rows = {row["id"]: row for row in db.execute(query)}
    for id_, tokens_in, tokens_out in tally.finished:
        row = rows.get(id_)
        if row is None:
            wrong.append(f"round {number}: {id_} was seen finished, and is not in the store")
        elif row["termination"] != "completed":
            wrong.append(f"round {number}: {id_} was seen finished, and is {row['termination']}/{row['cause']}")
        elif (row["input_tokens"], row["output_tokens"]) != (tokens_in, tokens_out):
            wrong.append(f"round {number}: {id_} has not the tokens that its client saw")
    wrong += [f"round {number}: {row['id']} has no end" for row in rows.values() if row["ended_at"] is None]
    wrong += [f"round {number}: {id_} ends before it began" for id_, row in rows.items() if not row["duration"] >= 0]
    found = audit(path)
    if found.differences or found.in_flight or sum(found.ended.values()) != found.started:
        wrong += [f"round {number}: audit: {line}" for line in report(found)]
    return sum(row["cause"] == "crashed" for row in rows.values()), len(rows)


def unrecorded(path, ledger):
    """Say where the upstream was contacted more often than the store knows."""
    contacts = len(ledger.read_text().splitlines())
    with contextlib.closing(sqlite3.connect(path)) as db:
        begun = db.execute("SELECT count(*) FROM interceptions").fetchone()[0]
        again = db.execute("SELECT count(*) FROM attempts WHERE number > 1").fetchone()[0]
    return [f"{contacts} requests to the upstream, {begun} begun"] if contacts > begun + again else []


class Loop:
    """The rounds, on one store."""

    def __init__(self, folder, options):
        self.folder = folder
        self.options = options
        self.path = folder / "records.db"
        self.tally = Tally()
        self._lock = None

    async def run(self):
        """Run all rounds. Returns the exit status."""
        ledger = self.folder / "ledger.jsonl"
        arguments = ("simulate", "--port", "0", "--any-credentials", "--ledger", str(ledger))
        simulator = await Program.start("-m", "aibridge", *arguments)
        try:
            url = (await simulator.process.stdout.readline()).decode().partition("http://")[2].split()[0].rstrip("/;,.")
            for number in range(self.options.rounds + 1):
                await self._round(number, f"http://{url}")
        finally:
            await simulator.end(signal.SIGTERM)
        self.tally.wrong += unrecorded(self.path, ledger)
        for line in self.tally.wrong:
            print(line)
        asked, finished, wrong = self.tally.asked, len(self.tally.finished), len(self.tally.wrong)
        print(f"{self.options.rounds} kills, {asked} requests, {finished} seen finished, {wrong} wrong")
        return 1 if wrong or not finished else 0

    async def _round(self, number, url):
        """Start on what the last round left, and check; then, but for the last time, load and kill."""
        seed = self.options.seed + number
        draw = random.Random(seed)
        left = names_in(journal_folder(self.path))
        clients = []
        program = ("-c", CARRIED) if self.options.carrier else ("-m", "aibridge")
        gateway = await Program.start(*program, "serve", "--config", str(self._config(url, draw)))
        try:
            started = await gateway.line("aibridge started")
            if self._lock is not None:
                await asyncio.sleep(draw.uniform(0, 0.5))
                await self._lock.end()
            if left:
                await gateway.line(TAKEN_OVER)
            if number:
                crashed, kept = check(self.path, self.tally, number)
                print(f"round {number} seed {seed}: {kept} kept, {crashed} crashed", flush=True)
            if number < self.options.rounds:
                port = int(started["data"].rpartition(":")[2])
                clients = [asyncio.create_task(load(port, draw, self.tally)) for _ in range(CLIENTS)]
                await self._wait_for_the_moment(draw)
        finally:
            await gateway.end(signal.SIGKILL if number < self.options.rounds else signal.SIGTERM)
            await asyncio.gather(*clients)

    async def _wait_for_the_moment(self, draw):
        await asyncio.sleep(draw.uniform(0.05, 0.8))
        if self.options.lock:
            self._lock = await self._take_lock()
            await asyncio.sleep(draw.uniform(0.05, 0.4))
        if draw.random() < 0.5:  # the hardest moment: just when a client sees an answer finished
            self.tally.news.clear()
            await self.tally.news.wait()

    async def _take_lock(self):
        lock = await Program.start("-c", LOCK, str(self.path))
        await lock.process.stdout.readline()
        return lock

    def _config(self, url, draw):
        fsync = draw.choice(["always", "interval", "never"]) if self.options.fsync == "mixed" else self.options.fsync
        sides = {"host": "127.0.0.1", "port": 0}
        bedrock = {
            "kind": "bedrock",
            "base_url": url,
            "region": config.SIMULATOR_REGION,
            "access_key_id": config.SIMULATOR_ACCESS_KEY_ID,
            "secret_access_key": config.SIMULATOR_SECRET_ACCESS_KEY,
        }
        raw = {
            "listen": sides,
            "admin": sides,
            "providers": {
                "anthropic": {"kind": "anthropic", "base_url": url, "api_key": config.SIMULATOR_API_KEY},
                "bedrock": bedrock,
            },
            "records": {"path": str(self.path), "fsync": fsync},
            "proxy": {"from_environment": False},
            "drain_deadline": 1,
        }
        file = self.folder / "aibridge.yaml"
        file.write_text(json.dumps(raw))
        return file


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fsync", default="mixed", choices=["always", "interval", "never", "mixed"])
    parser.add_argument("--lock", action="store_true", help="another process holds the store's lock for a while")
    parser.add_argument("--carrier", action="store_true", help="a child process writes every batch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(Loop(Path(folder), options).run())


if __name__ == "__main__":
    sys.exit(main())
