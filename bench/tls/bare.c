/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The loop that handshakes are measured against: one thread, no more than the library needs. */

#include "bench/tls/bare.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

enum { OUT_BYTES = 16384 };

struct bare {
    WOLFSSL_CTX *library;
};

struct bare_handshake {
    WOLFSSL *ssl;
    struct bytes in;
    size_t out_len;
    uint8_t out[OUT_BYTES];
};

static int on_recv(WOLFSSL *ssl, char *buf, int size, void *ctx)
{
    struct bare_handshake *hs = ctx;
    size_t n = min_size((size_t)size, hs->in.len);
    (void)ssl;
    memcpy(buf, hs->in.ptr, n);
    hs->in.ptr += n;
    hs->in.len -= n;
    return n == 0 ? WOLFSSL_CBIO_ERR_WANT_READ : (int)n;
}

static int on_send(WOLFSSL *ssl, char *buf, int size, void *ctx)
{
    struct bare_handshake *hs = ctx;
    (void)ssl;
    CHECK(hs->out_len + (size_t)size <= OUT_BYTES);
    memcpy(hs->out + hs->out_len, buf, (size_t)size);
    hs->out_len += (size_t)size;
    return size;
}

struct bare *bare_new(const char *cert_file, const char *key_file)
{
    int groups[] = {WOLFSSL_ECC_X25519};
    struct bare *b = malloc(sizeof *b);
    CHECK(b != NULL);
    b->library = wolfSSL_CTX_new(wolfTLSv1_3_server_method());
    CHECK(b->library != NULL);
    CHECK(wolfSSL_CTX_use_certificate_chain_file(b->library, cert_file) == WOLFSSL_SUCCESS);
    CHECK(wolfSSL_CTX_use_PrivateKey_file(b->library, key_file, WOLFSSL_FILETYPE_PEM) ==
          WOLFSSL_SUCCESS);
    CHECK(wolfSSL_CTX_set_groups(b->library, groups, ARRAY_LEN(groups)) == WOLFSSL_SUCCESS);
    wolfSSL_CTX_set_session_cache_mode(b->library, WOLFSSL_SESS_CACHE_OFF);
    wolfSSL_CTX_SetIORecv(b->library, on_recv);
    wolfSSL_CTX_SetIOSend(b->library, on_send);
    return b;
}

void bare_free(struct bare *b)
{
    wolfSSL_CTX_free(b->library);
    free(b);
}

struct bare_handshake *bare_handshake_new(struct bare *b)
{
    struct bare_handshake *hs = malloc(sizeof *hs);
    CHECK(hs != NULL);
    hs->ssl = wolfSSL_new(b->library);
    CHECK(hs->ssl != NULL);
    hs->out_len = 0;
    wolfSSL_SetIOReadCtx(hs->ssl, hs);
    wolfSSL_SetIOWriteCtx(hs->ssl, hs);
    return hs;
}

void bare_handshake_free(struct bare_handshake *hs)
{
    wolfSSL_free(hs->ssl);
    free(hs);
}

bool bare_handshake_step(struct bare_handshake *hs, struct bytes in)
{
    hs->in = in;
    hs->out_len = 0;
    int r = wolfSSL_accept(hs->ssl);
    CHECK(r == WOLFSSL_SUCCESS || wolfSSL_get_error(hs->ssl, r) == WOLFSSL_ERROR_WANT_READ);
    return r == WOLFSSL_SUCCESS;
}

struct bytes bare_handshake_output(struct bare_handshake *hs)
{
    return (struct bytes){hs->out, hs->out_len};
}
