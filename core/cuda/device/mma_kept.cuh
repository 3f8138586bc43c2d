/* SPDX-License-Identifier: MIT
 *
 * Weights of a tile's rows and a box, in 16 bits, in shared memory, for other warps
 * than those that have worked them out: dS for who adds gradients of queries
 * (device/mma_added.cuh), P and dS for the warps that share rows. */
#ifndef NATTEN_CUDA_DEVICE_MMA_KEPT_CUH
#define NATTEN_CUDA_DEVICE_MMA_KEPT_CUH

#include "cuda/device/mma_rows.cuh"

namespace natten {

/* Of Shape's rows and partners; dS has a place or two, by turns, then comes P's. */
template <class T, class Shape> class MmaKept {
    static constexpr int blocks = Shape::blocks, sharing = Shape::sharing;
    static constexpr int warp_rows = 16 * blocks,
                         rows = Shape::warps / sharing * warp_rows;

  public:
    using Lay = MmaRows<T, Shape::columns>;                  /* a row for each row */
    static constexpr int columns = Shape::columns / sharing; /* of a warp */

    /* Where place number `n` begins. */
    template <class Tile> __device__ static uint32_t at(const Tile &tile, int n)
    {
        return shared_address(tile.info()) - (uint32_t)((n + 1) * rows * Lay::bytes);
    }

    /* What the warp has of its group's rows. */
    template <class Tile>
    __device__ static void keep(const Tile &tile, int n,
                                const float (&weights)[blocks][columns / 8][4])
    {
        uint32_t to = at(tile, n) +
                      Lay::place(tile.group() * warp_rows + tile.lane / 4,
                                 tile.part() * (columns / 8)) +
                      tile.lane % 4 * 4;
#pragma unroll
        for (int m = 0; m < blocks; m++)
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < columns / 8; j++)
                    store_shared(
                        (to ^ (uint32_t)(j * 16)) +
                            (uint32_t)((16 * m + 8 * i) * Lay::bytes),
                        pack<T>(weights[m][j][2 * i], weights[m][j][2 * i + 1]));
    }

    /* Those of the warp that shares its rows, as left sides of products. */
    struct Others {
        uint32_t address;

        template <class Tile>
        __device__ Others(const Tile &tile, int n)
            : address(Lay::left(at(tile, n) +
                                    (uint32_t)(tile.group() * warp_rows * Lay::bytes),
                                tile.lane) ^
                      (uint32_t)((1 - tile.part()) * columns * (int)sizeof(T)))
        {
        }
        __device__ void load(uint32_t (&a)[blocks][4], int k) const
        {
#pragma unroll
            for (int m = 0; m < blocks; m++)
                load_matrices(a[m], (address ^ (uint32_t)(k * 32)) +
                                        (uint32_t)(m * 16 * Lay::bytes));
        }
    };
};

} // namespace natten

#endif
