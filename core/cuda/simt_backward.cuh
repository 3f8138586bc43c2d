/* SPDX-License-Identifier: MIT
 *
 * Gradients of queries, keys and values (docs/definition.md, sections 4, 7 and 8), each
 * gathered by a group of lanes of its own: the gradient of a query over its keys, that
 * of a key and value over the queries that see it, which section 4 gives exactly.  No
 * two groups add to one place, so there are no atomics and the same bits every time.
 *
 * A pair's weights are computed anew from lse (fused), or read from attn (unfused: the
 * gradients of qk and av). */
#ifndef NATTEN_CUDA_SIMT_BACKWARD_CUH
#define NATTEN_CUDA_SIMT_BACKWARD_CUH

#include "cuda/device/keys.cuh"

namespace natten {

enum class Weights { fused, unfused };

/* The weight that a pair's gradient has in the unfused operations. */
__device__ inline natten_role weight_role(const natten_task &task)
{
    return task.operation == NATTEN_QK_BACKWARD ? NATTEN_GRAD_ATTN : NATTEN_ATTN;
}

/* delta = <grad_out, out> - grad_lse of each query and head. */
template <class T> __device__ void delta(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    Lane lane(job.lanes);
    Tokens<Side::queries> tokens(job, lane);
    while (tokens.next()) {
        const Place &place = tokens.place;
        Held<T> grad(job, lane, NATTEN_GRAD_OUT, place, task.dim_v);
        Held<T> out(job, lane, NATTEN_OUT, place, task.dim_v);
        Sum<T> d = lane.sum(
            share(lane, grad.x, grad.reader, grad.row, out.x, out.reader, out.row));
        const natten_view &view = task.view[NATTEN_GRAD_LSE];
        if (view.data != nullptr)
            d -= *row_at<Sum<T>>(view, place.batch, place.head, place.at);
        if (tokens.exists && lane.within == 0)
            static_cast<Sum<T> *>(
                job.delta)[query_number(task, place.batch, place.head, place.at)] = d;
    }
}

/* ---- of queries ---- */

/* What a query brings to all its pairs. */
template <class T> struct QuerySide {
    Held<T> query, grad; /* query and grad_out */
    Sum<T> lse, delta;
    const T *attn; /* unfused: its row of weights */

    __device__ QuerySide(const natten_cuda_job &job, const Lane &lane,
                         const Place &place)
        : query(job, lane, NATTEN_QUERY, place, job.task.dim),
          grad(job, lane, NATTEN_GRAD_OUT, place, job.task.dim_v), lse(0), delta(0),
          attn(nullptr)
    {
        const natten_task &task = job.task;
        if (job.delta != nullptr)
            delta = static_cast<const Sum<T> *>(
                job.delta)[query_number(task, place.batch, place.head, place.at)];
        if (task.view[NATTEN_LSE].data != nullptr)
            lse = *row_at<Sum<T>>(task.view[NATTEN_LSE], place.batch, place.head,
                                  place.at);
        const natten_view &weights = task.view[weight_role(task)];
        if (weights.data != nullptr)
            attn = row_at<const T>(weights, place.batch, place.head, place.at);
    }
};

/* The dS of `count` pairs, or the weights in their place, and the keys' first strips.
 * All lanes of the warp take part; of a key that is not there both are 0. */
template <class T, Weights weights, int count>
__device__ inline void weigh(Sum<T> (&ds)[count], Sum<T> (&x)[count][strip],
                             const natten_cuda_job &job, const Lane &lane,
                             const QuerySide<T> &side, const Keys<T> &keys, Visits v)
{
    Sum<T> scale = (Sum<T>)job.task.scale, dp[count], bias[count];
#pragma unroll
    for (int i = 0; i < count; i++, v.advance()) {
        const T *key = v.sees() && keys.key.base ? keys.key.at(v.at) : nullptr;
        load(x[i], keys.key_reader, key, lane.from());
        if constexpr (weights == Weights::unfused) {
            int64_t item = job.task.view[weight_role(job.task)].item;
            ds[i] = v.sees() ? widen(__ldg(side.attn + keys.slots.at(v.at) * item))
                             : Sum<T>(0);
        } else {
            const T *value = v.sees() ? keys.value.at(v.at) : nullptr;
            Sum<T> y[strip];
            load(y, keys.value_reader, value, lane.from());
            bias[i] = v.sees() ? Sum<T>(0) : Sum<T>(-INFINITY);
            if (v.sees() && keys.bias.base != nullptr)
                bias[i] = __ldg(keys.bias.at(v.at));
            ds[i] = share(lane, side.query.x, side.query.reader, side.query.row, x[i],
                          keys.key_reader, key);
            dp[i] = share(lane, side.grad.x, side.grad.reader, side.grad.row, y,
                          keys.value_reader, value);
        }
    }
    if constexpr (weights == Weights::fused) {
        lane.sum(ds);
        lane.sum(dp);
#pragma unroll
        for (int i = 0; i < count; i++) {
            Sum<T> p = exp(fma(scale, ds[i], bias[i]) - side.lse);
            ds[i] = times(p, dp[i] - side.delta);
        }
    }
}

template <class T, Weights weights>
__device__ inline void take_keys(Sum<T> (&sum)[strip], const natten_cuda_job &job,
                                 const Lane &lane, const QuerySide<T> &side,
                                 const Keys<T> &keys, int64_t slice)
{
    constexpr int count = at_once<T> / 2;
    Sum<T> scale = (Sum<T>)job.task.scale;
    for (Visits v(lane, keys.box, Visit::alone); v.more();) {
        Sum<T> x[count][strip], ds[count];
        weigh<T, weights>(ds, x, job, lane, side, keys, v);
#pragma unroll
        for (int i = 0; i < count; i++, v.advance()) {
            if (!v.sees())
                continue;
            slice_of(x[i], lane, keys.key_reader, keys.key.at(v.at), slice);
            Sum<T> weight = times(scale, ds[i]);
#pragma unroll
            for (int e = 0; e < strip; e++)
                sum[e] = fma(weight, x[i][e], sum[e]);
        }
    }
}

/* One row, or none (`exists`): groups of a warp that have no row go along. */
template <class T, Weights weights>
__device__ inline void grad_query_row(const natten_cuda_job &job, const Lane &lane,
                                      const Place &place, int64_t slice, bool exists)
{
    const natten_task &task = job.task;
    QuerySide<T> side(job, lane, place);
    Sum<T> sum[strip] = {};
    Keys<T> keys = grid_keys<T>(job, place), more = extra_keys<T>(job, place);
    if (side.lse == -INFINITY) /* it saw nothing */
        keys.box.count[0] = more.box.count[0] = 0;
    take_keys<T, weights>(sum, job, lane, side, keys, slice);
    if (task.extras > 0)
        take_keys<T, weights>(sum, job, lane, side, more, slice);
    if (exists)
        store(
            row_at<T>(task.view[NATTEN_GRAD_QUERY], place.batch, place.head, place.at),
            reader_of(job, NATTEN_GRAD_QUERY, task.dim), slice + lane.from(), sum);
}

template <class T, Weights weights>
__device__ void grad_query(const natten_cuda_job &job)
{
    Lane lane(job.lanes);
    Tokens<Side::queries> tokens(job, lane);
    while (tokens.next())
        grad_query_row<T, weights>(job, lane, tokens.place, tokens.slice,
                                   tokens.exists);
}

/* ---- of keys and values ---- */

/* The queries that see a key, of one head, with what belongs to them. */
template <class T> struct Queries {
    Box box;
    Track<const T> query, grad;
    Track<const Sum<T>> lse, bias;
    Track<const T> attn; /* rows of weights */
    Reader query_reader, grad_reader;
    int64_t delta, delta_step[3]; /* places in job.delta */
};

template <class T>
__device__ inline Queries<T> queries_in(const natten_cuda_job &job, const Box &box,
                                        int64_t batch, int64_t head)
{
    const natten_task &task = job.task;
    Queries<T> q;
    q.box = box;
    q.query = track<const T>(task, NATTEN_QUERY, batch, head, box);
    q.grad = track<const T>(task, NATTEN_GRAD_OUT, batch, head, box);
    q.lse = track<const Sum<T>>(task, NATTEN_LSE, batch, head, box);
    q.attn = track<const T>(task, weight_role(task), batch, head, box);
    q.bias = track_bias<T>(task, head, box, -1);
    q.query_reader = reader_of(job, NATTEN_QUERY, task.dim);
    q.grad_reader = reader_of(job, NATTEN_GRAD_OUT, task.dim_v);
    q.delta = query_number(task, batch, head, box.first);
    int64_t step = task.heads;
    for (int a = 2; a >= 0; a--) {
        q.delta_step[a] = step * task.axis[a].dilation;
        step *= task.axis[a].query_count;
    }
    return q;
}

/* A round of pairs of one key: weights, and the first strips of the queries' rows. */
template <class T, int count> struct Pairs {
    Sum<T> p[count], ds[count];
    Sum<T> query[count][strip], grad[count][strip];
    bool counts[count]; /* the pair exists and has a gradient */
};

/* A key and value, of the grid or extra, that gather their gradients. */
template <class T> struct KeySide {
    const natten_cuda_job &job;
    const Lane &lane;
    const T *key_row, *value_row;
    Reader key_reader, value_reader;
    int64_t slice;
    Visit visit; /* how the queries are gone through */
    bool wants_key, wants_value;
    Sum<T> key[strip], value[strip];
    Sum<T> grad_key[strip] = {}, grad_value[strip] = {};

    __device__ KeySide(const natten_cuda_job &job_, const Lane &lane_, int64_t slice_,
                       Visit visit_)
        : job(job_), lane(lane_), slice(slice_), visit(visit_)
    {
    }

    /* Read the rows: `grid` names key, value and their gradients. */
    __device__ void open(const natten_role (&grid)[4], const Place &place)
    {
        const natten_view *view = job.task.view;
        key_reader = reader_of(job, grid[0], job.task.dim);
        value_reader = reader_of(job, grid[1], job.task.dim_v);
        key_row = value_row = nullptr;
        if (view[grid[0]].data != nullptr)
            key_row = row_at<const T>(view[grid[0]], place.batch, place.head, place.at);
        if (view[grid[1]].data != nullptr)
            value_row =
                row_at<const T>(view[grid[1]], place.batch, place.head, place.at);
        load(key, key_reader, key_row, lane.from());
        load(value, value_reader, value_row, lane.from());
        wants_key = view[grid[2]].data != nullptr;
        wants_value = view[grid[3]].data != nullptr;
    }

    /* Take in one query: `weight` of its query row, `p` of its row of grad_out. */
    __device__ void add(Sum<T> weight, Sum<T> p, const Sum<T> (&query)[strip],
                        const Sum<T> (&grad)[strip])
    {
#pragma unroll
        for (int e = 0; e < strip; e++) {
            grad_key[e] = fma(weight, query[e], grad_key[e]);
            grad_value[e] = fma(p, grad[e], grad_value[e]);
        }
    }

    /* Slots of the query at `at` for this key; `place` is the key's. */
    __device__ int64_t slot_of(const Queries<T> &q, const Steps &at,
                               const int32_t (&key_at)[3]) const
    {
        int64_t slot = 0;
        for (int a = 0; a < 3; a++) {
            const natten_axis *axis = &job.task.axis[a];
            int32_t d = axis->dilation, token = axis->key_begin + key_at[a];
            natten_class c = natten_axis_class(axis, token % d);
            int32_t i = (axis->query_begin + q.box.first[a]) / d + (int32_t)at.at[a];
            slot = slot * axis->window + token / d - natten_class_window(&c, i).begin;
        }
        return slot;
    }

    /* All queries of one head.  `slot` is the slot of an extra token, or -1: the key is
     * at `key_at` of the grid. */
    template <Weights weights>
    __device__ void take(const Queries<T> &q, int64_t slot, const int32_t (&key_at)[3])
    {
        constexpr int count = at_once<T> / 2;
        Sum<T> scale = (Sum<T>)job.task.scale;
        for (Visits v(lane, q.box, visit); v.more();) {
            Pairs<T, count> pairs;
            if constexpr (weights == Weights::fused)
                weigh(pairs, q, v);
            else
                read_weights(pairs, q, v, slot, key_at);
#pragma unroll
            for (int i = 0; i < count; i++, v.advance()) {
                if (!pairs.counts[i])
                    continue;
                const T *query = q.query.base ? q.query.at(v.at) : nullptr;
                const T *grad = q.grad.base ? q.grad.at(v.at) : nullptr;
                slice_of(pairs.query[i], lane, q.query_reader, query, slice);
                slice_of(pairs.grad[i], lane, q.grad_reader, grad, slice);
                add(times(scale, pairs.ds[i]), pairs.p[i], pairs.query[i],
                    pairs.grad[i]);
            }
        }
    }

    /* P and dS of a round's pairs, computed anew. */
    template <int count>
    __device__ void weigh(Pairs<T, count> &pairs, const Queries<T> &q, Visits v)
    {
        Sum<T> lse[count], bias[count], delta[count], scale = (Sum<T>)job.task.scale;
#pragma unroll
        for (int i = 0; i < count; i++, v.advance()) {
            bool sees = v.sees();
            const T *query = sees ? q.query.at(v.at) : nullptr;
            const T *grad = sees ? q.grad.at(v.at) : nullptr;
            load(pairs.query[i], q.query_reader, query, lane.from());
            load(pairs.grad[i], q.grad_reader, grad, lane.from());
            int64_t number = q.delta + v.at.at[0] * q.delta_step[0] +
                             v.at.at[1] * q.delta_step[1] +
                             v.at.at[2] * q.delta_step[2];
            lse[i] = sees ? __ldg(q.lse.at(v.at)) : Sum<T>(-INFINITY);
            delta[i] = sees ? static_cast<const Sum<T> *>(job.delta)[number] : 0;
            bias[i] = sees && q.bias.base ? __ldg(q.bias.at(v.at)) : Sum<T>(0);
            pairs.p[i] = share(lane, key, key_reader, key_row, pairs.query[i],
                               q.query_reader, query);
            pairs.ds[i] = share(lane, value, value_reader, value_row, pairs.grad[i],
                                q.grad_reader, grad);
        }
        lane.sum(pairs.p);
        lane.sum(pairs.ds);
#pragma unroll
        for (int i = 0; i < count; i++) {
            pairs.counts[i] = lse[i] != -INFINITY; /* else it saw nothing */
            pairs.p[i] = exp(fma(scale, pairs.p[i], bias[i]) - lse[i]);
            pairs.ds[i] = times(pairs.p[i], pairs.ds[i] - delta[i]);
        }
    }

    /* The weights of a round's pairs, read. */
    template <int count>
    __device__ void read_weights(Pairs<T, count> &pairs, const Queries<T> &q, Visits v,
                                 int64_t slot, const int32_t (&key_at)[3])
    {
        int64_t item = job.task.view[weight_role(job.task)].item;
#pragma unroll
        for (int i = 0; i < count; i++, v.advance()) {
            bool sees = v.sees();
            const T *query = sees && q.query.base ? q.query.at(v.at) : nullptr;
            const T *grad = sees && q.grad.base ? q.grad.at(v.at) : nullptr;
            load(pairs.query[i], q.query_reader, query, lane.from());
            load(pairs.grad[i], q.grad_reader, grad, lane.from());
            pairs.counts[i] = sees;
            if (!sees)
                continue;
            int64_t s = slot >= 0 ? slot : slot_of(q, v.at, key_at);
            pairs.p[i] = pairs.ds[i] = widen(__ldg(q.attn.at(v.at) + s * item));
        }
    }
};

/* One key and value, or none. */
template <class T, Weights weights>
__device__ inline void grad_tokens_row(const natten_cuda_job &job, const Lane &lane,
                                       const Place &place, int64_t slice, bool exists)
{
    const natten_task &task = job.task;
    const natten_role roles[4] = {NATTEN_KEY, NATTEN_VALUE, NATTEN_GRAD_KEY,
                                  NATTEN_GRAD_VALUE};
    int64_t group = task.heads / task.heads_kv;
    KeySide<T> side(job, lane, slice, Visit::alone);
    side.open(roles, place);
    Box box = queries_of(task, place.at);
    for (int64_t h = place.head * group; h < (place.head + 1) * group; h++)
        side.template take<weights>(queries_in<T>(job, box, place.batch, h), -1,
                                    place.at);
    if (!exists)
        return;
    int64_t from = slice + lane.from();
    if (side.wants_key)
        store(row_at<T>(task.view[NATTEN_GRAD_KEY], place.batch, place.head, place.at),
              reader_of(job, NATTEN_GRAD_KEY, task.dim), from, side.grad_key);
    if (side.wants_value)
        store(
            row_at<T>(task.view[NATTEN_GRAD_VALUE], place.batch, place.head, place.at),
            reader_of(job, NATTEN_GRAD_VALUE, task.dim_v), from, side.grad_value);
}

template <class T, Weights weights>
__device__ void grad_tokens(const natten_cuda_job &job)
{
    Lane lane(job.lanes);
    Tokens<Side::keys> tokens(job, lane);
    while (tokens.next())
        grad_tokens_row<T, weights>(job, lane, tokens.place, tokens.slice,
                                    tokens.exists);
}

} // namespace natten

#endif
