"""Request bodies that come compressed: Codex sends Zstandard to ChatGPT, others gzip or deflate. Pure."""

import sys
import zlib
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ZLIB_OF_GZIP = 31
_ZLIB_OF_ZLIB = 15
_ZLIB_OF_RAW_DEFLATE = -15
_DEFLATE_IN_ZLIB = 8
"""The low half of the first byte of deflate in zlib's format (RFC 1950, section 2.2)."""
_ZSTD_OPTIONS = {int(zstd.DecompressionParameter.window_log_max): 23}
"""The logarithm of 8 MiB: in HTTP no reader needs to keep a larger window, and no writer may ask for one (RFC 9659,
section 3). How much memory its reader is to take is what a frame's first bytes say."""

ENCODINGS = frozenset({b"gzip", b"x-gzip", b"deflate", b"zstd"})
"""Values of `content-encoding` that are known here, `identity` aside."""


class CorruptEncoding(Exception):
    """A body is not whole, or not what its `content-encoding` says."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool:
        """Whether the end has come."""

    @property
    def unused_data(self) -> bytes:
        """What came behind the end."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return so many bytes at most."""


def decompressed(body: bytes, encoding: bytes, most: int) -> bytes:
    """Return a body, decompressed.

    Args:
        body: the whole of it.
        encoding: one of `ENCODINGS`.
        most: bytes that are returned at most. One that is larger is not read to its end.

    Raises:
        CorruptEncoding: it is broken, or something stands behind it.
    """
    decompressor = _decompressor(body, encoding)
    try:
        plain = decompressor.decompress(body, most)
    except (zlib.error, zstd.ZstdError) as error:
        raise CorruptEncoding from error
    if len(plain) < most and (not decompressor.eof or decompressor.unused_data):
        raise CorruptEncoding
    return plain


def _decompressor(body: bytes, encoding: bytes) -> _Decompressor:
    if encoding == b"zstd":
        return zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
    if encoding != b"deflate":
        return zlib.decompressobj(_ZLIB_OF_GZIP)
    is_zlib = body[:1] and body[0] & 0x0F == _DEFLATE_IN_ZLIB
    return zlib.decompressobj(_ZLIB_OF_ZLIB if is_zlib else _ZLIB_OF_RAW_DEFLATE)
