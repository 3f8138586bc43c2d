/* SPDX-License-Identifier: MIT
 *
 * Counting processors: core/base/cpus.c.  Control groups are plain files, so a
 * directory made by the test stands for the machine. */
#include "base/cpus.h"

#include "support/tap.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void make_root(void)
{
    strcpy(root, "/tmp/natten-cpus-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void remove_root(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    ck_assert_int_eq(system(command), 0);
}

/* Write a file under the root, making the directories above it. */
static void put(const char *path, const char *content)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    ck_assert_ptr_nonnull(file);
    fputs(content, file);
    fclose(file);
}

START_TEST(no_files_mean_no_quota)
{
    ck_assert_int_eq(natten_cpus_quota(root), 0);
    put("/proc/self/cgroup", "0::/a/b\n");
    ck_assert_int_eq(natten_cpus_quota(root), 0);
}
END_TEST

START_TEST(the_smallest_quota_of_version_2_on_the_way_up_counts)
{
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    ck_assert_int_eq(natten_cpus_quota(root), 0);
    put("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    ck_assert_int_eq(natten_cpus_quota(root), 3);
    put("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
    ck_assert_int_eq(natten_cpus_quota(root), 3);
    put("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    ck_assert_int_eq(natten_cpus_quota(root), 1);
}
END_TEST

START_TEST(a_container_reads_the_root_of_its_mount)
{
    put("/proc/self/cgroup", "0::/../../outside/group\n");
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    ck_assert_int_eq(natten_cpus_quota(root), 2);
    put("/proc/self/cgroup", "0::/\n");
    ck_assert_int_eq(natten_cpus_quota(root), 2);
}
END_TEST

START_TEST(version_1_has_two_files_under_the_cpu_controller)
{
    put("/proc/self/cgroup", "11:memory:/m\n4:cpuacct,cpu:/job\n3:cpuset:/s\n");
    put("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "150000\n");
    put("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(natten_cpus_quota(root), 2);
    put("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
    ck_assert_int_eq(natten_cpus_quota(root), 0);
}
END_TEST

START_TEST(damaged_files_mean_no_quota)
{
    static const char *const groups[] = {"", "\n", "nonsense", "0:", "0:::\n", ":::::"};
    static const char *const quotas[] = {"",          "x y",    "0 0",  "100000 0",
                                         "-5 100000", "100000", "\n\n", "1e5 100000"};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        put("/proc/self/cgroup", groups[i]);
        ck_assert_int_eq(natten_cpus_quota(root), 0);
    }
    put("/proc/self/cgroup", "0::/a\n");
    for (size_t i = 0; i < sizeof quotas / sizeof quotas[0]; i++) {
        put("/sys/fs/cgroup/a/cpu.max", quotas[i]);
        ck_assert_int_eq(natten_cpus_quota(root), 0);
    }
    put("/sys/fs/cgroup/a/cpu.max", "9223372036854775807 1\n");
    ck_assert_int_gt(natten_cpus_quota(root), 1 << 30);
}
END_TEST

START_TEST(a_smaller_affinity_mask_lowers_the_count)
{
    cpu_set_t before, one;
    ck_assert_int_ge(natten_cpus_count(), 1);
    ck_assert_int_eq(sched_getaffinity(0, sizeof before, &before), 0);
    ck_assert_int_le(natten_cpus_count(), CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    int count = natten_cpus_count();
    sched_setaffinity(0, sizeof before, &before);
    ck_assert_int_eq(count, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpus");
    TCase *tests = tcase_create("cpus");
    tcase_add_checked_fixture(tests, make_root, remove_root);
    tcase_add_test(tests, no_files_mean_no_quota);
    tcase_add_test(tests, the_smallest_quota_of_version_2_on_the_way_up_counts);
    tcase_add_test(tests, a_container_reads_the_root_of_its_mount);
    tcase_add_test(tests, version_1_has_two_files_under_the_cpu_controller);
    tcase_add_test(tests, damaged_files_mean_no_quota);
    tcase_add_test(tests, a_smaller_affinity_mask_lowers_the_count);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
