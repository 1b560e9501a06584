"""Who asks: a request to its actor, and to the headers that may go on. One authenticator for each mode.

A gateway key comes as `x-aibridge-key`, and then the client's own `x-api-key` or `Authorization` may go upstream; or in
one of these two, which then are ours and go no further. In the modes `open` and `header` these two are always the
client's own, and may go upstream.

Whoever is let in with a credential of his own that is none is refused here, whatever its provider would do with it.
"""

import functools
import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple, Protocol

from aibridge.access import Identity
from aibridge.credentials import api_key_of, bearer_of, client_credential
from aibridge.errors import RequestRejected
from aibridge.headers import CREDENTIALS, ActorHeaderNames, without
from aibridge.values import Actor, Headers, first_header

ANONYMOUS = Identity(Actor("anonymous"))

KEY_STATES = ("active", "expired", "revoked")

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

    def authenticate(self, caller: Caller) -> tuple[Identity, Headers]:
        """Return who asks, with what that opens, and the headers less all that only we may say.

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

    def authenticate(self, caller: Caller) -> tuple[Identity, Headers]:
        """Let in; see `Authenticator`."""
        headers = caller.headers
        client_credential(headers)
        return ANONYMOUS, without(headers, self._ours) if self._ours else headers


class KeySource(Protocol):
    """Knows some of the secrets that open the gateway."""

    def find(self, secret: str, digest: bytes) -> Identity | None:
        """Return whom a secret lets in; None where it is none of these.

        Args:
            secret: as the client sent it.
            digest: its SHA-256.

        Raises:
            RequestRejected: it is one of these, and opens nothing now.
        """

    def knows(self, secret: str, digest: bytes) -> bool:
        """Whether a secret is one of these, be it good or not: it must not go upstream."""


class KeyAuthenticator:
    """Asks for a secret that opens the gateway.

    Args:
        sources: know the secrets; asked one behind the other.
        key_headers: where a secret may stand, besides `x-aibridge-key`; `x-api-key` is looked into first.
        ours: names of headers that no client may send on.
    """

    def __init__(
        self,
        sources: Sequence[KeySource],
        key_headers: Collection[bytes] = CREDENTIALS,
        ours: frozenset[bytes] = frozenset(),
    ) -> None:
        self._sources = tuple(sources)
        self._key_headers = [name for name in _SECRET_OF if name in key_headers]
        self._ours = ours
        self._spent = ours | CREDENTIALS

    def authenticate(self, caller: Caller) -> tuple[Identity, Headers]:
        """Look for a gateway key; see `Authenticator`."""
        headers = caller.headers
        if separate := api_key_of(first_header(headers, KEY_HEADER)):
            identity = self._identity(separate)
            headers = tuple([pair for pair in headers if pair[0] not in self._ours and not self._is_gateway_key(pair)])
            client_credential(headers)
            return identity, headers
        for name in self._key_headers:
            if secret := _SECRET_OF[name](first_header(headers, name)):
                return self._identity(secret), without(headers, self._spent)
        places = " or ".join(_PLACES[name] for name in self._key_headers)
        raise RequestRejected("no_key", 401, f"a gateway key is needed, as {places}")

    def _is_gateway_key(self, pair: tuple[bytes, bytes]) -> bool:
        """Whether a header carries a key of ours where the client's own credential may stand: it must not go on."""
        name, value = pair
        if name not in CREDENTIALS:
            return False
        words = [(word, digest_of(word)) for word in value.decode("latin-1").split()]
        return any(source.knows(word, digest) for word, digest in words for source in self._sources)

    def _identity(self, secret: str) -> Identity:
        digest = digest_of(secret)
        for source in self._sources:
            identity = source.find(secret, digest)
            if identity is not None:
                return identity
        raise RequestRejected("wrong_key", 401, "the gateway key is not known")


class Key(NamedTuple):
    """A secret that opens the gateway, as its hash. Times are UTC seconds; `expires_at` None: never."""

    digest: bytes
    identity: Identity
    expires_at: float | None = None
    revoked: bool = False

    def __repr__(self) -> str:
        return f"<Key of {self.identity.actor.id}>"  # who has the hash can try out what is no random key


_NOBODYS = bytes(32)


class KeyRing:
    """Gateway keys by their hash: a look takes as long with ten thousand of them as with one.

    What a look into the table takes tells of the hash at most, which nobody can choose; the hashes themselves are
    compared in constant time, also where nothing was found.

    Args:
        clock: the time, in UTC seconds.
        keys: that are known at once.
    """

    def __init__(self, clock: Callable[[], float], keys: Iterable[Key] = ()) -> None:
        self._clock = clock
        self._keys = {key.digest: key for key in keys}
        self.stale = False
        """Nobody knows any more whether they are good: none is taken, and none is called wrong."""

    def update(self, keys: Iterable[Key], *, whole: bool = False) -> None:
        """Take new and changed keys; `whole`: and forget all others."""
        changed = {key.digest: key for key in keys}
        if whole:
            self._keys = changed
        else:
            self._keys.update(changed)

    def find(self, secret: str, digest: bytes) -> Identity | None:  # noqa: ARG002 - the contract's
        """Return whom a key lets in; see `KeySource`."""
        key = self._keys.get(digest)
        same = hmac.compare_digest(_NOBODYS if key is None else key.digest, digest)
        if self.stale:
            raise RequestRejected("keys_unknown", 503, "gateway keys cannot be checked now; try again")
        if key is None or not same:
            return None
        if key.revoked:
            raise RequestRejected("revoked_key", 401, "the gateway key has been revoked")
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise RequestRejected("expired_key", 401, "the gateway key has expired")
        return key.identity

    def knows(self, secret: str, digest: bytes) -> bool:  # noqa: ARG002 - the contract's
        """Whether it is one of these; see `KeySource`."""
        return digest in self._keys

    def states(self) -> dict[str, float]:
        """Return how many secrets there are, by their state."""
        now = self._clock()
        counts = dict.fromkeys(KEY_STATES, 0.0)
        for key in list(self._keys.values()):  # a scrape may come on another thread
            expired = key.expires_at is not None and key.expires_at <= now
            counts["revoked" if key.revoked else "expired" if expired else "active"] += 1
        return counts


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

    def authenticate(self, caller: Caller) -> tuple[Identity, Headers]:
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
        return Identity(actor), without(headers, self._ours)

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


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 of a secret, which is all that is kept of a gateway key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
