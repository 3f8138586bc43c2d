/* SPDX-License-Identifier: MIT
 *
 * CPUs by affinity and by cgroup quota.  A container with two CPUs' worth of time on a
 * big host would otherwise start a thread per host CPU and be throttled.  A quota may
 * stand on any level between this process's group and the root; the smallest counts.
 * Inside a container the group's path may lie outside what is mounted: the mount's own
 * root is read too. */
#include "base/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 + 256 };

/* First line of a file; 0 if there is none. */
static int read_line(const char *path, char *line, int bytes)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    int got = fgets(line, bytes, file) != NULL;
    fclose(file);
    return got;
}

static int cpus_of(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    long long cpus = quota / period + (quota % period != 0);
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

/* Quota written in one directory, 0 if none. */
static int quota_of_directory(const char *directory, int version)
{
    char path[PATH_BYTES + 32], line[128];
    long long quota = 0, period = 0;
    if (version == 2) {
        snprintf(path, sizeof path, "%s/cpu.max", directory);
        if (!read_line(path, line, sizeof line) ||
            sscanf(line, "%lld %lld", &quota, &period) != 2)
            return 0;
        return cpus_of(quota, period);
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lld", &quota) != 1)
        return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lld", &period) != 1)
        return 0;
    return cpus_of(quota, period);
}

static int smaller_quota(int a, int b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Smallest quota of `mount`/`group` and all directories above it up to `mount`. */
static int quota_of_group(const char *mount, const char *group, int version)
{
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof path)
        return 0;
    int quota = 0;
    size_t end = strlen(mount);
    for (;;) {
        quota = smaller_quota(quota, quota_of_directory(path, version));
        char *slash = strrchr(path, '/');
        if (!slash || (size_t)(slash - path) < end)
            return quota;
        *slash = '\0';
    }
}

/* Does a comma-separated list hold the controller "cpu"? */
static int lists_cpu(const char *controllers)
{
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, "cpu", 3) == 0 && (at[3] == ',' || at[3] == '\0'))
            return 1;
    }
    return 0;
}

int natten_cpus_quota(const char *root)
{
    char path[PATH_BYTES], mount[PATH_BYTES], line[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    int quota = 0;
    while (fgets(line, sizeof line, file)) { /* "0::/group" or "4:cpu,cpuacct:/group" */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        controllers++;
        if (strcmp(group, "/") == 0)
            group = line + strlen(line);
        if (*controllers == '\0') {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
            quota = smaller_quota(quota, quota_of_group(mount, group, 2));
        } else if (lists_cpu(controllers)) {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu", root);
            quota = smaller_quota(quota, quota_of_group(mount, group, 1));
        }
    }
    fclose(file);
    return quota;
}

static int affinity_count(void)
{
#ifdef __linux__
    /* The kernel refuses a mask smaller than its own: offer larger ones until it fits.
     */
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set)
            break;
        size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
        int found = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (found > 0)
            return found;
    }
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

int natten_cpus_count(void)
{
    int cpus = affinity_count(), quota = natten_cpus_quota("");
    return quota > 0 && quota < cpus ? quota : cpus;
}
