/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_IO_EPOLL_H
#define CORE_IO_EPOLL_H

/* The inside of io over epoll, shared by io_epoll.c (connections, the turn), io_epoll_accept.c
 * (listeners), io_epoll_connect.c and io_epoll_tls.c (TLS by the kernel). Nobody else includes it:
 * io.h is the way in. All on the shard's thread. */

#include <stdalign.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#include "core/io.h"

/* More sockets than this report in the next poll. */
#define EP_EVENTS 512

#define EP_INTEREST (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)
/* Announce what stands behind a short read: an end, or what follows an urgent byte of TCP's. */
#define EP_BEHIND (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)

/* io_conn.flags; in the common case none is set. */
enum {
    EP_CLOSING = 1 << 0,    /* io_close() was called: no callback but on_closed */
    EP_RESET = 1 << 1,      /* ... with reset */
    EP_CONNECTING = 1 << 2, /* on_connect is owed */
    EP_PAUSED = 1 << 3,     /* receiving is off */
    EP_UNREAD = 1 << 4,     /* paused, and an edge has come or a read stopped early */
    EP_QUEUED = 1 << 5,     /* on the ready ring */
    EP_READ_ON = 1 << 6,    /* EP_BEHIND has come: a short read is followed by another */
    EP_EOF = 1 << 7,        /* on_eof was told */
};

/* io_listener.backend_flags */
enum {
    EP_LISTENER_QUEUED = 1 << 0,  /* serve without waiting for an edge */
    EP_LISTENER_STARVED = 1 << 1, /* serve when retry_ns has come */
    EP_LISTENER_TURN = 1 << 2,    /* to be served in this poll */
};

/* Kinds of epoll_data: a connection's pointer as it is, others with low bits set. */
enum { EP_TAG_LISTENER = 1, EP_TAG_WAKE = 2, EP_TAG_GONE = 3, EP_TAG_MASK = 3 };

struct io_epoll {
    struct io io;
    int epoll_fd;
    int wake_fd;
    int spare_fd;      /* given up for a moment to accept and close at the limit; -1: lost */
    bool wait_ns_okay; /* epoll_pwait2() works */
    int event_next;    /* events[event_next .. event_count) are not handled yet */
    int event_count;
    uint32_t callbacks; /* run in this poll */
    size_t turn_bytes;  /* received in this poll, of all connections */
    uint8_t *recv_buf;  /* IO_RECV_TURN_BYTES, padded at both ends */
    uint8_t *recv_map;

    struct io_conn **ready; /* ring of conns_max: served in the next poll, whatever epoll says */
    uint32_t ready_first;
    uint32_t ready_count;
    uint32_t closing_count;
    struct io_conn **closing; /* 2 * conns_max (finish_closings() says why): on_closed is owed */

    struct io_listener *listeners; /* linked through backend_state */
    struct io_listener *accepting; /* whose callback runs; NULL when unlistened by it */
    bool listener_queued;          /* some listener has EP_LISTENER_QUEUED */
    uint64_t retry_ns;             /* when starved listeners are served again; 0: none */

    struct epoll_event events[EP_EVENTS];

    alignas(CORE_CACHE_LINE) atomic_bool wake_pending; /* rung and not yet seen by a poll */
};

static inline struct io_epoll *ep_of(struct io *io)
{
    return container_of(io, struct io_epoll, io);
}

/* The only writer is this thread; readers elsewhere are relaxed. */
static inline void ep_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* io_epoll.c: registers fd; the edges that came before are reported by the next wait. */
int ep_watch(struct io_epoll *ep, int fd, uint32_t events, uint64_t data);

/* io_epoll.c: ends the registration of fd. A close does so only if nobody has a duplicate. */
void ep_unwatch(struct io_epoll *ep, int fd);

/* io_epoll.c: initialises c, whose place in conn_count is taken already. */
void ep_conn_attach(struct io_conn *c, int fd, uint16_t flags);

/* io_epoll.c: has c served by the next poll, whatever epoll says. It is not queued yet. */
void ep_ready_push(struct io_epoll *ep, struct io_conn *c);

/* io_epoll.c: tells that nothing more is received. */
void ep_tell_eof(struct io_epoll *ep, struct io_conn *c, int err);

/* io_epoll.c: a counted close(2). */
void ep_close_fd(struct io_epoll *ep, int fd);

/* io_epoll.c: sends one span under a control message, which lives until the send is over. Returns
 * as io_send(). */
struct io_tls_control;
int ep_send_record(struct io_epoll *ep, struct io_conn *c, struct iovec iov,
                   const struct io_tls_control *control);

/* io_epoll_tls.c: the kernel's TLS, a part of struct io_backend. */
int ep_tls_key(struct io *io, struct io_conn *c, const void *info, size_t len, bool again);
int ep_tls_send(struct io *io, struct io_conn *c, enum io_tls_type type, struct bytes record);

/* io_epoll_connect.c: a part of struct io_backend; tells how connecting went (0 or -errno); and
 * looks that up, when epoll has reported the socket. */
int ep_connect(struct io *io, struct io_conn *c, const struct io_addr *to,
               const struct io_addr *from);
void ep_tell_connect(struct io_epoll *ep, struct io_conn *c, int err);
void ep_connected(struct io_epoll *ep, struct io_conn *c);

/* io_epoll_accept.c: the listener's part of struct io_backend. */
int ep_listen(struct io *io, struct io_listener *l, int fd);
void ep_accept_mode(struct io *io, struct io_listener *l, enum io_accept_mode mode);
void ep_unlisten(struct io *io, struct io_listener *l);

/* io_epoll_accept.c: has l served at the end of this turn, or in the next. */
void ep_listener_queue(struct io_epoll *ep, struct io_listener *l);

/* io_epoll_accept.c: accepts from the queued listeners, each once and as far as one turn goes. */
void ep_serve_listeners(struct io_epoll *ep);

#endif
