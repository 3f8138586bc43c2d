/* SPDX-License-Identifier: MIT
 *
 * Parser and printer of docs/problem-text.md.  The parser takes tokens from left to
 * right in the page's order; what is then left over is wrong.  Neither follows the
 * program's locale. */
#include "problem/problem_text.h"

#include "base/status.h"

#include <inttypes.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const words[] = {
    [NATTEN_FORWARD] = "fwd", [NATTEN_BACKWARD] = "bwd",
    [NATTEN_QK] = "qk",       [NATTEN_QK_BACKWARD] = "qkbwd",
    [NATTEN_AV] = "av",       [NATTEN_AV_BACKWARD] = "avbwd",
};

enum { OPERATIONS = sizeof words / sizeof words[0], SEEDS = 2000, TOKEN_BYTES = 128 };

/* ---- parsing ---- */

typedef struct parser {
    const char *next;        /* rest of the text */
    char token[TOKEN_BYTES]; /* the present token; "" at the end */
    natten_problem_spec *spec;
} parser;

static natten_status bad(const parser *p, const char *why)
{
    return natten_status_fail(NATTEN_ERR_ARGUMENT, "problem text at \"%s\": %s",
                              p->token, why);
}

/* Step to the next token. A token that is too long is cut, and then is none of ours. */
static void advance(parser *p)
{
    size_t length = strcspn(p->next, " ");
    size_t kept = length < TOKEN_BYTES ? length : TOKEN_BYTES - 1;
    memcpy(p->token, p->next, kept);
    p->token[kept] = '\0';
    p->next += length;
    if (*p->next == ' ' && p->next[1] != '\0' && p->next[1] != ' ')
        p->next++; /* a single space and something behind it */
}

/* Digits at *at, which moves behind them. */
static bool read_number(const char **at, int64_t *value)
{
    const char *digit = *at;
    int64_t n = 0;
    for (; *digit >= '0' && *digit <= '9'; digit++)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, *digit - '0', &n))
            return false;
    bool some = digit != *at;
    *at = digit;
    *value = n;
    return some;
}

/* `letter` and 1 to `most` numbers with `separator` between them; how many, 0 if it is
 * not exactly that. */
static int read_list(const parser *p, const char *letter, char separator, int most,
                     int64_t *values)
{
    const char *at = p->token;
    size_t length = strlen(letter);
    if (strncmp(at, letter, length) != 0)
        return 0;
    at += length;
    for (int n = 0; n < most; n++) {
        if (!read_number(&at, &values[n]))
            return 0;
        if (*at == '\0')
            return n + 1;
        if (*at++ != separator)
            return 0;
    }
    return 0;
}

/* One number after a letter that must be there; the second, after ':', may be. */
static natten_status read_pair(parser *p, const char *letter, int most, int64_t *first,
                               int64_t *second)
{
    int64_t values[2];
    int n = read_list(p, letter, ':', most, values);
    if (n == 0)
        return bad(p, letter[0] == 'b'   ? "expected b and the batch"
                      : letter[0] == 'h' ? "expected h and the heads"
                                         : "expected d and the head dim");
    *first = values[0];
    if (second)
        *second = values[n - 1];
    advance(p);
    return NATTEN_OK;
}

/* A token of per-axis values that may be missing. */
static void read_axes(parser *p, const char *letter, int64_t values[3])
{
    int64_t read[3];
    if (read_list(p, letter, 'x', 3, read) != p->spec->rank)
        return;
    memcpy(values, read, sizeof read[0] * (size_t)p->spec->rank);
    advance(p);
}

static void read_causal(parser *p)
{
    static const char word[] = "causal";
    const char *digits = p->token + strlen(word);
    if (strncmp(p->token, word, strlen(word)) != 0 ||
        strlen(digits) != (size_t)p->spec->rank ||
        strspn(digits, "01") != strlen(digits))
        return;
    for (int a = 0; a < p->spec->rank; a++)
        p->spec->is_causal[a] = digits[a] - '0';
    advance(p);
}

static bool read_word(parser *p, const char *word)
{
    if (strcmp(p->token, word) != 0)
        return false;
    advance(p);
    return true;
}

/* scale and a decimal number. strtod would follow the locale's decimal point, and take
 * hex. */
static void read_scale(parser *p)
{
    static const char word[] = "scale";
    const char *number = p->token + strlen(word);
    if (strncmp(p->token, word, strlen(word)) != 0 || !*number ||
        strspn(number, "0123456789+-.e") != strlen(number))
        return;
    char *end;
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale)
        return;
    double scale = strtod_l(number, &end, c_locale);
    freelocale(c_locale);
    if (*end)
        return;
    p->spec->has_scale = true;
    p->spec->scale = scale;
    advance(p);
}

static void read_seed(parser *p)
{
    int64_t seed;
    if (read_list(p, "seed", ':', 1, &seed) != 1 || seed < 1 || seed > SEEDS)
        return;
    p->spec->seed = (int32_t)seed;
    advance(p);
}

static natten_status read_head(parser *p)
{
    natten_problem_spec *s = p->spec;
    int operation = 0;
    while (operation < OPERATIONS && strcmp(p->token, words[operation]) != 0)
        operation++;
    if (operation == OPERATIONS)
        return bad(p, "expected fwd, bwd, qk, qkbwd, av or avbwd");
    s->operation = (natten_operation)operation;
    advance(p);
    if (!natten_dtype_from_name(p->token, &s->dtype))
        return bad(p, "expected fp64, fp32, bf16 or fp16");
    advance(p);
    NATTEN_TRY(read_pair(p, "b", 1, &s->batch, NULL));
    NATTEN_TRY(read_pair(p, "h", 2, &s->heads, &s->heads_kv));
    NATTEN_TRY(read_pair(p, "d", 2, &s->dim, &s->dim_v));
    s->rank = read_list(p, "", 'x', NATTEN_MAX_RANK, s->queries);
    if (s->rank == 0)
        return bad(p, "expected 1 to 3 lengths joined by x");
    advance(p);
    if (read_list(p, "w", 'x', NATTEN_MAX_RANK, s->kernel_size) != s->rank)
        return bad(p, "expected w and a window for each axis");
    advance(p);
    return NATTEN_OK;
}

natten_status natten_problem_text_parse(const char *text, natten_problem_spec *spec)
{
    *spec =
        (natten_problem_spec){.stride = {1, 1, 1}, .dilation = {1, 1, 1}, .seed = 1};
    parser p = {.next = text, .spec = spec};
    advance(&p);
    NATTEN_TRY(read_head(&p));
    memcpy(spec->keys, spec->queries, sizeof spec->keys);
    memcpy(spec->grid_length, spec->queries, sizeof spec->grid_length);
    read_axes(&p, "s", spec->stride);
    read_axes(&p, "e", spec->dilation);
    read_causal(&p);
    if (read_list(&p, "m", 'x', 1, &spec->extras) == 1)
        advance(&p);
    spec->has_bias = read_word(&p, "bias");
    read_scale(&p);
    read_axes(&p, "g", spec->grid_length);
    read_axes(&p, "q", spec->query_begin);
    read_axes(&p, "k", spec->key_begin);
    read_axes(&p, "n", spec->keys);
    spec->has_grad_lse = read_word(&p, "dlse");
    spec->allows_tf32 = read_word(&p, "tf32");
    read_seed(&p);
    if (p.token[0] != '\0' || *p.next != '\0')
        return bad(&p, "not a token, not its place, or not one space before it");
    return NATTEN_OK;
}

/* ---- printing ---- */

typedef struct printer {
    char *text;
    size_t used;
    int rank;
} printer;

__attribute__((format(printf, 2, 3))) static void append(printer *p, const char *format,
                                                         ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = NATTEN_PROBLEM_TEXT_BYTES - p->used;
    int wanted = vsnprintf(p->text + p->used, room, format, arguments);
    va_end(arguments);
    if (wanted > 0)
        p->used += (size_t)wanted < room ? (size_t)wanted : room - 1;
}

static void append_axes(printer *p, const char *letter, const int64_t *values)
{
    append(p, " %s", letter);
    for (int a = 0; a < p->rank; a++)
        append(p, "%s%" PRId64, a ? "x" : "", values[a]);
}

static void append_unless(printer *p, const char *letter, const int64_t *values,
                          const int64_t *usual)
{
    if (memcmp(values, usual, sizeof values[0] * (size_t)p->rank) != 0)
        append_axes(p, letter, values);
}

void natten_problem_text_print(const natten_problem_spec *s,
                               char text[NATTEN_PROBLEM_TEXT_BYTES])
{
    static const int64_t zeros[3] = {0, 0, 0}, ones[3] = {1, 1, 1};
    printer p = {.text = text, .rank = s->rank};
    text[0] = '\0';
    append(&p, "%s %s b%" PRId64 " h%" PRId64, words[s->operation],
           natten_dtype_name(s->dtype), s->batch, s->heads);
    if (s->heads_kv != s->heads)
        append(&p, ":%" PRId64, s->heads_kv);
    append(&p, " d%" PRId64, s->dim);
    if (s->dim_v != s->dim)
        append(&p, ":%" PRId64, s->dim_v);
    append_axes(&p, "", s->queries);
    append_axes(&p, "w", s->kernel_size);
    append_unless(&p, "s", s->stride, ones);
    append_unless(&p, "e", s->dilation, ones);
    if (memcmp(s->is_causal, zeros, sizeof zeros[0] * (size_t)s->rank) != 0) {
        append(&p, " causal");
        for (int a = 0; a < s->rank; a++)
            append(&p, "%d", s->is_causal[a] != 0);
    }
    if (s->extras)
        append(&p, " m%" PRId64, s->extras);
    if (s->has_bias)
        append(&p, " bias");
    if (s->has_scale) {
        char number[40];
        snprintf(number, sizeof number, "%.17g", s->scale);
        char *comma = strpbrk(number, ",");
        if (comma) /* the locale's decimal point */
            *comma = '.';
        append(&p, " scale%s", number);
    }
    append_unless(&p, "g", s->grid_length, s->queries);
    append_unless(&p, "q", s->query_begin, zeros);
    append_unless(&p, "k", s->key_begin, zeros);
    append_unless(&p, "n", s->keys, s->queries);
    if (s->has_grad_lse)
        append(&p, " dlse");
    if (s->allows_tf32)
        append(&p, " tf32");
    if (s->seed != 1)
        append(&p, " seed%" PRId32, s->seed);
}
