"""The conventions' names and rules, as data: what is told of an attempt and of an outcome, by setting."""

import pytest

from aibridge import config
from aibridge.dialects import DIALECTS
from aibridge.lifecycle import TERMINATION_OF, Cause, Termination
from aibridge.telemetry import conventions
from aibridge.telemetry.conventions import Semconv, all_input, error_type, instruments, of_attempt, of_outcome
from aibridge.values import Evidence, Usage

RELEASED = {"gen_ai.client.token.usage"}
COMING = {
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
}
ALWAYS = {
    "gen_ai.client.operation.duration",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.server.request.duration",
    "gen_ai.server.time_to_first_token",
    "gen_ai.server.time_per_output_token",
}


@pytest.mark.parametrize(
    ("semconv", "names"),
    [
        (Semconv.STABLE_NOW, ALWAYS | RELEASED),
        (Semconv.NEXT, ALWAYS | COMING),
        (Semconv.BOTH, ALWAYS | RELEASED | COMING),
        (Semconv.OFF, set()),
    ],
)
def test_each_setting_has_its_metrics(semconv, names, make_interception, make_attempt, make_outcome):
    assert {one.name for one in instruments(semconv)} == names
    attempt = make_attempt(evidence=Evidence(time_to_first_event=0.5))
    if semconv is not Semconv.OFF:
        told = [*of_attempt(make_interception(), attempt), *of_outcome(make_interception(), make_outcome(), semconv)]
        assert {measure.instrument.name for measure in told} == names


def test_every_api_and_every_kind_of_provider_has_its_name():
    assert set(conventions.OPERATION_NAMES) == set(DIALECTS)
    assert set(conventions.PROVIDER_NAMES) == set(config.KINDS)


def values(measures):
    return {(one.instrument.name, *sorted(one.more.values())): one.value for one in measures}


def test_cached_tokens_are_input_too():
    assert all_input(Usage(10, 20, 30, 40)) == 80
    assert all_input(Usage(10)) == 10
    assert all_input(Usage(None, 20, 30, 40)) is None


def test_what_is_not_known_is_not_reported_but_by_the_counters_to_come(make_interception, make_outcome):
    outcome = make_outcome(Cause.CONNECT_FAILED, usage=Usage(), evidence=Evidence())
    told = values(of_outcome(make_interception(), outcome, Semconv.BOTH))
    counters = {name for name in COMING if ".usage." in name}
    assert told == {("gen_ai.server.request.duration", "connect_failed", "upstream_error"): 2.0} | {
        (name, "unknown"): 0 for name in counters
    }


def test_tokens_of_both_conventions(make_interception, make_outcome):
    told = values(of_outcome(make_interception(), make_outcome(), Semconv.BOTH))
    usage, operation = "gen_ai.client.inference.usage", "gen_ai.client.inference.operation"
    assert told["gen_ai.client.token.usage", "input"] == told[f"{usage}.input_tokens", "unknown"] == 80
    assert told["gen_ai.client.token.usage", "output"] == told[f"{usage}.output_tokens", "unknown"] == 20
    assert told[f"{usage}.cache_read.input_tokens", "unknown"] == 30
    assert told[f"{usage}.cache_write.input_tokens", "unknown"] == 40
    assert (told[f"{operation}.input_tokens",], told[f"{operation}.output_tokens",]) == (80, 20)


def test_times_of_tokens_are_told_of_streams_that_were_completed(make_interception, make_outcome):
    told = values(of_outcome(make_interception(), make_outcome(), Semconv.STABLE_NOW))
    assert told["gen_ai.server.time_to_first_token",] == 0.3
    assert told["gen_ai.server.time_per_output_token",] == pytest.approx(1.7 / 19)
    for interception, outcome in (
        (make_interception(), make_outcome(Cause.TRUNCATED)),
        (make_interception(streaming=False), make_outcome()),
    ):
        names = {one.instrument.name for one in of_outcome(interception, outcome, Semconv.STABLE_NOW)}
        assert not names & {"gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token"}


def test_one_token_has_no_time_after_the_first(make_interception, make_outcome):
    outcome = make_outcome(usage=Usage(5, 1))
    names = {one.instrument.name for one in of_outcome(make_interception(), outcome, Semconv.STABLE_NOW)}
    assert "gen_ai.server.time_per_output_token" not in names


@pytest.mark.parametrize("cause", Cause)
def test_an_error_has_a_type_and_nothing_else_has(cause, make_interception, make_attempt):
    attempt = make_attempt(cause)
    [duration, *_] = of_attempt(make_interception(), attempt)
    failed = TERMINATION_OF[cause] in {Termination.UPSTREAM_ERROR, Termination.GATEWAY_ERROR}
    expected = {"aibridge.termination": TERMINATION_OF[cause].value}
    if failed:
        expected["error.type"] = "200" if cause is Cause.HTTP_STATUS else cause.value
    assert dict(duration.more) == expected


def test_a_status_that_is_not_known_is_told_by_its_cause():
    assert error_type(Termination.UPSTREAM_ERROR, Cause.HTTP_STATUS, None) == "http_status"


def test_buckets_rise_and_hold_those_of_the_conventions():
    for instrument in instruments(Semconv.BOTH):
        assert list(instrument.buckets) == sorted(set(instrument.buckets))
    assert set(conventions.OPERATION_DURATION.buckets) >= {0.01 * 2**power for power in range(14)}
    assert conventions.TOKEN_USAGE.buckets == tuple(4**power for power in range(14))
