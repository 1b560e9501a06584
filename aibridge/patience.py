"""How long an exchange waits, and for what. Pure: the times come in, as seconds of the loop's clock."""

from enum import Enum, auto
from typing import NamedTuple

from aibridge.lifecycle import State
from aibridge.surroundings import Deadlines


class Due(Enum):
    """What is to be done when a deadline is reached."""

    NOTHING = auto()
    CLIENT_STALLED = auto()
    READ_ENOUGH = auto()
    """Of an answer whose client has left."""
    PING = auto()
    COMMIT = auto()
    """The client has waited long for its head."""
    NO_CONNECTION = auto()
    NO_HEAD = auto()
    SILENT = auto()


class Since(NamedTuple):
    """When what is waited for began."""

    sent: float
    """The request; or the connecting, where there is no connection yet."""
    heard: float
    """The upstream, last."""
    said: float
    """Something to the client, last."""
    gone: float
    """The client, where it has left."""
    paused: float | None
    """The upstream is not read since, because the client's buffer is full."""


class Standing(NamedTuple):
    """What tells which deadlines there are. `committed`: the client has the head of a stream."""

    state: State
    streaming: bool
    committed: bool
    connected: bool
    client_left: bool


class Deadline(NamedTuple):
    """When what is due."""

    at: float
    due: Due


def next_deadline(standing: Standing, since: Since, deadlines: Deadlines, read_on: float) -> Deadline:
    """Return the next deadline. `read_on` are the seconds for which an answer is read whose client has left."""
    if since.paused is not None:
        # The upstream is not read meanwhile: only the client can be late.
        return Deadline(since.paused + deadlines.client_stall, Due.CLIENT_STALLED)
    return min(
        _of_the_upstream(standing, since, deadlines), _for_the_client(standing, since, deadlines, read_on), key=_at
    )


def _for_the_client(standing: Standing, since: Since, deadlines: Deadlines, read_on: float) -> Deadline:
    if standing.client_left:
        return Deadline(since.gone + read_on, Due.READ_ENOUGH)
    if standing.committed and standing.state is not State.FINISHED:
        return Deadline(since.said + deadlines.ping, Due.PING)
    if standing.streaming and standing.state in _WAITING:
        return Deadline(since.said + deadlines.commit, Due.COMMIT)
    return _NEVER


def _of_the_upstream(standing: Standing, since: Since, deadlines: Deadlines) -> Deadline:
    if standing.state is State.BETWEEN:
        return _NEVER  # what is done meanwhile has limits of its own
    if standing.state not in _ASKING:
        return Deadline(since.heard + deadlines.idle, Due.SILENT)
    if not standing.connected:
        return Deadline(since.sent + deadlines.connect, Due.NO_CONNECTION)
    return Deadline(since.sent + deadlines.response, Due.NO_HEAD)


def _at(deadline: Deadline) -> float:
    return deadline.at


_NEVER = Deadline(float("inf"), Due.NOTHING)
_ASKING = frozenset({State.CONNECTING, State.RECONNECTING})
_WAITING = frozenset({*_ASKING, State.BETWEEN})
