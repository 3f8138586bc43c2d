/* SPDX-License-Identifier: MIT
 *
 * A libcuda.so.1 for tests, on machines without a GPU: the functions that
 * core/machine/driver.def names, with memory of the host, a log, and failures on
 * demand. It holds a launch to the limits that a real driver has, and runs nothing but
 * what the test puts in the place of kernels.
 *
 *     NATTEN_FAKE_VERSION   version of the driver, 13000 unless set
 *     NATTEN_FAKE_INIT      result of cuInit
 *     NATTEN_FAKE_DEVICES   how many devices, 1 unless set
 *     NATTEN_FAKE_ARCH      their architecture, 90 unless set
 *
 * Length: one function for each of driver.def, around one state. */
#include "cuda/fake_driver.h"
#include "machine/driver.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* The prototypes of all functions, so that they can't differ from the table's. */
#define FUNCTION(member, symbol, parameters) EXPORT int symbol parameters;
#include "machine/driver.def"
#undef FUNCTION

EXPORT fake_state *fake_state_now(void);
EXPORT uintptr_t fake_memory(size_t bytes);

static fake_state state;

enum { ALLOCATIONS = 4096, KERNELS = 128, DEPTH = 16 };
static struct {
    uintptr_t address;
    size_t bytes;
} memory[ALLOCATIONS];
static char kernels[KERNELS][48];
static int shared_of[KERNELS]; /* bytes that a kernel was allowed */
static int kernel_count;
static char primary[16]; /* a context is the address of an entry */
static void *stack[DEPTH];
static int depth;
static bool initialised;

fake_state *fake_state_now(void)
{
    return &state;
}

static int setting(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? atoi(text) : otherwise;
}

/* Count a call; what it has to return before it does anything. */
static int enter(const char *name)
{
    state.calls++;
    if (state.calls == state.fail_at) {
        state.failed = 1;
        state.failed_call = name;
        return state.fail_with;
    }
    if (!initialised && strcmp(name, "cuInit") != 0 &&
        strcmp(name, "cuDriverGetVersion") != 0)
        return NATTEN_DRIVER_NOT_INITIALIZED;
    return NATTEN_DRIVER_OK;
}

#define ENTER()                     \
    do {                            \
        int fail = enter(__func__); \
        if (fail != 0)              \
            return fail;            \
    } while (0)

int cuInit(unsigned flags)
{
    ENTER();
    int result = flags != 0 ? NATTEN_DRIVER_INVALID : setting("NATTEN_FAKE_INIT", 0);
    initialised = initialised || result == 0;
    return result;
}

int cuDriverGetVersion(int *version)
{
    ENTER();
    *version = setting("NATTEN_FAKE_VERSION", 13000);
    return 0;
}

int cuGetErrorName(int result, const char **name)
{
    static char text[] = "CUDA_ERROR_FAKE";
    (void)result;
    *name = text;
    return 0;
}

/* ---- devices and contexts ---- */

int cuDeviceGetCount(int *count)
{
    ENTER();
    *count = setting("NATTEN_FAKE_DEVICES", 1);
    return 0;
}

int cuDeviceGet(int *device, int ordinal)
{
    ENTER();
    *device = ordinal;
    return 0;
}

int cuDeviceGetName(char *name, int bytes, int device)
{
    ENTER();
    (void)device;
    strncpy(name, "Fake GPU", (size_t)bytes);
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    ENTER();
    (void)device;
    *bytes = (size_t)1 << 30;
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    ENTER();
    (void)device;
    int arch = setting("NATTEN_FAKE_ARCH", 90);
    *value = attribute == NATTEN_DRIVER_ARCH_MAJOR   ? arch / 10
             : attribute == NATTEN_DRIVER_ARCH_MINOR ? arch % 10
                                                     : 100;
    return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    ENTER();
    *context = &primary[device];
    return 0;
}

int cuCtxGetCurrent(void **context)
{
    ENTER();
    *context = depth > 0 ? stack[depth - 1] : NULL;
    return 0;
}

int cuCtxPushCurrent_v2(void *context)
{
    ENTER();
    if (depth == DEPTH)
        return NATTEN_DRIVER_INVALID;
    stack[depth++] = context;
    return 0;
}

/* Popping happens while a failure is unwound, so it succeeds even when it is the call
 * that fails: a driver that can't pop has no context left to restore. */
int cuCtxPopCurrent_v2(void **context)
{
    int result = enter(__func__);
    if (depth == 0)
        return NATTEN_DRIVER_INVALID;
    *context = stack[--depth];
    return result;
}

int cuCtxGetDevice(int *device)
{
    ENTER();
    *device = depth > 0 ? (int)((char *)stack[depth - 1] - primary) : -1;
    return 0;
}

/* ---- memory ---- */

static int find(uintptr_t address)
{
    for (int i = 0; i < ALLOCATIONS; i++)
        if (memory[i].address != 0 && address >= memory[i].address &&
            address < memory[i].address + memory[i].bytes)
            return i;
    return -1;
}

int cuPointerGetAttributes(unsigned count, int *attributes, void **values,
                           uintptr_t address)
{
    ENTER();
    bool ours = find(address) >= 0;
    for (unsigned i = 0; i < count; i++)
        switch (attributes[i]) {
        case NATTEN_DRIVER_POINTER_CONTEXT:
            *(void **)values[i] = NULL; /* as memory of a pool */
            break;
        case NATTEN_DRIVER_POINTER_MEMORY:
            *(unsigned *)values[i] = ours ? NATTEN_DRIVER_MEMORY_DEVICE : 0;
            break;
        case NATTEN_DRIVER_POINTER_DEVICE:
            *(int *)values[i] = ours ? 0 : -2;
            break;
        default:
            *(unsigned *)values[i] = 0;
            break;
        }
    return 0;
}

static int take(uintptr_t *address, size_t bytes)
{
    for (int i = 0; i < ALLOCATIONS; i++)
        if (memory[i].address == 0) {
            void *block = malloc(bytes > 0 ? bytes : 1);
            if (block == NULL)
                return NATTEN_DRIVER_MEMORY;
            memory[i].address = *address = (uintptr_t)block;
            memory[i].bytes = bytes;
            state.allocated++;
            state.live++;
            return 0;
        }
    return NATTEN_DRIVER_MEMORY;
}

static int give_back(uintptr_t address)
{
    int i = find(address);
    if (i < 0 || memory[i].address != address)
        return NATTEN_DRIVER_INVALID;
    free((void *)address);
    memory[i].address = 0;
    state.live--;
    return 0;
}

int cuMemAlloc_v2(uintptr_t *address, size_t bytes)
{
    ENTER();
    return take(address, bytes);
}

/* Like popping: memory is gone even when freeing it is the call that fails. */
int cuMemFree_v2(uintptr_t address)
{
    int result = enter(__func__), freed = give_back(address);
    return result != 0 ? result : freed;
}

int cuMemGetInfo_v2(size_t *free, size_t *total)
{
    ENTER();
    *free = *total = (size_t)setting("NATTEN_FAKE_FREE", 1 << 30);
    return 0;
}

int cuMemHostAlloc(void **address, size_t bytes, unsigned flags)
{
    ENTER();
    (void)flags;
    uintptr_t taken = 0;
    int result = take(&taken, bytes);
    *address = (void *)taken;
    return result;
}

int cuMemFreeHost(void *address)
{
    int result = enter(__func__), freed = give_back((uintptr_t)address);
    return result != 0 ? result : freed;
}

int cuMemAllocAsync(uintptr_t *address, size_t bytes, void *stream)
{
    ENTER();
    (void)stream;
    return take(address, bytes);
}

int cuMemFreeAsync(uintptr_t address, void *stream)
{
    int result = enter(__func__), freed = give_back(address);
    (void)stream;
    return result != 0 ? result : freed;
}

int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t bytes, void *stream)
{
    ENTER();
    (void)stream;
    memcpy((void *)to, from, bytes);
    return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t bytes, void *stream)
{
    ENTER();
    (void)stream;
    memcpy(to, (const void *)from, bytes);
    return 0;
}

int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, void *stream)
{
    ENTER();
    (void)stream;
    memmove((void *)to, (const void *)from, bytes);
    return 0;
}

int cuMemsetD32Async(uintptr_t to, unsigned word, size_t words, void *stream)
{
    ENTER();
    int own = find(to);
    if (to % 4 != 0 || own < 0 ||
        to + 4 * words > memory[own].address + memory[own].bytes)
        return NATTEN_DRIVER_INVALID;
    for (size_t i = 0; i < words; i++)
        ((unsigned *)to)[i] = word;
    state.fills++;
    state.fill_launch = state.launches;
    state.fill_address = to;
    state.fill_bytes = 4 * words;
    state.fill_stream = stream;
    return 0;
}

uintptr_t fake_memory(size_t bytes)
{
    uintptr_t address = 0;
    if (take(&address, bytes) != 0)
        abort();
    state.allocated--;
    state.live--;
    return address;
}

/* ---- kernels ---- */

/* Longer than our own may be, so out of the way. */
#define LOAD_PARAMETERS                                                     \
    (void **library, const void *code, int *jit_options, void **jit_values, \
     unsigned jit_count, int *options, void **values, unsigned count)

int cuThreadExchangeStreamCaptureMode(int *mode)
{
    ENTER();
    *mode = 0;
    return 0;
}

static int kernel_number(const void *kernel)
{
    return (int)(((const char *)kernel - kernels[0]) / (int)sizeof kernels[0]);
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

int cuLibraryLoadData LOAD_PARAMETERS
{
    ENTER();
    (void)jit_options, (void)jit_values, (void)options, (void)values;
    if (code == NULL || jit_count != 0 || count != 0)
        return NATTEN_DRIVER_INVALID;
    if (setting("NATTEN_FAKE_ARCH", 90) == 99)
        return NATTEN_DRIVER_NO_BINARY; /* as a driver does that can't compile PTX */
    *library = &kernels;
    return 0;
}

int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    ENTER();
    if (library != &kernels || kernel_count == KERNELS)
        return NATTEN_DRIVER_INVALID;
    strncpy(kernels[kernel_count], name, sizeof kernels[0] - 1);
    *kernel = kernels[kernel_count++];
    return 0;
}

int cuKernelSetAttribute(int attribute, int value, void *kernel, int device)
{
    enum { SHARED_BYTES = 8 };
    ENTER();
    if (attribute == SHARED_BYTES)
        shared_of[kernel_number(kernel)] = value;
    /* What Hopper and Blackwell have, Ampere's data centre GPUs, Turing, others. */
    int arch = setting("NATTEN_FAKE_ARCH", 90);
    int most = arch >= 90 && arch < 120 ? 227 : arch == 80 ? 163 : arch < 80 ? 64 : 99;
    bool legal = value >= 0 && (attribute != SHARED_BYTES || value <= most * 1024);
    return legal && device == 0 ? 0 : NATTEN_DRIVER_INVALID;
}

#define MAP_PARAMETERS                                                           \
    (void *map, int type, unsigned rank, void *address, const uint64_t *extents, \
     const uint64_t *strides, const uint32_t *box, const uint32_t *steps,        \
     int interleave, int swizzle, int promotion, int fill)

/* What the driver asks of a map of 16-bit elements. */
int cuTensorMapEncodeTiled MAP_PARAMETERS
{
    ENTER();
    bool legal = (uintptr_t)map % 64 == 0 && (uintptr_t)address % 16 == 0 &&
                 type == 1 && rank == 5 && interleave == 0 && promotion >= 0 &&
                 fill == 0 && box[0] * 2 == (swizzle == 2 ? 64 : 128);
    for (unsigned i = 0; i < rank; i++) {
        legal = legal && extents[i] >= 1 && extents[i] <= UINT64_C(1) << 32 &&
                box[i] >= 1 && box[i] <= 256 && steps[i] == 1;
        if (i + 1 < rank)
            legal = legal && strides[i] % 16 == 0 && strides[i] < UINT64_C(1) << 40;
    }
    memset(map, 0x5a, 128);
    state.maps++;
    state.map_elements = (int32_t)box[0];
    return legal ? 0 : NATTEN_DRIVER_INVALID;
}

/* Nothing is asked of a launch, or that it overlaps the one before. */
static bool is_asked_well(const natten_driver_launch *l)
{
    return l->attribute_count == 0 ||
           (l->attribute_count == 1 && l->attributes[0].id == 6 &&
            l->attributes[0].value.allowed == 1);
}

int cuLaunchKernelEx(const natten_driver_launch *l, void *kernel, void **parameters,
                     void **extra)
{
    ENTER();
    int allowed = larger(48 * 1024, shared_of[kernel_number(kernel)]);
    bool legal = l->grid[0] >= 1 && l->grid[0] <= INT32_MAX && l->grid[1] == 1 &&
                 l->grid[2] == 1 && l->block[0] >= 32 && l->block[0] <= 1024 &&
                 l->block[1] == 1 && l->block[2] == 1 &&
                 (int)l->shared_bytes <= allowed && is_asked_well(l) && extra == NULL &&
                 depth > 0;
    if (legal && state.on_launch != NULL) {
        state.launches++;
        state.on_launch(kernel, parameters[0]);
        return 0;
    }
    if (!legal || state.launches == FAKE_LAUNCHES)
        return NATTEN_DRIVER_INVALID;
    fake_launch *launch = &state.launch[state.launches++];
    *launch = (fake_launch){.grid = l->grid[0],
                            .block = l->block[0],
                            .shared_bytes = l->shared_bytes,
                            .overlaps = l->attribute_count == 1,
                            .stream = l->stream,
                            .context = stack[depth - 1]};
    strncpy(launch->kernel, kernel, sizeof launch->kernel - 1);
    if (strstr(launch->kernel, "merge") == NULL)
        memcpy(&launch->job, parameters[0], sizeof launch->job);
    return 0;
}

/* ---- streams and events ---- */

int cuStreamCreate(void **stream, unsigned flags)
{
    ENTER();
    (void)flags;
    state.handles++;
    *stream = &state;
    return 0;
}

int cuStreamDestroy_v2(void *stream)
{
    (void)stream;
    state.handles--;
    return enter(__func__);
}

int cuStreamSynchronize(void *stream)
{
    ENTER();
    (void)stream;
    state.synchronised++;
    return 0;
}

int cuEventCreate(void **event, unsigned flags)
{
    ENTER();
    (void)flags;
    state.handles++;
    *event = &state;
    return 0;
}

int cuEventDestroy_v2(void *event)
{
    (void)event;
    state.handles--;
    return enter(__func__);
}

int cuEventRecord(void *event, void *stream)
{
    ENTER();
    (void)event, (void)stream;
    return 0;
}

int cuEventSynchronize(void *event)
{
    ENTER();
    (void)event;
    state.synchronised++;
    return 0;
}

int cuEventElapsedTime(float *milliseconds, void *begin, void *end)
{
    ENTER();
    (void)begin, (void)end;
    *milliseconds = 0;
    return 0;
}

int cuStreamWaitEvent(void *stream, void *event, unsigned flags)
{
    ENTER();
    (void)stream, (void)event, (void)flags;
    return 0;
}
