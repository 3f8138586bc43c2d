/* SPDX-License-Identifier: MIT
 *
 * The judge walks pair by pair in extended precision, so it sees a few tokens only: a
 * part of the grid (docs/definition.md, section 13) is a problem of its own, whose rows
 * must be those of the whole.  Queries are judged with a part of the queries and all
 * keys, keys with a part of the keys and all queries. */
#include "verify.h"

#include "support/judge.h"

#include <math.h>
#include <string.h>

/* Tokens per axis that are judged at a place. */
enum { TOKENS = 3 };

/* Where in the whole the part lies. */
typedef struct place {
    bool of_queries;
    int64_t item;     /* of the batch */
    int64_t begin[3]; /* first token of each axis */
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
        if (tokens && keys != p->of_queries)
            at[1 + n] += p->begin[n];
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
        int64_t *count = p->of_queries ? t->spec.queries : t->spec.keys;
        int64_t *begin = p->of_queries ? t->spec.query_begin : t->spec.key_begin;
        begin[a] += p->begin[a];
        count[a] = count[a] < TOKENS ? count[a] : TOKENS;
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

double verify(const subject *s)
{
    double worst = 0;
    for (int where = 0; where < 3; where++) /* first tokens, middle, last tokens */
        for (int side = 0; side < (s->spec.operation == NATTEN_BACKWARD ? 2 : 1);
             side++) {
            place p = {.of_queries = side == 0, .item = where ? s->spec.batch - 1 : 0};
            const int64_t *length = p.of_queries ? s->spec.queries : s->spec.keys;
            for (int a = 0; a < s->spec.rank; a++)
                if (length[a] > TOKENS)
                    p.begin[a] = (length[a] - TOKENS) * where / 2;
            worst = fmax(worst, judge_part(s, &p));
        }
    return worst;
}
