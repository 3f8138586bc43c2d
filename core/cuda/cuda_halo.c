/* SPDX-License-Identifier: MIT
 *
 * Planning for the halo kernels.  All shapes of subtiles and tiles are tried, and their
 * cost is counted: products of the pairs of groups that a warp takes, copies of the
 * halo, steps.  A few hundred candidates take some microseconds. */
#include "cuda/cuda_halo.h"

#include "problem/task.h"

#include <string.h>

/* Powers of two that subtiles and tiles of an axis can have: 1 .. 128 tokens. */
enum { POWERS = 8 };
/* Addresses of a slice have 16 bits. */
enum { SLICE_BYTES = 1 << 16 };
enum { MAX_PAIRS = 64, MAX_ENTRIES = 4096, MAX_UNITS = 1 << 30 };
/* Tiles are chosen for a GPU of this size, so that bits do not depend on the number of
 * its processors. */
enum { PROCESSORS = 132, MAX_FILLS = 6 };

/* Clocks of a multiprocessor, from instructions counted on an H100 at 2.6 a clock: a
 * pair of groups, and for each 32 numbers of a row; a warp's rows of a unit; bytes from
 * the second-level cache; a step with its barrier; finding a block's place. */
static const double pair_clocks[3] = {26, 36, 44}; /* by pass */
static const double wide_clocks[3] = {10, 16, 24};
static const double unit_clocks[3] = {200, 200, 250};
static const double bytes_per_clock = 24, step_clocks = 1000, open_clocks = 6000;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t divide_up(int32_t a, int32_t b)
{
    return a / b + (a % b != 0);
}

static int32_t align(int32_t bytes)
{
    return divide_up(bytes, 256) * 256;
}

/* ---- reach ---- */

static natten_span partners(const natten_class *c, bool of_keys, int32_t g)
{
    return of_keys ? natten_class_inverse(c, g) : natten_class_window(c, g);
}

/* Most partners of `tokens` rows next to each other that begin at a multiple of `step`,
 * in a class. Away from the borders it repeats itself, so places near them tell. */
static int32_t reach_of_class(const natten_class *c, bool of_keys, int32_t tokens,
                              int32_t step)
{
    int64_t near = 2 * ((int64_t)c->window + c->stride) + tokens;
    int32_t most = 0, skip_from = c->length, skip_to = c->length;
    if (c->length > 2 * near + step) {
        skip_from = (int32_t)near;
        skip_to = (int32_t)((c->length - near) / step * step);
    }
    for (int32_t g = 0; g < c->length; g += step) {
        if (g >= skip_from && g < skip_to)
            g = skip_to;
        int32_t last = (int32_t)natten_min(c->length - 1 - g, tokens - 1) + g;
        int32_t count = partners(c, of_keys, last).end - partners(c, of_keys, g).begin;
        most = larger(most, count);
    }
    return most;
}

/* The same on an axis; classes have two lengths at most.  In a part tiles begin
 * anywhere. */
static int32_t reach(const natten_axis *axis, bool of_keys, int32_t tokens)
{
    natten_axis whole = *axis;
    whole.query_begin = whole.key_begin = 0;
    whole.query_count = whole.key_count = axis->length;
    bool is_whole =
        axis->query_count == axis->length && axis->key_count == axis->length;
    int32_t step = is_whole && axis->stride == 1 ? tokens : 1, most = 0;
    for (int last = 0; last < (axis->dilation > 1 ? 2 : 1); last++) {
        natten_class c = natten_axis_class(&whole, last ? axis->dilation - 1 : 0);
        most = larger(most, reach_of_class(&c, of_keys, tokens, step));
    }
    return most;
}

/* ---- candidates ---- */

/* A task's pass while candidates are tried. */
typedef struct search {
    const natten_task *task;
    natten_cuda_halo_pass pass;
    int32_t dims, units; /* of the whole task */
    int32_t rows[3];     /* of the longest class */
    int32_t reach[3][POWERS];
    int64_t steps[2]; /* from row to row and column to column, in bytes, at most */
    int32_t entries;  /* of bias; 0: there is none */
    int32_t room;     /* bytes of shared memory of a block */
    int32_t blocks;   /* that a multiprocessor holds at once */
    natten_cuda_halo_fit best;
} search;

static bool of_keys(const search *s)
{
    return s->pass == NATTEN_CUDA_HALO_GRAD_TOKENS;
}

/* Shapes are exponents of two on each axis. */
typedef struct shape {
    int32_t sub[3], warps[3];
} shape;

/* Lay out shared memory for slices of `rows` rows; false if that is too much. */
static bool lay_out(const search *s, const shape *p, int32_t rows,
                    natten_cuda_halo_fit *fit)
{
    natten_cuda_halo *h = &fit->halo;
    int32_t row_bytes = s->dims * 2, box[3], halo[3];
    for (int a = 0; a < 3; a++) {
        box[a] = s->reach[a][p->sub[a]];
        halo[a] = s->reach[a][p->sub[a] + p->warps[a]];
    }
    h->rows = rows;
    h->pitch = halo[2];
    /* A group that goes on in the next row finds other banks there. */
    while (box[2] % 8 != 0 && (h->pitch - box[2]) % 8 != 0)
        h->pitch++;
    int32_t slices = divide_up(halo[1], rows), touched = 1;
    if (slices > 1)
        touched = smaller(slices, divide_up(box[1] - 1, rows) + 1);
    int64_t bytes = (int64_t)rows * h->pitch * row_bytes;
    int64_t pairs = ((int64_t)box[1] * box[2] + 15) / 16 + touched - 1;
    /* Offsets in a slice have 32 bits. */
    if (s->steps[0] > INT32_MAX / 2 / rows || s->steps[1] > INT32_MAX / 2 / h->pitch)
        return false;
    if (slices > NATTEN_CUDA_SLICES || bytes > SLICE_BYTES || pairs > MAX_PAIRS)
        return false;
    static const int32_t own[] = {1, 2, 2}; /* tensors of a warp's rows, by pass */
    bool has_stats = s->pass == NATTEN_CUDA_HALO_GRAD_QUERY;
    h->pairs = (int32_t)pairs;
    h->box_bytes = (int32_t)bytes;
    h->stats_at = 2 * h->box_bytes;
    h->bias_at = h->stats_at + (of_keys(s) ? rows * h->pitch * 8 : 0);
    h->unit_bytes = align(h->bias_at + s->entries * 4);
    h->row_bytes =
        NATTEN_CUDA_SUBTILE * (own[s->pass] * row_bytes + (has_stats ? 8 : 0));
    h->rows_at = 2 * h->units * h->unit_bytes;
    h->info_at = h->rows_at + NATTEN_CUDA_WARPS * h->row_bytes;
    h->tables_at = align(h->info_at + (int32_t)sizeof(natten_cuda_halo_box) +
                         NATTEN_CUDA_WARPS * (int32_t)sizeof(natten_cuda_halo_warp));
    h->columns_at = h->tables_at + NATTEN_CUDA_WARPS * h->pairs * NATTEN_CUDA_WARP * 4;
    fit->shared_bytes =
        h->columns_at + (of_keys(s) ? 2 : 1) * NATTEN_CUDA_WARPS * h->pairs * 32;
    if (fit->shared_bytes > s->room)
        return false;
    /* What it costs: of a tile and all its units at once. */
    double wide = s->dims / 32.0, planes = halo[0], steps = planes * slices;
    /* A barrier ends each step, so it takes as long as its busiest warp, which has all
     * of a slice that a box can have. */
    double busiest = steps * divide_up(smaller(box[1], rows) * box[2], 16);
    double pair = pair_clocks[s->pass] + wide * wide_clocks[s->pass];
    double work = NATTEN_CUDA_WARPS * (busiest * pair + unit_clocks[s->pass]);
    double copies = (double)h->units * halo[0] * halo[1] * halo[2] * row_bytes * 2;
    fit->slots = (double)h->positions * (NATTEN_CUDA_WARPS / h->units) * box[0] *
                 h->pairs * 16 * NATTEN_CUDA_SUBTILE;
    fit->tile_clocks = work + copies / bytes_per_clock + steps * step_clocks;
    return true;
}

/* Share a position's units out among blocks: as many as fill the GPU once, twice, and
 * so on, whatever ends first. */
static void share_out(const search *s, natten_cuda_halo_fit *fit, int32_t processors)
{
    natten_cuda_halo *h = &fit->halo;
    int32_t rounds = divide_up(s->units, h->units);
    int64_t room = (int64_t)processors * s->blocks;
    fit->clocks = 0;
    for (int fill = 1; fill <= MAX_FILLS; fill++) {
        int64_t r = fill * room / h->positions;
        r = r < 1 ? 1 : r < rounds ? r : rounds;
        int64_t blocks = h->positions * r, waves = (blocks + room - 1) / room;
        double each = divide_up(rounds, (int32_t)r) * fit->tile_clocks + open_clocks;
        /* Blocks that share a multiprocessor take twice as long. */
        double clocks = (double)waves * each * (blocks > processors ? s->blocks : 1);
        if (blocks > INT32_MAX || (fill > 1 && clocks >= fit->clocks))
            continue;
        fit->clocks = clocks;
        h->replicas = (int32_t)r;
    }
}

static void try_shape(search *s, const shape *p)
{
    natten_cuda_halo_fit fit = {.dims = s->dims};
    natten_cuda_halo *h = &fit.halo;
    int64_t positions = 1;
    h->units = NATTEN_CUDA_WARPS;
    for (int a = 0; a < 3; a++) {
        h->sub[a] = 1 << p->sub[a];
        h->warps[a] = 1 << p->warps[a];
        h->units >>= p->warps[a];
        h->tiles[a] = divide_up(s->rows[a], h->sub[a] * h->warps[a]);
        positions *= (int64_t)h->tiles[a] * s->task->axis[a].dilation;
        if (positions > INT32_MAX)
            return;
    }
    h->positions = (int32_t)positions;
    int32_t height = s->reach[1][p->sub[1] + p->warps[1]];
    for (int32_t slices = 1; slices <= NATTEN_CUDA_SLICES; slices++) {
        if (!lay_out(s, p, divide_up(height, slices), &fit))
            continue;
        share_out(s, &fit, PROCESSORS);
        if (s->best.clocks == 0 || fit.clocks < s->best.clocks ||
            (fit.clocks == s->best.clocks && fit.slots < s->best.slots))
            s->best = fit;
        break;
    }
}

/* Is 2^power tokens more than twice what there is? */
static bool is_wasteful(int32_t power, int32_t rows)
{
    return power > 0 && 1 << (power - 1) >= rows;
}

static void try_all(search *s, bool any)
{
    for (int i = 0; i < 15 * 20; i++) {
        /* The i-th way to write 4, and a number up to 3, as a sum of three. */
        static const int8_t sums[20][3] = {
            {0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {2, 0, 0}, {1, 1, 0}, {1, 0, 1},
            {0, 2, 0}, {0, 1, 1}, {0, 0, 2}, {3, 0, 0}, {2, 1, 0}, {2, 0, 1}, {1, 2, 0},
            {1, 1, 1}, {1, 0, 2}, {0, 3, 0}, {0, 2, 1}, {0, 1, 2}, {0, 0, 3}};
        static const int8_t fours[15][3] = {{0, 2, 2}, {0, 1, 3}, {0, 3, 1}, {0, 0, 4},
                                            {0, 4, 0}, {4, 0, 0}, {1, 1, 2}, {1, 2, 1},
                                            {2, 1, 1}, {2, 2, 0}, {2, 0, 2}, {3, 1, 0},
                                            {3, 0, 1}, {1, 3, 0}, {1, 0, 3}};
        shape p;
        bool sensible = true;
        for (int a = 0; a < 3; a++) {
            p.sub[a] = fours[i / 20][a];
            p.warps[a] = sums[i % 20][a];
            sensible = sensible && !is_wasteful(p.sub[a] + p.warps[a], s->rows[a]);
        }
        if (sensible || any)
            try_shape(s, &p);
    }
}

/* ---- the task ---- */

natten_task natten_cuda_halo_task(const natten_task *task)
{
    natten_task t = *task;
    if (t.axis[1].length != 1)
        return t;
    natten_axis axis = t.axis[1];
    t.axis[1] = t.axis[2];
    t.axis[2] = axis;
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        int64_t step = t.view[role].axis[1];
        t.view[role].axis[1] = t.view[role].axis[2];
        t.view[role].axis[2] = step;
    }
    return t;
}

/* Bytes from row to row and from column to column of a class, the most of all tensors
 * and delta; INT64_MAX when that is too much to tell. */
static void count_steps(const natten_task *task, int64_t steps[2])
{
    const int64_t column = task->heads;
    const natten_view delta = {.axis = {0, column * task->axis[2].query_count, column}};
    for (int a = 0; a < 2; a++) {
        steps[a] = 0;
        for (int role = 0; role <= NATTEN_ROLES; role++) {
            const natten_view *view = role == NATTEN_ROLES ? &delta : &task->view[role];
            int64_t step = view->axis[1 + a];
            if (role != NATTEN_ROLES && !view->data)
                continue;
            bool overflows =
                __builtin_mul_overflow(step < 0 ? -step : step,
                                       (int64_t)4 * task->axis[1 + a].dilation, &step);
            steps[a] = overflows || step > steps[a] ? step : steps[a];
            if (overflows)
                steps[a] = INT64_MAX;
        }
    }
}

/* Features that only level a has. */
static bool is_simple(const natten_task *task, const natten_gpu *gpu)
{
    int64_t units;
    return gpu->arch >= 80 && !task->by_rows && task->extras == 0 && task->scale != 0 &&
           (task->dtype == NATTEN_BF16 || task->dtype == NATTEN_FP16) &&
           task->dim <= 128 && task->dim_v <= 128 &&
           (task->operation == NATTEN_FORWARD || task->operation == NATTEN_BACKWARD) &&
           !__builtin_mul_overflow(task->batch, task->heads, &units) && units > 0 &&
           units <= MAX_UNITS;
}

bool natten_cuda_halo_plan(const natten_task *task, const natten_gpu *gpu,
                           natten_cuda_halo_pass pass, natten_cuda_halo_fit *fit)
{
    if (!is_simple(task, gpu))
        return false;
    search s = {.task = task, .pass = pass};
    int64_t widest = task->dim > task->dim_v ? task->dim : task->dim_v;
    s.dims = widest <= 32 ? 32 : widest <= 64 ? 64 : 128;
    /* Kernels with more sums than half the registers hold have a processor, and its
     * shared memory where it is large, for themselves. */
    bool alone = s.dims > (of_keys(&s) ? 32 : 64);
    bool is_large = gpu->arch == 80 || (gpu->arch >= 90 && gpu->arch < 120);
    s.blocks = alone ? 1 : 2;
    bool is_half = gpu->arch >= 90 && gpu->arch < 120;
    s.room = alone && is_large ? NATTEN_CUDA_SHARED_LARGE
             : is_half         ? NATTEN_CUDA_SHARED_HALF
                               : NATTEN_CUDA_SHARED_BYTES;
    int64_t row_heads = of_keys(&s) ? task->heads_kv : task->heads;
    s.units = (int32_t)(task->batch * row_heads);
    int64_t entries = task->view[NATTEN_BIAS].data != NULL;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task->axis[a];
        int32_t rows = of_keys(&s) ? axis->key_count : axis->query_count;
        s.rows[a] = divide_up(rows, axis->dilation);
        entries *= 2 * (int64_t)axis->window - 1;
        if (rows == 0 || entries > MAX_ENTRIES || axis->window > 1024)
            return false;
        for (int power = 0; power < POWERS; power++)
            s.reach[a][power] = reach(axis, of_keys(&s), 1 << power);
    }
    s.entries = (int32_t)entries;
    count_steps(task, s.steps);
    try_all(&s, false);
    if (s.best.clocks == 0) /* so few tokens that all shapes have too much room */
        try_all(&s, true);
    if (s.best.clocks == 0)
        return false;
    *fit = s.best;
    fit->halo.group = (int32_t)(task->heads / task->heads_kv);
    fit->halo.heads_inverse = UINT32_MAX / (uint32_t)row_heads;
    share_out(&s, fit, gpu->processors);
    return true;
}
