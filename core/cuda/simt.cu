/* SPDX-License-Identifier: MIT
 *
 * The kernels of level a (plain CUDA cores, any GPU), for one element type.  Make
 * compiles this page twice for each, with NATTEN_ELEMENT defined as double, float,
 * __nv_bfloat16 or __half and NATTEN_EASY_ROWS as 0 or 1 (device/element.cuh), into fat
 * binaries of their own; so the names are the same in all, and cuda_launch.c lists
 * them. Kernels that take a small part of the time exist for any rows only. */
#include "cuda/device/overlap.cuh"
#include "cuda/simt_backward.cuh"
#include "cuda/simt_forward.cuh"
#include "cuda/simt_merge.cuh"
#include "cuda/simt_slots.cuh"
#include "cuda/simt_sums.cuh"

using T = NATTEN_ELEMENT;
using natten::Weights;

/* Blocks that a multiprocessor must be able to hold at once: with 255 registers for
 * each thread it would hold one. */
constexpr int blocks = 2;

#define KERNEL(name, Job, ...)                                                \
    extern "C" __global__ void __launch_bounds__(NATTEN_CUDA_THREADS, blocks) \
        natten_simt_##name(const __grid_constant__ Job job)                   \
    {                                                                         \
        natten::let_next_kernel_begin();                                      \
        natten::wait_for_kernels_before();                                    \
        natten::__VA_ARGS__(job);                                             \
    }

KERNEL(forward, natten_cuda_job, forward<T>)
KERNEL(grad_query, natten_cuda_job, grad_query<T, Weights::fused>)
KERNEL(grad_tokens, natten_cuda_job, grad_tokens<T, Weights::fused>)
KERNEL(bias, natten_cuda_job, bias<T, Weights::fused>)
KERNEL(extras, natten_cuda_job, extras<T, Weights::fused>)
#if !NATTEN_EASY_ROWS
KERNEL(delta, natten_cuda_job, delta<T>)
KERNEL(sum_extras, natten_cuda_job, sum_extras<T>)
KERNEL(sum_bias, natten_cuda_job, sum_bias<T>)
KERNEL(av, natten_cuda_job, av<T>)
KERNEL(qk, natten_cuda_job, slots<T, true>)
KERNEL(grad_attn, natten_cuda_job, slots<T, false>)
KERNEL(grad_query_unfused, natten_cuda_job, grad_query<T, Weights::unfused>)
KERNEL(grad_tokens_unfused, natten_cuda_job, grad_tokens<T, Weights::unfused>)
KERNEL(extras_unfused, natten_cuda_job, extras<T, Weights::unfused>)
KERNEL(bias_unfused, natten_cuda_job, bias<T, Weights::unfused>)
KERNEL(merge, natten_cuda_merge_job, merge<T>)
KERNEL(merge_backward, natten_cuda_merge_job, merge_backward<T>)
#endif
