"""Which chunks of Chat Completions are recognised at sight."""

from pathlib import Path

import pytest

from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects import DIALECTS
from aibridge.wire import SSEScanner

CHAT = DIALECTS["chat"]
RECORDED = Path(__file__).parent / "recorded"


def seen(data, policy=NOTHING):
    """Return the data of the events that are looked at."""
    return [event.data for event in SSEScanner(quiet=CHAT.quiet(policy)).feed_data(data).events]


# server -> events, those looked at where nothing is kept, where thoughts are, where arguments are
STREAMS = {
    "openai": (11, 6, 6, 9),
    "openai_bare": (5, 3, 3, 3),
    "azure": (7, 5, 5, 5),
    "vllm": (8, 4, 8, 4),
    "vllm_usage_on_every_chunk": (5, 5, 5, 5),
    "ollama": (7, 3, 7, 3),
    "llama_cpp": (8, 4, 8, 4),
    "openrouter": (6, 4, 6, 4),
    "groq": (5, 3, 5, 3),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_of_servers(name):
    stream = (RECORDED / f"{name}.sse").read_bytes()
    events, *looked_at = STREAMS[name]
    assert SSEScanner().feed_data(stream).count == events
    policies = NOTHING, ContentPolicy(thoughts=Keep.HASHED), ContentPolicy(arguments=Keep.FULL)
    assert [len(seen(stream, policy)) for policy in policies] == looked_at


@pytest.mark.parametrize(
    "delta",
    [
        b'{"role":"assistant","content":"4"}',
        b'{"role":"assistant","content":"4","reasoning":null,"reasoning_details":[]}',
    ],
)
@pytest.mark.parametrize("end", [b"]}", b'],"system_fingerprint":null}', b'],"system_fingerprint":"fp_1"}'])
def test_text_of_openrouter(delta, end):
    head = b'"object":"chat.completion.chunk","created":1790000000,'
    choice = (
        b'"choices":[{"index":0,"delta":%b,"finish_reason":null,"native_finish_reason":null,"logprobs":null}' % delta
    )
    old = b'data: {"id":"gen-1","provider":"P","model":"m",' + head + choice + end + b"\n\n"
    new = b'data: {"id":"gen-1",' + head + b'"model":"m","provider":"P",' + choice + end + b"\n\n"
    assert seen(old + new) == []


TEXT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"gpt-x",'
    b'"service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":"x"},'
    b'"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b'"index":0', b'"index":1'),
        (b'"usage":null', b'"usage":{"prompt_tokens":1,"completion_tokens":1}'),
        (b'"finish_reason":null', b'"finish_reason":"stop"'),
        (b'{"content":"x"}', b'{"content":"x","refusal":"no"}'),
        (b'{"content":"x"}', b'{"role":"assistant","content":""}'),
        (b'"usage":null', b'"usage":null,"error":{"message":"no"}'),
    ],
)
def test_facts_are_never_quiet(part, other):
    assert seen(TEXT) == []
    assert len(seen(TEXT.replace(part, other))) == 1
