/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Listening sockets and the descriptor limit. */

#include "core/io_socket.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

TestSuite(io_socket, .timeout = 10);

static struct io_addr addr_of(const char *ip, uint16_t port)
{
    struct io_addr a;
    cr_assert_eq(io_addr_parse(&a, ip, port), 0);
    return a;
}

static int connect_to(const struct io_addr *a)
{
    struct sockaddr_storage ss;
    socklen_t len = io_addr_to_sockaddr(a, &ss);
    int fd = socket(a->family, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&ss, len) == 0)
        return fd;
    int err = -errno;
    close(fd);
    return err;
}

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    cr_assert_eq(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static const struct io_socket_options plain = {.backlog = 16};
static const struct io_socket_options shared = {.backlog = 16, .reuseport = true};

Test(io_socket, a_free_port_is_taken_and_filled_in)
{
    struct io_addr a = addr_of("127.0.0.1", 0);
    int fd;

    cr_assert_eq(io_socket_listen(&a, NULL, &plain, &fd), 0);
    cr_assert_neq(a.port, 0);
    int peer = connect_to(&a);
    cr_assert_geq(peer, 0);
    close(peer);
    close(fd);
}

Test(io_socket, accepted_sockets_inherit_what_was_asked_for)
{
    struct io_socket_options opt = {.backlog = 16, .sndbuf_bytes = 40000};
    struct io_addr a = addr_of("127.0.0.1", 0);
    int fd;

    cr_assert_eq(io_socket_listen(&a, NULL, &opt, &fd), 0);
    cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    int peer = connect_to(&a);
    cr_assert_geq(peer, 0);
    int conn = accept(fd, NULL, NULL);
    cr_assert_geq(conn, 0);
    cr_assert_neq(option_of(conn, IPPROTO_TCP, TCP_NODELAY), 0);
    cr_assert_eq(option_of(conn, SOL_SOCKET, SO_SNDBUF), 2 * 40000, "the kernel doubles it");
    close(conn);
    close(peer);
    close(fd);
}

Test(io_socket, a_shared_listener_asks_for_the_packets_of_a_core)
{
    struct io_socket_options opt = shared;
    struct io_addr a = addr_of("127.0.0.1", 0);
    int fd[2];

    opt.core_plus_1 = 1;
    cr_assert_eq(io_socket_listen(&a, NULL, &opt, &fd[0]), 0);
    opt.core_plus_1 = 0;
    cr_assert_eq(io_socket_listen(&a, NULL, &opt, &fd[1]), 0);
    cr_assert_eq(option_of(fd[0], SOL_SOCKET, SO_INCOMING_CPU), 0);
    cr_assert_eq(option_of(fd[1], SOL_SOCKET, SO_INCOMING_CPU), -1);
    close(fd[0]);
    close(fd[1]);
}

Test(io_socket, a_port_in_use_is_refused_and_probed_as_such)
{
    struct io_addr a = addr_of("127.0.0.1", 0);
    int fd, second;

    cr_assert_eq(io_socket_probe(&a), 0);
    cr_assert_eq(io_socket_listen(&a, NULL, &plain, &fd), 0);
    cr_assert_eq(io_socket_probe(&a), -EADDRINUSE);
    cr_assert_eq(io_socket_listen(&a, NULL, &plain, &second), -EADDRINUSE);
    struct io_addr any = addr_of("0.0.0.0", a.port);
    cr_assert_eq(io_socket_probe(&any), -EADDRINUSE);
    close(fd);
    cr_assert_eq(io_socket_probe(&a), 0);
}

Test(io_socket, a_shared_port_is_shared_but_not_with_who_does_not_share)
{
    struct io_addr a = addr_of("127.0.0.1", 0);
    int first, second, third;

    cr_assert_eq(io_socket_listen(&a, NULL, &shared, &first), 0);
    uint16_t port = a.port;
    cr_assert_eq(io_socket_listen(&a, NULL, &shared, &second), 0);
    cr_assert_eq(a.port, port);
    cr_assert_eq(io_socket_listen(&a, NULL, &plain, &third), -EADDRINUSE);
    cr_assert_eq(io_socket_probe(&a), -EADDRINUSE);
    close(first);
    close(second);
}

/* What a server leaves behind that has closed its connections first. */
Test(io_socket, a_port_with_closing_connections_can_be_taken_again)
{
    struct io_addr a = addr_of("127.0.0.1", 0);
    char byte;
    int fd;

    cr_assert_eq(io_socket_listen(&a, NULL, &plain, &fd), 0);
    int peer = connect_to(&a);
    cr_assert_geq(peer, 0);
    close(accept(fd, NULL, NULL));
    cr_assert_eq(recv(peer, &byte, 1, 0), 0);
    close(fd);
    close(peer);
    cr_assert_eq(io_socket_probe(&a), 0);
    cr_assert_eq(io_socket_listen(&a, NULL, &plain, &fd), 0);
    close(fd);
}

Test(io_socket, ipv6_listens_and_takes_ipv4_as_well)
{
    struct io_addr a = addr_of("::", 0);
    int fd;

    int err = io_socket_listen(&a, NULL, &plain, &fd);
    if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL)
        cr_skip_test("no IPv6 here");
    cr_assert_eq(err, 0);
    struct io_addr v4 = addr_of("127.0.0.1", a.port);
    struct io_addr v6 = addr_of("::1", a.port);
    int one = connect_to(&v4);
    int two = connect_to(&v6);
    cr_assert_geq(one, 0);
    cr_assert_geq(two, 0);
    close(one);
    close(two);
    close(fd);
}

Test(io_socket, an_address_that_is_not_ours_is_refused)
{
    struct io_addr a = addr_of("192.0.2.1", 8000);
    int fd;

    cr_assert_eq(io_socket_listen(&a, NULL, &plain, &fd), -EADDRNOTAVAIL);
    cr_assert_eq(io_socket_probe(&a), -EADDRNOTAVAIL);
}

Test(io_socket, an_unknown_family_is_refused)
{
    struct io_addr a = {0};
    int fd;

    cr_assert_eq(io_socket_listen(&a, NULL, &plain, &fd), -EAFNOSUPPORT);
    cr_assert_eq(io_socket_probe(&a), -EAFNOSUPPORT);
}

/* --- AF_UNIX ---------------------------------------------------------------------------------- */

struct place {
    char dir[32];
    struct sockaddr_un un;
};

static struct place place_new(void)
{
    struct place p = {.dir = "/tmp/tidewire-sock-XXXXXX", .un = {.sun_family = AF_UNIX}};
    cr_assert_not_null(mkdtemp(p.dir));
    snprintf(p.un.sun_path, sizeof(p.un.sun_path), "%s/s", p.dir);
    return p;
}

static void place_free(struct place *p)
{
    unlink(p->un.sun_path);
    rmdir(p->dir);
}

static int connect_unix(const struct place *p)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (const struct sockaddr *)&p->un, sizeof(p->un)) == 0)
        return fd;
    int err = -errno;
    close(fd);
    return err;
}

static int listen_unix(const char *path, int *fd)
{
    struct io_addr a = {.family = AF_UNIX};
    return io_socket_listen(&a, path, &shared, fd);
}

Test(io_socket, a_unix_socket_listens)
{
    struct place p = place_new();
    int fd;

    cr_assert_eq(listen_unix(p.un.sun_path, &fd), 0);
    int peer = connect_unix(&p);
    cr_assert_geq(peer, 0);
    close(peer);
    close(fd);
    place_free(&p);
}

Test(io_socket, a_stale_socket_file_is_replaced)
{
    struct place p = place_new();
    int fd;

    cr_assert_eq(listen_unix(p.un.sun_path, &fd), 0);
    close(fd);
    cr_assert_eq(connect_unix(&p), -ECONNREFUSED);
    cr_assert_eq(listen_unix(p.un.sun_path, &fd), 0);
    int peer = connect_unix(&p);
    cr_assert_geq(peer, 0);
    close(peer);
    close(fd);
    place_free(&p);
}

Test(io_socket, a_unix_socket_in_use_is_left_alone_even_with_a_full_backlog)
{
    struct place p = place_new();
    struct io_socket_options tiny = {.backlog = 0};
    struct io_addr a = {.family = AF_UNIX};
    int fd, second;

    cr_assert_eq(io_socket_listen(&a, p.un.sun_path, &tiny, &fd), 0);
    int waiting = connect_unix(&p);
    cr_assert_geq(waiting, 0);
    cr_assert_eq(connect_unix(&p), -EAGAIN, "a backlog of one is full with one");
    cr_assert_eq(listen_unix(p.un.sun_path, &second), -EADDRINUSE);
    close(accept(fd, NULL, NULL));
    close(waiting);
    int peer = connect_unix(&p);
    cr_assert_geq(peer, 0, "the first listener must still be there");
    close(peer);
    close(fd);
    place_free(&p);
}

Test(io_socket, a_file_that_is_no_socket_is_never_removed)
{
    struct place p = place_new();
    struct stat st;
    int fd;

    FILE *f = fopen(p.un.sun_path, "w");
    cr_assert_not_null(f);
    fputs("precious", f);
    fclose(f);
    cr_assert_eq(listen_unix(p.un.sun_path, &fd), -EADDRINUSE);
    cr_assert_eq(stat(p.un.sun_path, &st), 0);
    cr_assert_eq(st.st_size, 8);
    place_free(&p);
}

Test(io_socket, a_path_that_cannot_be_is_refused)
{
    char path[200];
    int fd;

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    cr_assert_eq(listen_unix(path, &fd), -ENAMETOOLONG);
    path[sizeof(((struct sockaddr_un *)0)->sun_path)] = '\0';
    cr_assert_eq(listen_unix(path, &fd), -ENAMETOOLONG);
    cr_assert_eq(listen_unix("", &fd), -EINVAL);
    cr_assert_eq(listen_unix(NULL, &fd), -EINVAL);
    cr_assert_eq(listen_unix("/nowhere/at/all", &fd), -ENOENT);
}

Test(io_socket, connecting_to_a_path_never_waits)
{
    struct place p = place_new();
    struct io_socket_options tiny = {.backlog = 0};
    struct io_addr a = {.family = AF_UNIX};
    struct io_ticket first, second;
    char path[200];
    int fd;

    cr_assert_eq(io_socket_connect_unix(p.un.sun_path, &first), -ENOENT);
    cr_assert_eq(io_socket_listen(&a, p.un.sun_path, &tiny, &fd), 0);
    cr_assert_eq(io_socket_connect_unix(p.un.sun_path, &first), 0);
    cr_assert_eq(option_of(first.fd, SOL_SOCKET, SO_DOMAIN), AF_UNIX);
    cr_assert_eq(io_socket_connect_unix(p.un.sun_path, &second), -EAGAIN, "the backlog is full");
    close(fd);
    cr_assert_eq(io_socket_connect_unix(p.un.sun_path, &second), -ECONNREFUSED);
    close(first.fd);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    cr_assert_eq(io_socket_connect_unix(path, &second), -ENAMETOOLONG);
    cr_assert_eq(io_socket_connect_unix("", &second), -EINVAL);
    place_free(&p);
}

/* --- limits ----------------------------------------------------------------------------------- */

Test(io_socket, the_descriptor_limit_is_raised_to_the_hard_one)
{
    struct rlimit lim;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    lim.rlim_cur = lim.rlim_max / 2;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
    cr_assert_eq(io_socket_raise_nofile(), (int64_t)lim.rlim_max);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    cr_assert_eq(lim.rlim_cur, lim.rlim_max);
    cr_assert_eq(io_socket_raise_nofile(), (int64_t)lim.rlim_max, "twice is no error");
}

Test(io_socket, without_descriptors_a_listener_fails_and_leaks_nothing)
{
    struct rlimit before, none;
    struct io_addr a = addr_of("127.0.0.1", 0);
    int fd = dup(0);

    close(fd);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)fd;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int got = fd;
    int err = io_socket_listen(&a, NULL, &plain, &got);
    int probe_err = io_socket_probe(&a);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    cr_assert_eq(err, -EMFILE);
    cr_assert_eq(probe_err, -EMFILE);
    cr_assert_eq(got, fd, "fd is filled in on success only");
}
