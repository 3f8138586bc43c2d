/* SPDX-License-Identifier: MIT
 *
 * Gradients for small windows, in products of matrices: of 16 queries from the keys of
 * their box, and of 16 keys and values from the queries that see them, each computing P
 * and dS anew, so that no two warps add to one place.
 *
 *     grad_query    S = Q K^T    dP = dO V^T    dS = P (dP - delta)    dQ += dS K
 *     grad_tokens   S = K Q^T    dP = V dO^T    dV += P dO             dK += dS Q
 *
 * P and dS are rounded to 16 bits for the last products.  As in halo_forward.cuh, rows
 * whose results are not finite are in the end computed anew by level a. */
#ifndef NATTEN_CUDA_HALO_BACKWARD_CUH
#define NATTEN_CUDA_HALO_BACKWARD_CUH

#include "cuda/device/halo_rows.cuh"
#include "cuda/simt_backward.cuh"

namespace natten {

template <class T>
__device__ __noinline__ void grad_query_again(const natten_cuda_job &job,
                                              const Lane &lane, const Place &place,
                                              bool exists)
{
    grad_query_row<T, Weights::fused>(job, lane, place, 0, exists);
}

template <class T>
__device__ __noinline__ void grad_tokens_again(const natten_cuda_job &job,
                                               const Lane &lane, const Place &place,
                                               bool exists)
{
    grad_tokens_row<T, Weights::fused>(job, lane, place, 0, exists);
}

template <int count> __device__ inline void clear(float (&sum)[count][4])
{
    for (int j = 0; j < count; j++)
        for (int i = 0; i < 4; i++)
            sum[j][i] = 0;
}

/* exp(logit - lse) of a product S, to base 2; `lse` is already. */
template <bool biased>
__device__ inline float weight_of(float s, float scale, float bias, float lse)
{
    if (biased)
        return exp2_fast(fmaf(fmaf(s, scale, bias), log2_e, -lse));
    return exp2_fast(fmaf(s, scale * log2_e, -lse));
}

template <class T, int dims, bool biased> class HaloGradQuery {
  public:
    HaloTile<T, dims, Side::queries> tile;

    __device__ explicit HaloGradQuery(const natten_cuda_job &job)
        : tile(job), scale((float)job.task.scale)
    {
        clear(sum);
    }

    static constexpr int row_tensors = 5, partner_tensors = 2;
    __device__ static natten_role row_role(int n)
    {
        return n == 0   ? NATTEN_QUERY
               : n == 1 ? NATTEN_GRAD_OUT
               : n == 2 ? NATTEN_LSE
               : n == 3 ? delta_role
                        : NATTEN_GRAD_QUERY;
    }
    __device__ static natten_role partner_role(int n)
    {
        return n == 0 ? NATTEN_KEY : NATTEN_VALUE;
    }

    __device__ void copy_rows(int turn) const
    {
        tile.copy_rows(0, NATTEN_QUERY, turn);
        tile.copy_rows(1, NATTEN_GRAD_OUT, turn);
        copy4(tile.own_rows(2) + (uint32_t)tile.lane * 4,
              tile.row_at(2 + tile.lane / 16, turn, tile.lane % 16));
    }
    __device__ void copy_step(int stage, const HaloStep &step) const
    {
        tile.copy_slice(stage, step, NATTEN_KEY, NATTEN_VALUE);
        if (biased)
            tile.copy_bias(stage, step);
    }

    __device__ void begin()
    {
        query.load(tile, 0);
        grad.load(tile, 1);
        const float *stats =
            static_cast<const float *>(__cvta_shared_to_generic(tile.own_rows(2)));
        for (int i = 0; i < 2; i++) {
            lse[i] = stats[tile.lane / 4 + 8 * i] * log2_e;
            delta[i] = stats[tile.lane / 4 + 8 * i + 16];
        }
    }

    __device__ void take(int stage, const HaloStep &step, int32_t first, int32_t pairs,
                         uint32_t keep)
    {
        uint32_t keys = tile.stage(stage);
        uint32_t values = keys + (uint32_t)tile.job.halo.box_bytes;
        const uint32_t *table = tile.table() + first * NATTEN_CUDA_WARP;
#pragma unroll 2
        for (int32_t p = 0; p < pairs; p++) {
            uint32_t word = table[p * NATTEN_CUDA_WARP] & keep, ds[4];
            Biases<biased> bias(tile, stage, step, first + p);
#pragma unroll
            for (int g = 0; g < 2; g++) {
                float s[4], dp[4];
                dot<T, dims>(s, query, keys + place_of(word, g));
                dot<T, dims>(dp, grad, values + place_of(word, g), -delta[0],
                             -delta[1]);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    float b = biased ? bias.at(g, e) : 0;
                    float w = weight_of<biased>(s[e], scale, b, lse[e / 2]);
                    dp[e] = sees(word, g, e) ? w * dp[e] : 0;
                }
                ds[2 * g] = pack<T>(dp[0], dp[1]);
                ds[2 * g + 1] = pack<T>(dp[2], dp[3]);
            }
            accumulate<T, dims>(sum, ds, keys + place_of(word, 0),
                                keys + place_of(word, 1));
        }
    }

    __device__ void end()
    {
        float factor[2] = {scale, scale};
        bool found = store_rows<T, dims>(tile, NATTEN_GRAD_QUERY, sum, factor, 4);
        trouble = trouble || found;
        clear(sum);
    }

    __device__ void again() const
    {
        if (__any_sync(all_lanes, trouble))
            redo<T>(tile, NATTEN_GRAD_QUERY, NATTEN_GRAD_QUERY,
                    [](const natten_cuda_job &job, const Lane &lane, const Place &place,
                       bool wanted) { grad_query_again<T>(job, lane, place, wanted); });
    }

  private:
    float scale;
    bool trouble = false;
    Rows<dims> query, grad;
    float lse[2], delta[2], sum[dims / 8][4];
};

/* Rows of 128 leave registers for one of the two results: `of_keys`, `of_values`. */
template <class T, int dims, bool biased, bool of_keys, bool of_values>
class HaloGradTokens {
  public:
    HaloTile<T, dims, Side::keys> tile;

    __device__ explicit HaloGradTokens(const natten_cuda_job &job)
        : tile(job), scale((float)job.task.scale)
    {
        clear(key_sum);
        clear(value_sum);
    }

    static constexpr int row_tensors = 4, partner_tensors = 4;
    __device__ static natten_role row_role(int n)
    {
        return n == 0   ? NATTEN_KEY
               : n == 1 ? NATTEN_VALUE
               : n == 2 ? NATTEN_GRAD_KEY
                        : NATTEN_GRAD_VALUE;
    }
    __device__ static natten_role partner_role(int n)
    {
        return n == 0   ? NATTEN_QUERY
               : n == 1 ? NATTEN_GRAD_OUT
               : n == 2 ? NATTEN_LSE
                        : delta_role;
    }

    __device__ void copy_rows(int turn) const
    {
        tile.copy_rows(0, NATTEN_KEY, turn);
        if (of_keys)
            tile.copy_rows(1, NATTEN_VALUE, turn);
    }
    __device__ void copy_step(int stage, const HaloStep &step) const
    {
        tile.copy_slice(stage, step, NATTEN_QUERY, NATTEN_GRAD_OUT);
        tile.copy_stats(stage, step);
        if (biased)
            tile.copy_bias(stage, step);
    }

    __device__ void begin()
    {
        key.load(tile, 0);
        if (of_keys)
            value.load(tile, 1);
    }

    __device__ void take(int stage, const HaloStep &step, int32_t first, int32_t pairs,
                         uint32_t keep)
    {
        uint32_t queries = tile.stage(stage);
        uint32_t grads = queries + (uint32_t)tile.job.halo.box_bytes;
        const float2 *stats = static_cast<const float2 *>(
            __cvta_shared_to_generic(queries + (uint32_t)tile.job.halo.stats_at));
        const uint32_t *table = tile.table() + first * NATTEN_CUDA_WARP;
        for (int32_t i = 0; i < pairs; i++) {
            uint32_t word = table[i * NATTEN_CUDA_WARP] & keep, p[4], ds[4];
            Biases<biased> bias(tile, stage, step, first + i);
            ushort4 token = tile.columns(1)[(first + i) * 4];
#pragma unroll
            for (int g = 0; g < 2; g++) {
                float2 left = stats[g == 0 ? token.x : token.z];
                float2 right = stats[g == 0 ? token.y : token.w];
                float s[4], dp[4];
                dot<T, dims>(s, key, queries + place_of(word, g));
                if (of_keys)
                    dot<T, dims>(dp, value, grads + place_of(word, g));
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const float2 &of = e % 2 == 0 ? left : right; /* lse, delta */
                    float b = biased ? bias.at(g, e) : 0;
                    float w = weight_of<biased>(s[e], scale, b, of.x * log2_e);
                    s[e] = sees(word, g, e) ? w : 0;
                    dp[e] = sees(word, g, e) ? w * (dp[e] - of.y) : 0;
                }
                p[2 * g] = pack<T>(s[0], s[1]);
                p[2 * g + 1] = pack<T>(s[2], s[3]);
                ds[2 * g] = pack<T>(dp[0], dp[1]);
                ds[2 * g + 1] = pack<T>(dp[2], dp[3]);
            }
            if (of_values)
                accumulate<T, dims>(value_sum, p, grads + place_of(word, 0),
                                    grads + place_of(word, 1));
            if (of_keys)
                accumulate<T, dims>(key_sum, ds, queries + place_of(word, 0),
                                    queries + place_of(word, 1));
        }
    }

    __device__ void end()
    {
        float factor[2] = {scale, scale}, one[2] = {1, 1};
        bool found = false;
        if (of_keys && tile.job.task.view[NATTEN_GRAD_KEY].data != nullptr)
            found = store_rows<T, dims>(tile, NATTEN_GRAD_KEY, key_sum, factor, 2);
        trouble = trouble || found;
        if (of_values && tile.job.task.view[NATTEN_GRAD_VALUE].data != nullptr)
            found = store_rows<T, dims>(tile, NATTEN_GRAD_VALUE, value_sum, one, 3);
        trouble = trouble || found;
        clear(key_sum);
        clear(value_sum);
    }

    __device__ void again() const
    {
        if (__any_sync(all_lanes, trouble))
            redo<T>(
                tile, of_keys ? NATTEN_GRAD_KEY : NATTEN_GRAD_VALUE,
                of_values ? NATTEN_GRAD_VALUE : NATTEN_GRAD_KEY,
                [](const natten_cuda_job &job, const Lane &lane, const Place &place,
                   bool wanted) { grad_tokens_again<T>(job, lane, place, wanted); });
    }

  private:
    float scale;
    bool trouble = false;
    Rows<dims> key, value;
    float key_sum[dims / 8][4], value_sum[dims / 8][4];
};

} // namespace natten

#endif
