/* SPDX-License-Identifier: MIT
 *
 * Opening the NVIDIA driver, once per process, and what its results mean.  The library
 * is never closed: the driver can't be unloaded safely.  An initialisation that failed
 * is tried again at the next call. */
#include "machine/driver.h"

#include "base/status.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static const struct {
    size_t offset;
    const char *symbol;
} functions[] = {
#define FUNCTION(member, symbol, parameters) {offsetof(natten_driver, member), #symbol},
#include "machine/driver.def"
#undef FUNCTION
};

static const char soname[] = "libcuda.so.1";

static natten_driver table;
static natten_driver_state opened;
static void *handle; /* of the driver's library; never closed */
static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool initialised, forked, ready;

static void after_fork(void)
{
    if (atomic_load(&initialised))
        atomic_store(&forked, true);
}

static natten_driver_state fail(natten_status status, const char *call, int result)
{
    return (natten_driver_state){status, call, result, opened.version};
}

/* A driver that lacks a function is too old to have it. */
static natten_driver_state find_functions(void)
{
    int (*version)(int *);
    void *symbol = dlsym(handle, "cuDriverGetVersion");
    memcpy(&version, &symbol, sizeof version); /* not a cast: ISO C has none */
    if (symbol == NULL || version(&opened.version) != NATTEN_DRIVER_OK)
        opened.version = 0;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        symbol = dlsym(handle, functions[i].symbol);
        if (symbol == NULL)
            return fail(NATTEN_ERR_DRIVER_TOO_OLD, functions[i].symbol, 0);
        memcpy((char *)&table + functions[i].offset, &symbol, sizeof symbol);
    }
    if (opened.version < NATTEN_DRIVER_VERSION)
        return fail(NATTEN_ERR_DRIVER_TOO_OLD, "cuDriverGetVersion", 0);
    return fail(NATTEN_OK, NULL, 0);
}

static void open_library(void)
{
    handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    opened = handle == NULL ? fail(NATTEN_ERR_NO_DEVICE, soname, 0) : find_functions();
    if (opened.status == NATTEN_OK)
        pthread_atfork(NULL, NULL, after_fork);
}

/* What a result of cuInit means. */
static natten_driver_state initialise(void)
{
    atomic_store(&initialised, true);
    int result = table.init(0);
    switch (result) {
    case NATTEN_DRIVER_OK:
        atomic_store(&ready, true);
        return fail(NATTEN_OK, NULL, 0);
    case NATTEN_DRIVER_NO_DEVICE:
    case NATTEN_DRIVER_STUB:
        return fail(NATTEN_ERR_NO_DEVICE, "cuInit", result);
    case NATTEN_DRIVER_NOT_INITIALIZED: /* someone else used it before the fork */
        return fail(NATTEN_ERR_FORKED, "cuInit", result);
    default:
        return fail(NATTEN_ERR_CUDA, "cuInit", result);
    }
}

const natten_driver *natten_driver_get(natten_driver_state *state)
{
    if (atomic_load(&forked)) {
        *state = (natten_driver_state){NATTEN_ERR_FORKED, "fork", 0, opened.version};
        return NULL;
    }
    pthread_once(&library_once, open_library);
    *state = opened;
    if (opened.status == NATTEN_OK && !atomic_load(&ready)) {
        pthread_mutex_lock(&init_lock); /* cuInit may be called again */
        *state = initialise();
        pthread_mutex_unlock(&init_lock);
    }
    return state->status == NATTEN_OK ? &table : NULL;
}

const char *natten_driver_symbol(size_t offset)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (functions[i].offset == offset)
            return functions[i].symbol;
    return "";
}

natten_status natten_driver_check(int result, const char *call)
{
    if (result == NATTEN_DRIVER_OK)
        return NATTEN_OK;
    const char *name = NULL;
    if (table.error_name(result, &name) != NATTEN_DRIVER_OK || name == NULL)
        name = "unknown error";
    natten_status status = NATTEN_ERR_CUDA;
    if (result == NATTEN_DRIVER_MEMORY)
        status = NATTEN_ERR_MEMORY;
    else if (result == NATTEN_DRIVER_NO_BINARY)
        status = NATTEN_ERR_ARCH;
    else if (result == NATTEN_DRIVER_PTX_VERSION)
        status = NATTEN_ERR_DRIVER_TOO_OLD;
    return natten_status_fail(status, "%s: %s (%d)", call, name, result);
}
