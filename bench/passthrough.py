"""The plain alternative: an aiohttp handler and an aiohttp client on uvloop, passing everything through.

Usage: passthrough.py UPSTREAM_URL [CA_FILE]. Prints the port it listens on.
"""

import asyncio
import signal
import ssl
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDictProxy

HOP_BY_HOP = {"host", "connection", "keep-alive", "transfer-encoding"}


def _passed(headers: CIMultiDictProxy[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP]


async def _serve(upstream: str, authority: str | None) -> None:
    trust = ssl.create_default_context(cafile=authority) if authority else True
    connector = TCPConnector(limit=0, ssl=trust)
    async with ClientSession(
        upstream, connector=connector, timeout=ClientTimeout(total=None), auto_decompress=False
    ) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            async with session.post(request.rel_url, data=body, headers=_passed(request.headers)) as answer:
                out = web.StreamResponse(status=answer.status, headers=dict(_passed(answer.headers)))
                await out.prepare(request)
                async for chunk in answer.content.iter_any():
                    await out.write(chunk)
                await out.write_eof()
                return out

        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        print(runner.addresses[0][1], flush=True)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
