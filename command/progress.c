/* SPDX-License-Identifier: MIT
 *
 * The bar is redrawn in place: a carriage return, the line, and blanks to the end of
 * it. */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 40, BLOCK = 4 };

bool progress_visible(void)
{
    return isatty(STDERR_FILENO);
}

static bool drawn;

void progress_show(const char *label, double done)
{
    if (!progress_visible())
        return;
    int filled = (int)(done * WIDTH);
    fprintf(stderr, "\r%s [", label);
    for (int i = 0; i < WIDTH; i++)
        fputc(i < filled ? '#' : ' ', stderr);
    fprintf(stderr, "] %3d %%", (int)(done * 100));
    fflush(stderr);
    drawn = true;
}

/* What is waited for, since when, and when the bar was last drawn. */
static const char *waiting;
static double since, last;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void progress_wait(const char *label)
{
    waiting = progress_visible() ? label : NULL;
    since = last = seconds();
}

void progress_pulse(void)
{
    if (waiting == NULL)
        return;
    double now = seconds();
    if (now - since < 1 || now - last < 0.1)
        return;
    last = now;
    char bar[WIDTH + 1] = "";
    memset(bar, ' ', WIDTH);
    memset(bar + (int)((now - since) * 10) % (WIDTH - BLOCK + 1), '#', BLOCK);
    fprintf(stderr, "\r%s [%s] %.0f s", waiting, bar, now - since);
    fflush(stderr);
    drawn = true;
}

void progress_clear(void)
{
    if (drawn)
        fprintf(stderr, "\r%*s\r", WIDTH + 32, "");
    drawn = false;
    waiting = NULL;
}
