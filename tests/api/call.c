/* SPDX-License-Identifier: MIT
 *
 * Calls for tests of the public API. */
#include "api/call.h"

#include "problem/roles.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

bool call_writes(const call *c, natten_role role)
{
    const natten_operation_info *info = natten_roles_of(c->spec.operation);
    for (int i = 0; i < info->uses; i++)
        if (info->use[i].role == role)
            return info->use[i].output;
    return false;
}

static void make_tensor(call *c, natten_role role)
{
    natten_tensor *t = &c->tensor[role];
    natten_dtype dtype = natten_problem_spec_dtype(&c->spec, role);
    *t = (natten_tensor){.device_type = NATTEN_CPU, .dtype_lanes = 1};
    natten_dtype_to_dlpack(dtype, &t->dtype_code, &t->dtype_bits);
    t->ndim = natten_problem_spec_shape(&c->spec, role, c->shape[role]);
    t->shape = c->shape[role];
    t->strides = c->strides[role];
    int64_t count = 1;
    for (int n = t->ndim - 1; n >= 0; n--) {
        c->strides[role][n] = count;
        count *= c->shape[role][n];
    }
    size_t bytes = (size_t)count * natten_dtype_bytes(dtype);
    c->bytes[role] = bytes + 2 * CALL_MARGIN;
    c->memory[role] = malloc(c->bytes[role]);
    c->before[role] = malloc(c->bytes[role]);
    memset(c->memory[role], 0xff, c->bytes[role]);
    t->data = c->memory[role] + CALL_MARGIN;
    if (!call_writes(c, role))
        natten_problem_spec_fill(&c->spec, role, t->data, count);
    memcpy(c->before[role], c->memory[role], c->bytes[role]);
    c->given[role] = true;
}

void call_make(call *c, const char *text)
{
    memset(c, 0, sizeof *c);
    if (natten_problem_text_parse(text, &c->spec) != NATTEN_OK)
        abort();
    c->params = natten_problem_spec_params(&c->spec, NATTEN_BACKEND_REFERENCE);
    for (int role = 0; role < NATTEN_ROLES; role++)
        if (natten_problem_spec_has(&c->spec, (natten_role)role))
            make_tensor(c, (natten_role)role);
}

void call_free(call *c)
{
    for (int role = 0; role < NATTEN_ROLES; role++) {
        free(c->memory[role]);
        free(c->before[role]);
    }
}

static natten_tensor *of(call *c, natten_role role)
{
    return c->given[role] ? &c->tensor[role] : NULL;
}

/* By name, as natten.h lists them. */
#define T(role) of(c, NATTEN_##role)
#define SCRATCH c->workspace, c->workspace_bytes, NULL

natten_status call_run(call *c)
{
    const natten_params *p = &c->params;
    switch (c->spec.operation) {
    case NATTEN_FORWARD:
        return natten_forward(p, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                              T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT), T(LSE),
                              SCRATCH);
    case NATTEN_BACKWARD:
        return natten_backward(p, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                               T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT), T(LSE),
                               T(GRAD_OUT), T(GRAD_LSE), T(GRAD_QUERY), T(GRAD_KEY),
                               T(GRAD_VALUE), T(GRAD_BIAS), T(GRAD_ADDITIONAL_KEYS),
                               T(GRAD_ADDITIONAL_VALUES), SCRATCH);
    case NATTEN_QK:
        return natten_qk(p, T(QUERY), T(KEY), T(BIAS), T(ADDITIONAL_KEYS), T(ATTN),
                         SCRATCH);
    case NATTEN_QK_BACKWARD:
        return natten_qk_backward(p, T(QUERY), T(KEY), T(ADDITIONAL_KEYS), T(GRAD_ATTN),
                                  T(GRAD_QUERY), T(GRAD_KEY), T(GRAD_BIAS),
                                  T(GRAD_ADDITIONAL_KEYS), SCRATCH);
    case NATTEN_AV:
        return natten_av(p, T(ATTN), T(VALUE), T(ADDITIONAL_VALUES), T(OUT), SCRATCH);
    default:
        return natten_av_backward(p, T(ATTN), T(VALUE), T(ADDITIONAL_VALUES),
                                  T(GRAD_OUT), T(GRAD_ATTN), T(GRAD_VALUE),
                                  T(GRAD_ADDITIONAL_VALUES), SCRATCH);
    }
}

bool call_is_untouched(const call *c, bool results_too)
{
    for (int role = 0; role < NATTEN_ROLES; role++) {
        const unsigned char *now = c->memory[role], *then = c->before[role];
        size_t bytes = c->bytes[role], end = bytes - CALL_MARGIN;
        if (!now)
            continue;
        bool result = call_writes(c, (natten_role)role);
        if (result && !results_too ? memcmp(now, then, CALL_MARGIN) ||
                                         memcmp(now + end, then + end, CALL_MARGIN)
                                   : memcmp(now, then, bytes))
            return false;
    }
    return true;
}

bool call_is_written(const call *c)
{
    static const unsigned char poison[8] = {0xff, 0xff, 0xff, 0xff,
                                            0xff, 0xff, 0xff, 0xff};
    for (int role = 0; role < NATTEN_ROLES; role++) {
        if (!c->given[role] || !call_writes(c, (natten_role)role))
            continue;
        size_t bytes = c->tensor[role].dtype_bits / 8u;
        for (size_t at = CALL_MARGIN; at < c->bytes[role] - CALL_MARGIN; at += bytes)
            if (memcmp(c->memory[role] + at, poison, bytes) == 0)
                return false;
    }
    return true;
}

bool call_said(const char *regex)
{
    regex_t compiled;
    if (regcomp(&compiled, regex, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    bool match = regexec(&compiled, natten_last_error(), 0, NULL, 0) == 0;
    regfree(&compiled);
    return match;
}
