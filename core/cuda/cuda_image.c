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
            ".incbin \"core/cuda/simt_" #name ".fatbin\"\n"       \
            ".popsection\n");                                     \
    extern const char natten_image_##name[] __attribute__((visibility("hidden")))

EMBED(fp64);
EMBED(fp32);
EMBED(bf16);
EMBED(fp16);
EMBED(fp64_easy);
EMBED(fp32_easy);
EMBED(bf16_easy);
EMBED(fp16_easy);

const void *natten_cuda_image(natten_dtype dtype, bool easy)
{
    static const char *const images[NATTEN_DTYPES][2] = {
        [NATTEN_FP64] = {natten_image_fp64, natten_image_fp64_easy},
        [NATTEN_FP32] = {natten_image_fp32, natten_image_fp32_easy},
        [NATTEN_BF16] = {natten_image_bf16, natten_image_bf16_easy},
        [NATTEN_FP16] = {natten_image_fp16, natten_image_fp16_easy},
    };
    return images[dtype][easy];
}

const char *natten_cuda_image_archs(void)
{
    return NATTEN_CUDA_ARCHS;
}

int natten_cuda_image_ptx(void)
{
    return NATTEN_CUDA_PTX;
}

#else

const void *natten_cuda_image(natten_dtype dtype, bool easy)
{
    (void)dtype, (void)easy;
    return NULL;
}

const char *natten_cuda_image_archs(void)
{
    return "";
}

int natten_cuda_image_ptx(void)
{
    return 0;
}

#endif
