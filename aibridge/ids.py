"""Identifiers: UUID version 7 (RFC 9562), so that ids sort by time."""

import random

_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << 62
_RANDOM_BITS = 0xFFF << 64 | (1 << 62) - 1


def uuid7(unix_ms: int) -> str:
    """Return a new UUIDv7 in its canonical text.

    Its random bits are drawn without a system call; nobody is let in for knowing an id, so guessing one wins nothing.

    Args:
        unix_ms: milliseconds since the epoch, UTC.
    """
    bits = random.getrandbits(76) & _RANDOM_BITS
    text = f"{(unix_ms & 0xFFFF_FFFF_FFFF) << 80 | _VERSION_7 | _VARIANT | bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
