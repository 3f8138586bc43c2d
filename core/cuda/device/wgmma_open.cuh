/* SPDX-License-Identifier: MIT
 *
 * What a block of the kernels of warpgroups does before its first item
 * (device/wgmma_tile.cuh has the words): barriers, zeros, and what stays the same for
 * all items, where each of them looks it up.  tests/cuda/gpu_judge.c runs it. */
#ifndef NATTEN_CUDA_DEVICE_WGMMA_OPEN_CUH
#define NATTEN_CUDA_DEVICE_WGMMA_OPEN_CUH

#include "cuda/device/wgmma_tile.cuh"

namespace natten {

WGMMA_TILE void WGMMA_TILE_OF::open() const
{
    if (!brings && (volume(job.wgmma.tile) < NATTEN_CUDA_WGMMA_ROWS ||
                    volume(job.wgmma.box) < columns)) {
        uint32_t i = rows(0) + (uint32_t)((warp * NATTEN_CUDA_WARP + lane) * 16);
        for (; i < partners(1, Shape::second); i += warps * NATTEN_CUDA_WARP * 16)
            *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(i)) = {0, 0, 0, 0};
    }
    if (!brings) {
        if (crew == 0)
            make_hot();
        publish_shared();
        /* Nobody brings lse and delta of places that a box has not. */
        float *stats = info()->stats[0][0];
        for (int i = warp * NATTEN_CUDA_WARP + lane;
             !of_queries && i < (int)(sizeof info()->stats / sizeof *stats);
             i += warps * NATTEN_CUDA_WARP)
            stats[i] = 0;
    }
    if (!brings && lane % 4 == 0) {
        /* Sides of tiles are powers of two, so places of rows 8 apart differ along one
         * axis.  First come the two others, then both rows there.  A row that is not
         * there is taken for one that is. */
        const int32_t(&tile)[3] = job.wgmma.tile;
        const uint32_t number = (uint32_t)(tile[0] << 8 | (tile[0] + tile[1]) << 16),
                       own =
                           recalls ? slot_of(tile, warp * warp_rows + lane / 4) : upper,
                       other = recalls ? slot_of(tile, warp * warp_rows + lane / 4 + 8)
                                       : lower,
                       first = own == nowhere ? 0 : own,
                       second = other == nowhere ? first : other;
        const uint32_t of_first = first + number, of_second = second + number;
        int axis = ((first ^ second) & 0xff) != 0     ? 0
                   : ((first ^ second) & 0xff00) != 0 ? 1
                                                      : 2;
        auto along = [](uint32_t of, int a) { return of >> 8 * a & 0xff; };
        info()->places[warp * 8 + lane / 4] = along(of_first, axis == 0 ? 1 : 0) |
                                              along(of_first, axis == 2 ? 1 : 2) << 8 |
                                              along(of_first, axis) << 16 |
                                              along(of_second, axis) << 24;
    }
    if (recalls && !brings && lane == 0)
        info()->items_done[warp] = 0;
    if (!brings && lane % 4 == 0)
        for (int r = lane / 4; r < warp_rows; r += 8) {
            info()->row[warp * warp_rows + r] = offset_of_row(result_role(0), r);
            if (recalls)
                info()->row_place[warp * warp_rows + r] =
                    slot_of(job.wgmma.tile, warp * warp_rows + r);
            if (!of_queries)
                info()->second_row[warp * warp_rows + r] =
                    offset_of_row(result_role(1), r);
        }
    if (brings && bringer == 0)
        make_tables();
    if (!brings && warp + lane == 0) {
        /* Each lane of who tells arrives for what it has told; so does each of who
         * moves where lanes do that, else one. For rows that are queries so do those of
         * the second bringer, when delta is there. */
        constexpr uint32_t lanes = NATTEN_CUDA_WARP, moves = engine ? 1 : lanes,
                           both = tells_apart ? lanes + moves : lanes;
        for (int n = 0; n < 2; n++)
            for (int i = 0; i < (n == 0 ? Shape::first : Shape::second); i++) {
                barrier_make(full(n, i), n == 1       ? moves
                                         : of_queries ? moves + lanes
                                                      : moves + 2 * lanes);
                barrier_make(left(n, i), warps * lanes);
            }
        barrier_make(rows_left(), warps * lanes);
        for (int i = 0; i < 2; i++) {
            barrier_make(shared_address(&info()->rows_full[i]),
                         pass == NATTEN_CUDA_WGMMA_GRAD_QUERY ? both + lanes : both);
            barrier_make(shared_address(&info()->item_left[i]), warps * lanes);
        }
    }
    __syncthreads();
}

/* The hot columns of slots. */
WGMMA_TILE void WGMMA_TILE_OF::make_hot() const
{
    const natten_cuda_wgmma &w = job.wgmma;
    int32_t n = warp * NATTEN_CUDA_WARP + lane;
    uint32_t of = slot_of(w.box, n);
    for (int k = 0; n < columns && k < NATTEN_CUDA_WGMMA_HOT_STEPS; k++) {
        uint32_t word[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            word[i] = 0;
#pragma unroll
            for (int a = 0; a < 4; a++) {
                int32_t column = of == nowhere ? (a == 3 ? w.hot_always : -1)
                                 : a == 3 || w.first_hot[a] < 0
                                     ? -1
                                     : w.first_hot[a] + (int32_t)(of >> 8 * a & 0xff);
                if (column / 2 == 8 * k + i && column >= 0)
                    word[i] |= four << column % 2 * 16;
            }
        }
        uint32_t to = hot(k) + (uint32_t)(n * 32), other = n >> 2 & 1;
        *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(to + 16 * other)) = {
            word[0], word[1], word[2], word[3]};
        *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(to + 16 * (1 - other))) = {
            word[4], word[5], word[6], word[7]};
    }
}

WGMMA_TILE WGMMA_TILE_OF::Digit::Digit(const natten_cuda_job &job, int32_t lane)
    : below(1), count(INT32_MAX), side(1)
{
    const natten_cuda_wgmma &w = job.wgmma;
    constexpr int first =
        pass == NATTEN_CUDA_WGMMA_FORWARD ? 0 : 6; /* tiles, or heads */
    int32_t before = 1, own = 1, product = 1;
    for (int i = first; i < first + 8; i++) {
        int n = i % 8, a = 2 - n / 2, number = n >= 6 ? n : n % 2 == 0 ? a : 3 + a;
        int32_t digits =
            n == 6       ? (int32_t)(of_queries ? job.task.heads : job.task.heads_kv)
            : n == 7     ? (int32_t)job.task.batch
            : n % 2 == 0 ? w.tiles[a]
                         : job.task.axis[a].dilation;
        if (lane == number)
            before = product, own = digits;
        product *= digits;
    }
    if (lane < 3)
        side = Divider(w.box[lane]);
    below = Divider(before), count = Divider(own);
}

/* What bringers look up, ahead of all items. */
WGMMA_TILE void WGMMA_TILE_OF::make_tables() const
{
    if (lane < 8)
        Digit(job, lane).keep(info()->digit[lane]);
    if constexpr (pass != NATTEN_CUDA_WGMMA_FORWARD) {
        const int32_t(&box)[3] = of_queries ? job.wgmma.tile : job.wgmma.box;
        for (int32_t n = lane; n < volume(box); n += NATTEN_CUDA_WARP) {
            uint32_t place = slot_of(box, n);
            int32_t at[3];
            distance_of(place, at);
            info()->query_place[n] = place;
            info()->query_offset[n] = stats_offset(job, 0, 0, at);
        }
    }
}

} // namespace natten

#endif
