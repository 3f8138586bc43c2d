/* SPDX-License-Identifier: MIT
 *
 * The order of things in a block of the halo kernels (device/halo_tile.cuh has the
 * words): copies ahead of products, one barrier a step. */
#ifndef NATTEN_CUDA_DEVICE_HALO_WALK_CUH
#define NATTEN_CUDA_DEVICE_HALO_WALK_CUH

#include "cuda/device/halo_copies.cuh"

namespace natten {

/* What a pass over subtiles does with the pairs of a step, and when a unit begins and
 * ends, is up to Pass; this is the order of things.
 *
 *     copies    slice 0 | slice 1 | slice 2 | ...      into two stages in turn
 *     products          | slice 0 | slice 1 | ...
 *     rows of the next unit are on their way while a unit is worked on      */
template <class Pass> __device__ inline void walk_units(Pass &pass)
{
    auto &tile = pass.tile;
    HaloStep step = tile.first_step();
    int32_t all = tile.halo()->end;
    const natten_cuda_halo_warp *w = tile.info();
    HaloStep next = step;
    tile.advance(next);
    tile.template find_slices<Pass>(0, step);
    tile.template find_slices<Pass>(1, next);
    tile.template find_rows<Pass>(0, step.first_unit);
    tile.template find_rows<Pass>(1, tile.next_units(step));
    __syncthreads();
    bool busy = w->exists != 0; /* else the warp only helps to copy */
    if (busy)
        pass.copy_rows(0);
    pass.copy_step(0, step);
    uint32_t parity = 0;
    for (int stage = 0; step.first_unit < all; stage ^= 1) {
        wait_for_copies();
        __syncthreads();
        if (next.first_unit < all)
            pass.copy_step(stage ^ 1, next);
        tile.advance(next);
        tile.template find_slices<Pass>(stage, next);
        if (tile.uses_engine())
            barrier_wait(tile.ready(stage), parity);
        parity ^= (uint32_t)stage;
        if (tile.is_first_of_unit(step)) {
            int turn = tile.next_turn(tile.turn);
            if (busy) {
                pass.begin();
                __syncwarp();
                if (tile.next_units(step) < all)
                    pass.copy_rows(turn);
            }
            tile.template find_rows<Pass>(tile.next_turn(turn),
                                          tile.units_after_next(step));
        }
        if (step.plane >= w->plane_begin && step.plane < w->plane_end &&
            step.first_unit + tile.unit() < all) {
            int r = tile.lane / 4;
            const natten_cuda_halo_row &a = w->row[r], &b = w->row[r + 8];
            bool upper = step.plane >= a.plane_begin && step.plane < a.plane_end;
            bool lower = step.plane >= b.plane_begin && step.plane < b.plane_end;
            int32_t first = w->first_pair[step.slice];
            pass.take(stage, step, first, w->first_pair[step.slice + 1] - first,
                      (upper ? 0 : hides_upper) | (lower ? 0 : hides_lower));
        }
        if (tile.is_last_of_unit(step)) {
            if (busy && step.first_unit + tile.unit() < all)
                pass.end();
            tile.turn = tile.next_turn(tile.turn);
        }
        tile.advance(step);
    }
    __syncwarp();
    pass.again();
}

template <class Pass> __device__ inline void walk_halo(Pass &pass)
{
    bool exists = pass.tile.template open<Pass>();
    exists = exists && pass.tile.halo()->begin < pass.tile.halo()->end;
    if (exists)
        walk_units(pass);
    pass.finish(exists);
}

} // namespace natten

#endif
