/* SPDX-License-Identifier: MIT
 *
 * What the halo kernels do with the 16 rows of a subtile: products with groups of
 * partners, their biases, writing results, and finding what level a has to do again. */
#ifndef NATTEN_CUDA_DEVICE_HALO_ROWS_CUH
#define NATTEN_CUDA_DEVICE_HALO_ROWS_CUH

#include "cuda/device/halo_copies.cuh"
#include "cuda/device/halo_flat.cuh"
#include "cuda/device/keys.cuh"

namespace natten {

/* Sum of products of two strips. */
template <class T> __device__ inline float strip_sum(const uint4 &x, const uint4 &y)
{
    const uint32_t left[4] = {x.x, x.y, x.z, x.w}, right[4] = {y.x, y.y, y.z, y.w};
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 a = unpack<T>(left[i]), b = unpack<T>(right[i]);
        sum = fmaf(a.y, b.y, fmaf(a.x, b.x, sum));
    }
    return sum;
}

/* Rows of a subtile as A of products with K or with others as wide. */
template <int dims> struct Rows {
    uint32_t a[dims / 16][4];

    template <class Tile> __device__ void load(const Tile &tile, int n)
    {
        uint32_t from = tile.row_matrix + (uint32_t)(n * subtile * dims * 2);
#pragma unroll
        for (int k = 0; k < dims / 16; k++)
            load_matrices(a[k], from ^ (k * 32));
    }
};

/* c = rows times the transposed partners of a group, whose rows begin at `partner`,
 * plus c0. */
template <class T, int dims>
__device__ inline void dot(float (&c)[4], const Rows<dims> &rows, uint32_t partner,
                           const float (&c0)[4])
{
#pragma unroll
    for (int k = 0; k < dims / 32; k++) {
        uint32_t b[4];
        load_matrices(b, partner ^ (k * 64));
        if (k == 0)
            multiply<T>(c, rows.a[0], b[0], b[1], c0);
        else
            multiply<T>(c, rows.a[2 * k], b[0], b[1]);
        multiply<T>(c, rows.a[2 * k + 1], b[2], b[3]);
    }
}

/* sum += weights of a pair's 16 partners times their rows, which begin at `both`; with
 * `first`, sum = that. */
template <class T, int dims, bool first = false>
__device__ inline void accumulate(float (&sum)[dims / 8][4],
                                  const uint32_t (&weights)[4], uint32_t both)
{
#pragma unroll
    for (int k = 0; k < dims / 16; k++) {
        uint32_t b[4];
        load_transposed(b, both ^ (k * 32));
        if (first) {
            multiply<T>(sum[2 * k], weights, b[0], b[1], {0, 0, 0, 0});
            multiply<T>(sum[2 * k + 1], weights, b[2], b[3], {0, 0, 0, 0});
        } else {
            multiply<T>(sum[2 * k], weights, b[0], b[1]);
            multiply<T>(sum[2 * k + 1], weights, b[2], b[3]);
        }
    }
}

/* The same of 8 partners, of which `group` has all chunks in order. */
template <class T, int dims, bool first = false>
__device__ inline void accumulate_group(float (&sum)[dims / 8][4], uint32_t upper,
                                        uint32_t lower, uint32_t group)
{
#pragma unroll
    for (int k = 0; k < dims / 32; k++) {
        uint32_t b[4];
        load_transposed(b, group ^ (k * 64));
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (first)
                multiply_eight<T>(sum[4 * k + j], upper, lower, b[j], {0, 0, 0, 0});
            else
                multiply_eight<T>(sum[4 * k + j], upper, lower, b[j], sum[4 * k + j]);
        }
    }
}

/* Rows times -1. */
template <int dims> __device__ inline void negate(Rows<dims> &rows)
{
#pragma unroll
    for (int k = 0; k < dims / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            rows.a[k][i] ^= 0x80008000u;
}

/* Write a row's columns from .. from + 3, of which those before the row's end exist. */
template <class T>
__device__ inline void store_four(const Source<T> &shape, T *row, int32_t from,
                                  uint32_t low, uint32_t high)
{
    if (shape.vector) {
        if (from < shape.count)
            store_words(row + from, low, high);
        return;
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
        if (from + e < shape.count)
            reinterpret_cast<uint16_t *>(row)[(from + e) * shape.view->item] =
                (uint16_t)((e < 2 ? low : high) >> e % 2 * 16);
}

/* Write `sum` times a factor to the warp's rows of `role`, the pass's n-th, which begin
 * at `base`.  Lanes of a pair exchange words, so that each has four columns.  True in
 * some lane if not all that is written is finite. */
template <class T, int dims, class Tile>
__device__ inline bool store_rows(const Tile &tile, natten_role role,
                                  const float (&sum)[dims / 8][4],
                                  const float (&factor)[2], int n, int64_t base)
{
    bool finite = true;
    const int own = 8 * (tile.lane % 2) + tile.lane % 4 / 2 * 4; /* first column */
    if (Tile::by_engine)
        base += own * (int)sizeof(T);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t zero = 0; /* what is not finite, times 0, is NaN */
        bool exists = tile.exists[i];
        T *row = reinterpret_cast<T *>(tile.row_at(n, base, 8 * i));
#pragma unroll
        for (int k = 0; k < dims / 32; k++) {
            uint32_t word[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                word[j] = pack<T>(sum[4 * k + j][2 * i] * factor[i],
                                  sum[4 * k + j][2 * i + 1] * factor[i]);
                zero = multiply_pair<T>(word[j], 0, zero);
            }
            pair_exchange(word);
            if (!exists)
                continue;
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                if constexpr (Tile::by_engine) /* then rows are whole */
                    store_words(row + 32 * k + 8 * j, word[j], word[j + 1]);
                else
                    store_four(Source<T>(fresh(tile.job), role), row,
                               32 * k + 8 * j + own, word[j], word[j + 1]);
            }
        }
        finite = finite && (!exists || (zero & 0x7fff7fffu) == 0);
    }
    return !finite;
}

/* Is an element of the row not finite?  The same answer in all lanes of a group. */
template <class T>
__device__ inline bool is_in_trouble(const natten_cuda_job &job, const Lane &lane,
                                     natten_role role, const Place &place)
{
    const natten_view &view = job.task.view[role];
    Source<T> shape(job, role);
    Sum<T> zero = 0;
    if (view.data == nullptr)
        return false;
    const T *row = row_at<const T>(view, place.batch, place.head, place.at);
    for (int64_t e = lane.from(); e < lane.from() + strip; e++)
        if (e < shape.count) /* written by this kernel: not from a read-only cache */
            zero = fma(widen(__ldcg(row + e * view.item)), Sum<T>(0), zero);
    return lane.sum(zero) != 0;
}

/* Compute the rows of the warp that hold anything not finite anew, in all its units:
 * `again(job, lane, place, wanted)` is level a's way for a row of `role`. */
template <class T, bool looks_ahead, class Tile, class Again>
__device__ inline void redo(const Tile &tile, natten_role role, natten_role other,
                            const Again &again)
{
    const natten_cuda_job &job = tile.job;
    const natten_cuda_halo_warp *w = tile.info();
    Lane lane(job.lanes);
    int32_t each =
        Tile::of_queries ? (int32_t)job.task.heads / (int32_t)job.task.heads_kv : 1;
    HaloStep step = tile.first_step();
    for (; step.first_unit + tile.unit() < tile.halo()->end;
         step.first_unit = tile.next_units(step)) {
        HaloUnit u = {};
        if constexpr (looks_ahead)
            u = tile.unit_at(step.first_unit + tile.unit());
        else
            u.batch = tile.batch_of(step.first_unit + tile.unit(), u.head);
        for (int r = lane.group; r < subtile; r += lane.groups) {
            const int32_t *at = w->row[r].at;
            Place place = {u.batch, u.head, u.head / each, {at[0], at[1], at[2]}};
            for (int a = 0; a < 3; a++)
                place.at[a] += tile.distance(u, a);
            bool wanted = is_in_trouble<T>(job, lane, role, place);
            wanted = is_in_trouble<T>(job, lane, other, place) || wanted;
            wanted = wanted && (w->exists >> r & 1) != 0;
            if (__any_sync(all_lanes, wanted))
                again(job, lane, place, wanted);
        }
    }
}

/* Entries of bias of a head in a stage's copy of them. */
template <bool biased> struct Biases {
    uint32_t row[2];        /* of rows r and r + 8: entry of the box's first partner */
    const ushort4 *columns; /* of the pairs: bytes from there */
    int32_t sign, column[4];

    /* Of the tile's more(n). */
    template <class Tile>
    __device__ Biases(const Tile &tile, int n, const HaloStep &step)
    {
        if (!biased)
            return;
        const natten_cuda_halo_warp *w = tile.info();
        const natten_cuda_halo &h = tile.job.halo;
        const natten_axis *axis = tile.job.task.axis;
        int32_t plane = (2 * axis[1].window - 1) * (2 * axis[2].window - 1);
        sign = Tile::of_queries ? 1 : -1;
        int32_t first = h.bias_pad + sign * (step.plane - w->plane_begin) * plane;
        uint32_t all = tile.more(n) + (uint32_t)(h.bias_at + 4 * first);
        for (int i = 0; i < 2; i++)
            row[i] = all + (uint32_t)(4 * w->row[tile.lane / 4 + 8 * i].bias);
        columns = tile.columns(Tile::of_entries);
    }
    __device__ void open(int32_t pair)
    {
        if (!biased)
            return;
        ushort4 c = columns[pair * 4];
        column[0] = sign * c.x, column[1] = sign * c.y;
        column[2] = sign * c.z, column[3] = sign * c.w;
    }
    /* Element e of group g of the pair. Of a row that does not see the partner it may
     * be any entry, or one of the zeros beside them. */
    __device__ float at(int g, int e) const
    {
        return load_float(row[e / 2] + (uint32_t)column[2 * g + e % 2]);
    }
    /* s = s times a factor, plus those of group g. */
    __device__ void add(float (&s)[4], float factor, int g) const
    {
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[e] = fmaf(s[e], factor, at(g, e));
    }
};

/* The same as forward wants them: as they are, or to base 2. */
template <bool biased, bool flat, bool to_base_2>
struct ForwardBiases : Biases<biased> {
    using Biases<biased>::Biases;
};

template <bool biased> struct ForwardBiases<biased, false, true> : Biases<biased> {
    using Biases<biased>::Biases;

    __device__ void add(float (&s)[4], float factor, int g) const
    {
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[e] = fmaf(s[e], factor, Biases<biased>::at(g, e) * log2_e);
    }
};

/* Of a flat halo, where they are kept so; and beside the entry of row r that of row
 * r + 8, for one load of both. */
template <bool biased, bool to_base_2> struct ForwardBiases<biased, true, to_base_2> {
    uint32_t row; /* of rows r and r + 8: the box's first partner */
    uint32_t columns, column[4];

    /* `first_row` is row_of(). */
    template <class Tile>
    __device__ ForwardBiases(const Tile &tile, int n, uint32_t first_row,
                             uint32_t columns_)
    {
        if (!biased)
            return;
        const natten_cuda_halo &h = tile.job.halo;
        int32_t place = n * h.units + tile.unit(), each = h.more_bytes;
        if (h.keeps_bias) {
            place = tile.head_ahead(tile.turn);
            each = Tile::kept_bytes(tile.job);
        }
        row = first_row + (uint32_t)(place * each);
        columns = columns_;
    }
    /* Where a row's are in the first place. */
    template <class Tile> __device__ static uint32_t row_of(const Tile &tile)
    {
        const natten_cuda_halo &h = tile.job.halo;
        int32_t of_row = tile.info()->row[tile.lane / 4].bias + h.bias_pad;
        return shared_address(halo_shared) + (uint32_t)(h.more_at + 8 * of_row);
    }
    __device__ void open(int32_t pair)
    {
        if (!biased)
            return;
        uint2 c = load_uints(columns + (uint32_t)(pair * 4 * (int)sizeof c));
        for (int i = 0; i < 4; i++)
            column[i] = plus_half(row, i < 2 ? c.x : c.y, i % 2);
    }
    __device__ void add(float (&s)[4], float factor, int g) const
    {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float2 of_both = load_floats(column[2 * g + e]);
            s[e] = fmaf(s[e], factor, of_both.x);
            s[2 + e] = fmaf(s[2 + e], factor, of_both.y);
        }
    }
};

} // namespace natten

#endif
