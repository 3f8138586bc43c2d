/* SPDX-License-Identifier: MIT
 *
 * The keys that a query sees, and the loop of a warp's groups over them (or over any
 * other box of partners). */
#ifndef NATTEN_CUDA_DEVICE_KEYS_CUH
#define NATTEN_CUDA_DEVICE_KEYS_CUH

#include "cuda/device/walk.cuh"

namespace natten {

/* How the groups of a warp visit a box of partners. */
enum class Visit {
    alone,   /* each group its own box: as many rounds as the fullest box needs */
    together /* all the same box: every groups-th partner */
};

/* The visits of one group.  All groups make as many rounds, because they sum at the
 * same time; a group that has run out sees nobody. */
struct Visits {
    Steps at;
    int64_t left;   /* of this group's own partners, the present one included */
    int64_t rounds; /* of the warp */
    int stride;
    const Box &box;

    __device__ Visits(const Lane &lane, const Box &box_, Visit how)
        : at(box_, how == Visit::alone ? 0 : (uint32_t)lane.group), left(box_.total()),
          stride(how == Visit::alone ? 1 : lane.groups), box(box_)
    {
        rounds =
            how == Visit::alone ? warp_largest(left) : (left + stride - 1) / stride;
        left -= how == Visit::alone ? 0 : lane.group;
    }
    __device__ bool more() const
    {
        return rounds > 0;
    }
    __device__ bool sees() const
    {
        return left > 0;
    }
    __device__ void advance()
    {
        at.advance(box, (uint32_t)stride);
        left -= stride;
        rounds--;
    }
};

/* Partners that a group takes in one round, so that their loads and sums overlap.  Part
 * of what decides about bits. */
template <class T> constexpr int at_once = sizeof(T) == 8 ? 2 : 4;

/* The keys of one query with what belongs to them: those of the grid, or the extra
 * tokens. */
template <class T> struct Keys {
    Box box;
    Track<const T> key, value;
    Track<const Sum<T>> bias;
    Reader key_reader, value_reader;
    Numbering slots; /* of the query's row of attn */
};

template <class T>
__device__ inline Keys<T> grid_keys(const natten_cuda_job &job, const Place &place)
{
    const natten_task &task = job.task;
    int64_t head = place.head_kv;
    Keys<T> k;
    k.box = keys_of(task, place.at);
    k.key = track<const T>(task, NATTEN_KEY, place.batch, head, k.box);
    k.value = track<const T>(task, NATTEN_VALUE, place.batch, head, k.box);
    k.bias = track_bias<T>(task, place.head, k.box, 1);
    k.key_reader = reader_of(job, NATTEN_KEY, task.dim);
    k.value_reader = reader_of(job, NATTEN_VALUE, task.dim_v);
    k.slots = slots_of(task, k.box);
    return k;
}

template <class T>
__device__ inline Keys<T> extra_keys(const natten_cuda_job &job, const Place &place)
{
    const natten_task &task = job.task;
    int64_t head = place.head_kv;
    Keys<T> k;
    k.box = row_box(task.extras);
    k.key = track_extras<const T>(task, NATTEN_ADDITIONAL_KEYS, place.batch, head);
    k.value = track_extras<const T>(task, NATTEN_ADDITIONAL_VALUES, place.batch, head);
    k.bias = {nullptr, {0, 0, 0}};
    k.key_reader = reader_of(job, NATTEN_ADDITIONAL_KEYS, task.dim);
    k.value_reader = reader_of(job, NATTEN_ADDITIONAL_VALUES, task.dim_v);
    k.slots = {job.window_slots, {0, 0, 1}};
    return k;
}

/* A row of a query's side, with its first strip in registers. */
template <class T> struct Held {
    const T *row;
    Reader reader;
    Sum<T> x[strip];

    __device__ Held(const natten_cuda_job &job, const Lane &lane, natten_role role,
                    const Place &place, int64_t count)
        : reader(reader_of(job, role, count))
    {
        const natten_view &view = job.task.view[role];
        row = view.data == nullptr
                  ? nullptr
                  : row_at<const T>(view, place.batch, place.head, place.at);
        load(x, reader, row, lane.from());
    }
};

/* The strip of a slice: the one at hand, or another one read. */
template <class T>
__device__ inline void slice_of(Sum<T> (&x)[strip], const Lane &lane,
                                const Reader &reader, const T *row, int64_t slice)
{
    if (!easy && slice != 0)
        load(x, reader, row, slice + lane.from());
}

} // namespace natten

#endif
