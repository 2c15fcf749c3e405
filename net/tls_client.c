/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* wolfSSL as a client. Set up by main, used by any thread. */

#include "net/tls_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include "core/io.h"
#include "net/tls_file.h"
#include "net/tls_pem.h"

/* The record layer knows no others. The cheapest first, which servers take that have no opinion. */
#define SUITES                                                                                     \
    "TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:"              \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

/* The library counts who uses its context: a handshake keeps the one that it has begun with. */
struct tls_client {
    pthread_mutex_t lock; /* of the rest; taken once per handshake */
    WOLFSSL_CTX *library;
    const char *protocol;
    bool is_insecure;
    bool resume;
    bool has_certificate;
    char *cert_file;  /* NULL: none; with expiry_s main's, not under the lock */
    int64_t expiry_s; /* of the certificate, seconds since 1970 */
};

static bool set_up(struct tls_client *t)
{
    int groups[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1};

    tls_handshake_set_up(t->library);
    wolfSSL_CTX_set_session_cache_mode(t->library, WOLFSSL_SESS_CACHE_OFF);
    if (!t->resume) /* else sessions with a ticket are kept, behind a lock of all threads */
        wolfSSL_CTX_set_session_cache_mode(t->library, WOLFSSL_SESS_CACHE_NO_INTERNAL);
    wolfSSL_CTX_set_verify(t->library, t->is_insecure ? WOLFSSL_VERIFY_NONE : WOLFSSL_VERIFY_PEER,
                           NULL);
    return wolfSSL_CTX_SetMinVersion(t->library, WOLFSSL_TLSV1_2) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_cipher_list(t->library, SUITES) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_groups(t->library, groups, ARRAY_LEN(groups)) == WOLFSSL_SUCCESS;
}

/* A file that is not right. */
static int complain(char *complaint, const char *file, const char *text)
{
    snprintf(complaint, TLS_COMPLAINT_MAX, "%s: %s", file, text);
    return -ENOENT;
}

static int load_authorities(const struct tls_client *t, const char *file, char *complaint)
{
    if (t->is_insecure)
        return 0;
    if (access(file, R_OK) != 0)
        return complain(complaint, file,
                        "can't be read; give a PEM file of the authorities to be trusted");
    if (wolfSSL_CTX_load_verify_locations(t->library, file, NULL) == WOLFSSL_SUCCESS)
        return 0;
    return complain(complaint, file,
                    "holds no PEM certificates of authorities that are valid; give those that sign "
                    "the server's");
}

static int use_certificate(const struct tls_client *t, const struct tls_client_config *cfg,
                           const struct tls_file *chain, const struct tls_file *key,
                           char *complaint)
{
    if (wolfSSL_CTX_use_certificate_chain_buffer(t->library, chain->bytes, (long)chain->len) !=
        WOLFSSL_SUCCESS)
        return complain(complaint, cfg->cert_file,
                        "holds no certificate in PEM that can be used; give the client's, and "
                        "behind it the authorities between");
    if (wolfSSL_CTX_use_PrivateKey_buffer(t->library, key->bytes, (long)key->len,
                                          WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        return complain(complaint, cfg->key_file,
                        "holds no private key in PEM, or an encrypted one; give it without a "
                        "passphrase");
    if (wolfSSL_CTX_check_private_key(t->library) != WOLFSSL_SUCCESS ||
        !tls_pem_key_fits(chain, key))
        return complain(complaint, cfg->key_file, "is not the key of the certificate; give that");
    return 0;
}

static int load_certificate(struct tls_client *t, const struct tls_client_config *cfg,
                            char *complaint)
{
    struct tls_file chain = {0}, key = {0};
    int err;

    t->has_certificate = cfg->cert_file != NULL;
    if (!t->has_certificate)
        return 0;
    err = tls_file_read(cfg->cert_file, &chain, complaint);
    if (err == 0)
        err = tls_file_read(cfg->key_file, &key, complaint);
    err = err != 0 ? -ENOENT : use_certificate(t, cfg, &chain, &key, complaint);
    t->expiry_s = err != 0 ? -1 : tls_pem_expiry_s(&chain);
    if (err == 0 && t->expiry_s < 0)
        err = complain(complaint, cfg->cert_file, "its dates can't be read; get another");
    t->cert_file = strdup(cfg->cert_file);
    if (err == 0 && t->cert_file == NULL)
        err = -ENOMEM;
    tls_file_free(&chain);
    tls_file_free(&key);
    return err;
}

static int load(struct tls_client *t, const struct tls_client_config *cfg, char *complaint)
{
    int err;

    t->library = wolfSSL_CTX_new(wolfSSLv23_client_method());
    if (t->library == NULL || !set_up(t)) {
        snprintf(complaint, TLS_COMPLAINT_MAX,
                 "the linked wolfSSL lacks a suite or group that is needed; install the "
                 "libwolfssl that this program was built for");
        return -ENOTSUP;
    }
    err = load_authorities(t, cfg->ca_file, complaint);
    return err != 0 ? err : load_certificate(t, cfg, complaint);
}

int tls_client_new(const struct tls_client_config *cfg, struct tls_client **out,
                   char complaint[TLS_COMPLAINT_MAX])
{
    struct tls_client *t = calloc(1, sizeof(*t));
    int err;

    snprintf(complaint, TLS_COMPLAINT_MAX, "out of memory");
    if (t == NULL)
        return -ENOMEM;
    pthread_mutex_init(&t->lock, NULL);
    t->protocol = cfg->protocol;
    t->is_insecure = cfg->is_insecure;
    t->resume = cfg->resume;
    err = load(t, cfg, complaint);
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
    free(t->cert_file);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void tls_client_replace(struct tls_client *t, struct tls_client *by)
{
    char *old_file = t->cert_file;
    WOLFSSL_CTX *old;

    t->cert_file = by->cert_file;
    t->expiry_s = by->expiry_s;
    pthread_mutex_lock(&t->lock);
    old = t->library;
    t->library = by->library;
    t->protocol = by->protocol;
    t->is_insecure = by->is_insecure;
    t->resume = by->resume;
    t->has_certificate = by->has_certificate;
    pthread_mutex_unlock(&t->lock);
    by->library = old;
    by->cert_file = old_file;
    tls_client_free(by);
}

bool tls_client_has_certificate(struct tls_client *t)
{
    bool has;

    pthread_mutex_lock(&t->lock);
    has = t->has_certificate;
    pthread_mutex_unlock(&t->lock);
    return has;
}

int64_t tls_client_expiry_s(const struct tls_client *t, const char **file)
{
    *file = t->cert_file;
    return t->expiry_s;
}

/* As the library writes the addresses in certificates, which it compares as texts. */
static void write_address(const struct io_addr *a, const char *name, char text[40])
{
    size_t len = 0;

    if (a->family == AF_INET)
        snprintf(text, 40, "%s", name);
    for (size_t i = 0; a->family == AF_INET6 && i < 16; i += 2)
        len += (size_t)snprintf(text + len, 40 - len, "%s%02X%02X", i > 0 ? ":" : "", a->ip[i],
                                a->ip[i + 1]);
}

/* RFC 6066 3: an address is no server name. */
static bool expect_name(WOLFSSL *ssl, const char *name, bool is_judged)
{
    struct io_addr address;
    char text[40];
    bool is_address = io_addr_parse(&address, name, 0) == 0;

    if (!is_address &&
        wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, name, (word16)strlen(name)) != WOLFSSL_SUCCESS)
        return false;
    if (!is_judged)
        return true;
    if (!is_address)
        return wolfSSL_check_domain_name(ssl, name) == WOLFSSL_SUCCESS;
    write_address(&address, name, text);
    return wolfSSL_X509_VERIFY_PARAM_set1_ip_asc(wolfSSL_get0_param(ssl), text) == WOLFSSL_SUCCESS;
}

static bool offer(WOLFSSL *ssl, const char *protocol)
{
    return protocol == NULL ||
           wolfSSL_UseALPN(ssl, (char *)(uintptr_t)protocol, (unsigned int)strlen(protocol),
                           WOLFSSL_ALPN_CONTINUE_ON_MISMATCH) == WOLFSSL_SUCCESS;
}

/* t is locked. */
static WOLFSSL *new_library_object(const struct tls_client *t, const char *name)
{
    WOLFSSL *ssl = wolfSSL_new(t->library);

    if (ssl == NULL)
        return NULL;
    if (!expect_name(ssl, name, !t->is_insecure) || !offer(ssl, t->protocol) ||
        (t->resume && wolfSSL_UseSessionTicket(ssl) != WOLFSSL_SUCCESS)) {
        wolfSSL_free(ssl);
        return NULL;
    }
    return ssl;
}

struct tls_handshake *tls_client_handshake(struct tls_client *t, const char *name, void *session)
{
    WOLFSSL *ssl;
    bool resume;

    pthread_mutex_lock(&t->lock);
    ssl = new_library_object(t, name);
    resume = t->resume;
    pthread_mutex_unlock(&t->lock);
    if (ssl == NULL)
        return NULL;
    if (session != NULL)
        (void)wolfSSL_set_session(ssl, session); /* expired: a full handshake, which is counted */
    return tls_handshake_new_client(ssl, resume && session == NULL);
}

void tls_client_forget(void *session)
{
    wolfSSL_SESSION_free(session);
}

enum tls_fault tls_client_fault(const struct tls_handshake *hs)
{
    switch (tls_handshake_error(hs)) {
    case ASN_NO_SIGNER_E:
    case ASN_SELF_SIGNED_E:
        return TLS_FAULT_AUTHORITY;
    case DOMAIN_NAME_MISMATCH:
    case IPADDR_MISMATCH:
        return TLS_FAULT_NAME;
    case ASN_AFTER_DATE_E:
        return TLS_FAULT_EXPIRED;
    case ASN_BEFORE_DATE_E:
        return TLS_FAULT_EARLY;
    default:
        break;
    }
    return tls_handshake_failure(hs) == TLS_FAILURE_PEER_ALERT ? TLS_FAULT_ALERT : TLS_FAULT_OTHER;
}

const char *tls_client_problem(const struct tls_handshake *hs, bool *is_certificate)
{
    static const char *const texts[] = {
        [TLS_FAULT_AUTHORITY] = "its certificate is of an unknown authority",
        [TLS_FAULT_NAME] = "its certificate is for another name",
        [TLS_FAULT_EXPIRED] = "its certificate has expired",
        [TLS_FAULT_EARLY] = "its certificate is not valid yet",
        [TLS_FAULT_ALERT] = "the server refused by an alert; its log tells why",
    };
    enum tls_fault fault = tls_client_fault(hs);

    *is_certificate = fault <= TLS_FAULT_EARLY;
    return fault == TLS_FAULT_OTHER ? tls_handshake_problem(hs) : texts[fault];
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
