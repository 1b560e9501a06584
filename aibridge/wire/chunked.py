"""HTTP's chunked coding (RFC 9112, section 7.1), as far as it is plain: a size in hexadecimal, the data, line ends.

Whatever is more than that (the last chunk and its trailers, extensions, a size of many digits, what is no size at all)
is given back as it came, for a parser of HTTP to judge. So what this file accepts is little, and what it refuses is one
thing: a chunk that goes on where it should end.
"""

import re

from aibridge.errors import MalformedChunk

LINE_END = b"\r\n"
BETWEEN = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})\r\n")
"""The end of one chunk and the size of the next."""
HALF = re.compile(rb"(?:\r(?:\n(?:[0-9A-Fa-f]{1,15}\r?)?)?)?")
"""What may still become that."""


class ChunkedDecoder:
    """The plain chunks at the start of a chunked body. Sans I/O."""

    def __init__(self) -> None:
        self._left = 0  # bytes of the chunk at hand that are still to come
        self._held = LINE_END  # of what stands between two chunks; before the first is what is before any

    def feed_data(self, data: bytes, start: int = 0) -> tuple[bytes, bytes]:
        """Take bytes, from `start` on; return the data in them, and what is behind the plain chunks, from its size on.

        Once there is something behind them, the decoder is done. Raises `MalformedChunk` where no line end follows a
        chunk; its `before` is the data before that.
        """
        at = start
        if self._held:
            data, at, self._held = self._held + data[start:], 0, b""
        pieces = []
        while True:
            pieces.append(data[at : at + self._left])
            at += len(pieces[-1])
            self._left -= len(pieces[-1])
            if self._left:
                break
            match = BETWEEN.match(data, at)
            self._left = int(match[1], 16) if match else 0
            if match is None or not self._left:
                if HALF.fullmatch(data, at):
                    self._held = data[at:]
                    break
                if not data.startswith(LINE_END, at):
                    raise MalformedChunk("no line end behind a chunk", b"".join(pieces))
                return b"".join(pieces), data[at + len(LINE_END) :]
            at = match.end()
        return b"".join(pieces), b""
