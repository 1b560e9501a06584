"""The compiled wire gives back what it takes: memory does not grow with what passes through, errors included."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.compiled

SCRIPT = """
import gc, resource, sys
sys.path.insert(0, sys.argv[1])
from wire_kit import EVENTS, QUIET, chunk_frame, exception_frame, raw_frame, sse_of
from aibridge import _speedups as wire

FRAMES = b"".join(map(chunk_frame, EVENTS)) + exception_frame("x", "y")
TEXT = sse_of(EVENTS) + b"data: [1,\\ndata: 2]\\n\\n"
INPUT = (FRAMES, FRAMES[:-7], FRAMES[:50], FRAMES + b"x" * 90, FRAMES + raw_frame(b"\\x01a\\x63", b""),
         TEXT, TEXT[:-1], TEXT[:9], TEXT + b"data: {\\n\\n", TEXT[:-1] + b"\\r")
CHUNKED = (b"3\\r\\nabc\\r\\n", b"3\\r\\nabc\\r\\n20", b"3\\r\\nabc\\r\\n2;x", b"3\\r\\nabc?",
           b"400\\r\\n" + b"x" * 1024)
BODIES = (b'{"a":1,"\\\\u0062":[2]}', b'{"a":', b"[]")

def attempt(call, *args):
    try:
        call(*args)
    except Exception as error:
        assert type(error).__module__ in ("aibridge.errors", "builtins"), error

def everything():
    for data in INPUT:
        for make in (wire.FrameDecoder, wire.ChunkTranscoder, wire.SSEScanner):
            decoder = make() if make is wire.FrameDecoder else make(quiet=QUIET)
            for call in (lambda: decoder.feed_data(data), lambda: decoder.feed_data(data[:60]), decoder.feed_eof):
                attempt(call)
    for make in (wire.FrameDecoder, wire.ChunkTranscoder, wire.SSEScanner):
        attempt(lambda: make(quiet=(b"{}", b"{")))
    for data in CHUNKED:
        decoder = wire.ChunkedDecoder()
        for chunk in (data, data, data[:-1], data[-1:]):
            attempt(decoder.feed_data, chunk)
    for body in BODIES:
        attempt(wire.scan_object, body)
        attempt(wire.element_start, body, 0, len(body))
        attempt(wire.element_start, body, 0, len(body) + 1)
    attempt(wire.encode_event, "x", b"a\\nb")
    attempt(wire.encode_event, "\\n", b"a")
    attempt(wire.encode_frame, {"a": 1, "b": b"x", "c": True, "d": "e"}, b"payload")
    attempt(wire.encode_frame, {"a": 1 << 70}, b"payload")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for _ in range(300):
    everything()
gc.collect()
before, objects = peak(), len(gc.get_objects())
for _ in range(3000):
    everything()
gc.collect()
print(peak() - before, len(gc.get_objects()) - objects)
"""


def test_memory_does_not_grow():
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)], capture_output=True, check=True, text=True
    )
    grown_kib, more_objects = map(int, said.stdout.split())
    assert grown_kib < 1024
    assert more_objects < 50
