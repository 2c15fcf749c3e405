/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Listeners of io over epoll: bounded accepting, and turning away when there are no descriptors.
 * On the shard's thread.
 *
 * A listener's edge comes once for whatever has queued up, so it is served until its backlog is
 * empty. What stops short of that leaves a mark for a poll that waits for no edge: QUEUED (more
 * may be there: next poll) or STARVED (nothing can be accepted: after a rest). Switched off, edges
 * are dropped; switching on marks it QUEUED. */

#include "core/io_epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Accepts of one listener in one poll: a burst of new connections must not stall the old ones. */
#define EP_ACCEPTS_PER_POLL 64
/* The most that io_unlisten() takes from a backlog; no kernel queues more than this. */
#define EP_UNLISTEN_MAX 65536
/* How long a listener rests when it can neither accept nor turn away. */
#define EP_STARVED_NS (100 * NS_PER_MS)

/* A descriptor, or -1 with errno. */
static int accept_socket(struct io_epoll *ep, const struct io_listener *l, struct io_addr *peer)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    ep_count(&ep->io.stats.syscalls, 1);
    if (fd >= 0)
        io_addr_from_sockaddr(peer, (struct sockaddr *)&ss, len);
    return fd;
}

enum turned { TURNED_AWAY, TURNED_NOBODY, TURNED_FAILED };

/* Out of descriptors: the spare one is given up for as long as the owner takes to answer the
 * connection and close it. Without descriptors accept(2) fails even when nobody waits, so only this
 * tells whether somebody does. A ticket that the owner keeps costs the spare until one is free. */
static enum turned turn_away(struct io_epoll *ep, struct io_listener *l)
{
    enum turned result = TURNED_FAILED;

    if (ep->spare_fd >= 0) {
        struct io_addr peer;
        close(ep->spare_fd);
        ep->spare_fd = -1;
        int fd = accept_socket(ep, l, &peer);
        if (fd >= 0) {
            result = TURNED_AWAY;
            ep_count(&ep->io.stats.accepts, 1);
            ep->callbacks++;
            l->events->on_ticket(l, (struct io_ticket){fd}, &peer);
        } else if (errno == EAGAIN) {
            result = TURNED_NOBODY;
        }
    }
    ep->spare_fd = fcntl(ep->wake_fd, F_DUPFD_CLOEXEC, 0);
    ep_count(&ep->io.stats.syscalls, 2);
    return result;
}

/* Returns whether to try for the next connection. */
static bool accept_starved(struct io_epoll *ep, struct io_listener *l)
{
    enum turned result = turn_away(ep, l);

    if (result == TURNED_NOBODY)
        return false;
    ep_count(&ep->io.stats.accept_errors, 1);
    if (result == TURNED_AWAY)
        return true;
    l->backend_flags |= EP_LISTENER_STARVED;
    ep->retry_ns = ep->io.now_ns + EP_STARVED_NS;
    return false;
}

static void accepted(struct io_epoll *ep, struct io_listener *l, int fd, const struct io_addr *peer)
{
    ep_count(&ep->io.stats.accepts, 1);
    ep->callbacks++;
    if (l->mode == IO_ACCEPT_TICKETS || ep->io.conn_count == ep->io.conns_max) {
        l->events->on_ticket(l, (struct io_ticket){fd}, peer);
        return;
    }
    ep->io.conn_count++; /* taken before, for the callback may unlisten and so accept others */
    struct io_conn *c = l->events->on_accept(l, peer);
    if (c == NULL) {
        ep->io.conn_count--;
        ep_count(&ep->io.stats.accept_refused, 1);
        ep->callbacks++;
        l->events->on_ticket(l, (struct io_ticket){fd}, peer);
        return;
    }
    ep_conn_attach(c, fd, 0);
    int err = ep_watch(ep, fd, EP_INTEREST, (uintptr_t)c);
    if (err != 0)
        ep_tell_eof(ep, c, err); /* the owner has its connection already; this is all it hears */
}

/* Takes one connection from the backlog. Returns false when there is none, or none can be had. */
static bool accept_one(struct io_epoll *ep, struct io_listener *l)
{
    struct io_addr peer;
    int fd = accept_socket(ep, l, &peer);

    if (fd >= 0) {
        accepted(ep, l, fd, &peer);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return accept_starved(ep, l);
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ETIMEDOUT:
        return true; /* that one died in the backlog or was filtered; the next one may not be */
    default:
        return false;
    }
}

void ep_listener_queue(struct io_epoll *ep, struct io_listener *l)
{
    l->backend_flags |= EP_LISTENER_QUEUED;
    ep->listener_queued = true;
}

/* A callback may have unlistened l, whose memory is not ours any more then. */
static void listener_serve(struct io_epoll *ep, struct io_listener *l)
{
    l->backend_flags = 0;
    ep->accepting = l;
    for (int i = 0; i < EP_ACCEPTS_PER_POLL; i++) {
        if (l->mode == IO_ACCEPT_OFF || !accept_one(ep, l)) {
            ep->accepting = NULL;
            return;
        }
        if (ep->accepting != l)
            return;
    }
    ep->accepting = NULL;
    ep_listener_queue(ep, l);
}

static struct io_listener *listener_with(struct io_epoll *ep, uint8_t flag)
{
    struct io_listener *l = ep->listeners;
    while (l != NULL && !(l->backend_flags & flag))
        l = l->backend_state;
    return l;
}

void ep_serve_listeners(struct io_epoll *ep)
{
    bool retry = ep->retry_ns != 0 && ep->io.now_ns >= ep->retry_ns;
    uint8_t due = EP_LISTENER_QUEUED | (retry ? EP_LISTENER_STARVED : 0);
    struct io_listener *l;

    ep->listener_queued = false;
    if (retry)
        ep->retry_ns = 0;
    for (l = ep->listeners; l != NULL; l = l->backend_state) {
        if (l->backend_flags & due)
            l->backend_flags |= EP_LISTENER_TURN;
    }
    while ((l = listener_with(ep, EP_LISTENER_TURN)) != NULL)
        listener_serve(ep, l);
}

int ep_listen(struct io *io, struct io_listener *l, int fd)
{
    struct io_epoll *ep = ep_of(io);
    int status = fcntl(fd, F_GETFL);

    if (status < 0 || fcntl(fd, F_SETFL, status | O_NONBLOCK) != 0)
        return -errno;
    int err = ep_watch(ep, fd, EPOLLIN | EPOLLET, (uintptr_t)l | EP_TAG_LISTENER);
    if (err != 0)
        return err;
    l->io = io;
    l->fd = fd;
    l->mode = IO_ACCEPT_CONNS;
    l->backend_flags = 0;
    l->armed = 0;
    l->backend_state = ep->listeners;
    ep->listeners = l;
    return 0;
}

/* Edges that came while it was off were dropped, so switching on looks for itself. */
void ep_accept_mode(struct io *io, struct io_listener *l, enum io_accept_mode mode)
{
    bool was_off = l->mode == IO_ACCEPT_OFF;
    l->mode = (uint8_t)mode;
    if (was_off && mode != IO_ACCEPT_OFF)
        ep_listener_queue(ep_of(io), l);
}

static void listener_unlink(struct io_epoll *ep, struct io_listener *l)
{
    struct io_listener *prev = ep->listeners;

    if (prev == l) {
        ep->listeners = l->backend_state;
        return;
    }
    while (prev->backend_state != l)
        prev = prev->backend_state;
    prev->backend_state = l->backend_state;
}

void ep_unlisten(struct io *io, struct io_listener *l)
{
    struct io_epoll *ep = ep_of(io);

    for (int i = 0; i < EP_UNLISTEN_MAX && accept_one(ep, l); i++)
        ;
    for (int i = ep->event_next; i < ep->event_count; i++) {
        if (ep->events[i].data.u64 == ((uintptr_t)l | EP_TAG_LISTENER))
            ep->events[i].data.u64 = EP_TAG_GONE;
    }
    if (ep->accepting == l)
        ep->accepting = NULL;
    listener_unlink(ep, l);
    ep_unwatch(ep, l->fd); /* which other shards may have duplicates of */
    ep_close_fd(ep, l->fd);
    l->fd = -1;
}
