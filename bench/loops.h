/* SPDX-License-Identifier: MIT
 *
 * The definition as plain loops in C, as somebody writes them who needs it and has no
 * library: what the library's work is worth. */
#ifndef NATTEN_BENCH_LOOPS_H
#define NATTEN_BENCH_LOOPS_H

#include "subject.h"

/* The loops do plain problems in fp32: no bias, extra tokens or gradient of lse. */
bool loops_can(const subject *s);
/* Forward or backward of the subject's own tensors, a head of keys at a time, on as
 * many threads. */
natten_status loops_run(const subject *s, int threads);

#endif
