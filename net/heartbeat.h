/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_HEARTBEAT_H
#define NET_HEARTBEAT_H

/* Heartbeats without a timer per connection: a sweep walks the table of connections, a part each
 * tick, and pings those that were not heard from within --ping-interval (plus a jitter of their
 * own, so that connections which fell silent together don't stay together). The pings of a tick
 * leave in one batch. Only a connection with an unanswered ping has a timer armed. */

#include "net/net.h"

/* Sweeps what is due. Returns when the next part is due; IO_FOREVER without connections. */
uint64_t heartbeat_sweep(struct net *n, uint64_t now_ns);

#endif
