/* SPDX-License-Identifier: MIT
 *
 * Merge and its gradient (docs/definition.md, section 9): a warp for a query and head,
 * its lanes over the elements of the row.  A partial with lse -inf saw nothing: its out
 * is not read and its gradients are 0. */
#ifndef NATTEN_CUDA_SIMT_MERGE_CUH
#define NATTEN_CUDA_SIMT_MERGE_CUH

#include "cuda/device/walk.cuh"

namespace natten {

/* The rows of a merge, one for each warp in turn. */
struct MergeRows {
    const natten_cuda_merge_job &job;
    int64_t next_row;
    Place place;

    __device__ explicit MergeRows(const natten_cuda_merge_job &job_)
        : job(job_), next_row(blockIdx.x * (int64_t)NATTEN_CUDA_WARPS +
                              threadIdx.x / NATTEN_CUDA_WARP)
    {
    }

    __device__ bool next()
    {
        int64_t rest = next_row;
        place.head = rest % job.heads, rest /= job.heads;
        for (int a = 2; a >= 0; a--) {
            place.at[a] = (int32_t)(rest % job.extent[a]);
            rest /= job.extent[a];
        }
        place.batch = rest;
        next_row += gridDim.x * (int64_t)NATTEN_CUDA_WARPS;
        return rest < job.batch;
    }

    template <class E> __device__ E *row(const natten_view &view) const
    {
        return row_at<E>(view, place.batch, place.head, place.at);
    }
};

template <class T> __device__ void merge(const natten_cuda_merge_job &job)
{
    int lane = threadIdx.x % NATTEN_CUDA_WARP;
    MergeRows rows(job);
    while (rows.next()) {
        Sum<T> largest = -INFINITY, sum = 0; /* a NaN never is the largest */
        bool empty = true;
        for (int n = 0; n < job.count; n++) {
            Sum<T> lse = *rows.row<Sum<T>>(job.lses[n]);
            empty = empty && lse == -INFINITY;
            largest = lse > largest ? lse : largest;
        }
        for (int n = 0; n < job.count && !empty; n++)
            sum += exp(*rows.row<Sum<T>>(job.lses[n]) - largest);
        if (lane == 0 && job.lse.data != nullptr)
            *rows.row<Sum<T>>(job.lse) = empty ? Sum<T>(-INFINITY) : largest + log(sum);
        for (int64_t d = lane; d < job.dim_v; d += NATTEN_CUDA_WARP) {
            Sum<T> value = 0;
            for (int n = 0; n < job.count; n++) {
                Sum<T> lse = *rows.row<Sum<T>>(job.lses[n]);
                if (lse == -INFINITY)
                    continue;
                const T *from = rows.row<T>(job.outputs[n]);
                value +=
                    exp(lse - largest) / sum * widen(from[d * job.outputs[n].item]);
            }
            narrow(rows.row<T>(job.out) + d * job.out.item, value);
        }
    }
}

/* <a, b>, to all lanes; products of two large numbers have room in double only. */
template <class T>
__device__ inline double product(const MergeRows &rows, const natten_view &a,
                                 const natten_view &b)
{
    const T *x = rows.row<T>(a), *y = rows.row<T>(b);
    double sum = 0;
    for (int64_t d = threadIdx.x % NATTEN_CUDA_WARP; d < rows.job.dim_v;
         d += NATTEN_CUDA_WARP)
        sum += double(widen(x[d * a.item])) * double(widen(y[d * b.item]));
    return Lane(NATTEN_CUDA_WARP).sum(sum);
}

/* With w = exp(lse_n - lse): grad_out_n = w grad_out and
 * grad_lse_n = w (<grad_out, out_n - out> + grad_lse). */
template <class T> __device__ void merge_backward(const natten_cuda_merge_job &job)
{
    int lane = threadIdx.x % NATTEN_CUDA_WARP;
    MergeRows rows(job);
    while (rows.next()) {
        Sum<T> lse = *rows.row<Sum<T>>(job.lse);
        Sum<T> grad_lse = 0;
        if (job.grad_lse.data != nullptr)
            grad_lse = *rows.row<Sum<T>>(job.grad_lse);
        double delta = product<T>(rows, job.grad_out, job.out);
        const T *grad = rows.row<T>(job.grad_out);
        for (int n = 0; n < job.count; n++) {
            Sum<T> partial = *rows.row<Sum<T>>(job.lses[n]);
            bool empty = partial == -INFINITY || lse == -INFINITY;
            Sum<T> weight = exp(partial - lse);
            double along = 0;
            if (!empty)
                along = product<T>(rows, job.grad_out, job.outputs[n]);
            if (lane == 0)
                *rows.row<Sum<T>>(job.grad_lses[n]) =
                    empty ? Sum<T>(0) : Sum<T>(weight * (along - delta + grad_lse));
            T *to = rows.row<T>(job.grad_outputs[n]);
            for (int64_t d = lane; d < job.dim_v; d += NATTEN_CUDA_WARP)
                narrow(to + d * job.grad_outputs[n].item,
                       empty ? Sum<T>(0) : weight * widen(grad[d * job.grad_out.item]));
        }
    }
}

} // namespace natten

#endif
