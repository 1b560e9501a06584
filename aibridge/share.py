"""What a worker has of its supervisor: sockets, memory for its numbers, and a line to talk on. Linux only.

Each worker has listening sockets of its own, one for each address, with SO_REUSEPORT: the kernel spreads connections
over them. The supervisor made them and holds them too, so that what waits in one outlives its worker; each worker has
inherited all of them, so that it can serve those of another.
"""

import os
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple, Self

from aibridge.errors import ConfigError
from aibridge.jsontext import dumps, loads

Slot = Sequence[socket.socket]
"""The sockets that one worker serves, one for each address."""


class Share(NamedTuple):
    """A worker's part; files are descriptors that it has inherited."""

    number: int
    """Of its slot."""
    family: str
    """Of all workers of a supervisor: their journals are named by it."""
    control: int
    tally: int
    slots: Sequence[Sequence[int]]

    def argument(self) -> str:
        """Return it as a program's argument."""
        return dumps(self._asdict()).decode()

    @classmethod
    def of_argument(cls, text: str) -> Self:
        """Read what `argument` has written, by this program or by an older one."""
        return cls(**loads(text.encode()))


def adopted(fds: Sequence[int]) -> list[socket.socket]:
    """Return sockets of our own for inherited ones, which stay."""
    return [socket.socket(fileno=one) for one in map(os.dup, fds)]


def bind(host: str, port: int, slots: int) -> list[list[socket.socket]]:
    """Bind the sockets of all slots; nobody listens on them yet.

    Args:
        host: an address, or a name of several.
        port: 0 is the kernel's choice, the same for all.
        slots: how many.

    Raises:
        OSError: an address cannot be had.
    """
    if not sys.platform.startswith("linux"):
        raise ConfigError("workers: several need Linux")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys((family, where) for family, _, _, _, where in found)
    bound: list[list[socket.socket]] = [[] for _ in range(slots)]
    for family, where in addresses:
        port = port or (bound[0][0].getsockname()[1] if bound[0] else 0)
        address = (where[0], port, *where[2:])
        if port:
            # With SO_REUSEPORT the kernel would let us in beside another gateway of the same user.
            _bound(family, address, shared=False).close()
        for slot in bound:
            slot.append(_bound(family, address, shared=True))
            address = slot[-1].getsockname()
    return bound


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError as error:
        one.close()
        raise OSError(error.errno, f"{address[0]}:{address[1]}: {error.strerror}") from error
    one.setblocking(False)  # noqa: FBT003 - the signature is the system's
    return one
