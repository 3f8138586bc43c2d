/* SPDX-License-Identifier: MIT
 *
 * The NVIDIA driver, reached through a table that is filled by dlopen("libcuda.so.1"):
 * the library needs no CUDA to be built, starts on machines that have none, and a test
 * can put a driver of its own in the way.
 *
 * A process that was forked after the driver was initialised can't use it; the child
 * is told so by a status and never reaches the driver. */
#ifndef NATTEN_MACHINE_DRIVER_H
#define NATTEN_MACHINE_DRIVER_H

#include <natten.h>

#include <stddef.h>
#include <stdint.h>

/* Results of the driver that we know by number (CUresult). */
enum natten_driver_result {
    NATTEN_DRIVER_OK = 0,
    NATTEN_DRIVER_INVALID = 1,
    NATTEN_DRIVER_MEMORY = 2,
    NATTEN_DRIVER_NOT_INITIALIZED = 3,
    NATTEN_DRIVER_STUB = 34,
    NATTEN_DRIVER_NO_DEVICE = 100,
    NATTEN_DRIVER_NO_BINARY = 209,
    NATTEN_DRIVER_PTX_VERSION = 222
};

/* Numbers of attributes of a device (CUdevice_attribute). */
enum natten_driver_attribute {
    NATTEN_DRIVER_PROCESSORS = 16,
    NATTEN_DRIVER_L2_BYTES = 38,
    NATTEN_DRIVER_ARCH_MAJOR = 75,
    NATTEN_DRIVER_ARCH_MINOR = 76,
    NATTEN_DRIVER_SHARED_BYTES = 97, /* of a block, when asked for */
    NATTEN_DRIVER_MEMORY_POOLS = 115
};

/* Numbers of attributes of an address (CUpointer_attribute), and kinds of memory
 * (CUmemorytype) that the second has. */
enum natten_driver_pointer {
    NATTEN_DRIVER_POINTER_CONTEXT = 1,
    NATTEN_DRIVER_POINTER_MEMORY = 2,
    NATTEN_DRIVER_POINTER_MANAGED = 8,
    NATTEN_DRIVER_POINTER_DEVICE = 9
};
enum natten_driver_memory {
    NATTEN_DRIVER_MEMORY_HOST = 1,
    NATTEN_DRIVER_MEMORY_DEVICE = 2
};

/* What is asked of a launch beside its sizes (CUlaunchAttribute): a number of
 * CUlaunchAttributeID, and a value of 64 bytes. */
typedef struct natten_driver_launch_attribute {
    int id;
    union {
        int allowed; /* of NATTEN_DRIVER_OVERLAP */
        uint64_t bytes[8];
    } value;
} natten_driver_launch_attribute;

/* The kernel may begin before the one before it on the stream is over, and waits by
 * itself (CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION). */
enum { NATTEN_DRIVER_OVERLAP = 6 };

/* How a kernel is launched (CUlaunchConfig). */
typedef struct natten_driver_launch {
    unsigned grid[3], block[3], shared_bytes;
    void *stream;
    natten_driver_launch_attribute *attributes;
    unsigned attribute_count;
} natten_driver_launch;

typedef struct natten_driver {
#define FUNCTION(member, symbol, parameters) int(*member) parameters;
#include "machine/driver.def"
#undef FUNCTION
} natten_driver;

/* How opening the driver went. */
typedef struct natten_driver_state {
    natten_status status;
    const char *call; /* what failed: a symbol of the driver, or the library's name */
    int result;       /* that the call returned; 0: it is not there at all */
    int version;      /* of the driver, 1000 major + 10 minor; 0: unknown */
} natten_driver_state;

/* The oldest driver with all functions of the table. */
enum { NATTEN_DRIVER_VERSION = 12000 };
/* The oldest that captures launches that overlap into graphs. */
enum { NATTEN_DRIVER_VERSION_OVERLAP = 12030 };

/* The table, opened and initialised at the first call; NULL if *state says why not. */
const natten_driver *natten_driver_get(natten_driver_state *state);

/* NATTEN_OK, or the status that a result of the driver means, with a sentence:
 * "cuLaunchKernelEx: CUDA_ERROR_ILLEGAL_ADDRESS (700)". */
natten_status natten_driver_check(int result, const char *call);

/* Forward a failure of a driver call, named by its member of the table. */
#define NATTEN_TRY_CUDA(driver, member, ...)               \
    NATTEN_TRY(                                            \
        natten_driver_check((driver)->member(__VA_ARGS__), \
                            natten_driver_symbol(offsetof(natten_driver, member))))

/* Symbol of the table's member at that offset. */
const char *natten_driver_symbol(size_t offset);

#endif
