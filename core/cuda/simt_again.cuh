/* SPDX-License-Identifier: MIT
 *
 * Rows that the kernels on tensor cores leave to level a: products touch every key with
 * every row, so what is not finite shows in rows that do not see it.  Level a computes
 * such a row anew, from what it sees alone.  Not inlined: it is seldom needed, and its
 * registers are not to be the caller's. */
#ifndef NATTEN_CUDA_SIMT_AGAIN_CUH
#define NATTEN_CUDA_SIMT_AGAIN_CUH

#include "cuda/simt_backward.cuh"
#include "cuda/simt_forward.cuh"

namespace natten {

template <class T>
__device__ __noinline__ void forward_again(const natten_cuda_job &job, const Lane &lane,
                                           const Place &place, bool exists)
{
    forward_row<T>(job, lane, place, 0, exists);
}

template <class T>
__device__ __noinline__ void grad_query_again(const natten_cuda_job &job,
                                              const Lane &lane, const Place &place,
                                              bool exists)
{
    grad_query_row<T, Weights::fused>(job, lane, place, 0, exists);
}

template <class T>
__device__ __noinline__ void grad_tokens_again(const natten_cuda_job &job,
                                               const Lane &lane, const Place &place,
                                               bool exists)
{
    grad_tokens_row<T, Weights::fused>(job, lane, place, 0, exists);
}

} // namespace natten

#endif
