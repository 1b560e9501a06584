"""Several workers behind one port: real processes, killed, stopped and replaced under real traffic."""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from contextlib import asynccontextmanager

import pytest
from gateway_kit import CLIENTS, VERSION, Asking, Gateway, holder, is_there, read_metrics, total
from process_kit import ENVIRONMENT, PATIENCE, run
from record_kit import record_of
from waiting_kit import until

from aibridge.audit import audit
from aibridge.journal import journal_folder, names_in
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.supervisor import MAX_BACKOFF_S

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")

NAMES = ("aibridge_interceptions_started", "aibridge_interceptions", "aibridge_interceptions_inflight")
WHERE = ("provider", "model", "route")


def check_law(metrics, before, most):
    """What was started has ended or is in flight, of which there is what clients ask for; no counter went back."""
    left = {}
    for (name, labels), value in metrics.items():
        where = tuple(dict(labels).get(label) for label in WHERE)
        sign = {f"{NAMES[0]}_total": 1, f"{NAMES[1]}_total": -1, NAMES[2]: -1}.get(name, 0)
        left[where] = left.get(where, 0) + sign * value
    assert set(left.values()) <= {0}
    assert 0 <= total(metrics, NAMES[2]) <= most
    back = {key: (value, metrics.get(key)) for key, value in before.items() if is_counter(key[0])}
    assert {key: pair for key, pair in back.items() if pair[1] is None or pair[1] < pair[0]} == {}


def is_counter(name):
    return name.endswith(("_total", "_count", "_sum", "_bucket"))


@pytest.fixture
def gateway(tmp_path):
    """Return a context manager that runs a gateway of two workers on a simulator; it takes keys of the file."""

    @asynccontextmanager
    async def gateway(**more):
        file, records, anywhere = tmp_path / "workers.yaml", tmp_path / "records.db", {"host": "127.0.0.1", "port": 0}
        async with Simulator(Settings(any_credentials=True)) as simulator:
            providers = {"anthropic": {"base_url": simulator.url, "api_key": "any"}}
            raw = {"listen": anywhere, "admin": anywhere, "records": {"path": str(records)}, "providers": providers}
            file.write_text(json.dumps({**raw, "workers": 2, **more}))
            async with Gateway.serving(file, records) as built:
                yield built

    return gateway


@pytest.fixture
def asking(new_client, request_body):
    return lambda port, fault="": Asking(port, new_client, request_body(), fault)


@asynccontextmanager
async def scraping(admin, most=CLIENTS):
    """Scrape all the time, and hold each scrape against the one before; yields how many there were."""
    scrapes, stopped = [await asyncio.to_thread(read_metrics, admin)], []

    async def scrape():
        while not stopped:
            metrics = await asyncio.to_thread(read_metrics, admin)
            check_law(metrics, scrapes[-1], most)
            scrapes.append(metrics)

    task = asyncio.create_task(scrape())
    try:
        yield scrapes
    finally:
        stopped.append(1)
        async with asyncio.timeout(PATIENCE):
            await task
    assert len(scrapes) > 3


def check_records(gateway, seen, *, crashed):
    result = audit(gateway.records)
    assert result.differences == result.waiting == []
    assert {record_of(gateway.records, one)["termination"] for one in seen} == {"completed"}
    assert result.ended["completed"] >= len(seen)
    assert result.started == result.ended["completed"] + result.ended["failed"] + result.ended["client_gone"]
    assert (result.ended["failed"] > 0) is crashed


async def test_the_port_is_told_once_and_both_workers_serve_it(gateway, asking):
    async with gateway() as house:
        assert house.told("aibridge started") == [await house.hear("aibridge started")]
        assert house.told("aibridge started")[0]["workers"] == 2
        assert len(house.workers) == 2
        assert house.health()[1]["workers"] == {"wanted": 2, "ready": 2, "retiring": 0}
        folder = journal_folder(house.records)
        assert len(names_in(folder)) == 2

        def written():
            return all(path.stat().st_size > 8 for path in folder.glob("*.log"))

        while not written():  # connections are spread at random
            async with asking(house.port) as clients:
                await clients.more(CLIENTS)
        metrics = read_metrics(house.admin)
        assert total(metrics, "aibridge_workers", stage="ready") == 2
        assert total(metrics, "aibridge_build_info") == 1
        assert total(metrics, "process_resident_memory_bytes") > 60_000_000
        house.process.send_signal(signal.SIGTERM)
        assert await house.end() == 0
    check_records(house, clients.seen, crashed=False)


async def test_a_worker_killed_under_load(gateway, asking, new_client, request_body):
    """Each time it is the one that has a certain stream: at any moment the others may be between two answers."""
    # Until a dead worker is found, its streams count as in flight, and their clients may ask again meanwhile.
    most = 2 * (CLIENTS + 1)
    async with gateway() as house:
        async with scraping(house.admin, most) as scrapes, asking(house.port, "slow:5") as clients:
            for kill in range(1, 4):
                await clients.more(20)
                async with new_client(house.port) as watcher:
                    headers = [VERSION, ("x-sim-fault", "stall@5")]
                    await watcher.ask("/anthropic/v1/messages", request_body(), headers=headers)
                    await watcher.read_until(b"event: content_block_delta")
                    victim = holder(house.workers, watcher)
                    os.kill(victim, signal.SIGKILL)
                    assert not (await watcher.answer()).complete
                line = await house.hear("a worker died", kill)
                assert (line["pid"], line["status"]) == (victim, "SIGKILL")
                await house.all_ready()
            await clients.more(20)
        assert clients.broken <= 3 * CLIENTS
        metrics = await asyncio.to_thread(read_metrics, house.admin)
        check_law(metrics, scrapes[-1], 0)
        ended = total(metrics, "aibridge_interceptions_total")
        crashed = total(metrics, "aibridge_interceptions_total", cause="crashed")
        assert total(metrics, "aibridge_interceptions_total", status="completed") >= len(clients.seen)
        assert 3 <= crashed <= 3 * (CLIENTS + 1)
        assert total(metrics, "aibridge_worker_deaths_total") == 3
        house.process.send_signal(signal.SIGTERM)
        assert await house.end() == 0
    check_records(house, clients.seen, crashed=True)
    result = audit(house.records)
    assert abs(result.started - ended) <= 3  # a kill between two books: one each time at most
    assert abs(result.ended["failed"] - crashed) <= 3


async def test_another_serves_the_sockets_of_a_worker_that_cannot_be_replaced(gateway, new_client, request_body):
    async with gateway() as house:
        good = house.file.read_text()
        house.file.write_text("nonsense: true\n")
        (victim, survivor) = house.workers
        os.kill(victim, signal.SIGKILL)
        await house.hear("a worker died", 2)  # the second cannot read its configuration
        assert survivor in house.workers
        for _ in range(40):
            async with new_client(house.port) as client:
                await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION])
                assert (await client.answer()).events[-1] == "message_stop"
        assert house.health()[0] == 200
        house.file.write_text(good)
        await house.all_ready(MAX_BACKOFF_S + PATIENCE)  # the next start is as far off as all this took
        assert survivor in house.workers


async def test_sigterm_lets_streams_end_on_all_workers(gateway, new_client, request_body):
    async with gateway() as house:
        workers = house.workers
        clients = [new_client(house.port) for _ in range(CLIENTS)]
        for client in clients:
            await client.__aenter__()
            await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION, ("x-sim-fault", "slow:100")])
        for client in clients:
            await client.read_until(b"event: content_block_delta")
        assert house.health()[1]["live"] == CLIENTS
        house.process.send_signal(signal.SIGTERM)
        await house.hear("draining")
        status, health = house.health()
        assert (status, health["status"]) == (503, "draining")
        for client in clients:
            assert (await client.answer()).events[-1] == "message_stop"
            client.close()
        assert await house.end() == 0
        assert not any(map(is_there, workers))


async def test_a_second_signal_ends_all_at_once(gateway, new_client, request_body):
    async with gateway(drain_deadline=600) as house, new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION, ("x-sim-fault", "stall@5")])
        await client.read_until(b"event: content_block_delta")
        house.process.send_signal(signal.SIGINT)
        await house.hear("draining")
        house.process.send_signal(signal.SIGINT)
        answer = await client.answer()
        assert answer.last_event["error"]["type"] == "overloaded_error"
        assert await house.end() == 0
    (ended,) = house.told("gateway failed")
    assert ended["cause"] == "draining"


async def test_sigusr2_under_load_fails_no_request_and_cuts_no_stream(gateway, asking, new_client, request_body):
    async with gateway(drain_deadline=1) as house, new_client(house.port) as watcher:
        await watcher.ask("/anthropic/v1/messages", request_body(), headers=[VERSION, ("x-sim-fault", "slow:400")])
        await watcher.read_until(b"event: content_block_delta")
        async with scraping(house.admin, CLIENTS + 1), asking(house.port) as clients:
            for time_ in range(1, 3):
                await clients.more(20)
                before = house.workers
                house.process.send_signal(signal.SIGUSR2)
                await house.hear("new workers have taken over", time_)
                await clients.more(20)
                assert house.workers - before
        assert clients.broken == 0
        assert (await watcher.answer()).events[-1] == "message_stop"
        await house.all_ready()
        assert len(house.workers) == 2
        metrics = await asyncio.to_thread(read_metrics, house.admin)
        completed = total(metrics, "aibridge_interceptions_total", status="completed")
        assert completed == total(metrics, "aibridge_interceptions_started_total") == len(clients.seen) + 1
        house.process.send_signal(signal.SIGTERM)
        assert await house.end() == 0
    check_records(house, clients.seen, crashed=False)


async def test_a_restart_that_cannot_start_leaves_the_old_workers(gateway, asking):
    async with gateway() as house:
        before = house.workers
        house.file.write_text("nonsense: true\n")
        house.process.send_signal(signal.SIGUSR2)
        await house.hear("a new worker cannot be started: the old ones go on")
        assert sum("nonsense" in line["message"] for line in house.lines) == 1
        async with asking(house.port) as clients:
            await clients.more(10)
        assert clients.broken == 0
        assert house.workers == before


async def test_workers_end_with_their_supervisor(gateway, new_client, request_body):
    async with gateway() as house, new_client(house.port) as client:
        workers = house.workers
        await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION, ("x-sim-fault", "slow:20")])
        await client.read_until(b"event: content_block_delta")
        house.process.kill()
        assert (await client.answer()).events[-1] == "message_stop"
        await until(lambda: not any(map(is_there, workers)))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", house.port)


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ({"anthropic": {"api_kye": "any"}}, "did you mean 'api_key'"),
        ({"bedrock": {"region": "us-east-1", "profile": "nobodys"}}, "nobodys"),  # which a worker alone finds out
    ],
    ids=["a key", "credentials"],
)
async def test_what_is_wrong_is_said_once(tmp_path, provider, words):
    path = tmp_path / "bad.yaml"
    anywhere = {"host": "127.0.0.1", "port": 0}
    common = {"workers": 2, "listen": anywhere, "admin": anywhere, "records": {"path": str(tmp_path / "records.db")}}
    path.write_text(json.dumps({**common, "providers": provider}))
    status, _, err = await run("serve", "--config", str(path), environment={**ENVIRONMENT, "HOME": str(tmp_path)})
    assert status == 2
    assert sum(words in line for line in err.splitlines() if not line.startswith("{")) == 1  # beside the log
    assert "Traceback" not in err


async def test_there_is_one_worker_at_least(tmp_path):
    status, _, err = await run("serve", "--workers", "0", environment={**ENVIRONMENT, "HOME": str(tmp_path)})
    assert (status, err) == (2, "--workers 0: should be from 1 to 256\n")


async def test_a_taken_port_is_said_in_one_line_whoever_has_it(gateway, tmp_path):
    async with gateway() as house:
        ports = {"AIBRIDGE_PORT": str(house.port), "AIBRIDGE_ADMIN_PORT": "0", "HOME": str(tmp_path)}
        for workers in ("1", "2"):
            status, _, err = await run("serve", "--workers", workers, environment={**ENVIRONMENT, **ports})
            assert status == 1
            assert str(house.port) in err.splitlines()[-1]
            assert "Traceback" not in err


async def test_the_admin_api_answers_for_all_workers(gateway, new_client, request_body):
    key = "an-admin-key-of-workers"
    admin = {"host": "127.0.0.1", "port": 0, "keys": [{"name": "ann", "key": key}]}

    def told(running, path):
        asked = urllib.request.Request(running.admin + path, headers={"authorization": f"Bearer {key}"})
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    async with gateway(admin=admin) as running:
        await running.all_ready()
        async with Asking(running.port, new_client, request_body()) as clients:
            await clients.more(40)
        seen = len(clients.seen)
        rows = await until(
            lambda: (
                len(page := told(running, "/api/v1/interceptions?limit=500&running=false")["items"]) >= seen and page
            )
        )
        assert {row["termination"] for row in rows} == {"completed"}
        (provider,) = (await asyncio.to_thread(told, running, "/api/v1/providers"))["providers"]
        assert provider["started"] == provider["completed"] == len(rows)
        async with new_client(int(running.admin.rpartition(":")[2])) as client:
            await client.ask("/api/v1/live", b"", method="GET", headers=[("authorization", f"Bearer {key}")])
            await client.read_until(b'"ended":%d' % len(rows))
