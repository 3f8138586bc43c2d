/* SPDX-License-Identifier: MIT
 *
 * What the machine is and how it is set: core/machine/machine.c and
 * core/machine/cpuid.c. The environment is read once a process, so each setting of it
 * gets a process of its own: this program again, with a word that makes it print what
 * it found. */
#include "machine/machine.h"

#include "base/cpus.h"
#include "machine/cpuid.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct answer {
    int threads;
    char variant[16];
    long long thread_work;
} answer;

/* What a process with these settings says. */
static answer ask(const char *settings)
{
    answer a = {0};
    char command[8192], self[4096] = "";
    const char *runner = getenv("NATTEN_TEST_RUNNER"); /* an emulator */
    ck_assert_int_gt(readlink("/proc/self/exe", self, sizeof self - 1), 0);
    snprintf(command, sizeof command,
             "env -u NATTEN_NUM_THREADS -u NATTEN_CPU_VARIANT -u NATTEN_THREAD_WORK %s "
             "%s '%s' print",
             settings, runner != NULL ? runner : "", self);
    FILE *pipe = popen(command, "r");
    ck_assert_int_eq(
        fscanf(pipe, "%d %15s %lld", &a.threads, a.variant, &a.thread_work), 3);
    ck_assert_int_eq(pclose(pipe), 0);
    return a;
}

static int print(void)
{
    natten_machine m = natten_machine_get();
    printf("%d %s %lld\n", m.threads, natten_machine_variant_name(m.variant),
           (long long)m.thread_work);
    return 0;
}

START_TEST(the_default_is_every_cpu_and_the_best_variant)
{
    answer a = ask("");
    ck_assert_int_eq(a.threads, natten_cpus_count());
    const char *list = natten_machine_variant_list(), *last = strrchr(list, ' ');
    ck_assert_str_eq(a.variant, last ? last + 1 : list);
    ck_assert_int_eq(a.thread_work, 100000); /* as natten.h says */
}
END_TEST

START_TEST(the_environment_sets_threads_their_work_and_variant)
{
    answer a =
        ask("NATTEN_NUM_THREADS=7 NATTEN_CPU_VARIANT=scalar NATTEN_THREAD_WORK=0");
    ck_assert_int_eq(a.threads, 7);
    ck_assert_str_eq(a.variant, "scalar");
    ck_assert_int_eq(a.thread_work, 0);
}
END_TEST

START_TEST(hostile_settings_are_ignored)
{
    static const char *const hostile[] = {
        "NATTEN_NUM_THREADS=0",
        "NATTEN_NUM_THREADS=257",
        "NATTEN_NUM_THREADS=-1",
        "NATTEN_NUM_THREADS=two",
        "NATTEN_NUM_THREADS=",
        "NATTEN_NUM_THREADS=2147483648000000000000000",
        "NATTEN_THREAD_WORK=-1",
        "NATTEN_THREAD_WORK=1000000001",
        "NATTEN_CPU_VARIANT=",
        "NATTEN_CPU_VARIANT=avx9000",
        "NATTEN_CPU_VARIANT=SCALAR",
        "NATTEN_CPU_VARIANT=../../../../etc/passwd",
        "NATTEN_CPU_VARIANT=scalarscalarscalarscalarscalar",
    };
    answer usual = ask("");
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        answer a = ask(hostile[i]);
        ck_assert_int_eq(a.threads, usual.threads);
        ck_assert_str_eq(a.variant, usual.variant);
        ck_assert_int_eq(a.thread_work, usual.thread_work);
    }
}
END_TEST

START_TEST(threads_can_be_set_and_reset)
{
    int usual = natten_machine_get().threads;
    natten_machine_set_threads(5);
    ck_assert_int_eq(natten_machine_get().threads, 5);
    natten_machine_set_threads(0);
    ck_assert_int_eq(natten_machine_get().threads, usual);
}
END_TEST

START_TEST(each_variant_of_the_list_can_be_set_and_no_other)
{
    natten_variant usual = natten_machine_get().variant;
    char list[64], *rest = list;
    strcpy(list, natten_machine_variant_list());
    for (char *name; (name = strtok_r(rest, " ", &rest));) {
        ck_assert(natten_machine_set_variant(name));
        natten_machine m = natten_machine_get();
        ck_assert_str_eq(natten_machine_variant_name(m.variant), name);
        ck_assert(m.has_variant[m.variant]);
    }
    ck_assert(!natten_machine_set_variant(""));
    ck_assert(!natten_machine_set_variant("avx9000"));
    ck_assert(natten_machine_set_variant(NULL));
    ck_assert_int_eq(natten_machine_get().variant, usual);
}
END_TEST

START_TEST(a_machine_never_claims_what_the_processor_lacks)
{
    bool runs[NATTEN_VARIANTS];
    natten_cpuid_variants(runs);
    natten_machine m = natten_machine_get();
    ck_assert(runs[NATTEN_VARIANT_SCALAR] && m.has_variant[NATTEN_VARIANT_SCALAR]);
    for (int v = 0; v < NATTEN_VARIANTS; v++)
        ck_assert(runs[v] || !m.has_variant[v]);
}
END_TEST

#if defined(__x86_64__)
START_TEST(cpuid_agrees_with_the_compilers_own_probe)
{
    bool runs[NATTEN_VARIANTS];
    natten_cpuid_variants(runs);
    __builtin_cpu_init();
    ck_assert_int_eq(runs[NATTEN_VARIANT_AVX2],
                     __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
    ck_assert_int_eq(
        runs[NATTEN_VARIANT_AVX512],
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"));
}
END_TEST
#endif

/* A word of what Linux lists of a CPU's cache; false if there is none. */
static bool listed(int cpu, int cache, const char *fact, char word[16])
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index%d/%s", cpu,
             cache, fact);
    FILE *file = fopen(path, "r");
    bool found = file && fscanf(file, "%15s", word) == 1;
    if (file)
        fclose(file);
    return found;
}

/* Has some CPU such a data cache? The cores of a machine may differ. */
static bool some_cpu_has(int level, int64_t bytes)
{
    char of[16], type[16], size[16];
    for (int cpu = 0; listed(cpu, 0, "level", of); cpu++)
        for (int i = 0; listed(cpu, i, "level", of) && listed(cpu, i, "type", type) &&
                        listed(cpu, i, "size", size);
             i++)
            if (atoi(of) == level && strcmp(type, "Instruction") != 0 &&
                atoll(size) << 10 == bytes)
                return true;
    return false;
}

START_TEST(caches_are_those_that_a_core_sees)
{
    natten_machine m = natten_machine_get();
    const int64_t bytes[] = {m.l1_bytes, m.l2_bytes, m.l3_bytes};
    char word[16];
    bool tells = listed(0, 0, "level", word) && !getenv("NATTEN_TEST_INSTRUMENTED");
    for (int n = 0; n < 3; n++)
        ck_assert_msg(bytes[n] == 0 || !tells || some_cpu_has(n + 1, bytes[n]),
                      "no CPU has %lld bytes at level %d", (long long)bytes[n], n + 1);
}
END_TEST

int main(int arguments, char **argument)
{
    if (arguments > 1 && strcmp(argument[1], "print") == 0)
        return print();
    Suite *suite = suite_create("machine");
    TCase *tests = tcase_create("machine");
    tcase_add_test(tests, the_default_is_every_cpu_and_the_best_variant);
    tcase_add_test(tests, the_environment_sets_threads_their_work_and_variant);
    tcase_add_test(tests, hostile_settings_are_ignored);
    tcase_add_test(tests, threads_can_be_set_and_reset);
    tcase_add_test(tests, caches_are_those_that_a_core_sees);
    tcase_add_test(tests, each_variant_of_the_list_can_be_set_and_no_other);
    tcase_add_test(tests, a_machine_never_claims_what_the_processor_lacks);
#if defined(__x86_64__)
    tcase_add_test(tests, cpuid_agrees_with_the_compilers_own_probe);
#endif
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
