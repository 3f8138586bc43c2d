/* SPDX-License-Identifier: MIT
 *
 * Statuses and sentences: core/base/status.c. */
#include "base/status.h"

#include "support/tap.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

START_TEST(every_status_has_a_text_of_its_own)
{
    for (int a = NATTEN_ERR_ABI; a <= NATTEN_OK; a++) {
        const char *text = natten_status_text((natten_status)a);
        ck_assert_str_ne(text, "unknown status");
        for (int b = a + 1; b <= NATTEN_OK; b++)
            ck_assert_str_ne(text, natten_status_text((natten_status)b));
    }
}
END_TEST

START_TEST(a_number_that_is_no_status_has_a_text_too)
{
    ck_assert_str_eq(natten_status_text((natten_status)1), "unknown status");
    ck_assert_str_eq(natten_status_text((natten_status)-16), "unknown status");
}
END_TEST

START_TEST(a_sentence_begins_with_the_function_that_was_entered)
{
    natten_status_enter("natten_forward");
    natten_status status = natten_status_fail(NATTEN_ERR_SHAPE, "%s is %d", "it", 7);
    ck_assert_int_eq(status, NATTEN_ERR_SHAPE);
    ck_assert_str_eq(natten_status_sentence(), "natten_forward: it is 7");
}
END_TEST

START_TEST(a_long_sentence_is_cut_and_terminated)
{
    char longest[1000];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    natten_status_enter("f");
    natten_status_fail(NATTEN_ERR_SHAPE, "%s", longest);
    ck_assert_uint_eq(strlen(natten_status_sentence()), NATTEN_SENTENCE_BYTES - 1);
    natten_status_enter(longest);
    natten_status_fail(NATTEN_ERR_SHAPE, "%d", 1);
    ck_assert_uint_eq(strlen(natten_status_sentence()), NATTEN_SENTENCE_BYTES - 1);
}
END_TEST

START_TEST(failing_leaves_errno_alone)
{
    errno = EDOM;
    natten_status_fail(NATTEN_ERR_SHAPE, "%d", 1);
    ck_assert_int_eq(errno, EDOM);
}
END_TEST

static void *fail_elsewhere(void *argument)
{
    ck_assert_str_eq(natten_status_sentence(), "");
    natten_status_enter("there");
    natten_status_fail(NATTEN_ERR_SHAPE, "other");
    strcpy(argument, natten_status_sentence());
    return NULL;
}

START_TEST(each_thread_has_its_own_sentence)
{
    char theirs[NATTEN_SENTENCE_BYTES];
    natten_status_enter("here");
    natten_status_fail(NATTEN_ERR_SHAPE, "mine");
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, fail_elsewhere, theirs), 0);
    pthread_join(thread, NULL);
    ck_assert_str_eq(theirs, "there: other");
    ck_assert_str_eq(natten_status_sentence(), "here: mine");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("status");
    TCase *tests = tcase_create("status");
    tcase_add_test(tests, every_status_has_a_text_of_its_own);
    tcase_add_test(tests, a_number_that_is_no_status_has_a_text_too);
    tcase_add_test(tests, a_sentence_begins_with_the_function_that_was_entered);
    tcase_add_test(tests, a_long_sentence_is_cut_and_terminated);
    tcase_add_test(tests, failing_leaves_errno_alone);
    tcase_add_test(tests, each_thread_has_its_own_sentence);
    suite_add_tcase(suite, tests);
    return tap_run(suite);
}
