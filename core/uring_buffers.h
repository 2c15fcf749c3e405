/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_URING_BUFFERS_H
#define CORE_URING_BUFFERS_H

/* The receive buffers that an io_uring lends to the kernel: a few large ones which it fills slice
 * by slice, for whichever connection has data (incremental), or many small ones, one per receive.
 * All together they hold at most IO_RECV_TURN_BYTES and come back only at the end of a turn: so one
 * connection cannot get more in a turn, and the memory stays in the cache. When all are filled,
 * their memory may also be used otherwise before they are lent again. Shard's thread. */

#include <liburing.h>
#include <stdbool.h>

#include "core/base.h"

struct uring_buffers {
    struct io_uring_buf_ring *ring; /* shared with the kernel; NULL: not registered */
    size_t ring_bytes;
    uint8_t *map; /* guard, buffers, guard; the guards are IO_RECV_PAD or more */
    size_t map_bytes;
    uint8_t *base;        /* buffer i starts at base + i * buffer_bytes */
    uint32_t *consumed;   /* of each buffer: bytes that the kernel has filled and told */
    uint16_t *spent;      /* buffers the kernel is done with, to be lent again */
    uint32_t spent_count; /* <= count */
    uint32_t count;       /* a power of two */
    uint32_t buffer_bytes;
    uint32_t left_bytes; /* what the kernel can still fill, as far as told */
    bool incremental;
};

/* Makes `count` (power of two) buffers and registers them with the ring as group `group`. Any
 * thread that may register with it. Returns 0 or -errno; -EINVAL when the kernel does not know such
 * buffers. */
MUST_USE int uring_buffers_init(struct uring_buffers *b, struct io_uring *ring, uint16_t group,
                                uint32_t count, uint32_t buffer_bytes, bool incremental);

/* Frees the memory; the ring is gone already (or never saw it). */
void uring_buffers_deinit(struct uring_buffers *b);

/* The bytes that a completion with IORING_CQE_F_BUFFER lends, valid until uring_buffers_return().
 * To be called for every such completion, in order. Nothing when the kernel names no buffer of
 * ours. */
struct bytes uring_buffers_take(struct uring_buffers *b, uint32_t cqe_flags, int32_t res);

/* All of them have been filled and told: until the next uring_buffers_return() their memory,
 * count * buffer_bytes from `base` on, is the shard's own. */
static inline bool uring_buffers_are_spent(const struct uring_buffers *b)
{
    return b->spent_count == b->count;
}

static inline uint32_t uring_buffers_bytes(const struct uring_buffers *b)
{
    return b->count * b->buffer_bytes;
}

/* Gives the buffers' pages back to the system; nothing received waits in them. */
void uring_buffers_trim(struct uring_buffers *b);

/* Lends all spent buffers to the kernel again. */
void uring_buffers_return(struct uring_buffers *b);

#endif
