"""A session with a tool server, over streamable HTTP. The door to the `mcp` SDK, and to its HTTP client.

Importing it takes about half a second and 27 MB, so that it is loaded by name, where a server is configured
(`sessions.py`). Three things are done for the SDK here, since servers may be hostile, and one call must not end the
session of the others:

- `_GuardedClient` bounds the bodies that the SDK gathers, and turns an error of the network into an answer to the one
  request; in the SDK it would end the session.
- A call runs in a task of its own, so that who gives it up does not wait until the server was told.
- Output schemas are not checked (`ClientSession.call_tool` would): a server's pattern could hold up the event loop.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    CONNECTION_CLOSED,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    PaginatedRequestParams,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from aibridge import __version__, jsontext
from aibridge.credentials import redact, worth_hiding
from aibridge.errors import ToolServerError, ToolSessionGone
from aibridge.mcp.values import Endpoint, Listed
from aibridge.text import bounded

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Of an answer, and of one event: a result with pictures, a page of tools."""
MAX_TOOLS = 1000
"""That a server may list, before any is left out."""
MAX_PAGES = 1000
MAX_ABANDONED = 32
"""Calls given up, of which a server may keep the answer open; then the session is renewed."""
MAX_NAMES = 5000
"""Of tools, over all lists: the SDK remembers each."""

_NOTICE = 5.0
"""Seconds for a server to take what is not to be answered: a cancellation, the end of the session."""
_BEYOND = 5.0
"""Seconds that an answer may be silent beyond a call's own time limit, which is kept elsewhere."""
_LISTEN_AGAIN = 5.0
_MAX_WORDS = 300
_SESSION_GONE = -32099
"""Of those that JSON-RPC leaves to implementations: between the HTTP client here and the `Session`."""

# The SDK logs tracebacks, session ids and what servers say. What counts is told by us, in our own words.
for _name in ("mcp", "client", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_WORDS: dict[type[Exception], str] = {
    httpx2.ConnectError: "it cannot be reached",
    httpx2.ConnectTimeout: "it cannot be reached in time",
    httpx2.ReadTimeout: "it does not answer in time",
    httpx2.ProxyError: "the proxy does not lead to it",
}


class _TooMuch(httpx2.StreamError):
    """A body that is too long, or breaks off. The SDK answers the one request with an error."""


class _Bounded(httpx2.AsyncByteStream):
    """A body, with its bound."""

    def __init__(self, inner: httpx2.AsyncByteStream, limit: int) -> None:
        self._inner = inner
        self._left = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._left -= len(chunk)
                if self._left < 0:
                    raise _TooMuch("the answer is too long")
                yield chunk
        except httpx2.TransportError as error:
            raise _TooMuch("the answer broke off") from error

    async def aclose(self) -> None:
        await self._inner.aclose()


class _GuardedClient(httpx2.AsyncClient):
    """An HTTP client whose requests are always answered; if not by the server, by itself with an error."""

    def __init__(self, endpoint: Endpoint) -> None:
        timeout = httpx2.Timeout(endpoint.connect, read=endpoint.call + _BEYOND)
        super().__init__(
            headers={"user-agent": f"aibridge/{__version__}", **dict(endpoint.headers), "accept-encoding": "identity"},
            timeout=timeout,
            verify=_tls(endpoint),
            proxy=endpoint.proxy,
            trust_env=endpoint.proxy_from_environment,
            limits=httpx2.Limits(max_connections=None),
        )
        self.trouble = ""
        """Of the last request, in words."""
        self.gone = False

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        notice = _prepare(request)
        try:
            response = await super().send(request, **options)
        except httpx2.TransportError as error:
            self.trouble = _WORDS.get(type(error), "the connection broke")
            return _instead(request, self.trouble, notice=notice)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            self.trouble = "it compresses what it should not"
            return _instead(request, self.trouble, notice=notice)
        self.trouble = "" if response.is_success else f"HTTP status {response.status_code}"
        if response.status_code == httpx2.codes.NOT_FOUND and "mcp-session-id" in request.headers:
            await response.aclose()
            self.gone = True  # "the client MUST start a new session"
            return _instead(request, "it does not know the session any more", notice=notice, code=_SESSION_GONE)
        streams = response.is_success and response.headers.get("content-type", "").startswith("text/event-stream")
        if not streams:  # of events each is bounded, by the SDK
            assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101 - it is an asynchronous client
            response.stream = _Bounded(response.stream, MAX_BODY_BYTES)
        return response


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=endpoint.ca_file)
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _prepare(request: httpx2.Request) -> bool:
    """Give a request the time that its kind needs. Returns whether it is one that is not to be answered."""
    method, notice = _kind(request)
    timeout = request.extensions["timeout"]
    if request.method == "GET" or method == "subscriptions/listen":
        timeout["read"] = None  # streams that are silent until something changes
    elif notice or request.method == "DELETE":
        timeout["read"] = _NOTICE
    return notice


def _kind(request: httpx2.Request) -> tuple[str, bool]:
    if request.method != "POST":
        return "", False
    message = jsontext.loads(request.content)
    return jsontext.text_of(message.get("method")), "id" not in message


def _instead(request: httpx2.Request, words: str, *, notice: bool, code: int = CONNECTION_CLOSED) -> httpx2.Response:
    if notice:
        return httpx2.Response(202, request=request)
    error = {"jsonrpc": "2.0", "id": 0, "error": {"code": code, "message": words}}
    return httpx2.Response(
        503, headers={"content-type": "application/json"}, content=jsontext.dumps(error), request=request
    )


class Session:
    """A session that is set up: see `Link`."""

    def __init__(self, client: Client, http: _GuardedClient, endpoint: Endpoint) -> None:
        self._client = client
        self._http = http
        self._secrets = worth_hiding(*(value for _, value in endpoint.headers))
        self._calls: set[asyncio.Task[CallToolResult]] = set()
        self._abandoned = 0
        self._names: set[str] = set()

    @property
    def gone(self) -> bool:
        """See `Link`."""
        return self._http.gone

    @property
    def worn(self) -> bool:
        """See `Link`."""
        return self._abandoned >= MAX_ABANDONED or len(self._names) >= MAX_NAMES

    async def list_tools(self) -> list[Listed]:
        """See `Link`."""
        try:
            return await self._all_pages()
        except MCPError as error:
            raise ToolServerError(self._words(error), broken=True) from None
        except (ValueError, RuntimeError):  # pydantic's errors quote what the server said
            raise ToolServerError("its list of tools is not one of MCP", broken=True) from None

    async def _all_pages(self) -> list[Listed]:
        listed: list[Listed] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._client.session.list_tools(params=PaginatedRequestParams(cursor=cursor))
            listed += [
                Listed(tool.name, tool.description or tool.title or "", tool.input_schema) for tool in page.tools
            ]
            if len(listed) > MAX_TOOLS:
                raise ToolServerError(f"it lists more than {MAX_TOOLS} tools", broken=True)
            cursor = page.next_cursor
            if not cursor:
                self._names.update(item.name for item in listed)
                return listed
        raise ToolServerError("its list of tools does not end", broken=True)

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """See `Link`."""
        task = asyncio.create_task(self._request(name, arguments))
        self._calls.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            self._abandoned += 1
            task.cancel()
            raise
        if task.cancelled():
            raise ToolServerError("the session ended", broken=True)
        try:
            result = task.result()
        except MCPError as error:
            if error.code == _SESSION_GONE:
                raise ToolSessionGone(self._words(error), broken=True) from None
            raise ToolServerError(self._words(error), broken=error.code == CONNECTION_CLOSED) from None
        except Exception:  # noqa: BLE001 - pydantic's, or the SDK's own: whatever it is, the server caused it
            raise ToolServerError("its answer is no result of a tool") from None
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def _request(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=arguments))
        return await self._client.session.send_request(request, CallToolResult)

    def _ended(self, task: "asyncio.Task[CallToolResult]") -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or it would be logged where the caller has gone

    async def end(self) -> None:
        """Give up all calls."""
        for task in self._calls:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    def _words(self, error: MCPError) -> str:
        words = self._http.trouble or error.error.message
        return bounded(redact(words, self._secrets), _MAX_WORDS)


@contextlib.asynccontextmanager
async def connect(endpoint: Endpoint, on_changed: Callable[[], None]) -> AsyncIterator[Session]:
    """Set a session up, and end it: see `Connect`. To be entered and left in one task."""

    async def on_message(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            on_changed()

    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(_GuardedClient(endpoint))
        client = Client(
            streamable_http_client(endpoint.url, http_client=http, max_sse_event_size=MAX_BODY_BYTES),
            message_handler=on_message,
            client_info=Implementation(name="aibridge", version=__version__),
            cache=None,
        )
        try:
            async with asyncio.timeout(endpoint.connect):
                await client.__aenter__()
        except Exception as error:  # noqa: BLE001 - the SDK's own, groups of them, pydantic's
            raise ToolServerError(_why(error, http), broken=True) from None
        session = Session(client, http, endpoint)
        listening = asyncio.create_task(_listen(client, on_changed))
        try:
            yield session
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            await session.end()
            with contextlib.suppress(Exception):  # what was in the way of the end is nobody's concern any more
                await client.__aexit__(None, None, None)


def _why(error: Exception, http: _GuardedClient) -> str:
    if http.trouble:
        return http.trouble
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return "it does not speak MCP"


async def _listen(client: Client, on_changed: Callable[[], None]) -> None:
    """Hear of changes as revision 2026-07-28 tells them; before it they come by themselves."""
    capabilities = client.server_capabilities.tools
    if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or not (capabilities and capabilities.list_changed):
        return
    while True:
        with contextlib.suppress(Exception):  # whatever ends it: it is begun anew
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    on_changed()
        await asyncio.sleep(_LISTEN_AGAIN)
        on_changed()  # what was missed
