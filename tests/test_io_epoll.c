/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What only io over epoll has: its answers when the kernel refuses something. The calls below stand
 * in for the C library's and fail on demand; the behaviour itself is test_io_contract*.c. */

#ifndef TW_TEST_ONLY_EPOLL
#define TW_TEST_ONLY_EPOLL /* the other implementation does not go through these calls */
#endif

#include "tests/io_fixture.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum call { CALL_NONE, CALL_EPOLL_CREATE, CALL_EVENTFD, CALL_FCNTL, CALL_EPOLL_CTL, CALL_ACCEPT };

static enum call failing;
static int failing_errno;
static int failures; /* so far */

static bool fails(enum call which)
{
    if (failing != which)
        return false;
    failures++;
    errno = failing_errno;
    return true;
}

static void fail_from_now(enum call which, int err)
{
    failing = which;
    failing_errno = err;
    failures = 0;
}

int epoll_create1(int flags)
{
    return fails(CALL_EPOLL_CREATE) ? -1 : (int)syscall(SYS_epoll_create1, flags);
}

int eventfd(unsigned count, int flags)
{
    return fails(CALL_EVENTFD) ? -1 : (int)syscall(SYS_eventfd2, count, flags);
}

int fcntl(int fd, int cmd, ...)
{
    va_list args;
    va_start(args, cmd);
    long arg = va_arg(args, long);
    va_end(args);
    return fails(CALL_FCNTL) ? -1 : (int)syscall(SYS_fcntl, fd, cmd, arg);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
    return fails(CALL_EPOLL_CTL) ? -1 : (int)syscall(SYS_epoll_ctl, epfd, op, fd, ev);
}

int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
    return fails(CALL_ACCEPT) ? -1 : (int)syscall(SYS_accept4, fd, sa, len, flags);
}

/* Each write fits into the kernel's buffers. Who was left over comes before those that write again.
 */
IO_TEST(a_turn_has_a_bound_for_all_connections_together_and_passes_nobody_over)
{
    enum { PAIRS = 24, EACH = 32 << 10, TURNS_MAX = PAIRS * EACH / (int)IO_RECV_TURN_BYTES + 1 };
    int peers[PAIRS];
    struct side *s[PAIRS];
    uint8_t *data = pattern_new(EACH);

    for (int i = 0; i < PAIRS; i++)
        s[i] = fixture_pair(t, &peers[i]);
    for (int i = 0; i < PAIRS; i++)
        peer_write(peers[i], data, EACH);
    for (int n = 0; n < TURNS_MAX; n++) {
        size_t turn_bytes = 0;

        turn(t, wall_ns() + NS_PER_SEC);
        for (int i = 0; i < PAIRS; i++) {
            turn_bytes += s[i]->turn_bytes;
            if (s[i]->turn_bytes > 0)
                peer_write(peers[i], data, EACH);
        }
        cr_assert_lt(turn_bytes, IO_RECV_TURN_BYTES + EACH);
    }
    for (int i = 0; i < PAIRS; i++) {
        cr_assert_geq(s[i]->got_len, EACH, "connection %d was passed over", i);
        side_close(s[i], false);
    }
    for (int i = 0; i < PAIRS; i++) {
        UNTIL(t, s[i]->closeds > 0);
        close(peers[i]);
    }
    free(data);
}

#ifndef TW_SANITIZED /* which bring an allocator of their own */
extern void *__libc_malloc(size_t bytes);
static bool no_memory;

void *malloc(size_t bytes)
{
    if (!no_memory)
        return __libc_malloc(bytes);
    errno = ENOMEM;
    return NULL;
}

IO_TEST(without_memory_for_its_rest_a_send_fails)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = pattern_new(4 << 20);

    no_memory = true;
    int r = side_send(s, data, 4 << 20);
    no_memory = false;
    cr_assert_eq(r, -ENOMEM);
    side_close(s, false);
    UNTIL(t, s->closeds > 0);
    free(data);
    close(peer);
}

IO_TEST(closing_frees_what_was_kept_of_a_pending_send)
{
    enum { ROUNDS = 100 };
    uint8_t *data = pattern_new(1 << 20);
    size_t before = 0;

    for (int i = 0; i < ROUNDS; i++) {
        int peer;
        struct side *s = fixture_pair_with(t, &peer, 8 << 10);
        struct iovec iov[IO_IOV_MAX];
        for (int k = 0; k < IO_IOV_MAX; k++)
            iov[k] = (struct iovec){.iov_base = data, .iov_len = (1 << 20) / IO_IOV_MAX};
        cr_assert_eq(side_sendv(s, iov, IO_IOV_MAX, 1 << 20), IO_PENDING);
        side_close(s, true);
        UNTIL(t, s->closeds > 0);
        close(peer);
        if (i == 0)
            before = mallinfo2().uordblks;
    }
    /* What a round leaves is the test's own side; the rest of a send is larger than that. */
    cr_assert_lt(mallinfo2().uordblks - before, ROUNDS * (sizeof(struct side) + 300));
    free(data);
}
#endif

Test(epoll, every_descriptor_that_cannot_be_had_fails_the_making_and_leaks_nothing)
{
    struct io_config cfg = {.conns_max = 8};

    for (int call = CALL_EPOLL_CREATE; call <= CALL_EPOLL_CTL; call++) {
        int before = open_fds();
        struct io *io = NULL;
        const char *why = NULL;
        fail_from_now((enum call)call, EMFILE);
        cr_assert_eq(io_epoll_new(&cfg, &io, &why), -EMFILE);
        fail_from_now(CALL_NONE, 0);
        cr_assert_not_null(why);
        cr_assert_null(io);
        cr_assert_eq(open_fds(), before);
    }
}

Test(epoll, an_io_for_no_connections_is_refused)
{
    struct io_config cfg = {0};
    struct io *io = NULL;
    const char *why = NULL;

    cr_assert_eq(io_epoll_new(&cfg, &io, &why), -EINVAL);
    cr_assert_not_null(why);
}

IO_TEST(an_accepted_socket_that_cannot_be_watched_ends_at_once)
{
    int peer = peer_connect(t);

    fail_from_now(CALL_EPOLL_CTL, ENOSPC);
    UNTIL(t, t->side_count == 1 && t->sides[0]->eofs == 1);
    fail_from_now(CALL_NONE, 0);
    cr_assert_eq(t->sides[0]->eof_err, -ENOSPC);
    side_close(t->sides[0], false);
    UNTIL(t, t->sides[0]->closeds > 0);
    peer_expect_eof(peer);
    close(peer);
}

IO_TEST(a_ticket_that_cannot_be_watched_stays_with_its_holder)
{
    struct side *s = side_new(t, t->io);
    int peer;

    io_accept_mode(t->io, &t->listener, IO_ACCEPT_TICKETS);
    peer = peer_connect(t);
    UNTIL(t, t->ticket_count == 1);
    fail_from_now(CALL_EPOLL_CTL, ENOMEM);
    cr_assert_eq(io_adopt(t->io, &s->conn, t->tickets[0]), -ENOMEM);
    fail_from_now(CALL_NONE, 0);
    cr_assert_eq(t->io->conn_count, 0);
    cr_assert_eq(io_adopt(t->io, &s->conn, t->tickets[0]), 0);
    peer_write(peer, "x", 1);
    UNTIL(t, s->got_len == 1);
    close(peer);
}

IO_TEST(a_connect_that_cannot_be_watched_fails_and_leaves_nothing)
{
    struct side *s = side_new(t, t->io);

    fail_from_now(CALL_EPOLL_CTL, ENOMEM);
    cr_assert_eq(io_connect(t->io, &s->conn, &t->addr, NULL), -ENOMEM);
    fail_from_now(CALL_NONE, 0);
    cr_assert_eq(t->io->conn_count, 0);
    s->closing = true; /* never attached */
    s->closeds = 1;
}

/* The descriptor given up for turning away may be gone as well; then the listener rests, and is
 * tried again without a newcomer's help. */
IO_TEST(a_starved_listener_rests_and_recovers_by_itself)
{
    fail_from_now(CALL_ACCEPT, ENFILE);
    int peer = peer_connect(t);
    turn_for_ms(t, 250);
    cr_assert(failures >= 2 && failures <= 10, "%d tries", failures);
    cr_assert_lt(t->io->stats.polls, 20);
    cr_assert_gt(t->io->stats.accept_errors, 0);
    cr_assert_eq(t->accepts, 0);
    fail_from_now(CALL_NONE, 0);
    while (t->accepts == 0)
        turn(t, IO_FOREVER);
    close(peer);
}

IO_TEST(a_starved_listener_can_be_unlistened)
{
    fail_from_now(CALL_ACCEPT, ENOMEM);
    int peer = peer_connect(t);
    turn_for_ms(t, 20);
    fixture_unlisten(t);
    fail_from_now(CALL_NONE, 0);
    turn_for_ms(t, 150);
    cr_assert_eq(t->accepts, 0);
    close(peer);
}

IO_TEST(a_connection_that_died_in_the_backlog_does_not_stop_the_next_one)
{
    int peer = peer_connect(t);

    fail_from_now(CALL_ACCEPT, ECONNABORTED);
    turn_for_ms(t, 2);
    cr_assert_gt(failures, 0);
    cr_assert_eq(t->io->stats.accept_errors, 0, "it is no lack of ours");
    fail_from_now(CALL_NONE, 0);
    UNTIL(t, t->accepts == 1);
    close(peer);
}

/* Makes one system call fail for the rest of this process. */
static void forbid(int nr, int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        cr_skip_test("no system call filters here");
}

static void wait_with_forbidden(struct fixture *t, int err)
{
    forbid(SYS_epoll_pwait2, err);
    turn(t, 0);
    for (int i = 0; i < 5; i++) {
        uint64_t deadline_ns = t->io->now_ns + 2 * NS_PER_MS + 1;
        cr_assert_eq(turn(t, deadline_ns), 0);
        cr_assert_geq(t->io->now_ns, deadline_ns, "rounded down");
        cr_assert_lt(t->io->now_ns, deadline_ns + 200 * NS_PER_MS);
    }
}

IO_TEST(a_kernel_without_nanoseconds_waits_in_milliseconds)
{
    wait_with_forbidden(t, ENOSYS);
}

IO_TEST(a_filter_against_nanoseconds_means_milliseconds)
{
    wait_with_forbidden(t, EPERM);
}
