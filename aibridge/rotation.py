"""How one interception goes on with another key of its provider's pool. Pure: the clock comes in.

The client sees nothing of it: an answer that turns a key away has no byte for it, in a later turn of a tool loop too.
"""

from collections.abc import Callable

from aibridge.keypool import TURNED_AWAY, Exhausted, KeyPool, KeyState, with_key
from aibridge.poolkey import PoolKey
from aibridge.values import ResponseHead, UpstreamRequest


class Rotation:
    """The keys that one interception asks with.

    Args:
        pool: of the provider that is asked.
        key: of the first request.
        session_id: the caller's own; empty where there is none.
        on_rotated: told what is known of a key in whose place another goes out.
    """

    __slots__ = ("_key", "_made", "_on_rotated", "_session_id", "goes_on", "pool", "turned_away")

    def __init__(self, pool: KeyPool, key: PoolKey, session_id: str, on_rotated: Callable[[str], None]) -> None:
        self.pool = pool
        self._key = key
        self._session_id = session_id
        self._on_rotated = on_rotated
        self._made = 0
        self.turned_away = False
        """Whether the last answer was about the key."""
        self.goes_on = False
        """Whether the same request may be sent with another one, at once."""

    def hear(self, head: ResponseHead, now: float) -> None:
        """Take the head of an answer."""
        another = self.pool.heard(self._key, head, now)
        self.turned_away = head.status in TURNED_AWAY
        self._made = self._made + 1 if self.turned_away else 0
        self.goes_on = another and self._made < len(self.pool)

    def following(self, request: UpstreamRequest, now: float) -> UpstreamRequest | Exhausted:
        """Return a further request with a key that is valid: its own, or another's."""
        state = self.pool.state(self._key, now)
        if state is not KeyState.VALID:
            chosen = self.pool.choose(self._session_id, now)
            if isinstance(chosen, Exhausted):
                return chosen
            self._on_rotated(state.value)
            self._key = chosen
        return with_key(request, self._key)
