"""Tool calls and thoughts of Chat Completions, put together as they complete."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects import DIALECTS
from aibridge.dialects.base import MAX_FACTS
from aibridge.dialects.chat_calls import MAX_OPEN, MAX_OPEN_BYTES
from aibridge.text import CUT
from aibridge.values import MAX_CONTENT_BYTES, MAX_ID_CHARACTERS, Event, Thought, ToolUse

ALL = ContentPolicy(arguments=Keep.FULL, thoughts=Keep.FULL)
DONE = b"[DONE]"


def call(index=None, id=None, name=None, arguments=None, **more):  # noqa: A002 - the API's name
    said = {"name": name, "arguments": arguments}
    fields = {"index": index, "id": id, "function": {key: value for key, value in said.items() if value is not None}}
    return {**{key: value for key, value in fields.items() if value is not None}, **more}


def calls(*several, choice=0):
    return {"index": choice, "delta": {"tool_calls": list(several)}}


def said(choice=0, **delta):
    return {"index": choice, "delta": delta}


def stop(choice=0):
    return {"index": choice, "delta": {}, "finish_reason": "tool_calls"}


def facts_of(*events, policy=ALL):
    """Return the facts of some events; an event is a choice, or its data."""
    observer = DIALECTS["chat"].observer(policy)
    for event in events:
        data = event if isinstance(event, bytes) else json.dumps({"choices": [event]}).encode()
        observer.observe(Event("", data, 0))
    return observer.facts


A, B = ToolUse("call_a", "read", '{"a":1}'), ToolUse("call_b", "write", '{"b":2}')
FIRST = calls(call(0, "call_a", "read", "")), calls(call(0, arguments='{"a"')), calls(call(0, arguments=":1}"))
SECOND = calls(call(1, "call_b", "write", "")), calls(call(1, arguments='{"b":2}'))


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (FIRST, []),
        ((*FIRST, SECOND[0]), [A]),  # and may be cut here
        ((*FIRST, *SECOND), [A]),
        ((*FIRST, *SECOND, stop()), [A, B]),
        ((*FIRST, *SECOND, DONE), [A, B]),
        ((*FIRST, said(content="text")), []),
    ],
)
def test_a_call_is_told_as_it_completes(events, told):
    assert facts_of(*events) == told


@pytest.mark.parametrize(
    "events",
    [
        (calls(call(1, "call_a", "read", '{"a":1}')), calls(call(2, "call_b", "write", '{"b":2}'))),
        (calls(call(0, "call_a", "read", '{"a":1}'), call(1, "call_b", "write", '{"b":2}')),),
        (  # both are announced, then filled one by one and by turns
            calls(call(0, "call_a", "read", ""), call(1, "call_b", "write", "")),
            calls(call(1, arguments='{"b":')), calls(call(0, arguments='{"a":1}')), calls(call(1, arguments="2}")),
        ),
        (  # one is announced, and goes on behind the next one's beginning
            calls(call(0, "call_a", "read", "")), calls(call(0, arguments='{"a"')),
            calls(call(1, "call_b", "write", "")), calls(call(0, arguments=":1}")), calls(call(1, arguments='{"b":2}')),
        ),
        # the same index for every call
        (calls(call(0, "call_a", "read", '{"a":1}')), calls(call(0, "call_b", "write", '{"b":2}'))),
        (calls(call(0, "call_a", "read", '{"a":1}'), call(0, "call_b", "write", '{"b":2}')),),
        # no index
        (calls(call(None, "call_a", "read", '{"a":1}')), calls(call(None, "call_b", "write", '{"b":2}'))),
        (calls(call(None, "call_a", "read", '{"a":1}'), call(None, "call_b", "write", '{"b":2}')),),
        (
            calls(call(None, "call_a", "read", '{"a"')), calls(call(arguments=":1}")),
            calls(call(None, "call_b", "write", '{"b":2')), calls(call(arguments="}")),
        ),
        # the id, or all, on every chunk
        (
            calls(call(0, "call_a", "read", '{"a"')), calls(call(0, "call_a", arguments=":1}")),
            calls(call(1, "call_b", "write", '{"b":2')), calls(call(1, "call_b", "write", "}")),
        ),
        (
            calls(call(None, "call_a", "read", '{"a"')), calls(call(None, "call_a", "read", ":1}")),
            calls(call(None, "call_b", "write", '{"b":2}')),
        ),
        # another id on every chunk, as old vLLM has it
        (
            calls(call(0, "call_a", "read", '{"a"')), calls(call(0, "x1", arguments=":1}")),
            calls(call(1, "call_b", "write", '{"b":2')), calls(call(1, "x2", arguments="}")),
        ),
        # id and name apart
        (
            calls(call(0, "call_a", "", "")), calls(call(0, name="read", arguments='{"a":1}')),
            calls(call(1, name="write", arguments='{"b":2')), calls(call(1, "call_b", arguments="}")),
        ),
        # arguments as an object
        (calls(call(0, "call_a", "read", {"a": 1})), calls(call(1, "call_b", "write", {"b": 2}))),
        (calls(call("0", "call_a", "read", '{"a":1}')), calls(call(-5, "call_b", "write", '{"b":2}'))),
    ],
)  # fmt: skip
def test_ways_of_servers(events):
    assert facts_of(*events, stop()) == [A, B]
    assert facts_of(*events, DONE) == [A, B]


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        (call(0, "call_a", "read", '{"a":1'), []),
        (call(0, "call_a", "read", ""), []),
        ({"index": 0, "id": "call_a", "custom": {"name": "read", "input": "{"}}, [ToolUse("call_a", "read", "{")]),
    ],
)
def test_half_arguments_are_told_of_no_answer_that_is_cut(begun, told):
    assert facts_of(calls(begun), SECOND[0]) == told
    assert facts_of(calls(begun), SECOND[0], policy=NOTHING) == [ToolUse("call_a", "read", "")]


def test_calls_without_index_and_id():
    events = calls(call(name="read", arguments='{"a":1}')), calls(call(name="read", arguments='{"a":2}'))
    assert facts_of(*events, stop()) == [ToolUse("", "read", '{"a":1}'), ToolUse("", "read", '{"a":2}')]


def test_choices_are_told_apart():
    events = (
        *FIRST[:2],
        calls(call(0, "call_b", "write", '{"b":2'), choice=1),
        FIRST[2],
        calls(call(0, arguments="}"), choice=1),
    )
    assert facts_of(*events) == []
    assert facts_of(*events, stop(1)) == [B]
    assert facts_of(*events, stop(1), stop(0)) == [B, A]


def test_a_call_and_its_end_in_one_chunk():
    assert facts_of({**calls(call(0, "call_a", "read", '{"a":1}')), "finish_reason": "stop"}) == [A]


def test_the_old_function_call():
    events = [said(function_call={"name": "read"}), said(function_call={"arguments": '{"a":'})]
    events += [said(function_call={"arguments": "1}"}), {"index": 0, "delta": {}, "finish_reason": "function_call"}]
    assert facts_of(*events) == [ToolUse("", "read", '{"a":1}')]


def test_custom_tools():
    begin = {"index": 0, "id": "call_a", "type": "custom", "custom": {"name": "shell", "input": ""}}
    more = [{"index": 0, "custom": {"input": piece}} for piece in ('ls "', 'é"')]
    assert facts_of(calls(begin), *(calls(one) for one in more), stop()) == [ToolUse("call_a", "shell", 'ls "é"')]


def test_a_piece_for_a_call_that_was_told_is_too_late():
    assert facts_of(*FIRST, *SECOND, FIRST[1], stop()) == [A, B]


@pytest.mark.parametrize(
    "odd",
    [
        {"tool_calls": 5},
        {"tool_calls": [5, None, {}]},
        {"tool_calls": [{"index": 0, "function": 5}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]},
        {"tool_calls": [{"index": 0, "id": 5, "function": {"name": {}, "arguments": "x"}}]},
        {"tool_calls": [{"function": {"arguments": "x"}}]},
        {"function_call": []},
        {"reasoning": 5, "thinking": {}},
    ],
)
def test_what_begins_nothing(odd):
    assert facts_of(said(**odd), stop(), DONE) == []


@pytest.mark.parametrize("source", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts(source):
    pieces = said(**{"content": None, source: "I "}), said(**{"content": "", source: 'say "é"'})
    told = [Thought('I say "é"', source)]
    assert facts_of(*pieces) == []
    assert facts_of(*pieces, said(content="4")) == told
    assert facts_of(*pieces, FIRST[0]) == told
    assert facts_of(*pieces, *FIRST, stop()) == [*told, A]
    assert facts_of(*pieces, stop()) == told
    assert facts_of(*pieces, DONE) == told
    assert facts_of(*pieces, DONE, policy=NOTHING) == []


def test_thoughts_between_text():
    events = said(reasoning="one"), said(content="4"), said(reasoning="two"), said(content="5")
    assert facts_of(*events) == [Thought("one", "reasoning"), Thought("two", "reasoning")]


def test_one_thought_told_twice_is_one():
    assert facts_of(said(reasoning="x", reasoning_content="x"), stop()) == [Thought("x", "reasoning_content")]


def test_what_is_not_wanted_is_not_put_together():
    events = said(reasoning="x"), *FIRST, stop()
    assert facts_of(*events, policy=NOTHING) == [ToolUse("call_a", "read", "")]
    assert facts_of(*events, policy=ContentPolicy(thoughts=Keep.HASHED)) == [
        Thought("x", "reasoning"), ToolUse("call_a", "read", ""),
    ]  # fmt: skip


@given(st.text(), st.lists(st.integers(0, 100), max_size=8))
def test_arguments_in_any_pieces(text, cuts):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [calls(call(0, arguments=text[begin:end])) for begin, end in pairwise(places)]
    assert facts_of(FIRST[0], *pieces, stop()) == [ToolUse("call_a", "read", text)]


USUAL = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"gpt-x",%s"choices":[{"index":0,'
    '"delta":{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]},%s"finish_reason":null}]%s}'
)
VARIANTS = [
    ("", '"logprobs":null,', ""),
    ('"service_tier":"default","system_fingerprint":null,', "", ',"usage":null,"obfuscation":"aB"'),
    ('"service_tier":null,"system_fingerprint":"fp_1",', '"logprobs":null,', ',"usage":null'),
    ('"x":1,', "", ""),  # no usual one
]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.text() | st.sampled_from(['"', "\\\\", "\\ud83d", "\\ude42"])), max_size=8
    ),
    st.sampled_from(VARIANTS),
    st.sampled_from([ALL, NOTHING]),
)
def test_usual_pieces_are_as_any_others(pieces, variant, policy):
    begin = calls(call(0, "call_a", "read", ""), call(1, "call_b", "write", ""))
    head, logprobs, tail = variant
    texts = [USUAL % (head, index, json.dumps(text), logprobs, tail) for index, text in pieces]
    as_they_are = [text.encode() for text in texts]
    parsed = [json.dumps(json.loads(text)).encode() for text in texts]
    assert facts_of(begin, *as_they_are, stop(), policy=policy) == facts_of(begin, *parsed, stop(), policy=policy)


def test_a_character_in_two_pieces():
    halves = [b'{"choices":[{"index":0,"delta":{"reasoning":"\\u%b"}}]}' % half for half in (b"d83d", b"de42")]
    assert facts_of(*halves, stop()) == [Thought("\U0001f642", "reasoning")]


def test_content_is_bounded():
    piece = "x" * (MAX_CONTENT_BYTES // 2 + 1)
    (told,) = facts_of(FIRST[0], *[calls(call(0, arguments=piece))] * 5, stop())
    assert told.arguments == "x" * MAX_CONTENT_BYTES + CUT


def test_all_that_is_under_way_is_bounded():
    begin = [calls(call(0, f"call_{n}", "read", "x" * MAX_CONTENT_BYTES), choice=n) for n in range(20)]
    told = facts_of(*begin, DONE)
    assert [len(one.arguments) for one in told[:4]] == [MAX_CONTENT_BYTES] * 4
    assert [one.arguments for one in told[4:]] == [CUT] * 16
    assert MAX_OPEN_BYTES == 4 * MAX_CONTENT_BYTES


def test_what_was_told_makes_room():
    whole = [(calls(call(0, f"call_{n}", "read", "x" * MAX_CONTENT_BYTES), choice=n), stop(n)) for n in range(20)]
    told = facts_of(*(event for pair in whole for event in pair))
    assert [len(one.arguments) for one in told] == [MAX_CONTENT_BYTES] * 20


def test_many_calls_at_once_are_all_told():
    several = [call(n, f"call_{n}", "read", "{}") for n in range(2 * MAX_OPEN)]
    assert [one.id for one in facts_of(calls(*several), stop())] == [one["id"] for one in several]


def test_facts_are_bounded():
    several = [calls(call(n, f"call_{n}", "read", "{}")) for n in range(2 * MAX_FACTS)]
    assert len(facts_of(*several, stop())) == MAX_FACTS


def test_names_are_bounded():
    (told,) = facts_of(calls(call(0, "i" * 1000, "n" * 1000, "{}")), stop())
    assert (len(told.id), len(told.name)) == (MAX_ID_CHARACTERS, MAX_ID_CHARACTERS)
