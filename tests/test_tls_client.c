/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The client's side of the handshake engine with OpenSSL as its server, over memory: every suite,
 * bytes in any pieces, tickets, and what is refused. Behind each handshake the record layer goes on
 * with the keys, both ways. */

#include "net/tls_client.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct rig {
    SSL_CTX *server;
    struct tls_client *client;
    struct tls_work work;
    _Alignas(struct tls_record) uint8_t record[256];
    struct tls_handshake_info info;
    void *session; /* after a handshake that awaited a ticket */
};

static void make_certificate(SSL_CTX *ctx, bool rsa)
{
    EVP_PKEY *key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"a", -1, -1, 0);
    X509_set_issuer_name(x, name);
    cr_assert_neq(X509_sign(x, key, EVP_sha256()), 0);
    cr_assert_eq(SSL_CTX_use_certificate(ctx, x), 1);
    cr_assert_eq(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void rig_init(struct rig *r, bool rsa, bool resume)
{
    memset(r, 0, sizeof(*r));
    r->server = SSL_CTX_new(TLS_server_method());
    make_certificate(r->server, rsa);
    struct tls_client_config cfg = {.is_insecure = true, .resume = resume};
    char complaint[TLS_COMPLAINT_MAX];
    cr_assert_eq(tls_client_new(&cfg, &r->client, complaint), 0, "%s", complaint);
}

static void rig_deinit(struct rig *r)
{
    tls_client_forget(r->session);
    tls_client_free(r->client);
    SSL_CTX_free(r->server);
}

static SSL *new_server(struct rig *r, int version, const char *suite)
{
    SSL *ssl = SSL_new(r->server);

    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(ssl);
    SSL_set_min_proto_version(ssl, version);
    SSL_set_max_proto_version(ssl, version);
    if (suite != NULL && version == TLS1_3_VERSION)
        cr_assert_eq(SSL_set_ciphersuites(ssl, suite), 1);
    else if (suite != NULL)
        cr_assert_eq(SSL_set_cipher_list(ssl, suite), 1);
    return ssl;
}

/* What the server has to say, in pieces of `step`. Returns the engine's status. */
static enum tls_handshake_status feed(struct tls_handshake *hs, SSL *ssl, size_t step)
{
    enum tls_handshake_status st = TLS_HANDSHAKE_MORE;
    uint8_t piece[4096];
    int n;

    while (st == TLS_HANDSHAKE_MORE &&
           (n = BIO_read(SSL_get_wbio(ssl), piece, (int)min_size(step, sizeof(piece)))) > 0) {
        struct bytes in = {piece, (size_t)n};
        st = tls_handshake_step(hs, &in);
        if (in.len > 0) /* none of the handshake's */
            cr_assert_eq(BIO_write(SSL_get_wbio(ssl), in.ptr, (int)in.len), (int)in.len);
    }
    return st;
}

static void to_server(SSL *ssl, struct tls_handshake *hs)
{
    struct bytes out = tls_handshake_output(hs);

    if (out.len > 0)
        cr_assert_eq(BIO_write(SSL_get_rbio(ssl), out.ptr, (int)out.len), (int)out.len);
}

static enum tls_handshake_status shake(struct tls_handshake *hs, SSL *ssl, size_t step)
{
    struct bytes none = {0};
    enum tls_handshake_status st = tls_handshake_step(hs, &none);

    for (int i = 0; i < 10 && st == TLS_HANDSHAKE_MORE; i++) {
        to_server(ssl, hs);
        (void)SSL_do_handshake(ssl);
        st = feed(hs, ssl, step);
    }
    to_server(ssl, hs);
    (void)SSL_do_handshake(ssl);
    return st;
}

static struct tls_record *finish(struct rig *r, struct tls_handshake *hs)
{
    struct tls_record *record = (struct tls_record *)r->record;

    cr_assert_leq(tls_handshake_record_bytes(hs), sizeof(r->record));
    cr_assert(tls_handshake_finish(hs, record, &r->info));
    return record;
}

/* A record each way; tickets that come first are passed over. */
static void talk(struct rig *r, SSL *ssl, struct tls_record *record)
{
    char text[] = "both ways", got[sizeof(text)];
    struct iovec iov = {text, sizeof(text)};
    struct tls_source src = {&iov, 1, 0};
    uint8_t bytes[4096];
    struct tls_piece piece;
    size_t n = tls_record_seal(record, &r->work, &src, sizeof(text), bytes, sizeof(bytes));

    cr_assert_eq(BIO_write(SSL_get_rbio(ssl), bytes, (int)n), (int)n);
    cr_assert_eq(SSL_read(ssl, got, sizeof(got)), sizeof(got));
    cr_assert_arr_eq(got, text, sizeof(text));
    cr_assert_eq(SSL_write(ssl, text, sizeof(text)), sizeof(text));
    struct bytes in = {bytes, (size_t)BIO_read(SSL_get_wbio(ssl), bytes, sizeof(bytes))};
    cr_assert_eq(tls_record_open(record, &r->work, &in, &piece), TLS_RECORD_DATA);
    cr_assert_eq(piece.data.len, sizeof(text));
    cr_assert_arr_eq(piece.data.ptr, text, sizeof(text));
}

static const struct {
    int version;
    const char *name;
    enum tls_aead aead;
    bool rsa;
} suites[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", TLS_AEAD_AES_128_GCM, false},
    {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", TLS_AEAD_AES_256_GCM, true},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", TLS_AEAD_CHACHA20_POLY1305, false},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS_AEAD_AES_128_GCM, false},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", TLS_AEAD_CHACHA20_POLY1305, false},
    {TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", TLS_AEAD_AES_256_GCM, true},
};

Test(tls_client, the_keys_taken_over_are_those_in_use_with_every_suite_whatever_the_pieces)
{
    static const size_t steps[] = {1, 100, 4096};

    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        struct rig r;
        rig_init(&r, suites[i].rsa, false);
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            SSL *ssl = new_server(&r, suites[i].version, suites[i].name);
            struct tls_handshake *hs = tls_client_handshake(r.client, "localhost", NULL);
            cr_assert_eq(shake(hs, ssl, steps[k]), TLS_HANDSHAKE_DONE);
            struct tls_record *record = finish(&r, hs);
            cr_expect_eq(r.info.version,
                         suites[i].version == TLS1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2);
            cr_expect_eq(r.info.aead, suites[i].aead);
            cr_expect(!r.info.is_resumed);
            talk(&r, ssl, record);
            talk(&r, ssl, record);
            tls_record_wipe(record, &r.work);
            SSL_free(ssl);
        }
        rig_deinit(&r);
    }
}

Test(tls_client, a_session_is_resumed_again_and_again)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        struct rig r;
        rig_init(&r, false, true);
        for (int i = 0; i < 4; i++) {
            SSL *ssl = new_server(&r, versions[v], NULL);
            struct tls_handshake *hs = tls_client_handshake(r.client, "localhost", r.session);
            cr_assert_eq(shake(hs, ssl, 4096), TLS_HANDSHAKE_DONE);
            cr_assert_eq(tls_handshake_is_resumed(hs), i > 0);
            if (i == 0)
                r.session = tls_handshake_session(hs);
            struct tls_record *record = finish(&r, hs);
            cr_assert_eq(SSL_session_reused(ssl), i > 0);
            talk(&r, ssl, record);
            tls_record_wipe(record, &r.work);
            SSL_free(ssl);
        }
        rig_deinit(&r);
    }
}

Test(tls_client, a_server_without_a_suite_in_common_is_an_alert_of_its)
{
    struct rig r;
    rig_init(&r, true, false);
    SSL *ssl = new_server(&r, TLS1_2_VERSION, "AES128-SHA");
    struct tls_handshake *hs = tls_client_handshake(r.client, "localhost", NULL);
    cr_assert_eq(shake(hs, ssl, 4096), TLS_HANDSHAKE_FAILED);
    cr_assert_eq(tls_handshake_failure(hs), TLS_FAILURE_PEER_ALERT);
    tls_handshake_free(hs);
    SSL_free(ssl);
    rig_deinit(&r);
}
