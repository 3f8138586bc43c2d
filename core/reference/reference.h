/* SPDX-License-Identifier: MIT
 *
 * The definition, pair by pair, in double: slow and plain, for judging the others. */
#ifndef NATTEN_REFERENCE_REFERENCE_H
#define NATTEN_REFERENCE_REFERENCE_H

#include "backend/backend.h"

extern const natten_backend_entry natten_reference_backend;

#endif
