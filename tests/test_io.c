/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What all implementations of io share: randomness and addresses. */

#include "core/io.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Computed with another implementation of splitmix64 and xoshiro256**. */
Test(io, random_numbers_follow_from_the_seed)
{
    static const uint64_t want[2][4] = {
        {0x99ec5f36cb75f2b4ULL, 0xbf6e1f784956452aULL, 0x1a5f849d4933e6e0ULL,
         0x6aa594f1262d2d2cULL},
        {0xa2c2a42038d4ec3dULL, 0x05fc25d0738e7b0fULL, 0x625e7bff938e701eULL,
         0x1ba4ddc6fe2b5726ULL},
    };
    static const uint64_t seeds[2] = {0, 0x0123456789abcdefULL};

    for (size_t k = 0; k < 2; k++) {
        struct io io = {0};
        io_random_seed(&io, seeds[k]);
        for (size_t i = 0; i < 4; i++)
            cr_assert_eq(io_random(&io), want[k][i]);
    }
}

Test(io, random_numbers_below_a_bound_stay_below_it_and_reach_all)
{
    struct io io = {0};
    io_random_seed(&io, 1);

    for (uint64_t bound = 1; bound <= 20; bound++) {
        uint32_t seen = 0;
        for (int i = 0; i < 2000; i++) {
            uint64_t x = io_random_below(&io, bound);
            cr_assert_lt(x, bound);
            seen |= 1u << x;
        }
        cr_assert_eq(seen, (1u << bound) - 1);
    }
}

/* Two thirds of 2^64: plain scaling or modulo would draw one half or third too often. */
Test(io, random_numbers_below_a_large_bound_are_uniform)
{
    struct io io = {0};
    uint64_t bound = UINT64_MAX / 3 * 2;
    int thirds[3] = {0};

    io_random_seed(&io, 2);
    for (int i = 0; i < 30000; i++) {
        uint64_t x = io_random_below(&io, bound);
        cr_assert_lt(x, bound);
        thirds[x / (bound / 3 + 1)]++;
    }
    for (int i = 0; i < 3; i++)
        cr_assert(thirds[i] > 9600 && thirds[i] < 10400, "%d of 30000", thirds[i]);
}

static const struct {
    const char *text;
    uint16_t port;
    const char *shown;
} good[] = {
    {"127.0.0.1", 80, "127.0.0.1:80"},
    {"0.0.0.0", 0, "0.0.0.0:0"},
    {"255.255.255.255", 65535, "255.255.255.255:65535"},
    {"::1", 8000, "[::1]:8000"},
    {"[::1]", 8000, "[::1]:8000"},
    {"::", 1, "[::]:1"},
    {"[2001:db8::ff00:42:8329]", 443, "[2001:db8::ff00:42:8329]:443"},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535,
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
    {"::ffff:10.1.2.3", 5, "10.1.2.3:5"},
};

Test(io, addresses_are_parsed_and_shown)
{
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct io_addr a;
        char text[IO_ADDR_TEXT_MAX];
        memset(&a, 0xee, sizeof(a));
        cr_assert_eq(io_addr_parse(&a, good[i].text, good[i].port), 0, "%s", good[i].text);
        io_addr_format(&a, text);
        cr_assert_str_eq(text, good[i].shown);
    }
}

Test(io, what_is_no_address_is_refused)
{
    static const char *const bad[] = {
        "",
        "localhost",
        "127.0.0",
        "127.0.0.1.1",
        "256.0.0.1",
        "127.0.0.1:80",
        "[::1",
        "::1]",
        "[]",
        "[127.0.0.1]",
        ":::",
        "::1%lo",
        "[::1]:5",
        " ::1",
        "1:2:3:4:5",
        "[",
        "]",
        "12345::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct io_addr a;
        cr_assert_eq(io_addr_parse(&a, bad[i], 1), -EINVAL, "%s", bad[i]);
    }
}

Test(io, addresses_survive_the_way_to_the_kernels_form_and_back)
{
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct io_addr a, b;
        struct sockaddr_storage ss;
        cr_assert_eq(io_addr_parse(&a, good[i].text, good[i].port), 0);
        memset(&ss, 0xee, sizeof(ss));
        memset(&b, 0xee, sizeof(b));
        socklen_t len = io_addr_to_sockaddr(&a, &ss);
        cr_assert_eq(len, a.family == AF_INET ? sizeof(struct sockaddr_in)
                                              : sizeof(struct sockaddr_in6));
        io_addr_from_sockaddr(&b, (struct sockaddr *)&ss, len);
        cr_assert_arr_eq(&a, &b, sizeof(a));
    }
}

Test(io, a_mapped_ipv4_address_is_the_same_as_the_plain_one)
{
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(7)};
    struct io_addr a, b;

    cr_assert_eq(inet_pton(AF_INET6, "::ffff:10.0.0.7", &mapped.sin6_addr), 1);
    io_addr_from_sockaddr(&a, (struct sockaddr *)&mapped, sizeof(mapped));
    cr_assert_eq(io_addr_parse(&b, "10.0.0.7", 7), 0);
    cr_assert_arr_eq(&a, &b, sizeof(a));
}

Test(io, addresses_of_other_kinds_have_a_name)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/x"};
    struct sockaddr_storage ss = {.ss_family = AF_INET6};
    struct io_addr a;
    char text[IO_ADDR_TEXT_MAX];

    io_addr_from_sockaddr(&a, (struct sockaddr *)&un, sizeof(un.sun_family));
    io_addr_format(&a, text);
    cr_assert_str_eq(text, "unix");

    /* Cut off, absent, or of a family that we do not know: nothing is read beyond the length. */
    io_addr_from_sockaddr(&a, (struct sockaddr *)&ss, sizeof(struct sockaddr_in6) - 1);
    cr_assert_eq(a.family, 0);
    io_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 0);
    io_addr_format(&a, text);
    cr_assert_str_eq(text, "unknown");
}
