/* SPDX-License-Identifier: MIT
 *
 * Products of a warpgroup: four warps next to each other that multiply matrices in
 * shared memory together and go on while that is done (PTX ISA, "wgmma"; sm_90a alone).
 *
 * A product adds A B to sums of 64 rows, of which each warp has 16, laid out as C in
 * device/tensor_core.cuh; A has 16 columns.  A is in shared memory, or in registers as
 * the A of 16 rows there.  Matrices in shared memory have rows of 128 bytes, or of 32,
 * whose chunks of 16 bytes are permuted as the copy engine does it:
 *
 *     128 bytes   chunk ^ row % 8          8 rows begin at a multiple of 1024
 *     32 bytes    chunk ^ row / 4 % 2      8 rows begin at a multiple of 256
 *
 * Sums belong to the product from its beginning until somebody has waited for it. */
#ifndef NATTEN_CUDA_DEVICE_WARPGROUP_CUH
#define NATTEN_CUDA_DEVICE_WARPGROUP_CUH

#include "cuda/device/tensor_core.cuh"

namespace natten {

/* Where a matrix in shared memory is, for a product: rows of 128 bytes, whether they
 * are A's rows or B's columns (16 numbers a step, 32 bytes further each) or B's rows
 * (16 a step).  Rows of up to 64 numbers, so there is one run of chunks.  Eight rows
 * begin `apart` bytes after the eight before. */
__device__ inline uint64_t matrix_of_wide_rows(uint32_t address, uint32_t apart = 1024)
{
    constexpr uint32_t permuted_128 = 1;
    return (uint64_t)(address >> 4 | 1u << 16) |
           (uint64_t)(apart >> 4 | permuted_128 << 30) << 32;
}
/* The same of rows of 32 bytes. */
__device__ inline uint64_t matrix_of_narrow_rows(uint32_t address)
{
    constexpr uint32_t eight_rows = 256, permuted_32 = 3;
    return (uint64_t)(address >> 4 | 1u << 16) |
           (uint64_t)(eight_rows >> 4 | permuted_32 << 30) << 32;
}
/* The same matrix from so many bytes further on: an addition, where an address anew
 * would be shifted and masked for each product, in the way of the next one. */
__device__ inline uint64_t matrix_further(uint64_t matrix, uint32_t bytes)
{
    return matrix >> 32 << 32 | (uint32_t)((uint32_t)matrix + (bytes >> 4));
}

/* Registers may have been written since: no product begins before. */
__device__ inline void begin_products()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/* Those begun since the last such call are a group. */
__device__ inline void end_group_of_products()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Wait for all groups but the last `others`. */
template <int others> __device__ inline void wait_for_products()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(others) : "memory");
}
/* These sums have been waited for: the compiler may read them from here on. */
template <int groups> __device__ inline void have_sums(float (&sum)[groups][4])
{
#pragma unroll
    for (int i = 0; i < groups; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            asm volatile("" : "+f"(sum[i][e])::"memory");
}

/* What has been written to shared memory is there for products and the copy engine. */
__device__ inline void publish_shared()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* The warpgroup's threads have so many registers from here on: more, or fewer. */
template <int count, bool more> __device__ inline void set_registers()
{
    if constexpr (more)
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
    else
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

/* Products whose B has so many columns. */
template <class T, int columns> struct WarpgroupProduct;

#define SUMS_OF_4(d, i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define SUMS_OF_64(d)                                                   \
    SUMS_OF_4(d, 0), SUMS_OF_4(d, 1), SUMS_OF_4(d, 2), SUMS_OF_4(d, 3), \
        SUMS_OF_4(d, 4), SUMS_OF_4(d, 5), SUMS_OF_4(d, 6), SUMS_OF_4(d, 7)
#define SUMS_OF_80(d) SUMS_OF_64(d), SUMS_OF_4(d, 8), SUMS_OF_4(d, 9)
#define SUMS_OF_88(d) SUMS_OF_80(d), SUMS_OF_4(d, 10)
#define NUMBERS_OF_64                                                         \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NUMBERS_OF_80 NUMBERS_OF_64 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define NUMBERS_OF_88 NUMBERS_OF_80 ", %40, %41, %42, %43"

/* Operand numbers after those of the sums: n, n + 1, ... */
#define WARPGROUP_PRODUCT(T, type, columns, n, n1, n2, n3, n4, n5, n6)                 \
    template <> struct WarpgroupProduct<T, columns> {                                  \
        /* sum = A B + sum, or A B alone; B's rows are rows in memory where it is      \
         * `upright`, else its columns are. */                                         \
        template <bool upright>                                                        \
        __device__ static void multiply(float (&sum)[columns / 8][4],                  \
                                        const uint32_t (&a)[4], uint64_t b, bool adds) \
        {                                                                              \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #n5 ", 0;\n"             \
                         "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type  \
                         "." type " " NUMBERS_OF_##columns                             \
                         "}, {%" #n ", %" #n1 ", %" #n2 ", %" #n3 "}, %" #n4           \
                         ", p, 1, 1, %" #n6 ";\n}"                                     \
                         : SUMS_OF_##columns(sum)                                      \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),         \
                           "r"((int)adds), "n"(upright ? 1 : 0));                      \
        }                                                                              \
        /* The same with A in memory; columns of B are rows there. */                  \
        __device__ static void multiply(float (&sum)[columns / 8][4], uint64_t a,      \
                                        uint64_t b, bool adds)                         \
        {                                                                              \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #n2 ", 0;\n"             \
                         "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type  \
                         "." type " " NUMBERS_OF_##columns "}, %" #n ", %" #n1         \
                                                           ", p, 1, 1, 0, 0;\n}"       \
                         : SUMS_OF_##columns(sum)                                      \
                         : "l"(a), "l"(b), "r"((int)adds));                            \
        }                                                                              \
    }

WARPGROUP_PRODUCT(__nv_bfloat16, "bf16", 64, 32, 33, 34, 35, 36, 37, 38);
WARPGROUP_PRODUCT(__half, "f16", 64, 32, 33, 34, 35, 36, 37, 38);
WARPGROUP_PRODUCT(__nv_bfloat16, "bf16", 88, 44, 45, 46, 47, 48, 49, 50);
WARPGROUP_PRODUCT(__half, "f16", 88, 44, 45, 46, 47, 48, 49, 50);

#undef WARPGROUP_PRODUCT
#undef NUMBERS_OF_88
#undef NUMBERS_OF_80
#undef NUMBERS_OF_64
#undef SUMS_OF_88
#undef SUMS_OF_80
#undef SUMS_OF_64
#undef SUMS_OF_4

} // namespace natten

#endif
