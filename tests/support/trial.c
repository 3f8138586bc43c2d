/* SPDX-License-Identifier: MIT
 *
 * Trials: drawing a problem, giving it tensors, calling the library. */
#include "support/trial.h"

#include "support/device.h"
#include "support/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const role_names[NATTEN_ROLES] = {
    "query",
    "key",
    "value",
    "bias",
    "additional_keys",
    "additional_values",
    "attn",
    "out",
    "lse",
    "grad_attn",
    "grad_out",
    "grad_lse",
    "grad_query",
    "grad_key",
    "grad_value",
    "grad_bias",
    "grad_additional_keys",
    "grad_additional_values",
};

static const char *const profile_names[PROFILES] = {
    "normal",    "wide range",  "large logits", "tiny",    "cancelling",
    "subnormal", "NaN and Inf", "constant",     "one-hot",
};

#define ROLE(r) (1u << NATTEN_##r)

static const unsigned roles_written[TRIAL_OPERATIONS] = {
    [NATTEN_FORWARD] = ROLE(OUT) | ROLE(LSE),
    [NATTEN_BACKWARD] = ROLE(GRAD_QUERY) | ROLE(GRAD_KEY) | ROLE(GRAD_VALUE) |
                        ROLE(GRAD_BIAS) | ROLE(GRAD_ADDITIONAL_KEYS) |
                        ROLE(GRAD_ADDITIONAL_VALUES),
    [NATTEN_QK] = ROLE(ATTN),
    [NATTEN_QK_BACKWARD] = ROLE(GRAD_QUERY) | ROLE(GRAD_KEY) | ROLE(GRAD_BIAS) |
                           ROLE(GRAD_ADDITIONAL_KEYS),
    [NATTEN_AV] = ROLE(OUT),
    [NATTEN_AV_BACKWARD] =
        ROLE(GRAD_ATTN) | ROLE(GRAD_VALUE) | ROLE(GRAD_ADDITIONAL_VALUES),
};

const char *role_name(natten_role role)
{
    return role_names[role];
}

const char *profile_name(profile p)
{
    return profile_names[p];
}

bool trial_writes(natten_operation operation, natten_role role)
{
    return (roles_written[operation] >> role & 1) != 0;
}

/* ---- drawing ------------------------------------------------------------------------
 */

static int64_t pick(randoms *r, const int64_t *from, int64_t count)
{
    return from[random_int(r, 0, count - 1)];
}

/* Trials of more pairs than this get longer axes. */
enum { FEW_PAIRS = 4000 };

static void draw_axis(natten_problem_spec *s, int a, bool part, const trial_wish *wish,
                      randoms *r)
{
    static const int64_t primes[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41};
    /* Of 1, 2 and 3 axes. */
    static const int64_t longest[2][3] = {{41, 13, 7}, {307, 43, 17}};
    static const int64_t prime_count[] = {13, 6, 4};
    int64_t most = longest[wish->pairs > FEW_PAIRS][s->rank - 1], length, window,
            dilation = 1;
    switch (random_int(r, 0, 7)) {
    case 0: /* nothing to spare */
        window = random_int(r, 1, most / 2);
        dilation = random_int(r, 1, most / window);
        length = window * dilation;
        break;
    case 1: /* one token, or one window */
        length = random_once_in(r, 2) ? 1 : random_int(r, 1, most);
        window = length;
        break;
    case 2:
    case 3: /* a prime length, so classes are uneven */
        length = pick(r, primes, prime_count[s->rank - 1]);
        dilation = random_int(r, 1, length < 5 ? length : 5);
        window = random_int(r, 1, length / dilation);
        break;
    default:
        length = random_int(r, 1, most);
        window = random_int(r, 1, length < 9 || wish->wide == 1 ? length : 9);
    }
    s->kernel_size[a] = window;
    s->dilation[a] = dilation;
    s->stride[a] = random_once_in(r, 2) ? 1 : random_int(r, 1, window);
    s->is_causal[a] = random_once_in(r, 3);
    s->queries[a] = s->keys[a] = s->grid_length[a] = length;
    if (part) {
        /* Now and then nothing of one of them. */
        s->query_begin[a] = random_int(r, 0, length - 1);
        s->queries[a] =
            random_int(r, !random_once_in(r, 16), length - s->query_begin[a]);
        s->key_begin[a] = random_int(r, 0, length - 1);
        s->keys[a] = random_int(r, !random_once_in(r, 16), length - s->key_begin[a]);
    }
}

static int64_t keys_of(const natten_problem_spec *s)
{
    int64_t keys = 1;
    for (int a = 0; a < s->rank; a++)
        keys *= s->kernel_size[a];
    return keys;
}

static int64_t pairs_of(const natten_problem_spec *s)
{
    int64_t queries = s->batch * s->heads;
    for (int a = 0; a < s->rank; a++)
        queries *= s->queries[a];
    return queries * (keys_of(s) + s->extras);
}

static int wished(int wish, randoms *r, int count)
{
    int drawn = (int)random_int(r, 0, count - 1);
    return wish >= 0 ? wish : drawn;
}

static bool is_qk(natten_operation operation)
{
    return operation == NATTEN_QK || operation == NATTEN_QK_BACKWARD;
}

static bool is_av(natten_operation operation)
{
    return operation == NATTEN_AV || operation == NATTEN_AV_BACKWARD;
}

static void draw_once(natten_problem_spec *s, const trial_wish *wish, randoms *r)
{
    static const int64_t dims[] = {1,  2,  3,  4,  5,  7,  8,  9,  15,
                                   16, 17, 24, 31, 32, 33, 64, 65, 128};
    static const int64_t wide[] = {1,   8,   16,  17,  24,  32,  40,  48,
                                   64,  72,  80,  96,  100, 112, 128, 136,
                                   160, 161, 176, 192, 200, 240, 255, 256};
    enum { DIMS = sizeof dims / sizeof dims[0], WIDE = sizeof wide / sizeof wide[0] };
    bool is_wide = wish->wide == 1;
    static const int64_t extras[] = {1, 2, 3, 5, 8, 17, 33};
    static const double scales[] = {0, -0.4, 0.3, 1};
    memset(s, 0, sizeof *s);
    s->seed = 1;
    s->operation = (natten_operation)wished(wish->operation, r, TRIAL_OPERATIONS);
    s->dtype = (natten_dtype)wished(wish->dtype, r, NATTEN_DTYPES);
    s->rank = 1 + wished(wish->rank - 1, r, 3);
    bool part = wished(wish->part, r, 4) == 1;
    for (int a = 0; a < s->rank; a++)
        draw_axis(s, a, part, wish, r);
    s->batch = random_int(r, 1, 3);
    s->heads_kv = random_int(r, 1, 3);
    s->heads = s->heads_kv * (random_once_in(r, 2) ? 1 : random_int(r, 2, 3));
    s->dim = is_wide ? pick(r, wide, WIDE) : pick(r, dims, DIMS);
    s->dim_v = random_once_in(r, 2) || is_qk(s->operation) ? s->dim
               : is_wide                                   ? pick(r, wide, WIDE)
                                                           : pick(r, dims, DIMS);
    s->dim = is_av(s->operation) ? s->dim_v : s->dim;
    if (wish->dim >= 0)
        s->dim = s->dim_v = wish->dim;
    s->extras = random_once_in(r, 2) ? 0 : pick(r, extras, 7);
    s->extras = wish->extras == 0 ? 0 : s->extras;
    s->has_bias = random_once_in(r, 2) && !is_av(s->operation) && !is_wide;
    s->has_grad_lse = random_once_in(r, 2) && s->operation == NATTEN_BACKWARD;
    int which = (int)random_int(r, 0, 7);
    s->has_scale = which < 4 && !is_av(s->operation);
    s->scale = s->has_scale          ? scales[which]
               : is_qk(s->operation) ? 1
                                     : 1 / sqrt((double)s->dim);
}

void trial_draw(trial *t, const trial_wish *wish, uint64_t seed)
{
    memset(t, 0, sizeof *t);
    t->seed = seed;
    randoms r = {seed};
    int64_t most = wish->pairs >= 0 ? wish->pairs : FEW_PAIRS;
    t->profile = (profile)wished(wish->profile, &r, PROFILES);
    do
        draw_once(&t->spec, wish, &r);
    while (pairs_of(&t->spec) > most || keys_of(&t->spec) < wish->keys);
    t->spec.allows_tf32 = wish->tf32 == 1;
    t->params = natten_problem_spec_params(&t->spec, NATTEN_BACKEND_AUTO);
}

/* ---- tensors ---- */

void trial_allocate(trial *t, array_layout layout, randoms *r)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        t->given[role] = natten_problem_spec_has(&t->spec, role);
        if (!t->given[role])
            continue;
        int64_t shape[ARRAY_RANK];
        int ndim = natten_problem_spec_shape(&t->spec, role, shape);
        /* What is computed, or has a meaning in each element, is not broadcast. */
        bool distinct = trial_writes(t->spec.operation, role) || role == NATTEN_OUT ||
                        role == NATTEN_LSE || role == NATTEN_ATTN ||
                        role == NATTEN_GRAD_ATTN;
        array_make(&t->array[role], natten_problem_spec_dtype(&t->spec, role), ndim,
                   shape, layout == ARRAY_BROADCAST && distinct ? ARRAY_ANY : layout,
                   r);
    }
}

void trial_make(trial *t, const trial_wish *wish, uint64_t seed)
{
    trial_draw(t, wish, seed);
    randoms r = {seed ^ 0x5851f42d4c957f2du};
    bool any = wished(wish->layout, &r, 2) == 1;
    trial_allocate(t, any ? ARRAY_BROADCAST : ARRAY_COMPACT, &r);
    trial_fill(t, &r);
    if (t->spec.operation == NATTEN_BACKWARD)
        judge_give_forward(t);
    if (t->spec.operation == NATTEN_AV || t->spec.operation == NATTEN_AV_BACKWARD)
        judge_poison_slots(t, NATTEN_ATTN);
    if (t->spec.operation == NATTEN_QK_BACKWARD)
        judge_poison_slots(t, NATTEN_GRAD_ATTN);
}

void trial_copy(trial *to, const trial *from, array_layout layout, randoms *r)
{
    *to = *from;
    memset(to->array, 0, sizeof to->array);
    trial_allocate(to, layout, r);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (to->given[role])
            array_assign(&to->array[role], &from->array[role]);
}

void trial_free(trial *t)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        array_free(&t->array[role]);
}

natten_tensor *trial_tensor(trial *t, natten_role role)
{
    return t->given[role] ? &t->array[role].tensor : NULL;
}

/* ---- calling ---- */

#define T(r) trial_tensor(t, NATTEN_##r)

natten_status trial_call(trial *t, void *workspace, size_t bytes, void *stream)
{
    const natten_params *p = &t->params;
    switch (t->spec.operation) {
    case NATTEN_FORWARD:
        return natten_forward(p, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                              T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT), T(LSE),
                              workspace, bytes, stream);
    case NATTEN_BACKWARD:
        return natten_backward(p, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                               T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT), T(LSE),
                               T(GRAD_OUT), T(GRAD_LSE), T(GRAD_QUERY), T(GRAD_KEY),
                               T(GRAD_VALUE), T(GRAD_BIAS), T(GRAD_ADDITIONAL_KEYS),
                               T(GRAD_ADDITIONAL_VALUES), workspace, bytes, stream);
    case NATTEN_QK:
        return natten_qk(p, T(QUERY), T(KEY), T(BIAS), T(ADDITIONAL_KEYS), T(ATTN),
                         workspace, bytes, stream);
    case NATTEN_QK_BACKWARD:
        return natten_qk_backward(p, T(QUERY), T(KEY), T(ADDITIONAL_KEYS), T(GRAD_ATTN),
                                  T(GRAD_QUERY), T(GRAD_KEY), T(GRAD_BIAS),
                                  T(GRAD_ADDITIONAL_KEYS), workspace, bytes, stream);
    case NATTEN_AV:
        return natten_av(p, T(ATTN), T(VALUE), T(ADDITIONAL_VALUES), T(OUT), workspace,
                         bytes, stream);
    default:
        return natten_av_backward(p, T(ATTN), T(VALUE), T(ADDITIONAL_VALUES),
                                  T(GRAD_OUT), T(GRAD_ATTN), T(GRAD_VALUE),
                                  T(GRAD_ADDITIONAL_VALUES), workspace, bytes, stream);
    }
}

natten_status trial_call_host(trial *t, int32_t device_id)
{
    const natten_params *p = &t->params;
    if (t->spec.operation == NATTEN_FORWARD)
        return natten_forward_host(p, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                                   T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT),
                                   T(LSE), device_id);
    return natten_backward_host(
        p, T(QUERY), T(KEY), T(VALUE), T(BIAS), T(ADDITIONAL_KEYS),
        T(ADDITIONAL_VALUES), T(OUT), T(LSE), T(GRAD_OUT), T(GRAD_LSE), T(GRAD_QUERY),
        T(GRAD_KEY), T(GRAD_VALUE), T(GRAD_BIAS), T(GRAD_ADDITIONAL_KEYS),
        T(GRAD_ADDITIONAL_VALUES), device_id);
}

natten_status trial_workspace(trial *t, natten_backend backend, size_t *bytes)
{
    t->params.backend = (int32_t)backend;
    if (is_av(t->spec.operation))
        return natten_workspace_size(&t->params, t->spec.operation, T(ATTN), T(VALUE),
                                     NULL, T(ADDITIONAL_VALUES), bytes);
    return natten_workspace_size(&t->params, t->spec.operation, T(QUERY), T(KEY),
                                 is_qk(t->spec.operation) ? NULL : T(VALUE),
                                 T(ADDITIONAL_KEYS), bytes);
}

natten_status trial_run(trial *t, natten_backend backend)
{
    t->params.backend = (int32_t)backend;
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!t->given[role])
            continue;
        if (trial_writes(t->spec.operation, role))
            array_poison(&t->array[role]);
        else
            array_watch(&t->array[role]);
    }
    if (backend == NATTEN_BACKEND_CUDA)
        return device_trial_run(t);
    if (t->seed % 2 == 0)
        return trial_call(t, NULL, 0, NULL);
    size_t bytes;
    natten_status status = trial_workspace(t, backend, &bytes);
    if (status != NATTEN_OK)
        return status;
    void *workspace = malloc(bytes > 0 ? bytes : 1);
    if (workspace == NULL)
        abort();
    memset(workspace, 0xff, bytes);
    status = trial_call(t, workspace, bytes, NULL);
    free(workspace);
    return status;
}

const char *trial_damage(const trial *t)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const array *a = &t->array[role];
        if (t->given[role] &&
            !(trial_writes(t->spec.operation, role) ? array_gaps_are_untouched(a)
                                                    : array_is_unchanged(a)))
            return role_names[role];
    }
    return NULL;
}

const char *trial_text(trial *t)
{
    natten_problem_text_print(&t->spec, t->text);
    size_t used = strlen(t->text);
    snprintf(t->text + used, sizeof t->text - used, " (values %s, trial %llu)",
             profile_names[t->profile], (unsigned long long)t->seed);
    return t->text;
}
