"""Who may use the admin API: whoever has an admin key, or a cookie that one was given for.

A cookie holds a name, an end and a number of its own, signed with a secret that this process alone knows: a restart
ends them all.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from aibridge.values import Headers

COOKIE = "aibridge_admin"
SESSION_SECONDS = 12 * 3600
_MAX_ENDED = 10_000
"""Sessions that were logged out, and would be good still: more are not kept in mind."""


class AdminKey(NamedTuple):
    """Whose key, and its SHA-256."""

    name: str
    digest: bytes


class SignIn:
    """Says who asks, by a key or by a cookie.

    Args:
        keys: that let in.
    """

    def __init__(self, keys: Sequence[AdminKey]) -> None:
        self._keys = tuple(keys)
        self._secret = secrets.token_bytes(32)
        self._ended: dict[str, float] = {}

    def by_key(self, key: str) -> str | None:
        """Return whose key it is; None where it is nobody's. All are compared, each in constant time."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()  # JSON can say half a pair
        names = [one.name for one in self._keys if hmac.compare_digest(one.digest, digest)]
        return names[0] if names else None

    def by_cookie(self, headers: Headers, now: float) -> str | None:
        """Return whose session the cookies of a request name; None where they name none that is good."""
        value = _cookie_of(headers)
        if value is None:
            return None
        name, end, number, signature = value
        signed = hmac.compare_digest(signature, self._sign(f"{name}|{end}|{number}"))
        if not signed or float(end) <= now or number in self._ended:
            return None
        return name

    def start(self, name: str, now: float) -> Headers:
        """Return the header that gives a browser its session."""
        text = f"{name}|{int(now) + SESSION_SECONDS}|{secrets.token_hex(16)}"
        return _set_cookie(f"{text}|{self._sign(text)}", SESSION_SECONDS)

    def end(self, headers: Headers, now: float) -> Headers:
        """End the session that a request's cookies name, and return the header that takes the cookie away."""
        value = _cookie_of(headers)
        if value is not None and self.by_cookie(headers, now) is not None:
            self._ended = {number: end for number, end in self._ended.items() if end > now}
            while len(self._ended) >= _MAX_ENDED:
                del self._ended[next(iter(self._ended))]
            self._ended[value[2]] = float(value[1])
        return _set_cookie("", 0)

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), "sha256").hexdigest()


def _cookie_of(headers: Headers) -> tuple[str, str, str, str] | None:
    """Return name, end, number and signature of our cookie; None where there is none of that shape."""
    for header, value in headers:
        if header != b"cookie":
            continue
        for pair in value.decode("latin-1").split(";"):
            name, _, text = pair.strip().partition("=")
            parts = text.split("|")
            if name == COOKIE and len(parts) == 4 and text.isascii() and parts[1].isdigit():  # noqa: PLR2004 - its parts
                return parts[0], parts[1][:20], parts[2], parts[3]
    return None


def _set_cookie(value: str, seconds: int) -> Headers:
    text = f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return ((b"set-cookie", text.encode()),)
