/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Builds one line of logfmt or JSON on the stack and writes it with one write(2). Any thread: what
 * threads share is set before they start, or an atomic of the call site.
 *
 * A line that would not fit is cut between two characters, never within an escape, and room for
 * its end (suppressed=N, truncated=true, the closing brace) is kept from the beginning. */

#include "core/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base.h"

/* Room for the longest end of a line: suppressed, truncated, quote, brace and newline. */
#define TAIL_MAX 64
#define LINE_BODY_MAX (LOG_LINE_MAX - TAIL_MAX)

struct line {
    size_t len;
    bool is_json;
    bool is_full; /* something did not fit: nothing more is added but the end */
    char text[LOG_LINE_MAX];
};

_Atomic enum log_level log_level_now = LOG_INFO;

/* Written by log_setup(), log_set_fd() and log_set_clock() before other threads start. */
static enum log_format line_format = LOG_LOGFMT;
static int line_fd = STDERR_FILENO;
static uint64_t (*line_clock_ns)(void);

static bool site_admits(struct log_site *site, uint64_t now_ns, uint32_t *suppressed);
static void line_start(struct line *l, uint64_t now_ns, enum log_level level, const char *msg);
static void line_pair(struct line *l, const char *key, const char *value);
static void line_end(struct line *l, uint32_t suppressed);
static void line_write(const struct line *l);

static uint64_t real_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level_now, level, memory_order_relaxed);
}

void log_setup(enum log_level level, enum log_format format)
{
    log_set_level(level);
    line_format = format;
}

void log_set_fd(int fd)
{
    line_fd = fd;
}

void log_set_clock(uint64_t (*clock_ns)(void))
{
    line_clock_ns = clock_ns;
}

void log_write(struct log_site *site, enum log_level level, const char *msg, ...)
{
    uint64_t now_ns = line_clock_ns != NULL ? line_clock_ns() : real_clock_ns();
    uint32_t suppressed = 0;
    if (site != NULL && !site_admits(site, now_ns, &suppressed))
        return;

    int saved_errno = errno;
    struct line l = {.is_json = line_format == LOG_JSON};
    line_start(&l, now_ns, level, msg);
    va_list args;
    va_start(args, msg);
    const char *key;
    while ((key = va_arg(args, const char *)) != NULL) {
        const char *value = va_arg(args, const char *);
        line_pair(&l, key, value != NULL ? value : "(none)");
    }
    va_end(args);
    line_end(&l, suppressed);
    line_write(&l);
    errno = saved_errno;
}

/* A bucket of LOG_BURST lines that regains one a second, held as the time until which the printed
 * lines are paid for. A clock that was set back must not silence the site. The counter is taken
 * over by whoever prints; relaxed, since it orders nothing else. */
static bool site_admits(struct log_site *site, uint64_t now_ns, uint32_t *suppressed)
{
    uint64_t paid = atomic_load_explicit(&site->paid_until_ns, memory_order_relaxed);
    for (;;) {
        uint64_t from = paid;
        if (from < now_ns || from > now_ns + LOG_BURST * NS_PER_SEC)
            from = now_ns;
        if (from > now_ns + (LOG_BURST - 1) * NS_PER_SEC) {
            atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(&site->paid_until_ns, &paid, from + NS_PER_SEC,
                                                  memory_order_relaxed, memory_order_relaxed))
            break;
    }
    *suppressed = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
    return true;
}

/* Adds a unit that may not be cut, if it fits before the room of the end. */
static void line_unit(struct line *l, const char *text, size_t len)
{
    if (l->is_full || l->len + len > LINE_BODY_MAX) {
        l->is_full = true;
        return;
    }
    memcpy(l->text + l->len, text, len);
    l->len += len;
}

/* Length of the well-formed UTF-8 character at p (RFC 3629), 0 if there is none. */
static size_t utf8_char_len(const unsigned char *p)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high, len;
    } rows[] = {
        {0x20, 0x7e, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (p[0] < rows[i].first_low || p[0] > rows[i].first_high)
            continue;
        if (rows[i].len > 1 && (p[1] < rows[i].second_low || p[1] > rows[i].second_high))
            return 0;
        for (size_t k = 2; k < rows[i].len; k++) {
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        }
        return rows[i].len;
    }
    return 0;
}

/* C1 controls (U+0080 to U+009F) are controls for some terminals. */
static bool is_c1(const unsigned char *p)
{
    return p[0] == 0xc2 && p[1] < 0xa0;
}

/* One character of a quoted text, escaped for the format. Returns how many bytes of p it took. */
static size_t line_char(struct line *l, const unsigned char *p)
{
    char escape[16];
    size_t len = utf8_char_len(p);
    if (p[0] == '"' || p[0] == '\\') {
        escape[0] = '\\';
        escape[1] = (char)p[0];
        line_unit(l, escape, 2);
    } else if (p[0] == '\n' || p[0] == '\r' || p[0] == '\t') {
        escape[0] = '\\';
        escape[1] = p[0] == '\n' ? 'n' : p[0] == '\r' ? 'r' : 't';
        line_unit(l, escape, 2);
    } else if (len != 0 && !is_c1(p)) {
        line_unit(l, (const char *)p, len);
        return len;
    } else if (l->is_json) {
        /* A control is itself; a byte that is no UTF-8 becomes the replacement character. */
        unsigned code = len == 2 ? p[1] : p[0] < 0x80 ? p[0] : 0xfffd;
        line_unit(l, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", code));
        return len == 2 ? 2 : 1;
    } else {
        line_unit(l, escape, (size_t)snprintf(escape, sizeof(escape), "\\x%02x", p[0]));
    }
    return 1;
}

/* The quoted text; its closing quote always fits, since it is counted in TAIL_MAX. */
static void line_quoted(struct line *l, const char *text)
{
    line_unit(l, "\"", 1);
    const unsigned char *p = (const unsigned char *)text;
    while (*p != 0 && !l->is_full)
        p += line_char(l, p);
    l->text[l->len++] = '"';
}

/* logfmt leaves a text bare when nothing in it could be taken for something else. */
static bool is_bare(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    if (*p == 0)
        return false;
    while (*p != 0) {
        size_t len = utf8_char_len(p);
        if (len == 0 || is_c1(p) || *p == ' ' || *p == '=' || *p == '"' || *p == '\\')
            return false;
        p += len;
    }
    return true;
}

/* A pair goes in with at least the beginning of its value, or not at all. */
static void line_pair(struct line *l, const char *key, const char *value)
{
    const char *open = l->is_json ? ",\"" : " ";
    const char *close = l->is_json ? "\":" : "=";
    size_t prefix = strlen(open) + strlen(key) + strlen(close);
    size_t room = l->len < LINE_BODY_MAX ? LINE_BODY_MAX - l->len : 0;
    if (l->is_full || prefix + 1 > room) {
        l->is_full = true;
        return;
    }
    line_unit(l, open, strlen(open));
    line_unit(l, key, strlen(key));
    line_unit(l, close, strlen(close));
    size_t value_len = strlen(value);
    if (!l->is_json && value_len <= room - prefix && is_bare(value))
        line_unit(l, value, value_len);
    else
        line_quoted(l, value);
}

/* The first pair's comma or blank is cut off, so that all pairs are written alike. */
static void line_start(struct line *l, uint64_t now_ns, enum log_level level, const char *msg)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    time_t seconds = (time_t)(now_ns / NS_PER_SEC);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char stamp[32];
    size_t len = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp + len, sizeof(stamp) - len, ".%03uZ",
             (unsigned)(now_ns % NS_PER_SEC / NS_PER_MS));

    line_pair(l, "time", stamp);
    if (l->is_json) {
        l->text[0] = '{';
    } else {
        l->len--;
        memmove(l->text, l->text + 1, l->len);
    }
    line_pair(l, "level", names[level]);
    line_pair(l, "msg", msg);
}

static void line_end(struct line *l, uint32_t suppressed)
{
    char *end = l->text + l->len;
    size_t room = sizeof(l->text) - l->len;
    int len = 0;
    if (suppressed != 0)
        len = snprintf(end, room, l->is_json ? ",\"suppressed\":%" PRIu32 : " suppressed=%" PRIu32,
                       suppressed);
    if (l->is_full)
        len += snprintf(end + len, room - (size_t)len, "%s",
                        l->is_json ? ",\"truncated\":true" : " truncated=true");
    len += snprintf(end + len, room - (size_t)len, "%s\n", l->is_json ? "}" : "");
    l->len += (size_t)len;
}

/* There is nobody to tell when standard error can't be written to. */
static void line_write(const struct line *l)
{
    ssize_t n;
    do {
        n = write(line_fd, l->text, l->len);
    } while (n < 0 && errno == EINTR);
}

const char *log_u64(struct log_num *b, uint64_t n)
{
    snprintf(b->text, sizeof(b->text), "%" PRIu64, n);
    return b->text;
}

const char *log_i64(struct log_num *b, int64_t n)
{
    snprintf(b->text, sizeof(b->text), "%" PRId64, n);
    return b->text;
}
