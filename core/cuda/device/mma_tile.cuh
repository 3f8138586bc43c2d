/* SPDX-License-Identifier: MIT
 *
 * Tiles of tokens against boxes of partners, for products of matrices with windows of
 * any size.
 *
 *     row, partner   a query and the keys it sees, or (grad_tokens) a key and the
 *                    queries that see it
 *     tile           the rows of a block, a box of tokens of one head: four groups, or
 *                    eight, of 16 or 32 rows each, which are boxes themselves
 *     group          a warp, or two that share its rows
 *     box            `columns` partners, or fewer, a box of tokens of any shape.  Boxes
 *                    begin at the tile's first partner and lie side by side
 *     slot           a partner's place in its box
 *     run            boxes side by side along the last axis; what is the same for all
 *                    of them is worked out once (device/mma_runs.cuh)
 *     step           a box against the tile; extra tokens are further boxes
 *
 * Rank, dilation, stride, causal flags and the shapes of tiles and boxes are numbers
 * that the job brings; only the width of rows is compiled in.  Spans come from
 * geometry/axis.h, a row each, once for a block.  A warp leaves out boxes that none of
 * its rows sees, and looks at masks only where some row does not see all of a box: a
 * row's mask is, for each axis, the slots below the end of its span less those below
 * its begin, words of 64 bits from a table.
 *
 * Chunks of 16 bytes lie permuted within rows, so that 8 rows next to each other are in
 * different banks.
 *
 *     shared memory   rows | partners, a stage or two | natten_cuda_mma_info */
#ifndef NATTEN_CUDA_DEVICE_MMA_TILE_CUH
#define NATTEN_CUDA_DEVICE_MMA_TILE_CUH

#include "cuda/device/halo_tile.cuh"
#include "cuda/device/mma_parts.cuh"

namespace natten {

extern __shared__ __align__(1024) char mma_shared[];

/* What a pass's kernel for rows of `dims` numbers is like (mma_shapes.def). */
template <int bytes, natten_cuda_mma_pass pass, int dims> struct MmaShape;
#define SHAPE(bytes, pass, number, width, tensors_, warps_, sharing_, blocks_,       \
              columns_, held_)                                                       \
    template <> struct MmaShape<bytes, NATTEN_CUDA_MMA_##pass, width> {              \
        static constexpr int tensors = tensors_, warps = warps_, sharing = sharing_, \
                             blocks = blocks_, columns = columns_, held = held_;     \
    };
#include "cuda/mma_shapes.def"
#undef SHAPE

/* What a warp sees of a box: anything; every row all of it; else what each lane's row
 * sees, a bit a slot. */
struct MmaSight {
    bool needed, all;
    uint64_t seen;
};

/* A box, for who comes back to it once the next one has begun: its first query's number
 * among the heads of all queries; which of its slots exist (0: there was none). */
struct MmaBox {
    uint64_t first;
    uint32_t limit;
};

/* Rows of `dims` numbers in shared memory, and how lanes find what a product takes. */
template <class T, int dims> struct MmaRows {
    static constexpr int bytes = dims * (int)sizeof(T), chunks = bytes / 16;
    /* Numbers of a chunk; steps of a product, each takes two chunks. */
    static constexpr int numbers = 16 / (int)sizeof(T), steps = chunks / 2;
    /* Chunks that are permuted among each other. */
    static constexpr int run = chunks % 8 == 0 ? 8 : 4;

    __device__ static uint32_t place(int row, int chunk)
    {
        int low = run == 8 ? row & 7 : row >> 1 & 3;
        /* Of doubles four chunks of two rows are read at a time, or two of four. */
        if (sizeof(T) == 8)
            low = (row & 6) ^ (row & 1) << 2;
        return (uint32_t)(row * bytes + ((chunk ^ low) << 4));
    }
    /* The same row 2 k chunks on. */
    __device__ static uint32_t step(uint32_t address, int k)
    {
        constexpr int each = run / 2;
        return (address ^ (uint32_t)(k % each * 32)) + (uint32_t)(k / each * run * 16);
    }
    /* Lane's row of a left side A of 16 rows; of a right side B whose columns are rows
     * here, 16 of them; and of one whose rows are rows here. */
    __device__ static uint32_t left(uint32_t rows, int lane)
    {
        return rows + place(lane % 16, lane / 16);
    }
    __device__ static uint32_t right(uint32_t rows, int lane)
    {
        return rows + place(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    }
    __device__ static uint32_t right_transposed(uint32_t rows, int lane)
    {
        return rows + place(lane % 16, lane / 16);
    }
};

/* A block's tile, of Shape's warps and of `tensors` of rows. */
template <class T, int dims, class Shape, Side side> class MmaTile {
    static constexpr int tensors = Shape::tensors, columns = Shape::columns;

  public:
    using Lay = MmaRows<T, dims>;
    static constexpr int warps = Shape::warps, sharing = Shape::sharing,
                         groups = warps / sharing, warp_rows = 16 * Shape::blocks,
                         rows = groups * warp_rows;
    /* Of partners: both tensors. */
    static constexpr int stage_bytes = 2 * columns * Lay::bytes;

    using Run = natten_cuda_mma_run;

    const natten_cuda_job &job;
    int32_t lane, warp;
    int32_t at;           /* of the step: its box's place in the run */
    uint64_t across;      /* slots that the lane's row sees on all axes but the last */
    int64_t stats_offset; /* from a box's first query to the thread's, in bytes */

    static constexpr bool of_queries = side == Side::queries; /* the rows */

    __device__ explicit MmaTile(const natten_cuda_job &job_)
        : job(job_), lane(threadIdx.x % NATTEN_CUDA_WARP),
          warp(of_warp((int)threadIdx.x / NATTEN_CUDA_WARP))
    {
    }

    __device__ natten_cuda_mma_info *info() const
    {
        return reinterpret_cast<natten_cuda_mma_info *>(mma_shared + job.mma.info_at);
    }
    /* The warp's, and which of those that share its rows it is. */
    __device__ int group() const
    {
        return warp / sharing;
    }
    __device__ int part() const
    {
        return warp % sharing;
    }
    /* All warps of the group have come here, and see what each has written. */
    __device__ void meet_group() const
    {
        if (sharing > 1)
            asm volatile("bar.sync %0, %1;" ::"r"(1 + group()),
                         "n"(sharing * NATTEN_CUDA_WARP)
                         : "memory");
    }
    /* For the first of the group's warps, when all have written their results: what any
     * of them has found, a bit a row; for the others nothing. */
    __device__ uint32_t trouble_of_group(uint32_t found) const
    {
        natten_cuda_mma_warp &of = info()->warp[group()];
        if (part() > 0 && lane == 0)
            of.trouble = (int32_t)found;
        meet_group();
        return part() > 0 ? 0 : found | (uint32_t)of.trouble;
    }
    __device__ const natten_cuda_mma_warp &own() const
    {
        return info()->warp[group()];
    }
    __device__ const natten_cuda_mma_row &row(int r) const
    {
        return info()->row[group() * warp_rows + r];
    }
    __device__ bool exists(int r) const
    {
        return (own().exists >> r & 1) != 0;
    }
    /* The warp's rows of tensor `n`; the partners of tensor `n`; their lse and delta.
     */
    __device__ uint32_t own_rows(int n) const
    {
        return shared_address(mma_shared) +
               (uint32_t)((n * rows + group() * warp_rows) * Lay::bytes);
    }
    __device__ static uint32_t partners(int n, int stage)
    {
        return shared_address(mma_shared) +
               (uint32_t)((tensors * rows + n * columns) * Lay::bytes +
                          stage * stage_bytes);
    }
    __device__ Sum<T> *stats(int stage) const
    {
        return reinterpret_cast<Sum<T> *>(info()->stats[stage]);
    }
    /* Those of slots 2 n and 2 n + 1. */
    __device__ void read_stats(Sum<T> (&lse)[2], Sum<T> (&delta)[2], int stage,
                               int n) const
    {
        __align__(16) Sum<T> both[4];
#pragma unroll
        for (int i = 0; i < (int)(sizeof both / sizeof(float4)); i++)
            reinterpret_cast<float4 *>(both)[i] = reinterpret_cast<const float4 *>(
                stats(stage))[n * (int)(sizeof both / sizeof(float4)) + i];
        lse[0] = both[0], delta[0] = both[1], lse[1] = both[2], delta[1] = both[3];
    }

    /* Find the block's place; false if no row of its tile exists. */
    __device__ bool open();

    /* ---- steps ---- */

    /* The warp's run. */
    __device__ Run &run() const
    {
        return info()->run[warp];
    }
    /* Begin with the first box, or go on to the next; false if there is none.  `r` is
     * the run. */
    __device__ bool first(Run &r);
    __device__ bool advance(Run &r);
    __device__ MmaSight look(const Run &r) const
    {
        MmaSight sight = {at < r.end && at + r.width > r.begin,
                          at >= r.from && at + r.width <= r.to, 0};
        if (sight.needed && !sight.all)
            sight.seen = seen(r);
        return sight;
    }
    /* Where partners are queries. */
    __device__ MmaBox box(const Run &r) const
    {
        MmaBox of = {0, limit_of(r)};
        if (side == Side::keys)
            of.first = (uint64_t)(r.stats[1] + at * info()->stats_step[1][2] -
                                  static_cast<const char *>(job.delta)) /
                       sizeof(float);
        return of;
    }
    /* Bytes that tell which slots of the box exist: `exists(limit, slot)`. */
    __device__ uint32_t limit_of(const Run &r) const
    {
        return r.limit + ((uint32_t)(natten_min(r.width, r.count - at) - 1) << 16);
    }
    __device__ static bool exists(uint32_t limit, uint32_t slot)
    {
        return ((limit - slot) & 0x808080u) == 0x808080u;
    }
    /* The slots that the warp's row number lane (modulo their number) sees, a bit each.
     */
    __device__ uint64_t seen(const Run &r) const;
    /* Bits 8 i + e: column 8 i + 2 (lane % 4) + e is seen by row `r`, given what each
     * lane's row sees. */
    __device__ uint64_t seen_by(uint64_t all, int r) const
    {
        return __shfl_sync(all_lanes, all, r) >> (2 * (lane % 4));
    }

    /* ---- copies ---- */

    /* Begin to copy all rows of a role to place `n`. */
    __device__ void copy_rows(int n, natten_role role) const;
    /* Begin to copy the partners of a step, both tensors. */
    __device__ void copy_boxes(const Run &r, int stage) const;
    /* For partners that are queries: lse and delta of each slot, zeros where there is
     * none. */
    __device__ void copy_stats(const Run &r, int stage) const;

    /* What is hidden is far below, so the scale must be positive: if it is not, wait
     * for the rows of the first tensor that the warp has copied and change their sign.
     */
    __device__ void negate_rows_if_negative() const
    {
        if (job.task.scale > 0)
            return;
        constexpr int words = warp_rows / sharing * Lay::bytes / 4;
        uint32_t *word =
            static_cast<uint32_t *>(__cvta_shared_to_generic(own_rows(0))) +
            part() * words;
        wait_for_copies();
        __syncwarp();
        for (int i = lane; i < words; i += NATTEN_CUDA_WARP)
            word[i] ^= sizeof(T) == 2                 ? 0x80008000u
                       : sizeof(T) == 4 || i % 2 == 1 ? 0x80000000u
                                                      : 0;
    }

    __device__ char *row_at(natten_role role, int r) const
    {
        const natten_cuda_job &now = fresh(job);
        return begin_of(now, role) +
               offset_of<sizeof(T)>(now, role, info()->batch, info()->head, row(r).at);
    }
    __device__ Sum<T> stat_at(natten_role role, int r) const
    {
        return exists(r) ? *reinterpret_cast<const Sum<T> *>(row_at(role, r)) : 0;
    }

  private:
    __device__ void keep(const Run &r) const;
    __device__ void begin_run(Run &r, int32_t z, int32_t y, int32_t head);
    __device__ bool begin_extras(Run &r);
    __device__ void find_stats(int t, int32_t head, const int32_t (&at)[3]) const;
    __device__ void find_own_stats();
    __device__ HaloAxis<side> &axis(int a) const
    {
        static_assert(sizeof(HaloAxis<side>) == sizeof info()->axis[0]);
        return *reinterpret_cast<HaloAxis<side> *>(info()->axis[a]);
    }
    __device__ bool find_tile() const;
    __device__ void make_row() const;
    __device__ void make_warp() const;
    __device__ void make_slots() const;
    __device__ void find_partners(int t) const;
    __device__ static natten_role partner_role(int n)
    {
        return side == Side::queries ? (n == 0 ? NATTEN_KEY : NATTEN_VALUE)
                                     : (n == 0 ? NATTEN_QUERY : NATTEN_GRAD_OUT);
    }
};

#define MMA_TILE template <class T, int dims, class Shape, Side side> __device__ inline

#define MMA_TILE_OF MmaTile<T, dims, Shape, side>

/* What is done once for a block is kept short: its code comes from memory. */
MMA_TILE bool MMA_TILE_OF::open()
{
    if (!find_tile())
        return false;
    make_row();
    make_warp();
    make_slots();
    if (threadIdx.x % NATTEN_CUDA_WARP < 2 && threadIdx.x < 2 * NATTEN_CUDA_WARP &&
        threadIdx.x / NATTEN_CUDA_WARP == threadIdx.x % NATTEN_CUDA_WARP)
        find_partners(threadIdx.x / NATTEN_CUDA_WARP);
    __syncthreads();
    if (side == Side::keys)
        find_own_stats();
    return true;
}

/* A thread an axis. */
MMA_TILE bool MMA_TILE_OF::find_tile() const
{
    const natten_cuda_mma &m = job.mma;
    natten_cuda_mma_info *to = info();
    /* The last tiles of a causal axis take longest: they begin first. */
    int32_t position = m.positions - 1 - (int32_t)(blockIdx.x % (uint32_t)m.positions);
    int32_t a = threadIdx.x;
    if (a < 3) {
#pragma unroll 1
        for (int32_t i = 2; i > a; i--)
            position /= m.tiles[i] * job.task.axis[i].dilation;
        const natten_axis *own_axis = &job.task.axis[a];
        axis(a) = HaloAxis<side>(own_axis, position / m.tiles[a] % own_axis->dilation,
                                 position % m.tiles[a], m.sub[a] * m.warps[a]);
        to->count[a] = axis(a).stop - axis(a).begin;
    } else if (a == 3) {
        int32_t unit = (int32_t)(blockIdx.x / (uint32_t)m.positions);
        int32_t heads =
            (int32_t)(side == Side::queries ? job.task.heads : job.task.heads_kv);
        to->batch = unit / heads, to->head = unit % heads;
        to->full = m.box[0] * m.box[1] * m.box[2] == columns;
    }
    __syncthreads();
    return axis(0).first < axis(0).end && axis(1).first < axis(1).end &&
           axis(2).first < axis(2).end;
}

/* Row number threadIdx. */
MMA_TILE void MMA_TILE_OF::make_row() const
{
    const natten_cuda_mma &m = job.mma;
    int32_t inside = threadIdx.x % warp_rows, rest = threadIdx.x / warp_rows;
    natten_cuda_mma_row &to = info()->row[threadIdx.x];
    bool there = true;
    if (threadIdx.x >= rows)
        return;
#pragma unroll 1
    for (int a = 2; a >= 0; a--) {
        const HaloAxis<side> &of = axis(a);
        int32_t g = of.first + rest % m.warps[a] * m.sub[a] + inside % m.sub[a];
        rest /= m.warps[a], inside /= m.sub[a];
        there = there && g < of.end;
        g = natten_min(g, of.end - 1);
        natten_span seen = of.partners(g);
        to.at[a] = of.row_at(g, job.task.axis[a].dilation);
        to.begin[a] = seen.begin - of.begin;
        to.end[a] = seen.end - of.begin;
    }
    if (!there)
        to.end[0] = to.begin[0]; /* it sees nothing */
    uint32_t exist = __ballot_sync(all_lanes, there);
    if (warp_rows == 16)
        exist = exist >> (threadIdx.x & 16) & 0xffff;
    if (threadIdx.x % warp_rows == 0)
        info()->warp[threadIdx.x / warp_rows].exists = (int32_t)exist;
}

/* What the rows of a group see, a thread for each group and axis: spans never decrease
 * along an axis, so the first row and the last tell. */
MMA_TILE void MMA_TILE_OF::make_warp() const
{
    const natten_cuda_mma &m = job.mma;
    int32_t a = threadIdx.x % 4, rest = threadIdx.x / 4;
    if (a == 3 || rest >= groups)
        return;
    natten_cuda_mma_warp &w = info()->warp[rest];
#pragma unroll 1
    for (int32_t i = 2; i > a; i--)
        rest /= m.warps[i];
    const HaloAxis<side> &of = axis(a);
    int32_t g = natten_min(of.first + rest % m.warps[a] * m.sub[a], of.end - 1);
    int32_t last = natten_min(g + m.sub[a], of.end) - 1;
    natten_span low = of.partners(g), high = of.partners(last);
    w.begin[a] = low.begin - of.begin, w.end[a] = high.end - of.begin;
    w.from[a] = high.begin - of.begin, w.to[a] = low.end - of.begin;
}

/* Slot number threadIdx, and which are below others. */
MMA_TILE void MMA_TILE_OF::make_slots() const
{
    const natten_cuda_mma &m = job.mma;
    int32_t n = threadIdx.x;
    if (n >= natten_max(columns, NATTEN_CUDA_WARP)) /* whole warps vote below */
        return;
    natten_cuda_mma_slot grid = {}, extra = {};
    uint32_t *half = reinterpret_cast<uint32_t *>(info()->below) + n / NATTEN_CUDA_WARP;
    bool there = n < m.box[0] * m.box[1] * m.box[2];
#pragma unroll 1
    for (int a = 0; a < 3; a++) {
        int32_t before = a == 0 ? m.box[1] * m.box[2] : a == 1 ? m.box[2] : 1;
        int32_t at = n / before % m.box[a];
        grid.offset[0] += at * m.step[0][a], grid.offset[1] += at * m.step[1][a];
        grid.at |= (uint32_t)at << (8 * a);
        grid.number += at * job.sums_step[a];
#pragma unroll 1
        for (int32_t end = 0; end <= m.box[a]; end++, half += 2) {
            uint32_t bits = __ballot_sync(all_lanes, there && at < end);
            if (n % NATTEN_CUDA_WARP == 0)
                *half = bits;
            if (columns <= NATTEN_CUDA_WARP && n == 0)
                half[1] = 0;
        }
    }
    grid.at = there ? grid.at : 0x7f7f7fu;
    extra.offset[0] = n * m.extra_step[0], extra.offset[1] = n * m.extra_step[1];
    extra.at = (uint32_t)n << 16;
    info()->slot[n] = grid;
    if (of_queries)
        info()->extra[n] = extra;
}

/* Where lse (0) or delta (1) of queries begins for this tile, and its steps. */
MMA_TILE void MMA_TILE_OF::find_stats(int t, int32_t head,
                                      const int32_t (&first)[3]) const
{
    natten_cuda_mma_info *to = info();
    natten_role role = t == 0 ? NATTEN_LSE : delta_role;
    const int32_t none[3] = {0, 0, 0};
    to->stats_base[t] =
        begin_of(job, role) + offset_of<sizeof(T)>(job, role, to->batch, head, first);
    to->stats_head[t] = offset_of<sizeof(T)>(job, role, 0, 1, none);
#pragma unroll
    for (int a = 0; a < 3; a++) {
        const int32_t unit[3] = {a == 0, a == 1, a == 2};
        to->stats_step[t][a] =
            offset_of<sizeof(T)>(job, role, 0, 0, unit) * job.task.axis[a].dilation;
    }
}

/* Threads 2n and 2n + 1 copy those of slot n. */
MMA_TILE void MMA_TILE_OF::find_own_stats()
{
    uint32_t slot = info()->slot[threadIdx.x / 2 % columns].at;
    const int64_t *step = info()->stats_step[threadIdx.x % 2];
    stats_offset = 0;
#pragma unroll
    for (int a = 0; a < 3; a++)
        stats_offset += (int32_t)(slot >> (8 * a) & 0xff) * step[a];
}

/* Where the partners' tensor number `t` begins for this tile. */
MMA_TILE void MMA_TILE_OF::find_partners(int t) const
{
    natten_cuda_mma_info *to = info();
    int32_t each = job.mma.group,
            head = side == Side::queries ? to->head / each : to->head * each, at[3];
    natten_role role = partner_role(t);
#pragma unroll
    for (int a = 0; a < 3; a++)
        at[a] = axis(a).partner_at(axis(a).begin, job.task.axis[a].dilation);
    to->base[t] =
        begin_of(job, role) + offset_of<sizeof(T)>(job, role, to->batch, head, at);
    to->head_step[t] = job.task.view[role].head * (int64_t)sizeof(T);
    if (side == Side::keys)
        find_stats(t, head, at);
    if (job.task.extras > 0) {
        const int32_t first[3] = {0, 0, 0};
        role = t == 0 ? NATTEN_ADDITIONAL_KEYS : NATTEN_ADDITIONAL_VALUES;
        to->extra_base[t] = begin_of(job, role) +
                            offset_of<sizeof(T)>(job, role, to->batch, head, first);
    }
}

} // namespace natten

#endif
