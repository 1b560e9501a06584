"""Ids: UUIDs of version 7, that sort by time."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from aibridge.ids import uuid7

MILLISECONDS = st.integers(0, 2**48 - 1)


@given(MILLISECONDS)
def test_is_a_uuid_of_version_7(unix_ms):
    text = uuid7(unix_ms)
    parsed = uuid.UUID(text)
    assert text == str(parsed)
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == unix_ms


@given(MILLISECONDS, MILLISECONDS)
def test_sorts_by_time(one, other):
    if one != other:
        assert (uuid7(one) < uuid7(other)) == (one < other)


def test_differs_within_a_millisecond():
    assert len({uuid7(1_700_000_000_000) for _ in range(1000)}) == 1000


def test_a_time_beyond_48_bits_is_cut_not_spilled():
    assert uuid.UUID(uuid7(2**48 + 5)).int >> 80 == 5
