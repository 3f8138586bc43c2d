/* SPDX-License-Identifier: MIT
 *
 * Results for people or for programs: the same facts as a table or, with --json, as one
 * JSON object on standard output. */
#ifndef NATTEN_COMMAND_REPORT_H
#define NATTEN_COMMAND_REPORT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct report report;

/* A new report; NULL, with the message printed, if JSON is asked of a build without it.
 */
report *report_create(bool json);
/* Add a fact.  `name` is written like a JSON key: "psnr_before". */
void report_text(report *facts, const char *name, const char *text);
/* Several texts; a JSON array. */
void report_texts(report *facts, const char *name, const char *const *texts, int count);
void report_integer(report *facts, const char *name, int64_t value);
/* `digits` after the point in the table; JSON has all of it, and null for NaN, inf. */
void report_real(report *facts, const char *name, double value, int digits);
void report_flag(report *facts, const char *name, bool value);
/* Print it (the table only if `table`) and free it. */
void report_finish(report *facts, bool table);
void report_discard(report *facts);

#endif
