"""The commands about prices: `prices list` and `check` read price lists, `rerate` brings the records up to them."""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from aibridge import config, jsontext, pricefile
from aibridge.commands.parser import Commands, add_json
from aibridge.commands.reporting import Fields, add_source, dollars, records_path, table
from aibridge.commands.terminal import print_lines, progress
from aibridge.prices import Catalogue, Price, Rates, Ratio, Scale
from aibridge.stores.rerating import Counted, rerate
from aibridge.values import Cost

_NANO = 10**9
_PAGE = "docs/prices.md"


def add_commands(commands: Commands) -> None:
    """Add `prices`, and the commands below it."""
    below = commands.group(
        "prices",
        "show price lists, check a file of them, or rate the records anew",
        ["prices list", "prices check our-prices.yaml", "prices rerate --since 30d --dry-run"],
        _PAGE,
    )
    listing = below.add(
        "list",
        _list,
        "list all prices: of a million tokens, in dollars",
        ["prices list --config aibridge.yaml", "prices list --json | jq '.[] | select(.model | test(\"opus\"))'"],
        _PAGE,
    )
    _add_prices(listing, config_too=True)
    add_json(listing, "as one JSON array")
    check = below.add(
        "check",
        _check,
        "check a file of prices, and tell every mistake in it with its line and key",
        ["prices check our-prices.yaml"],
        _PAGE,
    )
    check.add_argument("file", nargs="?", metavar="FILE", help="the file (default: what comes with the program)")
    add_json(check)
    rating = below.add(
        "rerate",
        _rerate,
        "rate the records anew where other prices, or none, were taken",
        ["prices rerate --dry-run  # what would change", "prices rerate --prices our-prices.yaml --since 2026-01-01"],
        _PAGE,
    )
    add_source(rating, since="all")
    _add_prices(rating, config_too=False)
    rating.add_argument("--dry-run", action="store_true", help="tell what would change, and change nothing")
    add_json(rating, "as one JSON object")


def _add_prices(parser: argparse.ArgumentParser, *, config_too: bool) -> None:
    text = "prices that win over ours (default: `prices.path` of the configuration)"
    parser.add_argument("--prices", metavar="FILE", help=text)
    if config_too:
        parser.add_argument("--config", metavar="FILE", help="a configuration that names it")


def _catalogue(options: argparse.Namespace) -> Catalogue:
    if options.prices:
        return pricefile.load(Path(options.prices))
    return pricefile.load(config.load(options.config).prices.path if options.config else None)


def _list(options: argparse.Namespace) -> int:
    rows = list(_rows(_catalogue(options)))
    print_lines([jsontext.dumps(rows).decode()] if options.json else table(rows), as_json=options.json)
    return 0


def _check(options: argparse.Namespace) -> int:
    catalogue = pricefile.load(Path(options.file) if options.file else None)
    models = sum(len(one.models) for edition in catalogue.editions for one in edition.values())
    if options.json:
        text = jsontext.dumps({"price_version": catalogue.version, "models": models}).decode()
    else:
        text = f"{catalogue.version}: prices for {models} names of models"
    print_lines([text], as_json=options.json)
    return 0


def _rows(catalogue: Catalogue) -> Iterator[Fields]:
    for edition in catalogue.editions:
        for name, one in edition.items():
            for model, prices in one.models.items():
                for price in prices:
                    yield from _rows_of({"list": name, "model": model, "from": _day(price.since)}, price)


def _rows_of(head: Fields, price: Price) -> Iterator[Fields]:
    """Yield a price's rows: one for each scale of a tier, and for each length of input in it."""
    times = {word: tier for word, tier in price.tiers.items() if isinstance(tier, Ratio)}
    scales = {"standard": price.scale} | {w: tier for w, tier in price.tiers.items() if isinstance(tier, Scale)}
    for tier, scale in scales.items():
        for above, rates in ((0, scale.rates), *scale.longer):
            yield {
                **head,
                "tier": tier,
                "above": above,
                **{f"{field}_usd": _plain(rate) for field, rate in zip(Rates._fields, rates, strict=True)},
                "times": _words(times if tier == "standard" else {}),
                "regions": _words(price.regions),
                "source": price.source or None,
            }


def _words(ratios: Mapping[str, Ratio]) -> str | None:
    return ", ".join(f"{word} x{_decimal(ratio)}" for word, ratio in ratios.items()) or None


def _decimal(ratio: Ratio) -> str:
    return _plain(ratio.numerator * _NANO // ratio.denominator) or "0"


def _plain(nanodollars: int | None) -> str | None:
    """Return dollars with the digits that they need."""
    if nanodollars is None:
        return None
    whole, rest = divmod(nanodollars, _NANO)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".")


def _day(since: int) -> str | None:
    return datetime.fromtimestamp(since, UTC).date().isoformat() if since else None


# --- rating anew ----------------------------------------------------------------------------------------------------


class _Unpriced(NamedTuple):
    """Whose tokens have no cost, and why."""

    provider: str
    model: str
    unpriced: str


class _Sums:
    """What rating anew comes to."""

    def __init__(self) -> None:
        self.rated = 0
        self.changed = 0
        self.before = 0
        self.after = 0
        self.requests: Counter[_Unpriced] = Counter()
        self.tokens: Counter[_Unpriced] = Counter()

    def add(self, counted: Counted, cost: Cost) -> None:
        """Add what one interception cost before, and costs now."""
        self.rated += 1
        self.changed += cost.nanodollars != counted.before.nanodollars
        self.before += counted.before.nanodollars or 0
        self.after += cost.nanodollars or 0
        if cost.unpriced is not None:
            of = _Unpriced(counted.provider, counted.upstream_model, cost.unpriced.value)
            self.requests[of] += 1
            self.tokens[of] += sum(count or 0 for turn in counted.turns for count in turn[:4])

    def unpriced(self) -> list[Fields]:
        """Return what has no cost, the most tokens first."""
        return [
            {**of._asdict(), "requests": self.requests[of], "tokens": tokens}
            for of, tokens in self.tokens.most_common()
        ]


def _rerate(options: argparse.Namespace) -> int:
    catalogue, sums = _catalogue(options), _Sums()

    def price(counted: Counted) -> Cost:
        return catalogue.cost(
            provider=counted.provider,
            provider_kind=counted.provider_kind,
            upstream_model=counted.upstream_model,
            response_model=counted.response_model,
            at=counted.started_at,
            turns=counted.turns,
        )

    path = records_path(options)
    batches = rerate(path, price, catalogue.version, options.since, dry_run=options.dry_run)
    for counted, cost in progress(chain.from_iterable(batches), "interceptions"):
        sums.add(counted, cost)
    lines = [_as_json(catalogue, sums)] if options.json else _as_text(catalogue, sums, dry_run=options.dry_run)
    print_lines(lines, as_json=options.json)
    return 0


def _as_json(catalogue: Catalogue, sums: _Sums) -> str:
    fields = {
        "price_version": catalogue.version,
        "rated": sums.rated,
        "changed": sums.changed,
        "cost_nanodollars_before": sums.before,
        "cost_nanodollars": sums.after,
        "unpriced": sums.unpriced(),
    }
    return jsontext.dumps(fields).decode()


def _as_text(catalogue: Catalogue, sums: _Sums, *, dry_run: bool) -> Iterator[str]:
    would = "would be " if dry_run else ""
    yield f"{sums.rated} requests {would}rated by {catalogue.version}, {sums.changed} of them otherwise than before"
    yield f"${dollars(sums.before)} before, ${dollars(sums.after)} now"
    unpriced = sums.unpriced()
    if unpriced:
        yield f"without a cost: {sum(sums.requests.values())} requests"
        yield from table(unpriced)
