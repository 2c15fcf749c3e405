/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* How a shard on io_uring is woken: by a message from ring to ring where both have one and the
 * kernel can, else through an eventfd. uring_wake() runs on any thread, the rest on the shard's. */

#include "core/uring.h"

#include <errno.h>
#include <unistd.h>

void uring_eventfd_arm(struct uring *u)
{
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_read(sqe, u->event_fd, &u->event_count, sizeof(u->event_count), 0);
    sqe->user_data = uring_data(URING_EVENTFD, 0, 0);
}

/* Cleared before the turn's owner looks at its queues: who finds it set pushed before that. */
void uring_eventfd_done(struct uring *u, int32_t res)
{
    u->io.stats.wakes_received++;
    atomic_exchange(&u->event_pending, false);
    if (res == (int32_t)sizeof(u->event_count) || res == -EINTR || res == -EAGAIN)
        uring_eventfd_arm(u);
    else if (res != -ECANCELED)
        u->broken = res < 0 ? res : -EIO;
}

static void ring_bell(struct uring *u, int ring_fd)
{
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_msg_ring(sqe, ring_fd, 0, uring_data(URING_BELL, 0, 0), 0);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = uring_data(URING_BELL, 1, (uint32_t)ring_fd);
}

/* Somebody's bell, or the news that ours could not be rung: for want of memory, say. */
void uring_bell_done(struct uring *u, uint64_t data, int32_t res)
{
    if ((uint16_t)(data >> 32) == 0)
        u->io.stats.wakes_received++;
    else if (res == -ENOMEM || res == -EAGAIN || res == -EOVERFLOW)
        ring_bell(u, (int)(uint32_t)data);
}

/* A bell rides along with from's next submit, which precedes its next wait. Only bells to the same
 * ring within one submit are merged: another thread's must not depend on when from gets there. */
void uring_wake(struct io *io, struct io *from)
{
    struct uring *u = uring_of(io);
    if (from != NULL)
        from->stats.wakes_sent++;
    if (from != NULL && from == io) {
        u->self_woken = true;
        return;
    }
    bool by_ring = from != NULL && from->backend == io->backend && uring_of(from)->has_msg_ring &&
                   u->has_msg_ring && atomic_load_explicit(&u->started, memory_order_acquire);
    if (by_ring) {
        struct uring *sender = uring_of(from);
        if (sender->bell_last == u->ring.ring_fd)
            return;
        ring_bell(sender, u->ring.ring_fd);
        sender->bell_last = u->ring.ring_fd;
        return;
    }
    if (atomic_exchange(&u->event_pending, true))
        return;
    const uint64_t one = 1;
    ssize_t n;
    do
        n = write(u->event_fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
    if (from != NULL)
        from->stats.syscalls++;
}
