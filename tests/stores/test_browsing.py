"""Pages, sums and quantiles of a store, compared with the same made in Python of the rows that were written."""

import itertools
import math
import random
from contextlib import closing

import pytest

from aibridge.adminapi.questions import BOUNDS
from aibridge.stores import browsing, ledger, recorded, summaries
from aibridge.stores.base import (
    CLOSED_COLUMNS,
    INTERCEPTIONS,
    OPENED_COLUMNS,
    TOKEN_USAGES,
    TOOL_USAGES,
    USER_PROMPTS,
    WHOLE,
)
from aibridge.stores.browsing import Filters, Place
from aibridge.stores.sqlite import SQLiteStore, querying

ROWS = 600
HOUR = 3600.0
START = 1_800_000_000.0
FILTERS = {
    "actor": ("actor_id", ["ann", "bob", "nobody"]),
    "provider": ("provider", ["anthropic", "openai"]),
    "model": ("model", ["a", "b"]),
    "client": ("client", ["Zed", "Codex"]),
    "termination": ("termination", ["completed", "client_gone"]),
    "cause": ("cause", ["clean", "disconnected"]),
}


def made(chance, number):
    """An interception, some of which run, share their moment with another, or have no session of their client's."""
    ended = chance.random() < 0.9
    clean = chance.random() < 0.7
    started_at = START + chance.randrange(1000) * HOUR / 100
    duration = chance.choice([0.5, 1.0, 2.0, 8.0])
    row = {
        "id": f"{number:04}",
        "started_at": started_at,
        "actor_id": chance.choice(["ann", "bob"]),
        "provider": chance.choice(["anthropic", "openai"]),
        "model": chance.choice(["a", "b", "c"]),
        "client": chance.choice(["Zed", "Codex"]),
        "streaming": chance.randrange(2),
        "session_id": chance.choice(["one", "two", None]),
    }
    end = {
        "ended_at": started_at + duration,
        "duration": duration,
        "time_to_first_event": chance.choice([0.1, 0.2, 0.4, None]),
        "termination": "completed" if clean else "client_gone",
        "cause": "clean" if clean else "disconnected",
    }
    tokens = {"output_tokens": chance.randrange(1000), "cost_nanodollars": chance.choice([1000, None])}
    tools = [chance.choice(["Bash", "Read"]) for _ in range(chance.randrange(3))]
    return row | (end if ended else {}), tokens if ended else None, tools


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the path of a store, and the rows that are in it."""
    path = tmp_path_factory.mktemp("browsing") / "records.db"
    chance = random.Random(7)
    written = [made(chance, number) for number in range(ROWS)]
    rows = {WHOLE: [], INTERCEPTIONS.name: [], TOKEN_USAGES.name: [], TOOL_USAGES.name: [], USER_PROMPTS.name: []}
    for row, tokens, tools in written:
        columns, name = (
            (OPENED_COLUMNS + CLOSED_COLUMNS, WHOLE) if "ended_at" in row else (OPENED_COLUMNS, INTERCEPTIONS.name)
        )
        rows[name].append([row.get(column) for column in columns])
        rows[USER_PROMPTS.name].append([row["id"], 1.0, "p" * 1000])
        if tokens is not None:
            said = {"interception_id": row["id"], **tokens}
            rows[TOKEN_USAGES.name].append([said.get(column.name) for column in TOKEN_USAGES.columns])
        for place, tool in enumerate(tools):
            said = {"interception_id": row["id"], "number": place, "tool": tool, "arguments": "x" * 20_000}
            rows[TOOL_USAGES.name].append([said.get(column.name) for column in TOOL_USAGES.columns])
    with closing(SQLiteStore(path)) as store:
        store.write(rows, "j", 1)
    return path, [{**row, **(tokens or {}), "tools": tools} for row, tokens, tools in written]


@pytest.fixture
def query(store):
    with querying(store[0]) as query:
        yield query


def matches(row, filters):
    """Whether a row is one that the filters name."""
    said = filters._asdict()
    session = row.get("session_id") or row["id"]
    return (
        row["started_at"] >= filters.since
        and (filters.until is None or row["started_at"] < filters.until)
        and all(said[name] is None or row.get(column) == said[name] for name, (column, _) in FILTERS.items())
        and (filters.session is None or session == filters.session)
        and (filters.running is None or filters.running == ("ended_at" not in row))
    )


def pages(query, filters, limit):
    after = None
    while True:
        rows, after = browsing.interceptions(query, filters, after, limit)
        assert len(rows) <= limit
        yield from rows
        if after is None:
            return


def some_filters():
    chance = random.Random(3)
    yield Filters()
    for session in ("one", "0007", "no one"):
        yield Filters(session=session)
    for running in (True, False):
        yield Filters(running=running)
    for _ in range(40):
        chosen = chance.sample(list(FILTERS), chance.randrange(4))
        yield Filters(
            since=START + chance.choice([0, 3 * HOUR]),
            until=chance.choice([None, START + 8 * HOUR]),
            session=chance.choice([None, None, "one"]),
            running=chance.choice([None, None, True, False]),
            **{name: chance.choice(FILTERS[name][1]) for name in chosen},
        )


@pytest.mark.parametrize("filters", list(some_filters()))
def test_pages_have_what_the_filters_name_in_order_and_once(store, query, filters):
    wanted = sorted((row for row in store[1] if matches(row, filters)), key=lambda row: (row["started_at"], row["id"]))
    ids = [row["id"] for row in wanted]
    for limit in (7, 1000):
        assert [row["id"] for row in pages(query, filters, limit)] == ids[::-1]
    assert [row["id"] for row in browsing.export(query, filters)] == ids
    assert browsing.count(query, filters) == len(ids)
    rows, after = browsing.exported(query, filters, None, 11, in_full=False)
    while after is not None:
        page, after = browsing.exported(query, filters, after, 11, in_full=False)
        rows += page
    assert [row["id"] for row in rows] == ids
    assert all(tuple(row) == recorded.ROW for row in rows)
    counted = summaries.outcomes(query, filters, "hour")
    ended = [row for row in wanted if "ended_at" in row]
    assert sum(item["count"] for item in counted) == len(ended)
    assert {item["at"] for item in counted} == {int(row["started_at"] // HOUR * HOUR) for row in ended}


@pytest.mark.parametrize("bucket", [None, "hour"])
def test_quantiles_are_those_of_the_values(store, query, bucket):
    items, size = summaries.latency(query, Filters(client="Zed"), "model", bucket)
    answers = [row for row in store[1] if row["client"] == "Zed" and row.get("termination") == "completed"]
    assert size == len(answers)

    def key(row):
        return row["model"], None if bucket is None else row["started_at"] // HOUR * HOUR

    groups = {group: list(rows) for group, rows in itertools.groupby(sorted(answers, key=key), key=key)}
    assert [(item["name"], item.get("at")) for item in items] == list(groups)
    for item, rows in zip(items, groups.values(), strict=True):
        assert item["count"] == len(rows)
        values = {"duration": [row["duration"] for row in rows]}
        firsts = values["time_to_first_event"] = [
            row["time_to_first_event"] for row in rows if row["time_to_first_event"] is not None
        ]
        values["tokens_per_second"] = [
            row["output_tokens"] / (row["duration"] - row["time_to_first_event"])
            for row in rows
            if row["time_to_first_event"] is not None and row["streaming"]
        ]
        assert firsts or bucket
        for name, unsorted in values.items():
            ranks = sorted(unsorted)
            assert item[name] == (
                {f"p{part}": pytest.approx(ranks[math.ceil(len(ranks) * part / 100) - 1]) for part in (50, 90, 99)}
                if ranks
                else None
            )


def test_usage_by_tool_counts_an_interception_under_each(store, query):
    for row in ledger.usage(query, START + HOUR, ("tool",), START + 5 * HOUR):
        callers = [
            one
            for one in store[1]
            if row["tool"] in one["tools"] and START + HOUR <= one["started_at"] < START + 5 * HOUR
        ]
        assert row["requests"] == len(callers) > 0
        assert row["calls"] == sum(one["tools"].count(row["tool"]) for one in callers)
        assert row["output_tokens"] == sum(one.get("output_tokens", 0) for one in callers)


def test_sums_of_a_session_are_of_all_also_where_not_all_is_shown(query):
    whole = ledger.session(query, "ann", "one", 0.0)
    cut = ledger.session(query, "ann", "one", 0.0, ledger.Shown(3, 10))
    shown = [row for thread in cut["threads"] for row in thread["interceptions"]]
    assert len(shown) == 3
    assert {thread["prompt"] for thread in cut["threads"]} == {"p" * 10}
    sums = whole.keys() - {"threads", "providers", "models", "client", "started_at"}
    assert {name: cut[name] for name in sums} == {name: whole[name] for name in sums}
    assert whole["interceptions"] > 3


def test_sessions_are_paged(store, query):
    found, after = [], None
    while True:
        items, after = browsing.sessions(query, 0.0, None, after, 9)
        found += items
        if after is None:
            break
    wanted = {(row["actor_id"], row.get("session_id") or row["id"]) for row in store[1]}
    assert len(found) == len(wanted)
    assert {(one["actor"], one["session"]) for one in found} == wanted
    assert all(one["actor"] == "bob" for one in browsing.sessions(query, 0.0, "bob", None, 50)[0])
    assert browsing.actors_of(query, "one") == ["ann", "bob"]


def test_one_interception_is_told_within_bounds(store, query):
    row = next(row for row in store[1] if row["tools"])
    found = recorded.interception(query, row["id"], BOUNDS)
    assert [len(tool["arguments"]) for tool in found["tools"]] == [BOUNDS.text + len(" […cut]")] * len(row["tools"])
    assert found["prompts"][0]["prompt"] == "p" * 1000
    few = recorded.interception(query, row["id"], BOUNDS._replace(parts=1, prompt=5))
    assert (few["tools"], few["prompts"][0]["prompt"]) == (found["tools"][:1], "ppppp […cut]")
    assert recorded.interception(query, "none") is None


def test_an_interception_is_told_alike_in_a_list_in_an_export_and_alone(query):
    exported = list(browsing.export(query, Filters()))
    listed = {row["id"]: row for row in pages(query, Filters(), 1000)}
    assert len(exported) == len(listed) == ROWS
    for row in exported:
        assert listed[row["id"]].items() <= row.items()
        alone = recorded.interception(query, row["id"])
        assert (alone, list(alone)) == (row, list(row))
    assert any(row["tools"] and row["output_tokens"] for row in exported)


def test_time_is_cut_into_not_too_many_pieces(query):
    until = START + 12 * HOUR
    assert summaries.bucket_for(query, Filters(), until, None) == "hour"
    assert summaries.bucket_for(query, Filters(since=until - HOUR), until, None) == "minute"
    assert summaries.bucket_for(query, Filters(), START + 10 * 365 * 24 * HOUR, None) == "day"
    assert summaries.bucket_for(query, Filters(), until, "minute") == "minute"
    with pytest.raises(summaries.TooFine, match="1500 pieces"):
        summaries.bucket_for(query, Filters(), until + 20 * HOUR, "minute")


def plan(query, text, values):
    return [row["detail"] for row in query(f"EXPLAIN QUERY PLAN {text}", values)]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(), "interceptions_browsed (started_at>?"),
        (Filters(actor="ann", cause="clean", running=False), "interceptions_browsed (started_at>?"),
        (Filters(session="one"), "interceptions_session_id (session_id=?"),
        (Filters(running=True), "interceptions_open"),
    ],
)
def test_pages_find_their_index(query, filters, index):
    plans = []

    def explained(text, values):
        plans.extend(plan(query, text, values))
        return query(text, values)

    browsing.interceptions(explained, filters, Place(START + HOUR, "5"), 10)
    assert any(index in step for step in plans), plans
    assert not any(step.startswith("SCAN") and "interceptions_open" not in step for step in plans), plans


def test_what_does_not_fit_is_passed_over_without_a_look_at_its_row(query):
    """The index holds all that is filtered by."""
    columns = query("PRAGMA index_info(interceptions_browsed)", ())
    assert {column for column, _ in FILTERS.values()} | {"started_at"} == {row["name"] for row in columns}
