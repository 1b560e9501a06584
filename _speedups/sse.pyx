# Twin of aibridge/wire/sse.py. What stands there is not said again.

import re

from aibridge.errors import CorruptPayload, TruncatedEvent
from aibridge.values import Event, Scan

# As C globals: no look into the module's names for each chunk.
cdef object SCAN = Scan
cdef object EVENT = Event

MAX_EVENT_BYTES = 32 * 1024 * 1024

cdef bytes BYTE_ORDER_MARK = b"\xef\xbb\xbf"
cdef object UNFIT_FOR_TYPE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")

cdef enum:
    MARK_SIZE = 3
    LONGEST_UNDECIDED = 3  # CR LF CR
    FIELD_SIZE = 6  # of "event:" and "data: "

cdef enum ending_kind:
    ENDING_NONE, ENDING_LF, ENDING_CR, ENDING_CRLF


ctypedef struct slice_view:
    const uint8_t *at
    size_t size


cdef class SSEScanner:
    """Server-sent events, relayed verbatim, with a look at each. Sans I/O; a `StreamDecoder`.

    `Event.type` is the `event:` field, "" where there is none. An event whose data matches a quiet template is counted,
    but not returned. After a `WireError` it stays broken: every later call raises it again.

    Args:
        quiet: templates of events that carry no facts; see `aibridge.wire.template`.
        max_event_bytes: limit of one event, without its blank line.
        check_json: whether an event's data must be JSON, empty, or `[DONE]`.
        hear_first: whether the first event is returned though it is quiet: it says who answers.
    """

    cdef Templates _quiet
    cdef Py_ssize_t _last_quiet  # the template that matched last
    cdef size_t _max_event_bytes
    cdef bint _check_json
    cdef bint _hear
    cdef buffer _held
    cdef size_t _searched
    cdef bint _mark_possible
    cdef ending_kind _ending
    cdef object _broken
    cdef Py_ssize_t _taken
    cdef buffer _joined  # the data lines of the block we look at, where they are several

    def __init__(self, *, quiet=(), max_event_bytes=MAX_EVENT_BYTES, check_json=True, hear_first=False):
        if max_event_bytes < 1:
            raise ValueError("max_event_bytes must be positive")
        self._quiet = templates_of(quiet)
        self._max_event_bytes = max_event_bytes
        self._check_json = check_json
        self._hear = hear_first
        self._mark_possible = True
        self._broken = None

    def __dealloc__(self):
        buffer_free(&self._held)
        buffer_free(&self._joined)

    @property
    def taken(self):
        """Bytes of the body given on so far: whole events only."""
        return self._taken

    def feed_data(self, bytes data not None):
        """Take a chunk; return the whole events that can go on.

        Raises `CorruptFrame` for an event over the limit and `CorruptPayload` for data that is not JSON; their `before`
        is the `Scan` of what came before that event.
        """
        if self._broken is not None:
            raise_again(self._broken, Scan(b"", [], 0))
        if self._held.size == 0:
            return self._scan(data, False)
        add(&self._held, start_of(data), PyBytes_GET_SIZE(data))
        return self._scan(None, False)

    def feed_eof(self):
        """Say that the body is complete; return what a held CR completed.

        Raises `TruncatedEvent` where the body ends inside an event. A half comment is no event, and is dropped.
        """
        if self._broken is not None:
            raise_again(self._broken, Scan(b"", [], 0))
        scan = self._scan(None, True)
        if holds_only_comments(self._held.data, self._held.data + self._held.size):
            return scan
        text = f"the body ended inside an event, {self._held.size} bytes into it"
        self._broken = TruncatedEvent(text)
        raise TruncatedEvent(text, scan)

    cdef object _scan(self, bytes data, bint final):
        """Look at the whole blocks in `data`, or where that is None in what is held; hold what is left."""
        cdef const uint8_t *begin = self._held.data
        cdef const uint8_t *end = begin + self._held.size
        cdef const uint8_t *at
        cdef const uint8_t *behind
        cdef list events = []
        cdef Py_ssize_t count = 0
        if data is not None:
            begin = start_of(data)
            end = begin + PyBytes_GET_SIZE(data)
        at = self._skip_mark(begin, end)
        try:
            while True:
                behind = self._pass_quiet(at, end)
                if behind != at:
                    count += 1
                else:
                    behind = self._find_end(at, end, final)
                    if behind == at:
                        break
                    count += self._look_at(at, behind, behind - begin, events)
                at = behind
            if <size_t>(end - at) > self._max_event_bytes + LONGEST_UNDECIDED:
                self._raise_over_limit()
        except WireError as error:
            self._broken = type(error)(str(error))
            error.before = Scan(bytes_of(begin, at - begin), events, count)
            self._taken += at - begin
            buffer_clear(&self._held)
            raise
        relay = data if data is not None and at == end else bytes_of(begin, at - begin)
        self._taken += at - begin
        self._hold(data, at, end)
        return new_triple(SCAN, relay, events, count)

    cdef int _hold(self, bytes data, const uint8_t *at, const uint8_t *end) except -1:
        """Keep what stands behind `at`."""
        if data is not None:
            add(&self._held, at, end - at)
        elif at == end:
            buffer_clear(&self._held)
        else:
            buffer_drop(&self._held, at - self._held.data)
        self._searched = self._held.size - LONGEST_UNDECIDED if self._held.size > LONGEST_UNDECIDED else 0
        return 0

    cdef const uint8_t *_skip_mark(self, const uint8_t *begin, const uint8_t *end) noexcept:
        """Return the place behind a byte order mark at the start of the stream, and behind the LF of a split CR LF."""
        cdef size_t size = end - begin
        if self._mark_possible:
            if size >= MARK_SIZE:
                self._mark_possible = False
                if memcmp(begin, start_of(BYTE_ORDER_MARK), MARK_SIZE) == 0:
                    return begin + MARK_SIZE
            elif size and memcmp(begin, start_of(BYTE_ORDER_MARK), size) != 0:
                self._mark_possible = False
        if self._ending == ENDING_CR and size and begin[0] == b"\n":
            self._ending = ENDING_CRLF
            return begin + 1
        return begin

    cdef const uint8_t *_pass_quiet(self, const uint8_t *at, const uint8_t *end) noexcept:
        """Return the place behind the event at `at`, where that is quiet as the last was and in the usual form, or `at`.

        That form is an `event:` line or none, one data line, a blank line, each with LF. A template matches no line end,
        so that none need be looked for in the data, nor the end of the block.
        """
        cdef const uint8_t *stop = at
        if self._hear or self._searched:  # of what was searched before nothing is matched anew for each chunk
            return at
        if begins_with(at, end, b"event:"):
            stop = next_break(at, end)
            if stop == end or stop[0] != b"\n":
                return at
            stop += 1
        if not begins_with(stop, end, b"data: "):
            return at
        stop += FIELD_SIZE
        if not self._quiet.begins(self._last_quiet, &stop, end):
            return at
        if end - stop < 2 or stop[0] != b"\n" or stop[1] != b"\n" or <size_t>(stop - at) > self._max_event_bytes:
            return at
        self._ending = ENDING_LF
        return stop + 2

    cdef const uint8_t *_find_end(self, const uint8_t *at, const uint8_t *end, bint final) except? NULL:
        """Return the place behind the block that begins at `at`, or `at` where it is not whole."""
        cdef const uint8_t *line = at
        cdef size_t before_size = 0, size = 0
        cdef ending_kind before = self._ending
        if at == end:
            return at
        size = line_end(at, end)
        if size == 0:
            line = at + self._searched
            while True:
                line = next_break(line, end)
                if line == end:
                    return at
                before_size = line_end(line, end)
                size = line_end(line + before_size, end)
                if size:
                    break
                line += before_size
            before = ending_at(line, before_size)
        if <size_t>(line - at) > self._max_event_bytes:
            self._raise_over_limit()
        line += before_size
        if before == ENDING_CRLF and ending_at(line, size) == ENDING_CR and line + size == end and not final:
            return at
        self._ending = ending_at(line, size)
        self._searched = 0
        return line + size

    cdef Py_ssize_t _look_at(self, const uint8_t *at, const uint8_t *end, size_t offset, list events) except -1:
        """Add the event of one block to `events`, unless it is quiet; return how many events the block is."""
        cdef slice_view kind, data
        cdef int ascii
        if not parse_block(at, end, &kind, &data, &self._joined):
            return 0
        if self._hear or self._quiet.find(data.at, data.at + data.size, &ascii, &self._last_quiet) < 0:
            if self._check_json and not may_pass(data.at, data.size):
                raise CorruptPayload("data of an event is not valid JSON")
            text = (<const char *>kind.at)[: kind.size].decode(errors="replace")
            events.append(new_triple(EVENT, text, bytes_of(data.at, data.size), offset))
            self._hear = False
        return 1

    cdef int _raise_over_limit(self) except -1:
        raise CorruptFrame(f"event is over the limit of {self._max_event_bytes} bytes")


cdef inline bint begins_with(const uint8_t *at, const uint8_t *end, const char *field) noexcept:
    """Tell whether the name of a field of six bytes, with what is behind it, stands at `at`."""
    return end - at >= FIELD_SIZE and memcmp(at, field, FIELD_SIZE) == 0


cdef inline ending_kind ending_at(const uint8_t *at, size_t size) noexcept:
    """Return the kind of the line end of `size` bytes at `at`."""
    if size == 2:
        return ENDING_CRLF
    return ENDING_LF if at[0] == b"\n" else ENDING_CR


cdef bint may_pass(const uint8_t *at, size_t size) noexcept:
    """Tell whether data is empty, `[DONE]` or JSON."""
    return size == 0 or (size == 6 and memcmp(at, b"[DONE]", 6) == 0) or json_check(at, at + size, NULL) == JSON_VALID


cdef bint holds_only_comments(const uint8_t *at, const uint8_t *end) noexcept:
    while at < end:
        if at[0] != b":" and line_end(at, end) == 0:
            return False
        at = next_break(at, end)
        at += line_end(at, end)
    return True


cdef bint parse_block(
    const uint8_t *at, const uint8_t *end, slice_view *kind, slice_view *data, buffer *joined
) except -1:
    """Find type and data of one block, which ends with a line end. Returns whether it has a data line."""
    cdef const uint8_t *line_stop
    cdef slice_view value
    cdef size_t lines = 0
    kind.at = data.at = at
    kind.size = data.size = 0
    while at < end:
        line_stop = next_break(at, end)
        if field_value(at, line_stop, b"data", 4, &value):
            lines += 1
            if lines > 1:
                join(data, &value, joined, lines)
            else:
                data[0] = value
        elif field_value(at, line_stop, b"event", 5, &value):
            kind[0] = value
        at = line_stop + line_end(line_stop, end)
    return lines > 0


cdef inline bint field_value(
    const uint8_t *at, const uint8_t *end, const char *name, size_t size, slice_view *value
) noexcept:
    """Find the value of a line, if its field is `name`."""
    if <size_t>(end - at) < size or memcmp(at, name, size) != 0:
        return False
    at += size
    if at < end:
        if at[0] != b":":
            return False
        at += 1
        if at < end and at[0] == b" ":
            at += 1
    value.at = at
    value.size = end - at
    return True


cdef int join(slice_view *data, slice_view *value, buffer *joined, size_t lines) except -1:
    """Put one more line behind the data; the second is where `joined` begins."""
    if lines == 2:
        joined.size = 0
        add(joined, data.at, data.size)
    add(joined, b"\n", 1)
    add(joined, value.at, value.size)
    data.at = joined.data
    data.size = joined.size
    return 0


def encode_event(str type not None, bytes data not None):
    r"""Return the text of one event. An empty type gives no `event:` line.

    `data` is JSON: a line break in it (LF, CR LF or CR) begins a new data line, and a raw U+2028, U+2029 or U+0085,
    which can only stand inside a string, is written as `\u2028` and so on. Raises `ValueError` for a type that cannot
    stand on one line of text.
    """
    cdef buffer text
    text.data = NULL
    text.size = text.room = 0
    head = event_head(type)
    try:
        add(&text, start_of(head), PyBytes_GET_SIZE(head))
        add_escaped(&text, start_of(data), PyBytes_GET_SIZE(data))
        add(&text, b"\n\n", 2)
        return bytes_of(text.data, text.size)
    finally:
        buffer_free(&text)


cdef bytes event_head(str kind):
    """Return the text of an event up to its data."""
    if UNFIT_FOR_TYPE.search(kind):
        raise ValueError("event type holds a control character, a line break or a lone surrogate")
    return b"event: %b\ndata: " % kind.encode() if kind else b"data: "


cdef int add_escaped(buffer *text, const uint8_t *at, size_t size) except -1:
    """Add JSON data as it stands behind the first `data: ` of an event."""
    cdef const uint8_t *end = at + size
    cdef const uint8_t *plain = at
    cdef size_t length
    while at < end:
        length = special_length(at, end)
        if length == 0:
            at += 1
            continue
        add(text, plain, at - plain)
        if at[0] == b"\n" or at[0] == b"\r":
            add(text, b"\ndata: ", 7)
        elif at[0] == 0xC2:
            add(text, b"\\u0085", 6)
        else:
            add(text, b"\\u2028" if at[2] == 0xA8 else b"\\u2029", 6)
        at += length
        plain = at
    return add(text, plain, end - plain)


cdef inline size_t special_length(const uint8_t *at, const uint8_t *end) noexcept:
    """Return the length of what stands at `at`, if it is a line break or a separator; else 0."""
    if at[0] == b"\n" or at[0] == b"\r":
        return line_end(at, end)
    if at[0] == 0xC2 and end - at >= 2 and at[1] == 0x85:
        return 2
    if at[0] == 0xE2 and end - at >= 3 and at[1] == 0x80 and (at[2] == 0xA8 or at[2] == 0xA9):
        return 3
    return 0
