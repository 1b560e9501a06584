"""Requests that are relayed only: whole answers pass, broken ones become refusals, a client that left is let go."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from aibridge.errors import RequestRejected
from aibridge.headers import to_client
from aibridge.passthrough import Passthrough
from aibridge.providers.base import Answer
from aibridge.surroundings import Deadlines
from aibridge.upstream import Pool, PoolSettings
from aibridge.values import Credential, CredentialKind, UpstreamRequest

PATIENCE = 20.0
SHORT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def as_it_came(head, body):
    return Answer(head.status, to_client(head.headers), body)


class Client:
    """Stands in for the stream to a client: keeps what it is told to say."""

    def __init__(self, *, lost=False):
        self.lost = lost
        self.listener = None
        self.said = []

    def respond(self, status, headers, body):
        self.said.append((status, headers, body))

    def leave(self):
        self.lost = True
        self.listener.client_lost()


class Upstream:
    """Answers every request on every connection with the same bytes, and then closes, hangs, or waits for the next."""

    def __init__(self, answer=SHORT, then="next"):
        self.answer = answer
        self.then = then
        self.accepted = 0
        self.requests = []
        self.live = set()
        self.news = asyncio.Event()

    async def play(self, reader, writer):
        self.live.add(asyncio.current_task())
        self.accepted += 1
        self.news.set()
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.news.set()
                writer.write(self.answer)
                await writer.drain()
                if self.then == "close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self.live.discard(asyncio.current_task())
            self.news.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def upstream(answer=SHORT, then="next"):
    """A running upstream, the request to it, and a pool."""
    far = Upstream(answer, then)
    server = await asyncio.start_server(far.play, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = Pool(PoolSettings(proxy_from_environment=False))
    try:
        yield far, request_to(port), pool
    finally:
        pool.close()
        server.close()
        for task in list(far.live):
            task.cancel()
        await asyncio.gather(*far.live, return_exceptions=True)


def request_to(port):
    return UpstreamRequest(
        method="GET",
        origin=f"http://127.0.0.1:{port}",
        target="/v1/models",
        headers=((b"host", b"upstream"),),
        body=b"",
        credential=Credential(CredentialKind.CENTRALIZED, ""),
    )


def deadlines(response):
    return Deadlines(
        connect=PATIENCE, response=response, idle=PATIENCE, client_stall=PATIENCE, ping=PATIENCE, commit=PATIENCE
    )


async def relay(client, pool, request, *, max_bytes=1000, timeout=PATIENCE):  # noqa: ASYNC109 - of the code under test
    await Passthrough(client, pool, as_it_came, max_bytes).run(request, deadlines(timeout))


@pytest.mark.parametrize("status", [200, 404, 429, 529])
async def test_an_answer_passes_whole_and_its_connection_is_kept(status):
    answer = (
        b"HTTP/1.1 %d X\r\nrequest-id: req_1\r\nset-cookie: a=b\r\nx-aibridge-id: forged\r\nretry-after: 3\r\n"
        b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" % status
    )
    async with upstream(answer) as (far, request, pool):
        for _ in range(2):
            client = Client()
            await relay(client, pool, request)
            assert client.said == [(status, ((b"request-id", b"req_1"), (b"retry-after", b"3")), b"abcde")]
            assert client.listener is None
        assert far.accepted == 1
        assert far.requests == [b"GET /v1/models HTTP/1.1\r\nhost: upstream\r\n\r\n"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
    ],
)
async def test_a_broken_answer_is_a_502_and_nothing_of_it_passes(answer):
    async with upstream(answer, "close") as (far, request, pool):
        client = Client()
        with pytest.raises(RequestRejected) as refused:
            await relay(client, pool, request)
        assert (refused.value.reason, refused.value.status) == ("upstream_failed", 502)
        assert client.said == []
        assert client.listener is None
        await far.until(lambda far: not far.live)


async def test_an_answer_at_the_bound_passes():
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000
    async with upstream(answer) as (_, request, pool):
        client = Client()
        await relay(client, pool, request)
        assert client.said[0][2] == b"x" * 1000


async def test_nobody_listens():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        pool = Pool(PoolSettings(proxy_from_environment=False))
        with pytest.raises(RequestRejected) as refused:
            await relay(Client(), pool, request_to(holder.getsockname()[1]))
    assert (refused.value.reason, refused.value.status) == ("upstream_failed", 502)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc"])
async def test_an_answer_that_does_not_come_in_time_is_a_504(answer):
    async with upstream(answer) as (far, request, pool):
        client = Client()
        with pytest.raises(RequestRejected) as refused:
            await relay(client, pool, request, timeout=0.05)
        assert (refused.value.reason, refused.value.status) == ("upstream_timeout", 504)
        assert client.said == []
        await far.until(lambda far: not far.live)


async def test_a_client_that_leaves_closes_the_upstream():
    async with upstream(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc") as (far, request, pool):
        client = Client()
        running = asyncio.create_task(relay(client, pool, request))
        await far.until(lambda far: far.requests)
        client.leave()
        async with asyncio.timeout(PATIENCE):
            await running
        await far.until(lambda far: not far.live)
        assert client.said == []


async def test_for_a_client_that_has_left_nothing_is_asked():
    async with upstream() as (far, request, pool):
        client = Client(lost=True)
        async with asyncio.timeout(PATIENCE):
            await relay(client, pool, request)
        assert client.said == []
        assert far.accepted == 0


async def test_a_client_that_leaves_while_connecting_leaves_the_connection_to_others():
    async with upstream() as (far, request, pool):
        client = Client()

        class LeavingMeanwhile:
            take, put = pool.take, pool.put

            async def connect(self, origin):
                connection = await pool.connect(origin)
                client.leave()
                return connection

        await relay(client, LeavingMeanwhile(), request)
        assert (client.said, far.requests) == ([], [])
        await relay(Client(), pool, request)
        assert far.accepted == 1


async def test_a_secret_that_an_upstream_echoes_is_cut_to_its_hint():
    answer = b"HTTP/1.1 403 No\r\ncontent-length: 45\r\n\r\nthis key opens nothing: sk-ant-0123456789-abcd"[:-1]
    async with upstream(answer) as (_, request, pool):
        client = Client()
        sent = request._replace(headers=(*request.headers, (b"x-api-key", b"sk-ant-0123456789-abc")))
        await relay(client, pool, sent)
        assert client.said[0][2] == b"this key opens nothing: sk-a...-abc"
