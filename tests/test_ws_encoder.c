/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Frame headers, byte for byte, and back through the decoder. */

#include "net/ws_encoder.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/simd.h"

Test(ws_encoder, heads_are_the_bytes_of_rfc_6455_5_2)
{
    static const struct {
        enum ws_opcode opcode;
        bool rsv1;
        uint64_t payload_len;
        uint8_t head[10];
        uint32_t head_len;
    } cases[] = {
        {WS_OP_TEXT, false, 0, {0x81, 0}, 2},
        {WS_OP_BINARY, false, 1, {0x82, 1}, 2},
        {WS_OP_TEXT, true, 125, {0xC1, 125}, 2},
        {WS_OP_BINARY, true, 126, {0xC2, 126, 0, 126}, 4},
        {WS_OP_TEXT, false, 127, {0x81, 126, 0, 127}, 4},
        {WS_OP_TEXT, false, 256, {0x81, 126, 1, 0}, 4},
        {WS_OP_TEXT, false, 65535, {0x81, 126, 0xFF, 0xFF}, 4},
        {WS_OP_BINARY, false, 65536, {0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}, 10},
        {WS_OP_TEXT, false, 0x0102030405060708, {0x81, 127, 1, 2, 3, 4, 5, 6, 7, 8}, 10},
        {WS_OP_PING, false, 3, {0x89, 3}, 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t out[2 * WS_SERVER_HEAD_MAX];
        memset(out, 0xEE, sizeof out);
        uint8_t *end = out + WS_SERVER_HEAD_MAX;
        uint32_t n =
            ws_encode_head_before(end, cases[i].opcode, cases[i].rsv1, cases[i].payload_len);
        cr_assert_eq(n, cases[i].head_len);
        cr_assert_eq(n, ws_head_len(cases[i].payload_len));
        cr_assert_eq(memcmp(end - n, cases[i].head, n), 0);
        for (uint8_t *p = out; p < out + sizeof out; p++)
            cr_assert(*p == 0xEE || (p >= end - n && p < end));
    }
}

Test(ws_encoder, control_frames_of_every_length)
{
    uint8_t payload[WS_CONTROL_PAYLOAD_MAX], out[WS_CONTROL_FRAME_MAX];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i + 1);
    for (uint32_t len = 0; len <= WS_CONTROL_PAYLOAD_MAX; len++) {
        cr_assert_eq(ws_encode_control(out, WS_OP_PONG, payload, len), len + 2);
        cr_assert_eq(out[0], 0x8A);
        cr_assert_eq(out[1], len);
        cr_assert_eq(memcmp(out + 2, payload, len), 0);
    }
}

Test(ws_encoder, a_close_frame_has_its_code_and_reason)
{
    uint8_t out[WS_CONTROL_FRAME_MAX];
    cr_assert_eq(ws_encode_close(out, 1001, "bye"), 7);
    cr_assert_eq(memcmp(out,
                        "\x88\x05\x03\xe9"
                        "bye",
                        7),
                 0);
    cr_assert_eq(ws_encode_close(out, 1000, ""), 4);
    cr_assert_eq(ws_encode_close(out, 1000, NULL), 4);
    cr_assert_eq(memcmp(out, "\x88\x02\x03\xe8", 4), 0);
}

Test(ws_encoder, a_close_frame_without_a_code_is_empty)
{
    uint8_t out[WS_CONTROL_FRAME_MAX];
    cr_assert_eq(ws_encode_close(out, 0, "never sent"), 2);
    cr_assert_eq(memcmp(out, "\x88\x00", 2), 0);
}

Test(ws_encoder, a_long_reason_is_cut_between_characters)
{
    /* A character of 1 to 4 bytes that begins at each place around the 123rd byte. */
    static const char *const characters[] = {"a", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x8C\x8A"};
    for (uint32_t at = 115; at <= 123; at++) {
        for (size_t c = 0; c < ARRAY_LEN(characters); c++) {
            char reason[200] = {0};
            uint8_t out[WS_CONTROL_FRAME_MAX];
            uint32_t wide = (uint32_t)strlen(characters[c]);
            memset(reason, 'x', at);
            while (strlen(reason) + wide < sizeof reason)
                strcat(reason, characters[c]);
            uint32_t fits = at + (123 - at) / wide * wide;
            cr_assert_eq(ws_encode_close(out, 1008, reason), 4 + fits);
            cr_assert_eq(out[1], 2 + fits);
            cr_assert_eq(memcmp(out + 4, reason, fits), 0);
        }
    }
}

Test(ws_encoder, a_reason_of_exactly_123_bytes_is_whole)
{
    char reason[124] = {0};
    uint8_t out[WS_CONTROL_FRAME_MAX];
    memset(reason, 'r', 123);
    cr_assert_eq(ws_encode_close(out, 1008, reason), WS_CONTROL_FRAME_MAX);
}

/* A client's frame of len bytes, decoded. */
static void check_client_frame(enum ws_opcode opcode, bool fin, bool rsv1, uint32_t len)
{
    const struct ws_limits limits = {1 << 20, 10, true, false};
    uint32_t key;
    memcpy(&key, "\x37\xfa\x21\x3d", 4);
    uint8_t *frame = malloc(14 + len);
    cr_assert_not_null(frame);
    uint32_t head = ws_encode_client_head(frame, opcode, fin, rsv1, len, key);
    for (uint32_t i = 0; i < len; i++)
        frame[head + i] = (uint8_t)(i * 3);
    simd->unmask(frame + head, frame + head, len, key);

    struct ws_decoder d = {0};
    struct bytes in = {frame, head + len};
    struct ws_piece piece;
    cr_assert_eq(ws_decode(&d, &limits, &in, &piece), WS_STATUS_PIECE);
    cr_assert_eq(piece.opcode, opcode);
    cr_assert_eq(piece.len, len);
    cr_assert_eq(piece.message_end, fin && !ws_opcode_is_control(opcode));
    cr_assert_eq(piece.compressed, rsv1);
    for (uint32_t i = 0; i < len; i++)
        cr_assert_eq(piece.ptr[i], (uint8_t)(i * 3));
    cr_assert_eq(in.len, 0);
    free(frame);
}

Test(ws_encoder, what_a_client_encodes_decodes_to_itself)
{
    static const uint32_t lens[] = {0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 65535, 65536, 70000};
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        for (int flags = 0; flags < 4; flags++) {
            check_client_frame(WS_OP_TEXT, (flags & 1) != 0, (flags & 2) != 0, lens[i]);
            check_client_frame(WS_OP_BINARY, (flags & 1) != 0, (flags & 2) != 0, lens[i]);
        }
        if (lens[i] <= WS_CONTROL_PAYLOAD_MAX)
            check_client_frame(WS_OP_PING, true, false, lens[i]);
    }
}

Test(ws_encoder, the_rfc_6455_5_7_examples)
{
    uint8_t out[WS_CONTROL_FRAME_MAX];
    uint32_t key;
    memcpy(&key, "\x37\xfa\x21\x3d", 4);
    cr_assert_eq(ws_encode_client_head(out, WS_OP_TEXT, true, false, 5, key), 6);
    cr_assert_eq(memcmp(out, "\x81\x85\x37\xfa\x21\x3d", 6), 0);
    simd->unmask(out + 6, (const uint8_t *)"Hello", 5, key);
    cr_assert_eq(memcmp(out + 6, "\x7f\x9f\x4d\x51\x58", 5), 0);
    cr_assert_eq(ws_encode_control(out, WS_OP_PING, "Hello", 5), 7);
    cr_assert_eq(memcmp(out, "\x89\x05Hello", 7), 0);
}
