/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_ENGINE_H
#define PUBSUB_ENGINE_H

/* What stands behind a home: where a message gets its place among those of other nodes. One per
 * shard, on its thread.
 *
 * No engine (NULL) is the engine `memory`: the home orders by itself, and nothing of this file
 * runs. With an engine the home hands every publish over, and delivers what the engine hands back
 * through home_deliver().
 *
 *      home                                   engine
 *      a channel's first interest   open   -> subscribes; ENGINE_OPENING: home_opened() or
 *                                             home_open_failed() follows, unless close() was
 *      a message                  publish  -> passes on; later home_deliver() for what has its
 *                                             place, and home_taken() when the publisher's credit
 *                                             is due: exactly once for every publish
 *      last interest left          close   -> unsubscribes, at its own time */

#include <stdbool.h>

#include "core/base.h"

struct engine;
struct home_channel;
struct message;

enum engine_open {
    ENGINE_OPEN,      /* messages come from now on */
    ENGINE_OPENING,   /* an answer follows */
    ENGINE_AWAY,      /* refused: the shared part can't be reached. The channel is not open */
    ENGINE_NO_MEMORY, /* nor is it here */
};

/* An implementation. */
struct engine_calls {
    const char *name; /* "redis" */
    /* Sets ch->engine, the engine's own name of the channel, never 0. */
    enum engine_open (*open)(struct engine *e, struct home_channel *ch);
    void (*close)(struct engine *e, struct home_channel *ch);
    /* Whether who comes to an open channel with that name, whose home is that shard, is refused, as
     * open() would with ENGINE_AWAY. Of any home, by the engine of any shard. */
    bool (*refuses)(struct engine *e, uint32_t home, const void *name, uint32_t len);
    /* Takes m, whose counter is this shard's. ch is open. */
    void (*publish)(struct engine *e, struct home_channel *ch, struct message *m);
    /* How many bytes of further publishes (home_cost()) it would take now; at 0 they should wait.
     */
    uint64_t (*room)(const struct engine *e);
    /* Whether all publishes are answered, or given up: a drain waits for that, for a while. */
    bool (*is_done)(const struct engine *e);
};

/* Embedded in the implementation's own object. */
struct engine {
    const struct engine_calls *calls;
};

#endif
