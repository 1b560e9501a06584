"""The tool loop of one interception, acted out: its turns' requests, and the tools that are run between them.

What is asked and what the client sees of the answers, a `ToolLoop` decides; that tools run, all of a turn at once, and
with what, is here. Who tells how a turn ended, and sends the next, is the exchange.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aibridge.draft import Draft
from aibridge.headers import without
from aibridge.mcp.policy import Credentials, Rules, credentials_of, wants_tools
from aibridge.mcp.servers import ToolServers
from aibridge.mcp.values import CallOutcome
from aibridge.toolloop import (
    PREFIX,
    Image,
    LoopFactory,
    Ran,
    Text,
    Tool,
    ToolCall,
    ToolLoop,
    ToolResult,
    new_loops,
)
from aibridge.values import StreamDecoder, Thought, ToolRun, ToolUse, UpstreamRequest

MAX_RESULTS_BYTES = 32 * 1024 * 1024
"""Of all results of an interception, which each further request brings: as much as Anthropic takes of a request."""
_OF_ONE_REQUEST = frozenset({b"idempotency-key"})
"""A client's words for its one request. On another turn's an upstream would answer what it has answered before."""


class Turns:
    """The turns of one interception.

    Args:
        loop: of its dialect, made of its request.
        tools: that are offered.
        call: runs a tool. Never raises for what a model or a server does wrong: that is a result too.
        draft: of the client's own request.
        max_turns: requests to the upstream, at most.
    """

    def __init__(
        self,
        loop: ToolLoop,
        tools: tuple[Tool, ...],
        call: Callable[[ToolCall], Awaitable[Ran]],
        draft: Draft,
        max_turns: int,
    ) -> None:
        self._loop = loop
        self._servers = {tool.id: tool.server for tool in tools}
        self._call = call
        self._draft = draft
        self._turns_left = max_turns
        self._room = MAX_RESULTS_BYTES
        self._held: list[tuple[ToolUse, str]] = []
        self._running: dict[int, tuple[ToolCall, float]] = {}
        self.tell: Callable[[ToolRun], None] = _tell_nobody
        """Told each tool that has run, when it has."""

    def next_draft(self) -> Draft:
        """Return the draft of the next turn's request."""
        self._turns_left -= 1
        return self._draft.with_body(self._loop.request())

    def decoder(self, request: UpstreamRequest) -> StreamDecoder:
        """Return the decoder of the next turn's stream."""
        return self._loop.decoder(self._draft.provider.decoder((), request))

    def take_body(self, body: bytes) -> bytes:
        """Take the next turn's whole answer; see `ToolLoop`."""
        return self._loop.take_body(body)

    @property
    def go_on(self) -> bool:
        """Whether the turn that has ended calls tools that are to be run."""
        return bool(self._loop.calls)

    @property
    def exhausted(self) -> bool:
        """Whether no further turn is allowed."""
        return self._turns_left <= 0

    def hold(self, fact: ToolUse | Thought, message_id: str) -> bool:
        """Keep back a call of a tool of ours, which is told when the tool has run. Returns whether it is one."""
        if not isinstance(fact, ToolUse) or not fact.name.startswith(PREFIX):
            return False
        self._held.append((fact, message_id))
        return True

    def undone(self) -> list[tuple[ToolUse | ToolRun, str]]:
        """Return the calls that were held and that nobody runs, each with its message's id.

        A client may have tools that are called as ours are: their calls are told as all of its are.
        """
        skipped = {call.id for call in self._loop.skipped}
        return [
            (self._not_run(use) if use.id in skipped or use.name in self._servers else use, message_id)
            for use, message_id in self._held
        ]

    async def next(self) -> UpstreamRequest:
        """Run the tools of the turn that has ended, and return the next turn's request. Raises `AibridgeError`."""
        calls = self._loop.calls
        ids = {call.id for call in calls}
        # Calls without an id, as some servers send them, run under ids of ours.
        self._held = [one for one in self._held if one[0].id and one[0].id not in ids]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run(number, call)) for number, call in enumerate(calls)]
        self._loop.answer([task.result().result for task in tasks])
        request = self._draft.request
        self._draft = self._draft._replace(request=request._replace(headers=without(request.headers, _OF_ONE_REQUEST)))
        draft = self.next_draft()
        missing = draft.missing()
        if missing is not None:
            await missing
        return draft.prepare()

    def cancelled(self) -> list[ToolRun]:
        """Return the tools that run now, as they are told where nobody waits for them any more."""
        now = time.perf_counter()
        running = list(self._running.values())
        self._running.clear()
        return [self._ended(_use(call), CallOutcome.CANCELLED, now - began) for call, began in running]

    async def _run(self, number: int, call: ToolCall) -> Ran:
        self._running[number] = call, time.perf_counter()
        ran = self._bounded(await self._call(call))
        if self._running.pop(number, None) is not None:
            self.tell(_told(call, ran))
        return ran

    def _not_run(self, use: ToolUse) -> ToolRun:
        return self._ended(use, CallOutcome.NOT_RUN, 0.0)

    def _ended(self, use: ToolUse, outcome: CallOutcome, latency: float) -> ToolRun:
        server = self._servers.get(use.name, "")
        return ToolRun(use, server, latency, outcome, outcome, _size(use.arguments), 0)

    def _bounded(self, ran: Ran) -> Ran:
        """Return a call without its result where there is no room for that any more."""
        size = sum(map(_size_of, ran.result.content))
        if size <= self._room:
            self._room -= size
            return ran
        words = f"the result of {size} bytes is left out: those before it take up the room that there is"
        return ran._replace(result=ToolResult((Text(words),), is_error=True))


@dataclass(frozen=True, kw_only=True)
class Injection:
    """Which requests get tools, and which tools these are. `max_turns` are the requests of one interception."""

    servers: ToolServers
    rules: Rules
    max_turns: int
    loops: Mapping[str, LoopFactory] = field(default_factory=new_loops)
    """By the dialect's name."""

    def missing(self, draft: Draft) -> Awaitable[None] | None:
        """Return what must be waited for before `turns`: an actor's own sessions. None: nothing."""
        credentials = self._credentials(draft) if self._wants(draft) else ()
        return self.servers.connected(credentials) if credentials else None

    def turns(self, draft: Draft) -> Turns | None:
        """Return the tool loop of a request; None where it gets no tools, and goes on with no loop of before."""
        make = self.loops.get(draft.interception.dialect)
        if make is None:
            return None
        wants = self._wants(draft)
        credentials = self._credentials(draft) if wants else ()
        tools = self.servers.tools(credentials) if wants else ()
        loop = make(draft.reading.body, tools)
        if loop is None:
            return None

        async def call(call: ToolCall) -> Ran:
            return await self.servers.call(call, credentials) if wants else _refused()

        return Turns(loop, tools, call, draft, self.max_turns)

    def _wants(self, draft: Draft) -> bool:
        one = draft.interception
        return wants_tools(self.rules, one.model, one.actor.id, draft.request.headers)

    def _credentials(self, draft: Draft) -> Credentials:
        return credentials_of(self.servers.of_actors, draft.request.headers)


def _refused() -> Ran:
    """Return what a model is told that calls a tool in a request that is to have none: it remembers it."""
    words = "there is no such tool"
    return Ran(ToolResult((Text(words),), is_error=True), "", 0.0, words, 0, CallOutcome.UNKNOWN_TOOL)


def _use(call: ToolCall) -> ToolUse:
    return ToolUse(call.id, call.tool, call.arguments)


def _told(call: ToolCall, ran: Ran) -> ToolRun:
    return ToolRun(
        use=_use(call),
        server=ran.server,
        latency=ran.latency,
        outcome=ran.outcome,
        error="" if ran.outcome == CallOutcome.OK else ran.error or ran.outcome,
        arguments_bytes=_size(call.arguments),
        result_bytes=ran.result_bytes,
    )


def _size(arguments: str) -> int:
    return len(arguments.encode("utf-8", "replace"))


def _size_of(part: Text | Image) -> int:
    return len(part.text.encode("utf-8", "replace")) if isinstance(part, Text) else len(part.data)


def _tell_nobody(run: ToolRun) -> None:
    """Nobody listens yet."""
