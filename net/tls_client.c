/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* wolfSSL as a client. Set up by main, used by any thread. */

#include "net/tls_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include "core/io.h"

/* The record layer knows no others. The cheapest first, which servers take that have no opinion. */
#define SUITES                                                                                     \
    "TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:"              \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

struct tls_client {
    WOLFSSL_CTX *library;
    struct tls_client_config config;
    bool name_is_address;
};

static bool set_up(struct tls_client *t)
{
    int groups[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1};

    tls_handshake_set_up(t->library);
    wolfSSL_CTX_set_session_cache_mode(t->library, WOLFSSL_SESS_CACHE_OFF);
    wolfSSL_CTX_set_verify(t->library,
                           t->config.is_insecure ? WOLFSSL_VERIFY_NONE : WOLFSSL_VERIFY_PEER, NULL);
    return wolfSSL_CTX_SetMinVersion(t->library, WOLFSSL_TLSV1_2) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_cipher_list(t->library, SUITES) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_groups(t->library, groups, ARRAY_LEN(groups)) == WOLFSSL_SUCCESS;
}

static int load_authorities(const struct tls_client *t, char *complaint)
{
    const char *file = t->config.ca_file;
    FILE *f;

    if (t->config.is_insecure)
        return 0;
    f = fopen(file, "r");
    if (f == NULL) {
        snprintf(complaint, TLS_COMPLAINT_MAX,
                 "%s: can't be read; give a PEM file of the authorities to be trusted", file);
        return -ENOENT;
    }
    fclose(f);
    if (wolfSSL_CTX_load_verify_locations(t->library, file, NULL) == WOLFSSL_SUCCESS)
        return 0;
    snprintf(complaint, TLS_COMPLAINT_MAX,
             "%s: holds no PEM certificates of authorities that are valid; give those that sign "
             "the server's",
             file);
    return -ENOENT;
}

int tls_client_new(const struct tls_client_config *cfg, struct tls_client **out,
                   char complaint[TLS_COMPLAINT_MAX])
{
    struct tls_client *t = calloc(1, sizeof(*t));
    struct io_addr address;
    int err = -ENOTSUP;

    snprintf(complaint, TLS_COMPLAINT_MAX, "out of memory");
    if (t == NULL)
        return -ENOMEM;
    t->config = *cfg;
    t->name_is_address = io_addr_parse(&address, cfg->name, 0) == 0;
    t->library = wolfSSL_CTX_new(wolfSSLv23_client_method());
    if (t->library != NULL && set_up(t))
        err = load_authorities(t, complaint);
    else
        snprintf(complaint, TLS_COMPLAINT_MAX,
                 "the linked wolfSSL lacks a suite or group that is needed; install the "
                 "libwolfssl that this program was built for");
    wolfSSL_ERR_clear_error();
    if (err == 0)
        *out = t;
    else
        tls_client_free(t);
    return err;
}

void tls_client_free(struct tls_client *t)
{
    if (t == NULL)
        return;
    wolfSSL_CTX_free(t->library);
    free(t);
}

/* RFC 6066 3: an address is no server name. */
static bool expect_name(const struct tls_client *t, WOLFSSL *ssl)
{
    if (!t->name_is_address && wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, t->config.name,
                                              (word16)strlen(t->config.name)) != WOLFSSL_SUCCESS)
        return false;
    if (t->config.is_insecure)
        return true;
    return t->name_is_address
               ? wolfSSL_X509_VERIFY_PARAM_set1_ip_asc(wolfSSL_get0_param(ssl), t->config.name) ==
                     WOLFSSL_SUCCESS
               : wolfSSL_check_domain_name(ssl, t->config.name) == WOLFSSL_SUCCESS;
}

struct tls_handshake *tls_client_handshake(const struct tls_client *t, void *session)
{
    static char http[] = "http/1.1";
    WOLFSSL *ssl = wolfSSL_new(t->library);

    if (ssl == NULL)
        return NULL;
    if (!expect_name(t, ssl) ||
        wolfSSL_UseALPN(ssl, http, sizeof(http) - 1, WOLFSSL_ALPN_CONTINUE_ON_MISMATCH) !=
            WOLFSSL_SUCCESS ||
        (t->config.resume && wolfSSL_UseSessionTicket(ssl) != WOLFSSL_SUCCESS)) {
        wolfSSL_free(ssl);
        return NULL;
    }
    if (session != NULL)
        (void)wolfSSL_set_session(ssl, session); /* expired: a full handshake, which is counted */
    return tls_handshake_new_client(ssl, t->config.resume && session == NULL);
}

void tls_client_forget(void *session)
{
    wolfSSL_SESSION_free(session);
}

const char *tls_client_problem(const struct tls_handshake *hs, bool *is_certificate)
{
    *is_certificate = true;
    switch (tls_handshake_error(hs)) {
    case ASN_NO_SIGNER_E:
    case ASN_SELF_SIGNED_E:
        return "its certificate is of an unknown authority";
    case DOMAIN_NAME_MISMATCH:
    case IPADDR_MISMATCH:
        return "its certificate is for another name";
    case ASN_AFTER_DATE_E:
        return "its certificate has expired";
    case ASN_BEFORE_DATE_E:
        return "its certificate is not valid yet";
    default:
        break;
    }
    *is_certificate = false;
    if (tls_handshake_failure(hs) == TLS_FAILURE_PEER_ALERT)
        return "the server refused by an alert; its log tells why";
    return tls_handshake_problem(hs);
}

void tls_client_thread_ends(void)
{
    wc_ecc_fp_free();
    wolfSSL_ERR_clear_error();
}

const char *tls_client_text(const struct tls_handshake_info *info)
{
    static const char *const texts[2][3] = {
        [TLS_VERSION_1_2] = {[TLS_AEAD_AES_128_GCM] = "TLS 1.2, AES-128-GCM",
                             [TLS_AEAD_AES_256_GCM] = "TLS 1.2, AES-256-GCM",
                             [TLS_AEAD_CHACHA20_POLY1305] = "TLS 1.2, ChaCha20-Poly1305"},
        [TLS_VERSION_1_3] = {[TLS_AEAD_AES_128_GCM] = "TLS 1.3, AES-128-GCM",
                             [TLS_AEAD_AES_256_GCM] = "TLS 1.3, AES-256-GCM",
                             [TLS_AEAD_CHACHA20_POLY1305] = "TLS 1.3, ChaCha20-Poly1305"},
    };

    return texts[info->version][info->aead];
}
