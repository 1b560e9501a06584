"""Costs made anew: all of them, once, beside a gateway that writes, and through a process that is killed in between."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from record_kit import INTERCEPTION, OUTCOME

from aibridge.stores.entries import closed_parts, entry, opened_parts, rows_of
from aibridge.stores.rerating import rerate
from aibridge.stores.sqlite import SQLiteStore
from aibridge.sums import sum_of
from aibridge.values import Cost, Unpriced, Usage, UsageSource

OLD = Cost(7, "old")


def record(number, *turns, cost=OLD, **more):
    interception = INTERCEPTION._replace(id=f"id-{number:06}", started_at=float(number), **more)
    usage = turns[0] if turns else Usage(number, 2)
    for turn in turns[1:]:
        usage = sum_of(usage, turn)
    outcome = OUTCOME._replace(
        usage=usage,
        usage_source=UsageSource.PROVIDER_FINAL,
        turns=turns if len(turns) > 1 else (),
        cost=cost,
        response_model="answered",
    )
    return entry(0.0, opened_parts(interception) + closed_parts(interception, outcome))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


@pytest.fixture
def keep(path):
    """Return a function that keeps records."""

    def keep(*entries):
        with closing(SQLiteStore(path)) as store:
            store.write(rows_of(entries, "journal-1")[0], "journal-1", 1)

    return keep


@pytest.fixture
def costs(path):
    """Return a function that tells all costs by id."""

    def costs():
        with closing(sqlite3.connect(path)) as db:
            query = "SELECT interception_id, cost_nanodollars, price_version, unpriced FROM token_usages ORDER BY 1"
            return {row[0]: row[1:] for row in db.execute(query)}

    return costs


def by_input(counted):
    """Price an input token at 100, and have no price for odd counts."""
    tokens = counted.turns[0].input_tokens
    return Cost(None, "new", Unpriced.UNKNOWN_MODEL) if tokens % 2 else Cost(tokens * 100, "new")


def run(path, price=by_input, version="new", since=0.0, **more):
    return [item for batch in rerate(path, price, version, since, **more) for item in batch]


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_all_are_rated_once(path, keep, costs, at_once):
    keep(*[record(number) for number in range(1, 8)])
    found = run(path, at_once=at_once)
    assert [(counted.interception_id, counted.before.nanodollars) for counted, _ in found] == [
        (f"id-{number:06}", 7) for number in range(1, 8)
    ]
    expected = {
        f"id-{number:06}": (None, "new", "unknown_model") if number % 2 else (number * 100, "new", None)
        for number in range(1, 8)
    }
    assert costs() == expected
    assert run(path, at_once=at_once) == []
    assert costs() == expected


def test_what_is_told_of_the_tokens_is_what_was_recorded(path, keep):
    one = Usage(1, 2, None, 4, (("ephemeral_1h_input_tokens", 3), ("zeta", 1)), "batch", "us")
    two = Usage(5, None, 6, None, (), "", "")
    keep(
        record(1, one, provider="p", provider_kind="bedrock", upstream_model="us.x"),
        record(2, one, two, cost=Cost()),
        record(3, two, cost=Cost(None, "old", Unpriced.NO_RATE)),
    )
    first, second, third = (counted for counted, _ in run(path))
    assert (first.provider, first.provider_kind, first.upstream_model) == ("p", "bedrock", "us.x")
    assert (first.response_model, first.started_at, first.before) == ("answered", 1.0, OLD)
    assert (first.turns, second.turns, third.turns) == ((one,), (one, two), (two,))
    assert (second.before, third.before) == (Cost(), Cost(None, "old"))


def test_a_dry_run_changes_nothing(path, keep, costs):
    keep(*[record(number) for number in range(1, 8)])
    before = costs()
    assert len(run(path, dry_run=True, at_once=2)) == 7
    assert costs() == before
    assert set(before.values()) == {(7, "old", None)}


def test_what_began_before_stays(path, keep, costs):
    keep(*[record(number) for number in range(1, 5)])
    assert len(run(path, since=3.0)) == 2
    assert [version for _, version, _ in costs().values()] == ["old", "old", "new", "new"]


def test_what_the_same_prices_have_rated_is_passed_over(path, keep):
    keep(record(1), record(2, cost=Cost(9, "new")), record(3, cost=Cost()))
    assert [counted.interception_id for counted, _ in run(path)] == ["id-000001", "id-000003"]


def test_tokens_whose_beginning_was_lost_stay_as_they_are(path, keep, costs):
    interception = INTERCEPTION._replace(id="id-lost")
    outcome = OUTCOME._replace(usage=Usage(2), usage_source=UsageSource.PROVIDER_FINAL, cost=OLD)
    keep(entry(0.0, closed_parts(interception, outcome)), record(2))
    assert len(run(path)) == 1
    assert costs()["id-lost"] == (7, "old", None)


def test_a_gateway_may_write_meanwhile(path, keep, costs):
    """Between two batches it has the store for itself, and what it writes then is rated too."""
    keep(*[record(number) for number in range(2, 10, 2)])
    with closing(SQLiteStore(path)) as gateway:
        gateway._db.execute("PRAGMA busy_timeout = 0")
        for number, _ in enumerate(rerate(path, by_input, "new", 0.0, at_once=1)):
            if number < 3:
                gateway.write(rows_of([record(100 + 2 * number)], "journal-2")[0], "journal-2", number + 1)
    assert len(costs()) == 7
    assert {version for _, version, _ in costs().values()} == {"new"}


def test_a_price_that_fails_leaves_what_is_done_and_the_rest(path, keep, costs):
    keep(*[record(number) for number in range(2, 10, 2)])

    def failing(counted):
        if counted.interception_id == "id-000006":
            raise ZeroDivisionError
        return by_input(counted)

    with pytest.raises(ZeroDivisionError):
        run(path, failing, at_once=1)
    assert [version for _, version, _ in costs().values()] == ["new", "new", "old", "old"]
    assert len(run(path)) == 2


KILLED = """
import os, signal, sys
from aibridge.stores import rerating
from aibridge.values import Cost

done = 0
def price(counted):
    global done
    done += 1
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return Cost(counted.turns[0].input_tokens * 100, "new")

for _ in rerating.rerate(sys.argv[1], price, "new", 0.0, at_once=50):
    pass
"""


def test_a_process_that_is_killed_in_between_leaves_whole_batches(path, keep, costs):
    keep(*[record(number) for number in range(2, 602, 2)])
    environment = {**os.environ, "AIBRIDGE_SPEEDUPS": ""}
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), "120"], env=environment, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGKILL, b"")
    rated = [version for _, version, _ in costs().values()]
    assert rated == ["new"] * 100 + ["old"] * 200
    assert len(run(path)) == 200
    assert [cost for cost, _, _ in costs().values()] == [number * 100 for number in range(2, 602, 2)]
