"""What is kept of the content: recorded traffic through a real gateway, whole and cut, under every policy."""

import asyncio
import hashlib
import hmac
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aibridge.cli import main
from aibridge.config import SIMULATOR_API_KEY
from aibridge.credentials import hint
from aibridge.stores.sqlite import querying

HERE = Path(__file__).parent / "recorded"
THEIRS = Path(__file__).parents[3] / "shared" / "fixtures" / "anthropic"
"""Recorded traffic that is not part of this repository; used where it is there."""

FULL = {"content": {"prompts": "full", "arguments": "full", "thoughts": "full"}}
KEY = "a-key-for-hashes"
HASHED = {"content": {"prompts": "hashed", "arguments": "hashed", "thoughts": "hashed", "hash_key": KEY}}
SECRET = "sk-ant-a-secret-that-comes-back"
PATIENCE = 20.0
PAUSE = b"(here the player waits for its gate)"


def sections(path):
    """Return the parts of a recording, by name."""
    parts = re.split(r"^-- (\S+) --\n", path.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


class Player:
    """An upstream that answers each request with the next of its answers, byte for byte, and may break off."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.gate = asyncio.Event()
        self.serving = set()

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        try:
            while head := await self._head(reader):
                await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
                before, pause, behind = self._next().partition(PAUSE)
                writer.write(before)
                if pause:
                    await self.gate.wait()
                    writer.write(behind)
                await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()

    def _next(self):
        answer = self.answers.pop(0)
        if answer.startswith(b"HTTP/"):
            head, _, body = answer.partition(b"\n\n")
            return head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body
        kind = b"text/event-stream" if answer.startswith(b"event:") else b"application/json"
        size = len(answer.replace(PAUSE, b""))
        return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, size, answer)

    async def _head(self, reader):
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return b""


@pytest.fixture
def play(build_house):
    """Return a context manager that builds a house before a player; keyword arguments are the house's."""

    @asynccontextmanager
    async def play(*answers, **options):
        player = Player(*answers)
        server = await asyncio.start_server(player.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            async with build_house(base_url=url, **{"records": FULL} | options) as house:
                house.player = player
                yield house
        finally:
            server.close()
            await asyncio.gather(*player.serving)

    return play


@pytest.fixture
def send(new_client):
    """Return a function that sends one body to a house, and reads the answer."""

    async def send(house, body, *, stream=True, headers=(), provider="anthropic"):
        async with new_client(house.port) as client:
            await client.ask(f"/{provider}/v1/messages", {**body, "stream": stream}, headers=headers)
            return await client.answer()

    return send


def counts(row):
    usage = row["usage"] or {}
    return tuple(
        usage.get(f"{kind}_tokens") for kind in ("input", "output", "cache_read_input", "cache_creation_input")
    )


def tools(row):
    return [(tool["tool_call_id"], tool["tool"], tool["arguments"]) for tool in row["tools"]]


def thoughts(row):
    return [(thought["thought"], thought["source"]) for thought in row["thoughts"]]


def prompts(row):
    return [prompt["prompt"] for prompt in row["prompts"]]


ANGELS = "how many angels can dance on the head of a pin\n"
CLASSIC = "This is a classic philosophical question about medieval scholasticism. I'll give a thoughtful answer."
FOO = 'The user wants me to read a file called "foo". Let me find and read it.'
INJECTED = "bmcp_coder_coder_list_workspaces"

REPLAYS = [
    (HERE / "one_tool.txtar", "streaming", (7, 52, 12007, 31), "count the words of notes.txt",
     [("toolu_own_1", "Read", '{"path": "/notes.txt"}'), ("toolu_own_2", "Read", "{}")],
     ['To count them I read "notes.txt" - é.']),
    (HERE / "one_tool.txtar", "non-streaming", (8, 71, 12038, 0), "count the words of notes.txt",
     [("toolu_own_3", "Read", '{"path": "/notes.txt", "limit": 1.0}')], ["I read it."]),
    (THEIRS / "single_builtin_tool.txtar", "streaming", (2, 61, 13993, 22), "read the foo file",
     [("toolu_01RX68weRSquLx6HUTj65iBo", "Read", '{"file_path": "/tmp/blah/foo"}')], [FOO]),
    (THEIRS / "single_builtin_tool.txtar", "non-streaming", (5, 84, 23490, 0), "read the foo file",
     [("toolu_01AusGgY5aKFhzWrFBv9JfHq", "Read", '{"file_path":"/tmp/blah/foo"}')], [FOO]),
    (THEIRS / "simple.txtar", "streaming", (18, 240, 0, 0), ANGELS, [], [CLASSIC]),
    (THEIRS / "simple.txtar", "non-streaming", (18, 254, 0, 0), ANGELS, [], [CLASSIC]),
    (THEIRS / "haiku_simple.txtar", "streaming", (18, 240, 0, 0), ANGELS, [], [CLASSIC]),
    (THEIRS / "haiku_simple.txtar", "non-streaming", (18, 254, 0, 0), ANGELS, [], [CLASSIC]),
    (THEIRS / "single_injected_tool.txtar", "streaming", (7545, 74, 0, 0), "list coder workspace IDs for admin",
     [("toolu_01TSQLR6R6wBUqoxGPjQKDAj", INJECTED, '{"owner": "admin"}')], []),
    (THEIRS / "single_injected_tool.txtar", "non-streaming", (7545, 75, 0, 0), "list coder workspace IDs for admin",
     [("toolu_01QjNz5b3HxAqAccTVnSMsKP", INJECTED, '{"owner":"admin"}')], []),
]  # fmt: skip
"""Output counts are those of the last message_delta: cumulative, and not to be added to message_start's."""


def compact(calls):
    """The recordings are indented where the wire was not."""
    return [(call_id, name, json.loads(arguments)) for call_id, name, arguments in calls]


@pytest.mark.parametrize(
    ("path", "section", "usage", "prompt", "calls", "thinking"),
    REPLAYS,
    ids=[f"{path.parent.name}-{path.stem}-{section}" for path, section, *_ in REPLAYS],
)
async def test_recorded_traffic_is_counted_once_and_kept_whole(
    play, send, path, section, usage, prompt, calls, thinking
):
    if not path.exists():
        pytest.skip("this recording is not here")
    parts = sections(path)
    answer = parts[section].strip().encode() + b"\n\n"
    async with play(answer) as house:
        got = await send(house, json.loads(parts["request"]), stream=section == "streaming")
        assert got.body == answer
        [row] = await house.exported(ended=1)
    assert (row["termination"], row["usage_source"], counts(row)) == ("completed", "provider_final", usage)
    assert prompts(row) == [prompt]
    assert compact(tools(row)) == compact(calls)
    if path.parent == HERE:
        assert tools(row) == calls
    assert thoughts(row) == [(text, "thinking") for text in thinking]
    assert {fact["message_id"] for fact in row["tools"] + row["thoughts"]} <= {row["message_id"]}


TURNS = [
    (HERE / "one_tool.txtar", "toolu_own_2", (7 + 90, 52 + 9)),
    (THEIRS / "single_injected_tool.txtar", "toolu_01TSQLR6R6wBUqoxGPjQKDAj", (7545 + 7763, 74 + 128)),
]


@pytest.mark.parametrize(("path", "tool_call_id", "totals"), TURNS, ids=[path.stem for path, *_ in TURNS])
async def test_two_turns_are_one_thread_and_summed_once(play, send, capsys, path, tool_call_id, totals):
    if not path.exists():
        pytest.skip("this recording is not here")
    parts = sections(path)
    body = json.loads(parts["request"])
    result = {"type": "tool_result", "tool_use_id": tool_call_id, "content": "five words"}
    turn = [*body["messages"], {"role": "assistant", "content": "…"}, {"role": "user", "content": [result]}]
    answers = (parts["streaming"].strip().encode() + b"\n\n", parts["streaming/tool-call"].strip().encode() + b"\n\n")
    async with play(*answers) as house:
        await send(house, body)
        await send(house, {**body, "messages": turn})
        first, second = await house.exported(ended=2)
        assert main(["sessions", "--records", house.records, "--json"]) == 0
        (session,) = json.loads(capsys.readouterr().out)
        assert main(["usage", "--records", house.records, "--by", "model", "--json"]) == 0
        (usage,) = json.loads(capsys.readouterr().out)
    assert second["correlating_tool_call_id"] == tool_call_id
    assert (second["thread_parent_id"], second["thread_root_id"]) == (first["id"], first["id"])
    assert (first["thread_parent_id"], first["thread_root_id"]) == (None, None)
    assert (len(prompts(first)), prompts(second)) == (1, [])  # the second turn is nobody's question
    assert [one["id"] for thread in session["threads"] for one in thread["interceptions"]] == [
        first["id"],
        second["id"],
    ]
    assert (session["input_tokens"], session["output_tokens"]) == totals
    assert (usage["requests"], usage["input_tokens"], usage["output_tokens"]) == (2, *totals)


async def test_errors_keep_the_prompt_and_what_was_counted(play, send):
    """A stream that breaks off after message_start is billed: what it told is kept, and marked as partial."""
    start = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"m",'
        b'"usage":{"input_tokens":18,"output_tokens":1}}}\n\n'
    )
    error = b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "Overloaded"}}\n\n'
    refused = b'HTTP/1.1 400 Bad Request\ncontent-type: application/json\ncontent-length: 12\n\n{"type":"x"}'
    body = {"model": "m", "messages": [{"role": "user", "content": "yo"}]}
    async with play(start + error, refused) as house:
        await send(house, body)
        await send(house, body)
        first, second = await house.exported(ended=2)
    assert (first["cause"], first["usage_source"], counts(first)[:2]) == ("error_event", "provider_partial", (18, 1))
    assert (second["cause"], second["usage_source"], second["usage"]) == ("http_status", "none", None)
    assert prompts(first) == prompts(second) == ["yo"]


async def test_a_request_that_reaches_nobody_keeps_its_prompt(build_house, send):
    async with build_house(base_url="http://127.0.0.1:1", records=FULL) as house:
        answer = await send(house, {"model": "m", "messages": [{"role": "user", "content": "yo"}]})
        assert answer.status == 502
        [row] = await house.exported(ended=1)
    assert (row["cause"], prompts(row), row["message_id"]) == ("connect_failed", ["yo"], None)


async def test_a_cut_stream_keeps_every_block_that_was_whole(play, send):
    """At each event: the tool that a client may have run is there, with the arguments that it saw."""
    parts = sections(HERE / "one_tool.txtar")
    events = [event + "\n\n" for event in parts["streaming"].strip().split("\n\n")]
    whole = [("toolu_own_1", "Read", '{"path": "/notes.txt"}'), ("toolu_own_2", "Read", "{}")]
    cuts = ["".join(events[:size]).encode() for size in range(1, len(events))]
    async with play(*cuts) as house:
        for _cut in cuts:
            await send(house, json.loads(parts["request"]))
        rows = await house.exported(ended=len(cuts))
    for row, cut in zip(rows, cuts, strict=True):
        stops = cut.count(b"event: content_block_stop")
        assert row["cause"] == "truncated"
        assert tools(row) == whole[: max(0, stops - 1)]
        assert len(thoughts(row)) == min(stops, 1)
        assert row["usage_source"] == "provider_partial"
        assert counts(row) == (7, 52 if b"message_delta" in cut else 4, 12007, 31)


async def test_a_client_may_answer_a_tool_while_the_stream_that_called_it_is_open(play, send, new_client):
    """A fact is on the record before its client sees the block's end; so the answer finds its thread."""
    parts = sections(HERE / "one_tool.txtar")
    events = parts["streaming"].strip().encode() + b"\n\n"
    before, stop, behind = events.partition(b'"index":1     }\n\n')
    body = json.loads(parts["request"])
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_own_1", "content": "x"}]}
    second = parts["streaming/tool-call"].strip().encode() + b"\n\n"
    async with play(before + stop + PAUSE + behind, second) as house:
        async with new_client(house.port) as client:
            await client.ask("/anthropic/v1/messages", {**body, "stream": True})
            await client.read_until(stop)
            await send(house, {**body, "messages": [*body["messages"], result]})
            calling, answering = await house.exported(ended=1)
            house.player.gate.set()
            await client.answer()
        await house.outcomes.wait(ended=2)
    assert (calling["ended_at"], tools(calling)) == (None, [("toolu_own_1", "Read", '{"path": "/notes.txt"}')])
    assert (answering["thread_parent_id"], answering["termination"]) == (calling["id"], "completed")


# policies

CANARIES = ("count the words", "notes.txt", "To count them", "I read it")


async def run_one(play, send, **options):
    """Replay the recording in both ways; return the rows, what all files beside them hold, and what the log said."""
    parts = sections(HERE / "one_tool.txtar")
    answers = (parts["streaming"].strip().encode() + b"\n\n", parts["non-streaming"].encode())
    headers = options.pop("headers", ())
    async with play(*answers, **options) as house:
        await send(house, json.loads(parts["request"]), headers=headers)
        await send(house, json.loads(parts["request"]), stream=False, headers=headers)
        rows = await house.exported(ended=2)
        log = house.log.getvalue()
        stored = b"".join(path.read_bytes() for path in Path(house.records).parent.rglob("*") if path.is_file())
    return rows, stored, log


async def test_by_default_nothing_of_the_content_is_kept(play, send):
    rows, stored, log = await run_one(play, send, records={})
    assert [tools(row) for row in rows] == [
        [("toolu_own_1", "Read", None), ("toolu_own_2", "Read", None)],
        [("toolu_own_3", "Read", None)],
    ]
    assert [(prompts(row), thoughts(row)) for row in rows] == [([], []), ([], [])]
    for canary in CANARIES:
        assert canary.encode() not in stored
        assert canary not in log


async def test_nothing_of_the_content_is_in_the_log_even_where_all_is_kept(play, send):
    rows, stored, log = await run_one(play, send)
    assert prompts(rows[0]) == ["count the words of notes.txt"]
    for canary in CANARIES:
        assert canary.encode() in stored
        assert canary not in log


async def test_hashed(play, send):
    rows, stored, _ = await run_one(play, send, records=HASHED)

    def hashed(text):
        digest = hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()
        return f"hmac-sha256:{digest}:{len(text.encode())}"

    assert prompts(rows[0]) == prompts(rows[1]) == [hashed("count the words of notes.txt")]
    assert thoughts(rows[0]) == [(hashed('To count them I read "notes.txt" - é.'), "thinking")]
    assert tools(rows[0])[0] == ("toolu_own_1", "Read", hashed('{"path": "/notes.txt"}'))
    for canary in CANARIES:
        assert canary.encode() not in stored


async def test_a_provider_and_an_actor_may_have_policies_of_their_own(play, send):
    options = {
        "records": {"content": {"thoughts": "full"}},
        "provider": {"anthropic": {"content": {"prompts": "full"}}},
        "auth": {
            "keys": [
                {"name": "alice", "key": "key-alice"},
                {"name": "bob", "key": "key-bob", "content": {"prompts": "off", "arguments": "full"}},
            ]
        },
    }
    rows, *_ = await run_one(play, send, headers=[("x-api-key", "key-alice")], **options)
    assert (rows[0]["actor_id"], prompts(rows[0])) == ("alice", ["count the words of notes.txt"])
    assert ([call[2] for call in tools(rows[0])], len(thoughts(rows[0]))) == ([None, None], 1)
    rows, *_ = await run_one(play, send, headers=[("x-api-key", "key-bob")], **options)
    bob = [row for row in rows if row["actor_id"] == "bob"]
    assert (prompts(bob[0]), len(thoughts(bob[0]))) == ([], 1)
    assert [call[2] for call in tools(bob[0])] == ['{"path": "/notes.txt"}', "{}"]


async def test_a_secret_that_an_upstream_echoes_in_the_content_is_not_kept(play, send):
    """Relayed it is, as every text of a model; recorded it is not."""
    parts = sections(HERE / "one_tool.txtar")
    answers = [
        parts[name].strip().replace("tes.txt", SECRET).replace("read it", SECRET).encode() + b"\n\n"
        for name in ("streaming", "non-streaming")
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": "yo"}]}
    async with play(*answers, provider={"anthropic": {"api_key": SECRET}}) as house:
        assert (await send(house, body)).body == answers[0]
        assert (await send(house, body, stream=False)).body == answers[1]
        rows = await house.exported(ended=2)
        files = [path for path in Path(house.records).parent.rglob("*") if path.is_file()]
        stored = b"".join(path.read_bytes() for path in files if path.name != "aibridge.yaml")
    assert [(len(tools(row)), len(thoughts(row))) for row in rows] == [(2, 1), (1, 1)]
    assert hint(SECRET) in tools(rows[0])[0][2]
    assert SECRET.encode() not in stored
    assert SECRET not in house.log.getvalue()


# the rest of the way


async def test_sessions_and_clients(play, send):
    answer = sections(HERE / "one_tool.txtar")["streaming"].strip().encode() + b"\n\n"
    body = {"model": "m", "messages": [{"role": "user", "content": "yo"}]}
    agent = ("user-agent", "claude-cli/2.1.330 (external, sdk-cli)")
    user_id = {"metadata": {"user_id": json.dumps({"device_id": "d", "session_id": "in-the-body"})}}
    async with play(answer, answer, answer) as house:
        await send(house, body, headers=[agent, ("X-Claude-Code-Session-Id", "in-a-header")])
        await send(house, {**body, **user_id}, headers=[agent])
        await send(house, {**body, **user_id})
        rows = await house.exported(ended=3)
    assert [(row["client"], row["session_id"]) for row in rows] == [
        ("Claude Code", "in-a-header"),
        ("Claude Code", "in-the-body"),
        ("Unknown", None),
    ]
    assert {(row["credential_kind"], row["credential_hint"]) for row in rows} == {
        ("centralized", hint(SIMULATOR_API_KEY))
    }


TOOLS = [{"name": "get_weather", "description": "x", "input_schema": {"type": "object", "properties": {"place": {}}}}]


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
@pytest.mark.parametrize("stream", [True, False])
async def test_tools_and_thoughts_of_both_kinds_of_provider(build_house, ask, provider, stream):
    async with build_house(records=FULL) as house:
        answer = await ask(
            house, provider, stream=stream, tools=TOOLS, thinking={"type": "enabled", "budget_tokens": 9}
        )
        [row] = await house.exported(ended=1)
    assert answer.status == 200
    assert row["termination"] == "completed"
    assert prompts(row) == ["hello"]
    [(tool_call_id, name, arguments)] = tools(row)
    assert (tool_call_id.startswith("toolu_"), name) == (True, "get_weather")
    said = json.loads(arguments)
    assert said == json.loads(answer.body)["content"][-1]["input"] if not stream else isinstance(said, dict)
    assert thoughts(row) == [("The user asks something. I think about it for three deltas.", "thinking")]
    assert counts(row)[1] > 0


async def test_what_is_too_old_goes_while_the_gateway_runs(build_house, ask, monkeypatch):
    monkeypatch.setattr("aibridge.retention.LOOK_EVERY_S", 0.02)
    async with build_house(records={"retention_days": 1e-6, **FULL}) as house:  # 0.09 s
        await ask(house, "anthropic")
        async with asyncio.timeout(PATIENCE):
            while await house.exported(ended=1):  # asked again: nobody tells when another thread has deleted
                pass
        with querying(house.records) as query:
            assert query("SELECT * FROM user_prompts", ()) == []
