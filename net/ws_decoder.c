/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Frames of a WebSocket peer out of a byte stream cut anywhere. Pure: runs on whichever thread
 * owns the decoder.
 *
 *   state        is                          leaves it by
 *   BETWEEN      head_len 0                  small frame, whole in the input -> BETWEEN, a piece
 *                                            any other byte                  -> HEAD
 *   HEAD         head_len > 0, not IN_FRAME  header complete                 -> PAYLOAD
 *                                            violation                       -> none: fatal
 *   PAYLOAD      IN_FRAME                    some of the payload             -> PAYLOAD, a piece
 *                                            the rest of it, or none to come -> BETWEEN, a piece
 *
 * Across frames BIT_OPEN says that a fragmented message has begun; control frames pass by without
 * touching it. Nothing of the message changes before the header is complete, so a cut header is
 * simply checked again when more of it is there. That makes the answer independent of the split:
 * each check needs a prefix of the header, and the checks run in the order of those prefixes. */

#include "net/ws_decoder.h"

#include <assert.h>
#include <string.h>

#include "core/plant.h"
#include "core/simd.h"

enum {
    HEAD_FIN = 0x80,
    HEAD_RSV1 = 0x40,
    HEAD_RSV23 = 0x30,
    HEAD_OPCODE = 0x0F,
    HEAD_MASK = 0x80, /* second byte */
    HEAD_LEN = 0x7F,

    LEN_16 = 126, /* a length of two bytes follows */
    LEN_64 = 127, /* a length of eight bytes follows */
    CONTROL_LEN_MAX = WS_SMALL_LEN_MAX,

    KEY_BYTES = 4,

    BIT_IN_FRAME = 1,   /* the header is complete, the payload is not */
    BIT_OPEN = 2,       /* a message has begun and its last frame has not ended */
    BIT_COMPRESSED = 4, /* RSV1 of that message */
    BIT_DROPPED = 8,    /* only when planted: this frame is kept from the caller */
};

static_assert(sizeof(struct ws_decoder) <= 40, "a connection's budget counts on it");

static enum ws_status take_any(struct ws_decoder *d, const struct ws_limits *limits,
                               struct bytes *in, struct ws_piece *piece);
static enum ws_status take_head(struct ws_decoder *d, const struct ws_limits *limits,
                                struct bytes *in);
static void begin_frame(struct ws_decoder *d, bool masked);
static enum ws_status take_payload(struct ws_decoder *d, struct bytes *in, struct ws_piece *piece);

enum ws_status ws_decode(struct ws_decoder *d, const struct ws_limits *limits, struct bytes *in,
                         struct ws_piece *piece)
{
    struct bytes payload;
    uint8_t opcode;
    uint32_t key;

    if (unlikely(!ws_decoder_is_idle(d) || limits->from_server ||
                 !ws_decode_small(ws_small_max(limits), in, &payload, &opcode, &key)))
        return take_any(d, limits, in, piece);
    simd->unmask(payload.ptr, payload.ptr, payload.len, key);
    *piece = (struct ws_piece){
        .ptr = payload.ptr,
        .len = payload.len,
        .frame_len = payload.len,
        .opcode = opcode,
        .frame_start = true,
        .frame_end = true,
        .message_start = true,
        .message_end = true,
    };
    return WS_STATUS_PIECE;
}

/* Every other frame, in any state. Out of line, so that the common case saves no registers for it.
 */
__attribute__((noinline)) static enum ws_status take_any(struct ws_decoder *d,
                                                         const struct ws_limits *limits,
                                                         struct bytes *in, struct ws_piece *piece)
{
    if ((d->bits & BIT_IN_FRAME) == 0) {
        bool was_cut = d->head_len > 0;
        enum ws_status st = take_head(d, limits, in);
        if (st != WS_STATUS_PIECE)
            return st;
        begin_frame(d, !limits->from_server);
        if (PLANTED(PLANT_SKIP_FRAME_AT_SPLIT) && was_cut)
            d->bits |= BIT_DROPPED;
    }
    bool dropped = PLANTED(PLANT_SKIP_FRAME_AT_SPLIT) && (d->bits & BIT_DROPPED) != 0;
    enum ws_status st = take_payload(d, in, piece);
    return dropped && st == WS_STATUS_PIECE ? ws_decode(d, limits, in, piece) : st;
}

/* What the first byte alone can violate. WS_STATUS_NEED_MORE: nothing. */
static enum ws_status check_first_byte(const struct ws_decoder *d, const struct ws_limits *limits)
{
    const uint32_t known = 1U << WS_OP_CONTINUATION | 1U << WS_OP_TEXT | 1U << WS_OP_BINARY |
                           1U << WS_OP_CLOSE | 1U << WS_OP_PING | 1U << WS_OP_PONG;
    uint8_t first = d->head[0];
    uint8_t opcode = first & HEAD_OPCODE;
    bool control = ws_opcode_is_control(opcode);

    if ((first & HEAD_RSV23) != 0) /* RFC 6455 5.2 */
        return WS_STATUS_RESERVED_BITS;
    if ((known >> opcode & 1) == 0)
        return WS_STATUS_OPCODE;
    /* RFC 7692 6: RSV1 marks the first frame of a message only. */
    if ((first & HEAD_RSV1) != 0 && (!limits->rsv1 || control || opcode == WS_OP_CONTINUATION))
        return WS_STATUS_RESERVED_BITS;
    if (control) /* RFC 6455 5.5 */
        return (first & HEAD_FIN) != 0 ? WS_STATUS_NEED_MORE : WS_STATUS_CONTROL_FRAGMENTED;
    if (opcode != WS_OP_CONTINUATION) /* RFC 6455 5.4 */
        return (d->bits & BIT_OPEN) != 0 ? WS_STATUS_INTERLEAVED : WS_STATUS_NEED_MORE;
    if ((d->bits & BIT_OPEN) == 0)
        return WS_STATUS_CONTINUATION;
    if (d->fragments >= limits->max_fragments)
        return WS_STATUS_FRAGMENTS;
    return WS_STATUS_NEED_MORE;
}

static uint32_t extended_len_bytes(uint8_t second)
{
    uint8_t form = second & HEAD_LEN;
    return form < LEN_16 ? 0 : form == LEN_16 ? 2 : 8;
}

/* The number in the first `len` of at most 8 bytes, highest first. */
static uint64_t big_endian(const uint8_t *p, uint32_t len)
{
    uint64_t v = 0;
    for (uint32_t i = 0; i < len; i++)
        v = v << 8 | p[i];
    return v;
}

/* The extended length, of which some bytes may be missing: what they can't mend is refused now. */
static enum ws_status check_extended_len(const struct ws_decoder *d, uint64_t room)
{
    uint32_t size = extended_len_bytes(d->head[1]);
    uint32_t known = min_u32(d->head_len - 2U, size);
    if (known == 0)
        return WS_STATUS_NEED_MORE;
    uint32_t missing_bits = (size - known) * 8;
    uint64_t least = big_endian(d->head + 2, known) << missing_bits;
    uint64_t most = least | ((1ULL << missing_bits) - 1);
    uint64_t shortest = size == 2 ? LEN_16 : 1ULL << 16; /* what needs this form: RFC 6455 5.2 */

    if (most < shortest || least >> 63 != 0)
        return WS_STATUS_LENGTH_FORM;
    return least > room ? WS_STATUS_TOO_BIG : WS_STATUS_NEED_MORE;
}

/* What the second byte and the length behind it can violate. */
static enum ws_status check_len(const struct ws_decoder *d, const struct ws_limits *limits)
{
    uint8_t form = d->head[1] & HEAD_LEN;
    bool masked = (d->head[1] & HEAD_MASK) != 0;
    if (masked == limits->from_server) /* RFC 6455 5.1 */
        return masked ? WS_STATUS_MASKED : WS_STATUS_UNMASKED;
    if (ws_opcode_is_control(d->head[0] & HEAD_OPCODE))
        return form > CONTROL_LEN_MAX ? WS_STATUS_CONTROL_LENGTH : WS_STATUS_NEED_MORE;
    uint64_t room =
        limits->max_message_bytes - min_u64(limits->max_message_bytes, d->message_bytes);
    if (form >= LEN_16)
        return check_extended_len(d, room);
    return form > room ? WS_STATUS_TOO_BIG : WS_STATUS_NEED_MORE;
}

/* Bytes that the header has, as far as is known: the second one says how many there are. */
static uint32_t head_bytes(const struct ws_decoder *d, const struct ws_limits *limits)
{
    if (d->head_len < 2)
        return 2;
    return 2 + extended_len_bytes(d->head[1]) + (limits->from_server ? 0 : KEY_BYTES);
}

/* Collects the header. WS_STATUS_PIECE: it is complete and good. */
static enum ws_status take_head(struct ws_decoder *d, const struct ws_limits *limits,
                                struct bytes *in)
{
    while (in->len > 0) {
        size_t n = min_size(head_bytes(d, limits) - d->head_len, in->len);
        memcpy(d->head + d->head_len, in->ptr, n);
        d->head_len += (uint8_t)n;
        in->ptr += n;
        in->len -= n;

        enum ws_status st = check_first_byte(d, limits);
        if (st == WS_STATUS_NEED_MORE && d->head_len >= 2)
            st = check_len(d, limits);
        if (st != WS_STATUS_NEED_MORE)
            return st;
        if (d->head_len >= 2 && d->head_len == head_bytes(d, limits))
            return WS_STATUS_PIECE;
    }
    return WS_STATUS_NEED_MORE;
}

/* The payload length that a complete header announces. */
static uint64_t announced_len(const struct ws_decoder *d)
{
    uint32_t extended = extended_len_bytes(d->head[1]);
    return extended == 0 ? d->head[1] & HEAD_LEN : big_endian(d->head + 2, extended);
}

static void begin_frame(struct ws_decoder *d, bool masked)
{
    uint8_t opcode = d->head[0] & HEAD_OPCODE;
    d->left = announced_len(d);
    d->key = 0;
    if (masked)
        memcpy(&d->key, d->head + d->head_len - KEY_BYTES, KEY_BYTES);
    d->bits |= BIT_IN_FRAME;
    if (ws_opcode_is_control(opcode))
        return;
    if (opcode != WS_OP_CONTINUATION) {
        d->bits |= BIT_OPEN | ((d->head[0] & HEAD_RSV1) != 0 ? BIT_COMPRESSED : 0);
        d->opcode = opcode;
    }
    d->message_bytes += d->left;
    if (d->fragments < UINT16_MAX)
        d->fragments++;
}

static void end_frame(struct ws_decoder *d, bool message_end)
{
    d->head_len = 0;
    d->bits &= (uint8_t) ~(BIT_IN_FRAME | BIT_DROPPED);
    if (message_end)
        *d = (struct ws_decoder){0};
}

/* Whatever of the payload is there, as one piece. */
static enum ws_status take_payload(struct ws_decoder *d, struct bytes *in, struct ws_piece *piece)
{
    size_t n = (size_t)min_u64(d->left, in->len);
    if (n == 0 && d->left > 0)
        return WS_STATUS_NEED_MORE;
    uint8_t opcode = d->head[0] & HEAD_OPCODE;
    bool control = ws_opcode_is_control(opcode);
    piece->ptr = in->ptr;
    piece->len = n;
    piece->frame_len = announced_len(d);
    piece->opcode = control ? opcode : d->opcode;
    piece->frame_start = d->left == piece->frame_len;
    piece->frame_end = d->left == n;
    piece->message_start = piece->frame_start && !control && opcode != WS_OP_CONTINUATION;
    piece->message_end = piece->frame_end && !control && (d->head[0] & HEAD_FIN) != 0;
    piece->compressed = !control && (d->bits & BIT_COMPRESSED) != 0;

    if (d->key != 0)
        simd->unmask(in->ptr, in->ptr, n, d->key);
    in->ptr += n;
    in->len -= n;
    d->left -= n;
    if (piece->frame_end)
        end_frame(d, piece->message_end);
    else if (!PLANTED(PLANT_WRONG_MASK_PHASE))
        d->key = simd_rotate_key(d->key, n);
    return WS_STATUS_PIECE;
}

uint16_t ws_status_close_code(enum ws_status st)
{
    CHECK(st > WS_STATUS_PIECE);
    CHECK(st <= WS_STATUS_MASKED);
    if (st == WS_STATUS_TOO_BIG)
        return 1009;
    return st == WS_STATUS_FRAGMENTS ? 1008 : 1002;
}

const char *ws_status_text(enum ws_status st)
{
    static const char *const texts[] = {
        [WS_STATUS_NEED_MORE] = "more bytes needed",
        [WS_STATUS_PIECE] = "no violation",
        [WS_STATUS_RESERVED_BITS] = "reserved bit set",
        [WS_STATUS_OPCODE] = "unknown opcode",
        [WS_STATUS_UNMASKED] = "frame is not masked",
        [WS_STATUS_CONTROL_LENGTH] = "control frame over 125 bytes",
        [WS_STATUS_CONTROL_FRAGMENTED] = "fragmented control frame",
        [WS_STATUS_LENGTH_FORM] = "malformed payload length",
        [WS_STATUS_CONTINUATION] = "continuation without a message",
        [WS_STATUS_INTERLEAVED] = "message inside another message",
        [WS_STATUS_TOO_BIG] = "message too big",
        [WS_STATUS_FRAGMENTS] = "too many fragments",
        [WS_STATUS_MASKED] = "frame of a server is masked",
    };
    return (uint32_t)st < ARRAY_LEN(texts) ? texts[st] : "unknown status";
}

bool ws_close_code_is_valid(uint16_t code)
{
    if (code >= 3000)
        return code <= 4999;
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}
