"""A text that comes in pieces, up to a bound: arguments of a tool, a thought.

The pieces are kept as the JSON text that they came in, and decoded once, at the end: pieces of JSON strings, one behind
the other, are again one. So a character whose two escapes come in two pieces is whole, too.
"""

import re

from aibridge import jsontext
from aibridge.text import CUT
from aibridge.values import MAX_CONTENT_BYTES

_WHOLE = re.compile(rb"(?:[^\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+", re.DOTALL)
"""Characters and escapes of a JSON string."""


class Pieces:
    """A text under way."""

    __slots__ = ("_cut", "_pieces")

    def __init__(self) -> None:
        self._pieces = bytearray()
        self._cut = False

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return len(self._pieces)

    def add(self, piece: bytes, limit: int = MAX_CONTENT_BYTES) -> None:
        """Add the inside of a JSON string; what goes over `limit` bytes in all, and all behind it, is cut off."""
        room = limit - len(self._pieces)
        if self._cut:
            return
        if len(piece) > room:
            self._cut = True
            piece = _beginning(piece[:room])
        self._pieces += piece

    def text(self) -> str:
        """Return what came so far, ended by `CUT` where it was cut."""
        text: str = jsontext.loads(b'"%b"' % bytes(self._pieces))
        return text + CUT if self._cut else text


def _beginning(piece: bytes) -> bytes:
    """Return a part of a JSON string without the half character, or half escape, that it may end in."""
    whole = _WHOLE.match(piece).group()  # type: ignore[union-attr]  # nothing at all matches too
    return whole.decode("utf-8", "ignore").encode()
