"""What tokens cost: price lists as values, and one exact sum. Pure.

Prices are whole nano-dollars for a million tokens, multipliers are fractions, and a cost is rounded once, half up, at
its end: there are no floats here. A cost is told whole or not at all. Where a count has no price, or the model has
none, it is None, with the reason.

How the providers bill, as the rules below have it:

- Input is billed in parts: fresh, read from a cache, written to one for five minutes or for an hour.
- A long input has other prices for all tokens of its request, output too; what counts is the whole input.
- A service tier has prices of its own, or multiplies.
- A region multiplies all tokens. On Bedrock it is the inference profile's prefix, `REGIONAL` where there is none.
- Counts that are no tokens, such as web searches, have prices for a thousand, which nothing multiplies.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from aibridge.values import Cost, Interception, Outcome, Unpriced, Usage, UsageSource, address_of

RULES = 1
"""Of the rules above: raised with every change of what the same prices come to. It is a part of every version."""

EVERY_OTHER = "*"
"""The region that stands for all that are not named."""

REGIONAL = "regional"
"""The region of a Bedrock model that is asked for without an inference profile."""

STANDARD_TIERS = frozenset({"", "standard", "default", "auto", "on_demand"})
"""The APIs' words for no tier in particular."""

BILLED_APART = frozenset(
    {"web_search_requests", "prompt_audio_tokens", "input_audio_tokens", "audio_tokens", "output_audio_tokens"}
)
"""Counts among the extras that never go at the common prices: where one has no price of its own, there is no cost."""

_ONE_HOUR = "ephemeral_1h_input_tokens"
_THOUSAND = 1000
_MAX_COST = 2**63 - 1
"""Nano-dollars that a column holds: nine billion dollars."""

_REMEMBERED = 1000
"""Names whose prices need no search: clients choose them."""
_REMEMBERED_CHARACTERS = 512

_BEDROCK_ID = re.compile(r"(?:arn:[^/]+/)?(?:([a-z][a-z-]*)\.)?(anthropic\..+)")


class Ratio(NamedTuple):
    """A multiplier, exactly."""

    numerator: int = 1
    denominator: int = 1


ONE = Ratio()


class Rates(NamedTuple):
    """Nano-dollars for a million tokens; None where there is no such price."""

    input: int
    output: int
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None


class Scale(NamedTuple):
    """Rates, and those of longer inputs: of the highest number of tokens that the whole input is above."""

    rates: Rates
    longer: tuple[tuple[int, Rates], ...] = ()

    def of(self, whole_input: int) -> Rates:
        """Return the rates of an input."""
        for above, rates in reversed(self.longer):
            if whole_input > above:
                return rates
        return self.rates


class Price(NamedTuple):
    """What a model costs from a moment on, until its next price.

    Attributes:
        since: UTC seconds; 0 for ever.
        scale: of the standard tier.
        tiers: by the API's word, a scale or what the standard one is multiplied by.
        regions: multipliers by region; empty where the region does not matter.
        per_thousand: nano-dollars for a thousand of a count among the extras, by its name.
        source: where it can be read.
    """

    since: int
    scale: Scale
    tiers: Mapping[str, Scale | Ratio] = {}
    regions: Mapping[str, Ratio] = {}
    per_thousand: Mapping[str, int] = {}
    source: str = ""


class PriceList(NamedTuple):
    """The models of one provider, or of one kind of providers.

    Attributes:
        models: prices, the oldest first, by a model's name, or by the beginning of names and a star. Without any the
            model is known to have none.
        aliases: names that stand for others, such as ARNs.
    """

    models: Mapping[str, tuple[Price, ...]]
    aliases: Mapping[str, str] = {}

    def prices_of(self, model: str) -> tuple[Price, ...] | None:
        """Return the prices of a model, by its whole name, else by the longest beginning; None where none fits."""
        prices = self.models.get(model)
        if prices is not None:
            return prices
        fitting = [name for name in self.models if name.endswith("*") and model.startswith(name[:-1])]
        return self.models[max(fitting, key=len)] if fitting else None


class _Found(NamedTuple):
    """What the names of an interception lead to. `region` is what they tell of it; `why` is for no prices."""

    prices: tuple[Price, ...]
    region: str = ""
    why: Unpriced | None = None


class Catalogue:
    """Price lists by a provider's name or kind.

    Args:
        name: of this edition, for people.
        editions: the first that has a price for a model is the one that counts. In each a list of the provider's own
            name is asked before that of its kind.
    """

    def __init__(self, name: str, *editions: Mapping[str, PriceList]) -> None:
        self.editions = editions
        self.version = f"{name}.{_digest(editions)}"
        """Says with which prices, and by which rules, a cost was made."""
        self._found: dict[tuple[str, str, str, str], _Found] = {}

    def priced(self, interception: Interception, outcome: Outcome) -> Outcome:
        """Return an outcome with what the interception cost; where no tokens were told there is nothing to say."""
        if outcome.usage_source is UsageSource.NONE:
            return outcome
        asked = interception if outcome.address is None else address_of(interception, outcome)
        cost = self.cost(
            provider=asked.provider,
            provider_kind=asked.provider_kind,
            upstream_model=asked.upstream_model,
            response_model=outcome.response_model,
            at=interception.started_at,
            turns=outcome.turns or (outcome.usage,),
        )
        return outcome._replace(cost=cost)

    def of_tokens(self, interception: Interception, usage: Usage) -> int | None:
        """Return what tokens of an interception would cost, in nano-dollars; None where they have no price."""
        names = (interception.provider, interception.provider_kind, interception.upstream_model, "")
        summed = self._sum(names, interception.started_at, (usage,))
        return summed if isinstance(summed, int) else None

    def cost(
        self,
        *,
        provider: str,
        provider_kind: str,
        upstream_model: str,
        response_model: str,
        at: float,
        turns: Sequence[Usage],
    ) -> Cost:
        """Return what the tokens of an interception cost.

        Args:
            provider: its name in the configuration.
            provider_kind: its kind.
            upstream_model: what it was asked for.
            response_model: what it says has answered; asked about where the first has no price.
            at: when the request began, UTC seconds.
            turns: the provider's counts, of each answer apart: the length of one input is not the sum of them.
        """
        summed = self._sum((provider, provider_kind, upstream_model, response_model), at, turns)
        return Cost(summed, self.version) if isinstance(summed, int) else Cost(None, self.version, summed)

    def _sum(self, names: tuple[str, str, str, str], at: float, turns: Sequence[Usage]) -> int | Unpriced:
        found = self._found.get(names)
        if found is None:
            found = self._find(*names)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            if len(names[2]) + len(names[3]) <= _REMEMBERED_CHARACTERS:
                self._found[names] = found
        if found.why is not None:
            return found.why
        price: Price | None = found.prices[-1]  # the usual case, without a generator
        if found.prices[-1].since > at:
            price = next((price for price in reversed(found.prices) if price.since <= at), None)
        if price is None:
            return Unpriced.BEFORE_FIRST_PRICE
        total = 0
        for usage in turns:
            cost = _cost(price, usage, found.region or usage.region)
            if not isinstance(cost, int):
                return cost
            total += cost
        return total if total <= _MAX_COST else Unpriced.TOO_MANY_TOKENS

    def _find(self, provider: str, kind: str, upstream_model: str, response_model: str) -> _Found:
        names = dict.fromkeys((provider, kind))
        lists = [edition[name] for edition in self.editions for name in names if name in edition]
        if not lists:
            return _Found((), why=Unpriced.NO_PRICE_LIST)
        for asked in (upstream_model, response_model):
            meant = next((one.aliases[asked] for one in lists if asked in one.aliases), asked)
            region, model = _named(kind, meant)
            for one in lists:
                prices = one.prices_of(model)
                if prices:
                    return _Found(prices, region)
                if prices is not None:
                    return _Found((), why=Unpriced.UNKNOWN_MODEL)
        return _Found((), why=Unpriced.UNKNOWN_MODEL)


def _named(kind: str, model: str) -> tuple[str, str]:
    """Return what a model's id says of the region, and the model's own name."""
    said = _BEDROCK_ID.fullmatch(model) if kind == "bedrock" else None
    return ("", model) if said is None else (said[1] or REGIONAL, said[2])


def _cost(price: Price, usage: Usage, region: str) -> int | Unpriced:
    """Return nano-dollars, or why there is no cost."""
    fresh, output, read, written, _, said, _ = usage
    if fresh is None and output is None and read is None and written is None:
        return Unpriced.NO_COUNTS
    tier = _tier(price, said)
    if tier is None:
        return Unpriced.UNKNOWN_SERVICE_TIER
    place = _place(price, region)
    if place is None:
        return Unpriced.UNKNOWN_REGION
    scale, times = (tier, ONE) if isinstance(tier, Scale) else (price.scale, tier)
    tokens, apart = _tokens(scale, usage), _apart(price, usage)
    if tokens is None or apart is None:
        return Unpriced.NO_RATE
    divisor = times.denominator * place.denominator
    whole = tokens * times.numerator * place.numerator + apart * _THOUSAND * divisor
    return _rounded(whole, _THOUSAND * _THOUSAND * divisor)


def _tier(price: Price, said: str) -> Scale | Ratio | None:
    return price.scale if said in STANDARD_TIERS else price.tiers.get(said)


def _place(price: Price, region: str) -> Ratio | None:
    if not price.regions or not region:
        return ONE
    return price.regions.get(region) or price.regions.get(EVERY_OTHER)


def _tokens(scale: Scale, usage: Usage) -> int | None:
    """Return the tokens at the standard price, in millionths of nano-dollars; None where a rate is missing."""
    fresh, output = usage.input_tokens or 0, usage.output_tokens or 0
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    rates = scale.of(fresh + read + written)
    if not read and not written:
        return fresh * rates.input + output * rates.output
    for_an_hour = min(written, next((count for name, count in usage.extras if name == _ONE_HOUR), 0))
    total = fresh * rates.input + output * rates.output
    for count, rate in (
        (read, rates.cache_read),
        (written - for_an_hour, rates.cache_write_5m),
        (for_an_hour, rates.cache_write_1h),
    ):
        if count and rate is None:
            return None
        total += count * (rate or 0)
    return total


def _apart(price: Price, usage: Usage) -> int | None:
    """Return what is no token at the common prices, in thousandths of nano-dollars; None where a rate is missing."""
    total = 0
    for name, count in usage.extras:
        if name in price.per_thousand:
            total += count * price.per_thousand[name]
        elif count and name in BILLED_APART:
            return None
    return total


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _digest(editions: Sequence[Mapping[str, PriceList]]) -> str:
    """Return what tells these prices, and the rules, from others. Sources do not count."""
    said = [
        (name, sorted(one.aliases.items()), sorted((model, _plain(prices)) for model, prices in one.models.items()))
        for edition in editions
        for name, one in (("", PriceList({})), *sorted(edition.items()))
    ]
    return sha256(repr((RULES, said)).encode()).hexdigest()[:8]


def _plain(prices: tuple[Price, ...]) -> list[tuple[object, ...]]:
    return [
        (price.since, price.scale, *[sorted(part.items()) for part in (price.tiers, price.regions, price.per_thousand)])
        for price in prices
    ]
