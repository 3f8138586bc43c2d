/* SPDX-License-Identifier: MIT
 *
 * The halo kernels (tensor cores from sm_80 on, small windows), for one 16-bit type:
 * make compiles this page with NATTEN_ELEMENT defined as __nv_bfloat16 and as __half.
 * cuda_launch.c lists them; most exist with a bias and without. */
#define NATTEN_EASY_ROWS 0
#include "cuda/device/halo_walk.cuh"
#include "cuda/device/overlap.cuh"
#include "cuda/halo_backward.cuh"
#include "cuda/halo_forward.cuh"

using T = NATTEN_ELEMENT;

/* Until they wait (device/halo_walk.cuh) they work out what depends on nobody. */
#define KERNEL(name, blocks, ...)                                             \
    extern "C" __global__ void __launch_bounds__(NATTEN_CUDA_THREADS, blocks) \
        natten_halo_##name(const __grid_constant__ natten_cuda_job job)       \
    {                                                                         \
        natten::let_next_kernel_begin();                                      \
        natten::__VA_ARGS__ pass(job);                                        \
        natten::walk_halo(pass);                                              \
    }

extern "C" __global__ void __launch_bounds__(NATTEN_CUDA_THREADS)
    natten_halo_delta(const __grid_constant__ natten_cuda_job job)
{
    natten::let_next_kernel_begin();
    natten::wait_for_kernels_before();
    natten::compact_delta<T>(job);
}

extern "C" __global__ void __launch_bounds__(NATTEN_CUDA_THREADS)
    natten_halo_stats(const __grid_constant__ natten_cuda_job job)
{
    natten::let_next_kernel_begin();
    natten::wait_for_kernels_before();
    natten::collect_stats(job);
}

KERNEL(forward_32, 2, HaloForward<T, 32, false, false>)
KERNEL(forward_64, 2, HaloForward<T, 64, false, false>)
KERNEL(forward_128, 1, HaloForward<T, 128, false, false>)
KERNEL(forward_bias_32, 2, HaloForward<T, 32, true, false>)
KERNEL(forward_bias_64, 2, HaloForward<T, 64, true, false>)
KERNEL(forward_bias_128, 1, HaloForward<T, 128, true, false>)
KERNEL(grad_query_32, 2, HaloGradQuery<T, 32, false, false>)
KERNEL(grad_query_64, 2, HaloGradQuery<T, 64, false, false>)
KERNEL(grad_query_128, 1, HaloGradQuery<T, 128, false, false>)
KERNEL(grad_query_bias_32, 2, HaloGradQuery<T, 32, true, false>)
KERNEL(grad_query_bias_64, 2, HaloGradQuery<T, 64, true, false>)
KERNEL(grad_query_bias_128, 1, HaloGradQuery<T, 128, true, false>)
KERNEL(grad_bias_32, 1, HaloGradQuery<T, 32, true, false, true>)
KERNEL(grad_bias_64, 1, HaloGradQuery<T, 64, true, false, true>)
KERNEL(grad_tokens_32, 2, HaloGradTokens<T, 32, false, false, true, true>)
KERNEL(grad_tokens_64, 1, HaloGradTokens<T, 64, false, false, true, true>)
KERNEL(grad_tokens_bias_32, 2, HaloGradTokens<T, 32, true, false, true, true>)
KERNEL(grad_tokens_bias_64, 1, HaloGradTokens<T, 64, true, false, true, true>)
KERNEL(grad_key_128, 1, HaloGradTokens<T, 128, false, false, true, false>)
KERNEL(grad_value_128, 1, HaloGradTokens<T, 128, false, false, false, true>)
KERNEL(grad_key_bias_128, 1, HaloGradTokens<T, 128, true, false, true, false>)
KERNEL(grad_value_bias_128, 1, HaloGradTokens<T, 128, true, false, false, true>)

/* The same where the copy engine fetches slices; nothing where there is none. */
KERNEL(engine_forward_32, 2, HaloForward<T, 32, false, true>)
KERNEL(engine_forward_light_32, 3, HaloForward<T, 32, false, true, true>)
KERNEL(engine_forward_64, 2, HaloForward<T, 64, false, true>)
KERNEL(engine_forward_bias_32, 2, HaloForward<T, 32, true, true>)
KERNEL(engine_forward_bias_64, 2, HaloForward<T, 64, true, true>)
KERNEL(engine_grad_query_32, 2, HaloGradQuery<T, 32, false, true>)
KERNEL(engine_grad_query_64, 2, HaloGradQuery<T, 64, false, true>)
KERNEL(engine_grad_query_bias_32, 2, HaloGradQuery<T, 32, true, true>)
KERNEL(engine_grad_query_bias_64, 2, HaloGradQuery<T, 64, true, true>)
KERNEL(engine_grad_bias_32, 1, HaloGradQuery<T, 32, true, true, true>)
KERNEL(engine_grad_bias_64, 1, HaloGradQuery<T, 64, true, true, true>)
KERNEL(engine_grad_tokens_32, 2, HaloGradTokens<T, 32, false, true, true, true>)
KERNEL(engine_grad_tokens_64, 1, HaloGradTokens<T, 64, false, true, true, true>)
KERNEL(engine_grad_tokens_bias_32, 1, HaloGradTokens<T, 32, true, true, true, true>)
KERNEL(engine_grad_tokens_bias_64, 1, HaloGradTokens<T, 64, true, true, true, true>)
