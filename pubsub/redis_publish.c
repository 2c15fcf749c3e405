/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Publishes on their way and back. On the shard's thread.
 *
 * While a message is under way its `seq` holds the room's handle (upper half) and the number that
 * it has among this node's messages there; its `next` links it to the one behind it. */

#include "pubsub/redis_publish.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/plant.h"
#include "net/net.h"
#include "pubsub/home.h"
#include "pubsub/redis_envelope.h"
#include "pubsub/redis_masters.h"

static void push(struct message **first, struct message **last, struct message *m)
{
    m->next = NULL;
    if (*first == NULL)
        *first = m;
    else
        (*last)->next = m;
    *last = m;
}

static struct message *pop(struct message **first)
{
    struct message *m = *first;

    CHECK(m != NULL);
    *first = m->next;
    return m;
}

/* Delivery
 * --------------------------------------------------------------------------------------- */

#define NODE_TEXT_MAX 20

/* The name of a node, for the log. */
static const char *text_of(uint64_t node, char text[NODE_TEXT_MAX])
{
    snprintf(text, NODE_TEXT_MAX, "%016" PRIx64, node);
    return text;
}

static void note_missed(struct engine_redis *e, const struct redis_sub *sub, uint64_t node,
                        uint32_t missed)
{
    struct log_num n;
    char name[NODE_TEXT_MAX];

    if (likely(missed == 0) || sub->home_handle == 0)
        return; /* nobody was here to miss it */
    if (PLANTED(PLANT_REDIS_SMALL_GAP) && missed == 1)
        return;
    redis_stat(e, REDIS_STAT_GAPS);
    stats_add(&e->stats[REDIS_STAT_LOST], missed);
    log_warn("messages of a node did not come", "from", text_of(node, name), "missing",
             log_u64(&n, missed), NULL);
}

static void note_repeated(struct engine_redis *e, uint64_t node, uint32_t seq)
{
    struct log_num n;
    char name[NODE_TEXT_MAX];

    redis_stat(e, REDIS_STAT_REPEATED);
    log_warn("a message of a node came twice, or behind a later one, and was skipped", "from",
             text_of(node, name), "number", log_u64(&n, seq), NULL);
}

/* Whether the message has its turn: neither it nor a later one of its node was here. */
static bool has_turn(struct engine_redis *e, struct redis_sub *sub, uint64_t node, uint32_t epoch,
                     uint32_t seq)
{
    uint32_t missed;

    if (!redis_seen_note(&sub->seen, &e->shard->messages, node, epoch, seq, &missed)) {
        note_repeated(e, node, seq);
        return PLANTED(PLANT_REDIS_REPEAT);
    }
    note_missed(e, sub, node, missed);
    return true;
}

/* A message of our own; sub is NULL when the room has gone. Takes m. */
static void deliver_own(struct engine_redis *e, struct redis_sub *sub, uint32_t seq,
                        struct message *m)
{
    struct home_channel *ch = NULL;

    if (sub != NULL && has_turn(e, sub, e->shared->node, sub->epoch, seq))
        ch = pool_find(&e->home->pool, sub->home_handle);
    if (ch != NULL)
        home_deliver(e->home, ch, m);
    else
        shard_message_release(e->shard, m);
}

static struct redis_sub *sub_of(struct engine_redis *e, const struct message *m)
{
    return pool_find(&e->pool, (uint32_t)(m->seq >> 32));
}

/* It surely does not come to other nodes. Takes m. */
static void go_alone(struct engine_redis *e, struct redis_sub *sub, struct message *m)
{
    home_taken(e->home, m->origin, home_cost(m));
    if (e->config->away == REDIS_AWAY_REFUSE) {
        redis_stat(e, REDIS_STAT_REFUSED);
        shard_message_release(e->shard, m);
        return;
    }
    redis_stat(e, REDIS_STAT_LOCAL_ONLY);
    deliver_own(e, sub, (uint32_t)m->seq, m);
}

static void drop(struct engine_redis *e, struct message *m)
{
    redis_stat(e, REDIS_STAT_DROPPED);
    log_warn("a message was dropped: --redis-queue is full, or there is no memory", NULL);
    home_taken(e->home, m->origin, home_cost(m));
    shard_message_release(e->shard, m);
}

/* Sending
 * ---------------------------------------------------------------------------------------- */

/* PUBLISH channel header+payload. Returns as redis_link_command(). */
static int send_command(struct engine_redis *e, struct redis_sub *sub, struct message *m,
                        uint32_t seq, uint64_t tag)
{
    struct redis_envelope env = {.node = e->shared->node,
                                 .epoch = sub->epoch,
                                 .seq = seq,
                                 .sender = m->sender,
                                 .sender_shard = m->sender_shard,
                                 .opcode = m->opcode};
    uint8_t head[REDIS_ENVELOPE_MAX];
    const struct redis_arg args[] = {
        {.head = message_payload(sub->channel), .head_len = sub->channel->payload_len},
        {.head = head, .head_len = redis_envelope_write(&env, head), .body = m},
    };
    int err;

    if (redis_publish_bytes(e) > e->config->queue_bytes)
        return -ENOBUFS;
    shard_message_ref(e->shard, m, 1); /* the link's, until on_release() */
    err = redis_link_command(&sub->server->publish, redis_publish_command(sub->server), args,
                             ARRAY_LEN(args), tag);
    if (err != 0) {
        shard_message_release(e->shard, m);
    } else {
        redis_publish_count(sub->server);
        redis_stat(e, REDIS_STAT_PUBLISHED);
        e->under_way++;
    }
    e->shard->next_turn_ns = 0; /* it may be past the links' flush of this turn */
    return err;
}

static void send_message(struct engine_redis *e, struct redis_sub *sub, struct message *m)
{
    struct redis_server *s = sub->server;
    int err = send_command(e, sub, m, (uint32_t)m->seq, REDIS_TAG(REDIS_TAG_PUBLISH, 0));

    if (likely(err == 0)) {
        push(&s->first, &s->last, m);
        sub->under_way++;
    } else if (err == -ENOTCONN) {
        go_alone(e, sub, m);
    } else {
        drop(e, m);
    }
}

static void wait_for_room(struct engine_redis *e, struct redis_sub *sub, struct message *m)
{
    if (redis_sub_is_hopeless(sub)) {
        go_alone(e, sub, m);
        return;
    }
    if (redis_publish_bytes(e) > e->config->queue_bytes) {
        drop(e, m);
        return;
    }
    e->waiting_bytes += home_cost(m);
    push(&sub->first, &sub->last, m);
    redis_sub_hurry(e, sub);
}

#define LOCAL_SHARD_SHIFT 40

/* --redis-order local: members here get it at once, those of other nodes when Redis has it. */
static void publish_local(struct engine_redis *e, struct redis_sub *sub, struct message *m,
                          uint32_t seq)
{
    struct redis_server *s = sub->server;
    uint32_t from = m->origin;
    uint64_t cost = home_cost(m);
    int err = -ENOTCONN;

    if (redis_server_is_up(s))
        err = send_command(e, sub, m, seq,
                           REDIS_TAG(REDIS_TAG_LOCAL, (uint64_t)from << LOCAL_SHARD_SHIFT | cost));
    if (err == -ENOTCONN) {
        m->seq = seq;
        go_alone(e, sub, m);
        return;
    }
    if (err != 0) {
        redis_stat(e, REDIS_STAT_DROPPED);
        home_taken(e->home, from, cost);
    }
    deliver_own(e, sub, seq, m);
}

/* The next number of ours in the room; after 2^32 - 1 of them they begin anew. */
static uint32_t next_seq(struct engine_redis *e, struct redis_sub *sub)
{
    if (unlikely(++sub->seq == 0)) {
        sub->epoch = ++e->epoch;
        sub->seq = 1;
    }
    return sub->seq;
}

void redis_publish(struct engine_redis *e, struct redis_sub *sub, struct message *m)
{
    struct redis_server *s = sub->server;
    uint32_t seq = next_seq(e, sub);

    if (e->config->order == REDIS_ORDER_LOCAL) {
        publish_local(e, sub, m, seq);
        return;
    }
    m->seq = (uint64_t)pool_handle(&e->pool, sub) << 32 | seq;
    if (unlikely(!redis_server_is_awaited(s)))
        go_alone(e, sub, m);
    else if (unlikely(!redis_server_is_up(s) || sub->state != REDIS_SUB_CONFIRMED ||
                      sub->first != NULL))
        wait_for_room(e, sub, m);
    else
        send_message(e, sub, m);
}

void redis_publish_waiting(struct engine_redis *e, struct redis_sub *sub)
{
    sub->returned = NULL;
    while (sub->first != NULL) {
        struct message *m = pop(&sub->first);

        e->waiting_bytes -= home_cost(m);
        send_message(e, sub, m);
    }
}

void redis_publish_give_up(struct engine_redis *e, struct redis_sub *sub)
{
    sub->returned = NULL;
    while (sub->first != NULL) {
        struct message *m = pop(&sub->first);

        e->waiting_bytes -= home_cost(m);
        go_alone(e, sub, m);
    }
}

/* Answers
 * ---------------------------------------------------------------------------------------- */

static void note_error(struct redis_server *s, const struct redis_reply *r)
{
    enum redis_error error = redis_error_of(r->text, r->len);

    log_warn("redis refuses a publish", "server", s->text, "error", r->text, "remedy",
             redis_error_remedy(error), NULL);
    redis_masters_doubt(s);
}

static void local_over(struct engine_redis *e, uint64_t tag, enum redis_stat how)
{
    uint64_t rest = REDIS_TAG_REST(tag);

    redis_stat(e, how);
    home_taken(e->home, (uint32_t)(rest >> LOCAL_SHARD_SHIFT),
               rest & ((1ULL << LOCAL_SHARD_SHIFT) - 1));
}

/* A publish of the room is no longer under way; sub is NULL when the room has gone. */
static void over(struct engine_redis *e, struct redis_sub *sub)
{
    if (sub != NULL && --sub->under_way == 0)
        redis_sub_settle(e, sub);
}

/* The room takes it back: behind those that came back before it, ahead of those that wait. */
static void give_back(struct engine_redis *e, struct redis_sub *sub, struct message *m)
{
    struct message **at = sub->returned == NULL ? &sub->first : &sub->returned->next;

    m->next = *at;
    *at = m;
    if (m->next == NULL)
        sub->last = m;
    sub->returned = m;
    e->waiting_bytes += home_cost(m);
}

/* Whether the room goes to another server now, where messages can wait to be sent again. */
static bool moves(const struct redis_server *s, const struct redis_sub *sub)
{
    return sub != NULL && redis_server_is_awaited(s) &&
           redis_masters_pick(s->masters, sub->slot) != s;
}

/* Whether some that were sent before wait in the room to be sent again: what surely was not taken
 * waits with them, or it would come ahead of them. */
static bool waits_behind(const struct redis_sub *sub)
{
    return sub != NULL && sub->returned != NULL;
}

static void taken(struct engine_redis *e, struct message *m)
{
    redis_stat(e, REDIS_STAT_TAKEN);
    home_taken(e->home, m->origin, home_cost(m));
    shard_message_release(e->shard, m);
}

void redis_publish_answered(struct redis_server *s, uint64_t tag, const struct redis_reply *r)
{
    struct engine_redis *e = s->engine;
    bool refused = r->type == REDIS_TYPE_ERROR;
    bool moved = refused && redis_masters_moved(s, r);
    struct redis_sub *sub;
    struct message *m;

    e->under_way--;
    if (unlikely(refused && !moved))
        note_error(s, r);
    if (REDIS_TAG_KIND(tag) == REDIS_TAG_LOCAL) {
        local_over(e, tag, refused ? REDIS_STAT_LOCAL_ONLY : REDIS_STAT_TAKEN);
        return;
    }
    m = pop(&s->first);
    sub = sub_of(e, m);
    if (likely(!refused)) {
        taken(e, m);
    } else if ((moved && moves(s, sub)) || waits_behind(sub)) {
        redis_stat(e, REDIS_STAT_SENT_BACK);
        give_back(e, sub, m);
    } else {
        go_alone(e, sub, m);
    }
    over(e, sub);
}

void redis_publish_lost(struct redis_server *s, uint64_t tag, bool was_sent)
{
    struct engine_redis *e = s->engine;
    struct redis_sub *sub;
    struct message *m;

    e->under_way--;
    if (REDIS_TAG_KIND(tag) == REDIS_TAG_LOCAL) {
        local_over(e, tag, was_sent ? REDIS_STAT_UNKNOWN : REDIS_STAT_LOCAL_ONLY);
        return;
    }
    m = pop(&s->first);
    sub = sub_of(e, m);
    if (was_sent && !PLANTED(PLANT_REDIS_UNKNOWN_ALONE)) {
        redis_stat(e, REDIS_STAT_UNKNOWN);
        if (!PLANTED(PLANT_REDIS_LOSE_CREDIT))
            home_taken(e->home, m->origin, home_cost(m));
        shard_message_release(e->shard, m);
    } else if (waits_behind(sub)) {
        give_back(e, sub, m);
    } else {
        go_alone(e, sub, m);
    }
    over(e, sub);
}

/* What comes back
 * -------------------------------------------------------------------------------- */

static void note_foreign(struct engine_redis *e, enum redis_stat why, const char *text)
{
    redis_stat(e, why);
    log_warn("a message in a room's channel is none of a node's and was skipped", "reason", text,
             NULL);
}

/* Whether the message is one of a node's. */
static bool read_message(struct engine_redis *e, struct bytes in, struct redis_envelope *env,
                         struct bytes *payload)
{
    switch (redis_envelope_read(in, env, payload)) {
    case REDIS_ENVELOPE_OK:
        if (payload->len <= e->shared->message_max)
            return true;
        note_foreign(e, REDIS_STAT_FOREIGN_TOO_BIG, "longer than --max-message");
        return false;
    case REDIS_ENVELOPE_VERSION:
        note_foreign(e, REDIS_STAT_FOREIGN_VERSION, "unknown version");
        return false;
    case REDIS_ENVELOPE_BROKEN:
        note_foreign(e, REDIS_STAT_FOREIGN_BROKEN, "broken header");
        return false;
    default:
        note_foreign(e, REDIS_STAT_FOREIGN, "no header");
        return false;
    }
}

static struct message *make_message(struct engine_redis *e, const struct redis_envelope *env,
                                    struct bytes payload)
{
    struct message *m = message_new(&e->shard->messages, (uint32_t)payload.len);

    if (m == NULL) {
        redis_stat(e, REDIS_STAT_LOST_MEMORY);
        return NULL;
    }
    memcpy(message_payload(m), payload.ptr, payload.len);
    m->opcode = env->opcode;
    net_message_frame(m, false);
    if (env->node == e->shared->node) {
        m->sender = env->sender;
        m->sender_shard = env->sender_shard;
    }
    return m;
}

void redis_publish_received(struct engine_redis *e, struct redis_sub *sub, struct bytes in)
{
    struct home_channel *ch = pool_find(&e->home->pool, sub->home_handle);
    struct redis_envelope env;
    struct bytes payload;
    struct message *m;

    if (!read_message(e, in, &env, &payload))
        return;
    if (env.node == e->shared->node && e->config->order == REDIS_ORDER_LOCAL) {
        redis_stat(e, REDIS_STAT_OWN_COPIES);
        return;
    }
    if (!has_turn(e, sub, env.node, env.epoch, env.seq))
        return;
    if (ch == NULL) {
        redis_stat(e, REDIS_STAT_STALE);
        return;
    }
    m = make_message(e, &env, payload);
    if (m != NULL)
        home_deliver(e->home, ch, m);
}
