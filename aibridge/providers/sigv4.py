"""AWS Signature Version 4 for the one kind of request that goes to Bedrock: a POST with a body in memory and no query.

Source: "Create a signed AWS API request" of the IAM user guide. botocore signs anything, and takes ten times as long;
`tests/providers/test_sigv4.py` compares the two.
"""

import functools
import re
import time
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import digest
from urllib.parse import quote

from aibridge.values import Headers

SERVICE = "bedrock"

_ALGORITHM = "AWS4-HMAC-SHA256"
_ENCODED_PATH = re.compile(r"[A-Za-z0-9/%._~-]+")


@dataclass(frozen=True, slots=True)
class Keys:
    """AWS credentials at one moment."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)


def sign(path: str, headers: Headers, body: bytes, *, keys: Keys, region: str, now: float) -> Headers:
    """Return the headers of a POST with those of Signature Version 4 added.

    Args:
        path: encoded as it goes on the wire, without a query.
        headers: all headers that are to be signed, `host` among them: lower-case names, each once.
        body: the request's body.
        keys: good ones.
        region: the AWS region to sign for.
        now: seconds since the epoch.
    """
    moment = _moment(int(now))
    own: Headers = ((b"x-amz-date", moment.encode()),)
    if keys.token:
        own += ((b"x-amz-security-token", keys.token.encode("latin-1")),)
    signed = sorted((*headers, *own))
    names = b";".join([name for name, _ in signed]).decode("latin-1")
    lines = b"\n".join([name + b":" + b" ".join(value.split()) for name, value in signed]).decode("latin-1")
    request = f"POST\n{_canonical_path(path)}\n\n{lines}\n\n{names}\n{sha256(body).hexdigest()}"
    scope = f"{moment[:8]}/{region}/{SERVICE}/aws4_request"
    text = f"{_ALGORITHM}\n{moment}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    signature = digest(_signing_key(keys.secret_key, moment[:8], region), text.encode(), "sha256").hex()
    words = f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return (*headers, *own, (b"authorization", words.encode("latin-1")))


@functools.lru_cache(maxsize=2)
def _moment(second: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


@functools.lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    """Return the key of a day, a region and the service. A few are kept: one for each provider is in use."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, SERVICE, "aws4_request"):
        key = digest(key, part.encode(), "sha256")
    return key


def _canonical_path(path: str) -> str:
    """Return a path normalised, then encoded once more: all services but S3 want it so."""
    if "//" in path or "/." in path:
        path = _normalised(path)
    if _ENCODED_PATH.fullmatch(path):
        return path.replace("%", "%25")
    return quote(path, safe="/~")


def _normalised(path: str) -> str:
    """Return a path without empty segments and dot segments."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return f"/{'/'.join(kept)}{end}"
