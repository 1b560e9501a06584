"""Who asks: gateway keys to actors. Without keys the gateway is open, and everyone is `anonymous`.

A gateway key comes as `x-aibridge-key`, and then the client's own `x-api-key` or `Authorization` may go upstream; or in
one of these two, which then are ours and go no further.
"""

import hashlib
import hmac
from collections.abc import Iterable

from aibridge.credentials import client_credential
from aibridge.errors import RequestRejected
from aibridge.headers import CREDENTIALS
from aibridge.values import Actor, Headers, first_header

ANONYMOUS = Actor("anonymous")

KEY_HEADER = b"x-aibridge-key"


class Authenticator:
    """Knows the gateway keys, as hashes.

    Args:
        keys: pairs of name and key.
    """

    def __init__(self, keys: Iterable[tuple[str, str]]) -> None:
        self._names = [(_digest(key), Actor(name)) for name, key in keys]

    def authenticate(self, headers: Headers) -> tuple[Actor, Headers]:
        """Return who asks, and the headers less what was a gateway key.

        Raises:
            RequestRejected: keys are asked for, and none, or a wrong one, came.
        """
        if not self._names:
            return ANONYMOUS, headers
        own = (first_header(headers, KEY_HEADER) or b"").decode("latin-1").strip()
        if own:
            return self._actor(own), tuple(pair for pair in headers if not self._is_gateway_key(pair))
        found = client_credential(headers)
        if found is None:
            raise RequestRejected("no_key", 401, "a gateway key is needed, as x-api-key or Authorization: Bearer")
        return self._actor(found[1]), tuple(pair for pair in headers if pair[0] not in CREDENTIALS)

    def _is_gateway_key(self, pair: tuple[bytes, bytes]) -> bool:
        """Whether a header carries a key of ours where the client's own credential may stand: it must not go on."""
        found = client_credential((pair,))
        return found is not None and _digest(found[1]) in [digest for digest, _ in self._names]

    def _actor(self, secret: str) -> Actor:
        digest = _digest(secret)
        found = None
        for known, actor in self._names:  # all of them: the time taken tells nothing
            if hmac.compare_digest(known, digest):
                found = actor
        if found is None:
            raise RequestRejected("wrong_key", 401, "the gateway key is not known")
        return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
