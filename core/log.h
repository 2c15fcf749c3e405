/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_LOG_H
#define CORE_LOG_H

/* One line per event on standard error, logfmt or JSON, one write(2) a line. Any thread.
 *
 *     log_info("listening", "address", "127.0.0.1:8000", "backend", "uring", NULL)
 *
 * prints  time=2026-01-02T03:04:05.678Z level=info msg=listening address=127.0.0.1:8000 ...
 * Keys are constant identifiers; values are escaped for the format in use (control characters,
 * quotes, invalid UTF-8). Repeats of one call site are limited: LOG_BURST lines at once, then one a
 * second, which says suppressed=N. A line over LOG_LINE_MAX is cut and says truncated=true. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

#define LOG_BURST 10
#define LOG_LINE_MAX 2048

/* State of one call site for the limit of repeats; atomics, shared by threads. The static one in
 * LOG_AT is the documented exception to "no static mutable state". */
struct log_site {
    _Atomic uint64_t paid_until_ns; /* each line printed moves it on by one second */
    _Atomic uint32_t suppressed;    /* since the last line printed */
};

/* Set once, before other threads start. */
void log_setup(enum log_level level, enum log_format format);

/* Any time, any thread. */
void log_set_level(enum log_level level);

/* Where lines go (tests); default file descriptor 2. */
void log_set_fd(int fd);

/* The clock for stamps and the limit of repeats, nanoseconds since the epoch (tests); NULL: the
 * real one. */
void log_set_clock(uint64_t (*clock_ns)(void));

extern _Atomic enum log_level log_level_now;

/* Pairs of key and value, both const char *, ended by a NULL key; a NULL value prints as "(none)".
 * A NULL site is not limited. errno is left as it was. */
void log_write(struct log_site *site, enum log_level level, const char *msg, ...)
    __attribute__((sentinel));

/* Decimal text of a number in the caller's buffer, for values: log_u64(b, n). */
struct log_num {
    char text[24];
};
const char *log_u64(struct log_num *b, uint64_t n);
const char *log_i64(struct log_num *b, int64_t n);

#define LOG_AT(level, ...)                                                                         \
    do {                                                                                           \
        if ((level) >= log_level_now) {                                                            \
            static struct log_site log_site_here;                                                  \
            log_write(&log_site_here, (level), __VA_ARGS__);                                       \
        }                                                                                          \
    } while (0)
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)

#endif
