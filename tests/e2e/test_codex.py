"""The real Codex in its non-interactive mode through the gateway, where it is installed (`make clients`)."""

import asyncio
import base64
import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from silence_kit import silence_of

from aibridge import clientstream
from aibridge.decompression import decompressed

CODEX = Path(__file__).parent / "node" / "node_modules" / ".bin" / "codex"
PATIENCE = 60.0
FULL = {"content": {"prompts": "full", "arguments": "full", "thoughts": "full"}}
ASKED = "What is the weather in Bern?"
TEXT = "The simulator gives the same answer"
COMMAND = "echo sunny in Bern"
NOWHERE = "http://127.0.0.1:9"
"""Where Codex finds the rest of the world: it looks for news, and for its models' names."""

pytestmark = pytest.mark.skipif(not CODEX.exists(), reason="the package @openai/codex is not here: `make clients`")


@pytest.fixture
async def house(build_house):
    async with build_house(records=FULL) as built:
        yield built


@pytest.fixture
def codex(tmp_path):
    """Return a function that lets Codex do one task, and returns its exit status and what it told, by type."""
    home = tmp_path / "codex"
    home.mkdir()

    async def run(*, settings, login=None):
        if login is not None:
            (home / "auth.json").write_text(json.dumps(login))
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "CODEX_HOME": str(home)}
        environment |= {"HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}
        environment |= {} if login else {"CODEX_API_KEY": "sk-client-key-1234", "GATEWAY_KEY": "sk-client-key-1234"}
        process = await asyncio.create_subprocess_exec(
            *(str(CODEX), "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *("--model", "gpt-sim", *(word for setting in settings for word in ("-c", setting)), ASKED),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # the package's own program starts the real one
                await process.wait()
        return process.returncode, [json.loads(line) for line in said.splitlines()]

    return run


def as_provider(house, more=""):
    """Return settings that make the gateway a provider of its own, as the documentation says."""
    url = f"http://127.0.0.1:{house.port}/openai/v1"
    table = f'{{name="aibridge",base_url="{url}",env_key="GATEWAY_KEY",wire_api="responses"{more}}}'
    return ('model_provider="aibridge"', f"model_providers.aibridge={table}")


def as_openai(house):
    """Return settings that keep Codex's own provider, which tries a WebSocket first."""
    return (f'openai_base_url="http://127.0.0.1:{house.port}/openai/v1"',)


def calling(command):
    """Return an answer that calls Codex's tool."""
    arguments = json.dumps({"cmd": command})
    item = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_own_1"}
    item |= {"name": "exec_command", "arguments": arguments}
    response = {"id": "resp_own_1", "object": "response", "created_at": 1790000000, "model": "gpt-sim"}
    usage = {"input_tokens": 50, "output_tokens": 9, "total_tokens": 59}
    events = [
        {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**response, "status": "completed", "output": [], "usage": usage}},
    ]
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered).encode()


def items(told, kind):
    return [one["item"] for one in told if one["type"] == "item.completed" and one["item"]["type"] == kind]


def reconnections(told):
    return [one["message"] for one in told if one["type"] == "error"]


@pytest.mark.parametrize("settings", [as_provider, as_openai])
async def test_a_session_with_a_tool(house, codex, settings):
    house.simulator.replay(calling(COMMAND))
    status, told = await codex(settings=settings(house))
    assert (status, told[-1]["type"]) == (0, "turn.completed")
    assert reconnections(told) == []
    (ran,) = items(told, "command_execution")
    assert (ran["aggregated_output"], ran["exit_code"]) == ("sunny in Bern\n", 0)
    assert items(told, "agent_message")[-1]["text"].startswith(TEXT)
    first, second = await house.exported(ended=2)
    assert {row["termination"] for row in (first, second)} == {"completed"}
    assert {row["client"] for row in (first, second)} == {"Codex"}
    assert {row["session_id"] for row in (first, second)} == {told[0]["thread_id"]}
    assert second["thread_parent_id"] == first["id"]
    assert [prompt["prompt"] for prompt in first["prompts"] + second["prompts"]] == [ASKED]
    (tool,) = first["tools"]
    assert (tool["tool"], json.loads(tool["arguments"])) == ("exec_command", {"cmd": COMMAND})


async def test_a_websocket_is_refused_once_and_costs_no_try(house, codex):
    status, told = await codex(settings=as_openai(house))
    assert (status, reconnections(told)) == (0, [])
    assert house.metric("aibridge_rejections_total", reason="upgrade_refused") == 1
    asked = [row.path for row in house.simulator.ledger.rows if row.method == "POST"]
    assert asked == ["/v1/responses"] * 2, "the question, and the result of the tool that the simulator called"


FAULTS = ["truncate@3", "truncate@7", "cut@900", "rst@7", "stall@7", "bad_json@7", "error_event@7"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_stream_that_breaks_is_asked_for_again(build_house, codex, fault):
    async with build_house(timeouts=silence_of(fault)) as house:
        house.simulator.play(fault)
        status, told = await codex(settings=as_provider(house))
        assert (status, told[-1]["type"]) == (0, "turn.completed")
        (once,) = reconnections(told)
        assert once.startswith("Reconnecting... 1/")
        assert items(told, "agent_message")[-1]["text"].startswith(TEXT)
        first, *_ = await house.exported(ended=3)
    assert first["termination"] == "upstream_error"


async def test_streams_that_break_again_and_again_are_an_error(house, codex):
    house.simulator.play("truncate@7", times=None)
    status, told = await codex(settings=as_provider(house, ",stream_max_retries=1"))
    assert (status, told[-1]["type"]) == (1, "turn.failed")
    assert "the upstream ended its answer before it was complete" in told[-1]["error"]["message"]
    rows = await house.exported(ended=2)
    assert [row["cause"] for row in rows] == ["truncated"] * 2


def chatgpt_login():
    """Return what Codex keeps of a login with ChatGPT; nobody's."""
    account = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "account-1", "chatgpt_user_id": "user-1"}
    claims = {"exp": int(time.time()) + 86_400, "https://api.openai.com/auth": account}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in ({"alg": "none"}, claims)]
    token = b".".join([part.rstrip(b"=") for part in parts] + [b"none"]).decode()
    tokens = {"id_token": token, "access_token": token, "refresh_token": "none", "account_id": "account-1"}
    return {"auth_mode": "chatgpt", "tokens": tokens, "last_refresh": datetime.now(UTC).isoformat()}


async def test_compressed_requests_behind_a_login_with_chatgpt(house, codex, monkeypatch):
    encodings = []

    def spying(body, encoding, most):
        encodings.append(encoding)
        return decompressed(body, encoding, most)

    monkeypatch.setattr(clientstream, "decompressed", spying)
    house.simulator.replay(calling(COMMAND))
    status, told = await codex(settings=as_openai(house), login=chatgpt_login())
    assert (status, told[-1]["type"], reconnections(told)) == (0, "turn.completed", [])
    first, second = await house.exported(ended=2)
    assert encodings == [b"zstd"] * 2
    assert [prompt["prompt"] for prompt in first["prompts"]] == [ASKED]
    assert second["thread_parent_id"] == first["id"]
