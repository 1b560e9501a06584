"""Usage that the client did not order: asked for on the way up, and kept from it on the way down.

A streaming answer tells its usage only where the request says `stream_options.include_usage`. Then one event comes at
the end that has no choice; it alone is withheld. The other events get `"usage":null` from OpenAI, and keep it: SDKs
have the member as nullable, and the bytes of what the client ordered stay as they are.
"""

import re
from typing import Any

from aibridge import jsontext
from aibridge.body import Body
from aibridge.dialects.raw import Raw
from aibridge.errors import PayloadError, WireError
from aibridge.values import Event, Frame, Scan, StreamDecoder

_ASKED = b'{"include_usage":true}'


def asking_usage(body: Body) -> bytes | None:
    """Return a streaming request with `include_usage`; None where the client ordered it, or no answer is streamed.

    Every other byte stays. An explicit false is asked over: it means that the client wants no such event, and it gets
    none. Options of another type than the API has stay as they are, and so does the upstream's refusal of them.
    """
    if not body.streaming:
        return None
    for member in reversed(body.members):
        if member.key == "stream_options":
            options = Raw(body.raw, member.value_start, member.value_end)
            return _put(options, _ASKED) if options.raw() == b"null" else _into(options)
    behind = body.members[-1].value_end
    return _put(Raw(body.raw, behind, behind), b',"stream_options":' + _ASKED)


def _into(options: Raw) -> bytes | None:
    if not options.text.startswith(b"{", options.start):
        return None
    said = options.members("include_usage").get("include_usage")
    if said is not None:
        return _put(said, b"true") if said.raw() == b"false" else None
    begin = options.start + 1
    comma = b"" if options.raw()[1:-1].strip() == b"" else b","
    return _put(Raw(options.text, begin, begin), b'"include_usage":true' + comma)


def _put(place: Raw, text: bytes) -> bytes:
    """Return the text of a place with another value there."""
    return place.text[: place.start] + text + place.text[place.end :]


class UsageWithheld:
    """A decoder less the event of usage that the client did not order; a `StreamDecoder`.

    The event stays among the events, with the place where it was as its `end`, and in the count.
    """

    def __init__(self, decoder: StreamDecoder) -> None:
        self._decoder = decoder

    @property
    def taken(self) -> int:
        """Bytes of the body decoded so far, the withheld ones too."""
        return self._decoder.taken

    def feed_data(self, data: bytes) -> Scan:
        """Take a chunk; see `StreamDecoder`."""
        try:
            scan = self._decoder.feed_data(data)
        except WireError as error:
            error.before = _without_usage(error.before)
            raise
        return _without_usage(scan) if scan.events else scan

    def feed_eof(self) -> Scan:
        """Say that the body is complete; see `StreamDecoder`."""
        try:
            return _without_usage(self._decoder.feed_eof())
        except WireError as error:
            error.before = _without_usage(error.before)
            raise


_USAGE = re.compile(rb'"usage"\s*+:\s*+\{')
_CHOICE = re.compile(rb'"choices"\s*+:\s*+\[\s*+\{')
"""Counts, and a choice. Events without counts need no look into, nor those of servers that tell them with a choice."""

_LINE_ENDS = re.compile(rb"(?:\r\n|\n|\r)*+")
_BLANK_LINES = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)++")


def _without_usage(scan: Scan) -> Scan:
    """Return a scan whose relay holds no event of usage."""
    kept: list[bytes] = []
    events: list[Event | Frame] = []
    copied = behind = cut = 0  # offsets in the relay: behind what is kept or cut, behind the last event; bytes cut
    for event in scan.events:
        if isinstance(event, Frame):
            events.append(event)
            continue
        end = event.end
        if _is_usage_event(event.data):
            start = start_of_block(scan.relay, behind, end)
            kept.append(scan.relay[copied:start])
            cut += end - start
            copied = end
        events.append(event._replace(end=end - cut))
        behind = end
    if not cut:
        return scan
    return Scan(b"".join((*kept, scan.relay[copied:])), events, scan.count)


def start_of_block(relay: bytes, behind: int, end: int) -> int:
    """Return where the block of lines begins that ends at `end`; the event before it ends at `behind`."""
    start = _LINE_ENDS.match(relay, behind, end).end()  # type: ignore[union-attr]  # none at all match too
    for blank in _BLANK_LINES.finditer(relay, start, end):
        if blank.end() < end:
            start = blank.end()
    return start


def _is_usage_event(data: bytes) -> bool:
    """Whether an event is the event that `include_usage` orders: counts, and no choice.

    Some servers leave `choices` out there, or say null. Azure begins with an event that has no choice either, but what
    its filter says of the prompt. An error that comes with counts is for the client.
    """
    if _USAGE.search(data) is None or _CHOICE.search(data) is not None:
        return False
    try:
        fields: Any = jsontext.loads(data)
    except PayloadError:
        return False
    if not isinstance(fields, dict) or fields.get("choices") or fields.get("error"):
        return False
    return isinstance(fields.get("usage"), dict)
