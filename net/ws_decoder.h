/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_WS_DECODER_H
#define NET_WS_DECODER_H

/* Frames of a WebSocket peer, out of a byte stream cut anywhere (RFC 6455 5). A pure engine:
 * bytes in, pieces out; no socket, clock or memory of its own. Frames of a client must be masked,
 * those of a server (limits.from_server) must not.
 *
 *     while ((st = ws_decode(&d, &limits, &in, &piece)) == WS_STATUS_PIECE)
 *         use(&piece);
 *     if (st != WS_STATUS_NEED_MORE)
 *         fail(ws_status_close_code(st));
 *
 * A frame that lies whole in the input comes as one piece with both frame_start and frame_end set,
 * its payload unmasked in place: the fast path. A frame cut by the end of the input comes as
 * several pieces. An empty frame comes as one piece of length 0. Pieces are views of the input. The
 * state fits into a connection: a header that is cut waits in it, so no buffer is held between
 * calls. */

#include <stdbool.h>

#include <string.h>

#include "core/base.h"
#include "core/simd.h"

enum ws_opcode {
    WS_OP_CONTINUATION = 0x0,
    WS_OP_TEXT = 0x1,
    WS_OP_BINARY = 0x2,
    WS_OP_CLOSE = 0x8,
    WS_OP_PING = 0x9,
    WS_OP_PONG = 0xA,
};

enum ws_status {
    WS_STATUS_NEED_MORE, /* the input is used up */
    WS_STATUS_PIECE,
    /* All below are the peer's violations: fatal, the decoder must not be called again. */
    WS_STATUS_RESERVED_BITS,      /* RSV2, RSV3, or RSV1 where it may not be: 5.2, RFC 7692 6 */
    WS_STATUS_OPCODE,             /* 3-7 or 0xB-0xF: 5.2 */
    WS_STATUS_UNMASKED,           /* 5.1 */
    WS_STATUS_CONTROL_LENGTH,     /* control frame over 125 bytes: 5.5 */
    WS_STATUS_CONTROL_FRAGMENTED, /* 5.5 */
    WS_STATUS_LENGTH_FORM,        /* not the shortest form, or the highest bit of 64 set: 5.2 */
    WS_STATUS_CONTINUATION,       /* continuation without a begun message: 5.4 */
    WS_STATUS_INTERLEAVED,        /* a data frame inside another message: 5.4 */
    WS_STATUS_TOO_BIG,            /* message over max_message, known from the header */
    WS_STATUS_FRAGMENTS,          /* more than max_fragments frames in a message */
    WS_STATUS_MASKED,             /* a server's: 5.1 */
};

struct ws_limits {
    uint64_t max_message_bytes; /* sum over a message's frames, as on the wire */
    uint32_t max_fragments;     /* 1 at least; from 65536 on: no bound */
    bool rsv1;                  /* permessage-deflate was negotiated */
    bool from_server;           /* the peer is a server: its frames carry no key */
};

/* 40 bytes at most; all zero is the initial state. */
struct ws_decoder {
    uint64_t message_bytes; /* payload of the begun message announced so far, this frame included */
    uint64_t left;          /* payload bytes of the current frame still to come */
    uint32_t key;           /* rotated: applies to the next payload byte */
    uint16_t fragments;     /* frames of the begun message so far, saturating */
    uint8_t head[14];       /* header of the current frame, from its first byte to its last */
    uint8_t head_len;       /* bytes of it that are there; 0 between frames */
    uint8_t bits;           /* the .c's; 0 between messages */
    uint8_t opcode;         /* of the begun message */
};

struct ws_piece {
    uint8_t *ptr; /* unmasked */
    size_t len;
    uint64_t frame_len; /* payload length of the whole frame */
    uint8_t opcode;     /* enum ws_opcode; of a continuation frame: that of its message */
    bool frame_start;   /* first piece of its frame */
    bool frame_end;     /* last piece of its frame */
    bool message_start; /* first piece of a data message; false for control frames */
    bool message_end;   /* last piece of a data message */
    bool compressed;    /* the message's RSV1 (RFC 7692 6) */
};

/* Takes as much of *in as makes the next piece and steps *in behind it. */
enum ws_status ws_decode(struct ws_decoder *d, const struct ws_limits *limits, struct bytes *in,
                         struct ws_piece *piece);

/* Whether the stream may end here without cutting a frame or message. */
static inline bool ws_decoder_is_idle(const struct ws_decoder *d)
{
    return (d->bits | d->head_len) == 0;
}

#define WS_SMALL_LEN_MAX 125
#define WS_SMALL_HEAD_BYTES 6 /* two bytes and the masking key */

/* The payloads that ws_decode_small() takes. */
static inline uint32_t ws_small_max(const struct ws_limits *limits)
{
    return (uint32_t)min_u64(limits->max_message_bytes, WS_SMALL_LEN_MAX);
}

/* The common case of a client's frames, inline: a whole uncompressed message of at most small_max
 * bytes in one frame that lies whole in the input. Only while the decoder is idle, and it stays so.
 * True: *payload is its view, still masked with *key, *in is behind it. False: nothing happened;
 * ws_decode() knows.
 */
static inline bool ws_decode_small(uint32_t small_max, struct bytes *in, struct bytes *payload,
                                   uint8_t *opcode, uint32_t *key)
{
    uint8_t *p = in->ptr;

    if (in->len < WS_SMALL_HEAD_BYTES)
        return false;
    uint8_t op = p[0] ^ 0x80;  /* FIN and nothing else beside the opcode */
    uint8_t len = p[1] ^ 0x80; /* an unmasked frame's is over 125 */
    size_t frame_bytes = WS_SMALL_HEAD_BYTES + (size_t)len;
    if (op - 1U > WS_OP_BINARY - 1U || len > small_max || in->len < frame_bytes)
        return false;
    memcpy(key, p + 2, sizeof(*key));
    in->ptr = p + frame_bytes;
    in->len -= frame_bytes;
    p += WS_SMALL_HEAD_BYTES;
    *payload = (struct bytes){p, len};
    *opcode = op;
    return true;
}

static inline bool ws_opcode_is_control(uint8_t opcode)
{
    return (opcode & 0x8) != 0;
}

/* RFC 6455 7.4.1: 1002, 1009, 1008 (fragments). CHECKs that st is a violation. */
uint16_t ws_status_close_code(enum ws_status st);

/* A short constant reason for the close frame and the log. */
const char *ws_status_text(enum ws_status st);

/* Whether a close code may stand in a close frame that a peer sent (RFC 6455 7.4): 1000-1003,
 * 1007-1014 (1012-1014: IANA), 3000-4999. */
bool ws_close_code_is_valid(uint16_t code);

#endif
