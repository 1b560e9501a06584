"""Which limits a request meets, what it claims, and what is settled: pure."""

import json
from datetime import UTC, datetime

import pytest

from aibridge.access import EVERYTHING, Allowance, Identity
from aibridge.body import read_body
from aibridge.limits.rules import (
    MAX_RESERVED_OUTPUT,
    Rule,
    Rules,
    claims,
    counted,
    estimated,
    leases,
    period,
    settlement,
)
from aibridge.limits.values import Measure, Scope
from aibridge.values import Actor, Usage

ALICE = Identity(Actor("alice", teams=("red", "blue", "red")), EVERYTHING, "key_1")
MODEL = "claude-haiku-4-5"


def met(rules, identity=ALICE, model=MODEL):
    return [(bound.rule.scope.value, bound.name, bound.rule.most) for bound in Rules(rules).bounds(identity, model)]


def rule(scope, most=5, match="*", measure=Measure.REQUESTS, **more):
    return Rule(Scope(scope), match, measure, most, **more)


def test_each_scope_has_its_names():
    rules = [rule(scope) for scope in ("key", "actor", "team", "model", "all")]
    assert met(rules) == [
        ("key", "key_1", 5), ("actor", "alice", 5), ("team", "red", 5), ("team", "blue", 5), ("model", MODEL, 5),
        ("all", "", 5),
    ]  # fmt: skip
    assert met(rules, Identity(Actor("bob")), "") == [("actor", "bob", 5), ("all", "", 5)]


def test_the_first_that_fits_counts_of_each_measure():
    rules = [
        rule("actor", 9, "alice"), rule("actor", 5), rule("actor", 7, measure=Measure.TOKENS), rule("team", 3, "b*"),
    ]  # fmt: skip
    assert met(rules) == [("actor", "alice", 9), ("actor", "alice", 7), ("team", "blue", 3)]
    assert met(rules, Identity(Actor("bob"))) == [("actor", "bob", 5), ("actor", "bob", 7)]


def test_a_soft_budget_stands_beside_a_hard_one_and_behind_it():
    rules = [rule("all", 50, measure=Measure.DAY, hard=False), rule("all", 90, measure=Measure.DAY)]
    assert met(rules) == [("all", "", 90), ("all", "", 50)]
    assert len({bound.counter for bound in Rules(rules).bounds(ALICE, MODEL)}) == 2


def test_a_keys_own_limits_come_first():
    own = Allowance(1, 2, 3, 4, 5)
    identity = ALICE._replace(allowance=own)
    assert [most for _, _, most in met([rule("key", 100)], identity)] == [1, 2, 3, 4, 5]
    assert met([rule("key", 100)], ALICE._replace(allowance=Allowance(concurrent=3))) == [
        ("key", "key_1", 3), ("key", "key_1", 100),
    ]  # fmt: skip


def test_counters_differ_by_all_that_limits_differ_by():
    scopes = ("key", "actor", "team", "model", "all")
    rules = [rule(scope, measure=measure) for scope in scopes for measure in Measure]
    same = Identity(Actor("x", teams=("x",)), EVERYTHING, "x")
    counters = [bound.counter for bound in Rules(rules).bounds(same, "x")]
    assert len(counters) == len(set(counters)) == 25


def test_a_name_without_end_makes_no_counter_without_end():
    (bound,) = Rules([rule("model")]).bounds(ALICE, "m" * 100_000)
    assert len(bound.counter) < 120
    (other,) = Rules([rule("model")]).bounds(ALICE, "m" * 100_001)
    assert bound.counter != other.counter


def body(**fields):
    return read_body(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({"max_tokens": 300}, 300),
        ({"max_completion_tokens": 200}, 200),
        ({"max_output_tokens": 100}, 100),
        ({"max_tokens": 32_000}, MAX_RESERVED_OUTPUT),
        ({"max_tokens": int("9" * 4000)}, MAX_RESERVED_OUTPUT),
        ({}, MAX_RESERVED_OUTPUT),
        ({"max_tokens": None}, MAX_RESERVED_OUTPUT),
        ({"max_tokens": -5}, MAX_RESERVED_OUTPUT),
        ({"max_tokens": "300"}, MAX_RESERVED_OUTPUT),
    ],
)
def test_an_estimate(fields, output):
    asked = body(model=MODEL, messages=["x" * 4000], **fields) if fields.get("max_tokens") != int("9" * 4000) else None
    if asked is None:
        asked = read_body(b'{"max_tokens":' + b"9" * 4000 + b"}")
    assert estimated(asked) == Usage(len(asked.raw) // 4 + 1, output)


def test_tokens_of_a_cache_are_not_counted_again():
    assert counted(Usage(1, 10, 100, 1000)) == 1011
    assert counted(Usage()) == 0


NOW = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC).timestamp()


def bounds(**most):
    by_name = {"requests": Measure.REQUESTS, "tokens": Measure.TOKENS, "concurrent": Measure.CONCURRENT}
    by_name |= {"day": Measure.DAY, "month": Measure.MONTH}
    return Rules([rule("all", many, measure=by_name[name]) for name, many in most.items()]).bounds(ALICE, MODEL)


def made(**most):
    met = bounds(**most)
    return met, claims(met, 150, 7000, "id", NOW, NOW + 30)


def told(entry):
    return entry.slot, entry.amount, entry.until


def test_claims():
    _, found = made(requests=10, tokens=1000, concurrent=3, day=10_000, month=90_000)
    second = str(int(NOW))
    assert [(*told(claim), claim.limit) for claim in found] == [
        (second, 1, NOW + 60, 10), (second, 150, NOW + 60, 1000), ("id", 1, NOW + 30, 3),
        ("id", 7000, NOW + 30, 10_000), ("id", 7000, NOW + 30, 90_000),
    ]  # fmt: skip


def test_one_that_is_larger_than_a_limit_passes_alone():
    assert [claim.amount for claim in made(tokens=100, day=5000)[1]] == [100, 5000]


def test_a_soft_budget_refuses_nothing():
    soft = Rules([rule("all", 10_000, measure=Measure.DAY, hard=False)]).bounds(ALICE, MODEL)
    (claim,) = claims(soft, 150, 7000, "id", NOW, NOW + 30)
    assert (claim.amount, claim.limit) == (7000, None)


def test_only_what_is_under_way_is_held():
    found = leases(*made(requests=10, tokens=1000, concurrent=3, day=10_000), NOW + 99)
    assert [told(lease) for lease in found] == [("id", 1, NOW + 99), ("id", 7000, NOW + 99)]


@pytest.mark.parametrize(
    ("tokens", "later", "change"),
    [
        (150, 1, []),
        (20, 1, [(str(int(NOW)), -130, NOW + 60)]),
        (20, 61, []),  # the reservation counts no more
        (400, 90, [(str(int(NOW + 90)), 250, NOW + 150)]),
    ],
)
def test_settled_tokens(tokens, later, change):
    ended, adds, whose = settlement(*made(tokens=1000), tokens, 0, NOW + later)
    assert [told(claim) for claim in adds] == change
    assert ended == []
    assert len(whose) == len(change)


def test_settled_dollars_count_where_they_were_spent():
    later = NOW + 45  # in the next month
    bounds, claimed = made(requests=9, concurrent=3, day=10_000, month=90_000)
    ended, adds, whose = settlement(bounds, claimed, 10, 4321, later)
    assert whose == [*bounds[2:]]
    assert [told(claim) for claim in adds] == [
        ("2026-02-01", 4321, NOW + 30 + 86_400), ("2026-02", 4321, NOW + 30 + 28 * 86_400),
    ]  # fmt: skip
    assert {claim.limit for claim in adds} == {None}
    assert [(lease.slot, lease.amount) for lease in ended] == [("id", 0)] * 3


@pytest.mark.parametrize(
    ("measure", "at", "name", "end"),
    [
        (Measure.DAY, (2026, 2, 28, 12), "2026-02-28", (2026, 3, 1)),
        (Measure.DAY, (2028, 2, 28, 0), "2028-02-28", (2028, 2, 29)),
        (Measure.MONTH, (2026, 1, 31, 23), "2026-01", (2026, 2, 1)),
        (Measure.MONTH, (2026, 12, 31, 23), "2026-12", (2027, 1, 1)),
    ],
)
def test_periods(measure, at, name, end):
    moment = datetime(*at, tzinfo=UTC).timestamp()
    assert period(measure, moment) == (name, datetime(*end, tzinfo=UTC).timestamp())
