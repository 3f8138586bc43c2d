/* SPDX-License-Identifier: MIT
 *
 * Tiles of tokens against boxes of partners, for products of warpgroups
 * (device/warpgroup.cuh).  Row, partner, box and slot are as in device/mma_tile.cuh.
 *
 *     tile      the rows of an item, a box of up to 64 tokens of one head
 *     item      a tile of one head and batch item: a crew does one after the other
 *     step      a box against the tile
 *     crew      four warps that multiply, with 16 rows each, and one or two that bring
 *               what they multiply; a block has some, which know nothing of each other
 *     bringer   such a warp (device/wgmma_bring.cuh): it moves rows and boxes, or tells
 *               what is known of them, or both; the second one of queries works delta
 *               out (device/wgmma_stats.cuh)
 *     masks     a product that gives what is hidden -inf, with which sums begin
 *
 * Who sees what is a product over the axes.  So of masks A has, for each row and each
 * place of a box along an axis, a number below all if the row does not see it, else 0;
 * B has, for each slot, a 4 at its places (a "hot" column), and is the same in all
 * steps.  What is not finite gives NaN there too, and rows with it are done again by
 * level a, as elsewhere.
 *
 *     shared memory   of each crew: rows | first tensor of partners, stages | second |
 *                     natten_cuda_wgmma_info; then hot columns                      */
#ifndef NATTEN_CUDA_DEVICE_WGMMA_TILE_CUH
#define NATTEN_CUDA_DEVICE_WGMMA_TILE_CUH

#include "cuda/cuda_wgmma_crew.h"
#include "cuda/device/mma_rows.cuh"
#include "cuda/device/warpgroup.cuh"
#include "cuda/device/wgmma_turn.cuh"

namespace natten {

extern __shared__ __align__(1024) char wgmma_shared[];

template <class T, natten_cuda_wgmma_pass pass, bool engine> class WgmmaTile {
    using Shape = WgmmaShape<pass>;
    using Lay = MmaRows<T, NATTEN_CUDA_WGMMA_DIMS>;
    static constexpr int columns = Shape::columns, row_bytes = Lay::bytes;
    static_assert(row_bytes == NATTEN_CUDA_WGMMA_ROW_BYTES && columns % 8 == 0);
    static_assert(columns <= NATTEN_CUDA_WGMMA_COLUMNS &&
                  columns <= 16 * NATTEN_CUDA_WGMMA_HOT_STEPS &&
                  Shape::first <= NATTEN_CUDA_WGMMA_STAGES &&
                  Shape::second <= NATTEN_CUDA_WGMMA_STAGES);

  public:
    static constexpr bool of_queries =
        pass != NATTEN_CUDA_WGMMA_GRAD_TOKENS;      /* the rows */
    static constexpr int warp_rows = 16, warps = 4; /* with rows */
    /* Products that sum over the partners of a step, 16 at a time; of the last 16 there
     * may be eight. */
    static constexpr int gathers = (columns + 15) / 16;

    const natten_cuda_job &job;
    int32_t lane, warp; /* the crew's */
    int32_t crew;
    bool brings;     /* the warp is a bringer of the crew's ... */
    int32_t bringer; /* ... the first, which moves, or the second, which tells where
                        `tells_apart`; else the first does both */
    uint32_t upper, lower; /* forward, the thread's rows: their places in a tile, 8 bits
                              an axis */

    __device__ explicit WgmmaTile(const natten_cuda_job &job_)
        : job(job_), lane(threadIdx.x % NATTEN_CUDA_WARP)
    {
        int32_t number = of_warp((int)threadIdx.x / NATTEN_CUDA_WARP);
        brings = number >= Shape::crews * warps;
        crew = brings ? (number - Shape::crews * warps) % Shape::crews : number / warps;
        bringer = (number - Shape::crews * warps) / Shape::crews;
        warp = number % warps;
        if constexpr (!recalls) {
            upper = slot_of(job.wgmma.tile, warp * warp_rows + lane / 4);
            lower = slot_of(job.wgmma.tile, warp * warp_rows + lane / 4 + 8);
        }
    }

    /* ---- shared memory ---- */

    static constexpr int crew_bytes =
                             natten_cuda_wgmma_crew_bytes(pass, Shape::tensors, columns,
                                                          Shape::first + Shape::second),
                         info_at = natten_cuda_wgmma_info_at(
                             Shape::tensors, columns, Shape::first + Shape::second);
    static_assert(natten_cuda_wgmma_block_bytes(Shape::crews, crew_bytes, columns) <=
                  NATTEN_CUDA_SHARED_ENGINE);
    static constexpr bool recalls = pass != NATTEN_CUDA_WGMMA_FORWARD;
    /* Does a bringer of its own tell?  Where rows are keys; that beside the one of
     * queries finds their lse and delta. */
    static constexpr bool tells_apart = pass == NATTEN_CUDA_WGMMA_GRAD_TOKENS;
    static_assert(Shape::bringers >= (pass == NATTEN_CUDA_WGMMA_FORWARD ? 1 : 2));

    __device__ uint32_t rows(int n) const
    {
        return shared_address(wgmma_shared) +
               (uint32_t)(crew * crew_bytes + n * NATTEN_CUDA_WGMMA_ROWS * row_bytes);
    }
    __device__ uint32_t partners(int n, int stage) const
    {
        return rows(Shape::tensors) +
               (uint32_t)((n * Shape::first + stage) * columns * row_bytes);
    }
    __device__ uint32_t hot(int k) const
    {
        return shared_address(wgmma_shared) +
               (uint32_t)(Shape::crews * crew_bytes + k * columns * 32);
    }
    __device__ natten_cuda_wgmma_info *info() const
    {
        return reinterpret_cast<natten_cuda_wgmma_info *>(wgmma_shared +
                                                          crew * crew_bytes + info_at);
    }
    __device__ uint32_t full(int n, int stage) const
    {
        return shared_address(&info()->full[n][stage]);
    }
    __device__ uint32_t left(int n, int stage) const
    {
        return shared_address(&info()->left[n][stage]);
    }
    /* lse and minus delta of a row of the warp; of a stage's partners. */
    __device__ uint32_t row_stats(int r) const
    {
        return shared_address(
            &info()->row_stats[own.stage()][2 * (warp * warp_rows + r)]);
    }
    __device__ uint32_t stats(int stage, int n = 0) const
    {
        return shared_address(info()->stats[stage][n]);
    }
    /* Where a partner's are: those that a lane reads of 16 are next to each other. */
    __device__ static int32_t stats_place(int32_t n)
    {
        return (n & ~15) + (n >> 1 & 3) * 4 + (n >> 3 & 1) * 2 + (n & 1);
    }
    __device__ uint32_t rows_full() const
    {
        return shared_address(&info()->rows_full[own.stage()]);
    }
    __device__ uint32_t rows_left() const
    {
        return shared_address(&info()->rows_left);
    }
    __device__ uint32_t item_left() const
    {
        return shared_address(&info()->item_left[own.stage()]);
    }

    /* Items are numbered from here on, and so far apart. */
    __device__ int32_t first_item() const
    {
        return (int32_t)(blockIdx.x + gridDim.x * crew);
    }
    __device__ static int32_t item_step()
    {
        return (int32_t)gridDim.x * Shape::crews;
    }

    /* Barriers, and zeros where no box and no tile ever puts anything: what is not a
     * number there would spoil sums. */
    __device__ void open() const;

    /* ---- for warps with rows ---- */

    /* A lane has read its part of a stage, or its rows: bringers may fill it. */
    __device__ void leave(uint32_t barrier) const
    {
        barrier_arrive(barrier);
    }
    /* The next item's rows have arrived. */
    __device__ void await_item()
    {
        recall_places();
        barrier_wait(rows_full(), own.parity());
    }
    /* Gradients: work out anew who the thread is, and how many items come before its
     * own.  What is kept through the steps of an item is in local memory, which takes
     * longer; forward less is, and this does. */
    __device__ uint32_t recall()
    {
        static_assert(recalls);
        const uint32_t thread = fresh_thread();
        lane = (int32_t)(thread % NATTEN_CUDA_WARP);
        warp = (int32_t)(thread / NATTEN_CUDA_WARP % warps);
        const uint32_t count = load_uint_now(shared_address(&info()->items_done[warp]));
        own = WgmmaTurn<2>(count);
        return count;
    }
    /* Is there an item more?  If so, its rows have arrived. */
    __device__ bool begin_item()
    {
        const int32_t before = of_warp((int32_t)recall());
        if (first_item() + before * item_step() >= job.wgmma.items)
            return false;
        await_item();
        return true;
    }
    /* The thread's number, asked for anew, since what is kept through a step is in
     * local memory. */
    __device__ static uint32_t fresh_thread()
    {
        uint32_t thread;
        asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
        return thread;
    }
    /* Where the thread's rows are in a step's table: read again for each step, at a
     * time when something else is waited for. */
    __device__ void recall_places()
    {
        const uint32_t thread = fresh_thread();
        places = info()->places[(thread >> 5 & 3) * 8 + (thread >> 2 & 7)];
    }
    /* The stage's box has arrived: does the step begin with masks? */
    __device__ bool begin_step(int stage, uint32_t parity) const
    {
        barrier_wait(full(0, stage), parity);
        return __any_sync(all_lanes, info()->step[stage].masked != 0);
    }
    /* Wait for a step's box, and begin the scores with masks, if it has any: then they
     * are what others are added to. */
    __device__ bool begin_masks(float (&s)[columns / 8][4], int stage,
                                uint32_t parity) const
    {
        const bool masked = begin_step(stage, parity);
        if (masked) {
            if (has_few_hot())
                mask<2>(s, stage);
            else
                mask<gathers>(s, stage);
        }
        return masked;
    }
    /* Do two products with masks take all columns? */
    __device__ bool has_few_hot() const
    {
        return job.wgmma.hot_steps <= 2;
    }
    /* Begin the sums of a step with so many. */
    template <int hots>
    __device__ void mask(float (&s)[columns / 8][4], int stage) const
    {
        const uint32_t own = fresh_thread() % 4 * 2;
        /* Bytes: what is hidden in even columns, of four a lane; in odd ones. */
        uint32_t even[2][(hots + 1) / 2 + 1], odd[2][(hots + 1) / 2 + 1];
#pragma unroll
        for (int k = 0; k < hots; k += 2) {
            const uint32_t(&hidden)[NATTEN_CUDA_WGMMA_PLACES] =
                info()->step[stage].hidden[k / 2];
            const uint32_t both = hidden[places & 0xff] | hidden[places >> 8 & 0xff];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                uint32_t row =
                    (both | hidden[i == 0 ? places >> 16 & 0xff : places >> 24]) >> own;
                even[i][k / 2] = (row & 0x01010101u) * least;
                odd[i][k / 2] = (row >> 1 & 0x01010101u) * least;
            }
        }
#pragma unroll
        for (int k = 0; k < hots; k++) {
            uint32_t a[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const uint32_t byte = k % 2 * 2 + i / 2;
                a[i] = __byte_perm(even[i % 2][k / 2], odd[i % 2][k / 2],
                                   byte * 0x11 | (byte + 4) * 0x1100);
            }
            begin_products();
            WarpgroupProduct<__nv_bfloat16, columns>::template multiply<false>(
                s, a, matrix_of_narrow_rows(hot(k)), k > 0);
            if (hots > 2 &&
                k + 1 < hots) { /* the registers are for the next ones, too */
                end_group_of_products();
                wait_for_products<0>();
            }
        }
    }
    /* The warp's rows as left sides of products. */
    __device__ void load_rows(uint32_t (&a)[Lay::steps][4], int n) const
    {
        const uint32_t from =
            Lay::left(rows(n) + (uint32_t)(warp * warp_rows * row_bytes), lane);
#pragma unroll
        for (int k = 0; k < Lay::steps; k++)
            load_matrices(a[k], Lay::step(from, k));
    }
    /* The same of rows in registers: half of what products read of shared memory. */
    __device__ void score(float (&s)[columns / 8][4],
                          const uint32_t (&a)[Lay::steps][4], int n, int stage,
                          bool adds) const
    {
        const uint64_t b = matrix_of_wide_rows(partners(n, stage));
        begin_products();
#pragma unroll
        for (int k = 0; k < Lay::steps; k++)
            WarpgroupProduct<T, columns>::template multiply<false>(
                s, a[k], matrix_further(b, (uint32_t)(32 * k)), adds || k > 0);
        end_group_of_products();
    }
    /* Scores of tensor n of rows and of partners, which are begun and not waited for;
     * they are added where they begin with masks. */
    __device__ void score(float (&s)[columns / 8][4], int n, int stage, bool adds) const
    {
        const uint64_t a = matrix_of_wide_rows(rows(n)),
                       b = matrix_of_wide_rows(partners(n, stage));
        begin_products();
#pragma unroll
        for (int k = 0; k < Lay::steps; k++)
            WarpgroupProduct<T, columns>::multiply(
                s, matrix_further(a, (uint32_t)(32 * k)),
                matrix_further(b, (uint32_t)(32 * k)), adds || k > 0);
        end_group_of_products();
    }
    /* sum += weights, of all partners, times tensor n of partners; not waited for.
     * Where the last 16 partners are but eight, hot columns stand for the others, for
     * they are finite and there are enough of them; their weights are 0. */
    __device__ void gather(float (&sum)[NATTEN_CUDA_WGMMA_DIMS / 8][4],
                           const uint32_t (&weights)[gathers][4], int n,
                           int stage) const
    {
        gather_part<0, gathers>(sum, weights, n, stage);
        end_group_of_products();
    }
    /* The products first .. end - 1 of these, which belong to the next group. */
    template <int first, int end>
    __device__ void gather_part(float (&sum)[NATTEN_CUDA_WGMMA_DIMS / 8][4],
                                const uint32_t (&weights)[gathers][4], int n,
                                int stage) const
    {
        constexpr uint32_t sixteen = 16 * row_bytes;
        const uint32_t from = partners(n, stage);
        const uint64_t b = matrix_of_wide_rows(from);
        begin_products();
#pragma unroll
        for (int k = first; k < natten_min(end, columns / 16); k++)
            WarpgroupProduct<T, NATTEN_CUDA_WGMMA_DIMS>::template multiply<true>(
                sum, weights[k], matrix_further(b, (uint32_t)k * sixteen), true);
        if constexpr (end > columns / 16) {
            const uint32_t last = from + (uint32_t)(columns / 16) * sixteen;
            WarpgroupProduct<T, NATTEN_CUDA_WGMMA_DIMS>::template multiply<true>(
                sum, weights[gathers - 1], matrix_of_wide_rows(last, hot(0) - last),
                true);
        }
    }
    /* Numbers of the layout of sums as left sides of products. */
    __device__ static void pack_left(uint32_t (&a)[gathers][4],
                                     const float (&s)[columns / 8][4])
    {
        pack_left_part<0, gathers>(a, s);
    }
    template <int first, int end>
    __device__ static void pack_left_part(uint32_t (&a)[gathers][4],
                                          const float (&s)[columns / 8][4])
    {
#pragma unroll
        for (int k = first; k < end; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (2 * k + i / 2 < columns / 8)
                    a[k][i] = pack<T>(s[2 * k + i / 2][i % 2 * 2],
                                      s[2 * k + i / 2][i % 2 * 2 + 1]);
                else
                    a[k][i] = 0;
    }
    /* The item that the warps have come to, with the thread's rows. */
    __device__ const natten_cuda_wgmma_item &item() const
    {
        return info()->item[own.stage()];
    }
    /* What is known of it is not needed any more. */
    __device__ void end_item()
    {
        barrier_arrive(item_left());
        if constexpr (recalls) {
            const uint32_t done = shared_address(&info()->items_done[warp]),
                           count = load_uint_now(done) + 1;
            __syncwarp(); /* all lanes have read it */
            store_shared(done, count);
            __syncwarp();
        } else {
            own.next();
        }
    }
    __device__ uint32_t row_place(int r) const
    {
        return recalls ? info()->row_place[warp * warp_rows + r]
               : r < 8 ? upper
                       : lower;
    }
    /* Rows are counted in the warp, and asked for by who has them. */
    __device__ bool exists(int r) const
    {
        return ((item().limit - row_place(r)) & 0x808080u) == 0x808080u;
    }
    __device__ char *row_at(natten_role role, int r) const
    {
        const natten_cuda_job &now = fresh(job);
        int32_t at[3];
        place_of(row_place(r), at);
        return begin_of(now, role) +
               offset_of<sizeof(T)>(now, role, item().batch, item().head, at);
    }
    /* The same of result number n, of what is known of the item and its rows. */
    __device__ char *result_at(int n, int r) const
    {
        const int64_t *row = n == 0 ? info()->row : info()->second_row;
        return item().result[n] + row[warp * warp_rows + r];
    }
    /* Bytes from the item's first row to this one. */
    __device__ int64_t offset_of_row(natten_role role, int r) const
    {
        uint32_t place = recalls ? slot_of(job.wgmma.tile, warp * warp_rows + r)
                         : r < 8 ? upper
                                 : lower;
        int32_t at[3];
        for (int a = 0; a < 3; a++)
            at[a] = place == nowhere
                        ? 0
                        : (int32_t)(place >> 8 * a & 0xff) * job.task.axis[a].dilation;
        return offset_of<sizeof(T)>(job, role, 0, 0, at);
    }
    __device__ uint32_t store_rows(int n,
                                   const float (&sum)[NATTEN_CUDA_WGMMA_DIMS / 8][4],
                                   const float (&factor)[2]) const;
    /* Have the warp's rows in `wanted`, a bit each, computed anew by level a. */
    template <class Again>
    __device__ void redo(uint32_t wanted, const Again &again) const;

    /* ---- bringers ---- */

    template <bool tells, bool moves> __device__ void bring();

    /* All of the block: `work` is what warps with rows do. */
    template <class Work> __device__ void run(const Work &work)
    {
        open();
        if (brings) {
            set_registers<Shape::few, false>();
            if (bringer == 0) {
                bring<!tells_apart, true>();
            } else if (bringer == 1) {
                if constexpr (tells_apart)
                    bring<true, false>();
                else if constexpr (pass == NATTEN_CUDA_WGMMA_GRAD_QUERY)
                    bring_stats_of_rows();
            }
        } else {
            set_registers<Shape::many, true>();
            work();
        }
    }

  private:
    WgmmaTurn<2> own; /* items' */
    uint32_t places;  /* of the thread's rows in a step's table (see open()) */
    static constexpr uint32_t nowhere = 0x7f7f7f;
    /* Least number of bf16 with twice the same byte; 4 times it is -inf. */
    static constexpr uint32_t least = 0xfe, four = 0x4080;

    __device__ static natten_role row_role(int n)
    {
        return of_queries ? (n == 0 ? NATTEN_QUERY : NATTEN_GRAD_OUT)
                          : (n == 0 ? NATTEN_KEY : NATTEN_VALUE);
    }
    /* The tensors that the pass writes; grad_query has no second. */
    __device__ static natten_role result_role(int n)
    {
        return pass == NATTEN_CUDA_WGMMA_FORWARD ? (n == 0 ? NATTEN_OUT : NATTEN_LSE)
               : pass == NATTEN_CUDA_WGMMA_GRAD_QUERY ? NATTEN_GRAD_QUERY
               : n == 0                               ? NATTEN_GRAD_KEY
                                                      : NATTEN_GRAD_VALUE;
    }
    __device__ static natten_role partner_role(int n)
    {
        return of_queries ? (n == 0 ? NATTEN_KEY : NATTEN_VALUE)
                          : (n == 0 ? NATTEN_QUERY : NATTEN_GRAD_OUT);
    }
    /* What this bringer has found out about its item; the class along an axis. */
    __device__ natten_cuda_wgmma_found &found() const
    {
        return !tells_apart || bringer == 1 ? info()->found : info()->mover_found;
    }
    __device__ natten_class &axis(int a) const
    {
        static_assert(sizeof(natten_class) == sizeof natten_cuda_wgmma_found::axis[0]);
        return *reinterpret_cast<natten_class *>(found().axis[a]);
    }
    __device__ static int32_t volume(const int32_t (&box)[3])
    {
        return box[0] * box[1] * box[2];
    }
    /* Place number n of a box, 8 bits an axis; past its end one that is nowhere. */
    __device__ static uint32_t slot_of(const int32_t (&box)[3], int32_t n)
    {
        uint32_t x = (uint32_t)n % (uint32_t)box[2],
                 row = (uint32_t)n / (uint32_t)box[2];
        uint32_t y = row % (uint32_t)box[1], z = row / (uint32_t)box[1];
        return (int32_t)z >= box[0] ? nowhere : z | y << 8 | x << 16;
    }
    /* How far a place of a box is from its first, along its tensor's axes. */
    __device__ void distance_of(uint32_t of, int32_t (&at)[3]) const
    {
#pragma unroll
        for (int a = 0; a < 3; a++)
            at[a] = (int32_t)(of >> 8 * a & 0xff) * job.task.axis[a].dilation;
    }
    /* Where a row of the item is, along its tensor's axes. */
    __device__ void place_of(uint32_t of, int32_t (&at)[3]) const
    {
        distance_of(of, at);
#pragma unroll
        for (int a = 0; a < 3; a++)
            at[a] += item().at[a];
    }
    /* `count` bits from bit `first` on, as far as there are such; both are unsigned, so
     * from -1 on there are none. */
    __device__ static uint32_t bits(int32_t first, int32_t count)
    {
        uint32_t x;
        asm("bmsk.clamp.b32 %0, %1, %2;" : "=r"(x) : "r"(first), "r"(count));
        return x;
    }
    /* The same where `first` may be negative. */
    __device__ static uint32_t bits_after(int32_t first, int32_t count)
    {
        return bits(natten_max(first, 0), natten_max(count + natten_min(first, 0), 0));
    }

    /* ---- bringers' ---- */

    /* Where the copy engine finds a tensor: a map's number, and the class's innermost
     * coordinate for head 0. */
    struct Aim {
        int32_t kind, inner;
    };
    /* What it knows of an item. */
    struct __align__(16) Found
    {
        /* All from the class's first on, which is position 0. */
        int32_t begin[3], stop[3]; /* the halo */
        /* First and last place where a box that all rows see whole may begin, along
         * axis `lane`; any in lanes from 3 on. */
        int32_t seen_from, seen_to;
        int32_t row[3]; /* the first row */
        Aim aim[2];     /* the partners' */
        int32_t batch, head, steps;
    };
    /* A digit of items' numbers, one a lane: the tile's number along the axes (lanes 0
     * .. 2), the class's (3 .. 5), the head and the batch item (6, 7).  Forward, tiles
     * come first, so that crews share partners.  Backward, heads do: crews then meet
     * borders equally often, where more queries see a key. */
    struct Digit {
        Divider below, count;
        Divider side; /* of a box, along axis `lane` */

        __device__ Digit(const natten_cuda_job &job, int32_t lane);
        __device__ explicit Digit(const uint32_t (&kept)[6])
            : below((int32_t)kept[0], kept[1]), count((int32_t)kept[2], kept[3]),
              side((int32_t)kept[4], kept[5])
        {
        }
        __device__ void keep(uint32_t (&to)[6]) const
        {
            to[0] = below.divisor, to[1] = below.inverse;
            to[2] = count.divisor, to[3] = count.inverse;
            to[4] = side.divisor, to[5] = side.inverse;
        }
        __device__ int32_t of(int32_t number) const
        {
            int32_t digit;
            count(below(number), digit);
            return digit;
        }
    };
    /* Queries of a class along an axis: the first one's index in the tensor. */
    struct Queries {
        int32_t index, count;
    };
    /* Where lse and delta of a tile's first row are, in bytes; a bit for each row that
     * there is. */
    struct Spot {
        int64_t stats;
        uint32_t rows[2];
    };
    /* A place of the tile along an axis: what of a box it may not see. */
    struct TilePlace {
        int32_t axis; /* or -1: there is no such place */
        int32_t side; /* the box's there */
        /* Its first column of masks there; a side of 1 needs none: it hides all. */
        int32_t first;
    };
    /* What a bringer's lane keeps in registers, for all items and for one. */
    struct Held {
        uint32_t box_bytes;
        TilePlace place; /* the lane's */
        natten_span seen;
        int32_t inner[2]; /* the innermost coordinates of a head's partners */
    };
    struct Turns { /* of both tensors of partners */
        WgmmaFillTurn<Shape::first> first;
        WgmmaFillTurn<Shape::second> other;

        __device__ const WgmmaFillTurn<Shape::second> &second() const
        {
            if constexpr (Shape::first == Shape::second)
                return first;
            else
                return other;
        }
        __device__ void next()
        {
            first.next(), other.next();
        }
    };
    __device__ static int64_t stats_offset(const natten_cuda_job &job, int32_t batch,
                                           int32_t head, const int32_t (&at)[3])
    {
        return offset_of<sizeof(T)>(job, stats_role, batch, head, at);
    }
    __device__ bool is_dilated() const
    {
        const natten_axis *own = job.task.axis;
        return (own[0].dilation - 1 | own[1].dilation - 1 | own[2].dilation - 1) != 0;
    }
    __device__ static natten_span partners_of(const natten_class &c, int32_t g)
    {
        return of_queries ? natten_class_keys(&c, g) : natten_class_queries(&c, g);
    }
    /* All lanes ask, and get the same. */
    __device__ Aim aim(natten_role role, bool of_rows) const
    {
        if (!is_dilated())
            return {0, 0};
        int32_t kind = 0, inner = 0;
        bool queries = of_rows == of_queries;
        if (lane < 3 && job.task.axis[lane].dilation > 1) {
            const natten_axis &own = job.task.axis[lane];
            const natten_class &c = axis(lane);
            int32_t count = queries ? own.query_count : own.key_count,
                    index = queries ? c.query_index : c.key_index,
                    rest = count % own.dilation;
            kind = rest != 0 && index >= rest ? job.halo.short_kind[lane] : 0;
            inner = (int32_t)(index * job.task.view[role].axis[lane]);
        }
        return {__reduce_add_sync(all_lanes, kind),
                __reduce_add_sync(all_lanes, inner)};
    }
    template <bool tells> __device__ Found find_item(int32_t number) const;
    template <bool tells>
    __device__ void see_rows(Found &f, const Digit &digits, int32_t digit) const;
    __device__ void bring_rows(const Found &f) const;
    template <bool tells, bool moves>
    __device__ void bring_step(const Found &f, const Held &held, const int32_t (&at)[3],
                               int32_t head, Turns &turns) const;
    __device__ void bring_box(int n, int stage, const Found &f, const Held &held,
                              const int32_t (&at)[3], int32_t head) const;
    __device__ void bring_rows_by_lanes(natten_role role, uint32_t to,
                                        const int32_t (&box)[3], bool of_rows,
                                        const int32_t (&first)[3], const Found &f,
                                        int32_t head) const;
    __device__ void bring_stats(uint32_t to, const int32_t (&first)[3], const Found &f,
                                int32_t head) const;
    __device__ int32_t count_places() const
    {
        return job.wgmma.tile[0] + job.wgmma.tile[1] + job.wgmma.tile[2];
    }
    __device__ Queries find_queries(int32_t residue) const;
    __device__ Spot find_spot(int32_t number, Queries &own) const;
    __device__ void ask_for_rows(const Spot &spot) const;
    __device__ void copy_stats(const Spot &spot, int first) const;
    __device__ void work_delta_out(const Spot &spot, int first) const;
    __device__ void bring_stats_of_rows();
    __device__ bool is_seen(const Found &f, const Held &held,
                            const int32_t (&at)[3]) const;
    __device__ TilePlace place_number(int32_t i) const;
    __device__ void hide_from(const TilePlace &place, const natten_span &seen,
                              int32_t i, const int32_t (&at)[3],
                              natten_cuda_wgmma_step &step) const;
    __device__ void make_hot() const;
    __device__ void make_tables() const;
};

#define WGMMA_TILE \
    template <class T, natten_cuda_wgmma_pass pass, bool engine> __device__ inline
#define WGMMA_TILE_OF WgmmaTile<T, pass, engine>

} // namespace natten

#endif
