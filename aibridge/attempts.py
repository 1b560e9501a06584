"""Whom an interception asks, and its attempts: each is a request, a connection and a relay of its own.

This is the upstream's half of an exchange. It opens connections, sends, begins anew, and tells each attempt as it has
ended. What comes back, and how it ends, is the other half's (`aibridge/exchange.py`), which is named here by what it
must have.
"""

import asyncio
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from aibridge.clientstream import ClientStream
from aibridge.credentials import secrets_of
from aibridge.errors import UpstreamFailure
from aibridge.failover import Asked, Next, Why
from aibridge.keypool import Exhausted
from aibridge.lifecycle import Cause, Signal, State
from aibridge.linger import Linger
from aibridge.rotation import Rotation
from aibridge.upstream import Connection, Origin
from aibridge.values import (
    Address,
    Credential,
    Evidence,
    Headers,
    Interception,
    Outcome,
    ResponseHead,
    UpstreamRequest,
)

_origin_of = functools.lru_cache(maxsize=64)(Origin.of)

_STALE_WITHIN = 2.0
"""Seconds in which a request on a stale connection is turned away: one round trip, and a busy peer."""


class Attempts(ABC):
    """The attempts of one interception; see `Exchange`, which gives the arguments."""

    __slots__ = (
        "_address", "_around", "_asked", "_attempt", "_attempt_at", "_body", "_body_ended", "_client", "_coming",
        "_connecting", "_connection", "_dialect", "_head", "_interception", "_origin", "_policy", "_provider", "_relay",
        "_request", "_rotation", "_sent_at", "_sent_to", "_started", "_trying", "_whole",
    )  # fmt: skip

    def __init__(self, asked: Asked, client: ClientStream, started: float) -> None:
        (self._provider, _, _, interception), self._dialect, self._around, self._policy = asked
        self._interception = interception
        self._asked = interception
        """The same, as whoever is asked knows it."""
        self._address: Address | None = None
        self._client = client
        self._started = started
        self._attempt = 0
        self._attempt_at = started
        self._trying = False
        self._request: UpstreamRequest | None = None
        self._rotation: Rotation | None = None
        self._sent_to = ""
        self._coming: asyncio.Task[UpstreamRequest] | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._connection: Connection | None = None
        self._head: ResponseHead | None = None
        self._body: list[bytes] = []
        self._body_ended = False
        self._whole: tuple[int, Headers, bytes] | None = None
        self._sent_at = self._around.loop.time()
        self._relay = self._around.relays.make(self._dialect, interception.id, self._policy)

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """End: an exception of ours."""

    @abstractmethod
    def client_lost(self) -> None:
        """The client has closed its connection."""

    @abstractmethod
    def head_received(self, head: ResponseHead) -> None:
        """Take the head of an attempt's answer; see `Sink`."""

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take bytes of its body."""

    @abstractmethod
    def body_ended(self) -> None:
        """Take the end of its body."""

    @abstractmethod
    def upstream_failed(self, signal: Signal, error: str) -> None:
        """Take an end before its time."""

    @abstractmethod
    def refuse_keyless(self, exhausted: Exhausted) -> None:
        """End: no key is there to ask with."""

    @abstractmethod
    def _end(self, signal: Signal, error: str) -> None:
        """Take a fact that may end the interception."""

    def send(self, request: UpstreamRequest) -> None:
        """Send a request, on an idle connection or a new one."""
        if self._client.lost:
            self.client_lost()
        if self._relay.state is State.ENDED:
            return
        if request.key is not None or self._rotation is not None:
            keyed = self._keyed(request)
            if isinstance(keyed, Exhausted):
                self.refuse_keyless(keyed)
                return
            request = keyed
        if self._relay.state is State.BETWEEN:
            self._relay.on(Signal.SENT)
        self._request = request
        self._sent_to = request.origin
        self._origin = _origin_of(request.origin)
        self._relay.secrets = secrets_of(request.headers, request.target) + request.secrets
        connection = self._around.pool.take(self._origin)
        if connection is None:
            self._connect()
            return
        self._new_attempt()
        self._send_on(connection)

    def _keyed(self, request: UpstreamRequest) -> UpstreamRequest | Exhausted:
        """Return a request with a key of its provider's pool that is valid, where there is a pool."""
        pool, key, rotation = self._around.key_pool, request.key, self._rotation
        if pool is None or key is None:
            self._rotation = None
            return request
        if rotation is None or rotation.pool is not pool:
            counted = functools.partial(self._around.on_rotated, self._provider.name)
            self._rotation = Rotation(pool, key, self._interception.session_id, counted)
            return request
        following = rotation.following(request, time.monotonic())
        if isinstance(following, UpstreamRequest) and (following.key is not key or self._address is not None):
            self._address = _address(self._asked, following.credential)
        return following

    def _was_stale(self, connection: Connection) -> bool:
        """Whether the upstream closed a kept connection while our request was on its way to it.

        Nobody answered the request then, and a new connection is asked; on a new one the same end is final. An
        upstream that thought for a while before it closed has worked on the request: that is no stale connection.
        """
        thought = self._around.loop.time() - self._sent_at
        return self._relay.state in _ASKING and connection.was_stale and thought < _STALE_WITHIN

    def _connect(self) -> None:
        """Open a new connection; the answer to the request begins there."""
        self._new_attempt()
        self._sent_at = self._around.loop.time()
        self._connecting = self._around.loop.create_task(self._around.pool.connect(self._origin))
        self._connecting.add_done_callback(self._connected)

    def _connected(self, connecting: asyncio.Task[Connection]) -> None:
        if connecting.cancelled():
            return
        failure = connecting.exception()
        try:
            if self._connecting is not connecting:
                # It ended as it was given up: nobody waits for it any more, though another may be under way.
                if failure is None:
                    self._around.pool.put(connecting.result())
                return
            self._connecting = None
            if failure is None:
                self._around.on_spent("connect", self._asked.provider, time.perf_counter() - self._attempt_at)
                self._send_on(connecting.result())
            elif isinstance(failure, UpstreamFailure):
                self._end(Signal.UNREACHABLE, str(failure))
            else:
                self.fail(failure)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(error)

    def _send_on(self, connection: Connection) -> None:
        request = self._sent_request()
        self._connection = connection
        if connection.secrets:
            self._relay.secrets += connection.secrets
        self._sent_at = self._around.loop.time()
        tracing, tee = self._around.tracing, self._around.tee
        if tracing is not None:
            request = tracing.carry(self._interception, request)
        connection.send(request, self if tee is None else tee(self._asked, self._attempt, request, self))

    def _sent_request(self) -> UpstreamRequest:
        if self._request is None:
            raise RuntimeError("nothing was to be sent")
        return self._request

    def _new_attempt(self) -> None:
        self._attempt += 1
        self._attempt_at = time.perf_counter()
        self._trying = True

    def _await_further_attempt(self, answered: Outcome | None = None, following: Next | None = None) -> None:
        """Tell the attempt that has ended, and be ready for a further one. `answered` as `Relay.follow` has it."""
        before = self._relay
        left = following is not None and following.why is Why.FALLBACK
        if left and not self._trying and self._around.on_left is not None:
            self._around.on_left(self._asked)  # no attempt is there that would tell it
        self._tell_attempt(before.evidence(self._started), last=False, left=left)
        if following is not None and following.to is not None:
            self._turn_to(following.to)
        self._relay = self._around.relays.make(self._dialect, self._interception.id, self._policy)
        if self._attempt:  # else nobody was asked yet, and this is still the first
            self._relay.follow(before, answered)
        self._head, self._body, self._body_ended = None, [], False
        self._whole = None

    def _turn_to(self, to: Asked) -> None:
        """Ask somebody else from now on."""
        (self._provider, _, _, asked), self._dialect, self._around, self._policy = to
        self._asked = asked
        self._address = _address(asked, asked.credential)
        self._sent_at = self._around.loop.time()

    def _await_request(self, request: Coroutine[Any, Any, UpstreamRequest]) -> None:
        """Send the next request when it is there. The attempt before was told; nothing is on its way meanwhile."""
        self._coming = self._around.loop.create_task(request)
        self._coming.add_done_callback(self._came)

    def _came(self, coming: asyncio.Task[UpstreamRequest]) -> None:
        self._coming = None
        if coming.cancelled():
            return
        failure = coming.exception()
        try:
            if failure is None:
                self.send(coming.result())
            else:
                self.fail(failure)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(error)

    def _settle(self) -> None:
        """Keep the upstream's connection where all came and all is well, else cut it."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if self._coming is not None:
            self._coming.cancel()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._body_ended and self._relay.cause in _TRUSTED:
            connection.release()
        elif self._relay.cause is Cause.CLEAN:
            Linger(connection, self._around, self._asked.provider)
        else:
            connection.close()

    def _tell_attempt(self, evidence: Evidence, *, last: bool = True, left: bool = False) -> None:
        if not self._trying:
            return  # it ended where nothing was asked of an upstream
        self._trying = False
        attempt = self._relay.attempt(
            number=self._attempt,
            origin=self._sent_to,
            started_at=self._interception.started_at + self._attempt_at - self._started,
            duration=time.perf_counter() - self._attempt_at,
            evidence=evidence,
        )
        if not last or self._address is not None:
            attempt = attempt._replace(last=last, address=self._address, left=left)
        self._around.listener.attempted(self._interception, attempt)

    def _outcome(self, evidence: Evidence) -> Outcome:
        duration = time.perf_counter() - self._started
        outcome = self._relay.outcome(
            ended_at=self._interception.started_at + duration, duration=duration, evidence=evidence
        )
        return self._addressed(outcome)

    def _addressed(self, outcome: Outcome) -> Outcome:
        return outcome if self._address is None else outcome._replace(address=self._address)


def _address(asked: Interception, credential: Credential) -> Address:
    return Address(asked.provider, asked.provider_kind, asked.upstream_model, credential, asked.model)


_ASKING = frozenset({State.CONNECTING, State.RECONNECTING})
_TRUSTED = frozenset({Cause.CLEAN, Cause.HTTP_STATUS, Cause.ERROR_EVENT})
"""Ends after which a connection whose body came whole is kept. After any other it is in doubt."""
