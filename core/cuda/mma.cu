/* SPDX-License-Identifier: MIT
 *
 * The kernels for large windows (tensor cores from sm_80 on), for one 16-bit type: make
 * compiles this page with NATTEN_ELEMENT defined as __nv_bfloat16 and as __half.
 * cuda_launch.c lists them; they exist for each width of rows. */
#define NATTEN_EASY_ROWS 0
#include "cuda/mma_backward.cuh"
#include "cuda/mma_forward.cuh"

using T = NATTEN_ELEMENT;

/* Blocks that a multiprocessor should hold at once bound the registers of a thread. */
#define KERNEL(name, blocks, ...)                                                 \
    extern "C" __global__ void __launch_bounds__(NATTEN_CUDA_MMA_THREADS, blocks) \
        natten_mma_##name(const __grid_constant__ natten_cuda_job job)            \
    {                                                                             \
        natten::__VA_ARGS__ pass(job);                                            \
        natten::walk_boxes(pass);                                                 \
    }

KERNEL(forward_32, 3, MmaForward<T, 32>)
KERNEL(forward_64, 3, MmaForward<T, 64>)
KERNEL(forward_96, 2, MmaForward<T, 96>)
KERNEL(forward_128, 2, MmaForward<T, 128>)
KERNEL(forward_192, 2, MmaForward<T, 192>)
KERNEL(forward_256, 2, MmaForward<T, 256>)

KERNEL(grad_query_32, 3, MmaGradQuery<T, 32>)
KERNEL(grad_query_64, 2, MmaGradQuery<T, 64>)
KERNEL(grad_query_96, 2, MmaGradQuery<T, 96>)
KERNEL(grad_query_128, 2, MmaGradQuery<T, 128>)
KERNEL(grad_query_192, 2, MmaGradQuery<T, 192>)
KERNEL(grad_query_256, 2, MmaGradQuery<T, 256>)
KERNEL(grad_tokens_32, 3, MmaGradTokens<T, 32, true, true>)
KERNEL(grad_tokens_64, 2, MmaGradTokens<T, 64, true, true>)
KERNEL(grad_tokens_96, 2, MmaGradTokens<T, 96, true, true>)
KERNEL(grad_tokens_128, 2, MmaGradTokens<T, 128, true, true>)
KERNEL(grad_key_192, 2, MmaGradTokens<T, 192, true, false>)
KERNEL(grad_key_256, 2, MmaGradTokens<T, 256, true, false>)
KERNEL(grad_value_192, 2, MmaGradTokens<T, 192, false, true>)
KERNEL(grad_value_256, 2, MmaGradTokens<T, 256, false, true>)
