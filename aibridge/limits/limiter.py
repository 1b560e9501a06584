"""Asks for room before an interception begins, and settles with what it came to when it has ended.

What an interception holds while it is under way are leases, which are prolonged together, three times in their life.
Where the store is away the operator's word counts, at once and not after a wait for each request.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from aibridge.access import Identity
from aibridge.body import Body
from aibridge.errors import LimitStoreUnavailable, RequestRejected
from aibridge.limits.rules import (
    DOLLARS,
    Bound,
    Rules,
    claims,
    counted,
    estimated,
    leases,
    period,
    settlement,
    spending,
)
from aibridge.limits.values import Claim, CounterStore, Lease, Measure, Refusal, Scope
from aibridge.values import Attempt, Interception, Learned, Outcome, Usage

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

_PROLONGED = 3
"""Times in the life of a lease: one that was missed ends none."""
_AT_ONCE = 500
"""Leases that are prolonged in one step: others wait for it."""
_AWAY_S = 1.0
"""For which a store that failed is not asked again."""
_AGAIN_S = 1
"""When a client is asked to come again, where something has to end first: nobody knows when it will."""
_REMEMBERED = 4096
_MAX_MODEL_CHARACTERS = 200
_MARKS = (80, 100)
"""Per cent of a budget that are told."""
_NANO = 10**9
_WORDS = {
    Measure.REQUESTS: "requests a minute",
    Measure.TOKENS: "tokens a minute",
    Measure.CONCURRENT: "requests at once",
    Measure.DAY: "dollars a day",
    Measure.MONTH: "dollars a month",
}

Price = Callable[[Interception, Usage], int | None]
"""Returns what tokens of an interception would cost, in nano-dollars; None where they have no price."""


class LimitCounters(Protocol):
    """What is counted of limits."""

    def limit_refused(self, scope: str, measure: str) -> None:
        """A request met a limit that had no room."""

    def budget_reached(self, scope: str, measure: str, percent: int) -> None:
        """A budget has spent so much of itself."""

    def limit_store_failed(self, operation: str) -> None:
        """The store was away when it was asked."""


class StoreRules(NamedTuple):
    """How a store is asked.

    Attributes:
        lease: seconds that what is under way counts for without being prolonged; infinite where the counters end with
            this process.
        patience: seconds until a store that does not answer is away.
        allow: whether a request passes while it is away.
    """

    lease: float = math.inf
    patience: float = 1.0
    allow: bool = True


class _Plan:
    """The limits that some requests meet, and what has to be known for them."""

    __slots__ = ("bounds", "holds", "priced", "stops", "weighed")

    def __init__(self, bounds: Sequence[Bound]) -> None:
        measures = {bound.rule.measure for bound in bounds}
        self.bounds = bounds
        self.priced = not measures.isdisjoint(DOLLARS)
        self.weighed = self.priced or Measure.TOKENS in measures
        self.holds = self.priced or Measure.CONCURRENT in measures
        self.stops = any(bound.rule.stops for bound in bounds)


class _Grant:
    """What an interception was given."""

    __slots__ = ("interception", "made", "plan", "stop")

    def __init__(self, interception: Interception, plan: _Plan, made: Sequence[Claim]) -> None:
        self.interception = interception
        self.plan = plan
        self.made = made
        """Of each bound."""
        self.stop: Callable[[], None] | None = None


class Limiter:
    """A `Listener` that is asked before an interception begins.

    Args:
        rules: what is limited.
        store: who counts.
        ways: how it is asked.
        price: of tokens.
        counters: told of refusals.
        clock: UTC seconds.
    """

    def __init__(
        self,
        rules: Rules,
        store: CounterStore,
        ways: StoreRules,
        price: Price,
        counters: LimitCounters,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._store = store
        self._ways = ways
        self._price = price
        self._counters = counters
        self._clock = clock
        self._plans: dict[tuple[Identity, str], _Plan] = {}
        self._grants: dict[str, _Grant] = {}
        self._told: dict[tuple[str, str], int] = {}
        self._away_until = -math.inf
        self._away = False
        self._settling: set[asyncio.Task[None]] = set()
        self._prolonging: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the store. Where it is away now, and requests pass then, it is asked again with the first of them."""
        try:
            await self._bounded(self._store.start())
        except LimitStoreUnavailable as error:
            if not self._ways.allow:
                raise
            self._failed("start", error)
        if math.isfinite(self._ways.lease):
            self._prolonging = asyncio.create_task(self._prolong())

    async def stop(self) -> None:
        """Settle what has ended, and close the store."""
        prolonging = self._prolonging
        if prolonging is not None:
            prolonging.cancel()
            await asyncio.wait([prolonging])
        if self._settling:
            await asyncio.wait(self._settling)
        await self._store.close()

    def reserve(self, interception: Interception, identity: Identity, body: Body) -> Awaitable[None] | None:
        """Ask for room. Returns what has to be waited for; None where the answer is there.

        Raises:
            RequestRejected: there is no room, or the store is away; what is returned raises it too.
        """
        plan = self._plan(identity, interception.model)
        if not plan.bounds:
            return None
        now = self._clock()
        tokens = nanodollars = 0
        if plan.weighed:
            usage = estimated(body)
            tokens = counted(usage)
            nanodollars = (self._price(interception, usage) or 0) if plan.priced else 0
        made = claims(plan.bounds, tokens, nanodollars, interception.id, now, now + self._ways.lease)
        grant = _Grant(interception, plan, made)
        if now < self._away_until:
            self._meet_absence(grant, "reserve")
            return None
        answer = self._store.reserve(now, made)
        if answer is None:
            self._grants[interception.id] = grant
            return None
        if isinstance(answer, Refusal):
            raise self._refused(answer, grant)
        return self._await_room(answer, grant)

    def price_by(self, price: Price) -> None:
        """Reckon by another price list from now on."""
        self._price = price

    def give_back(self, interception: Interception) -> None:
        """End what was given for an interception that will never begin."""
        self._settle(interception, 0, 0)

    def watch(self, interception: Interception, stop: Callable[[], None]) -> None:
        """Call `stop` when a budget is spent that ends what is under way."""
        grant = self._grants.get(interception.id)
        if grant is not None and grant.plan.stops:
            grant.stop = stop

    def opened(self, interception: Interception) -> None:
        """Nothing: it was asked for before."""

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Nothing: content is not limited."""

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Nothing: an interception's end has the sums."""

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Settle with what it came to; where no tokens were told, it came to none."""
        self._settle(interception, counted(outcome.usage), outcome.cost.nanodollars or 0)

    # asking

    def _plan(self, identity: Identity, model: str) -> _Plan:
        if len(model) > _MAX_MODEL_CHARACTERS:
            return _Plan(self._rules.bounds(identity, model))
        found = self._plans.get((identity, model))
        if found is None:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            found = self._plans[identity, model] = _Plan(self._rules.bounds(identity, model))
        return found

    async def _await_room(self, answer: Awaitable[Refusal | None], grant: _Grant) -> None:
        try:
            refusal = await self._bounded(answer)
        except LimitStoreUnavailable as error:
            self._failed("reserve", error)
            self._meet_absence(grant, "")
            return
        if refusal is not None:
            raise self._refused(refusal, grant)
        self._grants[grant.interception.id] = grant

    def _meet_absence(self, grant: _Grant, operation: str) -> None:
        """The store is away: let it pass, or not. What it comes to is added once the store is there again."""
        if operation:
            self._counters.limit_store_failed(operation)
        if not self._ways.allow:
            raise RequestRejected("limits_unknown", 503, "limits cannot be checked now; try again")
        self._grants[grant.interception.id] = grant

    def _refused(self, refusal: Refusal, grant: _Grant) -> RequestRejected:
        bound = grant.plan.bounds[refusal.place]
        rule = bound.rule
        self._counters.limit_refused(rule.scope, rule.measure)
        whose = "the gateway" if rule.scope is Scope.ALL else f"{rule.scope.value} {bound.name[:100]!r}"
        if rule.measure not in DOLLARS:
            known = rule.measure is not Measure.CONCURRENT
            wait = max(1, math.ceil(refusal.until - self._clock())) if known else _AGAIN_S
            text = f"{whose} has a limit of {rule.most} {_WORDS[rule.measure]}; try again in {wait} s"
            return RequestRejected("rate_limited", 429, text, wait)
        name, end = period(rule.measure, self._clock())
        self._tell_reached(bound, name, 100)
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end))
        much = f"{rule.most / _NANO:g} {_WORDS[rule.measure]}"
        text = f"{whose} has a budget of {much}, which is spent; the next begins {until}"
        if grant.interception.dialect == "messages":
            return RequestRejected("budget_spent", 403, text)
        return RequestRejected("budget_spent", 429, text)  # as OpenAI says `insufficient_quota`

    # settling

    def _settle(self, interception: Interception, tokens: int, nanodollars: int) -> None:
        grant = self._grants.pop(interception.id, None)
        if grant is None:
            return
        plan = grant.plan
        if not (plan.weighed or plan.holds):
            return
        now = self._clock()
        ended, adds, whose = settlement(plan.bounds, grant.made, tokens, nanodollars, now)
        if not (ended or adds):
            return
        answer = self._store.settle(now, ended, adds)
        if not isinstance(answer, list):
            self._keep(self._await_settled(answer, whose, adds))
        elif plan.priced:
            self._look_at(whose, adds, answer)

    async def _await_settled(self, answer: Awaitable[list[int]], whose: Sequence[Bound], adds: Sequence[Claim]) -> None:
        try:
            self._look_at(whose, adds, await self._bounded(answer))
        except LimitStoreUnavailable as error:
            self._failed("settle", error)

    def _look_at(self, whose: Sequence[Bound], adds: Sequence[Claim], amounts: Sequence[int]) -> None:
        """Tell which budgets have passed a mark, and end what is under way of those that are spent."""
        for place, bound in enumerate(whose):
            rule, claim, amount = bound.rule, adds[place], amounts[place]
            if rule.measure not in DOLLARS:
                continue
            if amount < rule.most * _MARKS[0] // 100:
                continue
            for mark in _MARKS:
                if amount - claim.amount < rule.most * mark // 100 <= amount:
                    self._tell_reached(bound, claim.slot, mark)
            if rule.stops and amount >= rule.most:
                self._stop_all(bound.counter)

    def _tell_reached(self, bound: Bound, slot: str, percent: int) -> None:
        """Tell it once: a budget refuses again and again, and what is reserved may keep it below its end."""
        if self._told.get((bound.counter, slot), 0) >= percent:
            return
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[bound.counter, slot] = percent
        rule = bound.rule
        self._counters.budget_reached(rule.scope, rule.measure, percent)
        fields = {
            "scope": rule.scope.value, "name": bound.name[:200], "budget": rule.measure.value, "period": slot,
            "dollars": rule.most / _NANO, "percent": percent, "hard": rule.hard,
        }  # fmt: skip
        _logger.warning("budget reached", extra={"fields": fields})

    def _stop_all(self, counter: str) -> None:
        for grant in list(self._grants.values()):
            stop = grant.stop
            if stop is not None and any(bound.counter == counter and bound.rule.stops for bound in grant.plan.bounds):
                grant.stop = None
                asyncio.get_running_loop().call_soon(stop)  # we may be inside the telling of another's end

    # the leases

    async def _prolong(self) -> None:
        while True:
            await asyncio.sleep(self._ways.lease / _PROLONGED)
            now = self._clock()
            if self._grants and now >= self._away_until:
                await self._prolong_all(now)

    async def _prolong_all(self, now: float) -> None:
        held: list[Lease] = []
        spent: dict[str, Bound] = {}
        for grant in self._grants.values():
            held += leases(grant.plan.bounds, grant.made, now + self._ways.lease)
            if grant.stop is not None:
                spent.update({bound.counter: bound for bound in grant.plan.bounds if bound.rule.stops})
        whose = list(spent.values())
        looks = [spending(bound, 0, now) for bound in whose]
        try:
            for first in range(0, len(held), _AT_ONCE):
                await self._settled(now, held[first : first + _AT_ONCE], [])
            amounts = await self._settled(now, [], looks) if looks else []
        except LimitStoreUnavailable as error:
            self._failed("renew", error)
            return
        self._look_at(whose, looks, amounts)
        if ended := [Lease(one.counter, one.slot, 0, now) for one in held if one.slot not in self._grants]:
            # They were given back meanwhile, and the store may have heard of it before it heard of this.
            self._keep(self._await_settled(self._settled(now, ended, []), [], []))

    async def _settled(self, now: float, held: Sequence[Lease], adds: Sequence[Claim]) -> list[int]:
        answer = self._store.settle(now, held, adds)
        return answer if isinstance(answer, list) else await self._bounded(answer)

    # the store

    async def _bounded(self, answer: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._ways.patience):
                found = await answer
        except TimeoutError:
            raise LimitStoreUnavailable(f"no answer within {self._ways.patience:g} s") from None
        if self._away:
            self._away = False
            _logger.info("limits are counted again")
        return found

    def _failed(self, operation: str, error: LimitStoreUnavailable) -> None:
        self._counters.limit_store_failed(operation)
        self._away_until = self._clock() + _AWAY_S
        if not self._away:
            self._away = True
            word = "pass" if self._ways.allow else "are refused"
            text = f"limits cannot be counted; requests that have some {word}"
            _logger.error(text, extra={"fields": {"operation": operation, "error": str(error)}})

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
