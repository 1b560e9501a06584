"""The command line as an operator uses it: real processes, real signals."""

import asyncio
import json
import signal
import sys
import urllib.request

import pytest
from process_kit import ENVIRONMENT, PATIENCE, line_with, run, serving

from aibridge.compiled import MODULES
from aibridge.wire import IMPLEMENTATION


@pytest.fixture
def environment(tmp_path):
    ports = {"AIBRIDGE_PORT": "0", "AIBRIDGE_ADMIN_PORT": "0"}
    return {**ENVIRONMENT, **ports, "XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)}


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.status, answer.read()


async def test_version(environment):
    status, out, _ = await run("version", environment=environment)
    assert status == 0
    assert out.startswith("aibridge 0.")
    assert f"{IMPLEMENTATION} wire, {MODULES} modules" in out


async def test_without_any_credentials_it_simulates_and_says_so(environment):
    async with serving("--demo", environment=environment) as (process, started):
        assert started["providers"] == ["anthropic", "bedrock", "openai"]
        shown = ""
        while "termination" not in shown:
            shown += (await process.stdout.readline()).decode()
        assert "POST /bedrock/v1/messages" in shown
        assert "completed" in shown
        status, body = await asyncio.to_thread(get, started["data"] + "/healthz")
        assert (status, json.loads(body)["status"]) == (200, "ok")
        _, metrics = await asyncio.to_thread(get, started["admin"] + "/metrics")
        assert b'termination="completed"' in metrics
        process.send_signal(signal.SIGTERM)
        await line_with(process.stderr, "aibridge stopped")
        assert await process.wait() == 0


async def test_the_standard_variables_send_spans_and_metrics(environment, collector):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_RESOURCE_ATTRIBUTES": "team=a"}
    async with serving("--demo", environment={**environment, **variables}) as (process, _):
        shown = ""
        while "termination" not in shown:
            shown += (await process.stdout.readline()).decode()
        process.send_signal(signal.SIGTERM)
        await line_with(process.stderr, "aibridge stopped")
        assert await process.wait() == 0
    assert {span.name for span in collector.spans} == {
        "Intercept", "Intercept.ProcessRequest", "Intercept.ProcessRequest.Upstream",
    }  # fmt: skip
    assert "gen_ai.client.operation.duration" in collector.metrics
    assert {(one["service.name"], one["team"]) for one in collector.resources} == {("aibridge", "a")}


async def test_sigterm_lets_a_stream_end(environment, new_client, request_body):
    async with serving(environment=environment) as (process, started):
        port = int(started["data"].rpartition(":")[2])
        async with new_client(port) as client:
            headers = [("x-sim-fault", "slow:20"), ("anthropic-version", "2023-06-01")]
            await client.ask("/anthropic/v1/messages", request_body(), headers=headers)
            await client.read_until(b"event: content_block_delta")
            process.send_signal(signal.SIGTERM)
            await line_with(process.stderr, "draining")
            async with new_client(port) as late:
                await late.ask("/readyz", b"", method="GET")
                assert (await late.answer()).status == 503
            answer = await client.answer()
            assert answer.events[-1] == "message_stop"
        assert await process.wait() == 0


async def test_sigterm_ends_what_does_not_end(environment, new_client, request_body):
    async with serving(environment={**environment, "AIBRIDGE_DRAIN_DEADLINE": "0.2"}) as (process, started):
        async with new_client(int(started["data"].rpartition(":")[2])) as client:
            headers = [("x-sim-fault", "stall@5"), ("anthropic-version", "2023-06-01")]
            await client.ask("/bedrock/v1/messages", request_body("bedrock"), headers=headers)
            await client.read_until(b"event: content_block_delta")
            process.send_signal(signal.SIGTERM)
            answer = await client.answer()
            assert answer.complete
            assert answer.last_event["error"]["type"] == "overloaded_error"
            line = await line_with(process.stderr, "gateway failed")
            assert (line["termination"], line["cause"]) == ("gateway_error", "draining")
        assert await process.wait() == 0


async def test_check(environment, tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("providers: {anthropic: {api_key: '${KEY}'}}\nauth: {mode: open}\n")
    bad.write_text("providers: {bedrock: {regoin: us-east-1}}\nlisten: {port: 99999}\n")
    status, out, _ = await run("check", str(good), environment={**environment, "KEY": "sk-ant-very-secret"})
    assert status == 0
    assert json.loads(out)["providers"]["anthropic"]["kind"] == "anthropic"
    assert "very-secret" not in out
    status, _, err = await run("check", str(bad), environment=environment)
    assert status == 2
    assert "did you mean 'region'" in err
    assert "listen.port" in err
    status, _, err = await run("check", str(tmp_path / "none.yaml"), environment=environment)
    assert status == 2
    assert "none.yaml" in err


EVERYWHERE = {"AIBRIDGE_HOST": "0.0.0.0"}


@pytest.mark.parametrize("more", [{}, {"ANTHROPIC_API_KEY": "sk-ant-very-secret"}], ids=["simulated", "true"])
async def test_an_open_gateway_beyond_loopback_is_not_started_by_chance(environment, more):
    status, _, err = await run("serve", environment={**environment, **EVERYWHERE, **more})
    assert status == 2
    assert "listen.host is 0.0.0.0" in err
    assert "AIBRIDGE_GATEWAY_KEYS=name:key" in err
    assert "AIBRIDGE_AUTH_MODE=open" in err
    assert "Traceback" not in err
    assert "very-secret" not in err


@pytest.mark.parametrize(
    ("more", "mode", "status"),
    [({"AIBRIDGE_AUTH_MODE": "open"}, "open", 200), ({"AIBRIDGE_GATEWAY_KEYS": "ann:key-of-ann"}, "keys", 401)],
)
async def test_beyond_loopback_it_starts_where_it_is_told_who_may_ask(
    environment, new_client, request_body, more, mode, status
):
    async with serving(environment={**environment, **EVERYWHERE, **more}) as (_, started):
        assert started["auth"] == mode
        async with new_client(int(started["data"].rpartition(":")[2])) as client:
            await client.ask("/anthropic/v1/messages", request_body(), headers=[("anthropic-version", "2023-06-01")])
            assert (await client.answer()).status == status


async def test_the_demonstration_needs_a_key_in_clear(environment):
    hashed = {"AIBRIDGE_GATEWAY_KEYS": "ann:sha256:" + "0" * 64}
    async with serving("--demo", environment={**environment, **hashed}) as (process, _):
        line = await line_with(
            process.stderr, "no demonstration: it needs a gateway key in clear, the first of auth.keys"
        )
        assert line["level"] == "warning"


async def test_a_taken_port_is_said_in_one_line(environment):
    async with serving(environment=environment) as (_, started):
        port = started["data"].rpartition(":")[2]
        status, _, err = await run("serve", environment={**environment, "AIBRIDGE_PORT": port})
        assert status == 1
        assert port in err.splitlines()[-1]
        assert "Traceback" not in err


async def test_simulate(environment, tmp_path, new_client, request_body):
    ledger = tmp_path / "ledger.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aibridge", "simulate", "--port", "0", "--ledger", str(ledger),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            first = (await process.stdout.readline()).decode()
            port = int(first.partition("127.0.0.1:")[2].split()[0].rstrip("/;,."))
            async with new_client(port) as client:
                headers = [("x-api-key", "any"), ("anthropic-version", "2023-06-01")]
                await client.ask("/v1/messages", request_body(), headers=headers)
                assert (await client.answer()).events[-1] == "message_stop"
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    assert json.loads(ledger.read_text().splitlines()[0])["terminal_sent"] is True
