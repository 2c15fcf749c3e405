/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_COMMANDS_H
#define TOOLS_TIDEWIRE_COMMANDS_H

/* The subcommands of the program but `serve` (serve.h). Each takes its own name as argv[0] and
 * returns the process's exit code. Main thread. */

#include <stdio.h>

/* Exit codes of all subcommands; the man page lists them. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_INTERNAL = 1, /* out of memory, or a system call that should not have failed */
    EXIT_USAGE = 2,    /* OPTIONS_EXIT_USAGE: a bad flag, key or value */
    EXIT_FILE = 3,     /* OPTIONS_EXIT_FILE: a file can't be read */
    EXIT_LISTEN = 4,   /* an address can't be listened on: in use, not this host's, not allowed */
    EXIT_LIMIT = 5,    /* a limit of the system is too low: descriptors, locked memory */
    EXIT_BACKEND = 6,  /* the io backend that was asked for does not start on this host */
    EXIT_FORCED = 7,   /* a second signal ended the drain */
    EXIT_TLS = 8,      /* a certificate, key, OCSP response or the linked wolfSSL is not right */
};

int cmd_version(int argc, char **argv, char **envp);
int cmd_check_config(int argc, char **argv, char **envp);
int cmd_plan(int argc, char **argv, char **envp);
int cmd_help(int argc, char **argv, char **envp);

/* The list of subcommands; the help of `serve`; the man page in troff. */
void help_print_overview(FILE *out);
void help_print_serve(FILE *out);
void help_print_man(FILE *out);

#endif
