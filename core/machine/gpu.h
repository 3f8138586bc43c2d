/* SPDX-License-Identifier: MIT
 *
 * What a GPU can do, as plain data, so that a test can invent one.  Devices are probed
 * once per process, at the first question about one: a process that never asks never
 * initialises CUDA. */
#ifndef NATTEN_MACHINE_GPU_H
#define NATTEN_MACHINE_GPU_H

#include "machine/driver.h"

typedef struct natten_gpu {
    natten_driver_state driver; /* its status: NATTEN_OK, or why there are no devices */
    int32_t device;             /* the one that was asked for */
    int32_t devices;            /* how many there are */
    /* Of the device, if 0 <= device < devices: */
    int32_t arch;       /* 90 for compute capability 9.0 */
    int32_t processors; /* streaming multiprocessors */
    int64_t memory_bytes, l2_bytes, shared_bytes;
    char name[64];
} natten_gpu;

/* Device number `device` of this computer. */
natten_gpu natten_gpu_get(int32_t device);

/* NATTEN_OK if the device is there, else the status that says why not, with its
 * sentence. */
natten_status natten_gpu_check(const natten_gpu *gpu);

#endif
