/* SPDX-License-Identifier: MIT
 *
 * A warp's column of subtiles in the pass that has all gradients of a small window
 * (sweep_backward.cuh has the words): which rows it goes over, where they lie, and how
 * they get into shared memory.
 *
 * Shared memory of a warp, 16 KiB: its queries and grad_out of 4 rows, keys of 2,
 * values of 1, dS of 3 stages, lse to base 2 and minus delta of 4 rows. */
#ifndef NATTEN_CUDA_DEVICE_SWEEP_TILE_CUH
#define NATTEN_CUDA_DEVICE_SWEEP_TILE_CUH

#include "cuda/device/halo_tile.cuh"

#include <stddef.h>

namespace natten {

/* Places of a warp's part of shared memory, bytes. */
constexpr uint32_t sweep_tile = 1024, sweep_queries = 0, sweep_grads = 4 * sweep_tile,
                   sweep_keys = 8 * sweep_tile, sweep_values = 10 * sweep_tile,
                   sweep_ds = 11 * sweep_tile, sweep_stage = 3 * 512,
                   sweep_stats = sweep_ds + 3 * sweep_stage,
                   sweep_own = NATTEN_CUDA_SWEEP_BYTES;

using SweepItem = natten_cuda_sweep_item;
using SweepWarp = natten_cuda_sweep_warp;
using SweepBox = natten_cuda_sweep_box;

/* A row of subtiles in the order in which the block goes over them: in one register. */
struct SweepRow {
    int32_t bits = -1; /* -1: there is none */

    SweepRow() = default;
    __device__ SweepRow(int32_t row, int32_t turn, bool first, bool last)
        : bits(row << 3 | turn << 2 | (int)first << 1 | (int)last)
    {
    }
    __device__ bool exists() const
    {
        return bits >= 0;
    }
    __device__ int32_t row() const
    {
        return bits >> 3;
    }
    __device__ int32_t turn() const /* place of its item in SweepBox::item */
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

/* The same, to go on from: `item` is its number, and its rows end at `to`. */
struct SweepEnd {
    SweepRow at;
    int32_t item, to;
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
template <class T, int sides, bool engine> class SweepTile {
  public:
    const natten_cuda_job &job;
    int lane, warp, column;
    uint32_t own;         /* address of the warp's part */
    uint32_t known;       /* and of what is known of it */
    uint32_t left, right; /* from there to its neighbours' parts, or 0; of two columns
                             `right` is to the other's */

    __device__ explicit SweepTile(const natten_cuda_job &job_)
        : job(job_), lane(threadIdx.x % NATTEN_CUDA_WARP),
          warp(threadIdx.x / NATTEN_CUDA_WARP), column(warp % job_.sweep.columns)
    {
        own = shared_address(halo_shared) + (uint32_t)warp * sweep_own;
        known = kept(shared_address(&box()->warp[warp]));
        left = kept(column > 0 ? 0 - sweep_own : 0);
        right = kept(column + 1 < job_.sweep.columns ? sweep_own : 0);
        if (sides == 2 && column > 0)
            right = left;
    }

    /* 16 bytes of a token of a subtile, as the copy engine permutes them. */
    __device__ static uint32_t permute(int token, int chunk)
    {
        return (uint32_t)(token * 64 + ((chunk ^ (token >> 1 & 3)) << 4));
    }
    __device__ SweepBox *box() const
    {
        return reinterpret_cast<SweepBox *>(halo_shared + job.sweep.warps * sweep_own);
    }
    /* ---- rows of subtiles, one after the other ---- */

    /* The first row of an item. */
    __device__ void locate(SweepEnd &end, int32_t turn)
    {
        const natten_cuda_job &now = fresh(job);
        const natten_cuda_sweep &s = now.sweep;
        const natten_task &task = now.task;
        SweepItem &item = box()->warp[warp].item[turn];
        int32_t rest = end.item, d = task.axis[2].dilation;
        int32_t column_ = rest % d;
        rest /= d, d = task.axis[1].dilation;
        int32_t row = rest % d;
        rest /= d;
        int32_t segment = rest % s.segments;
        int32_t unit = rest / s.segments * s.units + warp / s.columns;
        unit = natten_min(unit, (int32_t)(task.batch * task.heads) - 1);
        int32_t batch = unit / (int32_t)task.heads;
        int32_t head = unit - batch * (int32_t)task.heads;
        int32_t from = segment * s.each, to = natten_min(from + s.each, s.rows);
        __syncwarp();
        if (lane == 0) {
            item.batch = batch, item.head = head;
            item.row = row, item.column = column_;
            item.own_from = from, item.own_to = to;
        }
        if (lane < NATTEN_CUDA_SWEEP_TENSORS) {
            const int32_t at[3] = {0, row, column_};
            natten_role role = sweep_role(lane);
            item.base[lane] =
                begin_of(now, role) + offset_of(now, role, batch, head, at);
        }
        __syncwarp();
        from = natten_max(from - 1, 0), to = natten_min(to + 1, s.rows);
        end.at = SweepRow(from, turn, true, from + 1 == to);
        end.to = to;
    }
    /* The next row, if there is one. */
    __device__ void advance(SweepEnd &end)
    {
        if (!end.at.last()) {
            int32_t row = end.at.row() + 1;
            end.at = SweepRow(row, end.at.turn(), false, row + 1 == end.to);
            return;
        }
        end.item += (int32_t)gridDim.x;
        if (end.item < job.sweep.items)
            locate(end, end.at.turn() ^ 1);
        else
            end.at = SweepRow();
    }
    __device__ const SweepItem &item_of(const SweepRow &r) const
    {
        return box()->warp[warp].item[r.turn()];
    }
    /* Where the lane's row of a tensor is, the first of the two it has of a subtile;
     * the other is two rows of the class further. */
    __device__ char *row_at(int tensor, const SweepRow &r, int32_t further = 0) const
    {
        const int32_t *step = fresh(job).sweep.step[tensor];
        int32_t y = 4 * (r.row() + further) + lane / 16, x = 4 * column + lane / 4 % 4;
        int64_t base = load_word(item_at(r), offsetof(SweepItem, base) + 8 * tensor);
        return reinterpret_cast<char *>(base) + (uint32_t)(y * step[0] + x * step[1]);
    }
    /* Is a row the item's own? */
    __device__ bool owns(const SweepRow &r, int32_t further = 0) const
    {
        uint2 own_ = load_uints(item_at(r) + offsetof(SweepItem, own_from));
        int32_t row = r.row() + further;
        return row >= (int32_t)own_.x && row < (int32_t)own_.y;
    }
    /* Do they exist? */
    __device__ bool has_row(int32_t row, int i) const
    {
        const natten_cuda_sweep &s = fresh(job).sweep;
        return 4 * row + lane / 16 + 2 * i < s.length[0] &&
               4 * column + lane / 4 % 4 < s.length[1];
    }
    /* The token of the warp's subtile of that row: along its tensors' axes. */
    __device__ bool token_at(const SweepItem &item, int32_t row, int token,
                             int32_t (&at)[3]) const
    {
        const natten_axis *axis = job.task.axis;
        int32_t y = 4 * row + token / 4, x = 4 * column + token % 4;
        at[0] = 0;
        at[1] = item.row + y * axis[1].dilation;
        at[2] = item.column + x * axis[2].dilation;
        return at[1] < axis[1].length && at[2] < axis[2].length;
    }
    __device__ char *row_of(natten_role role, const SweepItem &item,
                            const int32_t (&at)[3]) const
    {
        return begin_of(job, role) + offset_of(job, role, item.batch, item.head, at);
    }

    /* Queries that do not see key `j` of a class: 12 of them, from the first of the
     * subtile before. */
    __device__ uint16_t hidden_from(const natten_axis &axis, int32_t j) const
    {
        natten_class c = natten_axis_class(&axis, 0);
        uint32_t bits = 0xfff;
        if (j < c.length) {
            natten_span span = natten_class_queries(&c, j);
            int32_t first = j / 4 * 4 - 4;
            for (int i = 0; i < 12; i++)
                if (first + i >= span.begin && first + i < span.end)
                    bits &= ~(1u << i);
        }
        return (uint16_t)bits;
    }
    /* What does not change: who sees whom. */
    __device__ void open()
    {
        const natten_cuda_sweep &s = job.sweep;
        for (int32_t j = (int32_t)threadIdx.x; j < 4 * s.rows; j += (int32_t)blockDim.x)
            box()->rows[j] = hidden_from(job.task.axis[1], j);
        for (int32_t j = (int32_t)threadIdx.x; j < 4 * s.columns;
             j += (int32_t)blockDim.x)
            box()->columns[j] = hidden_from(job.task.axis[2], j);
        if (lane == 0)
            for (int i = 0; i < 3; i++) {
                barrier_make(ready(i), 1);
                if (i < 2)
                    barrier_make(full(i), 1);
            }
        __syncthreads();
    }

    /* ---- copies ---- */

    /* A subtile of the warp's column. */
    __device__ void fetch_tile(int which, const SweepRow &r, uint32_t to,
                               uint32_t full) const
    {
        const natten_role role = which == 0   ? NATTEN_QUERY
                                 : which == 1 ? NATTEN_GRAD_OUT
                                 : which == 2 ? NATTEN_KEY
                                              : NATTEN_VALUE;
        const SweepItem &item = item_of(r);
        const natten_cuda_job &now = fresh(job);
        if constexpr (engine) {
            const natten_view &view = now.task.view[role];
            const int32_t at[5] = {(int32_t)(item.head * view.head +
                                             item.row * view.axis[1] +
                                             item.column * view.axis[2]),
                                   4 * column, 4 * r.row(), 0, item.batch};
            copy_box(to, &job.map[which][0], full, at);
        } else {
            Source<T> source(now, role);
            for (int i = lane; i < 64; i += NATTEN_CUDA_WARP) {
                int32_t at[3];
                uint4 word = {0, 0, 0, 0};
                bool there = token_at(item, r.row(), i / 4, at);
                const T *row =
                    there ? reinterpret_cast<const T *>(row_of(role, item, at)) +
                                i % 4 * strip * source.view->item
                          : nullptr;
                T *element = reinterpret_cast<T *>(&word);
                for (int e = 0; e < strip && there; e++)
                    element[e] = __ldg(row + e * source.view->item);
                *reinterpret_cast<uint4 *>(
                    __cvta_shared_to_generic(to + permute(i / 4, i % 4))) = word;
            }
        }
    }
    /* Keys and values of one row and queries of the next, as far as they exist: of the
     * rows of queries the block's so-and-so-many-th. */
    __device__ void fetch(const SweepRow &keys, const SweepRow &queries,
                          int32_t number) const
    {
        uint32_t full = this->full(number & 1);
        if (engine && lane != 0)
            return;
        if (engine)
            barrier_expect(full, (keys.exists() ? 2 * sweep_tile : 0) +
                                     (queries.exists() ? 2 * sweep_tile : 0));
        if (queries.exists()) {
            uint32_t place = own + (uint32_t)(number & 3) * sweep_tile;
            fetch_tile(0, queries, place + sweep_queries, full);
            fetch_tile(1, queries, place + sweep_grads, full);
        }
        if (keys.exists()) {
            uint32_t turn = (uint32_t)(number - 1 & 1) * sweep_tile;
            fetch_tile(2, keys, own + sweep_keys + turn, full);
            fetch_tile(3, keys, own + sweep_values, full);
        }
        if (!engine) {
            __syncwarp();
            if (lane == 0)
                barrier_arrive(full);
        }
    }
    __device__ void wait_for_rows(int32_t number) const
    {
        for (int i = 0; i < sides; i++)
            barrier_wait(full(number & 1) + known_of(i), (uint32_t)(number >> 1 & 1));
    }
    /* The n-th row's stage of rows above, of the same row, or below, of both
     * neighbours.
     */
    __device__ void wait_for_stage(int stage, int32_t n) const
    {
        for (int i = 1; i < sides; i++)
            barrier_wait(ready(stage) + known_of(i), (uint32_t)(n & 1));
        __syncwarp(); /* its own */
    }
    /* The stage is over: what was written may be read by the neighbours. */
    __device__ void tell(int stage) const
    {
        __syncwarp();
        if (lane == 0)
            barrier_arrive(ready(stage));
    }

    /* What lse and delta of half of the warp's queries of a row come from: on its
     * way while something else is done. */
    struct Stats {
        uint4 out, grad;
        float lse, delta;
    };
    __device__ bool works_delta_out() const
    {
        return engine && fresh(job).sweep.writes_delta;
    }
    __device__ Stats load_stats(const SweepRow &r, int half) const
    {
        const natten_cuda_job &now = fresh(job);
        const natten_cuda_sweep &s = now.sweep;
        Stats stats = {};
        if (!r.exists() || !has_row(r.row(), half))
            return stats;
        const char *lse = row_at(sweep_lse, r) + 2 * half * s.step[sweep_lse][0];
        stats.lse = __ldg(reinterpret_cast<const float *>(lse));
        if (works_delta_out()) {
            int64_t to_grad = static_cast<char *>(now.task.view[NATTEN_GRAD_OUT].data) -
                              static_cast<char *>(now.task.view[NATTEN_OUT].data);
            const char *out =
                row_at(sweep_out, r) + 2 * half * s.step[sweep_out][0] + lane % 4 * 16;
            stats.out = __ldg(reinterpret_cast<const uint4 *>(out));
            stats.grad = __ldg(reinterpret_cast<const uint4 *>(out + to_grad));
        } else {
            const char *delta =
                row_at(sweep_delta, r) + 2 * half * s.step[sweep_delta][0];
            stats.delta = __ldg(reinterpret_cast<const float *>(delta));
        }
        return stats;
    }
    /* Write them to the place of row `number`; delta that is not there yet is worked
     * out, by the same sums in the same order as compact_delta()'s. */
    __device__ void keep_stats(const Stats &stats, const SweepRow &r, int half,
                               int32_t number) const
    {
        const natten_cuda_job &now = fresh(job);
        bool works = works_delta_out(), there = has_row(r.row(), half);
        float delta = stats.delta;
        if (works) {
            delta = delta_of(stats.out, stats.grad);
            delta += __shfl_xor_sync(all_lanes, delta, 2);
            delta += __shfl_xor_sync(all_lanes, delta, 1);
        }
        if (lane % 4 != 0)
            return;
        if (works && there) {
            if (now.task.view[NATTEN_GRAD_LSE].data != nullptr)
                delta -= grad_lse_at(item_of(r), r.row(), half);
            store_float(row_at(sweep_delta, r) +
                            2 * half * now.sweep.step[sweep_delta][0],
                        delta);
        }
        float2 *to = reinterpret_cast<float2 *>(
            __cvta_shared_to_generic(own + sweep_stats + (uint32_t)(number & 3) * 128));
        to[lane / 4 + 8 * half] = {there ? lse_of(stats.lse) : 0, -delta};
    }
    __device__ static float delta_of(const uint4 &x, const uint4 &y)
    {
        const uint32_t left[4] = {x.x, x.y, x.z, x.w}, right[4] = {y.x, y.y, y.z, y.w};
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 a = unpack<T>(left[i]), b = unpack<T>(right[i]);
            sum = fmaf(a.y, b.y, fmaf(a.x, b.x, sum));
        }
        return sum;
    }
    __device__ float grad_lse_at(const SweepItem &item, int32_t row, int i) const
    {
        const natten_view &view = job.task.view[NATTEN_GRAD_LSE];
        int32_t at[3];
        token_at(item, row, lane / 4 + 8 * i, at);
        int64_t offset = item.batch * view.batch + item.head * view.head;
        for (int a = 0; a < 3; a++)
            offset += at[a] * view.axis[a];
        return __ldg(static_cast<const float *>(view.data) + offset);
    }

  private:
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
    /* From what is known of the warp to what is of itself, its first neighbour and its
     * second. */
    __device__ uint32_t known_of(int i) const
    {
        constexpr int bytes = sizeof(SweepWarp);
        uint32_t far = i == 0 ? 0 : i == 1 ? right : left;
        return (uint32_t)((int32_t)far / (int32_t)sweep_own * bytes);
    }
};

} // namespace natten

#endif
