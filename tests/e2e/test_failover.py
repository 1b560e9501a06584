"""Requests that go on to another provider, or to another model: real sockets, and who answered in all books."""

import json
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from api_kit import APIS, each
from mcp_kit import serving, tools_server

from aibridge import cli
from aibridge.audit import audit
from aibridge.errors import CredentialsError
from aibridge.providers.renewal import CredentialSource
from aibridge.stores import browsing, ledger
from aibridge.stores.rerating import rerate
from aibridge.stores.sqlite import querying
from aibridge.values import Cost

VERSION = ("anthropic-version", "2023-06-01")
SONNET = "claude-sonnet-5"
MODEL = {"bedrock": SONNET}
"""Of those whose clients may write a name that only they have."""
TO = {"anthropic": "bedrock", "bedrock": "anthropic", "openai": "openai-eu"}
ON = ("anthropic", "bedrock", "chat", "responses")


def fallback(name):
    return {"provider": TO[name], **({"model": MODEL[name]} if name in MODEL else {})}


@pytest.fixture
def build(build_house):
    """Return a context manager that builds a house whose providers stand in for each other.

    `more` are settings of all of them; `own` those of one, by its name.
    """

    @asynccontextmanager
    async def build_it(*, more=None, own=None, **sections):
        provider = {name: {"fallbacks": [fallback(name)], **(more or {})} for name in TO}
        provider["openai-eu"] = {"headers": {"x-place": "eu"}}
        for name, settings in (own or {}).items():
            provider.setdefault(name, {}).update(settings)
        async with build_house(provider=provider, like={"openai-eu": "openai"}, **sections) as house:
            yield house

    return build_it


def causes(house):
    return [attempt.cause.value for attempt in house.outcomes.attempts]


def asked(house):
    """Return who was asked, as the attempts say; None is whom the client asked."""
    return [attempt.address and attempt.address.provider for attempt in house.outcomes.attempts]


def no_price(_counted):
    return Cost()


async def check_answered_by(house, api, *, ended=1, cause="http_status"):
    """Assert that all books say who failed, and who answered."""
    to = TO[api.provider]
    books = await house.books(ended=ended)
    books.check("completed", "clean", health="success")
    address = books.outcome.address
    assert (address.provider, address.credential.kind.value) == (to, "centralized")
    assert address.credential.hint != books.interception.credential.hint or api.provider == "openai"
    assert (books.interception.provider, books.interception.upstream_model != "") == (api.provider, True)

    row = books.record
    assert (row["provider"], row["answered_by"]) == (api.provider, to)
    assert (row["answered_kind"], row["answered_model"]) == (address.provider_kind, address.upstream_model)
    first, last = row["attempts"]
    assert (first["cause"], first["provider"]) == (cause, api.provider)
    assert first["credential_hint"] == row["credential_hint"] == books.interception.credential.hint
    assert (last["cause"], last["provider"], last["provider_kind"]) == ("clean", to, address.provider_kind)
    assert (last["upstream_model"], last["credential_hint"]) == (address.upstream_model, address.credential.hint)
    assert last["credential_kind"] == "centralized"
    assert last["output_tokens"] == row["usage"]["output_tokens"] == books.outcome.usage.output_tokens
    assert first["output_tokens"] is None
    with querying(house.records) as query:
        assert [one["provider"] for one in ledger.usage(query, 0.0, ["provider"])] == [to]
        assert browsing.sessions(query, 0.0, None, None, 9)[0][0]["providers"] == [to]
    ((rated,),) = [[one for one, _ in batch] for batch in rerate(house.records, no_price, "x", 0.0, dry_run=True)]
    assert (rated.provider, rated.provider_kind) == (to, address.provider_kind)
    assert rated.upstream_model == address.upstream_model

    assert house.metric("aibridge_failovers_total", provider=api.provider, to=to, cause=cause) == 1
    assert house.metric("aibridge_upstream_attempts_total", provider=api.provider, cause=cause) == 1
    assert house.metric("aibridge_upstream_attempts_total", provider=to, cause="clean") == 1
    assert house.metric("aibridge_tokens_total", provider=to) > 0
    assert house.metric("aibridge_tokens_total", provider=api.provider) == 0

    spans = [span for span in house.spans.get_finished_spans() if span.name.endswith(".Upstream")]
    assert [span.attributes["provider"] for span in spans] == [api.provider, to]
    (root,) = [span for span in house.spans.get_finished_spans() if span.name == "Intercept"]
    assert (root.attributes["provider"], root.attributes["aibridge.answered_by"]) == (api.provider, to)
    line = next(line for line in house.lines() if line.get("answered_by"))
    assert (line["provider"], line["answered_by"], line["answered_model"]) == (
        api.provider,
        to,
        address.upstream_model,
    )
    return books


@each(*ON)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("status:529", "http_status"),
        ("status:429:60", "http_status"),
        ("status:500", "http_status"),
        ("rst_before_head", "connection_reset"),
        ("html", "unexpected_response"),
    ],
)
async def test_the_next_one_answers(build, ask, api, stream, fault, cause):
    async with build() as house:
        house.simulator.play(fault, 1)
        answer = await ask(house, api.name, stream=stream)
        assert (answer.status, answer.complete) == (200, True)
        if stream:
            assert api.has_ended_well(answer.body)
        await check_answered_by(house, api, cause=cause)
        assert causes(house) == [cause, "clean"]


@each(*ON)
async def test_who_is_asked_gets_its_own_credential_and_no_other(build, new_client, api):
    """Also where the client has one that is not used."""
    async with build(more={"byok": False}) as house, new_client(house.port) as client:
        house.simulator.play("status:529", 1)
        own = [(name, value) for name, value in api.headers if name != "authorization"]
        own += [("authorization", "Bearer sk-placeholder-of-a-client")]
        await client.ask(api.path, api.body(), headers=own)
        assert (await client.answer()).status == 200
        await check_answered_by(house, api)
        first, second = [dict(row.headers) for row in house.simulator.ledger.rows]
        assert "placeholder" not in json.dumps([first, second])
        assert {"anthropic": "x-api-key" in first, "bedrock": "x-api-key" in second}.get(api.provider, True)
        if api.provider == "anthropic":
            assert ("x-api-key" in second, "x-amz-date" in second) == (False, True)
        if api.provider == "openai":
            assert ("x-place" in first, second["x-place"]) == (False, "eu")


@each(*ON)
async def test_the_last_refusal_is_passed_on(build, ask, api):
    async with build() as house:
        house.simulator.play("status:503", 1)
        house.simulator.play("status:529", 1)
        answer = await ask(house, api.name)
        assert answer.status in {503, 529}
        books = await house.books()
        books.check("upstream_error", "http_status", health="failure")
        assert books.outcome.evidence.http_status == answer.status
        assert (causes(house), asked(house)) == (["http_status"] * 2, [None, TO[api.provider]])
        assert books.record["answered_by"] == TO[api.provider]


@pytest.mark.parametrize(
    "fault", ["status:400", "status:401", "status:403", "status:404", "status:413", "status:422", "truncate@3"]
)
async def test_what_is_no_matter_of_the_provider_stays_there(build, ask, fault):
    async with build() as house:
        house.simulator.play(fault, 1)
        await ask(house, "anthropic")
        books = await house.books()
        assert (causes(house), asked(house)) == ([books.outcome.cause.value], [None])
        assert house.metric("aibridge_failovers_total") == 0
        record = books.record
        assert (books.outcome.address, record["answered_by"], record["answered_kind"]) == (None, "anthropic", None)


async def test_an_answer_that_breaks_off_is_not_asked_for_elsewhere(build, ask):
    """Its client has no byte of it, but the provider has made it, and it was paid for."""
    async with build() as house:
        house.simulator.play("cut@40", 1)
        assert (await ask(house, "anthropic", stream=False)).status == 502
        (await house.books()).check("upstream_error", "incomplete_body", health="failure")
        assert asked(house) == [None]


async def test_other_causes_where_an_operator_says_so(build, ask):
    choice = {"failover": {"causes": ["connect_failed"], "statuses": [401, 529]}}
    async with build(more=choice) as house:
        for number, (fault, count) in enumerate([("status:401", 2), ("status:503", 1), ("html", 1)], 1):
            before = len(house.outcomes.attempts)
            house.simulator.play(fault, 1)
            await ask(house, "anthropic")
            await house.outcomes.wait(ended=number)
            assert len(house.outcomes.attempts) - before == count, fault


async def test_nobody_listens_there(build, ask):
    async with build(own={"anthropic": {"base_url": "http://127.0.0.1:9"}}, timeouts={"connect": 2}) as house:
        assert (await ask(house, "anthropic")).status == 200
        await check_answered_by(house, APIS["anthropic"], cause="connect_failed")


async def test_retries_come_first_and_each_provider_has_its_own(build, ask):
    again = {"retries": {"max": 1, "backoff": 0.05}}
    async with build(more=again) as house:
        house.simulator.play("status:529", 3)
        assert (await ask(house, "anthropic")).status == 200
        await house.books()
        assert causes(house) == ["http_status"] * 3 + ["clean"]
        assert asked(house) == [None, None, "bedrock", "bedrock"]
        assert [one.left for one in house.outcomes.attempts] == [False, True, False, False]


@each(*ON)
@pytest.mark.parametrize("fault", ["status:401", "status:403", "status:404"])
async def test_of_a_fallback_that_cannot_answer_the_client_hears_nothing(build, ask, api, fault, caplog):
    """Neither its own key nor its own model is what the client asked with and for."""
    caplog.set_level("WARNING", "aibridge.failover")
    async with build() as house:
        for stream in (True, False):
            house.simulator.play("status:503", 1)
            house.simulator.play(fault, 1)
            answer = await ask(house, api.name, stream=stream)
            assert answer.status in {529, 503}
        books = await house.books(ended=2)
        books.check_end("upstream_error", "http_status")
        assert asked(house) == [None, TO[api.provider]] * 2
        assert books.outcome.evidence.http_status == int(fault[-3:]), "the record is of the last attempt"
        assert books.outcome.address.provider == TO[api.provider]
        told = [record.fields for record in caplog.records if record.message == "fallback cannot answer"]
        assert told == [{"provider": TO[api.provider], "http_status": int(fault[-3:])}]


async def test_nor_where_whom_it_asked_is_not_there(build, ask):
    async with build() as house:
        house.simulator.play("rst_before_head", 1)
        house.simulator.play("status:404", 1)
        answer = await ask(house, "anthropic")
        assert answer.status == 502
        await house.books()
        assert causes(house) == ["connection_reset", "http_status"]


@pytest.mark.parametrize("fault", ["status:401", "status:404"])
async def test_another_fallback_is_asked_in_the_place_of_one_that_cannot_answer(build, ask, fault):
    chain = [{"provider": "anthropic", "model": "claude-haiku-4-5"}, {"provider": "bedrock"}]
    async with build(own={"anthropic": {"fallbacks": chain}}) as house:
        house.simulator.play("status:529", 1)
        house.simulator.play(fault, 1)
        assert (await ask(house, "anthropic")).status == 200
        await house.books()
        assert asked(house) == [None, "anthropic", "bedrock"]
        assert causes(house) == ["http_status", "http_status", "clean"]


async def test_a_chain_has_an_end(build, ask):
    """A and B name each other: each is asked once all the same."""
    chain = [{"provider": "anthropic", "model": "claude-haiku-4-5"}, {"provider": "bedrock"}]
    async with build(own={"anthropic": {"fallbacks": chain}}) as house:
        house.simulator.play("status:529", None)
        assert (await ask(house, "anthropic")).status == 529
        await house.books()
        assert asked(house) == [None, "anthropic", "bedrock"]
        models = [row.model for row in house.simulator.ledger.rows]
        assert models[:2] == [SONNET, "claude-haiku-4-5"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_another_model_at_the_same_provider(build, ask, stream):
    """Every byte of the body but the model's name is the client's. A client's own key pays there as before."""
    chain = {"fallbacks": [{"provider": "anthropic", "model": "claude-haiku-4-5"}]}
    async with build(own={"anthropic": chain}) as house:
        for number, headers in enumerate([(), (("x-api-key", "sk-ant-of-a-client-0123456789"),)], 1):
            house.simulator.play("status:529", 1)
            answer = await ask(house, "anthropic", stream=stream, headers=headers)
            assert answer.status == 200
            books = await house.books(ended=number)
            address = books.outcome.address
            assert (address.provider, address.model, address.upstream_model) == (
                "anthropic",
                "claude-haiku-4-5",
                "claude-haiku-4-5",
            )
            assert address.credential == books.interception.credential
            first, second = list(house.simulator.ledger.rows)[-2:]
            assert second.request_bytes - first.request_bytes == len("claude-haiku-4-5") - len(SONNET)
        assert house.metric("aibridge_failovers_total", provider="anthropic", to="anthropic") == 2
        assert house.metric("aibridge_tokens_total", model="claude-haiku-4-5") > 0
        assert house.metric("aibridge_tokens_total", model=SONNET) == 0


async def test_the_same_provider_is_asked_again_within_its_budget(build, ask):
    chain = {"fallbacks": [{"provider": "anthropic", "model": "claude-haiku-4-5"}]}
    async with build(own={"anthropic": chain}) as house:
        house.simulator.play("status:529", None)
        for number in range(1, 31):
            await ask(house, "anthropic", stream=False)
            await house.outcomes.wait(ended=number)
        assert 30 + 10 <= len(causes(house)) <= 30 + 13


async def test_so_it_is_where_another_was_asked_between(build, ask):
    chain = [{"provider": "bedrock"}, {"provider": "anthropic", "model": "claude-haiku-4-5"}]
    async with build(own={"anthropic": {"fallbacks": chain}}) as house:
        house.simulator.play("status:529", None)
        for number in range(1, 31):
            await ask(house, "anthropic", stream=False)
            await house.outcomes.wait(ended=number)
        assert asked(house)[:3] == [None, "bedrock", "anthropic"]
        again = asked(house).count("anthropic")
        assert 10 <= again <= 13
        assert len(causes(house)) == 60 + again


async def test_another_provider_has_what_it_can_bear(build, ask):
    """An outage goes over as a whole: the other is asked once for each request, and the failing one no more for it."""
    async with build() as house:
        for number in range(1, 31):
            house.simulator.play("status:529", 1)
            assert (await ask(house, "anthropic", stream=False)).status == 200
            await house.outcomes.wait(ended=number)
        assert asked(house) == [None, "bedrock"] * 30


async def test_a_clients_own_credential_goes_nowhere_else(build, ask):
    async with build() as house:
        house.simulator.play("status:529", 1)
        answer = await ask(house, "anthropic", headers=(("x-api-key", "sk-ant-of-a-client-0123456789"),))
        assert answer.status == 529
        (await house.books()).check("upstream_error", "http_status", health="failure")
        assert (asked(house), house.simulator.ledger.total) == ([None], 1)


@pytest.mark.parametrize(
    ("opens", "status", "who"),
    [
        (["--provider", "anthropic"], 529, [None]),
        (["--provider", "anthropic", "--provider", "bedrock"], 200, [None, "bedrock"]),
        (["--model", "claude-s*"], 200, [None, "bedrock"]),
    ],
)
async def test_what_a_gateway_key_does_not_open_is_passed_over(build, ask, tmp_path, capsys, opens, status, who):
    """The first of the chain is another model, the second another provider."""
    store = str(tmp_path / "keys.db")
    assert cli.main(["keys", "create", "--store", store, "--owner", "ann", *opens]) == 0
    key = capsys.readouterr().out.strip()
    chain = [{"provider": "anthropic", "model": "claude-haiku-4-5"}, {"provider": "bedrock"}]
    if "--model" not in opens:
        del chain[0]
    own = {"anthropic": {"fallbacks": chain}}
    async with build(own=own, auth={"key_store": {"path": store}}) as house:
        house.simulator.play("status:529", 1)
        assert (await ask(house, "anthropic", headers=(("x-api-key", key),))).status == status
        await house.books()
        assert asked(house) == who


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize("more", [[], [{"provider": "anthropic-eu"}]], ids=["the last", "another behind it"])
async def test_one_whose_credentials_cannot_be_had_is_passed_over(build_house, ask, stream, more):
    chain = [{"provider": "bedrock", "model": SONNET}, *more]
    own = {"anthropic": {"fallbacks": chain}, "bedrock": BREAKER}
    async with build_house(provider=own, like={"anthropic-eu": "anthropic"}) as house:
        (bedrock,) = house.app.generation.signing
        object.__setattr__(bedrock, "credentials", CredentialSource("bedrock", find_nothing))
        house.simulator.play("status:529", 1)
        answer = await ask(house, "anthropic", stream=stream)
        books = await house.books()
        if not more:
            assert answer.status == 500
            books.check("gateway_error", "internal", health="neither", error="nothing is there")
            return
        assert answer.status == 200
        books.check("completed", "clean", health="success")
        assert books.outcome.address.provider == "anthropic-eu"
        assert asked(house) == [None, "anthropic-eu"]
        assert audit(Path(house.records)).differences == []


def find_nothing():
    raise CredentialsError("nothing is there")


# circuits


class Clock:
    """The true clock, and leaps."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead


def set_clock(house):
    clock = Clock()
    house.app.generation.circuits._clock = clock
    return clock


BREAKER = {"circuit_breaker": {"enabled": True, "failures": 2, "interval": 1000, "timeout": 1000, "probes": 1}}


async def test_an_open_circuit_is_gone_round(build, ask):
    """What is left counts for its circuit. Once that is open nothing is sent there: the first attempt is elsewhere."""
    async with build(more=BREAKER) as house:
        for number in (1, 2):
            house.simulator.play("status:529", 1)
            assert (await ask(house, "anthropic")).status == 200
            await house.outcomes.wait(ended=number)
        assert house.metric("aibridge_circuit_breaker_state", provider="anthropic") == 1
        arrived = house.simulator.ledger.arrived
        for number, stream in enumerate([True, False], 3):
            assert (await ask(house, "anthropic", stream=stream)).status == 200
            books = await house.books(ended=number)
            assert books.outcome.address.provider == "bedrock"
            row = books.record
            assert [(one["number"], one["provider"], one["cause"]) for one in row["attempts"]] == [
                (1, "bedrock", "clean")
            ]
            assert (row["answered_by"], row["termination"], row["usage"]["output_tokens"] > 0) == (
                "bedrock",
                "completed",
                True,
            )
        assert house.simulator.ledger.arrived == arrived + 2
        assert house.metric("aibridge_failovers_total", cause="circuit_open") == 2
        assert house.metric("aibridge_circuit_breaker_state", provider="bedrock") == 0


async def test_all_circuits_are_open(build, ask):
    async with build(more=BREAKER) as house:
        house.simulator.play("status:529", None)
        for number in (1, 2):
            assert (await ask(house, "anthropic")).status == 529
            await house.outcomes.wait(ended=number)
        arrived = house.simulator.ledger.arrived
        answer = await ask(house, "anthropic")
        assert (answer.status, int(answer.headers["retry-after"]) > 900) == (503, True)
        books = await house.books(ended=3)
        assert (books.outcome.cause.value, books.outcome.address) == ("circuit_open", None)
        assert house.simulator.ledger.arrived == arrived


@pytest.mark.parametrize("answer", ["well", "badly"])
async def test_a_probe_that_goes_on_elsewhere_is_no_probe_any_more(build, ask, answer):
    async with build(more=BREAKER) as house:
        for number in (1, 2):
            house.simulator.play("status:529", 1)
            await ask(house, "anthropic")
            await house.outcomes.wait(ended=number)
        (place,) = house.app.generation.circuits._circuits
        assert (place.provider, house.app.generation.circuits._circuits[place].state.value) == ("anthropic", "open")
        set_clock(house).ahead = 2000.0
        if answer == "badly":
            house.simulator.play("status:529", 1)
        assert (await ask(house, "anthropic")).status == 200
        await house.outcomes.wait(ended=3)
        if answer == "badly":
            circuit = house.app.generation.circuits._circuits[place]
            assert (circuit.state.value, circuit.probes) == ("open", frozenset())
            assert asked(house)[-2:] == [None, "bedrock"]
        else:
            assert (asked(house)[-1], house.metric("aibridge_circuit_breaker_state")) == (None, 0)


# when the client has something


async def test_a_client_that_has_its_head_stays_where_it_is(build, new_client, request_body):
    timeouts = {"commit_after": 0.2, "ping": 0.2, "response": 1.0}
    async with build(timeouts=timeouts) as house, new_client(house.port) as client:
        house.simulator.play("no_head", 1)
        await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION])
        answer = await client.answer()
        assert (answer.status, answer.events[-1]) == (200, "error")
        (await house.books()).check("upstream_error", "response_timeout", health="failure")
        assert asked(house) == [None]


async def test_one_that_waits_for_the_next_gets_pings_of_it(build, new_client, request_body):
    """The next one was asked before; the head came while it thought."""
    timeouts = {"commit_after": 0.3, "ping": 0.2, "response": 30.0}
    async with build(timeouts=timeouts) as house, new_client(house.port) as client:
        house.simulator.play("status:529", 1)
        house.simulator.play("late:800", 1)
        await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION])
        answer = await client.answer()
        assert answer.body.startswith(b"event: ping\n")
        assert answer.events[-1] == "message_stop"
        (await house.books()).check("completed", "clean", health="success")
        assert asked(house) == [None, "bedrock"]


@pytest.mark.parametrize("leave", ["client", "gateway"])
async def test_whoever_leaves_meanwhile_ends_it(build, new_client, request_body, leave):
    async with build() as house, new_client(house.port) as client:
        house.simulator.play("status:529", 1)
        house.simulator.play("no_head", 1)
        await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION])
        await house.simulator.ledger.wait_for(1)
        await house.outcomes.wait(attempts=1)
        if leave == "client":
            client.close()
        else:
            await house.app.gateway.drain(0.1)
            assert (await client.answer()).status == 503
        books = await house.books()
        if leave == "client":
            books.check("client_gone", "disconnected", health="neither")
        else:
            books.check("gateway_error", "draining", health="neither")
        assert asked(house) == [None, "bedrock"]


# tools, and content


@each("anthropic", "bedrock", "chat")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_the_first_turn_of_a_tool_loop_goes_over_and_the_rest_follows(build, ask, api, stream):
    async with serving(tools_server(None)) as url:
        servers = {"kit": {"url": url, "allow": "^add$"}}
        async with build(mcp={"servers": servers}) as house:
            house.simulator.play("status:529", 1)
            house.simulator.play("tools:1", 1)
            answer = await ask(house, api.name, stream=stream)
            assert (answer.status, answer.complete) == (200, True)
            assert b"bmcp_" not in answer.body
            books = await house.books()
            books.check("completed", "clean", health="success")
            to = TO[api.provider]
            assert asked(house) == [None, to, to]
            assert books.outcome.usage.output_tokens == sum(
                one.usage.output_tokens or 0 for one in house.outcomes.attempts
            )


async def test_a_later_turn_stays(build, ask):
    async with serving(tools_server(None)) as url:
        servers = {"kit": {"url": url, "allow": "^add$"}}
        async with build(mcp={"servers": servers}) as house:
            house.simulator.play("tools:1", 1)
            house.simulator.play("status:529", 1)
            assert (await ask(house, "anthropic", stream=False)).status == 529
            (await house.books()).check("upstream_error", "http_status", health="failure")
            assert asked(house) == [None, None]


@pytest.mark.parametrize("status", [403, 404])
async def test_a_later_turn_at_a_fallback_is_told_as_it_is(build, ask, status, caplog):
    """The fallback has answered before: what it says now is no sign that it cannot."""
    async with serving(tools_server(None)) as url:
        servers = {"kit": {"url": url, "allow": "^add$"}}
        async with build(mcp={"servers": servers}) as house:
            for fault in ("status:503", "tools:1", f"status:{status}"):
                house.simulator.play(fault, 1)
            assert (await ask(house, "anthropic", stream=False)).status == status
            (await house.books()).check("upstream_error", "http_status", health="neither")
            assert asked(house) == [None, "bedrock", "bedrock"]
            assert "fallback cannot answer" not in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "kept"), [("full", "off", None), ("off", "full", None), ("full", "full", 1)]
)
async def test_of_the_content_is_kept_what_both_keep(build, ask, first, second, kept):
    own = {"anthropic": {"content": {"thoughts": first}}, "bedrock": {"content": {"thoughts": second}}}
    async with build(own=own) as house:
        house.simulator.play("status:529", 1)
        thinking = {"type": "enabled", "budget_tokens": 1024}
        assert (await ask(house, "anthropic", thinking=thinking, max_tokens=2048)).status == 200
        books = await house.books()
        row = books.record
        assert (row["answered_by"], len(row["thoughts"]) or None) == ("bedrock", kept)
