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
 * A block keeps its place in the grid, or has tiles that are all alike.  So what its
 * window is, who sees whom and where everything lies in a slice is worked out once, in
 * integers, with the rule of geometry/axis.h, and kept as a table of HaloPair.
 *
 * Chunks of 16 bytes lie permuted within rows, so that 8 partners in a row of a slice
 * are in different banks.  Length: one tile and where all that it knows lies. */
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

/* x, of which the compiler can't tell how to work it out anew: it is kept. */
__device__ inline uint32_t kept(uint32_t x)
{
    asm volatile("" : "+r"(x));
    return x;
}

/* x >> by, worked out where it says so. */
__device__ inline uint32_t shifted(uint32_t x, uint32_t by)
{
    uint32_t y;
    asm volatile("shr.u32 %0, %1, %2;" : "=r"(y) : "r"(x), "r"(by));
    return y;
}

/* x & mask, worked out where it says so. */
__device__ inline uint32_t masked(uint32_t x, uint32_t mask)
{
    asm volatile("and.b32 %0, %0, %1;" : "+r"(x) : "r"(mask));
    return x;
}

/* x << by, worked out where it says so. */
__device__ inline uint32_t shifted_up(uint32_t x, uint32_t by)
{
    uint32_t y;
    asm volatile("shl.b32 %0, %1, %2;" : "=r"(y) : "r"(x), "r"(by));
    return y;
}

/* x + the lower or the upper half of a word: an instruction for either. */
__device__ inline uint32_t plus_half(uint32_t x, uint32_t word, int half)
{
    return half == 0 ? __dp2a_lo(word, 1u, x) : x + (word >> 16);
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

/* The same, as the planner counted; by 1 at once. */
__device__ inline int32_t divide(int32_t k, const natten_cuda_count &by, int32_t &rest)
{
    rest = 0;
    return by.count == 1 ? k : Divider(by.count, by.inverse)(k, rest);
}

/* The same of two numbers; by 1 at once, too. */
__device__ inline int32_t divide(int32_t k, int32_t by, int32_t &rest)
{
    rest = 0;
    if (by == 1)
        return k;
    rest = k % by;
    return k / by;
}

/* Of a power of two. */
__device__ inline int32_t log2_of(int32_t x)
{
    return 31 - __clz(x);
}

/* x[i], of three numbers in registers. */
__device__ inline int32_t pick(const int32_t (&x)[3], int i)
{
    return i == 0 ? x[0] : i == 1 ? x[1] : x[2];
}

/* delta and job.stats, where roles are named: they are no tensors of the task. */
constexpr natten_role delta_role = NATTEN_ROLES,
                      stats_role = (natten_role)(NATTEN_ROLES + 1);

/* Bytes from a tensor's first row to another; elements have so many. */
template <int bytes = 2>
__device__ inline int64_t offset_of(const natten_cuda_job &job, natten_role role,
                                    int32_t batch, int32_t head, const int32_t (&at)[3])
{
    if (role == delta_role || role == stats_role)
        return query_number(job.task, batch, head, at) *
               (role == delta_role && bytes < 8 ? 4 : 8);
    const natten_view &view = job.task.view[role];
    int64_t offset = batch * view.batch + head * view.head;
    for (int a = 0; a < 3; a++)
        offset += at[a] * view.axis[a];
    return offset * (role != NATTEN_LSE ? bytes : bytes == 8 ? 8 : 4);
}

__device__ inline char *begin_of(const natten_cuda_job &job, natten_role role)
{
    return static_cast<char *>(role == delta_role   ? job.delta
                               : role == stats_role ? job.stats
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

/* What a lane works out of its warp's subtile while a block opens: a position along an
 * axis.  The first lanes have those of axis 0, the next ones those of axis 1, all
 * others those of axis 2, the last one as often as lanes are left over. */
template <Side side> struct HaloLanes {
    int32_t first[3]; /* lane of each axis's first position */
    int a;
    int32_t position;
    bool leads; /* has the first */

    __device__ HaloLanes(const natten_cuda_halo &h, int32_t lane)
        : first{0, h.sub[0], h.sub[0] + h.sub[1]}, a(lane < first[1]   ? 0
                                                     : lane < first[2] ? 1
                                                                       : 2)
    {
        position = lane - pick(first, a);
        leads = position == 0;
        position = natten_min(position, h.sub[a] - 1);
    }
    /* Axis i's value, from the lane that has a position of it. */
    __device__ int32_t of(int32_t value, int i, int32_t position_ = 0) const
    {
        return __shfl_sync(all_lanes, value, first[i] + position_);
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
    /* Its bits, and those that `also` hide. */
    __device__ uint32_t hides(uint32_t also) const
    {
        return word | also;
    }
    __device__ uint32_t row(uint32_t slice, int group) const
    {
        return slice + (group == 0 ? left : right);
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

/* c += `hidden` where group g's partners are hidden from the lane's rows, by the bits
 * that the pair `hides`.  `unit[0]` is minus the unit matrix. */
__device__ inline void hide_in(float (&c)[4], const HaloPair &, uint32_t bits, int g,
                               const uint32_t (&unit)[2])
{
    constexpr uint32_t large = 0x7e80; /* 2^126 */
    uint32_t upper = (bits & 0x00010001u << (2 * g)) * (large >> (2 * g));
    uint32_t lower = (bits & 0x00020002u << (2 * g)) * (large >> (2 * g + 1));
    multiply_half(c, upper, lower, unit[0], c);
}

/* c = that. */
template <class Pair>
__device__ inline void hide(float (&c)[4], const Pair &pair, uint32_t hides, int g,
                            const uint32_t (&who)[2])
{
    for (int e = 0; e < 4; e++)
        c[e] = 0;
    hide_in(c, pair, hides, g, who);
}

/* A block's tile, and which of those that share out its units it is. */
struct HaloBlock {
    int32_t position, replica;
};

/* A unit of a block: its batch item and head; how far its tile is from the block's
 * first, in tokens of a class and in classes. */
struct HaloUnit {
    int32_t batch, head, tokens[3], classes[3];
};

template <int tokens> struct HaloWalk; /* device/halo_copies.cuh */

/* Step of a block: a slice of a plane of the halo, of `units` units. */
struct HaloStep {
    int32_t first_unit; /* batch item times heads, plus head; of kinds with the tile */
    int32_t head;       /* of the group that shares the rows' head */
    int32_t plane, slice;
};

/* A block's tile.  `dims` is the width of rows in shared memory; `engine`: the copy
 * engine fetches slices, and rows are whole and can be read 16 bytes at a time. */
template <class T, int dims, Side side, bool engine> class HaloTile {
  public:
    static constexpr int row_bytes = dims * (int)sizeof(T);
    static constexpr int chunks = row_bytes / 16;
    static constexpr bool of_queries = side == Side::queries; /* the rows */
    static constexpr bool by_engine = engine;
    static constexpr bool flat = engine && dims == 32; /* see halo_flat.cuh */

    const natten_cuda_job &job;
    int32_t lane, warp;
    int turn = 0;       /* of the unit that is worked on: 0, 1, 0, ... */
    int32_t stride = 0; /* of a pass that keeps steps: units from one to the next */
    /* Minus the unit matrix, as B of 8 columns in bfloat16; in a flat halo which y and
     * x rows have, 1/4 for each, as A of 8 columns. */
    uint32_t unit_matrix[2];
    uint32_t row_matrix; /* address of the lane's row of ldmatrix, in the warp's rows */
    uint32_t row_copy;   /* where its part of a row's copy goes */
    uint32_t row_info;   /* address of where row lane / 4 begins in a unit */
    uint32_t row_bases;  /* address of where the warp's rows begin */
    bool exists[2];      /* rows lane / 4 and lane / 4 + 8 */

    __device__ explicit HaloTile(const natten_cuda_job &job_)
        : job(job_), lane(threadIdx.x % NATTEN_CUDA_WARP),
          warp(of_warp((int)threadIdx.x / NATTEN_CUDA_WARP))
    {
        int apart = lane / 4 - lane % 4 * 2;
        unit_matrix[0] = apart == 0 ? 0xbf80u : apart == 1 ? 0xbf800000u : 0;
        unit_matrix[1] = 0;
        for (int i = 0; i < 2 && flat; i++) {
            int r = lane / 4 + 8 * i, k = lane % 4 * 2;
            int has = k < 4 ? r / 4 - k : r % 4 - (k - 4);
            unit_matrix[i] = kept(has == 0 ? 0x3e80u : has == 1 ? 0x3e800000u : 0);
        }
    }

    __device__ static uint32_t permute(int32_t token, int chunk)
    {
        int low = chunks == 4 ? token >> 1 & 3 : token & 7;
        return (uint32_t)(token * row_bytes + ((chunk ^ low) << 4));
    }

    __device__ static natten_cuda_halo_box *halo()
    {
        return reinterpret_cast<natten_cuda_halo_box *>(halo_shared);
    }
    __device__ natten_cuda_halo_warp *info() const
    {
        return reinterpret_cast<natten_cuda_halo_warp *>(halo() + 1) + place();
    }
    /* The warp's unit, in the block, and the place of its subtile in the tile, which
     * other units have too. */
    __device__ int32_t unit() const
    {
        return warp >> job.halo.log2_places;
    }
    __device__ int32_t place() const
    {
        return warp & (job.halo.places - 1);
    }
    __device__ int32_t log2_units() const
    {
        constexpr int32_t log2_warps = 3;
        static_assert(1 << log2_warps == NATTEN_CUDA_WARPS, "");
        return log2_warps - job.halo.log2_places;
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
    /* 4 columns 2t, 2t + 1 of both groups of a pair: of partners that are queries their
     * tokens in the slice, unless it is flat; then entries of bias, in bytes from the
     * box's first. */
    static constexpr int of_tokens = 0, of_entries = of_queries || flat ? 0 : 1;
    __device__ ushort4 *columns(int which) const
    {
        return reinterpret_cast<ushort4 *>(halo_shared + job.halo.columns_at) +
               ((which * job.halo.places + place()) * job.halo.pairs) * 4 + lane % 4;
    }
    /* The same of forward in a flat halo: two bytes of each of its four columns, where
     * a pass with more tensors of rows than its three would have offsets.  So there is
     * room for pairs of biases beside tiles of 32 x 4 tokens. */
    __device__ uint2 *forward_columns() const
    {
        static_assert(sizeof info()->offset[0] * (NATTEN_CUDA_ROWS - 3) >=
                          NATTEN_CUDA_FLAT_QUERIES * 4 * sizeof(uint2),
                      "");
        return reinterpret_cast<uint2 *>(info()->offset[3]) + lane % 4;
    }
    /* What rows of a subtile see, where biases are summed. */
    __device__ natten_cuda_halo_seen *seen_by(int32_t of_place) const
    {
        return reinterpret_cast<natten_cuda_halo_seen *>(halo_shared +
                                                         job.halo.seen_at) +
               of_place * subtile;
    }
    /* The warp's statistics and biases: beside the copy engine's slices there are three
     * in turn, else they are part of a stage. */
    __device__ uint32_t more(int n) const
    {
        return engine ? more_of(n, unit()) : stage(n);
    }
    __device__ uint32_t more_of(int n, int i) const
    {
        int32_t bytes = engine ? job.halo.more_bytes : job.halo.unit_bytes;
        return shared_address(halo_shared) +
               (uint32_t)((engine ? job.halo.more_at : job.halo.slices_at) +
                          (n * job.halo.units + i) * bytes);
    }
    /* The warp's part of a stage, or its own and its twin's. */
    __device__ uint32_t stage(int n) const
    {
        return stage_of(n, unit() & ~job.halo.twins);
    }
    /* In a flat halo slices of the second tensor may begin in the middle of what the
     * swizzle repeats: then chunks lie the other way round, and addresses differ by
     * this bit. */
    __device__ uint32_t turns_second() const
    {
        return (uint32_t)job.halo.box_bytes >> 3 & 32u << job.halo.twins;
    }
    /* Bytes from where the rows of both begin to the warp's own half. */
    __device__ uint32_t own_half() const
    {
        return (uint32_t)((unit() & job.halo.twins) * row_bytes);
    }
    __device__ uint32_t stage_of(int n, int i) const
    {
        const natten_cuda_halo &h = job.halo;
        return shared_address(halo_shared) +
               (uint32_t)(h.slices_at + (n * h.units + i) * h.unit_bytes);
    }

    __device__ int32_t group() const
    {
        return side == Side::queries ? 1 : job.halo.group;
    }

    /* `replicas` are those of its tile. */
    __device__ HaloBlock place_of_block(int32_t &replicas) const
    {
        const natten_cuda_halo &h = job.halo;
        int32_t block = (int32_t)blockIdx.x, common = h.few * h.positions;
        int32_t each = block < common ? h.positions : h.full;
        int32_t first = block < common ? 0 : common;
        HaloBlock b = {(block - first) % each, (block - first) / each};
        b.replica += block < common ? 0 : h.few;
        replicas = b.position < h.full ? h.replicas : h.few;
        return b;
    }

    /* Sort of the block's kind, where blocks are of a kind of tiles. */
    __device__ int32_t sort_of_block() const
    {
        int32_t sort = 0;
#pragma unroll
        for (int i = 1; i < NATTEN_CUDA_SORTS * NATTEN_CUDA_SORTS; i++)
            sort += (int32_t)blockIdx.x >= job.share.sort[i].first ? 1 : 0;
        return sort;
    }
    /* What tiles that sort has on an axis. */
    __device__ const natten_cuda_halo_kinds &kinds_on(int a, int32_t sort) const
    {
        constexpr int32_t sorts = NATTEN_CUDA_SORTS;
        return job.share.kinds[a][a == 0   ? job.share.sort_of_planes
                                  : a == 1 ? sort / sorts
                                           : sort % sorts];
    }
    /* The first tile of the block's kind; returns the block's number among those that
     * share the kind out. */
    __device__ int32_t kind_of_block(int32_t sort, int32_t (&tile)[3],
                                     int32_t (&residue)[3]) const
    {
        const natten_cuda_halo_sort &s = job.share.sort[sort];
        int32_t kind, replica = divide((int32_t)blockIdx.x - s.first, s.kinds, kind);
        for (int a = 2; a >= 0; a--) {
            const natten_cuda_halo_kinds &k = kinds_on(a, sort);
            kind = divide(kind, k.kinds, tile[a]);
            kind = divide(kind, k.classes, residue[a]);
            tile[a] += k.first;
        }
        return replica;
    }

    /* Batch item of a unit of rows, and its head. */
    __device__ int32_t batch_of(int32_t unit_, int32_t &head) const
    {
        int32_t inner,
            outer = Divider(job.halo.inner, job.halo.inner_inverse)(unit_, inner);
        head = job.halo.is_by_head ? outer : inner;
        return job.halo.is_by_head ? inner : outer;
    }

    /* Find the block's place; false if no row of its tile exists. */
    template <class Pass> __device__ bool open(const Pass &pass);
    /* May the first two slices be on their way while the block opens? Then nothing
     * comes with them. */
    template <class Pass> __device__ bool fetches_early() const
    {
        return Pass::looks_ahead && (!Pass::copies_more || job.halo.keeps_bias);
    }

    __device__ int32_t share_out(int32_t &end) const;
    /* Work out where the slices of a step begin, of all its units and the pass's
     * tensors of partners, a thread each.  Others may read it after the next barrier.
     */
    template <class Pass>
    __device__ void find_slices(int n, const HaloStep &s, int32_t thread) const
    {
        int i = thread / NATTEN_CUDA_PARTNERS, which = thread % NATTEN_CUDA_PARTNERS;
        if (i >= job.halo.units || which >= Pass::partner_tensors)
            return;
        int32_t batch, head, at[3];
        unit_of(s, i, batch, head);
        slice_at(s, at);
        natten_role role = Pass::partner_role(which);
        halo()->partner_base[n][i][which] =
            begin_of(job, role) + offset_of(job, role, batch, head, at);
    }
    /* A unit by its number among the block's, of a pass that looks ahead. */
    __device__ HaloUnit unit_at(int32_t number) const
    {
        const natten_cuda_halo &h = job.halo;
        HaloUnit u = {};
        number = natten_min(number, halo()->end - 1);
        if (h.by_kinds) { /* units of a step are of one tile */
            const int32_t sort = halo()->sort, step = number >> log2_units();
            int32_t tile, round = divide(step, job.share.sort[sort].tiles, tile);
            number += (round - step) * h.units;
            for (int a = 2; a >= 0; a--) {
                const natten_cuda_halo_kinds &k = kinds_on(a, sort);
                int32_t i;
                tile = divide(tile, k.all, i);
                u.classes[a] = divide(i, k.alike, u.tokens[a]);
                u.tokens[a] *= h.sub[a] * h.warps[a];
            }
        }
        u.batch = batch_of(number, u.head);
        return u;
    }
    /* How far its tokens are from those of the block's first tile, on an axis. */
    __device__ int32_t distance(const HaloUnit &u, int a) const
    {
        return u.tokens[a] * job.task.axis[a].dilation + u.classes[a];
    }
    /* What is to be known of units, for a pass that looks ahead, by a warp: of the step
     * that begins with a unit of the block, and of those after it. `turn_` is its
     * place. */
    template <class Pass>
    __device__ void find_units(int turn_, int32_t first_unit) const
    {
        static_assert(4 * NATTEN_CUDA_FOUND == NATTEN_CUDA_WARP, "");
        int i = lane / 4, n = lane % 4;
        HaloUnit u = unit_at(first_unit + (i >> log2_units()) * halo()->unit_stride +
                             (i & (job.halo.units - 1)));
        natten_cuda_halo_unit &unit_ = halo()->ahead[turn_ + i];
        if (n < Pass::row_tensors) {
            natten_role role = Pass::row_role(n);
            const int32_t at[3] = {distance(u, 0), distance(u, 1), distance(u, 2)};
            unit_.base[n] =
                begin_of(job, role) + offset_of(job, role, u.batch, u.head, at);
            return;
        }
        const natten_cuda_halo_aim &aim = halo()->aim;
        int32_t head = job.halo.group > 1 ? u.head / job.halo.group : u.head;
        unit_.batch = u.batch, unit_.head = u.head;
        for (int which = 0; which < 2; which++) {
            const natten_view &view = job.task.view[Pass::partner_role(which)];
            int32_t inner = aim.inner[which] + head * aim.head[which];
            for (int a = 0; a < 3; a++)
                inner += u.classes[a] * (int32_t)view.axis[a];
            unit_.inner[which] = inner;
        }
        for (int a = 0; a < 3; a++)
            unit_.first[a] = aim.first[a] + u.tokens[a];
    }
    /* The place of the units of a step so many after that of this turn. */
    __device__ int turn_after(int turn_, int steps) const
    {
        return (turn_ + steps * job.halo.units) & (NATTEN_CUDA_AHEAD - 1);
    }
    /* How the pass's tensors of rows go on from unit to unit, a thread each. */
    template <class Pass> __device__ void list_rows() const
    {
        const int32_t none[3] = {0, 0, 0};
        const natten_cuda_halo &h = job.halo;
        int32_t rest;
        int32_t times = Divider(h.inner, h.inner_inverse)(halo()->unit_stride, rest);
        natten_role role = Pass::row_role((int)threadIdx.x);
        int64_t batch = offset_of(job, role, 1, 0, none),
                head = offset_of(job, role, 0, 1, none);
        int64_t outer = h.is_by_head ? head : batch,
                inner = h.is_by_head ? batch : head;
        if (threadIdx.x < Pass::row_tensors)
            halo()->stride[threadIdx.x] = {times * outer + rest * inner,
                                           outer - h.inner * inner};
        if (threadIdx.x == 0)
            halo()->step = rest;
    }
    /* Where the warp's rows of its first unit begin; the warp may read it at once. */
    template <class Pass> __device__ void find_rows()
    {
        natten_role role = Pass::row_role(lane);
        int32_t head, batch = batch_of(halo()->begin + unit(), head);
        if (lane == 0)
            halo()->inner[warp] = job.halo.is_by_head ? batch : head;
        int32_t at[3]; /* statistics are the partners' */
        for (int a = 0; a < 3; a++)
            at[a] = role == stats_role ? halo()->place.partner[a] : 0;
        if (lane < Pass::row_tensors)
            halo()->row_base[0][warp][lane] =
                begin_of(job, role) + offset_of(job, role, batch, head, at);
        __syncwarp();
    }
    /* The same of the next unit. */
    template <class Pass> __device__ void find_next_rows(int turn_)
    {
        if (lane < Pass::row_tensors) {
            int32_t inner = halo()->inner[warp] + halo()->step;
            bool carries = inner >= job.halo.inner;
            const natten_cuda_halo_stride &stride = halo()->stride[lane];
            int64_t step = stride.step + (carries ? stride.carry : 0);
            halo()->row_base[turn_][warp][lane] =
                halo()->row_base[turn_ ^ 1][warp][lane] + step;
            __syncwarp((1u << Pass::row_tensors) - 1);
            if (lane == 0)
                halo()->inner[warp] = inner - (carries ? job.halo.inner : 0);
        }
        __syncwarp();
    }

    /* ---- steps ---- */

    __device__ HaloStep first_step() const
    {
        return {halo()->begin, 0, 0, 0};
    }
    __device__ bool is_last_of_unit(const HaloStep &s) const
    {
        return flat || (s.slice + 1 >= halo()->place.slices &&
                        s.plane + 1 >= halo()->place.count[0] && s.head + 1 >= group());
    }
    __device__ static bool is_first_of_unit(const HaloStep &s)
    {
        return flat || (s.slice == 0 && s.plane == 0 && s.head == 0);
    }
    /* Is each unit one step? */
    __device__ bool is_one_step() const
    {
        return flat || (halo()->place.slices <= 1 && halo()->place.count[0] <= 1 &&
                        group() == 1);
    }
    __device__ bool is_first(const HaloStep &s) const
    {
        return s.first_unit == halo()->begin;
    }
    /* Is it the warp's turn to look ahead, in a turn in which one does? */
    __device__ bool is_on_duty(int turn_) const
    {
        return halo()->rank[warp] ==
               natten_min(turn_ / NATTEN_CUDA_FOUND, (int32_t)halo()->busy - 1);
    }
    template <bool keeps_steps = false>
    __device__ int32_t next_units(const HaloStep &s) const
    {
        return s.first_unit + (keeps_steps ? stride : halo()->unit_stride);
    }
    template <bool keeps_steps = false> __device__ void advance(HaloStep &s) const
    {
        if (!flat && ++s.slice < halo()->place.slices)
            return;
        s.slice = 0;
        if (!flat && ++s.plane < halo()->place.count[0])
            return;
        s.plane = 0;
        if (!flat && ++s.head < group())
            return;
        s.head = 0;
        s.first_unit = next_units<keeps_steps>(s);
    }

    /* Remember if some lane has found a result that is not finite. */
    __device__ void note(bool trouble) const
    {
        if (trouble)
            halo()->trouble[warp] = 1;
    }

    /* The warp is done with a stage's slices, which came at the end of a phase of this
     * parity; is it the last? */
    __device__ bool is_last_to_leave(int n, uint32_t parity) const
    {
        __syncwarp();
        bool last = lane == 0 && barrier_is_last(left(n), parity);
        return __any_sync(all_lanes, last);
    }

    /* ---- copies ---- */

    /* Where the warp's rows begin in the pass's n-th tensor of rows; `turn` is that of
     * the unit. */
    __device__ int64_t base_of(int n, int turn_) const
    {
        return load_word(
            row_bases + (uint32_t)(turn_ * (int)sizeof halo()->row_base[0]), n * 8);
    }
    /* The same of a pass that looks ahead, of the warp's unit. */
    __device__ int64_t base_ahead(int n, int turn_) const
    {
        return load_word(
            row_bases + (uint32_t)(turn_ * (int)sizeof(natten_cuda_halo_unit)), n * 8);
    }
    /* The head of rows of that unit. */
    __device__ int32_t head_ahead(int turn_) const
    {
        return (int32_t)load_uint(
            row_bases + (uint32_t)(turn_ * (int)sizeof(natten_cuda_halo_unit)) +
            (uint32_t)offsetof(natten_cuda_halo_unit, head));
    }
    /* Where row lane / 4 + `further` does. */
    __device__ char *row_at(int n, int64_t base, int further) const
    {
        constexpr int each = sizeof info()->offset[0];
        return reinterpret_cast<char *>(
            base + load_word(row_info + (uint32_t)(further * 8), n * each));
    }

    /* Begin to copy the next unit's rows of the n-th tensor of rows to place `n`. */
    template <bool ahead = false>
    __device__ void copy_rows(int n, natten_role role, int turn_) const
    {
        constexpr int at_once = NATTEN_CUDA_WARP / chunks;
        int first = lane / chunks, chunk = lane % chunks;
        static_assert(!ahead || chunks == 4, "first is lane / 4");
        uint32_t to = own_rows(n),
                 begin = ahead ? row_copy : to + permute(first, chunk);
        int64_t base = ahead ? base_ahead(n, turn_) : base_of(n, turn_);
        const char *rows[subtile / at_once]; /* all are read before a copy begins */
#pragma unroll
        for (int i = 0; i < subtile / at_once; i++)
            rows[i] = row_at(n, base, (ahead ? 0 : first - lane / 4) + i * at_once) +
                      chunk * 16;
#pragma unroll
        for (int i = 0; i < subtile / at_once; i++) {
            uint32_t place = at_once % 8 == 0 /* the swizzle repeats */
                                 ? begin + (uint32_t)(i * at_once * row_bytes)
                                 : to + permute(first + i * at_once, chunk);
            if constexpr (engine)
                copy16(place, rows[i]);
            else
                Source<T>(fresh(job), role)
                    .copy(place, reinterpret_cast<const T *>(rows[i] - chunk * 16),
                          chunk);
        }
    }

    /* Barriers of stages, by one thread. */
    template <class Pass> __device__ void make_barriers() const
    {
        uint32_t copiers =
            Pass::copies_more && (Pass::is_gradient || !job.halo.keeps_bias)
                ? NATTEN_CUDA_WARP
                : 0;
        for (int n = 0; n < 2; n++) {
            if (!fetches_early<Pass>())
                barrier_make(ready(n), 1 + halo()->busy * copiers);
            barrier_make(ready(n) + (uint32_t)sizeof halo()->ready, halo()->busy);
        }
    }

    /* The pass's rows of the warp's first unit, if there is one. */
    template <class Pass> __device__ void copy_first_rows(const Pass &pass)
    {
        if (halo()->begin + unit() >= halo()->end || info()->exists == 0)
            return;
        if constexpr (!Pass::looks_ahead)
            find_rows<Pass>();
        pass.copy_rows(0);
    }
    /* The same of the unit after a step's. */
    template <class Pass>
    __device__ void copy_next_rows(const Pass &pass, const HaloStep &s, int32_t all)
    {
        if (next_units<Pass::keeps_steps>(s) + unit() >=
            (Pass::keeps_steps ? all : halo()->end))
            return;
        if constexpr (!Pass::looks_ahead)
            find_next_rows<Pass>(turn ^ 1);
        pass.copy_rows(Pass::looks_ahead ? turn_after(turn, 1) : turn ^ 1);
    }

    /* `exists` anew, for a pass that has no registers for it. */
    __device__ void recall_rows()
    {
        uint32_t all = info()->exists >> lane / 4;
        exists[0] = (all & 1) != 0, exists[1] = (all & 1 << 8) != 0;
    }
    __device__ uint32_t ready(int n) const
    {
        return shared_address(&halo()->ready[n]);
    }
    __device__ uint32_t left(int n) const
    {
        return shared_address(&halo()->left[n]);
    }
    /* Let it fetch a step's slices into stage `n`, by one warp, which finds what else
     * the pass needs in the step after: `number` is that of the step, 0, 1, 2, 0, ...
     */
    template <class Pass>
    __device__ void fetch_slices(const Pass &pass, int n, int number,
                                 const HaloStep &s) const;

    /* The same of a step whose turn it is, whose units have been found: the copies
     * alone, which may arrive before the barrier expects them. */
    __device__ void begin_fetch(int n, int turn_) const;
    __device__ void expect_slices(int n) const;
    __device__ void fetch_ahead(int n, int turn_) const
    {
        begin_fetch(n, turn_);
        expect_slices(n);
    }

    /* Begin to copy a slice of two tensors into stage `n`, by all threads. */
    __device__ void copy_slice(int n, const HaloStep &s, natten_role left_role,
                               natten_role right_role) const;

    /* By so many warps, thread by thread: */
    /* For partners that are queries: their part of job.stats. */
    __device__ void copy_stats(int n, const HaloStep &s,
                               const HaloWalk<NATTEN_CUDA_WARP> &walk) const;
    /* All entries of bias of the slice's head. */
    __device__ void copy_bias(int n, const HaloStep &s, int thread, int warps) const;
    /* The same, as they are added to logits to base 2. */
    __device__ void put_bias(int n, int turn_, int thread, int warps) const;
    /* Those of all heads, by all threads; zeros before the first and after the last. */
    __device__ void keep_bias() const;
    /* From one head's to the next one's.  Nothing is between them: of a row that does
     * not see a partner it may be any entry, another head's, too. */
    __device__ static int32_t kept_bytes(const natten_cuda_job &job_)
    {
        return 8 * (int32_t)job_.entries;
    }
    /* Row r + 8 of a flat subtile is two rows of tokens below row r: so many entries
     * before the one that r wants is the one that r + 8 does. */
    __device__ int32_t lower_by() const
    {
        return 2 * (2 * job.task.axis[2].window - 1);
    }

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
    template <class Pass>
    __device__ void take_aim(const HaloAxis<side> &axis, int a, bool leads) const;
    /* Coordinates of a step's slice, of unit `i` and tensor `which`. */
    __device__ void aim_at(const HaloStep &s, int i, int which, int32_t (&at)[5]) const
    {
        const natten_cuda_halo_aim &aim = halo()->aim;
        int32_t head;
        unit_of(s, i, at[4], head);
        at[0] = aim.inner[which] + head * aim.head[which];
        at[1] = aim.first[2];
        at[2] = aim.first[1] + s.slice * job.halo.rows;
        at[3] = aim.first[0] + s.plane;
    }
    template <class Pass> __device__ void clear_pads() const;
    template <class Pass>
    __device__ void open_warp(const HaloAxis<side> &axis, const HaloLanes<side> &lanes);
    /* Choose the partners of groups, of a slice's part of a box, so that 8 of a group
     * lie in different banks wherever that can be: those whose tokens, as the copy
     * engine has them, are i modulo 8 become columns i. `first` is the first one's
     * token, `by` the box's width.  Returns how many groups there are. */
    template <class Pass>
    __device__ int32_t order_partners(int32_t first, int32_t total,
                                      const Divider &by) const;
    /* Groups of so many partners: forward takes the last one alone. */
    template <class Pass> __device__ static int32_t groups_of(int32_t partners)
    {
        return Pass::is_gradient ? (partners + 15) / 16 * 2 : (partners + 7) / 8;
    }
    static constexpr uint32_t not_there = 0x80;
    /* A slice's partners by columns of groups, while the table is made: where slices
     * come later, or, as a flat halo's may be on their way, where rows do. */
    __device__ uint8_t *orders() const
    {
        const natten_cuda_halo &h = job.halo;
        int32_t at = flat ? h.tables_at + h.places * h.pairs * NATTEN_CUDA_WARP * 4
                          : h.slices_at;
        return reinterpret_cast<uint8_t *>(halo_shared + at) +
               (flat ? warp : place()) * NATTEN_CUDA_ORDERED;
    }
    /* The partner in a column of groups, counted from the slice's first; `there`: is
     * there one?  If not, any. */
    __device__ int32_t partner_in(int32_t column, int32_t total, bool &there) const
    {
        there = column < total;
        if (job.halo.order_pitch == 0 || total == 0)
            return natten_min(column, natten_max(total, 1) - 1);
        uint32_t k = orders()[column];
        there = k < not_there;
        return (int32_t)(k & (not_there - 1));
    }
    template <class Pass>
    __device__ void make_flat_table(const int32_t (&begin)[3],
                                    const natten_span (&box)[3], natten_span sees,
                                    const HaloLanes<side> &lanes);
    template <class Pass>
    __device__ void make_table(const int32_t (&begin)[3], const natten_span (&box)[3],
                               natten_span row_seen, natten_span column_seen);
};

} // namespace natten

#endif
