/* SPDX-License-Identifier: MIT
 *
 * Gradients of small windows in one pass (core/cuda/cuda_sweep.c) and where
 * subtiles begin (core/cuda/cuda_job.h): which tasks it takes, that its items have each
 * row of each class once, and how it is launched. */
#include "cuda/fake_sweep.h"
#include "base/status.h"
#include "cuda/cuda_plan.h"
#include "cuda/cuda_sweep.h"
#include "cuda/fake_scene.h"

#include <stdlib.h>
#include <string.h>

static bool is_taken(const char *text, int32_t arch)
{
    natten_plan plan;
    return fake_plan_of(text, arch, &plan) && strcmp(plan.choice.kernel, "sweep") == 0;
}

/* Items have each row once; a block has room for its warps; other GPUs and batches
 * change nothing of what a warp does. */
static bool is_shared_out(const char *text)
{
    natten_plan plan;
    natten_cuda_sweep_fit fit, other;
    natten_cuda_sweep first;
    EXPECT(fake_plan_of(text, 90, &plan));
    EXPECT(plan.choice.work >= 1 && plan.choice.work < 32);
    for (int32_t processors = 1; processors < 300; processors += 43) {
        natten_gpu gpu = {.arch = 90, .processors = processors};
        EXPECT(natten_cuda_sweep_plan(&plan.task, &gpu, &fit));
        const natten_cuda_sweep *s = &fit.sweep;
        bool biased = plan.task.view[NATTEN_BIAS].data != NULL;
        int64_t classes = plan.task.axis[1].dilation * plan.task.axis[2].dilation;
        int64_t units = plan.task.batch * (biased ? classes : plan.task.heads);
        int64_t groups = (units + s->units - 1) / s->units;
        EXPECT(s->each * s->segments >= s->rows &&
               s->each * (s->segments - 1) < s->rows);
        /* A row is kept while the one after the next is fetched. */
        EXPECT(s->rows >= 2 && (s->segments == 1 || s->each >= 2));
        int64_t items = groups * (biased ? 1 : classes) * s->segments;
        EXPECT(s->items == (biased ? s->runs * plan.task.heads * s->run : items));
        EXPECT(fit.blocks >= 1 && fit.blocks <= s->items / s->run);
        /* Runs are of one head, and follow from the problem alone. */
        EXPECT(fit.sums == s->runs && (biased || (s->run == 1 && s->runs == 0)));
        EXPECT(!biased || (s->groups == groups && s->of_head == items));
        EXPECT(s->runs * s->run >= s->of_head && (s->runs - 1) * s->run < items);
        EXPECT(processors == 1 || !biased || memcmp(s, &first, sizeof first) == 0);
        first = *s;
        EXPECT(s->warps == s->units * s->columns &&
               s->warps <= NATTEN_CUDA_SWEEP_WARPS);
        EXPECT(fit.shared_bytes <= NATTEN_CUDA_SHARED_ENGINE);
        EXPECT(4 * s->rows >= s->length[0] && 4 * (s->rows - 1) < s->length[0]);
        EXPECT(4 * s->columns >= s->length[1] && 4 * (s->columns - 1) < s->length[1]);
        natten_task more = plan.task;
        more.batch *= 70;
        EXPECT(natten_cuda_sweep_plan(&more, &gpu, &other));
        EXPECT(other.sweep.columns == s->columns && other.sweep.rows == s->rows);
        EXPECT(memcmp(other.sweep.step, s->step, sizeof s->step) == 0);
        EXPECT(memcmp(other.sweep.length, s->length, sizeof s->length) == 0);
        EXPECT(memcmp(other.sweep.narrow, s->narrow, sizeof s->narrow) == 0);
    }
    return true;
}

/* Does each query see no further than the subtiles next to its own, if so many of them
 * have 3 tokens, from the second on, and the others 4? */
static bool is_near(const natten_class *c, int narrow)
{
    int of[64];
    for (int i = 0, subtile = 0, place = 0; i < c->length; i++) {
        of[i] = subtile;
        int tokens = subtile >= 1 && subtile <= narrow ? 3 : 4;
        place++;
        if (place == tokens)
            subtile++, place = 0;
    }
    for (int32_t g = 0; g < c->length; g++) {
        natten_span span = natten_class_window(c, g);
        for (int32_t j = span.begin; j < span.end; j++)
            if (abs(of[j] - of[g]) > 1)
                return false;
    }
    return true;
}

/* Every length, window, stride and causal flag: it takes an axis if and only if that is
 * so of full subtiles, or of some that lack one so that the last is full. */
static bool sees_next_door(void)
{
    natten_plan plan;
    natten_gpu gpu = {.arch = 90, .processors = 132};
    natten_cuda_sweep_fit fit;
    EXPECT(fake_plan_of("bwd bf16 b1 h1 d32 8x8 w3x3", 90, &plan));
    for (int32_t length = 1; length <= 23; length++)
        for (int32_t window = 1; window <= length; window++)
            for (int32_t stride = 1; stride <= window; stride++)
                for (int causal = 0; causal < 2; causal++) {
                    natten_task task = plan.task;
                    natten_axis *axis = &task.axis[1];
                    axis->length = axis->query_count = axis->key_count = length;
                    axis->window = window, axis->stride = stride;
                    axis->causal = causal != 0;
                    natten_class c = natten_axis_class(axis, 0);
                    int subtiles = (length + 3) / 4, lacks = 4 * subtiles - length;
                    bool full = is_near(&c, 0);
                    bool near = full || (lacks <= subtiles - 2 && is_near(&c, lacks));
                    near = near && length > 4;
                    EXPECT(natten_cuda_sweep_plan(&task, &gpu, &fit) == near);
                    EXPECT(!near || fit.sweep.narrow[0] == (full ? 0 : lacks));
                }
    return true;
}

bool fake_sweep(void)
{
    static const char *const taken[] = {"bwd bf16 b64 h4 d32 56x56 w7x7",
                                        "bwd fp16 b64 h4 d32 56x56 w7x7 e8x8",
                                        "bwd bf16 b1 h3 d32 28x28 w7x5 dlse",
                                        "bwd bf16 b3 h5 d32 19x14 w5x5 s2x3",
                                        "bwd bf16 b2 h2 d32 40x15 w5x3 e2x3 causal10",
                                        "bwd fp16 b2 h3 d32 57x54 w7x7",
                                        "bwd bf16 b2 h16 d32 14x14 w7x7",
                                        "bwd bf16 b64 h4 d32 56x56 w7x7 bias",
                                        "bwd bf16 b64 h4 d32 56x56 w7x7 e8x8 bias",
                                        "bwd bf16 b1 h3 d32 40x15 w5x3 e2x3 bias",
                                        "bwd bf16 b67 h2 d32 28x28 w3x7 bias dlse"};
    static const char *const left[] = {
        "fwd bf16 b64 h4 d32 56x56 w7x7",     "bwd fp32 b64 h4 d32 56x56 w7x7",
        "bwd bf16 b64 h4 d64 56x56 w7x7",     "bwd bf16 b64 h4 d32:64 56x56 w7x7",
        "bwd bf16 b64 h4:2 d32 56x56 w7x7",   "bwd bf16 b64 h4 d32 14x14 w7x7 bias",
        "bwd bf16 b64 h4 d32 56x56 w7x7 m3",  "bwd bf16 b64 h4 d32 56x60 w7x7",
        "bwd bf16 b64 h4 d32 56x56 w13x13",   "bwd bf16 b64 h4 d32 55x56 w7x7 e2x2",
        "bwd bf16 b64 h4 d32 3x56x56 w1x7x7", "bwd bf16 b64 h4 d32 200 w7",
        "bwd fp16 b64 h4 d32 56x56 w7x7 bias"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        EXPECT(is_taken(taken[i], 90) && is_shared_out(taken[i]));
        EXPECT(!is_taken(taken[i], 80) && !is_taken(taken[i], 100));
    }
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        EXPECT(!is_taken(left[i], 90));
    return sees_next_door();
}

/* With a bias there is a warp more, and a second launch adds sums of its gradient up,
 * if that is asked for. */
bool fake_sweep_bias(void)
{
    static trial t;
    fake_state *s = state();
    int stream;
    for (int n = 0; n < 2; n++) {
        make(&t, "bwd bf16 b5 h2 d32 20x8 w7x7 bias", NATTEN_CUDA);
        t.given[NATTEN_GRAD_BIAS] = n > 0;
        int before = s->launches;
        EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
        EXPECT(s->launches == before + (n > 0 ? 2 : 1));
        const fake_launch *sweep = &s->launch[before], *sum = sweep + 1;
        EXPECT(strcmp(sweep->kernel, "natten_sweep_engine_backward_bias_2") == 0);
        EXPECT((int)sweep->block == (sweep->job.sweep.warps + 1) * NATTEN_CUDA_WARP);
        EXPECT(n == 0 || strcmp(sum->kernel, "natten_simt_sum_bias") == 0);
        EXPECT(n == 0 || sum->job.chunks * sum->job.task.heads * sweep->job.sweep.run ==
                             sweep->job.sweep.items);
    }
    return true;
}

/* One launch, wherever rows lie. */
bool fake_sweep_launches(void)
{
    static trial t;
    fake_state *s = state();
    int stream;
    for (int n = 0; n < 5; n++) {
        make(&t, "bwd bf16 b1 h2 d32 20x20 w7x7", NATTEN_CUDA);
        int64_t strides[] = {20 * 20 * 80, 20 * 80, 80, 40, 1};
        natten_role role = n % 2 == 0 ? NATTEN_OUT : NATTEN_KEY;
        t.array[role].tensor.data = fake_memory_of(20 * 20 * 80 * 2 + 64);
        t.array[role].tensor.strides = n > 0 ? strides : NULL;
        if (n >= 3) /* rows that cannot be fetched, or not be read 16 bytes at a time */
            t.array[role].tensor.data = (char *)t.array[role].tensor.data + 2;
        int before = s->launches, maps = s->maps;
        EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
        const fake_launch *last = &s->launch[s->launches - 1];
        const natten_cuda_sweep *sweep = &last->job.sweep;
        EXPECT(s->launches == before + 1 && last->job.delta != NULL);
        EXPECT(s->maps == maps + (n < 3 ? 4 : 0));
        EXPECT(strcmp(last->kernel, n < 3 ? "natten_sweep_engine_backward_3"
                                          : "natten_sweep_backward_3") == 0);
        EXPECT((int)last->block == sweep->warps * NATTEN_CUDA_WARP);
        EXPECT(last->grid <= (unsigned)sweep->items && last->stream == &stream);
    }
    return true;
}
