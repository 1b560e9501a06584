# Twin of aibridge/wire/template.py. What stands there is not said again.

from aibridge import jsontext
from aibridge.errors import PayloadError


ctypedef struct template_view:
    const uint8_t *text
    template_step *steps
    size_t count
    size_t shared  # steps at its beginning that are those of the template before it


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
        cdef template_view *before = view - 1
        cdef size_t size = PyBytes_GET_SIZE(template)
        view.text = start_of(template)
        view.steps = <template_step *>calloc(size + 1, sizeof(template_step))
        if view.steps == NULL:
            raise MemoryError
        view.count = template_compile(view.text, size, view.steps)
        if self._count:
            view.shared = template_shared(
                view.text, view.steps, view.count, before.text, before.steps, before.count
            )
        self._count += 1
        return 0

    cdef Py_ssize_t find(self, const uint8_t *at, const uint8_t *end, int *ascii, Py_ssize_t *last) noexcept:
        """Return the index of a template that matches, or -1; `ascii` says whether what matched is ASCII.

        `last` is what matched last in the same stream, and is tried first: the events of a stream are of one server. A
        template that begins as the one before it, beyond where that failed, fails too.
        """
        cdef Py_ssize_t index
        cdef size_t matched = 0, last_matched = 0
        if self._count:
            last_matched = self._match(last[0], at, end, ascii)
            if last_matched > self._views[last[0]].count:
                return last[0]
        for index in range(self._count):
            if index == last[0]:
                matched = last_matched
            elif index == 0 or self._views[index].shared <= matched:
                matched = self._match(index, at, end, ascii)
                if matched > self._views[index].count:
                    last[0] = index
                    return index
        return -1

    cdef inline bint begins(self, Py_ssize_t index, const uint8_t **at, const uint8_t *end) noexcept:
        """Tell whether one of them matches what begins at `*at`; move that behind it."""
        cdef template_view *view = &self._views[index]
        cdef int ascii
        return self._count > 0 and template_begin(view.text, view.steps, view.count, at, end, &ascii) == view.count

    cdef inline size_t _match(self, Py_ssize_t index, const uint8_t *at, const uint8_t *end, int *ascii) noexcept:
        cdef template_view *view = &self._views[index]
        ascii[0] = 1
        return template_match(view.text, view.steps, view.count, at, end, ascii)


cdef dict KNOWN_TEMPLATES = {}

cdef enum:
    MOST_KNOWN_TEMPLATES = 64


cdef Templates templates_of(tuple templates):
    """Return templates compiled, once for all streams."""
    cdef Templates compiled = KNOWN_TEMPLATES.get(templates)
    if compiled is None:
        compiled = Templates(templates)
        if len(KNOWN_TEMPLATES) >= MOST_KNOWN_TEMPLATES:
            KNOWN_TEMPLATES.clear()
        KNOWN_TEMPLATES[templates] = compiled
    return compiled


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
