/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The kernel's TLS on direct descriptors. Runs on the shard's thread.
 *
 * A socket of the kernel's TLS refuses MSG_WAITALL (net/tls/tls_sw.c takes but a few flags), which
 * elsewhere makes of a send one completion. So what is sent there is kept until all of it has left:
 * a send that was taken in part goes on with the rest. */

#include "core/uring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/tcp.h>

#include "core/io_tls.h"

/* One chain as in uring_connect.c: exactly one completion tells the outcome. The kernel may read
 * the key until then. */
int uring_tls_key(struct io *io, struct io_conn *c, const void *info, size_t len, bool again)
{
    struct uring *u = uring_of(io);
    if (!io->has_tls)
        return -EOPNOTSUPP;
    if (c->flags & (URING_F_CONNECT | URING_F_CLOSING))
        return -ENOTCONN;
    if (c->flags & URING_F_SEND)
        return -EALREADY;
    const uint64_t data = uring_data(URING_TLS_KEY, c->generation, (uint32_t)c->sock);
    uring_reserve(u, 2); /* a chain must not be cut by a submit */
    if (!again) {
        struct io_uring_sqe *ulp = uring_sqe(u);
        uring_prep_setsockopt(ulp, c->sock, IPPROTO_TCP, TCP_ULP, IO_TLS_ULP, sizeof(IO_TLS_ULP));
        ulp->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
        ulp->user_data = data;
    }
    struct io_uring_sqe *sqe = uring_sqe(u);
    uring_prep_setsockopt(sqe, c->sock, SOL_TLS, TLS_TX, info, (uint32_t)len);
    sqe->user_data = data;
    c->flags |= URING_F_SEND | URING_F_ULP;
    return IO_PENDING;
}

/* Memory that lasts for the request: the kernel copies a list of spans when it is submitted. */
static void send_rest(struct uring *u, struct io_conn *c)
{
    struct uring_rest *rest = c->backend_state;
    const struct iovec *iov = &rest->iov[rest->first];
    size_t iov_bytes = (size_t)(rest->count - rest->first) * sizeof(*iov);
    struct msghdr *msg = uring_arena(u, sizeof(*msg) + iov_bytes, 1);

    memset(msg, 0, sizeof(*msg));
    msg->msg_iov = memcpy(msg + 1, iov, iov_bytes);
    msg->msg_iovlen = (size_t)(rest->count - rest->first);
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_sendmsg(sqe, c->sock, msg, MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = uring_data(URING_SEND, c->generation, (uint32_t)c->sock);
}

int uring_tls_data(struct uring *u, struct io_conn *c, const struct iovec *iov, int count,
                   size_t bytes)
{
    size_t iov_bytes = (size_t)count * sizeof(*iov);
    struct uring_rest *rest = malloc(sizeof(*rest) + iov_bytes);
    if (rest == NULL)
        return -ENOMEM;
    rest->starved_next = c->backend_state;
    rest->first = 0;
    rest->count = count;
    memcpy(rest->iov, iov, iov_bytes);
    c->backend_state = rest;
    c->flags |= URING_F_SEND | URING_F_REST;
    c->send_want = (uint32_t)bytes;
    u->io.stats.sends++;
    u->io.stats.sends_pending++;
    u->io.stats.send_bytes += bytes;
    send_rest(u, c);
    return IO_PENDING;
}

bool uring_tls_goes_on(struct uring *u, struct io_conn *c, int32_t res)
{
    struct uring_rest *rest = c->backend_state;
    if (res > 0 && (uint32_t)res < c->send_want && !(c->flags & URING_F_CLOSING)) {
        c->send_want -= (uint32_t)res;
        rest->first += io_spans_skip(&rest->iov[rest->first], (size_t)res);
        send_rest(u, c);
        return true;
    }
    c->backend_state = rest->starved_next;
    c->flags &= (uint16_t)~URING_F_REST;
    free(rest);
    return false;
}

/* The kernel takes a record of a few bytes whole or not at all. */
int uring_tls_send(struct io *io, struct io_conn *c, enum io_tls_type type, struct bytes record)
{
    struct uring *u = uring_of(io);
    if (c->flags & (URING_F_CONNECT | URING_F_CLOSING))
        return -ENOTCONN;
    if (c->flags & URING_F_SEND)
        return -EALREADY;
    struct msghdr *msg = uring_arena(u, sizeof(*msg) + sizeof(struct iovec), 1);
    struct iovec *iov = (struct iovec *)(msg + 1);
    const struct io_tls_control *control = io_tls_control(type);
    *iov = (struct iovec){record.ptr, record.len};
    *msg = (struct msghdr){.msg_iov = iov,
                           .msg_iovlen = 1,
                           .msg_control = (void *)control,
                           .msg_controllen = sizeof(*control)};
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_sendmsg(sqe, c->sock, msg, MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = uring_data(URING_SEND, c->generation, (uint32_t)c->sock);
    c->flags |= URING_F_SEND;
    c->send_want = (uint32_t)record.len;
    io->stats.sends++;
    io->stats.sends_pending++;
    io->stats.send_bytes += record.len;
    return IO_PENDING;
}
