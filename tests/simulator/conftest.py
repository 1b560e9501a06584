"""A simulator on a real socket, and a client that reads bytes and believes nothing."""

import asyncio
import base64
import gzip
import json
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.eventstream import EventStreamBuffer
from hang_kit import LOOPS

from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.simulator.sigv4 import TEST_ACCESS_KEY, TEST_SECRET_KEY, Credentials

PATIENCE = 20.0
"""Seconds until a test gives up waiting; nothing waits that long unless it is broken."""

OPENAI_PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
OPENAI_INPUT = {"chat": "messages", "responses": "input"}
MODEL = "anthropic.claude-sim-v1:0"


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    return LOOPS


@dataclass
class Answer:
    """What came on the wire, up to its end: `complete` per HTTP framing, or how the connection broke off."""

    raw: bytes
    status: int = 0
    headers: dict = field(default_factory=dict)
    chunks: list = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    reset: bool = False
    closed: bool = False
    malformed: bool = False

    @property
    def document(self):
        return json.loads(self.body)

    @property
    def events(self):
        """Types and data of the whole server-sent events."""
        text = self.body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        blocks = [block.split(b"\n") for block in text.split(b"\n\n")[:-1]]
        split = [[line.partition(b":") for line in block if not line.startswith(b":")] for block in blocks]
        fields = [{name: value.removeprefix(b" ") for name, _, value in lines} for lines in split]
        return [(one.get(b"event", b"").decode(), one.get(b"data", b"")) for one in fields if one]

    @property
    def frames(self):
        """The frames that AWS's own reader takes; raises what it raises."""
        buffer = EventStreamBuffer()
        buffer.add_data(self.body)
        return list(buffer)


def frame_data(frame):
    return base64.b64decode(json.loads(frame.payload)["bytes"])


def parse(raw):
    """Return what a response's bytes are so far."""
    answer = Answer(raw)
    while answer.status in (0, 100, 103):
        head, end, raw = raw.partition(b"\r\n\r\n")
        if not end:
            return answer
        lines = head.decode("latin-1").split("\r\n")
        version, code, *_ = lines[0].split(" ")
        if not version.startswith("HTTP/1.") or not code.isdecimal():
            return replace(answer, malformed=True)
        pairs = [line.partition(": ") for line in lines[1:]]
        answer = replace(answer, status=int(code), headers={name.lower(): value for name, _, value in pairs})
    return _with_body(answer, raw)


def _with_body(answer, rest):
    if "content-length" in answer.headers:
        length = int(answer.headers["content-length"])
        return replace(answer, body=rest, complete=len(rest) == length)
    if answer.headers.get("transfer-encoding") != "chunked":
        return replace(answer, body=rest)
    chunks, complete, malformed = [], False, False
    while rest and not complete:
        size, end, rest = rest.partition(b"\r\n")
        if not end:
            break
        try:
            length = int(size, 16)
        except ValueError:
            malformed = True
            break
        complete = length == 0
        if not complete:
            chunks.append(rest[:length])
        rest = rest[length + 2 :]
    return replace(answer, chunks=chunks, body=b"".join(chunks), complete=complete, malformed=malformed)


def never(_answer):
    return False


class Client:
    """One connection. Reads until the answer is complete, or the connection breaks off, or `enough` says so."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, method, target, headers, body=b""):
        lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers)]
        self.writer.write(("\r\n".join([*lines, f"content-length: {len(body)}"]) + "\r\n\r\n").encode() + body)
        await self.writer.drain()

    async def answer(self, enough=never, *, head=False):
        raw = b""
        while True:
            try:
                data = await asyncio.wait_for(self.reader.read(65536), PATIENCE)
            except ConnectionResetError:
                return replace(parse(raw), reset=True)
            raw += data
            answer = parse(raw)
            if not data:
                return replace(answer, closed=True)
            if answer.complete or (head and answer.status) or enough(answer):
                return answer


@pytest.fixture
def patience():
    return PATIENCE


@pytest.fixture
def parse_frame_data():
    return frame_data


@pytest.fixture
async def start():
    """Return a function that starts a simulator with settings; all are stopped in the end."""
    running = []

    async def begin(**settings):
        settings.setdefault("aws", Credentials(bearer_tokens={"good-token"}))
        simulator = Simulator(Settings(**settings))
        await simulator.start()
        running.append(simulator)
        return simulator

    yield begin
    for simulator in running:
        await simulator.stop()


@pytest.fixture
async def simulator(start):
    return await start()


@pytest.fixture
def connect():
    """Return a context manager: a connection to a simulator."""

    @asynccontextmanager
    async def opened(simulator):
        reader, writer = await asyncio.open_connection(simulator.host, simulator.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    return opened


def signed_headers(simulator, target, body, key=TEST_ACCESS_KEY, secret=TEST_SECRET_KEY, service="bedrock", extra=()):
    """Return headers as botocore signs them for this request."""
    request = AWSRequest("POST", f"{simulator.url}{target}", headers={"host": "127.0.0.1", **dict(extra)}, data=body)
    SigV4Auth(BotocoreCredentials(key, secret), service, "us-east-1").add_auth(request)
    return [(name.lower(), value) for name, value in request.headers.items() if name.lower() != "host"]


@pytest.fixture
def sign():
    return signed_headers


@pytest.fixture
def new_request():
    """Return a function that makes a request: target, headers and body."""

    def make(simulator, api, fault="", *, streaming=True, **members):
        document = {"max_tokens": 100, "messages": [{"role": "user", "content": "Hello?"}], **members}
        fault_header = [("x-sim-fault", fault)] if fault else []
        if api == "anthropic":
            document = {"model": "claude-sim", "stream": streaming, **document}
            headers = [("x-api-key", "sk-test-0123456789"), ("anthropic-version", "2023-06-01")]
            return "/v1/messages", headers + fault_header, json.dumps(document).encode()
        if api in ("chat", "responses"):
            del document["max_tokens"]
            asked = document.pop("messages")
            document = {"model": "gpt-sim", "stream": streaming, OPENAI_INPUT[api]: asked, **document}
            headers = [("authorization", "Bearer sk-test-0123456789")]
            return OPENAI_PATHS[api], headers + fault_header, json.dumps(document).encode()
        verb = "invoke-with-response-stream" if streaming else "invoke"
        target = f"/model/{MODEL}/{verb}"
        body = json.dumps({"anthropic_version": "bedrock-2023-05-31", **document}).encode()
        return target, signed_headers(simulator, target, body) + fault_header, body

    return make


@pytest.fixture
def ask(connect, new_request):
    """Return a function that asks once on a connection of its own and reads what comes."""

    async def once(simulator, api, fault="", *, enough=never, **members):
        async with connect(simulator) as client:
            target, headers, body = new_request(simulator, api, fault, **members)
            await client.send("POST", target, headers, body)
            answer = await client.answer(enough)
        return replace(answer, body=gunzip(answer)) if "content-encoding" in answer.headers else answer

    return once


def gunzip(answer):
    assert answer.headers["content-encoding"] == "gzip"
    return gzip.decompress(answer.body)


@pytest.fixture
def now():
    return time.time()
