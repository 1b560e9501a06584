"""Credentials in headers: which one counts, and how little is told of it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibridge.credentials import (
    bearer_of,
    client_credential,
    hint,
    redact_bytes,
    redact_cut,
    redact_headers,
    secrets_of,
)
from aibridge.errors import RequestRejected


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer abc", "abc"),
        (b"BEARER\tabc", "abc"),
        (b"  Bearer   abc  ", "abc"),
        (b"Bearer a b", ""),
        (b"Bearer", ""),
        (b"abc", ""),
        (b"Basic abc", ""),
        (b"Bearerabc", ""),
        (b"", ""),
        (None, ""),
        (b"Bearer \xff\xfe", "\xff\xfe"),
    ],
)
def test_bearer_is_two_words(value, token):
    assert bearer_of(value) == token


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ((), None),
        (((b"x-api-key", b""),), None),
        (((b"authorization", b" "), (b"x-api-key", b" ")), None),
        (((b"authorization", b"Basic t"), (b"x-api-key", b"k")), (b"x-api-key", "k")),
        (((b"x-api-key", b"k"),), (b"x-api-key", "k")),
        (((b"x-api-key", b" k "),), (b"x-api-key", "k")),
        (((b"authorization", b"Bearer t"),), (b"authorization", "t")),
        (((b"authorization", b"Bearer t"), (b"x-api-key", b"k")), (b"x-api-key", "k")),
        (((b"x-api-key", b" "), (b"authorization", b"Bearer t")), (b"authorization", "t")),
        (((b"x-api-key", b"first"), (b"x-api-key", b"second")), (b"x-api-key", "first")),
    ],
)
def test_the_key_wins_over_the_token(headers, found):
    assert client_credential(headers) == found


@pytest.mark.parametrize(
    "headers",
    [
        ((b"authorization", b"Basic t"),),
        ((b"authorization", b"Bearer"),),
        ((b"authorization", b"Bearer a b"),),
        ((b"authorization", b"t"),),
        ((b"x-api-key", b" "), (b"authorization", b"t")),
        ((b"authorization", b""), (b"authorization", b"Bearer")),
    ],
)
def test_an_authorization_without_a_token_is_a_mistake(headers):
    with pytest.raises(RequestRejected) as refused:
        client_credential(headers)
    assert (refused.value.reason, refused.value.status) == ("bad_credential", 401)


SECRETS = ("sk-ant-api03-abcdefgh", "é/secret+12")


def test_secrets_are_taken_out_of_what_an_upstream_echoes():
    data = "you sent sk-ant-api03-abcdefgh and é/secret+12".encode("latin-1")
    assert redact_bytes(data, SECRETS) == "you sent sk-a...efgh and é/...12".encode("latin-1")
    headers = ((b"request-id", data), (b"content-type", b"text/plain"))
    assert redact_headers(headers, SECRETS) == ((b"request-id", redact_bytes(data, SECRETS)), headers[1])


def test_what_holds_no_secret_stays_the_same():
    data, headers = b"\xff\x00 nothing", ((b"a", b"b"),)
    assert redact_bytes(data, SECRETS) is data
    assert redact_headers(headers, SECRETS) is headers


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("", ""),
        ("a", "..."),
        ("abcd", "..."),
        ("abcde", "a...e"),
        ("abcdefghi", "a...i"),
        ("abcdefghij", "ab...ij"),
        ("abcdefghijklmnopqrs", "ab...rs"),
        ("abcdefghijklmnopqrst", "abcd...qrst"),
        ("sk-ant-api03-" + "x" * 90 + "wxyz", "sk-a...wxyz"),
    ],
)
def test_hints(secret, shown):
    assert hint(secret) == shown


@given(st.text(min_size=1))
def test_a_hint_leaves_more_hidden_than_it_shows(secret):
    shown = len(hint(secret)) - len("...")
    assert 0 <= shown <= 8
    assert shown * 2 <= len(secret)


def test_secrets_in_a_query_are_known_by_their_names():
    target = (
        "/v1/models?limit=3&api_key=abcdefgh1&api%5Fk%65y=abcdefgh2&x?token=abcdefgh3&Signature=abc%2Fefgh4&key=short"
    )
    found = secrets_of((), target)
    assert found == ("abcdefgh1", "abcdefgh1", "abcdefgh2", "abcdefgh2", "abcdefgh3", "abcdefgh3", *_BOTH)


_BOTH = ("abc%2Fefgh4", "abc/efgh4")


@pytest.mark.parametrize("part", ["?", "?key", "key", "&token", "?a=b&", "key="])
def test_no_query_takes_more_than_one_look_at_each_byte(part):
    began = time.process_time()
    secrets_of((), "/v1/messages?" + part * (64_000 // len(part)))
    assert time.process_time() - began < 2, "minutes, where each place is looked at for each other"


@pytest.mark.parametrize("size", range(8, len("sk-a-long-secret-efgh")))
def test_a_text_that_was_cut_inside_a_secret(size):
    secret = "sk-a-long-secret-efgh"
    assert redact_cut("x" + secret[:size], (secret,)) == "x" + hint(secret)
    assert redact_cut(f"{secret} {secret[:size]}", (secret,)) == f"{hint(secret)} {hint(secret)}"
    assert redact_cut(secret[:size] + " x", (secret,)) == secret[:size] + " x", "an end inside the text is no cut"
