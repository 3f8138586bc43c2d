/* SPDX-License-Identifier: MIT
 *
 * Forward and av, one group of lanes for a query and head (docs/definition.md,
 * sections 6 and 8).
 *
 *     warp      4 groups of 8 lanes, say: a group holds a row of 64, 8 elements a lane,
 *               and has a query of its own, next to those of the other groups
 *     a round   four keys: <q, k> summed over the group's lanes; running maximum, sum
 * of weights and weighted sum of values rounds    the window's keys, then the extra
 * tokens; as many as the fullest window of the warp needs
 *
 * No key outside of the window is ever read, so nothing has to be masked and nothing
 * that is not finite can leak in.  A result depends on its row alone. */
#ifndef NATTEN_CUDA_SIMT_FORWARD_CUH
#define NATTEN_CUDA_SIMT_FORWARD_CUH

#include "cuda/device/keys.cuh"

namespace natten {

/* Sums over the keys of a query. */
template <class T> struct Softmax {
    Sum<T> largest = -INFINITY; /* logit; a NaN never is */
    Sum<T> weights = 0;         /* sum of exp(logit - largest) */
    Sum<T> values[strip] = {};  /* and that times the values */

    /* Take in `count` keys; one that is not there has logit -inf and values 0. */
    template <int count>
    __device__ void add(const Sum<T> (&logit)[count],
                        const Sum<T> (&value)[count][strip])
    {
        Sum<T> most = largest;
#pragma unroll
        for (int i = 0; i < count; i++)
            most = logit[i] > most ? logit[i] : most;
        if (most != largest)
            shrink(exp(largest - most));
        largest = most;
#pragma unroll
        for (int i = 0; i < count; i++) {
            /* While all logits are -inf there is no difference to take. */
            Sum<T> weight = logit[i] == -INFINITY ? Sum<T>(0) : exp(logit[i] - largest);
            weights += weight;
#pragma unroll
            for (int e = 0; e < strip; e++)
                values[e] = fma(weight, value[i][e], values[e]);
        }
    }

    __device__ void shrink(Sum<T> factor)
    {
        weights = times(weights, factor);
#pragma unroll
        for (int e = 0; e < strip; e++)
            values[e] = times(values[e], factor);
    }

    /* Every logit is exactly -inf, or there is none. */
    __device__ bool saw_nothing() const
    {
        return largest == -INFINITY && weights == 0;
    }
};

template <class T>
__device__ inline void take_keys(Softmax<T> &softmax, const natten_cuda_job &job,
                                 const Lane &lane, const Held<T> &query,
                                 const Keys<T> &keys, int64_t slice)
{
    constexpr int count = at_once<T>;
    Sum<T> scale = (Sum<T>)job.task.scale;
    for (Visits v(lane, keys.box, Visit::alone); v.more();) {
        Sum<T> logit[count], bias[count], y[count][strip];
        bool sees[count];
#pragma unroll
        for (int i = 0; i < count; i++, v.advance()) {
            sees[i] = v.sees();
            const T *key = sees[i] ? keys.key.at(v.at) : nullptr;
            const T *value = sees[i] ? keys.value.at(v.at) : nullptr;
            Sum<T> x[strip];
            load(x, keys.key_reader, key, lane.from());
            load(y[i], keys.value_reader, value, slice + lane.from());
            bias[i] = sees[i] && keys.bias.base ? __ldg(keys.bias.at(v.at)) : Sum<T>(0);
            logit[i] =
                share(lane, query.x, query.reader, query.row, x, keys.key_reader, key);
        }
        lane.sum(logit);
#pragma unroll
        for (int i = 0; i < count; i++)
            logit[i] = sees[i] ? fma(scale, logit[i], bias[i]) : Sum<T>(-INFINITY);
        softmax.add(logit, y);
    }
}

/* One row, or none (`exists`): groups of a warp that have no row go along. */
template <class T>
__device__ inline void forward_row(const natten_cuda_job &job, const Lane &lane,
                                   const Place &place, int64_t slice, bool exists)
{
    const natten_task &task = job.task;
    Held<T> query(job, lane, NATTEN_QUERY, place, task.dim);
    Softmax<T> softmax;
    take_keys(softmax, job, lane, query, grid_keys<T>(job, place), slice);
    if (task.extras > 0)
        take_keys(softmax, job, lane, query, extra_keys<T>(job, place), slice);
    bool nothing = softmax.saw_nothing();
    if (!exists)
        return;
#pragma unroll
    for (int e = 0; e < strip; e++)
        softmax.values[e] = nothing ? Sum<T>(0) : softmax.values[e] / softmax.weights;
    const natten_view &out = task.view[NATTEN_OUT], &lse = task.view[NATTEN_LSE];
    store(row_at<T>(out, place.batch, place.head, place.at),
          reader_of(job, NATTEN_OUT, task.dim_v), slice + lane.from(), softmax.values);
    if (lse.data != nullptr && lane.within == 0 && slice == 0)
        *row_at<Sum<T>>(lse, place.batch, place.head, place.at) =
            nothing ? Sum<T>(-INFINITY) : softmax.largest + log(softmax.weights);
}

template <class T> __device__ void forward(const natten_cuda_job &job)
{
    Lane lane(job.lanes);
    Tokens<Side::queries> tokens(job, lane);
    while (tokens.next())
        forward_row<T>(job, lane, tokens.place, tokens.slice, tokens.exists);
}

/* sum += weights of attn times values. */
template <class T>
__device__ inline void take_values(Sum<T> (&sum)[strip], const natten_cuda_job &job,
                                   const Lane &lane, const T *attn, const Keys<T> &keys,
                                   int64_t slice)
{
    int64_t item = job.task.view[NATTEN_ATTN].item;
    for (Visits v(lane, keys.box, Visit::alone); v.more(); v.advance()) {
        if (!v.sees())
            continue;
        Sum<T> weight = widen(__ldg(attn + keys.slots.at(v.at) * item)), y[strip];
        load(y, keys.value_reader, keys.value.at(v.at), slice + lane.from());
#pragma unroll
        for (int e = 0; e < strip; e++)
            sum[e] = fma(weight, y[e], sum[e]);
    }
}

template <class T> __device__ void av(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    Lane lane(job.lanes);
    Tokens<Side::queries> tokens(job, lane);
    while (tokens.next()) {
        const Place &place = tokens.place;
        const T *attn =
            row_at<const T>(task.view[NATTEN_ATTN], place.batch, place.head, place.at);
        Sum<T> sum[strip] = {};
        take_values(sum, job, lane, attn, grid_keys<T>(job, place), tokens.slice);
        if (task.extras > 0)
            take_values(sum, job, lane, attn, extra_keys<T>(job, place), tokens.slice);
        if (tokens.exists)
            store(row_at<T>(task.view[NATTEN_OUT], place.batch, place.head, place.at),
                  reader_of(job, NATTEN_OUT, task.dim_v), tokens.slice + lane.from(),
                  sum);
    }
}

} // namespace natten

#endif
