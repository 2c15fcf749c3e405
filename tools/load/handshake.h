/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_HANDSHAKE_H
#define TOOLS_LOAD_HANDSHAKE_H

/* The opening handshake, client side (RFC 6455 4.1): the request, and what the answer says. Pure,
 * any thread. The key is the constant of RFC 6455 1.3, so the answer that proves a WebSocket server
 * is constant, too. */

#include <stdbool.h>

#include "core/base.h"

#define HANDSHAKE_REQUEST_MAX 1280
#define HANDSHAKE_ANSWER_MAX 8192

struct handshake_answer {
    int status;          /* of HTTP */
    bool compressed;     /* permessage-deflate was accepted */
    const char *problem; /* NULL: a good upgrade; else a constant text */
};

/* The request into out; returns its length. */
uint32_t handshake_request(char *out, const char *host, const char *path, bool compress);

/* The length of the head in p[0 .. len), its empty line included; 0: it is not complete. */
size_t handshake_head_len(const uint8_t *p, size_t len);

/* Reads a complete head. `compress`: it was offered. */
void handshake_read(const uint8_t *head, size_t len, bool compress, struct handshake_answer *a);

#endif
