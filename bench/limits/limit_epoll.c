/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The least that an echo or a fan-out can cost with epoll: receives into one buffer, turns the
 * frames in place, sends. Edges are enough, so that the kernel looks at a socket once for each.
 * Nothing is queued: where a socket takes less than it is given, the program waits for it.
 *
 *   limit-epoll [--fanout] [--gather] [--once] [--port N] [--seconds N] [--sndbuf BYTES]
 *
 * A fan-out goes to every connection, the sender's included, and takes one sender at a time. One
 * thread. */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "bench/limits/raw.h"

#define EVENTS_MAX 1024
#define BUFFER_BYTES (256u << 10)
#define FDS_MAX 65536
#define STALL_MS 10000

struct peer {
    struct raw_stream stream;
    uint32_t member; /* index in members[] */
    bool is_open;    /* the handshake is done */
};

static struct peer peers[FDS_MAX];
static int members[FDS_MAX]; /* descriptors of open connections */
static uint32_t member_count;
static bool has_left; /* a connection has */
static uint8_t buffer[RAW_PAD + BUFFER_BYTES + RAW_PAD];

static void drop(int fd)
{
    struct peer *p = &peers[fd];

    if (p->is_open) {
        int last = members[--member_count];

        members[p->member] = last;
        peers[last].member = p->member;
    }
    memset(p, 0, sizeof(*p));
    close(fd);
    has_left = true;
}

static bool wait_writable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    return errno == EAGAIN && poll(&p, 1, STALL_MS) == 1;
}

/* What is left of spans after `sent` bytes; a failed connection is found by its next receive. */
__attribute__((noinline)) static void send_rest(int fd, const struct raw_span *spans, int count,
                                                size_t sent)
{
    for (int i = 0; i < count; i++) {
        size_t skip = sent < spans[i].len ? sent : spans[i].len;

        sent -= skip;
        while (skip < spans[i].len) {
            ssize_t n = send(fd, spans[i].ptr + skip, spans[i].len - skip, MSG_NOSIGNAL);

            if (n < 0 && !wait_writable(fd))
                return;
            skip += n > 0 ? (size_t)n : 0;
        }
    }
}

static inline void send_one(int fd, const struct raw_span *s)
{
    ssize_t n = send(fd, s->ptr, s->len, MSG_NOSIGNAL);

    if (__builtin_expect(n != (ssize_t)s->len, 0) && (n >= 0 || errno == EAGAIN))
        send_rest(fd, s, 1, n < 0 ? 0 : (size_t)n);
}

__attribute__((noinline)) static void send_gathered(int fd, const struct raw_batch *b)
{
    struct iovec iov[RAW_SPANS_MAX];
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)b->count};
    size_t bytes = 0;

    for (int i = 0; i < b->count; i++) {
        iov[i] = (struct iovec){b->spans[i].ptr, b->spans[i].len};
        bytes += b->spans[i].len;
    }
    ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);

    if (n != (ssize_t)bytes && (n >= 0 || errno == EAGAIN))
        send_rest(fd, b->spans, b->count, n < 0 ? 0 : (size_t)n);
}

static inline void send_batch(int fd, const struct raw_batch *b, bool gather)
{
    if (gather && b->count > 1) {
        send_gathered(fd, b);
        return;
    }
    for (int i = 0; i < b->count; i++)
        send_one(fd, &b->spans[i]);
}

static void pass_on(int fd, const struct raw_batch *b, const struct raw_options *o)
{
    if (!o->fanout || b->closes) {
        send_batch(fd, b, o->gather);
    } else if (o->gather) {
        for (uint32_t i = 0; i < member_count; i++)
            send_batch(members[i], b, true);
    } else {
        for (int s = 0; s < b->count; s++)
            for (uint32_t i = 0; i < member_count; i++)
                send_one(members[i], &b->spans[s]);
    }
}

/* False: this was no request, and the connection is gone. */
static bool greet(int fd, size_t len)
{
    uint8_t *in = buffer + RAW_PAD;
    struct raw_span answer = {in, RAW_ANSWER_BYTES};

    if (!raw_answer(in, len, in)) {
        drop(fd);
        return false;
    }
    peers[fd].is_open = true;
    peers[fd].member = member_count;
    members[member_count++] = fd;
    send_one(fd, &answer);
    return true;
}

static inline void pass_on_single(int fd, const struct raw_span *s, bool fanout)
{
    if (!fanout) {
        send_one(fd, s);
        return;
    }
    for (uint32_t i = 0; i < member_count; i++)
        send_one(members[i], s);
}

__attribute__((noinline)) static void turn_slice(int fd, uint8_t *in, size_t len,
                                                 const struct raw_options *o)
{
    struct raw_batch b;

    while (len > 0) {
        size_t taken = raw_turn(&peers[fd].stream, in, len, NULL, o->gather, &b);

        if (b.count > 0)
            pass_on(fd, &b, o);
        in += taken;
        len -= taken;
    }
}

/* Returns how many bytes came; 0: there are none, or the connection is gone. */
static inline size_t receive(int fd, const struct raw_options *o)
{
    struct peer *p = &peers[fd];
    uint8_t *in = buffer + RAW_PAD;
    ssize_t n = recv(fd, in, BUFFER_BYTES, 0);
    struct raw_span single;

    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(fd);
        return 0;
    }
    if (__builtin_expect(!p->is_open, 0))
        return greet(fd, (size_t)n) ? (size_t)n : 0;
    if (raw_turn_single(&p->stream, in, (size_t)n, &single))
        pass_on_single(fd, &single, o->fanout);
    else
        turn_slice(fd, in, (size_t)n, o);
    return (size_t)n;
}

/* A short receive has emptied the socket, unless an end was announced: no edge tells it again. */
static inline void on_readable(int fd, uint32_t events, const struct raw_options *o)
{
    bool ends = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    size_t n;

    do {
        n = receive(fd, o);
    } while (__builtin_expect(n == BUFFER_BYTES || (ends && n > 0), 0));
}

static void on_acceptable(int ep, int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};

        if (fd >= FDS_MAX || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) != 0)
            raw_die("too many connections", errno);
    }
    if (errno == EMFILE || errno == ENFILE)
        raw_die("too many connections (ulimit -n)", errno);
}

int main(int argc, char **argv)
{
    struct raw_options o = raw_options_read(argc, argv);
    int listener = raw_listen(&o);
    int ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    static struct epoll_event events[EVENTS_MAX];

    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e) != 0)
        raw_die("epoll", errno);
    for (;;) {
        int n = epoll_wait(ep, events, EVENTS_MAX, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                on_acceptable(ep, listener);
            else
                on_readable(events[i].data.fd, events[i].events, &o);
        }
        if (o.once && has_left && member_count == 0)
            return 0;
    }
}
