"""`aibridge replay` on what a gateway has dumped: whatever the upstream did, this build reads it as it was recorded.

What it does with an answer is done by the exchange, too: should one of them change without the other, a row here fails.
"""

import asyncio
import json

import pytest
from api_kit import ALL, APIS
from mcp_kit import serving, tools_server
from silence_kit import silence_of
from waiting_kit import until

from aibridge.cli import main
from aibridge.stores.sqlite import changing

ENDS = [
    "clean", "many:300+pings", "terminal_then_rst", "truncate@3", "cut@3", "close_in_body@200", "rst@3", "stall@2",
    "bad_json@4", "error_event@3", "close_before_head", "no_head", "head_only", "status:429:7", "status:500",
    "status_html:503", "html", "bad_http", "bad_chunk@2", "trailing:2000", "close_delimited", "gzip", "tools:3",
    "too_long", "one_write", "padded+unicode", "stale",
]  # fmt: skip
FRAMES = ["half_frame", "bad_crc@2", "frame_huge@2", "bad_base64@2", "exception:throttlingException@3", "error_frame@2"]
EVENTS = ["half_event", "no_blank_line", "crlf+comments", "bom"]
BODIES = ["clean", "short_json", "broken_json", "status:529", "many:50", "html", "rst@1", "huge:200000"]
OF_CHAT = ["no_done", "no_usage", "usage_every", "usage_in_finish"]


def plays(api):
    more = FRAMES if api == "bedrock" else EVENTS
    return [*ENDS, *more, *(OF_CHAT if api == "chat" else [])]


@pytest.fixture
def dumping(build_house, tmp_path):
    def build(dump=None, **sections):
        return build_house(dump={"path": str(tmp_path / "dump"), **(dump or {})}, **sections)

    return build


async def settle(house, ended):
    """Wait until records and dumps of so many interceptions are on the disk, and return their ids."""
    await house.books(ended=ended)
    assert await asyncio.to_thread(house.app.dump_files.flush, 20.0)
    return [interception.id for interception, _ in house.outcomes.ended]


@pytest.fixture
def replay(tmp_path, capsys):
    """Return a function that replays an interception, and gives the exit status, and what was printed as JSON."""

    def replay(interception_id, *options):
        status = main(["replay", interception_id, "--config", str(tmp_path / "aibridge.yaml"), *options])
        out, err = capsys.readouterr()
        return status, json.loads(out) if "--json" in options and out else out, err

    return replay


@pytest.mark.parametrize("api", ALL)
async def test_streams_are_read_as_they_were_recorded(dumping, ask, replay, tmp_path, api):
    faults = plays(api)
    async with dumping(timeouts=silence_of(*faults)) as house:
        for fault in faults:
            await ask(house, api, fault)
        ids = await settle(house, len(faults))
        causes = {outcome.cause for _, outcome in house.outcomes.ended}
        dumped = {path.name[:36] for path in (tmp_path / "dump").rglob("*.resp.txt")}
    for fault, interception_id in zip(faults, ids, strict=True):
        status, told, err = replay(interception_id, "--json")
        if interception_id in dumped:
            assert (status, told and told["equal"]) == (0, True), (fault, told)
        else:
            assert (status, told) == (2, ""), fault
            assert "holds no answer to it" in err
    assert len(causes) >= 10


@pytest.mark.parametrize("api", ALL)
async def test_whole_answers_are_read_as_they_were_recorded(dumping, ask, replay, api):
    async with dumping() as house:
        for fault in BODIES:
            await ask(house, api, fault, stream=False)
        ids = await settle(house, len(BODIES))
    for fault, interception_id in zip(BODIES, ids, strict=True):
        status, told, _ = replay(interception_id, "--json")
        assert (status, told["equal"]) == (0, True), (fault, told)


async def test_usage_that_the_client_ordered(dumping, ask, replay):
    async with dumping() as house:
        await ask(house, "chat", stream_options={"include_usage": True})
        await ask(house, "chat")
        ids = await settle(house, 2)
    told = [replay(interception_id, "--json")[1]["attempts"][0] for interception_id in ids]
    assert [attempt["differences"] for attempt in told] == [[], []]
    assert told[0]["record"]["bytes_out"] > told[1]["record"]["bytes_out"]


@pytest.mark.parametrize("provider", [{}, {"anthropic": {"on_disconnect": "drain"}}], ids=["cancel", "drain"])
async def test_a_client_that_left(dumping, new_client, request_body, replay, provider):
    async with dumping(provider=provider) as house:
        async with new_client(house.port) as client:
            headers = [("x-sim-fault", "many:400+slow:2"), *APIS["anthropic"].headers]
            await client.ask("/anthropic/v1/messages", request_body(), headers=headers)
            await client.read_until(b"content_block_delta")
            client.reset()
        (interception_id,) = await settle(house, 1)
        assert house.outcomes.ended[0][1].cause == "disconnected"
    status, told, _ = replay(interception_id, "--json")
    assert (status, told["equal"]) == (0, True), told


async def test_a_client_that_left_before_a_whole_answer_that_was_read_on(
    dumping, new_client, request_body, replay, tmp_path
):
    async with dumping(provider={"anthropic": {"on_disconnect": "drain"}}) as house:
        async with new_client(house.port) as client:
            headers = [("x-sim-fault", "many:100+slow:20"), *APIS["anthropic"].headers]
            await client.ask("/anthropic/v1/messages", request_body(stream=False), headers=headers)
            await until(lambda: list((tmp_path / "dump").rglob("*.resp.txt")))
            client.reset()
        (interception_id,) = await settle(house, 1)
    status, told, _ = replay(interception_id, "--json")
    assert (status, told["equal"]) == (0, True), told
    assert told["attempts"][0]["now"]["cause"] == "before_response"
    assert told["attempts"][0]["now"]["output_tokens"]


async def test_an_error_answer_that_broke_off(dumping, ask, replay):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, dumping(base_url=url) as house:
        await ask(house, "anthropic")
        (interception_id,) = await settle(house, 1)
    status, told, _ = replay(interception_id, "--json")
    assert (status, told["equal"]) == (0, True), told
    assert told["attempts"][0]["now"]["cause"] == "http_status"


async def test_attempts_one_behind_the_other(dumping, ask, replay, tmp_path):
    retries = {"max": 1, "statuses": [500], "backoff": 0.01}
    async with dumping(provider={"anthropic": {"retries": retries}}) as house:
        await ask(house, "anthropic", "status:500")
        (interception_id,) = await settle(house, 1)
    status, told, _ = replay(interception_id, "--json")
    assert (status, [one["number"] for one in told["attempts"]]) == (0, [1, 2])
    assert [one["now"]["cause"] for one in told["attempts"]] == ["http_status", "http_status"]
    (tmp_path / "dump" / "anthropic" / f"{interception_id}-1.resp.txt").unlink()
    status, told, _ = replay(interception_id, "--json")
    assert (status, told["equal"], told["attempts"][1]["differences"]) == (2, None, [])
    assert told["attempts"][0]["missing"] == "an answer came, and the dump does not have it"


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_turns_with_tools_that_the_gateway_ran(dumping, ask, replay, api, stream):
    """What the gateway made of them needs the tools' results; each turn's own end does not."""
    async with serving(tools_server(None)) as url, dumping(mcp={"servers": {"kit": {"url": url}}}) as house:
        house.simulator.play("tools:2", 1)
        await ask(house, api, stream=stream)
        (interception_id,) = await settle(house, 1)
    status, told, _ = replay(interception_id, "--json")
    assert (status, told["equal"]) == (0, True), told
    assert [one["record"]["cause"] for one in told["attempts"]] == ["clean", "clean"]
    assert all("input_tokens" not in one["record"] for one in told["attempts"])


async def test_what_a_person_reads(dumping, ask, replay):
    async with dumping() as house:
        await ask(house, "anthropic", "truncate@20+many:40")
        (interception_id,) = await settle(house, 1)
    status, text, _ = replay(interception_id)
    assert status == 0
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:2] == [interception_id, "anthropic"]
    assert ["1", "message_start"] in lines
    assert any(line[1:] == ["content_block_delta"] and "-" in line[0] for line in lines)
    assert ["cause", "truncated"] in lines
    assert text.endswith("equal: this build reads it as the record says\n")
    assert "\x1b" not in text


async def test_a_build_that_reads_it_otherwise_is_found(dumping, ask, replay, tmp_path):
    """The record is that of a build that saw an event more, and no last word."""
    async with dumping() as house:
        await ask(house, "anthropic")
        (interception_id,) = await settle(house, 1)
    with changing(tmp_path / "records.db") as db:
        db.execute("UPDATE attempts SET termination = 'upstream_error', cause = 'truncated', events = events + 1")
    status, told, _ = replay(interception_id, "--json")
    assert (status, told["equal"]) == (1, False)
    assert told["attempts"][0]["differences"] == ["termination", "cause", "events"]
    status, text, _ = replay(interception_id)
    assert status == 1
    differing = {line.split()[1]: line for line in text.splitlines() if line.startswith("! ")}
    assert differing["cause"].endswith("in the record truncated, of this build clean")
    assert text.endswith("different: this build does not read it as the record says\n")


async def test_a_dump_that_was_cut(dumping, ask, replay):
    async with dumping(dump={"max_body_bytes": "2KiB"}) as house:
        await ask(house, "anthropic", "many:100")
        (interception_id,) = await settle(house, 1)
    status, told, _ = replay(interception_id, "--json")
    assert (status, told["equal"]) == (2, None)
    (attempt,) = told["attempts"]
    assert attempt["missing"].startswith("the dump holds 2048 bytes of ")
    assert attempt["missing"].endswith("dump.max_body_bytes is 2048")
    assert attempt["events"][0] == {"type": "message_start", "count": 1}
    assert replay(interception_id)[1].splitlines()[-1].startswith("it cannot be said")


async def test_a_gateway_that_was_killed(dumping, ask, replay, tmp_path):
    """Of it there is a dump, and the beginning of a record; the end is none that a replay could be compared with."""
    async with dumping() as house:
        await ask(house, "anthropic", "truncate@3")
        (interception_id,) = await settle(house, 1)
    with changing(tmp_path / "records.db") as db:
        db.execute("DELETE FROM attempts")
    status, told, _ = replay(interception_id, "--json")
    assert (status, told["equal"], told["attempts"][0]["record"]) == (2, None, {})
    assert sum(run["count"] for run in told["attempts"][0]["events"]) == 3


async def test_where_there_is_nothing_to_replay(build_house, ask, replay, tmp_path):
    async with build_house() as house:
        await ask(house, "anthropic")
        await house.books()
        (interception_id,) = [interception.id for interception, _ in house.outcomes.ended]
    status, _, err = replay(interception_id)
    assert (status, "dump.path is not configured" in err) == (2, True)
    status, _, err = replay("no-such-id")
    assert (status, "has no such interception" in err) == (2, True)
    file = tmp_path / "aibridge.yaml"
    raw = json.loads(file.read_text())
    file.write_text(json.dumps({**raw, "dump": {"path": str(tmp_path / "dump")}}))
    status, _, err = replay(interception_id)
    assert (status, "it has been deleted" in err) == (2, True)
    (tmp_path / "dump" / "anthropic").mkdir(parents=True)
    (tmp_path / "dump" / "anthropic" / f"{interception_id}-1.resp.txt").write_bytes(b"nonsense")
    status, _, err = replay(interception_id)
    assert (status, err) == (2, "this is no dump of an answer\n")
    del raw["providers"]["anthropic"]
    file.write_text(json.dumps({**raw, "dump": {"path": str(tmp_path / "dump")}}))
    status, _, err = replay(interception_id)
    assert (status, "provider anthropic answered" in err) == (2, True)
