/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Sealing records: net/tls_record against OpenSSL's SSL_write(), in one run.
 *
 *     bench_tls_record [ROUNDS [FILE]]
 *
 * Both seal the same plaintext of 125 B, 1 KiB and 16 KiB in TLS 1.3; what OpenSSL seals goes to
 * its null BIO, what the layer seals stays in a buffer. In each round all take turns: OpenSSL with
 * one connection, the layer with one, either with many that take turns. With many the layer expands
 * a key for every record, as in a fan-out. A row has the medians of the rounds: nanoseconds of this
 * thread's processor time for one record; the ratio with one connection; and the ratio that is
 * judged, the least favourable: the layer with many against OpenSSL with one, with the quartiles of
 * the rounds. Over 1: the layer is the faster. Exit status 1: a bound is missed. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/kdf.h>
#include <wolfssl/wolfcrypt/types.h>

#include "bench/tls/rounds.h"
#include "net/tls_record.h"

enum {
    CONNECTIONS = 256,
    ROUND_BYTES = 2 << 20, /* sealed by each in a round, */
    ROUND_RECORDS = 1024,  /* but no more records than these */
};

static const struct suite {
    const char *name, *cipher;
    enum tls_aead aead;
} suites[] = {
    {"AES-128-GCM", "TLS_AES_128_GCM_SHA256", TLS_AEAD_AES_128_GCM},
    {"AES-256-GCM", "TLS_AES_256_GCM_SHA384", TLS_AEAD_AES_256_GCM},
    {"ChaCha20-Poly1305", "TLS_CHACHA20_POLY1305_SHA256", TLS_AEAD_CHACHA20_POLY1305},
};

static const struct size {
    size_t bytes;
    double must; /* of AES-128-GCM */
} sizes[] = {{125, 2.0}, {1024, 1.2}, {16384, 0.5}};

/* Who seals. */
enum { OPENSSL_ONE, LAYER_ONE, OPENSSL_TURN, LAYER_TURN, WAYS };

static struct {
    SSL *ssl[CONNECTIONS];
    struct tls_record *r[CONNECTIONS];
    struct tls_work work;
} bench;

static uint8_t plain[16384], out[16384 + TLS_RECORD_ROOM];

/* OpenSSL ---------------------------------------------------------------------------------------
 */

static SSL_CTX *server_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    CHECK(ctx != NULL && key != NULL && x != NULL);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    CHECK(X509_sign(x, key, EVP_sha256()) > 0);
    CHECK(SSL_CTX_use_certificate(ctx, x) == 1);
    CHECK(SSL_CTX_use_PrivateKey(ctx, key) == 1);
    X509_free(x);
    EVP_PKEY_free(key);
    return ctx;
}

static SSL *connected(SSL_CTX *client_ctx, SSL_CTX *server_ctx, const char *cipher)
{
    SSL *client = SSL_new(client_ctx), *server = SSL_new(server_ctx);
    BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());
    CHECK(client != NULL && server != NULL && up != NULL && down != NULL);
    CHECK(SSL_set_ciphersuites(client, cipher) == 1);
    BIO_up_ref(up);
    BIO_up_ref(down);
    SSL_set_bio(client, down, up);
    SSL_set_bio(server, up, down);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (int i = 0; i < 4; i++) {
        SSL_do_handshake(client);
        SSL_do_handshake(server);
    }
    CHECK(SSL_is_init_finished(server));
    SSL_free(client);
    SSL_set0_wbio(server, BIO_new(BIO_s_null()));
    return server;
}

static void seal_openssl(size_t records, size_t bytes, size_t connections)
{
    for (size_t i = 0; i < records; i++)
        CHECK(SSL_write(bench.ssl[i % connections], plain, (int)bytes) == (int)bytes);
}

/* The layer -------------------------------------------------------------------------------------
 */

/* Expands a 1.3 traffic secret (RFC 8446 7.3). */
static void expand(enum tls_aead aead, const uint8_t *secret, const char *label, uint8_t *to,
                   size_t len)
{
    bool is_384 = aead == TLS_AEAD_AES_256_GCM;
    CHECK(wc_Tls13_HKDF_Expand_Label(to, (word32)len, secret, is_384 ? 48 : 32,
                                     (const byte *)"tls13 ", 6, (const byte *)label,
                                     (word32)strlen(label), (const byte *)"", 0,
                                     is_384 ? WC_SHA384 : WC_SHA256) == 0);
}

static struct tls_record *layer_state(enum tls_aead aead, size_t number)
{
    uint8_t secret[48] = {0}, key[TLS_AEAD_KEY_BYTES_MAX], iv[TLS_AEAD_NONCE_BYTES];
    memcpy(secret, &number, sizeof number);
    expand(aead, secret, "key", key, tls_aead_key_bytes(aead));
    expand(aead, secret, "iv", iv, sizeof iv);
    struct tls_record_params p = {
        .version = TLS_VERSION_1_3,
        .aead = aead,
        .read_key = key,
        .write_key = key,
        .read_iv = iv,
        .write_iv = iv,
        .read_secret = secret,
        .write_secret = secret,
    };
    struct tls_record *r = malloc(tls_record_bytes(TLS_VERSION_1_3, aead));
    CHECK(r != NULL);
    CHECK(tls_record_init(r, &p) == 0);
    return r;
}

static void seal_layer(size_t records, size_t bytes, size_t connections)
{
    for (size_t i = 0; i < records; i++) {
        struct iovec iov = {plain, bytes};
        struct tls_source src = {&iov, 1, 0};
        CHECK(tls_record_seal(bench.r[i % connections], &bench.work, &src, sizeof plain, out,
                              sizeof out) > bytes);
    }
}

/* Rounds ----------------------------------------------------------------------------------------
 */

static void set_up(const struct suite *s)
{
    SSL_CTX *client = SSL_CTX_new(TLS_client_method()), *server = server_context();
    CHECK(client != NULL);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        bench.ssl[i] = connected(client, server, s->cipher);
        bench.r[i] = layer_state(s->aead, i);
    }
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

static void tear_down(void)
{
    for (size_t i = 0; i < CONNECTIONS; i++) {
        SSL_free(bench.ssl[i]);
        tls_record_wipe(bench.r[i], &bench.work);
        free(bench.r[i]);
    }
}

/* Nanoseconds for one record. */
static double measure(int way, size_t bytes)
{
    size_t records = ROUND_BYTES / bytes > ROUND_RECORDS ? ROUND_RECORDS : ROUND_BYTES / bytes;
    size_t connections = way == OPENSSL_ONE || way == LAYER_ONE ? 1 : CONNECTIONS;
    uint64_t begin = rounds_cpu_ns();
    if (way == OPENSSL_ONE || way == OPENSSL_TURN)
        seal_openssl(records, bytes, connections);
    else
        seal_layer(records, bytes, connections);
    return (double)(rounds_cpu_ns() - begin) / (double)records;
}

/* One row. Returns whether it is what it must be. */
static bool compare(const struct suite *s, const struct size *size,
                    const struct rounds_arguments *a)
{
    static double ns[WAYS][ROUNDS_MAX];
    double medians[WAYS], must = s == suites ? size->must : 0;
    char name[64];
    for (int way = 0; way < WAYS; way++)
        measure(way, size->bytes); /* warm */
    for (size_t i = 0; i < a->rounds; i++)
        for (int way = 0; way < WAYS; way++)
            ns[way][i] = measure(way, size->bytes);
    struct rounds_spread one = rounds_ratio_of(ns[OPENSSL_ONE], ns[LAYER_ONE], a->rounds);
    struct rounds_spread judged = rounds_ratio_of(ns[OPENSSL_ONE], ns[LAYER_TURN], a->rounds);
    for (int way = 0; way < WAYS; way++)
        medians[way] = rounds_spread_of(ns[way], a->rounds).median;
    printf("%-18s %6zu %9.0f %9.0f %9.0f %9.0f %8.2f %8.2f (%.2f - %.2f)\n", s->name, size->bytes,
           medians[OPENSSL_ONE], medians[LAYER_ONE], medians[OPENSSL_TURN], medians[LAYER_TURN],
           one.median, judged.median, judged.low, judged.high);
    if (judged.median < must)
        printf("missed: at least %.1f at %zu bytes\n", must, size->bytes);
    snprintf(name, sizeof name, "sealing %s, %zu B, to OpenSSL", s->name, size->bytes);
    rounds_write(a->json, name, judged, must);
    return judged.median >= must;
}

int main(int argc, char **argv)
{
    struct rounds_arguments a = rounds_arguments_read(argc, argv, 101);
    bool ok = true;
    printf("%zu rounds, medians; many: %d connections in turn; ns for one record\n", a.rounds,
           CONNECTIONS);
    printf("%-18s %6s %9s %9s %9s %9s %8s %8s\n", "", "", "OpenSSL", "layer", "OpenSSL", "layer",
           "ratio", "judged");
    printf("%-18s %6s %9s %9s %9s %9s %8s %8s\n", "", "bytes", "one", "one", "many", "many", "one",
           "ratio (quartiles)");
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        set_up(&suites[i]);
        for (size_t j = 0; j < ARRAY_LEN(sizes); j++)
            ok &= compare(&suites[i], &sizes[j], &a);
        tear_down();
    }
    tls_work_wipe(&bench.work);
    return !ok;
}
