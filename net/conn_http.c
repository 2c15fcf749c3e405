/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The HTTP part of a connection: heads, answers, the opening handshake. On the shard's thread. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn.h"
#include "net/conn_rx.h"

/* Answers of one connection that may wait unsent before its further requests do. */
#define PIPELINE_BYTES_MAX (64u << 10)
/* What a TLS client says first (RFC 8446 5.1: a record of type handshake); no method begins so. */
#define TLS_HANDSHAKE_BYTE 22

static void count_status(struct net *n, int status)
{
    static const struct {
        int status;
        int stat;
    } rows[] = {
        {101, NET_STAT_HTTP_101}, {200, NET_STAT_HTTP_200}, {304, NET_STAT_HTTP_304},
        {400, NET_STAT_HTTP_400}, {403, NET_STAT_HTTP_403}, {404, NET_STAT_HTTP_404},
        {405, NET_STAT_HTTP_405}, {408, NET_STAT_HTTP_408}, {413, NET_STAT_HTTP_413},
        {414, NET_STAT_HTTP_414}, {426, NET_STAT_HTTP_426}, {429, NET_STAT_HTTP_429},
        {431, NET_STAT_HTTP_431}, {501, NET_STAT_HTTP_501}, {503, NET_STAT_HTTP_503},
        {505, NET_STAT_HTTP_505},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].status == status) {
            net_stat(n, (enum net_stat)rows[i].stat);
            return;
        }
    }
    net_stat(n, NET_STAT_HTTP_OTHER);
}

struct answer {
    int status;
    const char *content_type;
    const char *extra; /* whole header lines, or NULL */
    const void *body;
    size_t len;
    bool head_only; /* HEAD: the length is told, the body is not sent */
    bool keep_alive;
};

static void send_answer(struct conn *c, const struct answer *a)
{
    char head[1024];
    int len =
        snprintf(head, sizeof(head),
                 "HTTP/1.1 %d %s\r\n"
                 "Date: %s\r\n"
                 "Content-Type: %s\r\n"
                 "Content-Length: %zu\r\n"
                 "X-Content-Type-Options: nosniff\r\n"
                 "Connection: %s\r\n"
                 "%s\r\n",
                 a->status, http_status_text(a->status), http_date_now(&c->net->date, c->net->io),
                 a->content_type != NULL ? a->content_type : "text/plain; charset=utf-8", a->len,
                 a->keep_alive ? "keep-alive" : "close", a->extra != NULL ? a->extra : "");
    bool ok = len > 0 && (size_t)len < sizeof(head) && conn_queue_bytes(c, head, (uint32_t)len);

    if (ok && a->len > 0 && !a->head_only)
        ok = conn_queue_bytes(c, a->body, (uint32_t)a->len);
    count_status(c->net, a->status);
    if (!ok)
        conn_end(c, CONN_END_NO_MEMORY);
    else if (!a->keep_alive)
        conn_end(c, a->status >= 400 ? CONN_END_HTTP_REFUSED : CONN_END_HTTP_DONE);
}

/* A refusal in one line of text, of req, or of what was not understood (NULL). */
static void refuse_request(struct conn *c, const struct http_request *req, int status,
                           const char *problem, const char *extra)
{
    char body[256];
    int len = snprintf(body, sizeof(body), "%d %s: %s\n", status, http_status_text(status),
                       problem != NULL ? problem : "refused");
    struct answer a = {.status = status,
                       .extra = extra,
                       .body = body,
                       .len = min_size((size_t)len, sizeof(body) - 1),
                       .head_only = req != NULL && req->method == HTTP_HEAD};

    send_answer(c, &a);
}

/* By a limit or a drain. The first reason given stays, so that it is the limit that is counted. */
static void refuse_limited(struct conn *c, const struct http_request *req)
{
    conn_end(c, (enum conn_end)c->refuse);
    refuse_request(c, req, 503, conn_end_text((enum conn_end)c->refuse), "Retry-After: 5\r\n");
}

void conn_http_plain_on_tls(struct conn *c)
{
    refuse_request(c, NULL, 400, "this port speaks TLS: use https:// or wss://", NULL);
}

/* A TLS client without keys can read no answer. */
static bool is_mute(const struct conn *c)
{
    return (c->flags & (CONN_F_TLS | CONN_F_TLS_OPEN)) == CONN_F_TLS;
}

void conn_http_timeout(struct conn *c)
{
    bool is_begun = c->state == CONN_HEAD && c->rx != NULL && c->rx->head_len > 0;

    if (is_mute(c)) {
        conn_end(c, c->refuse != CONN_END_NONE ? (enum conn_end)c->refuse
                                               : CONN_END_HANDSHAKE_TIMEOUT);
        return;
    }
    if (c->refuse != CONN_END_NONE) {
        refuse_limited(c, NULL);
        return;
    }
    conn_end(c, CONN_END_HANDSHAKE_TIMEOUT);
    if (is_begun)
        refuse_request(c, NULL, 408, "the request head was not completed in time", NULL);
}

void conn_http_last_words(struct conn *c)
{
    enum conn_end why = (enum conn_end)c->end;

    if (!is_mute(c) && conn_end_code(why) != 0 && why != CONN_END_DRAIN)
        refuse_request(c, NULL, why == CONN_END_BYTE_RATE ? 429 : 503, conn_end_text(why),
                       "Retry-After: 5\r\n");
}

/* RFC 6455 4.2.2, and from here on frames. */
static void accept_upgrade(struct conn *c, const struct http_request *req,
                           const struct net_route *route, const struct upgrade *u)
{
    struct net *n = c->net;
    char text[UPGRADE_RESPONSE_MAX];
    int why;

    if (!conn_queue_bytes(c, text, upgrade_response(u, text))) {
        conn_end(c, CONN_END_NO_MEMORY);
        return;
    }
    count_status(n, 101);
    stats_inc(&n->stats[NET_STAT_WEBSOCKETS]);
    c->flags |= CONN_F_WS;
    if (u->deflate.accepted) {
        c->flags |= CONN_F_DEFLATE;
        c->window_bits = u->deflate.server_max_window_bits;
    }
    c->state = CONN_OPEN;
    conn_clear_deadline(c);
    if (c->refuse != CONN_END_NONE) {
        conn_end(c, c->refuse);
        return;
    }
    why = n->app->on_open(n->app_ctx, c, req, route->kind);
    if (why == CONN_END_NONE)
        c->flags |= CONN_F_SESSION;
    else
        conn_end(c, (enum conn_end)why);
}

static void upgrade(struct conn *c, const struct http_request *req, const struct net_route *route)
{
    const struct net_config *cfg = c->net->config;
    struct upgrade_policy policy = {
        .allow_origin = (const char *const *)cfg->allow_origin.items,
        .allow_origin_count = cfg->allow_origin.count,
        .subprotocols = route->subprotocols,
        .subprotocol_count = route->subprotocol_count,
        .compress = cfg->compress != 0,
    };
    struct upgrade u;
    int status = upgrade_check(req, &policy, &u);

    if (status == 101)
        accept_upgrade(c, req, route, &u);
    else if (status == 426)
        refuse_request(c, req, status, u.problem,
                       "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n");
    else
        refuse_request(c, req, status, u.problem, NULL);
}

static void answer_route(struct conn *c, const struct http_request *req,
                         const struct net_route *route)
{
    struct answer a = {
        .status = route->status,
        .content_type = route->content_type,
        .extra = route->extra_headers,
        .body = route->body,
        .len = route->body_len,
        .head_only = req->method == HTTP_HEAD,
        .keep_alive = req->keep_alive && !req->has_body && !c->net->draining,
    };

    send_answer(c, &a);
    if (c->state != CONN_HEAD)
        return;
    conn_set_deadline(c, c->net->config->handshake_timeout_ns);
    if (c->sendq.bytes > PIPELINE_BYTES_MAX)
        conn_hold(c, CONN_HOLD_OUTPUT);
}

static void handle_head(struct conn *c, const uint8_t *p, size_t len)
{
    struct net *n = c->net;
    struct http_request req;
    struct net_route route = {0};
    enum http_result r = http_head_parse(p, len, &n->http_limits, &req);

    if (r != HTTP_OK) {
        refuse_request(c, NULL, (int)r, req.problem, NULL);
        return;
    }
    net_stat(n, NET_STAT_HEADS);
    if (n->draining && c->refuse == CONN_END_NONE && !(c->flags & CONN_F_ADMIN))
        c->refuse = CONN_END_DRAIN;
    n->app->on_request(n->app_ctx, c, &req, &route);
    if (route.websocket && req.upgrade_websocket) {
        upgrade(c, &req, &route);
    } else if (c->refuse != CONN_END_NONE) {
        refuse_limited(c, &req);
    } else if (route.websocket) {
        refuse_request(c, &req, 426, "this resource speaks WebSocket only",
                       "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    } else {
        answer_route(c, &req, &route);
    }
    free(route.body_free);
}

static void refuse_head(struct conn *c, enum http_result r)
{
    const char *problem = r == HTTP_URI_TOO_LONG     ? "the request target is too long"
                          : r == HTTP_HEAD_TOO_LARGE ? "the request head is over --max-head"
                                                     : "the request head is malformed";

    refuse_request(c, NULL, (int)r, problem, NULL);
}

/* The usual case: the whole head lies in what has just come. */
static bool whole_head(struct conn *c, struct bytes *in, struct http_scan *scan)
{
    size_t head_len;
    enum http_result r = http_head_find(scan, &c->net->http_limits, in->ptr, in->len, &head_len);

    if (r == HTTP_MORE)
        return false;
    if (r == HTTP_OK) {
        const uint8_t *head = in->ptr;

        in->ptr += head_len;
        in->len -= head_len;
        handle_head(c, head, head_len);
    } else {
        refuse_head(c, r);
    }
    return true;
}

/* How much more of a head is of interest; 0: the limit was lowered meanwhile, and it is too long.
 */
static size_t head_room(const struct conn *c)
{
    uint32_t wanted = c->net->http_limits.max_head_bytes + 1;

    return c->rx->head_len < wanted ? wanted - c->rx->head_len : 0;
}

/* A head that came in parts is collected; bytes behind its end go back to the input. */
static void cut_head(struct conn *c, struct bytes *in)
{
    struct conn_rx *rx = c->rx;
    size_t take = min_size(in->len, head_room(c));
    uint32_t before = rx->head_len;
    size_t head_len;
    enum http_result r;
    struct message *head;

    if (!conn_rx_append(c, &rx->head, &rx->head_len, in->ptr, take, 1024))
        return;
    r = http_head_find(&rx->scan, &c->net->http_limits, message_payload(rx->head), rx->head_len,
                       &head_len);
    if (r == HTTP_MORE) {
        in->ptr += take;
        in->len -= take;
        return;
    }
    if (r != HTTP_OK) {
        refuse_head(c, r);
        return;
    }
    in->ptr += head_len - before;
    in->len -= head_len - before;
    head = conn_rx_take(c, &rx->head, (uint32_t)head_len);
    rx->head_len = 0;
    rx->scan = (struct http_scan){0};
    conn_rx_trim(c);
    handle_head(c, message_payload(head), head_len);
    message_free(&c->net->shard->messages, head);
}

void conn_http_input(struct conn *c, struct bytes *in)
{
    struct http_scan scan = {0};
    struct conn_rx *rx;

    if (c->rx == NULL || c->rx->head_len == 0) {
        if (unlikely(in->ptr[0] == TLS_HANDSHAKE_BYTE && !(c->flags & CONN_F_TLS))) {
            conn_end(c, CONN_END_TLS_ON_PLAIN);
            in->len = 0;
            return;
        }
        if (whole_head(c, in, &scan))
            return;
        rx = conn_rx_get(c);
        if (rx == NULL)
            return;
        rx->scan = (struct http_scan){0};
    }
    cut_head(c, in);
}
