/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Keys, their certificates, and the dates of these. Main. */

#include "net/tls_pem.h"

#include <string.h>
#include <time.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>

/* The public key is computed from the private one, and must stand in the certificate. */
static bool ecdsa_key_fits(WOLFSSL_X509 *x, const struct tls_file *key)
{
    uint8_t der[1024], own[256], certified[1024];
    int der_len = wc_KeyPemToDer(key->bytes, (int)key->len, der, sizeof(der), NULL);
    int certified_len = sizeof(certified);
    word32 own_len = sizeof(own), at = 0;
    ecc_key ecc;
    bool fits = wc_ecc_init(&ecc) == 0;

    fits = fits && der_len > 0 && wc_EccPrivateKeyDecode(der, &at, &ecc, (word32)der_len) == 0 &&
           wc_ecc_make_pub(&ecc, NULL) == 0 && wc_ecc_export_x963(&ecc, own, &own_len) == 0 &&
           wolfSSL_X509_get_pubkey_buffer(x, certified, &certified_len) == WOLFSSL_SUCCESS &&
           memmem(certified, (size_t)certified_len, own, own_len) != NULL;
    wc_ecc_free(&ecc);
    explicit_bzero(der, sizeof(der));
    return fits;
}

bool tls_pem_key_fits(const struct tls_file *chain, const struct tls_file *key)
{
    WOLFSSL_X509 *x =
        wolfSSL_X509_load_certificate_buffer(chain->bytes, (int)chain->len, WOLFSSL_FILETYPE_PEM);
    bool fits = x != NULL && (wolfSSL_X509_get_pubkey_type(x) != ECDSAk || ecdsa_key_fits(x, key));

    wolfSSL_X509_free(x);
    return fits;
}

int64_t tls_pem_time_s(const void *t)
{
    struct tm tm = {0};

    if (t == NULL || wolfSSL_ASN1_TIME_to_tm(t, &tm) != WOLFSSL_SUCCESS)
        return -1;
    return timegm(&tm);
}

int64_t tls_pem_expiry_s(const struct tls_file *chain)
{
    WOLFSSL_X509 *x =
        wolfSSL_X509_load_certificate_buffer(chain->bytes, (int)chain->len, WOLFSSL_FILETYPE_PEM);
    int64_t when_s = x != NULL ? tls_pem_time_s(wolfSSL_X509_get_notAfter(x)) : -1;

    wolfSSL_X509_free(x);
    return when_s;
}
