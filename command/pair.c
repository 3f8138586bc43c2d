/* SPDX-License-Identifier: MIT
 *
 * natten qk and natten av, the unfused pair.  Given the gradient of its result, each
 * computes the gradients of its inputs instead. */
#include "call.h"
#include "progress.h"

static const struct argp_child children[] = {{&options_window, 0, NULL, 0},
                                             {&options_run, 0, NULL, 0},
                                             {&options_plan, 0, NULL, 0},
                                             {&options_cpu, 0, NULL, 0},
                                             {0}};

/* A command computes a result from its inputs, or, when the gradient of the result is
 * given, the gradients.  These say which roles those are. */
static bool is_backward(const call *c, role gradient)
{
    return c->path[gradient] != NULL;
}

/* One of the two kinds of outputs is asked for, and it fits with what is given. */
static void check_outputs(struct argp_state *state, role result, role gradient)
{
    const call *c = state->input;
    bool wanted = false;
    for (role which = ROLE_GRAD_QUERY; which < ROLES; which++)
        wanted |= c->path[which] != NULL;
    /* av's gradient of the weights lies before those; qk's is its input. */
    wanted |= gradient != ROLE_GRAD_ATTN && c->path[ROLE_GRAD_ATTN];
    if (!is_backward(c, gradient)) {
        if (!c->path[result])
            argp_error(state, "%s is missing", role_option(result));
        if (wanted)
            argp_error(state, "%s is missing: gradients need it",
                       role_option(gradient));
    } else if (c->path[result]) {
        argp_error(state, "%s and %s exclude each other", role_option(result),
                   role_option(gradient));
    } else if (!wanted) {
        argp_error(state, "%s: no gradient is asked for", role_option(gradient));
    }
}

static const struct argp_option qk_table[] = {
    {"attn", KEY_ROLE + ROLE_ATTN, "A.npy", 0,
     "where the logits go; needed, but for gradients", 0},
    {"bias", KEY_ROLE + ROLE_BIAS, "B.npy", 0, "relative position bias", 0},
    {"additional-keys", KEY_ROLE + ROLE_ADDITIONAL_KEYS, "AK.npy", 0,
     "tokens that every query sees: the last slots", 0},
    {"grad-attn", KEY_ROLE + ROLE_GRAD_ATTN, "GA.npy", 0,
     "gradient of the logits: compute gradients instead", 0},
    {"grad-query", KEY_ROLE + ROLE_GRAD_QUERY, "DQ.npy", 0, "where that of query goes",
     0},
    {"grad-key", KEY_ROLE + ROLE_GRAD_KEY, "DK.npy", 0, "where that of key goes", 0},
    {"grad-bias", KEY_ROLE + ROLE_GRAD_BIAS, "DB.npy", 0, "where that of the bias goes",
     0},
    {"grad-additional-keys", KEY_ROLE + ROLE_GRAD_ADDITIONAL_KEYS, "DAK.npy", 0,
     "where that of the additional keys goes", 0},
    {0}};

static error_t parse_qk(int key, char *argument, struct argp_state *state)
{
    if (key == ARGP_KEY_INIT)
        options_share(state, children, state->input);
    if (key == ARGP_KEY_END)
        check_outputs(state, ROLE_ATTN, ROLE_GRAD_ATTN);
    return options_parse(key, argument, state);
}

static const struct argp qk_argp = {
    qk_table,
    parse_qk,
    "Q.npy K.npy --attn A.npy --kernel-size K\n"
    "Q.npy K.npy --grad-attn GA.npy --kernel-size K",
    "The logits of each token's window: scale query key^T + bias.\v"
    "The result is [batch, axes..., heads, slots]: a slot per key of the window in "
    "row-major order, then one per additional key; empty slots hold -inf.  The scale "
    "is 1 "
    "unless given.",
    children,
    NULL,
    NULL};

/* Slots of a query. Illegal windows are the operation's to name: any room does. */
static int64_t slots(call *c, const natten_params *params)
{
    int64_t slots = 1;
    natten_attn_slots(params, call_tensor(c, ROLE_ADDITIONAL_KEYS), &slots);
    return slots;
}

static int qk(call *c)
{
    static const role inputs[] = {ROLE_QUERY, ROLE_KEY, ROLE_BIAS, ROLE_ADDITIONAL_KEYS,
                                  ROLE_GRAD_ATTN};
    static const call_plan plans[] = {
        {NATTEN_QK, ROLE_QUERY, ROLE_KEY, ROLES, ROLE_ADDITIONAL_KEYS},
        {NATTEN_QK_BACKWARD, ROLE_QUERY, ROLE_KEY, ROLES, ROLE_ADDITIONAL_KEYS}};
    bool backward = is_backward(c, ROLE_GRAD_ATTN);
    natten_params params;
    int status = call_read(c, inputs, 5);
    if (!status)
        status = call_params(c, ROLE_QUERY, &params);
    if (!status && !backward)
        status = call_output(c, ROLE_ATTN, ROLE_QUERY, slots(c, &params));
    if (!status && c->path[ROLE_GRAD_QUERY])
        status = call_output(c, ROLE_GRAD_QUERY, ROLE_QUERY, LAST_KEEP);
    if (!status && c->path[ROLE_GRAD_KEY])
        status = call_output(c, ROLE_GRAD_KEY, ROLE_KEY, LAST_KEEP);
    if (!status && c->path[ROLE_GRAD_BIAS])
        status = call_output_bias(c, ROLE_QUERY, &params);
    if (!status && c->path[ROLE_GRAD_ADDITIONAL_KEYS])
        status =
            call_output(c, ROLE_GRAD_ADDITIONAL_KEYS, ROLE_ADDITIONAL_KEYS, LAST_KEEP);
    if (!status)
        status = call_explain(c, &params, &plans[backward]);
    if (status)
        return status;
    progress_wait("qk");
    double begin = call_clock();
    natten_tensor *query = call_tensor(c, ROLE_QUERY), *key = call_tensor(c, ROLE_KEY);
    natten_tensor *extras = call_tensor(c, ROLE_ADDITIONAL_KEYS);
    status = command_check(
        backward ? natten_qk_backward(
                       &params, query, key, extras, call_tensor(c, ROLE_GRAD_ATTN),
                       call_tensor(c, ROLE_GRAD_QUERY), call_tensor(c, ROLE_GRAD_KEY),
                       call_tensor(c, ROLE_GRAD_BIAS),
                       call_tensor(c, ROLE_GRAD_ADDITIONAL_KEYS), NULL, 0, NULL)
                 : natten_qk(&params, query, key, call_tensor(c, ROLE_BIAS), extras,
                             call_tensor(c, ROLE_ATTN), NULL, 0, NULL));
    return status
               ? status
               : call_finish(c, backward ? "qk_backward" : "qk", call_clock() - begin);
}

int command_qk(int argc, char **argv)
{
    static const role positional[] = {ROLE_QUERY, ROLE_KEY};
    call c = {.positional = positional, .positionals = 2};
    argp_parse(&qk_argp, argc, argv, 0, NULL, &c);
    return call_end(&c, qk(&c));
}

static const struct argp_option av_table[] = {
    {"out", KEY_ROLE + ROLE_OUT, "O.npy", 0,
     "where out goes; needed, but for gradients", 0},
    {"additional-values", KEY_ROLE + ROLE_ADDITIONAL_VALUES, "AV.npy", 0,
     "values of the last slots", 0},
    {"grad-out", KEY_ROLE + ROLE_GRAD_OUT, "G.npy", 0,
     "gradient of out: compute gradients instead", 0},
    {"grad-attn", KEY_ROLE + ROLE_GRAD_ATTN, "DA.npy", 0,
     "where that of the weights goes", 0},
    {"grad-value", KEY_ROLE + ROLE_GRAD_VALUE, "DV.npy", 0, "where that of value goes",
     0},
    {"grad-additional-values", KEY_ROLE + ROLE_GRAD_ADDITIONAL_VALUES, "DAV.npy", 0,
     "where that of the additional values goes", 0},
    {0}};

static error_t parse_av(int key, char *argument, struct argp_state *state)
{
    if (key == ARGP_KEY_INIT)
        options_share(state, children, state->input);
    if (key == ARGP_KEY_END)
        check_outputs(state, ROLE_OUT, ROLE_GRAD_OUT);
    return options_parse(key, argument, state);
}

static const struct argp av_argp = {av_table,
                                    parse_av,
                                    "A.npy V.npy --out O.npy --kernel-size K\n"
                                    "A.npy V.npy --grad-out G.npy --kernel-size K",
                                    "Weights times the values of each token's window.\v"
                                    "The weights are [batch, axes..., heads, slots], "
                                    "laid out as natten qk has them; what "
                                    "stands in empty slots is not read.",
                                    children,
                                    NULL,
                                    NULL};

static int av(call *c)
{
    static const role inputs[] = {ROLE_ATTN, ROLE_VALUE, ROLE_ADDITIONAL_VALUES,
                                  ROLE_GRAD_OUT};
    static const call_plan plans[] = {
        {NATTEN_AV, ROLE_ATTN, ROLE_VALUE, ROLES, ROLE_ADDITIONAL_VALUES},
        {NATTEN_AV_BACKWARD, ROLE_ATTN, ROLE_VALUE, ROLES, ROLE_ADDITIONAL_VALUES}};
    bool backward = is_backward(c, ROLE_GRAD_OUT);
    const npy_array *values = &c->array[ROLE_VALUE];
    natten_params params;
    int status = call_read(c, inputs, 4);
    if (!status)
        status = call_params(c, ROLE_ATTN, &params);
    if (!status && values->tensor.ndim != params.rank + 3)
        status =
            command_fail(EXIT_USAGE, "value: %s: %d dimensions, but attn has %d",
                         c->path[ROLE_VALUE], values->tensor.ndim, params.rank + 3);
    if (!status && !backward)
        status = call_output(c, ROLE_OUT, ROLE_ATTN, values->shape[params.rank + 2]);
    if (!status && c->path[ROLE_GRAD_ATTN])
        status = call_output(c, ROLE_GRAD_ATTN, ROLE_ATTN, LAST_KEEP);
    if (!status && c->path[ROLE_GRAD_VALUE])
        status = call_output(c, ROLE_GRAD_VALUE, ROLE_VALUE, LAST_KEEP);
    if (!status && c->path[ROLE_GRAD_ADDITIONAL_VALUES])
        status = call_output(c, ROLE_GRAD_ADDITIONAL_VALUES, ROLE_ADDITIONAL_VALUES,
                             LAST_KEEP);
    if (!status)
        status = call_explain(c, &params, &plans[backward]);
    if (status)
        return status;
    progress_wait("av");
    double begin = call_clock();
    natten_tensor *attn = call_tensor(c, ROLE_ATTN),
                  *value = call_tensor(c, ROLE_VALUE);
    natten_tensor *extras = call_tensor(c, ROLE_ADDITIONAL_VALUES);
    status = command_check(
        backward ? natten_av_backward(
                       &params, attn, value, extras, call_tensor(c, ROLE_GRAD_OUT),
                       call_tensor(c, ROLE_GRAD_ATTN), call_tensor(c, ROLE_GRAD_VALUE),
                       call_tensor(c, ROLE_GRAD_ADDITIONAL_VALUES), NULL, 0, NULL)
                 : natten_av(&params, attn, value, extras, call_tensor(c, ROLE_OUT),
                             NULL, 0, NULL));
    return status
               ? status
               : call_finish(c, backward ? "av_backward" : "av", call_clock() - begin);
}

int command_av(int argc, char **argv)
{
    static const role positional[] = {ROLE_ATTN, ROLE_VALUE};
    call c = {.positional = positional, .positionals = 2};
    argp_parse(&av_argp, argc, argv, 0, NULL, &c);
    return call_end(&c, av(&c));
}
