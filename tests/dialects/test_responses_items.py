"""Tool uses and thoughts of the Responses API: each whole, and each once."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects import DIALECTS
from aibridge.dialects.responses_items import MAX_FACTS
from aibridge.text import CUT
from aibridge.values import MAX_CONTENT_BYTES, Event, Thought, ToolUse

RESPONSES = DIALECTS["responses"]
ALL = ContentPolicy(arguments=Keep.FULL, thoughts=Keep.HASHED)


def done(item, index=0):
    return "response.output_item.done", {"item": item, "output_index": index}


def end(*items, kind="completed"):
    return f"response.{kind}", {"response": {"id": "resp_1", "output": list(items)}}


def facts_of(*events, policy=ALL):
    observer = RESPONSES.observer(policy)
    for kind, fields in events:
        observer.observe(Event(kind, json.dumps({"type": kind, **fields}).encode(), 0))
    return observer.facts


def call(number=1, **more):
    fields = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": "add"}
    return {**fields, "status": "completed", "arguments": '{"a": 3.0}', **more}


def reasoning(*summary, **more):
    texts = [{"type": "summary_text", "text": text} for text in summary]
    return {"type": "reasoning", "id": "rs_1", "summary": texts, **more}


def message(*texts, **more):
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content, **more}


PNG = "iVBORw0KGgo" * 1000

CALLS = {
    "a function": (call(), ("call_1", "add", '{"a": 3.0}')),
    "a function of a namespace": (call(namespace="mcp__files"), ("call_1", "mcp__files.add", '{"a": 3.0}')),
    "a function whose arguments are no text": (call(arguments={"a": 3}), ("call_1", "add", '{"a":3}')),
    "a function without arguments": (call(arguments=None), ("call_1", "add", "")),
    "a function, cut short": (call(status="incomplete", arguments='{"a'), ("call_1", "add", '{"a')),
    "a custom tool": (
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "code_exec", "input": 'print("x")'},
        ("call_1", "code_exec", 'print("x")'),
    ),
    "web search": (
        {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x"}},
        ("ws_1", "web_search_call", '{"action":{"type":"search","query":"x"}}'),
    ),
    "file search": (
        {"type": "file_search_call", "id": "fs_1", "queries": ["a", "b"], "results": [{"text": "long"}]},
        ("fs_1", "file_search_call", '{"queries":["a","b"]}'),
    ),
    "the computer": (
        {"type": "computer_call", "id": "cu_1", "call_id": "call_1", "action": {"type": "click", "x": 1, "y": 2}},
        ("call_1", "computer_call", '{"action":{"type":"click","x":1,"y":2}}'),
    ),
    "code interpreter": (
        {"type": "code_interpreter_call", "id": "ci_1", "code": "1+1", "container_id": "cntr_1", "outputs": [{}]},
        ("ci_1", "code_interpreter_call", '{"code":"1+1","container_id":"cntr_1"}'),
    ),
    "a local shell": (
        {"type": "local_shell_call", "id": "lsh_1", "call_id": "call_1", "action": {"command": ["ls"], "env": {}}},
        ("call_1", "local_shell_call", '{"action":{"command":["ls"],"env":{}}}'),
    ),
    "a shell": (
        {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "action": {"commands": ["ls"]}, "environment": None},
        ("call_1", "shell_call", '{"action":{"commands":["ls"]}}'),
    ),
    "a patch": (
        {"type": "apply_patch_call", "id": "apc_1", "call_id": "call_1", "operation": {"type": "delete_file"}},
        ("call_1", "apply_patch_call", '{"operation":{"type":"delete_file"}}'),
    ),
    "an image": (
        {"type": "image_generation_call", "id": "ig_1", "result": PNG, "revised_prompt": "a cat", "size": "auto"},
        ("ig_1", "image_generation_call", '{"revised_prompt":"a cat","size":"auto"}'),
    ),
    "an MCP server's": (
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "server_label": "docs",
            "name": "search",
            "arguments": '{"q":1}',
            "output": "x",
        },
        ("mcp_1", "docs.search", '{"q":1}'),
    ),
    "one that is not known": (
        {"type": "new_call", "id": "n_1", "action": PNG, "result": PNG},
        ("n_1", "new_call", ""),
    ),
    "one without ids": ({"type": "web_search_call", "id": None, "call_id": 5}, ("", "web_search_call", "")),
    "one without a name": (call(name=5), ("call_1", "", '{"a": 3.0}')),
}


@pytest.mark.parametrize(("item", "told"), CALLS.values(), ids=CALLS)
def test_calls_of_all_kinds(item, told):
    assert facts_of(done(item)) == [ToolUse(*told)]
    assert facts_of(end(item)) == [ToolUse(*told)]
    assert facts_of(done(item), policy=NOTHING) == [ToolUse(*told[:2], "")]


def test_thoughts_are_told_with_their_sources():
    thought = reasoning("one", "", "two", content=[{"type": "reasoning_text", "text": "raw"}], encrypted_content="gAAA")
    events = (done(thought), done(message("I will look.", "Then", phase="commentary"), 1))
    assert facts_of(*events) == [
        Thought("one", "reasoning_summary"),
        Thought("two", "reasoning_summary"),
        Thought("raw", "reasoning_text"),
        Thought("I will look.", "commentary"),
        Thought("Then", "commentary"),
    ]
    assert facts_of(*events, policy=ContentPolicy(arguments=Keep.FULL)) == []


@pytest.mark.parametrize(
    "item",
    [
        message("the answer"),
        message("the answer", phase="final_answer"),
        message(
            phase="commentary", content=[{"type": "refusal", "refusal": "no"}, 5, {"type": "output_text", "text": 5}]
        ),
        message(phase="commentary", content="x"),
        reasoning(),
        reasoning(summary=None, content=None),
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "mcp_list_tools", "tools": [{"name": "x"}]},
        {"type": "mcp_approval_request", "name": "x", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "x"},
        call(status="in_progress"),
        {"type": ["function_call"]},
        {},
        [],
        "function_call",
        None,
    ],
)
def test_other_items_are_none(item):
    assert facts_of(done(item), end(item)) == []


def test_a_call_is_told_when_it_is_whole_not_at_the_end():
    """So that the tools of a stream that is cut later are there: a client may have run them."""
    assert facts_of(done(call())) == [ToolUse("call_1", "add", '{"a": 3.0}')]


def test_parallel_calls_are_all_told():
    both = facts_of(done(call(1), 0), done(call(2), 1), end(call(1), call(2)))
    assert [fact.id for fact in both] == ["call_1", "call_2"]


# each once

OTHER = "another id than before"


@pytest.mark.parametrize(
    ("before", "index", "again"),
    [
        (call(), 1, call()),
        (call(), None, call()),
        (call(), 5, call()),
        (call(), 1, call(id=OTHER, call_id=OTHER)),
        (call(), None, call(id=OTHER)),
        (call(), None, call(call_id=OTHER)),
        (call(id=None), 7, call()),
        (reasoning("one"), 1, reasoning("one", id=OTHER)),
        (reasoning("one"), None, reasoning("one")),
    ],
)
@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_what_came_as_an_item_does_not_come_again(before, index, again, kind):
    """Proxies leave out the place, and some make up new ids in each event."""
    facts = facts_of(done(before, index), end(message("first"), again, kind=kind))
    assert len(facts) == 1


def test_what_never_came_as_an_item_comes_at_the_end():
    facts = facts_of(done(call(1), 0), end(call(1), reasoning("one"), call(2)))
    assert facts == [*facts_of(done(call(1))), Thought("one", "reasoning_summary"), *facts_of(done(call(2)))]


def test_items_that_all_claim_one_place_are_all_told():
    assert len(facts_of(done(call(1), 0), done(call(2), 0), end(call(1), call(2)))) == 2


ITEMS = st.builds(
    lambda kind, number: {**CALLS[kind][0], "id": f"i{number}", "call_id": f"c{number}"},
    st.sampled_from([kind for kind in CALLS if "without" not in kind]),
    st.integers(0, 10**6),
)


@settings(deadline=None)
@given(st.lists(ITEMS, max_size=8, unique_by=lambda item: item["id"]), st.data())
def test_whatever_came_before_the_end_all_is_told_once(items, data):
    came = data.draw(st.sets(st.sampled_from(range(len(items))))) if items else set()
    facts = facts_of(*(done(items[index], index) for index in sorted(came)), end(*items))
    assert sorted(fact.id for fact in facts) == sorted(item["call_id"] for item in items)


# bounds


def test_contents_are_cut_at_their_bound_and_say_so():
    long = "x" * (MAX_CONTENT_BYTES + 1)
    cut = "x" * MAX_CONTENT_BYTES + CUT
    assert facts_of(done(call(arguments=long))) == [ToolUse("call_1", "add", cut)]
    assert facts_of(done(reasoning(long))) == [Thought(cut, "reasoning_summary")]
    (fact,) = facts_of(done({"type": "web_search_call", "id": "ws_1", "action": {"query": long}}))
    assert len(fact.arguments) == len(cut)


def test_names_and_ids_are_bounded():
    (fact,) = facts_of(done(call(call_id="i" * 5000, name="n" * 5000)))
    assert (fact.id, fact.name) == ("i" * 256, "n" * 256)


def test_long_ids_are_not_kept_whole():
    observer = RESPONSES.observer(ALL)
    tracemalloc.start()
    try:
        for number in range(20):
            kind, fields = done(call(number, id=f"{number}" + "i" * 1_000_000), number)
            observer.observe(Event(kind, json.dumps({"type": kind, **fields}).encode(), 0))
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()
    assert len(observer.facts) == 20


def test_an_answer_has_so_many_facts_at_most():
    observer = RESPONSES.observer(ALL)
    thoughts = [{"type": "summary_text", "text": "x"}] * (MAX_FACTS - 3)
    for number in range(10):
        item = reasoning(summary=thoughts) if number == 0 else call(number)
        observer.observe(Event("", json.dumps({"type": done(item)[0], **done(item, number)[1]}).encode(), 0))
    assert len(observer.facts) == MAX_FACTS
    assert len(observer._items._seen) == 3 * 4 - 1


def test_a_lone_surrogate_is_no_trouble():
    (fact,) = facts_of(done({"type": "web_search_call", "id": "ws_1", "action": {"query": "\ud800"}}))
    assert fact.arguments == '{"action":{"query":"\\ud800"}}'
