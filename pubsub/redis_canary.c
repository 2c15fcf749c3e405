/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Canaries of one pair of links. Pure, one shard. */

#include "pubsub/redis_canary.h"

void redis_canary_begin(struct redis_canary *c, uint64_t now_ns)
{
    *c = (struct redis_canary){.number = c->number, .round_trip_ns = c->round_trip_ns};
    c->next_ns = now_ns;
}

void redis_canary_end(struct redis_canary *c)
{
    *c = (struct redis_canary){.number = c->number, .round_trip_ns = c->round_trip_ns};
}

void redis_canary_rename(struct redis_canary *c, uint64_t next_ns)
{
    bool is_up = c->is_up;

    if (!redis_canary_has_begun(c))
        return;
    redis_canary_begin(c, next_ns);
    c->is_up = is_up;
}

/* The oldest counts: one that waits already goes on waiting. */
static void wait_begin(struct redis_canary_wait *w, uint64_t now_ns, uint64_t bytes)
{
    if (w->since_ns == 0)
        *w = (struct redis_canary_wait){now_ns, now_ns + REDIS_CANARY_SILENT_NS, bytes};
}

static void wait_end(struct redis_canary_wait *w)
{
    *w = (struct redis_canary_wait){0};
}

static bool wait_is_over(struct redis_canary_wait *w, uint64_t now_ns, uint64_t bytes)
{
    if (w->since_ns == 0 || now_ns < w->deadline_ns)
        return false;
    if (bytes == w->bytes || now_ns >= w->since_ns + REDIS_CANARY_SLOW_NS)
        return true;
    w->bytes = bytes;
    w->deadline_ns = now_ns + REDIS_CANARY_SILENT_NS;
    return false;
}

void redis_canary_probed(struct redis_canary *c, uint64_t now_ns, uint64_t received_bytes)
{
    c->next_ns = now_ns + REDIS_CANARY_INTERVAL_NS;
    wait_begin(&c->probe, now_ns, received_bytes);
}

bool redis_canary_probe_answered(struct redis_canary *c)
{
    bool first = !c->is_subscribed;

    wait_end(&c->probe);
    c->is_subscribed = true;
    return first;
}

void redis_canary_published(struct redis_canary *c, uint64_t now_ns, uint64_t publisher_bytes,
                            uint64_t subscriber_bytes)
{
    if (c->copy.since_ns == 0)
        c->awaited = c->number;
    wait_begin(&c->answer, now_ns, publisher_bytes);
    wait_begin(&c->copy, now_ns, subscriber_bytes);
}

void redis_canary_publish_answered(struct redis_canary *c)
{
    wait_end(&c->answer);
}

bool redis_canary_returned(struct redis_canary *c, uint64_t number, uint64_t now_ns)
{
    bool first = !c->is_up;

    if (c->copy.since_ns == 0 || number < c->awaited || number > c->number)
        return false; /* of an earlier connection */
    c->round_trip_ns = now_ns - c->copy.since_ns;
    wait_end(&c->copy);
    c->is_up = true;
    return first;
}

enum redis_canary_verdict redis_canary_judge(struct redis_canary *c, uint64_t now_ns,
                                             uint64_t publisher_bytes, uint64_t subscriber_bytes)
{
    if (wait_is_over(&c->answer, now_ns, publisher_bytes))
        return REDIS_CANARY_PUBLISHER_SILENT;
    if (wait_is_over(&c->probe, now_ns, subscriber_bytes))
        return REDIS_CANARY_SUBSCRIBER_SILENT;
    if (c->answer.since_ns == 0 && wait_is_over(&c->copy, now_ns, subscriber_bytes))
        return REDIS_CANARY_SUBSCRIBER_SILENT;
    return REDIS_CANARY_FINE;
}

static void wait_excuse(struct redis_canary_wait *w, uint64_t now_ns)
{
    if (w->since_ns != 0 && now_ns < w->since_ns + REDIS_CANARY_SLOW_NS)
        w->deadline_ns = now_ns + REDIS_CANARY_SILENT_NS;
}

void redis_canary_excuse(struct redis_canary *c, uint64_t now_ns)
{
    wait_excuse(&c->probe, now_ns);
    wait_excuse(&c->answer, now_ns);
    wait_excuse(&c->copy, now_ns);
}

static uint64_t wait_ns(const struct redis_canary_wait *w, uint64_t next_ns)
{
    return w->since_ns == 0 ? next_ns : min_u64(next_ns, w->deadline_ns);
}

uint64_t redis_canary_next_ns(const struct redis_canary *c)
{
    uint64_t next_ns = c->next_ns;

    if (!redis_canary_has_begun(c))
        return UINT64_MAX;
    next_ns = wait_ns(&c->probe, next_ns);
    next_ns = wait_ns(&c->answer, next_ns);
    return c->answer.since_ns == 0 ? wait_ns(&c->copy, next_ns) : next_ns;
}
