/* SPDX-License-Identifier: MIT
 *
 * natten merge: attentions of the same queries over disjoint sets of keys, merged
 * exactly. The files come in pairs, out and lse of each part.  Given the gradient of
 * the merged out, it computes those of the parts too. */
#include "call.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>

/* Arrays of each part. */
typedef enum member { OUTPUTS, LSES, GRAD_OUTPUTS, GRAD_LSES, MEMBERS } member;

static const char *const member_name[MEMBERS] = {"outputs", "lses", "grad_outputs",
                                                 "grad_lses"};
static const char *const member_option[MEMBERS] = {
    [GRAD_OUTPUTS] = "--grad-outputs", [GRAD_LSES] = "--grad-lses"};

/* The arrays of one kind. As many paths were named; the arrays never move. */
typedef struct members {
    const char **path;
    int paths;
    npy_array *array;
    natten_tensor *tensor;
} members;

/* The call's arrays hold what belongs to the whole. */
typedef struct merging {
    call c; /* first, so that the shared parsers find it */
    int parts;
    members of[MEMBERS];
    path_list lists[MEMBERS + 1]; /* their paths, for the report */
} merging;

enum { KEY_GRAD_OUTPUTS = KEY_OWN, KEY_GRAD_LSES };

static const struct argp_option table[] = {
    {"out", KEY_ROLE + ROLE_OUT, "O.npy", 0,
     "where the merged out goes; needed, but for gradients", 0},
    {"lse", KEY_ROLE + ROLE_LSE, "L.npy", 0, "where the merged lse goes", 0},
    {"grad-out", KEY_ROLE + ROLE_GRAD_OUT, "G.npy", 0,
     "gradient of the merged out: compute those of the parts", 1},
    {"grad-lse", KEY_ROLE + ROLE_GRAD_LSE, "GL.npy", 0,
     "gradient of the merged lse [0]", 1},
    {"grad-outputs", KEY_GRAD_OUTPUTS, "DO1.npy", 0,
     "where that of a part's out goes; once for each part, in their order", 1},
    {"grad-lses", KEY_GRAD_LSES, "DL1.npy", 0,
     "where that of a part's lse goes; once for each part, in their order", 1},
    {0}};

static bool is_backward(const merging *m)
{
    return m->c.path[ROLE_GRAD_OUT] != NULL;
}

/* The gradients asked for fit with the parts and with what is given. */
static void check_gradients(const struct argp_state *state, const merging *m)
{
    int wanted = m->of[GRAD_OUTPUTS].paths + m->of[GRAD_LSES].paths;
    if (!is_backward(m) && (wanted || m->c.path[ROLE_GRAD_LSE]))
        argp_error(state, "--grad-out is missing: gradients need it");
    if (is_backward(m) && !wanted)
        argp_error(state, "--grad-out: no gradient is asked for");
    for (member which = GRAD_OUTPUTS; which <= GRAD_LSES; which++)
        if (m->of[which].paths && m->of[which].paths != m->parts)
            argp_error(state, "%s: %d files for %d parts", member_option[which],
                       m->of[which].paths, m->parts);
}

static void add_path(merging *m, member which, const char *path)
{
    m->of[which].path[m->of[which].paths++] = path;
}

/* There is one way to merge, and nothing to plan. */
static const struct argp_child children[] = {
    {&options_run, 0, NULL, 0}, {&options_cpu, 0, NULL, 0}, {0}};

static error_t parse(int key, char *argument, struct argp_state *state)
{
    merging *m = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        options_share(state, children, &m->c);
        return 0;
    case KEY_ROLE + ROLE_OUT:
    case KEY_ROLE + ROLE_LSE:
    case KEY_ROLE + ROLE_GRAD_OUT:
    case KEY_ROLE + ROLE_GRAD_LSE:
        m->c.path[key - KEY_ROLE] = argument;
        return 0;
    case KEY_GRAD_OUTPUTS:
        add_path(m, GRAD_OUTPUTS, argument);
        return 0;
    case KEY_GRAD_LSES:
        add_path(m, GRAD_LSES, argument);
        return 0;
    case ARGP_KEY_ARG:
        add_path(m, state->arg_num % 2 ? LSES : OUTPUTS, argument);
        return 0;
    case ARGP_KEY_END:
        m->parts = m->of[OUTPUTS].paths;
        if (m->parts == 0 || m->of[LSES].paths != m->parts)
            argp_error(state, "%u files: each part is two, its out and its lse",
                       state->arg_num);
        if (!m->c.path[ROLE_OUT] && !is_backward(m))
            argp_error(state, "--out is missing");
        check_gradients(state, m);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    table,
    parse,
    "O1.npy L1.npy [O2.npy L2.npy ...] --out O.npy\n"
    "O1.npy L1.npy [O2.npy L2.npy ...] --grad-out G.npy",
    "Merge attentions of the same queries over disjoint sets of keys: out and lse of "
    "each part in, out and lse of the whole out.\v"
    "Given the gradient of the merged out, the gradients of the parts are computed "
    "too.",
    children,
    NULL,
    NULL};

/* Make the array that `from` describes a member of part n. */
static void keep(members *list, int n, const npy_array *from)
{
    npy_array *array = &list->array[n];
    *array = *from;
    array->tensor.shape = array->shape;
    array->tensor.strides = array->strides;
    list->tensor[n] = array->tensor;
}

/* Read the parts, by way of the call's own slots for out and lse: they know the types.
 */
static int read_parts(merging *m)
{
    static const role roles[] = {[OUTPUTS] = ROLE_OUT, [LSES] = ROLE_LSE};
    call one = m->c;
    for (int n = 0; n < m->parts; n++)
        for (member which = OUTPUTS; which <= LSES; which++) {
            role r = roles[which];
            one.path[r] = m->of[which].path[n];
            int status = call_read(&one, &r, 1);
            if (status) { /* it may have been read before it was refused */
                npy_free(&one.array[r]);
                return status;
            }
            keep(&m->of[which], n, &one.array[r]);
        }
    m->c.bits = one.bits;
    return EXIT_FINE;
}

/* Room for the gradients of the parts, and for the files of those that are wanted. */
static int make_gradients(merging *m)
{
    for (int n = 0; n < m->parts; n++)
        for (member which = GRAD_OUTPUTS; which <= GRAD_LSES; which++) {
            const npy_array *like =
                &m->of[which == GRAD_OUTPUTS ? OUTPUTS : LSES].array[n];
            npy_array made = {.count = 0};
            int status = npy_allocate(&made, like->kind, like->tensor.ndim, like->shape,
                                      member_option[which]);
            if (status)
                return status;
            keep(&m->of[which], n, &made);
            if (!m->of[which].paths)
                continue;
            output *added;
            status = output_add(&m->c.outputs, member_option[which],
                                m->of[which].path[n], &added);
            if (status)
                return status;
            added->array = &m->of[which].array[n];
        }
    return EXIT_FINE;
}

static int read_all(merging *m)
{
    static const role gradients[] = {ROLE_GRAD_OUT, ROLE_GRAD_LSE};
    call *c = &m->c;
    int status = call_read(c, gradients, 2);
    if (!status)
        status = read_parts(m);
    if (status)
        return status;
    int ndim = m->of[OUTPUTS].tensor[0].ndim;
    if (ndim < 4 || ndim > 3 + NATTEN_MAX_RANK)
        return command_fail(EXIT_USAGE, "%s: %d dimensions, but out has 4 to 6",
                            m->of[OUTPUTS].path[0], ndim);
    /* The results have the shapes of the first part; query stands in for it. */
    c->array[ROLE_QUERY] = m->of[OUTPUTS].array[0];
    status = call_output(c, ROLE_OUT, ROLE_QUERY, LAST_KEEP);
    if (!status)
        status = call_output(c, ROLE_LSE, ROLE_QUERY, LAST_DROP);
    memset(&c->array[ROLE_QUERY], 0, sizeof c->array[ROLE_QUERY]);
    return status || !is_backward(m) ? status : make_gradients(m);
}

static int merge(merging *m)
{
    call *c = &m->c;
    members *of = m->of;
    int status = read_all(m);
    if (status)
        return status;
    progress_wait("merge");
    double begin = call_clock();
    natten_tensor *out = call_tensor(c, ROLE_OUT), *lse = call_tensor(c, ROLE_LSE);
    status = command_check(
        natten_merge(m->parts, of[OUTPUTS].tensor, of[LSES].tensor, out, lse, NULL));
    if (!status && is_backward(m)) {
        status = command_check(natten_merge_backward(
            m->parts, of[OUTPUTS].tensor, of[LSES].tensor, out, lse,
            call_tensor(c, ROLE_GRAD_OUT), call_tensor(c, ROLE_GRAD_LSE),
            of[GRAD_OUTPUTS].tensor, of[GRAD_LSES].tensor, NULL));
    }
    double seconds = call_clock() - begin;
    for (member which = OUTPUTS; which < MEMBERS; which++)
        m->lists[which] =
            (path_list){member_name[which], of[which].path, of[which].paths};
    c->lists = m->lists;
    return status
               ? status
               : call_finish(c, is_backward(m) ? "merge_backward" : "merge", seconds);
}

int command_merge(int argc, char **argv)
{
    merging m = {.c = {.given = 0}};
    size_t most = (size_t)argc;
    bool room = true;
    for (member which = OUTPUTS; which < MEMBERS; which++) {
        members *list = &m.of[which];
        list->path = calloc(most, sizeof *list->path);
        list->array = calloc(most, sizeof *list->array);
        list->tensor = calloc(most, sizeof *list->tensor);
        room = room && list->path && list->array && list->tensor;
    }
    int status = EXIT_IO;
    if (room) {
        argp_parse(&argp, argc, argv, 0, NULL, &m);
        status = merge(&m);
    } else {
        command_fail(EXIT_IO, "out of memory");
    }
    for (member which = OUTPUTS; which < MEMBERS; which++) {
        members *list = &m.of[which];
        for (int n = 0; list->array && n < m.parts; n++)
            npy_free(&list->array[n]);
        free(list->path);
        free(list->array);
        free(list->tensor);
    }
    return call_end(&m.c, status);
}
