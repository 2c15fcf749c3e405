/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Help, man page and effective values, all from the table. Main thread. */

#include <stdio.h>
#include <string.h>

#include "core/options_internal.h"

#define HELP_COLUMNS 80
#define HELP_INDENT 6
/* Where the comment of an effective value begins, and how much of a place's name it shows. */
#define CONFIG_COLUMN 36
#define CONFIG_WHERE_MAX 200

/* "NUMBER", "auto|uring|epoll", into OPTION_EXPECT_MAX bytes. */
static void arg_text(const struct option *row, char *text)
{
    static const char *const names[] = {
        [OPTION_BOOL] = "[on|off]", [OPTION_U32] = "NUMBER",    [OPTION_COUNT] = "NUMBER",
        [OPTION_SIZE] = "SIZE",     [OPTION_DURATION] = "TIME", [OPTION_RATE] = "RATE[/BURST]",
        [OPTION_TEXT] = "TEXT",     [OPTION_LIST] = "TEXT",
    };
    size_t len = 0;
    text[0] = 0;
    if (row->arg != NULL || row->type != OPTION_ENUM) {
        snprintf(text, OPTION_EXPECT_MAX, "%s", row->arg != NULL ? row->arg : names[row->type]);
        return;
    }
    for (int i = 0; row->choices[i] != NULL && len < OPTION_EXPECT_MAX; i++)
        len += (size_t)snprintf(text + len, OPTION_EXPECT_MAX - len, "%s%s", i > 0 ? "|" : "",
                                row->choices[i]);
}

/* What follows the help text: default, range, whether it may be repeated, and reloaded. */
static void facts_text(const struct option *row, char *text, size_t cap)
{
    char range[96];
    option_range(row, range, sizeof(range));
    size_t len = 0;
    text[0] = 0;
    if (row->def != NULL)
        len += (size_t)snprintf(text, cap, " Default: %s", row->def);
    if (range[0] != 0)
        len += (size_t)snprintf(text + len, cap - len, "%s%s", len > 0 ? "; " : " Range: ", range);
    if (len > 0)
        len += (size_t)snprintf(text + len, cap - len, ".");
    if (row->type == OPTION_LIST)
        len += (size_t)snprintf(text + len, cap - len, " May be repeated.");
    if (row->reload == OPTION_RELOAD)
        snprintf(text + len, cap - len, " A reload changes it.");
}

/* Breaks at blanks, so that no line is longer than the screen unless a word is. */
static void print_wrapped(const char *text, FILE *out)
{
    size_t column = 0; /* 0: nothing printed yet */
    while (*text != 0) {
        size_t len = strcspn(text, " ");
        bool fits = column != 0 && column + 1 + len <= HELP_COLUMNS;
        if (fits)
            fputc(' ', out);
        else
            fprintf(out, "%s%*s", column == 0 ? "" : "\n", HELP_INDENT, "");
        fprintf(out, "%.*s", (int)len, text);
        column = (fits ? column + 1 : HELP_INDENT) + len;
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void print_help_row(const struct option *row, FILE *out)
{
    char arg[OPTION_EXPECT_MAX], facts[OPTION_EXPECT_MAX], text[2048];
    bool is_builtin = row >= options_builtins && row < options_builtins + OPTIONS_BUILTINS;
    arg_text(row, arg);
    facts_text(row, facts, sizeof(facts));
    if (is_builtin && row->type == OPTION_BOOL)
        arg[0] = 0;
    fprintf(out, "  --%s%s%s\n", row->name, arg[0] != 0 ? " " : "", arg);
    snprintf(text, sizeof(text), "%s%s", row->help, facts);
    print_wrapped(text, out);
}

static bool is_new_group(const struct option *table, uint32_t i)
{
    return i == 0 || strcmp(table[i].group, table[i - 1].group) != 0;
}

static void print_help_rows(const struct option *table, uint32_t count, FILE *out)
{
    for (uint32_t i = 0; i < count; i++) {
        if (is_new_group(table, i))
            fprintf(out, "\n%s:\n", table[i].group);
        print_help_row(&table[i], out);
    }
}

void options_print_help(const struct option *table, uint32_t count, FILE *out)
{
    print_help_rows(options_builtins, OPTIONS_BUILTINS, out);
    print_help_rows(table, count, out);
}

/* Text for troff: a backslash is doubled, a hyphen stays one that can be copied, and no line begins
 * with a control character, since the texts follow a macro line and begin with a letter. */
static void print_troff(const char *text, FILE *out)
{
    for (; *text != 0; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

static void print_man_row(const struct option *row, FILE *out)
{
    char arg[OPTION_EXPECT_MAX], facts[OPTION_EXPECT_MAX];
    bool is_builtin = row >= options_builtins && row < options_builtins + OPTIONS_BUILTINS;
    arg_text(row, arg);
    facts_text(row, facts, sizeof(facts));
    fputs(".TP\n\\fB\\-\\-", out);
    print_troff(row->name, out);
    fputs("\\fR", out);
    if (!is_builtin || row->type != OPTION_BOOL) {
        fputs(" \\fI", out);
        print_troff(arg, out);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    print_troff(row->help, out);
    print_troff(facts, out);
    fputc('\n', out);
}

static void print_man_rows(const struct option *table, uint32_t count, FILE *out)
{
    for (uint32_t i = 0; i < count; i++) {
        if (is_new_group(table, i))
            fprintf(out, ".SS %s\n", table[i].group);
        print_man_row(&table[i], out);
    }
}

void options_print_man(const struct option *table, uint32_t count, FILE *out)
{
    print_man_rows(options_builtins, OPTIONS_BUILTINS, out);
    print_man_rows(table, count, out);
}

/* "; default" behind the value; a place from outside may hold anything but must stay a comment. */
static void print_config_line(const char *name, const char *value, const char *where, FILE *out)
{
    int len = fprintf(out, "%s = %s", name, value);
    fprintf(out, "%*s ; ", len < CONFIG_COLUMN ? CONFIG_COLUMN - len : 0, "");
    for (size_t i = 0; where[i] != 0; i++)
        fputc((unsigned char)where[i] < 0x20 ? '?' : where[i], out);
    fputc('\n', out);
}

/* A value, or what may be shown of it. */
static void print_text_line(const struct option *row, const char *value, const char *where,
                            FILE *out)
{
    char shown[OPTION_SHOWN_MAX], place[CONFIG_WHERE_MAX + 64];
    bool is_all = option_show(row, value, shown);

    snprintf(place, sizeof(place), "%.*s%s", CONFIG_WHERE_MAX, where,
             is_all ? "" : "; the password is not shown");
    print_config_line(row->name, shown, place, out);
}

void options_print_config(const struct options *o, FILE *out)
{
    fputs("# The effective values, with where each came from. As a config file this gives the same "
          "ones.\n",
          out);
    for (uint32_t i = 0; i < o->count; i++) {
        const struct option *row = &o->table[i];
        const void *at = option_at(o->base, row);
        const char *where = o->slots[i].where;
        const struct option_list *list = row->type == OPTION_LIST ? at : NULL;
        if (is_new_group(o->table, i))
            fprintf(out, "\n# %s\n", row->group);
        for (uint32_t k = 0; list != NULL && k < list->count; k++)
            print_text_line(row, list->items[k], where, out);
        if (list != NULL && list->count > 0)
            continue;
        char value[OPTION_VALUE_TEXT_MAX] = "";
        if (list == NULL)
            option_format(row, at, value);
        if (value[0] == 0)
            fprintf(out, "# %s is empty ; %s\n", row->name, where);
        else
            print_text_line(row, value, where, out);
    }
}
