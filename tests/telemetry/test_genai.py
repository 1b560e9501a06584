"""The metrics of the conventions: what they are measured with, and that their attributes stay bounded."""

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from aibridge.lifecycle import Cause
from aibridge.telemetry.conventions import Semconv
from aibridge.telemetry.genai import GenAIMetrics
from aibridge.values import Usage, UserPrompt


@pytest.fixture
def measured():
    """Return what makes a listener, and what reads the points of its metrics."""
    made = []

    def make(**settings):
        reader = InMemoryMetricReader()
        made.append(GenAIMetrics(reader, **settings))

        def points(name):
            return {
                metric.name: metric.data.data_points
                for whole in reader.get_metrics_data().resource_metrics
                for scope in whole.scope_metrics
                for metric in scope.metrics
            }.get(name, [])

        return made[-1], points

    yield make
    for one in made:
        one.shutdown()


def tell(listener, interception, attempts, outcome):
    listener.opened(interception)
    listener.learned(interception, UserPrompt("a prompt"), "")
    for attempt in attempts:
        listener.attempted(interception, attempt)
    listener.closed(interception, outcome)


def test_a_request_and_its_tokens(measured, make_interception, make_attempt, make_outcome):
    listener, points = measured()
    tell(listener, make_interception(), [make_attempt()], make_outcome())
    shared = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
    }
    [duration] = points("gen_ai.client.operation.duration")
    assert duration.attributes == shared | {"aibridge.termination": "completed"}
    assert (duration.sum, duration.count) == (1.5, 1)
    assert 81.92 in duration.explicit_bounds
    tokens = {point.attributes["gen_ai.token.type"]: point for point in points("gen_ai.client.token.usage")}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 80, "output": 20}
    assert tokens["input"].explicit_bounds[-1] == 67108864


def test_each_attempt_is_a_request_of_its_own(measured, make_interception, make_attempt, make_outcome):
    listener, points = measured()
    attempts = [make_attempt(Cause.CONNECTION_RESET), make_attempt(number=2)]
    tell(listener, make_interception(provider_kind="bedrock"), attempts, make_outcome())
    found = points("gen_ai.client.operation.duration")
    assert {point.attributes.get("error.type") for point in found} == {"connection_reset", None}
    assert {point.attributes["gen_ai.provider.name"] for point in found} == {"aws.bedrock"}
    [whole] = points("gen_ai.server.request.duration")
    assert whole.count == 1


def test_the_counters_to_come_add_up(measured, make_interception, make_outcome):
    listener, points = measured(semconv=Semconv.NEXT)
    for usage in (Usage(1, 2, 3, 4), Usage(), Usage(10)):
        tell(listener, make_interception(), [], make_outcome(usage=usage))
    [point] = points("gen_ai.client.inference.usage.input_tokens")
    assert (point.value, point.attributes["gen_ai.token.modality"]) == (18, "unknown")
    [distribution] = points("gen_ai.client.inference.operation.input_tokens")
    assert (distribution.sum, distribution.count) == (18, 2)
    assert points("gen_ai.client.token.usage") == []


def test_models_that_clients_invent_are_bounded(measured, make_interception, make_outcome):
    listener, points = measured(models=["known"], max_models=2)
    for number in range(20):
        tell(listener, make_interception(model=f"m{number}"), [], make_outcome())
    tell(listener, make_interception(model="known"), [], make_outcome())
    found = {
        point.attributes["gen_ai.request.model"]: point.count for point in points("gen_ai.server.request.duration")
    }
    assert found == {"m0": 1, "m1": 1, "other": 18, "known": 1}
