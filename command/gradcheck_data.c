/* SPDX-License-Identifier: MIT
 *
 * From a problem to tensors, and from tensors to calls. */
#include "gradcheck_data.h"

#include "command.h"
#include "problem/roles.h"

#include <string.h>

const check_pair check_pairs[CHECK_PAIRS] = {
    {NATTEN_QUERY, NATTEN_GRAD_QUERY},
    {NATTEN_KEY, NATTEN_GRAD_KEY},
    {NATTEN_VALUE, NATTEN_GRAD_VALUE},
    {NATTEN_BIAS, NATTEN_GRAD_BIAS},
    {NATTEN_ADDITIONAL_KEYS, NATTEN_GRAD_ADDITIONAL_KEYS},
    {NATTEN_ADDITIONAL_VALUES, NATTEN_GRAD_ADDITIONAL_VALUES},
    {NATTEN_ATTN, NATTEN_GRAD_ATTN},
    {NATTEN_OUT, NATTEN_GRAD_OUT},
    {NATTEN_LSE, NATTEN_GRAD_LSE},
};

static const struct {
    natten_operation forward, backward;
} operations[] = {{NATTEN_FORWARD, NATTEN_BACKWARD},
                  {NATTEN_QK, NATTEN_QK_BACKWARD},
                  {NATTEN_AV, NATTEN_AV_BACKWARD}};

bool check_is_result(const check *c, natten_role tensor)
{
    const natten_operation_info *info = natten_roles_of(c->forward.operation);
    for (int i = 0; i < info->uses; i++)
        if (info->use[i].role == tensor)
            return info->use[i].output;
    return false;
}

/* Ask the library before memory is made: what an illegal window would make of a shape
 * is nobody's business. */
static natten_status ask(const check *c)
{
    const natten_problem_spec *spec = &c->forward;
    bool av = spec->operation == NATTEN_AV;
    const natten_role roles[4] = {
        av ? NATTEN_ATTN : NATTEN_QUERY, av ? NATTEN_VALUE : NATTEN_KEY, NATTEN_VALUE,
        av ? NATTEN_ADDITIONAL_VALUES : NATTEN_ADDITIONAL_KEYS};
    natten_tensor tensor[4];
    int64_t shape[4][6];
    for (int i = 0; i < 4; i++)
        tensor[i] =
            (natten_tensor){.device_type = NATTEN_CPU,
                            .ndim = natten_problem_spec_shape(spec, roles[i], shape[i]),
                            .dtype_code = NATTEN_FLOAT,
                            .dtype_bits = 64,
                            .dtype_lanes = 1,
                            .shape = shape[i]};
    bool fused = spec->operation == NATTEN_FORWARD;
    return natten_supported(&c->params, (int32_t)spec->operation, &tensor[0],
                            &tensor[1], fused ? &tensor[2] : NULL,
                            spec->extras ? &tensor[3] : NULL);
}

/* Room for a role's tensor, with the data of the page on problem texts. */
static int add(check *c, const natten_problem_spec *spec, natten_role which)
{
    int64_t shape[6];
    npy_array *array = &c->array[which];
    if (!natten_problem_spec_has(spec, which))
        return EXIT_FINE;
    int ndim = natten_problem_spec_shape(spec, which, shape);
    int status =
        npy_allocate(array, ELEMENT_FP64, ndim, shape, natten_roles_info(which)->name);
    if (!status)
        natten_problem_spec_fill(spec, which, array->tensor.data, array->count);
    return status;
}

int check_create(check *c, const natten_problem_spec *asked)
{
    memset(c, 0, sizeof *c);
    c->forward = c->backward = *asked;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (asked->operation == operations[i].forward ||
            asked->operation == operations[i].backward) {
            c->forward.operation = operations[i].forward;
            c->backward.operation = operations[i].backward;
        }
    c->params = natten_problem_spec_params(asked, NATTEN_BACKEND_AUTO);
    int status = command_check(ask(c));
    for (int i = 0; i < CHECK_PAIRS && !status; i++) {
        status = add(c, &c->forward, check_pairs[i].tensor);
        if (!status)
            status = add(c, &c->backward, check_pairs[i].gradient);
    }
    return status;
}

void check_destroy(check *c)
{
    for (int which = 0; which < NATTEN_ROLES; which++)
        npy_free(&c->array[which]);
}

static natten_tensor *of(check *c, natten_role which)
{
    return c->array[which].tensor.data ? &c->array[which].tensor : NULL;
}

/* By name, as natten.h lists them. */
#define T(role) of(c, NATTEN_##role)

natten_status check_forward(check *c)
{
    const natten_params *p = &c->params;
    switch (c->forward.operation) {
    case NATTEN_FORWARD:
        return natten_forward(p, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                              T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT), T(LSE),
                              NULL, 0, NULL);
    case NATTEN_QK:
        return natten_qk(p, T(QUERY), T(KEY), T(BIAS), T(ADDITIONAL_KEYS), T(ATTN),
                         NULL, 0, NULL);
    default:
        return natten_av(p, T(ATTN), T(VALUE), T(ADDITIONAL_VALUES), T(OUT), NULL, 0,
                         NULL);
    }
}

natten_status check_backward(check *c)
{
    const natten_params *p = &c->params;
    switch (c->backward.operation) {
    case NATTEN_BACKWARD:
        return natten_backward(p, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                               T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT), T(LSE),
                               T(GRAD_OUT), T(GRAD_LSE), T(GRAD_QUERY), T(GRAD_KEY),
                               T(GRAD_VALUE), T(GRAD_BIAS), T(GRAD_ADDITIONAL_KEYS),
                               T(GRAD_ADDITIONAL_VALUES), NULL, 0, NULL);
    case NATTEN_QK_BACKWARD:
        return natten_qk_backward(p, T(QUERY), T(KEY), T(ADDITIONAL_KEYS), T(GRAD_ATTN),
                                  T(GRAD_QUERY), T(GRAD_KEY), T(GRAD_BIAS),
                                  T(GRAD_ADDITIONAL_KEYS), NULL, 0, NULL);
    default:
        return natten_av_backward(p, T(ATTN), T(VALUE), T(ADDITIONAL_VALUES),
                                  T(GRAD_OUT), T(GRAD_ATTN), T(GRAD_VALUE),
                                  T(GRAD_ADDITIONAL_VALUES), NULL, 0, NULL);
    }
}

static int below(uint32_t *state, int most)
{
    *state = *state * 1664525U + 1013904223U;
    return (int)((uint64_t)(*state >> 8) * (uint64_t)most >> 24);
}

natten_problem_spec check_random_problem(uint32_t seed)
{
    static const natten_operation choice[] = {NATTEN_BACKWARD, NATTEN_BACKWARD,
                                              NATTEN_QK_BACKWARD, NATTEN_AV_BACKWARD};
    natten_problem_spec s = {.dtype = NATTEN_FP64, .operation = choice[seed % 4]};
    seed = seed * 2654435761U + 1;
    below(&seed, 2);
    s.rank = 1 + below(&seed, 3);
    for (int a = 0; a < s.rank; a++) {
        int length = (s.rank == 1 ? 9 : 3) + below(&seed, s.rank == 1 ? 8 : 4);
        int dilation = 1 + below(&seed, 2),
            window = 1 + below(&seed, length / dilation);
        s.queries[a] = s.keys[a] = s.grid_length[a] = length;
        s.dilation[a] = dilation;
        s.kernel_size[a] = window;
        s.stride[a] = 1 + below(&seed, window);
        s.is_causal[a] = below(&seed, 2);
    }
    s.batch = 1 + below(&seed, 2);
    s.heads_kv = 1 + below(&seed, 2);
    s.heads = s.heads_kv * (1 + below(&seed, 2));
    s.dim = 1 + below(&seed, 5);
    s.dim_v = 1 + below(&seed, 5);
    s.extras = below(&seed, 4);
    s.has_bias = below(&seed, 2) && s.operation != NATTEN_AV_BACKWARD;
    s.has_grad_lse = below(&seed, 2) && s.operation == NATTEN_BACKWARD;
    s.seed = 1 + below(&seed, 2000);
    return s;
}
