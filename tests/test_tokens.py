"""Tokens, without a server: which are ours, what is remembered, and what an issuer's keys may be."""

import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from aibridge import tokens as module
from aibridge.auth import KeyAuthenticator, digest_of
from aibridge.errors import RequestRejected
from aibridge.tokens import TokenRules, Tokens

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
RULES = TokenRules(
    issuer="https://id.example", audiences=["gateway"], algorithms=["ES256"], leeway=0.0, id_claim="sub",
    name_claim="name", teams_claim="groups",
)  # fmt: skip


def public(key, **more):
    return {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": "one", **more}


def token(key=KEY, **claims):
    told = {"iss": RULES.issuer, "aud": "gateway", "sub": "ann", "exp": int(time.time()) + 600, **claims}
    return jwt.encode(told, key, "ES256", headers={"kid": "one"})


def source(*keys, clock=time.time):
    tokens = Tokens(RULES, clock)
    tokens.take(list(keys or [public(KEY)]))
    return tokens


def find(tokens, text):
    return tokens.find(text, digest_of(text))


def refusal(tokens, text):
    with pytest.raises(RequestRejected) as refused:
        find(tokens, text)
    return refused.value.reason, refused.value.status


@pytest.mark.parametrize(
    ("claims", "ours"),
    [({}, True), ({"aud": ["x", "gateway"]}, True), ({"aud": "x"}, False), ({"iss": "https://other.example"}, False)],
)
def test_a_token_for_us_never_goes_upstream_and_one_for_others_does(claims, ours):
    """Good or not: a client's own token of another issuer is its own business."""
    keys = KeyAuthenticator([source()])
    text = token(OTHER, **claims)

    class Caller:
        headers = ((b"x-aibridge-key", token().encode()), (b"authorization", f"Bearer {text}".encode()))
        peer = ""

    assert (b"authorization" not in dict(keys.authenticate(Caller())[1])) == ours


def test_what_is_no_token_is_left_to_others():
    for text in ("aib_key", "eyJ.two", "eyJ" + "a" * 9000 + ".b.c"):
        assert find(source(), text) is None
        assert not source().knows(text, b"")


def test_a_token_is_checked_once_while_it_is_good(monkeypatch):
    now = time.time()
    tokens = source(clock=lambda: now)
    text = token()
    checked = []
    real = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *args, **more: checked.append(1) or real(*args, **more))
    assert find(tokens, text) is find(tokens, text)
    assert len(checked) == 1
    now += 601
    find(tokens, text)  # checked again, by the library's own clock, which has not moved
    assert len(checked) == 2


def test_what_is_remembered_has_a_bound(monkeypatch):
    monkeypatch.setattr(module, "_MAX_KNOWN", 3)
    tokens = source()
    for number in range(6):
        assert find(tokens, token(sub=f"a{number}")).actor.id == f"a{number}"
    assert len(tokens._known) == 3


def test_a_key_that_is_withdrawn_opens_nothing_that_it_opened():
    tokens, text = source(), token()
    assert find(tokens, text)
    tokens.take([public(KEY)])
    assert len(tokens._known) == 1  # the same keys
    tokens.take([public(OTHER)])
    assert refusal(tokens, text) == ("wrong_key", 401)


@pytest.mark.parametrize(
    "bad",
    [
        {}, {"kty": "EC"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "one"}, {"kty": ["EC"]}, {"kty": "EC", "crv": 5},
        public(KEY, use="enc"), public(KEY, alg="ES384"), public(KEY, x=7), public(KEY, kid=None),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used_are_passed_over(bad):
    assert refusal(source(bad), token()) == ("wrong_key", 401)
    assert find(source(bad, public(KEY)), token())


def test_before_keys_are_known_no_token_is_called_wrong():
    assert refusal(Tokens(RULES, time.time), token()) == ("keys_unknown", 503)
