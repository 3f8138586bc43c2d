/* SPDX-License-Identifier: MIT
 *
 * How busy threads are that take the items of a pass in turn, by a clock that this test
 * turns: the problems of the CPU suite with many pairs, on 2 to 64 threads and in every
 * variant of the build.  An item of GRAD_ALL waits, after each row of groups along axis
 * 0, for all items before it that give to a key of the planes it leaves
 * (core/cpu/cpu_share.h); who these are is found here by comparing items, one by one.
 */
#include "cpu/cpu_share.h"

#include "support/tap.h"

enum { MOST_ITEMS = 1024, MOST_ROWS = 64, MOST_THREADS = 64 };

typedef struct busy_problem {
    const char *name;
    int64_t batch, heads, dim;
    int length[3], window[3], dilation;
} busy_problem;

/* bench/suites/cpu.txt */
static const busy_problem problems[] = {
    {"P3", 1, 8, 64, {1, 128, 128}, {1, 13, 13}, 1},
    {"P4", 1, 8, 64, {1, 128, 128}, {1, 13, 13}, 4},
    {"P5", 1, 8, 64, {1, 1, 8192}, {1, 1, 255}, 1},
    {"P6", 1, 6, 64, {16, 28, 28}, {5, 7, 7}, 1},
    {"P7", 8, 4, 32, {1, 56, 56}, {1, 7, 7}, 1},
};
enum { PROBLEMS = sizeof problems / sizeof *problems };

/* An item: the keys that its queries see, and its rows of groups along axis 0. After
 * row r it leaves the planes before leaves[r], which others may give to then, and has
 * given to planes before gives[r]. */
typedef struct busy_item {
    int64_t head; /* of all batch items */
    int residue[3];
    natten_span keys[3];
    int rows, row, gives[MOST_ROWS], leaves[MOST_ROWS], left;
    double work[MOST_ROWS];
} busy_item;

static busy_item items[MOST_ITEMS];
static int item_count;

static natten_task task_of(const busy_problem *b, natten_operation operation)
{
    natten_task t = {.operation = operation,
                     .dtype = NATTEN_FP32,
                     .accumulator = NATTEN_FP32,
                     .batch = b->batch,
                     .heads = b->heads,
                     .heads_kv = b->heads,
                     .dim = b->dim,
                     .dim_v = b->dim,
                     .scale = 1};
    for (int a = 0; a < 3; a++)
        t.axis[a] =
            (natten_axis){.length = b->length[a],
                          .window = b->window[a],
                          .stride = 1,
                          .dilation = b->length[a] > b->dilation ? b->dilation : 1,
                          .query_count = b->length[a],
                          .key_count = b->length[a]};
    return t;
}

/* Work in products with a partner: vectors of owners with idle lanes in them, and what
 * is packed, about eight for each partner when it is first seen. */
static void add_item(const natten_cpu_pass *p, const natten_cpu_kernels *k,
                     natten_cpu_item from)
{
    ck_assert_int_lt(item_count, MOST_ITEMS);
    busy_item *to = &items[item_count++];
    *to = (busy_item){.left = -1}; /* not begun */
    double owners = 1, keys = 1, volume = 1;
    natten_span mine = {0, 0};
    natten_class first = {0};
    for (int a = 2; a >= 0; a--) {
        int tile = (int)(from.combo % p->tiles[a]);
        from.combo /= p->tiles[a];
        to->residue[a] = (int)(from.combo % p->classes[a]);
        from.combo /= p->classes[a];
        first = natten_axis_class(&p->axis[a], to->residue[a]);
        mine.begin = first.queries.begin + tile * p->tile[a];
        mine.end = natten_min(first.queries.end, mine.begin + p->tile[a]);
        to->keys[a] = (natten_span){natten_class_keys(&first, mine.begin).begin,
                                    natten_class_keys(&first, mine.end - 1).end};
        volume *= p->axis[a].window;
        if (a > 0) {
            int n = mine.end - mine.begin;
            owners *= a == 2 ? (double)natten_cpu_padded(n, k->lanes) : n;
            keys *= to->keys[a].end - to->keys[a].begin;
        }
    }
    to->head = from.combo * p->heads + from.head;
    bool again = p->strips.high < to->keys[1].end - to->keys[1].begin;
    for (int z = mine.begin, seen = to->keys[0].begin; z < mine.end; z += p->owners) {
        int end = natten_min(mine.end, z + p->owners), r = to->rows++;
        ck_assert_int_lt(r, MOST_ROWS);
        int sees = natten_class_keys(&first, end - 1).end;
        to->leaves[r] =
            end < mine.end ? natten_class_keys(&first, end).begin : to->keys[0].end;
        to->gives[r] = again ? sees : to->leaves[r];
        to->work[r] = (end - z) * owners * volume + 8 * (sees - seen) * keys;
        seen = again ? natten_class_keys(&first, z).begin : sees;
    }
}

static bool meets(natten_span a, natten_span b)
{
    return a.begin < b.end && b.begin < a.end;
}

/* Has item i, after a row, still to wait for one before it? */
static bool waits(const natten_cpu_pass *p, int i)
{
    const busy_item *me = &items[i];
    natten_span mine = {me->keys[0].begin, me->gives[me->row]};
    for (int n = 0; n < i && p->kind == NATTEN_CPU_GRAD_ALL; n++) {
        const busy_item *it = &items[n];
        bool same = it->head == me->head;
        for (int a = 0; a < 3; a++)
            same = same && it->residue[a] == me->residue[a];
        if (!same || !meets(it->keys[1], me->keys[1]) ||
            !meets(it->keys[2], me->keys[2]) || !meets(it->keys[0], mine))
            continue;
        if (it->left < natten_min(it->keys[0].end, mine.end))
            return true;
    }
    return false;
}

typedef struct busy_thread {
    int item;    /* -1: none */
    double done; /* when its row of groups is, or was */
} busy_thread;

/* The thread whose row is done next, of those that need not wait for another. */
static busy_thread *next_thread(const natten_cpu_pass *p, busy_thread *threads, int n)
{
    busy_thread *next = NULL;
    for (int t = 0; t < n; t++)
        if (threads[t].item >= 0 && (!next || threads[t].done < next->done) &&
            !waits(p, threads[t].item))
            next = &threads[t];
    return next;
}

static bool take_item(busy_thread *t, int *taken)
{
    t->item = *taken < item_count ? (*taken)++ : -1;
    if (t->item < 0)
        return false;
    busy_item *i = &items[t->item];
    i->row = 0;
    i->left = i->keys[0].begin;
    t->done += i->work[0];
    return true;
}

/* The share of their time that n threads are busy in. */
static double busy_share(const natten_cpu_pass *p, int n)
{
    busy_thread threads[MOST_THREADS];
    double work = 0, now = 0;
    int taken = 0, busy = 0;
    for (int i = 0; i < item_count; i++)
        items[i].left = -1;
    for (int t = 0; t < n; t++) {
        threads[t].done = 0;
        busy += take_item(&threads[t], &taken);
    }
    while (busy > 0) {
        busy_thread *t = next_thread(p, threads, n);
        ck_assert_msg(t != NULL, "%d threads wait for one another", busy);
        busy_item *i = &items[t->item];
        now = t->done > now ? t->done : now; /* it may have waited */
        t->done = now;
        work += i->work[i->row];
        i->left = i->leaves[i->row];
        if (++i->row < i->rows)
            t->done += i->work[i->row];
        else
            busy -= !take_item(t, &taken);
    }
    return work / (now * n);
}

static void make_items(const natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    item_count = 0;
    natten_cpu_share all;
    natten_cpu_share_take(p, &all, 0, p->task->batch * p->heads);
    int64_t count = p->kind == NATTEN_CPU_GRAD_ALL ? natten_cpu_share_items(p, &all)
                                                   : p->heads * p->combos;
    for (int64_t i = 0; i < count; i++)
        add_item(p, k,
                 p->kind == NATTEN_CPU_GRAD_ALL
                     ? natten_cpu_share_item(p, &all, i)
                     : (natten_cpu_item){.head = i % p->heads, .combo = i / p->heads});
}

/* A tenth from 8 lanes on; of fewer, whose tiles are cut alike, P7 forward costs 0.13.
 */
START_TEST(the_last_items_cost_sixteen_threads_little)
{
    static const natten_machine machine = {.l2_bytes = 0};
    for (natten_variant v = 0; v < NATTEN_VARIANTS; v++)
        for (int backward = 0; backward < 2; backward++) {
            const natten_cpu_kernels *k = natten_cpu_pass_kernels(v, NATTEN_FP32);
            natten_task t =
                task_of(&problems[_i], backward ? NATTEN_BACKWARD : NATTEN_FORWARD);
            natten_cpu_pass p;
            if (!k)
                continue;
            natten_cpu_pass_make(&p, &t,
                                 backward ? NATTEN_CPU_GRAD_ALL : NATTEN_CPU_FORWARD, k,
                                 &machine);
            ck_assert(p.fits);
            make_items(&p, k);
            for (int n = 2; n <= MOST_THREADS; n *= 2) {
                double share = busy_share(&p, n);
                ck_assert_msg(share >= (n > 16         ? 0.5
                                        : k->lanes < 8 ? 0.8
                                                       : 0.9),
                              "%s %s, %d lanes: %d threads are busy in %.2f of it",
                              problems[_i].name, backward ? "bwd" : "fwd", k->lanes, n,
                              share);
            }
        }
}
END_TEST

int main(void)
{
    TCase *turns = tcase_create("turns");
    tcase_set_timeout(turns, 0);
    tcase_add_loop_test(turns, the_last_items_cost_sixteen_threads_little, 0, PROBLEMS);
    Suite *suite = suite_create("cpu turns");
    suite_add_tcase(suite, turns);
    return tap_run(suite);
}
