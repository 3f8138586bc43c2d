/* SPDX-License-Identifier: MIT
 *
 * The gradients of keys that items of GRAD_ALL add to: of a part of a grid all is
 * cleared first, of a whole one the first to give stores (cpu_give.h). Those of a type
 * too narrow to add to are summed in the workspace, as many units at a time as it has
 * room for, and rounded.
 *
 * A key gets its shares in the order of the items: before an item gives to a plane of
 * keys it waits until those before it that give to keys there are past it.  They are
 * about to be, for neighbours along axes 1 and 2 go through their planes side by side;
 * and of neighbours along axis 0, which meet at the beginning of one and the end of the
 * other, the one that begins there comes first. */
#ifndef NATTEN_CPU_SHARE_H
#define NATTEN_CPU_SHARE_H

#include "cpu/cpu_pass.h"

/* A run, of some units: batch items times heads of keys. */
typedef struct natten_cpu_share {
    int64_t first, units;
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

/* The heads of queries of a run, and how many of its items each of them has. */
typedef struct natten_cpu_heads {
    int64_t first, count, items;
} natten_cpu_heads;

natten_cpu_heads natten_cpu_share_heads(const natten_cpu_pass *pass,
                                        const natten_cpu_share *share);

/* Which of them an item is: those of a head follow one another. */
int64_t natten_cpu_share_slice(const natten_cpu_pass *pass,
                               const natten_cpu_share *share,
                               const natten_cpu_item *item);

/* Do several items give to the same key? */
bool natten_cpu_share_meets(const natten_cpu_pass *pass);

/* An item, and the tiles of its class that see keys which it sees: along axes 1 and 2
 * any, along axis 0 those of a plane. */
typedef struct natten_cpu_place {
    int64_t head, combo;
    int tile[3];
    natten_span rivals[3];
} natten_cpu_place;

/* The item has given all that it has for planes of keys before `plane`. */
void natten_cpu_share_report(const natten_cpu_pass *pass, const natten_cpu_place *place,
                             int plane);

/* Wait until those that come first have, for `plane` and those before; false if the
 * run has been stopped. */
bool natten_cpu_share_await(const natten_cpu_pass *pass, const natten_cpu_place *place,
                            int plane);

/* Clear piece `piece` of so many of what items add to. */
int64_t natten_cpu_share_pieces(const natten_cpu_pass *pass,
                                const natten_cpu_share *share);
void natten_cpu_share_clear(const natten_cpu_pass *pass, int64_t piece, int64_t bytes);

/* Round the same piece of the sums in the workspace. */
void natten_cpu_share_round(const natten_cpu_pass *pass, const natten_cpu_share *share,
                            int64_t piece, const natten_cpu_kernels *kernels);

#endif
