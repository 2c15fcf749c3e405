/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_PEM_H
#define NET_TLS_PEM_H

/* PEM files of certificates and keys, whole in memory for the time of a load. Main thread. */

#include "net/tls_context.h"

struct tls_pem {
    uint8_t *bytes;
    size_t len; /* at least 1 after a read */
};

/* Reads a file into *pem, which is {0} before, and after an error: -EINVAL, and in complaint one
 * line that names it and the remedy. 0. */
MUST_USE int tls_pem_read(const char *file, struct tls_pem *pem, char complaint[TLS_COMPLAINT_MAX]);

/* Wipes it, since it may be a key. */
void tls_pem_free(struct tls_pem *pem);

/* Whether the key is that of the first certificate, if that is an ECDSA one: the library's own
 * check says yes to any two of these. Of other kinds it says yes itself. */
bool tls_pem_key_fits(const struct tls_pem *chain, const struct tls_pem *key);

#endif
