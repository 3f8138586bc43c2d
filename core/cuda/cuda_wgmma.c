/* SPDX-License-Identifier: MIT
 *
 * Planning for the kernels of warpgroups.  The boxes of partners that a tile of rows
 * takes, and those of them that need no masks, are products over the axes, so they are
 * counted on each axis alone, and all shapes are tried: tiles of as many rows as there
 * can be, boxes as full as can be. */
#include "cuda/cuda_wgmma.h"

#include "cuda/cuda_count.h"
#include "cuda/cuda_halo.h"
#include "cuda/cuda_image.h"

#include <string.h>

/* Powers of two that tiles have on an axis: 1 .. 64 rows; and the longest side of a
 * box. */
enum { POWERS = 7, MOST_SIDE = NATTEN_CUDA_WGMMA_COLUMNS };
/* Items: numbers of those after the last must fit 32 bits, too, for all crews of a GPU.
 */
enum { MOST_ITEMS = INT32_MAX - (1 << 16) };
/* Columns of masks that a product takes at once. */
enum { HOT = 16 };

#define WGMMA(pass, tensors, columns, crews, first, second, many, few) \
    _Static_assert((columns) <= MOST_SIDE, "sides that are counted");
#include "cuda/wgmma_shapes.def"
#undef WGMMA

const natten_cuda_wgmma_shape natten_cuda_wgmma_shapes[NATTEN_CUDA_WGMMA_PASSES] = {
#define WGMMA(pass, tensors, columns, crews, first, second, many, few) \
    [NATTEN_CUDA_WGMMA_##pass] = {tensors, columns, crews, {first, second}},
#include "cuda/wgmma_shapes.def"
#undef WGMMA
};

/* What a pass costs: clocks of a multiprocessor whose crews all work, for finding a
 * tile's place and writing its results; for a step; besides, for one that needs masks,
 * and for one that needs more of them than two products bring.  Fitted to an H200
 * (bench/results/2026-11-30-h200.md); of forward and grad_query 1.3 times as many, for
 * so much too many are what cuda_halo.c counts where windows are about as large as
 * these kernels begin to be faster.  Since then items cost less
 * (bench/results/2026-11-30-h200-bringers.md) and steps of 88 partners as much (tokens)
 * or more (forward a twelfth, of queries an eighth, which count) than those of 80
 * (bench/results/2026-12-01-h200-three-axes.md, -gradients.md); the rest is not fitted
 * yet. */
typedef struct cost {
    double open_clocks, step_clocks, masked_clocks, deep_clocks;
} cost;
enum { FEW_HOT_STEPS = 2 };

static const cost cost_of[NATTEN_CUDA_WGMMA_PASSES] = {
    [NATTEN_CUDA_WGMMA_FORWARD] = {2340, 980, 190, 520},
    [NATTEN_CUDA_WGMMA_GRAD_QUERY] = {3600, 1100, 110, 520},
    [NATTEN_CUDA_WGMMA_GRAD_TOKENS] = {3800, 1225, 100, 400},
};

static int32_t divide_up(int32_t a, int32_t b)
{
    return a / b + (a % b != 0);
}

static bool is_of_keys(natten_cuda_wgmma_pass pass)
{
    return pass == NATTEN_CUDA_WGMMA_GRAD_TOKENS;
}

/* ---- counting on an axis ---- */

/* Of tiles of one extent, sums over all tiles and classes; boxes by their side. */
typedef struct counts {
    bool known;
    double tiles;
    double steps[MOST_SIDE + 1], full[MOST_SIDE + 1]; /* without masks */
} counts;

typedef struct search {
    const natten_task *task;
    const natten_cuda_wgmma_shape *kernel;
    const cost *cost;
    bool of_keys;
    /* Of shapes that cost the same the last, whose tiles are shortest along the last
     * axis.  Forward, a crew's items are as many tiles apart as there are crews, which
     * in a short row of tiles may be borders again and again: of 16x32x32 tokens, tiles
     * of 8 x 2 x 4 give some crews 9 % more steps than the mean, 8 x 4 x 2 2 %. */
    bool prefers_last;
    double group;                 /* heads whose partners a tile meets */
    int32_t rows[3], partners[3]; /* of the longest class */
    counts count[3][POWERS];      /* by exponents of two */
    natten_cuda_wgmma_fit best;
} search;

static void count_tile(const search *s, int a, const natten_cuda_count_tile *tile,
                       counts *to)
{
    natten_span first =
                    natten_cuda_count_partners(&tile->of, s->of_keys, tile->rows.begin),
                last = natten_cuda_count_partners(&tile->of, s->of_keys,
                                                  tile->rows.end - 1);
    natten_span all = {first.begin, last.end}, every = {last.begin, first.end};
    to->tiles += tile->weight;
    for (int32_t side = 1; side <= natten_min(s->partners[a], MOST_SIDE); side++) {
        to->steps[side] +=
            tile->weight * natten_cuda_count_meeting(all, all.begin, side);
        to->full[side] +=
            tile->weight * natten_cuda_count_inside(every, all.begin, side);
    }
}

static const counts *count_axis(search *s, int a, int power)
{
    counts *to = &s->count[a][power];
    natten_cuda_count_tile tiles[NATTEN_CUDA_COUNT_TILES];
    if (to->known)
        return to;
    int looks =
        natten_cuda_count_tiles(&s->task->axis[a], s->of_keys, 1 << power, tiles);
    for (int i = 0; i < looks; i++)
        count_tile(s, a, &tiles[i], to);
    to->known = true;
    return to;
}

/* ---- shapes ---- */

/* A column of masks for each place of a box along an axis that has several, one in any
 * case, and one for what a box lacks. */
static void find_hot(natten_cuda_wgmma *w, int32_t places)
{
    int32_t columns = 0;
    for (int a = 0; a < 3; a++) {
        bool has_any = w->box[a] > 1 || (a == 2 && columns == 0);
        w->first_hot[a] = has_any ? columns : -1;
        columns += has_any ? w->box[a] : 0;
    }
    w->hot_always = w->box[0] * w->box[1] * w->box[2] < places ? columns++ : -1;
    w->hot_steps = divide_up(columns, HOT);
}

static void try_shape(search *s, const int power[3], const int32_t box[3])
{
    double tiles = 1, steps = 1, full = 1;
    for (int a = 0; a < 3; a++) {
        const counts *own = count_axis(s, a, power[a]);
        tiles *= own->tiles;
        steps *= own->steps[box[a]];
        full *= own->full[box[a]];
    }
    if (box[0] * box[1] * box[2] < s->kernel->columns)
        full = 0;
    natten_cuda_wgmma w = {.box = {box[0], box[1], box[2]}};
    find_hot(&w, s->kernel->columns);
    double masked = s->cost->masked_clocks;
    if (w.hot_steps > FEW_HOT_STEPS)
        masked += s->cost->deep_clocks;
    double clocks = tiles * s->cost->open_clocks +
                    s->group * (steps * s->cost->step_clocks + (steps - full) * masked);
    if (s->best.clocks > 0 &&
        (clocks > s->best.clocks || (clocks == s->best.clocks && !s->prefers_last)))
        return;
    s->best.clocks = clocks;
    s->best.slots = steps * NATTEN_CUDA_WGMMA_ROWS * s->kernel->columns;
    s->best.full = full;
    for (int a = 0; a < 3; a++) {
        s->best.wgmma.tile[a] = 1 << power[a];
        s->best.wgmma.box[a] = box[a];
        s->best.wgmma.tiles[a] = divide_up(s->rows[a], 1 << power[a]);
    }
}

/* Is a box as full as can be: four fifths, or no side can be longer? */
static bool is_full(const search *s, const int32_t box[3])
{
    int32_t volume = box[0] * box[1] * box[2];
    if (volume * 5 >= s->kernel->columns * 4)
        return true;
    for (int a = 0; a < 3; a++)
        if (box[a] < s->partners[a] &&
            volume / box[a] * (box[a] + 1) <= s->kernel->columns)
            return false;
    return true;
}

/* All boxes, their last side as long as the others and the grid allow. */
static void try_boxes(search *s, const int power[3])
{
    int32_t columns = s->kernel->columns;
    for (int32_t z = 1; z <= natten_min(s->partners[0], columns); z++)
        for (int32_t y = 1; y <= natten_min(s->partners[1], columns / z); y++) {
            const int32_t box[3] = {z, y,
                                    natten_min(s->partners[2], columns / (z * y))};
            if (is_full(s, box))
                try_shape(s, power, box);
        }
}

/* Tiles of 2^power rows. */
static void try_all(search *s, int power)
{
    for (int z = 0; z <= power; z++)
        for (int y = 0; y <= power - z; y++) {
            const int own[3] = {z, y, power - z - y};
            bool sensible = true;
            for (int a = 0; a < 3; a++)
                sensible =
                    sensible && !natten_cuda_count_is_wasteful(own[a], s->rows[a]);
            if (sensible)
                try_boxes(s, own);
        }
}

/* ---- the task ---- */

/* Features that other kernels have. */
static bool is_simple(const natten_task *task, const natten_gpu *gpu)
{
    for (int a = 0; a < 3; a++)
        if (task->axis[a].length > NATTEN_CUDA_MOST_TOKENS ||
            task->axis[a].query_count == 0 || task->axis[a].key_count == 0)
            return false;
    return gpu->arch == 90 && natten_cuda_image_has_wgmma() && !task->by_rows &&
           (task->dtype == NATTEN_BF16 || task->dtype == NATTEN_FP16) &&
           task->dim == NATTEN_CUDA_WGMMA_DIMS &&
           task->dim_v == NATTEN_CUDA_WGMMA_DIMS &&
           task->view[NATTEN_BIAS].data == NULL && task->extras == 0 &&
           task->scale > 0x1p-30 && task->scale < 0x1p30 && task->batch > 0 &&
           (task->operation == NATTEN_FORWARD || task->operation == NATTEN_BACKWARD);
}

static int64_t heads_of(const natten_task *task, natten_cuda_wgmma_pass pass)
{
    return is_of_keys(pass) ? task->heads_kv : task->heads;
}

bool natten_cuda_wgmma_plan(const natten_task *task, const natten_gpu *gpu,
                            natten_cuda_wgmma_pass pass, natten_cuda_wgmma_fit *fit)
{
    if (!is_simple(task, gpu))
        return false;
    search s = {.task = task,
                .kernel = &natten_cuda_wgmma_shapes[pass],
                .cost = &cost_of[pass],
                .of_keys = is_of_keys(pass),
                .prefers_last = pass == NATTEN_CUDA_WGMMA_FORWARD,
                .group = is_of_keys(pass) ? (double)(task->heads / task->heads_kv) : 1};
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task->axis[a];
        int32_t queries = divide_up(axis->query_count, axis->dilation),
                keys = divide_up(axis->key_count, axis->dilation);
        s.rows[a] = s.of_keys ? keys : queries;
        s.partners[a] = s.of_keys ? queries : keys;
    }
    for (int power = POWERS - 1; power >= 0 && s.best.clocks == 0; power--)
        try_all(&s, power);
    *fit = s.best;
    if (!natten_cuda_count_kinds(task, fit->short_kind))
        return false;
    fit->wgmma.group = (int32_t)(task->heads / task->heads_kv);
    find_hot(&fit->wgmma, s.kernel->columns);
    fit->shared_bytes = natten_cuda_wgmma_block_bytes(
        s.kernel->crews,
        natten_cuda_wgmma_crew_bytes(pass, s.kernel->row_tensors, s.kernel->columns,
                                     s.kernel->stages[0] + s.kernel->stages[1]),
        s.kernel->columns);
    if (!natten_cuda_count_positions(task, fit->wgmma.tiles, &fit->wgmma.positions))
        return false;
    fit->clocks = natten_cuda_count_clocks(
        fit->clocks, fit->wgmma.positions,
        (double)task->batch * (double)heads_of(task, pass), s.kernel->crews);
    return true;
}

bool natten_cuda_wgmma_spread(const natten_task *task, const natten_gpu *gpu,
                              natten_cuda_wgmma_pass pass, natten_cuda_wgmma_fit *fit)
{
    int64_t items = heads_of(task, pass);
    if (__builtin_mul_overflow(items, task->batch, &items) ||
        __builtin_mul_overflow(items, fit->wgmma.positions, &items) ||
        items > MOST_ITEMS || items <= 0)
        return false;
    fit->wgmma.items = (int32_t)items;
    fit->blocks = natten_min(fit->wgmma.items, gpu->processors);
    return true;
}
