/* SPDX-License-Identifier: MIT
 *
 * What a crew's bringer does (device/wgmma_tile.cuh has the words): it finds items, has
 * the copy engine bring rows and boxes, or brings them itself where tensors lie so that
 * it can't, and tells the others what they have to know, some steps ahead of them.  It
 * is one warp, and waits for every instruction of its own: what it does for a step is
 * some 80 of them, for an item some 300. */
#ifndef NATTEN_CUDA_DEVICE_WGMMA_BRING_CUH
#define NATTEN_CUDA_DEVICE_WGMMA_BRING_CUH

#include "cuda/device/wgmma_tile.cuh"

namespace natten {

WGMMA_TILE WGMMA_TILE_OF::Digit::Digit(const natten_cuda_job &job, int32_t lane)
    : below(1), count(INT32_MAX), side(1)
{
    const natten_cuda_wgmma &w = job.wgmma;
    constexpr int first =
        pass == NATTEN_CUDA_WGMMA_FORWARD ? 0 : 6; /* tiles, or heads */
    int32_t before = 1, own = 1, product = 1;
    for (int i = first; i < first + 8; i++) {
        int n = i % 8, a = 2 - n / 2, number = n >= 6 ? n : n % 2 == 0 ? a : 3 + a;
        int32_t digits =
            n == 6       ? (int32_t)(of_queries ? job.task.heads : job.task.heads_kv)
            : n == 7     ? (int32_t)job.task.batch
            : n % 2 == 0 ? w.tiles[a]
                         : job.task.axis[a].dilation;
        if (lane == number)
            before = product, own = digits;
        product *= digits;
    }
    if (lane < 3)
        side = Divider(w.box[lane]);
    below = Divider(before), count = Divider(own);
}

WGMMA_TILE WGMMA_TILE_OF::Queries::Queries(const natten_cuda_job &job,
                                           const int32_t (&box)[3], int32_t lane)
{
#pragma unroll
    for (int i = 0; i < count; i++) {
        place[i] = slot_of(box, lane + i * NATTEN_CUDA_WARP);
        int32_t at[3];
        for (int a = 0; a < 3; a++)
            at[a] = (int32_t)(place[i] >> 8 * a & 0xff) * job.task.axis[a].dilation;
        offset[i] = place[i] == nowhere ? 0 : stats_offset(job, 0, 0, at);
    }
}

/* What its tile is: axis(), item[turn] and `f`. */
WGMMA_TILE void WGMMA_TILE_OF::find_item(Found &f, const Digit &own,
                                         int32_t digit) const
{
    f.head = __shfl_sync(all_lanes, digit, 6);
    f.batch = __shfl_sync(all_lanes, digit, 7);
    if (is_dilated()) {
        int32_t residue = __shfl_sync(all_lanes, digit, lane + 3);
        __syncwarp();
        if (lane < 3 && job.task.axis[lane].dilation > 1)
            axis(lane) = natten_axis_class(&job.task.axis[lane], residue);
        __syncwarp();
    }
    see_rows(f, own, digit);
    for (int n = 0; n < 2; n++)
        f.aim[n] = aim(partner_role(n), false);
}

/* Tell what each row of the tile sees; of each axis the first and the last row come
 * before all. */
WGMMA_TILE void WGMMA_TILE_OF::see_rows(Found &f, const Digit &own, int32_t digit) const
{
    const natten_cuda_wgmma &w = job.wgmma;
    const int32_t(&tile)[3] = w.tile;
    natten_cuda_wgmma_item &to = info()->item[turn];
#pragma unroll 1
    for (int32_t i = lane - 6; i - lane < tile[0] + tile[1] + tile[2];
         i += NATTEN_CUDA_WARP) {
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
        int32_t g = i + 3 >= 0 && i < 0 ? end - 1 : first + row;
        if (first < end && g < end) {
            int32_t from = of_queries ? c.keys.begin : c.queries.begin;
            near = partners_of(c, g);
            near.begin -= from, near.end -= from;
        }
        if (i < lane - 5) { /* the first time */
            uint32_t limit = lane < 3 ? (uint32_t)(0x7f + end - first) << 8 * lane : 0;
            int32_t place = first - all.begin,
                    stop = __shfl_sync(all_lanes, near.end, lane + 3),
                    boxes = own.side(natten_max(0, stop - near.begin) +
                                     (int32_t)own.side.divisor - 1);
            limit = __reduce_or_sync(all_lanes, limit);
            f.steps = of_queries ? 1 : w.group;
#pragma unroll
            for (int b = 0; b < 3; b++) {
                f.begin[b] = __shfl_sync(all_lanes, near.begin, b);
                f.every[b].end = __shfl_sync(all_lanes, near.end, b);
                f.every[b].begin = __shfl_sync(all_lanes, near.begin, 3 + b);
                f.stop[b] = __shfl_sync(all_lanes, near.end, 3 + b);
                f.row[b] = __shfl_sync(all_lanes, place, b);
                f.steps *= __shfl_sync(all_lanes, boxes, b);
            }
            if (lane < 3)
                to.at[lane] = (of_queries ? c.query_index : c.key_index) +
                              place * job.task.axis[lane].dilation;
            if (lane == 0)
                to.batch = f.batch, to.head = f.head, to.steps = f.steps,
                to.limit = limit;
        }
        int32_t begin = a == 0 ? f.begin[0] : a == 1 ? f.begin[1] : f.begin[2];
        if (i >= 0 && i < tile[0] + tile[1] + tile[2])
            to.seen[i] = {near.begin - begin, near.end - begin};
    }
    __syncwarp();
}

WGMMA_TILE void WGMMA_TILE_OF::bring_rows(const Found &f, const Queries &queries) const
{
    const natten_cuda_wgmma &w = job.wgmma;
    if (pass == NATTEN_CUDA_WGMMA_GRAD_QUERY) {
        bring_stats(queries, shared_address(info()->row_stats), f.row, f.batch, f.head);
        barrier_follow_copies(rows_full());
    }
    if (engine && is_elected())
        barrier_expect(rows_full(),
                       (uint32_t)(Shape::tensors * volume(w.tile) * row_bytes));
    else if (engine) /* what each lane has told of the item is there, too */
        barrier_arrive(rows_full());
    for (int n = 0; n < Shape::tensors; n++) {
        natten_role role = row_role(n);
        if constexpr (engine) {
            Aim to = aim(role, true);
            const int32_t at[5] = {to.inner +
                                       (int32_t)(f.head * job.task.view[role].head),
                                   f.row[2], f.row[1], f.row[0], f.batch};
            if (is_elected())
                copy_box(rows(n), &job.map[2 + n][to.kind], rows_full(), at);
        } else {
            bring_rows_by_lanes(role, rows(n), w.tile, true, f.row, f.batch, f.head);
        }
    }
    if (!engine) {
        wait_for_copies();
        publish_shared();
        barrier_arrive(rows_full());
    }
}

/* Tensor n of a step, whose box begins at these places of the class. */
WGMMA_TILE void WGMMA_TILE_OF::bring_box(int n, int stage, const Found &f,
                                         const int32_t (&at)[3], int32_t head) const
{
    natten_role role = partner_role(n);
    if constexpr (engine) {
        const int32_t place[5] = {f.aim[n].inner +
                                      head * (int32_t)job.task.view[role].head,
                                  at[2], at[1], at[0], f.batch};
        if (is_elected()) {
            barrier_expect(full(n, stage),
                           (uint32_t)(volume(job.wgmma.box) * row_bytes));
            copy_box(partners(n, stage), &job.map[n][f.aim[n].kind], full(n, stage),
                     place);
        }
    } else {
        bring_rows_by_lanes(role, partners(n, stage), job.wgmma.box, false, at, f.batch,
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
                                                   int32_t batch, int32_t head) const
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
                            offset_of<sizeof(T)>(job, role, batch, head, at)),
                        i % chunks);
        else
            *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(word)) = {0, 0, 0, 0};
    }
}

/* Begin to copy lse and delta of queries, the first of which is there in the class;
 * zeros where there is none. */
WGMMA_TILE void WGMMA_TILE_OF::bring_stats(const Queries &queries, uint32_t to,
                                           const int32_t (&first)[3], int32_t batch,
                                           int32_t head) const
{
    const int32_t(&box)[3] = of_queries ? job.wgmma.tile : job.wgmma.box;
    int32_t at[3];
    uint32_t limit = 0; /* as of an item */
#pragma unroll
    for (int a = 0; a < 3; a++) {
        const natten_class &c = axis(a);
        int32_t rest = c.queries.end - c.queries.begin - first[a];
        limit |= (uint32_t)(0x7f + natten_clamp(rest, 0, 0x7f)) << 8 * a;
        at[a] = c.query_index + first[a] * job.task.axis[a].dilation;
    }
    const char *from = begin_of(job, stats_role) + stats_offset(job, batch, head, at);
#pragma unroll
    for (int i = 0; i < Queries::count; i++) {
        int32_t n = lane + i * NATTEN_CUDA_WARP;
        bool exists = ((limit - queries.place[i]) & 0x808080u) == 0x808080u;
        if (n < volume(box))
            copy8(to + (uint32_t)(8 * n), exists ? from + queries.offset[i] : from,
                  exists);
    }
}

/* Does every row of the tile see all of the box, and is every place of it there? */
WGMMA_TILE bool WGMMA_TILE_OF::is_seen(const Found &f, const int32_t (&at)[3]) const
{
    bool seen = volume(job.wgmma.box) == columns;
#pragma unroll
    for (int a = 0; a < 3; a++)
        seen = seen && at[a] >= f.every[a].begin &&
               at[a] + job.wgmma.box[a] <= f.every[a].end;
    return seen;
}

/* A box of the item, which begins there in the class, of a head of partners. */
WGMMA_TILE void WGMMA_TILE_OF::bring_step(const Found &f, const Queries &queries,
                                          const int32_t (&at)[3], int32_t head,
                                          Turns &turns) const
{
    const natten_cuda_wgmma_step step = {
        {at[0] - f.begin[0], at[1] - f.begin[1], at[2] - f.begin[2]}, !is_seen(f, at)};
    const int stage = turns.first.stage;
    barrier_wait(left(0, stage), turns.first.parity ^ 1);
    if (!of_queries) {
        bring_stats(queries, stats(stage), at, f.batch, head);
        barrier_follow_copies(full(0, stage));
    }
    if (is_elected())
        info()->step[stage] = step;
    bring_box(0, stage, f, at, head);
    barrier_wait(left(1, turns.second.stage), turns.second.parity ^ 1);
    bring_box(1, turns.second.stage, f, at, head);
    turns.first.next(), turns.second.next();
}

/* All boxes of an item, of each head that it meets. */
WGMMA_TILE void WGMMA_TILE_OF::bring_boxes(const Found &f, const Queries &queries,
                                           Turns &turns) const
{
    const natten_cuda_wgmma &w = job.wgmma;
    int32_t heads = of_queries ? 1 : w.group, at[3];
    int32_t first = of_queries ? f.head / w.group : f.head * w.group;
    for (int32_t head = first; head < first + heads && f.steps > 0; head++)
        for (at[0] = f.begin[0]; at[0] < f.stop[0]; at[0] += w.box[0])
            for (at[1] = f.begin[1]; at[1] < f.stop[1]; at[1] += w.box[1])
                for (at[2] = f.begin[2]; at[2] < f.stop[2]; at[2] += w.box[2])
                    bring_step(f, queries, at, head, turns);
}

WGMMA_TILE void WGMMA_TILE_OF::bring()
{
    const natten_cuda_wgmma &w = job.wgmma;
    const Digit own(job, lane);
    const Queries queries(job, of_queries ? w.tile : w.box, lane);
    Turns turns;
    uint32_t parity = 0, left_parity = 1;
    if (lane < 3)
        axis(lane) = natten_axis_class(&job.task.axis[lane], 0);
    __syncwarp();
    for (int32_t number = first_item(); number < w.items; number += item_step()) {
        Found f;
        int32_t digit = own.of(number);
        barrier_wait(item_left(), left_parity);
        find_item(f, own, digit);
        barrier_wait(rows_left(), parity ^ 1);
        bring_rows(f, queries);
        parity ^= 1;
        bring_boxes(f, queries, turns);
        if (turn == 1)
            left_parity ^= 1;
        turn ^= 1;
    }
}

} // namespace natten

#endif
