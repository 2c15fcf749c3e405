/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_URING_H
#define CORE_URING_H

/* Inside of the io_uring implementation: what io_uring.c (connections and turn), uring_setup.c
 * (ring and memory), uring_accept.c (listeners), uring_connect.c, uring_tls.c and uring_wake.c
 * share. Nothing else includes it but the implementation's own tests.
 *
 * A completion names what it belongs to by number, never by address: operation, slot in the table
 * of direct descriptors, generation of the slot. The table in user space turns the slot into the
 * connection, if the generation still fits; so no completion, however late, can touch memory that
 * its owner has taken back. A slot is given away again only when every request that names it has
 * completed. */

#include <liburing.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/io.h"
#include "core/uring_buffers.h"
#include "core/uring_compat.h"
#include "core/uring_slots.h"

#define URING_ACCEPTS 32          /* accepts under way per listener */
#define URING_ACCEPTS_FD 8        /* of them with an ordinary descriptor, when there is no room */
#define URING_ACCEPT_SLOTS_MAX 64 /* held by accepts under way, of all listeners */
#define URING_SLOT_RESERVE 128    /* slots beyond conns_max: those, and closing ones */
#define URING_LISTENERS_MAX 16
#define URING_ARENA_BYTES (256u << 10)
#define URING_RECV_GROUP 0
/* Slices of the receive buffers' memory at a time. */
#define URING_SLICES_MAX 64
/* Eight bits of user data say which slice, or what is cancelled. */
#define URING_DETAIL_SHIFT 48

enum uring_op {
    URING_IGNORE, /* what nobody waits for */
    URING_CANCEL, /* for a close; of an operation; told when it has failed */
    URING_RECV,
    URING_SLICE, /* a receive into a slice of the buffers' memory; with its number */
    URING_SEND,
    URING_CONNECT,  /* every link of the chain */
    URING_POLL,     /* watches a paused connection for a reset */
    URING_SHUTDOWN, /* half close */
    URING_TLS_KEY,  /* both links of the chain; under way it is URING_F_SEND */
    URING_CLOSE,
    URING_DROP,   /* close of a slot without a connection */
    URING_ACCEPT, /* low half: listener and accept */
    URING_BELL,   /* another shard's wake; low half of ours to others: its ring */
    URING_EVENTFD,
};

/* io_conn.flags. The first group are requests (or a place in the list) that end by themselves or by
 * a cancel; closing waits for all of them. */
enum uring_conn_flag {
    URING_F_RECV = 1 << 0,
    URING_F_SEND = 1 << 1,
    URING_F_CONNECT = 1 << 2,
    URING_F_POLL = 1 << 3,
    URING_F_SHUTDOWN = 1 << 4,
    URING_F_STARVED = 1 << 5, /* in the list of those to be armed again */
    URING_F_CLOSE = 1 << 6,   /* the close itself */
    URING_F_BUSY = (1 << 7) - 1,

    URING_F_WANT = 1 << 7,         /* the owner wants to receive */
    URING_F_EOF = 1 << 8,          /* told; nothing more is received */
    URING_F_CLOSING = 1 << 9,      /* io_close() was called */
    URING_F_RESET = 1 << 10,       /* ... with reset */
    URING_F_RECV_CANCEL = 1 << 11, /* a cancel for the receive under way was made */
    URING_F_TLS = 1 << 12,         /* the kernel seals what is sent */
    URING_F_REST = 1 << 13,        /* backend_state is a struct uring_rest */
    URING_F_ULP = 1 << 14,         /* TCP_ULP was asked for; it stays when the key is refused */
};

enum uring_accept_state {
    URING_ACCEPT_IDLE,
    URING_ACCEPT_SLOT,
    URING_ACCEPT_FD,
    URING_ACCEPT_INSTALL, /* a descriptor is made of the slot: there is no room any more */
    URING_ACCEPT_REFUSED, /* the same: the owner has no connection for it */
};

struct uring_accept {
    struct sockaddr_storage addr;
    socklen_t addr_len;
    uint32_t slot;
    uint8_t state; /* enum uring_accept_state */
};

/* A listener's accepts. Outlives the io_listener until they have all completed. */
struct uring_listener {
    struct io_listener *l; /* NULL: unlistened */
    uint32_t idx;
    uint32_t armed;      /* accepts not idle */
    uint32_t armed_slot; /* of them into slots */
    uint64_t retry_ns;   /* not before; after a failure for want of resources */
    struct uring_accept accepts[URING_ACCEPTS];
};

/* What of a send on the kernel's TLS has not left yet, see uring_tls.c. */
struct uring_rest {
    struct io_conn *starved_next; /* what backend_state was */
    int first;                    /* spans before this one have been sent */
    int count;
    struct iovec iov[];
};

/* Features switched off and sizes for tests; all zero is what io_uring_new() uses. */
struct uring_quirks {
    bool no_incremental; /* small whole buffers */
    bool no_bind;        /* connect through ordinary descriptors */
    bool no_install;     /* no ordinary descriptor for a slot */
    bool no_options;     /* no options of a slot */
    bool no_msg_ring;    /* wake by eventfd only */
    uint32_t sq_entries;
    uint32_t cq_entries;
};

struct uring {
    struct io io; /* first: struct io * is struct uring * */
    struct io_uring ring;
    struct uring_buffers buffers;
    struct uring_slots slots;
    uint32_t accepting_slots; /* held by accepts */
    uint8_t *arena;           /* what requests point to until they are submitted */
    uint32_t arena_used;
    bool has_bind;
    bool has_install;
    bool has_msg_ring;
    int broken;                   /* -errno once the ring refuses to submit */
    uint32_t callbacks;           /* run in this poll */
    struct io_conn *starved_head; /* first in, first out; linked by backend_state */
    struct io_conn *starved_tail;
    uint32_t starved_count;
    uint32_t recv_average;     /* bytes that a receive brings, moving */
    uint32_t slice_bytes;      /* of each that is under way */
    uint32_t slices_under_way; /* while there are some, the buffers are not lent */
    struct uring_listener *listeners[URING_LISTENERS_MAX];
    int event_fd;         /* doorbell for threads without a ring */
    uint64_t event_count; /* read from it by the ring */
    bool self_woken;
    int bell_last;           /* ring fd that was rung last and since the last submit, -1: none */
    struct io_uring_sqe dud; /* handed out when broken */
    atomic_bool started;     /* by start(); from then on its ring can be rung */
    _Alignas(CORE_CACHE_LINE) atomic_bool event_pending; /* event_fd was written and not yet read */
};

/* As io_uring_new(); `quirks` may be NULL. */
MUST_USE int uring_new(const struct io_config *cfg, const struct uring_quirks *quirks,
                       struct io **io, const char **why);

/* Fills a zeroed u but for backend and randomness, uring_setup.c. Returns 0 or -errno with *why. */
MUST_USE int uring_make(struct uring *u, const struct io_config *cfg, const struct uring_quirks *q,
                        const char **why);
void uring_unmake(struct uring *u);

static inline struct uring *uring_of(struct io *io)
{
    return (struct uring *)io;
}

static inline uint64_t uring_data(enum uring_op op, uint16_t generation, uint32_t low)
{
    return (uint64_t)op << 56 | (uint64_t)generation << 32 | low;
}

/* Makes room for `count` requests that must be submitted together, submitting if need be. */
void uring_reserve(struct uring *u, uint32_t count);

/* A request to fill in, never NULL: once the ring is broken it leads nowhere and io_poll() says so.
 */
struct io_uring_sqe *uring_sqe(struct uring *u);

/* Cancels the request with that user data. If that fails (-ENOENT: it has ended, or is about to run
 * again; -EALREADY: it ends by itself), a completion with the user data `failure` tells. */
void uring_cancel(struct uring *u, uint64_t data, uint64_t failure);

/* To be called after each submit: bells may be rung and the arena be filled again. */
void uring_submitted(struct uring *u);

/* io_trim(): the empty pages of the table of slots, of the receive buffers and of the arena. */
void uring_trim(struct io *io);

/* Puts the socket fd into a slot, too: fd is the caller's to close. Returns the slot or -errno. */
MUST_USE int32_t uring_slot_fill(struct uring *u, int fd);

/* Memory that the next `requests` requests may point to: it lasts until they are submitted, and no
 * submit comes before they are made. bytes: some KiB at most. */
void *uring_arena(struct uring *u, size_t bytes, uint32_t requests);

/* The connection in `slot` is c from now on; receiving starts. Or its connecting is under way. */
void uring_attach(struct uring *u, struct io_conn *c, uint32_t slot);
void uring_attach_connecting(struct uring *u, struct io_conn *c, uint32_t slot);

/* Sockets that come by other ways than a listener, uring_connect.c: parts of the table. */
int uring_adopt(struct io *io, struct io_conn *c, struct io_ticket t);
void uring_discard(struct io *io, struct io_ticket t, const void *last_words, size_t len);
int uring_connect(struct io *io, struct io_conn *c, const struct io_addr *to,
                  const struct io_addr *from);

/* The kernel's TLS, uring_tls.c: parts of the table. */
int uring_tls_key(struct io *io, struct io_conn *c, const void *info, size_t len, bool again);
int uring_tls_send(struct io *io, struct io_conn *c, enum io_tls_type type, struct bytes record);

/* ... and of sends with URING_F_TLS: as uring_send(), whose checks are done; and whether a send
 * with URING_F_REST that has ended with `res` goes on with the rest. Else the rest is freed. */
int uring_tls_data(struct uring *u, struct io_conn *c, const struct iovec *iov, int count,
                   size_t bytes);
bool uring_tls_goes_on(struct uring *u, struct io_conn *c, int32_t res);

/* Wake-ups, uring_wake.c: a part of the table; the first read of the eventfd, by start(); and
 * completions of URING_EVENTFD and URING_BELL. */
void uring_wake(struct io *io, struct io *from);
void uring_eventfd_arm(struct uring *u);
void uring_eventfd_done(struct uring *u, int32_t res);
void uring_bell_done(struct uring *u, uint64_t data, int32_t res);

/* The listener side, uring_accept.c: parts of the backend's table ... */
int uring_listen(struct io *io, struct io_listener *l, int fd);
void uring_accept_mode(struct io *io, struct io_listener *l, enum io_accept_mode mode);
void uring_unlisten(struct io *io, struct io_listener *l);

/* ... and of the turn: a completion of URING_ACCEPT; once per poll, returns when it wants to be
 * called again at the latest; frees everything. */
void uring_accept_done(struct uring *u, uint32_t which, int32_t res);
uint64_t uring_listeners_arm(struct uring *u);
void uring_listeners_free(struct uring *u);

#endif
