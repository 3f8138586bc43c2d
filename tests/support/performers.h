/* SPDX-License-Identifier: MIT
 *
 * Everybody who can do a task on this machine: the reference, and the cpu backend once
 * per instruction-set variant, and the first GPU.  What is not listed here is not
 * tested. */
#ifndef NATTEN_TESTS_SUPPORT_PERFORMERS_H
#define NATTEN_TESTS_SUPPORT_PERFORMERS_H

#include <natten.h>

typedef struct performer {
    natten_backend backend;
    char name[24]; /* "reference", "cpu avx2" */
    char variant[16];
} performer;

enum { MOST_PERFORMERS = 8 };

/* Fill the list; how many there are. A GPU takes trials through trial_run(), which
 * sends them there. */
int performers_list(performer list[MOST_PERFORMERS]);
/* The same without the GPU: for tests that call the library on arrays of their own. */
int performers_on_host(performer list[MOST_PERFORMERS]);
/* Make its variant that of later calls on NATTEN_BACKEND_CPU. */
void performer_enter(const performer *p);
/* Back to the default variant and number of threads. */
void performers_leave(void);

/* `problems` times the environment variable NATTEN_TEST_EFFORT, a decimal number (1 if
 * it is not set), but at least 1: how much of a random test to do. */
int test_effort(int problems);

#endif
