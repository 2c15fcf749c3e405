/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_CANARY_H
#define PUBSUB_REDIS_CANARY_H

/* Whether a pair of links to one Redis is alive: every second a canary goes the way that messages
 * go, out by the one link and back by the other, and the subscriber's channel of canaries is
 * subscribed to once more, which Redis answers. Pure: time is an argument. One shard.
 *
 *      begin        both links have come up
 *      probe        subscribe: the next canary leaves only once the first probe is answered
 *      publish      the canary
 *      returned     the pair is up
 *
 * A link that has not answered within REDIS_CANARY_SILENT_NS, and from which not a byte has come
 * meanwhile, is silent; one from which bytes come is only slow, for REDIS_CANARY_SLOW_NS. */

#include <stdbool.h>

#include "core/base.h"

#define REDIS_CANARY_INTERVAL_NS NS_PER_SEC
/* With the interval less than the 2 s after which a silent link is found at the latest. */
#define REDIS_CANARY_SILENT_NS (900 * NS_PER_MS)
#define REDIS_CANARY_SLOW_NS (10 * NS_PER_SEC)

/* One thing that must be answered. */
struct redis_canary_wait {
    uint64_t since_ns;    /* 0: nothing is under way */
    uint64_t deadline_ns; /* looked at then */
    uint64_t bytes;       /* received by the link when it was last looked at */
};

struct redis_canary {
    uint64_t number;                 /* of the last canary */
    uint64_t awaited;                /* number of the oldest that should come back */
    uint64_t next_ns;                /* when the next one leaves; 0: not begun */
    uint64_t round_trip_ns;          /* of the last one that came back */
    struct redis_canary_wait probe;  /* the subscriber's answer */
    struct redis_canary_wait answer; /* the publisher's */
    struct redis_canary_wait copy;   /* the canary itself */
    bool is_subscribed;              /* the first probe was answered */
    bool is_up;                      /* a canary has come back since the beginning */
};

enum redis_canary_verdict {
    REDIS_CANARY_FINE,
    REDIS_CANARY_PUBLISHER_SILENT,
    REDIS_CANARY_SUBSCRIBER_SILENT, /* its probe is not answered, or canaries do not come by it */
};

/* Both links are up. */
void redis_canary_begin(struct redis_canary *c, uint64_t now_ns);
/* One of them is down. */
void redis_canary_end(struct redis_canary *c);

/* It goes by another channel from now on, for the first time at next_ns (UINT64_MAX: not at all):
 * what is under way is not waited for, and a pair that is up stays up. Does nothing before the
 * beginning. */
void redis_canary_rename(struct redis_canary *c, uint64_t next_ns);

static inline bool redis_canary_has_begun(const struct redis_canary *c)
{
    return c->next_ns != 0;
}

/* Whether probe and canary are due. Then the caller sends the probe and says so, and the same with
 * the canary if the channel is subscribed already. */
static inline bool redis_canary_is_due(const struct redis_canary *c, uint64_t now_ns)
{
    return redis_canary_has_begun(c) && now_ns >= c->next_ns;
}

void redis_canary_probed(struct redis_canary *c, uint64_t now_ns, uint64_t received_bytes);
/* Returns whether the first canary should leave now. */
bool redis_canary_probe_answered(struct redis_canary *c);

/* A canary with number c->number has been given to the publishing link; received_bytes of both. */
void redis_canary_published(struct redis_canary *c, uint64_t now_ns, uint64_t publisher_bytes,
                            uint64_t subscriber_bytes);
void redis_canary_publish_answered(struct redis_canary *c);
/* One came back. Returns whether the pair is up by that. */
bool redis_canary_returned(struct redis_canary *c, uint64_t number, uint64_t now_ns);

/* Judges; both links' received bytes. */
enum redis_canary_verdict redis_canary_judge(struct redis_canary *c, uint64_t now_ns,
                                             uint64_t publisher_bytes, uint64_t subscriber_bytes);

/* We have lagged, and may not have read yet what has come: what is waited for has as long again,
 * but no longer than a slow link. */
void redis_canary_excuse(struct redis_canary *c, uint64_t now_ns);

/* When the next one is due, or a verdict may change; UINT64_MAX: not begun. */
uint64_t redis_canary_next_ns(const struct redis_canary *c);

#endif
