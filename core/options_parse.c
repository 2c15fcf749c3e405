/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Texts of options to values and back. Pure functions, any thread.
 *
 * What is accepted can be printed and reads back to the same value: numbers are whole, every unit
 * is a whole multiple of the next smaller one, and a text may not hold what a line of the config
 * file can't carry. */

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/options_internal.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first: the first that divides a value prints it. */
static const struct unit size_units[] = {
    {"TiB", 1ULL << 40}, {"GiB", 1ULL << 30}, {"MiB", 1ULL << 20}, {"KiB", 1ULL << 10}, {"B", 1},
};
static const struct unit count_units[] = {{"G", 1000000000}, {"M", 1000000}, {"k", 1000}};
static const struct unit duration_units[] = {
    {"h", 3600 * NS_PER_SEC}, {"m", 60 * NS_PER_SEC}, {"s", NS_PER_SEC},
    {"ms", NS_PER_MS},        {"us", NS_PER_US},
};

/* Decimal digits at *p; moves *p behind them. */
static int parse_digits(const char **p, uint64_t *n)
{
    const char *start = *p;
    uint64_t value = 0;
    bool is_over = false;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        is_over |= __builtin_mul_overflow(value, 10, &value);
        is_over |= __builtin_add_overflow(value, (uint64_t)(**p - '0'), &value);
    }
    if (*p == start)
        return -EINVAL;
    *n = value;
    return is_over ? -ERANGE : 0;
}

/* A whole number and one of the units. Without a unit the number is taken as it is when bare_ok,
 * else only 0 is. */
static int parse_units(const char *text, const struct unit *units, size_t unit_count, bool bare_ok,
                       uint64_t *value)
{
    uint64_t n = 0;
    int err = parse_digits(&text, &n);
    if (err == -EINVAL)
        return err;
    if (*text == 0) {
        if (!bare_ok && (err != 0 || n != 0))
            return -EINVAL;
        if (err == 0)
            *value = n;
        return err;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(text, units[i].name) != 0)
            continue;
        if (err != 0 || __builtin_mul_overflow(n, units[i].factor, &n))
            return -ERANGE;
        *value = n;
        return 0;
    }
    return -EINVAL;
}

static int parse_count(const char *text, uint64_t *value)
{
    return parse_units(text, NULL, 0, true, value);
}

int options_parse_size(const char *text, uint64_t *bytes)
{
    return parse_units(text, size_units, ARRAY_LEN(size_units), true, bytes);
}

int options_parse_duration(const char *text, uint64_t *ns)
{
    return parse_units(text, duration_units, ARRAY_LEN(duration_units), false, ns);
}

int options_parse_rate(const char *text, bool sized, struct option_rate *rate)
{
    char first[32];
    size_t first_len = strcspn(text, "/");
    if (first_len >= sizeof(first))
        return -EINVAL;
    memcpy(first, text, first_len);
    first[first_len] = 0;

    int (*parse)(const char *, uint64_t *) = sized ? options_parse_size : parse_count;
    struct option_rate r = {0};
    int err = parse(first, &r.per_second);
    if (err != 0)
        return err;
    r.burst = r.per_second;
    if (text[first_len] == '/') {
        err = parse(text + first_len + 1, &r.burst);
        if (err != 0)
            return err;
        /* "off, with a burst" and "a rate that admits nothing" are slips of the pen. */
        if (r.burst == 0 || r.per_second == 0)
            return -EINVAL;
    }
    *rate = r;
    return 0;
}

static bool is_in_range(const struct option *row, uint64_t n)
{
    if (n == 0 && row->zero_off)
        return true;
    return n >= row->min && (row->max == 0 || n <= row->max);
}

static int parse_u32(const struct option *row, const char *text, uint32_t *value)
{
    uint64_t n = 0;
    int err = parse_count(text, &n);
    if (err != 0)
        return err;
    if (n > UINT32_MAX || !is_in_range(row, n))
        return -ERANGE;
    *value = (uint32_t)n;
    return 0;
}

static int parse_u64(const struct option *row, const char *text, uint64_t *value)
{
    uint64_t n = 0;
    int err = -EINVAL;
    if (row->type == OPTION_SIZE)
        err = options_parse_size(text, &n);
    else if (row->type == OPTION_DURATION)
        err = options_parse_duration(text, &n);
    else
        err = parse_units(text, count_units, ARRAY_LEN(count_units), true, &n);
    if (err != 0)
        return err;
    if (!is_in_range(row, n))
        return -ERANGE;
    *value = n;
    return 0;
}

static int parse_rate(const struct option *row, const char *text, struct option_rate *value)
{
    struct option_rate r = {0};
    int err = options_parse_rate(text, row->sized, &r);
    if (err != 0)
        return err;
    if (!is_in_range(row, r.per_second) || (r.per_second != 0 && !is_in_range(row, r.burst)))
        return -ERANGE;
    *value = r;
    return 0;
}

static int parse_bool(const char *text, bool *value)
{
    bool is_on = strcmp(text, "on") == 0;
    if (!is_on && strcmp(text, "off") != 0)
        return -EINVAL;
    *value = is_on;
    return 0;
}

static int parse_enum(const struct option *row, const char *text, int *value)
{
    for (int i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(text, row->choices[i]) == 0) {
            *value = i;
            return 0;
        }
    }
    return -EINVAL;
}

/* Only what a line of the config file carries unchanged: no controls, no blanks at the ends, no
 * beginning of a comment. */
static int check_text(const char *text)
{
    size_t len = strlen(text);
    if (len == 0)
        return -EINVAL;
    if (len > OPTIONS_TEXT_MAX)
        return -ERANGE;
    char before = ' ';
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f || (c == ';' && before == ' '))
            return -EINVAL;
        before = text[i];
    }
    return text[0] == ' ' || before == ' ' ? -EINVAL : 0;
}

int option_parse(const struct option *row, const char *text, void *value)
{
    switch ((enum option_type)row->type) {
    case OPTION_BOOL:
        return parse_bool(text, value);
    case OPTION_U32:
        return parse_u32(row, text, value);
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        return parse_u64(row, text, value);
    case OPTION_RATE:
        return parse_rate(row, text, value);
    case OPTION_ENUM:
        return parse_enum(row, text, value);
    case OPTION_TEXT:
    case OPTION_LIST:
        return check_text(text);
    }
    return -EINVAL;
}

bool option_show(const struct option *row, const char *text, char *shown)
{
    if (row->mask != NULL)
        row->mask(text, shown, OPTION_SHOWN_MAX);
    else
        snprintf(shown, OPTION_SHOWN_MAX, "%s", text);
    return strcmp(text, shown) == 0;
}

static void format_units(uint64_t n, const struct unit *units, size_t unit_count, char *text,
                         size_t cap)
{
    for (size_t i = 0; n != 0 && i < unit_count; i++) {
        if (n % units[i].factor == 0) {
            snprintf(text, cap, "%" PRIu64 "%s", n / units[i].factor, units[i].name);
            return;
        }
    }
    snprintf(text, cap, "%" PRIu64, n);
}

void option_format_number(const struct option *row, uint64_t n, char *text, size_t cap)
{
    if (row->type == OPTION_SIZE || (row->type == OPTION_RATE && row->sized))
        format_units(n, size_units, ARRAY_LEN(size_units), text, cap);
    else if (row->type == OPTION_DURATION)
        format_units(n, duration_units, ARRAY_LEN(duration_units), text, cap);
    else if (row->type == OPTION_COUNT)
        format_units(n, count_units, ARRAY_LEN(count_units), text, cap);
    else
        snprintf(text, cap, "%" PRIu64, n);
}

static void format_rate(const struct option *row, const struct option_rate *r, char *text)
{
    char burst[32];
    option_format_number(row, r->per_second, text, OPTION_VALUE_TEXT_MAX);
    if (r->burst == r->per_second)
        return;
    option_format_number(row, r->burst, burst, sizeof(burst));
    size_t len = strlen(text);
    snprintf(text + len, OPTION_VALUE_TEXT_MAX - len, "/%s", burst);
}

void option_format(const struct option *row, const void *value, char *text)
{
    switch ((enum option_type)row->type) {
    case OPTION_BOOL:
        snprintf(text, OPTION_VALUE_TEXT_MAX, "%s", *(const bool *)value ? "on" : "off");
        break;
    case OPTION_U32:
        option_format_number(row, *(const uint32_t *)value, text, OPTION_VALUE_TEXT_MAX);
        break;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        option_format_number(row, *(const uint64_t *)value, text, OPTION_VALUE_TEXT_MAX);
        break;
    case OPTION_RATE:
        format_rate(row, value, text);
        break;
    case OPTION_ENUM:
        snprintf(text, OPTION_VALUE_TEXT_MAX, "%s", row->choices[*(const int *)value]);
        break;
    case OPTION_TEXT: {
        const char *kept = *(char *const *)value;
        snprintf(text, OPTION_VALUE_TEXT_MAX, "%s", kept != NULL ? kept : "");
        break;
    }
    case OPTION_LIST:
        text[0] = 0;
        break;
    }
}

void option_range(const struct option *row, char *text, size_t cap)
{
    char low[32], high[32];
    option_format_number(row, row->min, low, sizeof(low));
    option_format_number(row, row->max, high, sizeof(high));
    const char *off = row->zero_off ? ", 0 is off" : "";
    text[0] = 0;
    if (row->type != OPTION_U32 && row->type != OPTION_COUNT && row->type != OPTION_SIZE &&
        row->type != OPTION_DURATION && row->type != OPTION_RATE)
        return;
    if (row->max != 0 && row->min == 0 && row->zero_off)
        snprintf(text, cap, "up to %s%s", high, off);
    else if (row->max != 0)
        snprintf(text, cap, "%s to %s%s", low, high, off);
    else if (row->min != 0)
        snprintf(text, cap, "at least %s%s", low, off);
    else if (row->zero_off)
        snprintf(text, cap, "0 is off");
}

static void expect_choice(const struct option *row, char *text)
{
    size_t len = (size_t)snprintf(text, OPTION_EXPECT_MAX, "one of");
    for (int i = 0; row->choices[i] != NULL && len < OPTION_EXPECT_MAX; i++)
        len += (size_t)snprintf(text + len, OPTION_EXPECT_MAX - len, "%s %s", i == 0 ? "" : ",",
                                row->choices[i]);
}

void option_expect(const struct option *row, char *text)
{
    static const char *const forms[] = {
        [OPTION_BOOL] = "on or off",
        [OPTION_U32] = "a whole number",
        [OPTION_COUNT] = "a whole number such as 500, 250k or 10M",
        [OPTION_SIZE] = "a size such as 512B, 64KiB or 1MiB",
        [OPTION_DURATION] = "a time with its unit, such as 500ms, 25s, 2m or 1h",
        [OPTION_RATE] = "RATE or RATE/BURST, such as 100 or 100/200 a second",
        [OPTION_TEXT] = "1 to 160 bytes without control characters, blanks at the ends or \" ;\"",
        [OPTION_LIST] = "1 to 160 bytes without control characters, blanks at the ends or \" ;\"",
    };
    if (row->type == OPTION_ENUM) {
        expect_choice(row, text);
        return;
    }
    const char *form = forms[row->type];
    if (row->type == OPTION_RATE && row->sized)
        form = "RATE or RATE/BURST, such as 64KiB or 64KiB/1MiB a second";
    char range[96];
    option_range(row, range, sizeof(range));
    snprintf(text, OPTION_EXPECT_MAX, "%s%s%s%s", form, range[0] != 0 ? " (" : "", range,
             range[0] != 0 ? ")" : "");
}

void option_env_name(const char *name, char *text, size_t cap)
{
    size_t len = (size_t)snprintf(text, cap, "TIDEWIRE_%s", name);
    for (size_t i = 0; i < len && i < cap; i++) {
        if (text[i] == '-')
            text[i] = '_';
        else if (text[i] >= 'a' && text[i] <= 'z')
            text[i] = (char)(text[i] - 'a' + 'A');
    }
}
