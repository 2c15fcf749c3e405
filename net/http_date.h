/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_HTTP_DATE_H
#define NET_HTTP_DATE_H

/* The value of the Date header, made once a second and kept. RFC 9110 6.6.1 asks for it in 2xx, 3xx
 * and 4xx answers and leaves it open for 1xx and 5xx: the 101 has none. On the shard's thread. */

#include "core/io.h"

/* "Sun, 06 Nov 1994 08:49:37 GMT" with its terminating zero. */
#define HTTP_DATE_BYTES 30

/* All zero: nothing is kept yet. */
struct http_date {
    uint64_t until_ns; /* io's now_ns from which on it is another second */
    char text[HTTP_DATE_BYTES];
};

/* An IMF-fixdate (RFC 9110 5.6.7) into out; unix_s is before the year 10000. Any thread. */
void http_date_format(uint64_t unix_s, char out[HTTP_DATE_BYTES]);

/* The date now, or as of the beginning of this turn; valid until the next call. A system clock that
 * is set is believed within a second. */
const char *http_date_now(struct http_date *d, struct io *io);

#endif
