"""Price lists from files: what a file says is what is priced, every mistake has its line, and ours is in order."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml

from aibridge import pricefile
from aibridge.cli import main
from aibridge.errors import ConfigError
from aibridge.prices import Price, Rates, Ratio, Scale
from aibridge.providers.bedrock_models import MODELS
from aibridge.values import Unpriced, Usage

WHOLE = """
version: acme-7
note: what is agreed for this year
lists:
  anthropic:
    aliases: {our-claude: claude-x}
    models:
      - match: [claude-x, claude-x-2*]
        note: a word
        prices:
          - source: &page https://example.com/prices
            checked: 2026-11-27
            input: 3
            cache_write_5m: 3.75
            cache_write_1h: 6.00
            cache_read: 0.30
            output: 15
            long_context:
              - {above: 200_000, input: 6, output: 22.5}
            service_tiers:
              batch: 0.5
              priority: {input: 4, output: 20.000000001, long_context: [{above: 9, input: 8, output: 40}]}
            regions: {us: 1.1, "*": 1}
            per_thousand: {web_search_requests: 10}
          - {from: 2026-03-01, source: *page, input: 0.075, output: 0}
      - match: [gone]
        prices: []
"""


@pytest.fixture
def file(tmp_path):
    """Return a function that writes a file of prices."""

    def write(text):
        path = tmp_path / "prices.yaml"
        path.write_text(text)
        return path

    return write


def priced(catalogue, model, usage=None, *, kind="anthropic", provider=None, at=1.7956e9):
    return catalogue.cost(
        provider=provider or kind,
        provider_kind=kind,
        upstream_model=model,
        response_model="",
        at=at,
        turns=(usage or Usage(1_000_000, 0),),
    )


def test_all_that_a_file_may_say(file):
    mine = pricefile.load(file(WHOLE)).editions[0]["anthropic"]
    dollar = 10**9
    first = Price(
        since=0,
        scale=Scale(
            Rates(3 * dollar, 15 * dollar, 300_000_000, 3_750_000_000, 6 * dollar),
            ((200_000, Rates(6 * dollar, 22_500_000_000)),),
        ),
        tiers={
            "batch": Ratio(5, 10),
            "priority": Scale(Rates(4 * dollar, 20_000_000_001), ((9, Rates(8 * dollar, 40 * dollar)),)),
        },
        regions={"us": Ratio(11, 10), "*": Ratio(1, 1)},
        per_thousand={"web_search_requests": 10 * dollar},
        source="https://example.com/prices",
    )
    march = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert (
        mine.models["claude-x"]
        == mine.models["claude-x-2*"]
        == (
            first,
            Price(march, Scale(Rates(75_000_000, 0)), source="https://example.com/prices"),
        )
    )
    assert (mine.models["gone"], mine.aliases) == ((), {"our-claude": "claude-x"})


def test_a_file_wins_over_ours_and_leaves_the_rest(file):
    ours = pricefile.load()
    both = pricefile.load(
        file(
            "version: mine\nlists:\n"
            "  anthropic: {models: [{match: [claude-sonnet-5], prices: [{input: 1, output: 5}]}]}\n"
            "  openai: {models: [{match: ['gpt-5*'], prices: []}]}\n"
            "  cellar: {models: [{match: ['*'], prices: [{input: 0, output: 0}]}]}\n"
        )
    )
    assert priced(ours, "claude-sonnet-5").nanodollars == 2 * 10**9
    assert priced(both, "claude-sonnet-5").nanodollars == 10**9
    assert priced(both, "claude-opus-5") == priced(ours, "claude-opus-5")._replace(version=both.version)
    assert priced(both, "gpt-5", kind="openai").unpriced is Unpriced.UNKNOWN_MODEL
    assert priced(both, "gpt-6-sol", kind="openai").nanodollars == 4 * 10**9  # a million tokens is long
    assert priced(both, "llama", kind="openai", provider="cellar").nanodollars == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\+mine\.[0-9a-f]{8}", both.version)
    assert pricefile.load().version == ours.version != both.version


MODEL = "version: x\nlists:\n  a:\n    models:\n      - match: [m]\n        prices:\n          - "
PRICE = "lists.a.models.0.prices.0"
TWICE = """version: x
lists:
  a:
    models:
      - {match: [m], prices: []}
      - {match: [m, 'a*b'], prices: []}
"""


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["is empty"]),
        ("- 1\n", ["line 1: should be a mapping of keys to values"]),
        ("version: x\n", ["line 1: lists: is needed"]),
        ("lists: {}\n", ["line 1: version: is needed"]),
        ("version: x y\nlists: {}\n", ["line 1: version: should be letters, digits and . _ -"]),
        ("version: x\nlist: {}\nlists: {}\n", ["line 2: list: unknown key; did you mean 'lists'?"]),
        ("version: x\nlists: {}\nlists: {}\n", ["line 3: lists: is written twice"]),
        ("version: x\nlists: {a: [1]}\n", ["line 2: lists.a: should be a mapping of keys to values"]),
        ("version: x\nlists: {a: {models: 7}}\n", ["line 2: lists.a.models: should be a list"]),
        ("version: x\nlists: {a: {aliases: {b: [c]}}}\n", ["line 2: lists.a.aliases.b: should be text"]),
        (
            "version: x\nlists: {a: {models: [{prices: []}]}}\n",
            ["line 2: lists.a.models.0.match: is needed"],
        ),
        (
            TWICE,
            [
                "line 6: lists.a.models.1: 'm' has prices already",
                "line 6: lists.a.models.1.match.1: a star stands at the end only",
            ],
        ),
        (MODEL + "{input: 3}\n", ["line 7: lists.a.models.0.prices.0.output: is needed"]),
        (
            MODEL + "{inptu: 3, input: -1, output: 1e3}\n",
            [
                "line 7: lists.a.models.0.prices.0.inptu: unknown key; did you mean 'input'?",
                "line 7: lists.a.models.0.prices.0.input: should be dollars, like 3 or 0.075",
                "line 7: lists.a.models.0.prices.0.output: should be dollars, like 3 or 0.075",
            ],
        ),
        (
            MODEL + "input: 0.1234567890\n            output: 1\n",
            ["line 7: lists.a.models.0.prices.0.input: should have 9 digits behind the point at most"],
        ),
        (
            MODEL + "{input: 1, output: 1, from: 2026-02-30}\n",
            ["line 7: lists.a.models.0.prices.0.from: should be a day, like 2026-01-31"],
        ),
        (
            MODEL + "{from: 2026-02-01, input: 1, output: 1}\n          - {from: 2026-02-01, input: 1, output: 1}\n",
            ["line 7: lists.a.models.0.prices: should stand from the oldest to the newest, each of its own day"],
        ),
        (
            MODEL + "{input: 1, output: 1, long_context: [&long {above: 9, input: 1, output: 1}, *long]}\n",
            ["line 7: lists.a.models.0.prices.0.long_context.1.above: should be more than that before it"],
        ),
        (
            MODEL + "{input: 1, output: 1, long_context: [{above: 1__0, input: 1, output: 1}]}\n",
            ["line 7: lists.a.models.0.prices.0.long_context.0.above: should be a whole number of tokens"],
        ),
        (
            MODEL + "input: 1\n            output: 1\n            service_tiers:\n              Batch: half\n",
            [
                f"line 10: {PRICE}.service_tiers.Batch: should be a word as the API has it, in small letters",
                f"line 10: {PRICE}.service_tiers.Batch: should be a multiplier, like 3 or 0.075",
            ],
        ),
        ("version: x\nlists: {a: {models: [{match: [m], prices: [}]}}\n", ["line 2: "]),
        ("version: *sk-ant-1\nlists: {}\n", ["line 1: found undefined alias"]),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_its_line_and_key(file, text, mistakes):
    path = file(text)
    with pytest.raises(ConfigError) as told:
        pricefile.load(path)
    lines = str(told.value).splitlines()
    assert "sk-ant" not in str(told.value)
    assert len(lines) == len(mistakes), lines
    for line, mistake in zip(lines, mistakes, strict=True):
        assert line.removeprefix(str(path)).lstrip(",: ").startswith(mistake)


def test_the_page_shows_a_file_that_is_right(file):
    page = (Path(__file__).parents[1] / "docs/prices.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shown = pricefile.load(file(example))
    team = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/team-a"
    for provider, kind, model, dollars in (
        ("anthropic", "anthropic", "claude-sonnet-5", 4),
        ("aws", "bedrock", team, 2.2),
        ("azure", "openai", "our-deployment", 2),
        ("cellar", "openai", "llama", 0),
        ("openai", "openai", "gpt-4o-mini", None),
        ("openai", "openai", "gpt-4o", 2.5),
    ):
        found = priced(shown, model, kind=kind, provider=provider).nanodollars
        assert found == (None if dollars is None else dollars * 10**9), model


def test_the_page_tells_every_reason():
    page = (Path(__file__).parents[1] / "docs/prices.md").read_text()
    told = re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|(.*?)\|", page, re.MULTILINE)))
    assert {str(reason) for reason in Unpriced} <= set(told)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        pricefile.load(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        pricefile.load(tmp_path / "binary.yaml")
    (tmp_path / "deep.yaml").write_text("[" * 20_000)
    with pytest.raises(ConfigError):
        pricefile.load(tmp_path / "deep.yaml")
    (tmp_path / "circle.yaml").write_text("version: x\nlists: &lists\n  a: *lists\n")
    with pytest.raises(ConfigError, match=r"line 3: lists.a.a: unknown key"):
        pricefile.load(tmp_path / "circle.yaml")


def test_the_configuration_names_the_file_and_check_reads_it(file, tmp_path, capsys):
    prices = file(MODEL + "{input: 3}\n")
    configured = tmp_path / "aibridge.yaml"
    configured.write_text(
        f"listen: {{host: 127.0.0.1}}\nproviders: {{anthropic: {{api_key: x}}}}\nprices: {{path: {prices}}}\n"
    )
    assert main(["check", str(configured)]) == 2
    assert "line 7: lists.a.models.0.prices.0.output: is needed" in capsys.readouterr().err
    file(WHOLE)
    assert main(["check", str(configured)]) == 0
    assert str(prices) in capsys.readouterr().out


# ours


def test_ours_says_of_each_price_where_it_was_read_and_when():
    said = yaml.safe_load(pricefile.BUILT_IN.read_text())
    prices = [
        price for one in said["lists"].values() for model in one["models"] for price in model["prices"]
    ]  # fmt: skip
    assert len(prices) > 60
    for price in prices:
        assert price["source"].startswith("https://")
        assert date(2026, 1, 1) < price["checked"] <= said["version"]


def test_ours_is_plausible():
    """A slip of a digit shows: cached input is cheaper than fresh, writing dearer, output dearest, long dearer."""
    [lists] = pricefile.load().editions
    assert set(lists) == {"anthropic", "bedrock", "openai"}
    for one in lists.values():
        for model, prices in one.models.items():
            assert prices, model
            for price in prices:
                check_scale(model, price.scale)
                for tier in price.tiers.values():
                    if isinstance(tier, Scale):
                        check_scale(model, tier)
                    else:
                        assert 0.5 <= tier.numerator / tier.denominator <= 6, model
                assert all(1 <= region.numerator / region.denominator <= 1.2 for region in price.regions.values())


def check_scale(model, scale):
    for above, rates in ((0, scale.rates), *scale.longer):
        assert 10**7 < rates.input < rates.output <= 600 * 10**9, model
        assert rates.cache_read is None or rates.input / 50 <= rates.cache_read <= rates.input / 2, model
        assert rates.cache_write_5m is None or rates.cache_write_5m * 4 == rates.input * 5, model
        assert rates.cache_write_1h is None or rates.cache_write_1h == rates.input * 2, model
        if above:
            assert all(long >= short for long, short in zip(rates, scale.rates, strict=True) if long is not None), model


def test_ours_knows_every_model_that_our_names_lead_to_on_bedrock():
    ours = pricefile.load()
    for model in MODELS:
        for profile in model.profiles:
            found = priced(ours, f"{profile}.{model.foundation_id}", kind="bedrock")
            assert found.nanodollars, (profile, model.name)
        assert priced(ours, model.name).nanodollars, model.name


HOUR_400 = ("ephemeral_1h_input_tokens", 400)


@pytest.mark.parametrize(
    ("kind", "model", "usage", "nanodollars"),
    [
        # $2 in, $10 out, 5-minute write $2.50, 1-hour write $4, read $0.10 since October
        ("anthropic", "claude-sonnet-5-5", Usage(1000, 100, 10_000, 600, (HOUR_400,)), 6_100_000),
        ("anthropic", "claude-opus-5-5", Usage(1000, 100, service_tier="fast"), 12_000_000),  # $8, $40
        ("anthropic", "claude-opus-4-6", Usage(1000, 100, region="us"), 8_250_000),  # 1.1 x ($5, $25)
        ("anthropic", "claude-haiku-4-5-20251001", Usage(1000, 100, region="not_available"), 1_500_000),  # $1, $5
        ("anthropic", "claude-haiku-5-5", Usage(100_000, 100), 10_050_000),  # $0.10, $0.50
        ("anthropic", "claude-haiku-5-5", Usage(100_001, 100), 50_250_500),  # $0.50, $2.50
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(1000, 100), 4_950_000),  # 1.1 x ($3, $15)
        ("bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(1000, 100), 4_500_000),
        ("bedrock", "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(1000, 100), 5_400_000),
        ("bedrock", "apac.anthropic.claude-sonnet-4-20250514-v1:0", Usage(1000, 100), 4_500_000),
        ("openai", "gpt-5", Usage(1000, 100, 1000), 2_375_000),  # $1.25, $10, read $0.125
        ("openai", "gpt-5-mini-2025-08-07", Usage(1000, 100, service_tier="priority"), 810_000),  # $0.45, $3.60
        ("openai", "gpt-5.4", Usage(272_001, 1000), 1_382_505_000),  # $5, $22.50
        ("openai", "o3", Usage(1000, 100, service_tier="flex"), 1_400_000),  # $1, $4
        ("openai", "gpt-4o-mini", Usage(1000, 100, 1000, service_tier="priority"), 475_000),  # $0.25, $1, $0.125
    ],
)  # fmt: skip
def test_ours_by_hand(kind, model, usage, nanodollars):
    assert priced(pricefile.load(), model, usage, kind=kind).nanodollars == nanodollars


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "gpt-5-search-api"),
        ("openai", "gpt-5.9"),
        ("openai", "ft:gpt-4.1-2025-04-14:acme::id"),
        ("anthropic", "claude-opus-6"),
        ("anthropic", "claude-fable-5-3"),
        ("bedrock", "us.anthropic.claude-fable-5-2"),
        ("bedrock", "meta.llama3-70b-instruct-v1:0"),
    ],
)
def test_ours_does_not_guess(kind, model):
    assert priced(pricefile.load(), model, kind=kind).unpriced is Unpriced.UNKNOWN_MODEL


def test_ours_knows_the_days_on_which_prices_changed():
    def at(day, model, kind, usage):
        moment = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
        return priced(pricefile.load(), model, usage, kind=kind, at=moment).nanodollars

    read = Usage(0, 0, 1_000_000)
    assert at("2026-10-06T23:59:59", "claude-sonnet-5-5", "anthropic", read) == 200_000_000
    assert at("2026-10-07T00:00:00", "claude-sonnet-5-5", "anthropic", read) == 100_000_000
    assert at("2026-08-20T23:59:59", "gpt-5.6-sol", "openai", Usage(1_000_000 // 4, 0)) == 1_250_000_000
    assert at("2026-08-21T00:00:00", "gpt-5.6-sol", "openai", Usage(1_000_000 // 4, 0)) == 1_000_000_000
