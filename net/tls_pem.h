/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_PEM_H
#define NET_TLS_PEM_H

/* What certificates and keys in PEM say of each other, and their dates. Main. */

#include <stdbool.h>
#include <stdint.h>

#include "net/tls_file.h"

/* Whether the key is that of the first certificate, if that is an ECDSA one: the library's own
 * check says yes to any two of these. Of other kinds it says yes itself. */
bool tls_pem_key_fits(const struct tls_file *chain, const struct tls_file *key);

/* When the first certificate expires, in seconds since 1970; -1: there is none to be read. */
int64_t tls_pem_expiry_s(const struct tls_file *chain);

/* A WOLFSSL_ASN1_TIME in seconds since 1970; -1: NULL, or not a time. */
int64_t tls_pem_time_s(const void *t);

#endif
