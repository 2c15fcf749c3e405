/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The provided-buffer ring of one io_uring. Runs on the shard's thread.
 *
 * With DEFER_TASKRUN the kernel writes into the buffers only while the shard's thread is inside
 * io_uring_enter(), so "consume all, return, then enter" needs no other locking. */

#include "core/uring_buffers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#include "core/io.h"
#include "core/uring_compat.h"

#define GUARD_BYTES 4096

static_assert(GUARD_BYTES >= IO_RECV_PAD, "lent bytes can be read beyond both ends");

static void *uring_map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void uring_buffers_lend(struct uring_buffers *b, uint16_t bid, int offset)
{
    b->consumed[bid] = 0;
    io_uring_buf_ring_add(b->ring, b->base + (size_t)bid * b->buffer_bytes, b->buffer_bytes, bid,
                          io_uring_buf_ring_mask(b->count), offset);
}

int uring_buffers_init(struct uring_buffers *b, struct io_uring *ring, uint16_t group,
                       uint32_t count, uint32_t buffer_bytes, bool incremental)
{
    memset(b, 0, sizeof(*b));
    b->count = count;
    b->buffer_bytes = buffer_bytes;
    b->incremental = incremental;
    b->ring_bytes = count * sizeof(struct io_uring_buf);
    b->map_bytes = (size_t)count * buffer_bytes + 2 * GUARD_BYTES;
    b->ring = uring_map(b->ring_bytes);
    b->map = uring_map(b->map_bytes);
    b->consumed = calloc(count, sizeof(*b->consumed));
    b->spent = calloc(count, sizeof(*b->spent));
    int err = -ENOMEM;
    if (b->ring == NULL || b->map == NULL || b->consumed == NULL || b->spent == NULL)
        goto fail;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)b->ring,
                                   .ring_entries = count,
                                   .bgid = group,
                                   .pad = incremental ? URING_PBUF_INCREMENTAL : 0};
    err = io_uring_register_buf_ring(ring, &reg, 0);
    if (err < 0)
        goto fail;
    b->base = b->map + GUARD_BYTES;
    io_uring_buf_ring_init(b->ring);
    for (uint32_t i = 0; i < count; i++)
        uring_buffers_lend(b, (uint16_t)i, (int)i);
    io_uring_buf_ring_advance(b->ring, (int)count);
    b->left_bytes = count * buffer_bytes;
    return 0;
fail:
    uring_buffers_deinit(b);
    return err;
}

void uring_buffers_deinit(struct uring_buffers *b)
{
    free(b->spent);
    free(b->consumed);
    if (b->map != NULL)
        munmap(b->map, b->map_bytes);
    if (b->ring != NULL)
        munmap(b->ring, b->ring_bytes);
    memset(b, 0, sizeof(*b));
}

struct bytes uring_buffers_take(struct uring_buffers *b, uint32_t cqe_flags, int32_t res)
{
    uint32_t bid = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    if (bid >= b->count)
        return (struct bytes){NULL, 0};
    uint32_t len = res > 0 ? min_u32((uint32_t)res, b->buffer_bytes - b->consumed[bid]) : 0;
    struct bytes in = {b->base + (size_t)bid * b->buffer_bytes + b->consumed[bid], len};
    bool more = b->incremental && cqe_flags & URING_CQE_F_BUF_MORE;
    uint32_t used = more ? len : b->buffer_bytes - b->consumed[bid];
    b->consumed[bid] += used;
    b->left_bytes -= min_u32(used, b->left_bytes);
    if (!more && b->spent_count < b->count)
        b->spent[b->spent_count++] = (uint16_t)bid;
    return in;
}

void uring_buffers_trim(struct uring_buffers *b)
{
    madvise(b->map, b->map_bytes, MADV_DONTNEED);
}

void uring_buffers_return(struct uring_buffers *b)
{
    if (b->spent_count == 0)
        return;
    for (uint32_t i = 0; i < b->spent_count; i++)
        uring_buffers_lend(b, b->spent[i], (int)i);
    io_uring_buf_ring_advance(b->ring, (int)b->spent_count);
    b->left_bytes += b->spent_count * b->buffer_bytes;
    b->spent_count = 0;
}
