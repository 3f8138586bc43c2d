/* SPDX-License-Identifier: MIT
 *
 * natten-bench [OPTION]... [PROBLEM]...: times problems (docs/problem-text.md) beside
 * the machine's limits and OpenBLAS, and prints a line for each (docs/cpu-bench.md).
 *
 * A report, never a test: only a wrong result makes it fail. */
#include "base/dtype.h"
#include "base/parallel.h"
#include "base/status.h"
#include "ceiling.h"
#include "pin.h"
#include "problem/problem_text.h"
#include "race.h"
#include "scoreboard.h"
#include "yardstick.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 1024, MOST_PROBLEMS = 256 };
enum { RIGHT, WRONG, USAGE, FAILURE }; /* exit statuses */

typedef struct problem {
    char label[16];
    natten_problem_spec spec;
} problem;

typedef struct problem_list {
    problem problem[MOST_PROBLEMS];
    int count;
} problem_list;

typedef struct options {
    race_options race;
    const char *suite; /* a file of problem texts; NULL: none */
    const char *variant, *json;
    char **problems;
    int problem_count;
    bool pin;
} options;

static const struct argp_option argp_options[] = {
    {"suite", 's', "FILE", 0, "Problems, one on a line (default: suites/cpu.txt)", 0},
    {"threads", 't', "N,...", 0, "Numbers of threads (default: 1 and all)", 0},
    {"types", 'y', "TYPE,...", 0, "Each problem in these types (default: its own)", 0},
    {"repeats", 'k', "N", 0, "Rounds in which all take turns (default 20)", 0},
    {"seconds", 'n', "S", 0, "Time for a line, where its rounds leave some (default 1)",
     0},
    {"variant", 'v', "NAME", 0, "Instruction set (default: the best)", 0},
    {"reference", 'r', NULL, 0, "Time the reference backend", 0},
    {"loops", 'l', NULL, 0, "Time plain loops in C too", 0},
    {"pin", 'p', NULL, 0, "A CPU for each thread", 0},
    {"json", 'j', "FILE", 0, "Write the results to this file too", 0},
    {0},
};

static double number(struct argp_state *state, const char *option, const char *text,
                     double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        argp_error(state, "--%s=%s not in [%g, %g]", option, text, low, high);
    return value;
}

static int integer(struct argp_state *state, const char *option, const char *text,
                   int low, int high)
{
    double value = number(state, option, text, low, high);
    if (value != (int)value)
        argp_error(state, "--%s=%s is no integer", option, text);
    return (int)value;
}

static void parse_threads(struct argp_state *state, const char *text, race_options *o)
{
    char *copy = strdup(text);
    o->thread_counts = 0;
    for (char *word = strtok(copy, ","); word; word = strtok(NULL, ",")) {
        if (o->thread_counts == MOST_COUNTS)
            argp_error(state, "--threads: more than %d numbers", MOST_COUNTS);
        o->threads[o->thread_counts++] =
            integer(state, "threads", word, 1, NATTEN_MAX_THREADS);
    }
    if (o->thread_counts == 0)
        argp_error(state, "--threads: no number");
    free(copy);
}

static void parse_types(struct argp_state *state, const char *text, race_options *o)
{
    char *copy = strdup(text);
    o->type_count = 0;
    for (char *word = strtok(copy, ","); word; word = strtok(NULL, ",")) {
        natten_dtype type;
        if (!natten_dtype_from_name(word, &type))
            argp_error(state, "--types=%s not in {fp64, fp32, bf16, fp16}", word);
        for (int i = 0; i < o->type_count; i++)
            if (o->types[i] == type)
                argp_error(state, "--types: %s twice", word);
        o->types[o->type_count++] = type;
    }
    if (o->type_count == 0)
        argp_error(state, "--types: no type");
    free(copy);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case 's':
        o->suite = text;
        return 0;
    case 't':
        parse_threads(state, text, &o->race);
        return 0;
    case 'y':
        parse_types(state, text, &o->race);
        return 0;
    case 'k':
        o->race.repeats = integer(state, "repeats", text, 1, MOST_SAMPLES);
        return 0;
    case 'n':
        o->race.seconds = number(state, "seconds", text, 0, 3600);
        return 0;
    case 'v':
        o->variant = text;
        return 0;
    case 'r':
        o->race.backend = NATTEN_BACKEND_REFERENCE;
        return 0;
    case 'l':
        o->race.loops = true;
        return 0;
    case 'p':
        o->pin = true;
        return 0;
    case 'j':
        o->json = text;
        return 0;
    case ARGP_KEY_ARGS:
        o->problems = state->argv + state->next;
        o->problem_count = state->argc - state->next;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* 1 and all, without a number given. */
static void choose_threads(race_options *o)
{
    int all = natten_get_num_threads();
    if (o->thread_counts > 0)
        return;
    o->threads[o->thread_counts++] = 1;
    if (all > 1)
        o->threads[o->thread_counts++] = all;
}

/* Keep "LABEL: TEXT", or a text alone. */
static int add_problem(const char *line, problem_list *list)
{
    const char *colon = strstr(line, ": "), *text = colon ? colon + 2 : line;
    if (list->count == MOST_PROBLEMS) {
        fprintf(stderr, "natten-bench: more than %d problems\n", MOST_PROBLEMS);
        return USAGE;
    }
    problem *p = &list->problem[list->count++];
    snprintf(p->label, sizeof p->label, "%.*s", colon ? (int)(colon - line) : 0, line);
    natten_status_enter("natten-bench");
    if (natten_problem_text_parse(text, &p->spec) == NATTEN_OK)
        return RIGHT;
    fprintf(stderr, "%s (%s)\n", natten_last_error(), text);
    return USAGE;
}

static int read_suite(const char *path, problem_list *list)
{
    char line[LINE_BYTES];
    int status = RIGHT;
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return FAILURE;
    }
    while (status == RIGHT && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] && line[0] != '#')
            status = add_problem(line, list);
    }
    fclose(file);
    return status;
}

/* All of them, before the first is timed. */
static int read_problems(const options *o, problem_list *list)
{
    int status = o->suite ? read_suite(o->suite, list) : RIGHT;
    for (int i = 0; status == RIGHT && i < o->problem_count; i++)
        status = add_problem(o->problems[i], list);
    return status;
}

static int bench(const race_options *o, scoreboard *board, const problem *p)
{
    static timing timings[MOST_WAYS];
    char text[NATTEN_PROBLEM_TEXT_BYTES];
    int ways, status = RIGHT;
    natten_problem_text_print(&p->spec, text);
    natten_status failed = race_run(o, &p->spec, timings, &ways);
    if (failed != NATTEN_OK) {
        fprintf(stderr, "%s (%s)\n", natten_last_error(), text);
        return failed == NATTEN_ERR_MEMORY ? FAILURE : USAGE;
    }
    scoreboard_add(board, p->label, timings, ways);
    for (int n = 0; n < ways; n++)
        if (!(timings[n].error <= 1)) {
            fprintf(stderr, "natten-bench: wrong: %g times the error allowed (%s)\n",
                    timings[n].error, text);
            status = WRONG;
        }
    return status;
}

static void nothing(void *context, int64_t item, int thread)
{
    (void)context, (void)item, (void)thread;
}

/* A place for the threads of OpenBLAS, and for those of the library's pool. */
static void pin_threads(const race_options *o)
{
    int most = 1;
    for (int n = 0; n < o->thread_counts; n++)
        most = o->threads[n] > most ? o->threads[n] : most;
    pin_all();
    natten_parallel_run(most, most, nothing, NULL);
    pin_all();
}

/* The machine's limits on each number of threads. */
static void measure_machine(const race_options *o, scoreboard *board)
{
    static ceiling ceilings[MOST_COUNTS];
    bool alone = o->thread_counts == 1 && o->threads[0] == 1;
    if (alone)
        yardstick_alone();
    for (int n = 0; n < o->thread_counts; n++)
        ceilings[n] = ceiling_measure(o->threads[n]);
    scoreboard_machine(board, ceilings, o->thread_counts, alone);
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        argp_options, parse, "[PROBLEM]...", "Time neighborhood attention.", NULL,
        NULL,         NULL};
    options o = {.race = {.repeats = 20, .seconds = 1, .backend = NATTEN_BACKEND_AUTO}};
    pin_open();
    argp_err_exit_status = USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (natten_set_cpu_variant(o.variant) != NATTEN_OK) {
        fprintf(stderr, "natten-bench: %s\n", natten_last_error());
        return USAGE;
    }
    if (!o.suite && o.problem_count == 0)
        o.suite = NATTEN_BENCH_SUITES "/cpu.txt";
    choose_threads(&o.race);
    static problem_list list;
    int status = read_problems(&o, &list);
    if (status != RIGHT)
        return status;
    scoreboard *board = scoreboard_open(o.json, argc, argv);
    if (!board)
        return FAILURE;
    yardstick_open();
    if (o.pin)
        pin_threads(&o.race);
    measure_machine(&o.race, board);
    for (int i = 0; i < list.count; i++) {
        int came = bench(&o.race, board, &list.problem[i]);
        status = came > status ? came : status;
    }
    if (!scoreboard_close(board))
        return FAILURE;
    return status;
}
