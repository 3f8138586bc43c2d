/* SPDX-License-Identifier: MIT
 *
 * natten: neighborhood attention from the command line.  Finds the subcommand and hands
 * the rest of the arguments to it. */
#include "config.h"

#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *purpose;
} subcommands[] = {
    {"forward", command_forward, "attention of .npy arrays: out and lse"},
    {"backward", command_backward, "its gradients"},
    {"qk", command_qk, "the logits alone, or their gradients"},
    {"av", command_av, "weights times values, or their gradients"},
    {"merge", command_merge,
     "merge attentions over disjoint sets of keys, or their gradients"},
    {"denoise", command_denoise, "remove noise from a picture or a stack of frames"},
    {"gradcheck", command_gradcheck, "hold the gradients against finite differences"},
    {"info", command_info, "the library, this machine, and what runs on it"},
};

static void print_help(FILE *stream)
{
    fputs("Usage: natten COMMAND [OPTION...] [FILE...]\n"
          "Neighborhood attention on 1-D, 2-D and 3-D grids.\n\nCommands:\n",
          stream);
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        fprintf(stream, "  %-10s  %s\n", subcommands[i].name, subcommands[i].purpose);
    fputs("\nOptions:\n"
          "  --help      this text; `natten COMMAND --help' has the command's options\n"
          "  --version   the version\n"
          "\nExit status: 0 fine; 1 a wrong result (gradcheck); 2 wrong usage; 3 a "
          "file,\n"
          "memory or a device failed.\n",
          stream);
}

/* argp's own --version, of every subcommand. */
static void print_version(FILE *stream, struct argp_state *state)
{
    (void)state;
    fprintf(stream, "natten (libnatten) %s\n", PACKAGE_VERSION);
}

int main(int argc, char **argv)
{
    static char name[64] = "natten";
    program_invocation_name = name;
    argp_err_exit_status = EXIT_USAGE;
    argp_program_version_hook = print_version;
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0) {
        print_help(stdout);
        return fflush(stdout) == 0 ? EXIT_FINE : EXIT_IO;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        print_version(stdout, NULL);
        return fflush(stdout) == 0 ? EXIT_FINE : EXIT_IO;
    }
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
        if (strcmp(argv[1], subcommands[i].name) != 0)
            continue;
        snprintf(name, sizeof name, "natten %s", subcommands[i].name);
        argv[1] = name;
        command_catch_signals();
        int status = subcommands[i].run(argc - 1, argv + 1);
        /* A full disk behind standard output shows only here. */
        if (fflush(stdout) != 0 && status == EXIT_FINE)
            status = command_fail(EXIT_IO, "standard output: %s", strerror(errno));
        command_end_by_signal();
        return status;
    }
    return command_fail(EXIT_USAGE, "no command '%s'; `natten --help' lists them",
                        argv[1]);
}
