/* SPDX-License-Identifier: MIT
 *
 * Shapes at which GPU code breaks: offsets past 2^31 elements and past 4 GiB, grids
 * of more than 65,535 blocks, tens of thousands of batch items, head dims past what a
 * warp holds.  On a real GPU; results of sampled tokens are judged.  scripts/gpu-check
 * runs this.  Prints TAP; exits 77 where there is no GPU; a shape for which the GPU has
 * no room is skipped. */
#include "support/device_problem.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *text;
    bool by_mma; /* it has to be: the kernels for large windows, or of warpgroups */
} shapes[] = {
    {"fwd fp16 b1 h16 d64 2097153 w3", false},
    {"bwd fp16 b1 h16 d64 2097153 w3", false},
    {"fwd bf16 b1 h4 d32:384 1216x1216 w5x5 e16x16", false},
    {"bwd bf16 b1 h4 d32:384 1216x1216 w5x5 e16x16", false},
    {"bwd bf16 b1 h1 d64 573x184x320 w3x3x3 causal100", false},
    {"bwd fp32 b70000 h1 d8 5 w3", false},
    {"bwd fp64 b1 h2 d600:300 9x9 w5x3 m3 bias", false},
    {"fwd bf16 b3 h8:2 d256 31x33 w7x7 s2x3", false},
    {"bwd bf16 b1 h2:1 d96 1000003 w1025", true},
    {"bwd fp16 b1 h16 d64 2097153 w1281", true},
    {"bwd bf16 b70000 h1 d64 5 w3 m1", true},
};

/* The judge takes seconds for each where a window reaches over 160 x 160 tokens. */
enum { SAMPLES = 8 };

/* Both ends and random tokens between them; the batch item likewise. */
static int64_t draw(const natten_problem_spec *s, int n, randoms *r, int64_t at[3])
{
    for (int a = 0; a < s->rank; a++) {
        int64_t last = s->queries[a] - 1;
        at[a] = n == 0 ? 0 : n == 1 ? last : random_int(r, 0, last);
    }
    return n == 0 ? 0 : n == 1 ? s->batch - 1 : random_int(r, 0, s->batch - 1);
}

static bool check(const char *text, bool by_mma, int number)
{
    static device_problem p;
    if (!device_problem_make(&p, text)) {
        printf("ok %d - # SKIP no room on the GPU: %s\n", number, text);
        return true;
    }
    natten_status status = trial_call(&p.t, NULL, 0, NULL);
    double largest = 0;
    if (status != NATTEN_OK)
        printf("# %s\n", natten_last_error());
    randoms r = {7};
    for (int n = 0; n < SAMPLES && status == NATTEN_OK; n++) {
        int64_t at[3], batch = draw(&p.t.spec, n, &r, at);
        double ratio = device_problem_judge_query(&p, batch, at);
        largest = ratio > largest ? ratio : largest;
        ratio = p.t.spec.operation == NATTEN_BACKWARD
                    ? device_problem_judge_key(&p, batch, at)
                    : 0;
        largest = ratio > largest ? ratio : largest;
    }
    bool is_wgmma = device_uses(&p.t, NATTEN_CUDA_SET_WGMMA);
    bool is_mma = is_wgmma || device_uses(&p.t, NATTEN_CUDA_SET_MMA);
    device_problem_free(&p);
    bool passed = status == NATTEN_OK && largest <= 1 && (is_mma || !by_mma);
    printf("%sok %d - %s: largest error %.3f of its bound%s\n", passed ? "" : "not ",
           number, text, largest,
           is_wgmma ? ", by wgmma"
           : is_mma ? ", by mma"
                    : "");
    fflush(stdout);
    return passed;
}

int main(void)
{
    if (device_driver() == NULL) {
        printf("1..0 # SKIP no GPU that this build has kernels for\n");
        return 77;
    }
    int count = sizeof shapes / sizeof shapes[0], failures = 0;
    for (int i = 0; i < count; i++)
        failures += !check(shapes[i].text, shapes[i].by_mma, i + 1);
    printf("1..%d\n", count);
    return failures != 0;
}
