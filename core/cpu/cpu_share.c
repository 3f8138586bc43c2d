/* SPDX-License-Identifier: MIT
 *
 * The runs of GRAD_ALL, in a fixed order, the zeros that those of parts begin with, and
 * the rounding at their end. */
#include "cpu/cpu_share.h"

#include <string.h>

enum { KEYS_IN_PIECE = 256 };

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

bool natten_cpu_share_apart(const natten_cpu_pass *p, int a, int64_t tile)
{
    const natten_axis *x = &p->axis[a];
    int64_t half = x->window / 2 + x->stride, both = x->window + x->stride;
    /* Two tiles have none between them. */
    if (2 * tile * x->dilation >= x->query_count || tile >= both + half)
        return true;
    /* A whole grid tells where the last tile of a class begins; of a shorter class one
     * earlier, for which `both` has room. */
    int64_t rest = ((int64_t)x->length + x->dilation - 1) / x->dilation % tile;
    return x->query_count == x->length && tile >= both && (rest == 0 || rest >= half);
}

/* Tiles of one parity along an axis. */
static int64_t tiles_along(const natten_cpu_pass *p, const natten_cpu_share *share,
                           int a)
{
    return (p->tiles[a] + 1 - share->parity[a]) / 2;
}

static int64_t groups_of(const natten_cpu_pass *p)
{
    return p->heads / p->share;
}

void natten_cpu_share_take(const natten_cpu_pass *p, natten_cpu_share *share,
                           int64_t first, int64_t most)
{
    int64_t groups = groups_of(p), left = p->task->batch * groups - first;
    *share = (natten_cpu_share){.first = first};
    if (most < groups) /* of one batch item */
        share->units = least(most, groups - first % groups);
    else
        share->units = least(most / groups * groups, left);
}

int64_t natten_cpu_share_items(const natten_cpu_pass *p, const natten_cpu_share *share)
{
    int64_t items = share->units;
    for (int a = 0; a < 3; a++)
        items *= p->classes[a] * tiles_along(p, share, a);
    return items;
}

/* Combinations count tiles first, then classes, axis by axis from the last. The heads
 * of a tile follow one another. */
natten_cpu_item natten_cpu_share_item(const natten_cpu_pass *p,
                                      const natten_cpu_share *share, int64_t index)
{
    int64_t groups = groups_of(p), heads = least(share->units, groups), stride = 1;
    int64_t unit = index % heads;
    natten_cpu_item item = {0};
    index /= heads;
    for (int a = 2; a >= 0; a--) {
        int64_t tiles = tiles_along(p, share, a);
        int64_t tile = 2 * (index % tiles) + share->parity[a];
        index /= tiles;
        item.combo += (tile + index % p->classes[a] * p->tiles[a]) * stride;
        index /= p->classes[a];
        stride *= (int64_t)p->tiles[a] * p->classes[a];
    }
    unit += index * groups;
    item.head = (share->first + unit) % groups * p->share + share->head;
    item.combo += (share->first + unit) / groups * stride;
    item.unit_bytes = unit * p->unit_elements * (int64_t)sizeof(float);
    return item;
}

bool natten_cpu_share_next(const natten_cpu_pass *p, natten_cpu_share *share)
{
    for (int a = 2; a >= 0; a--) {
        share->parity[a] = p->tiles[a] > 1 && !share->parity[a];
        if (share->parity[a])
            return true;
    }
    return ++share->head < p->share;
}

static void clear_row(char *row, const natten_view *v, int64_t dim, int64_t bytes)
{
    if (v->item == 1) {
        memset(row, 0, (size_t)(dim * bytes));
        return;
    }
    for (int64_t d = 0; d < dim; d++)
        memset(row + d * v->item * bytes, 0, (size_t)bytes);
}

static int64_t keys_of(const natten_cpu_pass *p)
{
    return (int64_t)p->axis[0].key_count * p->axis[1].key_count * p->axis[2].key_count;
}

static int64_t pieces_of(int64_t keys)
{
    return (keys + KEYS_IN_PIECE - 1) / KEYS_IN_PIECE;
}

/* Sums in the workspace are cleared unit by unit, tensors with all heads of a key. */
int64_t natten_cpu_share_pieces(const natten_cpu_pass *p, const natten_cpu_share *share)
{
    return p->unit_elements > 0 ? pieces_of(keys_of(p)) * share->units
                                : pieces_of(keys_of(p) * p->task->batch);
}

/* Token `key` of batch items times keys. */
static int64_t key_at(const natten_cpu_pass *p, const natten_view *v, int64_t key)
{
    int64_t at = 0;
    for (int a = 2; a >= 0; a--) {
        at += key % p->axis[a].key_count * v->axis[a];
        key /= p->axis[a].key_count;
    }
    return at + key * v->batch;
}

/* Keys of a unit; and their sums, which follow one another. */
typedef struct range {
    int64_t unit, begin, end;
} range;

static range range_of(const natten_cpu_pass *p, int64_t piece)
{
    int64_t keys = keys_of(p), pieces = pieces_of(keys);
    range r = {.unit = piece / pieces, .begin = piece % pieces * KEYS_IN_PIECE};
    r.end = least(keys, r.begin + KEYS_IN_PIECE);
    return r;
}

static float *sums_at(const natten_cpu_pass *p, int i, int64_t unit, int64_t key)
{
    return (float *)p->shared[i].data + unit * p->unit_elements +
           key * p->shared[i].axis[2];
}

void natten_cpu_share_clear(const natten_cpu_pass *p, int64_t piece, int64_t bytes)
{
    range r = {.begin = piece * KEYS_IN_PIECE};
    r.end = least(keys_of(p) * p->task->batch, r.begin + KEYS_IN_PIECE);
    if (p->unit_elements > 0)
        r = range_of(p, piece);
    for (int i = 0; i < 2; i++) {
        const natten_view *v = &p->shared[i];
        if (!v->data)
            continue;
        if (p->unit_elements > 0)
            memset(sums_at(p, i, r.unit, r.begin), 0,
                   (size_t)((r.end - r.begin) * v->axis[2] * bytes));
        for (int64_t key = r.begin; key < r.end && p->unit_elements == 0; key++) {
            int64_t at = key_at(p, v, key);
            for (int64_t h = 0; h < p->task->heads_kv; h++)
                clear_row((char *)v->data + (at + h * v->head) * bytes, v,
                          p->other[i].dim, bytes);
        }
    }
}

void natten_cpu_share_round(const natten_cpu_pass *p, const natten_cpu_share *share,
                            int64_t piece, const natten_cpu_kernels *kernels)
{
    range r = range_of(p, piece);
    int64_t unit = share->first + r.unit, groups = groups_of(p);
    int64_t bytes = (int64_t)natten_dtype_bytes(p->task->dtype);
    int64_t row = p->axis[2].key_count, n;
    for (int i = 0; i < 2; i++) {
        const natten_view *v = &p->narrow[i];
        for (int64_t key = r.begin; key < r.end && v->data; key += n) {
            int64_t at = key_at(p, v, unit / groups * keys_of(p) + key);
            n = least(kernels->lanes, least(r.end, key + row - key % row) - key);
            natten_cpu_tokens t = {.step = v->axis[2] * bytes,
                                   .item = v->item,
                                   .dim = p->other[i].dim,
                                   .dtype = p->task->dtype,
                                   .n = (int)n};
            kernels->unpack(&t,
                            (char *)v->data + (at + unit % groups * v->head) * bytes,
                            sums_at(p, i, r.unit, key));
        }
    }
}
