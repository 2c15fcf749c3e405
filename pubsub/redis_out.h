/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_OUT_H
#define PUBSUB_REDIS_OUT_H

/* Commands on their way to a Redis server, as RESP: what is small lies copied in blocks, payloads
 * of large messages are referenced until they are sent. One shard.
 *
 * The order is that of the calls. redis_out_gather() lends spans for one send, which is over with
 * redis_out_sent(); commands may be added meanwhile. */

#include <sys/uio.h>

#include "core/message.h"

/* An argument of a command. Its bytes are head, tail and body's payload joined; each may be empty.
 * Head and tail are borrowed (copied); of body one reference is taken with the command, and given
 * back by redis_release_fn. */
struct redis_arg {
    const void *head;
    const void *tail;
    struct message *body; /* NULL: none */
    uint32_t head_len;
    uint32_t tail_len;
};

/* Payloads up to this are copied and given back at once: up to 512 bytes that takes half of the
 * processor time of a span of their own (loopback), from 1 KiB on as much; and above it a reference
 * spares the memory of a second copy. */
#define REDIS_OUT_COPY_MAX 1024
#define REDIS_OUT_BLOCK_BYTES (16u << 10) /* its head included */

typedef void (*redis_release_fn)(void *ctx, struct message *m);

struct redis_out_block;
struct redis_out_span;

struct redis_out {
    struct redis_out_block *first; /* oldest unsent bytes; NULL: none was needed yet */
    struct redis_out_block *last;  /* being filled; those after it are reserved */
    struct redis_out_span *spans;  /* ring of a power of two */
    uint32_t head, tail, cap;      /* spans[i & (cap - 1)] for head <= i < tail */
    uint32_t lent;                 /* spans of the send under way, from head on */
    uint64_t bytes;                /* unsent, the lent ones included */
    redis_release_fn release;
    void *ctx; /* of release */
};

/* Owns no memory before the first command. */
void redis_out_init(struct redis_out *o, redis_release_fn release, void *ctx);

/* Drops everything, and frees all memory. No span is lent, or their send is over for good. */
void redis_out_clear(struct redis_out *o);

/* Length of a command in RESP. */
uint64_t redis_out_command_bytes(const char *name, const struct redis_arg *args, uint32_t count);

/* Adds a command. 0, or -ENOMEM: nothing was taken. */
MUST_USE int redis_out_add(struct redis_out *o, const char *name, const struct redis_arg *args,
                           uint32_t count);

/* Fills iov with the oldest unsent spans, at most max; returns how many, 0 when nothing is unsent,
 * and in *bytes their sum. Nothing is lent. */
uint32_t redis_out_gather(struct redis_out *o, struct iovec *iov, uint32_t max, size_t *bytes);

/* The lent spans have been sent. */
void redis_out_sent(struct redis_out *o);

size_t redis_out_memory_bytes(const struct redis_out *o);

#endif
