/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Opens listening sockets and raises the descriptor limit. Runs on main before the shards start;
 * keeps no state, so any thread may call it. */

#include "core/io_socket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

static int open_stream(int family, int *fd)
{
    *fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return *fd >= 0 ? 0 : -errno;
}

/* Options that decide whether a bind collides: the same for the listener and for the probe. IPv6
 * takes IPv4 as well whatever the system's default: "[::]" means every address. */
static int set_bind_options(int fd, int family)
{
    int err = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (err == 0 && family == AF_INET6)
        err = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    return err;
}

/* Accepted sockets inherit these. */
static int set_listener_options(int fd, int family, const struct io_socket_options *opt)
{
    int err = 0;
    if (opt->sndbuf_bytes > 0)
        err = set_option(fd, SOL_SOCKET, SO_SNDBUF, opt->sndbuf_bytes);
    if (err == 0 && family != AF_UNIX)
        err = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (err == 0 && family != AF_UNIX && opt->reuseport)
        err = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (err == 0 && family != AF_UNIX && opt->reuseport && opt->core_plus_1 != 0)
        err = set_option(fd, SOL_SOCKET, SO_INCOMING_CPU, (int)opt->core_plus_1 - 1);
    return err;
}

/* Whether the file at `un` is a socket that nobody listens on. Only a refusal says so: a server
 * whose backlog is full answers EAGAIN, and what is not a socket is not ours to remove. */
static bool is_stale_socket(const struct sockaddr_un *un, socklen_t len)
{
    struct stat st;
    int fd;

    if (lstat(un->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    if (open_stream(AF_UNIX, &fd) != 0)
        return false;
    bool refused = connect(fd, (const struct sockaddr *)un, len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_unix(int fd, const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t path_len = path != NULL ? strlen(path) : 0;

    if (path_len == 0)
        return -EINVAL;
    if (path_len >= sizeof(un.sun_path))
        return -ENAMETOOLONG;
    memcpy(un.sun_path, path, path_len + 1);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_len + 1);

    if (bind(fd, (struct sockaddr *)&un, len) == 0)
        return 0;
    int err = -errno;
    if (err != -EADDRINUSE || !is_stale_socket(&un, len))
        return err;
    if (unlink(path) != 0 || bind(fd, (struct sockaddr *)&un, len) != 0)
        return -errno;
    return 0;
}

static int bind_inet(int fd, const struct io_addr *a)
{
    struct sockaddr_storage ss;
    socklen_t len = io_addr_to_sockaddr(a, &ss);

    int err = set_bind_options(fd, a->family);
    if (err == 0 && bind(fd, (struct sockaddr *)&ss, len) != 0)
        err = -errno;
    return err;
}

static int read_bound_port(int fd, struct io_addr *a)
{
    struct sockaddr_storage ss;
    struct io_addr bound;
    socklen_t len = sizeof(ss);

    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
        return -errno;
    io_addr_from_sockaddr(&bound, (struct sockaddr *)&ss, len);
    a->port = bound.port;
    return 0;
}

int io_socket_listen(struct io_addr *a, const char *path, const struct io_socket_options *opt,
                     int *fd)
{
    bool is_unix = a->family == AF_UNIX;
    int sock;

    if (!is_unix && a->family != AF_INET && a->family != AF_INET6)
        return -EAFNOSUPPORT;
    int err = open_stream(a->family, &sock);
    if (err != 0)
        return err;
    err = set_listener_options(sock, a->family, opt);
    if (err == 0)
        err = is_unix ? bind_unix(sock, path) : bind_inet(sock, a);
    if (err == 0 && listen(sock, opt->backlog) != 0)
        err = -errno;
    if (err == 0 && !is_unix)
        err = read_bound_port(sock, a);
    if (err != 0) {
        close(sock);
        return err;
    }
    *fd = sock;
    return 0;
}

int io_socket_probe(const struct io_addr *a)
{
    int sock;

    if (a->family != AF_INET && a->family != AF_INET6)
        return -EAFNOSUPPORT;
    int err = open_stream(a->family, &sock);
    if (err != 0)
        return err;
    err = bind_inet(sock, a);
    close(sock);
    return err;
}

int io_socket_connect_unix(const char *path, struct io_ticket *t)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    int fd, err;

    if (len == 0)
        return -EINVAL;
    if (len >= sizeof(un.sun_path))
        return -ENAMETOOLONG;
    memcpy(un.sun_path, path, len);
    err = open_stream(AF_UNIX, &fd);
    if (err != 0)
        return err;
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0) {
        err = -errno;
        close(fd);
        return err;
    }
    t->fd = fd;
    return 0;
}

int64_t io_socket_raise_nofile(void)
{
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
        return -errno;
    if (lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &lim) != 0)
            return -errno;
    }
    return lim.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)lim.rlim_cur;
}
