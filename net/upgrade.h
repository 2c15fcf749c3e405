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

/* Entries of allow_origin: "*" is every origin. Else [scheme "://"] host [":" port], where the host
 * may be "*.example.com", which is every name below example.com and not itself; without a scheme
 * http and https both do, without a port the Origin must have its scheme's default port. "null"
 * is the opaque origin. */
struct upgrade_policy {
    const char *const *allow_origin; /* count 0: the Origin's host and port must be the request's
                                        Host */
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

/* Returns 101 (out is filled), or the status of the refusal: 400 (a body; version missing; key
 * missing or not 16 bytes of Base64; either or Origin repeated; malformed subprotocols or
 * extensions), 403 (Origin), 426 (version other than 13: the answer says Sec-WebSocket-Version:
 * 13), 405 (not GET). A request without Origin is no browser's and passes. Sec-WebSocket-Protocol
 * and -Extensions may be repeated, as lists (RFC 6455 11.3). The request has upgrade_websocket. */
int upgrade_check(const struct http_request *req, const struct upgrade_policy *policy,
                  struct upgrade *out);

/* The 101 answer into out (UPGRADE_RESPONSE_MAX). Returns its length. */
uint32_t upgrade_response(const struct upgrade *u, char *out);

#endif
