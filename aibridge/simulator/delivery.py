"""From a reply to the steps that a connection plays: HTTP framing, the faults of framing, and how it ends.

It knows HTTP/1.1 and no API. TCP cuts are the connection's (`cutter.py`): they are independent of HTTP chunks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from itertools import count

from aibridge.simulator.faults import Fault, Play, Word
from aibridge.simulator.values import Ending, Pause, Piece, Reply, Step, Steps, Write

_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </hint>; rel=preload\r\n\r\n"
_BAD_HEAD = b"HTTP/9.9 OK fine\r\nnot a header\r\n\r\n"
_BAD_CHUNK_SIZE = b"zz\r\nnot a chunk\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_FLOOD_LINE = b"x-flood-%d: " + b"f" * 1000 + b"\r\n"
_OTHER_REASONS = {529: "Overloaded"}


class Framing(Enum):
    """How a reader knows where the body ends."""

    CHUNKED = auto()
    LENGTH = auto()
    CLOSE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A reply on its way: what is asked of the framing, and the pause between pieces in seconds."""

    reply: Reply
    play: Play
    pace_s: float = 0.0
    keep_alive: bool = True
    body_wanted: bool = True
    """False for HEAD."""
    chunks_understood: bool = True
    """False for HTTP/1.0."""

    def steps(self) -> Steps:
        """Yield all steps, an `Ending` last."""
        end = self.play.end
        before_head = _BEFORE_HEAD.get(end.word) if end else None
        if before_head is not None:
            yield from before_head()
            return
        yield from self._whole(end)

    def _whole(self, end: Fault | None) -> Steps:
        framing = self._framing(end)
        pieces = self.reply.pieces
        if framing is Framing.LENGTH or end is None or end.word is not Word.ENDLESS:
            pieces = [piece for piece in pieces if piece.data]
        late = self.play.number(Word.LATE, 0)
        if late:
            yield Pause(late / 1000)
        if Word.INTERIM in self.play:
            yield Write(_INTERIM)
        yield Write(self._head(framing, pieces), status=self.reply.status)
        if self.body_wanted:
            yield from self._body(framing, pieces, end)
        closes = framing is Framing.CLOSE or not self.keep_alive
        yield Ending.CLOSED if closes else Ending.KEPT_ALIVE

    def _framing(self, end: Fault | None) -> Framing:
        if end is not None and end.word in (Word.CLOSE_IN_BODY, Word.SHORT_JSON):
            return Framing.LENGTH
        if Word.CLOSE_DELIMITED in self.play:
            return Framing.CLOSE
        if not self.reply.streaming:
            return Framing.LENGTH
        return Framing.CHUNKED if self.chunks_understood else Framing.CLOSE

    def _head(self, framing: Framing, pieces: Iterable[Piece]) -> bytes:
        lines = [f"HTTP/1.1 {self.reply.status} {_reason(self.reply.status)}"]
        lines += [f"{name}: {value}" for name, value in self.reply.headers]
        if framing is Framing.CHUNKED:
            lines.append("transfer-encoding: chunked")
        elif framing is Framing.LENGTH:
            lines.append(f"content-length: {sum(len(piece.data) for piece in pieces)}")
        closes = framing is Framing.CLOSE or not self.keep_alive
        lines.append(f"connection: {'close' if closes else 'keep-alive'}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _body(self, framing: Framing, pieces: Iterable[Piece], end: Fault | None) -> Steps:
        ended = _ENDED_AFTER_PIECES.get(end.word) if end else None
        if end is not None and ended is not None and isinstance(pieces, list):
            stop = len(pieces) // 2 if end.at is None else end.at
            yield from self._paced(framing, pieces[: 0 if end.word is Word.HEAD_ONLY else stop])
            yield from ended
        elif end is not None and end.word in _ENDED_AFTER_BYTES and isinstance(pieces, list):
            yield from self._paced(framing, *_cut(pieces, end))
            yield Ending.CLOSED
        else:
            yield from self._paced(framing, pieces)
            yield from _last_words(framing, end)

    def _paced(self, framing: Framing, pieces: Iterable[Piece], last_size: int | None = None) -> Steps:
        """Yield pieces with pauses between. `last_size` is what the last one's chunk says of its size, as a lie."""
        pieces = iter(pieces)
        piece = next(pieces, None)
        while piece is not None:
            following = next(pieces, None)
            yield _framed(framing, piece, last_size if following is None else None)
            if self.pace_s and following is not None:
                yield Pause(self.pace_s)
            piece = following


def _framed(framing: Framing, piece: Piece, size: int | None) -> Write:
    wire = piece.data
    if framing is Framing.CHUNKED:
        end = b"\r\n" if size is None or size == len(piece.data) else b""
        wire = b"%x\r\n%b%b" % (len(piece.data) if size is None else size, piece.data, end)
    return Write(wire, piece.data, piece.events, piece.terminal)


def _cut(pieces: list[Piece], end: Fault) -> tuple[list[Piece], int | None]:
    """Return the pieces of the first bytes, and the size that the last one's chunk would have had."""
    total = sum(len(piece.data) for piece in pieces)
    left = min(total // 2 if end.at is None else end.at, max(0, total - 1))
    kept: list[Piece] = []
    for piece in pieces:
        if left < len(piece.data):
            inside = [Piece(piece.data[:left], events=0)] if left else []
            return kept + inside, len(piece.data) if left else None
        kept.append(piece)
        left -= len(piece.data)
    return kept, None


def _last_words(framing: Framing, end: Fault | None) -> Steps:
    if end is not None and end.word in _ENDED_WITHOUT_LAST_CHUNK:
        yield _ENDED_WITHOUT_LAST_CHUNK[end.word]
    elif framing is Framing.CHUNKED:
        yield Write(_LAST_CHUNK)


def _silence() -> Steps:
    yield Ending.PEER_CLOSED


def _close() -> Steps:
    yield Ending.CLOSED


def _reset() -> Steps:
    yield Ending.RESET


def _bad_head() -> Steps:
    yield Write(_BAD_HEAD)
    yield Ending.CLOSED


def _flood() -> Iterator[Step]:
    yield Write(b"HTTP/1.1 200 OK\r\n")
    for number in count():
        yield Write(_FLOOD_LINE % number)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return _OTHER_REASONS.get(status, "Unknown")


_BEFORE_HEAD = {
    Word.NO_HEAD: _silence,
    Word.CLOSE_BEFORE_HEAD: _close,
    Word.RST_BEFORE_HEAD: _reset,
    Word.BAD_HTTP: _bad_head,
    Word.HEADER_FLOOD: _flood,
}
_ENDED_AFTER_PIECES: dict[Word, tuple[Step, ...]] = {
    Word.STALL: (Ending.PEER_CLOSED,),
    Word.HEAD_ONLY: (Ending.PEER_CLOSED,),
    Word.RST: (Ending.RESET,),
    Word.BAD_CHUNK: (Write(_BAD_CHUNK_SIZE), Ending.CLOSED),
}
_ENDED_AFTER_BYTES = frozenset({Word.CUT, Word.CLOSE_IN_BODY, Word.SHORT_JSON})
_ENDED_WITHOUT_LAST_CHUNK = {Word.TERMINAL_THEN_RST: Ending.RESET, Word.TERMINAL_THEN_CLOSE: Ending.CLOSED}
