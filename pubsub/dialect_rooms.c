/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Rooms and echo. On the shard's thread. */

#include "pubsub/dialect_rooms.h"

#include <string.h>

#include "net/compress.h"
#include "net/conn_reply.h"
#include "pubsub/hub_credit.h"
#include "pubsub/hub_fanout.h"
#include "pubsub/pubsub.h"

static const char rooms_prefix[] = "/rooms/";
#define ROOMS_PREFIX_LEN (sizeof(rooms_prefix) - 1)

enum rooms_kind { ROOMS_KIND_ROOM = 1, ROOMS_KIND_ECHO };

/* Requests
 * ------------------------------------------------------------------------------------------- */

/* The name behind /rooms/, percent-decoded into out (http's target is bounded, so is out). Returns
 * its length, or -1 when it is no name. */
static int32_t room_name(const struct http_request *req, uint8_t *out, size_t cap)
{
    const char *p = req->path + ROOMS_PREFIX_LEN;
    size_t len = req->path_len - ROOMS_PREFIX_LEN;
    int32_t n;

    if (len == 0 || len > cap || memchr(p, '/', len) != NULL)
        return -1;
    n = http_percent_decode(p, len, out);
    if (n < 1 || n > ROOMS_NAME_MAX || !simd->utf8_valid(out, (size_t)n))
        return -1;
    return n;
}

static void refuse(struct net_route *route, int status, const char *text, const char *extra)
{
    route->status = status;
    route->body = text;
    route->body_len = strlen(text);
    route->extra_headers = extra;
}

static bool is_room_path(const struct http_request *req)
{
    return req->path_len >= ROOMS_PREFIX_LEN &&
           memcmp(req->path, rooms_prefix, ROOMS_PREFIX_LEN) == 0;
}

static bool is_echo_path(const struct http_request *req)
{
    return req->path_len == 5 && memcmp(req->path, "/echo", 5) == 0;
}

bool rooms_route(const struct pubsub *p, const struct http_request *req, struct net_route *route)
{
    uint8_t name[ROOMS_NAME_MAX * 3];
    bool room = is_room_path(req);

    if (!room && !(p->config->echo && is_echo_path(req)))
        return false;
    if (req->method != HTTP_GET && req->method != HTTP_HEAD) {
        refuse(route, 405, "only GET is allowed here\n", "Allow: GET, HEAD\r\n");
    } else if (room && room_name(req, name, sizeof(name)) < 0) {
        refuse(route, 400, "a room's name is 1 to 255 bytes of UTF-8, percent-encoded\n", NULL);
    } else {
        route->websocket = true;
        route->kind = room ? ROOMS_KIND_ROOM : ROOMS_KIND_ECHO;
    }
    return true;
}

/* Sessions
 * ------------------------------------------------------------------------------------------- */

static bool wants_no_echo(const struct http_request *req)
{
    const char *value;
    size_t len;

    return http_query_get(req->query, req->query_len, "echo", &value, &len) && len == 1 &&
           value[0] == '0';
}

int rooms_on_open(void *ctx, struct conn *c, const struct http_request *req, uint32_t kind)
{
    struct pubsub *p = ctx;
    uint8_t name[ROOMS_NAME_MAX * 3];
    struct hub_member *m;
    int32_t len;
    int end;

    if (kind == ROOMS_KIND_ECHO)
        return CONN_END_NONE;
    len = room_name(req, name, sizeof(name));
    CHECK(len > 0); /* rooms_route() has seen it */
    m = pool_acquire(&p->members);
    if (m == NULL)
        return CONN_END_NO_MEMORY;
    *m = (struct hub_member){.conn = c};
    c->app_bits = wants_no_echo(req) ? HUB_CONN_NO_ECHO : 0;
    end = hub_join(&p->hub, name, (uint32_t)len, m);
    if (end != 0) {
        pool_release(&p->members, m);
        return end;
    }
    c->session = m;
    pubsub_stat(p, PUBSUB_STAT_JOINS);
    stats_inc(&p->stats[PUBSUB_STAT_MEMBERS]);
    return CONN_END_NONE;
}

struct hub_member *hub_member_of(struct conn *c)
{
    return c->session;
}

void rooms_on_close(void *ctx, struct conn *c)
{
    struct pubsub *p = ctx;
    struct hub_member *m = c->session;

    if (m == NULL)
        return; /* echo */
    hub_leave(&p->hub, m);
    c->session = NULL;
    pool_release(&p->members, m);
    stats_sub(&p->stats[PUBSUB_STAT_MEMBERS], 1);
}

/* Messages
 * ------------------------------------------------------------------------------------------- */

/* An echo as a message of its own. The three ways of a message are out of line, so that none of
 * them saves registers for another. */
__attribute__((noinline)) static bool echo_message(struct pubsub *p, struct conn *c,
                                                   struct net_message *in)
{
    struct shard *s = p->shard;
    struct message *m = net_message_take(p->net, in), *z;
    struct run *r;

    if (unlikely(m == NULL)) {
        conn_end(c, CONN_END_NO_MEMORY);
        return true;
    }
    net_message_frame(m, false);
    z = compress_suits(c, m->payload_len) ? compress_message(p->net, m) : NULL;
    if (z != NULL) {
        shard_message_release(s, m);
        m = z;
    }
    r = run_new(&s->messages, m);
    if (unlikely(r == NULL)) {
        shard_message_release(s, m);
        conn_end(c, CONN_END_NO_MEMORY);
        return true;
    }
    conn_queue(c, r, 0, r->len);
    shard_run_unref(s, r);
    return true;
}

/* An echo beside others. */
__attribute__((noinline)) static bool echo_reply(struct pubsub *p, struct conn *c,
                                                 struct net_message *in)
{
    uint8_t *to = conn_reply(c, in->opcode, (uint32_t)in->payload.len, in->rest);

    if (likely(to != NULL)) {
        net_stat(p->net, NET_STAT_PAYLOAD_COPIES);
        simd->unmask(to, in->payload.ptr, in->payload.len, in->key);
    }
    return true;
}

__attribute__((noinline)) static bool publish(struct pubsub *p, struct conn *c,
                                              struct net_message *in)
{
    struct hub_member *member = c->session;
    struct message *m;

    if (unlikely(!hub_may_publish(&p->hub, member))) {
        conn_hold(c, CONN_HOLD_CREDIT);
        hub_wait(&p->hub, member, in->payload.len);
        return false;
    }
    m = net_message_take(p->net, in);
    if (unlikely(m == NULL)) {
        conn_end(c, CONN_END_NO_MEMORY);
        return true;
    }
    net_message_frame(m, false);
    m->sender = c->app_bits & HUB_CONN_NO_ECHO ? conn_handle(c) : 0;
    m->sender_shard = (uint16_t)p->shard->idx;
    hub_credit_settle(&p->hub, member);
    hub_publish(&p->hub, member->channel, m);
    return true;
}

bool rooms_on_message(void *ctx, struct conn *c, struct net_message *in)
{
    if (c->session != NULL)
        return publish(ctx, c, in);
    if (!conn_reply_suits(c, in) || unlikely(c->flags & CONN_F_DEFLATE))
        return echo_message(ctx, c, in);
    return echo_reply(ctx, c, in);
}
