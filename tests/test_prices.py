"""What tokens cost: sums made by hand, rules of the providers' billing, and laws that hold for all counts."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_kit import INTERCEPTION, OUTCOME

from aibridge import prices as module
from aibridge.prices import Catalogue, Price, PriceList, Rates, Ratio, Scale
from aibridge.values import Cost, Unpriced, Usage, UsageSource

DOLLAR = 10**9  # of nano-dollars

RATES = Rates(3 * DOLLAR, 15 * DOLLAR, 3 * DOLLAR // 10, 375 * DOLLAR // 100, 6 * DOLLAR)
LONG = Rates(6 * DOLLAR, 225 * DOLLAR // 10, 6 * DOLLAR // 10, 75 * DOLLAR // 10, 12 * DOLLAR)
SONNET = Price(
    0,
    Scale(RATES, ((200_000, LONG),)),
    tiers={"batch": Ratio(5, 10), "priority": Scale(Rates(4 * DOLLAR, 20 * DOLLAR))},
    regions={"global": Ratio(), "us": Ratio(11, 10), "*": Ratio(12, 10)},
    per_thousand={"web_search_requests": 10 * DOLLAR},
)
NANO = Price(0, Scale(Rates(DOLLAR // 20, 4 * DOLLAR // 10, DOLLAR // 200)), tiers={"flex": Ratio(5, 10)})


def catalogue(**lists):
    return Catalogue(
        "test", {name: PriceList({m: tuple(p) for m, p in models.items()}) for name, models in lists.items()}
    )


ONE = catalogue(anthropic={"claude-x": [SONNET], "nano": [NANO]})


def cost(usage, *, of=ONE, model="claude-x", provider="anthropic", kind="anthropic", answered="", at=1.0):
    return of.cost(
        provider=provider, provider_kind=kind, upstream_model=model, response_model=answered, at=at, turns=(usage,)
    )


HOUR = "ephemeral_1h_input_tokens"


@pytest.mark.parametrize(
    ("usage", "nanodollars"),
    [
        # 1,000 x $3 + 500 x $15, for a million: $0.003 + $0.0075
        (Usage(1000, 500), 10_500_000),
        # 10 x 3 + 20 x 15 + 30,000 x 0.30 + 400 x 3.75 = 30 + 300 + 9,000 + 1,500 millionths
        (Usage(10, 20, 30_000, 400), 10_830_000),
        # of 400 tokens 300 for an hour: 100 x 3.75 + 300 x 6 = 375 + 1,800
        (Usage(0, 0, 0, 400, ((HOUR, 300), ("ephemeral_5m_input_tokens", 100))), 2_175_000),
        # more for an hour than were written at all: all of them
        (Usage(0, 0, 0, 400, ((HOUR, 900),)), 2_400_000),
        # 200,000 of input is not long: 200,000 x 3 + 10 x 15
        (Usage(200_000, 10), 600_150_000),
        # 200,001 is, cached tokens too: 1 x 6 + 10 x 22.5 + 150,000 x 0.60 + 50,000 x 7.5
        (Usage(1, 10, 150_000, 50_000), 465_231_000),
        # half of 1,000 x 3 + 500 x 15
        (Usage(1000, 500, service_tier="batch"), 5_250_000),
        # prices of its own: 1,000 x 4 + 500 x 20
        (Usage(1000, 500, service_tier="priority"), 14_000_000),
        # which know no longer inputs: 300,000 x 4
        (Usage(300_000, 0, service_tier="priority"), 1_200_000_000),
        # 1.1 times 10,500,000, and 1.2 times for any other
        (Usage(1000, 500, region="us"), 11_550_000),
        (Usage(1000, 500, region="eu"), 12_600_000),
        (Usage(1000, 500, region="global"), 10_500_000),
        # half, then 1.1 times; two searches at a cent each are neither halved nor multiplied
        (Usage(1000, 500, extras=(("web_search_requests", 2),), service_tier="batch", region="us"), 25_775_000),
        (Usage(1000, 500, service_tier="standard"), 10_500_000),
        (Usage(1000, 500, service_tier="default"), 10_500_000),
        (Usage(1000), 3_000_000),
        (Usage(None, 500), 7_500_000),
        (Usage(0, 0, 0, 0), 0),
        # what is a part of the output, or of all, costs nothing beside it
        (Usage(1000, 500, extras=(("reasoning_tokens", 400), ("total_tokens", 1500), ("odd", 7))), 10_500_000),
        (Usage(1000, 500, extras=(("audio_tokens", 0),)), 10_500_000),
    ],
)
def test_sums_made_by_hand(usage, nanodollars):
    assert cost(usage) == Cost(nanodollars, ONE.version)


@pytest.mark.parametrize(
    ("usage", "nanodollars"),
    [
        (Usage(1, 0), 50),
        (Usage(0, 1), 400),
        (Usage(0, 0, 1), 5),
        (Usage(0, 0, 1, service_tier="flex"), 3),  # 2.5, half up
        (Usage(0, 0, 2, service_tier="flex"), 5),
        (Usage(0, 0, 3, service_tier="flex"), 8),  # 7.5; rounded once, not 2.5 three times
        (Usage(1, 1, 1, service_tier="flex"), 228),  # 227.5
    ],
)
def test_parts_of_a_nanodollar_are_rounded_once(usage, nanodollars):
    assert cost(usage, model="nano").nanodollars == nanodollars


@pytest.mark.parametrize(
    ("usage", "more", "why"),
    [
        (Usage(1, 1), {"model": "claude-y"}, Unpriced.UNKNOWN_MODEL),
        (Usage(1, 1), {"provider": "copilot", "kind": "copilot"}, Unpriced.NO_PRICE_LIST),
        (Usage(1, 1, service_tier="scale"), {}, Unpriced.UNKNOWN_SERVICE_TIER),
        (Usage(1, 1, 0, 5), {"model": "nano"}, Unpriced.NO_RATE),
        (Usage(1, 1, 5, service_tier="priority"), {}, Unpriced.NO_RATE),
        (Usage(1, 1, extras=(("prompt_audio_tokens", 1),)), {}, Unpriced.NO_RATE),
        (Usage(1, 1, extras=(("web_search_requests", 1),)), {"model": "nano"}, Unpriced.NO_RATE),
        (Usage(), {}, Unpriced.NO_COUNTS),
        (Usage(extras=(("total_tokens", 9),)), {}, Unpriced.NO_COUNTS),
        (Usage(2**62, 2**62), {}, Unpriced.TOO_MANY_TOKENS),
    ],
)
def test_a_cost_is_whole_or_there_is_none_and_a_reason(usage, more, why):
    assert cost(usage, **more) == Cost(None, ONE.version, why)


def test_a_region_that_nobody_has_priced():
    narrow = SONNET._replace(regions={"us": Ratio(11, 10)})
    only_us = catalogue(anthropic={"claude-x": [narrow]})
    assert cost(Usage(1000, 0, region="eu"), of=only_us).unpriced is Unpriced.UNKNOWN_REGION
    assert cost(Usage(1000, 0), of=only_us).nanodollars == 3_000_000
    anywhere = catalogue(anthropic={"claude-x": [SONNET._replace(regions={})]})
    assert cost(Usage(1000, 0, region="eu"), of=anywhere).nanodollars == 3_000_000


# which price


def flat(dollars, since=0):
    return Price(since, Scale(Rates(dollars * DOLLAR, 0)))


def test_the_price_of_the_day():
    changed = catalogue(anthropic={"claude-x": [flat(3, 100), flat(2, 200), flat(5, 300)]})

    def at(moment):
        return cost(Usage(1_000_000, 0), of=changed, at=moment)

    assert [at(moment).nanodollars for moment in (100, 199.999, 200, 299, 300, 1e10)] == [
        dollars * DOLLAR for dollars in (3, 3, 2, 2, 5, 5)
    ]
    assert at(99.9) == Cost(None, changed.version, Unpriced.BEFORE_FIRST_PRICE)


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("gpt-5", 1),
        ("gpt-5-2025-08-07", 2),
        ("gpt-5-mini", 3),
        ("gpt-5-mini-2025-08-07", 4),
        ("gpt-5-other", 4),
        ("gpt-5.1", None),
        ("gpt", None),
        ("", None),
    ],
)
def test_the_whole_name_counts_first_and_then_the_longest_beginning(model, dollars):
    names = {"gpt-5": [flat(1)], "gpt-5-20*": [flat(2)], "gpt-5-mini": [flat(3)], "gpt-5-*": [flat(4)]}
    found = cost(Usage(1_000_000, 0), of=catalogue(openai=names), model=model, kind="openai", provider="openai")
    assert found.nanodollars == (None if dollars is None else dollars * DOLLAR)


def test_the_list_of_a_providers_own_name_counts_before_that_of_its_kind():
    lists = {
        "openai": {"a": [flat(1)], "b": [flat(2)], "c": [flat(3)]},
        "vllm": {"a": [flat(9)], "c": []},
        "cellar": {"*": [flat(0)]},
    }
    both = catalogue(**lists)

    def of(provider, model):
        found = cost(Usage(1_000_000, 0), of=both, model=model, provider=provider, kind="openai")
        return found.unpriced or found.nanodollars // DOLLAR

    assert [of("openai", model) for model in "abc"] == [1, 2, 3]
    assert [of("vllm", model) for model in "abcd"] == [9, 2, Unpriced.UNKNOWN_MODEL, Unpriced.UNKNOWN_MODEL]
    assert [of("cellar", model) for model in "ad"] == [0, 0]


def test_whatever_fits_in_the_first_edition_counts():
    def edition(**models):
        return {"openai": PriceList({name: (flat(dollars),) for name, dollars in models.items()}, {"ours": "c"})}

    two = Catalogue("test", edition(**{"a*": 1, "b": 2}), edition(a=3, ab=4, c=5))

    def of(model):
        return cost(Usage(1_000_000, 0), of=two, model=model, provider="x", kind="openai").nanodollars

    assert [of(model) for model in ("a", "ab", "b", "c", "ours")] == [n * DOLLAR for n in (1, 1, 2, 5, 5)]
    assert Catalogue("test", *two.editions).version == two.version
    assert Catalogue("test", *reversed(two.editions)).version != two.version


def test_what_has_answered_is_asked_about_where_the_name_that_was_asked_for_is_unknown():
    deployments = catalogue(openai={"gpt-4o": [flat(1)], "gpt-5": [flat(2)]})

    def of(model, answered):
        usage = Usage(1_000_000, 0)
        return cost(usage, of=deployments, kind="openai", provider="azure", model=model, answered=answered).nanodollars

    assert of("our-deployment", "gpt-4o") == DOLLAR
    assert of("gpt-5", "gpt-4o") == 2 * DOLLAR
    assert of("our-deployment", "") is None


@pytest.mark.parametrize(
    ("model", "times"),
    [
        ("global.anthropic.claude-x", 10),
        ("us.anthropic.claude-x", 11),
        ("eu.anthropic.claude-x", 12),
        ("anthropic.claude-x", 13),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x", 11),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-x", 13),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/team", 11),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/other", None),
        ("claude-x", None),
    ],
)
def test_bedrocks_region_is_told_by_the_inference_profile(model, times):
    regions = {"global": Ratio(), "us": Ratio(11, 10), "*": Ratio(12, 10), "regional": Ratio(13, 10)}
    team = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/team"
    models = {"anthropic.claude-x": (Price(0, Scale(RATES), regions=regions),)}
    bedrock = Catalogue("test", {"bedrock": PriceList(models, {team: "us.anthropic.claude-x"})})
    # the message's own word for a region means nothing there
    found = cost(Usage(1000, 0, region="not_available"), of=bedrock, model=model, kind="bedrock", provider="aws")
    assert found.nanodollars == (None if times is None else 300_000 * times)


# laws

COUNTS = st.one_of(st.none(), st.integers(0, 10**9))
USAGES = st.builds(
    Usage,
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    st.sampled_from([(), ((HOUR, 0),), ((HOUR, 77),), ((HOUR, 10**9),), (("web_search_requests", 3),)]),
    st.sampled_from(["", "standard", "batch"]),
    st.sampled_from(["", "global", "us", "eu"]),
)


@given(USAGES)
def test_no_cost_is_negative_and_none_is_a_float(usage):
    found = cost(usage)
    assert (found.nanodollars is None) == (found.unpriced is not None)
    if found.nanodollars is not None:
        assert type(found.nanodollars) is int
        assert found.nanodollars >= 0


@given(USAGES, st.integers(0, 3), st.integers(1, 10**9))
def test_more_tokens_never_cost_less(usage, which, more):
    before = cost(usage)
    counts = list(usage[:4])
    counts[which] = (counts[which] or 0) + more
    after = cost(Usage(*counts, *usage[4:]))
    if before.nanodollars is not None:
        assert after.nanodollars >= before.nanodollars


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_sum_is_the_exact_one_rounded(fresh, output, read):
    exact = fresh * 50_000_000 + output * 400_000_000 + read * 5_000_000  # millionths of nano-dollars
    found = cost(Usage(fresh, output, read, service_tier="flex"), model="nano").nanodollars
    assert abs(found * 2_000_000 - exact) <= 1_000_000


def test_this_file_knows_no_floats():
    tree = ast.parse((Path(__file__).parents[1] / "aibridge/prices.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, float)]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]


# the catalogue's own


def test_a_version_tells_prices_apart_and_sources_do_not_count():
    def version(price, name="test"):
        return Catalogue(name, {"anthropic": PriceList({"x": (price,)})}).version

    assert version(SONNET) == version(SONNET._replace(source="https://elsewhere"))
    others = [
        SONNET._replace(since=1),
        SONNET._replace(scale=Scale(RATES)),
        SONNET._replace(tiers={"batch": Ratio(4, 10)}),
        SONNET._replace(regions={}),
        SONNET._replace(per_thousand={}),
    ]
    assert len({version(price) for price in (SONNET, *others)}) == 6
    assert version(SONNET).startswith("test.")
    assert version(SONNET, "other") != version(SONNET)


def test_other_rules_are_another_version(monkeypatch):
    before = catalogue(anthropic={"x": [SONNET]}).version
    monkeypatch.setattr("aibridge.prices.RULES", module.RULES + 1)
    assert catalogue(anthropic={"x": [SONNET]}).version != before


def test_names_that_clients_make_up_do_not_grow_memory():
    for number in range(3000):
        assert cost(Usage(1), model=f"model-{number}").unpriced is Unpriced.UNKNOWN_MODEL
    assert cost(Usage(1), model="x" * 10**6).unpriced is Unpriced.UNKNOWN_MODEL
    assert len(ONE._found) <= 1000
    assert max(sum(map(len, names)) for names in ONE._found) < 1000


def test_an_outcome_is_priced_where_tokens_were_told():
    interception = INTERCEPTION._replace(upstream_model="claude-x")
    told = OUTCOME._replace(usage=Usage(1000, 500), usage_source=UsageSource.PROVIDER_PARTIAL)
    assert ONE.priced(interception, told) == told._replace(cost=Cost(10_500_000, ONE.version))
    assert ONE.priced(interception, OUTCOME) is OUTCOME
