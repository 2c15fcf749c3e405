/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_CONTEXT_H
#define NET_TLS_CONTEXT_H

/* Certificates and keys, and how handshakes are set up. A context never changes: a reload makes a
 * new one, and the old one goes with the last who holds it.
 *
 *     main                               shards
 *     tls_context_load() -> new
 *     tls_shared_swap(new) ------------> tls_shared_renew(): once per handshake, one load unless
 *                                        there is a new one
 *
 * What is set up (and what is not): TLS 1.2 and 1.3; suites with AEAD and ephemeral keys, AES-128
 * first; X25519 before P-256 and P-384; ALPN http/1.1; no session cache, renegotiation, compression
 * or 0-RTT (the last is not in Debian's library). With client certificates no session is resumed: a
 * ticket would not tell whose it is. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/base.h"
#include "net/tls_file.h"
#include "net/tls_hello.h"
#include "net/tls_ticket.h"

struct tls_context;
struct tls_identity;
struct tls_staple;

/* Names of files, PEM where nothing else is said. Borrowed during the load. */
struct tls_files {
    char *const *certs;          /* certificate chains, the leaf first */
    char *const *keys;           /* keys[i] belongs to certs[i] */
    uint32_t count;              /* the first pair is for clients that name no server, or another */
    char *const *client_cas;     /* clients need a certificate from one in these */
    uint32_t client_ca_count;    /* 0: they need none */
    char *const *staples;        /* OCSP responses in DER, of any of the certificates */
    uint32_t staple_count;       /* 0: none is stapled */
    uint64_t ticket_lifetime_ns; /* 0: no session tickets */
};

/* The most certificates. */
#define TLS_IDENTITIES_MAX 64

/* Reads and checks everything; now_s is the wall clock. Returns 0 and *out with one reference, or
 * -EINVAL and in complaint one line that names the file, what is wrong, and the remedy. */
MUST_USE int tls_context_load(const struct tls_files *files, int64_t now_s,
                              struct tls_context **out, char complaint[TLS_COMPLAINT_MAX]);

/* Any thread. */
struct tls_context *tls_context_ref(struct tls_context *ctx);
void tls_context_unref(struct tls_context *ctx);

/* The certificate for a client: its name's (exact before wildcard, RFC 6125 6.4.3), else the first
 * pair's; of these the first of a kind that the client takes, ECDSA before RSA. Never NULL. */
const struct tls_identity *tls_context_choose(const struct tls_context *ctx,
                                              const struct tls_hello *hello);

/* Whether a client with this ClientHello is to get the certificate's OCSP response: there is one,
 * it is asked for, the library has no leak there, and now_s, the wall clock, is within its times.
 */
bool tls_context_staples(const struct tls_context *ctx, const struct tls_identity *id,
                         const struct tls_hello *hello, int64_t now_s);

/* The WOLFSSL_CTX of a certificate, as void * so that wolfSSL stays in its own files; `staples`:
 * the one that staples its OCSP response, where there is one. */
void *tls_identity_library(const struct tls_identity *id, bool staples);
const char *tls_identity_file(const struct tls_identity *id);
bool tls_identity_is_rsa(const struct tls_identity *id);
/* Its OCSP response, or NULL. */
const struct tls_staple *tls_identity_staple(const struct tls_identity *id);

uint32_t tls_context_count(const struct tls_context *ctx);
const struct tls_identity *tls_context_at(const struct tls_context *ctx, uint32_t i);
/* When the first of its certificates expires (of a chain, its leaf), in seconds since 1970; *file
 * is its name. */
int64_t tls_context_expiry_s(const struct tls_context *ctx, const char **file);
/* When the first of its OCSP responses expires, and in *file its name; 0: there are none. */
int64_t tls_context_staple_expiry_s(const struct tls_context *ctx, const char **file);

/* Whether the library staples in TLS 1.3 without leaking, as tls_self_test() has found out; only
 * with YES something is stapled. In TLS 1.2 it does. */
enum tls_staples_13 {
    TLS_STAPLES_13_UNTRIED,   /* at first, and for responses that came with a reload only */
    TLS_STAPLES_13_NO_ANSWER, /* tried, but the child did not start or did not get to its end */
    TLS_STAPLES_13_NO,
    TLS_STAPLES_13_YES,
};
void tls_context_set_staples_13(struct tls_context *ctx, enum tls_staples_13 answer);
enum tls_staples_13 tls_context_staples_13(const struct tls_context *ctx);
bool tls_context_has_tickets(const struct tls_context *ctx);
bool tls_context_wants_client(const struct tls_context *ctx);

/* What all shards share. */
struct tls_shared {
    pthread_mutex_t lock;        /* of `current`; taken once per shard and reload */
    struct tls_context *current; /* holds a reference */
    _Atomic uint32_t generation; /* counts swaps; release store pairs with tls_shared_renew() */
    uint64_t start_ns;           /* on io's clock: the tickets' first period begins */
    uint8_t ticket_seed[TLS_TICKET_SEED_BYTES];
};

/* Takes the context's reference. Main. */
void tls_shared_init(struct tls_shared *s, struct tls_context *first,
                     const uint8_t ticket_seed[TLS_TICKET_SEED_BYTES]);
void tls_shared_deinit(struct tls_shared *s);

/* Takes the reference of the new one. Main. */
void tls_shared_swap(struct tls_shared *s, struct tls_context *next);

/* Keeps *mine, a shard's own reference (NULL at first), and *generation the current ones. */
void tls_shared_renew(struct tls_shared *s, struct tls_context **mine, uint32_t *generation);

#endif
