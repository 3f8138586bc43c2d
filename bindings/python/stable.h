/* SPDX-License-Identifier: MIT
 *
 * What Python's stable ABI lacks for us: the glue here is written in the limited API of
 * Python 3.9, so that one compiled module serves 3.9 and all that follow
 * (docs/decisions/one-wheel.md).
 *
 * The buffer protocol has been in the limited API since Python 3.11.  In 3.9 and 3.10,
 * which change no more, its functions are exported and its structure is the same; they
 * are declared here where Python.h keeps them to itself. */
#ifndef NATTEN_PYTHON_STABLE_H
#define NATTEN_PYTHON_STABLE_H

#include <Python.h>

#if defined(Py_LIMITED_API) && Py_LIMITED_API + 0 < 0x030b0000
typedef struct {
    void *buf;
    PyObject *obj;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int readonly;
    int ndim;
    char *format;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    Py_ssize_t *suboffsets;
    void *internal;
} Py_buffer;

#define PyBUF_WRITABLE 0x0001
#define PyBUF_FORMAT   0x0004
#define PyBUF_STRIDES  0x0018 /* with shapes */

int PyObject_CheckBuffer(PyObject *object);
int PyObject_GetBuffer(PyObject *object, Py_buffer *view, int flags);
void PyBuffer_Release(Py_buffer *view);
#endif

/* Name of an object's type, a new reference; NULL where not even that can be had, and
 * no exception. PyErr_Format's %V takes a text in its place. */
static PyObject *type_of(PyObject *object)
{
    PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(object), "__name__");
    if (!name)
        PyErr_Clear();
    return name;
}

/* Raise TypeError "name: WANTED, not TYPE". */
static void refuse_object(PyObject *object, const char *name, const char *wanted)
{
    PyObject *type = type_of(object);
    PyErr_Format(PyExc_TypeError, "%s: %s, not %V", name, wanted, type, "this");
    Py_XDECREF(type);
}

#endif
