/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* `tidewire help [COMMAND | --man]`: the overview, the help of a command, the man page. What is
 * said of flags comes from the tables. */

#include <string.h>

#include "tools/tidewire/commands.h"
#include "tools/tidewire/config.h"

void help_print_overview(FILE *out)
{
    fputs("Tidewire is a real-time edge node: it holds WebSocket connections and carries messages\n"
          "between them through rooms.\n"
          "\n"
          "Usage: tidewire COMMAND [ARGUMENTS]\n"
          "\n"
          "  serve [FLAGS]      starts the server; serve --help lists the flags\n"
          "  check-config FILE  reads a config file and says whether serve would take it\n"
          "  plan [FLAGS]       prints how many nodes a number of users needs; plan --help lists\n"
          "                     the flags\n"
          "  version            prints the version, how it was built and what this host offers\n"
          "  help [COMMAND]     prints this overview, or what a command takes\n"
          "  help --man         prints the man page, for man -l -\n",
          out);
}

void help_print_serve(FILE *out)
{
    fputs("Usage: tidewire serve [FLAGS]\n"
          "\n"
          "Starts the server in the foreground; SIGTERM or SIGINT drains and ends it.\n"
          "Every flag can also stand in the config file (port = 9000) and in the\n"
          "environment (TIDEWIRE_PORT=9000; items of a repeated flag between commas). The\n"
          "command line wins over the environment, the environment over the file. Sizes\n"
          "take B, KiB, MiB, GiB or TiB, times us, ms, s, m or h.\n"
          "\n"
          "The file is the one that --config or TIDEWIRE_CONFIG names, or else, when it\n"
          "exists, " CONFIG_DEFAULT_FILE ".\n",
          out);
    options_print_help(config_table, config_table_len, out);
}

static void print_man_end(FILE *out)
{
    fputs(
        ".SH CONFIG FILE\n"
        "One\n"
        ".I key = value\n"
        "a line, with the names of the flags without their hyphens in front. A line that begins\n"
        "with # or ; is a comment, and so is what follows a ; behind a blank. A key stands once,\n"
        "except that of a flag that may be repeated. There are no sections.\n"
        ".SH ENVIRONMENT\n"
        "Every flag is also a variable:\n"
        ".B TIDEWIRE_PING_INTERVAL\n"
        "is\n"
        ".BR \\-\\-ping\\-interval .\n"
        "Items of a flag that may be repeated stand between commas.\n"
        ".B TIDEWIRE_CONFIG\n"
        "names the config file. Other variables that begin with TIDEWIRE_ are an error.\n"
        ".SH SIGNALS\n"
        ".TP\n"
        ".BR SIGTERM ,\\  SIGINT\n"
        "Stops accepting, sends what is queued, closes all connections spread over\n"
        ".B \\-\\-drain\\-time\n"
        "and exits with 0. A second signal exits at once, with 7.\n"
        ".TP\n"
        ".B SIGHUP\n"
        "Reads the settings again from where they came, and certificates and keys from their\n"
        "files; connections stay and follow the new limits. Flags that only a start can change\n"
        "are told in the log. If anything is not right, the log says what, and all that was in\n"
        "force stays.\n"
        ".SH EXIT STATUS\n"
        ".TP\n0\nAll went well.\n"
        ".TP\n1\nMemory ran out, or a system call failed that should not.\n"
        ".TP\n2\nA flag, key or value is not right; the message says what would be.\n"
        ".TP\n3\nA file can not be read.\n"
        ".TP\n4\nAn address can not be listened on.\n"
        ".TP\n5\nA limit of the system, such as that of open files, is too low.\n"
        ".TP\n6\nThe implementation that\n.B \\-\\-io\nasks for does not start on this host.\n"
        ".TP\n7\nA second signal ended the server before it had closed all connections.\n"
        ".TP\n8\nA certificate, key or OCSP response can not be used, or the installed "
        "wolfSSL can not.\n"
        ".SH FILES\n"
        ".TP\n"
        ".I " CONFIG_DEFAULT_FILE "\n"
        "The config file that is read when no other is named.\n",
        out);
}

void help_print_man(FILE *out)
{
    fputs(
        ".TH TIDEWIRE 1 \"\" \"tidewire " TW_VERSION "\" \"User Commands\"\n"
        ".SH NAME\n"
        "tidewire \\- real\\-time edge node for WebSocket connections\n"
        ".SH SYNOPSIS\n"
        ".B tidewire serve\n"
        ".RI [ FLAGS ]\n"
        ".br\n"
        ".B tidewire check\\-config\n"
        ".I FILE\n"
        ".br\n"
        ".B tidewire plan\n"
        ".RI [ FLAGS ]\n"
        ".br\n"
        ".B tidewire version\n"
        ".br\n"
        ".B tidewire help\n"
        ".RI [ COMMAND \" |\"\n"
        ".BR \\-\\-man ]\n"
        ".SH DESCRIPTION\n"
        "Tidewire holds very many WebSocket connections in one process, one shard for each core,\n"
        "and carries messages between them through rooms.\n"
        ".SH COMMANDS\n"
        ".TP\n.B serve\nStarts the server in the foreground.\n"
        ".TP\n.B check\\-config\nReads a config file and says whether\n.B serve\nwould take it.\n"
        ".TP\n.B plan\nPrints how many nodes a number of users needs;\n"
        ".B plan \\-\\-help\nlists what goes into it.\n"
        ".TP\n.B version\nPrints the version, how it was built and what this host offers.\n"
        ".TP\n.B help\nPrints an overview, what a command takes, or this page.\n"
        ".SH OPTIONS OF SERVE\n"
        "Sizes take B, KiB, MiB, GiB or TiB, times us, ms, s, m or h.\n",
        out);
    options_print_man(config_table, config_table_len, out);
    print_man_end(out);
}

/* What the command says to --help. */
static int help_of(int (*command)(int argc, char **argv, char **envp), char *name, char **envp)
{
    char *args[] = {name, "--help", NULL};
    return command(2, args, envp);
}

int cmd_help(int argc, char **argv, char **envp)
{
    char *topic = argc > 1 ? argv[1] : "";
    if (argc > 2) {
        fprintf(stderr, "tidewire: help takes one argument, a command or --man\n");
        return EXIT_USAGE;
    }
    if (strcmp(topic, "plan") == 0)
        return help_of(cmd_plan, topic, envp);
    if (strcmp(topic, "check-config") == 0)
        return help_of(cmd_check_config, topic, envp);
    if (topic[0] == 0 || strcmp(topic, "version") == 0 || strcmp(topic, "help") == 0) {
        help_print_overview(stdout);
    } else if (strcmp(topic, "serve") == 0) {
        help_print_serve(stdout);
    } else if (strcmp(topic, "--man") == 0) {
        help_print_man(stdout);
    } else {
        fprintf(stderr, "tidewire: there is no help on \"%.60s\"; give a command or --man\n",
                topic);
        return EXIT_USAGE;
    }
    return EXIT_OK;
}
