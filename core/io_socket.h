/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_IO_SOCKET_H
#define CORE_IO_SOCKET_H

/* Listening sockets and descriptor limits: what main prepares before the shards start, so that a
 * port in use is one clear line at start and never a surprise on a shard's thread. Any thread. */

#include "core/io.h"

struct io_socket_options {
    int backlog;          /* listen(2) backlog */
    int sndbuf_bytes;     /* SO_SNDBUF of accepted sockets (inherited); 0: the kernel's default */
    bool reuseport;       /* one listener per shard (SO_REUSEPORT); not for AF_UNIX */
    uint32_t core_plus_1; /* with reuseport: the core whose packets it is to have (SO_INCOMING_CPU;
                             Linux before 6.2 does not heed it here); 0: of all */
};

/* Opens, binds and listens; TCP_NODELAY is set, to be inherited. `path` is used for AF_UNIX (a
 * stale socket file that nobody listens on is replaced), `a` otherwise; a->port 0 takes a free port
 * and is filled in. With reuseport the first call for an address must be io_socket_probe()d, since
 * SO_REUSEPORT would silently share the port with another process of the same user.
 * Returns 0 and *fd, or -errno. */
MUST_USE int io_socket_listen(struct io_addr *a, const char *path,
                              const struct io_socket_options *opt, int *fd);

/* Whether another socket already listens on that address: 0, or -EADDRINUSE, -EACCES, ... */
MUST_USE int io_socket_probe(const struct io_addr *a);

/* Connects to the socket at `path`, which never waits: unix(7) answers at once, -EAGAIN when the
 * listener's backlog is full. Returns 0 and a ticket to io_adopt(), or -errno. */
MUST_USE int io_socket_connect_unix(const char *path, struct io_ticket *t);

/* Raises the soft RLIMIT_NOFILE to the hard one. Returns the limit now in force, or -errno. */
MUST_USE int64_t io_socket_raise_nofile(void);

#endif
