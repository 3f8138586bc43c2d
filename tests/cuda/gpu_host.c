/* SPDX-License-Identifier: MIT
 *
 * Arrays of the host on a real GPU, over random problems of every type and layout: the
 * bits of tensors that are there, or, where those are for tiles on tensor cores,
 * results within their bounds; and how fast a large call is. scripts/gpu-check runs
 * this.  Prints TAP; exits 77 where there is no GPU. */
#include "support/device.h"
#include "support/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- results ---- */

static bool same_results(trial *t)
{
    static trial host;
    randoms r = {t->seed};
    trial_copy(&host, t, ARRAY_ANY, &r);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (host.given[role] && trial_writes(host.spec.operation, role))
            array_poison(&host.array[role]);
    bool same = trial_run(t, NATTEN_BACKEND_CUDA) == NATTEN_OK &&
                trial_call_host(&host, 0) == NATTEN_OK && trial_damage(t) == NULL;
    if (!same)
        printf("# %s: %s\n", natten_last_error(), trial_text(t));
    judgement j;
    judge_evaluate(&host, &j);
    bool exact =
        natten_dtype_bytes(t->spec.dtype) > 2 && !device_uses(t, NATTEN_CUDA_SET_MMA);
    for (natten_role role = 0; role < NATTEN_ROLES && same; role++) {
        if (!t->given[role] || !trial_writes(t->spec.operation, role))
            continue;
        int64_t at = array_difference(&t->array[role], &host.array[role]);
        if (!exact && judge_ratio(&j.of[role], &host.array[role], &at) <= 1)
            at = -1;
        same = at < 0;
        if (!same)
            printf("# %s[%lld] differs: %s\n", role_name(role), (long long)at,
                   trial_text(t));
    }
    judge_free(&j);
    trial_free(&host);
    return same;
}

static bool check_results(natten_dtype dtype, int problems)
{
    static trial t;
    bool same = true;
    for (int n = 0; n < problems && same; n++) {
        trial_wish wish = TRIAL_ANY;
        wish.operation = n % 2 == 0 ? NATTEN_FORWARD : NATTEN_BACKWARD;
        wish.dtype = (int)dtype;
        trial_make(&t, &wish, (uint64_t)(12000000 + n));
        same = same_results(&t);
        trial_free(&t);
    }
    return same;
}

/* ---- speed ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Time the problem of a text, whose tensors go to the GPU and come back. */
static bool report_speed(const char *text)
{
    static trial t;
    memset(&t, 0, sizeof t);
    if (natten_problem_text_parse(text, &t.spec) != NATTEN_OK)
        abort();
    t.params = natten_problem_spec_params(&t.spec, NATTEN_BACKEND_AUTO);
    randoms r = {1};
    double bytes = 0, best = 1e30;
    trial_allocate(&t, ARRAY_COMPACT, &r);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (t.given[role]) {
            memset(t.array[role].memory, 0, t.array[role].bytes);
            bytes += (double)t.array[role].bytes;
        }
    natten_status status = NATTEN_OK;
    for (int repeat = 0; repeat < 5 && status == NATTEN_OK; repeat++) {
        double begin = seconds();
        status = trial_call_host(&t, 0);
        double took = seconds() - begin;
        best = took < best ? took : best;
    }
    printf("# %s: %.1f ms, %.2f GB there and back, %.1f GB/s\n", text, 1e3 * best,
           1e-9 * bytes, 1e-9 * bytes / best);
    trial_free(&t);
    return status == NATTEN_OK;
}

int main(void)
{
    if (device_driver() == NULL) {
        printf("1..0 # SKIP no GPU that this build has kernels for\n");
        return 77;
    }
    int failures = 0;
    for (natten_dtype dtype = 0; dtype < NATTEN_DTYPES; dtype++) {
        bool same = check_results(dtype, 100);
        printf("%sok %d - %s arrays of the host are as right as the GPU's tensors\n",
               same ? "" : "not ", (int)dtype + 1, natten_dtype_name(dtype));
        fflush(stdout);
        failures += !same;
    }
    bool ran = report_speed("fwd bf16 b16 h8 d64 256x256 w7x7") &&
               report_speed("bwd bf16 b16 h8 d64 256x256 w7x7") &&
               report_speed("fwd fp32 b1 h1 d4 8 w3");
    printf("%sok %d - large and small calls\n1..%d\n", ran ? "" : "not ",
           NATTEN_DTYPES + 1, NATTEN_DTYPES + 1);
    return failures != 0 || !ran;
}
