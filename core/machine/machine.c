/* SPDX-License-Identifier: MIT
 *
 * The machine, probed once per process, and the two settings that a program or its
 * environment may change: threads and variant.  The settings are atomics, so that a
 * call on one thread sees either the old or the new value of another thread's. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "machine/machine.h"

#include "base/cpus.h"
#include "base/env.h"
#include "base/parallel.h"
#include "machine/cpuid.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[NATTEN_VARIANTS] = {
    [NATTEN_VARIANT_SCALAR] = "scalar",
#if defined(__aarch64__)
    [NATTEN_VARIANT_BASELINE] = "neon",
#elif defined(__x86_64__)
    [NATTEN_VARIANT_BASELINE] = "sse2",
#else
    [NATTEN_VARIANT_BASELINE] = "baseline",
#endif
    [NATTEN_VARIANT_AVX2] = "avx2",
    [NATTEN_VARIANT_AVX512] = "avx512",
};

static const bool built[NATTEN_VARIANTS] = {
    [NATTEN_VARIANT_SCALAR] = true,
#if defined(NATTEN_HAVE_SSE2) || defined(NATTEN_HAVE_NEON)
    [NATTEN_VARIANT_BASELINE] = true,
#endif
#ifdef NATTEN_HAVE_AVX2
    [NATTEN_VARIANT_AVX2] = true,
#endif
#ifdef NATTEN_HAVE_AVX512
    [NATTEN_VARIANT_AVX512] = true,
#endif
};

/* Some 50 microseconds of multiply-adds: to wake a thread costs ten, and as long again
 * passes until it has come. */
enum { THREAD_WORK = 100000, MOST_THREAD_WORK = 1000000000 };

static natten_machine probed; /* threads and variant are the defaults */
static char variant_list[64];
static pthread_once_t probe_once = PTHREAD_ONCE_INIT;

static atomic_int set_threads;      /* 0: the default */
static atomic_int set_variant = -1; /* -1: the default */

static int find_variant(const char *name)
{
    for (int v = 0; v < NATTEN_VARIANTS; v++)
        if (probed.has_variant[v] && strcmp(names[v], name) == 0)
            return v;
    return -1;
}

static int64_t cache_bytes(int level)
{
    int64_t bytes = natten_cpuid_cache_bytes(level);
#ifdef _SC_LEVEL1_DCACHE_SIZE
    static const int name[] = {0, _SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE,
                               _SC_LEVEL3_CACHE_SIZE};
    if (bytes == 0)
        bytes = sysconf(name[level]);
#endif
    return bytes > 0 ? bytes : 0;
}

static void probe(void)
{
    bool runs[NATTEN_VARIANTS];
    natten_cpuid_variants(runs);
    for (int v = 0; v < NATTEN_VARIANTS; v++) {
        probed.has_variant[v] = runs[v] && built[v];
        if (!probed.has_variant[v])
            continue;
        probed.variant = (natten_variant)v;
        size_t used = strlen(variant_list);
        snprintf(variant_list + used, sizeof variant_list - used, "%s%s",
                 used ? " " : "", names[v]);
    }
    char word[16];
    int wanted = natten_env_word("NATTEN_CPU_VARIANT", word, sizeof word)
                     ? find_variant(word)
                     : -1;
    if (wanted >= 0)
        probed.variant = (natten_variant)wanted;

    int64_t threads;
    probed.processors = natten_cpus_count();
    if (!natten_env_integer("NATTEN_NUM_THREADS", 1, NATTEN_MAX_THREADS, &threads))
        threads = probed.processors;
    probed.threads =
        threads < NATTEN_MAX_THREADS ? (int32_t)threads : NATTEN_MAX_THREADS;
    if (!natten_env_integer("NATTEN_THREAD_WORK", 0, MOST_THREAD_WORK,
                            &probed.thread_work))
        probed.thread_work = THREAD_WORK;
    probed.l1_bytes = cache_bytes(1);
    probed.l2_bytes = cache_bytes(2);
    probed.l3_bytes = cache_bytes(3);
}

natten_machine natten_machine_get(void)
{
    pthread_once(&probe_once, probe);
    natten_machine machine = probed;
    int threads = atomic_load(&set_threads), variant = atomic_load(&set_variant);
    if (threads > 0)
        machine.threads = threads;
    if (variant >= 0)
        machine.variant = (natten_variant)variant;
    return machine;
}

void natten_machine_set_threads(int32_t threads)
{
    atomic_store(&set_threads, threads);
}

bool natten_machine_set_variant(const char *name)
{
    pthread_once(&probe_once, probe);
    int variant = name ? find_variant(name) : -1;
    if (name && variant < 0)
        return false;
    atomic_store(&set_variant, variant);
    return true;
}

const char *natten_machine_variant_name(natten_variant variant)
{
    return names[variant];
}

const char *natten_machine_variant_list(void)
{
    pthread_once(&probe_once, probe);
    return variant_list;
}
