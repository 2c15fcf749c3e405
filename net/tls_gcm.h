/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_GCM_H
#define NET_TLS_GCM_H

/* AES-GCM (NIST SP 800-38D) by the processor's own instructions, on x86-64: AES, carry-less
 * multiplication and byte shuffles. No table, and no branch or address that depends on a key or on
 * data. In place, piece by piece, as in net/tls_aead.h, which takes nettle where this is not to be
 * had. A key is set up in some 40 ns, since nearly every record has another one. Pure, any thread,
 * one context each. */

#include <stdalign.h>
#include <stdbool.h>

#include "core/base.h"

/* Blocks that are hashed with one reduction. */
#define TLS_GCM_BLOCKS 8

/* Everything is the .c's. */
struct tls_gcm {
    alignas(16) uint8_t round_keys[15][16];
    uint8_t powers[TLS_GCM_BLOCKS][16]; /* of the hash key, from the first on: */
    uint32_t power_count;               /* as many as were needed so far */
    uint32_t rounds;
    uint8_t hash[16];
    uint8_t counter[16]; /* of the next block */
    uint8_t mask[16];    /* of the tag */
    uint64_t aad_bytes;
    uint64_t bytes;
};

/* Whether this processor has the instructions; the others may only be called if so. */
bool tls_gcm_is_available(void);

/* Sets up a key of 16 or 32 bytes. */
void tls_gcm_load(struct tls_gcm *g, const uint8_t *key, size_t key_bytes);

/* Begins a message; a nonce of 12 bytes. */
void tls_gcm_start(struct tls_gcm *g, const uint8_t *nonce, const uint8_t *aad, size_t aad_len);

/* Encrypts, or decrypts, the next bytes in place: a multiple of 16, but for the last piece. */
void tls_gcm_encrypt(struct tls_gcm *g, uint8_t *p, size_t len);
void tls_gcm_decrypt(struct tls_gcm *g, uint8_t *p, size_t len);

/* Ends the message: 16 bytes. */
void tls_gcm_tag(struct tls_gcm *g, uint8_t *tag);

#endif
