/* SPDX-License-Identifier: MIT
 *
 * The items of GRAD_ALL against their definition: each item of the pass once, with a
 * slice of its own among those of its head; and the
 * pieces of keys, which clear every element of the gradients once, and nothing else, or
 * round every sum of a narrow one. Who waits for whom: check_cpu_turns.c counts it, and
 * check_same_call.c has bits that tell. */
#include "cpu/cpu_share.h"

#include "support/random.h"
#include "support/tap.h"

#include <string.h>

/* ---- items ---- */

enum { MOST_ITEMS = 2 * 3 * 3 * 5 * 3 * 4 * 2 * 3 * 2 };

/* Is the item's slice one of its head's, and nobody else's in the run? */
static bool mark_slice(const natten_cpu_pass *p, const natten_cpu_share *run,
                       const natten_cpu_item *item, char *taken)
{
    natten_cpu_heads h = natten_cpu_share_heads(p, run);
    int64_t slice = natten_cpu_share_slice(p, run, item), head = item->head - h.first;
    return head >= 0 && head < h.count && slice / h.items == head && slice >= 0 &&
           taken[slice]++ == 0;
}

/* Item `i` of a run, marked; false if it is none, or was marked before. Check's own
 * assertions would take minutes for so many. */
static bool mark_item(const natten_cpu_pass *p, const natten_cpu_share *run, int64_t i,
                      char *seen)
{
    natten_cpu_item item = natten_cpu_share_item(p, run, i);
    if (item.head < 0 || item.head >= p->heads || item.combo < 0 ||
        item.combo >= p->combos || item.sums != NULL || item.extra_begin != 0)
        return false;
    int64_t per_batch = p->combos / p->task->batch, groups = p->heads / p->share;
    int64_t unit = item.combo / per_batch * groups + item.head / p->share;
    if (unit < run->first || unit >= run->first + run->units ||
        item.unit_bytes != (unit - run->first) * p->unit_elements * 4)
        return false;
    return seen[item.combo * p->heads + item.head]++ == 0;
}

/* How many right items all runs have, of at most `most` units each. */
static int64_t count_items(const natten_cpu_pass *p, int64_t most, char *seen)
{
    int64_t units = p->task->batch * (p->heads / p->share), right = 0;
    static char taken[MOST_ITEMS];
    natten_cpu_share run;
    for (int64_t first = 0; first < units; first += run.units) {
        natten_cpu_share_take(p, &run, first, most);
        ck_assert(run.units >= 1 && run.units <= most);
        int64_t items = natten_cpu_share_items(p, &run);
        ck_assert_int_ge(items, 1);
        memset(taken, 0, (size_t)items);
        for (int64_t i = 0; i < items; i++) {
            natten_cpu_item item = natten_cpu_share_item(p, &run, i);
            bool is_right = mark_slice(p, &run, &item, taken);
            right += mark_item(p, &run, i, seen) && is_right ? 1 : -1;
        }
    }
    return right;
}

static void check_pass(const int tiles[3], const int classes[3], int batch, int share,
                       int groups)
{
    static char seen[MOST_ITEMS];
    natten_task task = {.batch = batch};
    natten_cpu_pass p = {.task = &task, .share = share, .combos = batch};
    p.heads = (int64_t)groups * share;
    for (int a = 0; a < 3; a++) {
        p.tiles[a] = tiles[a];
        p.classes[a] = classes[a];
        p.combos *= (int64_t)tiles[a] * classes[a];
    }
    ck_assert_int_le(p.combos * p.heads, MOST_ITEMS);
    p.unit_elements = 3;
    for (int64_t most = 1; most <= (int64_t)batch * groups + 1; most++) {
        memset(seen, 0, (size_t)(p.combos * p.heads));
        ck_assert_int_eq(count_items(&p, most, seen), p.combos * p.heads);
    }
}

START_TEST(every_item_is_in_one_run_once)
{
    for (int n = 0; n < 3 * 5 * 4; n++)
        for (int m = 0; m < 3 * 3 * 2; m++)
            for (int b = 0; b < 2 * 3 * 2; b++) {
                int tiles[3] = {n / 20 + 1, n / 4 % 5 + 1, n % 4 + 1};
                int classes[3] = {m / 6 + 1, m / 2 % 3 + 1, m % 2 + 1};
                check_pass(tiles, classes, b / 6 + 1, b / 2 % 3 + 1, b % 2 + 1);
            }
}
END_TEST

/* ---- pieces ---- */

enum { ELEMENTS = 1 << 15 };

/* A view [batch, z, y, x, h, d] in any order of its sizes, with gaps. */
static natten_view random_view(randoms *r, const int64_t size[6], void *data)
{
    natten_view v = {.data = data};
    int64_t *stride[] = {&v.batch,   &v.axis[0], &v.axis[1],
                         &v.axis[2], &v.head,    &v.item};
    int64_t unit = random_int(r, 1, 2);
    bool compact = random_once_in(r, 2);
    unsigned placed = 0;
    for (int n = 0; n < 6; n++) {
        int i = compact ? 5 - n : (int)random_int(r, 0, 5);
        while (placed >> i & 1)
            i = (i + 1) % 6;
        placed |= 1u << i;
        *stride[i] = unit;
        unit *= size[i];
        unit += random_int(r, 0, 1);
    }
    return v;
}

/* How many elements of `floats` differ from what they should be: 0 within the view. */
static int64_t count_wrong(const natten_view *v, const int64_t size[6],
                           const float *floats)
{
    static char inside[ELEMENTS];
    memset(inside, 0, sizeof inside);
    int64_t cells = 1, wrong = 0;
    for (int i = 0; i < 6; i++)
        cells *= size[i];
    for (int64_t c = 0; c < cells && v->data; c++) {
        const int64_t stride[6] = {v->batch,   v->axis[0], v->axis[1],
                                   v->axis[2], v->head,    v->item};
        int64_t rest = c, at = 0;
        for (int i = 5; i >= 0; rest /= size[i--])
            at += rest % size[i] * stride[i];
        if (at >= ELEMENTS)
            return -1; /* no room: the test's own fault */
        inside[at] = 1;
    }
    for (int64_t i = 0; i < ELEMENTS; i++)
        wrong += floats[i] != (inside[i] ? 0.0F : 1.0F);
    return wrong;
}

START_TEST(pieces_clear_the_gradients_and_nothing_else)
{
    static float memory[2][ELEMENTS];
    randoms r = {3};
    for (int n = 0; n < 200; n++) {
        int64_t size[6] = {random_int(&r, 1, 3),  random_int(&r, 0, 4),
                           random_int(&r, 1, 11), random_int(&r, 1, 13),
                           random_int(&r, 1, 2),  random_int(&r, 1, 2)};
        if (n == 0) /* one key more than fits a piece */
            memcpy(size, (int64_t[]){1, 1, 1, 257, 2, 2}, sizeof size);
        natten_task task = {.batch = size[0], .heads_kv = size[4]};
        natten_cpu_pass p = {.task = &task};
        for (int a = 0; a < 3; a++)
            p.axis[a].key_count = (int32_t)size[1 + a];
        for (int i = 0; i < 2; i++) {
            p.other[i].dim = size[5];
            bool wanted = !random_once_in(&r, 4);
            p.shared[i] = random_view(&r, size, wanted ? memory[i] : NULL);
            for (int64_t k = 0; k < ELEMENTS; k++)
                memory[i][k] = 1;
        }
        int64_t keys = size[0] * size[1] * size[2] * size[3];
        natten_cpu_share all = {.units = size[0] * size[4]};
        int64_t pieces = natten_cpu_share_pieces(&p, &all);
        ck_assert_int_eq(pieces == 0, keys == 0);
        for (int64_t piece = 0; piece < pieces; piece++)
            natten_cpu_share_clear(&p, piece, sizeof(float));
        for (int i = 0; i < 2; i++)
            ck_assert_int_eq(count_wrong(&p.shared[i], size, memory[i]), 0);
    }
}
END_TEST

/* Sums in the workspace of some units, cleared and rounded piece by piece; those of
 * other units are not touched. */
START_TEST(pieces_clear_and_round_the_sums_of_their_units)
{
    static float sums[ELEMENTS];
    static uint16_t memory[2][ELEMENTS];
    const natten_cpu_kernels *kernels =
        natten_cpu_pass_kernels(NATTEN_VARIANT_SCALAR, NATTEN_FP32);
    randoms r = {4};
    for (int n = 0; n < 200; n++) {
        int64_t size[6] = {random_int(&r, 1, 3), random_int(&r, 1, 3),
                           random_int(&r, 1, 5), random_int(&r, 1, 7),
                           random_int(&r, 1, 3), random_int(&r, 1, 3)};
        if (n == 0) /* one key more than fits a piece */
            memcpy(size, (int64_t[]){1, 1, 1, 257, 2, 2}, sizeof size);
        natten_task task = {.dtype = NATTEN_BF16, .batch = size[0]};
        natten_cpu_pass p = {.task = &task, .heads = size[4], .share = 1};
        int64_t keys = size[1] * size[2] * size[3], units = size[0] * size[4];
        p.unit_elements = 2 * keys * size[5];
        for (int a = 0; a < 3; a++)
            p.axis[a].key_count = (int32_t)size[1 + a];
        for (int i = 0; i < 2; i++) {
            p.other[i].dim = size[5];
            p.narrow[i] = random_view(&r, size, memory[i]);
            p.shared[i].data = sums + i * keys * size[5];
            p.shared[i].axis[2] = size[5];
        }
        natten_cpu_share run;
        natten_cpu_share_take(&p, &run, random_int(&r, 0, units - 1),
                              random_int(&r, 1, units));
        int64_t pieces = natten_cpu_share_pieces(&p, &run);
        int64_t used = run.units * p.unit_elements;
        for (int64_t k = 0; k < ELEMENTS; k++)
            sums[k] = 1;
        for (int64_t piece = 0; piece < pieces; piece++)
            natten_cpu_share_clear(&p, piece, sizeof(float));
        for (int64_t k = 0; k < ELEMENTS; k++)
            ck_assert_msg(sums[k] == (k < used ? 0.0F : 1.0F), "sum %d", (int)k);
        for (int64_t k = 0; k < used; k++) /* few bits, so that none is lost */
            sums[k] = (float)(k % 251);
        memset(memory, 0xff, sizeof memory);
        for (int64_t piece = 0; piece < pieces; piece++)
            natten_cpu_share_round(&p, &run, piece, kernels);
        for (int64_t k = 0; k < used; k++) {
            int64_t unit = run.first + k / p.unit_elements, i = k % p.unit_elements;
            int64_t which = i / (keys * size[5]), key = i / size[5] % keys;
            natten_view *v = &p.narrow[which];
            int64_t at = unit / size[4] * v->batch + unit % size[4] * v->head +
                         key / (size[2] * size[3]) * v->axis[0] +
                         key / size[3] % size[2] * v->axis[1] +
                         key % size[3] * v->axis[2] + i % size[5] * v->item;
            ck_assert_msg(natten_dtype_load(NATTEN_BF16, memory[which], at) ==
                              (double)sums[k],
                          "unit %d, key %d", (int)unit, (int)key);
            memory[which][at] = 0xffff;
        }
        for (int64_t k = 0; k < 2 * ELEMENTS; k++)
            ck_assert_int_eq(memory[k / ELEMENTS][k % ELEMENTS], 0xffff);
    }
}
END_TEST

int main(void)
{
    TCase *runs = tcase_create("runs");
    tcase_add_test(runs, every_item_is_in_one_run_once);
    tcase_add_test(runs, pieces_clear_the_gradients_and_nothing_else);
    tcase_add_test(runs, pieces_clear_and_round_the_sums_of_their_units);
    Suite *suite = suite_create("cpu share");
    suite_add_tcase(suite, runs);
    return tap_run(suite);
}
