/* SPDX-License-Identifier: MIT
 *
 * The kernels for large windows (tensor cores from sm_80 on), for one type: make
 * compiles this page with NATTEN_ELEMENT defined as __nv_bfloat16, __half, float,
 * natten::Tf32 and double, and NATTEN_ELEMENT_BYTES as its size.  cuda_launch.c lists
 * them; they exist for each width of rows, 4-byte types for 32, 64 and 128 alone,
 * double for 32 and 64. */
#define NATTEN_EASY_ROWS 0
#include "cuda/device/overlap.cuh"
#include "cuda/mma_backward.cuh"
#include "cuda/mma_forward.cuh"

using T = NATTEN_ELEMENT;
static_assert(sizeof(natten::Stored<T>) == NATTEN_ELEMENT_BYTES);

/* The blocks that a multiprocessor should hold at once bound the registers. */
#define KERNEL(name, pass_name, width, ...)                                          \
    extern "C" __global__ void __launch_bounds__(                                    \
        NATTEN_CUDA_WARP                                                             \
            *natten::MmaShape<sizeof(T), NATTEN_CUDA_MMA_##pass_name, width>::warps, \
        natten::MmaShape<sizeof(T), NATTEN_CUDA_MMA_##pass_name, width>::held)       \
        natten_mma_##name##_##width(const __grid_constant__ natten_cuda_job job)     \
    {                                                                                \
        natten::let_next_kernel_begin();                                             \
        natten::wait_for_kernels_before();                                           \
        natten::__VA_ARGS__ pass(job);                                               \
        natten::walk_boxes(pass);                                                    \
    }

KERNEL(forward, FORWARD, 32, MmaForward<T, 32>)
KERNEL(forward, FORWARD, 64, MmaForward<T, 64>)
KERNEL(grad_query, GRAD_QUERY, 32, MmaGradQuery<T, 32>)
KERNEL(grad_query, GRAD_QUERY, 64, MmaGradQuery<T, 64>)
KERNEL(grad_tokens, GRAD_TOKENS, 32, MmaGradTokens<T, 32, true, true, false>)
KERNEL(grad_tokens, GRAD_TOKENS, 64, MmaGradTokens<T, 64, true, true, false>)

#if NATTEN_ELEMENT_BYTES < 8
KERNEL(forward, FORWARD, 128, MmaForward<T, 128>)
KERNEL(grad_query, GRAD_QUERY, 128, MmaGradQuery<T, 128>)
KERNEL(grad_tokens, GRAD_TOKENS, 128, MmaGradTokens<T, 128, true, true, false>)
#endif

#if NATTEN_ELEMENT_BYTES == 2
KERNEL(forward, FORWARD, 96, MmaForward<T, 96>)
KERNEL(forward, FORWARD, 192, MmaForward<T, 192>)
KERNEL(forward, FORWARD, 256, MmaForward<T, 256>)
KERNEL(grad_query, GRAD_QUERY, 96, MmaGradQuery<T, 96>)
KERNEL(grad_query, GRAD_QUERY, 192, MmaGradQuery<T, 192>)
KERNEL(grad_query, GRAD_QUERY, 256, MmaGradQuery<T, 256>)
KERNEL(grad_tokens, GRAD_TOKENS, 96, MmaGradTokens<T, 96, true, true, false>)
KERNEL(grad_key, GRAD_TOKENS, 192, MmaGradTokens<T, 192, true, false, false>)
KERNEL(grad_key, GRAD_TOKENS, 256, MmaGradTokens<T, 256, true, false, false>)
KERNEL(grad_value, GRAD_TOKENS, 192, MmaGradTokens<T, 192, false, true, false>)
KERNEL(grad_value, GRAD_TOKENS, 256, MmaGradTokens<T, 256, false, true, false>)
KERNEL(grad_all, GRAD_ALL, 32, MmaGradTokens<T, 32, true, true, true>)
KERNEL(grad_all, GRAD_ALL, 64, MmaGradTokens<T, 64, true, true, true>)
KERNEL(grad_all, GRAD_ALL, 96, MmaGradTokens<T, 96, true, true, true>)
KERNEL(grad_all, GRAD_ALL, 128, MmaGradTokens<T, 128, true, true, true>)
#endif
