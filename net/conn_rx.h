/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_CONN_RX_H
#define NET_CONN_RX_H

/* What a busy connection keeps of its input (struct conn_rx in net/conn.h), and the node's bound on
 * it
 * (--assembly-memory). On the shard's thread. */

#include "net/conn.h"

/* The connection's rx state, made when needed. NULL without memory: the connection is ended. */
struct conn_rx *conn_rx_get(struct conn *c);

/* Appends n bytes to *m (made when NULL), which holds *len. `want` is what the whole is expected to
 * need; up to CONN_RX_AT_ONCE of it is allocated at once, beyond that the message grows by doubling
 * as bytes really come. False: no memory, or the node's bound is reached; the connection is ended.
 */
#define CONN_RX_AT_ONCE (64u << 10)
bool conn_rx_append(struct conn *c, struct message **m, uint32_t *len, const uint8_t *p, size_t n,
                    uint64_t want);

/* Takes *m out, its payload_len set to len; the caller owns it. */
struct message *conn_rx_take(struct conn *c, struct message **m, uint32_t len);

/* Puts a message that the caller owns into an empty *m. */
void conn_rx_put(struct conn *c, struct message **m, struct message *owned);

/* Frees *m if there is one. */
void conn_rx_drop(struct conn *c, struct message **m);

/* Gives the rx state back when nothing is in it; idle connections have none. */
void conn_rx_trim(struct conn *c);

/* Gives it back with everything in it. */
void conn_rx_free(struct conn *c);

#endif
