"""Hostile and honest input for property tests."""

import base64
import json
import struct

from hypothesis import strategies as st
from wire_kit import EVENTS, QUIET, chunk_frame, chunk_payload, exception_frame, raw_frame, raw_header, signed, sse_of

from aibridge import jsontext

names = st.one_of(
    st.sampled_from([b":message-type", b":event-type", b":content-type", b"", b"x", b"\xc3\xa9", b"\xff"]),
    st.binary(max_size=6),
)
strings = st.one_of(
    st.sampled_from([b"event", b"exception", b"error", b"chunk", b"application/json", b"initial-response"]),
    st.binary(max_size=12),
    st.text(max_size=8).map(str.encode),
)


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


typed_values = st.one_of(
    st.tuples(st.sampled_from([0, 1]), st.none()),
    st.tuples(st.just(2), integers(8)),
    st.tuples(st.just(3), integers(16)),
    st.tuples(st.just(4), integers(32)),
    st.tuples(st.sampled_from([5, 8]), integers(64)),
    st.tuples(st.sampled_from([6, 7]), strings),
    st.tuples(st.just(9), st.binary(min_size=16, max_size=16)),
)
headers = st.builds(lambda name, typed: raw_header(name, *typed), names, typed_values)
blocks = st.lists(headers, max_size=5).map(b"".join)
any_frames = st.builds(raw_frame, blocks, st.binary(max_size=40))

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=12),
        st.sampled_from(["type", "ping", "\u2028", "\u0085", '"', "\\"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["type", "a", "\xe9", ""]), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def json_texts(draw: st.DrawFn) -> bytes:
    """Draw valid JSON, in various spellings: blanks, escapes, lone surrogates, big numbers."""
    value = draw(json_values)
    indent = draw(st.sampled_from([None, None, 0, 1]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", "\t: ")]))
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    text = draw(st.sampled_from(["", " ", "\n"])) + text + draw(st.sampled_from(["", " ", "\r\n"]))
    data = text.encode("utf-8", "surrogatepass")
    odd = data.replace(
        b"null", draw(st.sampled_from([b"null", b'"\\ud800"', b"1e999", b"-0.0E-7", b"1" * 30, b'"\\u0074"']))
    )
    return odd if jsontext.is_valid(odd) else data  # there may be a string with this word


@st.composite
def mutated(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> bytes:
    """Draw a text with up to three bytes changed, put in or taken out."""
    data = bytearray(draw(texts))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        byte = draw(
            st.sampled_from(list(b'"\\{}[]:,.#$-+eE0 \n\r\t\x00\x1f\x7f\x80\xc2\x85\xe2\xa8\xed\xf4truefalsn1u'))
        )
        how = draw(st.sampled_from(["change", "insert", "delete"]))
        data[at : at + (how != "insert")] = b"" if how == "delete" else bytes((byte,))
    return bytes(data)


filled_templates = st.builds(
    lambda template, number, string, pad: (
        template.replace(b"#", number).replace(b"$", string).replace(b"}", pad + b"}")
    ),
    st.sampled_from(QUIET),
    st.sampled_from([b"0", b"-1", b"12", b"01", b"-", b"1.0", b"9" * 30]),
    st.one_of(
        st.sampled_from([b'""', b'"\xe2\x80\xa8"', b'"\xff"', b'"\\u12"', b'"\\ud800"', b'"\n"', b'"\xed\xa0\x80"']),
        st.text(max_size=30).map(lambda text: json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")),
        st.text(max_size=30).map(lambda text: json.dumps(text).encode()),
    ),
    st.sampled_from([b"", b" ", b"    "]),
)
events = st.one_of(
    st.sampled_from(EVENTS),
    filled_templates,
    mutated(st.sampled_from(EVENTS)),
    json_texts(),
    st.builds(lambda kind: json.dumps({"type": kind}).encode(), st.text(max_size=5)),
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Draw the payload of a chunk: usual, spelled otherwise, or spoilt."""
    event = draw(events)
    encoded = base64.b64encode(event)
    return draw(
        st.sampled_from(
            [
                chunk_payload(event),
                chunk_payload(event, ""),
                b'{"bytes":"%b"}' % encoded,
                b'{"p":"abc","bytes":"%b"}' % encoded,
                b'{"bytes": "%b", "p": "a", "n": 1}' % encoded,
                b'{"bytes":"%b","p":"a b"}' % encoded,
                b'{"bytes":"%b"} ' % encoded.replace(b"/", b"\\/"),
                b'{"bytes":"%b"}' % encoded.rstrip(b"="),
                b'{"bytes":"%b="}' % encoded,
                b'{"bytes":"%b=="}' % encoded.rstrip(b"="),
                b'{"bytes":"%b"}' % encoded[:-1].replace(b"e", b"-"),
                b'{"bytes":%d}' % len(encoded),
                b'["%b"]' % encoded,
                encoded,
            ]
        )
    )


chunk_frames = st.one_of(
    st.builds(chunk_frame, events),
    st.builds(lambda payload: raw_frame(chunk_frame(b"")[12 : -28 - 4], payload), payloads()),
    st.builds(exception_frame, st.sampled_from(["throttlingException", "x"]), st.sampled_from(["", "slow down"])),
)


@st.composite
def signed_lies(draw: st.DrawFn, frames: st.SearchStrategy[bytes] = any_frames) -> bytes:
    """Draw a good frame with one length or header byte changed, and the lie signed with right checksums."""
    frame = bytearray(draw(frames))
    headers_size = struct.unpack_from("!I", frame, 4)[0]
    at = draw(st.integers(0, 7) | st.integers(12, max(12, 12 + headers_size - 1)))
    frame[at] = draw(st.sampled_from([0, 1, 2, 7, 9, 10, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    return signed(bytes(frame))


@st.composite
def streams(draw: st.DrawFn, frames: st.SearchStrategy[bytes] = any_frames) -> bytes:
    """Draw some frames in a row, one of them perhaps a lie, perhaps with junk behind."""
    some = draw(st.lists(frames, max_size=5))
    if draw(st.booleans()):
        some.insert(draw(st.integers(0, len(some))), draw(signed_lies(frames)))
    return b"".join(some) + draw(st.sampled_from([b"", b"", b"\0" * 5, b"\xff" * 20]))


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """Draw a whole, cut anywhere."""
    data = draw(whole)
    if draw(st.integers(0, 9)) == 0:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


sse_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
sse_lines = st.one_of(
    st.sampled_from([b"", b"", b"", b":", b": ping", b"data", b"data:", b"event: a", b"event", b"id: 1", b"retry: 3"]),
    st.sampled_from([b"data: [DONE]", b"data:[DONE] ", b"data:  1", b"data: {", b'data: "a":1}', b"dat", b"datax: 1"]),
    st.builds(lambda event: b"data: " + event, events),
    st.binary(max_size=6),
)


@st.composite
def sse_texts(draw: st.DrawFn) -> bytes:
    """Draw lines of all kinds, each with its own end, perhaps behind a byte order mark; or a real stream, mutated."""
    if draw(st.booleans()):
        end = draw(sse_ends)
        return draw(mutated(st.lists(st.sampled_from(EVENTS), max_size=4).map(lambda some: sse_of(some, end))))
    mark = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb"]))
    same = draw(st.none() | sse_ends)
    lines = draw(st.lists(sse_lines, max_size=10))
    return mark + b"".join(line + (draw(sse_ends) if same is None else same) for line in lines)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    """Draw chunks of HTTP, plain ones and others, perhaps with the last."""
    sizes = st.sampled_from([b"%x", b"%x", b"%x", b"%X", b"%015x", b"%016x", b"%x;a=b", b" %x"])
    pieces = st.sampled_from([b"a", b"abc", b"\r\n", b"0\r\n\r\n"]) | st.binary(min_size=1, max_size=40)
    chunk = st.builds(lambda size, piece: b"%b\r\n%b\r\n" % (size % len(piece), piece), sizes, pieces)
    ends = st.sampled_from([b"", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"000", b"f" * 15 + b"\r\na", b"f" * 20])
    return b"".join(draw(st.lists(chunk, max_size=6))) + draw(ends)
