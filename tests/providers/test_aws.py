"""AWS credentials, renewed beside the event loop; and signatures, computed a second time by the letter of the rules."""

import asyncio
import datetime as dt
import hashlib
import hmac
import os
import re
import threading
from urllib.parse import quote, urlsplit

import pytest
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import ClientError, CredentialRetrievalError

from aibridge.errors import AibridgeError
from aibridge.providers.aws import CredentialSource, sign

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def no_aws_here(monkeypatch, tmp_path):
    """Neither the files nor the variables of whoever runs the tests, and no metadata service."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "BOTO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("BOTO_CONFIG", str(tmp_path / "boto"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


async def test_static_credentials():
    source = CredentialSource(("AKIA1", "sesame", "token"), None)
    assert await source.current() == ReadOnlyCredentials("AKIA1", "sesame", "token")
    assert "sesame" not in repr(source)


async def test_the_chain_finds_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from-environment")
    found = await CredentialSource(None, None).current()
    assert (found.access_key, found.secret_key, found.token) == ("AKIA2", "from-environment", None)


async def test_a_profile_of_the_files(no_aws_here):
    (no_aws_here / "credentials").write_text("[work]\naws_access_key_id = AKIA3\naws_secret_access_key = filed\n")
    assert (await CredentialSource(None, "work").current()).secret_key == "filed"
    with pytest.raises(AibridgeError, match="elsewhere"):
        await CredentialSource(None, "elsewhere").current()


async def test_none_at_all_is_said_and_looked_for_again(monkeypatch):
    source = CredentialSource(None, None)
    with pytest.raises(AibridgeError, match="no AWS credentials found"):
        await source.current()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA4")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "late")
    assert (await source.current()).access_key == "AKIA4"


async def test_a_process_that_fails_is_told_as_ours(no_aws_here):
    (no_aws_here / "config").write_text("[profile tool]\ncredential_process = /bin/false\n")
    with pytest.raises(AibridgeError, match="AWS credentials cannot be had"):
        await CredentialSource(None, "tool").current()


class Refresher:
    """Hands out credentials that expire, when it is allowed to; counts how often it is asked."""

    def __init__(self, *, lives=3600):
        self.asked = 0
        self.lives = lives
        self.error = None
        self.entered = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self):
        self.asked += 1
        self.entered.set()
        assert self.may_answer.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return {
            "access_key": f"AKIA-{self.asked}",
            "secret_key": "renewed",
            "token": "t",
            "expiry_time": (now() + dt.timedelta(seconds=self.lives)).isoformat(),
        }

    def source(self, *, expires_in):
        """Return a source whose credentials, number 0, expire so soon."""
        source = CredentialSource(None, None)
        expiry = now() + dt.timedelta(seconds=expires_in)
        source._credentials = RefreshableCredentials("AKIA-0", "first", "t", expiry, self, "test")
        source._frozen = ReadOnlyCredentials("AKIA-0", "first", "t")
        return source


def now():
    return dt.datetime.now(dt.UTC)


async def test_fresh_ones_are_not_renewed():
    refresher = Refresher()
    source = refresher.source(expires_in=3600)
    assert [(await source.current()).access_key for _ in range(3)] == ["AKIA-0"] * 3
    assert refresher.asked == 0


async def test_a_slow_renewal_holds_up_no_loop_and_is_asked_for_once():
    refresher = Refresher()
    refresher.may_answer.clear()
    source = refresher.source(expires_in=5)
    waiting = [asyncio.create_task(source.current()) for _ in range(50)]
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.to_thread(refresher.entered.wait, PATIENCE)
        for _ in range(100):  # the loop turns while the renewal stands still
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        refresher.may_answer.set()
        assert {one.access_key for one in await asyncio.gather(*waiting)} == {"AKIA-1"}
    assert refresher.asked == 1


async def test_who_leaves_does_not_end_the_renewal_for_the_others():
    refresher = Refresher()
    refresher.may_answer.clear()
    source = refresher.source(expires_in=5)
    leaving, staying = asyncio.create_task(source.current()), asyncio.create_task(source.current())
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.to_thread(refresher.entered.wait, PATIENCE)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        refresher.may_answer.set()
        assert (await staying).access_key == "AKIA-1"
    assert refresher.asked == 1


async def test_a_renewal_in_good_time_keeps_nobody_waiting():
    refresher = Refresher()
    refresher.may_answer.clear()
    source = refresher.source(expires_in=300)
    assert [(await source.current()).access_key for _ in range(3)] == ["AKIA-0"] * 3
    refresher.may_answer.set()
    async with asyncio.timeout(PATIENCE):
        await source._renewal
    assert (await source.current()).access_key == "AKIA-1"
    assert refresher.asked == 1


async def test_a_failure_in_good_time_hurts_nobody():
    refresher = Refresher()
    refresher.error = CredentialRetrievalError(provider="test", error_msg="away")
    source = refresher.source(expires_in=300)
    assert (await source.current()).access_key == "AKIA-0"
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([source._renewal])
    refresher.error = None
    await source.current()
    async with asyncio.timeout(PATIENCE):
        await source._renewal
    assert (await source.current()).access_key == "AKIA-2"


DENIED = ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized to assume it"}}, "AssumeRole")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CredentialRetrievalError(provider="sso", error_msg="the token has expired"), "the token has expired"),
        (DENIED, "not authorized to assume it"),
        (ValueError("secret-in-an-exception"), "ValueError"),
        (KeyError("secret-in-an-exception"), "KeyError"),
        (OSError("secret-in-an-exception"), "OSError"),
    ],
)
async def test_a_failed_renewal_is_told_clearly_and_tried_again(error, words):
    refresher = Refresher()
    refresher.error = error
    source = refresher.source(expires_in=5)
    with pytest.raises(AibridgeError, match=r"^AWS credentials cannot be had: ") as failed:
        await source.current()
    assert words in str(failed.value)
    assert "secret" not in str(failed.value)
    refresher.error = None
    assert (await source.current()).access_key == "AKIA-2"


async def test_renewed_ones_that_have_expired_already_are_refused():
    source = Refresher(lives=-10).source(expires_in=5)
    with pytest.raises(AibridgeError):
        await source.current()


# Signature Version 4, written out from AWS's documentation: botocore signs for us, and must not be its own judge.


def signature(method, url, headers, body, *, secret, scope, when):
    parts = urlsplit(url)
    names = sorted(headers)
    canonical = "\n".join(
        [
            method,
            quote(parts.path or "/", safe="/-_.~"),
            parts.query,
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
HOST = "bedrock-runtime.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("token", [None, "session/token+with=signs"])
@pytest.mark.parametrize("body", [b"", b'{"a":1}', b"\x00\xff" * 1000])
@pytest.mark.parametrize(
    "path",
    [
        "/model/anthropic.claude-v2/invoke",
        "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream",
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.anthropic.claude/invoke",
        "/prefix/model/%C3%A9%20~x/invoke",
    ],
)
def test_signatures(path, body, token):
    headers = ((b"host", HOST.encode()), (b"content-type", b"application/json"), (b"accept", b"*/*"))
    url = f"https://{HOST}{path}"
    credentials = ReadOnlyCredentials("AKIA5", "sesame", token)
    signed = sign(url, headers, body, credentials=credentials, region="eu-west-1")

    assert signed[: len(headers)] == headers
    got = {name.decode(): value.decode() for name, value in signed}
    assert set(got) == {"host", "content-type", "accept", "x-amz-date", "authorization"} | (
        {"x-amz-security-token"} if token else set()
    )
    found = AUTHORIZATION.fullmatch(got["authorization"])
    names = found["names"].split(";")
    when = got["x-amz-date"]
    assert found["key"] == "AKIA5"
    assert found["scope"] == f"{when[:8]}/eu-west-1/bedrock/aws4_request"
    assert {"host", "x-amz-date"} <= set(names)
    assert token is None or "x-amz-security-token" in names
    assert found["sign"] == signature(
        "POST", url, {name: got[name] for name in names}, body, secret="sesame", scope=found["scope"], when=when
    )
    assert b"sesame" not in b"".join(value for _, value in signed)
