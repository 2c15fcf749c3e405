/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The server's handshake, fed as a connection feeds it: a first byte (which certificate is asked
 * for and how the rest is cut), then what a client sends, from its ClientHello on. Whatever that
 * is,
 *
 *  - it comes to the same end after the same bytes, however they are cut;
 *  - it is not done: the keys are drawn anew each time, so nobody can have sealed a Finished;
 *  - where it fails the client is told, unless it is the client who gave up;
 *  - nothing stays in the library's heap. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/ecc.h>

#include "net/tls_handshake.h"
#include "net/tls_heap.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    ASKS_CLIENTS = 0x80, /* of the first byte; the others are the length of the pieces */
    VALID_S = 86400,
};

struct outcome {
    enum tls_handshake_status status;
    enum tls_failure failure;
    size_t left;
    bool has_spoken;
};

static struct tls_context *contexts[2]; /* the second asks clients for certificates */
static struct tls_workshop workshop;
static uint8_t scratch[TLS_HELLO_RECORD_MAX];

static FILE *new_file(char name[64])
{
    int fd;

    snprintf(name, 64, "/tmp/tidewire-fuzz-XXXXXX");
    fd = mkstemp(name);
    CHECK(fd >= 0);
    return fdopen(fd, "w");
}

/* A certificate of its own authority, and its key. */
static void write_pair(char cert[64], char key[64])
{
    EVP_PKEY *own = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    FILE *f;

    X509_set_version(x, 2);
    X509_gmtime_adj(X509_getm_notBefore(x), -VALID_S);
    X509_gmtime_adj(X509_getm_notAfter(x), VALID_S);
    X509_set_pubkey(x, own);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    CHECK(X509_sign(x, own, EVP_sha256()) > 0);
    f = new_file(cert);
    PEM_write_X509(f, x);
    fclose(f);
    f = new_file(key);
    PEM_write_PrivateKey(f, own, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(own);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const uint8_t seed[TLS_TICKET_SEED_BYTES] = {7};
    char cert[64], key[64], complaint[TLS_COMPLAINT_MAX];
    char *certs = cert, *keys = key;
    struct tls_files files = {
        .certs = &certs,
        .keys = &keys,
        .count = 1,
        .client_cas = &certs,
        .ticket_lifetime_ns = 3600 * NS_PER_SEC,
    };

    (void)argc;
    (void)argv;
    tls_heap_init();
    write_pair(cert, key);
    for (uint32_t i = 0; i < ARRAY_LEN(contexts); i++) {
        files.client_ca_count = i;
        CHECK(tls_context_load(&files, time(NULL), &contexts[i], complaint) == 0);
    }
    CHECK(tls_workshop_init(&workshop, seed, 0, files.ticket_lifetime_ns) == 0);
    unlink(cert);
    unlink(key);
    return 0;
}

/* One step with at most `piece` of what is there. The output is taken each time. */
static void step(struct tls_handshake *hs, struct bytes *in, size_t piece, struct outcome *o)
{
    struct bytes given = {in->ptr, min_size(piece, in->len)};
    size_t len = given.len;

    o->status = tls_handshake_step(hs, &given);
    in->ptr += len - given.len;
    in->len -= len - given.len;
    CHECK(o->status != TLS_HANDSHAKE_MORE || given.len == 0);
    o->has_spoken |= tls_handshake_output(hs).len > 0;
    CHECK(tls_handshake_output(hs).len == 0);
}

/* The whole input in pieces; a ClientHello that came in several records goes joined. */
static struct outcome shake(struct tls_context *context, const struct tls_hello *hello,
                            struct bytes in, size_t piece)
{
    struct tls_handshake *hs =
        tls_handshake_new(&workshop, context, tls_context_choose(context, hello), false);
    struct bytes joined = hello->joined;
    struct outcome o = {.status = TLS_HANDSHAKE_MORE};

    CHECK(hs != NULL);
    if (joined.ptr != NULL) {
        in.ptr += hello->record_bytes;
        in.len -= hello->record_bytes;
    }
    while (joined.len > 0 && o.status == TLS_HANDSHAKE_MORE)
        step(hs, &joined, piece, &o);
    while (in.len > 0 && o.status == TLS_HANDSHAKE_MORE)
        step(hs, &in, piece, &o);
    o.left = in.len;
    o.failure = tls_handshake_failure(hs);
    tls_handshake_free(hs);
    return o;
}

/* What the library keeps of its own accord, tables of points that it has met, is freed. */
static int64_t heap_bytes(void)
{
    wc_ecc_fp_free();
    return tls_heap_bytes();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_hello hello;
    struct outcome whole, cut;
    struct tls_context *context;
    struct bytes in;
    size_t piece;
    int64_t before;

    if (size == 0 || tls_hello_parse(data + 1, size - 1, scratch, &hello) != TLS_HELLO_OK)
        return 0;
    context = contexts[(data[0] & ASKS_CLIENTS) != 0];
    piece = 1 + (data[0] & ~ASKS_CLIENTS);
    in = (struct bytes){(uint8_t *)data + 1, size - 1};
    before = heap_bytes();
    whole = shake(context, &hello, in, SIZE_MAX);
    cut = shake(context, &hello, in, piece);
    CHECK(heap_bytes() == before);
    CHECK(whole.status != TLS_HANDSHAKE_DONE);
    CHECK(cut.status == whole.status && cut.failure == whole.failure && cut.left == whole.left);
    CHECK(whole.has_spoken == cut.has_spoken);
    CHECK(whole.status != TLS_HANDSHAKE_FAILED || whole.has_spoken ||
          whole.failure == TLS_FAILURE_PEER_ALERT);
    return 0;
}
