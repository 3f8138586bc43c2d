/* SPDX-License-Identifier: MIT
 *
 * The window rule of geometry/axis.h against a brute force of docs/definition.md,
 * sections 2, 3 and 13, that shares no code with it (support/words.h) and decides for
 * every pair of tokens whether the query sees the key.  Exhaustive for every axis up to
 * MOST tokens; the golden rows and checksums of section 11 guard the brute force. */
#include "geometry/axis.h"

#include "support/tap.h"
#include "support/words.h"

#include <stdio.h>

enum { MOST = 12 };
static const int32_t LONGEST = INT32_MAX;

/* ---- the brute force ---- */

/* Bit j of sees[i]: token i sees token j, on the whole grid. */
static void see_by_words(const natten_axis *axis, uint32_t sees[MOST])
{
    for (int32_t i = 0; i < axis->length; i++) {
        sees[i] = 0;
        for (int32_t j = 0; j < axis->length; j++)
            sees[i] |= (uint32_t)words_sees(axis, i, j) << j;
    }
}

/* ---- every axis up to MOST tokens ---- */

typedef void visit_axis(const natten_axis *axis);

static int64_t each_axis(int32_t most, visit_axis *visit)
{
    int64_t axes = 0;
    natten_axis axis;
    for (axis.length = 1; axis.length <= most; axis.length++)
        for (axis.dilation = 1; axis.dilation <= axis.length; axis.dilation++)
            for (axis.window = 1; axis.window * axis.dilation <= axis.length;
                 axis.window++)
                for (axis.stride = 1; axis.stride <= axis.window; axis.stride++)
                    for (int causal = 0; causal < 2; causal++) {
                        axis.causal = causal;
                        axis.query_begin = axis.key_begin = 0;
                        axis.query_count = axis.key_count = axis.length;
                        visit(&axis);
                        axes++;
                    }
    return axes;
}

static uint32_t token_bits(int32_t begin, int32_t count)
{
    return ((1u << count) - 1) << begin;
}

static void name_axis(const natten_axis *axis, char text[128])
{
    snprintf(text, 128, "L%d k%d s%d d%d%s q%d+%d k%d+%d", axis->length, axis->window,
             axis->stride, axis->dilation, axis->causal ? " causal" : "",
             axis->query_begin, axis->query_count, axis->key_begin, axis->key_count);
}

#define FAIL_AT(axis, ...)                          \
    do {                                            \
        char name_[128], what_[128];                \
        name_axis(axis, name_);                     \
        snprintf(what_, sizeof what_, __VA_ARGS__); \
        ck_abort_msg("%s: %s", name_, what_);       \
    } while (0)

static void check_windows(const natten_axis *axis)
{
    for (int32_t i = 0; i < axis->length; i++) {
        natten_class c = natten_axis_class(axis, i % axis->dilation);
        natten_span w = natten_class_window(&c, i / axis->dilation);
        int64_t g, begin, end;
        words_window(axis, i, &g, &begin, &end);
        if (w.begin != begin || w.end != end)
            FAIL_AT(axis, "query %d: [%d, %d), not [%d, %d)", i, w.begin, w.end,
                    (int)begin, (int)end);
    }
}

START_TEST(windows_are_those_of_the_definition)
{
    ck_assert_int_ge(each_axis(MOST, check_windows), 1000);
}
END_TEST

static void check_order(const natten_axis *axis)
{
    for (int32_t r = 0; r < axis->dilation; r++) {
        natten_class c = natten_axis_class(axis, r);
        natten_span before = {0, 0};
        for (int32_t g = 0; g < c.length; g++) {
            natten_span w = natten_class_window(&c, g);
            if (w.begin > g || w.end <= g)
                FAIL_AT(axis, "position %d does not see itself", g);
            if (w.begin < 0 || w.end > c.length)
                FAIL_AT(axis, "the window of position %d leaves the axis", g);
            if (w.end - w.begin > axis->window ||
                (!axis->causal && w.end - w.begin != axis->window))
                FAIL_AT(axis, "position %d has %d keys", g, w.end - w.begin);
            if (w.begin < before.begin || w.end < before.end)
                FAIL_AT(axis, "the window of position %d goes back", g);
            before = w;
        }
    }
}

START_TEST(spans_contain_their_query_stay_on_the_axis_and_never_go_back)
{
    each_axis(MOST, check_order);
}
END_TEST

static void check_inverse(const natten_axis *axis)
{
    uint32_t sees[MOST];
    see_by_words(axis, sees);
    for (int32_t j = 0; j < axis->length; j++) {
        natten_class c = natten_axis_class(axis, j % axis->dilation);
        natten_span span = natten_class_inverse(&c, j / axis->dilation);
        if (span.begin >= span.end)
            FAIL_AT(axis, "no query sees key %d", j);
        for (int32_t i = 0; i < axis->length; i++) {
            int32_t g = i / axis->dilation;
            bool in_span = i % axis->dilation == j % axis->dilation &&
                           g >= span.begin && g < span.end;
            if (in_span != ((sees[i] >> j & 1) != 0))
                FAIL_AT(axis, "query %d and key %d", i, j);
        }
    }
}

START_TEST(the_queries_of_a_key_are_the_transpose)
{
    each_axis(MOST, check_inverse);
}
END_TEST

/* ---- parts of a grid ---- */

/* Tokens of the class positions in `span`. */
static uint32_t bits_of(const natten_axis *axis, int32_t residue, natten_span span)
{
    uint32_t bits = 0;
    for (int32_t t = span.begin; t < span.end; t++)
        bits |= 1u << (residue + t * axis->dilation);
    return bits;
}

/* The keys of every query in the part, the queries of every key, and where they lie. */
static void check_part(const natten_axis *axis, const uint32_t sees[MOST],
                       const uint32_t seen[MOST])
{
    uint32_t queries = token_bits(axis->query_begin, axis->query_count);
    uint32_t keys = token_bits(axis->key_begin, axis->key_count);
    uint32_t found_queries = 0, found_keys = 0;
    for (int32_t r = 0; r < axis->dilation; r++) {
        natten_class c = natten_axis_class(axis, r);
        natten_span before = {0, 0};
        for (int32_t g = c.queries.begin; g < c.queries.end; g++) {
            int32_t i = r + g * axis->dilation;
            int32_t index = c.query_index + (g - c.queries.begin) * axis->dilation;
            natten_span span = natten_class_keys(&c, g);
            if (bits_of(axis, r, span) != (sees[i] & keys) ||
                index != i - axis->query_begin)
                FAIL_AT(axis, "query %d", i);
            if (g > c.queries.begin &&
                (span.begin < before.begin || span.end < before.end))
                FAIL_AT(axis, "the keys of query %d go back", i);
            before = span;
            found_queries |= 1u << i;
        }
        for (int32_t g = c.keys.begin; g < c.keys.end; g++) {
            int32_t j = r + g * axis->dilation;
            int32_t index = c.key_index + (g - c.keys.begin) * axis->dilation;
            if (bits_of(axis, r, natten_class_queries(&c, g)) != (seen[j] & queries) ||
                index != j - axis->key_begin)
                FAIL_AT(axis, "key %d", j);
            found_keys |= 1u << j;
        }
    }
    if (found_queries != queries || found_keys != keys)
        FAIL_AT(axis, "the classes do not hold the part's tokens");
}

static void check_parts(const natten_axis *whole)
{
    uint32_t sees[MOST], seen[MOST] = {0};
    see_by_words(whole, sees);
    for (int32_t i = 0; i < whole->length; i++)
        for (int32_t j = 0; j < whole->length; j++)
            seen[j] |= (sees[i] >> j & 1) << i;
    natten_axis a = *whole;
    int32_t n = a.length;
    for (a.query_begin = 0; a.query_begin < n; a.query_begin++)
        for (a.query_count = 1; a.query_begin + a.query_count <= n; a.query_count++)
            for (a.key_begin = 0; a.key_begin < n; a.key_begin++)
                for (a.key_count = 1; a.key_begin + a.key_count <= n; a.key_count++)
                    check_part(&a, sees, seen);
}

START_TEST(a_part_sees_what_the_grid_sees_of_it)
{
    each_axis(MOST, check_parts);
}
END_TEST

/* ---- section 11 ---- */

static natten_axis whole_axis(int32_t length, int32_t window, int32_t stride,
                              int32_t dilation, int causal)
{
    return (natten_axis){.length = length,
                         .window = window,
                         .stride = stride,
                         .dilation = dilation,
                         .causal = causal != 0,
                         .query_count = length,
                         .key_count = length};
}

/* A row per query, keys as hexadecimal digits. */
static const struct golden {
    int32_t length, window, stride, dilation;
    int causal;
    const char *rows;
} golden[] = {
    {7, 3, 1, 1, 0, "012 012 123 234 345 456 456"},
    {7, 4, 1, 1, 0, "0123 0123 0123 1234 2345 3456 3456"},
    {7, 2, 1, 1, 0, "01 01 12 23 34 45 56"},
    {7, 3, 2, 1, 0, "012 012 234 234 456 456 456"},
    {7, 3, 3, 1, 0, "012 012 012 345 345 345 456"},
    {8, 4, 3, 1, 0, "0123 0123 0123 2345 2345 2345 4567 4567"},
    {7, 3, 1, 1, 1, "0 01 012 123 234 345 456"},
    {7, 3, 2, 1, 1, "0 01 12 123 34 345 456"},
    {7, 3, 3, 1, 1, "0 01 012 3 34 345 456"},
    {8, 4, 3, 1, 1, "0 01 012 23 234 2345 456 4567"},
    {7, 3, 1, 2, 0, "024 135 024 135 246 135 246"},
    {7, 2, 1, 3, 0, "03 14 25 03 14 25 36"},
    {10, 3, 2, 3, 0, "036 147 258 036 147 258 369 147 258 369"},
    {11, 3, 2, 3, 1, "0 1 2 03 14 25 36 47 258 369 47a"},
};

START_TEST(golden_row)
{
    const struct golden *want = &golden[_i];
    natten_axis axis = whole_axis(want->length, want->window, want->stride,
                                  want->dilation, want->causal);
    char rows[256];
    size_t used = 0;
    for (int32_t i = 0; i < axis.length; i++) {
        natten_class c = natten_axis_class(&axis, i % axis.dilation);
        natten_span span = natten_class_keys(&c, i / axis.dilation);
        if (i > 0)
            rows[used++] = ' ';
        for (int32_t t = span.begin; t < span.end; t++)
            rows[used++] = "0123456789abcdef"[i % axis.dilation + t * axis.dilation];
    }
    rows[used] = '\0';
    ck_assert_str_eq(rows, want->rows);
}
END_TEST

static const struct golden golden_bias[] = {
    {7, 3, 1, 1, 0, "234 123 123 123 123 123 012"},
    {8, 3, 1, 2, 0, "234 234 123 123 123 123 012 012"},
};

START_TEST(golden_bias_row)
{
    const struct golden *want = &golden_bias[_i];
    natten_axis axis = whole_axis(want->length, want->window, want->stride,
                                  want->dilation, want->causal);
    char rows[256];
    size_t used = 0;
    for (int32_t i = 0; i < axis.length; i++) {
        int32_t g = i / axis.dilation;
        natten_class c = natten_axis_class(&axis, i % axis.dilation);
        natten_span span = natten_class_keys(&c, g);
        if (i > 0)
            rows[used++] = ' ';
        for (int32_t t = span.begin; t < span.end; t++)
            rows[used++] = "0123456789"[t - g + axis.window - 1];
    }
    rows[used] = '\0';
    ck_assert_str_eq(rows, want->rows);
}
END_TEST

static const struct checksum {
    int32_t length, window, stride, dilation;
    int causal;
    int64_t pairs, sum;
} checksums[] = {
    {256, 255, 82, 1, 0, 65280, 1078663770},
    {256, 255, 82, 1, 1, 32886, 543883501},
    {128, 63, 31, 1, 1, 5175, 25834971},
    {128, 3, 2, 5, 0, 384, 2164542},
    {128, 8, 7, 5, 1, 632, 3563896},
    {125, 15, 1, 1, 0, 1875, 9832725},
    {19, 8, 1, 2, 0, 152, 16064},
    {67, 12, 8, 5, 0, 804, 959280},
    {80, 7, 4, 11, 1, 320, 565478},
    {25, 16, 16, 1, 0, 400, 71416},
    {13, 3, 2, 3, 1, 27, 1627},
};

START_TEST(checksum_of_visible_pairs)
{
    const struct checksum *want = &checksums[_i];
    natten_axis axis = whole_axis(want->length, want->window, want->stride,
                                  want->dilation, want->causal);
    int64_t pairs = 0, sum = 0, transposed = 0;
    for (int32_t i = 0; i < axis.length; i++) {
        int32_t r = i % axis.dilation;
        natten_class c = natten_axis_class(&axis, r);
        natten_span keys = natten_class_keys(&c, i / axis.dilation);
        natten_span queries = natten_class_queries(&c, i / axis.dilation);
        for (int64_t t = keys.begin; t < keys.end; t++, pairs++)
            sum += (i + 1) * (r + t * axis.dilation + 1);
        for (int64_t t = queries.begin; t < queries.end; t++)
            transposed += (i + 1) * (r + t * axis.dilation + 1);
    }
    ck_assert_int_eq(pairs, want->pairs);
    ck_assert_int_eq(sum, want->sum);
    ck_assert_int_eq(transposed, want->sum);
}
END_TEST

/* ---- the longest axis ---- */

/* Positions worth a look on a class of n: the ends and the middle, and around them. */
static void check_long(const natten_axis *axis)
{
    const int64_t length = axis->length;
    const int64_t middles[] = {0,
                               length / 2,
                               length - 1,
                               axis->window,
                               axis->stride,
                               length - axis->window,
                               length - axis->stride};
    for (size_t m = 0; m < sizeof middles / sizeof middles[0]; m++)
        for (int64_t i = middles[m] - 5; i <= middles[m] + 5; i++) {
            if (i < 0 || i >= length)
                continue;
            int64_t g, begin, end;
            words_window(axis, i, &g, &begin, &end);
            natten_class c = natten_axis_class(axis, (int32_t)(i % axis->dilation));
            natten_span keys = natten_class_keys(&c, (int32_t)g);
            if (keys.begin != begin || keys.end != end)
                FAIL_AT(axis, "query %d", (int)i);
            /* Each end of the window, and its neighbour outside, the other way round.
             */
            const int64_t ends[] = {begin - 1, begin, end - 1, end};
            for (int e = 0; e < 4; e++) {
                int64_t j = ends[e];
                if (j < 0 || j >= c.length)
                    continue;
                natten_span queries = natten_class_queries(&c, (int32_t)j);
                bool is_in = g >= queries.begin && g < queries.end;
                if (is_in != (j >= begin && j < end))
                    FAIL_AT(axis, "query %d and key position %d", (int)i, (int)j);
            }
        }
}

START_TEST(nothing_overflows_on_the_longest_axis)
{
    const int32_t windows[] = {
        1, 2, 3, 1 << 15, LONGEST / 2, LONGEST / 2 + 1, LONGEST - 1, LONGEST};
    const int32_t dilations[] = {1,      2, 3, 1 << 15, LONGEST / 2, LONGEST / 2 + 1,
                                 LONGEST};
    int axes = 0;
    for (int w = 0; w < 8; w++)
        for (int d = 0; d < 7; d++) {
            if ((int64_t)windows[w] * dilations[d] > LONGEST)
                continue;
            const int32_t strides[] = {1, 2, windows[w] / 2, windows[w] - 1,
                                       windows[w]};
            for (int s = 0; s < 5; s++)
                for (int causal = 0; causal < 2; causal++) {
                    if (strides[s] < 1 || strides[s] > windows[w])
                        continue;
                    natten_axis axis = whole_axis(LONGEST, windows[w], strides[s],
                                                  dilations[d], causal);
                    check_long(&axis);
                    axes++;
                }
        }
    ck_assert_int_ge(axes, 100);
}
END_TEST

int main(void)
{
    TCase *exhaustive = tcase_create("exhaustive");
    tcase_add_test(exhaustive, windows_are_those_of_the_definition);
    tcase_add_test(exhaustive,
                   spans_contain_their_query_stay_on_the_axis_and_never_go_back);
    tcase_add_test(exhaustive, the_queries_of_a_key_are_the_transpose);
    tcase_add_test(exhaustive, a_part_sees_what_the_grid_sees_of_it);
    tcase_add_test(exhaustive, nothing_overflows_on_the_longest_axis);
    TCase *section11 = tcase_create("section 11");
    tcase_add_loop_test(section11, golden_row, 0, sizeof golden / sizeof golden[0]);
    tcase_add_loop_test(section11, golden_bias_row, 0,
                        sizeof golden_bias / sizeof golden_bias[0]);
    tcase_add_loop_test(section11, checksum_of_visible_pairs, 0,
                        sizeof checksums / sizeof checksums[0]);
    Suite *suite = suite_create("axis");
    suite_add_tcase(suite, exhaustive);
    suite_add_tcase(suite, section11);
    return tap_run(suite);
}
