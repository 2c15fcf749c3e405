/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Answers that lie behind one another. On the shard's thread. */

#include "net/conn_reply.h"

#include "net/ws_encoder.h"

/* What is made ready ahead: with an answer of any length and the message's header 16 KiB; and where
 * nothing has been used yet. */
#define ROOM_MAX (16384 - CONN_REPLY_PAYLOAD_MAX - 4 - MESSAGE_HEAD_BYTES)
#define ROOM_FIRST 4096

/* Behind the answer that was written last. */
static uint8_t *append(struct conn *c, uint8_t opcode, uint32_t len, uint32_t frame_len)
{
    struct net *n = c->net;
    struct conn_answers *a = &n->answers;
    uint8_t *payload = a->at + (frame_len - len);

    ws_encode_head_before(payload, (enum ws_opcode)opcode, false, len);
    a->at += frame_len;
    a->ref->len += frame_len;
    c->sendq.bytes += frame_len;
    n->queue_bytes += frame_len;
    return payload;
}

/* Bytes to make ready behind a frame for answers to the rest of the input, each of which is shorter
 * than what it answers, by the key at least. Together they are no more than one send takes
 * (--send-batch). Behind what was used up it is twice as much; to begin with it is little, and
 * where something waits already nothing, so that memory follows the queue of whoever does not read.
 */
static uint32_t room_ahead(const struct conn *c, uint32_t frame_len, size_t rest)
{
    const struct conn_answers *a = &c->net->answers;
    uint64_t batch = c->net->send_batch_bytes;
    uint64_t max = min_u64(ROOM_MAX, batch > frame_len ? batch - frame_len : 0);

    if (a->at != NULL && a->refs == c->sendq.refs)
        max = min_u64(max, 2 * a->ref->len);
    else
        max = sendq_is_empty(&c->sendq) ? min_u64(max, ROOM_FIRST) : 0;
    return (uint32_t)min_u64(rest, max);
}

/* A run with room for `room` bytes of answers; NULL without memory. */
static struct run *new_run(struct net *n, uint32_t room)
{
    struct message *m = message_new(&n->shard->messages, room);
    struct run *r;

    if (m == NULL)
        return NULL;
    r = run_new(&n->shard->messages, m);
    if (r == NULL)
        shard_message_release(n->shard, m);
    return r;
}

uint8_t *conn_reply_any(struct conn *c, uint8_t opcode, uint32_t len, size_t rest)
{
    struct net *n = c->net;
    struct conn_answers *a = &n->answers;
    uint32_t frame_len = len + ws_head_len(len);
    uint8_t *payload;
    struct run *r;

    DCHECK(len <= CONN_REPLY_PAYLOAD_MAX);
    if (frame_len <= (size_t)(a->end - a->at) && c->sendq.refs == a->refs &&
        conn_queue_has_room(c, frame_len))
        return append(c, opcode, len, frame_len);
    r = new_run(n, frame_len + room_ahead(c, frame_len, rest));
    if (r == NULL) {
        conn_end(c, CONN_END_NO_MEMORY);
        return NULL;
    }
    payload = message_payload(r->message) + (frame_len - len);
    ws_encode_head_before(payload, (enum ws_opcode)opcode, false, len);
    if (!conn_queue(c, r, 0, frame_len))
        payload = NULL;
    else
        *a = (struct conn_answers){.at = payload + len,
                                   .end = message_payload(r->message) + r->len,
                                   .ref = sendq_last(&c->sendq),
                                   .refs = c->sendq.refs};
    shard_run_unref(n->shard, r);
    return payload;
}
