/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The kernel's TLS on sockets of io over epoll. On the shard's thread. */

#include "core/io_epoll.h"

#include <errno.h>

#include <netinet/tcp.h>
#include <sys/socket.h>

#include "core/io_tls.h"

int ep_tls_key(struct io *io, struct io_conn *c, const void *info, size_t len, bool again)
{
    struct io_epoll *ep = ep_of(io);

    if (c->flags & (EP_CLOSING | EP_CONNECTING))
        return -ENOTCONN;
    CHECK(c->backend_state == NULL);
    if (!again) {
        ep_count(&ep->io.stats.syscalls, 1);
        if (setsockopt(c->sock, IPPROTO_TCP, TCP_ULP, IO_TLS_ULP, sizeof(IO_TLS_ULP)) != 0)
            return -errno;
    }
    ep_count(&ep->io.stats.syscalls, 1);
    return setsockopt(c->sock, SOL_TLS, TLS_TX, info, (socklen_t)len) == 0 ? IO_SENT : -errno;
}

int ep_tls_send(struct io *io, struct io_conn *c, enum io_tls_type type, struct bytes record)
{
    if (c->flags & (EP_CLOSING | EP_CONNECTING))
        return -ENOTCONN;
    return ep_send_record(ep_of(io), c, (struct iovec){record.ptr, record.len},
                          io_tls_control(type));
}
