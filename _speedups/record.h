/* NamedTuples made without a call into Python: what their own `_make` does. */
#ifndef AIBRIDGE_RECORD_H
#define AIBRIDGE_RECORD_H

#include <Python.h>

/* Return an instance of `type`, a subclass of tuple, with these items. */
static inline PyObject *new_record(PyObject *type, PyObject *items)
{
    Py_ssize_t size = PyTuple_GET_SIZE(items);
    PyObject *record = ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, size);
    if (record == NULL)
        return NULL;
    for (Py_ssize_t index = 0; index < size; index++)
        PyTuple_SET_ITEM(record, index, Py_NewRef(PyTuple_GET_ITEM(items, index)));
    return record;
}

#endif
