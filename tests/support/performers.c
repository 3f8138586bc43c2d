/* SPDX-License-Identifier: MIT
 *
 * The list of performers, see performers.h. */
#include "support/performers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int performers_on_host(performer list[MOST_PERFORMERS])
{
    int count = 1;
    list[0] = (performer){.backend = NATTEN_BACKEND_REFERENCE, .name = "reference"};
    const char *next = natten_cpu_variants();
    while (*next != '\0' && count < MOST_PERFORMERS) {
        size_t length = strcspn(next, " ");
        performer *p = &list[count++];
        p->backend = NATTEN_BACKEND_CPU;
        snprintf(p->variant, sizeof p->variant, "%.*s", (int)length, next);
        snprintf(p->name, sizeof p->name, "cpu %s", p->variant);
        next += length;
        next += *next == ' ';
    }
    return count;
}

int performers_list(performer list[MOST_PERFORMERS])
{
    int count = performers_on_host(list);
    if (natten_device_count() > 0 && count < MOST_PERFORMERS)
        list[count++] = (performer){.backend = NATTEN_BACKEND_CUDA, .name = "cuda"};
    return count;
}

void performer_enter(const performer *p)
{
    if (p->backend == NATTEN_BACKEND_CPU &&
        natten_set_cpu_variant(p->variant) != NATTEN_OK)
        abort(); /* a variant that was listed but can't be had */
}

void performers_leave(void)
{
    natten_set_cpu_variant(NULL);
    natten_set_num_threads(0);
}

int test_effort(int problems)
{
    const char *text = getenv("NATTEN_TEST_EFFORT");
    double effort = text != NULL ? atof(text) : 1;
    double wanted = problems * effort;
    return wanted < 1 ? 1 : wanted > 1e8 ? 100000000 : (int)wanted;
}
