# The C side, declared. Each header says what its functions promise.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE, _PyBytes_Resize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy

cdef extern from "cursor.h":
    ctypedef struct cursor:
        const uint8_t *at
        const uint8_t *end
    const uint8_t *take(cursor *source, size_t size)
    uint32_t load_u32(const uint8_t *at)
    int64_t load_signed(const uint8_t *at, size_t size)

cdef extern from "buffer.h":
    ctypedef struct buffer:
        uint8_t *data
        size_t size
        size_t room
    int buffer_reserve(buffer *to, size_t more)
    int buffer_add(buffer *to, const void *data, size_t size)
    void buffer_drop(buffer *source, size_t size)
    void buffer_clear(buffer *one)
    void buffer_free(buffer *one)

cdef extern from "crc32.h":
    void crc32_begin()
    uint32_t crc32_of(uint32_t crc, const uint8_t *at, size_t size)

cdef extern from "base64.h":
    void base64_begin()
    Py_ssize_t base64_decode(const uint8_t *at, size_t size, uint8_t *to)

cdef extern from "json.h":
    enum: JSON_VALID, JSON_INVALID, JSON_NO_MEMORY
    ctypedef struct json_member:
        size_t key_start, key_end, value_start, value_end
    ctypedef struct json_members:
        json_member *items
        size_t count, room
        bint is_object
    const uint8_t *json_plain(const uint8_t *at, const uint8_t *end)
    const uint8_t *json_element_start(const uint8_t *begin, const uint8_t *at)
    int json_check(const uint8_t *at, const uint8_t *end, json_members *members)

cdef extern from "template.h":
    ctypedef struct template_step:
        pass
    size_t template_compile(const uint8_t *text, size_t size, template_step *steps)
    size_t template_shared(
        const uint8_t *text, const template_step *steps, size_t count,
        const uint8_t *other_text, const template_step *other_steps, size_t other_count
    )
    size_t template_begin(
        const uint8_t *text, const template_step *steps, size_t count, const uint8_t **at, const uint8_t *end, int *ascii
    )
    size_t template_match(
        const uint8_t *text, const template_step *steps, size_t count, const uint8_t *at, const uint8_t *end, int *ascii
    )

cdef extern from "lines.h":
    const uint8_t *next_break(const uint8_t *at, const uint8_t *end)
    size_t line_end(const uint8_t *at, const uint8_t *end)

cdef extern from "chunked.h":
    enum: CHUNKED_HALF, CHUNKED_PLAIN, CHUNKED_HALF_WAY, CHUNKED_OTHER
    int chunk_size(const uint8_t **at, const uint8_t *end, uint64_t *size)

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *at, Py_ssize_t size) except NULL

cdef extern from "record.h":
    object new_record(object type, tuple items)
    object new_triple(object type, object first, object second, object third)

crc32_begin()
base64_begin()


cdef inline const uint8_t *start_of(bytes data) noexcept:
    return <const uint8_t *>PyBytes_AS_STRING(data)


cdef inline bytes bytes_of(const uint8_t *at, size_t size):
    return PyBytes_FromStringAndSize(<const char *>at, <Py_ssize_t>size)


cdef inline str text_of(const uint8_t *at, size_t size):
    """Return UTF-8 decoded; raises UnicodeDecodeError."""
    return (<const char *>at)[:size].decode()


cdef inline int reserve(buffer *to, size_t more) except -1:
    if buffer_reserve(to, more) < 0:
        raise MemoryError
    return 0


cdef inline int add(buffer *to, const void *data, size_t size) except -1:
    if buffer_add(to, data, size) < 0:
        raise MemoryError
    return 0
