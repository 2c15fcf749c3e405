/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_CLIENT_TLS_H
#define TOOLS_LOAD_CLIENT_TLS_H

/* TLS of a connection of the generator: the handshake by wolfSSL (60 KB while it lasts, so at most
 * --tls-handshakes at a time), then records by net/tls_record.h, some 200 bytes. On the worker's
 * thread.
 *
 * A connection ends by close_notify only where it ends by a close frame: the other ways are those
 * of clients that vanish. */

#include "net/tls_handshake.h"
#include "tools/load/client.h"

/* A flight of a client, at most; a long ticket is the large part. */
#define CLIENT_TLS_FLIGHT_MAX 8192

/* A worker's part, as long as it lives; NULL without TLS. */
struct worker_tls {
    struct tls_work work;
    void *session;         /* WOLFSSL_SESSION to be resumed, with --tls-resume; or NULL */
    uint8_t *plain;        /* out_bytes of the worker: where what is sealed next is made */
    uint8_t *records_free; /* buffers for cut records, linked through their first bytes */
    uint64_t full;         /* handshakes that were completed */
    uint64_t resumed;
    struct tls_handshake_info info; /* of the last one */
};

/* What out_bytes must be more with TLS, for `bytes` of plaintext. */
size_t client_tls_extra_bytes(size_t bytes);

/* Makes w->tls; w->out_bytes is known. 0 or -ENOMEM. Main. */
MUST_USE int worker_tls_init(struct worker *w);
void worker_tls_deinit(struct worker *w);

/* Connected: begins the handshake; client_ask() follows. */
void client_tls_begin(struct client *c);

/* What has come, as it came. Returns whether frames could be in it. */
bool client_tls_input(struct client *c, struct bytes in);

/* The handshake's flight waited for a send that is over. */
void client_tls_push(struct client *c);

/* Seals spans into out. Returns the bytes, 0 when the key gives no more. A client that leaves says
 * close_notify behind them. */
size_t client_tls_seal(struct client *c, const struct iovec *iov, int count, uint8_t *out,
                       size_t room);

/* c is forgotten by io: everything goes. */
void client_tls_free(struct client *c);

#endif
