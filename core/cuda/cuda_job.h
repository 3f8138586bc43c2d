/* SPDX-License-Identifier: MIT
 *
 * What the host hands to a kernel, by value, in its parameters: the task as it is, and
 * how it is cut into pieces.  C and CUDA read the same structs, so nothing is
 * marshalled twice; a kernel's parameters have 4096 bytes on every architecture.
 * Length: every family of kernels has its part of one struct. */
#ifndef NATTEN_CUDA_CUDA_JOB_H
#define NATTEN_CUDA_CUDA_JOB_H

#include "problem/task.h"

/* Consecutive elements of a row that a lane holds: 16 bytes of a 16-bit type. */
enum { NATTEN_CUDA_STRIP = 8 };
/* Threads of a block: 8 warps. */
enum { NATTEN_CUDA_WARP = 32, NATTEN_CUDA_WARPS = 8, NATTEN_CUDA_THREADS = 256 };
/* Elements of a row that a warp holds in registers; longer rows are done in slices of
 * that width, each by a warp of its own that computes the weights anew. */
enum { NATTEN_CUDA_SLICE = NATTEN_CUDA_WARP * NATTEN_CUDA_STRIP };

/* Sorts of tiles on an axis, by what they see: before those that are alike, these, and
 * after them. */
enum { NATTEN_CUDA_SORTS = 3 };

/* How many, and what quotients by it are worked out with: 2^32 / count, rounded down.
 */
typedef struct natten_cuda_count {
    int32_t count;
    uint32_t inverse;
} natten_cuda_count;

/* Tiles of a sort on an axis: kinds of a class, classes that are kinds of their own;
 * tiles of a kind in a class, and in all its classes. */
typedef struct natten_cuda_halo_kinds {
    natten_cuda_count kinds, classes, alike, all;
    int32_t first; /* kinds begin at that tile */
} natten_cuda_halo_kinds;

/* Blocks of kinds of a sort on all axes: the first, how many a kind has; kinds, and
 * tiles of one. */
typedef struct natten_cuda_halo_sort {
    int32_t first, share;
    natten_cuda_count kinds, tiles;
} natten_cuda_halo_sort;

/* By rows and by columns; planes are all of one sort. */
typedef struct natten_cuda_halo_share {
    int32_t sort_of_planes;
    natten_cuda_halo_kinds kinds[3][NATTEN_CUDA_SORTS];
    natten_cuda_halo_sort sort[NATTEN_CUDA_SORTS * NATTEN_CUDA_SORTS];
} natten_cuda_halo_share;

/* How the halo kernels cut a task (device/halo_tile.cuh has the words); the axes are
 * planes, rows and columns.  Places in shared memory are bytes. */
typedef struct natten_cuda_halo {
    int32_t sub[3];              /* tokens of a subtile: 16 in all */
    int32_t warps[3];            /* subtiles of a tile */
    int32_t units;               /* batch items and heads that a block does at once */
    int32_t places, log2_places; /* warps of each: NATTEN_CUDA_WARPS / units */
    int32_t tiles[3];            /* of a class */
    int32_t rows;                /* of a slice */
    int32_t pitch;               /* from one row of a slice to the next, in tokens */
    int32_t order_pitch;         /* 0, or the pitch that partners are ordered for */
    int32_t pairs;               /* of groups, that a warp's table has room for */
    int32_t positions;           /* of tiles, those of all classes */
    int32_t replicas;       /* blocks of a position, that share out batch and heads */
    int32_t full, few;      /* positions after the first `full` ones, whose tiles have
                               fewer subtiles, have only so many */
    int32_t stride;         /* from a block's units to its next, where tiles are full */
    int32_t group;          /* heads of queries that share one of keys */
    int32_t is_by_head;     /* units are counted head by head, not item by item */
    int32_t chunks;         /* if so: parts of the batch; replicas are as many a head */
    int32_t inner;          /* heads of the rows, or batch items if by head */
    uint32_t inner_inverse; /* 2^32 / inner, rounded down */
    int32_t box_bytes;      /* a slice of one tensor */
    int32_t stats_at, bias_at, unit_bytes; /* of one unit of a slice */
    int32_t more_at,
        more_bytes;     /* beside the copy engine's: statistics, bias of a unit */
    int32_t bias_pad;   /* zeros before and after the entries */
    int32_t keeps_bias; /* entries of all heads are there from the beginning */
    int32_t rows_at, row_bytes; /* rows of a warp */
    int32_t slices_at;          /* after what is known of the block and its warps */
    int32_t tables_at, columns_at, seen_at;
    int32_t partners[2];   /* natten_role of the tensors whose slices are copied */
    int32_t by_maps;       /* the copy engine does it, by natten_cuda_job.map */
    int32_t writes_delta;  /* the pass of queries works delta and job.stats out, too */
    int32_t short_kind[3]; /* what is added to a map's number where the class on an axis
                              is one of the short ones */
    /* Forward of a flat halo: blocks are of a kind of tiles that are alike, and go
     * through all of them for each `units` units. */
    int32_t light;    /* a box has few pairs: by the kernel for three blocks */
    int32_t twins;    /* 1: slices of two units are one, of rows of two heads side by
                         side, twice as long; box_bytes are those of both */
    int32_t by_kinds; /* natten_cuda_job.share says which */
} natten_cuda_halo;

/* How the copy engine of sm_90 finds a tensor's slices: the driver encodes it. A tensor
 * has one for each combination of lengths of classes, on two axes at most. */
enum { NATTEN_CUDA_KINDS = 4 };
typedef struct __attribute__((aligned(64))) natten_cuda_map {
    unsigned char bytes[128];
} natten_cuda_map;

/* Shared memory of a block: what every GPU from sm_80 on has; half and a third of what
 * Hopper and Blackwell have for two blocks and for three; what those of data centres
 * have for one, and those of them with a copy engine. */
enum {
    NATTEN_CUDA_SHARED_BYTES = 99 * 1024,
    NATTEN_CUDA_SHARED_HALF = 113 * 1024,
    NATTEN_CUDA_SHARED_THIRD = 75 * 1024,
    NATTEN_CUDA_SHARED_LARGE = 163 * 1024,
    NATTEN_CUDA_SHARED_ENGINE = 227 * 1024
};
/* Most slices of a plane. */
enum { NATTEN_CUDA_SLICES = 16 };
/* Tokens of a subtile: the rows of a product. */
enum { NATTEN_CUDA_SUBTILE = 16 };

/* Pairs of groups whose dS a warp can sum in registers; of which it can keep addresses
 * there (device/halo_flat.cuh), where rows are queries and where they are keys. */
enum {
    NATTEN_CUDA_HALO_SUMS = 8,
    NATTEN_CUDA_FLAT_QUERIES = 7,
    NATTEN_CUDA_FLAT_LIGHT = 4, /* where three blocks share a multiprocessor */
    NATTEN_CUDA_FLAT_KEYS = 8
};
/* Most partners of a slice that are put in an order of banks. */
enum { NATTEN_CUDA_ORDERED = 16 * NATTEN_CUDA_FLAT_KEYS };

/* Tensors of partners and of rows that a pass reads or writes, at most. */
enum { NATTEN_CUDA_PARTNERS = 3, NATTEN_CUDA_ROWS = 5 };

/* What is known of a block's halo, of a subtile's token and of a warp: in shared
 * memory. */
typedef struct natten_cuda_halo_place {
    int32_t partner[3]; /* the first: along the axes of its tensor */
    int32_t count[3];   /* planes, rows, columns */
    int32_t slices;     /* of a plane */
} natten_cuda_halo_place;

/* Where the copy engine finds a block's halo: a map's number, the same for both
 * tensors; coordinates of the first partner; innermost those of the first head, and how
 * far it is to the next. */
typedef struct natten_cuda_halo_aim {
    int32_t kind, first[3], inner[2], head[2];
} natten_cuda_halo_aim;

/* From where a unit of a tensor of rows begins to where the block's next one does, in
 * bytes; and what comes to that when the inner of batch items and heads begins anew. */
typedef struct natten_cuda_halo_stride {
    int64_t step, carry;
} natten_cuda_halo_stride;

/* What a pass that looks ahead knows of a unit: where its rows begin, and for the copy
 * engine where its partners do. */
typedef struct natten_cuda_halo_unit {
    char *base[3];
    int32_t inner[2], first[3], batch;
    int32_t head; /* of the rows */
} natten_cuda_halo_unit;
/* So many units, the next steps' and the last ones', and so many are found at once. */
enum { NATTEN_CUDA_AHEAD = 32, NATTEN_CUDA_FOUND = 8 };

typedef struct natten_cuda_halo_box {
    natten_cuda_halo_place place;
    int32_t begin, end;  /* the block's units */
    int32_t unit_stride; /* from one to its next */
    natten_cuda_halo_aim aim;
    uint64_t ready[2];      /* barriers: a stage's slices have arrived */
    uint64_t left[2];       /* all warps with rows need them no more */
    uint32_t busy;          /* warps with rows */
    uint32_t pitch_inverse; /* 2^20 / pitch of a slice, rounded up */
    natten_cuda_halo_stride stride[NATTEN_CUDA_ROWS];
    int32_t step; /* of the inner one */
    /* Of each warp: the head of its unit, or if by head the batch item; its number
     * among those with rows; has it a row whose results are not finite?  They are here
     * because registers are scarce. */
    int32_t inner[NATTEN_CUDA_WARPS], rank[NATTEN_CUDA_WARPS];
    uint32_t trouble[NATTEN_CUDA_WARPS];
    /* Where slices begin, of two steps; where rows of a warp's unit do, of two units;
     * or, where a pass looks ahead, what it knows of its units, in turn. */
    union {
        struct {
            char *partner_base[3][NATTEN_CUDA_WARPS][NATTEN_CUDA_PARTNERS];
            char *row_base[2][NATTEN_CUDA_WARPS][NATTEN_CUDA_ROWS];
        };
        natten_cuda_halo_unit ahead[NATTEN_CUDA_AHEAD];
    };
    int32_t sort; /* of the block's kind */
} natten_cuda_halo_box;

typedef struct natten_cuda_halo_row {
    int32_t at[3];                  /* along the tensor's axes */
    int32_t plane_begin, plane_end; /* partners, counted from the halo's first plane */
    int32_t bias;                   /* entry of bias of the box's first partner */
} natten_cuda_halo_row;

/* The same along rows and columns, for sums of bias: entry of the box's first partner,
 * and the partners, counted from there. */
typedef struct natten_cuda_halo_seen {
    int16_t entry[2], begin[2], end[2];
} natten_cuda_halo_seen;

typedef struct natten_cuda_halo_warp {
    /* Of rows, from where their unit begins, in bytes; those of a tensor are next to
     * each other, in different banks. */
    int64_t offset[NATTEN_CUDA_ROWS][NATTEN_CUDA_SUBTILE];
    natten_cuda_halo_row row[NATTEN_CUDA_SUBTILE];
    int32_t plane_begin, plane_end; /* of the box */
    int32_t row_begin, width;       /* of the box: its rows, its columns */
    /* Of the table, a slice each, of which a flat halo has one; there groups come
     * third.
     */
    int32_t first_pair[NATTEN_CUDA_SLICES + 1];
    uint32_t exists; /* bit per row */
} natten_cuda_halo_warp;

/* The passes of the kernels for large windows, and how many widths of rows each has
 * (mma_shapes.def). */
typedef enum natten_cuda_mma_pass {
    NATTEN_CUDA_MMA_FORWARD,
    NATTEN_CUDA_MMA_GRAD_QUERY,
    NATTEN_CUDA_MMA_GRAD_TOKENS,
    NATTEN_CUDA_MMA_GRAD_ALL, /* of tokens, and of queries by adding */
    NATTEN_CUDA_MMA_PASSES,
    /* What is left for queries after it: kernels of GRAD_QUERY, of extra tokens alone.
     */
    NATTEN_CUDA_MMA_GRAD_REST = NATTEN_CUDA_MMA_PASSES
} natten_cuda_mma_pass;
enum { NATTEN_CUDA_MMA_WIDTHS = 6 };

/* How the kernels for large windows cut a task (device/mma_tile.cuh has the words). */
typedef struct natten_cuda_mma {
    int32_t sub[3];    /* tokens of a warp's rows */
    int32_t warps[3];  /* of a tile */
    int32_t box[3];    /* partners of a step, side by side */
    int32_t tiles[3];  /* of a class */
    int32_t positions; /* of tiles, those of all classes */
    int32_t group;     /* heads of queries that share one of keys */
    int32_t stages;    /* boxes that shared memory has room for: 1 or 2 */
    int32_t info_at;   /* after them, in bytes */
    int32_t step[2][3], extra_step[2]; /* from one partner to the next, in bytes */
} natten_cuda_mma;

/* Warps of a block, at most. */
enum { NATTEN_CUDA_MMA_WARPS = 8 };
/* Partners of a step, at most. */
enum { NATTEN_CUDA_MMA_COLUMNS = 64 };

/* What is known of a row, of a warp's rows and of a slot: in shared memory.  Spans are
 * counted from the tile's first partner. */
typedef struct natten_cuda_mma_row {
    int32_t at[3];            /* along the tensor's axes */
    int32_t begin[3], end[3]; /* partners */
} natten_cuda_mma_row;

/* 16 bytes at a time. */
typedef struct __attribute__((aligned(16))) natten_cuda_mma_warp {
    int32_t begin[3], exists; /* partners that some row sees; bit per row */
    int32_t end[3], trouble;  /* where they end; bit per row that is done again */
    int32_t from[4], to[4];   /* those that every row sees */
} natten_cuda_mma_warp;

typedef struct natten_cuda_mma_slot {
    int32_t offset[2]; /* from the box's first partner, in bytes, of both tensors */
    uint32_t at;       /* in the box, 8 bits an axis; 0x7f7f7f: no partner */
    int32_t number;    /* of queries: how many heads of queries after the first */
} natten_cuda_mma_slot;

/* Boxes side by side along the last axis, or extra tokens, as a warp sees them; places
 * are counted along them.  16 bytes at a time. */
typedef struct __attribute__((aligned(16))) natten_cuda_mma_run {
    int32_t begin, end, from, to; /* places that some row sees; that every row sees */
    const char *origin[2];        /* of the partners: the first place */
    int32_t step[2];              /* from one to the next, in bytes */
    int32_t count, width;         /* of all places; of a box */
    int32_t at[2], head;  /* on the other axes; of the group, -1: extra tokens */
    uint32_t limit;       /* slots that exist on the other axes, a byte each */
    const char *stats[2]; /* lse and delta of the first place */
} natten_cuda_mma_run;

typedef struct natten_cuda_mma_info {
    natten_cuda_mma_slot slot[NATTEN_CUDA_MMA_COLUMNS];
    union {
        natten_cuda_mma_slot
            extra[NATTEN_CUDA_MMA_COLUMNS]; /* where rows are queries */
        /* Where they are keys: lse and delta of slots, by stage. */
        float stats[2][2 * NATTEN_CUDA_MMA_COLUMNS];
    };
    /* For each axis and each end from 0 to the box's: the slots below it. */
    uint64_t below[NATTEN_CUDA_MMA_COLUMNS + 8];
    natten_cuda_mma_warp warp[NATTEN_CUDA_MMA_WARPS];
    uint8_t needed[2][NATTEN_CUDA_MMA_WARPS]; /* boxes, by turns: groups that took it */
    natten_cuda_mma_run run[NATTEN_CUDA_MMA_WARPS];
    const char *base[2], *extra_base[2]; /* the tile's first partner; extra token */
    int64_t head_step[2];                /* from one head of the group to the next */
    /* The same of lse and delta, where partners are queries. */
    const char *stats_base[2];
    int64_t stats_step[2][3], stats_head[2];
    int32_t axis[3][14];       /* HaloAxis of halo_tile.cuh */
    int32_t batch, head;       /* the rows' */
    int32_t count[3];          /* partners of the tile */
    int32_t full;              /* every slot of a box is a partner */
    natten_cuda_mma_row row[]; /* of the tile */
} natten_cuda_mma_info;

/* Tensors of sweep.cu that are not copied to shared memory: gradients, OUT, lse and
 * delta. */
enum { NATTEN_CUDA_SWEEP_TENSORS = 6 };

/* How the pass that has all gradients of a small window cuts a task (sweep_backward.cuh
 * has the words).  A block takes runs blockIdx, blockIdx + gridDim, ... of items. */
typedef struct natten_cuda_sweep {
    int32_t columns, rows;  /* subtiles across and down a class */
    int32_t length[2];      /* its rows and columns, of tokens */
    int32_t narrow[2];      /* subtiles of 3 tokens along them, from the second on */
    int32_t units, warps;   /* a block's heads, or classes of a head; their columns */
    int32_t each, segments; /* rows of an item, and items down a class */
    int32_t items;          /* with a bias counted as if all runs were full */
    /* With a bias: classes and batch items of a head, by units, and items of all these;
     * how many items a run has, the last of a head maybe fewer, and runs of a head. */
    int32_t groups, of_head, run, runs;
    /* 2^32 / both dilations, segments, heads (with a bias runs), run, rounded down. */
    uint32_t inverse[5];
    int32_t tables_at; /* from what is known of a block to its entries of bias */
    float scale;
    float scale_2; /* its absolute value, of logits to base 2 */
    /* From one row or column of a class to the next, in bytes, of the tensors that are
     * not copied to shared memory. */
    int32_t step[NATTEN_CUDA_SWEEP_TENSORS][2];
} natten_cuda_sweep;

/* Where a subtile of a class begins, down (0) or across (1).  Subtiles have 4 places,
 * but where the last would be too short for all that its queries see to be next door
 * some have one token less. */
NATTEN_INLINE int32_t natten_sweep_start(const natten_cuda_sweep *s, int across,
                                         int32_t subtile)
{
    return 4 * subtile - natten_clamp(subtile - 1, 0, s->narrow[across]);
}

/* Is there a token at this place of it? */
NATTEN_INLINE bool natten_sweep_has(const natten_cuda_sweep *s, int across,
                                    int32_t subtile, int32_t place)
{
    bool narrow = subtile >= 1 && subtile <= s->narrow[across];
    return place < (narrow ? 3 : 4) &&
           natten_sweep_start(s, across, subtile) + place < s->length[across];
}

/* Warps of a block with columns, at most: as many as have registers enough; bytes of
 * each. */
enum { NATTEN_CUDA_SWEEP_WARPS = 14, NATTEN_CUDA_SWEEP_BYTES = 15 * 1024 };

/* Entries of a bias as a block keeps them, by how far a query lies beyond its key: 7
 * tokens at most, down and across.  Each twice, the second time 4 bytes further, so
 * that any two next to each other can be read at once; and all for two heads in turn.
 * Rows and tables are so long that lanes read different banks. */
enum {
    NATTEN_CUDA_SWEEP_FAR = 7,
    NATTEN_CUDA_SWEEP_ROW = 20,
    NATTEN_CUDA_SWEEP_TABLE = 326,
    NATTEN_CUDA_SWEEP_TABLES = 4 * NATTEN_CUDA_SWEEP_TABLE * 4, /* bytes */
    /* dS of 9 pairs of subtiles, when a run is over, of three quarters of their pairs
     * of tokens: those of the last have the same entries as the first's. */
    NATTEN_CUDA_SWEEP_SUMS = 9 * 3 * 8 * 8 * 4
};

/* Rows of a class of one batch item and head. */
typedef struct natten_cuda_sweep_item {
    int32_t batch, head, row, column; /* and residues */
    int32_t own_from, own_to;         /* rows of subtiles that are its own */
    int32_t number, run;              /* and the block's so-and-so-many-th run */
    /* Where the warp's column of the class's first row begins. */
    char *base[NATTEN_CUDA_SWEEP_TENSORS];
} natten_cuda_sweep_item;

/* What is known of a warp: barriers, and two items in turn.  Its part of shared memory
 * is 64 times as large. */
typedef struct natten_cuda_sweep_warp {
    uint64_t full[2];   /* rows have arrived */
    uint64_t ready[3];  /* a stage is done */
    uint64_t summed[3]; /* and its dS added up */
    int32_t start;      /* of its column, across a class */
    int16_t count;      /* of its tokens */
    int16_t meets_at;   /* number of the barrier of its unit's warps */
    uint32_t trouble;   /* not 0: some result is not finite */
    uint32_t box;       /* address of what is known of the block */
    natten_cuda_sweep_item item[2];
} natten_cuda_sweep_warp;

/* The same of a block, after its warps' parts of shared memory.  The warp after
 * those of units has the bias. */
typedef struct natten_cuda_sweep_box {
    natten_cuda_sweep_warp warp[NATTEN_CUDA_SWEEP_WARPS + 1];
    uint64_t tables[2]; /* barriers: a head's entries of bias are there */
    /* Not 0: sums of a bias are not all finite; 1 more than the first item of the last
     * run that they are of. */
    int32_t unsound, wanted;
    /* Bit i: query i, from the first of the subtile before, does not see the key. */
    uint16_t columns[NATTEN_CUDA_SWEEP_WARPS * 4], rows[];
} natten_cuda_sweep_box;

/* The passes of the kernels of warpgroups (wgmma_shapes.def). */
typedef enum natten_cuda_wgmma_pass {
    NATTEN_CUDA_WGMMA_FORWARD,
    NATTEN_CUDA_WGMMA_GRAD_QUERY,
    NATTEN_CUDA_WGMMA_GRAD_TOKENS,
    NATTEN_CUDA_WGMMA_PASSES
} natten_cuda_wgmma_pass;

/* How the kernels of warpgroups cut a task (device/wgmma_tile.cuh has the words). */
typedef struct natten_cuda_wgmma {
    int32_t tile[3];   /* rows of an item along the axes */
    int32_t box[3];    /* partners of a step, side by side */
    int32_t tiles[3];  /* of the longest class */
    int32_t positions; /* of tiles, those of all classes */
    int32_t items;     /* positions, for all heads of rows and batch items */
    int32_t group;     /* heads of queries that share one of keys */
    /* Columns of masks: an axis has one for each place of a box along it, if there are
     * several, from the first on; -1: none.  One more is for places that a product has
     * and a box has not; -1: there are none. */
    int32_t first_hot[3], hot_always;
    int32_t hot_steps; /* of 16 of them, 1 .. NATTEN_CUDA_WGMMA_HOT_STEPS */
} natten_cuda_wgmma;

/* How the kernels that go down bands of a grid cut a task (device/band_tile.cuh has the
 * words).  A block takes items blockIdx, blockIdx + gridDim, ... of those that are
 * whole, and of the steps of all others its share (natten_cuda_band_cut()). */
typedef struct natten_cuda_band {
    int32_t bands, steps; /* of the longest class */
    int32_t whole;        /* items that are not cut */
    int32_t border;       /* what a step of a class's first and last band weighs, where
                             others weigh NATTEN_CUDA_BAND_WEIGHT */
    /* A group's first row, counted from the first partner of its class in the part,
     * plus this is a multiple of 4. */
    int32_t lead;
    int32_t items;
    int32_t group; /* heads of queries that share one of keys */
    /* From one row or column of a class to the next, in bytes, of what the pass writes;
     * of the pass of queries the second are their statistics. */
    int32_t step[2][2];
    float scale, scale_2; /* of logits, to base e and to base 2 */
} natten_cuda_band;

/* A piece is, for one batch item, head and slice, a box of tokens; a block takes pieces
 * blockIdx, blockIdx + gridDim, ... and each of its warps tokens of the box in turn. */
typedef struct natten_cuda_job {
    natten_task task;
    int64_t pieces;
    int32_t tile[3];       /* tokens of a box on each axis, counted class by class */
    int32_t lanes;         /* that share a row: 4, 8, 16 or 32 of a warp */
    int32_t slices;        /* of a row */
    uint32_t vector;       /* bit per role: rows can be read 16 bytes at a time */
    int64_t window_slots;  /* product of the windows */
    int64_t entries;       /* of bias, of one head */
    int32_t strip_entries; /* of them that a block sums at once, in shared memory */
    int32_t chunks;        /* runs of queries with a partial sum each */
    void *delta;           /* accumulator [batch, axes..., heads]: <grad_out, out> less
                              grad_lse */
    void *partial;         /* accumulator [chunks, heads, entries], or
                              [chunks, batch, extras, heads_kv, dim + dim_v] */
    natten_cuda_halo halo;
    float *stats; /* for halo.cu, wgmma.cu and band.cu, [batch, axes..., heads, 2]: lse
                     to base 2 and minus delta; NULL: nobody wants them */
    natten_cuda_mma mma;
    union {
        natten_cuda_map map[4][NATTEN_CUDA_KINDS];
        struct { /* of halo.cu the first two */
            natten_cuda_map of_halo[2][NATTEN_CUDA_KINDS];
            natten_cuda_halo_share share; /* if halo.by_kinds */
        };
    };
    union {
        natten_cuda_sweep sweep;
        natten_cuda_wgmma wgmma; /* and of halo short_kind and by_maps */
        natten_cuda_band band;   /* and the same */
    };
    float *sums; /* of gradients of queries, [batch, axes..., heads, width of rows],
                    each 16 in the order of device/mma_added.cuh; NULL: nobody adds */
    int32_t sums_step[3]; /* from one query of a class to the next, in rows of them */
} natten_cuda_job;

/* Most partials of a merge in one launch. */
enum { NATTEN_CUDA_MERGE = 14 };

typedef struct natten_cuda_merge_job {
    int32_t extent[3];
    int32_t count; /* partials here */
    int64_t batch, heads, dim_v;
    natten_view out, lse, grad_out, grad_lse;
    natten_view outputs[NATTEN_CUDA_MERGE], lses[NATTEN_CUDA_MERGE];
    natten_view grad_outputs[NATTEN_CUDA_MERGE], grad_lses[NATTEN_CUDA_MERGE];
} natten_cuda_merge_job;

#ifndef __cplusplus
_Static_assert(sizeof(natten_cuda_job) <= 4096, "parameters of a kernel");
_Static_assert(sizeof(natten_cuda_merge_job) <= 4096, "parameters of a kernel");
_Static_assert(NATTEN_CUDA_SWEEP_BYTES == 64 * sizeof(natten_cuda_sweep_warp),
               "how neighbours are found");
#endif

#endif
