/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The line before the shard's inflater. On the shard's thread. */

#include "net/inflate.h"

#include <string.h>

#include "net/conn_rx.h"

/* The inflater's buffer is kept for the next message up to this size. */
#define OUT_KEPT_BYTES (64u << 10)
/* Up to this size a message is checked and copied at once. */
#define COPY_AT_ONCE_BYTES (256u << 10)

static void spend(struct net *n, uint64_t work)
{
    n->work_left -= min_u64(n->work_left, work);
}

/* One step of the message that the inflater is at, `len` bytes long. */
static enum deflate_status step(struct net *n, size_t len, struct bytes *out)
{
    enum deflate_status st = deflate_inflate_step(n->deflate, n->work_left, out);

    spend(n, st == DEFLATE_MORE ? n->work_left : st == DEFLATE_DONE ? len + out->len : len);
    return st;
}

/* The inflater is through with a message of c. */
static void finish(struct conn *c, uint8_t opcode, enum deflate_status st, struct bytes out)
{
    struct net *n = c->net;

    struct net_message in = {.opcode = opcode, .payload = out};

    if (st == DEFLATE_DONE)
        conn_ws_inflated(c, &in, false);
    else
        conn_end(c, st == DEFLATE_TOO_BIG ? CONN_END_TOO_BIG
                    : st == DEFLATE_BAD   ? CONN_END_BAD_DEFLATE
                                          : CONN_END_NO_MEMORY);
    if (st != DEFLATE_DONE || out.len > OUT_KEPT_BYTES)
        deflate_trim(n->deflate);
}

/* Keeps the message and puts c at the end of the line. False: no memory, c is ended. */
static bool stand_in_line(struct conn *c, struct net_message *in)
{
    struct net *n = c->net;
    struct conn_rx *rx = conn_rx_get(c);
    struct message *m = rx == NULL ? NULL : net_message_take(n, in);

    if (m == NULL) {
        conn_end(c, CONN_END_NO_MEMORY);
        return false;
    }
    conn_rx_put(c, &rx->deflated, m);
    rx->next_inflating = NULL;
    if (n->inflating == NULL)
        n->inflating = c;
    else
        n->inflating_last->rx->next_inflating = c;
    n->inflating_last = c;
    conn_hold(c, CONN_HOLD_INFLATE);
    net_stat(n, NET_STAT_INFLATE_WAITS);
    return true;
}

/* The common case: nobody waits, and the message is inflated at once. */
static void inflate_now(struct conn *c, struct net_message *in)
{
    struct net *n = c->net;
    size_t len = in->payload.len;
    struct bytes out = {0};
    enum deflate_status st;

    deflate_inflate_begin(n->deflate, in->payload.ptr, len, n->config->max_message_bytes);
    st = step(n, len, &out);
    if (st != DEFLATE_MORE) {
        finish(c, in->opcode, st, out);
        return;
    }
    if (!stand_in_line(c, in))
        return;
    deflate_inflate_moved(n->deflate, message_payload(c->rx->deflated), len);
    n->inflate_begun = true;
}

void inflate_message(struct conn *c, struct net_message *in)
{
    struct net *n = c->net;

    net_stat(n, NET_STAT_INFLATED);
    if (n->deflate == NULL)
        n->deflate = deflate_new();
    if (n->deflate == NULL)
        conn_end(c, CONN_END_NO_MEMORY);
    else if (n->inflating == NULL && n->work_left > 0)
        inflate_now(c, in);
    else
        (void)stand_in_line(c, in);
}

static void drop_copy(struct net *n)
{
    if (n->inflate_copy.to != NULL)
        message_free(&n->shard->messages, n->inflate_copy.to);
    n->inflate_copy.to = NULL;
}

static void leave_line(struct conn *c)
{
    struct net *n = c->net;
    struct conn *before = NULL;

    for (struct conn *at = n->inflating; at != c; at = at->rx->next_inflating)
        before = at;
    if (before != NULL) {
        before->rx->next_inflating = c->rx->next_inflating;
    } else {
        n->inflating = c->rx->next_inflating;
        n->inflate_begun = false;
        drop_copy(n);
    }
    if (n->inflating_last == c)
        n->inflating_last = before;
}

/* c ends before its message is inflated; what there is of it by now goes, too. */
static void leave_line_unserved(struct conn *c)
{
    struct net *n = c->net;
    bool is_begun = n->inflating == c && n->inflate_begun;

    leave_line(c);
    if (is_begun)
        deflate_trim(n->deflate);
}

/* c has left the line, and goes on. */
static void let_go(struct conn *c)
{
    conn_rx_drop(c, &c->rx->deflated);
    conn_rx_trim(c);
    conn_unhold(c, CONN_HOLD_INFLATE);
}

static void give_up(struct conn *c, enum conn_end why)
{
    leave_line(c);
    deflate_trim(c->net->deflate);
    conn_end(c, why);
    let_go(c);
}

static void begin_copy(struct net *n, struct bytes out)
{
    struct message *to = message_new(&n->shard->messages, (uint32_t)out.len);

    if (to == NULL) {
        give_up(n->inflating, CONN_END_NO_MEMORY);
        return;
    }
    n->inflate_copy.to = to;
    n->inflate_copy.from = out;
    utf8_reset(&n->inflate_copy.utf8);
}

static void copy_done(struct net *n)
{
    struct conn *c = n->inflating;
    struct message *to = n->inflate_copy.to;
    struct net_message in = {.opcode = c->rx->deflated->opcode,
                             .payload = {message_payload(to), to->payload_len},
                             .owned = to};

    n->inflate_copy.to = NULL;
    leave_line(c);
    deflate_trim(n->deflate);
    conn_ws_inflated(c, &in, true);
    let_go(c);
}

static void copy_some(struct net *n)
{
    struct inflate_copy *copy = &n->inflate_copy;
    struct conn *c = n->inflating;
    bool is_text = c->rx->deflated->opcode == WS_OP_TEXT;
    uint64_t most = n->work_left < UINT32_MAX ? n->work_left * COPIED_PER_WORK : UINT64_MAX;
    size_t len = (size_t)min_u64(copy->from.len, most);

    spend(n, len / COPIED_PER_WORK + 1);
    memcpy(message_payload(copy->to) + copy->to->payload_len - copy->from.len, copy->from.ptr, len);
    if (is_text && !utf8_feed(&copy->utf8, copy->from.ptr, len)) {
        give_up(c, CONN_END_BAD_UTF8);
        return;
    }
    copy->from.ptr += len;
    copy->from.len -= len;
    if (copy->from.len > 0)
        return;
    if (is_text && !utf8_is_complete(&copy->utf8))
        give_up(c, CONN_END_BAD_UTF8);
    else
        copy_done(n);
}

/* Goes on with the first in line. */
static void inflate_first(struct net *n)
{
    struct conn *c = n->inflating;
    struct message *m = c->rx->deflated;
    struct bytes out = {0};
    enum deflate_status st;

    if (c->state != CONN_OPEN) {
        leave_line_unserved(c);
        let_go(c);
        return;
    }
    if (n->inflate_copy.to != NULL) {
        copy_some(n);
        return;
    }
    if (!n->inflate_begun)
        deflate_inflate_begin(n->deflate, message_payload(m), m->payload_len,
                              n->config->max_message_bytes);
    n->inflate_begun = true;
    st = step(n, m->payload_len, &out);
    if (st == DEFLATE_MORE)
        return;
    if (st == DEFLATE_DONE && out.len > COPY_AT_ONCE_BYTES) {
        begin_copy(n, out);
        return;
    }
    leave_line(c);
    finish(c, m->opcode, st, out);
    let_go(c);
}

void inflate_turn(struct net *n)
{
    while (n->inflating != NULL && n->work_left > 0)
        inflate_first(n);
}

void inflate_cancel(struct conn *c)
{
    if (c->rx == NULL || c->rx->deflated == NULL)
        return;
    leave_line_unserved(c);
    conn_rx_drop(c, &c->rx->deflated);
}
