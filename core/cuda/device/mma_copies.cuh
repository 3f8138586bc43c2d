/* SPDX-License-Identifier: MIT
 *
 * How rows and boxes of partners get into shared memory (device/mma_tile.cuh has the
 * words): all threads of a block copy, 16 bytes at a time, and wait for it later. */
#ifndef NATTEN_CUDA_DEVICE_MMA_COPIES_CUH
#define NATTEN_CUDA_DEVICE_MMA_COPIES_CUH

#include "cuda/device/mma_runs.cuh"

namespace natten {

/* Rows that can't be read 16 bytes at a time: chunk by chunk, by one thread each. */
template <class T>
__device__ __noinline__ void copy_slowly(uint32_t to, const T *from, int64_t item,
                                         int32_t element, int32_t count)
{
    constexpr int numbers = sizeof(uint4) / sizeof(T);
    uint4 word = {0, 0, 0, 0};
    T *x = reinterpret_cast<T *>(&word);
#pragma unroll
    for (int e = 0; e < numbers; e++)
        if (element + e < count)
            x[e] = __ldg(from + (element + e) * item);
    *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(to)) = word;
}

MMA_TILE void MMA_TILE_OF::copy_rows(int n, natten_role role) const
{
    constexpr int run = Lay::run, each = NATTEN_CUDA_WARP / run,
                  own_count = warp_rows / sharing;
    const natten_cuda_job &now = fresh(job);
    int32_t count = (int32_t)(n == 0 ? now.task.dim : now.task.dim_v);
    bool vector = (now.vector >> role & 1) != 0;
    int64_t item = now.task.view[role].item;
#pragma unroll 1
    for (int r = part() * own_count + lane / run; r < (part() + 1) * own_count;
         r += each) {
        const char *from = row_at(role, r);
        uint32_t to = own_rows(n) + Lay::place(r, lane % run);
        int32_t width = exists(r) ? count : 0;
#pragma unroll 1
        for (int e = lane % run * Lay::numbers; e < dims;
             e += run * Lay::numbers, to += run * 16) {
            bool some = e < width;
            if (vector)
                copy16(to, from + (some ? e * (int)sizeof(T) : 0), some);
            else
                copy_slowly(to, reinterpret_cast<const Stored<T> *>(from), item, e,
                            width);
        }
    }
}

MMA_TILE void MMA_TILE_OF::copy_boxes(const Run &r, int stage) const
{
    constexpr int run = Lay::run, each = warps * NATTEN_CUDA_WARP / run;
    constexpr uint32_t other = columns * Lay::bytes; /* from one tensor to the other */
    const natten_cuda_job &now = fresh(job);
    bool is_extra = of_queries && r.head < 0;
    uint32_t limit = limit_of(r);
    int32_t first = threadIdx.x / run, within = threadIdx.x % run;
    uint32_t to = partners(0, stage) + Lay::place(first, within);
    const natten_cuda_mma_slot *slot =
        (is_extra ? info()->extra : info()->slot) + first;
    const int32_t count[2] = {(int32_t)now.task.dim, (int32_t)now.task.dim_v};
    const natten_role role[2] = {is_extra ? NATTEN_ADDITIONAL_KEYS : partner_role(0),
                                 is_extra ? NATTEN_ADDITIONAL_VALUES : partner_role(1)};
    uint32_t both = 1u << role[0] | 1u << role[1];
    const char *from[2];
#pragma unroll
    for (int t = 0; t < 2; t++)
        from[t] = r.origin[t] + at * (int64_t)r.step[t];
    if ((now.vector & both) == both) {
        /* One sum for both tensors' slots, not one for each. */
        for (int t = 0; t < 2; t++) {
            from[t] += within * 16;
            asm volatile("" : "+l"(from[t]));
        }
        /* A copy may change what the compiler knows of shared memory: slots are read
         * ahead of all. */
        int4 own[columns / each]; /* natten_cuda_mma_slot */
#pragma unroll
        for (int i = 0; i < columns / each; i++)
            own[i] = *reinterpret_cast<const int4 *>(slot + i * each);
#pragma unroll
        for (int i = 0; i < columns / each; i++) {
            bool there = exists(limit, (uint32_t)own[i].z);
            const char *at_slot[2] = {from[0] + own[i].x, from[1] + own[i].y};
#pragma unroll
            for (int t = 0; t < 2; t++)
#pragma unroll
                for (int c = 0; c < Lay::chunks / run; c++)
                    copy16(to + (uint32_t)(i * each * Lay::bytes + c * run * 16) +
                               t * other,
                           at_slot[t] + c * run * 16,
                           there && (within + c * run) * Lay::numbers < count[t]);
        }
        return;
    }
#pragma unroll
    for (int t = 0; t < 2; t++)
#pragma unroll 1
        for (int i = 0; i < columns / each; i++) {
            const natten_cuda_mma_slot &own = slot[i * each];
            bool there = exists(limit, own.at);
            const char *row = from[t] + (there ? own.offset[t] : 0);
            uint32_t place = to + (uint32_t)(i * each * Lay::bytes) + t * other;
#pragma unroll 1
            for (int e = within * Lay::numbers; e < dims;
                 e += run * Lay::numbers, place += run * 16)
                copy_slowly(place, reinterpret_cast<const Stored<T> *>(row),
                            now.task.view[role[t]].item, e, there ? count[t] : 0);
        }
}

MMA_TILE void MMA_TILE_OF::copy_stats(const Run &r, int stage) const
{
    int32_t n = threadIdx.x / 2, t = threadIdx.x % 2;
    uint32_t limit = limit_of(r);
    if (n >= columns)
        return;
    if (!exists(limit, info()->slot[n].at))
        stats(stage)[threadIdx.x] = 0;
    else
        copy_number<Sum<T>>(shared_address(stats(stage) + threadIdx.x),
                            (t == 0 ? r.stats[0] : r.stats[1]) +
                                at * info()->stats_step[t][2] + stats_offset);
}

} // namespace natten

#endif
