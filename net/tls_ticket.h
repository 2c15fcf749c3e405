/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_TICKET_H
#define NET_TLS_TICKET_H

/* The keys of session tickets (RFC 5077 4, RFC 8446 4.6.1), the same on all shards without anything
 * shared: each shard starts from the node's one random seed, and when a period of the clock ends it
 * hashes the seed into the next one and forgets the last. So shards agree as long as their clocks
 * do, and who reads a shard's memory learns nothing that opens tickets older than two periods.
 * What is sealed under the last period's key is still taken. AES-256-GCM. One shard. */

#include "net/tls_aead.h"

#define TLS_TICKET_SEED_BYTES 32
#define TLS_TICKET_NAME_BYTES 16

struct tls_ticket_key {
    uint8_t name[TLS_TICKET_NAME_BYTES];
    uint8_t key[32];
};

/* Everything is the .c's. */
struct tls_ticket_keys {
    uint64_t start_ns;
    uint64_t period_ns;
    uint64_t period; /* number of the current one, from start_ns on */
    uint8_t seed[TLS_TICKET_SEED_BYTES];
    struct tls_ticket_key current;
    struct tls_ticket_key last; /* name all zero: none */
    struct tls_aead_ctx aead;
};

/* Borrows the seed. start_ns, the same for all shards, is when the first period begins; period_ns
 * is not 0. 0, or -EIO when the library has no hash. */
MUST_USE int tls_ticket_init(struct tls_ticket_keys *k, const uint8_t seed[TLS_TICKET_SEED_BYTES],
                             uint64_t start_ns, uint64_t period_ns);

/* Before each use: moves on to now_ns's period. A clock that steps back changes nothing. */
MUST_USE int tls_ticket_advance(struct tls_ticket_keys *k, uint64_t now_ns);

/* Encrypts len bytes in place. Writes the key's name and the tag; nonce must never repeat (random).
 * `aad` is authenticated with them. */
void tls_ticket_seal(struct tls_ticket_keys *k, uint8_t name[TLS_TICKET_NAME_BYTES],
                     const uint8_t nonce[TLS_AEAD_NONCE_BYTES], const uint8_t *aad, size_t aad_len,
                     uint8_t *p, size_t len, uint8_t tag[TLS_AEAD_TAG_BYTES]);

/* Decrypts in place. False: no key of that name, or not what was sealed. */
bool tls_ticket_open(struct tls_ticket_keys *k, const uint8_t name[TLS_TICKET_NAME_BYTES],
                     const uint8_t nonce[TLS_AEAD_NONCE_BYTES], const uint8_t *aad, size_t aad_len,
                     uint8_t *p, size_t len, const uint8_t tag[TLS_AEAD_TAG_BYTES]);

/* Forgets all keys. */
void tls_ticket_wipe(struct tls_ticket_keys *k);

#endif
