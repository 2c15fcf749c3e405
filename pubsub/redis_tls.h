/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_TLS_H
#define PUBSUB_REDIS_TLS_H

/* TLS of one connection to Redis, as the client: bytes in, bytes out, no socket, no clock. It
 * stands between a link and its io. On the shard's thread.
 *
 *     t = redis_tls_new(client, "redis.example");          connected
 *     send redis_tls_seal(t, out, &taken);                 whenever a send is over, and after input
 *     while ((st = redis_tls_open(t, &in, &plain)) != REDIS_TLS_MORE && ...)
 *         UP: commands may be written; DATA: use(plain); CLOSED, FAILED: send redis_tls_end(t), end
 *     redis_tls_free(t);                                   nothing of it is being sent any more
 *
 * The handshake is wolfSSL's (net/tls_handshake.h, 60 KB while it lasts), then the record layer of
 * our own has the keys (net/tls_record.h). One block of 47 KB, of which a connection with short
 * records touches some 12, holds all of it: nothing is allocated for a record.
 *
 * Sessions are not resumed: see README.md. */

#include "core/base.h"
#include "net/tls_client.h"
#include "pubsub/redis_out.h"

struct redis_tls;

enum redis_tls_status {
    REDIS_TLS_MORE,   /* *in is used up */
    REDIS_TLS_UP,     /* the handshake is through: told once, before any DATA */
    REDIS_TLS_DATA,   /* *plain is what the server has said, at least one byte; a view, writable,
                         until the next call */
    REDIS_TLS_CLOSED, /* close_notify: nothing more comes */
    REDIS_TLS_FAILED, /* redis_tls_problem() says why */
};

/* Begins a handshake with the server that must prove to be `name`, a host's name or an address; it
 * is borrowed. NULL without memory. client outlives it. */
struct redis_tls *redis_tls_new(struct tls_client *client, const char *name);

/* Wipes the keys. NULL is allowed. */
void redis_tls_free(struct redis_tls *t);

/* Takes from *in, which is overwritten, up to the next thing to be told. CLOSED and FAILED last. */
enum redis_tls_status redis_tls_open(struct redis_tls *t, struct bytes *in, struct bytes *plain);

/* What is to be sent next; empty: nothing. A view that stays as it is until the next call of this
 * or of redis_tls_end(), which must wait until it has been sent. Up to 16 KiB of *out are sealed
 * as one record, and *taken says how many bytes of commands that were. Nobody else may gather from
 * out. Nothing of out is taken before UP. May fail: redis_tls_has_failed(). */
struct bytes redis_tls_seal(struct redis_tls *t, struct redis_out *out, size_t *taken);

/* The last words: the alert of a failure, or close_notify; may be empty. A view, as above. */
struct bytes redis_tls_end(struct redis_tls *t);

/* Whether the handshake is through. */
bool redis_tls_is_up(const struct redis_tls *t);

bool redis_tls_has_failed(const struct redis_tls *t);

/* Whether a key of TLS 1.2 has done its share (net/tls_record.h): connect anew, in good order. */
bool redis_tls_is_worn(const struct redis_tls *t);

/* After FAILED: what is wrong and what helps, in one line; lives as long as t. */
const char *redis_tls_problem(const struct redis_tls *t);

#endif
