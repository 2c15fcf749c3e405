/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_SERVER_H
#define PUBSUB_REDIS_SERVER_H

/* One Redis server as one shard sees it: a pair of links, one publishes, one subscribes, and the
 * canary that goes out by the one and comes back by the other. On the shard's thread.
 *
 *      away    an attempt to connect has failed, or Redis refuses canaries: nobody waits for it
 *      up      both links are, and a canary has come back
 *
 * While it is not up, nothing is published: --engine-down says what happens to messages and to
 * those who come. */

#include "pubsub/redis_canary.h"
#include "pubsub/redis_link.h"
#include "pubsub/redis_subs.h"

struct engine_redis;
struct redis_masters;
struct redis_sentinel;

struct redis_server {
    struct engine_redis *engine;
    struct redis_server *next; /* in the engine's list */
    struct redis_link publish;
    struct redis_link subscribe;
    struct redis_sentinel *sentinel; /* tells where the links go; NULL: the URL does */
    struct redis_masters *masters;   /* of its cluster: channels are sharded; NULL: it is in none */
    struct redis_canary canary;
    struct redis_batches batches;
    struct message *first; /* publishes that Redis has not answered, oldest first */
    struct message *last;
    struct message *canary_channel; /* payload: its name */
    uint32_t canary_names;          /* given so far; the tag of what belongs to the current one */
    uint32_t room_count;            /* rooms whose server it is */
    uint32_t ended_count;           /* of them in REDIS_SUB_ENDED, since ended_ns at the latest */
    uint64_t ended_ns;
    uint64_t counted_bytes; /* of `publish` without an answer, as the engine's sum has them */
    uint64_t down_since_ns;
    uint64_t leave_ns;    /* it has no slots any more, and ends then at the latest; 0: it stays */
    bool is_away;         /* an attempt to connect has failed since it was up */
    bool is_new;          /* it has never been up, and nothing has failed yet */
    bool is_canary_ended; /* its subscription, unasked, at ended_ns: the pair takes no rooms on */
    char text[REDIS_URL_TEXT_MAX];
};

/* Makes the pair; nothing is connected. Of *links, role and queue_bytes_max are not used; text is
 * for the log. 0 or -ENOMEM. */
MUST_USE int redis_server_init(struct redis_server *s, struct engine_redis *e,
                               const struct redis_link_config *links, const char *text);

/* The links are idle, or wait. */
void redis_server_deinit(struct redis_server *s);

/* The links begin to connect, and end. After the end nobody waits for the server. */
void redis_server_start(struct redis_server *s);
void redis_server_stop(struct redis_server *s);

/* Once a turn, and at its end; returns when it wants the next. */
uint64_t redis_server_turn(struct redis_server *s, uint64_t now_ns);
void redis_server_flush(struct redis_server *s);

/* In quiet moments. */
void redis_server_trim(struct redis_server *s);

static inline bool redis_server_is_up(const struct redis_server *s)
{
    return s->canary.is_up;
}

/* Whether messages wait for it, and do not go on without. */
static inline bool redis_server_is_awaited(const struct redis_server *s)
{
    return s->canary.is_up || s->is_new;
}

/* Channels of a cluster are sharded: only the masters that carry their slot see them. */
static inline const char *redis_publish_command(const struct redis_server *s)
{
    return s->masters != NULL ? "SPUBLISH" : "PUBLISH";
}

static inline enum redis_push_kind redis_subscribe_kind(const struct redis_server *s)
{
    return s->masters != NULL ? REDIS_PUSH_SSUBSCRIBE : REDIS_PUSH_SUBSCRIBE;
}

static inline enum redis_push_kind redis_unsubscribe_kind(const struct redis_server *s)
{
    return s->masters != NULL ? REDIS_PUSH_SUNSUBSCRIBE : REDIS_PUSH_UNSUBSCRIBE;
}

/* For redis_master and redis_masters: nobody says where the server is. */
void redis_server_unreachable(struct redis_server *s);

/* For redis_masters: canaries go by a channel with that hash tag from now on. */
void redis_server_set_canary(struct redis_server *s, uint32_t tag);
uint32_t redis_server_canary_slot(const struct redis_server *s);

#endif
