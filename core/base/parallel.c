/* SPDX-License-Identifier: MIT
 *
 * The thread pool (docs/decisions/thread-pool.md says why it is our own).
 *
 * One pool per process, made at the first run that can use it and grown on demand.  A
 * run is a job on its caller's stack.  The caller works on it at once and takes items
 * from an atomic counter; sleeping workers that wake up in time join in.  When the
 * counter is used up, the caller withdraws the job, so that a worker that wakes late
 * costs nothing, and waits only for those that are still at an item.  Who has nothing
 * to do stays awake for some microseconds before it sleeps: the next run of a call
 * comes sooner than a sleeper would wake.
 *
 *     caller   post, wake | item 0 | item 2 | item 4 | withdraw, wait    | return
 *     worker      ~~~~ join | item 1 | item 3 |  item 5    | leave  ~~~~ sleep
 *     worker                        ~~~~ too late, nothing to join ~~~~ sleep
 *
 * One job at a time: a run that finds the pool taken, by another thread or because it
 * is itself inside an item, does its items alone, which is always correct.  What is
 * in `pool` is guarded by its mutex, apart from `taken`; who lingers reads `posted` or
 * `active` without it, and looks again with it.  The mutex is never held while an item
 * or the cancel callback runs. */
#include "base/parallel.h"

#include "base/floatmode.h"
#include "base/status.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

/* The counter and the stop flag have cache lines of their own: the first is written at
 * every item, the second only at the end. Items begin in the counter's order, which
 * natten_parallel_await() stands on. */
typedef struct job {
    natten_parallel_body *body;
    void *context;
    int64_t items;
    int helpers; /* workers with a smaller index may join */
    _Alignas(64) atomic_int_fast64_t next;
    _Alignas(64) atomic_bool stop;
} job;

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t work; /* a job is there, or the pool is closing */
    pthread_cond_t done; /* the last worker has left the job */
    pthread_t thread[NATTEN_MAX_THREADS];
    int threads;         /* workers that exist */
    job *job;            /* open for joining; NULL: none */
    atomic_ulong posted; /* jobs so far: a worker joins each at most once */
    atomic_ulong active; /* workers inside the job */
    bool closing;        /* the process is ending */
    atomic_bool taken;   /* a run owns the pool */
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

/* This thread's cancel callback, the job whose items it does, and its job while it is
 * inside a run that owns the pool. */
static _Thread_local struct {
    natten_cancel_callback callback;
    void *user;
    int64_t next_poll; /* nanoseconds of the monotonic clock */
    bool stopped;      /* it has said stop during this call */
    job *now;
    job *owned;
} self;

static const int64_t poll_interval = 10 * 1000 * 1000; /* nanoseconds */
static const int64_t awake = 50 * 1000;                /* before going to sleep */

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int natten_parallel_cancelled(void)
{
    if (self.now && atomic_load_explicit(&self.now->stop, memory_order_relaxed))
        return 1;
    if (!self.callback || self.stopped)
        return self.stopped;
    int64_t time = now();
    if (time < self.next_poll)
        return 0;
    self.stopped = self.callback(self.user) != 0;
    self.next_poll = now() + poll_interval;
    return self.stopped;
}

/* Mostly the other is about to get there. A waiter who sleeps leaves the processor to
 * it, if there are more threads than processors. */
bool natten_parallel_await(const atomic_int *counter, int least)
{
    int64_t end = 0;
    while (atomic_load_explicit(counter, memory_order_acquire) < least) {
        if (natten_parallel_cancelled())
            return false;
        end = end ? end : now() + awake;
        if (now() < end)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = awake}, NULL);
    }
    return true;
}

static natten_status interrupted(void)
{
    return natten_status_fail(
        NATTEN_ERR_INTERRUPTED,
        "stopped by the cancel callback; the outputs are unspecified");
}

natten_status natten_parallel_poll(void)
{
    return natten_parallel_cancelled() ? interrupted() : NATTEN_OK;
}

void natten_parallel_enter(void)
{
    self.stopped = false;
}

void natten_parallel_set_callback(natten_cancel_callback callback, void *user)
{
    self.callback = callback;
    self.user = user;
    self.next_poll = 0;
    self.stopped = false;
}

/* An exchange, here and for pool.taken, where a store would do: helgrind knows locked
 * instructions, but takes an atomic store for a plain one. */
static void stop(job *j)
{
    atomic_exchange(&j->stop, true);
}

/* Take items until there are none left or the job is stopped. */
static void work(job *j, int thread)
{
    job *outer = self.now;
    self.now = j;
    while (!atomic_load_explicit(&j->stop, memory_order_relaxed)) {
        int64_t item = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (item >= j->items)
            break;
        j->body(j->context, item, thread);
        if (thread == 0 && natten_parallel_cancelled())
            stop(j);
    }
    self.now = outer;
}

/* Wait awake for a counter to leave `value`, giving way to threads that want the
 * processor; did it? The mutex is held, and let go meanwhile. */
static bool linger(const atomic_ulong *counter, unsigned long value)
{
    pthread_mutex_unlock(&pool.mutex);
    int64_t end = now() + awake;
    while (atomic_load_explicit(counter, memory_order_relaxed) == value && now() < end)
        sched_yield();
    pthread_mutex_lock(&pool.mutex);
    return *counter != value;
}

static void *worker(void *argument)
{
    int index = (int)(intptr_t)argument;
    natten_floatmode_enter(); /* for good: this thread does nothing else */
    pthread_mutex_lock(&pool.mutex);
    unsigned long seen = 0;
    bool tired = true;
    while (!pool.closing) {
        job *j = pool.job;
        if (!j || pool.posted == seen || index >= j->helpers) {
            if (tired)
                pthread_cond_wait(&pool.work, &pool.mutex);
            else
                linger(&pool.posted, seen);
            tired = true;
            continue;
        }
        seen = pool.posted;
        pool.active++;
        pthread_mutex_unlock(&pool.mutex);
        work(j, index + 1);
        tired = false;
        pthread_mutex_lock(&pool.mutex);
        if (--pool.active == 0)
            pthread_cond_signal(&pool.done);
    }
    pthread_mutex_unlock(&pool.mutex);
    return NULL;
}

/* ---- fork: the child has only the thread that forked ---- */

static void make_conditions(void)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool.work, NULL);
    pthread_cond_init(&pool.done, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void before_fork(void)
{
    pthread_mutex_lock(&pool.mutex);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&pool.mutex);
}

static void after_fork_in_child(void)
{
    pool.threads = 0;
    pool.job = NULL;
    pool.active = 0;
    make_conditions();
    /* Forked by the cancel callback: the items that workers held are lost. */
    if (self.owned)
        stop(self.owned);
    else
        atomic_exchange(&pool.taken, false);
    pthread_mutex_unlock(&pool.mutex);
}

static void make_pool(void)
{
    make_conditions();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* At exit the workers are joined, so that a leak checker finds nothing of theirs; runs
 * that other threads make from then on work alone. */
__attribute__((destructor)) static void close_pool(void)
{
    pthread_mutex_lock(&pool.mutex);
    pool.closing = true;
    if (pool.job)
        stop(pool.job);
    int threads = pool.threads;
    pool.threads = 0;
    if (threads)
        pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
    for (int i = 0; i < threads; i++)
        pthread_join(pool.thread[i], NULL);
}

/* ---- a run ---- */

/* Have `helpers` workers, or as many as the system gives. The mutex is held. Workers
 * take no signals: those are for the threads that the program knows of. */
static void grow(int helpers)
{
    if (pool.threads >= helpers || pool.closing)
        return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    bool sized = pthread_attr_init(&attributes) == 0;
    if (sized) /* glibc's default can be the whole of RLIMIT_STACK, or RLIMIT_AS away */
        pthread_attr_setstacksize(&attributes, 2 << 20);
    while (pool.threads < helpers &&
           pthread_create(&pool.thread[pool.threads], sized ? &attributes : NULL,
                          worker, (void *)(intptr_t)pool.threads) == 0)
        pool.threads++;
    if (sized)
        pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void post(job *j)
{
    pthread_mutex_lock(&pool.mutex);
    grow(j->helpers);
    pool.job = j;
    pool.posted++;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
}

/* Nobody joins any more; wait for those inside, polling the callback meanwhile. */
static void withdraw(job *j)
{
    pthread_mutex_lock(&pool.mutex);
    pool.job = NULL;
    while (pool.active > 0 && linger(&pool.active, pool.active))
        ;
    while (pool.active > 0) {
        if (!self.callback || self.stopped) {
            pthread_cond_wait(&pool.done, &pool.mutex);
            continue;
        }
        int64_t until = now() + poll_interval;
        struct timespec limit = {until / 1000000000, until % 1000000000};
        pthread_cond_timedwait(&pool.done, &pool.mutex, &limit);
        pthread_mutex_unlock(&pool.mutex);
        if (natten_parallel_cancelled())
            stop(j);
        pthread_mutex_lock(&pool.mutex);
    }
    pthread_mutex_unlock(&pool.mutex);
}

natten_status natten_parallel_run(int threads, int64_t items,
                                  natten_parallel_body *body, void *context)
{
    job j = {.body = body, .context = context, .items = items};
    if (threads > NATTEN_MAX_THREADS)
        threads = NATTEN_MAX_THREADS;
    j.helpers = (int)(items < threads ? items : threads) - 1;
    bool alone = j.helpers < 1;
    if (!alone) {
        pthread_once(&pool_once, make_pool);
        alone = atomic_exchange(&pool.taken, true);
    }
    if (alone) {
        work(&j, 0);
    } else {
        self.owned = &j;
        post(&j);
        work(&j, 0);
        withdraw(&j);
        self.owned = NULL;
        atomic_exchange(&pool.taken, false);
    }
    if (atomic_load_explicit(&j.stop, memory_order_relaxed))
        return interrupted();
    return NATTEN_OK;
}
