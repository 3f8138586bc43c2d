/* SPDX-License-Identifier: MIT
 *
 * Planning for the kernels that go down bands of a grid (core/cuda/cuda_band.c with
 * core/cuda/cuda_band_block.h), for GPUs that are not here: what they take, that bands,
 * strips and groups hold all that is seen and are counted as they are, how work is
 * shared out, and what launches bring. */
#include "cuda/fake_band.h"

#include "base/status.h"
#include "cuda/cuda_family.h"
#include "cuda/cuda_plan.h"
#include "cuda/fake_family.h"
#include "cuda/fake_scene.h"
#include "plan/plan.h"
#include "support/device.h"

#include <stdio.h>
#include <string.h>

enum {
    SIDE = NATTEN_CUDA_BAND_SIDE,
    STRIP = NATTEN_CUDA_BAND_STRIP,
    PITCH = NATTEN_CUDA_BAND_PITCH
};
static const natten_gpu hopper = {.devices = 1, .arch = 90, .processors = 132};
static const char large[] = "fwd bf16 b4 h8 d64 128x128 w13x13";
static const char large_backward[] = "bwd bf16 b4 h8 d64 128x128 w13x13";

static bool is_of_keys(natten_cuda_band_pass pass)
{
    return pass == NATTEN_CUDA_BAND_GRAD_TOKENS;
}

static bool fit_of(const char *text, natten_cuda_band_pass pass, natten_plan *plan,
                   natten_cuda_band_fit *fit)
{
    EXPECT(fake_plan_of(text, 90, plan));
    EXPECT(natten_cuda_band_plan(&plan->task, &hopper, pass, fit));
    EXPECT(natten_cuda_band_spread(&plan->task, &hopper, pass, fit));
    return true;
}

static natten_span rows_of(const natten_class *c, bool of_keys)
{
    return of_keys ? c->keys : c->queries;
}

static natten_span partners_of(const natten_class *c, bool of_keys, int32_t g)
{
    return of_keys ? natten_class_queries(c, g) : natten_class_keys(c, g);
}

/* ---- what a block keeps ---- */

/* Bands of a class cover each column once, and each subtile's box, which begins with
 * its first column's partners, lies in its group and holds what its columns see.
 * Returns the strips of all, -1 if not. */
static int64_t strips_of(const natten_class *c, bool of_keys)
{
    natten_span rows = rows_of(c, of_keys);
    int32_t count = rows.end - rows.begin, next = 0;
    int64_t all = 0;
    for (int32_t band = 0; band < natten_cuda_band_count(count); band++) {
        natten_span own = natten_cuda_band_columns(count, band);
        if (own.begin != next || own.end <= own.begin ||
            own.end - own.begin > NATTEN_CUDA_BAND_COLUMNS)
            return -1;
        next = own.end;
        int32_t left = partners_of(c, of_keys, rows.begin + own.begin).begin;
        for (int32_t first = own.begin; first < own.end; first += SIDE) {
            int32_t begin = partners_of(c, of_keys, rows.begin + first).begin,
                    end = begin;
            for (int32_t i = first; i < natten_min(first + SIDE, own.end); i++) {
                natten_span s = partners_of(c, of_keys, rows.begin + i);
                if (s.begin < begin)
                    return -1;
                end = natten_max(end, s.end);
            }
            int32_t strips =
                of_keys ? natten_max(1, (end - begin + STRIP - 1) / STRIP) : 2;
            if (end - begin > strips * STRIP || strips > NATTEN_CUDA_BAND_STRIPS ||
                begin - left + strips * STRIP > PITCH)
                return -1;
            all += strips;
        }
    }
    return next == count ? all : -1;
}

/* Groups that the steps of a class meet, which begin `lead` before a multiple of 4; -1
 * if a block does not keep as many as one of them needs, or they don't go on. */
static int64_t groups_of(const natten_class *c, bool of_keys, int32_t lead,
                         int32_t kept)
{
    natten_span rows = rows_of(c, of_keys);
    int32_t origin = rows_of(c, !of_keys).begin - lead, before = 0;
    int64_t all = 0;
    for (int32_t first = rows.begin; first < rows.end; first += SIDE) {
        int32_t begin = INT32_MAX, end = 0;
        for (int32_t g = first; g < natten_min(first + SIDE, rows.end); g++) {
            natten_span s = partners_of(c, of_keys, g);
            begin = natten_min(begin, (s.begin - origin) / SIDE);
            if (s.end > s.begin)
                end = natten_max(end, (s.end - origin + SIDE - 1) / SIDE);
        }
        if (begin < before || end - begin > kept)
            return -1;
        before = begin;
        all += natten_max(end - begin, 0);
    }
    return all;
}

/* Each token is looked at. */
static bool counts_are_exact(const char *text)
{
    natten_plan plan;
    EXPECT(fake_plan_of(text, 90, &plan));
    for (int pass = plan.task.operation == NATTEN_BACKWARD;
         pass <= (plan.task.operation == NATTEN_BACKWARD ? 2 : 0); pass++) {
        natten_cuda_band_fit fit;
        bool of_keys = is_of_keys((natten_cuda_band_pass)pass);
        const natten_axis *down = &plan.task.axis[1], *across = &plan.task.axis[2];
        int64_t strips = 0, groups = 0;
        EXPECT(fit_of(text, (natten_cuda_band_pass)pass, &plan, &fit));
        for (int32_t i = 0; i < across->dilation; i++) {
            natten_class c = natten_axis_class(across, i);
            natten_span rows = rows_of(&c, of_keys);
            int64_t own = strips_of(&c, of_keys);
            EXPECT(own >= 0);
            strips += own;
            EXPECT(natten_cuda_band_count(rows.end - rows.begin) <= fit.band.bands);
        }
        for (int32_t i = 0; i < down->dilation; i++) {
            natten_class c = natten_axis_class(down, i);
            int64_t own = groups_of(&c, of_keys, fit.band.lead,
                                    natten_cuda_band_shapes[pass].groups);
            EXPECT(own >= 0);
            groups += own;
            for (int32_t lead = 0; lead < SIDE; lead++) {
                int64_t other =
                    groups_of(&c, of_keys, lead, natten_cuda_band_shapes[pass].groups);
                EXPECT(down->dilation > 1 || other < 0 || other >= own);
            }
        }
        EXPECT(fit.slots ==
               (double)strips * (double)groups * (SIDE * STRIP) * (SIDE * SIDE));
        EXPECT(fit.shared_bytes <= NATTEN_CUDA_SHARED_ENGINE);
    }
    return true;
}

/* ---- how work is shared out ---- */

/* Blocks have whole items in turn, and of all other steps each its own, one after the
 * other. */
static bool blocks_share_steps(const natten_cuda_band *b, int32_t blocks)
{
    EXPECT(b->whole == b->items || (b->whole < b->items && b->whole % blocks == 0));
    if (b->whole == b->items)
        return true;
    natten_cuda_band_place at = natten_cuda_band_cut(b, blocks, 0);
    EXPECT(at.item == b->whole && at.step == 0);
    for (int32_t block = 1; block <= blocks; block++) {
        natten_cuda_band_place end = natten_cuda_band_cut(b, blocks, block);
        EXPECT(end.step >= 0 && end.step <= b->steps);
        EXPECT(end.item > at.item || (end.item == at.item && end.step >= at.step));
        at = end;
    }
    EXPECT(at.item == b->items && at.step == 0);
    return true;
}

/* For any batch and any number of processors: items cover all steps, and nothing
 * changes that decides about bits. */
static bool is_shared_out(const char *text, natten_cuda_band_pass pass)
{
    static const int64_t batches[] = {1, 3, 4, 17, 1000};
    static const int32_t processors[] = {1, 20, 78, 132};
    natten_plan plan;
    natten_cuda_band_fit first;
    EXPECT(fit_of(text, pass, &plan, &first));
    for (int i = 0; i < 20; i++) {
        natten_task task = plan.task;
        natten_gpu gpu = hopper;
        natten_cuda_band_fit fit = first;
        task.batch = batches[i % 5], gpu.processors = processors[i / 5];
        EXPECT(natten_cuda_band_spread(&task, &gpu, pass, &fit));
        const natten_cuda_band *b = &fit.band;
        EXPECT(b->items == (int64_t)b->bands * task.batch * task.heads *
                               task.axis[1].dilation * task.axis[2].dilation);
        EXPECT(fit.blocks >= 1 && fit.blocks <= gpu.processors);
        EXPECT(blocks_share_steps(b, (int32_t)fit.blocks));
        EXPECT(b->lead == first.band.lead && b->bands == first.band.bands &&
               b->steps == first.band.steps);
    }
    return true;
}

/* A single head of a large grid is cut, many are not. */
static bool bands_are_cut(void)
{
    natten_plan plan;
    natten_cuda_band_fit fit;
    EXPECT(fit_of("fwd bf16 b1 h1 d64 512x128 w13x13", NATTEN_CUDA_BAND_FORWARD, &plan,
                  &fit));
    EXPECT(fit.band.whole == 0 && fit.band.items == 8 && fit.blocks > 100);
    EXPECT(fit_of(large, NATTEN_CUDA_BAND_FORWARD, &plan, &fit));
    EXPECT(fit.band.items == 256 && fit.band.whole == 256 && fit.blocks == 132);
    EXPECT(fit_of(large_backward, NATTEN_CUDA_BAND_GRAD_TOKENS, &plan, &fit));
    EXPECT(fit.band.items == 256 && fit.band.whole == 132 && fit.blocks == 132);
    EXPECT(fit.band.border == 10);
    EXPECT(blocks_share_steps(&fit.band, (int32_t)fit.blocks));
    return true;
}

/* ---- what they take ---- */

/* On compute capability 9.0, on other GPUs never. */
static bool is_taken(const char *text)
{
    static const int32_t others[] = {75, 80, 86, 89, 100, 120};
    natten_plan plan;
    EXPECT(fake_plan_of(text, 90, &plan));
    EXPECT(strcmp(plan.choice.kernel, "band") == 0 && plan.choice.work >= 1);
    EXPECT(plan.choice.tile[2] == NATTEN_CUDA_BAND_COLUMNS);
    for (int i = 0; i < 6; i++) {
        EXPECT(fake_plan_of(text, others[i], &plan));
        EXPECT(strcmp(plan.choice.kernel, "band") != 0);
    }
    return true;
}

/* Whatever it counts as. */
static bool is_left(const char *text, natten_cuda_band_pass pass)
{
    natten_plan plan;
    natten_cuda_band_fit fit;
    EXPECT(fake_plan_of(text, 90, &plan));
    return !natten_cuda_band_plan(&plan.task, &hopper, pass, &fit);
}

/* Parts without a query or a key on some axis; scales that are too large; rows of
 * results that are too far apart; more items than can be counted. */
static bool odd_tasks_are_left(void)
{
    natten_plan plan;
    natten_cuda_band_fit fit;
    EXPECT(fit_of(large, NATTEN_CUDA_BAND_FORWARD, &plan, &fit));
    natten_task many = plan.task;
    many.batch = (INT32_MAX - (1 << 16)) / many.heads / fit.band.bands;
    EXPECT(natten_cuda_band_spread(&many, &hopper, NATTEN_CUDA_BAND_FORWARD, &fit));
    EXPECT(fit.band.items > INT32_MAX / 2);
    many.batch++;
    EXPECT(!natten_cuda_band_spread(&many, &hopper, NATTEN_CUDA_BAND_FORWARD, &fit));
    for (int i = 0; i < 6; i++) {
        natten_task task = plan.task;
        if (i == 0)
            task.axis[2].query_count = 0;
        else if (i == 1)
            task.axis[1].key_count = 0;
        else if (i == 2)
            task.scale = 0x1p30;
        else if (i == 3)
            task.by_rows = true;
        else if (i == 4)
            task.view[NATTEN_OUT].axis[1] = INT32_MAX / 16;
        else
            task.axis[0].length = task.axis[0].query_count = 2;
        EXPECT(!natten_cuda_band_plan(&task, &hopper, NATTEN_CUDA_BAND_FORWARD, &fit));
    }
    return true;
}

bool fake_band(void)
{
    static const char *const taken[] = {large,
                                        "fwd fp16 b16 h16 d64 28x28 w13x13",
                                        "fwd bf16 b4 h8:2 d64 64x64 w12x12",
                                        "bwd bf16 b4 h8 d64 128x128 w13x13",
                                        "bwd fp16 b64 h4 d64 56x56 w13x13",
                                        "fwd bf16 b4 h8 d64 128x128 w13x13 causal11"};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        EXPECT(is_taken(taken[i]) &&
               fake_fewest_clocks_win(taken[i], NATTEN_CUDA_SET_BAND));
    EXPECT(
        fake_fewest_clocks_win("bwd bf16 b64 h4 d64 56x56 w7x7", NATTEN_CUDA_SET_BAND));
    EXPECT(
        fake_fewest_clocks_win("bwd bf16 b64 h4 d64 56x56 w3x3", NATTEN_CUDA_SET_BAND));
    static const char *const left[] = {"fwd fp32 b4 h8 d64 128x128 w13x13 tf32",
                                       "fwd bf16 b4 h8 d64 128x128 w13x13 bias",
                                       "fwd bf16 b4 h8 d64 128x128 w13x13 m1",
                                       "fwd bf16 b4 h8 d32 128x128 w13x13",
                                       "fwd bf16 b4 h8 d64:32 128x128 w13x13",
                                       "fwd bf16 b4 h8 d64 128x128 w13x14",
                                       "fwd bf16 b4 h8 d64 4x32x32 w3x13x13",
                                       "fwd bf16 b4 h8 d64 128x128 w13x13 scale-1",
                                       "qk bf16 b4 h8 d64 32x32 w9x9"};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++)
        EXPECT(is_left(left[i], NATTEN_CUDA_BAND_FORWARD));
    /* A key that 28 queries see, each way; heads that share keys. */
    EXPECT(is_left("bwd bf16 b4 h8 d64 28x64 w13x13", NATTEN_CUDA_BAND_GRAD_TOKENS));
    EXPECT(is_left("bwd bf16 b4 h8 d64 64x28 w13x13", NATTEN_CUDA_BAND_GRAD_TOKENS));
    EXPECT(is_left("bwd bf16 b4 h8:4 d64 64x64 w13x13", NATTEN_CUDA_BAND_GRAD_TOKENS));
    EXPECT(odd_tasks_are_left());
    static const char *const few[] = {
        "bwd bf16 b1 h1 d64 37x30 w9x11",
        "bwd bf16 b1 h1 d64 64x57 w13x12",
        "bwd bf16 b1 h1 d64 56x56 w13x13",
        "fwd bf16 b1 h1 d64 30x25 w13x8 s4x3",
        "bwd bf16 b1 h1 d64 31x29 w12x9 causal10",
        "bwd bf16 b1 h1 d64 41x37 w7x9 e3x4",
        "bwd bf16 b1 h1 d64 3x3 w3x3",
        "bwd bf16 b1 h1 d64 1x1 w1x1",
        "bwd bf16 b1 h1 d64 40x33 w9x7 causal01 g64x64 q9x8 k0x0 n64x64",
        "bwd bf16 b1 h1 d64 40x40 w9x9 g64x64 q20x20 k0x0 n24x24"};
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++) {
        EXPECT(counts_are_exact(few[i]));
        /* Forward's bands weigh the same, those of tokens more at borders. */
        int passes = few[i][0] == 'b' ? NATTEN_CUDA_BAND_PASSES : 1;
        for (int pass = 0; pass < passes; pass++)
            EXPECT(is_shared_out(few[i], (natten_cuda_band_pass)pass));
    }
    EXPECT(bands_are_cut());
    char text[1024];
    natten_plan plan;
    EXPECT(fake_plan_of(large, 90, &plan));
    natten_plan_print(&plan, text, sizeof text);
    EXPECT(strstr(text, "backend    cuda, device 0, kernel band") != NULL);
    return true;
}

/* ---- launches ---- */

/* The launches of a call, as they should be; those by the engine say so in their names.
 */
static bool are_launched(trial *t, const char *const names[], int count, int maps)
{
    const int64_t stats_after =
        4 * 64 * 64 * 2 * 4; /* of each query and head a delta */
    const fake_launch *l = fake_launches_of(t, names, count, maps);
    EXPECT(l != NULL);
    for (int i = 0; i < count; i++, l++) {
        if (strstr(names[i], "band") == NULL)
            continue;
        const natten_cuda_band *b = &l->job.band;
        bool of_keys = strstr(names[i], "tokens") != NULL;
        EXPECT(l->block == (of_keys ? 384 : 512));
        EXPECT(l->grid >= 1 && (int64_t)l->grid <= (int64_t)b->items * b->steps);
        bool by_engine = strstr(names[i], "engine") != NULL,
             of_forward = strstr(names[i], "forward") != NULL;
        natten_cuda_band_pass pass = of_keys      ? NATTEN_CUDA_BAND_GRAD_TOKENS
                                     : of_forward ? NATTEN_CUDA_BAND_FORWARD
                                                  : NATTEN_CUDA_BAND_GRAD_QUERY;
        const natten_cuda_band_shape *shape = &natten_cuda_band_shapes[pass];
        EXPECT((l->job.halo.by_maps != 0) == by_engine);
        EXPECT(of_forward ||
               (l->job.delta != NULL &&
                (char *)l->job.stats - (char *)l->job.delta >= stats_after));
        EXPECT(l->shared_bytes ==
               (unsigned)natten_cuda_band_bytes(pass, shape->row_tensors, shape->groups,
                                                shape->crews));
        /* The engine's pass of queries works delta out, if it comes first. */
        EXPECT((l->job.halo.writes_delta != 0) ==
               (i == 0 && strstr(names[i], "engine_grad_query") != NULL));
        EXPECT(b->scale > 0 && b->scale_2 > b->scale);
    }
    return true;
}

/* A call whose tensors of these roles have these strides. */
static bool launches_with(trial *t, int64_t strides[], uint32_t roles,
                          const char *const names[], int count, int maps)
{
    forget_log();
    make(t, "bwd fp16 b2 h4 d64 64x64 w13x13 dlse", NATTEN_CUDA);
    for (int role = 0; role < NATTEN_ROLES; role++)
        if (roles >> role & 1) {
            natten_tensor *tensor = &t->array[role].tensor;
            tensor->strides = strides;
            tensor->data = fake_memory_of((size_t)2 * 64 * 64 * 288 * 2);
        }
    return are_launched(t, names, count, maps);
}

/* delta has a pass of its own where some tensor is not compact, where lanes copy in the
 * pass of queries, and where there is none. */
static bool backward_launches(trial *t)
{
    static const char *const
        delta_apart[] = {"natten_simt_delta", "natten_halo_stats",
                         "natten_band_engine_grad_query_64",
                         "natten_band_engine_grad_tokens_64"},
        *const by_lanes[] = {"natten_halo_delta", "natten_band_grad_query_64",
                             "natten_band_grad_tokens_64"},
        *const queries_by_lanes[] = {"natten_halo_delta", "natten_band_grad_query_64",
                                     "natten_band_engine_grad_tokens_64"},
        *const tokens[] = {"natten_halo_delta", "natten_band_engine_grad_tokens_64"},
        *const grouped[] = {"natten_band_engine_grad_query_64",
                            "natten_wgmma_engine_grad_tokens_64"};
    static int64_t odd[] = {64 * 64 * 288, 64 * 288, 288, 68, 1},
                   even[] = {64 * 64 * 288, 64 * 288, 288, 72, 1},
                   numbers[] = {64 * 64 * 8, 64 * 8, 8, 2};
    const uint32_t one = 1;
    EXPECT(launches_with(t, even, one << NATTEN_OUT, delta_apart, 4, 8));
    EXPECT(launches_with(t, even, one << NATTEN_GRAD_OUT, delta_apart, 4, 8));
    EXPECT(launches_with(t, numbers, one << NATTEN_LSE, delta_apart, 4, 8));
    EXPECT(launches_with(t, numbers, one << NATTEN_GRAD_LSE, delta_apart, 4, 8));
    EXPECT(
        launches_with(t, odd, one << NATTEN_KEY | one << NATTEN_QUERY, by_lanes, 3, 0));
    EXPECT(launches_with(t, odd, one << NATTEN_GRAD_QUERY, queries_by_lanes, 3, 4));
    make(t, "bwd fp16 b2 h4 d64 64x64 w13x13", NATTEN_CUDA);
    t->given[NATTEN_GRAD_QUERY] = false;
    EXPECT(are_launched(t, tokens, 2, 4));
    make(t, "bwd fp16 b2 h4:2 d64 64x64 w13x13", NATTEN_CUDA);
    EXPECT(are_launched(t, grouped, 2, 8));
    return true;
}

/* Lanes copy where rows of what is read are no whole chunks, or of what is written. */
bool fake_band_launches(void)
{
    static const char *const forward[] = {"natten_band_engine_forward_64"},
                             *const by_lanes[] = {"natten_band_forward_64"},
                             *const backward[] = {"natten_band_engine_grad_query_64",
                                                  "natten_band_engine_grad_tokens_64"};
    static trial t;
    make(&t, "fwd bf16 b2 h4:2 d64 64x64 w13x13", NATTEN_CUDA);
    EXPECT(are_launched(&t, forward, 1, 3));
    EXPECT(device_rounded(&t) == UINT32_C(1) << NATTEN_OUT);
    make(&t, "fwd bf16 b2 h4:2 d64 64x101 w13x13 e1x2", NATTEN_CUDA);
    EXPECT(are_launched(&t, forward, 1, 6));
    int64_t strides[] = {64 * 64 * 288, 64 * 288, 288, 68, 1};
    for (int i = 0; i < 2; i++) {
        make(&t, "fwd bf16 b2 h4 d64 64x64 w13x13", NATTEN_CUDA);
        natten_tensor *tensor = &t.array[i == 0 ? NATTEN_KEY : NATTEN_OUT].tensor;
        tensor->strides = strides;
        tensor->data = fake_memory_of((size_t)2 * 64 * 64 * 288 * 2);
        EXPECT(are_launched(&t, by_lanes, 1, 0));
    }
    make(&t, "bwd fp16 b2 h4 d64 64x64 w13x13 dlse", NATTEN_CUDA);
    EXPECT(are_launched(&t, backward, 2, 8));
    EXPECT(device_rounded(&t) ==
           (UINT32_C(1) << NATTEN_GRAD_QUERY | UINT32_C(1) << NATTEN_GRAD_KEY |
            UINT32_C(1) << NATTEN_GRAD_VALUE));
    EXPECT(backward_launches(&t));
    return true;
}
