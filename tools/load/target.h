/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_TARGET_H
#define TOOLS_LOAD_TARGET_H

/* Where the load goes: a WebSocket URL, taken apart and looked up once, and paths with places that
 * are filled in for each connection. Main thread at start; filling in: any thread. */

#include <stdbool.h>

#include "core/io.h"

#define TARGET_TEXT_MAX 512
#define TARGET_PATH_MAX 256

struct target {
    struct io_addr addr;
    bool is_loopback;           /* 127.0.0.0/8: any address of it may be a source */
    bool is_tls;                /* wss */
    char name[TARGET_TEXT_MAX]; /* the host alone, without brackets and port */
    char host[TARGET_TEXT_MAX]; /* for the Host field: as in the URL, with the port */
    char path[TARGET_PATH_MAX]; /* with its query; "" when the URL has none */
};

/* What places in a path stand for. */
struct target_values {
    uint32_t connection; /* {n}: number of the connection in its group */
    uint32_t room;       /* {room} */
    uint32_t run;        /* {run}: a number drawn for this run, so that runs do not meet */
};

/* Whether text is ws[s]://HOST[:PORT][/PATH]: NULL, or what is wrong with it as a constant text.
 * The host is not looked up. */
const char *target_check(const char *url);

/* Whether it is a wss:// URL. */
bool target_is_tls(const char *url);

/* Whether a path begins with / and has no other places than {n}, {room} and {run}: NULL, or what is
 * wrong with it. */
const char *target_check_path(const char *path);

/* Takes a checked URL apart and looks its host up. Returns NULL, or why that failed. */
const char *target_resolve(const char *url, struct target *t);

/* Fills the places of a checked path. Returns the length; out has TARGET_PATH_MAX bytes, and what
 * does not fit is cut. */
uint32_t target_fill(const char *path, const struct target_values *values, char *out);

#endif
