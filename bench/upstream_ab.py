"""HTTP out, two ways: aiohttp's ClientSession, and our Pool. CPU of this process alone, per request and per chunk.

`python bench/upstream_ab.py` starts a small server in a process of its own and asks it, a fixed number of requests at a
time, in interleaved rounds. It supports decision 0005; the whole gateway is measured by gateway.py.
"""

import asyncio
import multiprocessing
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

import aiohttp
import uvloop

from aibridge.lifecycle import Signal
from aibridge.upstream import Origin, Pool, PoolSettings
from aibridge.values import Credential, CredentialKind, ResponseHead, UpstreamRequest

TOGETHER = 16
REQUESTS = 4000
STREAMS = 200
CHUNKS = 200
ROUNDS = 7
BODY = b'{"model":"claude-sonnet-4-5","max_tokens":64,"messages":[{"role":"user","content":"%b"}]}' % (b"x" * 1000)
ANSWER = b'{"type":"message","content":[{"type":"text","text":"%b"}]}' % (b"y" * 600)
EVENT = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"hello"}}\n\n'

Ask = Callable[[str], Awaitable[int]]


class _Server(asyncio.Protocol):
    """Answers /whole at once, and /chunks with one chunk a pass of the loop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._asked = bytearray()

    def data_received(self, data: bytes) -> None:
        self._asked += data
        if not self._asked.endswith(b"]}"):
            return
        stream = self._asked.startswith(b"POST /chunks")
        self._asked.clear()
        if stream:
            self._transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")  # type: ignore[attr-defined]
            self._next(CHUNKS)
        else:
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))  # type: ignore[attr-defined]

    def _next(self, left: int) -> None:
        chunk = b"%x\r\n%b\r\n" % (len(EVENT), EVENT) if left else b"0\r\n\r\n"
        self._transport.write(chunk)  # type: ignore[attr-defined]
        if left:
            asyncio.get_running_loop().call_later(0.002, self._next, left - 1)


def serve(told: "multiprocessing.Queue[int]") -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
        told.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


class _Sink:
    """Counts the bytes of one answer."""

    def __init__(self) -> None:
        self.size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def head_received(self, head: ResponseHead) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.size += len(data)

    def body_ended(self) -> None:
        self.done.set_result(None)

    def upstream_failed(self, signal: Signal, error: str) -> None:
        self.done.set_exception(RuntimeError(f"{signal}: {error}"))


def by_pool(url: str, pool: Pool) -> Ask:
    async def ask(target: str) -> int:
        origin = Origin.of(url)
        headers = ((b"host", origin.authority.encode()), (b"content-length", b"%d" % len(BODY)))
        credential = Credential(CredentialKind.CENTRALIZED, "")
        request = UpstreamRequest(
            method="POST", origin=url, target=target, headers=headers, body=BODY, credential=credential
        )
        connection = pool.take(origin) or await pool.connect(origin)
        sink = _Sink()
        connection.send(request, sink)
        await sink.done
        connection.release()
        return sink.size

    return ask


def by_session(url: str, session: aiohttp.ClientSession) -> Ask:
    async def ask(target: str) -> int:
        size = 0
        async with session.post(url + target, data=BODY) as answer:
            async for chunk in answer.content.iter_any():
                size += len(chunk)
        return size

    return ask


async def spent(ask: Ask, target: str, requests: int, together: int, wanted: int) -> float:
    """Seconds of CPU for so many requests, `together` at a time; each answer is `wanted` bytes."""
    left = requests

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if await ask(target) != wanted:
                raise RuntimeError("a short answer")

    begun = time.process_time()
    await asyncio.gather(*(work() for _ in range(together)))
    return time.process_time() - begun


async def measure(url: str) -> None:
    pool = Pool(PoolSettings())
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        ways = {"aiohttp": by_session(url, session), "pool": by_pool(url, pool)}
        for target, requests, together, wanted, unit, units in (
            ("/whole", REQUESTS, TOGETHER, len(ANSWER), "request", REQUESTS),
            ("/chunks", STREAMS, STREAMS, len(EVENT) * CHUNKS, "chunk", STREAMS * CHUNKS),
        ):
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(ROUNDS + 1):
                for name in sorted(ways, reverse=bool(turn % 2)):
                    seconds = await spent(ways[name], target, requests, together, wanted)
                    if turn:  # the first is a warm-up
                        taken[name].append(seconds / units * 1e6)
            ratio = statistics.median(a / b for a, b in zip(taken["aiohttp"], taken["pool"], strict=True))
            for name, micros in taken.items():
                low, middle, high = min(micros), statistics.median(micros), max(micros)
                print(f"{name:<8} {middle:6.1f} µs CPU a {unit} ({low:.1f} to {high:.1f})")
            print(f"aiohttp / pool, a {unit}: {ratio:.2f}\n")
    pool.close()


def main() -> None:
    told: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(told,), daemon=True)
    server.start()
    print(f"Python {platform.python_version()}, aiohttp {version('aiohttp')}, httptools {version('httptools')}\n")
    uvloop.run(measure(f"http://127.0.0.1:{told.get(timeout=10)}"))
    server.terminate()


if __name__ == "__main__":
    main()
