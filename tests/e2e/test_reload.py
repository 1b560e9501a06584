"""Another configuration while streams run: real processes, signals, files, simulators and clients."""

import asyncio
import json
import math
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import mcp_kit
import pytest
from gateway_kit import CLIENTS, VERSION, Asking, Gateway, is_there, read_metrics, total
from process_kit import PATIENCE
from waiting_kit import until

from aibridge import config
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.stores.base import StoreUnavailable

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

MESSAGES = "/anthropic/v1/messages"
SECRET, OTHER_SECRET = "sk-ant-do-not-tell-one", "sk-ant-do-not-tell-two"
NO_ROOM = {"host": "127.0.0.1", "port": 0}
RELOADED = "configuration reloaded"
REFUSED = "configuration not reloaded; the last good one goes on"


class House(Gateway):
    """A gateway whose file is rewritten."""

    def write(self, **sections):
        """Put another file in the place of the one that is there, as an editor does."""
        new = self.file.with_name("new.yaml")
        new.write_text(json.dumps({**self.raw, **sections}))
        new.replace(self.file)

    async def reload(self, message=RELOADED, **sections):
        """Rewrite the file, and ask for it; returns the line of the log that comes."""
        before = len(self.told(message))
        self.write(**sections)
        self.process.send_signal(signal.SIGHUP)
        return await self.hear(message, before + 1)

    def results(self):
        metrics = read_metrics(self.admin)
        return {
            "success": total(metrics, "aibridge_config_reloads_total", result="success"),
            "failure": total(metrics, "aibridge_config_reloads_total", result="failure"),
            "last": total(metrics, "aibridge_config_last_reload_successful"),
        }


@pytest.fixture
def serving(tmp_path):
    """Return a context manager that runs a gateway on a file, which is at `file` where a test says so."""

    @asynccontextmanager
    async def serving(simulator, file=None, **sections):
        records = tmp_path / "records.db"
        raw = {
            "listen": NO_ROOM,
            "admin": NO_ROOM,
            "records": {"path": str(records)},
            "providers": {"anthropic": {"base_url": simulator.url, "api_key": SECRET}},
            **sections,
        }
        if file is None:
            file = tmp_path / "aibridge.yaml"
            file.write_text(json.dumps(raw))
        async with House.serving(file, records) as house:
            house.raw = raw
            yield house

    return serving


@pytest.fixture
async def simulator():
    async with Simulator(Settings(any_credentials=True)) as one:
        yield one


@pytest.fixture
def ask_at(new_client, request_body):
    async def ask_at(port, path=MESSAGES, headers=()):
        async with new_client(port) as client:
            await client.ask(path, request_body(), headers=[VERSION, *headers])
            return await client.answer()

    return ask_at


def at(simulator, **more):
    return {"base_url": simulator.url, "api_key": SECRET, **more}


# --- what is served meanwhile ---------------------------------------------------------------------------------------


async def test_a_stream_goes_on_as_it_began_and_what_is_new_goes_elsewhere(
    serving, simulator, new_client, request_body, ask_at
):
    async with Simulator(Settings(any_credentials=True)) as other, serving(simulator) as house:
        async with new_client(house.port) as client:
            await client.ask(MESSAGES, request_body(), headers=[VERSION, ("x-sim-fault", "slow:200")])
            await client.read_until(b"event: content_block_delta")
            keyed = {"keys": [{"name": "alice", "key": OTHER_SECRET}]}
            line = await house.reload(
                providers={"anthropic": at(other), "second": at(other, kind="anthropic")},
                auth=keyed,
                log={"level": "debug"},
            )
            assert line["changed"] == "providers.anthropic.base_url, providers.second, auth.keys, log.level"
            assert (await ask_at(house.port)).status == 401
            for path in (MESSAGES, "/second/v1/messages"):
                answer = await ask_at(house.port, path, [("x-api-key", OTHER_SECRET)])
                assert (answer.status, answer.events[-1]) == (200, "message_stop")
            assert len(other.ledger.rows) == 2
            assert house.health()[1]["live"] == 1
            answer = await client.answer()
            assert (answer.status, answer.events[-1]) == (200, "message_stop")
            # the connection is kept, and its next request is one of now
            await client.ask(MESSAGES, request_body(), headers=[VERSION])
            assert (await client.answer()).status == 401
        assert len(simulator.ledger.rows) == 1
        house.process.send_signal(signal.SIGTERM)
        assert await house.end() == 0
    assert SECRET not in str(house.lines)
    assert OTHER_SECRET not in str(house.lines)


async def test_the_drain_is_for_streams_of_all_configurations(serving, simulator, new_client, request_body):
    async with serving(simulator, drain_deadline=600) as house:
        clients = [new_client(house.port) for _ in range(3)]
        for number, client in enumerate(clients):
            await client.__aenter__()
            await client.ask(MESSAGES, request_body(), headers=[VERSION, ("x-sim-fault", "stall@5")])
            await client.read_until(b"event: content_block_delta")
            await house.reload(timeouts={"ping": 5 + number}, drain_deadline=0.3)
        house.process.send_signal(signal.SIGTERM)
        assert (await house.hear("draining"))["live"] == 3
        for client in clients:
            assert (await client.answer()).last_event["error"]["type"] == "overloaded_error"
            client.close()
        assert await house.end() == 0
    assert [line["cause"] for line in house.told("gateway failed")] == ["draining"] * 3


async def test_a_hundred_reloads_under_load_fail_and_leave_nothing(serving, simulator, new_client, request_body):
    def open_files():
        return len(os.listdir(f"/proc/{house.process.pid}/fd"))  # noqa: PTH208 - of many, a number is enough

    def threads():
        return len(os.listdir(f"/proc/{house.process.pid}/task"))  # noqa: PTH208

    def number(count):
        provider = at(simulator, timeouts={"keep_alive_upstream": 30 + count}, retries={"max": count % 3})
        return {"anthropic": provider, "second": at(simulator, kind="anthropic", byok=bool(count % 2))}

    async with serving(simulator, auth={"mode": "open"}) as house:
        async with new_client(house.port) as watcher:
            await watcher.ask(MESSAGES, request_body(), headers=[VERSION, ("x-sim-fault", "slow:400")])
            await watcher.read_until(b"event: content_block_delta")
            async with Asking(house.port, new_client, request_body()) as clients:
                for count in range(10):
                    await house.reload(providers=number(count))
                await clients.more(CLIENTS)
                files, tasks = open_files(), threads()
                for count in range(10, 110):
                    await house.reload(providers=number(count))
                await clients.more(2 * CLIENTS)
                assert threads() <= tasks + 2
                await until(lambda: open_files() <= files + CLIENTS)
            answer = await watcher.answer()
            assert (answer.status, answer.events[-1]) == (200, "message_stop")
        assert clients.broken == 0
        assert len(clients.seen) > 100
        assert house.results() == {"success": 110, "failure": 0, "last": 1}
        metrics = read_metrics(house.admin)
        started = total(metrics, "aibridge_interceptions_started_total")
        assert total(metrics, "aibridge_interceptions_total", status="completed") == started == len(clients.seen) + 1


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"provider": {}}, "provider: unknown key; did you mean 'providers'?"),
        ({"providers": {"anthropic": {"api_key": {"file": "/no/such/secret"}}}}, "/no/such/secret cannot be read"),
        ({"providers": {"bedrock": {"region": "r", "profile": "none-such"}}}, "providers.bedrock: "),
        ({"prices": {"path": "/no/such/prices"}}, "prices.path: "),
        ({"tls": {"ca_file": "/etc/passwd"}}, "tls.ca_file: no certificates can be read from it: "),
        ({"timeouts": {"idle": 1}, "records": {"path": "elsewhere.db"}}, "needs a restart: records.path"),
        ({"auth": {"key_store": {"path": "/dev/null/keys"}}}, "key"),
    ],
)
async def test_what_is_wrong_changes_nothing(serving, simulator, ask_at, sections, words):
    async with serving(simulator) as house:
        first = read_metrics(house.admin)
        line = await house.reload(REFUSED, **sections)
        assert words in line["error"]
        assert SECRET not in str(house.lines)
        assert house.results() == {"success": 0, "failure": 1, "last": 0}
        loaded_at = "aibridge_config_loaded_timestamp_seconds"
        assert total(read_metrics(house.admin), loaded_at) == total(first, loaded_at) > 0
        assert (await ask_at(house.port)).events[-1] == "message_stop"
        assert (await house.reload())["changed"] == "nothing"
        assert house.results() == {"success": 1, "failure": 1, "last": 1}
        assert total(read_metrics(house.admin), loaded_at) > total(first, loaded_at)


async def test_text_that_is_no_yaml_is_not_quoted(serving, simulator, ask_at):
    async with serving(simulator) as house:
        house.file.write_text(f"providers: {{anthropic: {{api_key: *{SECRET}")
        house.process.send_signal(signal.SIGHUP)
        assert "line 1, column" in (await house.hear(REFUSED))["error"]
        assert SECRET not in str(house.lines)
        assert (await ask_at(house.port)).status == 200


# --- what is watched ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_key_of_the_dashboard_ends_with_its_sessions(serving, simulator, workers):
    keys = {name: f"the-admin-key-of-{name}" for name in ("ann", "bob")}

    def admin(*names):
        return {**NO_ROOM, "keys": [{"name": name, "key": keys[name]} for name in names]}

    async with (
        serving(simulator, workers=workers, admin=admin("ann", "bob")) as house,
        aiohttp.ClientSession(house.admin) as session,
    ):
        cookies = {}
        for name, key in keys.items():
            async with session.post("/api/v1/login", json={"key": key}, headers={"cookie": ""}) as answer:
                cookies[name] = {"cookie": answer.headers["set-cookie"].partition(";")[0]}

        async def let_in(name):
            found = []
            for headers in (cookies[name], {"authorization": f"Bearer {keys[name]}"}):
                async with session.get("/api/v1/session", headers=headers) as answer:
                    found.append(answer.status)
            return found

        assert [await let_in(name) for name in keys] == [[200, 200], [200, 200]]
        assert (await house.reload(admin=admin("bob")))["changed"] == "admin.keys"
        assert [await let_in(name) for name in keys] == [[401, 401], [200, 200]]


async def test_a_changed_file_needs_no_signal(serving, simulator, ask_at):
    async with serving(simulator) as house:
        house.write(routers={"all": {"default": "anthropic"}})
        assert (await house.hear(RELOADED))["changed"] == "routers.all"
        assert (await ask_at(house.port, "/all/v1/messages")).events[-1] == "message_stop"
        house.file.write_text("nonsense: true")
        await house.hear(REFUSED)
        assert house.results() == {"success": 1, "failure": 1, "last": 0}


async def test_a_config_map_is_swapped_as_kubernetes_does(serving, simulator, tmp_path, ask_at):
    """The file is a link to `..data/file`, and `..data` a link to a folder, in whose place another link is put."""

    def publish(name, **sections):
        folder = mount / name
        folder.mkdir(parents=True)
        raw = {"listen": NO_ROOM, "admin": NO_ROOM, "records": {"path": str(tmp_path / "records.db")}}
        secret = {"file": str(mount / "key")}
        providers = {"anthropic": {"base_url": simulator.url, "api_key": secret, "byok": False}}
        (folder / "aibridge.yaml").write_text(json.dumps({**raw, "providers": providers, **sections}))
        (folder / "key").write_text(SECRET + "\n")
        (mount / "..data_tmp").symlink_to(name)
        (mount / "..data_tmp").rename(mount / "..data")

    mount = tmp_path / "mount"
    publish("..one", auth={"mode": "open"})
    for name in ("aibridge.yaml", "key"):
        (mount / name).symlink_to(Path("..data", name))
    async with serving(simulator, mount / "aibridge.yaml") as house:
        publish("..two", auth={"keys": [{"name": "a", "key": OTHER_SECRET}]})
        line = await house.hear(RELOADED)
        assert line["changed"] == "auth.mode, auth.keys"
        assert (await ask_at(house.port)).status == 401
        assert SECRET not in str(house.lines)


async def test_a_secret_that_changes_is_used_and_never_told(serving, tmp_path, ask_at):
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    async with Simulator(Settings(anthropic_keys={OTHER_SECRET})) as simulator:
        provider = {"base_url": simulator.url, "api_key": {"file": str(secret)}, "byok": False}
        async with serving(simulator, providers={"anthropic": provider}) as house:
            assert (await ask_at(house.port)).status == 401
            secret.unlink()
            await house.hear(REFUSED)
            secret.write_text(OTHER_SECRET)
            line = await house.hear(RELOADED)
            assert line["changed"] == "providers.anthropic.api_key"
            assert (await ask_at(house.port)).status == 200
            assert SECRET not in str(house.lines)
            assert OTHER_SECRET not in str(house.lines)


# --- several workers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
async def test_commands_that_hang_hold_up_nobody(serving, simulator, tmp_path, ask_at, workers):
    """Each has ten seconds: those of all four are longer than the end is waited for."""
    running = [tmp_path / f"running-{number}" for number in range(4)]
    hangs = [f"touch {file}; while [ -e {file} ]; do sleep 0.05; done" for file in running]
    async with serving(simulator, workers=workers) as house:
        try:
            commands = [{"command": ["/bin/sh", "-c", words]} for words in hangs]
            house.write(providers={f"p{n}": at(simulator, kind="anthropic", api_key=c) for n, c in enumerate(commands)})
            house.process.send_signal(signal.SIGHUP)
            await until(running[0].exists)
            assert (await ask_at(house.port)).status == 200
            house.process.send_signal(signal.SIGTERM)
            assert await house.end() == 0
        finally:
            for file in running:
                file.unlink(missing_ok=True)


async def test_all_workers_take_it_and_those_that_come_later(serving, simulator, ask_at):
    key = ("x-api-key", OTHER_SECRET)
    async with serving(simulator, workers=2) as house:
        assert (await ask_at(house.port)).status == 200
        line = await house.reload(auth={"keys": [{"name": "a", "key": OTHER_SECRET}]})
        assert line["changed"] == "auth.keys"
        # connections are spread at random: in so many, each worker has had some
        assert {(await ask_at(house.port)).status for _ in range(30)} == {401}
        assert {(await ask_at(house.port, headers=[key])).status for _ in range(30)} == {200}
        (victim, _) = house.workers
        os.kill(victim, signal.SIGKILL)
        await house.hear("a worker died")
        await house.reload(auth={"keys": [{"name": "b", "key": SECRET}]})  # while a new one reads this file, or that
        await house.all_ready()
        await until(lambda: len(house.workers) == 2)
        key = ("x-api-key", SECRET)
        async with asyncio.timeout(PATIENCE):  # ready, it may be told only now
            while {(await ask_at(house.port, headers=[key])).status for _ in range(30)} != {200}:
                pass
        await house.reload(REFUSED, workers=3)
        assert house.told(REFUSED)[0]["error"] == "needs a restart: workers"
        assert {(await ask_at(house.port, headers=[key])).status for _ in range(30)} == {200}
        assert house.results() == {"success": 2, "failure": 1, "last": 0}


async def test_a_worker_that_cannot_take_it_keeps_what_it_has(serving, simulator, tmp_path, ask_at):
    """The secret's command fails the sixth time: three looks at the start, one of the supervisor, two of workers."""
    asked, program = tmp_path / "asked", tmp_path / "secret.py"
    asked.write_text("")
    program.write_text(f"""if True:
        import fcntl
        with open({str(asked)!r}, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            times = len(file.read()) + 1
            file.write("x")
        print({SECRET!r})
        raise SystemExit(times == 6)
    """)
    provider = at(simulator, api_key={"command": [sys.executable, str(program)]})
    async with serving(simulator, workers=2, providers={"anthropic": provider}) as house:
        await house.all_ready()
        assert len(asked.read_text()) == 3
        line = await house.reload(REFUSED, auth={"keys": [{"name": "a", "key": OTHER_SECRET}]})
        assert "failed: exit status 1" in line["error"]
        (kept,) = house.told("a worker keeps its configuration")
        assert kept["pid"] in house.workers
        assert line["error"].startswith(f"worker {kept['worker']}: providers.anthropic.api_key: the command ")
        seen = set()
        while seen != {200, 401}:  # one worker each
            seen.add((await ask_at(house.port)).status)
        house.process.send_signal(signal.SIGHUP)
        await house.hear(RELOADED)
        assert {(await ask_at(house.port)).status for _ in range(30)} == {401}
        assert house.results() == {"success": 1, "failure": 1, "last": 1}
        assert SECRET not in str(house.lines)


async def test_workers_end_with_a_supervisor_that_has_not_heard_their_answers(serving, simulator, tmp_path, ask_at):
    """What is unread where a socket is closed makes its other end break, and not just end."""
    asked, go_on, program = tmp_path / "asked", tmp_path / "go", tmp_path / "secret.py"
    program.write_text(f"""if True:
        import pathlib, time
        asked, go_on = pathlib.Path({str(asked)!r}), pathlib.Path({str(go_on)!r})
        with asked.open("a") as file:
            file.write("x")
        while len(asked.read_text()) > 4 and not go_on.exists():
            time.sleep(0.01)
        print({SECRET!r})
    """)
    provider = at(simulator, api_key={"command": [sys.executable, str(program)]})
    async with serving(simulator, workers=2, providers={"anthropic": provider}) as house:
        await house.all_ready()
        workers = house.workers
        house.write(providers={"anthropic": provider}, auth={"keys": [{"name": "a", "key": OTHER_SECRET}]})
        house.process.send_signal(signal.SIGHUP)
        await until(lambda: len(asked.read_text()) == 6)
        house.process.send_signal(signal.SIGSTOP)
        go_on.touch()
        async with asyncio.timeout(PATIENCE):
            while {(await ask_at(house.port)).status for _ in range(30)} != {401}:
                pass
        house.process.kill()
        await until(lambda: not any(map(is_there, workers)))


async def test_sighup_to_the_whole_group_is_the_supervisors(serving, simulator, ask_at):
    async with serving(simulator, workers=2) as house:
        workers = house.workers
        for pid in workers:
            os.kill(pid, signal.SIGHUP)
        await house.reload(timeouts={"idle": 5})
        assert house.workers == workers
        assert (await ask_at(house.port)).status == 200


async def test_new_workers_and_their_supervisor_have_read_the_same(serving, simulator):
    async with serving(simulator, workers=2) as house:
        house.write(metrics={"max_models": 7})
        await house.hear(REFUSED)
        house.process.send_signal(signal.SIGUSR2)
        await house.hear("new workers have taken over")
        house.process.send_signal(signal.SIGHUP)
        assert (await house.hear(RELOADED))["changed"] == "nothing"


# --- what stays -----------------------------------------------------------------------------------------------------


@pytest.fixture
def renew(tmp_path):
    """Return a function that gives a house in this process another configuration."""

    async def renew(house, **sections):
        raw = json.loads((tmp_path / "aibridge.yaml").read_text())
        for name, values in sections.items():
            raw[name] = {**raw.get(name, {}), **values}
        (tmp_path / "aibridge.yaml").write_text(json.dumps(raw))
        await house.app.reload(config.load(tmp_path / "aibridge.yaml", {}))

    return renew


def provider_of(house, name="anthropic", **more):
    return {name: {"base_url": house.simulator.url, "api_key": config.SIMULATOR_API_KEY, "kind": "anthropic", **more}}


BREAKER = {"enabled": True, "failures": 2, "timeout": 600}


async def test_circuits_of_what_is_the_same_stay_open(build_house, ask, renew, tmp_path):
    async with build_house(provider={"anthropic": {"circuit_breaker": BREAKER}}) as house:
        for _ in range(2):
            assert (await ask(house, "anthropic", "status:500")).status == 500
        assert (await ask(house, "anthropic")).status == 503
        raw = json.loads((tmp_path / "aibridge.yaml").read_text())["providers"]
        await renew(house, providers={**raw, "copilot": {"kind": "copilot"}}, timeouts={"idle": 5})
        assert (await ask(house, "anthropic")).status == 503
        state = {"name": "aibridge_circuit_breaker_state", "provider": "anthropic"}
        assert house.metric(state.pop("name"), **state) == 1
        changed = {**raw["anthropic"], "timeouts": {"idle": 9}}
        await renew(house, providers={**raw, "anthropic": changed})
        assert house.metric("aibridge_circuit_breaker_state", provider="anthropic") == 0
        assert (await ask(house, "anthropic")).status == 200
        await renew(house, providers={**raw, "anthropic": {**changed, "circuit_breaker": {"enabled": False}}})
        assert house.app.generation.circuits is None
        for _ in range(3):
            assert (await ask(house, "anthropic", "status:500")).status == 500


async def test_connections_of_what_is_the_same_are_kept(build_house, ask, renew, tmp_path):
    async with build_house() as house:
        await ask(house, "anthropic")
        raw = json.loads((tmp_path / "aibridge.yaml").read_text())["providers"]
        await renew(house, routers={"r": {"default": "anthropic"}})
        await ask(house, "anthropic")
        assert {row.connection for row in house.simulator.ledger.rows} == {1}
        await renew(house, providers={**raw, "anthropic": {**raw["anthropic"], "timeouts": {"keep_alive_upstream": 3}}})
        await ask(house, "anthropic")
        assert [row.connection for row in house.simulator.ledger.rows] == [1, 1, 2]


async def test_budgets_of_retries_are_kept(build_house, ask, renew):
    retries = {"max": 9, "statuses": [500], "backoff": 0.001, "budget": 0.001}
    async with build_house(provider={"anthropic": {"retries": retries}}) as house:
        assert (await ask(house, "anthropic", "status:500")).status == 500
        spent = len(house.outcomes.attempts)
        assert spent == 10
        await renew(house, timeouts={"idle": 9})
        assert (await ask(house, "anthropic", "status:500")).status == 500
        assert len(house.outcomes.attempts) - spent == 2  # one was left


async def test_limits_of_what_is_the_same_go_on_and_others_begin_anew(build_house, ask, renew, tmp_path):
    limit = {"for": "all", "requests_per_minute": 2}
    async with build_house(rate_limits=[limit]) as house:
        assert [(await ask(house, "anthropic")).status for _ in range(3)] == [200, 200, 429]
        limiter = house.app.generation.limiter
        await renew(house, timeouts={"idle": 9})
        assert house.app.generation.limiter is limiter
        assert (await ask(house, "anthropic")).status == 429
        raw = json.loads((tmp_path / "aibridge.yaml").read_text())
        (tmp_path / "aibridge.yaml").write_text(
            json.dumps({**raw, "rate_limits": [{**limit, "requests_per_minute": 3}]})
        )
        await house.app.reload(config.load(tmp_path / "aibridge.yaml", {}))
        assert [(await ask(house, "anthropic")).status for _ in range(4)] == [200, 200, 200, 429]


async def test_reservations_go_by_the_prices_of_now(build_house, ask, renew, tmp_path):
    """One request is reserved at a price that leaves no room for it, once the prices have changed."""
    price = "version: {0}\nlists:\n  anthropic: {{models: [{{match: ['*'], prices: [{{input: {0}, output: {0}}}]}}]}}\n"
    path = tmp_path / "prices.yaml"
    path.write_text(price.format(1))
    budget = {"per": "all", "dollars": 0.05, "period": "day"}
    async with build_house(prices={"path": str(path)}, budgets=[budget]) as house:
        limiter = house.app.generation.limiter
        assert [(await ask(house, "anthropic")).status for _ in range(2)] == [200, 200]
        path.write_text(price.format(900_000))
        await renew(house)
        assert house.app.generation.limiter is limiter
        assert (await ask(house, "anthropic")).status == 403


async def test_a_provider_that_becomes_a_fallback_of_its_own_is_asked_again(build_house, ask, renew, tmp_path):
    async with build_house() as house:
        assert (await ask(house, "anthropic", "status:529")).status == 529
        raw = json.loads((tmp_path / "aibridge.yaml").read_text())["providers"]
        fallbacks = [{"provider": "anthropic", "model": "another-model"}]
        await renew(house, providers={**raw, "anthropic": {**raw["anthropic"], "fallbacks": fallbacks}})
        assert (await ask(house, "anthropic", "status:529")).status == 529
        assert len(house.outcomes.attempts) == 1 + 2


async def test_tasks_and_parts_of_old_configurations_are_gone(build_house, ask, renew, new_client, request_body):
    async with build_house() as house, new_client(house.port) as client:
        await client.ask(MESSAGES, request_body(), headers=[VERSION, ("x-sim-fault", "stall@5")])
        await client.read_until(b"event: content_block_delta")
        for idle in range(3, 8):
            await renew(house, timeouts={"idle": 600 + idle, "keep_alive_upstream": idle})
            await ask(house, "anthropic")
        assert len(house.app._leaving) == 1  # that of the stream
        tasks = len(asyncio.all_tasks())
        for idle in range(3, 30):
            await renew(house, timeouts={"idle": 600 + idle, "keep_alive_upstream": idle})
            await ask(house, "anthropic")
        assert len(asyncio.all_tasks()) <= tasks
        assert len(house.app._leaving) <= 2
        client.close()
        await until(lambda: not house.app._leaving)
        await house.outcomes.wait(ended=33)


async def test_what_cannot_start_leaves_nothing_behind(build_house, ask, renew, tmp_path):
    async with build_house() as house:
        before, tasks = house.app.generation, asyncio.all_tasks()
        store = tmp_path / "folder"
        store.mkdir()
        with pytest.raises(StoreUnavailable):
            await renew(house, auth={"key_store": {"path": str(store)}}, timeouts={"keep_alive_upstream": 3})
        assert house.app.generation is before
        assert asyncio.all_tasks() <= tasks | {asyncio.current_task()}
        assert (await ask(house, "anthropic")).status == 200


async def test_the_dump_takes_providers_that_come(build_house, ask, renew, tmp_path):
    folder = tmp_path / "dump"
    async with build_house(dump={"path": str(folder)}) as house:
        raw = json.loads((tmp_path / "aibridge.yaml").read_text())["providers"]
        await renew(house, providers={**raw, **provider_of(house, "later")}, routers={"r": {"default": "later"}})
        assert (folder / "later").is_dir()
        await ask(house, "anthropic")
    assert list((folder / "anthropic").glob("*.req.txt"))


# --- tool servers ---------------------------------------------------------------------------------------------------


def sessions():
    return {task for task in asyncio.all_tasks() if task.get_name() == "mcp kit"}


async def test_sessions_with_tool_servers_are_kept_renewed_and_ended(build_house, ask, renew):
    async with mcp_kit.serving(mcp_kit.tools_server()) as url:
        kit = {"url": url, "allow": "^(add|sleep)$"}
        async with build_house(mcp={"servers": {"kit": kit}}) as house:
            assert house.metric("aibridge_mcp_server_up", server="kit") == 1
            first = sessions()
            await renew(house, timeouts={"idle": 9})
            assert sessions() == first
            await renew(house, mcp={"servers": {"kit": {**kit, "allow": "^add$"}}})
            await until(lambda: not sessions() & first)
            assert len(sessions()) == 1
            assert house.metric("aibridge_mcp_server_up", server="kit") == 1
            house.simulator.play("tools:2", 1)
            answer = await ask(house, "anthropic")
            assert answer.events[-1] == "message_stop"
            assert house.metric("aibridge_injected_tool_invocations_total", outcome="ok") == 2
            await renew(house, mcp={"servers": {}})
            assert math.isnan(house.metric("aibridge_mcp_server_up", server="kit"))
            await until(lambda: not sessions())


async def test_a_tool_that_runs_is_not_cut_by_a_reload(build_house, renew, new_client, request_body):
    server, began, go_on = mcp_kit.MCPServer("kit"), asyncio.Event(), asyncio.Event()

    @server.tool()
    async def wait() -> str:
        began.set()
        await go_on.wait()
        return "waited"

    async with mcp_kit.serving(server) as url, build_house(mcp={"servers": {"kit": {"url": url}}}) as house:
        async with new_client(house.port) as client:
            house.simulator.play("tools:1", 1)
            await client.ask(MESSAGES, request_body(), headers=[VERSION])
            async with asyncio.timeout(PATIENCE):
                await began.wait()
            await renew(house, mcp={"servers": {}})
            assert len(house.app._leaving) == 1
            go_on.set()
            assert (await client.answer()).events[-1] == "message_stop"
        assert house.metric("aibridge_injected_tool_invocations_total", outcome="ok") == 1
