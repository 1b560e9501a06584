# Twin of aibridge/wire/jsonscan.py. What stands there is not said again.

from aibridge.jsontext import Member


def scan_object(bytes body not None):
    """Return the top-level members of a JSON object, in order, with duplicates.

    Raises `PayloadError` where `body` is not one valid JSON text, is nested deeper than 512 levels, or is no object;
    the message holds nothing of the body.
    """
    cdef const uint8_t *begin = start_of(body)
    cdef json_members members
    cdef json_member *member
    cdef size_t index
    members.items = NULL
    members.room = members.count = 0
    try:
        raise_unless_valid(json_check(begin, begin + PyBytes_GET_SIZE(body), &members))
        if not members.is_object:
            raise PayloadError("body is not a JSON object")
        found = []
        for index in range(members.count):
            member = &members.items[index]
            items = (key_of(begin, member), member.key_start, member.value_start, member.value_end)
            found.append(new_record(Member, items))
        return tuple(found)
    finally:
        free(members.items)


cdef int raise_unless_valid(int answer) except -1:
    if answer == JSON_NO_MEMORY:
        raise MemoryError
    if answer != JSON_VALID:
        raise PayloadError("body is not valid JSON, or nested too deep")
    return 0


cdef str key_of(const uint8_t *text, json_member *member):
    return string_at(text + member.key_start, member.key_end - member.key_start)


cdef object value_if_text(const uint8_t *text, json_member *member):
    """Return the value of a member, if it is a string; else None."""
    if text[member.value_start] != b'"':
        return None
    return string_at(text + member.value_start, member.value_end - member.value_start)


cdef str string_at(const uint8_t *at, size_t size):
    """Return a valid JSON string, which stands there with its quotes."""
    if memchr(at, b"\\", size) != NULL:
        return jsontext.loads(bytes_of(at, size))
    return text_of(at + 1, size - 2)
