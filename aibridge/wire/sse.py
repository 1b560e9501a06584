"""Server-sent events: a look at each on its way through, and the text of one. This file knows no provider.

The bytes that a scan gives on are the bytes that came in, cut behind the last blank line: a half event is held back.
Lines end with LF, CR LF or CR, and with nothing else: U+2028, U+2029 and U+0085 are text. A block without a data line
(comments, a lone `event:` or `retry:`) is relayed, but is no event.

A CR that ends a blank line may be half of a CR LF whose LF is still on its way. Where the line before ended with CR LF
it surely is, and is waited for; elsewhere the event goes out at once, and a LF that comes next is relayed behind it.
"""

import re
from typing import NamedTuple

from aibridge import jsontext
from aibridge.errors import CorruptFrame, CorruptPayload, TruncatedEvent, WireError
from aibridge.values import Event, Frame, Scan

from .eventstream import raise_again
from .template import templates_of

MAX_EVENT_BYTES = 32 * 1024 * 1024
"""Default limit of one event, without its blank line. The largest real ones carry an image, some MiB."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DONE = b"[DONE]"
"""OpenAI's last event; the one text that is no JSON."""

LINE_END = re.compile(rb"(?>\r\n|\n|\r)")
BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>(\r\n|\n|\r))")
"""The end of a line and a blank line. Atomic, so that a CR LF is never taken for two."""
LONGEST_UNDECIDED = len(b"\r\n\r")

SEPARATORS = ((b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"), (b"\xc2\x85", rb"\u0085"))
"""Characters that some readers of lines break at, and how JSON spells them."""
UNFIT_FOR_TYPE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


class Block(NamedTuple):
    """What one block of lines says. `data` is None where no line is a data line."""

    type: str
    data: bytes | None


class SSEScanner:
    """Server-sent events, relayed verbatim, with a look at each. Sans I/O; a `StreamDecoder`.

    `Event.type` is the `event:` field, "" where there is none. An event whose data matches a quiet template is counted,
    but not returned. After a `WireError` it stays broken: every later call raises it again.

    Args:
        quiet: templates of events that carry no facts; see `aibridge.wire.template`.
        max_event_bytes: limit of one event, without its blank line.
        check_json: whether an event's data must be JSON, empty, or `[DONE]`.
        hear_first: whether the first event is returned though it is quiet: it says who answers.
    """

    def __init__(
        self,
        *,
        quiet: tuple[bytes, ...] = (),
        max_event_bytes: int = MAX_EVENT_BYTES,
        check_json: bool = True,
        hear_first: bool = False,
    ) -> None:
        if max_event_bytes < 1:
            raise ValueError("max_event_bytes must be positive")
        self._quiet = templates_of(quiet)
        self._max_event_bytes = max_event_bytes
        self._check_json = check_json
        self._hear = hear_first
        self._held = bytearray()
        self._searched = 0  # offset in `_held` before which no blank line begins
        self._mark_possible = True
        self._ending = b""  # of the last line given on
        self._broken: WireError | None = None
        self._taken = 0

    @property
    def taken(self) -> int:
        """Bytes of the body given on so far: whole events only."""
        return self._taken

    def feed_data(self, data: bytes) -> Scan:
        """Take a chunk; return the whole events that can go on.

        Raises `CorruptFrame` for an event over the limit and `CorruptPayload` for data that is not JSON; their `before`
        is the `Scan` of what came before that event.
        """
        if self._broken is not None:
            raise_again(self._broken, Scan(b"", [], 0))
        if not self._held:
            return self._scan(data, final=False)
        self._held += data
        return self._scan(self._held, final=False)

    def feed_eof(self) -> Scan:
        """Say that the body is complete; return what a held CR completed.

        Raises `TruncatedEvent` where the body ends inside an event. A half comment is no event, and is dropped.
        """
        if self._broken is not None:
            raise_again(self._broken, Scan(b"", [], 0))
        scan = self._scan(self._held, final=True)
        if all(line.startswith(b":") for line in self._held.splitlines() if line):
            return scan
        text = f"the body ended inside an event, {len(self._held)} bytes into it"
        self._broken = TruncatedEvent(text)
        raise TruncatedEvent(text, scan)

    def _scan(self, buffer: bytes | bytearray, *, final: bool) -> Scan:
        """Look at the whole blocks in `buffer`, hold what is left."""
        events: list[Event | Frame] = []
        count = 0
        at = 0
        try:
            at = self._skip_mark(buffer)
            while (end := self._find_end(buffer, at, final=final)) > at:
                count += self._look_at(bytes(buffer[at:end]), end, events)
                at = end
            if len(buffer) - at > self._max_event_bytes + LONGEST_UNDECIDED:
                raise self._over_limit()
        except WireError as error:
            self._broken = type(error)(str(error))
            error.before = Scan(bytes(buffer[:at]), events, count)
            self._taken += at
            self._held = bytearray()
            raise
        relay = bytes(buffer) if at == len(buffer) else bytes(buffer[:at])
        self._hold(buffer, at)
        self._taken += at
        return Scan(relay, events, count)

    def _hold(self, buffer: bytes | bytearray, at: int) -> None:
        """Keep what stands behind `at`."""
        if at or buffer is not self._held:
            self._held = bytearray(buffer[at:])
        self._searched = max(0, len(self._held) - LONGEST_UNDECIDED)

    def _skip_mark(self, buffer: bytes | bytearray) -> int:
        """Return the offset behind a byte order mark at the start of the stream, and behind the LF of a split CR LF."""
        at = 0
        if self._mark_possible:
            self._mark_possible = len(buffer) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(bytes(buffer))
            at = len(BYTE_ORDER_MARK) if buffer.startswith(BYTE_ORDER_MARK) else 0
        if self._ending == b"\r" and buffer.startswith(b"\n"):
            self._ending = b"\r\n"
            at = 1
        return at

    def _find_end(self, buffer: bytes | bytearray, at: int, *, final: bool) -> int:
        """Return the offset behind the block that begins at `at`, or `at` where it is not whole."""
        if match := LINE_END.match(buffer, at):
            before, ending = self._ending, match[0]
        else:
            match = BLANK_LINE.search(buffer, at + self._searched)
            if match is None:
                return at
            ending = match[1]
            before = match[0][: -len(ending)]
        if match.start() - at > self._max_event_bytes:
            raise self._over_limit()
        if ending == b"\r" and before == b"\r\n" and match.end() == len(buffer) and not final:
            return at
        self._ending = bytes(ending)
        self._searched = 0
        return match.end()

    def _look_at(self, block: bytes, end: int, events: list[Event | Frame]) -> int:
        """Add the event of one block to `events`, unless it is quiet; return how many events the block is."""
        kind, data = parse_block(block)
        if data is None:
            return 0
        if self._hear or self._quiet.find(data) < 0:
            if self._check_json and data not in (b"", DONE) and not jsontext.is_valid(data):
                raise CorruptPayload("data of an event is not valid JSON")
            events.append(Event(kind, data, end))
            self._hear = False
        return 1

    def _over_limit(self) -> CorruptFrame:
        return CorruptFrame(f"event is over the limit of {self._max_event_bytes} bytes")


def parse_block(block: bytes) -> Block:
    """Return what the lines of one block say. Fields but `event` and `data` are no business of ours."""
    kind = b""
    data: list[bytes] = []
    for line in block.splitlines():  # of bytes: at LF, CR LF and CR only
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            kind = value.removeprefix(b" ")
    return Block(kind.decode(errors="replace"), b"\n".join(data) if data else None)


def encode_event(type: str, data: bytes) -> bytes:  # noqa: A002  the word of the specification
    r"""Return the text of one event. An empty type gives no `event:` line.

    `data` is JSON: a line break in it (LF, CR LF or CR) begins a new data line, and a raw U+2028, U+2029 or U+0085,
    which can only stand inside a string, is written as `\u2028` and so on. Raises `ValueError` for a type that cannot
    stand on one line of text.
    """
    if UNFIT_FOR_TYPE.search(type):
        raise ValueError("event type holds a control character, a line break or a lone surrogate")
    head = b"event: %b\ndata: " % type.encode() if type else b"data: "
    return head + escape_data(data) + b"\n\n"


def escape_data(data: bytes) -> bytes:
    """Return JSON data as it stands behind the first `data: ` of an event."""
    if not data.isascii():
        for raw, escaped in SEPARATORS:
            data = data.replace(raw, escaped)
    if b"\n" in data or b"\r" in data:
        data = LINE_END.sub(b"\ndata: ", data)
    return data
