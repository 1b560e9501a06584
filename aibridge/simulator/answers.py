"""Which answer a request gets: the table of APIs, the choice of the play, and the answers that are no API's own.

Pure but for ids and the clock it is given. It knows faces and plays, not sockets.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, NamedTuple

from aibridge.simulator.anthropic import AnthropicFace
from aibridge.simulator.bedrock import BedrockFace
from aibridge.simulator.damage import compress, rechunk
from aibridge.simulator.delivery import Delivery
from aibridge.simulator.faces import Face, Refusal
from aibridge.simulator.faults import CLEAN, Fault, Play, UnknownFault, Word, parse_play
from aibridge.simulator.openai import OpenAIFace
from aibridge.simulator.openai_faces import ChatFace, ResponsesFace
from aibridge.simulator.recordings import recorded_reply
from aibridge.simulator.settings import Settings
from aibridge.simulator.values import Api, Ask, Operation, Piece, Received, Reply, Steps

FAULT_HEADER = "x-sim-fault"
REFUSED = "refused"
_PIECE_BYTES = 64
"""The size of what K counts, and of what pauses part, in an answer that is no stream."""
_LOGIN_PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body><form>Sign in</form></body></html>\n"
_GATEWAY_PAGE = b"<html>\r\n<head><title>%d</title></head>\r\n<body><center><h1>%d</h1></center></body>\r\n</html>\r\n"
_TOO_LARGE = 413
_A_MINUTE = 60

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What will be done to a request, and what the ledger says of it."""

    request_id: str
    api: Api
    model: str
    streaming: bool
    fault: str
    stale: bool
    """The connection is to close when the next request comes."""
    play: Play
    steps: Steps
    usage: Mapping[str, Any] | None = None


def unanswered(before: Answer) -> Answer:
    """Return the answer to a request that gets not a byte, on a connection that another answer has made stale."""
    return Answer(
        request_id="",
        api=before.api,
        model="",
        streaming=False,
        fault=before.fault,
        stale=True,
        play=CLEAN,
        steps=iter(()),
    )


class Choice(NamedTuple):
    """A reply with what was read and chosen on the way."""

    reply: Reply
    ask: Ask | None
    play: Play
    fault: str


class Answerer:
    """Answers requests with the faces of a table; plays come from a header, a queue or the model's name."""

    def __init__(self, settings: Settings) -> None:
        checked = not settings.any_credentials
        self._settings = settings
        # The order decides: the last face takes every path.
        self._faces: tuple[Face, ...] = (
            BedrockFace(settings.aws, check_credentials=checked),
            ChatFace(settings.openai_keys, check_credentials=checked),
            ResponsesFace(settings.openai_keys, check_credentials=checked),
            OpenAIFace(settings.openai_keys, check_credentials=checked),
            AnthropicFace(settings.anthropic_keys, check_credentials=checked),
        )
        self._queue: list[_Queued] = []
        self._recordings: deque[bytes] = deque()

    def play(self, play: Play, times: int | None, key: str = "") -> None:
        """Play this on the next so many messages asked for; None: from now on. With a key: of those that carry it."""
        self._queue.append(_Queued(play, times, key))

    def replay(self, recording: bytes) -> None:
        """Answer one more of the next messages asked for with a recording."""
        self._recordings.append(recording)

    def clear(self) -> None:
        """Forget what was to be played."""
        self._queue.clear()
        self._recordings.clear()

    def answer(self, request: Received, now: float, *, too_large: bool = False) -> Answer:
        """Return the answer. `now` is UTC in seconds since the epoch."""
        face = next(face for face in self._faces if face.owns(request))
        request_id = face.new_request_id()
        choice = self._choose(face, request, request_id, now, too_large=too_large)
        told = _with_left(choice.reply.headers, choice.play.get(Word.LEFT), now)
        reply = replace(choice.reply, headers=(("date", formatdate(now, usegmt=True)), *told))
        pace_s = self._settings.shape.pace_s if reply.streaming else 0.0
        delivery = Delivery(
            reply=reply,
            play=choice.play,
            pace_s=choice.play.number(Word.SLOW, 0) / 1000 or pace_s,
            keep_alive=request.keep_alive,
            body_wanted=request.method != "HEAD",
            chunks_understood=request.chunks_understood,
        )
        return Answer(
            request_id=request_id,
            api=face.api,
            model=_model_asked(choice.ask),
            streaming=choice.ask is not None and choice.ask.streaming,
            fault=choice.fault,
            stale=Word.STALE in choice.play,
            play=choice.play,
            steps=delivery.steps(),
            usage=choice.reply.usage,
        )

    def _choose(self, face: Face, request: Received, request_id: str, now: float, *, too_large: bool) -> Choice:
        ask: Ask | None = None
        try:
            if too_large:
                raise face.status_refusal(_TOO_LARGE)
            face.authenticate(request, now)
            ask = face.read(request)
            play = self._play_for(request, ask)
            play.check_fits(face.scopes, streaming=ask.streaming)
        except Refusal as refusal:
            return Choice(face.refuse(refusal, request_id), ask, CLEAN, REFUSED)
        except UnknownFault as error:
            unknown = Refusal(400, face.status_refusal(400).kind, str(error))
            return Choice(face.refuse(unknown, request_id), ask, CLEAN, REFUSED)
        if self._recordings and ask.operation is Operation.MESSAGE:
            reply = _repacked(recorded_reply(self._recordings.popleft(), request_id), play)
            return Choice(reply, ask, play, str(play))
        return Choice(_reply(face, ask, play, self._settings, request_id), ask, play, str(play))

    def _play_for(self, request: Received, ask: Ask) -> Play:
        """The header wins, then what tests queued, then the model's name."""
        words = request.header(FAULT_HEADER)
        if words is not None:
            return parse_play(words)
        queued = self._queued(request) if ask.operation in (Operation.MESSAGE, Operation.COMPACT) else None
        return queued or parse_play(ask.words or "")

    def _queued(self, request: Received) -> Play | None:
        for place, (play, times, key) in enumerate(self._queue):
            if key in _secrets_of(request):
                if times is not None:
                    self._queue[place : place + 1] = [_Queued(play, times - 1, key)] if times > 1 else []
                return play
        return None


class _Queued(NamedTuple):
    """A play that waits for its requests: so many, or all that come; those with a key, or any."""

    play: Play
    times: int | None
    key: str


def _secrets_of(request: Received) -> set[str]:
    """Return the keys that a request carries, and the empty one."""
    told = (request.header(name) or "" for name in ("x-api-key", "api-key", "authorization"))
    return {"", *(value.removeprefix("Bearer ") for value in told)}


def _model_asked(ask: Ask | None) -> str:
    if ask is None:
        return ""
    return f"{ask.model}+{ask.words}" if ask.words else ask.model


def _reply(face: Face, ask: Ask, play: Play, settings: Settings, request_id: str) -> Reply:
    end = play.end
    match end.word if end else None:
        case Word.STATUS if end and end.number:
            reply = face.refuse(face.status_refusal(end.number), request_id, play)
            reply = _with_retry_after(reply, end.retry_after)
        case Word.STATUS_HTML if end and end.number:
            page = _GATEWAY_PAGE % (end.number, end.number)
            reply = _with_retry_after(_html(end.number, page), end.retry_after)
        case Word.TOO_LONG:
            reply = face.refuse(face.too_long(), request_id, play)
        case Word.HTML:
            reply = _html(200, _LOGIN_PAGE)
        case Word.BROKEN_JSON:
            reply = _broken(face.reply(ask, play, settings.shape, request_id))
        case _:
            reply = face.reply(ask, play, settings.shape, request_id)
    return _repacked(reply, play)


def _with_retry_after(reply: Reply, seconds: int | None) -> Reply:
    return reply if seconds is None else replace(reply, headers=(*reply.headers, ("retry-after", str(seconds))))


def _with_left(headers: Headers, left: Fault | None, now: float) -> Headers:
    """Tell what is left of the key's requests, and that it is restored in a minute."""
    if left is None:
        return headers
    reset = datetime.fromtimestamp(now + _A_MINUTE, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {
        "anthropic-ratelimit-requests-remaining": str(left.number),
        "anthropic-ratelimit-requests-reset": reset,
        "x-ratelimit-remaining-requests": str(left.number),
        "x-ratelimit-reset-requests": "1m0s",
    }
    return tuple((name, told.get(name, value)) for name, value in headers)


def _html(status: int, page: bytes) -> Reply:
    return Reply(status=status, headers=(("content-type", "text/html"),), pieces=[Piece(page, events=0)])


def _broken(reply: Reply) -> Reply:
    """Cut the last brace off, and tell the shorter length."""
    body = b"".join(piece.data for piece in reply.pieces)
    return replace(reply, pieces=[Piece(body[:-1] + b",", events=0)])


def _repacked(reply: Reply, play: Play) -> Reply:
    pieces = reply.pieces
    if not reply.streaming:
        pieces = _small(pieces)
    if Word.GZIP in play:
        pieces, reply = compress(pieces), replace(reply, headers=(*reply.headers, ("content-encoding", "gzip")))
    seed = play.get(Word.RECHUNK)
    if seed is not None:
        pieces = rechunk(pieces, seed.number or 0)
    return replace(reply, pieces=pieces)


def _small(pieces: Iterable[Piece]) -> list[Piece]:
    """Return one body in pieces of 64 bytes; only the last one ends anything."""
    small: list[Piece] = []
    for piece in pieces:
        starts = range(0, len(piece.data), _PIECE_BYTES) or range(1)
        small += [Piece(piece.data[start : start + _PIECE_BYTES], events=0) for start in starts]
        small[-1] = small[-1]._replace(terminal=piece.terminal)
    return small
