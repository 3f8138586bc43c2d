/* SPDX-License-Identifier: MIT
 *
 * A Python tuple as natten_params, statuses as exceptions, and Ctrl-C: the other half
 * of what the typemaps of natten.i call.  Everything here wants the GIL, except where
 * it says that it takes it. */
#ifndef NATTEN_PYTHON_PARAMS_H
#define NATTEN_PYTHON_PARAMS_H

#include "stable.h"

#include <natten.h>

#include <stdbool.h>
#include <string.h>
#include <time.h>

/* ---- params ------------------------------------------------------------------- */

/* NumPy's bool, "bool_" in older NumPys. */
static bool is_numpy_bool(PyObject *object)
{
    PyObject *type = type_of(object);
    bool answer = type && (!PyUnicode_CompareWithASCIIString(type, "bool") ||
                           !PyUnicode_CompareWithASCIIString(type, "bool_"));
    Py_XDECREF(type);
    return answer;
}

/* One integer.  NumPy's bool is none in the language's eyes, but a good is_causal. */
static int integer_of(PyObject *object, const char *name, int64_t *value)
{
    if (!PyLong_Check(object) && is_numpy_bool(object)) {
        int truth = PyObject_IsTrue(object);
        *value = truth;
        return truth < 0 ? -1 : 0;
    }
    PyObject *number = PyNumber_Index(object);
    if (!number) {
        PyErr_Clear();
        refuse_object(object, name, "an integer is wanted");
        return -1;
    }
    int overflow;
    *value = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow)
        PyErr_Format(PyExc_ValueError, "%s: %S does not fit in 64 bits", name, number);
    Py_DECREF(number);
    return overflow ? -1 : 0;
}

/* Per-axis values: None keeps the default, one integer means all axes, a sequence has
 * one for each. */
static int per_axis(PyObject *object, const char *name, int32_t rank, int64_t values[3])
{
    if (object == Py_None)
        return 0;
    Py_ssize_t n = PySequence_Check(object) ? PySequence_Size(object) : -1;
    PyErr_Clear(); /* an array of no axes looks like a sequence, and has no length */
    if (n < 0) {
        int64_t value;
        if (integer_of(object, name, &value) < 0)
            return -1;
        for (int a = 0; a < rank; a++)
            values[a] = value;
        return 0;
    }
    if (n != rank) {
        PyErr_Format(PyExc_ValueError, "%s: %zd values for %d ax%s", name, n, (int)rank,
                     rank == 1 ? "is" : "es");
        return -1;
    }
    for (int a = 0; a < rank; a++) {
        PyObject *item = PySequence_GetItem(object, a);
        int status = item ? integer_of(item, name, &values[a]) : -1;
        Py_XDECREF(item);
        if (status < 0)
            return -1;
    }
    return 0;
}

/* A backend by its name, None for the library's choice. */
static int backend_of(PyObject *object, int32_t *backend)
{
    if (object == Py_None)
        return 0;
    PyObject *text = PyUnicode_Check(object) ? PyUnicode_AsUTF8String(object) : NULL;
    const char *name = text ? PyBytes_AsString(text) : NULL;
    natten_status status =
        name ? natten_backend_from_name(name, backend) : NATTEN_ERR_ARGUMENT;
    Py_XDECREF(text);
    if (status == NATTEN_OK)
        return 0;
    PyErr_Clear(); /* a string that is not UTF-8 is no name either */
    PyErr_Format(PyExc_ValueError,
                 "backend: %R is not one of 'auto', 'cpu', 'cuda', 'reference'",
                 object);
    return -1;
}

/* The fields of natten._functional.Params, in its order. */
static int params_of(PyObject *object, natten_params *params)
{
    PyObject *kernel_size, *stride, *dilation, *is_causal, *scale;
    PyObject *grid_length, *query_begin, *key_begin, *backend;
    int rank;
    unsigned long long flags;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "params: a tuple is wanted");
        return -1;
    }
    if (!PyArg_ParseTuple(object, "iOOOOOOOOOK:params", &rank, &kernel_size, &stride,
                          &dilation, &is_causal, &scale, &grid_length, &query_begin,
                          &key_begin, &backend, &flags))
        return -1;
    if (natten_params_init(params, sizeof *params, rank) != NATTEN_OK) {
        PyErr_SetString(PyExc_ValueError, natten_last_error());
        return -1;
    }
    params->flags = flags;
    if (scale != Py_None) {
        params->has_scale = 1;
        params->scale = PyFloat_AsDouble(scale);
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "scale: an integer that no float holds");
            return -1;
        }
        if (PyErr_Occurred()) {
            PyErr_Clear();
            refuse_object(scale, "scale", "a number or None is wanted");
            return -1;
        }
    }
    const struct {
        PyObject *object;
        const char *name;
        int64_t *values;
    } axes[] = {{kernel_size, "kernel_size", params->kernel_size},
                {stride, "stride", params->stride},
                {dilation, "dilation", params->dilation},
                {is_causal, "is_causal", params->is_causal},
                {grid_length, "grid_length", params->grid_length},
                {query_begin, "query_begin", params->query_begin},
                {key_begin, "key_begin", params->key_begin}};
    for (size_t i = 0; i < sizeof axes / sizeof axes[0]; i++)
        if (per_axis(axes[i].object, axes[i].name, rank, axes[i].values) < 0)
            return -1;
    return backend_of(backend, &params->backend);
}

/* ---- statuses ----------------------------------------------------------------- */

/* Raise the exception of a status other than NATTEN_OK, with the library's sentence. */
static void raise_status(natten_status status)
{
    PyObject *type = PyExc_RuntimeError;
    switch (status) {
    case NATTEN_OK:
    case NATTEN_ERR_DEVICE:
    case NATTEN_ERR_ABI:
    case NATTEN_ERR_NO_DEVICE:
    case NATTEN_ERR_DRIVER_TOO_OLD:
    case NATTEN_ERR_ARCH:
    case NATTEN_ERR_CUDA:
    case NATTEN_ERR_FORKED:
        break;
    case NATTEN_ERR_ARGUMENT:
    case NATTEN_ERR_SHAPE:
    case NATTEN_ERR_LAYOUT:
    case NATTEN_ERR_OVERFLOW:
        type = PyExc_ValueError;
        break;
    case NATTEN_ERR_DTYPE:
        type = PyExc_TypeError;
        break;
    case NATTEN_ERR_MEMORY:
        type = PyExc_MemoryError;
        break;
    case NATTEN_ERR_UNSUPPORTED:
        type = PyExc_NotImplementedError;
        break;
    case NATTEN_ERR_INTERRUPTED:
        /* The signal's handler has raised already, KeyboardInterrupt as a rule. */
        if (PyErr_Occurred())
            return;
        type = PyExc_KeyboardInterrupt;
        break;
    }
    PyErr_SetString(type, natten_last_error());
}

/* ---- results beside the status ------------------------------------------------- */

/* A function's result so far and one more, both given away: None and x are x, x and y
 * are (x, y). */
static PyObject *and_result(PyObject *result, PyObject *more)
{
    if (!result || !more) {
        Py_XDECREF(result);
        Py_XDECREF(more);
        return NULL;
    }
    if (result == Py_None) {
        Py_DECREF(result);
        return more;
    }
    return Py_BuildValue("(NN)", result, more);
}

/* ---- Ctrl-C ------------------------------------------------------------------- */

/* The library asks more often than a person can press keys, and the answer costs a wait
 * for the GIL. */
#define SIGNAL_POLL_SECONDS 0.03

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Called without the GIL by the thread that called the library.  `user` is the time of
 * the last look.  Signals' handlers run on Python's main thread alone; on another one
 * PyErr_CheckSignals() does nothing, and neither does it cost that thread a wait: the
 * callback is not set there. */
static int32_t signals_pending(void *user)
{
    double *last = user, now = seconds();
    if (now - *last < SIGNAL_POLL_SECONDS)
        return 0;
    PyGILState_STATE state = PyGILState_Ensure();
    int raised = PyErr_CheckSignals();
    PyGILState_Release(state);
    *last = seconds();
    return raised != 0;
}

/* Have this thread's calls hear signals, `looked` being the time of the last look, or
 * with NULL not.  Returns what it was before, to be set again. */
static double *hear_signals(double *looked)
{
    static _Thread_local double *now;
    double *before = now;
    now = looked;
    natten_set_cancel_callback(looked ? signals_pending : NULL, looked);
    return before;
}

/* True on the thread whose work Ctrl-C interrupts. */
static bool hears_signals(void)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *main =
        threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *ident = main ? PyObject_GetAttrString(main, "ident") : NULL;
    unsigned long id = ident ? PyLong_AsUnsignedLongMask(ident) : 0;
    bool answer = ident && id == PyThread_get_thread_ident();
    PyErr_Clear();
    Py_XDECREF(ident);
    Py_XDECREF(main);
    Py_XDECREF(threading);
    return answer;
}

#endif
