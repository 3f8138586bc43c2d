/* SPDX-License-Identifier: MIT
 *
 * A progress bar on standard error, when that is a terminal; nothing in a pipe or a
 * file. */
#ifndef NATTEN_COMMAND_PROGRESS_H
#define NATTEN_COMMAND_PROGRESS_H

#include <stdbool.h>

/* Whether anyone would see it. */
bool progress_visible(void);
/* Draw it at `done` of 1. */
void progress_show(const char *label, double done);
/* Begin something of which nobody knows how far it is: from the second second on, each
 * progress_pulse() moves a block along the bar and tells the time. */
void progress_wait(const char *label);
void progress_pulse(void);
/* Wipe it away, if one is there: before results and messages. */
void progress_clear(void);

#endif
