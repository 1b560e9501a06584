"""Several keys of one provider, scenario by scenario: on real sockets, in all books."""

import asyncio
import json
from pathlib import Path

import pytest
from api_kit import APIS, OWN_TOKEN, each
from mcp_kit import MCPServer, serving, tools_server
from waiting_kit import until

from aibridge.audit import audit

POOLED = ("anthropic", "chat", "responses")
KEYS = {name: f"sk-pool-0123456789-{name}" for name in ("aaaa", "bbbb", "cccc")}
PATIENCE = 20.0


def pooled(*names, **more):
    """Return settings for both kinds of provider that have pools."""
    keys = [{"key": KEYS[name], "name": name} for name in names or KEYS]
    said = {"api_key": None, "api_keys": keys, **more}
    return {"anthropic": said, "openai": said}


@pytest.fixture
def build_pooled(build_house):
    """Return a function that builds a house whose providers have several keys."""

    def build(*names, settings=(), **sections):
        return build_house(provider=pooled(*names, **dict(settings)), **sections)

    return build


def asked_with(house):
    """Return the names of the keys with which the upstream was asked."""
    told = [dict(row.headers) for row in house.simulator.ledger.rows]
    return [(headers.get("x-api-key") or headers["authorization"])[-4:] for headers in told]


def ends(house):
    """Return how each attempt ended, and with which status."""
    return [(attempt.cause.value, attempt.evidence.http_status) for attempt in house.outcomes.attempts]


def pool_states(house, api):
    labels = ("valid", "cooling", "refused")
    return tuple(house.metric("aibridge_key_pool_keys", provider=api.provider, state=state) for state in labels)


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])


# one key is enough


@each(*POOLED)
@both
async def test_a_valid_key(build_pooled, ask, api, stream):
    async with build_pooled() as house:
        answer = await ask(house, api.name, stream=stream)
        assert (answer.status, answer.complete) == (200, True)
        books = await house.books()
        books.check("completed", "clean", health="success")
        assert asked_with(house) == ["aaaa"]
        assert books.record["credential_hint"] == "sk-p...aaaa"
        assert pool_states(house, api) == (3, 0, 0)
        assert house.metric("aibridge_key_rotations_total") == 0


@each(*POOLED)
@both
@pytest.mark.parametrize(
    ("fault", "status", "state"), [("status:429:60", 429, "cooling"), ("status:401", 401, "refused")]
)
async def test_a_key_that_is_turned_away_gives_its_place_to_the_next(
    build_pooled, ask, api, stream, fault, status, state
):
    async with build_pooled() as house:
        house.simulator.play(fault, None, key=KEYS["aaaa"])
        answer = await ask(house, api.name, stream=stream)
        assert (answer.status, answer.complete) == (200, True)
        if stream:
            assert answer.body == api.client_text(api.body())
        (await house.books()).check("completed", "clean", health="success")
        assert asked_with(house) == ["aaaa", "bbbb"]
        assert ends(house) == [("http_status", status), ("clean", 200)]
        assert house.metric("aibridge_key_rotations_total", provider=api.provider, state=state) == 1
        assert house.metric("aibridge_key_pool_keys", provider=api.provider, state=state) == 1
        # The next request knows already.
        await ask(house, api.name, stream=stream)
        (await house.books(ended=2)).check_end("completed", "clean")
        assert asked_with(house) == ["aaaa", "bbbb", "bbbb"]


async def test_each_attempt_is_recorded_with_its_own_credential(build_pooled, ask):
    async with build_pooled() as house:
        house.simulator.play("status:429:60", None, key=KEYS["aaaa"])
        house.simulator.play("status:401", None, key=KEYS["bbbb"])
        await ask(house, "anthropic")
        books = await house.books()
        assert books.outcome.address.credential.hint == "sk-p...cccc"
        (row,) = await house.exported()
        told = [(one["provider"], one["credential_hint"], one["cause"]) for one in row["attempts"]]
        assert told == [
            ("anthropic", "sk-p...aaaa", "http_status"),
            ("anthropic", "sk-p...bbbb", "http_status"),
            ("anthropic", "sk-p...cccc", "clean"),
        ]
        assert (row["provider"], row["answered_by"]) == ("anthropic", "anthropic")
        assert row["credential_hint"] == "sk-p...aaaa"
        assert not audit(Path(house.records)).differences


@each(*POOLED)
async def test_a_key_comes_back_by_itself(build_pooled, ask, api):
    async with build_pooled() as house:
        house.simulator.play("status:429:1", 1, key=KEYS["aaaa"])
        async with asyncio.timeout(PATIENCE):
            while "aaaa" not in asked_with(house)[1:]:
                assert (await ask(house, api.name, stream=False)).status == 200
        assert pool_states(house, api) == (3, 0, 0)


# no key is left


@each(*POOLED)
@both
async def test_all_are_limited(build_pooled, ask, api, stream):
    async with build_pooled() as house:
        for name, seconds in zip(KEYS, (50, 30, 40), strict=True):
            house.simulator.play(f"status:429:{seconds}", None, key=KEYS[name])
        for number in (1, 2):  # the second one asks nobody any more
            answer = await ask(house, api.name, stream=stream)
            assert answer.status == 429
            assert 25 <= int(answer.headers["retry-after"]) <= 30
            books = await house.books(ended=number)
            said = api.said(answer.body)
            assert said.kind == api.kind("rate_limit_error", streaming=False)
            assert said.request_id == books.interception.id
            books.check_end("upstream_error", "keys_exhausted")
            assert books.outcome.health.value == "neither"
        assert asked_with(house) == list(KEYS)
        assert ends(house) == [("http_status", 429)] * 3
        assert pool_states(house, api) == (0, 3, 0)
        assert house.metric("aibridge_interceptions_total", cause="keys_exhausted") == 2
        assert house.metric("aibridge_key_rotations_total") == 2


async def test_it_is_the_same_end_in_all_books(build_pooled, ask):
    async with build_pooled("aaaa") as house:
        house.simulator.play("status:429:60", None)
        await ask(house, "anthropic")
        (await house.books()).check("upstream_error", "keys_exhausted", health="neither", error="reached their limits")


@each(*POOLED)
@both
async def test_all_are_refused(build_pooled, ask, api, stream):
    """A 401 would say that the client's own key is wrong."""
    async with build_pooled() as house:
        house.simulator.play("status:401", None)
        for number in (1, 2):
            answer = await ask(house, api.name, stream=stream)
            assert answer.status == 502
            assert "retry-after" not in answer.headers
            assert api.said(answer.body).kind == api.kind("api_error", streaming=False)
            books = await house.books(ended=number)
            books.check_end("upstream_error", "keys_exhausted")
            assert books.outcome.error == "the upstream refuses every key of the gateway's"
        assert asked_with(house) == list(KEYS)
        assert pool_states(house, api) == (0, 0, 3)


async def test_some_are_refused_and_one_is_limited(build_pooled, ask):
    async with build_pooled() as house:
        house.simulator.play("status:429:40", None, key=KEYS["bbbb"])
        house.simulator.play("status:401", None)
        answer = await ask(house, "anthropic")
        assert (answer.status, answer.headers["retry-after"]) == (429, "40")


async def test_a_client_that_has_its_head_is_told_in_its_stream(build_pooled, ask):
    timeouts = {"commit_after": 0.2, "ping": 0.2}
    async with build_pooled("aaaa", "bbbb", timeouts=timeouts) as house:
        house.simulator.play("status:429:60+late:700", None)
        answer = await ask(house, "anthropic")
        assert answer.status == 200
        assert answer.events[0] == "ping"
        assert answer.last_event["error"]["type"] == "rate_limit_error"
        (await house.books()).check("upstream_error", "keys_exhausted", health="neither")
        assert asked_with(house) == ["aaaa", "bbbb"]


async def test_and_one_that_has_it_gets_the_next_keys_answer(build_pooled, ask):
    timeouts = {"commit_after": 0.2, "ping": 0.2}
    async with build_pooled(timeouts=timeouts) as house:
        house.simulator.play("status:429:60+late:700", 1)
        answer = await ask(house, "anthropic")
        assert (answer.status, answer.events[0], answer.events[-1]) == (200, "ping", "message_stop")
        (await house.books()).check("completed", "clean", health="success")
        assert asked_with(house) == ["aaaa", "bbbb"]


# what does not rotate


@each(*POOLED)
@pytest.mark.parametrize("fault", ["status:400", "status:403", "status:404", "status:500", "status:503", "status:529"])
async def test_other_refusals_are_not_the_keys(build_pooled, ask, api, fault):
    async with build_pooled() as house:
        house.simulator.play(fault, 1)
        answer = await ask(house, api.name)
        assert answer.status == int(fault[-3:])
        (await house.books()).check_end("upstream_error", "http_status")
        assert asked_with(house) == ["aaaa"]
        assert pool_states(house, api) == (3, 0, 0)


@each(*POOLED)
@pytest.mark.parametrize("status", [401, 429])
async def test_a_clients_own_key_is_never_replaced(build_pooled, ask, api, status):
    async with build_pooled() as house:
        house.simulator.play(f"status:{status}", None)
        answer = await ask(house, api.name, headers=[("authorization", f"Bearer {OWN_TOKEN}")])
        assert answer.status == status
        (await house.books()).check_end("upstream_error", "http_status")
        assert asked_with(house) == [OWN_TOKEN[-4:]]
        assert pool_states(house, api) == (3, 0, 0)


async def test_a_client_that_left_is_not_asked_for_again(build_pooled, new_client, request_body):
    async with build_pooled() as house, new_client(house.port) as client:
        house.simulator.play("status:429:60+slow:500", None)
        version = ("anthropic-version", "2023-06-01")
        await client.ask("/anthropic/v1/messages", request_body(stream=False), headers=[version])
        await until(lambda: pool_states(house, APIS["anthropic"])[1])  # the head has come, and its body has not
        client.close()
        (await house.books()).check("upstream_error", "http_status", health="failure")
        assert ends(house) == [("http_status", 429)]
        assert house.simulator.ledger.arrived == 1


# with retries


async def test_another_key_goes_before_a_retry_and_costs_none(build_pooled, ask):
    retries = {"max": 1, "backoff": 0.05, "budget": 0.0}
    async with build_pooled(settings={"retries": retries}) as house:
        house.simulator.play("status:429:60", None, key=KEYS["aaaa"])
        assert (await ask(house, "anthropic")).status == 200
        assert asked_with(house) == ["aaaa", "bbbb"]


async def test_the_last_key_is_tried_again_where_that_is_worth_the_wait(build_pooled, ask):
    async with build_pooled("aaaa", "bbbb", settings={"retries": {"max": 1, "backoff": 0.05}}) as house:
        house.simulator.play("status:429:60", None, key=KEYS["aaaa"])
        house.simulator.play("status:429:1", 1, key=KEYS["bbbb"])
        answer = await ask(house, "anthropic")
        assert answer.status == 200
        (await house.books()).check("completed", "clean", health="success")
        assert asked_with(house) == ["aaaa", "bbbb", "bbbb"]


# with fallbacks

ELSEWHERE = {"api_keys": [{"key": "sk-pool-0123456789-dddd", "name": "dddd"}], "api_key": None}


@pytest.fixture
def build_twice(build_house):
    """Return a function that builds a house of two pools, the second of which is the first one's fallback."""

    def build(**sections):
        first = {**pooled("aaaa", "bbbb")["openai"], "fallbacks": [{"provider": "openai-eu"}]}
        provider = {"openai": first, "openai-eu": ELSEWHERE}
        return build_house(provider=provider, like={"openai-eu": "openai"}, **sections)

    return build


@each("chat", "responses")
@pytest.mark.parametrize("fault", ["status:429:60", "status:401"])
async def test_where_no_key_is_left_another_provider_is_asked(build_twice, ask, api, fault):
    async with build_twice() as house:
        for name in ("aaaa", "bbbb"):
            house.simulator.play(fault, None, key=KEYS[name])
        for _ in range(2):  # the second one asks the fallback at once
            answer = await ask(house, api.name)
            assert answer.status == 200
        books = await house.books(ended=2)
        books.check_end("completed", "clean")
        assert books.outcome.address.provider == "openai-eu"
        assert asked_with(house) == ["aaaa", "bbbb", "dddd", "dddd"]
        assert house.metric("aibridge_key_pool_keys", provider="openai", state="valid") == 0
        assert house.metric("aibridge_key_pool_keys", provider="openai-eu", state="valid") == 1


async def test_where_nobody_has_a_key_left(build_twice, ask):
    async with build_twice() as house:
        house.simulator.play("status:401", None)
        for number in (1, 2):  # the second one asks nobody
            answer = await ask(house, "chat")
            assert answer.status == 502
            (await house.books(ended=number)).check_end("upstream_error", "keys_exhausted")
        assert asked_with(house) == ["aaaa", "bbbb", "dddd"]


async def test_a_probe_that_finds_no_key_holds_no_place(build_house, ask):
    """A circuit lets one request pass to try its provider. Its keys cool: it goes on elsewhere, with nothing asked."""
    breaker = {"enabled": True, "failures": 1, "interval": 60, "timeout": 0.001, "probes": 1}
    first = {**pooled("aaaa")["openai"], "fallbacks": [{"provider": "openai-eu"}], "circuit_breaker": breaker}
    provider = {"openai": first, "openai-eu": ELSEWHERE}
    async with build_house(provider=provider, like={"openai-eu": "openai"}) as house, asyncio.timeout(PATIENCE):
        for fault in ("status:429:1", "status:500"):  # of a model whose circuit is another's, and of this one's
            house.simulator.play(fault, 1, key=KEYS["aaaa"])
        await ask(house, "chat", model="gpt-other")
        assert house.metric("aibridge_key_pool_keys", provider="openai", state="cooling") == 1
        await until(lambda: house.metric("aibridge_key_pool_keys", provider="openai", state="valid") == 1)
        await ask(house, "chat")
        house.simulator.play("status:429:1", 1, key=KEYS["aaaa"])
        await ask(house, "chat", model="gpt-third")
        before = len(house.simulator.ledger.rows)
        assert (await ask(house, "chat")).status == 200
        assert asked_with(house)[before:] == ["dddd"]
        await until(lambda: house.metric("aibridge_key_pool_keys", provider="openai", state="valid") == 1)
        before = len(house.simulator.ledger.rows)
        assert (await ask(house, "chat")).status == 200
        assert asked_with(house)[before:] == ["aaaa"]


# in a tool loop


@pytest.fixture
def build_tooled(build_pooled):
    """Return a function that asks a house with keys and a tool server, whose model calls a tool first."""

    async def run(api, stream, ask, play):
        async with serving(tools_server()) as url:
            servers = {"kit": {"url": url, "allow": "^add$"}}
            async with build_pooled(mcp={"servers": servers}) as house:
                play(house.simulator)
                answer = await ask(house, api.name, stream=stream)
                return house, answer, await house.books()

    return run


@each(*POOLED)
@both
@pytest.mark.parametrize("fault", ["status:429:60", "status:401"])
async def test_a_later_turn_goes_on_with_another_key(build_tooled, ask, api, stream, fault):
    def play(simulator):
        simulator.play("tools:1", 1)
        simulator.play(fault, 1)

    house, answer, books = await build_tooled(api, stream, ask, play)
    assert (answer.status, answer.complete) == (200, True)
    if stream:
        assert api.has_ended_well(answer.body)
        assert answer.body.count(api.last_word) == 1
    assert (books.outcome.termination, books.outcome.cause) == ("completed", "clean")
    assert asked_with(house) == ["aaaa", "aaaa", "bbbb"]
    assert [cause for cause, _ in ends(house)] == ["clean", "http_status", "clean"]


@each(*POOLED)
async def test_the_turn_behind_it_keeps_to_the_key(build_tooled, ask, api):
    def play(simulator):
        simulator.play("status:429:60", 1)
        simulator.play("tools:1", 1)

    house, answer, books = await build_tooled(api, True, ask, play)  # noqa: FBT003 - a stream
    assert answer.status == 200
    assert asked_with(house) == ["aaaa", "bbbb", "bbbb"]
    assert (books.outcome.termination, books.outcome.cause) == ("completed", "clean")


async def test_a_turn_that_comes_back_to_the_first_key_is_told_as_its_own(build_pooled, ask, new_client, request_body):
    """While a tool runs the second key is turned away, and the first has rested."""
    server, began, go_on = MCPServer("kit"), asyncio.Event(), asyncio.Event()

    @server.tool()
    async def wait() -> str:
        began.set()
        await go_on.wait()
        return "waited"

    async with serving(server) as url, build_pooled(mcp={"servers": {"kit": {"url": url}}}) as house:
        play, api = house.simulator.play, APIS["anthropic"]
        play("status:429:1", 1, key=KEYS["aaaa"])
        play("tools:1", 1, key=KEYS["bbbb"])
        async with new_client(house.port) as client, asyncio.timeout(PATIENCE):
            await client.ask(api.path, request_body(stream=True), headers=api.headers)
            await began.wait()
            await until(lambda: pool_states(house, api) == (3, 0, 0))
            play("status:429:1", 1, key=KEYS["aaaa"])
            play("status:429:60", 1, key=KEYS["bbbb"])
            other = asyncio.create_task(ask(house, "anthropic"))
            await until(lambda: "cccc" in asked_with(house) and pool_states(house, api) == (2, 1, 0))
            go_on.set()
            assert (await client.answer()).events[-1] == "message_stop"
            assert (await other).status == 200
        assert sorted(asked_with(house)) == ["aaaa", "aaaa", "aaaa", "bbbb", "bbbb", "cccc", "cccc"]
        row = min(await house.exported(ended=2), key=lambda row: row["started_at"])
        assert [one["credential_hint"] for one in row["attempts"]] == ["sk-p...aaaa", "sk-p...bbbb", "sk-p...aaaa"]


@each(*POOLED)
@pytest.mark.parametrize(("fault", "kind"), [("status:429:60", "rate_limit_error"), ("status:401", "api_error")])
async def test_all_fail_in_a_later_turn(build_tooled, ask, api, fault, kind):
    def play(simulator):
        simulator.play("tools:1", 1)
        simulator.play(fault, None)

    house, answer, books = await build_tooled(api, True, ask, play)  # noqa: FBT003 - a stream
    assert answer.status == 200
    _, said = api.parted(answer.body)
    assert (said.kind, said.request_id) == (api.kind(kind, streaming=True), books.interception.id)
    books.check("upstream_error", "keys_exhausted", health="neither")
    assert asked_with(house) == ["aaaa", "aaaa", "bbbb", "cccc"]
    assert books.outcome.usage.output_tokens > 0  # of the turn that did well


async def test_all_fail_in_a_later_turn_that_is_not_streamed(build_tooled, ask):
    def play(simulator):
        simulator.play("tools:1", 1)
        simulator.play("status:429:60", None)

    _, answer, books = await build_tooled(APIS["anthropic"], False, ask, play)  # noqa: FBT003 - no stream
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")
    books.check("upstream_error", "keys_exhausted", health="neither")


# the choice


def of_session(number):
    return [("user-agent", "claude-cli/2.1.0"), ("x-claude-code-session-id", f"session-{number}")]


async def test_a_session_keeps_to_its_key(build_pooled, ask):
    async with build_pooled(settings={"key_choice": "spread"}) as house:
        for number in [*range(12)] * 2:
            await ask(house, "anthropic", stream=False, headers=of_session(number))
        asked = asked_with(house)
        assert asked[:12] == asked[12:]
        assert set(asked) == set(KEYS)
        house.simulator.play("status:429:60", None, key=KEYS["bbbb"])
        for number in range(12):
            await ask(house, "anthropic", stream=False, headers=of_session(number))
        after = [name for name in asked_with(house)[24:] if name != "bbbb"]
        moved = [new for old, new in zip(asked[:12], after, strict=True) if old == "bbbb"]
        kept = [(old, new) for old, new in zip(asked[:12], after, strict=True) if old != "bbbb"]
        assert moved
        assert all(old == new for old, new in kept)


@each(*POOLED)
async def test_a_key_that_has_little_left_is_left_alone(build_pooled, ask, api):
    async with build_pooled() as house:
        house.simulator.play("left:3", 1)
        for _ in range(2):
            await ask(house, api.name, stream=False)
        assert asked_with(house) == ["aaaa", "bbbb"]
        labels = {"provider": api.provider, "kind": "requests"}
        assert house.metric("aibridge_key_ratelimit_remaining", key="aaaa", **labels) == 3
        assert house.metric("aibridge_key_ratelimit_remaining", key="bbbb", **labels) > 3000
        assert pool_states(house, api) == (3, 0, 0)


async def test_what_is_relayed_only_goes_out_whatever_the_limits(build_pooled, ask, new_client):
    async with build_pooled("aaaa") as house:
        house.simulator.play("status:429:60", None)
        await ask(house, "anthropic")
        async with new_client(house.port) as client:
            version = ("anthropic-version", "2023-06-01")
            await client.ask("/anthropic/v1/models", b"", method="GET", headers=[version])
            answer = await client.answer()
        assert answer.status == 200
        assert json.loads(answer.body)["data"]
        assert asked_with(house) == ["aaaa", "aaaa"]
