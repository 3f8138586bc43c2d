/* SPDX-License-Identifier: MIT
 *
 * The public functions that answer which size an array or a parameter must have, for
 * callers who make arrays before they call: so that no binding computes it. */
#include "base/status.h"
#include "problem/params.h"
#include "problem/roles.h"

#include <natten.h>

#include <inttypes.h>

natten_status natten_attn_slots(const natten_params *params,
                                const natten_tensor *additional, int64_t *slots)
{
    natten_params read;
    int64_t product = 1;
    natten_status_enter("natten_attn_slots");
    if (!slots)
        return natten_status_fail(NATTEN_ERR_ARGUMENT, "slots is NULL");
    NATTEN_TRY(natten_params_read(params, &read));
    if (additional && (additional->ndim != 4 || !additional->shape))
        return natten_status_fail(NATTEN_ERR_SHAPE,
                                  "additional.ndim=%" PRId32 " not in [4, 4]",
                                  additional->ndim);
    int64_t extras = additional ? additional->shape[1] : 0;
    if (extras < 0)
        return natten_status_fail(
            NATTEN_ERR_SHAPE, "additional[extras]=%" PRId64 " not in [0, %" PRId64 "]",
            extras, INT64_MAX);
    bool fits = true;
    for (int a = 0; a < read.rank; a++) {
        int64_t k = read.kernel_size[a];
        if (k < 1 || k > INT32_MAX)
            return natten_status_fail(
                NATTEN_ERR_ARGUMENT, "kernel_size[%s]=%" PRId64 " not in [1, %d]",
                natten_roles_axis_name(read.rank, a), k, INT32_MAX);
        fits = fits && !__builtin_mul_overflow(product, k, &product);
    }
    if (!fits || __builtin_add_overflow(product, extras, &product))
        return natten_status_fail(
            NATTEN_ERR_OVERFLOW,
            "the product of kernel_size, plus extras, does not fit in 63 bits");
    *slots = product;
    return NATTEN_OK;
}

int64_t natten_attention_length(int64_t queries, int64_t keys)
{
    int64_t longest = queries > keys ? queries : keys;
    return longest > 1 ? longest : 1; /* a grid is never empty */
}
