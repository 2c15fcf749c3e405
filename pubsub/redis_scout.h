/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_SCOUT_H
#define PUBSUB_REDIS_SCOUT_H

/* Asks one of several servers the same question, again and again: Sentinels for the master, nodes
 * of a cluster for its slots. One shard.
 *
 * It keeps one link. Where that comes to nothing, where no answer comes in time, and where the
 * answer is of no use, it goes on to the next server of the list. It asks every interval_ns, and at
 * once (but not more often than every REDIS_SCOUT_PAUSE_NS) when somebody is in a hurry.
 *
 * The owner calls redis_scout_turn() once a turn and redis_scout_flush() at its end. */

#include "pubsub/redis_link.h"

#define REDIS_SCOUT_PAUSE_NS (100 * NS_PER_MS)
#define REDIS_SCOUT_PATIENCE_NS NS_PER_SEC /* for an answer */

struct redis_scout;

struct redis_scout_events {
    /* The answer of redis_scout_asked(s), maybe an error; borrowed. Returns whether it was of use;
     * if not, it may set s->why. */
    bool (*on_answer)(struct redis_scout *s, const struct redis_reply *r);
    /* This server is of no use now: text (borrowed) says why, for the log. NULL: nobody cares. */
    void (*on_useless)(struct redis_scout *s, const char *text);
    /* It has answered, but is left by redis_scout_doubt(). NULL: that is on_useless(), too. */
    void (*on_doubted)(struct redis_scout *s);
    /* Whether that server is passed over while there is another one: it would not answer. NULL: no
     * server is, nor is the one that has just been asked. */
    bool (*is_skipped)(const struct redis_scout *s, const struct redis_endpoint *e);
};

struct redis_scout {
    struct redis_link link;
    const struct redis_scout_events *events;
    void *owner;                            /* the owner's own */
    const struct redis_endpoint *endpoints; /* the owner's; see redis_scout_set_endpoints() */
    uint32_t endpoint_count;
    uint32_t at; /* which of them is asked */
    const char *name;
    const struct redis_arg *args;
    uint32_t arg_count;
    uint64_t interval_ns; /* the owner may change it in on_answer() */
    uint64_t due_ns;      /* the next question */
    uint64_t asked_ns;    /* when the last one was asked */
    bool is_waiting;      /* for its answer */
    bool is_hurried;      /* ask as soon as may be */
    bool is_doubted;      /* the link is being ended by redis_scout_doubt() */
    const char *why;      /* constant, for the log: what is wrong with the last answer; or NULL */
    uint64_t last_use_ns; /* when an answer was last of use; 0: never */
};

/* Prepares s. Of *config, endpoint and role are not used. The question is the command `name` with
 * arg_count args, constant like the endpoints (at least one) until redis_scout_deinit(). It begins
 * at an endpoint by lot, so that nodes spread. */
void redis_scout_init(struct redis_scout *s, struct io *io, const struct redis_link_config *config,
                      const struct redis_endpoint *endpoints, uint32_t endpoint_count,
                      const char *name, const struct redis_arg *args, uint32_t arg_count,
                      uint64_t interval_ns, const struct redis_scout_events *events, void *owner);

/* As of the link: see redis_link.h. */
void redis_scout_start(struct redis_scout *s);
void redis_scout_stop(struct redis_scout *s);
static inline bool redis_scout_is_idle(const struct redis_scout *s)
{
    return redis_link_is_idle(&s->link);
}
void redis_scout_deinit(struct redis_scout *s);

/* Another list of servers to ask. The link stays where it is. */
void redis_scout_set_endpoints(struct redis_scout *s, const struct redis_endpoint *endpoints,
                               uint32_t count);

/* Something has changed, maybe: ask at once. */
void redis_scout_hurry(struct redis_scout *s);

/* The last answer was of no use after all: ask the next server at once, or where all others are
 * skipped the same one again. */
void redis_scout_doubt(struct redis_scout *s);

/* The server that the link is connected to, or is being connected to. */
static inline const struct redis_endpoint *redis_scout_asked(const struct redis_scout *s)
{
    return &s->link.config.endpoint;
}

uint64_t redis_scout_turn(struct redis_scout *s, uint64_t now_ns);
void redis_scout_flush(struct redis_scout *s);

#endif
