"""Identifiers: UUID version 7 (RFC 9562), so that ids sort by time."""

import os
import uuid


def uuid7(unix_ms: int) -> str:
    """Return a new UUIDv7 in its canonical text.

    Args:
        unix_ms: milliseconds since the epoch, UTC.
    """
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(uuid.UUID(int=value))
