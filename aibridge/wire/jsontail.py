"""The last elements of a JSON array or object, found from its end: what stands before them costs nothing.

A client sends its whole conversation with each request, up to some megabytes, and only the last message is new. In
valid JSON a string can be passed over backwards too: its opening quote is the first one, seen from its closing one,
that has no backslash before it. Knows no key's meaning.
"""

import re
from collections.abc import Iterator

_FIRST_WINDOW = 4096
"""Bytes turned round at first; four times as many each time that was too little."""

# In text turned round: a string whose opening quote is surely one, what opens, what closes, a comma; or else a quote
# whose string begins before the window.
TOKEN = re.compile(rb'("[^"]*+(?:"(?=\\)[^"]*+)*+"(?!\\|\Z))|([\[{])|([\]}])|(,)|"')
_STRING, _OPENING, _CLOSING = 1, 2, 3


def element_start(text: bytes, begin: int, end: int) -> int:
    """Return where the last element of an array, or member of an object, begins: behind a comma, or the bracket.

    Args:
        text: holds valid JSON.
        begin: of the array or object: its opening bracket.
        end: behind the element: its comma, or the closing bracket.
    """
    depth = 0
    for kind, at in _tokens(text, begin, end):
        if kind == _CLOSING:
            depth += 1
        elif depth:
            depth -= kind == _OPENING
        else:  # the opening bracket, or a comma between elements
            return at + 1
    return begin


def _tokens(text: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield kind and place of brackets and commas before `end`, from there down to `begin`."""
    window, low = _FIRST_WINDOW, end
    while low > begin:
        low, high = max(begin, end - window), end
        end = low
        for match in TOKEN.finditer(text[low:high][::-1]):
            if match.lastindex is None:
                end = high - match.start()  # again, with a larger window
                break
            if match.lastindex != _STRING:
                yield match.lastindex, high - match.end()
        window *= 4
