/* SPDX-License-Identifier: MIT
 *
 * Probing the GPUs, and the sentences about those that can't be had. */
#include "machine/gpu.h"

#include "base/status.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>

/* Most devices of a computer that we look at. */
enum { GPUS = 64 };

static natten_gpu probed[GPUS];
static int32_t devices;
static bool done; /* a probe that failed is tried again at the next question */
static pthread_mutex_t probe_lock = PTHREAD_MUTEX_INITIALIZER;

static int probe_device(const natten_driver *driver, int32_t ordinal, natten_gpu *gpu)
{
    int device, major = 0, minor = 0, l2 = 0, shared = 0, processors = 0;
    size_t memory = 0;
    int result = driver->device_get(&device, ordinal);
    const struct {
        int attribute, *value;
    } wanted[] = {
        {NATTEN_DRIVER_ARCH_MAJOR, &major},      {NATTEN_DRIVER_ARCH_MINOR, &minor},
        {NATTEN_DRIVER_L2_BYTES, &l2},           {NATTEN_DRIVER_SHARED_BYTES, &shared},
        {NATTEN_DRIVER_PROCESSORS, &processors},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && result == 0; i++)
        result = driver->device_attribute(wanted[i].value, wanted[i].attribute, device);
    if (result == 0)
        result = driver->device_memory(&memory, device);
    if (result == 0)
        result = driver->device_name(gpu->name, sizeof gpu->name, device);
    gpu->arch = 10 * major + minor;
    gpu->processors = processors;
    gpu->memory_bytes = (int64_t)memory;
    gpu->l2_bytes = l2;
    gpu->shared_bytes = shared;
    return result;
}

/* With probe_lock held; the driver's result. */
static int probe(const natten_driver *driver)
{
    int count = 0, result = driver->device_count(&count);
    count = count < GPUS ? count : GPUS;
    for (int i = 0; i < count && result == 0; i++)
        result = probe_device(driver, i, &probed[i]);
    devices = result == 0 ? count : 0;
    done = result == 0;
    return result;
}

natten_gpu natten_gpu_get(int32_t device)
{
    natten_gpu gpu = {.device = device};
    natten_driver_state state;
    /* First of all: in a forked child nothing else may be touched. */
    const natten_driver *driver = natten_driver_get(&state);
    if (driver != NULL) {
        pthread_mutex_lock(&probe_lock);
        int result = done ? 0 : probe(driver);
        if (result != 0)
            state = (natten_driver_state){NATTEN_ERR_CUDA, "the probing of the devices",
                                          result, state.version};
        if (device >= 0 && device < devices)
            gpu = probed[device];
        gpu.device = device;
        gpu.devices = devices;
        pthread_mutex_unlock(&probe_lock);
    }
    gpu.driver = state;
    return gpu;
}

natten_status natten_gpu_check(const natten_gpu *gpu)
{
    const natten_driver_state *d = &gpu->driver;
    switch (d->status) {
    case NATTEN_OK:
        break;
    case NATTEN_ERR_NO_DEVICE:
        if (d->result == 0)
            return natten_status_fail(d->status, "%s is not there: no NVIDIA driver",
                                      d->call);
        return natten_status_fail(d->status, "%s says %d: the driver has no device",
                                  d->call, d->result);
    case NATTEN_ERR_DRIVER_TOO_OLD:
        return natten_status_fail(d->status,
                                  "the NVIDIA driver is of CUDA %d.%d, older than the "
                                  "%d.%d that is needed (%s)",
                                  d->version / 1000, d->version % 1000 / 10,
                                  NATTEN_DRIVER_VERSION / 1000,
                                  NATTEN_DRIVER_VERSION % 1000 / 10, d->call);
    case NATTEN_ERR_FORKED:
        return natten_status_fail(d->status,
                                  "CUDA was in use before this process was forked and "
                                  "can't be used in it (%s)",
                                  d->call);
    default:
        return natten_status_fail(d->status, "%s failed with %d", d->call, d->result);
    }
    if (gpu->devices == 0)
        return natten_status_fail(NATTEN_ERR_NO_DEVICE, "the driver has no device");
    if (gpu->device < 0 || gpu->device >= gpu->devices)
        return natten_status_fail(NATTEN_ERR_DEVICE,
                                  "device_id=%" PRId32 " not in [0, %" PRId32
                                  "] (devices)",
                                  gpu->device, gpu->devices - 1);
    return NATTEN_OK;
}
