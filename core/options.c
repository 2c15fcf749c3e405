/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Reads the values of a table's options from its defaults, the config file, the environment and the
 * command line, each overriding the one before, and remembers where each value came from. Main
 * thread, at start. */

#include "core/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/options_internal.h"

#define ENV_PREFIX "TIDEWIRE_"
/* Longest name that is looked at. */
#define NAME_MAX_BYTES 64

/* One flag of the command line, cut into its parts. */
struct arg {
    const struct option *row;      /* of the table or of options_builtins */
    const char *value;             /* never NULL */
    char flag[NAME_MAX_BYTES + 8]; /* as it is named in messages: "--port" */
};

/* A walk over the command line. */
struct arg_walk {
    int argc;
    int next;
    char **argv;
};

const struct option options_builtins[OPTIONS_BUILTINS] = {
    {.name = "config",
     .group = "General",
     .arg = "FILE",
     .help = "Reads flags from this file, one \"key = value\" a line with the names of the flags. "
             "The command line overrides it, as does the environment, where that is read.",
     .type = OPTION_TEXT},
    {.name = "print-config",
     .group = "General",
     .help = "Prints the effective values as a config file, with where each came from, and ends.",
     .type = OPTION_BOOL},
    {.name = "help", .group = "General", .help = "Prints this help and ends.", .type = OPTION_BOOL},
};

static const struct option *const builtin_config = &options_builtins[0];
static const struct option *const builtin_print = &options_builtins[1];
static const struct option *const builtin_help = &options_builtins[2];

static int read_request(struct options *o, struct arg_walk walk, const char **file, FILE *err);
static int read_defaults(struct options *o, FILE *err);
static int read_env(struct options *o, char **envp, FILE *err);
static int read_args(struct options *o, struct arg_walk walk, FILE *err);
static const char *choose_file(const char *from_args, char **envp, const char *fallback);

static struct options *options_new(const struct option *table, uint32_t count, void *base)
{
    struct options *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return NULL;
    o->slots = calloc(count > 0 ? count : 1, sizeof(*o->slots));
    if (o->slots == NULL) {
        free(o);
        return NULL;
    }
    o->table = table;
    o->count = count;
    o->base = base;
    for (uint32_t i = 0; i < count; i++) {
        void *at = option_at(base, &table[i]);
        if (table[i].type == OPTION_LIST)
            *(struct option_list *)at = (struct option_list){0};
        else if (table[i].type == OPTION_TEXT)
            *(char **)at = NULL;
    }
    return o;
}

int options_read(const struct option *table, uint32_t count, void *base, int argc, char **argv,
                 char **envp, const char *config_default, FILE *err, struct options **out)
{
    *out = NULL;
    struct options *o = options_new(table, count, base);
    if (o == NULL) {
        fprintf(err, "tidewire: out of memory\n");
        return EXIT_FAILURE;
    }
    struct arg_walk walk = {.argc = argc, .next = 1, .argv = argv};
    const char *file = NULL;
    int code = read_request(o, walk, &file, err);
    if (code == 0)
        code = read_defaults(o, err);
    if (code == 0 && o->request != OPTIONS_HELP) {
        file = choose_file(file, envp, config_default);
        if (file != NULL)
            code = options_read_file(o, file, err);
        if (code == 0)
            code = read_env(o, envp, err);
        if (code == 0)
            code = read_args(o, walk, err);
    }
    if (code != 0) {
        options_free(o);
        return code;
    }
    *out = o;
    return 0;
}

void options_free(struct options *o)
{
    if (o == NULL)
        return;
    for (uint32_t i = 0; i < o->count; i++) {
        if (o->table[i].type == OPTION_LIST)
            free(((struct option_list *)option_at(o->base, &o->table[i]))->items);
    }
    for (uint32_t i = 0; i < o->text_count; i++)
        free(o->texts[i]);
    free(o->texts);
    free(o->slots);
    free(o);
}

/* Messages --------------------------------------------------------------------------------------
 */

void option_complain_va(FILE *err, const char *where, const char *format, va_list args)
{
    char text[COMPLAINT_MAX];
    size_t len = (size_t)snprintf(text, sizeof(text), "%s: ", where);
    if (len < sizeof(text))
        vsnprintf(text + len, sizeof(text) - len, format, args);
    for (char *p = text; *p != 0; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    fprintf(err, "tidewire: %s\n", text);
}

int option_complain(FILE *err, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    option_complain_va(err, where, format, args);
    va_end(args);
    return OPTIONS_EXIT_USAGE;
}

static int out_of_memory(FILE *err)
{
    fprintf(err, "tidewire: out of memory\n");
    return EXIT_FAILURE;
}

uint32_t option_index(const struct options *o, const char *name)
{
    uint32_t i = 0;
    while (i < o->count && strcmp(o->table[i].name, name) != 0)
        i++;
    return i;
}

void options_complain(const struct options *o, const char *name, FILE *err, const char *format, ...)
{
    uint32_t i = option_index(o, name);
    CHECK(i < o->count);
    const struct options_slot *slot = &o->slots[i];
    char where[COMPLAINT_MAX];
    if (slot->source == OPTION_FILE)
        snprintf(where, sizeof(where), "%s: %s", slot->where, name);
    else
        snprintf(where, sizeof(where), "%s%s", slot->source == OPTION_DEFAULT ? "--" : "",
                 slot->source == OPTION_DEFAULT ? name : slot->where);
    va_list args;
    va_start(args, format);
    option_complain_va(err, where, format, args);
    va_end(args);
}

/* Optimal string alignment: insertions, deletions, changes and swaps of neighbours cost one. */
static uint32_t edit_distance(const char *a, const char *b)
{
    uint32_t rows[3][NAME_MAX_BYTES + 1];
    uint32_t a_len = (uint32_t)strnlen(a, NAME_MAX_BYTES);
    uint32_t b_len = (uint32_t)strnlen(b, NAME_MAX_BYTES);
    for (uint32_t k = 0; k <= b_len; k++)
        rows[0][k] = k;
    for (uint32_t i = 1; i <= a_len; i++) {
        uint32_t *now = rows[i % 3];
        const uint32_t *last = rows[(i - 1) % 3];
        const uint32_t *before = rows[(i + 1) % 3];
        now[0] = i;
        for (uint32_t k = 1; k <= b_len; k++) {
            uint32_t best = last[k - 1] + (a[i - 1] != b[k - 1]);
            best = min_u32(best, min_u32(last[k], now[k - 1]) + 1);
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
                best = min_u32(best, before[k - 2] + 1);
            now[k] = best;
        }
    }
    return rows[a_len % 3][b_len];
}

/* Of n candidates the i-th costs distance; keeps the best one that is near. A beginning of a name
 * is as near as one slip. */
static void nearest_step(const char *name, const char *candidate, uint32_t *best, const char **at)
{
    size_t len = strlen(name);
    uint32_t distance = edit_distance(name, candidate);
    if (len >= 3 && strncmp(name, candidate, len) == 0)
        distance = 1;
    if (distance <= len / 3 + 1 && distance < *best) {
        *best = distance;
        *at = candidate;
    }
}

const char *options_nearest(const char *name, const char *const *names, uint32_t count)
{
    uint32_t best = UINT32_MAX;
    const char *at = NULL;
    for (uint32_t i = 0; i < count; i++)
        nearest_step(name, names[i], &best, &at);
    return at;
}

const char *option_nearest(const struct options *o, const char *name, bool with_builtins)
{
    uint32_t best = UINT32_MAX;
    const char *at = NULL;
    for (uint32_t i = 0; i < o->count; i++)
        nearest_step(name, o->table[i].name, &best, &at);
    for (uint32_t i = 0; with_builtins && i < OPTIONS_BUILTINS; i++)
        nearest_step(name, options_builtins[i].name, &best, &at);
    return at;
}

/* Values ----------------------------------------------------------------------------------------
 */

/* Takes a text (from malloc, or NULL when that failed) into the options' keeping. */
static char *keep(struct options *o, char *text)
{
    if (text == NULL)
        return NULL;
    if (o->text_count == o->text_cap) {
        uint32_t cap = o->text_cap != 0 ? 2 * o->text_cap : 64;
        char **grown = realloc(o->texts, cap * sizeof(*grown));
        if (grown == NULL) {
            free(text);
            return NULL;
        }
        o->texts = grown;
        o->text_cap = cap;
    }
    o->texts[o->text_count++] = text;
    return text;
}

static int list_push(struct options *o, struct option_list *list, const char *text)
{
    char *item = keep(o, strdup(text));
    char **grown = realloc(list->items, (list->count + 1) * sizeof(*grown));
    if (grown != NULL)
        list->items = grown;
    if (item == NULL || grown == NULL)
        return -ENOMEM;
    list->items[list->count++] = item;
    return 0;
}

/* Parses, checks and stores one value or one item of a list. Returns 0 or an exit code, printed. */
static int store_value(struct options *o, const struct option *row, const char *where,
                       const char *text, FILE *err)
{
    void *at = option_at(o->base, row);
    bool is_text = row->type == OPTION_TEXT || row->type == OPTION_LIST;
    int result = option_parse(row, text, at);
    char shown[OPTION_SHOWN_MAX];
    option_show(row, text, shown);
    if (result != 0) {
        char expected[OPTION_EXPECT_MAX];
        option_expect(row, expected);
        return option_complain(err, where, "\"%.100s\" is %s; give %s", shown,
                               result == -ERANGE ? "out of range" : "not understood", expected);
    }
    const char *problem = row->check != NULL ? row->check(is_text ? text : at) : NULL;
    if (problem != NULL)
        return option_complain(err, where, "\"%s\" %s", shown, problem);
    if (row->type == OPTION_LIST)
        return list_push(o, at, text) == 0 ? 0 : out_of_memory(err);
    if (row->type == OPTION_TEXT) {
        *(char **)at = keep(o, strdup(text));
        return *(char **)at != NULL ? 0 : out_of_memory(err);
    }
    return 0;
}

/* How long the first item of a text is. */
static size_t item_len(const struct option *row, const char *text)
{
    size_t len = strcspn(text, ",");
    while (row->is_item != NULL && text[len] == ',') {
        const char *next = text + len + 1;
        if (row->is_item(next + strspn(next, " ")))
            break;
        len += 1 + strcspn(next, ",");
    }
    return len;
}

/* The items of a variable stand between commas; blanks around them are not theirs. */
static int store_items(struct options *o, const struct option *row, const char *where,
                       const char *text, FILE *err)
{
    char item[OPTIONS_TEXT_MAX + 2];
    for (;;) {
        size_t len = item_len(row, text);
        const char *start = text + min_size(strspn(text, " "), len);
        const char *end = text + len;
        while (end > start && end[-1] == ' ')
            end--;
        snprintf(item, sizeof(item), "%.*s", (int)min_size((size_t)(end - start), sizeof(item)),
                 start);
        int code = store_value(o, row, where, item, err);
        if (code != 0 || text[len] == 0)
            return code;
        text += len + 1;
    }
}

int option_apply(struct options *o, const struct option *row, enum option_source source,
                 const char *where, const char *text, FILE *err)
{
    struct options_slot *slot = &o->slots[row - o->table];
    if (row->type == OPTION_LIST && slot->source != source)
        ((struct option_list *)option_at(o->base, row))->count = 0;

    char label[COMPLAINT_MAX];
    snprintf(label, sizeof(label), source == OPTION_FILE ? "%s: %s" : "%s", where, row->name);
    int code = row->type == OPTION_LIST && source == OPTION_ENV
                   ? store_items(o, row, label, text, err)
                   : store_value(o, row, label, text, err);
    if (code != 0)
        return code;
    if (slot->source != source || slot->where == NULL) {
        slot->source = (uint8_t)source;
        slot->where = source == OPTION_DEFAULT ? "default" : keep(o, strdup(where));
    }
    return slot->where != NULL ? 0 : out_of_memory(err);
}

/* A default that its own row refuses is a bug of the table. */
static int read_defaults(struct options *o, FILE *err)
{
    for (uint32_t i = 0; i < o->count; i++) {
        const struct option *row = &o->table[i];
        o->slots[i].where = "default";
        if (row->def == NULL)
            continue;
        int code = option_apply(o, row, OPTION_DEFAULT, "default", row->def, err);
        CHECK(code != OPTIONS_EXIT_USAGE);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Command line ----------------------------------------------------------------------------------
 */

static const struct option *row_find(const struct options *o, const char *name, bool with_builtins)
{
    uint32_t i = option_index(o, name);
    if (i < o->count)
        return &o->table[i];
    for (i = 0; with_builtins && i < OPTIONS_BUILTINS; i++) {
        if (strcmp(options_builtins[i].name, name) == 0)
            return &options_builtins[i];
    }
    return NULL;
}

static int unknown_arg(const struct options *o, const char *text, const char *name, FILE *err)
{
    if (text[0] != '-')
        return option_complain(err, text, "unexpected argument; flags begin with --, see --help");
    const char *near = option_nearest(o, name, true);
    if (near != NULL)
        return option_complain(err, text, "unknown flag; did you mean --%s?", near);
    return option_complain(err, text, "unknown flag; see --help");
}

/* The value behind a flag: `--flag=value`, `--flag value`, or none for a boolean. */
static int arg_value(struct arg_walk *w, struct arg *a, const char *inline_value, FILE *err)
{
    const char *next = w->next < w->argc ? w->argv[w->next] : NULL;
    bool is_builtin_bool = a->row == builtin_help || a->row == builtin_print;
    if (is_builtin_bool && inline_value != NULL)
        return option_complain(err, a->flag, "takes no value");
    if (inline_value != NULL) {
        a->value = inline_value;
    } else if (a->row->type == OPTION_BOOL) {
        a->value = "on";
        if (!is_builtin_bool && next != NULL &&
            (strcmp(next, "on") == 0 || strcmp(next, "off") == 0))
            a->value = w->argv[w->next++];
    } else if (next == NULL || strncmp(next, "--", 2) == 0) {
        char expected[OPTION_EXPECT_MAX];
        option_expect(a->row, expected);
        return option_complain(err, a->flag, "the value is missing; give %s", expected);
    } else {
        a->value = w->argv[w->next++];
    }
    return 0;
}

/* Cuts the next flag off the command line. Returns 0, or an exit code, printed. Not at its end. */
static int next_arg(const struct options *o, struct arg_walk *w, struct arg *a, FILE *err)
{
    const char *text = w->argv[w->next++];
    if (strcmp(text, "-h") == 0)
        text = "--help";
    const char *name = strncmp(text, "--", 2) == 0 ? text + 2 : text;
    size_t len = strcspn(name, "=");
    char key[NAME_MAX_BYTES];
    snprintf(key, sizeof(key), "%.*s", (int)min_size(len, sizeof(key)), name);
    a->row = name != text ? row_find(o, key, true) : NULL;
    if (a->row == NULL)
        return unknown_arg(o, text, name == text ? name + (name[0] == '-') : key, err);
    snprintf(a->flag, sizeof(a->flag), "--%s", key);
    return arg_value(w, a, name[len] == '=' ? name + len + 1 : NULL, err);
}

/* First pass: refuses unknown flags before any file is read, and finds the built-in ones. */
static int read_request(struct options *o, struct arg_walk walk, const char **file, FILE *err)
{
    struct arg a = {0};
    while (walk.next < walk.argc) {
        int code = next_arg(o, &walk, &a, err);
        if (code != 0)
            return code;
        if (a.row == builtin_help) {
            o->request = OPTIONS_HELP;
            return 0;
        }
        if (a.row == builtin_print)
            o->request = OPTIONS_PRINT_CONFIG;
        if (a.row == builtin_config)
            *file = a.value;
    }
    return 0;
}

static int read_args(struct options *o, struct arg_walk walk, FILE *err)
{
    struct arg a = {0};
    while (walk.next < walk.argc) {
        int code = next_arg(o, &walk, &a, err);
        bool is_builtin = a.row == builtin_config || a.row == builtin_print;
        if (code == 0 && !is_builtin)
            code = option_apply(o, a.row, OPTION_COMMAND, a.flag, a.value, err);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Environment -----------------------------------------------------------------------------------
 */

static const struct option *row_of_variable(const struct options *o, const char *variable)
{
    char name[NAME_MAX_BYTES + sizeof(ENV_PREFIX)];
    for (uint32_t i = 0; i < o->count; i++) {
        option_env_name(o->table[i].name, name, sizeof(name));
        if (strcmp(name, variable) == 0)
            return &o->table[i];
    }
    return NULL;
}

static int unknown_variable(const struct options *o, const char *variable, FILE *err)
{
    char name[2 * NAME_MAX_BYTES];
    snprintf(name, sizeof(name), "%s", variable + strlen(ENV_PREFIX));
    for (char *p = name; *p != 0; p++) {
        if (*p == '_')
            *p = '-';
        else if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    }
    const char *near = option_nearest(o, name, false);
    if (near == NULL)
        return option_complain(err, variable,
                               "unknown variable; unset it, or see --help for the names");
    char wanted[NAME_MAX_BYTES + sizeof(ENV_PREFIX)];
    option_env_name(near, wanted, sizeof(wanted));
    return option_complain(err, variable, "unknown variable; did you mean %s?", wanted);
}

/* The value of a variable whose name is `name`, in one entry of envp; NULL if it is another. */
static const char *env_value(const char *entry, const char *name)
{
    size_t len = strlen(name);
    return strncmp(entry, name, len) == 0 && entry[len] == '=' ? entry + len + 1 : NULL;
}

static int read_env(struct options *o, char **envp, FILE *err)
{
    for (; *envp != NULL; envp++) {
        const char *entry = *envp;
        const char *equals = strchr(entry, '=');
        if (strncmp(entry, ENV_PREFIX, strlen(ENV_PREFIX)) != 0 || equals == NULL ||
            env_value(entry, ENV_PREFIX "CONFIG") != NULL)
            continue;
        char variable[2 * NAME_MAX_BYTES];
        snprintf(variable, sizeof(variable), "%.*s",
                 (int)min_size((size_t)(equals - entry), sizeof(variable)), entry);
        const struct option *row = row_of_variable(o, variable);
        int code = row != NULL ? option_apply(o, row, OPTION_ENV, variable, equals + 1, err)
                               : unknown_variable(o, variable, err);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Which file ------------------------------------------------------------------------------------
 */

static const char *choose_file(const char *from_args, char **envp, const char *fallback)
{
    if (from_args != NULL)
        return from_args;
    for (; *envp != NULL; envp++) {
        const char *value = env_value(*envp, ENV_PREFIX "CONFIG");
        if (value != NULL)
            return value;
    }
    return fallback != NULL && access(fallback, F_OK) == 0 ? fallback : NULL;
}

/* Looking back ----------------------------------------------------------------------------------
 */

enum options_request options_request(const struct options *o)
{
    return o->request;
}

enum option_source options_source(const struct options *o, const char *name, const char **where)
{
    uint32_t i = option_index(o, name);
    CHECK(i < o->count);
    if (where != NULL)
        *where = o->slots[i].where;
    return (enum option_source)o->slots[i].source;
}

size_t options_value_text(const struct options *o, const char *name, char *text, size_t cap)
{
    uint32_t i = option_index(o, name);
    CHECK(i < o->count);
    const struct option *row = &o->table[i];
    char value[OPTION_VALUE_TEXT_MAX];
    if (row->type != OPTION_LIST) {
        char shown[OPTION_SHOWN_MAX];
        option_format(row, option_at(o->base, row), value);
        option_show(row, value, shown);
        return (size_t)snprintf(text, cap, "%s", shown);
    }
    const struct option_list *list = option_at(o->base, row);
    size_t len = 0;
    if (cap > 0)
        text[0] = 0;
    for (uint32_t k = 0; k < list->count; k++) {
        char shown[OPTION_SHOWN_MAX];
        option_show(row, list->items[k], shown);
        len += (size_t)snprintf(len < cap ? text + len : NULL, len < cap ? cap - len : 0, "%s%s",
                                k > 0 ? "," : "", shown);
    }
    return len;
}
