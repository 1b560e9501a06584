"""Tool uses and thoughts, put together from the events of a stream, or taken from a whole body."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects import DIALECTS
from aibridge.dialects.blocks import MAX_FACTS, MAX_OPEN_BLOCKS
from aibridge.text import CUT
from aibridge.values import MAX_CONTENT_BYTES, Event, Thought, ToolUse
from aibridge.wire import SSEScanner, encode_event

MESSAGES = DIALECTS["messages"]
ALL = ContentPolicy(arguments=Keep.FULL, thoughts=Keep.FULL)


def event(kind, **fields):
    return kind, json.dumps({"type": kind, **fields}, separators=(",", ":")).encode()


def start(index, **block):
    return event("content_block_start", index=index, content_block=block)


def tool(index, number=1, kind="tool_use", **more):
    return start(index, type=kind, id=f"toolu_{number}", name="Read", **{"input": {}, **more})


def delta(index, kind, key, piece):
    return event("content_block_delta", index=index, delta={"type": kind, key: piece})


def arguments(index, piece):
    return delta(index, "input_json_delta", "partial_json", piece)


def thinking(index, piece):
    return delta(index, "thinking_delta", "thinking", piece)


def stop(index):
    return event("content_block_stop", index=index)


def facts_of(*events, policy=ALL):
    observer = MESSAGES.observer(policy)
    for kind, data in events:
        observer.observe(Event(kind, data, 0))
    return observer.facts


WHOLE_TOOL = (tool(1), arguments(1, ""), arguments(1, '{"path": "/tmp/'), arguments(1, 'x\\n"}'), stop(1))
WHOLE_THOUGHT = (start(0, type="thinking", thinking=""), thinking(0, "I "), thinking(0, 'say "é"'), stop(0))


def test_a_tool_use_is_a_fact_when_its_block_stops():
    assert facts_of(*WHOLE_TOOL[:-1]) == []
    assert facts_of(*WHOLE_TOOL) == [ToolUse("toolu_1", "Read", '{"path": "/tmp/x\\n"}')]


def test_thoughts_and_tools_come_in_their_order():
    assert facts_of(*WHOLE_THOUGHT, *WHOLE_TOOL) == [
        Thought('I say "é"', "thinking"),
        ToolUse("toolu_1", "Read", '{"path": "/tmp/x\\n"}'),
    ]


def test_what_is_not_wanted_is_not_put_together():
    events = (*WHOLE_THOUGHT, *WHOLE_TOOL)
    assert facts_of(*events, policy=NOTHING) == [ToolUse("toolu_1", "Read", "")]
    assert facts_of(*events, policy=ContentPolicy(thoughts=Keep.HASHED)) == [
        Thought('I say "é"', "thinking"),
        ToolUse("toolu_1", "Read", ""),
    ]


@pytest.mark.parametrize(
    ("policy", "quiet"),
    [
        (NOTHING, {"text", "partial_json", "thinking"}),
        (ContentPolicy(arguments=Keep.FULL), {"text", "thinking"}),
        (ContentPolicy(thoughts=Keep.HASHED), {"text", "partial_json"}),
        (ALL, {"text"}),
    ],
)
def test_only_what_is_wanted_is_looked_into(policy, quiet):
    events = [delta(0, "text_delta", "text", "x"), arguments(0, "x"), thinking(0, "x")]
    scan = SSEScanner(quiet=MESSAGES.quiet(policy)).feed_data(b"".join(encode_event(*one) for one in events))
    assert scan.count == 3
    loud = {next(key for key in json.loads(one.data)["delta"] if key != "type") for one in scan.events}
    assert loud == {"text", "partial_json", "thinking"} - quiet


def test_two_calls_of_one_tool_are_two():
    """Not one, as where they are remembered by name."""
    both = facts_of(tool(0, 1), arguments(0, "{}"), stop(0), tool(1, 2), arguments(1, "[]"), stop(1))
    assert both == [ToolUse("toolu_1", "Read", "{}"), ToolUse("toolu_2", "Read", "[]")]


def test_blocks_may_be_interleaved():
    events = (tool(0, 1), tool(1, 2), arguments(1, "2"), arguments(0, "1"), stop(1), stop(0))
    assert facts_of(*events) == [ToolUse("toolu_2", "Read", "2"), ToolUse("toolu_1", "Read", "1")]


def test_the_end_of_the_message_is_the_end_of_its_blocks():
    assert facts_of(*WHOLE_TOOL[:-1], event("message_stop")) == [ToolUse("toolu_1", "Read", '{"path": "/tmp/x\\n"}')]


def test_input_that_comes_with_the_start():
    assert facts_of(tool(0, input={"a": 1}), stop(0)) == [ToolUse("toolu_1", "Read", '{"a":1}')]
    assert facts_of(tool(0, input=None), stop(0)) == [ToolUse("toolu_1", "Read", "")]
    assert facts_of(tool(0), arguments(0, ""), stop(0)) == [ToolUse("toolu_1", "Read", "{}")]


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
def test_tools_of_all_kinds(kind):
    assert facts_of(tool(0, kind=kind), stop(0)) == [ToolUse("toolu_1", "Read", "{}")]


@pytest.mark.parametrize("block", [{"type": "text", "text": "x"}, {"type": "redacted_thinking", "data": "x"}, {}, 5])
def test_other_blocks_are_none(block):
    assert facts_of(event("content_block_start", index=0, content_block=block), stop(0)) == []


def test_a_thought_without_words_is_none():
    signed = delta(0, "signature_delta", "signature", "abc")
    assert facts_of(start(0, type="thinking", thinking=""), signed, stop(0)) == []


@pytest.mark.parametrize(
    "data",
    [
        b'{"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}}',
        b'{"index":1,"delta":{"partial_json":"{}","type":"input_json_delta"},"type":"content_block_delta"}',
        b'{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"},"p":"x"}',
        b'{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"   }    }',
        b'{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\\u007b}"}}',
    ],
)
@pytest.mark.parametrize("kind", ["content_block_delta", ""])
def test_deltas_in_other_spellings(data, kind):
    assert facts_of(tool(1), (kind, data), stop(1)) == [ToolUse("toolu_1", "Read", "{}")]


@pytest.mark.parametrize(
    "odd",
    [
        ("content_block_delta", b"[]"),
        ("content_block_delta", b'{"index":1}'),
        ("content_block_delta", b'{"index":1,"delta":5}'),
        ("content_block_delta", b'{"index":"1","delta":{"partial_json":"x"}}'),
        ("content_block_delta", b'{"index":1,"delta":{"partial_json":5}}'),
        ("content_block_delta", b'{"index":99,"delta":{"partial_json":"x"}}'),
        ("content_block_delta", b"[DONE]"),
        ("content_block_start", b'{"index":"x","content_block":{"type":"tool_use"}}'),
        ("content_block_start", b'{"index":[],"content_block":{"type":"tool_use"}}'),
        ("content_block_stop", b'{"index":[]}'),
        ("content_block_stop", b"5"),
    ],
)
def test_odd_events_change_nothing(odd):
    assert facts_of(tool(1), odd, arguments(1, "{}"), odd, stop(1)) == [ToolUse("toolu_1", "Read", "{}")]


def test_a_character_that_two_deltas_share():
    """Models' JSON is cut anywhere: also between the halves of a surrogate pair, each escaped."""
    halves = [
        b'{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"%b"}}' % half
        for half in (b"\\ud83d", b"\\ude42")
    ]
    facts = facts_of(tool(1), *(("content_block_delta", half) for half in halves), stop(1))
    assert facts == [ToolUse("toolu_1", "Read", "\U0001f642")]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=5))
def test_the_pieces_one_behind_the_other(pieces):
    (fact,) = facts_of(tool(0, input=None), *(arguments(0, piece) for piece in pieces), stop(0))
    assert fact.arguments == "".join(pieces)


# bounds


def test_a_block_is_cut_at_its_bound_and_says_so():
    piece = "x" * (MAX_CONTENT_BYTES // 4)
    (whole,) = facts_of(tool(0), *[arguments(0, piece)] * 4, stop(0))
    assert whole.arguments == piece * 4
    (cut,) = facts_of(tool(0), *[arguments(0, piece)] * 5, arguments(0, "y"), stop(0))
    assert cut.arguments == piece * 4 + CUT


def test_blocks_that_never_stop_are_few():
    observer = MESSAGES.observer(ALL)
    for number in range(100):
        observer.observe(Event(*tool(number, number), 0))
    assert len(observer._blocks._open) == MAX_OPEN_BLOCKS
    observer.observe(Event(*event("message_stop"), 0))
    assert [fact.id for fact in observer.facts] == ["toolu_0", "toolu_1", "toolu_2", "toolu_3"]


def test_an_answer_has_so_many_facts_at_most():
    events = [one for _ in range(MAX_FACTS + 5) for one in (tool(0), stop(0))]
    assert len(facts_of(*events)) == MAX_FACTS


def test_names_and_ids_are_bounded():
    long = start(0, type="tool_use", id="i" * 5000, name="n" * 5000, input={})
    assert facts_of(long, stop(0)) == [ToolUse("i" * 256, "n" * 256, "{}")]
    assert facts_of(start(0, type="tool_use", id=5, input={}), stop(0)) == [ToolUse("", "", "{}")]


# a whole body

BODY = """ {"id": "msg_1", "type": "message", "content": [
  {"type": "thinking", "thinking": "hm", "signature": "abc"},
  {"type": "text", "text": "tool_use"},
  {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"n": 1.50, "big": 12345678901234567890123}},
  {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
  {"type": "thinking", "thinking": ""}, 5, {"type": "tool_use"}
], "usage": {"input_tokens": 1, "output_tokens": 2}} """


def whole(body, policy=ALL):
    observer = MESSAGES.observer(policy)
    observer.observe_body(body.encode())
    return observer.facts


def test_a_whole_body_keeps_the_arguments_as_they_were_written():
    assert whole(BODY) == [
        Thought("hm", "thinking"),
        ToolUse("toolu_1", "Read", '{"n": 1.50, "big": 12345678901234567890123}'),
        ToolUse("srvtoolu_1", "web_search", "{}"),
        ToolUse("", "", ""),
    ]
    assert whole(BODY, NOTHING) == [
        ToolUse("toolu_1", "Read", ""),
        ToolUse("srvtoolu_1", "web_search", ""),
        ToolUse("", "", ""),
    ]


@pytest.mark.parametrize("content", ["null", "5", '"tool_use"', "{}", "[]", '[["tool_use"]]'])
def test_a_body_whose_content_is_none(content):
    assert whole(f'{{"content":{content},"x":"tool_use"}}') == []
    assert whole('{"x":"tool_use"}') == []


@pytest.mark.parametrize("shift", range(7))
@pytest.mark.parametrize("letter", ["x", "é", "😀", "\\", "\n", "\ud800"])
@pytest.mark.parametrize("more", [{}, {"ascii_only": False}])
def test_a_block_that_comes_in_one_piece_keeps_its_beginning(letter, shift, more):
    """Cut anywhere: inside a character, an escape, or the halves of a pair."""
    words = "y" * shift + letter * MAX_CONTENT_BYTES
    kind, data = arguments(0, words)
    if more and letter != "\ud800":
        data = json.dumps(json.loads(data), separators=(",", ":"), ensure_ascii=False).encode()
    (cut,) = facts_of(tool(0), (kind, data), arguments(0, "z"), stop(0))
    kept = cut.arguments.removesuffix(CUT)
    assert cut.arguments.endswith(CUT)
    assert words.startswith(kept.rstrip("\ud83d"))
    assert len(kept) > MAX_CONTENT_BYTES // 13
