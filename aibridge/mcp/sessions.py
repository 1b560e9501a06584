"""A session with a tool server that is kept up: set up anew when it breaks, its tools listed anew when they change.

One task owns the session: it enters and leaves the SDK's contexts, which have to be entered and left in one task. Calls
are made by the tasks of those who call.
"""

import asyncio
import contextlib
import importlib
import logging
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from aibridge.errors import ConfigError, ToolServerError, ToolSessionGone
from aibridge.mcp.catalog import Catalog, catalog_of
from aibridge.mcp.values import Connect, Link, ServerSettings, State
from aibridge.toolloop.base import Tool

logger = logging.getLogger(__name__)

_FAREWELL = 6.0
"""Seconds for a server to hear of the end."""


class Pace(NamedTuple):
    """How often a server is asked; in seconds."""

    first: float = 0.5
    """Until it is tried again after a failure; then twice as long each time, but for some chance."""
    most: float = 60.0
    refresh: float = 60.0
    """Between two looks at the list of tools where no change is told: so the end of a server is noticed, too."""
    pause: float = 1.0
    """Between two looks at least, however often changes are told."""

    def wait(self, failures: int) -> float:
        """Return the time until the next trial."""
        longest = min(self.most, self.first * 2.0 ** min(failures - 1, 20))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that not all gateways come at once


USUAL_PACE = Pace()


def load_connect() -> Connect:
    """Load what speaks MCP: only where a server is configured, since it takes half a second and 27 MB.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        link = importlib.import_module("aibridge.mcp.link")
    except ImportError as error:
        raise ConfigError(f"mcp.servers: {error.name or 'mcp'} is missing: install aibridge[mcp]") from error
    connect: Connect = link.connect
    return connect


class KeptSession:
    """A session that is kept up.

    Args:
        name: the server's.
        settings: its endpoint has the headers of this session.
        connect: sets a session up.
        pace: how often it is tried, and looked at.
        on_change: told after each change of `state` and `catalog`.
    """

    def __init__(
        self,
        name: str,
        settings: ServerSettings,
        connect: Connect,
        pace: Pace,
        on_change: Callable[["KeptSession"], None],
    ) -> None:
        self.name = name
        self.state = State.CONNECTING
        self.why = ""
        self.catalog = Catalog()
        self.busy = 0
        """Calls under way."""
        self._settings = settings
        self._connect = connect
        self._pace = pace
        self._on_change = on_change
        self._tools: dict[str, Tool] = {}
        self._link: Link | None = None
        self._settled = asyncio.Event()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._keep(), name=f"mcp {name}")

    async def settled(self) -> None:
        """Wait while the session is being set up."""
        await self._settled.wait()

    def tool(self, tool_id: str) -> Tool | None:
        """Return the tool that models call so."""
        return self._tools.get(tool_id)

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool by the server's name for it. Waits while the session is being set up.

        Raises:
            ToolServerError: there is no session, it broke, or the server answers with an error.
        """
        self.busy += 1
        try:
            link = await self._ready()
            try:
                return await self._call(link, name, arguments)
            except ToolSessionGone:  # nothing was done: the one fault after which a call may be repeated
                return await self._call(await self._ready(), name, arguments)
        finally:
            self.busy -= 1

    async def _call(self, link: Link, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return await link.call(name, arguments)
        except ToolServerError as error:
            if error.broken:
                self._wake.set()
            if link.gone and self._link is link:
                self._await_another()
            raise
        finally:
            if link.worn:
                self._wake.set()

    async def _ready(self) -> Link:
        await self._settled.wait()
        if self._link is None:
            raise ToolServerError(f"it is down: {self.why}", broken=True)
        return self._link

    async def close(self) -> None:
        """End the session; the server is told, if it listens."""
        self._closing.set()
        self._wake.set()
        await asyncio.wait({self._task}, timeout=_FAREWELL)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        self._link = None
        self.state = State.DOWN
        self._settled.set()

    # the owner

    async def _keep(self) -> None:
        failures = 0
        while not self._closing.is_set():
            lived = await self._live()
            if lived >= self._pace.first:
                failures = 0  # it was good: another is tried at once, and the tools stay until that fails
            else:
                failures += 1
                await self._sleep(self._pace.wait(failures))

    async def _sleep(self, seconds: float) -> None:
        await _within(seconds, self._closing)

    async def _live(self) -> float:
        """Live through one session. Returns how long it was up, in seconds."""
        loop = asyncio.get_running_loop()
        up_since: float | None = None
        try:
            async with self._connect(self._settings.endpoint, self._wake.set) as link:
                self.why = await self._list(link)
                if not self.why:
                    up_since = loop.time()
                    self._link = link
                    self._become(State.UP)
                    self.why = await self._watch(link)
                    self._await_another()
        except ToolServerError as error:
            self.why = str(error)
        except Exception:  # a fault of ours or of the SDK's: it costs the tools, not the gateway
            logger.exception("a session with a tool server failed")
            self.why = "the session failed"
        lived = 0.0 if up_since is None else loop.time() - up_since
        if lived < self._pace.first:
            self._fail()
        else:
            self._await_another()
        return lived

    async def _watch(self, link: Link) -> str:
        """Keep the list of tools up to date. Returns why the session is over; empty where it is to be renewed."""
        while True:
            await _within(self._pace.refresh, self._wake)
            self._wake.clear()
            if self._is_over(link):
                return ""
            if why := await self._list(link):
                if self._is_over(link) or not self.busy:
                    return why
                self._wake.set()  # perhaps it is only slow: that is no reason to end the calls which it is working at
            await self._sleep(self._pace.pause)

    def _is_over(self, link: Link) -> bool:
        return self._closing.is_set() or link.gone or (link.worn and not self.busy)

    async def _list(self, link: Link) -> str:
        """Read the list of tools. Returns why that failed, or the empty string."""
        try:
            async with asyncio.timeout(self._settings.endpoint.connect):
                listed = await link.list_tools()
        except TimeoutError:
            return "it does not list its tools in time"
        except ToolServerError as error:
            return str(error)
        self._offer(catalog_of(self.name, self._settings, listed))
        return ""

    def _offer(self, catalog: Catalog) -> None:
        if catalog != self.catalog:
            self.catalog = catalog
            self._tools = {tool.id: tool for tool in catalog.tools}
            self._on_change(self)

    def _become(self, state: State) -> None:
        if state is not self.state:
            logger.info("tool server", extra={"fields": {"server": self.name, "state": state, "why": self.why}})
        self.state = state
        self._settled.set()
        self._on_change(self)

    def _await_another(self) -> None:
        """Let calls wait: another session is being set up."""
        self._link = None
        self._settled.clear()
        self.state = State.CONNECTING

    def _fail(self) -> None:
        self._link = None
        self._offer(Catalog())
        self._become(State.DOWN)


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, so long at most."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
