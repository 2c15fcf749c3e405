/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What waits for the end of the turn or of the window. On the shard's thread. */

#include "pubsub/hub_pending.h"

#include <errno.h>
#include <stdlib.h>

#include "pubsub/hub_fanout.h"
#include "pubsub/pubsub.h"

#define PENDING_INITIAL 64
/* A table of pending messages that a burst has grown beyond this is given back; and beyond a turn
 * no more than that wait. */
#define PENDING_KEPT 4096

/* What waits of a channel is at most this part of --max-queue: members who still have the last run
 * before them would be found slow. */
#define DELAYED_QUEUE_PART 4
/* What a waiting message costs beyond its frame, so that what a channel may have waiting is always
 * one run, in bytes and in messages. */
#define DELAYED_EACH (HUB_RUN_BYTES_MAX / HUB_RUN_MESSAGES_MAX)
/* Of all channels. */
#define DELAYED_COST_MAX (4u << 20)

int hub_pending_init(struct hub *h)
{
    h->pending_cap = PENDING_INITIAL;
    h->pending = calloc(PENDING_INITIAL, sizeof(*h->pending));
    return h->pending == NULL ? -ENOMEM : 0;
}

/* Leaving
 * ------------------------------------------------------------------------------------------ */

/* The last member has left meanwhile. */
static void drop(struct hub *h, uint32_t first)
{
    struct shard *s = h->pubsub->shard;

    while (first != 0) {
        const struct hub_pending *p = &h->pending[first - 1];

        pubsub_stat(h->pubsub, PUBSUB_STAT_STALE);
        shard_message_release(s, p->message);
        if (p->compressed != NULL)
            shard_message_release(s, p->compressed);
        first = p->next;
    }
}

void hub_pending_leave(struct hub *h, struct hub_channel *ch)
{
    uint32_t first = ch->pending_first;

    ch->pending_first = ch->pending_last = 0;
    ch->window = h->window;
    h->delayed_cost -= ch->delayed_cost;
    ch->delayed_cost = 0;
    if (likely(ch->count > 0 && first != 0))
        hub_fan_out(h, ch, first);
    else
        drop(h, first);
}

static void leave_all(struct hub *h, struct hub_channel **list)
{
    struct hub_channel *ch = *list;

    *list = NULL;
    while (ch != NULL) {
        struct hub_channel *next = ch->next_dirty;

        ch->is_delayed = false;
        hub_pending_leave(h, ch);
        ch = next;
    }
}

static void forget_pending(struct hub *h)
{
    h->pending_count = 0;
    if (unlikely(h->pending_cap > PENDING_KEPT)) {
        struct hub_pending *smaller = realloc(h->pending, PENDING_INITIAL * sizeof(*smaller));

        if (smaller != NULL) {
            h->pending = smaller;
            h->pending_cap = PENDING_INITIAL;
        }
    }
}

/* Ends a window that is over, and begins one. */
static void turn_window(struct hub *h)
{
    uint64_t now_ns = h->pubsub->shard->io->now_ns;

    if (now_ns < h->window_end_ns)
        return;
    h->window++;
    h->window_end_ns = now_ns + h->delay_ns;
    leave_all(h, &h->delayed);
}

static bool too_much_waits(const struct hub *h)
{
    return h->delayed_cost >= DELAYED_COST_MAX || h->pending_count >= PENDING_KEPT;
}

void hub_flush(struct hub *h)
{
    struct shard *s = h->pubsub->shard;

    if (unlikely(h->delay_ns != 0))
        turn_window(h);
    leave_all(h, &h->dirty);
    if (likely(h->delayed == NULL)) {
        forget_pending(h);
    } else if (unlikely(too_much_waits(h))) {
        pubsub_stat(h->pubsub, PUBSUB_STAT_DELAY_FULL);
        hub_flush_all(h);
    } else {
        s->next_turn_ns = min_u64(s->next_turn_ns, h->window_end_ns);
    }
}

void hub_flush_all(struct hub *h)
{
    leave_all(h, &h->delayed);
    leave_all(h, &h->dirty);
    forget_pending(h);
}

void hub_end_delay(struct hub *h)
{
    h->delay_ns = h->window_end_ns = 0;
    hub_flush_all(h);
}

/* Coming
 * ------------------------------------------------------------------------------------------ */

static bool grow_pending(struct hub *h)
{
    uint32_t cap = h->pending_cap * 2;
    struct hub_pending *bigger = realloc(h->pending, cap * sizeof(*bigger));

    if (bigger == NULL)
        return false;
    h->pending = bigger;
    h->pending_cap = cap;
    return true;
}

/* Whether what comes now for a channel on no list may wait until the window ends. */
static inline bool may_wait(const struct hub *h, const struct hub_channel *ch)
{
    return unlikely(h->window_end_ns != 0) && ch->window == h->window &&
           h->pubsub->shard->io->now_ns < h->window_end_ns;
}

static inline void enlist(struct hub *h, struct hub_channel *ch)
{
    struct hub_channel **list = &h->dirty;

    if (unlikely(ch->is_delayed)) /* it has left before its time */
        return;
    if (may_wait(h, ch)) {
        ch->is_delayed = true;
        list = &h->delayed;
    }
    ch->next_dirty = *list;
    *list = ch;
}

static void count_delayed(struct hub *h, struct hub_channel *ch, const struct message *m)
{
    uint64_t part = h->pubsub->net->max_queue_bytes / DELAYED_QUEUE_PART;
    uint32_t cost = message_frame_len(m) + DELAYED_EACH;

    pubsub_stat(h->pubsub, PUBSUB_STAT_DELAYED);
    ch->delayed_cost += cost;
    h->delayed_cost += cost;
    if (ch->delayed_cost < min_u64(part, HUB_RUN_BYTES_MAX))
        return;
    pubsub_stat(h->pubsub, PUBSUB_STAT_DELAY_FULL);
    hub_pending_leave(h, ch);
}

void hub_deliver(struct hub *h, uint32_t hub_handle, struct message *m, struct message *compressed)
{
    struct hub_channel *ch = pool_find(&h->pool, hub_handle);
    uint32_t i;

    if (ch == NULL || ch->count == 0) {
        pubsub_stat(h->pubsub, PUBSUB_STAT_STALE);
        shard_message_release(h->pubsub->shard, m);
        if (compressed != NULL)
            shard_message_release(h->pubsub->shard, compressed);
        return;
    }
    if (h->pending_count == h->pending_cap && !grow_pending(h))
        hub_flush_all(h); /* no memory for a longer list: what waits leaves earlier */
    i = h->pending_count++;
    h->pending[i] = (struct hub_pending){.message = m, .compressed = compressed};
    if (ch->pending_first == 0) {
        ch->pending_first = i + 1;
        enlist(h, ch);
    } else {
        h->pending[ch->pending_last - 1].next = i + 1;
    }
    ch->pending_last = i + 1;
    if (unlikely(ch->is_delayed))
        count_delayed(h, ch, m);
}
