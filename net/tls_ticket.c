/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Keys of session tickets that every shard derives for itself. On the shard's thread. */

#include "net/tls_ticket.h"

#include <errno.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/hmac.h>

/* HKDF-Expand (RFC 5869 2.3) of the seed. */
static int expand(const struct tls_ticket_keys *k, const char *label, uint8_t *out, size_t len)
{
    return wc_HKDF_Expand(WC_SHA256, k->seed, sizeof(k->seed), (const uint8_t *)label,
                          (word32)strlen(label), out, (word32)len) == 0
               ? 0
               : -EIO;
}

static int derive(struct tls_ticket_keys *k)
{
    int err = expand(k, "name", k->current.name, sizeof(k->current.name));

    return err != 0 ? err : expand(k, "key", k->current.key, sizeof(k->current.key));
}

static int next_seed(struct tls_ticket_keys *k)
{
    uint8_t next[TLS_TICKET_SEED_BYTES];
    int err = expand(k, "next", next, sizeof(next));

    if (err != 0)
        return err;
    memcpy(k->seed, next, sizeof(next));
    explicit_bzero(next, sizeof(next));
    k->period++;
    return 0;
}

int tls_ticket_init(struct tls_ticket_keys *k, const uint8_t seed[TLS_TICKET_SEED_BYTES],
                    uint64_t start_ns, uint64_t period_ns)
{
    memset(k, 0, sizeof(*k));
    k->start_ns = start_ns;
    k->period_ns = period_ns;
    memcpy(k->seed, seed, sizeof(k->seed));
    return derive(k);
}

/* After a long rest most periods only pass: of the last two there are keys. */
int tls_ticket_advance(struct tls_ticket_keys *k, uint64_t now_ns)
{
    uint64_t target = now_ns <= k->start_ns ? 0 : (now_ns - k->start_ns) / k->period_ns;
    int err = 0;

    if (likely(k->period >= target))
        return 0;
    tls_aead_wipe(&k->aead);
    while (k->period < target && err == 0) {
        if (k->period + 1 == target) {
            err = derive(k);
            k->last = k->current;
        }
        if (err == 0)
            err = next_seed(k);
    }
    return err != 0 ? err : derive(k);
}

void tls_ticket_seal(struct tls_ticket_keys *k, uint8_t name[TLS_TICKET_NAME_BYTES],
                     const uint8_t nonce[TLS_AEAD_NONCE_BYTES], const uint8_t *aad, size_t aad_len,
                     uint8_t *p, size_t len, uint8_t tag[TLS_AEAD_TAG_BYTES])
{
    memcpy(name, k->current.name, TLS_TICKET_NAME_BYTES);
    tls_aead_load(&k->aead, TLS_AEAD_AES_256_GCM, k->current.key);
    tls_aead_start(&k->aead, true, nonce, aad, aad_len);
    tls_aead_crypt(&k->aead, p, len);
    tls_aead_tag(&k->aead, tag);
}

/* Names are no secret: an ordinary comparison will do. */
static const struct tls_ticket_key *find_key(const struct tls_ticket_keys *k, const uint8_t *name)
{
    static const uint8_t none[TLS_TICKET_NAME_BYTES];

    if (memcmp(name, k->current.name, TLS_TICKET_NAME_BYTES) == 0)
        return &k->current;
    if (memcmp(name, k->last.name, TLS_TICKET_NAME_BYTES) == 0 &&
        memcmp(name, none, TLS_TICKET_NAME_BYTES) != 0)
        return &k->last;
    return NULL;
}

bool tls_ticket_open(struct tls_ticket_keys *k, const uint8_t name[TLS_TICKET_NAME_BYTES],
                     const uint8_t nonce[TLS_AEAD_NONCE_BYTES], const uint8_t *aad, size_t aad_len,
                     uint8_t *p, size_t len, const uint8_t tag[TLS_AEAD_TAG_BYTES])
{
    const struct tls_ticket_key *key = find_key(k, name);
    uint8_t found[TLS_AEAD_TAG_BYTES];

    if (key == NULL)
        return false;
    tls_aead_load(&k->aead, TLS_AEAD_AES_256_GCM, key->key);
    tls_aead_start(&k->aead, false, nonce, aad, aad_len);
    tls_aead_crypt(&k->aead, p, len);
    tls_aead_tag(&k->aead, found);
    if (tls_aead_is_same(found, tag))
        return true;
    explicit_bzero(p, len);
    return false;
}

void tls_ticket_wipe(struct tls_ticket_keys *k)
{
    tls_aead_wipe(&k->aead);
    explicit_bzero(k, sizeof(*k));
}
