"""Cutting text."""

import pytest

from aibridge.text import bounded


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
