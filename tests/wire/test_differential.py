"""The twins say the same: results, errors, their texts, and what came before them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_kit import QUIET, said, transcript, until_behind
from wire_strategies import (
    any_frames,
    chunk_frames,
    chunked_bodies,
    cut,
    events,
    filled_templates,
    json_texts,
    mutated,
    signed_lies,
    sse_texts,
    streams,
)

pytestmark = pytest.mark.compiled


def in_string(text, at):
    """Whether a place of valid JSON is inside a string."""
    before = text[:at].replace(b"\\\\", b"").replace(b'\\"', b"")
    return before.count(b'"') % 2 == 1


def from_end(wire, text, begin):
    """Yield what `element_start` says, from the end of the array or object at `begin` to its begin."""
    end = begin + 1
    depth = 1
    while depth:
        if not in_string(text, end):
            depth += (text[end] in b"[{") - (text[end] in b"]}")
        end += 1
    end -= 1
    while end > begin:
        start = wire.element_start(text, begin, end)
        yield start
        end = start - 1


def same(twins, chunks, make, **kwargs):
    pure, compiled = (transcript(make(wire)(**kwargs), chunks) for wire in twins)
    assert pure == compiled


@given(cut(streams(any_frames)))
def test_frames(twins, chunks):
    same(twins, chunks, lambda wire: wire.FrameDecoder)


@given(cut(signed_lies(any_frames)))
@settings(max_examples=400)
def test_frames_that_lie(twins, chunks):
    same(twins, chunks, lambda wire: wire.FrameDecoder, max_frame_bytes=64 * 1024)


@given(cut(streams(chunk_frames)))
@settings(max_examples=400)
def test_transcoder(twins, chunks):
    same(twins, chunks, lambda wire: wire.ChunkTranscoder, quiet=QUIET)


@given(cut(signed_lies(chunk_frames)))
def test_transcoder_of_lies(twins, chunks):
    same(twins, chunks, lambda wire: wire.ChunkTranscoder, quiet=QUIET)


@given(cut(sse_texts()), st.sampled_from([5, 40, 200, 1 << 20]), st.booleans())
@settings(max_examples=600)
def test_scanner(twins, chunks, limit, check):
    same(twins, chunks, lambda wire: wire.SSEScanner, quiet=QUIET, max_event_bytes=limit, check_json=check)


@given(cut(mutated(chunked_bodies())))
@settings(max_examples=600)
def test_chunked(twins, chunks):
    pure, compiled = (until_behind(wire.ChunkedDecoder(), chunks) for wire in twins)
    assert pure == compiled


@given(mutated(filled_templates))
@settings(max_examples=400)
def test_templates(twins, text):
    same(twins, [b"data: " + text + b"\n\n"], lambda wire: wire.SSEScanner, quiet=QUIET)


@given(mutated(json_texts()) | json_texts() | st.binary(max_size=12))
@settings(max_examples=600)
def test_scan_object(twins, text):
    pure, compiled = (said(lambda wire=wire: wire.scan_object(text)) for wire in twins)
    assert pure == compiled


@given(json_texts(), st.data())
@settings(max_examples=400)
def test_element_start(twins, text, data):
    brackets = [at for at, byte in enumerate(text) if byte in b"[{" and not in_string(text, at)]
    if brackets:
        begin = data.draw(st.sampled_from(brackets))
        pure, compiled = (list(from_end(wire, text, begin)) for wire in twins)
        assert pure == compiled


@given(st.integers(505, 520), st.sampled_from([b'{"a":', b"[", b'{"\\"{":[']), st.sampled_from([b"0", b'"\\ud800"']))
def test_scan_object_deep(twins, depth, opening, middle):
    closing = opening.replace(b'"\\"{"', b"").translate(bytes.maketrans(b"{[", b"}]"), b'":a')[::-1]
    text = opening * depth + middle + closing * depth
    pure, compiled = (said(lambda wire=wire: wire.scan_object(b'{"k":' + text + b"}")) for wire in twins)
    assert pure == compiled


@given(st.text(max_size=8), st.binary(max_size=20) | mutated(events))
def test_encode_event(twins, kind, data):
    pure, compiled = (said(lambda wire=wire: wire.encode_event(kind, data)) for wire in twins)
    assert pure == compiled


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.booleans() | st.integers(-(2**64), 2**64) | st.binary(max_size=9) | st.text(max_size=9),
        max_size=4,
    ),
    st.binary(max_size=20),
)
def test_encode_frame(twins, headers, payload):
    pure, compiled = (said(lambda wire=wire: wire.encode_frame(headers, payload)) for wire in twins)
    assert pure == compiled


@given(st.lists(st.binary(max_size=12) | st.sampled_from([*QUIET, b'{"type":1}', b"[]", b'{"a":$}', b'{"type":"'])))
def test_templates_refused(twins, templates):
    for name in ("SSEScanner", "ChunkTranscoder"):
        pure, compiled = (
            said(lambda wire=wire, name=name: getattr(wire, name)(quiet=tuple(templates)) and "taken") for wire in twins
        )
        assert pure == compiled
