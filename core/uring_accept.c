/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Listeners of the io_uring implementation. Runs on the shard's thread.
 *
 * Up to URING_ACCEPTS single-shot accepts wait per listener, each into a slot chosen beforehand and
 * with an address of its own: a bounded burst, and a full table leaves connections in the backlog
 * instead of destroying them. Without room, or in IO_ACCEPT_TICKETS mode, a few accepts that give
 * ordinary descriptors wait instead. What an accept has brought is judged when it completes:
 *
 *   into a slot   room, not IO_ACCEPT_TICKETS  on_accept
 *                 else, or that refuses        an ordinary descriptor is made of it, on_ticket
 *   descriptor    room, not IO_ACCEPT_TICKETS  put into a slot, on_accept
 *                 else, or that refuses        on_ticket
 */

#include "core/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/socket.h>

/* How long a listener rests when descriptors or memory have run out. */
#define ACCEPT_RETRY_NS (10 * NS_PER_MS)
/* Rounds of waiting for cancelled accepts in uring_unlisten(); each runs about 20 completions. */
#define UNLISTEN_ROUNDS_MAX 4096
/* Rounds after which they are cancelled again: a failure needs a place in the queue. */
#define UNLISTEN_CANCELS 4

/* Closes what is in a slot that belongs to no connection, then frees it. */
static void slot_drop(struct uring *u, uint32_t slot)
{
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_close_direct(sqe, slot);
    sqe->user_data = uring_data(URING_DROP, 0, slot);
}

static uint64_t accept_data(const struct uring_listener *ul, uint32_t i)
{
    return uring_data(URING_ACCEPT, 0, ul->idx * URING_ACCEPTS + i);
}

static bool has_room(const struct uring *u)
{
    return u->io.conn_count < u->io.conns_max;
}

static bool wants_conns(const struct uring *u, const struct uring_listener *ul)
{
    return ul->l->mode != IO_ACCEPT_TICKETS && has_room(u);
}

/* Hands a connection in `slot` to the owner. False: it is refused, the slot is still taken. */
static bool give_conn(struct uring *u, struct io_listener *l, uint32_t slot,
                      const struct io_addr *peer)
{
    u->io.stats.accepts++;
    u->callbacks++;
    struct io_conn *c = l->events->on_accept(l, peer);
    if (c == NULL) {
        u->io.stats.accept_refused++;
        return false;
    }
    uring_attach(u, c, slot);
    return true;
}

static void give_ticket(struct uring *u, struct io_listener *l, int fd, const struct io_addr *peer)
{
    u->callbacks++;
    l->events->on_ticket(l, (struct io_ticket){fd}, peer);
}

static void give_fd(struct uring *u, struct uring_listener *ul, int fd, const struct io_addr *peer)
{
    struct io_listener *l = ul->l;
    int32_t slot = wants_conns(u, ul) ? uring_slot_fill(u, fd) : -ENFILE;
    if (slot < 0) {
        u->io.stats.accepts++;
        give_ticket(u, l, fd, peer);
    } else if (give_conn(u, l, (uint32_t)slot, peer)) {
        u->io.stats.syscalls++;
        close(fd);
    } else {
        slot_drop(u, (uint32_t)slot);
        give_ticket(u, l, fd, peer);
    }
}

/* For want of descriptors or memory the listener rests, or it would fail again at once and for
 * ever; anything else concerned the one connection. */
static void accept_failed(struct uring *u, struct uring_listener *ul, int err)
{
    if (err == -ECANCELED || err == -EINTR)
        return;
    if (err == -ECONNABORTED || err == -EPROTO || err == -EPERM)
        return;
    u->io.stats.accept_errors++;
    ul->retry_ns = u->io.now_ns + ACCEPT_RETRY_NS;
}

static void install(struct uring *u, struct uring_listener *ul, struct uring_accept *a,
                    enum uring_accept_state state)
{
    struct io_uring_sqe *sqe = uring_sqe(u);
    uring_prep_fd_install(sqe, (int)a->slot);
    sqe->user_data = accept_data(ul, (uint32_t)(a - ul->accepts));
    a->state = (uint8_t)state;
    ul->armed++;
}

static void accepted_slot(struct uring *u, struct uring_listener *ul, struct uring_accept *a,
                          int32_t res)
{
    ul->armed_slot--;
    u->accepting_slots--;
    if (res < 0) {
        uring_slots_free(&u->slots, a->slot);
        accept_failed(u, ul, res);
        return;
    }
    struct io_addr peer;
    io_addr_from_sockaddr(&peer, (const struct sockaddr *)&a->addr, a->addr_len);
    if (ul->l == NULL)
        slot_drop(u, a->slot);
    else if (u->has_install && !wants_conns(u, ul))
        install(u, ul, a, URING_ACCEPT_INSTALL);
    else if (give_conn(u, ul->l, a->slot, &peer))
        return;
    else if (u->has_install)
        install(u, ul, a, URING_ACCEPT_REFUSED);
    else
        slot_drop(u, a->slot);
}

static void accepted_fd(struct uring *u, struct uring_listener *ul, struct uring_accept *a,
                        enum uring_accept_state state, int32_t res)
{
    if (res < 0) {
        accept_failed(u, ul, res);
        return;
    }
    struct io_addr peer;
    io_addr_from_sockaddr(&peer, (const struct sockaddr *)&a->addr, a->addr_len);
    if (ul->l == NULL)
        close(res);
    else if (state == URING_ACCEPT_REFUSED)
        give_ticket(u, ul->l, res, &peer);
    else
        give_fd(u, ul, res, &peer);
}

void uring_accept_done(struct uring *u, uint32_t which, int32_t res)
{
    uint32_t idx = which / URING_ACCEPTS;
    struct uring_listener *ul = idx < URING_LISTENERS_MAX ? u->listeners[idx] : NULL;
    if (ul == NULL)
        return;
    struct uring_accept *a = &ul->accepts[which % URING_ACCEPTS];
    uint8_t state = a->state;
    if (state == URING_ACCEPT_IDLE)
        return;
    a->state = URING_ACCEPT_IDLE;
    ul->armed--;
    if (state == URING_ACCEPT_SLOT) {
        accepted_slot(u, ul, a, res);
        return;
    }
    if (state != URING_ACCEPT_FD)
        slot_drop(u, a->slot);
    accepted_fd(u, ul, a, (enum uring_accept_state)state, res);
}

static void arm_slot(struct uring *u, struct uring_listener *ul, struct uring_accept *a)
{
    a->slot = uring_slots_take(&u->slots);
    if (a->slot == URING_SLOT_NONE)
        return;
    a->addr_len = sizeof(a->addr);
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_accept_direct(sqe, ul->l->fd, (struct sockaddr *)&a->addr, &a->addr_len, 0,
                                a->slot);
    sqe->user_data = accept_data(ul, (uint32_t)(a - ul->accepts));
    a->state = URING_ACCEPT_SLOT;
    ul->armed++;
    ul->armed_slot++;
    u->accepting_slots++;
}

static void arm_fd(struct uring *u, struct uring_listener *ul, struct uring_accept *a)
{
    a->addr_len = sizeof(a->addr);
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_accept(sqe, ul->l->fd, (struct sockaddr *)&a->addr, &a->addr_len, SOCK_CLOEXEC);
    sqe->user_data = accept_data(ul, (uint32_t)(a - ul->accepts));
    a->state = URING_ACCEPT_FD;
    ul->armed++;
}

/* Ordinary descriptors only while no accept into a slot waits: which of them gets a connection is
 * chance, and a slot costs less. */
static void listener_arm(struct uring *u, struct uring_listener *ul)
{
    uint32_t held = u->io.conn_count + u->accepting_slots;
    uint32_t room = held < u->io.conns_max ? u->io.conns_max - held : 0;
    room = min_u32(room, URING_ACCEPT_SLOTS_MAX - u->accepting_slots);
    bool conns = ul->l->mode == IO_ACCEPT_CONNS;
    bool by_slot = conns && room > 0;
    if (ul->armed >= (by_slot ? URING_ACCEPTS : URING_ACCEPTS_FD))
        return;
    for (uint32_t i = 0; i < URING_ACCEPTS; i++) {
        struct uring_accept *a = &ul->accepts[i];
        if (a->state != URING_ACCEPT_IDLE)
            continue;
        if (conns && room > 0) {
            arm_slot(u, ul, a);
            room--;
        } else if (ul->armed_slot == 0 && ul->armed < URING_ACCEPTS_FD) {
            arm_fd(u, ul, a);
        }
    }
}

static void cancel_accepts(struct uring *u, struct uring_listener *ul)
{
    for (uint32_t i = 0; i < URING_ACCEPTS; i++) {
        uint8_t state = ul->accepts[i].state;
        if (state == URING_ACCEPT_SLOT || state == URING_ACCEPT_FD)
            uring_cancel(u, accept_data(ul, i), uring_data(URING_IGNORE, 0, 0));
    }
}

uint64_t uring_listeners_arm(struct uring *u)
{
    uint64_t again_ns = IO_FOREVER;
    for (uint32_t i = 0; i < URING_LISTENERS_MAX; i++) {
        struct uring_listener *ul = u->listeners[i];
        if (ul == NULL)
            continue;
        if (ul->l == NULL) {
            if (ul->armed == 0) {
                u->listeners[i] = NULL;
                free(ul);
            }
        } else if (ul->l->mode == IO_ACCEPT_OFF) {
            continue;
        } else if (ul->retry_ns > u->io.now_ns) {
            again_ns = min_u64(again_ns, ul->retry_ns);
        } else {
            listener_arm(u, ul);
        }
    }
    return again_ns;
}

int uring_listen(struct io *io, struct io_listener *l, int fd)
{
    struct uring *u = uring_of(io);
    uint32_t idx = 0;
    while (idx < URING_LISTENERS_MAX && u->listeners[idx] != NULL)
        idx++;
    if (idx == URING_LISTENERS_MAX)
        return -ENOSPC;
    struct uring_listener *ul = calloc(1, sizeof(*ul));
    if (ul == NULL)
        return -ENOMEM;
    ul->l = l;
    ul->idx = idx;
    u->listeners[idx] = ul;
    l->io = io;
    l->fd = fd;
    l->mode = IO_ACCEPT_CONNS;
    l->backend_flags = 0;
    l->armed = 0;
    l->backend_state = ul;
    return 0;
}

/* What is under way is cancelled, unless it is of the kind that the new mode wants as well. */
void uring_accept_mode(struct io *io, struct io_listener *l, enum io_accept_mode mode)
{
    if (l->mode == mode)
        return;
    l->mode = (uint8_t)mode;
    cancel_accepts(uring_of(io), l->backend_state);
}

/* Runs the completions of this listener's accepts where they lie in the queue, and leaves those of
 * others to the next poll. */
static void reap_accepts(struct uring *u, const struct uring_listener *ul)
{
    unsigned head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        uint32_t which = (uint32_t)cqe->user_data;
        if (cqe->user_data >> 56 != URING_ACCEPT || which / URING_ACCEPTS != ul->idx)
            continue;
        cqe->user_data = uring_data(URING_IGNORE, 0, 0);
        uring_accept_done(u, which, cqe->res);
    }
}

static void accept_backlog(struct uring *u, struct uring_listener *ul)
{
    int fd = ul->l->fd;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    for (;;) {
        struct sockaddr_storage ss;
        socklen_t len = sizeof(ss);
        int conn = accept4(fd, (struct sockaddr *)&ss, &len, SOCK_CLOEXEC);
        u->io.stats.syscalls++;
        if (conn < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (conn < 0)
            return;
        struct io_addr peer;
        io_addr_from_sockaddr(&peer, (const struct sockaddr *)&ss, len);
        give_fd(u, ul, conn, &peer);
    }
}

/* An accept whose completion cannot be had here and now (the queue has overflowed) drops what it
 * brought when it comes. */
void uring_unlisten(struct io *io, struct io_listener *l)
{
    struct uring *u = uring_of(io);
    struct uring_listener *ul = l->backend_state;
    cancel_accepts(u, ul);
    reap_accepts(u, ul);
    for (int i = 0; ul->armed > 0 && i < UNLISTEN_ROUNDS_MAX; i++) {
        io->stats.syscalls++;
        int n = io_uring_submit_and_get_events(&u->ring);
        uring_submitted(u);
        if (n < 0)
            break;
        reap_accepts(u, ul);
        if (i < UNLISTEN_CANCELS)
            cancel_accepts(u, ul); /* those that the kernel did not find */
    }
    accept_backlog(u, ul);
    close(l->fd);
    l->fd = -1;
    l->backend_state = NULL;
    ul->l = NULL;
}

void uring_listeners_free(struct uring *u)
{
    for (uint32_t i = 0; i < URING_LISTENERS_MAX; i++)
        free(u->listeners[i]);
}
