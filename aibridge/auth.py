"""Who asks: a request to its actor, and to the headers that may go on. One authenticator for each mode.

A gateway key comes as `x-aibridge-key`, and then the client's own `x-api-key` or `Authorization` may go upstream; or in
one of these two, which then are ours and go no further. In the modes `open` and `header` these two are always the
client's own, and may go upstream.

Whoever is let in with a credential of his own that is none is refused here, whatever its provider would do with it.
"""

import functools
import hashlib
import hmac
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol

from aibridge.credentials import api_key_of, bearer_of, client_credential
from aibridge.errors import RequestRejected
from aibridge.headers import CREDENTIALS, ActorHeaderNames, without
from aibridge.values import Actor, Headers, first_header

ANONYMOUS = Actor("anonymous")

KEY_HEADER = b"x-aibridge-key"

MAX_ACTOR_BYTES = 256
"""Of each header by which a proxy names an actor: what the log has room for."""

_MAX_PEERS = 1024
"""Addresses whose trust is kept in mind. Proxies are few; others are refused."""

_SECRET_OF = {b"x-api-key": api_key_of, b"authorization": bearer_of}
_PLACES = {b"x-api-key": "x-api-key", b"authorization": "Authorization: Bearer"}


class Caller(Protocol):
    """A request, as far as it tells who asks."""

    @property
    def headers(self) -> Headers:
        """What it came with; names in lower case."""

    @property
    def peer(self) -> str:
        """The IP address that it came from, as text; empty where that is not known any more."""


class Authenticator(Protocol):
    """Says who asks."""

    def authenticate(self, caller: Caller) -> tuple[Actor, Headers]:
        """Return who asks, and the headers less all that only we may say.

        Raises:
            RequestRejected: whoever asks is not let in.
        """


class OpenAuthenticator:
    """Lets everyone in, as `anonymous`.

    Args:
        ours: names of headers that no client may send on.
    """

    def __init__(self, ours: frozenset[bytes] = frozenset()) -> None:
        self._ours = ours

    def authenticate(self, caller: Caller) -> tuple[Actor, Headers]:
        """Let in; see `Authenticator`."""
        headers = caller.headers
        client_credential(headers)
        return ANONYMOUS, without(headers, self._ours) if self._ours else headers


class KeyAuthenticator:
    """Knows the gateway keys, as hashes.

    Args:
        keys: pairs of name and SHA-256 of the key.
        key_headers: where a key may stand, besides `x-aibridge-key`; `x-api-key` is looked into first.
        ours: names of headers that no client may send on.
    """

    def __init__(
        self,
        keys: Iterable[tuple[str, bytes]],
        key_headers: Collection[bytes] = CREDENTIALS,
        ours: frozenset[bytes] = frozenset(),
    ) -> None:
        self._actors = [(digest, Actor(name)) for name, digest in keys]
        self._digests = frozenset(digest for digest, _ in self._actors)
        self._key_headers = [name for name in _SECRET_OF if name in key_headers]
        self._ours = ours
        self._spent = ours | CREDENTIALS

    def authenticate(self, caller: Caller) -> tuple[Actor, Headers]:
        """Look for a gateway key; see `Authenticator`."""
        headers = caller.headers
        if separate := api_key_of(first_header(headers, KEY_HEADER)):
            actor = self._actor(separate)
            headers = tuple([pair for pair in headers if pair[0] not in self._ours and not self._is_gateway_key(pair)])
            client_credential(headers)
            return actor, headers
        for name in self._key_headers:
            if secret := _SECRET_OF[name](first_header(headers, name)):
                return self._actor(secret), without(headers, self._spent)
        places = " or ".join(_PLACES[name] for name in self._key_headers)
        raise RequestRejected("no_key", 401, f"a gateway key is needed, as {places}")

    def _is_gateway_key(self, pair: tuple[bytes, bytes]) -> bool:
        """Whether a header carries a key of ours where the client's own credential may stand: it must not go on."""
        name, value = pair
        if name not in CREDENTIALS:
            return False
        return any(_digest(word) in self._digests for word in value.decode("latin-1").split())

    def _actor(self, secret: str) -> Actor:
        digest = _digest(secret)
        found = None
        for known, actor in self._actors:  # all of them: the time taken tells nothing
            if hmac.compare_digest(known, digest):
                found = actor
        if found is None:
            raise RequestRejected("wrong_key", 401, "the gateway key is not known")
        return found


class HeaderAuthenticator:
    """Believes a proxy, known by its address, that says in headers who asks.

    Args:
        names: the headers.
        networks: where the proxy calls from.
        ours: names of further headers that no client may send on.
    """

    def __init__(
        self,
        names: ActorHeaderNames,
        networks: Iterable[IPv4Network | IPv6Network],
        ours: frozenset[bytes] = frozenset(),
    ) -> None:
        self._names = names
        self._networks = tuple(networks)
        self._ours = ours | frozenset(names)
        self._trusts = functools.lru_cache(_MAX_PEERS)(self._is_inside)

    def authenticate(self, caller: Caller) -> tuple[Actor, Headers]:
        """Read the proxy's headers; see `Authenticator`."""
        headers = caller.headers
        if not self._trusts(caller.peer):
            raise RequestRejected("untrusted_peer", 403, "only the front proxy is let in")
        actor_id = _said(headers, self._names.id)
        if not actor_id:
            raise RequestRejected("no_actor", 401, "the front proxy did not say who asks")
        teams = [team.strip() for team in _said(headers, self._names.teams).split(",")]
        actor = Actor(actor_id, _said(headers, self._names.name), tuple(team for team in teams if team))
        client_credential(headers)
        return actor, without(headers, self._ours)

    def _is_inside(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


def _said(headers: Headers, name: bytes) -> str:
    """Return a header's one value, or the empty string. Of two the client may have sent one: neither is believed."""
    values = [value for key, value in headers if key == name]
    if not values:
        return ""
    text = values[0].decode("latin-1")
    if len(values) > 1 or len(text) > MAX_ACTOR_BYTES or not (text.isascii() and text.isprintable()):
        raise RequestRejected("bad_actor", 401, "what the front proxy says of who asks cannot be used")
    return text.strip()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
