/* SPDX-License-Identifier: MIT
 *
 * The CUDA kernels before the judge, on a real GPU and without Check, which the machine
 * may lack: scripts/gpu-check runs this.  They are core/cuda/simt_forward.cuh,
 * core/cuda/simt_slots.cuh, core/cuda/simt_backward.cuh, core/cuda/simt_sums.cuh and
 * core/cuda/simt_merge.cuh, core/cuda/simt_again.cuh, core/cuda/halo.cu:
 * core/cuda/halo_forward.cuh and core/cuda/halo_backward.cuh, core/cuda/mma.cu:
 * core/cuda/mma_forward.cuh and core/cuda/mma_backward.cuh, core/cuda/sweep.cu:
 * core/cuda/sweep_backward.cuh with core/cuda/device/sweep_tile.cuh and
 * core/cuda/device/sweep_bias.cuh, core/cuda/wgmma.cu: core/cuda/wgmma_forward.cuh and
 * core/cuda/wgmma_backward.cuh with core/cuda/device/wgmma_tile.cuh,
 * core/cuda/device/wgmma_open.cuh, core/cuda/device/wgmma_bring.cuh,
 * core/cuda/device/wgmma_stats.cuh, core/cuda/device/wgmma_results.cuh,
 * core/cuda/device/wgmma_turn.cuh and core/cuda/device/warpgroup.cuh,
 * core/cuda/band.cu: core/cuda/band_forward.cuh with core/cuda/band_backward.cuh,
 * core/cuda/device/band_tile.cuh and core/cuda/device/band_bring.cuh, made of
 * core/cuda/device/mma_tile.cuh, core/cuda/device/mma_copies.cuh,
 * core/cuda/device/mma_added.cuh, core/cuda/device/mma_kept.cuh,
 * core/cuda/device/mma_parts.cuh, core/cuda/device/mma_rows.cuh,
 * core/cuda/device/mma_runs.cuh, core/cuda/device/mma_walk.cuh,
 * core/cuda/device/halo_tile.cuh, core/cuda/device/halo_open.cuh,
 * core/cuda/device/halo_flat.cuh, core/cuda/device/halo_copies.cuh,
 * core/cuda/device/halo_rows.cuh, core/cuda/device/halo_walk.cuh,
 * core/cuda/device/tensor_core.cuh, core/cuda/device/element.cuh,
 * core/cuda/device/lane.cuh, core/cuda/device/walk.cuh, core/cuda/device/overlap.cuh
 * and core/cuda/device/keys.cuh.
 *
 *     gpu_judge judge TYPE FIRST COUNT   random problems within their bounds, twice
 *                                        with the same bits
 *     gpu_judge halo TYPE FIRST COUNT    the same with problems for the halo kernels
 *     gpu_judge mma TYPE FIRST COUNT     the same with those for large windows
 *     gpu_judge wgmma TYPE FIRST COUNT   the same with those for warpgroups, on a
 *                                        GPU of compute capability 9.0
 *     gpu_judge band TYPE FIRST COUNT    the same with those for bands of a grid
 *     gpu_judge added TYPE FIRST COUNT   their backward with gradients of queries that
 *                                        are added in any order, where that is chosen
 *     gpu_judge sweep TYPE FIRST COUNT   the same with gradients in one pass
 *     gpu_judge runs TYPE                and a bias, of many heads or batch items
 *     gpu_judge kinds TYPE FIRST COUNT   forward by blocks that go from tile to tile,
 *                                        with more to do than a whole GPU gives them
 *     gpu_judge older TYPE FIRST COUNT   the same, planned for a GPU of compute
 *                                        capability 8.6, whose blocks have less room
 *     gpu_judge climb TYPE               logits that climb within a row
 *     gpu_judge lift TYPE                biases far above the products
 *     gpu_judge merge TYPE COUNT         random merges
 *     gpu_judge median TYPE              16-bit types against a plain computation
 *     gpu_judge repeat COUNT [FIRST PROBLEMS]   the same bits COUNT times, of some
 *                                        problems or of all; of large ones a tenth of
 *                                        that
 *
 * TYPE tf32 is fp32 with products in tf32 permitted.
 *
 * Prints TAP; exits 77 where there is no GPU.  Length: all modes judge and report
 * alike.
 */
#include "cuda/cuda_image.h"
#include "cuda/cuda_job.h"
#include "cuda/cuda_mma.h"
#include "machine/gpu.h"
#include "support/device.h"
#include "support/judge.h"
#include "support/judge_merge.h"
#include "support/plain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number, failures, on_tensor_cores;
static int by_mma, by_long_mma; /* by its kernels; with boxes of the grid alone */
static int by_wgmma;            /* by warpgroups */
static int by_band;             /* down bands of a grid */
static int by_sweep;            /* all gradients in one pass */
static int with_bias;           /* of them */
static int by_added;            /* with gradients of queries added in any order */
static int by_kinds;            /* blocks go from tile to tile */

static void report(bool passed, const char *what)
{
    printf("%sok %d - %s\n", passed ? "" : "not ", ++number, what);
    fflush(stdout);
    failures += !passed;
}

static bool in_tf32; /* products of fp32 may be */

/* Has this GPU kernels for large windows of the type? */
static bool has_mma(int dtype)
{
    return dtype != NATTEN_FP64 ||
           natten_cuda_mma_has_fast_doubles(natten_gpu_get(0).arch);
}

/* As it is asked for. */
static const char *type_name(int dtype)
{
    return in_tf32 ? "tf32" : natten_dtype_name((natten_dtype)dtype);
}

static int type_named(const char *name)
{
    natten_dtype dtype;
    in_tf32 = strcmp(name, "tf32") == 0;
    if (natten_dtype_from_name(in_tf32 ? "fp32" : name, &dtype))
        return (int)dtype;
    fprintf(stderr, "gpu_judge: %s is none of fp64, fp32, tf32, bf16, fp16\n", name);
    exit(2);
}

/* ---- judge ---- */

/* The largest share of its bound that an error has used up, of a tensor each. */
static double largest[NATTEN_ROLES];

/* What a run got wrong, on standard output as comments; true if nothing. */
static bool is_right(trial *t, const judgement *j)
{
    bool right = true;
    const char *damaged = trial_damage(t);
    if (damaged != NULL) {
        printf("# writes where it may not, at %s: %s\n", damaged, trial_text(t));
        right = false;
    }
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const verdict *v = &j->of[role];
        int64_t worst;
        if (v->count == 0)
            continue;
        double ratio = judge_ratio(v, &t->array[role], &worst);
        largest[role] = ratio > largest[role] ? ratio : largest[role];
        if (ratio <= 1)
            continue;
        printf("# %s[%lld] is %.17g, not %.17Lg, %.3g times its bound: %s\n",
               role_name(role), (long long)worst, array_get(&t->array[role], worst),
               v->value[worst], ratio, trial_text(t));
        right = false;
    }
    return right;
}

/* Once more, in memory of another layout and with a workspace got the other way: the
 * same bits, also where one run reads 16 bytes at a time and the other does not. */
static bool run_again(trial *t)
{
    static trial other;
    randoms r = {t->seed};
    bool compact = t->array[NATTEN_OUT].tensor.strides == NULL;
    array_layout unlike = t->seed % 2 == 0 ? ARRAY_ANY : ARRAY_ROWS;
    trial_copy(&other, t, compact ? unlike : ARRAY_COMPACT, &r);
    other.seed ^= 1;
    bool same = trial_run(&other, NATTEN_BACKEND_CUDA) == NATTEN_OK;
    bool is_added = device_adds(t);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!t->given[role] || !trial_writes(t->spec.operation, role) ||
            (is_added && role == NATTEN_GRAD_QUERY))
            continue;
        if (array_difference(&t->array[role], &other.array[role]) >= 0) {
            printf("# %s differs in the second run: %s\n", role_name(role),
                   trial_text(t));
            same = false;
        }
    }
    trial_free(&other);
    return same;
}

static bool run_trial(const trial_wish *wish, uint64_t seed, uint64_t flags)
{
    static trial t;
    judgement j;
    trial_make(&t, wish, seed);
    t.params.flags |= flags;
    judge_for(&t, NATTEN_BACKEND_CUDA, &j);
    on_tensor_cores += t.rounded != 0;
    bool is_mma = device_uses(&t, NATTEN_CUDA_SET_MMA);
    by_mma += is_mma;
    by_wgmma += device_uses(&t, NATTEN_CUDA_SET_WGMMA);
    by_band += device_uses(&t, NATTEN_CUDA_SET_BAND);
    bool is_sweep = device_uses(&t, NATTEN_CUDA_SET_SWEEP);
    by_sweep += is_sweep;
    with_bias += is_sweep && t.spec.has_bias;
    by_added += device_adds(&t);
    by_kinds += device_has_kinds(&t);
    by_long_mma += is_mma && t.spec.extras == 0 && wish->keys > 0;
    bool right = false;
    if (trial_run(&t, NATTEN_BACKEND_CUDA) != NATTEN_OK)
        printf("# %s: %s\n", natten_last_error(), trial_text(&t));
    else
        right = is_right(&t, &j) && run_again(&t);
    judge_free(&j);
    trial_free(&t);
    return right;
}

/* Keys of a window that take three boxes in any case; of fewer problems it is not asked
 * how many were what they were aimed at. */
enum { LONG_KEYS = 2 * NATTEN_CUDA_MMA_COLUMNS + 1, FEW_PROBLEMS = 40 };

static bool is_of_mma(trial *t)
{
    return device_uses(t, NATTEN_CUDA_SET_MMA);
}

static bool is_of_wgmma(trial *t)
{
    return device_uses(t, NATTEN_CUDA_SET_WGMMA);
}

static bool is_of_band(trial *t)
{
    return device_uses(t, NATTEN_CUDA_SET_BAND);
}

/* On this GPU, in this build?  Those for bands are then, too. */
static bool has_wgmma(void)
{
    return natten_gpu_get(0).arch == 90 && natten_cuda_image_has_wgmma();
}

/* Not only delta's pass, which others have, too. */
static bool is_of_halo(trial *t)
{
    return device_uses(t, NATTEN_CUDA_SET_HALO) && !is_of_wgmma(t) && !is_of_mma(t) &&
           !is_of_band(t);
}

static bool is_of_sweep(trial *t)
{
    return device_uses(t, NATTEN_CUDA_SET_SWEEP);
}

static bool is_by_kinds(trial *t)
{
    return device_has_kinds(t);
}

static bool is_added(trial *t)
{
    t->params.flags |= NATTEN_FLAG_ALLOW_NONDETERMINISTIC;
    return device_adds(t);
}

/* A seed whose problem goes to the kernels that are meant, or as good as any: where
 * rows are of fp32 or fp64 the planner leaves most small problems to level a, one pass
 * for all gradients is for few, and so are sums in any order. */
static uint64_t seed_for(bool (*is_meant)(trial *t), const trial_wish *wish,
                         uint64_t seed)
{
    enum { TRIES = 1000, NEXT = 10000000 };
    static trial t;
    randoms r = {seed};
    bool uses = false;
    for (int i = 0; i < TRIES && !uses; i++, seed += uses ? 0 : NEXT) {
        trial_draw(&t, wish, seed);
        trial_allocate(&t, ARRAY_COMPACT, &r);
        uses = is_meant(&t);
        trial_free(&t);
    }
    return seed;
}

/* What problems are aimed at. */
typedef enum aim {
    AIM_ANY,
    AIM_HALO,
    AIM_MMA,
    AIM_WGMMA,
    AIM_BAND,
    AIM_ADDED,
    AIM_SWEEP,
    AIM_KINDS
} aim;

/* Small windows, and those of any size, some of more than one box in any case. */
static void wish_for_wgmma(int n, trial_wish *wish)
{
    wish->dim = 64, wish->extras = 0;
    wish->wide = n / 2 % 2;
    wish->keys = n % 8 == 2 ? LONG_KEYS : -1;
    wish->pairs = n % 12 == 11 ? 200000 : n % 4 < 2 ? 12000 : 40000;
}

/* Smaller windows others have. */
static void wish_for_band(int n, trial_wish *wish)
{
    bool is_wide = n / 2 % 2 != 0;
    wish->rank = 2, wish->extras = 0, wish->dim = 64;
    wish->wide = is_wide;
    wish->keys = is_wide ? 90 : 60;
    wish->pairs = is_wide ? 120000 : 200000;
    wish->part = n % 4 == 0 ? -1 : 0;
    wish->layout = n % 2 == 0 ? 0 : -1;
}

/* All gradients in one pass. */
static void wish_for_sweep(int n, trial_wish *wish)
{
    wish->operation = NATTEN_BACKWARD;
    wish->rank = 2, wish->part = 0, wish->extras = 0, wish->dim = 32;
    wish->pairs = n % 3 == 0 ? 200000 : 60000;
    wish->layout = n % 2 == 0 ? 0 : -1;
}

static void judge(int dtype, int first, int count, aim at)
{
    int wrong = 0;
    bool is_wide = at == AIM_MMA || at == AIM_ADDED;
    uint64_t flags = at == AIM_ADDED ? NATTEN_FLAG_ALLOW_NONDETERMINISTIC : 0;
    for (int n = first; n < first + count; n++) {
        trial_wish wish = TRIAL_ANY;
        wish.dtype = dtype;
        wish.tf32 = in_tf32;
        wish.profile = n % PROFILES;
        wish.operation = n / PROFILES % TRIAL_OPERATIONS;
        if (at != AIM_ANY)
            wish.operation = n / PROFILES % 2 ? NATTEN_BACKWARD : NATTEN_FORWARD;
        if (at == AIM_ADDED) {
            wish.operation = NATTEN_BACKWARD;
            wish.dim = n % 5 < 4 ? 32 + 32 * (n % 5) : -1;
        }
        if (at == AIM_HALO)
            wish.extras = 0;
        if (at == AIM_HALO && n % 2 == 0) { /* rows that the copy engine fetches */
            wish.dim = n % 4 == 0 ? 32 : 64;
            wish.layout = 0;
        }
        if (is_wide) {
            wish.wide = 1;
            wish.pairs = 12000;
        }
        bool is_long = dtype == NATTEN_FP32 || dtype == NATTEN_FP64; /* numbers */
        if (at == AIM_MMA && is_long && n % 4 < 2) /* rows up to 128, or 64 */
            wish.dim = (n / 4 % (dtype == NATTEN_FP32 ? 3 : 2) + 1) *
                       (n % 4 == 0             ? 32
                        : dtype == NATTEN_FP32 ? 37
                                               : 29);
        if (is_wide && n / 2 % 2 == 0) { /* more than two boxes of the grid */
            wish.extras = 0;
            wish.keys = LONG_KEYS;
            wish.pairs = 40000;
        }
        if (n % 12 == 11 || (at == AIM_HALO && (n % 24 == 4 || n % 24 == 18)))
            wish.pairs = 60000;
        uint64_t seed = (uint64_t)(dtype * 1000000 + n);
        if (at == AIM_HALO && n % 4 == 2) /* else warpgroups would have all of them */
            seed = seed_for(is_of_halo, &wish, seed);
        if (at == AIM_MMA && is_long && has_mma(dtype)) {
            wish.pairs = n % 8 == 0 ? 120000 : 60000;
            seed = seed_for(is_of_mma, &wish, seed);
        }
        if (at == AIM_ADDED && n % 3 == 0) { /* else as small as any */
            wish.rank = 2;
            wish.keys = 800;
            wish.pairs = 600000;
            seed = seed_for(is_added, &wish, seed);
        }
        if (at == AIM_WGMMA) {
            wish_for_wgmma(n, &wish);
            seed = seed_for(is_of_wgmma, &wish, seed);
        }
        if (at == AIM_BAND) {
            wish_for_band(n, &wish);
            seed = seed_for(is_of_band, &wish, seed);
        }
        if (at == AIM_SWEEP) {
            wish_for_sweep(n, &wish);
            seed = seed_for(is_of_sweep, &wish, seed);
        }
        if (at == AIM_KINDS) {
            wish.operation = NATTEN_FORWARD;
            wish.part = n % 8 == 0, wish.extras = 0, wish.dim = 32, wish.layout = 0;
            wish.pairs = n % 3 == 0 ? 400000 : 100000;
            seed = seed_for(is_by_kinds, &wish, seed);
        }
        wrong += !run_trial(&wish, seed, flags);
    }
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (largest[role] > 0)
            printf("# %s %s: largest error %.3f of its bound\n", type_name(dtype),
                   role_name(role), largest[role]);
    char what[256];
    snprintf(
        what, sizeof what,
        "%s: %d of %d random problems from %d are wrong, %d on tensor cores, %d by "
        "mma, %d of many boxes, %d by warpgroups, %d by bands, %d added in any order, "
        "%d in one pass, %d with a bias, %d by kinds of tiles",
        type_name(dtype), wrong, count, first, on_tensor_cores, by_mma, by_long_mma,
        by_wgmma, by_band, by_added, by_sweep, with_bias, by_kinds);
    bool reached = !is_wide || count < FEW_PROBLEMS || !has_mma(dtype) ||
                   (by_mma * 5 >= count * 2 && by_long_mma * 20 >= count * 3);
    if (at == AIM_ADDED && count >= FEW_PROBLEMS)
        reached = by_added * 8 >= count;
    if (at == AIM_SWEEP && natten_gpu_get(0).arch / 10 == 9)
        reached =
            by_sweep * 2 >= count &&
            (count < FEW_PROBLEMS || dtype != NATTEN_BF16 || with_bias * 4 >= count);
    if (at == AIM_WGMMA && count >= FEW_PROBLEMS && has_wgmma())
        reached = by_wgmma * 10 >= count * 9;
    if (at == AIM_BAND && count >= FEW_PROBLEMS && has_wgmma())
        reached = by_band * 4 >= count * 3;
    if (at == AIM_KINDS && natten_gpu_get(0).arch / 10 == 9)
        reached = by_kinds * 2 >= count;
    report(wrong == 0 && reached, what);
}

/* ---- logits of a kind ---- */

/* The problem of a text, compact, with random values. */
static bool make_of_text(trial *t, const char *text, randoms *r)
{
    memset(t, 0, sizeof *t);
    if (natten_problem_text_parse(text, &t->spec) != NATTEN_OK)
        return false;
    t->params = natten_problem_spec_params(&t->spec, NATTEN_BACKEND_CUDA);
    trial_allocate(t, ARRAY_COMPACT, r);
    trial_fill(t, r);
    return true;
}

/* ---- climbing logits ---- */

/* Logits that climb by `step` from one row of the grid to the next, and on from one
 * extra token to the next, to 0 in the last, or from 0 in the first.  So the reference
 * that a kernel has from the first keys of a query may be far below the top, while lse,
 * near 0, has to be right within some 30 units in the last place of 1; and one that is
 * guessed may be far above or below all.  At the edge the lowest key is
 * just below 2^112, where tf32 may round beyond fp32 (device/mma_parts.cuh), and
 * queries are as small as keys are large. */
static bool is_right_climbing(const char *text, double step, bool from_zero,
                              bool at_edge, int *on_mma)
{
    static trial t;
    judgement j;
    randoms r = {(uint64_t)step};
    if (!make_of_text(&t, text, &r))
        return false;
    int64_t dim = t.spec.dim, row = t.spec.keys[1] * dim, extras = t.spec.extras;
    int64_t top = t.spec.keys[0] - 1 + extras, zero = from_zero ? 0 : top;
    double unit = at_edge ? 0x1p112 * (1 - 0x1p-13) / (step * (double)top) : 1;
    for (int64_t i = 0; i < array_count(&t.array[NATTEN_QUERY]); i++)
        array_set(&t.array[NATTEN_QUERY], i, i % dim == 0 ? 1 / unit : 0);
    for (int64_t i = 0; i < array_count(&t.array[NATTEN_KEY]); i++)
        array_set(&t.array[NATTEN_KEY], i,
                  i % dim == 0 ? step * unit * (double)(i / row - zero) : 0);
    for (int64_t i = 0; i < extras * dim; i++)
        array_set(&t.array[NATTEN_ADDITIONAL_KEYS], i,
                  i % dim == 0 ? step * unit * (double)(t.spec.keys[0] + i / dim - zero)
                               : 0);
    judge_for(&t, NATTEN_BACKEND_CUDA, &j);
    *on_mma += is_of_mma(&t) || is_of_wgmma(&t) || is_of_band(&t);
    bool right = trial_run(&t, NATTEN_BACKEND_CUDA) == NATTEN_OK && is_right(&t, &j);
    judge_free(&j);
    trial_free(&t);
    return right;
}

/* Sizes that go to the kernels for small windows and, wider, to those for large ones:
 * boxes have 64 keys, or 32 in rows of 256. */
static void climb(int dtype)
{
    static const char *const sizes[] = {
        "d32 24x24 w5x5",     "d32 40x9 w7x7",        "d32 70x1 w64x1",
        "d32 31x16 w13x13",   "d32 90x11 w61x7",      "d160 70x1 w64x1",
        "d160 40x5 w33x5",    "d256 24x5 w21x4",      "d64 40x5 w7x5 m1",
        "d96 24x6 w24x6 m70", "d128 30x4 w23x4 m130", "d64 90x3 w65x3",
        "d64 31x16 w13x13",   "d64 99x1 w99x1"};
    int wrong = 0, count = 0, on_mma = 0, sizes_count = sizeof sizes / sizeof sizes[0];
    for (int n = 0; n < sizes_count; n++) {
        char text[96];
        snprintf(text, sizeof text, "fwd %s b1 h1 %s scale1%s",
                 natten_dtype_name((natten_dtype)dtype), sizes[n],
                 in_tf32 ? " tf32" : "");
        for (double step = 1; step < 100; step += step < 20 ? 1 : 20, count++)
            wrong += !is_right_climbing(text, step, false, false, &on_mma);
        for (double step = 1; step < 100; step *= 2, count++)
            wrong += !is_right_climbing(text, step, true, false, &on_mma);
        if (dtype == NATTEN_FP32) {
            wrong += !is_right_climbing(text, 0x1p-7, false, true, &on_mma);
            count++;
        }
    }
    char what[128];
    snprintf(what, sizeof what,
             "%s: %d of %d problems with climbing logits are wrong, %d by mma, wgmma "
             "or band",
             type_name(dtype), wrong, count, on_mma);
    report(wrong == 0 && (on_mma * 2 >= count || !has_mma(dtype)), what);
}

/* ---- lifted logits ---- */

/* Biases of one size that lift all logits, while each product is below half a unit in
 * the last place of them: all products of every other key together are above what may
 * be lost. */
static bool is_right_lifted(const char *text, double bias)
{
    static trial t;
    judgement j;
    randoms r = {(uint64_t)bias};
    if (!make_of_text(&t, text, &r))
        return false;
    int64_t dim = t.spec.dim;
    double product = 0.9 * fabs(bias / t.spec.scale) * 0x1p-25;
    for (int64_t i = 0; i < array_count(&t.array[NATTEN_BIAS]); i++)
        array_set(&t.array[NATTEN_BIAS], i, bias);
    for (int64_t i = 0; i < array_count(&t.array[NATTEN_QUERY]); i++)
        array_set(&t.array[NATTEN_QUERY], i, 1);
    for (int64_t i = 0; i < array_count(&t.array[NATTEN_KEY]); i++)
        array_set(&t.array[NATTEN_KEY], i, i / dim % 2 == 0 ? product : 0);
    judge_for(&t, NATTEN_BACKEND_CUDA, &j);
    bool right = trial_run(&t, NATTEN_BACKEND_CUDA) == NATTEN_OK && is_right(&t, &j) &&
                 run_again(&t);
    judge_free(&j);
    trial_free(&t);
    return right;
}

static void lift(int dtype)
{
    static const char *const sizes[] = {"h1 d32 24x24 w5x5", "h3 d32 40x9 w7x7",
                                        "h9 d32 22x18 w7x7", "h2 d32 31x16 w13x13",
                                        "h1 d64 40x9 w7x7",  "h1 d17 30x7 w9x3"};
    static const double scales[] = {1, -0.3, 0.01};
    int wrong = 0, count = 0, sizes_count = sizeof sizes / sizeof sizes[0];
    for (int n = 0; n < sizes_count; n++)
        for (int i = 0; i < 3; i++)
            for (double bias = 100; fabs(bias) < 2e5; bias *= -10) {
                char text[96];
                snprintf(text, sizeof text, "fwd %s b1 %s bias scale%g%s",
                         natten_dtype_name((natten_dtype)dtype), sizes[n], scales[i],
                         in_tf32 ? " tf32" : "");
                wrong += !is_right_lifted(text, bias);
                count++;
            }
    char what[128];
    snprintf(what, sizeof what, "%s: %d of %d problems with large biases are wrong",
             type_name(dtype), wrong, count);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (largest[role] > 0)
            printf("# %s: largest error %.3f of its bound\n", role_name(role),
                   largest[role]);
    report(wrong == 0, what);
}

/* ---- runs ---- */

/* Gradients of a bias where a block of the pass that has all gradients takes several
 * runs of items, of some heads or of one, and where runs are of several items, the last
 * of a head of fewer. */
static void judge_runs(int dtype)
{
    static const char *const sizes[] = {"b1 h600 d32 5x5 w3x3", "b462 h8 d32 5x5 w3x3",
                                        "b3 h300 d32 9x6 w3x3", "b1 h280 d32 9x9 w5x5",
                                        "b455 h8 d32 5x5 w3x3"};
    int wrong = 0, count = sizeof sizes / sizeof sizes[0];
    for (int n = 0; n < count; n++) {
        static trial t;
        char text[96];
        randoms r = {(uint64_t)n};
        snprintf(text, sizeof text, "bwd %s %s bias",
                 natten_dtype_name((natten_dtype)dtype), sizes[n]);
        if (!make_of_text(&t, text, &r)) {
            wrong++;
            continue;
        }
        judgement j;
        judge_give_forward(&t);
        judge_for(&t, NATTEN_BACKEND_CUDA, &j);
        by_sweep += device_uses(&t, NATTEN_CUDA_SET_SWEEP);
        wrong += trial_run(&t, NATTEN_BACKEND_CUDA) != NATTEN_OK || !is_right(&t, &j) ||
                 !run_again(&t);
        judge_free(&j);
        trial_free(&t);
    }
    char what[128];
    snprintf(what, sizeof what,
             "%s: %d of %d problems of several runs are wrong, %d in one pass",
             type_name(dtype), wrong, count, by_sweep);
    bool is_meant = dtype == NATTEN_BF16 && natten_gpu_get(0).arch / 10 == 9;
    report(wrong == 0 && (!is_meant || by_sweep == count), what);
}

/* ---- merge ---- */

enum { PARTIALS = 5 };

typedef struct merge_trial {
    int count;
    array outputs[PARTIALS], lses[PARTIALS], grad_outputs[PARTIALS];
    array grad_lses[PARTIALS];
    array out, lse, grad_out, grad_lse;
} merge_trial;

static void make_array(array *a, natten_dtype dtype, int ndim, const int64_t *shape,
                       double size, randoms *r)
{
    array_make(a, dtype, ndim, shape, random_once_in(r, 2) ? ARRAY_ANY : ARRAY_COMPACT,
               r);
    for (int64_t i = 0; i < array_count(a); i++)
        array_set(a, i, random_normal(r) * size);
}

/* Some partials saw nothing; some values are not finite; or all partials agree, and
 * their products are beyond fp32. */
static void make_merge(merge_trial *t, natten_dtype dtype, randoms *r)
{
    natten_dtype accumulator = natten_dtype_accumulator(dtype);
    int64_t shape[5] = {random_int(r, 1, 3), random_int(r, 1, 9), random_int(r, 1, 5),
                        random_int(r, 1, 3), random_int(r, 1, 70)};
    bool finite = random_once_in(r, 2);
    bool huge = random_once_in(r, 4) && dtype != NATTEN_FP16;
    double size = huge ? 1e20 : 1;
    t->count = (int)random_int(r, 1, PARTIALS);
    for (int n = 0; n < t->count; n++) {
        make_array(&t->outputs[n], dtype, 5, shape, size, r);
        make_array(&t->lses[n], accumulator, 4, shape, 1, r);
        make_array(&t->grad_outputs[n], dtype, 5, shape, 1, r);
        make_array(&t->grad_lses[n], accumulator, 4, shape, 1, r);
        if (huge)
            array_assign(&t->outputs[n], &t->outputs[0]);
        for (int64_t i = 0; i < array_count(&t->lses[n]); i++)
            if (random_once_in(r, 4))
                array_set(&t->lses[n], i, -HUGE_VAL);
        if (!finite)
            array_set(&t->outputs[n], 0, NAN);
    }
    make_array(&t->out, dtype, 5, shape, 1, r);
    make_array(&t->lse, accumulator, 4, shape, 1, r);
    make_array(&t->grad_out, dtype, 5, shape, size, r);
    make_array(&t->grad_lse, accumulator, 4, shape, 1, r);
}

/* Every array of a merge, to be sent, fetched and freed alike. */
static int all_arrays(merge_trial *t, array *list[4 * PARTIALS + 4])
{
    int count = 0;
    for (int n = 0; n < t->count; n++) {
        list[count++] = &t->outputs[n];
        list[count++] = &t->lses[n];
        list[count++] = &t->grad_outputs[n];
        list[count++] = &t->grad_lses[n];
    }
    list[count++] = &t->out;
    list[count++] = &t->lse;
    list[count++] = &t->grad_out;
    list[count++] = &t->grad_lse;
    return count;
}

/* Both operations on the GPU, the results of the first as inputs of the second. */
static natten_status run_merge(merge_trial *t)
{
    array *list[4 * PARTIALS + 4];
    device_array d[4 * PARTIALS + 4];
    natten_tensor of[4][PARTIALS];
    int count = all_arrays(t, list);
    for (int i = 0; i < count; i++)
        device_array_send(&d[i], list[i]);
    for (int i = 0; i < 4 * t->count; i++)
        of[i % 4][i / 4] = d[i].tensor;
    device_array *last = &d[4 * t->count];
    natten_status status =
        natten_merge(t->count, of[0], of[1], &last[0].tensor, &last[1].tensor, NULL);
    if (status == NATTEN_OK)
        status = natten_merge_backward(t->count, of[0], of[1], &last[0].tensor,
                                       &last[1].tensor, &last[2].tensor,
                                       &last[3].tensor, of[2], of[3], NULL);
    for (int i = 0; i < count; i++) {
        device_array_fetch(&d[i], list[i]);
        device_array_free(&d[i]);
    }
    return status;
}

/* The largest error over its bound of both operations. */
static double judge_one_merge(merge_trial *t)
{
    merge_inputs in = {t->count, t->outputs,   t->lses,     &t->out,
                       &t->lse,  &t->grad_out, &t->grad_lse};
    verdict out, lse, grad_outputs[PARTIALS], grad_lses[PARTIALS];
    judge_merge(&in, &out, &lse);
    judge_merge_backward(&in, grad_outputs, grad_lses);
    double ratio = judge_ratio(&out, &t->out, NULL);
    ratio = fmax(ratio, judge_ratio(&lse, &t->lse, NULL));
    judge_verdict_free(&out);
    judge_verdict_free(&lse);
    for (int n = 0; n < t->count; n++) {
        ratio = fmax(ratio, judge_ratio(&grad_outputs[n], &t->grad_outputs[n], NULL));
        ratio = fmax(ratio, judge_ratio(&grad_lses[n], &t->grad_lses[n], NULL));
        judge_verdict_free(&grad_outputs[n]);
        judge_verdict_free(&grad_lses[n]);
    }
    return ratio;
}

static void merge(int dtype, int count)
{
    int wrong = 0;
    double worst = 0;
    for (int n = 0; n < count; n++) {
        static merge_trial t;
        randoms r = {(uint64_t)(dtype * 1000 + n)};
        memset(&t, 0, sizeof t);
        make_merge(&t, (natten_dtype)dtype, &r);
        natten_status status = run_merge(&t);
        double ratio = status == NATTEN_OK ? judge_one_merge(&t) : HUGE_VAL;
        if (status != NATTEN_OK)
            printf("# %s\n", natten_last_error());
        wrong += !(ratio <= 1);
        worst = fmax(worst, ratio);
        array *list[4 * PARTIALS + 4];
        int arrays = all_arrays(&t, list);
        for (int i = 0; i < arrays; i++)
            array_free(list[i]);
    }
    char what[96];
    snprintf(what, sizeof what, "%s: %d of %d merges are wrong, largest error %.3f",
             natten_dtype_name((natten_dtype)dtype), wrong, count, worst);
    report(wrong == 0, what);
}

/* ---- median ---- */

enum { SUITE = 320 };

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static void median(int dtype, natten_operation operation, natten_role role)
{
    static double ratio[SUITE];
    int count = 0;
    for (int n = 0; n < 2 * SUITE && count < SUITE; n++) {
        trial_wish wish = TRIAL_ANY;
        wish.dtype = dtype;
        wish.operation = (int)operation;
        wish.profile = PROFILE_NORMAL;
        static trial t;
        judgement j;
        trial_make(&t, &wish, (uint64_t)(7000000 + n));
        judge_evaluate(&t, &j);
        plain_run(&t);
        double plain = judge_rms(&j.of[role], &t.array[role]);
        if (plain > 0 && trial_run(&t, NATTEN_BACKEND_CUDA) == NATTEN_OK)
            ratio[count++] = judge_rms(&j.of[role], &t.array[role]) / plain;
        judge_free(&j);
        trial_free(&t);
    }
    qsort(ratio, (size_t)count, sizeof *ratio, by_value);
    char what[128];
    snprintf(what, sizeof what,
             "%s %s: rms error %.3f of a plain computation's (median of %d)",
             natten_dtype_name((natten_dtype)dtype), role_name(role),
             count > 0 ? ratio[count / 2] : -1.0, count);
    report(count >= 300 && ratio[count / 2] <= 0.88, what);
}

/* ---- repeat ---- */

/* A problem of each kind, large enough that many blocks run at once; then of both
 * 16-bit types with windows of many boxes; then some of bf16 whose gradients, that of a
 * bias too, are of one pass; then some for warpgroups and for bands. */
enum { REPEATED = 19 };

static void repeat(int times, int first, int problems)
{
    static const char *const texts[] = {"bwd bf16 b9 h3 d32 56x56 w7x7 bias",
                                        "bwd bf16 b11 h2 d32 32x40 w5x7 e4x4 bias",
                                        "bwd bf16 b2 h1 d32 56x28 w7x7 bias",
                                        "bwd bf16 b9 h4:2 d64 56x57 w13x12 e1x2",
                                        "bwd fp16 b3 h3 d64 9x30x31 w3x7x7 causal010",
                                        "bwd bf16 b2 h5 d64 4000 w777 s3",
                                        /* of most keys nobody sees any */
                                        "bwd bf16 b9 h2 d64 24x24 w13x13 g64x64 q20x20 "
                                        "k0x0 n64x64",
                                        "bwd bf16 b4 h3 d64 60x57 w13x13",
                                        "bwd fp16 b3 h2 d64 41x70 w11x7 e1x2 causal10"};
    _Static_assert(10 + sizeof texts / sizeof texts[0] == REPEATED, "problems");
    for (int n = first; n < REPEATED && n < first + problems; n++) {
        trial_wish wish = TRIAL_ANY;
        bool is_long = n >= 6 && n < 10;
        randoms r = {1};
        wish.operation = NATTEN_BACKWARD;
        wish.dtype = !is_long ? n % NATTEN_DTYPES : n % 2 ? NATTEN_BF16 : NATTEN_FP16;
        wish.rank = is_long ? 3 - n % 2 : 1 + n % 3;
        wish.profile = PROFILE_NORMAL;
        wish.pairs = 60000;
        if (is_long) {
            wish.wide = 1, wish.part = 0, wish.extras = n < 8 ? 0 : -1;
            wish.keys = LONG_KEYS;
            wish.dim = n == 6 ? 96 : n == 8 ? 128 : -1;
        }
        static trial t, other;
        if (n < 10)
            trial_make(&t, &wish, (uint64_t)(9000000 + n));
        else if (!make_of_text(&t, texts[n - 10], &r))
            report(false, texts[n - 10]);
        for (int i = 1; is_long && i < 100 && !device_uses(&t, NATTEN_CUDA_SET_MMA);
             i++) {
            trial_free(&t);
            trial_make(&t, &wish, (uint64_t)(9000000 + n + 100 * i));
        }
        bool is_mma = is_of_mma(&t), is_wgmma = is_of_wgmma(&t),
             is_band = is_of_band(&t);
        bool reached = (is_mma || !is_long || !has_mma(t.spec.dtype)) &&
                       (is_wgmma || is_band || n < 13 || !has_wgmma()) &&
                       (is_band || n < 17 || !has_wgmma());
        int differing = trial_run(&t, NATTEN_BACKEND_CUDA) != NATTEN_OK;
        int runs =
            n < 10 ? times : (times + 9) / 10; /* copies of large ones are slow */
        for (int i = 0; i < runs; i++) {
            trial_copy(&other, &t, i % 3 == 0 ? ARRAY_ANY : ARRAY_COMPACT, &r);
            bool same = trial_run(&other, NATTEN_BACKEND_CUDA) == NATTEN_OK;
            for (natten_role role = 0; role < NATTEN_ROLES; role++)
                if (t.given[role] &&
                    array_difference(&t.array[role], &other.array[role]) >= 0)
                    same = false;
            differing += !same;
            trial_free(&other);
        }
        char what[400];
        snprintf(what, sizeof what, "%d of %d repeated runs differ%s: %s", differing,
                 runs,
                 is_band    ? ", by bands"
                 : is_wgmma ? ", by warpgroups"
                 : is_mma   ? ", by mma"
                            : "",
                 trial_text(&t));
        report(differing == 0 && reached, what);
        trial_free(&t);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (device_driver() == NULL) {
        printf("1..0 # SKIP no GPU that this build has kernels for\n");
        return 77;
    }
    if (strcmp(mode, "judge") == 0 && argc == 5) {
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_ANY);
    } else if (strcmp(mode, "halo") == 0 && argc == 5) {
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_HALO);
    } else if (strcmp(mode, "mma") == 0 && argc == 5) {
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_MMA);
    } else if (strcmp(mode, "wgmma") == 0 && argc == 5) {
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_WGMMA);
    } else if (strcmp(mode, "band") == 0 && argc == 5) {
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_BAND);
    } else if (strcmp(mode, "sweep") == 0 && argc == 5) {
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_SWEEP);
    } else if (strcmp(mode, "added") == 0 && argc == 5) {
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_ADDED);
    } else if (strcmp(mode, "kinds") == 0 && argc == 5) {
        device_plan_for(12);
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_KINDS);
    } else if (strcmp(mode, "older") == 0 && argc == 5) {
        device_plan_as(86);
        judge(type_named(argv[2]), atoi(argv[3]), atoi(argv[4]), AIM_MMA);
    } else if (strcmp(mode, "climb") == 0 && argc == 3) {
        climb(type_named(argv[2]));
    } else if (strcmp(mode, "lift") == 0 && argc == 3) {
        lift(type_named(argv[2]));
    } else if (strcmp(mode, "runs") == 0 && argc == 3) {
        judge_runs(type_named(argv[2]));
    } else if (strcmp(mode, "merge") == 0 && argc == 4) {
        merge(type_named(argv[2]), atoi(argv[3]));
    } else if (strcmp(mode, "median") == 0 && argc == 3) {
        int dtype = type_named(argv[2]);
        median(dtype, NATTEN_FORWARD, NATTEN_OUT);
        median(dtype, NATTEN_BACKWARD, NATTEN_GRAD_QUERY);
        median(dtype, NATTEN_BACKWARD, NATTEN_GRAD_KEY);
        median(dtype, NATTEN_BACKWARD, NATTEN_GRAD_VALUE);
    } else if (strcmp(mode, "repeat") == 0 && (argc == 3 || argc == 5)) {
        repeat(atoi(argv[2]), argc == 5 ? atoi(argv[3]) : 0,
               argc == 5 ? atoi(argv[4]) : REPEATED);
    } else {
        fprintf(stderr,
                "usage: gpu_judge judge|halo|mma|wgmma|band|added|sweep|kinds|older "
                "TYPE FIRST COUNT | climb TYPE | lift TYPE | runs TYPE | merge TYPE "
                "COUNT | "
                "median TYPE | repeat COUNT [FIRST PROBLEMS]\n");
        return 2;
    }
    printf("1..%d\n", number);
    return failures != 0;
}
