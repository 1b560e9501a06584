"""Which limits a request meets, and what it claims of each. Pure.

Of the limits of one scope that limit the same, the first whose glob fits the name counts; those of a gateway key itself
come first. An actor of several teams meets those of each.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import NamedTuple

from aibridge.access import Allowance, Identity
from aibridge.body import Body
from aibridge.limits.values import Claim, Lease, Measure, Scope
from aibridge.values import Usage

MINUTE_S = 60.0

MAX_RESERVED_OUTPUT = 4096
"""Tokens of the answer that a request reserves at most: agents make room for 32,000, and get some hundred."""

_BYTES_PER_TOKEN = 4
_MAX_DIGITS = 9
_MAX_NAME_CHARACTERS = 128
_OUTPUT_BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Of Messages and of Chat Completions, of the latter anew, and of Responses."""

DOLLARS = frozenset({Measure.DAY, Measure.MONTH})
_OF_A_MINUTE = frozenset({Measure.REQUESTS, Measure.TOKENS})
_DAY_S = 86_400


class Rule(NamedTuple):
    """One limit.

    Attributes:
        scope: whose it is, of each by itself.
        match: a glob over the names that it is for.
        measure: what is limited.
        most: how much; of dollars nano-dollars.
        hard: whether more is refused, or told only. Of dollars; all else is hard.
        stops: whether streams that are under way end when it is spent.
    """

    scope: Scope
    match: str
    measure: Measure
    most: int
    hard: bool = True
    stops: bool = False


class Bound(NamedTuple):
    """A limit that a request meets."""

    rule: Rule
    name: str
    """Whose."""
    counter: str


class Rules:
    """All limits.

    Args:
        rules: in the order in which they are asked.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)

    def bounds(self, identity: Identity, model: str) -> tuple[Bound, ...]:
        """Return what a request meets, refusals first: what is only told is claimed all the same."""
        found: dict[tuple[Scope, Measure, str, bool], Bound] = {}
        names = _names(identity, model)
        for rule in (*_rules_of_key(identity), *self._rules):
            for name in names[rule.scope]:
                what = (rule.scope, rule.measure, name, rule.hard)
                if what not in found and fnmatchcase(name, rule.match):
                    found[what] = Bound(rule, name, _counter(rule, name))
        return tuple(sorted(found.values(), key=lambda bound: not bound.rule.hard))


def _names(identity: Identity, model: str) -> dict[Scope, tuple[str, ...]]:
    return {
        Scope.KEY: (identity.key_id,) if identity.key_id else (),
        Scope.ACTOR: (identity.actor.id,),
        Scope.TEAM: tuple(dict.fromkeys(identity.actor.teams)),
        Scope.MODEL: (model,) if model else (),
        Scope.ALL: ("",),
    }


def _rules_of_key(identity: Identity) -> list[Rule]:
    own = identity.allowance
    if own is None or not identity.key_id:
        return []
    return [Rule(Scope.KEY, "*", measure, most) for measure, most in _measures(own) if most is not None]


def _measures(own: Allowance) -> Sequence[tuple[Measure, int | None]]:
    return (
        (Measure.REQUESTS, own.requests_per_minute),
        (Measure.TOKENS, own.tokens_per_minute),
        (Measure.CONCURRENT, own.concurrent),
        (Measure.DAY, own.nanodollars_per_day),
        (Measure.MONTH, own.nanodollars_per_month),
    )


def _counter(rule: Rule, name: str) -> str:
    if len(name) > _MAX_NAME_CHARACTERS:  # clients choose the names of models
        name = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{rule.measure.value}{'' if rule.hard else ':soft'}:{rule.scope.value}:{name}"


def estimated(body: Body) -> Usage:
    """Return the tokens that a request may come to: a quarter of its bytes, and the output that it makes room for."""
    return Usage(len(body.raw) // _BYTES_PER_TOKEN + 1, min(_output_bound(body), MAX_RESERVED_OUTPUT))


def _output_bound(body: Body) -> int:
    for member in body.members:
        if member.key in _OUTPUT_BOUNDS:
            text = body.raw[member.value_start : member.value_end]
            if text.isdigit():
                return int(text[:_MAX_DIGITS])
    return MAX_RESERVED_OUTPUT


def counted(usage: Usage) -> int:
    """Return the tokens that a limit counts: not those read from a cache, as with the providers' own limits."""
    return (usage.input_tokens or 0) + (usage.output_tokens or 0) + (usage.cache_creation_input_tokens or 0)


def claims(
    bounds: Sequence[Bound], tokens: int, nanodollars: int, owner: str, now: float, lease_until: float
) -> list[Claim]:
    """Return what a request claims, one claim for each bound.

    One that comes to more than a limit is taken for the limit: alone it passes.

    Args:
        bounds: that it meets.
        tokens: that it may come to, as a limit counts them.
        nanodollars: that it may cost.
        owner: the interception's id.
        now: UTC seconds.
        lease_until: when its leases end, unless they are prolonged.
    """
    second, minute = str(int(now)), now + MINUTE_S
    made = []
    for rule, _, counter in bounds:
        measure, most = rule.measure, rule.most
        limit = most if rule.hard else None
        if measure is Measure.REQUESTS:
            made.append(Claim(counter, second, 1, minute, limit))
        elif measure is Measure.TOKENS:
            made.append(Claim(counter, second, min(tokens, most), minute, limit))
        elif measure is Measure.CONCURRENT:
            made.append(Claim(counter, owner, 1, lease_until, limit))
        else:
            made.append(Claim(counter, owner, min(nanodollars, most), lease_until, limit))
    return made


def leases(bounds: Sequence[Bound], made: Sequence[Claim], until: float) -> list[Lease]:
    """Return what is held of claims while the interception is under way, prolonged."""
    return [
        Lease(claim.counter, claim.slot, claim.amount, until)
        for bound, claim in zip(bounds, made, strict=True)
        if bound.rule.measure not in _OF_A_MINUTE
    ]


def settlement(
    bounds: Sequence[Bound], made: Sequence[Claim], tokens: int, nanodollars: int, now: float
) -> tuple[list[Lease], list[Claim], list[Bound]]:
    """Return what an interception's end comes to: leases that end, what is added, and whose that is.

    Tokens that were reserved in vain are taken back where they still count; those that came more count from now on.

    Args:
        bounds: that it met.
        made: what it claimed of them.
        tokens: as a limit counts them.
        nanodollars: what it cost.
        now: UTC seconds.
    """
    ended: list[Lease] = []
    adds: list[Claim] = []
    whose: list[Bound] = []
    for place, claim in enumerate(made):  # `zip` with `strict` is a call, also in what is compiled
        bound = bounds[place]
        measure = bound.rule.measure
        if measure is Measure.REQUESTS:
            continue
        if measure is Measure.TOKENS:
            more = tokens - claim.amount
            if more < 0 and claim.until > now:
                adds.append(Claim(claim.counter, claim.slot, more, claim.until))
                whose.append(bound)
            elif more > 0:
                adds.append(Claim(claim.counter, str(int(now)), more, now + MINUTE_S))
                whose.append(bound)
            continue
        ended.append(Lease(claim.counter, claim.slot, 0, now))
        if measure is not Measure.CONCURRENT:
            adds.append(spending(bound, nanodollars, now))
            whose.append(bound)
    return ended, adds, whose


def spending(bound: Bound, nanodollars: int, now: float) -> Claim:
    """Return the entry of what a budget has spent in its period, with an amount to add."""
    start, end = period(bound.rule.measure, now)
    return Claim(bound.counter, start, nanodollars, end)


def period(measure: Measure, now: float) -> tuple[str, float]:
    """Return the day or month of a moment, in UTC: its name, and its end as UTC seconds."""
    return _period(measure, int(now // _DAY_S))


@functools.lru_cache(16)
def _period(measure: Measure, number: int) -> tuple[str, float]:
    day = datetime.fromtimestamp(number * _DAY_S, UTC)
    if measure is Measure.DAY:
        return day.date().isoformat(), (day + timedelta(days=1)).timestamp()
    first = day.replace(day=1)
    return first.strftime("%Y-%m"), (first + timedelta(days=32)).replace(day=1).timestamp()
