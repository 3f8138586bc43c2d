/* SPDX-License-Identifier: MIT
 *
 * Times the CUDA backend on the problems that the project measures itself by: the
 * median of single calls between two events, the L2 cache flushed before each.
 *
 *     gpu_bench [any-order] [TEXT...]    these problems (docs/problem-text.md), or the
 *                                        usual ones; any-order: last bits may differ
 *                                        from call to call where that is faster
 *
 * It only times: gpu_judge and gpu_shapes say whether results are right.
 * scripts/gpu-check bench builds and runs it. */
#include "cuda/cuda.h"
#include "problem/problem.h"
#include "support/device_problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const usual[] = {
    "fwd bf16 b64 h4 d32 56x56 w7x7",      "bwd bf16 b64 h4 d32 56x56 w7x7",
    "fwd bf16 b64 h4 d32 56x56 w7x7 bias", "bwd bf16 b64 h4 d32 56x56 w7x7 bias",
    "fwd bf16 b64 h4 d32 56x56 w7x7 e8x8", "bwd bf16 b64 h4 d32 56x56 w7x7 e8x8",
    "fwd bf16 b4 h8 d64 128x128 w13x13",   "bwd bf16 b4 h8 d64 128x128 w13x13",
    "fwd bf16 b2 h16 d64 16x32x32 w7x7x7", "bwd bf16 b2 h16 d64 16x32x32 w7x7x7",
    "fwd fp32 b1 h8 d64 128x128 w13x13",   "bwd fp32 b1 h8 d64 128x128 w13x13",
    "fwd fp64 b1 h8 d64 128x128 w13x13",   "fwd bf16 b1 h16 d64 16384 w16384",
    "bwd bf16 b1 h16 d64 16384 w16384",    "fwd bf16 b1 h16 d128 16384 w16384",
    "bwd bf16 b1 h16 d128 16384 w16384",   "fwd bf16 b4 h16 d64 128x128 w33x33",
    "bwd bf16 b4 h16 d64 128x128 w33x33",  "fwd bf16 b1 h16 d128 16384 w2049",
    "bwd bf16 b1 h16 d128 16384 w2049",
};

enum { WARMUP = 3, REPEATS = 15 };
/* More than the L2 cache of any GPU so far. */
enum { FLUSH_BYTES = 256 << 20 };

static int by_value(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;
    return a < b ? -1 : a > b;
}

/* Visible pairs of the whole call. */
static double pairs_of(const natten_problem_spec *s)
{
    double pairs = (double)(s->batch * s->heads);
    for (int a = 0; a < s->rank; a++)
        pairs *= (double)(s->queries[a] * s->kernel_size[a]);
    return pairs;
}

/* What the plan's first pass computes over what is wanted: masked pairs are computed
 * too. */
static double work_of(trial *t)
{
    natten_problem problem = {.operation = t->spec.operation, .params = &t->params};
    natten_machine machine = {.threads = 1, .gpu = natten_gpu_get(0)};
    natten_task task;
    natten_choice choice;
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        problem.tensor[role] = trial_tensor(t, role);
    if (natten_problem_check(&problem, &task) != NATTEN_OK ||
        natten_cuda_backend.choose(&task, &machine, &choice) != NATTEN_OK)
        return 1;
    return choice.work;
}

static int time_problem(const char *text, uint64_t flags, uintptr_t flush)
{
    static device_problem p;
    const natten_driver *driver = device_driver();
    float milliseconds[REPEATS];
    void *begin, *end;
    if (!device_problem_make(&p, text)) {
        printf("%-44s no room on the GPU\n", text);
        return 0;
    }
    p.t.params.flags = flags;
    device_must(driver->event_create(&begin, 0), "cuEventCreate");
    device_must(driver->event_create(&end, 0), "cuEventCreate");
    for (int i = -WARMUP; i < REPEATS; i++) {
        device_must(driver->copy(flush, flush + FLUSH_BYTES / 2, FLUSH_BYTES / 2, NULL),
                    "cuMemcpyDtoDAsync");
        device_must(driver->event_record(begin, NULL), "cuEventRecord");
        if (trial_call(&p.t, NULL, 0, NULL) != NATTEN_OK) {
            printf("%-44s %s\n", text, natten_last_error());
            return 1;
        }
        device_must(driver->event_record(end, NULL), "cuEventRecord");
        device_must(driver->event_wait(end), "cuEventSynchronize");
        if (i >= 0)
            device_must(driver->event_time(&milliseconds[i], begin, end),
                        "cuEventElapsedTime");
    }
    qsort(milliseconds, REPEATS, sizeof *milliseconds, by_value);
    double flop = 4, dim = (double)p.t.spec.dim, median = milliseconds[REPEATS / 2];
    if (p.t.spec.operation == NATTEN_BACKWARD)
        flop = 10;
    double rate = flop * dim * pairs_of(&p.t.spec) / median * 1e-9;
    printf("%-44s %9.3f ms (least %.3f) %8.2f TFLOP/s, %.0f in tiles\n", text, median,
           (double)milliseconds[0], rate, rate * work_of(&p.t));
    fflush(stdout);
    device_must(driver->event_destroy(begin), "cuEventDestroy");
    device_must(driver->event_destroy(end), "cuEventDestroy");
    device_problem_free(&p);
    return 0;
}

int main(int argc, char **argv)
{
    uintptr_t flush;
    if (device_driver() == NULL) {
        printf("gpu_bench: no GPU that this build has kernels for\n");
        return 77;
    }
    device_must(device_driver()->alloc(&flush, FLUSH_BYTES), "cuMemAlloc");
    bool any_order = argc > 1 && strcmp(argv[1], "any-order") == 0;
    uint64_t flags = any_order ? NATTEN_FLAG_ALLOW_NONDETERMINISTIC : 0;
    int first = any_order ? 2 : 1, failures = 0;
    int count = argc > first ? argc - first : (int)(sizeof usual / sizeof *usual);
    for (int i = 0; i < count; i++)
        failures +=
            time_problem(argc > first ? argv[first + i] : usual[i], flags, flush);
    return failures != 0;
}
