# The compiled module is shaped like the pure ones, and declares nothing of its own.

from aibridge.jsontext import Member as Member
from aibridge.wire.chunked import ChunkedDecoder as ChunkedDecoder
from aibridge.wire.eventstream import FrameDecoder as FrameDecoder
from aibridge.wire.eventstream import encode_frame as encode_frame
from aibridge.wire.jsonscan import scan_object as scan_object
from aibridge.wire.jsontail import element_start as element_start
from aibridge.wire.sse import SSEScanner as SSEScanner
from aibridge.wire.sse import encode_event as encode_event
from aibridge.wire.transcode import ChunkTranscoder as ChunkTranscoder
