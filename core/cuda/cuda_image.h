/* SPDX-License-Identifier: MIT
 *
 * The kernels as data: two fat binaries for each element type (simt.cu), two for each
 * 16-bit type (halo.cu, sweep.cu) and one for each and for tf32 (mma.cu), with machine
 * code for each architecture of the build and PTX that the driver compiles for newer
 * ones; and one for each 16-bit type that has neither but for 90a (wgmma.cu, band.cu).
 */
#ifndef NATTEN_CUDA_CUDA_IMAGE_H
#define NATTEN_CUDA_CUDA_IMAGE_H

#include "base/dtype.h"

#include <stdbool.h>

/* Kernels that are in one fat binary. */
typedef enum natten_cuda_set {
    NATTEN_CUDA_SET_SIMT,      /* level a, for any rows */
    NATTEN_CUDA_SET_SIMT_EASY, /* level a, for easy ones */
    NATTEN_CUDA_SET_HALO,      /* small windows; 16-bit types only */
    NATTEN_CUDA_SET_MMA,       /* large windows */
    NATTEN_CUDA_SET_MMA_TF32,  /* the same of fp32, with products in tf32 */
    NATTEN_CUDA_SET_SWEEP,     /* gradients of small windows in one pass */
    NATTEN_CUDA_SET_WGMMA,     /* rows of 64 by warpgroups; 9.0 only */
    NATTEN_CUDA_SET_BAND,      /* rows of 64, windows up to 13x13; 9.0 only */
    NATTEN_CUDA_SETS
} natten_cuda_set;

/* The fat binary of a type; NULL where there is none, and in a build without
 * kernels. */
const void *natten_cuda_image(natten_dtype dtype, natten_cuda_set set);

/* Architectures with machine code, "75 80 86 89 90a": one runs on its own and on later
 * minor versions of it, one with a letter on its own alone. "" without kernels. */
const char *natten_cuda_image_archs(void);

/* May plans count on kernels that are machine code of 90a alone?  In a
 * build without kernels they may: nothing runs there, and planning is tested. */
bool natten_cuda_image_has_wgmma(void);

/* Architecture of the PTX, which runs on all from there on; 0: none. */
int natten_cuda_image_ptx(void);

#endif
