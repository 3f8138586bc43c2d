/* SPDX-License-Identifier: MIT
 *
 * The fat binaries that make built, embedded: the assembler copies the files in,
 * relative to the directory that make compiles in. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "cuda/cuda_image.h"

#include <stddef.h>

#ifdef NATTEN_HAVE_CUDA

/* A fat binary's header is read in words of 8 bytes. */
#define EMBED(name)                                               \
    __asm__(".pushsection .rodata.natten_image_" #name ",\"a\"\n" \
            ".balign 64\n"                                        \
            "natten_image_" #name ":\n"                           \
            ".incbin \"core/cuda/" #name ".fatbin\"\n"            \
            ".popsection\n");                                     \
    extern const char natten_image_##name[] __attribute__((visibility("hidden")))

EMBED(simt_fp64);
EMBED(simt_fp32);
EMBED(simt_bf16);
EMBED(simt_fp16);
EMBED(simt_fp64_easy);
EMBED(simt_fp32_easy);
EMBED(simt_bf16_easy);
EMBED(simt_fp16_easy);
EMBED(halo_bf16);
EMBED(halo_fp16);
EMBED(mma_bf16);
EMBED(mma_fp16);
EMBED(mma_fp64);
EMBED(mma_fp32);
EMBED(mma_tf32);
EMBED(sweep_bf16);
EMBED(sweep_fp16);
#ifdef NATTEN_CUDA_WGMMA
EMBED(band_bf16);
EMBED(band_fp16);
EMBED(wgmma_bf16);
EMBED(wgmma_fp16);
#define BAND_IMAGE(type)  natten_image_band_##type
#define WGMMA_IMAGE(type) natten_image_wgmma_##type
#else
#define BAND_IMAGE(type)  NULL
#define WGMMA_IMAGE(type) NULL
#endif

const void *natten_cuda_image(natten_dtype dtype, natten_cuda_set set)
{
    static const char *const images[NATTEN_DTYPES][NATTEN_CUDA_SETS] = {
        [NATTEN_FP64] = {natten_image_simt_fp64, natten_image_simt_fp64_easy, NULL,
                         natten_image_mma_fp64, NULL, NULL, NULL, NULL},
        [NATTEN_FP32] = {natten_image_simt_fp32, natten_image_simt_fp32_easy, NULL,
                         natten_image_mma_fp32, natten_image_mma_tf32, NULL, NULL,
                         NULL},
        [NATTEN_BF16] = {natten_image_simt_bf16, natten_image_simt_bf16_easy,
                         natten_image_halo_bf16, natten_image_mma_bf16, NULL,
                         natten_image_sweep_bf16, WGMMA_IMAGE(bf16), BAND_IMAGE(bf16)},
        [NATTEN_FP16] = {natten_image_simt_fp16, natten_image_simt_fp16_easy,
                         natten_image_halo_fp16, natten_image_mma_fp16, NULL,
                         natten_image_sweep_fp16, WGMMA_IMAGE(fp16), BAND_IMAGE(fp16)},
    };
    return images[dtype][set];
}

const char *natten_cuda_image_archs(void)
{
    return NATTEN_CUDA_ARCHS;
}

bool natten_cuda_image_has_wgmma(void)
{
    return natten_cuda_image(NATTEN_BF16, NATTEN_CUDA_SET_WGMMA) != NULL;
}

int natten_cuda_image_ptx(void)
{
    return NATTEN_CUDA_PTX;
}

#else

const void *natten_cuda_image(natten_dtype dtype, natten_cuda_set set)
{
    (void)dtype, (void)set;
    return NULL;
}

const char *natten_cuda_image_archs(void)
{
    return "";
}

bool natten_cuda_image_has_wgmma(void)
{
    return true;
}

int natten_cuda_image_ptx(void)
{
    return 0;
}

#endif
