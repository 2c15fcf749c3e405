/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_OPTIONS_H
#define CORE_OPTIONS_H

/* The mechanism of options: one table describes every flag, and from it come the command line, the
 * config file (INI, libinih), TIDEWIRE_... variables, --help, --print-config, the man page and the
 * error messages. The table itself is the program's (tools/tidewire/config_table.c). Main thread,
 * at start.
 *
 * The file has one "key = value" a line. '#' or ';' begins a comment line, ';' behind a blank a
 * comment at the end of a line. There are no sections, and a key that is no list stands once.
 * Besides the table's flags the command line takes --config FILE, --print-config, --help and -h,
 * the environment TIDEWIRE_CONFIG. */

#include <stdbool.h>
#include <stdio.h>

#include "core/base.h"

/* RATE[/BURST]: events (or bytes) per second; 0 switches the limit off. */
struct option_rate {
    uint64_t per_second;
    uint64_t burst; /* not in the text: as large as per_second */
};

/* A repeatable option's values, in order. */
struct option_list {
    char **items; /* zero-terminated texts, owned by the options */
    uint32_t count;
};

enum option_type {
    OPTION_BOOL,     /* bool: stands alone or takes on|off */
    OPTION_U32,      /* uint32_t: a plain number */
    OPTION_COUNT,    /* uint64_t: 250k, 10M, 2G (powers of 1000) or plain number */
    OPTION_SIZE,     /* uint64_t bytes: 64KiB, 1MiB, 2GiB, 512B or plain number */
    OPTION_DURATION, /* uint64_t ns: 500ms, 25s, 2m, 1h, 100us; a bare 0 */
    OPTION_RATE,     /* struct option_rate: 100, 100/200; with sizes where `sized` is set */
    OPTION_ENUM,     /* int: index into `choices` */
    OPTION_TEXT,     /* char *: owned by the options */
    OPTION_LIST,     /* struct option_list: repeatable; on the command line once per item, in a file
                        several lines, in the environment separated by commas (see is_item) */
};

/* What may change it: a start only, or also a reload while the program runs. */
enum option_reload { OPTION_START, OPTION_RELOAD };

enum option_source { OPTION_DEFAULT, OPTION_FILE, OPTION_ENV, OPTION_COMMAND };

/* What is wrong with a value that its type allows: NULL, or a constant text that says what would be
 * good ("must be a power of two"). For OPTION_TEXT and OPTION_LIST value is the text (of one item),
 * else it points to the parsed value. */
typedef const char *(*option_check_fn)(const void *value);

/* Writes what may be shown of a text into out, shortened to cap bytes with its zero: no passwords.
 */
typedef void (*option_mask_fn)(const char *text, char *out, size_t cap);

/* Whether an item of a list begins there: of a list whose items may hold commas. */
typedef bool (*option_item_fn)(const char *text);

struct option {
    const char *name;  /* "ping-interval" */
    const char *group; /* heading in --help: "Where", "Limits", ...; rows of a group are adjacent */
    const char *arg;   /* "DURATION", "BYTES", "on|off"; shown in --help; NULL: from the type */
    const char *help;  /* a sentence or two */
    const char *def;   /* default as text; NULL for an empty list or text */
    const char *const *choices; /* OPTION_ENUM: names, ended by NULL */
    uint64_t min, max; /* for numbers, in the type's unit; max 0: no bound; zero_off allows 0 too */
    option_check_fn check;  /* beyond type and range, or NULL */
    option_mask_fn mask;    /* of a text or a list's items: what is shown of them; NULL: all */
    option_item_fn is_item; /* in the environment a comma ends an item only where the next one
                               begins; NULL: every comma does */
    size_t offset;          /* of the value in the program's struct */
    uint8_t type;           /* enum option_type */
    uint8_t reload;         /* enum option_reload */
    bool zero_off;          /* 0 is allowed and means off */
    bool sized;             /* OPTION_RATE: sizes instead of plain numbers */
};

struct options;

/* Exit codes: a bad flag, key or value; a config file that can't be read. */
#define OPTIONS_EXIT_USAGE 2
#define OPTIONS_EXIT_FILE 3

/* Longest value of OPTION_TEXT and of a list's item. Together with the longest name it fits into a
 * line as libinih reads it. */
#define OPTIONS_TEXT_MAX 160

/* What the arguments ask for. */
enum options_request {
    OPTIONS_RUN,          /* the values are read */
    OPTIONS_HELP,         /* --help or -h: only the defaults are set, nothing else was looked at */
    OPTIONS_PRINT_CONFIG, /* --print-config: the values are read and should be printed */
};

/* Reads defaults, then the config file, then the environment, then argv (later ones win; a list
 * given by a stronger source replaces a weaker one's). argv[0] is skipped. `--config FILE` among
 * the arguments (or TIDEWIRE_CONFIG, or config_default when that file exists; NULL: none) names the
 * file. base is the program's struct. Returns 0, or OPTIONS_EXIT_USAGE or OPTIONS_EXIT_FILE after
 * printing to err one line that names file and line or argument, what is wrong, and what would be
 * good (nearest name, range, unit). */
MUST_USE int options_read(const struct option *table, uint32_t count, void *base, int argc,
                          char **argv, char **envp, const char *config_default, FILE *err,
                          struct options **out);

/* Frees the options and the texts that base points to. NULL is allowed. */
void options_free(struct options *o);

enum options_request options_request(const struct options *o);

/* Where the effective value of an option came from: for --print-config and log lines. where is
 * "default", for OPTION_FILE "FILE:LINE", for OPTION_ENV the variable, for OPTION_COMMAND the flag;
 * of a list's first item. It lives as long as o; NULL when not wanted. */
enum option_source options_source(const struct options *o, const char *name, const char **where);

/* Prints one line about a value that does not go with the others, in the form of options_read()'s
 * own: "tidewire: WHERE: NAME: ...". For checks that span options. */
void options_complain(const struct options *o, const char *name, FILE *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The value of an option as the config file would have it, into text, masked where the row says so;
 * "" for an empty list, and a list's items are separated by commas. Returns the length that all of
 * it has, as snprintf(). */
size_t options_value_text(const struct options *o, const char *name, char *text, size_t cap);

/* The name that is nearest to `name` by edit distance, or NULL when none is near. */
const char *options_nearest(const char *name, const char *const *names, uint32_t count);

/* Whether two readings of one table agree on the value of a row. */
bool options_agree(const struct options *a, const struct options *b, const struct option *row);

/* Copies the values of the rows that a reload may change, from one struct of the table's program to
 * another. Texts and lists stay those of the options that `from` was read by. */
void options_copy_reloadable(const struct option *table, uint32_t count, void *to,
                             const void *from);

/* Grouped help; man page in troff (the text before and after the options is the caller's);
 * effective values as a config file that would reproduce them, each with a comment where it came
 * from; of masked ones only what may be shown. */
void options_print_help(const struct option *table, uint32_t count, FILE *out);
void options_print_man(const struct option *table, uint32_t count, FILE *out);
void options_print_config(const struct options *o, FILE *out);

/* Parsers on their own, for tests and fuzzing: 0 or -EINVAL (not of this form) or -ERANGE (does not
 * fit into 64 bits). */
MUST_USE int options_parse_size(const char *text, uint64_t *bytes);
MUST_USE int options_parse_duration(const char *text, uint64_t *ns);
MUST_USE int options_parse_rate(const char *text, bool sized, struct option_rate *rate);

#endif
