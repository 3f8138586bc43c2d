/* SPDX-License-Identifier: MIT
 *
 * One range of rows per thread, the first on the calling thread.  The work comes once
 * per picture and takes milliseconds: threads are simply started and joined.  Where one
 * can't be started its rows are done here. */
#include "rows.h"

#include <natten.h>

#include <pthread.h>
#include <stdbool.h>

enum { MOST_THREADS = 64 };

typedef struct range {
    rows_work *work;
    void *data;
    int64_t begin, end;
    pthread_t thread;
    bool started;
} range;

static void *run_range(void *argument)
{
    range *own = argument;
    own->work(own->data, own->begin, own->end);
    return NULL;
}

void rows_run(rows_work *work, void *data, int64_t count)
{
    range ranges[MOST_THREADS];
    int threads = natten_get_num_threads();
    threads = threads < MOST_THREADS ? threads : MOST_THREADS;
    for (int i = 0; i < threads; i++) {
        ranges[i] =
            (range){work, data, count * i / threads, count * (i + 1) / threads, 0, 0};
        if (i > 0 && ranges[i].begin < ranges[i].end)
            ranges[i].started =
                pthread_create(&ranges[i].thread, NULL, run_range, &ranges[i]) == 0;
    }
    for (int i = 0; i < threads; i++)
        if (ranges[i].started)
            pthread_join(ranges[i].thread, NULL);
        else
            run_range(&ranges[i]);
}
