"""Recorded answers of OpenAI, played byte for byte."""

import json
import re
from pathlib import Path

import pytest

RECORDED = Path(__file__).parents[1] / "e2e" / "recorded"
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}


def cases():
    for api in PATHS:
        for path in sorted((RECORDED / api).glob("*.txtar")):
            parts = re.split(r"^-- (\S+) --\n", path.read_text(), flags=re.MULTILINE)
            sections = dict(zip(parts[1::2], parts[2::2], strict=True))
            for name, answer in sections.items():
                if name != "request":
                    ending = b"\n\n" if name.startswith("streaming") else b"\n"
                    yield pytest.param(
                        api, sections["request"], answer.strip().encode() + ending, id=f"{api}-{path.stem}-{name}"
                    )


@pytest.mark.parametrize(("api", "request_text", "recording"), list(cases()))
async def test_a_recording_comes_byte_for_byte(simulator, connect, api, request_text, recording):
    simulator.replay(recording)
    streaming = recording.startswith((b"data:", b"event:"))
    body = json.dumps({**json.loads(request_text), "stream": streaming}).encode()
    async with connect(simulator) as client:
        await client.send("POST", PATHS[api], [("authorization", "Bearer x")], body)
        answer = await client.answer()
        await client.send("POST", PATHS[api], [("authorization", "Bearer x")], body)
        after = await client.answer()
    row = (await simulator.ledger.wait_for(2))[0]
    assert answer.body == (recording.partition(b"\n\n")[2] if recording.startswith(b"HTTP/") else recording)
    assert answer.complete
    failed = recording.startswith(b"HTTP/") or any(
        sign in recording[-400:] for sign in (b"response.failed", b'"error": {')
    )
    assert row.terminal_sent == (not failed)
    assert (row.status >= 400) == recording.startswith(b"HTTP/")
    assert after.body != answer.body, "it is played once"


async def test_a_recording_may_be_cut(simulator, ask):
    recording = b'data: {"choices":[]}\n\n' * 4 + b"data: [DONE]\n\n"
    simulator.replay(recording)
    answer = await ask(simulator, "chat", "rst@2")
    (row,) = await simulator.ledger.wait_for(1)
    assert (answer.body, answer.reset) == (recording[:44], True)
    assert (row.events, row.terminal_sent) == (2, False)


async def test_what_was_to_be_replayed_is_forgotten(simulator, ask):
    simulator.replay(b'data: {"x":1}\n\n')
    simulator.clear()
    answer = await ask(simulator, "chat")
    assert answer.body.endswith(b"data: [DONE]\n\n")
