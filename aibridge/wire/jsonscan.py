"""Where the top-level members of a JSON object stand in its text, for edits by splicing. Knows no key's meaning."""

import re

from aibridge import jsontext
from aibridge.errors import PayloadError
from aibridge.jsontext import Member

TOKEN = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")|[{}\[\],:]', re.DOTALL)
"""In valid JSON: a string, a bracket, a comma or a colon. Numbers, words and blanks are passed over."""
BLANKS = b" \t\n\r"


def scan_object(body: bytes) -> tuple[Member, ...]:
    """Return the top-level members of a JSON object, in order, with duplicates.

    Raises `PayloadError` where `body` is not one valid JSON text, is nested deeper than 512 levels, or is no object;
    the message holds nothing of the body.
    """
    if not jsontext.is_valid(body):
        raise PayloadError("body is not valid JSON, or nested too deep")
    if not body.lstrip(BLANKS).startswith(b"{"):
        raise PayloadError("body is not a JSON object")
    return tuple(_Walk(body).members())


class _Walk:
    """One walk over the tokens of a valid JSON object."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._found: list[Member] = []
        self._key: tuple[int, int] | None = None
        self._value_start = 0

    def members(self) -> list[Member]:
        depth = 0
        for match in TOKEN.finditer(self._body):
            token = match[0]
            if match[1]:
                if depth == 1 and self._key is None:
                    self._key = match.span()
            elif token in b"{[":
                depth += 1
            elif token in b"}]":
                depth -= 1
                if depth == 0:
                    self._close(match.start())
            elif depth == 1:
                self._separate(token, match)
        return self._found

    def _separate(self, token: bytes, match: re.Match[bytes]) -> None:
        if token == b":":
            self._value_start = match.end()
        else:
            self._close(match.start())

    def _close(self, end: int) -> None:
        """Note the member whose value ends before `end`, if there is one: an empty object has none."""
        if self._key is None:
            return
        key_start, key_end = self._key
        value = self._body[self._value_start : end]
        value_start = end - len(value.lstrip(BLANKS))
        value_end = self._value_start + len(value.rstrip(BLANKS))
        key: str = jsontext.loads(self._body[key_start:key_end])
        self._found.append(Member(key, key_start, value_start, value_end))
        self._key = None
