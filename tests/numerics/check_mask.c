/* SPDX-License-Identifier: MIT
 *
 * The mask, made visible. With query 0 all visible keys weigh the same, and with value
 * the identity row i of out is the mask of query i: not zero exactly where the key is
 * seen. Backward with grad_out the identity shows it once more in grad_value.  No
 * tolerance is involved.  All 1-D problems of up to LONGEST tokens, then random grids
 * of more axes.   */
#include "support/performers.h"
#include "support/tap.h"
#include "support/trial.h"
#include "support/words.h"

#include <string.h>

enum { LONGEST = 16, MOST_TOKENS = 100, GRIDS = 120 };

static performer performers[MOST_PERFORMERS];
static int performer_count;

/* A problem with one head, D 1 and as many value dims as tokens. */
typedef struct xray {
    natten_axis axis[3]; /* rank of them */
    natten_params params;
    int64_t tokens;
    array query, key, value, out, lse, grad_query, grad_key, grad_value;
} xray;

static void make(xray *x, int rank, natten_dtype dtype, const natten_axis *axis)
{
    memset(x, 0, sizeof *x);
    natten_params_init(&x->params, sizeof x->params, rank);
    int64_t shape[ARRAY_RANK] = {1};
    x->tokens = 1;
    for (int a = 0; a < rank; a++) {
        x->axis[a] = axis[a];
        x->params.kernel_size[a] = axis[a].window;
        x->params.stride[a] = axis[a].stride;
        x->params.dilation[a] = axis[a].dilation;
        x->params.is_causal[a] = axis[a].causal;
        shape[1 + a] = axis[a].length;
        x->tokens *= axis[a].length;
    }
    shape[rank + 1] = shape[rank + 2] = 1;
    array_make(&x->query, dtype, rank + 3, shape, ARRAY_COMPACT, NULL);
    array_make(&x->key, dtype, rank + 3, shape, ARRAY_COMPACT, NULL);
    array_make(&x->grad_query, dtype, rank + 3, shape, ARRAY_COMPACT, NULL);
    array_make(&x->grad_key, dtype, rank + 3, shape, ARRAY_COMPACT, NULL);
    array_make(&x->lse, natten_dtype_accumulator(dtype), rank + 2, shape, ARRAY_COMPACT,
               NULL);
    shape[rank + 2] = x->tokens;
    array_make(&x->value, dtype, rank + 3, shape, ARRAY_COMPACT, NULL);
    array_make(&x->out, dtype, rank + 3, shape, ARRAY_COMPACT, NULL);
    array_make(&x->grad_value, dtype, rank + 3, shape, ARRAY_COMPACT, NULL);
    for (int64_t i = 0; i < x->tokens; i++) {
        array_set(&x->query, i, 0);
        array_set(&x->key, i, (double)i + 1);
        for (int64_t j = 0; j < x->tokens; j++)
            array_set(&x->value, i * x->tokens + j, i == j);
    }
}

static void discard(xray *x)
{
    array *all[] = {&x->query, &x->key,        &x->value,    &x->out,
                    &x->lse,   &x->grad_query, &x->grad_key, &x->grad_value};
    for (int i = 0; i < 8; i++)
        array_free(all[i]);
}

static bool sees(const xray *x, int64_t i, int64_t j)
{
    for (int a = x->params.rank - 1; a >= 0; a--) {
        int64_t length = x->axis[a].length;
        if (!words_sees(&x->axis[a], i % length, j % length))
            return false;
        i /= length;
        j /= length;
    }
    return true;
}

static void check(xray *x, const performer *p)
{
    x->params.backend = (int32_t)p->backend;
    array_poison(&x->out);
    array_poison(&x->grad_value);
    natten_status status =
        natten_forward(&x->params, &x->query.tensor, &x->key.tensor, &x->value.tensor,
                       NULL, NULL, NULL, &x->out.tensor, &x->lse.tensor, NULL, 0, NULL);
    ck_assert_msg(status == NATTEN_OK, "%s: %s", p->name, natten_last_error());
    /* The identity is grad_out, too. */
    status = natten_backward(&x->params, &x->query.tensor, &x->key.tensor,
                             &x->value.tensor, NULL, NULL, NULL, &x->out.tensor,
                             &x->lse.tensor, &x->value.tensor, NULL,
                             &x->grad_query.tensor, &x->grad_key.tensor,
                             &x->grad_value.tensor, NULL, NULL, NULL, NULL, 0, NULL);
    ck_assert_msg(status == NATTEN_OK, "%s: %s", p->name, natten_last_error());
    for (int64_t i = 0; i < x->tokens; i++)
        for (int64_t j = 0; j < x->tokens; j++) {
            double forward = array_get(&x->out, i * x->tokens + j);
            double backward = array_get(&x->grad_value, j * x->tokens + i);
            bool wanted = sees(x, i, j);
            if ((forward > 0) == wanted && (backward > 0) == wanted &&
                (wanted || (forward == 0 && backward == 0)))
                continue;
            const natten_axis *a = x->axis;
            ck_abort_msg(
                "%s: query %d and key %d: out %g, grad_value %g: rank %d, "
                "L%d k%d s%d d%d c%d, L%d k%d s%d d%d c%d, L%d k%d s%d d%d c%d",
                p->name, (int)i, (int)j, forward, backward, x->params.rank, a[0].length,
                a[0].window, a[0].stride, a[0].dilation, a[0].causal, a[1].length,
                a[1].window, a[1].stride, a[1].dilation, a[1].causal, a[2].length,
                a[2].window, a[2].stride, a[2].dilation, a[2].causal);
        }
}

static void check_all(int rank, natten_dtype dtype, const natten_axis *axis)
{
    xray x;
    make(&x, rank, dtype, axis);
    for (int p = 0; p < performer_count; p++) {
        performer_enter(&performers[p]);
        check(&x, &performers[p]);
    }
    discard(&x);
}

START_TEST(out_is_the_mask_on_every_short_axis)
{
    int axes = 0;
    natten_axis a = {0};
    for (a.length = 1; a.length <= LONGEST; a.length++)
        for (a.dilation = 1; a.dilation <= a.length; a.dilation++)
            for (a.window = 1; a.window * a.dilation <= a.length; a.window++)
                for (a.stride = 1; a.stride <= a.window; a.stride++)
                    for (int causal = 0; causal < 2; causal++, axes++) {
                        a.causal = causal;
                        check_all(1, (natten_dtype)_i, &a);
                    }
    ck_assert_int_ge(axes, 2552);
    performers_leave();
}
END_TEST

START_TEST(out_is_the_mask_on_random_grids)
{
    randoms r = {(uint64_t)_i + 1};
    for (int n = 0; n < test_effort(GRIDS); n++) {
        natten_axis axis[3];
        int rank = (int)random_int(&r, 2, 3);
        int64_t tokens = 1;
        for (int a = 0; a < rank; a++) {
            natten_axis *x = &axis[a];
            x->length = (int32_t)random_int(&r, 1, rank == 2 ? 13 : 6);
            x->dilation =
                random_once_in(&r, 2) ? 1 : (int32_t)random_int(&r, 1, x->length);
            x->window = (int32_t)random_int(&r, 1, x->length / x->dilation);
            x->stride =
                random_once_in(&r, 2) ? 1 : (int32_t)random_int(&r, 1, x->window);
            x->causal = random_once_in(&r, 2);
            tokens *= x->length;
        }
        if (tokens <= MOST_TOKENS)
            check_all(rank, (natten_dtype)_i, axis);
        else
            n--;
    }
    performers_leave();
}
END_TEST

int main(void)
{
    performer_count = performers_on_host(performers);
    TCase *masks = tcase_create("masks");
    tcase_add_loop_test(masks, out_is_the_mask_on_every_short_axis, NATTEN_FP64,
                        NATTEN_FP32 + 1);
    tcase_add_loop_test(masks, out_is_the_mask_on_random_grids, NATTEN_FP64,
                        NATTEN_DTYPES);
    Suite *suite = suite_create("mask");
    suite_add_tcase(suite, masks);
    return tap_run(suite);
}
