/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Frame headers (RFC 6455 5.2), and whole control frames. Pure, any thread. */

#include "net/ws_encoder.h"

#include <string.h>

#include "core/base.h"

enum {
    HEAD_FIN = 0x80,
    HEAD_RSV1 = 0x40,
    HEAD_MASK = 0x80, /* second byte */
    LEN_16 = 126,
    LEN_64 = 127,
    CLOSE_CODE_BYTES = 2,
    CLOSE_REASON_MAX = WS_CONTROL_PAYLOAD_MAX - CLOSE_CODE_BYTES,
};

/* The header without a mask into out; `second` is what stands beside the length. */
static uint32_t put_head(uint8_t *out, uint8_t first, uint8_t second, uint64_t payload_len)
{
    uint32_t head_len = ws_head_len(payload_len);
    out[0] = first;
    if (head_len == 2) {
        out[1] = second | (uint8_t)payload_len;
        return head_len;
    }
    out[1] = second | (head_len == 4 ? LEN_16 : LEN_64);
    for (uint32_t i = head_len - 1; i >= 2; i--) {
        out[i] = (uint8_t)payload_len;
        payload_len >>= 8;
    }
    return head_len;
}

uint32_t ws_encode_head_before(uint8_t *end, enum ws_opcode opcode, bool rsv1, uint64_t payload_len)
{
    uint8_t first = HEAD_FIN | (rsv1 ? HEAD_RSV1 : 0) | (uint8_t)opcode;
    return put_head(end - ws_head_len(payload_len), first, 0, payload_len);
}

uint32_t ws_encode_control(uint8_t *out, enum ws_opcode opcode, const void *payload, uint32_t len)
{
    CHECK(len <= WS_CONTROL_PAYLOAD_MAX);
    uint32_t head_len = put_head(out, HEAD_FIN | (uint8_t)opcode, 0, len);
    if (len > 0)
        memcpy(out + head_len, payload, len);
    return head_len + len;
}

/* How much of a UTF-8 text fits into max bytes without cutting a character. */
static uint32_t fitting_len(const char *text, uint32_t max)
{
    size_t len = strlen(text);
    if (len <= max)
        return (uint32_t)len;
    while (max > 0 && ((uint8_t)text[max] & 0xC0) == 0x80)
        max--;
    return max;
}

uint32_t ws_encode_close(uint8_t *out, uint16_t code, const char *reason)
{
    uint8_t payload[WS_CONTROL_PAYLOAD_MAX];
    if (code == 0)
        return ws_encode_control(out, WS_OP_CLOSE, NULL, 0);
    uint32_t reason_len = reason == NULL ? 0 : fitting_len(reason, CLOSE_REASON_MAX);
    payload[0] = (uint8_t)(code >> 8);
    payload[1] = (uint8_t)code;
    if (reason_len > 0)
        memcpy(payload + CLOSE_CODE_BYTES, reason, reason_len);
    return ws_encode_control(out, WS_OP_CLOSE, payload, CLOSE_CODE_BYTES + reason_len);
}

uint32_t ws_encode_client_head(uint8_t *out, enum ws_opcode opcode, bool fin, bool rsv1,
                               uint64_t payload_len, uint32_t key)
{
    uint8_t first = (fin ? HEAD_FIN : 0) | (rsv1 ? HEAD_RSV1 : 0) | (uint8_t)opcode;
    uint32_t head_len = put_head(out, first, HEAD_MASK, payload_len);
    memcpy(out + head_len, &key, sizeof key);
    return head_len + (uint32_t)sizeof key;
}
