"""The tool loop of one interception, acted out: its turns' requests, and the tools that are run between them.

What is asked and what the client sees of the answers, a `ToolLoop` decides; that tools run, all of a turn at once, and
with what, is here. Who tells how a turn ended, and sends the next, is the exchange.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aibridge.draft import Draft
from aibridge.headers import without
from aibridge.mcp.policy import Credentials, Rules, credentials_of, wants_tools
from aibridge.mcp.servers import ToolServers
from aibridge.mcp.values import CallOutcome
from aibridge.toolloop import LOOPS, PREFIX, Image, Ran, Text, ToolCall, ToolLoop, ToolResult
from aibridge.values import StreamDecoder, Thought, ToolRun, ToolUse, UpstreamRequest

MAX_RESULTS_BYTES = 32 * 1024 * 1024
"""Of all results of an interception, which each further request brings: as much as Anthropic takes of a request."""
_OF_ONE_REQUEST = frozenset({b"idempotency-key"})
"""A client's words for its one request. On another turn's an upstream would answer what it has answered before."""


class Turns:
    """The turns of one interception.

    Args:
        loop: of its dialect, made of its request.
        call: runs a tool. Never raises for what a model or a server does wrong: that is a result too.
        draft: of the client's own request.
        max_turns: requests to the upstream, at most.
    """

    def __init__(
        self, loop: ToolLoop, call: Callable[[ToolCall], Awaitable[Ran]], draft: Draft, max_turns: int
    ) -> None:
        self._loop = loop
        self._call = call
        self._draft = draft
        self._left = max_turns
        self._room = MAX_RESULTS_BYTES
        self._held: list[tuple[ToolUse, str]] = []
        self._running: dict[int, ToolCall] = {}
        self.tell: Callable[[ToolRun], None] = _tell_nobody
        """Told each tool that has run, when it has."""

    def draft(self) -> Draft:
        """Return the draft of the next turn's request."""
        self._left -= 1
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
        return self._left <= 0

    def hold(self, fact: ToolUse | Thought, message_id: str) -> bool:
        """Keep back a call of a tool of ours, which is told when the tool has run. Returns whether it is one."""
        if not isinstance(fact, ToolUse) or not fact.name.startswith(PREFIX):
            return False
        self._held.append((fact, message_id))
        return True

    def left(self) -> list[tuple[ToolUse, str]]:
        """Return the calls that we do not run, each with its message's id."""
        return self._held

    async def next(self) -> UpstreamRequest:
        """Run the tools of the turn that has ended, and return the next turn's request. Raises `AibridgeError`."""
        calls = self._loop.calls
        run = {call.id for call in calls}
        # Calls without an id, as some servers send them, run under ids of ours.
        self._held = [one for one in self._held if one[0].id and one[0].id not in run]
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(self._run(number, call)) for number, call in enumerate(calls)]
        self._loop.answer([run.result().result for run in runs])
        request = self._draft.request
        self._draft = self._draft._replace(request=request._replace(headers=without(request.headers, _OF_ONE_REQUEST)))
        draft = self.draft()
        missing = draft.missing()
        if missing is not None:
            await missing
        return draft.prepare()

    def cancelled(self) -> list[ToolRun]:
        """Return the tools that run now, as they are told where nobody waits for them any more."""
        calls = list(self._running.values())
        self._running.clear()
        return [ToolRun(_use(call), "", 0.0, "cancelled", "cancelled", _size(call), 0) for call in calls]

    async def _run(self, number: int, call: ToolCall) -> Ran:
        self._running[number] = call
        ran = self._bounded(await self._call(call))
        if self._running.pop(number, None) is not None:
            self.tell(_told(call, ran))
        return ran

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

    def missing(self, draft: Draft) -> Awaitable[None] | None:
        """Return what must be waited for before `turns`: an actor's own sessions. None: nothing."""
        credentials = self._credentials(draft)
        return self.servers.connected(credentials) if credentials else None

    def turns(self, draft: Draft) -> Turns | None:
        """Return the tool loop of a request; None where it gets no tools."""
        make = LOOPS.get(draft.interception.dialect)
        if make is None or not self._wants(draft):
            return None
        credentials = self._credentials(draft)
        loop = make(draft.reading.body, self.servers.tools(credentials))
        if loop is None:
            return None
        return Turns(loop, lambda call: self.servers.call(call, credentials), draft, self.max_turns)

    def _wants(self, draft: Draft) -> bool:
        one = draft.interception
        return wants_tools(self.rules, one.model, one.actor.id, draft.request.headers)

    def _credentials(self, draft: Draft) -> Credentials:
        return credentials_of(self.servers.of_actors, draft.request.headers) if self._wants(draft) else ()


def _use(call: ToolCall) -> ToolUse:
    return ToolUse(call.id, call.tool, call.arguments)


def _told(call: ToolCall, ran: Ran) -> ToolRun:
    return ToolRun(
        use=_use(call),
        server=ran.server,
        latency=ran.latency,
        outcome=ran.outcome,
        error="" if ran.outcome == CallOutcome.OK else ran.error or ran.outcome,
        arguments_bytes=_size(call),
        result_bytes=ran.result_bytes,
    )


def _size(call: ToolCall) -> int:
    return len(call.arguments.encode("utf-8", "replace"))


def _size_of(part: Text | Image) -> int:
    return len(part.text.encode("utf-8", "replace")) if isinstance(part, Text) else len(part.data)


def _tell_nobody(run: ToolRun) -> None:
    """Nobody listens yet."""
