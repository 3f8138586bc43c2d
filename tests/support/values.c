/* SPDX-License-Identifier: MIT
 *
 * The nine ways in which a trial's values are distributed. Each is aimed at a way of
 * being wrong: sums that cancel, exponentials that leave the range, numbers below the
 * normal ones, a NaN that is near but not seen. */
#include "support/trial.h"

/* Powers of two that a type can hold, and whose squares its accumulator can. */
static int widest(natten_dtype dtype)
{
    return dtype == NATTEN_FP16 ? 8 : 20;
}

static double tiny_of(natten_dtype dtype)
{
    switch (dtype) {
    case NATTEN_FP64:
        return 0x1p-520; /* products are below the normal numbers */
    case NATTEN_FP16:
        return 0x1p-12;
    default:
        return 0x1p-66;
    }
}

static double smallest_of(natten_dtype dtype)
{
    switch (dtype) {
    case NATTEN_FP64:
        return 0x1p-1074;
    case NATTEN_FP32:
        return 0x1p-149;
    case NATTEN_BF16:
        return 0x1p-133;
    default:
        return 0x1p-24;
    }
}

static bool makes_logits(natten_role role)
{
    return role == NATTEN_QUERY || role == NATTEN_KEY || role == NATTEN_ADDITIONAL_KEYS;
}

/* Element `index` of a vector of `width`, in the trial's profile. */
static double draw(const trial *t, natten_role role, int64_t index, int64_t width,
                   randoms *r)
{
    double sign = random_once_in(r, 2) ? 1 : -1;
    switch (t->profile) {
    case PROFILE_WIDE_RANGE: {
        int most = makes_logits(role) ? 5 : widest(t->spec.dtype);
        return sign * ldexp(1 + random_unit(r), (int)random_int(r, -most, most));
    }
    case PROFILE_LARGE_LOGITS:
        /* Logits of up to about 10^4 in size, whatever the head dim. */
        return random_normal(r) *
               (makes_logits(role) ? 60 / sqrt(sqrt((double)t->spec.dim)) : 1);
    case PROFILE_TINY:
        return random_normal(r) * tiny_of(t->spec.dtype);
    case PROFILE_CANCEL:
        /* Neighbours are opposite but for a little. */
        return (index % 2 == 0 ? 1 : -1) * 3.0 + random_normal(r) * 0x1p-6;
    case PROFILE_SUBNORMAL:
        return sign * (double)random_int(r, 0, 100) * smallest_of(t->spec.dtype);
    case PROFILE_CONSTANT:
        return 0.7;
    case PROFILE_ONE_HOT:
        return index / width % width == index % width ? 8 : 0;
    default:
        return random_normal(r);
    }
}

/* Put NaN and infinities into a few vectors, one element of each. */
static void plant(array *a, int64_t width, randoms *r)
{
    static const double bad[] = {NAN, HUGE_VAL, -HUGE_VAL};
    int64_t vectors = array_count(a) / width;
    int64_t count = vectors > 0 ? random_int(r, 0, 1 + vectors / 16) : 0;
    for (int64_t n = 0; n < count; n++) {
        int64_t at = random_int(r, 0, vectors - 1) * width;
        at += random_int(r, 0, width - 1);
        array_set(a, at, bad[random_int(r, 0, 2)]);
    }
}

/* A bias that forbids: some entries -inf, now and then all of them. */
static void forbid(array *a, randoms *r)
{
    bool all = random_once_in(r, 4);
    for (int64_t i = 0; i < array_count(a); i++)
        if (all || random_once_in(r, 3))
            array_set(a, i, -HUGE_VAL);
}

void trial_fill(trial *t, randoms *r)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!t->given[role] || !!trial_writes(t->spec.operation, role))
            continue;
        array *a = &t->array[role];
        int64_t width = a->shape[a->tensor.ndim - 1];
        for (int64_t i = 0; i < array_count(a); i++)
            array_set(a, i, draw(t, role, i, width, r));
        if (t->profile != PROFILE_NONFINITE)
            continue;
        bool is_lse = role == NATTEN_LSE || role == NATTEN_GRAD_LSE;
        if (role == NATTEN_BIAS)
            forbid(a, r);
        else
            plant(a, is_lse ? 1 : width, r);
    }
}
