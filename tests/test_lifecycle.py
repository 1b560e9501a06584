"""The table of how answers end: whole, and in agreement with the facts that it was made for."""

import pytest

from aibridge.lifecycle import (
    NOT_THEIRS,
    OF_THE_NETWORK,
    TERMINATION_OF,
    TRANSITIONS,
    Cause,
    Health,
    Signal,
    State,
    Step,
    Termination,
    ends_by,
    health_of,
    step,
)

FURTHER = {Signal.SENT, Signal.TOOL_LOOP_LIMIT}
OPEN = [state for state in State if state is not State.ENDED]


def walk(*signals):
    """Walk from the start; return the last step's state and the cause at which it ended.

    A further attempt begins where the signal says that it was sent.
    """
    state, cause = State.BETWEEN if signals[0] in FURTHER else State.CONNECTING, None
    for signal in signals:
        taken = step(state, signal)
        state, cause = taken.state, cause or taken.cause
    return state, cause


def test_no_cell_is_missing():
    assert set(TRANSITIONS) == {(state, signal) for state in State for signal in Signal}


def test_every_cause_has_one_termination():
    assert set(TERMINATION_OF) == set(Cause)
    assert set(TERMINATION_OF.values()) == set(Termination)


def test_only_clean_is_completed():
    assert [cause for cause, end in TERMINATION_OF.items() if end is Termination.COMPLETED] == [Cause.CLEAN]


def test_every_cause_appears_in_some_cell():
    found_by_the_next_process = {Cause.CRASHED}
    assert {taken.cause for taken in TRANSITIONS.values()} - {None} == set(Cause) - found_by_the_next_process


def test_a_step_that_ends_tells_why_and_no_other_does():
    for (state, _), taken in TRANSITIONS.items():
        ends = taken.state is State.ENDED and state is not State.ENDED
        assert (taken.cause is not None) == ends


@pytest.mark.parametrize("signal", Signal)
def test_ended_absorbs(signal):
    assert step(State.ENDED, signal) == Step(State.ENDED, None)


def test_every_open_state_can_be_reached_and_left():
    reached = {taken.state for (state, _), taken in TRANSITIONS.items() if state is not taken.state}
    assert reached == set(State) - {State.CONNECTING, State.BETWEEN}  # an answer begins in one of them
    for state in OPEN:
        assert any(step(state, signal).state is State.ENDED for signal in Signal)


def test_only_delivery_completes():
    completing = [key for key, taken in TRANSITIONS.items() if taken.cause is Cause.CLEAN]
    assert completing == [(State.FINISHED, Signal.DELIVERED)]


@pytest.mark.parametrize("state", OPEN)
def test_our_own_bug_ends_every_state_as_ours(state):
    expected = Cause.HTTP_STATUS if state is State.REFUSED else Cause.INTERNAL
    assert step(state, Signal.BUG).cause is expected


# The rows of the outcome matrix.
@pytest.mark.parametrize(
    ("signals", "cause"),
    [
        # upstream
        ((Signal.STREAM_HEAD, Signal.LAST_WORD, Signal.DELIVERED, Signal.BODY_END), Cause.CLEAN),
        ((Signal.STREAM_HEAD, Signal.LAST_WORD, Signal.RESET, Signal.DELIVERED), Cause.CLEAN),
        ((Signal.STREAM_HEAD, Signal.LAST_WORD, Signal.CUT, Signal.DELIVERED), Cause.CLEAN),
        ((Signal.STREAM_HEAD, Signal.BODY_END), Cause.TRUNCATED),
        ((Signal.STREAM_HEAD, Signal.CUT), Cause.INCOMPLETE_BODY),
        ((Signal.STREAM_HEAD, Signal.BODY_END_IN_FRAME), Cause.TRUNCATED_FRAME),
        ((Signal.STREAM_HEAD, Signal.BAD_FRAME), Cause.CORRUPT_FRAME),
        ((Signal.STREAM_HEAD, Signal.BAD_PAYLOAD), Cause.CORRUPT_PAYLOAD),
        ((Signal.STREAM_HEAD, Signal.EXCEPTION_FRAME), Cause.EXCEPTION_FRAME),
        ((Signal.STREAM_HEAD, Signal.ERROR_FRAME), Cause.ERROR_FRAME),
        ((Signal.STREAM_HEAD, Signal.ERROR_EVENT), Cause.ERROR_EVENT),
        ((Signal.STREAM_HEAD, Signal.RESET), Cause.CONNECTION_RESET),
        ((Signal.RESET,), Cause.CONNECTION_RESET),
        ((Signal.CUT,), Cause.CONNECTION_RESET),
        ((Signal.STREAM_HEAD, Signal.SILENT), Cause.IDLE_TIMEOUT),
        ((Signal.UNREACHABLE,), Cause.CONNECT_FAILED),
        ((Signal.NO_HEAD_IN_TIME,), Cause.RESPONSE_TIMEOUT),
        ((Signal.ERROR_HEAD, Signal.BODY_END), Cause.HTTP_STATUS),
        ((Signal.ERROR_HEAD, Signal.CUT), Cause.HTTP_STATUS),
        ((Signal.UNEXPECTED_HEAD,), Cause.UNEXPECTED_RESPONSE),
        ((Signal.BODY_HEAD, Signal.CUT), Cause.INCOMPLETE_BODY),
        ((Signal.BODY_HEAD, Signal.BAD_PAYLOAD), Cause.CORRUPT_PAYLOAD),
        ((Signal.BODY_HEAD, Signal.LAST_WORD, Signal.DELIVERED), Cause.CLEAN),
        ((Signal.BAD_HTTP,), Cause.PROTOCOL_ERROR),
        ((Signal.STREAM_HEAD, Signal.BAD_HTTP), Cause.PROTOCOL_ERROR),
        # client
        ((Signal.CLIENT_LOST,), Cause.BEFORE_RESPONSE),
        ((Signal.BODY_HEAD, Signal.CLIENT_LOST), Cause.BEFORE_RESPONSE),
        ((Signal.STREAM_HEAD, Signal.CLIENT_LOST), Cause.DISCONNECTED),
        ((Signal.STREAM_HEAD, Signal.CLIENT_STALLED), Cause.STALLED),
        ((Signal.CLIENT_STALLED,), Cause.STALLED),
        ((Signal.BODY_HEAD, Signal.CLIENT_STALLED), Cause.STALLED),
        ((Signal.SENT, Signal.CLIENT_LOST), Cause.DISCONNECTED),
        ((Signal.SENT, Signal.BODY_HEAD, Signal.CLIENT_LOST), Cause.BEFORE_RESPONSE),
        ((Signal.SENT, Signal.STREAM_HEAD, Signal.CLIENT_LOST), Cause.DISCONNECTED),
        ((Signal.STREAM_HEAD, Signal.LAST_WORD, Signal.CLIENT_LOST), Cause.DISCONNECTED),
        ((Signal.STREAM_HEAD, Signal.LAST_WORD, Signal.CLIENT_STALLED), Cause.STALLED),
        ((Signal.STREAM_HEAD, Signal.LAST_WORD, Signal.DELIVERED, Signal.CLIENT_LOST), Cause.CLEAN),
        ((Signal.STREAM_HEAD, Signal.ERROR_EVENT, Signal.CLIENT_LOST), Cause.ERROR_EVENT),
        ((Signal.ERROR_HEAD, Signal.CLIENT_LOST), Cause.HTTP_STATUS),
        # gateway
        ((Signal.CIRCUIT_OPEN,), Cause.CIRCUIT_OPEN),
        ((Signal.KEYS_EXHAUSTED,), Cause.KEYS_EXHAUSTED),
        ((Signal.UNRECORDED,), Cause.RECORDING_FAILED),
        ((Signal.DRAINED,), Cause.DRAINING),
        ((Signal.STREAM_HEAD, Signal.DRAINED), Cause.DRAINING),
        ((Signal.STREAM_HEAD, Signal.LAST_WORD, Signal.DRAINED), Cause.DRAINING),
        ((Signal.BUG,), Cause.INTERNAL),
        ((Signal.TOOL_LOOP_LIMIT,), Cause.TOOL_LOOP_LIMIT),
    ],
)
def test_the_outcome_matrix(signals, cause):
    assert walk(*signals) == (State.ENDED, cause)


@pytest.mark.parametrize(
    ("signal", "cause"),
    [
        (Signal.CLIENT_LOST, Cause.DISCONNECTED),
        (Signal.CLIENT_STALLED, Cause.STALLED),
        (Signal.DRAINED, Cause.DRAINING),
        (Signal.KEYS_EXHAUSTED, Cause.KEYS_EXHAUSTED),
        (Signal.RESET, Cause.INTERNAL),  # nothing was asked of it
    ],
)
def test_between_two_attempts_only_the_client_and_we_can_say_anything(signal, cause):
    assert step(State.BETWEEN, signal) == Step(State.ENDED, cause)


@pytest.mark.parametrize("signal", [signal for signal in Signal if signal is not Signal.CLIENT_LOST])
def test_a_further_attempt_is_as_the_first(signal):
    assert step(State.RECONNECTING, signal) == step(State.CONNECTING, signal)


@pytest.mark.parametrize(
    "late",
    [
        Signal.LAST_WORD,
        Signal.ERROR_EVENT,
        Signal.EXCEPTION_FRAME,
        Signal.ERROR_FRAME,
        Signal.BODY_END,
        Signal.BODY_END_IN_FRAME,
        Signal.BAD_FRAME,
        Signal.BAD_PAYLOAD,
        Signal.BAD_HTTP,
        Signal.CUT,
        Signal.RESET,
        Signal.SILENT,
    ],
)
def test_after_the_last_word_nothing_of_the_upstream_counts(late):
    assert step(State.FINISHED, late) == Step(State.FINISHED, None)


@pytest.mark.parametrize(
    ("cause", "status", "error_type", "health"),
    [
        (Cause.CLEAN, 200, None, Health.SUCCESS),
        (Cause.HTTP_STATUS, 400, None, Health.NEITHER),
        (Cause.HTTP_STATUS, 401, None, Health.NEITHER),
        (Cause.HTTP_STATUS, 404, None, Health.NEITHER),
        (Cause.HTTP_STATUS, 422, None, Health.NEITHER),
        (Cause.HTTP_STATUS, 408, None, Health.FAILURE),
        (Cause.HTTP_STATUS, 429, None, Health.FAILURE),
        (Cause.HTTP_STATUS, 500, None, Health.FAILURE),
        (Cause.HTTP_STATUS, 529, None, Health.FAILURE),
        (Cause.HTTP_STATUS, None, None, Health.NEITHER),
        (Cause.EXCEPTION_FRAME, 200, "validationException", Health.NEITHER),
        (Cause.EXCEPTION_FRAME, 200, "throttlingException", Health.FAILURE),
        (Cause.EXCEPTION_FRAME, 200, None, Health.FAILURE),
        (Cause.UNEXPECTED_RESPONSE, 200, None, Health.FAILURE),
    ],
)
def test_health(cause, status, error_type, health):
    assert health_of(cause, status, error_type) is health


def test_neither_the_client_nor_we_make_an_upstream_ill():
    for cause, termination in TERMINATION_OF.items():
        if termination in {Termination.CLIENT_GONE, Termination.GATEWAY_ERROR}:
            assert health_of(cause, 200, None) is Health.NEITHER


NOT_ASKED = (Cause.CIRCUIT_OPEN, Cause.KEYS_EXHAUSTED)


@pytest.mark.parametrize("cause", NOT_ASKED)
def test_an_upstream_that_was_not_asked_is_neither_well_nor_ill(cause):
    assert health_of(cause, None, None) is Health.NEITHER
    assert health_of(cause, 429, None) is Health.NEITHER


def test_every_other_end_of_the_upstream_is_a_failure():
    for cause, termination in TERMINATION_OF.items():
        if termination is Termination.UPSTREAM_ERROR and cause not in {Cause.HTTP_STATUS, *NOT_ASKED}:
            assert health_of(cause, None, None) is Health.FAILURE


def test_what_the_network_and_who_is_not_the_upstream_end_an_answer_with():
    assert ends_by(*OF_THE_NETWORK) == {
        Cause.CONNECT_FAILED: Signal.UNREACHABLE,
        Cause.CONNECTION_RESET: Signal.RESET,
        Cause.INCOMPLETE_BODY: Signal.CUT,
        Cause.RESPONSE_TIMEOUT: Signal.NO_HEAD_IN_TIME,
        Cause.IDLE_TIMEOUT: Signal.SILENT,
        Cause.PROTOCOL_ERROR: Signal.BAD_HTTP,
    }
    assert ends_by(*NOT_THEIRS) == {
        Cause.BEFORE_RESPONSE: Signal.CLIENT_LOST,
        Cause.DISCONNECTED: Signal.CLIENT_LOST,
        Cause.STALLED: Signal.CLIENT_STALLED,
        Cause.BUDGET_SPENT: Signal.BUDGET_SPENT,
        Cause.DRAINING: Signal.DRAINED,
        Cause.INTERNAL: Signal.BUG,
    }


def test_each_cause_that_leads_back_to_a_fact_comes_of_it():
    for cause, signal in ends_by(*OF_THE_NETWORK, *NOT_THEIRS).items():
        assert cause in {step(state, signal).cause for state in OPEN}
