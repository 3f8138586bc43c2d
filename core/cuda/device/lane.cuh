/* SPDX-License-Identifier: MIT
 *
 * The lanes of a warp.  `lanes` of them hold one row, a strip each, and so a warp works
 * on 32 / lanes rows at once: those are its groups.  All groups of a warp take every
 * step together, because they exchange sums; one that has nothing to do takes empty
 * ones.  All sums are over fixed trees, so they have the same bits in every run. */
#ifndef NATTEN_CUDA_DEVICE_LANE_CUH
#define NATTEN_CUDA_DEVICE_LANE_CUH

#include "cuda/device/element.cuh"

namespace natten {

constexpr unsigned all_lanes = 0xffffffffu;

/* What is the same in all lanes, which come here together, so that the compiler knows
 * it: branches on it are the warp's, and it can be kept in one of the warp's registers.
 */
template <class N> __device__ inline N of_warp(N x)
{
    return __shfl_sync(all_lanes, x, 0);
}

struct Lane {
    int lanes, groups; /* lanes of a group; groups of the warp */
    int within, group; /* this lane's place in its group; its group */

    __device__ explicit Lane(int lanes_)
        : lanes(lanes_), groups(NATTEN_CUDA_WARP / lanes_),
          within(threadIdx.x % lanes_), group(threadIdx.x % NATTEN_CUDA_WARP / lanes_)
    {
    }

    /* This lane's group, among those of the block. */
    __device__ int group_of_block() const
    {
        return threadIdx.x / lanes;
    }
    __device__ int groups_of_block() const
    {
        return NATTEN_CUDA_THREADS / lanes;
    }

    /* First element of this lane's strip of a row. */
    __device__ int64_t from() const
    {
        return within * strip;
    }

    /* Sum over the group; every lane gets it, and every lane the same bits, because a
     * sum of two does not depend on their order. */
    template <class S> __device__ S sum(S x) const
    {
        for (int o = lanes >> 1; o > 0; o >>= 1)
            x += __shfl_xor_sync(all_lanes, x, o);
        return x;
    }

    /* Several sums at once, their steps side by side. */
    template <class S, int count> __device__ void sum(S (&x)[count]) const
    {
        for (int o = lanes >> 1; o > 0; o >>= 1)
#pragma unroll
            for (int i = 0; i < count; i++)
                x[i] += __shfl_xor_sync(all_lanes, x[i], o);
    }

    /* Sum over the groups of the warp, place by place. */
    template <class S> __device__ void gather(S (&x)[strip]) const
    {
        for (int o = lanes; o < NATTEN_CUDA_WARP; o <<= 1)
#pragma unroll
            for (int e = 0; e < strip; e++)
                x[e] += __shfl_xor_sync(all_lanes, x[e], o);
    }
};

/* The largest of the warp's numbers. */
__device__ inline int64_t warp_largest(int64_t x)
{
    for (int o = NATTEN_CUDA_WARP / 2; o > 0; o >>= 1) {
        int64_t other = __shfl_xor_sync(all_lanes, x, o);
        x = other > x ? other : x;
    }
    return x;
}

/* This lane's share of <left, right> of two rows whose first strips are at hand. */
template <class T>
__device__ inline Sum<T> share(const Lane &lane, const Sum<T> (&left)[strip],
                               const Reader &left_reader, const T *left_row,
                               const Sum<T> (&right)[strip], const Reader &right_reader,
                               const T *right_row)
{
    Sum<T> sum = 0;
#pragma unroll
    for (int e = 0; e < strip; e++)
        sum = fma(left[e], right[e], sum);
    for (int64_t from = lane.from() + NATTEN_CUDA_SLICE;
         !easy && from < left_reader.count; from += NATTEN_CUDA_SLICE) {
        Sum<T> x[strip], y[strip];
        load(x, left_reader, left_row, from);
        load(y, right_reader, right_row, from);
#pragma unroll
        for (int e = 0; e < strip; e++)
            sum = fma(x[e], y[e], sum);
    }
    return sum;
}

} // namespace natten

#endif
