import pytest

from aibridge.simulator.cutter import Cutter
from aibridge.simulator.faults import CLEAN, parse_play

CHUNKS = [b"5\r\nhello\r\n", b"3\r\nyou\r\n", b"0\r\n\r\n"] * 40


def writes(play):
    cutter = Cutter(play)
    parts = [part for chunk in CHUNKS for part in cutter.feed(chunk)]
    return [part for part in (*parts, cutter.flush()) if part]


@pytest.mark.parametrize("words", ["", "drip", "one_write", "split_random:1", "split_random:2"])
def test_the_bytes_stay(words):
    assert b"".join(writes(parse_play(words))) == b"".join(CHUNKS)


def test_by_itself_a_chunk_is_a_write():
    assert writes(CLEAN) == CHUNKS


def test_drip_writes_bytes():
    assert {len(part) for part in writes(parse_play("drip"))} == {1}


def test_one_write_is_one():
    assert len(writes(parse_play("one_write"))) == 1


def test_random_writes_know_no_chunks():
    parts = writes(parse_play("split_random:1"))
    assert parts == writes(parse_play("split_random:1")), "the seed decides"
    assert parts != writes(parse_play("split_random:2"))
    ends, end = set(), 0
    for chunk in CHUNKS:
        end += len(chunk)
        ends.add(end)
    cuts = {sum(map(len, parts[:number])) for number in range(1, len(parts))}
    assert cuts - ends, "some cuts are inside a chunk"
    assert any(len(part) > max(map(len, CHUNKS)) for part in parts), "some writes span chunks"
