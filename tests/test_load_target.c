/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* tools/load/target.h and handshake.h: URLs, paths with places, the client's half of the upgrade.
 */

#include "tools/load/target.h"

#include <arpa/inet.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tools/load/handshake.h"

Test(load_target, an_url_is_taken_apart)
{
    struct target t;
    cr_assert_null(target_resolve("ws://127.0.0.1:8000/rooms/a?echo=0", &t));
    cr_assert_eq(t.addr.port, 8000);
    cr_assert_eq(t.addr.family, AF_INET);
    cr_assert(t.is_loopback);
    cr_assert_str_eq(t.host, "127.0.0.1:8000");
    cr_assert_str_eq(t.path, "/rooms/a?echo=0");
    cr_assert_null(target_resolve("ws://[::1]", &t));
    cr_assert_eq(t.addr.port, 80);
    cr_assert_eq(t.addr.family, AF_INET6);
    cr_assert_not(t.is_loopback);
    cr_assert_str_eq(t.host, "[::1]");
    cr_assert_str_eq(t.path, "");
}

Test(load_target, wrong_urls_and_paths_are_refused)
{
    static const char *const urls[] = {"http://a/",  "ws://",          "ws://:80/",  "ws://a:/",
                                       "ws://a:0/",  "ws://a:65536/",  "ws://a:8x/", "ws://[::1/",
                                       "ws://a?x=1", "ws://a/{nope}/", "ws://a/b c", "ws://[]/"};
    static const char *const good[] = {"ws://a", "ws://a:1", "ws://a/{n}/{room}?r={run}"};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++)
        cr_expect_not_null(target_check(urls[i]), "%s", urls[i]);
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        cr_expect_null(target_check(good[i]), "%s", good[i]);
    cr_expect_not_null(target_check_path("rooms"));
}

Test(load_target, places_are_filled_in)
{
    char path[TARGET_PATH_MAX];
    struct target_values v = {.connection = 12, .room = 3, .run = 4567};
    uint32_t len = target_fill("/a{n}/{room}-{run}?x={n}", &v, path);
    cr_assert_str_eq(path, "/a12/3-4567?x=12");
    cr_assert_eq(len, strlen(path));
}

#define GOOD_ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define GOOD_HEAD                                                                                  \
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\n"            \
    "sec-websocket-accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo= \r\n"

static struct handshake_answer read_head(const char *head, bool compress)
{
    struct handshake_answer a;
    cr_assert_eq(handshake_head_len((const uint8_t *)head, strlen(head)), strlen(head));
    handshake_read((const uint8_t *)head, strlen(head), compress, &a);
    return a;
}

Test(load_handshake, a_good_answer_is_taken)
{
    struct handshake_answer a = read_head(GOOD_HEAD "\r\n", false);
    cr_assert_null(a.problem, "%s", a.problem);
    cr_assert_eq(a.status, 101);
    cr_assert_not(a.compressed);
}

Test(load_handshake, compression_is_taken_only_without_context_and_as_offered)
{
    struct handshake_answer a =
        read_head(GOOD_HEAD "Sec-WebSocket-Extensions: permessage-deflate; "
                            "server_no_context_takeover; client_no_context_takeover\r\n\r\n",
                  true);
    cr_assert_null(a.problem, "%s", a.problem);
    cr_assert(a.compressed);
    cr_assert_not_null(read_head(GOOD_HEAD "\r\n", true).problem);
    cr_assert_not_null(
        read_head(GOOD_HEAD "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", true).problem);
    cr_assert_not_null(read_head(GOOD_HEAD "Sec-WebSocket-Extensions: permessage-deflate; "
                                           "server_no_context_takeover\r\n\r\n",
                                 false)
                           .problem);
}

Test(load_handshake, other_answers_are_refused)
{
    static const char *const heads[] = {
        "HTTP/1.1 503 Service Unavailable\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 OK\r\nUpgrade: h2c\r\n" GOOD_ACCEPT "\r\n",
        "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cr_expect_not_null(read_head(heads[i], false).problem, "%s", heads[i]);
    cr_expect_eq(read_head(heads[0], false).status, 503);
}

Test(load_handshake, a_head_is_complete_at_its_empty_line_and_not_before)
{
    static const char head[] = GOOD_HEAD "\r\n\x82\x00";
    size_t whole = sizeof(head) - 3;
    for (size_t len = 0; len < sizeof(head); len++)
        cr_assert_eq(handshake_head_len((const uint8_t *)head, len), len >= whole ? whole : 0);
}

Test(load_handshake, the_request_names_host_path_and_offer)
{
    char out[HANDSHAKE_REQUEST_MAX];
    uint32_t len = handshake_request(out, "example.org:81", "/echo?a=1", true);
    cr_assert_eq(len, strlen(out));
    cr_assert_eq(strncmp(out, "GET /echo?a=1 HTTP/1.1\r\n", 24), 0);
    cr_assert_not_null(strstr(out, "\r\nHost: example.org:81\r\n"));
    cr_assert_not_null(strstr(out, "permessage-deflate; server_no_context_takeover"));
    cr_assert_str_eq(out + len - 4, "\r\n\r\n");
    handshake_request(out, "h", "/", false);
    cr_assert_null(strstr(out, "Extensions"));
}
