"""Verifies AWS Signature Version 4 as AWS does, with botocore's signer on the request as it was received.

The path is signed as it came on the wire, percent signs and all, then encoded once more: so a raw `:` and a `%3A` in a
model id are both right, each for who signed it so. It does not know which API it guards.
"""

import calendar
import hmac
import importlib
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from aibridge.simulator.faces import Refusal
from aibridge.simulator.values import Received

TEST_ACCESS_KEY = "AKIASIMULATOR0000000"
TEST_SECRET_KEY = "simulator/secret/key/that/guards/nothing"  # noqa: S105 - published on purpose
SERVICE = "bedrock"

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/, ]+)/(?P<date>\d{8})/(?P<region>[^/, ]+)/(?P<service>[^/, ]+)"
    r"/aws4_request *, *SignedHeaders=(?P<signed>[^, ]+) *, *Signature=(?P<signature>[0-9a-f]{64})"
)
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_TOLERANCE_S = 300
_FORBIDDEN = 403
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials: good only with their token, and until `expires_at`, in seconds since the epoch."""

    secret: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: float


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may come in. The mappings are read at each request: who holds them may put more in.

    Attributes:
        secrets: secret keys by access key.
        bearer_tokens: Bedrock API keys that are good; none refuses all.
        sessions: temporary credentials by access key.
    """

    secrets: Mapping[str, str] = field(default_factory=lambda: {TEST_ACCESS_KEY: TEST_SECRET_KEY})
    bearer_tokens: Collection[str] = ()
    sessions: Mapping[str, Session] = field(default_factory=dict)


def verify(request: Received, credentials: Credentials, now: float) -> None:
    """Raise `Refusal` as AWS refuses. `now` is UTC in seconds since the epoch."""
    authorization = request.header("authorization")
    if authorization is None:
        raise Refusal(_FORBIDDEN, "MissingAuthenticationTokenException", "Missing Authentication Token")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        _verify_bearer(token, credentials)
        return
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        text = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters."
        raise Refusal(_FORBIDDEN, "IncompleteSignatureException", text)
    _verify_signature(request, match, credentials, now)


def _verify_bearer(token: str, credentials: Credentials) -> None:
    if token not in credentials.bearer_tokens:
        text = "Authentication failed: Please make sure your API Key is valid."
        raise Refusal(_FORBIDDEN, "AccessDeniedException", text)


def _verify_signature(request: Received, match: re.Match[str], credentials: Credentials, now: float) -> None:
    secret = _secret(request, match["key"], credentials, now)
    if match["service"] != SERVICE:
        raise _invalid(f"Credential should be scoped to correct service: '{SERVICE}'. ")
    timestamp = request.header("x-amz-date") or ""
    _check_time(timestamp, match["date"], now)
    _check_signed_headers(request, match["signed"])
    signer = importlib.import_module("aibridge.simulator.signer")
    expected = signer.signature(request, match.groupdict(), secret, timestamp)
    if not hmac.compare_digest(expected, match["signature"]):
        raise _invalid(_MISMATCH)


def _secret(request: Received, key: str, credentials: Credentials, now: float) -> str:
    session = credentials.sessions.get(key)
    secret = credentials.secrets.get(key) if session is None else session.secret
    token = request.header("x-amz-security-token")
    if secret is None or token != (None if session is None else session.token):
        text = "The security token included in the request is invalid."
        raise Refusal(_FORBIDDEN, "UnrecognizedClientException", text)
    if session is not None and now >= session.expires_at:
        raise Refusal(_FORBIDDEN, "ExpiredTokenException", "The security token included in the request is expired")
    return secret


def _check_time(timestamp: str, date: str, now: float) -> None:
    try:
        signed_at = calendar.timegm(time.strptime(timestamp, _TIME_FORMAT))
    except ValueError:
        text = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        raise Refusal(_FORBIDDEN, "IncompleteSignatureException", text) from None
    if not timestamp.startswith(date):
        raise _invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
    if abs(now - signed_at) > _TOLERANCE_S:
        oldest = time.strftime(_TIME_FORMAT, time.gmtime(now - _TOLERANCE_S))
        raise _invalid(f"Signature expired: {timestamp} is now earlier than {oldest}")


def _check_signed_headers(request: Received, signed: str) -> None:
    """Host and every `x-amz-*` header of the request must be signed, or they could be changed on the way."""
    names = set(signed.split(";"))
    must = {"host", *(name for name, _ in request.headers if name.startswith("x-amz-"))}
    unsigned = sorted(must - names)
    if unsigned:
        raise _invalid(f"'{unsigned[0]}' must be a 'SignedHeader' in the AWS Authorization.")


def _invalid(message: str) -> Refusal:
    return Refusal(_FORBIDDEN, "InvalidSignatureException", message)
