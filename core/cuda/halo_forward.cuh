/* SPDX-License-Identifier: MIT
 *
 * Forward for small windows: 16 queries of a warp against the keys of their box
 * (device/halo_tile.cuh), in products of 16-bit matrices with sums in fp32.
 *
 *     registers   the queries' rows; their sums of values, a row of 4 lanes; of each
 *                 row a reference, near the largest logit, and the sum of weights
 *     a round     some pairs of groups: S = Q K^T, masked; P = exp2(S c - reference) in
 *                 16 bits; sums += P V
 *
 * bf16 has the exponents of fp32, so any logit that the row sees does as the reference;
 * the first pair's largest is taken.  A row whose sum of weights shows that its logits
 * are further from it than 2^60 is computed anew, as below.  fp16 holds 2^16 at most:
 * there the reference moves whenever a logit is more than `slack` above it.
 *
 * Products touch every key of the box with every row, so what is not finite leaks as
 * 0 * NaN to rows that do not see it, but never unnoticed: such a row's results are not
 * finite.  Those rows, and those whose weights are all 0, are in the end computed anew
 * by level a (simt_forward.cuh), which reads only what a row sees. */
#ifndef NATTEN_CUDA_HALO_FORWARD_CUH
#define NATTEN_CUDA_HALO_FORWARD_CUH

#include "cuda/device/halo_rows.cuh"
#include "cuda/simt_forward.cuh"

namespace natten {

template <class T>
__device__ __noinline__ void forward_again(const natten_cuda_job &job, const Lane &lane,
                                           const Place &place, bool exists)
{
    forward_row<T>(job, lane, place, 0, exists);
}

template <class T, int dims, bool biased> class HaloForward {
  public:
    HaloTile<T, dims, Side::queries> tile;

    __device__ explicit HaloForward(const natten_cuda_job &job)
        : tile(job), factor((float)job.task.scale * (biased ? 1 : log2_e)),
          negative(factor < 0)
    {
        if (!biased)
            factor = fabsf(factor);
        reset();
    }

    static constexpr int row_tensors = 3, partner_tensors = 2;
    __device__ static natten_role row_role(int n)
    {
        return n == 0 ? NATTEN_QUERY : n == 1 ? NATTEN_OUT : NATTEN_LSE;
    }
    __device__ static natten_role partner_role(int n)
    {
        return n == 0 ? NATTEN_KEY : NATTEN_VALUE;
    }

    __device__ void copy_rows(int turn) const
    {
        tile.copy_rows(0, NATTEN_QUERY, turn);
    }
    __device__ void copy_step(int stage, const HaloStep &step) const
    {
        tile.copy_slice(stage, step, NATTEN_KEY, NATTEN_VALUE);
        if (biased)
            tile.copy_bias(stage, step);
    }

    __device__ void begin()
    {
        rows.load(tile, 0);
        /* The reference is near the largest S times the factor: the factor must not
         * turn that into the least. */
        if (!biased && negative)
            for (int k = 0; k < dims / 16; k++)
                for (int i = 0; i < 4; i++)
                    rows.a[k][i] ^= 0x80008000u;
    }

    __device__ void take(int stage, const HaloStep &step, int32_t first, int32_t pairs,
                         uint32_t keep)
    {
        int32_t last = first + pairs;
        for (; first + at_once <= last; first += at_once)
            round<at_once>(stage, step, first, keep);
        if (at_once > 2 && first + 2 <= last) {
            round<2>(stage, step, first, keep);
            first += 2;
        }
        if (first < last)
            round<1>(stage, step, first, keep);
    }

    __device__ void end()
    {
        bool has_lse = fresh(tile.job).task.view[NATTEN_LSE].data != nullptr;
        float inverse[2];
        for (int i = 0; i < 2; i++) {
            weights[i] = quad_sum(weights[i]);
            /* NaN is seen below. */
            bool good = weights[i] > least_weight && weights[i] < 1 / least_weight;
            inverse[i] = good ? __fdividef(1, weights[i]) : NAN;
        }
        bool found = store_rows<T, dims>(tile, NATTEN_OUT, sum, inverse, 1);
        trouble = trouble || found;
        /* The first two lanes of a quad write a row each. */
        int t = tile.lane % 4, r = tile.lane / 4 + 8 * t;
        float weight = t == 0 ? weights[0] : weights[1];
        float at = t == 0 ? reference[0] : reference[1];
        if (has_lse && t < 2 && (tile.info()->exists >> r & 1))
            *reinterpret_cast<float *>(tile.row_at(2, tile.turn, r)) =
                (at + log2f(weight)) * log_2;
        reset();
    }

    __device__ void again() const
    {
        if (__any_sync(all_lanes, trouble))
            redo<T>(tile, NATTEN_OUT, NATTEN_OUT,
                    [](const natten_cuda_job &job, const Lane &lane, const Place &place,
                       bool wanted) { forward_again<T>(job, lane, place, wanted); });
    }

  private:
    static constexpr int at_once = dims == 32 ? 4 : 2;
    static constexpr bool any_reference = is_bfloat16<T>;
    static constexpr float slack = 8, unseen = -1e30f, least_weight = 0x1p-60f;

    float factor; /* that makes S logits; with a bias, those to base e */
    bool negative, trouble = false, settled;
    Rows<dims> rows;
    float reference[2], weights[2], sum[dims / 8][4];

    __device__ void reset()
    {
        settled = false;
        for (int i = 0; i < 2; i++)
            reference[i] = unseen, weights[i] = 0;
        for (int j = 0; j < dims / 8; j++)
            for (int i = 0; i < 4; i++)
                sum[j][i] = 0;
    }

    __device__ float exponent() const
    {
        return biased ? log2_e : factor;
    }

    template <int n>
    __device__ void round(int stage, const HaloStep &step, int32_t pair, uint32_t keep)
    {
        uint32_t keys = tile.stage(stage), word[n];
        float s[n][2][4];
#pragma unroll
        for (int i = 0; i < n; i++) {
            word[i] = tile.table()[(pair + i) * NATTEN_CUDA_WARP] & keep;
            score(s[i], word[i], keys, stage, step, pair + i);
        }
        if (!any_reference)
            raise_reference(s);
#pragma unroll
        for (int i = 0; i < n && any_reference; i++)
            if (!settled)
                settle(s[i]);
#pragma unroll
        for (int i = 0; i < n; i++)
            add(s[i], word[i], keys + (uint32_t)tile.job.halo.box_bytes);
    }

    __device__ void score(float (&s)[2][4], uint32_t word, uint32_t keys, int stage,
                          const HaloStep &step, int32_t pair)
    {
        Biases<biased> bias(tile, stage, step, pair);
#pragma unroll
        for (int g = 0; g < 2; g++) {
            dot<T, dims>(s[g], rows, keys + place_of(word, g));
#pragma unroll
            for (int e = 0; e < 4; e++) {
                if (biased)
                    s[g][e] = fmaf(s[g][e], factor, bias.at(g, e));
                s[g][e] = sees(word, g, e) ? s[g][e] : -INFINITY;
            }
        }
    }

    /* The largest exponent of each row, among this lane's partners. */
    template <int n>
    __device__ void largest(const float (&s)[n][2][4], float (&top)[2]) const
    {
        top[0] = top[1] = -INFINITY;
#pragma unroll
        for (int i = 0; i < n; i++)
#pragma unroll
            for (int g = 0; g < 2; g++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    top[e / 2] = fmaxf(top[e / 2], s[i][g][e]);
        top[0] *= exponent(), top[1] *= exponent();
    }

    /* Give a reference to rows that have none and see something now.  All sums of such
     * a row are 0. */
    __device__ void settle(const float (&s)[2][4])
    {
        float top[2];
        largest<1>(reinterpret_cast<const float(&)[1][2][4]>(s), top);
        bool open = false;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            top[i] = quad_max(top[i]);
            reference[i] =
                reference[i] == unseen ? fmaxf(top[i], unseen) : reference[i];
            bool exists = tile.info()->exists >> (tile.lane / 4 + 8 * i) & 1;
            open = open || (exists && reference[i] == unseen);
        }
        settled = !__any_sync(all_lanes, open);
    }

    /* A NaN is above nothing, and shows later. */
    template <int n> __device__ void raise_reference(const float (&s)[n][2][4])
    {
        float top[2];
        largest(s, top);
        if (!__any_sync(all_lanes,
                        top[0] > reference[0] + slack || top[1] > reference[1] + slack))
            return;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float higher = fmaxf(reference[i], quad_max(top[i]));
            float shrink = exp2_fast(reference[i] - higher);
            reference[i] = higher;
            weights[i] *= shrink;
#pragma unroll
            for (int j = 0; j < dims / 8; j++)
                sum[j][2 * i] *= shrink, sum[j][2 * i + 1] *= shrink;
        }
    }

    __device__ void add(float (&s)[2][4], uint32_t word, uint32_t values)
    {
        uint32_t p[4];
#pragma unroll
        for (int g = 0; g < 2; g++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[g][e] = exp2_fast(fmaf(s[g][e], exponent(), -reference[e / 2]));
                weights[e / 2] += s[g][e];
            }
            p[2 * g] = pack<T>(s[g][0], s[g][1]);
            p[2 * g + 1] = pack<T>(s[g][2], s[g][3]);
        }
        accumulate<T, dims>(sum, p, values + place_of(word, 0),
                            values + place_of(word, 1));
    }
};

} // namespace natten

#endif
