/* SPDX-License-Identifier: MIT
 *
 * What the bringer of a block does that goes down bands (device/band_tile.cuh has the
 * words): it finds items and their steps, has the copy engine bring groups and rows, or
 * brings them itself where tensors lie so that it can't, and tells crews what they have
 * to know, some steps ahead of them. */
#ifndef NATTEN_CUDA_DEVICE_BAND_BRING_CUH
#define NATTEN_CUDA_DEVICE_BAND_BRING_CUH

#include "cuda/device/band_tile.cuh"

namespace natten {

#define BAND_TILE \
    template <class T, natten_cuda_band_pass pass, bool engine> __device__ inline
#define BAND_TILE_OF BandTile<T, pass, engine>

template <class T, natten_cuda_band_pass pass, bool engine>
__device__ inline typename BAND_TILE_OF::Aim BAND_TILE_OF::aim(const Item &item,
                                                               bool of_rows) const
{
    const bool queries = of_rows == of_queries;
    const int32_t head = of_rows ? item.head : item.partner_head;
    Aim to = {0, {0, 0}};
    for (int n = 0; n < 2; n++) {
        const natten_view &view =
            job.task.view[of_rows ? row_role(n) : partner_role(n)];
        to.inner[n] = (int32_t)(head * view.head);
        for (int a = 1; a < 3; a++)
            to.inner[n] += (int32_t)(index_of(a == 1 ? item.down : item.across,
                                              job.task.axis[a], queries, 0) *
                                     view.axis[a]);
    }
    for (int a = 1; a < 3; a++) {
        const natten_axis &axis = job.task.axis[a];
        const natten_class &c = a == 1 ? item.down : item.across;
        int32_t rest = (queries ? axis.query_count : axis.key_count) % axis.dilation;
        bool is_short = rest != 0 && index_of(c, axis, queries, 0) >= rest;
        to.kind += is_short ? job.halo.short_kind[a] : 0;
    }
    return to;
}

/* Steps first .. end - 1 of an item; false if the class has none of them. */
BAND_TILE bool BAND_TILE_OF::find_item(int32_t number, int32_t first, int32_t end,
                                       Item &item) const
{
    const natten_cuda_band &b = job.band;
    int32_t own, x, y;
    number = divide(number, b.bands, own);
    number = divide(number, job.task.axis[2].dilation, x);
    number = divide(number, job.task.axis[1].dilation, y);
    item.batch = divide(
        number, (int32_t)(of_queries ? job.task.heads : job.task.heads_kv), item.head);
    item.partner_head = of_queries && b.group > 1 ? item.head / b.group : item.head;
    item.down = natten_axis_class(&job.task.axis[1], y);
    item.across = natten_axis_class(&job.task.axis[2], x);
    const natten_span down = rows_of_class(item.down),
                      across_ = rows_of_class(item.across);
    const int32_t count = across_.end - across_.begin;
    const natten_span columns = natten_cuda_band_columns(count, own);
    item.first = across_.begin + columns.begin;
    item.columns = columns.end - columns.begin;
    item.from = down.begin + first * side;
    item.to = natten_min(down.begin + end * side, down.end);
    if (own >= natten_cuda_band_count(count) || item.from >= item.to)
        return false;
    item.origin = partners_of(item.down, item.from).begin;
    item.origin -= (item.origin - partners_of_class(item.down).begin + b.lead) % side;
    /* Columns that are not there see what the last one does. */
    natten_span seen =
        partners_of(item.across, item.first + natten_min(lane, item.columns - 1));
    item.left = __shfl_sync(all_lanes, seen.begin, 0);
    item.begin = __shfl_sync(all_lanes, seen.begin, lane / side * side);
    int32_t width =
        __shfl_sync(all_lanes, seen.end, lane / side * side + side - 1) - item.begin;
    item.strips = natten_clamp((width + strip_columns - 1) / strip_columns, 1,
                               NATTEN_CUDA_BAND_STRIPS);
    item.seen = bits_between(seen.begin - item.begin, seen.end - item.begin);
    item.rows = aim(item, true);
    item.partners = aim(item, false);
    return true;
}

/* Bytes to the row of a tensor that a step's first token has. */
BAND_TILE int64_t BAND_TILE_OF::first_row(const Item &item, int32_t row,
                                          natten_role role) const
{
    const int32_t at[3] = {0,
                           index_of(item.down, job.task.axis[1], of_queries,
                                    row - rows_of_class(item.down).begin),
                           index_of(item.across, job.task.axis[2], of_queries,
                                    item.first - rows_of_class(item.across).begin)};
    return offset_of<sizeof(T)>(job, role, item.batch, item.head, at);
}

/* The place of the next step, once its crew has taken the one before.  Who read what
 * was told there has then begun another (band_tile.cuh asserts that there are few
 * enough crews); that all are done with its groups is asked so that no barrier is two
 * phases ahead of who asks. */
template <class T, natten_cuda_band_pass pass, bool engine>
__device__ inline typename BAND_TILE_OF::Step &BAND_TILE_OF::tell(Counts &n) const
{
    wait_for_rows_left(n.told - crews);
    while (n.done <= n.told - steps)
        see_done(n);
    if constexpr (!engine)
        meet_bringers(); /* nobody reads what was told there */
    return block()->step[n.told % steps];
}

/* The rows of that step have been read; there is none before the first. */
BAND_TILE void BAND_TILE_OF::wait_for_rows_left(int32_t told) const
{
    if (told >= 0)
        barrier_wait(rows_left(told % crews), (uint32_t)(told / crews & 1));
}

BAND_TILE void BAND_TILE_OF::see_done(Counts &n) const
{
    barrier_wait(done(n.done % steps), (uint32_t)(n.done / steps & 1));
    n.done++;
}

/* All groups so far have arrived.  A crew asks for a group as soon as its step is told,
 * maybe before it is begun, and the place would answer for what was there before if
 * that were still on its way.  Nor need crews ask for each. */
BAND_TILE void BAND_TILE_OF::see_arrived(Counts &n) const
{
    for (; n.arrived < n.groups; n.arrived++)
        barrier_wait(full(n.arrived % groups), (uint32_t)(n.arrived / groups & 1));
}

/* What a step of `count` rows is that meets the item's groups begin .. end - 1.  As
 * many are new at most as a block keeps, and none is skipped: no window ends before the
 * one above begins. */
BAND_TILE void BAND_TILE_OF::tell_step(Step &to, const Item &item, const Counts &n,
                                       int32_t count, int32_t begin, int32_t end) const
{
    const int32_t group = n.base + begin, fresh = n.base + end - n.groups;
    if (lane == 0) {
        to.extent = (uint32_t)(count << NATTEN_CUDA_BAND_AT_ROWS |
                               natten_max(fresh, 0) << NATTEN_CUDA_BAND_AT_FRESH |
                               item.columns << NATTEN_CUDA_BAND_AT_COLUMNS |
                               n.told % steps << NATTEN_CUDA_BAND_AT_PLACE |
                               (end - begin) << NATTEN_CUDA_BAND_AT_GROUPS |
                               (n.told / crews & 1) << NATTEN_CUDA_BAND_AT_PARITY |
                               group % (2 * groups) << NATTEN_CUDA_BAND_AT_TURN);
        to.group = group;
    }
    if (lane < band) {
        to.columns_seen[lane] = item.seen;
        if (lane % side == 0)
            to.box[lane / side] = {(int16_t)(item.begin - item.left),
                                   (int16_t)item.strips};
    }
}

/* Tell the step whose first row of tokens is there, and have its rows brought; then the
 * groups that nobody has needed before. */
BAND_TILE void BAND_TILE_OF::bring_step(const Item &item, int32_t row, Counts &n) const
{
    const int32_t count = natten_min(side, item.to - row);
    natten_span seen = partners_of(item.down, row + natten_min(lane % side, count - 1));
    seen.begin -= item.origin, seen.end -= item.origin;
    int32_t begin = __shfl_sync(all_lanes, seen.begin, 0) / side,
            end = (__shfl_sync(all_lanes, seen.end, side - 1) + side - 1) / side;
    Step &to = tell(n);
    const int32_t crew_ = n.told % crews;
    const uint32_t barrier = rows_full(crew_);
    const int32_t place[2] = {row - rows_of_class(item.down).begin,
                              item.first - rows_of_class(item.across).begin};
    for (int i = 0; i < Shape::tensors; i++)
        bring_tokens(i, true, item, place, tile(crew_, i), barrier);
    see_arrived(n);
    if (warp == 0) {
        tell_step(to, item, n, count, begin, end);
        if (lane < (has_own_stats ? 1 : 2)) {
            natten_role role = result_role(lane);
            to.result[lane] = begin_of(job, role) + first_row(item, row, role);
        }
        if (lane < side)
            to.seen[lane] =
                bits_between(seen.begin - begin * side, seen.end - begin * side);
    }
    if constexpr (!engine && has_own_stats)
        find_stats(item, row, n.told, warp);
    if (engine && is_elected())
        barrier_expect(barrier, Shape::tensors * tile_bytes);
    else
        barrier_arrive(barrier);
    n.told++;
    for (; n.groups < n.base + end; n.groups++)
        bring_group(item, n);
}

/* The item's next group, in the place of one that no step needs any more. */
BAND_TILE void BAND_TILE_OF::bring_group(const Item &item, Counts &n) const
{
    /* What was told of the last step is read here. */
    if constexpr (engine)
        __syncwarp();
    else
        meet_bringers();
    while (n.done < n.told && block()->step[n.done % steps].group <= n.groups - groups)
        see_done(n);
    const int32_t slot = n.groups % groups;
    const int32_t place[2] = {item.origin + (n.groups - n.base) * side -
                                  partners_of_class(item.down).begin,
                              item.left - partners_of_class(item.across).begin};
    const uint32_t barrier = full(slot);
    if (engine && is_elected())
        barrier_expect(barrier, 2 * group_bytes);
    for (int i = 0; i < 2; i++)
        bring_tokens(i, false, item, place,
                     partners(slot) + (uint32_t)(i * group_bytes), barrier);
    if (!of_queries) {
        bring_stats(item, place, stats(slot));
        barrier_follow_copies(barrier);
    }
    if (!engine)
        barrier_arrive(barrier);
}

/* Tensor n of rows or partners, the first of which is there in the class; by its map,
 * or by lanes. */
BAND_TILE void BAND_TILE_OF::bring_tokens(int n, bool of_rows, const Item &item,
                                          const int32_t (&place)[2], uint32_t to,
                                          uint32_t barrier) const
{
    if constexpr (engine) {
        const Aim &own = of_rows ? item.rows : item.partners;
        const int32_t at[5] = {own.inner[n], place[1], place[0], 0, item.batch};
        if (is_elected())
            copy_box(to, &job.map[of_rows ? 2 + n : n][own.kind], barrier, at);
    } else {
        bring_by_lanes(of_rows ? row_role(n) : partner_role(n), of_rows, item, place,
                       to);
    }
}

/* What the copy engine would do: zeros where there is no token. */
BAND_TILE void BAND_TILE_OF::bring_by_lanes(natten_role role, bool of_rows,
                                            const Item &item, const int32_t (&place)[2],
                                            uint32_t to) const
{
    constexpr int chunks = row_bytes / 16;
    const bool queries = of_rows == of_queries;
    const int32_t head = of_rows ? item.head : item.partner_head,
                  width = of_rows ? band : pitch;
    Source<T> source(job, role);
    for (int32_t i = warp * NATTEN_CUDA_WARP + lane; i < side * width * chunks;
         i += bringer_lanes) {
        int32_t token = i / chunks, at[3] = {0, 0, 0};
        bool is_there = true;
        for (int a = 0; a < 2; a++) {
            const natten_class &c = a == 0 ? item.down : item.across;
            natten_span all = queries ? c.queries : c.keys;
            int32_t far = place[a] + (a == 0 ? token / width : token % width);
            is_there = is_there && far >= 0 && far < all.end - all.begin;
            at[1 + a] = index_of(c, job.task.axis[1 + a], queries, far);
        }
        uint32_t word =
            to + (uint32_t)(token * row_bytes) + chunk_at(token, i % chunks);
        if (is_there)
            source.copy(word,
                        reinterpret_cast<const T *>(
                            begin_of(job, role) +
                            offset_of<sizeof(T)>(job, role, item.batch, head, at)),
                        i % chunks);
        else
            *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(word)) = {0, 0, 0, 0};
    }
    wait_for_copies();
}

/* Begin to copy lse and minus delta of a group's queries; zeros where there is none. */
BAND_TILE void BAND_TILE_OF::bring_stats(const Item &item, const int32_t (&place)[2],
                                         uint32_t to) const
{
    const natten_axis *axis = job.task.axis;
    const natten_span down = item.down.queries, across_ = item.across.queries;
    const int32_t far = place[1] + lane;
    const bool has_column =
        lane < pitch && far >= 0 && far < across_.end - across_.begin;
    for (int i = warp; i < side; i += bringers) {
        bool is_there =
            has_column && place[0] + i >= 0 && place[0] + i < down.end - down.begin;
        const int32_t at[3] = {0, index_of(item.down, axis[1], true, place[0] + i),
                               index_of(item.across, axis[2], true, far)};
        const char *from = begin_of(job, stats_role);
        if (is_there)
            from += offset_of<sizeof(T)>(job, stats_role, item.batch, item.partner_head,
                                         at);
        if (lane < pitch)
            copy8(to + (uint32_t)((i * pitch + lane) * 8), from, is_there);
    }
}

/* Tell the crew of a step lse to base 2 and minus delta of its rows, zeros where there
 * is none.  The first column of the warp, stats_warps of which do this, is `number`,
 * and its others are stats_warps apart; lane 8 i + n takes the n-th of them in row i.
 */
BAND_TILE void BAND_TILE_OF::find_stats(const Item &item, int32_t row, int32_t told,
                                        int32_t number) const
{
    const int32_t down = lane / strips_of_row,
                  columns = down < item.to - row ? item.columns : 0,
                  own = number + lane % strips_of_row * stats_warps;
    const int64_t base =
        first_row(item, row, stats_role) + (int64_t)down * job.band.step[1][0];
    const int64_t further = base + (int64_t)own * job.band.step[1][1];
    float2 stats = {0, 0};
    if constexpr (engine)
        if (job.halo.writes_delta)
            stats = work_delta_out(base, further, columns, number);
    if (!job.halo.writes_delta && own < columns)
        stats = __ldg(
            reinterpret_cast<const float2 *>(begin_of(job, stats_role) + further));
    wait_for_rows_left(told - crews);
    if (own < band) {
        float(&to)[2] = block()->own_stats[told % crews][down][own];
        to[0] = stats.x, to[1] = stats.y;
    }
}

/* What the lane tells, where delta is worked out here and written down for others, too:
 * the same sums in the same order as compact_delta()'s (halo_backward.cuh), by eight
 * lanes of a row.  `base` and `further` are where the first column's and the lane's own
 * statistics are in job.stats; rows of OUT and GRAD_OUT, lse and its gradient follow
 * each other as they do (add_delta() in cuda_plan.c). */
template <class T, natten_cuda_band_pass pass, bool engine>
__device__ inline float2 BAND_TILE_OF::work_delta_out(int64_t base, int64_t further,
                                                      int32_t columns,
                                                      int32_t number) const
{
    constexpr int turns = (band + stats_warps - 1) / stats_warps, together = 3;
    static_assert(turns <= strips_of_row && turns % together == 0);
    const int32_t strip_ = lane % strips_of_row;
    const bool has_own = number + strip_ * stats_warps < columns;
    constexpr int64_t wider = row_bytes / sizeof(float2); /* than statistics */
    const int64_t apart = job.band.step[1][1],
                  first = wider * (base + number * apart) + strip_ * 16,
                  step_ = wider * stats_warps * apart;
    const char *out = begin_of(job, NATTEN_OUT) + first,
               *grad = begin_of(job, NATTEN_GRAD_OUT) + first;
    /* What comes in the second turn is asked for at once. */
#pragma unroll
    for (int i = together; i < turns; i++)
        if (number + i * stats_warps < columns)
            bring_nearer(out + i * step_), bring_nearer(grad + i * step_);
    float lse = 0, grad_lse = 0, delta = 0;
    if (has_own) {
        lse = load_number(NATTEN_LSE, further / 2);
        if (job.task.view[NATTEN_GRAD_LSE].data != nullptr)
            grad_lse = load_number(NATTEN_GRAD_LSE, further / 2);
    }
#pragma unroll 1
    for (int turn = 0; turn < turns; turn += together) {
        uint4 left[together], right[together];
#pragma unroll
        for (int i = 0; i < together; i++) {
            left[i] = right[i] = {0, 0, 0, 0};
            if (number + (turn + i) * stats_warps < columns) {
                left[i] = __ldg(reinterpret_cast<const uint4 *>(out));
                right[i] = __ldg(reinterpret_cast<const uint4 *>(grad));
            }
            out += step_, grad += step_;
        }
#pragma unroll
        for (int i = 0; i < together; i++) {
            float sum = strip_sum<T>(left[i], right[i]);
#pragma unroll
            for (int far = strips_of_row / 2; far > 0; far /= 2)
                sum += __shfl_xor_sync(all_lanes, sum, far);
            delta = strip_ == turn + i ? sum : delta;
        }
    }
    if (!has_own)
        return {0, 0};
    delta -= grad_lse, lse = lse_of(lse);
    store_float(begin_of(job, delta_role) + further / 2, delta);
    store_words(begin_of(job, stats_role) + further, __float_as_uint(lse),
                __float_as_uint(-delta));
    return {lse, -delta};
}

/* The block's items one after the other, or what it has of them: work(item).  Steps are
 * those of all its items, and who counts them does so in this order. */
template <class T, natten_cuda_band_pass pass, bool engine>
template <class Work>
__device__ __forceinline__ void BAND_TILE_OF::each_item(const Work &work) const
{
    const natten_cuda_band &b = job.band;
    natten_cuda_band_place at = {(int32_t)blockIdx.x, 0};
    bool is_whole = true;
    while (true) {
        const natten_cuda_band_place *cut = block()->cut;
        if (is_whole && at.item >= b.whole)
            is_whole = false, at = cut[0];
        const bool is_last = !is_whole && at.item >= cut[1].item;
        if (is_last && (at.item > cut[1].item || at.step >= cut[1].step))
            return;
        Item item;
        if (find_item(at.item, at.step, is_last ? cut[1].step : b.steps, item))
            work(item);
        at.item += is_whole ? (int32_t)gridDim.x : 1;
        at.step = 0;
    }
}

/* What the bringer's neighbours do: statistics of all steps, which arrive with the
 * rows. */
BAND_TILE void BAND_TILE_OF::bring_stats_of_rows() const
{
    int32_t told = 0;
    each_item([&](const Item &item) {
        for (int32_t row = item.from; row < item.to; row += side, told++) {
            find_stats(item, row, told, warp - bringers);
            barrier_arrive(rows_full(told % crews));
        }
    });
    for (int i = 0; i < crews; i++, told++) {
        wait_for_rows_left(told - crews);
        barrier_arrive(rows_full(told % crews));
    }
}

BAND_TILE void BAND_TILE_OF::bring() const
{
    Counts n = {0, 0, 0, 0, 0};
    each_item([&](const Item &item) {
        for (int32_t row = item.from; row < item.to; row += side)
            bring_step(item, row, n);
        n.base = n.groups;
    });
    for (int i = 0; i < crews; i++, n.told++) {
        Step &to = tell(n);
        if (warp == 0 && lane == 0)
            to.extent = 0;
        barrier_arrive(rows_full(n.told % crews));
    }
    /* The block is not over before all that is on its way has arrived. */
    see_arrived(n);
}

template <class T, natten_cuda_band_pass pass, bool engine>
template <class Again>
__device__ inline void BAND_TILE_OF::redo(const Again &again) const
{
    __syncwarp();
    if (block()->trouble[crew * warps + warp] == 0)
        return;
    const natten_axis *axis = job.task.axis;
    Lane of(job.lanes);
    int32_t told = 0;
    each_item([&](const Item &item) {
        for (int32_t row = item.from; row < item.to; row += side, told++)
            for (int r = of.group; r < 16 && told % crews == crew; r += of.groups) {
                int32_t down = row + r / side,
                        column = subtile_of(told % steps) * side + r % side;
                bool is_there = down < item.to && column < item.columns;
                down = natten_min(down, item.to - 1) - rows_of_class(item.down).begin;
                column = item.first + natten_min(column, item.columns - 1) -
                         rows_of_class(item.across).begin;
                Place place = {item.batch,
                               item.head,
                               of_queries ? item.partner_head : item.head,
                               {0, index_of(item.down, axis[1], of_queries, down),
                                index_of(item.across, axis[2], of_queries, column)}};
                bool wanted = is_in_trouble<T>(job, of, result_role(0), place);
                if (!of_queries)
                    wanted = is_in_trouble<T>(job, of, result_role(1), place) || wanted;
                wanted = wanted && is_there;
                if (__any_sync(all_lanes, wanted))
                    again(job, of, place, wanted);
            }
    });
}

#undef BAND_TILE
#undef BAND_TILE_OF

} // namespace natten

#endif
