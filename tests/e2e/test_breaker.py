"""The row G4 of the outcome matrix: circuits over real sockets, from the first failure to the last probe."""

import asyncio
import random
import time

import pytest
from api_kit import ALL, APIS, COPILOT, each

PROVIDERS = ("anthropic", "bedrock", "openai", "copilot")
VERSION = ("anthropic-version", "2023-06-01")
PATIENCE = 20.0
TIMEOUT = 1000.0
METRICS = ("aibridge_circuit_breaker_trips_total", "aibridge_circuit_breaker_rejects_total")


class Clock:
    """The true clock, and leaps."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead


@pytest.fixture
def build_guarded(build_house):
    """Return a context manager that builds a house whose providers have breakers, and keys to leap its clock by."""

    def build(**breaker):
        settings = {"enabled": True, "failures": 2, "interval": TIMEOUT, "timeout": TIMEOUT, "probes": 1, **breaker}
        return build_house(
            provider={name: {"circuit_breaker": settings} for name in PROVIDERS}, timeouts={"idle": PATIENCE}
        )

    return build


def set_clock(house):
    clock = Clock()
    house.app.generation.circuits._clock = clock
    return clock


async def check_refused(house, ask, *, ended, api="anthropic", stream=True, least=1, most=TIMEOUT):
    """Ask, and assert that the answer is that of an open circuit, told in the books, and that nobody was asked."""
    arrived = house.simulator.ledger.arrived
    answer = await ask(house, api, stream=stream)
    assert house.simulator.ledger.arrived == arrived
    assert answer.status == 503
    error = APIS[api].said(answer.body)
    assert error.kind == APIS[api].kind("overloaded_error", streaming=False)
    assert "circuit breaker is open" in error.message
    assert least <= int(answer.headers["retry-after"]) <= most
    books = await house.books(ended=ended)
    assert error.request_id == answer.headers["x-aibridge-id"] == books.interception.id
    assert books.interception.provider == APIS[api].provider
    assert (books.outcome.termination.value, books.outcome.cause.value) == ("upstream_error", "circuit_open")
    assert books.outcome.evidence.http_status is None
    assert books.outcome.health.value == "neither"
    return books


@each(*ALL, *COPILOT)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_g4_a_whole_cycle(build_guarded, ask, api, stream):
    async with build_guarded() as house:
        clock = set_clock(house)
        labels = {"provider": api.provider, "endpoint": api.route}
        status = 503 if api.provider == "copilot" else 429  # that limit is the client's own, where the key is
        for _ in range(2):
            assert (await ask(house, api.name, f"status:{status}", stream=stream)).status == status
        assert house.simulator.ledger.arrived == 2
        assert house.metric("aibridge_circuit_breaker_state", **labels) == 1
        assert [house.metric(name, **labels) for name in METRICS] == [1, 0]

        books = await check_refused(house, ask, ended=3, api=api.name, stream=stream, least=TIMEOUT - PATIENCE)
        books.check("upstream_error", "circuit_open", health="neither", error="the circuit breaker is open")
        assert len(house.outcomes.attempts) == 2, "the upstream was not contacted"
        assert [house.metric(name, **labels) for name in METRICS] == [1, 1]

        clock.ahead = TIMEOUT
        answer = await ask(house, api.name, stream=stream)
        assert answer.status == 200
        assert house.metric("aibridge_circuit_breaker_state", **labels) == 0
        assert (await ask(house, api.name, stream=stream)).status == 200
        assert house.simulator.ledger.arrived == 4
        changes = [line for line in house.lines() if line["message"] == "circuit breaker state change"]
        assert [(line["from"], line["to"]) for line in changes] == [
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "closed"),
        ]


async def test_g4_retry_after_is_the_time_that_remains(build_guarded, ask):
    async with build_guarded() as house:
        clock = set_clock(house)
        for _ in range(2):
            await ask(house, "anthropic", "status:529")
        clock.ahead = TIMEOUT - 100
        await check_refused(house, ask, ended=3, least=100 - PATIENCE, most=100)


async def test_g4_a_failed_probe_opens_again(build_guarded, ask):
    async with build_guarded() as house:
        clock = set_clock(house)
        for _ in range(2):
            await ask(house, "anthropic", "status:503")
        clock.ahead = TIMEOUT
        assert (await ask(house, "anthropic", "status:503")).status == 503
        assert house.simulator.ledger.arrived == 3, "that 503 was the upstream's own"
        await check_refused(house, ask, ended=4, least=TIMEOUT - PATIENCE)
        assert house.metric("aibridge_circuit_breaker_trips_total") == 2


@pytest.mark.parametrize(
    ("api", "fault"),
    [
        ("anthropic", "truncate@3"),
        ("chat", "truncate@3"),
        ("chat", "error_event@3"),
        ("responses", "error_event:flat@3"),
        ("responses", "rst@3"),
        ("anthropic", "error_event:overloaded_error@3"),
        ("anthropic", "rst@3"),
        ("anthropic", "cut@700"),
        ("bedrock", "exception:throttlingException@3"),
        ("bedrock", "bad_crc@3"),
        ("bedrock", "half_frame"),
    ],
)
async def test_g4_streams_that_fail_behind_a_good_head_count(build_guarded, ask, api, fault):
    async with build_guarded() as house:
        for _ in range(2):
            assert (await ask(house, api, fault)).status == 200
        await check_refused(house, ask, ended=3, api=api)


async def test_g4_a_half_open_circuit_does_not_close_on_a_broken_stream(build_guarded, ask):
    async with build_guarded() as house:
        clock = set_clock(house)
        for _ in range(2):
            await ask(house, "anthropic", "status:529")
        clock.ahead = TIMEOUT
        assert (await ask(house, "anthropic", "truncate@3")).status == 200
        await check_refused(house, ask, ended=4)


async def test_g4_an_upstream_that_cannot_be_reached_counts(build_guarded, ask):
    async with build_guarded() as house:
        for _ in range(2):
            assert (await ask(house, "anthropic", "close_before_head")).status == 502
        await check_refused(house, ask, ended=3)


@pytest.mark.parametrize("fault", ["status:400", "status:401", "status:404", "status:422"])
async def test_what_the_client_did_wrong_does_not_count(build_guarded, ask, fault):
    async with build_guarded() as house:
        for _ in range(4):
            answer = await ask(house, "anthropic", fault)
            assert answer.status == int(fault.partition(":")[2])
        assert house.simulator.ledger.arrived == 4
        assert (await ask(house, "anthropic")).status == 200


async def test_clients_that_leave_do_not_count(build_guarded, new_client, request_body, ask):
    async with build_guarded() as house:
        for number in range(1, 5):
            async with new_client(house.port) as client:
                await client.ask(
                    "/anthropic/v1/messages", request_body(), headers=[("x-sim-fault", "stall@5"), VERSION]
                )
                await client.read_until(b"event: content_block_delta")
                client.reset()
            await house.outcomes.wait(ended=number)
        assert (await ask(house, "anthropic")).status == 200


async def test_g4_each_model_and_provider_for_itself(build_guarded, ask):
    async with build_guarded() as house:
        for _ in range(2):
            await ask(house, "anthropic", "status:529", model="claude-one")
        assert (await ask(house, "anthropic", model="claude-one")).status == 503
        assert (await ask(house, "anthropic", model="claude-two")).status == 200
        assert (await ask(house, "bedrock")).status == 200
        assert house.metric("aibridge_circuit_breaker_state", model="claude-one") == 1
        assert house.metric("aibridge_circuit_breaker_state", model="claude-two") == 0


async def test_g4_two_of_five_probe_and_one_that_leaves_gives_its_place_back(
    build_guarded, ask, new_client, request_body
):
    async with build_guarded(probes=2) as house:
        clock = set_clock(house)
        for _ in range(2):
            await ask(house, "anthropic", "status:529")
        clock.ahead = TIMEOUT
        async with new_client(house.port) as first, new_client(house.port) as second:
            for number, client in enumerate((first, second), 3):
                await client.ask(
                    "/anthropic/v1/messages", request_body(), headers=[("x-sim-fault", "stall@5"), VERSION]
                )
                await client.read_until(b"event: content_block_delta")
                assert house.simulator.ledger.arrived == number
            assert house.metric("aibridge_circuit_breaker_state", provider="anthropic") == 0.5
            for number in range(3, 6):
                await check_refused(house, ask, ended=number, most=1)
            first.reset()
            await house.outcomes.wait(ended=6)
            assert house.outcomes.ended[-1][1].cause.value == "disconnected"
            assert (await ask(house, "anthropic")).status == 200, "the place of the one that left was free"
            await check_refused(house, ask, ended=8, most=1)
            second.reset()
            await house.outcomes.wait(ended=9)
        assert (await ask(house, "anthropic")).status == 200
        assert house.metric("aibridge_circuit_breaker_state", provider="anthropic") == 0
        assert house.metric("aibridge_circuit_breaker_rejects_total") == 4


async def test_passthrough_is_not_asked(build_guarded, ask, new_client):
    async with build_guarded() as house:
        for _ in range(2):
            await ask(house, "anthropic", "status:529")
        async with new_client(house.port) as client:
            await client.ask("/anthropic/v1/models", b"", method="GET", headers=[VERSION])
            assert (await client.answer()).status == 200


FAULTS = ["", "", "", "status:529", "truncate@3", "rst@3", "status:400", "error_event@3", "leave", "leave"]


async def test_whatever_happens_no_place_is_held_for_ever(build_guarded, ask, new_client, request_body):
    """Many at once, at random, through openings and trials; in the end nobody is a probe, and the books add up."""
    async with build_guarded(probes=2, timeout=0.05) as house:
        dice = random.Random(17)

        async def one(fault):
            if fault != "leave":
                await ask(house, "anthropic", fault)
                return
            async with new_client(house.port) as client:
                headers = [("x-sim-fault", "stall@5"), VERSION]
                await client.ask("/anthropic/v1/messages", request_body(), headers=headers)
                await client.read_until(b"\r\n\r\n")
                client.reset()

        async def many():
            for fault in dice.choices(FAULTS, k=40):
                await one(fault)

        await asyncio.gather(*(many() for _ in range(8)))
        await house.outcomes.wait(opened=320, ended=320)
        circuits = house.app.generation.circuits._circuits.values()
        assert [circuit.probes for circuit in circuits if circuit.probes] == []
        assert house.metric("aibridge_circuit_breaker_trips_total") > 1
        assert house.metric("aibridge_interceptions_started_total") == 320
        assert house.metric("aibridge_interceptions_total") == 320
        refused = house.metric("aibridge_interceptions_total", cause="circuit_open")
        assert refused == house.metric("aibridge_circuit_breaker_rejects_total") > 0
        set_clock(house).ahead = TIMEOUT
        for _ in range(3):
            assert (await ask(house, "anthropic")).status == 200
        assert house.metric("aibridge_circuit_breaker_state") == 0


async def test_with_its_defaults_the_fifth_in_a_row_opens_for_half_a_minute(build_house, ask):
    async with build_house(provider={"anthropic": {"circuit_breaker": {"enabled": True}}}) as house:
        for fault in [*["status:529"] * 4, "", *["status:529"] * 5]:
            assert (await ask(house, "anthropic", fault)).status in {200, 529}
        assert house.simulator.ledger.arrived == 10
        await check_refused(house, ask, ended=11, least=30 - PATIENCE, most=30)


async def test_by_default_there_is_no_breaker(house, ask):
    for _ in range(12):
        assert (await ask(house, "anthropic", "status:529")).status == 529
    assert house.app.generation.circuits is None
    assert house.metric("aibridge_circuit_breaker_state") == 0
