/* SPDX-License-Identifier: MIT
 *
 * The choice among families of kernels (core/cuda/cuda_family.c), for GPUs that are not
 * here: it and the tiles do not depend on the batch, and what a thread remembers is
 * what it would find. */
#include "cuda/fake_family.h"
#include "base/status.h"
#include "cuda/cuda_family.h"
#include "cuda/cuda_plan.h"
#include "cuda/fake_scene.h"

#include <string.h>

static double clocks_of(const natten_cuda_fit *fit, natten_cuda_set set)
{
    return set == NATTEN_CUDA_SET_BAND    ? fit->band.clocks
           : set == NATTEN_CUDA_SET_WGMMA ? fit->wgmma.clocks
           : set == NATTEN_CUDA_SET_HALO  ? fit->halo.clocks
                                          : fit->mma.clocks;
}

bool fake_fewest_clocks_win(const char *text, natten_cuda_set set)
{
    static const natten_gpu hopper = {.devices = 1, .arch = 90, .processors = 132};
    static const natten_cuda_set sets[] = {NATTEN_CUDA_SET_MMA, NATTEN_CUDA_SET_HALO,
                                           NATTEN_CUDA_SET_WGMMA, NATTEN_CUDA_SET_BAND};
    natten_plan plan;
    EXPECT(fake_plan_of(text, 90, &plan));
    bool backward = plan.task.operation == NATTEN_BACKWARD;
    for (int pass = backward ? NATTEN_CUDA_HALO_GRAD_QUERY : NATTEN_CUDA_HALO_FORWARD;
         pass <= (backward ? NATTEN_CUDA_HALO_GRAD_TOKENS : NATTEN_CUDA_HALO_FORWARD);
         pass++) {
        natten_cuda_fit fit =
            natten_cuda_family_choose(&plan.task, &hopper, (natten_cuda_halo_pass)pass);
        double own = clocks_of(&fit, set);
        bool is_fewest = own > 0;
        for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
            double others = clocks_of(&fit, sets[i]);
            is_fewest = is_fewest && (sets[i] == set || others == 0 || own < others);
        }
        EXPECT(fit.mma.clocks > 0 && (fit.set == set) == is_fewest);
    }
    return true;
}

/* What of a job of halo.cu decides about bits, beside its chunks: all but how units are
 * shared out among blocks. */
static natten_cuda_halo tiles_of(const natten_cuda_halo *job)
{
    natten_cuda_halo h = *job;
    h.replicas = h.few = h.stride = h.chunks = h.inner = 0;
    h.inner_inverse = 0;
    h.by_kinds = 0;
    return h;
}

static bool is_of_tensor_cores(natten_cuda_kernel kernel)
{
    natten_cuda_set set = natten_cuda_kernel_set(kernel);
    return set == NATTEN_CUDA_SET_HALO || set == NATTEN_CUDA_SET_MMA ||
           set == NATTEN_CUDA_SET_WGMMA || set == NATTEN_CUDA_SET_BAND;
}

/* The same kernels with the same tiles. */
static bool is_same(const natten_cuda_pass *a, const natten_cuda_pass *b)
{
    natten_cuda_halo halo[2] = {tiles_of(&a->job.halo), tiles_of(&b->job.halo)};
    EXPECT(a->kernel == b->kernel);
    if (!is_of_tensor_cores(a->kernel)) /* of the sweep see fake_sweep.c */
        return true;
    EXPECT(memcmp(&halo[0], &halo[1], sizeof halo[0]) == 0);
    EXPECT(memcmp(&a->job.mma, &b->job.mma, sizeof a->job.mma) == 0);
    if (natten_cuda_kernel_set(a->kernel) == NATTEN_CUDA_SET_BAND) {
        natten_cuda_band own = a->job.band, other = b->job.band;
        own.whole = own.items = 0;
        other.whole = other.items = 0;
        EXPECT(memcmp(&own, &other, sizeof own) == 0);
    } else {
        natten_cuda_wgmma own = a->job.wgmma, other = b->job.wgmma;
        own.items = other.items = 0;
        EXPECT(memcmp(&own, &other, sizeof own) == 0);
    }
    EXPECT(a->shared_bytes == b->shared_bytes);
    return true;
}

/* Of 2 batch items; then as many as `batch` are asked of the same task. */
static bool is_same_for_any_batch(const char *text, int32_t arch)
{
    static const int64_t batches[] = {1, 7, 70000};
    natten_plan plan;
    natten_cuda_pass of_two[NATTEN_CUDA_PASSES], of_more[NATTEN_CUDA_PASSES];
    natten_machine machine = {.gpu = {.devices = 1, .arch = arch, .processors = 132}};
    EXPECT(fake_plan_of(text, arch, &plan));
    int count = natten_cuda_plan_passes(&plan, NULL, of_two), own = 0;
    const char *kernel = plan.choice.kernel;
    for (int i = 0; i < count; i++)
        own += natten_cuda_kernel_set(of_two[i].kernel) != NATTEN_CUDA_SET_SIMT;
    EXPECT(own > 0 && strcmp(kernel, "simt") != 0);
    for (int n = 0; n < 3; n++) {
        plan.task.batch = batches[n];
        EXPECT(plan.backend->choose(&plan.task, &machine, &plan.choice) == NATTEN_OK);
        EXPECT(strcmp(plan.choice.kernel, kernel) == 0);
        EXPECT(natten_cuda_plan_passes(&plan, NULL, of_more) == count);
        for (int i = 0; i < count; i++)
            EXPECT(is_same(&of_two[i], &of_more[i]));
    }
    return true;
}

/* A batch that a grid has no room for is left to level a, not forgotten. */
static bool too_many_are_left(void)
{
    static const char *const texts[] = {"fwd bf16 b2 h2 d32 9x9 w3x3",
                                        "fwd bf16 b2 h2 d32 9x9 w3x3 m1",
                                        "fwd bf16 b2 h2 d64 9x9 w3x3"};
    natten_gpu gpu = {.arch = 90, .processors = 132};
    natten_plan plan;
    for (int i = 0; i < 3; i++) {
        EXPECT(fake_plan_of(texts[i], 90, &plan));
        for (int64_t batch = 1 << 28; batch <= INT64_C(1) << 31; batch *= 8) {
            plan.task.batch = batch;
            natten_cuda_fit fit =
                natten_cuda_family_choose(&plan.task, &gpu, NATTEN_CUDA_HALO_FORWARD);
            EXPECT((fit.set == NATTEN_CUDA_SET_SIMT) == (batch > 1 << 28));
        }
    }
    return true;
}

static bool is_same_fit(const natten_cuda_fit *a, const natten_cuda_fit *b)
{
    return a->set == b->set &&
           memcmp(&a->halo.halo, &b->halo.halo, sizeof a->halo.halo) == 0 &&
           memcmp(&a->mma.mma, &b->mma.mma, sizeof a->mma.mma) == 0 &&
           memcmp(&a->wgmma.wgmma, &b->wgmma.wgmma, sizeof a->wgmma.wgmma) == 0 &&
           memcmp(&a->band.band, &b->band.band, sizeof a->band.band) == 0;
}

/* More shapes than are remembered, there and back. */
static bool memory_is_true(void)
{
    enum { SHAPES = 40 };
    natten_cuda_fit first[SHAPES];
    natten_gpu gpu = {.arch = 90, .processors = 132};
    natten_plan plan;
    EXPECT(fake_plan_of("fwd bf16 b2 h2 d32 64x64 w3x3", 90, &plan));
    for (int turn = 0; turn < 3; turn++)
        for (int i = 0; i < SHAPES; i++) {
            int n = turn == 1 ? SHAPES - 1 - i : i;
            plan.task.axis[2].window = 3 + n;
            natten_cuda_fit fit =
                natten_cuda_family_choose(&plan.task, &gpu, NATTEN_CUDA_HALO_FORWARD);
            if (turn == 0)
                first[n] = fit;
            EXPECT(is_same_fit(&first[n], &fit));
        }
    EXPECT(!is_same_fit(&first[0], &first[SHAPES - 1]));
    return true;
}

bool fake_family(void)
{
    /* For some of these the fastest plan of 1 item is not that of 70. */
    static const char *const texts[] = {
        "fwd bf16 b2 h1 d64 585 w393",        "fwd bf16 b2 h2 d32 23x7 w10x1",
        "fwd fp16 b2 h1 d32 29x14 w9x4 bias", "fwd bf16 b2 h8 d32 28x28 w7x7",
        "fwd bf16 b2 h16 d64 16384 w16384",   "bwd bf16 b2 h1 d128 482 w93",
        "bwd fp16 b2 h4:2 d64 23x37 w9x11",   "bwd bf16 b2 h3 d64 7x9x8 w3x5x3",
        "bwd fp16 b2 h2 d32 9x4x12 w9x3x5",   "bwd bf16 b2 h4 d32 13x9 w7x5",
        "bwd bf16 b2 h4 d16 9x26 w5x25 bias", "bwd bf16 b2 h1 d32 10x12x10 w5x5x5 bias",
        "bwd bf16 b2 h4 d32 56x56 w7x7 bias", "bwd bf16 b2 h2:1 d160 20x21 w13x9 m3",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        EXPECT(is_same_for_any_batch(texts[i], 86) &&
               is_same_for_any_batch(texts[i], 90));
    return too_many_are_left() && memory_is_true();
}
