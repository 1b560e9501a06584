"""Text from outside, cut to a bound. Pure."""

CUT = " […cut]"
"""Ends a text that was longer than its bound, where that is to be seen."""


def bounded(text: str, limit: int) -> str:
    """Return the text, cut to `limit` bytes of UTF-8, never inside a character.

    What UTF-8 cannot say (a lone surrogate, from a header that was not UTF-8) becomes a question mark.
    """
    if text.isascii():
        return text[:limit]
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def shortened(text: str, limit: int) -> str:
    """Return the text, cut to `limit` bytes and ended by `CUT` where it is longer."""
    if len(text) * 4 <= limit or len(text.encode("utf-8", "replace")) <= limit:
        return text
    return bounded(text, limit) + CUT
