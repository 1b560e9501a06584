"""What a request asks: the user's words, and the tool call that it answers."""

import json
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.dialects.asking import MAX_TREE_BYTES, read_prompt, read_tool_call_id
from aibridge.wire import scan_object


class Asking(NamedTuple):
    prompt: str = ""
    correlating_tool_call_id: str = ""


def ask(body):
    members = scan_object(body)
    return Asking(read_prompt(body, members), read_tool_call_id(body, members))


def user(*content):
    return {"role": "user", "content": list(content)}


def text(words, **more):
    return {"type": "text", "text": words, **more}


def result(tool_use_id, content="done"):
    return {"type": "tool_result", "tool_use_id": tool_use_id, "content": content}


ASSISTANT = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_0", "name": "x", "input": {"a": "]"}}]}
SYSTEM = {"role": "system", "content": "a remark of the client's"}
IMAGE = {"type": "image", "source": {"type": "base64", "data": "A" * 1000}}
LARGE = "x" * MAX_TREE_BYTES

CASES = {
    "a string": ([{"role": "user", "content": "hello"}], Asking("hello")),
    "a string, content first": ([{"content": "hello", "role": "user"}], Asking("hello")),
    "a block": ([user(text("hello"))], Asking("hello")),
    "the last text of several": ([user(text("a reminder"), text("hello"), IMAGE)], Asking("hello")),
    "blanks and escapes": ([user(text(' "q" \\ \n é 日 \U0001f642 '))], Asking(' "q" \\ \n é 日 \U0001f642 ')),
    "only the last message": ([user(text("before")), ASSISTANT, user(text("now"))], Asking("now")),
    "a tool's result": ([user(text("before")), ASSISTANT, user(result("toolu_1"))], Asking("", "toolu_1")),
    "the last result of several": ([ASSISTANT, user(result("toolu_1"), result("toolu_2"))], Asking("", "toolu_2")),
    "the last result with an id": ([user(result("toolu_1"), result(""), result(5))], Asking("", "toolu_1")),
    "a result and words": ([user(result("toolu_1"), text("stop"))], Asking("stop", "toolu_1")),
    "a prefill is nobody's question": ([user(text("hello")), {"role": "assistant", "content": "{"}], Asking()),
    "remarks behind it": ([user(text("hello")), SYSTEM, SYSTEM], Asking("hello")),
    "remarks behind a result": ([user(result("toolu_1")), SYSTEM], Asking("", "toolu_1")),
    "remarks alone": ([SYSTEM], Asking()),
    "no message": ([], Asking()),
    "an empty string": ([{"role": "user", "content": ""}], Asking()),
    "an empty block": ([user(text(""))], Asking()),
    "no content": ([{"role": "user"}], Asking()),
    "no blocks": ([user()], Asking()),
    "text that is none": ([user({"type": "text", "text": 5}, {"type": "text"}, 5, "x", None)], Asking()),
    "a role that is none": ([{"role": ["user"], "content": "hello"}], Asking()),
    "no object": (["hello", 5], Asking()),
    "large words": ([user(text(LARGE))], Asking(LARGE)),
    "a large string": ([{"role": "user", "content": LARGE + '"'}], Asking(LARGE + '"')),
    "a large image": ([user({**IMAGE, "x": LARGE}, text("hello"))], Asking("hello")),
    "a large result": ([ASSISTANT, user(result("toolu_1", LARGE), text("go on"))], Asking("go on", "toolu_1")),
    "large, of a role that is none": ([{"role": {"a": LARGE}, "content": "hello"}], Asking()),
    "large, without content": ([{"role": "user", "x": LARGE}], Asking()),
    "large, with a content that is none": ([{"role": "user", "content": {"x": LARGE}}], Asking()),
    "a result, its type behind": ([user({"tool_use_id": "t-1", "type": "tool_result"})], Asking("", "t-1")),
    "a result, its key once more": ([user({**result("t-1"), "x": {"tool_use_id": "t-2"}})], Asking("", "t-1")),
    "a result that tells of one": ([user(result("t-1", '"tool_use_id":"t-2"'))], Asking("", "t-1")),
    "a result whose words end so": ([user(result("t-1"), result("t-2", 'a"tool_use_id'))], Asking("", "t-2")),
    "another block that names a call": ([user({"type": "x", "tool_use_id": "t-1"})], Asking()),
    "an id with escapes": ([user(result('t"\\é'))], Asking("", 't"\\é')),
    "a result before the question": ([user(result("t-1")), ASSISTANT, user(text("system"))], Asking("system")),
    "a role in words": ([user(result("t-1")), {"role": "assistant", "content": [text("system")]}], Asking()),
    "a long list before": ([user([LARGE], text("x"))], Asking("x")),
    "lists behind": ([user(text("x")), [LARGE], [1], LARGE], Asking("x")),
    "large remarks": ([user(text("hello")), {"role": "system", "content": LARGE}], Asking("hello")),
}


@pytest.mark.parametrize(("messages", "asking"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"separators": (",", ":")}], ids=["usual", "indented", "compact"])
def test_what_is_asked(messages, asking, style):
    body = {"model": "m", "messages": messages, "metadata": {"messages": [user(text("not this"))]}, "stream": True}
    assert ask(json.dumps(body, **style).encode()) == asking


@pytest.mark.parametrize("messages", [b"null", b"5", b'"x"', b"{}", b"true", b"[[]]", b"[{}]"])
def test_messages_that_are_none(messages):
    assert ask(b'{"messages":%b}' % messages) == Asking()


def test_without_messages():
    assert ask(b"{}") == Asking()


def test_of_repeated_members_the_last_one_counts():
    large = json.dumps([user(text("no")), user(text(LARGE))]).encode()[:-2] + b',"content":"yes","role":"user"}]'
    for body in (
        b'{"messages":[],"messages":[{"role":"x","role":"user","content":"yes"}]}',
        b'{"messages":%b}' % large,
    ):
        assert ask(body) == Asking("yes")


def test_an_id_is_bounded():
    assert ask(json.dumps({"messages": [user(result("t" * 1000))]}).encode()) == Asking("", "t" * 256)


def test_a_hostile_message_is_looked_at_from_its_end_only():
    blocks = [result("too far away"), *({"type": "x"} for _ in range(30_000)), text("near")]
    assert ask(json.dumps({"messages": [user(*blocks)]}).encode()) == Asking("near")


@pytest.mark.parametrize("element", [b"1", b'{"role":"system"}', b'""', b"[]"])
def test_hostile_messages_are_looked_at_from_their_end_only(element):
    asked = b'{"role":"user","content":"too far away"}'
    assert ask(b'{"messages":[%b,%b]}' % (asked, b",".join([element] * 1000))) == Asking()
    assert ask(b'{"messages":[%b,%b]}' % (asked, b",".join([element] * 255))) == Asking("too far away")


@pytest.mark.parametrize("size", [1, 1000, MAX_TREE_BYTES + 1])
def test_blanks_are_nothing(size):
    blanks = b" " * size
    assert ask(b'{"messages":[%b]}' % blanks) == Asking()
    assert ask(b'{"messages":[%b{"role":"user","content":"x"}%b]}' % (blanks, blanks)) == Asking("x")
    assert ask(b'{"messages":[{"role":"user","content":[%b]%b}]}' % (blanks, blanks)) == Asking()
    assert ask(b'{"messages":[{"role":"user",%b"content"%b:%b"x"}]}' % (blanks, blanks, blanks)) == Asking("x")


BLOCKS = st.one_of(
    st.builds(text, st.text(max_size=20)),
    st.builds(result, st.text(max_size=5), st.text('"\\]}{', max_size=20)),
    st.just(IMAGE),
    st.just({"type": "thinking", "thinking": "hm"}),
)
MESSAGES = st.builds(
    lambda role, content, more: {"role": role, "content": content, **more},
    st.sampled_from(["user", "user", "assistant", "system"]),
    st.text(max_size=20) | st.lists(BLOCKS, max_size=4),
    st.sampled_from([{}, {"x": LARGE}, {"cache_control": {"type": "ephemeral"}}]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(MESSAGES, max_size=5), st.booleans())
def test_as_one_who_parses_all_of_it(messages, ascii_only):
    body = json.dumps({"messages": messages}, ensure_ascii=ascii_only).encode()
    last = next((message for message in reversed(messages) if message["role"] != "system"), {"role": "", "content": ""})
    content = last["content"]
    blocks = [] if isinstance(content, str) else content
    said = [content] if isinstance(content, str) else [block["text"] for block in blocks if block["type"] == "text"]
    ids = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result" and block["tool_use_id"]]
    asked = said[-1] if said and last["role"] == "user" else ""
    assert ask(body) == Asking(asked, ids[-1] if ids else "")
