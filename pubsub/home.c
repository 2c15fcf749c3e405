/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Channels owned by this shard. On the shard's thread. */

#include "pubsub/home.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/plant.h"
#include "net/compress.h"
#include "pubsub/hub_credit.h"
#include "pubsub/hub_pending.h"
#include "pubsub/pubsub.h"

/* How soon a home that withholds credit looks at its backlog again. */
#define WITHHELD_LOOK_NS NS_PER_MS

static struct bytes channel_key(const void *object)
{
    const struct home_channel *ch = object;

    return (struct bytes){message_payload(ch->name), ch->name->payload_len};
}

int home_init(struct home *h, struct pubsub *p)
{
    *h = (struct home){.pubsub = p};
    map_init(&h->channels, channel_key, p->shard->node->seed);
    pool_init(&h->pool, "home_channels", sizeof(struct home_channel), 1u << POOL_INDEX_BITS, 0);
    h->credit_due = calloc(p->shard->node->shard_count, sizeof(*h->credit_due));
    return h->credit_due == NULL ? -ENOMEM : 0;
}

static void free_channel(struct home *h, struct home_channel *ch)
{
    struct message *name = ch->name;

    map_remove(&h->channels, message_payload(name), name->payload_len);
    if (ch->more != NULL)
        message_free(&h->pubsub->shard->messages, ch->more);
    pool_release(&h->pool, ch);
    shard_message_release(h->pubsub->shard, name);
    stats_sub(&h->pubsub->stats[PUBSUB_STAT_HOME_CHANNELS], 1);
}

void home_deinit(struct home *h)
{
    struct home_channel *ch;
    uint32_t i = 0;

    while ((ch = pool_next(&h->pool, &i)) != NULL)
        free_channel(h, ch);
    map_deinit(&h->channels);
    pool_deinit(&h->pool);
    free(h->credit_due);
}

uint32_t home_of(const struct pubsub *p, const void *name, size_t len)
{
    const struct node *node = p->shard->node;

    /* Not the hash tables' own bits: those of one home would share them. */
    return (uint32_t)((map_hash(~node->seed, name, len) >> 32) * node->shard_count >> 32);
}

/* Interests
 * ---------------------------------------------------------------------------------------- */

static bool make_room(struct home *h, struct home_channel *ch)
{
    struct message *mem;
    uint32_t cap = ch->cap * 2;

    if (ch->count < ch->cap)
        return true;
    mem = message_new(&h->pubsub->shard->messages, cap * (uint32_t)sizeof(struct home_interest));
    if (mem == NULL)
        return false;
    memcpy(message_payload(mem), ch->interests, ch->count * sizeof(struct home_interest));
    if (ch->more != NULL)
        message_free(&h->pubsub->shard->messages, ch->more);
    ch->more = mem;
    ch->interests = (struct home_interest *)message_payload(mem);
    ch->cap = cap;
    return true;
}

/* Takes the reference to the name. */
static struct home_channel *new_channel(struct home *h, struct message *name)
{
    struct home_channel *ch = pool_acquire(&h->pool);

    if (ch == NULL)
        return NULL;
    memset(ch, 0, sizeof(*ch));
    ch->name = name;
    ch->interests = ch->few;
    ch->cap = HOME_INTERESTS_INLINE;
    if (map_insert(&h->channels, ch) != 0) {
        pool_release(&h->pool, ch);
        return NULL;
    }
    stats_inc(&h->pubsub->stats[PUBSUB_STAT_HOME_CHANNELS]);
    return ch;
}

/* A channel with nobody yet; NULL, and why. Takes the reference to the name. */
static struct home_channel *open_channel(struct home *h, struct message *name, uint32_t *wants,
                                         enum home_join *why)
{
    struct home_channel *ch = new_channel(h, name);
    enum engine_open open = ENGINE_OPEN;

    *why = HOME_JOIN_NO_MEMORY;
    if (ch == NULL) {
        shard_message_release(h->pubsub->shard, name);
        return NULL;
    }
    if (h->engine != NULL)
        open = h->engine->calls->open(h->engine, ch);
    if (open == ENGINE_OPENING)
        *wants |= HOME_INTEREST_WAITS;
    if (open == ENGINE_OPEN || open == ENGINE_OPENING)
        return ch;
    if (open == ENGINE_AWAY)
        *why = HOME_JOIN_AWAY;
    free_channel(h, ch);
    return NULL;
}

enum home_join home_join(struct home *h, uint32_t from, uint32_t hub_handle, struct message *name,
                         uint32_t wants, uint32_t *handle)
{
    struct shard *s = h->pubsub->shard;
    struct home_channel *ch = map_find(&h->channels, message_payload(name), name->payload_len);
    enum home_join why = HOME_JOIN_NO_MEMORY;

    *handle = 0;
    if (ch == NULL) {
        ch = open_channel(h, name, &wants, &why);
        if (ch == NULL)
            return why;
    } else {
        shard_message_release(s, name);
        if (home_refuses(h, s->idx, ch->name))
            return HOME_JOIN_AWAY;
        if (!make_room(h, ch))
            return HOME_JOIN_NO_MEMORY;
        wants |= ch->interests[0].wants & HOME_INTEREST_WAITS; /* all wait, or none */
    }
    ch->interests[ch->count++] =
        (struct home_interest){hub_handle, (uint16_t)from, (uint16_t)wants};
    ch->wants_compressed += (wants & HOME_INTEREST_COMPRESSED) != 0;
    *handle = pool_handle(&h->pool, ch);
    return wants & HOME_INTEREST_WAITS ? HOME_JOIN_WAITS : HOME_JOINED;
}

/* What a hub that waits is told; handle 0: refused. */
static void answer_join(struct home *h, const struct home_interest *i, uint32_t handle,
                        enum home_join how)
{
    struct shard *s = h->pubsub->shard;
    struct ring_item item = {.kind = PUBSUB_ITEM_JOINED, .a = i->hub_handle, .b = handle, .c = how};

    if (i->shard == s->idx)
        hub_joined(&h->pubsub->hub, i->hub_handle, handle, how);
    else
        shard_post(s, i->shard, &item, 0);
}

void home_opened(struct home *h, uint32_t handle)
{
    struct home_channel *ch = pool_find(&h->pool, handle);

    CHECK(ch != NULL);
    for (uint32_t i = ch->count; i-- > 0;) { /* an answer may make its hub leave */
        struct home_interest to = ch->interests[i];

        if (!(to.wants & HOME_INTEREST_WAITS))
            continue;
        ch->interests[i].wants &= (uint16_t)~HOME_INTEREST_WAITS;
        answer_join(h, &to, handle, HOME_JOINED);
    }
}

void home_open_failed(struct home *h, uint32_t handle, enum engine_open why)
{
    struct home_channel *ch = pool_find(&h->pool, handle);

    CHECK(ch != NULL);
    for (uint32_t i = 0; i < ch->count; i++)
        answer_join(h, &ch->interests[i], 0,
                    why == ENGINE_AWAY ? HOME_JOIN_AWAY : HOME_JOIN_NO_MEMORY);
    free_channel(h, ch);
}

static struct home_interest *find_interest(struct home_channel *ch, uint32_t shard)
{
    for (uint32_t i = 0; i < ch->count; i++) {
        if (ch->interests[i].shard == shard)
            return &ch->interests[i];
    }
    return NULL;
}

void home_want(struct home *h, uint32_t from, uint32_t handle, uint32_t wants)
{
    struct home_channel *ch = pool_find(&h->pool, handle);
    struct home_interest *i = ch == NULL ? NULL : find_interest(ch, from);

    CHECK(i != NULL);
    if ((i->wants ^ wants) & wants & HOME_INTEREST_COMPRESSED)
        ch->wants_compressed++;
    i->wants |= (uint16_t)wants;
}

void home_leave(struct home *h, uint32_t from, uint32_t handle)
{
    struct home_channel *ch = pool_find(&h->pool, handle);
    struct home_interest *i = ch == NULL ? NULL : find_interest(ch, from);

    CHECK(i != NULL);
    if (PLANTED(PLANT_STALE_INTEREST) && ch->count > 1)
        return;
    ch->wants_compressed -= (i->wants & HOME_INTEREST_COMPRESSED) != 0;
    *i = ch->interests[--ch->count];
    if (ch->count > 0)
        return;
    if (h->engine != NULL)
        h->engine->calls->close(h->engine, ch);
    free_channel(h, ch);
}

/* Messages
 * ----------------------------------------------------------------------------------------- */

static void pass_on(struct home *h, const struct home_interest *to, struct message *m,
                    struct message *z)
{
    struct shard *s = h->pubsub->shard;
    struct ring_item item = {
        .kind = PUBSUB_ITEM_DELIVER, .a = to->hub_handle, .c = (uint64_t)(uintptr_t)z, .ptr = m};

    if (to->shard == s->idx)
        hub_deliver(&h->pubsub->hub, to->hub_handle, m, z);
    else
        shard_post(s, to->shard, &item, message_frame_len(m));
}

void home_taken(struct home *h, uint32_t from, uint64_t cost)
{
    if (from != h->pubsub->shard->idx)
        h->credit_due[from] += cost;
}

static uint64_t engine_room(const struct home *h)
{
    return h->engine == NULL ? UINT64_MAX : h->engine->calls->room(h->engine);
}

void home_publish(struct home *h, uint32_t from, uint32_t handle, struct message *m)
{
    struct home_channel *ch = pool_find(&h->pool, handle);

    DCHECK(m->home == h->pubsub->shard->idx);
    CHECK(ch != NULL);
    if (unlikely(h->engine != NULL)) {
        h->engine->calls->publish(h->engine, ch, m);
        h->withheld |= engine_room(h) == 0;
        return;
    }
    home_taken(h, from, home_cost(m));
    home_deliver(h, ch, m);
}

void home_deliver(struct home *h, struct home_channel *ch, struct message *m)
{
    struct pubsub *p = h->pubsub;
    struct message *z = NULL;
    uint32_t count;

    m->seq = ++ch->seq;
    pubsub_stat(p, PUBSUB_STAT_ORDERED);
    if (ch->wants_compressed > 0)
        z = compress_message(p->net, m);
    /* The one reference that came with m, and one more for each further shard. */
    count = ch->count;
    m->refs += count - 1;
    if (z != NULL)
        z->refs += count - 1;
    for (uint32_t i = 0; i < count; i++)
        pass_on(h, &ch->interests[i], m, z);
}

static uint64_t largest_backlog(const struct home *h)
{
    const struct shard *s = h->pubsub->shard;
    uint64_t largest = 0;

    for (uint32_t i = 0; i < s->node->shard_count; i++) {
        if (i != s->idx)
            largest = max_u64(largest, mesh_backlog_bytes(s->mesh, i));
    }
    return largest;
}

static bool backlog_is_over(const struct home *h)
{
    const struct pubsub *p = h->pubsub;
    uint64_t bound = p->config->mesh_backlog_bytes;

    return unlikely(mesh_stats(p->shard->mesh)->backlog_bytes > bound) &&
           largest_backlog(h) > bound;
}

/* Publishers of this shard that had to wait go on as far as backlogs and engine leave room. Whether
 * they have published, or all of them have left, is seen at the next look. */
static void wake_own(struct home *h)
{
    struct shard *s = h->pubsub->shard;
    uint64_t bound = h->pubsub->config->mesh_backlog_bytes;
    uint64_t largest = largest_backlog(h);

    hub_wake_own(&h->pubsub->hub, min_u64(largest < bound ? bound - largest : 0, engine_room(h)));
    s->next_turn_ns = min_u64(s->next_turn_ns, s->io->now_ns + WITHHELD_LOOK_NS);
}

static void give_credit(struct home *h, uint32_t to)
{
    struct ring_item item = {.kind = PUBSUB_ITEM_CREDIT, .b = h->credit_due[to]};

    if (PLANTED(PLANT_LOSE_CREDIT) && (h->credit_due[to] & 63) == 0) {
        h->credit_due[to] = 0;
        return;
    }
    h->credit_due[to] = 0;
    shard_post(h->pubsub->shard, to, &item, 0);
}

void home_flush(struct home *h)
{
    struct shard *s = h->pubsub->shard;

    if (s->node->shard_count == 1 && h->engine == NULL)
        return;
    h->withheld = backlog_is_over(h) || engine_room(h) == 0;
    if (unlikely(h->withheld)) {
        pubsub_stat(h->pubsub, PUBSUB_STAT_CREDIT_WITHHELD);
        s->next_turn_ns = min_u64(s->next_turn_ns, s->io->now_ns + WITHHELD_LOOK_NS);
        return;
    }
    if (unlikely(h->pubsub->hub.waiting[s->idx] != NULL))
        wake_own(h);
    for (uint32_t i = 0; i < s->node->shard_count; i++) {
        if (h->credit_due[i] > 0)
            give_credit(h, i);
    }
}
