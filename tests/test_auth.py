"""Who asks: each mode's way from a request to an actor, and what of the headers goes on."""

import hashlib
from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from aibridge import auth
from aibridge.access import EVERYTHING, Identity
from aibridge.auth import (
    MAX_ACTOR_BYTES,
    HeaderAuthenticator,
    Key,
    KeyAuthenticator,
    KeyRing,
    OpenAuthenticator,
)
from aibridge.errors import RequestRejected
from aibridge.headers import ActorHeaderNames
from aibridge.values import Actor

OTHER = (b"anthropic-version", b"2023-06-01")
PROXY = "10.1.2.3"


@dataclass
class Caller:
    headers: tuple
    peer: str = PROXY


def digest(key):
    return hashlib.sha256(key.encode()).digest()


def ask(authenticator, *headers, peer=PROXY):
    identity, passed = authenticator.authenticate(Caller(headers, peer))
    assert identity.access is EVERYTHING
    return identity.actor, passed


def refusal(authenticator, *headers, peer=PROXY):
    with pytest.raises(RequestRejected) as refused:
        ask(authenticator, *headers, peer=peer)
    return refused.value


NOW = 1000.0
ANONYMOUS = Actor("anonymous")


def key(name, **more):
    return Key(digest(f"key-of-{name}"), Identity(Actor(name)), **more)


def ring(*keys):
    return KeyRing(lambda: NOW, keys)


TABLE = [ring(key("alice"), key("bob"))]
OPEN = OpenAuthenticator()
KEYS = KeyAuthenticator(TABLE)
HEADER = HeaderAuthenticator(
    ActorHeaderNames(b"x-user", b"x-name", b"x-groups"), [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
)
USER = (b"x-user", b"ann")

BAD_CREDENTIALS = [
    ((b"authorization", b"Bearer"),),
    ((b"authorization", b"Bearer "),),
    ((b"authorization", b"Bearer a b"),),
    ((b"authorization", b"Basic YTpi"),),
    ((b"authorization", b"sk-own"),),
    ((b"x-api-key", b" "), (b"authorization", b"Bearer a b")),
    ((b"authorization", b"Bearer"), (b"x-api-key", b"")),
]


# open


def test_in_open_everyone_is_let_in_and_headers_go_on():
    headers = ((b"x-api-key", b"sk-own"), (b"x-aibridge-key", b"whatever"), OTHER)
    assert ask(OPEN, *headers) == (ANONYMOUS, headers)


@pytest.mark.parametrize("headers", BAD_CREDENTIALS)
def test_a_credential_that_is_none_is_refused_in_every_mode_that_lets_it_on(headers):
    told = [
        refusal(OPEN, *headers, OTHER),
        refusal(HEADER, *headers, USER),
        refusal(KEYS, *headers, (b"x-aibridge-key", b"key-of-bob")),
    ]
    assert {(one.reason, one.status) for one in told} == {("bad_credential", 401)}


def test_a_good_key_wins_over_a_broken_authorization():
    headers = ((b"x-api-key", b"sk-own"), (b"authorization", b"Basic YTpi"))
    assert ask(OPEN, *headers) == (ANONYMOUS, headers)


def test_headers_that_only_we_may_send_are_held_back_in_every_mode():
    ours = frozenset({b"x-employee"})
    forged = (b"x-employee", b"root")
    assert ask(OpenAuthenticator(ours), forged, OTHER) == (ANONYMOUS, (OTHER,))
    keys = KeyAuthenticator(TABLE, ours=ours)
    assert ask(keys, forged, OTHER, (b"x-api-key", b"key-of-bob"))[1] == (OTHER,)
    assert forged not in ask(keys, forged, OTHER, (b"x-aibridge-key", b"key-of-bob"))[1]
    named = HeaderAuthenticator(ActorHeaderNames(b"x-user"), [ip_network(PROXY)], ours)
    assert ask(named, forged, OTHER, USER) == (Actor("ann"), (OTHER,))


# keys


@pytest.mark.parametrize(
    "header",
    [
        (b"x-api-key", b"key-of-bob"),
        (b"x-api-key", b" key-of-bob "),
        (b"authorization", b"Bearer key-of-bob"),
        (b"authorization", b"bearer  key-of-bob"),
    ],
)
def test_a_gateway_key_goes_no_further(header):
    actor, headers = ask(KEYS, header, OTHER)
    assert actor == Actor("bob")
    assert headers == (OTHER,)


def test_no_credential_goes_on_beside_a_gateway_key():
    both = ((b"authorization", b"Bearer sk-own"), (b"x-api-key", b"key-of-alice"), OTHER)
    assert ask(KEYS, *both) == (Actor("alice"), (OTHER,))


def test_a_key_in_its_own_header_lets_the_others_be_the_clients():
    headers = ((b"x-aibridge-key", b"key-of-alice"), (b"x-api-key", b"sk-own"), (b"authorization", b"Bearer own"))
    assert ask(KEYS, *headers) == (Actor("alice"), headers)


def test_a_gateway_key_beside_a_gateway_key_goes_no_further():
    separate = (b"x-aibridge-key", b"key-of-alice")
    for twice in (
        (b"x-api-key", b"key-of-bob"),
        (b"authorization", b"Bearer key-of-alice"),
        (b"x-api-key", b"Bearer key-of-bob"),
        (b"authorization", b"Basic key-of-bob"),
    ):
        assert ask(KEYS, separate, twice) == (Actor("alice"), (separate,))


def test_where_a_key_may_stand_can_be_said():
    only_key, only_bearer = KeyAuthenticator(TABLE, [b"x-api-key"]), KeyAuthenticator(TABLE, [b"authorization"])
    key, bearer = (b"x-api-key", b"key-of-bob"), (b"authorization", b"Bearer key-of-bob")
    assert ask(only_key, key, (b"authorization", b"Bearer own")) == (Actor("bob"), ())
    assert ask(only_bearer, bearer, (b"x-api-key", b"own")) == (Actor("bob"), ())
    assert refusal(only_key, bearer).message == "a gateway key is needed, as x-api-key"
    assert refusal(only_bearer, key).message == "a gateway key is needed, as Authorization: Bearer"
    assert ask(only_bearer, (b"x-aibridge-key", b"key-of-bob"))[0] == Actor("bob")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((), "no_key"),
        ((OTHER,), "no_key"),
        (((b"x-api-key", b""),), "no_key"),
        (((b"authorization", b"Basic key-of-bob"),), "no_key"),
        (((b"authorization", b"key-of-bob"),), "no_key"),
        (((b"x-aibridge-key", b"  "),), "no_key"),
        (((b"x-api-key", b"key-of-carol"),), "wrong_key"),
        (((b"x-api-key", b"KEY-OF-BOB"),), "wrong_key"),
        (((b"x-api-key", b"key-of-bo"),), "wrong_key"),
        (((b"x-api-key", b"key-of-bob\xff"),), "wrong_key"),
        (((b"x-api-key", b"sha256:" + digest("key-of-bob").hex().encode()),), "wrong_key"),
        (((b"x-aibridge-key", b"wrong"), (b"x-api-key", b"key-of-bob")), "wrong_key"),
        (((b"x-api-key", b"sk-own"), (b"authorization", b"Bearer key-of-bob")), "wrong_key"),
    ],
)
def test_refusals(headers, reason):
    refused = refusal(KEYS, *headers)
    assert (refused.reason, refused.status) == (reason, 401)
    assert "key-of" not in refused.message


def test_keys_are_not_kept():
    held = repr(vars(TABLE[0]))
    assert "alice" in held
    assert "key-of" not in held


# header


def test_the_proxy_says_who_asks_and_its_headers_go_no_further():
    told = ((b"x-name", b"Ann A."), OTHER, USER, (b"x-groups", b"red, blue,,"), (b"x-api-key", b"sk-own"))
    actor, headers = ask(HEADER, *told)
    assert actor == Actor("ann", "Ann A.", ("red", "blue"))
    assert headers == (OTHER, (b"x-api-key", b"sk-own"))


@pytest.mark.parametrize("peer", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "fd12::1", "fd12::1%eth0"])
def test_the_proxy_is_known_by_its_address(peer):
    assert ask(HEADER, USER, peer=peer)[0] == Actor("ann")


@pytest.mark.parametrize("peer", ["11.0.0.1", "127.0.0.1", "::1", "fe80::1", "::ffff:11.0.0.1", "", "10.1.2.3.4"])
def test_nobody_else_is_let_in_whatever_they_say(peer):
    refused = refusal(HEADER, USER, (b"x-forwarded-for", b"10.1.2.3"), peer=peer)
    assert (refused.reason, refused.status) == ("untrusted_peer", 403)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((), "no_actor"),
        (((b"x-name", b"Ann"),), "no_actor"),
        (((b"x-user", b""),), "no_actor"),
        (((b"x-user", b"  "),), "no_actor"),
        (((b"x-user", b"a" * (MAX_ACTOR_BYTES + 1)),), "bad_actor"),
        (((b"x-user", b"ann\tb"),), "bad_actor"),
        (((b"x-user", b"ann\x00"),), "bad_actor"),
        (((b"x-user", b"ann\x1b[2J"),), "bad_actor"),
        (((b"x-user", b"ann\x7f"),), "bad_actor"),
        (((b"x-user", "änn".encode()),), "bad_actor"),
        (((b"x-user", b"ann"), (b"x-user", b"ann")), "bad_actor"),
        ((USER, (b"x-name", b"A\x00")), "bad_actor"),
        ((USER, (b"x-groups", b"a" * (MAX_ACTOR_BYTES + 1))), "bad_actor"),
    ],
)
def test_what_cannot_be_an_actor_is_refused(headers, reason):
    refused = refusal(HEADER, *headers)
    assert (refused.reason, refused.status) == (reason, 401)


def test_the_longest_actor_is_let_in():
    assert ask(HEADER, (b"x-user", b"a" * MAX_ACTOR_BYTES))[0] == Actor("a" * MAX_ACTOR_BYTES)


# what a ring of keys says


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"revoked": True}, "revoked_key"),
        ({"expires_at": NOW}, "expired_key"),
        ({"expires_at": NOW - 1}, "expired_key"),
    ],
)
def test_a_key_that_is_over_says_so(more, reason):
    told = refusal(KeyAuthenticator([ring(key("bob", **more))]), (b"x-api-key", b"key-of-bob"))
    assert (told.reason, told.status) == (reason, 401)


def test_a_key_is_good_until_it_expires():
    assert ask(KeyAuthenticator([ring(key("bob", expires_at=NOW + 0.1))]), (b"x-api-key", b"key-of-bob"))


def test_a_key_that_is_over_goes_no_further_either():
    keys = KeyAuthenticator([ring(key("alice"), key("bob", revoked=True))])
    headers = ((b"x-aibridge-key", b"key-of-alice"), (b"authorization", b"Bearer key-of-bob"), OTHER)
    assert b"authorization" not in dict(ask(keys, *headers)[1])


def test_changes_are_taken_one_by_one_or_whole():
    keys = ring(key("alice"), key("bob"))
    keys.update([key("bob", revoked=True), key("eve")])
    assert keys.states() == {"active": 2, "expired": 0, "revoked": 1}
    keys.update([key("eve", expires_at=NOW)], whole=True)
    assert keys.states() == {"active": 0, "expired": 1, "revoked": 0}
    assert keys.find("", digest("key-of-alice")) is None


def test_where_keys_cannot_be_checked_none_is_called_wrong():
    stale = ring(key("bob"))
    stale.stale = True
    keys = KeyAuthenticator([*TABLE, stale])
    assert ask(keys, (b"x-api-key", b"key-of-alice"))[0] == Actor("alice")
    for name in (b"bob2", b"eve"):
        told = refusal(KeyAuthenticator([stale]), (b"x-api-key", b"key-of-" + name))
        assert (told.reason, told.status) == ("keys_unknown", 503)


@pytest.mark.parametrize(("name", "found"), [("bob", True), ("eve", False)])
def test_hashes_are_compared_in_constant_time_whatever_was_found(monkeypatch, name, found):
    compared = []
    real = auth.hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    assert (ring(key("bob")).find("", digest(f"key-of-{name}")) is not None) == found
    ((known, asked),) = compared
    assert asked == digest(f"key-of-{name}")
    assert len(known) == len(asked)
    assert (known == asked) == found


def test_a_hash_that_the_comparison_does_not_take_opens_nothing(monkeypatch):
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda _a, _b: False)
    assert ring(key("bob")).find("", digest("key-of-bob")) is None


def test_no_key_shows_its_hash():
    assert repr(key("bob")) == "<Key of bob>"
