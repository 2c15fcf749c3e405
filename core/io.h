/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_IO_H
#define CORE_IO_H

/* The shard's only window on the outside: bytes, connections, time, wake-ups, randomness.
 *
 * A completion interface. Two implementations ship (io_uring.c, io_epoll.c), a third, simulated one
 * lives under tests/; one contract suite (tests/test_io_contract*.c) runs on them. Nothing
 * above this header knows which one it is.
 *
 * Rules
 *  1. Every function belongs to the shard's thread, except io_wake() (any thread) and what says so.
 *  2. Callbacks run only inside io_poll(), never inside another call below, and never nest.
 *  3. struct io_conn is embedded in the owner's object and lives until on_closed(), which comes
 *     exactly once, last, and always after io_close(); io_close() may be called from any callback
 *     or outside of io_poll(). After io_close() no callback but on_closed() comes.
 *  4. End of file, reset and errors are told once, through on_eof(); they do not close: the owner
 *     answers with io_close() (at once or after it has sent what it wants to).
 *  5. At most one io_send() is under way per connection. Its memory is the caller's again when
 *     io_send() has returned IO_SENT or an error, or else in on_sent() or on_closed().
 *     io_tls_send() and io_tls_key() count as sends.
 *  6. Fairness: a backend hands over at most IO_RECV_TURN_BYTES per connection and poll (what more
 *     has arrived comes in the next), and serves the others in between. Of all connections together
 *     it is about as much: what a turn sends on is then still in the processor's cache.
 *
 *  State of a connection as its owner sees it:
 *
 *      on_accept / io_adopt ------> OPEN --- on_eof ---> OPEN, nothing more is received
 *      io_connect --> CONNECTING --on_connect(0)--> OPEN
 *                          `--------on_connect(err)--> (owner calls io_close)
 *      any state --io_close--> CLOSING --on_closed--> the struct is the owner's again
 */

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "core/base.h"

/* What a backend lends to on_recv() may be read (never written) this far beyond both ends. */
#define IO_RECV_PAD 64
/* The most bytes that one connection is handed in one io_poll(). */
#define IO_RECV_TURN_BYTES (256u << 10)
/* The most spans that one io_send() takes. */
#define IO_IOV_MAX 64
/* io_poll() deadline that means: until something happens. */
#define IO_FOREVER UINT64_MAX

struct io;
struct io_conn;
struct io_listener;

/* A peer's or a local address. IPv4 stands as ::ffff:a.b.c.d, so that addresses compare as bytes.
 */
struct io_addr {
    uint8_t ip[16]; /* network order; all zero for AF_UNIX */
    uint16_t port;  /* host order; 0 for AF_UNIX */
    uint8_t family; /* AF_INET, AF_INET6, AF_UNIX, or 0: not known */
    uint8_t reserved;
};

/* Longest text of io_addr_format() with its terminating zero. */
#define IO_ADDR_TEXT_MAX 64

/* An accepted socket that is attached to no io yet: it may travel to another shard in a mesh item.
 * Whoever holds one must io_adopt() or io_discard() it. */
struct io_ticket {
    int32_t fd; /* the backends' business; the simulation's number of a virtual socket */
};

/* Calls upward for one kind of connection; the table outlives its connections. */
struct io_events {
    /* Borrows `in` (at least one byte): valid until the return; the callee may write inside it
     * (unmask in place), not beyond. Pausing inside takes effect for what has not arrived yet:
     * data that the backend already holds may still come in this io_poll(). */
    void (*on_recv)(struct io_conn *c, struct bytes in);
    /* Nothing more will be received. err is 0 at end of file, else -errno (-ECONNRESET, ...). Also
     * told while receiving is paused, if the backend learns of it (epoll and io_uring do for
     * resets, not necessarily for an end of file behind unread data). */
    void (*on_eof)(struct io_conn *c, int err);
    /* The send that returned IO_PENDING is over. err is 0 when every byte is in the kernel's hands,
     * else -errno; then an unknown part was sent and the connection can only be closed. */
    void (*on_sent)(struct io_conn *c, int err);
    /* io_connect()'s outcome, 0 or -errno. Receiving has started when it is 0. */
    void (*on_connect)(struct io_conn *c, int err);
    /* The backend has forgotten the connection; its memory is the owner's again. */
    void (*on_closed)(struct io_conn *c);
    /* The io_tls_key() that returned IO_PENDING is over: 0, or -errno as from the call itself. NULL
     * where nobody calls it. */
    void (*on_tls_key)(struct io_conn *c, int err);
};

/* Calls upward for a listener. */
struct io_listener_events {
    /* A connection has come. Returns the owner's connection (its `events` set, the rest is the
     * backend's to initialise); receiving starts when the callback has returned. Or NULL, for want
     * of memory: counted as accept_refused, and the socket comes as a ticket (io_uring before Linux
     * 6.8 can only close it); the callback has not unlistened then. `peer` is borrowed. */
    struct io_conn *(*on_accept)(struct io_listener *l, const struct io_addr *peer);
    /* The same in IO_ACCEPT_TICKETS mode, or when the backend's own table is full, or descriptors
     * have run out (counted as accept_errors, too), or on_accept() has refused it. Takes the
     * ticket: io_adopt() it here later, pass it to another shard, or io_discard() it. */
    void (*on_ticket)(struct io_listener *l, struct io_ticket t, const struct io_addr *peer);
};

enum io_accept_mode {
    IO_ACCEPT_OFF,     /* connections stay in the kernel's backlog */
    IO_ACCEPT_CONNS,   /* on_accept */
    IO_ACCEPT_TICKETS, /* on_ticket: the shard is full and hands over or refuses */
};

/* Embedded in the owner's listener object. Everything but events is the backend's. */
struct io_listener {
    const struct io_listener_events *events; /* set by the owner before io_listen() */
    struct io *io;
    int fd;       /* the listening socket; closed by io_unlisten() */
    uint8_t mode; /* enum io_accept_mode, as wanted by the owner */
    uint8_t backend_flags;
    uint16_t armed; /* accepts under way */
    void *backend_state;
};

/* Embedded in the owner's connection, first or anywhere. Everything but events is the backend's. */
struct io_conn {
    const struct io_events *events; /* set by the owner before attach */
    void *backend_state;            /* cold: rest of a stalled send, list link */
    int32_t sock;                   /* descriptor, direct slot or virtual socket; -1: none */
    uint32_t send_want;             /* bytes of the send under way, 0: none */
    uint16_t flags;                 /* backend's state bits */
    uint16_t generation;            /* of the slot, against completions that come late */
    uint32_t turn_bytes;            /* received in this poll; against IO_RECV_TURN_BYTES */
};

struct io_config {
    uint32_t conns_max;         /* the most connections attached at once, reserve included */
    uint32_t recv_buffers;      /* number of receive buffers (io_uring), power of two; 0: default */
    uint32_t recv_buffer_bytes; /* of each, all at most IO_RECV_TURN_BYTES; 0: default */
    uint32_t shard_idx;         /* for messages and for seeding the simulation */
};

/* Counters of one io. Written by the shard's thread; any thread may read them, relaxed. */
struct io_stats {
    uint64_t polls;          /* io_poll() calls */
    uint64_t syscalls;       /* system calls made for io, all kinds */
    uint64_t accepts;        /* sockets accepted, as connections or tickets */
    uint64_t accept_refused; /* on_accept returned NULL */
    uint64_t accept_errors;  /* accept failed for want of descriptors or memory */
    uint64_t recvs;          /* on_recv calls */
    uint64_t recv_bytes;
    uint64_t recv_starved; /* receive stopped for want of buffers (io_uring -ENOBUFS) */
    uint64_t sends;        /* io_send calls */
    uint64_t send_bytes;
    uint64_t sends_pending; /* of them returned IO_PENDING */
    uint64_t wakes_sent;    /* doorbells rung by this shard */
    uint64_t wakes_received;
    uint64_t cq_overflows; /* io_uring: completion queue overflowed (nothing is lost) */
};

/* Base of every implementation. */
struct io {
    const struct io_backend *backend;
    uint64_t now_ns;     /* monotonic; read once per io_poll(), when it stops waiting */
    uint64_t random[4];  /* state of io_random(): xoshiro256** */
    uint32_t conn_count; /* attached and not yet on_closed */
    uint32_t conns_max;  /* as configured, or less: io_uring's table ends at RLIMIT_NOFILE */
    bool has_tls;        /* it has a way to the kernel's TLS, if there is one: io_tls_key() */
    struct io_stats stats;
};

enum { IO_PENDING = 0, IO_SENT = 1 };

/* Content types of TLS records that are no data (RFC 8446 5.1). */
enum io_tls_type { IO_TLS_ALERT = 21, IO_TLS_HANDSHAKE = 22 };

/* An implementation. io_*() below call through it. */
struct io_backend {
    const char *name; /* "uring", "epoll", "sim" */
    int (*start)(struct io *io);
    void (*free)(struct io *io);
    int (*listen)(struct io *io, struct io_listener *l, int fd);
    void (*accept_mode)(struct io *io, struct io_listener *l, enum io_accept_mode mode);
    void (*unlisten)(struct io *io, struct io_listener *l);
    int (*adopt)(struct io *io, struct io_conn *c, struct io_ticket t);
    void (*discard)(struct io *io, struct io_ticket t, const void *last_words, size_t len);
    int (*connect)(struct io *io, struct io_conn *c, const struct io_addr *to,
                   const struct io_addr *from);
    void (*recv)(struct io *io, struct io_conn *c, bool on);
    int (*send)(struct io *io, struct io_conn *c, const struct iovec *iov, int count, size_t bytes);
    /* Both NULL: the kernel's TLS is out of reach. */
    int (*tls_key)(struct io *io, struct io_conn *c, const void *info, size_t len, bool again);
    int (*tls_send)(struct io *io, struct io_conn *c, enum io_tls_type type, struct bytes record);
    void (*shutdown)(struct io *io, struct io_conn *c);
    void (*close)(struct io *io, struct io_conn *c, bool reset);
    int (*poll)(struct io *io, uint64_t deadline_ns);
    void (*wake)(struct io *io, struct io *from);
    void (*trim)(struct io *io); /* NULL: keeps nothing */
    uint64_t (*wall_ns)(struct io *io);
};

/* Makes an implementation's io: memory and kernel objects, bound to no thread yet, so main may call
 * it. Returns 0, or -errno and, in *why, a constant text that names the missing feature or limit.
 */
int io_epoll_new(const struct io_config *cfg, struct io **io, const char **why);
int io_uring_new(const struct io_config *cfg, struct io **io, const char **why);

/* Binds io to the calling thread, which from now on is its shard's. Before the first poll. */
static inline int io_start(struct io *io)
{
    return io->backend->start(io);
}

/* Frees the io. No connection and no listener is attached any more. Any one thread. */
static inline void io_free(struct io *io)
{
    io->backend->free(io);
}

/* Takes fd, a listening socket (see io_socket.h), in mode IO_ACCEPT_CONNS. Returns 0 or -errno
 * (then fd is still the caller's). */
MUST_USE static inline int io_listen(struct io *io, struct io_listener *l, int fd)
{
    return io->backend->listen(io, l, fd);
}

static inline void io_accept_mode(struct io *io, struct io_listener *l, enum io_accept_mode mode)
{
    io->backend->accept_mode(io, l, mode);
}

/* Stops accepting and closes the listening socket; what waited in its backlog is accepted and told
 * first, as far as it is there already. No callback of l comes after the return, except within the
 * call itself for that rest (the only exception to rule 2). The struct is the owner's again. */
static inline void io_unlisten(struct io *io, struct io_listener *l)
{
    io->backend->unlisten(io, l);
}

/* Attaches a ticket's socket; receiving starts. Takes t on success; returns 0 or -errno. */
MUST_USE static inline int io_adopt(struct io *io, struct io_conn *c, struct io_ticket t)
{
    return io->backend->adopt(io, c, t);
}

/* Takes t: sends last_words (borrowed; may be NULL; as much as fits at once), closes it. */
static inline void io_discard(struct io *io, struct io_ticket t, const void *last_words, size_t len)
{
    io->backend->discard(io, t, last_words, len);
}

/* Starts connecting; on_connect() tells the outcome. `from` may be NULL. Returns 0 or -errno
 * (nothing is attached then). For clients on core/: load generator, tests, links to other servers.
 */
MUST_USE static inline int io_connect(struct io *io, struct io_conn *c, const struct io_addr *to,
                                      const struct io_addr *from)
{
    return io->backend->connect(io, c, to, from);
}

/* Switches receiving off (backpressure) and on again. Idempotent. */
static inline void io_recv(struct io *io, struct io_conn *c, bool on)
{
    io->backend->recv(io, c, on);
}

/* Sends all spans, `bytes` in total (> 0, < 2^31); the iov array itself is borrowed. Returns
 * IO_SENT (everything is with the kernel, no callback comes), IO_PENDING (on_sent() will come), or
 * -errno (nothing may be sent any more; close), which is -ENOTCONN after io_close(). Not while a
 * send is under way, nor after io_shutdown(). */
MUST_USE static inline int io_send(struct io *io, struct io_conn *c, const struct iovec *iov,
                                   int count, size_t bytes)
{
    return io->backend->send(io, c, iov, count, bytes);
}

/* Kernel TLS (Documentation/networking/tls.rst): from here on what is sent is plaintext, and the
 * kernel seals it; what was sent before stays as it is, and receiving does not change. `info` is a
 * struct tls12_crypto_info_* of linux/tls.h, with the key and the next record's number. `again`:
 * the connection has a key, and this is the next one (TLS 1.3, Linux 6.14). Counts as a send: rule
 * 5 holds for it, and `info` is borrowed like what is sent. Returns IO_SENT (done), IO_PENDING
 * (on_tls_key() will come), or -errno: nothing has changed, and what is sent next goes as before;
 * -ENOENT where the kernel has no TLS, -EOPNOTSUPP without has_tls. */
MUST_USE static inline int io_tls_key(struct io *io, struct io_conn *c, const void *info,
                                      size_t len, bool again)
{
    return io->backend->tls_key == NULL ? -EOPNOTSUPP
                                        : io->backend->tls_key(io, c, info, len, again);
}

/* As io_send() of one span, as one record of its own that is no data: an alert or a KeyUpdate, so
 * some bytes only. After a successful io_tls_key(). */
MUST_USE static inline int io_tls_send(struct io *io, struct io_conn *c, enum io_tls_type type,
                                       struct bytes record)
{
    return io->backend->tls_send(io, c, type, record);
}

/* Sends FIN (SHUT_WR); receiving goes on. No send is under way. Nothing after io_close(). */
static inline void io_shutdown(struct io *io, struct io_conn *c)
{
    io->backend->shutdown(io, c);
}

/* Ends the connection, whatever is under way; on_closed() follows in this or a later io_poll().
 * With `reset` the peer sees RST. Idempotent. */
static inline void io_close(struct io *io, struct io_conn *c, bool reset)
{
    io->backend->close(io, c, reset);
}

/* One turn: submits what was collected, waits until something happened or io->now_ns reaches
 * deadline_ns (0: does not wait), and runs callbacks. Returns the number of callbacks run, or
 * -errno when the backend itself is broken. */
MUST_USE static inline int io_poll(struct io *io, uint64_t deadline_ns)
{
    return io->backend->poll(io, deadline_ns);
}

/* Any thread: ends io's current or next wait. `from` is the calling shard's own io (its doorbell
 * leaves with its next submit) or NULL for a thread that has none. Wakes may merge. */
static inline void io_wake(struct io *io, struct io *from)
{
    io->backend->wake(io, from);
}

/* Gives memory back that is only kept for speed: in quiet moments, not within a callback. */
static inline void io_trim(struct io *io)
{
    if (io->backend->trim != NULL)
        io->backend->trim(io);
}

/* Nanoseconds since 1970-01-01 UTC by the system's clock, read by this call: for dates that others
 * see. It may be set forward and back: intervals are measured by now_ns. */
static inline uint64_t io_wall_ns(struct io *io)
{
    return io->backend->wall_ns(io);
}

/* The part of the backends on a real system. */
uint64_t io_system_wall_ns(struct io *io);

/* Passes over `sent` bytes of spans that hold more: what is left of the one in which they end stays
 * in it. Returns its index. */
int io_spans_skip(struct iovec *iov, size_t sent);

/* Uniform 64 bits from the io's own generator; seeded from the kernel, or by the simulation's seed.
 */
uint64_t io_random(struct io *io);

/* Uniform in [0, bound); bound > 0. */
uint64_t io_random_below(struct io *io, uint64_t bound);

/* Seeds io_random() from one 64-bit value (splitmix64). */
void io_random_seed(struct io *io, uint64_t seed);

/* Text form, "127.0.0.1:80", "[::1]:80", "unix", "unknown"; into IO_ADDR_TEXT_MAX bytes. */
void io_addr_format(const struct io_addr *a, char *text);

/* From and to the kernel's form. io_addr_to_sockaddr returns the length to pass on. */
void io_addr_from_sockaddr(struct io_addr *a, const struct sockaddr *sa, socklen_t len);
socklen_t io_addr_to_sockaddr(const struct io_addr *a, struct sockaddr_storage *ss);

/* Parses an IPv4 or IPv6 literal (brackets allowed), no port. Returns 0 or -EINVAL. */
MUST_USE int io_addr_parse(struct io_addr *a, const char *text, uint16_t port);

#endif
