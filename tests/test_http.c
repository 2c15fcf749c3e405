/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Request heads: found and parsed the same whatever the split, and refused where two readers might
 * disagree. */

#include "net/http.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct http_limits limits = {.max_head_bytes = 8192, .max_headers = 64};

/* A head as text; zeros in it count. */
struct text {
    const char *p;
    size_t len;
};
#define TEXT(s) ((struct text){s, sizeof(s) - 1})
#define HOST "Host: example.com\r\n"

/* Feeds prefixes of the given growing lengths, as a caller collects them, each in memory of exactly
 * its size. */
static enum http_result find_growing(struct text t, const struct http_limits *lim, size_t first,
                                     size_t step, size_t *head_len)
{
    struct http_scan s = {0};
    enum http_result r = HTTP_MORE;
    for (size_t n = first; r == HTTP_MORE; n = min_size(n + step, t.len)) {
        uint8_t *copy = malloc(n + 1);
        cr_assert_not_null(copy);
        memcpy(copy, t.p, n);
        r = http_head_find(&s, lim, copy, n, head_len);
        free(copy);
        if (n == t.len)
            break;
    }
    return r;
}

/* What a server would answer: finds the head, in every split, and parses it. */
static enum http_result read_head(struct text t, const struct http_limits *lim,
                                  struct http_request *req)
{
    size_t whole_len = 0, head_len = 0;
    enum http_result whole = find_growing(t, lim, t.len, t.len, &whole_len);
    for (size_t a = 0; a <= t.len; a++) {
        cr_assert_eq(find_growing(t, lim, a, t.len, &head_len), whole, "cut at %zu", a);
        cr_assert(whole != HTTP_OK || head_len == whole_len, "cut at %zu", a);
    }
    cr_assert_eq(find_growing(t, lim, 1, 1, &head_len), whole);
    cr_assert(whole != HTTP_OK || head_len == whole_len);
    memset(req, 0xEE, sizeof *req);
    if (whole != HTTP_OK)
        return whole;
    uint8_t *exact = malloc(whole_len);
    cr_assert_not_null(exact);
    memcpy(exact, t.p, whole_len);
    enum http_result r = http_head_parse(exact, whole_len, lim, req);
    free(exact);
    cr_assert_eq(http_head_parse((const uint8_t *)t.p, whole_len, lim, req), r);
    return r;
}

static void expect(enum http_result status, struct text t)
{
    struct http_request req;
    enum http_result r = read_head(t, &limits, &req);
    cr_assert_eq(r, status, "%d instead of %d for %s", r, status, t.p);
}

static void expect_view(const char *p, size_t len, const char *want)
{
    cr_assert(strlen(want) == len && memcmp(p, want, len) == 0, "%.*s instead of %s", (int)len, p,
              want);
}

static struct http_request parse_good(struct text t)
{
    struct http_request req;
    enum http_result r = read_head(t, &limits, &req);
    cr_assert_eq(r, HTTP_OK, "%d for %s", r, t.p);
    cr_assert_null(req.problem);
    return req;
}

Test(http, a_plain_request_is_taken_apart)
{
    struct http_request req = parse_good(TEXT("GET /rooms/a%20b?echo=0&x HTTP/1.1\r\n"
                                              "Host: example.com:8000\r\n"
                                              "User-Agent:  some client \t\r\n"
                                              "Empty:\r\n"
                                              "X-Latin: \xE4\xF6\r\n\r\n"));
    cr_assert_eq(req.method, HTTP_GET);
    cr_assert_eq(req.minor, 1);
    cr_assert(req.keep_alive && !req.has_body && !req.chunked && !req.upgrade_websocket);
    expect_view(req.target, req.target_len, "/rooms/a%20b?echo=0&x");
    expect_view(req.path, req.path_len, "/rooms/a%20b");
    expect_view(req.query, req.query_len, "echo=0&x");
    expect_view(req.host, req.host_len, "example.com:8000");
    cr_assert_eq(req.header_count, 4);
    const struct http_header *h = http_header(&req, "user-agent");
    expect_view(h->name, h->name_len, "User-Agent");
    expect_view(h->value, h->value_len, "some client");
    cr_assert_eq(http_header(&req, "empty")->value_len, 0);
    h = http_header(&req, "x-latin");
    expect_view(h->value, h->value_len, "\xE4\xF6");
    cr_assert_null(http_header(&req, "x-lati"));
}

Test(http, what_follows_the_head_is_left_alone)
{
    struct text t = TEXT("GET / HTTP/1.1\r\n" HOST "\r\n\x81\x80\n\r\0");
    size_t head_len = 0;
    cr_assert_eq(find_growing(t, &limits, t.len, t.len, &head_len), HTTP_OK);
    cr_assert_eq(head_len, t.len - 5);
    struct http_request req;
    cr_assert_eq(read_head(t, &limits, &req), HTTP_OK);
}

Test(http, a_prefix_of_a_head_needs_more)
{
    struct text t = TEXT("\r\nGET / HTTP/1.1\r\n" HOST "A: b\r\n\r\n");
    for (size_t n = 0; n < t.len; n++) {
        size_t head_len;
        cr_assert_eq(find_growing((struct text){t.p, n}, &limits, n, 1, &head_len), HTTP_MORE);
    }
    expect(HTTP_OK, t);
}

Test(http, at_most_two_empty_lines_come_before_a_request)
{
    struct http_request req = parse_good(TEXT("\r\n\r\nHEAD /x HTTP/1.1\r\n" HOST "\r\n"));
    cr_assert_eq(req.method, HTTP_HEAD);
    expect_view(req.path, req.path_len, "/x");
    expect(HTTP_OK, TEXT("\r\nGET / HTTP/1.1\r\n" HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("\r\n\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("\nGET / HTTP/1.1\r\n" HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("\rGET / HTTP/1.1\r\n" HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT(" GET / HTTP/1.1\r\n" HOST "\r\n"));
}

Test(http, bare_line_feeds_are_refused)
{
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\n" HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\nHost: a\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A: b\nC: d\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "\r\r\n"));
}

Test(http, bare_carriage_returns_are_refused)
{
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r" HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET /\r HTTP/1.1\r\n" HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A: b\rC: d\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A: b\r\r\n\r\n"));
}

Test(http, nul_is_refused_anywhere)
{
    struct text good = TEXT("GET / HTTP/1.1\r\n" HOST "A: b\r\n\r\n");
    for (size_t at = 0; at < good.len; at++) {
        char bad[128];
        memcpy(bad, good.p, good.len);
        bad[at] = '\0';
        expect(HTTP_BAD_REQUEST, (struct text){bad, good.len});
    }
}

Test(http, folded_fields_are_refused)
{
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A: b\r\n\tc\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n " HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST " \r\n\r\n"));
}

Test(http, malformed_field_names_are_refused)
{
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A\t: b\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A b: c\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "A(b): c\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "\xC3\xA4: c\r\n\r\n"));
    expect(HTTP_OK, TEXT("GET / HTTP/1.1\r\n" HOST "!#$%&'*+-.^_`|~09az: c\r\n\r\n"));
}

Test(http, control_characters_in_values_are_refused)
{
    for (int c = 1; c < 256; c++) {
        char head[64];
        int n = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: a\r\nA: b%cd\r\n\r\n", c);
        bool good = c == '\t' || (c >= ' ' && c != 0x7F);
        expect(good ? HTTP_OK : HTTP_BAD_REQUEST, (struct text){head, (size_t)n});
    }
}

Test(http, host_stands_exactly_once)
{
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\nX-Host: a\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n" HOST "hOST: other\r\n\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.0\r\n" HOST HOST "\r\n"));
    expect(HTTP_BAD_REQUEST, TEXT("GET http://example.com/ HTTP/1.1\r\n\r\n"));
}

static void expect_host(enum http_result status, const char *host)
{
    char head[128];
    int n = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    expect(status, (struct text){head, (size_t)n});
}

Test(http, host_must_be_a_host)
{
    static const char *const good[] = {"a",
                                       "example.com",
                                       "example.com:8000",
                                       "a:",
                                       "127.0.0.1:1",
                                       "[::1]",
                                       "[::1]:65535",
                                       "[::]",
                                       "[::ffff:1.2.3.4]:80",
                                       "x_y~z%41!$&'()*+,;=",
                                       "a:0"};
    static const char *const bad[] = {"",          " ",         "a b",
                                      "a,b:c",     "user@host", "a/b",
                                      "a:65536",   "a:1x",      "a:99999999999999999999",
                                      "[::1",      "[]",        "[:]",
                                      "[::1]x",    "::1",       "[g::]",
                                      "a#b",       "a^b",       "a|b",
                                      "a`b",       ":80",       "\"a\"",
                                      "a\xC3\xA4", "a?b",       "[x]"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        expect_host(HTTP_OK, good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect_host(HTTP_BAD_REQUEST, bad[i]);
}

Test(http, content_length_stands_once_and_is_a_number)
{
    static const char *const bad[] = {"Content-Length: 5\r\nContent-Length: 5\r\n",
                                      "Content-Length: 5\r\nContent-Length: 6\r\n",
                                      "Content-Length: 0\r\ncontent-length: 0\r\n",
                                      "Content-Length: 5, 5\r\n",
                                      "Content-Length:\r\n",
                                      "Content-Length: +5\r\n",
                                      "Content-Length: -5\r\n",
                                      "Content-Length: 5 5\r\n",
                                      "Content-Length: 0x5\r\n",
                                      "Content-Length: 5.0\r\n",
                                      "Content-Length: \"5\"\r\n",
                                      "Content-Length: 18446744073709551616\r\n",
                                      "Content-Length: 99999999999999999999\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char head[160];
        int n = snprintf(head, sizeof head, "POST / HTTP/1.1\r\n" HOST "%s\r\n", bad[i]);
        expect(HTTP_BAD_REQUEST, (struct text){head, (size_t)n});
    }
}

Test(http, a_content_length_is_read_to_its_largest_value)
{
    struct http_request req =
        parse_good(TEXT("POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n"));
    cr_assert_eq(req.content_length, UINT64_MAX);
    cr_assert(req.has_body && !req.chunked);
    cr_assert_eq(req.method, HTTP_POST);
    req = parse_good(TEXT("POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"));
    cr_assert(!req.has_body);
    req = parse_good(TEXT("POST / HTTP/1.1\r\n" HOST "Content-Length: 0010\r\n\r\n"));
    cr_assert_eq(req.content_length, 10);
}

Test(http, chunked_is_the_only_transfer_coding)
{
    static const char *const bad[] = {"gzip",
                                      "gzip, chunked",
                                      "chunked, gzip",
                                      "chunked, chunked",
                                      "identity",
                                      "",
                                      "chunked;a=b",
                                      "xchunked",
                                      "\"chunked\"",
                                      "chunked,",
                                      "chun ked",
                                      "chunked\r\nTransfer-Encoding: chunked",
                                      "chunked\r\nTransfer-Encoding: identity",
                                      "chunked\r\nContent-Length: 5",
                                      "chunked\r\nContent-Length: 0",
                                      "gzip\r\nContent-Length: 5"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char head[160];
        int n = snprintf(head, sizeof head,
                         "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: %s\r\n\r\n", bad[i]);
        expect(HTTP_BAD_REQUEST, (struct text){head, (size_t)n});
    }
    struct http_request req =
        parse_good(TEXT("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n"));
    cr_assert(req.has_body && req.chunked);
}

Test(http, transfer_codings_do_not_exist_in_http_1_0)
{
    expect(HTTP_BAD_REQUEST, TEXT("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"));
}

Test(http, malformed_request_lines_are_refused)
{
    static const char *const bad[] = {"GET",
                                      "GET /",
                                      "GET / ",
                                      "GET  / HTTP/1.1",
                                      "GET /  HTTP/1.1",
                                      "GET / HTTP/1.1 ",
                                      "GET\t/ HTTP/1.1",
                                      "GET / HTTP/1",
                                      "GET / HTTP/1.",
                                      "GET / HTTP/11",
                                      "GET / HTTP/1.10",
                                      "GET / http/1.1",
                                      "GET / HTTP/a.1",
                                      "GET / HTTP/1.a",
                                      "GET / HTTP 1.1",
                                      "GET / XTTP/1.1",
                                      "G(T / HTTP/1.1",
                                      "G\xC3T / HTTP/1.1",
                                      "G@T / HTTP/1.1",
                                      "@ / HTTP/1.1",
                                      "GET /a b HTTP/1.1",
                                      "GET a HTTP/1.1",
                                      "GET * HTTP/1.1",
                                      "GET ? HTTP/1.1",
                                      "OPTIONS ** HTTP/1.1",
                                      "GET /\x01 HTTP/1.1",
                                      "GET /\x7F HTTP/1.1",
                                      "GET /\xC3\xA4 HTTP/1.1",
                                      "GET /#a HTTP/1.1",
                                      "GET http:// HTTP/1.1",
                                      "GET http:///a HTTP/1.1",
                                      "GET http://u@h/ HTTP/1.1",
                                      "GET ftp://h/ HTTP/1.1",
                                      "GET http:/h/ HTTP/1.1",
                                      "GET http://?a HTTP/1.1",
                                      "GET example.com:80 HTTP/1.1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char head[160];
        int n = snprintf(head, sizeof head, "%s\r\n" HOST "\r\n", bad[i]);
        expect(HTTP_BAD_REQUEST, (struct text){head, (size_t)n});
    }
}

Test(http, no_line_may_be_missing)
{
    expect(HTTP_BAD_REQUEST, TEXT("GET / HTTP/1.1\r\n\r\n"));
    expect(HTTP_OK, TEXT("GET / HTTP/1.0\r\n\r\n"));
    struct http_request req;
    static const char *const cut[] = {"",
                                      "\r\n",
                                      "GET / HTTP/1.0",
                                      "GET / HTTP/1.0\r\n",
                                      "GET / HTTP/1.0\r\nA: b\r\n",
                                      "GET / HTTP/1.0\r\n\r",
                                      "GET / HTTP/1.0\r\n\r\nx",
                                      "\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(cut); i++) { /* the parser does not trust its caller either */
        enum http_result r =
            http_head_parse((const uint8_t *)cut[i], strlen(cut[i]), &limits, &req);
        cr_assert_eq(r, HTTP_BAD_REQUEST, "%zu", i);
        cr_assert_not_null(req.problem);
    }
}

Test(http, every_character_of_a_method_is_checked)
{
    for (int c = 1; c < 256; c++) {
        char head[64];
        bool token = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     strchr("!#$%&'*+-.^_`|~", c) != NULL;
        int n = snprintf(head, sizeof head, "GE%cT / HTTP/1.1\r\nHost: a\r\n\r\n", c);
        expect(token ? HTTP_NOT_IMPLEMENTED : HTTP_BAD_REQUEST, (struct text){head, (size_t)n});
        n = snprintf(head, sizeof head, "%cGET / HTTP/1.1\r\nHost: a\r\n\r\n", c);
        expect(token ? HTTP_NOT_IMPLEMENTED : HTTP_BAD_REQUEST, (struct text){head, (size_t)n});
    }
}

Test(http, methods_are_known_or_not_implemented)
{
    static const struct {
        const char *name;
        int method; /* -1: answered with 501 */
    } cases[] = {{"GET", HTTP_GET},     {"HEAD", HTTP_HEAD},
                 {"POST", HTTP_POST},   {"OPTIONS", HTTP_OPTIONS},
                 {"PUT", HTTP_OTHER},   {"DELETE", HTTP_OTHER},
                 {"PATCH", HTTP_OTHER}, {"TRACE", HTTP_OTHER},
                 {"CONNECT", -1},       {"get", -1},
                 {"GETX", -1},          {"BREW", -1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char head[64];
        struct http_request req;
        int n = snprintf(head, sizeof head, "%s / HTTP/1.1\r\n" HOST "\r\n", cases[i].name);
        enum http_result r = read_head((struct text){head, (size_t)n}, &limits, &req);
        cr_assert_eq(r, cases[i].method < 0 ? HTTP_NOT_IMPLEMENTED : HTTP_OK);
        if (r == HTTP_OK)
            cr_assert_eq(req.method, cases[i].method);
    }
}

Test(http, versions_other_than_1_are_not_supported)
{
    expect(HTTP_VERSION_NOT_SUPPORTED, TEXT("GET / HTTP/2.0\r\n" HOST "\r\n"));
    expect(HTTP_VERSION_NOT_SUPPORTED, TEXT("GET / HTTP/0.9\r\n" HOST "\r\n"));
    expect(HTTP_VERSION_NOT_SUPPORTED, TEXT("GET / HTTP/3.1\r\n" HOST "\r\n"));
    expect(HTTP_VERSION_NOT_SUPPORTED, TEXT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    struct http_request req = parse_good(TEXT("GET / HTTP/1.9\r\n" HOST "\r\n"));
    cr_assert_eq(req.minor, 1);
}

Test(http, absolute_form_is_reduced_and_its_host_wins)
{
    static const struct {
        const char *target, *host, *path, *query;
    } cases[] = {
        {"http://h.example:81/a/b?c=d", "h.example:81", "/a/b", "c=d"},
        {"HTTPS://h/", "h", "/", ""},
        {"ws://h", "h", "/", ""},
        {"wss://[::1]:9/x", "[::1]:9", "/x", ""},
        {"http://h?q=/", "h", "/", "q=/"},
        {"http://h/?", "h", "/", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char head[128];
        int n = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\n" HOST "\r\n", cases[i].target);
        struct http_request req = parse_good((struct text){head, (size_t)n});
        expect_view(req.host, req.host_len, cases[i].host);
        expect_view(req.path, req.path_len, cases[i].path);
        expect_view(req.query, req.query_len, cases[i].query);
    }
}

Test(http, asterisk_form_belongs_to_options)
{
    struct http_request req = parse_good(TEXT("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"));
    expect_view(req.path, req.path_len, "*");
}

Test(http, a_long_target_is_414)
{
    struct http_limits lim = {.max_head_bytes = 400, .max_headers = 8, .max_target_bytes = 100};
    char head[1024];
    struct http_request req;
    for (int len = 95; len <= 300; len++) {
        int n = snprintf(head, sizeof head, "GET /%0*d HTTP/1.1\r\n" HOST "\r\n", len - 1, 0);
        enum http_result r = read_head((struct text){head, (size_t)n}, &lim, &req);
        cr_assert_eq(r, len <= 100 ? HTTP_OK : HTTP_URI_TOO_LONG, "%d: %d", len, r);
    }
}

Test(http, a_request_line_without_an_end_is_414_before_the_head_is_full)
{
    struct http_scan s = {0};
    char line[8192];
    size_t head_len;
    memset(line, 'A', sizeof line);
    cr_assert_eq(http_head_find(&s, &limits, (uint8_t *)line, 4096, &head_len), HTTP_MORE);
    cr_assert_eq(http_head_find(&s, &limits, (uint8_t *)line, 4096 + 64, &head_len),
                 HTTP_URI_TOO_LONG);
}

Test(http, a_target_takes_half_of_the_head_by_default)
{
    struct http_limits lim = {.max_head_bytes = 200, .max_headers = 8};
    char head[512];
    struct http_request req;
    for (int len = 99; len <= 102; len++) {
        int n = snprintf(head, sizeof head, "GET /%0*d HTTP/1.1\r\n" HOST "\r\n", len - 1, 0);
        cr_assert_eq(read_head((struct text){head, (size_t)n}, &lim, &req),
                     len <= 100 ? HTTP_OK : HTTP_URI_TOO_LONG);
    }
}

Test(http, a_long_head_is_431_as_soon_as_it_is_full)
{
    struct http_limits lim = {.max_head_bytes = 200, .max_headers = 8};
    char head[512];
    struct http_request req;
    for (int fill = 140; fill < 180; fill++) {
        int n = snprintf(head, sizeof head, "GET / HTTP/1.1\r\n" HOST "A: %0*d\r\n\r\n", fill, 0);
        cr_assert_eq(read_head((struct text){head, (size_t)n}, &lim, &req),
                     n <= 200 ? HTTP_OK : HTTP_HEAD_TOO_LARGE, "%d", n);
        struct http_scan s = {0};
        size_t head_len;
        enum http_result r = http_head_find(&s, &lim, (uint8_t *)head, 199, &head_len);
        cr_assert_eq(r, n <= 199 ? HTTP_OK : HTTP_MORE);
        if (r == HTTP_MORE && n > 200)
            cr_assert_eq(http_head_find(&s, &lim, (uint8_t *)head, 200, &head_len),
                         HTTP_HEAD_TOO_LARGE);
    }
}

Test(http, a_limit_that_is_lowered_under_a_head_refuses_it)
{
    struct http_limits high = {.max_head_bytes = 400, .max_headers = 8};
    struct http_limits low = {.max_head_bytes = 200, .max_headers = 8};
    struct http_scan s = {0};
    char head[512];
    size_t head_len;
    int n = snprintf(head, sizeof head, "GET / HTTP/1.1\r\n" HOST "A: %0300d\r\n\r\n", 0);
    cr_assert_eq(http_head_find(&s, &high, (uint8_t *)head, 300, &head_len), HTTP_MORE);
    cr_assert_eq(http_head_find(&s, &low, (uint8_t *)head, 300, &head_len), HTTP_HEAD_TOO_LARGE);
    cr_assert_eq(http_head_find(&s, &low, (uint8_t *)head, (size_t)n, &head_len),
                 HTTP_HEAD_TOO_LARGE);
}

Test(http, no_limit_goes_beyond_what_a_view_can_hold)
{
    struct http_limits lim = {.max_head_bytes = 1 << 20, .max_headers = 8};
    char *head = malloc(100000);
    cr_assert_not_null(head);
    int n = snprintf(head, 100000, "GET / HTTP/1.1\r\n" HOST "A: %070000d\r\n\r\n", 0);
    struct http_scan s = {0};
    struct http_request req;
    size_t head_len;
    cr_assert_eq(http_head_find(&s, &lim, (uint8_t *)head, (size_t)n, &head_len),
                 HTTP_HEAD_TOO_LARGE);
    cr_assert_eq(http_head_parse((uint8_t *)head, (size_t)n, &lim, &req), HTTP_HEAD_TOO_LARGE);
    free(head);
}

Test(http, too_many_fields_are_431)
{
    for (uint32_t max = 1; max <= HTTP_HEADERS_MAX + 2; max += 43) {
        for (uint32_t count = 1; count <= HTTP_HEADERS_MAX + 3; count++) {
            struct http_limits lim = {.max_head_bytes = 8192, .max_headers = max};
            char head[2048] = "GET / HTTP/1.1\r\nHost: a\r\n";
            struct http_request req;
            for (uint32_t i = 1; i < count; i++)
                strcat(head, "A: b\r\n");
            strcat(head, "\r\n");
            enum http_result r = http_head_parse((uint8_t *)head, strlen(head), &lim, &req);
            cr_assert_eq(r,
                         count <= min_u32(max, HTTP_HEADERS_MAX) ? HTTP_OK : HTTP_HEAD_TOO_LARGE);
        }
    }
}

Test(http, keep_alive_follows_version_and_connection)
{
    static const struct {
        const char *fields;
        bool in_1_1, in_1_0;
    } cases[] = {
        {"", true, false},
        {"Connection: close\r\n", false, false},
        {"Connection: Keep-Alive\r\n", true, true},
        {"Connection: keep-alive, CLOSE\r\n", false, false},
        {"Connection: keep-alive\r\nConnection: x,close\r\n", false, false},
        {"Connection: x\r\nConnection: , ,keep-alive\r\n", true, true},
        {"Connection: closed\r\n", true, false},
        {"Connection: \"close\"\r\n", true, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int minor = 0; minor < 2; minor++) {
            char head[160];
            int n = snprintf(head, sizeof head, "GET / HTTP/1.%d\r\n" HOST "%s\r\n", minor,
                             cases[i].fields);
            struct http_request req = parse_good((struct text){head, (size_t)n});
            cr_assert_eq(req.keep_alive, minor == 1 ? cases[i].in_1_1 : cases[i].in_1_0);
            cr_assert_eq(req.minor, minor);
        }
    }
}

Test(http, an_upgrade_needs_both_fields_and_http_1_1)
{
    static const struct {
        int minor;
        const char *fields;
        bool upgrade;
    } cases[] = {
        {1, "Connection: Upgrade\r\nUpgrade: websocket\r\n", true},
        {1, "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n", true},
        {1, "Connection: keep-alive\r\nConnection: UPGRADE\r\nUpgrade: a/1, websocket\r\n", true},
        {0, "Connection: Upgrade\r\nUpgrade: websocket\r\n", false},
        {1, "Connection: keep-alive\r\nUpgrade: websocket\r\n", false},
        {1, "Upgrade: websocket\r\n", false},
        {1, "Connection: Upgrade\r\n", false},
        {1, "Connection: Upgrade\r\nUpgrade: h2c\r\n", false},
        {1, "Connection: Upgrade\r\nUpgrade: websockets\r\n", false},
        {1, "Connection: Upgrades\r\nUpgrade: websocket\r\n", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char head[160];
        int n = snprintf(head, sizeof head, "GET / HTTP/1.%d\r\n" HOST "%s\r\n", cases[i].minor,
                         cases[i].fields);
        struct http_request req = parse_good((struct text){head, (size_t)n});
        cr_assert_eq(req.upgrade_websocket, cases[i].upgrade, "%s", cases[i].fields);
    }
}

Test(http, fields_of_one_name_are_walked_in_order)
{
    struct http_request req =
        parse_good(TEXT("GET / HTTP/1.1\r\nA: 1\r\n" HOST "a: 2\r\nAB: x\r\nA: 3\r\n\r\n"));
    uint32_t index = 0;
    for (int i = 1; i <= 3; i++) {
        const struct http_header *h = http_header_next(&req, "a", &index);
        cr_assert_not_null(h);
        cr_assert_eq(h->value[0], '0' + i);
    }
    cr_assert_null(http_header_next(&req, "a", &index));
    cr_assert_null(http_header_next(&req, "a", &index));
}

/* The elements of a list, each in brackets. */
static void expect_list(const char *list, const char *want)
{
    char got[128] = "", *copy = malloc(strlen(list) + 1);
    const char *at = memcpy(copy, list, strlen(list)), *end = copy + strlen(list), *element;
    size_t len;
    while (http_list_next(&at, end, &element, &len)) {
        cr_assert(element >= copy && element + len <= end);
        snprintf(got + strlen(got), sizeof got - strlen(got), "[%.*s]", (int)len, element);
    }
    cr_assert_not(http_list_next(&at, end, &element, &len));
    cr_assert_str_eq(got, want);
    free(copy);
}

Test(http, lists_are_walked_by_element)
{
    expect_list("", "");
    expect_list(" \t", "");
    expect_list(",", "");
    expect_list(", ,\t,", "");
    expect_list("a", "[a]");
    expect_list("a,b", "[a][b]");
    expect_list(" a b ,\tc\t,,d ,", "[a b][c][d]");
    expect_list("\"a,b\",c", "[\"a,b\"][c]");
    expect_list("a=\"x\\\",y\" , b", "[a=\"x\\\",y\"][b]");
    expect_list("\"open, b", "[\"open, b]");
    expect_list("\"open\\", "[\"open\\]");
    expect_list("\"\"", "[\"\"]");
}

Test(http, percent_decoding_refuses_bad_escapes)
{
    static const struct {
        const char *in, *out;
    } cases[] = {{"", ""},         {"abc", "abc"},
                 {"%41%62", "Ab"}, {"a%2Fb%2f", "a/b/"},
                 {"+", "+"},       {"%", NULL},
                 {"%4", NULL},     {"a%4g", NULL},
                 {"%g4", NULL},    {"%%41", NULL},
                 {"%4%1", NULL},   {"%C3%a4", "\xC3\xA4"},
                 {"%25%34", "%4"}, {"\xC3\xA4", "\xC3\xA4"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t out[32];
        int32_t n = http_percent_decode(cases[i].in, strlen(cases[i].in), out);
        if (cases[i].out == NULL)
            cr_assert_eq(n, -1, "%s", cases[i].in);
        else
            expect_view((char *)out, (size_t)n, cases[i].out);
    }
    uint8_t zero = 1;
    cr_assert_eq(http_percent_decode("%00", 3, &zero), 1);
    cr_assert_eq(zero, 0);
}

Test(http, a_key_is_found_in_a_query)
{
    static const struct {
        const char *query, *key, *value;
    } cases[] = {
        {"echo=0", "echo", "0"},    {"a=1&echo=&b", "echo", ""}, {"echo", "echo", ""},
        {"echoes=1", "echo", NULL}, {"xecho=1", "echo", NULL},   {"", "echo", NULL},
        {"a=echo", "echo", NULL},   {"&&echo=x&", "echo", "x"},  {"echo=1&echo=2", "echo", "1"},
        {"a=b=c", "a", "b=c"},      {"ECHO=1", "echo", NULL},    {"=v", "", "v"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *value;
        size_t len;
        bool found =
            http_query_get(cases[i].query, strlen(cases[i].query), cases[i].key, &value, &len);
        cr_assert_eq(found, cases[i].value != NULL, "%s", cases[i].query);
        if (found)
            expect_view(value, len, cases[i].value);
    }
}

Test(http, tokens_compare_without_case_and_whole)
{
    cr_assert(http_token_is("WebSocket", 9, "websocket"));
    cr_assert_not(http_token_is("WebSocke", 8, "websocket"));
    cr_assert_not(http_token_is("websockets", 10, "websocket"));
    cr_assert(http_is_token("a-b", 3));
    cr_assert_not(http_is_token("", 0));
    cr_assert_not(http_is_token("a b", 3));
    cr_assert_not(http_is_token("a\0b", 3));
}

Test(http, statuses_have_their_texts)
{
    cr_assert_str_eq(http_status_text(101), "Switching Protocols");
    cr_assert_str_eq(http_status_text(400), "Bad Request");
    cr_assert_str_eq(http_status_text(426), "Upgrade Required");
    cr_assert_str_eq(http_status_text(505), "HTTP Version Not Supported");
    cr_assert_str_eq(http_status_text(299), "Unknown");
}
