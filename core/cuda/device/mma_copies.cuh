/* SPDX-License-Identifier: MIT
 *
 * How rows and boxes of partners get into shared memory (device/mma_tile.cuh has the
 * words): all threads of a block copy, 16 bytes at a time, and wait for it later. */
#ifndef NATTEN_CUDA_DEVICE_MMA_COPIES_CUH
#define NATTEN_CUDA_DEVICE_MMA_COPIES_CUH

#include "cuda/device/mma_tile.cuh"

namespace natten {

/* Rows that can't be read 16 bytes at a time: chunk by chunk, by one thread each. */
template <class T>
__device__ __noinline__ void copy_slowly(uint32_t to, const T *from, int64_t item,
                                         int32_t element, int32_t count)
{
    uint4 word = {0, 0, 0, 0};
    uint16_t *x = reinterpret_cast<uint16_t *>(&word);
#pragma unroll
    for (int e = 0; e < strip; e++)
        if (element + e < count)
            x[e] =
                __ldg(reinterpret_cast<const uint16_t *>(from) + (element + e) * item);
    *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(to)) = word;
}

MMA_TILE void MMA_TILE_OF::copy_rows(int n, natten_role role) const
{
    constexpr int run = Lay::run, each = NATTEN_CUDA_WARP / run;
    const natten_cuda_job &now = fresh(job);
    int32_t count = (int32_t)(n == 0 ? now.task.dim : now.task.dim_v);
    bool vector = (now.vector >> role & 1) != 0;
    int64_t item = now.task.view[role].item;
#pragma unroll 1
    for (int r = lane / run; r < warp_rows; r += each) {
        const char *from = row_at(role, r);
        uint32_t to = own_rows(n) + Lay::place(r, lane % run);
        int32_t width = exists(r) ? count : 0;
#pragma unroll 1
        for (int e = lane % run * strip; e < dims; e += run * strip, to += run * 16) {
            bool some = e < width;
            if (vector)
                copy16(to, from + (some ? e * (int)sizeof(T) : 0), some);
            else
                copy_slowly(to, reinterpret_cast<const T *>(from), item, e, width);
        }
    }
}

MMA_TILE void MMA_TILE_OF::copy_box(int n, const MmaStep &s, int stage) const
{
    constexpr int run = Lay::run, each = NATTEN_CUDA_MMA_THREADS / run;
    const natten_cuda_job &now = fresh(job);
    const natten_cuda_mma &m = now.mma;
    bool is_extra = side == Side::queries && s.extra >= 0;
    uint32_t limit = 0x808080u; /* in each byte, 128 more than the last place */
    const char *origin;
    if (is_extra) {
        origin = info()->extra_base[n] + s.extra * (int64_t)m.extra_step[n];
        limit +=
            (uint32_t)natten_min(columns - 1, (int32_t)now.task.extras - s.extra - 1)
            << 16;
    } else {
        origin = info()->base[n];
#pragma unroll
        for (int a = 0; a < 3; a++) {
            origin += s.at[a] * (int64_t)m.step[n][a];
            limit += (uint32_t)natten_min(m.box[a], info()->count[a] - s.at[a]) - 1
                     << (8 * a);
        }
        if (side == Side::keys)
            origin += s.head * info()->head_step[n];
    }
    natten_role grid = partner_role(n), role = !is_extra ? grid
                                               : n == 0  ? NATTEN_ADDITIONAL_KEYS
                                                         : NATTEN_ADDITIONAL_VALUES;
    int32_t count = (int32_t)(n == 0 ? now.task.dim : now.task.dim_v);
    int32_t first = threadIdx.x / run, within = threadIdx.x % run;
    uint32_t to = partners(n, stage) + Lay::place(first, within);
    const natten_cuda_mma_slot *slot = info()->slot[is_extra] + first;
    if ((now.vector >> role & 1) != 0) {
        /* A copy may change what the compiler knows of shared memory: slots are read
         * ahead of all. */
        int4 own[columns / each]; /* natten_cuda_mma_slot */
#pragma unroll
        for (int i = 0; i < columns / each; i++)
            own[i] = *reinterpret_cast<const int4 *>(slot + i * each);
        origin += within * 16;
#pragma unroll
        for (int i = 0; i < columns / each; i++) {
            bool there = ((limit - (uint32_t)own[i].z) & 0x808080u) == 0x808080u;
            const char *from = origin + (there ? n == 0 ? own[i].x : own[i].y : 0);
#pragma unroll
            for (int c = 0; c < Lay::chunks / run; c++)
                copy16(to + (uint32_t)(i * each * Lay::bytes + c * run * 16),
                       from + c * run * 16,
                       there && (within + c * run) * strip < count);
        }
        return;
    }
#pragma unroll 1
    for (int i = 0; i < columns / each; i++, slot += each) {
        bool there = ((limit - slot->at) & 0x808080u) == 0x808080u;
        const char *from = origin + (there ? slot->offset[n] : 0);
        uint32_t chunk = to + (uint32_t)(i * each * Lay::bytes);
#pragma unroll 1
        for (int e = within * strip; e < dims; e += run * strip, chunk += run * 16)
            copy_slowly(chunk, reinterpret_cast<const T *>(from),
                        now.task.view[role].item, e, there ? count : 0);
    }
}

MMA_TILE void MMA_TILE_OF::copy_stats(const MmaStep &s, int stage) const
{
    int32_t n = threadIdx.x / 2;
    natten_role role = threadIdx.x % 2 == 0 ? NATTEN_LSE : delta_role;
    if (n >= columns)
        return;
    uint32_t slot = info()->slot[0][n].at;
    int32_t at[3];
    bool there = true;
#pragma unroll
    for (int a = 0; a < 3; a++) {
        int32_t d = job.task.axis[a].dilation,
                place = s.at[a] + (slot >> (8 * a) & 0xff);
        there = there && place < info()->count[a];
        at[a] = axis(a).partner_at(axis(a).begin, d) + place * d;
    }
    if (!there || slot == 0x7f7f7fu)
        stats(stage)[threadIdx.x] = 0;
    else
        copy4(shared_address(stats(stage) + threadIdx.x),
              begin_of(job, role) + offset_of(job, role, info()->batch,
                                              info()->head * job.mma.group + s.head,
                                              at));
}

} // namespace natten

#endif
