/* SPDX-License-Identifier: MIT
 *
 * What came out, for people as a table that grows line by line, and for programs as
 * JSON (docs/cpu-bench.md has the words of both). */
#ifndef NATTEN_BENCH_SCOREBOARD_H
#define NATTEN_BENCH_SCOREBOARD_H

#include "ceiling.h"
#include "race.h"

typedef struct scoreboard scoreboard;

/* A new scoreboard, its JSON for the file (NULL: none); NULL, with the message printed,
 * if that can't be written. The command's arguments are kept with the results. */
scoreboard *scoreboard_open(const char *path, int argc, char **argv);
/* The machine, and its limits for each number of threads that will be used. */
void scoreboard_machine(scoreboard *s, const ceiling *ceilings, int count, bool alone);
/* The timings of one problem; `label` may be empty. */
void scoreboard_add(scoreboard *s, const char *label, const timing *timings, int ways);
/* Write the file; false, with the message printed, if that failed. Frees it. */
bool scoreboard_close(scoreboard *s);

#endif
