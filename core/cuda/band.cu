/* SPDX-License-Identifier: MIT
 *
 * The kernels that go down bands of a grid (sm_90a alone), for one type: make compiles
 * this page with NATTEN_ELEMENT defined as __nv_bfloat16 and __half.  cuda_launch.c
 * lists them; each is there twice, the second time where the copy engine brings rows
 * and groups. */
#define NATTEN_EASY_ROWS 0
#include "cuda/band_backward.cuh"
#include "cuda/band_forward.cuh"
#include "cuda/device/overlap.cuh"

using T = NATTEN_ELEMENT;

#define KERNEL_OF(name, pass, Pass, engine)                                  \
    extern "C" __global__ void __launch_bounds__(                            \
        natten::BandShape<NATTEN_CUDA_BAND_##pass>::threads, 1)              \
        natten_band_##name##_64(const __grid_constant__ natten_cuda_job job) \
    {                                                                        \
        natten::let_next_kernel_begin();                                     \
        natten::wait_for_kernels_before();                                   \
        natten::Pass<T, engine>(job).run();                                  \
    }
#define KERNEL(name, pass, Pass)       \
    KERNEL_OF(name, pass, Pass, false) \
    KERNEL_OF(engine_##name, pass, Pass, true)

KERNEL(forward, FORWARD, BandForward)
KERNEL(grad_query, GRAD_QUERY, BandGradQuery)
KERNEL(grad_tokens, GRAD_TOKENS, BandGradTokens)
