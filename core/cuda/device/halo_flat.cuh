/* SPDX-License-Identifier: MIT
 *
 * Flat halos: one slice of one plane, of subtiles of 4 x 4 tokens and few pairs of
 * groups, as most small windows have.  Then a step is a unit, and what the table says
 * of pairs (device/halo_tile.cuh has the words) does not change from step to step: a
 * lane keeps it in registers.
 *
 * Who sees whom is a question of rows and of columns: token (y, x) of the subtile sees
 * no partner in a row that y does not see, and none in a column that x does not.  So
 * what hides is a product, too, of 16 x 8 and 8 x 8 numbers: the first says which y and
 * which x a token has, the second from which y and x a partner is hidden. */
#ifndef NATTEN_CUDA_DEVICE_HALO_FLAT_CUH
#define NATTEN_CUDA_DEVICE_HALO_FLAT_CUH

#include "cuda/device/halo_tile.cuh"

namespace natten {

/* A pair of groups.  Addresses are multiples of 16 in 16 bits, from where a slice
 * begins.  Bits that hide are signs of bytes, or they lie side by side: of signs a
 * pair's matrices are made by an instruction less, the others the compiler can keep. */
template <bool signs> struct FlatPair {
    uint32_t rows;   /* HaloPair's row(0) and, 16 bits higher, row(1) */
    uint32_t across; /* both() of this pair and, 16 bits higher, of the next; where the
                        first group is alone, row(0) of slices of values */
    uint32_t bits;   /* of all pairs, or of four */
    int number;      /* of these */
    bool late;       /* what is worked out of `bits` would take too many registers */

    /* For hide_in(). */
    __device__ uint32_t hides(uint32_t) const
    {
        return !signs ? bits : late ? shifted_up(bits, number) : bits << number;
    }
    __device__ uint32_t row(uint32_t slice, int group) const
    {
        return half_of(slice, rows, group);
    }
    __device__ uint32_t both(uint32_t slice) const
    {
        return half_of(slice, across, number % 2);
    }

  private:
    __device__ static uint32_t half_of(uint32_t slice, uint32_t word, int half)
    {
        return plus_half(slice, word, half);
    }
};

/* c += half of `hidden`, once or twice, where partners of group g are hidden.  `who`
 * says which y and x the lane's rows have, by a quarter. */
template <bool signs>
__device__ inline void hide_in(float (&c)[4], const FlatPair<signs> &pair,
                               uint32_t hides, int g, const uint32_t (&who)[2])
{
    constexpr uint32_t minus_large = 0xff00; /* -2^127 */
    uint32_t from;
    if (!signs) {
        int n = 2 * pair.number + g;
        uint32_t mask = 0x00010001u << n;
        from = (pair.late ? masked(hides, mask) : hides & mask) * (minus_large >> n);
    } else if (g == 0) /* its upper byte is what a sign is extended to */
        asm("prmt.b32 %0, %1, 0, 0x9484;" : "=r"(from) : "r"(hides));
    else
        asm("prmt.b32 %0, %1, 0, 0xb4a4;" : "=r"(from) : "r"(hides));
    multiply_half(c, who[0], who[1], from, c);
}

/* The pairs of a warp's box, all that there could be; what does not exist is hidden. Of
 * the first `early` the compiler may keep what hides. */
template <int most, int early, bool signs = false> struct FlatPairs {
    static constexpr int of_word = signs ? 8 : 4;
    static_assert(most <= 8, "");
    uint32_t rows[most], across[(most + 1) / 2];
    /* As the table has them, each pair's two bits higher than the last one's.  As signs
     * bit 7 - p of all bytes is pair p's: the first group's two, then the second's. */
    uint32_t bits[(most + of_word - 1) / of_word];
    int32_t groups; /* that exist */

    /* Pairs that are taken as one group, if the box has no more: where rounds end. */
    __device__ static constexpr bool may_be_alone(int p)
    {
        return p == 3 || p == 4 || p == 6;
    }

    /* From the table: the addresses of a warp's own half of rows differ by the bits
     * `rows_by`, those of both(), of the second tensor, by `across_by`.  In a pass that
     * takes groups `alone` some addresses are of one. */
    template <bool alone>
    __device__ void load(const uint32_t *table, int32_t count, uint32_t rows_by,
                         uint32_t across_by)
    {
        groups = count;
        for (uint32_t &word : bits)
            word = 0;
#pragma unroll
        for (int p = 0; p < most; p++) {
            uint32_t word = table[p * NATTEN_CUDA_WARP];
            uint32_t both = HaloPair(word).both(0) ^ across_by;
            if (alone && may_be_alone(p) && count <= 2 * p + 1)
                both = HaloPair(word).row(0, 0) ^ across_by;
            rows[p] = kept((word & 0xfff0fff0u) ^ rows_by * 0x10001u);
            across[p / 2] = kept(p % 2 == 0 ? both : across[p / 2] | both << 16);
            uint32_t first = (word & 1) << 7 | (word & 1 << 16) >> 1,
                     second = (word & 2) << 6 | (word & 2 << 16) >> 2;
            bits[p / of_word] |=
                signs ? (first | second << 16) >> p : (word & 0x00030003u) << p % 4 * 2;
        }
        for (uint32_t &word : bits)
            word = kept(word);
    }
    __device__ FlatPair<signs> operator[](int p) const
    {
        return {rows[p], across[p / 2], bits[p / of_word], p % of_word, p >= early};
    }
};

} // namespace natten

#endif
