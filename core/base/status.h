/* SPDX-License-Identifier: MIT
 *
 * Failures: a status for the program and a sentence for the person, kept per thread.
 * The codes are natten.h's; their short texts are the table in status.c. */
#ifndef NATTEN_BASE_STATUS_H
#define NATTEN_BASE_STATUS_H

#include <natten.h>

enum { NATTEN_SENTENCE_BYTES = 256 };

/* Keep "<function>: <sentence>" for natten_last_error() and return `status`. The
 * function is the one that natten_status_enter() named. */
natten_status natten_status_fail(natten_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Name the public function that later sentences of this thread begin with. */
void natten_status_enter(const char *function);

/* Short text of a status, and this thread's last sentence ("" when there was none). */
const char *natten_status_text(natten_status status);
const char *natten_status_sentence(void);

/* Forward a failure to the caller. */
#define NATTEN_TRY(call)                    \
    do {                                    \
        natten_status natten_try_ = (call); \
        if (natten_try_ != NATTEN_OK)       \
            return natten_try_;             \
    } while (0)

#endif
