"""OpenAI's SDK for JavaScript through the gateway, where it is installed (`make clients`)."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "node"
PATIENCE = 60.0
TEXT = "The simulator gives the same answer"
STREAMS = ["chat_events", "chat_helper", "responses_events", "responses_helper"]
WHOLES = ["chat_whole", "responses_whole"]
SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
TOOLS = {
    "chat": [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}],
    "responses": [{"type": "function", "name": "get_weather", "parameters": SCHEMA}],
}

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (HERE / "node_modules" / "openai").exists(),
    reason="node and its package openai are not here: `make clients`",
)


@pytest.fixture
async def house(build_house):
    async with build_house(timeouts={"response": 4.0, "idle": 4.0}) as built:  # some faults are silence
        yield built


@pytest.fixture
def run(house):
    """Return a function that runs cases, one after the other, and returns what became of each."""

    async def run(*cases, direct=False):
        base_url = f"{house.simulator.url}/v1" if direct else f"http://127.0.0.1:{house.port}/openai/v1"
        process = await asyncio.create_subprocess_exec(
            "node",
            str(HERE / "ask.mjs"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        given = json.dumps([{"base_url": base_url, **case} for case in cases]).encode()
        try:
            async with asyncio.timeout(PATIENCE):
                said, complaints = await process.communicate(given)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, complaints.decode()
        results = [json.loads(line) for line in said.splitlines()]
        assert len(results) == len(cases)
        return results

    return run


async def test_answers(house, run):
    for answer in await run(*({"way": way} for way in STREAMS + WHOLES)):
        assert answer["text"].startswith(TEXT)
        assert answer["finish"] in {"stop", "completed", "response.completed"}
    await house.books(ended=6)
    assert house.metric("aibridge_interceptions_total", termination="completed", cause="clean") == 6


@pytest.mark.parametrize("way", ["chat_helper", "chat_whole", "responses_helper", "responses_whole"])
async def test_tools(house, run, way):
    more = {"tools": TOOLS[way.partition("_")[0]]}
    (answer,) = await run({"way": way, "fault": "tools:3", "more": more})
    assert [name for _, name, _ in answer["calls"]] == ["get_weather"] * 3
    assert len({call_id for call_id, _, _ in answer["calls"]}) == 3
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert [(fact.id, fact.name) for fact, _ in house.outcomes.facts if hasattr(fact, "name")] == [
        (call_id, name) for call_id, name, _ in answer["calls"]
    ]


CUT = [f"truncate@{at}" for at in (1, 2, 5, 9, 13)]
BROKEN = [*CUT, "cut@900", "rst@5", "stall@5", "half_event@5", "bad_chunk@5", "bad_json@5"]
TAKEN = ["chat_events", "responses_events", "responses_helper"]
"""The ways in which this SDK takes a stream that is cut cleanly for complete."""


@pytest.mark.parametrize("way", TAKEN)
async def test_a_cleanly_cut_stream_is_taken_for_complete_directly(run, way):
    (answer,) = await run({"way": way, "fault": "truncate@9"}, direct=True)
    assert "error" not in answer
    assert answer["finish"] not in {"stop", "completed", "response.completed"}


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_breaks_is_an_error_through_the_gateway(house, run, way):
    for fault, answer in zip(BROKEN, await run(*({"way": way, "fault": fault} for fault in BROKEN)), strict=True):
        assert answer.get("error") == "APIError", (fault, answer)
        assert "upstream" in answer["message"]
    await house.books(ended=len(BROKEN))
    assert house.metric("aibridge_interceptions_total", termination="upstream_error") == len(BROKEN)


STATUSES = [
    ("status:400", "BadRequestError"),
    ("status:401", "AuthenticationError"),
    ("status:404", "NotFoundError"),
    ("status:429", "RateLimitError"),
    ("status:500", "InternalServerError"),
    ("status:529", "InternalServerError"),
    ("close_before_head", "InternalServerError"),
    ("no_head", "InternalServerError"),
]


@pytest.mark.parametrize("way", ["chat_events", "responses_whole"])
async def test_errors_have_the_sdk_s_own_kinds(run, way):
    answers = await run(*({"way": way, "fault": fault} for fault, _ in STATUSES))
    assert [answer.get("error") for answer in answers] == [kind for _, kind in STATUSES]


@pytest.mark.parametrize("way", ["chat_helper", "responses_events"])
async def test_the_sdk_tries_again(house, run, way):
    house.simulator.play("status:429:1")
    (answer,) = await run({"way": way, "retries": 2})
    assert answer["text"].startswith(TEXT)
    first, second = await house.simulator.ledger.wait_for(2)
    assert second.received_at - first.ended_at >= 1
