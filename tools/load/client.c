/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* One WebSocket connection of the generator. On its worker's thread.
 *
 * Bytes in go on_recv(), feed(), take_frames(); bytes out go send_messages() or send_control(),
 * then transmit(). A frame that lies whole in what io lends is judged in place; only what is cut is
 * copied, into struct client_rx, which is given back as soon as it is empty. */

#include "tools/load/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/ws_encoder.h"
#include "tools/load/handshake.h"
#include "tools/load/run.h"
#include "tools/load/worker.h"

#define CLIENT_HEAD_MAX 14 /* of a client's frame: 2 + 8 + 4 */
#define MESSAGE_BYTES_MAX (64ULL << 20)
#define NORMAL_CLOSE 1000

/* What has come of something that is not complete. */
struct client_rx {
    uint8_t control[WS_CONTROL_PAYLOAD_MAX];
    uint8_t control_len;
    uint8_t *data;
    size_t len;
    size_t cap;
};

/* Control frames that wait until the send under way is over: a pong, and a ping or close frame. A
 * later one replaces the former (RFC 6455 5.5.3 lets a pong answer the last ping alone). */
#define CONTROL_BYTES (WS_CONTROL_FRAME_MAX + 4)
struct client_control {
    uint8_t frames[2][CONTROL_BYTES];
    uint32_t lens[2];
};

static struct client *client_of(struct io_conn *io)
{
    return container_of(io, struct client, io);
}

/* Ends ------------------------------------------------------------------------------------------
 */

void client_end_text(const struct client_end *end, char *text, size_t cap)
{
    const char *what = end->text != NULL ? end->text : "";

    switch (end->why) {
    case CLIENT_WHY_CONNECT:
        snprintf(text, cap, "can't connect: %s", strerror(-end->number));
        break;
    case CLIENT_WHY_TIMEOUT:
        snprintf(text, cap, "was not open in time");
        break;
    case CLIENT_WHY_STATUS:
        snprintf(text, cap, "was answered HTTP status %d instead of 101", end->number);
        break;
    case CLIENT_WHY_UPGRADE:
        snprintf(text, cap, "upgrade: %s", what);
        break;
    case CLIENT_WHY_PROTOCOL:
        snprintf(text, cap, "the server broke the protocol: %s", what);
        break;
    case CLIENT_WHY_CLOSED:
        snprintf(text, cap, "was closed by the server with %d (%s)", end->number, what);
        break;
    case CLIENT_WHY_LOST:
        snprintf(text, cap, "was ended by the server without a close frame%s%s",
                 end->number != 0 ? ": " : "", end->number != 0 ? strerror(-end->number) : "");
        break;
    default:
        snprintf(text, cap, "ended");
        break;
    }
}

void client_list_add(struct client_list *l, struct client *c)
{
    c->list_prev = l->last;
    c->list_next = NULL;
    *(l->last != NULL ? &l->last->list_next : &l->first) = c;
    l->last = c;
    l->count++;
}

void client_list_remove(struct client_list *l, struct client *c)
{
    *(c->list_prev != NULL ? &c->list_prev->list_next : &l->first) = c->list_next;
    *(c->list_next != NULL ? &c->list_next->list_prev : &l->last) = c->list_prev;
    l->count--;
}

static void free_rx(struct client *c)
{
    if (c->rx == NULL)
        return;
    free(c->rx->data);
    free(c->rx);
    c->rx = NULL;
}

static void end(struct client *c, enum client_why why, int number, const char *text)
{
    struct client_end e = {why, number, text};
    struct worker *w = c->worker;

    if (!client_is_alive(c))
        return;
    if (c->state == CLIENT_CONNECTING || c->state == CLIENT_HEAD)
        client_list_remove(&w->opening, c);
    else
        w->open--;
    c->state = CLIENT_ENDED;
    if (c->group->role->on_end != NULL)
        c->group->role->on_end(c, &e);
    else if (why != CLIENT_WHY_SELF)
        worker_lost(c, &e);
}

/* The peer's doing, or a failure: nothing more can be sent. */
static void fail(struct client *c, enum client_why why, int number, const char *text)
{
    if (!client_is_alive(c))
        return;
    end(c, c->state == CLIENT_LEAVING ? CLIENT_WHY_SELF : why, number, text);
    io_close(c->worker->io, &c->io, false);
}

void client_cut(struct client *c, bool reset)
{
    if (!client_is_alive(c))
        return;
    end(c, CLIENT_WHY_SELF, 0, NULL);
    io_close(c->worker->io, &c->io, reset);
}

void client_expire(struct client *c)
{
    fail(c, CLIENT_WHY_TIMEOUT, 0, NULL);
}

static void release_out(struct client *c)
{
    struct worker *w = c->worker;

    if (c->out == NULL)
        return;
    memcpy(c->out, &w->out_free, sizeof(w->out_free));
    w->out_free = c->out;
    c->out = NULL;
}

static void on_closed(struct io_conn *io)
{
    struct client *c = client_of(io);

    release_out(c);
    free_rx(c);
    free(c->control);
    c->control = NULL;
    c->sending = false;
    c->state = CLIENT_NEW;
    if (c->group->role->on_closed != NULL)
        c->group->role->on_closed(c);
}

/* Sending ---------------------------------------------------------------------------------------
 */

/* One send in the making. */
struct outgoing {
    struct iovec iov[IO_IOV_MAX];
    int count;
    size_t bytes;
    uint8_t *at; /* where the next bytes go in c->out */
};

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
static void transmit(struct client *c, const struct outgoing *o)
{
    int r = io_send(c->worker->io, &c->io, o->iov, o->count, o->bytes);

    if (r < 0)
        fail(c, CLIENT_WHY_LOST, r, NULL);
    else if (r == IO_PENDING)
        c->sending = true;
    else
        release_out(c);
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
    struct outgoing o = {.count = 0};
    struct stamp s = {.sender = c->id};
    uint64_t first = c->seq;
    uint64_t now_ns = worker_now(w);

    if (!acquire_out(c))
        return;
    o.at = c->out;
    while (c->seq < end_seq && c->seq - first < w->batch) {
        s.seq = c->seq;
        s.time_ns = time_of_message(c, now_ns);
        if (!c->compressed)
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

static void send_control(struct client *c, uint8_t opcode, const uint8_t *payload, uint32_t len)
{
    uint8_t frame[CONTROL_BYTES];

    if (c->sending)
        keep_control(c, opcode, payload, len);
    else
        client_send_raw(c, frame, make_control(c, frame, opcode, payload, len));
}

bool client_send_raw(struct client *c, const void *bytes, size_t len)
{
    struct outgoing o = {.count = 0};

    CHECK(len <= HANDSHAKE_REQUEST_MAX);
    if (c->sending || !acquire_out(c))
        return false;
    memcpy(c->out, bytes, len);
    add_span(&o, c->out, len);
    transmit(c, &o);
    return true;
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
        send_control(c, WS_OP_PING, NULL, 0);
}

void client_leave(struct client *c)
{
    static const uint8_t code[] = {NORMAL_CLOSE >> 8, NORMAL_CLOSE & 0xff};

    if (c->state != CLIENT_OPEN)
        return;
    c->state = CLIENT_LEAVING;
    send_control(c, WS_OP_CLOSE, code, sizeof(code));
}

static void on_sent(struct io_conn *io, int err)
{
    struct client *c = client_of(io);

    release_out(c);
    c->sending = false;
    if (err != 0) {
        fail(c, CLIENT_WHY_LOST, err, NULL);
        return;
    }
    send_waiting_control(c);
    send_messages(c);
}

/* Receiving -------------------------------------------------------------------------------------
 */

static struct client_rx *need_rx(struct client *c)
{
    if (c->rx == NULL)
        c->rx = calloc(1, sizeof(*c->rx));
    if (c->rx == NULL)
        worker_fail(c->worker, "no memory for what is received");
    return c->rx;
}

static bool keep(struct client *c, const uint8_t *ptr, size_t len, size_t expected)
{
    struct client_rx *rx = need_rx(c);

    if (rx == NULL || len == 0)
        return rx != NULL;
    if (rx->len + len > rx->cap) {
        size_t cap = rx->len + (expected > len ? expected : len);
        uint8_t *data = realloc(rx->data, cap);
        if (data == NULL) {
            worker_fail(c->worker, "no memory for a message of %zu bytes", cap);
            return false;
        }
        rx->data = data;
        rx->cap = cap;
    }
    memcpy(rx->data + rx->len, ptr, len);
    rx->len += len;
    return true;
}

static void hand_over(struct client *c, struct bytes payload, uint8_t opcode, bool compressed)
{
    struct worker *w = c->worker;

    if (compressed) {
        deflate_inflate_begin(w->deflate, payload.ptr, payload.len, MESSAGE_BYTES_MAX);
        if (deflate_inflate_step(w->deflate, MESSAGE_BYTES_MAX, &payload) != DEFLATE_DONE) {
            fail(c, CLIENT_WHY_PROTOCOL, 0, "a compressed message does not inflate");
            return;
        }
    }
    if (unlikely(c->greetings > 0)) {
        c->greetings--;
        return;
    }
    w->received++;
    w->tally->received++;
    w->tally->received_bytes += payload.len;
    c->group->role->on_message(c, payload, opcode);
}

static void take_close(struct client *c, const uint8_t *payload, size_t len)
{
    char reason[WS_CONTROL_PAYLOAD_MAX + 1] = "";
    int code = len < 2 ? 0 : payload[0] << 8 | payload[1];

    if (len > 2)
        memcpy(reason, payload + 2, len - 2);
    fail(c, CLIENT_WHY_CLOSED, code, reason);
}

static void take_control(struct client *c, uint8_t opcode, const uint8_t *payload, size_t len)
{
    switch (opcode) {
    case WS_OP_PING:
        if (c->state == CLIENT_OPEN)
            send_control(c, WS_OP_PONG, payload, (uint32_t)len);
        break;
    case WS_OP_PONG:
        if (c->group->role->on_pong != NULL)
            c->group->role->on_pong(c);
        break;
    default:
        take_close(c, payload, len);
        break;
    }
}

static void take_control_piece(struct client *c, const struct ws_piece *p)
{
    struct client_rx *rx;

    if (p->frame_start && p->frame_end) {
        take_control(c, p->opcode, p->ptr, p->len);
        return;
    }
    rx = need_rx(c);
    if (rx == NULL)
        return;
    if (p->frame_start)
        rx->control_len = 0;
    memcpy(rx->control + rx->control_len, p->ptr, p->len);
    rx->control_len += (uint8_t)p->len;
    if (p->frame_end)
        take_control(c, p->opcode, rx->control, rx->control_len);
}

static void take_piece(struct client *c, const struct ws_piece *p)
{
    if (ws_opcode_is_control(p->opcode)) {
        take_control_piece(c, p);
        return;
    }
    if (p->message_start && p->message_end) {
        hand_over(c, (struct bytes){p->ptr, p->len}, p->opcode, p->compressed);
        return;
    }
    if (!keep(c, p->ptr, p->len, (size_t)p->frame_len))
        return;
    if (p->message_end) {
        struct bytes whole = {c->rx->data, c->rx->len};
        c->rx->len = 0;
        hand_over(c, whole, p->opcode, p->compressed);
    }
}

/* A whole unfragmented, uncompressed message of up to 64 KiB: nearly all of them. False: the
 * decoder knows. */
static inline bool take_simple(struct client *c, struct bytes *in)
{
    uint8_t *p = in->ptr;
    size_t head = 2, len;

    if (in->len < 4 || (p[0] != (0x80 | WS_OP_BINARY) && p[0] != (0x80 | WS_OP_TEXT)))
        return false;
    len = p[1];
    if (len >= 126) {
        len = (size_t)p[2] << 8 | p[3];
        head = 4;
        if (p[1] != 126 || len < 126)
            return false;
    }
    if (in->len - head < len)
        return false;
    in->ptr += head + len;
    in->len -= head + len;
    hand_over(c, (struct bytes){p + head, len}, p[0] & 0x0f, false);
    return true;
}

static void take_frames(struct client *c, struct bytes in)
{
    struct ws_limits limits = {.max_message_bytes = MESSAGE_BYTES_MAX,
                               .max_fragments = UINT32_MAX,
                               .rsv1 = c->compressed,
                               .from_server = true};
    struct ws_piece piece;
    enum ws_status st = WS_STATUS_PIECE;

    while (in.len > 0 && client_is_alive(c) && st == WS_STATUS_PIECE) {
        if (ws_decoder_is_idle(&c->decoder) && take_simple(c, &in))
            continue;
        st = ws_decode(&c->decoder, &limits, &in, &piece);
        if (st == WS_STATUS_PIECE)
            take_piece(c, &piece);
        else if (st != WS_STATUS_NEED_MORE)
            fail(c, CLIENT_WHY_PROTOCOL, 0, ws_status_text(st));
    }
    if (c->rx != NULL && ws_decoder_is_idle(&c->decoder))
        free_rx(c);
    if (c->state == CLIENT_OPEN && c->group->role->on_batch != NULL)
        c->group->role->on_batch(c);
}

static void take_answer(struct client *c, const uint8_t *head, size_t len)
{
    struct worker *w = c->worker;
    struct handshake_answer a;

    handshake_read(head, len, w->run->config.compress, &a);
    if (a.problem != NULL) {
        fail(c, a.status != 0 && a.status != 101 ? CLIENT_WHY_STATUS : CLIENT_WHY_UPGRADE, a.status,
             a.problem);
        return;
    }
    client_list_remove(&w->opening, c);
    c->compressed = a.compressed;
    c->state = CLIENT_OPEN;
    w->open++;
    c->group->role->on_open(c);
}

/* Takes the head, in any pieces; what follows it stays in *in. */
static void take_head(struct client *c, struct bytes *in)
{
    size_t kept = c->rx != NULL ? c->rx->len : 0;
    const uint8_t *head = in->ptr;
    size_t have = in->len;

    if (kept > 0 || handshake_head_len(in->ptr, in->len) == 0) {
        if (!keep(c, in->ptr, in->len, HANDSHAKE_ANSWER_MAX))
            return;
        head = c->rx->data;
        have = c->rx->len;
    }
    size_t len = handshake_head_len(head, have);
    if (len > HANDSHAKE_ANSWER_MAX || (len == 0 && have > HANDSHAKE_ANSWER_MAX)) {
        fail(c, CLIENT_WHY_UPGRADE, 0, "an answer without an end");
        return;
    }
    if (len == 0) {
        in->len = 0;
        return;
    }
    in->ptr += len - kept;
    in->len -= len - kept;
    take_answer(c, head, len);
    free_rx(c);
}

static void on_recv(struct io_conn *io, struct bytes in)
{
    struct client *c = client_of(io);

    worker_now(c->worker);
    if (c->state == CLIENT_HEAD)
        take_head(c, &in);
    if (in.len > 0 && (c->state == CLIENT_OPEN || c->state == CLIENT_LEAVING))
        take_frames(c, in);
}

static void on_eof(struct io_conn *io, int err)
{
    fail(client_of(io), CLIENT_WHY_LOST, err, NULL);
}

/* Opening ---------------------------------------------------------------------------------------
 */

uint32_t client_request(const struct client *c, char *out)
{
    const struct run *r = c->worker->run;
    struct target_values values = {c->number, c->number % c->group->rooms, r->number};
    char path[TARGET_PATH_MAX];

    target_fill(c->group->path, &values, path);
    return handshake_request(out, r->target.host, path, r->config.compress);
}

static void on_connect(struct io_conn *io, int err)
{
    struct client *c = client_of(io);
    char out[HANDSHAKE_REQUEST_MAX];

    if (err != 0) {
        fail(c, CLIENT_WHY_CONNECT, err, NULL);
        return;
    }
    c->state = CLIENT_HEAD;
    client_send_raw(c, out,
                    c->group->role->request != NULL ? c->group->role->request(c, out)
                                                    : client_request(c, out));
}

static const struct io_events client_events = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_connect = on_connect,
    .on_closed = on_closed,
};

/* 127.16.0.1 and up for the first worker, 127.17.0.1 for the second ... 250 to each third byte, so
 * that none ends with 0 or 255. */
static void choose_source(const struct client *c, uint32_t sources, struct io_addr *from)
{
    uint32_t n = c->number % sources;

    *from = c->worker->run->target.addr;
    from->port = 0;
    from->ip[13] = (uint8_t)(16 + c->worker->idx);
    from->ip[14] = (uint8_t)(n / 250);
    from->ip[15] = (uint8_t)(1 + n % 250);
}

void client_open(struct client *c)
{
    struct worker *w = c->worker;
    const struct run *r = w->run;
    struct io_addr from;
    bool bound = r->target.is_loopback;

    CHECK(c->state == CLIENT_NEW);
    c->io.events = &client_events;
    c->state = CLIENT_CONNECTING;
    c->decoder = (struct ws_decoder){0};
    c->seq = c->allowed = 0;
    c->stream = (struct verify_stream){0};
    c->order = 0;
    c->compressed = false;
    c->greetings = r->config.greetings;
    c->opened_ns = worker_now(w);
    client_list_add(&w->opening, c);
    if (bound)
        choose_source(c, w->sources, &from);
    int err = io_connect(w->io, &c->io, &r->target.addr, bound ? &from : NULL);
    if (err == 0)
        return;
    end(c, CLIENT_WHY_CONNECT, err, NULL);
    c->state = CLIENT_NEW; /* nothing was attached, so io tells no end of it */
    if (c->group->role->on_closed != NULL)
        c->group->role->on_closed(c);
}
