/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Frames out of a stream cut anywhere: the same whatever the split, and every violation at the
 * first byte that shows it. */

#include "net/ws_decoder.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/simd.h"

#define FRAMES_MAX 32

static const struct ws_limits roomy = {.max_message_bytes = 1 << 20, .max_fragments = 16384};
static const struct ws_limits roomy_rsv1 = {
    .max_message_bytes = 1 << 20, .max_fragments = 16384, .rsv1 = true};

/* A stream to decode, built by put_frame(). */
struct stream {
    uint8_t *bytes;
    size_t len, cap;
    uint32_t frames;
};

static void put(struct stream *s, const void *p, size_t len)
{
    if (s->len + len > s->cap) {
        s->cap = 2 * (s->len + len);
        s->bytes = realloc(s->bytes, s->cap);
        cr_assert_not_null(s->bytes);
    }
    memcpy(s->bytes + s->len, p, len);
    s->len += len;
}

static void put_byte(struct stream *s, unsigned v)
{
    uint8_t b = (uint8_t)v;
    put(s, &b, 1);
}

/* A masked frame in the shortest form; payload byte i is i * 7 + the frame's number. */
static void put_frame(struct stream *s, unsigned first, uint64_t len)
{
    uint8_t key[4] = {0x12, 0xfe, 0x80, (uint8_t)(0x37 + s->frames)};
    put_byte(s, first);
    put_byte(s, 0x80 | (len < 126 ? (unsigned)len : len < 65536 ? 126u : 127u));
    for (int shift = len < 126 ? -8 : len < 65536 ? 8 : 56; shift >= 0; shift -= 8)
        put_byte(s, (unsigned)(len >> shift));
    put(s, key, 4);
    for (uint64_t i = 0; i < len; i++)
        put_byte(s, (uint8_t)(i * 7 + s->frames) ^ key[i % 4]);
    s->frames++;
}

/* What came out, pieces joined to frames. */
struct seen_frame {
    uint64_t len;
    size_t at; /* of its payload in struct seen */
    uint8_t opcode;
    bool message_start, message_end, compressed;
};

struct seen {
    struct seen_frame frames[FRAMES_MAX];
    uint32_t count;
    bool in_frame;
    uint8_t *payload;
    size_t payload_len;
    enum ws_status status;
    size_t eaten; /* bytes given to the decoder when it answered with something else than a piece */
};

static void see_piece(struct seen *seen, const struct ws_piece *p)
{
    cr_assert_lt(seen->count, FRAMES_MAX);
    struct seen_frame *f = &seen->frames[seen->count];
    cr_assert_eq(p->frame_start, !seen->in_frame);
    if (p->frame_start)
        *f = (struct seen_frame){.len = p->frame_len,
                                 .at = seen->payload_len,
                                 .opcode = p->opcode,
                                 .message_start = p->message_start,
                                 .compressed = p->compressed};
    else
        cr_assert_not(p->message_start);
    cr_assert_eq(f->len, p->frame_len);
    cr_assert_eq(f->opcode, p->opcode);
    cr_assert_eq(f->compressed, p->compressed);
    memcpy(seen->payload + seen->payload_len, p->ptr, p->len);
    seen->payload_len += p->len;
    seen->in_frame = !p->frame_end;
    if (p->frame_end) {
        cr_assert_eq(seen->payload_len - f->at, f->len);
        f->message_end = p->message_end;
        seen->count++;
    } else {
        cr_assert_not(p->message_end);
        cr_assert_gt(p->len, 0);
    }
}

/* One chunk, in memory of exactly its size. False after a violation. */
static bool feed(struct ws_decoder *d, const struct ws_limits *limits, const uint8_t *p, size_t len,
                 struct seen *seen)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    cr_assert_not_null(copy);
    memcpy(copy, p, len);
    struct bytes in = {copy, len};
    struct ws_piece piece;
    while ((seen->status = ws_decode(d, limits, &in, &piece)) == WS_STATUS_PIECE) {
        cr_assert(piece.ptr >= copy);
        cr_assert(piece.ptr + piece.len == in.ptr);
        cr_assert(in.ptr + in.len == copy + len);
        see_piece(seen, &piece);
    }
    if (seen->status == WS_STATUS_NEED_MORE)
        cr_assert_eq(in.len, 0);
    seen->eaten += len;
    free(copy);
    return seen->status == WS_STATUS_NEED_MORE;
}

static struct seen seen_new(const struct stream *s)
{
    struct seen seen = {.payload = malloc(s->len + 1)};
    cr_assert_not_null(seen.payload);
    return seen;
}

/* Decodes with cuts before the bytes a <= b. */
static struct seen decode_cut(const struct stream *s, const struct ws_limits *limits, size_t a,
                              size_t b)
{
    struct ws_decoder d = {0};
    struct seen seen = seen_new(s);
    if (feed(&d, limits, s->bytes, a, &seen) && feed(&d, limits, s->bytes + a, b - a, &seen))
        feed(&d, limits, s->bytes + b, s->len - b, &seen);
    return seen;
}

static struct seen decode_chunks(const struct stream *s, const struct ws_limits *limits,
                                 size_t chunk)
{
    struct ws_decoder d = {0};
    struct seen seen = seen_new(s);
    for (size_t at = 0; at < s->len; at += chunk)
        if (!feed(&d, limits, s->bytes + at, min_size(chunk, s->len - at), &seen))
            break;
    return seen;
}

/* Frees b. */
static void assert_same(const struct seen *a, struct seen b)
{
    cr_assert_eq(a->count, b.count);
    cr_assert_eq(a->status, b.status);
    cr_assert_eq(a->payload_len, b.payload_len);
    cr_assert_eq(memcmp(a->payload, b.payload, b.payload_len), 0);
    for (uint32_t i = 0; i < b.count; i++) {
        const struct seen_frame *f = &a->frames[i], *g = &b.frames[i];
        cr_assert(f->len == g->len && f->at == g->at && f->opcode == g->opcode);
        cr_assert(f->message_start == g->message_start && f->message_end == g->message_end &&
                  f->compressed == g->compressed);
    }
    free(b.payload);
}

/* The whole, every cut in two, every cut in three when `thrice`, and chunks of a few sizes. Returns
 * what came out; the caller frees its payload. */
static struct seen decode_every_way(const struct stream *s, const struct ws_limits *limits,
                                    bool thrice)
{
    struct seen whole = decode_cut(s, limits, s->len, s->len);
    for (size_t a = 0; a <= s->len; a++)
        for (size_t b = thrice ? a : s->len; b <= s->len; b++)
            assert_same(&whole, decode_cut(s, limits, a, b));
    for (size_t chunk = 1; chunk < 20; chunk++)
        assert_same(&whole, decode_chunks(s, limits, chunk));
    return whole;
}

static void expect_frame(const struct seen *seen, uint32_t i, uint8_t opcode, uint64_t len,
                         bool start, bool end)
{
    cr_assert_lt(i, seen->count);
    const struct seen_frame *f = &seen->frames[i];
    cr_assert_eq(f->opcode, opcode, "frame %u", i);
    cr_assert_eq(f->len, len, "frame %u", i);
    cr_assert_eq(f->message_start, start, "frame %u", i);
    cr_assert_eq(f->message_end, end, "frame %u", i);
    for (uint64_t k = 0; k < len; k++)
        cr_assert_eq(seen->payload[f->at + k], (uint8_t)(k * 7 + i), "frame %u", i);
}

/* The bytes after which a violation is known, fed one by one; and the same status when the stream
 * comes whole. */
static void expect_violation(const struct stream *s, const struct ws_limits *limits,
                             enum ws_status status, size_t after)
{
    struct seen slow = decode_chunks(s, limits, 1);
    cr_assert_eq(slow.status, status, "%s", ws_status_text(slow.status));
    cr_assert_eq(slow.eaten, after, "%zu", slow.eaten);
    assert_same(&slow, decode_cut(s, limits, s->len, s->len));
    free(slow.payload);
}

Test(ws_decoder, same_frames_whatever_the_split)
{
    struct stream s = {0};
    put_frame(&s, 0x81, 5);
    put_frame(&s, 0x82, 0);
    put_frame(&s, 0x01, 3); /* text in four fragments, controls in between */
    put_frame(&s, 0x89, 0);
    put_frame(&s, 0x00, 0);
    put_frame(&s, 0x8A, 4);
    put_frame(&s, 0x00, 2);
    put_frame(&s, 0x88, 2);
    put_frame(&s, 0x80, 1);
    put_frame(&s, 0x82, 9);
    struct seen seen = decode_every_way(&s, &roomy, true);
    cr_assert_eq(seen.status, WS_STATUS_NEED_MORE);
    cr_assert_eq(seen.count, 10);
    expect_frame(&seen, 0, WS_OP_TEXT, 5, true, true);
    expect_frame(&seen, 1, WS_OP_BINARY, 0, true, true);
    expect_frame(&seen, 2, WS_OP_TEXT, 3, true, false);
    expect_frame(&seen, 3, WS_OP_PING, 0, false, false);
    expect_frame(&seen, 4, WS_OP_TEXT, 0, false, false);
    expect_frame(&seen, 5, WS_OP_PONG, 4, false, false);
    expect_frame(&seen, 6, WS_OP_TEXT, 2, false, false);
    expect_frame(&seen, 7, WS_OP_CLOSE, 2, false, false);
    expect_frame(&seen, 8, WS_OP_TEXT, 1, false, true);
    expect_frame(&seen, 9, WS_OP_BINARY, 9, true, true);
    free(seen.payload);
    free(s.bytes);
}

Test(ws_decoder, controls_between_fragments_of_medium_length_survive_every_split)
{
    struct stream s = {0};
    put_frame(&s, 0x02, 126);
    put_frame(&s, 0x89, 125);
    put_frame(&s, 0x00, 127);
    put_frame(&s, 0x8A, 0);
    put_frame(&s, 0x80, 125);
    struct seen seen = decode_every_way(&s, &roomy, false);
    expect_frame(&seen, 0, WS_OP_BINARY, 126, true, false);
    expect_frame(&seen, 1, WS_OP_PING, 125, false, false);
    expect_frame(&seen, 2, WS_OP_BINARY, 127, false, false);
    expect_frame(&seen, 3, WS_OP_PONG, 0, false, false);
    expect_frame(&seen, 4, WS_OP_BINARY, 125, false, true);
    free(seen.payload);
    free(s.bytes);
}

/* All cuts in two for short streams; for long ones those around the header, the ends and a few in
 * between, since each costs a pass over the whole. */
static void check_boundary(const struct stream *s)
{
    struct seen whole = decode_cut(s, &roomy, s->len, s->len);
    cr_assert_eq(whole.status, WS_STATUS_NEED_MORE);
    for (size_t a = 0; a <= s->len; a++)
        if (s->len < 400 || a < 24 || a + 24 > s->len || a % 8191 == 0)
            assert_same(&whole, decode_cut(s, &roomy, a, s->len));
    static const size_t chunks[] = {1, 2, 3, 5, 13, 4096, 65535};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++)
        assert_same(&whole, decode_chunks(s, &roomy, chunks[i]));
    free(whole.payload);
}

Test(ws_decoder, every_length_boundary_survives_every_split)
{
    static const uint64_t lens[] = {0, 1, 125, 126, 127, 65535, 65536};
    static const unsigned firsts[] = {0x81, 0x82, 0x88, 0x89, 0x8A};
    for (size_t l = 0; l < ARRAY_LEN(lens); l++) {
        for (size_t f = 0; f < ARRAY_LEN(firsts); f++) {
            bool control = (firsts[f] & 8) != 0;
            if (control && lens[l] > 125)
                continue;
            struct stream s = {0};
            put_frame(&s, firsts[f], lens[l]);
            put_frame(&s, 0x82, 2); /* a wrong end of the first would spoil it */
            struct seen seen = decode_cut(&s, &roomy, s.len, s.len);
            cr_assert_eq(seen.count, 2);
            expect_frame(&seen, 0, firsts[f] & 15, lens[l], !control, !control);
            expect_frame(&seen, 1, WS_OP_BINARY, 2, true, true);
            free(seen.payload);
            check_boundary(&s);
            free(s.bytes);
        }
    }
}

Test(ws_decoder, a_frame_whole_in_the_input_is_one_piece)
{
    static const uint64_t lens[] = {0, 1, 125, 126, 65535, 65536};
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct stream s = {0};
        put_frame(&s, 0x81, lens[i]);
        struct ws_decoder d = {0};
        struct bytes in = {s.bytes, s.len};
        struct ws_piece piece;
        cr_assert_eq(ws_decode(&d, &roomy, &in, &piece), WS_STATUS_PIECE);
        cr_assert(piece.frame_start && piece.frame_end);
        cr_assert(piece.message_start && piece.message_end);
        cr_assert_eq(piece.len, lens[i]);
        cr_assert_eq(piece.ptr, s.bytes + s.len - lens[i]);
        cr_assert_eq(ws_decode(&d, &roomy, &in, &piece), WS_STATUS_NEED_MORE);
        cr_assert(ws_decoder_is_idle(&d));
        free(s.bytes);
    }
}

Test(ws_decoder, a_cut_payload_comes_as_it_arrives)
{
    struct stream s = {0};
    put_frame(&s, 0x81, 100);
    struct ws_decoder d = {0};
    struct bytes in = {s.bytes, 6 + 40};
    struct ws_piece piece;
    cr_assert_eq(ws_decode(&d, &roomy, &in, &piece), WS_STATUS_PIECE);
    cr_assert_eq(piece.len, 40);
    cr_assert_eq(piece.frame_len, 100);
    cr_assert(piece.frame_start && !piece.frame_end && piece.message_start && !piece.message_end);
    cr_assert_eq(ws_decode(&d, &roomy, &in, &piece), WS_STATUS_NEED_MORE);
    in = (struct bytes){s.bytes + 46, 60};
    cr_assert_eq(ws_decode(&d, &roomy, &in, &piece), WS_STATUS_PIECE);
    cr_assert_eq(piece.len, 60);
    cr_assert(!piece.frame_start && piece.frame_end && !piece.message_start && piece.message_end);
    free(s.bytes);
}

Test(ws_decoder, a_header_without_payload_yields_no_piece_yet)
{
    struct stream s = {0};
    put_frame(&s, 0x81, 1);
    struct ws_decoder d = {0};
    struct bytes in = {s.bytes, 6};
    struct ws_piece piece;
    cr_assert_eq(ws_decode(&d, &roomy, &in, &piece), WS_STATUS_NEED_MORE);
    cr_assert_eq(ws_decode(&d, &roomy, &in, &piece), WS_STATUS_NEED_MORE);
    in = (struct bytes){s.bytes + 6, 1};
    cr_assert_eq(ws_decode(&d, &roomy, &in, &piece), WS_STATUS_PIECE);
    cr_assert(piece.frame_start && piece.frame_end);
    free(s.bytes);
}

/* The rules of RFC 6455 5.2, 5.4, 5.5 and RFC 7692 6 on a first byte, each for itself: bit i of the
 * result is set when status i would be right. */
static uint32_t first_byte_oracle(unsigned first, bool open, bool rsv1)
{
    unsigned op = first & 15;
    bool fin = (first & 0x80) != 0, known = op <= 2 || (op >= 8 && op <= 10);
    uint32_t wrong = 0;
    if ((first & 0x30) != 0 || ((first & 0x40) != 0 && (!rsv1 || (op != 1 && op != 2))))
        wrong |= 1u << WS_STATUS_RESERVED_BITS;
    if (!known)
        wrong |= 1u << WS_STATUS_OPCODE;
    if (op >= 8 && known && !fin)
        wrong |= 1u << WS_STATUS_CONTROL_FRAGMENTED;
    if (op == 0 && !open)
        wrong |= 1u << WS_STATUS_CONTINUATION;
    if ((op == 1 || op == 2) && open)
        wrong |= 1u << WS_STATUS_INTERLEAVED;
    return wrong;
}

Test(ws_decoder, every_first_byte_is_judged_alone)
{
    for (unsigned i = 0; i < 1024; i++) {
        unsigned first = i & 255;
        bool open = (i & 256) != 0, rsv1 = (i & 512) != 0;
        const struct ws_limits *limits = rsv1 ? &roomy_rsv1 : &roomy;
        struct stream s = {0};
        if (open)
            put_frame(&s, 0x01, 2);
        put_byte(&s, first);
        struct seen seen = decode_chunks(&s, limits, 1);
        uint32_t wrong = first_byte_oracle(first, open, rsv1);
        if (wrong == 0)
            cr_assert_eq(seen.status, WS_STATUS_NEED_MORE, "%02x", first);
        else
            cr_assert(wrong >> seen.status & 1, "%02x: %d", first, seen.status);
        free(seen.payload);
        free(s.bytes);
    }
}

Test(ws_decoder, every_good_first_byte_yields_its_frame)
{
    for (unsigned i = 0; i < 1024; i++) {
        unsigned first = i & 255;
        bool open = (i & 256) != 0, rsv1 = (i & 512) != 0;
        if (first_byte_oracle(first, open, rsv1) != 0)
            continue;
        struct stream s = {0};
        if (open)
            put_frame(&s, 0x02, 2);
        put_frame(&s, first, 3);
        struct seen seen = decode_every_way(&s, rsv1 ? &roomy_rsv1 : &roomy, true);
        unsigned op = first & 15;
        cr_assert_eq(seen.status, WS_STATUS_NEED_MORE);
        expect_frame(&seen, open, op == 0 ? WS_OP_BINARY : (uint8_t)op, 3, op == 1 || op == 2,
                     op < 8 && (first & 0x80) != 0);
        cr_assert_eq(seen.frames[open].compressed, (first & 0x40) != 0);
        free(seen.payload);
        free(s.bytes);
    }
}

Test(ws_decoder, every_second_byte_is_judged_alone)
{
    static const unsigned firsts[] = {0x81, 0x02, 0x88, 0x89, 0x8A};
    for (size_t f = 0; f < ARRAY_LEN(firsts); f++) {
        for (unsigned second = 0; second < 256; second++) {
            struct stream s = {0};
            put_byte(&s, firsts[f]);
            put_byte(&s, second);
            if ((second & 0x80) == 0)
                expect_violation(&s, &roomy, WS_STATUS_UNMASKED, 2);
            else if ((firsts[f] & 8) != 0 && second > 0x80 + 125)
                expect_violation(&s, &roomy, WS_STATUS_CONTROL_LENGTH, 2);
            else
                expect_violation(&s, &roomy, WS_STATUS_NEED_MORE, 2);
            free(s.bytes);
        }
    }
}

/* A header of the given bytes behind 0x82. */
static void expect_header(const char *bytes, size_t len, uint64_t max_message,
                          enum ws_status status, size_t after)
{
    struct ws_limits limits = {.max_message_bytes = max_message, .max_fragments = 1};
    struct stream s = {0};
    put_byte(&s, 0x82);
    put(&s, bytes, len);
    expect_violation(&s, &limits, status, after);
    free(s.bytes);
}

#define HEADER(bytes) bytes, sizeof(bytes) - 1

Test(ws_decoder, a_length_that_is_not_the_shortest_form_is_refused_at_its_first_telling_byte)
{
    /* 125 in two bytes: known with the second. 65535 in eight: with the sixth. */
    expect_header(HEADER("\xfe\x00\x7d"), 1 << 20, WS_STATUS_LENGTH_FORM, 4);
    expect_header(HEADER("\xfe\x00\x00"), 1 << 20, WS_STATUS_LENGTH_FORM, 4);
    expect_header(HEADER("\xfe\x00\x7e"), 1 << 20, WS_STATUS_NEED_MORE, 4);
    expect_header(HEADER("\xff\x00\x00\x00\x00\x00\x00"), 1 << 20, WS_STATUS_LENGTH_FORM, 8);
    expect_header(HEADER("\xff\x00\x00\x00\x00\x00\x00\xff\xff"), 1 << 20, WS_STATUS_LENGTH_FORM,
                  8);
    expect_header(HEADER("\xff\x00\x00\x00\x00\x00\x01\x00\x00"), 1 << 20, WS_STATUS_NEED_MORE, 10);
}

Test(ws_decoder, a_length_with_its_highest_bit_set_is_refused_at_that_byte)
{
    expect_header(HEADER("\xff\x80"), 1 << 20, WS_STATUS_LENGTH_FORM, 3);
    expect_header(HEADER("\xff\xff\xff\xff\xff\xff\xff\xff\xff"), UINT64_MAX, WS_STATUS_LENGTH_FORM,
                  3);
    expect_header(HEADER("\xff\x7f\xff\xff\xff\xff\xff\xff\xff"), UINT64_MAX, WS_STATUS_NEED_MORE,
                  10);
}

Test(ws_decoder, a_message_over_the_limit_is_refused_from_its_length_alone)
{
    expect_header(HEADER("\xe4"), 99, WS_STATUS_TOO_BIG, 2); /* 100 */
    expect_header(HEADER("\xe4"), 100, WS_STATUS_NEED_MORE, 2);
    expect_header(HEADER("\x80"), 0, WS_STATUS_NEED_MORE, 2);
    expect_header(HEADER("\x81"), 0, WS_STATUS_TOO_BIG, 2);
    expect_header(HEADER("\xfe\x01\x00"), 200, WS_STATUS_TOO_BIG, 3); /* 256 and more */
    expect_header(HEADER("\xfe\x00\xc9"), 200, WS_STATUS_TOO_BIG, 4); /* 201 */
    expect_header(HEADER("\xfe\x00\xc8"), 200, WS_STATUS_NEED_MORE, 4);
    expect_header(HEADER("\xff\x00\x00\x00\x00\x00\x01\x00\x01"), 65536, WS_STATUS_TOO_BIG, 10);
    expect_header(HEADER("\xff\x00\x00\x00\x00\x00\x01\x00\x00"), 65536, WS_STATUS_NEED_MORE, 10);
    expect_header(HEADER("\xff\x00\x00\x00\x01"), 65536, WS_STATUS_TOO_BIG, 6);
    expect_header(HEADER("\xff\x7f"), 1 << 26, WS_STATUS_TOO_BIG, 3);
}

Test(ws_decoder, the_limit_holds_for_the_sum_of_fragments)
{
    struct ws_limits limits = {.max_message_bytes = 10, .max_fragments = 16};
    struct stream s = {0};
    put_frame(&s, 0x02, 4);
    put_frame(&s, 0x89, 100); /* counts for nothing */
    put_frame(&s, 0x00, 6);
    put_frame(&s, 0x80, 0);
    put_frame(&s, 0x02, 10); /* counting begins anew */
    size_t good = s.len;
    put_frame(&s, 0x80, 1);
    struct stream prefix = {s.bytes, good, 0, 0};
    struct seen seen = decode_every_way(&prefix, &limits, false);
    cr_assert_eq(seen.status, WS_STATUS_NEED_MORE);
    cr_assert_eq(seen.count, 5);
    free(seen.payload);
    expect_violation(&s, &limits, WS_STATUS_TOO_BIG, good + 2);
    free(s.bytes);
}

Test(ws_decoder, a_lowered_limit_refuses_the_next_fragment)
{
    struct stream s = {0};
    put_frame(&s, 0x02, 100);
    size_t first = s.len;
    put_frame(&s, 0x80, 1);
    struct ws_decoder d = {0};
    struct ws_limits lower = {.max_message_bytes = 50, .max_fragments = 16};
    struct seen seen = seen_new(&s);
    cr_assert(feed(&d, &roomy, s.bytes, first, &seen));
    cr_assert_not(feed(&d, &lower, s.bytes + first, s.len - first, &seen));
    cr_assert_eq(seen.status, WS_STATUS_TOO_BIG);
    free(seen.payload);
    free(s.bytes);
}

Test(ws_decoder, too_many_fragments_are_refused_at_the_first_byte)
{
    struct ws_limits limits = {.max_message_bytes = 100, .max_fragments = 3};
    struct stream s = {0};
    put_frame(&s, 0x81, 1);
    put_frame(&s, 0x01, 1);
    put_frame(&s, 0x00, 1);
    put_frame(&s, 0x89, 1); /* no fragment */
    put_frame(&s, 0x80, 1);
    put_frame(&s, 0x01, 1); /* counting begins anew */
    put_frame(&s, 0x00, 0);
    put_frame(&s, 0x00, 0);
    size_t good = s.len;
    put_frame(&s, 0x80, 1);
    expect_violation(&s, &limits, WS_STATUS_FRAGMENTS, good + 1);
    free(s.bytes);
}

/* Decodes one frame of no payload, as often as asked. */
static enum ws_status repeat_empty(struct ws_decoder *d, const struct ws_limits *limits,
                                   uint8_t first, uint32_t times)
{
    enum ws_status st = WS_STATUS_PIECE;
    for (uint32_t i = 0; i < times && st == WS_STATUS_PIECE; i++) {
        uint8_t frame[6] = {first, 0x80};
        struct bytes in = {frame, sizeof frame};
        struct ws_piece piece;
        st = ws_decode(d, limits, &in, &piece);
    }
    return st;
}

Test(ws_decoder, the_fragment_counter_neither_wraps_nor_ends_early)
{
    struct ws_limits limits = {.max_message_bytes = 100, .max_fragments = 65535};
    struct ws_decoder d = {0};
    cr_assert_eq(repeat_empty(&d, &limits, 0x01, 1), WS_STATUS_PIECE);
    cr_assert_eq(repeat_empty(&d, &limits, 0x00, 65534), WS_STATUS_PIECE);
    cr_assert_eq(repeat_empty(&d, &limits, 0x00, 1), WS_STATUS_FRAGMENTS);
    limits.max_fragments = 65536;
    d = (struct ws_decoder){0};
    cr_assert_eq(repeat_empty(&d, &limits, 0x01, 1), WS_STATUS_PIECE);
    cr_assert_eq(repeat_empty(&d, &limits, 0x00, 200000), WS_STATUS_PIECE);
    cr_assert_eq(repeat_empty(&d, &limits, 0x80, 1), WS_STATUS_PIECE);
    cr_assert(ws_decoder_is_idle(&d));
}

Test(ws_decoder, a_continuation_after_a_finished_message_is_refused_at_the_first_byte)
{
    struct stream s = {0};
    put_frame(&s, 0x01, 1);
    put_frame(&s, 0x80, 1);
    size_t good = s.len;
    put_frame(&s, 0x80, 1);
    expect_violation(&s, &roomy, WS_STATUS_CONTINUATION, good + 1);
    free(s.bytes);
}

Test(ws_decoder, complete_messages_before_a_violation_are_still_served)
{
    struct stream s = {0};
    put_frame(&s, 0x81, 3);
    put_frame(&s, 0x82, 200);
    put_frame(&s, 0x83, 3); /* opcode 3 */
    struct seen seen = decode_every_way(&s, &roomy, false);
    cr_assert_eq(seen.status, WS_STATUS_OPCODE);
    cr_assert_eq(seen.count, 2);
    expect_frame(&seen, 0, WS_OP_TEXT, 3, true, true);
    expect_frame(&seen, 1, WS_OP_BINARY, 200, true, true);
    free(seen.payload);
    free(s.bytes);
}

Test(ws_decoder, compression_marks_all_fragments_of_its_message_and_no_control_frame)
{
    struct stream s = {0};
    put_frame(&s, 0x41, 3);
    put_frame(&s, 0x89, 1);
    put_frame(&s, 0x80, 3);
    put_frame(&s, 0x81, 3);
    put_frame(&s, 0xC2, 300);
    struct seen seen = decode_every_way(&s, &roomy_rsv1, false);
    static const bool compressed[] = {true, false, true, false, true};
    cr_assert_eq(seen.count, ARRAY_LEN(compressed));
    for (uint32_t i = 0; i < seen.count; i++)
        cr_assert_eq(seen.frames[i].compressed, compressed[i]);
    free(seen.payload);
    free(s.bytes);
}

Test(ws_decoder, is_idle_only_between_messages)
{
    struct stream s = {0};
    put_frame(&s, 0x02, 2); /* ends at 8 */
    put_frame(&s, 0x89, 1); /* at 15 */
    put_frame(&s, 0x80, 1); /* at 22 */
    put_frame(&s, 0x89, 1); /* at 29 */
    struct ws_decoder d = {0};
    struct seen seen = seen_new(&s);
    for (size_t i = 0; i < s.len; i++) {
        cr_assert_eq(ws_decoder_is_idle(&d), i == 0 || i == 22, "at %zu", i);
        cr_assert(feed(&d, &roomy, s.bytes + i, 1, &seen));
    }
    cr_assert(ws_decoder_is_idle(&d));
    free(seen.payload);
    free(s.bytes);
}

Test(ws_decoder, no_input_needs_more_in_any_state)
{
    struct stream s = {0};
    put_frame(&s, 0x02, 300);
    put_frame(&s, 0x80, 3);
    struct ws_decoder d = {0};
    struct seen seen = seen_new(&s);
    for (size_t i = 0; i < s.len; i++) {
        cr_assert(feed(&d, &roomy, s.bytes, 0, &seen));
        cr_assert(feed(&d, &roomy, s.bytes + i, 1, &seen));
    }
    cr_assert_eq(seen.count, 2);
    free(seen.payload);
    free(s.bytes);
}

/* A server's frames: no key, the rest alike. */
static const struct ws_limits server_roomy = {
    .max_message_bytes = 1 << 20, .max_fragments = 16384, .from_server = true};

/* An unmasked frame in the shortest form; payload byte i is i * 7 + the frame's number. */
static void put_server_frame(struct stream *s, unsigned first, uint64_t len)
{
    put_byte(s, first);
    put_byte(s, len < 126 ? (unsigned)len : len < 65536 ? 126u : 127u);
    for (int shift = len < 126 ? -8 : len < 65536 ? 8 : 56; shift >= 0; shift -= 8)
        put_byte(s, (unsigned)(len >> shift));
    for (uint64_t i = 0; i < len; i++)
        put_byte(s, (uint8_t)(i * 7 + s->frames));
    s->frames++;
}

Test(ws_decoder, frames_of_a_server_are_the_same_whatever_the_split)
{
    static const uint64_t lens[] = {0, 1, 5, 125, 126, 200, 0, 70};
    static const unsigned firsts[] = {0x82, 0x81, 0x02, 0x89, 0x80, 0x82, 0x8a, 0x81};
    struct stream s = {0};
    for (size_t i = 0; i < ARRAY_LEN(lens); i++)
        put_server_frame(&s, firsts[i], lens[i]);

    struct seen seen = decode_every_way(&s, &server_roomy, false);
    cr_assert_eq(seen.status, WS_STATUS_NEED_MORE);
    cr_assert_eq(seen.count, ARRAY_LEN(lens));
    for (uint32_t f = 0; f < seen.count; f++) {
        bool is_data = firsts[f] < 0x88;
        expect_frame(&seen, f, firsts[f] == 0x80 ? 0x02 : firsts[f] & 0x0f, lens[f],
                     is_data && firsts[f] != 0x80, is_data && firsts[f] != 0x02);
    }
    free(seen.payload);
    free(s.bytes);
}

Test(ws_decoder, an_empty_frame_of_a_server_comes_at_its_second_byte)
{
    uint8_t frame[] = {0x8a, 0x00};
    struct ws_decoder d = {0};
    struct bytes in = {frame, sizeof(frame)};
    struct ws_piece piece;
    cr_assert_eq(ws_decode(&d, &server_roomy, &in, &piece), WS_STATUS_PIECE);
    cr_assert_eq(piece.opcode, WS_OP_PONG);
    cr_assert_eq(piece.len, 0);
    cr_assert(ws_decoder_is_idle(&d));
}

Test(ws_decoder, a_masked_frame_of_a_server_is_refused_at_its_second_byte)
{
    struct stream s = {0};
    put_frame(&s, 0x82, 5);
    expect_violation(&s, &server_roomy, WS_STATUS_MASKED, 2);
    free(s.bytes);
}

Test(ws_decoder, each_violation_has_its_close_code_and_text)
{
    for (int st = WS_STATUS_RESERVED_BITS; st <= WS_STATUS_MASKED; st++) {
        uint16_t code = ws_status_close_code((enum ws_status)st);
        cr_assert_eq(code, st == WS_STATUS_TOO_BIG     ? 1009
                           : st == WS_STATUS_FRAGMENTS ? 1008
                                                       : 1002);
        size_t len = strlen(ws_status_text((enum ws_status)st));
        cr_assert(len > 0 && len <= 123);
        for (int other = WS_STATUS_NEED_MORE; other < st; other++)
            cr_assert_str_neq(ws_status_text((enum ws_status)st),
                              ws_status_text((enum ws_status)other));
    }
    cr_assert_str_eq(ws_status_text((enum ws_status)99), "unknown status");
}

Test(ws_decoder, close_codes_are_valid_as_the_registry_says)
{
    for (uint32_t code = 0; code < 65536; code++) {
        bool reserved = code == 1004 || code == 1005 || code == 1006 || code == 1015;
        bool valid = (code >= 1000 && code <= 1015 && !reserved) || (code >= 3000 && code < 5000);
        cr_assert_eq(ws_close_code_is_valid((uint16_t)code), valid, "%u", code);
    }
}
