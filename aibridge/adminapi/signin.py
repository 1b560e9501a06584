"""Who may use the admin API: whoever has an admin key, or a cookie that one was given for.

A cookie holds a name, an end and a number of its own, signed with a secret that this process alone knows, and with the
key of that name: a restart ends them all, and a key that is taken away its own.
"""

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aibridge.adminapi.guesses import Guesses
from aibridge.adminapi.problems import Problem
from aibridge.headers import retry_after
from aibridge.values import Headers

COOKIE = "aibridge_admin"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""A browser takes a cookie of such a name over HTTPS alone, and from this host alone (RFC 6265bis, section 4.1.3.2)."""
SESSION_SECONDS = 12 * 3600
_MAX_ENDED = 10_000
"""Sessions that were logged out, and would be good still: more are not kept in mind."""


class AdminKey(NamedTuple):
    """Whose key, and its SHA-256."""

    name: str
    digest: bytes


class _Session(NamedTuple):
    """What a cookie says."""

    name: str
    end: str
    number: str
    signature: str


class SignIn:
    """Says who asks, by a key or by a cookie.

    Args:
        keys: that let in.
        https: whether browsers come by HTTPS; then the cookie is for nothing else.
    """

    def __init__(self, keys: Sequence[AdminKey], *, https: bool = False) -> None:
        self.keys = tuple(keys)
        self._cookie, self._terms = (SECURE_COOKIE, "; Secure") if https else (COOKIE, "")
        self._guesses = Guesses()
        self._secret = secrets.token_bytes(32)
        self._ended: dict[str, float] = {}

    def by_key(self, key: str, peer: str) -> str | None:
        """Return whose key it is; None where it is nobody's.

        Args:
            key: as it was sent.
            peer: the address that it came from.

        Raises:
            Problem: too many wrong ones came from there. A good one is refused too: else guessing would go on.
        """
        digest = _digest(key)
        if self._guesses.is_known(peer, digest):
            return self._whose(digest)  # it may have become one since
        now = time.monotonic()
        if wait := self._guesses.wait(peer, now):
            detail = "too many wrong keys came from this address; a browser's session is not touched by it"
            raise Problem(429, "too_many_guesses", detail, headers=retry_after(math.ceil(wait)))
        name = self._whose(digest)
        if name is None:
            self._guesses.count(peer, digest, now)
        return name

    def is_key(self, key: str) -> bool:
        """Whether a key that was let in would be now."""
        return self._whose(_digest(key)) is not None

    def _whose(self, digest: bytes) -> str | None:
        """Return who has a key. All are compared, each in constant time."""
        names = [one.name for one in self.keys if hmac.compare_digest(one.digest, digest)]
        return names[0] if names else None

    def by_cookie(self, headers: Headers, now: float) -> str | None:
        """Return whose session the cookies of a request name; None where they name none that is good."""
        return next((session.name for session in self._sessions(headers, now)), None)

    def _sessions(self, headers: Headers, now: float) -> Iterator[_Session]:
        """Yield the good sessions of a request: beside ours may stand a cookie that another host of the site gave."""
        for session in _cookies_of(headers, self._cookie):
            name, end, number, signature = session
            good = self._sign(name, f"{name}|{end}|{number}")
            if good and hmac.compare_digest(signature, good) and float(end) > now and number not in self._ended:
                yield session

    def start(self, name: str, now: float) -> Headers:
        """Return the header that gives a browser its session; `name` has a key."""
        text = f"{name}|{int(now) + SESSION_SECONDS}|{secrets.token_hex(16)}"
        return self._set_cookie(f"{text}|{self._sign(name, text)}", SESSION_SECONDS)

    def end(self, headers: Headers, now: float) -> Headers:
        """End the session that a request's cookies name, and return the header that takes the cookie away."""
        for session in list(self._sessions(headers, now)):
            self._ended = {number: end for number, end in self._ended.items() if end > now}
            while len(self._ended) >= _MAX_ENDED:
                del self._ended[next(iter(self._ended))]
            self._ended[session.number] = float(session.end)
        return self._set_cookie("", 0)

    def _set_cookie(self, value: str, seconds: int) -> Headers:
        text = f"{self._cookie}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{self._terms}"
        return ((b"set-cookie", text.encode()),)

    def _sign(self, name: str, text: str) -> str | None:
        """Return the signature of whoever has a key now, which is another with another key; None without one."""
        for key in self.keys:
            if key.name == name:
                return hmac.new(self._secret + key.digest, text.encode(), "sha256").hexdigest()
        return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()  # JSON can say half a pair


def _cookies_of(headers: Headers, cookie: str) -> Iterator[_Session]:
    """Yield what stands in cookies of our name and shape."""
    for header, value in headers:
        if header != b"cookie":
            continue
        for pair in value.decode("latin-1").split(";"):
            name, _, text = pair.strip().partition("=")
            parts = text.split("|")
            if name == cookie and len(parts) == 4 and text.isascii() and parts[1].isdigit():  # noqa: PLR2004 - its parts
                yield _Session(parts[0], parts[1][:20], parts[2], parts[3])
