# Twin of aibridge/wire/chunked.py. What stands there is not said again.

from aibridge.errors import MalformedChunk

cdef const char *LINE_END = b"\r\n"

cdef enum:
    LINE_END_SIZE = 2


cdef class ChunkedDecoder:
    """The plain chunks at the start of a chunked body. Sans I/O."""

    cdef uint64_t _left
    cdef int _ending  # bytes of the line end behind the chunk that are still to come
    cdef uint8_t _held[CHUNKED_HALF]  # of a size
    cdef size_t _held_size

    def __init__(self):
        self._left = 0

    def feed_data(self, bytes data not None, Py_ssize_t start=0):
        """Take bytes, from `start` on; return the data in them, and what is behind the plain chunks, from its size on.

        Once there is something behind them, the decoder is done. Raises `MalformedChunk` where no line end follows a
        chunk; its `before` is the data before that.
        """
        cdef const uint8_t *end = start_of(data) + PyBytes_GET_SIZE(data)
        cdef const uint8_t *at = start_of(data) + min(max(start, 0), PyBytes_GET_SIZE(data))
        if start == 0 and <uint64_t>(end - at) <= self._left:
            self._left -= end - at
            return data, b""
        if self._held_size:
            return self._go_on(at, end)
        return self._decode(at, end)

    cdef tuple _go_on(self, const uint8_t *at, const uint8_t *end):
        """Decode from inside a size."""
        cdef uint8_t line[2 * CHUNKED_HALF + 1]
        cdef const uint8_t *behind = line
        cdef size_t held = self._held_size
        cdef size_t more = min(<size_t>(end - at), <size_t>CHUNKED_HALF + 1)  # with one more it can be no half
        memcpy(line, self._held, held)
        memcpy(line + held, at, more)
        cdef int found = chunk_size(&behind, line + held + more, &self._left)
        self._held_size = 0
        if found == CHUNKED_OTHER:
            return b"", bytes_of(line, held) + bytes_of(at, end - at)
        if found == CHUNKED_HALF_WAY:
            self._hold(line, line + held + more)
            return b"", b""
        self._ending = LINE_END_SIZE
        return self._decode(at + (behind - line - held), end)

    cdef tuple _decode(self, const uint8_t *at, const uint8_t *end):
        """Decode from anywhere but inside a size."""
        cdef PyObject *room = NULL
        cdef size_t size = 0, piece
        cdef int found = CHUNKED_PLAIN
        while found == CHUNKED_PLAIN:
            piece = min(<uint64_t>(end - at), self._left)
            if piece:
                if room == NULL:  # of one chunk and its end just what is needed
                    room = new_bytes(NULL, piece if end - at - piece <= LINE_END_SIZE else end - at)
                memcpy(PyBytes_AS_STRING(<bytes>room) + size, at, piece)
                size += piece
                at += piece
                self._left -= piece
            while self._ending and at < end and at[0] == LINE_END[LINE_END_SIZE - self._ending]:
                self._ending -= 1
                at += 1
            if at == end:
                return cut(room, size), b""
            if self._ending:
                raise MalformedChunk("no line end behind a chunk", cut(room, size))
            found = chunk_size(&at, end, &self._left)
            self._ending = LINE_END_SIZE
        self._ending = 0
        data = cut(room, size)
        if found == CHUNKED_OTHER:
            return data, bytes_of(at, end - at)
        self._hold(at, end)
        return data, b""

    cdef void _hold(self, const uint8_t *at, const uint8_t *end) noexcept:
        self._held_size = end - at
        memcpy(self._held, at, self._held_size)


cdef bytes cut(PyObject *room, Py_ssize_t size):
    """Take over bytes that were made to be written into, cut to what was written; none were made for nothing."""
    if room == NULL:
        return b""
    _PyBytes_Resize(&room, size)
    data = <bytes>room
    Py_DECREF(data)
    return data
