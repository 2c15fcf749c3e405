/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_OPTIONS_INTERNAL_H
#define CORE_OPTIONS_INTERNAL_H

/* What the files of the options share: options.c (reads the sources), options_file.c (the config
 * file), options_parse.c (texts to values and back), options_print.c (help, man page, effective
 * values). Nobody else includes it. Main thread. */

#include <stdarg.h>

#include "core/options.h"

/* Longest text of one value (OPTION_RATE has the longest of the numbers), and of what would be
 * good. */
#define OPTION_VALUE_TEXT_MAX (OPTIONS_TEXT_MAX + 1)
#define OPTION_EXPECT_MAX 256
/* Longest text that is shown of a value, right or wrong. */
#define OPTION_SHOWN_MAX (OPTIONS_TEXT_MAX + 16)
/* Longest error line, and longest name of a place in it. */
#define COMPLAINT_MAX 1024

/* What is known of a row's effective value. */
struct options_slot {
    const char *where; /* one of the options' texts, or a constant */
    uint8_t source;    /* enum option_source */
};

struct options {
    const struct option *table;
    uint32_t count;
    void *base;                 /* the program's struct */
    struct options_slot *slots; /* count of them */
    char **texts;               /* all texts owned, freed together */
    uint32_t text_count;
    uint32_t text_cap;
    enum options_request request;
};

/* The flags that every table has besides its own: config, print-config, help. */
#define OPTIONS_BUILTINS 3
extern const struct option options_builtins[OPTIONS_BUILTINS];

static inline void *option_at(void *base, const struct option *row)
{
    return (char *)base + row->offset;
}

/* The row's index in the table; count if there is none of that name. */
uint32_t option_index(const struct options *o, const char *name);

/* The nearest of the table's names and, when asked for, the built-in ones; or NULL. */
const char *option_nearest(const struct options *o, const char *name, bool with_builtins);

/* Stores a value from a source (or an item, or the items of a variable). `where` is how messages
 * and options_source() name the place; it is copied. Returns 0 or an exit code, printed. */
MUST_USE int option_apply(struct options *o, const struct option *row, enum option_source source,
                          const char *where, const char *text, FILE *err);

/* Reads the config file. Returns 0 or an exit code, printed. */
MUST_USE int options_read_file(struct options *o, const char *path, FILE *err);

/* Prints "tidewire: WHERE: ..." as one line, whatever bytes are in it. Returns OPTIONS_EXIT_USAGE.
 */
int option_complain(FILE *err, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void option_complain_va(FILE *err, const char *where, const char *format, va_list args);

/* Parses a number, rate, bool or choice into *value, or checks a text (value is not used then).
 * Returns 0, -EINVAL or -ERANGE; *value is untouched on failure. */
MUST_USE int option_parse(const struct option *row, const char *text, void *value);

/* What may be shown of a text of that row, into OPTION_SHOWN_MAX bytes. Returns whether that is all
 * of it. */
bool option_show(const struct option *row, const char *text, char *shown);

/* The text that option_parse() reads back to the same value, into OPTION_VALUE_TEXT_MAX bytes. Not
 * for OPTION_LIST. */
void option_format(const struct option *row, const void *value, char *text);

/* A number of the row's type (U32, SIZE, DURATION; the events or bytes of a RATE) as text. */
void option_format_number(const struct option *row, uint64_t n, char *text, size_t cap);

/* What would be good, "a size such as 64KiB, from 1KiB to 64MiB", into OPTION_EXPECT_MAX bytes. */
void option_expect(const struct option *row, char *text);

/* The range alone, "1KiB to 64MiB, 0 is off", or "" when there is none to tell. */
void option_range(const struct option *row, char *text, size_t cap);

/* TIDEWIRE_PING_INTERVAL for "ping-interval", into cap bytes. */
void option_env_name(const char *name, char *text, size_t cap);

#endif
