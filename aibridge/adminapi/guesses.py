"""Wrong keys, by where they come from: whoever guesses gets a few answers, and then one every few seconds."""

from collections import deque
from ipaddress import IPv6Address, ip_address

AT_ONCE = 10
"""Wrong keys that are answered without a wait."""
SECONDS = 6.0
"""Until one more is."""
_MAX_NETWORKS = 4096
_NETWORK_BITS = 48
"""Of an IPv6 address: behind these one house has as many networks and addresses as it likes (RFC 6177)."""


class _Tries:
    """Of one network: the time by which all its tries are forgotten, and what it tried last."""

    __slots__ = ("last", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.last: deque[bytes] = deque(maxlen=AT_ONCE)


class Guesses:
    """Counts wrong keys. The same one again is no guess: a program with an old key locks nobody out."""

    def __init__(self) -> None:
        self._tries: dict[str, _Tries] = {}

    def is_known(self, peer: str, digest: bytes) -> bool:
        """Whether a key was among the last wrong ones of an address's network."""
        tries = self._tries.get(_network(peer))
        return tries is not None and digest in tries.last

    def wait(self, peer: str, now: float) -> float:
        """Return the seconds until an address may try another key; 0 where it may now."""
        tries = self._tries.get(_network(peer))
        return 0.0 if tries is None else max(0.0, tries.until - (AT_ONCE - 1) * SECONDS - now)

    def count(self, peer: str, digest: bytes, now: float) -> None:
        """Count a wrong key."""
        network = _network(peer)
        if network not in self._tries:
            self._make_place(now)
        tries = self._tries.setdefault(network, _Tries())
        tries.until = max(tries.until, now) + SECONDS
        tries.last.append(digest)

    def _make_place(self, now: float) -> None:
        if len(self._tries) >= _MAX_NETWORKS:
            self._tries = {network: tries for network, tries in self._tries.items() if tries.until > now}
        while len(self._tries) >= _MAX_NETWORKS:
            del self._tries[next(iter(self._tries))]


def _network(peer: str) -> str:
    try:
        address = ip_address(peer)
    except ValueError:  # gone already
        return peer
    if not isinstance(address, IPv6Address):
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(int(address) >> (128 - _NETWORK_BITS))
