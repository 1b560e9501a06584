"""A decoder whose events another text takes the place of, or none. Knows no API."""

from collections.abc import Callable

from aibridge.dialects.chat_extra_usage import start_of_block
from aibridge.errors import WireError
from aibridge.values import Event, Frame, Scan, StreamDecoder

Rewrite = Callable[[Event], bytes | None]
"""Returns the text that the client gets in an event's place: None for the event as it came, empty for none at all.
Raises `WireError` where the answer is not to go on."""


class RewritingDecoder:
    """What `inner` decodes, rewritten; a `StreamDecoder`.

    The events are those of `inner`, each with its place in the new relay as its `end`: where it would have stood, of a
    withheld one. Comments and blank lines between events stay.

    Args:
        inner: returns every event; none may be quiet.
        rewrite: asked once of each event, in their order.
    """

    def __init__(self, inner: StreamDecoder, rewrite: Rewrite) -> None:
        self._inner = inner
        self._rewrite = rewrite
        self._broken: WireError | None = None
        self._half_line_end = False

    @property
    def taken(self) -> int:
        """Bytes of the body decoded so far, whatever became of them."""
        return self._inner.taken

    def feed_data(self, data: bytes) -> Scan:
        """Take a chunk; see `StreamDecoder`."""
        return self._fed(lambda: self._inner.feed_data(data))

    def feed_eof(self) -> Scan:
        """Say that the body is complete; see `StreamDecoder`."""
        return self._fed(self._inner.feed_eof)

    def _fed(self, feed: Callable[[], Scan]) -> Scan:
        if self._broken is not None:
            raise type(self._broken)(str(self._broken), Scan(b"", [], 0))
        try:
            scan = feed()
        except WireError as error:
            error.before = self._rewritten(error.before)
            raise
        return self._rewritten(scan)

    def _rewritten(self, scan: Scan) -> Scan:
        relay = scan.relay
        kept: list[bytes] = []
        events: list[Event | Frame] = []
        copied = self._behind_line_end(relay)  # offset in the old relay behind what is kept or left out
        behind, moved = 0, -copied  # offset behind the last event; by how much the new relay is longer
        for event in scan.events:
            if isinstance(event, Event):
                try:
                    text = self._rewrite(event)
                except WireError as error:
                    self._broken = type(error)(str(error))
                    error.before = Scan(b"".join((*kept, relay[copied:behind])), events, len(events))
                    raise
                if text is not None:
                    start = max(copied, start_of_block(relay, behind, event.end))
                    text = text if start < event.end else b""  # what has no text below gets none
                    kept += [relay[copied:start], text]
                    moved += len(text) - (event.end - start)
                    copied = event.end
                behind = event.end
            events.append(event._replace(end=event.end + moved) if moved and isinstance(event, Event) else event)
        self._half_line_end = copied == len(relay) and (relay.endswith(b"\r") if relay else self._half_line_end)
        return Scan(b"".join((*kept, relay[copied:])), events, scan.count) if copied else scan

    def _behind_line_end(self, relay: bytes) -> int:
        """Return 1 where the relay begins with the second half of a CR LF whose first half went with an event."""
        return 1 if self._half_line_end and relay.startswith(b"\n") else 0
