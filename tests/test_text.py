"""Text from outside: cut, or read as a time."""

import pytest

from aibridge.text import bounded, moment


@pytest.mark.parametrize(
    ("text", "limit", "result"),
    [
        ("", 3, ""),
        ("abc", 3, "abc"),
        ("abcd", 3, "abc"),
        ("äöü", 6, "äöü"),
        ("äöü", 5, "äö"),
        ("a😀", 4, "a"),
        ("a😀", 5, "a😀"),
        ("\udcff", 3, "?"),
    ],
)
def test_bounded(text, limit, result):
    assert bounded(text, limit) == result
    assert len(bounded(text, limit).encode()) <= limit


@pytest.mark.parametrize(
    ("text", "ahead", "found"),
    [
        ("90d", True, 1_000_000 + 90 * 86_400),
        ("24h", False, 1_000_000 - 86_400),
        ("9999-12-31T23:59:59", True, 253_402_300_799),
        ("9999-12-31T23:59:59-01:00", True, None),
        ("999999999d", True, None),
        ("9" * 400 + "d", True, None),
        ("soon", True, None),
    ],
)
def test_a_moment_is_one_that_a_calendar_shows(text, ahead, found):
    assert moment(text, 1_000_000.0, ahead=ahead) == found
