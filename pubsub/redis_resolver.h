/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_RESOLVER_H
#define PUBSUB_REDIS_RESOLVER_H

/* Host names to addresses without blocking a shard: getaddrinfo(3) on one thread of its own, made
 * when first asked, shared by all shards of a node. Addresses are not kept: a server that moves is
 * found at the next attempt to connect. Only an answer that comes when nobody waits for it any more
 * is, for 15 s, for those who ask again: so name servers may be slower than who asks is patient.
 * Who asks for a host that is being asked for gets the same answer. */

#include "core/io.h"

struct redis_resolver;
struct redis_lookup;

/* NULL without memory. Main. */
struct redis_resolver *redis_resolver_new(void);

/* Main; no lookup is left. Does not wait for a getaddrinfo(3) that is under way: the thread frees
 * what is left when it is over. */
void redis_resolver_free(struct redis_resolver *r);

/* Asks for the addresses of host; io is woken when the answer is there. NULL: no memory, or no
 * thread. The io's thread. */
struct redis_lookup *redis_lookup_new(struct redis_resolver *r, const char *host, struct io *io);

/* -EINPROGRESS, 0 and an address (port 0; IPv4 and IPv6 in turns of `attempt` through all that were
 * found, in the system's order), or another -errno: -ENOENT, the name has no address; -EAGAIN, no
 * server of names has answered. The thread of redis_lookup_new(). */
MUST_USE int redis_lookup_result(struct redis_lookup *l, uint32_t attempt, struct io_addr *a);

/* Forgets the lookup, answered or not. The same thread. */
void redis_lookup_free(struct redis_lookup *l);

#endif
