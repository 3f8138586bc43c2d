/* SPDX-License-Identifier: MIT
 *
 * Gradients by products of warpgroups: the softmax is redone from lse, each gradient is
 * summed by the crew that has its rows, and nothing is added by two
 * (docs/definition.md, section 7).
 *
 *     grad_query    rows are queries: S = Q K^T, dP = dO V^T, dS = P (dP - delta);
 *                   dQ += dS K
 *     grad_tokens   rows are keys: S = K Q^T, dP = V dO^T; dV += P dO, dK += dS Q
 *
 * P and dS stay in registers: what comes out of a product is the left side of the next.
 * Sums of a step are waited for only when the next step's scores have begun, and a step
 * is weighed by halves, so that the tensor cores have scores and sums while the crew
 * works masks out, and the first half's sums while it weighs the second:
 *
 *     crew           masks n | leave n-1 | P, dS 1 | P, dS 2 | masks n+1 | leave n
 *     tensor cores    sums n-1 | S n | dP n |        | sums 1  | sums 2 n | S n+1
 *
 * lse, to base 2, and minus delta come from job.stats; the pass of queries mostly puts
 * them there (device/wgmma_stats.cuh). */
#ifndef NATTEN_CUDA_WGMMA_BACKWARD_CUH
#define NATTEN_CUDA_WGMMA_BACKWARD_CUH

#include "cuda/device/wgmma_bring.cuh"
#include "cuda/device/wgmma_results.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

template <class T, bool engine> class WgmmaGradQuery {
    using Shape = WgmmaShape<NATTEN_CUDA_WGMMA_GRAD_QUERY>;
    using Tile = WgmmaTile<T, NATTEN_CUDA_WGMMA_GRAD_QUERY, engine>;
    static constexpr int columns = Shape::columns, dims = NATTEN_CUDA_WGMMA_DIMS,
                         half = (Tile::gathers + 1) / 2;

    Tile tile;
    float factor; /* that makes S exponents */
    float lse[2], minus_delta[2], sum[dims / 8][4];
    uint32_t query[dims / 16][4], grad[dims / 16][4];
    WgmmaTurn<Shape::first> turn; /* both tensors' */
    static_assert(Shape::first == Shape::second);

  public:
    __device__ explicit WgmmaGradQuery(const natten_cuda_job &job)
        : tile(job), factor((float)job.task.scale * log2_e)
    {
    }

    __device__ void run()
    {
        tile.run([&] { work(); });
    }

  private:
    __device__ void work()
    {
        while (tile.begin_item()) {
            tile.load_rows(query, 0);
            tile.load_rows(grad, 1);
            tile.leave(tile.rows_left());
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float2 own = load_floats(tile.row_stats(tile.lane / 4 + 8 * r));
                lse[r] = own.x, minus_delta[r] = own.y;
            }
            clear_sums(sum);
            int32_t steps = of_warp(tile.item().steps);
#pragma unroll 1
            for (int32_t n = 0; n < steps; n++) {
                float s[columns / 8][4];
                const bool masked = tile.begin_masks(s, turn.stage(), turn.parity());
                tile.score(s, query, 0, turn.stage(), masked);
                wait_for_products<1>();
                if (n > 0)
                    tile.leave(tile.left(0, turn.before()));
                weigh(s);
                turn.next();
            }
            wait_for_products<0>();
            have_sums(sum);
            if (steps > 0)
                tile.leave(tile.left(0, turn.before()));
            end();
            tile.end_item();
        }
    }

    __device__ void weigh(float (&s)[columns / 8][4])
    {
        float dp[columns / 8][4];
        uint32_t ds[Tile::gathers][4];
        barrier_wait(tile.full(1, turn.stage()), turn.parity());
        tile.score(dp, grad, 1, turn.stage(), false);
        wait_for_products<1>();
        have_sums(s);
        exponentials<0, half>(s);
        wait_for_products<0>();
        have_sums(dp);
        tile.leave(tile.left(1, turn.stage()));
        gather_part<0, half>(s, dp, ds);
        exponentials<half, Tile::gathers>(s);
        gather_part<half, Tile::gathers>(s, dp, ds);
        end_group_of_products();
        tile.recall_places();
    }

    /* Of 16 partners each. */
    template <int first, int end>
    __device__ void exponentials(float (&s)[columns / 8][4]) const
    {
#pragma unroll
        for (int j = 2 * first; j < natten_min(2 * end, columns / 8); j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[j][e] = exp2_fast(fmaf(s[j][e], factor, -lse[e / 2]));
    }
    template <int first, int end>
    __device__ void gather_part(float (&s)[columns / 8][4],
                                const float (&dp)[columns / 8][4],
                                uint32_t (&ds)[Tile::gathers][4])
    {
#pragma unroll
        for (int j = 2 * first; j < natten_min(2 * end, columns / 8); j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[j][e] *= dp[j][e] + minus_delta[e / 2];
        Tile::template pack_left_part<first, end>(ds, s);
        tile.template gather_part<first, end>(sum, ds, 0, turn.stage());
    }

    __device__ void end()
    {
        tile.recall();
        const float own = (float)tile.job.task.scale, factors[2] = {own, own};
        uint32_t trouble = tile.store_rows(0, sum, factors);
        __syncwarp();
        if (trouble != 0)
            tile.redo(trouble, [](const natten_cuda_job &job, const Lane &lane,
                                  const Place &place, bool wanted) {
                grad_query_again<T>(job, lane, place, wanted);
            });
    }
};

template <class T, bool engine> class WgmmaGradTokens {
    using Shape = WgmmaShape<NATTEN_CUDA_WGMMA_GRAD_TOKENS>;
    using Tile = WgmmaTile<T, NATTEN_CUDA_WGMMA_GRAD_TOKENS, engine>;
    static constexpr int columns = Shape::columns, dims = NATTEN_CUDA_WGMMA_DIMS,
                         half = (Tile::gathers + 1) / 2;

    Tile tile;
    float factor; /* that makes S exponents */
    float key_sum[dims / 8][4], value_sum[dims / 8][4];
    WgmmaTurn<Shape::first> turn; /* both tensors' */
    static_assert(Shape::first == Shape::second);

  public:
    __device__ explicit WgmmaGradTokens(const natten_cuda_job &job)
        : tile(job), factor((float)job.task.scale * log2_e)
    {
    }

    __device__ void run()
    {
        tile.run([&] { work(); });
    }

  private:
    __device__ void work()
    {
        while (tile.begin_item()) {
            clear_sums(key_sum);
            clear_sums(value_sum);
            int32_t steps = of_warp(tile.item().steps);
#pragma unroll 1
            for (int32_t n = 0; n < steps; n++) {
                float s[columns / 8][4];
                const bool masked = tile.begin_masks(s, turn.stage(), turn.parity());
                tile.score(s, 0, turn.stage(), masked);
                wait_for_products<1>();
                if (n > 0)
                    leave(turn.before());
                weigh(s);
                turn.next();
            }
            wait_for_products<0>();
            have_sums(value_sum);
            have_sums(key_sum);
            if (steps > 0)
                leave(turn.before());
            tile.leave(tile.rows_left());
            end();
            tile.end_item();
        }
    }

    /* lse and minus delta of the lane's two columns of each eight, of some sixteens. */
    struct Stats {
        float lse[2 * half][2], minus_delta[2 * half][2];
    };
    template <int first, int end> __device__ void load_stats(Stats &of) const
    {
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const uint32_t from =
                tile.stats(turn.stage(), n) + (uint32_t)(tile.lane % 4 * 16);
            float(&to)[2 * half][2] = n == 0 ? of.lse : of.minus_delta;
#pragma unroll
            for (int k = first; k < end; k++) {
                float4 four = load_four_floats(from + (uint32_t)(64 * k));
                const int j = 2 * (k - first);
                to[j][0] = four.x, to[j][1] = four.y;
                to[j + 1][0] = four.z, to[j + 1][1] = four.w;
            }
        }
    }

    __device__ void leave(int32_t stage)
    {
        tile.leave(tile.left(0, stage));
        tile.leave(tile.left(1, stage));
    }

    __device__ void weigh(float (&s)[columns / 8][4])
    {
        float dp[columns / 8][4];
        uint32_t p[Tile::gathers][4], ds[Tile::gathers][4];
        barrier_wait(tile.full(1, turn.stage()), turn.parity());
        tile.score(dp, 1, turn.stage(), false);
        Stats first, second;
        load_stats<0, half>(first);
        wait_for_products<1>();
        have_sums(s);
        gather_values<0, half>(s, first, p);
        end_group_of_products();
        wait_for_products<1>();
        have_sums(dp);
        load_stats<half, Tile::gathers>(second);
        gather_keys<0, half>(s, dp, first, ds);
        gather_values<half, Tile::gathers>(s, second, p);
        gather_keys<half, Tile::gathers>(s, dp, second, ds);
        end_group_of_products();
        tile.recall_places();
    }

    template <int first, int end>
    __device__ void gather_values(float (&s)[columns / 8][4], const Stats &of,
                                  uint32_t (&p)[Tile::gathers][4])
    {
#pragma unroll
        for (int j = 2 * first; j < natten_min(2 * end, columns / 8); j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[j][e] =
                    exp2_fast(fmaf(s[j][e], factor, -of.lse[j - 2 * first][e % 2]));
        Tile::template pack_left_part<first, end>(p, s);
        tile.template gather_part<first, end>(value_sum, p, 1, turn.stage());
    }
    template <int first, int end>
    __device__ void gather_keys(float (&s)[columns / 8][4],
                                const float (&dp)[columns / 8][4], const Stats &of,
                                uint32_t (&ds)[Tile::gathers][4])
    {
#pragma unroll
        for (int j = 2 * first; j < natten_min(2 * end, columns / 8); j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[j][e] *= dp[j][e] + of.minus_delta[j - 2 * first][e % 2];
        Tile::template pack_left_part<first, end>(ds, s);
        tile.template gather_part<first, end>(key_sum, ds, 0, turn.stage());
    }

    __device__ void end()
    {
        tile.recall();
        const natten_view *view = tile.job.task.view;
        const float own = (float)tile.job.task.scale;
        const float of_key[2] = {own, own}, of_value[2] = {1, 1};
        uint32_t trouble = 0;
        if (view[NATTEN_GRAD_KEY].data != nullptr)
            trouble |= tile.store_rows(0, key_sum, of_key);
        if (view[NATTEN_GRAD_VALUE].data != nullptr)
            trouble |= tile.store_rows(1, value_sum, of_value);
        __syncwarp();
        if (trouble != 0)
            tile.redo(trouble, [](const natten_cuda_job &job, const Lane &lane,
                                  const Place &place, bool wanted) {
                grad_tokens_again<T>(job, lane, place, wanted);
            });
    }
};

} // namespace natten

#endif
