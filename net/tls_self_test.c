/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Handshakes of a client of the library with our engine, over memory. Any thread. */

#include "net/tls_self_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "net/tls_handshake.h"

/* More than any flight: chains of 64 KiB and what is around them. */
#define WIRE_BYTES (256u << 10)
#define STEPS_MAX 16

/* Bytes on their way in one direction. */
struct wire {
    size_t begin;
    size_t end;
    uint8_t bytes[WIRE_BYTES];
};

struct trial {
    struct tls_workshop workshop;
    struct tls_work work;
    struct wire up;   /* client to server */
    struct wire down; /* server to client */
    WOLFSSL *client;
    _Alignas(struct tls_record) uint8_t record[256];
    const char *problem;
};

struct suite {
    const char *rsa;
    const char *ecdsa;
    bool is_13;
};

static const struct suite suites[] = {
    {"TLS13-AES128-GCM-SHA256", "TLS13-AES128-GCM-SHA256", true},
    {"TLS13-AES256-GCM-SHA384", "TLS13-AES256-GCM-SHA384", true},
    {"TLS13-CHACHA20-POLY1305-SHA256", "TLS13-CHACHA20-POLY1305-SHA256", true},
    {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", false},
    {"ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", false},
    {"ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305", false},
};

static bool wire_put(struct wire *w, const void *p, size_t len)
{
    if (len > WIRE_BYTES - w->end)
        return false;
    memcpy(w->bytes + w->end, p, len);
    w->end += len;
    return true;
}

static int client_recv(WOLFSSL *ssl, char *buf, int size, void *ctx)
{
    struct wire *w = &((struct trial *)ctx)->down;
    size_t n = min_size((size_t)size, w->end - w->begin);

    (void)ssl;
    memcpy(buf, w->bytes + w->begin, n);
    w->begin += n;
    return n > 0 ? (int)n : WOLFSSL_CBIO_ERR_WANT_READ;
}

static int client_send(WOLFSSL *ssl, char *buf, int size, void *ctx)
{
    (void)ssl;
    return wire_put(&((struct trial *)ctx)->up, buf, (size_t)size) ? size
                                                                   : WOLFSSL_CBIO_ERR_GENERAL;
}

static struct bytes wire_view(struct wire *w)
{
    return (struct bytes){w->bytes + w->begin, w->end - w->begin};
}

/* Until the server is done, and the client with it. */
static bool shake_hands(struct trial *t, struct tls_handshake *hs)
{
    enum tls_handshake_status st = TLS_HANDSHAKE_MORE;

    for (int i = 0; i < STEPS_MAX && st == TLS_HANDSHAKE_MORE; i++) {
        struct bytes in, out;

        if (wolfSSL_connect(t->client) != WOLFSSL_SUCCESS &&
            wolfSSL_get_error(t->client, -1) != WOLFSSL_ERROR_WANT_READ)
            return false;
        in = wire_view(&t->up);
        st = tls_handshake_step(hs, &in);
        t->up.begin = t->up.end - in.len;
        out = tls_handshake_output(hs);
        if (!wire_put(&t->down, out.ptr, out.len))
            return false;
    }
    return st == TLS_HANDSHAKE_DONE && wolfSSL_connect(t->client) == WOLFSSL_SUCCESS;
}

/* A record each way, over our keys on one side and the library's on the other. */
static bool talk(struct trial *t, struct tls_record *r)
{
    char text[] = "proof";
    struct iovec iov = {text, sizeof(text)};
    struct tls_source src = {&iov, 1, 0};
    struct tls_piece piece;
    uint8_t sealed[sizeof(text) + TLS_RECORD_ROOM];
    char got[sizeof(text)];
    size_t n = tls_record_seal(r, &t->work, &src, sizeof(text), sealed, sizeof(sealed));
    struct bytes in;

    if (n == 0 || !wire_put(&t->down, sealed, n) ||
        wolfSSL_read(t->client, got, sizeof(got)) != sizeof(got) ||
        memcmp(got, text, sizeof(text)) != 0)
        return false;
    if (wolfSSL_write(t->client, text, sizeof(text)) != sizeof(text))
        return false;
    in = wire_view(&t->up);
    return tls_record_open(r, &t->work, &in, &piece) == TLS_RECORD_DATA &&
           piece.data.len == sizeof(text) && memcmp(piece.data.ptr, text, sizeof(text)) == 0;
}

static const char *try_server(struct trial *t, struct tls_context *ctx,
                              const struct tls_identity *id)
{
    struct tls_handshake *hs = tls_handshake_new(&t->workshop, ctx, id);
    struct tls_record *r = (struct tls_record *)t->record;
    struct tls_handshake_info info;
    size_t need;
    bool ok;

    if (hs == NULL)
        return "out of memory";
    if (!shake_hands(t, hs)) {
        tls_handshake_free(hs);
        return "the handshake fails";
    }
    need = tls_handshake_record_bytes(hs);
    CHECK(need <= sizeof(t->record));
    ok = tls_handshake_finish(hs, r, &info);
    if (need == 0 || !ok)
        return "keys can't be taken over";
    ok = talk(t, r);
    tls_record_wipe(r, &t->work);
    return ok ? NULL : "the keys taken over are not those in use";
}

static const char *try_suite(struct trial *t, struct tls_context *ctx,
                             const struct tls_identity *id, const struct suite *suite)
{
    WOLFSSL_CTX *library =
        wolfSSL_CTX_new(suite->is_13 ? wolfTLSv1_3_client_method() : wolfTLSv1_2_client_method());
    const char *problem = "out of memory";

    if (library == NULL)
        return problem;
    wolfSSL_CTX_set_verify(library, WOLFSSL_VERIFY_NONE, NULL); /* it is our own */
    wolfSSL_CTX_SetIORecv(library, client_recv);
    wolfSSL_CTX_SetIOSend(library, client_send);
    t->up.begin = t->up.end = t->down.begin = t->down.end = 0;
    t->client = wolfSSL_CTX_set_cipher_list(
                    library, tls_identity_is_rsa(id) ? suite->rsa : suite->ecdsa) == WOLFSSL_SUCCESS
                    ? wolfSSL_new(library)
                    : NULL;
    if (t->client != NULL) {
        wolfSSL_SetIOReadCtx(t->client, t);
        wolfSSL_SetIOWriteCtx(t->client, t);
        problem = try_server(t, ctx, id);
    }
    wolfSSL_free(t->client);
    wolfSSL_CTX_free(library);
    return problem;
}

static const char *try_all(struct trial *t, struct tls_context *ctx, const char **file,
                           const char **name)
{
    for (uint32_t i = 0; i < tls_context_count(ctx); i++) {
        const struct tls_identity *id = tls_context_at(ctx, i);

        *file = tls_identity_file(id);
        for (size_t k = 0; k < ARRAY_LEN(suites); k++) {
            const char *problem = try_suite(t, ctx, id, &suites[k]);

            *name = tls_identity_is_rsa(id) ? suites[k].rsa : suites[k].ecdsa;
            if (problem != NULL)
                return problem;
        }
    }
    return NULL;
}

int tls_self_test(struct tls_context *ctx, char complaint[TLS_COMPLAINT_MAX])
{
    static const uint8_t seed[TLS_TICKET_SEED_BYTES] = {1};
    struct trial *t = calloc(1, sizeof(*t));
    const char *file = "", *name = "", *problem = "out of memory";

    if (t != NULL && tls_workshop_init(&t->workshop, seed, 0, 3600 * NS_PER_SEC) == 0) {
        t->workshop.is_trial = true;
        problem = try_all(t, ctx, &file, &name);
        tls_workshop_deinit(&t->workshop);
        tls_work_wipe(&t->work);
    }
    free(t);
    wolfSSL_ERR_clear_error();
    if (problem == NULL)
        return 0;
    snprintf(complaint, TLS_COMPLAINT_MAX,
             "self-test of TLS with %s, %s: %s; install the libwolfssl that this program was built "
             "for (here runs %s)",
             file, name, problem, wolfSSL_lib_version());
    return -ENOTSUP;
}
