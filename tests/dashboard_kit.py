"""A gateway with traffic, for those who look at its dashboard: a process, real requests, real faults, real tools.

The tests of the dashboard and `docs/screenshots.py` look at the same house.
"""

import asyncio
import json
import re
import socket
import struct
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from mcp_kit import serving as serving_tools
from mcp_kit import tools_server
from process_kit import ENVIRONMENT, PATIENCE, line_with

from aibridge import config
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.simulator.sigv4 import Credentials

ADMIN_KEY = "an-admin-key-of-the-dashboard"
HOSTILE = "<img src=x onerror=document.title='owned'>"
"""A model's name, and a part of prompts: what would be seen if anything from outside became HTML."""
ACTORS = ("alice", "bob", "ci-runner")

MODELS = (
    ("anthropic", "/v1/messages", "claude-sonnet-5"),
    ("anthropic", "/v1/messages", "claude-haiku-4-5"),
    ("bedrock", "/v1/messages", "claude-opus-4-6"),
    ("openai", "/v1/chat/completions", "gpt-5.2"),
    ("openai", "/v1/responses", "gpt-5.2-codex"),
)
_AGENTS = {
    "anthropic": "claude-cli/2.0.67 (external, cli)",
    "bedrock": "claude-cli/2.0.67",
    "openai": "codex_cli_rs/0.87.0",
}
_FAULTS = ("truncate@4", "cut@300", "rst@3", "status:529", "status:429", "error_event@3", "bad_json@3", "html")
_PROMPTS = (
    "Why does tests/test_relay.py fail on the second run?",
    "Write a migration that adds a column for the region.",
    "Review this diff for races between close and drain.",
    f"Explain what {HOSTILE} does in a page.",
)
_AT_ONCE = 5
_UNSETTLED = re.compile(r"^aibridge_(?:interceptions_inflight|journal_bytes)(?:\{.*\})? (\S+)$", re.MULTILINE)
_TOOL_ID = re.compile(rb'"(toolu_\w+)"')


def key_of(actor):
    return f"gateway-key-of-{actor}"


@dataclass
class House:
    """A gateway that runs, and its simulator."""

    simulator: Simulator
    data: str
    url: str

    async def ask(self, model, *, actor="alice", fault="", prompt="hello", session="", messages=None, leave_after=None):
        """Send a streaming request, and return what came of its answer, read to its end or until the client leaves."""
        provider, route, name = model
        body = {"model": name, "stream": True, "max_tokens": 200, "messages": messages or said(prompt)}
        if route.endswith("/responses"):
            body = {"model": name, "stream": True, "input": prompt}
        headers = {
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            "user-agent": _AGENTS[provider],
            "authorization": f"Bearer {key_of(actor)}",
            **({"x-claude-code-session-id" if provider != "openai" else "session-id": session} if session else {}),
            **({"x-sim-fault": fault} if fault else {}),
        }
        raw = json.dumps(body).encode()
        lines = [
            f"POST /{provider}{route} HTTP/1.1",
            "host: gateway",
            "connection: close",
            f"content-length: {len(raw)}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(self.data).port)
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
                if leave_after is None:
                    return await reader.read()
                return await _read_until(reader, leave_after)
        finally:
            if leave_after is not None:
                reset = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def settled(self):
        """Wait until everything has ended, and all that is known of it is in the store."""
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(self.url) as session:
            while not _is_settled(await _text(session, "/metrics")):  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.02)


async def _text(session, path):
    async with session.get(path) as answer:
        assert answer.ok
        return await answer.text()


def _is_settled(metrics):
    left = _UNSETTLED.findall(metrics)
    assert left, "the metrics have other names"
    return not any(map(float, left))


def said(prompt):
    return [{"role": "user", "content": prompt}]


async def _read_until(reader, marker):
    came = b""
    while marker not in came:
        data = await reader.read(65536)
        assert data, f"the answer ended before {marker!r} came: {came!r}"
        came += data
    return came


@asynccontextmanager
async def house(folder, openai_keys=(config.SIMULATOR_OPENAI_KEY,), **sections):
    """Run a gateway as a process, with a simulator of the providers and a tool server, and records of its own."""
    secret = {config.SIMULATOR_ACCESS_KEY_ID: config.SIMULATOR_SECRET_ACCESS_KEY}
    async with (
        Simulator(Settings(aws=Credentials(secrets=secret))) as simulator,
        serving_tools(tools_server()) as tools,
    ):
        file = folder / "aibridge.yaml"
        file.write_text(json.dumps(_configuration(simulator.url, tools, folder, openai_keys) | sections))
        async with _gateway(file) as line:
            yield House(simulator, line["data"], line["admin"])


@asynccontextmanager
async def _gateway(file):
    """Run it for as long as somebody looks, and give the fields of its start line; its log goes nowhere."""
    command = (sys.executable, "-m", "aibridge", "serve", "--config", str(file))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=ENVIRONMENT)
    try:
        async with asyncio.timeout(PATIENCE):
            line = await line_with(process.stderr, "aibridge started")
        log = asyncio.create_task(_drop(process.stderr))
        yield line
        log.cancel()
    finally:
        process.kill()
        await process.wait()


async def _drop(stream):
    while await stream.read(65536):
        pass


def _configuration(url, tools, folder, openai_keys):
    breaker = {"circuit_breaker": {"enabled": True, "failures": 3, "timeout": 3600}}
    return {
        "listen": {"host": "127.0.0.1", "port": 0},
        "admin": {"host": "127.0.0.1", "port": 0, "keys": [{"name": "ann", "key": ADMIN_KEY}]},
        "auth": {"keys": [{"name": actor, "key": key_of(actor)} for actor in ACTORS]},
        "providers": {
            "anthropic": {"base_url": url, "api_key": config.SIMULATOR_API_KEY},
            "bedrock": {
                "base_url": url,
                "region": config.SIMULATOR_REGION,
                "access_key_id": config.SIMULATOR_ACCESS_KEY_ID,
                "secret_access_key": config.SIMULATOR_SECRET_ACCESS_KEY,
                "retries": {"max": 1, "backoff": 0.05, "budget": 1},
            },
            "openai": {"base_url": f"{url}/v1", "api_keys": [{"key": key} for key in openai_keys], **breaker},
        },
        "mcp": {"servers": {"kit": {"url": tools, "allow": "^add$"}}},
        "records": {
            "path": str(folder / "records.db"),
            "content": {"prompts": "full", "arguments": "full", "thoughts": "full"},
        },
        "proxy": {"from_environment": False},
    }


async def traffic(at, rounds):
    """Send sessions with threads of tools, faults of each kind, and clients that leave; return when all is recorded."""
    for first in range(0, rounds, _AT_ONCE):
        await asyncio.gather(*(_round(at, number) for number in range(first, min(first + _AT_ONCE, rounds))))
    await at.ask(("anthropic", "/v1/messages", HOSTILE), prompt=HOSTILE)
    await at.ask(MODELS[0], fault="tool_loop")
    at.simulator.play("status:503", 1)
    await at.ask(MODELS[2], prompt="Asked twice.")
    for _ in range(3):  # opens the circuit of this model
        await at.ask(("openai", "/v1/chat/completions", "gpt-failing"), fault="status:500")
    await at.ask(("openai", "/v1/chat/completions", "gpt-failing"))
    await at.settled()


async def _round(at, number):
    actor, prompt = ACTORS[number % len(ACTORS)], _PROMPTS[number % len(_PROMPTS)]
    await asyncio.gather(
        _thread(at, actor, f"session-{number}", prompt),
        at.ask(MODELS[number % 3], actor=actor, fault=f"slow:{1 + number % 20}"),
        at.ask(MODELS[3 + number % 2], actor=actor, session=f"codex-{number // 4}", prompt=prompt),
        at.ask(MODELS[number % 3], actor=actor, fault="tools:2" if number % 2 else ""),
        at.ask(MODELS[number % 2], actor=actor, fault=_FAULTS[number % len(_FAULTS)]),
    )
    if number % 3 == 0:
        await at.ask(MODELS[0], actor=actor, fault="slow:20+many:200", leave_after=b"content_block_delta")


async def _thread(at, actor, session, prompt):
    """Ask, have the model call a tool twice, bring it the results, and get an answer."""
    messages = said(prompt)
    for fault in ("tool:Read", "tool:Bash", ""):
        answer = await at.ask(MODELS[0], actor=actor, session=session, messages=messages, fault=fault)
        found = _TOOL_ID.search(answer)
        if not fault:
            return
        assert found, answer
        call = {"type": "tool_use", "id": found[1].decode(), "name": fault.partition(":")[2], "input": {}}
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": "fine"}
        messages = [*messages, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]


async def shown(page):
    """Wait until the dashboard shows what its address says: the address is the first to change."""
    await page.wait_for_function("() => document.getElementById('main').dataset.shows === location.hash")
