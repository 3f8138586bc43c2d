/* SPDX-License-Identifier: MIT
 *
 * An item of a batch has the bits that it has alone, forward and backward, of every
 * family of kernels.  On a real GPU: scripts/gpu-check runs this.  The shapes are some
 * for which a planner that looked at the batch would take other tiles, or another
 * family, for 1 item than for 70.  Prints TAP; exits 77 where there is no GPU. */
#include "problem/roles.h"
#include "support/device.h"

#include <stdio.h>
#include <string.h>

/* A type comes after the operation. */
static const char *const texts[] = {
    "fwd b70 h1 d64 585 w393",
    "fwd b70 h2 d32 23x7 w10x1",
    "fwd b70 h4 d64 10x7 w10x4",
    "fwd b70 h1 d32 29x14 w9x4 bias",
    "fwd b7 h2 d64 12x28 w5x5 m3",
    "fwd b70 h2 d64 23x17 w9x5 e2x1",
    "bwd b70 h4:2 d64 21x23 w7x13 dlse",
    "bwd b7 h1 d64 5x12x19 w3x5x7 causal100",
    "bwd b70 h1 d128 482 w93",
    "bwd b70 h2 d32 9x4x12 w9x3x5",
    "bwd b70 h4:2 d32 13x9 w7x5 dlse",
    "bwd b70 h4 d16 9x26 w5x25 bias",
    "bwd b70 h1 d32 10x12x10 w5x5x5 bias",
    "bwd b70 h4 d32 14x17 w7x7 dlse",
    "bwd b70 h3 d32 21x10 w5x5 e3x2",
    "bwd b70 h2 d32 20x17 w7x5 bias dlse",
    "bwd b7 h2:1 d160 20x21 w13x9 m3",
    "bwd b7 h2 d64 30x31 w17x13 e1x2 causal10 m70 dlse",
};

static const natten_dtype types[] = {NATTEN_BF16, NATTEN_FP16, NATTEN_FP32};

static bool has_batch(natten_role role)
{
    return natten_roles_info(role)->symbol[0] == NATTEN_SIZE_BATCH;
}

/* Results of `alone` are those of item `item` of `all`. */
static bool is_same(trial *all, trial *alone, int64_t item)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        const array *one = &alone->array[role], *many = &all->array[role];
        if (!all->given[role] || !trial_writes(all->spec.operation, role) ||
            !has_batch(role))
            continue;
        int64_t count = array_count(one);
        for (int64_t i = 0; i < count; i++) {
            if (array_same_bits(one, i, many, item * count + i))
                continue;
            printf("# %s[%lld] of item %lld is %.9g, alone %.9g\n", role_name(role),
                   (long long)i, (long long)item, array_get(many, item * count + i),
                   array_get(one, i));
            return false;
        }
    }
    return true;
}

/* Run one item of `all`, which has been run, alone. */
static bool item_is_same(trial *all, int64_t item)
{
    static trial alone;
    randoms r = {1};
    alone = *all;
    memset(alone.array, 0, sizeof alone.array);
    alone.spec.batch = 1;
    trial_allocate(&alone, ARRAY_COMPACT, &r);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        array *to = &alone.array[role];
        int64_t count = alone.given[role] ? array_count(to) : 0;
        int64_t from = has_batch(role) ? item * count : 0;
        for (int64_t i = 0; i < count; i++)
            array_set(to, i, array_get(&all->array[role], from + i));
    }
    bool same = trial_run(&alone, NATTEN_BACKEND_CUDA) == NATTEN_OK &&
                is_same(all, &alone, item);
    trial_free(&alone);
    return same;
}

static bool check(const char *text, profile values)
{
    static trial all;
    randoms r = {11};
    memset(&all, 0, sizeof all);
    if (natten_problem_text_parse(text, &all.spec) != NATTEN_OK)
        return false;
    all.profile = values;
    all.params = natten_problem_spec_params(&all.spec, NATTEN_BACKEND_CUDA);
    trial_allocate(&all, ARRAY_COMPACT, &r);
    trial_fill(&all, &r);
    bool same = trial_run(&all, NATTEN_BACKEND_CUDA) == NATTEN_OK &&
                item_is_same(&all, 0) && item_is_same(&all, all.spec.batch - 1);
    trial_free(&all);
    return same;
}

int main(void)
{
    int number = 0, failures = 0;
    if (device_driver() == NULL) {
        printf("1..0 # SKIP no GPU that this build has kernels for\n");
        return 77;
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            char text[128];
            snprintf(text, sizeof text, "%.3s %s%s", texts[i],
                     natten_dtype_name(types[t]), texts[i] + 3);
            bool same = check(text, PROFILE_NORMAL) && check(text, PROFILE_NONFINITE);
            printf("%sok %d - an item alone has the bits of the batch: %s\n",
                   same ? "" : "not ", ++number, text);
            fflush(stdout);
            failures += !same;
        }
    printf("1..%d\n", number);
    return failures != 0;
}
