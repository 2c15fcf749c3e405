/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Subscriptions of one home. On the shard's thread. */

#include "pubsub/redis_subs.h"

#include <string.h>

#include "core/log.h"
#include "core/plant.h"
#include "pubsub/engine_redis.h"
#include "pubsub/redis_publish.h"

struct redis_sub *redis_sub_find(struct engine_redis *e, const char *channel, uint32_t len)
{
    return map_find(&e->subs, channel, len);
}

/* Making and freeing
 * ----------------------------------------------------------------------------- */

static struct message *channel_name(struct engine_redis *e, const void *name, uint32_t len)
{
    size_t prefix = strlen(e->config->prefix);
    struct message *m = message_new(&e->shard->messages, (uint32_t)prefix + len);

    if (m == NULL)
        return NULL;
    memcpy(message_payload(m), e->config->prefix, prefix);
    memcpy(message_payload(m) + prefix, name, len);
    return m;
}

static void count_subs(struct engine_redis *e)
{
    stats_set(&e->stats[REDIS_STAT_SUBSCRIPTIONS], e->pool.used);
}

static void set_state(struct engine_redis *e, struct redis_sub *sub, enum redis_sub_state state)
{
    if (sub->state == REDIS_SUB_CONFIRMED)
        stats_sub(&e->stats[REDIS_STAT_CONFIRMED], 1);
    if (state == REDIS_SUB_CONFIRMED)
        stats_inc(&e->stats[REDIS_STAT_CONFIRMED]);
    sub->state = (uint8_t)state;
}

static struct redis_sub *make(struct engine_redis *e, struct message *channel)
{
    struct redis_sub *sub = pool_acquire(&e->pool);
    uint32_t missed, url;

    if (sub == NULL)
        return NULL;
    url = redis_shared_server(e->shared, message_payload(channel), channel->payload_len);
    *sub = (struct redis_sub){.channel = channel, .epoch = ++e->epoch, .server = e->by_url[url]};
    if (map_insert(&e->subs, sub) != 0) {
        pool_release(&e->pool, sub);
        return NULL;
    }
    /* None of our own has been published: the first one that comes back shall be number 1. */
    redis_seen_note(&sub->seen, &e->shard->messages, e->shared->node, sub->epoch, 0, &missed);
    count_subs(e);
    return sub;
}

struct redis_sub *redis_sub_get(struct engine_redis *e, const void *name, uint32_t len)
{
    struct message *channel = channel_name(e, name, len);
    struct redis_sub *sub;

    if (channel == NULL)
        return NULL;
    sub = map_find(&e->subs, message_payload(channel), channel->payload_len);
    if (sub == NULL) {
        sub = make(e, channel);
        if (sub != NULL)
            return sub;
    }
    message_free(&e->shard->messages, channel);
    return sub;
}

void redis_sub_free(struct engine_redis *e, struct redis_sub *sub)
{
    CHECK(sub->first == NULL);
    set_state(e, sub, REDIS_SUB_NEEDED);
    map_remove(&e->subs, message_payload(sub->channel), sub->channel->payload_len);
    redis_seen_clear(&sub->seen, &e->shard->messages);
    message_free(&e->shard->messages, sub->channel);
    pool_release(&e->pool, sub);
    count_subs(e);
}

/* Wishes
 * ----------------------------------------------------------------------------------------- */

static void queue(struct engine_redis *e, struct redis_sub *sub, struct due_queue *q)
{
    if (!due_queue_push(q, pool_handle(&e->pool, sub), 0))
        sub->server->batches.rescan = true;
}

void redis_sub_hurry(struct engine_redis *e, struct redis_sub *sub)
{
    if (sub->state == REDIS_SUB_LEAVING)
        set_state(e, sub, REDIS_SUB_NEEDED);
    if (sub->state == REDIS_SUB_NEEDED && redis_link_is_up(&sub->server->subscribe))
        queue(e, sub, &sub->server->batches.urgent);
}

/* It is looked at when it may go, or later: sub->since_ns says whether it has lingered. */
static void linger(struct engine_redis *e, struct redis_sub *sub)
{
    uint64_t due_ns = e->shard->io->now_ns + e->config->linger_ns;

    if (!due_queue_push(&e->unused, pool_handle(&e->pool, sub), due_ns))
        sub->server->batches.rescan = true;
}

void redis_sub_unuse(struct engine_redis *e, struct redis_sub *sub)
{
    sub->home_handle = 0;
    sub->opening = false;
    sub->since_ns = e->shard->io->now_ns;
    linger(e, sub);
}

/* Links
 * ------------------------------------------------------------------------------------------ */

void redis_subs_up(struct engine_redis *e, struct redis_server *s)
{
    struct redis_sub *sub;
    uint32_t i = 0;

    while ((sub = pool_next(&e->pool, &i)) != NULL) {
        if (PLANTED(PLANT_REDIS_FORGET_ROOM) && i == 1)
            continue;
        if (sub->server == s)
            queue(e, sub, sub->opening ? &s->batches.urgent : &s->batches.needed);
    }
}

static void clear(struct due_queue *q)
{
    q->head = q->tail;
}

void redis_subs_down(struct engine_redis *e, struct redis_server *s)
{
    struct redis_sub *sub;
    uint32_t i = 0;

    clear(&s->batches.urgent);
    clear(&s->batches.needed);
    s->batches.under_way = 0;
    s->batches.rescan = false;
    while ((sub = pool_next(&e->pool, &i)) != NULL) {
        if (sub->server != s)
            continue;
        if (sub->state == REDIS_SUB_NEEDED && sub->answers_due > 0) /* as left() would have */
            redis_seen_resume(&sub->seen, sub->seq);
        sub->answers_due = 0;
        set_state(e, sub, REDIS_SUB_NEEDED);
        if (sub->home_handle == 0 && sub->first == NULL)
            redis_sub_free(e, sub);
    }
}

/* Answers
 * ---------------------------------------------------------------------------------------- */

static void left(struct engine_redis *e, struct redis_sub *sub)
{
    if (sub->state == REDIS_SUB_LEAVING && sub->home_handle == 0 && sub->first == NULL) {
        redis_sub_free(e, sub);
        return;
    }
    if (sub->state == REDIS_SUB_NEEDED) /* somebody came meanwhile; else nobody had asked for it */
        redis_seen_resume(&sub->seen, sub->seq);
    set_state(e, sub, REDIS_SUB_NEEDED);
    queue(e, sub, &sub->server->batches.urgent);
}

void redis_subs_push(struct engine_redis *e, struct redis_server *s, const struct redis_push *push)
{
    struct redis_sub *sub = redis_sub_find(e, push->channel, push->channel_len);

    if (sub == NULL || sub->server != s)
        return;
    if (sub->answers_due > 0 && --sub->answers_due > 0)
        return;
    if (push->kind == REDIS_PUSH_UNSUBSCRIBE) {
        left(e, sub);
    } else if (sub->state == REDIS_SUB_ASKED) {
        set_state(e, sub, REDIS_SUB_CONFIRMED);
        engine_redis_confirmed(e, sub);
    }
}

void redis_subs_batch_over(struct engine_redis *e, struct redis_server *s, uint32_t batch,
                           bool refused)
{
    struct redis_sub *sub;
    uint32_t i = 0;

    if (batch == 0) { /* an UNSUBSCRIBE: its rooms would wait for ever */
        if (unlikely(refused))
            redis_link_reopen(&s->subscribe, "an UNSUBSCRIBE was refused");
        return;
    }
    s->batches.under_way--;
    if (likely(!refused))
        return;
    s->batches.rescan = true; /* at the next look, not at once */
    while ((sub = pool_next(&e->pool, &i)) != NULL) {
        if (sub->server != s || sub->batch != batch || sub->answers_due == 0)
            continue;
        sub->answers_due--;
        if (sub->state == REDIS_SUB_ASKED) /* else its UNSUBSCRIBE is under way, too */
            set_state(e, sub, REDIS_SUB_NEEDED);
    }
}

/* Commands
 * --------------------------------------------------------------------------------------- */

struct batch {
    struct redis_sub *subs[REDIS_BATCH_MAX];
    struct redis_arg args[REDIS_BATCH_MAX];
    uint32_t count;
};

static void add(struct batch *b, struct redis_sub *sub)
{
    b->subs[b->count] = sub;
    b->args[b->count++] = (struct redis_arg){.head = message_payload(sub->channel),
                                             .head_len = sub->channel->payload_len};
}

static void collect(struct engine_redis *e, struct due_queue *q, struct batch *b)
{
    while (b->count < REDIS_BATCH_MAX && !due_queue_is_empty(q)) {
        struct redis_sub *sub = pool_find(&e->pool, due_queue_pop(q));

        if (sub == NULL || sub->state != REDIS_SUB_NEEDED)
            continue; /* gone, or done already */
        if (sub->answers_due > 0)
            continue; /* of its UNSUBSCRIBE, which queues it again: `batch` names one command */
        set_state(e, sub, REDIS_SUB_ASKED);
        add(b, sub);
    }
}

/* False: the link does not take it now. */
static bool subscribe(struct engine_redis *e, struct redis_server *s, const struct batch *b)
{
    uint32_t number = s->batches.last + 1 != 0 ? s->batches.last + 1 : 1;
    int err = redis_link_subscribe(&s->subscribe, REDIS_PUSH_SUBSCRIBE, b->args, b->count,
                                   REDIS_TAG(REDIS_TAG_PUBLISH, number));

    if (err == 0) {
        s->batches.last = number;
        s->batches.under_way++;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        if (err == 0) {
            b->subs[i]->batch = number;
            b->subs[i]->answers_due++;
        } else {
            set_state(e, b->subs[i], REDIS_SUB_NEEDED);
            s->batches.rescan = true;
        }
    }
    return err == 0;
}

void redis_subs_flush(struct engine_redis *e, struct redis_server *s)
{
    struct batch b;

    if (!redis_link_is_up(&s->subscribe))
        return;
    while (s->batches.under_way < REDIS_BATCHES_MAX) {
        b.count = 0;
        collect(e, &s->batches.urgent, &b);
        collect(e, &s->batches.needed, &b);
        if (b.count == 0 || !subscribe(e, s, &b))
            return;
    }
}

void redis_subs_look_again(struct engine_redis *e, struct redis_server *s)
{
    struct redis_sub *sub;
    uint32_t i = 0;

    if (!s->batches.rescan || !redis_link_is_up(&s->subscribe))
        return;
    s->batches.rescan = false;
    while ((sub = pool_next(&e->pool, &i)) != NULL) {
        if (sub->server != s)
            continue;
        if (sub->home_handle == 0 && sub->first == NULL)
            linger(e, sub);
        else if (sub->state == REDIS_SUB_NEEDED)
            queue(e, sub, &s->batches.needed);
    }
}

/* Whether it should be unsubscribed; if it is not subscribed it goes here. */
static bool has_lingered(struct engine_redis *e, struct redis_sub *sub, uint64_t now_ns)
{
    if (sub == NULL || sub->home_handle != 0 || sub->first != NULL ||
        now_ns < sub->since_ns + e->config->linger_ns)
        return false;
    if (sub->state == REDIS_SUB_NEEDED && sub->answers_due == 0)
        redis_sub_free(e, sub);
    else if (sub->state != REDIS_SUB_LEAVING)
        return true;
    return false;
}

static void unsubscribe(struct engine_redis *e, struct redis_server *s, const struct batch *b)
{
    int err = redis_link_subscribe(&s->subscribe, REDIS_PUSH_UNSUBSCRIBE, b->args, b->count,
                                   REDIS_TAG(REDIS_TAG_PUBLISH, 0));

    if (err != 0)
        s->batches.rescan = true; /* they linger on */
    for (uint32_t i = 0; err == 0 && i < b->count; i++) {
        set_state(e, b->subs[i], REDIS_SUB_LEAVING);
        b->subs[i]->answers_due++;
    }
}

/* A batch is of one server. */
static void send_off(struct engine_redis *e, struct batch *b)
{
    if (b->count > 0)
        unsubscribe(e, b->subs[0]->server, b);
    b->count = 0;
}

uint64_t redis_subs_turn(struct engine_redis *e, uint64_t now_ns)
{
    struct batch b;

    b.count = 0;
    while (due_queue_next_ns(&e->unused) <= now_ns) {
        struct redis_sub *sub = pool_find(&e->pool, due_queue_pop(&e->unused));

        if (!has_lingered(e, sub, now_ns))
            continue;
        if (b.count == REDIS_BATCH_MAX || (b.count > 0 && b.subs[0]->server != sub->server))
            send_off(e, &b);
        add(&b, sub);
    }
    send_off(e, &b);
    return due_queue_next_ns(&e->unused);
}
