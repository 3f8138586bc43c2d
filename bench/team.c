/* SPDX-License-Identifier: MIT
 *
 * A team is made for each measurement, a CPU for each thread, and gone afterwards: two
 * threads that share a CPU while another one idles would halve a limit. */
#include "team.h"

#include "base/parallel.h"
#include "pin.h"
#include "yardstick.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct team {
    team_body *body;
    void *context;
    pthread_barrier_t start;
} team;

typedef struct member {
    team *of;
    int thread;
    double begin, end;
} member;

static void *work(void *argument)
{
    member *m = argument;
    pin_self(m->thread);
    pthread_barrier_wait(&m->of->start);
    m->begin = yardstick_now();
    m->of->body(m->of->context, m->thread);
    m->end = yardstick_now();
    return NULL;
}

double team_run(int threads, team_body *body, void *context)
{
    team t = {.body = body, .context = context};
    member m[NATTEN_MAX_THREADS];
    pthread_t id[NATTEN_MAX_THREADS];
    pthread_barrier_init(&t.start, NULL, (unsigned)threads);
    for (int n = 0; n < threads; n++)
        m[n] = (member){.of = &t, .thread = n};
    for (int n = 0; n < threads; n++)
        if (pthread_create(&id[n], NULL, work, &m[n]) != 0) {
            fprintf(stderr, "natten-bench: no %d threads to be had\n", threads);
            exit(3);
        }
    double begin = HUGE_VAL, end = -HUGE_VAL;
    for (int n = 0; n < threads; n++) {
        pthread_join(id[n], NULL);
        begin = fmin(begin, m[n].begin);
        end = fmax(end, m[n].end);
    }
    pthread_barrier_destroy(&t.start);
    return end - begin;
}
