/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The map of a cluster. On the shard's thread. */

#include "pubsub/redis_cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Nodes of the URL and masters that have slots. */
static void list_nodes(struct redis_cluster *c)
{
    uint32_t count = c->seed_count;

    for (uint32_t i = 0; i < c->slots.node_count; i++) {
        if (c->slots.slot_counts[i] > 0)
            c->endpoints[count++] = c->slots.nodes[i];
    }
    redis_scout_set_endpoints(&c->scout, c->endpoints, count);
}

/* Denials
 * ----------------------------------------------------------------------------------------- */

static bool counts(const struct redis_cluster *c, const struct redis_denial *d)
{
    return d->at_ns != 0 && c->scout.link.io->now_ns - d->at_ns < REDIS_CLUSTER_DENIAL_NS;
}

/* When that server last denied the slot; 0: it has not. */
static uint64_t denied_ns(const struct redis_cluster *c, const struct redis_endpoint *by,
                          uint32_t slot)
{
    uint64_t last_ns = 0;

    for (uint32_t i = 0; i < REDIS_CLUSTER_DENIALS; i++) {
        const struct redis_denial *d = &c->denials[i];

        if (d->at_ns > last_ns && counts(c, d) && redis_endpoint_is_same(&d->by, by) &&
            (d->slot == slot || d->slot == REDIS_CLUSTER_EVERY_SLOT))
            last_ns = d->at_ns;
    }
    return last_ns;
}

/* How long it should be kept: what counts no more goes first, what is about all slots last. */
static uint64_t rank(const struct redis_cluster *c, const struct redis_denial *d)
{
    if (!counts(c, d))
        return 0;
    return d->slot == REDIS_CLUSTER_EVERY_SLOT ? d->at_ns | UINT64_C(1) << 63 : d->at_ns;
}

/* Its own place, or a free one, or that of the least rank. */
static struct redis_denial *place_for(struct redis_cluster *c, const struct redis_endpoint *by,
                                      uint32_t slot)
{
    struct redis_denial *least = &c->denials[0];

    for (uint32_t i = 0; i < REDIS_CLUSTER_DENIALS; i++) {
        struct redis_denial *d = &c->denials[i];

        if (d->at_ns != 0 && d->slot == slot && redis_endpoint_is_same(&d->by, by))
            return d;
        if (rank(c, d) < rank(c, least))
            least = d;
    }
    return least;
}

static void deny(struct redis_cluster *c, const struct redis_endpoint *by, uint32_t slot,
                 bool is_unreachable)
{
    *place_for(c, by, slot) = (struct redis_denial){.by = *by,
                                                    .slot = slot,
                                                    .is_unreachable = is_unreachable,
                                                    .at_ns = c->scout.link.io->now_ns};
    redis_scout_hurry(&c->scout);
}

void redis_cluster_denied(struct redis_cluster *c, const struct redis_endpoint *by, uint32_t slot)
{
    deny(c, by, slot, false);
}

void redis_cluster_unreachable(struct redis_cluster *c, const struct redis_endpoint *by)
{
    deny(c, by, REDIS_CLUSTER_EVERY_SLOT, true);
}

/* A replica, or a master that has lost a slot, knows the map; who can't be reached costs a
 * time-out. */
static bool is_skipped(const struct redis_scout *s, const struct redis_endpoint *e)
{
    const struct redis_cluster *c = s->owner;

    for (uint32_t i = 0; i < REDIS_CLUSTER_DENIALS; i++) {
        const struct redis_denial *d = &c->denials[i];

        if (d->is_unreachable && counts(c, d) && redis_endpoint_is_same(&d->by, e))
            return true;
    }
    return false;
}

void redis_cluster_affirmed(struct redis_cluster *c, const struct redis_endpoint *by)
{
    for (uint32_t i = 0; i < REDIS_CLUSTER_DENIALS; i++) {
        if (c->denials[i].slot == REDIS_CLUSTER_EVERY_SLOT &&
            redis_endpoint_is_same(&c->denials[i].by, by))
            c->denials[i].at_ns = 0;
    }
}

/* Whether the slot would go from who has it now to who has denied it since. */
static bool goes_back(const struct redis_cluster *c, const struct redis_slots *next,
                      const struct redis_denial *d, uint32_t slot)
{
    uint8_t before = c->slots.owner[slot], after = next->owner[slot];
    const struct redis_endpoint *owner;

    if (before == REDIS_SLOT_NONE || after == REDIS_SLOT_NONE ||
        !redis_endpoint_is_same(&next->nodes[after], &d->by))
        return false;
    owner = &c->slots.nodes[before];
    return !redis_endpoint_is_same(owner, &d->by) && denied_ns(c, owner, slot) < d->at_ns;
}

static bool is_contradicted(const struct redis_cluster *c, const struct redis_slots *next)
{
    for (uint32_t i = 0; i < REDIS_CLUSTER_DENIALS; i++) {
        const struct redis_denial *d = &c->denials[i];
        bool is_one = d->slot != REDIS_CLUSTER_EVERY_SLOT;
        uint32_t slot = is_one ? d->slot : 0, end = is_one ? slot + 1 : REDIS_SLOT_COUNT;

        for (; counts(c, d) && slot < end; slot++) {
            if (goes_back(c, next, d, slot))
                return true;
        }
    }
    return false;
}

/* Answers
 * ----------------------------------------------------------------------------------------- */

/* As redis_slots_read(); -ESTALE: masters deny what the map says. */
static int read_map(struct redis_cluster *c, const struct redis_reply *r)
{
    struct redis_slots *next = malloc(sizeof(*next));
    int changed;

    if (next == NULL)
        return -ENOMEM;
    *next = c->slots;
    changed = redis_slots_read(next, r, redis_scout_asked(&c->scout));
    if (changed > 0 && is_contradicted(c, next))
        changed = -ESTALE;
    if (changed > 0)
        c->slots = *next;
    free(next);
    return changed;
}

static uint64_t interval_ns(const struct redis_cluster *c)
{
    return c->slots.covered == REDIS_SLOT_COUNT && !c->lacks_master ? REDIS_CLUSTER_INTERVAL_NS
                                                                    : REDIS_CLUSTER_HURRY_NS;
}

void redis_cluster_lacks(struct redis_cluster *c, bool lacks_master)
{
    if (c->lacks_master == lacks_master)
        return;
    c->lacks_master = lacks_master;
    c->scout.interval_ns = interval_ns(c);
    c->scout.due_ns = min_u64(c->scout.due_ns, c->scout.asked_ns + c->scout.interval_ns);
}

static bool on_answer(struct redis_scout *s, const struct redis_reply *r)
{
    struct redis_cluster *c = s->owner;
    int changed = read_map(c, r);

    if (changed == -ESTALE)
        s->why = "a master denies what its map says; is it cut off from the others?";
    if (changed < 0)
        return false;
    if (changed)
        list_nodes(c);
    s->interval_ns = interval_ns(c);
    c->events->on_slots(c, changed);
    return c->slots.covered > 0;
}

static void on_useless(struct redis_scout *s, const char *text)
{
    struct redis_cluster *c = s->owner;

    if (c->events->on_useless != NULL)
        c->events->on_useless(c, redis_scout_asked(s), text);
}

static void on_doubted(struct redis_scout *s)
{
    struct redis_cluster *c = s->owner;

    if (c->events->on_doubted != NULL)
        c->events->on_doubted(c, redis_scout_asked(s));
}

static const struct redis_scout_events scout_events = {.on_answer = on_answer,
                                                       .on_useless = on_useless,
                                                       .on_doubted = on_doubted,
                                                       .is_skipped = is_skipped};

void redis_cluster_init(struct redis_cluster *c, struct io *io,
                        const struct redis_link_config *config, const struct redis_endpoint *seeds,
                        uint32_t seed_count, const struct redis_cluster_events *events, void *owner)
{
    struct redis_link_config link = *config;

    CHECK(seed_count <= REDIS_URL_ENDPOINTS_MAX);
    memset(c->denials, 0, sizeof(c->denials));
    c->lacks_master = false;
    c->events = events;
    c->owner = owner;
    c->seed_count = seed_count;
    c->arg = (struct redis_arg){.head = "SLOTS", .head_len = 5};
    memcpy(c->endpoints, seeds, seed_count * sizeof(*seeds));
    redis_slots_init(&c->slots);
    link.db = 0;
    link.wants_master = false;
    redis_scout_init(&c->scout, io, &link, c->endpoints, seed_count, "CLUSTER", &c->arg, 1,
                     REDIS_CLUSTER_INTERVAL_NS, &scout_events, c);
}

bool redis_cluster_moved(struct redis_cluster *c, const char *text, size_t len,
                         const struct redis_endpoint *asked)
{
    int slot;

    if (redis_error_of(text, len) != REDIS_ERROR_MOVED) /* an ASK is no news of the map */
        return false;
    redis_scout_hurry(&c->scout);
    slot = redis_slots_moved(&c->slots, text, len, asked);
    if (slot < 0)
        return false;
    redis_cluster_denied(c, asked, (uint32_t)slot);
    list_nodes(c);
    c->events->on_slots(c, true);
    return true;
}
