/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The handshake engine with OpenSSL as its client, over memory: every version, suite and kind of
 * certificate, bytes in any pieces, tickets, and what is refused. Behind each handshake the record
 * layer goes on with the keys, both ways. */

#include "net/tls_handshake.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net/tls_self_test.h"

#define LIFETIME_NS (3600 * NS_PER_SEC)
#define HELLO_TEXT "hello from the client"

/* Files of certificates that live as long as the test. */
struct pair {
    char cert[64];
    char key[64];
};

struct rig {
    struct tls_context *context;
    struct tls_workshop workshop;
    struct tls_work work;
    uint8_t scratch[TLS_HELLO_RECORD_MAX];
    SSL_CTX *client;
    _Alignas(struct tls_record) uint8_t record[256];
    struct tls_handshake_info info;
};

static void temp_name(char name[64])
{
    int fd;

    snprintf(name, 64, "/tmp/tidewire-test-XXXXXX");
    fd = mkstemp(name);
    cr_assert_geq(fd, 0);
    close(fd);
}

static void make_pair(struct pair *p, bool rsa, const char *host, long from_s, long to_s)
{
    EVP_PKEY *key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);
    char san[128];
    X509_EXTENSION *ext;
    FILE *f;

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    X509_gmtime_adj(X509_getm_notBefore(x), from_s);
    X509_gmtime_adj(X509_getm_notAfter(x), to_s);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)host, -1, -1, 0);
    X509_set_issuer_name(x, name);
    snprintf(san, sizeof(san), "DNS:%s", host);
    ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
    X509_add_ext(x, ext, -1);
    X509_EXTENSION_free(ext);
    cr_assert_neq(X509_sign(x, key, EVP_sha256()), 0);
    temp_name(p->cert);
    temp_name(p->key);
    f = fopen(p->cert, "w");
    PEM_write_X509(f, x);
    fclose(f);
    f = fopen(p->key, "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void drop_pair(struct pair *p)
{
    unlink(p->cert);
    unlink(p->key);
}

static int load(struct pair *pairs, uint32_t count, struct tls_context **out, char *complaint)
{
    char *certs[8], *keys[8];
    struct tls_files files = {
        .certs = certs, .keys = keys, .count = count, .ticket_lifetime_ns = LIFETIME_NS};

    for (uint32_t i = 0; i < count; i++) {
        certs[i] = pairs[i].cert;
        keys[i] = pairs[i].key;
    }
    return tls_context_load(&files, time(NULL), out, complaint);
}

static void rig_init(struct rig *r, bool rsa, bool ecdsa)
{
    static const uint8_t seed[TLS_TICKET_SEED_BYTES] = {42};
    struct pair pairs[2];
    uint32_t count = 0;
    char complaint[TLS_COMPLAINT_MAX] = "";

    memset(r, 0, sizeof(*r));
    if (ecdsa)
        make_pair(&pairs[count++], false, "localhost", -3600, 86400);
    if (rsa)
        make_pair(&pairs[count++], true, "localhost", -3600, 86400);
    cr_assert_eq(load(pairs, count, &r->context, complaint), 0, "%s", complaint);
    for (uint32_t i = 0; i < count; i++)
        drop_pair(&pairs[i]);
    cr_assert_eq(tls_workshop_init(&r->workshop, seed, 0, LIFETIME_NS), 0);
    r->client = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(r->client, SSL_SESS_CACHE_CLIENT);
}

static void rig_deinit(struct rig *r)
{
    SSL_CTX_free(r->client);
    tls_workshop_deinit(&r->workshop);
    tls_context_unref(r->context);
}

/* A client whose bytes go through memory. */
static SSL *new_client(struct rig *r, int version, const char *suite)
{
    SSL *ssl = SSL_new(r->client);

    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl);
    SSL_set_min_proto_version(ssl, version);
    SSL_set_max_proto_version(ssl, version);
    SSL_set_tlsext_host_name(ssl, "localhost");
    if (suite != NULL && version == TLS1_3_VERSION)
        cr_assert_eq(SSL_set_ciphersuites(ssl, suite), 1);
    else if (suite != NULL)
        cr_assert_eq(SSL_set_cipher_list(ssl, suite), 1);
    return ssl;
}

/* What the client has to say. The caller frees. */
static struct bytes from_client(SSL *ssl)
{
    size_t len = BIO_ctrl_pending(SSL_get_wbio(ssl));
    struct bytes b = {malloc(len + 1), len};

    if (len > 0)
        cr_assert_eq(BIO_read(SSL_get_wbio(ssl), b.ptr, (int)len), (int)len);
    return b;
}

static void to_client(SSL *ssl, struct bytes b)
{
    if (b.len > 0)
        cr_assert_eq(BIO_write(SSL_get_rbio(ssl), b.ptr, (int)b.len), (int)b.len);
}

/* Hands bytes to the engine in pieces of `step`; what it has not used is left in *b. */
static enum tls_handshake_status feed(struct tls_handshake *hs, struct bytes *b, size_t step)
{
    enum tls_handshake_status st = TLS_HANDSHAKE_MORE;

    while (b->len > 0 && st == TLS_HANDSHAKE_MORE) {
        struct bytes piece = {b->ptr, min_size(step, b->len)};
        size_t given = piece.len;

        st = tls_handshake_step(hs, &piece);
        b->ptr += given - piece.len;
        b->len -= given - piece.len;
        if (st == TLS_HANDSHAKE_MORE)
            cr_assert_eq(piece.len, 0, "it waits for more while there is some");
    }
    return st;
}

static struct tls_handshake *start(struct rig *r, struct bytes first)
{
    struct tls_hello hello;
    const struct tls_identity *id;

    for (size_t len = 0; len < first.len; len++)
        cr_assert_eq(tls_hello_parse(first.ptr, len, r->scratch, &hello), TLS_HELLO_MORE);
    cr_assert_eq(tls_hello_parse(first.ptr, first.len, r->scratch, &hello), TLS_HELLO_OK);
    id = tls_context_choose(r->context, &hello);
    return tls_handshake_new(&r->workshop, r->context, id,
                             tls_context_staples(r->context, id, &hello, time(NULL)));
}

/* The whole handshake. The client says HELLO_TEXT right behind its Finished, in the same bytes, as
 * soon as it may; what of that the engine left is opened by the record layer. */
static struct tls_record *shake(struct rig *r, SSL *ssl, size_t step)
{
    struct tls_record *record = (struct tls_record *)r->record;
    struct tls_handshake *hs = NULL;
    enum tls_handshake_status st = TLS_HANDSHAKE_MORE;
    struct tls_piece piece;
    struct bytes b, whole;
    bool said = false;

    for (int i = 0; i < 10 && st == TLS_HANDSHAKE_MORE; i++) {
        if (SSL_do_handshake(ssl) == 1)
            said = SSL_write(ssl, HELLO_TEXT, sizeof(HELLO_TEXT)) == sizeof(HELLO_TEXT);
        whole = b = from_client(ssl);
        if (hs == NULL)
            hs = start(r, b);
        cr_assert_not_null(hs);
        st = feed(hs, &b, step);
        to_client(ssl, tls_handshake_output(hs));
        cr_assert_eq(tls_handshake_output(hs).len, 0, "what was taken is gone");
        if (st != TLS_HANDSHAKE_DONE)
            free(whole.ptr);
    }
    cr_assert_eq(st, TLS_HANDSHAKE_DONE, "%s", tls_handshake_problem(hs));
    cr_assert_leq(tls_handshake_record_bytes(hs), sizeof(r->record));
    cr_assert(tls_handshake_finish(hs, record, &r->info));
    cr_assert_eq(SSL_do_handshake(ssl), 1);
    if (!said) {
        cr_assert_eq(SSL_write(ssl, HELLO_TEXT, sizeof(HELLO_TEXT)), sizeof(HELLO_TEXT));
        cr_assert_eq(b.len, 0);
        free(whole.ptr);
        whole = b = from_client(ssl);
    }
    cr_assert_eq(tls_record_open(record, &r->work, &b, &piece), TLS_RECORD_DATA);
    cr_assert_eq(piece.data.len, sizeof(HELLO_TEXT));
    cr_assert_arr_eq(piece.data.ptr, HELLO_TEXT, sizeof(HELLO_TEXT));
    free(whole.ptr);
    return record;
}

static void say(struct rig *r, SSL *ssl, struct tls_record *record, size_t len)
{
    uint8_t *plain = malloc(len), *sealed = malloc(len + TLS_RECORD_ROOM), *got = malloc(len);
    struct iovec iov = {plain, len};
    struct tls_source src = {&iov, 1, 0};
    size_t n;

    memset(plain, 'x', len);
    n = tls_record_seal(record, &r->work, &src, len, sealed, len + TLS_RECORD_ROOM);
    cr_assert_gt(n, len);
    to_client(ssl, (struct bytes){sealed, n});
    cr_assert_eq(SSL_read(ssl, got, (int)len), (int)len);
    cr_assert_arr_eq(got, plain, len);
    free(plain);
    free(sealed);
    free(got);
}

static void hear(struct rig *r, SSL *ssl, struct tls_record *record, size_t len)
{
    uint8_t *plain = calloc(1, len);
    struct tls_piece piece;
    struct bytes b, whole;

    cr_assert_eq(SSL_write(ssl, plain, (int)len), (int)len);
    whole = b = from_client(ssl);
    cr_assert_eq(tls_record_open(record, &r->work, &b, &piece), TLS_RECORD_DATA);
    cr_assert_eq(piece.data.len, len);
    cr_assert_arr_eq(piece.data.ptr, plain, len);
    free(whole.ptr);
    free(plain);
}

static void talk(struct rig *r, SSL *ssl, struct tls_record *record)
{
    for (size_t len = 1; len <= 16384; len *= 4) {
        say(r, ssl, record, len);
        hear(r, ssl, record, len);
    }
}

static void end(struct rig *r, SSL *ssl, struct tls_record *record)
{
    tls_record_wipe(record, &r->work);
    SSL_free(ssl);
}

static const struct {
    int version;
    const char *name;
    bool rsa;
} suites[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", false},
    {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", true},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", false},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", false},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", false},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", false},
    {TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", true},
    {TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", true},
    {TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305", true},
};

Test(tls_handshake, the_keys_taken_over_are_those_in_use_with_every_suite_whatever_the_pieces)
{
    static const size_t steps[] = {1, 3, 100, 100000};
    struct rig r;

    rig_init(&r, true, true);
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            SSL *ssl = new_client(&r, suites[i].version, suites[i].name);
            struct tls_record *record;

            if (suites[i].rsa && suites[i].version == TLS1_3_VERSION)
                SSL_set1_sigalgs_list(ssl, "RSA-PSS+SHA256");
            record = shake(&r, ssl, steps[k]);
            cr_assert_eq(r.info.version,
                         suites[i].version == TLS1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2);
            cr_assert_eq(EVP_PKEY_get_base_id(X509_get0_pubkey(SSL_get0_peer_certificate(ssl))),
                         suites[i].rsa ? EVP_PKEY_RSA : EVP_PKEY_EC);
            cr_assert(!r.info.is_resumed);
            talk(&r, ssl, record);
            end(&r, ssl, record);
        }
    }
    rig_deinit(&r);
}

Test(tls_handshake, keys_are_updated_both_ways_by_the_secrets_taken_over)
{
    struct rig r;

    rig_init(&r, false, true);
    for (size_t i = 0; i < 3; i++) {
        SSL *ssl = new_client(&r, TLS1_3_VERSION, suites[i].name);
        struct tls_record *record = shake(&r, ssl, 100000);

        cr_assert_eq(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        hear(&r, ssl, record, 100);
        talk(&r, ssl, record);
        tls_record_update(record, true);
        talk(&r, ssl, record);
        end(&r, ssl, record);
    }
    rig_deinit(&r);
}

/* One after the other, each from the ticket of the one before. */
static uint32_t resume_chain(struct rig *r, int version, uint32_t count)
{
    SSL_SESSION *session = NULL;
    uint32_t resumed = 0;

    for (uint32_t i = 0; i < count; i++) {
        SSL *ssl = new_client(r, version, NULL);
        struct tls_record *record;

        if (session != NULL)
            SSL_set_session(ssl, session);
        record = shake(r, ssl, 100000);
        cr_assert_eq(r->info.is_resumed, SSL_session_reused(ssl) == 1);
        resumed += r->info.is_resumed;
        say(r, ssl, record, 10); /* reads the ticket on the way */
        SSL_SESSION_free(session);
        session = SSL_get1_session(ssl);
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        end(r, ssl, record);
    }
    SSL_SESSION_free(session);
    return resumed;
}

Test(tls_handshake, sessions_are_resumed_in_chains_with_a_full_handshake_in_200)
{
    struct rig r;

    rig_init(&r, false, true);
    cr_assert_eq(resume_chain(&r, TLS1_3_VERSION, 450), 447, "first, 201st, 402nd");
    cr_assert_eq(resume_chain(&r, TLS1_2_VERSION, 20), 19);
    rig_deinit(&r);
}

/* wolfSSL's, whose header does not go together with OpenSSL's. */
int wolfSSL_get_session_cache_memsize(void);
int wolfSSL_memsave_session_cache(void *mem, int size);

static uint8_t *library_cache(size_t *len)
{
    int size = wolfSSL_get_session_cache_memsize();
    uint8_t *mem = calloc(1, (size_t)size);

    cr_assert_eq(wolfSSL_memsave_session_cache(mem, size), 1);
    *len = (size_t)size;
    return mem;
}

Test(tls_handshake, no_session_stays_in_the_librarys_own_cache)
{
    struct rig r;
    size_t before_len, after_len;
    uint8_t *before, *after;

    rig_init(&r, false, true);
    before = library_cache(&before_len);
    cr_assert_eq(resume_chain(&r, TLS1_3_VERSION, 20), 19);
    cr_assert_eq(resume_chain(&r, TLS1_2_VERSION, 20), 19);
    after = library_cache(&after_len);
    cr_assert_eq(before_len, after_len);
    cr_assert_eq(memcmp(before, after, before_len), 0);
    free(before);
    free(after);
    rig_deinit(&r);
}

Test(tls_handshake, a_ticket_lives_two_periods_at_the_most)
{
    struct rig r;
    SSL *ssl;
    SSL_SESSION *session;

    rig_init(&r, false, true);
    ssl = new_client(&r, TLS1_2_VERSION, NULL);
    shake(&r, ssl, 100000);
    session = SSL_get1_session(ssl);
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
    for (uint32_t period = 0; period <= 2; period++) {
        r.workshop.now_ns = period * LIFETIME_NS;
        ssl = new_client(&r, TLS1_2_VERSION, NULL);
        SSL_set_session(ssl, session);
        shake(&r, ssl, 100000);
        cr_assert_eq(r.info.is_resumed, period < 2);
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(ssl);
    }
    SSL_SESSION_free(session);
    rig_deinit(&r);
}

/* What the client is told by an alert, and how the engine counts it. */
static void refused(struct rig *r, SSL *ssl, enum tls_failure failure, int alert)
{
    struct tls_handshake *hs;
    struct bytes b, whole;

    cr_assert_leq(SSL_do_handshake(ssl), 0);
    whole = b = from_client(ssl);
    hs = start(r, b);
    cr_assert_eq(feed(hs, &b, 100000), TLS_HANDSHAKE_FAILED);
    cr_assert_eq(tls_handshake_failure(hs), failure, "%s",
                 tls_failure_label(tls_handshake_failure(hs)));
    b = tls_handshake_output(hs);
    cr_assert_geq(b.len, 7);
    cr_assert_eq(b.ptr[0], 21);
    cr_assert_eq(b.ptr[6], alert, "%d", b.ptr[6]);
    tls_handshake_free(hs);
    free(whole.ptr);
    SSL_free(ssl);
}

Test(tls_handshake, what_is_not_offered_is_refused_by_an_alert)
{
    static const unsigned char h2[] = "\x02h2";
    struct rig r;
    SSL *ssl;

    rig_init(&r, false, true);
    refused(&r, new_client(&r, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
            TLS_FAILURE_NO_SHARED, 40);
    refused(&r, new_client(&r, TLS1_2_VERSION, "aNULL:@SECLEVEL=0"), TLS_FAILURE_NO_SHARED, 40);
    refused(&r, new_client(&r, TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256"),
            TLS_FAILURE_NO_SHARED, 40); /* there is only an ECDSA certificate */
    refused(&r, new_client(&r, TLS1_1_VERSION, "ALL:@SECLEVEL=0"), TLS_FAILURE_PROTOCOL_VERSION,
            70);
    ssl = new_client(&r, TLS1_3_VERSION, NULL);
    SSL_set_alpn_protos(ssl, h2, 3);
    refused(&r, ssl, TLS_FAILURE_NO_ALPN, 120);
    rig_deinit(&r);
}

Test(tls_handshake, a_changed_byte_anywhere_in_the_clients_last_flight_fails)
{
    struct rig r;

    rig_init(&r, false, true);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        size_t len = 1;

        for (size_t at = 0; at < len; at++) {
            SSL *ssl = new_client(&r, version, NULL);
            struct bytes b, whole;
            struct tls_handshake *hs;
            enum tls_handshake_status st;

            SSL_do_handshake(ssl);
            whole = b = from_client(ssl);
            hs = start(&r, b);
            cr_assert_eq(feed(hs, &b, 100000), TLS_HANDSHAKE_MORE);
            to_client(ssl, tls_handshake_output(hs));
            free(whole.ptr);
            SSL_do_handshake(ssl);
            whole = b = from_client(ssl);
            len = b.len;
            b.ptr[at] ^= 0x40;
            st = feed(hs, &b, 100000);
            cr_assert_neq(st, TLS_HANDSHAKE_DONE, "byte %zu", at);
            tls_handshake_free(hs);
            free(whole.ptr);
            SSL_free(ssl);
        }
    }
    rig_deinit(&r);
}

Test(tls_handshake, the_self_test_passes_with_what_is_linked)
{
    struct rig r;
    char complaint[TLS_COMPLAINT_MAX] = "";

    rig_init(&r, true, true);
    cr_assert_eq(tls_self_test(r.context, true, complaint), 0, "%s", complaint);
    rig_deinit(&r);
}

Test(tls_context, a_key_of_another_certificate_is_refused)
{
    struct pair pairs[4];
    struct tls_context *context;
    char complaint[TLS_COMPLAINT_MAX];

    for (int i = 0; i < 4; i++)
        make_pair(&pairs[i], i >= 2, "localhost", -3600, 86400);
    for (int cert = 0; cert < 4; cert++) {
        for (int key = 0; key < 4; key++) {
            struct pair mixed = pairs[cert];
            int err;

            memcpy(mixed.key, pairs[key].key, sizeof(mixed.key));
            err = load(&mixed, 1, &context, complaint);
            cr_assert_eq(err == 0, cert == key);
            if (err == 0)
                tls_context_unref(context);
            else
                cr_assert_not_null(strstr(complaint, mixed.key));
        }
    }
    for (int i = 0; i < 4; i++)
        drop_pair(&pairs[i]);
}

Test(tls_context, times_are_judged_by_the_clock_given)
{
    struct pair old, early;
    struct tls_context *context;
    char complaint[TLS_COMPLAINT_MAX];

    make_pair(&old, false, "localhost", -7200, -3600);
    make_pair(&early, false, "localhost", 3600, 7200);
    cr_assert_eq(load(&old, 1, &context, complaint), -EINVAL);
    cr_assert_not_null(strstr(complaint, "expired on"));
    cr_assert_eq(load(&early, 1, &context, complaint), -EINVAL);
    cr_assert_not_null(strstr(complaint, "not valid before"));
    drop_pair(&old);
    drop_pair(&early);
}

Test(tls_context, names_lead_to_certificates_exact_before_wildcard_and_by_kind)
{
    static const struct {
        const char *name;
        bool ecdsa;
        uint32_t wanted;
    } cases[] = {
        {"first.test", true, 0},
        {"FIRST.TEST", true, 0},
        {"a.wild.test", true, 1},
        {"b.wild.test", true, 2},
        {"b.wild.test", false, 3},
        {"a.wild.test", false, 1},
        {"wild.test", true, 0},
        {".wild.test", true, 0},
        {"a.b.wild.test", true, 0},
        {"", true, 0},
        {NULL, true, 0},
        {"first.test.", true, 0},
    };
    struct pair pairs[4];
    struct tls_context *context;
    char complaint[TLS_COMPLAINT_MAX];

    make_pair(&pairs[0], false, "first.test", -3600, 86400);
    make_pair(&pairs[1], false, "a.wild.test", -3600, 86400);
    make_pair(&pairs[2], false, "*.wild.test", -3600, 86400);
    make_pair(&pairs[3], true, "*.wild.test", -3600, 86400);
    cr_assert_eq(load(pairs, 4, &context, complaint), 0, "%s", complaint);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_hello hello = {.server_name = cases[i].name,
                                  .server_name_len =
                                      cases[i].name == NULL ? 0 : strlen(cases[i].name),
                                  .can_ecdsa = cases[i].ecdsa,
                                  .can_rsa = true};

        cr_assert_eq(tls_context_choose(context, &hello), tls_context_at(context, cases[i].wanted),
                     "case %zu", i);
    }
    tls_context_unref(context);
    for (int i = 0; i < 4; i++)
        drop_pair(&pairs[i]);
}

Test(tls_context, a_shard_takes_the_new_one_at_its_next_handshake)
{
    static const uint8_t seed[TLS_TICKET_SEED_BYTES];
    struct rig a, b;
    struct tls_shared shared;
    struct tls_context *mine = NULL;
    uint32_t generation = 0;

    rig_init(&a, false, true);
    rig_init(&b, false, true);
    tls_shared_init(&shared, tls_context_ref(a.context), seed);
    tls_shared_renew(&shared, &mine, &generation);
    cr_assert_eq(mine, a.context);
    tls_shared_swap(&shared, tls_context_ref(b.context));
    cr_assert_eq(mine, a.context, "until it asks");
    tls_shared_renew(&shared, &mine, &generation);
    cr_assert_eq(mine, b.context);
    tls_context_unref(mine);
    tls_shared_deinit(&shared);
    rig_deinit(&a);
    rig_deinit(&b);
}
