/* SPDX-License-Identifier: MIT
 *
 * What the array commands (forward, backward, qk, av, merge) have in common: options
 * per axis, arrays by role, and the steps from the command line to written files. */
#ifndef NATTEN_COMMAND_OPTIONS_H
#define NATTEN_COMMAND_OPTIONS_H

#include "command.h"
#include "npy.h"
#include "output.h"

/* The arrays that the commands read and write, in the words of natten.h. */
typedef enum role {
    ROLE_QUERY,
    ROLE_KEY,
    ROLE_VALUE,
    ROLE_BIAS,
    ROLE_ADDITIONAL_KEYS,
    ROLE_ADDITIONAL_VALUES,
    ROLE_ATTN,
    ROLE_OUT,
    ROLE_LSE,
    ROLE_GRAD_OUT,
    ROLE_GRAD_LSE,
    ROLE_GRAD_ATTN,
    ROLE_GRAD_QUERY,
    ROLE_GRAD_KEY,
    ROLE_GRAD_VALUE,
    ROLE_GRAD_BIAS,
    ROLE_GRAD_ADDITIONAL_KEYS,
    ROLE_GRAD_ADDITIONAL_VALUES,
    ROLES
} role;

/* Values of one option, one per axis or one for all. */
typedef struct axis_values {
    int count; /* 0: not given */
    int64_t value[NATTEN_MAX_RANK];
} axis_values;

/* Files that have no role of their own, for the report. */
typedef struct path_list {
    const char *name; /* NULL: the end of the lists */
    const char *const *path;
    int paths;
} path_list;

/* A call being made.  All zeros, then options_defaults(). */
typedef struct call {
    const role
        *positional; /* roles of the arguments that are no options, in order... */
    int positionals; /* ...and how many; */
    int given;       /* how many came */
    const char *path[ROLES];
    npy_array array[ROLES]; /* read or computed */
    axis_values kernel_size, stride, dilation, is_causal;
    axis_values grid_length, query_begin, key_begin;
    bool has_scale, has_dtype, explain, json;
    double scale;
    element dtype;
    int32_t backend;
    bool on_gpu; /* compute on this GPU */
    int32_t gpu;
    bool bits; /* bf16 came, and goes, as uint16 */
    output_set outputs;
    const path_list *lists; /* NULL: none */
} call;

/* Keys of options: roles first, then these. */
enum {
    KEY_ROLE = 0x100,
    KEY_KERNEL_SIZE = KEY_ROLE + ROLES,
    KEY_STRIDE,
    KEY_DILATION,
    KEY_IS_CAUSAL,
    KEY_GRID_LENGTH,
    KEY_QUERY_BEGIN,
    KEY_KEY_BEGIN,
    KEY_SCALE,
    KEY_DTYPE,
    KEY_DEVICE,
    KEY_BACKEND,
    KEY_THREADS,
    KEY_EXPLAIN,
    KEY_JSON,
    KEY_OWN /* the first that a subcommand may use for itself */
};

/* Option tables of argp, for a subcommand's own: what the window looks like; how to
 * run, for all; for what has a plan; for what computes on a GPU too, and for what
 * doesn't and refuses one.  The input of all is the struct call. */
extern const struct argp options_window, options_run, options_plan, options_device,
    options_cpu;
/* Give the call to the tables of a subcommand: at ARGP_KEY_INIT. */
void options_share(struct argp_state *state, const struct argp_child *tables, call *c);
/* Parse positional arguments and options of roles; to be called by a subcommand's
 * parser. */
error_t options_parse(int key, char *argument, struct argp_state *state);

/* Numbers from the command line; a failure ends in argp_error, which exits. */
int64_t options_integer(struct argp_state *state, const char *option, const char *text,
                        int64_t least, int64_t most);
double options_real(struct argp_state *state, const char *option, const char *text);
/* One to three integers, separated by commas. */
void options_axes(struct argp_state *state, const char *option, const char *text,
                  axis_values *values);

/* "grad_query" and "--grad-query": the name of a role, and of the option that gives it.
 */
const char *role_name(role which);
const char *role_option(role which);

#endif
