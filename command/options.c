/* SPDX-License-Identifier: MIT
 *
 * Parsing: numbers, values per axis, and the two groups of options that the array
 * commands share.  Only the form is looked at here; whether a window is legal, the
 * library says.  */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *option;
} roles[ROLES] = {
    [ROLE_QUERY] = {"query", "query"},
    [ROLE_KEY] = {"key", "key"},
    [ROLE_VALUE] = {"value", "value"},
    [ROLE_BIAS] = {"bias", "--bias"},
    [ROLE_ADDITIONAL_KEYS] = {"additional_keys", "--additional-keys"},
    [ROLE_ADDITIONAL_VALUES] = {"additional_values", "--additional-values"},
    [ROLE_ATTN] = {"attn", "--attn"},
    [ROLE_OUT] = {"out", "--out"},
    [ROLE_LSE] = {"lse", "--lse"},
    [ROLE_GRAD_OUT] = {"grad_out", "--grad-out"},
    [ROLE_GRAD_LSE] = {"grad_lse", "--grad-lse"},
    [ROLE_GRAD_ATTN] = {"grad_attn", "--grad-attn"},
    [ROLE_GRAD_QUERY] = {"grad_query", "--grad-query"},
    [ROLE_GRAD_KEY] = {"grad_key", "--grad-key"},
    [ROLE_GRAD_VALUE] = {"grad_value", "--grad-value"},
    [ROLE_GRAD_BIAS] = {"grad_bias", "--grad-bias"},
    [ROLE_GRAD_ADDITIONAL_KEYS] = {"grad_additional_keys", "--grad-additional-keys"},
    [ROLE_GRAD_ADDITIONAL_VALUES] = {"grad_additional_values",
                                     "--grad-additional-values"},
};

const char *role_name(role which)
{
    return roles[which].name;
}

const char *role_option(role which)
{
    return roles[which].option;
}

/* The integer at the start of text, and where it ends; argp_error if there is none. */
static int64_t parse_integer(struct argp_state *state, const char *option,
                             const char *text, const char **end)
{
    errno = 0;
    char *stop;
    intmax_t value = strtoimax(text, &stop, 10);
    if (stop == text || strchr(" \t\n", *text))
        argp_error(state, "%s: '%s' is no integer", option, text);
    if (errno == ERANGE || value > INT64_MAX || value < INT64_MIN)
        argp_error(state, "%s: '%s' does not fit in 64 bits", option, text);
    *end = stop;
    return value;
}

int64_t options_integer(struct argp_state *state, const char *option, const char *text,
                        int64_t least, int64_t most)
{
    const char *end = "";
    int64_t value = parse_integer(state, option, text, &end);
    if (*end)
        argp_error(state, "%s: '%s' is no integer", option, text);
    if (value < least || value > most)
        argp_error(state, "%s: %" PRId64 " not in [%" PRId64 ", %" PRId64 "]", option,
                   value, least, most);
    return value;
}

double options_real(struct argp_state *state, const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        argp_error(state, "%s: '%s' is no finite number", option, text);
    return value;
}

void options_axes(struct argp_state *state, const char *option, const char *text,
                  axis_values *values)
{
    const char *at = text;
    values->count = 0;
    for (;;) {
        if (values->count == NATTEN_MAX_RANK)
            argp_error(state, "%s: '%s' has more than %d values", option, text,
                       NATTEN_MAX_RANK);
        values->value[values->count++] = parse_integer(state, option, at, &at);
        if (*at == '\0')
            return;
        if (*at++ != ',')
            argp_error(state, "%s: '%s' is not integers separated by commas", option,
                       text);
    }
}

static const struct argp_option window_table[] = {
    {NULL, 0, NULL, 0, "Window (one value: for all axes; outermost axis first):", 3},
    {"kernel-size", KEY_KERNEL_SIZE, "K[,K[,K]]", 0, "tokens of the window; needed", 0},
    {"stride", KEY_STRIDE, "S,...", 0, "queries that share a window [1]", 0},
    {"dilation", KEY_DILATION, "D,...", 0, "step from key to key [1]", 0},
    {"is-causal", KEY_IS_CAUSAL, "0|1,...", 0, "1: no key after its query [0]", 0},
    {"scale", KEY_SCALE, "X", 0, "factor of the logits [head_dim^-1/2; qk: 1]", 0},
    {NULL, 0, NULL, 0, "Parts of a grid:", 4},
    {"grid-length", KEY_GRID_LENGTH, "L,...", 0,
     "tokens of the whole grid [those of query]", 0},
    {"query-begin", KEY_QUERY_BEGIN, "N,...", 0, "token that query starts at [0]", 0},
    {"key-begin", KEY_KEY_BEGIN, "N,...", 0, "token that key and value start at [0]",
     0},
    {0}};

static error_t parse_window(int key, char *argument, struct argp_state *state)
{
    call *c = state->input;
    switch (key) {
    case KEY_KERNEL_SIZE:
        options_axes(state, "--kernel-size", argument, &c->kernel_size);
        return 0;
    case KEY_STRIDE:
        options_axes(state, "--stride", argument, &c->stride);
        return 0;
    case KEY_DILATION:
        options_axes(state, "--dilation", argument, &c->dilation);
        return 0;
    case KEY_IS_CAUSAL:
        options_axes(state, "--is-causal", argument, &c->is_causal);
        return 0;
    case KEY_GRID_LENGTH:
        options_axes(state, "--grid-length", argument, &c->grid_length);
        return 0;
    case KEY_QUERY_BEGIN:
        options_axes(state, "--query-begin", argument, &c->query_begin);
        return 0;
    case KEY_KEY_BEGIN:
        options_axes(state, "--key-begin", argument, &c->key_begin);
        return 0;
    case KEY_SCALE:
        c->scale = options_real(state, "--scale", argument);
        c->has_scale = true;
        return 0;
    case ARGP_KEY_END:
        if (!c->kernel_size.count)
            argp_error(state, "--kernel-size is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp options_window = {window_table, parse_window, NULL, NULL,
                                    NULL,         NULL,         NULL};

/* Options in one group are listed together, whichever table they are in. */
enum { GROUP_RUN = 5 };

static const struct argp_option run_table[] = {
    {NULL, 0, NULL, 0, "How to run:", GROUP_RUN},
    {"dtype", KEY_DTYPE, "TYPE", 0,
     "fp64, fp32, bf16 or fp16: convert the arrays when reading them (bias and lse to "
     "their own type); uint16 are taken as bits of bf16 [the files' type]",
     0},
    {"threads", KEY_THREADS, "N", 0, "threads [as many as CPUs]", 0},
    {"json", KEY_JSON, NULL, 0, "print a report as JSON", 0},
    {0}};

static const struct argp_option device_table[] = {
    {"device", KEY_DEVICE, "cpu|cuda|cuda:N", 0, "where to compute [cpu]", GROUP_RUN},
    {0}};

/* What computes on the CPU alone does not offer a device, but says so when asked. */
static const struct argp_option cpu_table[] = {
    {"device", KEY_DEVICE, "cpu", OPTION_HIDDEN, NULL, GROUP_RUN}, {0}};

static const struct argp_option plan_table[] = {
    {"backend", KEY_BACKEND, "NAME", 0,
     "auto, reference, cpu or, on a GPU, cuda [auto]", GROUP_RUN},
    {"explain", KEY_EXPLAIN, NULL, 0,
     "print the plan on standard error: that of the call without its bias", 0},
    {0}};

static error_t parse_device(int key, char *argument, struct argp_state *state)
{
    call *c = state->input;
    int32_t type;
    if (key != KEY_DEVICE)
        return ARGP_ERR_UNKNOWN;
    if (natten_device_from_name(argument, &type, &c->gpu) != NATTEN_OK)
        argp_error(state, "--device: '%s' is none of cpu, cuda, cuda:N", argument);
    c->on_gpu = type == NATTEN_CUDA;
    return 0;
}

static error_t parse_cpu(int key, char *argument, struct argp_state *state)
{
    const call *c = state->input;
    error_t status = parse_device(key, argument, state);
    if (status == 0 && c->on_gpu)
        argp_failure(state, EXIT_IO, 0, "--device %s: %s computes on the CPU only",
                     argument, state->name);
    return status;
}

static int32_t parse_backend(struct argp_state *state, const char *name)
{
    int32_t backend = NATTEN_BACKEND_AUTO;
    if (natten_backend_from_name(name, &backend) != NATTEN_OK)
        argp_error(state, "--backend: '%s' is none of auto, reference, cpu, cuda",
                   name);
    return backend;
}

/* Which numbers are legal, the library says. */
static void set_threads(int32_t threads)
{
    int status = command_check(natten_set_num_threads(threads));
    if (status)
        exit(status);
}

static error_t parse_run(int key, char *argument, struct argp_state *state)
{
    call *c = state->input;
    switch (key) {
    case KEY_DTYPE:
        if (!element_from_name(argument, &c->dtype))
            argp_error(state, "--dtype: '%s' is none of fp64, fp32, bf16, fp16",
                       argument);
        c->has_dtype = true;
        return 0;
    case KEY_THREADS:
        set_threads((int32_t)options_integer(state, "--threads", argument, INT32_MIN,
                                             INT32_MAX));
        return 0;
    case KEY_JSON:
        c->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_plan(int key, char *argument, struct argp_state *state)
{
    call *c = state->input;
    switch (key) {
    case KEY_BACKEND:
        c->backend = parse_backend(state, argument);
        return 0;
    case KEY_EXPLAIN:
        c->explain = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp options_run = {run_table, parse_run, NULL, NULL, NULL, NULL, NULL};
const struct argp options_plan = {plan_table, parse_plan, NULL, NULL, NULL, NULL, NULL};
const struct argp options_device = {device_table, parse_device, NULL, NULL,
                                    NULL,         NULL,         NULL};
const struct argp options_cpu = {cpu_table, parse_cpu, NULL, NULL, NULL, NULL, NULL};

void options_share(struct argp_state *state, const struct argp_child *tables, call *c)
{
    for (size_t i = 0; tables[i].argp; i++)
        state->child_inputs[i] = c;
}

error_t options_parse(int key, char *argument, struct argp_state *state)
{
    call *c = state->input;
    if (key >= KEY_ROLE && key < KEY_ROLE + ROLES) {
        c->path[key - KEY_ROLE] = argument;
        return 0;
    }
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->given == c->positionals)
            argp_error(state, "'%s': too many files", argument);
        c->path[c->positional[c->given++]] = argument;
        return 0;
    case ARGP_KEY_END:
        if (c->given < c->positionals)
            argp_error(state, "the file of %s is missing",
                       role_name(c->positional[c->given]));
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}
