/* SPDX-License-Identifier: MIT
 *
 * The variants of this build, and from a task to a pass: which tensors are panels,
 * strips and results. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "cpu/cpu_pass.h"

#include "cpu/cpu_tile.h"

#include <stddef.h>

/* ---- variants -------------------------------------------------------------------- */

#define DECLARE(variant)                                               \
    extern const natten_cpu_kernels natten_cpu_kernels_##variant##_32, \
        natten_cpu_kernels_##variant##_64;
#define LIST(variant)                                                          \
    {                                                                          \
        &natten_cpu_kernels_##variant##_32, &natten_cpu_kernels_##variant##_64 \
    }

DECLARE(scalar)
#if defined NATTEN_HAVE_SSE2
DECLARE(sse2)
#endif
#if defined NATTEN_HAVE_NEON
DECLARE(neon)
#endif
#if defined NATTEN_HAVE_AVX2
DECLARE(avx2)
#endif
#if defined NATTEN_HAVE_AVX512
DECLARE(avx512)
#endif

/* [variant][is fp64]; NULL: not in this build. */
static const natten_cpu_kernels *const variants[NATTEN_VARIANTS][2] = {
    [NATTEN_VARIANT_SCALAR] = LIST(scalar),
#if defined NATTEN_HAVE_SSE2
    [NATTEN_VARIANT_BASELINE] = LIST(sse2),
#elif defined NATTEN_HAVE_NEON
    [NATTEN_VARIANT_BASELINE] = LIST(neon),
#endif
#if defined NATTEN_HAVE_AVX2
    [NATTEN_VARIANT_AVX2] = LIST(avx2),
#endif
#if defined NATTEN_HAVE_AVX512
    [NATTEN_VARIANT_AVX512] = LIST(avx512),
#endif
};

const natten_cpu_kernels *natten_cpu_pass_kernels(natten_variant variant,
                                                  natten_dtype accumulator)
{
    return variants[variant][accumulator == NATTEN_FP64];
}

/* ---- passes ---------------------------------------------------------------------- */

/* Lanes that owners along axis a leave idle, as a factor on the work. Decided by the
 * whole grid, as all of the order is, so that a part walks alike. */
static double lanes_per_owner(const natten_axis *x, int lanes)
{
    int64_t n = ((int64_t)x->length + x->dilation - 1) / x->dilation;
    return (double)natten_cpu_padded(n, lanes) / (double)n;
}

/* Lanes lie along the last axis, unless another of three wastes a tenth less of them:
 * its tokens are further apart. A causal axis makes lanes wait for the longest window,
 * a strided one spreads their windows. */
static int choose_lane_axis(const natten_task *task, int lanes)
{
    enum { SHORT = 1 << 20 };
    int best = 2;
    double least = lanes_per_owner(&task->axis[2], lanes) / 1.1;
    for (int a = 1; a >= 0; a--) {
        const natten_axis *x = &task->axis[a];
        if (x->causal || x->stride > 1 || x->length > SHORT ||
            lanes_per_owner(x, lanes) > least)
            continue;
        best = a;
        least = lanes_per_owner(x, lanes) / 1.01;
    }
    return best;
}

/* How many of an axis' owners, side by side, see a partner. */
static double seen_along(const natten_axis *x)
{
    return (double)x->window / x->stride;
}

/* Walking order of the task's axes. Owners are grouped along the first: a grid of two
 * axes walks its rows there, one of three the axis whose owners share most partners.
 * GRAD_EXTRA walks rows of queries as they lie in the tensor. */
static void choose_order(natten_cpu_pass *p, const natten_task *task, int lanes)
{
    int first = 0, second = 1, last = 2;
    if (task->axis[0].length == 1) {
        first = 1;
        second = 0;
    } else if (p->kind != NATTEN_CPU_GRAD_EXTRA) {
        last = choose_lane_axis(task, lanes);
        first = last == 0 ? 1 : 0;
        second = last == 2 ? 1 : 2;
        if (seen_along(&task->axis[second]) > seen_along(&task->axis[first])) {
            int other = first;
            first = second;
            second = other;
        }
    }
    p->order[0] = first;
    p->order[1] = second;
    p->order[2] = last;
}

static natten_view walking(const natten_task *task, natten_role role,
                           const int order[3])
{
    natten_view v = task->view[role];
    for (int a = 0; a < 3; a++)
        v.axis[a] = task->view[role].axis[order[a]];
    return v;
}

/* delta lies compactly, for passes of any order: [b, z, y, x, h]. */
static natten_view delta_view(const natten_cpu_pass *p)
{
    natten_view v = {.head = 1};
    int64_t step = p->task->heads, of_axis[3];
    for (int a = 2; a >= 0; a--) {
        of_axis[a] = step;
        step *= p->task->axis[a].query_count;
    }
    for (int a = 0; a < 3; a++)
        v.axis[a] = of_axis[p->order[a]];
    v.batch = step;
    return v;
}

/* The operands of the products, query's and key's side, with what is scaled. */
typedef struct sides {
    natten_cpu_operand query[2], key[2], extra[2];
} sides;

static sides make_sides(const natten_cpu_pass *p, const int order[3])
{
    const natten_task *t = p->task;
    bool back = p->kind != NATTEN_CPU_FORWARD;
    sides s = {
        .query = {{.dim = t->dim, .factor = 1, .has_row = back},
                  {.dim = t->dim_v, .factor = 1, .has_row = back}},
        .key = {{.dim = t->dim, .factor = 1, .has_row = back},
                {.dim = t->dim_v, .factor = 1, .has_row = back}},
    };
    s.extra[0] = s.key[0];
    s.extra[1] = s.key[1];
    s.query[0].view = walking(t, NATTEN_QUERY, order);
    s.query[1].view = walking(t, NATTEN_GRAD_OUT, order);
    s.key[0].view = walking(t, NATTEN_KEY, order);
    s.key[1].view = walking(t, NATTEN_VALUE, order);
    s.extra[0].view = t->view[NATTEN_ADDITIONAL_KEYS];
    s.extra[1].view = t->view[NATTEN_ADDITIONAL_VALUES];
    if (back) {
        s.query[0].row = p->lse;
        s.query[1].row = p->delta;
    }
    return s;
}

/* Owner's side on the left, and the scale with it: the partner enters the second
 * products unscaled, their sums are scaled at the end. */
static void take_sides(natten_cpu_pass *p, const sides *s)
{
    for (int i = 0; i < 2; i++) {
        p->own[i] = p->kind == NATTEN_CPU_GRAD_EXTRA ? s->extra[i]
                    : p->owner_is_key                ? s->key[i]
                                                     : s->query[i];
        p->other[i] = p->owner_is_key ? s->query[i] : s->key[i];
        p->extra[i] = s->extra[i];
        bool columns = i == 0 || p->kind != NATTEN_CPU_FORWARD;
        bool rows = p->owner_is_key || i == (p->kind == NATTEN_CPU_FORWARD ? 1 : 0);
        p->other[i].as_columns = p->extra[i].as_columns = columns;
        p->other[i].as_rows = p->extra[i].as_rows = rows;
    }
    p->own[0].factor = p->task->scale;
    for (int i = 0; i < 2; i++)
        p->other[i].has_sums = p->kind == NATTEN_CPU_GRAD_ALL;
}

static void take_results(natten_cpu_pass *p, const int order[3])
{
    static const natten_role roles[][2] = {
        [NATTEN_CPU_FORWARD] = {NATTEN_OUT, NATTEN_ROLES},
        [NATTEN_CPU_GRAD_QUERY] = {NATTEN_GRAD_QUERY, NATTEN_ROLES},
        [NATTEN_CPU_GRAD_ALL] = {NATTEN_GRAD_QUERY, NATTEN_ROLES},
        [NATTEN_CPU_GRAD_KEY] = {NATTEN_GRAD_KEY, NATTEN_GRAD_VALUE},
        [NATTEN_CPU_GRAD_EXTRA] = {NATTEN_GRAD_ADDITIONAL_KEYS,
                                   NATTEN_GRAD_ADDITIONAL_VALUES},
    };
    for (int i = 0; i < 2; i++) {
        natten_role role = roles[p->kind][i];
        if (role == NATTEN_ROLES)
            continue;
        p->result[i] = p->kind == NATTEN_CPU_GRAD_EXTRA ? p->task->view[role]
                                                        : walking(p->task, role, order);
        p->wants[i] = p->result[i].data;
        p->result_factor[i] =
            i == 0 && p->kind != NATTEN_CPU_FORWARD ? p->task->scale : 1;
    }
}

enum { MOST_UNIT_ELEMENTS = 1 << 28 };

/* All of it is there; then every key has a query that sees it: its own. */
static bool is_whole(const natten_axis *x)
{
    return x->query_count == x->length && x->key_count == x->length;
}

/* The gradients of keys that items add to, or what holds their sums until they are
 * rounded. */
static void take_shared(natten_cpu_pass *p, const int order[3],
                        const natten_cpu_kernels *kernels)
{
    static const natten_role roles[] = {NATTEN_GRAD_KEY, NATTEN_GRAD_VALUE};
    const natten_task *t = p->task;
    const int64_t dims[] = {t->dim, t->dim_v};
    p->shared_factor[0] = t->scale;
    p->shared_factor[1] = 1;
    p->stores = is_whole(&p->axis[0]) && is_whole(&p->axis[1]) && is_whole(&p->axis[2]);
    for (int i = 0; i < 2; i++) {
        p->shared[i] = walking(t, roles[i], order);
        if (t->dtype == t->accumulator)
            continue;
        p->narrow[i] = p->shared[i];
        natten_view v = {.data = p->narrow[i].data, .item = 1};
        v.axis[2] = natten_cpu_padded(dims[i], kernels->lanes);
        v.axis[1] = v.axis[2] * p->axis[2].key_count;
        v.axis[0] = v.axis[1] * p->axis[1].key_count;
        double elements = (double)v.axis[0] * p->axis[0].key_count;
        p->unit_elements +=
            elements < MOST_UNIT_ELEMENTS ? (int64_t)elements : 1 + MOST_UNIT_ELEMENTS;
        p->shared[i] = v;
    }
}

enum {
    FEW_ITEMS = 16,
    USUAL_L2_BYTES = 512 << 10, /* where the machine does not tell, or must not */
    USUAL_L3_BYTES = 24 << 20,
    MOST_L3_BYTES = 16 << 20 /* of a processor */
};

/* Strips get half of the second level forward, beside scores, sums and what is brought
 * for the next group, and four fifths backward; the tokens of a tile, all heads, half
 * of the last one, however many threads it serves, but no more of it than processors
 * that the process may use would have of a machine of their own: a part of a large one
 * is told of all of it (bench/results/2026-12-01-xeon.md). Backward's are the same on
 * every machine: the order of its sums follows its tiles, and its bits must not follow
 * the core that a process begins on, where cores differ. So does the number of items
 * that keep a machine busy: two for each processor that the process may use, but no
 * more than 16, and 16 backward. It is not that of the threads, which a program may
 * change between asking for the size of the workspace and the call. */
static void read_machine(natten_cpu_pass *p, const natten_machine *machine)
{
    bool backward = p->task->operation == NATTEN_BACKWARD;
    int64_t l2 = machine->l2_bytes, l3 = backward ? 0 : machine->l3_bytes;
    int64_t most_l3 = (int64_t)MOST_L3_BYTES * machine->processors;
    l3 = most_l3 > 0 && most_l3 < l3 ? most_l3 : l3;
    p->near_bytes =
        backward ? USUAL_L2_BYTES / 5 * 4 : (l2 > 0 ? l2 : USUAL_L2_BYTES) / 2;
    p->far_bytes = (l3 > 0 ? l3 : USUAL_L3_BYTES) / 2;
    p->few_items = FEW_ITEMS;
    if (!backward && machine->processors > 0 && machine->processors < FEW_ITEMS / 2)
        p->few_items = 2 * machine->processors;
}

void natten_cpu_pass_make(natten_cpu_pass *p, const natten_task *task,
                          natten_cpu_kind kind, const natten_cpu_kernels *kernels,
                          const natten_machine *machine)
{
    *p = (natten_cpu_pass){.task = task, .kind = kind};
    choose_order(p, task, kernels->lanes);
    const int *order = p->order;
    for (int a = 0; a < 3; a++)
        p->axis[a] = task->axis[order[a]];
    p->owner_is_key = kind == NATTEN_CPU_GRAD_KEY || kind == NATTEN_CPU_GRAD_EXTRA;
    int64_t group = task->heads / task->heads_kv;
    p->heads = p->owner_is_key ? task->heads_kv : task->heads;
    p->share = p->owner_is_key ? 1 : group;
    p->fan = p->owner_is_key ? group : 1;
    p->out = walking(task, NATTEN_OUT, order);
    p->lse = walking(task, NATTEN_LSE, order);
    p->grad_lse = walking(task, NATTEN_GRAD_LSE, order);
    p->delta = delta_view(p);
    p->bias = walking(task, NATTEN_BIAS, order);
    p->sums = walking(task, NATTEN_GRAD_BIAS, order);
    p->sums.data = NULL; /* cpu_job.c knows whether they are wanted, and where */
    if (kind == NATTEN_CPU_GRAD_ALL)
        take_shared(p, order, kernels);
    sides s = make_sides(p, order);
    take_sides(p, &s);
    take_results(p, order);
    read_machine(p, machine);
    natten_cpu_tile_choose(p, kernels);
    p->fits = p->fits && p->unit_elements <= MOST_UNIT_ELEMENTS;
}

void natten_cpu_pass_place(natten_cpu_pass *p, const natten_task *task, void *delta,
                           void *shared)
{
    p->task = task;
    p->delta.data = delta;
    if (p->kind != NATTEN_CPU_FORWARD)
        (p->owner_is_key ? p->other : p->own)[1].row.data = delta;
    int64_t of_keys = p->shared[0].axis[0] * p->axis[0].key_count;
    for (int i = 0; i < 2 && p->unit_elements > 0; i++)
        if (p->narrow[i].data)
            p->shared[i].data = (float *)shared + i * of_keys;
}
