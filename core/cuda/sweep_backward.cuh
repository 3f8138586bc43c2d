/* SPDX-License-Identifier: MIT
 *
 * All gradients of a small window in one pass, for planes so narrow that a block holds
 * their whole width: rows of 32, windows that see no further than the subtiles next to
 * a query's own.
 *
 *     subtile   4 x 4 tokens of a class; a warp has a column of them, and goes down it
 *     step      a warp's keys of one subtile, against the queries of up to 3 x 3
 *     stage     those of one row of these: 3 at most of a step
 *
 *     S = K Q^T    dP = V dO^T    dV += P dO    dK += dS Q    of the warp's keys
 *     dQ += dS^T K    of its queries, from its own dS and those of both neighbours
 *
 * So S and P are computed once, every tensor is read once, and nothing is added in
 * memory: dQ of a subtile is a sum over rows of keys, from top to bottom, and in a row
 * from left to right, whatever else the block does.
 *
 *     stage j        S, dP, P, dS of three subtiles; dS to shared memory
 *                    wait for stage j - 1 of both neighbours; their dS to dQ
 *                    tell both neighbours
 *     in step n      keys of row n + 1 and queries of row n + 2 are on their way;
 *                    delta of row n + 1 is worked out, before stage 0 is over
 *
 * A warp that has told its neighbours of stage j has read what they wrote in stage
 * j - 1, so three places for dS are enough, and who has waited for stage j - 1 may
 * fill the places that were read before.  Warps of a unit meet where an item ends, the
 * block when all is over.
 *
 * A bias is added to S, and one more warp adds dS up for its gradient
 * (device/sweep_bias.cuh): that of a stage until the same stage of the next row.
 *
 * Shared memory of a warp, 15 KiB: its queries and grad_out of 3 rows, of which the
 * first is filled again once all are done with it; keys of 2, values of 1, dS of 3
 * stages, minus lse to base 2 and minus delta of 3 rows, 1 of results. */
#ifndef NATTEN_CUDA_SWEEP_BACKWARD_CUH
#define NATTEN_CUDA_SWEEP_BACKWARD_CUH

#include "cuda/device/halo_rows.cuh"
#include "cuda/device/sweep_bias.cuh"

namespace natten {

template <class T, int sides, bool engine, bool biased> class Sweep {
  public:
    __device__ explicit Sweep(const natten_cuda_job &job_) : tile(job_)
    {
        const int lane = tile.lane();
        from_single = kept(tile.own() + tile.permute(lane % 8, lane / 8));
        from_both = kept(tile.own() + tile.permute(lane % 16, lane / 16));
        from_stats = kept(tile.own() + sweep_stats + (uint32_t)(lane % 4 * 8));
        int swapped = lane % 8 + lane / 16 * 8 + lane / 8 % 2 * 16;
        ds_to = kept(tile.own() + sweep_ds + (uint32_t)(swapped * 16));
        for (int i = 0; i < 2; i++) { /* which y and x keys have, as A of 8 columns */
            int r = lane / 4 + 8 * i, k = lane % 4 * 2;
            int has = k < 4 ? r / 4 - k : r % 4 - (k - 4);
            who[i] = kept(has == 0 ? 0x3f80u : has == 1 ? 0x3f800000u : 0);
        }
    }

    __device__ void run()
    {
        tile.open();
        tile.look_across();
        uint32_t trouble_of_sums = 0;
        if (biased && tile.warp == tile.job.sweep.warps)
            trouble_of_sums = sum_bias();
        else
            go_down();
        again(trouble_of_sums);
    }

  private:
    /* The warp that has the bias: not 0 if some sum is not finite. */
    __device__ uint32_t sum_bias()
    {
        if constexpr (biased)
            return SweepBias<T, sides, engine>(tile).run();
        return 0;
    }
    /* All others. */
    __device__ void go_down()
    {
        SweepRow now = tile.locate(tile.first_item(), 0, true), next = tile.after(now);
        tile.fetch(SweepRow(), now, 0, 0);
        tile.fetch(now, next, 1, sweep_tile);
        SweepRow before, far = next.exists() ? tile.after(next) : next;
        tile.wait_for_rows(0);
        tile.keep_stats(tile.load_stats(now), now, 0);
        tile.meet_unit();
        uint32_t place = 0;
        for (int32_t n = 0; now.exists(); n++, place = place_after(place)) {
            step(n, place, before, now, next, far);
            if (now.last())
                tile.meet_unit();
            before = now, now = next, next = far;
            if (far.exists())
                far = tile.after(far);
            if (far.exists())
                tile.bring_stats_nearer(far);
        }
    }

    SweepTile<T, sides, engine, biased> tile;
    /* Addresses of what a lane reads: of 8 tokens of a subtile, of 16 the left half of
     * a row, statistics; where it writes dS, so that it is read as A of a product. */
    uint32_t from_single, from_both, from_stats, ds_to;
    uint32_t who[2];  /* which y and x keys have, as A of a product */
    uint32_t entries; /* of bias: of the lane's first key and query */
    Rows<32> key, value;
    float key_sum[4][4], value_sum[4][4], above[4][4], here[4][4]; /* above, here: dQ */

    /* Of an item's head. */
    __device__ void find_entries(const SweepRow &now)
    {
        int32_t run = tile.run_of(now);
        tile.wait_for_table(run);
        int lane = (int)kept((uint32_t)tile.lane());
        int down = lane % 4 / 2 - lane / 16, across = lane % 2 * 2 - lane / 4 % 4,
            odd = lane / 4 % 2;
        int first = down * NATTEN_CUDA_SWEEP_ROW + across +
                    odd * (NATTEN_CUDA_SWEEP_TABLE + 1) +
                    (run & 1) * 2 * NATTEN_CUDA_SWEEP_TABLE;
        entries = kept(tile.box_at() +
                       (uint32_t)(fresh(tile.job).sweep.tables_at + 4 * first));
    }

    /* ---- products ---- */

    /* sum += weights of 16 tokens times their rows, of which this is what the lane
     * reads of both halves. */
    __device__ static void sum_up(float (&sum)[4][4], const uint32_t (&weights)[4],
                                  uint32_t left, uint32_t right)
    {
#pragma unroll
        for (int k = 0; k < 2; k++) {
            uint32_t b[4];
            load_transposed(b, k == 0 ? left : right);
            multiply<T>(sum[2 * k], weights, b[0], b[1]);
            multiply<T>(sum[2 * k + 1], weights, b[2], b[3]);
        }
    }

    /* From the warp's part to that of a side: of three the middle is its own, of two
     * the first. */
    __device__ uint32_t there(int side) const
    {
        return sides == 3  ? side == 0   ? tile.left
                             : side == 1 ? 0
                                         : tile.right
               : side == 0 ? 0
                           : tile.right;
    }
    /* Where the lane reads dS of this warp's queries that the side's warp has. */
    __device__ uint32_t ds_from(int side) const
    {
        uint32_t far = kept(there(side));
        uint32_t mirrored = sides == 3 ? 2 - side : side;
        /* At an edge nothing, which is what its own dS of that side is. */
        far += 512 * (far == 0 ? (uint32_t)side : mirrored);
        return tile.strip_at() + sweep_ds + far;
    }

    /* Biases of the lane's keys of half h and queries of half g of a pair. */
    __device__ float2 biases(int stage, int side, int h, int g) const
    {
        int down = 4 * (stage - 1) + 2 * (g - h);
        if (sides == 3)
            return load_floats(entries + 4 * sweep_entry(down, 4 * (side - 1)));
        uint32_t across = side == 0 ? 0 : 16 - (tile.column > 0 ? 32 : 0);
        return load_floats(entries + across + 4 * sweep_entry(down, 0));
    }

    /* The warp's keys and the queries of a subtile on a side; `turn` is the place of
     * their row.  dS goes to the stage's place. */
    __device__ void take(int stage, int side, uint32_t turn, uint32_t hidden_rows)
    {
        const uint32_t far = there(side) + turn;
        const uint32_t stats = from_stats + there(side) + turn / 8,
                       single = from_single + far;
        uint32_t p[4], ds[4];
        const uint32_t across = shifted(tile.seen, 4 * side);
#pragma unroll
        for (int g = 0; g < 2; g++) {
            constexpr uint32_t minus_large = 0xfe80; /* -2^126 */
            uint32_t bits = (across | hidden_rows) & 0x00010001u << (2 * g);
            /* delta twice: where a product begins with it nothing has to be moved. */
            float2 lse = load_floats(stats + g * 64),
                   upper = load_floats(stats + g * 64 + 32),
                   lower = load_floats(stats + g * 64 + 32);
            const float minus_lse[2] = {lse.x, lse.y};
            const float minus_delta[4] = {upper.x, upper.y, lower.x, lower.y};
            float s[4], dp[4];
            multiply_half(s, who[0], who[1], bits * (minus_large >> (2 * g)),
                          {0, 0, 0, 0});
            dot<T, 32>(s, key, single + (g * 512 + sweep_queries), s);
            dot<T, 32>(dp, value, single + (g * 512 + sweep_grads), minus_delta);
            float bias[4] = {};
            if constexpr (biased) {
                float2 first = biases(stage, side, 0, g),
                       second = biases(stage, side, 1, g);
                bias[0] = first.x, bias[1] = first.y;
                bias[2] = second.x, bias[3] = second.y;
            }
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float rest = biased ? bias[e] + minus_lse[e % 2] : minus_lse[e % 2];
                s[e] = exp2_fast(fmaf(s[e], tile.job.sweep.scale_2, rest));
                dp[e] *= s[e];
            }
            p[2 * g] = pack<T>(s[0], s[1]), p[2 * g + 1] = pack<T>(s[2], s[3]);
            ds[2 * g] = pack<T>(dp[0], dp[1]), ds[2 * g + 1] = pack<T>(dp[2], dp[3]);
        }
        store_matrices(ds_to + (uint32_t)(stage * sweep_stage + side * 512), ds);
        const uint32_t left = from_both + far, right = left ^ 32;
        sum_up(value_sum, p, left + sweep_grads, right + sweep_grads);
        sum_up(key_sum, ds, left + sweep_queries, right + sweep_queries);
    }
    /* The stage of the n-th row with queries `down` rows further. */
    template <int down>
    __device__ void take_row(int32_t n, uint32_t turn, uint32_t hidden)
    {
        /* Each time anew: registers are scarce. */
        uint32_t keys = sweep_keys + (uint32_t)(n & 1) * sweep_tile;
#pragma unroll
        for (int k = 0; k < 2; k++)
            load_matrices(key.a[k], from_both + keys ^ k * 32);
        if (fresh(tile.job).sweep.scale < 0)
            negate(key);
        uint32_t hidden_rows = hidden >> (4 * (down + 1)) & 0x00050005u;
#pragma unroll
        for (int side = 0; side < sides; side++)
            take(down + 1, side, turn, hidden_rows);
    }

    /* dQ += dS^T K of a stage, whose keys are of the n-th row. */
    __device__ void gather(int stage, float (&sum)[4][4], int32_t n) const
    {
        uint32_t keys = sweep_keys + (uint32_t)(n & 1) * sweep_tile;
#pragma unroll
        for (int side = 0; side < sides; side++) {
            uint32_t ds[4], left = from_both + there(side) + keys;
            load_transposed(ds, ds_from(side) + (uint32_t)(stage * sweep_stage));
            sum_up(sum, ds, left, left ^ 32);
        }
    }
    /* The same of stages 1 and 2, whose keys are the same. */
    __device__ void gather_both(int32_t n)
    {
        uint32_t keys = sweep_keys + (uint32_t)(n & 1) * sweep_tile;
#pragma unroll
        for (int side = 0; side < sides; side++) {
            uint32_t same[4], below[4], left = from_both + there(side) + keys;
            uint32_t ds = ds_from(side);
            load_transposed(same, ds + sweep_stage);
            load_transposed(below, ds + 2 * sweep_stage);
#pragma unroll
            for (int k = 0; k < 2; k++) {
                uint32_t b[4];
                load_transposed(b, left ^ k * 32);
                multiply<T>(above[2 * k], same, b[0], b[1]);
                multiply<T>(above[2 * k + 1], same, b[2], b[3]);
                multiply<T>(here[2 * k], below, b[0], b[1]);
                multiply<T>(here[2 * k + 1], below, b[2], b[3]);
            }
        }
    }

    /* The n-th row; its stages are 0, 1 and 2.  The last two are gathered in the next
     * step; the first waits, so that one sum of dQ less is kept. */
    __device__ void step(int32_t n, uint32_t place, const SweepRow &before,
                         const SweepRow &now, const SweepRow &next, const SweepRow &far)
    {
        if constexpr (biased)
            if (now.first())
                find_entries(now);
        tile.wait_for_rows(n + 1);
#pragma unroll
        for (int k = 0; k < 2; k++)
            load_matrices(value.a[k], from_both + sweep_values ^ k * 32);
        clear_sums(key_sum);
        clear_sums(value_sum);
        uint32_t hidden =
            load_uint(tile.box_at() + (uint32_t)offsetof(SweepBox, rows) +
                      (uint32_t)(4 * now.row() + tile.lane() % 2 * 2) * 2);
        hidden = tile.lane() % 4 < 2 ? hidden >> (tile.lane() / 16) : 0;
        tile.template wait_for_sums<0>(n - 1);
        if (!now.first())
            take_row<-1>(n, place_before(place), hidden);
        clear_sums(here);
        if (!now.first()) {
            tile.template wait_for_stage<2>(n - 1);
            gather_both(n - 1);
        }
        tile.keep_stats(tile.load_stats(next), next, place_after(place));
        tile.template tell<0>();
        tile.template wait_for_stage<0>(n);
        if (!now.first()) {
            gather(0, above, n);
            if (tile.owns(before))
                write(sweep_grad_query, before, above);
        }
        if (next.exists()) /* all are done with the row before */
            tile.fetch(next, far, n + 2, place_before(place));
        tile.template wait_for_sums<1>(n - 1);
        take_row<0>(n, place, hidden);
        tile.template tell<1>();
        tile.template wait_for_sums<2>(n - 1);
        if (!now.last())
            take_row<1>(n, place_after(place), hidden);
        tile.template tell<2>();
        tile.template wait_for_stage<1>(n);
        if (now.last()) {
            tile.template see_told<2>(n);
            gather(1, here, n);
        }
        if (tile.owns(now)) {
            write(sweep_grad_key, now, key_sum);
            write(sweep_grad_value, now, value_sum);
            if (now.last())
                write(sweep_grad_query, now, here);
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                above[j][e] = here[j][e];
    }

    /* ---- results ---- */

    /* Write sums to the warp's rows of a subtile. */
    __device__ void write(int tensor, const SweepRow &r, const float (&sum)[4][4])
    {
        const natten_cuda_job &job = fresh(tile.job);
        const natten_role role = sweep_role(tensor);
        if (job.task.view[role].data == nullptr)
            return;
        float factor = tensor == sweep_grad_value ? 1 : job.sweep.scale;
        const int chunk = tile.strip_of_row();
        const uint32_t from = tile.strip_at() + sweep_results;
        char *to = tile.row_at(tensor, r, engine ? chunk * 16 : 0);
        /* What is not finite, times 0, is NaN.  Rows that do not exist count, too: then
         * again() looks in vain. */
        uint32_t zero[2] = {};
        __syncwarp();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t word[4];
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const float(&of)[4] = sum[2 * half + k / 2];
                word[k] = pack<T>(of[k % 2 * 2] * factor, of[k % 2 * 2 + 1] * factor);
                zero[half] = multiply_pair<T>(word[k], 0, zero[half]);
            }
            store_matrices(from_both + sweep_results ^ half * 32, word);
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (tile.has_row(r, i)) {
                uint4 w = load_words(from + i * 512);
                if constexpr (engine) {
                    store_four_words(to, w);
                } else {
                    Source<T> shape(job, role);
                    T *row = reinterpret_cast<T *>(to);
                    store_four(shape, row, chunk * strip, w.x, w.y);
                    store_four(shape, row, chunk * strip + 4, w.z, w.w);
                }
            }
            to += 2 * job.sweep.step[tensor][0];
        }
        if (((zero[0] | zero[1]) & 0x7fff7fffu) != 0)
            tile.note_trouble();
    }

    /* Rows of the block that hold anything not finite, by level a; and all sums of bias
     * of its runs, if some of them is not. */
    __device__ void again(uint32_t trouble_of_sums)
    {
        const natten_cuda_job &job = tile.job;
        if (trouble_of_sums != 0)
            tile.box()->unsound = 1;
        tile.meet_block(); /* and all delta are there */
        if constexpr (biased)
            if (tile.box()->unsound != 0)
                sums_again();
        if (tile.box()->warp[tile.warp].trouble == 0)
            return;
        Lane group(job.lanes);
        bool begins;
        for (int32_t number = tile.first_item(); number < job.sweep.items;
             number = tile.item_after(number, begins)) {
            const SweepItem item = tile.item_of(tile.locate(number, 0, false));
            for (int32_t row = item.own_from; row < item.own_to; row++)
                for (int token = group.group; token < subtile; token += group.groups) {
                    Place place = {item.batch, item.head, item.head, {0, 0, 0}};
                    bool there = tile.token_at(item, row, token, place.at);
                    for (int a = 0; a < 3; a++)
                        place.at[a] = there ? place.at[a] : 0;
                    bool wanted =
                        is_in_trouble<T>(job, group, NATTEN_GRAD_QUERY, place);
                    wanted = wanted && there;
                    if (__any_sync(all_lanes, wanted))
                        grad_query_again<T>(job, group, place, wanted);
                    wanted = is_in_trouble<T>(job, group, NATTEN_GRAD_KEY, place);
                    wanted = is_in_trouble<T>(job, group, NATTEN_GRAD_VALUE, place) ||
                             wanted;
                    wanted = wanted && there;
                    if (__any_sync(all_lanes, wanted))
                        grad_tokens_again<T>(job, group, place, wanted);
                }
        }
    }
    /* Sums of bias of runs of which some are not finite. */
    __device__ void sums_again()
    {
        const natten_cuda_job &job = tile.job;
        int32_t item = tile.first_item();
        while (item < job.sweep.items) {
            float *partial = SweepBias<T, sides, engine>::partial(tile, item);
            float zero = 0;
            for (int32_t e = (int32_t)threadIdx.x; e < job.entries;
                 e += (int32_t)blockDim.x)
                zero = fmaf(__ldcg(partial + e), 0, zero);
            if (zero != 0)
                tile.box()->wanted = item + 1;
            tile.meet_block();
            bool wanted = tile.box()->wanted == item + 1;
            float *own = reinterpret_cast<float *>(halo_shared + tile.warp * sweep_own);
            bool works = wanted && tile.warp < job.sweep.warps;
            for (int32_t e = tile.lane(); works && e < job.entries;
                 e += NATTEN_CUDA_WARP)
                own[e] = 0;
            __syncwarp();
            for (bool begins = false; !begins; item = tile.item_after(item, begins))
                if (works)
                    sum_item_again(item, own);
            tile.meet_block();
            for (int32_t e = (int32_t)threadIdx.x; wanted && e < job.entries;
                 e += (int32_t)blockDim.x) {
                float total = 0;
                for (int w = 0; w < job.sweep.warps; w++)
                    total += reinterpret_cast<float *>(halo_shared + w * sweep_own)[e];
                partial[e] = total;
            }
            tile.meet_block();
        }
    }
    /* The warp's share of an item's: queries of all units that see its keys. */
    __device__ void sum_item_again(int32_t item, float *own) const
    {
        const natten_cuda_job &job = tile.job;
        const natten_cuda_sweep &s = job.sweep;
        const natten_axis *axis = job.task.axis;
        Lane group(job.lanes);
        auto place_of_item = tile.place_of(item);
        int32_t head = place_of_item.head, segment = place_of_item.index % s.segments,
                from = segment * s.each, to = natten_min(from + s.each, s.rows),
                first = tile.first_unit(item);
        int32_t from_key = natten_sweep_start(&s, 0, from),
                to_key = natten_sweep_start(&s, 0, to),
                from_query = natten_sweep_start(&s, 0, natten_max(from - 1, 0)),
                to_query = natten_min(natten_sweep_start(&s, 0, to + 1), s.length[0]),
                queries = (to_query - from_query) * s.length[1];
        int32_t units = natten_min(tile.units() - first, s.units);
        for (int32_t i = tile.warp; i < units * queries; i += s.warps) {
            int32_t unit = first + i / queries, query = i % queries,
                    class_ = unit % (axis[1].dilation * axis[2].dilation);
            Place place = {
                unit / (axis[1].dilation * axis[2].dilation), head, head, {}};
            place.at[1] = class_ / axis[2].dilation +
                          (from_query + query / s.length[1]) * axis[1].dilation;
            place.at[2] =
                class_ % axis[2].dilation + query % s.length[1] * axis[2].dilation;
            sum_bias_again<T>(job, group, place, from_key, to_key, own);
        }
    }
};

} // namespace natten

#endif
