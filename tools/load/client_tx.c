/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What a connection of the generator sends. On its worker's thread.
 *
 * Plain, a send is made in the memory that it leaves from, c->out. With TLS it is made in the
 * worker's own buffer and sealed into c->out. */

#include "tools/load/client.h"

#include <stdlib.h>
#include <string.h>

#include "net/ws_encoder.h"
#include "tools/load/client_tls.h"
#include "tools/load/handshake.h"
#include "tools/load/run.h"
#include "tools/load/worker.h"

#define CLIENT_HEAD_MAX 14 /* of a client's frame: 2 + 8 + 4 */
#define NORMAL_CLOSE 1000

/* Control frames that wait until the send under way is over: a pong, and a ping or close frame. A
 * later one replaces the former (RFC 6455 5.5.3 lets a pong answer the last ping alone). */
#define CONTROL_BYTES (WS_CONTROL_FRAME_MAX + 4)
struct client_control {
    uint8_t frames[2][CONTROL_BYTES];
    uint32_t lens[2];
};

/* One send in the making. */
struct outgoing {
    struct iovec iov[IO_IOV_MAX];
    int count;
    size_t bytes;
    uint8_t *at; /* where the next bytes go */
};

static void release_out(struct client *c)
{
    struct worker *w = c->worker;

    if (c->out == NULL)
        return;
    memcpy(c->out, &w->out_free, sizeof(w->out_free));
    w->out_free = c->out;
    c->out = NULL;
}

static bool acquire_out(struct client *c)
{
    struct worker *w = c->worker;

    if (w->out_free != NULL) {
        c->out = w->out_free;
        memcpy(&w->out_free, c->out, sizeof(w->out_free));
    } else {
        c->out = malloc(w->out_bytes);
        if (c->out == NULL)
            worker_fail(w, "no memory for a send of %zu bytes", w->out_bytes);
    }
    return c->out != NULL;
}

/* Its thousand bytes of spans are not worth clearing. False without memory. */
static inline bool begin_outgoing(struct client *c, struct outgoing *o)
{
    if (!acquire_out(c))
        return false;
    o->count = 0;
    o->bytes = 0;
    o->at = c->tls != NULL ? c->worker->tls->plain : c->out;
    return true;
}

static void add_span(struct outgoing *o, uint8_t *ptr, size_t len)
{
    struct iovec *next = &o->iov[o->count];

    if (o->count > 0 && (uint8_t *)next[-1].iov_base + next[-1].iov_len == ptr)
        next[-1].iov_len += len;
    else
        o->iov[o->count++] = (struct iovec){ptr, len};
    o->bytes += len;
}

/* The single point where bytes leave. */
static void hand_to_io(struct client *c, const struct iovec *iov, int count, size_t bytes)
{
    int r = io_send(c->worker->io, &c->io, iov, count, bytes);

    if (r < 0)
        client_fail(c, CLIENT_WHY_LOST, r, NULL);
    else if (r == IO_PENDING)
        c->sending = true;
    else
        release_out(c);
}

/* `before` bytes stand in c->out already, as they are to leave. */
static void transmit_sealed(struct client *c, const struct outgoing *o, size_t before)
{
    struct iovec all = {c->out, before};
    size_t len =
        client_tls_seal(c, o->iov, o->count, c->out + before, c->worker->out_bytes - before);

    if (len == 0) {
        client_fail(c, CLIENT_WHY_TLS, 0, "the key of a connection is used up");
        return;
    }
    all.iov_len += len;
    hand_to_io(c, &all, 1, all.iov_len);
}

static void transmit(struct client *c, const struct outgoing *o)
{
    if (c->tls != NULL)
        transmit_sealed(c, o, 0);
    else
        hand_to_io(c, o->iov, o->count, o->bytes);
}

/* A message that is not compressed: head, stamp, tail. */
static void put_plain(struct client *c, struct outgoing *o, const struct stamp *s, uint8_t opcode)
{
    const struct pattern *p = &c->worker->run->pattern;
    size_t tail = c->group->payload_bytes - STAMP_BYTES;
    uint8_t *from = p->masked + pattern_place(s->sender, s->seq);
    uint8_t *begin = o->at;

    o->at += ws_encode_client_head(o->at, opcode, true, false, c->group->payload_bytes, p->key);
    stamp_put(o->at, s, p->key);
    o->at += STAMP_BYTES;
    if (tail <= CLIENT_TAIL_COPY_MAX) {
        memcpy(o->at, from, tail);
        o->at += tail;
        tail = 0;
    }
    add_span(o, begin, (size_t)(o->at - begin));
    if (tail > 0)
        add_span(o, from, tail);
}

/* The same with a small stamp, all in one span; the tail keeps its place to the key. */
static void put_small(struct client *c, struct outgoing *o, const struct stamp *s, uint8_t opcode)
{
    const struct pattern *p = &c->worker->run->pattern;
    size_t len = c->group->payload_bytes;
    uint32_t bytes = stamp_small_bytes(len);
    uint8_t *begin = o->at;

    o->at += ws_encode_client_head(o->at, opcode, true, false, len, p->key);
    stamp_small_put(o->at, bytes, s, p->key);
    memcpy(o->at + bytes, p->masked + pattern_place(s->sender, s->seq) + bytes % 4, len - bytes);
    o->at += len;
    add_span(o, begin, (size_t)(o->at - begin));
    c->times[s->seq & c->worker->times_mask] = s->time_ns;
}

/* RFC 7692 7.2.1. Compressed into the buffer itself, then masked in place; the head's length is
 * known only then, so the head stands at the end of the room that the longest one needs. */
static bool put_compressed(struct client *c, struct outgoing *o, const struct stamp *s,
                           uint8_t opcode)
{
    struct worker *w = c->worker;
    const struct pattern *p = &w->run->pattern;
    uint32_t len = c->group->payload_bytes;
    uint8_t *plain = o->at + CLIENT_HEAD_MAX + deflate_bound(len);
    uint8_t *packed = o->at + CLIENT_HEAD_MAX;
    uint8_t head[CLIENT_HEAD_MAX];
    size_t packed_len;

    stamp_put(plain, s, 0);
    memcpy(plain + STAMP_BYTES, p->plain + pattern_place(s->sender, s->seq), len - STAMP_BYTES);
    if (deflate_compress(w->deflate, 15, plain, len, packed, &packed_len) != 0) {
        worker_fail(w, "no memory to compress a message");
        return false;
    }
    simd->unmask(packed, packed, packed_len, p->key);
    uint32_t head_len = ws_encode_client_head(head, opcode, true, true, packed_len, p->key);
    memcpy(packed - head_len, head, head_len);
    add_span(o, packed - head_len, head_len + packed_len);
    o->at = packed + packed_len;
    return true;
}

/* When the next message of c is (or was to be) sent. */
static uint64_t time_of_message(struct client *c, uint64_t now_ns)
{
    struct worker *w = c->worker;

    if (w->pace.per_second == 0)
        return now_ns;
    uint64_t due_ns = schedule_at(&w->pace, c->seq * w->sender_count + c->pace_idx);
    histogram_add(&w->tally->lag, now_ns > due_ns ? now_ns - due_ns : 0);
    return due_ns;
}

/* As many messages as one send takes; there is one at least. */
static void send_batch(struct client *c, uint64_t end_seq)
{
    struct worker *w = c->worker;
    uint8_t opcode = w->run->config.opcode == LOAD_TEXT ? WS_OP_TEXT : WS_OP_BINARY;
    struct outgoing o;
    struct stamp s = {.sender = c->id};
    uint64_t first = c->seq;
    uint64_t now_ns = worker_now(w);

    if (!begin_outgoing(c, &o))
        return;
    while (c->seq < end_seq && c->seq - first < w->batch) {
        s.seq = c->seq;
        s.time_ns = time_of_message(c, now_ns);
        if (c->times != NULL)
            put_small(c, &o, &s, opcode);
        else if (!c->compressed)
            put_plain(c, &o, &s, opcode);
        else if (!put_compressed(c, &o, &s, opcode))
            break;
        c->seq++;
    }
    w->sent += c->seq - first;
    w->expected += (c->seq - first) * c->copies;
    w->tally->sent += c->seq - first;
    transmit(c, &o);
}

static void send_messages(struct client *c)
{
    uint64_t end_seq = min_u64(c->allowed, c->worker->budget);

    while (c->seq < end_seq && !c->sending && c->state == CLIENT_OPEN)
        send_batch(c, end_seq);
}

void client_allow(struct client *c, uint64_t allowed)
{
    c->allowed = allowed;
    if (!c->sending)
        send_messages(c);
}

/* Makes a masked control frame in out; returns its length. */
static uint32_t make_control(const struct client *c, uint8_t *out, uint8_t opcode,
                             const uint8_t *payload, uint32_t len)
{
    uint32_t key = c->worker->run->pattern.key;
    uint32_t head = ws_encode_client_head(out, opcode, true, false, len, key);

    if (len > 0)
        simd->unmask(out + head, payload, len, key);
    return head + len;
}

static void keep_control(struct client *c, uint8_t opcode, const uint8_t *payload, uint32_t len)
{
    int place = opcode == WS_OP_PONG ? 0 : 1;

    if (c->control == NULL)
        c->control = calloc(1, sizeof(*c->control));
    if (c->control != NULL)
        c->control->lens[place] = make_control(c, c->control->frames[place], opcode, payload, len);
}

void client_tx_control(struct client *c, uint8_t opcode, const uint8_t *payload, uint32_t len)
{
    uint8_t frame[CONTROL_BYTES];

    if (c->sending)
        keep_control(c, opcode, payload, len);
    else
        client_send_raw(c, frame, make_control(c, frame, opcode, payload, len));
}

bool client_send_raw(struct client *c, const void *bytes, size_t len)
{
    struct outgoing o;

    CHECK(len <= HANDSHAKE_REQUEST_MAX);
    if (c->sending || !begin_outgoing(c, &o))
        return false;
    memcpy(o.at, bytes, len);
    add_span(&o, o.at, len);
    transmit(c, &o);
    return true;
}

void client_tx_request(struct client *c, struct bytes flight, const char *request, size_t len)
{
    struct outgoing o;

    if (c->tls == NULL) {
        client_send_raw(c, request, len);
        return;
    }
    if (!begin_outgoing(c, &o))
        return;
    memcpy(c->out, flight.ptr, flight.len);
    memcpy(o.at, request, len);
    add_span(&o, o.at, len);
    transmit_sealed(c, &o, flight.len);
}

void client_tx_flight(struct client *c, struct bytes flight)
{
    struct iovec iov;

    if (!acquire_out(c))
        return;
    memcpy(c->out, flight.ptr, flight.len);
    iov = (struct iovec){c->out, flight.len};
    hand_to_io(c, &iov, 1, flight.len);
}

static void send_waiting_control(struct client *c)
{
    struct client_control *waiting = c->control;
    uint8_t both[2 * CONTROL_BYTES];

    if (waiting == NULL)
        return;
    c->control = NULL;
    memcpy(both, waiting->frames[0], waiting->lens[0]);
    memcpy(both + waiting->lens[0], waiting->frames[1], waiting->lens[1]);
    client_send_raw(c, both, waiting->lens[0] + waiting->lens[1]);
    free(waiting);
}

void client_ping(struct client *c)
{
    if (c->state == CLIENT_OPEN)
        client_tx_control(c, WS_OP_PING, NULL, 0);
}

void client_leave(struct client *c)
{
    static const uint8_t code[] = {NORMAL_CLOSE >> 8, NORMAL_CLOSE & 0xff};

    if (c->state != CLIENT_OPEN)
        return;
    c->state = CLIENT_LEAVING;
    client_tx_control(c, WS_OP_CLOSE, code, sizeof(code));
}

void client_tx_sent(struct client *c)
{
    release_out(c);
    c->sending = false;
    if (c->state == CLIENT_SHAKE) {
        client_tls_push(c);
        return;
    }
    send_waiting_control(c);
    send_messages(c);
}

void client_tx_free(struct client *c)
{
    release_out(c);
    free(c->control);
    c->control = NULL;
    c->sending = false;
}
