/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* OCSP responses beside client certificates: who has issued our certificate is an authority of the
 * context that staples, and yet no client gets in by a certificate of that one. OpenSSL is the
 * client, over memory. TLS 1.3 is stapled here whatever the linked wolfSSL leaks. */

#include "net/tls_staple.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net/tls_handshake.h"

/* Of LeakSanitizer, where it is linked: what wolfSSL leaks is not what these tests look for. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

#define DAY_S 86400
#define FLIGHTS_MAX 8

struct named {
    X509 *x;
    EVP_PKEY *key;
};

/* What a client shows. */
enum shown { NOTHING, OF_THE_CLIENTS_AUTHORITY, OF_OUR_ISSUER, SHOWN_COUNT };

struct rig {
    struct named issuer, server, authority, clients[SHOWN_COUNT];
    char cert[64], key[64], ocsp[64], client_ca[64];
    struct tls_context *context;
    struct tls_workshop workshop;
    SSL_CTX *client;
    uint8_t scratch[TLS_HELLO_RECORD_MAX];
    _Alignas(struct tls_record) uint8_t record[256];
};

static void add_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    X509_add_ext(x, ext, -1);
    X509_EXTENSION_free(ext);
}

/* A certificate that `by` has signed; NULL: an authority, by itself. */
static struct named make(const char *subject, const struct named *by)
{
    static long serial;
    struct named n = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *name = X509_get_subject_name(n.x);

    X509_set_version(n.x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(n.x), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(n.x), -DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(n.x), DAY_S);
    X509_set_pubkey(n.x, n.key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)subject, -1, -1, 0);
    X509_set_issuer_name(n.x, by == NULL ? name : X509_get_subject_name(by->x));
    if (by == NULL) {
        add_extension(n.x, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(n.x, NID_key_usage, "critical,keyCertSign,digitalSignature");
    }
    cr_assert_neq(X509_sign(n.x, by == NULL ? n.key : by->key, EVP_sha256()), 0);
    return n;
}

static void drop(struct named *n)
{
    X509_free(n->x);
    EVP_PKEY_free(n->key);
}

static FILE *new_file(char name[64])
{
    int fd;

    snprintf(name, 64, "/tmp/tidewire-test-XXXXXX");
    fd = mkstemp(name);
    cr_assert_geq(fd, 0);
    return fdopen(fd, "w");
}

static void write_certificates(char name[64], const struct named *first, const struct named *second)
{
    FILE *f = new_file(name);

    PEM_write_X509(f, first->x);
    if (second != NULL)
        PEM_write_X509(f, second->x);
    fclose(f);
}

static void write_key(char name[64], const struct named *n)
{
    FILE *f = new_file(name);

    PEM_write_PrivateKey(f, n->key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
}

/* The issuer calls the server's certificate good (RFC 6960 4.2). */
static void write_response(char name[64], const struct named *server, const struct named *issuer)
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), server->x, issuer->x);
    ASN1_TIME *from = X509_gmtime_adj(NULL, -DAY_S), *until = X509_gmtime_adj(NULL, DAY_S);
    OCSP_RESPONSE *response;
    BIO *out = BIO_new_fp(new_file(name), BIO_CLOSE);

    cr_assert_not_null(
        OCSP_basic_add1_status(basic, id, V_OCSP_CERTSTATUS_GOOD, 0, NULL, from, until));
    cr_assert_eq(OCSP_basic_sign(basic, issuer->x, issuer->key, EVP_sha256(), NULL, 0), 1);
    response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    cr_assert_eq(i2d_OCSP_RESPONSE_bio(out, response), 1);
    BIO_free(out);
    OCSP_RESPONSE_free(response);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    OCSP_CERTID_free(id);
    OCSP_BASICRESP_free(basic);
}

static void load(struct rig *r)
{
    char complaint[TLS_COMPLAINT_MAX] = "";
    char *cert = r->cert, *key = r->key, *ocsp = r->ocsp, *client_ca = r->client_ca;
    struct tls_files files = {
        .certs = &cert,
        .keys = &key,
        .count = 1,
        .client_cas = &client_ca,
        .client_ca_count = 1,
        .staples = &ocsp,
        .staple_count = 1,
    };

    cr_assert_eq(tls_context_load(&files, time(NULL), &r->context, complaint), 0, "%s", complaint);
    tls_context_set_staples_13(r->context, TLS_STAPLES_13_YES);
}

static void rig_init(struct rig *r)
{
    static const uint8_t seed[TLS_TICKET_SEED_BYTES];

    memset(r, 0, sizeof(*r));
    r->issuer = make("our issuer", NULL);
    r->authority = make("authority of clients", NULL);
    r->server = make("localhost", &r->issuer);
    r->clients[OF_THE_CLIENTS_AUTHORITY] = make("good", &r->authority);
    r->clients[OF_OUR_ISSUER] = make("bad", &r->issuer);
    write_certificates(r->cert, &r->server, &r->issuer);
    write_certificates(r->client_ca, &r->authority, NULL);
    write_key(r->key, &r->server);
    write_response(r->ocsp, &r->server, &r->issuer);
    load(r);
    cr_assert_eq(tls_workshop_init(&r->workshop, seed, 0, 0), 0);
    r->client = SSL_CTX_new(TLS_client_method());
}

static void rig_deinit(struct rig *r)
{
    SSL_CTX_free(r->client);
    tls_workshop_deinit(&r->workshop);
    tls_context_unref(r->context);
    unlink(r->cert);
    unlink(r->key);
    unlink(r->ocsp);
    unlink(r->client_ca);
    drop(&r->issuer);
    drop(&r->authority);
    drop(&r->server);
    for (int i = NOTHING + 1; i < SHOWN_COUNT; i++)
        drop(&r->clients[i]);
}

/* A client that asks for the response. */
static SSL *new_client(struct rig *r, int version, const char *groups, enum shown shown)
{
    SSL *ssl = SSL_new(r->client);

    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl);
    SSL_set_min_proto_version(ssl, version);
    SSL_set_max_proto_version(ssl, version);
    SSL_set_tlsext_status_type(ssl, TLSEXT_STATUSTYPE_ocsp);
    cr_assert_eq(SSL_set1_groups_list(ssl, groups), 1);
    if (shown != NOTHING) {
        cr_assert_eq(SSL_use_certificate(ssl, r->clients[shown].x), 1);
        cr_assert_eq(SSL_use_PrivateKey(ssl, r->clients[shown].key), 1);
    }
    return ssl;
}

static struct tls_handshake *start(struct rig *r, struct bytes first)
{
    struct tls_hello hello;
    const struct tls_identity *id;
    bool staples;

    cr_assert_eq(tls_hello_parse(first.ptr, first.len, r->scratch, &hello), TLS_HELLO_OK);
    id = tls_context_choose(r->context, &hello);
    staples = tls_context_staples(r->context, id, &hello, time(NULL));
    cr_assert(staples);
    return tls_handshake_new(&r->workshop, r->context, id, staples);
}

/* Shakes hands until one of the two has come to an end. */
static enum tls_handshake_status shake(struct rig *r, SSL *ssl, struct tls_handshake **hs)
{
    enum tls_handshake_status st = TLS_HANDSHAKE_MORE;
    uint8_t flight[16384];

    for (int i = 0; i < FLIGHTS_MAX && st == TLS_HANDSHAKE_MORE; i++) {
        struct bytes in = {flight, 0}, out;
        int len;

        (void)SSL_do_handshake(ssl);
        len = BIO_read(SSL_get_wbio(ssl), flight, sizeof(flight));
        cr_assert_gt(len, 0);
        in.len = (size_t)len;
        if (*hs == NULL)
            *hs = start(r, in);
        st = tls_handshake_step(*hs, &in);
        out = tls_handshake_output(*hs);
        if (out.len > 0)
            cr_assert_eq(BIO_write(SSL_get_rbio(ssl), out.ptr, (int)out.len), (int)out.len);
    }
    (void)SSL_do_handshake(ssl);
    return st;
}

static void check(struct rig *r, int version, const char *groups, enum shown shown)
{
    SSL *ssl = new_client(r, version, groups, shown);
    struct tls_handshake *hs = NULL;
    struct tls_handshake_info info;
    struct tls_work work = {0};
    enum tls_handshake_status st = shake(r, ssl, &hs);
    const unsigned char *response;

    cr_assert_gt(SSL_get_tlsext_status_ocsp_resp(ssl, &response), 0);
    if (shown == OF_THE_CLIENTS_AUTHORITY) {
        cr_assert_eq(st, TLS_HANDSHAKE_DONE, "%s", tls_handshake_problem(hs));
        cr_assert(tls_handshake_finish(hs, (struct tls_record *)r->record, &info));
        cr_assert(info.is_stapled, "%d %s", version, groups);
        cr_assert_str_eq(info.subject, "/CN=good");
        tls_record_wipe((struct tls_record *)r->record, &work);
    } else {
        cr_assert_eq(st, TLS_HANDSHAKE_FAILED);
        cr_assert_eq(tls_handshake_failure(hs), TLS_FAILURE_CLIENT_CERTIFICATE, "%s",
                     tls_handshake_problem(hs));
        tls_handshake_free(hs);
    }
    SSL_free(ssl);
    ERR_clear_error();
}

Test(tls_staple, the_clients_authority_alone_vouches_for_clients)
{
    /* The last begins with a HelloRetryRequest. */
    static const struct {
        int version;
        const char *groups;
    } ways[] = {{TLS1_2_VERSION, "X25519:P-256"},
                {TLS1_3_VERSION, "X25519:P-256"},
                {TLS1_3_VERSION, "P-521:X25519:P-256"}};
    struct rig r;

    if (__lsan_disable != NULL)
        __lsan_disable();
    rig_init(&r);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        for (int shown = NOTHING; shown < SHOWN_COUNT; shown++)
            check(&r, ways[i].version, ways[i].groups, (enum shown)shown);
    }
    rig_deinit(&r);
    if (__lsan_enable != NULL)
        __lsan_enable();
}
