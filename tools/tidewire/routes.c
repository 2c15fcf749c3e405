/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Requests to resources. On the shards' threads; /metrics reads other shards' counters, relaxed. */

#include "tools/tidewire/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/dialect_rooms.h"
#include "tools/tidewire/web_files.h"

/* The page loads its own files and talks to its own host, nothing else. */
#define PAGE_HEADERS                                                                               \
    "Content-Security-Policy: default-src 'self'; connect-src 'self' ws: wss:; "                   \
    "img-src 'self' data:; "                                                                       \
    "frame-ancestors 'none'\r\n"                                                                   \
    "Referrer-Policy: no-referrer\r\n"                                                             \
    "Cache-Control: no-cache\r\n"

static bool path_is(const struct http_request *req, const char *path)
{
    return req->path_len == strlen(path) && memcmp(req->path, path, req->path_len) == 0;
}

static void answer_text(struct net_route *route, int status, const char *text)
{
    route->status = status;
    route->body = text;
    route->body_len = strlen(text);
}

static bool is_readable(const struct http_request *req, struct net_route *route)
{
    if (req->method == HTTP_GET || req->method == HTTP_HEAD)
        return true;
    answer_text(route, 405, "only GET and HEAD are allowed here\n");
    route->extra_headers = "Allow: GET, HEAD\r\n";
    return false;
}

static void answer_metrics(const struct routes *r, struct net_route *route)
{
    size_t need = stats_render(r->shared->stats, NULL, 0);
    size_t cap = need + need / 8 + 64; /* numbers may grow meanwhile */
    char *text = malloc(cap);

    if (text == NULL) {
        answer_text(route, 503, "out of memory\n");
        return;
    }
    route->status = 200;
    route->content_type = "text/plain; version=0.0.4; charset=utf-8";
    route->body_len = min_size(stats_render(r->shared->stats, text, cap), cap - 1);
    route->body = text;
    route->body_free = text;
}

static bool redis_is_away(const struct routes *r)
{
    return r->shared->redis != NULL && !redis_shared_is_up(r->shared->redis);
}

static void admin_request(const struct routes *r, const struct http_request *req,
                          struct net_route *route)
{
    bool running =
        atomic_load_explicit(&r->shared->node->phase, memory_order_relaxed) == NODE_RUNNING;

    if (!is_readable(req, route))
        return;
    if (path_is(req, "/metrics"))
        answer_metrics(r, route);
    else if (path_is(req, "/health/ready") && running && redis_is_away(r))
        answer_text(route, 503, "redis is away\n");
    else if (path_is(req, "/health") || path_is(req, "/health/ready"))
        answer_text(route, running ? 200 : 503, running ? "ok\n" : "draining\n");
    else if (path_is(req, "/health/live"))
        answer_text(route, 200, "ok\n");
    else
        answer_text(route, 404, "known here: /metrics, /health, /health/ready, /health/live\n");
}

static const char *content_type_of(const char *name)
{
    const char *dot = strrchr(name, '.');

    if (dot != NULL && strcmp(dot, ".html") == 0)
        return "text/html; charset=utf-8";
    if (dot != NULL && strcmp(dot, ".css") == 0)
        return "text/css; charset=utf-8";
    if (dot != NULL && strcmp(dot, ".js") == 0)
        return "text/javascript; charset=utf-8";
    return "application/octet-stream";
}

static bool page_request(const struct http_request *req, struct net_route *route)
{
    const char *name = req->path + 1;
    size_t len = req->path_len - 1u;

    if (req->path_len == 1) {
        name = "index.html";
        len = strlen(name);
    }
    for (const struct web_file *f = web_files; f->name != NULL; f++) {
        if (strlen(f->name) != len || memcmp(f->name, name, len) != 0)
            continue;
        if (!is_readable(req, route))
            return true;
        route->status = 200;
        route->content_type = content_type_of(f->name);
        route->extra_headers = PAGE_HEADERS;
        route->body = f->bytes;
        route->body_len = f->len;
        return true;
    }
    return false;
}

/* Whether text may stand in a header line as it is. */
static bool is_printable(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] <= ' ' || p[i] == 0x7f)
            return false;
    }
    return true;
}

/* The length of a Host value without its port (RFC 9112 3.2, RFC 3986 3.2.2). */
static size_t host_only(const char *host, size_t len)
{
    const char *end = host[0] == '[' ? memchr(host, ']', len) : NULL;
    const char *from = end != NULL ? end : host;
    const char *colon = memchr(from, ':', len - (size_t)(from - host));

    return colon == NULL ? len : (size_t)(colon - host);
}

/* RFC 9110 15.4: 301 where the method may become GET, 308 where it may not. */
static void redirect(const struct http_request *req, uint16_t port, struct net_route *route)
{
    size_t cap = sizeof("Location: https://:65535\r\n") + req->host_len + req->target_len;
    char *lines, port_text[8] = "";

    if (req->host_len == 0 || req->target_len == 0 || req->target[0] != '/' ||
        !is_printable(req->host, req->host_len) || !is_printable(req->target, req->target_len)) {
        answer_text(route, 400, "use https:// or wss:// here\n");
        return;
    }
    lines = malloc(cap);
    if (lines == NULL) {
        answer_text(route, 503, "out of memory\n");
        return;
    }
    if (port != 443)
        snprintf(port_text, sizeof(port_text), ":%u", port);
    snprintf(lines, cap, "Location: https://%.*s%s%.*s\r\n",
             (int)host_only(req->host, req->host_len), req->host, port_text, (int)req->target_len,
             req->target);
    answer_text(route, req->method == HTTP_GET || req->method == HTTP_HEAD ? 301 : 308,
                "use https:// or wss:// here\n");
    route->extra_headers = lines;
    route->body_free = lines;
}

/* What goes by the network without TLS, and shall not. */
static bool is_led_away(const struct routes *r, const struct conn *c)
{
    return r->shared->redirect_port != 0 && !(c->flags & (CONN_F_TLS | CONN_F_ADMIN)) &&
           c->peer.family != AF_UNIX;
}

static void on_request(void *ctx, struct conn *c, const struct http_request *req,
                       struct net_route *route)
{
    const struct routes *r = container_of(ctx, struct routes, pubsub);

    if (c->flags & CONN_F_ADMIN)
        admin_request(r, req, route);
    else if (is_led_away(r, c))
        redirect(req, r->shared->redirect_port, route);
    else if (!rooms_route(&r->pubsub, req, route) &&
             !(r->shared->page && req->path_len > 0 && page_request(req, route)))
        answer_text(route, 404, "not found\n");
}

const struct net_app routes_app = {
    .on_request = on_request,
    .on_open = rooms_on_open,
    .on_message = rooms_on_message,
    .on_close = rooms_on_close,
};
