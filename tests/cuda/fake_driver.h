/* SPDX-License-Identifier: MIT
 *
 * The controls of the fake driver: what a test finds in libcuda.so.1 beside NVIDIA's
 * functions. */
#ifndef NATTEN_TESTS_CUDA_FAKE_DRIVER_H
#define NATTEN_TESTS_CUDA_FAKE_DRIVER_H

#include "cuda/cuda_job.h"

#include <stdbool.h>

/* A launch as the driver saw it. */
typedef struct fake_launch {
    char kernel[48];
    unsigned grid, block, shared_bytes;
    bool overlaps; /* it may begin before the one before it is over */
    void *stream, *context;
    natten_cuda_job job; /* of a merge: nothing */
} fake_launch;

enum { FAKE_LAUNCHES = 16 };

typedef struct fake_state {
    int calls;              /* of all functions but cuGetErrorName, since the reset */
    int fail_at, fail_with; /* the call that fails, from 1, and its result; 0: none */
    int failed;             /* that call has happened */
    const char *failed_call;
    int synchronised; /* calls that wait for the GPU */
    int allocated;    /* allocations, asynchronous ones too */
    int live;         /* of them not freed */
    int handles;      /* streams and events that are not destroyed */
    int launches;
    int maps;             /* of tensors, for the copy engine */
    int32_t map_elements; /* of a row of the last one's boxes */
    /* Memory that was filled; of the last: where, on which stream, after how many
     * launches. */
    int fills, fill_launch;
    uintptr_t fill_address;
    size_t fill_bytes;
    void *fill_stream;
    /* What a launch does, which is then not logged; NULL: nothing. */
    void (*on_launch)(const char *kernel, const void *job);
    fake_launch launch[FAKE_LAUNCHES];
} fake_state;

/* Symbols "fake_state_now" and "fake_memory", which gives memory of device 0 that no
 * function frees and no log counts. */
typedef fake_state *fake_state_function(void);
typedef uintptr_t fake_memory_function(size_t bytes);

#endif
