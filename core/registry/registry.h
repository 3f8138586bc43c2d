/* SPDX-License-Identifier: MIT
 *
 * The backends of this build, fastest first, ended by NULL. */
#ifndef NATTEN_REGISTRY_REGISTRY_H
#define NATTEN_REGISTRY_REGISTRY_H

#include "backend/backend.h"

extern const natten_backend_entry *const natten_registry[];

#endif
