"""Metrics: what each end counts as, that sums add up at every scrape, and that labels stay bounded."""

import random
import re
import threading

import pytest

from aibridge.breaker import BreakerState
from aibridge.callers import CLIENT_NAMES
from aibridge.lifecycle import TERMINATION_OF, Cause
from aibridge.telemetry import content_metrics, interception_metrics
from aibridge.telemetry.gateway_metrics import STEPS
from aibridge.telemetry.interception_metrics import MAX_EXTRAS
from aibridge.telemetry.metrics import MAX_ACTORS, Metrics
from aibridge.telemetry.upstream_metrics import MAX_FIELDS
from aibridge.values import Actor, Cost, Evidence, Thought, ToolRun, ToolUse, Unpriced, Usage, UsageSource, UserPrompt

LABELS = {"provider": "anthropic", "model": "claude-sonnet-4-5", "route": "/v1/messages"}


@pytest.fixture
def metrics():
    return Metrics(version="1.2.3", wire="pure", modules="compiled")


@pytest.fixture
def value(metrics):
    """One sample; None where there is no such series."""
    return lambda name, **labels: metrics.registry.get_sample_value(name, labels)


def samples(metrics, name):
    return [s for family in metrics.registry.collect() for s in family.samples if s.name == name]


def total(metrics, name):
    return sum(sample.value for sample in samples(metrics, name))


STATUSES = {
    "completed": "completed",
    "upstream_error": "failed",
    "client_gone": "client_gone",
    "gateway_error": "failed",
}


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_is_counted_once_under_its_status(metrics, value, make_interception, make_outcome, cause):
    interception = make_interception()
    metrics.opened(interception)
    assert value("aibridge_interceptions_inflight", **LABELS) == 1
    metrics.closed(interception, make_outcome(cause))
    termination = TERMINATION_OF[cause].value
    assert value("aibridge_interceptions_inflight", **LABELS) == 0
    assert value("aibridge_interceptions_started_total", **LABELS) == 1
    [sample] = samples(metrics, "aibridge_interceptions_total")
    assert sample.value == 1
    assert sample.labels == LABELS | {
        "status": STATUSES[termination],
        "method": "POST",
        "client": "Claude Code",
        "termination": termination,
        "cause": cause.value,
    }


def test_durations(metrics, value, make_interception, make_outcome):
    interception = make_interception()
    labels = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
    metrics.opened(interception)
    metrics.closed(interception, make_outcome(duration=2.0))
    assert value("aibridge_interceptions_duration_seconds_sum", **labels) == 2.0
    assert value("aibridge_interceptions_duration_seconds_bucket", **labels, le="2.0") == 1
    assert value("aibridge_interceptions_duration_seconds_bucket", **labels, le="1.0") == 0
    assert value("aibridge_time_to_first_event_seconds_sum", **labels) == 0.3


def test_the_known_buckets_are_kept(metrics, make_interception, make_outcome):
    metrics.opened(make_interception())
    metrics.closed(make_interception(), make_outcome())
    bounds = {sample.labels["le"] for sample in samples(metrics, "aibridge_interceptions_duration_seconds_bucket")}
    assert bounds >= {"0.5", "2.0", "5.0", "15.0", "30.0", "60.0", "120.0"}


def test_an_answer_without_an_event_has_no_time_to_the_first(metrics, value, make_interception, make_outcome):
    outcome = make_outcome(Cause.CONNECT_FAILED)
    evidence = type(outcome.evidence)()
    metrics.opened(make_interception())
    metrics.closed(make_interception(), make_outcome(Cause.CONNECT_FAILED, evidence=evidence))
    count = value("aibridge_time_to_first_event_seconds_count", provider="anthropic", model="claude-sonnet-4-5")
    assert count == 0


def test_sums_add_up_at_every_moment(make_interception, make_outcome):
    metrics = Metrics(models=["known"], max_models=3)
    draw = random.Random(7)
    running = []
    for _ in range(2000):
        if running and draw.random() < 0.5:
            metrics.closed(running.pop(draw.randrange(len(running))), make_outcome(draw.choice(list(Cause))))
        else:
            model = draw.choice(["known", "a", "b", "c", "d", "e", "", "x" * 500])
            running.append(make_interception(model=model, provider=draw.choice(["p", "q"])))
            metrics.opened(running[-1])
        if draw.random() < 0.02:
            ended = total(metrics, "aibridge_interceptions_total")
            inflight = total(metrics, "aibridge_interceptions_inflight")
            assert inflight == len(running)
            assert total(metrics, "aibridge_interceptions_started_total") == ended + inflight
    for interception in running:
        metrics.closed(interception, make_outcome())
    assert {sample.value for sample in samples(metrics, "aibridge_interceptions_inflight")} == {0}


def numbers(text, name):
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + "{"))


def test_a_scrape_on_another_thread_sees_one_moment(metrics, make_interception, make_outcome):
    stop, differences = threading.Event(), []

    def scrape():
        while not stop.is_set():
            text = metrics.render()[0].decode()
            started = numbers(text, "aibridge_interceptions_started_total")
            ended = numbers(text, "aibridge_interceptions_total")
            differences.append(started - ended - numbers(text, "aibridge_interceptions_inflight"))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        outcome = make_outcome()
        while len(differences) < 10:
            interception = make_interception(model=f"m{len(differences)}")
            metrics.opened(interception)
            metrics.closed(interception, outcome)
    finally:
        stop.set()
        thread.join()
    assert set(differences) == {0}


def test_model_names_are_bounded(make_interception, make_outcome):
    metrics = Metrics(models=["known"], max_models=2)
    for model in ["a", "b", "c", "d", "known", "a", "c"]:
        interception = make_interception(model=model)
        metrics.opened(interception)
        metrics.closed(interception, make_outcome())
    found = {s.labels["model"]: s.value for s in samples(metrics, "aibridge_interceptions_total")}
    assert found == {"a": 2, "b": 1, "other": 3, "known": 1}


def test_what_clients_invent_makes_no_series_and_no_memory(make_interception, make_outcome):
    metrics = Metrics(max_models=0)
    for number in range(100):
        interception = make_interception(model=f"m{number}", method=f"X{number}")
        metrics.opened(interception)
        metrics.closed(interception, make_outcome())
    [sample] = samples(metrics, "aibridge_interceptions_total")
    assert (sample.labels["model"], sample.labels["method"], sample.value) == ("other", "other", 100)
    assert len(metrics._open) == 1
    [caller] = metrics._open["anthropic", "other", "/v1/messages"].callers.values()
    assert caller.totals == {}


def test_a_long_model_name_is_other(metrics, make_interception):
    metrics.opened(make_interception(model="x" * 129))
    assert samples(metrics, "aibridge_interceptions_started_total")[0].labels["model"] == "other"


def test_counters_of_their_own(metrics, value):
    metrics.rejected("body_too_large")
    metrics.passed_through("anthropic", "/v1/models/{path}", "GET")
    metrics.passed_through("anthropic", "/v1/models/{path}", "BREW")
    metrics.trailing("anthropic", 17)
    metrics.dropped(3)
    assert value("aibridge_rejections_total", reason="body_too_large") == 1
    labels = {"provider": "anthropic", "route": "/v1/models/{path}"}
    assert value("aibridge_passthrough_total", **labels, method="GET") == 1
    assert value("aibridge_passthrough_total", **labels, method="other") == 1
    assert value("aibridge_trailing_bytes_total", provider="anthropic") == 17
    assert value("aibridge_records_dropped_total") == 3
    assert value("aibridge_build_info", version="1.2.3", wire="pure", modules="compiled") == 1


def test_circuits(metrics, value):
    labels = {"provider": "anthropic", "endpoint": "/v1/messages", "model": "claude-sonnet-4-5"}
    seen = []
    for state in (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.OPEN, BreakerState.CLOSED):
        metrics.circuit_changed(*labels.values(), state)
        seen.append(value("aibridge_circuit_breaker_state", **labels))
    assert seen == [1.0, 0.5, 1.0, 0.0]
    assert value("aibridge_circuit_breaker_trips_total", **labels) == 2
    metrics.circuit_refused(*labels.values())
    assert value("aibridge_circuit_breaker_rejects_total", **labels) == 1


def test_circuits_past_the_bound_share_a_label_that_tells_the_worst():
    metrics = Metrics(max_models=0)
    seen = []
    for model, state in [
        ("x", BreakerState.OPEN),
        ("y", BreakerState.OPEN),
        ("y", BreakerState.HALF_OPEN),
        ("x", BreakerState.CLOSED),
        ("y", BreakerState.CLOSED),
    ]:
        metrics.circuit_changed("anthropic", "/v1/messages", model, state)
        [sample] = samples(metrics, "aibridge_circuit_breaker_state")
        assert sample.labels["model"] == "other"
        seen.append(sample.value)
    assert seen == [1.0, 1.0, 1.0, 0.5, 0.0]
    assert total(metrics, "aibridge_circuit_breaker_trips_total") == 2


def test_attempts_are_counted_by_how_they_ended(metrics, value, make_interception, make_attempt):
    for cause in (Cause.CONNECT_FAILED, Cause.CLEAN, Cause.CLEAN):
        metrics.attempted(make_interception(), make_attempt(cause))
    name = "aibridge_upstream_attempts_total"
    assert value(name, provider="anthropic", termination="upstream_error", cause="connect_failed") == 1
    assert value(name, provider="anthropic", termination="completed", cause="clean") == 2


# content and tokens

WHO = {"provider": "anthropic", "model": "claude-sonnet-4-5", "client": "Claude Code"}


def test_prompts_and_tools_are_counted_and_thoughts_are_not(metrics, value, make_interception):
    interception = make_interception()
    for fact in (UserPrompt("hi"), ToolUse("1", "Bash", "{}"), ToolUse("2", "Bash", "{}"), Thought("hm", "thinking")):
        metrics.learned(interception, fact, "msg_1")
    assert value("aibridge_prompts_total", **WHO) == 1
    [tool] = samples(metrics, "aibridge_non_injected_tool_selections_total")
    assert tool.labels == {"provider": "anthropic", "model": "claude-sonnet-4-5", "name": "Bash"}
    assert tool.value == 2
    assert "hi" not in {
        label for sample in samples(metrics, "aibridge_prompts_total") for label in sample.labels.values()
    }


def test_tokens_are_counted_by_type(metrics, make_interception, make_outcome):
    for usage in (Usage(10, 20, 30, 40, (("web_search_requests", 1),)), Usage(1, None, 0, None)):
        metrics.opened(make_interception())
        metrics.closed(make_interception(), make_outcome(Cause.TRUNCATED, usage=usage))
    found = {
        sample.labels.pop("type"): (sample.value, sample.labels) for sample in samples(metrics, "aibridge_tokens_total")
    }
    assert found == {
        "input": (11, WHO),
        "output": (20, WHO),
        "cache_read_input_tokens": (30, WHO),
        "cache_write_input_tokens": (40, WHO),
        "web_search_requests": (1, WHO),
    }


@pytest.mark.parametrize(
    ("source", "costs", "dollars"),
    [
        (UsageSource.PROVIDER_FINAL, [10_500_000, 1], 0.010500001),
        (UsageSource.PROVIDER_PARTIAL, [0], 0),
    ],
)
def test_costs_are_counted_in_dollars(metrics, value, make_interception, make_outcome, source, costs, dollars):
    for nanodollars in costs:
        metrics.closed(make_interception(), make_outcome(usage_source=source, cost=Cost(nanodollars, "v")))
    assert value("aibridge_cost_dollars_total", **WHO, usage_source=source.value) == dollars
    assert samples(metrics, "aibridge_unpriced_requests_total") == []


def test_it_is_counted_where_tokens_come_from(metrics, value, make_interception, make_outcome):
    sources = [UsageSource.PROVIDER_FINAL, UsageSource.PROVIDER_FINAL, UsageSource.PROVIDER_PARTIAL, UsageSource.NONE]
    for source in sources:
        metrics.closed(make_interception(), make_outcome(usage_source=source))
    for source in UsageSource:
        counted = value("aibridge_interceptions_usage_total", provider="anthropic", usage_source=source.value)
        assert counted == sources.count(source)


def test_a_sum_of_many_small_costs_is_exact(metrics, value, make_interception, make_outcome):
    for _ in range(1000):
        metrics.closed(make_interception(), make_outcome(cost=Cost(1_000_000_001, "v")))
    assert value("aibridge_cost_dollars_total", **WHO, usage_source="provider_final") == 1000.000001


def test_what_has_no_cost_is_counted_by_why(metrics, make_interception, make_outcome):
    for why in (Unpriced.UNKNOWN_MODEL, Unpriced.UNKNOWN_MODEL, Unpriced.NO_RATE):
        metrics.closed(make_interception(), make_outcome(usage=Usage(1, 2, None, 4), cost=Cost(None, "v", why)))
    metrics.closed(make_interception(), make_outcome())  # nobody has asked for a price

    def counted(name):
        return {sample.labels["reason"]: sample.value for sample in samples(metrics, name)}

    assert counted("aibridge_unpriced_requests_total") == {"unknown_model": 2, "no_rate": 1}
    assert counted("aibridge_unpriced_tokens_total") == {"unknown_model": 14, "no_rate": 7}
    assert samples(metrics, "aibridge_cost_dollars_total") == []


def test_models_without_a_price_are_bounded(make_interception, make_outcome):
    metrics = Metrics(max_models=3)
    for number in range(50):
        outcome = make_outcome(usage=Usage(1), cost=Cost(None, "v", Unpriced.UNKNOWN_MODEL))
        metrics.closed(make_interception(model=f"made-up-{number}"), outcome)
    models = {sample.labels["model"]: sample.value for sample in samples(metrics, "aibridge_unpriced_requests_total")}
    assert (len(models), models["other"]) == (4, 47)


def test_kinds_of_usage_that_an_upstream_invents_are_bounded(metrics, make_interception, make_outcome):
    for number in range(50):
        metrics.closed(make_interception(), make_outcome(usage=Usage(extras=((f"kind_{number}", 1),))))
    kinds = {sample.labels["type"]: sample.value for sample in samples(metrics, "aibridge_tokens_total")}
    assert len(kinds) == 4 + MAX_EXTRAS + 1
    assert kinds["other"] == 50 - MAX_EXTRAS


def test_tools_that_clients_invent_are_bounded(monkeypatch, make_interception):
    monkeypatch.setattr(content_metrics, "MANY", 5)
    metrics = Metrics()
    for number in range(100):
        metrics.learned(make_interception(), ToolUse("1", f"tool_{number}", ""), "")
        metrics.learned(make_interception(), ToolUse("1", "x" * 1000 + str(number), ""), "")
    found = {
        sample.labels["name"]: sample.value
        for sample in samples(metrics, "aibridge_non_injected_tool_selections_total")
    }
    assert len(found) == 6
    assert found["x" * 64] == 100
    assert sum(found.values()) == 200


# actors


def test_actors_are_no_label_unless_asked_for(metrics, make_interception, make_outcome):
    metrics.opened(make_interception())
    metrics.learned(make_interception(), UserPrompt(""), "")
    metrics.closed(make_interception(), make_outcome())
    assert "alice" not in metrics.render()[0].decode()


def test_actors_are_told_apart_where_asked_for(make_interception, make_outcome):
    metrics = Metrics(actor_label=True)
    for name in ("alice", "bob", "bob"):
        interception = make_interception(actor=Actor(name))
        metrics.opened(interception)
        metrics.learned(interception, UserPrompt(""), "")
        metrics.closed(interception, make_outcome(usage=Usage(input_tokens=5)))
    for name, each in (
        ("aibridge_interceptions_total", 1),
        ("aibridge_prompts_total", 1),
        ("aibridge_tokens_total", 5),
    ):
        found = {s.labels["actor"]: s.value for s in samples(metrics, name) if s.labels.get("type", "input") == "input"}
        assert found == {"alice": each, "bob": 2 * each}


def test_actors_and_all_they_multiply_are_bounded(monkeypatch, make_interception, make_outcome):
    monkeypatch.setattr(interception_metrics, "MANY", 20)
    metrics = Metrics(actor_label=True)
    many = MAX_ACTORS + 50
    for number in range(many):
        interception = make_interception(actor=Actor(f"a{number}"))
        metrics.opened(interception)
        metrics.learned(interception, UserPrompt(""), "")
        metrics.closed(interception, make_outcome())
    assert total(metrics, "aibridge_interceptions_total") == many
    assert len(samples(metrics, "aibridge_interceptions_total")) == 21
    assert len(samples(metrics, "aibridge_tokens_total")) <= 20 + 4 + 1
    assert total(metrics, "aibridge_prompts_total") == many
    assert sum(len(one.callers) for one in metrics._open.values()) == 20


# the gateway's own work


def test_own_work_is_told_by_step(metrics, value):
    for step in STEPS:
        metrics.spent(step, "anthropic", 0.0002)
    for step in STEPS:
        assert value("aibridge_overhead_seconds_sum", provider="anthropic", step=step) == 0.0002
    assert value("aibridge_overhead_seconds_bucket", provider="anthropic", step="auth", le="0.00025") == 1
    assert value("aibridge_overhead_seconds_bucket", provider="anthropic", step="auth", le="0.0001") == 0


def test_the_lag_of_the_loop(metrics, value):
    metrics.lagged(0.003)
    metrics.lagged(30)
    assert value("aibridge_event_loop_lag_seconds_bucket", le="0.005") == 1
    assert value("aibridge_event_loop_lag_seconds_count") == 2


# what cannot be written down


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_does_not_break_the_page(make_interception, make_outcome, name):
    metrics = Metrics(actor_label=True)
    interception = make_interception(model=name, actor=Actor(name))
    metrics.opened(interception)
    metrics.learned(interception, ToolUse("1", name, "{}"), "")
    metrics.closed(interception, make_outcome(usage=Usage(1, extras=((name, 1),))))
    text = metrics.render()[0].decode()
    assert 'model="other"' in text
    assert "non_injected_tool_selections_total{" in text


def test_rendered_text(metrics, make_interception, make_outcome):
    metrics.opened(make_interception())
    metrics.closed(make_interception(), make_outcome())
    body, content_type = metrics.render()
    text = body.decode()
    assert content_type.startswith("text/plain")
    assert "# TYPE aibridge_interceptions_total counter" in text
    assert 'aibridge_build_info{modules="compiled",version="1.2.3",wire="pure"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert "python_info" in text
    assert "_created" not in text


def test_two_do_not_share_numbers(make_interception):
    one, other = Metrics(), Metrics()
    one.opened(make_interception())
    assert samples(other, "aibridge_interceptions_started_total") == []


def test_the_arithmetic_of_the_worst_case_is_still_right():
    assert len(CLIENT_NAMES) == 15
    assert len(Cause) == 27


BEYOND = "aibridge_overhead_beyond_provider_seconds"


def test_what_an_attempt_took_beyond_its_provider(metrics, value, make_interception, make_attempt):
    """The second attempt of an interception: its own time counts, from its own beginning."""
    interception = make_interception(started_at=100.0)
    evidence = Evidence(time_to_first_event=1.25, invocation_latency=1.0, first_byte_latency=0.5)
    metrics.attempted(interception, make_attempt(number=2, started_at=100.5, duration=1.5, evidence=evidence))
    assert value(f"{BEYOND}_sum", provider="anthropic", until="end") == 0.5
    assert value(f"{BEYOND}_sum", provider="anthropic", until="first_event") == 0.25


def test_a_provider_that_says_nothing_of_its_time_is_not_measured(metrics, value, make_interception, make_attempt):
    metrics.attempted(make_interception(), make_attempt(evidence=Evidence(first_byte_latency=0.5)))
    assert f"{BEYOND}_count" not in {sample.name for family in metrics.registry.collect() for sample in family.samples}
    metrics.attempted(make_interception(), make_attempt(evidence=Evidence(invocation_latency=0.5)))
    assert value(f"{BEYOND}_count", provider="anthropic", until="end") == 1


def test_names_of_stripped_fields_are_bounded(metrics, value):
    for number in range(1000):
        metrics.stripped("bedrock", f"field{number}")
    metrics.stripped("bedrock", "field0")
    metrics.stripped("another", "field999")
    assert value("aibridge_stripped_fields_total", provider="bedrock", field="field0") == 2
    assert value("aibridge_stripped_fields_total", provider="bedrock", field="other") == 1000 - MAX_FIELDS
    assert value("aibridge_stripped_fields_total", provider="another", field="other") == 1


@pytest.mark.parametrize("name", ["x" * 200, "\ud800", "a\nb", "é"])
def test_an_odd_name_of_a_field_is_other(metrics, value, name):
    metrics.stripped("bedrock", name)
    assert value("aibridge_stripped_fields_total", provider="bedrock", field="other") == 1
    assert metrics.render()


def test_calls_of_injected_tools_are_counted_with_bounded_labels(metrics, make_interception):
    interception = make_interception()
    for name, server, latency, outcome in (
        ("bmcp_wiki_search", "wiki", 0.2, "ok"),
        ("bmcp_wiki_search", "wiki", 60.0, "timeout"),
        ("bmcp_invented", "", 0.0, "unknown_tool"),
    ):
        run = ToolRun(ToolUse("toolu_1", name, "{}"), server, latency, outcome, "", 2, 0)
        metrics.learned(interception, run, "msg_1")
    text = metrics.render()[0].decode()
    pattern = r"^aibridge_injected_tool_invocations_total{.*name=\"(.*?)\".*outcome=\"(.*?)\".*} 1.0$"
    found = re.findall(pattern, text, re.MULTILINE)
    assert found == [("bmcp_wiki_search", "ok"), ("bmcp_wiki_search", "timeout"), ("other", "unknown_tool")]
    assert 'aibridge_injected_tool_duration_seconds_count{server="wiki"} 2.0' in text
    assert 'aibridge_injected_tool_duration_seconds_count{server="other"} 1.0' in text


def test_events_are_counted_as_they_are_noted_and_never_twice(metrics, value, make_interception, make_outcome):
    interception = make_interception()
    metrics.opened(interception)
    counted = []
    for events in (3, 10, 4):  # a further turn of a tool loop may begin its count anew
        metrics.progressed(interception, Evidence(events=events))
        counted.append(value("aibridge_events_total", provider="anthropic"))
    assert counted == [3, 10, 10]
    metrics.closed(interception, make_outcome(Cause.CLEAN)._replace(evidence=Evidence(events=9)))
    assert value("aibridge_events_total", provider="anthropic") == 15
    assert metrics._noted == {}


def test_a_snapshot_has_what_is_wanted(metrics, make_interception, make_outcome):
    for cause in (Cause.CLEAN, Cause.DISCONNECTED):
        metrics.opened(make_interception())
        metrics.closed(make_interception(), make_outcome(cause))
    found = metrics.snapshot({"aibridge_interceptions"}.__contains__)
    assert {(one.name, one.labels["cause"], one.value) for one in found} == {
        ("aibridge_interceptions_total", "clean", 1),
        ("aibridge_interceptions_total", "disconnected", 1),
    }
