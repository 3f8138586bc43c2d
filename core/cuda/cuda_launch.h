/* SPDX-License-Identifier: MIT
 *
 * Between the backend and the driver: entering the context that the tensors belong to,
 * finding kernels, launching them on the caller's stream, scratch on that stream.
 * Nothing here waits for the GPU. */
#ifndef NATTEN_CUDA_CUDA_LAUNCH_H
#define NATTEN_CUDA_CUDA_LAUNCH_H

#include "cuda/cuda_band_block.h"
#include "cuda/cuda_image.h"
#include "cuda/cuda_job.h"
#include "machine/gpu.h"

/* A call on a GPU while it runs. */
typedef struct natten_cuda_call {
    const natten_driver *driver;
    const natten_gpu *gpu;
    natten_dtype dtype; /* whose kernels are launched */
    void *stream;       /* the caller's */
    bool overlaps;      /* kernels may begin while those before them drain */
    void *context;      /* the tensors'; NULL until one is known */
    bool pushed;        /* it was not current and has to be taken off again */
    uintptr_t scratch;  /* taken from the stream; 0: none */
} natten_cuda_call;

/* Begin a call on a GPU that natten_gpu_check() has passed; end it in any case. */
natten_status natten_cuda_call_begin(natten_cuda_call *call, const natten_gpu *gpu,
                                     natten_dtype dtype, void *stream);
/* Frees the scratch, gives the caller its context back, and hands `status` on unless
 * that is NATTEN_OK and ending fails. */
natten_status natten_cuda_call_end(natten_cuda_call *call, natten_status status);

/* The address is memory that the call's GPU can reach: its own, managed, or pinned host
 * memory.  `name` is for the sentence. */
natten_status natten_cuda_call_check(natten_cuda_call *call, const void *address,
                                     const char *name);
/* Once all addresses are checked: make their context current. */
natten_status natten_cuda_call_enter(natten_cuda_call *call);

/* Scratch that lives until the end of the call, without waiting for the GPU. */
natten_status natten_cuda_call_scratch(natten_cuda_call *call, size_t bytes,
                                       void **scratch);

/* The kernels of simt.cu, those for easy rows first, and of halo.cu: rows of 32, 64 and
 * 128, then the same with a bias; GRAD_BIAS is of queries too, for rows of 32 and 64.
 * And those of mma.cu: rows of 32, 64, 96, 128, 192 and 256; GRAD_ALL is for rows up to
 * 128. */
typedef enum natten_cuda_kernel {
    NATTEN_CUDA_KERNEL_FORWARD_EASY,
    NATTEN_CUDA_KERNEL_GRAD_QUERY_EASY,
    NATTEN_CUDA_KERNEL_GRAD_TOKENS_EASY,
    NATTEN_CUDA_KERNEL_EXTRAS_EASY,
    NATTEN_CUDA_KERNEL_BIAS_EASY,
    NATTEN_CUDA_KERNELS_EASY, /* how many of them; the first of the others */
    NATTEN_CUDA_KERNEL_FORWARD = NATTEN_CUDA_KERNELS_EASY,
    NATTEN_CUDA_KERNEL_AV,
    NATTEN_CUDA_KERNEL_QK,
    NATTEN_CUDA_KERNEL_GRAD_ATTN,
    NATTEN_CUDA_KERNEL_DELTA,
    NATTEN_CUDA_KERNEL_GRAD_QUERY,
    NATTEN_CUDA_KERNEL_GRAD_QUERY_UNFUSED,
    NATTEN_CUDA_KERNEL_GRAD_TOKENS,
    NATTEN_CUDA_KERNEL_GRAD_TOKENS_UNFUSED,
    NATTEN_CUDA_KERNEL_EXTRAS,
    NATTEN_CUDA_KERNEL_EXTRAS_UNFUSED,
    NATTEN_CUDA_KERNEL_SUM_EXTRAS,
    NATTEN_CUDA_KERNEL_BIAS,
    NATTEN_CUDA_KERNEL_BIAS_UNFUSED,
    NATTEN_CUDA_KERNEL_SUM_BIAS,
    NATTEN_CUDA_KERNEL_MERGE,
    NATTEN_CUDA_KERNEL_MERGE_BACKWARD,
    NATTEN_CUDA_KERNELS_SIMT, /* the first of the others */
    NATTEN_CUDA_KERNEL_HALO_FORWARD = NATTEN_CUDA_KERNELS_SIMT,
    NATTEN_CUDA_KERNEL_HALO_GRAD_QUERY = NATTEN_CUDA_KERNEL_HALO_FORWARD + 6,
    NATTEN_CUDA_KERNEL_HALO_GRAD_KEY = NATTEN_CUDA_KERNEL_HALO_GRAD_QUERY + 6,
    NATTEN_CUDA_KERNEL_HALO_GRAD_VALUE = NATTEN_CUDA_KERNEL_HALO_GRAD_KEY + 6,
    NATTEN_CUDA_KERNEL_HALO_GRAD_BIAS = NATTEN_CUDA_KERNEL_HALO_GRAD_VALUE + 6,
    NATTEN_CUDA_KERNEL_HALO_DELTA = NATTEN_CUDA_KERNEL_HALO_GRAD_BIAS + 2,
    NATTEN_CUDA_KERNEL_HALO_STATS,
    NATTEN_CUDA_KERNELS_HALO, /* the first of the others */
    NATTEN_CUDA_KERNEL_MMA_FORWARD = NATTEN_CUDA_KERNELS_HALO,
    NATTEN_CUDA_KERNEL_MMA_GRAD_QUERY = NATTEN_CUDA_KERNEL_MMA_FORWARD + 6,
    NATTEN_CUDA_KERNEL_MMA_GRAD_KEY = NATTEN_CUDA_KERNEL_MMA_GRAD_QUERY + 6,
    NATTEN_CUDA_KERNEL_MMA_GRAD_VALUE = NATTEN_CUDA_KERNEL_MMA_GRAD_KEY + 6,
    NATTEN_CUDA_KERNEL_MMA_GRAD_ALL = NATTEN_CUDA_KERNEL_MMA_GRAD_VALUE + 6,
    /* Those of halo.cu but the last once more, for rows up to 64 that the copy engine
     * fetches. */
    NATTEN_CUDA_KERNEL_ENGINE = NATTEN_CUDA_KERNEL_MMA_GRAD_ALL + 4,
    /* Those of mma.cu once more, with products in tf32. */
    NATTEN_CUDA_KERNEL_TF32 = NATTEN_CUDA_KERNEL_ENGINE +
                              NATTEN_CUDA_KERNEL_HALO_DELTA - NATTEN_CUDA_KERNELS_SIMT,
    /* Those of sweep.cu, of two columns and of more, and the same where the copy engine
     * fetches rows; then those with a bias. */
    NATTEN_CUDA_KERNEL_SWEEP =
        NATTEN_CUDA_KERNEL_TF32 + NATTEN_CUDA_KERNEL_ENGINE - NATTEN_CUDA_KERNELS_HALO,
    NATTEN_CUDA_KERNEL_SWEEP_ENGINE = NATTEN_CUDA_KERNEL_SWEEP + 2,
    NATTEN_CUDA_KERNEL_SWEEP_BIAS = NATTEN_CUDA_KERNEL_SWEEP_ENGINE + 2,
    NATTEN_CUDA_KERNEL_SWEEP_BIAS_ENGINE = NATTEN_CUDA_KERNEL_SWEEP_BIAS + 2,
    NATTEN_CUDA_KERNEL_HALO_LIGHT = NATTEN_CUDA_KERNEL_SWEEP_BIAS_ENGINE + 2,
    /* Those of wgmma.cu, and the same where the copy engine fetches rows. */
    NATTEN_CUDA_KERNEL_WGMMA_FORWARD,
    NATTEN_CUDA_KERNEL_WGMMA_GRAD_QUERY,
    NATTEN_CUDA_KERNEL_WGMMA_GRAD_TOKENS,
    NATTEN_CUDA_KERNEL_WGMMA_ENGINE,
    /* Those of band.cu, likewise. */
    NATTEN_CUDA_KERNEL_BAND_FORWARD =
        NATTEN_CUDA_KERNEL_WGMMA_ENGINE + NATTEN_CUDA_WGMMA_PASSES,
    NATTEN_CUDA_KERNEL_BAND_GRAD_QUERY,
    NATTEN_CUDA_KERNEL_BAND_GRAD_TOKENS,
    NATTEN_CUDA_KERNEL_BAND_ENGINE,
    NATTEN_CUDA_KERNELS = NATTEN_CUDA_KERNEL_BAND_ENGINE + NATTEN_CUDA_BAND_PASSES
} natten_cuda_kernel;

/* The fat binary that a kernel is in. */
natten_cuda_set natten_cuda_kernel_set(natten_cuda_kernel kernel);

/* Let the copy engine fetch the slices of a job of halo.cu, the rows of one of
 * sweep.cu, or the rows and boxes of one of wgmma.cu or band.cu, if its tensors allow
 * it: encode the maps and take the kernel that uses them, or take halo.by_maps back. */
natten_status natten_cuda_call_map(const natten_cuda_call *call, natten_cuda_job *job,
                                   natten_cuda_kernel *kernel);

/* Begin to write zeros to `bytes` bytes, a multiple of 4. */
natten_status natten_cuda_call_clear(const natten_cuda_call *call, void *address,
                                     size_t bytes);

/* Launch a kernel on `blocks` blocks; a kernel whose work needs
 * more blocks than a grid can have goes round.  `job` is its parameter, copied. */
natten_status natten_cuda_call_launch(const natten_cuda_call *call,
                                      natten_cuda_kernel kernel, int64_t blocks,
                                      int32_t shared_bytes, const void *job);

#endif
