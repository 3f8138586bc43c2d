/* SPDX-License-Identifier: MIT
 *
 * The runs of GRAD_ALL, in a fixed order, and the zeros that they begin with. */
#include "cpu/cpu_share.h"

#include <string.h>

enum { KEYS_IN_PIECE = 256 };

/* Tiles of one parity along an axis. */
static int64_t tiles_along(const natten_cpu_pass *p, const natten_cpu_share *share,
                           int a)
{
    return (p->tiles[a] + 1 - share->parity[a]) / 2;
}

int64_t natten_cpu_share_items(const natten_cpu_pass *p, const natten_cpu_share *share)
{
    int64_t items = p->task->batch * (p->heads / p->share);
    for (int a = 0; a < 3; a++)
        items *= p->classes[a] * tiles_along(p, share, a);
    return items;
}

/* Combinations count tiles first, then classes, axis by axis from the last. */
natten_cpu_item natten_cpu_share_item(const natten_cpu_pass *p,
                                      const natten_cpu_share *share, int64_t index)
{
    int64_t groups = p->heads / p->share, unit = 1;
    natten_cpu_item item = {.head = index % groups * p->share + share->head};
    index /= groups;
    for (int a = 2; a >= 0; a--) {
        int64_t tiles = tiles_along(p, share, a);
        int64_t tile = 2 * (index % tiles) + share->parity[a];
        index /= tiles;
        item.combo += (tile + index % p->classes[a] * p->tiles[a]) * unit;
        index /= p->classes[a];
        unit *= (int64_t)p->tiles[a] * p->classes[a];
    }
    item.combo += index * unit;
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
    return p->task->batch * p->axis[0].key_count * p->axis[1].key_count *
           p->axis[2].key_count;
}

int64_t natten_cpu_share_pieces(const natten_cpu_pass *p)
{
    return (keys_of(p) + KEYS_IN_PIECE - 1) / KEYS_IN_PIECE;
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

void natten_cpu_share_clear(const natten_cpu_pass *p, int64_t piece, int64_t bytes)
{
    int64_t begin = piece * KEYS_IN_PIECE, end = begin + KEYS_IN_PIECE;
    if (end > keys_of(p))
        end = keys_of(p);
    for (int i = 0; i < 2; i++) {
        const natten_view *v = &p->shared[i];
        for (int64_t key = begin; key < end && v->data; key++) {
            int64_t at = key_at(p, v, key);
            for (int64_t h = 0; h < p->task->heads_kv; h++)
                clear_row((char *)v->data + (at + h * v->head) * bytes, v,
                          p->other[i].dim, bytes);
        }
    }
}
