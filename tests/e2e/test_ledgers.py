"""Three ledgers of the same traffic, kept apart and joined: what the simulator did, what clients saw, what we recorded.

Faults are drawn at random from the outcome matrix, many at once; joining must give no difference.
"""

import asyncio
import random
import sqlite3

import pytest

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
EVENTS = ["half_event", "no_blank_line", "crlf", "comments", "bom"]
SEED = 20261123
REQUESTS = 300
AT_ONCE = 24


@pytest.fixture
def ask_and_maybe_leave(new_client, request_body):
    """Return a function that asks once and says what it saw: finished, told of an error, or left early."""

    async def ask(house, draw):
        provider = draw.choice(["anthropic", "bedrock"])
        fault = draw.choice(ANY + (FRAMES if provider == "bedrock" else EVENTS))
        leaves = draw.random() < 0.15
        async with new_client(house.port) as client:
            headers = [("x-sim-fault", fault), ("anthropic-version", "2023-06-01")]
            await client.ask(f"/{provider}/v1/messages", request_body(provider), headers=headers)
            if leaves:
                await client.read_some()
                draw.choice([client.close, client.reset])()
                return None, "left", fault
            answer = await client.answer()
        saw = "finished" if answer.events[-1:] == ["message_stop"] else "told"
        assert answer.complete
        assert saw == "finished" or answer.status != 200 or answer.events[-1] == "error", fault
        return answer.headers["x-aibridge-id"], saw, fault

    return ask


async def test_three_ledgers_agree(house, ask_and_maybe_leave):
    draw = random.Random(SEED)
    gate = asyncio.Semaphore(AT_ONCE)

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
        if record["termination"] == "completed" and not (row and row.terminal_sent):
            wrong.append(f"completed, but the simulator never sent the last word: {row}")
        if record["termination"] == "upstream_error" and row and row.fault == "clean":
            wrong.append(f"an upstream error, but the simulator did nothing wrong: {record}")
    counted = {status: house.metric("aibridge_interceptions_total", status=status) for status in STATUSES}
    if sum(counted.values()) != REQUESTS or house.metric("aibridge_interceptions_inflight"):
        wrong.append(f"counted {counted}")
    return wrong


STATUSES = ("completed", "failed", "client_gone")
