/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_DEFLATE_H
#define NET_DEFLATE_H

/* permessage-deflate (RFC 7692) without context takeover on either side, on zlib. One shard: the
 * compressor and inflater are the shard's, made when first used, reset for each message. */

#include <stdbool.h>

#include "core/base.h"

struct deflate;

/* What a server answers to an offer. */
struct deflate_params {
    bool accepted;
    bool server_max_window_bits_given; /* the client asked: it must stand in the answer */
    bool client_max_window_bits_given; /* the client offered: the answer may set it; we do not */
    uint8_t server_max_window_bits;    /* 9..15 what our compressor uses (8 is declined: zlib) */
};

/* Reads all Sec-WebSocket-Extensions offers of one field value (call again for further fields; the
 * first acceptable offer wins, RFC 7692 7.1). Malformed parameters (unknown, repeated, out of
 * range, value missing or superfluous) decline that offer. Returns false when the field itself is
 * malformed (RFC 6455 9.1: fail the handshake with 400). */
bool deflate_negotiate(const char *value, size_t len, struct deflate_params *params);

/* The value of the answer's Sec-WebSocket-Extensions into out (>= 160 bytes); returns its length.
 * Always with both server_no_context_takeover and client_no_context_takeover. */
uint32_t deflate_answer(const struct deflate_params *params, char *out);

/* Fixed memory per shard, allocated lazily inside. NULL without memory. */
struct deflate *deflate_new(void);
void deflate_free(struct deflate *d);

/* Compresses one message, the trailing 00 00 ff ff removed (RFC 7692 7.2.1). *out_len is at most
 * deflate_bound(len). window_bits 9..15. 0 or -ENOMEM. Borrows in; out is the caller's. */
size_t deflate_bound(size_t len);
MUST_USE int deflate_compress(struct deflate *d, uint8_t window_bits, const uint8_t *in, size_t len,
                              uint8_t *out, size_t *out_len);

enum deflate_status {
    DEFLATE_MORE, /* the budget for this call is used up: call deflate_inflate_step again */
    DEFLATE_DONE,
    DEFLATE_TOO_BIG, /* would exceed the limit: 1009 */
    DEFLATE_BAD,     /* not a DEFLATE stream: 1007 */
    DEFLATE_NO_MEMORY,
};

/* Inflation of one whole message in bounded steps. begin borrows `in` until the last step. The
 * output goes into one buffer that grows by doubling, never beyond limit_bytes (so a bomb allocates
 * no more than the limit); it belongs to the deflate object and stays valid until the next begin. A
 * step inflates at most budget_bytes of output. */
void deflate_inflate_begin(struct deflate *d, const uint8_t *in, size_t len, uint64_t limit_bytes);
enum deflate_status deflate_inflate_step(struct deflate *d, size_t budget_bytes, struct bytes *out);

/* Between steps: the message that was begun, `len` bytes, stands at `in` now. */
void deflate_inflate_moved(struct deflate *d, const uint8_t *in, size_t len);

/* Bytes held now (compressor, inflater, output buffer). */
size_t deflate_memory_bytes(const struct deflate *d);

/* Gives a grown output buffer back; call when idle. */
void deflate_trim(struct deflate *d);

#endif
