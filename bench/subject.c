/* SPDX-License-Identifier: MIT
 *
 * Making and calling what is timed. */
#include "subject.h"

#include "base/status.h"
#include "problem/problem.h"
#include "support/random.h"
#include "support/trial.h"

#include <stdlib.h>
#include <string.h>

/* Tensors start at a page, as large ones from malloc do. */
enum { PAGE = 4096 };

/* Elements are drawn from so many normal ones: making each anew would take longer than
 * timing. */
enum { NORMALS = 1 << 16 };

static double draw(randoms *r)
{
    static double normal[NORMALS];
    static bool made;
    if (!made) {
        randoms source = {0};
        for (int i = 0; i < NORMALS; i++)
            normal[i] = random_normal(&source);
        made = true;
    }
    return normal[random_bits(r) % NORMALS];
}

static int64_t count_of(const subject *s, natten_role role)
{
    int64_t count = 1;
    for (int n = 0; n < s->tensor[role].ndim; n++)
        count *= s->shape[role][n];
    return count;
}

/* Every byte 0xff, which is NaN in every type. */
static void poison(subject *s, natten_role role)
{
    natten_dtype dtype = natten_problem_spec_dtype(&s->spec, role);
    memset(s->tensor[role].data, 0xff,
           (size_t)count_of(s, role) * natten_dtype_bytes(dtype));
}

static natten_status give(subject *s, natten_role role, bool result)
{
    natten_dtype dtype = natten_problem_spec_dtype(&s->spec, role);
    int ndim = natten_problem_spec_shape(&s->spec, role, s->shape[role]);
    natten_tensor *t = &s->tensor[role];
    *t = (natten_tensor){.device_type = NATTEN_CPU,
                         .ndim = ndim,
                         .dtype_code =
                             dtype == NATTEN_BF16 ? NATTEN_BFLOAT : NATTEN_FLOAT,
                         .dtype_bits = (uint8_t)(8 * natten_dtype_bytes(dtype)),
                         .dtype_lanes = 1,
                         .shape = s->shape[role]};
    int64_t count = count_of(s, role);
    if (posix_memalign(&t->data, PAGE, (size_t)count * natten_dtype_bytes(dtype))) {
        t->data = NULL;
        return natten_status_fail(NATTEN_ERR_MEMORY, "no memory for the tensors");
    }
    if (result) {
        poison(s, role);
        return NATTEN_OK;
    }
    randoms r = {.state = (uint64_t)s->spec.seed * 64 + (uint64_t)role};
    for (int64_t i = 0; i < count; i++)
        natten_dtype_store(dtype, t->data, i, draw(&r));
    return NATTEN_OK;
}

/* Which tensors the call has: out and lse always, gradients of what is given. */
static natten_status give_all(subject *s)
{
    bool backward = s->spec.operation == NATTEN_BACKWARD;
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        bool result = role == NATTEN_OUT || role == NATTEN_LSE ||
                      trial_writes(s->spec.operation, role);
        if (natten_problem_spec_has(&s->spec, role))
            NATTEN_TRY(give(s, role, result));
    }
    if (!backward)
        return NATTEN_OK;
    natten_operation operation = s->spec.operation;
    s->spec.operation = NATTEN_FORWARD;
    natten_status status = subject_run(s);
    s->spec.operation = operation;
    return status;
}

/* The task, and its pairs. */
static natten_status describe(subject *s)
{
    natten_problem problem = {.operation = s->spec.operation, .params = &s->params};
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        problem.tensor[role] = subject_tensor(s, role);
    NATTEN_TRY(natten_problem_check(&problem, &s->task));
    s->pairs = natten_task_pairs(&s->task) * s->task.batch * s->task.heads;
    return NATTEN_OK;
}

natten_status subject_make(subject *s, const natten_problem_spec *spec,
                           natten_backend backend)
{
    memset(s, 0, sizeof *s);
    s->spec = *spec;
    natten_status_enter("natten-bench");
    if (spec->operation != NATTEN_FORWARD && spec->operation != NATTEN_BACKWARD)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "only fwd and bwd are timed");
    s->params = natten_problem_spec_params(spec, backend);
    NATTEN_TRY(give_all(s));
    NATTEN_TRY(describe(s));
    NATTEN_TRY(natten_workspace_size(
        &s->params, (int32_t)spec->operation, subject_tensor(s, NATTEN_QUERY),
        subject_tensor(s, NATTEN_KEY), subject_tensor(s, NATTEN_VALUE),
        subject_tensor(s, NATTEN_ADDITIONAL_KEYS), &s->workspace_bytes));
    if (s->workspace_bytes &&
        posix_memalign(&s->workspace, PAGE, s->workspace_bytes) != 0) {
        s->workspace = NULL;
        return natten_status_fail(NATTEN_ERR_MEMORY, "no memory for the workspace");
    }
    return NATTEN_OK;
}

void subject_forget(subject *s)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (s->tensor[role].data && trial_writes(s->spec.operation, role))
            poison(s, role);
}

void subject_free(subject *s)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        free(s->tensor[role].data);
    free(s->workspace);
}

natten_status subject_run(subject *s)
{
#define GIVEN(role) subject_tensor(s, NATTEN_##role)
    if (s->spec.operation == NATTEN_FORWARD)
        return natten_forward(&s->params, GIVEN(QUERY), GIVEN(KEY), GIVEN(VALUE),
                              GIVEN(BIAS), GIVEN(ADDITIONAL_KEYS),
                              GIVEN(ADDITIONAL_VALUES), GIVEN(OUT), GIVEN(LSE),
                              s->workspace, s->workspace_bytes, NULL);
    return natten_backward(
        &s->params, GIVEN(QUERY), GIVEN(KEY), GIVEN(VALUE), GIVEN(BIAS),
        GIVEN(ADDITIONAL_KEYS), GIVEN(ADDITIONAL_VALUES), GIVEN(OUT), GIVEN(LSE),
        GIVEN(GRAD_OUT), GIVEN(GRAD_LSE), GIVEN(GRAD_QUERY), GIVEN(GRAD_KEY),
        GIVEN(GRAD_VALUE), GIVEN(GRAD_BIAS), GIVEN(GRAD_ADDITIONAL_KEYS),
        GIVEN(GRAD_ADDITIONAL_VALUES), s->workspace, s->workspace_bytes, NULL);
#undef GIVEN
}

double subject_flop(const subject *s)
{
    double d = (double)s->spec.dim, dv = (double)s->spec.dim_v, p = (double)s->pairs;
    return s->spec.operation == NATTEN_FORWARD ? 2 * p * (d + dv)
                                               : 2 * p * (3 * d + 2 * dv);
}
