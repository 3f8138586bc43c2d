/* SPDX-License-Identifier: MIT
 *
 * What a crew's bringer does (device/wgmma_tile.cuh has the words): it finds items, has
 * the copy engine bring rows and boxes, or brings them itself where tensors lie so that
 * it can't, and tells the others what they have to know, some steps ahead of them.  It
 * is one warp, which waits for every instruction of its own, so for gradients there are
 * two: of tokens, whose steps want lse and delta too, one moves and one tells; of
 * queries the second has the rows' lse and delta (device/wgmma_stats.cuh).  What has to
 * come from far is asked for first, as soon as there is a place for it. */
#ifndef NATTEN_CUDA_DEVICE_WGMMA_BRING_CUH
#define NATTEN_CUDA_DEVICE_WGMMA_BRING_CUH

#include "cuda/device/wgmma_stats.cuh"

namespace natten {

/* What its tile is, for this bringer; and, if it tells, for the crew, when there is a
 * place for it. */
template <class T, natten_cuda_wgmma_pass pass, bool engine>
template <bool tells>
__device__ inline typename WGMMA_TILE_OF::Found
WGMMA_TILE_OF::find_item(int32_t number) const
{
    /* Zeros, else the compiler keeps the last item's, which see_rows() sets anew. */
    Found f = {};
    __syncwarp(); /* nobody reads what was found before */
    const Digit digits(info()->digit[lane % 8]);
    int32_t digit = digits.of(number);
    f.head = __shfl_sync(all_lanes, digit, 6);
    f.batch = __shfl_sync(all_lanes, digit, 7);
    if (is_dilated()) {
        int32_t residue = __shfl_sync(all_lanes, digit, lane + 3);
        __syncwarp();
        if (lane < 3 && job.task.axis[lane].dilation > 1)
            axis(lane) = natten_axis_class(&job.task.axis[lane], residue);
        __syncwarp();
    }
    if (tells)
        barrier_wait(item_left(), own.parity() ^ 1);
    see_rows<tells>(f, digits, digit);
    for (int n = 0; n < 2; n++)
        f.aim[n] = aim(partner_role(n), false);
    if (tells && tells_apart)
        barrier_arrive(rows_full());
    return f;
}

/* Note what each row of the tile sees, and tell what it is; of each axis the first and
 * the last row come before all. */
template <class T, natten_cuda_wgmma_pass pass, bool engine>
template <bool tells>
__device__ inline void WGMMA_TILE_OF::see_rows(Found &f, const Digit &digits,
                                               int32_t digit) const
{
    const natten_cuda_wgmma &w = job.wgmma;
    const int32_t(&tile)[3] = w.tile;
    natten_cuda_wgmma_item &to = info()->item[own.stage()];
#pragma unroll 1
    for (int32_t i = lane - 6; i - lane < count_places(); i += NATTEN_CUDA_WARP) {
        int a = i < 0 ? (i + 6) % 3 : i < tile[0] ? 0 : 1 + (i >= tile[0] + tile[1]);
        int32_t side = a == 0 ? tile[0] : a == 1 ? tile[1] : tile[2];
        int32_t row = i < 0    ? 0
                      : a == 0 ? i
                      : a == 1 ? i - tile[0]
                               : i - tile[0] - tile[1];
        const natten_class &c = axis(a);
        natten_span all = of_queries ? c.queries : c.keys, near = {0, 0};
        int32_t first =
            natten_min(all.begin + __shfl_sync(all_lanes, digit, a) * side, all.end);
        int32_t end = natten_min(first + side, all.end);
        /* A place that is not there is told what the last one is, for a row that sees
         * nothing has its reference looked at in each step. */
        int32_t g = i + 3 >= 0 && i < 0 ? end - 1 : natten_min(first + row, end - 1);
        if (first < end) {
            int32_t from = of_queries ? c.keys.begin : c.queries.begin;
            near = partners_of(c, g);
            near.begin -= from, near.end -= from;
        }
        if (i < lane - 5) { /* the first time */
            uint32_t limit = lane < 3 ? (uint32_t)(0x7f + end - first) << 8 * lane : 0;
            int32_t place = first - all.begin,
                    stop = __shfl_sync(all_lanes, near.end, lane + 3),
                    boxes = digits.side(natten_max(0, stop - near.begin) +
                                        (int32_t)digits.side.divisor - 1);
            limit = __reduce_or_sync(all_lanes, limit);
            f.steps = of_queries ? 1 : w.group;
            f.seen_from = __shfl_sync(all_lanes, near.begin, lane + 3);
            f.seen_to = near.end - (int32_t)digits.side.divisor;
            if (lane >= 3)
                f.seen_from = INT32_MIN, f.seen_to = INT32_MAX;
#pragma unroll
            for (int b = 0; b < 3; b++) {
                f.begin[b] = __shfl_sync(all_lanes, near.begin, b);
                f.stop[b] = __shfl_sync(all_lanes, near.end, 3 + b);
                f.row[b] = __shfl_sync(all_lanes, place, b);
                f.steps *= __shfl_sync(all_lanes, boxes, b);
            }
            place = lane < 3 ? (of_queries ? c.query_index : c.key_index) +
                                   place * job.task.axis[lane].dilation
                             : 0;
            const int32_t at[3] = {__shfl_sync(all_lanes, place, 0),
                                   __shfl_sync(all_lanes, place, 1),
                                   __shfl_sync(all_lanes, place, 2)};
            if (tells && lane < 3)
                to.at[lane] = place;
            if (tells && lane < 2) {
                natten_role role = result_role(lane);
                to.result[lane] = begin_of(job, role) +
                                  offset_of<sizeof(T)>(job, role, f.batch, f.head, at);
            }
            if (tells && lane == 0)
                to.batch = f.batch, to.head = f.head, to.steps = f.steps,
                to.limit = limit;
        }
        if (tells && i >= 0 && i < count_places())
            found().seen[i] = near;
    }
    __syncwarp();
}

/* The item's rows, as soon as those of the item before are not needed any more. */
WGMMA_TILE void WGMMA_TILE_OF::bring_rows(const Found &f) const
{
    const uint32_t left_parity = (uint32_t)own.stage() ^ 1;
    const natten_cuda_wgmma &w = job.wgmma;
    if constexpr (engine) {
        Aim to[Shape::tensors];
#pragma unroll
        for (int n = 0; n < Shape::tensors; n++) {
            to[n] = aim(row_role(n), true);
            to[n].inner += (int32_t)(f.head * job.task.view[row_role(n)].head);
        }
        barrier_wait(rows_left(), left_parity);
        if (is_elected()) {
            barrier_expect(rows_full(),
                           (uint32_t)(Shape::tensors * volume(w.tile) * row_bytes));
#pragma unroll
            for (int n = 0; n < Shape::tensors; n++) {
                const int32_t at[5] = {to[n].inner, f.row[2], f.row[1], f.row[0],
                                       f.batch};
                copy_box(rows(n), &job.map[2 + n][to[n].kind], rows_full(), at);
            }
        } else if (!tells_apart) { /* what each lane has told is there, too */
            barrier_arrive(rows_full());
        }
    } else {
        barrier_wait(rows_left(), left_parity);
        for (int n = 0; n < Shape::tensors; n++)
            bring_rows_by_lanes(row_role(n), rows(n), w.tile, true, f.row, f, f.head);
        wait_for_copies();
        publish_shared();
        barrier_arrive(rows_full());
    }
}

/* Tensor n of a step, whose box begins at these places of the class. */
WGMMA_TILE void WGMMA_TILE_OF::bring_box(int n, int stage, const Found &f,
                                         const Held &held, const int32_t (&at)[3],
                                         int32_t head) const
{
    natten_role role = partner_role(n);
    if constexpr (engine) {
        const int32_t place[5] = {held.inner[n], at[2], at[1], at[0], f.batch};
        if (is_elected()) {
            barrier_expect(full(n, stage), held.box_bytes);
            copy_box(partners(n, stage), &job.map[n][kept((uint32_t)f.aim[n].kind)],
                     full(n, stage), place);
        }
    } else {
        bring_rows_by_lanes(role, partners(n, stage), job.wgmma.box, false, at, f,
                            head);
        wait_for_copies();
        publish_shared();
        barrier_arrive(full(n, stage));
    }
}

/* What the copy engine would do: zeros where there is no token. */
WGMMA_TILE void WGMMA_TILE_OF::bring_rows_by_lanes(natten_role role, uint32_t to,
                                                   const int32_t (&box)[3],
                                                   bool of_rows,
                                                   const int32_t (&first)[3],
                                                   const Found &f, int32_t head) const
{
    constexpr int chunks = Lay::chunks;
    Source<T> source(job, role);
    bool queries = of_rows == of_queries;
    for (int i = lane; i < volume(box) * chunks; i += NATTEN_CUDA_WARP) {
        uint32_t of = slot_of(box, i / chunks);
        int32_t at[3];
        bool exists = true;
        for (int a = 0; a < 3; a++) {
            const natten_class &c = axis(a);
            natten_span all = queries ? c.queries : c.keys;
            int32_t place = first[a] + (int32_t)(of >> 8 * a & 0xff);
            exists = exists && place < all.end - all.begin;
            at[a] = (queries ? c.query_index : c.key_index) +
                    place * job.task.axis[a].dilation;
        }
        uint32_t word = to + Lay::place(i / chunks, i % chunks);
        if (exists)
            source.copy(word,
                        reinterpret_cast<const T *>(
                            begin_of(job, role) +
                            offset_of<sizeof(T)>(job, role, f.batch, head, at)),
                        i % chunks);
        else
            *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(word)) = {0, 0, 0, 0};
    }
}

/* Begin to copy lse and delta of a box of queries, the first of which is there in the
 * class; zeros where there is none. */
WGMMA_TILE void WGMMA_TILE_OF::bring_stats(uint32_t to, const int32_t (&first)[3],
                                           const Found &f, int32_t head) const
{
    int32_t at[3];
    uint32_t limit = 0; /* as of an item */
#pragma unroll
    for (int a = 0; a < 3; a++) {
        const natten_class &c = axis(a);
        int32_t rest = c.queries.end - c.queries.begin - first[a];
        limit |= (uint32_t)(0x7f + natten_clamp(rest, 0, 0x7f)) << 8 * a;
        at[a] = c.query_index + first[a] * job.task.axis[a].dilation;
    }
    const char *from = begin_of(job, stats_role) + stats_offset(job, f.batch, head, at);
#pragma unroll
    for (int i = 0; i < columns; i += NATTEN_CUDA_WARP) {
        int32_t n = i + lane;
        if (n >= volume(job.wgmma.box))
            break;
        bool exists = ((limit - info()->query_place[n]) & 0x808080u) == 0x808080u;
        const char *own_ = exists ? from + info()->query_offset[n] : from;
        const uint32_t place = to + (uint32_t)(4 * (i + stats_place(lane)));
        copy4(place, own_, exists);
        copy4(place + 4 * NATTEN_CUDA_WGMMA_STATS, own_ + 4, exists);
    }
}

/* Does every row of the tile see all of the box, and is every place of it there? */
WGMMA_TILE bool WGMMA_TILE_OF::is_seen(const Found &f, const Held &held,
                                       const int32_t (&at)[3]) const
{
    int32_t begin = lane == 0 ? at[0] : lane == 1 ? at[1] : at[2];
    return __all_sync(all_lanes, begin >= f.seen_from && begin <= f.seen_to) &&
           held.box_bytes == columns * row_bytes;
}

/* The i-th, the first axis's before the second's. */
template <class T, natten_cuda_wgmma_pass pass, bool engine>
__device__ inline typename WGMMA_TILE_OF::TilePlace
WGMMA_TILE_OF::place_number(int32_t i) const
{
    const natten_cuda_wgmma &w = job.wgmma;
    int a = i < w.tile[0] ? 0 : 1 + (i >= w.tile[0] + w.tile[1]);
    if (i >= count_places())
        a = -1;
    int32_t side = a == 0 ? w.box[0] : a == 1 ? w.box[1] : w.box[2];
    int32_t first = a == 0 ? w.first_hot[0] : a == 1 ? w.first_hot[1] : w.first_hot[2];
    return {a, side, side == 1 ? 0 : first};
}

/* Tell what of a box, which begins there in the class, the i-th place does not see;
 * `seen` is what it sees of the class.  What is hidden are its columns but for those of
 * partners seen; where the box has one partner along the axis, all bits or none. */
WGMMA_TILE void WGMMA_TILE_OF::hide_from(const TilePlace &place,
                                         const natten_span &seen, int32_t i,
                                         const int32_t (&at)[3],
                                         natten_cuda_wgmma_step &step) const
{
    int32_t begin = place.axis == 0 ? at[0] : place.axis == 1 ? at[1] : at[2];
    int32_t from = natten_clamp(seen.begin - begin, 0, place.side),
            to = natten_max(natten_min(seen.end - begin, place.side), from);
    const int32_t always = job.wgmma.hot_always;
    const uint32_t times = place.side == 1 ? UINT32_MAX : 1;
    step.hidden[0][i] =
        (bits(place.first, place.side) & ~bits(place.first + from, to - from)) * times |
        (place.axis == 0 ? bits(always, 1) : 0);
    if (!has_few_hot())
#pragma unroll 1
        for (int k = 1; k < NATTEN_CUDA_WGMMA_HOT_WORDS; k++) {
            int32_t first = place.first - (place.side == 1 ? 0 : 32 * k);
            step.hidden[k][i] =
                (bits_after(first, place.side) & ~bits_after(first + from, to - from)) *
                    times |
                (place.axis == 0 ? bits_after(always - 32 * k, 1) : 0);
        }
}

/* A box of the item, which begins there in the class, of a head of partners.  A crew
 * waits for this warp in each step, so what it needs for that is in registers. */
template <class T, natten_cuda_wgmma_pass pass, bool engine>
template <bool tells, bool moves>
__device__ inline void WGMMA_TILE_OF::bring_step(const Found &f, const Held &held,
                                                 const int32_t (&at)[3], int32_t head,
                                                 Turns &turns) const
{
    const int stage = turns.first.stage();
    barrier_wait(left(0, stage), turns.first.parity() ^ 1);
    if (moves) /* at once, for this takes longest */
        bring_box(0, stage, f, held, at, head);
    if (tells) {
        natten_cuda_wgmma_step &step = info()->step[stage];
        if (!of_queries) {
            bring_stats(stats(stage), at, f, head);
            barrier_follow_copies(full(0, stage));
        }
        const bool masked = !is_seen(f, held, at);
        if (is_elected())
            step.masked = masked;
        if (masked && held.place.axis >= 0)
            hide_from(held.place, held.seen, lane, at, step);
        if (masked)
#pragma unroll 1
            for (int32_t i = lane + NATTEN_CUDA_WARP; i < count_places();
                 i += NATTEN_CUDA_WARP)
                hide_from(place_number(i), found().seen[i], i, at, step);
        barrier_arrive(full(0, stage));
    }
    if (moves) {
        barrier_wait(left(1, turns.second().stage()), turns.second().parity() ^ 1);
        bring_box(1, turns.second().stage(), f, held, at, head);
    }
    turns.next();
}

template <class T, natten_cuda_wgmma_pass pass, bool engine>
template <bool tells, bool moves>
__device__ inline void WGMMA_TILE_OF::bring()
{
    const natten_cuda_wgmma &w = job.wgmma;
    Turns turns;
    if (lane < 3)
        axis(lane) = natten_axis_class(&job.task.axis[lane], 0);
    __syncwarp();
    Held held = {kept((uint32_t)(volume(w.box) * row_bytes)), place_number(lane)};
    for (int32_t number = first_item(); number < w.items; number += item_step()) {
        const Found f = find_item<tells>(number);
        if (moves)
            bring_rows(f);
        if (tells)
            held.seen = found().seen[lane];
        int32_t heads = of_queries ? 1 : w.group, at[3];
        int32_t first = !of_queries    ? f.head * w.group
                        : w.group == 1 ? f.head /* most often, without dividing */
                                       : f.head / w.group;
        for (int32_t head = first; head < first + heads && f.steps > 0; head++) {
            for (int n = 0; n < 2; n++)
                held.inner[n] = f.aim[n].inner +
                                head * (int32_t)job.task.view[partner_role(n)].head;
            for (at[0] = f.begin[0]; at[0] < f.stop[0]; at[0] += w.box[0])
                for (at[1] = f.begin[1]; at[1] < f.stop[1]; at[1] += w.box[1])
                    for (at[2] = f.begin[2]; at[2] < f.stop[2]; at[2] += w.box[2])
                        bring_step<tells, moves>(f, held, at, head, turns);
        }
        own.next();
    }
}

} // namespace natten

#endif
