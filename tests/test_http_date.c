/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* net/http_date.h: dates of known seconds, and how long one is kept. */

#include "net/http_date.h"

#include <string.h>

#include <criterion/criterion.h>

/* An io with nothing but clocks. */
static uint64_t wall_now_ns;
static int wall_reads;

static uint64_t test_wall_ns(struct io *io)
{
    (void)io;
    wall_reads++;
    return wall_now_ns;
}

static const struct io_backend clocks = {.name = "clocks", .wall_ns = test_wall_ns};

Test(http_date, known_seconds_have_their_dates)
{
    static const struct {
        uint64_t unix_s;
        const char *text;
    } rows[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110 5.6.7 */
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {1078012799, "Sat, 28 Feb 2004 23:59:59 GMT"},
        {1735689599, "Tue, 31 Dec 2024 23:59:59 GMT"},
        {4102444800, "Fri, 01 Jan 2100 00:00:00 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"}, /* no leap year */
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    char text[HTTP_DATE_BYTES];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        http_date_format(rows[i].unix_s, text);
        cr_expect_str_eq(text, rows[i].text);
        cr_expect_eq(strlen(text), HTTP_DATE_BYTES - 1);
    }
}

Test(http_date, the_clock_is_read_once_a_second_and_when_the_second_is_over)
{
    struct io io = {.backend = &clocks, .now_ns = 5 * NS_PER_SEC};
    struct http_date d = {0};

    wall_now_ns = 784111777 * NS_PER_SEC + 900 * NS_PER_MS;
    cr_expect_str_eq(http_date_now(&d, &io), "Sun, 06 Nov 1994 08:49:37 GMT");
    io.now_ns += 100 * NS_PER_MS - 1;
    wall_now_ns += 100 * NS_PER_MS - 1;
    cr_expect_str_eq(http_date_now(&d, &io), "Sun, 06 Nov 1994 08:49:37 GMT");
    cr_expect_eq(wall_reads, 1);
    io.now_ns++;
    wall_now_ns++;
    cr_expect_str_eq(http_date_now(&d, &io), "Sun, 06 Nov 1994 08:49:38 GMT");
    cr_expect_eq(wall_reads, 2);
}

Test(http_date, a_clock_that_is_set_is_believed_within_a_second)
{
    struct io io = {.backend = &clocks, .now_ns = 5 * NS_PER_SEC};
    struct http_date d = {0};

    wall_now_ns = 1735689599 * NS_PER_SEC;
    cr_expect_str_eq(http_date_now(&d, &io), "Tue, 31 Dec 2024 23:59:59 GMT");
    io.now_ns += NS_PER_SEC;
    wall_now_ns = 784111777 * NS_PER_SEC;
    cr_expect_str_eq(http_date_now(&d, &io), "Sun, 06 Nov 1994 08:49:37 GMT");
}
