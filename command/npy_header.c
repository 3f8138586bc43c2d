/* SPDX-License-Identifier: MIT
 *
 * Parser for the dictionary at the head of a .npy file.  It reads the part of Python's
 * syntax that NumPy writes (and has written: integers may end in L), in any order of
 * the entries, and nothing else. */
#include "npy_header.h"

#include <ctype.h>
#include <string.h>

static void skip_blanks(const char **at)
{
    while (isspace((unsigned char)**at))
        ++*at;
}

/* Take `word` if it comes next. */
static bool take(const char **at, const char *word)
{
    skip_blanks(at);
    size_t length = strlen(word);
    if (strncmp(*at, word, length) != 0)
        return false;
    *at += length;
    return true;
}

/* A quoted string without escapes, at most size - 1 characters. */
static bool take_string(const char **at, char *string, size_t size)
{
    skip_blanks(at);
    char quote = **at;
    if (quote != '\'' && quote != '"')
        return false;
    const char *end = strchr(*at + 1, quote);
    if (!end || (size_t)(end - *at - 1) >= size)
        return false;
    memcpy(string, *at + 1, (size_t)(end - *at - 1));
    string[end - *at - 1] = '\0';
    *at = end + 1;
    return true;
}

static bool take_integer(const char **at, int64_t *value)
{
    skip_blanks(at);
    if (!isdigit((unsigned char)**at))
        return false;
    for (*value = 0; isdigit((unsigned char)**at); ++*at)
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, **at - '0', value))
            return false;
    if (**at == 'L')
        ++*at;
    return true;
}

static bool take_shape(const char **at, npy_header *header)
{
    if (!take(at, "("))
        return false;
    header->ndim = 0;
    while (!take(at, ")")) {
        if (header->ndim == NPY_MAX_NDIM ||
            !take_integer(at, &header->shape[header->ndim]))
            return false;
        header->ndim++;
        if (!take(at,
                  ",")) /* only the last has no comma, and it must not stand alone */
            return header->ndim > 1 && take(at, ")");
    }
    return true;
}

static bool parse_descr(npy_header *header, const char *descr)
{
    char order = '|';
    if (strchr("<>|=", *descr) && *descr)
        order = *descr++;
    header->swapped = (order == '<' || order == '>') && order != NPY_NATIVE_ORDER;
    for (header->kind = 0; header->kind < ELEMENTS; header->kind++) {
        const element_kind *kind = &element_kinds[header->kind];
        if (strcmp(descr, kind->descr) == 0 ||
            (kind->alias && strcmp(descr, kind->alias) == 0))
            return true;
    }
    return false;
}

const char *npy_header_parse(npy_header *header, const char *text)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    int seen = 0;
    char key[16], descr[16];
    memset(header, 0, sizeof *header);
    if (!take(&text, "{"))
        return "the header is no dictionary";
    while (!take(&text, "}")) {
        if (!take_string(&text, key, sizeof key) || !take(&text, ":"))
            return "the header is no dictionary";
        if (strcmp(key, "descr") == 0) {
            seen |= DESCR;
            if (!take_string(&text, descr, sizeof descr) || !parse_descr(header, descr))
                return "elements of a type other than fp64, fp32, fp16, bf16, uint16, "
                       "uint8";
        } else if (strcmp(key, "fortran_order") == 0) {
            seen |= ORDER;
            header->fortran_order = take(&text, "True");
            if (!header->fortran_order && !take(&text, "False"))
                return "fortran_order is neither True nor False";
        } else if (strcmp(key, "shape") == 0) {
            seen |= SHAPE;
            if (!take_shape(&text, header))
                return "the shape is no tuple of at most 8 sizes";
        } else {
            return "the header has an unknown entry";
        }
        if (!take(&text, ",")) {
            if (!take(&text, "}"))
                return "the header is no dictionary";
            break;
        }
    }
    skip_blanks(&text);
    if (*text != '\0')
        return "something follows the header's dictionary";
    return seen == (DESCR | ORDER | SHAPE) ? NULL : "the header lacks an entry";
}
