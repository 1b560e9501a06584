"""Recorded traffic of OpenAI's APIs through a real gateway: bytes as they came, counts once, tools and prompts."""

import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest
from api_kit import APIS, OPENAI, each, without_usage

HERE = Path(__file__).parent / "recorded"
THEIRS = Path(__file__).parents[3] / "shared" / "fixtures" / "openai"
"""Recorded traffic that is not part of this repository; used where it is there."""

FULL = {"content": {"prompts": "full", "arguments": "full", "thoughts": "full"}}
KEY = "a-key-for-hashes"
HASHED = {"content": {"prompts": "hashed", "arguments": "hashed", "thoughts": "hashed", "hash_key": KEY}}


def recording(path, section):
    """Return the request of a recording, and the answer in one of its sections."""
    if not path.exists():
        pytest.skip("this recording is not here")
    parts = re.split(r"^-- (\S+) --\n", path.read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    answer = sections[section].strip().encode() + (b"\n\n" if section.startswith("streaming") else b"")
    return json.loads(sections["request"]), answer


async def send(house, new_client, api, body, headers=()):
    async with new_client(house.port) as client:
        await client.ask(APIS[api].path, body, headers=[*APIS[api].headers, *headers])
        return await client.answer()


def learned(row):
    """Return what a row tells: usage as input, cached, output and reasoning; tools; prompts; thoughts."""
    usage = row["usage"]
    counts = usage and (
        usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"],
        usage["extras"].get("reasoning_tokens"),
    )  # fmt: skip
    tools = [(tool["tool_call_id"], tool["tool"], tool["arguments"]) for tool in row["tools"]]
    prompts = [prompt["prompt"] for prompt in row["prompts"]]
    return counts, tools, prompts, [thought["thought"] for thought in row["thoughts"]]


README = "how large is the README.md file in my current path"
SUM = "Is 3 + 5 a prime number? Use the add function to calculate the sum."
ADDING = "The user wants to add 3 and 5. Let me call the add function."
PRINT = "Use the code_exec tool to print hello world to the console."
TEMPLATE = "list the template params for version aa4e30e4-a086-4df6-a364-1343f1458104"
PARAMETERS = ("call_5AroFIQIK3cm3suliZdux0TB", "bmcp_coder_coder_template_version_parameters",
              '{"template_version_id":"aa4e30e4-a086-4df6-a364-1343f1458104"}')  # fmt: skip
LIST = "bmcp_coder_coder_list_workspaces"
ANGELS = "how many angels can dance on the head of a pin\n"
CHAT, RESPONSES = HERE / "chat", HERE / "responses"
BLOCKING, STREAMING = THEIRS / "responses" / "blocking", THEIRS / "responses" / "streaming"
OLD_CHAT = THEIRS / "chatcompletions"
REPLAYS = [
    ("chat", CHAT / "single_builtin_tool.txtar", "streaming", (60, 0, 15, 0),
     [("call_HjeqP7YeRkoNj0de9e3U4X4B", "read_file", '{"path":"README.md"}')], README, []),
    ("chat", CHAT / "single_builtin_tool.txtar", "non-streaming", (60, 0, 15, 0),
     [("call_KjzAbhiZC6nk81tQzL7pwlpc", "read_file", '{"path":"README.md"}')], README, []),
    ("responses", RESPONSES / "blocking_simple.txtar", "non-streaming", (11, 0, 18, 0), [], "tell me a joke", []),
    ("responses", RESPONSES / "streaming_simple.txtar", "streaming", (11, 0, 18, 0), [], "tell me a joke", []),
    ("responses", RESPONSES / "blocking_cached_input_tokens.txtar", "non-streaming", (129, 11904, 44, 0), [],
     "This was a large input...", []),
    ("responses", RESPONSES / "streaming_cached_input_tokens.txtar", "streaming", (1165, 15744, 54, 0), [],
     "Test cached input tokens.", []),
    ("responses", RESPONSES / "blocking_custom_tool.txtar", "non-streaming", (64, 0, 148, 128),
     [("call_haf8njtwrVZ1754Gm6fjAtuA", "code_exec", 'print("hello world")')], PRINT, []),
    ("responses", RESPONSES / "streaming_custom_tool.txtar", "streaming", (64, 0, 340, 320),
     [("call_2gSnF58IEhXLwlbnqbm5XKMd", "code_exec", 'print("hello world")')], PRINT, []),
    ("responses", RESPONSES / "blocking_single_builtin_tool.txtar", "non-streaming", (58, 0, 18, 0),
     [("call_CJSaa2u51JG996575oVljuNq", "add", '{"a":3,"b":5}')], SUM, [ADDING]),
    ("responses", RESPONSES / "streaming_builtin_tool.txtar", "streaming", (58, 0, 18, 0),
     [("call_7VaiUXZYuuuwWwviCrckxq6t", "add", '{"a":3,"b":5}')], SUM, [ADDING]),
    ("chat", OLD_CHAT / "simple.txtar", "streaming", (19, 0, 238, 0), [], ANGELS, []),
    ("chat", OLD_CHAT / "simple.txtar", "non-streaming", (19, 0, 200, 0), [], ANGELS, []),
    ("chat", OLD_CHAT / "single_injected_tool.txtar", "streaming", (4862, 0, 45, 0),
     [("call_0TxntkwDB66KH8z4RwNqeWrZ", LIST, '{"owner":"admin"}')], "list coder workspace IDs for admin", []),
    ("responses", BLOCKING / "single_injected_tool.txtar", "non-streaming", (227, 6144, 75, 25), [PARAMETERS],
     TEMPLATE, []),
    ("responses", BLOCKING / "single_injected_tool.txtar", "non-streaming/tool-call", (612, 6144, 231, 43), [],
     TEMPLATE, []),
    ("responses", STREAMING / "codex_example.txtar", "streaming", (4006, 0, 13, 0), [], "hello",
     ["**Preparing simple response**"]),
    ("responses", STREAMING / "single_injected_tool.txtar", "streaming/tool-call", (319, 6144, 182, 0), [],
     "List my coder templates.", []),
]  # fmt: skip
"""Usage is input (without the cached), cached, output, and of that the reasoning."""


@pytest.mark.parametrize(
    ("api", "path", "section", "usage", "tools", "prompt", "thoughts"),
    REPLAYS,
    ids=[f"{path.parent.name}-{path.stem}-{section}" for _, path, section, *_ in REPLAYS],
)
async def test_recorded_traffic(build_house, new_client, api, path, section, usage, tools, prompt, thoughts):
    request, answer = recording(path, section)
    request["stream"] = section.startswith("streaming")
    ordered = {"stream_options": {"include_usage": True}} if api == "chat" and request["stream"] else {}
    async with build_house(records=FULL) as house:
        house.simulator.replay(answer)
        got = await send(house, new_client, api, {**request, **ordered})
        assert (got.status, got.body) == (200, answer)
        [row] = await house.exported(ended=1)
        assert (row["termination"], row["usage_source"]) == ("completed", "provider_final")
        assert learned(row) == (usage, tools, [prompt], thoughts)
        assert row["message_id"].encode() in answer
        if ordered:
            house.simulator.replay(answer)
            assert (await send(house, new_client, api, request)).body == without_usage(answer)
            _, row = sorted(await house.exported(ended=2), key=lambda row: row["started_at"])
            assert learned(row) == (usage, tools, [prompt], thoughts)


BROKEN = [
    ("chat", CHAT / "stream_error.txtar", "streaming", 200, "error_event", "server_error: The server had an error"),
    ("chat", CHAT / "non_stream_error.txtar", "non-streaming", 400, "http_status", "Input tokens exceed"),
    ("responses", RESPONSES / "streaming_stream_failure.txtar", "streaming", 200, "error_event", "failed to generate"),
    ("responses", RESPONSES / "streaming_http_error.txtar", "streaming", 429, "http_status", "Rate limit exceeded"),
    ("responses", RESPONSES / "blocking_http_error.txtar", "non-streaming", 401, "http_status", "Incorrect API key"),
]


@pytest.mark.parametrize(("api", "path", "section", "status", "cause", "words"), BROKEN)
async def test_recorded_errors_byte_for_byte(build_house, new_client, api, path, section, status, cause, words):
    """`[DONE]` is never invented behind one: a client would take the half answer for a whole one."""
    request, answer = recording(path, section)
    body = answer.partition(b"\n\n")[2].rstrip(b"\n") if answer.startswith(b"HTTP/") else answer
    async with build_house(records=FULL) as house:
        house.simulator.replay(answer)
        got = await send(house, new_client, api, {**request, "stream": section == "streaming"})
        assert (got.status, got.body.rstrip(b"\n")) == (status, body.rstrip(b"\n"))
        books = await house.books()
        health = "neither" if status in {400, 401} else "failure"
        books.check("upstream_error", cause, health=health, error=words)
        [row] = await house.exported(ended=1)
        assert learned(row)[::2] == (None, [request.get("input") or request["messages"][-1]["content"]])


ANSWERS = {
    "chat": lambda call, answer: {
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": answer, "content": "4"},
        ]
    },
    "responses": lambda call, answer: {
        "input": [
            {"role": "user", "content": "hello"},
            call,
            {"type": "function_call_output", "call_id": answer, "output": "4"},
        ]
    },
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@each(*OPENAI)
async def test_two_turns_are_one_thread_of_one_session(build_house, new_client, api, stream):
    headers = [("x-sim-fault", "tool:add+tools:2"), ("session_id", "a-session"), ("originator", "codex_cli_rs")]
    headers += [("user-agent", "codex_cli_rs/0.169.0 (Linux)")]
    async with build_house(records=FULL) as house:
        await send(house, new_client, api.name, api.body(stream=stream), headers)
        [first] = await house.exported(ended=1)
        _, [_, (call_id, tool, arguments)], prompts, _ = learned(first)
        assert (prompts, json.loads(arguments).__class__) == (["hello"], dict)
        call = {"id": call_id, "type": "function", "function": {"name": tool, "arguments": arguments}}
        if api.name == "responses":
            call = {"type": "function_call", "call_id": call_id, "name": tool, "arguments": arguments}
        turn = api.body(stream=stream, **ANSWERS[api.name](call, call_id))
        await send(house, new_client, api.name, turn, headers[1:])
        first, second = sorted(await house.exported(ended=2), key=lambda row: row["started_at"])
    assert second["correlating_tool_call_id"] == call_id
    assert (second["thread_parent_id"], second["thread_root_id"]) == (first["id"], first["id"])
    assert (first["session_id"], first["client"]) == (second["session_id"], second["client"]) == ("a-session", "Codex")
    assert learned(second)[1:3] == ([], [])  # the second turn is nobody's question


CANARIES = (b"Is 3 + 5 a prime", b'{"a":3,"b":5}', b'{\\"a\\":3', b"Let me call the add")


@pytest.mark.parametrize("policy", ["off", "hashed", "full"])
async def test_policies(build_house, new_client, policy):
    sections = {"off": {}, "hashed": HASHED, "full": FULL}[policy]
    async with build_house(records=sections) as house:
        for path, section in (
            ("streaming_builtin_tool", "streaming"),
            ("blocking_single_builtin_tool", "non-streaming"),
        ):
            request, answer = recording(RESPONSES / f"{path}.txtar", section)
            house.simulator.replay(answer)
            await send(house, new_client, "responses", {**request, "stream": section == "streaming"})
        request, answer = recording(CHAT / "single_builtin_tool.txtar", "streaming")
        house.simulator.replay(answer)
        await send(house, new_client, "chat", {**request, "stream": True})
        rows = sorted(await house.exported(ended=3), key=lambda row: row["started_at"])
        stored = b"".join(path.read_bytes() for path in Path(house.records).parent.rglob("*") if path.is_file())
        log = house.log.getvalue().encode()

    def kept(text):
        digest = hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()
        return {"off": None, "hashed": f"hmac-sha256:{digest}:{len(text.encode())}", "full": text}[policy]

    for row in rows[:2]:
        _, [(_, tool, arguments)], prompts, thoughts = learned(row)
        assert (tool, arguments) == ("add", kept('{"a":3,"b":5}'))
        assert (prompts, thoughts) == (([], []) if policy == "off" else ([kept(SUM)], [kept(ADDING)]))
    assert learned(rows[2])[1][0][1:] == ("read_file", kept('{"path":"README.md"}'))
    assert not any(canary in log for canary in (*CANARIES, b"README"))
    assert any(canary in stored for canary in CANARIES) == (policy == "full")
