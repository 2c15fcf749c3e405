/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Pairs of links to the masters of a cluster. On the shard's thread. */

#include "pubsub/redis_masters.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "pubsub/engine_redis.h"

/* The map is asked for again soon: rooms wait for it. */
#define BACKOFF_MAX_NS NS_PER_SEC
#define QUEUE_BYTES (64u << 10)
/* Of a map whose every slot is a row with some replicas. */
#define REPLY_BYTES_MAX (16u << 20)

/* Pairs
 * ------------------------------------------------------------------------------------------ */

static void note(const struct redis_server *s, const char *what)
{
    log_info(what, "server", s->text, NULL);
}

static struct redis_server *add(struct redis_masters *m, uint32_t node)
{
    struct redis_link_config links = m->links;
    struct redis_server *s = malloc(sizeof(*s));
    char text[REDIS_ENDPOINT_TEXT_MAX];

    if (s == NULL)
        return NULL;
    links.endpoint = m->map.slots.nodes[node];
    redis_endpoint_format(&links.endpoint, text);
    if (redis_server_init(s, m->engine, &links, text) != 0) {
        free(s);
        return NULL;
    }
    s->masters = m;
    s->is_new = true;
    redis_server_set_canary(s, redis_slots_tag(&m->map.slots, node));
    engine_redis_add(m->engine, s);
    atomic_fetch_add_explicit(&m->engine->shared->pairs, 1, memory_order_relaxed);
    redis_stat(m->engine, REDIS_STAT_CLUSTER_MASTERS);
    note(s, "a master of the redis cluster");
    redis_server_start(s);
    return s;
}

/* It has no slot any more. */
static void let_go(struct redis_masters *m, struct redis_server *s)
{
    struct redis_shared *shared = m->engine->shared;

    atomic_fetch_sub_explicit(&shared->pairs, 1, memory_order_relaxed);
    if (redis_server_is_up(s))
        atomic_fetch_sub_explicit(&shared->up, 1, memory_order_relaxed);
    s->leave_ns = m->engine->shard->io->now_ns + REDIS_MASTERS_LEAVE_NS;
    redis_canary_rename(&s->canary, UINT64_MAX);
    note(s, "no master of the redis cluster any more");
}

static void update(struct redis_masters *m, uint32_t node)
{
    const struct redis_slots *slots = &m->map.slots;
    struct redis_server *s = m->at[node];
    const struct redis_server *before = s;
    bool has_slots = slots->slot_counts[node] > 0;

    if (s != NULL &&
        (!has_slots || !redis_endpoint_is_same(&s->publish.config.endpoint, &slots->nodes[node]))) {
        let_go(m, s);
        s = NULL;
    }
    if (s == NULL && has_slots)
        s = add(m, node); /* without memory: at the next answer */
    else if (s != NULL && slots->owner[redis_server_canary_slot(s)] != node)
        redis_server_set_canary(s, redis_slots_tag(slots, node));
    m->at[node] = s;
    if (s != before) { /* also when only now there was memory for it */
        m->has_changed = true;
        m->engine->shard->next_turn_ns = 0;
    }
}

static void count_covered(struct redis_masters *m)
{
    struct engine_redis *e = m->engine;
    uint32_t uncovered = redis_masters_uncovered(m);
    bool was_covered = m->is_covered;
    struct log_num n;

    m->is_covered = uncovered == 0;
    if (m->is_covered && !was_covered)
        atomic_fetch_add_explicit(&e->shared->up, 1, memory_order_relaxed);
    if (!m->is_covered && was_covered)
        atomic_fetch_sub_explicit(&e->shared->up, 1, memory_order_relaxed);
    if (uncovered > 0)
        log_warn("slots of the redis cluster have no master", "cluster", m->nowhere.text, "slots",
                 log_u64(&n, uncovered), NULL);
}

/* Its node of the map is known: now rooms that are nowhere belong there. */
static void on_slots(struct redis_cluster *c, bool has_changed)
{
    struct redis_masters *m = c->owner;

    for (uint32_t i = 0; i < c->slots.node_count; i++)
        update(m, i);
    if (!has_changed)
        return;
    redis_stat(m->engine, REDIS_STAT_CLUSTER_MAPS);
    count_covered(m);
    m->has_changed = true;
    m->engine->shard->next_turn_ns = 0;
}

static void on_useless(struct redis_cluster *c, const struct redis_endpoint *node, const char *text)
{
    struct redis_masters *m = c->owner;
    char address[REDIS_ENDPOINT_TEXT_MAX];

    redis_endpoint_format(node, address);
    log_warn("a node of the redis cluster does not tell the map", "cluster", m->nowhere.text,
             "address", address, "detail", text, NULL);
    redis_stat(m->engine, REDIS_STAT_CLUSTER_FAILURES);
    redis_server_unreachable(&m->nowhere);
}

static void on_doubted(struct redis_cluster *c, const struct redis_endpoint *node)
{
    struct redis_masters *m = c->owner;
    char address[REDIS_ENDPOINT_TEXT_MAX];

    redis_endpoint_format(node, address);
    log_info("another node of the redis cluster is asked for the map: a master that this one names "
             "is away, or none",
             "cluster", m->nowhere.text, "address", address, NULL);
    redis_stat(m->engine, REDIS_STAT_CLUSTER_DOUBTS);
}

static const struct redis_cluster_events events = {
    .on_slots = on_slots, .on_useless = on_useless, .on_doubted = on_doubted};

/* Turns
 * ------------------------------------------------------------------------------------------ */

static bool is_over(const struct redis_server *s)
{
    return s->room_count == 0 && redis_link_is_idle(&s->publish) &&
           redis_link_is_idle(&s->subscribe);
}

/* Ends pairs that may go. Returns when to look again. */
static uint64_t turn_leaving(struct redis_masters *m, uint64_t now_ns)
{
    struct redis_server *next, *s;
    uint64_t next_ns = UINT64_MAX;

    for (s = m->engine->servers; s != NULL; s = next) {
        next = s->next;
        if (s->masters != m || s->leave_ns == 0)
            continue;
        if (!redis_server_is_up(s) || (s->room_count == 0 && s->first == NULL) ||
            now_ns >= s->leave_ns)
            redis_server_stop(s);
        if (is_over(s))
            engine_redis_remove(m->engine, s);
        else if (now_ns < s->leave_ns)
            next_ns = min_u64(next_ns, s->leave_ns);
    }
    return next_ns;
}

/* Rooms whose subscription was ended unasked, or the canary's. Returns when to look again. */
static uint64_t turn_ended(struct redis_masters *m, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;

    for (struct redis_server *s = m->engine->servers; s != NULL; s = s->next) {
        if (s->masters != m || (s->ended_count == 0 && !s->is_canary_ended))
            continue;
        redis_scout_hurry(&m->map.scout);
        if (now_ns < s->ended_ns + REDIS_MASTERS_TRUST_NS) {
            next_ns = min_u64(next_ns, s->ended_ns + REDIS_MASTERS_TRUST_NS);
            continue;
        }
        redis_link_reopen(&s->publish, "it may be a replica: it has ended subscriptions");
        redis_link_reopen(&s->subscribe, "it may be a replica: it has ended subscriptions");
    }
    return next_ns;
}

bool redis_masters_hold(struct redis_masters *m)
{
    if (m->lets_go)
        return false;
    m->hold_ns = min_u64(m->hold_ns, m->engine->shard->io->now_ns + REDIS_MASTERS_HOP_NS);
    return true;
}

/* Rooms that were held. Returns when to look again. */
static uint64_t turn_held(struct redis_masters *m, uint64_t now_ns)
{
    if (now_ns >= m->hold_ns) {
        m->hold_ns = UINT64_MAX;
        m->lets_go = true;
        redis_subs_settle(m->engine, m);
        m->lets_go = false;
    }
    return m->hold_ns;
}

static bool lacks_master(const struct redis_masters *m)
{
    for (const struct redis_server *s = m->engine->servers; s != NULL; s = s->next) {
        if (s->masters == m && s->leave_ns == 0 && !redis_server_is_up(s))
            return true;
    }
    return false;
}

uint64_t redis_masters_turn(struct redis_masters *m, uint64_t now_ns)
{
    uint64_t next_ns;

    if (m->has_changed) {
        m->has_changed = false;
        redis_subs_settle(m->engine, m);
        redis_server_unreachable(&m->nowhere); /* who waits there has no master */
    }
    next_ns = min_u64(turn_held(m, now_ns), turn_leaving(m, now_ns));
    next_ns = min_u64(next_ns, turn_ended(m, now_ns));
    redis_cluster_lacks(&m->map, lacks_master(m));
    return min_u64(next_ns, redis_scout_turn(&m->map.scout, now_ns));
}

void redis_masters_flush(struct redis_masters *m)
{
    redis_scout_flush(&m->map.scout);
}

struct redis_server *redis_masters_pick(struct redis_masters *m, uint32_t slot)
{
    uint8_t node = m->map.slots.owner[slot];

    return node != REDIS_SLOT_NONE && m->at[node] != NULL ? m->at[node] : &m->nowhere;
}

bool redis_masters_moved(struct redis_server *s, const struct redis_reply *r)
{
    if (s->masters == NULL || redis_error_of(r->text, r->len) != REDIS_ERROR_MOVED)
        return false;
    return redis_cluster_moved(&s->masters->map, r->text, r->len, &s->publish.config.endpoint);
}

void redis_masters_doubt(struct redis_server *s)
{
    if (s->masters != NULL)
        redis_scout_hurry(&s->masters->map.scout);
}

void redis_masters_ended(struct redis_server *s, uint32_t slot)
{
    if (s->masters != NULL)
        redis_cluster_denied(&s->masters->map, &s->publish.config.endpoint, slot);
}

void redis_masters_down(struct redis_server *s, enum redis_down why, bool was_up)
{
    struct redis_masters *m = s->masters;
    uint64_t now_ns = s->engine->shard->io->now_ns;

    if (m == NULL || s->leave_ns != 0 || why == REDIS_DOWN_STOPPED)
        return;
    redis_scout_hurry(&m->map.scout);
    if (was_up)
        return;
    if (why == REDIS_DOWN_NOT_MASTER)
        redis_cluster_denied(&m->map, &s->publish.config.endpoint, REDIS_CLUSTER_EVERY_SLOT);
    else
        redis_cluster_unreachable(&m->map, &s->publish.config.endpoint);
    if (why == REDIS_DOWN_NOT_MASTER || now_ns >= s->down_since_ns + REDIS_MASTERS_TRUST_NS)
        redis_scout_doubt(&m->map.scout);
}

void redis_masters_affirm(struct redis_server *s)
{
    if (s->masters != NULL)
        redis_cluster_affirmed(&s->masters->map, &s->publish.config.endpoint);
}

/* Beginning and end
 * ------------------------------------------------------------------------------ */

struct redis_masters *redis_masters_new(struct engine_redis *e, const struct redis_url *url,
                                        const struct redis_link_config *links)
{
    struct redis_masters *m = calloc(1, sizeof(*m));
    struct redis_link_config scout = *links;

    if (m == NULL)
        return NULL;
    m->engine = e;
    m->hold_ns = UINT64_MAX;
    m->links = *links;
    m->nowhere.engine = e;
    m->nowhere.masters = m;
    redis_url_format(url, m->nowhere.text);
    scout.backoff_max_ns = BACKOFF_MAX_NS;
    scout.queue_bytes_max = QUEUE_BYTES;
    scout.reply_bytes_max = REPLY_BYTES_MAX;
    redis_cluster_init(&m->map, e->shard->io, &scout, url->endpoints, url->endpoint_count, &events,
                       m);
    redis_scout_start(&m->map.scout);
    return m;
}

void redis_masters_free(struct redis_masters *m)
{
    redis_scout_deinit(&m->map.scout);
    free(m);
}

void redis_masters_stop(struct redis_masters *m)
{
    redis_scout_stop(&m->map.scout);
    redis_server_unreachable(&m->nowhere);
}
