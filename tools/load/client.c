/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* One WebSocket connection of the generator. On its worker's thread.
 *
 * Bytes in go on_recv(), with TLS client_tls_input(), then client_input(), take_frames(); what goes
 * out is client_tx.c's. A frame that lies whole in what io lends is judged in place; only what is
 * cut is copied, into struct client_rx, which is given back as soon as it is empty. */

#include "tools/load/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/ws_encoder.h"
#include "tools/load/client_tls.h"
#include "tools/load/handshake.h"
#include "tools/load/run.h"
#include "tools/load/worker.h"

#define MESSAGE_BYTES_MAX (64ULL << 20)

/* What has come of something that is not complete. */
struct client_rx {
    uint8_t control[WS_CONTROL_PAYLOAD_MAX];
    uint8_t control_len;
    uint8_t *data;
    size_t len;
    size_t cap;
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
    case CLIENT_WHY_TLS:
        snprintf(text, cap, "TLS: %s%s", what,
                 end->number != 0 ? "; see --tls-ca, --tls-name and --tls-insecure" : "");
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

static void done_shaking(struct client *c)
{
    c->worker->shaking -= c->shaking;
    c->shaking = false;
}

static void end(struct client *c, enum client_why why, int number, const char *text)
{
    struct client_end e = {why, number, text};
    struct worker *w = c->worker;

    if (!client_is_alive(c))
        return;
    done_shaking(c);
    if (c->state < CLIENT_OPEN)
        client_list_remove(&w->opening, c);
    else
        w->open--;
    c->state = CLIENT_ENDED;
    if (c->group->role->on_end != NULL)
        c->group->role->on_end(c, &e);
    else if (why != CLIENT_WHY_SELF)
        worker_lost(c, &e);
}

void client_fail(struct client *c, enum client_why why, int number, const char *text)
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
    client_fail(c, CLIENT_WHY_TIMEOUT, 0, NULL);
}

static void on_closed(struct io_conn *io)
{
    struct client *c = client_of(io);

    client_tx_free(c);
    client_tls_free(c);
    free_rx(c);
    c->state = CLIENT_NEW;
    if (c->group->role->on_closed != NULL)
        c->group->role->on_closed(c);
}

static void on_sent(struct io_conn *io, int err)
{
    struct client *c = client_of(io);

    if (err != 0)
        client_fail(c, CLIENT_WHY_LOST, err, NULL);
    else
        client_tx_sent(c);
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
            client_fail(c, CLIENT_WHY_PROTOCOL, 0, "a compressed message does not inflate");
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
    client_fail(c, CLIENT_WHY_CLOSED, code, reason);
}

static void take_control(struct client *c, uint8_t opcode, const uint8_t *payload, size_t len)
{
    switch (opcode) {
    case WS_OP_PING:
        if (c->state == CLIENT_OPEN)
            client_tx_control(c, WS_OP_PONG, payload, (uint32_t)len);
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
            client_fail(c, CLIENT_WHY_PROTOCOL, 0, ws_status_text(st));
    }
    if (c->rx != NULL && ws_decoder_is_idle(&c->decoder))
        free_rx(c);
}

static void take_answer(struct client *c, const uint8_t *head, size_t len)
{
    struct worker *w = c->worker;
    struct handshake_answer a;

    handshake_read(head, len, w->run->config.compress, &a);
    if (a.problem != NULL) {
        client_fail(c, a.status != 0 && a.status != 101 ? CLIENT_WHY_STATUS : CLIENT_WHY_UPGRADE,
                    a.status, a.problem);
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
        client_fail(c, CLIENT_WHY_UPGRADE, 0, "an answer without an end");
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

bool client_input(struct client *c, struct bytes in)
{
    if (c->state == CLIENT_HEAD)
        take_head(c, &in);
    if (in.len == 0 || (c->state != CLIENT_OPEN && c->state != CLIENT_LEAVING))
        return false;
    take_frames(c, in);
    return true;
}

static void on_recv(struct io_conn *io, struct bytes in)
{
    struct client *c = client_of(io);

    worker_now(c->worker);
    bool has_frames = c->tls != NULL ? client_tls_input(c, in) : client_input(c, in);
    if (has_frames && c->state == CLIENT_OPEN && c->group->role->on_batch != NULL)
        c->group->role->on_batch(c);
}

static void on_eof(struct io_conn *io, int err)
{
    struct client *c = client_of(io);

    if (c->state == CLIENT_SHAKE)
        client_fail(c, CLIENT_WHY_TLS, 0, "the server ended the connection in the handshake");
    else
        client_fail(c, CLIENT_WHY_LOST, err, NULL);
}

/* Opening ---------------------------------------------------------------------------------------
 */

uint32_t client_request(const struct client *c, char *out)
{
    const struct run *r = c->worker->run;
    struct target_values values = {c->number, c->room, r->number};
    char path[TARGET_PATH_MAX];

    target_fill(c->group->path, &values, path);
    return handshake_request(out, r->target.host, path, r->config.compress);
}

void client_ask(struct client *c, struct bytes flight)
{
    char out[HANDSHAKE_REQUEST_MAX];

    done_shaking(c);
    c->state = CLIENT_HEAD;
    client_tx_request(c, flight, out,
                      c->group->role->request != NULL ? c->group->role->request(c, out)
                                                      : client_request(c, out));
}

static void on_connect(struct io_conn *io, int err)
{
    struct client *c = client_of(io);

    if (err != 0)
        client_fail(c, CLIENT_WHY_CONNECT, err, NULL);
    else if (c->worker->tls != NULL)
        client_tls_begin(c);
    else
        client_ask(c, (struct bytes){0});
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
    c->shaking = w->tls != NULL;
    w->shaking += c->shaking;
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
