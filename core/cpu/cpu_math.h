/* SPDX-License-Identifier: MIT
 *
 * exp and log of a vector, from the words alone.
 *
 * exp: x = n ln(2) / ROOTS + r with ln 2 in two parts (the first has so few bits that n
 * times it is exact), 2^(n / ROOTS) from a table of ROOTS and by moving the rest of n
 * into the exponent, exp(r) = 1 + r + r^2 q(r).  q interpolates at the Chebyshev points
 * of |r| <= ln(2) / (2 ROOTS), error 0.3 u; with the roundings of the last steps the
 * relative error stays below 2 u, that of v_exp with a table below 3 u.  Below the
 * smallest normal number 0 comes out, from just below the largest on infinity, from NaN
 * always NaN.
 *
 * log: 2^e m with m in [0.75, 1.5), log m = 2 atanh((m - 1) / (m + 1)) as a series. */
#ifndef NATTEN_CPU_MATH_H
#define NATTEN_CPU_MATH_H

/* A set that finds 16 numbers in registers has a table of 2^(i / 16): of fp32 three
 * steps of q fewer, of fp64 five. */
#ifndef V_ROOTS
#define V_ROOTS 1
INLINE vec v_root2(vec magic)
{
    return v_scale2(magic);
}
INLINE vec v_drop_less(vec x, vec y, vec a)
{
    (void)x, (void)y;
    return a;
}
#endif

#if NATTEN_REAL == 32
#if V_ROOTS == 16
static const real exp_q[] = {0x1.55565cp-3f, 0x1.000148p-1f};
static const real exp_low = -87.33654f, exp_high = 88.72284f;
#else
static const real exp_q[] = {0.0013926184f, 0.008363179f, 0.041666556f, 0.16666576f,
                             0.5f};
static const real exp_low = -87.9f, exp_high = 89.0f;
#endif
static const real exp_magic = 12582912.0f, log2_e = 1.44269504f;
static const real ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
enum { LOG_TERMS = 5 }; /* t <= 0.2, so the next term is 0.1 u of the first */
#else
#if V_ROOTS == 16
static const real exp_q[] = {0x1.6c17bb51f236dp-10, 0x1.11120af701debp-7,
                             0x1.55555555194d2p-5, 0x1.55555554dd44dp-3, 0.5};
static const real exp_low = -708.3964185322641, exp_high = 709.782712893384;
#else
static const real exp_q[] = {
    0x1.af39293f4f4e5p-26, 0x1.2891866033b4bp-22, 0x1.71de0d6597d3ap-19,
    0x1.a019b90c2710dp-16, 0x1.a01a01a7e025fp-13, 0x1.6c16c1788c336p-10,
    0x1.1111111110972p-7,  0x1.5555555553d61p-5,  0x1.5555555555556p-3,
    0x1.0000000000001p-1,
};
static const real exp_low = -708.9, exp_high = 709.9;
#endif
static const real exp_magic = 6755399441055744.0;
static const real log2_e = 1.4426950408889634;
static const real ln2_high = 6.93147180369123816490e-01;
static const real ln2_low = 1.90821492927058770002e-10;
enum { LOG_TERMS = 11 };
#endif

/* exp(x) is power (1 + y), for x up to exp_high. Without a table x is kept where n has
 * room in the exponent; with one, what comes of lower x has to be dropped. */
INLINE vec exp_parts(vec x, vec *power)
{
    if (V_ROOTS == 1)
        x = v_max(v_all(exp_low), x);
    vec magic = v_fma(x, v_all(V_ROOTS * log2_e), v_all(exp_magic));
    vec n = v_sub(magic, v_all(exp_magic));
    vec r = v_fma(n, v_all(-ln2_high / V_ROOTS), x);
    r = v_fma(n, v_all(-ln2_low / V_ROOTS), r);
    vec q = v_all(exp_q[0]);
    UNROLL
    for (unsigned i = 1; i < sizeof exp_q / sizeof *exp_q; i++)
        q = v_fma(q, r, v_all(exp_q[i]));
    *power = v_root2(magic);
    return v_fma(q, v_mul(r, r), r);
}

/* exp(x), NaN for NaN. */
INLINE vec v_exp(vec x)
{
    vec power, y = exp_parts(v_min(v_all(exp_high), x), &power);
    y = v_mul(v_add(y, v_all(1)), power);
    return V_ROOTS == 1 ? y : v_drop_less(x, v_all(exp_low), y);
}

/* The same for x below exp_high, whose power is finite: the softmax never asks for more
 * than exp(0). */
INLINE vec v_exp_down(vec x)
{
    vec power, y = exp_parts(x, &power);
    if (V_ROOTS == 1)
        return v_mul(v_add(y, v_all(1)), power);
    return v_drop_less(x, v_all(exp_low), v_fma(power, y, power));
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
