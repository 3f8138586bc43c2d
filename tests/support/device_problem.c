/* SPDX-License-Identifier: MIT
 *
 * Problems on the GPU alone, see device_problem.h. */
#include "support/device_problem.h"

#include "support/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Elements of the block that every tensor repeats: a prime, so that it falls out of
 * step with rows and heads. */
enum { BLOCK = 1048573 };

/* ---- making ---- */

/* Element `i` of the block of a role, standard normal. */
static const double *block_of(natten_role role)
{
    static double *blocks[NATTEN_ROLES];
    if (blocks[role] != NULL)
        return blocks[role];
    double *block = malloc(BLOCK * sizeof *block);
    if (block == NULL)
        abort();
    randoms r = {1000 + role};
    for (int64_t i = 0; i < BLOCK; i++)
        block[i] = random_normal(&r);
    blocks[role] = block;
    return block;
}

/* The first block goes up, then what is there is doubled. */
static void fill(const array *a, natten_role role, uintptr_t address)
{
    const natten_driver *driver = device_driver();
    size_t each = natten_dtype_bytes(a->dtype);
    int64_t count = array_count(a), filled = count < BLOCK ? count : BLOCK;
    void *block = malloc((size_t)filled * each);
    if (block == NULL)
        abort();
    for (int64_t i = 0; i < filled; i++)
        natten_dtype_store(a->dtype, block, i, block_of(role)[i]);
    device_must(driver->upload(address, block, (size_t)filled * each, NULL),
                "cuMemcpyHtoDAsync");
    device_must(driver->stream_wait(NULL), "cuStreamSynchronize");
    free(block);
    while (filled < count) {
        int64_t more = filled < count - filled ? filled : count - filled;
        device_must(driver->copy(address + (size_t)filled * each, address,
                                 (size_t)more * each, NULL),
                    "cuMemcpyDtoDAsync");
        filled += more;
    }
}

static bool place(device_problem *p, natten_role role)
{
    array *a = &p->t.array[role];
    a->dtype = natten_problem_spec_dtype(&p->t.spec, role);
    a->tensor.shape = a->shape;
    a->tensor.ndim = natten_problem_spec_shape(&p->t.spec, role, a->shape);
    a->tensor.device_type = NATTEN_CUDA;
    natten_dtype_to_dlpack(a->dtype, &a->tensor.dtype_code, &a->tensor.dtype_bits);
    a->tensor.dtype_lanes = 1;
    size_t bytes = (size_t)array_count(a) * natten_dtype_bytes(a->dtype);
    if (device_driver()->alloc(&p->address[role], bytes) != NATTEN_DRIVER_OK) {
        p->address[role] = 0;
        return false;
    }
    a->tensor.data = (void *)p->address[role];
    p->t.given[role] = true;
    return true;
}

/* out and lse of a backward problem. */
static void run_forward(device_problem *p)
{
    p->t.spec.operation = NATTEN_FORWARD;
    if (trial_call(&p->t, NULL, 0, NULL) != NATTEN_OK) {
        fprintf(stderr, "device: %s\n", natten_last_error());
        abort();
    }
    p->t.spec.operation = NATTEN_BACKWARD;
}

bool device_problem_make(device_problem *p, const char *text)
{
    memset(p, 0, sizeof *p);
    if (natten_problem_text_parse(text, &p->t.spec) != NATTEN_OK)
        abort();
    p->t.params = natten_problem_spec_params(&p->t.spec, NATTEN_BACKEND_CUDA);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!natten_problem_spec_has(&p->t.spec, role))
            continue;
        if (!place(p, role)) {
            device_problem_free(p);
            return false;
        }
        if (!trial_writes(p->t.spec.operation, role) && role != NATTEN_OUT &&
            role != NATTEN_LSE)
            fill(&p->t.array[role], role, p->address[role]);
    }
    if (p->t.spec.operation == NATTEN_BACKWARD)
        run_forward(p);
    return true;
}

void device_problem_free(device_problem *p)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (p->address[role] != 0)
            device_must(device_driver()->free(p->address[role]), "cuMemFree");
    memset(p, 0, sizeof *p);
}

/* ---- judging a part ---- */

/* Fetch the tokens of `part`, a batch item's, that begin at token begin[] of it. */
static void fetch(const device_problem *p, natten_role role, int64_t batch,
                  const int64_t begin[3], array *part)
{
    const array *whole = &p->t.array[role];
    int rank = p->t.spec.rank;
    size_t each = natten_dtype_bytes(whole->dtype);
    int64_t row = 1, tokens = 1; /* elements of a token; tokens of the part */
    for (int n = rank + 1; n < whole->tensor.ndim; n++)
        row *= whole->shape[n];
    for (int a = 0; a < rank; a++)
        tokens *= part->shape[1 + a];
    int64_t run = part->shape[rank] * row; /* tokens of the last axis lie together */
    tokens /= part->shape[rank];
    for (int64_t i = 0; i < tokens; i++) {
        int64_t from = batch, rest = i, at[3] = {0, 0, 0};
        for (int a = rank - 2; a >= 0; a--) {
            at[a] = rest % part->shape[1 + a];
            rest /= part->shape[1 + a];
        }
        for (int a = 0; a < rank; a++)
            from = from * whole->shape[1 + a] + begin[a] + at[a];
        device_must(
            device_driver()->download(array_at(part, i * run),
                                      p->address[role] + (size_t)(from * row) * each,
                                      (size_t)run * each, NULL),
            "cuMemcpyDtoHAsync");
    }
    device_must(device_driver()->stream_wait(NULL), "cuStreamSynchronize");
}

/* Bias and extra tokens are not cut. */
static bool has_tokens(natten_role role)
{
    return role != NATTEN_BIAS && role != NATTEN_GRAD_BIAS &&
           role != NATTEN_ADDITIONAL_KEYS && role != NATTEN_ADDITIONAL_VALUES &&
           role != NATTEN_GRAD_ADDITIONAL_KEYS && role != NATTEN_GRAD_ADDITIONAL_VALUES;
}

/* The bias, or a batch item's extra tokens. */
static void fetch_whole(const device_problem *p, natten_role role, int64_t batch,
                        array *a)
{
    bool shared = role == NATTEN_BIAS || role == NATTEN_GRAD_BIAS;
    size_t begin = shared ? 0 : (size_t)batch * a->bytes;
    device_must(
        device_driver()->download(a->memory, p->address[role] + begin, a->bytes, NULL),
        "cuMemcpyDtoHAsync");
    device_must(device_driver()->stream_wait(NULL), "cuStreamSynchronize");
}

static bool is_of_queries(natten_role role)
{
    return role != NATTEN_KEY && role != NATTEN_VALUE && role != NATTEN_GRAD_KEY &&
           role != NATTEN_GRAD_VALUE;
}

/* The trial of a part, on the host, with the whole's results in place of its own. */
static void make_part(const device_problem *p, int64_t batch, trial *part)
{
    part->params = natten_problem_spec_params(&part->spec, NATTEN_BACKEND_CPU);
    randoms r = {1};
    trial_allocate(part, ARRAY_COMPACT, &r);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (part->given[role] && !has_tokens(role))
            fetch_whole(p, role, batch, &part->array[role]);
        else if (part->given[role])
            fetch(p, role, batch,
                  is_of_queries(role) ? part->spec.query_begin : part->spec.key_begin,
                  &part->array[role]);
}

static double judge_roles(const trial *part, const natten_role *roles, int count)
{
    judgement j;
    double largest = 0;
    judge_evaluate(part, &j);
    for (int i = 0; i < count; i++) {
        if (!part->given[roles[i]])
            continue;
        double ratio = judge_ratio(&j.of[roles[i]], &part->array[roles[i]], NULL);
        largest = ratio > largest ? ratio : largest;
    }
    judge_free(&j);
    return largest;
}

/* One token of one side of a batch item, and all tokens of the other within reach of
 * it. */
static trial part_at(const device_problem *p, const int64_t at[3], bool of_key)
{
    trial part = {.spec = p->t.spec, .profile = PROFILE_NORMAL};
    part.rounded = device_rounded(&p->t); /* the whole's plan did it */
    natten_problem_spec *s = &part.spec;
    s->batch = 1;
    for (int a = 0; a < s->rank; a++) {
        int64_t reach = s->kernel_size[a] * s->dilation[a];
        int64_t begin = at[a] > reach ? at[a] - reach : 0;
        int64_t end = at[a] + reach + 1;
        end = end < s->grid_length[a] ? end : s->grid_length[a];
        /* At a border windows shift inwards, by up to their length. */
        if (begin == 0 && end < 2 * reach)
            end = 2 * reach < s->grid_length[a] ? 2 * reach : s->grid_length[a];
        if (end == s->grid_length[a] && begin > end - 2 * reach)
            begin = end > 2 * reach ? end - 2 * reach : 0;
        s->query_begin[a] = of_key ? begin : at[a];
        s->queries[a] = of_key ? end - begin : 1;
        s->key_begin[a] = of_key ? at[a] : begin;
        s->keys[a] = of_key ? 1 : end - begin;
    }
    return part;
}

double device_problem_judge_query(const device_problem *p, int64_t batch,
                                  const int64_t at[3])
{
    static const natten_role roles[] = {NATTEN_OUT, NATTEN_LSE, NATTEN_GRAD_QUERY};
    bool backward = p->t.spec.operation == NATTEN_BACKWARD;
    trial part = part_at(p, at, false);
    make_part(p, batch, &part);
    double ratio = judge_roles(&part, backward ? roles + 2 : roles, backward ? 1 : 2);
    trial_free(&part);
    return ratio;
}

double device_problem_judge_key(const device_problem *p, int64_t batch,
                                const int64_t at[3])
{
    static const natten_role roles[] = {NATTEN_GRAD_KEY, NATTEN_GRAD_VALUE};
    trial part = part_at(p, at, true);
    make_part(p, batch, &part);
    double ratio = judge_roles(&part, roles, 2);
    trial_free(&part);
    return ratio;
}
