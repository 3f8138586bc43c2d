/* SPDX-License-Identifier: MIT
 *
 * Planning for the halo kernels.  All shapes of subtiles and tiles are tried, and their
 * cost is counted: products of the pairs of groups that a warp takes, copies of the
 * halo, steps.  A few hundred candidates take some microseconds.
 * Length: one search, whose parts share what it counts with. */
#include "cuda/cuda_halo.h"

#include "problem/task.h"

#include <math.h>
#include <string.h>

/* Powers of two that subtiles and tiles of an axis can have: 1 .. 128 tokens. */
enum { POWERS = 8, SUB_POWERS = 5, WARP_POWERS = 4 };
/* Addresses of a slice have 16 bits. */
enum { SLICE_BYTES = 1 << 16 };
/* Tokens that the copy engine fetches at once along an axis; its swizzle repeats. */
enum { MAX_BOX = 256, ENGINE_ROWS = 8 };
enum { MAX_PAIRS = 64, MAX_ENTRIES = 4096, MAX_UNITS = 1 << 30 };
enum { MAX_FILLS = 12 };

/* Clocks of a multiprocessor, from instructions counted on an H100 at 2.6 a clock: a
 * pair of groups, and for each 32 numbers of a row; a warp's rows of a unit; bytes from
 * the second-level cache; a step with its barrier, or of the copy engine; finding a
 * block's place. */
static const double pair_clocks[4] = {26, 36, 44, 46}; /* by pass */
static const double wide_clocks[4] = {10, 16, 24, 16};
static const double unit_clocks[4] = {200, 200, 250, 200};
static const double open_clocks[4] = {10000, 6000, 6000, 6000}; /* by pass */
static const double bytes_per_clock = 24, step_clocks = 1200, table_clocks = 600;
static const double clocks_per_byte = 1 / 160.0, engine_clocks = 300, walk_clocks = 150,
                    slice_clocks = 60;
static const double of_three = 1.15;      /* three blocks hide latency that two don't */
static const double collision_clocks = 6; /* of a pair */
static const double bias_clocks = 6000;   /* a block's sums of entries */
static const double entry_clocks = 1200;  /* a step for which biases are copied */
/* Sums of bias that are added up at last, in bytes of all. */
enum { MAX_PARTIAL_BYTES = 1 << 26 };

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t divide_up(int32_t a, int32_t b)
{
    return a / b + (a % b != 0);
}

static int32_t align(int32_t bytes)
{
    return divide_up(bytes, 256) * 256;
}

/* ---- reach ---- */

static natten_span partners(const natten_class *c, bool of_keys, int32_t g)
{
    return of_keys ? natten_class_inverse(c, g) : natten_class_window(c, g);
}

/* Most partners of `tokens` rows next to each other that begin at a multiple of `step`,
 * in a class. Away from the borders it repeats itself, so places near them tell. */
static int32_t reach_of_class(const natten_class *c, bool of_keys, int32_t tokens,
                              int32_t step)
{
    int64_t near = 2 * ((int64_t)c->window + c->stride) + tokens;
    int32_t most = 0, skip_from = c->length, skip_to = c->length;
    if (c->length > 2 * near + step) {
        skip_from = (int32_t)near;
        skip_to = (int32_t)((c->length - near) / step * step);
    }
    for (int32_t g = 0; g < c->length; g += step) {
        if (g >= skip_from && g < skip_to)
            g = skip_to;
        int32_t last = (int32_t)natten_min(c->length - 1 - g, tokens - 1) + g;
        int32_t count = partners(c, of_keys, last).end - partners(c, of_keys, g).begin;
        most = larger(most, count);
    }
    return most;
}

/* The same on an axis; classes have two lengths at most.  In a part tiles begin
 * anywhere. */
static int32_t reach(const natten_axis *axis, bool of_keys, int32_t tokens)
{
    natten_axis whole = *axis;
    whole.query_begin = whole.key_begin = 0;
    whole.query_count = whole.key_count = axis->length;
    bool is_whole =
        axis->query_count == axis->length && axis->key_count == axis->length;
    int32_t step = is_whole && axis->stride == 1 ? tokens : 1, most = 0;
    for (int last = 0; last < (axis->dilation > 1 ? 2 : 1); last++) {
        natten_class c = natten_axis_class(&whole, last ? axis->dilation - 1 : 0);
        most = larger(most, reach_of_class(&c, of_keys, tokens, step));
    }
    return most;
}

/* What tiles of an axis meet, which are so many subtiles of so many tokens: partners on
 * average of a tile and of a subtile, and those of a tile in the middle and of its
 * subtiles, which are alike; where their boxes begin, counted from the halo. */
typedef struct meeting {
    double halo, box, most; /* and those of a subtile in the tile that has most */
    int32_t halo_inside, box_inside, subs, step;
} meeting;

/* Windows of which that is counted; others are taken for as costly everywhere as they
 * are anywhere. */
enum { MAX_COUNTED = 64 };

static int32_t count_partners(const natten_class *c, bool of_keys, int32_t first,
                              int32_t tokens)
{
    int32_t last = smaller(first + tokens, c->length) - 1;
    return partners(c, of_keys, last).end - partners(c, of_keys, first).begin;
}

static meeting meet(const natten_axis *axis, bool of_keys, int32_t tokens, int32_t subs)
{
    natten_axis whole = *axis;
    whole.query_begin = whole.key_begin = 0;
    whole.query_count = whole.key_count = axis->length;
    natten_class c = natten_axis_class(&whole, 0);
    int32_t tile = tokens * subs, tiles = divide_up(c.length, tile);
    int32_t near = 2 * divide_up(c.window + c.stride, tile) + 1, middle = tiles / 2;
    meeting m = {.subs = subs, .step = tokens};
    for (int32_t t = 0; t < tiles; t++) {
        bool repeats = tiles > 2 * near + 1 && t == near;
        if (repeats) /* those up to the other border are like that in the middle */
            t = middle;
        int32_t first = t * tile, boxes = 0, halo = 0, count = 0;
        for (int32_t i = first; i < first + tile && i < c.length; i += tokens) {
            boxes += count_partners(&c, of_keys, i, tokens);
            count++;
        }
        halo = count_partners(&c, of_keys, first, smaller(tile, c.length - first));
        double times = repeats ? tiles - 2 * near : 1;
        m.halo += halo * times / tiles;
        m.box += boxes * times / divide_up(c.length, tokens);
        m.most = fmax(m.most, (double)boxes / count);
        if (t == middle) {
            m.halo_inside = larger(halo, 1);
            m.box_inside = larger(count_partners(&c, of_keys, first, tokens), 1);
        }
        if (repeats)
            t = tiles - near - 1;
    }
    m.halo = fmax(m.halo, 1), m.box = fmax(m.box, 1);
    return m;
}

/* ---- candidates ---- */

/* A task's pass while candidates are tried. */
typedef struct search {
    const natten_task *task;
    natten_cuda_halo_pass pass;
    int32_t dims, units, batch; /* of the whole task */
    int32_t rows[3];            /* of the longest class */
    int32_t reach[3][POWERS];
    /* By exponents of a subtile's tokens and of a tile's subtiles; without a halo where
     * it is not counted. */
    meeting meeting[3][SUB_POWERS][WARP_POWERS];
    int64_t steps[2]; /* from row to row and column to column, in bytes, at most */
    int32_t short_kind[3];
    int32_t entries;   /* of bias; 0: there is none */
    int32_t room;      /* bytes of shared memory of a block */
    int32_t most_room; /* of one that has a multiprocessor for itself */
    int32_t blocks;    /* that a multiprocessor holds at once */
    bool by_maps;      /* the copy engine may fetch them */
    bool by_threads;   /* layouts for copies by threads are tried, too */
    bool light;        /* pairs of a box, for three blocks */
    bool has_twins;    /* heads of keys and of values lie side by side, two by two */
    natten_cuda_halo_fit best;
} search;

static bool of_keys(const search *s)
{
    return s->pass == NATTEN_CUDA_HALO_GRAD_TOKENS;
}

/* Shapes are exponents of two on each axis. */
typedef struct shape {
    int32_t sub[3], warps[3];
} shape;

/* Entries of bias that a row would have, but that don't exist, at either end: of
 * partners that other rows of its subtile see. */
static int32_t bias_pad(const search *s, const shape *p)
{
    int32_t pad = 0, entries = 1;
    for (int a = 2; a >= 0 && s->entries > 0; a--) {
        pad += ((1 << p->sub[a]) - 1) * entries;
        entries *= 2 * s->task->axis[a].window - 1;
    }
    return pad;
}

/* Is a unit one step, of subtiles of 4 x 4 tokens?  The kernels by the copy engine for
 * rows of 32 want that (device/halo_flat.cuh). */
static bool is_flat(const search *s, const shape *p, int32_t slices)
{
    bool has_steps = of_keys(s) && s->task->heads != s->task->heads_kv;
    return slices == 1 && s->reach[0][p->warps[0]] == 1 && p->sub[1] == 2 &&
           p->sub[2] == 2 && !has_steps;
}

/* Which passes order partners. Forward does where a lane finds them once, and only many
 * that would collide: blocks take longer to open. */
static bool orders(const search *s, int32_t partners, bool collides)
{
    enum { FEW = 16 * (NATTEN_CUDA_FLAT_QUERIES - 1) };
    return s->pass == NATTEN_CUDA_HALO_GRAD_QUERY || of_keys(s) ||
           (s->pass == NATTEN_CUDA_HALO_FORWARD && s->dims == 32 && collides &&
            partners > FEW);
}

/* Choose how far apart rows of a slice are, of which a box has `height`, `width` wide,
 * and the halo `columns`; true if some groups will find two partners in one bank.
 * Partners are ordered by banks where they are few and have no biases, which they would
 * scatter; else a group that goes on in the next row finds other banks there, unless
 * the slice is to be `tight`. */
static bool choose_pitch(const search *s, int32_t height, int32_t width,
                         int32_t columns, bool tight, natten_cuda_halo *h)
{
    bool collides = width % 8 != 0 && (columns - width) % 8 != 0;
    bool is_ordered = h->by_maps && orders(s, height * width, collides) &&
                      s->entries == 0 && height * width <= NATTEN_CUDA_ORDERED;
    h->pitch = columns;
    while (!tight && !is_ordered && width % 8 != 0 && (h->pitch - width) % 8 != 0)
        h->pitch++;
    h->order_pitch = is_ordered ? h->pitch : 0;
    return !is_ordered && width % 8 != 0 && (h->pitch - width) % 8 != 0;
}

/* What comes with slices that the copy engine fetches is beside the stages, in three
 * places; or biases of all heads are. */
static void place_beside(const search *s, int32_t grain, bool flat, bool keeps_bias,
                         natten_cuda_halo *h)
{
    h->stats_at = 0;
    h->bias_at = of_keys(s) && !flat ? h->rows * h->pitch * 8 : 0;
    /* Forward has entries of rows r and r + 8 next to each other, each entry twice. */
    int32_t entry = flat && s->pass == NATTEN_CUDA_HALO_FORWARD ? 8 : 4,
            more = h->bias_at + (s->entries + 2 * h->bias_pad) * entry;
    h->more_bytes = divide_up(more, 16) * 16;
    grain >>= h->twins; /* those of two units are as long as it was */
    h->unit_bytes = divide_up(2 * h->box_bytes >> h->twins, grain) * grain;
    h->more_at = h->slices_at + 2 * h->units * h->unit_bytes;
    int64_t all = (int64_t)s->entries * s->task->heads, /* zeros come first and last */
        kept = (all + 2 * h->bias_pad) * entry;
    h->keeps_bias = keeps_bias && kept <= s->room;
    h->rows_at = align(h->more_at +
                       (h->keeps_bias ? (int32_t)kept : 3 * h->units * h->more_bytes));
}

static bool is_counted(const search *s)
{
    return s->meeting[0][0][0].halo > 0;
}

/* What a warp does for a unit, on average. */
typedef struct labour {
    double pairs, slices; /* of its box, and in which parts of it are */
    double steps;         /* of the tile */
} labour;

static labour count_labour(const search *s, const shape *p, int32_t rows)
{
    const meeting *m[3];
    labour l = {0};
    for (int a = 0; a < 3; a++)
        m[a] = &s->meeting[a][p->sub[a]][p->warps[a]];
    for (int32_t i = 0; i < m[1]->subs; i++) {
        int32_t begin = i * m[1]->step, end = begin + m[1]->box_inside;
        for (int32_t top = begin / rows * rows; top < end; top += rows) {
            int32_t height = smaller(end, top + rows) - larger(begin, top);
            l.pairs += divide_up(height * m[2]->box_inside, 16);
            l.slices++;
        }
    }
    /* Near the borders there are more or fewer. */
    double near = m[0]->box * m[1]->box / m[1]->box_inside;
    l.pairs *= near * m[2]->box / m[2]->box_inside / m[1]->subs;
    l.slices *= near / m[1]->subs;
    l.steps = m[0]->halo * divide_up(m[1]->halo_inside, rows);
    return l;
}

/* How much longer than on average a tile takes where boxes are largest. */
static double count_slowest(const search *s, const shape *p)
{
    double longer = 1;
    for (int a = 0; a < 3; a++) {
        const meeting *m = &s->meeting[a][p->sub[a]][p->warps[a]];
        longer *= m->most / m->box;
    }
    return longer;
}

/* What it costs: of a tile and all its units at once. `box` and `halo` are the largest.
 */
static void count_clocks(const search *s, const shape *p, natten_cuda_halo_fit *fit,
                         const int32_t box[3], const int32_t halo[3], int64_t pairs,
                         bool collides)
{
    const natten_cuda_halo *h = &fit->halo;
    bool flat = h->by_maps && s->dims == 32;
    int32_t row_bytes = s->dims * 2;
    double wide = s->dims / 32.0, planes = halo[0],
           steps = planes * divide_up(halo[1], h->rows);
    /* Where a barrier ends each step, it takes as long as its busiest warp, which has
     * all of a slice that a box can have. */
    double busiest = steps * divide_up(smaller(box[1], h->rows) * box[2], 16);
    if (h->by_maps)
        busiest = (double)box[0] * (double)pairs;
    double pair = pair_clocks[s->pass] + wide * wide_clocks[s->pass] +
                  (collides ? collision_clocks : 0);
    double work = NATTEN_CUDA_WARPS * (busiest * pair + unit_clocks[s->pass]);
    double copied = (double)h->units * halo[0] * halo[1] * halo[2] * row_bytes * 2;
    double copies =
        copied / bytes_per_clock + steps * (h->by_maps ? engine_clocks : step_clocks);
    double slowest = 1; /* how much longer the slowest tile takes than the mean */
    if (h->by_maps && !flat && is_counted(s)) {
        labour l = count_labour(s, p, h->rows);
        work = NATTEN_CUDA_WARPS * (l.pairs * pair + l.slices * slice_clocks +
                                    l.steps * walk_clocks + unit_clocks[s->pass]);
        copies = copied / bytes_per_clock / 4; /* meanwhile */
        slowest = count_slowest(s, p);
    }
    if (s->entries > 0 && s->pass == NATTEN_CUDA_HALO_FORWARD && !h->keeps_bias)
        copies += steps * entry_clocks;
    if (!h->by_maps) /* threads copy */
        copies += copied * clocks_per_byte;
    fit->slots = (double)h->positions * h->places * box[0] * (double)pairs * 16 *
                 NATTEN_CUDA_SUBTILE;
    fit->tile_clocks = work + copies;
    fit->most_clocks = fit->tile_clocks * slowest;
    fit->open_clocks =
        open_clocks[s->pass] + (slowest > 1 ? h->pairs * table_clocks : 0);
}

/* Lay out shared memory for slices of `rows` rows; false if that is too much.  In a
 * `tight` one some groups find two partners in one bank; `by_maps` it is in the way
 * that the copy engine writes it.  Biases of all heads are there from the beginning, or
 * those of a step come with its slice. */
static bool lay_out_slices(const search *s, const shape *p, int32_t rows, bool tight,
                           bool by_maps, bool keeps_bias, natten_cuda_halo_fit *fit)
{
    natten_cuda_halo *h = &fit->halo;
    int32_t row_bytes = s->dims * 2, box[3], halo[3];
    for (int a = 0; a < 3; a++) {
        box[a] = s->reach[a][p->sub[a]];
        halo[a] = s->reach[a][p->sub[a] + p->warps[a]];
    }
    h->rows = rows;
    h->by_maps = by_maps;
    h->keeps_bias = 0;
    bool flat = by_maps && s->dims == 32;
    bool collides = choose_pitch(s, smaller(rows, box[1]), box[2], halo[2], tight, h);
    int32_t slices = divide_up(halo[1], rows), touched = 1;
    if (slices > 1)
        touched = smaller(slices, divide_up(box[1] - 1, rows) + 1);
    h->twins = flat && s->has_twins && h->units % 2 == 0;
    int64_t bytes = (int64_t)rows * h->pitch * (row_bytes << h->twins);
    int64_t pairs = ((int64_t)box[1] * box[2] + 15) / 16 + touched - 1;
    if (by_maps && (!s->by_maps || rows > MAX_BOX || h->pitch > MAX_BOX))
        return false;
    int32_t most = s->light     ? NATTEN_CUDA_FLAT_LIGHT
                   : of_keys(s) ? NATTEN_CUDA_FLAT_KEYS
                                : NATTEN_CUDA_FLAT_QUERIES;
    h->light = s->light && by_maps;
    if (flat && (pairs > most || !is_flat(s, p, slices)))
        return false;
    int32_t grain = by_maps ? ENGINE_ROWS * (row_bytes << h->twins) : 256;
    /* Keys and values of a flat halo are next to each other (device/halo_flat.cuh). */
    bool halves = flat && s->pass == NATTEN_CUDA_HALO_FORWARD;
    int32_t box_grain = halves ? grain / 2 : grain;
    bytes = divide_up(bytes, box_grain) * box_grain;
    /* Offsets in a slice have 32 bits. */
    if (s->steps[0] > INT32_MAX / 2 / rows || s->steps[1] > INT32_MAX / 2 / h->pitch)
        return false;
    if (slices > NATTEN_CUDA_SLICES || bytes > SLICE_BYTES || pairs > MAX_PAIRS)
        return false;
    static const int32_t own[] = {1, 2, 2, 2}; /* tensors of a warp's rows, by pass */
    bool sums_bias = s->pass == NATTEN_CUDA_HALO_GRAD_BIAS;
    bool has_stats = s->pass == NATTEN_CUDA_HALO_GRAD_QUERY || sums_bias;
    if (sums_bias && (pairs > NATTEN_CUDA_HALO_SUMS || box[0] > 1))
        return false;
    h->pairs = flat ? most : (int32_t)pairs;
    h->box_bytes = (int32_t)bytes;
    h->stats_at = 2 * h->box_bytes;
    h->bias_at = h->stats_at + (of_keys(s) ? rows * h->pitch * 8 : 0);
    h->bias_pad = bias_pad(s, p);
    h->unit_bytes =
        divide_up(h->bias_at + (s->entries + 2 * h->bias_pad) * 4, grain) * grain;
    /* Rows begin at multiples of their length. */
    h->row_bytes =
        NATTEN_CUDA_SUBTILE * (own[s->pass] * row_bytes + (has_stats ? 8 : 0));
    if (flat && of_keys(s)) /* a warp has statistics of its partners for itself */
        h->row_bytes += h->pairs * 16 * 8;
    h->row_bytes = divide_up(h->row_bytes, row_bytes) * row_bytes;
    int32_t info = (int32_t)sizeof(natten_cuda_halo_box) +
                   h->places * (int32_t)sizeof(natten_cuda_halo_warp);
    h->slices_at = divide_up(info, grain) * grain; /* the swizzle repeats */
    h->rows_at = h->slices_at + 2 * h->units * h->unit_bytes;
    if (by_maps)
        place_beside(s, grain, flat, keeps_bias, h);
    int32_t end = h->rows_at + NATTEN_CUDA_WARPS * h->row_bytes;
    if (sums_bias) { /* at the end dS of all pairs of tokens takes the place of slices
                      */
        int32_t sums =
            NATTEN_CUDA_WARPS * NATTEN_CUDA_SUBTILE * (h->pairs * 16 + 8) * 4;
        end = larger(end, h->slices_at + sums);
    }
    int32_t tables = h->places * h->pairs * NATTEN_CUDA_WARP * 4;
    h->tables_at = align(end);
    h->columns_at = h->tables_at + tables;
    if (flat) { /* read before there are rows, and orders, behind them, before that */
        int32_t orders =
            h->order_pitch > 0 ? NATTEN_CUDA_WARPS * NATTEN_CUDA_ORDERED : 0;
        h->tables_at = h->rows_at;
        h->columns_at = align(larger(end, h->tables_at + tables + orders));
    }
    bool has_columns = s->entries > 0 && /* flat forward has them among its rows */
                       !(flat && s->pass == NATTEN_CUDA_HALO_FORWARD);
    fit->shared_bytes = h->columns_at + ((of_keys(s) && !flat) + has_columns) *
                                            h->places * h->pairs * 32;
    h->seen_at = sums_bias ? fit->shared_bytes : 0;
    if (sums_bias)
        fit->shared_bytes +=
            h->places * NATTEN_CUDA_SUBTILE * (int32_t)sizeof(natten_cuda_halo_seen);
    if (fit->shared_bytes > s->room)
        return false;
    count_clocks(s, p, fit, box, halo, pairs, collides);
    return true;
}

/* The same, with all biases if there is room for them. */
static bool lay_out(const search *s, const shape *p, int32_t rows, bool tight,
                    bool by_maps, natten_cuda_halo_fit *fit)
{
    bool flat_bias = by_maps && s->dims == 32 && s->entries > 0 &&
                     s->pass == NATTEN_CUDA_HALO_FORWARD;
    return (flat_bias && lay_out_slices(s, p, rows, tight, by_maps, true, fit)) ||
           lay_out_slices(s, p, rows, tight, by_maps, false, fit);
}

/* Which tiles come first: all but those of the last row of tiles, if these come last.
 * `share`: how long they take, while others' take 1, for warps that have no rows leave
 * more of the multiprocessor to others, where two blocks share it. */
static int32_t count_full(const natten_cuda_halo_fit *fit, double *share)
{
    const natten_cuda_halo *h = &fit->halo;
    int32_t rest = fit->rows - (h->tiles[1] - 1) * h->sub[1] * h->warps[1];
    double least = fit->blocks > 1 ? 0.4 : 0.9;
    *share = least + (1 - least) * divide_up(rest, h->sub[1]) / h->warps[1];
    if (fit->rows == 0)
        return h->positions;
    bool last = fit->classes[0] == 1 && fit->classes[1] == 1 && h->tiles[0] == 1;
    return last && h->tiles[1] > 1 ? h->positions / h->tiles[1] * (h->tiles[1] - 1)
                                   : h->positions;
}

/* Share a position's units out among blocks: as many as fill the GPU once, twice, and
 * so on, whatever ends first. */
static void share_out(natten_cuda_halo_fit *fit, int32_t units, int32_t processors)
{
    natten_cuda_halo *h = &fit->halo;
    int32_t rounds = divide_up(units, h->units);
    int64_t room = (int64_t)processors * fit->blocks;
    double share;
    int32_t full = count_full(fit, &share), others = h->positions - full;
    fit->clocks = 0;
    for (int fill = 1; fill <= MAX_FILLS; fill++) {
        int64_t r = (int64_t)((double)(fill * room) / (full + share * others));
        r = r < 1 ? 1 : r < rounds ? r : rounds;
        int64_t few = others > 0 ? (fill * room - full * r) / others : r;
        few = few < 1 ? 1 : few < r ? few : r;
        int64_t blocks = full * r + others * few, waves = (blocks + room - 1) / room;
        int32_t rounds_each = divide_up(rounds, (int32_t)r);
        double each = rounds_each * fit->tile_clocks + fit->open_clocks;
        /* Where some tiles take longer than others, on average half of what the last
         * block to begin takes comes on top.  When a block ends, the other one of its
         * multiprocessor gets faster. */
        double longest = rounds_each * fit->most_clocks + fit->open_clocks;
        double clocks = (double)waves * each;
        if (fit->most_clocks > fit->tile_clocks)
            clocks = waves > 1 ? (double)blocks / room * each + longest / 2
                               : each + (longest - each) / fit->blocks;
        /* Blocks that share a multiprocessor take twice as long. */
        clocks *= blocks > processors ? fit->blocks : 1;
        if (blocks > INT32_MAX || (fill > 1 && clocks >= fit->clocks))
            continue;
        fit->clocks = clocks;
        h->replicas = (int32_t)r;
        h->few = (int32_t)few;
        h->full = full;
    }
}

/* ---- kinds of tiles ---- */

/* Are two tiles of a class alike: all rows exist, and see the same from where the tile
 * begins? */
static bool is_alike(const natten_class *c, int32_t tokens, int32_t tile, int32_t other)
{
    int64_t last = (int64_t)larger(tile, other) * tokens + tokens;
    if (last > c->queries.end - c->queries.begin)
        return false;
    int32_t first = c->queries.begin + tile * tokens, apart = (other - tile) * tokens;
    for (int32_t g = first; g < first + tokens; g++) {
        natten_span a = natten_class_keys(c, g), b = natten_class_keys(c, g + apart);
        if (a.begin + apart != b.begin || a.end + apart != b.end)
            return false;
    }
    return true;
}

/* Partners on average of the subtiles of a tile. */
static double count_kind(const natten_class *c, int32_t sub, int32_t subs, int32_t tile)
{
    int32_t first = c->queries.begin + tile * sub * subs, count = 0, sum = 0;
    for (int32_t i = 0; i < subs && first + i * sub < c->queries.end; i++, count++) {
        int32_t g = first + i * sub, last = smaller(g + sub, c->queries.end) - 1;
        sum += natten_class_keys(c, last).end - natten_class_keys(c, g).begin;
    }
    return (double)sum / larger(count, 1);
}

static natten_cuda_count counted(int32_t count)
{
    return (natten_cuda_count){count, count > 0 ? UINT32_MAX / (uint32_t)count : 0};
}

/* Which tiles are alike, of a forward pass.  With a stride none are; else all between
 * those near the borders. */
static void find_kinds(const natten_task *task, natten_cuda_halo_fit *fit)
{
    const natten_cuda_halo *h = &fit->halo;
    natten_cuda_halo_share *share = &fit->share;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task->axis[a];
        bool even = axis->length % axis->dilation == 0 &&
                    axis->query_count == axis->length &&
                    axis->key_count == axis->length;
        natten_class c = natten_axis_class(axis, 0);
        int32_t tiles = h->tiles[a], tokens = h->sub[a] * h->warps[a],
                middle = tiles / 2, first = middle, end = middle;
        if (axis->stride == 1 && (even || axis->dilation == 1)) {
            for (first = 0; first < middle; first++)
                if (is_alike(&c, tokens, first, middle))
                    break;
            for (end = tiles; end > middle; end--)
                if (is_alike(&c, tokens, middle, end - 1))
                    break;
        }
        if (end - first < (a == 0 ? tiles : 2)) /* else the last one is another sort */
            first = end = a == 0 ? tiles : tiles - 1;
        int32_t classes = even ? axis->dilation : 1;
        const int32_t begins[] = {0, first, end, tiles};
        for (int sort = 0; sort < NATTEN_CUDA_SORTS; sort++) {
            int32_t count = begins[sort + 1] - begins[sort];
            bool alike = sort == 1 && count > 0;
            share->kinds[a][sort] =
                (natten_cuda_halo_kinds){.kinds = counted(alike ? 1 : count),
                                         .classes = counted(axis->dilation / classes),
                                         .alike = counted(alike ? count : 1),
                                         .all = counted((alike ? count : 1) * classes),
                                         .first = begins[sort]};
            double *most = &fit->kind_partners[a][sort];
            *most = 0;
            for (int i = 0; i < 2 && count > 0; i++)
                *most = fmax(*most,
                             count_kind(&c, h->sub[a], h->warps[a],
                                        i == 0 ? begins[sort] : begins[sort + 1] - 1));
        }
        share->sort_of_planes = a == 0 ? end > first : share->sort_of_planes;
    }
}

enum { SORTS = NATTEN_CUDA_SORTS * NATTEN_CUDA_SORTS };

/* Count kinds of each sort and tiles of each; the clocks of a multiprocessor that a
 * unit takes. */
static void count_sorts(natten_cuda_halo_fit *fit, double clocks[SORTS])
{
    natten_cuda_halo_share *share = &fit->share;
    for (int i = 0; i < SORTS; i++) {
        const int sort[3] = {share->sort_of_planes, i / NATTEN_CUDA_SORTS,
                             i % NATTEN_CUDA_SORTS};
        int32_t kinds = 1, tiles = 1;
        double box = 1;
        for (int a = 0; a < 3; a++) {
            const natten_cuda_halo_kinds *k = &share->kinds[a][sort[a]];
            kinds *= k->kinds.count * k->classes.count;
            tiles *= k->all.count;
            box *= fit->kind_partners[a][sort[a]];
        }
        share->sort[i].kinds = counted(kinds);
        share->sort[i].tiles = counted(tiles);
        /* A box has half a group more than it fills.  Where some warps have no rows the
         * others don't end much earlier. */
        clocks[i] = unit_clocks[0] + (pair_clocks[0] + wide_clocks[0]) * (box + 4) / 16;
    }
}

/* So many blocks in all do what takes so long, in clocks, at most. */
static int64_t share_within(natten_cuda_halo_share *share, const double clocks[SORTS],
                            int32_t rounds, double longest)
{
    int64_t blocks = 0;
    for (int i = 0; i < SORTS; i++) {
        natten_cuda_halo_sort *s = &share->sort[i];
        int64_t steps = (int64_t)s->tiles.count * rounds,
                each = (int64_t)(longest / clocks[i] * (1 + 1e-9));
        s->first = (int32_t)blocks;
        s->share = s->kinds.count > 0 ? (int32_t)((steps + each - 1) / each) : 0;
        blocks += (int64_t)s->share * s->kinds.count;
    }
    return blocks;
}

/* Blocks that are left of `room` go to those that take longest. */
static int64_t share_rest(natten_cuda_halo_share *share, const double clocks[SORTS],
                          int32_t rounds, int64_t blocks, int64_t room)
{
    for (int next = 0; next >= 0;) {
        double longest = 0;
        next = -1;
        for (int i = 0; i < SORTS; i++) {
            const natten_cuda_halo_sort *s = &share->sort[i];
            double steps = (double)s->tiles.count * rounds;
            if (s->kinds.count > 0 && blocks + s->kinds.count <= room &&
                s->share < steps && steps / s->share * clocks[i] > longest)
                longest = steps / s->share * clocks[i], next = i;
        }
        if (next < 0)
            break;
        share->sort[next].share++;
        blocks += share->sort[next].kinds.count;
        for (int i = next + 1; i < SORTS; i++)
            share->sort[i].first += share->sort[next].kinds.count;
    }
    return blocks;
}

/* Share out tiles by kinds among as many blocks as the GPU holds at once, so that all
 * end together; false if there are more kinds, or a step would have units of two
 * tiles. */
static bool share_out_kinds(natten_cuda_halo_fit *fit, int32_t units,
                            int32_t processors)
{
    natten_cuda_halo_share *share = &fit->share;
    int32_t room = processors * fit->blocks, rounds = units / fit->halo.units;
    double clocks[SORTS], all = 0, most = 0, slowest = 0;
    int64_t kinds = 0, blocks;
    count_sorts(fit, clocks);
    for (int i = 0; i < SORTS; i++) {
        const natten_cuda_halo_sort *s = &share->sort[i];
        double each = (double)s->tiles.count * rounds * clocks[i];
        if (s->kinds.count == 0)
            continue;
        if ((double)s->tiles.count * units > INT32_MAX / 2)
            return false;
        kinds += s->kinds.count;
        all += s->kinds.count * each;
        slowest = fmax(slowest, clocks[i]), most = fmax(most, each);
    }
    if (units % fit->halo.units != 0 || kinds > room)
        return false;
    /* The shortest time in which so many blocks do all, by halves. */
    double least = fmax(slowest, all / room);
    blocks = share_within(share, clocks, rounds, least);
    if (blocks <= room)
        most = least;
    for (int turn = 0; turn < 18 && least < most; turn++) {
        double longest = (least + most) / 2;
        if (share_within(share, clocks, rounds, longest) <= room)
            most = longest;
        else
            least = longest;
    }
    blocks = share_rest(share, clocks, rounds,
                        share_within(share, clocks, rounds, most), room);
    fit->clocks = (most / slowest * fit->tile_clocks + fit->open_clocks) *
                  (blocks > processors ? fit->blocks : 1);
    return true;
}

/* The same for sums over the batch, head by head: the number of sums decides about
 * bits, so it does not depend on the GPU. */
static void share_out_by_head(natten_cuda_halo_fit *fit, int32_t units, int32_t batch)
{
    natten_cuda_halo *h = &fit->halo;
    int32_t heads = units / batch;
    int64_t bytes = (int64_t)h->positions * heads * fit->entries * 4;
    h->is_by_head = 1;
    h->full = h->positions;
    h->inner = batch;
    fit->clocks = 0;
    for (int32_t chunks = 1; chunks <= batch && chunks <= 64; chunks *= 2) {
        int64_t blocks = (int64_t)h->positions * heads * chunks;
        if (blocks > INT32_MAX || (chunks > 1 && bytes * chunks > MAX_PARTIAL_BYTES))
            break;
        int64_t room = (int64_t)NATTEN_CUDA_NOMINAL_PROCESSORS * fit->blocks,
                waves = (blocks + room - 1) / room;
        int32_t steps = divide_up(divide_up(batch, chunks), h->units);
        double each = steps * fit->tile_clocks + fit->open_clocks + bias_clocks;
        double clocks = (double)waves * each;
        if (chunks > 1 && clocks >= fit->clocks)
            continue;
        fit->clocks = clocks;
        h->chunks = chunks;
        h->replicas = h->few = heads * chunks;
    }
}

static void count_units(natten_cuda_halo_fit *fit, int32_t units, int32_t batch,
                        int32_t processors)
{
    natten_cuda_halo *h = &fit->halo;
    if (fit->entries > 0) {
        share_out_by_head(fit, units, batch);
        h->stride = h->units;
    } else {
        share_out(fit, units, processors);
        if (fit->share.kinds[0][0].classes.count > 0) {
            double clocks = fit->clocks;
            h->by_kinds = share_out_kinds(fit, units, processors) &&
                          fit->clocks <= clocks * 1.001;
            fit->clocks = fmin(fit->clocks, clocks);
        }
        h->stride = h->replicas * h->units;
        h->inner = units / batch;
    }
    h->inner_inverse = UINT32_MAX / (uint32_t)h->inner;
}

/* The same boxes where threads copy, which may take a processor for a block. */
static bool lay_out_plainly(const search *s, const shape *p, natten_cuda_halo_fit *fit)
{
    search alone = *s;
    natten_cuda_halo_fit plain = *fit;
    alone.room = s->most_room;
    if (fit->halo.by_maps &&
        !lay_out(&alone, p, fit->halo.rows, false, false, &plain) &&
        !lay_out(&alone, p, fit->halo.rows, true, false, &plain))
        return false;
    plain.halo.order_pitch = fit->halo.order_pitch;
    plain.halo.by_kinds = plain.halo.light = 0;
    fit->plain = plain.halo;
    fit->plain_bytes = plain.shared_bytes;
    return true;
}

static void try_shape(search *s, const shape *p)
{
    natten_cuda_halo_fit fit = {.dims = s->dims, .blocks = s->blocks};
    natten_cuda_halo *h = &fit.halo;
    int64_t positions = 1;
    h->units = 1;
    fit.rows = s->pass == NATTEN_CUDA_HALO_FORWARD ? 0 : s->rows[1];
    if (s->pass == NATTEN_CUDA_HALO_GRAD_BIAS)
        fit.entries = s->entries;
    for (int a = 0; a < 3; a++) {
        h->sub[a] = 1 << p->sub[a];
        h->warps[a] = 1 << p->warps[a];
        h->tiles[a] = divide_up(s->rows[a], h->sub[a] * h->warps[a]);
        fit.classes[a] = s->task->axis[a].dilation;
        positions *= (int64_t)h->tiles[a] * s->task->axis[a].dilation;
        if (positions > INT32_MAX)
            return;
    }
    h->positions = (int32_t)positions;
    h->places = h->warps[0] * h->warps[1] * h->warps[2];
    h->units = NATTEN_CUDA_WARPS / h->places;
    h->log2_places = p->warps[0] + p->warps[1] + p->warps[2];
    int32_t height = s->reach[1][p->sub[1] + p->warps[1]];
    for (int32_t slices = 1, last = 0; slices <= NATTEN_CUDA_SLICES; slices++) {
        bool fits = false;
        int32_t rows = divide_up(height, slices);
        if (rows == last)
            continue;
        last = rows;
        for (int way = 0; way < 4; way++) {
            bool tight = way % 2 != 0, by_maps = way < 2;
            if (!by_maps && !s->by_threads)
                continue;
            if (!lay_out(s, p, rows, tight, by_maps, &fit) ||
                !lay_out_plainly(s, p, &fit))
                continue;
            fits = fits || by_maps == s->by_maps;
            h->by_kinds = 0;
            memset(&fit.share, 0, sizeof fit.share);
            if (by_maps && s->dims == 32 && s->pass == NATTEN_CUDA_HALO_FORWARD)
                find_kinds(s->task, &fit);
            count_units(&fit, s->units, s->batch, NATTEN_CUDA_NOMINAL_PROCESSORS);
            if (s->best.clocks == 0 || fit.clocks < s->best.clocks ||
                (fit.clocks == s->best.clocks && fit.slots < s->best.slots))
                s->best = fit;
        }
        if (fits)
            break;
    }
}

/* Is 2^power tokens more than twice what there is? */
static bool is_wasteful(int32_t power, int32_t rows)
{
    return power > 0 && 1 << (power - 1) >= rows;
}

static void try_all(search *s, bool any)
{
    for (int i = 0; i < 15 * 20; i++) {
        /* The i-th way to write 4, and a number up to 3, as a sum of three. */
        static const int8_t sums[20][3] = {
            {0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {2, 0, 0}, {1, 1, 0}, {1, 0, 1},
            {0, 2, 0}, {0, 1, 1}, {0, 0, 2}, {3, 0, 0}, {2, 1, 0}, {2, 0, 1}, {1, 2, 0},
            {1, 1, 1}, {1, 0, 2}, {0, 3, 0}, {0, 2, 1}, {0, 1, 2}, {0, 0, 3}};
        static const int8_t fours[15][3] = {{0, 2, 2}, {0, 1, 3}, {0, 3, 1}, {0, 0, 4},
                                            {0, 4, 0}, {4, 0, 0}, {1, 1, 2}, {1, 2, 1},
                                            {2, 1, 1}, {2, 2, 0}, {2, 0, 2}, {3, 1, 0},
                                            {3, 0, 1}, {1, 3, 0}, {1, 0, 3}};
        shape p;
        bool sensible = true;
        for (int a = 0; a < 3; a++) {
            p.sub[a] = fours[i / 20][a];
            p.warps[a] = sums[i % 20][a];
            sensible = sensible && !is_wasteful(p.sub[a] + p.warps[a], s->rows[a]);
        }
        if (sensible || any)
            try_shape(s, &p);
    }
}

/* ---- the task ---- */

natten_task natten_cuda_halo_task(const natten_task *task)
{
    natten_task t = *task;
    if (t.axis[1].length != 1)
        return t;
    natten_axis axis = t.axis[1];
    t.axis[1] = t.axis[2];
    t.axis[2] = axis;
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        int64_t step = t.view[role].axis[1];
        t.view[role].axis[1] = t.view[role].axis[2];
        t.view[role].axis[2] = step;
    }
    return t;
}

/* Bytes from row to row and from column to column of a class, the most of all tensors
 * and job.stats, whose rows are two elements; INT64_MAX when that is too much to tell.
 */
static void count_steps(const natten_task *task, int64_t steps[2])
{
    const int64_t column = 2 * task->heads;
    const natten_view stats = {.axis = {0, column * task->axis[2].query_count, column}};
    for (int a = 0; a < 2; a++) {
        steps[a] = 0;
        for (int role = 0; role <= NATTEN_ROLES; role++) {
            const natten_view *view = role == NATTEN_ROLES ? &stats : &task->view[role];
            int64_t step = view->axis[1 + a];
            if (role != NATTEN_ROLES && !view->data)
                continue;
            bool overflows =
                __builtin_mul_overflow(step < 0 ? -step : step,
                                       (int64_t)4 * task->axis[1 + a].dilation, &step);
            steps[a] = overflows || step > steps[a] ? step : steps[a];
            if (overflows)
                steps[a] = INT64_MAX;
        }
    }
}

/* Number the lengths of the partners' classes; false if that takes too many maps. */
static bool finds_kinds(search *s)
{
    int32_t kinds = 1;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &s->task->axis[a];
        int32_t count = of_keys(s) ? axis->query_count : axis->key_count;
        s->short_kind[a] = 0;
        if (count % axis->dilation == 0)
            continue;
        s->short_kind[a] = kinds;
        kinds *= 2;
    }
    return kinds <= NATTEN_CUDA_KINDS;
}

static void count_meetings(search *s)
{
    for (int a = 0; a < 3; a++)
        if (s->task->axis[a].window > MAX_COUNTED)
            return;
    for (int a = 0; a < 3; a++)
        for (int sub = 0; sub < SUB_POWERS; sub++)
            for (int warps = 0; warps < WARP_POWERS; warps++)
                s->meeting[a][sub][warps] =
                    meet(&s->task->axis[a], of_keys(s), 1 << sub, 1 << warps);
}

/* Features that only level a has. */
static bool is_simple(const natten_task *task, const natten_gpu *gpu)
{
    for (int a = 0; a < 3; a++)
        if (task->axis[a].length > NATTEN_CUDA_MOST_TOKENS)
            return false;
    return gpu->arch >= 80 && !task->by_rows && task->extras == 0 &&
           (task->dtype == NATTEN_BF16 || task->dtype == NATTEN_FP16) &&
           fabs(task->scale) > 0x1p-30 && fabs(task->scale) < 0x1p30 &&
           task->dim <= 128 && task->dim_v <= 128 &&
           (task->operation == NATTEN_FORWARD || task->operation == NATTEN_BACKWARD) &&
           task->heads <= MAX_UNITS && task->batch > 0 &&
           task->batch <= MAX_UNITS / task->heads;
}

static bool find_fit(const natten_task *task, const natten_gpu *gpu,
                     natten_cuda_halo_pass pass, natten_cuda_halo_fit *fit)
{
    search s = {.task = task, .pass = pass};
    int64_t widest = task->dim > task->dim_v ? task->dim : task->dim_v;
    s.dims = widest <= 32 ? 32 : widest <= 64 ? 64 : 128;
    /* Kernels with more sums than half the registers hold have a processor, and its
     * shared memory where it is large, for themselves. */
    bool sums_bias = pass == NATTEN_CUDA_HALO_GRAD_BIAS;
    bool alone = s.dims > (of_keys(&s) ? 32 : 64) || sums_bias;
    if (sums_bias && (s.dims > 64 || task->axis[0].window > 1))
        return false;
    bool is_large = gpu->arch == 80 || (gpu->arch >= 90 && gpu->arch < 120);
    s.blocks = alone ? 1 : 2;
    bool is_half = gpu->arch >= 90 && gpu->arch < 120;
    s.by_maps = gpu->arch >= 90 && s.dims <= 64 && task->dim == s.dims &&
                task->dim_v == s.dims && finds_kinds(&s);
    /* Gradients of tokens without a bias were measured with all that Hopper has. */
    bool has_all = of_keys(&s) && s.by_maps && is_half && !task->view[NATTEN_BIAS].data;
    s.most_room = has_all    ? NATTEN_CUDA_SHARED_ENGINE
                  : is_large ? NATTEN_CUDA_SHARED_LARGE
                             : NATTEN_CUDA_SHARED_BYTES;
    s.room = alone     ? s.most_room
             : is_half ? NATTEN_CUDA_SHARED_HALF
                       : NATTEN_CUDA_SHARED_BYTES;
    int64_t row_heads = of_keys(&s) ? task->heads_kv : task->heads;
    s.has_twins = pass == NATTEN_CUDA_HALO_FORWARD && s.dims == 32 && s.by_maps &&
                  task->heads == task->heads_kv && task->heads % 2 == 0 &&
                  task->view[NATTEN_KEY].head == s.dims &&
                  task->view[NATTEN_VALUE].head == s.dims;
    s.units = (int32_t)(task->batch * row_heads);
    s.batch = (int32_t)task->batch;
    int64_t entries = task->view[NATTEN_BIAS].data != NULL;
    for (int a = 0; a < 3; a++) {
        const natten_axis *axis = &task->axis[a];
        int32_t rows = of_keys(&s) ? axis->key_count : axis->query_count;
        s.rows[a] = divide_up(rows, axis->dilation);
        entries *= 2 * (int64_t)axis->window - 1;
        if (rows == 0 || entries > MAX_ENTRIES || axis->window > 1024)
            return false;
        for (int power = 0; power < POWERS; power++)
            s.reach[a][power] = reach(axis, of_keys(&s), 1 << power);
    }
    s.entries = (int32_t)entries;
    count_steps(task, s.steps);
    /* With one plane it brought nothing, and forward was not tried. */
    if (s.by_maps && s.dims > 32 && pass != NATTEN_CUDA_HALO_FORWARD &&
        task->axis[0].window > 1)
        count_meetings(&s);
    if (of_keys(&s) && s.dims == 32 && s.entries > 0 && s.by_maps && is_large) {
        /* With biases two flat halos don't fit: one has a processor for itself. */
        search one = s;
        one.blocks = 1, one.room = s.most_room;
        try_all(&one, false);
        if (one.best.clocks > 0 && one.best.halo.by_maps)
            s = one;
    }
    /* What both would cost is not counted alike. */
    s.by_threads = !s.by_maps;
    if (s.best.clocks == 0)
        try_all(&s, false);
    if (pass == NATTEN_CUDA_HALO_FORWARD && s.dims == 32 && s.by_maps && is_half &&
        s.entries == 0 && s.best.halo.by_maps) {
        search three = s;
        three.best = (natten_cuda_halo_fit){0};
        three.light = true, three.blocks = 3, three.room = NATTEN_CUDA_SHARED_THIRD;
        try_all(&three, false);
        if (three.best.clocks > 0 && three.best.clocks < s.best.clocks * of_three)
            s.best = three.best;
    }
    if (s.best.clocks == 0 && !s.by_threads) {
        s.by_threads = true;
        try_all(&s, false);
    }
    if (s.best.clocks == 0) /* so few tokens that all shapes have too much room */
        try_all(&s, true);
    if (s.best.clocks == 0)
        return false;
    *fit = s.best;
    fit->halo.partners[0] = of_keys(&s) ? NATTEN_QUERY : NATTEN_KEY;
    fit->halo.partners[1] = of_keys(&s) ? NATTEN_GRAD_OUT : NATTEN_VALUE;
    memcpy(fit->halo.short_kind, s.short_kind, sizeof s.short_kind);
    fit->halo.group = (int32_t)(task->heads / task->heads_kv);
    return true;
}

bool natten_cuda_halo_plan(const natten_task *task, const natten_gpu *gpu,
                           natten_cuda_halo_pass pass, natten_cuda_halo_fit *fit)
{
    return is_simple(task, gpu) && find_fit(task, gpu, pass, fit);
}

/* ---- blocks ---- */

/* What is not the layout, for both. */
static void share(natten_cuda_halo_fit *fit)
{
    fit->plain.replicas = fit->halo.replicas;
    fit->plain.full = fit->halo.full;
    fit->plain.few = fit->halo.few;
    fit->plain.stride = fit->halo.stride;
    fit->plain.is_by_head = fit->halo.is_by_head;
    fit->plain.chunks = fit->halo.chunks;
    fit->plain.inner = fit->halo.inner;
    fit->plain.inner_inverse = fit->halo.inner_inverse;
    fit->plain.group = fit->halo.group;
    memcpy(fit->plain.partners, fit->halo.partners, sizeof fit->halo.partners);
}

bool natten_cuda_halo_spread(const natten_task *task, const natten_gpu *gpu,
                             natten_cuda_halo_pass pass, natten_cuda_halo_fit *fit)
{
    int64_t heads = pass == NATTEN_CUDA_HALO_GRAD_TOKENS ? task->heads_kv : task->heads;
    int64_t units;
    if (__builtin_mul_overflow(task->batch, task->heads, &units) || units <= 0 ||
        units > MAX_UNITS)
        return false;
    double clocks = fit->clocks; /* what is chosen by it decides about bits */
    count_units(fit, (int32_t)(task->batch * heads), (int32_t)task->batch,
                gpu->processors);
    fit->clocks = clocks;
    share(fit);
    return true;
}

int64_t natten_cuda_halo_blocks(const natten_cuda_halo_fit *fit,
                                const natten_cuda_halo *h)
{
    const natten_cuda_halo_sort *last = &fit->share.sort[SORTS - 1];
    if (h->by_kinds)
        return last->first + (int64_t)last->share * last->kinds.count;
    return (int64_t)h->few * h->positions + (int64_t)(h->replicas - h->few) * h->full;
}

void natten_cuda_halo_limit(natten_cuda_halo_fit *fit, int64_t sums)
{
    natten_cuda_halo *h = &fit->halo;
    while (h->chunks > 1 && (int64_t)h->positions * h->chunks > sums) {
        h->chunks /= 2;
        h->replicas /= 2;
        h->few = h->replicas;
    }
    share(fit);
}
