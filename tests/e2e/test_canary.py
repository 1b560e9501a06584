"""Canaries: every secret there is holds one word, and nothing that the gateway says or keeps may hold that word.

The secrets are put where secrets are, right and wrong; an upstream echoes all that it is sent, in every place of an
answer; streams end in every way. Then all of it is searched: log, spans, metrics, health, records, answers to clients,
what the command line prints, and the `repr` of every object.
"""

import asyncio
import base64
import contextlib
import gc
import hashlib
import json
import logging
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from aibridge import cli, config
from aibridge.journal import journal_folder
from aibridge.simulator.encodings import build_frame, chunk_payload
from aibridge.telemetry import log
from aibridge.values import UpstreamRequest

PATIENCE = 30.0
WORD = "KANARI"
"""Stands in the middle of every secret, where a hint shows nothing of it."""


def secret(name, beginning="sk-"):
    return f"{beginning}{name}-{WORD}-{name}-9f2c"


GATEWAY_CLEAR, GATEWAY_HASHED = secret("gateway-clear"), secret("gateway-hashed")
ADMIN_KEY = secret("admin-key")
HASH = hashlib.sha256(GATEWAY_HASHED.encode()).hexdigest()
API_KEY, AWS_SECRET, AWS_SESSION = secret("anthropic", "sk-ant-"), secret("aws-secret"), secret("aws-session")
BEARER = secret("bedrock-bearer")
OWN_KEY, OWN_TOKEN, WRONG = secret("own-key"), secret("own-token"), secret("wrong")
PROXY_PASSWORD = secret("proxy-password")
OTLP_KEY = secret("otlp")
LIMITS = {
    "rate_limits": [{"for": "all", "requests_per_minute": 1_000_000}],
    "limit_store": {"kind": "valkey", "url": f"valkey://me:{secret('limits')}@127.0.0.1:1/0", "timeout": 0.5},
}
"""Nobody is there: what is said of it is said."""
PROXY_PAIR = base64.b64encode(f"proxy-user:{PROXY_PASSWORD}".encode()).decode()

MARKS = {
    form.encode()
    for form in (
        WORD, WORD.encode().hex(), HASH, HASH.upper(), PROXY_PAIR, PROXY_PAIR.rstrip("="),
        *(base64.b64encode(("x" * n + WORD).encode()).decode()[-(-8 * n // 6) : 8 * (n + 6) // 6] for n in range(3)),
        base64.b64encode(bytes.fromhex(HASH)).decode(),
    )
}  # fmt: skip
"""The word, as it is and as it may be written; and what stands for a secret without holding the word."""


def leaks(text):
    """Return what stands around each mark in a text; empty where there is none."""
    raw = bytes(text) if isinstance(text, bytes | bytearray) else text.encode("utf-8", "replace")
    return [
        raw[max(0, found.start() - 100) : found.end() + 60].decode("utf-8", "replace")
        for mark in MARKS
        for found in re.finditer(re.escape(mark), raw, re.IGNORECASE)
    ]


def found_in(**texts):
    """Return the first leaks of each text, by its name; empty where all is well."""
    found = {name: sorted(set(leaks(text))) for name, text in texts.items()}
    return {name: some[:8] for name, some in found.items() if some}


@pytest.mark.parametrize(
    "text",
    [
        f"x {API_KEY} y", API_KEY.lower(), quote(API_KEY), repr(API_KEY.encode()), json.dumps({"a": API_KEY}), HASH,
        f"Basic {PROXY_PAIR}", WORD.encode().hex(),
        *(base64.b64encode(f"{'x' * n}{API_KEY}".encode()) for n in range(3)),
    ],
)  # fmt: skip
def test_a_leak_is_found(text):
    assert leaks(text)


def test_hints_are_no_leaks():
    assert leaks("sk-a...9f2c " + repr(config.Secret(API_KEY))) == []


# --- an upstream that echoes -----------------------------------------------------------------------------------------


def framed(status, kind, body, *, echo="", length=None):
    """Return an answer with the echo in its headers too."""
    lines = [f"HTTP/1.1 {status} {echo}", f"content-type: {kind}"]
    names = ("request-id", "x-amzn-requestid", "x-amzn-errortype", "x-echo-of", "retry-after") if echo else ()
    lines += [f"{name}: {echo}" for name in names]
    lines += ["connection: close", f"content-length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def event(kind, **fields):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def chunk(kind, **fields):
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return build_frame(headers, chunk_payload(json.dumps({"type": kind, **fields}).encode()))


MESSAGE = {
    "id": "msg_1",
    "model": "m",
    "role": "assistant",
    "content": [],
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
SSE, FRAMES, JSON = "text/event-stream", "application/vnd.amazon.eventstream", "application/json"


def started(encode):
    delta = {"index": 0, "delta": {"type": "text_delta", "text": "hello"}}
    return encode("message_start", message=MESSAGE) + encode("content_block_delta", **delta)


def stopped(encode):
    return encode("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}) + encode(
        "message_stop"
    )


def frame(headers, **fields):
    return build_frame(headers, json.dumps(fields).encode())


def exception_frame(words):
    return frame({":message-type": "exception", ":exception-type": f"a {words}"}, message=words)


def error_frame(words):
    return build_frame({":message-type": "error", ":error-code": words[:200], ":error-message": words}, b"")


def error_of(words):
    return {"type": "authentication_error", "message": words}


def error_body(words):
    return json.dumps({"type": "error", "error": error_of(words), "message": words}).encode()


@dataclass(frozen=True)
class Heard:
    """A request, as the upstream sees it."""

    words: str
    streaming: bool
    frames: bool
    responses: bool = False

    @property
    def kind(self):
        return (FRAMES if self.frames else SSE) if self.streaming else JSON

    @property
    def encode(self):
        return chunk if self.frames else event

    def good(self, body, **more):
        return framed(200, self.kind, body, echo=self.words, **more)

    def whole(self):
        body = (
            started(self.encode) + stopped(self.encode)
            if self.streaming
            else json.dumps({**MESSAGE, "type": "message"}).encode()
        )
        return self.good(body)


def corrupt(heard):
    if heard.frames:
        return build_frame({":event-type": "chunk", ":message-type": "event"}, b'{"bytes":"' + heard.words.encode())
    return f"event: message_delta\ndata: {{{heard.words}\n\n".encode()


def broken_crc(heard):
    raw = bytearray(chunk("ping", text=heard.words))
    raw[-1] ^= 1
    return bytes(raw)


def ends_with(*parts):
    return lambda heard: heard.good(started(heard.encode) + b"".join(part(heard) for part in parts))


STREAM_ENDS = {
    "error_event": ends_with(lambda heard: heard.encode("error", error=error_of(heard.words), message=heard.words)),
    "truncated": ends_with(),
    "incomplete_body": lambda heard: heard.good(started(heard.encode), length=1_000_000),
    "corrupt_payload": ends_with(corrupt),
    "trailing": ends_with(lambda heard: stopped(heard.encode), lambda heard: heard.words.encode()),
}
FRAME_ENDS = {
    "exception_frame": ends_with(lambda heard: exception_frame(heard.words)),
    "error_frame": ends_with(lambda heard: error_frame(heard.words)),
    "corrupt_frame": ends_with(broken_crc),
    "truncated_frame": ends_with(lambda heard: exception_frame(heard.words)[:-5]),
}
BODY_ENDS = {
    "error_object": lambda heard: heard.good(error_body(heard.words)),
    "not_json": lambda heard: heard.good(heard.words.encode()),
    "short": lambda heard: heard.good(error_body(heard.words), length=1_000_000),
}
ENDS = {
    "completed": Heard.whole,
    **{
        f"status_{status}": lambda heard, status=status: framed(status, JSON, error_body(heard.words), echo=heard.words)
        for status in (400, 401, 403, 429, 500, 529)
    },
    "status_text": lambda heard: framed(502, "text/html", f"<pre>{heard.words}</pre>".encode(), echo=heard.words),
    "status_short": lambda heard: framed(500, JSON, heard.words.encode(), echo=heard.words, length=1_000_000),
    "redirect": lambda heard: framed(302, JSON, error_body(heard.words), echo=heard.words),
    "media_type": lambda heard: framed(200, f"text/{'x' * 70}{heard.words}", b"{}", echo=heard.words),
    "encoding": lambda heard: framed(200, f"a/b\r\ncontent-encoding: {'x' * 70}{heard.words}", b"{}"),
    "not_http": lambda heard: heard.words.encode(),
    "bad_status": lambda heard: f"HTTP/1.1 {heard.words} OK\r\n\r\n".encode(),
    "bad_header": lambda heard: f"HTTP/1.1 200 OK\r\n{heard.words}\x00: {heard.words}\r\n\r\n".encode(),
    "nothing": lambda _: b"",
}
HANGS = {"stall": lambda heard: heard.good(started(heard.encode), length=1_000_000), "silent": lambda _: b""}


class EchoingUpstream:
    """Answers as the request's `x-end` says, and echoes the request's head wherever there is room for words.

    One that `remembers` echoes the keys of earlier requests too.
    """

    def __init__(self, *, remembers=False):
        self.heard = []
        self._remembers = remembers
        self.hanging = 0
        self.news = asyncio.Event()
        self._closed = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._closed.set()
        self._server.close()
        await self._server.wait_closed()

    async def wait_for_hanging(self, count):
        async with asyncio.timeout(PATIENCE):
            while self.hanging < count:
                self.news.clear()
                await self.news.wait()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heard.append(head)
            length = re.search(r"(?im)^content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            end = re.search(r"(?im)^x-end: (\S+)", head)[1]
            frames = "/model/" in head.split("\r\n", 1)[0]
            streaming = "invoke-with-response-stream" in head or b'"stream": true' in body
            words = head.strip().replace("\r\n", " | ")
            if self._remembers:
                words += " ".join(sorted({re.search(r"(?im)^x-api-key: (\S+)", one)[1] for one in self.heard}))
            heard = Heard(words, streaming, frames, "/responses" in head)
            writer.write((ENDS | STREAM_ENDS | FRAME_ENDS | BODY_ENDS | HANGS)[end](heard))
            await writer.drain()
            if end in HANGS:
                self.hanging += 1
                self.news.set()
                await self._closed.wait()
        writer.close()


# --- what is asked ---------------------------------------------------------------------------------------------------

PROVIDERS = ("anthropic", "bedrock", "bearer")
AUTH = {
    "open": {"mode": "open"},
    "keys": {"keys": [{"name": "alice", "key": GATEWAY_CLEAR}, {"name": "bob", "key": f"sha256:{HASH}"}]},
    "header": {"mode": "header", "header": {"id": "x-user", "networks": ["127.0.0.1"]}},
}
OWN = {"central": [], "key": [("x-api-key", OWN_KEY)], "token": [("authorization", f"Bearer {OWN_TOKEN}")]}
LET_IN = {
    "open": OWN,
    "header": {name: [*headers, ("x-user", "ann")] for name, headers in OWN.items()},
    "keys": {
        "key": [("x-api-key", GATEWAY_HASHED)],
        "token": [("authorization", f"Bearer {GATEWAY_CLEAR}"), ("x-api-key", "")],
        "apart": [("x-aibridge-key", GATEWAY_CLEAR)],
        "own": [("x-aibridge-key", GATEWAY_HASHED), ("x-api-key", OWN_KEY)],
        "twice": [("x-aibridge-key", GATEWAY_CLEAR), ("authorization", f"Bearer {GATEWAY_HASHED}")],
    },
}
REFUSED = [
    [("x-api-key", WRONG)],
    [("authorization", f"Bearer {WRONG} {WRONG}")],
    [("authorization", f"Basic {base64.b64encode(WRONG.encode()).decode()}")],
    [("authorization", WRONG), ("x-user", WRONG), ("x-user", WRONG)],
    [("x-aibridge-key", WRONG), ("authorization", f"Token {WRONG}")],
    [("x-user", f"{WRONG}\x01"), ("x-api-key", f"{WRONG}é")],
]
MALFORMED = [
    f"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {WRONG}\x01\r\n\r\n",
    f"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nauthorization : Bearer {WRONG}\r\n\r\n",
    f"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\n{WRONG}\r\n\r\n",
    f"{WRONG} / HTTP/1.1\r\n\r\n",
    f"POST /anthropic/v1/messages?key={WRONG} HTTP/9.9\r\nhost: x\r\n\r\n",
    f"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {WRONG}\r\n\r\n",
    f"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{WRONG}",
    f"GET /anthropic/v1/models?key={WRONG} HTTP/1.1\r\nhost: x\r\nx-api-key: {WRONG}{'x' * 70_000}\r\n\r\n",
]  # fmt: skip


def providers_at(url):
    bedrock = {"kind": "bedrock", "base_url": url, "region": "us-east-1", "byok": True, "send_actor_headers": True}
    return {
        "anthropic": {"base_url": url, "api_key": API_KEY, "send_actor_headers": True},
        "bedrock": {
            **bedrock, "byok": False, "access_key_id": "AKIDEXAMPLE", "secret_access_key": AWS_SECRET,
            "session_token": AWS_SESSION,
        },
        "bearer": {**bedrock, "bearer_token": BEARER},
    }  # fmt: skip


def ends_of(provider, *, stream):
    more = STREAM_ENDS if stream else BODY_ENDS
    return [*ENDS, *more, *(FRAME_ENDS if stream and provider != "anthropic" else ())]


@dataclass
class Traffic:
    """Asks a gateway in all ways, and keeps every byte that it answers."""

    port: int
    new_client: object
    request_body: object
    answers: list = field(default_factory=list)

    async def ask(self, provider, end, headers, *, stream=True, path="/v1/messages", method="POST"):
        async with self.new_client(self.port) as client:
            body = self.request_body("anthropic" if provider == "anthropic" else "bedrock", stream=stream)
            sent = [*headers, ("x-end", end), ("anthropic-version", "2023-06-01")]
            target = f"/{provider}{path}?api_key={quote(WRONG)}"
            await client.ask(target, b"" if method == "GET" else body, headers=sent, method=method)
            self.keep(await client.answer(method))

    async def say(self, raw):
        """Send bytes, and keep what is answered until the gateway closes, or says no more."""
        async with self.new_client(self.port) as client:
            with contextlib.suppress(ConnectionError):
                await client.send(raw.encode("latin-1"))
                client.finish()
                while data := await client.read_some():
                    self.answers.append(data)

    def keep(self, answer):
        self.answers.append(f"{answer.status} {answer.headers}".encode() + answer.body)

    async def everything(self, let_in):
        """Ask in every way that ends of itself."""
        for headers in let_in.values():
            for provider in PROVIDERS:
                for stream in (True, False):
                    asked = [
                        self.ask(provider, end, headers, stream=stream) for end in ends_of(provider, stream=stream)
                    ]
                    await asyncio.gather(*asked)
            for end in ENDS:
                await self.ask("anthropic", end, headers, path="/v1/messages/count_tokens")
                await self.ask("anthropic", end, headers, path="/v1/models", method="GET")
        for headers in REFUSED:
            for provider in PROVIDERS:
                await self.ask(provider, "completed", headers)
        for raw in MALFORMED:
            await self.say(raw)
        async with self.new_client(self.port) as client:  # its own path is told to the client, and to nobody else
            await client.ask(f"/anthropic/v1/{WRONG}", b"{}", headers=[("x-api-key", WRONG)])
            assert WRONG.encode() in (await client.answer()).body


# --- real processes --------------------------------------------------------------------------------------------------

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


async def get(port, path, new_client):
    async with new_client(port) as client:
        await client.ask(path, b"", method="GET")
        return (await client.answer()).body


def write_config(folder, url, auth, **more):
    raw = {
        "listen": {"host": "127.0.0.1", "port": 0},
        "admin": {"host": "127.0.0.1", "port": 0, "keys": [{"name": "ann", "key": ADMIN_KEY}]},
        "providers": providers_at(url),
        "records": {"path": str(folder / "records" / "aibridge.db")},
        "log": {"level": "debug"},
        "auth": auth,
        "drain_deadline": 0.3,
        "timeouts": {"response": 20, "idle": 20},
        "proxy": {"from_environment": False},
        **LIMITS,
        **more,
    }
    path = folder / "aibridge.yaml"
    path.write_text(json.dumps(raw))
    return path


class Process:
    """An `aibridge` command, and all that it prints."""

    def __init__(self, process):
        self.process = process
        self.printed = bytearray()
        self._started = asyncio.get_running_loop().create_future()
        self._readers = [asyncio.create_task(self._read(stream)) for stream in (process.stdout, process.stderr)]

    async def _read(self, stream):
        while line := await stream.readline():
            self.printed += line
            if b'"aibridge started"' in line:
                self._started.set_result(json.loads(line))

    async def started(self):
        async with asyncio.timeout(PATIENCE):
            return await self._started

    async def ended(self):
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._readers)
            return await self.process.wait()


@contextlib.asynccontextmanager
async def running(*arguments, cwd, **environ):
    wire = {"AIBRIDGE_SPEEDUPS": os.environ["AIBRIDGE_SPEEDUPS"]} if "AIBRIDGE_SPEEDUPS" in os.environ else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-m", "aibridge", *arguments, cwd=cwd, limit=1 << 22,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**ENVIRONMENT, **wire, **environ},
    )  # fmt: skip
    process = Process(process)
    try:
        yield process
    finally:
        if process.process.returncode is None:
            process.process.kill()
        await process.ended()


ADMIN = ("/metrics", "/healthz", "/readyz", f"/metrics?token={WRONG}", f"/{WRONG}")


async def ask_the_api(port, new_client):
    """Ask with an admin key, a session, a wrong key, and secrets where none belong; return what is said."""
    told, session = b"", ""
    for method, path, key, body in (
        ("POST", "/api/v1/login", "", {"key": WRONG}),
        ("POST", "/api/v1/login", "", {"key": ADMIN_KEY}),
        ("GET", "/api/v1/session", WRONG, {}),
        ("GET", f"/api/v1/session?token={WRONG}", ADMIN_KEY, {}),
        ("GET", f"/api/v1/interceptions?limit={WRONG}&cursor={WRONG}&since={WRONG}", ADMIN_KEY, {}),
        ("GET", "/api/v1/interceptions?limit=500", ADMIN_KEY, {}),
        ("GET", "/api/v1/export", ADMIN_KEY, {}),
        ("GET", "/api/v1/session", "", {}),
        ("POST", "/api/v1/logout", "", {}),
    ):
        headers = [("x-aibridge-csrf", "1"), ("cookie", session)]
        headers += [("authorization", f"Bearer {key}")] if key else []
        async with new_client(port) as client:
            await client.ask(path, body, method=method, headers=headers)
            answer = await client.answer()
        session = answer.headers.get("set-cookie", session).partition(";")[0]
        told += repr(answer.headers).encode() + answer.body
    assert told.count(b'{"name":"ann"}') == 2
    assert b'"items":[{"id":"' in told
    return told


def contents(folder):
    return b"\n".join(path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file())


@pytest.mark.parametrize("mode", AUTH)
async def test_a_process_tells_no_secret(tmp_path, new_client, request_body, mode):
    async with EchoingUpstream() as upstream:
        file = write_config(tmp_path, f"http://127.0.0.1:{upstream.port}", AUTH[mode])
        async with running("serve", "--config", str(file), cwd=tmp_path, OTEL_TRACES_EXPORTER="console") as gateway:
            fields = await gateway.started()
            port, admin = (int(fields[name].rpartition(":")[2]) for name in ("data", "admin"))
            traffic = Traffic(port, new_client, request_body)
            await traffic.everything(LET_IN[mode])
            told = b"".join([await get(admin, path, new_client) for path in ADMIN])
            told += await ask_the_api(admin, new_client)
            await hang_and_drain(upstream, traffic, next(iter(LET_IN[mode].values())), gateway)
        check_controls(upstream, gateway, told)
        kept = contents(tmp_path / "records")
        assert b"anthropic" in kept
        answered = b"\n".join(traffic.answers)
        assert found_in(printed=gateway.printed, told=told, kept=kept, answered=answered) == {}


async def hang_and_drain(upstream, traffic, headers, gateway):
    """Leave one stream, and let the drain deadline end the others."""
    before = upstream.hanging
    async with traffic.new_client(traffic.port) as leaver:
        await leaver.ask("/anthropic/v1/messages", traffic.request_body(), headers=[*headers, ("x-end", "stall")])
        await leaver.read_until(b"hello")
    asked = [
        asyncio.create_task(traffic.ask(provider, end, headers, stream=stream))
        for provider in PROVIDERS
        for end in HANGS
        for stream in (True, False)
    ]
    await upstream.wait_for_hanging(before + 1 + len(asked))
    gateway.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*asked)
    assert await gateway.ended() == 0


def check_controls(upstream, gateway, told):
    """Assert that the secrets were there to be told, and that much was told."""
    heard = "".join(upstream.heard)
    assert all(secret in heard for secret in (API_KEY, AWS_SESSION, BEARER))
    assert not any(secret in heard for secret in (GATEWAY_CLEAR, GATEWAY_HASHED, AWS_SECRET))
    assert b"aibridge_interceptions_total" in told
    for termination in (b"completed", b"upstream_error", b"client_gone", b"gateway_error"):
        assert b'termination="%b"' % termination in told or b'"termination":"%b"' % termination in gateway.printed
    assert b"Intercept.ProcessRequest" in gateway.printed
    assert b"interception started" in gateway.printed


POOL = [secret(f"pool-{name}", "sk-ant-") for name in ("one", "two", "three")]


async def test_a_pool_tells_none_of_its_keys(tmp_path, new_client, request_body):
    """The upstream echoes each key to all who come later, and turns keys away at last."""
    async with EchoingUpstream(remembers=True) as upstream:
        keys = [{"key": key} for key in POOL]
        base = {"base_url": f"http://127.0.0.1:{upstream.port}", "byok": False}
        pooled = {"anthropic": {**base, "api_keys": keys, "key_choice": "spread"}}
        dumped = {"path": str(tmp_path / "dump")}
        file = write_config(tmp_path, "", AUTH["open"], providers=pooled, dump=dumped)
        async with running("serve", "--config", str(file), cwd=tmp_path, OTEL_TRACES_EXPORTER="console") as gateway:
            fields = await gateway.started()
            port, admin = (int(fields[name].rpartition(":")[2]) for name in ("data", "admin"))
            traffic = Traffic(port, new_client, request_body)
            for stream in (True, False):
                turned_away = {"status_401", "status_429"}
                for end in [one for one in ends_of("anthropic", stream=stream) if one not in turned_away]:
                    await traffic.ask("anthropic", end, [], stream=stream)
            assert all(key in "".join(upstream.heard) for key in POOL)
            for end in ENDS:
                await traffic.ask("anthropic", end, [], path="/v1/messages/count_tokens")
            for end in ("status_429", "status_401", "status_429"):
                await traffic.ask("anthropic", end, [])
            told = b"".join([await get(admin, path, new_client) for path in ADMIN])
            gateway.process.send_signal(signal.SIGTERM)
            assert await gateway.ended() == 0
        assert b'aibridge_key_pool_keys{provider="anthropic",state="cooling"} 3.0' in told
        assert b"keys_exhausted" in gateway.printed
        kept, dump = contents(tmp_path / "records"), contents(tmp_path / "dump")
        assert b"sk-a...9f2c" in dump
        answered = b"\n".join(traffic.answers)
        assert found_in(printed=gateway.printed, told=told, kept=kept, dump=dump, answered=answered) == {}


async def test_a_process_behind_a_proxy_tells_no_password(tmp_path, new_client, request_body):
    """The proxy is the one that echoes: it is sent its password with every request."""
    async with EchoingUpstream() as upstream:
        proxy = {"url": f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:{upstream.port}"}
        file = write_config(tmp_path, "http://upstream.invalid", AUTH["open"], proxy=proxy)
        async with running("serve", "--config", str(file), cwd=tmp_path, OTEL_TRACES_EXPORTER="console") as gateway:
            port = int((await gateway.started())["data"].rpartition(":")[2])
            traffic = Traffic(port, new_client, request_body)
            await traffic.everything(OWN)
            gateway.process.send_signal(signal.SIGTERM)
            assert await gateway.ended() == 0
        assert PROXY_PAIR in "".join(upstream.heard)
        kept, answered = contents(tmp_path / "records"), b"\n".join(traffic.answers)
        assert found_in(printed=gateway.printed, kept=kept, answered=answered) == {}


async def test_a_proxy_that_refuses_a_tunnel_tells_no_password(tmp_path, new_client, request_body):
    async def refuse(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head)
        writer.write(f"HTTP/1.1 407 {PROXY_PASSWORD} {PROXY_PAIR}\r\n\r\n".encode() + head)
        writer.close()

    heard = []
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        proxy = {"url": f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:{server.sockets[0].getsockname()[1]}"}
        file = write_config(tmp_path, "https://upstream.invalid", AUTH["open"], proxy=proxy)
        async with running("serve", "--config", str(file), cwd=tmp_path, OTEL_TRACES_EXPORTER="console") as gateway:
            traffic = Traffic(int((await gateway.started())["data"].rpartition(":")[2]), new_client, request_body)
            for provider in PROVIDERS:
                await traffic.ask(provider, "completed", OWN["key"])
            gateway.process.send_signal(signal.SIGTERM)
            assert await gateway.ended() == 0
        assert PROXY_PAIR.encode() in heard[0]
        assert b"the proxy refused: 407" in gateway.printed
        kept, answered = contents(tmp_path / "records"), b"\n".join(traffic.answers)
        assert found_in(printed=gateway.printed, kept=kept, answered=answered) == {}


def broken_files():
    good = {"providers": providers_at("http://h"), "auth": AUTH["keys"]}
    anthropic, bedrock = good["providers"]["anthropic"], good["providers"]["bedrock"]
    yield {**good, "auth": {"keys": [{"name": "a", "key": f"sha256:{HASH}0"}]}}
    yield {**good, "auth": {"keys": [{"name": "a", "key": GATEWAY_CLEAR}, {"name": "b", "key": GATEWAY_CLEAR}]}}
    yield {**good, "auth": {"keys": [{"name": f"a {WRONG}", "key": GATEWAY_CLEAR}]}}
    yield {**good, "auth": {"mode": "open", "keys": [{"name": "a", "key": GATEWAY_CLEAR}]}}
    yield {**good, "auth": {"mode": GATEWAY_CLEAR}}
    yield {**good, "admin": {"keys": [{"name": "a", "key": ADMIN_KEY}, {"name": "b", "key": ADMIN_KEY}]}}
    yield {**good, "admin": {"keys": [{"name": "a", "key": ADMIN_KEY[:15]}]}}
    yield {**good, "admin": {"keys": {"ann": ADMIN_KEY}}}
    yield {**good, "auth": {"mode": "header", "header": {"id": f"a {WRONG}", "networks": [WRONG]}}}
    yield {**good, "actor_headers": {"id": f"{WRONG}\x01"}}
    yield {**good, "proxy": {"url": f"https://u:{PROXY_PASSWORD}@h"}}
    yield {**good, "proxy": {"url": f"http://u:{PROXY_PASSWORD}@h:port"}}
    yield {**good, "providers": {"anthropic": {**anthropic, "base_url": f"http://u:{PROXY_PASSWORD}@h"}}}
    yield {**good, "providers": {"anthropic": {**anthropic, "api_key": f"{API_KEY} é"}}}
    yield {**good, "providers": {"anthropic": {**anthropic, "api_key": [API_KEY]}}}
    yield {**good, "providers": {"bedrock": {**bedrock, "access_key_id": None}}}
    yield {**good, "providers": {"bedrock": {**bedrock, "bearer_token": BEARER}}}
    yield {**good, "listen": {"host": "0.0.0.0"}, "auth": {}}


async def test_what_is_said_of_a_configuration_tells_no_secret(tmp_path, capfd):
    good = tmp_path / "good.yaml"
    keys = {"keys": [{"name": "ann", "key": ADMIN_KEY}]}
    good.write_text(json.dumps({"providers": providers_at("http://h"), "auth": AUTH["keys"], "admin": keys}))
    async with running("check", str(good), cwd=tmp_path) as checked:
        assert await checked.ended() == 0
    assert b'"name":"alice","key":"**********"' in checked.printed
    assert b'"name":"ann","key":"**********"' in checked.printed
    bad = tmp_path / "bad.yaml"
    for raw in broken_files():
        bad.write_text(json.dumps(raw))
        assert cli.main(["check", str(bad)]) == cli.main(["serve", "--config", str(bad)]) == 2, raw
    out, err = capfd.readouterr()
    assert "auth.keys.0.key: should have 64 hexadecimal digits" in err
    environ = {"AIBRIDGE_GATEWAY_KEYS": f"a b:{GATEWAY_CLEAR},sha256:{HASH}0", "ANTHROPIC_API_KEY": f"{API_KEY} é"}
    async with running("serve", cwd=tmp_path, **environ) as refused:
        assert await refused.ended() == 2
    assert found_in(checked=checked.printed, refused=refused.printed, broken=out + err) == {}


async def test_a_mistake_in_the_exporters_headers_is_told_without_the_key(tmp_path):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    exporter = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": f"Bearer {OTLP_KEY}"}
    file = write_config(tmp_path, "http://127.0.0.1:1", AUTH["open"])
    async with running("serve", "--config", str(file), cwd=tmp_path, **exporter) as gateway:
        await gateway.started()
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ended() == 0
    assert b"Header format invalid" in gateway.printed
    assert found_in(printed=gateway.printed) == {}


def test_an_error_that_nobody_waits_for_is_told_without_what_was_at_hand(capfd):
    before = logging.getLogger().handlers[:], logging.getLogger().level, logging.getLogger("aibridge").level
    log.setup("debug", sys.stderr)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(cli._log_unheard)
    try:
        context = {"message": "Task exception was never retrieved", "exception": Broken(API_KEY), "protocol": API_KEY}
        loop.call_exception_handler(context)
        loop.call_exception_handler({"message": "socket.send() raised exception.", "transport": API_KEY})
    finally:
        loop.close()
        logging.getLogger().handlers[:], root_level, level = before
        logging.getLogger().setLevel(root_level)
        logging.getLogger("aibridge").setLevel(level)
    told = capfd.readouterr().err
    assert "never retrieved" in told
    assert "test_canary.Broken" in told
    assert "socket.send()" in told
    assert found_in(told=told) == {}


# --- inside ----------------------------------------------------------------------------------------------------------


class Broken(Exception):
    """An error of ours, raised where secrets are at hand."""


def shown_objects():
    """Return the `repr` and the `str` of every object of ours that there is."""
    shown = {}
    for thing in gc.get_objects():
        module = str(type(thing).__module__)
        if module.startswith("aibridge.") and not module.startswith("aibridge.simulator."):
            shown.setdefault(type(thing).__name__, []).append(f"{thing!r} {thing!s}")
    return shown


@pytest.mark.parametrize("mode", AUTH)
async def test_no_object_shows_a_secret_and_no_book_tells_one(
    build_house, tmp_path, new_client, request_body, monkeypatch, capfd, mode
):
    headers = list(LET_IN[mode].values())[-1]
    more = {**LIMITS, "auth": AUTH[mode], "drain_deadline": 0.2, "timeouts": {"response": 20.0, "idle": 20.0}}
    async with EchoingUpstream() as upstream:
        url = f"http://127.0.0.1:{upstream.port}"
        more["proxy"] = {"url": f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:{upstream.port}"}
        async with build_house(base_url=url, provider=providers_at(url), **more) as house:
            traffic = Traffic(house.port, new_client, request_body)
            hanging = [
                asyncio.create_task(traffic.ask(provider, end, headers, stream=stream))
                for provider in PROVIDERS
                for end in HANGS
                for stream in (True, False)
            ]
            await upstream.wait_for_hanging(len(hanging))
            shown = shown_objects()
            await traffic.everything(LET_IN[mode])
            monkeypatch.setattr("aibridge.telemetry.tracing.Tracing.carry", fail_with_secrets)  # an interception
            monkeypatch.setattr("aibridge.upstream.Connection.send", fail_with_secrets)  # what is relayed only
            for provider in PROVIDERS:
                await traffic.ask(provider, "completed", headers)
            await traffic.ask("anthropic", "completed", headers, path="/v1/messages/count_tokens")
            monkeypatch.undo()
            shown_later = shown_objects()
            heard = "".join(upstream.heard)
            loaded = config.load(tmp_path / "aibridge.yaml", {})
            journal = contents_of_journal(house)
        await asyncio.gather(*hanging)
        house.tracing.flush()
    assert PROXY_PAIR in heard
    assert b"interceptions" in journal
    needed = {"AnthropicProvider", "BedrockProvider", "Exchange", "Connection", "UpstreamRequest", "PoolSettings"}
    assert needed | {"Interception", "ResponseHead", "Relay", "ClientStream", "App"} <= shown.keys()
    spans = "".join(span.to_json() for span in house.spans.get_finished_spans())
    lines = house.log.getvalue()
    assert "test_canary.Broken" in lines
    assert "Intercept" in spans
    out, err = capfd.readouterr()
    texts = [
        repr(loaded),
        str(loaded),
        loaded.model_dump_json(),
        str(loaded.model_dump()),
        str(config.describe(loaded)),
    ]
    assert found_in(
        shown=str(shown) + str(shown_later), spans=spans, log=lines, metrics=house.app.metrics.render()[0],
        config="".join(texts), kept=contents_of_records(house) + journal, printed=out + err,
        answered=b"\n".join(traffic.answers), outcomes=repr(house.outcomes),
    ) == {}  # fmt: skip


def echo_as_facts(heard):
    """Answer well, with the echo in all that is learned of an answer."""
    usage = {"input_tokens": 1, heard.words: 7, "nested": {heard.words: 3}, API_KEY: 2, "service_tier": API_KEY}
    message = {**MESSAGE, "id": heard.words, "model": heard.words, "stop_reason": heard.words, "usage": usage}
    if not heard.streaming:
        return heard.good(json.dumps({**message, "type": "message"}).encode())
    delta = heard.encode("message_delta", delta={"stop_reason": heard.words}, usage=usage)
    return heard.good(heard.encode("message_start", message=message) + delta + heard.encode("message_stop"))


async def test_what_is_learned_of_an_answer_holds_no_secret(build_house, new_client, request_body, monkeypatch):
    monkeypatch.setitem(ENDS, "facts", echo_as_facts)
    async with EchoingUpstream() as upstream:
        url = f"http://127.0.0.1:{upstream.port}"
        async with build_house(base_url=url, provider=providers_at(url)) as house:
            traffic = Traffic(house.port, new_client, request_body)
            for provider in PROVIDERS:
                for stream in (True, False):
                    await traffic.ask(provider, "facts", OWN["key"], stream=stream)
            books = await house.books(ended=6)
            kept = contents_of_records(house) + contents_of_journal(house)
            metrics, lines, outcomes = house.app.metrics.render()[0], house.log.getvalue(), repr(house.outcomes)
        spans = "".join(span.to_json() for span in house.spans.get_finished_spans())
    assert books.outcome.usage.input_tokens == 1
    assert "POST" in books.outcome.message_id
    assert found_in(kept=kept, metrics=metrics, log=lines, outcomes=outcomes, spans=spans) == {}


OPENAI_KEY, AZURE_KEY, BESIDE, IN_QUERY = secret("openai"), secret("azure"), secret("beside"), secret("query")


def openai_providers_at(url):
    return {
        "openai": {"base_url": f"{url}/v1", "api_key": OPENAI_KEY, "headers": {"helicone-auth": f"Bearer {BESIDE}"}},
        "azure": {
            "kind": "openai", "base_url": f"{url}/openai/v1", "api_key": AZURE_KEY, "api_key_header": "api-key",
            "query": {"api-version": "preview", "key": IN_QUERY},
        },
        "copilot": {"base_url": url},
    }  # fmt: skip


OPENAI_WAYS = {
    "openai": [[], [("authorization", f"Bearer {OWN_TOKEN}")]],
    "azure": [[], [("api-key", OWN_KEY)], [("authorization", f"Bearer {OWN_TOKEN}")]],
    "copilot": [[("authorization", f"Bearer {OWN_TOKEN}")]],
}


def openai_error(heard):
    return heard.good(f"data: {json.dumps({'error': {'message': heard.words, 'code': heard.words}})}\n\n".encode())


def failed_response(heard):
    response = {"id": heard.words, "model": heard.words, "error": {"code": heard.words, "message": heard.words}}
    return heard.good(event("response.failed", response=response))


def openai_facts(heard):
    """Answer well in both APIs at once, with the echo in all that is learned of an answer."""
    told = {
        "id": heard.words,
        "model": heard.words,
        "usage": {"prompt_tokens": 1, "input_tokens": 1, heard.words: 7, "nested": {API_KEY: 3}},
    }
    call = {"id": heard.words, "function": {"name": heard.words, "arguments": json.dumps({"a": heard.words})}}
    choice = {"index": 0, "finish_reason": heard.words}
    item = {"type": "function_call", "call_id": heard.words, "name": heard.words, "arguments": heard.words}
    output = {"output": [item], "incomplete_details": {"reason": heard.words}}
    if not heard.streaming:
        return heard.good(
            json.dumps({**told, **output, "choices": [{**choice, "message": {"tool_calls": [call]}}]}).encode()
        )
    chunk = {**told, "choices": [{**choice, "delta": {"tool_calls": [{"index": 0, **call}]}}]}
    whole = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    return heard.good(event("response.completed", response={**told, **output}) if heard.responses else whole)


def said_by_models(path, *, stream):
    """Return the ends that are no errors in an API: they go to the client as they are, secrets that they repeat too."""
    if not stream:
        return {"facts", "not_json", "failed", "openai_error"}
    return {"facts", "failed"} if path.startswith("/chat") else {"facts"}


@pytest.mark.parametrize("content", ["off", "full"])
async def test_no_secret_of_openais_providers_is_told(build_house, new_client, monkeypatch, content):
    """Keys, a bearer of the client's own, Azure's api-key, headers and parameters beside; every end, both APIs."""
    for name, end in {"openai_error": openai_error, "failed": failed_response, "facts": openai_facts}.items():
        monkeypatch.setitem(ENDS, name, end)
    kept_of_content = {"prompts": content, "arguments": content, "thoughts": content}
    async with EchoingUpstream() as upstream:
        url = f"http://127.0.0.1:{upstream.port}"
        more = {"provider": openai_providers_at(url), "records": {"content": kept_of_content}}
        async with build_house(**more) as house:
            asked, answers = 0, []
            for provider, ways in OPENAI_WAYS.items():
                mount = "" if provider == "copilot" else "/v1"
                for headers in ways:
                    for path, body in (("/chat/completions", {"messages": []}), ("/responses", {"input": "x"})):
                        for stream in (True, False):
                            for end in (*ENDS, *(STREAM_ENDS if stream else BODY_ENDS)):
                                async with new_client(house.port) as client:
                                    sent = {"model": "m", "stream": stream, **body}
                                    target = f"/{provider}{mount}{path}?api_key={quote(WRONG)}"
                                    await client.ask(target, sent, headers=[*headers, ("x-end", end)])
                                    answer = await client.answer()
                                    if end not in said_by_models(path, stream=stream):
                                        answers.append(f"{answer.status} {answer.headers}".encode() + answer.body)
                                    asked += 1
            await house.books(ended=asked)
            kept = contents_of_records(house) + contents_of_journal(house)
            metrics, lines, outcomes = house.app.metrics.render()[0], house.log.getvalue(), repr(house.outcomes)
            shown = shown_objects()
        spans = "".join(span.to_json() for span in house.spans.get_finished_spans())
    heard = "".join(upstream.heard)
    assert all(one in heard for one in (OPENAI_KEY, AZURE_KEY, BESIDE, IN_QUERY, OWN_TOKEN, OWN_KEY))
    assert "OpenAIProvider" in shown
    assert found_in(
        kept=kept, metrics=metrics, log=lines, outcomes=outcomes, spans=spans, shown=str(shown),
        answered=b"\n".join(answers),
    ) == {}  # fmt: skip


def fail_with_secrets(_, *given):
    """Fail as a library does that tells what it was given."""
    (request,) = (one for one in given if isinstance(one, UpstreamRequest))
    raise Broken(f"{given!r} {request.headers}") from ValueError(f"{request.target} {request.headers}")


def contents_of_records(house):
    files = Path(house.records).parent.glob(f"{Path(house.records).name}*")
    return b"".join(path.read_bytes() for path in files if path.is_file())


def contents_of_journal(house):
    return b"".join(path.read_bytes() for path in journal_folder(Path(house.records)).iterdir())
