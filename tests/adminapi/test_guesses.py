"""Wrong keys are counted by network, forgotten with time, and kept in a bounded place."""

import pytest

from aibridge.adminapi import guesses as module
from aibridge.adminapi.guesses import AT_ONCE, SECONDS, Guesses

PEER = "192.0.2.1"


def spent(guesses, peer=PEER, now=0.0):
    for number in range(AT_ONCE):
        assert guesses.wait(peer, now) == 0
        guesses.count(peer, b"%d" % number, now)


def test_after_a_few_one_every_few_seconds():
    guesses = Guesses()
    spent(guesses)
    assert guesses.wait(PEER, 0.0) == SECONDS
    assert guesses.wait(PEER, SECONDS - 1) == 1
    assert guesses.wait(PEER, SECONDS) == 0
    guesses.count(PEER, b"one more", SECONDS)
    assert guesses.wait(PEER, SECONDS) == SECONDS
    spent(guesses, now=1000.0)  # all is forgotten


def test_the_last_wrong_keys_are_known():
    guesses = Guesses()
    assert not guesses.is_known(PEER, b"0")
    spent(guesses)
    assert guesses.is_known(PEER, b"0")
    assert not guesses.is_known("192.0.2.2", b"0")
    guesses.count(PEER, b"one more", SECONDS)
    assert not guesses.is_known(PEER, b"0")


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8::1", False),
        ("", False),
    ],
)
def test_who_is_the_same(other, is_same):
    guesses = Guesses()
    spent(guesses)
    assert (guesses.wait(other, 0.0) > 0) is is_same


def test_a_host_of_ipv6_has_many_addresses():
    guesses = Guesses()
    spent(guesses, "2001:db8::1")
    assert guesses.wait("2001:db8:0:ffff:ffff:ffff:ffff:ffff", 0.0) > 0
    assert guesses.wait("2001:db8:1::1", 0.0) == 0


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MAX_NETWORKS", 3)
    guesses = Guesses()
    for number in range(5):
        guesses.count(f"192.0.2.{number}", b"x", 0.0)
    assert list(guesses._tries) == ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
    guesses.count("192.0.2.9", b"x", SECONDS)  # those whose time is over go first
    assert list(guesses._tries) == ["192.0.2.9"]
