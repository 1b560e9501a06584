"""Who asks: each mode's way from a request to an actor, and what of the headers goes on."""

import hashlib
from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from aibridge.auth import (
    ANONYMOUS,
    MAX_ACTOR_BYTES,
    HeaderAuthenticator,
    KeyAuthenticator,
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
    return authenticator.authenticate(Caller(headers, peer))


def refusal(authenticator, *headers, peer=PROXY):
    with pytest.raises(RequestRejected) as refused:
        ask(authenticator, *headers, peer=peer)
    return refused.value


TABLE = [("alice", digest("key-of-alice")), ("bob", digest("key-of-bob"))]
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
    held = repr(vars(KEYS))
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
