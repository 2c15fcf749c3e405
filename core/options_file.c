/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The config file: lines are read and tidied here, libinih takes them apart. Main thread.
 *
 * libinih itself would go on behind a bad line, cut long ones and take an indented line for more of
 * the one above; so each line is checked before it gets it. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <ini.h>

#include "core/options_internal.h"

/* Longest line, comment included; without it libinih's own limit (some 200 bytes) holds. */
#define RAW_LINE_MAX 4096

/* The file as libinih's callbacks see it. */
struct file_walk {
    struct options *options;
    FILE *file;
    FILE *err;
    const char *path;
    uint32_t line;
    int code;    /* an exit code after the first failure, which is printed */
    int failure; /* errno of a failed read */
};

__attribute__((format(printf, 2, 3))) static void file_fail(struct file_walk *w, const char *format,
                                                            ...)
{
    char where[COMPLAINT_MAX];
    snprintf(where, sizeof(where), "%s:%u", w->path, w->line);
    va_list args;
    va_start(args, format);
    option_complain_va(w->err, where, format, args);
    va_end(args);
    w->code = OPTIONS_EXIT_USAGE;
}

/* The next line without its end, into RAW_LINE_MAX bytes. False at the end of the file or after a
 * failure. */
static bool file_read_line(struct file_walk *w, char *line)
{
    FILE *file = w->file;
    size_t len = 0;
    int c;
    w->line++;
    while ((c = getc(file)) != EOF && c != '\n') {
        if (c == 0 || len == RAW_LINE_MAX - 1) {
            file_fail(w, c == 0 ? "the line holds a zero byte; this is no text file"
                                : "the line is too long");
            return false;
        }
        line[len++] = (char)c;
    }
    line[len] = 0;
    if (ferror(file)) {
        w->failure = errno;
        return false;
    }
    return c != EOF || len > 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* The part of a line that counts: no byte order mark, no blanks at its ends (an indented line would
 * continue the one before it, for libinih), no comment. */
static char *line_trim(char *line, bool is_first)
{
    if (is_first && strncmp(line, "\xef\xbb\xbf", 3) == 0)
        line += 3;
    while (is_blank(*line))
        line++;
    if (*line == '#')
        *line = 0;
    char *end = line;
    for (; *end != 0; end++) {
        if (*end == ';' && (end == line || is_blank(end[-1])))
            break;
    }
    while (end > line && is_blank(end[-1]))
        end--;
    *end = 0;
    return line;
}

/* libinih's reader: hands it one line, after what it would not tell clearly has been refused. */
static char *file_next(char *into, int cap, void *stream)
{
    struct file_walk *w = stream;
    char raw[RAW_LINE_MAX] = "";
    if (w->code != 0 || !file_read_line(w, raw))
        return NULL;
    const char *line = line_trim(raw, w->line == 1);
    if (line[0] == '[')
        file_fail(w, "there are no sections; remove this line, the keys stand alone");
    else if (line[0] != 0 && strpbrk(line, "=:") == NULL)
        file_fail(w, "\"%.60s\" is not understood; give key = value", line);
    else if (strlen(line) + 2 > (size_t)cap)
        file_fail(w, "the line is too long; at most %d bytes", cap - 2);
    if (w->code != 0)
        return NULL;
    snprintf(into, (size_t)cap, "%s\n", line);
    return into;
}

static int file_pair(void *user, const char *section, const char *key, const char *value)
{
    (void)section;
    struct file_walk *w = user;
    struct options *o = w->options;
    uint32_t i = option_index(o, key);
    if (i == o->count) {
        const char *near = option_nearest(o, key, false);
        if (near != NULL)
            file_fail(w, "unknown key \"%.60s\"; did you mean %s?", key, near);
        else
            file_fail(w, "unknown key \"%.60s\"; --help lists all", key);
        return 0;
    }
    const struct option *row = &o->table[i];
    const struct options_slot *slot = &o->slots[i];
    if (row->type != OPTION_LIST && slot->source == OPTION_FILE) {
        file_fail(w, "%s is set already at %s; remove one of the two", row->name, slot->where);
        return 0;
    }
    char where[COMPLAINT_MAX];
    snprintf(where, sizeof(where), "%s:%u", w->path, w->line);
    w->code = option_apply(o, row, OPTION_FILE, where, value, w->err);
    return w->code == 0;
}

static int unreadable(const char *path, int failure, FILE *err)
{
    option_complain(err, path[0] != 0 ? path : "\"\"",
                    "the config file can't be read (%s); check its name and rights, or name "
                    "another with --config",
                    strerror(failure));
    return OPTIONS_EXIT_FILE;
}

int options_read_file(struct options *o, const char *path, FILE *err)
{
    struct file_walk w = {.options = o, .err = err, .path = path, .file = fopen(path, "re")};
    if (w.file == NULL)
        return unreadable(path, errno, err);
    int result = ini_parse_stream(file_next, &w, file_pair, &w);
    fclose(w.file);
    if (w.code != 0)
        return w.code;
    if (w.failure != 0)
        return unreadable(path, w.failure, err);
    if (result > 0) {
        w.line = (uint32_t)result;
        file_fail(&w, "the line is not understood; give key = value");
    }
    return w.code;
}
