/* SPDX-License-Identifier: MIT
 *
 * Slabs of a task, see cuda_slab.h. */
#include "cuda/cuda_slab.h"

#include "base/parallel.h"
#include "problem/roles.h"

#include <string.h>

/* Bytes that a tensor on the device begins at a multiple of; and of the pieces in which
 * threads share a copy out. */
enum { ALIGNMENT = 256, PIECE_BYTES = 256 << 10 };

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

/* ---- shares ---- */

/* Extents of a role's share: batch, three axes, heads, items. */
static void extents_of(const natten_task *task, const natten_slab *s, natten_role role,
                       int64_t extent[NATTEN_SLAB_DIMENSIONS])
{
    const natten_role_info *info = natten_roles_info(role);
    for (int i = 0; i < NATTEN_SLAB_DIMENSIONS; i++)
        extent[i] = 1;
    for (int i = 0; i < info->symbols; i++)
        switch (info->symbol[i]) {
        case NATTEN_SIZE_BATCH:
            extent[0] = s->batch_count;
            break;
        case NATTEN_SIZE_QUERIES:
        case NATTEN_SIZE_KEYS:
        case NATTEN_SIZE_OFFSETS:
            for (int a = 0; a < 3; a++)
                extent[1 + a] = info->symbol[i] == NATTEN_SIZE_QUERIES
                                    ? task->axis[a].query_count
                                : info->symbol[i] == NATTEN_SIZE_KEYS
                                    ? task->axis[a].key_count
                                    : 2 * (int64_t)task->axis[a].window - 1;
            break;
        case NATTEN_SIZE_HEADS:
            extent[4] = s->head_count * (task->heads / task->heads_kv);
            break;
        case NATTEN_SIZE_HEADS_KV:
            extent[4] = s->head_count;
            break;
        case NATTEN_SIZE_EXTRAS:
            extent[3] = task->extras;
            break;
        case NATTEN_SIZE_DIM:
            extent[5] = task->dim;
            break;
        default:
            extent[5] = task->dim_v;
            break;
        }
}

/* Take dimensions together that lie side by side in the caller's memory. */
static void merge_runs(natten_share *h)
{
    h->run = 1;
    while (h->dimensions > 0) {
        int last = h->dimensions - 1;
        if (h->extent[last] != 1 && h->stride[last] != h->run * (int64_t)h->each)
            break;
        h->run *= h->extent[last];
        h->dimensions = last;
    }
}

natten_share natten_slab_share(const natten_task *task, const natten_slab *s,
                               natten_role role)
{
    const natten_view *v = &task->view[role];
    const natten_role_info *info = natten_roles_info(role);
    natten_share h = {.dimensions = NATTEN_SLAB_DIMENSIONS, .count = 1};
    if (v->data == NULL)
        return h;
    h.each = natten_dtype_bytes(info->accumulator ? task->accumulator : task->dtype);
    bool per_head = info->symbol[0] == NATTEN_SIZE_HEADS; /* heads come first */
    int64_t extent[NATTEN_SLAB_DIMENSIONS];
    extents_of(task, s, role, extent);
    bool of_query = per_head || info->symbol[2] == NATTEN_SIZE_HEADS;
    int64_t group = of_query ? task->heads / task->heads_kv : 1;
    const int64_t strides[NATTEN_SLAB_DIMENSIONS] = {v->batch,   v->axis[0], v->axis[1],
                                                     v->axis[2], v->head,    v->item};
    h.host =
        (char *)v->data +
        (s->batch_begin * v->batch + s->head_begin * group * v->head) * (int64_t)h.each;
    static const int orders[2][NATTEN_SLAB_DIMENSIONS] = {{0, 1, 2, 3, 4, 5},
                                                          {0, 4, 1, 2, 3, 5}};
    int64_t *compact[NATTEN_SLAB_DIMENSIONS] = {&h.view.batch,   &h.view.axis[0],
                                                &h.view.axis[1], &h.view.axis[2],
                                                &h.view.head,    &h.view.item};
    for (int i = NATTEN_SLAB_DIMENSIONS - 1; i >= 0; i--) {
        int from = orders[per_head][i];
        h.extent[i] = extent[from];
        h.stride[i] = strides[from] * (int64_t)h.each;
        *compact[from] = extent[from] > 1 ? h.count : 0;
        h.count *= extent[from];
    }
    merge_runs(&h);
    return h;
}

static int64_t aligned(int64_t bytes)
{
    return divide_up(bytes, ALIGNMENT) * ALIGNMENT;
}

/* Bytes of a slab's tensors on the device. */
int64_t natten_slab_bytes(const natten_task *task, const natten_slab *s)
{
    int64_t bytes = 0;
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        natten_share h = natten_slab_share(task, s, role);
        if (h.host != NULL)
            bytes += aligned(h.count * (int64_t)h.each);
    }
    return bytes;
}

natten_task natten_slab_task(const natten_task *task, const natten_slab *slab,
                             int32_t device_id, uintptr_t address)
{
    natten_task t = *task;
    t.device_type = NATTEN_CUDA;
    t.device_id = device_id;
    t.batch = slab->batch_count;
    t.heads = slab->head_count * (task->heads / task->heads_kv);
    t.heads_kv = slab->head_count;
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        natten_share h = natten_slab_share(task, slab, role);
        if (h.host == NULL)
            continue;
        t.view[role] = h.view;
        t.view[role].data = (void *)address;
        address += (uintptr_t)aligned(h.count * (int64_t)h.each);
    }
    return t;
}

/* ---- cutting ---- */

natten_slabs natten_slabs_cut(const natten_task *task, int64_t bytes)
{
    int64_t all = task->view[NATTEN_GRAD_BIAS].data != NULL ? task->batch : 1;
    natten_slab item = {.batch_count = all, .head_count = task->heads_kv};
    natten_slab head = {.batch_count = all, .head_count = 1};
    natten_slabs slabs = {task, all, task->heads_kv, 0};
    int64_t item_bytes = natten_slab_bytes(task, &item);
    if (item_bytes > bytes) {
        int64_t fit = bytes / natten_slab_bytes(task, &head);
        slabs.head_step = smaller(fit > 1 ? fit : 1, task->heads_kv);
    } else if (all == 1) {
        slabs.batch_step =
            item_bytes > 0 ? smaller(bytes / item_bytes, task->batch) : task->batch;
    }
    slabs.count = divide_up(task->batch, slabs.batch_step) *
                  divide_up(task->heads_kv, slabs.head_step);
    return slabs;
}

natten_slab natten_slabs_get(const natten_slabs *slabs, int64_t index)
{
    int64_t across = divide_up(slabs->task->heads_kv, slabs->head_step);
    natten_slab s = {.batch_begin = index / across * slabs->batch_step,
                     .head_begin = index % across * slabs->head_step};
    s.batch_count = smaller(slabs->batch_step, slabs->task->batch - s.batch_begin);
    s.head_count = smaller(slabs->head_step, slabs->task->heads_kv - s.head_begin);
    return s;
}

/* ---- copying between the caller's memory and a chunk ---- */

typedef struct copy_job {
    const natten_share *part;
    char *chunk;
    int64_t begin, end; /* elements of the share that the chunk holds */
    bool out;           /* of the chunk */
} copy_job;

/* Elements begin .. end - 1 of a share: whole and partial runs, an odometer between. */
static void copy_elements(const copy_job *job, int64_t begin, int64_t end)
{
    const natten_share *part = job->part;
    char *chunk = job->chunk + (size_t)(begin - job->begin) * part->each;
    int64_t at[NATTEN_SLAB_DIMENSIONS], row = begin / part->run,
                                        skip = begin % part->run;
    char *host = part->host;
    for (int i = part->dimensions - 1; i >= 0; i--) {
        at[i] = row % part->extent[i];
        row /= part->extent[i];
        host += at[i] * part->stride[i];
    }
    while (begin < end) {
        int64_t count = smaller(part->run - skip, end - begin);
        size_t bytes = (size_t)count * part->each;
        char *place = host + (size_t)skip * part->each;
        memcpy(job->out ? place : chunk, job->out ? chunk : place, bytes);
        chunk += bytes;
        begin += count;
        skip = 0;
        for (int i = part->dimensions - 1; i >= 0; i--) {
            host += part->stride[i];
            if (++at[i] < part->extent[i])
                break;
            host -= at[i] * part->stride[i];
            at[i] = 0;
        }
    }
}

static void copy_piece(void *context, int64_t item, int thread)
{
    const copy_job *job = context;
    int64_t piece = PIECE_BYTES / (int64_t)job->part->each;
    int64_t begin = job->begin + item * piece;
    (void)thread;
    copy_elements(job, begin, smaller(begin + piece, job->end));
}

static natten_status copy(const natten_share *part, char *chunk, int64_t begin,
                          int64_t end, bool out, int threads)
{
    copy_job job = {part, chunk, begin, end, out};
    int64_t piece = PIECE_BYTES / (int64_t)part->each;
    return natten_parallel_run(threads, divide_up(end - begin, piece), copy_piece,
                               &job);
}

natten_status natten_share_pack(const natten_share *share, char *chunk, int64_t begin,
                                int64_t end, int threads)
{
    return copy(share, chunk, begin, end, false, threads);
}

natten_status natten_share_unpack(const natten_share *share, char *chunk, int64_t begin,
                                  int64_t end, int threads)
{
    return copy(share, chunk, begin, end, true, threads);
}
