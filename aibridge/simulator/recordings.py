"""Recorded answers of providers, played byte for byte in the place of made ones. Pure.

A recording is an SSE body, a JSON body, or a whole response that begins with `HTTP/` and has its head before a blank
line. A `content-length` in it is not believed: what is told is the length of what is sent.
"""

import re

from aibridge.simulator.values import Piece, Reply

_EVENT = re.compile(rb".*?(?:\n\n|\r\n\r\n|\Z)", re.DOTALL)
_LAST_WORDS = (b"[DONE]", b'"type":"message_stop"', b'"type":"response.completed"', b'"type":"response.incomplete"')
_FRAMING = ("content-length", "transfer-encoding", "connection", "date")


def recorded_reply(recording: bytes, request_id: str) -> Reply:
    """Return a recording as a reply: a stream in one piece for each event, anything else as it is."""
    status, body = 200, recording
    headers: tuple[tuple[str, str], ...] = ()
    if recording.startswith(b"HTTP/"):
        status, headers, body = _response(recording)
    streaming = status == 200 and re.match(rb"(?:event|data|id|retry|:)", body) is not None  # noqa: PLR2004 - OK
    kind = "text/event-stream; charset=utf-8" if streaming else "application/json"
    typed = headers or (("content-type", kind),)
    pieces = _events(body) if streaming else [Piece(body, events=0, terminal=status < 400)]  # noqa: PLR2004 - errors
    named = (*typed, ("request-id", request_id), ("x-request-id", request_id))
    return Reply(status=status, headers=named, pieces=pieces, streaming=streaming)


def _response(recording: bytes) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    head, _, body = re.split(rb"(\r?\n\r?\n)", recording, maxsplit=1)
    first, *lines = head.decode("latin-1").splitlines()
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return int(first.split()[1]), tuple(pair for pair in pairs if pair[0] not in _FRAMING), body


def _events(body: bytes) -> list[Piece]:
    parts = [part for part in _EVENT.findall(body) if part]
    return [Piece(part, terminal=any(word in part.replace(b'": "', b'":"') for word in _LAST_WORDS)) for part in parts]
