/* SPDX-License-Identifier: MIT
 *
 * Gradients of queries where rows are keys: dQ += dS^T K, of which every block has a
 * share, added to sums in memory that all blocks add to.  So S and dP are computed once
 * for all gradients, and the last bits depend on who comes first.
 *
 *     dS        of a box and all rows of the tile, in shared memory, two boxes by turns
 *     a step    begins with what the box before has for its queries: then everyone's dS
 *               of it is there, without a barrier of its own
 *     a warp    has some queries and some columns of dQ, of all rows of the tile
 *
 * In memory each 16 columns stand in the order in which the lanes of a product hold
 * them, so that a lane adds four numbers at once:
 *
 *     0 1 8 9   2 3 10 11   4 5 12 13   6 7 14 15        a quarter each lane of a quad
 */
#ifndef NATTEN_CUDA_DEVICE_MMA_ADDED_CUH
#define NATTEN_CUDA_DEVICE_MMA_ADDED_CUH

#include "cuda/device/mma_kept.cuh"

namespace natten {

/* What dS is multiplied by where it is for such sums, which are taken times it: adding
 * to memory makes numbers below 2^-126 zeros, and bf16 has such.  Those of fp16 are
 * larger, and would overflow. */
template <class T> inline constexpr float sums_lift = is_bfloat16<T> ? 0x1p24f : 1.0f;

/* What all blocks have added of the 16 rows of block `block`, for a pass over queries:
 * zeros for rows that do not exist. */
template <class T, int dims, class Tile>
__device__ inline void read_sums(const Tile &tile, int block, float (&sum)[dims / 8][4])
{
    const natten_cuda_job &now = fresh(tile.job);
    float factor =
        (now.task.scale < 0 ? -1.0f : 1.0f) / sums_lift<T>; /* the keys' sign */
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int r = 16 * block + 8 * i + tile.lane / 4;
        uint64_t number =
            (uint64_t)(tile.row_at(delta_role, r) - static_cast<char *>(now.delta)) /
            sizeof(float);
        const float4 *from = reinterpret_cast<const float4 *>(now.sums + number * dims);
#pragma unroll
        for (int j = 0; j < dims / 16; j++) {
            float4 x = {0, 0, 0, 0};
            if (tile.exists(r))
                x = from[4 * j + tile.lane % 4];
            sum[2 * j][2 * i] = x.x * factor, sum[2 * j][2 * i + 1] = x.y * factor;
            sum[2 * j + 1][2 * i] = x.z * factor,
                               sum[2 * j + 1][2 * i + 1] = x.w * factor;
        }
    }
}

template <class T, int dims, class Shape> class MmaAdded {
    static constexpr int blocks = Shape::blocks, columns = Shape::columns;
    static constexpr int warps = Shape::warps, groups = warps / Shape::sharing;
    using Lay = MmaRows<T, dims>;
    using Kept = MmaKept<T, Shape>;
    using Own = typename Kept::Lay; /* dS: a row for each key */

    /* Warps share out queries and columns, in blocks of 16: so many have queries that
     * each reads as little as can be. */
    static constexpr int choose_along()
    {
        int best = 0, least = 99;
        for (int n = 1; n <= 4; n *= 2) {
            int q = columns / 16 / n, d = dims * n / warps / 16;
            if (q * n * 16 == columns && d * warps * 16 == dims * n && q + d <= least)
                best = n, least = q + d;
        }
        return best;
    }
    static constexpr int along = choose_along();
    static constexpr int queries = columns / 16 / along,
                         each = dims * along / warps / 16;

    MmaBox last = {0, 0};
    int turn = 0;

  public:
    /* Begin with a box: add what the last one has for its queries. */
    template <class Tile>
    __device__ void follow(const Tile &tile, const MmaBox &box, bool needed)
    {
        add(tile);
        last = box;
        turn ^= 1;
        if (tile.lane == 0 && tile.part() == 0)
            tile.info()->needed[turn][tile.group()] = needed;
    }

    /* The place for dS of the box. */
    __device__ int place() const
    {
        return turn;
    }

    template <class Tile> __device__ void finish(const Tile &tile)
    {
        __syncthreads();
        add(tile);
    }

  private:
    /* What a product takes of 16 rows of the tile. */
    struct Sides {
        uint32_t left[queries][4], right[each][4];
    };
    template <class Tile>
    __device__ void load(Sides &to, const Tile &tile, int turn_, int rows) const
    {
        uint32_t left = Own::right(Kept::at(tile, turn_), tile.lane),
                 right = Lay::right_transposed(shared_address(mma_shared), tile.lane);
#pragma unroll
        for (int m = 0; m < queries; m++)
            load_transposed(to.left[m],
                            Own::step(left, tile.warp % along * queries + m) +
                                (uint32_t)(16 * rows * Own::bytes));
#pragma unroll
        for (int j = 0; j < each; j++)
            load_transposed(to.right[j],
                            Lay::step(right, tile.warp / along * each + j) +
                                (uint32_t)(16 * rows * Lay::bytes));
    }
    __device__ static void multiply_sides(float (&sum)[queries][2 * each][4],
                                          const Sides &of)
    {
#pragma unroll
        for (int j = 0; j < each; j++)
#pragma unroll
            for (int m = 0; m < queries; m++) {
                multiply<T>(sum[m][2 * j], of.left[m], of.right[j][0], of.right[j][1]);
                multiply<T>(sum[m][2 * j + 1], of.left[m], of.right[j][2],
                            of.right[j][3]);
            }
    }

    template <class Tile> __device__ void add(const Tile &tile) const
    {
        uint64_t busy = 0;
        const uint8_t *needed = tile.info()->needed[turn];
        if (groups == 8)
            busy = *reinterpret_cast<const uint64_t *>(needed);
        else
            busy = *reinterpret_cast<const uint32_t *>(needed);
        if (last.limit == 0 || busy == 0)
            return;
        float sum[queries][2 * each][4];
#pragma unroll
        for (int m = 0; m < queries; m++)
            clear_sums(sum[m]);
        constexpr int all = groups * blocks; /* 16 rows at a time */
        if (busy == UINT64_C(0x0101010101010101) >> (64 - 8 * groups)) {
            Sides of[2];
            load(of[0], tile, turn, 0);
#pragma unroll
            for (int k = 0; k < all; k++) {
                if (k + 1 < all)
                    load(of[(k + 1) % 2], tile, turn, k + 1);
                multiply_sides(sum, of[k % 2]);
            }
        } else {
#pragma unroll 1
            for (int k = 0; k < all; k++)
                if (busy >> (8 * (k / blocks)) & 1) {
                    Sides of;
                    load(of, tile, turn, k);
                    multiply_sides(sum, of);
                }
        }
        float *first = tile.job.sums + last.first * dims +
                       (tile.warp / along * each * 16 + tile.lane % 4 * 4);
#pragma unroll
        for (int m = 0; m < queries; m++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int n = (tile.warp % along * queries + m) * 16 + 8 * i + tile.lane / 4;
                int2 slot = *reinterpret_cast<const int2 *>(&tile.info()->slot[n].at);
                if (!Tile::exists(last.limit, (uint32_t)slot.x))
                    continue;
                float *to = first + slot.y * (int64_t)dims;
#pragma unroll
                for (int j = 0; j < each; j++)
                    add_floats(to + 16 * j, sum[m][2 * j][2 * i],
                               sum[m][2 * j][2 * i + 1], sum[m][2 * j + 1][2 * i],
                               sum[m][2 * j + 1][2 * i + 1]);
            }
    }
};

} // namespace natten

#endif
