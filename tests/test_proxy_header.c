/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* PROXY headers of both versions, whole and cut, good and not, and the networks that may send them.
 */

#include "net/proxy_header.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

static const struct io_addr untouched = {.port = 0xABCD, .family = 0x77, .reserved = 0x99};

/* In memory of exactly its size. */
static enum proxy_result parse_exact(const void *p, size_t len, size_t *consumed,
                                     struct io_addr *peer)
{
    uint8_t *copy = malloc(len + 1);
    cr_assert_not_null(copy);
    memcpy(copy + 1, p, len);
    *peer = untouched;
    *consumed = 0;
    enum proxy_result r = proxy_header_parse(copy + 1, len, consumed, peer);
    free(copy);
    return r;
}

/* Checks that every prefix needs more and that what follows is left alone. */
static struct io_addr parse_good(const void *p, size_t len)
{
    uint8_t longer[1024];
    struct io_addr peer, again;
    size_t consumed;
    for (size_t n = 0; n < len; n++) {
        cr_assert_eq(parse_exact(p, n, &consumed, &peer), PROXY_MORE, "%zu", n);
        cr_assert_eq(memcmp(&peer, &untouched, sizeof peer), 0);
    }
    cr_assert_eq(parse_exact(p, len, &consumed, &peer), PROXY_OK);
    cr_assert_eq(consumed, len);
    memcpy(longer, p, len);
    memcpy(longer + len, "GET /\r\n\0", 8);
    cr_assert_eq(parse_exact(longer, len + 8, &consumed, &again), PROXY_OK);
    cr_assert_eq(consumed, len);
    cr_assert_eq(memcmp(&peer, &again, sizeof peer), 0);
    return peer;
}

/* Refused once `after` bytes are there, not before, and still when more come. */
static void expect_invalid(const void *p, size_t len, size_t after)
{
    struct io_addr peer;
    size_t consumed;
    for (size_t n = 0; n <= len; n++) {
        cr_assert_eq(parse_exact(p, n, &consumed, &peer), n < after ? PROXY_MORE : PROXY_INVALID,
                     "%zu", n);
        cr_assert_eq(memcmp(&peer, &untouched, sizeof peer), 0);
    }
}

static void expect_addr(const struct io_addr *a, int family, const char *ip, uint16_t port)
{
    uint8_t bytes[16];
    cr_assert_eq(inet_pton(AF_INET6, ip, bytes), 1);
    cr_assert_eq(a->family, family);
    cr_assert_eq(memcmp(a->ip, bytes, 16), 0, "%s", ip);
    cr_assert_eq(a->port, port);
}

static void expect_v1(const char *line, int family, const char *ip, uint16_t port)
{
    struct io_addr a = parse_good(line, strlen(line));
    expect_addr(&a, family, ip, port);
}

Test(proxy_header, version_1_names_the_peer)
{
    expect_v1("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", AF_INET, "::ffff:192.0.2.1",
              56324);
    expect_v1("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", AF_INET, "::ffff:0.0.0.0", 0);
    expect_v1("PROXY TCP6 2001:db8::1 ::1 65535 1\r\n", AF_INET6, "2001:db8::1", 65535);
    expect_v1("PROXY TCP6 ::ffff:192.0.2.1 ::1 7 1\r\n", AF_INET, "::ffff:192.0.2.1", 7);
    /* The longest that there is. */
    expect_v1("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
              "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
              AF_INET6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
}

Test(proxy_header, version_1_unknown_leaves_the_peer_alone)
{
    static const char *const lines[] = {"PROXY UNKNOWN\r\n", "PROXY UNKNOWN \r\n",
                                        "PROXY UNKNOWN what ever 1 2\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct io_addr a = parse_good(lines[i], strlen(lines[i]));
        cr_assert_eq(memcmp(&a, &untouched, sizeof a), 0);
    }
}

Test(proxy_header, malformed_lines_are_invalid_at_their_end)
{
    static const char *const bad[] = {
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.x 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 ::1%lo ::2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2x\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 123456 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect_invalid(bad[i], strlen(bad[i]), strlen(bad[i]));
}

Test(proxy_header, a_line_with_a_zero_is_invalid)
{
    static const char line[] = "PROXY UNKNOWN\0\r\n";
    expect_invalid(line, sizeof line - 1, sizeof line - 1);
}

Test(proxy_header, a_line_may_have_107_bytes)
{
    char line[120] = "PROXY UNKNOWN ";
    memset(line + 14, 'x', sizeof line - 14);
    memcpy(line + 105, "\r\n", 2);
    parse_good(line, 107);
    memcpy(line + 105, "x\r\n", 3);
    expect_invalid(line, 110, 107);
}

Test(proxy_header, what_is_no_header_is_invalid_at_its_first_wrong_byte)
{
    expect_invalid("GET / HTTP/1.1\r\n", 16, 1);
    expect_invalid("PROXZ TCP4", 10, 5);
    expect_invalid("PROXYTCP4", 9, 6);
    expect_invalid("\r\n\r\nGET /", 9, 5);
    expect_invalid("\r\n\r\n\0\r\nQUIX\n", 12, 11);
    expect_invalid("\x81\x85", 2, 1);
}

/* Version 2 ----------------------------------------------------------------------------------- */

struct v2 {
    uint8_t bytes[600];
    size_t len;
};

/* A header whose `len` bytes behind the head count up from 1. */
static struct v2 make_v2(uint8_t command, uint8_t family, size_t len)
{
    struct v2 h = {.len = 16 + len};
    memcpy(h.bytes, "\r\n\r\n\0\r\nQUIT\n", 12);
    h.bytes[12] = command;
    h.bytes[13] = family;
    h.bytes[14] = (uint8_t)(len >> 8);
    h.bytes[15] = (uint8_t)len;
    for (size_t i = 0; i < len; i++)
        h.bytes[16 + i] = (uint8_t)(i + 1);
    return h;
}

Test(proxy_header, version_2_names_the_peer)
{
    struct v2 h = make_v2(0x21, 0x11, 12);
    struct io_addr a = parse_good(h.bytes, h.len);
    expect_addr(&a, AF_INET, "::ffff:1.2.3.4", 0x090A);
    h = make_v2(0x21, 0x21, 36);
    a = parse_good(h.bytes, h.len);
    expect_addr(&a, AF_INET6, "102:304:506:708:90a:b0c:d0e:f10", 0x2122);
    memcpy(h.bytes + 16, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    a = parse_good(h.bytes, h.len);
    expect_addr(&a, AF_INET, "::ffff:13.14.15.16", 0x2122);
    h = make_v2(0x21, 0x31, 216);
    a = parse_good(h.bytes, h.len);
    expect_addr(&a, AF_UNIX, "::", 0);
}

Test(proxy_header, version_2_carries_what_is_not_read)
{
    struct v2 h = make_v2(0x21, 0x11, 12 + 40);
    struct io_addr a = parse_good(h.bytes, h.len);
    expect_addr(&a, AF_INET, "::ffff:1.2.3.4", 0x090A);
    h = make_v2(0x21, 0x21, 520);
    cr_assert_eq(h.len, PROXY_HEADER_MAX);
    parse_good(h.bytes, h.len);
}

Test(proxy_header, local_and_unspecified_leave_the_peer_alone)
{
    static const struct {
        uint8_t command, family;
        size_t len;
    } cases[] = {{0x20, 0x00, 0}, {0x20, 0x11, 12}, {0x20, 0x11, 0},  {0x20, 0x77, 5},
                 {0x21, 0x00, 0}, {0x21, 0x00, 33}, {0x20, 0x00, 520}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct v2 h = make_v2(cases[i].command, cases[i].family, cases[i].len);
        struct io_addr a = parse_good(h.bytes, h.len);
        cr_assert_eq(memcmp(&a, &untouched, sizeof a), 0);
    }
}

Test(proxy_header, every_version_and_command_is_judged_at_its_byte)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        struct v2 h = make_v2((uint8_t)byte, 0x11, 12);
        if (byte == 0x20 || byte == 0x21)
            parse_good(h.bytes, h.len);
        else
            expect_invalid(h.bytes, h.len, 13);
    }
}

Test(proxy_header, every_family_is_judged_at_its_byte)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        struct v2 h = make_v2(0x21, (uint8_t)byte, 216);
        if (byte == 0x00 || byte == 0x11 || byte == 0x21 || byte == 0x31)
            parse_good(h.bytes, h.len);
        else
            expect_invalid(h.bytes, h.len, 14);
    }
}

Test(proxy_header, lengths_out_of_bounds_are_invalid_from_the_head_alone)
{
    static const struct {
        uint8_t family;
        size_t len;
    } cases[] = {{0x11, 11}, {0x11, 0}, {0x21, 35}, {0x31, 215}, {0x11, 521}, {0x00, 65535}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct v2 h = make_v2(0x21, cases[i].family, 0);
        h.bytes[14] = (uint8_t)(cases[i].len >> 8);
        h.bytes[15] = (uint8_t)cases[i].len;
        expect_invalid(h.bytes, 20, 16);
    }
}

/* Networks ------------------------------------------------------------------------------------ */

static struct io_addr addr_of(const char *text)
{
    struct io_addr a = {.port = 1, .family = AF_INET6};
    char mapped[64];
    if (strcmp(text, "unix") == 0)
        return (struct io_addr){.family = AF_UNIX};
    snprintf(mapped, sizeof mapped, "%s%s", strchr(text, ':') == NULL ? "::ffff:" : "", text);
    if (strchr(text, ':') == NULL)
        a.family = AF_INET;
    cr_assert_eq(inet_pton(AF_INET6, mapped, a.ip), 1);
    return a;
}

Test(proxy_header, networks_hold_their_addresses)
{
    static const struct {
        const char *net, *addr;
        bool in;
    } cases[] = {
        {"10.0.0.0/8", "10.255.0.1", true},
        {"10.0.0.0/8", "11.0.0.1", false},
        {"10.1.2.3/8", "10.9.9.9", true},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.0", false},
        {"192.0.2.1/32", "192.0.2.1", true},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "::1", false},
        {"0.0.0.0/0", "::ffff:203.0.113.9", true},
        {"::/0", "::1", true},
        {"::/0", "192.0.2.1", false},
        {"::/0", "unix", false},
        {"::1", "::1", true},
        {"::1", "::2", false},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"fe80::/10", "febf::1", true},
        {"fe80::/10", "fec0::1", false},
        {"::ffff:10.0.0.0/104", "10.1.1.1", true},
        {"::ffff:10.0.0.0/104", "11.1.1.1", false},
        {"::ffff:10.0.0.0/95", "10.0.0.0", false}, /* an IPv6 network after all */
        {"::ffff:10.0.0.0/0", "::1", true},
        {"unix", "unix", true},
        {"unix", "127.0.0.1", false},
        {"127.0.0.1", "unix", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct proxy_net net;
        struct io_addr a = addr_of(cases[i].addr);
        cr_assert_eq(proxy_net_parse(cases[i].net, &net), 0, "%s", cases[i].net);
        cr_assert_eq(proxy_net_has(&net, &a), cases[i].in, "%s %s", cases[i].net, cases[i].addr);
    }
}

Test(proxy_header, an_unknown_address_is_in_no_network)
{
    static const char *const nets[] = {"0.0.0.0/0", "::/0", "unix"};
    const struct io_addr unknown = {.family = 0};
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        struct proxy_net net;
        cr_assert_eq(proxy_net_parse(nets[i], &net), 0);
        cr_assert_not(proxy_net_has(&net, &unknown));
    }
}

Test(proxy_header, every_prefix_length_is_exact)
{
    struct io_addr ones = addr_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    for (uint32_t bits = 0; bits <= 128; bits++) {
        char text[64];
        struct proxy_net net;
        snprintf(text, sizeof text, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/%u", bits);
        cr_assert_eq(proxy_net_parse(text, &net), 0);
        for (uint32_t flip = 0; flip < 128; flip++) {
            struct io_addr a = ones;
            a.ip[flip / 8] ^= (uint8_t)(0x80 >> flip % 8);
            cr_assert_eq(proxy_net_has(&net, &a), flip >= bits, "%u %u", bits, flip);
        }
    }
}

Test(proxy_header, malformed_networks_are_refused)
{
    static const char *const bad[] = {"",
                                      "/",
                                      "10.0.0.0/",
                                      "10.0.0.0/33",
                                      "10.0.0/8",
                                      "::/129",
                                      "::/x",
                                      "10.0.0.0/08",
                                      "10.0.0.0/-1",
                                      "::1/64/",
                                      "unix/8",
                                      "UNIX",
                                      "localhost",
                                      "10.0.0.0 /8",
                                      "10.0.0.0/8 ",
                                      "1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct proxy_net net;
        cr_assert_neq(proxy_net_parse(bad[i], &net), 0, "%s", bad[i]);
    }
}
