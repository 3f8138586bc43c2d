/* SPDX-License-Identifier: MIT
 *
 * Tiles: every owner is in one; strips are as wide as what the tile sees, whatever the
 * axis; forward's strips hold all that a chunk lists; the breaks of the softmax are the
 * same in a part of a grid and on every machine; scratch keeps its promise; a part of a
 * grid makes no items for classes that it has no owner of; tiles follow the caches that
 * a machine reports; lanes lie along the axis that wastes fewest. And no pass computes
 * less than is wanted (core/cpu/cpu_work.c). */
#include "cpu/cpu_tile.h"

#include "cpu/cpu_work.h"

#include "support/random.h"
#include "support/tap.h"

#include <string.h>

enum { LONGEST = 14, MACHINES = 3 };

/* One that does not tell its caches, a small one and a large one. */
static const natten_machine machines[MACHINES] = {
    {.l2_bytes = 0},
    {.l2_bytes = 128 << 10, .l3_bytes = 1 << 20},
    {.l2_bytes = 4 << 20, .l3_bytes = 256 << 20},
};

static natten_axis whole(int length, int window, int stride, int dilation, bool causal)
{
    return (natten_axis){.length = length,
                         .window = window,
                         .stride = stride,
                         .dilation = dilation,
                         .causal = causal,
                         .query_count = length,
                         .key_count = length};
}

static natten_task task_of(natten_axis z, natten_axis y, natten_axis x, int dim)
{
    return (natten_task){.operation = NATTEN_FORWARD,
                         .dtype = NATTEN_FP32,
                         .accumulator = NATTEN_FP32,
                         .axis = {z, y, x},
                         .batch = 1,
                         .heads = 2,
                         .heads_kv = 2,
                         .dim = dim,
                         .dim_v = dim,
                         .scale = 1};
}

static natten_span owners_of(const natten_cpu_pass *p, const natten_class *c)
{
    return p->owner_is_key ? c->keys : c->queries;
}

static natten_span seen_by(const natten_cpu_pass *p, const natten_class *c, int i)
{
    return p->owner_is_key ? natten_class_queries(c, i) : natten_class_keys(c, i);
}

/* The longest range that `count` neighbours among the owners [begin, end) see. */
static int longest_range(const natten_cpu_pass *p, const natten_class *c,
                         natten_span owners, int count)
{
    int longest = 0;
    for (int i = owners.begin; i < owners.end; i++) {
        int last = natten_min(i + count, owners.end) - 1;
        int range = seen_by(p, c, last).end - seen_by(p, c, i).begin;
        longest = natten_max(longest, range);
    }
    return longest;
}

/* Tiles of axis a, in all its classes, against what their strips hold. */
static void check_axis(const natten_cpu_pass *p, int a)
{
    const natten_axis *x = &p->axis[a];
    for (int residue = 0; residue < x->dilation; residue++) {
        natten_class c = natten_axis_class(x, residue);
        natten_span owners = owners_of(p, &c);
        ck_assert_int_ge((int64_t)p->tile[a] * p->tiles[a], owners.end - owners.begin);
        for (int lo = owners.begin; lo < owners.end; lo += p->tile[a]) {
            natten_span tile = {lo, natten_min(owners.end, lo + p->tile[a])};
            int range = longest_range(p, &c, tile, p->tile[a]);
            if (a == 2)
                ck_assert_msg(range <= p->strips.width,
                              "%d of %d: L%d k%d s%d d%d c%d, keys %d, tile %d", range,
                              (int)p->strips.width, x->length, x->window, x->stride,
                              x->dilation, x->causal, p->owner_is_key, p->tile[2]);
            if (p->kind != NATTEN_CPU_FORWARD || p->chunk.rows)
                continue;
            if (a == 0 && p->chunk.planes == 0)
                ck_assert_int_le(longest_range(p, &c, tile, p->owners),
                                 p->strips.depth);
            if (a == 1)
                ck_assert_int_le(longest_range(p, &c, tile, 1), p->strips.high);
        }
    }
}

/* A vector that begins at the last partner of the last row of columns ends in the
 * scratch. */
static void check_last_load(const natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    const natten_cpu_strips *s = &p->strips;
    size_t slots = (size_t)s->depth * (size_t)s->high * (size_t)s->fan;
    size_t reals = slots * (size_t)s->strip.elements + (size_t)k->lanes - 1;
    ck_assert_uint_le(p->layout.strips + reals * k->real_bytes, p->layout.bytes);
}

static void check_task(const natten_task *task)
{
    static int turn;
    for (natten_variant v = 0; v < NATTEN_VARIANTS; v++) {
        const natten_cpu_kernels *k = natten_cpu_pass_kernels(v, task->accumulator);
        if (!k)
            continue;
        static const natten_cpu_kind kinds[] = {
            NATTEN_CPU_FORWARD, NATTEN_CPU_GRAD_QUERY, NATTEN_CPU_GRAD_KEY,
            NATTEN_CPU_GRAD_ALL};
        for (int n = 0; n < 4; n++) {
            int m = turn++ % MACHINES;
            natten_cpu_pass p;
            natten_cpu_pass_make(&p, task, kinds[n], k, &machines[m]);
            if (!p.fits)
                continue;
            for (int a = 0; a < 3; a++)
                check_axis(&p, a);
            ck_assert(natten_cpu_work_share(&p, k) >= 1);
            ck_assert_int_ge(p.strips.strip.pitch, p.strips.width);
            check_last_load(&p, k);
            ck_assert_uint_le(p.layout.bytes, natten_cpu_tile_promise(task));
        }
    }
}

START_TEST(strips_hold_what_a_tile_sees_on_every_short_axis)
{
    natten_axis one = whole(1, 1, 1, 1, false);
    for (int length = 1; length <= LONGEST; length++)
        for (int dilation = 1; dilation <= length; dilation++)
            for (int window = 1; window * dilation <= length; window++)
                for (int stride = 1; stride <= window; stride++)
                    for (int causal = 0; causal < 2; causal++) {
                        natten_axis x = whole(length, window, stride, dilation, causal);
                        natten_task line = task_of(one, one, x, 3);
                        natten_task rows = task_of(one, x, one, 3);
                        natten_task planes = task_of(x, one, one, 3);
                        check_task(&line);
                        check_task(&rows);
                        check_task(&planes);
                    }
}
END_TEST

static natten_axis random_axis(randoms *r, int longest)
{
    int length = (int)random_int(r, 1, longest), window = (int)random_int(r, 1, length);
    int stride = (int)random_int(r, 1, window);
    int dilation = (int)random_int(r, 1, length / window);
    return whole(length, window, stride, dilation, random_once_in(r, 3));
}

/* Some of the queries and keys. */
static void cut_part(natten_task *t, randoms *r)
{
    for (int a = 0; a < 3; a++) {
        natten_axis *cut = &t->axis[a];
        cut->query_begin = (int)random_int(r, 0, cut->length - 1);
        cut->query_count = (int)random_int(r, 1, cut->length - cut->query_begin);
        cut->key_begin = (int)random_int(r, 0, cut->length - 1);
        cut->key_count = (int)random_int(r, 1, cut->length - cut->key_begin);
    }
}

START_TEST(strips_hold_what_a_tile_sees_on_random_grids)
{
    randoms r = {1};
    for (int n = 0; n < 4000; n++) {
        natten_axis z = random_axis(&r, 20), y = random_axis(&r, 30);
        natten_axis x = random_axis(&r, 120);
        natten_task t = task_of(z, y, x, (int)random_int(&r, 1, 200));
        check_task(&t);
        cut_part(&t, &r);
        check_task(&t);
    }
}
END_TEST

/* A row's bits are those of the whole only if its softmax breaks at the same places. */
START_TEST(a_part_of_a_grid_breaks_its_softmax_like_the_whole)
{
    randoms r = {2};
    for (int n = 0; n < 400; n++) {
        natten_axis z = random_axis(&r, 20), y = random_axis(&r, 40);
        natten_axis x = random_axis(&r, 500);
        natten_task t = task_of(z, y, x, (int)random_int(&r, 1, 99));
        natten_task part = t;
        cut_part(&part, &r);
        part.batch = random_int(&r, 1, 9);
        for (natten_variant v = 0; v < NATTEN_VARIANTS; v++) {
            const natten_cpu_kernels *k = natten_cpu_pass_kernels(v, t.accumulator);
            natten_cpu_pass p, q;
            if (!k)
                continue;
            natten_cpu_pass_make(&p, &t, NATTEN_CPU_FORWARD, k, &machines[0]);
            natten_cpu_pass_make(&q, &part, NATTEN_CPU_FORWARD, k,
                                 &machines[n % MACHINES]);
            ck_assert_int_eq(p.chunk.planes, q.chunk.planes);
            ck_assert_int_eq(p.chunk.rows, q.chunk.rows);
            ck_assert_int_eq(p.chunk.piece, q.chunk.piece);
        }
    }
}
END_TEST

START_TEST(a_part_visits_no_more_classes_than_it_has_tokens)
{
    natten_axis one = whole(1, 1, 1, 1, false);
    natten_axis x = whole(INT32_MAX, 1, 1, INT32_MAX, false);
    x.query_begin = 7;
    x.query_count = 4;
    x.key_count = 9;
    natten_task t = task_of(one, one, x, 3);
    const natten_cpu_kernels *k =
        natten_cpu_pass_kernels(NATTEN_VARIANT_SCALAR, t.accumulator);
    natten_cpu_pass queries, keys;
    natten_cpu_pass_make(&queries, &t, NATTEN_CPU_FORWARD, k, &machines[0]);
    natten_cpu_pass_make(&keys, &t, NATTEN_CPU_GRAD_KEY, k, &machines[0]);
    ck_assert_int_eq(queries.combos, 4);
    ck_assert_int_eq(keys.combos, 9);
}
END_TEST

static natten_cpu_pass pass_on(const natten_task *t, natten_machine machine)
{
    const natten_cpu_kernels *k =
        natten_cpu_pass_kernels(NATTEN_VARIANT_SCALAR, t->accumulator);
    natten_cpu_pass p;
    natten_cpu_pass_make(&p, t, NATTEN_CPU_FORWARD, k, &machine);
    return p;
}

/* Two items for each processor keep a small machine busy, forward; eight processors and
 * more, and an unknown number of them, are given 16. */
START_TEST(a_small_machine_has_longer_tiles)
{
    natten_axis one = whole(1, 1, 1, 1, false), side = whole(56, 7, 1, 1, false);
    natten_task t = task_of(side, one, side, 32);
    t.heads = t.heads_kv = 4;
    natten_cpu_pass usual = pass_on(&t, machines[0]), last = usual;
    for (int processors = 64; processors > 0; processors /= 2) {
        natten_cpu_pass p = pass_on(&t, (natten_machine){.processors = processors});
        ck_assert_int_le(p.combos, last.combos);
        if (processors >= 8)
            ck_assert_mem_eq(p.tile, usual.tile, sizeof p.tile);
        if (processors <= 2)
            ck_assert_int_lt(p.combos, usual.combos);
        last = p;
    }
    t.operation = NATTEN_BACKWARD;
    natten_cpu_pass two = pass_on(&t, (natten_machine){.processors = 2});
    ck_assert_int_eq(two.few_items, usual.few_items);
}
END_TEST

/* Where longer tiles are cheaper, a larger second cache has longer ones; one that is
 * not known has 512 KiB. */
START_TEST(strips_follow_the_second_cache)
{
    natten_axis one = whole(1, 1, 1, 1, false), side = whole(200, 13, 1, 1, false);
    natten_task t = task_of(side, one, side, 32);
    t.heads = t.heads_kv = 16; /* items enough */
    int64_t before = 0;
    for (int64_t l2 = 32 << 10; l2 <= 512 << 10; l2 *= 16) {
        natten_cpu_pass p = pass_on(&t, (natten_machine){.l2_bytes = l2});
        int64_t bytes = (int64_t)p.layout.extra_strips; /* all before them */
        ck_assert_int_gt(bytes, before);
        before = bytes;
    }
    natten_cpu_pass usual = pass_on(&t, machines[0]);
    natten_cpu_pass same = pass_on(&t, (natten_machine){.l2_bytes = 512 << 10});
    ck_assert_int_eq(usual.near_bytes, same.near_bytes);
}
END_TEST

/* The tokens of a tile, all heads, stay in the last cache; one that is not known has 24
 * MiB. */
START_TEST(tiles_follow_the_last_cache)
{
    natten_axis one = whole(1, 1, 1, 1, false), side = whole(256, 7, 1, 1, false);
    natten_task t = task_of(side, one, side, 64);
    t.heads = t.heads_kv = 16;
    int64_t before = 0;
    for (int64_t l3 = 8 << 20; l3 <= 128 << 20; l3 *= 4) {
        natten_cpu_pass p = pass_on(&t, (natten_machine){.l3_bytes = l3});
        int64_t owners = (int64_t)p.tile[0] * p.tile[2];
        ck_assert_int_gt(owners, before);
        before = owners;
    }
    natten_cpu_pass usual = pass_on(&t, machines[0]);
    natten_cpu_pass same = pass_on(&t, (natten_machine){.l3_bytes = 24 << 20});
    ck_assert_int_eq(usual.far_bytes, same.far_bytes);
}
END_TEST

/* Two processors of a machine with 480 MiB have 32; ten of one with 96 have these, and
 * where nobody knows how many there are, nothing is taken off. */
START_TEST(a_few_processors_have_no_large_last_cache)
{
    static const struct {
        int32_t processors;
        int64_t told, taken;
    } of[] = {{2, 480 << 20, 32 << 20},
              {10, 96 << 20, 96 << 20},
              {1, 8 << 20, 8 << 20},
              {0, 480 << 20, 480 << 20}};
    natten_axis one = whole(1, 1, 1, 1, false), side = whole(256, 7, 1, 1, false);
    natten_task t = task_of(side, one, side, 64);
    for (int i = 0; i < 4; i++) {
        natten_machine machine = {.l3_bytes = of[i].told,
                                  .processors = of[i].processors};
        natten_cpu_pass p = pass_on(&t, machine);
        ck_assert_int_eq(p.far_bytes, of[i].taken / 2);
    }
}
END_TEST

/* The order of the axes that a pass walks, as a number of three digits. */
static int order_of(natten_axis z, natten_axis y, natten_axis x, natten_cpu_kind kind)
{
    natten_cpu_kernels k = *natten_cpu_pass_kernels(NATTEN_VARIANT_SCALAR, NATTEN_FP32);
    natten_task t = task_of(z, y, x, 32);
    natten_cpu_pass p;
    k.lanes = 16;
    natten_cpu_pass_make(&p, &t, kind, &k, &machines[0]);
    return 100 * p.order[0] + 10 * p.order[1] + p.order[2];
}

START_TEST(lanes_lie_along_the_axis_that_leaves_fewest_idle)
{
    natten_axis one = whole(1, 1, 1, 1, false), z = whole(16, 5, 1, 1, false);
    natten_axis side = whole(28, 7, 1, 1, false), longer = whole(32, 7, 1, 1, false);
    natten_axis causal = whole(16, 5, 1, 1, true), part = z;
    ck_assert_int_eq(order_of(z, side, side, NATTEN_CPU_FORWARD), 120);
    ck_assert_int_eq(order_of(z, side, side, NATTEN_CPU_GRAD_ALL), 120);
    ck_assert_int_eq(order_of(z, side, side, NATTEN_CPU_GRAD_EXTRA), 12);
    ck_assert_int_eq(order_of(side, z, side, NATTEN_CPU_FORWARD), 21);
    ck_assert_int_eq(order_of(z, longer, longer, NATTEN_CPU_FORWARD), 102);
    ck_assert_int_eq(order_of(causal, side, side, NATTEN_CPU_FORWARD), 102);
    ck_assert_int_eq(order_of(one, z, side, NATTEN_CPU_FORWARD), 102);
    part.query_count = part.key_count = 7;
    ck_assert_int_eq(order_of(part, side, side, NATTEN_CPU_FORWARD), 120);
}
END_TEST

/* The order of backward's sums follows its tiles: the same whatever the caches. */
START_TEST(backward_has_the_same_tiles_on_every_machine)
{
    static const natten_cpu_kind kinds[] = {NATTEN_CPU_GRAD_ALL, NATTEN_CPU_GRAD_QUERY,
                                            NATTEN_CPU_GRAD_KEY};
    const natten_cpu_kernels *k =
        natten_cpu_pass_kernels(NATTEN_VARIANT_SCALAR, NATTEN_FP32);
    natten_axis one = whole(1, 1, 1, 1, false), side = whole(256, 13, 1, 1, false);
    natten_task t = task_of(side, one, side, 64);
    t.operation = NATTEN_BACKWARD;
    for (int n = 0; n < 3; n++) {
        natten_cpu_pass here, there;
        natten_cpu_pass_make(&here, &t, kinds[n], k, &machines[0]);
        for (int m = 1; m < MACHINES; m++) {
            natten_cpu_pass_make(&there, &t, kinds[n], k, &machines[m]);
            ck_assert_mem_eq(here.tile, there.tile, sizeof here.tile);
            ck_assert_int_eq(here.owners, there.owners);
            ck_assert_mem_eq(&here.strips, &there.strips, sizeof here.strips);
        }
    }
}
END_TEST

int main(void)
{
    TCase *tiles = tcase_create("tiles");
    tcase_add_test(tiles, strips_hold_what_a_tile_sees_on_every_short_axis);
    tcase_add_test(tiles, strips_hold_what_a_tile_sees_on_random_grids);
    tcase_add_test(tiles, a_part_of_a_grid_breaks_its_softmax_like_the_whole);
    tcase_add_test(tiles, a_part_visits_no_more_classes_than_it_has_tokens);
    tcase_add_test(tiles, a_small_machine_has_longer_tiles);
    tcase_add_test(tiles, strips_follow_the_second_cache);
    tcase_add_test(tiles, tiles_follow_the_last_cache);
    tcase_add_test(tiles, a_few_processors_have_no_large_last_cache);
    tcase_add_test(tiles, lanes_lie_along_the_axis_that_leaves_fewest_idle);
    tcase_add_test(tiles, backward_has_the_same_tiles_on_every_machine);
    Suite *suite = suite_create("cpu tile");
    suite_add_tcase(suite, tiles);
    return tap_run(suite);
}
