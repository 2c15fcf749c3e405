/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* io over epoll: connections that we open. Runs on the shard's thread. */

#include "core/io_epoll.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int open_client(struct io_epoll *ep, const struct io_addr *to, const struct io_addr *from)
{
    struct sockaddr_storage ss;
    int one = 1;

    if (to->family != AF_INET && to->family != AF_INET6)
        return -EAFNOSUPPORT;
    int fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ep_count(&ep->io.stats.syscalls, 2);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (from == NULL)
        return fd;

    /* The port is chosen when the peer is known, so that one local port serves many peers. */
    if (from->port == 0)
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    socklen_t len = io_addr_to_sockaddr(from, &ss);
    ep_count(&ep->io.stats.syscalls, 2);
    if (bind(fd, (struct sockaddr *)&ss, len) != 0) {
        int err = -errno;
        ep_close_fd(ep, fd);
        return err;
    }
    return fd;
}

/* A failure that connect() itself returns is told like a later one; turn_bytes holds it until
 * then. Registering an unconnected socket would report a hang-up, so that comes second. */
int ep_connect(struct io *io, struct io_conn *c, const struct io_addr *to,
               const struct io_addr *from)
{
    struct io_epoll *ep = ep_of(io);
    struct sockaddr_storage ss;
    socklen_t len = io_addr_to_sockaddr(to, &ss);

    if (io->conn_count == io->conns_max)
        return -ENOBUFS;
    int fd = open_client(ep, to, from);
    if (fd < 0)
        return fd;
    ep_count(&io->stats.syscalls, 1);
    if (connect(fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS && errno != EINTR) {
        int failure = errno;
        io->conn_count++;
        ep_conn_attach(c, fd, EP_CONNECTING);
        c->turn_bytes = (uint32_t)failure;
        ep_ready_push(ep, c);
        return 0;
    }
    int err = ep_watch(ep, fd, EP_INTEREST, (uintptr_t)c);
    if (err != 0) {
        ep_close_fd(ep, fd);
        return err;
    }
    io->conn_count++;
    ep_conn_attach(c, fd, EP_CONNECTING);
    return 0;
}

void ep_tell_connect(struct io_epoll *ep, struct io_conn *c, int err)
{
    c->flags &= (uint16_t)~EP_CONNECTING;
    if (err != 0)
        c->flags |= EP_EOF; /* nothing will be received, and on_connect has said so */
    ep->callbacks++;
    c->events->on_connect(c, err);
}

void ep_connected(struct io_epoll *ep, struct io_conn *c)
{
    int err = 0;
    socklen_t len = sizeof(err);

    ep_count(&ep->io.stats.syscalls, 1);
    if (getsockopt(c->sock, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = errno;
    ep_tell_connect(ep, c, -err);
}
