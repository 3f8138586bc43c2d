/* SPDX-License-Identifier: MIT
 *
 * Forward down bands of a grid: subtiles of queries against their boxes of keys
 * (device/band_tile.cuh).
 *
 *     registers   queries; of each row a reference near the largest logit so far, the
 *                 sum of weights and of weighted values
 *     a round     a strip of a group: S = Q K^T; P = exp2(S c - reference), rounded;
 *                 sums += P V
 *
 * References are raised as in halo_forward.cuh, and what is not finite is done again as
 * there. */
#ifndef NATTEN_CUDA_BAND_FORWARD_CUH
#define NATTEN_CUDA_BAND_FORWARD_CUH

#include "cuda/device/band_bring.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

template <class T, bool engine> class BandForward {
    using Tile = BandTile<T, NATTEN_CUDA_BAND_FORWARD, engine>;
    static constexpr int dims = Tile::dims, rows = Tile::group_rows;

    Tile tile;
    float reference[2], weights[2], sum[dims / 8][4];
    uint32_t q[dims / 16][4]; /* queries */
    uint32_t settled;         /* all rows have a reference */
    /* From a group to the lane's keys and values of its first strip; columns that the
     * thread's rows see. */
    uint32_t to_keys, to_values, columns;

  public:
    __device__ explicit BandForward(const natten_cuda_job &job) : tile(job)
    {
    }

    __device__ void run()
    {
        tile.run([&] { work(); });
    }

  private:
    static constexpr float unseen = -0x1p60f;
    static constexpr float most_weight = 0x1p10f, least_weight = 0x1p-16f;

    __device__ void work()
    {
        while (tile.begin_step()) {
            const bool has_rows = tile.has_rows();
            if (has_rows)
                tile.load_rows(q, 0);
            tile.leave_rows();
            if (has_rows)
                meet_groups();
            tile.leave_groups();
            if (has_rows)
                end();
        }
        tile.redo([](const natten_cuda_job &job, const Lane &lane, const Place &place,
                     bool wanted) { forward_again<T>(job, lane, place, wanted); });
    }

    /* A box has two strips.  Scores of the next strip are begun before the weights of
     * this one: products fill the time that exponentials take. */
    __device__ void meet_groups()
    {
        const int32_t count = tile.groups_of_step();
        const uint32_t seen[2] = {tile.rows_seen(0), tile.rows_seen(1)};
        float s[rows][4], next[rows][4];
        to_keys = tile.to_columns(), to_values = tile.to_rows() + Tile::group_bytes;
        columns = tile.columns_seen();
        for (int r = 0; r < 2; r++)
            reference[r] = unseen, weights[r] = 0;
        settled = 0;
        clear_sums(sum);
        if (count == 0)
            return;
        /* All rows see the second group, most often, so references are looked for
         * there; the first comes last. */
        int32_t i = count > 1;
        tile.wait_for_group(i);
        Group now = {tile.partners(tile.slot_of(i)),
                     {seen[0] >> i * rows, seen[1] >> i * rows}};
        score(s, now, 0);
#pragma unroll 1
        for (int32_t left = count; --left > 0;) {
            settle(s, now);
            score(next, now, 1);
            weigh(s, now, 0);
            i = i + 1 == count ? 0 : i + 1;
            tile.wait_for_group(i);
            const Group after = {tile.partners(tile.slot_of(i)),
                                 {seen[0] >> i * rows, seen[1] >> i * rows}};
            settle(next, now);
            score(s, after, 0);
            weigh(next, now, 1);
            now = after;
        }
        settle(s, now);
        score(next, now, 1);
        weigh(s, now, 0);
        settle(next, now);
        weigh(next, now, 1);
    }

    /* Where a group is, and the rows of keys that the thread's rows see of it. */
    struct Group {
        uint32_t from, seen[2];
    };
    __device__ static uint32_t strip_at(int n)
    {
        return (uint32_t)(n * Tile::strip_columns * Tile::row_bytes);
    }

    __device__ void score(float (&s)[rows][4], const Group &group, int strip) const
    {
        float first[4];
        tile.begin_strip(first, columns >> strip * Tile::strip_columns);
        tile.template score<rows>(s, q, group.from + to_keys + strip_at(strip), first);
    }

    /* Rows without a reference look for one. */
    __device__ void settle(const float (&s)[rows][4], const Group &group)
    {
        if (settled == 0)
            raise_references(s, group.seen);
    }

    /* Scores become weights, and these are gathered. */
    __device__ void weigh(float (&s)[rows][4], const Group &group, int strip)
    {
        float more[2];
        find_weights(s, more, group.seen);
        if (__any_sync(all_lanes, fmaxf(more[0], more[1]) > most_weight)) {
            score(s, group, strip);
            raise_references(s, group.seen);
            find_weights(s, more, group.seen);
        }
        for (int r = 0; r < 2; r++)
            weights[r] += more[r];
        tile.template gather<rows>(sum, s, group.from + to_values + strip_at(strip));
    }

    __device__ void find_weights(float (&s)[rows][4], float (&more)[2],
                                 const uint32_t (&seen)[2]) const
    {
        more[0] = more[1] = 0;
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float minus = (seen[r] & 1u << i) != 0 ? -reference[r] : -INFINITY;
                float &x = s[i][2 * r], &y = s[i][2 * r + 1];
                x = exp2_fast(fmaf(x, tile.job.band.scale_2, minus));
                y = exp2_fast(fmaf(y, tile.job.band.scale_2, minus));
                more[r] += x + y;
            }
    }

    /* Raise each row's reference to its largest exponent so far. */
    __device__ void raise_references(const float (&s)[rows][4],
                                     const uint32_t (&seen)[2])
    {
        bool open = false;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = -INFINITY;
#pragma unroll
            for (int i = 0; i < rows; i++)
                top = (seen[r] & 1u << i) != 0
                          ? fmaxf(top, fmaxf(s[i][2 * r], s[i][2 * r + 1]))
                          : top;
            top = quad_max(top);
            float higher = fmaxf(reference[r], top * tile.job.band.scale_2),
                  shrink = exp2_fast(reference[r] - higher);
            reference[r] = higher;
            weights[r] *= shrink;
#pragma unroll
            for (int j = 0; j < dims / 8; j++)
                sum[j][2 * r] *= shrink, sum[j][2 * r + 1] *= shrink;
            open = open || higher == unseen;
        }
        settled = kept((uint32_t)!__any_sync(all_lanes, open));
    }

    __device__ void end()
    {
        tile.recall();
        float inverse[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            weights[r] = quad_sum(weights[r]);
            bool good = weights[r] > least_weight && reference[r] < -unseen;
            inverse[r] = good ? inverse_of(weights[r]) : NAN;
        }
        tile.store(0, sum, inverse);
        /* The first two lanes of a quad write lse of its two rows. */
        bool odd = tile.lane % 2;
        float weight = odd ? weights[1] : weights[0],
              at = odd ? reference[1] : reference[0];
        if (tile.job.task.view[NATTEN_LSE].data != nullptr && tile.lane % 4 < 2 &&
            tile.exists_own(odd))
            store_float(tile.own_result(1, odd), (at + log2_fast(weight)) * log_2);
    }
};

} // namespace natten

#endif
