/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The WebSocket part of a connection: pieces of frames become messages, control frames are answered
 * (RFC 6455 5.4, 5.5). On the shard's thread. */

#include <string.h>

#include "net/conn_reply.h"
#include "net/conn_rx.h"
#include "net/inflate.h"
#include "net/ws_encoder.h"

/* Only where --message-rate is on. */
static bool message_rate_passes(struct conn *c)
{
    const struct option_rate *rate = &c->net->config->message_rate;
    uint64_t cost_ns = NS_PER_SEC / rate->per_second;

    if (gcra_pass(&c->message_tat, c->net->io->now_ns, cost_ns, cost_ns * rate->burst))
        return true;
    conn_end(c, CONN_END_MESSAGE_RATE);
    return false;
}

static inline bool may_speak(struct conn *c)
{
    return likely(!c->net->message_rate) || message_rate_passes(c);
}

/* Keeps a message that the app will take later (it holds the connection). */
static void park(struct conn *c, struct net_message *in)
{
    struct conn_rx *rx = conn_rx_get(c);
    struct message *m = rx == NULL ? NULL : net_message_take(c->net, in);

    if (m == NULL) {
        conn_end(c, CONN_END_NO_MEMORY);
        return;
    }
    conn_rx_put(c, &rx->parked, m);
}

static inline void offer(struct conn *c, struct net_message *in)
{
    struct net *n = c->net;

    if (unlikely(!n->on_message(n->app_ctx, c, in)))
        park(c, in);
}

/* What the app did not take over of a message that was its own memory already. */
static void free_untaken(struct conn *c, struct net_message *in)
{
    if (in->owned != NULL)
        message_free(&c->net->shard->messages, in->owned);
}

bool conn_ws_offer_parked(struct conn *c)
{
    struct conn_rx *rx = c->rx;
    struct net_message in = {.opcode = rx->parked->opcode};

    in.owned = conn_rx_take(c, &rx->parked, rx->parked->payload_len);
    in.payload = (struct bytes){message_payload(in.owned), in.owned->payload_len};
    if (c->state == CONN_OPEN)
        offer(c, &in);
    free_untaken(c, &in);
    conn_rx_trim(c);
    return c->holds == 0;
}

/* A message is complete (and counted): rates, then upward. */
static inline void deliver(struct conn *c, struct net_message *in)
{
    if (may_speak(c))
        offer(c, in);
}

void conn_ws_inflated(struct conn *c, struct net_message *m, bool is_checked)
{
    if (!is_checked && m->opcode == WS_OP_TEXT && !simd->utf8_valid(m->payload.ptr, m->payload.len))
        conn_end(c, CONN_END_BAD_UTF8);
    else
        deliver(c, m);
    free_untaken(c, m);
}

/* A whole message in the input: one frame, one piece. */
static inline void whole_message(struct conn *c, struct bytes payload, uint8_t opcode, uint32_t key,
                                 size_t rest)
{
    struct net_message in = {.payload = payload, .rest = rest, .key = key, .opcode = opcode};

    if (opcode == WS_OP_TEXT) {
        net_message_unmask(&in);
        if (unlikely(!simd->utf8_valid(payload.ptr, payload.len))) {
            conn_end(c, CONN_END_BAD_UTF8);
            return;
        }
    }
    deliver(c, &in);
}

static void compressed_message(struct conn *c, const struct ws_piece *piece)
{
    struct net_message in = {.payload = {piece->ptr, piece->len}, .opcode = piece->opcode};

    inflate_message(c, &in);
}

static void assembled_message(struct conn *c, uint8_t opcode)
{
    struct conn_rx *rx = c->rx;
    struct net_message in = {.opcode = opcode};
    bool compressed = rx->compressed;

    if (rx->assembly != NULL) {
        in.owned = conn_rx_take(c, &rx->assembly, rx->assembly_len);
        in.payload = (struct bytes){message_payload(in.owned), rx->assembly_len};
    }
    rx->assembly_len = 0;
    rx->in_message = false;
    conn_rx_trim(c);
    if (compressed)
        inflate_message(c, &in);
    else
        deliver(c, &in);
    free_untaken(c, &in);
}

/* A part of a message that is fragmented or cut by the end of the input. */
static void message_piece(struct conn *c, const struct ws_piece *piece)
{
    struct conn_rx *rx = conn_rx_get(c);
    bool text;

    if (rx == NULL)
        return;
    if (piece->message_start) {
        rx->in_message = true;
        rx->compressed = piece->compressed;
        utf8_reset(&rx->utf8);
    }
    text = piece->opcode == WS_OP_TEXT && !rx->compressed;
    if (text && !utf8_feed(&rx->utf8, piece->ptr, piece->len)) {
        conn_end(c, CONN_END_BAD_UTF8);
        return;
    }
    if (piece->len > 0 && !conn_rx_append(c, &rx->assembly, &rx->assembly_len, piece->ptr,
                                          piece->len, rx->assembly_len + piece->frame_len))
        return;
    if (!piece->message_end)
        return;
    if (text && !utf8_is_complete(&rx->utf8))
        conn_end(c, CONN_END_BAD_UTF8);
    else
        assembled_message(c, piece->opcode);
}

/* Control frames
 * ------------------------------------------------------------------------------------ */

static bool has_room_for_pong(struct conn *c)
{
    if (likely(c->sendq.bytes <= c->net->max_queue_bytes && !conn_queue_is_crowded(c)))
        return true;
    return conn_queue_overfull(c, WS_CONTROL_FRAME_MAX);
}

static void answer_ping(struct conn *c, const uint8_t *payload, uint32_t len)
{
    uint8_t frame[WS_CONTROL_FRAME_MAX];

    net_stat(c->net, NET_STAT_PINGS_IN);
    if (c->state != CONN_OPEN || !may_speak(c) || !has_room_for_pong(c))
        return;
    if (!conn_queue_bytes(c, frame, ws_encode_control(frame, WS_OP_PONG, payload, len)))
        conn_queue_failed(c, CONN_END_NO_MEMORY);
}

/* RFC 6455 5.5.1, 7.4, 8.1. */
static enum conn_end check_close(struct conn *c, const uint8_t *payload, uint32_t len)
{
    if (len == 0)
        return CONN_END_PEER_CLOSE;
    if (len == 1)
        return CONN_END_PROTOCOL;
    c->peer_code = (uint16_t)(payload[0] << 8 | payload[1]);
    if (!ws_close_code_is_valid(c->peer_code))
        return CONN_END_PROTOCOL;
    if (!simd->utf8_valid(payload + 2, len - 2))
        return CONN_END_BAD_UTF8;
    return CONN_END_PEER_CLOSE;
}

static void peer_close(struct conn *c, const uint8_t *payload, uint32_t len)
{
    enum conn_end why = check_close(c, payload, len);

    if (c->state == CONN_OPEN) {
        conn_end(c, why);
        return;
    }
    c->end = CONN_END_PEER_CLOSE; /* both have said it: no need to linger */
    c->state = CONN_FLUSHING;
    conn_mark_dirty(c);
}

static void control_frame(struct conn *c, uint8_t opcode, const uint8_t *payload, uint32_t len)
{
    switch (opcode) {
    case WS_OP_PING:
        answer_ping(c, payload, len);
        return;
    case WS_OP_PONG:
        net_stat(c->net, NET_STAT_PONGS_IN);
        return;
    default:
        peer_close(c, payload, len);
    }
}

static void control_piece(struct conn *c, const struct ws_piece *piece)
{
    struct conn_rx *rx;
    uint32_t len;

    if (likely(piece->frame_start && piece->frame_end)) {
        control_frame(c, piece->opcode, piece->ptr, (uint32_t)piece->len);
        return;
    }
    rx = conn_rx_get(c);
    if (rx == NULL)
        return;
    if (piece->frame_start)
        rx->control_len = 0;
    memcpy(rx->control + rx->control_len, piece->ptr, piece->len);
    rx->control_len += (uint8_t)piece->len;
    if (!piece->frame_end)
        return;
    len = rx->control_len;
    rx->control_len = 0;
    control_frame(c, piece->opcode, rx->control, len);
    conn_rx_trim(c);
}

/* Frames
 * -------------------------------------------------------------------------------------------- */

static void violation(struct conn *c, enum ws_status st)
{
    if (c->state == CONN_CLOSING) {
        c->state = CONN_FLUSHING;
        conn_mark_dirty(c);
        return;
    }
    conn_end(c, st == WS_STATUS_TOO_BIG     ? CONN_END_TOO_BIG
                : st == WS_STATUS_FRAGMENTS ? CONN_END_FRAGMENTS
                                            : CONN_END_PROTOCOL);
}

static void stop_clock(struct conn *c)
{
    c->flags &= (uint16_t)~CONN_F_BEGUN;
    conn_clear_deadline(c);
}

/* The clock of an incomplete frame or message starts with it and ends with it; control frames in
 * between change nothing. */
static void watch_incomplete(struct conn *c)
{
    if (likely(ws_decoder_is_idle(&c->decoder))) {
        if (unlikely(c->flags & CONN_F_BEGUN))
            stop_clock(c);
    } else if (!(c->flags & CONN_F_BEGUN)) {
        c->flags |= CONN_F_BEGUN;
        conn_set_deadline(c, c->net->config->message_timeout_ns);
    }
}

static inline void data_piece(struct conn *c, const struct ws_piece *piece, size_t rest)
{
    if (unlikely(c->state != CONN_OPEN))
        return; /* closing: only the peer's close frame matters */
    if (piece->message_end)
        net_stat(c->net, NET_STAT_MESSAGES_IN);
    if (!piece->message_start || !piece->message_end)
        message_piece(c, piece);
    else if (piece->compressed)
        compressed_message(c, piece);
    else
        whole_message(c, (struct bytes){piece->ptr, piece->len}, piece->opcode, 0, rest);
    if (piece->message_end && (c->flags & CONN_F_BEGUN) && c->state == CONN_OPEN)
        stop_clock(c);
}

static inline bool takes_frames(const struct conn *c)
{
    return likely(c->holds == 0) && (likely(c->state == CONN_OPEN) || c->state == CONN_CLOSING);
}

/* Out of line, so that the loop over small messages saves no registers for it. */
__attribute__((noinline)) static enum ws_status
any_piece(struct conn *c, const struct ws_limits *limits, struct bytes *in)
{
    struct ws_piece piece;
    enum ws_status st = ws_decode(&c->decoder, limits, in, &piece);

    if (st != WS_STATUS_PIECE)
        return st;
    if (ws_opcode_is_control(piece.opcode))
        control_piece(c, &piece);
    else
        data_piece(c, &piece, in->len);
    return st;
}

/* The loop that nearly all messages go through. */
static inline void small_messages(struct conn *c, const struct ws_limits *limits, struct bytes *in)
{
    uint32_t small_max = ws_small_max(limits);
    struct bytes payload;
    uint64_t count = 0;
    uint8_t opcode;
    uint32_t key;

    if (!ws_decoder_is_idle(&c->decoder))
        return;
    while (c->holds == 0 && c->state == CONN_OPEN &&
           ws_decode_small(small_max, in, &payload, &opcode, &key)) {
        whole_message(c, payload, opcode, key, in->len);
        count++;
    }
    stats_add(&c->net->stats[NET_STAT_MESSAGES_IN], count);
}

void conn_ws_input(struct conn *c, struct bytes *in)
{
    const struct ws_limits *limits = &c->net->ws_limits[(c->flags & CONN_F_DEFLATE) != 0];
    enum ws_status st;

    do {
        small_messages(c, limits, in);
        if (in->len == 0 || !takes_frames(c))
            break;
        st = any_piece(c, limits, in);
        if (unlikely(st > WS_STATUS_PIECE))
            violation(c, st);
    } while (in->len > 0 && takes_frames(c));
    conn_reply_done(c->net);
    if (c->state == CONN_OPEN)
        watch_incomplete(c);
}
