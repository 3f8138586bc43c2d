/* SPDX-License-Identifier: MIT
 *
 * Forward for small windows: 16 queries of a warp against the keys of their box
 * (device/halo_tile.cuh), in products of 16-bit matrices with sums in fp32.
 *
 *     registers   the queries' rows; their sums of values, a row of 4 lanes; of each
 *                 row a reference and the sum of weights
 *     a round     some pairs of groups: S = Q K^T, masked; P = exp2(S c - reference) in
 *                 16 bits; sums += P V
 *
 * Where a unit is one step, references are at first guessed to be 0: exponents are then
 * logits, and nobody looks for a largest one.  If the sum of a row's weights turns out
 * to be too small or too large for that, the unit is done again, and each round raises
 * references to the largest logit so far.
 *
 * Elsewhere a row's reference is the largest logit of the first round in which it sees
 * something.  It stays unless the weights of a later round show logits far above it:
 * then it is raised, and the round done again.  So most rounds look for no largest
 * logit.
 *
 * Products touch every key of the box with every row, so what is not finite leaks as
 * 0 * NaN to rows that do not see it, but never unnoticed: such a row's results are not
 * finite.  Those rows, and those whose weights are all 0, are in the end computed anew
 * by level a (simt_forward.cuh), which reads only what a row sees. */
#ifndef NATTEN_CUDA_HALO_FORWARD_CUH
#define NATTEN_CUDA_HALO_FORWARD_CUH

#include "cuda/device/halo_rows.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

/* `light`: a box has so few pairs of groups that registers are left for three blocks of
 * a multiprocessor. */
template <class T, int dims, bool biased, bool engine, bool light = false>
class HaloForward {
  public:
    HaloTile<T, dims, Side::queries, engine> tile;
    static constexpr bool by_engine = engine, flat = engine && dims == 32;
    FlatPairs<!flat   ? 0
              : light ? NATTEN_CUDA_FLAT_LIGHT
                      : NATTEN_CUDA_FLAT_QUERIES,
              2, true>
        pairs;

    __device__ explicit HaloForward(const natten_cuda_job &job)
        : tile(job), factor(fabsf((float)job.task.scale) * (to_base_e ? 1 : log2_e)),
          negative(__double2hiint(job.task.scale) < 0)
    {
        reset();
    }

    /* What it keeps of the warp from the beginning, in a flat halo. */
    __device__ void keep_places()
    {
        pairs.template load<true>(tile.table(), tile.info()->first_pair[2],
                                  tile.own_half(),
                                  tile.own_half() ^ tile.turns_second());
        first_slice = kept(tile.stage(0));
        if constexpr (biased) {
            bias_row = kept(Bias::row_of(tile));
            bias_columns = kept(shared_address(tile.forward_columns()));
        }
    }

    static constexpr int row_tensors = 3, partner_tensors = 2;
    static constexpr bool copies_more = biased;
    static constexpr bool copies_late = false, fetches = false, prepares = false;
    static constexpr bool looks_ahead = flat, recalls = flat && light;
    static constexpr bool keeps_steps = flat;
    static constexpr bool is_gradient = false;
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
        tile.template copy_rows<looks_ahead>(0, NATTEN_QUERY, turn);
    }
    __device__ void copy_more(int stage, const HaloStep &step, int thread,
                              int warps) const
    {
        tile.copy_bias(stage, step, thread, warps);
    }
    __device__ void copy_ahead(int stage, int turn, int thread, int warps) const
    {
        tile.put_bias(stage, turn, thread, warps);
    }

    __device__ void begin()
    {
        rows.load(tile, 0);
        /* What is hidden is far below, so the factor must be positive. */
        if (negative)
            negate(rows);
    }

    __device__ void take(int stage, int number, const HaloStep &step, int32_t first,
                         int32_t pairs, uint32_t also)
    {
        Bias bias(tile, number, step);
        const bool guess = guesses && tile.is_one_step();
        for (way = guess ? References::guessed : References::found;;
             way = References::raised) {
            if (guess)
                reset();
            take_pairs(stage, bias, first, pairs, also);
            if (!guess || is_done())
                break;
        }
    }

    __device__ void take_flat(int stage, int number, const HaloStep &step)
    {
        Bias bias(tile, number, bias_row, bias_columns);
        const natten_cuda_halo &h = tile.job.halo;
        uint32_t from = first_slice + (uint32_t)(stage * h.units * h.unit_bytes);
        int32_t groups = of_warp(recalls ? tile.info()->first_pair[2] : pairs.groups);
        const FlatPair<true> early[4] = {pairs[0], pairs[1], pairs[2], pairs[3]};
#pragma unroll 1 /* what is done again is seldom wanted, and shares registers */
        for (way = References::guessed;; way = References::raised) {
            for (int i = 0; i < 2; i++)
                reference[i] = way == References::guessed ? 0 : unseen;
            if (groups <= 7)
                round<true, 7>(from, bias, 0, 0, early);
            else
                round<true, 8>(from, bias, 0, 0, early);
            if constexpr (!light) {
                const FlatPair<true> late[3] = {pairs[4], pairs[5], pairs[6]};
                if (groups == 9)
                    round<false, 1>(from, bias, 4, 0, late);
                else if (groups > 13)
                    round<false, 6>(from, bias, 4, 0, late);
                else if (groups > 8)
                    round<false, 5>(from, bias, 4, 0, late);
            }
            if (is_done())
                break;
        }
    }

    /* Where results begin, before the unit's place is another's. */
    __device__ void recall_results()
    {
        for (int n = 0; n < 2; n++)
            begins[n] = looks_ahead ? tile.base_ahead(1 + n, tile.turn)
                                    : tile.base_of(1 + n, tile.turn);
    }

    __device__ void end()
    {
        if constexpr (recalls)
            tile.recall_rows();
        if constexpr (!looks_ahead)
            recall_results();
        bool has_lse = fresh(tile.job).task.view[NATTEN_LSE].data != nullptr;
        float inverse[2];
        if (!flat && way == References::found)
            add_up_weights();
        for (int i = 0; i < 2; i++) {
            /* A reference this large may be what is hidden; NaN is seen below. */
            bool good = weights[i] > least_weight && reference[i] < -unseen;
            inverse[i] = good ? inverse_of(weights[i]) : NAN;
        }
        bool found = store_rows<T, dims>(tile, NATTEN_OUT, sum, inverse, 1, begins[0]);
        tile.note(found);
        /* The first two lanes of a quad write a row each.  kept() ties it to this
         * place: worked out before the loop it would be in local memory. */
        int t = (int)kept((uint32_t)tile.lane % 4);
        float weight = t == 0 ? weights[0] : weights[1];
        float at = t == 0 ? reference[0] : reference[1];
        if (has_lse && t < 2 && (t == 0 ? tile.exists[0] : tile.exists[1]))
            store_float(tile.row_at(2, begins[1], 8 * t),
                        (at + log2_fast(weight)) * log_2);
        if constexpr (!flat)
            reset();
    }

    __device__ void finish(bool)
    {
    }

    __device__ void again() const
    {
        if (tile.halo()->trouble[tile.warp] != 0)
            redo<T, looks_ahead>(
                tile, NATTEN_OUT, NATTEN_OUT,
                [](const natten_cuda_job &job, const Lane &lane, const Place &place,
                   bool wanted) { forward_again<T>(job, lane, place, wanted); });
    }

  private:
    /* Biases are added to sums of products, which they would swallow some of if sums
     * began with them.  Those of rows of 32 are to base 2, as they are kept. */
    static constexpr bool to_base_e = biased && dims != 32;
    using Bias = ForwardBiases<biased, flat, !to_base_e>;
    static constexpr int at_once = dims == 32 ? 4 : 2;
    static constexpr float unseen = -0x1p60f;
    /* Where weights have a sum in fp32, lse = reference + log(sum) is as exact as the
     * exponents S c - reference are: their rounding is an error of 2^-24 of them, and
     * that of the logarithm one of 2^-24 of it.  Some 10 cost 7 units each; 60, as
     * fp32 would hold, 40 and more than a small window's bound of lse.  fp16 holds
     * 2^16. */
    static constexpr float most_weight = 0x1p10f, least_weight = 0x1p-16f;
    /* Where references are 0 exponents are logits, as exact as these are, and sums may
     * be as large as their type and sums of values bear.  But below 1 a weight might be
     * lost that the bounds of OUT count on. */
    static constexpr float most_guessed = is_bfloat16<T> ? 0x1p60f : 0x1p15f,
                           least_guessed = 1;
    static constexpr bool guesses = dims == 32; /* has units of one step */
    enum class References { found, guessed, raised };

    float factor; /* that makes S logits, to base 2 or e */
    bool negative;
    References way = References::found;
    bool begun, settled; /* some rows have a reference; all do */
    int64_t begins[2];
    /* Where the warp's slices begin in stage 0, its biases in the first place that has
     * some, and what says how far from there its columns' are. */
    uint32_t first_slice, bias_row, bias_columns;
    Rows<dims> rows;
    float reference[2], weights[2], sum[dims / 8][4];

    __device__ void reset()
    {
        begun = settled = false;
        for (int i = 0; i < 2; i++)
            reference[i] = way == References::guessed ? 0 : unseen, weights[i] = 0;
        for (int j = 0; j < dims / 8; j++)
            for (int i = 0; i < 4; i++)
                sum[j][i] = 0;
    }

    __device__ void add_up_weights()
    {
        for (int i = 0; i < 2; i++)
            weights[i] = quad_sum(weights[i]);
    }

    /* Add a unit's weights up; may references have been what they were?  NaN says no,
     * to no avail.  Rows that do not exist are like the last that does, but for biases,
     * and are looked at apart only if one of them may not fit. */
    __device__ bool is_done()
    {
        add_up_weights();
        const bool upper = weights[0] >= least_guessed && weights[0] <= most_guessed,
                   lower = weights[1] >= least_guessed && weights[1] <= most_guessed;
        if (__all_sync(all_lanes, upper & lower) || way == References::raised)
            return true;
        if constexpr (recalls)
            tile.recall_rows();
        return __all_sync(all_lanes,
                          (upper || !tile.exists[0]) & (lower || !tile.exists[1]));
    }

    __device__ void take_pairs(int stage, Bias &bias, int32_t first, int32_t pairs,
                               uint32_t also)
    {
        for (; pairs >= at_once; pairs -= at_once, first += at_once)
            round<at_once>(stage, bias, first, also);
        if (at_once > 3 && pairs == 3)
            round<3>(stage, bias, first, also);
        else if (at_once > 2 && pairs == 2)
            round<2>(stage, bias, first, also);
        else if (pairs == 1)
            round<1>(stage, bias, first, also);
    }

    __device__ float exponent() const
    {
        return to_base_e ? log2_e : biased ? 1 : factor;
    }

    template <int n>
    __device__ void round(int stage, Bias &bias, int32_t first, uint32_t also)
    {
        HaloPair pair[n];
#pragma unroll
        for (int i = 0; i < n; i++)
            pair[i] = HaloPair(tile.table()[(first + i) * NATTEN_CUDA_WARP]);
        round<false, 2 * n>(tile.stage(stage), bias, first, also, pair);
    }

    /* Some groups of pairs, the first of which has a number, in slices that begin at
     * `keys`.  The last group may be alone. */
    template <bool opens, int groups, class Pair, int n>
    __device__ void round(uint32_t keys, Bias &bias, int32_t first, uint32_t also,
                          const Pair (&pair)[n])
    {
        static_assert(groups <= 2 * n, "");
        float s[groups][4], more[2];
        uint32_t hides = 0;
        bool raises =
            way == References::raised || (way == References::found && !settled);
        for (;;) {
#pragma unroll
            for (int g = 0; g < groups; g++) {
                if (g % 2 == 0) {
                    bias.open(first + g / 2);
                    hides = pair[g / 2].hides(also);
                }
                score(s[g], pair[g / 2], g % 2, keys, bias, hides);
            }
            if (raises)
                raise_reference<opens>(s);
            if (subtracts && raises)
                subtract_reference(s);
#pragma unroll
            for (int g = 0; g < groups; g++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[g][e] = exp2_fast(
                        subtracts ? s[g][e]
                                  : fmaf(s[g][e], exponent(), -reference[e / 2]));
#pragma unroll
            for (int r = 0; r < 2; r++) {
                more[r] = s[0][2 * r] + s[0][2 * r + 1];
#pragma unroll
                for (int g = 1; g < groups; g++)
                    more[r] = more[r] + s[g][2 * r] + s[g][2 * r + 1];
            }
            if (flat || way != References::found || raises || !any_exceeds(more))
                break;
            raises = true;
        }
        for (int r = 0; r < 2; r++)
            weights[r] = opens ? more[r] : weights[r] + more[r];
        uint32_t values = keys + (uint32_t)tile.job.halo.box_bytes;
#pragma unroll
        for (int g = 0; g + 1 < groups; g += 2) {
            uint32_t p[4] = {pack<T>(s[g][0], s[g][1]), pack<T>(s[g][2], s[g][3]),
                             pack<T>(s[g + 1][0], s[g + 1][1]),
                             pack<T>(s[g + 1][2], s[g + 1][3])};
            if (opens && g == 0)
                accumulate<T, dims, true>(sum, p, pair[g / 2].both(values));
            else
                accumulate<T, dims>(sum, p, pair[g / 2].both(values));
        }
        if constexpr (groups % 2 != 0) {
            constexpr int g = groups - 1;
            accumulate_group<T, dims, opens && g == 0>(sum, pack<T>(s[g][0], s[g][1]),
                                                       pack<T>(s[g][2], s[g][3]),
                                                       pair[g / 2].both(values));
        }
    }

    /* Of group g of the pair. */
    template <class Pair>
    __device__ void score(float (&s)[4], const Pair &pair, int g, uint32_t keys,
                          const Bias &bias, uint32_t hides)
    {
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[e] = 0;
        hide_in(s, pair, hides, g, tile.unit_matrix);
        dot<T, dims>(s, rows, pair.row(keys, g), s);
        if constexpr (biased)
            bias.add(s, factor, g);
    }

    /* A reference of 0 need not be subtracted where logits are exponents. */
    static constexpr bool subtracts = flat && biased;
    template <int groups>
    __device__ void subtract_reference(float (&s)[groups][4]) const
    {
#pragma unroll
        for (int g = 0; g < groups; g++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[g][e] -= reference[e / 2];
    }

    /* Raise each row's reference to its largest exponent so far. */
    template <bool opens, int groups>
    __device__ void raise_reference(const float (&s)[groups][4])
    {
        const float least = 0.25f * hidden * (biased ? factor : 1);
        bool open = false;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = fmaxf(s[0][2 * r], s[0][2 * r + 1]);
#pragma unroll
            for (int g = 1; g < groups; g++)
                top = fmaxf(top, fmaxf(s[g][2 * r], s[g][2 * r + 1]));
            top = quad_max(top);
            top = top > least ? top * exponent() : unseen;
            float higher = fmaxf(opens ? unseen : reference[r], top);
            if (!opens && (flat || begun)) {
                float shrink = exp2_fast(reference[r] - higher);
                weights[r] *= shrink;
#pragma unroll
                for (int j = 0; j < dims / 8; j++)
                    sum[j][2 * r] *= shrink, sum[j][2 * r + 1] *= shrink;
            }
            reference[r] = higher;
            open = open || higher == unseen;
        }
        if constexpr (!flat) {
            begun = true;
            settled = !__any_sync(all_lanes, open);
        }
    }

    /* Has a row too large a sum of weights?  NaN is not more, and shows later. */
    __device__ static bool any_exceeds(const float (&more)[2])
    {
        return __any_sync(all_lanes, fmaxf(more[0], more[1]) > most_weight);
    }
};

} // namespace natten

#endif
