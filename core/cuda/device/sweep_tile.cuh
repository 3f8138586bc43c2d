/* SPDX-License-Identifier: MIT
 *
 * A warp's column of subtiles in the pass that has all gradients of a small window
 * (sweep_backward.cuh has the words): which rows it goes over, where they lie, and how
 * they get into shared memory. */
#ifndef NATTEN_CUDA_DEVICE_SWEEP_TILE_CUH
#define NATTEN_CUDA_DEVICE_SWEEP_TILE_CUH

#include "cuda/device/halo_tile.cuh"

#include <stddef.h>

namespace natten {

/* Places of a warp's part of shared memory, bytes. */
constexpr uint32_t sweep_tile = 1024, sweep_queries = 0, sweep_grads = 3 * sweep_tile,
                   sweep_keys = 6 * sweep_tile, sweep_values = 8 * sweep_tile,
                   sweep_ds = 9 * sweep_tile, sweep_stage = 3 * 512,
                   sweep_stats = sweep_ds + 3 * sweep_stage,
                   sweep_results = sweep_stats + 3 * 128,
                   sweep_own = NATTEN_CUDA_SWEEP_BYTES;

/* Of three places that are filled in turn, as bytes from the first: the next one, and
 * the one before. */
__device__ inline uint32_t place_after(uint32_t place)
{
    return place == 2 * sweep_tile ? 0 : place + sweep_tile;
}
__device__ inline uint32_t place_before(uint32_t place)
{
    return place == 0 ? 2 * sweep_tile : place - sweep_tile;
}

using SweepItem = natten_cuda_sweep_item;
using SweepWarp = natten_cuda_sweep_warp;
using SweepBox = natten_cuda_sweep_box;

/* A row of subtiles in the order in which the block goes over them: in one register. */
struct SweepRow {
    /* -1: there is none.  The same in all lanes, which make it together. */
    int32_t bits = -1;

    SweepRow() = default;
    __device__ SweepRow(const natten_cuda_sweep &s, int32_t row, int32_t turn,
                        bool first, bool last)
    {
        int32_t start = natten_sweep_start(&s, 0, row);
        int32_t count =
            natten_min(natten_sweep_start(&s, 0, row + 1) - start, s.length[0] - start);
        bits = of_warp(start << 16 | count << 12 | row << 3 | turn << 2 |
                       (int)first << 1 | (int)last);
    }
    __device__ bool exists() const
    {
        return bits >= 0;
    }
    __device__ int32_t start() const /* where it begins in the class */
    {
        return bits >> 16;
    }
    __device__ int32_t count() const /* tokens down a subtile */
    {
        return bits >> 12 & 7;
    }
    __device__ int32_t row() const
    {
        return bits >> 3 & 0x1ff;
    }
    __device__ int32_t turn() const /* place of its item in SweepWarp::item */
    {
        return bits >> 2 & 1;
    }
    __device__ bool first() const /* of its item */
    {
        return (bits & 2) != 0;
    }
    __device__ bool last() const
    {
        return (bits & 1) != 0;
    }
};

/* Tensors that are not copied to shared memory. */
enum {
    sweep_grad_query,
    sweep_grad_key,
    sweep_grad_value,
    sweep_out,
    sweep_lse,
    sweep_delta
};

__device__ inline natten_role sweep_role(int tensor)
{
    return tensor == sweep_grad_query   ? NATTEN_GRAD_QUERY
           : tensor == sweep_grad_key   ? NATTEN_GRAD_KEY
           : tensor == sweep_grad_value ? NATTEN_GRAD_VALUE
           : tensor == sweep_out        ? NATTEN_OUT
           : tensor == sweep_lse        ? NATTEN_LSE
                                        : delta_role;
}

/* `sides`: subtiles beside each other that the warp's keys meet, 3; of two columns 2,
 * its own and the other.  Warps at an edge take their own part for that of the
 * neighbour that they lack, of which everything is hidden. */
template <class T, int sides, bool engine, bool biased> class SweepTile {
  public:
    const natten_cuda_job &job;
    int warp, column;
    uint32_t known;       /* address of what is known of the warp */
    uint32_t left, right; /* from the warp's part to its neighbours', or 0; of two
                             columns `right` is to the other's */
    /* What hides columns of the subtiles next to the warp's and of its own, 4 bits
     * further for each side; the highest bit: tokens of the lane's column exist. */
    uint32_t seen;

    __device__ explicit SweepTile(const natten_cuda_job &job_)
        : job(job_), warp(threadIdx.x / NATTEN_CUDA_WARP),
          column(warp % job_.sweep.columns)
    {
        strips = kept(shared_address(halo_shared) + (uint32_t)warp * sweep_own +
                      threadIdx.x % NATTEN_CUDA_WARP * 16);
        known = shared_address(&box()->warp[warp]);
        left = column > 0 ? 0 - sweep_own : 0;
        right = column + 1 < job_.sweep.columns ? sweep_own : sides == 2 ? left : 0;
        /* Here, not above: then less goes to local memory in the loop. */
        known = of_warp(known), left = of_warp(left), right = of_warp(right);
        warp = of_warp(warp), column = of_warp(column);
    }

    __device__ int lane() const
    {
        return (int)(strips >> 4) % NATTEN_CUDA_WARP;
    }
    /* Address of the warp's part. */
    __device__ uint32_t own() const
    {
        return strips & ~(16u * NATTEN_CUDA_WARP - 1);
    }
    /* Of the lane's of 32 strips of 16 bytes of a subtile's half, the first in the
     * warp's part: its address, and which of its row it is as the copy engine permutes
     * them. */
    __device__ uint32_t strip_at() const
    {
        return strips;
    }
    __device__ int strip_of_row() const
    {
        return (int)((strips ^ strips >> 3) >> 4 & 3);
    }
    /* Has the lane elements (r, r) and (r + 8, r) of a product, r = lane / 4? */
    __device__ bool has_diagonal() const
    {
        return lane() % 4 == lane() / 8;
    }
    /* 16 bytes of a token of a subtile, as the copy engine permutes them. */
    __device__ static uint32_t permute(int token, int chunk)
    {
        return (uint32_t)(token * 64 + ((chunk ^ (token >> 1 & 3)) << 4));
    }
    /* Address of what is known of the block. */
    __device__ uint32_t box_at() const
    {
        return load_uint(known + (uint32_t)offsetof(SweepWarp, box));
    }
    __device__ SweepBox *box() const
    {
        return reinterpret_cast<SweepBox *>(halo_shared + job.sweep.warps * sweep_own);
    }
    /* ---- rows of subtiles, one after the other ---- */

    /* The first row of an item, which may begin a run. */
    __device__ SweepRow locate(int32_t number, int32_t turn, bool begins) const
    {
        const natten_cuda_job &now = fresh(job);
        const natten_cuda_sweep &s = now.sweep;
        const natten_task &task = now.task;
        SweepItem &item = box()->warp[warp].item[turn];
        const Divider by_columns(task.axis[2].dilation, s.inverse[0]),
            by_rows(task.axis[1].dilation, s.inverse[1]),
            by_segments(s.segments, s.inverse[2]);
        int32_t rest = number, row, column_, segment, head, batch;
        if constexpr (biased) { /* all units of one head */
            rest = by_segments(place_of(number).index, segment);
            head = place_of(number).head;
            int32_t unit = natten_min(rest * s.units + warp / s.columns, units() - 1);
            batch = by_rows(by_columns(unit, column_), row);
        } else {
            rest = by_segments(by_rows(by_columns(rest, column_), row), segment);
            int32_t unit = rest * s.units + warp / s.columns;
            unit = natten_min(unit, (int32_t)(task.batch * task.heads) - 1);
            batch = Divider((int32_t)task.heads, s.inverse[3])(unit, head);
        }
        int32_t from = segment * s.each, to = natten_min(from + s.each, s.rows);
        __syncwarp();
        if (lane() == 0) {
            item.number = number;
            if (biased)
                item.run = box()->warp[warp].item[turn ^ 1].run + (int)begins;
            item.batch = batch, item.head = head;
            item.row = row, item.column = column_;
            item.own_from = from, item.own_to = to;
        }
        if (lane() < NATTEN_CUDA_SWEEP_TENSORS) {
            const int32_t at[3] = {
                0, row, column_ + (int32_t)across().x * task.axis[2].dilation};
            natten_role role = sweep_role(lane());
            item.base[lane()] =
                begin_of(now, role) + offset_of(now, role, batch, head, at);
        }
        __syncwarp();
        from = natten_max(from - 1, 0), to = natten_min(to + 1, s.rows);
        return SweepRow(s, from, turn, true, from + 1 == to);
    }
    /* Classes and batch items of a head. */
    __device__ int32_t units() const
    {
        const natten_task &task = fresh(job).task;
        return (int32_t)task.batch * task.axis[1].dilation * task.axis[2].dilation;
    }
    /* With a bias: which of a head's items and runs an item is. */
    struct PlaceOfItem {
        int32_t head, run, within, index;
    };
    __device__ PlaceOfItem place_of(int32_t item) const
    {
        const natten_cuda_sweep &s = fresh(job).sweep;
        PlaceOfItem p;
        int32_t run = Divider(s.run, s.inverse[4])(item, p.within);
        p.head = Divider(s.runs, s.inverse[3])(run, p.run);
        p.index = p.run * s.run + p.within;
        return p;
    }
    /* The first of an item's units. */
    __device__ int32_t first_unit(int32_t item) const
    {
        const natten_cuda_sweep &s = fresh(job).sweep;
        return Divider(s.segments, s.inverse[2])(place_of(item).index) * s.units;
    }
    /* The block's first item. */
    __device__ int32_t first_item() const
    {
        return (int32_t)blockIdx.x * (biased ? job.sweep.run : 1);
    }
    /* The next item; does it begin a run? */
    __device__ int32_t item_after(int32_t item, bool &begins) const
    {
        const natten_cuda_sweep &s = fresh(job).sweep;
        begins = true;
        if (!biased)
            return item + (int32_t)gridDim.x;
        PlaceOfItem p = place_of(item);
        begins = p.within + 1 == s.run || p.index + 1 == s.of_head;
        return begins ? item - p.within + (int32_t)gridDim.x * s.run : item + 1;
    }
    /* The row after one, if there is any.  What it goes on from is in shared memory,
     * for registers are scarce. */
    __device__ SweepRow after(const SweepRow &r) const
    {
        const natten_cuda_sweep &s = fresh(job).sweep;
        if (!r.last()) {
            int32_t row = r.row() + 1, own_to = of_item(r, offsetof(SweepItem, own_to));
            return SweepRow(s, row, r.turn(), false,
                            row + 1 == natten_min(own_to + 1, s.rows));
        }
        bool begins;
        int32_t item = item_after(of_item(r, offsetof(SweepItem, number)), begins);
        return item < s.items ? locate(item, r.turn() ^ 1, begins) : SweepRow();
    }
    __device__ const SweepItem &item_of(const SweepRow &r) const
    {
        return box()->warp[warp].item[r.turn()];
    }
    /* Where the lane's row of a tensor is, the first of the two it has of a subtile;
     * the other is two rows of the class further. */
    __device__ char *row_at(int tensor, const SweepRow &r, int32_t within = 0) const
    {
        const int32_t *step = fresh(job).sweep.step[tensor];
        int32_t y = r.start() + lane() / 16, x = lane() / 4 % 4;
        int64_t base = load_word(item_at(r), offsetof(SweepItem, base) + 8 * tensor);
        return reinterpret_cast<char *>(base) +
               (uint32_t)(y * step[0] + x * step[1] + within);
    }
    /* Is a row the item's own? */
    __device__ bool owns(const SweepRow &r) const
    {
        uint2 own_ = load_uints(item_at(r) + offsetof(SweepItem, own_from));
        return r.row() >= (int32_t)own_.x && r.row() < (int32_t)own_.y;
    }
    /* Do they exist? */
    __device__ bool has_row(const SweepRow &r, int i) const
    {
        return (lane() / 16 + 2 * i < r.count()) & ((int32_t)seen < 0);
    }
    /* The token of the warp's subtile of that row: along its tensors' axes. */
    __device__ bool token_at(const SweepItem &item, int32_t row, int token,
                             int32_t (&at)[3]) const
    {
        const natten_axis *axis = job.task.axis;
        const natten_cuda_sweep &s = job.sweep;
        int32_t y = natten_sweep_start(&s, 0, row) + token / 4,
                x = natten_sweep_start(&s, 1, column) + token % 4;
        at[0] = 0;
        at[1] = item.row + y * axis[1].dilation;
        at[2] = item.column + x * axis[2].dilation;
        return natten_sweep_has(&s, 0, row, token / 4) &&
               natten_sweep_has(&s, 1, column, token % 4);
    }
    __device__ char *row_of(natten_role role, const SweepItem &item,
                            const int32_t (&at)[3]) const
    {
        return begin_of(job, role) + offset_of(job, role, item.batch, item.head, at);
    }

    /* Queries that do not see place `j` of the subtiles down or across: 12 places, from
     * the first of the subtile before. */
    __device__ uint16_t hidden_from(int across, int32_t subtiles, int32_t j) const
    {
        const natten_cuda_sweep &s = job.sweep;
        natten_class c = natten_axis_class(&job.task.axis[1 + across], 0);
        uint32_t bits = 0xfff;
        if (!natten_sweep_has(&s, across, j / 4, j % 4))
            return (uint16_t)bits;
        natten_span span =
            natten_class_queries(&c, natten_sweep_start(&s, across, j / 4) + j % 4);
        for (int i = 0; i < 12; i++) {
            int32_t of = j / 4 - 1 + i / 4;
            int32_t query = natten_sweep_start(&s, across, of) + i % 4;
            if (of >= 0 && of < subtiles && natten_sweep_has(&s, across, of, i % 4) &&
                query >= span.begin && query < span.end)
                bits &= ~(1u << i);
        }
        return (uint16_t)bits;
    }
    /* What does not change: who sees whom. */
    __device__ void open()
    {
        const natten_cuda_sweep &s = job.sweep;
        for (int32_t j = (int32_t)threadIdx.x; j < 4 * s.rows; j += (int32_t)blockDim.x)
            box()->rows[j] = hidden_from(0, s.rows, j);
        for (int32_t j = (int32_t)threadIdx.x; j < 4 * s.columns;
             j += (int32_t)blockDim.x)
            box()->columns[j] = hidden_from(1, s.columns, j);
        if (threadIdx.x == 0)
            box()->unsound = 0, box()->wanted = 0;
        if (lane() == 0) {
            SweepWarp &own_ = box()->warp[warp];
            own_.start = natten_sweep_start(&s, 1, column);
            own_.count =
                (int16_t)natten_min(natten_sweep_start(&s, 1, column + 1) - own_.start,
                                    s.length[1] - own_.start);
            own_.meets_at = (int16_t)(1 + warp / s.columns);
            own_.item[1].run = -1; /* the one before the first */
            own_.trouble = 0;
            own_.box = shared_address(box());
        }
        if (lane() == 0)
            for (int i = 0; i < 3; i++) {
                barrier_make(ready(i), NATTEN_CUDA_WARP);
                if (i < 2)
                    barrier_make(full(i), 1);
                if (biased)
                    barrier_make(shared_address(&box()->warp[warp].summed[i]),
                                 NATTEN_CUDA_WARP);
                if (biased && warp == 0 && i < 2)
                    barrier_make(shared_address(&box()->tables[i]), NATTEN_CUDA_WARP);
            }
        __syncthreads();
    }

    /* Find out what is seen, once that is known of the block. */
    __device__ void look_across()
    {
        const int t = lane() % 4, x = lane() / 4 % 4;
        uint32_t two = load_uint(
            shared_address(&box()->columns[4 * column + natten_max(2 * t - 4, 0)]));
        two = (two >> x & 0x01110111u) * 5;
        if (sides == 2) /* its own first */
            two = (two >> 4 & 0x00050005u) |
                  ((column > 0 ? two << 4 : two >> 4) & 0x00500050u);
        bool exists = (uint32_t)x < (across().y & 0xffffu);
        seen = kept((t < 2 ? 0 : two) | (exists ? 1u << 31 : 0));
    }

    /* ---- copies ---- */

    /* A strip of a row: where it is, or, if its elements may lie anywhere, where the
     * row is. */
    __device__ static uint4 load_strip(const natten_cuda_job &now, natten_role role,
                                       const char *at, int chunk)
    {
        if constexpr (engine)
            return __ldg(reinterpret_cast<const uint4 *>(at));
        const int64_t item = now.task.view[role].item;
        const T *from = reinterpret_cast<const T *>(at) + chunk * strip * item;
        uint4 word;
        T *element = reinterpret_cast<T *>(&word);
        for (int e = 0; e < strip; e++)
            element[e] = __ldg(from + e * item);
        return word;
    }

    /* A subtile of the warp's column. */
    __device__ void fetch_tile(int which, const SweepRow &r, uint32_t to,
                               uint32_t full) const
    {
        const natten_role role = which == 0   ? NATTEN_QUERY
                                 : which == 1 ? NATTEN_GRAD_OUT
                                 : which == 2 ? NATTEN_KEY
                                              : NATTEN_VALUE;
        const natten_cuda_job &now = fresh(job);
        if constexpr (engine) {
            const natten_view &view = now.task.view[role];
            int32_t head = of_item(r, offsetof(SweepItem, head)),
                    row = of_item(r, offsetof(SweepItem, row)),
                    column_ = of_item(r, offsetof(SweepItem, column));
            const int32_t at[5] = {head * (int32_t)view.head +
                                       row * (int32_t)view.axis[1] +
                                       column_ * (int32_t)view.axis[2],
                                   (int32_t)across().x, r.start(), 0,
                                   of_item(r, offsetof(SweepItem, batch))};
            copy_box(to, &job.map[which][0], full, at);
        } else {
            const SweepItem &item = item_of(r);
            for (int i = lane(); i < 64; i += NATTEN_CUDA_WARP) {
                int32_t at[3];
                uint4 word = {0, 0, 0, 0};
                token_at(item, r.row(), i / 4, at);
                /* As the copy engine has it: also the token after a subtile of 3, of
                 * which all is hidden, but not that it is NaN. */
                if (at[1] < now.task.axis[1].length && at[2] < now.task.axis[2].length)
                    word = load_strip(now, role, row_of(role, item, at), i % 4);
                *reinterpret_cast<uint4 *>(
                    __cvta_shared_to_generic(to + permute(i / 4, i % 4))) = word;
            }
        }
    }
    /* Keys and values of one row and queries of the next, as far as they exist: of the
     * rows of queries the block's so-and-so-many-th, which goes to `turn`. */
    __device__ void fetch(const SweepRow &keys, const SweepRow &queries, int32_t number,
                          uint32_t turn) const
    {
        uint32_t full = this->full(number & 1);
        if (engine && !is_elected())
            return;
        if (engine)
            barrier_expect(full, (keys.exists() ? 2 * sweep_tile : 0) +
                                     (queries.exists() ? 2 * sweep_tile : 0));
        if (queries.exists()) {
            fetch_tile(0, queries, own() + turn + sweep_queries, full);
            fetch_tile(1, queries, own() + turn + sweep_grads, full);
        }
        if (keys.exists()) {
            uint32_t place = (uint32_t)(number - 1 & 1) * sweep_tile;
            fetch_tile(2, keys, own() + sweep_keys + place, full);
            fetch_tile(3, keys, own() + sweep_values, full);
        }
        if (!engine) {
            __syncwarp();
            if (lane() == 0)
                barrier_arrive(full);
        }
    }
    __device__ void wait_for_rows(int32_t number) const
    {
        for (int i = 0; i < sides; i++)
            barrier_wait<offsetof(SweepWarp, full)>(
                known_of(i) + (uint32_t)(number & 1) * 8, (uint32_t)(number >> 1 & 1));
    }
    /* The n-th row's stage of rows above, of the same row, or below, of both
     * neighbours.
     */
    template <int stage> __device__ void wait_for_stage(int32_t n) const
    {
        for (int i = 1; i < sides; i++)
            barrier_wait<offsetof(SweepWarp, ready) + stage * 8>(known_of(i),
                                                                 (uint32_t)(n & 1));
        __syncwarp(); /* its own */
    }
    /* The n-th row's stage is over: what a lane wrote may be read by the neighbours.
     * No lane comes here again before all others have: before a stage is told again the
     * lanes meet in wait_for_stage(). */
    template <int stage> __device__ void tell() const
    {
        barrier_arrive(ready(stage));
    }
    /* The same of a stage that no neighbour waits for.  It is over; synccheck wants
     * each phase of a barrier waited for by somebody. */
    template <int stage> __device__ void see_told(int32_t n) const
    {
        barrier_wait<offsetof(SweepWarp, ready) + stage * 8>(known, (uint32_t)(n & 1));
    }
    /* The block's so-and-so-many-th run that a row is of, and the biases of its head.
     */
    __device__ int32_t run_of(const SweepRow &r) const
    {
        return of_item(r, offsetof(SweepItem, run));
    }
    __device__ void wait_for_table(int32_t run) const
    {
        barrier_wait<offsetof(SweepBox, tables)>(box_at() + (uint32_t)(run & 1) * 8,
                                                 (uint32_t)(run >> 1 & 1));
    }
    /* Some result is not finite. */
    __device__ void note_trouble() const
    {
        store_shared(known + (uint32_t)offsetof(SweepWarp, trouble), 1);
    }
    /* dS of the n-th row's stage have been added up.  It is waited for in each step, so
     * that no barrier is a phase ahead of who waits at it. */
    template <int stage> __device__ void wait_for_sums(int32_t n) const
    {
        if constexpr (biased)
            barrier_wait<offsetof(SweepWarp, summed) + stage * 8>(known,
                                                                  (uint32_t)(n & 1));
    }
    /* All warps meet; synccheck wants them to come to one place of the program. */
    __device__ void meet_block() const
    {
        constexpr int number = NATTEN_CUDA_SWEEP_WARPS + 1; /* units have those below */
        static_assert(number < 16, "barriers of a block");
        meet(number, (job.sweep.warps + biased) * NATTEN_CUDA_WARP);
    }
    /* The warps of a unit meet. */
    __device__ void meet_unit() const
    {
        uint32_t number = across().y >> 16;
        meet((int)number, job.sweep.columns * NATTEN_CUDA_WARP);
    }

    /* The lane's parts of a row's statistics: strips of `out` of tokens lane / 4 and 8
     * further, and of one lane in four lse of both. */
    struct Stats {
        uint4 out[2];
        float lse[2];
    };
    /* They will be wanted in the next step but one. */
    __device__ void bring_stats_nearer(const SweepRow &r) const
    {
        const natten_cuda_job &now = fresh(job);
        if (!engine)
            return;
        const char *out = row_at(sweep_out, r, strip_of_row() * 16);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (has_row(r, i))
                bring_nearer(out);
            out += 2 * now.sweep.step[sweep_out][0];
        }
    }
    __device__ Stats load_stats(const SweepRow &r) const
    {
        const natten_cuda_job &now = fresh(job);
        Stats of = {};
        if (!r.exists())
            return of;
        const char *out = row_at(sweep_out, r, engine ? strip_of_row() * 16 : 0),
                   *lse = row_at(sweep_lse, r);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (has_row(r, i)) {
                of.out[i] = load_strip(now, NATTEN_OUT, out, strip_of_row());
                if (has_diagonal())
                    of.lse[i] = __ldg(reinterpret_cast<const float *>(lse));
            }
            out += 2 * now.sweep.step[sweep_out][0];
            lse += 2 * now.sweep.step[sweep_lse][0];
        }
        return of;
    }
    /* delta of a row, whose grad_out is in the place `turn`, is the diagonal of
     * out grad_out^T; keep it and lse, both with a minus, and write it to where others
     * look for it. */
    __device__ void keep_stats(const Stats &of, const SweepRow &r, uint32_t turn) const
    {
        const natten_cuda_job &now = fresh(job);
        if (!r.exists())
            return;
        float product[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint4 grad = load_words(strip_at() + turn + sweep_grads + i * 512);
            multiply<T>(product[i],
                        {of.out[0].x, of.out[1].x, of.out[0].y, of.out[1].y}, grad.x,
                        grad.y, {0, 0, 0, 0});
            multiply<T>(product[i],
                        {of.out[0].z, of.out[1].z, of.out[0].w, of.out[1].w}, grad.z,
                        grad.w);
        }
        if (!has_diagonal())
            return;
        bool odd = lane() / 4 % 2;
        char *to = row_at(sweep_delta, r);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            bool there = has_row(r, i);
            float delta = odd ? product[i][2 * i + 1] : product[i][2 * i];
            if (there) {
                if (now.task.view[NATTEN_GRAD_LSE].data != nullptr)
                    delta -= grad_lse_at(item_of(r), r.row(), i);
                store_float(to, delta);
            }
            to += 2 * now.sweep.step[sweep_delta][0];
            /* Minus lse of 8 tokens, then minus their delta. */
            float *kept_at = reinterpret_cast<float *>(
                __cvta_shared_to_generic(own() + sweep_stats + turn / 8));
            kept_at[lane() / 4 + 16 * i] = there ? -lse_of(of.lse[i]) : 0;
            kept_at[lane() / 4 + 16 * i + 8] = there ? -delta : 0;
        }
    }
    __device__ float grad_lse_at(const SweepItem &item, int32_t row, int i) const
    {
        const natten_view &view = job.task.view[NATTEN_GRAD_LSE];
        int32_t at[3];
        token_at(item, row, lane() / 4 + 8 * i, at);
        int64_t offset = item.batch * view.batch + item.head * view.head;
        for (int a = 0; a < 3; a++)
            offset += at[a] * view.axis[a];
        return __ldg(static_cast<const float *>(view.data) + offset);
    }

  private:
    uint32_t strips; /* address of the warp's part and of the lane's strip in it */

    /* A number of a row's item, by where it is there. */
    __device__ int32_t of_item(const SweepRow &r, int offset) const
    {
        return (int32_t)load_uint(item_at(r) + (uint32_t)offset);
    }
    /* Where the warp's column begins in a class, and how many tokens wide it is. */
    __device__ uint2 across() const
    {
        return load_uints(known + (uint32_t)offsetof(SweepWarp, start));
    }
    __device__ uint32_t item_at(const SweepRow &r) const
    {
        return known + (uint32_t)(offsetof(SweepWarp, item) +
                                  r.turn() * (int)sizeof(SweepItem));
    }
    __device__ uint32_t full(int32_t n) const
    {
        return known + (uint32_t)(offsetof(SweepWarp, full) + n * 8);
    }
    __device__ uint32_t ready(int stage) const
    {
        return known + (uint32_t)(offsetof(SweepWarp, ready) + stage * 8);
    }
    /* What is known of the warp itself, of its first neighbour and of its second. */
    __device__ uint32_t known_of(int i) const
    {
        static_assert(sweep_own == 64 * sizeof(SweepWarp), "");
        if (i == 0)
            return known;
        uint32_t further; /* worked out each time: registers are scarce */
        asm volatile("shr.s32 %0, %1, 6;" : "=r"(further) : "r"(i == 1 ? right : left));
        return known + further;
    }
};

} // namespace natten

#endif
