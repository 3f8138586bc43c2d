/* SPDX-License-Identifier: MIT
 *
 * What the files of the natten command share: the subcommands, the exit statuses, how a
 * failure is told, and how Ctrl-C ends long work.  The command is a user of the library
 * like any other: it knows natten.h and nothing of what lies behind it, but that
 * gradcheck reads problem texts with the core's reader. */
#ifndef NATTEN_COMMAND_COMMAND_H
#define NATTEN_COMMAND_COMMAND_H

#include <natten.h>

#include <argp.h>
#include <stdbool.h>

/* Exit statuses. */
enum { EXIT_FINE = 0, EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_IO = 3 };

/* The subcommands; argv[0] is "natten forward" and so on.  Each returns an exit status.
 */
int command_forward(int argc, char **argv);
int command_backward(int argc, char **argv);
int command_qk(int argc, char **argv);
int command_av(int argc, char **argv);
int command_merge(int argc, char **argv);
int command_denoise(int argc, char **argv);
int command_gradcheck(int argc, char **argv);
int command_info(int argc, char **argv);

/* Print "natten forward: sentence" on standard error and return `status`. */
int command_fail(int status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Print the library's last sentence as ours (a parameter that is an option appears as
 * that option) and return the exit status that fits `status`; EXIT_FINE for NATTEN_OK.
 */
int command_check(natten_status status);

/* From now on Ctrl-C, a hangup and a termination set a flag that a running call of the
 * library sees, so that temporary files are removed before the process ends. */
void command_catch_signals(void);
bool command_interrupted(void);
/* End as the caught signal would have ended the process; returns if there was none. */
void command_end_by_signal(void);

#endif
