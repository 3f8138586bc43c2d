/* SPDX-License-Identifier: MIT
 *
 * The gradients of keys that items of GRAD_ALL add to: first all is cleared, then run
 * after run of the scheduler adds its share.  The items of a run are those of one
 * parity of tiles along each axis, and of one query head of each group; they share no
 * key (cpu_tile.c), and a key gets its shares in the order of the runs. */
#ifndef NATTEN_CPU_SHARE_H
#define NATTEN_CPU_SHARE_H

#include "cpu/cpu_pass.h"

/* A run; the first is all zeros. */
typedef struct natten_cpu_share {
    int64_t head; /* of a group */
    int parity[3];
} natten_cpu_share;

/* How many items a run has, and its item `index`. */
int64_t natten_cpu_share_items(const natten_cpu_pass *pass,
                               const natten_cpu_share *share);
natten_cpu_item natten_cpu_share_item(const natten_cpu_pass *pass,
                                      const natten_cpu_share *share, int64_t index);

/* Go on to the next run; false if there is none. */
bool natten_cpu_share_next(const natten_cpu_pass *pass, natten_cpu_share *share);

/* Clear piece `piece` of so many. */
int64_t natten_cpu_share_pieces(const natten_cpu_pass *pass);
void natten_cpu_share_clear(const natten_cpu_pass *pass, int64_t piece, int64_t bytes);

#endif
