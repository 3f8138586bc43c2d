/* SPDX-License-Identifier: MIT
 *
 * Forward for windows of any size: a tile of queries against boxes of keys
 * (device/mma_tile.cuh), in products of matrices with sums in fp32,
 * of doubles in fp64 (device/mma_parts.cuh).
 *
 *     registers   of each row a reference near the largest logit so far, the sum of
 *                 weights and of weighted values, a row of 4 lanes
 *     a step      S = Q K^T, masked; P = exp2(S c - reference), rounded; sums += P V
 *
 * A row's reference is raised only when a logit exceeds it by 8 binary places: then its
 * sums shrink.  In most steps none does, so that sums are seldom touched.  What is not
 * finite is found and done again as in halo_forward.cuh. */
#ifndef NATTEN_CUDA_MMA_FORWARD_CUH
#define NATTEN_CUDA_MMA_FORWARD_CUH

#include "cuda/device/mma_walk.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

template <class T, int dims> class MmaForward {
    using Shape = MmaShape<sizeof(T), NATTEN_CUDA_MMA_FORWARD, dims>;
    static constexpr int blocks = Shape::blocks, columns = Shape::columns;
    using Tile = MmaTile<T, dims, Shape, Side::queries>;

    using Number = Sum<T>;

    Number factor; /* that makes S exponents */
    Number reference[blocks][2], weights[blocks][2], sum[blocks][dims / 8][4];

  public:
    Tile tile;

    __device__ explicit MmaForward(const natten_cuda_job &job)
        : factor(fabs((Number)job.task.scale) * log2_of_e<Number> * shrinkage<T> *
                 shrinkage<T>),
          tile(job)
    {
    }

    __device__ void copy_rows() const
    {
        tile.copy_rows(0, NATTEN_QUERY);
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
        tile.negate_rows_if_negative();
#pragma unroll
        for (int m = 0; m < blocks; m++) {
            reference[m][0] = reference[m][1] = unseen;
            weights[m][0] = weights[m][1] = 0;
            clear_sums(sum[m]);
        }
    }

    __device__ void take(const MmaSight &sight, int stage)
    {
        Number s[blocks][columns / 8][4];
        score<T, dims, blocks, columns, few_parts<T>>(
            s, {tile.own_rows(0), tile.lane}, Tile::partners(0, stage), tile.lane);
        if (!sight.all)
            hide_unseen(tile, s, sight);
        weigh(s);
        gather<T, dims, blocks, columns>(sum, s, Tile::partners(1, stage), tile.lane);
    }

    __device__ void end()
    {
        uint32_t trouble = 0;
#pragma unroll
        for (int m = 0; m < blocks; m++) {
            Number inverse[2];
            for (int r = 0; r < 2; r++) {
                weights[m][r] = quad_sum(weights[m][r]);
                /* Less than a weight of the reference's own size: nothing was seen, or
                 * nothing above `unseen`. */
                inverse[r] = weights[m][r] > Number(0x1p-16)
                                 ? inverse_of(weights[m][r]) * shrinkage<T>
                                 : Number(NAN);
            }
            trouble |= store_block<T, dims>(tile, NATTEN_OUT, m, sum[m], inverse);
            /* The first two lanes of a quad write a row each. */
            int t = tile.lane % 4, r = 16 * m + tile.lane / 4 + 8 * t;
            Number weight = t == 0 ? weights[m][0] : weights[m][1];
            Number at = t == 0 ? reference[m][0] : reference[m][1];
            if (tile.job.task.view[NATTEN_LSE].data != nullptr && t < 2 &&
                tile.exists(r))
                *reinterpret_cast<Number *>(tile.row_at(NATTEN_LSE, r)) =
                    (at + log2(weight)) * log_of_2<Number>;
        }
        __syncwarp();
        if (trouble != 0)
            redo_rows(tile, trouble,
                      [](const natten_cuda_job &job, const Lane &lane,
                         const Place &place, bool wanted) {
                          forward_again<Stored<T>>(job, lane, place, wanted);
                      });
    }

  private:
    static constexpr Number unseen = -0x1p60, rise = 8;

    /* Logits become weights. */
    __device__ void weigh(Number (&s)[blocks][columns / 8][4])
    {
        Number top[blocks][2];
        bool rises = false;
#pragma unroll
        for (int m = 0; m < blocks; m++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                Number most = -INFINITY;
#pragma unroll
                for (int j = 0; j < columns / 8; j++)
                    most = fmax(most, fmax(s[m][j][2 * r], s[m][j][2 * r + 1]));
                top[m][r] = most * factor;
                rises = rises || top[m][r] > reference[m][r] + rise;
            }
        if (__any_sync(all_lanes, rises))
            raise_references(top);
#pragma unroll
        for (int m = 0; m < blocks; m++)
#pragma unroll
            for (int j = 0; j < columns / 8; j++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    Number &x = s[m][j][2 * r], &y = s[m][j][2 * r + 1];
                    x = exp2_fast(fma(x, factor, -reference[m][r]));
                    y = exp2_fast(fma(y, factor, -reference[m][r]));
                    weights[m][r] += x + y;
                }
    }

    __device__ void raise_references(const Number (&top)[blocks][2])
    {
#pragma unroll
        for (int m = 0; m < blocks; m++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                Number higher = fmax(reference[m][r], quad_max(top[m][r]));
                Number shrink = exp2_fast(reference[m][r] - higher);
                reference[m][r] = higher;
                weights[m][r] *= shrink;
#pragma unroll
                for (int j = 0; j < dims / 8; j++)
                    sum[m][j][2 * r] *= shrink, sum[m][j][2 * r + 1] *= shrink;
            }
    }
};

} // namespace natten

#endif
