/* SPDX-License-Identifier: MIT
 *
 * Gradients down bands of a grid (device/band_tile.cuh), in two passes as in
 * halo_backward.cuh: of queries against their boxes of keys, and of keys and values
 * against the boxes of the queries that see them.
 *
 *     P = exp2(S c - lse), dS = P (dP - delta)       S = Q K^T, dP = dO V^T
 *     dQ = dS K;  dV = P^T dO, dK = dS^T Q           all but the last times the scale
 *
 * P and dS are rounded to 16 bits as right sides are; what is not finite is done again
 * by level a. */
#ifndef NATTEN_CUDA_BAND_BACKWARD_CUH
#define NATTEN_CUDA_BAND_BACKWARD_CUH

#include "cuda/device/band_bring.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

template <class T, bool engine> class BandGradQuery {
    using Tile = BandTile<T, NATTEN_CUDA_BAND_GRAD_QUERY, engine>;
    static constexpr int dims = Tile::dims, rows = Tile::group_rows;

    Tile tile;
    float minus_lse[2], minus_delta[2], sum[dims / 8][4];
    uint32_t q[dims / 16][4], grad[dims / 16][4];

  public:
    __device__ explicit BandGradQuery(const natten_cuda_job &job) : tile(job)
    {
    }

    __device__ void run()
    {
        tile.run([&] { work(); });
    }

  private:
    __device__ void work()
    {
        while (tile.begin_step()) {
            const bool has_rows = tile.has_rows();
            if (has_rows) {
                load_stats();
                tile.load_rows(q, 0);
                tile.load_rows(grad, 1);
            }
            tile.leave_rows();
            if (has_rows)
                meet_groups();
            tile.leave_groups();
            if (has_rows)
                end();
        }
        tile.redo([](const natten_cuda_job &job, const Lane &lane, const Place &place,
                     bool wanted) { grad_query_again<T>(job, lane, place, wanted); });
    }

    __device__ void load_stats()
    {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float2 own = tile.own_stats(r);
            minus_lse[r] = -own.x, minus_delta[r] = own.y;
        }
    }

    __device__ void meet_groups()
    {
        const uint32_t straight = tile.to_columns(), turned = tile.to_rows();
        const uint32_t columns = tile.columns_seen(),
                       rows_seen[2] = {tile.rows_seen(0), tile.rows_seen(1)};
        const int32_t count = tile.groups_of_step();
        constexpr int strip = Tile::strip_columns * Tile::row_bytes;
        clear_sums(sum);
#pragma unroll 1
        for (int32_t i = 0; i < count; i++) {
            tile.wait_for_group(i);
            const uint32_t from = tile.partners(tile.slot_of(i)),
                           seen[2] = {rows_seen[0] >> i * rows,
                                      rows_seen[1] >> i * rows};
#pragma unroll 1
            for (int n = 0; n < 2; n++)
                take(from + straight + (uint32_t)(n * strip),
                     from + turned + (uint32_t)(n * strip),
                     columns >> n * Tile::strip_columns, seen);
        }
    }

    __device__ void take(uint32_t straight, uint32_t turned, uint32_t columns,
                         const uint32_t (&seen)[2])
    {
        float s[rows][4], dp[rows][4], first[4];
        tile.begin_strip(first, columns);
        tile.template score<rows>(s, q, straight, first);
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                bool is_seen = (seen[e / 2] & 1u << i) != 0;
                float minus = is_seen ? minus_lse[e / 2] : -INFINITY;
                s[i][e] = exp2_fast(fmaf(s[i][e], tile.job.band.scale_2, minus));
            }
        tile.template score<rows>(dp, grad, straight + Tile::group_bytes, {0, 0, 0, 0});
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[i][e] *= dp[i][e] + minus_delta[e / 2];
        tile.template gather<rows>(sum, s, turned);
    }

    __device__ void end()
    {
        tile.recall();
        const float own = tile.job.band.scale, factors[2] = {own, own};
        tile.store(0, sum, factors);
    }
};

template <class T, bool engine> class BandGradTokens {
    using Tile = BandTile<T, NATTEN_CUDA_BAND_GRAD_TOKENS, engine>;
    static constexpr int dims = Tile::dims, rows = Tile::group_rows;

    Tile tile;
    float key_sum[dims / 8][4], value_sum[dims / 8][4];
    uint32_t key[dims / 16][4], value[dims / 16][4];

  public:
    __device__ explicit BandGradTokens(const natten_cuda_job &job) : tile(job)
    {
    }

    __device__ void run()
    {
        tile.run([&] { work(); });
    }

  private:
    __device__ void work()
    {
        while (tile.begin_step()) {
            const bool has_rows = tile.has_rows();
            if (has_rows) {
                tile.load_rows(key, 0);
                tile.load_rows(value, 1);
            }
            tile.leave_rows();
            if (has_rows)
                meet_groups();
            tile.leave_groups();
            if (has_rows)
                end();
        }
        tile.redo([](const natten_cuda_job &job, const Lane &lane, const Place &place,
                     bool wanted) { grad_tokens_again<T>(job, lane, place, wanted); });
    }

    __device__ void meet_groups()
    {
        const uint32_t straight = tile.to_columns(), turned = tile.to_rows(),
                       to_stats = (uint32_t)((tile.first_column() + tile.column) * 8);
        const uint32_t columns = tile.columns_seen(),
                       rows_seen[2] = {tile.rows_seen(0), tile.rows_seen(1)};
        const int32_t count = tile.groups_of_step(), strips = tile.strips();
        clear_sums(key_sum);
        clear_sums(value_sum);
#pragma unroll 1
        for (int32_t i = 0; i < count; i++) {
            tile.wait_for_group(i);
            const int32_t slot = tile.slot_of(i);
            uint32_t from = tile.partners(slot), stats = tile.stats(slot) + to_stats,
                     own = columns;
            const uint32_t seen[2] = {rows_seen[0] >> i * rows,
                                      rows_seen[1] >> i * rows};
#pragma unroll 1
            for (int32_t left = strips; left > 0; left--) {
                take(from + straight, from + turned, stats, own, seen);
                from += Tile::strip_columns * Tile::row_bytes;
                stats += Tile::strip_columns * 8;
                own >>= Tile::strip_columns;
            }
        }
    }

    __device__ void take(uint32_t straight, uint32_t turned, uint32_t stats,
                         uint32_t columns, const uint32_t (&seen)[2])
    {
        float s[rows][4], dp[rows][4], first[4];
        float2 of[rows][2]; /* lse and minus delta of the lane's two columns */
        tile.begin_strip(first, columns);
        tile.template score<rows>(s, key, straight, first);
        tile.template score<rows>(dp, value, straight + Tile::group_bytes,
                                  {0, 0, 0, 0});
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                of[i][e] = load_floats(stats + (uint32_t)((i * Tile::pitch + e) * 8));
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                bool is_seen = (seen[e / 2] & 1u << i) != 0;
                float minus = is_seen ? -of[i][e % 2].x : -INFINITY;
                s[i][e] = exp2_fast(fmaf(s[i][e], tile.job.band.scale_2, minus));
            }
        tile.template gather<rows>(value_sum, s, turned + Tile::group_bytes);
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[i][e] *= dp[i][e] + of[i][e % 2].y;
        tile.template gather<rows>(key_sum, s, turned);
    }

    __device__ void end()
    {
        tile.recall();
        const natten_view *view = tile.job.task.view;
        const float own = tile.job.band.scale;
        const float of_key[2] = {own, own}, of_value[2] = {1, 1};
        if (view[NATTEN_GRAD_KEY].data != nullptr)
            tile.store(0, key_sum, of_key);
        if (view[NATTEN_GRAD_VALUE].data != nullptr)
            tile.store(1, value_sum, of_value);
    }
};

} // namespace natten

#endif
