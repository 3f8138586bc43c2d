/* SPDX-License-Identifier: MIT
 *
 * A round gives each number of threads its turn: OpenBLAS, then the library in each
 * type, then the loops. */
#include "race.h"

#include "base/status.h"
#include "loops.h"
#include "verify.h"
#include "yardstick.h"

#include <math.h>
#include <stdlib.h>

/* A shorter sample would be mostly the clock: so many calls make one. */
static const double shortest_sample = 100e-6;
/* Calls of up to so long find the caches and the processor's state as the call before
 * left them, so the first of a turn, after OpenBLAS, is not counted. */
static const double warm_call = 0.02;
/* How long calls take is tried for so long. */
static const double trial_seconds = 1e-3;
/* The loops are slow, and what they are asked is a factor. */
enum { LOOP_ROUNDS = 2 };

/* One of those that take turns. */
typedef struct way {
    subject *subject;
    int threads;
    int calls; /* in a sample */
    int count;
    double usual; /* seconds of a call, roughly */
    double sample[MOST_SAMPLES];
    double error, loops;
} way;

typedef struct race {
    const race_options *options;
    subject subject[NATTEN_DTYPES];
    way way[MOST_WAYS];
    int types;
    double gemm[2][MOST_COUNTS][MOST_SAMPLES]; /* [is fp64][threads][round] */
} race;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(double *samples, int count)
{
    qsort(samples, (size_t)count, sizeof *samples, ascending);
}

static bool is_wide(const way *w)
{
    return w->subject->spec.dtype == NATTEN_FP64;
}

/* Some calls and a judgement of them, and how many make a sample. */
static natten_status begin(const race_options *o, way *w)
{
    NATTEN_TRY(natten_set_num_threads(w->threads));
    subject_forget(w->subject);
    int calls = 0;
    double start = yardstick_now(), taken;
    do {
        NATTEN_TRY(subject_run(w->subject));
        taken = yardstick_now() - start;
        calls++;
    } while (taken < trial_seconds);
    w->error = verify(w->subject);
    w->usual = taken / calls;
    w->calls = w->usual < shortest_sample ? (int)(shortest_sample / w->usual) + 1 : 1;
    if (!o->loops || !loops_can(w->subject))
        return NATTEN_OK;
    subject_forget(w->subject);
    NATTEN_TRY(loops_run(w->subject, w->threads));
    w->error = fmax(w->error, verify(w->subject));
    w->loops = HUGE_VAL;
    return NATTEN_OK;
}

static natten_status take_sample(way *w)
{
    double start = yardstick_now();
    for (int n = 0; n < w->calls; n++)
        NATTEN_TRY(subject_run(w->subject));
    w->sample[w->count++] = (yardstick_now() - start) / w->calls;
    return NATTEN_OK;
}

static natten_status take_turn(const race_options *o, way *w, int round)
{
    NATTEN_TRY(natten_set_num_threads(w->threads));
    if (w->usual < warm_call)
        NATTEN_TRY(subject_run(w->subject));
    double start = yardstick_now();
    do
        NATTEN_TRY(take_sample(w));
    while (w->count < (round + 1) * (MOST_SAMPLES / o->repeats) &&
           yardstick_now() - start < o->seconds / o->repeats);
    return NATTEN_OK;
}

static natten_status take_loops(way *w)
{
    double start = yardstick_now();
    NATTEN_TRY(loops_run(w->subject, w->threads));
    w->loops = fmin(w->loops, yardstick_now() - start);
    return NATTEN_OK;
}

static way *way_of(race *r, int type, int count)
{
    return &r->way[type * r->options->thread_counts + count];
}

static natten_status run_round(race *r, int round)
{
    const race_options *o = r->options;
    for (int n = 0; n < o->thread_counts; n++) {
        bool wanted[2] = {false, false};
        for (int t = 0; t < r->types; t++)
            wanted[is_wide(way_of(r, t, n))] = true;
        for (int wide = 0; wide < 2; wide++)
            if (wanted[wide])
                r->gemm[wide][n][round] = yardstick_gemm(wide, o->threads[n]);
        for (int t = 0; t < r->types; t++)
            NATTEN_TRY(take_turn(o, way_of(r, t, n), round));
        for (int t = 0; t < r->types && round < LOOP_ROUNDS; t++)
            if (way_of(r, t, n)->loops > 0)
                NATTEN_TRY(take_loops(way_of(r, t, n)));
    }
    return NATTEN_OK;
}

static natten_status make(race *r, const natten_problem_spec *spec)
{
    const race_options *o = r->options;
    int most = 1;
    for (int n = 0; n < o->thread_counts; n++)
        most = o->threads[n] > most ? o->threads[n] : most;
    for (r->types = 0; r->types == 0 || r->types < o->type_count; r->types++) {
        natten_problem_spec of_type = *spec;
        if (o->type_count > 0)
            of_type.dtype = o->types[r->types];
        NATTEN_TRY(natten_set_num_threads(most));
        NATTEN_TRY(subject_make(&r->subject[r->types], &of_type, o->backend));
        for (int n = 0; n < o->thread_counts; n++) {
            way *w = way_of(r, r->types, n);
            *w = (way){.subject = &r->subject[r->types], .threads = o->threads[n]};
            NATTEN_TRY(begin(o, w));
        }
    }
    return NATTEN_OK;
}

static timing summary(race *r, int type, int count)
{
    way *w = way_of(r, type, count);
    double *gemm = r->gemm[is_wide(w)][count];
    int rounds = r->options->repeats;
    sort(w->sample, w->count);
    sort(gemm, rounds); /* more than once is none the worse */
    return (timing){.spec = w->subject->spec,
                    .threads = w->threads,
                    .samples = w->count,
                    .minimum = w->sample[0],
                    .median = w->sample[w->count / 2],
                    .flop = subject_flop(w->subject),
                    .gemm = gemm[rounds - 1],
                    .gemm_median = gemm[rounds / 2],
                    .error = w->error,
                    .loops = w->loops};
}

natten_status race_run(const race_options *o, const natten_problem_spec *spec,
                       timing timings[MOST_WAYS], int *ways)
{
    race *r = calloc(1, sizeof *r);
    if (!r)
        return natten_status_fail(NATTEN_ERR_MEMORY, "no memory for the times");
    r->options = o;
    natten_status status = make(r, spec);
    for (int round = 0; status == NATTEN_OK && round < o->repeats; round++)
        status = run_round(r, round);
    *ways = 0;
    for (int t = 0; status == NATTEN_OK && t < r->types; t++)
        for (int n = 0; n < o->thread_counts; n++)
            timings[(*ways)++] = summary(r, t, n);
    for (int t = 0; t < NATTEN_DTYPES; t++)
        subject_free(&r->subject[t]);
    free(r);
    return status;
}
