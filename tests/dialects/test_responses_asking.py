"""What a request of the Responses API asks: the user's words, the tool call that it answers, the session."""

import json
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.body import read_body
from aibridge.dialects import DIALECTS

RESPONSES = DIALECTS["responses"]


class Asking(NamedTuple):
    prompt: str = ""
    correlating_tool_call_id: str = ""


def ask(body):
    body = read_body(body)
    return Asking(RESPONSES.prompt(body), RESPONSES.tool_call_id(body))


def text(words):
    return {"type": "input_text", "text": words}


def user(*content, **more):
    return {"type": "message", "role": "user", "content": list(content), **more}


def remark(words, role="developer"):
    return {"type": "message", "role": role, "content": [text(words)]}


def result(call_id, kind="function_call", output="done", **more):
    return {"type": f"{kind}_output", "call_id": call_id, "output": output, **more}


def call(call_id):
    return {"type": "function_call", "id": "fc_1", "name": "x", "arguments": "{}", "call_id": call_id}


ASSISTANT = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "]"}]}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 1000}
TOOLS = {"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}
LARGE = "x" * 100_000

CASES = {
    "a string": ("hello", Asking("hello")),
    "an empty string": ("", Asking()),
    "a string of odd letters": (' "q" \\ \n é 日 \U0001f642 ', Asking(' "q" \\ \n é 日 \U0001f642 ')),
    "a string in an item": ([{"role": "user", "content": "hello"}], Asking("hello")),
    "a string in an item, content first": ([{"content": "hello", "role": "user"}], Asking("hello")),
    "a part": ([user(text("hello"))], Asking("hello")),
    "all parts, line by line": ([user(text("a"), IMAGE, text("b"))], Asking("a\nb")),
    "text that is none": ([user(text("a"), text(5), text(""), 5, {"type": "x", "text": "y"}, None)], Asking("a")),
    "only the last item": ([user(text("before")), ASSISTANT, user(text("now"))], Asking("now")),
    "items of the user alone": ([user(text("AGENTS.md")), user(text("now"))], Asking("now")),
    "the model's word": ([user(text("hello")), ASSISTANT], Asking()),
    "the model's reasoning": ([user(text("hello")), REASONING], Asking()),
    "a call": ([user(text("hello")), call("c-1")], Asking()),
    "remarks behind the question": ([user(text("hello")), remark("x"), remark("y", "system")], Asking("hello")),
    "tools behind the question": ([user(text("hello")), TOOLS], Asking("hello")),
    "tools behind a result": ([result("c-1"), TOOLS], Asking("", "c-1")),
    "remarks alone": ([remark("x")], Asking()),
    "a reference": ([user(text("hello")), {"type": "item_reference", "id": "msg_1"}], Asking()),
    "a function's result": ([user(text("x")), call("c-1"), result("c-1")], Asking("", "c-1")),
    "the last of several": ([call("c-1"), call("c-2"), result("c-1"), result("c-2")], Asking("", "c-2")),
    "a custom tool's": ([result("c-1", "custom_tool_call")], Asking("", "c-1")),
    "a computer's": ([result("c-1", "computer_call", output=IMAGE)], Asking("", "c-1")),
    "a local shell's": ([result("c-1", "local_shell_call")], Asking("", "c-1")),
    "a shell's": ([result("c-1", "shell_call", output=[])], Asking("", "c-1")),
    "a patch's": ([result("c-1", "apply_patch_call")], Asking("", "c-1")),
    "a search for tools": ([{"type": "tool_search_output", "call_id": "c-1", "tools": []}], Asking("", "c-1")),
    "a result and words": ([call("c-1"), result("c-1"), user(text("stop"))], Asking("stop", "c-1")),
    "a result and a remark": ([result("c-1"), remark("x")], Asking("", "c-1")),
    "an answered result": ([result("c-1"), ASSISTANT, user(text("now"))], Asking("now")),
    "a result with an id of its own": ([{"id": "fco_1", **result("c-1")}], Asking("", "c-1")),
    "a result, its type last": ([{"output": "x", "call_id": "c-1", "type": "function_call_output"}], Asking("", "c-1")),
    "a result that tells of one": ([result("c-1", output='"call_id":"c-2"')], Asking("", "c-1")),
    "a result that holds one": ([result("c-1", output=[{"call_id": "c-2"}])], Asking("", "c-1")),
    "a result, its key in words": ([result("c-1", output=["call_id"])], Asking("", "c-1")),
    "a result with a role": ([{"type": "x_call_output", "role": "user", "call_id": "c-1"}], Asking("", "c-1")),
    "a result without a call": ([{"type": "function_call_output", "output": "x"}], Asking()),
    "a call that is no text": ([result(5)], Asking()),
    "an id with odd letters": ([result('c"\\é')], Asking("", 'c"\\é')),
    "a long id": ([result("c" * 5000)], Asking("", "c" * 256)),
    "a large result": ([result("c-1", output=LARGE)], Asking("", "c-1")),
    "large words": ([user(text(LARGE))], Asking(LARGE)),
    "a role inside of words": ([user(text("x"), {"type": "x", "role": "assistant"})], Asking("x")),
    "another type with a role": ([{"type": "agent", "role": "user", "content": "x"}], Asking()),
    "no item": ([], Asking()),
    "no content": ([{"role": "user"}], Asking()),
    "content that is none": ([{"role": "user", "content": {"type": "input_text", "text": "x"}}], Asking()),
    "a role that is none": ([{"role": ["user"], "content": "hello"}], Asking()),
    "a type that is none": ([{"type": 5, "role": "user", "content": "hello"}], Asking()),
    "no objects": (["hello", 5], Asking()),
    "a number": (5, Asking()),
    "an object": ({"role": "user", "content": "x"}, Asking()),
    "nothing": (None, Asking()),
}


@pytest.mark.parametrize(("asked", "told"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_is_asked(asked, told, indent, ascii_only):
    body = {"model": "m", "input": asked, "stream": True}
    assert ask(json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode()) == told


def test_a_request_without_input_asks_nothing():
    assert ask(b'{"model":"m","previous_response_id":"resp_1"}') == Asking()


def test_of_repeated_keys_the_last_one_counts():
    assert ask(b'{"input":"a","input":"b"}') == Asking("b")
    assert ask(b'{"input":[{"role":"user","content":"a","role":"assistant"}]}') == Asking()
    twice = b'{"input":[{"type":"function_call_output","call_id":"a","output":"x","call_id":"b"}]}'
    assert ask(twice) == Asking("", "b")


ITEMS = st.one_of(
    st.builds(user, st.builds(text, st.text(max_size=20)), st.builds(text, st.text(max_size=5))),
    st.builds(result, st.text(max_size=5), st.sampled_from(["function_call", "custom_tool_call"]), st.text(max_size=9)),
    st.builds(remark, st.text(max_size=20)),
    st.builds(call, st.text(max_size=5)),
    st.sampled_from([ASSISTANT, REASONING]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(ITEMS, max_size=6), st.booleans(), st.booleans())
def test_as_one_who_parses_all_of_it(items, ascii_only, turned):
    items = [dict(reversed(item.items())) if turned else item for item in items]
    said = [item for item in items if item.get("role") != "developer"]
    last = said[-1] if said else {}
    words = [part["text"] for part in last["content"]] if last.get("role") == "user" else []
    new = []
    for item in reversed(items):
        if item.get("role") not in {"user", "developer"} and not item["type"].endswith("_output"):
            break
        new.append(item)
    ids = [item["call_id"] for item in new if item["type"].endswith("_output")]
    body = json.dumps({"input": items}, ensure_ascii=ascii_only).encode()
    assert ask(body) == Asking("\n".join(filter(None, words)), ids[0] if ids else "")


# the session


@pytest.mark.parametrize(
    ("key", "told"),
    [(b'"abc"', "abc"), (b"5", ""), (b"null", ""), (b'""', ""), (b'"%b"' % (b"x" * 5000), ""), (b'{"a":1}', "")],
)
def test_the_key_of_the_prompts_cache_may_tell_the_session(key, told):
    assert RESPONSES.user_id(read_body(b'{"prompt_cache_key":%b}' % key)) == told


def test_no_key_tells_no_session():
    assert RESPONSES.user_id(read_body(b'{"metadata":{"user_id":"x"},"user":"y"}')) == ""
