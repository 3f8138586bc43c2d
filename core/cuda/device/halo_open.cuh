/* SPDX-License-Identifier: MIT
 *
 * What a block of the halo kernels works out once (device/halo_tile.cuh has the words):
 * its place, its units, what its warps' subtiles are and see, the table of pairs. */
#ifndef NATTEN_CUDA_DEVICE_HALO_OPEN_CUH
#define NATTEN_CUDA_DEVICE_HALO_OPEN_CUH

#include "cuda/device/halo_tile.cuh"

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
            tile[i] = position % h.tiles[i], position /= h.tiles[i];
            int32_t d = job.task.axis[i].dilation;
            residue[i] = position % d, position /= d;
        }
    }
    HaloAxis<side> axis[3] = {
        {&job.task.axis[0], residue[0], tile[0], h.sub[0] * h.warps[0]},
        {&job.task.axis[1], residue[1], tile[1], h.sub[1] * h.warps[1]},
        {&job.task.axis[2], residue[2], tile[2], h.sub[2] * h.warps[2]}};
    bool exists = true, meets = true;
    natten_cuda_halo_place box;
    for (int i = 0; i < 3; i++) {
        box.count[i] = axis[i].stop - axis[i].begin;
        box.partner[i] = axis[i].partner_at(axis[i].begin, job.task.axis[i].dilation);
        exists = exists && axis[i].first < axis[i].end;
        meets = meets && box.count[i] > 0;
    }
    /* A part may have no partner for a tile: then there is one step with nothing in
     * it, in which every row finds that out. */
    for (int i = 0; i < 3 && !meets; i++)
        box.count[i] = 0;
    box.slices = natten_max(1, (box.count[1] + h.rows - 1) / h.rows);
    if (threadIdx.x == 0) {
        halo()->place = box;
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
        if constexpr (engine)
            take_aim<Pass>();
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
            for (int n = 0; n < 2 && fetches_early<Pass>(); n++)
                if (n * h.units / NATTEN_CUDA_FOUND * NATTEN_CUDA_FOUND == turn_ &&
                    first + n * stride < halo()->end)
                    fetch_ahead(n, n * h.units);
        }
    if (exists)
        open_warp<Pass>(axis);
    row_matrix = own_rows(0) + permute(lane % 16, lane / 16);
    if constexpr (Pass::is_gradient) {
        row_matrix = kept(own_rows(0) + permute(lane % 16, lane / 16));
        row_info = kept(shared_address(&info()->offset[0][lane / 4]));
        row_bases = kept(shared_address(&halo()->row_base[0][warp][0]));
    } else { /* recalled ones are worked out anew: registers are scarce */
        row_info = kept(shared_address(&info()->offset[0][lane / 4]));
        row_bases = shared_address(Pass::looks_ahead ? &halo()->ahead[unit()].base[0]
                                                     : &halo()->row_base[0][warp][0]);
        if constexpr (!Pass::recalls)
            row_matrix = kept(row_matrix), row_bases = kept(row_bases);
    }
    return exists;
}

/* Tell where the copy engine finds the halo. */
template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void HaloTile<T, dims, side, engine>::take_aim() const
{
    natten_cuda_halo_aim aim = {};
    for (int a = 0; a < 3; a++) {
        const natten_axis &axis = job.task.axis[a];
        int32_t count = side == Side::queries ? axis.key_count : axis.query_count;
        int32_t partner = halo()->place.partner[a], residue = partner % axis.dilation;
        aim.first[a] = partner / axis.dilation;
        if (count % axis.dilation != 0 && residue >= count % axis.dilation)
            aim.kind += job.halo.short_kind[a];
        for (int i = 0; i < 2; i++) /* the planner has seen that it fits */
            aim.inner[i] +=
                (int32_t)(residue * job.task.view[Pass::partner_role(i)].axis[a]);
    }
    for (int i = 0; i < 2; i++)
        aim.head[i] = (int32_t)job.task.view[Pass::partner_role(i)].head;
    if (halo()->place.count[2] == 0) /* no partner: nothing but zeros */
        aim.first[2] = -job.halo.pitch;
    halo()->aim = aim;
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

/* What the warp's subtile is and sees. */
template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void
HaloTile<T, dims, side, engine>::open_warp(const HaloAxis<side> (&axis)[3])
{
    const natten_cuda_halo &h = job.halo;
    int32_t rest = place();
    int32_t corner[3], inside = lane % subtile;
    for (int i = 2; i >= 0; i--) {
        corner[i] = axis[i].first + rest % h.warps[i] * h.sub[i];
        rest /= h.warps[i];
    }
    natten_cuda_halo_warp *w = info();
    natten_cuda_halo_row own = {};
    natten_cuda_halo_seen own_seen;
    natten_span box[3], seen[3];
    bool exists = true;
    int32_t entries = 1;
    for (int i = 2; i >= 0; i--) {
        const natten_axis *a = &job.task.axis[i];
        int32_t g = corner[i] + inside % h.sub[i];
        inside /= h.sub[i];
        exists = exists && g < axis[i].end;
        box[i] = {axis[i].begin, axis[i].begin};
        if (corner[i] < axis[i].end) {
            int32_t last = natten_min(corner[i] + h.sub[i], axis[i].end) - 1;
            box[i].begin = axis[i].partners(corner[i]).begin;
            box[i].end = axis[i].partners(last).end;
        }
        g = natten_min(g, axis[i].end - 1);
        seen[i] = axis[i].partners(g);
        own.at[i] = axis[i].row_at(g, a->dilation);
        int32_t distance = side == Side::queries ? box[i].begin - g : g - box[i].begin;
        if (i > 0)
            own_seen.entry[i - 1] = (int16_t)(distance + a->window - 1);
        own.bias += (distance + a->window - 1) * entries;
        entries *= 2 * a->window - 1;
    }
    /* Who sees no plane sees nothing, also where the halo has one plane, of which it is
     * not asked who sees it. */
    if (!exists || seen[0].end <= seen[0].begin)
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
    own.plane_begin = seen[0].begin - axis[0].begin;
    own.plane_end = seen[0].end - axis[0].begin;
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
        w->row_begin = box[1].begin - axis[1].begin;
        w->width = box[2].end - box[2].begin;
        w->plane_begin = box[0].begin - axis[0].begin;
        w->plane_end = all == 0 ? w->plane_begin : box[0].end - axis[0].begin;
    }
    this->exists[0] = (all >> (lane / 4) & 1) != 0;
    this->exists[1] = (all >> (lane / 4 + 8) & 1) != 0;
    if constexpr (flat)
        make_flat_table<Pass>(axis, box, seen[1], seen[2]);
    else
        make_table<Pass>(axis, box, seen[1], seen[2]);
    clear_pads();
    __syncwarp();
}

/* Zeros before and after the entries of bias. */
template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::clear_pads() const
{
    const natten_cuda_halo &h = job.halo;
    if (engine && h.more_bytes == 0)
        return;
    for (int i = 0; i < (engine ? 3 : 2) * h.units && !h.keeps_bias; i++) {
        float *first = static_cast<float *>(
            __cvta_shared_to_generic(more_of(0, i) + (uint32_t)h.bias_at));
        for (int32_t e = threadIdx.x; e < h.bias_pad; e += NATTEN_CUDA_THREADS)
            first[e] = first[h.bias_pad + (int32_t)job.entries + e] = 0;
    }
}

template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline int32_t
HaloTile<T, dims, side, engine>::order_partners(int32_t first, int32_t height,
                                                int32_t width) const
{
    constexpr int columns = 8;
    const int32_t pitch = job.halo.order_pitch, i = lane % columns;
    const int32_t total = natten_max(height * width, 0), all = (total + 15) / 16 * 2;
    int32_t groups = groups_of<Pass>(total);
    uint8_t *order = orders();
    __syncwarp();
    int32_t of_lane = 0, last = 0; /* partners of column i, and one of them */
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = i - first - y * pitch & columns - 1; x < width; x += columns) {
            last = y * width + x;
            if (of_lane < all && lane < columns)
                order[of_lane * columns + i] = (uint8_t)last;
            of_lane++;
        }
    if (__any_sync(all_lanes, of_lane > groups)) /* one more may spare the trouble */
        groups = all;
    for (int32_t g = natten_min(of_lane, groups); g < all && lane < columns; g++)
        order[g * columns + i] = (uint8_t)((uint32_t)last | not_there);
    __syncwarp();
    if (!__any_sync(all_lanes, of_lane > groups))
        return groups;
    /* Some columns have too many: the others have room, which is filled in order. */
    int32_t number = 0; /* of what is too much */
    for (int k = 0; k < columns; k++) {
        int32_t other = __shfl_sync(all_lanes, of_lane, k);
        if (k < i)
            number += natten_max(other - groups, 0);
    }
    int32_t from = 0; /* the number of the first that goes to column k */
    for (int k = 0; k < columns; k++) {
        int32_t other = __shfl_sync(all_lanes, of_lane, k);
        int32_t room = natten_max(groups - other, 0), count = 0;
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = i - first - y * pitch & columns - 1; x < width;
                 x += columns, count++) {
                int32_t n = number + count - groups - from;
                if (count >= groups && n >= 0 && n < room && lane < columns)
                    order[(other + n) * columns + k] = (uint8_t)(y * width + x);
            }
        from += room;
    }
    __syncwarp();
    return groups;
}

template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void HaloTile<T, dims, side, engine>::make_table(
    const HaloAxis<side> (&axis)[3], const natten_span (&box)[3], natten_span row_seen,
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
    int32_t left = box[2].begin - axis[2].begin; /* the box's, in slices */
    Divider by(width);
    int32_t pair = 0;
    for (int32_t slice = 0; slice < halo()->place.slices; slice++) {
        int32_t top = axis[1].begin + slice * h.rows;
        int32_t begin = natten_max(box[1].begin, top);
        int32_t end = natten_min(box[1].end, top + h.rows);
        int32_t total = end > begin ? (end - begin) * (box[2].end - box[2].begin) : 0;
        int32_t above = begin - box[1].begin,
                first_token = (begin - top) * h.pitch + left;
        if (h.order_pitch > 0 && total > 0)
            order_partners<Pass>((begin - top) * h.order_pitch + left, end - begin,
                                 width);
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

/* The same in a flat halo: all pairs that there could be. */
template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline void HaloTile<T, dims, side, engine>::make_flat_table(
    const HaloAxis<side> (&axis)[3], const natten_span (&box)[3], natten_span row_seen,
    natten_span column_seen)
{
    const natten_cuda_halo &h = job.halo;
    natten_span rows[2], cols[2]; /* that y = 2t + i sees, or x = 2t - 4 + i */
    for (int i = 0; i < 2; i++) {
        int from = lane % 4 < 2 ? (lane % 4 * 2 + i) * 4 : lane % 4 * 2 - 4 + i;
        rows[i].begin = __shfl_sync(all_lanes, row_seen.begin, from);
        rows[i].end = __shfl_sync(all_lanes, row_seen.end, from);
        cols[i].begin = __shfl_sync(all_lanes, column_seen.begin, from);
        cols[i].end = __shfl_sync(all_lanes, column_seen.end, from);
    }
    /* Tables are made by one warp of a subtile, or by all. */
    const int32_t makers = Pass::is_gradient ? 1 : h.units;
    if (unit() >= makers)
        return;
    int32_t width = natten_max(box[2].end - box[2].begin, 1), x, y;
    int32_t total = 1; /* partners; none if the part has none on some axis */
    for (int i = 0; i < 3; i++)
        total *= natten_max(box[i].end - box[i].begin, 0);
    int32_t entries = 2 * job.task.axis[2].window - 1, used = (total + 15) / 16,
            groups = groups_of<Pass>(total);
    Divider by(width);
    if (h.order_pitch > 0 && total > 0)
        groups = order_partners<Pass>((box[1].begin - axis[1].begin) * h.order_pitch +
                                          box[2].begin - axis[2].begin,
                                      box[1].end - box[1].begin, width);
    for (int32_t pair = unit(); pair < h.pairs; pair += makers) {
        uint32_t word = 0;
        uint16_t entry[4] = {0, 0, 0, 0};
#pragma unroll
        for (int g = 0; g < 2; g++) {
            /* Beyond the last pair all is hidden, at any partner. */
            int32_t first = natten_min(pair, natten_max(used, 1) - 1) * 16 + 8 * g;
            bool there;
            y = by(partner_in(first + lane % 8, total, there), x);
            word |= permute((y + box[1].begin - axis[1].begin) * h.pitch + x +
                                box[2].begin - axis[2].begin,
                            lane / 8)
                    << (16 * g);
            word |= (pair >= used ? 0x10001u
                                  : hidden_of(first + lane / 4, total, by, box[1].begin,
                                              box[2].begin, rows, cols))
                    << g;
            for (int e = 0; e < 2 && h.bias_pad > 0; e++) {
                y = by(partner_in(first + lane % 4 * 2 + e, total, there), x);
                entry[2 * g + e] = (uint16_t)(4 * (y * entries + x));
            }
        }
        table()[pair * NATTEN_CUDA_WARP] = word;
        if (lane < 4 && h.bias_pad > 0)
            columns(of_entries)[pair * 4] = {entry[0], entry[1], entry[2], entry[3]};
    }
    if (lane == 0 && unit() == 0)
        info()->first_pair[0] = 0, info()->first_pair[1] = used,
        info()->first_pair[2] = groups;
}

} // namespace natten

#endif
