"""What is said of a tool server, and what its sessions say. Plain values, no I/O."""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from aibridge.toolloop.base import Tool


class Endpoint(NamedTuple):
    """Where a server is, and how it is reached. Its headers are secrets."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    connect: float = 10.0
    """Seconds for a session to be set up, and for its list of tools."""
    call: float = 60.0
    """Seconds for a call."""
    ca_file: str | None = None
    verify: bool = True
    proxy: str | None = None
    """A URL; stands above the environment's."""
    proxy_from_environment: bool = True

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"  # the rest holds secrets

    def with_header(self, name: str, value: str) -> "Endpoint":
        """Return the same with one header more."""
        return self._replace(headers=(*self.headers, (name, value)))


class ServerSettings(NamedTuple):
    """A tool server, as the configuration says."""

    endpoint: Endpoint
    actor_header: str = ""
    """In which it gets the actor's own credential; empty: all actors share one session."""
    allow: "re.Pattern[str] | None" = None
    deny: "re.Pattern[str] | None" = None
    """Stands above `allow`."""
    max_concurrent_calls: int = 16
    max_result_bytes: int = 256 * 1024


class Listed(NamedTuple):
    """A tool, as a server lists it; nothing of it is checked."""

    name: str
    description: str
    schema: dict[str, Any]


class LeftOut(NamedTuple):
    """A tool that is not offered, and why."""

    name: str
    why: str


class State(StrEnum):
    """Where a session stands."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    PER_ACTOR = "per_actor"
    """Of a server: its sessions are the actors' own."""


class ServerState(NamedTuple):
    """What is known of a server."""

    name: str
    url: str
    state: State
    why: str
    """Of one that is down."""
    tools: tuple[Tool, ...]
    left_out: tuple[LeftOut, ...]
    sessions: int
    """Of actors, where the state is `per_actor`."""
    credential_header: str
    """In which an actor sends its credential for the server, where it is to."""


class CallOutcome(StrEnum):
    """How a call ended: `Ran.outcome`."""

    OK = "ok"
    TOOL_ERROR = "tool_error"
    """The tool says that it failed."""
    UNKNOWN_TOOL = "unknown_tool"
    BAD_ARGUMENTS = "bad_arguments"
    """They are no JSON object."""
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    """There is no session with the server, or it broke under the call."""
    CANCELLED = "cancelled"
    """Its client left, or the gateway stopped."""
    NOT_RUN = "not_run"
    """The turn that called it ended otherwise, or calls tools of the client's too."""
    REFUSED = "refused"
    """The server answered with an error, or with what is no result."""


class Link(Protocol):
    """A session with a server that is set up."""

    @property
    def gone(self) -> bool:
        """Whether the server has said that it does not know the session any more."""

    @property
    def worn(self) -> bool:
        """Whether it has taken up more than it should; to be renewed once no call is under way."""

    async def list_tools(self) -> list[Listed]:
        """Return all tools, of all pages. Raises `ToolServerError`."""

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return a result, as MCP writes it. Raises `ToolServerError`; cancelled, it tells the server."""


Connect = Callable[[Endpoint, Callable[[], None]], AbstractAsyncContextManager[Link]]
"""Sets a session up, and ends it; the callback is told that the list of tools has changed. Entering raises
`ToolServerError`, leaving raises nothing of its own."""
