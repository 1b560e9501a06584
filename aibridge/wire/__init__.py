"""Bytes to frames to events, and back. This file is the switch between the compiled wire and the pure one; no other is.

The pure modules in this folder are the definition; `aibridge._speedups` is their compiled twin, with the same names and
the same answers. AIBRIDGE_SPEEDUPS decides (see `aibridge.compiled`).
"""

from aibridge.compiled import ANSWER

_compiled = ANSWER != "0"
if _compiled:
    try:
        from aibridge._speedups import (
            ChunkedDecoder,
            ChunkTranscoder,
            FrameDecoder,
            Member,
            SSEScanner,
            element_start,
            encode_event,
            encode_frame,
            scan_object,
        )
    except ImportError as error:
        if ANSWER == "1":
            raise ImportError(
                "AIBRIDGE_SPEEDUPS=1, but the compiled wire is not there "
                f"({error}); install a wheel built for this platform, or build one with a C compiler: "
                "AIBRIDGE_SPEEDUPS=1 pip install ."
            ) from error
        _compiled = False
if not _compiled:
    from aibridge.jsontext import Member
    from aibridge.wire.chunked import ChunkedDecoder
    from aibridge.wire.eventstream import FrameDecoder, encode_frame
    from aibridge.wire.jsonscan import scan_object
    from aibridge.wire.jsontail import element_start
    from aibridge.wire.sse import SSEScanner, encode_event
    from aibridge.wire.transcode import ChunkTranscoder

IMPLEMENTATION = "compiled" if _compiled else "pure"

__all__ = [
    "IMPLEMENTATION",
    "ChunkTranscoder",
    "ChunkedDecoder",
    "FrameDecoder",
    "Member",
    "SSEScanner",
    "element_start",
    "encode_event",
    "encode_frame",
    "scan_object",
]
