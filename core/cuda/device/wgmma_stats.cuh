/* SPDX-License-Identifier: MIT
 *
 * lse and delta of rows, for the gradients of queries (device/wgmma_tile.cuh has the
 * words): the second bringer of a crew copies them, or works delta out itself, ahead of
 * the crew, and writes it down for the gradients of keys and values. */
#ifndef NATTEN_CUDA_DEVICE_WGMMA_STATS_CUH
#define NATTEN_CUDA_DEVICE_WGMMA_STATS_CUH

#include "cuda/device/halo_rows.cuh"
#include "cuda/device/wgmma_open.cuh"

namespace natten {

/* Of a class along axis `lane`. */
template <class T, natten_cuda_wgmma_pass pass, bool engine>
__device__ inline typename WGMMA_TILE_OF::Queries
WGMMA_TILE_OF::find_queries(int32_t residue) const
{
    const natten_axis &own = job.task.axis[lane % 3];
    Queries q;
    const natten_span all = natten_axis_positions(&own, residue, own.query_begin,
                                                  own.query_count, &q.index);
    q.count = all.end - all.begin;
    return q;
}

/* Where the first row of an item is, and which there are. */
template <class T, natten_cuda_wgmma_pass pass, bool engine>
__device__ inline typename WGMMA_TILE_OF::Spot
WGMMA_TILE_OF::find_spot(int32_t number, Queries &own) const
{
    const int32_t(&tile)[3] = job.wgmma.tile;
    const int32_t digit = Digit(info()->digit[lane % 8]).of(number);
    if (is_dilated())
        own = find_queries(__shfl_sync(all_lanes, digit, lane % 3 + 3));
    const int32_t first = digit * (lane == 0   ? tile[0]
                                   : lane == 1 ? tile[1]
                                               : tile[2]),
                  rest = natten_clamp(own.count - first, 0, 0x7f),
                  place = own.index + first * job.task.axis[lane % 3].dilation;
    const uint32_t limit =
        __reduce_or_sync(all_lanes, lane < 3 ? (uint32_t)(0x7f + rest) << 8 * lane : 0);
    const int32_t at[3] = {__shfl_sync(all_lanes, place, 0),
                           __shfl_sync(all_lanes, place, 1),
                           __shfl_sync(all_lanes, place, 2)};
    Spot spot = {stats_offset(job, __shfl_sync(all_lanes, digit, 7),
                              __shfl_sync(all_lanes, digit, 6), at),
                 {}};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int32_t r = i * NATTEN_CUDA_WARP + lane;
        spot.rows[i] = __ballot_sync(
            all_lanes, r < volume(tile) &&
                           ((limit - info()->query_place[r]) & 0x808080u) == 0x808080u);
    }
    return spot;
}

/* Rows of OUT and of GRAD_OUT, of 128 bytes, follow each other as statistics of 8 do
 * (add_delta() in cuda_plan.c). */
WGMMA_TILE void WGMMA_TILE_OF::ask_for_rows(const Spot &spot) const
{
#pragma unroll
    for (int i = 0; i < 2; i++)
        if ((spot.rows[i] >> lane & 1) != 0) {
            const int64_t row =
                16 * (spot.stats + info()->query_offset[i * NATTEN_CUDA_WARP + lane]);
            bring_nearer(begin_of(job, NATTEN_OUT) + row);
            bring_nearer(begin_of(job, NATTEN_GRAD_OUT) + row);
        }
}

/* Begin to copy lse and minus delta of 32 of an item's rows; zeros where there is none.
 */
WGMMA_TILE void WGMMA_TILE_OF::copy_stats(const Spot &spot, int first) const
{
    const bool exists = ((first == 0 ? spot.rows[0] : spot.rows[1]) >> lane & 1) != 0;
    const int32_t r = first + lane;
    copy8(shared_address(&info()->row_stats[own.stage()][2 * r]),
          begin_of(job, stats_role) +
              (exists ? spot.stats + info()->query_offset[r] : 0),
          exists);
}

/* lse and minus delta of 32 of an item's rows, for the crew and, in job.stats and
 * job.delta, for others: the same sums in the same order as compact_delta()'s
 * (halo_backward.cuh).  Eight lanes have a row, four of them at a time, and each lane
 * what comes out for one. */
WGMMA_TILE void WGMMA_TILE_OF::work_delta_out(const Spot &spot, int first) const
{
    constexpr int strips = NATTEN_CUDA_WGMMA_DIMS / strip,
                  together = NATTEN_CUDA_WARP / strips;
    const natten_view *view = job.task.view;
    const int64_t *offset = &info()->query_offset[first];
    const uint32_t rows = first == 0 ? spot.rows[0] : spot.rows[1];
    const int32_t own_strip = lane % strips, of_turn = lane / strips,
                  mine = own_strip * together + of_turn;
    const bool has_mine = (rows >> mine & 1) != 0;
    const int64_t further = spot.stats + (has_mine ? offset[mine] : 0);
    float lse = 0, grad_lse = 0, delta = 0;
    if (has_mine) {
        lse = __ldg(
            reinterpret_cast<const float *>(begin_of(job, NATTEN_LSE) + further / 2));
        if (view[NATTEN_GRAD_LSE].data != nullptr)
            grad_lse = __ldg(reinterpret_cast<const float *>(
                begin_of(job, NATTEN_GRAD_LSE) + further / 2));
    }
    const char *out = begin_of(job, NATTEN_OUT) + 16 * (spot.stats + own_strip),
               *grad = begin_of(job, NATTEN_GRAD_OUT) + 16 * (spot.stats + own_strip);
#pragma unroll 1
    for (int turn = 0; turn < strips && rows != 0; turn += together) {
        uint4 left[together], right[together];
        float sum[together];
        /* In place of a row that is not there the first. */
#pragma unroll
        for (int i = 0; i < together; i++) {
            const int32_t r = (turn + i) * together + of_turn;
            const int64_t row = (rows >> r & 1) != 0 ? 16 * offset[r] : 0;
            left[i] = __ldg(reinterpret_cast<const uint4 *>(out + row));
            right[i] = __ldg(reinterpret_cast<const uint4 *>(grad + row));
        }
#pragma unroll
        for (int i = 0; i < together; i++)
            sum[i] = strip_sum<T>(left[i], right[i]);
#pragma unroll
        for (int far = strips / 2; far > 0; far /= 2)
#pragma unroll
            for (int i = 0; i < together; i++)
                sum[i] += __shfl_xor_sync(all_lanes, sum[i], far);
#pragma unroll
        for (int i = 0; i < together; i++)
            delta = own_strip == turn + i ? sum[i] : delta;
    }
    delta -= grad_lse, lse = lse_of(lse);
    if (has_mine) {
        store_float(begin_of(job, delta_role) + further / 2, delta);
        store_words(begin_of(job, stats_role) + further, __float_as_uint(lse),
                    __float_as_uint(-delta));
    }
    float *to = &info()->row_stats[own.stage()][2 * (first + mine)];
    to[0] = has_mine ? lse : 0, to[1] = has_mine ? -delta : 0;
}

/* What the bringer's neighbour does for the pass of queries: lse and minus delta of all
 * items' rows, worked out, or copied if delta has a pass of its own.  Rows are on their
 * way to the second-level cache while those of the item before are added up. */
WGMMA_TILE void WGMMA_TILE_OF::bring_stats_of_rows()
{
    const bool works_out = engine && job.halo.writes_delta != 0;
    int32_t number = first_item();
    Queries queries = find_queries(0);
    Spot next = {};
    if (number < job.wgmma.items) {
        next = find_spot(number, queries);
        if (works_out)
            ask_for_rows(next);
    }
    while (number < job.wgmma.items) {
        const Spot spot = next;
        number += item_step();
        if (number < job.wgmma.items) {
            next = find_spot(number, queries);
            if (works_out)
                ask_for_rows(next);
        }
        barrier_wait(item_left(), own.parity() ^ 1);
#pragma unroll 1
        for (int first = 0; first < NATTEN_CUDA_WGMMA_ROWS; first += NATTEN_CUDA_WARP)
            if (works_out)
                work_delta_out(spot, first);
            else
                copy_stats(spot, first);
        if (works_out)
            barrier_arrive(rows_full());
        else
            barrier_follow_copies(rows_full());
        own.next();
    }
}

} // namespace natten

#endif
