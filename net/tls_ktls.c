/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Kernel TLS: what the kernel has, and a record layer's fields put where it wants them. */

#include "net/tls_ktls.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tls_record_internal.h"

#ifndef SOL_TLS
#define SOL_TLS 282 /* linux/socket.h; not in older C libraries */
#endif

static_assert((int)TLS_KTLS_UPDATE_BYTES == RECORD_UPDATE_BYTES, "one message");
static_assert((int)TLS_KTLS_ALERT_BYTES == RECORD_ALERT_BYTES, "one message");

/* The kernel's form ---------------------------------------------------------------------------- */

/* GCM: the kernel calls the first 4 bytes of the nonce its salt. The other 8 are in 1.3 the rest of
 * the IV; in 1.2 the explicit nonce of the next record, which it then counts up. */
static void put_gcm(const struct tls_record *r, uint8_t *salt, uint8_t *iv)
{
    memcpy(salt, r->write_iv, 4);
    if (record_has_explicit(r))
        record_put_u64(iv, r->explicit_base + r->write_seq);
    else
        memcpy(iv, r->write_iv + 4, 8);
}

size_t tls_ktls_info(const struct tls_record *r, union tls_ktls_info *info)
{
    const uint8_t *key = record_write_key((struct tls_record *)r); /* not written */

    memset(info, 0, sizeof *info);
    info->head.version = record_is_13(r) ? TLS_1_3_VERSION : TLS_1_2_VERSION;
    switch ((enum tls_aead)r->aead) {
    case TLS_AEAD_AES_128_GCM:
        info->head.cipher_type = TLS_CIPHER_AES_GCM_128;
        memcpy(info->aes_128.key, key, sizeof info->aes_128.key);
        put_gcm(r, info->aes_128.salt, info->aes_128.iv);
        record_put_u64(info->aes_128.rec_seq, r->write_seq);
        return sizeof info->aes_128;
    case TLS_AEAD_AES_256_GCM:
        info->head.cipher_type = TLS_CIPHER_AES_GCM_256;
        memcpy(info->aes_256.key, key, sizeof info->aes_256.key);
        put_gcm(r, info->aes_256.salt, info->aes_256.iv);
        record_put_u64(info->aes_256.rec_seq, r->write_seq);
        return sizeof info->aes_256;
    default:
        info->head.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
        memcpy(info->chacha.key, key, sizeof info->chacha.key);
        memcpy(info->chacha.iv, r->write_iv, sizeof info->chacha.iv);
        record_put_u64(info->chacha.rec_seq, r->write_seq);
        return sizeof info->chacha;
    }
}

/* A layer that is lent ------------------------------------------------------------------------- */

bool tls_ktls_fits(const struct tls_record *r, uint32_t suites)
{
    enum tls_version version = record_is_13(r) ? TLS_VERSION_1_3 : TLS_VERSION_1_2;

    return (suites & TLS_KTLS_SUITE(version, r->aead)) != 0 &&
           r->fragment_max == TLS_RECORD_PLAIN_MAX;
}

void tls_ktls_lend(struct tls_record *r)
{
    r->bits |= RECORD_BIT_LENT;
}

bool tls_ktls_may_send(struct tls_record *r)
{
    return r->reason == TLS_REASON_NONE && (r->bits & RECORD_BIT_OUTPUT_ENDED) == 0 &&
           record_check_limit(r);
}

void tls_ktls_count(struct tls_record *r, size_t bytes)
{
    r->write_seq += 1 + bytes / TLS_KTLS_COUNTED_BYTES;
}

bool tls_ktls_is_update_due(const struct tls_record *r)
{
    return (r->bits & RECORD_BIT_UPDATE_DUE) != 0;
}

void tls_ktls_update(struct tls_record *r, struct tls_work *work,
                     uint8_t message[TLS_KTLS_UPDATE_BYTES])
{
    struct record_keys next;

    record_update_message(r, message);
    record_next_keys(r, record_write_secret(r), &next);
    record_next_write_keys(r, &work->seal, &next);
}

size_t tls_ktls_end(struct tls_record *r, uint8_t message[TLS_KTLS_ALERT_BYTES])
{
    return record_end_message(r, message) ? TLS_KTLS_ALERT_BYTES : 0;
}

/* What the kernel has -------------------------------------------------------------------------- */

/* Two ends of a TCP connection over loopback. 0 or -errno. */
static int tcp_pair(int fds[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int err;

    if (listener < 0)
        return -errno;
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = -1;
    if (fds[0] >= 0 && bind(listener, (struct sockaddr *)&a, sizeof a) == 0 &&
        listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&a, &len) == 0 &&
        connect(fds[0], (struct sockaddr *)&a, sizeof a) == 0)
        fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    err = fds[1] < 0 ? -errno : 0;
    if (err != 0 && fds[0] >= 0)
        close(fds[0]);
    close(listener);
    return err;
}

/* Where a suite's parameters have no key, but are as long as they must be. */
static size_t empty_info(enum tls_version version, enum tls_aead aead, union tls_ktls_info *info)
{
    static const uint16_t ciphers[TLS_AEAD_COUNT] = {TLS_CIPHER_AES_GCM_128, TLS_CIPHER_AES_GCM_256,
                                                     TLS_CIPHER_CHACHA20_POLY1305};
    static const size_t lens[TLS_AEAD_COUNT] = {sizeof info->aes_128, sizeof info->aes_256,
                                                sizeof info->chacha};

    memset(info, 0, sizeof *info);
    info->head.version = version == TLS_VERSION_1_3 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
    info->head.cipher_type = ciphers[aead];
    return lens[aead];
}

/* One suite, on a connection of its own. 0, or -errno when there is no TLS at all. */
static int probe_suite(struct tls_ktls_probe *p, enum tls_version version, enum tls_aead aead)
{
    union tls_ktls_info info;
    size_t len = empty_info(version, aead, &info);
    int fds[2] = {-1, -1};
    int err = tcp_pair(fds);

    if (err != 0)
        return err;
    if (setsockopt(fds[0], IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") != 0)
        err = -errno;
    else if (setsockopt(fds[0], SOL_TLS, TLS_TX, &info, (socklen_t)len) == 0) {
        p->suites |= TLS_KTLS_SUITE(version, aead);
        if (version == TLS_VERSION_1_3 &&
            setsockopt(fds[0], SOL_TLS, TLS_TX, &info, (socklen_t)len) == 0)
            p->rekeys = true;
    }
    close(fds[0]);
    close(fds[1]);
    return err;
}

void tls_ktls_probe(struct tls_ktls_probe *p)
{
    *p = (struct tls_ktls_probe){0};
    for (int version = TLS_VERSION_1_2; version <= TLS_VERSION_1_3 && p->err == 0; version++) {
        for (int aead = 0; aead < TLS_AEAD_COUNT && p->err == 0; aead++)
            p->err = probe_suite(p, (enum tls_version)version, (enum tls_aead)aead);
    }
    if (p->err != 0)
        p->suites = 0;
    else if (p->suites == 0)
        p->err = -EOPNOTSUPP;
}

uint32_t tls_ktls_usable(const struct tls_ktls_probe *p)
{
    const uint32_t all_13 = ((1u << TLS_AEAD_COUNT) - 1) << (TLS_VERSION_1_3 * TLS_AEAD_COUNT);

    return p->rekeys ? p->suites : p->suites & ~all_13;
}

const char *tls_ktls_text(uint32_t suites, char text[TLS_KTLS_TEXT_MAX])
{
    static const char *const aeads[] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
    size_t len = 0;

    memcpy(text, "none", sizeof "none");
    for (uint32_t i = 0; i < 2 * TLS_AEAD_COUNT; i++) {
        if ((suites >> i & 1) != 0)
            len += (size_t)snprintf(
                text + len, TLS_KTLS_TEXT_MAX - len, "%s%s %s", len > 0 ? ", " : "",
                i / TLS_AEAD_COUNT == TLS_VERSION_1_3 ? "1.3" : "1.2", aeads[i % TLS_AEAD_COUNT]);
    }
    return text;
}

const char *tls_ktls_why(int err)
{
    switch (err) {
    case -ENOENT:
        return "the kernel has no \"tls\" module loaded; load it by modprobe tls";
    case -ENOPROTOOPT:
        return "the kernel knows of no such protocols (before 4.13)";
    case -EPERM:
    case -EACCES:
        return "forbidden here (a seccomp filter?)";
    case -EOPNOTSUPP:
        return "the kernel's TLS has none of the suites";
    default:
        return strerror(-err);
    }
}
