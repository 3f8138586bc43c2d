/* SPDX-License-Identifier: MIT
 *
 * Reading and writing .npy files.  An array is read in one piece into memory of its
 * own, as the file has it; only a foreign byte order is turned round, in place. */
#include "npy.h"

#include "command.h"
#include "npy_header.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* NumPy's headers have about a hundred bytes; no honest one has more than this. */
enum { MAX_HEADER = 65536 };

static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

/* Fill in everything but the memory; false if the sizes don't fit in 64 bits. */
static bool lay_out(npy_array *array, const npy_header *header)
{
    memset(array, 0, sizeof *array);
    array->kind = header->kind;
    int64_t count = 1;
    for (int i = 0; i < header->ndim; i++) {
        int axis = header->fortran_order ? i : header->ndim - 1 - i;
        array->shape[axis] = header->shape[axis];
        array->strides[axis] = count;
        /* A size of 0 must not hide a product that overflows: strides count it as 1. */
        int64_t size = header->shape[axis] > 0 ? header->shape[axis] : 1;
        if (__builtin_mul_overflow(count, size, &count))
            return false;
    }
    int64_t bytes;
    if (__builtin_mul_overflow(count, element_kinds[header->kind].bytes, &bytes))
        return false;
    array->count = count;
    for (int i = 0; i < header->ndim; i++)
        array->count = header->shape[i] == 0 ? 0 : array->count;
    natten_tensor *tensor = &array->tensor;
    tensor->device_type = NATTEN_CPU;
    tensor->ndim = header->ndim;
    tensor->dtype_code = element_kinds[header->kind].dlpack_code;
    tensor->dtype_bits = (uint8_t)(8 * element_kinds[header->kind].bytes);
    tensor->dtype_lanes = 1;
    tensor->shape = array->shape;
    tensor->strides = array->strides;
    return true;
}

static int64_t bytes_of(const npy_array *array)
{
    return array->count * element_kinds[array->kind].bytes;
}

static bool get_memory(npy_array *array)
{
    /* malloc(0) may be NULL, which would say that there is no tensor. */
    array->tensor.data = malloc(array->count ? (size_t)bytes_of(array) : 1);
    return array->tensor.data != NULL;
}

static void swap_bytes(npy_array *array)
{
    int size = element_kinds[array->kind].bytes;
    unsigned char *at = array->tensor.data;
    for (int64_t i = 0; i < array->count; i++, at += size)
        for (int b = 0; b < size / 2; b++) {
            unsigned char byte = at[b];
            at[b] = at[size - 1 - b];
            at[size - 1 - b] = byte;
        }
}

/* Read the part before the data.  Returns what is wrong, or NULL. */
static const char *read_header(FILE *file, npy_header *header)
{
    unsigned char start[12] = {0};
    if (fread(start, 1, 8, file) != 8 || memcmp(start, magic, sizeof magic) != 0)
        return "not a .npy file";
    if (start[6] < 1 || start[6] > 3)
        return "a version of .npy other than 1 to 3";
    size_t digits = start[6] == 1 ? 2 : 4, length = 0;
    if (fread(start + 8, 1, digits, file) != digits)
        return "the file is cut off";
    for (size_t i = digits; i-- > 0;)
        length = length << 8 | start[8 + i];
    if (length >= MAX_HEADER)
        return "the header is too long to be one";
    char text[MAX_HEADER];
    if (fread(text, 1, length, file) != length)
        return "the file is cut off";
    text[length] = '\0';
    if (memchr(text, '\0', length))
        return "the header is no dictionary";
    return npy_header_parse(header, text);
}

static int read_array(npy_array *array, FILE *file, const char *path)
{
    npy_header header;
    const char *wrong = read_header(file, &header);
    if (ferror(file))
        return command_fail(EXIT_IO, "%s: %s", path, strerror(errno));
    if (wrong)
        return command_fail(EXIT_IO, "%s: %s", path, wrong);
    if (!lay_out(array, &header))
        return command_fail(EXIT_IO, "%s: the shape does not fit in memory", path);
    /* Before memory is asked for: what a regular file can't hold is not there. */
    struct stat status;
    off_t at = ftello(file);
    if (at >= 0 && fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_size - at < bytes_of(array))
        return command_fail(EXIT_IO,
                            "%s: the file is cut off: %jd bytes of data, not %" PRId64,
                            path, (intmax_t)(status.st_size - at), bytes_of(array));
    if (!get_memory(array))
        return command_fail(EXIT_IO, "%s: out of memory", path);
    if (fread(array->tensor.data, 1, (size_t)bytes_of(array), file) !=
        (size_t)bytes_of(array))
        return command_fail(EXIT_IO, "%s: %s", path,
                            ferror(file) ? strerror(errno) : "the file is cut off");
    if (header.swapped)
        swap_bytes(array);
    return EXIT_FINE;
}

int npy_read(npy_array *array, const char *path)
{
    memset(array, 0, sizeof *array);
    FILE *file = fopen(path, "rb");
    if (!file)
        return command_fail(EXIT_IO, "%s: %s", path, strerror(errno));
    int status = read_array(array, file, path);
    fclose(file);
    if (status)
        npy_free(array);
    return status;
}

int npy_allocate(npy_array *array, element kind, int ndim, const int64_t *shape,
                 const char *what)
{
    npy_header header = {.kind = kind, .ndim = ndim};
    memcpy(header.shape, shape, (size_t)ndim * sizeof *shape);
    if (lay_out(array, &header) && get_memory(array))
        return EXIT_FINE;
    memset(array, 0, sizeof *array);
    return command_fail(EXIT_IO, "out of memory for %s", what);
}

int npy_convert(npy_array *array, element kind, const char *what)
{
    if (array->kind == kind)
        return EXIT_FINE;
    npy_array converted = *array;
    converted.kind = kind;
    converted.tensor.dtype_code = element_kinds[kind].dlpack_code;
    converted.tensor.dtype_bits = (uint8_t)(8 * element_kinds[kind].bytes);
    if (array->kind == ELEMENT_UINT16 && kind == ELEMENT_BF16) {
        array->kind = kind;
        array->tensor.dtype_code = converted.tensor.dtype_code;
        return EXIT_FINE;
    }
    if (array->count > INT64_MAX / 8 || !get_memory(&converted))
        return command_fail(EXIT_IO, "out of memory for %s", what);
    for (int64_t i = 0; i < array->count; i++)
        element_store(kind, converted.tensor.data, i,
                      element_load(array->kind, array->tensor.data, i));
    free(array->tensor.data);
    *array = converted;
    array->tensor.shape = array->shape;
    array->tensor.strides = array->strides;
    return EXIT_FINE;
}

bool npy_write(FILE *file, const npy_array *array)
{
    /* 8 sizes of at most 20 characters each, and the rest. */
    char text[512];
    int length = 0;
    char order = element_kinds[array->kind].bytes == 1 ? '|' : NPY_NATIVE_ORDER;
    length += snprintf(text, sizeof text,
                       "{'descr': '%c%s', 'fortran_order': False, 'shape': (", order,
                       element_kinds[array->kind].descr);
    for (int i = 0; i < array->tensor.ndim; i++)
        length += snprintf(text + length, sizeof text - (size_t)length,
                           i == 0 ? "%" PRId64 "," : " %" PRId64 ",", array->shape[i]);
    if (array->tensor.ndim > 1)
        length--; /* (2, 3), but (2,) */
    length += snprintf(text + length, sizeof text - (size_t)length, "), }");
    /* Blanks, so that the data begin at a multiple of 64 bytes. */
    while ((10 + length + 1) % 64)
        text[length++] = ' ';
    text[length++] = '\n';
    unsigned char start[10] = {0};
    memcpy(start, magic, sizeof magic);
    start[6] = 1;
    start[8] = (unsigned char)(length & 255);
    start[9] = (unsigned char)(length >> 8);
    size_t bytes = (size_t)bytes_of(array);
    return fwrite(start, 1, sizeof start, file) == sizeof start &&
           fwrite(text, 1, (size_t)length, file) == (size_t)length &&
           fwrite(array->tensor.data, 1, bytes, file) == bytes;
}

void npy_free(npy_array *array)
{
    free(array->tensor.data);
    memset(array, 0, sizeof *array);
}
