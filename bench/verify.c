/* SPDX-License-Identifier: MIT
 *
 * The judge walks pair by pair in extended precision, so it sees a few tokens only: a
 * part of the grid (docs/definition.md, section 13) is a problem of its own, whose rows
 * must be those of the whole.  Some queries are judged with all keys that they see,
 * some keys with all queries that see them. */
#include "verify.h"

#include "support/judge.h"

#include <math.h>
#include <string.h>

/* Tokens per axis that are judged at a place. */
enum { TOKENS = 3 };

/* Some tokens of each axis. */
typedef struct stretch {
    int64_t begin[3], count[3];
} stretch;

/* Where in the whole the part lies. */
typedef struct place {
    bool of_queries;
    int64_t item; /* of the batch */
    stretch queries, keys;
} place;

/* The element of the whole that is element `index` of the part's array. */
static int64_t element_of(const subject *s, const trial *t, natten_role role,
                          const place *p, int64_t index)
{
    const array *a = &t->array[role];
    bool keys = role == NATTEN_KEY || role == NATTEN_VALUE || role == NATTEN_GRAD_KEY ||
                role == NATTEN_GRAD_VALUE;
    bool tokens = role != NATTEN_BIAS && role != NATTEN_ADDITIONAL_KEYS &&
                  role != NATTEN_ADDITIONAL_VALUES;
    int64_t element = 0, at[ARRAY_RANK] = {0};
    for (int n = a->tensor.ndim - 1; n >= 0; n--) {
        at[n] = index % a->shape[n];
        index /= a->shape[n];
    }
    at[0] += role == NATTEN_BIAS ? 0 : p->item;
    for (int n = 0; n < s->spec.rank; n++)
        if (tokens)
            at[1 + n] += keys ? p->keys.begin[n] : p->queries.begin[n];
    for (int n = 0; n < a->tensor.ndim; n++)
        element = element * s->shape[role][n] + at[n];
    return element;
}

static void copy_values(const subject *s, trial *t, const place *p)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!t->given[role])
            continue;
        array *a = &t->array[role];
        for (int64_t i = 0; i < array_count(a); i++)
            array_set(a, i,
                      natten_dtype_load(a->dtype, s->tensor[role].data,
                                        element_of(s, t, role, p, i)));
    }
}

/* A result that the part gives in full. */
static bool is_judged(natten_role role, const place *p)
{
    if (role == NATTEN_GRAD_KEY || role == NATTEN_GRAD_VALUE)
        return !p->of_queries;
    return p->of_queries &&
           (role == NATTEN_OUT || role == NATTEN_LSE || role == NATTEN_GRAD_QUERY);
}

/* The part as a problem of its own, with the whole's values and results. */
static void make_part(const subject *s, const place *p, trial *t)
{
    memset(t, 0, sizeof *t);
    t->spec = s->spec;
    t->spec.batch = 1;
    for (int a = 0; a < s->spec.rank; a++) {
        t->spec.query_begin[a] += p->queries.begin[a];
        t->spec.key_begin[a] += p->keys.begin[a];
        t->spec.queries[a] = p->queries.count[a];
        t->spec.keys[a] = p->keys.count[a];
    }
    t->params = natten_problem_spec_params(&t->spec, NATTEN_BACKEND_AUTO);
    randoms r = {0};
    trial_allocate(t, ARRAY_COMPACT, &r);
    copy_values(s, t, p);
}

static double judge_part(const subject *s, const place *p)
{
    trial t;
    judgement j;
    double worst = 0;
    make_part(s, p, &t);
    judge_evaluate(&t, &j);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (j.of[role].count > 0 && is_judged(role, p))
            worst = fmax(worst, judge_ratio(&j.of[role], &t.array[role], NULL));
    judge_free(&j);
    trial_free(&t);
    return worst;
}

/* On one axis: the tokens of the other side that see `token`, or are seen by it, from
 * *begin to *end, with those between them. */
static void widen(const natten_axis *axis, bool of_queries, int64_t token,
                  int64_t *begin, int64_t *end)
{
    int32_t at = (int32_t)token + (of_queries ? axis->query_begin : axis->key_begin);
    int64_t residue = at % axis->dilation, g = at / axis->dilation;
    natten_class c = natten_axis_class(axis, (int32_t)residue);
    natten_span span = of_queries ? natten_class_keys(&c, (int32_t)g)
                                  : natten_class_queries(&c, (int32_t)g);
    int64_t from = residue - (of_queries ? axis->key_begin : axis->query_begin);
    if (span.begin == span.end)
        return;
    int64_t first = from + (int64_t)span.begin * axis->dilation;
    int64_t last = from + (int64_t)(span.end - 1) * axis->dilation;
    *begin = first < *begin ? first : *begin;
    *end = last + 1 > *end ? last + 1 : *end;
}

/* First tokens, middle, or last tokens, and what they have to do with. */
static place choose(const subject *s, bool of_queries, int where)
{
    place p = {.of_queries = of_queries, .item = where ? s->spec.batch - 1 : 0};
    const int64_t *length = of_queries ? s->spec.queries : s->spec.keys;
    stretch *own = of_queries ? &p.queries : &p.keys;
    stretch *other = of_queries ? &p.keys : &p.queries;
    for (int a = 0; a < s->spec.rank; a++) {
        int64_t begin = INT64_MAX, end = 0;
        own->count[a] = length[a] < TOKENS ? length[a] : TOKENS;
        own->begin[a] = (length[a] - own->count[a]) * where / 2;
        for (int64_t i = 0; i < own->count[a]; i++)
            widen(&s->task.axis[3 - s->spec.rank + a], of_queries, own->begin[a] + i,
                  &begin, &end);
        other->begin[a] = begin < end ? begin : 0;
        other->count[a] = begin < end ? end - begin : 1;
    }
    return p;
}

double verify(const subject *s)
{
    double worst = 0;
    for (int where = 0; where < 3; where++)
        for (int side = 0; side < (s->spec.operation == NATTEN_BACKWARD ? 2 : 1);
             side++) {
            place p = choose(s, side == 0, where);
            worst = fmax(worst, judge_part(s, &p));
        }
    return worst;
}
