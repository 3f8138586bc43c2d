/* SPDX-License-Identifier: MIT
 *
 * The kernels of warpgroups (sm_90a alone), for one type: make compiles this page with
 * NATTEN_ELEMENT defined as __nv_bfloat16 and __half.  cuda_launch.c lists them; each
 * is there twice, the second time where the copy engine brings rows and boxes. */
#define NATTEN_EASY_ROWS 0
#include "cuda/device/overlap.cuh"
#include "cuda/wgmma_backward.cuh"
#include "cuda/wgmma_forward.cuh"

using T = NATTEN_ELEMENT;

#define KERNEL(name, pass_name, Pass)                                                \
    extern "C" __global__ void __launch_bounds__(                                    \
        natten::WgmmaShape<NATTEN_CUDA_WGMMA_##pass_name>::threads, 1)               \
        natten_wgmma_##name##_64(const __grid_constant__ natten_cuda_job job)        \
    {                                                                                \
        natten::let_next_kernel_begin();                                             \
        natten::wait_for_kernels_before();                                           \
        natten::Pass<T, false>(job).run();                                           \
    }                                                                                \
    extern "C" __global__ void __launch_bounds__(                                    \
        natten::WgmmaShape<NATTEN_CUDA_WGMMA_##pass_name>::threads, 1)               \
        natten_wgmma_engine_##name##_64(const __grid_constant__ natten_cuda_job job) \
    {                                                                                \
        natten::let_next_kernel_begin();                                             \
        natten::wait_for_kernels_before();                                           \
        natten::Pass<T, true>(job).run();                                            \
    }

KERNEL(forward, FORWARD, WgmmaForward)
KERNEL(grad_query, GRAD_QUERY, WgmmaGradQuery)
KERNEL(grad_tokens, GRAD_TOKENS, WgmmaGradTokens)
