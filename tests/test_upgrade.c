/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The opening handshake: what is accepted, what is refused with which status, and the answer. */

#include "net/upgrade.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"

static const struct upgrade_policy plain;
static char head[4096]; /* of the request at hand: its views must outlive the checks */

/* Checks an upgrade with these fields besides Host, Connection and Upgrade. */
static int check_request(const char *request_line, const char *fields,
                         const struct upgrade_policy *policy, struct upgrade *out)
{
    static const struct http_limits limits = {.max_head_bytes = 4096, .max_headers = 32};
    struct http_request req;
    int n = snprintf(head, sizeof head,
                     "%s\r\nHost: example.com:8000\r\nConnection: keep-alive, Upgrade\r\n"
                     "Upgrade: websocket\r\n%s\r\n",
                     request_line, fields);
    enum http_result r = http_head_parse((uint8_t *)head, (size_t)n, &limits, &req);
    cr_assert_eq(r, HTTP_OK, "%s", fields);
    cr_assert(req.upgrade_websocket);
    memset(out, 0xEE, sizeof *out);
    return upgrade_check(&req, policy, out);
}

static int check(const char *fields, const struct upgrade_policy *policy, struct upgrade *out)
{
    return check_request("GET /rooms/a HTTP/1.1", fields, policy, out);
}

static void expect(int status, const char *fields)
{
    struct upgrade u;
    int got = check(fields, &plain, &u);
    cr_assert_eq(got, status, "%d instead of %d for %s", got, status, fields);
    cr_assert_eq(u.problem != NULL, status != 101);
}

Test(upgrade, the_key_of_rfc_6455_1_3_gets_its_accept)
{
    struct upgrade u;
    cr_assert_eq(check(KEY VERSION, &plain, &u), 101);
    cr_assert_str_eq(u.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    cr_assert_null(u.subprotocol);
    cr_assert_not(u.deflate.accepted);
    char out[UPGRADE_RESPONSE_MAX];
    uint32_t len = upgrade_response(&u, out);
    const char *want = "HTTP/1.1 101 Switching Protocols\r\n"
                       "Upgrade: websocket\r\n"
                       "Connection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    cr_assert_eq(len, strlen(want));
    cr_assert_eq(memcmp(out, want, len), 0);
}

Test(upgrade, only_get_upgrades)
{
    static const char *const lines[] = {"POST / HTTP/1.1", "HEAD / HTTP/1.1", "PUT / HTTP/1.1",
                                        "OPTIONS / HTTP/1.1"};
    struct upgrade u;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        cr_assert_eq(check_request(lines[i], KEY VERSION, &plain, &u), 405);
    cr_assert_eq(check_request("GET http://h/x HTTP/1.1", KEY VERSION, &plain, &u), 101);
}

Test(upgrade, a_body_is_refused)
{
    expect(400, KEY VERSION "Content-Length: 1\r\n");
    expect(400, KEY VERSION "Transfer-Encoding: chunked\r\n");
    expect(101, KEY VERSION "Content-Length: 0\r\n");
}

Test(upgrade, the_key_stands_once)
{
    expect(400, VERSION);
    expect(400, KEY KEY VERSION);
    expect(400, KEY VERSION "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n");
}

static void expect_key(int status, const char *key)
{
    char fields[256];
    snprintf(fields, sizeof fields, "Sec-WebSocket-Key: %s\r\n" VERSION, key);
    expect(status, fields);
}

Test(upgrade, the_key_is_16_bytes_in_base64)
{
    expect_key(101, "AAAAAAAAAAAAAAAAAAAAAA==");
    expect_key(101, "+/zZ09aAbBcCdDeEfFgGhQ==");
    expect_key(400, "");
    expect_key(400, "==");
    expect_key(400, "AAAAAAAAAAAAAAAAAAAAA===");  /* 15 bytes and a bit */
    expect_key(400, "AAAAAAAAAAAAAAAAAAAA");      /* 15 bytes */
    expect_key(400, "AAAAAAAAAAAAAAAAAAAAAAA=");  /* 17 bytes */
    expect_key(400, "AAAAAAAAAAAAAAAAAAAAAAAA");  /* 18 bytes */
    expect_key(400, "AAAAAAAAAAAAAAAAAAAAAA");    /* no padding */
    expect_key(400, "AAAAAAAAAAAAAAAAAAAAAA==="); /* too much */
    expect_key(400, "AAAAAAAAAA-AAAAAAAAA_A==");  /* the URL's alphabet */
    expect_key(400, "AAAAAAAAAA AAAAAAAAAAA==");
    expect_key(400, "AAAAAAAAAA=AAAAAAAAAAA==");
    expect_key(400, "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==");
}

Test(upgrade, other_versions_get_426)
{
    expect(426, KEY "Sec-WebSocket-Version: 8\r\n");
    expect(426, KEY "Sec-WebSocket-Version: 14\r\n");
    expect(426, KEY "Sec-WebSocket-Version: 013\r\n");
    expect(426, KEY "Sec-WebSocket-Version: 13, 8\r\n");
    expect(426, KEY "Sec-WebSocket-Version: 130\r\n");
    expect(426, KEY "Sec-WebSocket-Version:\r\n");
    expect(426, "Sec-WebSocket-Version: 0\r\n"); /* old ones have other keys */
}

Test(upgrade, the_version_stands_once)
{
    expect(400, KEY);
    expect(400, KEY VERSION VERSION);
    expect(400, KEY VERSION "Sec-WebSocket-Version: 8\r\n");
}

/* Origins ------------------------------------------------------------------------------------- */

static int check_origin(const char *origin, const char *const *allow, uint32_t count)
{
    const struct upgrade_policy policy = {.allow_origin = allow, .allow_origin_count = count};
    char fields[256];
    struct upgrade u;
    snprintf(fields, sizeof fields, KEY VERSION "Origin: %s\r\n", origin);
    return check(fields, &policy, &u);
}

Test(upgrade, without_a_list_the_origin_is_the_same_host_and_port)
{
    cr_assert_eq(check_origin("http://example.com:8000", NULL, 0), 101);
    cr_assert_eq(check_origin("https://EXAMPLE.com:8000", NULL, 0), 101);
    static const char *const bad[] = {"http://example.com",
                                      "http://example.com:8001",
                                      "http://example.org:8000",
                                      "http://a.example.com:8000",
                                      "http://xexample.com:8000",
                                      "example.com:8000",
                                      "null",
                                      "",
                                      "://example.com:8000",
                                      "http://",
                                      "ftp://example.com:8000",
                                      "http://example.com:8000/",
                                      "http://example.com:08x",
                                      "http://example.com:800000",
                                      "http://[::1:8000",
                                      "http://example.com:8000, null"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(check_origin(bad[i], NULL, 0), 403, "%s", bad[i]);
}

static int check_same_host(const char *host, const char *origin)
{
    static const struct http_limits limits = {.max_head_bytes = 4096, .max_headers = 32};
    struct http_request req;
    struct upgrade u;
    int n = snprintf(head, sizeof head,
                     "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     "Origin: %s\r\n" KEY VERSION "\r\n",
                     host, origin);
    cr_assert_eq(http_head_parse((uint8_t *)head, (size_t)n, &limits, &req), HTTP_OK);
    return upgrade_check(&req, &plain, &u);
}

Test(upgrade, an_unsaid_port_is_the_default_one)
{
    cr_assert_eq(check_same_host("a.b", "http://a.b"), 101);
    cr_assert_eq(check_same_host("a.b", "https://a.b"), 101);
    cr_assert_eq(check_same_host("a.b:80", "http://a.b"), 101);
    cr_assert_eq(check_same_host("a.b:443", "https://a.b"), 101);
    cr_assert_eq(check_same_host("a.b", "https://a.b:443"), 101);
    cr_assert_eq(check_same_host("a.b:", "http://a.b"), 101);
    cr_assert_eq(check_same_host("a.b:443", "http://a.b"), 403);
    cr_assert_eq(check_same_host("a.b", "http://a.b:443"), 403);
    cr_assert_eq(check_same_host("[::1]:9", "http://[::1]:9"), 101);
    cr_assert_eq(check_same_host("[::1]", "http://[::1]"), 101);
    cr_assert_eq(check_same_host("[::1]:9", "http://[::1]"), 403);
}

Test(upgrade, an_absolute_target_says_the_host)
{
    struct upgrade u;
    const char *line = "GET http://other.example/ HTTP/1.1";
    cr_assert_eq(check_request(line, KEY VERSION "Origin: http://other.example\r\n", &plain, &u),
                 101);
    cr_assert_eq(check_request(line, KEY VERSION "Origin: http://example.com:8000\r\n", &plain, &u),
                 403);
}

Test(upgrade, a_list_allows_what_it_names)
{
    static const struct {
        const char *entry, *origin;
        bool allowed;
    } cases[] = {
        {"https://example.org", "https://example.org", true},
        {"https://example.org", "HTTPS://Example.ORG", true},
        {"https://example.org", "https://example.org:443", true},
        {"https://example.org:443", "https://example.org", true},
        {"https://example.org", "http://example.org", false},
        {"https://example.org", "https://example.org:8443", false},
        {"https://example.org", "https://a.example.org", false},
        {"https://example.org", "https://example.org.evil.net", false},
        {"https://example.org", "http://example.com:8000", false}, /* the same host */
        {"http://localhost:3000", "http://localhost:3000", true},
        {"http://localhost:3000", "http://localhost", false},
        {"example.org", "https://example.org", true},
        {"example.org", "http://example.org", true},
        {"example.org", "ftp://example.org", false},
        {"example.org:81", "http://example.org:81", true},
        {"example.org:81", "http://example.org", false},
        {"*.example.org", "https://a.example.org", true},
        {"*.example.org", "http://a.b.EXAMPLE.org", true},
        {"*.example.org", "https://example.org", false},
        {"*.example.org", "https://.example.org", false},
        {"*.example.org", "https://aexample.org", false},
        {"*.example.org", "https://a.example.org.evil.net", false},
        {"*.example.org", "https://a.example.org:8443", false},
        {"*.example.org:8443", "https://a.example.org:8443", true},
        {"https://*.example.org", "https://a.example.org", true},
        {"https://*.example.org", "http://a.example.org", false},
        {"app://shell", "app://shell", true},
        {"app://shell", "app://shell2", false},
        {"*", "https://anything.example", true},
        {"*", "null", true},
        {"*", "not an origin", true},
        {"null", "null", true},
        {"null", "http://null", false},
        {"null", "example.org", false},
        {"example.org", "null", false},
        {"", "https://example.org", false},
        {"*.", "https://example.org", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_assert_eq(check_origin(cases[i].origin, &cases[i].entry, 1),
                     cases[i].allowed ? 101 : 403, "%s: %s", cases[i].entry, cases[i].origin);
}

Test(upgrade, any_entry_of_the_list_will_do)
{
    static const char *const allow[] = {"https://a.example", "*.b.example", "null"};
    cr_assert_eq(check_origin("https://a.example", allow, 3), 101);
    cr_assert_eq(check_origin("https://x.b.example", allow, 3), 101);
    cr_assert_eq(check_origin("null", allow, 3), 101);
    cr_assert_eq(check_origin("https://c.example", allow, 3), 403);
}

Test(upgrade, who_sends_no_origin_is_no_browser)
{
    static const char *const allow[] = {"https://a.example"};
    const struct upgrade_policy policy = {.allow_origin = allow, .allow_origin_count = 1};
    struct upgrade u;
    cr_assert_eq(check(KEY VERSION, &policy, &u), 101);
    cr_assert_eq(check(KEY VERSION, &plain, &u), 101);
}

Test(upgrade, the_origin_stands_once)
{
    expect(400,
           KEY VERSION "Origin: http://example.com:8000\r\nOrigin: http://example.com:8000\r\n");
}

/* Subprotocols and extensions ----------------------------------------------------------------- */

static const char *const ours[] = {"centrifuge-protobuf", "centrifuge-json"};
static const struct upgrade_policy two_protocols = {.subprotocols = ours, .subprotocol_count = 2};

Test(upgrade, the_first_of_our_subprotocols_that_is_offered_is_taken)
{
    static const struct {
        const char *fields, *chosen;
    } cases[] = {
        {"", NULL},
        {"Sec-WebSocket-Protocol: centrifuge-json\r\n", "centrifuge-json"},
        {"Sec-WebSocket-Protocol: centrifuge-json, centrifuge-protobuf\r\n", "centrifuge-protobuf"},
        {"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b , centrifuge-json\r\n",
         "centrifuge-json"},
        {"Sec-WebSocket-Protocol: other\r\n", NULL},
        {"Sec-WebSocket-Protocol: Centrifuge-JSON\r\n", NULL},
        {"Sec-WebSocket-Protocol: centrifuge-jso, centrifuge-jsonx\r\n", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char fields[256];
        struct upgrade u;
        snprintf(fields, sizeof fields, KEY VERSION "%s", cases[i].fields);
        cr_assert_eq(check(fields, &two_protocols, &u), 101);
        if (cases[i].chosen == NULL)
            cr_assert_null(u.subprotocol);
        else
            cr_assert_str_eq(u.subprotocol, cases[i].chosen);
    }
}

Test(upgrade, malformed_subprotocols_are_refused)
{
    expect(400, KEY VERSION "Sec-WebSocket-Protocol:\r\n");
    expect(400, KEY VERSION "Sec-WebSocket-Protocol: ,\r\n");
    expect(400, KEY VERSION "Sec-WebSocket-Protocol: a b\r\n");
    expect(400, KEY VERSION "Sec-WebSocket-Protocol: a, \"b\"\r\n");
    expect(400, KEY VERSION "Sec-WebSocket-Protocol: a/b\r\n");
    expect(400, KEY VERSION "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b@\r\n");
    expect(101, KEY VERSION "Sec-WebSocket-Protocol: a\r\n");
}

static const struct upgrade_policy compressing = {.compress = true};

Test(upgrade, compression_is_taken_where_it_is_allowed)
{
    struct upgrade u;
    const char *fields = KEY VERSION "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    cr_assert_eq(check(fields, &compressing, &u), 101);
    cr_assert(u.deflate.accepted);
    cr_assert_eq(check(fields, &plain, &u), 101);
    cr_assert_not(u.deflate.accepted);
}

Test(upgrade, extension_offers_may_be_spread_over_fields)
{
    struct upgrade u;
    cr_assert_eq(check(KEY VERSION
                       "Sec-WebSocket-Extensions: other\r\n"
                       "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n"
                       "Sec-WebSocket-Extensions: permessage-deflate\r\n",
                       &compressing, &u),
                 101);
    cr_assert(u.deflate.accepted);
    cr_assert_eq(u.deflate.server_max_window_bits, 10);
}

Test(upgrade, malformed_extensions_are_refused_whether_taken_or_not)
{
    struct upgrade u;
    static const char *const bad[] = {"", "a b", ";", "permessage-deflate;",
                                      "permessage-deflate, a="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char fields[256];
        snprintf(fields, sizeof fields, KEY VERSION "Sec-WebSocket-Extensions: %s\r\n", bad[i]);
        cr_assert_eq(check(fields, &compressing, &u), 400, "%s", bad[i]);
        cr_assert_eq(check(fields, &plain, &u), 400, "%s", bad[i]);
    }
}

Test(upgrade, the_longest_answer_fits)
{
    static const char *const longest[] = {
        "0123456789012345678901234567890123456789012345678901234567890123"};
    const struct upgrade_policy policy = {
        .subprotocols = longest, .subprotocol_count = 1, .compress = true};
    char fields[512], out[UPGRADE_RESPONSE_MAX + 1];
    struct upgrade u;
    snprintf(fields, sizeof fields,
             KEY VERSION "Sec-WebSocket-Protocol: %s\r\n"
                         "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; "
                         "server_max_window_bits=15\r\n",
             longest[0]);
    cr_assert_eq(check(fields, &policy, &u), 101);
    uint32_t len = upgrade_response(&u, out);
    cr_assert_leq(len, UPGRADE_RESPONSE_MAX);
    out[len] = '\0';
    char want[1024];
    snprintf(want, sizeof want,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
             "Sec-WebSocket-Protocol: %s\r\n"
             "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
             "client_no_context_takeover; server_max_window_bits=15\r\n\r\n",
             longest[0]);
    cr_assert_str_eq(out, want);
}
