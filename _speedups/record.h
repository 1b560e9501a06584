/* NamedTuples made without a call into Python: what their own `_make` does. */
#ifndef AIBRIDGE_RECORD_H
#define AIBRIDGE_RECORD_H

#include <Python.h>

/* Return an instance of `type`, a subclass of tuple, with these items. */
static inline PyObject *new_record(PyObject *type, PyObject *items)
{
    PyObject *record, *arguments = PyTuple_Pack(1, items);
    if (arguments == NULL)
        return NULL;
    record = PyTuple_Type.tp_new((PyTypeObject *)type, arguments, NULL);
    Py_DECREF(arguments);
    return record;
}

#endif
