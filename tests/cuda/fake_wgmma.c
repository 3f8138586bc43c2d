/* SPDX-License-Identifier: MIT
 *
 * Planning for the kernels of warpgroups (core/cuda/cuda_wgmma.c with
 * core/cuda/cuda_wgmma_crew.h, core/cuda/cuda_count.c and core/cuda/cuda_count.h), for
 * GPUs that are not here: what they take, that counts along axes are those of tiles and
 * boxes, and what launches bring. */
#include "cuda/fake_wgmma.h"

#include "base/status.h"
#include "cuda/cuda_family.h"
#include "cuda/cuda_plan.h"
#include "cuda/fake_family.h"
#include "cuda/fake_scene.h"
#include "plan/plan.h"
#include "support/device.h"

#include <stdio.h>
#include <string.h>

static const natten_gpu hopper = {.devices = 1, .arch = 90, .processors = 132};
static const char wide[] = "fwd bf16 b4 h8 d64 128x128 w33x33";

/* Tiles and boxes are such that kernels can take them. */
static bool is_sound(const natten_task *task, natten_cuda_wgmma_pass pass,
                     const natten_cuda_wgmma_fit *fit)
{
    const natten_cuda_wgmma_shape *kernel = &natten_cuda_wgmma_shapes[pass];
    const natten_cuda_wgmma *w = &fit->wgmma;
    bool of_keys = pass == NATTEN_CUDA_WGMMA_GRAD_TOKENS;
    int64_t rows = 1, partners = 1, positions = 1;
    int32_t hot = 0;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task->axis[a];
        int32_t d = axis->dilation,
                count = of_keys ? axis->key_count : axis->query_count;
        EXPECT(w->tile[a] >= 1 && (w->tile[a] & (w->tile[a] - 1)) == 0);
        EXPECT(w->box[a] >= 1 && w->tiles[a] >= 1);
        EXPECT((int64_t)w->tiles[a] * w->tile[a] >= (count + d - 1) / d);
        EXPECT(w->first_hot[a] == (w->box[a] > 1 || (a == 2 && hot == 0) ? hot : -1));
        hot += w->first_hot[a] >= 0 ? w->box[a] : 0;
        rows *= w->tile[a], partners *= w->box[a], positions *= w->tiles[a] * d;
    }
    EXPECT(rows <= NATTEN_CUDA_WGMMA_ROWS && partners <= kernel->columns);
    EXPECT(w->tile[0] + w->tile[1] + w->tile[2] <= NATTEN_CUDA_WGMMA_PLACES);
    EXPECT(w->hot_always == (partners < kernel->columns ? hot++ : -1));
    EXPECT(hot <= 16 * NATTEN_CUDA_WGMMA_HOT_STEPS);
    EXPECT(w->hot_steps == (hot + 15) / 16);
    EXPECT(w->positions == positions && w->group == task->heads / task->heads_kv);
    EXPECT(w->items ==
           positions * task->batch * (of_keys ? task->heads_kv : task->heads));
    EXPECT(fit->blocks == natten_min(w->items, (int64_t)hopper.processors));
    EXPECT(fit->shared_bytes <= NATTEN_CUDA_SHARED_ENGINE);
    return true;
}

static bool fit_of(const char *text, natten_cuda_wgmma_pass pass, natten_plan *plan,
                   natten_cuda_wgmma_fit *fit)
{
    EXPECT(fake_plan_of(text, 90, plan));
    EXPECT(natten_cuda_wgmma_plan(&plan->task, &hopper, pass, fit));
    EXPECT(natten_cuda_wgmma_spread(&plan->task, &hopper, pass, fit));
    return is_sound(&plan->task, pass, fit);
}

/* ---- counts ---- */

/* Boxes that the tiles of a class take along an axis. */
static int64_t boxes_of(const natten_class *c, int32_t tile, int32_t box, bool of_keys)
{
    int64_t boxes = 0;
    natten_span rows = of_keys ? c->keys : c->queries,
                partners = of_keys ? c->queries : c->keys;
    for (int32_t first = rows.begin; first < rows.end; first += tile) {
        int32_t begin = partners.end, end = partners.begin;
        for (int32_t g = first; g < first + tile && g < rows.end; g++) {
            natten_span s =
                of_keys ? natten_class_queries(c, g) : natten_class_keys(c, g);
            begin = natten_min(begin, s.begin), end = natten_max(end, s.end);
        }
        boxes += end > begin ? (end - begin + box - 1) / box : 0;
    }
    return boxes;
}

/* Of them those that lie in what all rows of their tile see. */
static int64_t full_of(const natten_class *c, int32_t tile, int32_t box, bool of_keys)
{
    int64_t full = 0;
    natten_span rows = of_keys ? c->keys : c->queries;
    for (int32_t first = rows.begin; first < rows.end; first += tile) {
        int32_t last = natten_min(first + tile, rows.end) - 1;
        natten_span low = of_keys ? natten_class_queries(c, first)
                                  : natten_class_keys(c, first),
                    high = of_keys ? natten_class_queries(c, last)
                                   : natten_class_keys(c, last);
        for (int32_t at = low.begin; at < high.end; at += box) {
            bool sees_all = true;
            for (int32_t g = first; g <= last; g++) {
                natten_span s =
                    of_keys ? natten_class_queries(c, g) : natten_class_keys(c, g);
                sees_all = sees_all && s.begin <= at && s.end >= at + box;
            }
            full += sees_all;
        }
    }
    return full;
}

/* Every tile is looked at. */
static bool counts_are_exact(const char *text)
{
    for (int pass = 0; pass < NATTEN_CUDA_WGMMA_PASSES; pass++) {
        natten_plan plan;
        natten_cuda_wgmma_fit fit;
        EXPECT(fit_of(text, (natten_cuda_wgmma_pass)pass, &plan, &fit));
        int32_t columns = natten_cuda_wgmma_shapes[pass].columns;
        const int32_t *box = fit.wgmma.box;
        double slots = NATTEN_CUDA_WGMMA_ROWS * columns,
               full = box[0] * box[1] * box[2] == columns;
        for (int a = 0; a < 3; a++) {
            int64_t boxes = 0, seen = 0;
            for (int32_t i = 0; i < plan.task.axis[a].dilation; i++) {
                natten_class c = natten_axis_class(&plan.task.axis[a], i);
                boxes += boxes_of(&c, fit.wgmma.tile[a], fit.wgmma.box[a],
                                  pass == NATTEN_CUDA_WGMMA_GRAD_TOKENS);
                seen += full_of(&c, fit.wgmma.tile[a], fit.wgmma.box[a],
                                pass == NATTEN_CUDA_WGMMA_GRAD_TOKENS);
            }
            slots *= (double)boxes;
            full *= (double)seen;
        }
        EXPECT(fit.slots == slots && fit.full == full);
    }
    return true;
}

/* ---- what they take ---- */

/* By warpgroups on compute capability 9.0, by the same tiles for any number of
 * processors; on other GPUs never. */
static bool is_taken(const char *text)
{
    static const int32_t others[] = {75, 80, 86, 89, 100, 120};
    natten_plan plan;
    natten_cuda_pass pass[NATTEN_CUDA_PASSES], other[NATTEN_CUDA_PASSES];
    EXPECT(fake_plan_of(text, 90, &plan));
    EXPECT(strcmp(plan.choice.kernel, "wgmma") == 0 && plan.choice.work >= 1);
    int count = natten_cuda_plan_passes(&plan, NULL, pass);
    plan.choice.processors = 20;
    EXPECT(natten_cuda_plan_passes(&plan, NULL, other) == count);
    for (int i = 0; i < count; i++) {
        EXPECT(pass[i].kernel == other[i].kernel);
        EXPECT(memcmp(&pass[i].job.wgmma, &other[i].job.wgmma,
                      sizeof pass[i].job.wgmma) == 0);
    }
    for (int i = 0; i < 6; i++) {
        EXPECT(fake_plan_of(text, others[i], &plan));
        EXPECT(strcmp(plan.choice.kernel, "wgmma") != 0);
    }
    return true;
}

/* Whatever it counts as. */
static bool is_left(const char *text)
{
    natten_plan plan;
    EXPECT(fake_plan_of(text, 90, &plan));
    for (int pass = 0; pass < NATTEN_CUDA_WGMMA_PASSES; pass++) {
        natten_cuda_wgmma_fit fit;
        EXPECT(!natten_cuda_wgmma_plan(&plan.task, &hopper,
                                       (natten_cuda_wgmma_pass)pass, &fit));
    }
    EXPECT(strcmp(plan.choice.kernel, "wgmma") != 0);
    return true;
}

/* Parts without a query or a key on some axis; scales that are too large; more items
 * than can be counted. */
static bool odd_tasks_are_left(void)
{
    natten_plan plan;
    natten_cuda_wgmma_fit fit;
    EXPECT(fit_of(wide, NATTEN_CUDA_WGMMA_FORWARD, &plan, &fit));
    natten_task many = plan.task;
    many.batch = (INT32_MAX - (1 << 16)) / many.heads / fit.wgmma.positions;
    EXPECT(natten_cuda_wgmma_spread(&many, &hopper, NATTEN_CUDA_WGMMA_FORWARD, &fit));
    EXPECT(fit.wgmma.items > INT32_MAX / 2);
    many.batch++;
    EXPECT(!natten_cuda_wgmma_spread(&many, &hopper, NATTEN_CUDA_WGMMA_FORWARD, &fit));
    for (int i = 0; i < 4; i++) {
        natten_task task = plan.task;
        if (i == 0)
            task.axis[2].query_count = 0;
        else if (i == 1)
            task.axis[1].key_count = 0;
        else if (i == 2)
            task.scale = 0x1p30;
        else
            task.by_rows = true;
        EXPECT(
            !natten_cuda_wgmma_plan(&task, &hopper, NATTEN_CUDA_WGMMA_FORWARD, &fit));
    }
    return true;
}

/* Heads that share keys: keys' tiles meet the queries of all. */
static bool groups_are_counted(void)
{
    natten_plan plan;
    natten_cuda_wgmma_fit one, four;
    EXPECT(fit_of("bwd bf16 b4 h8:8 d64 128x128 w33x33", NATTEN_CUDA_WGMMA_GRAD_TOKENS,
                  &plan, &one));
    EXPECT(fit_of("bwd bf16 b4 h8:2 d64 128x128 w33x33", NATTEN_CUDA_WGMMA_GRAD_TOKENS,
                  &plan, &four));
    EXPECT(four.wgmma.group == 4 && four.wgmma.items * 4 == one.wgmma.items);
    EXPECT(four.clocks < one.clocks && four.clocks > 0.8 * one.clocks);
    return true;
}

bool fake_wgmma(void)
{
    static const char *const taken[] = {wide,
                                        "fwd fp16 b1 h16 d64 16384 w2049",
                                        "fwd bf16 b1 h2:1 d64 1000 w999 causal1",
                                        "fwd bf16 b2 h16 d64 16x32x32 w7x7x7",
                                        "bwd fp16 b1 h16:4 d64 128x128 w33x33 e3x2",
                                        "bwd bf16 b2 h16 d64 16x32x32 w7x7x7"};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        EXPECT(is_taken(taken[i]) &&
               fake_fewest_clocks_win(taken[i], NATTEN_CUDA_SET_WGMMA));
    EXPECT(
        fake_fewest_clocks_win("fwd bf16 b8 h4 d64 56x56 w7x7", NATTEN_CUDA_SET_WGMMA));
    EXPECT(fake_fewest_clocks_win("bwd bf16 b8 h4 d64 56x56 w7x7 e2x1",
                                  NATTEN_CUDA_SET_WGMMA));
    static const char *const left[] = {"fwd fp32 b4 h8 d64 128x128 w33x33 tf32",
                                       "fwd fp64 b1 h8 d64 128x128 w33x33",
                                       "fwd bf16 b4 h8 d64 64x64 w33x33 bias",
                                       "fwd bf16 b4 h8 d64 128x128 w33x33 m1",
                                       "bwd bf16 b4 h8 d63 128x128 w33x33",
                                       "bwd bf16 b4 h8 d64:32 128x128 w33x33",
                                       "bwd bf16 b4 h8 d128 128x128 w33x33",
                                       "fwd bf16 b4 h8 d64 128x128 w33x33 scale-1",
                                       "fwd bf16 b4 h8 d64 128x128 w33x33 scale1e-12",
                                       "fwd bf16 b1 h1 d64 21x21x21 w9x9x9 e2x2x2",
                                       "fwd bf16 b1 h1 d64 2x40 w5x5 e3x4 g40x40 q0x0 "
                                       "k0x0 n40x40",
                                       "qk bf16 b4 h8 d64 32x32 w9x9"};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++)
        EXPECT(is_left(left[i]));
    EXPECT(odd_tasks_are_left());
    EXPECT(groups_are_counted());
    static const char *const few[] = {
        "bwd bf16 b1 h1 d64 200 w50",
        "bwd bf16 b1 h3 d64 37x30 w9x11",
        "bwd bf16 b1 h1 d64 9x20x17 w5x7x6",
        "bwd bf16 b1 h1 d64 30x25 w13x8 s4x3",
        "bwd bf16 b1 h1 d64 31x29 w12x9 causal10",
        "bwd bf16 b1 h2:1 d64 201 w20 e5",
        "bwd bf16 b1 h1 d64 41x37 w7x9 e3x4",
        "bwd bf16 b1 h1 d64 3x3 w3x3",
        "bwd bf16 b1 h1 d64 1 w1",
        "bwd bf16 b1 h1 d64 40x33 w9x7 causal01 g64x64 q9x8 k0x0 n64x64"};
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++)
        EXPECT(counts_are_exact(few[i]));
    char text[1024];
    natten_plan plan;
    EXPECT(fake_plan_of(wide, 90, &plan));
    natten_plan_print(&plan, text, sizeof text);
    EXPECT(strstr(text, "backend    cuda, device 0, kernel wgmma") != NULL);
    return true;
}

bool fake_wgmma_lacking(void)
{
    return is_left(wide) && is_left("bwd bf16 b4 h8 d64 128x128 w33x33");
}

/* ---- launches ---- */

static int64_t tokens_of(const trial *t)
{
    int64_t tokens = 1;
    for (int a = 0; a < t->spec.rank; a++)
        tokens *= t->spec.queries[a];
    return tokens;
}

/* The launches of a call, as they should be; those by the engine say so in their names.
 */
static bool are_launched(trial *t, const char *const names[], int count, int maps)
{
    const fake_launch *l = fake_launches_of(t, names, count, maps);
    EXPECT(l != NULL);
    for (int i = 0; i < count; i++, l++) {
        if (strstr(names[i], "wgmma") == NULL)
            continue;
        const natten_cuda_wgmma *w = &l->job.wgmma;
        bool of_keys = strstr(names[i], "tokens") != NULL,
             of_forward = strstr(names[i], "forward") != NULL;
        EXPECT(l->block == (of_forward ? 512 : 384) && l->grid <= (unsigned)w->items);
        EXPECT(w->items == w->positions * t->spec.batch *
                               (of_keys ? t->spec.heads_kv : t->spec.heads));
        EXPECT((l->job.halo.by_maps != 0) == (maps > 0));
        /* The engine's pass of queries works delta out, if it comes first. */
        EXPECT((l->job.halo.writes_delta != 0) ==
               (i == 0 && strstr(names[i], "engine_grad_query") != NULL));
        EXPECT(of_forward || (char *)l->job.stats - (char *)l->job.delta >=
                                 4 * t->spec.batch * t->spec.heads * tokens_of(t));
        EXPECT(l->job.task.view[NATTEN_KEY].data == t->array[NATTEN_KEY].tensor.data);
    }
    return true;
}

/* Statistics come with the gradients of queries; with delta where lanes copy, and after
 * it where tensors are not compact. */
bool fake_wgmma_launches(void)
{
    static const char *const forward[] = {"natten_wgmma_engine_forward_64"},
                             *const by_lanes[] = {"natten_wgmma_forward_64"};
    static const char *const backward[] = {"natten_wgmma_engine_grad_query_64",
                                           "natten_wgmma_engine_grad_tokens_64"};
    static const char *const backward_by_lanes[] = {"natten_halo_delta",
                                                    "natten_wgmma_grad_query_64",
                                                    "natten_wgmma_grad_tokens_64"};
    static const char *const apart[] = {"natten_simt_delta", "natten_halo_stats",
                                        "natten_wgmma_engine_grad_query_64",
                                        "natten_wgmma_engine_grad_tokens_64"};
    static trial t;
    make(&t, "fwd bf16 b2 h4:2 d64 50x40 w31x20 e1x2", NATTEN_CUDA);
    EXPECT(are_launched(&t, forward, 1, 3));
    EXPECT(device_rounded(&t) == UINT32_C(1) << NATTEN_OUT);
    make(&t, "fwd bf16 b2 h4:2 d64 50x41 w31x20 e1x2", NATTEN_CUDA);
    EXPECT(are_launched(&t, forward, 1, 6));
    make(&t, "fwd bf16 b2 h4:2 d64 51x41 w20x20 e2x2", NATTEN_CUDA);
    EXPECT(are_launched(&t, forward, 1, 12));
    make(&t, "fwd bf16 b2 h4:2 d64 50x40 w31x20 e1x2", NATTEN_CUDA);
    int64_t strides[] = {50 * 40 * 180, 40 * 180, 180, 68, 1};
    t.array[NATTEN_KEY].tensor.strides = strides;
    t.array[NATTEN_KEY].tensor.data = fake_memory_of(2 * 50 * 40 * 180 * 2);
    EXPECT(are_launched(&t, by_lanes, 1, 0));
    make(&t, "bwd fp16 b2 h4:2 d64 50x40 w31x20 e1x2 dlse", NATTEN_CUDA);
    EXPECT(are_launched(&t, backward, 2, 8));
    EXPECT(device_rounded(&t) ==
           (UINT32_C(1) << NATTEN_GRAD_QUERY | UINT32_C(1) << NATTEN_GRAD_KEY |
            UINT32_C(1) << NATTEN_GRAD_VALUE));
    make(&t, "bwd fp16 b2 h4:2 d64 50x40 w31x20 e1x2 dlse", NATTEN_CUDA);
    int64_t odd_strides[] = {50 * 40 * 320, 40 * 320, 320, 68, 1};
    for (natten_role role = NATTEN_QUERY; role <= NATTEN_KEY; role++) {
        t.array[role].tensor.strides = odd_strides;
        t.array[role].tensor.data = fake_memory_of(2 * 50 * 40 * 320 * 2);
    }
    EXPECT(are_launched(&t, backward_by_lanes, 3, 0));
    make(&t, "bwd fp16 b2 h4:2 d64 50x40 w31x20 e1x2 dlse", NATTEN_CUDA);
    int64_t out_strides[] = {50 * 40 * 320, 40 * 320, 320, 80, 1};
    t.array[NATTEN_OUT].tensor.strides = out_strides;
    t.array[NATTEN_OUT].tensor.data = fake_memory_of(2 * 50 * 40 * 320 * 2);
    EXPECT(are_launched(&t, apart, 4, 8));
    return true;
}
