/* SPDX-License-Identifier: MIT
 *
 * What the kernels for large windows do with a warp's rows: products with boxes of
 * partners, masks, writing results, and having level a do again what is not finite. */
#ifndef NATTEN_CUDA_DEVICE_MMA_ROWS_CUH
#define NATTEN_CUDA_DEVICE_MMA_ROWS_CUH

#include "cuda/device/keys.cuh"
#include "cuda/device/mma_copies.cuh"

namespace natten {

/* Have the warp's rows in `wanted`, a bit each, computed anew by level a. */
template <class Tile, class Again>
__device__ inline void redo_rows(const Tile &tile, uint32_t wanted, const Again &again)
{
    const natten_cuda_job &job = tile.job;
    Lane lane(job.lanes);
    int32_t each = Tile::of_queries ? (int32_t)(job.task.heads / job.task.heads_kv) : 1;
    int32_t head = tile.info()->head;
#pragma unroll 1
    for (int r = lane.group; r < Tile::warp_rows; r += lane.groups) {
        const int32_t *at = tile.row(r).at;
        Place place = {tile.info()->batch, head, head / each, {at[0], at[1], at[2]}};
        bool is_wanted = (wanted >> r & 1) != 0;
        if (__any_sync(all_lanes, is_wanted))
            again(job, lane, place, is_wanted);
    }
}

/* Columns of a row that a lane has side by side, one lane of a quad after the other,
 * of sums that gather() makes. */
template <class T> constexpr int side_by_side = sizeof(T) == 8 ? 4 : 8;

/* Those of a lane, from column 4 k side_by_side on, each times a factor, as words of
 * memory; `zero` becomes NaN if one of them is not finite. */
template <class T, int dims>
__device__ inline void words_of(uint32_t (&word)[side_by_side<T> * sizeof(T) / 4],
                                const Sum<T> (&sum)[dims / 8][4], int k, int i,
                                Sum<T> factor, Sum<T> &zero)
{
    if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float left = sum[4 * k + j][2 * i] * factor;
            float right = sum[4 * k + j][2 * i + 1] * factor;
            zero = fmaf(left, 0, fmaf(right, 0, zero));
            word[j] = pack<T>(left, right);
        }
        quad_transpose(word);
    } else {
        constexpr int groups = side_by_side<T> / 2;
#pragma unroll
        for (int j = 0; j < 2 * groups; j++) {
            Sum<T> x = sum[groups * k + j % groups][2 * i + j / groups] * factor;
            zero = fma(x, Sum<T>(0), zero);
            memcpy(word + j * sizeof(T) / 4, &x, sizeof x);
        }
    }
}

/* Bit q for quad q of a vote of which some lane said yes. */
__device__ inline uint32_t quads_of(uint32_t vote)
{
    uint32_t quads = 0;
    for (int q = 0; q < 8; q++)
        quads |= (vote >> (4 * q) & 0xf) != 0 ? 1u << q : 0;
    return quads;
}

/* Write `dims` columns from `first` on of the 16 rows of block `block`, each row times
 * a factor.  Bit r is set for a row, of all of the warp, of which not everything is
 * finite. */
template <class T, int dims, class Tile>
__device__ inline uint32_t store_block(const Tile &tile, natten_role role, int block,
                                       const Sum<T> (&sum)[dims / 8][4],
                                       const Sum<T> (&factor)[2], int first = 0)
{
    constexpr int held = side_by_side<T>, words = held * (int)sizeof(T) / 4;
    const natten_cuda_job &now = fresh(tile.job);
    int64_t item = now.task.view[role].item;
    int32_t count =
        (int32_t)(Source<T>::is_of_values(role) ? now.task.dim_v : now.task.dim);
    bool vector = (now.vector >> role & 1) != 0;
    uint32_t trouble = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        Sum<T> zero = 0; /* what is not finite, times 0, is NaN */
        int r = 16 * block + 8 * i + tile.lane / 4;
        bool exists = tile.exists(r);
        Stored<T> *row = reinterpret_cast<Stored<T> *>(tile.row_at(role, r));
#pragma unroll
        for (int k = 0; k < dims / (4 * held); k++) {
            uint32_t word[words];
            words_of<T, dims>(word, sum, k, i, factor[i], zero);
            int32_t from = (4 * k + tile.lane % 4) * held + first;
            if (!exists || from >= count)
                continue;
            if (vector) {
#pragma unroll
                for (int j = 0; j < words; j += 4)
                    reinterpret_cast<uint4 *>(row + from)[j / 4] = {
                        word[j], word[j + 1], word[j + 2], word[j + 3]};
                continue;
            }
#pragma unroll
            for (int e = 0; e < held; e++) {
                Stored<T> x;
                memcpy(&x, reinterpret_cast<const char *>(word) + e * sizeof x,
                       sizeof x);
                if (from + e < count)
                    row[(from + e) * item] = x;
            }
        }
        trouble |= quads_of(__ballot_sync(all_lanes, exists && !(zero == 0)))
                   << (16 * block + 8 * i);
    }
    return trouble;
}

/* ---- products ---- */

/* Rows as left sides of products, read where they are needed or kept. */
template <class T, int dims, int blocks> struct MmaLeft {
    using Lay = MmaRows<T, dims>;
    uint32_t rows, address;

    __device__ MmaLeft(uint32_t rows_, int lane)
        : rows(rows_), address(Lay::left(rows, lane))
    {
    }
    __device__ void load(uint32_t (&a)[blocks][4], int k) const
    {
#pragma unroll
        for (int b = 0; b < blocks; b++)
            load_matrices(a[b],
                          Lay::step(address, k) + (uint32_t)(b * 16 * Lay::bytes));
    }
};

/* Scores of what a row does not see become -inf. */
template <class Tile, class S, int blocks, int groups>
__device__ inline void hide_unseen(const Tile &tile, S (&s)[blocks][groups][4],
                                   const MmaSight &sight)
{
#pragma unroll
    for (int m = 0; m < blocks; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            uint64_t own = tile.seen_by(sight.seen, 16 * m + 8 * r + tile.lane / 4);
            uint32_t half[2] = {(uint32_t)own, (uint32_t)(own >> 32)};
#pragma unroll
            for (int j = 0; j < groups; j++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (!(half[j / 4] & 1u << (j % 4 * 8 + e)))
                        s[m][j][2 * r + e] = -INFINITY;
        }
}

/* c = a b + c, or a b where it is `first`, for blocks of rows and two groups of
 * columns: all products of parts, those that need each other's sums far apart. */
template <class T, int lefts, int rights, int blocks, int groups>
__device__ inline void
multiply_parts(float (&c)[blocks][groups][4], const uint32_t (&a)[blocks][lefts][4],
               const uint32_t (&b)[rights][2 * groups], bool first)
{
    using Pairs = MmaPairs<lefts, rights>;
#pragma unroll
    for (int n = 0; n < Pairs::count; n++)
#pragma unroll
        for (int m = 0; m < blocks; m++)
#pragma unroll
            for (int g = 0; g < groups; g++) {
                const uint32_t *right = b[Pairs::right(n)] + 2 * g;
                const uint32_t(&left)[4] = a[m][Pairs::left(n)];
                if (first && n == 0)
                    multiply<T>(c[m][g], left, right[0], right[1], {0, 0, 0, 0});
                else
                    multiply<T>(c[m][g], left, right[0], right[1]);
            }
}

/* s = rows times the transposed partners, each read a product ahead of its own: else a
 * warp waits for shared memory with most of them. */
template <class T, int dims, int blocks, int columns, int parts>
__device__ inline void score_parts(float (&s)[blocks][columns / 8][4],
                                   const MmaLeft<T, dims, blocks> &rows,
                                   uint32_t partners, int lane)
{
    using Lay = MmaRows<T, dims>;
    constexpr int each = columns / 16, all = Lay::steps * each;
    uint32_t right = Lay::right(partners, lane), a[blocks][4], b[2][4];
    load_matrices(b[0], right);
#pragma unroll
    for (int k = 0; k < Lay::steps; k++) {
        uint32_t left[blocks][parts][4];
        rows.load(a, k);
#pragma unroll
        for (int m = 0; m < blocks; m++)
            divide<T>(left[m], a[m]);
#pragma unroll
        for (int j = 0; j < each; j++) {
            int n = k * each + j, next = n + 1;
            if (next < all)
                load_matrices(b[next % 2],
                              Lay::step(right, next / each) +
                                  (uint32_t)(next % each * 16 * Lay::bytes));
            uint32_t of[parts][4];
            divide<T>(of, b[n % 2]);
            float c[blocks][2][4];
#pragma unroll
            for (int m = 0; m < blocks; m++)
#pragma unroll
                for (int i = 0; i < 8; i++)
                    c[m][i / 4][i % 4] = s[m][2 * j + i / 4][i % 4];
            multiply_parts<T>(c, left, of, k == 0);
#pragma unroll
            for (int m = 0; m < blocks; m++)
#pragma unroll
                for (int i = 0; i < 8; i++)
                    s[m][2 * j + i / 4][i % 4] = c[m][i / 4][i % 4];
        }
    }
}

/* Weights in registers as left sides of products. */
template <class T, int blocks, int columns> struct MmaWeights {
    const float (&of)[blocks][columns / 8][4];

    __device__ void load(uint32_t (&a)[blocks][4], int k) const
    {
#pragma unroll
        for (int m = 0; m < blocks; m++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[m][i] = pack<T>(of[m][2 * k + i / 2][i % 2 * 2],
                                  of[m][2 * k + i / 2][i % 2 * 2 + 1]);
    }
};

/* sum += weights of `columns` partners times `width` columns of their rows of `dims`,
 * of 16-bit types. */
template <class T, int dims, int blocks, int columns, int width, class Left>
__device__ inline void gather_pairs(float (&sum)[blocks][width / 8][4],
                                    const Left &weights, uint32_t partners, int lane)
{
    using Lay = MmaRows<T, dims>;
    constexpr int each = width / 16, all = columns / 16 * each;
    uint32_t right = Lay::right_transposed(partners, lane), a[blocks][4], b[2][4];
    load_transposed(b[0], right);
#pragma unroll
    for (int k = 0; k < columns / 16; k++) {
        weights.load(a, k);
#pragma unroll
        for (int j = 0; j < each; j++) {
            int n = k * each + j, next = n + 1;
            if (next < all)
                load_transposed(b[next % 2],
                                Lay::step(right, next % each) +
                                    (uint32_t)(next / each * 16 * Lay::bytes));
#pragma unroll
            for (int m = 0; m < blocks; m++) {
                multiply<T>(sum[m][2 * j], a[m], b[n % 2][0], b[n % 2][1]);
                multiply<T>(sum[m][2 * j + 1], a[m], b[n % 2][2], b[n % 2][3]);
            }
        }
    }
}

/* The same of 4-byte types.  A lane's weights, of columns 2t and 2t + 1, are those of a
 * left side as they are, if partners 2t and 2t + 1 are its numbers t and t + 4.  Of
 * partners a lane reads 4 numbers, 4r .. 4r + 3 of 32: so it gets sums of columns
 * 8t .. 8t + 7, and 8 lanes that read at a time find all banks. */
template <class T, int dims, int blocks, int columns>
__device__ inline void gather_words(float (&sum)[blocks][dims / 8][4],
                                    const float (&weights)[blocks][columns / 8][4],
                                    uint32_t partners, int lane)
{
    using Lay = MmaRows<T, dims>;
    constexpr int each = dims / 32;
    /* Steps that are summed apart. */
    constexpr int apart = 2;
    constexpr int lefts = few_parts<T>, rights = many_parts<T>;
    uint32_t from[2] = {partners + Lay::place(lane % 4 * 2, lane / 4),
                        partners + Lay::place(lane % 4 * 2 + 1, lane / 4)};
#pragma unroll
    for (int k = 0; k < columns / 8; k += apart) {
        uint32_t a[apart][blocks][lefts][4];
#pragma unroll
        for (int i = 0; i < apart; i++)
#pragma unroll
            for (int m = 0; m < blocks; m++) {
                const float(&w)[4] = weights[m][k + i];
                const float left[4] = {w[0], w[2], w[1], w[3]};
                divide_words(a[i][m], left);
            }
#pragma unroll
        for (int j = 0; j < each; j++) {
            float own[blocks][4][4];
#pragma unroll
            for (int i = 0; i < apart; i++) {
                uint32_t row = (uint32_t)((k + i) * 8 * Lay::bytes + j * 128);
                uint4 left = load_words(from[0] + row),
                      right = load_words(from[1] + row);
                uint32_t word[8] = {left.x, right.x, left.y, right.y,
                                    left.z, right.z, left.w, right.w};
                uint32_t b[rights][8];
                divide<T>(b, word);
                multiply_parts<T>(own, a[i], b, i == 0);
            }
#pragma unroll
            for (int m = 0; m < blocks; m++)
#pragma unroll
                for (int i = 0; i < 16; i++)
                    sum[m][4 * j + i / 4][i % 4] += own[m][i / 4][i % 4];
        }
    }
}

/* ---- of doubles ---- */

/* A lane reads two numbers at a time: those that it has of a product are its numbers t
 * and t + 4. */
template <class T, int dims, int blocks, int columns>
__device__ inline void score_doubles(double (&s)[blocks][columns / 8][4],
                                     const MmaLeft<T, dims, blocks> &rows,
                                     uint32_t partners, int lane)
{
    using Lay = MmaRows<T, dims>;
    constexpr uint32_t eight = 8 * Lay::bytes;
    uint32_t place = Lay::place(lane / 4, lane % 4), right = partners + place;
    uint32_t left = rows.rows + place;
#pragma unroll
    for (int k = 0; k < dims / 8; k++) {
        double a[blocks][4];
#pragma unroll
        for (int m = 0; m < 2 * blocks; m++) {
            double2 own = load_doubles(Lay::step(left, 2 * k) + (uint32_t)m * eight);
            a[m / 2][m % 2] = own.x, a[m / 2][m % 2 + 2] = own.y;
        }
#pragma unroll
        for (int j = 0; j < columns / 8; j++) {
            double2 b = load_doubles(Lay::step(right, 2 * k) + (uint32_t)j * eight);
#pragma unroll
            for (int m = 0; m < blocks; m++)
                if (k == 0)
                    multiply(s[m][j], a[m], b.x, b.y, {0, 0, 0, 0});
                else
                    multiply(s[m][j], a[m], b.x, b.y, s[m][j]);
        }
    }
}

/* As gather_words(): of 16 numbers a lane reads 2r and 2r + 1 and gets sums of columns
 * 4t .. 4t + 3. */
template <class T, int dims, int blocks, int columns>
__device__ inline void gather_doubles(double (&sum)[blocks][dims / 8][4],
                                      const double (&weights)[blocks][columns / 8][4],
                                      uint32_t partners, int lane)
{
    using Lay = MmaRows<T, dims>;
    uint32_t from[2] = {partners + Lay::place(lane % 4 * 2, lane / 4),
                        partners + Lay::place(lane % 4 * 2 + 1, lane / 4)};
#pragma unroll
    for (int k = 0; k < columns / 8; k++)
#pragma unroll
        for (int j = 0; j < dims / 16; j++) {
            uint32_t row = (uint32_t)(k * 8 * Lay::bytes + j * 128);
            double2 left = load_doubles(from[0] + row),
                    right = load_doubles(from[1] + row);
#pragma unroll
            for (int m = 0; m < blocks; m++) {
                const double(&w)[4] = weights[m][k];
                const double a[4] = {w[0], w[2], w[1], w[3]};
                multiply(sum[m][2 * j], a, left.x, right.x, sum[m][2 * j]);
                multiply(sum[m][2 * j + 1], a, left.y, right.y, sum[m][2 * j + 1]);
            }
        }
}

/* ---- of any ---- */

template <class T, int dims, int blocks, int columns, int parts>
__device__ inline void score(Sum<T> (&s)[blocks][columns / 8][4],
                             const MmaLeft<T, dims, blocks> &rows, uint32_t partners,
                             int lane)
{
    if constexpr (sizeof(T) == 8)
        score_doubles<T, dims, blocks, columns>(s, rows, partners, lane);
    else
        score_parts<T, dims, blocks, columns, parts>(s, rows, partners, lane);
}

template <class T, int dims, int blocks, int columns, int width = dims>
__device__ inline void gather(Sum<T> (&sum)[blocks][width / 8][4],
                              const Sum<T> (&weights)[blocks][columns / 8][4],
                              uint32_t partners, int lane)
{
    if constexpr (sizeof(T) == 8)
        gather_doubles<T, dims, blocks, columns>(sum, weights, partners, lane);
    else if constexpr (sizeof(T) == 2)
        gather_pairs<T, dims, blocks, columns, width>(
            sum, MmaWeights<T, blocks, columns>{weights}, partners, lane);
    else
        gather_words<T, dims, blocks, columns>(sum, weights, partners, lane);
}

} // namespace natten

#endif
