/* SPDX-License-Identifier: MIT
 *
 * One item: a head, a residue class of each axis, a tile of owners.  The walk goes
 * through the tile group by group (axis 0 outermost, so that strips are reused),
 * through each group's windows in row-major order, then through the extra tokens.
 *
 * What must hold for equal bits: the order in which a row meets its partners, and the
 * breaks of its softmax, depend on its own window alone (natten_cpu_chunk), never on
 * the tile, on the group or on the lanes beside it. */
#ifndef NATTEN_CPU_WALK_H
#define NATTEN_CPU_WALK_H

/* Batch item, classes and owners of the tile; false if there are none. */
static bool find_place(group *g, int64_t combo)
{
    const natten_cpu_pass *p = g->pass;
    g->place.head = g->head;
    g->place.combo = combo;
    for (int a = 2; a >= 0; a--) {
        int tile = (int)(combo % p->tiles[a]);
        combo /= p->tiles[a];
        const natten_axis *axis = &p->axis[a];
        int64_t first = p->owner_is_key ? axis->key_begin : axis->query_begin;
        int64_t token = first + combo % p->classes[a]; /* one of the class, or none */
        g->axis[a] = natten_axis_class(axis, (int)(token % axis->dilation));
        combo /= p->classes[a];
        natten_span owners = p->owner_is_key ? g->axis[a].keys : g->axis[a].queries;
        int64_t lo = owners.begin + (int64_t)tile * p->tile[a];
        if (lo >= owners.end)
            return false;
        g->lo[a] = (int)lo;
        g->hi[a] = (int)(lo + p->tile[a] < owners.end ? lo + p->tile[a] : owners.end);
        if (p->kind == NATTEN_CPU_GRAD_ALL)
            find_rivals(g, a, tile);
    }
    g->batch = combo;
    g->origin = span_of(g, 2, g->lo[2]).begin;
    g->width = span_of(g, 2, g->hi[2] - 1).end - g->origin;
    return true;
}

static void find_tensors(group *g)
{
    const natten_cpu_pass *p = g->pass;
    size_t bytes = natten_dtype_bytes(dtype_of(g));
    bool keys = p->owner_is_key;
    for (int i = 0; i < 2; i++) {
        int64_t other = g->head / p->share * p->fan;
        g->own[i] = make_cursor(g, &p->own[i].view, bytes, g->head, keys);
        g->own_row[i] = make_cursor(g, &p->own[i].row, sizeof(real), g->head, keys);
        g->other[i] = make_cursor(g, &p->other[i].view, bytes, other, !keys);
        g->other_row[i] = make_cursor(g, &p->other[i].row, sizeof(real), other, !keys);
        g->result[i] = make_cursor(g, &p->result[i], bytes, g->head, keys);
        g->shared[i] = make_cursor(g, &p->shared[i], sizeof(real), other, !keys);
        g->shared[i].offset += g->unit_bytes;
        g->narrow[i] = make_cursor(g, &p->narrow[i], bytes, other, !keys);
    }
    for (int i = 0; i < 2; i++) {
        g->streams[i] = is_streamed(g, &p->result[i], &g->result[i], p->own[i].dim);
        g->shared_streams[i] =
            p->unit_elements == 0 &&
            is_streamed(g, &p->shared[i], &g->shared[i], p->other[i].dim);
    }
    g->out = make_cursor(g, &p->out, bytes, g->head, false);
    g->lse = make_cursor(g, &p->lse, sizeof(real), g->head, false);
    g->grad_lse = make_cursor(g, &p->grad_lse, sizeof(real), g->head, false);
    g->delta = make_cursor(g, &p->delta, sizeof(real), g->head, false);
}

/* Where everything lies in the thread's scratch. */
static void find_memory(group *g, char *scratch)
{
    const natten_cpu_pass *p = g->pass;
    const natten_cpu_layout *l = &p->layout;
    int64_t rows[2] = {natten_cpu_rows(&p->own[0]), natten_cpu_rows(&p->own[1])};
    real *panel = (real *)(void *)(scratch + l->panels);
    real *score = (real *)(void *)(scratch + l->scores);
    real *sum = (real *)(void *)(scratch + l->sums);
    real *row = (real *)(void *)(scratch + l->own_rows);
    for (int q = 0; q < p->owners; q++) {
        g->a[0][q] = panel;
        g->a[1][q] = panel + rows[0] * LANES;
        panel += (rows[0] + rows[1]) * LANES;
        g->s[q] = score;
        g->t[q] = score + NATTEN_CPU_SLOTS * LANES;
        score += (p->kind == NATTEN_CPU_FORWARD ? 1 : 2) * NATTEN_CPU_SLOTS * LANES;
        g->c[0][q] = sum;
        g->c[1][q] = sum + natten_cpu_padded(p->other[0].dim, LANES) * LANES;
        sum = g->c[1][q] + natten_cpu_padded(p->other[1].dim, LANES) * LANES;
        g->own_rows[0][q] = row;
        g->own_rows[1][q] = row + p->own[0].dim * LANES;
        row = g->own_rows[1][q] + p->own[1].dim * LANES;
    }
    g->strips = (real *)(void *)(scratch + l->strips);
    g->extra_strips = (real *)(void *)(scratch + l->extra_strips);
    g->tags = (tag *)(void *)(scratch + l->tags);
    g->runs = (run *)(void *)(scratch + l->runs);
    g->list = (segment *)(void *)(scratch + l->segments);
    for (int i = p->strips.depth * p->strips.high * p->strips.fan - 1; i >= 0; i--)
        g->tags[i] = (tag){-1, -1, -1, 0};
    g->bias_sums = scratch + l->bias_sums;
    g->given = scratch + l->given;
    memset(g->given, 0, l->given_bytes);
    g->epoch = 1;
    wish_nothing(&g->wishes, 0);
}

/* Do the windows of the first lanes, or of the last ones, stand still at a border, and
 * the others move with their owners? It follows from idx alone, idle lanes included:
 * runs with the same idx go through the kernels together. */
static bool is_clamped(run *r)
{
    bool at_begin = LANES > 1 && r->idx[1] == r->idx[0] && r->idx[LANES - 1] > 0;
    r->still = (int)r->idx[at_begin ? 0 : LANES - 1];
    r->slide = at_begin ? (int)r->idx[LANES - 1] - (LANES - 1) : 0;
    bool clamped = V_CLAMPS;
    for (int i = 0; i < LANES; i++) {
        bool moves = r->idx[i] != r->still;
        r->moves[i] = moves ? 1 : 0;
        clamped = clamped && (!moves || r->idx[i] == i + r->slide);
    }
    return clamped;
}

/* The run that begins with the owner at x. */
static run make_run(const group *g, int x)
{
    natten_span first = span_of(g, 2, x);
    run r = {.x = x, .base = first.begin - g->origin, .least = INT_MAX, .even = true};
    bool plain = true;
    for (; r.n < LANES && x + r.n < g->hi[2]; r.n++) {
        natten_span s = span_of(g, 2, x + r.n);
        int i = r.n, length = s.end - s.begin;
        if (s.begin - first.begin >= LANES)
            break;
        r.idx[i] = s.begin - first.begin;
        r.count[i] = (real)length;
        r.length[i] = length;
        r.shift[i] = s.begin - (x + i);
        r.skew[i] = i - r.idx[i] * LANES;
        plain = plain && r.idx[i] == i;
        r.even = r.even && r.shift[i] == r.shift[0];
        r.most = natten_max(r.most, length);
        r.least = natten_min(r.least, length);
    }
    int last = natten_max(0, r.n - 1);
    r.ragged = r.most != r.least;
    plain = plain && !r.ragged;
    r.small = r.n <= HALF_LANES && r.idx[last] < HALF_LANES;
    /* Idle lanes do what the last one does. In a plain run they go on instead, past the
     * strip perhaps, into what else the scratch holds: nobody looks at their sums. */
    for (int i = r.n; i < LANES; i++) {
        r.idx[i] = plain ? i : r.idx[last];
        r.skew[i] = i - r.idx[i] * LANES;
        r.count[i] = r.count[last];
        r.length[i] = r.length[last];
        r.shift[i] = r.shift[last];
    }
    r.how = plain ? PLAIN : is_clamped(&r) ? CLAMPED : PICKED;
    return r;
}

/* All lanes see the same partners. */
static run make_everyone(void)
{
    return (run){.n = LANES, .how = V_CLAMPS ? CLAMPED : PICKED};
}

static void make_runs(group *g)
{
    g->run_count = 0;
    for (int x = g->lo[2]; x < g->hi[2]; g->run_count++) {
        g->runs[g->run_count] = make_run(g, x);
        x += g->runs[g->run_count].n;
    }
    g->everyone = make_everyone();
}

/* ---- one group ------------------------------------------------------------------- */

/* Can run b go through the kernels with a's idx? */
static bool same_shape(const run *a, const run *b)
{
    if (a->ragged || b->ragged)
        return false;
    return a->how == PLAIN ? b->how == PLAIN
                           : memcmp(a->idx, b->idx, sizeof a->idx) == 0;
}

/* Owners along axis 0 with the run `r`, or where there is one only, the next runs of
 * the same shape. Gives how many runs it took. */
static int choose_owners(group *g, int z, int nz, int y, int r)
{
    int runs = 1;
    g->y = y;
    g->run = &g->runs[r];
    g->nq = nz;
    if (nz == 1) {
        while (runs < g->pass->owners && r + runs < g->run_count &&
               same_shape(g->run, &g->runs[r + runs]))
            runs++;
        g->nq = runs;
    }
    for (int q = 0; q < g->nq; q++) {
        g->z[q] = nz > 1 ? z + q : z;
        g->own_run[q] = nz > 1 ? g->run : g->run + q;
        g->small = (q == 0 || g->small) && g->own_run[q]->small;
    }
    return runs;
}

static void pack_owner(group *g, int q)
{
    const natten_cpu_pass *p = g->pass;
    const run *r = g->own_run[q];
    int panels = p->kind == NATTEN_CPU_FORWARD ? 1 : 2;
    for (int i = 0; i < panels; i++) {
        const natten_cpu_operand *o = &p->own[i];
        tokens t = {at(&g->own[i], g->z[q], g->y, r->x),
                    g->own[i].step[2],
                    o->view.item,
                    o->dim,
                    dtype_of(g),
                    r->n};
        bool rows = p->kind == NATTEN_CPU_GRAD_ALL;
        pack(g->a[i][q], LANES, rows ? g->own_rows[i][q] : NULL, &t, (real)o->factor);
        real *row = g->a[i][q] + o->dim * LANES;
        if (o->has_row)
            v_store(row, v_zero()); /* idle lanes */
        pack_extra_row(row, o,
                       o->row.data ? at(&g->own_row[i], g->z[q], g->y, r->x) : NULL,
                       g->own_row[i].step[2], r->n);
    }
    if (p->kind != NATTEN_CPU_FORWARD && !p->owner_is_key) {
        real *rows[2] = {g->own_rows[0][q], g->own_rows[1][q]};
        make_delta(g, q);
        hollow_out(g, (real *[]){g->a[0][q], g->a[1][q]}, LANES,
                   p->kind == NATTEN_CPU_GRAD_ALL ? rows : NULL, r->n);
    }
}

static void begin_group(group *g)
{
    g->first = true;
    g->last = g->stored = g->split = false;
    g->in_extras = false;
    g->ns = 0;
    use_strips(g, g->strips, &g->pass->strips.strip);
    for (int q = 0; q < g->nq; q++) {
        pack_owner(g, q);
        g->used[q] = 0;
        g->top[q] = v_all(-(real)INFINITY);
        g->sum[q] = v_zero();
    }
}

/* Partners of row (z, y) of all heads, for the owners lo .. hi - 1 that see it. */
static void sweep_row(group *g, int z, int y, int lo, int hi)
{
    const natten_cpu_pass *p = g->pass;
    bool alike = g->own_run[0] == g->own_run[g->nq - 1];
    int most = 0;
    for (int q = lo; q < hi; q++)
        most = natten_max(most, g->own_run[q]->most);
    int piece = p->chunk.piece ? p->chunk.piece : most;
    for (int f = 0; f < p->fan && most > 0; f++) {
        int slot = slot_of(g, z, y, f);
        tag row = {z, y, f, 0};
        for (int t = 0; t < most && !g->stopped; t += piece) {
            int from[OWNERS], end[OWNERS];
            for (int q = 0; q < g->nq; q++) {
                const run *r = g->own_run[q];
                from[q] = r->base + t;
                end[q] = r->base + natten_min(t + piece, r->most);
            }
            if (alike)
                list_piece(g, slot, row, from[0], end[0] - from[0], lo, hi);
            else
                list_cuts(g, slot, row, from, end);
            if (p->chunk.piece)
                flush(g);
        }
    }
}

/* Do all owners of the group see the same pieces of rows, as long as their windows? */
static bool is_alike(const group *g)
{
    const run *r = g->own_run[0];
    return r == g->own_run[g->nq - 1] && !r->ragged && r->most <= PIECE;
}

/* List what the group before it in the row of owners had. */
static bool list_again(group *g)
{
    const listed *l = &g->listed;
    const run *r = g->own_run[0];
    if (l->segments == 0 || l->nq != g->nq || l->most != r->most || !is_alike(g))
        return false;
    for (int k = 0; k < l->segments; k++)
        g->list[k].x = r->base;
    memcpy(g->used, l->used, sizeof g->used);
    g->ns = l->segments;
    return true;
}

/* Keep what is listed, if it is all that the group sees: extra tokens take its place.
 */
static void keep_list(group *g, int32_t epoch)
{
    listed *l = &g->listed;
    bool all = epoch == g->epoch && g->pass->extra_chunk == 0;
    l->segments = all && is_alike(g) ? g->ns : 0;
    l->nq = g->nq;
    l->most = g->own_run[0]->most;
    memcpy(l->used, g->used, sizeof l->used);
}

static void list_windows(group *g)
{
    const natten_cpu_chunk *chunk = &g->pass->chunk;
    natten_span spans[OWNERS], ys = span_of(g, 1, g->y);
    for (int q = 0; q < g->nq; q++)
        spans[q] = span_of(g, 0, g->z[q]);
    for (int z = spans[0].begin; z < spans[g->nq - 1].end; z++) {
        if (chunk->planes && z % chunk->planes == 0)
            flush(g);
        int lo = 0, hi = g->nq;
        while (lo < hi && spans[lo].end <= z)
            lo++;
        while (lo < hi && spans[hi - 1].begin > z)
            hi--;
        for (int y = ys.begin; y < ys.end && lo < hi && !g->stopped; y++) {
            if (chunk->rows && (y - ys.begin) % chunk->rows == 0)
                flush(g);
            sweep_row(g, z, y, lo, hi);
        }
    }
}

static void sweep_windows(group *g)
{
    int32_t epoch = g->epoch;
    if (!list_again(g)) {
        list_windows(g);
        keep_list(g, epoch);
    }
    g->last = g->pass->extra_chunk == 0;
    flush(g);
}

static void sweep_extras(group *g)
{
    const natten_cpu_pass *p = g->pass;
    int64_t extras = p->task->extras;
    if (p->extra_chunk == 0) /* none, or owners are keys */
        return;
    g->in_extras = true;
    g->run = &g->everyone;
    use_strips(g, g->extra_strips, &p->extra_strip);
    for (int64_t m = 0; m < extras && !g->stopped; m += p->extra_chunk) {
        int n = (int)(extras - m < p->extra_chunk ? extras - m : p->extra_chunk);
        if (!g->extras_packed)
            pack_extras(g, m, n);
        g->extras_packed = extras <= p->extra_chunk;
        g->list[g->ns++] = (segment){.n = n, .hi = g->nq};
        for (int q = 0; q < g->nq; q++)
            g->used[q] = n;
        flush(g);
    }
}

static void finish_group(group *g)
{
    const natten_cpu_pass *p = g->pass;
    if (g->first) { /* no partner at all */
        int64_t elements = natten_cpu_padded(p->other[0].dim, LANES) +
                           natten_cpu_padded(p->other[1].dim, LANES);
        for (int q = 0; q < g->nq; q++)
            memset(g->c[0][q], 0, (size_t)elements * LANES * sizeof(real));
    }
    for (int q = 0; q < g->nq; q++)
        if (p->kind == NATTEN_CPU_FORWARD)
            finish_forward(g, q);
        else
            finish_backward(g, q);
}

/* About so many: what is shared out among them is only asked for. */
static void count_groups(group *g)
{
    int owners = g->pass->owners, z = g->hi[0] - g->lo[0], runs = g->run_count;
    int along_x = z == 1 ? (runs + owners - 1) / owners : runs;
    g->group = 0;
    g->groups = (z + owners - 1) / owners * (g->hi[1] - g->lo[1]) * along_x;
}

/* Where the next item's tokens lie, if they are to be asked for. */
static void find_next(group *g, group *next, const natten_cpu_item *item)
{
    g->next = NULL;
    if (!item || !g->pass->far)
        return;
    next->pass = g->pass;
    next->head = item->head;
    next->unit_bytes = item->unit_bytes;
    if (!find_place(next, item->combo))
        return;
    find_tensors(next);
    g->next = next;
}

static void walk(const natten_cpu_pass *p, const natten_cpu_item *item, void *scratch)
{
    group g, next;
    g.pass = p;
    g.head = item->head;
    g.sums = item->sums;
    g.unit_bytes = item->unit_bytes;
    g.hollow = false;
    g.stopped = false;
    g.extras_packed = false;
    g.reach.run = NULL;
    if (!find_place(&g, item->combo))
        return;
    find_tensors(&g);
    find_memory(&g, scratch);
    make_runs(&g);
    find_patterns(&g);
    count_groups(&g);
    find_next(&g, &next, item->next);
    begin_planes(&g);
    for (int z = g.lo[0]; z < g.hi[0]; z += p->owners) {
        int nz = natten_min(p->owners, g.hi[0] - z);
        for (int y = g.lo[1]; y < g.hi[1]; y++) {
            g.listed.segments = 0;
            for (int r = 0; r < g.run_count;) {
                int taken = choose_owners(&g, z, nz, y, r);
                begin_group(&g);
                want_all(&g, z, nz, y, r, taken);
                r += taken;
                g.group++;
                if (!p->only_delta) {
                    sweep_windows(&g);
                    sweep_extras(&g);
                }
                if (g.stopped) {
                    v_settle();
                    return;
                }
                finish_group(&g);
            }
        }
        leave_planes(&g, z + nz);
    }
    fold_bias(&g);
    v_settle();
}

#endif
