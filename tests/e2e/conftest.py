"""A whole house on real sockets: simulator, gateway, a client that can misbehave, and all five books to look into."""

import asyncio
import io
import json
import logging
import os
import socket
import struct
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from api_kit import APIS
from hang_kit import new_uvloop
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from record_kit import record_of, records_in

from aibridge import config
from aibridge.app import App
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.simulator.sigv4 import Credentials
from aibridge.telemetry.log import JSONFormatter
from aibridge.telemetry.tracing import Tracing

PATIENCE = 20.0
"""Seconds until a test gives up waiting; nothing waits that long unless it is broken."""

STATUS_OF = {
    "completed": "completed",
    "upstream_error": "failed",
    "client_gone": "client_gone",
    "gateway_error": "failed",
}
LINE_OF = {
    "completed": ("info", "interception ended"),
    "upstream_error": ("warning", "interception failed"),
    "client_gone": ("info", "client gone"),
    "gateway_error": ("error", "gateway failed"),
}
NEVER = 2 * PATIENCE
"""Seconds of a timeout that no test sees: a busy machine may be slow, and whoever wants one to fire sets it."""
TIMEOUTS = dict.fromkeys(("connect", "response", "idle", "client_stall", "ping", "request_body", "commit_after"), NEVER)


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    return {"uvloop": new_uvloop}  # what `aibridge serve` runs on


@dataclass
class Outcomes:
    """The fifth book's stand-in, until there is a breaker: a listener that keeps every outcome."""

    opened_ids: list = field(default_factory=list)
    facts: list = field(default_factory=list)
    attempts: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def opened(self, interception):
        self.opened_ids.append(interception.id)
        self.news.set()

    def learned(self, _interception, fact, message_id):
        self.facts.append((fact, message_id))
        self.news.set()

    def attempted(self, _interception, attempt):
        self.attempts.append(attempt)
        self.news.set()

    def closed(self, interception, outcome):
        self.ended.append((interception, outcome))
        self.news.set()

    async def wait(self, *, opened=0, ended=0, facts=0, attempts=0):
        wanted = [(self.opened_ids, opened), (self.ended, ended), (self.facts, facts), (self.attempts, attempts)]
        async with asyncio.timeout(PATIENCE):
            while any(len(told) < number for told, number in wanted):
                self.news.clear()
                await self.news.wait()


@dataclass
class House:
    """Simulator, gateway and books."""

    app: App
    simulator: Simulator
    spans: InMemorySpanExporter
    tracing: Tracing
    log: io.StringIO
    outcomes: Outcomes
    records: str

    @property
    def port(self):
        return self.app.port

    def metric(self, name, /, **labels):
        """Sum the samples of a metric that have these labels."""
        total = 0.0
        for family in self.app.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total

    def lines(self):
        self.app.log.flush()
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def books(self, *, ended=1):
        """Wait for `ended` outcomes, and return the last one as told in all five books."""
        await self.outcomes.wait(ended=ended)
        interception, outcome = self.outcomes.ended[-1]
        self.app.log.flush()
        assert await asyncio.to_thread(self.app.recorder.flush)
        await asyncio.to_thread(self.tracing.flush)
        return Books(self, interception, outcome)

    async def exported(self, ended=0):
        """Wait for `ended` outcomes, and return what `aibridge export` writes."""
        await self.outcomes.wait(ended=ended)
        assert await asyncio.to_thread(self.app.recorder.flush)
        return records_in(self.records)


@dataclass
class Books:
    """What the five books say of one interception."""

    house: House
    interception: object
    outcome: object

    def check(self, termination, cause, *, health, error=None, recorded=True):
        """Assert that metric, span, log line, record and breaker tell the same end."""
        assert (self.outcome.termination.value, self.outcome.cause.value) == (termination, cause), self.outcome.error
        self._check_metric(termination, cause)
        self._check_span(termination, cause)
        self._check_line(termination, cause)
        if recorded:
            self._check_record(termination, cause)
        else:
            assert self.record is None
        assert self.outcome.health.value == health
        if termination == "completed":
            assert self.outcome.error == ""
        if error is not None:
            assert error in self.outcome.error

    def check_end(self, termination, cause):
        """Assert how the last of several ended, in the outcome and in the records."""
        assert (self.outcome.termination.value, self.outcome.cause.value) == (termination, cause), self.outcome.error
        self._check_record(termination, cause)

    def _check_metric(self, termination, cause):
        house, labels = self.house, {"provider": self.interception.provider, "status": STATUS_OF[termination]}
        assert house.metric("aibridge_interceptions_total", termination=termination, cause=cause, **labels) == 1
        ended = house.metric("aibridge_interceptions_total")
        assert house.metric("aibridge_interceptions_started_total") == ended
        assert house.metric("aibridge_interceptions_inflight") == 0
        assert house.metric("aibridge_interceptions_duration_seconds_count") == ended

    def _check_span(self, termination, cause):
        spans = [
            span
            for span in self.house.spans.get_finished_spans()
            if (span.attributes or {}).get("interception_id") == self.interception.id and span.name == "Intercept"
        ]
        assert len(spans) == 1
        failed = termination in {"upstream_error", "gateway_error"}
        assert spans[0].status.status_code.name == ("ERROR" if failed else "UNSET")
        assert spans[0].attributes["aibridge.termination"] == termination
        assert spans[0].attributes["aibridge.cause"] == cause
        if failed:
            assert spans[0].status.description.startswith(cause)

    def _check_line(self, termination, cause):
        lines = [line for line in self.house.lines() if line.get("interception_id") == self.interception.id]
        lines = [line for line in lines if line["level"] != "debug"]
        assert len(lines) == 1
        assert (lines[0]["level"], lines[0]["message"]) == LINE_OF[termination]
        assert (lines[0]["termination"], lines[0]["cause"]) == (termination, cause)

    def _check_record(self, termination, cause):
        record = self.record
        assert (record["termination"], record["cause"]) == (termination, cause)
        assert (record["error"] is None) == (termination == "completed")
        assert record["ended_at"] >= record["started_at"]
        evidence = self.outcome.evidence
        assert bool(record["terminal_event_seen"]) == evidence.terminal_event_seen
        assert record["bytes_in"] == evidence.bytes_in

    @property
    def record(self):
        return record_of(self.house.records, self.interception.id)


@pytest.fixture
def build_house(tmp_path):
    """Return an async context manager that builds a house; keyword arguments are sections of the configuration.

    `like` are further providers: each has the settings of the one that stands behind its name.
    """

    @asynccontextmanager
    async def build(*, provider=None, like=(), base_url=None, tracing=True, genai=None, **sections):
        credentials = Credentials(secrets={config.SIMULATOR_ACCESS_KEY_ID: config.SIMULATOR_SECRET_ACCESS_KEY})
        async with Simulator(Settings(aws=credentials)) as simulator:
            records = tmp_path / "records.db"
            url = base_url or simulator.url
            raw = {
                "listen": {"host": "127.0.0.1", "port": 0},
                "admin": {"host": "127.0.0.1", "port": 0},
                "providers": {
                    "anthropic": {"kind": "anthropic", "base_url": url, "api_key": config.SIMULATOR_API_KEY},
                    "bedrock": {
                        "kind": "bedrock",
                        "base_url": url,
                        "region": config.SIMULATOR_REGION,
                        "access_key_id": config.SIMULATOR_ACCESS_KEY_ID,
                        "secret_access_key": config.SIMULATOR_SECRET_ACCESS_KEY,
                    },
                    "openai": {"kind": "openai", "base_url": f"{url}/v1", "api_key": config.SIMULATOR_OPENAI_KEY},
                    "copilot": {"kind": "copilot", "base_url": url},
                },
                "records": {"path": str(records)},
                "proxy": {"from_environment": False},
                "drain_deadline": 0.3,
                "timeouts": TIMEOUTS,
            }
            for name, other in dict(like).items():
                raw["providers"][name] = dict(raw["providers"][other])
            for name, values in (provider or {}).items():
                raw["providers"].setdefault(name, {}).update(values)
            for name, values in sections.items():
                raw[name] = {**raw[name], **values} if isinstance(raw.get(name), dict) else values
            file = tmp_path / "aibridge.yaml"
            file.write_text(json.dumps(raw))
            spans = InMemorySpanExporter()
            tracing = Tracing(spans) if tracing is True else tracing
            log, outcomes = io.StringIO(), Outcomes()
            handler = logging.StreamHandler(log)
            handler.setFormatter(JSONFormatter())
            logger = logging.getLogger("aibridge")
            logger.addHandler(handler)
            level = logger.level
            logger.setLevel("DEBUG")
            app = App(config.load(file, {}), tracing=tracing, genai=genai, extra=(outcomes,))
            await app.start()
            try:
                yield House(app, simulator, spans, tracing, log, outcomes, str(records))
            finally:
                await app.stop()
                logger.removeHandler(handler)
                logger.setLevel(level)

    return build


@pytest.fixture
async def house(build_house):
    async with build_house() as built:
        yield built


@dataclass
class Answer:
    """What a client saw. `complete` says whether HTTP's framing was whole."""

    status: int
    headers: dict
    body: bytes
    complete: bool

    @property
    def events(self):
        """Types of the server-sent events, in order."""
        return [line[7:].decode() for line in self.body.splitlines() if line.startswith(b"event: ")]

    @property
    def last_event(self):
        """The data of the last event."""
        return json.loads(self.body.rstrip().rpartition(b"data: ")[2])


class Client:
    """A client over a raw socket, that reads when it is told to, and leaves as it is told to."""

    def __init__(self, port, receive_buffer=None):
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.setblocking(False)  # noqa: FBT003 - the signature is the system's
        self._port = port
        self._buffer = b""

    async def __aenter__(self):
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *_):
        self.close()

    @property
    def ends(self):
        """The ports of its connection: its own, and the gateway's."""
        return self._socket.getsockname()[1], self._socket.getpeername()[1]

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def ask(self, path, body, *, method="POST", headers=(), version="1.1"):
        """Send a request; `body` is bytes, or what becomes JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/{version}", "host: gateway", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers]
        if not any(name.lower() in {"content-length", "transfer-encoding"} for name, _ in headers):
            lines.append(f"content-length: {len(raw)}")
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)

    async def read_some(self):
        """Return what the socket gives next; empty at its end."""
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().sock_recv(self._socket, 65536)

    async def read_until(self, marker):
        """Read until the marker has come; what came stays for `answer`."""
        while marker not in self._buffer:
            data = await self.read_some()
            assert data, f"the gateway closed before {marker!r} came: {self._buffer!r}"
            self._buffer += data

    async def answer(self, method="POST"):
        """Read one answer to its end."""
        await self.read_until(b"\r\n\r\n")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), value)
        if status == 100:
            return await self.answer(method)
        if method == "HEAD" or status in {204, 304}:
            return Answer(status, headers, b"", complete=True)
        if headers.get("transfer-encoding") == "chunked":
            body, complete = await self._chunks()
        elif "content-length" in headers:
            body, complete = await self._exactly(int(headers["content-length"]))
        else:
            body, complete = await self._rest(), True
        return Answer(status, headers, body, complete)

    async def _exactly(self, size):
        while len(self._buffer) < size:
            data = await self._more()
            if not data:
                return self._buffer, False
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body, True

    async def _chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                if not await self._more():
                    return body, False
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            size = int(line, 16)
            chunk, whole = await self._exactly(size + 2)
            if not whole:
                return body + chunk, False
            assert chunk.endswith(b"\r\n")
            body += chunk[:-2]
            if size == 0:
                return body, True

    async def _rest(self):
        while await self._more():
            pass
        body, self._buffer = self._buffer, b""
        return body

    async def _more(self):
        try:
            data = await self.read_some()
        except ConnectionResetError:
            return b""
        self._buffer += data
        return data

    def finish(self):
        """Send FIN, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self):
        """Leave with FIN."""
        with suppress(OSError):
            self._socket.close()

    def reset(self):
        """Leave with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


@pytest.fixture
def new_client():
    """Return a context manager that connects a client to a port."""
    return Client


@pytest.fixture
def request_body():
    """Return a function that builds a request, of the Messages API where no other is named."""

    def build(api="anthropic", **more):
        return APIS[api].body(**more)

    return build


@pytest.fixture
def ask(new_client, request_body):
    """Return a function that asks a house once, with a fault of the simulator's, and reads the answer."""

    async def ask_once(house, api, fault="", *, stream=True, headers=(), **more):
        extra = [("x-sim-fault", fault)] if fault else []
        async with new_client(house.port) as client:
            body = request_body(api, stream=stream, **more)
            await client.ask(APIS[api].path, body, headers=[*headers, *extra, *APIS[api].headers])
            return await client.answer()

    return ask_once


@pytest.fixture
def records(tmp_path):
    return tmp_path / "records.db"  # where the house has them too


@pytest.fixture
def serve(tmp_path, records):
    """Return a context manager that runs a real gateway: process, port and simulator, and the admin listener's URL."""

    @asynccontextmanager
    async def serve(timeouts=None, **section):
        file = tmp_path / "process.yaml"
        port = {"host": "127.0.0.1", "port": 0}
        async with Simulator(Settings(any_credentials=True)) as simulator:
            key = {"base_url": simulator.url, "api_key": "any"}
            aws = {
                "base_url": simulator.url,
                "region": "us-east-1",
                "access_key_id": "AKID",
                "secret_access_key": "any",
            }
            raw = {
                "listen": port,
                "admin": port,
                "records": {"path": str(records), **section},
                "timeouts": timeouts or {},
            }
            openai = {**key, "base_url": f"{simulator.url}/v1"}
            file.write_text(json.dumps({**raw, "providers": {"anthropic": key, "bedrock": aws, "openai": openai}}))
            command = (sys.executable, "-m", "aibridge", "serve", "--config", str(file))
            gateway = await asyncio.create_subprocess_exec(
                *command, stderr=asyncio.subprocess.PIPE, env={**os.environ, "NO_PROXY": "*"}
            )
            try:
                started = {}
                async with asyncio.timeout(PATIENCE):
                    while started.get("message") != "aibridge started":
                        started = json.loads(await gateway.stderr.readline())
                yield gateway, int(started["data"].rpartition(":")[2]), simulator, started["admin"]
            finally:
                if gateway.returncode is None:
                    gateway.kill()
                async with asyncio.timeout(PATIENCE):
                    await gateway.communicate()

    return serve
