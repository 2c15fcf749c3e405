/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Request heads: any split gives the same result, views lie inside the head, and an accepted head,
 * written anew from its views, parses to the same request. Input: a byte of seed for the splits, a
 * byte of head limit in units of 16, then what a client sends. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETTINGS_BYTES = 2 };

static enum http_result find(const struct http_limits *limits, const uint8_t *p, size_t len,
                             uint32_t seed, size_t *head_len)
{
    struct http_scan s = {0};
    enum http_result r = HTTP_MORE;
    for (size_t n = seed == 0 ? len : 0; r == HTTP_MORE;) {
        r = http_head_find(&s, limits, p, n, head_len);
        if (n == len)
            break;
        seed = seed * 1664525 + 1013904223;
        n = min_size(len, n + 1 + (seed >> 28));
    }
    return r;
}

static void check_view(const char *view, size_t len, const uint8_t *p, size_t head_len)
{
    const char *head = (const char *)p;
    if (len == 1 && *view == '/') /* may be the constant of an absolute-form without a path */
        return;
    if (len > 0) {
        CHECK(view >= head);
        CHECK(view + len <= head + head_len);
    }
}

static void check_views(const struct http_request *req, const uint8_t *p, size_t head_len)
{
    check_view(req->target, req->target_len, p, head_len);
    check_view(req->path, req->path_len, p, head_len);
    check_view(req->query, req->query_len, p, head_len);
    check_view(req->host, req->host_len, p, head_len);
    CHECK(req->path_len > 0);
    for (uint32_t i = 0; i < req->header_count; i++) {
        const struct http_header *h = &req->headers[i];
        CHECK(h->name_len > 0);
        check_view(h->name, h->name_len, p, head_len);
        if (h->value_len > 0) {
            CHECK(h->value > h->name);
            CHECK((const uint8_t *)h->value + h->value_len <= p + head_len);
        }
    }
}

/* What callers do with a request stays inside of it too. */
static void use_request(const struct http_request *req)
{
    uint8_t *decoded = malloc(req->path_len);
    CHECK(decoded != NULL);
    CHECK(http_percent_decode(req->path, req->path_len, decoded) <= req->path_len);
    free(decoded);
    const char *value;
    size_t value_len;
    if (http_query_get(req->query, req->query_len, "echo", &value, &value_len)) {
        CHECK(value >= req->query);
        CHECK(value + value_len <= req->query + req->query_len);
    }
    for (uint32_t i = 0; i < req->header_count; i++) {
        const struct http_header *h = &req->headers[i];
        const char *at = h->value, *end = h->value + h->value_len, *element;
        for (size_t len; http_list_next(&at, end, &element, &len);) {
            CHECK(len > 0);
            CHECK(element >= h->value);
            CHECK(element + len <= at);
            CHECK(at <= end);
        }
    }
}

/* The request as its views have it; the length, without a terminating zero. */
static size_t write_anew(const struct http_request *req, const uint8_t *p, char *out, size_t size)
{
    while (*p == '\r' || *p == '\n')
        p++;
    size_t method_len = (size_t)((const uint8_t *)strchr((const char *)p, ' ') - p);
    int n = snprintf(out, size, "%.*s %.*s%s%.*s HTTP/1.%d\r\n", (int)method_len, (const char *)p,
                     req->path_len, req->path, req->query_len > 0 ? "?" : "", req->query_len,
                     req->query, req->minor);
    for (uint32_t i = 0; i < req->header_count; i++) {
        const struct http_header *h = &req->headers[i];
        bool host = http_name_is(h, "host");
        n += snprintf(out + n, size - (size_t)n, "%.*s:%.*s\r\n", h->name_len, h->name,
                      host ? req->host_len : h->value_len, host ? req->host : h->value);
    }
    n += snprintf(out + n, size - (size_t)n, "\r\n");
    CHECK((size_t)n < size);
    return (size_t)n;
}

static void check_same_view(const char *a, size_t a_len, const char *b, size_t b_len)
{
    CHECK(a_len == b_len);
    CHECK(a_len == 0 || memcmp(a, b, a_len) == 0);
}

static void check_again(const struct http_request *req, const uint8_t *p)
{
    const struct http_limits limits = {
        .max_head_bytes = 65535, .max_headers = HTTP_HEADERS_MAX, .max_target_bytes = 65535};
    const size_t head_size = 65536;
    char *head = malloc(head_size);
    struct http_request again;
    CHECK(head != NULL);
    size_t len = write_anew(req, p, head, head_size), head_len = 0;
    CHECK(find(&limits, (uint8_t *)head, len, 0, &head_len) == HTTP_OK);
    CHECK(head_len == len);
    CHECK(http_head_parse((uint8_t *)head, len, &limits, &again) == HTTP_OK);
    CHECK(again.method == req->method);
    CHECK(again.minor == req->minor);
    CHECK(again.keep_alive == req->keep_alive);
    CHECK(again.has_body == req->has_body);
    CHECK(again.chunked == req->chunked);
    CHECK(again.upgrade_websocket == req->upgrade_websocket);
    CHECK(again.content_length == req->content_length);
    check_same_view(again.path, again.path_len, req->path, req->path_len);
    check_same_view(again.query, again.query_len, req->query, req->query_len);
    CHECK(again.header_count == req->header_count);
    if (http_header(req, "host") != NULL)
        check_same_view(again.host, again.host_len, req->host, req->host_len);
    free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < SETTINGS_BYTES)
        return 0;
    const struct http_limits limits = {.max_head_bytes = 16u * (data[1] + 1u), .max_headers = 64};
    size_t len = size - SETTINGS_BYTES, head_len = 0, split_len = 0;
    uint8_t *p = malloc(len + 1);
    CHECK(p != NULL);
    memcpy(p, data + SETTINGS_BYTES, len);
    p[len] = '\0';
    enum http_result r = find(&limits, p, len, 0, &head_len);
    CHECK(find(&limits, p, len, data[0] + 1u, &split_len) == r);
    CHECK(head_len == split_len);

    struct http_request req;
    if (r != HTTP_OK) /* the parser may be called all the same */
        head_len = len;
    enum http_result parsed = http_head_parse(p, head_len, &limits, &req);
    if (parsed != HTTP_OK) /* a status that has a name */
        CHECK(strcmp(http_status_text((int)parsed), "Unknown") != 0);
    if (r == HTTP_BAD_REQUEST)
        CHECK(parsed != HTTP_OK);
    CHECK((parsed == HTTP_OK) == (req.problem == NULL));
    if (parsed == HTTP_OK) {
        check_views(&req, p, head_len);
        use_request(&req);
        check_again(&req, p);
    }
    free(p);
    return 0;
}
