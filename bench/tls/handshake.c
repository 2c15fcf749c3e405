/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* TLS 1.3 handshakes, full and resumed: the server's way from a whole ClientHello to the record
 * state, against a bare loop of the library.
 *
 *     bench_tls_handshake [ROUNDS [FILE]]
 *
 * X25519, AES-128-GCM, an ECDSA certificate of P-256. The client is OpenSSL's, over memory, and is
 * not measured. The server is measured from the ClientHello on: net/tls_hello, net/tls_context and
 * net/tls_handshake as the server uses them, up to the state that they hand over, the library's
 * object freed; or, bare, wolfSSL_new(), wolfSSL_accept(), wolfSSL_free() and nothing else. "In a
 * crowd" is full, with memory spared as where many handshakes run at once. All take turns within
 * each round. A row has the medians of the rounds: microseconds of this
 * thread's processor time for one handshake (what the kernel does for it, some random bytes,
 * included), with the quartiles; then the ratios, the quartiles of the rounds' in brackets. Exit
 * status 1: a bound is missed. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "bench/tls/bare.h"
#include "bench/tls/rounds.h"
#include "net/tls_handshake.h"
#include "net/tls_heap.h"

enum {
    IN_ROUND = 8, /* handshakes of each way in a round */
    FLIGHTS_MAX = 4,
    WIRE_BYTES = 16384,
};

/* Who serves, and how. */
enum { BARE, BARE_RESUMED, FULL, RESUMED, CROWDED, WAYS };

static const char *const way_names[WAYS] = {"wolfSSL alone, full", "wolfSSL alone, resumed", "full",
                                            "resumed", "full, in a crowd"};

static struct {
    char cert[32], key[32]; /* file names */
    SSL_CTX *client;
    SSL_SESSION *session[WAYS]; /* to resume; NULL: none */
    struct bare *bare;
    struct tls_context *context;
    struct tls_workshop workshop;
    struct tls_work work;
    uint8_t scratch[TLS_HELLO_RECORD_MAX];
} bench;

/* Certificate ------------------------------------------------------------------------------------
 */

static FILE *new_file(char name[32])
{
    static const char pattern[32] = "/tmp/tidewire-bench-XXXXXX";
    memcpy(name, pattern, sizeof pattern);
    int fd = mkstemp(name);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    CHECK(f != NULL);
    return f;
}

static void write_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    CHECK(key != NULL && x != NULL);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(x, name);
    CHECK(X509_sign(x, key, EVP_sha256()) > 0);
    FILE *f = new_file(bench.cert);
    CHECK(PEM_write_X509(f, x) == 1);
    fclose(f);
    f = new_file(bench.key);
    CHECK(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

/* The client -------------------------------------------------------------------------------------
 */

static SSL *new_client(int way)
{
    SSL *ssl = SSL_new(bench.client);
    CHECK(ssl != NULL);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl);
    SSL_set_tlsext_host_name(ssl, "localhost");
    if (bench.session[way] != NULL) { /* OpenSSL uses a ticket of 1.3 once */
        SSL_SESSION *copy = SSL_SESSION_dup(bench.session[way]);
        CHECK(copy != NULL && SSL_set_session(ssl, copy) == 1);
        SSL_SESSION_free(copy);
    }
    return ssl;
}

/* What the client has to say next. */
static struct bytes flight_of(SSL *ssl, uint8_t wire[WIRE_BYTES])
{
    SSL_do_handshake(ssl);
    int n = BIO_read(SSL_get_wbio(ssl), wire, WIRE_BYTES);
    return (struct bytes){wire, n > 0 ? (size_t)n : 0};
}

/* The first of those that resume is full and gives the ticket that the others bring. */
static void keep_session(SSL *ssl, int way)
{
    uint8_t byte;
    CHECK(SSL_session_reused(ssl) == (bench.session[way] != NULL));
    if (bench.session[way] != NULL || (way != BARE_RESUMED && way != RESUMED))
        return;
    SSL_read(ssl, &byte, 1); /* the ticket stands before what there is not */
    bench.session[way] = SSL_get1_session(ssl);
    CHECK(SSL_SESSION_is_resumable(bench.session[way]));
}

/* Both servers -----------------------------------------------------------------------------------
 */

struct server {
    struct tls_handshake *ours;
    struct bare_handshake *bare;
    uint64_t cpu_ns;
    bool is_done;
};

static struct tls_handshake *begin_ours(struct bytes hello)
{
    struct tls_hello parsed;
    CHECK(tls_hello_parse(hello.ptr, hello.len, bench.scratch, &parsed) == TLS_HELLO_OK);
    return tls_handshake_new(&bench.workshop, bench.context,
                             tls_context_choose(bench.context, &parsed), false);
}

/* One flight of the client. Returns the answer, a view until the next call. */
static struct bytes serve_ours(struct server *s, struct bytes in)
{
    if (s->ours == NULL)
        s->ours = begin_ours(in);
    CHECK(s->ours != NULL);
    enum tls_handshake_status st = tls_handshake_step(s->ours, &in);
    CHECK(st != TLS_HANDSHAKE_FAILED);
    s->is_done = st == TLS_HANDSHAKE_DONE;
    return tls_handshake_output(s->ours);
}

static struct bytes serve_bare(struct server *s, struct bytes in)
{
    if (s->bare == NULL)
        s->bare = bare_handshake_new(bench.bare);
    s->is_done = bare_handshake_step(s->bare, in);
    return bare_handshake_output(s->bare);
}

/* Ours hands over, the bare one has nothing to. */
static void end_server(struct server *s)
{
    static uint64_t record[32];
    struct tls_handshake_info info;
    if (s->bare != NULL) {
        bare_handshake_free(s->bare);
        return;
    }
    CHECK(tls_handshake_record_bytes(s->ours) <= sizeof record);
    CHECK(tls_handshake_finish(s->ours, (struct tls_record *)record, &info));
}

/* One handshake. Returns what it took the server. */
static uint64_t shake(int way)
{
    static uint8_t wire[WIRE_BYTES];
    struct server s = {0};
    bench.workshop.is_crowded = way == CROWDED;
    SSL *ssl = new_client(way);
    for (int i = 0; i < FLIGHTS_MAX && !s.is_done; i++) {
        struct bytes in = flight_of(ssl, wire);
        uint64_t begin = rounds_cpu_ns();
        struct bytes out = way <= BARE_RESUMED ? serve_bare(&s, in) : serve_ours(&s, in);
        s.cpu_ns += rounds_cpu_ns() - begin;
        CHECK(BIO_write(SSL_get_rbio(ssl), out.ptr, (int)out.len) == (int)out.len);
    }
    CHECK(s.is_done);
    uint64_t begin = rounds_cpu_ns();
    end_server(&s);
    s.cpu_ns += rounds_cpu_ns() - begin;
    CHECK(SSL_do_handshake(ssl) == 1);
    keep_session(ssl, way);
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
    return s.cpu_ns;
}

/* Rounds ----------------------------------------------------------------------------------------
 */

static void set_up(void)
{
    static const uint8_t seed[TLS_TICKET_SEED_BYTES] = {1};
    char *certs[] = {bench.cert}, *keys[] = {bench.key};
    struct tls_files files = {
        .certs = certs, .keys = keys, .count = 1, .ticket_lifetime_ns = 3600 * NS_PER_SEC};
    char complaint[TLS_COMPLAINT_MAX] = "";

    tls_heap_init();
    write_certificate();
    CHECK(tls_context_load(&files, time(NULL), &bench.context, complaint) == 0);
    CHECK(tls_workshop_init(&bench.workshop, seed, 0, files.ticket_lifetime_ns) == 0);
    bench.bare = bare_new(bench.cert, bench.key);
    bench.client = SSL_CTX_new(TLS_client_method());
    CHECK(bench.client != NULL);
    CHECK(SSL_CTX_set_min_proto_version(bench.client, TLS1_3_VERSION) == 1);
    CHECK(SSL_CTX_set1_groups_list(bench.client, "X25519") == 1);
    CHECK(SSL_CTX_set_ciphersuites(bench.client, "TLS_AES_128_GCM_SHA256") == 1);
    SSL_CTX_set_session_cache_mode(bench.client, SSL_SESS_CACHE_CLIENT);
    unlink(bench.cert);
    unlink(bench.key);
}

static void tear_down(void)
{
    for (int way = 0; way < WAYS; way++)
        SSL_SESSION_free(bench.session[way]);
    SSL_CTX_free(bench.client);
    bare_free(bench.bare);
    tls_context_unref(bench.context);
    tls_workshop_deinit(&bench.workshop);
}

/* Microseconds for one handshake. */
static double measure(int way)
{
    uint64_t cpu_ns = 0;
    for (int i = 0; i < IN_ROUND; i++)
        cpu_ns += shake(way);
    return (double)cpu_ns / IN_ROUND / 1e3;
}

static double us[WAYS][ROUNDS_MAX];

/* Prints how much less `ours` takes than `theirs`. Returns whether that is enough. */
static bool compare(const char *what, int ours, int theirs, double must,
                    const struct rounds_arguments *a)
{
    struct rounds_spread ratio = rounds_ratio_of(us[theirs], us[ours], a->rounds);
    printf("%-44s %6.2f (%.2f - %.2f), must be at least %.2f%s\n", what, ratio.median, ratio.low,
           ratio.high, must, ratio.median < must ? ": missed" : "");
    rounds_write(a->json, what, ratio, must);
    return ratio.median >= must;
}

int main(int argc, char **argv)
{
    struct rounds_arguments a = rounds_arguments_read(argc, argv, 101);
    set_up();
    for (int way = 0; way < WAYS; way++)
        measure(way); /* warm */
    for (size_t i = 0; i < a.rounds; i++)
        for (size_t k = 0; k < WAYS; k++)
            us[(k + i) % WAYS][i] = measure((int)((k + i) % WAYS));
    tear_down();
    printf("%zu rounds of %d, medians (quartiles); us of processor time for one handshake\n",
           a.rounds, IN_ROUND);
    bool ok = compare("full handshakes, to wolfSSL alone", FULL, BARE, 0.85, &a);
    ok &= compare("full handshakes in a crowd, to wolfSSL alone", CROWDED, BARE, 0.85, &a);
    ok &= compare("resumed handshakes, to full ones", RESUMED, FULL, 1.5, &a);
    for (int way = 0; way < WAYS; way++) {
        struct rounds_spread s = rounds_spread_of(us[way], a.rounds);
        printf("%-44s %6.1f (%.1f - %.1f)\n", way_names[way], s.median, s.low, s.high);
    }
    return !ok;
}
