/* SPDX-License-Identifier: MIT
 *
 * Rows of attn: qk's logits, and the gradient of av's weights (docs/definition.md,
 * section 8).  A group for a query and head takes the slots of the row, empty ones
 * included, so that each slot is written once. */
#ifndef NATTEN_CUDA_SIMT_SLOTS_CUH
#define NATTEN_CUDA_SIMT_SLOTS_CUH

#include "cuda/device/keys.cuh"

namespace natten {

/* A row that is being written, and what its slots are products of. */
template <class T> struct SlotRow {
    T *row; /* nullptr: this group has no query */
    int64_t item;
    Sum<T> scale, empty;
    bool of_keys; /* products with keys; else with values */
};

/* Write the slots of the box `window`, of which `keys` are there. */
template <class T>
__device__ inline void write_slots(const SlotRow<T> &to, const Lane &lane,
                                   const Held<T> &left, const Keys<T> &keys,
                                   const Box &window)
{
    const Track<const T> &track = to.of_keys ? keys.key : keys.value;
    const Reader &reader = to.of_keys ? keys.key_reader : keys.value_reader;
    int64_t slot = keys.slots.first;
    for (int a = 0; a < 3; a++)
        slot -= keys.box.slot[a] * keys.slots.step[a];
    for (Visits v(lane, window, Visit::alone); v.more(); v.advance(), slot++) {
        Steps at = v.at;
        bool seen = v.sees() && to.row != nullptr;
        for (int a = 0; a < 3; a++) { /* below 0 wraps to something large */
            at.at[a] -= (uint32_t)keys.box.slot[a];
            seen = seen && at.at[a] < keys.box.count[a];
        }
        const T *right = seen ? track.at(at) : nullptr;
        Sum<T> x[strip];
        load(x, reader, right, lane.from());
        Sum<T> bias =
            seen && to.of_keys && keys.bias.base ? __ldg(keys.bias.at(at)) : Sum<T>(0);
        Sum<T> product =
            lane.sum(share(lane, left.x, left.reader, left.row, x, reader, right));
        product = fma(to.scale, product, bias);
        if (v.sees() && to.row != nullptr && lane.within == 0)
            narrow(to.row + slot * to.item, seen ? product : to.empty);
    }
}

/* Logits if `of_keys`, else the gradient of weights. */
template <class T, bool of_keys> __device__ void slots(const natten_cuda_job &job)
{
    const natten_task &task = job.task;
    Lane lane(job.lanes);
    Tokens<Side::queries> tokens(job, lane);
    while (tokens.next()) {
        const Place &place = tokens.place;
        const natten_view &view = task.view[of_keys ? NATTEN_ATTN : NATTEN_GRAD_ATTN];
        SlotRow<T> to = {tokens.exists
                             ? row_at<T>(view, place.batch, place.head, place.at)
                             : nullptr,
                         view.item, of_keys ? (Sum<T>)task.scale : Sum<T>(1),
                         of_keys ? Sum<T>(-INFINITY) : Sum<T>(0), of_keys};
        Held<T> left(job, lane, of_keys ? NATTEN_QUERY : NATTEN_GRAD_OUT, place,
                     of_keys ? task.dim : task.dim_v);
        Box window = {{(uint32_t)task.axis[0].window, (uint32_t)task.axis[1].window,
                       (uint32_t)task.axis[2].window},
                      {0, 0, 0},
                      {0, 0, 0},
                      {0, 0, 0}};
        write_slots(to, lane, left, grid_keys<T>(job, place), window);
        if (task.extras > 0)
            write_slots(to, lane, left, extra_keys<T>(job, place),
                        row_box(task.extras));
    }
}

} // namespace natten

#endif
