/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Frames: any split gives the same pieces joined and the same status, and what we encode decodes to
 * itself. Input: a byte of switches, two bytes of message limit, two of seed for the splits, then
 * the stream. */

#include <stdlib.h>
#include <string.h>

#include "core/simd.h"
#include "net/ws_decoder.h"
#include "net/ws_encoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETTINGS_BYTES = 5 };

/* What came out, pieces joined: a line for each frame, and all payload. */
struct frame_line {
    uint64_t len;
    uint8_t opcode;
    bool compressed, message_start, message_end, ended;
};

struct transcript {
    struct frame_line *frames;
    size_t frame_count;
    uint8_t *payload;
    size_t payload_len;
    enum ws_status status;
    struct ws_decoder decoder;
};

static struct transcript transcript_new(size_t size)
{
    struct transcript t = {.frames = calloc(size + 1, sizeof *t.frames),
                           .payload = malloc(size + 1)};
    CHECK(t.frames != NULL);
    CHECK(t.payload != NULL);
    return t;
}

static void transcript_free(struct transcript *t)
{
    free(t->frames);
    free(t->payload);
}

static void note_piece(struct transcript *t, const struct ws_piece *p)
{
    if (p->frame_start)
        t->frames[t->frame_count++] = (struct frame_line){.len = p->frame_len,
                                                          .opcode = p->opcode,
                                                          .compressed = p->compressed,
                                                          .message_start = p->message_start};
    CHECK(t->frame_count > 0);
    struct frame_line *f = &t->frames[t->frame_count - 1];
    CHECK(!f->ended);
    CHECK(f->len == p->frame_len);
    CHECK(f->opcode == p->opcode);
    f->ended = p->frame_end;
    f->message_end = p->message_end;
    memcpy(t->payload + t->payload_len, p->ptr, p->len);
    t->payload_len += p->len;
}

/* Feeds one chunk out of memory of exactly its size. */
static bool feed(struct transcript *t, const struct ws_limits *limits, const uint8_t *p, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    CHECK(copy != NULL);
    memcpy(copy + 1, p, len);
    struct bytes in = {copy + 1, len};
    struct ws_piece piece;
    while ((t->status = ws_decode(&t->decoder, limits, &in, &piece)) == WS_STATUS_PIECE) {
        CHECK(piece.ptr > copy);
        CHECK(piece.ptr + piece.len == in.ptr);
        CHECK(in.ptr + in.len == copy + 1 + len);
        note_piece(t, &piece);
    }
    free(copy);
    return t->status == WS_STATUS_NEED_MORE;
}

/* Chunks of 1 to 16 bytes, drawn from the seed; seed 0: all at once. */
static struct transcript decode(const struct ws_limits *limits, const uint8_t *p, size_t len,
                                uint32_t seed)
{
    struct transcript t = transcript_new(len);
    for (size_t at = 0; at < len;) {
        size_t chunk = len - at;
        if (seed != 0) {
            seed = seed * 1664525 + 1013904223;
            chunk = min_size(chunk, 1 + (seed >> 28));
        }
        if (!feed(&t, limits, p + at, chunk))
            break;
        at += chunk;
    }
    return t;
}

static void check_same(const struct transcript *a, const struct transcript *b)
{
    CHECK(a->status == b->status);
    CHECK(a->frame_count == b->frame_count);
    CHECK(a->payload_len == b->payload_len);
    CHECK(memcmp(a->payload, b->payload, a->payload_len) == 0);
    for (size_t i = 0; i < a->frame_count; i++) {
        const struct frame_line *f = &a->frames[i], *g = &b->frames[i];
        CHECK(f->len == g->len);
        CHECK(f->opcode == g->opcode);
        CHECK(f->compressed == g->compressed);
        CHECK(f->message_start == g->message_start);
        CHECK(f->message_end == g->message_end);
        CHECK(f->ended == g->ended);
    }
    if (a->status == WS_STATUS_NEED_MORE)
        CHECK(ws_decoder_is_idle(&a->decoder) == ws_decoder_is_idle(&b->decoder));
    else
        CHECK(ws_status_close_code(a->status) >= 1002);
    CHECK(strlen(ws_status_text(a->status)) <= WS_CONTROL_PAYLOAD_MAX - 2);
}

/* The payload as one client's frame, and back. */
static void check_round_trip(const uint8_t *payload, size_t len, uint32_t seed)
{
    const struct ws_limits limits = {.max_message_bytes = len, .max_fragments = 1, .rsv1 = true};
    enum ws_opcode opcode = (seed & 1) != 0 ? WS_OP_TEXT : WS_OP_BINARY;
    bool fin = (seed & 2) != 0, rsv1 = (seed & 4) != 0;
    uint8_t *frame = malloc(14 + len);
    CHECK(frame != NULL);
    uint32_t head = ws_encode_client_head(frame, opcode, fin, rsv1, len, seed);
    simd->unmask(frame + head, payload, len, seed);
    struct transcript t = decode(&limits, frame, head + len, seed);
    CHECK(t.status == WS_STATUS_NEED_MORE);
    CHECK(t.frame_count == 1);
    CHECK(t.frames[0].ended);
    CHECK(t.frames[0].opcode == opcode);
    CHECK(t.frames[0].compressed == rsv1);
    CHECK(t.frames[0].message_end == fin);
    CHECK(t.payload_len == len);
    CHECK(memcmp(t.payload, payload, len) == 0);
    CHECK(ws_decoder_is_idle(&t.decoder) == fin);
    transcript_free(&t);
    free(frame);
}

/* A server's frame, dressed as a client's with a key of zeros, decodes to itself. */
static void check_server_frame(const uint8_t *frame, uint32_t head_len, size_t len, uint8_t opcode)
{
    const struct ws_limits limits = {.max_message_bytes = len, .max_fragments = 1, .rsv1 = true};
    uint8_t *dressed = calloc(1, head_len + 4 + len);
    CHECK(dressed != NULL);
    memcpy(dressed, frame, head_len);
    CHECK((dressed[1] & 0x80) == 0);
    dressed[1] |= 0x80;
    memcpy(dressed + head_len + 4, frame + head_len, len);
    struct transcript t = decode(&limits, dressed, head_len + 4 + len, 0);
    CHECK(t.status == WS_STATUS_NEED_MORE);
    CHECK(t.frame_count == 1);
    CHECK(t.frames[0].opcode == opcode);
    CHECK(t.payload_len == len);
    CHECK(memcmp(t.payload, frame + head_len, len) == 0);
    CHECK(ws_decoder_is_idle(&t.decoder));
    transcript_free(&t);
    free(dressed);
}

static void check_server_frames(const uint8_t *payload, size_t len, uint32_t seed)
{
    uint8_t *frame = malloc(WS_SERVER_HEAD_MAX + len), control[WS_CONTROL_FRAME_MAX];
    CHECK(frame != NULL);
    memcpy(frame + WS_SERVER_HEAD_MAX, payload, len);
    uint32_t head =
        ws_encode_head_before(frame + WS_SERVER_HEAD_MAX, WS_OP_BINARY, (seed & 1) != 0, len);
    check_server_frame(frame + WS_SERVER_HEAD_MAX - head, head, len, WS_OP_BINARY);
    free(frame);

    uint32_t n = ws_encode_control(control, WS_OP_PONG, payload, min_u32((uint32_t)len, 125));
    check_server_frame(control, 2, n - 2, WS_OP_PONG);
    char reason[200] = {0};
    memcpy(reason, payload, min_size(len, sizeof reason - 1));
    n = ws_encode_close(control, (uint16_t)seed, reason);
    check_server_frame(control, 2, n - 2, WS_OP_CLOSE);
    CHECK(n == 2 || (uint16_t)(control[2] << 8 | control[3]) == (uint16_t)seed);
    CHECK(ws_close_code_is_valid((uint16_t)seed) ==
          (seed >= 1000 && seed < 5000 && seed != 1004 && seed != 1005 && seed != 1006 &&
           (seed < 1015 || seed >= 3000)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < SETTINGS_BYTES)
        return 0;
    uint32_t seed = (uint32_t)(data[3] << 8 | data[4]) + 1;
    struct ws_limits limits = {.max_message_bytes = (uint64_t)(data[1] << 8 | data[2]),
                               .max_fragments = 1 + (data[0] >> 4),
                               .rsv1 = (data[0] & 1) != 0};
    const uint8_t *p = data + SETTINGS_BYTES;
    size_t len = size - SETTINGS_BYTES;
    struct transcript whole = decode(&limits, p, len, 0), split = decode(&limits, p, len, seed);
    check_same(&whole, &split);
    transcript_free(&whole);
    transcript_free(&split);
    check_round_trip(p, len, seed);
    check_server_frames(p, len, seed);
    return 0;
}
