/* SPDX-License-Identifier: MIT
 *
 * Strided sets of bytes: core/problem/extent.c.  Both questions are held against a list
 * of every byte, over layouts that no array library makes; check_tensor.c asks them of
 * whole tensors. */
#include "problem/extent.h"

#include "support/random.h"
#include "support/tap.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ARENA = 6000 };

static void finish(natten_extent *e)
{
    e->end = e->begin + (uintptr_t)e->bytes;
    for (int n = 0; n < e->dims; n++)
        e->end += (uintptr_t)((e->size[n] - 1) * e->stride[n]);
}

/* Somewhere in the arena; strides of any relation to each other. */
static natten_extent draw(randoms *r)
{
    natten_extent e;
    do {
        e = (natten_extent){.bytes = INT64_C(1) << random_int(r, 1, 3)};
        e.begin = (uintptr_t)(e.bytes * random_int(r, 0, ARENA / 2 / e.bytes));
        e.dims = (int)random_int(r, 0, NATTEN_TENSOR_DIMS);
        for (int n = 0; n < e.dims; n++) {
            e.size[n] = random_int(r, 2, n < 2 ? 9 : 3);
            e.stride[n] = e.bytes * random_int(r, 0, 20) * random_int(r, 1, 8);
        }
        finish(&e);
    } while (e.end > ARENA);
    return e;
}

/* Set the bit in the map of every byte; false if an element finds it set. */
static bool mark(const natten_extent *e, unsigned char *map, int bit)
{
    bool apart = true;
    int64_t at[NATTEN_TENSOR_DIMS] = {0};
    for (;;) {
        unsigned char *element = map + e->begin;
        for (int n = 0; n < e->dims; n++)
            element += at[n] * e->stride[n];
        apart = apart && !(*element & bit);
        for (int64_t byte = 0; byte < e->bytes; byte++)
            element[byte] |= (unsigned char)bit;
        int n = e->dims - 1;
        while (n >= 0 && ++at[n] == e->size[n])
            at[n--] = 0;
        if (n < 0)
            return apart;
    }
}

START_TEST(two_extents_overlap_if_and_only_if_they_share_a_byte)
{
    randoms r = {1};
    int shared = 0, interleaved = 0;
    for (int i = 0; i < 20000; i++) {
        unsigned char map[ARENA] = {0};
        natten_extent a = draw(&r), b = draw(&r);
        mark(&a, map, 1);
        mark(&b, map, 2);
        bool share = memchr(map, 3, ARENA) != NULL;
        ck_assert_msg(natten_extent_overlap(&a, &b) == share, "draw %d", i);
        ck_assert_msg(natten_extent_overlap(&b, &a) == share, "draw %d, turned", i);
        shared += share;
        interleaved += !share && a.begin < b.end && b.begin < a.end;
    }
    ck_assert_int_gt(shared, 1000);
    ck_assert_int_gt(interleaved, 1000);
}
END_TEST

START_TEST(an_extent_folds_if_and_only_if_two_elements_share_a_place)
{
    randoms r = {2};
    int folded = 0, flat = 0;
    for (int i = 0; i < 20000; i++) {
        unsigned char map[ARENA] = {0};
        natten_extent e = draw(&r);
        bool folds = !mark(&e, map, 1);
        ck_assert_msg(natten_extent_folds(&e) == folds, "draw %d", i);
        folded += folds;
        flat += !folds;
    }
    ck_assert_int_gt(folded, 1000);
    ck_assert_int_gt(flat, 1000);
}
END_TEST

START_TEST(even_and_odd_columns_of_an_array_with_an_odd_number_of_columns_are_apart)
{
    for (int64_t columns = 3; columns < 200; columns += 2) {
        int64_t even = (columns + 1) / 2, odd = columns / 2;
        natten_extent a = {.begin = 4096, .bytes = 4, .dims = odd > 1 ? 2 : 1};
        natten_extent b = a;
        a.dims = 2;
        a.size[0] = b.size[0] = 1000000;
        a.stride[0] = b.stride[0] = 4 * columns;
        a.size[1] = even, b.size[1] = odd;
        a.stride[1] = b.stride[1] = 8;
        b.begin += 4;
        finish(&a);
        finish(&b);
        ck_assert(!natten_extent_folds(&a) && !natten_extent_folds(&b));
        ck_assert(!natten_extent_overlap(&a, &b));
        b.begin += 4 * (uintptr_t)columns; /* the next row's columns swap places */
        finish(&b);
        ck_assert(!natten_extent_overlap(&a, &b));
        b.begin += 4;
        finish(&b);
        ck_assert(natten_extent_overlap(&a, &b));
    }
}
END_TEST

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

enum { SIDE = 600 };

static uint64_t places[SIDE * SIDE];

/* Steps that are large primes of a like size leave all 600 values for the two largest
 * terms, and no pair of elements meets. */
START_TEST(a_search_without_end_is_a_quick_yes_though_the_elements_are_apart)
{
    static const int64_t prime[2][2] = {
        {100000000003, 100000000019},
        {100000000057, 100000000063},
    };
    natten_extent e[2];
    for (int i = 0; i < 2; i++) {
        e[i] = (natten_extent){
            .begin = (uintptr_t)(4096 + 2 * i),
            .bytes = 2,
            .dims = 2,
            .size = {SIDE, SIDE},
            .stride = {2 * prime[i][0], 2 * prime[i][1]},
        };
        finish(&e[i]);
    }
    for (int n = 0; n < SIDE * SIDE; n++)
        places[n] = e[0].begin + (uint64_t)(n / SIDE * e[0].stride[0]) +
                    (uint64_t)(n % SIDE * e[0].stride[1]);
    qsort(places, SIDE * SIDE, sizeof *places, by_value);
    for (int n = 0; n < SIDE * SIDE; n++) {
        uint64_t place = e[1].begin + (uint64_t)(n / SIDE * e[1].stride[0]) +
                         (uint64_t)(n % SIDE * e[1].stride[1]);
        ck_assert(!bsearch(&place, places, SIDE * SIDE, sizeof *places, by_value));
    }
    clock_t begin = clock();
    ck_assert(natten_extent_overlap(&e[0], &e[1]));
    ck_assert(natten_extent_overlap(&e[1], &e[0]));
    ck_assert_int_lt((int64_t)(clock() - begin), CLOCKS_PER_SEC);
}
END_TEST

START_TEST(extents_at_the_ends_of_the_address_space_do_not_wrap_around)
{
    int64_t most = INT64_MAX / 8;
    natten_extent a = {
        .begin = 8, .bytes = 8, .dims = 1, .size = {most}, .stride = {8}};
    natten_extent b = a;
    finish(&a);
    finish(&b);
    ck_assert(natten_extent_overlap(&a, &b));
    natten_extent empty = {0};
    ck_assert(!natten_extent_overlap(&a, &empty));
    ck_assert(!natten_extent_overlap(&empty, &a));
    ck_assert(!natten_extent_folds(&a));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("extent");
    TCase *tests = tcase_create("extent");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, two_extents_overlap_if_and_only_if_they_share_a_byte);
    tcase_add_test(tests, an_extent_folds_if_and_only_if_two_elements_share_a_place);
    tcase_add_test(
        tests,
        even_and_odd_columns_of_an_array_with_an_odd_number_of_columns_are_apart);
    tcase_add_test(tests,
                   a_search_without_end_is_a_quick_yes_though_the_elements_are_apart);
    tcase_add_test(tests, extents_at_the_ends_of_the_address_space_do_not_wrap_around);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
