/* SPDX-License-Identifier: MIT
 *
 * The order in which a tile takes boxes of partners (device/mma_tile.cuh has the
 * words): run by run, plane by plane and row by row; of grad_tokens head by head of the
 * group that shares the keys; at last extra tokens, a run of their own.
 *
 * Every warp keeps a run of its own in shared memory, written where it begins.  So a
 * step costs some comparisons along one axis, and what concerns the others is asked
 * once for all boxes of a run. */
#ifndef NATTEN_CUDA_DEVICE_MMA_RUNS_CUH
#define NATTEN_CUDA_DEVICE_MMA_RUNS_CUH

#include "cuda/device/mma_tile.cuh"

namespace natten {

/* No place is before this one. */
constexpr int32_t nowhere = INT32_MIN;

MMA_TILE void MMA_TILE_OF::keep(const Run &r) const
{
    __syncwarp();
    if (lane == 0)
        run() = r;
    __syncwarp();
}

/* The run at z and y of the tile's partners, of a head of the group. */
MMA_TILE void MMA_TILE_OF::begin_run(Run &r, int32_t z, int32_t y, int32_t head)
{
    const natten_cuda_mma &m = fresh(job).mma;
    const natten_cuda_mma_info *of = info();
    const natten_cuda_mma_warp &w = own();
    int32_t place[2] = {z, y};
    bool some = w.exists != 0, every = of->full != 0;
    r.limit = 0x808080u; /* in each byte, 128 more than the last place */
#pragma unroll
    for (int a = 0; a < 2; a++) {
        some = some && place[a] < w.end[a] && place[a] + m.box[a] > w.begin[a];
        every = every && place[a] >= w.from[a] && place[a] + m.box[a] <= w.to[a];
        r.limit += (uint32_t)(natten_min(m.box[a], of->count[a] - place[a]) - 1)
                   << (8 * a);
        r.at[a] = place[a];
    }
    r.begin = w.begin[2], r.end = some ? w.end[2] : nowhere;
    r.from = w.from[2], r.to = every ? w.to[2] : nowhere;
    r.count = of->count[2], r.width = m.box[2], r.head = head;
#pragma unroll
    for (int t = 0; t < 2; t++) {
        r.origin[t] =
            of->base[t] + z * (int64_t)m.step[t][0] + y * (int64_t)m.step[t][1];
        r.step[t] = m.step[t][2];
        r.stats[t] = nullptr;
        if (side == Side::keys) {
            r.origin[t] += head * of->head_step[t];
            r.stats[t] = of->stats_base[t] + z * of->stats_step[t][0] +
                         y * of->stats_step[t][1] + head * of->stats_head[t];
        }
    }
    const natten_cuda_mma_row &own_row = row(lane % warp_rows);
    const uint64_t *below = of->below;
    across = ~UINT64_C(0);
#pragma unroll
    for (int a = 0; a < 2; a++) {
        across &= below[natten_clamp(own_row.end[a] - place[a], 0, m.box[a])] &
                  ~below[natten_clamp(own_row.begin[a] - place[a], 0, m.box[a])];
        below += m.box[a] + 1;
    }
    at = 0;
    keep(r);
}

/* That of the extra tokens, which every row sees. */
MMA_TILE bool MMA_TILE_OF::begin_extras(Run &r)
{
    const natten_cuda_job &now = fresh(job);
    if (side == Side::keys || now.task.extras == 0)
        return false;
    r.begin = r.from = 0;
    r.end = own().exists != 0 ? INT32_MAX : nowhere;
    r.to = r.count = (int32_t)now.task.extras;
    r.width = columns, r.head = -1, r.limit = 0x808080u;
    r.at[0] = r.at[1] = 0;
    for (int t = 0; t < 2; t++) {
        r.origin[t] = info()->extra_base[t];
        r.step[t] = now.mma.extra_step[t];
        r.stats[t] = nullptr;
    }
    at = 0;
    keep(r);
    return true;
}

MMA_TILE bool MMA_TILE_OF::first(Run &r)
{
    const int32_t *count = info()->count;
    bool has_sums = of_queries && job.sums != nullptr; /* of all keys of the grid */
    if (has_sums || count[0] <= 0 || count[1] <= 0 || count[2] <= 0)
        return begin_extras(r);
    begin_run(r, 0, 0, 0);
    return true;
}

MMA_TILE bool MMA_TILE_OF::advance(Run &r)
{
    at += r.width;
    if (at < r.count)
        return true;
    if (of_queries && r.head < 0)
        return false;
    const int32_t *box = job.mma.box, *count = info()->count;
    int32_t z = r.at[0], y = r.at[1] + box[1], head = r.head;
    if (y >= count[1])
        y = 0, z += box[0];
    if (z >= count[0])
        z = 0, head++;
    if (head >= (of_queries ? 1 : job.mma.group))
        return begin_extras(r);
    begin_run(r, z, y, head);
    return true;
}

MMA_TILE uint64_t MMA_TILE_OF::seen(const Run &r) const
{
    if (of_queries && r.head < 0) {
        int32_t left = r.count - at;
        return left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;
    }
    const natten_cuda_mma &m = job.mma;
    const natten_cuda_mma_row &own_row = row(lane % warp_rows);
    const uint64_t *below = info()->below + m.box[0] + m.box[1] + 2;
    return across & below[natten_clamp(own_row.end[2] - at, 0, m.box[2])] &
           ~below[natten_clamp(own_row.begin[2] - at, 0, m.box[2])];
}

} // namespace natten

#endif
