/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_INFLATE_H
#define NET_INFLATE_H

/* Incoming compressed messages (RFC 7692 7.2.2): one at a time through the shard's one inflater,
 * and in a turn no more than the rest of its budget (net.work_left). What needs more stands in a
 * line, first come, first served; its connection is held (CONN_HOLD_INFLATE). On the shard's
 * thread.
 *
 * The line is linked by conn_rx.next_inflating; conn_rx.deflated is the message. A long one is
 * checked and copied out of the inflater in slices, too (net.inflate_copy). */

#include "net/conn.h"

/* Bytes of work that fit into a microsecond of --turn-budget: inflating makes 180 to 470 of them
 * from JSON and from zeros, on one core at 2 to 3 GHz. */
#define WORK_BYTES_PER_US 200
/* Compressing a byte is that much work: 40 to 75 of them take a microsecond. */
#define WORK_PER_COMPRESSED 4
/* So many bytes are checked and copied for one byte of work: 2,000 of them and more take a
 * microsecond, fresh memory included. */
#define COPIED_PER_WORK 10

/* Inflates the message and hands it to conn_ws_inflated(), now or in a later turn; or ends the
 * connection. `in` is borrowed, but in->owned may be taken. */
void inflate_message(struct conn *c, struct net_message *in);

/* Goes on with the line. Each turn. */
void inflate_turn(struct net *n);

/* Takes c out of the line, wherever it stands, and drops its message. */
void inflate_cancel(struct conn *c);

#endif
