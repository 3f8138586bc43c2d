/* SPDX-License-Identifier: MIT
 *
 * How a pass is cut: tiles by counting, softmax chunks, the strips and the scratch of a
 * thread.  From the task, the variant and the machine's caches alone, never from the
 * number of threads. */
#ifndef NATTEN_CPU_TILE_H
#define NATTEN_CPU_TILE_H

#include "cpu/cpu_pass.h"

/* What a pass of backward leaves of the promise, for slices of sums: cpu_job.c. */
enum { NATTEN_CPU_SUMS_BYTES = 256 << 10 };

/* And of what is promised, for the sums of grad_bias by lanes: cpu_bias.h. */
enum { NATTEN_CPU_BIAS_BYTES = 256 << 10 };

/* Scratch per thread that is promised (docs/cpu-kernels.md), as long as one owner
 * vector with its strips fits. */
size_t natten_cpu_tile_promise(const natten_task *task);

/* Fill in chunk, owners, tile, tiles, classes, combos, strips, extra_chunk, layout. */
void natten_cpu_tile_choose(natten_cpu_pass *pass, const natten_cpu_kernels *kernels);

#endif
