"""Text from outside, cut to a bound. Pure."""


def bounded(text: str, limit: int) -> str:
    """Return the text, cut to `limit` bytes of UTF-8, never inside a character.

    What UTF-8 cannot say (a lone surrogate, from a header that was not UTF-8) becomes a question mark.
    """
    if text.isascii():
        return text[:limit]
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")
