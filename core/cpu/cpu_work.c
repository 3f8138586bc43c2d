/* SPDX-License-Identifier: MIT
 *
 * How much of the work is waste: lanes that wait for the longest window beside them, or
 * have no owner.  One class of the last axis is counted, and the others taken for
 * alike. */
#include "cpu/cpu_work.h"

double natten_cpu_work_share(const natten_cpu_pass *p, const natten_cpu_kernels *k)
{
    enum { LONG = 1024 }; /* beyond, lanes lost at the ends do not count */
    const natten_axis *x = &p->axis[2];
    int32_t first_owner = p->owner_is_key ? x->key_begin : x->query_begin;
    natten_class c = natten_axis_class(x, first_owner % x->dilation);
    natten_span owners = p->owner_is_key ? c.keys : c.queries;
    int64_t computed = 0, wanted = 0;
    if (owners.end - owners.begin > LONG)
        owners.end = owners.begin + LONG;
    for (int32_t i = owners.begin; i < owners.end;) {
        int32_t longest = 0, first = 0, n = 0;
        for (; n < k->lanes && i + n < owners.end; n++) {
            natten_span s = p->owner_is_key ? natten_class_queries(&c, i + n)
                                            : natten_class_keys(&c, i + n);
            first = n ? first : s.begin;
            if (s.begin - first >= k->lanes)
                break;
            longest = natten_max(longest, s.end - s.begin);
            wanted += s.end - s.begin;
        }
        computed += (int64_t)k->lanes * longest;
        i += n;
    }
    return wanted ? (double)computed / (double)wanted : 1;
}
