/* SPDX-License-Identifier: MIT
 *
 * How numbers of each type take part in products of matrices (device/tensor_core.cuh
 * has the instructions).
 *
 *     16 bits   as they are; double, too
 *     float     as two parts of tf32, the second what the first leaves: of its
 *               24 bits at most the last is lost.  Three of the four products of
 *               parts are summed; the fourth is below 2^-22 of the whole
 *     Tf32      fp32 in memory.  Logits are made of numbers rounded to tf32, weights
 *               are rounded to it; all else has two parts (docs/definition.md,
 *               section 12, allows no more)
 *
 * Tensor cores round sums of fp32 towards zero, which adds up.  So products of weights
 * of 4-byte types are summed apart, few at a time, and added to what is there by
 * rounding to nearest; those of a logit are few enough for its bound.
 *
 * Second parts of numbers below 2^-113 would be cut off where subnormals end.  So all
 * numbers in memory are taken times 2^16, and results are divided by it.  What is not
 * finite, or overflows by that, makes NaN: the sum of two parts is NaN then, and a part
 * alone is made so.  Rows with NaN are done again (simt_again.cuh). */
#ifndef NATTEN_CUDA_DEVICE_MMA_PARTS_CUH
#define NATTEN_CUDA_DEVICE_MMA_PARTS_CUH

#include "cuda/device/element.cuh"
#include "cuda/device/tensor_core.cuh"

namespace natten {

/* The type of tensors' elements in memory. */
template <class T> struct MmaStored {
    using Type = T;
};
template <> struct MmaStored<Tf32> {
    using Type = float;
};
template <class T> using Stored = typename MmaStored<T>::Type;

/* Parts of both sides of logits, and of weights; of all else. */
template <class T> constexpr int few_parts = 1;
template <> inline constexpr int few_parts<float> = 2;
template <class T> constexpr int many_parts = sizeof(T) == 4 ? 2 : 1;

/* What numbers in memory are multiplied by when they are read; its inverse. */
template <class T> constexpr float growth = sizeof(T) == 4 ? 0x1p16f : 1;
template <class T> constexpr float shrinkage = 1 / growth<T>;

/* The parts of fp32 numbers. */
template <int parts, int count>
__device__ inline void divide_words(uint32_t (&part)[parts][count],
                                    const float (&x)[count])
{
#pragma unroll
    for (int i = 0; i < count; i++) {
        if constexpr (parts == 1)
            part[0][i] = round_to_tf32(x[i]);
        else {
            /* To nearest; overflow is one in both parts. */
            part[0][i] = (__float_as_uint(x[i]) + 0x1000u) & 0xffffe000u;
            part[1][i] = __float_as_uint(x[i] - __uint_as_float(part[0][i]));
        }
    }
}

/* The parts of words in memory; the one part of a 16-bit type is the word itself. */
template <class T, int parts, int count>
__device__ inline void divide(uint32_t (&part)[parts][count],
                              const uint32_t (&word)[count])
{
    if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int i = 0; i < count; i++)
            part[0][i] = word[i];
    } else {
        float x[count];
#pragma unroll
        for (int i = 0; i < count; i++)
            x[i] = __uint_as_float(word[i]) * growth<T>;
        divide_words(part, x);
#pragma unroll
        for (int i = 0; i < count && parts == 1; i++) {
            /* What is not finite, be it by rounding. */
            float r = __uint_as_float(part[0][i]);
            part[0][i] = __float_as_uint(r + (r - r));
        }
    }
}

/* lse to base 2, as in tensor_core.cuh.  Logits that are lower than where references
 * begin are level a's. */
template <class T> __device__ inline Sum<T> lse_of(Sum<T> lse)
{
    if (sizeof(T) > 2 && lse < Sum<T>(-0x1p60) && lse != -INFINITY)
        lse = NAN;
    if constexpr (sizeof(T) == 8)
        return (lse == -INFINITY ? -0x1p60 : lse) * log2_of_e<double>;
    else
        return lse_of(lse);
}

/* The weight of a logit less lse, to base 2, in gradients.  By logits of tf32 one that
 * is 1 could be e^2, and what cancels in its dS would not: it is at most 1. */
template <class T> __device__ inline Sum<T> gradient_weight(Sum<T> x)
{
    if constexpr (sizeof(T) == 4 && few_parts<T> == 1)
        x = smaller_or_nan(x, 0);
    return exp2_fast(x);
}

/* Products of parts, the smallest first: which of them is number `n`. */
template <int lefts, int rights> struct MmaPairs {
    static constexpr int count = lefts + rights - 1;
    __device__ static constexpr int left(int n)
    {
        return lefts == 2 && n == count - 2 ? 1 : 0;
    }
    __device__ static constexpr int right(int n)
    {
        return rights == 2 && n == 0 ? 1 : 0;
    }
};

} // namespace natten

#endif
