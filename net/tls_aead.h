/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_AEAD_H
#define NET_TLS_AEAD_H

/* The three AEADs of TLS records, by nettle: AES-GCM with keys of 128 and 256 bits (NIST SP
 * 800-38D) and ChaCha20-Poly1305 (RFC 8439). In place, piece by piece; no allocation, any thread,
 * one context each.
 *
 *     tls_aead_load(c, aead, key);
 *     tls_aead_start(c, true, nonce, aad, aad_len);
 *     tls_aead_crypt(c, p, 4096);       as often as wanted, in multiples of 64 bytes,
 *     tls_aead_crypt(c, p + 4096, 13);  but for the last
 *     tls_aead_tag(c, tag);
 *
 * Opening gives plaintext before the tag is known to be good: the caller compares the tags and
 * gives nothing away until tls_aead_is_same() says yes.
 *
 * A context is scratch memory of a shard, not of a connection: it holds the expanded form of the
 * key loaded last, and loading the same key again costs a comparison. */

#include <stdalign.h>
#include <stdbool.h>

#include "core/base.h"

enum tls_aead {
    TLS_AEAD_AES_128_GCM,
    TLS_AEAD_AES_256_GCM,
    TLS_AEAD_CHACHA20_POLY1305,
    TLS_AEAD_COUNT,
};

#define TLS_AEAD_TAG_BYTES 16
#define TLS_AEAD_NONCE_BYTES 12
#define TLS_AEAD_KEY_BYTES_MAX 32
/* Pieces other than the last are multiples of this. */
#define TLS_AEAD_PIECE_BYTES 64

/* All zero is the initial state: no key. Everything is the .c's. */
struct tls_aead_ctx {
    alignas(16) uint8_t space[4400]; /* nettle's own context */
    uint8_t key[TLS_AEAD_KEY_BYTES_MAX];
    uint8_t loaded; /* 1 + enum tls_aead; 0: no key */
    bool sealing;   /* the message begun */
};

/* 16 or 32. */
size_t tls_aead_key_bytes(enum tls_aead aead);

/* Borrows tls_aead_key_bytes() of key. */
void tls_aead_load(struct tls_aead_ctx *c, enum tls_aead aead, const uint8_t *key);

/* Begins a message under the loaded key, to be encrypted if `sealing`, else to be decrypted. */
void tls_aead_start(struct tls_aead_ctx *c, bool sealing, const uint8_t nonce[TLS_AEAD_NONCE_BYTES],
                    const uint8_t *aad, size_t aad_len);

/* Encrypts or decrypts the message's next bytes in place. */
void tls_aead_crypt(struct tls_aead_ctx *c, uint8_t *p, size_t len);

/* Ends the message: the tag of its ciphertext. */
void tls_aead_tag(struct tls_aead_ctx *c, uint8_t tag[TLS_AEAD_TAG_BYTES]);

/* Compares tags in constant time: every byte is looked at and no branch depends on one. A memcmp()
 * that stops at the first difference tells by its time how many bytes of a forged tag are right,
 * and 16 times 256 guesses forge one. Here a record with a bad tag also ends the connection and its
 * keys, so there is but one guess; the comparison doesn't rely on that. */
bool tls_aead_is_same(const uint8_t a[TLS_AEAD_TAG_BYTES], const uint8_t b[TLS_AEAD_TAG_BYTES]);

/* Whether the context holds this key. */
bool tls_aead_has(const struct tls_aead_ctx *c, enum tls_aead aead, const uint8_t *key);

/* Forgets the key in a way that compilers don't remove. */
void tls_aead_wipe(struct tls_aead_ctx *c);

#endif
