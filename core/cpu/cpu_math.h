/* SPDX-License-Identifier: MIT
 *
 * exp and log of a vector, from the words alone.
 *
 * exp: x = n ln 2 + r with ln 2 in two parts (the first has so few bits that n times it
 * is exact), 2^n by moving n into the exponent, exp(r) = 1 + r + r^2 q(r).  q
 * interpolates at the Chebyshev points of |r| <= ln(2)/2, error 0.2 u; with the
 * roundings of the last steps the relative error stays below 2 u.  Below the smallest
 * normal number 0 comes out, above the largest infinity, from NaN always NaN.
 *
 * log: 2^e m with m in [0.75, 1.5), log m = 2 atanh((m - 1) / (m + 1)) as a series. */
#ifndef NATTEN_CPU_MATH_H
#define NATTEN_CPU_MATH_H

#if NATTEN_REAL == 32
static const real exp_q[] = {0.0013926184f, 0.008363179f, 0.041666556f, 0.16666576f,
                             0.5f};
static const real exp_magic = 12582912.0f, exp_low = -87.9f, exp_high = 89.0f;
static const real log2_e = 1.44269504f;
static const real ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
enum { LOG_TERMS = 5 }; /* t <= 0.2, so the next term is 0.1 u of the first */
#else
static const real exp_q[] = {
    0x1.af39293f4f4e5p-26, 0x1.2891866033b4bp-22, 0x1.71de0d6597d3ap-19,
    0x1.a019b90c2710dp-16, 0x1.a01a01a7e025fp-13, 0x1.6c16c1788c336p-10,
    0x1.1111111110972p-7,  0x1.5555555553d61p-5,  0x1.5555555555556p-3,
    0x1.0000000000001p-1,
};
static const real exp_magic = 6755399441055744.0, exp_low = -708.9, exp_high = 709.9;
static const real log2_e = 1.4426950408889634;
static const real ln2_high = 6.93147180369123816490e-01;
static const real ln2_low = 1.90821492927058770002e-10;
enum { LOG_TERMS = 11 };
#endif

/* exp(x) for x up to exp_high, NaN for NaN: the softmax never asks for more than
 * exp(0). */
INLINE vec v_exp_down(vec x)
{
    x = v_max(v_all(exp_low), x);
    vec magic = v_fma(x, v_all(log2_e), v_all(exp_magic));
    vec n = v_sub(magic, v_all(exp_magic));
    vec r = v_fma(n, v_all(-ln2_high), x);
    r = v_fma(n, v_all(-ln2_low), r);
    vec y = v_all(exp_q[0]);
    UNROLL
    for (unsigned i = 1; i < sizeof exp_q / sizeof *exp_q; i++)
        y = v_fma(y, r, v_all(exp_q[i]));
    y = v_add(v_fma(y, v_mul(r, r), r), v_all(1));
    return v_mul(y, v_scale2(magic));
}

INLINE vec v_exp(vec x)
{
    return v_exp_down(v_min(v_all(exp_high), x));
}

/* log(x) for x >= 1, NaN for NaN. */
INLINE vec v_log(vec x)
{
    vec m, e = v_split(x, &m), one = v_all(1);
    vec t = v_div(v_sub(m, one), v_add(m, one)), u = v_mul(t, t), y = v_zero();
    UNROLL
    for (int i = 2 * LOG_TERMS - 1; i > 0; i -= 2)
        y = v_fma(y, u, v_all((real)2 / (real)i));
    y = v_fma(y, t, v_mul(e, v_all(ln2_low)));
    y = v_fma(e, v_all(ln2_high), y);
    return v_add(y, v_mul(v_zero(), x)); /* the integer steps of v_split lose a NaN */
}

#endif
