/* SPDX-License-Identifier: MIT
 *
 * The first kernel of cpu_kernel.h, included once for each width of vectors: LOGITS_OF
 * names it, W makes the words, WIDE and WIDE_INDEX are their types.  Rows of panels and
 * scores are LANES long whatever the width. */
INLINE void LOGITS_OF(const shape k, const enum reading how, const logits_block *o)
{
    WIDE acc[OWNERS][BLOCK];
    WIDE_INDEX idx = W(index)(o->idx);
    const real *b = o->b;
    if (k.hi * k.columns > (how == PLAIN ? BUDGET : PICK_BUDGET))
        return; /* there is no such instance */
#if V_CLAMPS
    WIDE moves = W(load)(o->moves);
#endif
    UNROLL
    for (int q = 0; q < k.hi; q++) {
        UNROLL
        for (int i = 0; i < k.columns; i++)
            acc[q][i] = W(zero)();
    }
    UNROLL_TWICE
    for (int r = 0; r < o->rows; r++, b += o->pitch) {
        WIDE v[OWNERS];
        UNROLL
        for (int q = 0; q < k.hi; q++) {
            v[q] = W(load)(o->a[q] + (ptrdiff_t)r * LANES);
            v_pin(v[q]);
        }
        UNROLL
        for (int i = 0; i < k.columns; i++) {
            WIDE x = W(load)(b + (how == CLAMPED ? o->slide : 0) + i);
            if (how == PICKED)
                x = W(pick)(x, idx);
#if V_CLAMPS
            if (how == CLAMPED)
                x = W(if_more)(moves, W(zero)(), x, W(all)(b[o->still + i]));
#endif
            v_pin(x);
            UNROLL
            for (int q = 0; q < k.hi; q++)
                acc[q][i] = W(fma)(v[q], x, acc[q][i]);
        }
    }
    if (o->add) {
        UNROLL
        for (int q = 0; q < k.hi; q++) {
            UNROLL
            for (int i = 0; i < k.columns; i++)
                acc[q][i] = W(add)(acc[q][i], W(load)(o->c[q] + i * LANES));
        }
    } else if (how == PLAIN && o->entry[0]) {
        UNROLL
        for (int q = 0; q < k.hi; q++) {
            UNROLL
            for (int i = 0; i < k.columns; i++)
                acc[q][i] = W(add)(acc[q][i], W(all)(o->entry[q][i * o->entry_step]));
        }
    }
    UNROLL
    for (int q = 0; q < k.hi; q++) {
        UNROLL
        for (int i = 0; i < k.columns; i++)
            W(store)(o->c[q] + i * LANES, acc[q][i]);
    }
}

#undef LOGITS_OF
#undef W
#undef WIDE
#undef WIDE_INDEX
