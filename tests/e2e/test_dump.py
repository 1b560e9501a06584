"""The API dump over real sockets: what passed, attempt for attempt, and no credential in it."""

import asyncio
import hashlib
import json
import re
import socket
import stat

import httptools
import pytest
from waiting_kit import until

from aibridge import config
from aibridge.app import App
from aibridge.errors import ConfigError

BOTH = ("anthropic", "bedrock")
VERSION = ("anthropic-version", "2023-06-01")
PATIENCE = 20.0
NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}-\d+\.(req|resp|req_error)\.txt")
CANARY = "sk-ant-canary-7e57-0123456789"


class Parsed:
    """A dumped request or answer, as an HTTP parser reads it."""

    def __init__(self, text, parser):
        self.headers, self.body = {}, b""
        self._parser = parser(self)
        self._parser.feed_data(text)
        self.status = self._parser.get_status_code() if parser is httptools.HttpResponseParser else 0

    def on_header(self, name, value):
        self.headers.setdefault(name.decode(), []).append(value.decode())

    def on_body(self, body):
        self.body += body


class Dumped:
    """The files of a house's dump."""

    def __init__(self, folder):
        self.folder = folder

    async def flush(self, house):
        assert await asyncio.to_thread(house.app.dump_files.flush, PATIENCE)

    def names(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*.txt"))

    def read(self, name):
        return (self.folder / name).read_bytes()

    def request(self, name):
        return Parsed(self.read(f"{name}.req.txt"), httptools.HttpRequestParser)

    def response(self, name):
        return Parsed(self.read(f"{name}.resp.txt"), httptools.HttpResponseParser)


@pytest.fixture
def dumped(tmp_path):
    return Dumped(tmp_path / "dump")


@pytest.fixture
def build_dumping(build_house, dumped):
    def build(*, dump=None, **sections):
        return build_house(dump={"path": str(dumped.folder), **(dump or {})}, **sections)

    return build


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_what_passed_is_written_down(build_dumping, dumped, ask, provider, stream):
    async with build_dumping() as house:
        answer = await ask(house, provider, "many:50+split_random:1", stream=stream)
        assert answer.status == 200
        books = await house.books()
        books.check("completed", "clean", health="success")
        await dumped.flush(house)
        (done,) = await house.simulator.ledger.wait_for(1)
    name = f"{provider}/{books.interception.id}-1"
    assert dumped.names() == [f"{name}.req.txt", f"{name}.resp.txt"]
    request, response = dumped.request(name), dumped.response(name)
    assert hashlib.sha256(request.body).hexdigest() == done.request_sha256
    assert dumped.read(f"{name}.req.txt").startswith(f"POST {done.path} HTTP/1.1\r\n".encode())
    assert response.status == 200
    assert hashlib.sha256(response.body).hexdigest() == done.body_sha256
    if provider == "anthropic":
        assert response.body == answer.body
    for path in dumped.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize(("fault", "status"), [("status:429:7", 429), ("status:500", 500)])
async def test_an_error_answer_is_written_down(build_dumping, dumped, ask, provider, fault, status):
    async with build_dumping() as house:
        await ask(house, provider, fault)
        books = await house.books()
        await dumped.flush(house)
    name = f"{provider}/{books.interception.id}-1"
    assert dumped.names() == [f"{name}.req.txt", f"{name}.resp.txt"]
    response = dumped.response(name)
    assert response.status == status
    assert json.loads(response.body)
    assert response.headers.get("retry-after") == (["7"] if status == 429 else None)


async def test_a_stream_that_breaks_off_leaves_what_came_and_why(build_dumping, dumped, ask):
    async with build_dumping() as house:
        await ask(house, "anthropic", "rst@3")
        books = await house.books()
        await dumped.flush(house)
    name = f"anthropic/{books.interception.id}-1"
    assert dumped.names() == [f"{name}.req.txt", f"{name}.req_error.txt", f"{name}.resp.txt"]
    assert dumped.read(f"{name}.req_error.txt").startswith(b"connection_reset: ")
    assert dumped.response(name).body.count(b"event: ") == 3


async def test_a_client_that_leaves_leaves_what_came(build_dumping, dumped, new_client, request_body):
    async with build_dumping() as house, new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", request_body(), headers=[("x-sim-fault", "stall@5"), VERSION])
        await client.read_until(b"event: content_block_delta")
        client.reset()
        books = await house.books()
        await dumped.flush(house)
    name = f"anthropic/{books.interception.id}-1"
    assert dumped.names() == [f"{name}.req.txt", f"{name}.resp.txt"]
    assert b"content_block_delta" in dumped.response(name).body


async def test_nobody_listens(build_dumping, dumped, ask):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{holder.getsockname()[1]}"
        async with build_dumping(base_url=url) as house:
            assert (await ask(house, "anthropic")).status == 502
            books = await house.books()
            await dumped.flush(house)
    assert dumped.names() == [f"anthropic/{books.interception.id}-1.req_error.txt"]
    assert b"connect_failed: cannot connect" in dumped.read(dumped.names()[0])


async def test_attempts_are_kept_apart(build_dumping, dumped, ask):
    async with build_dumping() as house:
        assert (await ask(house, "anthropic", "stale")).status == 200
        assert (await ask(house, "anthropic")).status == 200
        books = await house.books(ended=2)
        await dumped.flush(house)
    first, second = (f"anthropic/{books.interception.id}-{number}" for number in (1, 2))
    of_this = [name for name in dumped.names() if books.interception.id in name]
    assert of_this == [f"{first}.req.txt", f"{first}.req_error.txt", f"{second}.req.txt", f"{second}.resp.txt"]
    assert dumped.request(first).body == dumped.request(second).body
    assert b"message_stop" in dumped.response(second).body


async def test_what_is_relayed_only_is_written_down_too(build_dumping, dumped, new_client):
    async with build_dumping() as house, new_client(house.port) as client:
        await client.ask("/anthropic/v1/models?limit=2&api_key=" + CANARY, b"", method="GET", headers=[VERSION])
        answer = await client.answer()
        assert answer.status == 200
        await dumped.flush(house)
    request, response = dumped.names()
    assert re.fullmatch(r"anthropic/passthrough/[0-9a-f-]{36}-1\.req\.txt", request)
    assert dumped.read(request).startswith(b"GET /v1/models?limit=2&api_key=sk-a...6789 HTTP/1.1\r\n")
    assert dumped.response(response.removesuffix(".resp.txt")).body == answer.body


async def test_a_relayed_request_that_fails_leaves_why(build_dumping, dumped, new_client):
    async with build_dumping() as house, new_client(house.port) as client:
        headers = [("x-sim-fault", "close_in_body@10"), VERSION]
        await client.ask("/anthropic/v1/models", b"", method="GET", headers=headers)
        assert (await client.answer()).status == 502
        await dumped.flush(house)
    assert [name.partition("-1.")[2] for name in dumped.names()] == ["req.txt", "req_error.txt", "resp.txt"]
    assert b"closed the connection inside its answer" in dumped.read(dumped.names()[1])


@pytest.mark.parametrize("model", ["../../../../escaped", "..", "/etc/passwd", "a/b\\c", "m" * 5000])
async def test_no_path_comes_from_a_model_name(build_dumping, dumped, tmp_path, new_client, request_body, model):
    async with build_dumping() as house, new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", request_body(model=model), headers=[VERSION])
        await client.answer()
        books = await house.books()
        await dumped.flush(house)
    assert books.interception.model == model
    assert [path.name for path in tmp_path.rglob("*escaped*")] == []
    assert {path.parent for path in tmp_path.rglob("*.txt")} == {dumped.folder / "anthropic"}
    assert all(NAME.fullmatch(path.name) for path in tmp_path.rglob("*.txt"))


@pytest.mark.parametrize(
    "credential",
    [("x-api-key", CANARY), ("authorization", f"Bearer {CANARY}")],
    ids=["api-key", "bearer"],
)
async def test_no_credential_is_written_down_though_the_upstream_repeats_it(
    build_dumping, dumped, new_client, request_body, credential
):
    """The upstream says the client's own key in its headers and, over two packets, in its body."""
    first, second = CANARY[:11], CANARY[11:]

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 401 X\r\ncontent-type: application/json\r\nset-cookie: a=%b\r\n" % CANARY.encode())
        writer.write(b"x-odd: it was %b\r\n" % CANARY.encode())
        writer.write(b'www-authenticate: Bearer %b\r\n\r\n{"error":{"message":"%b' % (CANARY.encode(), first.encode()))
        await writer.drain()
        await go_on.wait()
        writer.write(second.encode() + b' is wrong"}}')
        writer.close()

    go_on = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, build_dumping(base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as house:
        async with new_client(house.port) as client:
            await client.ask(
                "/anthropic/v1/messages", request_body(), headers=[credential, VERSION, ("cookie", CANARY)]
            )
            await until(lambda: first.encode() in gathered(house))
            await dumped.flush(house)  # so that the two halves are written in two goes
            go_on.set()
            assert CANARY not in (await client.answer()).body.decode()
        await house.books()
        await dumped.flush(house)
    text = b"".join(path.read_bytes() for path in dumped.folder.rglob("*.txt")).decode()
    assert "is wrong" in text
    assert "sk-a...6789" in text
    assert CANARY not in text
    assert second not in text


def gathered(house):
    """What the gateway has taken of the answer so far."""
    return b"".join(piece for exchange in house.app.gateway._live for piece in exchange._body)


@pytest.mark.parametrize("token", [None, "session-token-canary/0123456789+abc=="])
async def test_no_credential_of_aws_is_written_down(build_dumping, dumped, ask, token):
    provider = {"bedrock": {"session_token": token}} if token else {}
    async with build_dumping(provider=provider) as house:
        await ask(house, "bedrock")
        books = await house.books()
        await dumped.flush(house)
    request = dumped.request(f"bedrock/{books.interception.id}-1")
    (authorization,) = request.headers["authorization"]
    assert re.fullmatch(r"AWS4-HMAC-SHA256 Cred\.\.\.[0-9a-f]{4}", authorization)
    text = b"".join(path.read_bytes() for path in dumped.folder.rglob("*.txt")).decode("latin-1")
    assert config.SIMULATOR_SECRET_ACCESS_KEY not in text
    assert config.SIMULATOR_ACCESS_KEY_ID not in text
    if token:
        assert token not in text
        assert request.headers["x-amz-security-token"] == ["sess...bc=="]


async def test_its_bound_of_a_body(build_dumping, dumped, ask):
    async with build_dumping(dump={"max_body_bytes": 1000, "max_total_bytes": 100_000}) as house:
        answer = await ask(house, "anthropic", "many:200", metadata={"user_id": "u" * 2000})
        assert answer.complete
        assert answer.events[-1] == "message_stop", "the client gets it all"
        books = await house.books()
        await dumped.flush(house)
    name = f"anthropic/{books.interception.id}-1"
    assert dumped.response(name).body == answer.body[:1000]
    request = dumped.request(name)
    assert len(request.body) == 1000
    assert int(request.headers["x-aibridge-dump-left-out"][0]) > 1000


async def test_a_dump_that_cannot_be_written_hurts_nobody(build_dumping, dumped, ask):
    async with build_dumping() as house:
        for folder in ("anthropic/passthrough", "anthropic"):
            (dumped.folder / folder).rmdir()
        (dumped.folder / "anthropic").write_text("a file where the folder was")
        for number in range(1, 4):
            answer = await ask(house, "anthropic")
            assert answer.events[-1] == "message_stop"
            assert (await house.books(ended=number)).outcome.termination.value == "completed"
        await dumped.flush(house)
        assert house.metric("aibridge_dumps_lost_total") == 6
        lines = [line for line in house.lines() if line["message"] == "dumps are being lost"]
        assert len(lines) == 1


async def test_a_folder_that_cannot_be_had_stops_the_start(build_dumping, dumped):
    dumped.folder.write_text("")
    with pytest.raises(ConfigError, match=r"dump\.path: .*dump: File exists"):
        async with build_dumping():
            pass


async def test_off_there_is_nothing(build_house, ask, tmp_path):
    async with build_house() as house:
        await ask(house, "anthropic")
        await house.books()
        assert house.app.dump_files is None
        assert isinstance(house.app, App)
        assert all(around.tee is None for around in house.app.gateway._around.values())
    assert list(tmp_path.rglob("*.txt")) == []
