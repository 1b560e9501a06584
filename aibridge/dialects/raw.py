"""Values of a valid JSON text as places in it, looked for from the end: nothing is built, and nothing copied."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, Self

from aibridge import jsontext
from aibridge.wire import element_start

MAX_ELEMENTS = 256
"""Of one array that are looked at, from its end, unless more are wanted."""

MAX_MEMBERS = 32
"""Of one object."""


class Raw(NamedTuple):
    """A value in a JSON text. `start` is its first byte, `end` behind its last."""

    text: bytes
    start: int
    end: int

    @classmethod
    def without_blanks(cls, text: bytes, start: int, end: int) -> Self:
        """Return what stands between two places; blanks alone give a value of no size."""
        start = _BLANKS.match(text, start, end).end()  # type: ignore[union-attr]  # none at all match too
        if text[end - 1] in b" \t\n\r":
            end = start + len(text[start:end].rstrip(b" \t\n\r"))
        return cls(text, start, end)

    def elements(self, most: int = MAX_ELEMENTS) -> Iterator["Raw"]:
        """Yield the last elements of an array, the last one first; none where it is another value."""
        if self.text.startswith(b"[", self.start):
            yield from islice(self._parts(), most)

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return self.end - self.start

    def members(self, *names: str) -> dict[str, "Raw"]:
        """Return the members of an object that have these names: of repeated ones the last, none of another value."""
        found: dict[str, Raw] = {}
        if self.text.startswith(b"{", self.start):
            for part in islice(self._parts(), MAX_MEMBERS):
                behind_key = _STRING.match(self.text, part.start).end()  # type: ignore[union-attr]  # a member begins so
                key = jsontext.loads(self.text[part.start : behind_key])
                if key in names and key not in found:
                    found[key] = self.without_blanks(self.text, self.text.index(b":", behind_key) + 1, part.end)
        return found

    def string(self) -> str:
        """Return a string; the empty one where it is another value."""
        return str(jsontext.loads(self.raw())) if self.text.startswith(b'"', self.start) else ""

    def raw(self) -> bytes:
        """Return the text of the value."""
        return self.text[self.start : self.end]

    def _parts(self) -> Iterator["Raw"]:
        end = self.end - 1
        while end > self.start:
            start = element_start(self.text, self.start, end)
            part = self.without_blanks(self.text, start, end)
            if part.start < part.end:  # an empty array has no element
                yield part
            end = start - 1


_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BLANKS = re.compile(rb"[ \t\n\r]*+")
