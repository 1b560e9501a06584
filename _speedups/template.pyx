# Twin of aibridge/wire/template.py. What stands there is not said again.

from aibridge import jsontext
from aibridge.errors import PayloadError


ctypedef struct template_view:
    const uint8_t *text
    template_step *steps
    size_t count


cdef class Templates:
    cdef tuple types
    cdef tuple _texts  # keeps the bytes alive that the views point to
    cdef template_view *_views
    cdef Py_ssize_t _count

    def __cinit__(self, tuple templates not None):
        self.types = tuple([type_of_template(template) for template in templates])
        self._texts = templates
        self._views = <template_view *>calloc(len(templates) + 1, sizeof(template_view))
        if self._views == NULL:
            raise MemoryError
        for template in templates:
            self._add(template)

    def __dealloc__(self):
        cdef Py_ssize_t index
        if self._views != NULL:
            for index in range(self._count):
                free(self._views[index].steps)
            free(self._views)

    cdef int _add(self, bytes template) except -1:
        cdef template_view *view = &self._views[self._count]
        cdef size_t size = PyBytes_GET_SIZE(template)
        view.text = start_of(template)
        view.steps = <template_step *>calloc(size + 1, sizeof(template_step))
        if view.steps == NULL:
            raise MemoryError
        view.count = template_compile(view.text, size, view.steps)
        self._count += 1
        return 0

    cdef Py_ssize_t find(self, const uint8_t *at, const uint8_t *end, int *ascii) noexcept:
        """Return the index of the first template that matches, or -1; `ascii` says whether what matched is ASCII."""
        cdef Py_ssize_t index
        cdef template_view *view
        for index in range(self._count):
            view = &self._views[index]
            ascii[0] = 1
            if template_matches(view.text, view.steps, view.count, at, end, ascii):
                return index
        return -1


cdef str type_of_template(bytes template):
    if not all([0x20 <= byte <= 0x7E for byte in template]):
        raise ValueError(f"quiet template {template!r} is not printable ASCII")
    try:
        example = jsontext.loads(template.replace(b"#", b"0").replace(b"$", b'""'))
    except PayloadError:
        raise ValueError(f"quiet template {template!r} is not JSON") from None
    if not isinstance(example, dict):
        raise ValueError(f"quiet template {template!r} is not a JSON object")
    kind = example.get("type", "")
    return kind if isinstance(kind, str) else ""
