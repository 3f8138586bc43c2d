/* SPDX-License-Identifier: MIT
 *
 * Gradients for windows of any size, in products of matrices (device/mma_tile.cuh): of
 * queries from boxes of the keys they see, and of keys and values from boxes of the
 * queries that see them, each computing P and dS anew, so that no two blocks add to one
 * place.
 *
 *     delta         <dO, O> - d_lse, of each row
 *     grad_query    S = Q K^T    dP = dO V^T    dS = P (dP - delta)    dQ += dS K
 *     grad_tokens   S = K Q^T    dP = V dO^T    dV += P dO             dK += dS Q
 *
 * Where two warps share rows, each has S and dP of half of a box and half of the
 * columns of dV and dK, and P and dS of the other half come by way of shared memory: so
 * a partner's row is read half as often for each product.
 *
 * P and dS are rounded to 16 bits or tf32 for the last products, or divided in parts
 * (device/mma_parts.cuh).  Rows whose results are not
 * finite are in the end computed anew by level a. */
#ifndef NATTEN_CUDA_MMA_BACKWARD_CUH
#define NATTEN_CUDA_MMA_BACKWARD_CUH

#include "cuda/device/mma_added.cuh"
#include "cuda/device/mma_walk.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

template <class T, int dims> class MmaGradQuery {
    using Shape = MmaShape<sizeof(T), NATTEN_CUDA_MMA_GRAD_QUERY, dims>;
    static constexpr int blocks = Shape::blocks, columns = Shape::columns;
    using Tile = MmaTile<T, dims, Shape, Side::queries>;

    using Number = Sum<T>;

    Number factor; /* that makes S exponents */
    Number lse[blocks][2], delta[blocks][2], sum[blocks][dims / 8][4];
    uint32_t blind = 0; /* rows of the lane that saw nothing: its gradient is 0 */

  public:
    Tile tile;

    __device__ explicit MmaGradQuery(const natten_cuda_job &job)
        : factor(fabs((Number)job.task.scale) * log2_of_e<Number> * shrinkage<T> *
                 shrinkage<T>),
          tile(job)
    {
    }

    __device__ void copy_rows() const
    {
        tile.copy_rows(0, NATTEN_QUERY);
        tile.copy_rows(1, NATTEN_GRAD_OUT);
    }
    __device__ void copy_step(const natten_cuda_mma_run &run, int stage) const
    {
        tile.copy_boxes(run, stage);
    }
    __device__ void follow(const MmaBox &, bool) const
    {
    }

    __device__ void begin()
    {
#pragma unroll
        for (int i = 0; i < 2 * blocks; i++) {
            int r = tile.lane / 4 + 8 * i;
            Number own = tile.stat_at(NATTEN_LSE, r);
            lse[i / 2][i % 2] = lse_of<T>(own);
            delta[i / 2][i % 2] = tile.stat_at(delta_role, r) * growth<T>;
            if (own == -INFINITY)
                blind |= 1u << i;
        }
#pragma unroll
        for (int m = 0; m < blocks; m++)
            if (sizeof(T) != 2 || tile.job.sums == nullptr)
                clear_sums(sum[m]);
            else if constexpr (sizeof(T) == 2)
                read_sums<T, dims>(tile, m, sum[m]);
        tile.negate_rows_if_negative();
    }

    __device__ void take(const MmaSight &sight, int stage)
    {
        Number s[blocks][columns / 8][4], dp[blocks][columns / 8][4];
        score<T, dims, blocks, columns, few_parts<T>>(
            s, {tile.own_rows(0), tile.lane}, Tile::partners(0, stage), tile.lane);
        score<T, dims, blocks, columns, many_parts<T>>(
            dp, {tile.own_rows(1), tile.lane}, Tile::partners(1, stage), tile.lane);
        if (!sight.all)
            hide_unseen(tile, s, sight);
#pragma unroll
        for (int m = 0; m < blocks; m++)
#pragma unroll
            for (int j = 0; j < columns / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    Number &x = s[m][j][e];
                    Number p = gradient_weight<T>(fma(x, factor, -lse[m][e / 2]));
                    x = p * (dp[m][j][e] * shrinkage<T> - delta[m][e / 2]);
                }
        gather<T, dims, blocks, columns>(sum, s, Tile::partners(0, stage), tile.lane);
    }

    __device__ void end()
    {
        Number own = (Number)tile.job.task.scale * shrinkage<T> * shrinkage<T>;
        const Number factors[2] = {own, own};
        uint32_t trouble = 0;
#pragma unroll
        for (int m = 0; m < blocks; m++) {
#pragma unroll
            for (int j = 0; j < dims / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (blind >> (2 * m + e / 2) & 1)
                        sum[m][j][e] = 0;
            trouble |=
                store_block<T, dims>(tile, NATTEN_GRAD_QUERY, m, sum[m], factors);
        }
        __syncwarp();
        if (trouble != 0)
            redo_rows(tile, trouble,
                      [](const natten_cuda_job &job, const Lane &lane,
                         const Place &place, bool wanted) {
                          grad_query_again<Stored<T>>(job, lane, place, wanted);
                      });
    }
};

/* Of keys, of values, or of both: what the registers hold; and of queries, by adding to
 * sums of all blocks. */
template <class T, int dims, bool of_keys, bool of_values, bool of_queries>
class MmaGradTokens {
    using Shape =
        MmaShape<sizeof(T),
                 of_queries ? NATTEN_CUDA_MMA_GRAD_ALL : NATTEN_CUDA_MMA_GRAD_TOKENS,
                 dims>;
    static constexpr int blocks = Shape::blocks, sharing = Shape::sharing,
                         columns = Shape::columns / sharing, width = dims / sharing;
    using Tile = MmaTile<T, dims, Shape, Side::keys>;
    using Kept = MmaKept<T, Shape>;
    static_assert(sharing == 1 || (sharing == 2 && of_keys && of_values));

    using Number = Sum<T>;

    Number factor; /* that makes S exponents */
    Number key_sum[blocks][of_keys ? width / 8 : 1][4],
        value_sum[blocks][of_values ? width / 8 : 1][4];
    MmaAdded<T, dims, Shape> added;
    static constexpr float lift = of_queries ? sums_lift<T> : 1.0f; /* of dS */

  public:
    Tile tile;

    __device__ explicit MmaGradTokens(const natten_cuda_job &job)
        : factor(fabs((Number)job.task.scale) * log2_of_e<Number> * shrinkage<T> *
                 shrinkage<T>),
          tile(job)
    {
    }

    __device__ void copy_rows() const
    {
        tile.copy_rows(0, NATTEN_KEY);
        tile.copy_rows(1, NATTEN_VALUE);
    }
    __device__ void copy_step(const natten_cuda_mma_run &run, int stage) const
    {
        tile.copy_boxes(run, stage);
        tile.copy_stats(run, stage);
    }
    __device__ void follow(const MmaBox &box, bool needed)
    {
        if constexpr (of_queries)
            added.follow(tile, box, needed);
    }

    __device__ void begin()
    {
#pragma unroll
        for (int m = 0; m < blocks; m++) {
            clear_sums(key_sum[m]);
            clear_sums(value_sum[m]);
        }
        tile.negate_rows_if_negative();
    }

    __device__ void take(MmaSight sight, int stage)
    {
        Number s[blocks][columns / 8][4], dp[blocks][columns / 8][4];
        const int first = tile.part() * columns; /* of the warp's partners */
        score<T, dims, blocks, columns, few_parts<T>>(
            s, {tile.own_rows(0), tile.lane}, partners(0, stage, first), tile.lane);
        sight.seen >>= first;
        if (!sight.all)
            hide_unseen(tile, s, sight);
        if (of_keys)
            score<T, dims, blocks, columns, many_parts<T>>(
                dp, {tile.own_rows(1), tile.lane}, partners(1, stage, first),
                tile.lane);
#pragma unroll
        for (int j = 0; j < columns / 8; j++) {
            Number lse[2], delta[2]; /* of the lane's two columns */
            tile.read_stats(lse, delta, stage, first / 2 + 4 * j + tile.lane % 4);
#pragma unroll
            for (int e = 0; e < 2; e++)
                lse[e] = lse_of<T>(lse[e]), delta[e] *= growth<T> * lift;
#pragma unroll
            for (int m = 0; m < blocks; m++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    Number &p = s[m][j][e];
                    p = gradient_weight<T>(fma(p, factor, -lse[e % 2]));
                    if (of_keys)
                        dp[m][j][e] =
                            p * fma(dp[m][j][e], (Number)(shrinkage<T> * lift),
                                    -delta[e % 2]);
                }
        }
        if constexpr (of_queries || sharing > 1)
            Kept::keep(tile, place_of_ds(), dp);
        if constexpr (sharing > 1)
            Kept::keep(tile, place_of_p, s);
        const uint32_t column = (uint32_t)(tile.part() * width * (int)sizeof(T));
        if constexpr (of_values)
            gather<T, dims, blocks, columns, width>(
                value_sum, s, partners(1, stage, first) + column, tile.lane);
        if constexpr (of_keys)
            gather<T, dims, blocks, columns, width>(
                key_sum, dp, partners(0, stage, first) + column, tile.lane);
        if constexpr (sharing > 1) {
            const int other = columns - first;
            tile.meet_group();
            gather_pairs<T, dims, blocks, columns, width>(
                value_sum, typename Kept::Others(tile, place_of_p),
                partners(1, stage, other) + column, tile.lane);
            gather_pairs<T, dims, blocks, columns, width>(
                key_sum, typename Kept::Others(tile, place_of_ds()),
                partners(0, stage, other) + column, tile.lane);
        }
    }

    __device__ void end()
    {
        if constexpr (of_queries)
            added.finish(tile);
        const natten_view *view = tile.job.task.view;
        Number own = (Number)tile.job.task.scale * shrinkage<T> * shrinkage<T> / lift;
        const Number of_key[2] = {own, own}, of_value[2] = {shrinkage<T>, shrinkage<T>};
        const int first = tile.part() * width; /* of the warp's columns */
        uint32_t trouble = 0;
#pragma unroll
        for (int m = 0; m < blocks; m++) {
            if constexpr (of_keys)
                if (view[NATTEN_GRAD_KEY].data != nullptr)
                    trouble |= store_block<T, width>(tile, NATTEN_GRAD_KEY, m,
                                                     key_sum[m], of_key, first);
            if constexpr (of_values)
                if (view[NATTEN_GRAD_VALUE].data != nullptr)
                    trouble |= store_block<T, width>(tile, NATTEN_GRAD_VALUE, m,
                                                     value_sum[m], of_value, first);
        }
        if constexpr (sharing > 1)
            trouble = tile.trouble_of_group(trouble);
        __syncwarp();
        if (trouble != 0)
            redo_rows(tile, trouble,
                      [](const natten_cuda_job &job, const Lane &lane,
                         const Place &place, bool wanted) {
                          grad_tokens_again<Stored<T>>(job, lane, place, wanted);
                      });
    }

  private:
    /* Places of MmaKept. */
    static constexpr int place_of_p = of_queries ? 2 : 1;
    __device__ int place_of_ds() const
    {
        return of_queries ? added.place() : 0;
    }
    /* Tile::partners(), from the first on that the warp takes. */
    __device__ static uint32_t partners(int n, int stage, int first)
    {
        return Tile::partners(n, stage) + (uint32_t)(first * Tile::Lay::bytes);
    }
};

} // namespace natten

#endif
