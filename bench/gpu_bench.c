/* SPDX-License-Identifier: MIT
 *
 * Times the CUDA backend on the problems that the project measures itself by, in two
 * ways:
 *
 *     single     calls between two events, the L2 cache flushed before each: the
 *                median, and the least
 *     sustained  calls back to back for 0.35 s, of which the second half counts:
 *                the mean
 *
 * Those back to back go round as many sets of tensors, up to eight, as are more than
 * twice the L2 cache together, so that it is cold for all but the smallest problems.
 *
 * Single calls are made as users make them; those back to back are planned before, so
 * that the host is ahead of the GPU.  Where it is not, the line says so.  Rates are of
 * the sustained time.
 *
 *     gpu_bench [any-order] [TEXT...]    these problems (docs/problem-text.md), or the
 *                                        usual ones; any-order: last bits may differ
 *                                        from call to call where that is faster
 *
 * It only times: gpu_judge and gpu_shapes say whether results are right.
 * scripts/gpu-check bench builds and runs it. */
#include "base/status.h"
#include "cuda/cuda.h"
#include "problem/problem.h"
#include "support/device_problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

enum { WARMUP = 3, REPEATS = 15, SETS = 8 };
enum { SUSTAINED_MILLISECONDS = 350 };
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

/* ---- a problem and its sets of tensors ---- */

typedef struct subject {
    device_problem set[SETS];
    natten_plan plan[SETS];
    int sets;
    uintptr_t workspace; /* of all */
} subject;

static size_t bytes_of(const device_problem *p)
{
    size_t bytes = 0;
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (p->t.given[role])
            bytes += (size_t)array_count(&p->t.array[role]) *
                     natten_dtype_bytes(p->t.array[role].dtype);
    return bytes;
}

static natten_status make_plan(trial *t, natten_plan *plan)
{
    natten_problem problem = {.operation = t->spec.operation, .params = &t->params};
    natten_machine machine = {.threads = 1, .gpu = natten_gpu_get(0)};
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        problem.tensor[role] = trial_tensor(t, role);
    NATTEN_TRY(natten_problem_check(&problem, &plan->task));
    plan->backend = &natten_cuda_backend;
    return natten_cuda_backend.choose(&plan->task, &machine, &plan->choice);
}

/* One set more; false if the GPU has no room. */
static bool add_set(subject *s, const char *text, uint64_t flags)
{
    device_problem *p = &s->set[s->sets];
    if (!device_problem_make(p, text))
        return false;
    p->t.params.flags = flags;
    s->sets++;
    return true;
}

/* Plan the calls of the first set, bring a workspace, and add as many sets as are more
 * than twice the L2 cache, two at least; fewer where there is no room, and no more than
 * SETS. */
static natten_status add_sets(subject *s, const char *text, uint64_t flags)
{
    size_t cache = (size_t)natten_gpu_get(0).l2_bytes, each = bytes_of(&s->set[0]);
    NATTEN_TRY(make_plan(&s->set[0].t, &s->plan[0]));
    size_t bytes = s->plan[0].choice.workspace_bytes;
    if (bytes > 0)
        device_must(device_driver()->alloc(&s->workspace, bytes), "cuMemAlloc");
    while (s->sets < SETS && (s->sets < 2 || (size_t)s->sets * each <= 2 * cache) &&
           add_set(s, text, flags))
        NATTEN_TRY(make_plan(&s->set[s->sets - 1].t, &s->plan[s->sets - 1]));
    return NATTEN_OK;
}

static void free_sets(subject *s)
{
    if (s->workspace != 0)
        device_must(device_driver()->free(s->workspace), "cuMemFree");
    for (int i = 0; i < s->sets; i++)
        device_problem_free(&s->set[i]);
    s->sets = 0, s->workspace = 0;
}

/* ---- single calls ---- */

/* The times of REPEATS calls on the first set, sorted, in milliseconds. */
static natten_status time_single(subject *s, uintptr_t flush, float times[REPEATS])
{
    const natten_driver *driver = device_driver();
    natten_status status = NATTEN_OK;
    void *begin, *end;
    device_must(driver->event_create(&begin, 0), "cuEventCreate");
    device_must(driver->event_create(&end, 0), "cuEventCreate");
    for (int i = -WARMUP; i < REPEATS && status == NATTEN_OK; i++) {
        device_must(driver->copy(flush, flush + FLUSH_BYTES / 2, FLUSH_BYTES / 2, NULL),
                    "cuMemcpyDtoDAsync");
        device_must(driver->event_record(begin, NULL), "cuEventRecord");
        status = trial_call(&s->set[0].t, NULL, 0, NULL);
        device_must(driver->event_record(end, NULL), "cuEventRecord");
        device_must(driver->event_wait(end), "cuEventSynchronize");
        if (i >= 0)
            device_must(driver->event_time(&times[i], begin, end),
                        "cuEventElapsedTime");
    }
    qsort(times, REPEATS, sizeof *times, by_value);
    device_must(driver->event_destroy(begin), "cuEventDestroy");
    device_must(driver->event_destroy(end), "cuEventDestroy");
    return status;
}

/* ---- calls back to back ---- */

static double now_in_milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* Calls are put on the stream in batches of some 2 ms.  The host waits for the batch
 * before the last alone, so the GPU always has one before it. */
enum { BATCH_MILLISECONDS = 2, BATCH_CALLS = 128 };

typedef struct series {
    void *stream, *begin, *middle, *end, *turn[2]; /* of two batches */
    int batch;                                     /* calls */
    int64_t calls;                                 /* so far */
    double host; /* milliseconds that the host took for them, waiting left out */
} series;

static void series_open(series *r, double milliseconds)
{
    enum { NON_BLOCKING = 1 };
    const natten_driver *driver = device_driver();
    double batch = BATCH_MILLISECONDS / milliseconds;
    *r = (series){.batch = batch < 1             ? 1
                           : batch < BATCH_CALLS ? (int)batch
                                                 : BATCH_CALLS};
    void **events[] = {&r->begin, &r->middle, &r->end, &r->turn[0], &r->turn[1]};
    device_must(driver->stream_wait(NULL), "cuStreamSynchronize");
    device_must(driver->stream_create(&r->stream, NON_BLOCKING), "cuStreamCreate");
    for (int i = 0; i < 5; i++)
        device_must(driver->event_create(events[i], 0), "cuEventCreate");
}

static void series_close(series *r)
{
    const natten_driver *driver = device_driver();
    void *events[] = {r->begin, r->middle, r->end, r->turn[0], r->turn[1]};
    device_must(driver->stream_wait(r->stream), "cuStreamSynchronize");
    for (int i = 0; i < 5; i++)
        device_must(driver->event_destroy(events[i]), "cuEventDestroy");
    device_must(driver->stream_destroy(r->stream), "cuStreamDestroy");
}

static natten_status put_batch(series *r, const subject *s)
{
    double begin = now_in_milliseconds();
    for (int i = 0; i < r->batch; i++)
        NATTEN_TRY(natten_cuda_backend.run(&s->plan[r->calls++ % s->sets],
                                           (void *)s->workspace, r->stream));
    r->host += now_in_milliseconds() - begin;
    return NATTEN_OK;
}

/* The mean of the calls of the second half: on the GPU, and of the host alone. */
static natten_status make_calls(series *r, const subject *s, double *milliseconds,
                                double *host)
{
    const natten_driver *driver = device_driver();
    int64_t first = -1; /* call that counts */
    float at = 0;       /* end of the batch before the last */
    device_must(driver->event_record(r->begin, r->stream), "cuEventRecord");
    for (int n = 0; at < SUSTAINED_MILLISECONDS; n++) {
        void *turn = r->turn[n % 2];
        if (n >= 2) {
            device_must(driver->event_wait(turn), "cuEventSynchronize");
            device_must(driver->event_time(&at, r->begin, turn), "cuEventElapsedTime");
        }
        if (at >= SUSTAINED_MILLISECONDS / 2 && first < 0) {
            device_must(driver->event_record(r->middle, r->stream), "cuEventRecord");
            first = r->calls, r->host = 0;
        }
        NATTEN_TRY(put_batch(r, s));
        device_must(driver->event_record(turn, r->stream), "cuEventRecord");
    }
    device_must(driver->event_record(r->end, r->stream), "cuEventRecord");
    device_must(driver->event_wait(r->end), "cuEventSynchronize");
    device_must(driver->event_time(&at, r->middle, r->end), "cuEventElapsedTime");
    *milliseconds = (double)at / (double)(r->calls - first);
    *host = r->host / (double)(r->calls - first);
    return NATTEN_OK;
}

/* The mean of planned calls, of which a single one takes `single` milliseconds. */
static natten_status time_sustained(const subject *s, double single,
                                    double *milliseconds, double *host)
{
    series r;
    series_open(&r, single);
    natten_status status = make_calls(&r, s, milliseconds, host);
    series_close(&r);
    return status;
}

/* ---- a line for each problem ---- */

static int time_problem(const char *text, uint64_t flags, uintptr_t flush)
{
    static subject s;
    float times[REPEATS] = {0};
    double sustained = 0, host = 0;
    if (!add_set(&s, text, flags)) {
        printf("%-44s no room on the GPU\n", text);
        return 0;
    }
    natten_status status = time_single(&s, flush, times);
    double median = times[REPEATS / 2];
    if (status == NATTEN_OK)
        status = add_sets(&s, text, flags);
    if (status == NATTEN_OK)
        status = time_sustained(&s, median, &sustained, &host);
    if (status == NATTEN_OK) {
        const natten_problem_spec *spec = &s.set[0].t.spec;
        double flop = spec->operation == NATTEN_BACKWARD ? 10 : 4;
        double rate = flop * (double)spec->dim * pairs_of(spec) / sustained * 1e-9;
        /* Masked pairs are computed too: `work` times as many as are wanted. */
        printf("%-44s single %9.3f ms (least %.3f), sustained %9.3f ms (%d sets) "
               "%8.2f TFLOP/s, %.0f in tiles%s\n",
               text, median, (double)times[0], sustained, s.sets, rate,
               rate * s.plan[0].choice.work,
               host > 0.9 * sustained ? "; the host was too slow" : "");
    } else {
        printf("%-44s %s\n", text, natten_last_error());
    }
    fflush(stdout);
    free_sets(&s);
    return status != NATTEN_OK;
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
