/* SPDX-License-Identifier: MIT
 *
 * The order of things in a block of the halo kernels (device/halo_tile.cuh has the
 * words): copies ahead of products, by all threads or by the copy engine. */
#ifndef NATTEN_CUDA_DEVICE_HALO_WALK_CUH
#define NATTEN_CUDA_DEVICE_HALO_WALK_CUH

#include "cuda/device/halo_copies.cuh"
#include "cuda/device/halo_open.cuh"

namespace natten {

/* What a pass over subtiles does with the pairs of a step, and when a unit begins and
 * ends, is up to Pass; this is the order of things.
 *
 *     copies    slice 0 | slice 1 | slice 2 | ...      into two stages in turn
 *     products          | slice 0 | slice 1 | ...
 *     rows of the next unit are on their way while a unit is worked on
 *
 * Where all threads copy, they meet at a barrier in each step. */

/* The warp's pairs of a slice, if there are any. */
template <class Pass>
__device__ inline void take_slice(Pass &pass, int stage, int number,
                                  const HaloStep &step)
{
    auto &tile = pass.tile;
    const natten_cuda_halo_warp *w = tile.info();
    if (step.plane < w->plane_begin || step.plane >= w->plane_end)
        return;
    uint32_t also = 0;
    if (tile.halo()->place.count[0] > 1) {
        int r = tile.lane / 4;
        const natten_cuda_halo_row &a = w->row[r], &b = w->row[r + 8];
        bool upper = step.plane >= a.plane_begin && step.plane < a.plane_end;
        bool lower = step.plane >= b.plane_begin && step.plane < b.plane_end;
        also = (upper ? 0 : hides_upper) | (lower ? 0 : hides_lower);
    }
    int32_t first = w->first_pair[step.slice];
    pass.take(stage, number, step, first, w->first_pair[step.slice + 1] - first, also);
}

/* A step's products of the warp. */
template <class Pass>
__device__ inline void take_step(Pass &pass, int stage, int number,
                                 const HaloStep &step)
{
    if constexpr (Pass::flat)
        pass.take_flat(stage, number, step);
    else
        take_slice(pass, stage, number, step);
}

template <class Pass>
__device__ inline void copy_step(const Pass &pass, int stage, const HaloStep &step)
{
    pass.tile.copy_slice(stage, step, Pass::partner_role(0), Pass::partner_role(1));
    if constexpr (Pass::copies_more)
        pass.copy_more(stage, step, threadIdx.x, NATTEN_CUDA_WARPS);
}

template <class Pass> __device__ inline void walk_by_threads(Pass &pass)
{
    auto &tile = pass.tile;
    HaloStep step = tile.first_step();
    int32_t all = tile.halo()->end;
    HaloStep next = step;
    tile.advance(next);
    tile.template find_slices<Pass>(0, step, threadIdx.x);
    tile.template find_slices<Pass>(1, next, threadIdx.x);
    __syncthreads();
    bool busy = tile.info()->exists != 0; /* else the warp only helps to copy */
    tile.template copy_first_rows<Pass>(pass);
    copy_step(pass, 0, step);
    for (int stage = 0; step.first_unit < all; stage ^= 1) {
        wait_for_copies();
        __syncthreads();
        if (next.first_unit < all)
            copy_step(pass, stage ^ 1, next);
        tile.advance(next);
        tile.template find_slices<Pass>(stage, next, threadIdx.x);
        bool exists = busy && step.first_unit + tile.unit() < all;
        if (busy && tile.is_first_of_unit(step)) {
            pass.begin();
            tile.template copy_next_rows<Pass>(pass, step, all);
        }
        if (exists)
            take_step(pass, stage, stage, step);
        if (tile.is_last_of_unit(step)) {
            if (exists)
                pass.end();
            tile.turn ^= 1;
        }
        tile.advance(step);
    }
}

/* The thread's number among those of warps with rows. */
template <class Tile> __device__ inline int shared_thread(const Tile &tile)
{
    return tile.halo()->rank[tile.warp] * NATTEN_CUDA_WARP + tile.lane;
}

/* Copy a share of a step's statistics and biases. */
template <class Pass>
__device__ inline void copy_share(const Pass &pass, int stage, int number, int turn,
                                  const HaloStep &step)
{
    const auto &tile = pass.tile;
    if constexpr (Pass::looks_ahead)
        pass.copy_ahead(number, turn, shared_thread(tile), (int)tile.halo()->busy);
    else
        pass.copy_more(number, step, shared_thread(tile), (int)tile.halo()->busy);
    barrier_follow_copies(tile.ready(stage));
}

/* Have the copy engine fetch a step's slices. */
template <class Pass>
__device__ inline void fetch_step(const Pass &pass, int stage, int number, int turn,
                                  const HaloStep &step)
{
    if constexpr (Pass::looks_ahead)
        pass.tile.fetch_ahead(stage, turn);
    else
        pass.tile.fetch_slices(pass, stage, number, step);
}

/* Find what is to be known of the units of the step after the next two, and of those
 * after it, by a warp whose turn it is.  Where that takes the place of the last step's,
 * all have to have left it. */
template <class Pass>
__device__ inline void look_ahead(const Pass &pass, int stage, uint32_t parity,
                                  const HaloStep &step, int32_t all)
{
    const auto &tile = pass.tile;
    int turn = tile.turn_after(tile.turn, 3);
    if (turn % NATTEN_CUDA_FOUND != 0) /* in one question with the next it takes more */
        return;
    if (!tile.is_on_duty(turn))
        return;
    int32_t later = step.first_unit +
                    3 * (Pass::keeps_steps ? tile.stride : tile.halo()->unit_stride);
    if (later >= all)
        return;
    if (tile.job.halo.units == NATTEN_CUDA_FOUND && !tile.is_first(step))
        barrier_wait(tile.left(stage ^ 1), stage == 0 ? parity ^ 1 : parity);
    tile.template find_units<Pass>(turn, later);
}

/* The block's first step, and where its units end: not read from where threads might
 * find different ones.  A pass with registers for that keeps how far it is from step to
 * step, too, so that no step waits for shared memory to say so. */
template <class Pass> __device__ inline HaloStep begin_steps(Pass &pass, int32_t &all)
{
    auto &tile = pass.tile;
    HaloStep step = {tile.share_out(all), 0, 0, 0};
    if constexpr (Pass::looks_ahead)
        step.first_unit = tile.halo()->begin, all = tile.halo()->end;
    if constexpr (Pass::keeps_steps) {
        step.first_unit = of_warp(step.first_unit), all = of_warp(all);
        tile.stride = of_warp(tile.halo()->unit_stride);
    }
    return step;
}

/* Where the copy engine does, a warp waits for nothing but slices and its own rows, and
 * the last that is done with a stage's slices has it filled again.
 *
 * All warps copy statistics and biases of the step after.  They go to three places in
 * turn: who works on a step knows that all are done with the one before the last, but
 * not with the last.
 *
 * Where a step is a unit, a pass may look ahead: a warp finds for all what is to be
 * known of the next steps' units.  They take turns, for the last to leave is late
 * already. */
template <class Pass> __device__ inline void walk_by_engine(Pass &pass)
{
    constexpr bool shares = Pass::copies_more;
    auto &tile = pass.tile;
    int32_t all;
    HaloStep step = begin_steps(pass, all), next = step;
    tile.template advance<Pass::keeps_steps>(next);
    if (tile.warp == 0 && !tile.template fetches_early<Pass>()) {
        fetch_step(pass, 0, 0, 0, step);
        if (next.first_unit < all)
            fetch_step(pass, 1, 1, tile.turn_after(0, 1), next);
    }
    if (tile.info()->exists == 0)
        return;
    if constexpr (Pass::prepares)
        pass.prepare(shared_thread(tile), (int)tile.halo()->busy);
    if constexpr (shares)
        if (Pass::is_gradient || !tile.job.halo.keeps_bias)
            copy_share(pass, 0, 0, 0, step);
    tile.template copy_first_rows<Pass>(pass);
    if constexpr (Pass::copies_late) {
        end_group_of_copies();
        if (tile.halo()->begin + tile.unit() < all)
            pass.copy_late(0);
        end_group_of_copies();
    }
    if constexpr (Pass::fetches)
        if (tile.halo()->begin + tile.unit() < all)
            pass.fetch(0);
    uint32_t parity = 0;
    for (int stage = 0, number = 0; step.first_unit < all; stage ^= 1) {
        bool exists = step.first_unit + tile.unit() < all;
        if constexpr (Pass::flat && !Pass::looks_ahead)
            tile.turn = stage;
        if (tile.is_first_of_unit(step)) {
            if constexpr (Pass::copies_late)
                wait_for_all_but_one_group();
            else
                wait_for_copies();
            __syncwarp();
            if (exists)
                pass.begin();
            if constexpr (!Pass::looks_ahead)
                tile.template copy_next_rows<Pass>(pass, step, all);
            if constexpr (Pass::copies_late) {
                end_group_of_copies();
                wait_for_all_but_one_group();
                __syncwarp();
            }
        }
        barrier_wait(tile.ready(stage), parity);
        if constexpr (Pass::looks_ahead) {
            __syncwarp(); /* all lanes have read the unit's own */
            tile.template copy_next_rows<Pass>(pass, step, all);
        }
        int then = number == 2 ? 0 : number + 1;
        if constexpr (shares) {
            next = step;
            tile.template advance<Pass::keeps_steps>(next);
            if (next.first_unit < all &&
                (Pass::is_gradient || !tile.job.halo.keeps_bias))
                copy_share(pass, stage ^ 1, then, tile.turn_after(tile.turn, 1), next);
        }
        if (exists)
            take_step(pass, stage, number, step);
        next = step;
        tile.template advance<Pass::keeps_steps>(next);
        tile.template advance<Pass::keeps_steps>(next);
        if constexpr (Pass::looks_ahead) {
            pass.recall_results();
            look_ahead(pass, stage, parity, step, all);
        }
        if (tile.is_last_to_leave(stage, parity) && next.first_unit < all)
            fetch_step(pass, stage, then == 2 ? 0 : then + 1,
                       tile.turn_after(tile.turn, 2), next);
        if constexpr (Pass::copies_late) { /* the warp has read the unit's own */
            if (tile.next_units(step) + tile.unit() < all)
                pass.copy_late(tile.turn ^ 1);
            end_group_of_copies();
        }
        if (tile.is_last_of_unit(step)) {
            if constexpr (Pass::fetches)
                if (tile.next_units(step) + tile.unit() < all)
                    pass.fetch(tile.turn ^ 1);
            if (exists)
                pass.end();
            if constexpr (!Pass::flat)
                tile.turn ^= 1;
            if constexpr (Pass::looks_ahead)
                tile.turn = tile.turn_after(tile.turn, 1);
        }
        number = then;
        parity ^= (uint32_t)stage;
        tile.template advance<Pass::keeps_steps>(step);
    }
}

template <class Pass> __device__ inline void walk_halo(Pass &pass)
{
    if constexpr (Pass::by_engine && !has_copy_engine)
        return;
    bool exists = pass.tile.open(pass); /* meanwhile the kernel before drains */
    wait_for_kernels_before();
    exists = exists && pass.tile.halo()->begin < pass.tile.halo()->end;
    if (exists) {
        auto &tile = pass.tile;
        if constexpr (!Pass::looks_ahead)
            tile.template list_rows<Pass>();
        if constexpr (Pass::by_engine) {
            __syncthreads(); /* all tables are made and all warps with rows counted */
            if (threadIdx.x == 0)
                tile.template make_barriers<Pass>();
        }
        if constexpr (Pass::looks_ahead)
            pass.keep_places();
        else if constexpr (Pass::flat) /* after that rows take the tables' place */
            pass.pairs.template load<false>(tile.table(), tile.info()->first_pair[2],
                                            tile.own_half(),
                                            tile.own_half() ^ tile.turns_second());
        if constexpr (Pass::looks_ahead) {
            if (Pass::copies_more && tile.job.halo.keeps_bias)
                tile.keep_bias();
        } else if constexpr (Pass::by_engine)
            tile.template find_slices<Pass>(0, tile.first_step(), threadIdx.x);
        __syncthreads();
        if constexpr (Pass::by_engine)
            walk_by_engine(pass);
        else
            walk_by_threads(pass);
        __syncwarp();
        pass.again();
    }
    pass.finish(exists);
}

} // namespace natten

#endif
