/* SPDX-License-Identifier: MIT
 *
 * How the slices of a halo get into shared memory (device/halo_tile.cuh has the words):
 * all threads of a block copy, 16 bytes at a time, and wait for it a step later; or the
 * copy engine does. */
#ifndef NATTEN_CUDA_DEVICE_HALO_COPIES_CUH
#define NATTEN_CUDA_DEVICE_HALO_COPIES_CUH

#include "cuda/device/halo_tile.cuh"

namespace natten {

/* A thread's tokens of a slice, of which a warp copies `tokens` at once: next to each
 * other in as many rows as they fill.  Its first, and how far it is to the next ones.
 */
template <int tokens> struct HaloWalk {
    int32_t x, y, step_x, step_y, width;

    HaloWalk() = default;
    __device__ HaloWalk(int32_t width_, int thread, int warps) : width(width_)
    {
        int32_t token = thread % NATTEN_CUDA_WARP / (NATTEN_CUDA_WARP / tokens);
        int shift = natten_min(32 - __clz(width - 1), log2_tokens());
        step_x = 1 << shift, step_y = warps * tokens >> shift;
        x = token & (step_x - 1);
        y = (int32_t)(thread / NATTEN_CUDA_WARP * tokens + token) >> shift;
    }

  private:
    __device__ static constexpr int log2_tokens()
    {
        int log = 0;
        while (1 << log < tokens)
            log++;
        return log;
    }
};

/* The same by the copy engine.  Past the end of a class it writes zeros. */
template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void
HaloTile<T, dims, side, engine>::fetch_slices(const Pass &, int n, int number,
                                              const HaloStep &s) const
{
    const natten_cuda_halo &h = job.halo;
    int i = lane / 2, which = lane % 2;
    if constexpr (Pass::copies_more) {
        HaloStep then = s;
        advance(then);
        find_slices<Pass>(number == 2 ? 0 : number + 1, then, lane);
        __syncwarp();
    }
    expect_slices(n);
    __syncwarp();
    if (i < h.units) {
        int32_t at[5];
        const natten_cuda_map *map = &job.map[which][halo()->aim.kind];
        aim_at(s, i, which, at);
        copy_box(stage_of(n, i) + (uint32_t)(which * h.box_bytes), map, ready(n), at);
    }
}

template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::begin_fetch(int n,
                                                                    int turn_) const
{
    const natten_cuda_halo &h = job.halo;
    int i = lane / 2, which = lane % 2;
    if (i >= h.units || (i & h.twins) != 0) /* a twin comes with the one before */
        return;
    const natten_cuda_halo_unit &unit_ = halo()->ahead[turn_ + i];
    const int32_t at[5] = {unit_.inner[which], unit_.first[2], unit_.first[1],
                           unit_.first[0], unit_.batch};
    copy_box(stage_of(n, i) + (uint32_t)(which * h.box_bytes),
             &job.map[which][halo()->aim.kind], ready(n), at);
}

template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::expect_slices(int n) const
{
    const natten_cuda_halo &h = job.halo;
    if (lane == 0)
        barrier_expect(ready(n),
                       (uint32_t)(2 * h.units * h.rows * h.pitch * row_bytes));
}

template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::copy_slice(
    int n, const HaloStep &s, natten_role left_role, natten_role right_role) const
{
    const natten_cuda_job &now = fresh(job);
    const natten_cuda_halo &h = now.halo;
    const int32_t rows = now.task.axis[1].dilation,
                  columns_ = now.task.axis[2].dilation;
    constexpr int32_t size = sizeof(T);
    Source<T> left(now, left_role), right(now, right_role);
    /* The planner has seen that a slice's extent fits 32 bits. */
    int32_t l_row = (int32_t)left.view->axis[1] * rows * size,
            l_column = (int32_t)left.view->axis[2] * columns_ * size,
            r_row = (int32_t)right.view->axis[1] * rows * size,
            r_column = (int32_t)right.view->axis[2] * columns_ * size;
    bool both = left.vector && right.vector;
    int32_t chunk = threadIdx.x % chunks, from = chunk * strip;
    bool in_left = from < left.count, in_right = from < right.count;
    int32_t height = slice_rows(s.slice);
    HaloWalk<NATTEN_CUDA_WARP / chunks> walk(halo()->place.count[2], threadIdx.x,
                                             NATTEN_CUDA_WARPS);
    int32_t l_step = walk.step_x * l_column, r_step = walk.step_x * r_column;
    for (int i = 0; i < h.units; i++) {
        uint32_t to = stage_of(n, i);
        const char *l_base = halo()->partner_base[n][i][0] + walk.x * l_column;
        const char *r_base = halo()->partner_base[n][i][1] + walk.x * r_column;
        if (both) {
            l_base += in_left ? from * size : 0;
            r_base += in_right ? from * size : 0;
        }
        for (int32_t y = walk.y; y < height; y += walk.step_y) {
            const char *l = l_base + y * l_row, *r = r_base + y * r_row;
            int32_t token = y * h.pitch + walk.x, x = walk.x;
#pragma unroll 2
            for (; both && x < walk.width; x += walk.step_x) {
                uint32_t place = to + permute(token, chunk);
                copy16(place, l, in_left);
                copy16(place + (uint32_t)h.box_bytes, r, in_right);
                token += walk.step_x, l += l_step, r += r_step;
            }
            for (; x < walk.width; x += walk.step_x) {
                uint32_t place = to + permute(token, chunk);
                left.copy(place, reinterpret_cast<const T *>(l), chunk);
                right.copy(place + (uint32_t)h.box_bytes,
                           reinterpret_cast<const T *>(r), chunk);
                token += walk.step_x, l += l_step, r += r_step;
            }
        }
    }
}

template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::copy_stats(
    int n, const HaloStep &s, const HaloWalk<NATTEN_CUDA_WARP> &walk) const
{
    constexpr int size = sizeof(float2);
    const natten_cuda_job &now = fresh(job);
    const natten_cuda_halo &h = now.halo;
    const natten_task &task = now.task;
    const int32_t rows = task.axis[1].dilation, columns_ = task.axis[2].dilation;
    int32_t column = (int32_t)task.heads * size * columns_,
            row = (int32_t)task.heads * size * task.axis[2].query_count * rows;
    int32_t height = slice_rows(s.slice);
#pragma unroll 1
    for (int i = 0; i < h.units; i++) {
        uint32_t to = more_of(n, i) + (uint32_t)h.stats_at;
        const char *base = halo()->partner_base[n][i][2];
        for (int32_t y = walk.y; y < height; y += walk.step_y)
            for (int32_t x = walk.x; x < walk.width; x += walk.step_x) {
                uint32_t place = to + (uint32_t)((y * h.pitch + x) * size);
                copy8(place, base + (y * row + x * column));
            }
    }
}

template <class T, int dims, Side side, bool engine>
__device__ inline void
HaloTile<T, dims, side, engine>::copy_bias(int n, const HaloStep &s, int thread,
                                           int warps) const
{
    const natten_cuda_job &now = fresh(job);
    const natten_cuda_halo &h = now.halo;
    const natten_task &task = now.task;
    const natten_view &bias = task.view[NATTEN_BIAS];
    const int32_t height = 2 * task.axis[1].window - 1,
                  width = 2 * task.axis[2].window - 1;
    bool compact = bias.axis[2] == 1 && bias.axis[1] == width &&
                   bias.axis[0] == (int64_t)width * height;
    for (int i = 0; i < h.units; i++) {
        int32_t batch, head;
        unit_of(s, i, batch, head);
        if (side == Side::queries) /* the query's own head, not that of its key */
            batch_of(natten_min(s.first_unit + i, halo()->end - 1), head);
        uint32_t to = more_of(n, i) + (uint32_t)(h.bias_at + 4 * h.bias_pad);
        const float *first = static_cast<const float *>(bias.data) + head * bias.head;
        for (int32_t e = thread; e < (int32_t)now.entries;
             e += warps * NATTEN_CUDA_WARP) {
            int64_t offset = e;
            if (!compact)
                offset = e / width / height * bias.axis[0] +
                         e / width % height * bias.axis[1] + e % width * bias.axis[2];
            copy4(to + (uint32_t)e * 4, first + offset);
        }
    }
}

/* Where an entry of bias lies, from the first of its head. */
__device__ inline int64_t entry_offset(const natten_task &task, int32_t entry)
{
    const natten_view &bias = task.view[NATTEN_BIAS];
    const int32_t height = 2 * task.axis[1].window - 1,
                  width = 2 * task.axis[2].window - 1;
    return entry / width / height * bias.axis[0] +
           entry / width % height * bias.axis[1] + entry % width * bias.axis[2];
}

template <class T, int dims, Side side, bool engine>
__device__ inline void
HaloTile<T, dims, side, engine>::put_bias(int n, int turn_, int thread, int warps) const
{
    const natten_cuda_job &now = fresh(job);
    const natten_view &bias = now.task.view[NATTEN_BIAS];
    for (int i = 0; i < now.halo.units; i++) {
        int32_t head = halo()->ahead[turn_ + i].head;
        float *to = static_cast<float *>(__cvta_shared_to_generic(more_of(n, i)));
        const float *first = static_cast<const float *>(bias.data) + head * bias.head;
#pragma unroll 1
        for (int32_t e = thread; e < (int32_t)now.entries;
             e += warps * NATTEN_CUDA_WARP) {
            float entry = __ldg(first + entry_offset(now.task, e)) * log2_e;
            int32_t upper = now.halo.bias_pad + e;
            to[2 * upper] = entry, to[2 * (upper + lower_by()) + 1] = entry;
        }
    }
    __threadfence_block();
}

template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::keep_bias() const
{
    const natten_view &bias = job.task.view[NATTEN_BIAS];
    const int32_t pad = job.halo.bias_pad, each = (int32_t)job.entries,
                  all = (int32_t)job.task.heads * each;
    float *to = reinterpret_cast<float *>(halo_shared + job.halo.more_at);
#pragma unroll 1
    for (int32_t i = threadIdx.x; i < 2 * (all + 2 * pad); i += NATTEN_CUDA_THREADS) {
        int32_t at = i / 2 - i % 2 * lower_by() - pad, head = at / each, e = at % each;
        to[i] = 0;
        if (at >= 0 && at < all)
            to[i] = __ldg(static_cast<const float *>(bias.data) + head * bias.head +
                          entry_offset(job.task, e)) *
                    log2_e;
    }
}

} // namespace natten

#endif
