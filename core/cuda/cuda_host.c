/* SPDX-License-Identifier: MIT
 *
 * Host arrays on a GPU, see cuda_host.h.  Two slots of device memory take turns at
 * being a slab's (cuda_slab.h):
 *
 *     host     pack 0 | pack 1          | unpack 0, pack 2 | unpack 1, pack 3 ...
 *     up            0 |       1         |               2  |
 *     compute         |  0              |  1               |  2
 *     down            |                 |  0               |  1
 *
 * Between the caller's memory and the device stand pinned chunks: the caller's may have
 * any strides, and only pinned memory is copied without waiting. */
#include "cuda/cuda_host.h"

#include "base/status.h"
#include "cuda/cuda.h"
#include "cuda/cuda_launch.h"
#include "cuda/cuda_slab.h"
#include "problem/roles.h"

#include <inttypes.h>

/* Bytes of a slab: enough that a copy takes longer than starting it, few enough that
 * the first upload and the last download, which nothing hides, are short. */
enum { SLAB_BYTES = 32 << 20 };
enum { CHUNK_BYTES = 4 << 20, SLOTS = 2, CHUNKS = 2 };

typedef struct slot {
    uintptr_t memory;
    void *uploaded, *computed; /* events */
    natten_slab slab;
    natten_plan plan;
} slot;

/* A ring of pinned chunks, the stream that they travel on, and the events of their last
 * copies. */
typedef struct road {
    void *stream;
    void *chunk[CHUNKS], *done[CHUNKS];
    int64_t turn; /* chunks so far */
} road;

typedef struct host_call {
    natten_cuda_call call;
    natten_slabs slabs;
    int threads, slots;
    size_t tensor_bytes, workspace_bytes; /* of a slot */
    void *compute;                        /* stream */
    road up, down;
    slot slot[SLOTS];
} host_call;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Make a slot that of a slab. */
static natten_status plan_slab(const host_call *h, int64_t index, slot *s)
{
    natten_machine machine = {.gpu = *h->call.gpu};
    s->slab = natten_slabs_get(&h->slabs, index);
    s->plan.task =
        natten_slab_task(h->slabs.task, &s->slab, h->call.gpu->device, s->memory);
    s->plan.task.by_rows = true;
    s->plan.backend = &natten_cuda_backend;
    return natten_cuda_backend.choose(&s->plan.task, &machine, &s->plan.choice);
}

/* ---- the road ---- */

static natten_status upload(host_call *h, const natten_share *share, uintptr_t address)
{
    const natten_driver *d = h->call.driver;
    int64_t step = CHUNK_BYTES / (int64_t)share->each;
    for (int64_t begin = 0; begin < share->count; begin += step) {
        int64_t end = smaller(begin + step, share->count);
        int i = (int)(h->up.turn++ % CHUNKS);
        NATTEN_TRY_CUDA(d, event_wait, h->up.done[i]);
        NATTEN_TRY(natten_share_pack(share, h->up.chunk[i], begin, end, h->threads));
        NATTEN_TRY_CUDA(d, upload, address + (size_t)begin * share->each,
                        h->up.chunk[i], (size_t)(end - begin) * share->each,
                        h->up.stream);
        NATTEN_TRY_CUDA(d, event_record, h->up.done[i], h->up.stream);
    }
    return NATTEN_OK;
}

static natten_status fetch_chunk(host_call *h, const natten_share *share,
                                 uintptr_t address, int64_t n)
{
    const natten_driver *d = h->call.driver;
    int64_t step = CHUNK_BYTES / (int64_t)share->each, begin = n * step;
    int64_t count = smaller(step, share->count - begin);
    NATTEN_TRY_CUDA(d, download, h->down.chunk[n % CHUNKS],
                    address + (size_t)begin * share->each, (size_t)count * share->each,
                    h->down.stream);
    NATTEN_TRY_CUDA(d, event_record, h->down.done[n % CHUNKS], h->down.stream);
    return NATTEN_OK;
}

/* One chunk travels while the one before is copied out. */
static natten_status download(host_call *h, const natten_share *share,
                              uintptr_t address)
{
    int64_t step = CHUNK_BYTES / (int64_t)share->each, ahead = 0;
    for (int64_t begin = 0, n = 0; begin < share->count; begin += step, n++) {
        for (; ahead <= n + 1 && ahead * step < share->count; ahead++)
            NATTEN_TRY(fetch_chunk(h, share, address, ahead));
        NATTEN_TRY_CUDA(h->call.driver, event_wait, h->down.done[n % CHUNKS]);
        NATTEN_TRY(natten_share_unpack(share, h->down.chunk[n % CHUNKS], begin,
                                       smaller(begin + step, share->count),
                                       h->threads));
    }
    return NATTEN_OK;
}

/* Upload a slab's inputs, or download its outputs. */
static natten_status move(host_call *h, const slot *s, bool outputs)
{
    const natten_task *task = h->slabs.task;
    const natten_operation_info *info = natten_roles_of(task->operation);
    for (int u = 0; u < info->uses; u++) {
        natten_role role = info->use[u].role;
        natten_share share = natten_slab_share(task, &s->slab, role);
        uintptr_t address = (uintptr_t)s->plan.task.view[role].data;
        if (share.host == NULL || info->use[u].output != outputs)
            continue;
        NATTEN_TRY(outputs ? download(h, &share, address) : upload(h, &share, address));
    }
    return NATTEN_OK;
}

/* ---- slab by slab ---- */

static natten_status begin_slab(host_call *h, int64_t index)
{
    const natten_driver *d = h->call.driver;
    slot *s = &h->slot[index % h->slots];
    /* The slot's inputs are free when its last slab is computed; its outputs, when they
     * are downloaded, which the host has waited for. */
    NATTEN_TRY_CUDA(d, stream_wait_event, h->up.stream, s->computed, 0);
    NATTEN_TRY(plan_slab(h, index, s));
    NATTEN_TRY(move(h, s, false));
    NATTEN_TRY_CUDA(d, event_record, s->uploaded, h->up.stream);
    NATTEN_TRY_CUDA(d, stream_wait_event, h->compute, s->uploaded, 0);
    NATTEN_TRY(natten_cuda_backend.run(&s->plan, (void *)(s->memory + h->tensor_bytes),
                                       h->compute));
    NATTEN_TRY_CUDA(d, event_record, s->computed, h->compute);
    return NATTEN_OK;
}

static natten_status end_slab(host_call *h, int64_t index)
{
    const slot *s = &h->slot[index % h->slots];
    NATTEN_TRY_CUDA(h->call.driver, stream_wait_event, h->down.stream, s->computed, 0);
    return move(h, s, true);
}

/* The last slab is downloaded while the next one is computed; with one slot, before. */
static natten_status do_slabs(host_call *h)
{
    for (int64_t index = 0; index < h->slabs.count; index++) {
        if (index > 0 && h->slots == 1)
            NATTEN_TRY(end_slab(h, index - 1));
        NATTEN_TRY(begin_slab(h, index));
        if (index > 0 && h->slots > 1)
            NATTEN_TRY(end_slab(h, index - 1));
    }
    return end_slab(h, h->slabs.count - 1);
}

/* ---- memory, streams, events ---- */

/* How much of the device a slot takes, and how many there are. */
static natten_status size_slots(host_call *h, const natten_task *task, int64_t target)
{
    enum { ALIGNMENT = 256 };
    size_t left = 0, total = 0;
    NATTEN_TRY_CUDA(h->call.driver, memory_info, &left, &total);
    h->slabs = natten_slabs_cut(task, smaller(target, (int64_t)(left / (2 * SLOTS))));
    /* The last slab may be smaller, and then planned otherwise. */
    for (int i = 0; i < 2; i++) {
        slot s = {.memory = ALIGNMENT};
        NATTEN_TRY(plan_slab(h, i == 0 ? 0 : h->slabs.count - 1, &s));
        if (s.plan.choice.workspace_bytes > h->workspace_bytes)
            h->workspace_bytes = s.plan.choice.workspace_bytes;
        if (i == 0)
            h->tensor_bytes = (size_t)natten_slab_bytes(task, &s.slab);
    }
    size_t each = h->tensor_bytes + h->workspace_bytes;
    h->slots = h->slabs.count > 1 && each <= left / SLOTS ? SLOTS : 1;
    if (each <= left)
        return NATTEN_OK;
    return natten_status_fail(NATTEN_ERR_MEMORY,
                              "device %" PRId32 " has %zu bytes free, and its share of "
                              "the work, %" PRId64 " of %" PRId64
                              " batch items and %" PRId64 " of %" PRId64
                              " heads of key, takes %zu",
                              h->call.gpu->device, left, h->slabs.batch_step,
                              task->batch, h->slabs.head_step, task->heads_kv, each);
}

static natten_status open_road(const natten_driver *d, road *r)
{
    enum { NON_BLOCKING = 1, NO_TIMING = 2, PORTABLE = 1 };
    NATTEN_TRY_CUDA(d, stream_create, &r->stream, NON_BLOCKING);
    for (int i = 0; i < CHUNKS; i++) {
        NATTEN_TRY_CUDA(d, host_alloc, &r->chunk[i], CHUNK_BYTES, PORTABLE);
        NATTEN_TRY_CUDA(d, event_create, &r->done[i], NO_TIMING);
    }
    return NATTEN_OK;
}

static natten_status open_slots(host_call *h)
{
    enum { NON_BLOCKING = 1, NO_TIMING = 2 };
    const natten_driver *d = h->call.driver;
    NATTEN_TRY_CUDA(d, stream_create, &h->compute, NON_BLOCKING);
    for (int i = 0; i < h->slots; i++) {
        slot *s = &h->slot[i];
        NATTEN_TRY_CUDA(d, alloc, &s->memory, h->tensor_bytes + h->workspace_bytes);
        NATTEN_TRY_CUDA(d, event_create, &s->uploaded, NO_TIMING);
        NATTEN_TRY_CUDA(d, event_create, &s->computed, NO_TIMING);
    }
    return NATTEN_OK;
}

/* The first result that is not NATTEN_DRIVER_OK, and whose it was. */
typedef struct outcome {
    int result;
    const char *symbol;
} outcome;

static void note(outcome *o, int result, const char *symbol)
{
    if (o->result == NATTEN_DRIVER_OK)
        *o = (outcome){result, symbol};
}

static void close_road(const natten_driver *d, road *r, outcome *o)
{
    if (r->stream != NULL) {
        note(o, d->stream_wait(r->stream), "cuStreamSynchronize");
        note(o, d->stream_destroy(r->stream), "cuStreamDestroy");
    }
    for (int i = 0; i < CHUNKS; i++) {
        if (r->done[i] != NULL)
            note(o, d->event_destroy(r->done[i]), "cuEventDestroy");
        if (r->chunk[i] != NULL)
            note(o, d->host_free(r->chunk[i]), "cuMemFreeHost");
    }
}

/* Wait for what was begun, also when it failed, and release all of it. */
static outcome close_all(host_call *h)
{
    const natten_driver *d = h->call.driver;
    outcome o = {NATTEN_DRIVER_OK, ""};
    if (h->compute != NULL)
        note(&o, d->stream_wait(h->compute), "cuStreamSynchronize");
    close_road(d, &h->up, &o);
    close_road(d, &h->down, &o);
    if (h->compute != NULL)
        note(&o, d->stream_destroy(h->compute), "cuStreamDestroy");
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &h->slot[i];
        if (s->uploaded != NULL)
            note(&o, d->event_destroy(s->uploaded), "cuEventDestroy");
        if (s->computed != NULL)
            note(&o, d->event_destroy(s->computed), "cuEventDestroy");
        if (s->memory != 0)
            note(&o, d->free(s->memory), "cuMemFree");
    }
    return o;
}

static natten_status run_inside(host_call *h, const natten_task *task, int64_t target)
{
    NATTEN_TRY(natten_cuda_call_enter(&h->call));
    NATTEN_TRY(size_slots(h, task, target));
    natten_status status = open_road(h->call.driver, &h->up);
    if (status == NATTEN_OK)
        status = open_road(h->call.driver, &h->down);
    if (status == NATTEN_OK)
        status = open_slots(h);
    if (status == NATTEN_OK)
        status = do_slabs(h);
    outcome o = close_all(h);
    return status != NATTEN_OK ? status : natten_driver_check(o.result, o.symbol);
}

natten_status natten_cuda_host_run(const natten_task *task, const natten_gpu *gpu,
                                   int threads, int64_t slab_bytes)
{
    host_call h = {.threads = threads};
    NATTEN_TRY(natten_cuda_check(gpu));
    NATTEN_TRY(natten_cuda_call_begin(&h.call, gpu, task->dtype, NULL));
    return natten_cuda_call_end(
        &h.call, run_inside(&h, task, slab_bytes > 0 ? slab_bytes : SLAB_BYTES));
}
