"""One key of a provider that has several. A value; what is known of it is its pool's (`aibridge/keypool.py`)."""

from typing import NamedTuple


class PoolKey(NamedTuple):
    """A secret, and what may be told of it."""

    secret: str
    hint: str
    name: str
    """By which metrics know it."""
    weight: float = 1.0
    """Its part of the requests, compared with that of the others."""

    def __repr__(self) -> str:
        return f"<PoolKey {self.name}>"
