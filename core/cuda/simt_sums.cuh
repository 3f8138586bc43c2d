/* SPDX-License-Identifier: MIT
 *
 * Gradients that many queries share: of extra tokens and of the bias
 * (docs/definition.md, section 7).  Queries are cut into chunks, whose number follows
 * from the problem alone; a chunk's sum goes to the workspace, and a second kernel adds
 * the chunks up in their order.  So there are no atomics here either. */
#ifndef NATTEN_CUDA_SIMT_SUMS_CUH
#define NATTEN_CUDA_SIMT_SUMS_CUH

#include "cuda/simt_backward.cuh"

namespace natten {

/* Bytes of shared memory for the sums of bias entries: strip_entries for each warp. */
extern __shared__ double shared_sums[];

__device__ inline int64_t queries_of_item(const natten_task &task)
{
    return (int64_t)task.axis[0].query_count * task.axis[1].query_count *
           task.axis[2].query_count;
}

/* First query of chunk c. */
__device__ inline int64_t chunk_begin(int64_t queries, int64_t c, int64_t chunks)
{
    return queries / chunks * c + natten_min(queries % chunks, (int32_t)c);
}

/* ---- extra tokens ---- */

/* A run of queries as boxes: whole rows of the last axis, and what is left at both
 * ends. `begin` moves to the end of the box. */
__device__ inline Box next_run(const natten_task &task, int64_t &begin, int64_t end)
{
    int64_t width = task.axis[2].query_count, height = task.axis[1].query_count;
    int64_t x = begin % width, y = begin / width % height;
    Box box = row_box(width - x < end - begin ? width - x : end - begin);
    box.first[0] = (int32_t)(begin / width / height);
    box.first[1] = (int32_t)y;
    box.first[2] = (int32_t)x;
    if (x == 0 && end - begin >= width) { /* as many whole rows as the plane has */
        int64_t rows = (end - begin) / width;
        box.count[1] = (uint32_t)(rows < height - y ? rows : height - y);
    }
    begin += box.total();
    return box;
}

/* Queries next to each other, not a dilation apart. */
template <class T>
__device__ inline Queries<T> neighbours(const natten_cuda_job &job, const Box &box,
                                        int64_t batch, int64_t head)
{
    Queries<T> q = queries_in<T>(job, box, batch, head);
    for (int a = 0; a < 3; a++) {
        int64_t d = job.task.axis[a].dilation;
        q.query.step[a] /= d, q.grad.step[a] /= d;
        q.lse.step[a] /= d, q.attn.step[a] /= d;
        q.delta_step[a] /= d;
    }
    q.bias.base = nullptr;
    return q;
}

/* One warp for a chunk, batch item, extra token, head of keys and slice. */
template <class T, Weights weights> __device__ void extras(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    const natten_role roles[4] = {NATTEN_ADDITIONAL_KEYS, NATTEN_ADDITIONAL_VALUES,
                                  NATTEN_GRAD_ADDITIONAL_KEYS,
                                  NATTEN_GRAD_ADDITIONAL_VALUES};
    int64_t group = task.heads / task.heads_kv, queries = queries_of_item(task);
    Lane lane(job.lanes);
    int64_t warp = threadIdx.x / NATTEN_CUDA_WARP;
    int64_t total = task.batch * task.extras * task.heads_kv * job.slices * job.chunks;
    for (int64_t n = blockIdx.x * (int64_t)NATTEN_CUDA_WARPS + warp; n < total;
         n += gridDim.x * (int64_t)NATTEN_CUDA_WARPS) {
        int64_t slice = n % job.slices * NATTEN_CUDA_SLICE, row = n / job.slices;
        Place place = {};
        int64_t rest = row;
        place.head = rest % task.heads_kv, rest /= task.heads_kv;
        place.at[2] = (int32_t)(rest % task.extras), rest /= task.extras;
        place.batch = rest % task.batch;
        int64_t chunk = rest / task.batch;
        KeySide<T> side(job, lane, slice, Visit::together);
        side.open(roles, place);
        int64_t end = chunk_begin(queries, chunk + 1, job.chunks);
        for (int64_t h = place.head * group; h < (place.head + 1) * group; h++)
            for (int64_t begin = chunk_begin(queries, chunk, job.chunks);
                 begin < end;) {
                Box box = next_run(task, begin, end);
                side.template take<weights>(neighbours<T>(job, box, place.batch, h),
                                            job.window_slots + place.at[2], place.at);
            }
        lane.gather(side.grad_key);
        lane.gather(side.grad_value);
        if (lane.group != 0)
            continue;
        Sum<T> *partial = static_cast<Sum<T> *>(job.partial);
        for (int e = 0; e < strip; e++) {
            int64_t d = slice + lane.from() + e, width = task.dim + task.dim_v;
            if (d < task.dim)
                partial[row * width + d] = side.grad_key[e];
            if (d < task.dim_v)
                partial[row * width + task.dim + d] = side.grad_value[e];
        }
    }
}

/* Add up the chunks of one element each. */
template <class T> __device__ void sum_extras(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    int64_t width = task.dim + task.dim_v;
    int64_t total = task.batch * task.extras * task.heads_kv * width;
    for (int64_t n = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; n < total;
         n += gridDim.x * (int64_t)blockDim.x) {
        Sum<T> sum = 0;
        for (int c = 0; c < job.chunks; c++)
            sum += static_cast<const Sum<T> *>(job.partial)[c * total + n];
        int64_t d = n % width, rest = n / width;
        bool of_key = d < task.dim;
        const natten_view &view = task.view[of_key ? NATTEN_GRAD_ADDITIONAL_KEYS
                                                   : NATTEN_GRAD_ADDITIONAL_VALUES];
        if (view.data == nullptr)
            continue;
        int64_t head = rest % task.heads_kv;
        rest /= task.heads_kv;
        int32_t at[3] = {0, 0, (int32_t)(rest % task.extras)};
        T *row = row_at<T>(view, rest / task.extras, head, at);
        narrow(row + (of_key ? d : d - task.dim) * view.item, sum);
    }
}

/* ---- bias ---- */

/* A query of a run over batch and axes. */
__device__ inline Place query_at(const natten_task &task, int64_t number, int64_t head)
{
    Place place;
    place.head = head;
    place.head_kv = head / (task.heads / task.heads_kv);
    for (int a = 2; a >= 0; a--) {
        place.at[a] = (int32_t)(number % task.axis[a].query_count);
        number /= task.axis[a].query_count;
    }
    place.batch = number;
    return place;
}

/* One block for a chunk of the queries of all batch items, a head and a run of entries.
 * Each warp has sums of its own; the keys of one query have different entries, so the
 * groups of a warp never add to the same one. */
template <class T, Weights weights> __device__ void bias(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    Lane lane(job.lanes);
    int warp = threadIdx.x / NATTEN_CUDA_WARP, width = job.strip_entries;
    Sum<T> *all = reinterpret_cast<Sum<T> *>(shared_sums), *own = all + warp * width;
    int64_t strips = (job.entries + width - 1) / width;
    int64_t queries = queries_of_item(task) * task.batch;
    for (int64_t n = blockIdx.x; n < strips * task.heads * job.chunks; n += gridDim.x) {
        int64_t begin = n % strips * width, head = n / strips % task.heads;
        int64_t chunk = n / strips / task.heads;
        int64_t end = chunk_begin(queries, chunk + 1, job.chunks);
        for (int i = threadIdx.x; i < width * NATTEN_CUDA_WARPS; i += blockDim.x)
            all[i] = 0;
        __syncthreads();
        for (int64_t q = chunk_begin(queries, chunk, job.chunks) + warp; q < end;
             q += NATTEN_CUDA_WARPS) {
            Place place = query_at(task, q, head);
            QuerySide<T> side(job, lane, place);
            Keys<T> keys = grid_keys<T>(job, place);
            Numbering entry = entries_of(task, keys.box);
            for (Visits v(lane, keys.box, Visit::together);
                 v.more() && side.lse != -INFINITY; v.advance()) {
                Sum<T> x[1][strip], ds[1];
                weigh<T, weights>(ds, x, job, lane, side, keys, v);
                int64_t i = entry.at(v.at) - begin;
                if (v.sees() && lane.within == 0 && i >= 0 && i < width)
                    own[i] += ds[0];
                __syncwarp();
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < width && begin + i < job.entries;
             i += blockDim.x) {
            Sum<T> sum = 0;
            for (int w = 0; w < NATTEN_CUDA_WARPS; w++)
                sum += all[w * width + i];
            static_cast<Sum<T> *>(
                job.partial)[(chunk * task.heads + head) * job.entries + begin + i] =
                sum;
        }
        __syncthreads();
    }
}

template <class T> __device__ void sum_bias(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    int64_t total = task.heads * job.entries;
    for (int64_t n = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; n < total;
         n += gridDim.x * (int64_t)blockDim.x) {
        Sum<T> sum = 0;
#pragma unroll 16 /* so many are on their way at once */
        for (int c = 0; c < job.chunks; c++)
            sum += static_cast<const Sum<T> *>(job.partial)[c * total + n];
        int64_t rest = n % job.entries;
        int32_t at[3];
        for (int a = 2; a >= 0; a--) {
            int64_t size = 2 * (int64_t)task.axis[a].window - 1;
            at[a] = (int32_t)(rest % size);
            rest /= size;
        }
        *row_at<Sum<T>>(task.view[NATTEN_GRAD_BIAS], 0, n / job.entries, at) = sum;
    }
}

} // namespace natten

#endif
