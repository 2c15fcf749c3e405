/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* LD_PRELOAD module that stands in for a wolfSSL which no longer gives what a handshake's keys are
 * taken over by. Any thread.
 *
 * $OTHER_WOLFSSL is what it does differently:
 *
 *     other_key_1.3  a bit of our key for sending is another one, in TLS 1.3 only
 *     other_key_1.2  the same, in TLS 1.2 only
 *     no_key         there is none, in both
 *     no_secrets     it calls nobody back when it derives secrets, and does that itself
 *
 * $OTHER_WOLFSSL_AFTER: so many times it gives the key as it is, before that begins. */

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define VERSION_1_2 3 /* of wolfSSL_GetVersion() */
#define VERSION_1_3 4

const unsigned char *wolfSSL_GetServerWriteKey(void *ssl);
void wolfSSL_CTX_SetHKDFExpandLabelCb(void *library, void *callback);
int wolfSSL_GetVersion(const void *ssl);
int wolfSSL_GetKeySize(void *ssl);

static bool is_told(const char *what)
{
    const char *told = getenv("OTHER_WOLFSSL");

    return told != NULL && strcmp(told, what) == 0;
}

static bool has_begun(void)
{
    static _Atomic long given;
    const char *after = getenv("OTHER_WOLFSSL_AFTER");

    return atomic_fetch_add(&given, 1) >= (after == NULL ? 0 : atol(after));
}

static const unsigned char *other_key(void *ssl, const unsigned char *key)
{
    static _Thread_local unsigned char other[64];

    memcpy(other, key, (size_t)wolfSSL_GetKeySize(ssl));
    other[0] ^= 1;
    return other;
}

const unsigned char *wolfSSL_GetServerWriteKey(void *ssl)
{
    const unsigned char *(*real)(void *) =
        (const unsigned char *(*)(void *))dlsym(RTLD_NEXT, "wolfSSL_GetServerWriteKey");
    const unsigned char *key = real(ssl);
    int version = wolfSSL_GetVersion(ssl);

    if (!has_begun())
        return key;
    if (is_told("no_key"))
        return NULL;
    if (version == VERSION_1_3 ? is_told("other_key_1.3")
                               : version == VERSION_1_2 && is_told("other_key_1.2"))
        return other_key(ssl, key);
    return key;
}

void wolfSSL_CTX_SetHKDFExpandLabelCb(void *library, void *callback)
{
    void (*real)(void *, void *) =
        (void (*)(void *, void *))dlsym(RTLD_NEXT, "wolfSSL_CTX_SetHKDFExpandLabelCb");

    if (!is_told("no_secrets"))
        real(library, callback);
}
