/* SPDX-License-Identifier: MIT
 *
 * Strict parsing of environment variables, character by character: no locale, no errno,
 * and no value so long or so strange that it does more than be ignored. */
#include "base/env.h"

#include <stdlib.h>

static const char *look_up(const char *name)
{
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    return secure_getenv(name);
#else
    return getenv(name);
#endif
}

bool natten_env_integer(const char *name, int64_t low, int64_t high, int64_t *value)
{
    const char *text = look_up(name);
    if (!text || !*text)
        return false;
    int64_t n = 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, *text - '0', &n))
            return false;
    }
    if (n < low || n > high)
        return false;
    *value = n;
    return true;
}

bool natten_env_word(const char *name, char *word, size_t bytes)
{
    const char *text = look_up(name);
    if (!text || !*text)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        word[i] = c;
        if (!c)
            return true;
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            return false;
    }
    return false;
}
