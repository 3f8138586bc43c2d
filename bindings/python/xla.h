/* SPDX-License-Identifier: MIT
 *
 * The operations as one target of XLA's foreign function interface, which is how
 * compiled programs of JAX call them: without Python, its lock, or copies.
 *
 * XLA hands over a call frame.  Its structures are part of an ABI that XLA versions;
 * the first section here lays out those that are used, so that building needs no JAX,
 * and tests/test_jax.py compares them with the header of the JAX at hand.
 *
 * A call has two attributes: "params", the bytes of a natten_params, and "call", the
 * operation and a bit for each optional argument that is given.  Arguments are in the
 * order of natten.h, those that are not given left out; so are results. */
#ifndef NATTEN_PYTHON_XLA_H
#define NATTEN_PYTHON_XLA_H

#include <Python.h>

#include <natten.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- XLA's side of the ABI ---------------------------------------------------- */

#define XLA_VERSION_MAJOR      0
#define XLA_VERSION_MINOR      1 /* the first one that has all of the below */
#define XLA_EXTENSION_METADATA 1
#define XLA_BUFFER             1 /* kind of an argument or a result */
#define XLA_ATTRIBUTE_ARRAY    1 /* kind of an attribute */
#define XLA_INVALID_ARGUMENT   3
#define XLA_INTERNAL           13
enum { XLA_F16 = 10, XLA_F32 = 11, XLA_F64 = 12, XLA_BF16 = 16 };

typedef struct xla_extension {
    size_t struct_size;
    int type;
    struct xla_extension *next;
} xla_extension;

typedef struct xla_version {
    size_t struct_size;
    xla_extension *extensions;
    int major, minor;
} xla_version;

typedef struct xla_metadata {
    size_t struct_size;
    xla_version version;
    uint32_t traits;
} xla_metadata;

typedef struct xla_metadata_extension {
    xla_extension base;
    xla_metadata *metadata;
} xla_metadata_extension;

typedef struct xla_buffer {
    size_t struct_size;
    xla_extension *extensions;
    int dtype;
    void *data;
    int64_t rank;
    int64_t *dims;
} xla_buffer;

typedef struct xla_span {
    const char *text;
    size_t length;
} xla_span;

typedef struct xla_array {
    int dtype;
    size_t size;
    void *data;
} xla_array;

typedef struct xla_buffers {
    size_t struct_size;
    xla_extension *extensions;
    int64_t size;
    int *types;
    void **items;
} xla_buffers;

typedef struct xla_attributes {
    size_t struct_size;
    xla_extension *extensions;
    int64_t size;
    int *types;
    xla_span **names;
    void **values;
} xla_attributes;

typedef struct xla_error_arguments {
    size_t struct_size;
    xla_extension *extensions;
    const char *message;
    int code;
} xla_error_arguments;

typedef struct xla_stream_arguments {
    size_t struct_size;
    xla_extension *extensions;
    void *context;
    void *stream; /* out */
} xla_stream_arguments;

typedef struct xla_device_arguments {
    size_t struct_size;
    xla_extension *extensions;
    void *context;
    int32_t ordinal; /* out */
} xla_device_arguments;

typedef struct xla_error xla_error;
typedef void (*xla_unused)(void);

/* Functions in XLA's order; newer versions add to the end. */
typedef struct xla_api {
    size_t struct_size;
    xla_extension *extensions;
    xla_version version;
    const void *internal;
    xla_error *(*error_create)(xla_error_arguments *);
    xla_unused error_get_message, error_destroy, handler_register;
    xla_error *(*stream_get)(xla_stream_arguments *);
    xla_unused type_register, context_get, state_set, state_get, memory_allocate,
        memory_free, pool_schedule, pool_threads, future_create, future_available,
        future_error, run_id;
    xla_error *(*device_get)(xla_device_arguments *);
} xla_api;

typedef struct xla_frame {
    size_t struct_size;
    xla_extension *extensions;
    const xla_api *api;
    void *context;
    int stage;
    xla_buffers arguments, results;
    xla_attributes attributes;
} xla_frame;

/* ---- a call of ours ----------------------------------------------------------- */

enum { XLA_MERGE = 16, XLA_MERGE_BACKWARD = 17 }; /* further operations */
#define XLA_MAX_ROLES 10

/* What a frame says, in the library's words.  roles[i] is NULL for what is not given.
 */
typedef struct xla_call {
    natten_params params;
    int64_t operation, given;
    int32_t device_type, device_id;
    void *stream;
    const xla_frame *frame;
    natten_tensor tensors[XLA_MAX_ROLES], outputs[XLA_MAX_ROLES];
    natten_tensor *roles[XLA_MAX_ROLES], *results[XLA_MAX_ROLES];
} xla_call;

static xla_error *xla_fail(const xla_frame *frame, int code, const char *message)
{
    xla_error_arguments arguments = {sizeof arguments, NULL, message, code};
    return frame->api->error_create(&arguments);
}

/* An attribute that is an array, NULL if there is none of that name and size. */
static const void *xla_attribute(const xla_frame *frame, const char *name,
                                 size_t element, size_t bytes)
{
    const xla_attributes *all = &frame->attributes;
    for (int64_t i = 0; i < all->size; i++) {
        const xla_array *array = all->values[i];
        if (all->types[i] == XLA_ATTRIBUTE_ARRAY &&
            all->names[i]->length == strlen(name) &&
            !memcmp(all->names[i]->text, name, strlen(name)))
            return array->size * element == bytes ? array->data : NULL;
    }
    return NULL;
}

static natten_tensor xla_tensor(const xla_call *call, const xla_buffer *buffer)
{
    natten_tensor tensor = {0};
    tensor.data = buffer->data;
    tensor.device_type = call->device_type;
    tensor.device_id = call->device_id;
    tensor.ndim = (int32_t)buffer->rank;
    tensor.shape = buffer->dims;
    tensor.dtype_code = buffer->dtype == XLA_BF16 ? NATTEN_BFLOAT : NATTEN_FLOAT;
    tensor.dtype_lanes = 1;
    switch (buffer->dtype) {
    case XLA_F64:
        tensor.dtype_bits = 64;
        break;
    case XLA_F32:
        tensor.dtype_bits = 32;
        break;
    case XLA_F16:
    case XLA_BF16:
        tensor.dtype_bits = 16;
        break;
    default: /* no type of the library: it says so, naming the argument */
        tensor.dtype_bits = 8;
    }
    return tensor;
}

/* Roles and results from buffers: one after the other, where `given` has a bit. */
static bool xla_place(const xla_call *call, const xla_buffers *buffers, int64_t given,
                      natten_tensor *tensors, natten_tensor **roles)
{
    int64_t next = 0;
    for (int i = 0; i < XLA_MAX_ROLES; i++) {
        if (!(given >> i & 1))
            continue;
        if (next >= buffers->size || buffers->types[next] != XLA_BUFFER)
            return false;
        tensors[i] = xla_tensor(call, buffers->items[next++]);
        roles[i] = &tensors[i];
    }
    return next == buffers->size;
}

/* Bits of the results: all of an operation's own, or the gradients of what was given.
 */
static int64_t xla_results(const xla_call *call)
{
    switch (call->operation) {
    case NATTEN_FORWARD:
        return 3;
    case NATTEN_BACKWARD:
        return call->given & 63;
    case NATTEN_QK_BACKWARD:
        return call->given & 15;
    case NATTEN_AV_BACKWARD:
        return call->given & 7;
    default:
        return 1;
    }
}

static natten_status xla_compute(xla_call *call)
{
    const natten_params *p = &call->params;
    natten_tensor **in = call->roles, **out = call->results;
    void *s = call->stream;
    switch (call->operation) {
    case NATTEN_FORWARD:
        return natten_forward(p, in[0], in[1], in[2], in[3], in[4], in[5], out[0],
                              out[1], NULL, 0, s);
    case NATTEN_BACKWARD:
        return natten_backward(p, in[0], in[1], in[2], in[3], in[4], in[5], in[6],
                               in[7], in[8], in[9], out[0], out[1], out[2], out[3],
                               out[4], out[5], NULL, 0, s);
    case NATTEN_QK:
        return natten_qk(p, in[0], in[1], in[2], in[3], out[0], NULL, 0, s);
    case NATTEN_QK_BACKWARD:
        return natten_qk_backward(p, in[0], in[1], in[3], in[4], out[0], out[1], out[2],
                                  out[3], NULL, 0, s);
    case NATTEN_AV:
        return natten_av(p, in[0], in[1], in[2], out[0], NULL, 0, s);
    default:
        return natten_av_backward(p, in[0], in[1], in[2], in[3], out[0], out[1], out[2],
                                  NULL, 0, s);
    }
}

/* Merging n partials: arguments outputs, lses, and for the gradient out, lse, grad_out,
 * grad_lse behind them; `given` is n. */
static natten_status xla_merge(xla_call *call)
{
    int64_t n = call->given, arguments = call->frame->arguments.size;
    int64_t results = call->frame->results.size;
    natten_tensor *in = calloc((size_t)(arguments + results), sizeof *in);
    if (!in)
        return NATTEN_ERR_MEMORY;
    natten_tensor *out = in + arguments;
    for (int64_t i = 0; i < arguments; i++)
        in[i] = xla_tensor(call, call->frame->arguments.items[i]);
    for (int64_t i = 0; i < results; i++)
        out[i] = xla_tensor(call, call->frame->results.items[i]);
    natten_status status;
    if (call->operation == XLA_MERGE)
        status = natten_merge(n, in, in + n, out, out + 1, call->stream);
    else
        status = natten_merge_backward(n, in, in + n, in + 2 * n, in + 2 * n + 1,
                                       in + 2 * n + 2, in + 2 * n + 3, out, out + n,
                                       call->stream);
    free(in);
    return status;
}

/* The frame's attributes, device and stream. */
static xla_error *xla_read(const xla_frame *frame, int32_t device_type, xla_call *call)
{
    const void *params = xla_attribute(frame, "params", 1, sizeof call->params);
    const void *words = xla_attribute(frame, "call", 8, 2 * sizeof(int64_t));
    if (!params || !words)
        return xla_fail(frame, XLA_INVALID_ARGUMENT, "natten: not a call of natten's");
    memcpy(&call->params, params, sizeof call->params);
    memcpy(&call->operation, words, sizeof call->operation);
    memcpy(&call->given, (const char *)words + 8, sizeof call->given);
    call->device_type = device_type;
    call->frame = frame;
    if (device_type == NATTEN_CPU)
        return NULL;
    xla_stream_arguments stream = {sizeof stream, NULL, frame->context, NULL};
    xla_error *error = frame->api->stream_get(&stream);
    call->stream = stream.stream;
    if (!error && frame->api->struct_size >= sizeof *frame->api) {
        xla_device_arguments device = {sizeof device, NULL, frame->context, 0};
        error = frame->api->device_get(&device);
        call->device_id = device.ordinal;
    }
    return error;
}

static xla_error *xla_run(xla_frame *frame, int32_t device_type)
{
    /* XLA asks first for what version of the interface this was written. */
    if (frame->extensions && frame->extensions->type == XLA_EXTENSION_METADATA) {
        xla_metadata *metadata =
            ((xla_metadata_extension *)frame->extensions)->metadata;
        metadata->version.major = XLA_VERSION_MAJOR;
        metadata->version.minor = XLA_VERSION_MINOR;
        return NULL;
    }
    xla_call call = {0};
    xla_error *error = xla_read(frame, device_type, &call);
    if (error)
        return error;
    natten_status status;
    if (call.operation >= XLA_MERGE)
        status = xla_merge(&call);
    else if (xla_place(&call, &frame->arguments, call.given, call.tensors,
                       call.roles) &&
             xla_place(&call, &frame->results, xla_results(&call), call.outputs,
                       call.results))
        status = xla_compute(&call);
    else
        return xla_fail(frame, XLA_INVALID_ARGUMENT, "natten: arrays are missing");
    if (status == NATTEN_OK)
        return NULL;
    bool illegal = status == NATTEN_ERR_ARGUMENT || status == NATTEN_ERR_SHAPE ||
                   status == NATTEN_ERR_DTYPE || status == NATTEN_ERR_LAYOUT;
    return xla_fail(frame, illegal ? XLA_INVALID_ARGUMENT : XLA_INTERNAL,
                    status == NATTEN_ERR_MEMORY ? "natten: no memory"
                                                : natten_last_error());
}

static xla_error *xla_run_cpu(xla_frame *frame)
{
    return xla_run(frame, NATTEN_CPU);
}

static xla_error *xla_run_cuda(xla_frame *frame)
{
    return xla_run(frame, NATTEN_CUDA);
}

/* ---- what Python asks for ----------------------------------------------------- */

/* The target, as JAX registers it for the CPU or for CUDA. */
static PyObject *xla_target(bool cuda)
{
    /* A capsule holds an object's address, and C knows no way from a function to one.
     */
    xla_error *(*run)(xla_frame *) = cuda ? xla_run_cuda : xla_run_cpu;
    void *address;
    memcpy(&address, &run, sizeof address);
    return PyCapsule_New(address, NULL, NULL);
}

/* The attribute "params". */
static PyObject *xla_params(const natten_params *params)
{
    return PyBytes_FromStringAndSize((const char *)params, sizeof *params);
}

#endif
