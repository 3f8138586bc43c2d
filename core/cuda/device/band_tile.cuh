/* SPDX-License-Identifier: MIT
 *
 * Bands of a grid of two axes, for products of one warp whose rows' windows overlap
 * far: rows of 64 numbers, windows of up to 13 x 13 (and what else boxes hold).
 *
 *     row, partner   a query and the keys it sees, or (grad_tokens) a key and the
 *                    queries that see it
 *     subtile        4 x 4 tokens of a head: a warp's rows of products
 *     band           16 columns of tokens; an item is a band of a class of one head and
 *                    batch item
 *     step           4 rows of a band: four subtiles, a crew's; crews take turns
 *     group          4 rows of partners, 28 columns wide, which hold all that a step's
 *                    subtiles see of them; a block keeps some, as it goes down the
 *                    band, so each is brought once
 *     box            2 columns of strips of some groups, where they are queries also 1
 *                    or 3: the partners of a subtile
 *     strip          8 columns of a box
 *     bringer        the warp that has groups and rows brought, and tells crews what
 *                    their steps are; where lanes copy, four do it together, else the
 *                    three beside it find lse and delta for the gradient of queries
 *
 * A subtile meets its box row by row, 8 partners side by side: so addresses are
 * constants, and banks differ.  Groups begin where steps within the grid need fewest.
 *
 * Who sees what is a product over the two axes.  Columns that a row does not see begin
 * scores at -inf, the same for all rows of partners; weights of a row of partners that
 * it does not see have an exponent of -inf.
 *
 *     shared memory   groups: first tensor | second; rows of each crew;
 *                     natten_cuda_band_block                                         */
#ifndef NATTEN_CUDA_DEVICE_BAND_TILE_CUH
#define NATTEN_CUDA_DEVICE_BAND_TILE_CUH

#include "cuda/cuda_band_block.h"
#include "cuda/device/halo_rows.cuh"
#include "cuda/device/mma_rows.cuh"
#include "cuda/device/warpgroup.cuh"

namespace natten {

extern __shared__ __align__(1024) char band_shared[];

/* What a pass's kernel is like (band_shapes.def). */
template <natten_cuda_band_pass pass> struct BandShape;
#define BAND(pass, tensors_, groups_, crews_, many_, few_)                             \
    template <> struct BandShape<NATTEN_CUDA_BAND_##pass> {                            \
        static constexpr int tensors = tensors_, groups = groups_, crews = crews_,     \
                             many = many_, few = few_; /* registers */                 \
        static constexpr int threads =                                                 \
            (crews + 1) * NATTEN_CUDA_BAND_WARPS * NATTEN_CUDA_WARP;                   \
        static_assert(natten_cuda_band_bytes(NATTEN_CUDA_BAND_##pass, tensors, groups, \
                                             crews) <=                                 \
                      (int)NATTEN_CUDA_SHARED_ENGINE);                                 \
        /* What is known of a step is read until its crew begins the next. */          \
        static_assert(NATTEN_CUDA_BAND_STEPS >= 2 * crews);                            \
        static_assert(NATTEN_CUDA_BAND_##pass != NATTEN_CUDA_BAND_GRAD_TOKENS ||       \
                      groups < NATTEN_CUDA_BAND_GROUPS); /* those with stats */        \
        static_assert(groups <= NATTEN_CUDA_BAND_GROUPS &&                             \
                      crews <= NATTEN_CUDA_BAND_CREWS);                                \
    };
#include "cuda/band_shapes.def"
#undef BAND

template <class T, natten_cuda_band_pass pass, bool engine> class BandTile {
    using Shape = BandShape<pass>;
    using Step = natten_cuda_band_step;
    using Block = natten_cuda_band_block;
    static constexpr int side = NATTEN_CUDA_BAND_SIDE, warps = NATTEN_CUDA_BAND_WARPS,
                         crews = Shape::crews, steps = NATTEN_CUDA_BAND_STEPS,
                         groups = Shape::groups, band = NATTEN_CUDA_BAND_COLUMNS,
                         strips_of_row = NATTEN_CUDA_BAND_DIMS / 8,
                         tile_bytes = NATTEN_CUDA_BAND_TILE_BYTES;

  public:
    static constexpr int dims = NATTEN_CUDA_BAND_DIMS,
                         row_bytes = NATTEN_CUDA_BAND_ROW_BYTES,
                         pitch = NATTEN_CUDA_BAND_PITCH,
                         strip_columns = NATTEN_CUDA_BAND_STRIP, group_rows = side,
                         group_bytes = NATTEN_CUDA_BAND_GROUP_BYTES,
                         line = pitch * row_bytes; /* from one row to the next */
    /* Warps that bring tokens: one, or all of a warpgroup where lanes copy. */
    static constexpr int bringers = engine ? 1 : warps,
                         bringer_lanes = bringers * NATTEN_CUDA_WARP;
    static constexpr bool of_queries = pass != NATTEN_CUDA_BAND_GRAD_TOKENS,
                          has_own_stats = pass == NATTEN_CUDA_BAND_GRAD_QUERY;
    /* Warps that find lse and delta of a crew's rows: those of the bringer's warpgroup
     * that have nothing else to do, or all of it. */
    static constexpr int stats_warps = !has_own_stats ? 0 : engine ? warps - 1 : warps;

    const natten_cuda_job &job;
    /* The bringer's crew is that after the others.  Of the thread: its subtile; its
     * rows of tokens, the first of two that are 2 apart, and their column, in a step;
     * the first of its columns of sums. */
    int32_t lane, warp, crew, subtile, upper, across, column;

    __device__ explicit BandTile(const natten_cuda_job &job_) : job(job_)
    {
        find_thread();
        /* That of the step before the first. */
        extent = (uint32_t)(crew - crews + steps) << NATTEN_CUDA_BAND_AT_PLACE |
                 1u << NATTEN_CUDA_BAND_AT_PARITY;
    }
    /* Work out anew who the thread is: what is kept through a step is in local memory,
     * and takes longer. */
    __device__ void recall()
    {
        find_thread();
        find_subtile();
    }

    /* All of the block: `work` is what crews do. */
    template <class Work> __device__ void run(const Work &work)
    {
        open();
        if (crew == crews) {
            set_registers<Shape::few, false>();
            if (warp < bringers)
                bring();
            else if constexpr (has_own_stats)
                bring_stats_of_rows();
        } else {
            set_registers<Shape::many, true>();
            work();
        }
    }

    /* ---- for crews ---- */

    /* The crew's next step has been told and its rows have arrived; false if there are
     * no more. */
    __device__ bool begin_step()
    {
        find_thread();
        barrier_wait(rows_full(crew),
                     field<NATTEN_CUDA_BAND_AT_PARITY, NATTEN_CUDA_BAND_OF_PARITY>() ^
                         1);
        extent = of_warp(block()->step[(place() + crews) % steps].extent);
        find_subtile();
        return rows_of() != 0;
    }
    /* Has the warp a subtile in it? */
    __device__ bool has_rows() const
    {
        return columns_of() > subtile * side;
    }
    __device__ int32_t groups_of_step() const
    {
        return (int32_t)field<NATTEN_CUDA_BAND_AT_GROUPS, NATTEN_CUDA_BAND_OF_GROUPS>();
    }
    __device__ const Step &step() const
    {
        return block()->step[place()];
    }
    /* Rows have been read; partners have. */
    __device__ void leave_rows() const
    {
        barrier_arrive(rows_left(crew));
    }
    __device__ void leave_groups() const
    {
        barrier_arrive(done((int32_t)place()));
    }
    /* The step's i-th group: its place, and wait until it has arrived. */
    __device__ int32_t slot_of(int32_t i) const
    {
        int32_t slot =
            (int32_t)field<NATTEN_CUDA_BAND_AT_TURN, NATTEN_CUDA_BAND_OF_TURN>() + i;
        slot -= slot < groups ? 0 : groups;
        return slot < groups ? slot : slot - groups;
    }
    __device__ void wait_for_group(int32_t i) const
    {
        if (i <
            groups_of_step() -
                (int32_t)field<NATTEN_CUDA_BAND_AT_FRESH, NATTEN_CUDA_BAND_OF_FRESH>())
            return;
        int32_t turn =
            (int32_t)field<NATTEN_CUDA_BAND_AT_TURN, NATTEN_CUDA_BAND_OF_TURN>() + i;
        turn -= turn < 2 * groups ? 0 : 2 * groups;
        barrier_wait(full(slot_of(i)), turn >= groups);
    }
    /* Where its first tensor is; the other is group_bytes further. */
    __device__ static uint32_t partners(int32_t slot)
    {
        return shared_address(band_shared) + (uint32_t)(slot * 2 * group_bytes);
    }
    /* lse to base 2 and minus delta of the thread's first row, or its second. */
    __device__ float2 own_stats(int i) const
    {
        return load_floats(
            shared_address(block()->own_stats[crew][upper + 2 * i][across]));
    }
    /* The same of the group's first partner. */
    __device__ static uint32_t stats(int32_t slot)
    {
        return shared_address(block()->stats[slot]);
    }

    /* The warp's rows of tensor n as left sides of products. */
    __device__ void load_rows(uint32_t (&a)[dims / 16][4], int n) const
    {
        const int32_t r = lane % 16,
                      token = r / side * band + subtile * side + r % side;
        const uint32_t row =
            tile(crew, n) + (uint32_t)(token * row_bytes) + chunk_at(token, lane / 16);
#pragma unroll
        for (int k = 0; k < dims / 16; k++)
            load_matrices(a[k], row ^ (uint32_t)(32 * k));
    }
    /* Where a box begins in a group, and how many strips it has. */
    __device__ int32_t first_column() const
    {
        return step().box[subtile].first;
    }
    __device__ int32_t strips() const
    {
        return of_warp(step().box[subtile].strips);
    }
    /* Bytes from a group to the lane's place in the box's first strip, for score() and
     * for gather(). */
    __device__ uint32_t to_columns() const
    {
        int32_t column = first_column() + lane % 8;
        return (uint32_t)(column * row_bytes) + chunk_at(column, lane / 8);
    }
    __device__ uint32_t to_rows() const
    {
        int32_t below = lane / 8 % 2, token = below * pitch + first_column() + lane % 8;
        return (uint32_t)(token * row_bytes) + chunk_at(token, lane / 16);
    }
    /* s = rows times the transposed partners of some rows of a strip, from an even one
     * on; sums begin with `first`.  Odd rows begin at half of the 8 tokens after which
     * permutations of chunks repeat. */
    template <int count>
    __device__ static void score(float (&s)[count][4],
                                 const uint32_t (&a)[dims / 16][4], uint32_t at,
                                 const float (&first)[4])
    {
#pragma unroll
        for (int i = 0; i < count; i++) {
            uint32_t b[2][4];
            load_matrices(b[i % 2], at + (uint32_t)(i * line));
            load_matrices(b[1 - i % 2], (at ^ 64) + (uint32_t)(i * line));
            multiply<T>(s[i], a[0], b[0][0], b[0][1], first);
            multiply<T>(s[i], a[1], b[0][2], b[0][3]);
            multiply<T>(s[i], a[2], b[1][0], b[1][1]);
            multiply<T>(s[i], a[3], b[1][2], b[1][3]);
        }
    }
    /* sum += weights times some rows of partners of a strip, from an even one on. */
    template <int count>
    __device__ static void gather(float (&sum)[dims / 8][4], const float (&s)[count][4],
                                  uint32_t at)
    {
#pragma unroll
        for (int i = 0; i < count; i += 2) {
            const uint32_t p[4] = {pack<T>(s[i][0], s[i][1]), pack<T>(s[i][2], s[i][3]),
                                   pack<T>(s[i + 1][0], s[i + 1][1]),
                                   pack<T>(s[i + 1][2], s[i + 1][3])};
#pragma unroll
            for (int k = 0; k < dims / 16; k++) {
                uint32_t b[4];
                load_transposed(b, (at ^ (uint32_t)(32 * k)) + (uint32_t)(i * line));
                multiply<T>(sum[2 * k], p, b[0], b[1]);
                multiply<T>(sum[2 * k + 1], p, b[2], b[3]);
            }
        }
    }

    /* Of the thread's rows, lane / 4 and that + 8: does it exist; what it sees, of rows
     * of the step's groups, and both of columns of the subtile's box, from the thread's
     * first column of sums on. */
    __device__ bool exists_own(int i) const
    {
        return upper + 2 * i < rows_of() && across < columns_of();
    }
    __device__ uint32_t rows_seen(int i) const
    {
        return step().seen[upper + 2 * i];
    }
    __device__ uint32_t columns_seen() const
    {
        return step().columns_seen[across] >> column;
    }
    /* With what the sums of a strip begin, by the bits of its columns. */
    __device__ static void begin_strip(float (&first)[4], uint32_t columns)
    {
#pragma unroll
        for (int i = 0; i < 2; i++)
            first[i] = first[i + 2] = (columns & 1u << i) != 0 ? 0 : -INFINITY;
    }

    /* Rows are counted in the warp. */
    __device__ bool exists(int r) const
    {
        return r / side < rows_of() && subtile * side + r % side < columns_of();
    }
    __device__ char *row_at(natten_role role, int r) const
    {
        const int n = role == result_role(1);
        return step().result[n] + r / side * job.band.step[n][0] +
               (subtile * side + r % side) * job.band.step[n][1];
    }
    /* The thread's first row of result n, or its second. */
    __device__ char *own_result(int n, int i) const
    {
        return step().result[n] + (upper + 2 * i) * job.band.step[n][0] +
               across * job.band.step[n][1];
    }
    /* What the pass writes, crews all but statistics. */
    __device__ static natten_role result_role(int n)
    {
        return pass == NATTEN_CUDA_BAND_FORWARD ? (n == 0 ? NATTEN_OUT : NATTEN_LSE)
               : pass == NATTEN_CUDA_BAND_GRAD_QUERY
                   ? (n == 0 ? NATTEN_GRAD_QUERY : stats_role)
               : n == 0 ? NATTEN_GRAD_KEY
                        : NATTEN_GRAD_VALUE;
    }

    /* Write the warp's rows of result n, each times a factor: a lane writes a chunk of
     * four. */
    __device__ void store(int n, const float (&sum)[dims / 8][4],
                          const float (&factor)[2]) const
    {
        if constexpr (!engine) {
            store_block<T, dims>(*this, result_role(n), 0, sum, factor);
            note(true); /* redo() asks memory, so the bits are those of the engine's */
            return;
        }
        char *row = own_result(n, 0) + lane % 4 * 16;
        bool bad = false;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            bool exists_ = exists_own(r);
            uint32_t zero = 0; /* what is not finite, times 0, is NaN */
#pragma unroll
            for (int k = 0; k < dims / 8; k += 4) {
                uint32_t word[4];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    word[j] = pack<T>(sum[k + j][2 * r] * factor[r],
                                      sum[k + j][2 * r + 1] * factor[r]);
                    zero = multiply_pair<T>(word[j], 0, zero);
                }
                quad_exchange(word);
                if (exists_)
                    store_four_words(row + 16 * k,
                                     {word[0], word[1], word[2], word[3]});
            }
            bad = bad || (exists_ && (zero & 0x7fff7fff) != 0);
            row += 2 * job.band.step[n][0];
        }
        note(bad);
    }
    /* If some result of the warp is not finite, have its rows that are not computed
     * anew by level a: again(job, lane, place, wanted).  Once all is done, for what
     * that needs of registers is not to be the loop's. */
    template <class Again> __device__ void redo(const Again &again) const;

    /* ---- the bringer (device/band_bring.cuh) ---- */

    __device__ void bring() const;
    __device__ void bring_stats_of_rows() const;

  private:
    uint32_t extent; /* of natten_cuda_band_step */

    __device__ void find_thread()
    {
        uint32_t thread;
        asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
        const int32_t number = of_warp((int32_t)(thread / NATTEN_CUDA_WARP));
        lane = (int32_t)(thread % NATTEN_CUDA_WARP);
        warp = number % warps, crew = number / warps;
    }
    __device__ void find_subtile()
    {
        subtile = subtile_of((int32_t)place());
        upper = lane / 16, across = subtile * side + lane / 4 % side;
        column = lane % 4 * 2;
    }
    /* A crew's warps take turns at its subtiles, of which those near a border may have
     * more strips: else the same warps waited for the same others in each step. */
    __device__ int32_t subtile_of(int32_t place_) const
    {
        return (warp + place_ / 2) % warps;
    }

    template <int from, uint32_t mask> __device__ uint32_t field() const
    {
        return extent >> from & mask;
    }
    __device__ uint32_t place() const
    {
        return field<NATTEN_CUDA_BAND_AT_PLACE, NATTEN_CUDA_BAND_OF_PLACE>();
    }
    __device__ int32_t rows_of() const
    {
        return (int32_t)field<NATTEN_CUDA_BAND_AT_ROWS, NATTEN_CUDA_BAND_OF_ROWS>();
    }
    __device__ int32_t columns_of() const
    {
        return (
            int32_t)field<NATTEN_CUDA_BAND_AT_COLUMNS, NATTEN_CUDA_BAND_OF_COLUMNS>();
    }

    /* ---- shared memory ---- */

    /* A crew's rows of tensor n. */
    __device__ static uint32_t tile(int32_t crew_, int n)
    {
        return partners(groups) + (uint32_t)((crew_ * Shape::tensors + n) * tile_bytes);
    }
    __device__ static Block *block()
    {
        return reinterpret_cast<Block *>(
            band_shared + natten_cuda_band_known_at(Shape::tensors, groups, crews));
    }
    __device__ static uint32_t full(int32_t slot)
    {
        return shared_address(&block()->full[slot]);
    }
    __device__ static uint32_t rows_full(int32_t crew_)
    {
        return shared_address(&block()->rows_full[crew_]);
    }
    __device__ static uint32_t rows_left(int32_t crew_)
    {
        return shared_address(&block()->rows_left[crew_]);
    }
    __device__ static uint32_t done(int32_t place)
    {
        return shared_address(&block()->done[place]);
    }
    __device__ void note(bool bad) const
    {
        if (bad)
            block()->trouble[crew * warps + warp] = 1;
    }
    /* Of a token's row, where the copy engine puts a chunk of 16 bytes. */
    __device__ static uint32_t chunk_at(int32_t token, int32_t chunk)
    {
        return (uint32_t)((chunk ^ token % 8) * 16);
    }

    __device__ static natten_role row_role(int n)
    {
        return of_queries ? (n == 0 ? NATTEN_QUERY : NATTEN_GRAD_OUT)
                          : (n == 0 ? NATTEN_KEY : NATTEN_VALUE);
    }
    __device__ static natten_role partner_role(int n)
    {
        return of_queries ? (n == 0 ? NATTEN_KEY : NATTEN_VALUE)
                          : (n == 0 ? NATTEN_QUERY : NATTEN_GRAD_OUT);
    }

    __device__ void open() const
    {
        if (threadIdx.x == 0) {
            /* Each lane of bringers arrives for what it has told or copied. */
            constexpr uint32_t lanes = NATTEN_CUDA_WARP, bring = bringer_lanes;
            for (int i = 0; i < groups; i++)
                barrier_make(full(i), (engine ? 1 : bring) + (of_queries ? 0 : bring));
            for (int i = 0; i < crews; i++) {
                barrier_make(rows_full(i), bring + (engine ? stats_warps * lanes : 0));
                barrier_make(rows_left(i), warps * lanes);
            }
            for (int i = 0; i < steps; i++)
                barrier_make(done(i), warps * lanes);
        }
        if (threadIdx.x < crews * warps)
            block()->trouble[threadIdx.x] = 0;
        if (threadIdx.x / NATTEN_CUDA_WARP == 1 && threadIdx.x % NATTEN_CUDA_WARP < 2)
            find_cut((int32_t)threadIdx.x % NATTEN_CUDA_WARP);
        __syncthreads();
    }

    /* Nothing is cut if all items are whole. */
    __device__ void find_cut(int32_t end) const
    {
        natten_cuda_band_place place = {job.band.items, 0};
        if (job.band.whole < job.band.items)
            place = natten_cuda_band_cut(&job.band, (int32_t)gridDim.x,
                                         (int32_t)blockIdx.x + end);
        block()->cut[end] = place;
    }

    /* ---- the bringer's ---- */

    /* Where the copy engine finds two tensors of a class: a map's number, and the
     * innermost coordinates. */
    struct Aim {
        int32_t kind, inner[2];
    };
    struct Item {
        natten_class down, across;
        int32_t batch, head, partner_head;
        int32_t first, columns; /* of rows, positions in the class */
        int32_t from, to;       /* rows of tokens, the same */
        int32_t origin;         /* the first group's first row of partners */
        int32_t left;           /* the first column of partners */
        int32_t begin;          /* of the lane's column: where its warp's box begins, */
        int32_t strips;         /* and has how many strips */
        uint32_t seen;          /* and what of it that column sees */
        Aim rows, partners;
    };
    /* So many: steps told, and done; groups that are on their way or have arrived, that
     * have arrived, that were brought before the item. */
    struct Counts {
        int32_t told, done, groups, arrived, base;
    };
    __device__ static natten_span rows_of_class(const natten_class &c)
    {
        return of_queries ? c.queries : c.keys;
    }
    __device__ static natten_span partners_of_class(const natten_class &c)
    {
        return of_queries ? c.keys : c.queries;
    }
    __device__ static natten_span partners_of(const natten_class &c, int32_t g)
    {
        return of_queries ? natten_class_keys(&c, g) : natten_class_queries(&c, g);
    }
    __device__ static uint32_t bits_between(int32_t begin, int32_t end)
    {
        return end > begin ? (1u << end) - (1u << begin) : 0;
    }
    /* Where a token of a class is along its tensor's axis; it is that far from the
     * class's first. */
    __device__ static int32_t index_of(const natten_class &c, const natten_axis &axis,
                                       bool queries, int32_t far)
    {
        return (queries ? c.query_index : c.key_index) + far * axis.dilation;
    }
    /* Those of a warpgroup meet; crews never do. */
    __device__ static void meet_bringers()
    {
        meet(1, bringer_lanes);
    }
    __device__ Aim aim(const Item &item, bool of_rows) const;
    __device__ void tell_step(Step &to, const Item &item, const Counts &n,
                              int32_t count, int32_t begin, int32_t end) const;
    __device__ bool find_item(int32_t number, int32_t first, int32_t end,
                              Item &item) const;
    template <class Work> __device__ void each_item(const Work &work) const;
    __device__ int64_t first_row(const Item &item, int32_t row, natten_role role) const;
    __device__ Step &tell(Counts &n) const;
    __device__ void wait_for_rows_left(int32_t told) const;
    __device__ void see_done(Counts &n) const;
    __device__ void see_arrived(Counts &n) const;
    __device__ void bring_step(const Item &item, int32_t row, Counts &n) const;
    __device__ void bring_group(const Item &item, Counts &n) const;
    __device__ void bring_tokens(int n, bool of_rows, const Item &item,
                                 const int32_t (&place)[2], uint32_t to,
                                 uint32_t barrier) const;
    __device__ void bring_by_lanes(natten_role role, bool of_rows, const Item &item,
                                   const int32_t (&place)[2], uint32_t to) const;
    __device__ void bring_stats(const Item &item, const int32_t (&place)[2],
                                uint32_t to) const;
    __device__ void find_stats(const Item &item, int32_t row, int32_t told,
                               int32_t number) const;
    __device__ float2 work_delta_out(int64_t base, int64_t further, int32_t columns,
                                     int32_t number) const;
    __device__ float load_number(natten_role role, int64_t further) const
    {
        return __ldg(reinterpret_cast<const float *>(begin_of(job, role) + further));
    }
};

} // namespace natten

#endif
