"""Credentials in headers: finding them, and the little that is told of them. Pure.

The rules are those of the field: `x-api-key` wins over `Authorization`; a bearer token is exactly two words.
"""

from aibridge.values import Headers, first_header

_BEARER_WORDS = 2
_SECRET_HEADERS = frozenset({b"authorization", b"x-api-key", b"x-amz-security-token"})
_SHORTEST_SECRET = 8
"""Characters. What is shorter opens nothing, and would be found in any text."""
_REVEALED = ((20, 4), (10, 2), (5, 1))
"""Characters shown at each end of a secret, by its least length."""


def bearer_of(value: bytes | None) -> str:
    """Return the token of an `Authorization: Bearer` value, or the empty string."""
    words = (value or b"").decode("latin-1").split()
    return words[1] if len(words) == _BEARER_WORDS and words[0].lower() == "bearer" else ""


def client_credential(headers: Headers) -> tuple[bytes, str] | None:
    """Return the header and the secret that a client sent as its own, or None."""
    api_key = (first_header(headers, b"x-api-key") or b"").decode("latin-1").strip()
    if api_key:
        return b"x-api-key", api_key
    token = bearer_of(first_header(headers, b"authorization"))
    return (b"authorization", token) if token else None


def secrets_of(headers: Headers) -> tuple[str, ...]:
    """Return the secrets that a request carries, so that they can be taken out of what comes back."""
    found = [
        bearer_of(value) if name == b"authorization" else value.decode("latin-1")
        for name, value in headers
        if name in _SECRET_HEADERS
    ]
    return tuple(secret for secret in found if len(secret) >= _SHORTEST_SECRET)


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Return the text with every secret in it cut to its hint: upstreams echo what they were sent."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, hint(secret))
    return text


def hint(secret: str) -> str:
    """Return what may be recorded of a secret: a few characters at each end, by which its owner knows it."""
    for least, shown in _REVEALED:
        if len(secret) >= least:
            return f"{secret[:shown]}...{secret[-shown:]}"
    return "..." if secret else ""
