/* SPDX-License-Identifier: MIT
 *
 * What cpu.c and the variants tell each other.  An operation is one or more passes over
 * the same walk; a pass says who owns the lanes, who the partners are, what is
 * multiplied and how the work is cut.  It is plain data, made anew from the task for
 * every call.
 *
 *     pass        owners  partners  panels (owners)   strips (partners)  results
 *     FORWARD     query   key       q                 k, v               out
 *     GRAD_QUERY  query   key       q|-lse, g|-delta  k|1, v|1           grad q
 *     GRAD_KEY    key     query     k|1, v|1          q|-lse, g|-delta   grad k, grad v
 *     GRAD_EXTRA  extra   query     k|1, v|1          q|-lse, g|-delta   extras' grads
 *     GRAD_ALL    query   key       q|-lse, g|-delta  k|1, v|1           grad q, k, v
 *
 * "|e" is one more row of the head dim, so that a product of panel and strip is a logit
 * minus lse, or dP minus delta.  Axes are in walking order: owners are grouped along
 * axis 0, lie side by side in lanes along axis 2. */
#ifndef NATTEN_CPU_PASS_H
#define NATTEN_CPU_PASS_H

#include "machine/machine.h"
#include "problem/merge.h"
#include "problem/task.h"

#include <stdatomic.h>

enum {
    NATTEN_CPU_SLOTS = 256,    /* scores that an owner vector holds at a time */
    NATTEN_CPU_SEGMENTS = 512, /* pieces of partner rows that a group lists at a time */
    NATTEN_CPU_SEGMENT_BYTES = 64,
    NATTEN_CPU_GIVEN = 6,   /* most partners that owners give to at a time */
    NATTEN_CPU_PATTERNS = 4 /* of runs whose lanes sum grad_bias by themselves */
};

typedef enum natten_cpu_kind {
    NATTEN_CPU_FORWARD,
    NATTEN_CPU_GRAD_QUERY,
    NATTEN_CPU_GRAD_KEY,
    NATTEN_CPU_GRAD_EXTRA,
    NATTEN_CPU_GRAD_ALL
} natten_cpu_kind;

/* A tensor that becomes panels or strips. */
typedef struct natten_cpu_operand {
    natten_view view; /* axes in walking order */
    int64_t dim;
    double factor;   /* multiplied in while packing */
    bool has_row;    /* one more row: minus the scalar of the token, or 1 */
    natten_view row; /* data NULL: 1 */
    /* How a strip holds it: as columns [head dim][x] for logits, with the row at the
     * end, and as rows [x][head dim] for values. */
    bool as_columns, as_rows;
    bool has_sums; /* a strip sums the gradient of its tokens, as rows */
} natten_cpu_operand;

/* Where the two operands of partners lie in a strip, in elements. */
typedef struct natten_cpu_strip {
    int64_t pitch; /* of columns: from one row of the head dim to the next */
    int64_t columns[2], rows[2], sums[2], elements;
} natten_cpu_strip;

/* The partners' strips that a thread keeps: a cache with direct mapping. The strip of
 * partner row (z, y) and head f lies in slot (z % depth, y % high, f % fan). */
typedef struct natten_cpu_strips {
    int32_t depth, high, fan;
    int64_t width; /* most partners of a strip */
    natten_cpu_strip strip;
} natten_cpu_strips;

/* Where things lie in a thread's scratch, in bytes. */
typedef struct natten_cpu_layout {
    size_t strips, tags, extra_strips, panels, own_rows, scores, sums, runs, segments;
    size_t given, given_bytes;
    size_t bias_sums, bias_bytes; /* of a pattern of runs: cpu_bias.h */
    size_t bytes;
} natten_cpu_layout;

/* Where the online softmax of a row breaks: facts of the window, D and the variant
 * alone, in coordinates of the whole grid, so that a row has the same bits in every
 * tile and part. */
typedef struct natten_cpu_chunk {
    int32_t planes; /* a break where z is a multiple of this; 0: none */
    int32_t
        rows; /* a break after so many rows of a plane, and after each plane; 0: none */
    int32_t piece; /* a break after so many partners of a row; 0: none */
} natten_cpu_chunk;

typedef struct natten_cpu_pass {
    const natten_task *task;
    natten_cpu_kind kind;
    int order[3]; /* the task's axes in walking order */
    natten_axis axis[3];
    bool owner_is_key;
    bool wants[2]; /* which of the results */
    bool far;      /* tokens come from memory, not from the last level of the cache, or
                      are taken to: they are asked for, and results go past it */
    bool only_delta; /* GRAD_QUERY that computes delta for the other passes, no more */
    int64_t heads;   /* of owners */
    int64_t share;   /* owner heads that read one partner head (GRAD_KEY: 1) */
    int64_t fan;     /* partner heads that an owner head reads (GRAD_KEY: H / Hkv) */
    natten_cpu_operand own[2], other[2], extra[2];
    natten_view out, lse, grad_lse, delta; /* delta: [b, z, y, x, h] in the workspace */
    natten_view result[2];
    double result_factor[2];
    /* GRAD_ALL: the partners' gradients, which items add to, and how far each has come
     * (cpu_share.h); NULL: no two give to the same partner. */
    natten_view shared[2];
    double shared_factor[2];
    atomic_int *progress;
    bool stores; /* every partner is seen, so the first to give to it stores; else all
                    is cleared first */
    /* Of a type too narrow to add to: the sums are in the workspace, compact and in the
     * accumulator's type, fp32, [unit, key gradients | value gradients, z, y, x, head
     * dim in whole vectors], a unit being a batch item and head of keys; and are
     * rounded here when all have been added. */
    natten_view narrow[2];
    int64_t unit_elements; /* 0: of a type that is added to itself */
    bool at_once; /* one item gives all that a partner gets, in one go: it is rounded
                     without going through the workspace */
    natten_view bias;

    /* What caches hold: of strips, the second level; of tokens, the last. */
    int64_t near_bytes, far_bytes;
    int32_t few_items; /* of a call: with fewer, processors are idle */
    bool fits;         /* GRAD_ALL: there is a tile with room for its sums */
    int32_t owners;    /* most owner vectors of a group */
    int32_t tile[3], tiles[3], classes[3];
    int64_t combos; /* batch, classes and tiles: items of one head */
    natten_cpu_chunk chunk;
    natten_cpu_strips strips;
    int64_t extra_chunk; /* extra tokens packed at a time; 0: none */
    natten_cpu_strip extra_strip;
    natten_cpu_layout layout;

    /* Sums that many items add to, the gradients of the bias and of the extra tokens:
     * each is kept in `slices` partial sums, each with its fixed share of the items in
     * fixed order, merged in order at the end. */
    int64_t slices, slice_elements;
    bool wants_sums;  /* of grad_bias; of GRAD_ALL a slice for each item of a run: */
    natten_view sums; /* batch is from slice to slice */
    int32_t patterns; /* of runs that the scratch has sums for */
    int64_t extra_tokens; /* GRAD_EXTRA: extra tokens at a time, a multiple of LANES */
} natten_cpu_pass;

/* What an item is asked: `combo` counts batch, classes and tiles (GRAD_EXTRA: batch and
 * pieces of query rows). */
typedef struct natten_cpu_item {
    int64_t head, combo;
    void *sums;          /* the slice to add to, NULL: none */
    int64_t unit_bytes;  /* GRAD_ALL: to its unit of the sums in the workspace */
    int64_t extra_begin; /* GRAD_EXTRA: the first of pass->extra_tokens */
    const struct natten_cpu_item *next; /* likely the thread's next, NULL: unknown */
} natten_cpu_item;

/* The steps of the unfused operations, by what has one row of a result each. */
typedef enum natten_cpu_step {
    NATTEN_CPU_STEP_QUERY,
    NATTEN_CPU_STEP_KEY,
    NATTEN_CPU_STEP_EXTRA,
    NATTEN_CPU_STEP_BIAS,
    NATTEN_CPU_STEPS
} natten_cpu_step;

/* What pack and unpack see of a tensor: n tokens `step` bytes apart, of `dim` elements
 * that are `item` elements apart. */
typedef struct natten_cpu_tokens {
    const char *data;
    int64_t step, item, dim;
    natten_dtype dtype;
    int n;
} natten_cpu_tokens;

/* Single words and functions of a variant, so that tests reach them: arrays of `lanes`
 * reals unless said otherwise. */
typedef struct natten_cpu_probes {
    void (*exp)(const void *x, void *y);
    void (*log)(const void *x, void *y);
    void (*sum)(const void *x, void *y); /* to one real */
    void (*pick)(const void *x, const int *lane, void *y);
    void (*keep_more)(const void *x, const void *y, const void *a, void *z);
    void (*if_more)(const void *x, const void *y, const void *a, const void *b,
                    void *z);
    void (*pack)(void *columns, int64_t pitch, void *rows,
                 const natten_cpu_tokens *tokens, double factor);
} natten_cpu_probes;

/* A variant's kernels for one element type. */
typedef struct natten_cpu_kernels {
    int lanes, owners;
    size_t real_bytes, run_bytes;
    const natten_cpu_probes *probes;
    void (*walk)(const natten_cpu_pass *pass, const natten_cpu_item *item,
                 void *scratch);
    void (*extra)(const natten_cpu_pass *pass, const natten_cpu_item *item,
                  void *scratch);
    /* The unfused pair: rows [begin, end) of what the operation's step computes;
     * scratch of three head dims and a line of the bias (2 window - 1). */
    void (*unfused)(const natten_task *task, natten_cpu_step step, int64_t begin,
                    int64_t end, void *scratch);
    /* At most `lanes` rows [head dim in whole vectors] become tokens. */
    void (*unpack)(const natten_cpu_tokens *tokens, void *to, const void *rows);
    /* natten_merge() or its gradient: rows [begin, end) of [b, z, y, x, h]. */
    void (*merge)(const natten_merge_task *task, int64_t begin, int64_t end);
} natten_cpu_kernels;

/* The kernels of a variant, NULL if this build lacks them. */
const natten_cpu_kernels *natten_cpu_pass_kernels(natten_variant variant,
                                                  natten_dtype accumulator);

/* Make a pass and cut it. */
void natten_cpu_pass_make(natten_cpu_pass *pass, const natten_task *task,
                          natten_cpu_kind kind, const natten_cpu_kernels *kernels,
                          const natten_machine *machine);

/* What it needs to run: the task where it now is, and where the workspace keeps delta
 * and the sums of narrow gradients. */
void natten_cpu_pass_place(natten_cpu_pass *pass, const natten_task *task, void *delta,
                           void *shared);

/* Elements from one row [head dim] to the next: whole vectors. */
static inline int64_t natten_cpu_padded(int64_t dim, int lanes)
{
    return (dim + lanes - 1) / lanes * lanes;
}

static inline int64_t natten_cpu_rows(const natten_cpu_operand *o)
{
    return o->dim + (o->has_row ? 1 : 0);
}

#endif
