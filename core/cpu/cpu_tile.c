/* SPDX-License-Identifier: MIT
 *
 * Tiles by counting.  A tile costs the partners that it packs, per owner: the box of
 * positions that its owners see, over the tile.  Among the tiles whose strips fit, the
 * cheapest is taken; strips beyond the cache are penalised, and so are too few items
 * for a machine with many cores.  Items are kept short enough to cancel between
 * them.  Length: one search, whose parts share what it counts with. */
#include "cpu/cpu_tile.h"

#include <math.h>

enum {
    FORWARD_BYTES = 1 << 20, /* of scratch, beside what grows with the window */
    BACKWARD_BYTES = 5 << 20,
    SMALL_MACHINE = 4,      /* processors */
    MOST_ROWS = 64,         /* partner rows in a chunk */
    EXTRA_BYTES = 128 << 10 /* of strips of extra tokens */
};

/* Multiply-adds of an item per lane, about 20 ms for the plainest variant. */
static const double most_item_work = 1.6e7;
/* An item is short that has less than this share of it. */
static const double short_item = 0.01;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static int64_t parts_of(int64_t n, int64_t part)
{
    return (n + part - 1) / part;
}

static double volume(const natten_cpu_pass *p)
{
    return (double)p->axis[0].window * p->axis[1].window * p->axis[2].window;
}

/* Most owners, and most partners, that one residue class has along an axis; 1 where a
 * part has none: a tile of none is like one behind a short class's end. */
static int64_t owners_along(const natten_cpu_pass *p, int a)
{
    const natten_axis *x = &p->axis[a];
    return most(1,
                parts_of(p->owner_is_key ? x->key_count : x->query_count, x->dilation));
}

/* Residue classes that have owners: neighbouring tokens are in different classes. A
 * part of a few tokens has few, whatever the dilation. */
static int64_t classes_along(const natten_cpu_pass *p, int a)
{
    const natten_axis *x = &p->axis[a];
    return most(1, least(x->dilation, p->owner_is_key ? x->key_count : x->query_count));
}

static int64_t partners_along(const natten_cpu_pass *p, int a)
{
    const natten_axis *x = &p->axis[a];
    return most(1,
                parts_of(p->owner_is_key ? x->query_count : x->key_count, x->dilation));
}

/* Most positions that `count` neighbouring owners with windows of `window` see. */
static int64_t span_of(int64_t count, int64_t stride, int64_t window)
{
    return count - 1 + (count > 1 ? stride - 1 : 0) + window;
}

/* The same on an axis. Queries see their window, which moves by up to a stride at a
 * time. Keys are seen by as many queries, but for those near a border, which the
 * windows of all queries up to it shift onto; on a short axis one tile has keys at
 * both. */
static int64_t box(const natten_cpu_pass *p, int a, int64_t count)
{
    const natten_axis *x = &p->axis[a];
    int64_t window = x->window;
    if (p->owner_is_key && !x->causal) {
        if (parts_of(x->length, x->dilation) < 2 * window + count)
            return partners_along(p, a);
        window += window / 2 + x->stride;
    }
    return least(partners_along(p, a), span_of(count, x->stride, window));
}

/* The same away from borders: what a group's strips should hold at a time. */
static int64_t inner_box(const natten_cpu_pass *p, int a, int64_t count)
{
    return least(box(p, a, count),
                 count - 1 + 2 * (p->axis[a].stride - 1) + p->axis[a].window);
}

/* A vector load may begin at the last partner of a row of columns: the lanes that go on
 * into the next row are idle or masked. Rows are no multiple of 256 bytes apart, which
 * would put them all into the same few sets of the cache. */
static int64_t pitch_of(int64_t width, const natten_cpu_kernels *k)
{
    int64_t pitch = up(width, k->lanes);
    return pitch * (int64_t)k->real_bytes % 256 ? pitch : pitch + k->lanes;
}

/* A strip of `width` partners. */
static natten_cpu_strip make_strip(const natten_cpu_operand o[2], int64_t width,
                                   const natten_cpu_kernels *k)
{
    natten_cpu_strip s = {.pitch = pitch_of(width, k)};
    for (int i = 0; i < 2; i++) {
        s.columns[i] = s.elements;
        s.elements += o[i].as_columns ? natten_cpu_rows(&o[i]) * s.pitch : 0;
    }
    for (int i = 0; i < 2; i++) {
        s.rows[i] = s.elements;
        s.elements += o[i].as_rows ? o[i].dim * width : 0;
    }
    for (int i = 0; i < 2; i++) { /* some at a time, the last perhaps with none */
        int64_t sums = natten_cpu_padded(o[i].dim, k->lanes);
        s.sums[i] = s.elements;
        s.elements += o[i].has_sums ? sums * (width + NATTEN_CPU_GIVEN - 1) : 0;
    }
    s.elements = up(s.elements, 64 / (int64_t)k->real_bytes);
    return s;
}

/* Backward keeps five forms of a partner, and packs windows of three axes anew for each
 * row of owners where they have no room (measured: docs/decisions/five-products.md). */
size_t natten_cpu_tile_promise(const natten_task *task)
{
    bool backward = task->operation == NATTEN_BACKWARD;
    size_t base = backward ? BACKWARD_BYTES + NATTEN_CPU_BIAS_BYTES : FORWARD_BYTES;
    size_t cells = (size_t)(task->dim + task->dim_v + 2);
    for (int a = 0; a < 3; a++)
        cells *= (size_t)task->axis[a].window;
    return base + 6 * cells * natten_dtype_bytes(task->accumulator);
}

/* ---- chunks of the softmax ------------------------------------------------------- */

/* As many rows as scores and strips have room for, the strips of the smallest tile at
 * least; the same for every part of a grid. */
static natten_cpu_chunk choose_chunk(const natten_cpu_pass *p,
                                     const natten_cpu_kernels *k)
{
    int64_t w[3] = {p->axis[0].window, p->axis[1].window, p->axis[2].window};
    natten_cpu_chunk chunk = {0, 0, 0};
    if (p->kind != NATTEN_CPU_FORWARD)
        return chunk;
    const natten_axis *x = &p->axis[2];
    int64_t width =
        least(parts_of(x->length, x->dilation), span_of(k->lanes, x->stride, w[2]));
    size_t row_bytes = (size_t)make_strip(p->other, width, k).elements * k->real_bytes;
    int64_t rows = (int64_t)(natten_cpu_tile_promise(p->task) / 2 / row_bytes);
    rows = most(1, least(rows, least(MOST_ROWS, NATTEN_CPU_SLOTS / w[2])));
    if (w[2] > NATTEN_CPU_SLOTS)
        chunk.piece = (int32_t)parts_of(w[2], parts_of(w[2], NATTEN_CPU_SLOTS));
    if (rows < w[1])
        chunk.rows = (int32_t)parts_of(w[1], parts_of(w[1], rows));
    else if (rows < w[0] * w[1])
        chunk.planes = (int32_t)(rows / w[1]);
    return chunk;
}

/* Planes and rows of partners that a chunk of `owners` has listed at a time. */
static void chunk_extent(const natten_cpu_pass *p, int owners, int64_t *planes,
                         int64_t *rows)
{
    *planes = *rows = 1;
    if (p->kind != NATTEN_CPU_FORWARD)
        return;
    *rows = p->chunk.rows ? p->chunk.rows : p->axis[1].window;
    if (!p->chunk.rows)
        *planes = p->chunk.planes ? p->chunk.planes : box(p, 0, owners);
}

/* ---- scratch --------------------------------------------------------------------- */

static size_t place(size_t *end, int64_t bytes)
{
    size_t at = *end;
    *end += (size_t)up(bytes, 64);
    return at;
}

static natten_cpu_layout make_layout(const natten_cpu_pass *p,
                                     const natten_cpu_kernels *k)
{
    const natten_cpu_strips *s = &p->strips;
    int64_t real = (int64_t)k->real_bytes, vector = k->lanes * real, owners = p->owners;
    int64_t slots = (int64_t)s->depth * s->high * s->fan;
    int64_t rows[2] = {natten_cpu_rows(&p->own[0]), natten_cpu_rows(&p->own[1])};
    int64_t dims = natten_cpu_padded(p->other[0].dim, k->lanes) +
                   natten_cpu_padded(p->other[1].dim, k->lanes);
    int64_t scores = p->kind == NATTEN_CPU_FORWARD ? 1 : 2;
    int64_t runs = least(p->tile[2], p->tile[2] / k->lanes + s->width / k->lanes + 2);
    natten_cpu_layout l = {.bytes = 64}; /* lanes at a border load what is before */
    l.strips = place(&l.bytes, slots * s->strip.elements * real);
    l.extra_strips = place(&l.bytes, p->extra_strip.elements * real);
    l.panels = place(&l.bytes, owners * (rows[0] + rows[1]) * vector);
    if (p->kind == NATTEN_CPU_GRAD_ALL) /* the last row is read in whole vectors */
        l.own_rows =
            place(&l.bytes, owners * (p->own[0].dim + p->own[1].dim) * vector + vector);
    l.scores = place(&l.bytes, owners * scores * NATTEN_CPU_SLOTS * vector);
    l.sums = place(&l.bytes, owners * dims * vector);
    l.tags = place(&l.bytes, slots * 16);
    l.runs = place(&l.bytes, runs * (int64_t)k->run_bytes);
    l.segments = place(&l.bytes, NATTEN_CPU_SEGMENTS * NATTEN_CPU_SEGMENT_BYTES);
    if (p->kind == NATTEN_CPU_GRAD_ALL)
        l.given_bytes = (size_t)(box(p, 0, p->tile[0]) * box(p, 1, p->tile[1]));
    l.given = place(&l.bytes, (int64_t)l.given_bytes);
    return l;
}

/* ---- tiles ----------------------------------------------------------------------- */

/* How much of the partners the strips hold at a time, most first. */
typedef enum keep {
    KEEP_ALL,   /* all that a group sees: each partner is packed once per tile */
    KEEP_RING,  /* what a group sees: each is packed once per row of groups */
    KEEP_INNER, /* what it sees away from borders: there some are packed again */
    KEEP_HEAD,  /* the same, of one head */
    KEEP_PLANE, /* rows of a plane that a row of owners sees: each packs its own */
    KEEP_CHUNK, /* what is listed at a time */
    KEEPS
} keep;

static natten_cpu_strips make_strips(const natten_cpu_pass *p,
                                     const natten_cpu_kernels *k, keep level)
{
    natten_cpu_strips s = {.width = box(p, 2, p->tile[2])};
    int64_t planes, rows;
    chunk_extent(p, p->owners, &planes, &rows);
    if (level != KEEP_CHUNK && level != KEEP_PLANE)
        planes = most(planes, inner_box(p, 0, least(p->owners, p->tile[0])));
    if (level == KEEP_PLANE || level == KEEP_RING)
        rows = most(rows, inner_box(p, 1, 1));
    else if (level != KEEP_CHUNK)
        rows = most(rows, level == KEEP_ALL ? box(p, 1, p->tile[1])
                                            : inner_box(p, 1, p->tile[1]));
    s.depth = (int32_t)most(1, planes);
    s.high = (int32_t)most(1, rows);
    s.fan = level < KEEP_HEAD ? (int32_t)p->fan : 1;
    s.strip = make_strip(p->other, s.width, k);
    return s;
}

/* Partners packed per owner. Strips that hold all a group sees are packed once per
 * tile, a ring's once for each row of groups, others anew, in the width of the tile,
 * for each group: an owner vector along x. */
static double packs_of(const natten_cpu_pass *p, const natten_cpu_kernels *k,
                       keep level)
{
    double packs = 1;
    for (int a = 0; a < 3; a++) {
        int64_t group = a == 0 ? p->owners : a == 1 ? 1 : least(p->tile[2], k->lanes);
        bool once = level < KEEP_HEAD && (level != KEEP_RING || a > 0);
        int64_t owners = once ? p->tile[a] : least(p->tile[a], group);
        int64_t wide = a == 2 ? p->tile[2] : owners;
        int64_t seen = least(partners_along(p, a), wide + p->axis[a].window - 1);
        packs *= (double)seen / (double)owners;
    }
    return packs;
}

/* What is read and written of so many queries and keys, all heads, over what the last
 * level holds for them. */
static double fill_of(const natten_cpu_pass *p, double queries, double keys)
{
    const natten_task *t = p->task;
    double rows = queries * (double)t->heads + keys * (double)t->heads_kv;
    double bytes =
        rows * (double)(t->dim + t->dim_v) * (double)natten_dtype_bytes(t->dtype);
    return bytes / (double)p->far_bytes * (p->kind == NATTEN_CPU_FORWARD ? 1 : 2);
}

/* How much of a tile's tokens comes from memory each time, 0 to 1. Its heads follow one
 * another, and they lie side by side in a token: what the first of them brings near,
 * pages as well as lines, serves the others as long as the last level holds the tokens
 * of all. */
static double far_of(const natten_cpu_pass *p)
{
    double owners = 1, partners = 1;
    for (int a = 0; a < 3; a++) {
        owners *= p->tile[a];
        partners *= (double)least(partners_along(p, a),
                                  (int64_t)p->tile[a] + p->axis[a].window - 1);
    }
    double times =
        p->owner_is_key ? fill_of(p, partners, owners) : fill_of(p, owners, partners);
    if (p->kind == NATTEN_CPU_GRAD_ALL) /* measured: bench/results, Zen 5 */
        times /= 2;
    return times < 1 ? 0 : times > 2 ? 1 : times - 1;
}

/* Does the last level not hold the call's tensors? Forward of doubles, a token in twice
 * as many lines, is taken to be so from half of that on (measured: P1,
 * bench/results/2026-11-30-zen4.md). */
static bool is_far(const natten_cpu_pass *p)
{
    double queries = (double)p->task->batch, keys = queries;
    for (int a = 0; a < 3; a++) {
        queries *= p->axis[a].query_count;
        keys *= p->axis[a].key_count;
    }
    bool doubles = p->kind == NATTEN_CPU_FORWARD && p->task->dtype == NATTEN_FP64;
    return fill_of(p, queries, keys) > (doubles ? 0.5 : 1);
}

/* On average: the last group along the first axis may be smaller. */
static double owners_per_group(const natten_cpu_pass *p)
{
    int64_t planes = p->tile[0];
    return planes == 1 ? p->owners : (double)planes / parts_of(planes, p->owners);
}

/* To pack a partner costs about as much as so many products with one, more where the
 * gradients of its tokens come and go with it. */
static double price_of_pack(const natten_cpu_pass *p)
{
    return p->kind == NATTEN_CPU_GRAD_ALL ? 7 : 6;
}

/* What a tile costs, per owner, in products with one partner: what it packs; three more
 * for what comes from memory, as an owner does, for it has been asked for (fitted to
 * times of tiles, as the prices of a pack and of a spill are:
 * bench/results/2026-11-30-zen4.md); fewer owners than registers have room for share
 * their loads with fewer; strips that leave the cache are slower to make and to read,
 * and those of GRAD_ALL, most of which a group goes over once, a little. Of the many
 * that it keeps on three axes only those count that a row of groups sees: the others
 * wait further away, and are packed the less often (measured:
 * docs/decisions/five-products.md). */
static double cost_of(const natten_cpu_pass *p, const natten_cpu_kernels *k, keep level)
{
    const natten_cpu_strips *s = &p->strips;
    bool all = p->kind == NATTEN_CPU_GRAD_ALL;
    int64_t high = s->high;
    if (all)
        high = least(high, inner_box(p, 1, 1));
    double slots = (double)s->depth * (double)high * s->fan;
    double bytes = slots * (double)s->strip.elements * (double)k->real_bytes;
    double room = (double)p->near_bytes;
    double spill = 1 + (all ? 0.2 : 0.5) * fmax(0, bytes / room - 1);
    double loads = 1 + 0.9 / owners_per_group(p) - 0.9 / k->owners;
    double packs = packs_of(p, k, level), from_memory = 3 * far_of(p);
    return price_of_pack(p) * packs * spill + from_memory * (packs + 1) +
           volume(p) * loads;
}

/* The work of an item, over the most that it may be. */
static double length_of(const natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    double owners = (double)p->tile[0] * p->tile[1] * p->tile[2] * (double)p->fan;
    double work = owners * volume(p) * (double)(p->task->dim + p->task->dim_v);
    return work / (most_item_work * k->lanes);
}

/* Items of a batch item, the tiles along each axis rounded so; NULL: a tile that is not
 * whole counts as a part of one. */
static double items_of(const natten_cpu_pass *p, double (*rounded)(double))
{
    double items = (double)p->heads;
    for (int a = 0; a < 3; a++) {
        double n = (double)owners_along(p, a), tiles = n / p->tile[a];
        items *= (double)classes_along(p, a) * (rounded ? rounded(tiles) : tiles);
    }
    return items;
}

/* Whole tiles, one of three quarters and more among them. */
static double full(double tiles)
{
    return floor(tiles + 0.25);
}

/* What is lost to idle processors, where few_items of them take items in turns and wait
 * for the last ones. In a short call, less than one of the longest items each, only
 * that there are too few items for them counts, and this not where an item takes some
 * tens of microseconds. The bits of GRAD_ALL follow its tiles, so these can't know the
 * batch: what may be one of many short batch items is not cut smaller, for halos cost
 * all of them (measured: bench/results, Zen 4), if its heads keep a small machine busy.
 */
static double idle_of(const natten_cpu_pass *p, double length)
{
    bool all = p->kind == NATTEN_CPU_GRAD_ALL;
    double batch = all ? 1 : (double)p->task->batch, count = batch * items_of(p, ceil);
    double whole = batch * items_of(p, full), items = batch * items_of(p, NULL);
    double most_busy = p->few_items;
    double few = count < most_busy ? most_busy / count - 1 : 0;
    if (all && p->heads >= SMALL_MACHINE)
        few = 0;
    else if (!all && length < short_item)
        few *= length / short_item;
    double turns = fmax(1, fmax(ceil(whole / most_busy), items / most_busy));
    double last = most_busy * turns / items - 1;
    return fmax(few, last * fmin(1, length * items / most_busy)) / 4;
}

/* How much longer a tile takes for what it wastes: idle lanes at its end, idle
 * processors, and a caller who waits to cancel. */
static double waste_of(const natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    int64_t n = owners_along(p, 2), tile = p->tile[2];
    double lanes = (double)(n / tile * up(tile, k->lanes) + up(n % tile, k->lanes));
    double length = length_of(p, k);
    return lanes / (double)n * (1 + idle_of(p, length)) * (length <= 1 ? 1 : 1000);
}

/* The next longer tile along x: by vectors at first, then by a quarter. */
static int64_t longer(int64_t tile, int lanes)
{
    return tile + up(most(1, tile / 4), lanes);
}

/* The cheapest tile so far. */
typedef struct best_tile {
    bool found;
    double time, cost;
    int32_t tile[3], owners;
    natten_cpu_strips strips;
    natten_cpu_layout layout;
} best_tile;

/* False if there is no room for it. */
static bool try_tile(natten_cpu_pass *p, const natten_cpu_kernels *k, keep level,
                     size_t room, best_tile *best)
{
    p->strips = make_strips(p, k, level);
    p->layout = make_layout(p, k);
    if (p->layout.bytes > room)
        return false;
    double cost = cost_of(p, k, level), time = cost * waste_of(p, k);
    if (!best->found || time < best->time)
        *best = (best_tile){.found = true,
                            .time = time,
                            .cost = cost,
                            .tile = {p->tile[0], p->tile[1], p->tile[2]},
                            .owners = p->owners,
                            .strips = p->strips,
                            .layout = p->layout};
    return true;
}

/* A tile along x; of GRAD_ALL one that cuts the axis into parts as long as one
 * another. */
static int64_t evened(const natten_cpu_pass *p, int64_t tile, int lanes)
{
    int64_t n = owners_along(p, 2);
    return p->kind == NATTEN_CPU_GRAD_ALL ? up(parts_of(n, parts_of(n, tile)), lanes)
                                          : tile;
}

/* The next shorter tile along the first axis: half, of a ring in whole groups. */
static int64_t shorter(const natten_cpu_pass *p, int64_t tile, keep level)
{
    int64_t half = tile > 1 ? (tile + 1) / 2 : 0;
    return level == KEEP_RING && half > p->owners && up(half, p->owners) < tile
               ? up(half, p->owners)
               : half;
}

/* All tiles at one level of keeping: halves along the first axes, more and more vectors
 * along the last. */
static void search(natten_cpu_pass *p, const natten_cpu_kernels *k, keep level,
                   size_t room, best_tile *best)
{
    int64_t n[3] = {owners_along(p, 0), owners_along(p, 1), owners_along(p, 2)};
    if (level == KEEP_RING && n[1] == 1)
        return; /* as KEEP_ALL */
    for (int64_t z = n[0]; z > 0; z = shorter(p, z, level))
        for (int64_t y = n[1]; y > 0; y = y > 1 ? (y + 1) / 2 : 0)
            for (int64_t x = k->lanes; x < n[2] + k->lanes; x = longer(x, k->lanes)) {
                p->tile[0] = (int32_t)z;
                p->tile[1] = (int32_t)y;
                p->tile[2] = (int32_t)least(evened(p, x, k->lanes), n[2]);
                if (!try_tile(p, k, level, room, best))
                    break;
            }
}

static void choose_tile(natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    size_t room = natten_cpu_tile_promise(p->task);
    room -= p->kind == NATTEN_CPU_FORWARD
                ? 0
                : NATTEN_CPU_SUMS_BYTES + NATTEN_CPU_BIAS_BYTES;
    /* Not much above the least there is (one pack an owner, nothing from memory): other
     * ways to keep strips can't help much. */
    double good = 1.5 * (volume(p) + price_of_pack(p));
    best_tile best = {.found = false};
    int levels = p->kind == NATTEN_CPU_GRAD_ALL ? KEEP_CHUNK : KEEPS;
    for (int level = 0; level < levels; level++)
        for (p->owners = k->owners; p->owners > 0; p->owners--)
            if (!best.found || best.cost > good || level == KEEP_RING)
                search(p, k, (keep)level, room, &best);
    p->fits = p->kind != NATTEN_CPU_GRAD_ALL || best.found;
    if (!best.found) { /* one owner vector and strips of a chunk, come what may */
        p->owners = p->tile[0] = p->tile[1] = 1;
        p->tile[2] = (int32_t)least(k->lanes, owners_along(p, 2));
        try_tile(p, k, KEEP_CHUNK, SIZE_MAX, &best);
    }
    p->owners = best.owners;
    for (int a = 0; a < 3; a++)
        p->tile[a] = best.tile[a];
    p->strips = best.strips;
    p->layout = best.layout;
}

/* GRAD_EXTRA walks pieces of query rows as they lie in the tensor: shorter ones, then
 * fewer owners, where there is no room. */
static void cut_rows(natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    size_t room = natten_cpu_tile_promise(p->task) - NATTEN_CPU_SUMS_BYTES -
                  NATTEN_CPU_BIAS_BYTES;
    int64_t piece = NATTEN_CPU_SLOTS;
    for (p->owners = k->owners;; p->owners -= piece == 64) {
        p->strips = (natten_cpu_strips){1, 1, 1, piece, make_strip(p->other, piece, k)};
        p->layout = make_layout(p, k);
        if (p->owners == 1 || p->layout.bytes <= room)
            break;
        piece = most(64, piece / 2);
    }
    p->combos = p->task->batch;
    for (int a = 0; a < 3; a++) {
        p->classes[a] = 1;
        p->tile[a] = a == 2 ? (int32_t)piece : 1;
        p->tiles[a] = (int32_t)parts_of(p->axis[a].query_count, p->tile[a]);
        p->combos *= p->tiles[a];
    }
}

/* Extra tokens packed at a time: all, as long as they stay small. */
static void choose_extras(natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    if (p->task->extras == 0)
        return;
    int64_t token = make_strip(p->extra, 64, k).elements * (int64_t)k->real_bytes / 64;
    int64_t chunk = most(k->lanes, least(NATTEN_CPU_SLOTS, EXTRA_BYTES / token));
    p->extra_chunk = least(p->task->extras, chunk);
    p->extra_strip = make_strip(p->extra, p->extra_chunk, k);
}

/* Sums of grad_bias lane by lane: rows of entries along axes 0 and 1, and slots of a
 * window along axis 2, for as many patterns of runs as there is room for. */
static void place_bias_sums(natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    double vectors = (2.0 * p->axis[0].window - 1) * (2.0 * p->axis[1].window - 1) *
                     p->axis[2].window;
    double bytes = vectors * k->lanes * (double)k->real_bytes;
    p->patterns =
        bytes > NATTEN_CPU_BIAS_BYTES
            ? 0
            : (int32_t)fmin(NATTEN_CPU_PATTERNS, NATTEN_CPU_BIAS_BYTES / bytes);
    p->layout.bias_bytes = p->patterns > 0 ? (size_t)bytes : 0;
    p->layout.bias_sums =
        place(&p->layout.bytes, p->patterns * (int64_t)p->layout.bias_bytes);
}

void natten_cpu_tile_choose(natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    p->far = is_far(p);
    p->fits = true;
    if (p->kind == NATTEN_CPU_GRAD_EXTRA) {
        cut_rows(p, k);
        return;
    }
    if (p->kind != NATTEN_CPU_GRAD_KEY)
        choose_extras(p, k);
    p->chunk = choose_chunk(p, k);
    choose_tile(p, k);
    if (p->kind != NATTEN_CPU_GRAD_KEY && p->task->view[NATTEN_GRAD_BIAS].data)
        place_bias_sums(p, k);
    p->combos = p->task->batch;
    for (int a = 0; a < 3; a++) {
        p->classes[a] = (int32_t)classes_along(p, a);
        p->tiles[a] = (int32_t)parts_of(owners_along(p, a), p->tile[a]);
        p->combos *= (int64_t)p->classes[a] * p->tiles[a];
    }
    /* On a plane a row of partners that has left the strips does not come back. */
    p->at_once = p->stores && p->unit_elements > 0 && p->share == 1 &&
                 p->tiles[0] == 1 && p->tiles[2] == 1 && p->axis[1].length == 1 &&
                 p->strips.depth >= box(p, 0, least(p->owners, p->tile[0]));
}
