/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_HASH_H
#define PUBSUB_REDIS_HASH_H

/* Which of several independent Redis servers carries a channel: rendezvous hashing (Thaler and
 * Ravishankar, 1998). Any thread.
 *
 * All nodes must agree, so nothing here is random: a channel belongs to the server whose identity
 * and name together hash highest (XXH3 with a fixed seed). The order of the servers does not
 * matter; when one is added or removed, only the channels that it gets or had move. An identity is
 * a text that all nodes write alike: redis_endpoint_format() of the URL. */

#include "core/base.h"

#define REDIS_HASH_MAX 64

struct redis_hash {
    uint64_t ids[REDIS_HASH_MAX]; /* hashes of the identities */
    uint32_t count;
};

/* Adds a server, up to REDIS_HASH_MAX; its index is h->count before. h begins zeroed. -EEXIST: that
 * identity is there already. */
MUST_USE int redis_hash_add(struct redis_hash *h, const char *identity);

/* The index of the server that carries the channel; h->count > 0. */
uint32_t redis_hash_pick(const struct redis_hash *h, const void *channel, size_t len);

#endif
