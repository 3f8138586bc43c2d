/* SPDX-License-Identifier: MIT
 *
 * Threads: a pool that the calling thread works with, that survives fork, and in which
 * every item of work is done by exactly one thread.  Which thread does which item is
 * not fixed, so an item's result must depend on the item alone. */
#ifndef NATTEN_BASE_PARALLEL_H
#define NATTEN_BASE_PARALLEL_H

#include <natten.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Most threads a call can use. */
enum { NATTEN_MAX_THREADS = 256 };

/* One item, on thread 0 .. threads - 1 of the call; thread 0 is the caller. */
typedef void natten_parallel_body(void *context, int64_t item, int thread);

/* Run body for item 0 .. items - 1 on at most `threads` threads. Between its items, and
 * while it waits for the others, the caller polls the cancel callback; once that says
 * stop, items not begun are dropped and the result is NATTEN_ERR_INTERRUPTED. Items
 * begin in their order, so that one may wait for those before it. Runs inside a run
 * (nested) and runs from several threads at once are legal; those that find the pool
 * busy work alone. */
natten_status natten_parallel_run(int threads, int64_t items,
                                  natten_parallel_body *body, void *context);

/* Ask the cancel callback of this thread, at most every 10 ms: true means stop, and
 * stays true until the call is over. For long work on one thread. Inside an item it is
 * also true once the run has been stopped, on whichever thread: a long item asks, and
 * may leave its work undone. */
int natten_parallel_cancelled(void);
/* Wait, inside an item, until another one has raised a counter to `least`; what it
 * wrote before is then seen. False if the run has been stopped: the other may never
 * come. */
bool natten_parallel_await(const atomic_int *counter, int least);

/* The same as natten_parallel_cancelled(), as a status, with the sentence of a stopped
 * call. */
natten_status natten_parallel_poll(void);

/* A public call begins on this thread: a stop of the call before is forgotten. */
void natten_parallel_enter(void);

/* See natten_set_cancel_callback() in natten.h. */
void natten_parallel_set_callback(natten_cancel_callback callback, void *user);

#endif
