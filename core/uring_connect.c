/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* How sockets come to the io_uring implementation other than from a listener: as tickets, and by
 * connecting. Runs on the shard's thread.
 *
 * Connecting is one chain of requests into a direct slot: socket, options, bind, connect. All of
 * them carry the connection's URING_CONNECT; successes before the last are silent, and a failure
 * silences what follows it: exactly one completion tells the outcome. Kernels without a request for
 * bind (before 6.11) have the socket made by ordinary calls, and only the connect by the ring. */

#include "core/uring.h"

#include <errno.h>
#include <unistd.h>

#include <netinet/tcp.h>
#include <sys/socket.h>

/* What a discarded socket has sent is read, up to this, so that its close is not a reset that could
 * overtake the last words. */
#define DISCARD_READ_BYTES 4096
#define DISCARD_READS_MAX 16

/* Options' values must live until the request is done. */
static const int OPTION_ON = 1;

int32_t uring_slot_fill(struct uring *u, int fd)
{
    uint32_t slot = uring_slots_take(&u->slots);
    if (slot == URING_SLOT_NONE)
        return -ENFILE;
    u->io.stats.syscalls++;
    int n = io_uring_register_files_update(&u->ring, slot, &fd, 1);
    if (n != 1) {
        uring_slots_free(&u->slots, slot);
        return n < 0 ? n : -EIO;
    }
    return (int32_t)slot;
}

int uring_adopt(struct io *io, struct io_conn *c, struct io_ticket t)
{
    struct uring *u = uring_of(io);
    if (io->conn_count >= io->conns_max)
        return -ENFILE;
    int32_t slot = uring_slot_fill(u, t.fd);
    if (slot < 0)
        return slot;
    io->stats.syscalls++;
    close(t.fd);
    uring_attach(u, c, (uint32_t)slot);
    return 0;
}

void uring_discard(struct io *io, struct io_ticket t, const void *last_words, size_t len)
{
    uint8_t rest[DISCARD_READ_BYTES];
    io->stats.syscalls += 3;
    if (last_words != NULL && len > 0)
        (void)send(t.fd, last_words, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(t.fd, SHUT_WR);
    for (int i = 0; i < DISCARD_READS_MAX; i++) {
        io->stats.syscalls++;
        if (recv(t.fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
            break;
    }
    close(t.fd);
}

/* A silent link of the chain. */
static void link_request(struct io_uring_sqe *sqe, uint64_t data)
{
    sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = data;
}

static void chain_bind(struct uring *u, int slot, const struct sockaddr *sa, socklen_t len,
                       uint64_t data)
{
    struct io_uring_sqe *sqe = uring_sqe(u);
    uring_prep_setsockopt(sqe, slot, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &OPTION_ON,
                          sizeof(OPTION_ON));
    link_request(sqe, data);
    sqe = uring_sqe(u);
    uring_prep_bind(sqe, slot, sa, len);
    link_request(sqe, data);
}

static void chain_connect(struct uring *u, int slot, const struct sockaddr *sa, socklen_t len,
                          uint64_t data)
{
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_connect(sqe, slot, sa, len);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = data;
}

static int connect_by_chain(struct uring *u, struct io_conn *c, const struct io_addr *to,
                            const struct io_addr *from)
{
    uint32_t slot = uring_slots_take(&u->slots);
    if (slot == URING_SLOT_NONE)
        return -ENFILE;
    struct sockaddr_storage *ss = uring_arena(u, 2 * sizeof(*ss), 5);
    uring_attach_connecting(u, c, slot);
    uint64_t data = uring_data(URING_CONNECT, c->generation, slot);

    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_socket_direct(sqe, to->family, SOCK_STREAM, 0, slot, 0);
    link_request(sqe, data);
    sqe = uring_sqe(u);
    uring_prep_setsockopt(sqe, c->sock, IPPROTO_TCP, TCP_NODELAY, &OPTION_ON, sizeof(OPTION_ON));
    link_request(sqe, data);
    if (from != NULL) {
        socklen_t len = io_addr_to_sockaddr(from, &ss[1]);
        chain_bind(u, c->sock, (struct sockaddr *)&ss[1], len, data);
    }
    socklen_t len = io_addr_to_sockaddr(to, &ss[0]);
    chain_connect(u, c->sock, (struct sockaddr *)&ss[0], len, data);
    return 0;
}

/* An unconnected socket, bound to `from` if there is one. Returns it or -errno. */
static int open_socket(struct uring *u, int family, const struct io_addr *from)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    u->io.stats.syscalls += from != NULL ? 4 : 2;
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &OPTION_ON, sizeof(OPTION_ON));
    if (from == NULL)
        return fd;
    struct sockaddr_storage ss;
    socklen_t len = io_addr_to_sockaddr(from, &ss);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &OPTION_ON, sizeof(OPTION_ON));
    if (bind(fd, (struct sockaddr *)&ss, len) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static int connect_by_fd(struct uring *u, struct io_conn *c, const struct io_addr *to,
                         const struct io_addr *from)
{
    int fd = open_socket(u, to->family, from);
    if (fd < 0)
        return fd;
    int32_t slot = uring_slot_fill(u, fd);
    u->io.stats.syscalls++;
    close(fd);
    if (slot < 0)
        return slot;
    struct sockaddr_storage *ss = uring_arena(u, sizeof(*ss), 1);
    uring_attach_connecting(u, c, (uint32_t)slot);
    socklen_t len = io_addr_to_sockaddr(to, ss);
    chain_connect(u, slot, (struct sockaddr *)ss, len,
                  uring_data(URING_CONNECT, c->generation, (uint32_t)slot));
    return 0;
}

int uring_connect(struct io *io, struct io_conn *c, const struct io_addr *to,
                  const struct io_addr *from)
{
    struct uring *u = uring_of(io);
    if (to->family != AF_INET && to->family != AF_INET6)
        return -EAFNOSUPPORT;
    if (io->conn_count >= io->conns_max)
        return -ENFILE;
    return u->has_bind ? connect_by_chain(u, c, to, from) : connect_by_fd(u, c, to, from);
}
