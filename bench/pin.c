/* SPDX-License-Identifier: MIT
 *
 * Linux's affinity masks.  A library's own threads are found in /proc/self/task: those
 * that were not there before.  Their numbers mostly grow in the order in which threads
 * are made, and begin anew when the kernel has used them all. */
#include "pin.h"

#include <dirent.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

static int cpus[CPU_SETSIZE], cpu_count;
static long *known; /* threads that pin_all() has placed */
static int known_count;

void pin_open(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    for (int n = 0; n < CPU_SETSIZE; n++)
        if (CPU_ISSET(n, &allowed))
            cpus[cpu_count++] = n;
}

static void pin(pid_t thread, int n)
{
    cpu_set_t one;
    if (cpu_count == 0)
        return;
    CPU_ZERO(&one);
    CPU_SET(cpus[n % cpu_count], &one);
    sched_setaffinity(thread, sizeof one, &one); /* it may have ended meanwhile */
}

void pin_self(int n)
{
    pin(0, n);
}

static int ascending(const struct dirent **a, const struct dirent **b)
{
    long x = atol((*a)->d_name), y = atol((*b)->d_name);
    return (x > y) - (x < y);
}

static bool is_known(long id)
{
    for (int i = 0; i < known_count; i++)
        if (known[i] == id)
            return true;
    return false;
}

static void know(long id)
{
    long *more = realloc(known, (size_t)(known_count + 1) * sizeof *known);
    if (more == NULL)
        return;
    known = more;
    known[known_count++] = id;
}

void pin_all(void)
{
    struct dirent **task;
    int count = scandir("/proc/self/task", &task, NULL, ascending);
    pin_self(0);
    for (int i = 0, n = 1; i < count; i++) {
        long id = atol(task[i]->d_name); /* 0 for "." and ".." */
        if (id > 0 && id != getpid() && !is_known(id)) {
            pin((pid_t)id, n++);
            know(id);
        }
        free(task[i]);
    }
    if (count >= 0)
        free(task);
}
