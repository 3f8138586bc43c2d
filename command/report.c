/* SPDX-License-Identifier: MIT
 *
 * A report is a list of lines of text, or a jansson object.  Without jansson only the
 * first exists. */
#include "config.h"

#include "report.h"

#include "command.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef NATTEN_HAVE_JANSSON
#include <jansson.h>
#endif

struct report {
    FILE *lines; /* the table, collected in `text` */
    char *text;
    size_t size;
    void *object; /* json_t, or NULL */
};

report *report_create(bool json)
{
    report *facts = calloc(1, sizeof *facts);
    if (facts)
        facts->lines = open_memstream(&facts->text, &facts->size);
    if (!facts || !facts->lines) {
        free(facts);
        command_fail(EXIT_IO, "out of memory");
        return NULL;
    }
#ifdef NATTEN_HAVE_JANSSON
    if (json)
        facts->object = json_object();
#else
    if (json) {
        command_fail(EXIT_IO, "--json: this natten was built without jansson");
        report_discard(facts);
        return NULL;
    }
#endif
    return facts;
}

#ifdef NATTEN_HAVE_JANSSON
#define ADD_JSON(facts, name, value)                           \
    do {                                                       \
        if ((facts)->object)                                   \
            json_object_set_new((facts)->object, name, value); \
    } while (0)
#else
#define ADD_JSON(facts, name, value) ((void)0)
#endif

static void add_line(report *facts, const char *name, const char *text)
{
    char label[32];
    snprintf(label, sizeof label, "%s", name);
    for (char *c = label; *c; c++)
        *c = (char)(*c == '_' ? ' ' : *c);
    fprintf(facts->lines, "%-16s ", label);
    /* Lines after the first stand below it. */
    for (; *text; text++) {
        fputc(*text, facts->lines);
        if (*text == '\n' && text[1])
            fprintf(facts->lines, "%-16s ", "");
    }
    if (text[-1] != '\n')
        fputc('\n', facts->lines);
}

void report_text(report *facts, const char *name, const char *text)
{
    add_line(facts, name, *text ? text : "-");
    ADD_JSON(facts, name, json_string(text));
}

void report_texts(report *facts, const char *name, const char *const *texts, int count)
{
    for (int i = 0; i < count; i++)
        add_line(facts, i == 0 ? name : "", texts[i]);
#ifdef NATTEN_HAVE_JANSSON
    json_t *array = facts->object ? json_array() : NULL;
    for (int i = 0; array && i < count; i++)
        json_array_append_new(array, json_string(texts[i]));
#endif
    ADD_JSON(facts, name, array);
}

void report_integer(report *facts, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    add_line(facts, name, text);
    ADD_JSON(facts, name, json_integer(value));
}

void report_real(report *facts, const char *name, double value, int digits)
{
    char text[400];
    snprintf(text, sizeof text, "%.*f", digits, value);
    add_line(facts, name, text);
    ADD_JSON(facts, name, isfinite(value) ? json_real(value) : json_null());
}

void report_flag(report *facts, const char *name, bool value)
{
    add_line(facts, name, value ? "yes" : "no");
    ADD_JSON(facts, name, json_boolean(value));
}

void report_finish(report *facts, bool table)
{
    fflush(facts->lines);
#ifdef NATTEN_HAVE_JANSSON
    if (facts->object) {
        json_dumpf(facts->object, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        putchar('\n');
        table = false;
    }
#endif
    if (table)
        fputs(facts->text, stdout);
    report_discard(facts);
}

void report_discard(report *facts)
{
    if (!facts)
        return;
#ifdef NATTEN_HAVE_JANSSON
    json_decref(facts->object);
#endif
    fclose(facts->lines);
    free(facts->text);
    free(facts);
}
