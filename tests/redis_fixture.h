/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_REDIS_FIXTURE_H
#define TESTS_REDIS_FIXTURE_H

/* A link on the simulated io, the simulated Redis it connects to, and what the link was told. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/redis_link.h"
#include "tests/sim/sim_redis.h"

#define TOLD_MAX 4096

struct told_reply {
    uint64_t tag;
    int64_t integer;
    uint8_t type;
    bool lost;
    bool was_sent; /* of the lost */
    char text[64];
};

struct told_push {
    uint8_t kind;
    bool sharded;
    char channel[64];
    char payload[64];
    uint32_t payload_len;
    uint64_t checksum; /* of the payload */
};

struct link_rig {
    struct sim_net *net;
    struct io *io;
    struct sim_redis redis;
    struct redis_link link;
    struct message_pool messages;
    bool busy; /* the server had something to do */
    struct redis_link_config config;
    uint32_t ups, downs, replies_count, pushes_count, released;
    enum redis_down why; /* of the last on_down() */
    bool was_up;
    char text[256];
    struct told_reply replies[TOLD_MAX];
    struct told_push pushes[TOLD_MAX];
    void (*in_reply)(struct link_rig *r); /* called at the end of on_reply(), once */
    void (*in_push)(struct link_rig *r);
};

static inline struct link_rig *rig_of(struct redis_link *l)
{
    return l->owner;
}

static inline uint64_t checksum_of(const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint64_t sum = 0xcbf29ce484222325;

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ p[i]) * 0x100000001b3;
    return sum;
}

static inline void told_up(struct redis_link *l)
{
    cr_assert(redis_link_is_up(l));
    rig_of(l)->ups++;
}

static inline void told_down(struct redis_link *l, enum redis_down why, const char *text,
                             bool was_up)
{
    struct link_rig *r = rig_of(l);

    cr_assert_eq(l->unanswered, 0, "everything was told as lost before");
    cr_assert_eq(l->unanswered_bytes, 0);
    r->downs++;
    r->why = why;
    r->was_up = was_up;
    snprintf(r->text, sizeof(r->text), "%s", text);
}

static inline struct told_reply *next_reply(struct link_rig *r, uint64_t tag)
{
    struct told_reply *t = &r->replies[r->replies_count++];

    cr_assert_leq(r->replies_count, TOLD_MAX);
    *t = (struct told_reply){.tag = tag};
    return t;
}

static inline void told_reply(struct redis_link *l, uint64_t tag, const struct redis_reply *reply)
{
    struct link_rig *r = rig_of(l);
    struct told_reply *t = next_reply(r, tag);
    void (*then)(struct link_rig *) = r->in_reply;

    t->type = reply->type;
    if (reply->type == REDIS_TYPE_INTEGER)
        t->integer = reply->integer;
    else if (reply->type != REDIS_TYPE_ARRAY && reply->type != REDIS_TYPE_NIL)
        snprintf(t->text, sizeof(t->text), "%s", reply->text);
    r->in_reply = NULL;
    if (then != NULL)
        then(r);
}

static inline void told_lost(struct redis_link *l, uint64_t tag, bool was_sent)
{
    struct told_reply *t = next_reply(rig_of(l), tag);

    t->lost = true;
    t->was_sent = was_sent;
}

static inline void told_push(struct redis_link *l, const struct redis_push *push)
{
    struct link_rig *r = rig_of(l);
    struct told_push *t = &r->pushes[r->pushes_count++];
    void (*then)(struct link_rig *) = r->in_push;

    cr_assert_leq(r->pushes_count, TOLD_MAX);
    *t = (struct told_push){.kind = push->kind, .sharded = push->sharded};
    snprintf(t->channel, sizeof(t->channel), "%.*s", (int)push->channel_len, push->channel);
    if (push->payload != NULL) {
        snprintf(t->payload, sizeof(t->payload), "%.*s", (int)push->payload_len, push->payload);
        t->payload_len = push->payload_len;
        t->checksum = checksum_of(push->payload, push->payload_len);
    }
    r->in_push = NULL;
    if (then != NULL)
        then(r);
}

static inline void told_release(struct redis_link *l, struct message *m)
{
    struct link_rig *r = rig_of(l);

    r->released++;
    message_free(&r->messages, m);
}

static const struct redis_link_events told_events = {.on_up = told_up,
                                                     .on_down = told_down,
                                                     .on_reply = told_reply,
                                                     .on_lost = told_lost,
                                                     .on_push = told_push,
                                                     .on_release = told_release};

/* The link is not started; r->config may be changed before link_rig_link(). */
static inline struct link_rig *link_rig_new(uint64_t seed, const struct sim_faults *faults,
                                            enum redis_role role)
{
    struct link_rig *r = calloc(1, sizeof(*r));
    struct io_config cfg = {.conns_max = 10};

    cr_assert_not_null(r);
    r->net = sim_net_new(seed, faults);
    cr_assert_not_null(r->net);
    cr_assert(sim_redis_init(&r->redis, r->net, "127.0.0.1", 6379));
    cr_assert_eq(io_sim_new(r->net, &cfg, &r->io), 0);
    cr_assert_eq(io_start(r->io), 0);
    message_pool_init(&r->messages, 0);
    r->config = (struct redis_link_config){.role = role,
                                           .endpoint = {.host = "127.0.0.1", .port = 6379},
                                           .name = "tidewire",
                                           .connect_timeout_ns = 2 * NS_PER_SEC,
                                           .backoff_min_ns = 100 * NS_PER_MS,
                                           .backoff_max_ns = 10 * NS_PER_SEC,
                                           .queue_bytes_max = 1u << 20,
                                           .reply_bytes_max = 1u << 20};
    return r;
}

static inline void link_rig_link(struct link_rig *r)
{
    redis_link_init(&r->link, r->io, &r->config, &told_events, r);
    redis_link_start(&r->link);
}

/* If nothing is to do, time passes, at most to until_ns; then one turn of the shard and the server.
 */
static inline void link_rig_step(struct link_rig *r, uint64_t until_ns)
{
    uint64_t next_ns = redis_link_turn(&r->link, sim_net_now(r->net));

    redis_link_flush(&r->link);
    if (!r->busy && sim_io_would_wait(r->io, next_ns))
        sim_net_idle(r->net, min_u64(until_ns, next_ns));
    cr_assert_geq(io_poll(r->io, 0), 0);
    redis_link_turn(&r->link, r->io->now_ns);
    redis_link_flush(&r->link);
    r->busy = sim_redis_turn(&r->redis);
    cr_assert_null(sim_net_violation(r->net), "%s", sim_net_violation(r->net));
}

/* Turns until the condition holds, and fails after a minute of the virtual clock. */
#define link_rig_until(r, condition)                                                               \
    do {                                                                                           \
        uint64_t end_ns_ = sim_net_now((r)->net) + 60 * NS_PER_SEC;                                \
        while (!(condition)) {                                                                     \
            cr_assert_lt(sim_net_now((r)->net), end_ns_, "not in time: %s", #condition);           \
            link_rig_step(r, end_ns_);                                                             \
        }                                                                                          \
    } while (0)

static inline void link_rig_for(struct link_rig *r, uint64_t ns)
{
    uint64_t end_ns = sim_net_now(r->net) + ns;

    while (sim_net_now(r->net) < end_ns)
        link_rig_step(r, end_ns);
}

static inline struct link_rig *link_rig_up(uint64_t seed, enum redis_role role)
{
    struct link_rig *r = link_rig_new(seed, NULL, role);

    link_rig_link(r);
    link_rig_until(r, redis_link_is_up(&r->link));
    return r;
}

/* Stops the link, and checks that nothing is left. */
static inline void link_rig_free(struct link_rig *r)
{
    redis_link_stop(&r->link);
    link_rig_until(r, redis_link_is_idle(&r->link));
    cr_assert_eq(redis_out_memory_bytes(&r->link.out), 0);
    redis_link_deinit(&r->link);
    sim_redis_deinit(&r->redis);
    io_free(r->io);
    cr_assert_null(sim_net_violation(r->net), "%s", sim_net_violation(r->net));
    cr_assert_eq(sim_net_open_count(r->net), 0);
    sim_net_free(r->net);
    message_pool_deinit(&r->messages); /* checks that every message was released */
    free(r);
}

static inline struct redis_arg arg_of(const char *text)
{
    return (struct redis_arg){.head = text, .head_len = (uint32_t)strlen(text)};
}

static inline int publish(struct link_rig *r, const char *channel, const char *payload,
                          uint64_t tag)
{
    struct redis_arg args[] = {arg_of(channel), arg_of(payload)};

    return redis_link_command(&r->link, "PUBLISH", args, 2, tag);
}

/* A message of that many bytes that depend on it. */
static inline struct message *message_of(struct link_rig *r, uint32_t len)
{
    struct message *m = message_new(&r->messages, len);

    cr_assert_not_null(m);
    for (uint32_t i = 0; i < len; i++)
        message_payload(m)[i] = (uint8_t)(len + i * 7);
    return m;
}

#endif
