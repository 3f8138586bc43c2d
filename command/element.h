/* SPDX-License-Identifier: MIT
 *
 * The element types of files: how NumPy's descriptors, the names on the command line
 * and the library's types go together, and conversion between them. */
#ifndef NATTEN_COMMAND_ELEMENT_H
#define NATTEN_COMMAND_ELEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum element {
    ELEMENT_FP64,
    ELEMENT_FP32,
    ELEMENT_BF16,
    ELEMENT_FP16,
    ELEMENT_UINT8,  /* pictures */
    ELEMENT_UINT16, /* pictures, and bf16 as bits */
    ELEMENTS
} element;

typedef struct element_kind {
    const char *name;  /* "fp64": on the command line and in messages */
    const char *descr; /* "f8": NumPy's, without the byte order */
    const char *alias; /* another descriptor read as this one */
    int bytes;
    uint8_t dlpack_code; /* 0: the library has no such type */
} element_kind;

extern const element_kind element_kinds[ELEMENTS];

/* fp64 for fp64, fp32 for the others: the type of bias and lse. */
element element_accumulator(element of);
/* One of the library's four from its name; false if it is none. */
bool element_from_name(const char *name, element *found);

/* Element `index` as double, exactly; and back, rounded to nearest, ties to even
 * (integers are cut at their ends). */
double element_load(element kind, const void *data, int64_t index);
void element_store(element kind, void *data, int64_t index, double value);

#endif
