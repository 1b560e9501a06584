# Twin of aibridge/wire/transcode.py. What stands there is not said again.

import binascii

from aibridge.jsontext import too_deep

cdef bytes USUAL_START = b'{"bytes":"'
cdef bytes USUAL_PADDING = b',"p":"'
cdef object BASE64 = re.compile(r"[A-Za-z0-9+/]*+={0,2}")


cdef class ChunkTranscoder:
    """Bedrock's event stream to the text of server-sent events, sans I/O; a `StreamDecoder`.

    An event that matches a quiet template is relayed and counted, but not returned. An exception or error frame is
    returned as the last of the events: it ends the stream, and nothing behind it is decoded. After a `WireError` it
    stays broken: every later call raises it again.

    Args:
        quiet: templates of events that carry no facts, each with a "type"; see `aibridge.wire.template`.
        max_frame_bytes: limit of one frame, 16 bytes to 24 MiB.
        max_headers_bytes: limit of one frame's headers, up to 128 KiB.
    """

    cdef FrameSplitter _splitter
    cdef Templates _quiet
    cdef Py_ssize_t _last_quiet  # the template that matched last
    cdef list _quiet_heads
    cdef bytes _usual_headers
    cdef object _broken
    cdef bint _ended
    cdef Py_ssize_t _taken
    cdef buffer _text      # what this call has given so far
    cdef Py_ssize_t _count
    cdef list _events
    cdef buffer _decoded   # the event inside the chunk we look at
    cdef json_members _members

    def __init__(self, *, quiet=(), max_frame_bytes=MAX_FRAME_BYTES, max_headers_bytes=MAX_HEADERS_BYTES):
        self._splitter = FrameSplitter(max_frame_bytes, max_headers_bytes)
        self._quiet = templates_of(quiet)
        if not all(self._quiet.types):
            raise ValueError("quiet template has no type")
        self._quiet_heads = [event_head(kind) for kind in self._quiet.types]
        self._usual_headers = b"\0"
        self._broken = None

    def __dealloc__(self):
        buffer_free(&self._text)
        buffer_free(&self._decoded)
        free(self._members.items)

    @property
    def taken(self):
        """Bytes of the body decoded so far: whole frames only."""
        return self._taken

    def feed_data(self, bytes data not None):
        """Take a chunk; return the text of the events that are now whole.

        Raises `CorruptFrame` and `CorruptPayload`; their `before` is the `Scan` of what came before the bad frame.
        """
        if self._broken is not None:
            raise_again(self._broken, Scan(b"", [], 0))
        cdef frame_view view
        cdef cursor source
        source.at = start_of(data)
        source.end = source.at + PyBytes_GET_SIZE(data)
        self._events = []
        self._count = 0
        buffer_clear(&self._text)
        try:
            while not self._ended and self._splitter.next(&source, &view):
                self._take_frame(&view)
                self._taken += SHORTEST_FRAME + view.headers_size + view.payload_size
        except WireError as error:
            self._broken = type(error)(str(error))
            error.before = self._scan()
            raise
        return self._scan()

    def feed_eof(self):
        """Say that the body is complete. Raises `TruncatedFrame` where it ends inside a frame."""
        empty = Scan(b"", [], 0)
        if self._broken is None and self._splitter.held.size and not self._ended:
            self._broken = TruncatedFrame(truncated_text(self._splitter.held.size))
        if self._broken is not None:
            raise_again(self._broken, empty)
        return empty

    cdef object _scan(self):
        events, self._events = self._events, None
        return new_triple(SCAN, bytes_of(self._text.data, self._text.size), events, self._count)

    cdef int _take_frame(self, frame_view *view) except -1:
        if not equals(self._usual_headers, view.headers, view.headers_size):
            named = parse_headers(view.headers, view.headers_size)
            if named.get(":message-type") in ("exception", "error"):
                self._events.append(Frame(named, bytes_of(view.payload, view.payload_size)))
                self._ended = True
                return 0
            if named.get(":event-type") != "chunk":
                return 0
            self._usual_headers = bytes_of(view.headers, view.headers_size)
        if unwrap_usual(view.payload, view.payload_size, &self._decoded):
            return self._take_event(self._decoded.data, self._decoded.size)
        data = unwrap(bytes_of(view.payload, view.payload_size))
        return self._take_event(start_of(data), PyBytes_GET_SIZE(data))

    cdef int _take_event(self, const uint8_t *data, size_t size) except -1:
        cdef int ascii
        cdef Py_ssize_t index = self._quiet.find(data, data + size, &ascii, &self._last_quiet)
        cdef bytes head
        if index >= 0:
            head = <bytes>self._quiet_heads[index]
            self._add(head, data, size, ascii)
        else:
            kind = event_type(data, size, &self._members)
            self._add(event_head(kind), data, size, False)
            self._events.append(new_triple(EVENT, kind, bytes_of(data, size), self._text.size))
        self._count += 1
        return 0

    cdef int _add(self, bytes head, const uint8_t *data, size_t size, bint plain) except -1:
        """Add the text of one event. `plain` data holds neither line breaks nor anything but ASCII."""
        add(&self._text, start_of(head), PyBytes_GET_SIZE(head))
        if plain:
            add(&self._text, data, size)
        else:
            add_escaped(&self._text, data, size)
        return add(&self._text, b"\n\n", 2)


cdef inline bint equals(bytes one, const uint8_t *at, size_t size) noexcept:
    return <size_t>PyBytes_GET_SIZE(one) == size and memcmp(start_of(one), at, size) == 0


cdef bint unwrap_usual(const uint8_t *at, size_t size, buffer *decoded) except -1:
    """Decode the bytes of a payload of the usual form. Returns False where anything is not usual."""
    cdef const uint8_t *end = at + size
    cdef const uint8_t *encoded
    cdef Py_ssize_t length
    if not skip(&at, end, USUAL_START):
        return False
    encoded = at
    at = <const uint8_t *>memchr(at, b'"', end - at)
    if at == NULL:
        return False
    decoded.size = 0
    reserve(decoded, (at - encoded) // 4 * 3 + 4)
    length = base64_decode(encoded, at - encoded, decoded.data)
    if length < 0:
        return False
    decoded.size = length
    at += 1
    if skip(&at, end, USUAL_PADDING):
        at = json_plain(at, end)
        if at == end or at[0] != b'"':
            return False
        at += 1
    return end - at == 1 and at[0] == b"}"


cdef inline bint skip(const uint8_t **at, const uint8_t *end, bytes expected) noexcept:
    """Pass over `expected`, if it stands at `at`."""
    cdef size_t size = PyBytes_GET_SIZE(expected)
    if <size_t>(end - at[0]) < size or memcmp(at[0], start_of(expected), size) != 0:
        return False
    at[0] += size
    return True


cdef bytes unwrap(bytes payload):
    """Return the event inside a chunk's payload that is not of the usual form. Raises `CorruptPayload`."""
    try:
        chunk = jsontext.loads(payload)
    except PayloadError:
        raise CorruptPayload("payload of a chunk is not valid JSON") from None
    if too_deep(payload):
        raise CorruptPayload("payload of a chunk is not valid JSON")
    encoded = chunk.get("bytes") if isinstance(chunk, dict) else None
    if not isinstance(encoded, str):
        raise CorruptPayload("payload of a chunk has no bytes")
    if not BASE64.fullmatch(encoded) or len(encoded) % 4:
        raise CorruptPayload("bytes of a chunk are not base64")
    return binascii.a2b_base64(encoded)


cdef str event_type(const uint8_t *data, size_t size, json_members *members):
    """Return the top-level "type" of an event's JSON. Raises `CorruptPayload`."""
    cdef int answer = json_check(data, data + size, members)
    cdef json_member *member
    cdef size_t index
    kind = None
    if answer == JSON_NO_MEMORY:
        raise MemoryError
    if answer != JSON_VALID:
        raise CorruptPayload("event in a chunk is not valid JSON")
    if members.is_object:
        for index in range(members.count):
            member = &members.items[index]
            if key_of(data, member) == "type":
                kind = value_if_text(data, member)
    if kind is None or UNFIT_FOR_TYPE.search(kind):
        raise CorruptPayload("event in a chunk has no type")
    return kind
