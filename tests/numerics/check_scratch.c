/* SPDX-License-Identifier: MIT
 *
 * How much memory a call takes: per thread at most 1 MiB, 5.25 for backward, and
 * 6 (D + Dv + 2) accumulators per token of a window; for backward as much as a thread
 * takes, or 16 MiB, for slices of sums, one accumulator per query and head, and four
 * bytes per item; never anything that grows with tokens times window.  Asked of
 * natten_workspace_size() for shapes from one token to grids far larger than memory;
 * trial_run() elsewhere holds the library to it. */
#include "plan/plan.h"
#include "problem/problem.h"
#include "problem/problem_text.h"
#include "support/performers.h"
#include "support/tap.h"

#include "support/trial.h"
#include <math.h>

#include <string.h>

enum { PROBLEMS = 2000, THREADS = 5 };
enum { WANTED_PROBLEMS = 400, GRADIENTS = NATTEN_ROLES - NATTEN_GRAD_QUERY };
/* Room to start each thread's share, delta and progress at a multiple of 64 bytes. */
enum { ALIGNMENT = 64 * (THREADS + 3) };

/* Tensors that have a shape and no memory. */
static void shape_alone(array *a, const natten_problem_spec *spec, natten_role role)
{
    memset(a, 0, sizeof *a);
    a->dtype = natten_problem_spec_dtype(spec, role);
    a->tensor = (natten_tensor){
        .device_type = NATTEN_CPU,
        .ndim = natten_problem_spec_shape(spec, role, a->shape),
        .dtype_code = a->dtype == NATTEN_BF16 ? NATTEN_BFLOAT : NATTEN_FLOAT,
        .dtype_bits = (uint8_t)(8 * natten_dtype_bytes(a->dtype)),
        .dtype_lanes = 1,
        .shape = a->shape,
    };
}

/* A problem with axes up to a hundred thousand tokens and windows up to thousands. */
static void enlarge(natten_problem_spec *s, randoms *r)
{
    static const int64_t longest[] = {100000, 2000, 200};
    for (int a = 0; a < s->rank; a++) {
        int64_t length = random_int(r, 1, longest[s->rank - 1]);
        int64_t window =
            random_int(r, 1, random_once_in(r, 4) || length < 64 ? length : 64);
        s->kernel_size[a] = window;
        s->stride[a] = random_int(r, 1, window);
        s->dilation[a] = random_int(r, 1, length / window);
        s->queries[a] = s->keys[a] = s->grid_length[a] = length;
        s->query_begin[a] = s->key_begin[a] = 0;
    }
    s->batch = random_int(r, 1, 8);
    s->heads_kv = random_int(r, 1, 16);
    s->heads = s->heads_kv * random_int(r, 1, 4);
}

static double limit_of(const natten_problem_spec *s, bool gradient)
{
    double window = 1, rows = (double)(s->batch * s->heads);
    for (int a = 0; a < s->rank; a++) {
        window *= (double)s->kernel_size[a];
        rows *= (double)s->queries[a];
    }
    double each = s->dtype == NATTEN_FP64 ? 8 : 4;
    double base = (gradient ? 5.25 : 1) * 1048576.0;
    double share = base + 6 * (double)(s->dim + s->dim_v + 2) * each * window;
    double slices = fmax(share, 16 << 20);
    double sums = 0; /* of gradients of keys that are too narrow to add to */
    if (gradient && (s->dtype == NATTEN_BF16 || s->dtype == NATTEN_FP16)) {
        double unit = 4 * (double)(s->dim + s->dim_v + 30), most = 64 << 20;
        for (int a = 0; a < s->rank; a++)
            unit *= (double)s->keys[a];
        sums = fmin((double)(s->batch * s->heads_kv) * unit, fmax(unit, most));
        sums = fmin(sums, 1 << 30);
    }
    /* An item has a query, or would have in a class that is longer by one token. */
    double progress = 4 * rows * (1 << s->rank);
    return THREADS * share + ALIGNMENT +
           (gradient ? slices + each * rows + progress + sums : 0);
}

static void shape_all(trial *t)
{
    t->params = natten_problem_spec_params(&t->spec, NATTEN_BACKEND_AUTO);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        t->given[role] = natten_problem_spec_has(&t->spec, role);
        if (t->given[role])
            shape_alone(&t->array[role], &t->spec, role);
    }
}

/* Problem n of a test, every other one large. */
static void draw(trial *t, const trial_wish *wish, int n)
{
    trial_draw(t, wish, (uint64_t)(30000000 + n));
    randoms r = {(uint64_t)n};
    if (n % 2 == 1)
        enlarge(&t->spec, &r);
    shape_all(t);
}

START_TEST(scratch_is_bounded)
{
    performer list[MOST_PERFORMERS];
    int count = performers_on_host(list);
    natten_set_num_threads(THREADS);
    for (int n = 0; n < test_effort(PROBLEMS); n++) {
        static trial t;
        draw(&t, &TRIAL_ANY, n);
        for (int p = 0; p < count; p++) {
            performer_enter(&list[p]);
            size_t bytes;
            natten_status status = trial_workspace(&t, list[p].backend, &bytes);
            ck_assert_msg(status == NATTEN_OK, "%s: %s: %s", list[p].name,
                          natten_last_error(), trial_text(&t));
            bool gradient = t.spec.operation == NATTEN_BACKWARD;
            double limit = limit_of(&t.spec, gradient);
            ck_assert_msg((double)bytes <= limit, "%s: %zu bytes, not %.0f: %s",
                          list[p].name, bytes, limit, trial_text(&t));
        }
    }
    performers_leave();
}
END_TEST

/* natten_workspace_size() is not told which gradients are wanted. What it says must do
 * for each choice of them, on one thread as on many. */
static void check_wanted(trial *t, int threads)
{
    static natten_plan all, some;
    natten_problem problem = {.operation = NATTEN_BACKWARD, .params = &t->params};
    for (natten_role role = 0; role < NATTEN_OUT; role++)
        problem.tensor[role] = trial_tensor(t, role);
    natten_task task;
    natten_machine machine = natten_machine_get();
    machine.threads = threads;
    ck_assert_int_eq(natten_problem_sketch(&problem, &task), NATTEN_OK);
    ck_assert_int_eq(natten_plan_make(&task, &machine, &all), NATTEN_OK);
    for (unsigned wanted = 0; wanted < 1u << GRADIENTS; wanted++) {
        natten_task part = task;
        part.sketch = false;
        for (int g = 0; g < GRADIENTS; g++)
            if ((wanted >> g & 1) == 0)
                part.view[NATTEN_GRAD_QUERY + g].data = NULL;
        ck_assert_int_eq(natten_plan_make(&part, &machine, &some), NATTEN_OK);
        ck_assert_msg(some.choice.workspace_bytes <= all.choice.workspace_bytes,
                      "%d threads: gradients 0x%x take %zu bytes, all of them %zu: %s",
                      threads, wanted, some.choice.workspace_bytes,
                      all.choice.workspace_bytes, trial_text(t));
    }
}

START_TEST(whatever_is_wanted_the_size_asked_for_will_do)
{
    static const int threads[] = {1, 2, 3, 17, 32, 64, 128};
    trial_wish wish = TRIAL_ANY;
    wish.operation = NATTEN_BACKWARD;
    for (int n = 0; n < test_effort(WANTED_PROBLEMS); n++) {
        static trial t;
        draw(&t, &wish, n);
        check_wanted(&t, threads[n / 2 % 7]);
    }
}
END_TEST

/* Slices of the extra tokens' gradients take what the scratch leaves of the promise. */
START_TEST(extra_tokens_have_as_much_room_without_a_bias)
{
    static const char *const texts[] = {
        "bwd fp16 b7 h12 d65:1 18x4x10 w4x3x10 s3x2x7 e2x1x1 causal011 m21 scale0",
        "bwd fp32 b5 h24:8 d64 58x25x1 w6x20x1 s6x13x1 e2x1x1 m17",
    };
    performer list[MOST_PERFORMERS];
    int count = performers_on_host(list);
    static trial t;
    for (int p = 0; p < 2 * count; p++) {
        memset(&t, 0, sizeof t);
        performer_enter(&list[p / 2]);
        natten_status status = natten_problem_text_parse(texts[p % 2], &t.spec);
        ck_assert_int_eq(status, NATTEN_OK);
        shape_all(&t);
        check_wanted(&t, 1);
    }
    performers_leave();
}
END_TEST

int main(void)
{
    TCase *memory = tcase_create("memory");
    tcase_add_test(memory, scratch_is_bounded);
    tcase_add_test(memory, whatever_is_wanted_the_size_asked_for_will_do);
    tcase_add_test(memory, extra_tokens_have_as_much_room_without_a_bias);
    Suite *suite = suite_create("scratch");
    suite_add_tcase(suite, memory);
    return tap_run(suite);
}
