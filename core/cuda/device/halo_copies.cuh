/* SPDX-License-Identifier: MIT
 *
 * How the slices of a halo get into shared memory (device/halo_tile.cuh has the words):
 * all threads of a block copy, 16 bytes at a time, and wait for it a step later. */
#ifndef NATTEN_CUDA_DEVICE_HALO_COPIES_CUH
#define NATTEN_CUDA_DEVICE_HALO_COPIES_CUH

#include "cuda/device/halo_tile.cuh"

namespace natten {

/* A thread's tokens of a slice: one of every `each`, row by row.  Addresses move along
 * with it, in bytes, instead of being worked out for every token. */
template <int each> struct HaloWalk {
    int32_t y, x, place; /* token of the slice, and its number in shared memory */
    int32_t width, step_y, step_x, step_place, wrap_place;

    __device__ HaloWalk(const natten_cuda_halo_place &box, int32_t pitch, int32_t first)
        : width(box.count[2])
    {
        Divider by(width, box.width_inverse);
        y = by(first, x);
        step_y = by(each, step_x);
        place = y * pitch + x;
        step_place = step_y * pitch + step_x;
        wrap_place = pitch - width;
    }
    /* What lies `row` bytes apart from row to row and `column` from column to column.
     * The planner has seen that a slice's extent fits 32 bits; a step past its last
     * token may wrap around, and is not used. */
    struct Along {
        uint32_t at, step, wrap;
    };
    __device__ Along along(uint32_t row, uint32_t column) const
    {
        return {(uint32_t)y * row + (uint32_t)x * column,
                (uint32_t)step_y * row + (uint32_t)step_x * column,
                row - (uint32_t)width * column};
    }
    __device__ void next(Along &a, Along &b)
    {
        x += step_x;
        place += step_place;
        a.at += a.step, b.at += b.step;
        if (x >= width) {
            x -= width;
            place += wrap_place;
            a.at += a.wrap, b.at += b.wrap;
        }
    }
};

template <class T, int dims, Side side>
__device__ inline void HaloTile<T, dims, side>::copy_slice(int n, const HaloStep &s,
                                                           natten_role left_role,
                                                           natten_role right_role) const
{
    constexpr int each = NATTEN_CUDA_THREADS / chunks;
    const natten_cuda_job &now = fresh(job);
    const natten_cuda_halo &h = now.halo;
    const uint32_t rows = now.task.axis[1].dilation,
                   columns_ = now.task.axis[2].dilation;
    constexpr uint32_t size = sizeof(T);
    Source<T> left(now, left_role), right(now, right_role);
    bool both = left.vector && right.vector;
    int32_t chunk = threadIdx.x % chunks, first = threadIdx.x / chunks;
    int32_t all = slice_tokens(s), from = chunk * strip;
    bool in_left = from < left.count, in_right = from < right.count;
    HaloWalk<each> start(halo()->place, h.pitch, first);
    auto left_start = start.along((uint32_t)left.view->axis[1] * rows * size,
                                  (uint32_t)left.view->axis[2] * columns_ * size);
    auto right_start = start.along((uint32_t)right.view->axis[1] * rows * size,
                                   (uint32_t)right.view->axis[2] * columns_ * size);
    for (int i = 0; i < h.units; i++) {
        uint32_t to =
            shared_address(halo_shared) + (uint32_t)((n * h.units + i) * h.unit_bytes);
        const char *l_base = halo()->partner_base[n][i][0];
        const char *r_base = halo()->partner_base[n][i][1];
        HaloWalk<each> walk = start;
        auto l = left_start, r = right_start;
        if (both) {
            l_base += in_left ? from * size : 0;
            r_base += in_right ? from * size : 0;
#pragma unroll 2
            for (int32_t k = first; k < all; k += each) {
                uint32_t place = to + permute(walk.place, chunk);
                copy16(place, l_base + l.at, in_left);
                copy16(place + (uint32_t)h.box_bytes, r_base + r.at, in_right);
                walk.next(l, r);
            }
            continue;
        }
        for (int32_t k = first; k < all; k += each) {
            uint32_t place = to + permute(walk.place, chunk);
            left.copy(place, reinterpret_cast<const T *>(l_base + l.at), chunk);
            right.copy(place + (uint32_t)h.box_bytes,
                       reinterpret_cast<const T *>(r_base + r.at), chunk);
            walk.next(l, r);
        }
    }
}

template <class T, int dims, Side side>
__device__ inline void HaloTile<T, dims, side>::copy_stats(int n,
                                                           const HaloStep &s) const
{
    constexpr int each = NATTEN_CUDA_THREADS;
    constexpr uint32_t size = sizeof(float);
    const natten_cuda_job &now = fresh(job);
    const natten_cuda_halo &h = now.halo;
    const natten_task &task = now.task;
    const natten_view &lse = task.view[NATTEN_LSE];
    const uint32_t rows = task.axis[1].dilation, columns_ = task.axis[2].dilation;
    const uint32_t column = (uint32_t)task.heads * size,
                   row = column * (uint32_t)task.axis[2].query_count;
    int32_t all = slice_tokens(s);
    HaloWalk<each> start(halo()->place, h.pitch, threadIdx.x);
    for (int i = 0; i < h.units; i++) {
        uint32_t to = shared_address(halo_shared) +
                      (uint32_t)((n * h.units + i) * h.unit_bytes + h.stats_at);
        const char *l_base = halo()->partner_base[n][i][2];
        const char *d_base = halo()->partner_base[n][i][3];
        HaloWalk<each> walk = start;
        auto l = start.along((uint32_t)lse.axis[1] * rows * size,
                             (uint32_t)lse.axis[2] * columns_ * size);
        auto d = start.along(row * rows, column * columns_);
        for (int32_t k = threadIdx.x; k < all; k += each) {
            uint32_t place = to + (uint32_t)walk.place * 8;
            copy4(place, l_base + l.at);
            copy4(place + 4, d_base + d.at);
            walk.next(l, d);
        }
    }
}

template <class T, int dims, Side side>
__device__ inline void HaloTile<T, dims, side>::copy_bias(int n,
                                                          const HaloStep &s) const
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
            batch_of(natten_min(s.first_unit + i, all_units() - 1), head);
        uint32_t to = shared_address(halo_shared) +
                      (uint32_t)((n * h.units + i) * h.unit_bytes + h.bias_at);
        const float *first = static_cast<const float *>(bias.data) + head * bias.head;
        for (int32_t e = threadIdx.x; e < (int32_t)now.entries;
             e += NATTEN_CUDA_THREADS) {
            int64_t offset = e;
            if (!compact)
                offset = e / width / height * bias.axis[0] +
                         e / width % height * bias.axis[1] + e % width * bias.axis[2];
            copy4(to + (uint32_t)e * 4, first + offset);
        }
    }
}

} // namespace natten

#endif
