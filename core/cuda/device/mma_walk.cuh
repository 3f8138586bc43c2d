/* SPDX-License-Identifier: MIT
 *
 * The order of things in a block of the kernels for large windows (device/mma_tile.cuh
 * has the words).  What is done with a box is up to Pass.
 *
 *     two stages  copies    box 0 | box 1 | box 2 | ...     one barrier a step
 *                 products        | box 0 | box 1 | ...
 *     one stage   copies and products in turn, where a processor's shared memory is too
 *                 small for two: then other blocks work while one waits           */
#ifndef NATTEN_CUDA_DEVICE_MMA_WALK_CUH
#define NATTEN_CUDA_DEVICE_MMA_WALK_CUH

#include "cuda/device/mma_rows.cuh"

namespace natten {

template <class Pass> __device__ inline void walk_boxes(Pass &pass)
{
    auto &tile = pass.tile;
    if (!tile.open())
        return;
    natten_cuda_mma_run run;
    bool more = tile.first(run), two = tile.job.mma.stages > 1;
    if (more) {
        pass.copy_rows();
        pass.copy_step(run, 0);
    }
    pass.begin();
    for (int stage = 0; more;) {
        wait_for_copies();
        __syncthreads();
        run = tile.run();
        MmaSight sight = tile.look(run);
        MmaBox box = tile.box(run);
        more = tile.advance(run);
        if (two && more)
            pass.copy_step(run, stage ^ 1);
        pass.follow(box, sight.needed);
        if (sight.needed)
            pass.take(sight, stage);
        if (two) {
            stage ^= 1;
            continue;
        }
        __syncthreads();
        if (more)
            pass.copy_step(tile.run(), 0);
    }
    pass.end();
}

} // namespace natten

#endif
