/* SPDX-License-Identifier: MIT
 *
 * Gradients of small windows in one pass (sweep_backward.cuh), for one 16-bit type:
 * make compiles this page with NATTEN_ELEMENT defined as __nv_bfloat16 and as __half.
 * Nothing before sm_90. */
#define NATTEN_EASY_ROWS 0
#include "cuda/device/overlap.cuh"
#include "cuda/sweep_backward.cuh"

using T = NATTEN_ELEMENT;

#define KERNEL(name, sides, engine, biased)                              \
    extern "C" __global__ void __launch_bounds__(                        \
        (NATTEN_CUDA_SWEEP_WARPS + (biased)) * NATTEN_CUDA_WARP, 1)      \
        natten_sweep_##name(const __grid_constant__ natten_cuda_job job) \
    {                                                                    \
        natten::let_next_kernel_begin();                                 \
        natten::wait_for_kernels_before();                               \
        if constexpr (natten::has_copy_engine)                           \
            natten::Sweep<T, sides, engine, biased>(job).run();          \
    }

KERNEL(backward_2, 2, false, false)
KERNEL(backward_3, 3, false, false)
KERNEL(engine_backward_2, 2, true, false)
KERNEL(engine_backward_3, 3, true, false)
KERNEL(backward_bias_2, 2, false, true)
KERNEL(backward_bias_3, 3, false, true)
KERNEL(engine_backward_bias_2, 2, true, true)
KERNEL(engine_backward_bias_3, 3, true, true)
