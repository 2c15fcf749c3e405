/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Fan-out. The cost per member and turn is one reference and one send, however many messages. On
 * the shard's thread. */

#include "pubsub/hub_fanout.h"

#include <string.h>

#include "core/plant.h"
#include "net/compress.h"
#include "pubsub/pubsub.h"

/* From this mean frame length on, copying costs more than one more span in a gathered send. */
#define RUN_MEAN_FRAME_MAX 4096

/* The messages of one run, in order; and where each one's frame begins in it. */
struct batch {
    struct message *messages[HUB_RUN_MESSAGES_MAX];
    struct message *compressed[HUB_RUN_MESSAGES_MAX];
    uint32_t at[HUB_RUN_MESSAGES_MAX + 1];
    uint32_t count;
    uint32_t bytes;       /* of the plain frames */
    uint32_t payload_max; /* longest payload that has a compressed twin */
    bool has_compressed;
    bool has_own; /* some sender on this shard does not want its own message */
};

static void release_batch(struct hub *h, struct batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        shard_message_release(h->pubsub->shard, b->messages[i]);
        if (b->compressed[i] != NULL)
            shard_message_release(h->pubsub->shard, b->compressed[i]);
    }
}

/* Members can't be served: losing a message silently is worse than losing them. */
static void give_up(struct hub *h, struct hub_channel *ch)
{
    pubsub_stat(h->pubsub, PUBSUB_STAT_LOST);
    for (uint32_t i = 0; i < ch->count; i++)
        conn_end(ch->members[i], CONN_END_NO_MEMORY);
}

static inline bool is_own(const struct hub *h, const struct conn *c, const struct message *m)
{
    return m->sender != 0 && m->sender_shard == h->pubsub->shard->idx &&
           m->sender == conn_handle(c);
}

/* One message
 * ------------------------------------------------------------------------------------------ */

/* A run over a message whose reference it takes; NULL: no memory, the reference is released. */
static struct run *run_over(struct hub *h, struct message *m)
{
    struct run *r = run_new(&h->pubsub->shard->messages, m);

    if (unlikely(r == NULL))
        shard_message_release(h->pubsub->shard, m);
    return r;
}

static void queue_single(struct hub *h, struct hub_channel *ch, const struct message *m,
                         struct run *plain, struct run *compressed)
{
    uint32_t payload_len = m->payload_len;
    bool check_own = m->sender != 0;
    uint64_t queued = 0;

    for (uint32_t i = 0; i < ch->count; i++) {
        struct conn *c = ch->members[i];
        struct run *r = plain;

        if (i + 2 < ch->count)
            __builtin_prefetch(ch->members[i + 2]);
        if (unlikely(check_own) && (c->app_bits & HUB_CONN_NO_ECHO) && is_own(h, c, m))
            continue;
        if (compressed != NULL && compress_suits(c, payload_len))
            r = compressed;
        queued += conn_queue(c, r, 0, r->len);
        if (PLANTED(PLANT_DOUBLE_DELIVERY) && i + 1 == ch->count && ch->cap > ch->count + 4)
            conn_queue(c, r, 0, r->len);
    }
    stats_add(&h->pubsub->stats[PUBSUB_STAT_DELIVERIES], queued);
}

static void fan_out_single(struct hub *h, struct hub_channel *ch, struct message *m,
                           struct message *z)
{
    struct shard *s = h->pubsub->shard;
    struct run *plain = run_over(h, m);
    struct run *compressed = z == NULL ? NULL : run_over(h, z);

    if (unlikely(plain == NULL)) {
        give_up(h, ch);
    } else {
        pubsub_stat(h->pubsub, PUBSUB_STAT_RUNS);
        queue_single(h, ch, m, plain, compressed);
        shard_run_unref(s, plain);
    }
    if (compressed != NULL)
        shard_run_unref(s, compressed);
}

/* Several messages
 * --------------------------------------------------------------------------------------- */

/* Lays the frames side by side; with `compressed` the twins where there are some. */
static struct run *lay_run(struct hub *h, struct batch *b, bool compressed)
{
    struct message_pool *pool = &h->pubsub->shard->messages;
    struct message *laid = message_new(pool, b->bytes);
    uint32_t len = 0;

    if (laid == NULL)
        return NULL;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct message *m =
            compressed && b->compressed[i] != NULL ? b->compressed[i] : b->messages[i];

        if (!compressed)
            b->at[i] = len;
        memcpy(message_payload(laid) + len, message_frame(m), message_frame_len(m));
        len += message_frame_len(m);
    }
    if (!compressed)
        b->at[b->count] = len;
    laid->head_len = 0;
    laid->payload_len = len;
    stats_add(&h->pubsub->stats[PUBSUB_STAT_RUN_COPIES], b->count);
    return run_over(h, laid);
}

/* All but the member's own messages: the stretches between those. Returns how many messages. */
static uint32_t queue_without_own(struct hub *h, struct conn *c, const struct batch *b,
                                  struct run *r)
{
    uint32_t from = 0; /* the first message of the stretch */
    uint32_t queued = 0;

    for (uint32_t i = 0; i <= b->count; i++) {
        if (i < b->count && !is_own(h, c, b->messages[i]))
            continue;
        if (i > from && conn_queue(c, r, b->at[from], b->at[i] - b->at[from]))
            queued += i - from;
        from = i + 1;
    }
    return queued;
}

static void queue_batch(struct hub *h, struct hub_channel *ch, const struct batch *b,
                        struct run *plain, struct run *compressed)
{
    uint64_t queued = 0;

    for (uint32_t i = 0; i < ch->count; i++) {
        struct conn *c = ch->members[i];

        if (i + 2 < ch->count)
            __builtin_prefetch(ch->members[i + 2]);
        if (unlikely(b->has_own) && (c->app_bits & HUB_CONN_NO_ECHO))
            queued += queue_without_own(h, c, b, plain);
        else if (compressed != NULL && compress_suits(c, b->payload_max))
            queued += conn_queue(c, compressed, 0, compressed->len) ? b->count : 0;
        else
            queued += conn_queue(c, plain, 0, plain->len) ? b->count : 0;
    }
    stats_add(&h->pubsub->stats[PUBSUB_STAT_DELIVERIES], queued);
}

static void fan_out_each(struct hub *h, struct hub_channel *ch, struct batch *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        fan_out_single(h, ch, b->messages[i], b->compressed[i]);
}

static void fan_out_batch(struct hub *h, struct hub_channel *ch, struct batch *b)
{
    struct run *plain, *compressed;

    if (b->count == 1 || ch->count == 1 || b->bytes / b->count > RUN_MEAN_FRAME_MAX) {
        fan_out_each(h, ch, b);
        return;
    }
    plain = lay_run(h, b, false);
    if (plain == NULL) {
        fan_out_each(h, ch, b);
        return;
    }
    compressed = b->has_compressed ? lay_run(h, b, true) : NULL;
    pubsub_stat(h->pubsub, PUBSUB_STAT_RUNS);
    queue_batch(h, ch, b, plain, compressed);
    release_batch(h, b);
    shard_run_unref(h->pubsub->shard, plain);
    if (compressed != NULL)
        shard_run_unref(h->pubsub->shard, compressed);
}

static void add_to_batch(struct hub *h, struct batch *b, const struct hub_pending *p)
{
    b->messages[b->count] = p->message;
    b->compressed[b->count] = p->compressed;
    b->count++;
    b->bytes += message_frame_len(p->message);
    if (p->compressed != NULL) {
        b->has_compressed = true;
        if (p->message->payload_len > b->payload_max)
            b->payload_max = p->message->payload_len;
    }
    if (p->message->sender != 0 && p->message->sender_shard == h->pubsub->shard->idx)
        b->has_own = true;
}

void hub_fan_out(struct hub *h, struct hub_channel *ch, uint32_t first)
{
    const struct hub_pending *p = &h->pending[first - 1];
    struct batch b;

    if (likely(p->next == 0)) {
        fan_out_single(h, ch, p->message, p->compressed);
        return;
    }
    while (first != 0) {
        b.count = b.bytes = b.payload_max = 0;
        b.has_compressed = b.has_own = false;
        do {
            p = &h->pending[first - 1];
            add_to_batch(h, &b, p);
            first = p->next;
        } while (first != 0 && b.count < HUB_RUN_MESSAGES_MAX && b.bytes < HUB_RUN_BYTES_MAX);
        fan_out_batch(h, ch, &b);
    }
}
