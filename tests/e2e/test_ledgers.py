"""Three ledgers of the same traffic, kept apart and joined: what the simulator did, what clients saw, what we recorded.

Faults are drawn at random from the outcome matrix, many at once; joining must give no difference.
"""

import asyncio
import random
import sqlite3

import pytest
from api_kit import APIS

ANY = ["clean", "drip", "split_random:3", "rechunk:5", "one_write", "many:150", "truncate@4", "cut@500", "rst@4"]
ANY += ["error_event@4", "status:429:1", "status:500", "html", "bad_http", "close_before_head", "bad_json@4", "slow:1"]
ANY += [
    "terminal_then_rst",
    "terminal_then_close",
    "trailing:30",
    "close_delimited",
    "bad_chunk@4",
    "no_head",
    "stall@4",
]
FRAMES = ["half_frame", "bad_crc@3", "bad_prelude_crc@5", "exception:throttlingException@3", "error_frame@2"]
EVENTS = ["half_event@4", "no_blank_line@4", "crlf", "comments", "bom"]
CHAT = ["no_done", "usage_every", "usage_in_finish", "no_usage", "half_event", "error_event@3+server:vllm", "pings"]
CHAT += ["no_done+close_delimited", "tools:3"]
RESPONSES = ["error_event:flat@3", "error_event:nested@4", "half_event", "no_usage", "stop:content_filter"]
ONLY = {"anthropic": EVENTS, "bedrock": FRAMES, "chat": EVENTS + CHAT, "responses": EVENTS + RESPONSES}
SEED = 20261123
REQUESTS = 600
AT_ONCE = 24
SILENCE = 4.0
"""Seconds until a silent answer is given up: so many others, at once, are never as late."""


@pytest.fixture
def ask_and_maybe_leave(new_client):
    """Return a function that asks once and says what it saw: finished, told of an error, or left early."""

    async def ask(house, draw):
        name = draw.choice([*ONLY, "copilot-chat", "copilot-responses"])
        api = APIS[name]
        fault = draw.choice(ANY + ONLY[name.removeprefix("copilot-")])
        more = draw.choice([{}, {"stream_options": {"include_usage": True}}]) if api.adds_usage else {}
        leaves = draw.random() < 0.15
        async with new_client(house.port) as client:
            await client.ask(api.path, api.body(**more), headers=[("x-sim-fault", fault), *api.headers])
            if leaves:
                await client.read_some()
                draw.choice([client.close, client.reset])()
                return None, "left", fault
            answer = await client.answer()
        assert answer.complete
        return answer.headers["x-aibridge-id"], what_it_saw(api, answer, fault), fault

    return ask


def what_it_saw(api, answer, fault):
    """Return whether a client finished, or was told of an error; fail where it was neither."""
    if answer.status != 200:
        return "told"
    last = answer.body.rstrip(b"\r\n").replace(b"\r\n", b"\n").rpartition(b"\n\n")[2]
    if last.startswith((api.last_word, b"event: response.incomplete")):
        return "finished"
    if last.startswith((api.error, b"event: error\n")):
        return "told"
    assert api.speaks == "chat", fault  # a whole answer whose server says no last word
    assert b'"finish_reason":"' in answer.body, fault
    return "finished"


async def test_three_ledgers_agree(build_house, ask_and_maybe_leave):
    draw = random.Random(SEED)
    gate = asyncio.Semaphore(AT_ONCE)

    async with build_house(timeouts={"response": SILENCE, "idle": SILENCE}) as house:

        async def one():
            async with gate:
                return await ask_and_maybe_leave(house, draw)

        seen = await asyncio.gather(*(one() for _ in range(REQUESTS)))
        await house.outcomes.wait(ended=REQUESTS)
        assert await asyncio.to_thread(house.app.recorder.flush)
        assert not await asyncio.to_thread(differences, house, seen)


def differences(house, seen):
    """Join the three ledgers; return what does not fit."""
    with sqlite3.connect(house.records) as db:
        db.row_factory = sqlite3.Row
        records = {row["id"]: dict(row) for row in db.execute("SELECT * FROM interceptions")}
    db.close()
    done = {row.request_id: row for row in house.simulator.ledger.rows if row.request_id}
    lines = {line["interception_id"]: line for line in house.lines() if "termination" in line and "attempt" not in line}
    wrong = [f"{len(records)} records, {len(lines)} lines"] if not len(records) == len(lines) == REQUESTS else []
    for id_, saw, fault in seen:
        if id_ is not None and (records[id_]["termination"] == "completed") != (saw == "finished"):
            wrong.append(f"{fault}: the client saw {saw}, the record says {records[id_]}")
    for id_, record in records.items():
        row = done.get(record["upstream_request_id"])
        if record["ended_at"] is None or lines[id_]["cause"] != record["cause"]:
            wrong.append(f"record and line of {id_}: {record['cause']}, {lines[id_]['cause']}")
        unsaid = record["note"] == "missing_done"
        if record["termination"] == "completed" and not (row and (row.terminal_sent or unsaid)):
            wrong.append(f"completed, but the simulator never sent the last word: {row}")
        if record["termination"] == "upstream_error" and row and row.fault == "clean":
            wrong.append(f"an upstream error, but the simulator did nothing wrong: {record}")
    counted = {status: house.metric("aibridge_interceptions_total", status=status) for status in STATUSES}
    if sum(counted.values()) != REQUESTS or house.metric("aibridge_interceptions_inflight"):
        wrong.append(f"counted {counted}")
    return wrong


STATUSES = ("completed", "failed", "client_gone")
