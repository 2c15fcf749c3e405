/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* io over edge-triggered epoll. Belongs to the shard's thread; only ep_wake() runs on any.
 *
 * Every socket is registered once, for everything, and never changed again: what an edge announced
 * and nobody wanted yet is remembered in the connection's flags. Calls are tried at once; only what
 * the kernel does not take waits for an edge.
 *
 *     poll: wait -> events -> ready connections and listeners of the last poll -> closings
 *
 * Invariants
 *  1. EP_UNREAD (there may be something to read that no edge will announce) implies that the
 *     connection is paused. Switching receiving on puts it on the ready ring instead.
 *  2. A connection is on the ready ring exactly while EP_QUEUED is set, and on_closed waits for
 *     that to end: the ring never names a connection that its owner has back.
 *  3. Descriptors are closed only behind the events of a batch, so no event names another socket
 *     than it was reported for.
 *  4. Whatever must not wait for an edge (ready, closing, listeners with QUEUED) keeps the next
 *     poll from blocking. */

#include "core/io_epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/io_tls.h"

/* What a discarded socket may have sent us before, read so that its close is no reset. */
#define EP_DISCARD_READS 16

/* What the kernel did not take of a send; io_conn.backend_state. */
struct ep_rest {
    int first; /* spans before this one have been sent */
    int count;
    const struct io_tls_control *control; /* of io_tls_send(), else NULL */
    struct iovec iov[];
};

/* The three calls of every echo. The C library's own versions are cancellation points, which takes
 * some 45 instructions each; sanitizers need to see them, though. */
#ifdef TW_SANITIZED
#define sys_recv(fd, buf, len) recv(fd, buf, len, 0)
#define sys_send(fd, buf, len) send(fd, buf, len, MSG_NOSIGNAL)
#define sys_wait(fd, events, max, ms) epoll_wait(fd, events, max, ms)
#define sys_wait_ns(fd, events, max, ts) epoll_pwait2(fd, events, max, ts, NULL)
#else
#define sys_recv(fd, buf, len) syscall(SYS_recvfrom, fd, buf, len, 0, NULL, NULL)
#define sys_send(fd, buf, len) syscall(SYS_sendto, fd, buf, len, MSG_NOSIGNAL, NULL, 0)
#define sys_wait(fd, events, max, ms) (int)syscall(SYS_epoll_pwait, fd, events, max, ms, NULL, 0)
#define sys_wait_ns(fd, events, max, ts)                                                           \
    (int)syscall(SYS_epoll_pwait2, fd, events, max, ts, NULL, 0)
#endif

static uint64_t clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* --- receiving -------------------------------------------------------------------------------- */

void ep_ready_push(struct io_epoll *ep, struct io_conn *c)
{
    uint32_t i = ep->ready_first + ep->ready_count;
    if (i >= ep->io.conns_max)
        i -= ep->io.conns_max;
    ep->ready[i] = c;
    ep->ready_count++;
    c->flags |= EP_QUEUED;
}

static struct io_conn *ready_pop(struct io_epoll *ep)
{
    struct io_conn *c = ep->ready[ep->ready_first];
    if (++ep->ready_first == ep->io.conns_max)
        ep->ready_first = 0;
    ep->ready_count--;
    c->flags &= (uint16_t)~EP_QUEUED;
    return c;
}

void ep_tell_eof(struct io_epoll *ep, struct io_conn *c, int err)
{
    c->flags |= EP_EOF;
    ep->callbacks++;
    c->events->on_eof(c, err);
}

static void receive_failed(struct io_epoll *ep, struct io_conn *c, ssize_t n)
{
    if (n == 0)
        ep_tell_eof(ep, c, 0);
    else if (errno == EINTR)
        ep_ready_push(ep, c);
    else if (errno != EAGAIN)
        ep_tell_eof(ep, c, -errno);
}

static inline ssize_t receive_some(struct io_epoll *ep, struct io_conn *c, size_t room)
{
    ssize_t n = sys_recv(c->sock, ep->recv_buf, room);
    ep_count(&ep->io.stats.syscalls, 1);
    if (unlikely(n <= 0)) {
        receive_failed(ep, c, n);
        return n;
    }
    ep_count(&ep->io.stats.recvs, 1);
    ep_count(&ep->io.stats.recv_bytes, (uint64_t)n);
    ep->turn_bytes += (size_t)n;
    ep->callbacks++;
    c->events->on_recv(c, (struct bytes){ep->recv_buf, (size_t)n});
    return n;
}

/* Goes on while there may be more, the turn's bytes are not used up (`room` are left), and the
 * owner neither pauses nor closes. */
static __attribute__((noinline)) void receive_on(struct io_epoll *ep, struct io_conn *c,
                                                 size_t room)
{
    ssize_t n;

    do {
        if (c->flags & EP_CLOSING)
            return;
        if (c->flags & EP_PAUSED) {
            c->flags |= EP_UNREAD;
            return;
        }
        if (room == 0) {
            ep_ready_push(ep, c);
            return;
        }
        n = receive_some(ep, c, room);
        room -= (size_t)n;
    } while (n > 0 && (room == 0 || (c->flags & EP_READ_ON)));
}

/* A short read means that the socket is empty, unless more was announced behind it: that edge will
 * not come again. Beyond the bytes of a turn the connection waits for the next, behind those that
 * wait already: what came is sent on before it has left the cache, and its messages are few. */
static inline void conn_receive(struct io_epoll *ep, struct io_conn *c)
{
    if (unlikely(ep->turn_bytes >= IO_RECV_TURN_BYTES)) {
        ep_ready_push(ep, c);
        return;
    }
    ssize_t n = receive_some(ep, c, IO_RECV_TURN_BYTES);
    if (unlikely(n == IO_RECV_TURN_BYTES || ((c->flags & EP_READ_ON) && n > 0)))
        receive_on(ep, c, IO_RECV_TURN_BYTES - (size_t)n);
}

/* A paused connection is read no more, but a reset is told all the same. */
static void conn_paused_edge(struct io_epoll *ep, struct io_conn *c, uint32_t events)
{
    int err = 0;
    socklen_t len = sizeof(err);

    c->flags |= EP_UNREAD;
    if (!(events & EPOLLERR))
        return;
    ep_count(&ep->io.stats.syscalls, 1);
    if (getsockopt(c->sock, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err != 0)
        ep_tell_eof(ep, c, -err);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* Keeps what is left of iov behind `sent` bytes. A short send has armed the edge of EPOLLOUT. */
static int send_keep_rest(struct io_epoll *ep, struct io_conn *c, const struct iovec *iov,
                          int iov_count, size_t sent, size_t bytes,
                          const struct io_tls_control *control)
{
    while (sent >= iov->iov_len) {
        sent -= iov->iov_len;
        iov++;
        iov_count--;
    }
    CHECK(iov_count > 0);
    struct ep_rest *rest = malloc(sizeof(*rest) + (size_t)iov_count * sizeof(rest->iov[0]));
    if (rest == NULL)
        return -ENOMEM;
    rest->first = 0;
    rest->count = iov_count;
    rest->control = control;
    memcpy(rest->iov, iov, (size_t)iov_count * sizeof(rest->iov[0]));
    rest->iov[0] = (struct iovec){(char *)iov->iov_base + sent, iov->iov_len - sent};
    c->backend_state = rest;
    c->send_want = (uint32_t)bytes;
    ep_count(&ep->io.stats.sends_pending, 1);
    return IO_PENDING;
}

static void send_forget_rest(struct io_conn *c)
{
    free(c->backend_state);
    c->backend_state = NULL;
    c->send_want = 0;
}

/* Returns what the kernel took, or -errno. control: see struct ep_rest. */
static ssize_t send_spans(struct io_epoll *ep, struct io_conn *c, const struct iovec *iov,
                          int iov_count, const struct io_tls_control *control)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov,
                         .msg_iovlen = (size_t)iov_count,
                         .msg_control = (void *)control,
                         .msg_controllen = control == NULL ? 0 : sizeof(*control)};
    ssize_t n;

    do {
        n = sendmsg(c->sock, &msg, MSG_NOSIGNAL);
        ep_count(&ep->io.stats.syscalls, 1);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void conn_continue_send(struct io_epoll *ep, struct io_conn *c)
{
    struct ep_rest *rest = c->backend_state;
    ssize_t n =
        send_spans(ep, c, &rest->iov[rest->first], rest->count - rest->first, rest->control);

    if (n == -EAGAIN)
        return;
    if (n > 0) {
        ep_count(&ep->io.stats.send_bytes, (uint64_t)n);
        if ((size_t)n < c->send_want) {
            c->send_want -= (uint32_t)n;
            rest->first += io_spans_skip(&rest->iov[rest->first], (size_t)n);
            return;
        }
    }
    send_forget_rest(c);
    ep->callbacks++;
    c->events->on_sent(c, n < 0 ? (int)n : 0);
}

/* The kernel took n of `bytes`, or n is -errno. */
static __attribute__((noinline)) int send_short(struct io_epoll *ep, struct io_conn *c,
                                                const struct iovec *iov, int iov_count,
                                                size_t bytes, ssize_t n,
                                                const struct io_tls_control *control)
{
    if (n == -EINTR)
        n = send_spans(ep, c, iov, iov_count, control);
    if (n == -EAGAIN)
        n = 0;
    if (n < 0)
        return (int)n;
    ep_count(&ep->io.stats.send_bytes, (uint64_t)n);
    if ((size_t)n == bytes)
        return IO_SENT;
    return send_keep_rest(ep, c, iov, iov_count, (size_t)n, bytes - (size_t)n, control);
}

static int ep_send(struct io *io, struct io_conn *c, const struct iovec *iov, int iov_count,
                   size_t bytes)
{
    struct io_epoll *ep = ep_of(io);

    ep_count(&io->stats.sends, 1);
    if (unlikely(c->flags & (EP_CLOSING | EP_CONNECTING)))
        return -ENOTCONN;
    CHECK(c->backend_state == NULL);
    if (iov_count != 1)
        return send_short(ep, c, iov, iov_count, bytes, send_spans(ep, c, iov, iov_count, NULL),
                          NULL);

    ssize_t n = sys_send(c->sock, iov->iov_base, bytes);
    ep_count(&io->stats.syscalls, 1);
    if (unlikely(n != (ssize_t)bytes))
        return send_short(ep, c, iov, 1, bytes, n < 0 ? -errno : n, NULL);
    ep_count(&io->stats.send_bytes, bytes);
    return IO_SENT;
}

int ep_send_record(struct io_epoll *ep, struct io_conn *c, struct iovec iov,
                   const struct io_tls_control *control)
{
    CHECK(c->backend_state == NULL);
    ep_count(&ep->io.stats.sends, 1);
    return send_short(ep, c, &iov, 1, iov.iov_len, send_spans(ep, c, &iov, 1, control), control);
}

static void ep_shutdown(struct io *io, struct io_conn *c)
{
    if (c->flags & (EP_CLOSING | EP_CONNECTING))
        return;
    CHECK(c->backend_state == NULL);
    ep_count(&io->stats.syscalls, 1);
    shutdown(c->sock, SHUT_WR);
}

/* --- attaching and closing -------------------------------------------------------------------- */

void ep_conn_attach(struct io_conn *c, int fd, uint16_t flags)
{
    c->backend_state = NULL;
    c->sock = fd;
    c->send_want = 0;
    c->flags = flags;
    c->generation = 0;
    c->turn_bytes = 0;
}

/* The edges that came before the registration are reported by the next wait. */
int ep_watch(struct io_epoll *ep, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event ev = {.events = events, .data.u64 = data};
    ep_count(&ep->io.stats.syscalls, 1);
    return epoll_ctl(ep->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

void ep_unwatch(struct io_epoll *ep, int fd)
{
    ep_count(&ep->io.stats.syscalls, 1);
    epoll_ctl(ep->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void ep_close_fd(struct io_epoll *ep, int fd)
{
    ep_count(&ep->io.stats.syscalls, 1);
    close(fd);
}

static int ep_adopt(struct io *io, struct io_conn *c, struct io_ticket t)
{
    struct io_epoll *ep = ep_of(io);

    if (io->conn_count == io->conns_max)
        return -ENOBUFS;
    int err = ep_watch(ep, t.fd, EP_INTEREST, (uintptr_t)c);
    if (err != 0)
        return err;
    io->conn_count++;
    ep_conn_attach(c, t.fd, 0);
    return 0;
}

/* Reads away what the peer has sent, since a close over unread bytes is a reset, which may overtake
 * the last words, and is no orderly end. */
static void ep_discard(struct io *io, struct io_ticket t, const void *last_words, size_t len)
{
    struct io_epoll *ep = ep_of(io);
    char sink[4096];

    if (len > 0) {
        send(t.fd, last_words, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        ep_count(&io->stats.syscalls, 1);
    }
    shutdown(t.fd, SHUT_WR);
    ep_count(&io->stats.syscalls, 1);
    for (int i = 0; i < EP_DISCARD_READS; i++) {
        ep_count(&io->stats.syscalls, 1);
        if (recv(t.fd, sink, sizeof(sink), MSG_DONTWAIT) <= 0)
            break;
    }
    ep_close_fd(ep, t.fd);
}

static void ep_recv(struct io *io, struct io_conn *c, bool on)
{
    if (!on) {
        c->flags |= EP_PAUSED;
        return;
    }
    bool unread = c->flags & EP_UNREAD;
    c->flags &= (uint16_t) ~(EP_PAUSED | EP_UNREAD);
    if (unread && !(c->flags & (EP_QUEUED | EP_CLOSING)))
        ep_ready_push(ep_of(io), c);
}

static void ep_close(struct io *io, struct io_conn *c, bool reset)
{
    struct io_epoll *ep = ep_of(io);

    if (c->flags & EP_CLOSING)
        return;
    c->flags |= EP_CLOSING | (reset ? EP_RESET : 0);
    ep->closing[ep->closing_count++] = c;
}

/* Closing the descriptor ends its registration as well: nobody else holds a duplicate, since the
 * process has no children while shards run (net/tls_self_test.h forks before). */
static void conn_finish_close(struct io_epoll *ep, struct io_conn *c)
{
    if (c->flags & EP_RESET) {
        struct linger hard = {.l_onoff = 1, .l_linger = 0};
        setsockopt(c->sock, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        ep_count(&ep->io.stats.syscalls, 1);
    }
    ep_close_fd(ep, c->sock);
    c->sock = -1;
    send_forget_rest(c);
    ep->io.conn_count--;
    ep->callbacks++;
    c->events->on_closed(c);
}

/* What on_closed() closes in turn is for the next poll. It may be as much again as was due: each
 * one that goes makes room for another, and those that have gone leave the array only at the end.
 */
static void finish_closings(struct io_epoll *ep)
{
    uint32_t due = ep->closing_count;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < due; i++) {
        struct io_conn *c = ep->closing[i];
        if (c->flags & EP_QUEUED)
            ep->closing[kept++] = c; /* the next poll takes it off the ready ring */
        else
            conn_finish_close(ep, c);
    }
    uint32_t added = ep->closing_count - due;
    memmove(ep->closing + kept, ep->closing + due, added * sizeof(ep->closing[0]));
    ep->closing_count = kept + added;
}

/* --- one turn --------------------------------------------------------------------------------- */

/* Whatever is not "receive" or "the send goes on" for an open connection. */
static void conn_rare_event(struct io_epoll *ep, struct io_conn *c, uint32_t events)
{
    if (c->flags & EP_CLOSING)
        return;
    if (c->flags & EP_CONNECTING) {
        ep_connected(ep, c);
        if (c->flags & EP_CLOSING)
            return;
    }
    if (events & EP_BEHIND)
        c->flags |= EP_READ_ON;
    if ((events & (EPOLLIN | EP_BEHIND)) && !(c->flags & EP_EOF)) {
        if (c->flags & EP_PAUSED)
            conn_paused_edge(ep, c, events);
        else if (!(c->flags & EP_QUEUED))
            conn_receive(ep, c);
    }
    if (c->backend_state != NULL && !(c->flags & EP_CLOSING))
        conn_continue_send(ep, c);
}

static inline void conn_event(struct io_epoll *ep, struct io_conn *c, uint32_t events)
{
    if (unlikely(c->flags != 0 || (events & EP_BEHIND))) {
        conn_rare_event(ep, c, events);
        return;
    }
    if (likely(events & EPOLLIN))
        conn_receive(ep, c);
    if (unlikely(c->backend_state != NULL) && !(c->flags & EP_CLOSING) && (events & EPOLLOUT))
        conn_continue_send(ep, c);
}

static void other_event(struct io_epoll *ep, uint64_t data)
{
    if ((data & EP_TAG_MASK) == EP_TAG_LISTENER) {
        ep_listener_queue(ep, (struct io_listener *)(uintptr_t)(data - EP_TAG_LISTENER));
    } else if ((data & EP_TAG_MASK) == EP_TAG_WAKE) {
        /* Takes over what the waking threads did before: pairs with the exchange in ep_wake(). The
         * eventfd is never read, since every write is an edge of its own. */
        atomic_exchange_explicit(&ep->wake_pending, false, memory_order_acq_rel);
        ep_count(&ep->io.stats.wakes_received, 1);
    }
}

/* Serves the `due` oldest, as far as the turn's bytes go: who is queued meanwhile has had its turn.
 */
static void serve_ready(struct io_epoll *ep, uint32_t due)
{
    for (; due > 0 && ep->turn_bytes < IO_RECV_TURN_BYTES; due--) {
        struct io_conn *c = ready_pop(ep);
        if (c->flags & EP_CLOSING)
            continue;
        if (c->flags & EP_CONNECTING)
            ep_tell_connect(ep, c, -(int)c->turn_bytes);
        else if (c->flags & EP_PAUSED)
            c->flags |= EP_UNREAD;
        else if (!(c->flags & EP_EOF))
            conn_receive(ep, c);
    }
}

static int wait_ns(struct io_epoll *ep, uint64_t ns)
{
    if (ep->wait_ns_okay) {
        struct timespec ts = {.tv_sec = (time_t)(ns / NS_PER_SEC),
                              .tv_nsec = (long)(ns % NS_PER_SEC)};
        int n = sys_wait_ns(ep->epoll_fd, ep->events, EP_EVENTS, &ts);
        if (n >= 0 || errno == EINTR)
            return n;
        ep->wait_ns_okay = false; /* older than Linux 5.11, or forbidden by a filter */
    }
    uint64_t ms = ns / NS_PER_MS + (ns % NS_PER_MS != 0);
    return sys_wait(ep->epoll_fd, ep->events, EP_EVENTS, (int)min_u64(ms, INT_MAX));
}

static int wait_until(struct io_epoll *ep, uint64_t deadline_ns)
{
    ep_count(&ep->io.stats.syscalls, 1);
    if (ep->retry_ns != 0)
        deadline_ns = min_u64(deadline_ns, ep->retry_ns);
    if (deadline_ns == 0 || ep->ready_count + ep->closing_count > 0 || ep->listener_queued)
        return sys_wait(ep->epoll_fd, ep->events, EP_EVENTS, 0);
    if (deadline_ns == IO_FOREVER)
        return sys_wait(ep->epoll_fd, ep->events, EP_EVENTS, -1);
    /* io->now_ns is as old as the last turn was long: too old to tell how long to wait. */
    uint64_t now = clock_ns();
    return wait_ns(ep, deadline_ns > now ? deadline_ns - now : 0);
}

static int ep_poll(struct io *io, uint64_t deadline_ns)
{
    struct io_epoll *ep = ep_of(io);

    ep_count(&io->stats.polls, 1);
    ep->callbacks = 0;
    int n = wait_until(ep, deadline_ns);
    int err = n < 0 && errno != EINTR ? -errno : 0;
    io->now_ns = clock_ns();
    if (unlikely(err != 0))
        return err;

    uint32_t ready_due = ep->ready_count;
    /* Who waits from the last turn goes first: then events only queue behind them. */
    ep->turn_bytes = ready_due > 0 ? IO_RECV_TURN_BYTES : 0;
    ep->event_count = n;
    for (int i = 0; i < n; i++) {
        uint64_t data = ep->events[i].data.u64;
        ep->event_next = i + 1;
        if (likely(!(data & EP_TAG_MASK)))
            conn_event(ep, (struct io_conn *)(uintptr_t)data, ep->events[i].events);
        else
            other_event(ep, data);
    }
    ep->event_next = ep->event_count = 0;
    if (ready_due > 0) {
        ep->turn_bytes = 0;
        serve_ready(ep, ep->ready_count);
    }
    if (ep->listener_queued || ep->retry_ns != 0)
        ep_serve_listeners(ep);
    if (ep->closing_count > 0)
        finish_closings(ep);
    return (int)ep->callbacks;
}

static void ep_wake(struct io *io, struct io *from)
{
    struct io_epoll *ep = ep_of(io);
    uint64_t one = 1;

    /* A ring that no poll has seen yet will end the next wait anyhow. The exchange publishes what
     * this thread did before (pairs with the one in other_event()). */
    if (atomic_exchange_explicit(&ep->wake_pending, true, memory_order_acq_rel))
        return;
    ssize_t written = write(ep->wake_fd, &one, sizeof(one));
    (void)written; /* fails only when the counter is full, and then it is awake */
    if (from != NULL) {
        ep_count(&from->stats.syscalls, 1);
        ep_count(&from->stats.wakes_sent, 1);
    }
}

/* --- making and freeing ----------------------------------------------------------------------- */

static int ep_start(struct io *io)
{
    io->now_ns = clock_ns();
    return 0;
}

static size_t recv_map_bytes(void)
{
    return IO_RECV_TURN_BYTES + 2 * IO_RECV_PAD;
}

static void ep_free(struct io *io)
{
    struct io_epoll *ep = ep_of(io);

    CHECK(io->conn_count == 0);
    CHECK(ep->listeners == NULL);
    if (ep->spare_fd >= 0)
        close(ep->spare_fd);
    close(ep->wake_fd);
    close(ep->epoll_fd);
    munmap(ep->recv_map, recv_map_bytes());
    free(ep->closing);
    free(ep->ready);
    free(ep);
}

/* The receive buffer holds nothing between polls. */
static void ep_trim(struct io *io)
{
    madvise(ep_of(io)->recv_map, recv_map_bytes(), MADV_DONTNEED);
}

static const struct io_backend io_backend_epoll = {
    .name = "epoll",
    .start = ep_start,
    .free = ep_free,
    .listen = ep_listen,
    .accept_mode = ep_accept_mode,
    .unlisten = ep_unlisten,
    .adopt = ep_adopt,
    .discard = ep_discard,
    .connect = ep_connect,
    .recv = ep_recv,
    .send = ep_send,
    .tls_key = ep_tls_key,
    .tls_send = ep_tls_send,
    .shutdown = ep_shutdown,
    .close = ep_close,
    .poll = ep_poll,
    .wake = ep_wake,
    .trim = ep_trim,
    .wall_ns = io_system_wall_ns,
};

/* Address space only: pages come when they are first touched. */
static int new_memory(struct io_epoll *ep, uint32_t conns_max)
{
    ep->ready = calloc(conns_max, sizeof(*ep->ready));
    ep->closing = calloc(2 * (size_t)conns_max, sizeof(*ep->closing));
    ep->recv_map = mmap(NULL, recv_map_bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ep->ready != NULL && ep->closing != NULL && ep->recv_map != MAP_FAILED) {
        ep->recv_buf = ep->recv_map + IO_RECV_PAD;
        return 0;
    }
    if (ep->recv_map != MAP_FAILED)
        munmap(ep->recv_map, recv_map_bytes());
    free(ep->closing);
    free(ep->ready);
    return -ENOMEM;
}

static int new_descriptors(struct io_epoll *ep, const char **why)
{
    int err;

    *why = "epoll: no descriptor to be had";
    ep->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (ep->epoll_fd < 0)
        return -errno;
    ep->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ep->wake_fd < 0) {
        err = -errno;
        goto close_epoll;
    }
    ep->spare_fd = fcntl(ep->wake_fd, F_DUPFD_CLOEXEC, 0);
    if (ep->spare_fd < 0) {
        err = -errno;
        goto close_wake;
    }
    err = ep_watch(ep, ep->wake_fd, EPOLLIN | EPOLLET, EP_TAG_WAKE);
    if (err != 0)
        goto close_spare;
    return 0;
close_spare:
    close(ep->spare_fd);
close_wake:
    close(ep->wake_fd);
close_epoll:
    close(ep->epoll_fd);
    return err;
}

int io_epoll_new(const struct io_config *cfg, struct io **io, const char **why)
{
    uint64_t seed;

    *why = "epoll: the number of connections must be positive";
    if (cfg->conns_max == 0)
        return -EINVAL;
    *why = "epoll: no random seed from the kernel";
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return -EIO;
    *why = "epoll: out of memory";
    struct io_epoll *ep = aligned_alloc(alignof(struct io_epoll), sizeof(*ep));
    if (ep == NULL)
        return -ENOMEM;
    memset(ep, 0, sizeof(*ep));
    int err = new_memory(ep, cfg->conns_max);
    if (err != 0)
        goto free_ep;
    err = new_descriptors(ep, why);
    if (err != 0)
        goto free_memory;
    ep->io.backend = &io_backend_epoll;
    ep->io.conns_max = cfg->conns_max;
    ep->io.has_tls = true;
    ep->io.now_ns = clock_ns();
    ep->wait_ns_okay = true;
    io_random_seed(&ep->io, seed);
    *io = &ep->io;
    return 0;
free_memory:
    munmap(ep->recv_map, recv_map_bytes());
    free(ep->closing);
    free(ep->ready);
free_ep:
    free(ep);
    return err;
}
