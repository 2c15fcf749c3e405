/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_MASTER_H
#define PUBSUB_REDIS_MASTER_H

/* Keeps the links of a server whose URL names Sentinels at the master that these name. One shard.
 *
 * The links are started when the master is known; they are reopened when it is another one. A link
 * that comes to nothing makes the next Sentinel be asked. All of this does nothing for a server
 * whose URL names it itself. */

#include "pubsub/redis_sentinel.h"

struct redis_server;

/* Begins to ask. *link is as for the server's links. 0 or -ENOMEM. */
MUST_USE int redis_master_watch(struct redis_server *s, const struct redis_url *url,
                                const struct redis_link_config *link);
void redis_master_deinit(struct redis_server *s);

/* A link to the master has come to nothing. */
void redis_master_doubt(struct redis_server *s);

void redis_master_stop(struct redis_server *s);

/* Once a turn, and at its end; returns when it wants the next. */
uint64_t redis_master_turn(struct redis_server *s, uint64_t now_ns);
void redis_master_flush(struct redis_server *s);

#endif
