/* SPDX-License-Identifier: MIT
 *
 * What a crew does with its sums (device/wgmma_tile.cuh has the words): it writes rows,
 * and has those that are not finite done again. */
#ifndef NATTEN_CUDA_DEVICE_WGMMA_RESULTS_CUH
#define NATTEN_CUDA_DEVICE_WGMMA_RESULTS_CUH

#include "cuda/device/wgmma_tile.cuh"

namespace natten {

/* Write result number n of the warp's rows, each row times a factor; what comes back is
 * store_block()'s. */
WGMMA_TILE uint32_t
WGMMA_TILE_OF::store_rows(int n, const float (&sum)[NATTEN_CUDA_WGMMA_DIMS / 8][4],
                          const float (&factor)[2]) const
{
    constexpr int dims = NATTEN_CUDA_WGMMA_DIMS;
    const natten_role role = result_role(n);
    if ((job.vector >> role & 1) == 0)
        return store_block<T, dims>(*this, role, 0, sum, factor);
    bool lost[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float zero[2] = {}; /* as in store_block() */
        int r = 8 * i + lane / 4;
        bool there = exists(r);
        uint4 *to = reinterpret_cast<uint4 *>(result_at(n, r)) + lane % 4;
        __builtin_assume(__isGlobal(to));
#pragma unroll
        for (int k = 0; k < dims / 32; k++) {
            uint32_t word[4];
            words_of<T, dims>(word, sum, k, i, factor[i], zero[k]);
            if (there)
                to[4 * k] = {word[0], word[1], word[2], word[3]};
        }
        lost[i] = there && !(zero[0] + zero[1] == 0);
    }
    if (!__any_sync(all_lanes, lost[0] || lost[1]))
        return 0;
    return quads_of(__ballot_sync(all_lanes, lost[0])) |
           quads_of(__ballot_sync(all_lanes, lost[1])) << 8;
}

template <class T, natten_cuda_wgmma_pass pass, bool engine>
template <class Again>
__device__ inline void WGMMA_TILE_OF::redo(uint32_t wanted, const Again &again) const
{
    Lane group(job.lanes);
    int32_t each = of_queries ? job.wgmma.group : 1;
#pragma unroll 1
    for (int r = group.group; r < warp_rows; r += group.groups) {
        int32_t at[3];
        bool is_wanted = (wanted >> r & 1) != 0;
        /* Who is not wanted may not exist: then one that does. */
        place_of(is_wanted ? slot_of(job.wgmma.tile, warp * warp_rows + r) : 0, at);
        Place place = {
            item().batch, item().head, item().head / each, {at[0], at[1], at[2]}};
        if (__any_sync(all_lanes, is_wanted))
            again(job, group, place, is_wanted);
    }
}

} // namespace natten

#endif
