/* SPDX-License-Identifier: MIT
 *
 * What the kernels of warpgroups are like, and whose turn it is of what a block has
 * several of (device/wgmma_tile.cuh has the words). */
#ifndef NATTEN_CUDA_DEVICE_WGMMA_TURN_CUH
#define NATTEN_CUDA_DEVICE_WGMMA_TURN_CUH

#include "cuda/cuda_wgmma_crew.h"

namespace natten {

/* What a pass's kernel is like (wgmma_shapes.def). */
template <natten_cuda_wgmma_pass pass> struct WgmmaShape;
#define WGMMA(pass, tensors_, columns_, crews_, first_, second_, many_, few_)         \
    template <> struct WgmmaShape<NATTEN_CUDA_WGMMA_##pass> {                         \
        static constexpr int tensors = tensors_, columns = columns_, crews = crews_,  \
                             first = first_, second = second_, /* stages */           \
            many = many_, few = few_;                          /* registers */        \
        static constexpr int threads = (crews + 1) * 4 * NATTEN_CUDA_WARP;            \
        static constexpr int bringers = 4 / crews; /* of a crew: four warps' worth */ \
    };
#include "cuda/wgmma_shapes.def"
#undef WGMMA

/* Stages by turns, as who fills them and who empties them count them: in the warp's
 * registers, where those are enough, ... */
template <int stages> class WgmmaTurn {
    int32_t now = 0;
    uint32_t odd = 0;

  public:
    WgmmaTurn() = default;
    /* After so many. */
    __device__ explicit WgmmaTurn(uint32_t count)
        : now((int32_t)(count % stages)), odd(count / stages & 1)
    {
    }
    __device__ int32_t stage() const
    {
        return now;
    }
    /* The stage that came before. */
    __device__ int32_t before() const
    {
        return now == 0 ? stages - 1 : now - 1;
    }
    __device__ uint32_t parity() const
    {
        return odd;
    }
    __device__ void next()
    {
        if (++now == stages)
            now = 0, odd ^= 1;
    }
};
/* ... or in one of each thread's. */
template <int stages> class WgmmaFillTurn {
    int32_t count = 0; /* of two rounds */

  public:
    __device__ int32_t stage() const
    {
        return count < stages ? count : count - stages;
    }
    __device__ uint32_t parity() const
    {
        return count >= stages;
    }
    __device__ void next()
    {
        count = count + 1 == 2 * stages ? 0 : count + 1;
    }
};

} // namespace natten

#endif
