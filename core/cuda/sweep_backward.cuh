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
 *     in step n      keys of row n + 1 and queries of row n + 2 are on their way
 *
 * A warp that has told its neighbours of stage j has read what they wrote in stage
 * j - 1, so three places for dS are enough, and who has waited for stage j - 1 may
 * fill the places that were read before.  Warps of a block meet where an item ends.
 *
 * Shared memory of a warp, 16 KiB: its queries and grad_out of 4 rows, keys of 2,
 * values of 1, dS of 3 stages, lse to base 2 and minus delta of 4 rows. */
#ifndef NATTEN_CUDA_SWEEP_BACKWARD_CUH
#define NATTEN_CUDA_SWEEP_BACKWARD_CUH

#include "cuda/device/halo_rows.cuh"
#include "cuda/device/sweep_tile.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

template <class T, int sides, bool engine> class Sweep {
  public:
    __device__ explicit Sweep(const natten_cuda_job &job_) : tile(job_)
    {
        const int lane = tile.lane;
        from_single = kept(tile.own + tile.permute(lane % 8, lane / 8));
        from_both[0] = kept(tile.own + tile.permute(lane % 16, lane / 16));
        from_both[1] = kept(from_both[0] ^ 32);
        from_stats = kept(tile.own + sweep_stats + (uint32_t)(lane % 4 * 16));
        ds_at = kept(tile.own + sweep_ds + (uint32_t)(lane * 16));
        int swapped = lane % 8 + lane / 16 * 8 + lane / 8 % 2 * 16;
        ds_to = kept(tile.own + sweep_ds + (uint32_t)(swapped * 16));
        scale = fabsf(job_.sweep.scale) * log2_e;
        for (int i = 0; i < 2; i++) { /* which y and x keys have, as A of 8 columns */
            int r = lane / 4 + 8 * i, k = lane % 4 * 2;
            int has = k < 4 ? r / 4 - k : r % 4 - (k - 4);
            who[i] = kept(has == 0 ? 0x3f80u : has == 1 ? 0x3f800000u : 0);
        }
    }

    __device__ void run()
    {
        tile.open();
        look_across();
        SweepEnd end = {{}, (int32_t)blockIdx.x, 0};
        tile.locate(end, 0);
        SweepRow now = end.at;
        tile.fetch(SweepRow(), now, 0);
        tile.advance(end);
        tile.fetch(now, end.at, 1);
        SweepRow next = end.at;
#pragma unroll 1
        for (int i = 0; i < 2; i++) {
            SweepRow r = i == 0 ? now : next;
            tile.keep_stats(tile.load_number(sweep_lse, r),
                            tile.sum_half(tile.load_half(r, 0)),
                            tile.sum_half(tile.load_half(r, 1)), r, i);
        }
        if (next.exists())
            tile.advance(end);
        tile.wait_for_rows(0);
        __syncthreads();
        SweepRow before;
        for (int32_t n = 0; now.exists(); n++) {
            step(n, before, now, next, end.at);
            if (now.last())
                tile.meet_unit();
            before = now, now = next, next = end.at;
            if (next.exists())
                tile.advance(end);
            if (end.at.exists())
                tile.bring_stats_nearer(end.at);
        }
        again();
    }

  private:
    SweepTile<T, sides, engine> tile;
    /* Addresses of what a lane reads: of 8 tokens of a subtile, of 16 both halves of a
     * row, statistics, dS; where it writes dS, so that it is read as A of a product. */
    uint32_t from_single, from_both[2], from_stats, ds_at, ds_to;
    uint32_t who[2], seen[sides]; /* seen: what hides columns, by side */
    uint32_t trouble = 0;         /* NaN: some result is not finite */
    float scale;                  /* to base 2 */
    Rows<32> key, value;
    float key_sum[4][4], value_sum[4][4], above[4][4], here[4][4]; /* above, here: dQ */

    /* What hides columns of the subtiles next to the warp's and of its tile.own. */
    __device__ void look_across()
    {
        const int t = tile.lane % 4, x = tile.lane / 4 % 4;
        uint32_t two = load_uint(shared_address(
            &tile.box()->columns[4 * tile.column + natten_max(2 * t - 4, 0)]));
        two = (two >> x & 0x01110111u) * 5;
        for (int i = 0; i < sides; i++) {
            int side = sides == 3 ? i : i == 0 ? 1 : tile.column > 0 ? 0 : 2;
            seen[i] = kept(t < 2 ? 0 : two >> (4 * side) & 0x00050005u);
        }
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
    /* Where the side's warp has dS of this warp's queries, counted so, and from this
     * warp's first. */
    __device__ uint32_t back(int side) const
    {
        uint32_t far = there(side);
        uint32_t mirrored = sides == 3 ? 2 - side : side;
        /* At an edge nothing, which is what its own dS of that side is. */
        return far + 512 * (far == 0 ? (uint32_t)side : mirrored);
    }

    /* The warp's keys and the queries of a subtile on a side; `turn` is the place of
     * their row.  dS goes to the stage's place. */
    __device__ void take(int stage, int side, uint32_t turn, uint32_t hidden_rows)
    {
        const uint32_t far = there(side) + turn;
        const uint32_t stats = from_stats + there(side) + turn / 8,
                       single = from_single + far;
        uint32_t p[4], ds[4];
#pragma unroll
        for (int g = 0; g < 2; g++) {
            constexpr uint32_t minus_large = 0xfe80; /* -2^126 */
            uint32_t bits = (seen[side] | hidden_rows) & 0x00010001u << (2 * g);
            float4 of = load_four_floats(stats + g * 64);
            const float lse[2] = {of.x, of.z};
            const float minus_delta[4] = {of.y, of.w, of.y, of.w};
            float s[4], dp[4];
            multiply_half(s, who[0], who[1], bits * (minus_large >> (2 * g)),
                          {0, 0, 0, 0});
            dot<T, 32>(s, key, single + (g * 512 + sweep_queries), s);
            dot<T, 32>(dp, value, single + (g * 512 + sweep_grads), minus_delta);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[e] = exp2_fast(fmaf(s[e], scale, -lse[e % 2]));
                dp[e] *= s[e];
            }
            p[2 * g] = pack<T>(s[0], s[1]), p[2 * g + 1] = pack<T>(s[2], s[3]);
            ds[2 * g] = pack<T>(dp[0], dp[1]), ds[2 * g + 1] = pack<T>(dp[2], dp[3]);
        }
        store_matrices(ds_to + (uint32_t)(stage * sweep_stage + side * 512), ds);
        uint32_t both[2] = {from_both[0] + far, from_both[1] + far};
        sum_up(value_sum, p, both[0] + sweep_grads, both[1] + sweep_grads);
        sum_up(key_sum, ds, both[0] + sweep_queries, both[1] + sweep_queries);
    }
    /* The stage of the n-th row with queries `down` rows further. */
    __device__ void take_row(int down, int32_t n, uint32_t hidden)
    {
        /* Each time anew: registers are scarce. */
        uint32_t keys = sweep_keys + (uint32_t)(n & 1) * sweep_tile;
#pragma unroll
        for (int k = 0; k < 2; k++)
            load_matrices(key.a[k], from_both[k] + keys);
        if (fresh(tile.job).sweep.scale < 0)
            negate(key);
        uint32_t hidden_rows = hidden >> (4 * (down + 1)) & 0x00050005u;
        uint32_t turn = (uint32_t)(n + down & 3) * sweep_tile;
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
            uint32_t ds[4], far = there(side) + keys;
            load_transposed(ds, ds_at + back(side) + (uint32_t)(stage * sweep_stage));
            sum_up(sum, ds, from_both[0] + far, from_both[1] + far);
        }
    }
    /* The same of stages 1 and 2, whose keys are the same. */
    __device__ void gather_both(int32_t n)
    {
        uint32_t keys = sweep_keys + (uint32_t)(n & 1) * sweep_tile;
#pragma unroll
        for (int side = 0; side < sides; side++) {
            uint32_t same[4], below[4], far = there(side) + keys;
            load_transposed(same, ds_at + back(side) + sweep_stage);
            load_transposed(below, ds_at + back(side) + 2 * sweep_stage);
#pragma unroll
            for (int k = 0; k < 2; k++) {
                uint32_t b[4];
                load_transposed(b, from_both[k] + far);
                multiply<T>(above[2 * k], same, b[0], b[1]);
                multiply<T>(above[2 * k + 1], same, b[2], b[3]);
                multiply<T>(here[2 * k], below, b[0], b[1]);
                multiply<T>(here[2 * k + 1], below, b[2], b[3]);
            }
        }
    }

    /* The n-th row; its stages are 0, 1 and 2.  The last two are gathered in the next
     * step; the first waits, so that one sum of dQ less is kept. */
    __device__ void step(int32_t n, const SweepRow &before, const SweepRow &now,
                         const SweepRow &next, const SweepRow &far)
    {
        tile.wait_for_rows(n + 1);
#pragma unroll
        for (int k = 0; k < 2; k++)
            load_matrices(value.a[k], from_both[k] + sweep_values);
        clear_sums(key_sum);
        clear_sums(value_sum);
        uint32_t hidden = load_uint(
            shared_address(&tile.box()->rows[4 * now.row() + tile.lane % 2 * 2]));
        hidden = tile.lane % 4 < 2 ? hidden >> (tile.lane / 16) : 0;
        if (!now.first())
            take_row(-1, n, hidden);
        clear_sums(here);
        if (!now.first()) {
            tile.wait_for_stage(2, n - 1);
            gather_both(n - 1);
        }
        tile.tell(0, n);
        float lse = tile.load_number(sweep_lse, far), delta[2];
        auto half = tile.load_half(far, 0);
        if (!now.first()) {
            tile.wait_for_stage(0, n);
            gather(0, above, n);
        }
        delta[0] = tile.sum_half(half);
        half = tile.load_half(far, 1);
        if (!now.first()) {
            if (tile.owns(before))
                write(sweep_grad_query, before, above, 2);
        }
        delta[1] = tile.sum_half(half);
        tile.keep_stats(lse, delta[0], delta[1], far, n + 2);
        if (!now.first() && next.exists()) /* all are done with the row before */
            tile.fetch(next, far, n + 2);
        take_row(0, n, hidden);
        if (now.first() && next.exists())
            tile.fetch(next, far, n + 2);
        tile.tell(1, n);
        if (!now.last())
            take_row(1, n, hidden);
        tile.tell(2, n);
        tile.wait_for_stage(1, n);
        if (now.last())
            gather(1, here, n);
        if (tile.owns(now)) {
            write(sweep_grad_key, now, key_sum, 0);
            write(sweep_grad_value, now, value_sum, 0);
            if (now.last())
                write(sweep_grad_query, now, here, 0);
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                above[j][e] = here[j][e];
    }

    /* ---- results ---- */

    /* Write sums to the warp's rows of a subtile, by way of a stage's place that nobody
     * reads from any more. */
    __device__ void write(int tensor, const SweepRow &r, const float (&sum)[4][4],
                          int stage)
    {
        const natten_cuda_job &job = fresh(tile.job);
        const natten_role role = sweep_role(tensor);
        if (job.task.view[role].data == nullptr)
            return;
        float factor = tensor == sweep_grad_value ? 1 : job.sweep.scale;
        const uint32_t place = sweep_ds + (uint32_t)(stage * sweep_stage);
        const int chunk = tile.lane % 4;
        const uint32_t from =
            kept(tile.own + place + tile.permute(tile.lane / 4, chunk));
        char *to = tile.row_at(tensor, r, engine ? chunk * 16 : 0);
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t word[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                word[j] = pack<T>(sum[j][2 * i] * factor, sum[j][2 * i + 1] * factor);
            store_matrices(from_single + place + i * 512, word);
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
                /* What is not finite, times 0, is NaN. */
                trouble = multiply_pair<T>(w.x, 0, trouble);
                trouble = multiply_pair<T>(w.y, 0, trouble);
                trouble = multiply_pair<T>(w.z, 0, trouble);
                trouble = multiply_pair<T>(w.w, 0, trouble);
            }
            to += 2 * job.sweep.step[tensor][0];
        }
    }

    /* Rows of the block that hold anything not finite, by level a. */
    __device__ void again()
    {
        const natten_cuda_job &job = tile.job;
        __syncthreads(); /* all delta are there */
        if (!__any_sync(all_lanes, (trouble & 0x7fff7fffu) != 0))
            return;
        Lane group(job.lanes);
        SweepEnd end = {{}, (int32_t)blockIdx.x, 0};
        for (; end.item < job.sweep.items; end.item += (int32_t)gridDim.x) {
            tile.locate(end, 0);
            const SweepItem item = tile.item_of(end.at);
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
};

} // namespace natten

#endif
