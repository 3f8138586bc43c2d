/* SPDX-License-Identifier: MIT
 *
 * Running a Check suite so that automake's TAP driver reads it: TAP on standard output,
 * all tests in this one process (threads and sanitizers see one process; Check's time
 * limits do not apply). */
#ifndef NATTEN_TESTS_SUPPORT_TAP_H
#define NATTEN_TESTS_SUPPORT_TAP_H

#include <check.h>

/* The exit status of a test program that consists of `suite`. */
static inline int tap_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_set_tap(runner, "-");
    srunner_run_all(runner, CK_SILENT);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#endif
