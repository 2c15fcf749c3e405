/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Dates as HTTP writes them. No state of its own. */

#include "net/http_date.h"

#include <stdio.h>
#include <time.h>

/* Not strftime(): its names are those of the locale. */
static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

void http_date_format(uint64_t unix_s, char out[HTTP_DATE_BYTES])
{
    time_t at = (time_t)unix_s;
    struct tm tm;

    gmtime_r(&at, &tm);
    /* The form has four digits for the year. */
    snprintf(out, HTTP_DATE_BYTES, "%s, %02d %s %04u %02d:%02d:%02d GMT", days[tm.tm_wday],
             tm.tm_mday, months[tm.tm_mon], (unsigned)(tm.tm_year + 1900) % 10000, tm.tm_hour,
             tm.tm_min, tm.tm_sec);
}

const char *http_date_now(struct http_date *d, struct io *io)
{
    if (io->now_ns >= d->until_ns) {
        uint64_t wall_ns = io_wall_ns(io);

        http_date_format(wall_ns / NS_PER_SEC, d->text);
        d->until_ns = io->now_ns + NS_PER_SEC - wall_ns % NS_PER_SEC;
    }
    return d->text;
}
