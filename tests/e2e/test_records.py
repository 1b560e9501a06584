"""The rows G3 and G7 of the outcome matrix: a process that is killed, and records that cannot be written."""

import asyncio
import resource
import signal
import sqlite3
import urllib.request
from contextlib import closing

import pytest
from api_kit import ALL, each
from record_kit import record_of
from waiting_kit import until

from aibridge.audit import audit

PATIENCE = 30.0
VERSION = ("anthropic-version", "2023-06-01")


def kill(process):
    process.send_signal(signal.SIGKILL)
    return process.wait()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@each(*ALL)
async def test_g3_a_killed_process(serve, build_house, new_client, records, api, stream):
    async with serve() as (process, port, simulator, _), new_client(port) as done, new_client(port) as cut:
        await done.ask(api.path, api.body(), headers=api.headers)
        finished = await done.answer()
        assert api.has_ended_well(finished.body)
        fault = ("x-sim-fault", "stall@5" if stream else "no_head")
        await cut.ask(api.path, api.body(stream=stream), headers=[fault, *api.headers])
        if stream:
            await cut.read_until(api.delta)
        else:
            await simulator.ledger.wait_for_arrivals(2)
        await kill(process)
    assert len(audit(records).waiting) == 1
    async with build_house() as house:
        books = await house.books()
        books.check("gateway_error", "crashed", health="neither", error="the gateway's process ended")
        assert books.record["provider"] == api.provider
        assert books.record["ended_at"] >= books.record["started_at"]
        kept = record_of(records, finished.headers["x-aibridge-id"])
        assert (kept["termination"], kept["usage_source"]) == ("completed", "provider_final")
        assert kept["input_tokens"] > 0
        assert kept["output_tokens"] > 0
        result = audit(records)
        assert (result.started, result.ended["completed"], result.ended["failed"]) == (2, 1, 1)
        assert result.differences == result.waiting == []


async def test_g3_what_a_long_stream_had_seen_is_told_after_a_kill(
    serve, build_house, new_client, request_body, records
):
    async with serve(timeouts={"ping": 1}) as (process, port, *_), new_client(port) as one, new_client(port) as other:
        streams = dict(zip(("anthropic", "bedrock"), (one, other), strict=True))
        for provider, client in streams.items():
            headers = [("x-sim-fault", "stall@5"), VERSION]
            await client.ask(f"/{provider}/v1/messages", request_body(provider), headers=headers)
        noted = 0
        while noted < len(streams):  # pings come meanwhile, and are none of the upstream's events
            for client in streams.values():
                await client.read_some()
            with closing(sqlite3.connect(records)) as db:
                noted = db.execute("SELECT count(*) FROM interceptions WHERE events IS NOT NULL").fetchone()[0]
        await kill(process)
    async with build_house() as house:
        assert await asyncio.to_thread(house.app.recorder.flush)
        with closing(sqlite3.connect(records)) as db:
            db.row_factory = sqlite3.Row
            rows = {row["provider"]: row for row in db.execute("SELECT * FROM interceptions")}
        assert rows.keys() == streams.keys()
        for row in rows.values():
            assert (row["termination"], row["cause"]) == ("gateway_error", "crashed")
            assert (row["events"], row["last_event"], row["http_status"]) == (5, "content_block_delta", 200)
            assert (row["terminal_event_seen"], row["bytes_in"] > 300, row["bytes_out"] > 300) == (0, True, True)
            assert 0 < row["time_to_first_event"] < row["duration"]
            assert row["upstream_request_id"]
        assert audit(records).differences == []


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@each(*ALL)
async def test_g7_where_it_must_be_recorded_and_cannot(build_house, ask, records, api, stream):
    sections = {"on_failure": "fail_closed", "journal_max_bytes": "64KiB"}
    async with build_house(records=sections) as house:
        assert await asyncio.to_thread(house.app.recorder.flush)
        with closing(sqlite3.connect(records, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = await ask(house, api.name, stream=stream)
            asked = 1
            while answer.status == 200:
                contacted = house.simulator.accepted, len(house.outcomes.attempts)
                answer = await ask(house, api.name, stream=stream)
                asked += 1
            other.execute("ROLLBACK")
        assert answer.status == 503
        error = api.said(answer.body)
        assert error.kind == api.kind("overloaded_error", streaming=False)
        assert (house.simulator.accepted, len(house.outcomes.attempts)) == contacted
        books = await house.books(ended=asked)
        assert error.request_id == books.interception.id == answer.headers["x-aibridge-id"]
        books.check("gateway_error", "recording_failed", health="neither", error="bound", recorded=False)
        assert house.metric("aibridge_records_dropped_total") == 2
        assert (await ask(house, api.name, stream=stream)).status == 200
        assert await asyncio.to_thread(house.app.recorder.flush)
        result = audit(records)
        assert (result.started, result.ended["completed"], result.differences) == (asked, asked, [])


async def test_where_it_need_not_be_recorded_it_goes_on_and_is_counted(build_house, ask, records):
    async with build_house(records={"journal_max_bytes": "64KiB"}) as house:
        assert await asyncio.to_thread(house.app.recorder.flush)
        with closing(sqlite3.connect(records, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asked = 0
            while not house.metric("aibridge_records_dropped_total"):
                assert (await ask(house, "anthropic")).status == 200
                asked += 1
            assert 0 < house.metric("aibridge_journal_bytes") < 100_000
            assert house.metric("aibridge_journal_age_seconds") > 0
            other.execute("ROLLBACK")
        assert await asyncio.to_thread(house.app.recorder.flush)
        assert house.metric("aibridge_journal_age_seconds") == house.metric("aibridge_journal_bytes") == 0
        result = audit(records)
        assert (result.started, result.ended["completed"], result.differences) == (asked - 1, asked - 1, [])
        assert any(line["message"] == "records are being lost" for line in house.lines())


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux takes a running process's room away")
@pytest.mark.parametrize(("policy", "status"), [("fail_closed", 503), ("fail_open", 200)])
async def test_a_disk_that_is_full_and_has_room_again(serve, new_client, request_body, records, policy, status):
    async def ask(port):
        async with new_client(port) as client:
            await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION])
            return (await client.answer()).status

    async with serve(on_failure=policy) as (process, port, _, admin):
        assert await ask(port) == 200
        before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        assert await ask(port) == status
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)
        assert await ask(port) == 200
        metrics = (await asyncio.to_thread(get, admin + "/metrics")).decode()
        assert "aibridge_records_dropped_total 2.0" in metrics
        process.send_signal(signal.SIGTERM)
        await process.wait()
    result = audit(records)
    assert (result.started, result.ended["completed"], result.differences) == (2, 2, [])


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read()


async def test_what_is_read_on_for_its_tokens_has_not_gone_out(build_house, new_client, request_body):
    async with (
        build_house(provider={"anthropic": {"on_disconnect": "drain"}}) as house,
        new_client(house.port) as client,
    ):
        headers = [("x-sim-fault", "slow:1+size:8000"), ("anthropic-version", "2023-06-01")]
        await client.ask("/anthropic/v1/messages", request_body(stream=False), headers=headers)
        await until(lambda: any(one._relay.bytes_in for one in house.app.gateway._live), pause=0)
        client.close()
        books = await house.books()
        books.check("client_gone", "before_response", health="neither")
        evidence = books.outcome.evidence
        assert (evidence.bytes_out, evidence.bytes_in > 65_536) == (0, True)
