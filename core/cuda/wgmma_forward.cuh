/* SPDX-License-Identifier: MIT
 *
 * Forward by products of warpgroups: a tile of queries against boxes of keys
 * (device/wgmma_tile.cuh).
 *
 *     registers   queries; of each row a reference near the largest logit so far, the
 *                 sum of weights and of weighted values
 *     a step      S = masks + Q K^T; P = exp2(S c - reference), rounded; sums += P V
 *
 * A crew waits for each product; the block's others fill the time.  References are
 * raised as in mma_forward.cuh, and in each step while one is below -8 and a lane has
 * no logit above 0.  What is not finite is done again as there. */
#ifndef NATTEN_CUDA_WGMMA_FORWARD_CUH
#define NATTEN_CUDA_WGMMA_FORWARD_CUH

#include "cuda/device/wgmma_bring.cuh"
#include "cuda/device/wgmma_results.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

template <class T, bool engine> class WgmmaForward {
    using Shape = WgmmaShape<NATTEN_CUDA_WGMMA_FORWARD>;
    using Tile = WgmmaTile<T, NATTEN_CUDA_WGMMA_FORWARD, engine>;
    using Lay = MmaRows<T, NATTEN_CUDA_WGMMA_DIMS>;
    static constexpr int columns = Shape::columns, dims = NATTEN_CUDA_WGMMA_DIMS;

    Tile tile;
    float factor; /* that makes S exponents */
    float reference[2], weights[2], sum[dims / 8][4];
    uint32_t q[dims / 16][4]; /* queries */
    int64_t lse_row; /* bytes, of the row whose lse the lane writes, from the item's */
    WgmmaTurn<Shape::first> keys;
    WgmmaTurn<Shape::second> values;

  public:
    __device__ explicit WgmmaForward(const natten_cuda_job &job)
        : tile(job), factor((float)job.task.scale * log2_e),
          lse_row(tile.offset_of_row(NATTEN_LSE, lse_row_of(tile.lane)))
    {
    }

    __device__ void run()
    {
        tile.run([&] { work(); });
    }

  private:
    static constexpr float unseen = -0x1p60f, rise = 8;

    /* The first two lanes of a quad write lse of its two rows. */
    __device__ static int lse_row_of(int lane)
    {
        return lane / 4 + 8 * (lane % 4 % 2);
    }

    __device__ void work()
    {
        for (int32_t number = tile.first_item(); number < tile.job.wgmma.items;
             number += tile.item_step()) {
            uint32_t rows = Lay::left(
                tile.rows(0) + (uint32_t)(tile.warp * 16 * Lay::bytes), tile.lane);
            tile.await_item();
#pragma unroll
            for (int k = 0; k < dims / 16; k++)
                load_matrices(q[k], Lay::step(rows, k));
            tile.leave(tile.rows_left());
            reference[0] = reference[1] = unseen;
            weights[0] = weights[1] = 0;
            clear_sums(sum);
            int32_t steps = of_warp(tile.item().steps);
#pragma unroll 1
            for (int32_t n = 0; n < steps; n++) {
                if (!tile.begin_step(keys.stage(), keys.parity()))
                    take<0>();
                else if (tile.has_few_hot())
                    take<2>();
                else
                    take<Tile::gathers>();
            }
            end();
            tile.end_item();
        }
    }

    template <int hots> __device__ void take()
    {
        float s[columns / 8][4];
        uint32_t p[Tile::gathers][4];
        score<hots>(s);
        tile.leave(tile.left(0, keys.stage()));
        keys.next();
        weigh(s);
        Tile::pack_left(p, s);
        barrier_wait(tile.full(1, values.stage()), values.parity());
        tile.gather(sum, p, 1, values.stage());
        tile.recall_places();
        wait_for_products<0>();
        have_sums(sum);
        tile.leave(tile.left(1, values.stage()));
        values.next();
    }

    template <int hots> __device__ void score(float (&s)[columns / 8][4]) const
    {
        const uint64_t b = matrix_of_wide_rows(tile.partners(0, keys.stage()));
        tile.template mask<hots>(s, keys.stage());
        begin_products();
#pragma unroll
        for (int k = 0; k < dims / 16; k++)
            WarpgroupProduct<T, columns>::template multiply<false>(
                s, q[k], matrix_further(b, (uint32_t)(32 * k)), hots > 0 || k > 0);
        end_group_of_products();
        wait_for_products<0>();
        have_sums(s);
    }

    /* Logits become weights. */
    __device__ void weigh(float (&s)[columns / 8][4])
    {
        bool rises = false;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            /* As integers, of which one instruction takes three.  If one is positive,
             * this is the largest.  If none is, it is some negative one, and none
             * exceeds a reference of -8 or more by 8; lower ones are raised in each
             * such step.  (NaN is not more, and shows in the sum.) */
            int32_t most = INT32_MIN;
#pragma unroll
            for (int j = 0; j < columns / 8; j++)
                most = __vimax3_s32(most, __float_as_int(s[j][2 * r]),
                                    __float_as_int(s[j][2 * r + 1]));
            rises = rises || __int_as_float(most) * factor > reference[r] + rise ||
                    (most < 0 && reference[r] < -rise);
        }
        if (__any_sync(all_lanes, rises))
            raise_references(s);
#pragma unroll
        for (int j = 0; j < columns / 8; j++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float &x = s[j][2 * r], &y = s[j][2 * r + 1];
                x = exp2_fast(fmaf(x, factor, -reference[r]));
                y = exp2_fast(fmaf(y, factor, -reference[r]));
                weights[r] += x + y;
            }
    }

    __device__ void raise_references(const float (&s)[columns / 8][4])
    {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = -INFINITY;
#pragma unroll
            for (int j = 0; j < columns / 8; j++)
                most = fmaxf(most, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
            float higher = fmaxf(reference[r], quad_max(most * factor));
            float shrink = exp2_fast(reference[r] - higher);
            reference[r] = higher;
            weights[r] *= shrink;
#pragma unroll
            for (int j = 0; j < dims / 8; j++)
                sum[j][2 * r] *= shrink, sum[j][2 * r + 1] *= shrink;
        }
    }

    __device__ void end()
    {
        float inverse[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            weights[r] = quad_sum(weights[r]);
            inverse[r] = weights[r] > 0x1p-16f ? inverse_of(weights[r]) : NAN;
        }
        uint32_t trouble = tile.store_rows(0, sum, inverse);
        int t = tile.lane % 4, r = lse_row_of(tile.lane);
        float weight = t == 0 ? weights[0] : weights[1];
        float at = t == 0 ? reference[0] : reference[1];
        if (tile.job.task.view[NATTEN_LSE].data != nullptr && t < 2 && tile.exists(r))
            *reinterpret_cast<float *>(tile.item().result[1] + lse_row) =
                (at + log2f(weight)) * log_2;
        __syncwarp();
        if (trouble != 0)
            tile.redo(trouble, [](const natten_cuda_job &job, const Lane &lane,
                                  const Place &place, bool wanted) {
                forward_again<T>(job, lane, place, wanted);
            });
    }
};

} // namespace natten

#endif
