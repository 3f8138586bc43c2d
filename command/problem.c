/* SPDX-License-Identifier: MIT
 *
 * Parser of problem texts: a table of tokens, each a prefix and up to three integers.
 * Only the form is checked; what the values mean to a call, the library judges. */
#include "problem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Up to `most` integers separated by `separator`, filling the whole token. Returns how
 * many, or 0. */
static int take_integers(const char *text, char separator, int most, int64_t *values)
{
    for (int count = 0; count < most;) {
        if (!isdigit((unsigned char)*text))
            return 0;
        for (values[count] = 0; isdigit((unsigned char)*text); text++)
            if (__builtin_mul_overflow(values[count], 10, &values[count]) ||
                __builtin_add_overflow(values[count], *text - '0', &values[count]))
                return 0;
        count++;
        if (*text == '\0')
            return count;
        if (*text++ != separator)
            return 0;
    }
    return 0;
}

static bool take_operation(problem *p, const char *token)
{
    static const char *const names[] = {"fwd", "bwd", "qk", "qkbwd", "av", "avbwd"};
    for (int32_t i = 0; i < 6; i++)
        if (strcmp(token, names[i]) == 0) {
            p->operation = i; /* NATTEN_FORWARD and so on */
            return true;
        }
    return false;
}

/* One or two integers: "h4" or "h4:2". */
static bool take_pair(const char *text, int64_t *first, int64_t *second)
{
    int64_t values[2];
    int count = take_integers(text, ':', 2, values);
    *first = values[0];
    *second = values[count > 1];
    return count > 0;
}

static bool take_causal(problem *p, const char *digits)
{
    int count = 0;
    for (; digits[count] == '0' || digits[count] == '1'; count++)
        if (count < NATTEN_MAX_RANK)
            p->params.is_causal[count] = digits[count] - '0';
    return digits[count] == '\0' && count == p->params.rank;
}

/* The axes of query come before everything that has a value per axis, so that the rank
 * is known there. */
static bool take_axes(const problem *p, const char *text, int64_t *values)
{
    int64_t found[NATTEN_MAX_RANK];
    int count = take_integers(text, 'x', NATTEN_MAX_RANK, found);
    if (count == 0 || count != p->params.rank)
        return false;
    memcpy(values, found, (size_t)count * sizeof *found);
    return true;
}

static bool take_lengths(problem *p, const char *token)
{
    int rank = take_integers(token, 'x', NATTEN_MAX_RANK, p->length);
    memcpy(p->length_key, p->length, sizeof p->length);
    return rank > 0 &&
           natten_params_init(&p->params, sizeof p->params, rank) == NATTEN_OK;
}

static bool take_token(problem *p, const char *token)
{
    natten_params *params = &p->params;
    const struct {
        const char *prefix;
        int64_t *values;
    } per_axis[] = {{"w", params->kernel_size}, {"s", params->stride},
                    {"e", params->dilation},    {"g", params->grid_length},
                    {"q", params->query_begin}, {"k", params->key_begin},
                    {"n", p->length_key}};
    int64_t *single = strncmp(token, "b", 1) == 0   ? &p->batch
                      : strncmp(token, "m", 1) == 0 ? &p->extras
                                                    : NULL;
    if (isdigit((unsigned char)*token))
        return take_lengths(p, token);
    if (strcmp(token, "bias") == 0)
        return p->bias = true;
    if (strcmp(token, "dlse") == 0)
        return p->grad_lse = true;
    if (strncmp(token, "causal", 6) == 0)
        return take_causal(p, token + 6);
    if (strncmp(token, "seed", 4) == 0)
        return take_integers(token + 4, 'x', 1, &p->seed) && p->seed >= 1 &&
               p->seed <= 2000;
    if (strncmp(token, "scale", 5) == 0) {
        char *end;
        params->scale = strtod(token + 5, &end);
        params->has_scale = 1;
        return end > token + 5 && *end == '\0';
    }
    if (single)
        return take_integers(token + 1, 'x', 1, single);
    if (*token == 'h')
        return take_pair(token + 1, &p->heads, &p->heads_kv);
    if (*token == 'd')
        return take_pair(token + 1, &p->head_dim, &p->head_dim_v);
    for (size_t i = 0; i < sizeof per_axis / sizeof *per_axis; i++)
        if (*token == *per_axis[i].prefix)
            return take_axes(p, token + 1, per_axis[i].values);
    return false;
}

bool problem_parse(problem *made, const char *text, const char **token)
{
    char word[64];
    int count = 0;
    memset(made, 0, sizeof *made);
    made->seed = 1;
    for (;; count++) {
        text += strspn(text, " ");
        *token = text;
        size_t length = strcspn(text, " ");
        if (length == 0)
            break;
        if (length >= sizeof word)
            return false;
        memcpy(word, text, length);
        word[length] = '\0';
        bool fine = count == 0   ? take_operation(made, word)
                    : count == 1 ? element_from_name(word, &made->kind)
                                 : take_token(made, word);
        if (!fine)
            return false;
        text += length;
    }
    return made->batch > 0 && made->heads > 0 && made->head_dim > 0 &&
           made->params.rank > 0 && made->params.kernel_size[0] > 0;
}
