/* SPDX-License-Identifier: MIT
 *
 * The gradients of keys that items of GRAD_ALL add to: of a part of a grid
 * all is cleared first, of a whole one the first to give stores (cpu_give.h); run
 * after run of the scheduler adds its share.  Those of a type too narrow to add to are
 * summed in the workspace, as many units at a time as it has room for, and rounded. The
 * items of a run are those of one parity of tiles along each axis, and of one query
 * head of each group; they share no key, and a key gets its shares in the
 * order of the runs. */
#ifndef NATTEN_CPU_SHARE_H
#define NATTEN_CPU_SHARE_H

#include "cpu/cpu_pass.h"

/* Do queries of a tile and of the next but one see no key alike? Windows move with
 * their queries, a stride at a time; but those near a border have been shifted away
 * from it by up to half a window. Either a tile is so much longer, or the last one
 * begins before them. May say no where the answer is yes. */
bool natten_cpu_share_apart(const natten_cpu_pass *pass, int axis, int64_t tile);

/* A run, of some units: batch items times heads of keys. */
typedef struct natten_cpu_share {
    int64_t first, units;
    int64_t head; /* of a group */
    int parity[3];
} natten_cpu_share;

/* The first run of at most `most` units from `first` on: heads of one batch item, or
 * all heads of some. */
void natten_cpu_share_take(const natten_cpu_pass *pass, natten_cpu_share *share,
                           int64_t first, int64_t most);

/* How many items a run has, and its item `index`. */
int64_t natten_cpu_share_items(const natten_cpu_pass *pass,
                               const natten_cpu_share *share);
natten_cpu_item natten_cpu_share_item(const natten_cpu_pass *pass,
                                      const natten_cpu_share *share, int64_t index);

/* Go on to the next run of these units; false if there is none. */
bool natten_cpu_share_next(const natten_cpu_pass *pass, natten_cpu_share *share);

/* Clear piece `piece` of so many of what items add to. */
int64_t natten_cpu_share_pieces(const natten_cpu_pass *pass,
                                const natten_cpu_share *share);
void natten_cpu_share_clear(const natten_cpu_pass *pass, int64_t piece, int64_t bytes);

/* Round the same piece of the sums in the workspace. */
void natten_cpu_share_round(const natten_cpu_pass *pass, const natten_cpu_share *share,
                            int64_t piece, const natten_cpu_kernels *kernels);

#endif
