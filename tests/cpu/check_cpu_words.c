/* SPDX-License-Identifier: MIT
 *
 * The vector words (core/cpu/simd/scalar.h, core/cpu/simd/sse2.h, core/cpu/simd/avx2.h,
 * core/cpu/simd/avx512.h, core/cpu/simd/neon.h, core/cpu/simd/narrow.h), exp and log of
 * core/cpu/cpu_math.h, and the way in and out of core/cpu/cpu_pack.h, through the
 * probes of core/cpu/cpu_variant.h (core/cpu/cpu_single.c and core/cpu/cpu_double.c),
 * for each variant that this machine runs. */
#include "base/dtype.h"
#include "cpu/cpu_pass.h"
#include "support/random.h"
#include "support/tap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LANES = 16 };

/* A variant and one of its element types. */
typedef struct page {
    const natten_cpu_kernels *k;
    const natten_cpu_probes *probes;
    natten_dtype real;
    const char *name;
    double u; /* unit roundoff */
} page;

static page pages[2 * NATTEN_VARIANTS];
static int page_count;

static void list_pages(void)
{
    natten_machine machine = natten_machine_get();
    for (int v = 0; v < NATTEN_VARIANTS; v++)
        for (int wide = 0; wide < 2; wide++) {
            natten_dtype real = wide ? NATTEN_FP64 : NATTEN_FP32;
            const natten_cpu_kernels *k =
                natten_cpu_pass_kernels((natten_variant)v, real);
            if (!k || !machine.has_variant[v])
                continue;
            pages[page_count++] = (page){k, k->probes, real,
                                         natten_machine_variant_name((natten_variant)v),
                                         wide ? 0x1p-53 : 0x1p-24};
        }
}

/* As many reals as a register has, of either type. */
typedef struct lanes {
    _Alignas(64) char bytes[MOST_LANES * sizeof(double)];
} lanes;

static double get(const page *p, const lanes *x, int i)
{
    return natten_dtype_load(p->real, x->bytes, i);
}

static lanes filled(const page *p, double value)
{
    lanes x;
    for (int i = 0; i < p->k->lanes; i++)
        natten_dtype_store(p->real, x.bytes, i, value);
    return x;
}

static lanes drawn(const page *p, randoms *r, double low, double high)
{
    lanes x;
    for (int i = 0; i < p->k->lanes; i++)
        natten_dtype_store(p->real, x.bytes, i, low + (high - low) * random_unit(r));
    return x;
}

/* ---- exp and log
 * --------------------------------------------------------------------- */

static double exp_of(const page *p, double x)
{
    lanes in = filled(p, x), out;
    p->probes->exp(in.bytes, out.bytes);
    return get(p, &out, p->k->lanes - 1);
}

START_TEST(exp_is_within_four_roundoffs)
{
    for (int n = 0; n < page_count; n++) {
        const page *p = &pages[n];
        double low = p->real == NATTEN_FP64 ? -708.3 : -87.3;
        randoms r = {1};
        for (int round = 0; round < 20000; round++) {
            double scale = round % 2 ? 1 : 0.01;
            lanes x = drawn(p, &r, low * scale, -low * scale), y;
            p->probes->exp(x.bytes, y.bytes);
            for (int i = 0; i < p->k->lanes; i++) {
                long double want = expl((long double)get(p, &x, i));
                long double error = fabsl((long double)get(p, &y, i) / want - 1);
                ck_assert_msg(error <= 4 * (long double)p->u,
                              "%s, %zu bytes: exp(%.17g) is off by %.3Lg roundoffs",
                              p->name, p->k->real_bytes, get(p, &x, i),
                              error / (long double)p->u);
            }
        }
    }
}
END_TEST

START_TEST(exp_is_right_at_its_ends)
{
    for (int n = 0; n < page_count; n++) {
        const page *p = &pages[n];
        ck_assert(exp_of(p, 0) == 1);
        ck_assert(exp_of(p, -HUGE_VAL) == 0);
        ck_assert(exp_of(p, -1e30) == 0);
        ck_assert(exp_of(p, 1e30) == HUGE_VAL);
        ck_assert(exp_of(p, HUGE_VAL) == HUGE_VAL);
        ck_assert(isnan(exp_of(p, NAN)));
        /* Below the smallest normal number anything from 0 to twice the value will do.
         */
        double tiny = p->real == NATTEN_FP64 ? -708.6 : -87.6;
        ck_assert(exp_of(p, tiny) >= 0 && exp_of(p, tiny) < 2 * exp(tiny));
    }
}
END_TEST

START_TEST(log_is_within_four_roundoffs)
{
    for (int n = 0; n < page_count; n++) {
        const page *p = &pages[n];
        randoms r = {2};
        for (int round = 0; round < 20000; round++) {
            lanes x = drawn(p, &r, 1, round % 2 ? 2 : exp(25 * random_unit(&r))), y;
            p->probes->log(x.bytes, y.bytes);
            for (int i = 0; i < p->k->lanes; i++) {
                long double want = logl((long double)get(p, &x, i));
                long double error = fabsl((long double)get(p, &y, i) - want);
                ck_assert_msg(error <= 4 * (long double)p->u * want,
                              "%s, %zu bytes: log(%.17g) is off by %.3Lg roundoffs",
                              p->name, p->k->real_bytes, get(p, &x, i),
                              error / want / (long double)p->u);
            }
        }
        lanes nan = filled(p, NAN), one = filled(p, 1), y;
        p->probes->log(nan.bytes, y.bytes);
        ck_assert(isnan(get(p, &y, 0)));
        p->probes->log(one.bytes, y.bytes);
        ck_assert(get(p, &y, 0) == 0);
    }
}
END_TEST

/* ---- lanes
 * --------------------------------------------------------------------------- */

START_TEST(pick_moves_lanes_and_sum_adds_all)
{
    for (int n = 0; n < page_count; n++) {
        const page *p = &pages[n];
        randoms r = {3};
        for (int round = 0; round < 200; round++) {
            lanes x = drawn(p, &r, -1, 1), y;
            int lane[MOST_LANES];
            double sum = 0;
            for (int i = 0; i < p->k->lanes; i++) {
                lane[i] = (int)random_int(&r, 0, p->k->lanes - 1);
                sum += get(p, &x, i);
            }
            p->probes->pick(x.bytes, lane, y.bytes);
            for (int i = 0; i < p->k->lanes; i++)
                ck_assert(get(p, &y, i) == get(p, &x, lane[i]));
            p->probes->sum(x.bytes, y.bytes);
            ck_assert(fabs(get(p, &y, 0) - sum) <= 16 * p->k->lanes * p->u);
        }
    }
}
END_TEST

START_TEST(masks_stop_nan_and_infinity)
{
    static const double special[] = {0, -1, 1, NAN, HUGE_VAL, -HUGE_VAL, 1e-30};
    enum { SPECIAL = sizeof special / sizeof *special };
    for (int n = 0; n < page_count; n++) {
        const page *p = &pages[n];
        for (int i = 0; i < SPECIAL * SPECIAL * SPECIAL; i++) {
            double xv = special[i % SPECIAL], yv = special[i / SPECIAL % SPECIAL];
            lanes x = filled(p, xv), y = filled(p, yv), b = filled(p, 7), z;
            lanes a = filled(p, special[i / SPECIAL / SPECIAL]);
            bool more = get(p, &x, 0) > get(p, &y, 0); /* of NaN: no */
            double want = get(p, &a, 0);
            p->probes->keep_more(x.bytes, y.bytes, a.bytes, z.bytes);
            double got = get(p, &z, 0);
            ck_assert(more ? got == want || (isnan(got) && isnan(want)) : got == 0);
            p->probes->if_more(x.bytes, y.bytes, a.bytes, b.bytes, z.bytes);
            got = get(p, &z, 0);
            ck_assert(more ? got == want || (isnan(got) && isnan(want)) : got == 7);
        }
    }
}
END_TEST

/* ---- in and out
 * ---------------------------------------------------------------------- */

enum { MOST_TOKENS = 40, MOST_DIM = 40, PITCH = 64 };

/* Storage types that compute in a page's reals. */
static bool takes(const page *p, natten_dtype dtype)
{
    return natten_dtype_accumulator(dtype) == p->real;
}

/* Random bits; all values are finite or not, as it comes. */
static void fill_bits(char *memory, size_t bytes, randoms *r)
{
    for (size_t i = 0; i < bytes; i++)
        memory[i] = (char)random_bits(r);
}

static bool same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static void check_pack(const page *p, natten_dtype dtype, randoms *r)
{
    static char from[MOST_TOKENS * MOST_DIM * 3 * sizeof(double)];
    static _Alignas(64) char to[MOST_DIM * PITCH * sizeof(double)];
    static _Alignas(64) char rows[MOST_TOKENS * MOST_DIM * sizeof(double)];
    int64_t bytes = (int64_t)natten_dtype_bytes(dtype);
    natten_cpu_tokens t = {.data = from, .dtype = dtype};
    t.n = (int)random_int(r, 1, MOST_TOKENS);
    t.dim = random_int(r, 1, MOST_DIM);
    t.item = random_int(r, 1, 2);
    t.step = random_int(r, t.dim * t.item, MOST_DIM * 3) * bytes;
    fill_bits(from, sizeof from, r);
    memset(to, 0x55, sizeof to);
    memset(rows, 0x55, sizeof rows);
    p->probes->pack(to, PITCH, random_once_in(r, 2) ? rows : NULL, &t, 1);
    p->probes->pack(NULL, 0, rows, &t, 1);
    for (int x = 0; x < t.n; x++)
        for (int64_t d = 0; d < t.dim; d++) {
            double want = natten_dtype_load(dtype, from + x * t.step, d * t.item);
            ck_assert(same(natten_dtype_load(p->real, rows, x * t.dim + d), want));
        }
    int padded = (t.n + p->k->lanes - 1) / p->k->lanes * p->k->lanes;
    for (int x = 0; x < padded; x++)
        for (int64_t d = 0; d < t.dim; d++) {
            int token = x < t.n ? x : t.n - 1;
            double want = natten_dtype_load(dtype, from + token * t.step, d * t.item);
            double got = natten_dtype_load(p->real, to, d * PITCH + x);
            ck_assert_msg(
                same(got, want), "%s %s: token %d of %d, %d of %d: %g, not %g", p->name,
                natten_dtype_name(dtype), x, t.n, (int)d, (int)t.dim, got, want);
        }
}

START_TEST(pack_makes_columns_and_rows_of_tokens)
{
    for (int n = 0; n < page_count; n++) {
        randoms r = {4};
        for (int round = 0; round < 400; round++)
            for (int dtype = 0; dtype < NATTEN_DTYPES; dtype++)
                if (takes(&pages[n], (natten_dtype)dtype))
                    check_pack(&pages[n], (natten_dtype)dtype, &r);
    }
}
END_TEST

static void check_unpack(const page *p, natten_dtype dtype, randoms *r)
{
    static _Alignas(
        64) char from[(MOST_DIM + MOST_LANES) * MOST_LANES * sizeof(double)];
    static char to[MOST_LANES * MOST_DIM * 3 * sizeof(double)], old[sizeof to];
    int64_t bytes = (int64_t)natten_dtype_bytes(dtype);
    natten_cpu_tokens t = {.dtype = dtype};
    t.n = (int)random_int(r, 1, p->k->lanes);
    t.dim = random_int(r, 1, MOST_DIM);
    t.item = random_int(r, 1, 2);
    t.step = random_int(r, t.dim * t.item, MOST_DIM * 3) * bytes;
    fill_bits(from, sizeof from, r);
    fill_bits(to, sizeof to, r);
    memcpy(old, to, sizeof to);
    int64_t padded = natten_cpu_padded(t.dim, p->k->lanes);
    p->k->unpack(&t, to, from);
    /* Written elements are what base/dtype.c makes of them (0 for -0), others
     * untouched. */
    for (int x = 0; x < t.n; x++)
        for (int64_t d = 0; d < t.dim; d++) {
            double value = natten_dtype_load(p->real, from, x * padded + d) + 0.0;
            char *at = to + x * t.step, *before = old + x * t.step;
            char want[sizeof(double)];
            natten_dtype_store(dtype, want, 0, value);
            if (isnan(value))
                ck_assert(isnan(natten_dtype_load(dtype, at, d * t.item)));
            else
                ck_assert_msg(memcmp(at + d * t.item * bytes, want, (size_t)bytes) == 0,
                              "%s %s: %a became %a", p->name, natten_dtype_name(dtype),
                              value, natten_dtype_load(dtype, at, d * t.item));
            memcpy(at + d * t.item * bytes, before + d * t.item * bytes, (size_t)bytes);
        }
    ck_assert(memcmp(to, old, sizeof to) == 0);
}

START_TEST(unpack_rounds_as_base_does_and_writes_nothing_else)
{
    for (int n = 0; n < page_count; n++) {
        randoms r = {5};
        for (int round = 0; round < 400; round++)
            for (int dtype = 0; dtype < NATTEN_DTYPES; dtype++)
                if (takes(&pages[n], (natten_dtype)dtype))
                    check_unpack(&pages[n], (natten_dtype)dtype, &r);
    }
}
END_TEST

/* Each 16-bit pattern widened, and narrowed again: the same bits, but for -0 and NaN.
 */
START_TEST(sixteen_bit_patterns_survive_the_way_in_and_out)
{
    static uint16_t in[65536], out[65536];
    static _Alignas(64) float rows[65536];
    for (int i = 0; i < 65536; i++)
        in[i] = (uint16_t)i;
    for (int n = 0; n < page_count; n++)
        for (natten_dtype dtype = NATTEN_BF16; dtype <= NATTEN_FP16; dtype++) {
            const page *p = &pages[n];
            int wide = p->k->lanes;
            if (!takes(p, dtype))
                continue;
            for (int i = 0; i < 65536; i += wide * wide) {
                natten_cpu_tokens t = {
                    (const char *)(in + i), 2 * wide, 1, wide, dtype, wide};
                p->probes->pack(NULL, 0, rows, &t, 1);
                p->k->unpack(&t, out + i, rows);
            }
            for (int i = 0; i < 65536; i++) {
                double value = natten_dtype_load(dtype, in, i);
                if (isnan(value))
                    ck_assert(isnan(natten_dtype_load(dtype, out, i)));
                else
                    ck_assert_int_eq(out[i], value == 0 ? 0 : in[i]);
            }
        }
}
END_TEST

int main(void)
{
    list_pages();
    TCase *words = tcase_create("words");
    tcase_add_test(words, exp_is_within_four_roundoffs);
    tcase_add_test(words, exp_is_right_at_its_ends);
    tcase_add_test(words, log_is_within_four_roundoffs);
    tcase_add_test(words, pick_moves_lanes_and_sum_adds_all);
    tcase_add_test(words, masks_stop_nan_and_infinity);
    tcase_add_test(words, pack_makes_columns_and_rows_of_tokens);
    tcase_add_test(words, unpack_rounds_as_base_does_and_writes_nothing_else);
    tcase_add_test(words, sixteen_bit_patterns_survive_the_way_in_and_out);
    Suite *suite = suite_create("cpu words");
    suite_add_tcase(suite, words);
    return tap_run(suite);
}
