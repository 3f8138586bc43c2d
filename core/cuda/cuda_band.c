/* SPDX-License-Identifier: MIT
 *
 * Planning for the kernels that go down bands of a grid, see cuda_band.h. */
#include "cuda/cuda_band.h"

#include "cuda/cuda_count.h"
#include "cuda/cuda_halo.h"
#include "cuda/cuda_image.h"

#include <math.h>

enum {
    SIDE = NATTEN_CUDA_BAND_SIDE,
    STRIP = NATTEN_CUDA_BAND_STRIP,
    ROW = NATTEN_CUDA_BAND_DIMS
};
/* Longer axes are left to others: all tokens are looked at. */
enum { MOST_TOKENS = 1 << 16 };
/* Items: numbers of those after the last must fit 32 bits, too. */
enum { MOST_ITEMS = INT32_MAX - (1 << 16) };

const natten_cuda_band_shape natten_cuda_band_shapes[NATTEN_CUDA_BAND_PASSES] = {
#define BAND(pass, tensors, groups, crews, many, few) \
    [NATTEN_CUDA_BAND_##pass] = {tensors, groups, crews},
#include "cuda/band_shapes.def"
#undef BAND
};

/* Clocks of a multiprocessor whose crews all work: for an item, for a step and each
 * strip of a group of its four subtiles, and what a step takes at least, for its rows
 * have to come.  Fitted to an H200 (bench/results/2026-12-01-h200-bands.md and
 * -delta.md), in the units of cuda_halo.c where both are about as fast.  A step of the
 * pass of queries counts 700 less, for the pass of delta that it mostly spares. */
typedef struct cost {
    double item, step, strip, least;
} cost;
static const cost cost_of[NATTEN_CUDA_BAND_PASSES] = {
    [NATTEN_CUDA_BAND_FORWARD] = {2500, 1675, 515, 4500},
    [NATTEN_CUDA_BAND_GRAD_QUERY] = {1900, 1010, 596, 4025},
    [NATTEN_CUDA_BAND_GRAD_TOKENS] = {1000, 650, 894, 4750},
};
/* Steps that an item's first groups take, where bands are cut. */
static const double item_steps = 1;
/* Of the time of the block that takes longest: where cutting spared less, single calls
 * of 56x56 w7x7 took longer (bench/results/2026-12-01-h200-bands-backward.md). */
static const double worth_cutting = 0.97;
/* Steps that a block is worth; and whole items, with which it does not matter how the
 * rest is shared out. */
enum { LEAST_STEPS = 4, MOST_ROUNDS = 16 };

static int32_t divide_up(int32_t a, int32_t b)
{
    return a / b + (a % b != 0);
}

static bool is_of_keys(natten_cuda_band_pass pass)
{
    return pass == NATTEN_CUDA_BAND_GRAD_TOKENS;
}

static natten_span rows_of(const natten_class *c, bool of_keys)
{
    return of_keys ? c->keys : c->queries;
}

/* What the rows first .. end - 1 see, the first at least. */
static natten_span seen_by(const natten_class *c, bool of_keys, int32_t first,
                           int32_t end)
{
    natten_span s = natten_cuda_count_partners(c, of_keys, first);
    s.end = natten_cuda_count_partners(c, of_keys, end - 1).end;
    return s;
}

/* ---- across ---- */

/* Bands of an axis and the strips of all their subtiles, all classes together; bands of
 * the longest. */
typedef struct bands {
    int64_t bands, strips;
    int32_t longest;
} bands;

/* False if strips don't hold what a subtile of a class sees, or a group not all that a
 * band does. */
static bool count_class(const natten_class *c, bool of_keys, bands *all)
{
    natten_span rows = rows_of(c, of_keys);
    int32_t own = natten_cuda_band_count(rows.end - rows.begin);
    for (int32_t band = 0; band < own; band++) {
        natten_span columns = natten_cuda_band_columns(rows.end - rows.begin, band);
        int32_t end = rows.begin + columns.end, begin = rows.begin + columns.begin,
                left = natten_cuda_count_partners(c, of_keys, begin).begin;
        for (int32_t first = begin; first < end; first += SIDE) {
            natten_span s = seen_by(c, of_keys, first, natten_min(first + SIDE, end));
            int32_t width = natten_max(0, s.end - s.begin),
                    strips = of_keys ? natten_max(1, divide_up(width, STRIP)) : 2;
            if (width > strips * STRIP || strips > NATTEN_CUDA_BAND_STRIPS ||
                s.begin - left + strips * STRIP > NATTEN_CUDA_BAND_PITCH)
                return false;
            all->strips += strips;
        }
    }
    all->bands += own;
    all->longest = natten_max(all->longest, own);
    return true;
}

static bool count_bands(const natten_axis *axis, bool of_keys, bands *all)
{
    *all = (bands){0};
    for (int32_t residue = 0; residue < axis->dilation; residue++) {
        natten_class c = natten_axis_class(axis, residue);
        if (!count_class(&c, of_keys, all))
            return false;
    }
    return all->bands > 0;
}

/* What a step of a class's first band weighs, in units of the clocks of one that sees
 * as little as can be. */
static int32_t weigh_border(const natten_axis *axis, bool of_keys,
                            natten_cuda_band_pass pass)
{
    enum { GROUPS = 4, LEAST = 2 }; /* as in windows of 13, and strips of a subtile */
    const natten_class c = natten_axis_class(axis, 0);
    const natten_span rows = rows_of(&c, of_keys);
    const cost *own = &cost_of[pass];
    double all = own->step * NATTEN_CUDA_BAND_WARPS, least = all;
    for (int32_t i = 0; i < NATTEN_CUDA_BAND_WARPS; i++) {
        const int32_t first = natten_min(rows.begin + i * SIDE, rows.end - 1);
        const natten_span s =
            seen_by(&c, of_keys, first, natten_min(first + SIDE, rows.end));
        all += own->strip * GROUPS *
               (of_keys ? natten_max(LEAST, divide_up(s.end - s.begin, STRIP)) : LEAST);
        least += own->strip * GROUPS * LEAST;
    }
    return (int32_t)(NATTEN_CUDA_BAND_WEIGHT * all / least + 0.5);
}

/* ---- down ---- */

typedef struct rows {
    int64_t steps, groups; /* of all classes */
    int32_t longest;       /* steps of a class */
} rows;

/* Steps of an axis and the groups that they meet, where groups begin a `lead` before a
 * multiple of 4; false if some step meets more than a block keeps. */
static bool count_rows(const natten_axis *axis, bool of_keys, int32_t lead,
                       int32_t kept, rows *all)
{
    *all = (rows){0};
    for (int32_t residue = 0; residue < axis->dilation; residue++) {
        natten_class c = natten_axis_class(axis, residue);
        natten_span own = rows_of(&c, of_keys), partners = rows_of(&c, !of_keys);
        for (int32_t first = own.begin; first < own.end; first += SIDE) {
            natten_span s =
                seen_by(&c, of_keys, first, natten_min(first + SIDE, own.end));
            int32_t begin = s.begin - partners.begin + lead,
                    end = s.end - partners.begin + lead;
            int32_t groups = divide_up(natten_max(end, begin), SIDE) - begin / SIDE;
            if (groups > kept)
                return false;
            all->groups += end > begin ? groups : 0;
        }
        int32_t steps = divide_up(own.end - own.begin, SIDE);
        all->steps += steps;
        all->longest = natten_max(all->longest, steps);
    }
    return true;
}

/* The lead with which they are fewest. */
static bool choose_lead(const natten_axis *axis, bool of_keys, int32_t kept,
                        int32_t *lead, rows *best)
{
    bool found = false;
    for (int32_t i = 0; i < SIDE; i++) {
        rows own;
        if (!count_rows(axis, of_keys, i, kept, &own) ||
            (found && own.groups >= best->groups))
            continue;
        *best = own, *lead = i;
        found = true;
    }
    return found;
}

/* ---- the task ---- */

/* Features that other kernels have. */
static bool is_simple(const natten_task *task, const natten_gpu *gpu,
                      natten_cuda_band_pass pass)
{
    for (int a = 0; a < 3; a++)
        if (task->axis[a].length > MOST_TOKENS || task->axis[a].query_count == 0 ||
            task->axis[a].key_count == 0)
            return false;
    return gpu->arch == 90 && natten_cuda_image_has_wgmma() && !task->by_rows &&
           (task->dtype == NATTEN_BF16 || task->dtype == NATTEN_FP16) &&
           (task->operation == NATTEN_FORWARD || task->operation == NATTEN_BACKWARD) &&
           task->axis[0].length == 1 && task->dim == ROW && task->dim_v == ROW &&
           task->view[NATTEN_BIAS].data == NULL && task->extras == 0 &&
           task->scale > 0x1p-30 && task->scale < 0x1p30 && task->batch > 0 &&
           (!is_of_keys(pass) || task->heads == task->heads_kv);
}

/* How far rows and columns of a class are apart in what a pass writes; false if that
 * does not fit 32 bits for all of a step. */
static bool find_steps(const natten_task *task, natten_cuda_band_pass pass,
                       natten_cuda_band *b)
{
    enum { MOST_STEP = INT32_MAX / (SIDE + NATTEN_CUDA_BAND_COLUMNS) };
    static const natten_role roles[NATTEN_CUDA_BAND_PASSES][2] = {
        {NATTEN_OUT, NATTEN_LSE},
        {NATTEN_GRAD_QUERY, NATTEN_ROLES}, /* statistics */
        {NATTEN_GRAD_KEY, NATTEN_GRAD_VALUE}};
    const natten_view stats = {
        .axis = {0, task->heads * task->axis[2].query_count, task->heads}};
    for (int n = 0; n < 2; n++)
        for (int a = 0; a < 2; a++) {
            natten_role role = roles[pass][n];
            bool is_stats = role == NATTEN_ROLES;
            const natten_view *view = is_stats ? &stats : &task->view[role];
            int64_t bytes = is_stats ? 8 : role == NATTEN_LSE ? 4 : 2, step;
            const natten_axis *axis = &task->axis[1 + a];
            if (natten_max(axis->query_count, axis->key_count) <= axis->dilation)
                continue; /* a class has one token, and a stride no meaning */
            if (__builtin_mul_overflow(view->axis[1 + a],
                                       bytes * task->axis[1 + a].dilation, &step) ||
                step > MOST_STEP || step < -MOST_STEP)
                return false;
            b->step[n][a] = (int32_t)step;
        }
    return true;
}

bool natten_cuda_band_plan(const natten_task *task, const natten_gpu *gpu,
                           natten_cuda_band_pass pass, natten_cuda_band_fit *fit)
{
    const natten_axis *down = &task->axis[1], *across = &task->axis[2];
    const natten_cuda_band_shape *shape = &natten_cuda_band_shapes[pass];
    bool of_keys = is_of_keys(pass);
    bands wide;
    rows high;
    *fit = (natten_cuda_band_fit){
        .shared_bytes = natten_cuda_band_bytes(pass, shape->row_tensors, shape->groups,
                                               shape->crews)};
    if (!is_simple(task, gpu, pass) ||
        !natten_cuda_count_kinds(task, fit->short_kind) ||
        !find_steps(task, pass, &fit->band) || !count_bands(across, of_keys, &wide) ||
        !choose_lead(down, of_keys, shape->groups, &fit->band.lead, &high))
        return false;
    fit->band.bands = wide.longest;
    fit->band.steps = high.longest;
    fit->band.border = weigh_border(across, of_keys, pass);
    fit->band.scale = (float)task->scale;
    fit->band.scale_2 = fit->band.scale * 1.4426950408889634f;
    fit->band.group = (int32_t)(task->heads / task->heads_kv);
    const cost *own = &cost_of[pass];
    const double steps = (double)wide.bands * (double)high.steps,
                 strips = (double)wide.strips * (double)high.groups;
    fit->slots = strips * (SIDE * STRIP) * (SIDE * SIDE);
    fit->clocks = fmax(steps * own->step + strips / NATTEN_CUDA_BAND_WARPS * own->strip,
                       steps * own->least) +
                  (double)wide.bands * down->dilation * own->item;
    const int64_t positions = wide.bands * down->dilation;
    if (positions > MOST_ITEMS)
        return false;
    fit->clocks = natten_cuda_count_clocks(
        fit->clocks, (int32_t)positions, (double)task->batch * (double)task->heads, 1);
    return true;
}

/* What a block's items before `end` weigh, if none of them is cut. By adding, for this
 * is asked in each call. */
static int64_t weight_of(const natten_cuda_band *b, int32_t blocks, int32_t block,
                         int32_t end)
{
    const int32_t further = blocks % b->bands;
    int32_t own = block % b->bands;
    int64_t all = 0;
    for (int64_t item = block; item < end; item += blocks) {
        const bool is_border = own == 0 || own == b->bands - 1;
        all += is_border ? b->border : NATTEN_CUDA_BAND_WEIGHT;
        own += further;
        own -= own < b->bands ? 0 : b->bands;
    }
    return all * b->steps;
}

/* What the block takes that has most, where items are not cut. */
static int64_t most_uncut(const natten_cuda_band *b, int32_t blocks)
{
    int64_t most = 0;
    for (int32_t block = 0; block < blocks; block++)
        most = natten_max(most, weight_of(b, blocks, block, b->items));
    return most;
}

/* No block has more whole items than it takes in all: natten_cuda_band_share() does not
 * fall from one to the next. */
static bool is_fair(const natten_cuda_band *b, int32_t blocks)
{
    const int64_t all = natten_cuda_band_weight(b, b->items) * b->steps;
    for (int32_t block = 0; block < blocks; block++)
        if (all * (block + 1) / blocks - all * block / blocks <
            weight_of(b, blocks, block, b->whole))
            return false;
    return true;
}

/* Items that are not cut: all, if that is as fast or there are many; else as many for
 * each block, as many as may be. */
static void share_out(natten_cuda_band *b, int32_t blocks)
{
    const int32_t rounds = b->items / blocks;
    const double least =
        (double)natten_cuda_band_weight(b, b->items) * b->steps / blocks +
        item_steps * NATTEN_CUDA_BAND_WEIGHT;
    b->whole = b->items;
    if (b->steps == 1 || rounds > MOST_ROUNDS ||
        (double)most_uncut(b, blocks) * worth_cutting <= least)
        return;
    for (b->whole = rounds * blocks; b->whole > 0 && !is_fair(b, blocks);)
        b->whole -= blocks;
}

/* All processors, or, where that is as fast, as many for each item: then none has parts
 * of two. */
static int64_t choose_blocks(const natten_cuda_band *b, int32_t processors)
{
    const int64_t all = (int64_t)b->items * b->steps,
                  most =
                      natten_min(natten_max(b->items, all / LEAST_STEPS), processors),
                  each = most / b->items;
    bool is_even = each > 0 && b->border == NATTEN_CUDA_BAND_WEIGHT;
    if (is_even &&
        divide_up(b->steps, (int32_t)each) <= (double)all / (double)most + item_steps)
        return each * b->items;
    return most;
}

bool natten_cuda_band_spread(const natten_task *task, const natten_gpu *gpu,
                             natten_cuda_band_pass pass, natten_cuda_band_fit *fit)
{
    natten_cuda_band *b = &fit->band;
    int64_t all = (int64_t)b->bands * task->axis[1].dilation;
    if (__builtin_mul_overflow(all, task->axis[2].dilation, &all) ||
        __builtin_mul_overflow(all, is_of_keys(pass) ? task->heads_kv : task->heads,
                               &all) ||
        __builtin_mul_overflow(all, task->batch, &all) || all > MOST_ITEMS)
        return false;
    b->items = (int32_t)all;
    fit->blocks = choose_blocks(b, gpu->processors);
    share_out(b, (int32_t)fit->blocks);
    return b->items > 0;
}
