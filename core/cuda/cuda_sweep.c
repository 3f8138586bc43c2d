/* SPDX-License-Identifier: MIT
 *
 * Planning for the pass that has all gradients of a small window, see cuda_sweep.h. */
#include "cuda/cuda_sweep.h"

#include "cuda/cuda_halo.h"

#include <math.h>

/* Tokens of a subtile along an axis; subtiles down a class that tables have room for.
 */
enum { SUB = 4, MAX_ROWS = 34 };
enum { ROW = 32, MAX_UNITS = 1 << 30 };
/* Steps that a block takes for what it does not keep, per item: half of two. */
static const double halo_steps = 2;
/* Runs that a block takes at least, if they are of several items; items that one may
 * have: sums of a bias are few enough then, and blocks end together. */
enum { LEAST_RUNS = 2, LONGEST_RUN = 64 };

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* The axis is whole, its classes are alike and of more than one subtile. */
static bool is_whole(const natten_axis *axis)
{
    return axis->query_begin == 0 && axis->key_begin == 0 &&
           axis->query_count == axis->length && axis->key_count == axis->length &&
           axis->length % axis->dilation == 0 && axis->length / axis->dilation > SUB &&
           axis->length / axis->dilation <= SUB * MAX_ROWS;
}

static bool takes(const natten_task *task, const natten_gpu *gpu)
{
    bool is_half = task->dtype == NATTEN_BF16 || task->dtype == NATTEN_FP16;
    /* Terms of a bias's gradient are rounded, and fp16 loses those below 2^-25, of
     * which there may be hundreds of thousands: it is not for sums in fp32. */
    if (task->dtype == NATTEN_FP16 && task->view[NATTEN_GRAD_BIAS].data != NULL)
        return false;
    return gpu->arch == 90 && is_half && !task->by_rows &&
           task->operation == NATTEN_BACKWARD && task->extras == 0 &&
           task->dim == ROW && task->dim_v == ROW && task->heads == task->heads_kv &&
           fabs(task->scale) > 0x1p-30 && fabs(task->scale) < 0x1p30 &&
           task->heads <= MAX_UNITS && task->batch > 0 &&
           task->batch <= MAX_UNITS / task->heads && task->axis[0].length == 1 &&
           is_whole(&task->axis[1]) && is_whole(&task->axis[2]);
}

/* Does each query of a subtile see no further than the subtiles next to it? */
static bool is_near(const natten_cuda_sweep *s, int across, const natten_class *c,
                    int32_t subtile)
{
    int32_t before = subtile > 0 ? natten_sweep_start(s, across, subtile - 1) : 0;
    int32_t after = natten_sweep_start(s, across, subtile + 2);
    for (int32_t i = 0; i < SUB; i++) {
        if (!natten_sweep_has(s, across, subtile, i))
            continue;
        int32_t query = natten_sweep_start(s, across, subtile) + i;
        natten_span keys = natten_class_keys(c, query);
        if (keys.begin < before || keys.end > after)
            return false;
    }
    return true;
}

/* Cut an axis into subtiles of which that is true: as few as can be, all full but the
 * last, or, if they `may_lack` one, with some of 3 tokens so that the last is full. */
static bool cut(const natten_axis *axis, int across, bool may_lack,
                natten_cuda_sweep *s, int32_t *subtiles)
{
    natten_class c = natten_axis_class(axis, 0);
    int32_t count = (int32_t)divide_up(c.length, SUB), lacks = SUB * count - c.length;
    *subtiles = count;
    s->length[across] = c.length;
    for (int narrow = 0; narrow < 1 + may_lack; narrow++) {
        s->narrow[across] = narrow ? lacks : 0;
        bool near = narrow == 0 || (lacks > 0 && lacks <= count - 2);
        for (int32_t i = 0; i < count && near; i++)
            near = is_near(s, across, &c, i);
        if (near)
            return true;
    }
    return false;
}

/* How far rows and columns of a class are apart; false if offsets within an item don't
 * fit 32 bits. */
static bool find_steps(const natten_task *task, natten_cuda_sweep *s)
{
    static const natten_role roles[NATTEN_CUDA_SWEEP_TENSORS - 1] = {
        NATTEN_GRAD_QUERY, NATTEN_GRAD_KEY, NATTEN_GRAD_VALUE, NATTEN_OUT, NATTEN_LSE};
    const int64_t column = task->heads, row = column * task->axis[2].length;
    const natten_view delta = {.axis = {0, row, column}};
    for (int i = 0; i < NATTEN_CUDA_SWEEP_TENSORS; i++) {
        bool is_delta = i == NATTEN_CUDA_SWEEP_TENSORS - 1;
        const natten_view *view = is_delta ? &delta : &task->view[roles[i]];
        for (int a = 0; a < 2; a++) {
            int64_t bytes = is_delta || roles[i] == NATTEN_LSE ? 4 : 2, step;
            if (__builtin_mul_overflow(view->axis[1 + a],
                                       bytes * task->axis[1 + a].dilation, &step) ||
                step < 0 || step > INT32_MAX / 4 / (s->length[a] + SUB))
                return false;
            s->step[i][a] = (int32_t)step;
        }
    }
    return true;
}

/* Rows of an item: as many as take least, if all blocks take as many items. */
static void share_out(natten_cuda_sweep *s, int64_t columns_of_items,
                      int32_t processors)
{
    double least = 0;
    for (int32_t segments = 1; segments <= s->rows / 2; segments++) {
        int32_t each = (int32_t)divide_up(s->rows, segments);
        int64_t items = divide_up(s->rows, each) * columns_of_items;
        double steps = (double)divide_up(items, processors) *
                       (each + (segments > 1 ? halo_steps : 0));
        if (items > INT32_MAX || (segments > 1 && steps >= least))
            continue;
        least = steps;
        s->each = each, s->segments = (int32_t)divide_up(s->rows, each);
        s->items = (int32_t)items;
    }
}

/* Items of a run: as many as may be, if that takes a hundredth longer at most. */
static int32_t choose_run(int64_t of_head, int64_t heads, int64_t processors)
{
    int64_t best = 1, least = divide_up(of_head * heads, processors);
    for (int64_t run = 2; run <= LONGEST_RUN; run++) {
        int64_t runs = divide_up(of_head, run) * heads;
        if (runs >= LEAST_RUNS * processors &&
            (double)(divide_up(runs, processors) * run) <= 1.01 * (double)least)
            best = run;
    }
    return (int32_t)best;
}

/* Share a problem without a bias out: no bit depends on it. */
static bool share_out_plain(const natten_task *task, const natten_gpu *gpu,
                            natten_cuda_sweep *s)
{
    s->units = NATTEN_CUDA_SWEEP_WARPS / s->columns;
    s->run = 1;
    int64_t groups = divide_up(task->batch * task->heads, s->units);
    share_out(s, groups * task->axis[1].dilation * task->axis[2].dilation,
              gpu->processors);
    return s->items > 0;
}

/* Share a problem with a bias out: a block's units are of one head, and which sums of
 * it are added up when follows from the problem alone. */
static bool share_out_bias(const natten_task *task, natten_cuda_sweep *s)
{
    const int64_t processors = NATTEN_CUDA_NOMINAL_PROCESSORS;
    int64_t classes = (int64_t)task->axis[1].dilation * task->axis[2].dilation;
    if (task->batch > MAX_UNITS / classes)
        return false;
    int64_t units = task->batch * classes;
    s->units = (int32_t)natten_min(NATTEN_CUDA_SWEEP_WARPS / s->columns, units);
    s->groups = (int32_t)divide_up(units, s->units);
    share_out(s, s->groups * task->heads, (int32_t)processors);
    if (s->items == 0)
        return false;
    s->of_head = s->groups * s->segments;
    s->run = choose_run(s->of_head, task->heads, processors);
    s->runs = (int32_t)divide_up(s->of_head, s->run);
    if (s->runs * task->heads > INT32_MAX / s->run)
        return false;
    s->items = (int32_t)(s->runs * task->heads * s->run);
    return true;
}

/* Pairs of tokens computed, of one batch item and head: subtiles of keys, and as many
 * of queries beside each other as the kernel takes, above, below and in its row, but
 * not beyond an item's first and last. */
static double count_slots(const natten_task *task, const natten_cuda_sweep *s)
{
    int64_t stages = 0;
    for (int32_t from = 0; from < s->rows; from += s->each)
        stages +=
            3 * (natten_min(from + s->each + 1, s->rows) - natten_max(from - 1, 0)) - 2;
    double classes = (double)task->axis[1].dilation * task->axis[2].dilation;
    int sides = s->columns > 2 ? 3 : 2;
    return (double)stages * s->columns * sides * (SUB * SUB) * (SUB * SUB) * classes;
}

bool natten_cuda_sweep_plan(const natten_task *task, const natten_gpu *gpu,
                            natten_cuda_sweep_fit *fit)
{
    *fit = (natten_cuda_sweep_fit){0};
    if (!takes(task, gpu))
        return false;
    natten_cuda_sweep *s = &fit->sweep;
    const natten_axis *down = &task->axis[1], *across = &task->axis[2];
    bool biased = task->view[NATTEN_BIAS].data != NULL;
    if (!cut(down, 0, !biased, s, &s->rows) || !cut(across, 1, !biased, s, &s->columns))
        return false;
    if (s->columns > NATTEN_CUDA_SWEEP_WARPS || !find_steps(task, s))
        return false;
    if (biased ? !share_out_bias(task, s) : !share_out_plain(task, gpu, s))
        return false;
    s->warps = s->units * s->columns;
    const int64_t divisors[5] = {across->dilation, down->dilation, s->segments,
                                 biased ? s->runs : task->heads, s->run};
    for (int i = 0; i < 5; i++)
        s->inverse[i] = UINT32_MAX / (uint32_t)divisors[i];
    s->scale = (float)task->scale;
    s->scale_2 = fabsf(s->scale) * 1.4426950408889634f;
    fit->slots = count_slots(task, s);
    fit->blocks = natten_min(s->items / s->run, gpu->processors);
    s->tables_at = (int32_t)divide_up(
                       (int64_t)sizeof(natten_cuda_sweep_box) + s->rows * SUB * 2, 16) *
                   16;
    fit->shared_bytes =
        s->warps * NATTEN_CUDA_SWEEP_BYTES + s->tables_at +
        (biased ? NATTEN_CUDA_SWEEP_TABLES + NATTEN_CUDA_SWEEP_SUMS : 0);
    fit->sums = s->runs;
    return true;
}
