"""What else may be done for an interception whose attempt has failed, and who is asked next.

Asked only while the client has nothing: no byte of an answer, and no head. The order: the same request again, as
`retries.py` has it; then the provider's fallbacks, each once. Those of a fallback itself are not followed, so that a
chain has an end whoever names whom.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

from aibridge.access import Access
from aibridge.body import edited
from aibridge.content import ContentPolicy, stricter
from aibridge.dialects import DIALECTS, Dialect
from aibridge.draft import Draft
from aibridge.errors import RequestRejected
from aibridge.headers import CREDENTIALS, without
from aibridge.jsontext import dumps
from aibridge.lifecycle import Cause
from aibridge.providers.base import Provider
from aibridge.surroundings import Surroundings
from aibridge.turns import Turns
from aibridge.values import ClientRequest, CredentialKind, ResponseHead, UpstreamRequest

_logger = logging.getLogger(__name__)


class Why(StrEnum):
    """What a further attempt is."""

    RETRY = "retry"
    """The same request again, at the same provider."""
    FALLBACK = "fallback"
    """Another provider, or another model."""


class Asked(NamedTuple):
    """Who is asked, with all that goes with it. The draft's interception names whoever that is."""

    draft: Draft
    dialect: Dialect
    around: Surroundings
    policy: ContentPolicy


class Next(NamedTuple):
    """A further attempt: whom it asks, after how many seconds, and what it is.

    `to` is None where the same request goes out again, as it was rewritten, signed and mended.
    """

    to: Asked | None
    pause: float
    why: Why


class Fallback(NamedTuple):
    """Where a request goes on. `model` is its name there; empty: as the client wrote it."""

    provider: Provider
    model: str


class Chain(NamedTuple):
    """The fallbacks of a provider, and the ends behind which they are asked."""

    causes: frozenset[Cause]
    statuses: frozenset[int]
    fallbacks: tuple[Fallback, ...]


_MISFITTING = frozenset({401, 403, 404})
"""Statuses by which a fallback does not take our key, or does not know the model: it cannot answer any request so."""


def falls_over(chain: Chain, cause: Cause, head: ResponseHead | None) -> bool:
    """Whether the next of a chain is asked behind an attempt that ended so. `head` is its answer's, where one came."""
    if cause is Cause.HTTP_STATUS:
        return head is not None and head.status in chain.statuses
    return cause in chain.causes


Prepare = Callable[[Draft], Awaitable[tuple[UpstreamRequest, Turns | None]]]
"""Waits for what a draft needs, and returns its request; with the tool loop that it is the first turn of, or None."""


class FailoverCounters(Protocol):
    """What is counted of failovers."""

    def failed_over(self, provider: str, to: str, cause: str) -> None:
        """A request went on to another provider, or to another model at the same."""


class Failover:
    """Knows what each provider's requests may turn to.

    Args:
        chains: by provider, of those that have fallbacks.
        around: what the exchanges of each provider share, by its name.
        dialects: by provider, where it has some otherwise than others.
        counters: told of each failover.
    """

    def __init__(
        self,
        chains: Mapping[str, Chain],
        around: Mapping[str, Surroundings],
        dialects: Mapping[str, Mapping[str, Dialect]],
        counters: FailoverCounters,
    ) -> None:
        self._chains = chains
        self.around = around
        self._dialects = dialects
        self.counters = counters
        self._astray: set[tuple[str, int]] = set()
        self._shortest = {
            name: min(around[one].shortest for one in (name, *(to.provider.name for to in chain.fallbacks)))
            for name, chain in chains.items()
        }

    def recourse(self, draft: Draft, access: Access, policy: ContentPolicy, prepare: Prepare) -> "Recourse | None":
        """Return what one interception may turn to; None where that is nothing."""
        name = draft.provider.name
        around, chain = self.around[name], self._chains.get(name, _NOWHERE)
        if around.retrying is None and not chain.fallbacks:
            return None
        shortest = self._shortest.get(name, around.shortest)
        return Recourse(self, chain, draft, around, access, policy, prepare, shortest)

    def tell_astray(self, provider: str, status: int) -> None:
        """Say once that a fallback cannot answer; how often that is, the attempts' metric counts. 0: it has no key."""
        if status and (provider, status) not in self._astray:
            self._astray.add((provider, status))
            _logger.warning("fallback cannot answer", extra={"fields": {"provider": provider, "http_status": status}})

    def dialect(self, name: str, provider: str) -> Dialect:
        """Return a provider's dialect of that name."""
        return self._dialects.get(provider, DIALECTS)[name]


class Recourse:
    """What is left to do for one interception.

    Args:
        failover: whose it is.
        chain: of the provider that the client asked.
        draft: of the client's request, for that provider.
        around: of that provider.
        access: what is open to the client.
        policy: what is kept of the content at that provider.
        prepare: makes the request of another draft.
        shortest: of all deadlines of whom may be asked.
    """

    __slots__ = (
        "_access", "_around", "_been_at", "_chain", "_draft", "_failover", "_first", "_left", "_policy", "_provider",
        "_retries", "is_astray", "prepare", "shortest",
    )  # fmt: skip

    def __init__(
        self,
        failover: Failover,
        chain: Chain,
        draft: Draft,
        around: Surroundings,
        access: Access,
        policy: ContentPolicy,
        prepare: Prepare,
        shortest: float,
    ) -> None:
        self._failover = failover
        self._chain = chain
        self._left = list(reversed(chain.fallbacks))
        self._draft: Draft | None = draft if chain.fallbacks else None
        self._provider = draft.provider.name
        self._been_at: set[str] = set()
        self._around = around
        self._access = access
        self._policy = policy
        self._first = True
        self._retries = 0
        self.is_astray = False
        """Whether the last attempt was at a fallback that cannot answer, whatever it is asked."""
        self.prepare = prepare
        self.shortest = shortest

    def begin(self) -> None:
        """The first request is about to be sent."""
        if self._around.retrying is not None:
            self._around.retrying.budget.feed()

    def answered(self) -> None:
        """A good head has come: nobody else is asked from now on. Another turn's request may still be sent again."""
        self._left.clear()
        self._draft = None  # its bytes are not needed again

    def after(self, cause: Cause, head: ResponseHead | None) -> Next | None:
        """Return what comes after an attempt that has failed; None: nothing does, and that was the end.

        Args:
            cause: of its end.
            head: of its answer, where one came.
        """
        status = head.status if head is not None and cause is Cause.HTTP_STATUS else 0
        keyless = self.is_astray and cause is Cause.KEYS_EXHAUSTED  # its keys were all that was asked with
        unheard = not self._first and self._draft is not None  # at a fallback that has answered nothing yet
        self.is_astray = unheard and (status in _MISFITTING or keyless)
        if self.is_astray:
            self._failover.tell_astray(self._provider, status)
            return self.instead(cause)
        retrying = self._around.retrying
        pause = None if retrying is None else retrying.pause(self._retries, cause, head)
        if pause is not None:
            self._retries += 1
            return Next(None, pause, Why.RETRY)
        if not falls_over(self._chain, cause, head):
            return None
        if cause is not Cause.CIRCUIT_OPEN:
            self._been_at.add(self._provider)
        return self.instead(cause)

    def instead(self, cause: Cause) -> Next | None:
        """Return the next fallback that may be asked, also in the place of one that then cannot be; None: none is left.

        Args:
            cause: of the end of the last attempt.
        """
        draft = self._draft
        while draft is not None and self._left:
            to = self._turn_to(draft, self._left.pop())
            if to is not None:
                name = to.draft.provider.name
                self._failover.counters.failed_over(self._provider, name, cause.value)
                self._provider, self._around, self._policy, self._retries = name, to.around, to.policy, 0
                self._first = False
                return Next(to, 0.0, Why.FALLBACK)
        return None

    def _turn_to(self, draft: Draft, fallback: Fallback) -> Asked | None:
        """Return a fallback as it is asked; None where it must not be, cannot be, or its circuit is open.

        A client's own credential goes to nobody but whom the client sent it to, and another's would pay for it
        elsewhere: so it stays. A provider that is asked once more takes it from the budget of its retries.
        """
        own, name = draft.interception, fallback.provider.name
        if name != own.provider and own.credential.kind is CredentialKind.BYOK:
            return None
        around, dialect = self._failover.around[name], self._failover.dialect(own.dialect, name)
        request = _request_for(draft, fallback)
        try:
            self._access.check(own.route, name, fallback.model or None)
            reading = fallback.provider.read(request, dialect)
        except RequestRejected:
            return None
        if reading.exhausted is not None:
            return None
        if name in self._been_at and (around.retrying is None or not around.retrying.budget.take()):
            return None
        asked = own._replace(
            provider=name,
            provider_kind=fallback.provider.kind,
            model=fallback.model or own.model,
            upstream_model=reading.upstream_model,
            credential=reading.credential,
        )
        if around.refused_for is not None and around.refused_for(asked) is not None:
            return None
        policy = stricter(self._policy, around.content.of(self._access.content))
        return Asked(Draft(fallback.provider, request, reading, asked), dialect, around, policy)


def _request_for(draft: Draft, fallback: Fallback) -> ClientRequest:
    """Return the client's request as a fallback is to have it."""
    request = draft.request
    if fallback.provider.name != draft.provider.name:
        request = request._replace(headers=without(request.headers, CREDENTIALS))
    if fallback.model:
        request = request._replace(body=edited(draft.reading.body, {"model": dumps(fallback.model)}))
    return request


_NOWHERE = Chain(frozenset(), frozenset(), ())
