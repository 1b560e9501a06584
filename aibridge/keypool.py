"""Several keys of one provider: which one is asked next, and what its answers say of it. Pure: the clock comes in.

      ┌──────────(its time is over)──────── COOLING ◄──(429)──┐
      ▼                                        ▲              │
    VALID ──────────────(429)──────────────────┘              │
      ▲ └───────────────(401)──► REFUSED ─────────────────────┘
      └───(a probe was accepted)────┘

Nobody has to bring a key back. One that cools is valid again when its time is over. One that was refused is then tried
by one request, and is valid where that is accepted; where it is refused again it rests for twice as long.

Times are monotonic seconds, of any one clock.
"""

import math
from collections.abc import Sequence
from enum import Enum, StrEnum, auto
from hashlib import blake2b
from typing import NamedTuple

from aibridge.credentials import worth_hiding
from aibridge.poolkey import PoolKey
from aibridge.ratelimits import Limit, limits_in, reset_of, told_pause
from aibridge.values import ResponseHead, UpstreamRequest

FIRST_LIMIT = 2.0
"""After a 429 that does not say how long; doubled with each one behind it, up to `LONGEST_LIMIT`.

Short, since it may be of the request: one that is larger than a limit is turned away with every key.
"""
LONGEST_LIMIT = 60.0
FIRST_REFUSAL = 60.0
"""After a 401; doubled with each one behind it, up to `LONGEST`."""
LONGEST = 3600.0
"""Also of what an upstream tells: a wrong number must not bar a key for good."""
SHORTEST = 1.0
PROBE = 30.0
"""How long the answer to a probe is waited for, before another request may be one."""


class KeyState(StrEnum):
    """What is known of a key. The word is the metric's label."""

    VALID = "valid"
    COOLING = "cooling"
    """It has reached a limit, and is left alone until that is restored."""
    REFUSED = "refused"
    """The upstream does not take it."""


class KeyChoice(Enum):
    """By which rule one of several valid keys is chosen."""

    PRIMARY = auto()
    """The first, as long as it is valid."""
    SPREAD = auto()
    """By the session, which keeps to its key; without one, the key that was used least."""


class Fact(Enum):
    """What happens to a key."""

    ACCEPTED = auto()
    """An answer that an upstream gives only behind a good key."""
    LIMITED = auto()
    """429."""
    DENIED = auto()
    """401."""
    RESTED = auto()
    """Its time is over."""


NEXT: dict[tuple[KeyState, Fact], KeyState] = {
    (KeyState.VALID, Fact.ACCEPTED): KeyState.VALID,
    (KeyState.VALID, Fact.LIMITED): KeyState.COOLING,
    (KeyState.VALID, Fact.DENIED): KeyState.REFUSED,
    (KeyState.VALID, Fact.RESTED): KeyState.VALID,
    # It may be the answer to an earlier request: what was told of the limit stands.
    (KeyState.COOLING, Fact.ACCEPTED): KeyState.COOLING,
    (KeyState.COOLING, Fact.LIMITED): KeyState.COOLING,
    (KeyState.COOLING, Fact.DENIED): KeyState.REFUSED,
    (KeyState.COOLING, Fact.RESTED): KeyState.VALID,
    (KeyState.REFUSED, Fact.ACCEPTED): KeyState.VALID,
    (KeyState.REFUSED, Fact.LIMITED): KeyState.COOLING,  # whoever counts a key's requests knows the key
    (KeyState.REFUSED, Fact.DENIED): KeyState.REFUSED,
    (KeyState.REFUSED, Fact.RESTED): KeyState.REFUSED,  # a probe may be sent; its answer decides
}
"""The machine, total."""

TURNED_AWAY = {401: Fact.DENIED, 429: Fact.LIMITED}
"""Statuses that are of a key, and not of a request."""
_ACCEPTING = frozenset({*range(200, 300), 400, 404, 413, 422})
"""Statuses of answers for which an upstream has looked at the key. A 403 and a 5xx may come from what stands before."""


class Exhausted(NamedTuple):
    """No key can be asked. `seconds` until the first may be; None where all were refused."""

    seconds: int | None


def with_key(request: UpstreamRequest, key: PoolKey) -> UpstreamRequest:
    """Return a request of a pool's provider with another key of the pool."""
    if request.key is None or request.key == key:
        return request
    before, after = request.key.secret.encode(), key.secret.encode()
    said = {before: after, b"Bearer " + before: b"Bearer " + after}
    headers = tuple((name, said.get(value, value)) for name, value in request.headers)
    return request._replace(headers=headers, credential=request.credential._replace(hint=key.hint), key=key)


class KeyPool:
    """The keys of one provider, and what this process has learned of each."""

    def __init__(self, keys: Sequence[PoolKey], choice: KeyChoice = KeyChoice.PRIMARY) -> None:
        self._keys = {key: _Known(key) for key in keys}
        self._choice = choice
        self._served = 0.0
        """The turn of the key that was used least when one was chosen for it: who was away does not catch up."""
        self.secrets = worth_hiding(*(key.secret for key in keys))
        """Of all of them, for whoever takes them out of what an upstream says."""

    def __len__(self) -> int:
        return len(self._keys)

    def choose(self, session_id: str, now: float) -> PoolKey | Exhausted:
        """Return the key for a request. One of which nearly nothing is left is chosen last, until its reset.

        Args:
            session_id: the caller's own; empty where there is none.
            now: monotonic seconds.
        """
        ready = [known for known in self._keys.values() if known.is_ready(now)]
        if not ready:
            return self.exhausted(now)
        best = self._best([known for known in ready if not known.is_scarce(now)] or ready, session_id)
        best.use(now, self._served)
        return best.key

    def soonest(self, now: float) -> PoolKey:
        """Return the best key there is, ready or not: for what is relayed only, and spends nothing."""
        order = list(KeyState)
        return min(self._keys.values(), key=lambda one: (order.index(one.state_at(now)), one.pause(now))).key

    def heard(self, key: PoolKey, head: ResponseHead, now: float) -> bool:
        """Take the head of an answer to a request with this key. Returns whether another key may be asked at once."""
        self._keys[key].hear(head, now)
        return head.status in TURNED_AWAY and any(known.is_ready(now) for known in self._keys.values())

    def state(self, key: PoolKey, now: float) -> KeyState:
        """Return what is known of a key."""
        return self._keys[key].state_at(now)

    def exhausted(self, now: float) -> Exhausted:
        """Say after how long a key may be asked again."""
        good = [known for known in self._keys.values() if known.state_at(now) is not KeyState.REFUSED]
        return Exhausted(max(1, math.ceil(min(known.pause(now) for known in good))) if good else None)

    def states(self, now: float) -> dict[tuple[KeyState], int]:
        """Return how many keys are in each state."""
        states = [known.state_at(now) for known in self._keys.values()]
        return {(state,): states.count(state) for state in KeyState}

    def remaining(self, now: float) -> dict[tuple[str, str], int]:
        """Return what is left of each limit that was told, by the key's name and the kind."""
        return {
            (key.name, kind): left for key, known in self._keys.items() for kind, left in known.remaining(now).items()
        }

    def _best(self, ready: "list[_Known]", session_id: str) -> "_Known":
        if self._choice is KeyChoice.PRIMARY:
            return ready[0]
        if session_id:
            return max(ready, key=lambda known: known.score(session_id))
        best = min(ready, key=lambda known: known.turn)
        self._served = max(self._served, best.turn)
        return best


class _Known:
    """One key, and what is known of it."""

    __slots__ = ("_last", "_limits", "_probed", "_row", "_salt", "_state", "key", "turn", "until")

    def __init__(self, key: PoolKey) -> None:
        self.key = key
        self.until = 0.0
        """When it has rested; of a refused one, when the next probe may be sent."""
        self.turn = 0.0
        """Grows with each use, the less the greater its weight."""
        self._state = KeyState.VALID
        self._probed = False
        self._last = Fact.ACCEPTED
        self._row = 0
        """How often it was turned away for the last reason, in a row."""
        self._limits: dict[str, tuple[Limit, float]] = {}
        # No secret is told by it: only scores are made with it.
        self._salt = blake2b(key.secret.encode(), digest_size=16).digest()

    def state_at(self, now: float) -> KeyState:
        if self._state is not KeyState.VALID and now >= self.until:
            self._state = NEXT[self._state, Fact.RESTED]
        return self._state

    def pause(self, now: float) -> float:
        """Return the seconds until it is valid, or a probe is due."""
        return 0.0 if self.state_at(now) is KeyState.VALID else max(0.0, self.until - now)

    def is_ready(self, now: float) -> bool:
        """Whether it may be asked: it is valid, or a probe is due."""
        return not self.pause(now)

    def is_scarce(self, now: float) -> bool:
        return any(limit.scarce and now < reset for limit, reset in self._limits.values())

    def use(self, now: float, served: float) -> None:
        self.turn = max(self.turn, served) + 1 / self.key.weight
        if self.state_at(now) is KeyState.REFUSED:
            self._probed, self.until = True, now + PROBE

    def score(self, session_id: str) -> float:
        """Return its place for a session: rendezvous hashing, weighted, the same in every process."""
        digest = blake2b(session_id.encode("utf-8", "replace"), digest_size=8, key=self._salt).digest()
        return -self.key.weight / math.log(((int.from_bytes(digest) >> 12) + 0.5) / 2**52)  # never 0, never 1

    def hear(self, head: ResponseHead, now: float) -> None:
        limits = limits_in(head)
        for kind, limit in limits.items():
            self._limits[kind] = limit, now + min(LONGEST, reset_of(limit, head)) if limit.scarce else now
        fact = TURNED_AWAY.get(head.status) or (Fact.ACCEPTED if head.status in _ACCEPTING else None)
        if fact is None:
            return
        before, self._state = self.state_at(now), NEXT[self.state_at(now), fact]
        if fact is Fact.ACCEPTED:
            if self._state is KeyState.VALID:
                self._probed, self._row, self.until = False, 0, now
        elif before is not self._state or self._probed:
            self._turn_away(fact, told_pause(head, limits), now)
        elif fact is Fact.LIMITED:  # one of several that were asked before: the longest pause wins
            self.until = max(self.until, now + self._pause(fact, told_pause(head, limits)))

    def _turn_away(self, fact: Fact, told: float | None, now: float) -> None:
        self._row = self._row + 1 if fact is self._last else 1
        self._last = fact
        self._probed = False
        self.until = now + self._pause(fact, told)

    def _pause(self, fact: Fact, told: float | None) -> float:
        """Return for how long it is left alone, after so many refusals in a row."""
        doubled = 2.0 ** min(self._row - 1, 16)
        if fact is Fact.DENIED:
            pause = max(FIRST_REFUSAL * doubled, told or 0.0)
        else:
            pause = min(LONGEST_LIMIT, FIRST_LIMIT * doubled) if told is None else told
        return min(LONGEST, max(SHORTEST, pause))

    def remaining(self, now: float) -> dict[str, int]:
        left = {}
        for kind, (limit, reset) in self._limits.items():
            restored = limit.scarce and now >= reset
            count = limit.limit if restored and limit.limit is not None else limit.remaining
            if count is not None:
                left[kind] = count
        return left
