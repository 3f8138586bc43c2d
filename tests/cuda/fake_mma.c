/* SPDX-License-Identifier: MIT
 *
 * Planning for the kernels for large windows (core/cuda/cuda_mma.c), for GPUs that are
 * not here: what they take, and that counts along axes are those of tiles and boxes. */
#include "cuda/fake_mma.h"
#include "base/status.h"
#include "cuda/cuda_mma.h"
#include "cuda/cuda_plan.h"
#include "cuda/fake_scene.h"
#include "plan/plan.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static bool is_by(const char *text, int32_t arch, const char *kernel)
{
    natten_plan plan;
    EXPECT(fake_plan_of(text, arch, &plan));
    EXPECT(strcmp(plan.choice.kernel, kernel) == 0);
    return true;
}

static int32_t bytes_of(const natten_cuda_pass *pass)
{
    return (int32_t)natten_dtype_bytes(pass->job.task.dtype);
}

/* Passes have as many kernels as there are widths; keys and values are one pass. */
static const natten_cuda_mma_shape *shape_of(const natten_cuda_pass *of)
{
    if (of->kernel >= NATTEN_CUDA_KERNEL_MMA_GRAD_ALL &&
        of->kernel < NATTEN_CUDA_KERNEL_ENGINE)
        return &natten_cuda_mma_shapes[0][NATTEN_CUDA_MMA_GRAD_ALL]
                                      [of->kernel - NATTEN_CUDA_KERNEL_MMA_GRAD_ALL];
    int number =
        (int)(of->kernel - (of->kernel < NATTEN_CUDA_KERNEL_TF32
                                ? (natten_cuda_kernel)NATTEN_CUDA_KERNEL_MMA_FORWARD
                                : NATTEN_CUDA_KERNEL_TF32));
    int pass = natten_min(number / NATTEN_CUDA_MMA_WIDTHS, NATTEN_CUDA_MMA_GRAD_TOKENS);
    return &natten_cuda_mma_shapes[bytes_of(of) / 4][pass]
                                  [number % NATTEN_CUDA_MMA_WIDTHS];
}

static bool is_mma(const natten_cuda_pass *pass)
{
    natten_cuda_set set = natten_cuda_kernel_set(pass->kernel);
    return set == NATTEN_CUDA_SET_MMA || set == NATTEN_CUDA_SET_MMA_TF32;
}

/* Where a kernel has its rows, stages and what is known of them, it expects them. */
static bool has_room(const natten_plan *plan, const natten_cuda_pass *pass)
{
    const natten_cuda_mma_shape *shape = shape_of(pass);
    const natten_cuda_mma *m = &pass->job.mma;
    int32_t rows = shape->warps / shape->sharing * 16 * shape->blocks;
    int32_t each = bytes_of(pass) * shape->width;
    /* dS of two boxes, where gradients are added; P of one, where warps share rows. */
    int32_t places =
        (pass->job.sums == NULL ? shape->sharing > 1 : 2) + (shape->sharing > 1);
    int32_t kept = places * rows * shape->columns * 2;
    EXPECT(plan->task.dim <= shape->width && plan->task.dim_v <= shape->width);
    EXPECT(m->info_at ==
           (shape->tensors * rows + m->stages * 2 * shape->columns) * each + kept);
    EXPECT((size_t)pass->shared_bytes == (size_t)m->info_at +
                                             sizeof(natten_cuda_mma_info) +
                                             rows * sizeof(natten_cuda_mma_row));
    return true;
}

static bool is_sound(const natten_plan *plan, const natten_cuda_pass *pass)
{
    const natten_cuda_mma_shape *shape = shape_of(pass);
    const natten_cuda_mma *m = &pass->job.mma;
    int64_t volume = m->box[0] * m->box[1] * m->box[2], warps = 1, rows = 1;
    for (int a = 0; a < 3; a++) {
        rows *= m->sub[a], warps *= m->warps[a];
        EXPECT(m->box[a] >= 1);
    }
    for (int t = 0; t < 2; t++) {
        int64_t last = 0; /* slot of a box */
        for (int a = 0; a < 3; a++)
            last += (int64_t)m->step[t][a] * (m->box[a] - 1);
        EXPECT(last <= INT32_MAX);
    }
    EXPECT(warps * shape->sharing == shape->warps && rows == 16 * shape->blocks);
    EXPECT(volume >= 1 && volume <= shape->columns);
    EXPECT(pass->blocks == m->positions * plan->task.batch *
                               (pass->kernel < NATTEN_CUDA_KERNEL_MMA_GRAD_KEY
                                    ? plan->task.heads
                                    : plan->task.heads_kv));
    bool is_small =
        plan->choice.arch == 86 || plan->choice.arch == 89 || plan->choice.arch == 120;
    EXPECT(m->stages == 1 || m->stages == 2);
    EXPECT(has_room(plan, pass));
    EXPECT(pass->shared_bytes <= (is_small ? NATTEN_CUDA_SHARED_BYTES
                                  : plan->choice.arch == 80
                                      ? NATTEN_CUDA_SHARED_LARGE
                                      : NATTEN_CUDA_SHARED_ENGINE));
    return true;
}

/* Tiles and boxes are the same on every GPU with tensor cores, so bits are. */
static bool is_taken(const char *text)
{
    static const int32_t archs[] = {80, 86, 89, 90, 100, 120};
    natten_plan plan, first;
    natten_cuda_pass pass[NATTEN_CUDA_PASSES], other[NATTEN_CUDA_PASSES];
    EXPECT(fake_plan_of(text, 90, &first) && strcmp(first.choice.kernel, "mma") == 0);
    EXPECT(first.choice.work >= 1);
    int count = natten_cuda_plan_passes(&first, NULL, pass);
    EXPECT(is_by(text, 75, "simt"));
    for (int i = 0; i < 6; i++) {
        plan = first;
        plan.choice.arch = archs[i];
        plan.choice.processors = 20 + i;
        EXPECT(natten_cuda_plan_passes(&plan, NULL, other) == count);
        for (int n = 0; n < count; n++) {
            EXPECT(other[n].kernel == pass[n].kernel);
            if (!is_mma(&pass[n]))
                continue;
            EXPECT(is_sound(&plan, &other[n]));
            EXPECT(memcmp(&other[n].job.mma, &pass[n].job.mma,
                          offsetof(natten_cuda_mma, stages)) == 0);
        }
    }
    return true;
}

/* Boxes that the warps of a class take along an axis. */
static int64_t boxes_of(const natten_class *c, const natten_cuda_mma *m, int a,
                        bool of_keys)
{
    int32_t extent = m->sub[a] * m->warps[a];
    int64_t boxes = 0;
    for (int32_t tile = 0; tile < c->length; tile += extent)
        for (int32_t w = tile; w < tile + extent && w < c->length; w += m->sub[a]) {
            natten_span start =
                of_keys ? natten_class_inverse(c, tile) : natten_class_window(c, tile);
            for (int32_t box = start.begin; box < c->length; box += m->box[a]) {
                bool met = false;
                for (int32_t g = w; g < w + m->sub[a] && g < c->length; g++) {
                    natten_span s = of_keys ? natten_class_inverse(c, g)
                                            : natten_class_window(c, g);
                    met = met || (s.begin < box + m->box[a] && s.end > box);
                }
                boxes += met;
            }
        }
    return boxes;
}

/* Pairs of slots and rows that warps take, tile by tile and box by box, of a problem
 * without parts. */
static double slots_of(const natten_task *task, const natten_cuda_mma *m, bool of_keys)
{
    double slots = 1;
    for (int a = 0; a < 3; a++) {
        int64_t boxes = 0; /* summed over classes, tiles and their warps */
        for (int32_t i = 0; i < task->axis[a].dilation; i++) {
            natten_class c = natten_axis_class(&task->axis[a], i);
            boxes += boxes_of(&c, m, a, of_keys);
        }
        slots *= (double)boxes * m->sub[a];
    }
    return slots;
}

static bool counts_are_exact(const char *text)
{
    natten_plan plan;
    natten_gpu gpu = {.arch = 80};
    EXPECT(fake_plan_of(text, 80, &plan));
    for (int pass = 0; pass < NATTEN_CUDA_MMA_PASSES; pass++) {
        natten_cuda_mma_fit fit;
        EXPECT(
            natten_cuda_mma_plan(&plan.task, &gpu, (natten_cuda_mma_pass)pass, &fit));
        /* Rows of 64 against boxes of 64 slots, or of 32 in gradients. */
        int columns = pass == NATTEN_CUDA_MMA_FORWARD ? 64 : 32;
        EXPECT(fit.slots == columns * slots_of(&plan.task, &fit.mma,
                                               pass >= NATTEN_CUDA_MMA_GRAD_TOKENS));
    }
    return true;
}

/* Parts in which not every residue class has rows are counted by those that have. */
static bool parts_are_counted(void)
{
    natten_plan one, two;
    EXPECT(fake_plan_of("fwd bf16 b1 h16 d128 1x48x80 w15x24x24 e2x1x1 g30x48x80 "
                        "q28x0x0 n30x48x80",
                        90, &one));
    EXPECT(fake_plan_of("fwd bf16 b1 h16 d128 1x48x80 w15x24x24 e2x1x1 g30x48x80 "
                        "q29x0x0 n30x48x80",
                        90, &two));
    EXPECT(strcmp(one.choice.kernel, "mma") == 0 && one.choice.work >= 1);
    EXPECT(strcmp(two.choice.kernel, "mma") == 0 && two.choice.work >= 1);
    EXPECT(memcmp(one.choice.tile, two.choice.tile, sizeof one.choice.tile) == 0);
    EXPECT(one.choice.items == two.choice.items);
    return true;
}

/* Slots of a box have offsets of 32 bits, those of extra tokens too, whose stride has
 * nothing to do with the grid's axes. */
static bool far_tokens_are_left(void)
{
    natten_plan plan;
    natten_gpu gpu = {.arch = 90};
    natten_cuda_mma_fit fit;
    EXPECT(fake_plan_of("fwd bf16 b1 h1 d64 64x64x1 w1x33x1 m4", 90, &plan));
    natten_task task = plan.task;
    EXPECT(natten_cuda_mma_plan(&task, &gpu, NATTEN_CUDA_MMA_FORWARD, &fit));
    task.view[NATTEN_ADDITIONAL_KEYS].axis[2] = 1 << 29;
    EXPECT(!natten_cuda_mma_plan(&task, &gpu, NATTEN_CUDA_MMA_FORWARD, &fit));
    task.extras = 1; /* then it has no meaning */
    EXPECT(natten_cuda_mma_plan(&task, &gpu, NATTEN_CUDA_MMA_FORWARD, &fit));
    EXPECT(fit.mma.extra_step[0] == 0);
    task = plan.task;
    task.view[NATTEN_VALUE].axis[1] = INT32_MAX / 2 + 1;
    EXPECT(!natten_cuda_mma_plan(&task, &gpu, NATTEN_CUDA_MMA_FORWARD, &fit));
    task.view[NATTEN_VALUE].axis[1] = INT32_MAX / 8; /* 5 slots along it, not 6 */
    task.view[NATTEN_VALUE].axis[2] = 64;
    EXPECT(natten_cuda_mma_plan(&task, &gpu, NATTEN_CUDA_MMA_FORWARD, &fit));
    EXPECT(fit.mma.box[1] <= 5);
    return true;
}

/* Blocks of so many bytes that a multiprocessor with `kilobytes` holds, of which CUDA
 * takes 1 KiB each for itself; its registers hold `most`. */
static int32_t held(int32_t bytes, int32_t kilobytes, int32_t most)
{
    int32_t blocks = kilobytes * 1024 / (bytes + 1024);
    return blocks < most ? blocks : most;
}

/* A second stage is taken where it costs no block, and only there. */
static bool is_staged(const natten_cuda_pass *pass, int32_t kilobytes, int32_t most)
{
    const natten_cuda_mma_shape *shape = shape_of(pass);
    int32_t stage = 2 * shape->columns * shape->width * bytes_of(pass);
    int32_t two = pass->shared_bytes + (pass->job.mma.stages == 1 ? stage : 0);
    bool costs_none =
        two <= most * 1024 &&
        held(two, kilobytes, shape->held) == held(two - stage, kilobytes, shape->held);
    EXPECT(pass->job.mma.stages == (costs_none ? 2 : 1));
    return true;
}

/* Every kernel there is, on every GPU. */
static bool stages_cost_no_blocks(void)
{
    static const struct {
        int32_t arch, kilobytes, most; /* shared memory; of a block */
    } gpus[] = {{80, 164, 163}, {86, 100, 99},   {89, 100, 99},
                {90, 228, 163}, {100, 228, 163}, {120, 100, 99}};
    static const char *const types[] = {"bf16", "fp32", "fp32", "fp64"};
    int of_stages[3] = {0}, kernels = 0;
    for (int i = 0; i < 4 * 2 * NATTEN_CUDA_MMA_WIDTHS; i++)
        for (int g = 0; g < 6; g++) {
            char text[64];
            natten_plan plan;
            natten_cuda_pass pass[NATTEN_CUDA_PASSES];
            int type = i % 4, width = i / 8,
                dim = natten_cuda_mma_shapes[(type + 1) / 2][0][width].width;
            bool of_forward = i / 4 % 2 == 0;
            if (dim == 0 || (type == 3 && gpus[g].most < 100)) /* slow doubles */
                continue;
            snprintf(text, sizeof text, "%s %s b1 h2 d%d 1000 w999 m3%s",
                     of_forward ? "fwd" : "bwd", types[type], dim,
                     type == 2 ? " tf32" : "");
            kernels += of_forward ? 1 : dim > 128 ? 3 : 2;
            EXPECT(fake_plan_of(text, gpus[g].arch, &plan));
            int count = natten_cuda_plan_passes(&plan, NULL, pass);
            for (int n = 0; n < count; n++) {
                if (!is_mma(&pass[n]))
                    continue;
                EXPECT(is_staged(&pass[n], gpus[g].kilobytes, gpus[g].most));
                EXPECT(is_sound(&plan, &pass[n]));
                of_stages[pass[n].job.mma.stages]++;
            }
        }
    /* Forward, gradients of queries, of tokens; apart where rows are wide. */
    EXPECT(of_stages[1] + of_stages[2] == kernels);
    EXPECT(kernels == 6 * (3 * NATTEN_CUDA_MMA_WIDTHS + 2 + 2 * 3 * 3) + 3 * 3 * 2);
    EXPECT(of_stages[1] > 20 && of_stages[2] > 20);
    return true;
}

/* What a launch brings for the call. */
static bool is_launched(const fake_launch *l, const trial *t, const void *stream)
{
    const natten_cuda_job *job = &l->job;
    const natten_cuda_mma *m = &job->mma;
    bool of_keys =
        strstr(l->kernel, "grad_query") == NULL && strstr(l->kernel, "forward") == NULL;
    int64_t positions = 1, bytes = 2;
    for (int a = 0; a < 3; a++)
        positions *= (int64_t)m->tiles[a] * job->task.axis[a].dilation;
    EXPECT(l->stream == stream && l->block == 4 * NATTEN_CUDA_WARP);
    EXPECT(positions == m->positions);
    EXPECT(l->grid ==
           positions * t->spec.batch * (of_keys ? t->spec.heads_kv : t->spec.heads));
    EXPECT(m->group == t->spec.heads / t->spec.heads_kv);
    EXPECT((int64_t)l->shared_bytes >=
           m->info_at + (int64_t)sizeof(natten_cuda_mma_info));
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        EXPECT(!t->given[role] ||
               job->task.view[role].data == t->array[role].tensor.data);
    /* From one partner to the next: of keys and values, or of queries and gradients. */
    int64_t heads = of_keys ? t->spec.heads : t->spec.heads_kv;
    int64_t length = of_keys ? t->spec.queries[1] : t->spec.keys[1];
    int64_t column = heads * t->spec.dim * bytes * t->spec.dilation[1];
    int64_t row = heads * t->spec.dim * bytes * t->spec.dilation[0] * length;
    for (int n = 0; n < 2; n++) {
        EXPECT(m->step[n][2] == column && m->step[n][1] == row && m->step[n][0] == 0);
        EXPECT(m->extra_step[n] == t->spec.heads_kv * t->spec.dim * bytes);
    }
    EXPECT(strstr(l->kernel, "forward") != NULL || job->delta != NULL);
    return true;
}

/* Calls on the driver's GPU: their launches and what they bring.  Where shared memory
 * is small, gradients of rows of 64 have one stage. */
static bool launches_of(int stages)
{
    static const char *const passes[] = {
        "natten_halo_delta", "natten_mma_grad_query_64", "natten_mma_grad_tokens_64",
        "natten_simt_extras", "natten_simt_sum_extras"};
    static trial t;
    fake_state *s = state();
    int stream;
    make(&t, "fwd fp16 b3 h4:2 d192 40x50 w31x20 e1x2 m70", NATTEN_CUDA);
    int before = s->launches;
    EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
    EXPECT(s->launches == before + 1 && s->synchronised == 0);
    EXPECT(strcmp(s->launch[before].kernel, "natten_mma_forward_192") == 0);
    EXPECT(is_launched(&s->launch[before], &t, &stream));
    make(&t, "bwd bf16 b2 h4:2 d64 40x50 w31x20 e1x2 m70 dlse", NATTEN_CUDA);
    before = s->launches;
    EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
    EXPECT(s->launches == before + 5 && s->synchronised == 0);
    for (int i = 0; i < 5; i++)
        EXPECT(strcmp(s->launch[before + i].kernel, passes[i]) == 0);
    for (int i = 1; i < 3; i++) {
        EXPECT(is_launched(&s->launch[before + i], &t, &stream));
        EXPECT(s->launch[before + i].job.mma.stages == stages);
    }
    EXPECT(s->launch[before + 1].job.delta == s->launch[before + 2].job.delta);
    return true;
}

bool fake_mma_launches(void)
{
    return launches_of(2);
}

bool fake_mma_one_stage(void)
{
    return launches_of(1);
}

bool fake_mma(void)
{
    /* Of a positive scale, rows of 64 may go to warpgroups. */
    static const char *const taken[] = {
        "fwd bf16 b1 h16 d64 16384 w16384 scale-1",
        "fwd fp16 b1 h16 d128 16384 w2049",
        "fwd bf16 b4 h16 d64 128x128 w33x33 scale-1",
        "fwd bf16 b1 h24 d128 30x48x80 w18x24x24",
        "fwd bf16 b2 h8:2 d200:100 40x50 w31x20 s3x4",
        "fwd bf16 b1 h2 d80 1000 w999 causal1 m70",
        "fwd bf16 b1 h1 d32 9x9 w3x3 m1",
        "fwd bf16 b1 h1 d129 9x9 w3x3",
        "fwd fp16 b1 h2 d96 300x40 w50x20 e5x2",
        "fwd bf16 b1 h4 d64 16x256x256 w3x31x31 scale-2",
        "bwd bf16 b4 h16 d64 128x128 w33x33 scale-.1",
        "bwd bf16 b1 h16 d256 16384 w2049",
        "fwd fp32 b1 h8 d64 128x128 w13x13",
        "fwd fp32 b1 h8 d64 128x128 w13x13 tf32",
        "bwd fp32 b1 h16 d128 16384 w2049",
        "bwd fp32 b2 h4 d20:30 64x64 w31x31 e2x1 m5",
        "bwd fp32 b1 h16 d100 16384 w2049 tf32"};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        EXPECT(is_taken(taken[i]));
    static const char *const left[] = {"fwd fp64 b1 h1 d65 1000 w999",
                                       "fwd fp32 b1 h1 d129 1000 w999",
                                       "fwd fp32 b4 h8 d64 8192 w3",
                                       "fwd bf16 b1 h1 d257 1000 w999",
                                       "fwd bf16 b1 h1 d64 99x99 w99x99 bias",
                                       "fwd bf16 b1 h1 d64 1000 w999 scale0",
                                       "fwd bf16 b1 h1 d64 999 w999 scale1e-12"};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++)
        EXPECT(is_by(left[i], 90, "simt"));
    /* Doubles where they are fast. */
    static const char *const doubles = "bwd fp64 b1 h8 d64 128x128 w33x33";
    EXPECT(is_by(doubles, 80, "mma") && is_by(doubles, 90, "mma"));
    EXPECT(is_by(doubles, 86, "simt") && is_by(doubles, 89, "simt"));
    EXPECT(is_by(doubles, 100, "mma") && is_by(doubles, 120, "simt"));
    /* Rows wider than 128 have their gradients of keys and values apart. */
    natten_plan plan;
    natten_cuda_pass pass[NATTEN_CUDA_PASSES];
    EXPECT(fake_plan_of("bwd bf16 b1 h2 d64 1000 w999 m3", 90, &plan));
    EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 5);
    EXPECT(pass[1].kernel == NATTEN_CUDA_KERNEL_MMA_GRAD_QUERY + 1);
    EXPECT(pass[2].kernel == NATTEN_CUDA_KERNEL_MMA_GRAD_KEY + 1);
    EXPECT(fake_plan_of("bwd bf16 b1 h2 d130 1000 w999", 90, &plan));
    EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 4);
    EXPECT(pass[2].kernel == NATTEN_CUDA_KERNEL_MMA_GRAD_KEY + 4);
    EXPECT(pass[3].kernel == NATTEN_CUDA_KERNEL_MMA_GRAD_VALUE + 4);
    /* Few tiles: every one is looked at. */
    static const char *const few[] = {"bwd bf16 b1 h1 d64 200 w50",
                                      "bwd bf16 b1 h1 d64 37x30 w9x11",
                                      "bwd bf16 b1 h1 d64 9x20x17 w5x7x6",
                                      "bwd bf16 b1 h1 d64 30x25 w13x8 s4x3",
                                      "bwd bf16 b1 h1 d64 31x29 w12x9 causal10",
                                      "bwd bf16 b1 h1 d64 201 w20 e5",
                                      "bwd bf16 b1 h1 d64 41x37 w7x9 e3x4"};
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++)
        EXPECT(counts_are_exact(few[i]));
    EXPECT(parts_are_counted());
    EXPECT(far_tokens_are_left());
    EXPECT(stages_cost_no_blocks());
    char text[1024];
    EXPECT(fake_plan_of(taken[0], 90, &plan));
    natten_plan_print(&plan, text, sizeof text);
    EXPECT(strstr(text, "backend    cuda, device 0, kernel mma") != NULL);
    return true;
}
