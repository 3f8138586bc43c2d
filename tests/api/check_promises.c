/* SPDX-License-Identifier: MIT
 *
 * Promises of natten.h that no single function keeps: arguments are checked in the
 * order that it names, and inputs are not written, not even for a moment. */
#include "api/call.h"
#include "support/performers.h"
#include "support/tap.h"
#include "support/trial.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the order of the checks ---- */

/* What can be wrong with a call, one kind a step of the order; two axes. */
static void spoil_params(call *c)
{
    c->params.flags = UINT64_C(1) << 40;
}
static void spoil_presence(call *c)
{
    c->given[NATTEN_VALUE] = false;
}
static void spoil_types(call *c)
{
    c->tensor[NATTEN_KEY].dtype_bits = 64;
}
static void spoil_shapes(call *c)
{
    c->shape[NATTEN_KEY][4]++;
}
static void spoil_grid_length(call *c)
{
    c->params.grid_length[0] = 3;
}
static void spoil_query_begin(call *c)
{
    c->params.query_begin[0] = -1;
}
static void spoil_key_begin(call *c)
{
    c->params.key_begin[0] = -1;
}
static void spoil_kernel_size(call *c)
{
    c->params.kernel_size[0] = 0;
}
static void spoil_dilation(call *c)
{
    c->params.dilation[0] = 0;
}
static void spoil_stride(call *c)
{
    c->params.stride[0] = 0;
}
static void spoil_is_causal(call *c)
{
    c->params.is_causal[0] = 2;
}
static void spoil_second_axis(call *c)
{
    c->params.grid_length[1] = 3;
}
static void spoil_bias(call *c)
{
    c->shape[NATTEN_BIAS][1]++;
}
static void spoil_scale(call *c)
{
    c->params.has_scale = 1;
    c->params.scale = HUGE_VAL;
}
static void spoil_strides(call *c)
{
    c->strides[NATTEN_QUERY][0] = -1;
}
static void spoil_overlap(call *c)
{
    c->tensor[NATTEN_LSE].data = c->tensor[NATTEN_OUT].data;
}
static void spoil_workspace(call *c)
{
    static char small;
    c->params.backend = NATTEN_BACKEND_CPU;
    c->workspace = &small;
    c->workspace_bytes = 1;
}

static const struct {
    void (*spoil)(call *c);
    const char *said;
} order[] = {
    {spoil_params, "flags"},
    {spoil_presence, "value is NULL"},
    {spoil_types, "key is fp64"},
    {spoil_shapes, "key\\[head_dim\\]"},
    {spoil_grid_length, "grid_length\\[height\\]"},
    {spoil_query_begin, "query_begin\\[height\\]"},
    {spoil_key_begin, "key_begin\\[height\\]"},
    {spoil_kernel_size, "kernel_size\\[height\\]"},
    {spoil_dilation, "dilation\\[height\\]"},
    {spoil_stride, "stride\\[height\\]"},
    {spoil_is_causal, "is_causal\\[height\\]"},
    {spoil_second_axis, "grid_length\\[width\\]"},
    {spoil_bias, "bias\\["},
    {spoil_scale, "scale"},
    {spoil_strides, "query.*stride"},
    {spoil_overlap, "overlaps"},
    {spoil_workspace, "workspace_bytes=1"},
};

enum { STEPS = sizeof order / sizeof order[0] };

START_TEST(the_first_thing_that_is_wrong_is_named)
{
    for (int later = _i; later < STEPS; later++) {
        call c;
        call_make(&c, "fwd fp32 b2 h4:2 d3:5 14x9 w3x5 m2 bias");
        order[later].spoil(&c);
        order[_i].spoil(&c);
        ck_assert_int_ne(call_run(&c), NATTEN_OK);
        ck_assert_msg(call_said(order[_i].said), "%s, with step %d wrong too",
                      natten_last_error(), later);
        ck_assert(call_is_untouched(&c, true));
        call_free(&c);
    }
}
END_TEST

/* ---- inputs in memory that can't be written ---- */

enum { TRIALS = 60 };

/* Move an array's bytes to pages of their own, read-only; returns the pages. */
static void *lock(array *a, size_t *bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *bytes = (a->bytes / page + 1) * page;
    unsigned char *pages =
        mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(pages != MAP_FAILED);
    memcpy(pages, a->memory, a->bytes);
    ck_assert_int_eq(mprotect(pages, *bytes, PROT_READ), 0);
    a->tensor.data = pages + ((unsigned char *)a->tensor.data - a->memory);
    return pages;
}

START_TEST(inputs_may_be_read_only_memory)
{
    performer list[MOST_PERFORMERS];
    int count = performers_on_host(list);
    for (int n = 0; n < TRIALS; n++) {
        static trial t;
        void *pages[NATTEN_ROLES] = {NULL};
        size_t bytes[NATTEN_ROLES];
        const performer *p = &list[n % count];
        trial_wish wish = TRIAL_ANY;
        wish.operation = n % TRIAL_OPERATIONS;
        trial_make(&t, &wish, (uint64_t)(13000000 + n));
        performer_enter(p);
        for (natten_role role = 0; role < NATTEN_ROLES; role++)
            if (t.given[role] && !trial_writes(t.spec.operation, role))
                pages[role] = lock(&t.array[role], &bytes[role]);
        /* Writing would end this process. */
        t.params.backend = (int32_t)p->backend;
        ck_assert_msg(trial_call(&t, NULL, 0, NULL) == NATTEN_OK, "%s",
                      natten_last_error());
        for (natten_role role = 0; role < NATTEN_ROLES; role++)
            if (pages[role] != NULL)
                munmap(pages[role], bytes[role]);
        trial_free(&t);
    }
    performers_leave();
}
END_TEST

int main(void)
{
    TCase *promises = tcase_create("promises");
    tcase_add_loop_test(promises, the_first_thing_that_is_wrong_is_named, 0, STEPS);
    tcase_add_test(promises, inputs_may_be_read_only_memory);
    Suite *suite = suite_create("promises");
    suite_add_tcase(suite, promises);
    return tap_run(suite);
}
