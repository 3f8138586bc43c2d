/* SPDX-License-Identifier: MIT
 *
 * Where the tokens are: the walk of a block over its share of queries or keys, and the
 * walk of a warp over the keys of a query or the queries of a key.  Spans come from
 * geometry/axis.h; everything else here is addresses, in 64 bits. */
#ifndef NATTEN_CUDA_DEVICE_WALK_CUH
#define NATTEN_CUDA_DEVICE_WALK_CUH

#include "cuda/device/lane.cuh"

namespace natten {

/* A token of one side, with its head. */
struct Place {
    int64_t batch, head;
    int64_t head_kv; /* of keys and values */
    int32_t at[3];   /* along the axes of its tensor */
};

enum class Side { queries, keys };

/* The tokens that a group works on, one after the other: its share of the pieces that
 * its block takes.  On each axis tokens are counted class by class, so that the tokens
 * of a tile share most of their windows, dilated or not. */
template <Side side> class Tokens {
  public:
    Place place;   /* the present token */
    bool exists;   /* else this group has none while others of the warp do */
    int64_t slice; /* first element of the slice of its row */

    __device__ Tokens(const natten_cuda_job &job_, const Lane &lane_)
        : job(job_), lane(lane_), piece(blockIdx.x), turn(lane_.group_of_block())
    {
        volume = job.tile[0] * job.tile[1] * job.tile[2];
        if (piece < job.pieces)
            open();
    }

    /* The next token; false when the warp has none left. */
    __device__ bool next()
    {
        while (piece < job.pieces) {
            while (turn - lane.group < volume) {
                exists = turn < volume && find();
                turn += lane.groups_of_block();
                if (__any_sync(all_lanes, exists))
                    return true;
            }
            turn = lane.group_of_block();
            piece += gridDim.x;
            if (piece < job.pieces)
                open();
        }
        return false;
    }

  private:
    const natten_cuda_job &job;
    const Lane &lane;
    int64_t piece, corner[3];
    int32_t turn, volume;

    __device__ int64_t count(int a) const
    {
        const natten_axis &axis = job.task.axis[a];
        return side == Side::queries ? axis.query_count : axis.key_count;
    }
    /* Positions allotted to each class; some of the last may not exist. */
    __device__ int64_t per_class(int a) const
    {
        int64_t d = job.task.axis[a].dilation;
        return (count(a) + d - 1) / d;
    }

    __device__ void open()
    {
        int64_t rest = piece;
        int64_t heads = side == Side::queries ? job.task.heads : job.task.heads_kv;
        place.head = rest % heads, rest /= heads;
        place.head_kv = side == Side::keys
                            ? place.head
                            : place.head / (job.task.heads / job.task.heads_kv);
        slice = rest % job.slices * NATTEN_CUDA_SLICE, rest /= job.slices;
        for (int a = 2; a >= 0; a--) {
            int64_t d = job.task.axis[a].dilation;
            int64_t classes = count(a) < d ? count(a) : d;
            int64_t tiles = (per_class(a) * classes + job.tile[a] - 1) / job.tile[a];
            corner[a] = rest % tiles * job.tile[a];
            rest /= tiles;
        }
        place.batch = rest;
        place.at[0] = place.at[1] = place.at[2] = 0;
    }

    /* The token of this turn, if it exists, else a legal place. Counts and positions
     * fit 32 bits without a sign, which divide much faster than 64. */
    __device__ bool find()
    {
        int32_t rest = turn;
        bool found = true;
        for (int a = 2; a >= 0; a--) {
            uint32_t d = (uint32_t)job.task.axis[a].dilation;
            uint32_t token = (uint32_t)corner[a] + (uint32_t)(rest % job.tile[a]);
            rest /= job.tile[a];
            if (d > 1) {
                uint32_t per = (uint32_t)per_class(a), residue = token / per;
                token = token % per * d + residue;
                found = found && residue < d;
            }
            found = found && token < (uint32_t)count(a);
            place.at[a] = found ? (int32_t)token : 0;
        }
        return found;
    }
};

/* The partners of a token: a box, in steps from its first corner. */
struct Box {
    uint32_t count[3];
    int32_t first[3]; /* along the axes of the partner's tensor */
    int32_t bias[3];  /* entry of bias of the first; one more for each step of a key,
                         one less for each step of a query */
    int32_t slot[3];  /* slot of the first key of a query */

    __device__ int64_t total() const
    {
        return (int64_t)count[0] * count[1] * count[2];
    }
};

/* The keys of the query at `at`, section 3 of the definition. */
__device__ inline Box keys_of(const natten_task &task, const int32_t (&at)[3])
{
    Box box;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task.axis[a];
        int32_t token = axis->query_begin + at[a], d = axis->dilation;
        int32_t g = d == 1 ? token : token / d;
        natten_class c = natten_axis_class(axis, token - g * d);
        natten_span window = natten_class_window(&c, g);
        natten_span keys = natten_span_clamp(window, c.keys);
        box.count[a] = (uint32_t)(keys.end - keys.begin);
        box.first[a] = c.key_index + (keys.begin - c.keys.begin) * d;
        box.bias[a] = keys.begin - g + axis->window - 1;
        box.slot[a] = keys.begin - window.begin;
    }
    return box;
}

/* The queries of the key at `at`, section 4. */
__device__ inline Box queries_of(const natten_task &task, const int32_t (&at)[3])
{
    Box box;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task.axis[a];
        int32_t token = axis->key_begin + at[a], d = axis->dilation;
        int32_t j = d == 1 ? token : token / d;
        natten_class c = natten_axis_class(axis, token - j * d);
        natten_span queries = natten_class_queries(&c, j);
        box.count[a] = (uint32_t)(queries.end - queries.begin);
        box.first[a] = c.query_index + (queries.begin - c.queries.begin) * d;
        box.bias[a] = j - queries.begin + axis->window - 1;
        box.slot[a] = 0;
    }
    return box;
}

/* Extra tokens, or any row of `total` things, as a box. */
__device__ inline Box row_box(int64_t total)
{
    return {{1, 1, (uint32_t)total}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}};
}

/* Steps into a box, last axis fastest; each group of a warp takes every groups-th. */
struct Steps {
    uint32_t at[3];

    __device__ Steps(const Box &box, uint32_t begin) : at{0, 0, 0}
    {
        advance(box, begin);
    }

    __device__ void advance(const Box &box, uint32_t by)
    {
        at[2] += by;
        while (at[2] >= box.count[2] && box.count[2] != 0) {
            at[2] -= box.count[2];
            if (++at[1] >= box.count[1])
                at[1] = 0, at[0]++;
        }
    }
};

/* Rows of a tensor at the steps of a box. */
template <class T> struct Track {
    T *base; /* nullptr: the tensor is not there */
    int64_t step[3];

    __device__ T *at(const Steps &s) const
    {
        return base + (s.at[0] * step[0] + s.at[1] * step[1] + s.at[2] * step[2]);
    }
};

template <class T>
__device__ inline T *row_at(const natten_view &view, int64_t batch, int64_t head,
                            const int32_t (&at)[3])
{
    int64_t offset = batch * view.batch + head * view.head;
    for (int a = 0; a < 3; a++)
        offset += at[a] * view.axis[a];
    return static_cast<T *>(view.data) + offset;
}

/* Rows of the partners in `box`, which lie a dilation apart. */
template <class T>
__device__ inline Track<T> track(const natten_task &task, natten_role role,
                                 int64_t batch, int64_t head, const Box &box)
{
    const natten_view &view = task.view[role];
    if (view.data == nullptr)
        return {nullptr, {0, 0, 0}};
    Track<T> t;
    t.base = row_at<T>(view, batch, head, box.first);
    for (int a = 0; a < 3; a++)
        t.step[a] = task.axis[a].dilation * view.axis[a];
    return t;
}

/* Rows of the extra tokens. */
template <class T>
__device__ inline Track<T> track_extras(const natten_task &task, natten_role role,
                                        int64_t batch, int64_t head)
{
    const natten_view &view = task.view[role];
    if (view.data == nullptr)
        return {nullptr, {0, 0, 0}};
    return {static_cast<T *>(view.data) + batch * view.batch + head * view.head,
            {0, 0, view.axis[2]}};
}

/* Entries of bias: `sign` 1 for the keys of a query, -1 for the queries of a key. */
template <class T>
__device__ inline Track<const Sum<T>> track_bias(const natten_task &task, int64_t head,
                                                 const Box &box, int sign)
{
    const natten_view &view = task.view[NATTEN_BIAS];
    if (view.data == nullptr)
        return {nullptr, {0, 0, 0}};
    return {row_at<const Sum<T>>(view, 0, head, box.bias),
            {sign * view.axis[0], sign * view.axis[1], sign * view.axis[2]}};
}

/* A count over the box of the windows (slots) or of the offsets (entries of bias), as
 * a number of the first and of a step on each axis. */
struct Numbering {
    int64_t first, step[3];

    __device__ int64_t at(const Steps &s) const
    {
        return first + s.at[0] * step[0] + s.at[1] * step[1] + s.at[2] * step[2];
    }
};

__device__ inline Numbering slots_of(const natten_task &task, const Box &box)
{
    Numbering n = {0, {1, 1, 1}};
    n.step[1] = task.axis[2].window;
    n.step[0] = n.step[1] * task.axis[1].window;
    for (int a = 0; a < 3; a++)
        n.first += box.slot[a] * n.step[a];
    return n;
}

__device__ inline Numbering entries_of(const natten_task &task, const Box &box)
{
    Numbering n = {0, {1, 1, 1}};
    n.step[1] = 2 * (int64_t)task.axis[2].window - 1;
    n.step[0] = n.step[1] * (2 * (int64_t)task.axis[1].window - 1);
    for (int a = 0; a < 3; a++)
        n.first += box.bias[a] * n.step[a];
    return n;
}

/* Number of a query with its head in compact accumulators [batch, axes..., heads]. */
__device__ inline int64_t query_number(const natten_task &task, int64_t batch,
                                       int64_t head, const int32_t (&at)[3])
{
    int64_t n = batch;
    for (int a = 0; a < 3; a++)
        n = n * task.axis[a].query_count + at[a];
    return n * task.heads + head;
}

} // namespace natten

#endif
