/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_TLS_RIG_H
#define TESTS_TLS_RIG_H

/* The other end of a record layer under test, on libcrypto and written from the RFCs: it seals
 * whatever it is told to, right or wrong, and opens what the layer has sealed. Nothing here comes
 * from net/. */

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "net/tls_record.h"

#define RIG_BUFFER (2 * 16384 + 4096)

enum {
    RIG_CCS = 20,
    RIG_ALERT = 21,
    RIG_HANDSHAKE = 22,
    RIG_DATA = 23,
};

static const struct rig_suite {
    const char *name;
    enum tls_version version;
    enum tls_aead aead;
} rig_suites[] = {
    {"1.3 AES-128", TLS_VERSION_1_3, TLS_AEAD_AES_128_GCM},
    {"1.3 AES-256", TLS_VERSION_1_3, TLS_AEAD_AES_256_GCM},
    {"1.3 ChaCha20", TLS_VERSION_1_3, TLS_AEAD_CHACHA20_POLY1305},
    {"1.2 AES-128", TLS_VERSION_1_2, TLS_AEAD_AES_128_GCM},
    {"1.2 AES-256", TLS_VERSION_1_2, TLS_AEAD_AES_256_GCM},
    {"1.2 ChaCha20", TLS_VERSION_1_2, TLS_AEAD_CHACHA20_POLY1305},
};

#define FOR_SUITES(s)                                                                              \
    for (const struct rig_suite *s = rig_suites; s < rig_suites + ARRAY_LEN(rig_suites); s++)
#define FOR_SUITES_13(s) for (const struct rig_suite *s = rig_suites; s < rig_suites + 3; s++)
#define FOR_SUITES_12(s) for (const struct rig_suite *s = rig_suites + 3; s < rig_suites + 6; s++)

/* One direction. */
struct rig_way {
    const struct rig_suite *suite;
    uint8_t key[32];
    uint8_t iv[12]; /* 1.2 GCM: 4 */
    uint8_t secret[48];
    uint64_t seq;
    uint64_t explicit_nonce; /* 1.2 GCM: of the next record */
};

/* A layer under test and its peer. */
struct rig {
    const struct rig_suite *suite;
    struct tls_record *r;
    struct tls_work *work;
    struct rig_way in;  /* the peer's sending */
    struct rig_way out; /* the layer's */
};

/* An opened record. */
struct rig_record {
    uint8_t type;
    uint8_t content[RIG_BUFFER];
    size_t len;
    uint64_t explicit_nonce;
    size_t record_bytes;
};

static inline bool rig_is_13(const struct rig_suite *s)
{
    return s->version == TLS_VERSION_1_3;
}

static inline bool rig_has_explicit(const struct rig_suite *s)
{
    return !rig_is_13(s) && s->aead != TLS_AEAD_CHACHA20_POLY1305;
}

static inline size_t rig_key_bytes(const struct rig_suite *s)
{
    return s->aead == TLS_AEAD_AES_128_GCM ? 16 : 32;
}

static inline size_t rig_secret_bytes(const struct rig_suite *s)
{
    return s->aead == TLS_AEAD_AES_256_GCM ? 48 : 32;
}

/* What a record has beside its content, header included. */
static inline size_t rig_extra(const struct rig_suite *s)
{
    return 5 + 16 + (rig_has_explicit(s) ? 8 : 0) + (rig_is_13(s) ? 1 : 0);
}

/* A generator of its own, so that every run is the same. */
static inline uint64_t rig_random(uint64_t *state)
{
    *state += 0x9E3779B97F4A7C15u;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline void rig_fill(uint64_t *state, uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)rig_random(state);
}

/* Keys ----------------------------------------------------------------------------------------- */

static inline void rig_expand_label(const struct rig_suite *s, const uint8_t *secret,
                                    const char *label, uint8_t *out, size_t len)
{
    uint8_t info[64] = {(uint8_t)(len >> 8), (uint8_t)len, (uint8_t)(6 + strlen(label))};
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, strlen(label));
    size_t info_len = 9 + strlen(label) + 1;
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    char *digest = rig_secret_bytes(s) == 48 ? "SHA384" : "SHA256";
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, rig_secret_bytes(s)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_len),
        OSSL_PARAM_construct_end(),
    };
    cr_assert_eq(EVP_KDF_derive(ctx, out, len, params), 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

static inline void rig_derive(struct rig_way *w)
{
    rig_expand_label(w->suite, w->secret, "key", w->key, rig_key_bytes(w->suite));
    rig_expand_label(w->suite, w->secret, "iv", w->iv, 12);
}

/* The next generation of keys. */
static inline void rig_next_keys(struct rig_way *w)
{
    uint8_t next[48];
    rig_expand_label(w->suite, w->secret, "traffic upd", next, rig_secret_bytes(w->suite));
    memcpy(w->secret, next, rig_secret_bytes(w->suite));
    rig_derive(w);
    w->seq = 0;
}

static inline void rig_way_init(struct rig_way *w, const struct rig_suite *s, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->suite = s;
    rig_fill(&seed, w->key, rig_key_bytes(s));
    rig_fill(&seed, w->iv, rig_has_explicit(s) ? 4 : 12);
    rig_fill(&seed, w->secret, rig_secret_bytes(s));
    w->explicit_nonce = rig_random(&seed);
    if (rig_is_13(s))
        rig_derive(w);
    else
        w->seq = 1; /* behind Finished */
}

/* What a layer that reads `in` and writes `out` is made of. */
static inline struct tls_record_params rig_params(const struct rig_way *in,
                                                  const struct rig_way *out)
{
    return (struct tls_record_params){
        .version = in->suite->version,
        .aead = in->suite->aead,
        .read_key = in->key,
        .write_key = out->key,
        .read_iv = in->iv,
        .write_iv = out->iv,
        .read_secret = in->secret,
        .write_secret = out->secret,
        .read_seq = in->seq,
        .write_seq = out->seq,
        .explicit_nonce = out->explicit_nonce,
    };
}

/* A state in memory of exactly its size. */
static inline struct tls_record *rig_record_new(const struct tls_record_params *p)
{
    struct tls_record *r = malloc(tls_record_bytes(p->version, p->aead));
    cr_assert_not_null(r);
    cr_assert_eq(tls_record_init(r, p), 0);
    return r;
}

static inline struct rig rig_new_with(const struct rig_suite *s, bool is_client, uint8_t rekey_log2)
{
    struct rig rig = {.suite = s};
    rig_way_init(&rig.in, s, 1);
    rig_way_init(&rig.out, s, 2);
    struct tls_record_params p = rig_params(&rig.in, &rig.out);
    p.is_client = is_client;
    p.rekey_log2 = rekey_log2;
    rig.r = rig_record_new(&p);
    rig.work = aligned_alloc(16, sizeof *rig.work);
    cr_assert_not_null(rig.work);
    memset(rig.work, 0, sizeof *rig.work);
    return rig;
}

static inline struct rig rig_new(const struct rig_suite *s)
{
    return rig_new_with(s, false, 0);
}

static inline void rig_free(struct rig *rig)
{
    tls_record_wipe(rig->r, rig->work);
    free(rig->r);
    free(rig->work);
}

/* Records -------------------------------------------------------------------------------------- */

static inline const EVP_CIPHER *rig_cipher(const struct rig_suite *s)
{
    return s->aead == TLS_AEAD_AES_128_GCM   ? EVP_aes_128_gcm()
           : s->aead == TLS_AEAD_AES_256_GCM ? EVP_aes_256_gcm()
                                             : EVP_chacha20_poly1305();
}

static inline void rig_put(uint8_t *p, uint64_t value, size_t bytes)
{
    while (bytes-- > 0) {
        p[bytes] = (uint8_t)value;
        value >>= 8;
    }
}

static inline void rig_nonce(const struct rig_way *w, uint64_t explicit_nonce, uint8_t nonce[12])
{
    uint8_t seq[8];
    memcpy(nonce, w->iv, 12);
    if (rig_has_explicit(w->suite)) {
        rig_put(nonce + 4, explicit_nonce, 8);
        return;
    }
    rig_put(seq, w->seq, 8);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= seq[i];
}

static inline size_t rig_aad(const struct rig_way *w, const uint8_t head[5], size_t content_len,
                             uint8_t aad[13])
{
    if (rig_is_13(w->suite)) {
        memcpy(aad, head, 5);
        return 5;
    }
    rig_put(aad, w->seq, 8);
    memcpy(aad + 8, head, 3);
    rig_put(aad + 11, content_len, 2);
    return 13;
}

/* Runs one AEAD message; tag is written when sealing, checked when opening. */
static inline bool rig_aead(const struct rig_way *w, bool sealing, const uint8_t nonce[12],
                            const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len,
                            uint8_t *out, uint8_t *tag)
{
    int n;
    uint8_t rest[16];
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    cr_assert_eq(EVP_CipherInit_ex(c, rig_cipher(w->suite), NULL, w->key, nonce, sealing), 1);
    cr_assert_eq(EVP_CipherUpdate(c, NULL, &n, aad, (int)aad_len), 1);
    if (len > 0)
        cr_assert_eq(EVP_CipherUpdate(c, out, &n, in, (int)len), 1);
    if (!sealing)
        cr_assert_eq(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, 16, tag), 1);
    bool ok = EVP_CipherFinal_ex(c, rest, &n) == 1;
    if (sealing)
        cr_assert_eq(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, tag), 1);
    EVP_CIPHER_CTX_free(c);
    return ok;
}

/* Seals `inner` as it is (in 1.3 with the type and padding that the caller has put behind it) under
 * a header of the caller's. Returns the record's length. */
static inline size_t rig_seal_raw(struct rig_way *w, uint8_t outer_type, uint16_t version,
                                  const uint8_t *inner, size_t len, uint8_t *out)
{
    uint8_t nonce[12], aad[13];
    size_t skip = rig_has_explicit(w->suite) ? 8 : 0;
    out[0] = outer_type;
    rig_put(out + 1, version, 2);
    rig_put(out + 3, skip + len + 16, 2);
    if (skip > 0)
        rig_put(out + 5, w->explicit_nonce, 8);
    rig_nonce(w, w->explicit_nonce, nonce);
    size_t aad_len = rig_aad(w, out, len, aad);
    uint8_t *body = out + 5 + skip;
    rig_aead(w, true, nonce, aad, aad_len, inner, len, body, body + len);
    w->seq++;
    w->explicit_nonce++;
    return 5 + skip + len + 16;
}

/* A record of a type, with padding in 1.3. */
static inline size_t rig_seal_padded(struct rig_way *w, uint8_t type, const void *content,
                                     size_t len, size_t padding, uint8_t *out)
{
    uint8_t *inner = calloc(1, len + 1 + padding);
    if (len > 0)
        memcpy(inner, content, len);
    inner[len] = type;
    size_t n = rig_is_13(w->suite)
                   ? rig_seal_raw(w, RIG_DATA, 0x0303, inner, len + 1 + padding, out)
                   : rig_seal_raw(w, type, 0x0303, inner, len, out);
    free(inner);
    return n;
}

static inline size_t rig_seal(struct rig_way *w, uint8_t type, const void *content, size_t len,
                              uint8_t *out)
{
    return rig_seal_padded(w, type, content, len, 0, out);
}

/* Opens the record at p, which the layer under test has sealed. */
static inline void rig_open(struct rig_way *w, const uint8_t *p, size_t len, struct rig_record *rec)
{
    uint8_t nonce[12], aad[13], tag[16];
    size_t skip = rig_has_explicit(w->suite) ? 8 : 0;
    cr_assert_geq(len, 5 + skip + 16);
    size_t body_len = (size_t)p[3] << 8 | p[4];
    cr_assert_leq(5 + body_len, len);
    cr_assert_eq(p[1], 3);
    cr_assert_eq(p[2], 3);
    rec->record_bytes = 5 + body_len;
    rec->len = body_len - skip - 16;
    rec->explicit_nonce = 0;
    for (size_t i = 0; i < skip; i++)
        rec->explicit_nonce = rec->explicit_nonce << 8 | p[5 + i];
    memcpy(tag, p + 5 + skip + rec->len, 16);
    rig_nonce(w, rec->explicit_nonce, nonce);
    size_t aad_len = rig_aad(w, p, rec->len, aad);
    cr_assert(rig_aead(w, false, nonce, aad, aad_len, p + 5 + skip, rec->len, rec->content, tag),
              "%s: libcrypto doesn't open the record", w->suite->name);
    w->seq++;
    rec->type = p[0];
    if (rig_is_13(w->suite)) {
        cr_assert_eq(p[0], RIG_DATA);
        rec->type = rec->content[--rec->len];
    }
}

/* Opens a record that must be the only one, and checks what it is. */
static inline void rig_expect(struct rig_way *w, const uint8_t *p, size_t len, uint8_t type,
                              const void *content, size_t content_len)
{
    static struct rig_record rec;
    rig_open(w, p, len, &rec);
    cr_assert_eq(rec.record_bytes, len);
    cr_assert_eq(rec.type, type);
    cr_assert_eq(rec.len, content_len);
    cr_assert_eq(memcmp(rec.content, content, content_len), 0);
}

/* The layer's side -------------------------------------------------------------------------------
 */

/* Has the layer open one input in memory of exactly its size. Plaintext of all records is appended
 * to got; the last status is returned. *left: what it did not take. */
static inline enum tls_record_status rig_feed(struct rig *rig, const uint8_t *p, size_t len,
                                              uint8_t *got, size_t *got_len, size_t *left)
{
    uint8_t *copy = malloc(len + 1);
    memcpy(copy + 1, p, len);
    struct bytes in = {copy + 1, len};
    struct tls_piece piece;
    enum tls_record_status st;
    while ((st = tls_record_open(rig->r, rig->work, &in, &piece)) == TLS_RECORD_DATA) {
        cr_assert_gt(piece.data.len, 0);
        memcpy(got + *got_len, piece.data.ptr, piece.data.len);
        *got_len += piece.data.len;
    }
    *left = in.len;
    free(copy);
    return st;
}

/* Seals one span as one record. */
static inline size_t rig_layer_seal(struct rig *rig, const void *p, size_t len, uint8_t *out)
{
    struct iovec iov = {(void *)p, len};
    struct tls_source src = {&iov, 1, 0};
    size_t n = tls_record_seal(rig->r, rig->work, &src, SIZE_MAX, out, RIG_BUFFER);
    cr_assert_eq(src.count, 0);
    return n;
}

/* The layer takes this record without telling anything, or it comes out as data. */
static inline void rig_expect_taken(struct rig *rig, const uint8_t *p, size_t len, const void *data,
                                    size_t data_len)
{
    static uint8_t got[RIG_BUFFER];
    size_t got_len = 0, left;
    cr_assert_eq(rig_feed(rig, p, len, got, &got_len, &left), TLS_RECORD_NEED_MORE, "%s: %s",
                 rig->suite->name, tls_reason_text(tls_record_reason(rig->r)));
    cr_assert_eq(left, 0);
    cr_assert_eq(got_len, data_len);
    cr_assert_eq(memcmp(got, data, data_len), 0);
}

/* The layer fails at this record for this reason, gives nothing away, seals nothing more, and sends
 * the alert of the reason, once. */
static inline void rig_expect_failure(struct rig *rig, const uint8_t *p, size_t len,
                                      enum tls_reason reason)
{
    uint8_t got[64], out[RIG_BUFFER];
    size_t got_len = 0, left;
    cr_assert_eq(rig_feed(rig, p, len, got, &got_len, &left), TLS_RECORD_FAILED, "%s: %s",
                 rig->suite->name, tls_reason_text(reason));
    cr_assert_eq(got_len, 0);
    cr_assert_eq(left, 0);
    cr_assert_eq(tls_record_reason(rig->r), reason, "%s: %s instead of %s", rig->suite->name,
                 tls_reason_text(tls_record_reason(rig->r)), tls_reason_text(reason));
    cr_assert(!tls_record_is_writable(rig->r));
    struct iovec iov = {out, 1};
    struct tls_source src = {&iov, 1, 0};
    cr_assert_eq(tls_record_seal(rig->r, rig->work, &src, 1, out, sizeof out), 0);
    size_t n = tls_record_seal_end(rig->r, rig->work, out);
    if (tls_reason_alert(reason) < 0) {
        cr_assert_eq(n, 0);
    } else {
        cr_assert_leq(n, TLS_RECORD_END_BYTES_MAX);
        rig_expect(&rig->out, out, n, RIG_ALERT, (uint8_t[]){2, (uint8_t)tls_reason_alert(reason)},
                   2);
    }
    cr_assert_eq(tls_record_seal_end(rig->r, rig->work, out), 0);
}

#endif
