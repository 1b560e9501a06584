"""Quiet templates: JSON events recognised at sight, so that nobody need parse them. This file knows no framing.

A template is the text of an event with holes: `#` is any JSON integer, `$` any JSON string, and blanks may stand before
each `}` (providers pad there). Everything else must be there to the byte. So a match proves that the text is valid JSON
of a known shape; text that does not match proves nothing, and is parsed in full.

    {"type":"content_block_delta","index":#,"delta":{"type":"text_delta","text":$}}
"""

import re
from functools import lru_cache

from aibridge import jsontext
from aibridge.errors import PayloadError

INTEGER = rb"-?(?:0|[1-9][0-9]*+)"
STRING = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
HOLES = {ord("#"): INTEGER, ord("$"): STRING, ord("}"): rb"\x20*+\}"}


class Templates:
    """Some templates, compiled. `types` are the values of their top-level "type", "" where there is none.

    Raises `ValueError` for a template that is not printable ASCII, or no JSON object when its holes are filled.
    """

    def __init__(self, templates: tuple[bytes, ...]) -> None:
        self.types = tuple(_type_of(template) for template in templates)
        alternatives = [b"".join(HOLES.get(byte, re.escape(bytes((byte,)))) for byte in one) for one in templates]
        self._match = re.compile(b"|".join(b"(" + one + b")" for one in alternatives or [rb"(?!)"])).fullmatch
        self._alternatives = alternatives
        self._last = 0
        self._match_last = re.compile(alternatives[0] if alternatives else rb"(?!)").fullmatch

    def find(self, data: bytes) -> int:
        """Return the index of a template that `data` matches, or -1.

        The one that matched last is tried first: events that come one behind the other are mostly of one server.
        """
        if self._match_last(data) is None:
            match = self._match(data)
            if match is None or match.lastindex is None:
                return -1
            self._last = match.lastindex - 1
            self._match_last = re.compile(self._alternatives[self._last]).fullmatch
        return self._last if data.isascii() or _is_utf8(data) else -1


@lru_cache(maxsize=64)
def templates_of(templates: tuple[bytes, ...]) -> Templates:
    """Return templates compiled, once for all streams."""
    return Templates(templates)


def _type_of(template: bytes) -> str:
    """Return the event type that a template proves."""
    if not all(0x20 <= byte <= 0x7E for byte in template):  # noqa: PLR2004  the bounds of printable ASCII
        raise ValueError(f"quiet template {template!r} is not printable ASCII")
    try:
        example = jsontext.loads(template.replace(b"#", b"0").replace(b"$", b'""'))
    except PayloadError:
        raise ValueError(f"quiet template {template!r} is not JSON") from None
    if not isinstance(example, dict):
        raise ValueError(f"quiet template {template!r} is not a JSON object")  # noqa: TRY004  a bad value, of the right type
    kind = example.get("type", "")
    return kind if isinstance(kind, str) else ""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
