/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_COMPRESS_H
#define NET_COMPRESS_H

/* Outgoing compression of whole messages (RFC 7692): once per message, shared by all who negotiated
 * it. On the shard's thread. */

#include "net/conn.h"

/* Our own window: the largest there is. */
#define COMPRESS_WINDOW_BITS 15

/* A compressed twin of m, framed with RSV1; NULL when m is under --compress-min, takes longer than
 * is left of the turn's --turn-budget, does not get smaller, or there is no memory: then the plain
 * one serves. Messages do not wait for the next turn's budget: their order would hold up all the
 * others. */
struct message *compress_message(struct net *n, const struct message *m);

/* Whether a connection can take the twin of a message of payload_len bytes: it negotiated
 * compression, and without context takeover no distance reaches beyond the message itself, so a
 * message no longer than the client's window is good for it, whatever our own window was. */
static inline bool compress_suits(const struct conn *c, uint32_t payload_len)
{
    return (c->flags & CONN_F_DEFLATE) &&
           (c->window_bits >= COMPRESS_WINDOW_BITS || payload_len <= 1u << c->window_bits);
}

#endif
