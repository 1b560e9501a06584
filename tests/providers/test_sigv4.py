"""Signatures, computed a second time: by the letter of the rules, and by botocore over what Hypothesis thinks of."""

import datetime as dt
import hashlib
import hmac
import re
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aibridge.providers.sigv4 import Keys, sign

HOST = "bedrock-runtime.eu-west-1.amazonaws.com"
NOW = dt.datetime(2026, 3, 1, 23, 59, 59, tzinfo=dt.UTC)
PATHS = [
    "/model/anthropic.claude-v2/invoke",
    "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream",
    "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.anthropic.claude/invoke",
    "/prefix/model/%C3%A9%20~x/invoke",
    "/a//b/./../c:@!$&'()*+,;=/.hidden/",
]


def by_the_letter(path, headers, body, *, secret, scope, when):
    """Return the signature as AWS's documentation writes it out; `path` needs no normalising."""
    names = sorted(headers)
    canonical = "\n".join(
        [
            "POST",
            quote(path, safe="/-_.~"),
            "",
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", when, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>[^,]+), "
    r"SignedHeaders=(?P<names>[^,]+), Signature=(?P<sign>\w+)"
)


@pytest.mark.parametrize("token", [None, "session/token+with=signs"])
@pytest.mark.parametrize("body", [b"", b'{"a":1}', b"\x00\xff" * 1000])
@pytest.mark.parametrize("path", PATHS[:4])
def test_by_the_letter_of_the_rules(path, body, token):
    headers = ((b"host", HOST.encode()), (b"content-type", b"application/json"), (b"accept", b"*/*"))
    keys = Keys("AKIA5", "sesame", token)
    signed = sign(path, headers, body, keys=keys, region="eu-west-1", now=NOW.timestamp())

    assert signed[: len(headers)] == headers
    got = {name.decode(): value.decode() for name, value in signed}
    assert set(got) == {"host", "content-type", "accept", "x-amz-date", "authorization"} | (
        {"x-amz-security-token"} if token else set()
    )
    found = AUTHORIZATION.fullmatch(got["authorization"])
    names = found["names"].split(";")
    when = got["x-amz-date"]
    assert when == "20260301T235959Z"
    assert found["key"] == "AKIA5"
    assert found["scope"] == "20260301/eu-west-1/bedrock/aws4_request"
    assert set(names) == set(got) - {"authorization"}
    assert found["sign"] == by_the_letter(
        path, {name: got[name] for name in names}, body, secret="sesame", scope=found["scope"], when=when
    )
    assert b"sesame" not in b"".join(value for _, value in signed)


SEGMENTS = st.lists(
    st.sampled_from(["", ".", "..", ".x", "x.", "%2F", "a%3Ab"]) | st.text(st.characters(codec="ascii")).map(quote),
    max_size=6,
)
PLAIN_SEGMENT = st.text(st.sampled_from("abXY01-_.~!$&'()*+,;=:@%"), max_size=8)
URL_PATHS = (SEGMENTS | st.lists(PLAIN_SEGMENT, max_size=4)).map(lambda segments: "/" + "/".join(segments))
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "accept", "x-amz-target", "x-amzn-bedrock-trace", "anthropic-version"]), VALUES
)
PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
MOMENTS = st.integers(10**9, 4 * 10**9).map(lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC))


@settings(deadline=None, max_examples=400)
@given(
    path=URL_PATHS,
    headers=HEADERS,
    body=st.binary(max_size=200),
    access_key=st.from_regex(r"[A-Z0-9]{4,20}", fullmatch=True),
    secret=PRINTABLE,
    token=st.none() | PRINTABLE,
    region=st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
    moment=MOMENTS,
)
@example("/", {}, b"", "AKIA", "s", None, "eu-west-1", NOW)
@example(PATHS[4], {"accept": "  a   b  "}, b"x", "AKIA", "s", "t", "eu-west-1", NOW)
def test_as_botocore_signs(path, headers, body, access_key, secret, token, region, moment):
    headers = {"host": HOST, **headers}
    ours = sign(
        path,
        tuple((name.encode(), value.encode()) for name, value in headers.items()),
        body,
        keys=Keys(access_key, secret, token),
        region=region,
        now=moment.timestamp(),
    )
    theirs = AWSRequest(method="POST", url=f"https://{HOST}{path}", headers=headers, data=body)
    with mock.patch("botocore.auth.get_current_datetime", return_value=moment.replace(tzinfo=None)):
        SigV4Auth(ReadOnlyCredentials(access_key, secret, token), "bedrock", region).add_auth(theirs)
    assert {name.decode(): value.decode() for name, value in ours} == {
        name.lower(): value for name, value in theirs.headers.items()
    }


def test_keys_do_not_show_what_is_secret():
    assert repr(Keys("AKIA5", "sesame", "open")) == "Keys(access_key='AKIA5')"
