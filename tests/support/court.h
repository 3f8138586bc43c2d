/* SPDX-License-Identifier: MIT
 *
 * The inside of the judge: a trial's inputs as plain compact arrays, the visible keys
 * of a query, and the cells in which a gradient's terms, their errors and their sizes
 * add up.  */
#ifndef NATTEN_TESTS_SUPPORT_COURT_H
#define NATTEN_TESTS_SUPPORT_COURT_H

#include "support/judge.h"

/* Roundoff and smallest numbers of a type. */
double court_roundoff(natten_dtype dtype);
double court_subnormal(natten_dtype dtype);
/* Where a vectorised exponential may start to give 0. */
double court_flush(natten_dtype accumulator);

/* A sum of products as section 12 sees it. */
typedef struct cell {
    long double value;
    double error;     /* of the terms themselves */
    double magnitude; /* sum of the absolute terms */
    int64_t terms;
    bool exact; /* a value that is not finite is wanted as it is, not just any such */
} cell;

/* A key that a query sees. */
typedef struct seen_key {
    bool extra;
    int64_t row;  /* of key and value, or of the additional ones: a row is a token and
                     head */
    int64_t bias; /* index into bias */
    int64_t slot; /* in the query's row of attn */
} seen_key;

typedef struct court {
    const trial *t;
    natten_axis axis[3]; /* padded in front with axes of length 1 */
    int64_t rows;        /* queries times heads, of the whole batch */
    int64_t slots;
    double scale;
    double u, eta, flush; /* of the accumulator: roundoff, smallest, exp's zero */
    /* Of the type that P or dS is rounded to for a result; 0: it is not. */
    double u_p[NATTEN_ROLES], eta_p[NATTEN_ROLES];
    double u_logit;           /* what rounding queries and keys adds to g(D) */
    double *in[NATTEN_ROLES]; /* compact inputs; NULL: not given */
    cell *sum[NATTEN_ROLES];  /* compact results that are sums; NULL: not wanted */
    seen_key *keys;           /* of the present query */
    int64_t key_count;
} court;

void court_open(court *c, const trial *t);
void court_close(court *c);
/* g(n) of section 12. */
double court_growth(const court *c, int64_t n);
/* Fill keys and key_count for a row (batch, axes, heads; heads fastest). */
void court_see(court *c, int64_t row);
/* The vector of key (or value) that a seen key means, and the cells of its gradient. */
const double *court_vector(const court *c, const seen_key *k, natten_role grid,
                           natten_role extra, int64_t count);
cell *court_cells(const court *c, const seen_key *k, natten_role grid,
                  natten_role extra, int64_t count);
/* cells += weight * x, elementwise, where weight is known to within weight_error. */
void court_add(cell *cells, long double weight, double weight_error, const double *x,
               int64_t count);
/* Value and bound of cell n as element n of a verdict of its type. */
void court_conclude(const court *c, const cell *cells, verdict *v);

/* Evaluate one operation: fill the cells, and verdicts that are not sums. */
void court_forward(court *c, judgement *j);
void court_backward(court *c, judgement *j);
void court_qk(court *c, judgement *j);
void court_qk_backward(court *c, judgement *j);
void court_av(court *c, judgement *j);
void court_av_backward(court *c, judgement *j);

#endif
