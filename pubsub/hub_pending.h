/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_HUB_PENDING_H
#define PUBSUB_HUB_PENDING_H

/* Messages that have come for a shard's members and wait to leave together. On the shard's thread.
 *
 * Without --write-delay they wait for the end of the turn. With it time is cut into windows of that
 * length: a window begins with the first message that leaves when none is open. A channel that has
 * not sent in the open window does not wait beyond the turn; what comes for it in the rest of the
 * window leaves at its end. So a channel that is quiet is never late, one that is busy is sent once
 * a window, and no message waits longer than the delay.
 *
 *   channel is on   since                                       leaves it
 *   dirty           a message, the first of the turn            at the end of the turn
 *   delayed         a message, the second of the window         at the end of the window
 *
 * What waits beyond the turn is bounded: in each channel to one run and a quarter of --max-queue;
 * that then leaves at once, and the channel stays on its list until the window ends. In all of them
 * to 4096 messages and 4 MiB, at which all leave. */

#include "pubsub/hub.h"

MUST_USE int hub_pending_init(struct hub *h);

/* The home's call, direct or through the mesh; takes both. `compressed`: the same, or NULL. */
void hub_deliver(struct hub *h, uint32_t hub_handle, struct message *m, struct message *compressed);

/* Fans out what does not wait any longer. End of turn; then or before, when anything is on a list.
 */
void hub_flush(struct hub *h);

/* Fans out what waits of one channel that is delayed: who joins or leaves then finds its place. */
void hub_pending_leave(struct hub *h, struct hub_channel *ch);

/* Fans out everything; the lists are empty then. */
void hub_flush_all(struct hub *h);

/* From now on nothing waits beyond its turn. */
void hub_end_delay(struct hub *h);

#endif
