/* SPDX-License-Identifier: MIT
 *
 * Instructions that C++ has no words for, a function each (PTX ISA, chapter 9): copies
 * from global to shared memory that nobody waits for, and products of matrices.
 * All exist from sm_80 on.
 *
 * A product of 16-bit types takes 16 rows A of 16 numbers and 8 columns B, and adds to
 * C in fp32.  Lane l holds, with r = l / 4 and t = l % 4,
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

/* Begin to copy 16 bytes past the first-level cache; if there is nothing, zeros, and
 * `from` is not read. */
__device__ inline void copy16(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}

__device__ inline void copy16(uint32_t to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from)
                 : "memory");
}

__device__ inline void copy8(uint32_t to, const void *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from)
                 : "memory");
}

__device__ inline void copy8(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 8 : 0)
                 : "memory");
}

__device__ inline void copy4(uint32_t to, const void *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from)
                 : "memory");
}

__device__ inline void copy4(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 4 : 0)
                 : "memory");
}

template <class S> __device__ inline void copy_number(uint32_t to, const void *from)
{
    if constexpr (sizeof(S) == 8)
        copy8(to, from);
    else
        copy4(to, from);
}

/* ---- the copy engine, from sm_90 on; elsewhere nobody calls these ---- */

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr bool has_copy_engine = true;
#else
constexpr bool has_copy_engine = false;
#endif

/* A barrier at which so many threads arrive, and bytes. */
__device__ inline void barrier_make(uint32_t barrier, uint32_t threads)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(threads)
                 : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    (void)barrier, (void)threads;
#endif
}
/* Arrive once all copies that this thread has begun are done. */
__device__ inline void barrier_follow_copies(uint32_t barrier)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier)
                 : "memory");
}
__device__ inline void barrier_expect(uint32_t barrier, uint32_t bytes)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
        "r"(bytes)
        : "memory");
#else
    (void)barrier, (void)bytes;
#endif
}
/* Wait for the end of the phase of that parity. */
template <int further = 0>
__device__ inline void barrier_wait(uint32_t barrier, uint32_t parity)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    uint32_t done;
    do {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1 + %3], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(barrier), "r"(parity), "n"(further)
                     : "memory");
    } while (done == 0);
#else
    (void)barrier, (void)parity;
#endif
}
/* Arrive; is it the last to, which ends the phase of that parity? Then what the others
 * did before has happened. */
__device__ inline bool barrier_is_last(uint32_t barrier, uint32_t parity)
{
    uint32_t missing = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("{\n.reg .b64 before;\n"
                 "mbarrier.arrive.shared::cta.b64 before, [%1];\n"
                 "mbarrier.pending_count.b64 %0, before;\n}"
                 : "=r"(missing)
                 : "r"(barrier)
                 : "memory");
    if (missing == 1)
        barrier_wait(barrier, parity);
#else
    (void)barrier, (void)parity;
#endif
    return missing == 1;
}
/* One lane of a warp that is together, of which the compiler knows that. */
__device__ inline bool is_elected()
{
    uint32_t elected = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\n"
                 "selp.u32 %0, 1, 0, p;\n}"
                 : "=r"(elected));
#endif
    return elected != 0;
}
/* So many threads of the block meet; 0 is all of it. */
__device__ inline void meet(int number, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

__device__ inline void barrier_arrive(uint32_t barrier)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#else
    (void)barrier;
#endif
}
/* Begin to copy the box of a map at these coordinates, innermost first. */
__device__ inline void copy_box(uint32_t to, const void *map, uint32_t barrier,
                                const int32_t (&at)[5])
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_"
        "tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]),
        "r"(at[4])
        : "memory");
#else
    (void)to, (void)map, (void)barrier, (void)at;
#endif
}

/* Wait for all copies that this thread has begun. */
__device__ inline void wait_for_copies()
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* To the second-level cache. */
__device__ inline void bring_nearer(const void *from)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from) : "memory");
}

/* The copies that this thread has begun since the last such call are a group. */
__device__ inline void end_group_of_copies()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Wait for all groups but the last. */
__device__ inline void wait_for_all_but_one_group()
{
    asm volatile("cp.async.wait_group 1;" ::: "memory");
}

/* 8 bytes at `from` + `further`, loaded where it says so. */
__device__ inline int64_t load_word(uint32_t from, int further)
{
    int64_t x;
    asm volatile("ld.shared.b64 %0, [%1];"
                 : "=l"(x)
                 : "r"(from + (uint32_t)further)
                 : "memory");
    return x;
}

/* To global memory. */
__device__ inline void store_words(void *to, uint32_t low, uint32_t high)
{
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(low), "r"(high)
                 : "memory");
}
__device__ inline void store_four_words(void *to, const uint4 &w)
{
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(w.x),
                 "r"(w.y), "r"(w.z), "r"(w.w)
                 : "memory");
}
__device__ inline void store_float(void *to, float x)
{
    asm volatile("st.global.f32 [%0], %1;" ::"l"(to), "f"(x) : "memory");
}

/* Add to four numbers next to each other, in whatever order with others who do. */
__device__ inline void add_floats(float *to, float x, float y, float z, float w)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x),
                 "f"(y), "f"(z), "f"(w)
                 : "memory");
#else
    atomicAdd(to, x), atomicAdd(to + 1, y), atomicAdd(to + 2, z), atomicAdd(to + 3, w);
#endif
}

__device__ inline void store_shared(uint32_t to, uint32_t word)
{
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
}

__device__ inline float load_float(uint32_t from)
{
    float x;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(from));
    return x;
}

__device__ inline uint32_t load_uint(uint32_t from)
{
    uint32_t x;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(x) : "r"(from));
    return x;
}

/* The same of what the thread may have written. */
__device__ inline uint32_t load_uint_now(uint32_t from)
{
    uint32_t x;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(x) : "r"(from) : "memory");
    return x;
}

__device__ inline uint2 load_uints(uint32_t from)
{
    uint2 x;
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(x.x), "=r"(x.y) : "r"(from));
    return x;
}

__device__ inline float2 load_floats(uint32_t from)
{
    float2 x;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                 : "=f"(x.x), "=f"(x.y)
                 : "r"(from)
                 : "memory");
    return x;
}

__device__ inline float4 load_four_floats(uint32_t from)
{
    float4 x;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "r"(from)
                 : "memory");
    return x;
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

/* Four 8 x 8 matrices in C's layout: lane 8 m + i says where row i of matrix m goes.
 * From sm_90 on. */
__device__ inline void store_matrices(uint32_t row, const uint32_t (&r)[4])
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
        "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
        : "memory");
#else
    (void)row, (void)r;
#endif
}

/* 16 bytes of shared memory. */
__device__ inline double2 load_doubles(uint32_t from)
{
    double2 x;
    asm volatile("ld.shared.v2.f64 {%0, %1}, [%2];" : "=d"(x.x), "=d"(x.y) : "r"(from));
    return x;
}

/* The same. */
__device__ inline uint4 load_words(uint32_t from)
{
    uint4 w;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.x), "=r"(w.y), "=r"(w.z), "=r"(w.w)
                 : "r"(from));
    return w;
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

/* Numbers of fp32 in memory that are rounded to tf32 for products. */
struct Tf32 {
    float x;
};

/* To nearest; NaN stays NaN. */
__device__ inline uint32_t round_to_tf32(float x)
{
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
}

/* d = a b + c of tf32: 8 columns of A.  Lane l holds of A rows r, r + 8, r, r + 8 of
 * columns t, t, t + 4, t + 4; of B rows t and t + 4 of column r.  The last 13 bits are
 * not looked at. */
template <>
__device__ inline void multiply<Tf32>(float (&d)[4], const uint32_t (&a)[4],
                                      uint32_t b0, uint32_t b1, const float (&c)[4])
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]),
          "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
template <>
__device__ inline void multiply<float>(float (&d)[4], const uint32_t (&a)[4],
                                       uint32_t b0, uint32_t b1, const float (&c)[4])
{
    multiply<Tf32>(d, a, b0, b1, c);
}

/* The same of doubles.  Before sm_90 a product has 8 rows and 4 columns of A. */
__device__ inline void multiply(double (&d)[4], const double (&a)[4], double b0,
                                double b1, const double (&c)[4])
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=d"(d[0]), "=d"(d[1]), "=d"(d[2]), "=d"(d[3])
        : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b0), "d"(b1), "d"(c[0]),
          "d"(c[1]), "d"(c[2]), "d"(c[3]));
#else
#pragma unroll
    for (int r = 0; r < 2; r++) {
        double sum[2] = {c[2 * r], c[2 * r + 1]};
#pragma unroll
        for (int k = 0; k < 2; k++)
            asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 "
                "{%0, %1}, {%2}, {%3}, {%0, %1};"
                : "+d"(sum[0]), "+d"(sum[1])
                : "d"(a[r + 2 * k]), "d"(k == 0 ? b0 : b1));
        d[2 * r] = sum[0], d[2 * r + 1] = sum[1];
    }
#endif
}

/* d = a b + c of bfloat16, with 8 columns of A: a[0] of row r, a[1] of row r + 8, both
 * of columns 2t and 2t + 1; b of rows 2t and 2t + 1 of column r. */
__device__ inline void multiply_half(float (&d)[4], uint32_t a0, uint32_t a1,
                                     uint32_t b, const float (&c)[4])
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a0), "r"(a1), "r"(b), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
/* The same of either type. */
template <class T>
__device__ inline void multiply_eight(float (&d)[4], uint32_t a0, uint32_t a1,
                                      uint32_t b, const float (&c)[4])
{
    if constexpr (is_bfloat16<T>)
        multiply_half(d, a0, a1, b, c);
    else
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a0), "r"(a1), "r"(b), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
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

constexpr float log2_e = 1.4426950408889634f, log_2 = 0.6931471805599453f;
/* The same of doubles. */
template <class S> constexpr S log2_of_e = S(1.442695040888963407);
template <class S> constexpr S log_of_2 = S(0.693147180559945309);

/* d = a b + c of both numbers of pairs. */
template <class T>
__device__ inline uint32_t multiply_pair(uint32_t a, uint32_t b, uint32_t c);
template <>
__device__ inline uint32_t multiply_pair<__nv_bfloat16>(uint32_t a, uint32_t b,
                                                        uint32_t c)
{
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
template <>
__device__ inline uint32_t multiply_pair<__half>(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

/* 2^x within 2 units in the last place; subnormal results are 0. */
__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline double exp2_fast(double x)
{
    return exp2(x);
}

/* 1 / x within 1 unit in the last place. */
__device__ inline float inverse_of(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline double inverse_of(double x)
{
    return 1 / x;
}

/* Its logarithm to base 2 of a positive normal number, within 2^-22 and a unit in the
 * last place: the power of two is taken out first. */
__device__ inline float log2_fast(float x)
{
    constexpr uint32_t least = 0x3f3504f3; /* the root of 1/2 */
    uint32_t bits = __float_as_uint(x), power = (bits - least) & 0xff800000u;
    float y, rest = __uint_as_float(bits - power);
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(rest));
    return fmaf((float)(int32_t)power, 0x1p-23f, y);
}

/* The larger; NaN if either is. */
__device__ inline float larger_or_nan(float x, float y)
{
    float z;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}

/* The smaller; NaN if either is. */
__device__ inline float smaller_or_nan(float x, float y)
{
    float z;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}

/* lse to base 2; of a row that sees nothing any number, so that nothing gets weight. */
__device__ inline float lse_of(float lse)
{
    return larger_or_nan(lse, -0x1p60f) * log2_e;
}

/* Sums of products begin at 0. */
template <class S, int count> __device__ inline void clear_sums(S (&sum)[count][4])
{
#pragma unroll
    for (int j = 0; j < count; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            sum[j][e] = 0;
}

/* Over the four lanes that hold one row of C. */
template <class S> __device__ inline S quad_sum(S x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
template <class S> __device__ inline S quad_max(S x)
{
    x = fmax(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmax(x, __shfl_xor_sync(0xffffffffu, x, 2));
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

/* Pairs of words of lanes 2i and 2i + 1 exchanged: the first gets both's words 0 and 2,
 * the second both's words 1 and 3. */
__device__ inline void pair_exchange(uint32_t (&w)[4])
{
    bool odd = threadIdx.x & 1;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? w[i] : w[i + 1], 1);
        w[i] = odd ? other : w[i];
        w[i + 1] = odd ? w[i + 1] : other;
    }
}

/* Words of the lanes of a quad exchanged: its n-th lane gets all their n-th words. */
__device__ inline void quad_exchange(uint32_t (&w)[4])
{
    pair_exchange(w);
    bool second = threadIdx.x & 2;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, second ? w[i] : w[i + 2], 2);
        w[i] = second ? other : w[i];
        w[i + 2] = second ? w[i + 2] : other;
    }
}

} // namespace natten

#endif
