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
 * begins. */
struct FlatPair {
    uint32_t rows;   /* HaloPair's row(0) and, 16 bits higher, row(1) */
    uint32_t across; /* both() of this pair and, 16 bits higher, of the next; where the
                        first group is alone, row(0) of slices of values */
    uint32_t bits;   /* of four pairs */
    int number;      /* of these */
    bool late;       /* what is worked out of `bits` would take too many registers */

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

/* c += `hidden`, once or twice, where partners of group g are hidden.  `who` says which
 * y and x the lane's rows have. */
__device__ inline void hide_in(float (&c)[4], const FlatPair &pair, uint32_t, int g,
                               const uint32_t (&who)[2])
{
    constexpr uint32_t minus_large = 0xfe80; /* -2^126 */
    int n = 2 * pair.number + g;
    uint32_t bits =
        pair.late ? masked(pair.bits, 0x00010001u << n) : pair.bits & 0x00010001u << n;
    uint32_t from = bits * (minus_large >> n);
    multiply_half(c, who[0], who[1], from, c);
}

/* The pairs of a warp's box, all that there could be; what does not exist is hidden. Of
 * the first `early` the compiler may keep what hides. */
template <int most, int early> struct FlatPairs {
    uint32_t rows[most], across[(most + 1) / 2], bits[(most + 3) / 4];
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
        for (int i = 0; i < (most + 3) / 4; i++)
            bits[i] = 0;
#pragma unroll
        for (int p = 0; p < most; p++) {
            uint32_t word = table[p * NATTEN_CUDA_WARP];
            uint32_t both = HaloPair(word).both(0) ^ across_by;
            if (alone && may_be_alone(p) && count <= 2 * p + 1)
                both = HaloPair(word).row(0, 0) ^ across_by;
            rows[p] = kept((word & 0xfff0fff0u) ^ rows_by * 0x10001u);
            across[p / 2] = kept(p % 2 == 0 ? both : across[p / 2] | both << 16);
            bits[p / 4] |= (word & 0x00030003u) << p % 4 * 2;
        }
        for (int i = 0; i < (most + 3) / 4; i++)
            bits[i] = kept(bits[i]);
    }
    __device__ FlatPair operator[](int p) const
    {
        return {rows[p], across[p / 2], bits[p / 4], p % 4, p >= early};
    }
};

} // namespace natten

#endif
