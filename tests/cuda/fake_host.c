/* SPDX-License-Identifier: MIT
 *
 * Host arrays on a GPU, see fake_host.h: core/cuda/cuda_host.c and
 * core/cuda/cuda_slab.c. The reference gives an item of a batch and a head the same
 * bits alone as among others, so slabs are right when all bits are those of one call on
 * the whole. */
#include "cuda/fake_host.h"

#include "base/status.h"
#include "cuda/cuda_host.h"
#include "cuda/fake_scene.h"
#include "machine/gpu.h"
#include "problem/problem.h"
#include "reference/reference.h"

#include <stdlib.h>
#include <string.h>

/* ---- kernels ---- */

/* Which results a kernel writes. */
static const struct {
    const char *kernel;
    natten_role role[2];
} writes[] = {
    {"natten_simt_forward", {NATTEN_OUT, NATTEN_LSE}},
    {"natten_simt_grad_query", {NATTEN_GRAD_QUERY, NATTEN_GRAD_QUERY}},
    {"natten_simt_grad_tokens", {NATTEN_GRAD_KEY, NATTEN_GRAD_VALUE}},
    {"natten_simt_sum_bias", {NATTEN_GRAD_BIAS, NATTEN_GRAD_BIAS}},
    {"natten_simt_sum_extras",
     {NATTEN_GRAD_ADDITIONAL_KEYS, NATTEN_GRAD_ADDITIONAL_VALUES}},
};

static void compute(const char *kernel, const void *parameters)
{
    const natten_cuda_job *job = parameters;
    natten_plan plan = {.task = job->task, .backend = &natten_reference_backend};
    bool any = false;
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!trial_writes(plan.task.operation, role))
            continue;
        bool mine = false;
        for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++)
            mine |= strcmp(writes[i].kernel, kernel) == 0 &&
                    (writes[i].role[0] == role || writes[i].role[1] == role);
        if (!mine)
            plan.task.view[role].data = NULL;
        any |= mine && plan.task.view[role].data != NULL;
    }
    if (!any)
        return; /* it prepares something for others */
    natten_machine machine = {.threads = 1};
    natten_reference_backend.choose(&plan.task, &machine, &plan.choice);
    void *workspace = malloc(plan.choice.workspace_bytes + 1);
    if (workspace == NULL)
        abort();
    natten_reference_backend.run(&plan, workspace, NULL);
    free(workspace);
}

/* ---- calls ---- */

natten_status fake_host_call_in_slabs(trial *t, int64_t bytes)
{
    natten_problem problem = {.operation = t->spec.operation, .params = &t->params};
    natten_task task;
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        problem.tensor[role] = trial_tensor(t, role);
    natten_status_enter("natten_forward_host");
    NATTEN_TRY(natten_problem_check(&problem, &task));
    natten_gpu gpu = natten_gpu_get(0);
    return natten_cuda_host_run(&task, &gpu, 2, bytes);
}

/* ---- bits ---- */

static bool same_as_whole(trial *t, int64_t bytes)
{
    static trial whole;
    randoms r = {t->seed};
    trial_copy(&whole, t, ARRAY_COMPACT, &r);
    bool same = trial_run(&whole, NATTEN_BACKEND_REFERENCE) == NATTEN_OK;
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (t->given[role] && trial_writes(t->spec.operation, role))
            array_poison(&t->array[role]);
        else if (t->given[role])
            array_watch(&t->array[role]);
    t->params.backend = NATTEN_BACKEND_AUTO;
    natten_status status =
        bytes == 0 ? trial_call_host(t, 0) : fake_host_call_in_slabs(t, bytes);
    same = same && status == NATTEN_OK && trial_damage(t) == NULL;
    if (!same)
        printf("# %s, damage: %s\n", natten_last_error(),
               trial_damage(t) ? trial_damage(t) : "none");
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!t->given[role] || !trial_writes(t->spec.operation, role))
            continue;
        int64_t at = array_difference(&t->array[role], &whole.array[role]);
        if (at >= 0)
            printf("# %s[%lld] differs\n", role_name(role), (long long)at);
        same = same && at < 0;
    }
    if (!same)
        printf("# in slabs of %lld bytes: %s\n", (long long)bytes, trial_text(t));
    trial_free(&whole);
    return same;
}

/* Random trials in slabs of many sizes. */
static bool same_bits(int problems)
{
    /* One head; a few heads; a few items; the usual size. */
    static const int64_t sizes[] = {1, 3000, 20000, 0};
    static trial t;
    bool same = true;
    for (int n = 0; n < problems && same; n++) {
        trial_wish wish = TRIAL_ANY;
        wish.operation = n % 2 == 0 ? NATTEN_FORWARD : NATTEN_BACKWARD;
        wish.dtype = n / 2 % NATTEN_DTYPES;
        wish.profile = PROFILE_NORMAL;
        trial_make(&t, &wish, (uint64_t)(11000000 + n));
        same = same_as_whole(&t, sizes[n / 8 % 4]);
        trial_free(&t);
    }
    return same;
}

/* The same of one problem, its tensors in some layouts, in slabs of the usual size. */
static bool same_bits_of(const char *text)
{
    static trial t;
    memset(&t, 0, sizeof t);
    if (natten_problem_text_parse(text, &t.spec) != NATTEN_OK)
        abort();
    t.params = natten_problem_spec_params(&t.spec, NATTEN_BACKEND_AUTO);
    bool same = true;
    for (uint64_t layout = 1; layout <= 12; layout++) {
        randoms r = {layout};
        trial_allocate(&t, ARRAY_ANY, &r);
        trial_fill(&t, &r);
        same = same && same_as_whole(&t, 0);
        trial_free(&t);
    }
    return same;
}

/* ---- scenarios ---- */

bool fake_host_arrays(void)
{
    static trial t;
    fake_state *s = state();
    s->on_launch = compute;
    EXPECT(same_bits(160));
    EXPECT(s->launches > 600 && s->live == 0 && s->handles == 0);
    /* Several chunks of several pieces, which begin and end within rows. */
    EXPECT(same_bits_of("fwd fp32 b1 h1 d7:60 45000 w1"));
    make(&t, "bwd fp32 b2 h4:2 d8 6x7 w3x3 m2 bias dlse", NATTEN_CPU);
    EXPECT(trial_call_host(&t, 1) == NATTEN_ERR_DEVICE);
    EXPECT(says("natten_backward_host: device_id=1 not in [0, 0]"));
    t.params.backend = NATTEN_BACKEND_CPU;
    EXPECT(trial_call_host(&t, 0) == NATTEN_ERR_DEVICE && says("backend=2"));
    make(&t, "fwd fp32 b2 h4:2 d8 6x7 w3x3 m2 bias", NATTEN_CUDA);
    EXPECT(trial_call_host(&t, 0) == NATTEN_ERR_DEVICE);
    EXPECT(says("natten_forward_host: device_type=2 not in [1, 1]"));
    make(&t, "fwd fp32 b0 h4 d8 6x7 w3x3", NATTEN_CPU);
    EXPECT(trial_call_host(&t, 0) == NATTEN_OK);
    return true;
}

/* The driver has 40,000 bytes free. */
bool fake_host_little_memory(void)
{
    static trial t;
    fake_state *s = state();
    s->on_launch = compute;
    make(&t, "fwd fp32 b3 h4 d8 9x11 w3x3", NATTEN_CPU);
    EXPECT(trial_call_host(&t, 0) == NATTEN_OK && s->launches == 12);
    make(&t, "fwd fp32 b3 h2 d32 9x11 w3x3", NATTEN_CPU);
    EXPECT(trial_call_host(&t, 0) == NATTEN_ERR_MEMORY);
    EXPECT(says("has 40000 bytes free") && says("1 of 3 batch items") &&
           says("1 of 2 heads"));
    EXPECT(s->live == 0 && s->handles == 0);
    return true;
}

static int32_t stop_after;

static int32_t stop(void *user)
{
    (void)user;
    return --stop_after < 0;
}

bool fake_host_stopped(void)
{
    static trial t;
    fake_state *s = state();
    make(&t, "fwd fp32 b5 h4 d64 70x70 w3x3", NATTEN_CPU);
    natten_set_cancel_callback(stop, NULL);
    EXPECT(trial_call_host(&t, 0) == NATTEN_ERR_INTERRUPTED);
    EXPECT(s->live == 0 && s->handles == 0);
    natten_set_cancel_callback(NULL, NULL);
    return true;
}
