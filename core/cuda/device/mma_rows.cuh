/* SPDX-License-Identifier: MIT
 *
 * What the kernels for large windows do with a warp's rows: products with boxes of
 * partners, masks, writing results, and having level a do again what is not finite. */
#ifndef NATTEN_CUDA_DEVICE_MMA_ROWS_CUH
#define NATTEN_CUDA_DEVICE_MMA_ROWS_CUH

#include "cuda/device/keys.cuh"
#include "cuda/device/mma_copies.cuh"

namespace natten {

/* Have the warp's rows in `wanted`, a bit each, computed anew by level a. */
template <class Tile, class Again>
__device__ inline void redo_rows(const Tile &tile, uint32_t wanted, const Again &again)
{
    const natten_cuda_job &job = tile.job;
    Lane lane(job.lanes);
    int32_t each = Tile::of_queries ? (int32_t)(job.task.heads / job.task.heads_kv) : 1;
    int32_t head = tile.info()->head;
#pragma unroll 1
    for (int r = lane.group; r < Tile::warp_rows; r += lane.groups) {
        const int32_t *at = tile.row(r).at;
        Place place = {tile.info()->batch, head, head / each, {at[0], at[1], at[2]}};
        bool is_wanted = (wanted >> r & 1) != 0;
        if (__any_sync(all_lanes, is_wanted))
            again(job, lane, place, is_wanted);
    }
}

/* Write the 16 rows of block `block`, each times a factor.  Lane t of a quad gets
 * columns 8t.. 8t + 7 of every 32.  Bit r is set for a row, of all of the warp, of
 * which not everything is finite. */
template <class T, int dims, class Tile>
__device__ inline uint32_t store_block(const Tile &tile, natten_role role, int block,
                                       const float (&sum)[dims / 8][4],
                                       const float (&factor)[2])
{
    const natten_cuda_job &now = fresh(tile.job);
    int64_t item = now.task.view[role].item;
    int32_t count =
        (int32_t)(Source<T>::is_of_values(role) ? now.task.dim_v : now.task.dim);
    bool vector = (now.vector >> role & 1) != 0;
    uint32_t trouble = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float zero = 0; /* what is not finite, times 0, is NaN */
        int r = 16 * block + 8 * i + tile.lane / 4;
        bool exists = tile.exists(r);
        T *row = reinterpret_cast<T *>(tile.row_at(role, r));
#pragma unroll
        for (int k = 0; k < dims / 32; k++) {
            uint32_t word[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float left = sum[4 * k + j][2 * i] * factor[i];
                float right = sum[4 * k + j][2 * i + 1] * factor[i];
                zero = fmaf(left, 0, fmaf(right, 0, zero));
                word[j] = pack<T>(left, right);
            }
            quad_transpose(word);
            int32_t from = 32 * k + tile.lane % 4 * 8;
            if (!exists || from >= count)
                continue;
            if (vector) {
                *reinterpret_cast<uint4 *>(row + from) = {word[0], word[1], word[2],
                                                          word[3]};
                continue;
            }
            const uint16_t *element = reinterpret_cast<const uint16_t *>(word);
#pragma unroll
            for (int e = 0; e < 8; e++)
                if (from + e < count)
                    reinterpret_cast<uint16_t *>(row)[(from + e) * item] = element[e];
        }
        uint32_t found = __ballot_sync(all_lanes, exists && !(zero == 0));
        for (int q = 0; q < 8; q++)
            if (found >> (4 * q) & 0xf)
                trouble |= 1u << (16 * block + 8 * i + q);
    }
    return trouble;
}

/* ---- products ---- */

/* Rows as left sides of products, read where they are needed or kept. */
template <int dims, int blocks> struct MmaLeft {
    uint32_t address;

    __device__ MmaLeft(uint32_t rows, int lane)
        : address(MmaRows<dims>::left(rows, lane))
    {
    }
    __device__ void load(uint32_t (&a)[blocks][4], int k) const
    {
#pragma unroll
        for (int b = 0; b < blocks; b++)
            load_matrices(a[b], MmaRows<dims>::step(address, k) +
                                    (uint32_t)(b * 16 * MmaRows<dims>::bytes));
    }
};

/* Scores of what a row does not see become -inf. */
template <class Tile, int blocks, int groups>
__device__ inline void hide_unseen(const Tile &tile, float (&s)[blocks][groups][4],
                                   const MmaSight &sight)
{
#pragma unroll
    for (int m = 0; m < blocks; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            uint64_t own = tile.seen_by(sight.seen, 16 * m + 8 * r + tile.lane / 4);
            uint32_t half[2] = {(uint32_t)own, (uint32_t)(own >> 32)};
#pragma unroll
            for (int j = 0; j < groups; j++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (!(half[j / 4] & 1u << (j % 4 * 8 + e)))
                        s[m][j][2 * r + e] = -INFINITY;
        }
}

/* s = rows times the transposed partners, each read a product ahead of its own: else a
 * warp waits for shared memory with most of them. */
template <class T, int dims, int blocks, int columns>
__device__ inline void score(float (&s)[blocks][columns / 8][4],
                             const MmaLeft<dims, blocks> &rows, uint32_t partners,
                             int lane)
{
    using Lay = MmaRows<dims>;
    constexpr int each = columns / 16, all = dims / 16 * each;
    uint32_t right = Lay::right(partners, lane), a[blocks][4], b[2][4];
    load_matrices(b[0], right);
#pragma unroll
    for (int k = 0; k < dims / 16; k++) {
        rows.load(a, k);
#pragma unroll
        for (int j = 0; j < each; j++) {
            int n = k * each + j, next = n + 1;
            if (next < all)
                load_matrices(b[next % 2],
                              Lay::step(right, next / each) +
                                  (uint32_t)(next % each * 16 * Lay::bytes));
#pragma unroll
            for (int m = 0; m < blocks; m++)
#pragma unroll
                for (int g = 0; g < 2; g++) {
                    float(&c)[4] = s[m][2 * j + g];
                    const uint32_t *of = b[n % 2] + 2 * g;
                    if (k == 0)
                        multiply<T>(c, a[m], of[0], of[1], {0, 0, 0, 0});
                    else
                        multiply<T>(c, a[m], of[0], of[1]);
                }
        }
    }
}

/* sum += weights times partners. */
template <class T, int dims, int blocks, int columns>
__device__ inline void gather(float (&sum)[blocks][dims / 8][4],
                              const float (&weights)[blocks][columns / 8][4],
                              uint32_t partners, int lane)
{
    using Lay = MmaRows<dims>;
    constexpr int each = dims / 16, all = columns / 16 * each;
    uint32_t right = Lay::right_transposed(partners, lane), a[blocks][4], b[2][4];
    load_transposed(b[0], right);
#pragma unroll
    for (int k = 0; k < columns / 16; k++) {
#pragma unroll
        for (int m = 0; m < blocks; m++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[m][i] = pack<T>(weights[m][2 * k + i / 2][i % 2 * 2],
                                  weights[m][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int j = 0; j < each; j++) {
            int n = k * each + j, next = n + 1;
            if (next < all)
                load_transposed(b[next % 2],
                                Lay::step(right, next % each) +
                                    (uint32_t)(next / each * 16 * Lay::bytes));
#pragma unroll
            for (int m = 0; m < blocks; m++) {
                multiply<T>(sum[m][2 * j], a[m], b[n % 2][0], b[n % 2][1]);
                multiply<T>(sum[m][2 * j + 1], a[m], b[n % 2][2], b[n % 2][3]);
            }
        }
    }
}

} // namespace natten

#endif
