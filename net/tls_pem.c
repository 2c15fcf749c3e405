/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Reading PEM files. Main thread. */

#include "net/tls_pem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>

#define FILE_BYTES_MAX (1u << 20)

void tls_pem_free(struct tls_pem *pem)
{
    if (pem->bytes != NULL) {
        explicit_bzero(pem->bytes, pem->len);
        free(pem->bytes);
    }
    *pem = (struct tls_pem){0};
}

static int read_all(int fd, struct tls_pem *pem)
{
    pem->bytes = malloc(FILE_BYTES_MAX);
    if (pem->bytes == NULL)
        return -ENOMEM;
    for (;;) {
        ssize_t n = read(fd, pem->bytes + pem->len, FILE_BYTES_MAX - pem->len);

        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        pem->len += (size_t)n;
        if (pem->len == FILE_BYTES_MAX)
            return -EFBIG;
    }
}

int tls_pem_read(const char *file, struct tls_pem *pem, char complaint[TLS_COMPLAINT_MAX])
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    int err = fd < 0 ? -errno : read_all(fd, pem);

    if (fd >= 0)
        close(fd);
    if (err == 0 && pem->len > 0)
        return 0;
    tls_pem_free(pem);
    if (err == 0)
        snprintf(complaint, TLS_COMPLAINT_MAX, "%s: the file is empty; name a PEM file", file);
    else
        snprintf(complaint, TLS_COMPLAINT_MAX, "%s: %s; check the name and who may read it", file,
                 strerror(-err));
    return -EINVAL;
}

/* The public key is computed from the private one, and must stand in the certificate. */
static bool ecdsa_key_fits(WOLFSSL_X509 *x, const struct tls_pem *key)
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

bool tls_pem_key_fits(const struct tls_pem *chain, const struct tls_pem *key)
{
    WOLFSSL_X509 *x =
        wolfSSL_X509_load_certificate_buffer(chain->bytes, (int)chain->len, WOLFSSL_FILETYPE_PEM);
    bool fits = x != NULL && (wolfSSL_X509_get_pubkey_type(x) != ECDSAk || ecdsa_key_fits(x, key));

    wolfSSL_X509_free(x);
    return fits;
}
