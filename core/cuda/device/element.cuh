/* SPDX-License-Identifier: MIT
 *
 * Elements of tensors on the GPU: the type that each is summed in, and reading strips
 * of a row.  A strip is NATTEN_CUDA_STRIP consecutive elements, what one lane holds;
 * past the end of a row it holds zeros, which change no sum. */
#ifndef NATTEN_CUDA_DEVICE_ELEMENT_CUH
#define NATTEN_CUDA_DEVICE_ELEMENT_CUH

#include "cuda/cuda_job.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace natten {

constexpr int strip = NATTEN_CUDA_STRIP;

/* Easy rows can all be read 16 bytes at a time and are at most one slice long: what is
 * then constant makes the kernels half as long.  The results are the same bits. */
constexpr bool easy = NATTEN_EASY_ROWS;

template <class T> struct Element {
    using Sum = float;
};
template <> struct Element<double> {
    using Sum = double;
};
template <class T> using Sum = typename Element<T>::Sum;

__device__ inline double widen(double x)
{
    return x;
}
__device__ inline float widen(float x)
{
    return x;
}
__device__ inline float widen(__half x)
{
    return __half2float(x);
}
__device__ inline float widen(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

/* Products that stay rounded, where fusing one into a sum would depend on the code
 * around it. */
__device__ inline double times(double x, double y)
{
    return __dmul_rn(x, y);
}
__device__ inline float times(float x, float y)
{
    return __fmul_rn(x, y);
}

/* Rounded to nearest, ties to even; overflow becomes infinity. */
__device__ inline void narrow(double *to, double x)
{
    *to = x;
}
__device__ inline void narrow(float *to, float x)
{
    *to = x;
}
__device__ inline void narrow(__half *to, float x)
{
    *to = __float2half_rn(x);
}
__device__ inline void narrow(__nv_bfloat16 *to, float x)
{
    *to = __float2bfloat16_rn(x);
}

/* How rows of one tensor are read. */
struct Reader {
    int64_t item;  /* elements from one element of a row to the next */
    int64_t count; /* elements of a row */
    bool vector;   /* 16 bytes at a time: item 1, everything a multiple of 16 bytes */
};

__device__ inline Reader reader_of(const natten_cuda_job &job, natten_role role,
                                   int64_t count)
{
    return {job.task.view[role].item, count, (job.vector >> role & 1) != 0};
}

/* x = elements from .. from + strip - 1 of the row; zeros where there are none, and for
 * a row that is NULL. */
template <class T>
__device__ inline void load(Sum<T> (&x)[strip], const Reader &reader, const T *row,
                            int64_t from)
{
    bool there = row != nullptr && from < reader.count;
    if (easy || reader.vector) {
        constexpr int words = strip * sizeof(T) / sizeof(uint4);
        uint4 word[words];
#pragma unroll
        for (int w = 0; w < words; w++) {
            word[w] = {0, 0, 0, 0}; /* zeros in every type */
            if (there)
                word[w] = __ldg(reinterpret_cast<const uint4 *>(row + from) + w);
        }
        const T *element = reinterpret_cast<const T *>(word);
#pragma unroll
        for (int e = 0; e < strip; e++)
            x[e] = widen(element[e]);
    } else {
#pragma unroll
        for (int e = 0; e < strip; e++)
            x[e] = there && from + e < reader.count
                       ? widen(__ldg(row + (from + e) * reader.item))
                       : Sum<T>(0);
    }
}

/* Elements from .. of the row = x; elements past its end are left out. */
template <class T>
__device__ inline void store(T *row, const Reader &reader, int64_t from,
                             const Sum<T> (&x)[strip])
{
    if ((easy || reader.vector) && from < reader.count) {
        constexpr int words = strip * sizeof(T) / sizeof(uint4);
        uint4 word[words];
        T *element = reinterpret_cast<T *>(word);
#pragma unroll
        for (int e = 0; e < strip; e++)
            narrow(element + e, x[e]);
#pragma unroll
        for (int w = 0; w < words; w++)
            reinterpret_cast<uint4 *>(row + from)[w] = word[w];
        return;
    }
#pragma unroll
    for (int e = 0; e < strip; e++)
        if (from + e < reader.count)
            narrow(row + (from + e) * reader.item, x[e]);
}

} // namespace natten

#endif
