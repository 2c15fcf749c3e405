/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_OPTIONS_H
#define CORE_OPTIONS_H

/* The mechanism of options: one table describes every flag, and from it come the command line, the
 * config file (INI, libinih), TIDEWIRE_... variables, --help, --print-config, the man page and the
 * error messages. The table itself is the program's (tools/tidewire/config.c). Main thread, at
 * start. */

#include <stdbool.h>
#include <stdio.h>

#include "core/base.h"

/* RATE[/BURST]: events (or bytes) per second; 0 switches the limit off. */
struct option_rate {
    uint64_t per_second;
    uint64_t burst; /* 0 in the text: as large as per_second */
};

/* A repeatable option's values, in order. */
struct option_list {
    char **items; /* zero-terminated texts, owned by the options */
    uint32_t count;
};

enum option_type {
    OPTION_BOOL,     /* bool: stands alone or takes on|off */
    OPTION_U32,      /* uint32_t: a plain number */
    OPTION_SIZE,     /* uint64_t bytes: 64KiB, 1MiB, 2GiB, 512B or plain number */
    OPTION_DURATION, /* uint64_t ns: 500ms, 25s, 2m, 1h, 100us; a bare 0 */
    OPTION_RATE,     /* struct option_rate: 100, 100/200; with sizes where `sized` is set */
    OPTION_ENUM,     /* int: index into `choices` */
    OPTION_TEXT,     /* char *: owned by the options */
    OPTION_LIST,     /* struct option_list: repeatable; on the command line once per item, in a file
                        several lines, in the environment separated by commas */
};

/* What changes it: at start only, or also a reload. */
enum option_reload { OPTION_START, OPTION_RELOAD };

enum option_source { OPTION_DEFAULT, OPTION_FILE, OPTION_ENV, OPTION_COMMAND };

struct option {
    const char *name;  /* "ping-interval" */
    const char *group; /* heading in --help: "Where", "Limits", ... */
    const char *arg;   /* "DURATION", "BYTES", "on|off"; shown in --help; NULL: from the type */
    const char *help;  /* a sentence or two */
    const char *def;   /* default as text; NULL for an empty list or text */
    const char *const *choices; /* OPTION_ENUM: names, ended by NULL */
    uint64_t min, max; /* for numbers, in the type's unit; max 0: no bound; zero_off allows 0 too */
    size_t offset;     /* of the value in the program's struct */
    uint8_t type;      /* enum option_type */
    uint8_t reload;    /* enum option_reload */
    bool zero_off;     /* 0 is allowed and means off */
    bool sized;        /* OPTION_RATE: sizes instead of plain numbers */
};

struct options;

/* Exit code of a bad flag, key or value. */
#define OPTIONS_EXIT_USAGE 2

/* Reads defaults, then the config file, then the environment, then argv (later ones win; a list
 * given by a stronger source replaces a weaker one's). `--config FILE` among the arguments (or
 * TIDEWIRE_CONFIG, or config_default when that file exists) names the file. base is the program's
 * struct. Returns 0, or OPTIONS_EXIT_USAGE after printing to err one line that names file and line
 * or argument, what is wrong, and what would be good (nearest name, range, unit). */
MUST_USE int options_read(const struct option *table, uint32_t count, void *base, int argc,
                          char **argv, char **envp, const char *config_default, FILE *err,
                          struct options **out);
void options_free(struct options *o);

/* Where the effective value of an option came from: for --print-config and log lines. For
 * OPTION_FILE "FILE:LINE", for OPTION_ENV the variable, ... */
enum option_source options_source(const struct options *o, const char *name, const char **where);

/* Grouped help; man page in troff (the text before and after the options is the caller's);
 * effective values as a config file that would reproduce them, each with a comment where it came
 * from. */
void options_print_help(const struct option *table, uint32_t count, FILE *out);
void options_print_man(const struct option *table, uint32_t count, FILE *out);
void options_print_config(const struct options *o, FILE *out);

/* Parsers on their own, for tests and fuzzing: 0 or -EINVAL / -ERANGE. */
MUST_USE int options_parse_size(const char *text, uint64_t *bytes);
MUST_USE int options_parse_duration(const char *text, uint64_t *ns);
MUST_USE int options_parse_rate(const char *text, bool sized, struct option_rate *rate);

#endif
