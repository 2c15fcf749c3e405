/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_PROXY_HEADER_H
#define NET_PROXY_HEADER_H

/* The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt), as a trusted balancer sends
 * it at the beginning of a connection. Pure, any thread. */

#include <stdbool.h>

#include "core/base.h"
#include "core/io.h"

#define PROXY_HEADER_MAX 536 /* v2: 16 + 520 bytes of addresses and TLVs; v1: 107 */

enum proxy_result {
    PROXY_MORE, /* a prefix of a header so far */
    PROXY_OK,   /* *consumed bytes are the header; *peer is set, or untouched for LOCAL/UNKNOWN */
    PROXY_INVALID, /* not a PROXY header, or malformed, or over PROXY_HEADER_MAX */
};

/* Looks at all bytes received so far; says as early as it can that they are no header. IPv4
 * addresses mapped into IPv6 count as IPv4. */
enum proxy_result proxy_header_parse(const uint8_t *p, size_t len, size_t *consumed,
                                     struct io_addr *peer);

/* A trusted network, "10.0.0.0/8", "::1", "unix". */
struct proxy_net {
    uint8_t ip[16];      /* bits behind the prefix are 0 */
    uint8_t prefix_bits; /* of the 128-bit form */
    uint8_t family;      /* AF_INET, AF_INET6, AF_UNIX */
};

/* 0 or -EINVAL. */
MUST_USE int proxy_net_parse(const char *text, struct proxy_net *net);

/* Judged by the address's bytes: IPv4, mapped or not, is in no IPv6 network, "::/0" included. */
bool proxy_net_has(const struct proxy_net *net, const struct io_addr *a);

#endif
