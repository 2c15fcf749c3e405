/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_CONN_KTLS_H
#define NET_CONN_KTLS_H

/* Sending of a TLS connection by the kernel (--ktls auto): after the handshake the key is lent to
 * it (tls_ktls.h), and the queue leaves as on a plain connection; runs are shared with them. Input
 * is opened by our own record layer as ever. On the shard's thread.
 *
 *   state     what is sent next                          leaves by
 *   OFF       sealed by us                               -
 *   WANTED    our flights; then, with the first data,    the kernel's answer: ON, or OFF for good
 *             io_tls_key()
 *   STARTING  nothing: its answer is awaited             the same
 *   ON        data, as it is                             a KeyUpdate that is due -> UPDATED
 *   UPDATED   io_tls_key() with the next key             REKEYING, ON; refused: the end
 *   REKEYING  nothing: its answer is awaited             the same
 *
 * A kernel that refuses the first key has taken nothing, so our own layer goes on where it stands;
 * one that refuses the next has sent the KeyUpdate already, and nothing more can be read by the
 * peer. */

#include <stdbool.h>

#include "core/io.h"

struct conn;

enum conn_ktls {
    CONN_KTLS_OFF,
    CONN_KTLS_WANTED,
    CONN_KTLS_STARTING,
    CONN_KTLS_ON,
    CONN_KTLS_UPDATED,
    CONN_KTLS_REKEYING,
};

/* Why connections are sealed by us although the kernel was wanted: X(id, label). */
#define CONN_KTLS_FALLBACKS(X)                                                                     \
    X(SUITE, "suite")                 /* not one of the kernel's, or it can't change keys */       \
    X(SHORT_RECORDS, "short_records") /* max_fragment_length */                                    \
    X(NO_MODULE, "no_module")                                                                      \
    X(UNSUPPORTED, "unsupported") /* by the kernel, or by this io on it */                         \
    X(NO_MEMORY, "no_memory")                                                                      \
    X(SOCKET, "socket_state") /* ended meanwhile, or another protocol has it */                    \
    X(OTHER, "other")

enum conn_ktls_fallback {
#define X(id, label) CONN_KTLS_FALLBACK_##id,
    CONN_KTLS_FALLBACKS(X)
#undef X
        CONN_KTLS_FALLBACK_COUNT
};

/* Whether the kernel seals what is sent. */
static inline bool conn_ktls_is_on(uint8_t state)
{
    return state >= CONN_KTLS_ON;
}

/* c has its keys: the kernel is wanted if it can seal for it. */
void conn_ktls_open(struct conn *c);

/* c's keys go. */
void conn_ktls_close(struct conn *c);

/* One step of sending what waits, which is not nothing, with a state other than OFF. Returns
 * IO_SENT (go on), or as io_send(), or CONN_TLS_... */
int conn_ktls_send(struct conn *c);

/* The last record: close_notify or an alert. Returns likewise. */
int conn_ktls_send_end(struct conn *c);

/* io_events.on_tls_key */
void conn_ktls_on_key(struct io_conn *io, int err);

#endif
