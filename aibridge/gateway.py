"""The order of the steps: a request walks down this file once.

    resolve ─► authenticate ─► read the body ─► open the interception ─► rewrite and sign ─► send

Up to `opened`, what is wrong with a request is a `RequestRejected`, answered in the API's shape and counted. From there
on nothing is raised: the exchange tells how it ended.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aibridge.access import Identity
from aibridge.auth import Authenticator
from aibridge.clientstream import ClientStream
from aibridge.content import Keep
from aibridge.dialects import Dialect, Telling
from aibridge.draft import Draft
from aibridge.errors import RecordingFailed, RequestRejected
from aibridge.exchange import Exchange
from aibridge.failover import Asked, Failover, Recourse
from aibridge.headers import JSON
from aibridge.limits.limiter import Limiter
from aibridge.opening import opened
from aibridge.overhead import Stopwatch
from aibridge.passthrough import Passthrough
from aibridge.providers.base import Answer, Reading
from aibridge.refusals import headers_of, is_final, kind_of
from aibridge.routing import Action, OpenRoute, Route, RouteTable
from aibridge.surroundings import Surroundings
from aibridge.turns import Injection, Turns
from aibridge.values import ClientRequest, Headers, UpstreamRequest, UserPrompt

_FAREWELL = 1.0
"""Seconds for the last words of what a drain has ended."""


class Counters(Protocol):
    """What is counted that is no interception."""

    def rejected(self, reason: str) -> None:
        """A request was refused before it became an interception."""

    def passed_through(self, provider: str, route: str, method: str) -> None:
        """A request was relayed only, or needed no upstream."""

    def spent(self, step: str, provider: str, seconds: float) -> None:
        """The gateway worked so long on a step of one request."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bytes and seconds of a client's request."""

    max_request_bytes: int
    request_body: float


class Gateway:
    """Answers requests.

    Args:
        routes: paths to providers.
        authenticator: headers to actors.
        around: what the exchanges of each provider share, by its name.
        counters: counts what is no interception.
        bounds: of a client's request.
        injection: tools of ours, or None.
        failover: says what is left to do where an attempt has failed, or None: nothing is, anywhere.
        limiter: asked for room before an interception begins; None where nothing is limited.
    """

    def __init__(
        self,
        routes: RouteTable,
        authenticator: Authenticator,
        around: Mapping[str, Surroundings],
        counters: Counters,
        bounds: Bounds,
        injection: Injection | None = None,
        failover: Failover | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self._routes = routes
        self._authenticator = authenticator
        self._around = around
        self._counters = counters
        self._bounds = bounds
        self._injection = injection
        self._failover = failover
        self._limiter = limiter
        self._authenticating, self._reading, self._rewriting = [
            Stopwatch(step, counters.spent) for step in ("auth", "read", "rewrite")
        ]
        self._live: set[Exchange] = set()
        self._waiting = 0
        self._idle = asyncio.Event()
        self.draining = False
        self._drained = False
        self._leaving = False

    def handle(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        """Answer one request. Returns what is left to do where something must be waited for."""
        dialect = None
        try:
            if self.draining:
                raise _draining()
            route = self._routes.resolve(client.method, client.path, upgrade=b"upgrade" in client.first)
            dialect = route.dialect
            began = self._authenticating.start()
            who, headers = self._authenticator.authenticate(client)
            self._authenticating.stop(route.name, began)
            if client.body_complete and route.action is Action.INTERCEPT:
                return self._intercept(route, who, self._request(client, headers), client)
        except RequestRejected as rejection:
            self._answer_refused(client, rejection, dialect or self._routes.dialect_of(client.path))
            return None
        return self._handle_later(route, who, headers, client)

    async def drain(self, deadline: float) -> None:
        """Refuse new requests, wait `deadline` seconds for those under way, then end them."""
        self.draining = True
        await self._wait_until_idle(deadline)
        self._drained = True
        for exchange in list(self._live):
            exchange.drain()
        await self._wait_until_idle(_FAREWELL)

    async def finish(self) -> None:
        """Wait until nothing is under way any more. Another gets the new requests; the last may just have come."""
        self._leaving = True
        await self._wait_until_idle(None)

    def refuse(self, rejection: RequestRejected, dialect: Dialect | None = None) -> bytes:
        """Count a refused request, and return the answer's body; without a dialect none is known yet."""
        self._counters.rejected(rejection.reason)
        telling = Telling(kind_of(rejection), rejection.message, "")
        return (dialect or self._routes.dialect_of("")).error_body(telling)

    @property
    def live(self) -> int:
        """How many interceptions are under way."""
        return len(self._live)

    async def _wait_until_idle(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._live or self._waiting:
                    self._idle.clear()
                    await self._idle.wait()

    async def _handle_later(
        self, route: Route | OpenRoute, who: Identity, headers: Headers, client: ClientStream
    ) -> None:
        """Answer a request whose body has not come yet, or that is relayed only."""
        self._waiting += 1
        try:
            request = await self._read(client, headers)
            if self._drained:
                raise _draining()
            if route.action is Action.INTERCEPT:
                rest = self._intercept(route, who, request, client)
            else:
                rest = self._pass_through(route, who, request, client)
            del request  # its bytes go as soon as nobody needs them
            if rest is not None:
                await rest
        except RequestRejected as rejection:
            self._answer_refused(client, rejection, route.dialect)
        finally:
            self._waiting -= 1
            self._idle.set()

    def _answer_refused(self, client: ClientStream, rejection: RequestRejected, dialect: Dialect) -> None:
        if client.method == "HEAD" and is_final(rejection):
            client.respond(200, JSON, b"")
            return
        client.respond(rejection.status, headers_of(rejection), self.refuse(rejection, dialect))

    async def _read(self, client: ClientStream, headers: Headers) -> ClientRequest:
        try:
            async with asyncio.timeout(self._bounds.request_body):
                await client.wait_for_body(self._bounds.max_request_bytes)
        except TimeoutError:
            client.reusable = False
            raise RequestRejected("request_incomplete", 408, "the request body did not come in time") from None
        return self._request(client, headers)

    def _request(self, client: ClientStream, headers: Headers) -> ClientRequest:
        if not (client.path.isascii() and client.query.isascii()):
            raise RequestRejected("bad_request", 400, "the path is not ASCII")
        body = client.body(self._bounds.max_request_bytes)
        return ClientRequest(method=client.method, path=client.path, query=client.query, headers=headers, body=body)

    async def _pass_through(
        self, route: Route | OpenRoute, who: Identity, request: ClientRequest, client: ClientStream
    ) -> None:
        who.access.check(route.pattern)
        if isinstance(route, OpenRoute):
            answer = route.router.answer(request.method, route.path)
            if answer is not None:
                self._answer(route, request, answer, client)
                return
            route, request, _ = self._routes.decide(route, request)
        provider = route.provider
        who.access.check(route.pattern, provider.name)
        around = self._around[provider.name]
        answer = provider.answer(request, route.path)
        if answer is not None:
            self._answer(route, request, answer, client)
            return
        outgoing = await provider.prepare_passthrough(request, route.path)
        self._counters.passed_through(provider.name, route.pattern, request.method)
        relayed = Passthrough(
            client, around.pool, provider.passthrough_answer, around.max_response_bytes, around.new_dump
        )
        if around.tracing is None:
            await relayed.run(outgoing, around.deadlines)
            return
        with around.tracing.passthrough(request, route.path, outgoing) as span:
            span.status = await relayed.run(span.request, around.deadlines)

    def _answer(self, route: Route | OpenRoute, request: ClientRequest, answer: Answer, client: ClientStream) -> None:
        """Answer a request that needs no upstream."""
        self._counters.passed_through(route.name, route.pattern, request.method)
        if not client.lost:
            client.respond(answer.status, answer.headers, answer.body)

    def _intercept(
        self, route: Route | OpenRoute, who: Identity, request: ClientRequest, client: ClientStream
    ) -> Coroutine[None, None, None] | None:
        began = self._reading.start()
        request_bytes = len(request.body)
        route, request, reading = self._learn(route, request)
        provider = route.provider
        who.access.check(route.pattern, provider.name, reading.model)
        around = self._around[provider.name]
        policy = around.content.of(who.access.content)
        prompt = policy.prompt(reading.prompt()) if policy.prompts is not Keep.OFF else None
        self._reading.stop(provider.name, began)
        interception = opened(route, who.actor, request, reading, request_bytes)
        draft = Draft(provider, request, reading, interception)
        recourse = None
        if self._failover is not None:
            recourse = self._failover.recourse(draft, who.access, policy, self._prepared)
        accepted = _Accepted(Asked(draft, route.dialect, around, policy), prompt, recourse, time.perf_counter())
        if self._limiter is not None:
            room = self._limiter.reserve(interception, who, reading.body)
            if room is not None:
                return self._begin_later(self._limiter, room, accepted, client)
        return self._begin(accepted, client)

    async def _begin_later(
        self, limiter: Limiter, room: Awaitable[None], accepted: "_Accepted", client: ClientStream
    ) -> None:
        """Begin once there is known to be room."""
        self._waiting += 1
        try:
            await room
            if self._drained:
                raise _draining()
            rest = self._begin(accepted, client)
            if rest is not None:
                await rest
        except RequestRejected as rejection:
            limiter.give_back(accepted.asked.draft.interception)
            self._answer_refused(client, rejection, accepted.asked.dialect)
        finally:
            self._waiting -= 1
            self._idle.set()

    def _begin(self, accepted: "_Accepted", client: ClientStream) -> Coroutine[None, None, None] | None:
        """Open the interception. From here on nothing is raised."""
        asked, prompt, recourse, started = accepted
        draft, around = asked.draft, asked.around
        interception = draft.interception
        exchange = Exchange(asked, client, started, recourse, self._ended)
        self._live.add(exchange)
        if self._limiter is not None:
            self._limiter.watch(interception, exchange.stop_spending)
        try:
            around.listener.opened(interception)
            if prompt is not None:
                around.listener.learned(interception, prompt, "")
            seconds = None if around.refused_for is None else around.refused_for(interception)
            if seconds is not None:
                exchange.refuse(seconds)
                return None
            if draft.reading.exhausted is not None:
                exchange.refuse_keyless(draft.reading.exhausted)
                return None
            missing = self._missing(draft)
        except RecordingFailed as reason:
            exchange.refuse_unrecorded(reason)
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            exchange.fail(error)
            return None
        if missing:
            return self._send_later(missing, exchange, draft)
        self._send(exchange, draft)
        return None

    def _missing(self, draft: Draft) -> list[Awaitable[object]]:
        """Return what must be waited for: a credential that is being fetched, an actor's sessions with tool servers."""
        credential = draft.missing()
        sessions = None if self._injection is None else self._injection.missing(draft)
        return [one for one in (credential, sessions) if one is not None]

    def _learn(self, route: Route | OpenRoute, request: ClientRequest) -> tuple[Route, ClientRequest, Reading]:
        """Choose the provider where that is open, and let it read the request. `Reading.model` is the client's name."""
        if isinstance(route, Route):
            return route, request, route.provider.read(request, route.dialect)
        decided, request, model = self._routes.decide(route, request)
        reading = decided.provider.read(request, decided.dialect)
        return decided, request, dataclasses.replace(reading, model=model)

    async def _send_later(self, missing: list[Awaitable[object]], exchange: Exchange, draft: Draft) -> None:
        try:
            await asyncio.gather(*missing)
        except asyncio.CancelledError:  # the server cancels what outlives its shutdown: told, like every other end
            exchange.drain()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            exchange.fail(error)
        else:
            self._send(exchange, draft)

    def _send(self, exchange: Exchange, draft: Draft) -> None:
        try:
            began = self._rewriting.start()
            outgoing, turns = self._prepare(draft)
            self._rewriting.stop(draft.provider.name, began)
            exchange.begin(outgoing, turns)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            exchange.fail(error)

    def _prepare(self, draft: Draft) -> tuple[UpstreamRequest, Turns | None]:
        turns = None if self._injection is None else self._injection.turns(draft)
        return (draft if turns is None else turns.next_draft()).prepare(), turns

    async def _prepared(self, draft: Draft) -> tuple[UpstreamRequest, Turns | None]:
        """Make the request of a draft that is asked somewhere else."""
        await asyncio.gather(*self._missing(draft))
        return self._prepare(draft)

    def _ended(self, exchange: Exchange) -> None:
        self._live.discard(exchange)
        if self.draining or self._leaving:
            self._idle.set()


class _Accepted(NamedTuple):
    """A request of which an interception is made, unless it meets a limit."""

    asked: Asked
    prompt: UserPrompt | None
    recourse: Recourse | None
    started: float


def _draining() -> RequestRejected:
    return RequestRejected("draining", 503, "the gateway is shutting down; try again")
