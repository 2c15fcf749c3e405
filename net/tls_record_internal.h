/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_RECORD_INTERNAL_H
#define NET_TLS_RECORD_INTERNAL_H

/* What tls_record.c, tls_record_open.c, tls_record_seal.c and tls_ktls.c share: the layout of the
 * state, and what records have in common in both directions. */

#include <endian.h>
#include <string.h>

#include "net/tls_hkdf.h"
#include "net/tls_record.h"

enum {
    RECORD_TYPE_NONE = 0, /* 1.3: only padding has it */
    RECORD_TYPE_ALERT = 21,
    RECORD_TYPE_HANDSHAKE = 22,
    RECORD_TYPE_DATA = 23,
};

/* struct tls_record's bits. */
enum {
    RECORD_BIT_TLS13 = 1,
    RECORD_BIT_CLIENT = 2,
    RECORD_BIT_INPUT_CLOSED = 4,
    RECORD_BIT_OUTPUT_ENDED = 8,
    RECORD_BIT_UPDATE_DUE = 16,     /* a KeyUpdate stands before our next data */
    RECORD_BIT_UPDATE_REQUEST = 32, /* and asks for the peer's */
    RECORD_BIT_LENT = 64,           /* the kernel seals: tls_ktls.h */
};

enum {
    RECORD_EXPLICIT_NONCE_BYTES = 8,
    RECORD_AAD_BYTES_MAX = 13,
    RECORD_MESSAGE_KEY_UPDATE = 24,
    RECORD_UPDATE_BYTES = 5, /* of a KeyUpdate message */
    RECORD_ALERT_BYTES = 2,
    RECORD_ALERT_WARNING = 1,
    RECORD_ALERT_FATAL = 2,
    RECORD_ALERT_CLOSE_NOTIFY = 0,
};

static inline bool record_is_13(const struct tls_record *r)
{
    return (r->bits & RECORD_BIT_TLS13) != 0;
}

static inline bool record_is_gcm(const struct tls_record *r)
{
    return r->aead != TLS_AEAD_CHACHA20_POLY1305;
}

/* 1.2 GCM records carry a part of their nonce. */
static inline bool record_has_explicit(const struct tls_record *r)
{
    return !record_is_13(r) && record_is_gcm(r);
}

static inline size_t record_key_bytes(const struct tls_record *r)
{
    return tls_aead_key_bytes((enum tls_aead)r->aead);
}

/* Of the suite: RFC 8446 B.4. */
static inline enum tls_hash record_hash(enum tls_aead aead)
{
    return aead == TLS_AEAD_AES_256_GCM ? TLS_HASH_SHA384 : TLS_HASH_SHA256;
}

/* Of a traffic secret (RFC 8446 7.1). */
static inline size_t record_secret_bytes(enum tls_aead aead)
{
    return tls_hash_bytes(record_hash(aead));
}

static inline uint8_t *record_read_key(struct tls_record *r)
{
    return r->keys;
}

static inline uint8_t *record_write_key(struct tls_record *r)
{
    return r->keys + record_key_bytes(r);
}

static inline uint8_t *record_read_secret(struct tls_record *r)
{
    return r->keys + 2 * record_key_bytes(r);
}

static inline uint8_t *record_write_secret(struct tls_record *r)
{
    return record_read_secret(r) + record_secret_bytes((enum tls_aead)r->aead);
}

/* Bytes between a record's header and its ciphertext. */
static inline size_t record_explicit_bytes(const struct tls_record *r)
{
    return record_has_explicit(r) ? RECORD_EXPLICIT_NONCE_BYTES : 0;
}

/* What a record has beside its content. */
static inline size_t record_extra(const struct tls_record *r)
{
    size_t type = record_is_13(r) ? 1 : 0;
    return TLS_RECORD_HEAD_BYTES + record_explicit_bytes(r) + type + TLS_AEAD_TAG_BYTES;
}

static inline uint64_t record_key_limit(const struct tls_record *r)
{
    return UINT64_C(1) << r->rekey_log2;
}

/* The next generation of one direction's keys. */
struct record_keys {
    uint8_t secret[TLS_HASH_BYTES_MAX];
    uint8_t key[TLS_AEAD_KEY_BYTES_MAX];
    uint8_t iv[TLS_AEAD_NONCE_BYTES];
};

/* Derives the generation behind `secret` (RFC 8446 7.2). */
void record_next_keys(const struct tls_record *r, const uint8_t *secret, struct record_keys *next);

/* Puts them in place, and wipes where they come from and what c has expanded from the old ones. */
void record_install_keys(const struct tls_record *r, struct tls_aead_ctx *c,
                         struct record_keys *next, uint8_t *secret, uint8_t *key, uint8_t *iv);

/* The messages that go as records of their own. The alert is the last: false when there is none. */
void record_update_message(const struct tls_record *r, uint8_t message[RECORD_UPDATE_BYTES]);
bool record_end_message(struct tls_record *r, uint8_t message[RECORD_ALERT_BYTES]);

/* New keys for what is sent behind our KeyUpdate; `next` is what record_next_keys() has derived. */
void record_next_write_keys(struct tls_record *r, struct tls_aead_ctx *c, struct record_keys *next);

/* Whether our key may seal another record with data. */
bool record_check_limit(struct tls_record *r);

static inline enum tls_record_status record_fail(struct tls_record *r, enum tls_reason reason)
{
    r->reason = (uint8_t)reason;
    return TLS_RECORD_FAILED;
}

static inline void record_put_u16(uint8_t *p, size_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void record_put_u64(uint8_t *p, uint64_t value)
{
    uint64_t big_endian = htobe64(value);
    memcpy(p, &big_endian, sizeof big_endian);
}

static inline uint64_t record_get_u64(const uint8_t *p)
{
    uint64_t big_endian;
    memcpy(&big_endian, p, sizeof big_endian);
    return be64toh(big_endian);
}

/* RFC 8446 5.3, RFC 7905 2: the IV with the sequence number upon its end. 1.2 GCM (RFC 5288 3) puts
 * the explicit nonce there, where read_iv and write_iv are 0. */
static inline void record_nonce(uint8_t nonce[TLS_AEAD_NONCE_BYTES], const uint8_t *iv,
                                uint64_t counter)
{
    memcpy(nonce, iv, 4);
    record_put_u64(nonce + 4, record_get_u64(iv + 4) ^ counter);
}

/* What is authenticated beside the content: in 1.3 the header as it is sent (RFC 8446 5.2), in 1.2
 * sequence number, type, version and length of the content (RFC 5246 6.2.3.3). Returns its length.
 */
static inline size_t record_aad(const struct tls_record *r, uint8_t aad[RECORD_AAD_BYTES_MAX],
                                const uint8_t *head, uint64_t seq, size_t content_len)
{
    if (record_is_13(r)) {
        memcpy(aad, head, TLS_RECORD_HEAD_BYTES);
        return TLS_RECORD_HEAD_BYTES;
    }
    record_put_u64(aad, seq);
    memcpy(aad + 8, head, 3);
    record_put_u16(aad + 11, content_len);
    return RECORD_AAD_BYTES_MAX;
}

#endif
