"""All tool servers: what they offer together, and the calls of their tools."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.credentials import worth_hiding
from aibridge.errors import PayloadError, ToolServerError
from aibridge.mcp.policy import CREDENTIAL_PREFIX, Credentials
from aibridge.mcp.results import error_result, read_result
from aibridge.mcp.sessions import USUAL_PACE, KeptSession, Pace
from aibridge.mcp.values import CallOutcome, Connect, ServerSettings, ServerState, State
from aibridge.toolloop.base import PREFIX, Ran, Tool, ToolCall, ToolResult

_MAX_SETS = 256
"""Sets of tools that are kept in mind, so that the same tools are the same object."""

NO_CREDENTIALS: Credentials = ()


def tell_nobody(_server: str, _up: bool) -> None:  # noqa: FBT001 - it is what is told
    """Nobody listens, or not any more."""


class _Outcome(NamedTuple):
    """What came of a call, before it is timed."""

    result: ToolResult
    outcome: CallOutcome
    error: str = ""
    size: int = 0


def _failed(outcome: CallOutcome, words: str) -> _Outcome:
    return _Outcome(error_result(words), outcome, words)


class ToolServers:
    """All tool servers that are configured. Built on a running event loop; nothing is connected before `start`.

    Args:
        servers: by name.
        connect: sets a session up (`sessions.load_connect`).
        max_actor_sessions: with servers that get the actor's own credential; for all servers together. Beyond it the
            one that was used least recently, and has no call under way, makes room.
        on_up: told the name of a server whose session all actors share, and whether it is up.
        pace: how often servers are tried, and looked at.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerSettings],
        connect: Connect,
        *,
        max_actor_sessions: int = 64,
        on_up: Callable[[str, bool], None] = tell_nobody,
        pace: Pace = USUAL_PACE,
    ) -> None:
        self._servers = dict(sorted(servers.items()))
        self._connect = connect
        self._max_actor_sessions = max_actor_sessions
        self._on_up = on_up
        self._pace = pace
        self._shared: dict[str, KeptSession] = {}
        self._own: OrderedDict[tuple[str, bytes], KeptSession] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._sets: OrderedDict[tuple[int, ...], tuple[list[tuple[Tool, ...]], tuple[Tool, ...]]] = OrderedDict()
        self._slots = {name: asyncio.Semaphore(one.max_concurrent_calls) for name, one in servers.items()}
        self.of_actors = frozenset(name for name, one in servers.items() if one.actor_header)
        """Servers that get the actor's own credential: what `credentials_of` is asked for."""

    async def start(self) -> None:
        """Begin to connect, in the background."""
        for name, settings in self._servers.items():
            if not settings.actor_header:
                self._on_up(name, False)  # noqa: FBT003 - it is what is told
                self._shared[name] = self._keep(name, settings, self._tell)

    def tell(self, on_up: Callable[[str, bool], None]) -> None:
        """Tell somebody else from now on, and how it stands now."""
        self._on_up = on_up
        for session in self._shared.values():
            self._tell(session)

    async def close(self) -> None:
        """End all sessions."""
        sessions = [*self._shared.values(), *self._own.values()]
        await asyncio.gather(*(session.close() for session in sessions), *self._closing)

    async def connected(self, credentials: Credentials = NO_CREDENTIALS) -> None:
        """Wait while sessions are being set up: at the gateway's start, or for an actor's first request.

        It takes twice the server's time to connect at most; one that is down is not waited for.
        """
        for session in [*self._sessions(credentials)]:
            await session.settled()

    def tools(self, credentials: Credentials = NO_CREDENTIALS) -> tuple[Tool, ...]:
        """Return all tools that are there, sorted by id: the same object until something changes.

        Args:
            credentials: of the actor who asks. A server that gets these is connected at the first use.
        """
        parts = [session.catalog.tools for session in self._sessions(credentials) if session.catalog.tools]
        key = tuple(map(id, parts))  # the parts are kept beside, so that an id stays theirs
        known = self._sets.get(key)
        if known is None:
            known = self._sets[key] = parts, tuple(sorted(tool for part in parts for tool in part))
            if len(self._sets) > _MAX_SETS:
                self._sets.popitem(last=False)
        else:
            self._sets.move_to_end(key)
        return known[1]

    async def call(self, call: ToolCall, credentials: Credentials = NO_CREDENTIALS) -> Ran:
        """Run a call. Raises nothing for what a model or a server does wrong: that is the result.

        Cancelled, it tells the server, and leaves the session as it is.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        name = self._server_of(call.tool)
        session = self._session(name, credentials)
        if session is not None and session.tool(call.tool) is None:
            await session.settled()  # an actor's session may have made room since its tools were offered
        tool = None if session is None else session.tool(call.tool)
        if session is None:
            ended = _failed(CallOutcome.UNKNOWN_TOOL, "there is no such tool")
        elif session.state is State.DOWN:
            ended = _failed(CallOutcome.UNAVAILABLE, f"tool server {name}: it is down: {session.why}")
        elif tool is None:
            ended = _failed(CallOutcome.UNKNOWN_TOOL, f"tool server {name}: there is no such tool")
        else:
            ended = await self._run(session, tool, call.arguments, credentials)
        return Ran(
            result=ended.result,
            server="" if ended.outcome is CallOutcome.UNKNOWN_TOOL else name,
            latency=loop.time() - started,
            error=ended.error,
            result_bytes=ended.size,
            outcome=ended.outcome,
        )

    def states(self) -> list[ServerState]:
        """Return what is known of each server, by name."""
        return [self._state(name, settings) for name, settings in self._servers.items()]

    # a call

    async def _run(self, session: KeptSession, tool: Tool, text: str, credentials: Credentials) -> _Outcome:
        settings = self._servers[tool.server]
        try:
            arguments = _arguments(text)
        except PayloadError as error:
            return _failed(CallOutcome.BAD_ARGUMENTS, str(error))
        try:
            async with asyncio.timeout(settings.endpoint.call), self._slots[tool.server]:
                raw = await session.call(tool.name, arguments)
        except TimeoutError:
            words = f"the tool did not answer within {settings.endpoint.call:g} seconds"
            return _failed(CallOutcome.TIMEOUT, words)
        except ToolServerError as error:
            outcome = CallOutcome.UNAVAILABLE if error.broken else CallOutcome.REFUSED
            return _failed(outcome, f"tool server {tool.server}: {error}")
        read = read_result(raw, settings.max_result_bytes, _secrets(settings, credentials))
        if read.result.is_error:
            return _Outcome(read.result, CallOutcome.TOOL_ERROR, "the tool says that it failed", read.size)
        return _Outcome(read.result, CallOutcome.OK, size=read.size)

    def _server_of(self, tool_id: str) -> str:
        """Return the server that a tool's id names, or the empty string. No server's name has an underscore."""
        server = tool_id.removeprefix(PREFIX).partition("_")[0] if tool_id.startswith(PREFIX) else ""
        return server if server in self._servers else ""

    # sessions

    def _sessions(self, credentials: Credentials) -> Iterator[KeptSession]:
        for name in self._servers:
            session = self._session(name, credentials)
            if session is not None:
                yield session

    def _session(self, name: str, credentials: Credentials) -> KeptSession | None:
        if name not in self.of_actors:
            return self._shared.get(name)
        secret = next((secret for server, secret in credentials if server == name), None)
        return None if secret is None else self._actors(name, secret)

    def _actors(self, name: str, secret: str) -> KeptSession | None:
        key = name, hashlib.sha256(secret.encode()).digest()
        session = self._own.get(key)
        if session is None:
            if not self._make_room():
                return None
            settings = self._servers[name]
            endpoint = settings.endpoint.with_header(settings.actor_header, secret)
            session = self._own[key] = self._keep(name, settings._replace(endpoint=endpoint), lambda _session: None)
        self._own.move_to_end(key)
        return session

    def _make_room(self) -> bool:
        if len(self._own) < self._max_actor_sessions:
            return True
        idle = next((key for key, session in self._own.items() if not session.busy), None)
        if idle is None:
            return False
        task = asyncio.create_task(self._own.pop(idle).close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return True

    def _keep(self, name: str, settings: ServerSettings, on_change: Callable[[KeptSession], None]) -> KeptSession:
        return KeptSession(name, settings, self._connect, self._pace, on_change)

    def _tell(self, session: KeptSession) -> None:
        self._on_up(session.name, session.state is State.UP)

    def _state(self, name: str, settings: ServerSettings) -> ServerState:
        url = settings.endpoint.url
        if settings.actor_header:
            count = sum(1 for server, _ in self._own if server == name)
            return ServerState(name, url, State.PER_ACTOR, "", (), (), count, f"{CREDENTIAL_PREFIX}{name}")
        session = self._shared.get(name)
        if session is None:
            return ServerState(name, url, State.DOWN, "it was not tried yet", (), (), 0, "")
        return ServerState(name, url, session.state, session.why, *session.catalog, 0, "")


def _arguments(text: str) -> dict[str, Any]:
    """Return the arguments of a call. Some models write nothing where a tool takes none."""
    if not text.strip():
        return {}
    try:
        arguments = jsontext.loads(text.encode())
    except (PayloadError, UnicodeEncodeError):
        raise PayloadError("the arguments are not valid JSON; perhaps they were cut short") from None
    if not isinstance(arguments, dict):
        raise PayloadError("the arguments should be a JSON object")
    return arguments


def _secrets(settings: ServerSettings, credentials: Credentials) -> tuple[str, ...]:
    """Return what a server was sent, and may echo with or without the scheme before it."""
    values = [value for _, value in settings.endpoint.headers]
    values += [secret for _, secret in credentials]
    return worth_hiding(*values, *(value.rpartition(" ")[2] for value in values))
