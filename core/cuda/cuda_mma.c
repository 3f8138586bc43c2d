/* SPDX-License-Identifier: MIT
 *
 * Planning for the kernels for large windows.  What a tile of rows and a box of
 * partners cost is a product over the axes: of the boxes that tiles take, that warps do
 * not leave out, and that they need no masks for.  So these are counted on each axis
 * alone, and all shapes are tried: all boxes as full as can be, and for the best tile
 * those that are nearly so.  Length: the counts and what they cost belong together. */
#include "cuda/cuda_mma.h"

#include "cuda/cuda_count.h"
#include "cuda/cuda_halo.h"

#include <math.h>
#include <string.h>

/* Powers of two that tiles have on an axis: 1 .. 128 rows; parts of it, one a group. */
enum { POWERS = 8, PARTS = 4 };
/* Partners that a box may have along an axis. */
static const int8_t sides[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 21, 32, 64};
enum { SIDES = sizeof sides };

const natten_cuda_mma_shape natten_cuda_mma_shapes[NATTEN_CUDA_MMA_SIZES]
                                                  [NATTEN_CUDA_MMA_PASSES]
                                                  [NATTEN_CUDA_MMA_WIDTHS] = {
#define SHAPE(bytes, pass, number, width, tensors, warps, sharing, blocks, columns,   \
              held)                                                                   \
    [(bytes) / 4][NATTEN_CUDA_MMA_##pass][number] = {width,  tensors, warps, sharing, \
                                                     blocks, columns, held},
#include "cuda/mma_shapes.def"
#undef SHAPE
};

/* What a pass costs: products as wide as a row, of a pair of tokens; and clocks of a
 * multiprocessor with as many blocks as it holds: a product of 16 x 8 x 16 numbers,
 * with its share of the softmax; the same that needs masks, besides; a step's copies
 * and barriers; finding a block's place and writing its results.  4-byte types have
 * twice as many products, each of several parts.  Fitted to an H200
 * (bench/results/2026-11-29-h200-mma.md). */
typedef struct cost {
    double products, product_clocks, masked_clocks, step_clocks, open_clocks;
} cost;

typedef enum kind { OF_HALF, OF_FP32, OF_TF32, OF_FP64, KINDS } kind;

static const cost cost_of[KINDS][NATTEN_CUDA_MMA_PASSES + 1] = {
    [OF_HALF] = {[NATTEN_CUDA_MMA_FORWARD] = {2, 2.0, 0.5, 500, 10000},
                 [NATTEN_CUDA_MMA_GRAD_QUERY] = {3, 2.0, 3.0, 430, 10000},
                 [NATTEN_CUDA_MMA_GRAD_TOKENS] = {4, 2.0, 1.0, 430, 10000},
                 [NATTEN_CUDA_MMA_GRAD_ALL] = {5, 2.4, 1.6, 570, 20000},
                 [NATTEN_CUDA_MMA_GRAD_REST] = {3, 2.0, 3.0, 430, 10000}},
    [OF_FP32] = {[NATTEN_CUDA_MMA_FORWARD] = {2, 16.0, 1.0, 600, 20000},
                 [NATTEN_CUDA_MMA_GRAD_QUERY] = {3, 16.0, 3.0, 600, 28000},
                 [NATTEN_CUDA_MMA_GRAD_TOKENS] = {4, 16.0, 3.0, 600, 28000}},
    [OF_TF32] = {[NATTEN_CUDA_MMA_FORWARD] = {2, 11.0, 1.0, 600, 20000},
                 [NATTEN_CUDA_MMA_GRAD_QUERY] = {3, 13.0, 3.0, 600, 28000},
                 [NATTEN_CUDA_MMA_GRAD_TOKENS] = {4, 13.0, 3.0, 600, 28000}},
    [OF_FP64] = {[NATTEN_CUDA_MMA_FORWARD] = {2, 22.0, 5.0, 600, 12000},
                 [NATTEN_CUDA_MMA_GRAD_QUERY] = {3, 22.0, 5.0, 600, 16000},
                 [NATTEN_CUDA_MMA_GRAD_TOKENS] = {4, 22.0, 5.0, 600, 16000}},
};
/* GRAD_ALL where a block has a multiprocessor for itself; where warps share rows, too.
 */
static const cost cost_alone = {5, 2.3, 2.1, 2050, 30000};
static const cost cost_sharing = {5, 2.1, 1.6, 2050, 30000};
/* And of the GPU's memory, where sums in it are cleared, and read to be rounded. */
static const double bytes_per_clock = 1500;

bool natten_cuda_mma_allows_tf32(const natten_task *task)
{
    return task->dtype == NATTEN_FP32 && (task->flags & NATTEN_FLAG_ALLOW_TF32) != 0;
}

static kind kind_of(const natten_task *task)
{
    return task->dtype == NATTEN_FP64          ? OF_FP64
           : task->dtype != NATTEN_FP32        ? OF_HALF
           : natten_cuda_mma_allows_tf32(task) ? OF_TF32
                                               : OF_FP32;
}

static int32_t bytes_of(const natten_task *task)
{
    return (int32_t)natten_dtype_bytes(task->dtype);
}

/* The pass whose kernels do it. */
static natten_cuda_mma_pass kernels_of(natten_cuda_mma_pass pass)
{
    return pass == NATTEN_CUDA_MMA_GRAD_REST ? NATTEN_CUDA_MMA_GRAD_QUERY : pass;
}

/* The narrowest kernel that has room for the rows; NULL if there is none. */
static const natten_cuda_mma_shape *find_shape(const natten_task *task,
                                               natten_cuda_mma_pass pass)
{
    int64_t widest = task->dim > task->dim_v ? task->dim : task->dim_v;
    for (int i = 0; i < NATTEN_CUDA_MMA_WIDTHS; i++) {
        const natten_cuda_mma_shape *shape =
            &natten_cuda_mma_shapes[bytes_of(task) / 4][kernels_of(pass)][i];
        if (shape->width >= widest && shape->width > 0)
            return shape;
    }
    return NULL;
}

/* Warps, or as many as share rows; and the rows of all. */
static int32_t groups_of(const natten_cuda_mma_shape *kernel)
{
    return kernel->warps / kernel->sharing;
}
static int32_t rows_of_tile(const natten_cuda_mma_shape *kernel)
{
    return groups_of(kernel) * kernel->blocks * 16;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

/* ---- places of partners ---- */

static const natten_role partner_roles[2][2] = {{NATTEN_KEY, NATTEN_VALUE},
                                                {NATTEN_QUERY, NATTEN_GRAD_OUT}};
static const natten_role extra_roles[2] = {NATTEN_ADDITIONAL_KEYS,
                                           NATTEN_ADDITIONAL_VALUES};

/* Are a pass's rows keys? */
static bool is_of_keys(natten_cuda_mma_pass pass)
{
    return pass == NATTEN_CUDA_MMA_GRAD_TOKENS || pass == NATTEN_CUDA_MMA_GRAD_ALL;
}

static bool wants(const natten_task *task, natten_role role)
{
    return task->view[role].data != NULL;
}

/* Bytes from one partner to the next along an axis, or from one extra token to the
 * next; 0 where there is no next one: its stride means nothing. */
static int64_t step_of(const natten_task *task, natten_role role, int a)
{
    bool is_extra = role == NATTEN_ADDITIONAL_KEYS || role == NATTEN_ADDITIONAL_VALUES;
    int64_t tokens = !is_extra ? task->axis[a].length : a == 2 ? task->extras : 0;
    int64_t unit = bytes_of(task) * (int64_t)(is_extra ? 1 : task->axis[a].dilation),
            step;
    if (!wants(task, role) || tokens <= 1)
        return 0;
    return __builtin_mul_overflow(task->view[role].axis[a], unit, &step) ? INT64_MAX
                                                                         : step;
}

/* Do the offsets of a box's slots fit 32 bits, in bytes? */
static bool reaches(const natten_task *task, natten_role role, const int32_t box[3])
{
    int64_t sum = 0;
    for (int a = 0; a < 3; a++) {
        int64_t step = step_of(task, role, a);
        if (step > INT32_MAX || step < -INT32_MAX)
            return false;
        sum += (step < 0 ? -step : step) * (box[a] - 1);
    }
    return sum <= INT32_MAX;
}

/* ---- counting on an axis ---- */

/* Of a tile's extent and its groups', and a side of a box, on one axis: sums over all
 * tiles and classes. */
typedef struct counts {
    bool known;
    double tiles;
    double steps, needed, full; /* boxes of tiles; of groups; of them without masks */
} counts;

/* Numbers of powers, of parts and of sides, an axis each. */
typedef struct shape {
    int power[3], part[3], side[3];
} shape;

typedef struct search {
    const natten_task *task;
    const natten_cuda_mma_shape *kernel;
    const cost *cost;
    bool of_keys;
    bool is_rest;    /* nothing of the grid is left to be taken */
    int32_t rows[3]; /* of the longest class */
    counts count[3][POWERS][PARTS][SIDES];
    int8_t box[SIDES * SIDES][3]; /* numbers of sides */
    int boxes;
    shape best_shape;
    natten_cuda_mma_fit best;
} search;

static natten_span partners(const search *s, const natten_cuda_count_tile *tile,
                            int32_t g)
{
    return natten_cuda_count_partners(&tile->of, s->of_keys, g);
}

/* Tiles of 2^power rows, 2^part groups of each, boxes of a side. */
typedef struct cut {
    int power, part, side;
} cut;

/* Add the counts of a tile and its groups. */
static void count_tile(const search *s, cut by, const natten_cuda_count_tile *tile,
                       counts *to)
{
    int32_t side = sides[by.side], rows = 1 << (by.power - by.part);
    int32_t from = tile->rows.begin, end = tile->rows.end;
    int32_t begin = partners(s, tile, from).begin;
    natten_span all = {begin, partners(s, tile, end - 1).end};
    to->tiles += tile->weight;
    to->steps += tile->weight * natten_cuda_count_meeting(all, begin, side);
    for (int32_t first = from; first < end; first += rows) {
        int32_t last = natten_min(first + rows, end) - 1;
        natten_span low = partners(s, tile, first), high = partners(s, tile, last);
        natten_span some = {low.begin, high.end}, every = {high.begin, low.end};
        to->needed += tile->weight * natten_cuda_count_meeting(some, begin, side);
        to->full += tile->weight * natten_cuda_count_inside(every, begin, side);
    }
}

/* All tiles of an axis. */
static const counts *count_axis(search *s, int a, cut by)
{
    counts *to = &s->count[a][by.power][by.part][by.side];
    natten_cuda_count_tile tiles[NATTEN_CUDA_COUNT_TILES];
    if (to->known)
        return to;
    int looks =
        natten_cuda_count_tiles(&s->task->axis[a], s->of_keys, 1 << by.power, tiles);
    for (int i = 0; i < looks; i++)
        count_tile(s, by, &tiles[i], to);
    to->known = true;
    return to;
}

/* ---- shapes ---- */

static void try_shape(search *s, const shape *p)
{
    const natten_cuda_mma_shape *kernel = s->kernel;
    counts all = {.tiles = 1, .steps = 1, .needed = 1, .full = 1};
    int volume = 1;
    for (int a = 0; a < 3; a++) {
        const counts *own =
            count_axis(s, a, (cut){p->power[a], p->part[a], p->side[a]});
        all.tiles *= own->tiles, all.steps *= own->steps;
        all.needed *= own->needed, all.full *= own->full;
        volume *= sides[p->side[a]];
    }
    if (volume < kernel->columns)
        all.full = 0;
    if (s->is_rest)
        all.steps = all.needed = all.full = 0;
    /* Extra tokens: every group takes every box, the last with masks. */
    double more = ceil((double)s->task->extras / kernel->columns);
    double extra_groups = all.tiles * groups_of(kernel);
    more = s->of_keys ? 0 : more;
    all.steps += all.tiles * more;
    all.needed += extra_groups * more;
    all.full += extra_groups * (more > 0 ? more - 1 : 0);
    const cost *c = s->cost;
    double products =
        kernel->blocks * c->products * (kernel->columns / 8.0) * (kernel->width / 16.0);
    double clocks = products * (all.needed * (c->product_clocks + c->masked_clocks) -
                                all.full * c->masked_clocks) +
                    all.steps * c->step_clocks + all.tiles * c->open_clocks;
    if (s->best.clocks > 0 && clocks >= s->best.clocks)
        return;
    natten_cuda_mma *m = &s->best.mma;
    s->best_shape = *p;
    s->best.clocks = clocks;
    s->best.slots = all.needed * 16 * kernel->blocks * kernel->columns;
    for (int a = 0; a < 3; a++) {
        m->warps[a] = 1 << p->part[a];
        m->sub[a] = 1 << (p->power[a] - p->part[a]);
        m->box[a] = sides[p->side[a]];
        m->tiles[a] = (int32_t)divide_up(s->rows[a], 1 << p->power[a]);
    }
}

/* List the boxes that are as full as can be: the longest last axis that the others
 * leave room for, no axis much longer than the grid, and within reach; a line, which is
 * within reach of whatever is taken, in any case. */
static void list_boxes(search *s)
{
    for (int8_t z = 0; z < SIDES; z++)
        for (int8_t y = 0; y < SIDES && sides[z] * sides[y] <= s->kernel->columns;
             y++) {
            int8_t x = SIDES - 1;
            while (sides[z] * sides[y] * sides[x] > s->kernel->columns)
                x--;
            const int8_t side[3] = {z, y, x};
            bool sensible =
                sides[z] * sides[y] * sides[x] * 4 >= s->kernel->columns * 3;
            for (int a = 0; a < 3; a++) {
                int32_t length = s->of_keys ? s->task->axis[a].query_count
                                            : s->task->axis[a].key_count;
                sensible = sensible && (side[a] == 0 || sides[side[a] - 1] < length);
            }
            for (int t = 0; t < 2; t++)
                sensible =
                    sensible && reaches(s->task, partner_roles[s->of_keys][t],
                                        (int32_t[]){sides[z], sides[y], sides[x]});
            if (sensible || z + y == 0)
                memcpy(s->box[s->boxes++], side, sizeof side);
        }
}

/* All boxes, or, with `coarse`, those of as many partners as there are columns. */
static void try_boxes(search *s, shape *p, bool coarse)
{
    for (int i = 0; i < s->boxes; i++) {
        const int8_t *side = s->box[i];
        bool is_full =
            sides[side[0]] * sides[side[1]] * sides[side[2]] == s->kernel->columns;
        if (coarse && !is_full && i > 0)
            continue;
        for (int a = 0; a < 3; a++)
            p->side[a] = side[a];
        try_shape(s, p);
    }
}

static void try_all(search *s, int power, bool any)
{
    for (int z = 0; z <= power; z++)
        for (int y = 0; y <= power - z; y++) {
            shape p = {.power = {z, y, power - z - y}};
            bool sensible = true;
            for (int a = 0; a < 3; a++)
                sensible =
                    sensible && !natten_cuda_count_is_wasteful(p.power[a], s->rows[a]);
            if (!sensible && !any)
                continue;
            /* Groups, as a product of three powers. */
            static const int8_t fours[][3] = {{2, 0, 0}, {0, 2, 0}, {0, 0, 2},
                                              {1, 1, 0}, {1, 0, 1}, {0, 1, 1}};
            static const int8_t eights[][3] = {
                {3, 0, 0}, {0, 3, 0}, {0, 0, 3}, {2, 1, 0}, {2, 0, 1},
                {1, 2, 0}, {0, 2, 1}, {1, 0, 2}, {0, 1, 2}, {1, 1, 1}};
            bool of_four = groups_of(s->kernel) == 4;
            for (int i = 0; i < (of_four ? 6 : 10); i++) {
                const int8_t *part = of_four ? fours[i] : eights[i];
                bool fits = true;
                for (int a = 0; a < 3; a++) {
                    p.part[a] = part[a];
                    fits = fits && p.part[a] <= p.power[a];
                }
                if (fits)
                    try_boxes(s, &p, true);
            }
        }
}

/* ---- the task ---- */

bool natten_cuda_mma_has_fast_doubles(int32_t arch)
{
    return arch == 80 || arch == 90 || arch == 100;
}

/* Features that other kernels have. */
static bool is_simple(const natten_task *task, const natten_gpu *gpu)
{
    static const natten_role boxed[] = {
        NATTEN_QUERY,           NATTEN_KEY,
        NATTEN_VALUE,           NATTEN_GRAD_OUT,
        NATTEN_ADDITIONAL_KEYS, NATTEN_ADDITIONAL_VALUES};
    bool reach = true;
    for (int i = 0; i < 6; i++)
        reach = reach &&
                reaches(task, boxed[i], (int32_t[]){1, 1, NATTEN_CUDA_MMA_COLUMNS});
    for (int a = 0; a < 3; a++)
        reach = reach && task->axis[a].length <= NATTEN_CUDA_MOST_TOKENS;
    return gpu->arch >= 80 && !task->by_rows &&
           (task->dtype != NATTEN_FP64 ||
            natten_cuda_mma_has_fast_doubles(gpu->arch)) &&
           reach && fabs(task->scale) > 0x1p-30 && fabs(task->scale) < 0x1p30 &&
           task->extras <= NATTEN_CUDA_MOST_TOKENS && task->batch > 0 &&
           !wants(task, NATTEN_BIAS) &&
           (task->operation == NATTEN_FORWARD || task->operation == NATTEN_BACKWARD);
}

/* Shared memory that CUDA takes for itself, of each block. */
enum { RESERVED_BYTES = 1024 };

/* Shared memory of a multiprocessor, and of a block where it is alone. */
static void room_of(int32_t arch, int32_t *processor, int32_t *block)
{
    bool is_large = arch >= 90 && arch < 120;
    *block = is_large     ? NATTEN_CUDA_SHARED_ENGINE
             : arch == 80 ? NATTEN_CUDA_SHARED_LARGE
                          : NATTEN_CUDA_SHARED_BYTES;
    *processor = is_large ? 2 * (NATTEN_CUDA_SHARED_HALF + RESERVED_BYTES)
                          : *block + RESERVED_BYTES;
}

/* Two stages where they leave room for as many blocks as one would; false if there is
 * none for one. */
static bool lay_out(natten_cuda_mma_fit *fit, const natten_task *task,
                    natten_cuda_mma_pass pass, const natten_cuda_mma_shape *kernel,
                    int32_t arch)
{
    int32_t rows = rows_of_tile(kernel);
    int32_t row = kernel->width * bytes_of(task), processor, block;
    int32_t stage = 2 * kernel->columns * row;
    int32_t info = (int32_t)sizeof(natten_cuda_mma_info) +
                   rows * (int32_t)sizeof(natten_cuda_mma_row);
    int32_t places = (pass == NATTEN_CUDA_MMA_GRAD_ALL ? 2 : kernel->sharing > 1) +
                     (kernel->sharing > 1);
    int32_t kept = places * 2 * rows * kernel->columns; /* device/mma_kept.cuh */
    int32_t one = kernel->tensors * rows * row + stage + kept + info;
    room_of(arch, &processor, &block);
    int32_t held = natten_min(kernel->held, processor / (one + RESERVED_BYTES));
    bool has_room =
        one + stage <= block && held * (one + stage + RESERVED_BYTES) <= processor;
    fit->mma.stages = has_room ? 2 : 1;
    fit->mma.info_at = kernel->tensors * rows * row + fit->mma.stages * stage + kept;
    fit->shared_bytes = fit->mma.info_at + info;
    return one <= block;
}

/* Rows of queries of an item. */
static double rows_of(const natten_task *task)
{
    double rows = (double)task->heads;
    for (int a = 0; a < 3; a++)
        rows *= task->axis[a].query_count;
    return rows;
}

/* Do numbers of 32 bits find all rows of sums of a box, also those that don't exist? */
static bool can_number_sums(const natten_task *task)
{
    int32_t most = 1;
    for (int a = 0; a < 3; a++)
        most = natten_max(most, task->axis[a].dilation);
    return rows_of(task) * most * NATTEN_CUDA_MMA_COLUMNS < (double)INT32_MAX;
}

/* Tiles of all classes; false if a grid can't have so many.  And the clocks of the
 * whole pass. */
static bool count_positions(const search *s, natten_cuda_mma_fit *fit)
{
    int64_t heads = s->of_keys ? s->task->heads_kv : s->task->heads;
    if (!natten_cuda_count_positions(s->task, fit->mma.tiles, &fit->mma.positions))
        return false;
    fit->clocks = natten_cuda_count_clocks(fit->clocks, fit->mma.positions,
                                           (double)s->task->batch * (double)heads,
                                           s->kernel->held);
    if (s->is_rest) /* zeros, sums, 16 bits */
        fit->clocks += rows_of(s->task) * (double)s->task->batch * (4 + 4 + 2) *
                       s->kernel->width / bytes_per_clock;
    return true;
}

static void set_steps(const search *s, natten_cuda_mma *m)
{
    for (int t = 0; t < 2; t++) {
        natten_role role = partner_roles[s->of_keys][t];
        for (int a = 0; a < 3; a++)
            m->step[t][a] = (int32_t)step_of(s->task, role, a);
        m->extra_step[t] = (int32_t)step_of(s->task, extra_roles[t], 2);
    }
}

static bool find_fit(const natten_task *task, natten_cuda_mma_pass pass,
                     const natten_cuda_mma_shape *kernel, natten_cuda_mma_fit *fit)
{
    search s = {.task = task,
                .kernel = kernel,
                .cost = &cost_of[kind_of(task)][pass],
                .of_keys = is_of_keys(pass),
                .is_rest = pass == NATTEN_CUDA_MMA_GRAD_REST};
    if (kernel->sharing > 1)
        s.cost = &cost_sharing;
    else if (kernel->held == 1)
        s.cost = &cost_alone;
    int power = 0;
    while (1 << power < rows_of_tile(kernel))
        power++;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task->axis[a];
        int32_t rows = s.of_keys ? axis->key_count : axis->query_count;
        s.rows[a] = (int32_t)divide_up(rows, axis->dilation);
        if (rows == 0)
            return false;
    }
    list_boxes(&s);
    try_all(&s, power, false);
    if (s.best.clocks == 0) /* fewer tokens than a tile has */
        try_all(&s, power, true);
    shape best = s.best_shape;
    try_boxes(&s, &best, false);
    s.best.width =
        (int32_t)(s.kernel -
                  natten_cuda_mma_shapes[bytes_of(task) / 4][kernels_of(pass)]);
    s.best.is_wide = s.kernel->width > 128;
    s.best.mma.group = (int32_t)(task->heads / task->heads_kv);
    set_steps(&s, &s.best.mma);
    *fit = s.best;
    return count_positions(&s, fit);
}

bool natten_cuda_mma_plan(const natten_task *task, const natten_gpu *gpu,
                          natten_cuda_mma_pass pass, natten_cuda_mma_fit *fit)
{
    const natten_cuda_mma_shape *kernel = find_shape(task, pass);
    if (kernel == NULL || !is_simple(task, gpu) || !find_fit(task, pass, kernel, fit) ||
        (pass == NATTEN_CUDA_MMA_GRAD_ALL && !can_number_sums(task)))
        return false;
    return lay_out(fit, task, pass, kernel, gpu->arch);
}

bool natten_cuda_mma_spread(const natten_task *task, natten_cuda_mma_pass pass,
                            natten_cuda_mma_fit *fit)
{
    int64_t units = is_of_keys(pass) ? task->heads_kv : task->heads;
    return !__builtin_mul_overflow(units, task->batch, &units) &&
           !__builtin_mul_overflow(units, fit->mma.positions, &fit->blocks) &&
           fit->blocks > 0 && fit->blocks <= INT32_MAX;
}
