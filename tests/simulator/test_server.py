"""Connections, choices and the end of a simulator."""

import asyncio
import json
import logging
import re

import pytest

from aibridge.simulator.connection import Connection
from aibridge.simulator.faults import UnknownFault
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.simulator.values import Shape

KEY = ("x-api-key", "sk-test")
VERSION = ("anthropic-version", "2023-06-01")


async def test_a_connection_serves_many(simulator, connect, new_request):
    async with connect(simulator) as client:
        for api, streaming in [("anthropic", True), ("bedrock", True), ("anthropic", False), ("bedrock", False)]:
            await client.send("POST", *new_request(simulator, api, streaming=streaming))
            assert (await client.answer()).complete
    rows = await simulator.ledger.wait_for(4)
    assert {row.connection for row in rows} == {1}
    assert [row.exchange for row in rows] == [1, 2, 3, 4]
    assert {row.ending for row in rows} == {"kept_alive"}
    assert simulator.accepted == 1


async def test_the_peer_says_close(simulator, connect, new_request):
    async with connect(simulator) as client:
        target, headers, body = new_request(simulator, "anthropic")
        await client.send("POST", target, [*headers, ("connection", "close")], body)
        answer = await client.answer()
        assert answer.complete
        assert answer.headers["connection"] == "close"
        assert await client.reader.read() == b""
    (row,) = await simulator.ledger.wait_for(1)
    assert row.ending == "closed"


async def test_pipelined_requests_are_answered_in_order(simulator, connect, new_request):
    async with connect(simulator) as client:
        await client.send("POST", *new_request(simulator, "anthropic", streaming=False, max_tokens=1))
        await client.send("POST", *new_request(simulator, "anthropic", streaming=False, max_tokens=2))
        rows = await simulator.ledger.wait_for(2)
    assert [row.exchange for row in rows] == [1, 2]
    assert rows[0].request_sha256 != rows[1].request_sha256


async def test_a_body_in_chunks_and_an_invitation(simulator, connect, new_request):
    target, headers, body = new_request(simulator, "anthropic")
    async with connect(simulator) as client:
        lines = [f"POST {target} HTTP/1.1", "host: x", "transfer-encoding: chunked", "expect: 100-continue"]
        lines += [f"{name}: {value}" for name, value in headers]
        client.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for part in (body[:10], body[10:]):
            client.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        client.writer.write(b"0\r\n\r\n")
        assert (await client.answer()).complete
    (row,) = await simulator.ledger.wait_for(1)
    assert row.request_bytes == len(body)


async def test_http_1_0_gets_no_chunks(simulator, connect, new_request):
    target, headers, body = new_request(simulator, "anthropic")
    async with connect(simulator) as client:
        lines = [f"POST {target} HTTP/1.0", "host: x", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        client.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        answer = await client.answer()
    assert (answer.closed, answer.status) == (True, 200)
    assert "transfer-encoding" not in answer.headers
    assert answer.events[-1][0] == "message_stop"


async def test_head_gets_no_body(simulator, connect):
    async with connect(simulator) as client:
        await client.send("HEAD", "/", [])
        assert (await client.answer(head=True)).status == 200
        await client.send("HEAD", "/v1/models", [KEY, VERSION])
        answer = await client.answer(head=True)
        assert int(answer.headers["content-length"]) > 100
        assert answer.body == b""
        await client.send("GET", "/v1/models", [KEY, VERSION])
        assert (await client.answer()).document["data"], "the connection is still good"


async def test_nonsense_gets_a_bare_400(simulator, connect):
    async with connect(simulator) as client:
        client.writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        answer = await client.answer()
    assert answer.status == 400
    assert simulator.ledger.total == 0


async def test_a_head_too_large(simulator, connect):
    async with connect(simulator) as client:
        await client.send("GET", "/", [(f"x-{number}", "v" * 30_000) for number in range(10)])
        assert (await client.answer()).status == 400


async def test_a_body_too_large_is_read_and_refused(start, ask):
    simulator = await start(max_body_bytes=1000)
    answer = await ask(simulator, "anthropic", system="x" * 500_000)
    assert answer.status == 413
    assert answer.document["error"]["type"] == "request_too_large"
    answer = await ask(simulator, "bedrock", system="x" * 500_000)
    assert answer.status == 413
    rows = await simulator.ledger.wait_for(2)
    assert [row.request_bytes for row in rows] == [0, 0], "nothing of it was kept"


async def test_a_bug_is_said_aloud(simulator, connect, new_request, monkeypatch, caplog):
    def broken(*_, **__):
        raise KeyError("a bug")

    monkeypatch.setattr(simulator, "answer", broken)
    with caplog.at_level(logging.ERROR):
        async with connect(simulator) as client:
            await client.send("POST", *new_request(simulator, "anthropic"))
            answer = await client.answer()
    assert answer.raw == b""
    assert "the simulator failed" in caplog.text


async def test_words_in_the_model(simulator, ask, connect, sign):
    answer = await ask(simulator, "anthropic", model="claude-sim+truncate@2")
    assert len(answer.events) == 2
    assert b'"model":"claude-sim"' in answer.body
    answer = await ask(simulator, "anthropic", model="sim-status:529", streaming=False)
    assert answer.status == 529
    async with connect(simulator) as client:
        target = "/model/claude-sim%2Btruncate%403/invoke-with-response-stream"
        body = b'{"anthropic_version":"bedrock-2023-05-31","max_tokens":5,"messages":[]}'
        await client.send("POST", target, sign(simulator, target, body), body)
        assert len((await client.answer()).frames) == 3
    rows = await simulator.ledger.wait_for(3)
    assert [row.fault for row in rows] == ["truncate@2", "status:529", "truncate@3"]
    assert [row.model for row in rows] == ["claude-sim+truncate@2", "sim+status:529", "claude-sim+truncate@3"]


async def test_the_queue_and_who_wins(simulator, ask, connect):
    simulator.play("status:500")
    simulator.play("status:503", times=2)
    async with connect(simulator) as client:  # takes nothing from the queue: it asks for no message
        await client.send("GET", "/v1/models", [KEY, VERSION])
        assert (await client.answer()).status == 200
    assert (await ask(simulator, "anthropic", "status:404")).status == 404, "the header wins"
    found = [(await ask(simulator, "anthropic", model="sim-status:402")).status for _ in range(4)]
    assert found == [500, 503, 503, 402], "then the queue, then the model"


async def test_play_from_now_on_until_cleared(simulator, ask):
    simulator.play("status:529", times=None)
    assert [(await ask(simulator, "bedrock")).status for _ in range(3)] == [529] * 3
    simulator.clear()
    assert (await ask(simulator, "bedrock")).status == 200
    with pytest.raises(UnknownFault):
        simulator.play("explode")


async def test_pace(start, ask):
    simulator = await start(shape=Shape(deltas=4, pace_s=0.01))
    await ask(simulator, "anthropic")
    (row,) = await simulator.ledger.wait_for(1)
    assert row.events == 10
    assert row.ended_at - row.first_byte_at >= 0.09


async def test_the_peer_goes_in_the_middle(simulator, connect, new_request):
    async with connect(simulator) as client:
        await client.send("POST", *new_request(simulator, "anthropic", "slow:50+many:1000"))
        await client.answer(lambda answer: len(answer.chunks) > 2)
        client.writer.transport.abort()
    (row,) = await simulator.ledger.wait_for(1)
    assert row.ending in ("peer_closed", "peer_reset")
    assert 2 < row.events < 900
    assert not row.terminal_sent


async def test_a_peer_that_does_not_read_costs_no_memory(simulator, connect, new_request, monkeypatch, patience):
    full, pause_writing = asyncio.Event(), Connection.pause_writing

    def paused(connection):
        pause_writing(connection)
        full.set()

    monkeypatch.setattr(Connection, "pause_writing", paused)
    async with connect(simulator) as client:
        client.writer.transport.pause_reading()
        await client.send("POST", *new_request(simulator, "anthropic", "endless"))
        await simulator.ledger.wait_for_arrivals(1)
        await asyncio.wait_for(full.wait(), patience)
        (connection,) = simulator._connections
        assert connection._transport.get_write_buffer_size() < 1_000_000
    (row,) = await simulator.ledger.wait_for(1)
    assert row.ending in ("peer_closed", "peer_reset")


async def test_stopping_ends_what_is_played(start, connect, new_request):
    simulator = await start()
    async with connect(simulator) as client:
        await client.send("POST", *new_request(simulator, "anthropic", "stall@1"))
        await client.answer(lambda answer: answer.chunks)
        await simulator.stop()
        assert (await client.answer()).closed
    (row,) = simulator.ledger.rows
    assert row.ending == "stopped"
    assert simulator.connections == 0
    await simulator.stop()


async def test_a_port_from_the_kernel_or_a_given_one():
    async with Simulator() as first:
        assert first.url == f"http://127.0.0.1:{first.port}"
        assert first.port
        with pytest.raises(OSError, match=r"(?i)in use"):
            await Simulator(Settings()).start(port=first.port)


async def test_secrets_stay_out_of_the_ledger(simulator, ask):
    await ask(simulator, "anthropic")
    await ask(simulator, "bedrock")
    text = json.dumps([row.headers for row in await simulator.ledger.wait_for(2)])
    assert "sk-test-01234" not in text
    assert "Signature=" not in text
    assert "…6789" in json.loads(json.dumps(text)).encode().decode("unicode_escape")


async def test_plays_for_one_key(simulator, connect, new_request):
    target, headers, body = new_request(simulator, "anthropic", streaming=False)
    others = [pair for pair in headers if pair[0] != "x-api-key"]
    simulator.play("status:429:7", None, key="sk-limited")
    simulator.play("status:401", 1, key="sk-refused")
    statuses = {}
    async with connect(simulator) as client:
        for key in ("sk-good", "sk-limited", "sk-refused", "sk-limited", "sk-refused", "sk-good"):
            await client.send("POST", target, [*others, ("x-api-key", key)], body)
            statuses.setdefault(key, []).append((await client.answer()).status)
    assert statuses == {"sk-good": [200, 200], "sk-limited": [429, 429], "sk-refused": [401, 200]}


@pytest.mark.parametrize(
    ("api", "name", "reset", "restored"),
    [
        ("anthropic", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset", r"\d{4}-.*Z"),
        ("chat", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "1m0s"),
    ],
)
async def test_a_key_that_has_little_left(simulator, connect, new_request, api, name, reset, restored):
    simulator.play("left:3", 1)
    async with connect(simulator) as client:
        await client.send("POST", *new_request(simulator, api))
        answer = await client.answer()
    assert (answer.status, answer.headers[name]) == (200, "3")
    assert re.fullmatch(restored, answer.headers[reset])
