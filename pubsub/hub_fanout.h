/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_HUB_FANOUT_H
#define PUBSUB_HUB_FANOUT_H

/* From the messages of a turn to the send queues of a channel's members. On the shard's thread. */

#include "pubsub/hub.h"

/* Messages are laid side by side up to this many bytes; larger batches make several runs. */
#define HUB_RUN_BYTES_MAX (64u << 10)
/* Messages of one run. */
#define HUB_RUN_MESSAGES_MAX 512

/* Bit of conn.app_bits: a member that does not want its own messages back. */
#define HUB_CONN_NO_ECHO 1

/* Fans out the channel's pending messages, a list that begins at index first - 1 of hub.pending, in
 * order, and releases them. */
void hub_fan_out(struct hub *h, struct hub_channel *ch, uint32_t first);

#endif
