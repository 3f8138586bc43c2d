/* SPDX-License-Identifier: MIT
 *
 * The thread pool: core/base/parallel.c.  The program is linked with a pthread_create()
 * of its own in front of the system's, so that threads can be made to run out, and with
 * a pthread_cond_timedwait() that sees how long a wait is meant to be.  Nothing here is
 * held against the clock, which a loaded machine would break.  Length: what happens to
 * items, to waits, to callbacks and to forks is one subject, and shares its tally. */
#include "base/parallel.h"

#include "base/status.h"

#include "support/tap.h"

#include <dirent.h>
#include <errno.h>
#include <fenv.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
enum { CAN_FORK = 0 }; /* TSan does not start threads in a forked child */
#else
enum { CAN_FORK = 1 };
#endif
/* A child of ASan waits for a lock of its allocator that another thread held at fork().
 */
#if defined(__SANITIZE_ADDRESS__)
enum { CAN_FORK_BESIDE_OTHERS = 0 };
#else
enum { CAN_FORK_BESIDE_OTHERS = CAN_FORK };
#endif

enum { ITEMS = 1000 };

static atomic_int creations_left = 1 << 30;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
    if (atomic_fetch_sub(&creations_left, 1) <= 0)
        return EAGAIN;
    return __real_pthread_create(thread, attributes, start, argument);
}

static atomic_int waits, longest_wait_ms;

int __real_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until);

static int64_t milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void nap(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until)
{
    int64_t end = (int64_t)until->tv_sec * 1000 + until->tv_nsec / 1000000;
    int wait = (int)(end - milliseconds()), longest = atomic_load(&longest_wait_ms);
    atomic_fetch_add(&waits, 1);
    if (wait > longest)
        atomic_store(&longest_wait_ms, wait); /* one thread waits so */
    return __real_pthread_cond_timedwait(condition, mutex, until);
}

/* Threads that this process has. */
static int tasks(void)
{
    DIR *directory = opendir("/proc/self/task");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

/* More naps than anything here has to wait for: a test ends even if it fails. */
enum { PATIENCE = 3000 };

/* ---- items ---- */

typedef struct tally {
    atomic_int done[ITEMS];
    atomic_int by_thread[NATTEN_MAX_THREADS];
    int nap_ms;
    int team; /* threads that an item waits for; all have begun one then */
    atomic_int begun;
} tally;

static void count_item(void *context, int64_t item, int thread)
{
    tally *t = context;
    atomic_fetch_add(&t->done[item], 1);
    if (atomic_fetch_add(&t->by_thread[thread], 1) == 0)
        atomic_fetch_add(&t->begun, 1);
    for (int i = 0; i < PATIENCE && atomic_load(&t->begun) < t->team; i++)
        nap(1);
    if (t->nap_ms)
        nap(t->nap_ms);
}

/* Did a run do each of `items` once, on threads below `threads`? */
static bool complete(tally *t, int threads, int64_t items)
{
    for (int64_t i = 0; i < ITEMS; i++)
        if (atomic_load(&t->done[i]) != (i < items))
            return false;
    for (int i = threads; i < NATTEN_MAX_THREADS; i++)
        if (atomic_load(&t->by_thread[i]) != 0)
            return false;
    return true;
}

static bool run_is_complete(int threads, int64_t items)
{
    tally *t = calloc(1, sizeof *t);
    bool good = natten_parallel_run(threads, items, count_item, t) == NATTEN_OK &&
                complete(t, threads, items);
    free(t);
    return good;
}

START_TEST(a_run_of_one_thread_or_one_item_makes_no_pool)
{
    if (tasks() != 1) /* a sanitizer's own thread */
        return;
    ck_assert(run_is_complete(1, 100));
    ck_assert(run_is_complete(64, 1));
    ck_assert(run_is_complete(64, 0));
    ck_assert_int_eq(tasks(), 1);
}
END_TEST

START_TEST(without_threads_to_be_had_the_caller_does_everything)
{
    atomic_store(&creations_left, 0);
    ck_assert(run_is_complete(7, 100));
    atomic_store(&creations_left, 2);
    ck_assert(run_is_complete(7, 100));
    atomic_store(&creations_left, 1 << 30);
    ck_assert(run_is_complete(7, 100));
}
END_TEST

START_TEST(every_item_is_done_once)
{
    static const int threads[] = {1, 2, 3, 7, 64, 1000};
    static const int items[] = {0, 1, 2, 5, 63, ITEMS};
    for (int repeat = 0; repeat < 20; repeat++)
        for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++)
            for (size_t i = 0; i < sizeof items / sizeof items[0]; i++)
                ck_assert(run_is_complete(threads[t], items[i]));
}
END_TEST

START_TEST(workers_share_the_items)
{
    tally *t = calloc(1, sizeof *t);
    t->team = 4;
    ck_assert_int_eq(natten_parallel_run(4, 100, count_item, t), NATTEN_OK);
    ck_assert(complete(t, 4, 100));
    for (int i = 0; i < 4; i++)
        ck_assert_int_gt(atomic_load(&t->by_thread[i]), 0);
    free(t);
}
END_TEST

static void run_inside(void *context, int64_t item, int thread)
{
    (void)item, (void)thread;
    if (!run_is_complete(3, 20))
        atomic_store((atomic_bool *)context, true);
}

START_TEST(a_run_inside_a_run_works)
{
    atomic_bool bad = false;
    ck_assert_int_eq(natten_parallel_run(4, 50, run_inside, &bad), NATTEN_OK);
    ck_assert(!atomic_load(&bad));
}
END_TEST

static void *run_many(void *bad)
{
    for (int i = 0; i < 200; i++)
        if (!run_is_complete(1 + i % 5, i % 40))
            atomic_store((atomic_bool *)bad, true);
    return NULL;
}

START_TEST(runs_of_many_threads_at_once_work)
{
    enum { CALLERS = 8 };
    pthread_t caller[CALLERS];
    atomic_bool bad = false;
    for (int i = 0; i < CALLERS; i++)
        ck_assert_int_eq(pthread_create(&caller[i], NULL, run_many, &bad), 0);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(caller[i], NULL);
    ck_assert(!atomic_load(&bad));
}
END_TEST

/* ---- what a worker is ---- */

static void look_at_signals(void *context, int64_t item, int thread)
{
    (void)item;
    for (int i = 0; thread == 0 && i < PATIENCE; i++)
        if (atomic_load((atomic_int *)context) == 0)
            nap(1);
    if (thread == 0)
        return;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    for (int s = 1; s < 32; s++)
        if (s != SIGKILL && s != SIGSTOP && !sigismember(&blocked, s))
            atomic_store((atomic_int *)context, -s);
    int none = 0;
    atomic_compare_exchange_strong((atomic_int *)context, &none, 1);
}

START_TEST(workers_block_every_signal_and_the_caller_keeps_its_mask)
{
    atomic_int seen = 0; /* 1: a worker looked; negative: a signal it would take */
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    ck_assert_int_eq(natten_parallel_run(3, 3, look_at_signals, &seen), NATTEN_OK);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    ck_assert_int_eq(atomic_load(&seen), 1);
    for (int s = 1; s < 32; s++)
        ck_assert_int_eq(sigismember(&before, s), sigismember(&after, s));
}
END_TEST

/* ---- cancelling ---- */

/* What the callback was asked, and says. */
typedef struct asked {
    int stop_at; /* say stop from this poll on; 0: never */
    atomic_int polls;
    atomic_bool said_stop;
} asked;

static int32_t answer(void *user)
{
    asked *a = user;
    int poll = atomic_fetch_add(&a->polls, 1) + 1;
    if (a->stop_at == 0 || poll < a->stop_at)
        return 0;
    atomic_store(&a->said_stop, true);
    return 1;
}

/* Many items, and how many were begun once the callback had said stop. */
typedef struct stopping {
    asked a;
    atomic_int late_caller, late_workers;
} stopping;

static void begin_item(void *context, int64_t item, int thread)
{
    (void)item;
    stopping *e = context;
    bool late = atomic_load(&e->a.said_stop);
    if (late)
        atomic_fetch_add(thread == 0 ? &e->late_caller : &e->late_workers, 1);
    nap(1);
    /* The caller may take its time to pass on what its callback said. */
    for (int i = 0; late && i < PATIENCE && !natten_parallel_cancelled(); i++)
        nap(1);
}

START_TEST(a_callback_that_says_stop_ends_the_run)
{
    stopping e = {.a = {.stop_at = 4}};
    natten_parallel_set_callback(answer, &e.a);
    natten_parallel_enter();
    ck_assert_int_eq(natten_parallel_run(_i, 100 * ITEMS, begin_item, &e),
                     NATTEN_ERR_INTERRUPTED);
    ck_assert_int_eq(atomic_load(&e.a.polls), 4);
    ck_assert_int_eq(atomic_load(&e.late_caller), 0);
    ck_assert_int_le(atomic_load(&e.late_workers), _i - 1);
    ck_assert_int_ne(natten_parallel_cancelled(), 0);
    natten_parallel_enter(); /* the next call is not stopped by the last one's answer */
    e.a.stop_at = 0;
    ck_assert(run_is_complete(_i, 20));
    natten_parallel_set_callback(NULL, NULL);
}
END_TEST

/* Items ask for themselves, too: a worker's see what the caller's callback said. Item 0
 * is the caller's or the worker's; each waits until the run is stopped. */
static void wait_for_stop(void *context, int64_t item, int thread)
{
    (void)item, (void)thread;
    while (!natten_parallel_cancelled())
        nap(1);
    atomic_fetch_add((atomic_int *)context, 1);
}

/* Item i waits until item i - 1 has counted itself. */
typedef struct queue {
    atomic_int done[ITEMS];
    int value[ITEMS];
} queue;

static void wait_for_last(void *context, int64_t item, int thread)
{
    (void)thread;
    queue *q = context;
    if (item > 0 && !natten_parallel_await(&q->done[item - 1], 1))
        return;
    q->value[item] = item > 0 ? q->value[item - 1] + 1 : 1;
    atomic_exchange(&q->done[item], 1);
}

START_TEST(an_item_may_wait_for_one_before_it)
{
    static const int threads[] = {1, 2, 3, 7, 64};
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        queue *q = calloc(1, sizeof *q);
        ck_assert_int_eq(natten_parallel_run(threads[t], ITEMS, wait_for_last, q),
                         NATTEN_OK);
        ck_assert_int_eq(q->value[ITEMS - 1], ITEMS);
        free(q);
    }
}
END_TEST

/* Nobody raises the counter. */
typedef struct vain {
    atomic_int begun, never, left;
} vain;

static void wait_in_vain(void *context, int64_t item, int thread)
{
    (void)item, (void)thread;
    vain *v = context;
    atomic_fetch_add(&v->begun, 1);
    if (!natten_parallel_await(&v->never, 1))
        atomic_fetch_add(&v->left, 1);
}

/* Stop, once both items have begun. */
static int32_t both_have_begun(void *context)
{
    return atomic_load(&((vain *)context)->begun) == 2;
}

START_TEST(a_stopped_run_lets_those_go_that_wait)
{
    vain v = {0};
    natten_parallel_set_callback(both_have_begun, &v);
    ck_assert_int_eq(natten_parallel_run(2, 2, wait_in_vain, &v),
                     NATTEN_ERR_INTERRUPTED);
    natten_parallel_set_callback(NULL, NULL);
    ck_assert_int_eq(atomic_load(&v.left), 2);
}
END_TEST

START_TEST(a_long_item_learns_of_the_stop_on_every_thread)
{
    atomic_int left = 0;
    asked a = {.stop_at = 4};
    natten_parallel_set_callback(answer, &a);
    natten_parallel_enter();
    ck_assert_int_eq(natten_parallel_run(2, 2, wait_for_stop, &left),
                     NATTEN_ERR_INTERRUPTED);
    natten_parallel_enter();
    ck_assert_int_ge(atomic_load(&left), 1);
    a.stop_at = 0;
    ck_assert_int_eq(natten_parallel_cancelled(), 0);
    natten_parallel_set_callback(NULL, NULL);
}
END_TEST

typedef struct slow_worker {
    asked a;
    atomic_bool joined;
    atomic_int polls; /* while the worker was at its item */
} slow_worker;

/* The caller leaves an item to the worker, which is at it until the callback has been
 * asked five times more. */
static void only_workers_are_slow(void *context, int64_t item, int thread)
{
    (void)item;
    slow_worker *w = context;
    if (thread > 0)
        atomic_store(&w->joined, true);
    int before = atomic_load(&w->a.polls), polls = 0;
    for (int i = 0; i < PATIENCE; i++) {
        polls = atomic_load(&w->a.polls) - before;
        if (thread > 0 ? polls >= 5 : atomic_load(&w->joined))
            break;
        nap(1);
    }
    if (thread > 0)
        atomic_store(&w->polls, polls);
}

START_TEST(the_callback_is_asked_while_the_caller_waits)
{
    slow_worker w = {.joined = false};
    atomic_store(&waits, 0);
    atomic_store(&longest_wait_ms, 0);
    natten_parallel_set_callback(answer, &w.a);
    ck_assert_int_eq(natten_parallel_run(2, 2, only_workers_are_slow, &w), NATTEN_OK);
    natten_parallel_set_callback(NULL, NULL);
    ck_assert(atomic_load(&w.joined));
    ck_assert_int_ge(atomic_load(&w.polls), 5);
    ck_assert_int_ge(atomic_load(&waits), 4);
    ck_assert_int_le(atomic_load(&longest_wait_ms), 50); /* natten.h promises so */
}
END_TEST

START_TEST(the_callback_is_not_asked_more_often_than_every_ten_milliseconds)
{
    asked a = {.stop_at = 6};
    int64_t begin = milliseconds();
    natten_parallel_set_callback(answer, &a);
    natten_parallel_enter();
    for (int i = 0; i < PATIENCE && !natten_parallel_cancelled(); i++)
        nap(1);
    ck_assert_int_eq(atomic_load(&a.polls), 6);
    ck_assert_int_ge(milliseconds() - begin, 5 * 10 - 1);
    natten_parallel_set_callback(NULL, NULL);
    natten_parallel_enter();
}
END_TEST

/* ---- fork ---- */

/* A child that tells its parent through a pipe how it went. */
typedef struct child {
    pid_t id; /* 0 in the child */
    int pipe[2];
} child;

static child make_child(void)
{
    child c;
    ck_assert_int_eq(pipe(c.pipe), 0);
    c.id = fork();
    return c;
}

/* End a child. Not by exit(): leak checkers would see the memory of threads that the
 * fork left behind. */
static void end_child(const child *c, bool good)
{
    char answer = good ? 'y' : 'n';
    if (write(c->pipe[1], &answer, 1) == 1)
        kill(getpid(), SIGKILL);
    _exit(1);
}

/* Did it go well, within five seconds? */
static bool child_is_good(const child *c)
{
    struct pollfd ready = {.fd = c->pipe[0], .events = POLLIN};
    char answer = 'n';
    if (poll(&ready, 1, 5000) != 1 || read(c->pipe[0], &answer, 1) != 1)
        kill(c->id, SIGKILL);
    waitpid(c->id, NULL, 0);
    close(c->pipe[0]);
    close(c->pipe[1]);
    return answer == 'y';
}

START_TEST(a_hundred_children_of_a_used_pool_work)
{
    for (int i = 0; CAN_FORK && i < 100; i++) {
        ck_assert(run_is_complete(4, 100));
        child c = make_child();
        if (c.id == 0)
            end_child(&c, run_is_complete(4, 100) && run_is_complete(2, 3));
        ck_assert(child_is_good(&c));
    }
}
END_TEST

static atomic_bool enough;

static void *run_until_enough(void *bad)
{
    while (!atomic_load(&enough))
        run_many(bad);
    return NULL;
}

START_TEST(children_made_while_other_threads_are_in_runs_work)
{
    enum { CALLERS = 3 };
    pthread_t caller[CALLERS];
    atomic_bool bad = false;
    atomic_store(&enough, false);
    for (int i = 0; i < CALLERS; i++)
        ck_assert_int_eq(pthread_create(&caller[i], NULL, run_until_enough, &bad), 0);
    bool good = true;
    for (int i = 0; CAN_FORK_BESIDE_OTHERS && i < 100 && good; i++) {
        child c = make_child();
        if (c.id == 0)
            end_child(&c, run_is_complete(4, 100));
        good = child_is_good(&c);
    }
    atomic_store(&enough, true);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(caller[i], NULL);
    ck_assert(good);
    ck_assert(!atomic_load(&bad));
}
END_TEST

static int32_t fork_once(void *user)
{
    child *c = user;
    if (c->id == -1)
        *c = make_child();
    return 0;
}

START_TEST(a_child_made_by_the_callback_gets_its_run_interrupted)
{
    if (!CAN_FORK)
        return;
    tally *t = calloc(1, sizeof *t);
    t->nap_ms = 5;
    child c = {.id = -1};
    natten_parallel_set_callback(fork_once, &c);
    natten_status status = natten_parallel_run(3, 60, count_item, t);
    natten_parallel_set_callback(NULL, NULL);
    if (c.id == 0)
        end_child(&c, status == NATTEN_ERR_INTERRUPTED && run_is_complete(3, 60));
    ck_assert_int_eq(status, NATTEN_OK);
    ck_assert(child_is_good(&c));
    free(t);
}
END_TEST

START_TEST(a_process_may_exit_while_workers_sleep)
{
    if (!CAN_FORK)
        return;
    pid_t id = fork(); /* before there is a pool: the child's is all its own */
    if (id == 0) {
        run_is_complete(4, 100);
        exit(7);
    }
    int status;
    ck_assert_int_eq(waitpid(id, &status, 0), id);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}
END_TEST

static volatile double one = 1, three = 3;

static void divide(void *context, int64_t item, int thread)
{
    (void)item;
    nap(2);
    if (thread > 0 && one / three != 1.0 / 3)
        atomic_store((atomic_bool *)context, true);
}

START_TEST(workers_round_to_nearest_whoever_made_them)
{
    if (!CAN_FORK)
        return;
    child c = make_child(); /* where the pool has no threads yet */
    if (c.id == 0) {
        atomic_bool bad = false;
        fesetround(FE_UPWARD);
        natten_parallel_run(3, 30, divide, &bad);
        end_child(&c, !atomic_load(&bad));
    }
    ck_assert(child_is_good(&c));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("parallel");
    TCase *tests = tcase_create("parallel");
    /* These two come first, while there are no workers. */
    tcase_add_test(tests, a_run_of_one_thread_or_one_item_makes_no_pool);
    tcase_add_test(tests, a_process_may_exit_while_workers_sleep);
    tcase_add_test(tests, without_threads_to_be_had_the_caller_does_everything);
    tcase_add_test(tests, every_item_is_done_once);
    tcase_add_test(tests, workers_share_the_items);
    tcase_add_test(tests, a_run_inside_a_run_works);
    tcase_add_test(tests, runs_of_many_threads_at_once_work);
    tcase_add_test(tests, workers_block_every_signal_and_the_caller_keeps_its_mask);
    tcase_add_loop_test(tests, a_callback_that_says_stop_ends_the_run, 1, 4);
    tcase_add_test(tests, an_item_may_wait_for_one_before_it);
    tcase_add_test(tests, a_stopped_run_lets_those_go_that_wait);
    tcase_add_test(tests, a_long_item_learns_of_the_stop_on_every_thread);
    tcase_add_test(tests, the_callback_is_asked_while_the_caller_waits);
    tcase_add_test(tests,
                   the_callback_is_not_asked_more_often_than_every_ten_milliseconds);
    tcase_add_test(tests, a_hundred_children_of_a_used_pool_work);
    tcase_add_test(tests, children_made_while_other_threads_are_in_runs_work);
    tcase_add_test(tests, a_child_made_by_the_callback_gets_its_run_interrupted);
    tcase_add_test(tests, workers_round_to_nearest_whoever_made_them);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
