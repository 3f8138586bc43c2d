/* SPDX-License-Identifier: MIT
 *
 * Files that appear whole or not at all.  An output is written to a temporary file
 * beside its place and moved there when everything else has worked; until then what was
 * there stays.  Places that can't be moved to (a pipe, a terminal, /dev/null) are
 * opened only at the end. */
#ifndef NATTEN_COMMAND_OUTPUT_H
#define NATTEN_COMMAND_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

typedef struct output {
    const char *path;
    char *place;     /* where the file goes: path with links followed */
    char *temporary; /* NULL: written in place */
    FILE *file;
    struct npy_array *array; /* what call_finish() writes there */
} output;

/* All zeros is one with nothing in it. */
typedef struct output_set {
    output **list;
    int count;
} output_set;

/* Prepare to write `path`, early, so that a place that can't be written to is told
 * before the work. Prints what is wrong and returns an exit status. Sets *added to the
 * output, which stays where it is. */
int output_add(output_set *set, const char *option, const char *path, output **added);
/* The stream to write an output's bytes to; NULL with errno set. */
FILE *output_stream(output *out);
/* Finish all files, then move all to their places.  Prints and returns an exit status.
 */
int output_commit(output_set *set);
/* Remove what is not committed, and free everything. */
void output_discard(output_set *set);

#endif
