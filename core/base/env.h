/* SPDX-License-Identifier: MIT
 *
 * Reading the environment: a value that is not exactly what is expected is as if it
 * were not there, and a program with raised privileges reads none. */
#ifndef NATTEN_BASE_ENV_H
#define NATTEN_BASE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A decimal integer in [low, high], without sign, blanks or anything else. */
bool natten_env_integer(const char *name, int64_t low, int64_t high, int64_t *value);

/* A word of lower-case letters and digits that fits `bytes` with its NUL. */
bool natten_env_word(const char *name, char *word, size_t bytes);

#endif
