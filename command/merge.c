/* SPDX-License-Identifier: MIT
 *
 * natten merge: attentions of the same queries over disjoint sets of keys, merged
 * exactly. The files come in pairs, out and lse of each part. */
#include "call.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>

/* The call's arrays hold the results; the parts are as many as were named. */
typedef struct merging {
    call c; /* first, so that the shared parsers find it */
    const char **path;
    int paths;
    npy_array *part; /* as many, out and lse in turn; they never move */
    natten_tensor *outs, *lses;
} merging;

static const struct argp_option table[] = {
    {"out", KEY_ROLE + ROLE_OUT, "O.npy", 0, "where the merged out goes; needed", 0},
    {"lse", KEY_ROLE + ROLE_LSE, "L.npy", 0, "where the merged lse goes", 0},
    {0}};

static error_t parse(int key, char *argument, struct argp_state *state)
{
    merging *m = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &m->c;
        return 0;
    case KEY_ROLE + ROLE_OUT:
    case KEY_ROLE + ROLE_LSE:
        m->c.path[key - KEY_ROLE] = argument;
        return 0;
    case ARGP_KEY_ARG:
        m->path[m->paths++] = argument;
        return 0;
    case ARGP_KEY_END:
        if (m->paths == 0 || m->paths % 2)
            argp_error(state, "%d files: each part is two, its out and its lse",
                       m->paths);
        if (!m->c.path[ROLE_OUT])
            argp_error(state, "--out is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&options_run, 0, NULL, 0}, {0}};
static const struct argp argp = {table,
                                 parse,
                                 "O1.npy L1.npy [O2.npy L2.npy ...] --out O.npy",
                                 "Merge attentions of the same queries over disjoint "
                                 "sets of keys: out and lse of each "
                                 "part in, out and lse of the whole out.",
                                 children,
                                 NULL,
                                 NULL};

/* Read the parts, by way of the call's own slots for out and lse: they know the types.
 */
static int read_parts(merging *m)
{
    call one = m->c;
    for (int i = 0; i < m->paths; i++) {
        role which = i % 2 ? ROLE_LSE : ROLE_OUT;
        one.path[which] = m->path[i];
        int status = call_read(&one, &which, 1);
        if (status)
            return status;
        m->part[i] = one.array[which];
        m->part[i].tensor.shape = m->part[i].shape;
        m->part[i].tensor.strides = m->part[i].strides;
        natten_tensor *list = i % 2 ? m->lses : m->outs;
        list[i / 2] = m->part[i].tensor;
    }
    m->c.bits = one.bits;
    return EXIT_FINE;
}

static int merge(merging *m)
{
    call *c = &m->c;
    int status = call_on_cpu(c, "merge");
    if (!status)
        status = read_parts(m);
    if (status)
        return status;
    /* The results have the shapes of the first part; query stands in for it. */
    c->array[ROLE_QUERY] = m->part[0];
    int ndim = m->part[0].tensor.ndim;
    if (ndim < 4 || ndim > 3 + NATTEN_MAX_RANK)
        status = command_fail(EXIT_USAGE, "%s: %d dimensions, but out has 4 to 6",
                              m->path[0], ndim);
    if (!status)
        status = call_output(c, ROLE_OUT, ROLE_QUERY, LAST_KEEP);
    if (!status)
        status = call_output(c, ROLE_LSE, ROLE_QUERY, LAST_DROP);
    memset(&c->array[ROLE_QUERY], 0, sizeof c->array[ROLE_QUERY]);
    progress_wait("merge");
    double begin = call_clock();
    if (!status)
        status = command_check(natten_merge(m->paths / 2, m->outs, m->lses,
                                            call_tensor(c, ROLE_OUT),
                                            call_tensor(c, ROLE_LSE), NULL));
    return status ? status : call_finish(c, "merge", call_clock() - begin);
}

int command_merge(int argc, char **argv)
{
    merging m = {.c = {.given = 0}};
    size_t most = (size_t)argc;
    m.path = calloc(most, sizeof *m.path);
    m.part = calloc(most, sizeof *m.part);
    m.outs = calloc(most, sizeof *m.outs);
    m.lses = calloc(most, sizeof *m.lses);
    int status = EXIT_IO;
    if (m.path && m.part && m.outs && m.lses) {
        argp_parse(&argp, argc, argv, 0, NULL, &m);
        status = merge(&m);
        for (int i = 0; i < m.paths; i++)
            npy_free(&m.part[i]);
    } else {
        command_fail(EXIT_IO, "out of memory");
    }
    free(m.path);
    free(m.part);
    free(m.outs);
    free(m.lses);
    return call_end(&m.c, status);
}
