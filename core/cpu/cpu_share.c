/* SPDX-License-Identifier: MIT
 *
 * The runs of GRAD_ALL, in a fixed order, and the zeros that they begin with. */
#include "cpu/cpu_share.h"

#include <string.h>

bool natten_cpu_share_runs(const natten_cpu_pass *p, const natten_cpu_item *item,
                           const natten_cpu_share *share)
{
    int64_t combo = item->combo;
    if (item->head % p->share != share->head)
        return false;
    for (int a = 2; a >= 0; a--) {
        if (combo % p->tiles[a] % 2 != share->parity[a])
            return false;
        combo /= (int64_t)p->tiles[a] * p->classes[a];
    }
    return true;
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

void natten_cpu_share_clear(const natten_cpu_pass *p, int64_t item, int64_t bytes)
{
    int64_t z = item % p->axis[0].key_count, batch = item / p->axis[0].key_count;
    for (int i = 0; i < 2; i++) {
        const natten_view *v = &p->shared[i];
        for (int64_t y = 0; y < p->axis[1].key_count && v->data; y++)
            for (int64_t x = 0; x < p->axis[2].key_count; x++)
                for (int64_t h = 0; h < p->task->heads_kv; h++) {
                    int64_t at = batch * v->batch + z * v->axis[0] + y * v->axis[1] +
                                 x * v->axis[2] + h * v->head;
                    clear_row((char *)v->data + at * bytes, v, p->other[i].dim, bytes);
                }
    }
}
