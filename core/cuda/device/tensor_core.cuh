/* SPDX-License-Identifier: MIT
 *
 * Instructions that C++ has no words for, a function each (PTX ISA, chapter 9): copies
 * from global to shared memory that nobody waits for, and products of 16-bit matrices.
 * All exist from sm_80 on.
 *
 * A product takes 16 rows A of 16 numbers and 8 columns B, and adds to C in fp32.  Lane
 * l holds, with r = l / 4 and t = l % 4,
 *
 *     C   rows r and r + 8, columns 2t and 2t + 1:   c[0] c[1]   c[2] c[3]
 *     A   rows r, r + 8, r, r + 8; columns 2t.. of the left half, then of the right
 *     B   rows 2t.. and 2t + 8.. of column r
 *
 * so C, packed in pairs, is A of a next product. */
#ifndef NATTEN_CUDA_DEVICE_TENSOR_CORE_CUH
#define NATTEN_CUDA_DEVICE_TENSOR_CORE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

namespace natten {

__device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Begin to copy 16 bytes past the first-level cache; zeros if there is nothing. */
__device__ inline void copy16(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}

__device__ inline void copy4(uint32_t to, const void *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from)
                 : "memory");
}

/* Wait for all copies that this thread has begun. */
__device__ inline void wait_for_copies()
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* Four 8 x 8 matrices: lane 8 m + i says where row i of matrix m is. */
__device__ inline void load_matrices(uint32_t *r, uint32_t row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row));
}

__device__ inline void load_transposed(uint32_t *r, uint32_t row)
{
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"(row));
}

template <class T> constexpr bool is_bfloat16 = false;
template <> constexpr bool is_bfloat16<__nv_bfloat16> = true;

/* d = a b + c. */
template <class T>
__device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                uint32_t b1, const float (&c)[4]);
template <>
__device__ inline void multiply<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
                                               uint32_t b0, uint32_t b1,
                                               const float (&c)[4])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]),
          "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
template <>
__device__ inline void multiply<__half>(float (&d)[4], const uint32_t (&a)[4],
                                        uint32_t b0, uint32_t b1, const float (&c)[4])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]),
          "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
/* d += a b. */
template <class T>
__device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                uint32_t b1)
{
    multiply<T>(d, a, b0, b1, d);
}

/* Two numbers rounded, `low` at the lower address. */
template <class T> __device__ inline uint32_t pack(float low, float high);
template <> __device__ inline uint32_t pack<__nv_bfloat16>(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
template <> __device__ inline uint32_t pack<__half>(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

/* Both numbers of a pair. */
template <class T> __device__ inline float2 unpack(uint32_t pair);
template <> __device__ inline float2 unpack<__nv_bfloat16>(uint32_t pair)
{
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}
template <> __device__ inline float2 unpack<__half>(uint32_t pair)
{
    return __half22float2(reinterpret_cast<const __half2 &>(pair));
}

/* 2^x within 2 units in the last place; subnormal results are 0. */
__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Over the four lanes that hold one row of C. */
__device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/* 4 x 4 words of a quad transposed: lane t gets word t of lanes 0..3. */
__device__ inline void quad_transpose(uint32_t (&w)[4])
{
    bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? w[i] : w[i + 1], 1);
        w[i] = odd ? other : w[i];
        w[i + 1] = odd ? w[i + 1] : other;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, high ? w[i] : w[i + 2], 2);
        w[i] = high ? other : w[i];
        w[i + 2] = high ? w[i + 2] : other;
    }
}

} // namespace natten

#endif
