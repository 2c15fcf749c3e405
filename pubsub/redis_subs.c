/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Subscriptions of one home. On the shard's thread. */

#include "pubsub/redis_subs.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/plant.h"
#include "pubsub/engine_redis.h"
#include "pubsub/redis_masters.h"
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
    if (sub->state == REDIS_SUB_ENDED) { /* the map goes on to be trusted */
        sub->server->ended_count--;
        sub->server->ended_ns = e->shard->io->now_ns;
    }
    sub->server->ended_count += state == REDIS_SUB_ENDED;
    sub->state = (uint8_t)state;
}

/* Where it belongs: in a cluster that changes. */
static struct redis_server *place_of(const struct redis_sub *sub)
{
    struct redis_masters *m = sub->server->masters;

    return likely(m == NULL) ? sub->server : redis_masters_pick(m, sub->slot);
}

static struct redis_sub *make(struct engine_redis *e, struct message *channel)
{
    struct redis_sub *sub = pool_acquire(&e->pool);
    const uint8_t *name = message_payload(channel);
    uint32_t missed, url;

    if (sub == NULL)
        return NULL;
    url = redis_shared_server(e->shared, name, channel->payload_len);
    *sub = (struct redis_sub){.channel = channel, .epoch = ++e->epoch, .server = e->by_url[url]};
    if (map_insert(&e->subs, sub) != 0) {
        pool_release(&e->pool, sub);
        return NULL;
    }
    if (sub->server->masters != NULL) {
        sub->slot = (uint16_t)redis_slot_of(name, channel->payload_len);
        sub->server = place_of(sub);
    }
    sub->server->room_count++;
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
    sub->server->room_count--;
    map_remove(&e->subs, message_payload(sub->channel), sub->channel->payload_len);
    redis_seen_clear(&sub->seen, &e->shard->messages);
    message_free(&e->shard->messages, sub->channel);
    pool_release(&e->pool, sub);
    count_subs(e);
}

/* Nobody is there, and nothing waits. */
static bool is_unused(const struct redis_sub *sub)
{
    return sub->home_handle == 0 && sub->first == NULL;
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
    if (sub->state == REDIS_SUB_NEEDED && redis_link_is_up(&sub->server->subscribe))
        queue(e, sub, &sub->server->batches.urgent);
}

void redis_sub_use(struct engine_redis *e, struct redis_sub *sub)
{
    if (sub->state == REDIS_SUB_LEAVING)
        set_state(e, sub, REDIS_SUB_NEEDED); /* and what passes until it is back is not missed */
    redis_sub_hurry(e, sub);
}

/* It is looked at when it may go, or later: sub->since_ns says whether it has lingered. */
static void linger(struct engine_redis *e, struct redis_sub *sub)
{
    uint64_t due_ns = e->shard->io->now_ns + e->config->linger_ns;

    if (!due_queue_push(&e->unused, pool_handle(&e->pool, sub), due_ns))
        sub->server->batches.rescan = sub->server->batches.lost_unused = true;
}

void redis_sub_unuse(struct engine_redis *e, struct redis_sub *sub)
{
    sub->home_handle = 0;
    sub->opening = false;
    sub->since_ns = e->shard->io->now_ns;
    linger(e, sub);
}

/* Moving
 * ----------------------------------------------------------------------------------------- */

static void leave(struct redis_sub *sub, uint32_t handle)
{
    if (!due_queue_push(&sub->server->batches.leaving, handle, 0))
        sub->server->batches.rescan = true;
}

/* What waits in a room goes on without Redis. */
static void give_up(struct engine_redis *e, struct redis_sub *sub)
{
    redis_publish_give_up(e, sub);
    if (sub->home_handle == 0)
        linger(e, sub);
}

/* It is subscribed at its new server, or goes on without if that is away. */
static void arrive(struct engine_redis *e, struct redis_sub *sub)
{
    struct redis_server *s = sub->server;
    bool is_waited_for = sub->opening || sub->first != NULL;

    if (!redis_server_is_awaited(s))
        give_up(e, sub);
    if (redis_link_is_up(&s->subscribe))
        queue(e, sub, is_waited_for ? &s->batches.urgent : &s->batches.needed);
    e->shard->next_turn_ns = 0;
    engine_redis_moved(e, sub);
}

/* It was to move, and its slot has come back before it could: what was sent back leaves again. */
static void stay(struct engine_redis *e, struct redis_sub *sub)
{
    if (sub->state == REDIS_SUB_CONFIRMED && sub->under_way == 0 && redis_server_is_up(sub->server))
        redis_publish_waiting(e, sub);
}

/* Whether the room must wait for its next move, as it was confirmed nowhere since the last ones. */
static bool is_held(struct engine_redis *e, struct redis_sub *sub)
{
    if (likely(sub->hops < REDIS_HOPS_FREE) || !redis_masters_hold(sub->server->masters))
        return false;
    sub->server->batches.rescan = true;
    if (sub->hops >= REDIS_HOPS_AWAITED && sub->first != NULL) {
        log_warn("masters of the redis cluster send a room to each other", "server",
                 sub->server->text, "remedy",
                 "tell both of them who has the slot (CLUSTER SETSLOT ... NODE)", NULL);
        give_up(e, sub);
    }
    return true;
}

void redis_sub_settle(struct engine_redis *e, struct redis_sub *sub)
{
    struct redis_server *to = place_of(sub);

    if (likely(to == sub->server)) {
        if (unlikely(sub->returned != NULL))
            stay(e, sub);
        return;
    }
    if (sub->state == REDIS_SUB_CONFIRMED)
        leave(sub, pool_handle(&e->pool, sub));
    if (sub->state == REDIS_SUB_ENDED)
        set_state(e, sub, REDIS_SUB_NEEDED);
    if (sub->state != REDIS_SUB_NEEDED || sub->is_awaiting || sub->under_way > 0) {
        sub->server->batches.rescan = true; /* should its place be this one again */
        return;                             /* with the last answer it comes here again */
    }
    if (unlikely(is_held(e, sub)))
        return;
    sub->hops += sub->hops < UINT8_MAX;
    sub->server->room_count--;
    to->room_count++;
    sub->server = to;
    sub->asks_alone = sub->is_refused = false; /* that was the other's word */
    redis_stat(e, REDIS_STAT_ROOMS_MOVED);
    arrive(e, sub);
}

void redis_subs_settle(struct engine_redis *e, struct redis_masters *m)
{
    struct redis_sub *sub;
    uint32_t i = 0;

    while ((sub = pool_next(&e->pool, &i)) != NULL) {
        if (sub->server->masters == m)
            redis_sub_settle(e, sub);
    }
}

void redis_subs_go_on(struct engine_redis *e, struct redis_server *s)
{
    struct redis_sub *sub;
    uint32_t i = 0;

    while (e->waiting_bytes > 0 && (sub = pool_next(&e->pool, &i)) != NULL) {
        if (sub->server != s || sub->state != REDIS_SUB_CONFIRMED || sub->first == NULL)
            continue;
        redis_publish_waiting(e, sub);
        if (sub->home_handle == 0)
            linger(e, sub);
    }
}

void redis_subs_give_up(struct engine_redis *e, struct redis_server *s)
{
    struct redis_sub *sub;
    uint32_t i = 0;

    while (e->waiting_bytes > 0 && (sub = pool_next(&e->pool, &i)) != NULL) {
        if (sub->server == s && sub->first != NULL)
            give_up(e, sub);
    }
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
    clear(&s->batches.leaving);
    clear(&s->batches.asked);
    s->batches.rescan = false;
    while ((sub = pool_next(&e->pool, &i)) != NULL) {
        if (sub->server != s)
            continue;
        if (sub->state == REDIS_SUB_NEEDED && sub->is_awaiting) /* as left() would have */
            redis_seen_resume(&sub->seen, sub->seq);
        sub->is_awaiting = false;
        set_state(e, sub, REDIS_SUB_NEEDED);
        if (is_unused(sub))
            redis_sub_free(e, sub);
        else
            redis_sub_settle(e, sub);
    }
}

/* Answers
 * ---------------------------------------------------------------------------------------- */

static void left(struct engine_redis *e, struct redis_sub *sub)
{
    if (is_unused(sub)) {
        redis_sub_free(e, sub);
        return;
    }
    if (sub->state == REDIS_SUB_NEEDED) /* somebody came meanwhile, see redis_sub_use() */
        redis_seen_resume(&sub->seen, sub->seq);
    set_state(e, sub, REDIS_SUB_NEEDED);
    if (place_of(sub) != sub->server)
        redis_sub_settle(e, sub);
    else
        queue(e, sub, &sub->server->batches.urgent);
}

/* Its master has another one for its slot, or is none any more. */
static void ended(struct engine_redis *e, struct redis_sub *sub)
{
    struct redis_server *s = sub->server;

    if (s->masters == NULL || is_unused(sub)) {
        left(e, sub);
        return;
    }
    if (PLANTED(PLANT_REDIS_MISS_END))
        return;
    redis_stat(e, REDIS_STAT_ROOMS_ENDED);
    if (s->ended_count == 0)
        s->ended_ns = e->shard->io->now_ns;
    set_state(e, sub, REDIS_SUB_ENDED);
    redis_masters_ended(s, sub->slot);
    redis_sub_settle(e, sub); /* the map may know already */
    e->shard->next_turn_ns = 0;
}

static void confirmed(struct engine_redis *e, struct redis_sub *sub)
{
    sub->is_awaiting = false;
    sub->hops = 0;
    sub->server->batches.allows_more |= sub->is_refused;
    sub->asks_alone = sub->is_refused = false;
    set_state(e, sub, REDIS_SUB_CONFIRMED);
    engine_redis_confirmed(e, sub);
    if (sub->home_handle == 0)
        linger(e, sub); /* all have left meanwhile */
    redis_sub_settle(e, sub);
}

void redis_subs_push(struct engine_redis *e, struct redis_server *s, const struct redis_push *push)
{
    struct redis_sub *sub = redis_sub_find(e, push->channel, push->channel_len);

    if (sub == NULL || sub->server != s)
        return;
    if (push->kind == redis_subscribe_kind(s)) {
        if (sub->state == REDIS_SUB_ASKED)
            confirmed(e, sub);
    } else if (sub->state == REDIS_SUB_CONFIRMED) {
        ended(e, sub);
    } else if (sub->is_awaiting && sub->state != REDIS_SUB_ASKED) {
        sub->is_awaiting = false;
        left(e, sub);
    }
}

/* It is asked for again within a second, or when it has its turn. If it belongs to no other server,
 * what waits does not wait for that: it would fill the queue. */
static void refused_room(struct engine_redis *e, struct redis_sub *sub, bool is_allowed)
{
    sub->is_awaiting = false;
    set_state(e, sub, REDIS_SUB_NEEDED);
    if (place_of(sub) != sub->server) {
        redis_sub_settle(e, sub);
        return;
    }
    sub->asks_alone = sub->is_refused = !is_allowed;
    give_up(e, sub);
}

/* One of those in its command is not allowed, this one maybe is: it is asked for at once, and what
 * waits goes on waiting. */
static void ask_alone(struct engine_redis *e, struct redis_sub *sub)
{
    bool is_waited_for = sub->opening || sub->first != NULL;

    sub->is_awaiting = false;
    sub->asks_alone = true;
    set_state(e, sub, REDIS_SUB_NEEDED);
    if (is_unused(sub))
        linger(e, sub);
    else
        queue(e, sub, is_waited_for ? &sub->server->batches.urgent : &sub->server->batches.needed);
}

void redis_subs_answered(struct engine_redis *e, struct redis_server *s, uint32_t count,
                         const struct redis_reply *error)
{
    bool is_allowed =
        error == NULL || redis_error_of(error->text, error->len) != REDIS_ERROR_NOPERM;

    s->batches.rescan |= error != NULL; /* at the next look, not at once */
    for (uint32_t i = 0; i < count; i++) {
        struct redis_sub *sub = pool_find(&e->pool, due_queue_pop(&s->batches.asked));

        if (likely(error == NULL) || sub == NULL || sub->state != REDIS_SUB_ASKED)
            continue;
        if (!is_allowed && count > 1)
            ask_alone(e, sub);
        else
            refused_room(e, sub, is_allowed);
    }
}

/* Commands
 * --------------------------------------------------------------------------------------- */

struct batch {
    struct redis_server *server;
    struct redis_sub *subs[REDIS_BATCH_MAX];
    uint32_t count;
};

/* The next room of a queue of the batch's server; NULL: it has gone, or to another server. */
static struct redis_sub *next_room(struct engine_redis *e, const struct batch *b,
                                   struct due_queue *q)
{
    struct redis_sub *sub = pool_find(&e->pool, due_queue_pop(q));

    return sub != NULL && sub->server == b->server ? sub : NULL;
}

static void collect_needed(struct engine_redis *e, struct due_queue *q, struct batch *b)
{
    while (b->count < REDIS_BATCH_MAX && !due_queue_is_empty(q)) {
        struct redis_sub *sub = next_room(e, b, q);

        if (sub == NULL || sub->state != REDIS_SUB_NEEDED)
            continue; /* done already */
        if (sub->is_awaiting)
            continue; /* the answer to its UNSUBSCRIBE, which queues it again */
        if (unlikely(place_of(sub) != sub->server)) {
            redis_sub_settle(e, sub);
            continue;
        }
        set_state(e, sub, REDIS_SUB_ASKED);
        b->subs[b->count++] = sub;
    }
}

static void collect_leaving(struct engine_redis *e, struct due_queue *q, struct batch *b)
{
    while (b->count < REDIS_BATCH_MAX && !due_queue_is_empty(q)) {
        struct redis_sub *sub = next_room(e, b, q);

        if (sub == NULL || sub->state != REDIS_SUB_CONFIRMED)
            continue;
        if (!is_unused(sub) && place_of(sub) == sub->server)
            continue; /* somebody has come back, or its slot has */
        set_state(e, sub, REDIS_SUB_LEAVING);
        b->subs[b->count++] = sub;
    }
}

static int by_slot(const void *a, const void *b)
{
    const struct redis_sub *const *x = a, *const *y = b;

    return (int)(*x)->slot - (int)(*y)->slot;
}

/* How many of the first rooms go into one command: not one that asks alone, and in a cluster those
 * of one slot. Elsewhere all slots are 0. */
static uint32_t first_run(struct redis_sub *const *subs, uint32_t count)
{
    uint32_t n = 1;

    if (unlikely(subs[0]->asks_alone))
        return 1;
    while (n < count && subs[n]->slot == subs[0]->slot && !subs[n]->asks_alone)
        n++;
    return n;
}

static int send_command(struct redis_server *s, enum redis_push_kind kind,
                        struct redis_sub *const *subs, uint32_t count, uint64_t tag)
{
    struct redis_arg args[REDIS_BATCH_MAX];

    for (uint32_t i = 0; i < count; i++)
        args[i] = (struct redis_arg){.head = message_payload(subs[i]->channel),
                                     .head_len = subs[i]->channel->payload_len};
    return redis_link_subscribe(&s->subscribe, kind, args, count, tag);
}

/* Keeps in mind whom the answer is for. */
static bool note_asked(struct engine_redis *e, struct due_queue *q, struct redis_sub *const *subs,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (due_queue_push(q, pool_handle(&e->pool, subs[i]), 0))
            continue;
        q->tail -= i;
        return false;
    }
    return true;
}

/* False: no memory, or the link's queue is full. */
static bool subscribe(struct engine_redis *e, struct redis_server *s, struct redis_sub *const *subs,
                      uint32_t count)
{
    if (!note_asked(e, &s->batches.asked, subs, count))
        return false;
    if (send_command(s, redis_subscribe_kind(s), subs, count,
                     REDIS_TAG(REDIS_TAG_SUBSCRIBE, count)) == 0)
        return true;
    s->batches.asked.tail -= count;
    return false;
}

static bool unsubscribe(struct redis_server *s, struct redis_sub *const *subs, uint32_t count)
{
    return send_command(s, redis_unsubscribe_kind(s), subs, count,
                        REDIS_TAG(REDIS_TAG_UNSUBSCRIBE, 0)) == 0;
}

/* Sends the batch, in a cluster as a command for each slot. What is not taken is as it was. */
static bool send_batch(struct engine_redis *e, struct redis_server *s, struct batch *b,
                       enum redis_sub_state state)
{
    bool taken = true;

    if (s->masters != NULL)
        qsort(b->subs, b->count, sizeof(b->subs[0]), by_slot);
    for (uint32_t i = 0, n; i < b->count; i += n) {
        n = first_run(&b->subs[i], b->count - i);
        if (taken)
            taken = state == REDIS_SUB_ASKED ? subscribe(e, s, &b->subs[i], n)
                                             : unsubscribe(s, &b->subs[i], n);
        for (uint32_t k = i; k < i + n; k++) {
            b->subs[k]->is_awaiting = taken;
            if (!taken)
                set_state(e, b->subs[k],
                          state == REDIS_SUB_ASKED ? REDIS_SUB_NEEDED : REDIS_SUB_CONFIRMED);
        }
    }
    s->batches.rescan |= !taken;
    return taken;
}

static bool flush_leaving(struct engine_redis *e, struct redis_server *s)
{
    struct batch b;

    b.server = s;
    b.count = 0;
    collect_leaving(e, &s->batches.leaving, &b);
    return b.count > 0 && send_batch(e, s, &b, REDIS_SUB_LEAVING);
}

static bool flush_needed(struct engine_redis *e, struct redis_server *s)
{
    struct batch b;

    b.server = s;
    b.count = 0;
    if (due_queue_count(&s->batches.asked) >= REDIS_ASKED_MAX || s->is_canary_ended)
        return false;
    collect_needed(e, &s->batches.urgent, &b);
    collect_needed(e, &s->batches.needed, &b);
    return b.count > 0 && send_batch(e, s, &b, REDIS_SUB_ASKED);
}

void redis_subs_flush(struct engine_redis *e, struct redis_server *s)
{
    if (!redis_link_is_up(&s->subscribe))
        return;
    while (flush_leaving(e, s))
        ;
    while (flush_needed(e, s))
        ;
}

/* Whether the room, the i-th of all, is asked for again in this look. */
static bool has_turn(struct redis_batches *b, const struct redis_sub *sub, uint32_t i)
{
    if (likely(!sub->asks_alone))
        return true;
    if (i >= b->alone_from && b->alone_count < REDIS_ALONE_MAX) {
        b->alone_count++;
        return true;
    }
    if (i >= b->alone_from && b->alone_next == 0)
        b->alone_next = i;
    b->rescan = true;
    return false;
}

static void ask_again(struct engine_redis *e, struct redis_sub *sub, uint32_t i, bool together)
{
    struct redis_batches *b = &sub->server->batches;

    if (together)
        sub->asks_alone = false;
    if (has_turn(b, sub, i))
        queue(e, sub, &b->needed);
}

void redis_subs_look_again(struct engine_redis *e, struct redis_server *s)
{
    struct redis_batches *b = &s->batches;
    bool together = b->allows_more, lost_unused = b->lost_unused;
    struct redis_sub *sub;
    uint32_t i = 0;

    if (!b->rescan || !redis_link_is_up(&s->subscribe))
        return;
    b->rescan = b->allows_more = b->lost_unused = false;
    b->alone_count = b->alone_next = 0;
    while ((sub = pool_next(&e->pool, &i)) != NULL) {
        if (sub->server != s)
            continue;
        if (is_unused(sub) && lost_unused)
            linger(e, sub);
        else if (is_unused(sub))
            continue; /* the engine's queue has it */
        else if (place_of(sub) != s)
            redis_sub_settle(e, sub);
        else if (sub->state == REDIS_SUB_NEEDED)
            ask_again(e, sub, i, together);
    }
    b->alone_from = b->alone_next;
}

/* Nobody has come back. It goes here, or when Redis has answered. */
static void let_go(struct engine_redis *e, struct redis_sub *sub)
{
    if (sub->is_awaiting)
        return; /* confirmed() and left() look at it */
    if (sub->state == REDIS_SUB_CONFIRMED)
        leave(sub, pool_handle(&e->pool, sub));
    else
        redis_sub_free(e, sub);
}

uint64_t redis_subs_turn(struct engine_redis *e, uint64_t now_ns)
{
    while (due_queue_next_ns(&e->unused) <= now_ns) {
        struct redis_sub *sub = pool_find(&e->pool, due_queue_pop(&e->unused));

        if (sub != NULL && is_unused(sub) && now_ns >= sub->since_ns + e->config->linger_ns)
            let_go(e, sub);
    }
    return due_queue_next_ns(&e->unused);
}
