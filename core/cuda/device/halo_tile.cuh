/* SPDX-License-Identifier: MIT
 *
 * Tiles of tokens with a halo of partners, for products of matrices.
 *
 *     row, partner   a query and the keys it sees, or (grad_tokens) a key and the
 *                    queries that see it
 *     subtile        16 rows next to each other, such as 4 x 4: one warp
 *     tile           the subtiles of a block, such as 8 x 16, times `units` heads or
 *                    batch items
 *     halo           the partners of a tile, a box; it passes through shared memory
 *                    plane by plane, a plane in slices of `rows` rows, two slices at a
 *                    time: one arrives while the other is worked on
 *     box            the partners of a subtile, part of the halo
 *     group, pair    8 partners of a box, and 16 of them: the columns of a product.
 *                    ldmatrix takes an address for each partner, so any 8 can be
 *                    a group and none outside of the box is touched
 *
 * A block keeps its place in the grid and goes through batch and heads.  So what its
 * window is, who sees whom and where everything lies in a slice is worked out once, in
 * integers, with the rule of geometry/axis.h, and kept as a table of HaloPair.
 *
 * Chunks of 16 bytes lie permuted within rows, so that 8 partners in a row of a slice
 * are in different banks. */
#ifndef NATTEN_CUDA_DEVICE_HALO_TILE_CUH
#define NATTEN_CUDA_DEVICE_HALO_TILE_CUH

#include "cuda/device/tensor_core.cuh"
#include "cuda/device/walk.cuh"

namespace natten {

/* Rows of a slice begin at multiples of their length. */
extern __shared__ __align__(1024) char halo_shared[];

constexpr int subtile = NATTEN_CUDA_SUBTILE;

/* The same job, of which the compiler can't tell that.  Addresses and sizes of copies
 * and results are worked out from it where they are needed; otherwise they would all be
 * worked out ahead of the loop and crowd the sums out of the registers. */
__device__ inline const natten_cuda_job &fresh(const natten_cuda_job &job)
{
    int zero;
    asm volatile("mov.u32 %0, 0;" : "=r"(zero));
    return *reinterpret_cast<const natten_cuda_job *>(
        reinterpret_cast<const char *>(&job) + zero);
}

/* Quotients without dividing.  The inverse is rounded down, so the product is too small
 * by one at most, whatever the number. */
struct Divider {
    uint32_t divisor, inverse;

    __device__ explicit Divider(int32_t by)
        : divisor((uint32_t)by), inverse(0xffffffffu / (uint32_t)by)
    {
    }
    __device__ Divider(int32_t by, uint32_t inverse_)
        : divisor((uint32_t)by), inverse(inverse_)
    {
    }
    /* k / divisor; `rest` is what is left. */
    __device__ int32_t operator()(int32_t k, int32_t &rest) const
    {
        uint32_t q = __umulhi((uint32_t)k, inverse), r = (uint32_t)k - q * divisor;
        bool more = r >= divisor;
        rest = (int32_t)(more ? r - divisor : r);
        return (int32_t)(more ? q + 1 : q);
    }
    __device__ int32_t operator()(int32_t k) const
    {
        int32_t rest;
        return (*this)(k, rest);
    }
};

/* delta, where roles are named: it is no tensor of the task. */
constexpr natten_role delta_role = NATTEN_ROLES;

/* Bytes from a tensor's first row to another. */
__device__ inline int64_t offset_of(const natten_cuda_job &job, natten_role role,
                                    int32_t batch, int32_t head, const int32_t (&at)[3])
{
    if (role == delta_role)
        return query_number(job.task, batch, head, at) * (int64_t)sizeof(float);
    const natten_view &view = job.task.view[role];
    int64_t offset = batch * view.batch + head * view.head;
    for (int a = 0; a < 3; a++)
        offset += at[a] * view.axis[a];
    return offset * (role == NATTEN_LSE ? 4 : 2);
}

__device__ inline char *begin_of(const natten_cuda_job &job, natten_role role)
{
    return static_cast<char *>(role == delta_role ? job.delta
                                                  : job.task.view[role].data);
}

/* One axis of a block's tile, in positions of its class. */
template <Side side> struct HaloAxis {
    natten_class c;
    int32_t first, end;  /* rows of the tile: first .. end - 1 exist */
    int32_t begin, stop; /* the halo */

    __device__ HaloAxis(const natten_axis *axis, int32_t residue, int32_t tile,
                        int32_t tokens)
        : c(natten_axis_class(axis, residue))
    {
        natten_span all = side == Side::queries ? c.queries : c.keys;
        first = natten_min(all.begin + tile * tokens, all.end);
        end = natten_min(first + tokens, all.end);
        begin = stop = 0;
        if (first < end) {
            begin = partners(first).begin;
            stop = partners(end - 1).end;
        }
    }
    __device__ natten_span partners(int32_t g) const
    {
        return side == Side::queries ? natten_class_keys(&c, g)
                                     : natten_class_queries(&c, g);
    }
    /* Where a position lies along the axis of its tensor. */
    __device__ int32_t row_at(int32_t g, int32_t dilation) const
    {
        return side == Side::queries ? c.query_index + (g - c.queries.begin) * dilation
                                     : c.key_index + (g - c.keys.begin) * dilation;
    }
    __device__ int32_t partner_at(int32_t g, int32_t dilation) const
    {
        return side == Side::queries ? c.key_index + (g - c.keys.begin) * dilation
                                     : c.query_index + (g - c.queries.begin) * dilation;
    }
};

/* A tensor whose rows are copied into shared memory. */
template <class T> struct Source {
    const natten_view *view;
    int32_t count; /* elements of a row */
    bool vector;   /* its rows can be read 16 bytes at a time */

    __device__ Source(const natten_cuda_job &job, natten_role role)
        : view(&job.task.view[role]),
          count((int32_t)(is_of_values(role) ? job.task.dim_v : job.task.dim)),
          vector((job.vector >> role & 1) != 0)
    {
    }
    __device__ static constexpr bool is_of_values(natten_role role)
    {
        return role == NATTEN_VALUE || role == NATTEN_OUT || role == NATTEN_GRAD_OUT ||
               role == NATTEN_GRAD_VALUE;
    }

    /* Begin to copy chunk `chunk` of a row; zeros past its end. */
    __device__ void copy(uint32_t to, const T *row, int chunk) const
    {
        int32_t from = chunk * strip;
        if (vector) {
            bool there = from < count;
            copy16(to, there ? row + from : row, there);
            return;
        }
        uint4 word = {0, 0, 0, 0};
        T *element = reinterpret_cast<T *>(&word);
#pragma unroll 1
        for (int e = 0; e < strip && from + e < count; e++)
            element[e] = __ldg(row + (from + e) * view->item);
        *reinterpret_cast<uint4 *>(__cvta_shared_to_generic(to)) = word;
    }
};

/* What a lane has to know of a pair of groups: addresses in the slice, multiples of 16,
 * of its row of ldmatrix, and who is hidden from whom; r = lane / 4, t = lane % 4.
 *
 *     bits 15..4    partner lane % 8 of group 0, chunk lane / 8 of its row
 *     bits 31..20   the same of group 1
 *     bit 2g        column 2t of group g is hidden from row r
 *     bit 2g + 1    the same from row r + 8
 *     16 higher     the same for column 2t + 1 */
struct HaloPair {
    uint32_t word, left, right;

    __device__ explicit HaloPair(uint32_t word_)
        : word(word_), left(word_ & 0xfff0u), right(word_ >> 16 & 0xfff0u)
    {
    }
    HaloPair() = default;
    __device__ uint32_t row(int group) const
    {
        return group == 0 ? left : right;
    }
    /* Partner lane % 8 of group lane / 8 % 2, chunk lane / 16: so matrices of both
     * groups are next to each other in registers.  Chunks differ in bits that only
     * exclusive ors change, and slices begin at multiples of their rows. */
    __device__ uint32_t both(uint32_t slice) const
    {
        uint32_t eighth = threadIdx.x / 8 % 4;
        return (slice + (eighth % 2 == 0 ? left : right)) ^ (eighth ^ eighth / 2) << 4;
    }
};

/* Far below every product, yet so that sums with it stay finite: what is hidden gets
 * weight 0.  A product with the unit matrix adds it, which takes fewer instructions
 * than selecting; rows whose own products come near it are found not to be finite. */
constexpr float hidden = -0x1p126f;

/* Bits of HaloPair::word that hide everything from row r, or from row r + 8. */
constexpr uint32_t hides_upper = 0x00050005, hides_lower = 0x000a000a;

/* c = `hidden` where group g's partners are hidden from the lane's rows, by the pair or
 * by the bits `also`; else 0.  `unit` is minus the unit matrix. */
__device__ inline void hide(float (&c)[4], const HaloPair &pair, uint32_t also, int g,
                            uint32_t unit)
{
    constexpr uint32_t large = 0x7e80; /* 2^126 */
    uint32_t bits = pair.word | also;
    uint32_t upper = (bits & 0x00010001u << (2 * g)) * (large >> (2 * g));
    uint32_t lower = (bits & 0x00020002u << (2 * g)) * (large >> (2 * g + 1));
    multiply_half(c, upper, lower, unit, {0, 0, 0, 0});
}

/* Step of a block: a slice of a plane of the halo, of `units` units. */
struct HaloStep {
    int32_t first_unit; /* batch item times heads, plus head */
    int32_t head;       /* of the group that shares the rows' head */
    int32_t plane, slice;
};

/* A block's tile.  `dims` is the width of rows in shared memory; `engine`: the planner
 * may want the copy engine. */
template <class T, int dims, Side side, bool engine> class HaloTile {
  public:
    static constexpr int row_bytes = dims * (int)sizeof(T);
    static constexpr int chunks = row_bytes / 16;
    static constexpr bool of_queries = side == Side::queries; /* the rows */

    const natten_cuda_job &job;
    int32_t lane, warp;
    int turn = 0;        /* of the unit that is worked on: 0, 1, 2, 0, ... */
    uint32_t minus_unit; /* minus the unit matrix, as B of 8 columns in bfloat16 */

    __device__ explicit HaloTile(const natten_cuda_job &job_)
        : job(job_), lane(threadIdx.x % NATTEN_CUDA_WARP),
          warp(threadIdx.x / NATTEN_CUDA_WARP)
    {
        int apart = lane / 4 - lane % 4 * 2;
        minus_unit = apart == 0 ? 0xbf80u : apart == 1 ? 0xbf800000u : 0;
    }

    __device__ static uint32_t permute(int32_t token, int chunk)
    {
        int low = chunks == 4 ? token >> 1 & 3 : token & 7;
        return (uint32_t)(token * row_bytes + ((chunk ^ low) << 4));
    }

    __device__ natten_cuda_halo_box *halo() const
    {
        return reinterpret_cast<natten_cuda_halo_box *>(halo_shared + job.halo.info_at);
    }
    __device__ natten_cuda_halo_warp *info() const
    {
        return reinterpret_cast<natten_cuda_halo_warp *>(halo() + 1) + place();
    }
    /* The warp's unit, in the block, and the place of its subtile in the tile, which
     * other units have too.  They are worked out where they are needed: spilled, they
     * would wait for a first-level cache that shared memory leaves little of. */
    __device__ int32_t unit() const
    {
        return (int32_t)(threadIdx.x / NATTEN_CUDA_WARP) >> job.halo.log2_places;
    }
    __device__ int32_t place() const
    {
        return (int32_t)(threadIdx.x / NATTEN_CUDA_WARP) & (job.halo.places - 1);
    }
    /* The warp's rows of tensor `n`. */
    __device__ uint32_t own_rows(int n) const
    {
        return shared_address(halo_shared) +
               (uint32_t)(job.halo.rows_at + warp * job.halo.row_bytes +
                          n * subtile * row_bytes);
    }
    __device__ uint32_t *table() const
    {
        return reinterpret_cast<uint32_t *>(halo_shared + job.halo.tables_at) +
               place() * job.halo.pairs * NATTEN_CUDA_WARP + lane;
    }
    /* 4 columns 2t, 2t + 1 of both groups of a pair: entries of bias, in bytes from the
     * box's first; their tokens in the slice. */
    __device__ ushort4 *columns(int which) const
    {
        return reinterpret_cast<ushort4 *>(halo_shared + job.halo.columns_at) +
               ((which * job.halo.places + place()) * job.halo.pairs) * 4 + lane % 4;
    }
    /* What rows of a subtile see, where biases are summed. */
    __device__ natten_cuda_halo_seen *seen_by(int32_t of_place) const
    {
        return reinterpret_cast<natten_cuda_halo_seen *>(halo_shared +
                                                         job.halo.seen_at) +
               of_place * subtile;
    }
    /* The warp's part of a stage. */
    __device__ uint32_t stage(int n) const
    {
        return shared_address(halo_shared) +
               (uint32_t)((n * job.halo.units + unit()) * job.halo.unit_bytes);
    }

    __device__ int32_t group() const
    {
        return side == Side::queries ? 1 : job.halo.group;
    }

    /* Batch item of a unit of rows, and its head. */
    __device__ int32_t batch_of(int32_t unit_, int32_t &head) const
    {
        int32_t inner,
            outer = Divider(job.halo.inner, job.halo.inner_inverse)(unit_, inner);
        head = job.halo.is_by_head ? outer : inner;
        return job.halo.is_by_head ? inner : outer;
    }

    __device__ static int next_turn(int turn_)
    {
        return turn_ == 2 ? 0 : turn_ + 1;
    }

    /* Find the block's place; false if no row of its tile exists. */
    template <class Pass> __device__ bool open();

    /* Work out where the slices of a step begin, of all its units and the pass's
     * tensors of partners, a thread each; and where units of rows do.  Others may read
     * it after the next barrier. */
    template <class Pass> __device__ void find_slices(int n, const HaloStep &s) const
    {
        int i = threadIdx.x / NATTEN_CUDA_PARTNERS,
            which = threadIdx.x % NATTEN_CUDA_PARTNERS;
        if (i >= job.halo.units || which >= Pass::partner_tensors)
            return;
        int32_t batch, head, at[3];
        unit_of(s, i, batch, head);
        slice_at(s, at);
        natten_role role = Pass::partner_role(which);
        if (uses_engine() && which < 2)
            *reinterpret_cast<int2 *>(&halo()->partner_base[n][i][which]) = {
                inner_of(role, head), batch};
        else
            halo()->partner_base[n][i][which] =
                begin_of(job, role) + offset_of(job, role, batch, head, at);
    }
    template <class Pass> __device__ void find_rows(int turn_, int32_t first_unit) const
    {
        int thread = threadIdx.x - NATTEN_CUDA_WARP;
        int i = thread / NATTEN_CUDA_ROWS, which = thread % NATTEN_CUDA_ROWS;
        if (thread < 0 || i >= job.halo.units || which >= Pass::row_tensors)
            return;
        const int32_t at[3] = {0, 0, 0};
        int32_t head,
            batch = batch_of(natten_min(first_unit + i, halo()->end - 1), head);
        natten_role role = Pass::row_role(which);
        halo()->row_base[turn_][i][which] =
            begin_of(job, role) + offset_of(job, role, batch, head, at);
    }

    /* ---- steps ---- */

    __device__ HaloStep first_step() const
    {
        return {halo()->begin, 0, 0, 0};
    }
    __device__ bool is_last_of_unit(const HaloStep &s) const
    {
        return s.slice + 1 >= halo()->place.slices &&
               s.plane + 1 >= halo()->place.count[0] && s.head + 1 >= group();
    }
    __device__ static bool is_first_of_unit(const HaloStep &s)
    {
        return s.slice == 0 && s.plane == 0 && s.head == 0;
    }
    __device__ int32_t next_units(const HaloStep &s) const
    {
        return s.first_unit + job.halo.stride;
    }
    __device__ int32_t units_after_next(const HaloStep &s) const
    {
        return s.first_unit + 2 * job.halo.stride;
    }
    __device__ void advance(HaloStep &s) const
    {
        if (++s.slice < halo()->place.slices)
            return;
        s.slice = 0;
        if (++s.plane < halo()->place.count[0])
            return;
        s.plane = 0;
        if (++s.head < group())
            return;
        s.head = 0;
        s.first_unit = next_units(s);
    }

    /* ---- copies ---- */

    /* Where a row of the warp begins, in the pass's n-th tensor of rows; `turn` is that
     * of the unit. */
    __device__ char *row_at(int n, int turn_, int r) const
    {
        return halo()->row_base[turn_][unit()][n] + info()->row[r].offset[n];
    }

    /* Begin to copy the next unit's rows of the n-th tensor of rows to place `n`. */
    __device__ void copy_rows(int n, natten_role role, int turn_) const
    {
        Source<T> source(fresh(job), role);
#pragma unroll
        for (int i = 0; i < subtile * chunks / NATTEN_CUDA_WARP; i++) {
            int r = (i * NATTEN_CUDA_WARP + lane) / chunks, chunk = lane % chunks;
            source.copy(own_rows(n) + permute(r, chunk),
                        reinterpret_cast<const T *>(row_at(n, turn_, r)), chunk);
        }
    }

    /* Does the copy engine fetch slices? Then the first thread of each unit and tensor
     * tells it to, those that found them. */
    __device__ bool uses_engine() const
    {
        return engine && has_copy_engine && job.halo.by_maps;
    }
    __device__ uint32_t ready(int n) const
    {
        return shared_address(&halo()->ready[n]);
    }
    /* Innermost coordinate of the halo's classes and a head. */
    __device__ int32_t inner_of(natten_role role, int32_t head) const
    {
        const natten_view &view = job.task.view[role];
        int64_t inner = head * view.head;
        for (int a = 0; a < 3; a++)
            inner +=
                halo()->place.partner[a] % job.task.axis[a].dilation * view.axis[a];
        return (int32_t)inner;
    }
    __device__ void fetch_slice(int n, const HaloStep &s) const;

    /* Begin to copy a slice of two tensors into stage `n`, by all threads. */
    __device__ void copy_slice(int n, const HaloStep &s, natten_role left_role,
                               natten_role right_role) const;

    /* For partners that are queries: lse and delta, interleaved. */
    __device__ void copy_stats(int n, const HaloStep &s) const;
    /* All entries of bias of the slice's head. */
    __device__ void copy_bias(int n, const HaloStep &s) const;

    /* Batch item and head of partners of unit `i` of a step. */
    __device__ void unit_of(const HaloStep &s, int i, int32_t &batch,
                            int32_t &head) const
    {
        int32_t each = job.halo.group;
        batch = batch_of(natten_min(s.first_unit + i, halo()->end - 1), head);
        if (each > 1)
            head = side == Side::queries ? head / each : head * each + s.head;
    }

  private:
    __device__ int32_t slice_rows(int32_t slice) const
    {
        return natten_min(job.halo.rows,
                          halo()->place.count[1] - slice * job.halo.rows);
    }
    __device__ void slice_at(const HaloStep &s, int32_t (&at)[3]) const
    {
        const natten_cuda_halo &h = job.halo;
        const int32_t step[3] = {s.plane, s.slice * h.rows, 0};
        for (int a = 0; a < 3; a++)
            at[a] = halo()->place.partner[a] + step[a] * job.task.axis[a].dilation;
    }
    __device__ void share_out();
    __device__ void clear_pads() const;
    template <class Pass> __device__ void open_warp(const HaloAxis<side> (&axis)[3]);
    __device__ void make_table(const HaloAxis<side> (&axis)[3],
                               const natten_span (&box)[3], natten_span row_seen,
                               natten_span column_seen);
};

template <class T, int dims, Side side, bool engine>
template <class Pass>
__device__ inline bool HaloTile<T, dims, side, engine>::open()
{
    const natten_cuda_halo &h = job.halo;
    int32_t position = (int32_t)(blockIdx.x % (uint32_t)h.positions);
    int32_t residue[3], tile[3];
    for (int i = 2; i >= 0; i--) {
        tile[i] = position % h.tiles[i], position /= h.tiles[i];
        int32_t d = job.task.axis[i].dilation;
        residue[i] = position % d, position /= d;
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
        share_out();
        if (uses_engine())
            barrier_make(ready(0)), barrier_make(ready(1));
    }
    __syncthreads();
    if (exists)
        open_warp<Pass>(axis);
    return exists;
}

/* Which units are the block's. */
template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::share_out()
{
    const natten_cuda_halo &h = job.halo;
    int32_t replica = (int32_t)(blockIdx.x / (uint32_t)h.positions);
    halo()->begin = replica * h.units;
    halo()->end =
        (int32_t)(job.task.batch *
                  (side == Side::queries ? job.task.heads : job.task.heads_kv));
    if (h.is_by_head) {
        int32_t head = replica / h.chunks, chunk = replica % h.chunks;
        int32_t batch = (int32_t)job.task.batch,
                each = (batch + h.chunks - 1) / h.chunks;
        halo()->begin = head * batch + natten_min(chunk * each, batch);
        halo()->end = head * batch + natten_min((chunk + 1) * each, batch);
    }
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
    if (!exists)
        for (int i = 0; i < 3; i++)
            seen[i] = {0, 0};
    for (int i = 1; i < 3; i++) {
        own_seen.begin[i - 1] = (int16_t)(seen[i].begin - box[i].begin);
        own_seen.end[i - 1] = (int16_t)(seen[i].end - box[i].begin);
    }
    for (int n = 0; n < Pass::row_tensors; n++)
        own.offset[n] = offset_of(job, Pass::row_role(n), 0, 0, own.at);
    own.plane_begin = seen[0].begin - axis[0].begin;
    own.plane_end = seen[0].end - axis[0].begin;
    uint32_t all = __ballot_sync(all_lanes, exists) & 0xffff;
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
    make_table(axis, box, seen[1], seen[2]);
    clear_pads();
    __syncwarp();
}

/* Zeros before and after the entries of bias. */
template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::clear_pads() const
{
    const natten_cuda_halo &h = job.halo;
    for (int i = 0; i < 2 * h.units; i++) {
        float *first =
            reinterpret_cast<float *>(halo_shared + i * h.unit_bytes + h.bias_at);
        for (int32_t e = threadIdx.x; e < h.bias_pad; e += NATTEN_CUDA_THREADS)
            first[e] = first[h.bias_pad + (int32_t)job.entries + e] = 0;
    }
}

template <class T, int dims, Side side, bool engine>
__device__ inline void HaloTile<T, dims, side, engine>::make_table(
    const HaloAxis<side> (&axis)[3], const natten_span (&box)[3], natten_span row_seen,
    natten_span column_seen)
{
    const natten_cuda_halo &h = job.halo;
    int r = lane / 4;
    natten_span rows[2], cols[2]; /* that rows r and r + 8 see */
    for (int i = 0; i < 2; i++) {
        rows[i].begin = __shfl_sync(all_lanes, row_seen.begin, r + 8 * i);
        rows[i].end = __shfl_sync(all_lanes, row_seen.end, r + 8 * i);
        cols[i].begin = __shfl_sync(all_lanes, column_seen.begin, r + 8 * i);
        cols[i].end = __shfl_sync(all_lanes, column_seen.end, r + 8 * i);
    }
    int32_t width = natten_max(box[2].end - box[2].begin, 1);
    int32_t entries = 2 * job.task.axis[2].window - 1;
    Divider by(width);
    int32_t pair = 0;
    for (int32_t slice = 0; slice < halo()->place.slices; slice++) {
        int32_t top = axis[1].begin + slice * h.rows;
        int32_t begin = natten_max(box[1].begin, top);
        int32_t end = natten_min(box[1].end, top + h.rows);
        int32_t total = end > begin ? (end - begin) * (box[2].end - box[2].begin) : 0;
        if (unit() == 0 && lane == 0)
            info()->first_pair[slice] = pair;
        for (int32_t first = 0; first < total; first += 16, pair++) {
            uint32_t word = 0;
            uint16_t entry[4], token[4];
#pragma unroll
            for (int g = 0; g < 2; g++) {
                int32_t k = natten_min(first + 8 * g + lane % 8, total - 1), y = by(k);
                int32_t x = k - y * width + box[2].begin - axis[2].begin;
                y += begin;
                word |= permute((y - top) * h.pitch + x, lane / 8) << (16 * g);
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    k = first + 8 * g + lane % 4 * 2 + e;
                    bool there = k < total;
                    k = natten_min(k, total - 1);
                    y = by(k), x = k - y * width + box[2].begin, y += begin;
                    for (int i = 0; i < 2; i++)
                        if (!there || y < rows[i].begin || y >= rows[i].end ||
                            x < cols[i].begin || x >= cols[i].end)
                            word |= 1u << (2 * g + i + 16 * e);
                    entry[2 * g + e] = (uint16_t)(4 * ((y - box[1].begin) * entries +
                                                       x - box[2].begin));
                    token[2 * g + e] =
                        (uint16_t)((y - top) * h.pitch + x - axis[2].begin);
                }
            }
            if (unit() != 0)
                continue;
            table()[pair * NATTEN_CUDA_WARP] = word;
            if (lane < 4) {
                if (h.bias_pad > 0)
                    columns(0)[pair * 4] = {entry[0], entry[1], entry[2], entry[3]};
                if (side == Side::keys)
                    columns(1)[pair * 4] = {token[0], token[1], token[2], token[3]};
            }
        }
    }
    if (unit() == 0 && lane == 0)
        info()->first_pair[halo()->place.slices] = pair;
}

} // namespace natten

#endif
