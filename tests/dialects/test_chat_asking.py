"""What a request of Chat Completions asks: the user's words, and the tool call that it answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibridge.body import read_body
from aibridge.dialects import DIALECTS
from aibridge.values import MAX_ID_CHARACTERS

CHAT = DIALECTS["chat"]


def user(content):
    return {"role": "user", "content": content}


def text(words):
    return {"type": "text", "text": words}


def tool(tool_call_id, content="done"):
    return {"role": "tool", "tool_call_id": tool_call_id, "content": content}


ASSISTANT = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_0", "function": {"name": "x]"}}]}
SYSTEM = {"role": "system", "content": "a remark"}
DEVELOPER = {"role": "developer", "content": [text("a remark")]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1000}}

CASES = {
    "a string": ([user("hello")], "hello", ""),
    "blanks and escapes": ([user(' "q" \\ \n é 日 \U0001f642 ')], ' "q" \\ \n é 日 \U0001f642 ', ""),
    "a part": ([SYSTEM, user([text("hello")])], "hello", ""),
    "the last text of several": ([user([text("a reminder"), text("hello"), IMAGE])], "hello", ""),
    "only the last message": ([user("before"), ASSISTANT, user("now")], "now", ""),
    "remarks behind it": ([user("hello"), SYSTEM, DEVELOPER], "hello", ""),
    "remarks alone": ([DEVELOPER, SYSTEM], "", ""),
    "a prefill is nobody's question": ([user("hello"), {"role": "assistant", "content": "{"}], "", ""),
    "a tool's result": ([user("before"), ASSISTANT, tool("call_1")], "", "call_1"),
    "the last of several results": ([ASSISTANT, tool("call_1"), tool("call_2")], "", "call_2"),
    "the last result with an id": ([ASSISTANT, tool("call_1"), tool(""), tool(5)], "", "call_1"),
    "a result and remarks": ([ASSISTANT, tool("call_1"), SYSTEM], "", "call_1"),
    "a result in parts": ([ASSISTANT, tool("call_1", [text("tool_call_id")])], "", "call_1"),
    "words behind a result": ([ASSISTANT, tool("call_1"), user("stop")], "stop", ""),
    "a result without an id": ([ASSISTANT, {"role": "tool", "content": "x"}], "", ""),
    "the old function": ([ASSISTANT, {"role": "function", "name": "x", "content": "{}"}], "", ""),
    "a long id": ([tool("c" * 1000)], "", "c" * MAX_ID_CHARACTERS),
    "no message": ([], "", ""),
    "an empty string": ([user("")], "", ""),
    "no content": ([{"role": "user"}], "", ""),
    "no parts": ([user([])], "", ""),
    "null": ([user(None)], "", ""),
    "parts of other types": ([user([IMAGE, 5, None, {"type": "text"}, {"text": "x"}])], "", ""),
    "a part whose text is none": ([user([text("x"), text(5)])], "", ""),
    "no role": ([{"content": "x", "tool_call_id": "call_1"}], "", ""),
    "no objects": ([5, "user", None], "", ""),
    "no array": ({"role": "user", "content": "x"}, "", ""),
    "a string for messages": ("user", "", ""),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("blanks", [{"separators": (",", ":")}, {}, {"indent": 1}])
def test_cases(name, blanks):
    messages, prompt, tool_call_id = CASES[name]
    body = read_body(json.dumps({"model": "gpt-x", "messages": messages, "stream": True}, **blanks).encode())
    assert CHAT.prompt(body) == prompt
    assert CHAT.tool_call_id(body) == tool_call_id


def test_other_orders_of_members():
    body = read_body(
        b'{"messages":[{"content":[{"text":"hello","type":"text"}],"name":"n","role":"user"}],"messages":'
        b'[{"content":"x","tool_call_id":"call_1","role":"tool"}]}'
    )
    assert (CHAT.prompt(body), CHAT.tool_call_id(body)) == ("", "call_1")


@pytest.mark.parametrize(
    ("message", "tool_call_id"),
    [
        (b'{"role":"tool","tool_call_id":"a","content":"x","tool_call_id":"b"}', "b"),
        (b'{"role":"tool","tool_call_id":"a","content":"x","role":"user"}', ""),
        (b'{"role":"tool","tool_call_id":"a","content":"x","tool\\u005fcall_id":"b"}', "a"),  # as far as it matters
        (rb'{"role":"tool","tool_call_id":"a","content":"\"tool_call_id\":\"b\",\"role\""}', "a"),
        (rb'{"role":"tool","tool_call_id":"a\u0062","content":"x"}', "ab"),
        (b'{ "role" : "tool" ,\n"tool_call_id":"a", "content" : "x" } ', "a"),
        (b'{"content":"x","tool_call_id":"a","role":"tool"}', "a"),
    ],
)
def test_answers_of_tools_as_they_may_be_written(message, tool_call_id):
    assert CHAT.tool_call_id(read_body(b'{"messages":[' + message + b"]}")) == tool_call_id


def test_no_messages():
    assert CHAT.prompt(read_body(b"{}")) == CHAT.tool_call_id(read_body(b"{}")) == ""


def test_user_id():
    body = read_body(b'{"messages":[],"metadata":{"user_id":"{\\"session_id\\":\\"s\\"}"},"user":"u"}')
    assert CHAT.user_id(body) == '{"session_id":"s"}'
    assert CHAT.user_id(read_body(b'{"messages":[],"user":"u","metadata":5}')) == ""


@given(st.text(), st.text())
def test_any_words(words, result):
    asked = read_body(json.dumps({"messages": [user(words)]}, ensure_ascii=False).encode("utf-8", "replace"))
    assert CHAT.prompt(asked) == words.encode("utf-8", "replace").decode()
    answered = read_body(json.dumps({"messages": [tool("call_1", result)]}).encode())
    assert CHAT.tool_call_id(answered) == "call_1"
