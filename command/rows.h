/* SPDX-License-Identifier: MIT
 *
 * The command's own loops over rows, spread over as many threads as the library uses.
 */
#ifndef NATTEN_COMMAND_ROWS_H
#define NATTEN_COMMAND_ROWS_H

#include <stdint.h>

/* Rows [begin, end) of what `data` says; rows must not depend on each other. */
typedef void rows_work(void *data, int64_t begin, int64_t end);

/* Do rows [0, count), each once; returns when all are done. */
void rows_run(rows_work *work, void *data, int64_t count);

#endif
