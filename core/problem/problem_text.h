/* SPDX-License-Identifier: MIT
 *
 * The one-line form of a problem, docs/problem-text.md: plans print it; benchmarks and
 * tests read it. */
#ifndef NATTEN_PROBLEM_PROBLEM_TEXT_H
#define NATTEN_PROBLEM_PROBLEM_TEXT_H

#include "problem/problem_spec.h"

/* Room for the longest text. */
enum { NATTEN_PROBLEM_TEXT_BYTES = 640 };

/* Read a text; the sentence of a failure says at which token. Legality of the values is
 * the call's business: only the grammar is checked. */
natten_status natten_problem_text_parse(const char *text, natten_problem_spec *spec);
/* Write the canonical text. */
void natten_problem_text_print(const natten_problem_spec *spec,
                               char text[NATTEN_PROBLEM_TEXT_BYTES]);

#endif
