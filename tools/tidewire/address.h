/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_ADDRESS_H
#define TOOLS_TIDEWIRE_ADDRESS_H

/* The texts of --address and --admin-address as places to listen on. Pure, any thread. */

#include <stdbool.h>

#include "core/io.h"

/* Longest path of a Unix socket, without the terminating zero. */
#define ADDRESS_PATH_MAX 107

struct address {
    struct io_addr addr; /* AF_UNIX: only the family */
    const char *path;    /* of AF_UNIX, borrowed from the text; else NULL */
};

/* "127.0.0.1", "::1", "[::1]" or "unix:PATH". Returns 0 or -EINVAL. */
MUST_USE int address_parse(const char *text, uint16_t port, struct address *a);

/* "127.0.0.1:8001", "[::1]:8001" or "unix:PATH". Returns 0 or -EINVAL. */
MUST_USE int address_parse_with_port(const char *text, struct address *a);

/* Whether only this host reaches it: 127.0.0.0/8, ::1, a Unix socket. */
bool address_is_loopback(const struct address *a);

/* Whether one connection could come to either of two: they are the same place, or one of them is
 * all addresses with the same port. Port 0 is a free one each time. */
bool address_overlaps(const struct address *a, const struct address *b);

#endif
