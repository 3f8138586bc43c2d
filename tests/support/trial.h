/* SPDX-License-Identifier: MIT
 *
 * A trial: one call of the public API with everything it needs, made from a seed.
 * Trials prefer ugly shapes: primes, length = window x dilation, one token, even
 * windows, classes of unequal length, odd head dims, grouped heads, parts of a grid,
 * awkward layouts.       */
#ifndef NATTEN_TESTS_SUPPORT_TRIAL_H
#define NATTEN_TESTS_SUPPORT_TRIAL_H

#include "problem/problem_text.h"
#include "support/array.h"

/* How values are distributed (docs/definition.md, section 12). */
typedef enum profile {
    PROFILE_NORMAL,
    PROFILE_WIDE_RANGE,
    PROFILE_LARGE_LOGITS,
    PROFILE_TINY,
    PROFILE_CANCEL,
    PROFILE_SUBNORMAL,
    PROFILE_NONFINITE, /* normal, with NaN and infinities in some tokens */
    PROFILE_CONSTANT,
    PROFILE_ONE_HOT,
    PROFILES
} profile;

enum { TRIAL_OPERATIONS = NATTEN_AV_BACKWARD + 1 };

typedef struct trial {
    natten_problem_spec spec; /* what is asked; its seed plays no part */
    natten_params params;
    profile profile;
    uint32_t rounded; /* a bit for each result for which who does it may round P or dS
                         to the tensors' type; fp32, and query and key, to tf32 */
    uint64_t seed;
    bool given[NATTEN_ROLES]; /* the tensor is part of the call */
    array array[NATTEN_ROLES];
    char text[NATTEN_PROBLEM_TEXT_BYTES + 80]; /* trial_text() */
} trial;

/* What is wanted of a trial; what is negative is drawn. */
typedef struct trial_wish {
    int operation, dtype, rank, profile;
    int part;      /* 1: a part of a grid; 0: the whole */
    int layout;    /* 1: any strides; 0: compact */
    int extras;    /* 0: no extra tokens */
    int wide;      /* 1: rows of up to 256, windows of any size, no bias */
    int64_t pairs; /* at most so many (query, key) pairs; -1: a few thousand */
    int64_t dim;   /* of rows, of values too */
    int64_t keys;  /* at least so many in a window */
    int tf32;      /* 1: permit it */
} trial_wish;

static const trial_wish TRIAL_ANY = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

/* Params and sizes alone. */
void trial_draw(trial *t, const trial_wish *wish, uint64_t seed);
/* Tensors for them, without values. `layout` is of the inputs; results are never
 * broadcast. */
void trial_allocate(trial *t, array_layout layout, randoms *r);
/* Everything: sizes, tensors, values; for backward out and lse are the judge's,
 * rounded, and slots of attn that nobody may read hold NaN. */
void trial_make(trial *t, const trial_wish *wish, uint64_t seed);
/* Values for the tensors that have been allocated, by the trial's profile (values.c).
 */
void trial_fill(trial *t, randoms *r);
void trial_free(trial *t);

/* The same problem and values in memory of another layout. */
void trial_copy(trial *to, const trial *from, array_layout layout, randoms *r);

/* Is the role, which the operation knows, a result of it? Else it is an input. */
bool trial_writes(natten_operation operation, natten_role role);

/* NULL where the array is not given, else its tensor. */
natten_tensor *trial_tensor(trial *t, natten_role role);

/* Call the public function with the tensors as they are. */
natten_status trial_call(trial *t, void *workspace, size_t bytes, void *stream);
/* Forward or backward of arrays of the host on a GPU. */
natten_status trial_call_host(trial *t, int32_t device_id);
/* Poison the results, then call the public function, with no workspace or one of
 * exactly the size asked for and full of NaN. */
natten_status trial_run(trial *t, natten_backend backend);
natten_status trial_workspace(trial *t, natten_backend backend, size_t *bytes);

/* NULL if after a run every input and every byte between elements of a result is what
 * it was, else the name of a role that is not. */
const char *trial_damage(const trial *t);

/* What the trial asks and how to make it again, on one line. */
const char *trial_text(trial *t);
const char *role_name(natten_role role);
const char *profile_name(profile p);

#endif
