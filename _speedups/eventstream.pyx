# Twin of aibridge/wire/eventstream.py. What stands there is not said again.

import uuid

from aibridge.errors import CorruptFrame, TruncatedFrame, WireError
from aibridge.values import Frame

MAX_FRAME_BYTES = 16 * 1024 * 1024
HIGHEST_FRAME_BYTES = 24 * 1024 * 1024
MAX_HEADERS_BYTES = 128 * 1024
MAX_NAME_BYTES = 0xFF
MAX_VALUE_BYTES = 0xFFFF

cdef enum:
    PRELUDE_SIZE = 12
    CHECKSUM_SIZE = 4
    SHORTEST_FRAME = 16

cdef enum:
    TYPE_TRUE, TYPE_FALSE, TYPE_BYTE, TYPE_SHORT, TYPE_INTEGER, TYPE_LONG, TYPE_BYTES, TYPE_STRING, TYPE_TIMESTAMP, TYPE_UUID


ctypedef struct frame_view:
    # A whole, checked frame, where it lies. Valid until the splitter is asked for the next one.
    const uint8_t *headers
    size_t headers_size
    const uint8_t *payload
    size_t payload_size


cdef class FrameDecoder:
    """AWS event stream to frames, sans I/O.

    Holds at most the bytes of one frame. After a `WireError` it stays broken: every later call raises it again.

    Args:
        max_frame_bytes: limit of one frame, 16 bytes to 24 MiB.
        max_headers_bytes: limit of one frame's headers, up to 128 KiB.
    """

    cdef FrameSplitter _splitter
    cdef object _broken

    def __init__(self, *, max_frame_bytes=MAX_FRAME_BYTES, max_headers_bytes=MAX_HEADERS_BYTES):
        self._splitter = FrameSplitter(max_frame_bytes, max_headers_bytes)
        self._broken = None

    def feed_data(self, bytes data not None):
        """Take bytes; return the frames that are now whole, in order.

        Raises `CorruptFrame`, whose `before` is the list of frames that this call decoded before the break.
        """
        if self._broken is not None:
            raise_again(self._broken, [])
        cdef list frames = []
        cdef frame_view view
        cdef cursor source
        source.at = start_of(data)
        source.end = source.at + PyBytes_GET_SIZE(data)
        try:
            while self._splitter.next(&source, &view):
                headers = parse_headers(view.headers, view.headers_size)
                frames.append(new_record(Frame, (headers, bytes_of(view.payload, view.payload_size))))
        except WireError as error:
            self._broken = type(error)(str(error))
            error.before = frames
            raise
        return frames

    def feed_eof(self):
        """Say that the body is complete. Raises `TruncatedFrame` where it ends inside a frame."""
        if self._broken is None and self._splitter.held.size:
            self._broken = TruncatedFrame(truncated_text(self._splitter.held.size))
        if self._broken is not None:
            raise_again(self._broken, [])


def encode_frame(headers, bytes payload not None):
    """Return the wire form of one frame.

    A bool becomes type true or false, an int type integer (32 bits) or, where that is too small, long (64 bits), bytes
    type bytes, a str type string. Raises `ValueError` where a name, a value, the headers or the frame is too long.
    """
    block = b"".join([encode_header(name, value) for name, value in headers.items()])
    if len(block) > MAX_HEADERS_BYTES:
        raise ValueError(f"headers of {len(block)} bytes are over the limit of {MAX_HEADERS_BYTES}")
    total = SHORTEST_FRAME + len(block) + len(payload)
    if total > HIGHEST_FRAME_BYTES:
        raise ValueError(f"frame of {total} bytes is over the limit of {HIGHEST_FRAME_BYTES}")
    lengths = total.to_bytes(4, "big") + len(block).to_bytes(4, "big")
    message = b"".join((lengths, checksum_of(lengths), block, payload))
    return message + checksum_of(message)


cdef bytes checksum_of(bytes data):
    return int(crc32_of(0, start_of(data), PyBytes_GET_SIZE(data))).to_bytes(4, "big")


cdef class FrameSplitter:
    # Cuts bytes into whole frames and checks lengths and checksums; does not look into headers or payload.

    cdef buffer held
    cdef size_t _needed
    cdef bint _given  # the frame in `held` was given out, and can go
    cdef uint32_t _max_frame_bytes
    cdef uint32_t _max_headers_bytes

    def __cinit__(self, max_frame_bytes, max_headers_bytes):
        if not SHORTEST_FRAME <= max_frame_bytes <= HIGHEST_FRAME_BYTES:
            raise ValueError(f"max_frame_bytes must be {SHORTEST_FRAME} to {HIGHEST_FRAME_BYTES}")
        if not 0 <= max_headers_bytes <= MAX_HEADERS_BYTES:
            raise ValueError(f"max_headers_bytes must be 0 to {MAX_HEADERS_BYTES}")
        self._max_frame_bytes = max_frame_bytes
        self._max_headers_bytes = max_headers_bytes
        self._needed = PRELUDE_SIZE

    def __dealloc__(self):
        buffer_free(&self.held)

    cdef bint next(self, cursor *source, frame_view *view) except -1:
        """Find the next whole frame; return whether there is one. What is left over is kept."""
        cdef const uint8_t *begin
        cdef size_t total
        if self._given:
            self._given = False
            self._needed = PRELUDE_SIZE
            buffer_clear(&self.held)
        while self.held.size:
            if not self._fill(source):
                return False
            total = self._check_prelude(self.held.data)
            if self.held.size == total:
                self._given = True
                return open_frame(self.held.data, total, view)
            self._needed = total
        if source.end - source.at >= PRELUDE_SIZE:
            total = self._check_prelude(source.at)
            begin = take(source, total)
            if begin != NULL:
                return open_frame(begin, total, view)
            self._needed = total
        add(&self.held, source.at, source.end - source.at)
        source.at = source.end
        return False

    cdef bint _fill(self, cursor *source) except -1:
        """Take what is needed to look at `held` again; return whether it is there."""
        cdef size_t size = min(self._needed - self.held.size, <size_t>(source.end - source.at))
        add(&self.held, take(source, size), size)
        return self.held.size == self._needed

    cdef size_t _check_prelude(self, const uint8_t *at) except 0:
        """Return the length of the frame that begins at `at`, where a whole prelude is."""
        cdef uint32_t total = load_u32(at)
        cdef uint32_t headers = load_u32(at + 4)
        cdef uint32_t checksum = load_u32(at + 8)
        cdef uint32_t computed = crc32_of(0, at, 8)
        if checksum != computed:
            raise CorruptFrame(f"prelude checksum is {checksum:08x}, computed {computed:08x}")
        if total < SHORTEST_FRAME:
            raise CorruptFrame(f"frame of {total} bytes is shorter than {SHORTEST_FRAME}")
        if total > self._max_frame_bytes:
            raise CorruptFrame(f"frame of {total} bytes is over the limit of {self._max_frame_bytes}")
        if headers > self._max_headers_bytes:
            raise CorruptFrame(f"headers of {headers} bytes are over the limit of {self._max_headers_bytes}")
        if headers > total - SHORTEST_FRAME:
            raise CorruptFrame(f"headers of {headers} bytes do not fit a frame of {total} bytes")
        return total


cdef bint open_frame(const uint8_t *at, size_t total, frame_view *view) except -1:
    """Check the message's checksum; fill the view. All `total` bytes are there, and the prelude is good."""
    cdef const uint8_t *end = at + total - CHECKSUM_SIZE
    cdef uint32_t checksum = load_u32(end)
    cdef uint32_t computed = crc32_of(0, at, total - CHECKSUM_SIZE)
    if checksum != computed:
        raise CorruptFrame(f"message checksum is {checksum:08x}, computed {computed:08x}")
    view.headers = at + PRELUDE_SIZE
    view.headers_size = load_u32(at + 4)
    view.payload = view.headers + view.headers_size
    view.payload_size = end - view.payload
    return True


cdef dict parse_headers(const uint8_t *block, size_t size):
    """Return the headers of one frame, by name. Raises `CorruptFrame`."""
    cdef cursor source
    cdef dict headers = {}
    source.at = block
    source.end = block + size
    while source.at < source.end:
        name = counted_text(&source, 1, "name")
        if name in headers:
            raise CorruptFrame("header occurs twice")
        headers[name] = parse_value(&source)
    return headers


cdef object parse_value(cursor *source):
    cdef uint8_t kind = taken(source, 1)[0]
    if kind == TYPE_TRUE or kind == TYPE_FALSE:
        return kind == TYPE_TRUE
    if kind == TYPE_BYTE:
        return load_signed(taken(source, 1), 1)
    if kind == TYPE_SHORT:
        return load_signed(taken(source, 2), 2)
    if kind == TYPE_INTEGER:
        return load_signed(taken(source, 4), 4)
    if kind == TYPE_LONG or kind == TYPE_TIMESTAMP:
        return load_signed(taken(source, 8), 8)
    if kind == TYPE_BYTES:
        return counted_bytes(source, 2)
    if kind == TYPE_STRING:
        return counted_text(source, 2, "string")
    if kind == TYPE_UUID:
        return str(uuid.UUID(bytes=bytes_of(taken(source, 16), 16)))
    raise CorruptFrame(f"header type {kind} is unknown")


cdef const uint8_t *taken(cursor *source, size_t size) except NULL:
    """Return `size` bytes: the one place that looks whether they are there."""
    cdef const uint8_t *at = take(source, size)
    if at == NULL:
        raise CorruptFrame("header overruns the headers")
    return at


cdef bytes counted_bytes(cursor *source, size_t size):
    """Return the bytes of a value that has its length, of `size` bytes, before it."""
    cdef const uint8_t *count = taken(source, size)
    cdef size_t length = count[0] if size == 1 else count[0] << 8 | count[1]
    return bytes_of(taken(source, length), length)


cdef str counted_text(cursor *source, size_t size, str what):
    raw = counted_bytes(source, size)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CorruptFrame(f"header {what} is not UTF-8") from None


cdef bytes encode_header(str name, value):
    raw_name = name.encode()
    if len(raw_name) > MAX_NAME_BYTES:
        raise ValueError("header name is over 255 bytes")
    return bytes((len(raw_name),)) + raw_name + encode_value(value)


cdef bytes encode_value(value):
    if isinstance(value, bool):
        return bytes((TYPE_TRUE if value else TYPE_FALSE,))
    if isinstance(value, int):
        return encode_int(value)
    kind, raw = (TYPE_STRING, value.encode()) if isinstance(value, str) else (TYPE_BYTES, value)
    if len(raw) > MAX_VALUE_BYTES:
        raise ValueError("header value is over 65535 bytes")
    return bytes((kind,)) + len(raw).to_bytes(2, "big") + raw


cdef bytes encode_int(value):
    for kind, size in ((TYPE_INTEGER, 4), (TYPE_LONG, 8)):
        try:
            return bytes((kind,)) + value.to_bytes(size, "big", signed=True)
        except OverflowError:
            continue
    raise ValueError("header integer is over 64 bits")


cdef str truncated_text(held):
    return f"the body ended inside a frame, {held} bytes into it"


cdef int raise_again(broken, before) except -1:
    """Raise the error that broke a decoder, with nothing new before it."""
    raise type(broken)(str(broken), before)
