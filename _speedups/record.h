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

/* The same for three items, without a tuple in between. */
static inline PyObject *new_triple(PyObject *type, PyObject *first, PyObject *second, PyObject *third)
{
    PyObject *record = ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 3);
    if (record == NULL)
        return NULL;
    PyTuple_SET_ITEM(record, 0, Py_NewRef(first));
    PyTuple_SET_ITEM(record, 1, Py_NewRef(second));
    PyTuple_SET_ITEM(record, 2, Py_NewRef(third));
    return record;
}

#endif
