/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The layer against OpenSSL's own. Two of its connections shake hands over memory; then the layer
 * takes the place of one of them, with its keys, and talks to the other. */

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "tls_rig.h"

static const char *const ciphers[] = {
    "TLS_AES_128_GCM_SHA256",        "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",  "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
};

/* One connection of OpenSSL's. */
struct peer {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
    int alert; /* the last one read: level << 8 | description, -1: none */
};

/* An established pair, of which the layer replaces one. */
struct match {
    struct rig rig;   /* the layer */
    struct peer peer; /* what it talks to */
    uint64_t seed;
};

struct options {
    bool layer_is_client;
    int tickets;
    int fragment; /* TLSEXT_max_fragment_length_*, 0: none */
    size_t padding;
};

static uint8_t client_secret[64], server_secret[64];

static void read_hex(const char *text, uint8_t *out, size_t max)
{
    for (size_t i = 0; i < max && sscanf(text + 2 * i, "%2hhx", &out[i]) == 1; i++)
        ;
}

static void on_keylog(const SSL *ssl, const char *line)
{
    (void)ssl;
    const char *secret = strrchr(line, ' ') + 1;
    if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0)
        read_hex(secret, client_secret, 48);
    if (strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0)
        read_hex(secret, server_secret, 48);
}

static void on_info(const SSL *ssl, int where, int value)
{
    struct peer *p = SSL_get_app_data(ssl);
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT)
        p->alert = value;
}

static void use_certificate(SSL_CTX *ctx)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    cr_assert_not_null(key);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    cr_assert_gt(X509_sign(x, key, EVP_sha256()), 0);
    cr_assert_eq(SSL_CTX_use_certificate(ctx, x), 1);
    cr_assert_eq(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void peer_init(struct peer *p, const struct rig_suite *s, bool is_client,
                      const struct options *o)
{
    int version = rig_is_13(s) ? TLS1_3_VERSION : TLS1_2_VERSION;
    const char *cipher = ciphers[s - rig_suites];
    p->alert = -1;
    p->ctx = SSL_CTX_new(is_client ? TLS_client_method() : TLS_server_method());
    SSL_CTX_set_min_proto_version(p->ctx, version);
    SSL_CTX_set_max_proto_version(p->ctx, version);
    cr_assert_eq(rig_is_13(s) ? SSL_CTX_set_ciphersuites(p->ctx, cipher)
                              : SSL_CTX_set_cipher_list(p->ctx, cipher),
                 1);
    SSL_CTX_set_keylog_callback(p->ctx, on_keylog);
    SSL_CTX_set_num_tickets(p->ctx, (size_t)o->tickets);
    if (!is_client)
        use_certificate(p->ctx);
    p->ssl = SSL_new(p->ctx);
    if (is_client && o->fragment != 0)
        cr_assert_eq(SSL_set_tlsext_max_fragment_length(p->ssl, (uint8_t)o->fragment), 1);
    p->in = BIO_new(BIO_s_mem());
    p->out = BIO_new(BIO_s_mem());
    SSL_set_bio(p->ssl, p->in, p->out);
    if (is_client)
        SSL_set_connect_state(p->ssl);
    else
        SSL_set_accept_state(p->ssl);
}

static void peer_deinit(struct peer *p)
{
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
}

static void pump(BIO *from, BIO *to)
{
    uint8_t buffer[4096];
    int n;
    while ((n = BIO_read(from, buffer, sizeof buffer)) > 0)
        cr_assert_eq(BIO_write(to, buffer, n), n);
}

/* The 1.2 key block (RFC 5246 6.3): client and server key, client and server IV. */
static void derive_12(SSL *ssl, const struct rig_suite *s, struct rig_way *client,
                      struct rig_way *server)
{
    uint8_t master[48], seed[13 + 64], block[2 * 32 + 2 * 12];
    size_t key = rig_key_bytes(s), iv = rig_has_explicit(s) ? 4 : 12;
    cr_assert_eq(SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof master), 48);
    memcpy(seed, "key expansion", 13);
    SSL_get_server_random(ssl, seed + 13, 32);
    SSL_get_client_random(ssl, seed + 45, 32);
    char *digest = rig_secret_bytes(s) == 48 ? "SHA384" : "SHA256";
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, sizeof master),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
        OSSL_PARAM_construct_end(),
    };
    cr_assert_eq(EVP_KDF_derive(ctx, block, 2 * key + 2 * iv, params), 1);
    memcpy(client->key, block, key);
    memcpy(server->key, block + key, key);
    memcpy(client->iv, block + 2 * key, iv);
    memcpy(server->iv, block + 2 * key + iv, iv);
    client->seq = server->seq = 1;
    client->explicit_nonce = server->explicit_nonce = 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

static void derive_13(const struct rig_suite *s, struct rig_way *client, struct rig_way *server)
{
    memcpy(client->secret, client_secret, rig_secret_bytes(s));
    memcpy(server->secret, server_secret, rig_secret_bytes(s));
    rig_derive(client);
    rig_derive(server);
}

static void shake_hands(struct peer *client, struct peer *server)
{
    for (int i = 0;
         i < 10 && !(SSL_is_init_finished(client->ssl) && SSL_is_init_finished(server->ssl)); i++) {
        SSL_do_handshake(client->ssl);
        pump(client->out, server->in);
        SSL_do_handshake(server->ssl);
        pump(server->out, client->in);
    }
    cr_assert(SSL_is_init_finished(client->ssl));
    cr_assert(SSL_is_init_finished(server->ssl));
}

static struct match match_new(const struct rig_suite *s, const struct options *o)
{
    struct match m = {.rig.suite = s, .seed = 21};
    struct peer client, server;
    struct rig_way client_way = {.suite = s}, server_way = {.suite = s};
    peer_init(&client, s, true, o);
    peer_init(&server, s, false, o);
    shake_hands(&client, &server);
    if (rig_is_13(s))
        derive_13(s, &client_way, &server_way);
    else
        derive_12(server.ssl, s, &client_way, &server_way);
    m.rig.in = o->layer_is_client ? server_way : client_way;
    m.rig.out = o->layer_is_client ? client_way : server_way;
    struct tls_record_params p = rig_params(&m.rig.in, &m.rig.out);
    p.is_client = o->layer_is_client;
    p.fragment_max = o->fragment != 0 ? (uint16_t)(256 << o->fragment) : 0;
    m.rig.r = rig_record_new(&p);
    m.rig.work = calloc(1, sizeof *m.rig.work);
    m.peer = o->layer_is_client ? server : client;
    if (o->layer_is_client) /* the tickets are the layer's to read */
        pump(client.in, server.out);
    peer_deinit(o->layer_is_client ? &client : &server);
    SSL_set_app_data(m.peer.ssl, NULL);
    return m;
}

/* The peer's address is final only now. */
static void match_start(struct match *m, const struct options *o)
{
    SSL_set_app_data(m->peer.ssl, &m->peer);
    SSL_set_info_callback(m->peer.ssl, on_info);
    if (o->padding != 0)
        cr_assert_eq(SSL_set_block_padding(m->peer.ssl, o->padding), 1);
}

static void match_free(struct match *m)
{
    rig_free(&m->rig);
    peer_deinit(&m->peer);
}

/* What the layer has received of the peer's bytes, cut at random, and not yet taken. */
static uint8_t held[64 * RIG_BUFFER];
static size_t held_len;

static enum tls_record_status layer_receive(struct match *m, uint8_t *got, size_t *got_len)
{
    enum tls_record_status st = TLS_RECORD_NEED_MORE;
    int n;
    do {
        size_t left, most = 1 + rig_random(&m->seed) % 3000;
        n = BIO_read(m->peer.out, held + held_len, (int)most);
        if (n > 0)
            held_len += (size_t)n;
        st = rig_feed(&m->rig, held, held_len, got, got_len, &left);
        memmove(held, held + held_len - left, left);
        held_len = left;
    } while (n > 0 && st == TLS_RECORD_NEED_MORE);
    return st;
}

static void to_peer(struct match *m, const uint8_t *p, size_t len)
{
    cr_assert_eq(BIO_write(m->peer.in, p, (int)len), (int)len);
}

static uint8_t message[64 * 1024], wire[80 * 1024 + RIG_BUFFER], got[4 * RIG_BUFFER];

static size_t make_message(struct match *m)
{
    static const size_t sizes[] = {1, 2, 15, 125, 1024, 16384, 16385, 60000};
    size_t len = rig_random(&m->seed) % 2 ? sizes[rig_random(&m->seed) % ARRAY_LEN(sizes)]
                                          : 1 + rig_random(&m->seed) % 2000;
    rig_fill(&m->seed, message, len);
    return len;
}

static void layer_says(struct match *m)
{
    size_t len = make_message(m), got_len = 0;
    struct iovec iov = {message, len};
    struct tls_source src = {&iov, 1, 0};
    while (src.count > 0) {
        size_t n = tls_record_seal(m->rig.r, m->rig.work, &src, 16384, wire, sizeof wire);
        cr_assert_gt(n, 0);
        to_peer(m, wire, n);
    }
    while (got_len < len) {
        int n = SSL_read(m->peer.ssl, got + got_len, (int)(sizeof got - got_len));
        cr_assert_gt(n, 0, "%s", ERR_reason_error_string(ERR_peek_error()));
        got_len += (size_t)n;
    }
    cr_assert_eq(got_len, len);
    cr_assert_eq(memcmp(got, message, len), 0);
}

static void peer_says(struct match *m)
{
    size_t len = make_message(m), got_len = 0;
    cr_assert_eq(SSL_write(m->peer.ssl, message, (int)len), (int)len);
    cr_assert_eq(layer_receive(m, got, &got_len), TLS_RECORD_NEED_MORE, "%s",
                 tls_reason_text(tls_record_reason(m->rig.r)));
    cr_assert_eq(got_len, len);
    cr_assert_eq(memcmp(got, message, len), 0);
}

static void change_keys(struct match *m)
{
    uint64_t choice = rig_random(&m->seed) % 40;
    if (!rig_is_13(m->rig.suite) || choice > 3)
        return;
    if (choice < 2)
        tls_record_update(m->rig.r, choice == 1);
    else
        SSL_key_update(m->peer.ssl,
                       choice == 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
}

static void expect_conversation(const struct rig_suite *s, const struct options *o, int messages)
{
    struct match m = match_new(s, o);
    match_start(&m, o);
    held_len = 0;
    for (int i = 0; i < messages; i++) {
        change_keys(&m);
        if (rig_random(&m.seed) % 2)
            layer_says(&m);
        else
            peer_says(&m);
    }
    match_free(&m);
}

Test(tls_record_peer, openssl_and_the_layer_understand_each_other)
{
    FOR_SUITES(s)
    {
        expect_conversation(s, &(struct options){.layer_is_client = false}, 600);
        expect_conversation(s, &(struct options){.layer_is_client = true}, 600);
    }
}

Test(tls_record_peer, tickets_of_openssl_pass)
{
    FOR_SUITES_13(s)
    {
        expect_conversation(s, &(struct options){.layer_is_client = true, .tickets = 2}, 20);
    }
}

Test(tls_record_peer, padded_records_of_openssl_are_opened)
{
    FOR_SUITES_13(s)
    {
        expect_conversation(s, &(struct options){.padding = 1024}, 50);
        expect_conversation(s, &(struct options){.layer_is_client = true, .padding = 4096}, 50);
    }
}

Test(tls_record_peer, small_fragments_are_kept_where_they_were_agreed_on)
{
    FOR_SUITES(s)
    {
        expect_conversation(s, &(struct options){.fragment = TLSEXT_max_fragment_length_512}, 60);
        expect_conversation(
            s,
            &(struct options){.layer_is_client = true, .fragment = TLSEXT_max_fragment_length_1024},
            60);
    }
}

Test(tls_record_peer, close_notify_is_understood_both_ways)
{
    FOR_SUITES(s)
    {
        for (int is_client = 0; is_client < 2; is_client++) {
            struct options o = {.layer_is_client = is_client};
            size_t got_len = 0;
            struct match m = match_new(s, &o);
            match_start(&m, &o);
            held_len = 0;
            size_t n = tls_record_seal_end(m.rig.r, m.rig.work, wire);
            to_peer(&m, wire, n);
            cr_assert_eq(SSL_read(m.peer.ssl, got, 1), 0);
            cr_assert_eq(SSL_get_error(m.peer.ssl, 0), SSL_ERROR_ZERO_RETURN);
            cr_assert_eq(m.peer.alert, SSL3_AL_WARNING << 8 | SSL_AD_CLOSE_NOTIFY);
            cr_assert_eq(SSL_shutdown(m.peer.ssl), 1);
            cr_assert_eq(layer_receive(&m, got, &got_len), TLS_RECORD_CLOSED);
            match_free(&m);
        }
    }
}

Test(tls_record_peer, our_alert_is_understood)
{
    FOR_SUITES(s)
    {
        struct options o = {.layer_is_client = false};
        size_t got_len = 0, left;
        struct match m = match_new(s, &o);
        match_start(&m, &o);
        cr_assert_eq(SSL_write(m.peer.ssl, "x", 1), 1);
        int n = BIO_read(m.peer.out, wire, sizeof wire);
        wire[n - 1] ^= 1;
        cr_assert_eq(rig_feed(&m.rig, wire, (size_t)n, got, &got_len, &left), TLS_RECORD_FAILED);
        to_peer(&m, wire, tls_record_seal_end(m.rig.r, m.rig.work, wire));
        cr_assert_lt(SSL_read(m.peer.ssl, got, 1), 1);
        cr_assert_eq(m.peer.alert, SSL3_AL_FATAL << 8 | SSL_AD_BAD_RECORD_MAC);
        match_free(&m);
    }
}

Test(tls_record_peer, the_alert_of_openssl_is_understood)
{
    FOR_SUITES(s)
    {
        struct options o = {.layer_is_client = false};
        size_t got_len = 0;
        struct match m = match_new(s, &o);
        match_start(&m, &o);
        held_len = 0;
        size_t n = rig_layer_seal(&m.rig, "x", 1, wire);
        wire[n - 1] ^= 1;
        to_peer(&m, wire, n);
        cr_assert_lt(SSL_read(m.peer.ssl, got, 1), 1);
        cr_assert_eq(layer_receive(&m, got, &got_len), TLS_RECORD_FAILED);
        cr_assert_eq(tls_record_reason(m.rig.r), TLS_REASON_PEER_ALERT);
        cr_assert_eq(tls_record_peer_alert(m.rig.r), SSL_AD_BAD_RECORD_MAC);
        match_free(&m);
    }
}

Test(tls_record_peer, openssl_may_not_renegotiate)
{
    FOR_SUITES_12(s)
    {
        for (int is_client = 0; is_client < 2; is_client++) {
            struct options o = {.layer_is_client = is_client};
            size_t got_len = 0;
            struct match m = match_new(s, &o);
            match_start(&m, &o);
            held_len = 0;
            cr_assert_eq(SSL_renegotiate(m.peer.ssl), 1);
            SSL_do_handshake(m.peer.ssl);
            cr_assert_eq(layer_receive(&m, got, &got_len), TLS_RECORD_FAILED);
            cr_assert_eq(tls_record_reason(m.rig.r), TLS_REASON_RENEGOTIATION);
            to_peer(&m, wire, tls_record_seal_end(m.rig.r, m.rig.work, wire));
            SSL_read(m.peer.ssl, got, 1);
            cr_assert_eq(m.peer.alert, SSL3_AL_FATAL << 8 | SSL_AD_HANDSHAKE_FAILURE);
            match_free(&m);
        }
    }
}
