/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The state of the record layer: how it is made, derived anew, judged and wiped. */

#include "net/tls_record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "net/tls_record_internal.h"

enum {
    GCM_SALT_BYTES = 4, /* the part of a 1.2 GCM nonce that is not explicit */
    REKEY_LOG2_MAX = 62,
};

static_assert(sizeof(struct tls_record) == 56, "the budget of an idle connection");

size_t tls_record_bytes(enum tls_version version, enum tls_aead aead)
{
    size_t each = tls_aead_key_bytes(aead);
    if (version == TLS_VERSION_1_3)
        each += record_secret_bytes(aead);
    return sizeof(struct tls_record) + 2 * each;
}

size_t tls_record_state_bytes(const struct tls_record *r)
{
    return tls_record_bytes(record_is_13(r) ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
                            (enum tls_aead)r->aead);
}

/* Keys ----------------------------------------------------------------------------------------- */

/* Expands a traffic secret with an empty context. */
static void expand(const struct tls_record *r, const uint8_t *secret, const char *label,
                   uint8_t *out, size_t out_len)
{
    tls_hkdf_expand_label(record_hash((enum tls_aead)r->aead), secret,
                          (struct bytes){(uint8_t *)label, strlen(label)}, (struct bytes){NULL, 0},
                          out, out_len);
}

/* Key and IV of a traffic secret (RFC 8446 7.3). */
static void derive_keys(const struct tls_record *r, const uint8_t *secret, uint8_t *key,
                        uint8_t *iv)
{
    expand(r, secret, "key", key, record_key_bytes(r));
    expand(r, secret, "iv", iv, TLS_AEAD_NONCE_BYTES);
}

void record_next_keys(const struct tls_record *r, const uint8_t *secret, struct record_keys *next)
{
    expand(r, secret, "traffic upd", next->secret, record_secret_bytes((enum tls_aead)r->aead));
    derive_keys(r, next->secret, next->key, next->iv);
}

void record_install_keys(const struct tls_record *r, struct tls_aead_ctx *c,
                         struct record_keys *next, uint8_t *secret, uint8_t *key, uint8_t *iv)
{
    memcpy(secret, next->secret, record_secret_bytes((enum tls_aead)r->aead));
    memcpy(key, next->key, record_key_bytes(r));
    memcpy(iv, next->iv, TLS_AEAD_NONCE_BYTES);
    explicit_bzero(next, sizeof *next);
    tls_aead_wipe(c);
}

/* Whether a key and an IV are those of a secret. */
static bool are_keys_of(const struct tls_record *r, const uint8_t *secret, const uint8_t *key,
                        const uint8_t *iv)
{
    uint8_t good_key[TLS_AEAD_KEY_BYTES_MAX], good_iv[TLS_AEAD_NONCE_BYTES];
    derive_keys(r, secret, good_key, good_iv);
    bool same = memcmp(good_key, key, record_key_bytes(r)) == 0 &&
                memcmp(good_iv, iv, TLS_AEAD_NONCE_BYTES) == 0;
    explicit_bzero(good_key, sizeof good_key);
    explicit_bzero(good_iv, sizeof good_iv);
    return same;
}

/* Life ----------------------------------------------------------------------------------------- */

static bool is_params_good(const struct tls_record_params *p)
{
    return (p->version == TLS_VERSION_1_2 || p->version == TLS_VERSION_1_3) &&
           p->aead < TLS_AEAD_COUNT && p->fragment_max <= TLS_RECORD_PLAIN_MAX &&
           p->rekey_log2 <= REKEY_LOG2_MAX;
}

static uint8_t rekey_log2_of(const struct tls_record_params *p)
{
    if (p->rekey_log2 != 0)
        return p->rekey_log2;
    /* ChaCha20-Poly1305 outlasts the sequence numbers (RFC 8446 5.5). */
    return p->aead == TLS_AEAD_CHACHA20_POLY1305 ? REKEY_LOG2_MAX : TLS_RECORD_REKEY_LOG2;
}

static void copy_keys(struct tls_record *r, const struct tls_record_params *p)
{
    size_t iv_len = record_has_explicit(r) ? GCM_SALT_BYTES : TLS_AEAD_NONCE_BYTES;
    memcpy(r->read_iv, p->read_iv, iv_len);
    memcpy(r->write_iv, p->write_iv, iv_len);
    memcpy(record_read_key(r), p->read_key, record_key_bytes(r));
    memcpy(record_write_key(r), p->write_key, record_key_bytes(r));
    if (!record_is_13(r))
        return;
    memcpy(record_read_secret(r), p->read_secret, record_secret_bytes(p->aead));
    memcpy(record_write_secret(r), p->write_secret, record_secret_bytes(p->aead));
}

int tls_record_init(struct tls_record *r, const struct tls_record_params *p)
{
    if (!is_params_good(p))
        return -EINVAL;
    memset(r, 0, sizeof *r);
    r->read_seq = p->read_seq;
    r->write_seq = p->write_seq;
    r->aead = (uint8_t)p->aead;
    r->bits = (uint8_t)((p->version == TLS_VERSION_1_3 ? RECORD_BIT_TLS13 : 0) |
                        (p->is_client ? RECORD_BIT_CLIENT : 0));
    r->fragment_max = p->fragment_max != 0 ? p->fragment_max : TLS_RECORD_PLAIN_MAX;
    r->rekey_log2 = rekey_log2_of(p);
    if (record_has_explicit(r))
        r->explicit_base = p->explicit_nonce - p->write_seq;
    copy_keys(r, p);
    if (!record_is_13(r) ||
        (are_keys_of(r, record_read_secret(r), record_read_key(r), r->read_iv) &&
         are_keys_of(r, record_write_secret(r), record_write_key(r), r->write_iv)))
        return 0;
    explicit_bzero(r, tls_record_state_bytes(r));
    return -EKEYREJECTED;
}

void tls_work_wipe(struct tls_work *work)
{
    tls_aead_wipe(&work->open);
    tls_aead_wipe(&work->seal);
}

void tls_record_wipe(struct tls_record *r, struct tls_work *work)
{
    if (tls_aead_has(&work->open, (enum tls_aead)r->aead, record_read_key(r)))
        tls_aead_wipe(&work->open);
    if (tls_aead_has(&work->seal, (enum tls_aead)r->aead, record_write_key(r)))
        tls_aead_wipe(&work->seal);
    explicit_bzero(r, tls_record_state_bytes(r));
}

void tls_record_update(struct tls_record *r, bool request)
{
    if (record_is_13(r))
        r->bits |= RECORD_BIT_UPDATE_DUE | (request ? RECORD_BIT_UPDATE_REQUEST : 0);
}

bool tls_record_is_update_due(const struct tls_record *r)
{
    return (r->bits & RECORD_BIT_UPDATE_DUE) != 0 && tls_record_is_writable(r);
}

bool tls_record_is_worn(const struct tls_record *r)
{
    return !record_is_13(r) && max_u64(r->read_seq, r->write_seq) >= record_key_limit(r);
}

bool tls_record_is_writable(const struct tls_record *r)
{
    return r->reason == TLS_REASON_NONE &&
           (r->bits & (RECORD_BIT_OUTPUT_ENDED | RECORD_BIT_LENT)) == 0;
}

/* Reasons -------------------------------------------------------------------------------------- */

static const struct {
    int alert;
    const char *label;
    const char *text;
} reasons[TLS_REASON_COUNT] = {
#define X(id, alert, label, text) {alert, label, text},
    TLS_RECORD_REASONS(X)
#undef X
};

int tls_reason_alert(enum tls_reason reason)
{
    return reasons[reason].alert;
}

const char *tls_reason_label(enum tls_reason reason)
{
    return reasons[reason].label;
}

const char *tls_reason_text(enum tls_reason reason)
{
    return reasons[reason].text;
}
