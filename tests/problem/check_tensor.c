/* SPDX-License-Identifier: MIT
 *
 * Memory of tensors: core/problem/tensor.c.  Overlap, of a tensor's elements with each
 * other and of two tensors, is held against a map of every byte. */
#include "problem/tensor.h"

#include "base/status.h"
#include "support/random.h"
#include "support/tap.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA = 4096 };

static _Alignas(64) unsigned char arena[ARENA];

typedef struct drawn {
    natten_tensor tensor;
    int64_t shape[4], strides[4];
} drawn;

/* A tensor of bf16 somewhere in the first half of the arena, that fits the arena. */
static void draw(drawn *d, randoms *r)
{
    int64_t reach;
    do {
        d->tensor = (natten_tensor){
            .data = arena,
            .device_type = NATTEN_CPU,
            .ndim = (int32_t)random_int(r, 1, 4),
            .dtype_code = NATTEN_BFLOAT,
            .dtype_bits = 16,
            .dtype_lanes = 1,
            .shape = d->shape,
            .strides = d->strides,
            .byte_offset = (uint64_t)(2 * random_int(r, 0, ARENA / 8)),
        };
        reach = (int64_t)d->tensor.byte_offset / 2 + 1;
        for (int n = 0; n < d->tensor.ndim; n++) {
            d->shape[n] = random_int(r, 1, 4);
            d->strides[n] = random_int(r, 0, 3);
            d->strides[n] *= random_int(r, 0, 12);
            reach += (d->shape[n] - 1) * d->strides[n];
        }
    } while (reach > ARENA / 2);
}

/* Count each element's bytes in the map; false if an element was there before. */
static bool mark(const drawn *d, unsigned char map[ARENA], int bit)
{
    bool apart = true;
    int64_t at[4] = {0};
    for (;;) {
        int64_t offset = (int64_t)d->tensor.byte_offset;
        for (int n = 0; n < d->tensor.ndim; n++)
            offset += 2 * at[n] * d->strides[n];
        apart = apart && !(map[offset] & bit);
        map[offset] |= (unsigned char)bit;
        map[offset + 1] |= (unsigned char)bit;
        int n = d->tensor.ndim - 1;
        while (n >= 0 && ++at[n] == d->shape[n])
            at[n--] = 0;
        if (n < 0)
            return apart;
    }
}

static natten_extent extent_of(const drawn *d)
{
    natten_extent extent;
    ck_assert_int_eq(
        natten_tensor_check_memory(&d->tensor, "t", NATTEN_BF16, false, &extent),
        NATTEN_OK);
    return extent;
}

START_TEST(layouts_are_accepted_for_results_if_and_only_if_elements_are_apart)
{
    randoms r = {1};
    int accepted = 0, refused = 0;
    for (int i = 0; i < 20000; i++) {
        unsigned char map[ARENA] = {0};
        drawn d;
        natten_extent extent;
        draw(&d, &r);
        bool apart = mark(&d, map, 1);
        bool taken = natten_tensor_check_memory(&d.tensor, "t", NATTEN_BF16, true,
                                                &extent) == NATTEN_OK;
        if (taken != apart)
            ck_abort_msg("apart: %d, taken: %d, draw %d", apart, taken, i);
        accepted += taken;
        refused += !taken;
    }
    ck_assert_int_gt(accepted, 2000);
    ck_assert_int_gt(refused, 2000);
}
END_TEST

START_TEST(tensors_that_share_a_byte_are_found_and_neighbours_are_not)
{
    randoms r = {2};
    int shared = 0, interleaved = 0;
    for (int i = 0; i < 20000; i++) {
        unsigned char map[ARENA] = {0};
        drawn a, b;
        draw(&a, &r);
        draw(&b, &r);
        mark(&a, map, 1);
        mark(&b, map, 2);
        bool share = memchr(map, 3, ARENA) != NULL;
        natten_extent x = extent_of(&a), y = extent_of(&b);
        bool found = natten_extent_overlap(&x, &y);
        ck_assert(found == natten_extent_overlap(&y, &x));
        if (share != found)
            ck_abort_msg("shared: %d, found: %d, draw %d", share, found, i);
        shared += share;
        interleaved += !share && x.begin < y.end && y.begin < x.end;
    }
    ck_assert_int_gt(shared, 500);
    ck_assert_int_gt(interleaved, 500);
}
END_TEST

/* Slices of arrays as frameworks pack them, in elements of two bytes. */
START_TEST(slices_of_one_array_do_not_overlap)
{
    enum { N = 5, H = 3, D = 4 };
    static const int64_t strides[][3] = {
        {3 * H * D, D, 1},     /* [n, 3, h, d] */
        {3 * H * D, 3 * D, 1}, /* [n, h, 3, d] */
        {3 * H * D, 3 * D, 3}, /* [n, h, d, 3] */
    };
    static const int64_t steps[] = {H * D, D, 1};
    for (int layout = 0; layout < 3; layout++) {
        natten_extent slice[3];
        for (int s = 0; s < 3; s++) {
            int64_t shape[3] = {N, H, D}, stride[3];
            memcpy(stride, strides[layout], sizeof stride);
            natten_tensor t = {.data = arena,
                               .ndim = 3,
                               .shape = shape,
                               .strides = stride,
                               .byte_offset = (uint64_t)(2 * s * steps[layout])};
            ck_assert_int_eq(
                natten_tensor_check_memory(&t, "t", NATTEN_FP16, true, &slice[s]),
                NATTEN_OK);
        }
        for (int s = 0; s < 3; s++)
            for (int other = 0; other < 3; other++)
                ck_assert(natten_extent_overlap(&slice[s], &slice[other]) ==
                          (s == other));
    }
}
END_TEST

START_TEST(a_product_that_does_not_fit_is_noticed_behind_a_zero)
{
    int64_t bytes;
    int64_t fits[] = {INT64_MAX / 8, 1};
    int64_t too_many[] = {INT64_MAX / 8 + 1, 1};
    int64_t hidden[] = {0, INT64_MAX, 2};
    int64_t small[] = {3, 0, 5};
    ck_assert(natten_tensor_bytes(fits, 2, NATTEN_FP64, &bytes));
    ck_assert(!natten_tensor_bytes(too_many, 2, NATTEN_FP64, &bytes));
    ck_assert(!natten_tensor_bytes(hidden, 3, NATTEN_FP16, &bytes));
    ck_assert(natten_tensor_bytes(small, 3, NATTEN_FP32, &bytes));
}
END_TEST

START_TEST(compact_strides_are_row_major)
{
    int64_t shape[] = {2, 1, 3, 5};
    natten_tensor t = {.ndim = 4, .shape = shape};
    ck_assert_int_eq(natten_tensor_stride(&t, 0), 15);
    ck_assert_int_eq(natten_tensor_stride(&t, 1), 0);
    ck_assert_int_eq(natten_tensor_stride(&t, 2), 5);
    ck_assert_int_eq(natten_tensor_stride(&t, 3), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tensor");
    TCase *tests = tcase_create("tensor");
    tcase_add_test(tests,
                   layouts_are_accepted_for_results_if_and_only_if_elements_are_apart);
    tcase_add_test(tests, tensors_that_share_a_byte_are_found_and_neighbours_are_not);
    tcase_add_test(tests, slices_of_one_array_do_not_overlap);
    tcase_add_test(tests, a_product_that_does_not_fit_is_noticed_behind_a_zero);
    tcase_add_test(tests, compact_strides_are_row_major);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
