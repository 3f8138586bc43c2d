/* SPDX-License-Identifier: MIT
 *
 * Python objects as natten_tensors, without copying: what the typemaps of natten.i
 * call.
 *
 * An object is asked for the buffer protocol first and for DLPack second.  What it lent
 * is held in a py_array from array_acquire() until array_release(), and so stays valid
 * while the library runs without the GIL.  All functions here want the GIL; those that
 * return an int return -1 with a Python exception set, whose text starts with the
 * argument's name. Whether shapes, strides and types are any good is for the library to
 * say: only what a natten_tensor can't express is refused here. */
#ifndef NATTEN_PYTHON_ARRAYS_H
#define NATTEN_PYTHON_ARRAYS_H

#include "stable.h"

#include <natten.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two more axes than any tensor of the library has, so that the library words most
 * refusals. */
#define ARRAY_MAX_NDIM 8

/* DLPack's two capsules, as its specification lays them out.  Their tensor has the
 * layout of natten_tensor. */
typedef struct dlpack_managed {
    natten_tensor tensor;
    void *context;
    void (*deleter)(struct dlpack_managed *self);
} dlpack_managed;

typedef struct dlpack_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dlpack_versioned *self);
    uint64_t flags;
    natten_tensor tensor;
} dlpack_versioned;

#define DLPACK_FLAG_READ_ONLY 1

/* A lent array.  Must be zeroed before array_acquire(), and must not move after it:
 * tensor points into it. */
typedef struct py_array {
    natten_tensor tensor;
    int64_t shape[ARRAY_MAX_NDIM], strides[ARRAY_MAX_NDIM];
    Py_buffer buffer; /* lent when buffer.obj is not NULL */
    dlpack_managed *managed;
    dlpack_versioned *versioned;
} py_array;

/* Give back what was lent; harmless on a zeroed py_array, and on a second call.
 * Exporters may run Python code here, so an exception in flight is put aside. */
static void array_release(py_array *array)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    if (array->buffer.obj)
        PyBuffer_Release(&array->buffer);
    if (array->managed && array->managed->deleter)
        array->managed->deleter(array->managed);
    if (array->versioned && array->versioned->deleter)
        array->versioned->deleter(array->versioned);
    array->managed = NULL;
    array->versioned = NULL;
    PyErr_Restore(type, value, trace);
}

/* Put "name: " in front of the exception in flight, where that keeps its meaning. */
static void name_the_error(const char *name)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    if (type == PyExc_BufferError || type == PyExc_ValueError ||
        type == PyExc_TypeError || type == PyExc_RuntimeError) {
        PyErr_Format(type, "%s: %S", name, value ? value : Py_None);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
    } else {
        PyErr_Restore(type, value, trace);
    }
}

/* Refuse an element type, in the words of the object itself if it has a dtype. */
static int refuse_type(PyObject *object, const char *name, const char *format)
{
    PyObject *dtype = PyObject_GetAttrString(object, "dtype");
    PyErr_Clear();
    PyObject *text = dtype ? PyObject_Str(dtype) : PyUnicode_FromFormat("'%s'", format);
    if (text)
        PyErr_Format(
            PyExc_TypeError,
            "%s: elements of type %U; float64, float32, float16 or bfloat16 in "
            "this machine's byte order is wanted",
            name, text);
    Py_XDECREF(text);
    Py_XDECREF(dtype);
    return -1;
}

/* Bits of an IEEE element in native byte order, from a format of the struct module; 0
 * for everything else. */
static uint8_t bits_of_format(const char *format)
{
#if PY_BIG_ENDIAN
    const char *native = "@=>!";
#else
    const char *native = "@=<";
#endif
    if (*format && strchr(native, *format))
        format++;
    return !strcmp(format, "d")   ? 64
           : !strcmp(format, "f") ? 32
           : !strcmp(format, "e") ? 16
                                  : 0;
}

/* True for an array of ml_dtypes' bfloat16: a NumPy dtype that the buffer protocol has
 * no letter for. */
static int is_bfloat16(PyObject *object)
{
    int answer = 0;
    PyObject *dtype = PyObject_GetAttrString(object, "dtype");
    PyObject *name = dtype ? PyObject_GetAttrString(dtype, "name") : NULL;
    if (name && PyUnicode_Check(name))
        answer = PyUnicode_CompareWithASCIIString(name, "bfloat16") == 0;
    PyErr_Clear();
    Py_XDECREF(name);
    Py_XDECREF(dtype);
    return answer;
}

/* Fill the tensor from a lent buffer whose element type is already in it. */
static int describe_buffer(const char *name, py_array *array)
{
    const Py_buffer *b = &array->buffer;
    if (b->ndim > ARRAY_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "%s: %d axes are more than %d", name, b->ndim,
                     ARRAY_MAX_NDIM);
        return -1;
    }
    for (int i = 0; i < b->ndim; i++) {
        array->shape[i] = b->shape[i];
        /* Along an axis of one element, or of an empty array, nobody steps. */
        if (b->shape[i] > 1 && b->len > 0 && b->strides[i] % b->itemsize) {
            PyErr_Format(
                PyExc_ValueError,
                "%s: a stride of %zd bytes is not a multiple of the element's %zd",
                name, b->strides[i], b->itemsize);
            return -1;
        }
        array->strides[i] = b->strides[i] / b->itemsize;
    }
    array->tensor.data = b->buf;
    array->tensor.device_type = NATTEN_CPU;
    array->tensor.dtype_lanes = 1;
    array->tensor.ndim = b->ndim;
    array->tensor.shape = array->shape;
    array->tensor.strides = array->strides;
    return 0;
}

/* The same for an array of bfloat16: its bytes as 16-bit integers.  The view, which the
 * buffer holds, keeps the array alive. */
static int borrow_bfloat16(PyObject *object, const char *name, int flags,
                           py_array *array)
{
    PyObject *bits = PyObject_CallMethod(object, "view", "s", "uint16");
    int lent = bits ? PyObject_GetBuffer(bits, &array->buffer, flags) : -1;
    Py_XDECREF(bits);
    if (lent < 0) {
        array->buffer.obj = NULL;
        name_the_error(name);
        return -1;
    }
    array->tensor.dtype_code = NATTEN_BFLOAT;
    array->tensor.dtype_bits = 16;
    return describe_buffer(name, array);
}

/* Is the object in the memory of a GPU, by its own word? */
static int is_on_gpu(PyObject *object)
{
    PyObject *device = PyObject_CallMethod(object, "__dlpack_device__", NULL);
    int type = 0, number = 0;
    if (device && !PyArg_ParseTuple(device, "ii", &type, &number))
        type = 0;
    PyErr_Clear();
    Py_XDECREF(device);
    return type == NATTEN_CUDA;
}

/* Borrow through the buffer protocol: 0 done, 1 not offered, -1 refused. */
static int borrow_buffer(PyObject *object, const char *name, int writable,
                         py_array *array)
{
    int flags = PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (!PyObject_CheckBuffer(object))
        return 1;
    if (PyObject_GetBuffer(object, &array->buffer, flags) < 0) {
        array->buffer.obj = NULL;
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        int bfloat16 = is_bfloat16(object), on_gpu = is_on_gpu(object);
        PyErr_Restore(type, value, trace);
        if (bfloat16) {
            PyErr_Clear();
            return borrow_bfloat16(object, name, flags, array);
        }
        if (writable && !on_gpu) {
            name_the_error(name);
            return -1;
        }
        /* A type without a letter, or memory that the host can't read: DLPack may have
         * a number for it. */
        PyErr_Clear();
        return 1;
    }
    const char *format = array->buffer.format ? array->buffer.format : "B";
    array->tensor.dtype_code = NATTEN_FLOAT;
    array->tensor.dtype_bits = bits_of_format(format);
    if (array->tensor.dtype_bits == 0)
        return refuse_type(object, name, format);
    return describe_buffer(name, array);
}

/* object.__dlpack__(max_version=(1, 0)), or without the keyword from producers older
 * than DLPack 1.0, which know none.  A producer on a GPU is asked not to wait (stream
 * -1): the call is made on the producer's own stream, behind what it did there. */
static PyObject *dlpack_capsule(PyObject *object)
{
    int on_gpu = is_on_gpu(object); /* before all that may fail: it clears errors */
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
    PyObject *none = PyTuple_New(0);
    PyObject *stream = on_gpu ? Py_BuildValue("{si}", "stream", -1) : NULL;
    PyObject *keywords = Py_BuildValue("{s(ii)}", "max_version", 1, 0);
    PyObject *capsule = NULL;
    if (method && none && keywords &&
        (!on_gpu || (stream && PyDict_Update(keywords, stream) == 0))) {
        capsule = PyObject_Call(method, none, keywords);
        if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            capsule = PyObject_Call(method, none, stream);
        }
    }
    Py_XDECREF(keywords);
    Py_XDECREF(stream);
    Py_XDECREF(none);
    Py_XDECREF(method);
    return capsule;
}

/* Take over what a capsule holds; renaming it tells the producer that we have. */
static int take_capsule(PyObject *capsule, const char *name, int writable,
                        py_array *array)
{
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        array->versioned = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        PyCapsule_SetName(capsule, "used_dltensor_versioned");
        if (array->versioned->major != 1) {
            PyErr_Format(PyExc_BufferError, "%s: DLPack version %u is not 1", name,
                         (unsigned)array->versioned->major);
            return -1;
        }
        if (writable && array->versioned->flags & DLPACK_FLAG_READ_ONLY) {
            PyErr_Format(PyExc_ValueError, "%s: the array is read-only", name);
            return -1;
        }
        array->tensor = array->versioned->tensor;
        return 0;
    }
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        array->managed = PyCapsule_GetPointer(capsule, "dltensor");
        PyCapsule_SetName(capsule, "used_dltensor");
        array->tensor = array->managed->tensor;
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s: __dlpack__ returned no DLPack capsule", name);
    return -1;
}

/* Lend `object` as array->tensor; `writable` for what the library will fill. */
static int array_acquire(PyObject *object, const char *name, int writable,
                         py_array *array)
{
    int status = borrow_buffer(object, name, writable, array);
    if (status <= 0)
        return status;
    if (!PyObject_HasAttrString(object, "__dlpack__")) {
        PyObject *type = type_of(object);
        PyErr_Format(PyExc_TypeError,
                     "%s: %V has neither the buffer protocol nor DLPack", name, type,
                     "it");
        Py_XDECREF(type);
        return -1;
    }
    PyObject *capsule = dlpack_capsule(object);
    if (!capsule && PyObject_CheckBuffer(object)) {
        PyErr_Clear(); /* neither protocol can say its element type */
        return refuse_type(object, name, "?");
    }
    if (!capsule) {
        name_the_error(name);
        return -1;
    }
    status = take_capsule(capsule, name, writable, array);
    Py_DECREF(capsule);
    return status;
}

/* ---- sequences of arrays, for merging ----------------------------------------- */

typedef struct py_arrays {
    natten_tensor *tensors; /* what the library takes: one behind the other */
    py_array *lent;
    Py_ssize_t count;
} py_arrays;

static void arrays_release(py_arrays *arrays)
{
    for (Py_ssize_t i = 0; i < arrays->count; i++)
        array_release(&arrays->lent[i]);
    free(arrays->tensors);
    free(arrays->lent);
    memset(arrays, 0, sizeof *arrays);
}

/* Lend each array of a sequence.  `wanted` is how many there must be, or -1. */
static int arrays_acquire(PyObject *sequence, const char *name, int writable,
                          int64_t wanted, py_arrays *arrays)
{
    Py_ssize_t n = PySequence_Check(sequence) ? PySequence_Size(sequence) : -1;
    if (n < 0) {
        PyErr_Clear();
        refuse_object(sequence, name, "a sequence of arrays is wanted");
        return -1;
    }
    if (wanted >= 0 && n != wanted) {
        PyErr_Format(PyExc_ValueError, "%s: %zd arrays for %lld outputs", name, n,
                     (long long)wanted);
        return -1;
    }
    /* One more than needed, so that an empty sequence is still an address. */
    arrays->tensors = calloc((size_t)n + 1, sizeof *arrays->tensors);
    arrays->lent = calloc((size_t)n + 1, sizeof *arrays->lent);
    if (!arrays->tensors || !arrays->lent) {
        PyErr_NoMemory();
        return -1;
    }
    for (; arrays->count < n; arrays->count++) {
        py_array *lent = &arrays->lent[arrays->count];
        char label[64];
        snprintf(label, sizeof label, "%s[%lld]", name, (long long)arrays->count);
        PyObject *item = PySequence_GetItem(sequence, arrays->count);
        int status = item ? array_acquire(item, label, writable, lent) : -1;
        Py_XDECREF(item); /* the sequence, or what was lent, keeps it alive */
        if (status < 0) {
            array_release(lent);
            return -1;
        }
        arrays->tensors[arrays->count] = lent->tensor;
    }
    return 0;
}

/* ---- what Python wants to know of an array before it makes others ------------- */

/* The library's element types by the names that NumPy, torch and JAX give them. */
static const char *type_name(const natten_tensor *tensor)
{
    if (tensor->dtype_code == NATTEN_BFLOAT)
        return tensor->dtype_bits == 16 ? "bfloat16" : NULL;
    if (tensor->dtype_code != NATTEN_FLOAT)
        return NULL;
    switch (tensor->dtype_bits) {
    case 64:
        return "float64";
    case 32:
        return "float32";
    case 16:
        return "float16";
    default:
        return NULL;
    }
}

/* (shape, name of the element type). */
static PyObject *array_describe(PyObject *object, const char *name)
{
    py_array array;
    PyObject *shape = NULL, *answer = NULL;
    memset(&array, 0, sizeof array);
    if (array_acquire(object, name, 0, &array) == 0) {
        if (type_name(&array.tensor))
            shape = PyTuple_New(array.tensor.ndim);
        else
            refuse_type(object, name, "?");
    }
    for (int i = 0; shape && i < array.tensor.ndim; i++)
        PyTuple_SetItem(shape, i, PyLong_FromLongLong(array.tensor.shape[i]));
    if (shape)
        answer = Py_BuildValue("(Ns)", shape, type_name(&array.tensor));
    array_release(&array);
    return answer;
}

#endif
