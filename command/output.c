/* SPDX-License-Identifier: MIT
 *
 * Writing beside, then renaming.  Two outputs that name one file are refused: the
 * second would silently replace the first. */
#include "output.h"

#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The permissions that the file would have got from fopen: those of the one it
 * replaces, or all but the umask's. */
static mode_t permissions(const char *place)
{
    struct stat status;
    if (stat(place, &status) == 0)
        return status.st_mode & 07777;
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

/* Open the temporary file beside out->place; false with errno set. */
static bool open_beside(output *out)
{
    static const char suffix[] = ".XXXXXX"; /* mkstemp's */
    out->temporary = malloc(strlen(out->place) + sizeof suffix);
    if (!out->temporary)
        return false;
    sprintf(out->temporary, "%s%s", out->place, suffix);
    mode_t mode = permissions(out->place);
    int descriptor = mkstemp(out->temporary);
    if (descriptor < 0) {
        free(out->temporary);
        out->temporary = NULL;
        return false;
    }
    /* Where permissions can't be set (some mounted file systems) there are none. */
    if (fchmod(descriptor, mode) != 0)
        errno = 0;
    out->file = fdopen(descriptor, "wb");
    return out->file != NULL;
}

/* A new output at the end of the set; NULL when memory is out. */
static output *append(output_set *set)
{
    output **list = realloc(set->list, (size_t)(set->count + 1) * sizeof *list);
    if (!list)
        return NULL;
    set->list = list;
    output *out = calloc(1, sizeof *out);
    if (out)
        list[set->count++] = out;
    return out;
}

int output_add(output_set *set, const char *option, const char *path, output **added)
{
    output *out = append(set);
    *added = out;
    if (!out)
        return command_fail(EXIT_IO, "out of memory");
    out->path = path;
    struct stat status;
    bool exists = stat(path, &status) == 0;
    bool in_place = exists && !S_ISREG(status.st_mode);
    /* A pipe that is reached by a link, as /dev/stdout is, has no real path. */
    out->place = exists && !in_place ? realpath(path, NULL) : strdup(path);
    if (!out->place)
        return command_fail(EXIT_IO, "%s %s: %s", option, path, strerror(errno));
    if (exists && S_ISDIR(status.st_mode))
        return command_fail(EXIT_IO, "%s %s: it is a directory", option, path);
    if (in_place)
        return EXIT_FINE;
    for (int i = 0; i < set->count - 1; i++)
        if (strcmp(set->list[i]->place, out->place) == 0)
            return command_fail(EXIT_USAGE, "%s %s: another output goes there", option,
                                path);
    /* Replacing needs a writable directory only; a file that is write-protected shall
     * stay nevertheless. */
    if ((exists && access(out->place, W_OK) != 0) || !open_beside(out))
        return command_fail(EXIT_IO, "%s %s: %s", option, path, strerror(errno));
    return EXIT_FINE;
}

FILE *output_stream(output *out)
{
    if (!out->file)
        out->file = fopen(out->place, "wb");
    return out->file;
}

int output_commit(output_set *set)
{
    for (int i = 0; i < set->count; i++) {
        output *out = set->list[i];
        FILE *file = out->file;
        out->file = NULL;
        if (file && fclose(file) != 0)
            return command_fail(EXIT_IO, "%s: %s", out->path, strerror(errno));
    }
    if (command_interrupted())
        return command_fail(EXIT_IO, "interrupted");
    for (int i = 0; i < set->count; i++) {
        output *out = set->list[i];
        if (out->temporary && rename(out->temporary, out->place) != 0)
            return command_fail(EXIT_IO, "%s: %s", out->path, strerror(errno));
        free(out->temporary);
        out->temporary = NULL;
    }
    return EXIT_FINE;
}

void output_discard(output_set *set)
{
    for (int i = 0; i < set->count; i++) {
        output *out = set->list[i];
        if (out->file)
            fclose(out->file);
        if (out->temporary)
            unlink(out->temporary);
        free(out->temporary);
        free(out->place);
        free(out);
    }
    free(set->list);
    memset(set, 0, sizeof *set);
}
