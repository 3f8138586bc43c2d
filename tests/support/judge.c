/* SPDX-License-Identifier: MIT
 *
 * The judge's door: evaluating a trial and comparing arrays with the verdict. */
#include "support/judge.h"

#include "support/court.h"
#include "support/device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void judge_verdict_make(verdict *v, natten_dtype dtype, int64_t count)
{
    v->count = count;
    v->dtype = dtype;
    v->value = calloc((size_t)count, sizeof *v->value);
    v->bound = calloc((size_t)count, sizeof *v->bound);
    if (v->value == NULL || v->bound == NULL)
        abort();
}

void judge_verdict_free(verdict *v)
{
    free(v->value);
    free(v->bound);
    memset(v, 0, sizeof *v);
}

void judge_free(judgement *j)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        judge_verdict_free(&j->of[role]);
}

void judge_evaluate(const trial *t, judgement *j)
{
    static void (*const operations[TRIAL_OPERATIONS])(court *, judgement *) = {
        [NATTEN_FORWARD] = court_forward, [NATTEN_BACKWARD] = court_backward,
        [NATTEN_QK] = court_qk,           [NATTEN_QK_BACKWARD] = court_qk_backward,
        [NATTEN_AV] = court_av,           [NATTEN_AV_BACKWARD] = court_av_backward,
    };
    memset(j, 0, sizeof *j);
    court c;
    court_open(&c, t);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (t->given[role] && trial_writes(t->spec.operation, role))
            judge_verdict_make(&j->of[role], t->array[role].dtype,
                               array_count(&t->array[role]));
    operations[t->spec.operation](&c, j);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (c.sum[role] != NULL)
            court_conclude(&c, c.sum[role], &j->of[role]);
    court_close(&c);
}

static uint32_t rounded(const trial *t, natten_backend backend)
{
    return backend == NATTEN_BACKEND_CUDA ? device_rounded(t) : 0;
}

void judge_for(trial *t, natten_backend backend, judgement *j)
{
    t->rounded = rounded(t, backend);
    judge_evaluate(t, j);
}

void judge_turn_to(trial *t, natten_backend backend, judgement *j)
{
    if (rounded(t, backend) == t->rounded)
        return;
    judge_free(j);
    judge_for(t, backend, j);
}

/* The smallest number that rounds to infinity. */
static double overflow_of(natten_dtype dtype)
{
    switch (dtype) {
    case NATTEN_FP16:
        return 65520;
    case NATTEN_BF16:
        return 0x1.ffp127;
    case NATTEN_FP32:
        return 0x1.ffffffp127;
    default:
        return HUGE_VAL;
    }
}

static double ratio_of(long double value, double bound, double got, double overflow)
{
    if (!isfinite(value)) {
        if (bound > 0)
            return isfinite(got) ? HUGE_VAL : 0;
        return (isnan(value) && isnan(got)) || (double)value == got ? 0 : HUGE_VAL;
    }
    if (isnan(got))
        return HUGE_VAL;
    if (isinf(got)) {
        double reach = (double)value * (got > 0 ? 1 : -1) + bound;
        return reach >= overflow ? 0 : HUGE_VAL;
    }
    double error = (double)fabsl((long double)got - value);
    if (error == 0)
        return 0;
    return bound > 0 ? error / bound : HUGE_VAL; /* a NaN bound, too, passes nothing */
}

double judge_ratio(const verdict *v, const array *a, int64_t *worst)
{
    double largest = 0, overflow = overflow_of(v->dtype);
    if (worst != NULL)
        *worst = 0;
    for (int64_t i = 0; i < v->count; i++) {
        double ratio = ratio_of(v->value[i], v->bound[i], array_get(a, i), overflow);
        if (ratio > largest) {
            largest = ratio;
            if (worst != NULL)
                *worst = i;
        }
    }
    return largest;
}

double judge_rms(const verdict *v, const array *a)
{
    long double sum = 0;
    for (int64_t i = 0; i < v->count; i++) {
        long double error = (long double)array_get(a, i) - v->value[i];
        sum += error * error;
    }
    return (double)sqrtl(sum / (long double)v->count);
}

void judge_give_forward(trial *t)
{
    /* The same problem asked as forward; only the operation and what it writes differ.
     */
    trial forward = *t;
    forward.spec.operation = NATTEN_FORWARD;
    judgement j;
    judge_evaluate(&forward, &j);
    const natten_role roles[] = {NATTEN_OUT, NATTEN_LSE};
    for (int r = 0; r < 2; r++)
        for (int64_t i = 0; i < j.of[roles[r]].count; i++)
            array_set(&t->array[roles[r]], i, (double)j.of[roles[r]].value[i]);
    judge_free(&j);
}

void judge_poison_slots(trial *t, natten_role role)
{
    court c;
    court_open(&c, t);
    double *kept = malloc((size_t)c.slots * sizeof *kept);
    if (kept == NULL)
        abort();
    for (int64_t row = 0; row < c.rows; row++) {
        court_see(&c, row);
        for (int64_t s = 0; s < c.slots; s++)
            kept[s] = NAN;
        for (int64_t n = 0; n < c.key_count; n++)
            kept[c.keys[n].slot] =
                array_get(&t->array[role], row * c.slots + c.keys[n].slot);
        for (int64_t s = 0; s < c.slots; s++)
            array_set(&t->array[role], row * c.slots + s, kept[s]);
    }
    free(kept);
    court_close(&c);
}
