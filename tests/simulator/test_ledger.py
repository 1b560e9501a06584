import asyncio
import io
import json
from dataclasses import replace

import pytest

from aibridge.simulator.ledger import Ledger, Row, mask
from aibridge.simulator.values import Api, Ending

ROW = Row(
    request_id="req_1",
    connection=1,
    exchange=1,
    api=Api.ANTHROPIC,
    method="POST",
    path="/v1/messages",
    model="claude-sim",
    streaming=True,
    fault="clean",
    status=200,
    body_bytes=10,
    body_sha256="00",
    events=3,
    terminal_sent=True,
    request_bytes=2,
    request_sha256="11",
    headers=(("host", "x"),),
    ending=Ending.KEPT_ALIVE,
    at=1.0,
    received_at=2.0,
    first_byte_at=3.0,
    ended_at=4.0,
)


def test_bounded_and_says_so():
    ledger = Ledger(bound=2)
    for number in range(5):
        ledger.add(replace(ROW, exchange=number))
    assert [row.exchange for row in ledger.rows] == [3, 4]
    assert (ledger.total, ledger.dropped) == (5, 3)


def test_the_file_gets_every_row(tmp_path):
    file = io.StringIO()
    ledger = Ledger(bound=1, sink=file)
    ledger.add(ROW)
    ledger.add(replace(ROW, api=Api.BEDROCK, headers=(("x", "é"),)))
    first, second = (json.loads(line) for line in file.getvalue().splitlines())
    assert first["ending"] == "kept_alive"
    assert first["headers"] == [["host", "x"]]
    assert second["api"] == "bedrock"
    ledger.dump(tmp_path / "rows")
    assert (tmp_path / "rows").read_text(encoding="utf-8") == file.getvalue().splitlines(keepends=True)[1]


async def test_waiting_ends_with_the_row():
    ledger = Ledger()
    waiting = [asyncio.create_task(ledger.wait_for(count)) for count in (1, 2)]
    arrival = asyncio.create_task(ledger.wait_for_arrivals(1))
    ledger.arrive()
    await arrival
    ledger.add(ROW)
    assert await waiting[0] == (ROW,)
    assert not waiting[1].done()
    ledger.add(ROW)
    assert await waiting[1] == (ROW, ROW)
    assert await ledger.wait_for(2) == (ROW, ROW), "at once"
    await ledger.wait_for_arrivals(1)


async def test_waiting_gives_up():
    ledger = Ledger()
    for wait in (ledger.wait_for, ledger.wait_for_arrivals):
        with pytest.raises(TimeoutError):
            await wait(1, timeout_s=0.01)
    ledger.arrive()
    ledger.add(ROW)


def test_secrets_are_masked():
    headers = (("x-api-key", "sk-ant-0123456789"), ("authorization", "short"), ("accept", "sk-ant-0123456789"))
    assert mask(headers) == (("x-api-key", "…6789"), ("authorization", "…"), ("accept", "sk-ant-0123456789"))
