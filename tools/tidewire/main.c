/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Finds the subcommand and runs it. */

#include <stdio.h>
#include <string.h>

#include "core/options.h"
#include "tools/tidewire/commands.h"
#include "tools/tidewire/serve.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv, char **envp);
};

static const struct command commands[] = {
    {"serve", serve_main}, {"version", cmd_version},   {"check-config", cmd_check_config},
    {"plan", cmd_plan},    {"help", cmd_help},         {"--help", cmd_help},
    {"-h", cmd_help},      {"--version", cmd_version},
};

static int unknown_command(const char *name)
{
    const char *names[ARRAY_LEN(commands)];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[i] = commands[i].name;
    const char *near = options_nearest(name, names, ARRAY_LEN(commands));
    if (near != NULL)
        fprintf(stderr, "tidewire: unknown command \"%.60s\"; did you mean %s?\n", name, near);
    else
        fprintf(stderr, "tidewire: unknown command \"%.60s\"; see tidewire help\n", name);
    return EXIT_USAGE;
}

int main(int argc, char **argv, char **envp)
{
    if (argc < 2) {
        help_print_overview(stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1, envp);
    }
    return unknown_command(argv[1]);
}
