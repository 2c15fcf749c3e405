/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_LINK_INTERNAL_H
#define PUBSUB_REDIS_LINK_INTERNAL_H

/* What redis_link.c, what is said, and redis_link_io.c, how bytes come and go, tell each other. */

#include "pubsub/redis_link.h"

#define REDIS_LINK_TEXT_MAX 192 /* of what on_down() is told */

/* Of the io's connection. */
extern const struct io_events redis_link_io_events;

/* Ends whatever is under way in RESOLVING to UP. */
void redis_link_fail(struct redis_link *l, enum redis_down why, const char *text);
void redis_link_fail_errno(struct redis_link *l, enum redis_down why, const char *what, int err);

/* Closes the socket, behind TLS's last words where there are any; redis_link_rest() follows. */
void redis_link_part(struct redis_link *l, enum redis_down why);

/* Nothing is attached to the io any more. */
void redis_link_rest(struct redis_link *l);

/* Bytes may be sent: AUTH and what follows. */
void redis_link_greet(struct redis_link *l);

/* A reply or push, for redis_reader_feed(). Returns whether to go on. */
bool redis_link_on_reply(void *ctx, const struct redis_reply *r);

#endif
