"""What is remembered of an answer for the client's next request."""

import json

import pytest
from responses_kit import dump

from aibridge.body import read_body
from aibridge.toolloop.responses_chains import MAX_CHAINS, Chain, Chains

UNANSWERED = "Not run: the call stood beside calls that others answer. Call again if it is still needed."


def chains_of(*chains):
    made = Chains()
    for chain in chains:
        made.note(chain)
    return made


def followed(chains, body):
    text = chains.followed(read_body(body.encode()))
    return None if text is None else text.decode()


def test_a_later_response():
    chains = chains_of(Chain("resp_1", "resp_2"))
    body = ' { "previous_response_id" : "resp_1", "n":1.0 , "input":"x"}'
    for _ in range(2):
        assert followed(chains, body) == body.replace("resp_1", "resp_2")
    for other in ("resp_2", "resp_3", ""):
        assert followed(chains, json.dumps({"previous_response_id": other})) is None


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"previous_response_id":null}',
        '{"previous_response_id":5}',
        '{"previous_response_id":["resp_1"]}',
        '{"conversation":null}',
        '{"conversation":{"id":5}}',
        '{"conversation":"resp_9"}',
        '{"previous_response_id":"resp_1","input":5}',
    ],
)
def test_requests_that_go_on_with_nothing(body):
    assert followed(chains_of(Chain("resp_1", "resp_2")), body) is None


@pytest.mark.parametrize(
    ("asked", "rest"),
    [
        ({"input": "hi"}, [{"type": "message", "role": "user", "content": "hi"}]),
        ({"input": []}, []),
        ({"input": [{"a": 1}]}, [{"a": 1}]),
        ({}, []),
        ({"input": None}, []),
    ],
)
def test_unanswered_calls_are_answered_first(asked, rest):
    chains = chains_of(Chain("resp_1", "resp_1", ("a", "b")))
    sent = json.loads(chains.followed(read_body(dump({"previous_response_id": "resp_1", **asked}))))
    outputs = [{"type": "function_call_output", "call_id": name, "output": UNANSWERED} for name in "ab"]
    assert sent == {"previous_response_id": "resp_1", "input": [*outputs, *rest]}


@pytest.mark.parametrize("said", ['"conv_1"', '{"id":"conv_1"}'])
def test_a_conversation_is_told_once(said):
    chains = chains_of(Chain("conv_1", "conv_1", ("a",)))
    body = '{"input":"x","conversation":' + said + "}"
    assert json.loads(followed(chains, body))["input"][0]["call_id"] == "a"
    assert followed(chains, body) is None


def test_the_latest_counts_and_the_oldest_goes():
    chains = chains_of(*(Chain(f"resp_{number}", "last") for number in range(MAX_CHAINS)))
    chains.note(Chain("resp_0", "newer"))
    chains.note(Chain("resp_new", "last"))
    assert followed(chains, '{"previous_response_id":"resp_0"}') == '{"previous_response_id":"newer"}'
    assert followed(chains, '{"previous_response_id":"resp_1"}') is None
    assert followed(chains, '{"previous_response_id":"resp_2"}') is not None


def test_a_name_that_stands_for_itself_again():
    chains = chains_of(Chain("resp_1", "resp_2", ("a",)), Chain("conv_1", "conv_1", ("a",)))
    chains.note(Chain("resp_1", "resp_1"))
    chains.note(Chain("conv_1", "conv_1"))
    assert followed(chains, '{"previous_response_id":"resp_1"}') is None
    assert followed(chains, '{"conversation":"conv_1"}') is None


@pytest.mark.parametrize(
    "chain",
    [
        Chain("x" * 257, "last"),
        Chain("resp_1", "x" * 257),
        Chain("resp_1", "resp_1", ("x" * 257,)),
        Chain("resp_1", "resp_1", tuple(map(str, range(17)))),
    ],
)
def test_what_is_beyond_all_measure(chain):
    assert followed(chains_of(chain), json.dumps({"previous_response_id": chain.shown})) is None
