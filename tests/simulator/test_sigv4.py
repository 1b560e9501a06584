"""Signatures as AWS checks them: made by botocore itself, then spoiled one by one."""

import re
import time

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from aibridge.simulator.faces import Refusal
from aibridge.simulator.sigv4 import TEST_ACCESS_KEY, TEST_SECRET_KEY, Credentials, Session, verify
from aibridge.simulator.values import Received

BODY = b'{"max_tokens": 5}'
TARGET = "/model/anthropic.claude-v1:0/invoke"
URL = "http://127.0.0.1:8900"


def signed(
    target=TARGET, body=BODY, key=TEST_ACCESS_KEY, secret=TEST_SECRET_KEY, service="bedrock", headers=(), token=None
):
    request = AWSRequest("POST", URL + target, headers={"host": "127.0.0.1:8900", **dict(headers)}, data=body)
    SigV4Auth(BotocoreCredentials(key, secret, token), service, "eu-central-1").add_auth(request)
    return Received(
        method="POST",
        target=target,
        headers=tuple((name.lower(), value) for name, value in request.headers.items()),
        body=body,
    )


def changed(request, **headers):
    kept = [(name, value) for name, value in request.headers if name not in headers]
    new = [(name.replace("_", "-"), value) for name, value in headers.items() if value is not None]
    return Received(method="POST", target=request.target, headers=(*kept, *new), body=request.body)


@pytest.mark.parametrize("target", [
    TARGET,
    "/model/anthropic.claude-v1%3A0/invoke",
    "/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ainference-profile%2Fx/invoke",
    "/model/claude-sim+cut@120/invoke",
    "/model/claude-sim%2Bcut%40120/invoke?b=2&a=1",
])  # fmt: skip
@pytest.mark.parametrize("headers", [(), (("content-type", "application/json"), ("x-amz-thing", "  two   blanks "))])
def test_what_botocore_signs_is_good(target, headers):
    verify(signed(target, headers=headers), Credentials(), time.time())


def test_headers_that_were_not_signed_may_come_on_top():
    verify(changed(signed(), via="1.1 proxy", user_agent="x"), Credentials(), time.time())


def test_a_claimed_hash_is_not_believed():
    request = signed(headers=(("x-amz-content-sha256", "0" * 64),))
    with pytest.raises(Refusal, match="does not match"):
        verify(request, Credentials(), time.time())


def refusal(request, now=None, credentials=None):
    with pytest.raises(Refusal) as caught:
        verify(request, credentials or Credentials(), time.time() if now is None else now)
    assert caught.value.status == 403
    return caught.value.kind, caught.value.message


MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


CHANGES = {
    "secret": lambda: signed(secret="wrong"),
    "body": lambda: Received(method="POST", target=TARGET, headers=signed().headers, body=BODY + b" "),
    "method": lambda: Received(method="PUT", target=TARGET, headers=signed().headers, body=BODY),
    "path": lambda: Received(method="POST", target=TARGET.replace(":", "%3A"), headers=signed().headers, body=BODY),
    "query": lambda: Received(method="POST", target=TARGET + "?x=1", headers=signed().headers, body=BODY),
    "host": lambda: changed(signed(), host="elsewhere"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_breaks_the_signature(change):
    # Signed when the test runs: a signature is good for a minute, and a suite takes longer.
    assert refusal(change()) == ("InvalidSignatureException", MISMATCH)


def test_no_token():
    assert refusal(changed(signed(), authorization=None)) == (
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    )


def test_an_unknown_key():
    assert refusal(signed(key="AKIAUNKNOWN")) == (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )


SESSION = Credentials(sessions={"ASIA1": Session("sesame", "open", 2_000_000_000.0)})


def test_a_session_is_good_with_its_token_until_it_expires():
    request = signed(key="ASIA1", secret="sesame", token="open")
    verify(request, SESSION, time.time())
    over = Credentials(sessions={"ASIA1": Session("sesame", "open", time.time() - 1)})
    assert refusal(request, credentials=over) == (
        "ExpiredTokenException",
        "The security token included in the request is expired",
    )


@pytest.mark.parametrize(
    "request_",
    [
        signed(key="ASIA1", secret="sesame"),
        signed(key="ASIA1", secret="sesame", token="another"),
        signed(token="for keys that need none"),
    ],
    ids=["none", "another", "too much"],
)
def test_a_session_without_its_token(request_):
    assert refusal(request_, credentials=SESSION if "ASIA1" in str(request_.headers) else None) == (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )


def test_a_session_shows_no_secret():
    assert repr(Session("sesame", "open", 1.0)) == "Session(expires_at=1.0)"


def test_another_service():
    kind, message = refusal(signed(service="s3"))
    assert kind == "InvalidSignatureException"
    assert "correct service: 'bedrock'" in message


def test_too_old_or_from_the_future():
    for offset in (-301, 301):
        kind, message = refusal(signed(), now=time.time() + offset)
        assert kind == "InvalidSignatureException"
        assert message.startswith("Signature expired: ")


@pytest.mark.parametrize("value", ["AWS4-HMAC-SHA256 Credential=x", "Basic eDp5", "AWS4-HMAC-SHA256"])
def test_half_a_header(value):
    assert refusal(changed(signed(), authorization=value))[0] == "IncompleteSignatureException"


def test_no_date():
    request = signed()
    kept = tuple((name, value) for name, value in request.headers if name != "x-amz-date")
    without = Received(method="POST", target=TARGET, headers=kept, body=BODY)
    assert refusal(without)[0] == "IncompleteSignatureException"


def test_a_scope_of_another_day():
    request = signed()
    spoiled = re.sub(r"/\d{8}/", "/19990101/", dict(request.headers)["authorization"])
    assert "Date in Credential scope" in refusal(changed(request, authorization=spoiled))[1]


def test_amazon_headers_must_be_signed():
    kind, message = refusal(Received(
        method="POST", target=TARGET, headers=(*signed().headers, ("x-amz-target", "x")), body=BODY
    ))  # fmt: skip
    assert kind == "InvalidSignatureException"
    assert "'x-amz-target' must be a 'SignedHeader'" in message


def test_bearer_tokens():
    request = changed(signed(), authorization="Bearer good")
    verify(request, Credentials(bearer_tokens={"good"}), time.time())
    assert refusal(request)[0] == "AccessDeniedException"
