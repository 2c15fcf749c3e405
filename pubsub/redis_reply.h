/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_REPLY_H
#define PUBSUB_REDIS_REPLY_H

/* Bytes from a Redis server to replies (RESP2, https://redis.io/docs/reference/protocol-spec/),
 * over hiredis's reader. One shard.
 *
 * A reply is a tree in memory that the reader keeps and uses again for the next: no allocation for
 * each reply, once it has grown to the size in use. It is valid until the next redis_reader_...()
 * call. */

#include <stdbool.h>

#include "core/base.h"

enum redis_type {
    REDIS_TYPE_NIL,
    REDIS_TYPE_INTEGER,
    REDIS_TYPE_STATUS, /* "+OK" */
    REDIS_TYPE_STRING,
    REDIS_TYPE_ERROR, /* "-ERR ..."; the text without '-' */
    REDIS_TYPE_ARRAY,
};

struct redis_reply {
    uint8_t type; /* enum redis_type */
    uint32_t len; /* bytes of text (without its terminating zero), or number of items */
    union {
        int64_t integer;                 /* REDIS_TYPE_INTEGER */
        const char *text;                /* STATUS, STRING, ERROR: zero-terminated, any bytes */
        const struct redis_reply *items; /* ARRAY: len of them */
    };
};

static inline bool redis_reply_is_text(const struct redis_reply *r)
{
    return r->type == REDIS_TYPE_STRING || r->type == REDIS_TYPE_STATUS;
}

/* Whether it is that string or status. */
bool redis_reply_is(const struct redis_reply *r, const char *text);

struct redis_reader;

/* bytes_max bounds what one reply may hold, and what is kept of one that is not complete yet.
 * NULL without memory. */
struct redis_reader *redis_reader_new(uint32_t bytes_max);
void redis_reader_free(struct redis_reader *r);

/* Called for each complete reply; borrowed. Returns false to end the feeding at once (the reader
 * must not be used afterwards but for redis_reader_free()). */
typedef bool (*redis_reply_fn)(void *ctx, const struct redis_reply *reply);

/* Takes received bytes (borrowed), in pieces cut anywhere, and calls fn for every reply that they
 * complete. Returns 0; -EPROTO: this is not RESP2; -EMSGSIZE: over bytes_max; -ENOMEM; -ECANCELED:
 * fn said false. After an error the reader can only be freed. */
MUST_USE int redis_reader_feed(struct redis_reader *r, struct bytes in, redis_reply_fn fn,
                               void *ctx);

/* Memory held now. */
size_t redis_reader_memory_bytes(const struct redis_reader *r);

#endif
