/* SPDX-License-Identifier: MIT
 *
 * natten forward and natten backward: attention and its gradients. */
#include "call.h"
#include "progress.h"

#include <string.h>

static const role positional[] = {ROLE_QUERY, ROLE_KEY, ROLE_VALUE};

static const call_plan forward_plan = {NATTEN_FORWARD, ROLE_QUERY, ROLE_KEY, ROLE_VALUE,
                                       ROLE_ADDITIONAL_KEYS};
static const call_plan backward_plan = {NATTEN_BACKWARD, ROLE_QUERY, ROLE_KEY,
                                        ROLE_VALUE, ROLE_ADDITIONAL_KEYS};

static const struct argp_child children[] = {{&options_window, 0, NULL, 0},
                                             {&options_run, 0, NULL, 0},
                                             {&options_plan, 0, NULL, 0},
                                             {&options_device, 0, NULL, 0},
                                             {0}};

static const struct argp_option forward_table[] = {
    {"out", KEY_ROLE + ROLE_OUT, "O.npy", 0, "where out goes; needed", 0},
    {"lse", KEY_ROLE + ROLE_LSE, "L.npy", 0, "where lse goes", 0},
    {"bias", KEY_ROLE + ROLE_BIAS, "B.npy", 0, "relative position bias", 0},
    {"additional-keys", KEY_ROLE + ROLE_ADDITIONAL_KEYS, "AK.npy", 0,
     "tokens that every query sees", 0},
    {"additional-values", KEY_ROLE + ROLE_ADDITIONAL_VALUES, "AV.npy", 0,
     "their values", 0},
    {0}};

static error_t parse_forward(int key, char *argument, struct argp_state *state)
{
    call *c = state->input;
    if (key == ARGP_KEY_INIT)
        options_share(state, children, state->input);
    if (key == ARGP_KEY_END && !c->path[ROLE_OUT])
        argp_error(state, "--out is missing");
    return options_parse(key, argument, state);
}

static const struct argp forward_argp = {
    forward_table,
    parse_forward,
    "Q.npy K.npy V.npy --out O.npy --kernel-size K",
    "Neighborhood attention: out = softmax(scale query key^T + bias) value over each "
    "token's window.\v"
    "Arrays are [batch, axes..., heads, head_dim] with 1 to 3 axes; key and value may "
    "have "
    "fewer heads, a divisor of query's; the bias is [heads, 2 kernel_size - 1 per "
    "axis], "
    "additional keys and values are [batch, extras, heads, head_dim].",
    children,
    NULL,
    NULL};

/* The first dimensions of query and value must go together before out has a shape. */
static int check_value(call *c)
{
    int ndim = c->array[ROLE_QUERY].tensor.ndim;
    if (c->array[ROLE_VALUE].tensor.ndim == ndim)
        return EXIT_FINE;
    return command_fail(EXIT_USAGE, "value: %s: %d dimensions, but query has %d",
                        c->path[ROLE_VALUE], c->array[ROLE_VALUE].tensor.ndim, ndim);
}

/* Room for out and lse: also for backward, when it has to compute them. */
static int make_results(call *c)
{
    const npy_array *value = &c->array[ROLE_VALUE];
    int status =
        call_output(c, ROLE_OUT, ROLE_QUERY, value->shape[value->tensor.ndim - 1]);
    return status ? status : call_output(c, ROLE_LSE, ROLE_QUERY, LAST_DROP);
}

static natten_status run_forward(call *c, const natten_params *params)
{
    if (c->on_gpu)
        return natten_forward_host(
            params, call_tensor(c, ROLE_QUERY), call_tensor(c, ROLE_KEY),
            call_tensor(c, ROLE_VALUE), call_tensor(c, ROLE_BIAS),
            call_tensor(c, ROLE_ADDITIONAL_KEYS),
            call_tensor(c, ROLE_ADDITIONAL_VALUES), call_tensor(c, ROLE_OUT),
            call_tensor(c, ROLE_LSE), c->gpu);
    return natten_forward(
        params, call_tensor(c, ROLE_QUERY), call_tensor(c, ROLE_KEY),
        call_tensor(c, ROLE_VALUE), call_tensor(c, ROLE_BIAS),
        call_tensor(c, ROLE_ADDITIONAL_KEYS), call_tensor(c, ROLE_ADDITIONAL_VALUES),
        call_tensor(c, ROLE_OUT), call_tensor(c, ROLE_LSE), NULL, 0, NULL);
}

static int forward(call *c)
{
    static const role inputs[] = {ROLE_QUERY,           ROLE_KEY,
                                  ROLE_VALUE,           ROLE_BIAS,
                                  ROLE_ADDITIONAL_KEYS, ROLE_ADDITIONAL_VALUES};
    natten_params params;
    int status = call_read(c, inputs, 6);
    if (!status)
        status = call_params(c, ROLE_QUERY, &params);
    if (!status)
        status = check_value(c);
    if (!status)
        status = make_results(c);
    if (!status)
        status = call_explain(c, &params, &forward_plan);
    progress_wait("forward");
    double begin = call_clock();
    if (!status)
        status = command_check(run_forward(c, &params));
    return status ? status : call_finish(c, "forward", call_clock() - begin);
}

int command_forward(int argc, char **argv)
{
    call c = {.positional = positional, .positionals = 3};
    argp_parse(&forward_argp, argc, argv, 0, NULL, &c);
    return call_end(&c, forward(&c));
}

static const struct argp_option backward_table[] = {
    {NULL, 0, NULL, 0, "What forward was given, and gave:", 0},
    {"bias", KEY_ROLE + ROLE_BIAS, "B.npy", 0, "relative position bias", 0},
    {"additional-keys", KEY_ROLE + ROLE_ADDITIONAL_KEYS, "AK.npy", 0,
     "tokens that every query sees", 0},
    {"additional-values", KEY_ROLE + ROLE_ADDITIONAL_VALUES, "AV.npy", 0,
     "their values", 0},
    {"out", KEY_ROLE + ROLE_OUT, "O.npy", 0,
     "forward's out, or the merged out of several parts [computed first]", 0},
    {"lse", KEY_ROLE + ROLE_LSE, "L.npy", 0, "the lse of that out", 0},
    {"grad-out", KEY_ROLE + ROLE_GRAD_OUT, "G.npy", 0,
     "gradient with respect to out; needed", 0},
    {"grad-lse", KEY_ROLE + ROLE_GRAD_LSE, "GL.npy", 0,
     "gradient with respect to lse [zeros]", 0},
    {NULL, 0, NULL, 0, "Where gradients go:", 0},
    {"grad-query", KEY_ROLE + ROLE_GRAD_QUERY, "DQ.npy", 0, "that of query", 0},
    {"grad-key", KEY_ROLE + ROLE_GRAD_KEY, "DK.npy", 0, "that of key", 0},
    {"grad-value", KEY_ROLE + ROLE_GRAD_VALUE, "DV.npy", 0, "that of value", 0},
    {"grad-bias", KEY_ROLE + ROLE_GRAD_BIAS, "DB.npy", 0, "that of the bias", 0},
    {"grad-additional-keys", KEY_ROLE + ROLE_GRAD_ADDITIONAL_KEYS, "DAK.npy", 0,
     "that of the additional keys", 0},
    {"grad-additional-values", KEY_ROLE + ROLE_GRAD_ADDITIONAL_VALUES, "DAV.npy", 0,
     "that of the additional values", 0},
    {0}};

static error_t parse_backward(int key, char *argument, struct argp_state *state)
{
    call *c = state->input;
    if (key == ARGP_KEY_INIT)
        options_share(state, children, state->input);
    if (key == ARGP_KEY_END) {
        if (!c->path[ROLE_GRAD_OUT])
            argp_error(state, "--grad-out is missing");
        if (!c->path[ROLE_OUT] != !c->path[ROLE_LSE])
            argp_error(state, "%s is missing: --out and --lse go together",
                       c->path[ROLE_OUT] ? "--lse" : "--out");
        bool wanted = false;
        for (role which = ROLE_GRAD_QUERY; which < ROLES; which++)
            wanted |= c->path[which] != NULL;
        if (!wanted)
            argp_error(state, "no gradient is asked for: --grad-query FILE and so on");
    }
    return options_parse(key, argument, state);
}

static const struct argp backward_argp = {
    backward_table,
    parse_backward,
    "Q.npy K.npy V.npy --grad-out G.npy --kernel-size K",
    "Gradients of natten forward: the same bits whatever the number of threads.",
    children,
    NULL,
    NULL};

/* Room for the gradients that are asked for. */
static int make_gradients(call *c, const natten_params *params)
{
    static const struct {
        role gradient, of;
    } pairs[] = {{ROLE_GRAD_QUERY, ROLE_QUERY},
                 {ROLE_GRAD_KEY, ROLE_KEY},
                 {ROLE_GRAD_VALUE, ROLE_VALUE},
                 {ROLE_GRAD_ADDITIONAL_KEYS, ROLE_ADDITIONAL_KEYS},
                 {ROLE_GRAD_ADDITIONAL_VALUES, ROLE_ADDITIONAL_VALUES}};
    int status = EXIT_FINE;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs && !status; i++)
        if (c->path[pairs[i].gradient])
            status = call_output(c, pairs[i].gradient, pairs[i].of, LAST_KEEP);
    if (!status && c->path[ROLE_GRAD_BIAS])
        status = call_output_bias(c, ROLE_QUERY, params);
    return status;
}

static natten_status run_backward(call *c, const natten_params *params)
{
    if (c->on_gpu)
        return natten_backward_host(
            params, call_tensor(c, ROLE_QUERY), call_tensor(c, ROLE_KEY),
            call_tensor(c, ROLE_VALUE), call_tensor(c, ROLE_BIAS),
            call_tensor(c, ROLE_ADDITIONAL_KEYS),
            call_tensor(c, ROLE_ADDITIONAL_VALUES), call_tensor(c, ROLE_OUT),
            call_tensor(c, ROLE_LSE), call_tensor(c, ROLE_GRAD_OUT),
            call_tensor(c, ROLE_GRAD_LSE), call_tensor(c, ROLE_GRAD_QUERY),
            call_tensor(c, ROLE_GRAD_KEY), call_tensor(c, ROLE_GRAD_VALUE),
            call_tensor(c, ROLE_GRAD_BIAS), call_tensor(c, ROLE_GRAD_ADDITIONAL_KEYS),
            call_tensor(c, ROLE_GRAD_ADDITIONAL_VALUES), c->gpu);
    return natten_backward(
        params, call_tensor(c, ROLE_QUERY), call_tensor(c, ROLE_KEY),
        call_tensor(c, ROLE_VALUE), call_tensor(c, ROLE_BIAS),
        call_tensor(c, ROLE_ADDITIONAL_KEYS), call_tensor(c, ROLE_ADDITIONAL_VALUES),
        call_tensor(c, ROLE_OUT), call_tensor(c, ROLE_LSE),
        call_tensor(c, ROLE_GRAD_OUT), call_tensor(c, ROLE_GRAD_LSE),
        call_tensor(c, ROLE_GRAD_QUERY), call_tensor(c, ROLE_GRAD_KEY),
        call_tensor(c, ROLE_GRAD_VALUE), call_tensor(c, ROLE_GRAD_BIAS),
        call_tensor(c, ROLE_GRAD_ADDITIONAL_KEYS),
        call_tensor(c, ROLE_GRAD_ADDITIONAL_VALUES), NULL, 0, NULL);
}

static int backward(call *c)
{
    static const role inputs[] = {ROLE_QUERY,
                                  ROLE_KEY,
                                  ROLE_VALUE,
                                  ROLE_BIAS,
                                  ROLE_ADDITIONAL_KEYS,
                                  ROLE_ADDITIONAL_VALUES,
                                  ROLE_OUT,
                                  ROLE_LSE,
                                  ROLE_GRAD_OUT,
                                  ROLE_GRAD_LSE};
    natten_params params;
    int status = call_read(c, inputs, 10);
    if (!status)
        status = call_params(c, ROLE_QUERY, &params);
    if (!status)
        status = check_value(c);
    if (!status)
        status = make_gradients(c, &params);
    if (!status)
        status = call_explain(c, &params, &backward_plan);
    progress_wait("backward");
    double begin = call_clock();
    if (!status && !c->path[ROLE_OUT]) {
        status = make_results(c);
        if (!status)
            status = command_check(run_forward(c, &params));
    }
    if (!status)
        status = command_check(run_backward(c, &params));
    return status ? status : call_finish(c, "backward", call_clock() - begin);
}

int command_backward(int argc, char **argv)
{
    call c = {.positional = positional, .positionals = 3};
    argp_parse(&backward_argp, argc, argv, 0, NULL, &c);
    return call_end(&c, backward(&c));
}
