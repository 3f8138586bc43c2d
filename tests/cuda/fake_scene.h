/* SPDX-License-Identifier: MIT
 *
 * What the scenarios of fake_cuda share.  A scenario is a function that returns false,
 * with a line that says why, when something is not as it should be. */
#ifndef NATTEN_TESTS_CUDA_FAKE_SCENE_H
#define NATTEN_TESTS_CUDA_FAKE_SCENE_H

#include "backend/backend.h"
#include "cuda/fake_driver.h"
#include "support/trial.h"

#include <stdio.h>

#define EXPECT(condition)                                                   \
    do {                                                                    \
        if (!(condition)) {                                                 \
            printf("# line %d: %s; last error: %s\n", __LINE__, #condition, \
                   natten_last_error());                                    \
            return false;                                                   \
        }                                                                   \
    } while (0)

/* The fake driver's. */
fake_state *state(void);
/* A call whose tensors are compact and in the memory of `device_type`. */
void make(trial *t, const char *text, int32_t device_type);

/* The launches of a call, if they are those of these kernels, which have so many maps;
 * else NULL. */
const fake_launch *fake_launches_of(trial *t, const char *const names[], int count,
                                    int maps);

/* Begin the driver's log anew, but for what is allocated. */
void forget_log(void);
/* So many bytes of its GPU. */
void *fake_memory_of(size_t bytes);
/* Plan such a call for a GPU of 100 processors; false if it is refused. */
bool fake_plan_of(const char *text, int32_t arch, natten_plan *plan);
/* Does the last sentence hold these words? */
bool says(const char *words);

#endif
