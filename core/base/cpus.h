/* SPDX-License-Identifier: MIT
 *
 * How many processors this process may use. */
#ifndef NATTEN_BASE_CPUS_H
#define NATTEN_BASE_CPUS_H

/* CPUs of the affinity mask, at most the cgroup's quota (rounded up), at least 1. */
int natten_cpus_count(void);

/* The quota of control groups v1 and v2 alone, in CPUs rounded up, with file names
 * taken below `root` ("" for this machine's own): 0 when there is none. */
int natten_cpus_quota(const char *root);

#endif
