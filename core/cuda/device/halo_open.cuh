/* SPDX-License-Identifier: MIT
 *
 * What a block of the halo kernels works out once (device/halo_tile.cuh has the words):
 * its place, its units, what its warps' subtiles are and see, the table of pairs. */
#ifndef NATTEN_CUDA_DEVICE_HALO_OPEN_CUH
#define NATTEN_CUDA_DEVICE_HALO_OPEN_CUH

#include "cuda/device/halo_tile.cuh"
#include "cuda/device/overlap.cuh"

namespace natten {

template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline bool HaloTile<T, dims, side, engine>::open(const Pass &pass)
{
    const natten_cuda_halo &h = job.halo;
    int32_t replicas = 0, sort = 0, residue[3], tile[3];
    const bool by_kinds = Pass::looks_ahead && h.by_kinds;
    HaloBlock block = {0, 0};
    if (by_kinds) {
        sort = sort_of_block();
        block.replica = kind_of_block(sort, tile, residue);
    } else {
        block = place_of_block(replicas);
        int32_t position = block.position;
        for (int i = 2; i >= 0; i--) {
            position = divide(position, h.tiles[i], tile[i]);
            position = divide(position, job.task.axis[i].dilation, residue[i]);
        }
    }
    const HaloLanes<side> lanes(h, lane);
    const int a = lanes.a;
    const HaloAxis<side> axis(&job.task.axis[a], pick(residue, a), pick(tile, a),
                              h.sub[a] * h.warps[a]);
    bool exists = __all_sync(all_lanes, axis.first < axis.end);
    int32_t count = axis.stop - axis.begin;
    /* A part may have no partner for a tile: then there is one step with nothing in
     * it, in which every row finds that out. */
    if (__any_sync(all_lanes, count <= 0))
        count = 0;
    if (warp == 0) {
        if (lanes.leads) {
            halo()->place.count[a] = count;
            halo()->place.partner[a] =
                axis.partner_at(axis.begin, job.task.axis[a].dilation);
        }
        if (lanes.leads && a == 1)
            halo()->place.slices = natten_max(1, (count + h.rows - 1) / h.rows);
        if constexpr (engine)
            take_aim<Pass>(axis, a, lanes.leads);
    } else if (threadIdx.x == NATTEN_CUDA_WARP) { /* the first warp has enough to do */
        if (by_kinds) {
            halo()->sort = sort;
            halo()->begin = block.replica * h.units;
            halo()->unit_stride = job.share.sort[sort].share * h.units;
            halo()->end = (int32_t)(job.task.batch * job.task.heads) *
                          job.share.sort[sort].tiles.count;
        } else {
            halo()->begin = share_out(halo()->end);
            halo()->unit_stride =
                block.position < h.full ? h.stride : replicas * h.units;
        }
        halo()->busy = 0;
        halo()->pitch_inverse = ((1u << 20) - 1) / (uint32_t)h.pitch + 1;
        for (int n = 0; n < 2 && fetches_early<Pass>(); n++)
            barrier_make(ready(n), 1);
    }
    __syncthreads();
    if constexpr (Pass::looks_ahead)
        if (const int turn_ = (NATTEN_CUDA_WARPS - 1 - warp) * NATTEN_CUDA_FOUND;
            exists && turn_ <= 2 * h.units) { /* the first three steps */
            int32_t stride = halo()->unit_stride, first = halo()->begin,
                    step = turn_ >> log2_units();
            find_units<Pass>(turn_, first + step * stride);
            __syncwarp();
            wait_for_kernels_before();
            for (int n = 0; n < 2 && fetches_early<Pass>(); n++)
                if (n * h.units / NATTEN_CUDA_FOUND * NATTEN_CUDA_FOUND == turn_ &&
                    first + n * stride < halo()->end)
                    fetch_ahead(n, n * h.units);
        }
    if (exists)
        open_warp<Pass>(axis, lanes);
    row_matrix = own_rows(0) + permute(lane % 16, lane / 16);
    row_copy = own_rows(0) + permute(lane / chunks, lane % chunks);
    if constexpr (Pass::is_gradient) {
        row_matrix = kept(own_rows(0) + permute(lane % 16, lane / 16));
        row_info = kept(shared_address(&info()->offset[0][lane / 4]));
        row_bases = kept(shared_address(&halo()->row_base[0][warp][0]));
    } else { /* recalled ones are worked out anew: registers are scarce */
        row_info = kept(shared_address(&info()->offset[0][lane / 4]));
        row_bases = shared_address(Pass::looks_ahead ? &halo()->ahead[unit()].base[0]
                                                     : &halo()->row_base[0][warp][0]);
        if constexpr (!Pass::recalls)
            row_matrix = kept(row_matrix), row_bases = kept(row_bases),
            row_copy = kept(row_copy);
    }
    return exists;
}

/* Tell where the copy engine finds the halo, by a warp; an axis's leading lane has its
 * part of that.  A class's first partner is its residue, counted from the tensor's
 * first; classes are short that have fewer than others. */
template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void
HaloTile<T, dims, side, engine>::take_aim(const HaloAxis<side> &axis, int a,
                                          bool leads) const
{
    constexpr bool of_queries = side == Side::queries;
    const natten_axis &of = job.task.axis[a];
    const natten_span all = of_queries ? axis.c.keys : axis.c.queries;
    int32_t residue = of_queries ? axis.c.key_index : axis.c.query_index;
    uint32_t count = (uint32_t)(of_queries ? of.key_count : of.query_count);
    bool is_short = (uint32_t)(all.end - all.begin) * (uint32_t)of.dilation < count;
    natten_cuda_halo_aim &aim = halo()->aim;
    /* No partner on some axis: nothing but zeros. */
    bool none = __any_sync(all_lanes, axis.stop <= axis.begin);
    if (leads)
        aim.first[a] = none && a == 2 ? -job.halo.pitch : axis.begin - all.begin;
    int32_t kind =
        __reduce_add_sync(all_lanes, leads && is_short ? job.halo.short_kind[a] : 0);
    if (lane == 0)
        aim.kind = kind;
    for (int i = 0; i < 2; i++) { /* the planner has seen that it fits */
        const natten_view &view = job.task.view[Pass::partner_role(i)];
        int32_t inner = residue * (int32_t)view.axis[a];
        inner = __reduce_add_sync(all_lanes, leads ? inner : 0);
        if (lane == 0)
            aim.inner[i] = inner, aim.head[i] = (int32_t)view.head;
    }
}

/* Which units are the block's: the first, and where they end. */
template <class T, int dims, Side side, bool engine>
__device__ inline int32_t HaloTile<T, dims, side, engine>::share_out(int32_t &end) const
{
    const natten_cuda_halo &h = job.halo;
    int32_t replicas, replica = place_of_block(replicas).replica;
    end = (int32_t)(job.task.batch *
                    (side == Side::queries ? job.task.heads : job.task.heads_kv));
    if (!h.is_by_head)
        return replica * h.units;
    int32_t head = replica / h.chunks, chunk = replica % h.chunks;
    int32_t batch = (int32_t)job.task.batch, each = (batch + h.chunks - 1) / h.chunks;
    end = head * batch + natten_min((chunk + 1) * each, batch);
    return head * batch + natten_min(chunk * each, batch);
}

/* What the warp's subtile is and sees: each lane asks for one position of an axis, and
 * then, as a row, others for its own three. */
template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void
HaloTile<T, dims, side, engine>::open_warp(const HaloAxis<side> &axis,
                                           const HaloLanes<side> &lanes)
{
    const natten_cuda_halo &h = job.halo;
    const natten_axis *along = job.task.axis;
    int32_t rest = place(), inside = lane % subtile, within[3], corner = axis.first;
    for (int i = 2; i >= 0; i--) {
        if (i == lanes.a)
            corner += (rest & (h.warps[i] - 1)) * h.sub[i];
        rest >>= log2_of(h.warps[i]);
        within[i] = inside & (h.sub[i] - 1);
        inside >>= log2_of(h.sub[i]);
    }
    const int32_t g = natten_min(corner + lanes.position, axis.end - 1),
                  at = axis.row_at(g, along[lanes.a].dilation);
    const bool exists_here = corner + lanes.position < axis.end;
    const natten_span sees = axis.partners(g);
    const natten_span reach =
        corner < axis.end ? sees : natten_span{axis.begin, axis.begin};
    natten_cuda_halo_warp *w = info();
    natten_cuda_halo_row own = {};
    natten_cuda_halo_seen own_seen;
    natten_span box[3], seen[3];
    int32_t begin[3], entries = 1;
    bool exists = true;
    for (int i = 2; i >= 0; i--) {
        exists = lanes.of(exists_here, i, within[i]) && exists;
        begin[i] = lanes.of(axis.begin, i);
        box[i] = {lanes.of(reach.begin, i), lanes.of(reach.end, i, h.sub[i] - 1)};
        seen[i] = {lanes.of(sees.begin, i, within[i]),
                   lanes.of(sees.end, i, within[i])};
        own.at[i] = lanes.of(at, i, within[i]);
        int32_t distance = box[i].begin - lanes.of(g, i, within[i]);
        if (side == Side::keys)
            distance = -distance;
        if (i > 0)
            own_seen.entry[i - 1] = (int16_t)(distance + along[i].window - 1);
        own.bias += (distance + along[i].window - 1) * entries;
        entries *= 2 * along[i].window - 1;
    }
    /* Who sees no plane sees nothing, also where the halo has one plane, of which it is
     * not asked who sees it.  Forward's rows that do not exist see what the last one
     * sees that does, and are like it. */
    if ((Pass::is_gradient && !exists) || seen[0].end <= seen[0].begin)
        for (int i = 0; i < 3; i++)
            seen[i] = {0, 0};
    for (int i = 0; i < 3; i++)
        if (box[i].end <= box[i].begin) /* nothing is seen: any entry will do */
            own.bias = 0;
    for (int i = 1; i < 3; i++) {
        own_seen.begin[i - 1] = (int16_t)(seen[i].begin - box[i].begin);
        own_seen.end[i - 1] = (int16_t)(seen[i].end - box[i].begin);
    }
    for (int n = 0; n < Pass::row_tensors; n++)
        if (unit() == 0 && lane < subtile)
            w->offset[n][lane] = offset_of(job, Pass::row_role(n), 0, 0, own.at);
    own.plane_begin = seen[0].begin - begin[0];
    own.plane_end = seen[0].end - begin[0];
    uint32_t all = __ballot_sync(all_lanes, exists) & 0xffff;
    if (lane == 0) {
        halo()->trouble[warp] = 0;
        halo()->rank[warp] = all == 0 ? 0 : (int32_t)atomicAdd(&halo()->busy, 1);
    }
    if (unit() == 0 && lane < subtile)
        w->row[lane] = own;
    if (unit() == 0 && lane < subtile && h.seen_at > 0)
        seen_by(place())[lane] = own_seen;
    if (unit() == 0 && lane == 0) {
        w->exists = all;
        w->row_begin = box[1].begin - begin[1];
        w->width = box[2].end - box[2].begin;
        w->plane_begin = box[0].begin - begin[0];
        w->plane_end = all == 0 ? w->plane_begin : box[0].end - begin[0];
    }
    this->exists[0] = (all >> (lane / 4) & 1) != 0;
    this->exists[1] = (all >> (lane / 4 + 8) & 1) != 0;
    if constexpr (flat) {
        /* Here, too: there is one plane. */
        bool somebody = lanes.of(sees.begin, 0) < lanes.of(sees.end, 0);
        bool here = !Pass::is_gradient || exists_here;
        make_flat_table<Pass>(begin, box, here && somebody ? sees : natten_span{0, 0},
                              lanes);
    } else
        make_table<Pass>(begin, box, seen[1], seen[2]);
    clear_pads<Pass>();
    __syncwarp();
}

/* Zeros before and after the entries of bias. */
template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void HaloTile<T, dims, side, engine>::clear_pads() const
{
    const natten_cuda_halo &h = job.halo;
    if (engine && h.more_bytes == 0)
        return;
    for (int i = 0; i < (engine ? 3 : 2) * h.units && !h.keeps_bias; i++) {
        float *first = static_cast<float *>(
            __cvta_shared_to_generic(more_of(0, i) + (uint32_t)h.bias_at));
        if constexpr (Pass::looks_ahead) { /* and beside them, in pairs */
            int32_t all = 2 * ((int32_t)job.entries + 2 * h.bias_pad);
            for (int32_t e = threadIdx.x; e < all; e += NATTEN_CUDA_THREADS)
                first[e] = 0;
            continue;
        }
        for (int32_t e = threadIdx.x; e < h.bias_pad; e += NATTEN_CUDA_THREADS)
            first[e] = first[h.bias_pad + (int32_t)job.entries + e] = 0;
    }
}

template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline int32_t
HaloTile<T, dims, side, engine>::order_partners(int32_t first, int32_t total,
                                                const Divider &by) const
{
    constexpr int columns = 8;
    const int32_t own = lane % columns, all = (total + 15) / 16 * 2;
    int32_t groups = groups_of<Pass>(total);
    uint8_t *order = orders();
    int32_t count = 0, last = 0; /* partners of column `own`, and the last of them */
    /* Goes through partners, one a lane, and puts each, with its column and its rank
     * there. */
    auto walk = [&](auto put) {
        count = 0;
        for (int32_t from = 0; from < total; from += NATTEN_CUDA_WARP) {
            int32_t x, y = by(from + lane, x);
            int32_t column = first + y * job.halo.order_pitch + x & columns - 1;
            uint32_t there = __ballot_sync(all_lanes, from + lane < total), bit[3];
            for (int i = 0; i < 3; i++)
                bit[i] = __ballot_sync(all_lanes, column >> i & 1);
            auto lanes_of = [&](int32_t c) {
                uint32_t lanes = there;
                for (int i = 0; i < 3; i++)
                    lanes &= (c >> i & 1) != 0 ? bit[i] : ~bit[i];
                return lanes;
            };
            uint32_t before = lanes_of(column) & (1u << lane) - 1,
                     of_own = lanes_of(own);
            int32_t rank = __shfl_sync(all_lanes, count, column) + __popc(before);
            put(from + lane, column, rank);
            if (of_own != 0)
                last = from + 31 - __clz(of_own);
            count += __popc(of_own);
        }
    };
    __syncwarp();
    walk([&](int32_t k, int32_t column, int32_t rank) {
        if (k < total && rank < all)
            order[rank * columns + column] = (uint8_t)k;
    });
    if (__any_sync(all_lanes, count > groups)) /* one more may spare the trouble */
        groups = all;
    __syncwarp();
    for (int32_t g = natten_min(count, groups) + lane / columns; g < all;
         g += NATTEN_CUDA_WARP / columns)
        order[g * columns + own] = (uint8_t)((uint32_t)last | not_there);
    __syncwarp();
    if (!__any_sync(all_lanes, count > groups))
        return groups;
    /* Some columns have too many: the others have room, which is filled in order. */
    const int32_t counted = count;
    int32_t number = 0; /* of what is too much, before column `own` */
    for (int k = 0; k < columns; k++) {
        int32_t other = __shfl_sync(all_lanes, counted, k);
        if (k < own)
            number += natten_max(other - groups, 0);
    }
    walk([&](int32_t k, int32_t column, int32_t rank) {
        int32_t n = __shfl_sync(all_lanes, number, column) + rank - groups;
        for (int c = 0; c < columns; c++) {
            int32_t other = __shfl_sync(all_lanes, counted, c);
            int32_t room = natten_max(groups - other, 0);
            if (k < total && rank >= groups && n >= 0 && n < room)
                order[(other + n) * columns + c] = (uint8_t)k;
            n -= room;
        }
    });
    __syncwarp();
    return groups;
}

template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void HaloTile<T, dims, side, engine>::make_table(
    const int32_t (&begin)[3], const natten_span (&box)[3], natten_span row_seen,
    natten_span column_seen)
{
    const natten_cuda_halo &h = job.halo;
    int r = lane / 4;
    /* What rows r and r + 8 see, counted from the box's first row and column. */
    int32_t row_begin[2], row_count[2], column_begin[2], column_count[2];
    for (int i = 0; i < 2; i++) {
        int from = r + 8 * i;
        row_begin[i] = __shfl_sync(all_lanes, row_seen.begin, from);
        row_count[i] = __shfl_sync(all_lanes, row_seen.end, from) - row_begin[i];
        column_begin[i] = __shfl_sync(all_lanes, column_seen.begin, from);
        column_count[i] =
            __shfl_sync(all_lanes, column_seen.end, from) - column_begin[i];
        row_begin[i] -= box[1].begin, column_begin[i] -= box[2].begin;
    }
    if (unit() != 0)
        return;
    int32_t width = natten_max(box[2].end - box[2].begin, 1);
    int32_t entries = 2 * job.task.axis[2].window - 1;
    int32_t left = box[2].begin - begin[2]; /* the box's, in slices */
    Divider by(width);
    int32_t pair = 0;
    for (int32_t slice = 0; slice < halo()->place.slices; slice++) {
        int32_t top = begin[1] + slice * h.rows;
        int32_t low = natten_max(box[1].begin, top);
        int32_t high = natten_min(box[1].end, top + h.rows);
        int32_t total = high > low ? (high - low) * (box[2].end - box[2].begin) : 0;
        int32_t above = low - box[1].begin, first_token = (low - top) * h.pitch + left;
        if (h.order_pitch > 0 && total > 0)
            order_partners<Pass>((low - top) * h.order_pitch + left, total, by);
        if (lane == 0)
            info()->first_pair[slice] = pair;
#pragma unroll 1
        for (int32_t first = 0; first < total; first += 16, pair++) {
            uint32_t word = 0, column[4]; /* entries and tokens, 16 bits each */
#pragma unroll
            for (int g = 0; g < 2; g++) {
                bool there;
                int32_t k = partner_in(first + 8 * g + lane % 8, total, there), x;
                int32_t y = by(k, x), token = first_token + y * h.pitch + x;
                word |= permute(token, lane / 8) << (16 * g);
                y += above;
                uint32_t of_lane =
                    (uint32_t)(y * entries + x) << 18 | (uint32_t)token; /* times 4 */
                y = there ? y : INT32_MIN; /* where nobody looks */
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int from = lane % 4 * 2 + e;
                    int32_t v = __shfl_sync(all_lanes, y, from),
                            u = __shfl_sync(all_lanes, x, from);
                    column[2 * g + e] = __shfl_sync(all_lanes, of_lane, from);
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        if ((uint32_t)v - (uint32_t)row_begin[i] >=
                                (uint32_t)row_count[i] ||
                            (uint32_t)u - (uint32_t)column_begin[i] >=
                                (uint32_t)column_count[i])
                            word |= 1u << (2 * g + i + 16 * e);
                }
            }
            table()[pair * NATTEN_CUDA_WARP] = word;
            if (lane < 4) {
                if (h.bias_pad > 0)
                    columns(of_entries)[pair * 4] = {
                        (uint16_t)(column[0] >> 16), (uint16_t)(column[1] >> 16),
                        (uint16_t)(column[2] >> 16), (uint16_t)(column[3] >> 16)};
                if (side == Side::keys)
                    columns(of_tokens)[pair * 4] = {
                        (uint16_t)column[0], (uint16_t)column[1], (uint16_t)column[2],
                        (uint16_t)column[3]};
            }
        }
    }
    if (lane == 0)
        info()->first_pair[halo()->place.slices] = pair;
}

/* The same in a flat halo: all pairs that there could be.  A lane has a partner, asks
 * who sees it, and tells those lanes of which it is a row or a column. */
template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void HaloTile<T, dims, side, engine>::make_flat_table(
    const int32_t (&begin)[3], const natten_span (&box)[3], natten_span sees,
    const HaloLanes<side> &lanes)
{
    const natten_cuda_halo &h = job.halo;
    natten_span seen[8]; /* by the subtile's four rows and its four columns */
    for (int i = 0; i < 8; i++)
        seen[i] = {lanes.of(sees.begin, 1 + i / 4, i % 4),
                   lanes.of(sees.end, 1 + i / 4, i % 4)};
    /* Tables are made by one warp of a subtile, or by all. */
    const int32_t makers = Pass::is_gradient ? 1 : h.units;
    if (unit() >= makers)
        return;
    int32_t total = 1; /* partners; none if the part has none on some axis */
    for (int i = 0; i < 3; i++)
        total *= natten_max(box[i].end - box[i].begin, 0);
    int32_t entries = 2 * job.task.axis[2].window - 1, used = (total + 15) / 16,
            groups = groups_of<Pass>(total);
    const Divider by(natten_max(box[2].end - box[2].begin, 1));
    if (h.order_pitch > 0 && total > 0)
        groups = order_partners<Pass>((box[1].begin - begin[1]) * h.order_pitch +
                                          box[2].begin - begin[2],
                                      total, by);
    for (int32_t round = unit(); 2 * round < h.pairs; round += makers) {
        /* Beyond the last pair all is hidden, at any partner. */
        int32_t slot = round * NATTEN_CUDA_WARP + lane, x, y;
        bool there, beyond = slot >= 16 * used;
        if (beyond)
            slot = 16 * natten_max(used - 1, 0) + lane % 16;
        y = by(partner_in(slot, total, there), x);
        int32_t entry = (Pass::is_gradient ? 4 : 8) * (y * entries + x);
        y += box[1].begin, x += box[2].begin;
        int32_t token = (y - begin[1]) * h.pitch + x - begin[2];
        uint32_t word = permute(token, 0);
        if (h.twins) /* as permute() has it for rows of 64 */
            word = (uint32_t)(token * 2 * row_bytes + (token & 7) * 16);
        for (int i = 0; i < 8; i++) {
            int32_t at = i < 4 ? y : x;
            if (!there || beyond || at < seen[i].begin || at >= seen[i].end)
                word |= 0x10000u << i;
        }
#pragma unroll
        for (int32_t pair = 2 * round; pair < 2 * round + 2; pair++) {
            uint32_t all = 0;
            uint16_t of_columns[4];
#pragma unroll
            for (int g = 0; g < 2; g++) {
                int from = pair % 2 * 16 + g * 8;
                uint32_t row = __shfl_sync(all_lanes, word, from + lane % 8),
                         column = __shfl_sync(all_lanes, word, from + lane / 4);
                uint32_t hides = column >> (16 + lane % 4 * 2);
                all |= ((row ^ (uint32_t)lane / 8 << 4) & 0xfff0u) << 16 * g;
                all |= (hides & 1 | (hides & 2) << 15) << g;
                for (int e = 0; e < 2 && h.bias_pad > 0; e++)
                    of_columns[2 * g + e] = (uint16_t)__shfl_sync(
                        all_lanes, entry, from + lane % 4 * 2 + e);
            }
            if (pair < h.pairs)
                table()[pair * NATTEN_CUDA_WARP] = all;
            if (pair < h.pairs && lane < 4 && h.bias_pad > 0) {
                ushort4 *to = columns(of_entries);
                if constexpr (!Pass::is_gradient)
                    to = reinterpret_cast<ushort4 *>(forward_columns());
                to[pair * 4] = {of_columns[0], of_columns[1], of_columns[2],
                                of_columns[3]};
            }
        }
    }
    if (lane == 0 && unit() == 0)
        info()->first_pair[0] = 0, info()->first_pair[1] = used,
        info()->first_pair[2] = groups;
}

} // namespace natten

#endif
