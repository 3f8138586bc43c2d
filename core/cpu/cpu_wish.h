/* SPDX-License-Identifier: MIT
 *
 * Tokens that are wanted soon.  They are too far apart for the processor to see a
 * pattern, and where it is asked for more lines than it can have under way, it waits:
 * so they are asked for bit by bit, between products.  What is wanted, cpu_ahead.h
 * knows. */
#ifndef NATTEN_CPU_WISH_H
#define NATTEN_CPU_WISH_H

enum { MOST_WISHES = 64, SECOND_LEVEL = 2, PAGE_BYTES = 4096, PAGES = 32 };

/* n tokens, `bytes` of each. */
typedef struct wish {
    const char *from;
    int64_t step, bytes;
    int n;
} wish;

/* Asked for from the last wish to the first, while so many partners are multiplied. */
typedef struct wishes {
    wish list[MOST_WISHES];
    int count;
    int64_t tokens, products;
    /* Whose pages are touched next: what is left of a wish, then the first `untouched`
     * ones from the last on. `touched` tokens are still to be asked for. */
    wish next;
    int untouched;
    int64_t touched;
} wishes;

static void wish_nothing(wishes *w, int64_t products)
{
    w->count = w->untouched = w->next.n = 0;
    w->tokens = w->touched = 0;
    w->products = products;
}

/* All wishes are made before the first is asked for. */
static void add_wish(wishes *w, wish more)
{
    if (w->count == MOST_WISHES)
        return;
    w->list[w->count++] = more;
    w->tokens += more.n;
    w->untouched = w->count;
}

/* Touch the next pages. A prefetch from a page that the processor does not know waits
 * until it is found, some 100 ns, and holds up what follows; of many pages at once some
 * are found side by side. Where each token has a page of its own, asking does as much.
 */
static void touch_pages(wishes *w)
{
    for (int pages = 0; pages < PAGES && (w->next.n > 0 || w->untouched > 0);) {
        if (w->next.n == 0)
            w->next = w->list[--w->untouched];
        int n = w->next.n;
        if (w->next.step > 0 && w->next.step < PAGE_BYTES) {
            n = natten_min(n, (int)(PAGE_BYTES / w->next.step));
            __builtin_prefetch(w->next.from, 0, SECOND_LEVEL);
            pages++;
        }
        w->next.from += n * w->next.step;
        w->next.n -= n;
        w->touched += n;
    }
}

/* Ask for the share of the tokens that goes with a product with n partners. */
static void ask(wishes *w, int n)
{
    int64_t now = w->tokens;
    if (now == 0)
        return;
    if (n < w->products)
        now = (w->tokens * n + w->products - 1) / w->products;
    w->products -= n;
    w->tokens -= now;
    while (w->touched < now)
        touch_pages(w);
    w->touched -= now;
    while (now > 0) {
        wish *o = &w->list[w->count - 1];
        for (; now > 0 && o->n > 0; now--, o->n--, o->from += o->step)
            for (int64_t b = 0; b < o->bytes; b += CACHE_LINE)
                __builtin_prefetch(o->from + b, 0, SECOND_LEVEL);
        w->count -= o->n == 0;
    }
}

#endif
