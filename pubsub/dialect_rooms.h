/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_DIALECT_ROOMS_H
#define PUBSUB_DIALECT_ROOMS_H

/* The first dialect: raw messages.
 *
 *   /rooms/NAME          every message of a member goes to all members, unchanged, in one order
 *   /rooms/NAME?echo=0   ... but not back to this member
 *   /echo                (--echo) every message comes back to its sender alone
 *
 * NAME is 1 to 255 bytes of UTF-8 after percent-decoding; a slash in it is sent as %2F. */

#include "net/net.h"
#include "pubsub/hub.h"

struct pubsub;

#define ROOMS_NAME_MAX 255

/* Whether the path is one of this dialect; then *route is filled: an upgrade, or a refusal. */
bool rooms_route(const struct pubsub *p, const struct http_request *req, struct net_route *route);

/* Callbacks of struct net_app for connections that rooms_route() led here. ctx: struct pubsub. */
int rooms_on_open(void *ctx, struct conn *c, const struct http_request *req, uint32_t kind);
bool rooms_on_message(void *ctx, struct conn *c, struct net_message *in);
void rooms_on_close(void *ctx, struct conn *c);

#endif
