/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_WS_ENCODER_H
#define NET_WS_ENCODER_H

/* Frame headers of the server's side: unmasked, never fragmented (RFC 6455 5.2). Pure, any thread.
 */

#include <stdbool.h>

#include "core/base.h"
#include "net/ws_decoder.h"

#define WS_SERVER_HEAD_MAX 10
#define WS_CONTROL_PAYLOAD_MAX 125
/* A whole control frame. */
#define WS_CONTROL_FRAME_MAX (2 + WS_CONTROL_PAYLOAD_MAX)

/* Length of the header for a payload: 2, 4 or 10. */
static inline uint32_t ws_head_len(uint64_t payload_len)
{
    return payload_len < 126 ? 2 : payload_len < 65536 ? 4 : 10;
}

/* Writes the header so that it ends where `end` points: the payload follows there. Returns its
 * length. FIN is set; rsv1 marks a compressed message. */
uint32_t ws_encode_head_before(uint8_t *end, enum ws_opcode opcode, bool rsv1,
                               uint64_t payload_len);

/* A whole control frame into out (WS_CONTROL_FRAME_MAX bytes); len <= 125. Returns its length. */
uint32_t ws_encode_control(uint8_t *out, enum ws_opcode opcode, const void *payload, uint32_t len);

/* A close frame; code 0 makes an empty one, reason is cut at a character boundary to 123 bytes. */
uint32_t ws_encode_close(uint8_t *out, uint16_t code, const char *reason);

/* The client's side, for programs on core/ (load generator, tests): header with mask bit and key
 * into out (14 bytes at most); the payload is to be masked with simd->unmask(). Returns its length.
 */
uint32_t ws_encode_client_head(uint8_t *out, enum ws_opcode opcode, bool fin, bool rsv1,
                               uint64_t payload_len, uint32_t key);

#endif
