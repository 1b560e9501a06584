"""Tool servers on loopback: the SDK's own, and raw ones that misbehave."""

import asyncio
import base64
import contextlib
import socket

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ListToolsResult,
    TextContent,
    TextResourceContents,
    Tool,
)
from waiting_kit import until

from aibridge.mcp.servers import ToolServers
from aibridge.mcp.sessions import Pace, load_connect
from aibridge.mcp.values import Endpoint, ServerSettings, State
from aibridge.toolloop.base import ToolCall

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
QUICK = Pace(first=0.02, most=0.1, refresh=0.2, pause=0.01)


def tools_server(events=None):
    """Return a server of the SDK's, with one tool for each kind of answer."""
    server = MCPServer("kit")
    events = [] if events is None else events

    @server.tool()
    def add(a: int, b: int) -> str:
        return str(a + b)

    @server.tool()
    def fail() -> str:
        raise ValueError("no such thing")

    @server.tool()
    async def sleep(seconds: float) -> str:
        events.append("began")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        return "slept"

    @server.tool()
    def picture() -> CallToolResult:
        return CallToolResult(content=[ImageContent(type="image", data=PIXEL, mime_type="image/png")])

    @server.tool()
    def resources() -> CallToolResult:
        text = TextResourceContents(uri="file:///a.txt", mime_type="text/plain", text="of a file")
        blob = BlobResourceContents(uri="file:///a.zip", mime_type="application/zip", blob=PIXEL)
        return CallToolResult(content=[EmbeddedResource(type="resource", resource=one) for one in (text, blob)])

    @server.tool()
    def says_no() -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="not today")], is_error=True)

    @server.tool()
    def long() -> str:
        return "x" * 1_000_000

    return server


def listing_server(tools, page=0):
    """Return a server that lists what stands in `tools`, names or whole tools, `page` at a time."""

    async def list_tools(_context, params):
        start = int(params.cursor) if params is not None and params.cursor else 0
        end = start + (page or len(tools))
        some = [one if isinstance(one, Tool) else tool_named(one) for one in tools[start:end]]
        return ListToolsResult(tools=some, next_cursor=str(end) if end < len(tools) else None)

    async def call_tool(_context, params):
        return CallToolResult(content=[TextContent(type="text", text=params.name)])

    return Server("listing", on_list_tools=list_tools, on_call_tool=call_tool)


def tool_named(name, schema=None):
    return Tool(name=name, description=f"does {name}", input_schema={"type": "object"} if schema is None else schema)


class Recorded:
    """An ASGI application, and the headers of the requests that it got."""

    def __init__(self, app):
        self.app = app
        self.heads = []
        self.bodies = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.heads.append({name.decode(): value.decode() for name, value in scope["headers"]})

        async def heard():
            message = await receive()
            if message["type"] == "http.request":
                self.bodies.append(message["body"])
            return message

        await self.app(scope, heard, send)


@contextlib.asynccontextmanager
async def serving(app, port=0):
    """Serve an ASGI application, or a server of the SDK's; yield its URL."""
    if hasattr(app, "streamable_http_app"):
        app = app.streamable_http_app()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=0))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 20)
        sock.close()


@contextlib.asynccontextmanager
async def raw_serving(handle):
    """Serve bytes: `handle(head, body, writer)` answers each request, and the connection is closed behind it."""

    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        # A task that ends as cancelled would be told as a fault by the streams of Python 3.11.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
            body = await reader.readexactly(int(length))
            await handle(head, body, writer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def settings(url, *, headers=(), connect=10.0, call=30.0, **more):
    return ServerSettings(Endpoint(url, headers=headers, connect=connect, call=call), **more)


@contextlib.asynccontextmanager
async def kept(servers, pace=QUICK, **options):
    """Keep sessions with these servers: settings, or a URL, by name; the first trial of each has ended."""
    said = {name: settings(one) if isinstance(one, str) else one for name, one in servers.items()}
    running = ToolServers(said, load_connect(), pace=pace, **options)
    await running.start()
    try:
        await running.connected()
        yield running
    finally:
        await running.close()


def call(tool, arguments="{}"):
    return ToolCall("toolu_1", tool, arguments)


def text_of(ran):
    return "".join(part.text for part in ran.result.content)


def state_of(servers, name="kit"):
    return next(one for one in servers.states() if one.name == name)


def is_up(servers, name="kit"):
    return state_of(servers, name).state is State.UP
