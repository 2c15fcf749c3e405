/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* `tidewire check-config FILE`: reads the file as `serve` would, without the environment and other
 * flags, and says whether it is right. */

#include <stdio.h>
#include <string.h>

#include "tools/tidewire/commands.h"
#include "tools/tidewire/config.h"

int cmd_check_config(int argc, char **argv, char **envp)
{
    (void)envp;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs("Usage: tidewire check-config FILE\n"
              "\n"
              "Reads a config file as serve would, without the environment and other flags. Says\n"
              "\"ok\" and ends with 0, or names the line that is not right and ends with 2, or 3 "
              "where\n"
              "a file can not be read. A file of the name --help is ./--help.\n",
              stdout);
        return EXIT_OK;
    }
    if (argc != 2 || argv[1][0] == 0) {
        fprintf(stderr, "tidewire: check-config takes one argument, the file to check\n");
        return EXIT_USAGE;
    }
    /* In one word, so that a file may be called anything. */
    char flag[4096];
    if ((size_t)snprintf(flag, sizeof(flag), "--config=%s", argv[1]) >= sizeof(flag)) {
        fprintf(stderr, "tidewire: the name of the file is too long\n");
        return EXIT_FILE;
    }
    struct config c;
    struct options *options = NULL;
    char *args[] = {argv[0], flag, NULL};
    char *no_env[] = {NULL};
    int code = config_read(&c, 2, args, no_env, stderr, &options);
    if (code != 0)
        return code;
    options_free(options);
    printf("%s: ok\n", argv[1]);
    return EXIT_OK;
}
