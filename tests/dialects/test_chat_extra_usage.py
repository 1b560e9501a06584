"""Usage that the client did not order: asked for, and withheld."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from aibridge.body import read_body
from aibridge.content import NOTHING
from aibridge.dialects import DIALECTS, UsageWithheld, asking_usage
from aibridge.errors import CorruptPayload, TruncatedEvent
from aibridge.lifecycle import Signal, State
from aibridge.relay import Relay
from aibridge.wire import SSEScanner

CHAT = DIALECTS["chat"]
RECORDED = Path(__file__).parent / "recorded"

ASKED = ',"stream_options":{"include_usage":true}}'


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ('{"stream":true}', '{"stream":true' + ASKED),
        (' { "n": 2 ,\n "stream" : true }\n', ' { "n": 2 ,\n "stream" : true' + ASKED[:-1] + " }\n"),
        ('{"stream":true,"stream_options":null}', '{"stream":true' + ASKED),
        ('{"stream_options":{},"stream":true}', '{"stream_options":{"include_usage":true},"stream":true}'),
        ('{"stream":true,"stream_options": { } }', '{"stream":true,"stream_options": {"include_usage":true } }'),
        (
            '{"stream":true,"stream_options":{ "include_obfuscation" : false }}',
            '{"stream":true,"stream_options":{"include_usage":true, "include_obfuscation" : false }}',
        ),
        (
            '{"stream_options":{"include_usage": false ,"x":[1, 2]}, "stream":true}',
            '{"stream_options":{"include_usage": true ,"x":[1, 2]}, "stream":true}',
        ),
        (
            '{"stream_options":5,"stream_options":{"include_usage":false},"stream":true}',
            '{"stream_options":5,"stream_options":{"include_usage":true},"stream":true}',
        ),
        (
            '{"stream":true,"messages":[{"role":"user","content":"\\u00e9 é \\/ 1.0"}],"temperature":1.0}',
            '{"stream":true,"messages":[{"role":"user","content":"\\u00e9 é \\/ 1.0"}],"temperature":1.0' + ASKED,
        ),
    ],
)
def test_usage_is_asked_for(body, sent):
    asking = asking_usage(read_body(body.encode()))
    assert asking == sent.encode()
    assert json.loads(asking)["stream_options"]["include_usage"] is True
    assert asking_usage(read_body(asking)) is None


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"stream":false}',
        '{"stream":1}',
        '{"stream":"true"}',
        '{"stream":false,"stream_options":{"include_usage":false}}',
        '{"stream":true,"stream_options":{"include_usage":true}}',
        '{"stream":true,"stream_options":{"include_usage":false,"include_usage":true}}',
        '{"stream":true,"stream_options":{"include_usage":null}}',
        '{"stream":true,"stream_options":{"include_usage":"yes"}}',
        '{"stream":true,"stream_options":{"include_usage":0}}',
        '{"stream":true,"stream_options":[]}',
        '{"stream":true,"stream_options":"null"}',
        '{"stream":true,"stream_options":true}',
    ],
)
def test_usage_is_not_asked_for(body):
    assert asking_usage(read_body(body.encode())) is None


def event(data, end="\n"):
    return f"data: {data}{end}{end}".encode()


TEXT = event('{"id":"1","choices":[{"index":0,"delta":{"content":"x"}}],"usage":null}')
STOP = event('{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}')
USAGE = event('{"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}')
DONE = event("[DONE]")
COMMENT = b": keep-alive\n\n"
PROMPT_FILTER = event('{"id":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}')


def quiet_text(n):
    return event(
        f'{{"id":"1","object":"chat.completion.chunk","created":{n},"model":"gpt-x","choices":[{{"index":0,"delta":'
        '{"content":"x"},"logprobs":null,"finish_reason":null}]}'
    )


def feed(stream, cuts=()):
    """Return what is relayed of a stream, the events' data, and their places in what is relayed."""
    decoder = UsageWithheld(SSEScanner(quiet=CHAT.quiet(NOTHING)))
    relayed, told = b"", []
    places = [0, *sorted(cuts), len(stream)]
    for begin, end in pairwise(places):
        scan = decoder.feed_data(stream[begin:end])
        told += [(one.data, len(relayed) + one.end) for one in scan.events]
        relayed += scan.relay
    relayed += decoder.feed_eof().relay
    assert decoder.taken == len(stream)
    return relayed, told


CASES = {
    "at the end": (TEXT + STOP + USAGE + DONE, TEXT + STOP + DONE),
    "alone": (USAGE, b""),
    "before anything": (USAGE + TEXT + DONE, TEXT + DONE),
    "twice": (TEXT + USAGE + STOP + USAGE + DONE, TEXT + STOP + DONE),
    "one behind the other": (STOP + USAGE + USAGE + DONE, STOP + DONE),
    "never": (TEXT + STOP + DONE, TEXT + STOP + DONE),
    "without the last word": (TEXT + STOP + USAGE, TEXT + STOP),
    "comments around": (STOP + COMMENT + USAGE + COMMENT + DONE, STOP + COMMENT + COMMENT + DONE),
    "blank lines around": (STOP + b"\n\n" + USAGE + b"\n" + DONE, STOP + b"\n\n" + b"\n" + DONE),
    "quiet chunks around": (
        quiet_text(1) + quiet_text(2) + USAGE + quiet_text(3) + DONE,
        quiet_text(1) + quiet_text(2) + quiet_text(3) + DONE,
    ),
    "blanks in it": (STOP + event('{"choices" : [ ], "usage" : {"prompt_tokens": 3}}') + DONE, STOP + DONE),
    "on several lines": (STOP + b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":3}}\n\n' + DONE, STOP + DONE),
    "a filter's first chunk": (PROMPT_FILTER + STOP + USAGE + DONE, PROMPT_FILTER + STOP + DONE),
    "usage with a choice": (
        event('{"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}') + DONE,
        event('{"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}') + DONE,
    ),
    "no member for choices": (STOP + event('{"id":"1","usage":{"prompt_tokens":3}}') + DONE, STOP + DONE),
    "choices that are null": (STOP + event('{"choices":null,"usage":{"prompt_tokens":3}}') + DONE, STOP + DONE),
    "an error with usage": (
        event('{"choices":[],"usage":{"prompt_tokens":3},"error":{"message":"died"}}'),
    ) * 2,
    "usage that is null": (event('{"choices":[],"usage":null}') + DONE,) * 2,
    "a text that looks so": (
        event('{"choices":[{"index":0,"delta":{"content":"\\"choices\\":[]"}}],"x":{"choices":[],"usage":{}}}') + DONE,
    ) * 2,
}  # fmt: skip
for _end in ("\r\n", "\r"):
    _of = {key: value.replace(b"\n", _end.encode()) for key, value in
           {"TEXT": TEXT, "STOP": STOP, "USAGE": USAGE, "DONE": DONE, "COMMENT": COMMENT}.items()}  # fmt: skip
    CASES[f"line ends {_end!r}"] = (
        _of["TEXT"] + _of["COMMENT"] + _of["USAGE"] + _of["COMMENT"] + _of["DONE"],
        _of["TEXT"] + _of["COMMENT"] + _of["COMMENT"] + _of["DONE"],
    )


@pytest.mark.parametrize("name", CASES)
def test_the_chunk_alone_is_withheld(name):
    stream, kept = CASES[name]
    relayed, told = feed(stream)
    assert relayed == kept
    assert [data for data, _ in told] == [
        one.data for one in SSEScanner(quiet=CHAT.quiet(NOTHING)).feed_data(stream).events
    ]


@pytest.mark.parametrize("name", CASES)
def test_at_all_cuts(name):
    stream, kept = CASES[name]
    whole = feed(stream)
    for at in range(1, len(stream)):
        assert feed(stream, [at]) == whole
    assert feed(stream, range(1, len(stream))) == whole
    assert whole[0] == kept


@pytest.mark.parametrize("name", ["openai", "azure", "vllm", "llama_cpp", "ollama"])
def test_recorded_streams(name):
    stream = (RECORDED / f"{name}.sse").read_bytes()
    blocks = stream.split(b"\n\n")
    (usage,) = [block for block in blocks if b'"choices":[],' in block and b'"usage":{' in block]
    digest = hashlib.sha256(stream.replace(usage + b"\n\n", b"")).digest()
    random = Random(name)
    every_byte = range(1, len(stream))
    for cuts in ([], every_byte, *(random.sample(every_byte, random.randint(1, 40)) for _ in range(50))):
        relayed, told = feed(stream, cuts)
        assert hashlib.sha256(relayed).digest() == digest
        assert usage.removeprefix(b"data: ") in [data for data, _ in told]
        for data, end in told:
            at = relayed.rfind(data, 0, end)
            assert data == usage.removeprefix(b"data: ") or at + len(data) + 2 == end


def test_a_broken_stream_is_broken_behind_it_too():
    decoder = UsageWithheld(SSEScanner())
    with pytest.raises(CorruptPayload) as broken:
        decoder.feed_data(STOP + USAGE + TEXT + b"data: {nonsense\n\n")
    assert broken.value.before.relay == STOP + TEXT
    assert [one.end for one in broken.value.before.events] == [len(STOP), len(STOP), len(STOP + TEXT)]
    with pytest.raises(CorruptPayload) as again:
        decoder.feed_data(TEXT)
    assert again.value.before == (b"", [], 0)


def test_a_stream_that_ends_inside_an_event():
    decoder = UsageWithheld(SSEScanner())
    assert decoder.feed_data(STOP + USAGE[:-1]).relay == STOP
    with pytest.raises(TruncatedEvent):
        decoder.feed_eof()
    assert decoder.taken == len(STOP)


@pytest.mark.parametrize(
    "cuts", [[], [len(TEXT + STOP)], [len(TEXT + STOP + USAGE)], [len(TEXT) + 5, len(TEXT + STOP) + 5]]
)
def test_the_relay_gets_all_facts_and_the_client_no_chunk(cuts):
    relay = Relay(CHAT, "id")
    relay.begin_stream(UsageWithheld(SSEScanner(quiet=CHAT.quiet(NOTHING))))
    stream = TEXT + STOP + USAGE + DONE + b": trailer\n\n"
    places = [0, *cuts, len(stream)]
    got = b"".join(relay.feed_data(stream[a:b], 1.0) for a, b in pairwise(places))
    assert (got, relay.last_words) == (TEXT + STOP, DONE)
    assert relay.state is State.FINISHED
    assert relay.trailing_bytes == len(b": trailer\n\n")
    assert relay.observer.usage[:2] == (3, 2)
    assert relay.events == 4
    assert relay.observer.observe(SSEScanner().feed_data(DONE).events[0]) is Signal.LAST_WORD
