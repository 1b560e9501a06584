# Twin of aibridge/wire/jsontail.py. What stands there is not said again.


def element_start(bytes text not None, Py_ssize_t begin, Py_ssize_t end):
    """Return where the last element of an array, or member of an object, begins: behind a comma, or the bracket.

    Args:
        text: holds valid JSON.
        begin: of the array or object: its opening bracket.
        end: behind the element: its comma, or the closing bracket.
    """
    cdef const uint8_t *start = start_of(text)
    if not 0 <= begin <= end <= PyBytes_GET_SIZE(text):
        raise IndexError("not a part of the text")
    return json_element_start(start + begin, start + end) - start
