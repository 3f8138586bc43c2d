/* SPDX-License-Identifier: MIT
 *
 * Gradients of queries that are added in any order (core/cuda/device/mma_added.cuh),
 * for GPUs that are not here: only who allows it gets it, and only where it counts as
 * faster; the workspace has room for the sums, which are zeros when the passes begin.
 */
#include "cuda/fake_added.h"

#include "base/status.h"
#include "cuda/cuda_family.h"
#include "cuda/cuda_plan.h"
#include "cuda/fake_scene.h"
#include "plan/plan.h"

#include <string.h>

/* Of a positive scale, warpgroups of compute capability 9.0 do it sooner. */
static const char dense[] = "bwd bf16 b1 h16 d64 16384 w16384 scale-0.1";
static const char positive[] = "bwd bf16 b1 h16 d64 16384 w16384";

/* Plan a call that allows it. */
static bool plan_of(const char *text, int32_t arch, natten_plan *plan)
{
    natten_machine machine = {.gpu = {.devices = 1, .arch = arch, .processors = 100}};
    EXPECT(fake_plan_of(text, arch, plan));
    plan->task.flags = NATTEN_FLAG_ALLOW_NONDETERMINISTIC;
    return plan->backend->choose(&plan->task, &machine, &plan->choice) == NATTEN_OK;
}

static int added_passes(const natten_plan *plan,
                        natten_cuda_pass passes[NATTEN_CUDA_PASSES])
{
    int count = natten_cuda_plan_passes(plan, NULL, passes), added = 0;
    for (int i = 0; i < count; i++)
        added += passes[i].job.sums != NULL;
    return added;
}

/* Two passes, and room for sums of as many numbers as a row of the kernel has. */
static bool is_added(const char *text, int32_t arch, int64_t width)
{
    natten_plan plan, plain;
    natten_cuda_pass passes[NATTEN_CUDA_PASSES];
    EXPECT(fake_plan_of(text, arch, &plain) && plan_of(text, arch, &plan));
    EXPECT(added_passes(&plain, passes) == 0);
    EXPECT(added_passes(&plan, passes) == 2);
    const natten_task *task = &plan.task;
    int64_t rows = task->batch * task->heads;
    for (int a = 0; a < 3; a++)
        rows *= task->axis[a].query_count;
    size_t sums = (size_t)(rows * width) * sizeof(float);
    const natten_cuda_pass *all = &passes[1], *rest = &passes[2];
    EXPECT(plan.choice.workspace_bytes - plain.choice.workspace_bytes >= sums);
    EXPECT(plan.choice.workspace_bytes - plain.choice.workspace_bytes < sums + 64);
    EXPECT(all->clear_bytes == sums && rest->clear_bytes == 0);
    EXPECT((uintptr_t)all->job.sums % 64 == 0 && rest->job.sums == all->job.sums);
    EXPECT((uintptr_t)all->job.sums + sums == plan.choice.workspace_bytes);
    EXPECT(all->kernel >= NATTEN_CUDA_KERNEL_MMA_GRAD_ALL &&
           all->kernel < NATTEN_CUDA_KERNEL_ENGINE);
    EXPECT(rest->kernel >= NATTEN_CUDA_KERNEL_MMA_GRAD_QUERY &&
           rest->kernel < NATTEN_CUDA_KERNEL_MMA_GRAD_KEY);
    /* From one query of a class to the next. */
    int64_t step = task->heads;
    for (int a = 2; a >= 0; a--) {
        EXPECT(all->job.sums_step[a] == step * task->axis[a].dilation);
        step *= task->axis[a].query_count;
    }
    char words[1024];
    natten_plan_print(&plan, words, sizeof words);
    EXPECT(strstr(words, "kernel mma, adding in any order") != NULL);
    return true;
}

/* The same passes and workspace as without. */
static bool is_left(const char *text, int32_t arch)
{
    natten_plan plan, plain;
    natten_cuda_pass passes[NATTEN_CUDA_PASSES];
    EXPECT(fake_plan_of(text, arch, &plain) && plan_of(text, arch, &plan));
    EXPECT(added_passes(&plan, passes) == 0);
    EXPECT(plan.choice.workspace_bytes == plain.choice.workspace_bytes);
    EXPECT(strcmp(plan.choice.kernel, plain.choice.kernel) == 0);
    return true;
}

/* Without gradients of queries, or with none of tokens, there is nothing to share; the
 * workspace, whose size is asked for before that is known, has room all the same. */
static bool both_sides_are_wanted(void)
{
    static const natten_role without[2][2] = {{NATTEN_GRAD_QUERY, NATTEN_GRAD_QUERY},
                                              {NATTEN_GRAD_KEY, NATTEN_GRAD_VALUE}};
    natten_plan plan;
    natten_cuda_pass passes[NATTEN_CUDA_PASSES];
    natten_machine machine = {.gpu = {.devices = 1, .arch = 90, .processors = 100}};
    for (int i = 0; i < 2; i++) {
        EXPECT(plan_of(dense, 90, &plan));
        size_t bytes = plan.choice.workspace_bytes;
        for (int n = 0; n < 2; n++)
            plan.task.view[without[i][n]].data = NULL;
        EXPECT(plan.backend->choose(&plan.task, &machine, &plan.choice) == NATTEN_OK);
        EXPECT(added_passes(&plan, passes) == 0);
        EXPECT(plan.choice.workspace_bytes == bytes);
    }
    return true;
}

static double clocks_of(const natten_cuda_fit *fit)
{
    return fit->set == NATTEN_CUDA_SET_MMA    ? fit->mma.clocks
           : fit->set == NATTEN_CUDA_SET_HALO ? fit->halo.clocks
                                              : fit->wgmma.clocks;
}

/* What it stands for would take longer, by the same counts: by more than their error
 * (`surely` of cuda_family.c). */
static bool is_faster_where_chosen(const char *text)
{
    natten_plan plan;
    natten_cuda_added fit;
    natten_gpu gpu = {.arch = 90, .processors = 132};
    EXPECT(fake_plan_of(text, 90, &plan));
    bool adds = natten_cuda_family_adds(&plan.task, &gpu, &fit);
    natten_cuda_fit query = natten_cuda_family_choose(&plan.task, &gpu,
                                                      NATTEN_CUDA_HALO_GRAD_QUERY),
                    tokens = natten_cuda_family_choose(&plan.task, &gpu,
                                                       NATTEN_CUDA_HALO_GRAD_TOKENS);
    EXPECT(adds || query.set != NATTEN_CUDA_SET_MMA ||
           tokens.set != NATTEN_CUDA_SET_MMA);
    EXPECT(fit.all.clocks > 0 && fit.rest.clocks > 0);
    EXPECT(!adds || (fit.all.blocks > 0 && fit.rest.blocks > 0));
    double those = fit.all.clocks + fit.rest.clocks;
    EXPECT(adds == (those < 0.95 * (clocks_of(&query) + clocks_of(&tokens))));
    return true;
}

bool fake_added(void)
{
    static const int32_t archs[] = {80, 86, 89, 90, 100, 120};
    for (int i = 0; i < 6; i++)
        EXPECT(is_added(dense, archs[i], 64) &&
               (archs[i] == 90 ? is_left(positive, 90)
                               : is_added(positive, archs[i], 64)));
    EXPECT(is_added("bwd fp16 b3 h4:2 d40:16 8000 w7999 causal1 m3 dlse", 90, 64));
    EXPECT(is_added("bwd bf16 b1 h4 d32 120x61 w60x40 s1x3 e2x1", 90, 32));
    EXPECT(is_added("bwd bf16 b1 h16 d80 8192 w8192", 90, 96));
    EXPECT(is_left("bwd bf16 b64 h4 d32 56x56 w7x7", 90));
    EXPECT(is_left("bwd bf16 b1 h2 d130 1000 w999", 90));
    EXPECT(is_left("bwd fp32 b1 h2 d64 1000 w999", 90));
    EXPECT(is_left("bwd bf16 b1 h2 d64 1000 w999", 75));
    EXPECT(is_left("fwd bf16 b1 h2 d64 1000 w999", 90));
    for (int i = 1; i < 6; i++) /* rows that a block has no room for */
        if (archs[i] != 90 && archs[i] != 100) {
            EXPECT(is_left("bwd bf16 b1 h16 d96 8192 w8192", archs[i]));
            EXPECT(is_left("bwd bf16 b1 h16 d128 8192 w8192", archs[i]));
        }
    EXPECT(both_sides_are_wanted());
    EXPECT(is_faster_where_chosen(dense) && is_faster_where_chosen(positive));
    EXPECT(is_faster_where_chosen("bwd bf16 b4 h8 d64 128x128 w13x13"));
    EXPECT(is_faster_where_chosen("bwd bf16 b2 h16 d64 16x32x32 w7x7x7"));
    return true;
}

/* Zeros on the call's stream, in the workspace that the call takes or is given, before
 * the pass that adds. */
static bool sums_are_cleared(trial *t, void *workspace, size_t bytes)
{
    static const char *const kernels[] = {
        "natten_halo_delta", "natten_mma_grad_all_64", "natten_mma_grad_query_64",
        "natten_simt_extras", "natten_simt_sum_extras"};
    fake_state *s = state();
    int stream, before = s->launches, fills = s->fills;
    EXPECT(trial_call(t, workspace, bytes, &stream) == NATTEN_OK);
    EXPECT(s->launches == before + 5 && s->synchronised == 0);
    for (int i = 0; i < 5; i++)
        EXPECT(strcmp(s->launch[before + i].kernel, kernels[i]) == 0);
    EXPECT(s->fills == fills + 1 && s->fill_stream == &stream);
    EXPECT(s->fill_launch == before + 1); /* ahead of the second launch */
    const natten_cuda_job *all = &s->launch[before + 1].job;
    EXPECT((uintptr_t)all->sums % 16 == 0 && s->fill_address == (uintptr_t)all->sums);
    EXPECT(s->launch[before + 2].job.sums == all->sums);
    EXPECT(s->launch[before + 3].job.sums == NULL);
    EXPECT(workspace == NULL ||
           ((char *)all->sums >= (char *)workspace &&
            s->fill_address + s->fill_bytes <= (uintptr_t)workspace + bytes));
    return true;
}

bool fake_added_launches(void)
{
    static trial t;
    size_t bytes = 0;
    make(&t, "bwd bf16 b2 h4:2 d64 60x80 w60x40 e1x2 m70 dlse", NATTEN_CUDA);
    t.params.flags = NATTEN_FLAG_ALLOW_NONDETERMINISTIC;
    EXPECT(sums_are_cleared(&t, NULL, 0));
    EXPECT(trial_workspace(&t, NATTEN_BACKEND_CUDA, &bytes) == NATTEN_OK);
    void *workspace = fake_memory_of(bytes);
    EXPECT(sums_are_cleared(&t, workspace, bytes));
    t.params.flags = 0;
    size_t without = 0;
    EXPECT(trial_workspace(&t, NATTEN_BACKEND_CUDA, &without) == NATTEN_OK);
    EXPECT(bytes >= without + 2 * 4 * 60 * 80 * 64 * sizeof(float));
    return true;
}
