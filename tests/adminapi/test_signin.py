"""Sessions: good for whom they were given, for as long as was said, and no longer than a logout."""

import hashlib

import pytest

from aibridge.adminapi import signin
from aibridge.adminapi.guesses import AT_ONCE
from aibridge.adminapi.problems import Problem
from aibridge.adminapi.signin import SESSION_SECONDS, AdminKey, SignIn

NOW = 1_800_000_000.0
PEER = "192.0.2.1"


@pytest.fixture
def sign_in():
    return SignIn([AdminKey(name, hashlib.sha256(name.encode() * 9).digest()) for name in ("ann", "bob")])


def cookie(sign_in, name="ann", now=NOW):
    [(header, value)] = sign_in.start(name, now)
    assert header == b"set-cookie"
    return value.partition(b";")[0]


def test_keys_are_told_apart(sign_in):
    assert [sign_in.by_key(key, PEER) for key in ("ann" * 9, "bob" * 9, "bob", "")] == ["ann", "bob", None, None]


@pytest.mark.parametrize("key", ["\ud800", "ann" * 9 + "\udfff"])
def test_half_a_surrogate_pair_is_no_key(sign_in, key):
    assert sign_in.by_key(key, PEER) is None


def test_another_hosts_cookie_hides_no_session(sign_in):
    mine = cookie(sign_in)
    headers = ((b"cookie", b"aibridge_admin=x|1|2|3; " + mine),)
    assert sign_in.by_cookie(headers, NOW) == "ann"
    sign_in.end(headers, NOW)
    assert sign_in.by_cookie(((b"cookie", mine),), NOW) is None


def test_a_session_ends(sign_in):
    headers = ((b"cookie", b"a=b; " + cookie(sign_in)),)
    assert sign_in.by_cookie(headers, NOW + SESSION_SECONDS - 1) == "ann"
    assert sign_in.by_cookie(headers, NOW + SESSION_SECONDS) is None


def test_a_logout_ends_one_session_and_no_other(sign_in):
    one, two = (((b"cookie", cookie(sign_in)),) for _ in range(2))
    [(_, gone)] = sign_in.end(one, NOW)
    assert b"Max-Age=0" in gone
    assert (sign_in.by_cookie(one, NOW), sign_in.by_cookie(two, NOW)) == (None, "ann")
    sign_in.end(((b"cookie", b"aibridge_admin=x"),), NOW)


def test_what_is_kept_of_logouts_is_bounded(sign_in, monkeypatch):
    monkeypatch.setattr(signin, "_MAX_ENDED", 3)
    for _ in range(5):
        sign_in.end(((b"cookie", cookie(sign_in)),), NOW)
    assert len(sign_in._ended) == 3
    sign_in.end(((b"cookie", cookie(sign_in, now=NOW + 1 + SESSION_SECONDS)),), NOW + 1 + SESSION_SECONDS)
    assert len(sign_in._ended) == 1


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: text.replace(b"ann", b"bob"),
        lambda text: text.replace(b"|18", b"|19"),
        lambda text: text[:-1] + (b"0" if text[-1:] != b"0" else b"1"),
        lambda text: text.rpartition(b"|")[0],
        lambda text: text.replace(b"ann", "änn".encode()),
        lambda text: text.replace(b"|18", b"|1e"),
        lambda _: b"aibridge_admin=",
        lambda _: b"aibridge_admin=|||",
        lambda _: b"",
    ],
)
def test_what_was_changed_is_no_session(sign_in, broken):
    assert sign_in.by_cookie(((b"cookie", broken(cookie(sign_in))),), NOW) is None


def test_another_process_knows_no_session_of_this_one(sign_in):
    assert SignIn([]).by_cookie(((b"cookie", cookie(sign_in)),), NOW) is None


def test_a_secret_is_in_no_repr(sign_in):
    assert "ann" * 9 not in repr(vars(sign_in))


def test_whoever_guesses_is_held_up_and_others_are_not(sign_in):
    for number in range(AT_ONCE):
        assert sign_in.by_key(f"guess {number}", PEER) is None
    for key in ("another guess", "ann" * 9):
        with pytest.raises(Problem) as caught:
            sign_in.by_key(key, PEER)
        assert (caught.value.status, caught.value.code) == (429, "too_many_guesses")
        assert 1 <= int(dict(caught.value.headers)[b"retry-after"]) <= 6
    assert sign_in.by_key("guess 3", PEER) is None  # no news, and no guess
    assert sign_in.by_key("ann" * 9, "192.0.2.2") == "ann"


def test_behind_https_a_cookie_is_for_nothing_else():
    sign_in = SignIn([AdminKey("ann", b"a" * 32)], https=True)
    [(_, value)] = sign_in.start("ann", NOW)
    text, *terms = value.split(b"; ")
    assert {b"Secure", b"HttpOnly", b"SameSite=Strict", b"Path=/"} < set(terms)
    assert text.startswith(b"__Host-aibridge_admin=ann|")
    assert sign_in.by_cookie(((b"cookie", text),), NOW) == "ann"
    assert sign_in.by_cookie(((b"cookie", text.removeprefix(b"__Host-")),), NOW) is None
    [(_, gone)] = sign_in.end(((b"cookie", text),), NOW)
    assert gone.startswith(b"__Host-aibridge_admin=; ")
    assert b"; Secure" in gone


def test_a_session_ends_with_its_key(sign_in):
    ann, bob = (((b"cookie", cookie(sign_in, name)),) for name in ("ann", "bob"))
    sign_in.keys = (AdminKey("ann", hashlib.sha256(b"another").digest()), sign_in.keys[1])
    assert (sign_in.by_cookie(ann, NOW), sign_in.by_cookie(bob, NOW)) == (None, "bob")
    sign_in.keys = ()
    assert sign_in.by_cookie(bob, NOW) is None


def test_a_key_that_was_tried_too_early_is_good_once_it_is_there(sign_in):
    assert sign_in.by_key("cid" * 9, PEER) is None
    sign_in.keys = (*sign_in.keys, AdminKey("cid", hashlib.sha256(b"cid" * 9).digest()))
    assert sign_in.by_key("cid" * 9, PEER) == "cid"
