/* SPDX-License-Identifier: MIT
 *
 * Each figure is the best of some runs of a few milliseconds, on all threads at once.
 */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "ceiling.h"

#include "base/parallel.h"
#include "peak.h"
#include "team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VECTOR_BYTES = 64, PAGE = 4096 };
/* Shorter than what the system gives a program at a time, on a machine with others. */
static const double run_seconds = 0.002, all_seconds = 0.05;
/* Memory is read from what the last cache can't hold, but not from more than this. */
static const int64_t most_bytes = (int64_t)1 << 29;

#define DECLARE(variant) extern const peak peak_##variant##_32, peak_##variant##_64;
#define LIST(variant)                              \
    {                                              \
        &peak_##variant##_32, &peak_##variant##_64 \
    }
#ifdef NATTEN_HAVE_SSE2
DECLARE(sse2)
#endif
#ifdef NATTEN_HAVE_NEON
DECLARE(neon)
#endif
#ifdef NATTEN_HAVE_AVX2
DECLARE(avx2)
#endif
#ifdef NATTEN_HAVE_AVX512
DECLARE(avx512)
#endif

/* [variant][is fp64]; NULL: not in this build. Plain C has no limit of its own. */
static const peak *const peaks[NATTEN_VARIANTS][2] = {
#if defined NATTEN_HAVE_SSE2
    [NATTEN_VARIANT_BASELINE] = LIST(sse2),
#elif defined NATTEN_HAVE_NEON
    [NATTEN_VARIANT_BASELINE] = LIST(neon),
#endif
#ifdef NATTEN_HAVE_AVX2
    [NATTEN_VARIANT_AVX2] = LIST(avx2),
#endif
#ifdef NATTEN_HAVE_AVX512
    [NATTEN_VARIANT_AVX512] = LIST(avx512),
#endif
};

typedef struct load {
    const peak *with;
    int64_t rounds; /* of multiply-adds, or of reading everything */
    int64_t bytes;  /* that a thread reads */
    void *data[NATTEN_MAX_THREADS];
} load;

static void multiply(void *context, int thread)
{
    const load *l = context;
    char sum[VECTOR_BYTES];
    (void)thread;
    l->with->multiply_add(l->rounds, sum);
}

/* By the thread that reads it, so that it lies near it. */
static void touch(void *context, int thread)
{
    const load *l = context;
    memset(l->data[thread], 0, (size_t)l->bytes);
}

static void read_rounds(void *context, int thread)
{
    const load *l = context;
    char sum[VECTOR_BYTES];
    for (int64_t n = 0; n < l->rounds; n++)
        l->with->read(l->data[thread], l->bytes, sum);
}

/* Rounds a second, with as many rounds as a run of run_seconds has, `least` or more. */
static double best_rate(load *l, int threads, int64_t least, team_body *body)
{
    double seconds, rate = 0, all = 0;
    for (l->rounds = least;; l->rounds *= 2) {
        seconds = team_run(threads, body, l);
        if (seconds >= run_seconds)
            break;
    }
    while (all < all_seconds) {
        rate = fmax(rate, (double)l->rounds / seconds);
        all += seconds;
        seconds = team_run(threads, body, l);
    }
    return rate;
}

/* GB/s from memory of which each thread has `bytes` of its own. */
static double read_rate(const peak *with, int threads, int64_t bytes)
{
    load l = {.with = with, .bytes = bytes / PAGE * PAGE};
    bool made = l.bytes > 0;
    for (int n = 0; made && n < threads; n++)
        if (posix_memalign(&l.data[n], PAGE, (size_t)l.bytes) != 0) {
            l.data[n] = NULL;
            made = false;
        }
    double rate = 0;
    if (made) {
        team_run(threads, touch, &l);
        rate = best_rate(&l, threads, 1, read_rounds);
    }
    for (int n = 0; n < threads; n++)
        free(l.data[n]);
    return 1e-9 * (double)l.bytes * threads * rate;
}

ceiling ceiling_measure(int threads)
{
    natten_machine machine = natten_machine_get();
    ceiling c = {.threads = threads};
    const peak *best = NULL;
    for (int v = 0; v < NATTEN_VARIANTS; v++) {
        if (!machine.has_variant[v] || !peaks[v][0])
            continue;
        best = peaks[v][0];
        for (int wide = 0; wide < 2; wide++) {
            load l = {.with = peaks[v][wide]};
            double flop = 2.0 * PEAK_CHAINS * l.with->lanes * threads;
            c.fma[v][wide] = 1e-9 * flop * best_rate(&l, threads, 1024, multiply);
        }
    }
    if (!best)
        return c;
    c.l2 = read_rate(best, threads, machine.l2_bytes / 2);
    int64_t beyond = 2 * machine.l3_bytes;
    c.dram =
        read_rate(best, threads, (beyond < most_bytes ? beyond : most_bytes) / threads);
    return c;
}
