/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Own subscribers by channel. On the shard's thread. What waits is hub_pending.c, fanning out
 * hub_fanout.c, who may publish when is hub_credit.c. */

#include "pubsub/hub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/hub_credit.h"
#include "pubsub/hub_pending.h"
#include "pubsub/pubsub.h"

static struct bytes channel_key(const void *object)
{
    const struct hub_channel *ch = object;

    return (struct bytes){message_payload(ch->name), ch->name->payload_len};
}

int hub_init(struct hub *h, struct pubsub *p)
{
    uint32_t shards = p->shard->node->shard_count;

    *h = (struct hub){.pubsub = p,
                      .window_bytes = p->config->mesh_window_bytes,
                      .delay_ns = p->config->write_delay_ns};
    map_init(&h->channels, channel_key, p->shard->node->seed);
    pool_init(&h->pool, "hub_channels", sizeof(struct hub_channel), 1u << POOL_INDEX_BITS, 0);
    h->credit_used = calloc(shards, sizeof(*h->credit_used));
    h->waiting = calloc(shards, sizeof(struct hub_member *));
    if (h->credit_used == NULL || h->waiting == NULL)
        return -ENOMEM;
    return hub_pending_init(h);
}

static void free_channel(struct hub *h, struct hub_channel *ch)
{
    struct shard *s = h->pubsub->shard;

    map_remove(&h->channels, message_payload(ch->name), ch->name->payload_len);
    if (ch->more != NULL)
        message_free(&s->messages, ch->more);
    message_free(&s->messages, ch->name);
    pool_release(&h->pool, ch);
    stats_sub(&h->pubsub->stats[PUBSUB_STAT_CHANNELS], 1);
}

void hub_deinit(struct hub *h)
{
    struct hub_channel *ch;
    uint32_t i = 0;

    while ((ch = pool_next(&h->pool, &i)) != NULL)
        free_channel(h, ch);
    map_deinit(&h->channels);
    pool_deinit(&h->pool);
    free(h->pending);
    free(h->credit_used);
    free(h->waiting);
}

/* Members
 * ------------------------------------------------------------------------------------------ */

static struct message *copy_name(struct hub *h, const void *name, uint32_t len)
{
    struct message *m = message_new(&h->pubsub->shard->messages, len);

    if (m == NULL)
        return NULL;
    memcpy(message_payload(m), name, len);
    m->payload_len = len;
    return m;
}

static struct hub_channel *new_channel(struct hub *h, const void *name, uint32_t len)
{
    struct hub_channel *ch = pool_acquire(&h->pool);

    if (ch == NULL)
        return NULL;
    memset(ch, 0, sizeof(*ch));
    ch->members = ch->few;
    ch->cap = HUB_MEMBERS_INLINE;
    ch->home = (uint16_t)home_of(h->pubsub, name, len);
    ch->name = copy_name(h, name, len);
    if (ch->name == NULL)
        goto free_slot;
    if (map_insert(&h->channels, ch) != 0)
        goto free_name;
    stats_inc(&h->pubsub->stats[PUBSUB_STAT_CHANNELS]);
    return ch;
free_name:
    message_free(&h->pubsub->shard->messages, ch->name);
free_slot:
    pool_release(&h->pool, ch);
    return NULL;
}

static bool make_room(struct hub *h, struct hub_channel *ch)
{
    uint32_t cap = ch->cap < 8 ? 8 : ch->cap + ch->cap / 4 + 4;
    struct message *mem;

    if (ch->count < ch->cap)
        return true;
    mem = message_new(&h->pubsub->shard->messages, cap * (uint32_t)sizeof(struct conn *));
    if (mem == NULL)
        return false;
    memcpy(message_payload(mem), ch->members, ch->count * sizeof(struct conn *));
    if (ch->more != NULL)
        message_free(&h->pubsub->shard->messages, ch->more);
    ch->more = mem;
    ch->members = (struct conn **)message_payload(mem);
    ch->cap = message_capacity(mem) / (uint32_t)sizeof(struct conn *);
    return true;
}

/* A room that has lost most of its members gives memory back. */
static void shrink(struct hub *h, struct hub_channel *ch)
{
    struct message *mem;
    uint32_t cap = ch->cap / 2;

    if (ch->more == NULL || ch->count * 4 > ch->cap || cap < 8)
        return;
    mem = message_new(&h->pubsub->shard->messages, cap * (uint32_t)sizeof(struct conn *));
    if (mem == NULL)
        return;
    memcpy(message_payload(mem), ch->members, ch->count * sizeof(struct conn *));
    message_free(&h->pubsub->shard->messages, ch->more);
    ch->more = mem;
    ch->members = (struct conn **)message_payload(mem);
    ch->cap = message_capacity(mem) / (uint32_t)sizeof(struct conn *);
}

static int end_of(uint32_t how)
{
    return how == HOME_JOIN_AWAY ? CONN_END_UNAVAILABLE : CONN_END_NO_MEMORY;
}

/* Asks the home for the channel: the answer may come at once when that is this shard. Returns as
 * hub_join(). */
static int ask_home(struct hub *h, struct hub_channel *ch)
{
    struct pubsub *p = h->pubsub;
    struct message *name = copy_name(h, message_payload(ch->name), ch->name->payload_len);
    uint32_t handle = pool_handle(&h->pool, ch);
    struct ring_item item = {.kind = PUBSUB_ITEM_JOIN, .a = handle, .b = ch->wants, .ptr = name};
    enum home_join how;

    if (name == NULL)
        return CONN_END_NO_MEMORY;
    ch->state = HUB_JOINING;
    if (ch->home != p->shard->idx) {
        shard_post(p->shard, ch->home, &item, 0);
        return 0;
    }
    how = home_join(&p->home, p->shard->idx, handle, name, ch->wants, &ch->home_handle);
    if (how == HOME_JOINED)
        ch->state = HUB_JOINED;
    return how == HOME_JOINED || how == HOME_JOIN_WAITS ? 0 : end_of(how);
}

static void tell_wants(struct hub *h, struct hub_channel *ch)
{
    struct pubsub *p = h->pubsub;
    struct ring_item item = {.kind = PUBSUB_ITEM_INTEREST, .a = ch->home_handle, .b = ch->wants};

    if (ch->home == p->shard->idx)
        home_want(&p->home, p->shard->idx, ch->home_handle, ch->wants);
    else
        shard_post(p->shard, ch->home, &item, 0);
}

/* The channel with that name, made when needed. Returns as hub_join(). */
static int get_channel(struct hub *h, const void *name, uint32_t len, uint8_t wants,
                       struct hub_channel **out)
{
    struct hub_channel *ch = map_find(&h->channels, name, len);
    int end;

    *out = ch;
    if (ch != NULL && ch->state == HUB_REFUSED)
        return end_of(ch->refused);
    if (ch != NULL)
        return home_refuses(&h->pubsub->home, ch->home, ch->name) ? end_of(HOME_JOIN_AWAY) : 0;
    *out = ch = new_channel(h, name, len);
    if (ch == NULL)
        return CONN_END_NO_MEMORY;
    ch->wants = wants;
    end = ask_home(h, ch);
    if (end != 0)
        free_channel(h, ch);
    return end;
}

int hub_join(struct hub *h, const void *name, uint32_t len, struct hub_member *m)
{
    uint8_t wants = m->conn->flags & CONN_F_DEFLATE ? HOME_INTEREST_COMPRESSED : 0;
    struct hub_channel *ch;
    int end = get_channel(h, name, len, wants, &ch);

    if (end != 0)
        return end;
    if (unlikely(ch->is_delayed))
        hub_pending_leave(h, ch); /* who comes now was not there */
    if (!make_room(h, ch))
        return CONN_END_NO_MEMORY; /* a new channel has room inline: none is left empty */
    m->channel = ch;
    m->place = ch->count;
    ch->members[ch->count++] = m->conn;
    if (wants & ~ch->wants) {
        ch->wants |= wants;
        if (ch->state == HUB_JOINED)
            tell_wants(h, ch);
    }
    if (ch->state == HUB_JOINING)
        conn_hold(m->conn, CONN_HOLD_APP);
    return 0;
}

/* Nobody is in the channel. */
static void end_channel(struct hub *h, struct hub_channel *ch)
{
    if (unlikely(ch->is_delayed))
        hub_flush_all(h);
    CHECK(ch->pending_first == 0); /* sessions end after the hub's flush */
    free_channel(h, ch);
}

static void leave_home(struct hub *h, struct hub_channel *ch)
{
    struct pubsub *p = h->pubsub;
    struct ring_item item = {.kind = PUBSUB_ITEM_LEAVE, .a = ch->home_handle};

    if (ch->home == p->shard->idx)
        home_leave(&p->home, p->shard->idx, ch->home_handle);
    else
        shard_post(p->shard, ch->home, &item, 0);
    end_channel(h, ch);
}

void hub_leave(struct hub *h, struct hub_member *m)
{
    struct hub_channel *ch = m->channel;
    struct conn *last = ch->members[--ch->count];

    hub_credit_forget(h, m);
    if (m->place < ch->count) {
        ch->members[m->place] = last;
        hub_member_of(last)->place = m->place;
    }
    if (ch->count > 0)
        shrink(h, ch);
    else if (ch->state == HUB_JOINED)
        leave_home(h, ch);
    else if (ch->state == HUB_REFUSED)
        end_channel(h, ch);
}

static void join_refused(struct hub *h, struct hub_channel *ch, uint32_t how)
{
    ch->state = HUB_REFUSED;
    ch->refused = (uint8_t)how;
    for (uint32_t i = 0; i < ch->count; i++)
        conn_end(ch->members[i], (enum conn_end)end_of(how));
    if (ch->count == 0)
        end_channel(h, ch);
}

void hub_joined(struct hub *h, uint32_t hub_handle, uint32_t home_handle, uint32_t how)
{
    struct hub_channel *ch = pool_find(&h->pool, hub_handle);

    CHECK(ch != NULL);
    CHECK(ch->state == HUB_JOINING);
    if (home_handle == 0) {
        join_refused(h, ch, how);
        return;
    }
    ch->home_handle = home_handle;
    ch->state = HUB_JOINED;
    if (ch->count == 0) {
        leave_home(h, ch);
        return;
    }
    if (ch->wants != 0)
        tell_wants(h, ch); /* repeating what JOIN said is harmless */
    for (uint32_t i = 0; i < ch->count; i++)
        conn_unhold(ch->members[i], CONN_HOLD_APP);
}

/* Publishing
 * --------------------------------------------------------------------------------------- */

void hub_publish(struct hub *h, struct hub_channel *ch, struct message *m)
{
    struct pubsub *p = h->pubsub;
    struct ring_item item = {.kind = PUBSUB_ITEM_PUBLISH, .a = ch->home_handle, .ptr = m};

    pubsub_stat(p, PUBSUB_STAT_PUBLISHED);
    if (ch->home == p->shard->idx) {
        home_publish(&p->home, p->shard->idx, ch->home_handle, m);
        return;
    }
    pubsub_stat(p, PUBSUB_STAT_PUBLISHED_REMOTE);
    m->home = ch->home;
    h->credit_used[ch->home] += home_cost(m);
    p->shard->awaiting += home_cost(m);
    shard_post(p->shard, ch->home, &item, message_frame_len(m));
}
