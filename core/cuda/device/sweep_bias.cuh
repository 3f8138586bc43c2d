/* SPDX-License-Identifier: MIT
 *
 * The warp of a block that has the bias in the pass of all gradients of a small window
 * (sweep_backward.cuh has the words).  It brings a head's entries to shared memory for
 * the others, and adds up the dS that they leave there for their neighbours: an element
 * of each of the 3 x 3 pairs of subtiles at a time, over all warps and rows of a run of
 * items; and in the end over those of an entry, in a fixed order.
 *
 *     others    ... dS of a stage | tell ...  a row later: wait till it is added up
 *     it        waits             | adds it up | tells
 *
 * Registers: 72 sums.  Others have none left for even a part of these, and 56 tokens
 * across leave two schedulers a warp less than the other two. */
#ifndef NATTEN_CUDA_DEVICE_SWEEP_BIAS_CUH
#define NATTEN_CUDA_DEVICE_SWEEP_BIAS_CUH

#include "cuda/device/sweep_tile.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

/* Where among a bias's entries that of a query is which lies so many tokens beyond its
 * key; an even number if `across` is. */
__host__ __device__ constexpr int sweep_entry(int down, int across)
{
    return (down + NATTEN_CUDA_SWEEP_FAR) * NATTEN_CUDA_SWEEP_ROW + across +
           NATTEN_CUDA_SWEEP_FAR + 1;
}

template <class T, int sides, bool engine> class SweepBias {
  public:
    __device__ explicit SweepBias(const SweepTile<T, sides, engine, true> &tile_)
        : tile(tile_), job(tile_.job)
    {
        constexpr uint32_t one = is_bfloat16<T> ? 0x3f80 : 0x3c00;
        int r = tile.lane() / 4, has = r - tile.lane() % 4 * 2;
        uint32_t word = has == 0 ? one : has == 1 ? one << 16 : 0;
        unit[0] = unit[3] = kept(word), unit[1] = unit[2] = 0;
        clear();
    }

    /* Not 0 if some sum is not finite. */
    __device__ uint32_t run()
    {
        int32_t first = tile.first_item(); /* of the run */
        const int32_t stride = (int32_t)gridDim.x * job.sweep.run;
        put_table(0, first);
        put_table(1, first + stride);
        uint32_t trouble = 0;
        SweepRow now = tile.locate(first, 0, true);
        for (int32_t n = 0; now.exists(); n++) {
            add_row(n, now);
            int32_t run = tile.run_of(now);
            now = tile.after(now);
            if (now.exists() && tile.run_of(now) == run)
                continue;
            put_table(run & 1, first + 2 * stride);
            if (wants_sums())
                trouble |= finish(first);
            first += stride;
        }
        return trouble;
    }

    /* Sums of entries of a run that begins with that item. */
    __device__ static float *partial(const SweepTile<T, sides, engine, true> &tile,
                                     int32_t item)
    {
        const natten_cuda_job &job = tile.job;
        auto place = tile.place_of(item);
        return static_cast<float *>(job.partial) +
               ((int64_t)place.run * job.task.heads + place.head) * job.entries;
    }

  private:
    const SweepTile<T, sides, engine, true> &tile;
    const natten_cuda_job &job;
    uint32_t unit[4]; /* the unit matrix, as A */
    /* Of pairs of subtiles: of keys 0 to 7 with queries 0 to 7, and 8 to 15 with 8 to
     * 15; and of the others. */
    float sum[3][3][2][4];

    /* The block's entries of bias; behind them is room for the sums. */
    __device__ float *tables() const
    {
        return reinterpret_cast<float *>(reinterpret_cast<char *>(tile.box()) +
                                         job.sweep.tables_at);
    }
    __device__ bool wants_sums() const
    {
        return job.task.view[NATTEN_GRAD_BIAS].data != nullptr;
    }
    __device__ void clear()
    {
#pragma unroll
        for (int i = 0; i < 9; i++)
            clear_sums(sum[i / 3][i % 3]);
    }

    /* Entries of an item's head, if there is the item. */
    __device__ void put_table(int turn, int32_t item) const
    {
        const natten_cuda_sweep &s = job.sweep;
        if (item >= s.items)
            return;
        const natten_view &view = job.task.view[NATTEN_BIAS];
        int32_t head = tile.place_of(item).head;
        int32_t height = 2 * job.task.axis[1].window - 1,
                width = 2 * job.task.axis[2].window - 1;
        const float *from = static_cast<const float *>(view.data) + head * view.head;
        float *to = tables() + turn * 2 * NATTEN_CUDA_SWEEP_TABLE;
        for (int i = tile.lane(); i < NATTEN_CUDA_SWEEP_TABLE; i += NATTEN_CUDA_WARP) {
            int32_t down = i / NATTEN_CUDA_SWEEP_ROW - NATTEN_CUDA_SWEEP_FAR,
                    across = i - sweep_entry(down, 0);
            int32_t y = height / 2 - down, x = width / 2 - across;
            bool exists = y >= 0 && y < height && x >= 0 && x < width;
            float entry = 0; /* nobody sees it */
            if (exists)
                entry = __ldg(from + y * view.axis[1] + x * view.axis[2]) * log2_e;
            to[i] = entry;
            if (i + 1 < NATTEN_CUDA_SWEEP_TABLE)
                to[NATTEN_CUDA_SWEEP_TABLE + i + 1] = entry;
        }
        barrier_arrive(shared_address(&tile.box()->tables[turn]));
    }

    /* The n-th row's keys. */
    __device__ void add_row(int32_t n, const SweepRow &now)
    {
        const natten_cuda_sweep &s = job.sweep;
        /* Keys of another item's rows count there, and after the last unit there is
         * only that one again. */
        int32_t units = natten_min(
                    tile.units() - tile.first_unit(tile.item_of(now).number), s.units),
                warps = wants_sums() && tile.owns(now) ? units * s.columns : 0;
#pragma unroll
        for (int stage = 0; stage < 3; stage++) {
            int32_t count =
                (stage == 0 && now.first()) || (stage == 2 && now.last()) ? 0 : warps;
            uint32_t known = shared_address(tile.box()),
                     from = shared_address(halo_shared) + sweep_ds +
                            stage * sweep_stage + (uint32_t)tile.lane() * 16;
            /* Two at a time, so that dS are on their way while others are added. */
#pragma unroll 1
            for (int32_t w = 0; w < s.warps; w += 2) {
                uint32_t ds[2][sides][4];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    if (w + i >= s.warps)
                        continue;
                    barrier_wait(known + ready_at(stage, i), (uint32_t)(n & 1));
                    if (w + i < count)
#pragma unroll
                        for (int side = 0; side < sides; side++)
                            load_transposed(ds[i][side],
                                            from + i * sweep_own + side * 512);
                }
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    if (w + i < count)
                        add_stage(stage, i, ds[i]);
                    if (w + i < s.warps)
                        barrier_arrive(known + ready_at(stage, i) +
                                       (uint32_t)(offsetof(SweepWarp, summed) -
                                                  offsetof(SweepWarp, ready)));
                }
                known += 2 * (uint32_t)sizeof(SweepWarp), from += 2 * sweep_own;
            }
        }
    }
    /* From what is known of a warp to the barrier of a stage of the i-th after it. */
    __device__ static uint32_t ready_at(int stage, int i)
    {
        return (uint32_t)(offsetof(SweepWarp, ready) + i * sizeof(SweepWarp) +
                          stage * 8);
    }
    /* Of two columns the other one lies to the right of the first. */
    __device__ void add_stage(int stage, int column, const uint32_t (&ds)[sides][4])
    {
#pragma unroll
        for (int side = 0; side < sides; side++) {
            int at = sides == 3 ? side : side == 0 ? 1 : column == 0 ? 2 : 0;
            multiply<T>(sum[stage][at][0], unit, ds[side][0], ds[side][3]);
            multiply<T>(sum[stage][at][1], unit, ds[side][1], ds[side][2]);
        }
    }

    /* Write the sums of a run by entries. */
    __device__ uint32_t finish(int32_t first)
    {
        float *all = tables() + NATTEN_CUDA_SWEEP_TABLES / 4;
        __syncwarp();
#pragma unroll
        for (int pair = 0; pair < 9; pair++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const float(&of)[2][4] = sum[pair / 3][pair % 3];
                float *to =
                    all + pair * 192 + tile.lane() / 4 * 8 + tile.lane() % 4 * 2 + e;
                to[0] = of[0][e] + of[0][2 + e];
                to[64] = of[1][e];
                to[128] = of[1][2 + e];
            }
        __syncwarp();
        float *to = partial(tile, first);
        const int32_t y = job.task.axis[1].window, x = job.task.axis[2].window;
        float zero = 0; /* what is not finite, times 0, is NaN */
        for (int32_t e = tile.lane(); e < (2 * y - 1) * (2 * x - 1);
             e += NATTEN_CUDA_WARP) {
            float total = sum_of(y - 1 - e / (2 * x - 1), x - 1 - e % (2 * x - 1), all);
            to[e] = total;
            zero = fmaf(total, 0, zero);
        }
        clear();
        return zero != 0;
    }
    /* dS of queries so many tokens beyond their keys. Where that of a key in row i and
     * column j is, is the sum of two numbers that rows and columns decide. */
    __device__ static float sum_of(int32_t down, int32_t across, const float *all)
    {
        constexpr int nowhere = -100000;
        int of_row[4], of_column[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int y = i + down + 4, x = i + across + 4;
            /* Where both are of the second half, they are among the first's. */
            int part = i < 2 ? y % 4 / 2 : 2;
            bool counts = (unsigned)y < 12 && (i < 2 || y % 4 < 2);
            of_row[i] =
                counts ? (y / 4 * 9 + part) * 64 + i % 2 * 32 + y % 2 * 4 : nowhere;
            of_column[i] = (unsigned)x < 12 ? x / 4 * 192 + i * 8 + x % 4 : nowhere;
        }
        float total = 0;
#pragma unroll
        for (int key = 0; key < subtile; key++) {
            int at = of_row[key / 4] + of_column[key % 4];
            total += at >= 0 ? all[at] : 0;
        }
        return total;
    }
};

/* Add dS of a query, by level a's way, of keys in rows from .. to - 1 of its class; a
 * warp's sums are its own. */
template <class T>
__device__ __noinline__ void sum_bias_again(const natten_cuda_job &job,
                                            const Lane &lane, const Place &place,
                                            int32_t from, int32_t to, float *own)
{
    QuerySide<T> side(job, lane, place);
    Keys<T> keys = grid_keys<T>(job, place);
    Numbering entry = entries_of(job.task, keys.box);
    int32_t first = keys.box.first[1] / job.task.axis[1].dilation;
    if (side.lse == -INFINITY) /* it saw nothing */
        return;
    for (Visits v(lane, keys.box, Visit::together); v.more(); v.advance()) {
        Sum<T> x[1][strip], ds[1];
        weigh<T, Weights::fused>(ds, x, job, lane, side, keys, v);
        int32_t row = first + (int32_t)v.at.at[1];
        if (v.sees() && lane.within == 0 && row >= from && row < to)
            own[entry.at(v.at)] += ds[0];
        __syncwarp();
    }
}

} // namespace natten

#endif
