/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_TLS_SERVER_RIG_H
#define TESTS_TLS_SERVER_RIG_H

/* OpenSSL as a server over memory, with certificates made here: for what connects by TLS. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "core/base.h"

#define RIG_DAY_S 86400L

/* An authority, or a certificate of one. */
struct rig_cert {
    EVP_PKEY *key;
    X509 *x;
    char cert_file[32];
    char key_file[32];
};

static inline void rig_write(char path[32], X509 *x, EVP_PKEY *key)
{
    int fd;
    FILE *f;

    strcpy(path, "/tmp/tw-rig-XXXXXX");
    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    f = fdopen(fd, "w");
    if (x != NULL)
        cr_assert_eq(PEM_write_X509(f, x), 1);
    if (key != NULL)
        cr_assert_eq(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

static inline void rig_extend(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;

    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    cr_assert_not_null(ext);
    X509_add_ext(x, ext, -1);
    X509_EXTENSION_free(ext);
}

/* Signed by `by`; NULL: an authority of its own. names: "DNS:a,IP:::1"; valid between two days from
 * now. */
static inline struct rig_cert rig_cert_new(const struct rig_cert *by, const char *names, bool rsa,
                                           long begin_day, long end_day)
{
    static long serial = 1;
    struct rig_cert c = {.key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"), .x = X509_new()};
    const struct rig_cert *issuer = by != NULL ? by : &c;
    char name[24];

    snprintf(name, sizeof(name), "rig %ld", serial);
    X509_set_version(c.x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c.x), begin_day * RIG_DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(c.x), end_day * RIG_DAY_S);
    X509_set_pubkey(c.x, c.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c.x), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(c.x, X509_get_subject_name(issuer->x));
    rig_extend(c.x, issuer->x, NID_basic_constraints, by == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    if (by == NULL)
        rig_extend(c.x, issuer->x, NID_key_usage, "critical,keyCertSign,cRLSign");
    if (names != NULL)
        rig_extend(c.x, issuer->x, NID_subject_alt_name, names);
    cr_assert_neq(X509_sign(c.x, issuer->key, EVP_sha256()), 0);
    rig_write(c.cert_file, c.x, NULL);
    rig_write(c.key_file, NULL, c.key);
    return c;
}

static inline void rig_cert_free(struct rig_cert *c)
{
    unlink(c->cert_file);
    unlink(c->key_file);
    X509_free(c->x);
    EVP_PKEY_free(c->key);
}

/* With `clients`, clients must show a certificate of that authority. */
static inline SSL_CTX *rig_server(const struct rig_cert *c, const struct rig_cert *clients)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    cr_assert_eq(SSL_CTX_use_certificate(ctx, c->x), 1);
    cr_assert_eq(SSL_CTX_use_PrivateKey(ctx, c->key), 1);
    if (clients != NULL) {
        cr_assert_eq(SSL_CTX_load_verify_file(ctx, clients->cert_file), 1);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return ctx;
}

/* A connection; version 0: any. */
static inline SSL *rig_accept(SSL_CTX *ctx, int version, const char *suite)
{
    SSL *ssl = SSL_new(ctx);

    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(ssl);
    if (version != 0) {
        SSL_set_min_proto_version(ssl, version);
        SSL_set_max_proto_version(ssl, version);
    }
    if (suite != NULL && version == TLS1_3_VERSION)
        cr_assert_eq(SSL_set_ciphersuites(ssl, suite), 1);
    else if (suite != NULL)
        cr_assert_eq(SSL_set_cipher_list(ssl, suite), 1);
    return ssl;
}

static inline void rig_to_server(SSL *ssl, struct bytes bytes)
{
    if (bytes.len > 0)
        cr_assert_eq(BIO_write(SSL_get_rbio(ssl), bytes.ptr, (int)bytes.len), (int)bytes.len);
}

/* What the server has to say, up to cap bytes. */
static inline size_t rig_from_server(SSL *ssl, uint8_t *out, size_t cap)
{
    int n = BIO_read(SSL_get_wbio(ssl), out, (int)cap);

    return n > 0 ? (size_t)n : 0;
}

/* The reason of the oldest error that OpenSSL has noted; 0: none. Forgets them. */
static inline int rig_reason(void)
{
    int reason = ERR_GET_REASON(ERR_get_error());

    ERR_clear_error();
    return reason;
}

#endif
