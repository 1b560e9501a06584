"""Credentials in headers: finding them, and the little that is told of them. Pure.

The rules are those of the field: `x-api-key` wins over `Authorization`; a bearer token is exactly two words; a blank
value is the same as no header. One is ours: an `Authorization` that holds no token is a mistake, and not as good as
none, since that would be answered at somebody else's cost.
"""

import functools
import re
from urllib.parse import unquote_to_bytes

from aibridge.errors import RequestRejected
from aibridge.values import Headers

_BEARER_WORDS = 2
_CLIENTS_OWN = frozenset({b"x-api-key", b"authorization"})
_PARAMETER = re.compile(r"[?&]([^?=&]+)=([^&]+)")
"""Its parts share no character that could begin it anew: a client chooses the text, and each byte is looked at once."""
_SECRET_NAME = re.compile(
    rb"(?:^|[-_.])(?:auth|key|sig|jwt|pwd|pass|otp|pin|pat|csrf|xsrf)(?:$|[-_.])"
    rb"|api[-_]?key|access[-_]?key|token(?!s|-count)|secret|passw|signature|credential|assertion|bearer"
    rb"|authori[sz]ation|authenticat|cookie",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 8
"""Characters. What is shorter opens nothing, and would be found in any text."""
_REVEALED = ((20, 4), (10, 2), (5, 1))
"""Characters shown at each end of a secret, by its least length."""


@functools.lru_cache(maxsize=1024)
def is_secret_name(name: bytes) -> bool:
    """Whether a header or query parameter of this name holds a secret, as far as a name can tell."""
    return _SECRET_NAME.search(name) is not None


def bearer_of(value: bytes | None) -> str:
    """Return the token of an `Authorization: Bearer` value, or the empty string."""
    words = (value or b"").decode("latin-1").split()
    return words[1] if len(words) == _BEARER_WORDS and words[0].lower() == "bearer" else ""


def api_key_of(value: bytes | None) -> str:
    """Return the key of an `x-api-key` value, or the empty string."""
    return (value or b"").decode("latin-1").strip()


def client_credential(headers: Headers) -> tuple[bytes, str] | None:
    """Return the header and the secret that a client sent as its own, or None.

    Raises:
        RequestRejected: `Authorization` is all there is, and holds no bearer token.
    """
    # Of each the first that is not blank: behind a blank one there may stand what the client meant.
    said = dict([pair for pair in headers[::-1] if pair[0] in _CLIENTS_OWN and pair[1].strip()])
    if not said:
        return None
    if api_key := api_key_of(said.get(b"x-api-key")):
        return b"x-api-key", api_key
    authorization = said.get(b"authorization")
    if authorization is None:
        return None
    if token := bearer_of(authorization):
        return b"authorization", token
    raise RequestRejected("bad_credential", 401, "Authorization should be `Bearer` and one token")


def secrets_of(headers: Headers, target: str = "") -> tuple[str, ...]:
    """Return the secrets that a request carries, so that they can be taken out of what comes back.

    Args:
        headers: the request's.
        target: its path and query: of the latter, what is called as a secret is.
    """
    found = [
        bearer_of(value) or ("" if name == b"authorization" else value.decode("latin-1"))
        for name, value in headers
        if is_secret_name(name)
    ]
    for name, value in _PARAMETER.findall(target) if "?" in target else ():
        if is_secret_name(unquote_to_bytes(name)):
            found += [value, unquote_to_bytes(value).decode("latin-1")]
    return worth_hiding(*found)


def worth_hiding(*secrets: str) -> tuple[str, ...]:
    """Return those that are long enough to open something."""
    return tuple([secret for secret in secrets if len(secret) >= _SHORTEST_SECRET])


_TELLING = 8
"""Characters at the beginning of a secret that tell nothing of it: keys of one kind begin alike."""


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Return the text with every secret in it cut to its hint: upstreams echo what they were sent."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, hint(secret))
    return text


def redact_cut(text: str, secrets: tuple[str, ...]) -> str:
    """Return the same of a text that was cut to a bound: it may end inside a secret."""
    text = redact(text, secrets)
    for secret in secrets:
        start = text.find(secret[:_TELLING], max(0, len(text) - len(secret) + 1))
        if start >= 0 and secret.startswith(text[start:]):
            text = text[:start] + hint(secret)
    return text


def redact_bytes(data: bytes, secrets: tuple[str, ...]) -> bytes:
    """Return the bytes with every secret in them cut to its hint. Without one in them they are the same bytes."""
    for secret in secrets:
        raw = secret.encode("latin-1")  # as it went out, in a header
        if raw in data:
            data = data.replace(raw, hint(secret).encode("latin-1"))
    return data


def redact_headers(headers: Headers, secrets: tuple[str, ...]) -> Headers:
    """Return the headers with every secret in their values cut to its hint."""
    values = b"\n".join([value for _, value in headers])
    if redact_bytes(values, secrets) is values:
        return headers
    return tuple([(name, redact_bytes(value, secrets)) for name, value in headers])


def hint(secret: str) -> str:
    """Return what may be recorded of a secret: a few characters at each end, by which its owner knows it."""
    for least, shown in _REVEALED:
        if len(secret) >= least:
            return f"{secret[:shown]}...{secret[-shown:]}"
    return "..." if secret else ""
