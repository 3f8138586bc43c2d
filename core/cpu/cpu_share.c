/* SPDX-License-Identifier: MIT
 *
 * The items of GRAD_ALL in their order, who waits for whom, the zeros that those of
 * parts begin with, and the rounding at their end. */
#include "cpu/cpu_share.h"

#include "base/parallel.h"

#include <string.h>

enum { KEYS_IN_PIECE = 256 };

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
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

bool natten_cpu_share_meets(const natten_cpu_pass *p)
{
    return p->share > 1 || p->tiles[0] > 1 || p->tiles[1] > 1 || p->tiles[2] > 1;
}

int64_t natten_cpu_share_items(const natten_cpu_pass *p, const natten_cpu_share *share)
{
    int64_t items = share->units * p->share;
    for (int a = 0; a < 3; a++)
        items *= (int64_t)p->classes[a] * p->tiles[a];
    return items;
}

/* ---- the order of items ---------------------------------------------------------- */

/* The tile whose turn it is along an axis: the last comes first along axis 0, and the
 * even ones along the others. */
static int tile_at(const natten_cpu_pass *p, int a, int turn)
{
    int even = (p->tiles[a] + 1) / 2;
    if (a == 0)
        return p->tiles[0] - 1 - turn;
    return turn < even ? 2 * turn : 2 * (turn - even) + 1;
}

/* Does tile u of axes 1 and 2 come before t? */
static bool comes_before(const int u[3], const int t[3])
{
    for (int a = 1; a < 3; a++)
        if (u[a] != t[a])
            return u[a] % 2 != t[a] % 2 ? u[a] % 2 == 0 : u[a] < t[a];
    return false;
}

static int64_t take_digit(int64_t *index, int64_t radix)
{
    int64_t digit = *index % radix;
    *index /= radix;
    return digit;
}

/* Batch item, tile of axis 0, query head of the group, tiles of axes 1 and 2, classes,
 * head of keys, the last of which changes fastest. Combinations count tiles first, then
 * classes, axis by axis from the last. */
natten_cpu_item natten_cpu_share_item(const natten_cpu_pass *p,
                                      const natten_cpu_share *share, int64_t index)
{
    int64_t groups = groups_of(p), residue[3], tile[3];
    int64_t unit = take_digit(&index, least(share->units, groups));
    for (int a = 2; a >= 0; a--)
        residue[a] = take_digit(&index, p->classes[a]);
    for (int a = 2; a > 0; a--)
        tile[a] = tile_at(p, a, (int)take_digit(&index, p->tiles[a]));
    int64_t head = take_digit(&index, p->share);
    tile[0] = tile_at(p, 0, (int)take_digit(&index, p->tiles[0]));
    unit += index * groups;
    natten_cpu_item item = {.combo = (share->first + unit) / groups};
    for (int a = 0; a < 3; a++)
        item.combo = (item.combo * p->classes[a] + residue[a]) * p->tiles[a] + tile[a];
    item.head = (share->first + unit) % groups * p->share + head;
    item.unit_bytes = unit * p->unit_elements * (int64_t)sizeof(float);
    return item;
}

natten_cpu_heads natten_cpu_share_heads(const natten_cpu_pass *p,
                                        const natten_cpu_share *share)
{
    int64_t groups = groups_of(p);
    natten_cpu_heads h = {.first = share->first % groups * p->share,
                          .count = least(share->units, groups) * p->share};
    h.items = natten_cpu_share_items(p, share) / h.count;
    return h;
}

int64_t natten_cpu_share_slice(const natten_cpu_pass *p, const natten_cpu_share *share,
                               const natten_cpu_item *item)
{
    natten_cpu_heads h = natten_cpu_share_heads(p, share);
    int64_t first = share->first / groups_of(p) * (p->combos / p->task->batch);
    return (item->head - h.first) * h.items + item->combo - first;
}

static atomic_int *progress_of(const natten_cpu_pass *p, int64_t head, int64_t combo)
{
    return &p->progress[combo * p->heads + head];
}

/* An exchange, where a store would do: base/parallel.c. */
void natten_cpu_share_report(const natten_cpu_pass *p, const natten_cpu_place *at,
                             int plane)
{
    atomic_exchange(progress_of(p, at->head, at->combo), plane);
}

/* An item waits for the last query head of each tile that comes before it: that one has
 * waited for the others. */
bool natten_cpu_share_await(const natten_cpu_pass *p, const natten_cpu_place *at,
                            int plane)
{
    int64_t mine = at->head % p->share, step[3] = {0, 0, 1};
    for (int a = 1; a >= 0; a--)
        step[a] = step[a + 1] * p->tiles[a + 1] * p->classes[a + 1];
    int u[3];
    for (u[0] = at->tile[0]; u[0] < at->rivals[0].end; u[0]++)
        for (u[1] = at->rivals[1].begin; u[1] < at->rivals[1].end; u[1]++)
            for (u[2] = at->rivals[2].begin; u[2] < at->rivals[2].end; u[2]++) {
                int64_t combo = at->combo, head = p->share - 1;
                for (int a = 0; a < 3; a++)
                    combo += (u[a] - at->tile[a]) * step[a];
                if (u[0] == at->tile[0])
                    head = comes_before(u, at->tile) ? mine : mine - 1;
                if (head >= 0 &&
                    !natten_parallel_await(
                        progress_of(p, at->head - mine + head, combo), plane + 1))
                    return false;
            }
    return true;
}

/* ---- keys, piece by piece -------------------------------------------------------- */

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
