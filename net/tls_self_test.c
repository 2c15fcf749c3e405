/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Handshakes of a client of the library with our engine, over memory. Any thread. */

#include "net/tls_self_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "net/tls_handshake.h"
#include "net/tls_heap.h"
#include "net/tls_staple.h"

/* More than any flight: chains of 64 KiB and what is around them. */
#define WIRE_BYTES (256u << 10)
#define STEPS_MAX 16
/* Clients that ask for an OCSP response, after which a leak shows; half of them by way of a
 * HelloRetryRequest. */
#define LEAK_TRIES 4
#define LEAK_ROUNDS 4

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
    struct tls_handshake *hs = tls_handshake_new(&t->workshop, ctx, id, false);
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

/* OCSP responses
 * ------------------------------------------------------------------------------ */

/* A client that asks for an OCSP response; `retries`: it sends no share of a key, so that the
 * server asks for another ClientHello. NULL without memory. */
static WOLFSSL *asking_client(struct trial *t, WOLFSSL_CTX *library, bool retries)
{
    WOLFSSL *client = wolfSSL_new(library);

    if (client == NULL)
        return NULL;
    if (wolfSSL_EnableOCSPStapling(client) != WOLFSSL_SUCCESS ||
        wolfSSL_UseOCSPStapling(client, WOLFSSL_CSR_OCSP, 0) != WOLFSSL_SUCCESS ||
        (retries && wolfSSL_NoKeyShares(client) != WOLFSSL_SUCCESS)) {
        wolfSSL_free(client);
        return NULL;
    }
    wolfSSL_SSLSetIORecv(client, client_recv);
    wolfSSL_SSLSetIOSend(client, client_send);
    wolfSSL_SetIOReadCtx(client, t);
    wolfSSL_SetIOWriteCtx(client, t);
    return client;
}

/* Hands the server what the client has to say, and the client the answer. */
static void exchange(struct trial *t, WOLFSSL *client, struct tls_handshake *hs)
{
    struct bytes in, out;

    (void)wolfSSL_connect(client);
    in = wire_view(&t->up);
    (void)tls_handshake_step(hs, &in);
    t->up.begin = t->up.end - in.len;
    out = tls_handshake_output(hs);
    (void)wire_put(&t->down, out.ptr, out.len);
}

/* Begins a handshake with such a client, to the end of the server's flight; what the server has
 * said is t->down. */
static void ask(struct trial *t, struct tls_context *ctx, const struct tls_identity *id,
                WOLFSSL_CTX *library, bool staples, bool retries)
{
    WOLFSSL *client = asking_client(t, library, retries);
    struct tls_handshake *hs = tls_handshake_new(&t->workshop, ctx, id, staples);

    t->up.begin = t->up.end = t->down.begin = t->down.end = 0;
    if (client != NULL && hs != NULL) {
        exchange(t, client, hs);
        if (retries)
            exchange(t, client, hs);
    }
    if (hs != NULL)
        tls_handshake_free(hs);
    wolfSSL_free(client);
    t->down.begin = 0; /* what the client has read counts, too */
}

/* TLS 1.2 has the OCSP response in the clear. The library leaves out, and says to nobody, what it
 * does not believe. */
static bool staples_12(struct trial *t, struct tls_context *ctx, const struct tls_identity *id)
{
    WOLFSSL_CTX *library = wolfSSL_CTX_new(wolfTLSv1_2_client_method());

    if (library == NULL)
        return false;
    ask(t, ctx, id, library, true, false);
    wolfSSL_CTX_free(library);
    return tls_staple_is_in(tls_identity_staple(id), wire_view(&t->down));
}

/* Whether what the library has on the heap grows with every LEAK_TRIES clients that ask. What it
 * keeps for good, it has at the latest after some rounds. */
static bool leaks(struct trial *t, struct tls_context *ctx, const struct tls_identity *id,
                  WOLFSSL_CTX *library)
{
    for (int round = 0; round < LEAK_ROUNDS; round++) {
        int64_t before = tls_heap_bytes();

        for (int i = 0; i < LEAK_TRIES; i++)
            ask(t, ctx, id, library, true, i % 2 == 1);
        if (tls_heap_bytes() <= before)
            return false;
    }
    return true;
}

/* TLS 1.3 has it encrypted: it is there when the flight is so much longer. */
static bool staples_13(struct trial *t, struct tls_context *ctx, const struct tls_identity *id)
{
    WOLFSSL_CTX *library = wolfSSL_CTX_new(wolfTLSv1_3_client_method());
    size_t without;
    bool good;

    if (library == NULL)
        return false;
    ask(t, ctx, id, library, false, false);
    without = t->down.end;
    ask(t, ctx, id, library, true, false);
    good = t->down.end >= without + tls_staple_bytes(tls_identity_staple(id)) &&
           !leaks(t, ctx, id, library);
    wolfSSL_CTX_free(library);
    return good;
}

/* The same by a child of this process, with which a leak goes. An answer is only what the child has
 * said: that none could be made or waited for tells nothing about the library. */
static enum tls_staples_13 ask_child(struct trial *t, struct tls_context *ctx,
                                     const struct tls_identity *id)
{
    pid_t child = fork(), ended = -1;
    int status = 0;

    if (child == 0)
        _exit(staples_13(t, ctx, id) ? 0 : 1);
    if (child > 0) {
        do
            ended = waitpid(child, &status, 0);
        while (ended < 0 && errno == EINTR);
    }
    if (ended < 0 || !WIFEXITED(status))
        return TLS_STAPLES_13_NO_ANSWER;
    return WEXITSTATUS(status) == 0 ? TLS_STAPLES_13_YES : TLS_STAPLES_13_NO;
}

/* An answer holds for good: the library does not change under the process. */
static enum tls_staples_13 can_staple_13(struct trial *t, struct tls_context *ctx,
                                         const struct tls_identity *id, bool at_start)
{
    static enum tls_staples_13 found = TLS_STAPLES_13_UNTRIED;
    enum tls_staples_13 answer;

    if (found != TLS_STAPLES_13_UNTRIED || !at_start)
        return found;
    answer = ask_child(t, ctx, id);
    if (answer != TLS_STAPLES_13_NO_ANSWER)
        found = answer;
    return answer;
}

static int test_staples(struct trial *t, struct tls_context *ctx, bool at_start, char *complaint)
{
    for (uint32_t i = 0; i < tls_context_count(ctx); i++) {
        const struct tls_identity *id = tls_context_at(ctx, i);

        if (tls_identity_staple(id) == NULL)
            continue;
        if (!staples_12(t, ctx, id))
            return tls_complain(complaint,
                                "%s: is not signed by who has issued %s; fetch a new one from "
                                "the certificate's authority",
                                tls_staple_file(tls_identity_staple(id)), tls_identity_file(id));
        tls_context_set_staples_13(ctx, can_staple_13(t, ctx, id, at_start));
    }
    return 0;
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

int tls_self_test(struct tls_context *ctx, bool at_start, char complaint[TLS_COMPLAINT_MAX])
{
    static const uint8_t seed[TLS_TICKET_SEED_BYTES] = {1};
    struct trial *t = calloc(1, sizeof(*t));
    const char *file = "", *name = "", *problem = "out of memory";
    int err = 0;

    if (t != NULL && tls_workshop_init(&t->workshop, seed, 0, 3600 * NS_PER_SEC) == 0) {
        t->workshop.is_trial = true;
        problem = try_all(t, ctx, &file, &name);
        if (problem == NULL)
            err = test_staples(t, ctx, at_start, complaint);
        tls_workshop_deinit(&t->workshop);
        tls_work_wipe(&t->work);
    }
    free(t);
    wolfSSL_ERR_clear_error();
    if (problem == NULL)
        return err;
    snprintf(complaint, TLS_COMPLAINT_MAX,
             "self-test of TLS with %s, %s: %s; install the libwolfssl that this program was built "
             "for (here runs %s)",
             file, name, problem, wolfSSL_lib_version());
    return -ENOTSUP;
}

const char *tls_self_test_library(void)
{
    return wolfSSL_lib_version();
}
