/* SPDX-License-Identifier: MIT
 *
 * What all operations of the judge share, see court.h. */
#include "support/court.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double court_roundoff(natten_dtype dtype)
{
    static const double u[NATTEN_DTYPES] = {
        [NATTEN_FP64] = 0x1p-53,
        [NATTEN_FP32] = 0x1p-24,
        [NATTEN_BF16] = 0x1p-8,
        [NATTEN_FP16] = 0x1p-11,
    };
    return u[dtype];
}

double court_subnormal(natten_dtype dtype)
{
    static const double eta[NATTEN_DTYPES] = {
        [NATTEN_FP64] = 0x1p-1074,
        [NATTEN_FP32] = 0x1p-149,
        [NATTEN_BF16] = 0x1p-133,
        [NATTEN_FP16] = 0x1p-24,
    };
    return eta[dtype];
}

#define TF32_ROUNDOFF  0x1p-11
#define TF32_SUBNORMAL 0x1p-136

double court_flush(natten_dtype accumulator)
{
    return accumulator == NATTEN_FP64 ? 0x1p-1022 : 0x1p-126;
}

static void *take(int64_t count, size_t each)
{
    void *memory = calloc((size_t)(count > 0 ? count : 1), each);
    if (memory == NULL)
        abort();
    return memory;
}

void court_open(court *c, const trial *t)
{
    memset(c, 0, sizeof *c);
    c->t = t;
    natten_dtype accumulator = natten_dtype_accumulator(t->spec.dtype);
    c->u = court_roundoff(accumulator);
    c->eta = court_subnormal(accumulator);
    c->flush = court_flush(accumulator);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        if (t->rounded >> role & 1) {
            bool in_tf32 = t->spec.dtype == NATTEN_FP32;
            c->u_p[role] = in_tf32 ? TF32_ROUNDOFF : court_roundoff(t->spec.dtype);
            c->eta_p[role] = in_tf32 ? TF32_SUBNORMAL : court_subnormal(t->spec.dtype);
            c->u_logit = in_tf32 ? 2 * TF32_ROUNDOFF : 0;
        }
    const natten_params *p = &t->params;
    bool scale_of_qk =
        t->spec.operation == NATTEN_QK || t->spec.operation == NATTEN_QK_BACKWARD;
    c->scale = p->has_scale  ? p->scale
               : scale_of_qk ? 1
                             : 1 / sqrt((double)t->spec.dim);
    c->rows = t->spec.batch * t->spec.heads;
    c->slots = t->spec.extras;
    int64_t window = 1;
    for (int a = 0; a < 3; a++) {
        int from = a - (3 - p->rank);
        natten_axis *x = &c->axis[a];
        *x = (natten_axis){1, 1, 1, 1, false, 0, 1, 0, 1};
        if (from < 0)
            continue;
        int64_t length = t->spec.grid_length[from];
        *x = (natten_axis){
            (int32_t)length,
            (int32_t)p->kernel_size[from],
            (int32_t)p->stride[from],
            (int32_t)p->dilation[from],
            p->is_causal[from] != 0,
            (int32_t)p->query_begin[from],
            (int32_t)t->spec.queries[from],
            (int32_t)p->key_begin[from],
            (int32_t)t->spec.keys[from],
        };
        c->rows *= t->spec.queries[from];
        window *= x->window;
    }
    c->slots += window;
    c->keys = take(c->slots, sizeof *c->keys);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        if (!t->given[role])
            continue;
        const array *a = &t->array[role];
        int64_t count = array_count(a);
        if (!trial_writes(t->spec.operation, role)) {
            c->in[role] = take(count, sizeof(double));
            for (int64_t i = 0; i < count; i++)
                c->in[role][i] = array_get(a, i);
        } else if (role != NATTEN_LSE) {
            c->sum[role] = take(count, sizeof(cell));
        }
    }
}

void court_close(court *c)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        free(c->in[role]);
        free(c->sum[role]);
    }
    free(c->keys);
}

double court_growth(const court *c, int64_t n)
{
    switch (c->t->profile) {
    case PROFILE_CONSTANT:
    case PROFILE_CANCEL:
    case PROFILE_ONE_HOT:
    case PROFILE_WIDE_RANGE:
        return ((double)n + 8) * c->u;
    default:
        return (6 * sqrt((double)n) + 8) * c->u;
    }
}

/* One axis of a query: where its window begins on the whole grid, and which of its keys
 * are in the part, as positions of its class and as places along the key tensor. */
typedef struct sight {
    int32_t window_begin, position;
    natten_span keys;
    int32_t first_key; /* place of position keys.begin */
} sight;

static sight look(const natten_axis *axis, int64_t query)
{
    int64_t token = axis->query_begin + query;
    int32_t residue = (int32_t)(token % axis->dilation);
    natten_class k = natten_axis_class(axis, residue);
    sight s = {.position = (int32_t)(token / axis->dilation)};
    s.window_begin = natten_class_window(&k, s.position).begin;
    s.keys = natten_class_keys(&k, s.position);
    s.first_key = residue + s.keys.begin * axis->dilation - axis->key_begin;
    return s;
}

/* A key of the grid at steps into the three sights. */
static seen_key key_at(const court *c, const sight s[3], const int32_t at[3],
                       int64_t batch, int64_t head)
{
    seen_key k = {.row = batch, .bias = head};
    for (int a = 0; a < 3; a++) {
        const natten_axis *x = &c->axis[a];
        int32_t place = s[a].first_key + at[a] * x->dilation;
        int32_t position = s[a].keys.begin + at[a];
        k.row = k.row * x->key_count + place;
        k.bias =
            k.bias * (2 * x->window - 1) + position - s[a].position + x->window - 1;
        k.slot = k.slot * x->window + position - s[a].window_begin;
    }
    k.row =
        k.row * c->t->spec.heads_kv + head / (c->t->spec.heads / c->t->spec.heads_kv);
    return k;
}

void court_see(court *c, int64_t row)
{
    const trial *t = c->t;
    int64_t head = row % t->spec.heads, rest = row / t->spec.heads;
    sight s[3];
    for (int a = 2; a >= 0; a--) {
        s[a] = look(&c->axis[a], rest % c->axis[a].query_count);
        rest /= c->axis[a].query_count;
    }
    c->key_count = 0;
    int32_t at[3];
    for (at[0] = 0; at[0] < s[0].keys.end - s[0].keys.begin; at[0]++)
        for (at[1] = 0; at[1] < s[1].keys.end - s[1].keys.begin; at[1]++)
            for (at[2] = 0; at[2] < s[2].keys.end - s[2].keys.begin; at[2]++)
                c->keys[c->key_count++] = key_at(c, s, at, rest, head);
    for (int64_t m = 0; m < t->spec.extras; m++)
        c->keys[c->key_count++] = (seen_key){
            .extra = true,
            .row = (rest * t->spec.extras + m) * t->spec.heads_kv +
                   head / (t->spec.heads / t->spec.heads_kv),
            .slot = c->slots - t->spec.extras + m,
        };
}

const double *court_vector(const court *c, const seen_key *k, natten_role grid,
                           natten_role extra, int64_t count)
{
    return c->in[k->extra ? extra : grid] + k->row * count;
}

cell *court_cells(const court *c, const seen_key *k, natten_role grid,
                  natten_role extra, int64_t count)
{
    return c->sum[k->extra ? extra : grid] + k->row * count;
}

void court_add(cell *cells, long double weight, double weight_error, const double *x,
               int64_t count)
{
    for (int64_t d = 0; d < count; d++) {
        long double term = weight * (long double)x[d];
        cells[d].value += term;
        cells[d].error += weight_error * fabs(x[d]);
        cells[d].magnitude += (double)fabsl(term);
        cells[d].terms++;
    }
}

void court_conclude(const court *c, const cell *cells, verdict *v)
{
    double u = court_roundoff(v->dtype), eta = court_subnormal(v->dtype);
    for (int64_t i = 0; i < v->count; i++) {
        const cell *x = &cells[i];
        v->value[i] = x->value;
        if (!isfinite(x->value))
            v->bound[i] = x->exact ? 0 : HUGE_VAL;
        else if (x->terms > 0)
            v->bound[i] = x->error + court_growth(c, x->terms) * x->magnitude +
                          u * (double)fabsl(x->value) + eta +
                          (double)(x->terms + 4) * c->eta;
    }
}
