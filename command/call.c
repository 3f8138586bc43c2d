/* SPDX-License-Identifier: MIT
 *
 * From named files to tensors and back.  Shapes are looked at only as far as is needed
 * to make room for the outputs; the rest is the library's to judge. */
#include "call.h"

#include "progress.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

double call_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

natten_tensor *call_tensor(call *c, role which)
{
    return call_has(c, which) ? &c->array[which].tensor : NULL;
}

/* Roles whose elements have the accumulator's type. */
static bool is_accumulator(role which)
{
    return which == ROLE_BIAS || which == ROLE_LSE || which == ROLE_GRAD_BIAS ||
           which == ROLE_GRAD_LSE;
}

int call_read(call *c, const role *inputs, int count)
{
    for (int i = 0; i < count; i++) {
        role which = inputs[i];
        npy_array *array = &c->array[which];
        if (!c->path[which])
            continue;
        int status = npy_read(array, c->path[which]);
        if (status)
            return status;
        if (c->has_dtype) {
            c->bits |= array->kind == ELEMENT_UINT16 && c->dtype == ELEMENT_BF16;
            element wanted =
                is_accumulator(which) ? element_accumulator(c->dtype) : c->dtype;
            status = npy_convert(array, wanted, role_name(which));
            if (status)
                return status;
        }
        if (array->kind > ELEMENT_FP16)
            return command_fail(
                EXIT_USAGE, "%s: %s: elements are %s; --dtype converts them",
                role_name(which), c->path[which], element_kinds[array->kind].name);
    }
    return EXIT_FINE;
}

static int spread(const axis_values *values, const char *option, int rank, int64_t *to)
{
    if (values->count > 1 && values->count != rank)
        return command_fail(EXIT_USAGE, "%s: %d values for %d %s", option,
                            values->count, rank, rank == 1 ? "axis" : "axes");
    if (values->count)
        for (int a = 0; a < rank; a++)
            to[a] = values->value[values->count == 1 ? 0 : a];
    return EXIT_FINE;
}

int call_params(call *c, role main, natten_params *params)
{
    int rank = c->array[main].tensor.ndim - 3;
    if (rank < 1 || rank > NATTEN_MAX_RANK)
        return command_fail(
            EXIT_USAGE,
            "%s: %s: %d dimensions, but [batch, 1 to 3 axes, heads, %s] has "
            "4 to 6",
            role_name(main), c->path[main], rank + 3,
            main == ROLE_ATTN ? "slots" : "head_dim");
    int status = command_check(natten_params_init(params, sizeof *params, rank));
    if (status)
        return status;
    params->backend = c->backend;
    params->has_scale = c->has_scale;
    params->scale = c->has_scale ? c->scale : params->scale;
    const struct {
        const axis_values *values;
        const char *option;
        int64_t *to;
    } per_axis[] = {
        {&c->kernel_size, "--kernel-size", params->kernel_size},
        {&c->stride, "--stride", params->stride},
        {&c->dilation, "--dilation", params->dilation},
        {&c->is_causal, "--is-causal", params->is_causal},
        {&c->grid_length, "--grid-length", params->grid_length},
        {&c->query_begin, "--query-begin", params->query_begin},
        {&c->key_begin, "--key-begin", params->key_begin},
    };
    for (size_t i = 0; i < sizeof per_axis / sizeof *per_axis && !status; i++)
        status = spread(per_axis[i].values, per_axis[i].option, rank, per_axis[i].to);
    return status;
}

static int make_output(call *c, role which, element kind, int ndim,
                       const int64_t *shape)
{
    if (is_accumulator(which))
        kind = element_accumulator(kind);
    int status = npy_allocate(&c->array[which], kind, ndim, shape, role_name(which));
    output *added;
    if (!status && c->path[which])
        status = output_add(&c->outputs, role_option(which), c->path[which], &added);
    if (!status && c->path[which])
        added->array = &c->array[which];
    return status;
}

int call_output(call *c, role which, role like, int64_t last)
{
    const npy_array *model = &c->array[like];
    if (!model->tensor.data)
        return command_fail(EXIT_USAGE, "%s: there is no %s", role_option(which),
                            role_option(like));
    int ndim = model->tensor.ndim;
    int64_t shape[NPY_MAX_NDIM];
    memcpy(shape, model->shape, sizeof shape);
    if (last == LAST_DROP)
        ndim--;
    else if (last != LAST_KEEP)
        shape[ndim - 1] = last;
    return make_output(c, which, model->kind, ndim, shape);
}

int call_output_bias(call *c, role main, const natten_params *params)
{
    int64_t shape[1 + NATTEN_MAX_RANK];
    shape[0] = c->array[main].shape[params->rank + 1];
    for (int a = 0; a < params->rank; a++) {
        int64_t k = params->kernel_size[a];
        /* Illegal windows are the library's to name: any room does for them. */
        shape[1 + a] = k >= 1 && k <= INT32_MAX ? 2 * k - 1 : 1;
    }
    return make_output(c, ROLE_GRAD_BIAS, c->array[main].kind, 1 + params->rank, shape);
}

/* The tensor of a role as it will be where the call is computed. */
static natten_tensor *tensor_there(call *c, role which, natten_tensor *there)
{
    natten_tensor *here = which == ROLES ? NULL : call_tensor(c, which);
    if (!here)
        return NULL;
    *there = *here;
    there->device_type = c->on_gpu ? NATTEN_CUDA : NATTEN_CPU;
    there->device_id = c->on_gpu ? c->gpu : 0;
    return there;
}

int call_explain(call *c, const natten_params *params, const call_plan *plan)
{
    char text[4096];
    natten_tensor there[4];
    if (!c->explain)
        return EXIT_FINE;
    int status = command_check(natten_plan_text(
        params, plan->operation, tensor_there(c, plan->query, &there[0]),
        tensor_there(c, plan->key, &there[1]), tensor_there(c, plan->value, &there[2]),
        tensor_there(c, plan->additional_keys, &there[3]), text, sizeof text));
    if (!status)
        fprintf(stderr, "%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
    return status;
}

static int write_array(const call *c, output *out)
{
    npy_array *array = out->array;
    /* Bits in, bits out. */
    if (c->bits && array->kind == ELEMENT_BF16)
        array->kind = ELEMENT_UINT16;
    FILE *file = output_stream(out);
    if (!file || !npy_write(file, array))
        return command_fail(EXIT_IO, "%s: %s", out->path, strerror(errno));
    return EXIT_FINE;
}

int call_finish(call *c, const char *operation, double seconds)
{
    progress_clear();
    int status = EXIT_FINE;
    for (int i = 0; i < c->outputs.count && !status; i++)
        status = write_array(c, c->outputs.list[i]);
    if (status)
        return status;
    report *facts = report_create(c->json);
    if (!facts)
        return EXIT_IO;
    report_text(facts, "operation", operation);
    for (role which = 0; which < ROLES; which++)
        if (c->path[which])
            report_text(facts, role_name(which), c->path[which]);
    for (const path_list *list = c->lists; list && list->name; list++)
        if (list->paths > 0)
            report_texts(facts, list->name, list->path, list->paths);
    report_integer(facts, "threads", natten_get_num_threads());
    report_real(facts, "seconds", seconds, 3);
    status = output_commit(&c->outputs);
    if (status)
        report_discard(facts);
    else
        report_finish(facts, false);
    return status;
}

int call_end(call *c, int status)
{
    output_discard(&c->outputs);
    for (role which = 0; which < ROLES; which++)
        npy_free(&c->array[which]);
    return status;
}
