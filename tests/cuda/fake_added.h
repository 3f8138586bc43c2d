/* SPDX-License-Identifier: MIT
 *
 * The scenarios of gradients of queries that are added in any order. */
#ifndef NATTEN_TESTS_CUDA_FAKE_ADDED_H
#define NATTEN_TESTS_CUDA_FAKE_ADDED_H

#include <stdbool.h>

bool fake_added(void);
bool fake_added_launches(void);

#endif
