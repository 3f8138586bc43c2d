/* SPDX-License-Identifier: MIT
 *
 * What a block of the kernels that go down bands has in shared memory
 * (device/band_tile.cuh has the words): the kernels lay it out, and their planner asks
 * for it. */
#ifndef NATTEN_CUDA_CUDA_BAND_BLOCK_H
#define NATTEN_CUDA_CUDA_BAND_BLOCK_H

#include "cuda/cuda_job.h"

#include <stddef.h>

/* The passes (band_shapes.def). */
typedef enum natten_cuda_band_pass {
    NATTEN_CUDA_BAND_FORWARD,
    NATTEN_CUDA_BAND_GRAD_QUERY,
    NATTEN_CUDA_BAND_GRAD_TOKENS,
    NATTEN_CUDA_BAND_PASSES
} natten_cuda_band_pass;

/* Tokens of a subtile along both axes; subtiles of a step and columns of a band;
 * columns of a strip of a box, and most strips; columns of a group, and most groups
 * that a block keeps; most crews of a block; steps that are told at a time; numbers of
 * a row, and its bytes. */
enum {
    NATTEN_CUDA_BAND_SIDE = 4,
    NATTEN_CUDA_BAND_WARPS = 4,
    NATTEN_CUDA_BAND_COLUMNS = NATTEN_CUDA_BAND_WARPS * NATTEN_CUDA_BAND_SIDE,
    NATTEN_CUDA_BAND_STRIP = 8,
    NATTEN_CUDA_BAND_STRIPS = 3,
    NATTEN_CUDA_BAND_PITCH = 28,
    NATTEN_CUDA_BAND_GROUPS = 7,
    NATTEN_CUDA_BAND_CREWS = 3,
    NATTEN_CUDA_BAND_STEPS = 8,
    NATTEN_CUDA_BAND_DIMS = 64,
    NATTEN_CUDA_BAND_ROW_BYTES = 128
};

/* What warps keep of a step in one register: the first bit of a field, and its mask. */
enum {
    NATTEN_CUDA_BAND_AT_ROWS = 0, /* of the subtiles' tokens; none: no more steps */
    NATTEN_CUDA_BAND_OF_ROWS = 15,
    NATTEN_CUDA_BAND_AT_FRESH = 4, /* groups, the last ones, that may not be there */
    NATTEN_CUDA_BAND_OF_FRESH = 15,
    NATTEN_CUDA_BAND_AT_COLUMNS = 8, /* of the subtiles' tokens */
    NATTEN_CUDA_BAND_OF_COLUMNS = 31,
    NATTEN_CUDA_BAND_AT_PLACE = 13, /* of what is known of the step */
    NATTEN_CUDA_BAND_OF_PLACE = 7,
    NATTEN_CUDA_BAND_AT_GROUPS = 16, /* of partners */
    NATTEN_CUDA_BAND_OF_GROUPS = 7,
    NATTEN_CUDA_BAND_AT_PARITY = 19, /* of its crew's barriers */
    NATTEN_CUDA_BAND_OF_PARITY = 1,
    NATTEN_CUDA_BAND_AT_TURN = 24, /* of the first group, of all that a block meets the
                                      so-and-so-many-th, modulo twice as many as it
                                      keeps */
    NATTEN_CUDA_BAND_OF_TURN = 15
};

/* What is known of a step, for its crew. */
typedef struct natten_cuda_band_step {
    uint32_t extent; /* NATTEN_CUDA_BAND_AT_... */
    int32_t group;   /* the first, not modulo anything */
    char *result[2]; /* where the first row is in what crews write */
    /* By a row of tokens: the rows of partners that it sees, from the first group's on,
     * a bit each. */
    uint32_t seen[NATTEN_CUDA_BAND_SIDE];
    /* Of a warp: where its box begins, in columns of a group, and its strips, which are
     * 2 where partners are keys. */
    struct {
        int16_t first, strips;
    } box[NATTEN_CUDA_BAND_WARPS];
    /* By a column of tokens: the columns of its warp's box that it sees, a bit each. */
    uint32_t columns_seen[NATTEN_CUDA_BAND_COLUMNS];
} natten_cuda_band_step;

/* A step of an item. */
typedef struct natten_cuda_band_place {
    int32_t item, step;
} natten_cuda_band_place;

/* What is known of a block. */
typedef struct natten_cuda_band_block {
    /* Barriers: a group has arrived; a crew's rows have, and are not needed any more; a
     * step needs its partners no more. */
    uint64_t full[NATTEN_CUDA_BAND_GROUPS];
    uint64_t rows_full[NATTEN_CUDA_BAND_CREWS], rows_left[NATTEN_CUDA_BAND_CREWS];
    uint64_t done[NATTEN_CUDA_BAND_STEPS];
    /* Of each warp of crews: not 0: some result is not finite. */
    uint32_t trouble[NATTEN_CUDA_BAND_CREWS * NATTEN_CUDA_BAND_WARPS];
    natten_cuda_band_step step[NATTEN_CUDA_BAND_STEPS];
    /* What it has of items that are cut: the first step, and where they end. */
    natten_cuda_band_place cut[2];
    /* Gradients go on: lse to base 2 and minus delta, of queries each crew's rows, of
     * tokens the partners of the groups that are kept. */
    union {
        float own_stats[NATTEN_CUDA_BAND_CREWS][NATTEN_CUDA_BAND_SIDE]
                       [NATTEN_CUDA_BAND_COLUMNS][2];
        float stats[NATTEN_CUDA_BAND_GROUPS - 1][NATTEN_CUDA_BAND_SIDE]
                   [NATTEN_CUDA_BAND_PITCH][2];
    };
} natten_cuda_band_block;

/* Bands of so many tokens side by side. */
#ifdef __cplusplus
constexpr
#endif
    NATTEN_INLINE int32_t
    natten_cuda_band_count(int32_t tokens)
{
    return (tokens + NATTEN_CUDA_BAND_COLUMNS - 1) / NATTEN_CUDA_BAND_COLUMNS;
}
/* The columns of one of them.  The last but one is shorter if they are not all full: a
 * key near a border is seen by more queries, so the bands there are to begin and to end
 * with the grid. */
NATTEN_INLINE natten_span natten_cuda_band_columns(int32_t tokens, int32_t band)
{
    const int32_t full = NATTEN_CUDA_BAND_COLUMNS,
                  bands = natten_cuda_band_count(tokens);
    natten_span columns = {band * full, tokens};
    if (bands > 1 && band == bands - 1)
        columns.begin = tokens - full;
    else if (bands > 1)
        columns.end = natten_min(columns.begin + full, tokens - full);
    return columns;
}

/* What a step weighs that is not of a class's first or last band. */
enum { NATTEN_CUDA_BAND_WEIGHT = 8 };

/* What a step of each of the first items weighs, all together. */
NATTEN_INLINE int64_t natten_cuda_band_weight(const natten_cuda_band *b, int32_t items)
{
    const int64_t inner = NATTEN_CUDA_BAND_WEIGHT, last = b->bands - 1,
                  all = b->border + (last > 0 ? b->border + (last - 1) * inner : 0);
    const int32_t own = items % b->bands;
    return items / b->bands * all + (own > 0 ? b->border + (own - 1) * inner : 0);
}
/* Of the steps that are cut, those of a block begin after so much: all blocks get as
 * much, their whole items counted in. */
NATTEN_INLINE int64_t natten_cuda_band_share(const natten_cuda_band *b, int32_t blocks,
                                             int32_t block)
{
    int64_t weight = natten_cuda_band_weight(b, b->items) * b->steps * block / blocks;
    for (int32_t first = 0; first < b->whole; first += blocks)
        weight -= b->steps * (natten_cuda_band_weight(b, first + block) -
                              natten_cuda_band_weight(b, first));
    return weight;
}
/* The first of them; of the block after the last, where the last one's end. */
NATTEN_INLINE natten_cuda_band_place natten_cuda_band_cut(const natten_cuda_band *b,
                                                          int32_t blocks, int32_t block)
{
    const int64_t inner = (int64_t)NATTEN_CUDA_BAND_WEIGHT * b->steps,
                  border = (int64_t)b->border * b->steps,
                  all = natten_cuda_band_weight(b, b->bands) * b->steps,
                  weight = natten_cuda_band_weight(b, b->whole) * b->steps +
                           natten_cuda_band_share(b, blocks, block);
    int32_t own = 0, last = b->bands - 1, step = b->border;
    int64_t rest = weight % all;
    if (rest >= border && last > 0) {
        rest -= border;
        own = (int32_t)natten_min(rest / inner + 1, (int64_t)last);
        rest -= (own - 1) * inner;
        step = own == last ? b->border : NATTEN_CUDA_BAND_WEIGHT;
    }
    natten_cuda_band_place place = {(int32_t)(weight / all) * b->bands + own,
                                    (int32_t)((rest + step - 1) / step)};
    return place;
}

/* Bytes of a tensor of a group, of a tensor of a crew's rows. */
enum {
    NATTEN_CUDA_BAND_GROUP_BYTES =
        NATTEN_CUDA_BAND_SIDE * NATTEN_CUDA_BAND_PITCH * NATTEN_CUDA_BAND_ROW_BYTES,
    NATTEN_CUDA_BAND_TILE_BYTES =
        NATTEN_CUDA_BAND_SIDE * NATTEN_CUDA_BAND_COLUMNS * NATTEN_CUDA_BAND_ROW_BYTES
};

/* Where natten_cuda_band_block is: after the groups, of two tensors, and the rows of
 * all crews. */
#ifdef __cplusplus
constexpr
#endif
    NATTEN_INLINE int32_t
    natten_cuda_band_known_at(int32_t row_tensors, int32_t groups, int32_t crews)
{
    return groups * 2 * NATTEN_CUDA_BAND_GROUP_BYTES +
           crews * row_tensors * NATTEN_CUDA_BAND_TILE_BYTES;
}
/* Bytes of a block. */
#ifdef __cplusplus
constexpr
#endif
    NATTEN_INLINE int32_t
    natten_cuda_band_bytes(natten_cuda_band_pass pass, int32_t row_tensors,
                           int32_t groups, int32_t crews)
{
    size_t known = pass == NATTEN_CUDA_BAND_FORWARD
                       ? offsetof(natten_cuda_band_block, stats)
                       : sizeof(natten_cuda_band_block);
    return natten_cuda_band_known_at(row_tensors, groups, crews) + (int32_t)known;
}

#ifndef __cplusplus
_Static_assert(NATTEN_CUDA_BAND_SIDE <= (int)NATTEN_CUDA_BAND_OF_ROWS &&
                   NATTEN_CUDA_BAND_COLUMNS <= (int)NATTEN_CUDA_BAND_OF_COLUMNS &&
                   NATTEN_CUDA_BAND_STEPS - 1 == NATTEN_CUDA_BAND_OF_PLACE &&
                   NATTEN_CUDA_BAND_GROUPS <= (int)NATTEN_CUDA_BAND_OF_GROUPS &&
                   2 * NATTEN_CUDA_BAND_GROUPS - 1 <= NATTEN_CUDA_BAND_OF_TURN,
               "fields of a step");
_Static_assert(NATTEN_CUDA_BAND_GROUP_BYTES % 1024 == 0 &&
                   NATTEN_CUDA_BAND_TILE_BYTES % 1024 == 0 &&
                   NATTEN_CUDA_BAND_PITCH % 8 == 4,
               "how rows are permuted");
#endif

#endif
