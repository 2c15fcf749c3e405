/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_UPGRADE_H
#define NET_UPGRADE_H

/* The opening handshake, server side (RFC 6455 4.2): is this request a valid upgrade, and what is
 * the answer? Pure, any thread. SHA-1 and Base64 from wolfSSL. */

#include "net/deflate.h"
#include "net/http.h"

/* Longest answer: status line, fields, subprotocol (<= 64 bytes), extension. */
#define UPGRADE_RESPONSE_MAX 512
#define UPGRADE_SUBPROTOCOL_MAX 64

struct upgrade_policy {
    const char *const *allow_origin; /* "https://example.com", "*.example.com", "*"; count 0: the
                                        Origin's host and port must be the request's Host */
    uint32_t allow_origin_count;
    const char *const
        *subprotocols; /* that the route speaks, in the server's order of preference */
    uint32_t subprotocol_count;
    bool compress; /* accept permessage-deflate */
};

struct upgrade {
    char accept[29];         /* Sec-WebSocket-Accept, zero-terminated */
    const char *subprotocol; /* one of the policy's, or NULL */
    struct deflate_params deflate;
    const char *problem; /* on a refusal: constant text */
};

/* Returns 101 (out is filled), or the status of the refusal: 400 (key missing, not 16 bytes of
 * Base64, repeated Sec-WebSocket-* fields, malformed extensions, a body), 403 (Origin), 426
 * (version other than 13: the answer says Sec-WebSocket-Version: 13), 405 (not GET). The request
 * has upgrade_websocket. */
int upgrade_check(const struct http_request *req, const struct upgrade_policy *policy,
                  struct upgrade *out);

/* The 101 answer into out (UPGRADE_RESPONSE_MAX). Returns its length. */
uint32_t upgrade_response(const struct upgrade *u, char *out);

#endif
