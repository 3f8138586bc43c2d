/* SPDX-License-Identifier: MIT
 *
 * Gradients for small windows, in products of matrices: of 16 queries from the keys of
 * their box, and of 16 keys and values from the queries that see them, each computing P
 * and dS anew, so that no two warps add to one place.
 *
 *     delta         <dO, O> - d_lse, of each row
 *     grad_query    S = Q K^T    dP = dO V^T    dS = P (dP - delta)    dQ += dS K
 *     grad_tokens   S = K Q^T    dP = V dO^T    dV += P dO             dK += dS Q
 *
 * P and dS are rounded to 16 bits for the last products.  As in halo_forward.cuh, rows
 * whose results are not finite are in the end computed anew by level a. */
#ifndef NATTEN_CUDA_HALO_BACKWARD_CUH
#define NATTEN_CUDA_HALO_BACKWARD_CUH

#include "cuda/device/halo_rows.cuh"
#include "cuda/simt_again.cuh"

namespace natten {

/* delta and job.stats of compact tensors, which is fast; the same bits as level a's
 * (simt_backward.cuh). A lane has NATTEN_CUDA_STRIP elements, a row job.lanes. */
template <class T> __device__ inline void compact_delta(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    const uint4 *out = static_cast<const uint4 *>(task.view[NATTEN_OUT].data);
    const uint4 *grad_out = static_cast<const uint4 *>(task.view[NATTEN_GRAD_OUT].data);
    const float *grad_lse = static_cast<const float *>(task.view[NATTEN_GRAD_LSE].data);
    int64_t thread = blockIdx.x * (int64_t)NATTEN_CUDA_THREADS + threadIdx.x;
    int64_t row = thread / job.lanes, strips = task.dim_v / strip;
    int32_t within = (int32_t)(thread % job.lanes);
    bool exists = row < job.pieces;
    float sum = 0;
    if (exists && within < strips) {
        sum = strip_sum<T>(__ldg(out + row * strips + within),
                           __ldg(grad_out + row * strips + within));
    }
    sum = Lane(job.lanes).sum(sum);
    if (exists && within == 0) {
        float delta = grad_lse == nullptr ? sum : sum - grad_lse[row];
        const float *lse = static_cast<const float *>(task.view[NATTEN_LSE].data);
        static_cast<float *>(job.delta)[row] = delta;
        if (job.stats != nullptr)
            reinterpret_cast<float2 *>(job.stats)[row] = {lse_of(lse[row]), -delta};
    }
}

/* job.stats of any tensors, from their delta; a thread for a row of job.pieces. */
__device__ inline void collect_stats(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    int64_t row = blockIdx.x * (int64_t)NATTEN_CUDA_THREADS + threadIdx.x, rest = row;
    if (row >= job.pieces)
        return;
    int64_t head = rest % task.heads;
    int32_t at[3];
    rest /= task.heads;
    for (int a = 2; a >= 0; a--) {
        at[a] = (int32_t)(rest % task.axis[a].query_count);
        rest /= task.axis[a].query_count;
    }
    float lse = *row_at<const float>(task.view[NATTEN_LSE], rest, head, at);
    reinterpret_cast<float2 *>(job.stats)[row] = {
        lse_of(lse), -static_cast<const float *>(job.delta)[row]};
}

/* Where what a warp reads in a step begins: slices of both tensors, and of a pair that
 * comes from the table what the table says.  It is kept, so that it is not worked out
 * anew for each pair. */
template <class Tile> struct StepPlaces {
    uint32_t left, right, stats, table, columns;
    uint32_t odd, across; /* HaloPair::both(): of which group, and of which chunk */
    uint2 tokens;         /* of columns 2t and 2t + 1 of both groups, 16 bits each */

    __device__ StepPlaces(const Tile &tile, int stage)
        : left(tile.stage(stage)), right(left + (uint32_t)tile.job.halo.box_bytes)
    {
    }
    __device__ StepPlaces(const Tile &tile, int stage, int32_t first)
        : StepPlaces(tile, stage)
    {
        left = kept(left), right = kept(right);
        table = kept(shared_address(tile.table() + first * NATTEN_CUDA_WARP));
        if (!Tile::of_queries)
            columns = kept(shared_address(tile.columns(Tile::of_tokens) + first * 4));
        uint32_t eighth = threadIdx.x / 8 % 4;
        odd = kept(eighth % 2), across = kept((eighth ^ eighth / 2) << 4);
    }
    /* The next pair of the table. */
    __device__ HaloPair next()
    {
        HaloPair pair(load_uint(table));
        table += NATTEN_CUDA_WARP * 4;
        if (!Tile::of_queries)
            tokens = load_uints(columns), columns += 32;
        return pair;
    }
    __device__ uint32_t both(const HaloPair &pair, uint32_t slice) const
    {
        return (slice + (odd == 0 ? pair.left : pair.right)) ^ across;
    }
    __device__ uint32_t both(const FlatPair<false> &pair, uint32_t slice) const
    {
        return pair.both(slice);
    }
};

/* exp(logit - lse) of a product S, to base 2; `lse` is already. */
template <bool biased>
__device__ inline float weight_of(float s, float scale, float bias, float lse)
{
    if (biased)
        return exp2_fast(fmaf(fmaf(s, scale, bias), log2_e, -lse));
    return exp2_fast(fmaf(s, scale * log2_e, -lse));
}

/* With `sums_bias`, dS of each pair of tokens is summed over the batch in registers,
 * and at the end by entries of the bias: NATTEN_CUDA_HALO_SUMS pairs of groups at most.
 */
template <class T, int dims, bool biased, bool engine, bool sums_bias = false>
class HaloGradQuery {
  public:
    HaloTile<T, dims, Side::queries, engine> tile;
    static constexpr bool by_engine = engine, flat = engine && dims == 32;
    FlatPairs<flat ? NATTEN_CUDA_FLAT_QUERIES : 0, 4> pairs;

    __device__ explicit HaloGradQuery(const natten_cuda_job &job)
        : tile(job), scale(fabsf((float)job.task.scale)),
          negative(__double2hiint(job.task.scale) < 0)
    {
        clear_sums(sum);
        if (sums_bias)
            clear_sums(bias_sum);
    }

    static constexpr int row_tensors = 5, partner_tensors = 2;
    static constexpr bool copies_more = biased;
    static constexpr bool copies_late = false, prepares = false;
    static constexpr bool fetches = flat && !sums_bias; /* rows of OUT, for delta */
    static constexpr bool looks_ahead = false, keeps_steps = false, recalls = false;
    static constexpr bool is_gradient = true;
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
        int further = tile.lane % 16 - tile.lane / 4;
        if (fetches && tile.job.halo.writes_delta && tile.lane >= 16) {
            /* fetch() comes late: shorten its way. */
            bring_nearer(tile.row_at(1, tile.base_of(1, turn) + to_out(), further));
            return;
        }
        const char *lse_at = tile.row_at(2, tile.base_of(2, turn), further);
        const char *delta_at = tile.row_at(3, tile.base_of(3, turn), further);
        copy4(tile.own_rows(2) + (uint32_t)tile.lane * 4,
              tile.lane < 16 ? lse_at : delta_at);
    }
    __device__ void copy_more(int stage, const HaloStep &step, int thread,
                              int warps) const
    {
        tile.copy_bias(stage, step, thread, warps);
    }

    /* Begin to load the rows of OUT, if delta is worked out here: they are compact, and
     * lie as those of GRAD_OUT do. */
    __device__ void fetch(int turn)
    {
        const natten_cuda_job &job = fresh(tile.job);
        if (!job.halo.writes_delta)
            return;
        int64_t base = tile.base_of(1, turn) + to_out();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const char *row = tile.row_at(1, base, 8 * i) + tile.lane % 4 * 16;
            out[i] = __ldg(reinterpret_cast<const uint4 *>(row));
        }
    }

    __device__ void begin()
    {
        query.load(tile, 0);
        grad.load(tile, 1);
        if (negative)
            negate(query);
        const float *stats =
            static_cast<const float *>(__cvta_shared_to_generic(tile.own_rows(2)));
        for (int i = 0; i < 2; i++) {
            lse[i] = stats[tile.lane / 4 + 8 * i];
            blind[i] = lse[i] == -INFINITY;
            lse[i] = lse_of(lse[i]);
        }
        if (fetches && tile.job.halo.writes_delta)
            work_delta_out();
        else
            for (int i = 0; i < 2; i++)
                delta[i] = stats[tile.lane / 4 + 8 * i + 16];
    }

    __device__ void take(int stage, int n, const HaloStep &step, int32_t first,
                         int32_t count, uint32_t also)
    {
        Bias bias(tile, n, step);
        if constexpr (sums_bias) {
            int32_t last = first + count;
            Places at(tile, stage, first);
#pragma unroll
            for (int p = 0; p < NATTEN_CUDA_HALO_SUMS; p++)
                if (p >= first && p < last)
                    add<false>(at, bias, p, also,
                               HaloPair(tile.table()[p * NATTEN_CUDA_WARP]));
        } else {
            Places at(tile, stage, first);
#pragma unroll 2
            for (int32_t p = first; p < first + count; p++)
                add<false>(at, bias, p, also, at.next());
        }
    }
    __device__ void take_flat(int stage, int number, const HaloStep &step)
    {
        Bias bias(tile, number, step);
        Places at(tile, stage);
        add<true>(at, bias, 0, 0, pairs[0]);
#pragma unroll
        for (int p = 1; p < 4; p++)
            add<false>(at, bias, p, 0, pairs[p]);
        if (pairs.groups <= 8)
            return;
#pragma unroll
        for (int p = 4; p < NATTEN_CUDA_FLAT_QUERIES; p++)
            add<false>(at, bias, p, 0, pairs[p]);
    }

    __device__ void end()
    {
        float factor = negative ? -scale : scale, factors[2] = {factor, factor};
        bool found = store_rows<T, dims>(tile, NATTEN_GRAD_QUERY, sum, factors, 4,
                                         tile.base_of(4, tile.turn));
        tile.note(found);
        if constexpr (!flat)
            clear_sums(sum);
    }

    /* The block's sums of entries, of one head: each warp writes its dS as a matrix of
     * rows and partners, and a thread adds those of an entry in their order. */
    __device__ void finish(bool exists)
    {
        if constexpr (!sums_bias)
            return;
        const natten_cuda_job &job = fresh(tile.job);
        const natten_cuda_halo &h = job.halo;
        int32_t pitch = h.pairs * 16 + 8; /* rows r .. r + 3 lie in different banks */
        float *all = reinterpret_cast<float *>(halo_shared + h.slices_at);
        __syncthreads();
        if (exists) {
            float *own =
                all + (tile.warp * subtile + tile.lane / 4) * pitch + tile.lane % 4 * 2;
#pragma unroll
            for (int g = 0; g < 2 * NATTEN_CUDA_HALO_SUMS; g++) {
                if (g >= 2 * h.pairs)
                    continue;
                *reinterpret_cast<float2 *>(own + g * 8) = {bias_sum[g][0],
                                                            bias_sum[g][1]};
                *reinterpret_cast<float2 *>(own + g * 8 + 8 * pitch) = {bias_sum[g][2],
                                                                        bias_sum[g][3]};
            }
            __syncthreads();
        }
        int32_t replicas;
        HaloBlock block = tile.place_of_block(replicas);
        int32_t head = block.replica / h.chunks;
        int64_t chunk = (int64_t)block.position * h.chunks + block.replica % h.chunks;
        float *to = static_cast<float *>(job.partial) +
                    (chunk * job.task.heads + head) * job.entries;
        int32_t width = 2 * job.task.axis[2].window - 1;
        for (int32_t e = threadIdx.x; e < (int32_t)job.entries;
             e += NATTEN_CUDA_THREADS)
            to[e] = exists ? sum_of(e / width, e % width, all, pitch) : 0;
    }

    __device__ void again() const
    {
        if (tile.halo()->trouble[tile.warp] != 0)
            redo<T, false>(
                tile, NATTEN_GRAD_QUERY, NATTEN_GRAD_QUERY,
                [](const natten_cuda_job &job, const Lane &lane, const Place &place,
                   bool wanted) { grad_query_again<T>(job, lane, place, wanted); });
    }

  private:
    using Places = StepPlaces<HaloTile<T, dims, Side::queries, engine>>;
    using Bias = Biases<biased>;
    float scale;
    bool negative;
    Rows<dims> query, grad;
    bool blind[2]; /* the row sees nothing but logits of -inf */
    float lse[2], delta[2], sum[dims / 8][4];
    uint4 out[2]; /* strip lane % 4 of both rows */
    float bias_sum[sums_bias ? 2 * NATTEN_CUDA_HALO_SUMS : 1][4];

    /* From rows of GRAD_OUT to those of OUT. */
    __device__ int64_t to_out() const
    {
        const natten_task &task = fresh(tile.job).task;
        return static_cast<char *>(task.view[NATTEN_OUT].data) -
               static_cast<char *>(task.view[NATTEN_GRAD_OUT].data);
    }
    /* The same sums in the same order as compact_delta()'s, in the lanes of a row. */
    __device__ void work_delta_out()
    {
        const natten_cuda_job &job = fresh(tile.job);
        const float *grad_lse =
            static_cast<const float *>(job.task.view[NATTEN_GRAD_LSE].data);
        int64_t base = tile.base_of(3, tile.turn);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t at =
                tile.own_rows(1) + tile.permute(tile.lane / 4 + 8 * i, tile.lane % 4);
            delta[i] = strip_sum<T>(out[i], load_words(at));
            delta[i] += __shfl_xor_sync(all_lanes, delta[i], 2);
            delta[i] += __shfl_xor_sync(all_lanes, delta[i], 1);
            char *to = tile.row_at(3, base, 8 * i);
            int64_t further = to - static_cast<char *>(job.delta);
            if (grad_lse != nullptr)
                delta[i] -= __ldg(reinterpret_cast<const float *>(
                    reinterpret_cast<const char *>(grad_lse) + further));
            if (tile.lane % 4 != 0 || !tile.exists[i])
                continue;
            store_float(to, delta[i]);
            if (job.stats != nullptr)
                store_words(reinterpret_cast<char *>(job.stats) + 2 * further,
                            __float_as_uint(lse[i]), __float_as_uint(-delta[i]));
        }
    }

    /* The pair of that number; the `first` of a unit, if its sums are not cleared. */
    template <bool first, class Pair>
    __device__ void add(const Places &at, Bias &bias, int32_t number, uint32_t also,
                        const Pair &pair)
    {
        const float minus_delta[4] = {-delta[0], -delta[0], -delta[1], -delta[1]};
        float ds[2][4];
        bias.open(number);
        const uint32_t hides = pair.hides(also);
#pragma unroll
        for (int g = 0; g < 2; g++) {
            float s[4];
            hide(s, pair, hides, g, tile.unit_matrix);
            dot<T, dims>(s, query, pair.row(at.left, g), s);
            dot<T, dims>(ds[g], grad, pair.row(at.right, g), minus_delta);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float b = biased ? bias.at(g, e) : 0;
                ds[g][e] *= weight_of<biased>(s[e], scale, b, lse[e / 2]);
                if (sums_bias && !blind[e / 2])
                    bias_sum[sums_bias ? 2 * number + g : 0][e] += ds[g][e];
            }
        }
        uint32_t packed[4] = {pack<T>(ds[0][0], ds[0][1]), pack<T>(ds[0][2], ds[0][3]),
                              pack<T>(ds[1][0], ds[1][1]), pack<T>(ds[1][2], ds[1][3])};
        accumulate<T, dims, first>(sum, packed, at.both(pair, at.left));
    }

    /* dS of all pairs of tokens that are `y` and `x` apart, as entries count. What no
     * row sees may not be finite. */
    __device__ float sum_of(int32_t y, int32_t x, const float *all, int32_t pitch) const
    {
        const natten_cuda_halo_warp *first = tile.info() - tile.place();
        const natten_cuda_halo &h = tile.job.halo;
        bool is_whole = tile.halo()->place.slices == 1;
        float total = 0;
        for (int i = 0, place = 0; i < NATTEN_CUDA_WARPS; i++, place++) {
            place = place == h.places ? 0 : place;
            const natten_cuda_halo_warp *w = first + place;
            for (int r = 0; r < subtile; r++) {
                const natten_cuda_halo_seen seen = tile.seen_by(place)[r];
                int32_t v = y - seen.entry[0], u = x - seen.entry[1];
                if (v < seen.begin[0] || v >= seen.end[0] || u < seen.begin[1] ||
                    u >= seen.end[1])
                    continue;
                int32_t from_top = v + w->row_begin;
                int32_t slice = is_whole ? 0 : from_top / h.rows;
                int32_t top = natten_max(slice * h.rows, w->row_begin);
                total += all[(i * subtile + r) * pitch + w->first_pair[slice] * 16 +
                             (from_top - top) * w->width + u];
            }
        }
        return total;
    }
};

/* Rows of 128 leave registers for one of the two results: `of_keys`, `of_values`. */
template <class T, int dims, bool biased, bool engine, bool of_keys, bool of_values>
class HaloGradTokens {
  public:
    HaloTile<T, dims, Side::keys, engine> tile;
    static constexpr bool by_engine = engine, flat = engine && dims == 32;
    FlatPairs<flat ? NATTEN_CUDA_FLAT_KEYS : 0, 2> pairs;

    __device__ explicit HaloGradTokens(const natten_cuda_job &job)
        : tile(job), scale(fabsf((float)job.task.scale)),
          negative(__double2hiint(job.task.scale) < 0)
    {
        clear_sums(key_sum);
        clear_sums(value_sum);
    }

    /* In a flat halo the warp's statistics come with its rows. */
    static constexpr int row_tensors = flat ? 5 : 4, partner_tensors = flat ? 2 : 3;
    static constexpr bool copies_more = biased || !flat, copies_late = flat;
    static constexpr bool prepares = engine && !flat, fetches = false;
    static constexpr bool looks_ahead = false, keeps_steps = false, recalls = false;
    static constexpr bool is_gradient = true;
    __device__ static natten_role row_role(int n)
    {
        return n == 0   ? NATTEN_KEY
               : n == 1 ? NATTEN_VALUE
               : n == 2 ? NATTEN_GRAD_KEY
               : n == 3 ? NATTEN_GRAD_VALUE
                        : stats_role;
    }
    __device__ static natten_role partner_role(int n)
    {
        return n == 0 ? NATTEN_QUERY : n == 1 ? NATTEN_GRAD_OUT : stats_role;
    }

    __device__ void copy_rows(int turn) const
    {
        tile.copy_rows(0, NATTEN_KEY, turn);
        if (of_keys)
            tile.copy_rows(1, NATTEN_VALUE, turn);
    }
    __device__ void copy_more(int stage, const HaloStep &step, int thread,
                              int warps) const
    {
        if constexpr (!engine)
            tile.copy_stats(stage, step, walk_of(thread, warps));
        else if constexpr (!flat)
            tile.copy_stats(stage, step, walk);
        if (biased)
            tile.copy_bias(stage, step, thread, warps);
    }

    /* Work out what does not change: which statistics a thread copies. */
    __device__ void prepare(int thread, int warps)
    {
        walk = walk_of(thread, warps);
    }

    /* Statistics of the box's partners in the order of groups, for a unit whose rows
     * come too: lane 8 i + k has tokens of columns k, of pairs i and i + 4. */
    __device__ void copy_late(int turn) const
    {
        const natten_cuda_job &job = fresh(tile.job);
        const natten_axis *axis = job.task.axis;
        int32_t column = (int32_t)job.task.heads * 8 * axis[2].dilation;
        int32_t row =
            (int32_t)job.task.heads * 8 * axis[2].query_count * axis[1].dilation;
        row -= job.halo.pitch * column;
        const char *base =
            reinterpret_cast<const char *>(tile.base_of(row_tensors - 1, turn));
        uint32_t inverse = tile.halo()->pitch_inverse;
        bool is_met = pairs.groups > 0; /* else `base` may be behind all statistics */
        int i = tile.lane / 8;
        uint32_t to = stats_at() + (uint32_t)(tile.lane % 8 * 8 + i * 128 + i % 2 * 64);
#pragma unroll
        for (int k = 0; k < 2; k++) {
            if (k > 0 && pairs.groups <= 8)
                break;
            const uint32_t *four = pairs.rows + 4 * k;
            uint32_t low = i % 2 == 0 ? four[0] : four[1];
            uint32_t high = i % 2 == 0 ? four[2] : four[3];
            uint32_t rows = i < 2 ? low : high;
            rows = __funnelshift_l(rows, rows, i % 2 * 16);
            /* Lanes 8 i + k of odd i begin with group 1. */
#pragma unroll
            for (int g = 0; g < 2; g++) {
                int32_t token = (int32_t)((rows & 0xffffu) / (dims * 2));
                int32_t y = (int32_t)((uint32_t)token * inverse >> 20);
                copy8((to ^ (uint32_t)(g * 64)) + (uint32_t)(k * 512),
                      base + (y * row + token * column), is_met);
                rows = __funnelshift_l(rows, rows, 16);
            }
        }
    }

    __device__ void begin()
    {
        key.load(tile, 0);
        if (of_keys)
            value.load(tile, 1);
        if (negative)
            negate(key);
    }

    __device__ void take(int stage, int n, const HaloStep &step, int32_t first,
                         int32_t count, uint32_t also)
    {
        Bias bias(tile, n, step);
        Places at(tile, stage, first);
        at.stats = kept(tile.more(n) + (uint32_t)tile.job.halo.stats_at);
#pragma unroll 2
        for (int32_t p = first; p < first + count; p++)
            add<false>(at, bias, p, also, at.next());
    }
    __device__ void take_flat(int stage, int n, const HaloStep &step)
    {
        Bias bias(tile, n, step);
        Places at(tile, stage);
        add<true>(at, bias, 0, 0, pairs[0]);
#pragma unroll
        for (int p = 1; p < 4; p++)
            add<false>(at, bias, p, 0, pairs[p]);
        if (pairs.groups <= 8)
            return;
#pragma unroll
        for (int p = 4; p < 7; p++)
            add<false>(at, bias, p, 0, pairs[p]);
        if (pairs.groups > 14)
            add<false>(at, bias, 7, 0, pairs[7]);
    }

    __device__ void end()
    {
        float signed_scale = negative ? -scale : scale;
        float factor[2] = {signed_scale, signed_scale}, one[2] = {1, 1};
        bool found = false;
        if (of_keys && tile.job.task.view[NATTEN_GRAD_KEY].data != nullptr)
            found = store_rows<T, dims>(tile, NATTEN_GRAD_KEY, key_sum, factor, 2,
                                        tile.base_of(2, tile.turn));
        tile.note(found);
        if (of_values && tile.job.task.view[NATTEN_GRAD_VALUE].data != nullptr)
            found = store_rows<T, dims>(tile, NATTEN_GRAD_VALUE, value_sum, one, 3,
                                        tile.base_of(3, tile.turn));
        tile.note(found);
        if constexpr (!flat) {
            clear_sums(key_sum);
            clear_sums(value_sum);
        }
    }

    __device__ void finish(bool)
    {
    }

    __device__ void again() const
    {
        if (tile.halo()->trouble[tile.warp] != 0)
            redo<T, false>(
                tile, of_keys ? NATTEN_GRAD_KEY : NATTEN_GRAD_VALUE,
                of_values ? NATTEN_GRAD_VALUE : NATTEN_GRAD_KEY,
                [](const natten_cuda_job &job, const Lane &lane, const Place &place,
                   bool wanted) { grad_tokens_again<T>(job, lane, place, wanted); });
    }

  private:
    using Places = StepPlaces<HaloTile<T, dims, Side::keys, engine>>;
    using Bias = Biases<biased>;
    float scale;
    bool negative;
    HaloWalk<NATTEN_CUDA_WARP> walk;

    __device__ HaloWalk<NATTEN_CUDA_WARP> walk_of(int thread, int warps) const
    {
        return {tile.halo()->place.count[2], thread, warps};
    }
    __device__ uint32_t stats_at() const
    {
        return tile.own_rows(2);
    }
    /* lse and minus delta of columns 2t and 2t + 1 of a group. */
    __device__ float4 stats_of(const Places &at, int32_t, int g, const HaloPair &) const
    {
        uint32_t two = g == 0 ? at.tokens.x : at.tokens.y;
        float2 left = load_floats(at.stats + 8 * (two & 0xffffu));
        float2 right = load_floats(at.stats + 8 * (two >> 16));
        return {left.x, left.y, right.x, right.y};
    }
    __device__ float4 stats_of(const Places &, int32_t number, int g,
                               const FlatPair<false> &) const
    {
        return load_four_floats(stats_at() + (uint32_t)(number * 128 + g * 64) +
                                (uint32_t)(tile.lane % 4 * 16));
    }

    Rows<dims> key, value;
    float key_sum[dims / 8][4], value_sum[dims / 8][4];

    /* The pair of that number; the `first` of a unit, if its sums are not cleared. */
    template <bool first, class Pair>
    __device__ void add(const Places &at, Bias &bias, int32_t number, uint32_t also,
                        const Pair &pair)
    {
        uint32_t p[4], ds[4];
        bias.open(number);
        const uint32_t hides = pair.hides(also);
#pragma unroll
        for (int g = 0; g < 2; g++) {
            float4 stats = stats_of(at, number, g, pair);
            const float lse[2] = {stats.x, stats.z};
            const float minus_delta[4] = {stats.y, stats.w, stats.y, stats.w};
            float s[4], dp[4];
            hide(s, pair, hides, g, tile.unit_matrix);
            dot<T, dims>(s, key, pair.row(at.left, g), s);
            if (of_keys)
                dot<T, dims>(dp, value, pair.row(at.right, g), minus_delta);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float b = biased ? bias.at(g, e) : 0;
                s[e] = weight_of<biased>(s[e], scale, b, lse[e % 2]);
                if (of_keys)
                    dp[e] *= s[e];
            }
            p[2 * g] = pack<T>(s[0], s[1]);
            p[2 * g + 1] = pack<T>(s[2], s[3]);
            if (!of_keys)
                continue;
            ds[2 * g] = pack<T>(dp[0], dp[1]);
            ds[2 * g + 1] = pack<T>(dp[2], dp[3]);
        }
        if (of_values)
            accumulate<T, dims, first>(value_sum, p, at.both(pair, at.right));
        if (of_keys)
            accumulate<T, dims, first>(key_sum, ds, at.both(pair, at.left));
    }
};

} // namespace natten

#endif
