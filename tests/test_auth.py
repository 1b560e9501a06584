"""Who asks: gateway keys to actors, and what of the headers goes on."""

import pytest

from aibridge.auth import ANONYMOUS, Authenticator
from aibridge.errors import RequestRejected
from aibridge.values import Actor

OTHER = (b"anthropic-version", b"2023-06-01")
KEYS = Authenticator([("alice", "key-of-alice"), ("bob", "key-of-bob")])


def test_without_keys_the_gate_is_open_and_headers_go_on():
    headers = ((b"x-api-key", b"sk-own"), (b"x-aibridge-key", b"whatever"), OTHER)
    assert Authenticator([]).authenticate(headers) == (ANONYMOUS, headers)


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
    actor, headers = KEYS.authenticate((header, OTHER))
    assert actor == Actor("bob")
    assert headers == (OTHER,)


def test_no_credential_goes_on_beside_a_gateway_key():
    both = ((b"authorization", b"Bearer sk-own"), (b"x-api-key", b"key-of-alice"), OTHER)
    assert KEYS.authenticate(both) == (Actor("alice"), (OTHER,))


def test_a_key_in_its_own_header_lets_the_others_be_the_clients():
    headers = ((b"x-aibridge-key", b"key-of-alice"), (b"x-api-key", b"sk-own"), (b"authorization", b"Bearer own"))
    assert KEYS.authenticate(headers) == (Actor("alice"), headers)


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
        (((b"x-aibridge-key", b"wrong"), (b"x-api-key", b"key-of-bob")), "wrong_key"),
        (((b"x-api-key", b"sk-own"), (b"authorization", b"Bearer key-of-bob")), "wrong_key"),
    ],
)
def test_refusals(headers, reason):
    with pytest.raises(RequestRejected) as refused:
        KEYS.authenticate(headers)
    assert (refused.value.reason, refused.value.status) == (reason, 401)
    assert "key-of" not in refused.value.message


def test_keys_are_not_kept():
    held = repr(vars(KEYS))
    assert "alice" in held
    assert "key-of" not in held
