"""The commands about prices, as an operator calls them: on lists, on files, and on records that a store has written."""

import json
from contextlib import closing

import pytest
from record_kit import INTERCEPTION, OUTCOME

from aibridge import pricefile
from aibridge.cli import main
from aibridge.stores.entries import closed_parts, entry, opened_parts, rows_of
from aibridge.stores.sqlite import SQLiteStore
from aibridge.sums import sum_of
from aibridge.values import Usage, UsageSource

AT = 1_795_000_000.0  # 2026-11-18


def record(number, model, *turns, **more):
    interception = INTERCEPTION._replace(id=f"id-{number}", started_at=AT + number, upstream_model=model, model=model)
    usage = turns[0] if len(turns) == 1 else sum_of(*turns)
    outcome = OUTCOME._replace(
        usage=usage, usage_source=UsageSource.PROVIDER_FINAL, turns=turns if len(turns) > 1 else (), ended_at=AT + 9
    )
    interception = interception._replace(**more)
    return entry(AT, opened_parts(interception) + closed_parts(interception, outcome))


LONG = Usage(150_000, 1000)


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "records.db"
    with closing(SQLiteStore(path)) as store:
        entries = [
            record(1, "claude-sonnet-5", Usage(1000, 500)),  # $2, $10: 7,000 millionths
            record(2, "claude-sonnet-4-5", LONG, LONG),  # each is short: 2 x (150,000 x $3 + 1,000 x $15)
            record(3, "claude-next", Usage(10, 20)),
            record(4, "claude-next", Usage(100, 200)),
            record(5, "gpt-5", Usage(4, 4), provider="openai", provider_kind="openai"),  # 4 x $1.25 + 4 x $10
            record(6, "gpt-5", Usage(4, 4), provider="copilot", provider_kind="copilot"),
        ]
        store.write(rows_of(entries, "journal-1")[0], "journal-1", 1)
    return path


@pytest.fixture
def run(capsys):
    """Return a function that runs a command, and gives what it printed."""

    def run(*arguments, status=0):
        assert main(["prices", *map(str, arguments)]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def test_rerate_prices_what_older_programs_recorded(records, run):
    told = json.loads(run("rerate", "--records", records, "--json"))
    cost = 7_000_000 + 2 * 465_000_000 + 45_000
    assert told == {
        "price_version": pricefile.load().version,
        "rated": 6,
        "changed": 3,
        "cost_nanodollars_before": 0,
        "cost_nanodollars": cost,
        "unpriced": [
            {
                "provider": "anthropic",
                "model": "claude-next",
                "unpriced": "unknown_model",
                "requests": 2,
                "tokens": 330,
            },
            {"provider": "copilot", "model": "gpt-5", "unpriced": "no_price_list", "requests": 1, "tokens": 8},
        ],
    }
    again = json.loads(run("rerate", "--records", records, "--json"))
    assert (again["rated"], again["changed"], again["unpriced"]) == (0, 0, [])


def test_a_corrected_price_rates_history_anew(records, run, tmp_path):
    run("rerate", "--records", records)
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "version: acme\nlists:\n"
        "  anthropic: {models: [{match: [claude-next], prices: [{input: 1, output: 2}]}]}\n"
        "  copilot: {models: [{match: ['*'], prices: [{input: 0, output: 0}]}]}\n"
    )
    lines = run("rerate", "--records", records, "--prices", prices, "--dry-run").splitlines()
    assert lines[0].startswith("6 requests would be rated by ")
    assert lines[0].endswith(", 3 of them otherwise than before")
    assert lines[1:] == ["$0.937045 before, $0.937595 now"]  # 110 x $1 + 220 x $2 more
    lines = run("rerate", "--records", records, "--prices", prices).splitlines()
    assert lines[0].startswith("6 requests rated by ")
    assert lines[1] == "$0.937045 before, $0.937595 now"
    told = json.loads(run("rerate", "--records", records, "--json"))  # and back
    assert (told["rated"], told["changed"], told["cost_nanodollars"]) == (6, 3, 937_045_000)


def test_what_has_no_cost_is_told_on_a_terminal(records, run):
    lines = run("rerate", "--records", records, "--since", "2026-11-18").splitlines()
    assert lines[2] == "without a cost: 3 requests"
    assert lines[4].split() == ["anthropic", "claude-next", "unknown_model", "2", "330"]


def test_the_configuration_names_records_and_prices(records, run, tmp_path):
    prices, file = tmp_path / "prices.yaml", tmp_path / "aibridge.yaml"
    prices.write_text("version: acme\nlists: {}\n")
    file.write_text(
        "listen: {host: 127.0.0.1}\nproviders: {anthropic: {api_key: x}}\n"
        f"records: {{path: {records}}}\nprices: {{path: {prices}}}\n"
    )
    told = json.loads(run("rerate", "--config", file, "--json"))
    assert (told["rated"], "+acme." in told["price_version"]) == (6, True)
    assert json.loads(run("list", "--config", file, "--json")) == json.loads(run("list", "--json"))


def test_list(run, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        """
version: acme
lists:
  cellar:
    models:
      - match: [llama-*]
        prices:
          - {input: 0.1, output: 0.25, source: "https://acme.example", regions: {eu: 1.1}}
          - from: 2026-03-01
            input: 1
            cache_read: 0.000000001
            output: 2
            long_context: [{above: 1000, input: 3, output: 4}]
            service_tiers: {batch: 0.5, priority: {input: 5, output: 6}}
"""
    )
    rows = [row for row in json.loads(run("list", "--prices", prices, "--json")) if row["list"] == "cellar"]
    common = {"list": "cellar", "model": "llama-*", "cache_write_5m_usd": None, "cache_write_1h_usd": None}
    later = common | {"from": "2026-03-01", "regions": None, "source": None, "cache_read_usd": None, "times": None}
    assert rows == [
        common
        | {"from": None, "tier": "standard", "above": 0, "input_usd": "0.1", "output_usd": "0.25"}
        | {"cache_read_usd": None, "times": None, "regions": "eu x1.1", "source": "https://acme.example"},
        later
        | {"tier": "standard", "above": 0, "input_usd": "1", "output_usd": "2", "cache_read_usd": "0.000000001"}
        | {"times": "batch x0.5"},
        later | {"tier": "standard", "above": 1000, "input_usd": "3", "output_usd": "4", "times": "batch x0.5"},
        later | {"tier": "priority", "above": 0, "input_usd": "5", "output_usd": "6"},
    ]
    shown = run("list").splitlines()
    assert shown[0].split()[:4] == ["list", "model", "from", "tier"]
    assert len(shown) > 100


def test_check(run, tmp_path):
    assert run("check").startswith(f"{pricefile.load().version}: ")
    prices = tmp_path / "prices.yaml"
    prices.write_text("version: acme\nlists: {}\n")
    assert "+acme." in run("check", prices)
    prices.write_text("version: acme\nlists: {a: {modles: []}}\n")
    told = run("check", prices, status=2)
    assert told == f"{prices}, line 2: lists.a.modles: unknown key; did you mean 'models'?\n"


def test_there_have_to_be_records(run, tmp_path):
    assert "there are no records" in run("rerate", "--records", tmp_path / "nothing.db", status=2)
    (tmp_path / "odd.db").write_bytes(b"no database" * 1000)
    assert "not a database" in run("rerate", "--records", tmp_path / "odd.db", status=2)


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prices"])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
