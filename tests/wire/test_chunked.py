"""The plain chunks of HTTP's chunked coding: what is taken, what is given back, and the one thing that is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_strategies import cut

from aibridge.errors import MalformedChunk

ABC = b"3\r\nabc\r\n"


def chunked(pieces, size=b"%x"):
    return b"".join(size % len(piece) + b"\r\n" + piece + b"\r\n" for piece in pieces)


def decode(decoder, chunks, before=b""):
    """Return the data, and all that is behind the plain chunks. Each chunk is handed over behind `before`."""
    data = behind = b""
    for chunk in chunks:
        if behind:  # the decoder is done
            behind += chunk
        else:
            more, behind = decoder.feed_data(before + chunk, len(before))
            data += more
    return data, behind


def every_cut(data):
    """Yield the data whole, byte by byte, and cut at each two places."""
    yield [data[at : at + 1] for at in range(len(data))]
    for first, second in itertools.combinations_with_replacement(range(len(data) + 1), 2):
        yield [data[:first], data[first:second], data[second:]]


@pytest.mark.parametrize("size", [b"%x", b"%X", b"%015x"])
@pytest.mark.parametrize(
    "pieces", [[b"abc"], [b"abc", b"d", b"e" * 27], [b"\r\n", b"0\r\n\r\n", b"\r\n3\r\n"], [b"\r", b"\n"]]
)
def test_plain_chunks(wire, pieces, size):
    for chunks in every_cut(chunked(pieces, size) + b"0\r\n\r\n"):
        assert decode(wire.ChunkedDecoder(), chunks) == (b"".join(pieces), b"0\r\n\r\n")
        assert decode(wire.ChunkedDecoder(), chunks, b"5\r\n") == (b"".join(pieces), b"0\r\n\r\n")


@pytest.mark.parametrize(
    "behind",
    [
        b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"0\r\nx-trailer: 1\r\n\r\n",
        b"0" * 15 + b"\r\n\r\n",
        b"0" * 15 + b"3\r\nabc\r\n",
        b"f" * 16 + b"\r\nabc",
        b"3;name=value\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3\nabc\r\n",
        b"3\rabc\r\n",
        b"-3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"\r\n",
        b"\r\n3\r\nabc\r\n",
        b"g\r\n",
        b"\0",
    ],
)
@pytest.mark.parametrize("before", [b"", ABC])
def test_all_else_is_given_back_as_it_came(wire, before, behind):
    for chunks in every_cut(before + behind):
        assert decode(wire.ChunkedDecoder(), chunks) == (before[3:6], behind)


@pytest.mark.parametrize("behind", [b"d\r\n", b"\r\r\n", b"\n", b"\r0\r\n\r\n", b"0\r\n\r\n", b"\r3\r\n"])
def test_a_chunk_that_does_not_end_is_malformed(wire, behind):
    for chunks in every_cut(ABC[:-2] + behind):
        assert refused(wire.ChunkedDecoder(), chunks) == (b"abc", "no line end behind a chunk")


def refused(decoder, chunks):
    """Return the data before an error, and the error's words."""
    data = b""
    for chunk in chunks:
        try:
            more, behind = decoder.feed_data(chunk)
        except MalformedChunk as error:
            return data + error.before, str(error)
        assert behind == b""
        data += more
    return data, None


def test_a_piece_of_one_chunk_is_not_copied(wire):
    decoder = wire.ChunkedDecoder()
    assert decoder.feed_data(b"10000\r\n") == (b"", b"")
    piece = b"x" * 0x8000
    for _ in range(2):
        assert decoder.feed_data(piece)[0] is piece
    assert decoder.feed_data(b"\r\n1\r\ny") == (b"y", b"")


def test_the_largest_size_is_taken(wire):
    decoder = wire.ChunkedDecoder()
    assert decoder.feed_data(b"f" * 15 + b"\r\nabc") == (b"abc", b"")
    assert decoder.feed_data(b"d" * 1000) == (b"d" * 1000, b"")


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=30), st.data())
def test_any_data_in_any_cut(wire, pieces, data):
    chunks = data.draw(cut(st.just(chunked(pieces))))
    assert decode(wire.ChunkedDecoder(), chunks) == (b"".join(pieces), b"")
