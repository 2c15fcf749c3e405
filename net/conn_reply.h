/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_CONN_REPLY_H
#define NET_CONN_REPLY_H

/* Short answers to what a client sends. Those to messages that came together lie behind one another
 * in one message, so they are one reference in the send queue and one span of the send. On the
 * shard's thread, from within net_app.on_message(). */

#include "net/conn.h"

/* Longer payloads are better sent as messages of their own. */
#define CONN_REPLY_PAYLOAD_MAX 4096

/* Whether what answers m by as many bytes is short, and has company in this input: an answer that
 * is alone is better a message of its own. */
static inline bool conn_reply_suits(const struct conn *c, const struct net_message *m)
{
    return (m->rest != 0 || c->net->answers.at != NULL) && m->owned == NULL &&
           m->payload.len <= CONN_REPLY_PAYLOAD_MAX;
}

/* The rare part of conn_reply(): another length, another reference, or the first answer. */
uint8_t *conn_reply_any(struct conn *c, uint8_t opcode, uint32_t len, size_t rest);

/* Queues a frame with `len` bytes of payload, at most CONN_REPLY_PAYLOAD_MAX, and returns where the
 * caller writes them at once. The connection is open. `rest` is net_message.rest of the message
 * that is answered: memory for answers to it is made ready. NULL: the connection is ended by this
 * (slow consumer, no memory). */
MUST_USE static inline uint8_t *conn_reply(struct conn *c, uint8_t opcode, uint32_t len,
                                           size_t rest)
{
    struct net *n = c->net;
    struct conn_answers *a = &n->answers;
    uint32_t frame_len = len + 2;
    uint8_t *at = a->at;

    DCHECK(c->state == CONN_OPEN);
    if (unlikely(len > 125 || frame_len > (size_t)(a->end - at) || c->sendq.refs != a->refs ||
                 !conn_queue_has_room(c, frame_len)))
        return conn_reply_any(c, opcode, len, rest);
    at[0] = 0x80 | opcode; /* FIN; RFC 6455 5.2 */
    at[1] = (uint8_t)len;
    a->at = at + frame_len;
    a->ref->len += frame_len;
    c->sendq.bytes += frame_len;
    n->queue_bytes += frame_len;
    return at + 2;
}

/* Input of one connection is dealt with; answers to the next one lie elsewhere. */
static inline void conn_reply_done(struct net *n)
{
    n->answers.at = n->answers.end = NULL;
}

#endif
