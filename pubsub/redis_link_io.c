/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The bytes of a link: sockets, TLS, sending and receiving, attempts. On the shard's thread. */

#include "pubsub/redis_link_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/io_socket.h"
#include "pubsub/redis_resolver.h"
#include "pubsub/redis_tls.h"

/* For last words to be taken by the kernel. A server that takes nothing does not hold the next
 * attempt up for longer, nor a shard's end. */
#define PARTING_NS (100 * NS_PER_MS)

static struct redis_link *link_of(struct io_conn *c)
{
    return container_of(c, struct redis_link, conn);
}

/* Receiving
 * ---------------------------------------------------------------------------------------- */

static enum redis_down down_of(int err)
{
    switch (err) {
    case -EMSGSIZE:
        return REDIS_DOWN_TOO_LARGE;
    case -ENOMEM:
        return REDIS_DOWN_MEMORY;
    default:
        return REDIS_DOWN_PROTOCOL;
    }
}

static void take(struct redis_link *l, struct bytes in)
{
    int err = redis_reader_feed(l->reader, in, redis_link_on_reply, l);

    if (err != 0 && err != -ECANCELED)
        redis_link_fail_errno(l, down_of(err), "reply", err);
}

static bool is_talking(const struct redis_link *l)
{
    return l->state >= REDIS_LINK_TLS && l->state <= REDIS_LINK_UP;
}

static void take_secured(struct redis_link *l, struct bytes in)
{
    enum redis_tls_status st = REDIS_TLS_DATA;
    struct bytes plain;

    while (is_talking(l) && (st = redis_tls_open(l->tls, &in, &plain)) != REDIS_TLS_MORE) {
        switch (st) {
        case REDIS_TLS_UP:
            l->stats.tls_handshakes++;
            redis_link_greet(l);
            break;
        case REDIS_TLS_DATA:
            take(l, plain);
            break;
        case REDIS_TLS_CLOSED:
            redis_link_fail(l, REDIS_DOWN_CLOSED, "the server has closed the connection");
            break;
        default:
            redis_link_fail(l, REDIS_DOWN_TLS, redis_tls_problem(l->tls));
        }
    }
    if (l->state == REDIS_LINK_TLS)
        redis_link_flush(l); /* the next flight */
}

static void on_recv(struct io_conn *c, struct bytes in)
{
    struct redis_link *l = link_of(c);

    l->stats.received_bytes += in.len;
    if (unlikely(l->tls != NULL))
        take_secured(l, in);
    else
        take(l, in);
}

/* What an end may be about, when TLS is: a server of TLS ends a plain connection without a word,
 * and behind its own part of the handshake one whose certificate it does not take, whose reset may
 * come before its alert. NULL: it is not. */
static const char *tls_hint(const struct redis_link *l)
{
    if (l->state == REDIS_LINK_TLS)
        return "the server ended the connection within the TLS handshake; use redis:// where its "
               "port is without TLS";
    if (l->state != REDIS_LINK_HANDSHAKE || l->answered_bytes > 0)
        return NULL;
    if (l->tls != NULL)
        return "the server ended the connection behind the TLS handshake; it may want another "
               "--redis-cert";
    return l->stats.received_bytes == l->heard_bytes
               ? "the server ended the connection without a word; use rediss:// where its port is "
                 "for TLS"
               : NULL;
}

static void end(struct redis_link *l, const char *what, int err)
{
    enum redis_down why = err == 0 ? REDIS_DOWN_CLOSED : REDIS_DOWN_RESET;
    const char *hint = tls_hint(l);

    if (hint != NULL)
        redis_link_fail(l, l->tls != NULL ? REDIS_DOWN_TLS : why, hint);
    else if (err == 0)
        redis_link_fail(l, why, "the server has closed the connection");
    else
        redis_link_fail_errno(l, why, what, err);
}

static void on_eof(struct io_conn *c, int err)
{
    struct redis_link *l = link_of(c);

    if (l->state == REDIS_LINK_CLOSING)
        io_close(l->io, c, false);
    else
        end(l, "receive", err);
}

/* Sending
 * ------------------------------------------------------------------------------------------ */

/* Spans of commands, as they are. */
static int send_plain(struct redis_link *l)
{
    struct iovec iov[IO_IOV_MAX];
    size_t bytes;
    uint32_t count = redis_out_gather(&l->out, iov, IO_IOV_MAX, &bytes);
    int result;

    l->handed_bytes += bytes;
    result = io_send(l->io, &l->conn, iov, (int)count, bytes);
    if (result >= 0)
        l->stats.sent_bytes += bytes;
    if (result == IO_SENT)
        redis_out_sent(&l->out);
    return result;
}

static int send_bytes(struct redis_link *l, struct bytes bytes)
{
    struct iovec iov = {bytes.ptr, bytes.len};
    int result = io_send(l->io, &l->conn, &iov, 1, bytes.len);

    if (result >= 0)
        l->stats.sent_bytes += bytes.len;
    return result;
}

static void flush_secured(struct redis_link *l)
{
    int result = IO_SENT;
    struct bytes sealed;
    size_t taken;

    while (is_talking(l) && !l->sending && result == IO_SENT) {
        sealed = redis_tls_seal(l->tls, &l->out, &taken);
        if (redis_tls_has_failed(l->tls)) {
            redis_link_fail(l, REDIS_DOWN_TLS, redis_tls_problem(l->tls));
            return;
        }
        if (sealed.len == 0)
            break;
        l->handed_bytes += taken;
        result = send_bytes(l, sealed);
        l->sending = result == IO_PENDING;
    }
    if (result < 0)
        end(l, "send", result);
    else if (l->state == REDIS_LINK_UP && l->unanswered == 0 && redis_tls_is_worn(l->tls))
        redis_link_reopen(l, "a key of TLS 1.2 has done its share; with TLS 1.3 it is renewed "
                             "within the connection");
}

void redis_link_flush(struct redis_link *l)
{
    int result = IO_SENT;

    if (unlikely(l->tls != NULL)) {
        flush_secured(l);
        return;
    }
    if (l->state != REDIS_LINK_UP && l->state != REDIS_LINK_HANDSHAKE)
        return;
    while (!l->sending && l->out.bytes > 0 && result == IO_SENT) {
        result = send_plain(l);
        l->sending = result == IO_PENDING;
    }
    if (result < 0)
        end(l, "send", result);
}

static void on_sent(struct io_conn *c, int err)
{
    struct redis_link *l = link_of(c);

    l->sending = false;
    if (l->state == REDIS_LINK_CLOSING) {
        io_close(l->io, c, false);
        return;
    }
    if (err != 0) {
        end(l, "send", err);
        return;
    }
    if (likely(l->tls == NULL))
        redis_out_sent(&l->out);
    redis_link_flush(l);
}

/* Ends
 * -----------------------------------------------------------------------------------------------
 */

/* Whether there are last words, which the kernel has not taken yet. */
static bool says_last_words(struct redis_link *l, enum redis_down why)
{
    struct bytes words;

    if (l->tls == NULL || l->sending || (why != REDIS_DOWN_STOPPED && why != REDIS_DOWN_TLS))
        return false;
    words = redis_tls_end(l->tls);
    return words.len > 0 && send_bytes(l, words) == IO_PENDING;
}

void redis_link_part(struct redis_link *l, enum redis_down why)
{
    l->sending = says_last_words(l, why);
    l->deadline_ns = l->sending ? l->io->now_ns + PARTING_NS : IO_FOREVER;
    if (!l->sending)
        io_close(l->io, &l->conn, why != REDIS_DOWN_STOPPED && why != REDIS_DOWN_TLS);
}

/* Attempts
 * ----------------------------------------------------------------------------------------- */

/* An attempt that has come to nothing before there was a connection. */
static void fail_early(struct redis_link *l, enum redis_down why, const char *what, int err)
{
    l->state = REDIS_LINK_RESOLVING; /* nothing is attached */
    redis_link_fail_errno(l, why, what, err);
}

/* The socket is connected: what Redis is told must wait for TLS, where there is to be any. */
static void begin(struct redis_link *l)
{
    l->sending = false;
    l->heard_bytes = l->stats.received_bytes;
    if (l->config.tls == NULL) {
        redis_link_greet(l);
        return;
    }
    l->state = REDIS_LINK_TLS;
    l->tls = redis_tls_new(l->config.tls, l->config.endpoint.host);
    if (l->tls == NULL)
        redis_link_fail_errno(l, REDIS_DOWN_MEMORY, "TLS handshake", -ENOMEM);
    else
        redis_link_flush(l);
}

static void connect_unix(struct redis_link *l)
{
    struct io_ticket t;
    int err = io_socket_connect_unix(l->config.endpoint.host, &t);

    if (err == 0) {
        err = io_adopt(l->io, &l->conn, t);
        if (err != 0)
            io_discard(l->io, t, NULL, 0);
    }
    l->address = (struct io_addr){.family = AF_UNIX};
    if (err != 0)
        fail_early(l, REDIS_DOWN_CONNECT, "connect", err);
    else
        begin(l);
}

static void connect_to(struct redis_link *l, const struct io_addr *a)
{
    int err;

    l->address = *a;
    l->address.port = l->config.endpoint.port;
    err = io_connect(l->io, &l->conn, &l->address, NULL);
    if (err != 0)
        fail_early(l, REDIS_DOWN_CONNECT, "connect", err);
    else
        l->state = REDIS_LINK_CONNECTING;
}

static void look_up(struct redis_link *l)
{
    l->state = REDIS_LINK_RESOLVING;
    l->address = (struct io_addr){.family = 0};
    if (l->config.resolver != NULL)
        l->lookup = redis_lookup_new(l->config.resolver, l->config.endpoint.host, l->io);
    if (l->lookup == NULL)
        redis_link_fail(l, REDIS_DOWN_RESOLVE,
                        "names of hosts can't be looked up: no memory, or no thread");
}

static void attempt(struct redis_link *l, uint64_t now_ns)
{
    const struct redis_endpoint *e = &l->config.endpoint;
    struct io_addr a;

    l->at_once = false; /* this is it: the next one waits again */
    l->deadline_ns = now_ns + l->config.connect_timeout_ns;
    if (e->is_unix)
        connect_unix(l);
    else if (io_addr_parse(&a, e->host, e->port) == 0)
        connect_to(l, &a);
    else
        look_up(l);
}

static void look_at_lookup(struct redis_link *l)
{
    struct io_addr a;
    int err = redis_lookup_result(l->lookup, l->lookups, &a);

    if (err == -EINPROGRESS)
        return;
    redis_lookup_free(l->lookup);
    l->lookup = NULL;
    l->lookups++;
    if (err != 0)
        redis_link_fail(l, REDIS_DOWN_RESOLVE,
                        err == -ENOENT ? "the host's name has no address"
                                       : "no name server has answered");
    else
        connect_to(l, &a);
}

static void on_connect(struct io_conn *c, int err)
{
    struct redis_link *l = link_of(c);

    if (err != 0)
        redis_link_fail_errno(l, REDIS_DOWN_CONNECT, "connect", err);
    else
        begin(l);
}

static void on_closed(struct io_conn *c)
{
    redis_link_rest(link_of(c));
}

const struct io_events redis_link_io_events = {.on_recv = on_recv,
                                               .on_eof = on_eof,
                                               .on_sent = on_sent,
                                               .on_connect = on_connect,
                                               .on_closed = on_closed};

/* A server without TLS may take a ClientHello for a command that is not complete yet. */
static const char *timeout_text(const struct redis_link *l)
{
    return l->state == REDIS_LINK_TLS ? "TLS handshake: no answer; use redis:// where the server's "
                                        "port is without TLS"
                                      : redis_link_state_label(l->state);
}

uint64_t redis_link_turn(struct redis_link *l, uint64_t now_ns)
{
    if (l->state == REDIS_LINK_RESOLVING)
        look_at_lookup(l);
    if (l->state >= REDIS_LINK_RESOLVING && l->state <= REDIS_LINK_HANDSHAKE &&
        now_ns >= l->deadline_ns)
        redis_link_fail(l, REDIS_DOWN_TIMEOUT, timeout_text(l));
    if (l->state == REDIS_LINK_WAITING && now_ns >= l->deadline_ns)
        attempt(l, now_ns);
    if (l->state == REDIS_LINK_CLOSING && now_ns >= l->deadline_ns)
        io_close(l->io, &l->conn, true);
    return l->state == REDIS_LINK_IDLE || l->state == REDIS_LINK_UP ? IO_FOREVER : l->deadline_ns;
}
