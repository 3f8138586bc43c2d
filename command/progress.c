/* SPDX-License-Identifier: MIT
 *
 * The bar is redrawn in place: a carriage return, the line, and blanks to the end of
 * it. */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

enum { WIDTH = 40 };

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

void progress_clear(void)
{
    if (drawn)
        fprintf(stderr, "\r%*s\r", WIDTH + 32, "");
    drawn = false;
}
