/* SPDX-License-Identifier: MIT
 *
 * The sums that every gradient of the reference is.  All of them weigh one end of each
 * pair and add it up at the other end; what the weight of a pair is (dS, P, grad_attn,
 * attn) is the only thing in which operations differ. */
#ifndef NATTEN_REFERENCE_GRADIENTS_H
#define NATTEN_REFERENCE_GRADIENTS_H

#include "reference/pair.h"

/* The weight of a pair; false where the pair contributes nothing, not even 0 times an
 * infinity. */
typedef bool natten_gradients_weight(const natten_pair *pair, double *weight);

/* Each writes one gradient of the task, which must be given.  `sum` is scratch of as
 * many doubles as head_dim (or head_dim_v).  The status is NATTEN_OK or
 * NATTEN_ERR_INTERRUPTED. */

/* grad_query = scale sum_j weight key_j. */
natten_status natten_gradients_query(const natten_task *task,
                                     natten_gradients_weight *weight, double *sum);

/* What a key's or a value's gradient is made of: the sum over the queries that see it
 * of factor * weight * the query's vector of role `source`. */
typedef struct natten_gradients_target {
    natten_role grad, grad_extra; /* where it goes, for tokens and for extra tokens */
    natten_role source;
    int64_t count; /* elements of a vector */
    double factor;
    natten_gradients_weight *weight;
} natten_gradients_target;

natten_gradients_target natten_gradients_key(const natten_task *task,
                                             natten_gradients_weight *weight);
natten_gradients_target natten_gradients_value(const natten_task *task,
                                               natten_gradients_weight *weight);
natten_status natten_gradients_tokens(const natten_task *task,
                                      const natten_gradients_target *target,
                                      double *sum);
natten_status natten_gradients_extras(const natten_task *task,
                                      const natten_gradients_target *target,
                                      double *sum);

/* grad_bias[head, entry] = sum of weight over batch and the pairs with that entry. */
natten_status natten_gradients_bias(const natten_task *task,
                                    natten_gradients_weight *weight);

#endif
