/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A pair of links and its canary. On the shard's thread. */

#include "pubsub/redis_server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "pubsub/engine_redis.h"
#include "pubsub/redis_master.h"
#include "pubsub/redis_masters.h"
#include "pubsub/redis_publish.h"

/* Beyond --redis-queue, so that canaries find room. */
#define QUEUE_SPARE_BYTES (64u << 10)
/* Of a subscribing link: commands for a million rooms fit. */
#define SUBSCRIBE_QUEUE_BYTES (512u << 20)
/* No name of a room holds this byte, as those are UTF-8. */
#define CANARY_MARK "\xff"
#define CANARY_NAME_MAX 64
#define CANARY_TAG_MAX 16 /* of them */
/* Between names: a master whose every slot has gone says so of one at a time. */
#define CANARY_PAUSE_NS (100 * NS_PER_MS)

/* Up and down
 * ------------------------------------------------------------------------------------ */

static void set_up(struct redis_server *s)
{
    struct engine_redis *e = s->engine;
    struct log_num ms;
    uint64_t now_ns = e->shard->io->now_ns;

    atomic_fetch_add_explicit(&e->shared->up, 1, memory_order_relaxed);
    s->is_away = false;
    s->is_new = false;
    log_info("redis is up", "server", s->text, "away_ms",
             log_u64(&ms, (now_ns - s->down_since_ns) / NS_PER_MS), NULL);
    redis_subs_go_on(e, s);
    engine_redis_look_at_openings(e, s);
}

static void set_down(struct redis_server *s)
{
    struct engine_redis *e = s->engine;
    bool was_up = s->canary.is_up, was_awaited = redis_server_is_awaited(s);

    redis_canary_end(&s->canary);
    s->is_new = false;
    if (was_awaited)
        redis_subs_give_up(e, s);
    if (!was_up)
        return;
    if (s->leave_ns == 0)
        atomic_fetch_sub_explicit(&e->shared->up, 1, memory_order_relaxed);
    s->down_since_ns = e->shard->io->now_ns;
    if (!e->stopping)
        log_warn("redis is away", "server", s->text, "rooms",
                 e->config->away == REDIS_AWAY_LOCAL ? "go on within this node" : "are closed",
                 NULL);
}

static void set_away(struct redis_server *s)
{
    if (s->is_away)
        return;
    s->is_away = true;
    engine_redis_look_at_openings(s->engine, s);
}

void redis_server_unreachable(struct redis_server *s)
{
    if (!redis_server_is_up(s))
        set_away(s);
}

/* Canaries
 * --------------------------------------------------------------------------------------- */

static void send_canary(struct redis_server *s)
{
    struct engine_redis *e = s->engine;
    char text[24];
    uint64_t number = ++s->canary.number;
    const struct redis_arg args[] = {
        {.head = message_payload(s->canary_channel), .head_len = s->canary_channel->payload_len},
        {.head = text, .head_len = (uint32_t)snprintf(text, sizeof(text), "%" PRIu64, number)},
    };

    if (redis_link_command(&s->publish, redis_publish_command(s), args, ARRAY_LEN(args),
                           REDIS_TAG(REDIS_TAG_CANARY, s->canary_names)) != 0)
        return; /* the one before has not come back yet: it is judged by */
    redis_publish_count(s);
    redis_stat(e, REDIS_STAT_CANARIES_SENT);
    redis_canary_published(&s->canary, e->shard->io->now_ns, s->publish.stats.received_bytes,
                           s->subscribe.stats.received_bytes);
    e->shard->next_turn_ns = 0;
}

static void send_probe(struct redis_server *s, uint64_t now_ns)
{
    const struct redis_arg arg = {.head = message_payload(s->canary_channel),
                                  .head_len = s->canary_channel->payload_len};

    if (redis_link_subscribe(&s->subscribe, redis_subscribe_kind(s), &arg, 1,
                             REDIS_TAG(REDIS_TAG_PROBE, s->canary_names)) != 0) {
        s->canary.next_ns = now_ns + REDIS_CANARY_INTERVAL_NS; /* no memory, or its queue is full */
        return;
    }
    redis_canary_probed(&s->canary, now_ns, s->subscribe.stats.received_bytes);
    if (s->canary.is_subscribed)
        send_canary(s);
}

static void reopen_silent(struct redis_server *s, struct redis_link *l, enum redis_stat which)
{
    redis_stat(s->engine, which);
    redis_link_reopen(l, "silent: a canary did not come back");
}

static void judge(struct redis_server *s, uint64_t now_ns)
{
    /* A link that is reopened ends the canary; the other one is judged first where both are mute.
     */
    struct redis_canary copy;
    enum redis_canary_verdict v;

    if (unlikely(s->engine->shard->lag_ns > SHARD_LAG_NS))
        redis_canary_excuse(&s->canary, now_ns);
    copy = s->canary;
    v = redis_canary_judge(&s->canary, now_ns, s->publish.stats.received_bytes,
                           s->subscribe.stats.received_bytes);
    if (likely(v == REDIS_CANARY_FINE))
        return;
    copy.answer = (struct redis_canary_wait){0};
    copy.copy = (struct redis_canary_wait){0};
    if (v == REDIS_CANARY_PUBLISHER_SILENT)
        reopen_silent(s, &s->publish, REDIS_STAT_SILENT_PUBLISHERS);
    if (v == REDIS_CANARY_SUBSCRIBER_SILENT ||
        redis_canary_judge(&copy, now_ns, 0, s->subscribe.stats.received_bytes) !=
            REDIS_CANARY_FINE)
        reopen_silent(s, &s->subscribe, REDIS_STAT_SILENT_SUBSCRIBERS);
}

/* Redis does not let canaries through: nor would it let messages. */
static void canary_refused(struct redis_server *s, const struct redis_reply *r)
{
    enum redis_error error = redis_error_of(r->text, r->len);

    log_warn("redis refuses a canary", "server", s->text, "error", r->text, "remedy",
             redis_error_remedy(error), NULL);
    set_down(s);
    set_away(s);
    redis_masters_doubt(s);
    if (redis_link_is_up(&s->publish) && redis_link_is_up(&s->subscribe))
        redis_canary_begin(&s->canary, s->engine->shard->io->now_ns + REDIS_CANARY_INTERVAL_NS);
}

/* An answer to a canary or its probe. An error that only says where its slot is now gives it
 * another name, and then it is not waited for. Returns whether it is an answer to be had. */
static bool is_canary_answer(struct redis_server *s, uint64_t tag, const struct redis_reply *r)
{
    if (REDIS_TAG_REST(tag) != s->canary_names)
        return false; /* of an earlier name */
    if (r->type != REDIS_TYPE_ERROR)
        return true;
    redis_masters_moved(s, r);
    if (REDIS_TAG_REST(tag) == s->canary_names && s->leave_ns == 0)
        canary_refused(s, r);
    return false;
}

static void canary_came(struct redis_server *s, const struct redis_push *push)
{
    uint64_t number = 0;

    for (uint32_t i = 0; i < push->payload_len && i < 20; i++)
        number = number * 10 + (uint64_t)(push->payload[i] - '0');
    redis_stat(s->engine, REDIS_STAT_CANARIES_RETURNED);
    if (redis_canary_returned(&s->canary, number, s->engine->shard->io->now_ns))
        set_up(s);
}

static uint64_t turn_canary(struct redis_server *s, uint64_t now_ns)
{
    judge(s, now_ns);
    if (redis_canary_is_due(&s->canary, now_ns)) {
        redis_subs_look_again(s->engine, s);
        send_probe(s, now_ns);
    }
    return redis_canary_next_ns(&s->canary);
}

/* Links
 * ------------------------------------------------------------------------------------------ */

static const char *role_of(const struct redis_link *l)
{
    return l->config.role == REDIS_ROLE_SUBSCRIBER ? "subscribe" : "publish";
}

static void on_up(struct redis_link *l)
{
    struct redis_server *s = l->owner;

    if (l == &s->subscribe)
        redis_subs_up(s->engine, s);
    if (!redis_link_is_up(&s->publish) || !redis_link_is_up(&s->subscribe))
        return;
    redis_masters_affirm(s);
    redis_canary_begin(&s->canary, s->engine->shard->io->now_ns);
}

/* Without its partner no canary watches the publishing link: it shall not hold publishers for ever
 * with what it does not answer. */
static void reopen_unwatched(struct redis_server *s)
{
    if (redis_link_is_up(&s->publish) && s->publish.unanswered > 0)
        redis_link_reopen(&s->publish, "unanswered, and its partner can't connect");
}

static void on_down(struct redis_link *l, enum redis_down why, const char *text, bool was_up)
{
    struct redis_server *s = l->owner;

    if (why != REDIS_DOWN_STOPPED)
        log_warn(was_up ? "a connection to redis has ended" : "redis can't be reached", "server",
                 s->text, "link", role_of(l), "reason", redis_down_label(why), "detail", text,
                 why == REDIS_DOWN_REFUSED ? "remedy" : NULL,
                 redis_error_remedy((enum redis_error)l->down_error), NULL);
    if (l == &s->subscribe) /* not with its partner: it would go on to take rooms */
        s->is_canary_ended = false;
    if (l == &s->subscribe && was_up)
        redis_subs_down(s->engine, s);
    set_down(s);
    if (!was_up)
        set_away(s);
    if (!was_up && l == &s->subscribe)
        reopen_unwatched(s);
    redis_master_doubt(s);
    redis_masters_down(s, why, was_up);
}

static void on_publish_reply(struct redis_link *l, uint64_t tag, const struct redis_reply *r)
{
    struct redis_server *s = l->owner;

    redis_publish_count(s);
    if (REDIS_TAG_KIND(tag) != REDIS_TAG_CANARY)
        redis_publish_answered(s, tag, r);
    else if (is_canary_answer(s, tag, r))
        redis_canary_publish_answered(&s->canary);
}

static void on_publish_lost(struct redis_link *l, uint64_t tag, bool was_sent)
{
    redis_publish_count(l->owner);
    if (REDIS_TAG_KIND(tag) != REDIS_TAG_CANARY)
        redis_publish_lost(l->owner, tag, was_sent);
}

static void on_probe_reply(struct redis_server *s, uint64_t tag, const struct redis_reply *r)
{
    if (is_canary_answer(s, tag, r) && redis_canary_has_begun(&s->canary) &&
        redis_canary_probe_answered(&s->canary))
        send_canary(s);
}

static void unsubscribe_refused(struct redis_server *s, const struct redis_reply *r)
{
    log_warn("redis refuses to end a subscription", "server", s->text, "error", r->text, "remedy",
             redis_error_remedy(redis_error_of(r->text, r->len)), NULL);
    redis_link_retry(&s->subscribe, "an UNSUBSCRIBE was refused"); /* it may be so for every room */
}

/* Nobody else's messages come to these rooms; canaries may pass all the same. */
static void subscribe_refused(struct redis_server *s, const struct redis_reply *r)
{
    log_warn("redis refuses to subscribe to rooms", "server", s->text, "error", r->text, "remedy",
             redis_error_remedy(redis_error_of(r->text, r->len)), NULL);
    redis_masters_doubt(s);
}

static void on_subscribe_reply(struct redis_link *l, uint64_t tag, const struct redis_reply *r)
{
    struct redis_server *s = l->owner;

    switch (REDIS_TAG_KIND(tag)) {
    case REDIS_TAG_PROBE:
        on_probe_reply(s, tag, r);
        return;
    case REDIS_TAG_SUBSCRIBE:
        if (r->type == REDIS_TYPE_ERROR && !redis_masters_moved(s, r))
            subscribe_refused(s, r);
        redis_subs_answered(s->engine, s, (uint32_t)REDIS_TAG_REST(tag),
                            r->type == REDIS_TYPE_ERROR ? r : NULL);
        return;
    default:
        /* Rooms of a slot that has gone are not subscribed any more, and were told so. */
        if (r->type == REDIS_TYPE_ERROR && !redis_masters_moved(s, r))
            unsubscribe_refused(s, r);
    }
}

static bool is_canary(const struct redis_server *s, const struct redis_push *push)
{
    return push->channel_len == s->canary_channel->payload_len &&
           memcmp(push->channel, message_payload(s->canary_channel), push->channel_len) == 0;
}

/* The master has lost the slot, or is none any more: then it would take rooms on all the same. */
static void canary_ended(struct redis_server *s)
{
    if (s->ended_count == 0 && !s->is_canary_ended)
        s->ended_ns = s->engine->shard->io->now_ns;
    s->is_canary_ended = true;
    redis_masters_ended(s, redis_server_canary_slot(s));
    s->engine->shard->next_turn_ns = 0;
}

static void on_push(struct redis_link *l, const struct redis_push *push)
{
    struct redis_server *s = l->owner;
    struct redis_sub *sub;

    if (push->kind != REDIS_PUSH_MESSAGE) {
        if (unlikely(push->kind == REDIS_PUSH_SUNSUBSCRIBE && is_canary(s, push)))
            canary_ended(s);
        else
            redis_subs_push(s->engine, s, push);
        return;
    }
    if (unlikely(is_canary(s, push))) {
        canary_came(s, push);
        return;
    }
    redis_stat(s->engine, REDIS_STAT_RECEIVED);
    sub = redis_sub_find(s->engine, push->channel, push->channel_len);
    if (likely(sub != NULL && sub->server == s))
        redis_publish_received(
            s->engine, sub, (struct bytes){(uint8_t *)(uintptr_t)push->payload, push->payload_len});
    else
        redis_stat(s->engine, REDIS_STAT_STALE);
}

static void on_release(struct redis_link *l, struct message *m)
{
    struct redis_server *s = l->owner;

    shard_message_release(s->engine->shard, m);
}

static const struct redis_link_events publish_events = {.on_up = on_up,
                                                        .on_down = on_down,
                                                        .on_reply = on_publish_reply,
                                                        .on_lost = on_publish_lost,
                                                        .on_release = on_release};
static const struct redis_link_events subscribe_events = {.on_up = on_up,
                                                          .on_down = on_down,
                                                          .on_reply = on_subscribe_reply,
                                                          .on_push = on_push,
                                                          .on_release = on_release};

/* The pair
 * --------------------------------------------------------------------------------------- */

uint64_t redis_server_turn(struct redis_server *s, uint64_t now_ns)
{
    uint64_t next_ns = turn_canary(s, now_ns);

    next_ns = min_u64(next_ns, redis_master_turn(s, now_ns));
    next_ns = min_u64(next_ns, redis_link_turn(&s->publish, now_ns));
    return min_u64(next_ns, redis_link_turn(&s->subscribe, now_ns));
}

void redis_server_flush(struct redis_server *s)
{
    redis_subs_flush(s->engine, s);
    redis_link_flush(&s->subscribe);
    redis_link_flush(&s->publish);
    redis_master_flush(s);
}

void redis_server_trim(struct redis_server *s)
{
    due_queue_trim(&s->batches.urgent);
    due_queue_trim(&s->batches.needed);
    due_queue_trim(&s->batches.leaving);
    due_queue_trim(&s->batches.asked);
}

void redis_server_start(struct redis_server *s)
{
    redis_link_start(&s->publish);
    redis_link_start(&s->subscribe);
}

void redis_server_stop(struct redis_server *s)
{
    redis_link_stop(&s->publish);
    redis_link_stop(&s->subscribe);
    redis_master_stop(s);
    set_down(s);
    set_away(s);
}

/* "PREFIX\xffcanary:NODE:SHARD": on each server its own, though it is called the same. In a
 * cluster "{TAG}" follows, which decides about the slot. */
static struct message *new_canary(struct engine_redis *e)
{
    size_t prefix = strlen(e->config->prefix);
    struct message *m = message_new(&e->shard->messages, (uint32_t)prefix + CANARY_NAME_MAX);

    if (m == NULL)
        return NULL;
    memcpy(message_payload(m), e->config->prefix, prefix);
    m->payload_len =
        (uint32_t)prefix + (uint32_t)snprintf((char *)message_payload(m) + prefix, CANARY_NAME_MAX,
                                              CANARY_MARK "canary:%016" PRIx64 ":%u",
                                              e->shared->node, e->shard->idx);
    return m;
}

void redis_server_set_canary(struct redis_server *s, uint32_t tag)
{
    struct message *m = s->canary_channel;
    char *text = (char *)message_payload(m);
    char *old = memchr(text, '{', m->payload_len), *end = old != NULL ? old : text + m->payload_len;

    end += snprintf(end, CANARY_TAG_MAX, "{%u}", tag);
    m->payload_len = (uint32_t)(end - text);
    s->canary_names++;
    s->is_canary_ended = false;
    redis_canary_rename(&s->canary, s->engine->shard->io->now_ns + CANARY_PAUSE_NS);
    s->engine->shard->next_turn_ns = 0;
}

uint32_t redis_server_canary_slot(const struct redis_server *s)
{
    return redis_slot_of(message_payload(s->canary_channel), s->canary_channel->payload_len);
}

int redis_server_init(struct redis_server *s, struct engine_redis *e,
                      const struct redis_link_config *links, const char *text)
{
    struct redis_link_config c = *links;

    *s = (struct redis_server){.engine = e, .down_since_ns = e->shard->io->now_ns};
    snprintf(s->text, sizeof(s->text), "%s", text);
    s->canary_channel = new_canary(e);
    if (s->canary_channel == NULL)
        return -ENOMEM;
    c.role = REDIS_ROLE_COMMAND;
    /* One message more than --redis-queue is let in. */
    c.queue_bytes_max = (uint32_t)e->config->queue_bytes + c.reply_bytes_max + QUEUE_SPARE_BYTES;
    redis_link_init(&s->publish, e->shard->io, &c, &publish_events, s);
    c.role = REDIS_ROLE_SUBSCRIBER;
    c.queue_bytes_max = SUBSCRIBE_QUEUE_BYTES;
    redis_link_init(&s->subscribe, e->shard->io, &c, &subscribe_events, s);
    return 0;
}

void redis_server_deinit(struct redis_server *s)
{
    redis_link_deinit(&s->publish);
    redis_link_deinit(&s->subscribe);
    redis_master_deinit(s);
    message_free(&s->engine->shard->messages, s->canary_channel);
    due_queue_deinit(&s->batches.urgent);
    due_queue_deinit(&s->batches.needed);
    due_queue_deinit(&s->batches.leaving);
    due_queue_deinit(&s->batches.asked);
}
