/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_PEM_H
#define NET_TLS_PEM_H

/* What certificates and keys in PEM say of each other. Main. */

#include <stdbool.h>

#include "net/tls_file.h"

/* Whether the key is that of the first certificate, if that is an ECDSA one: the library's own
 * check says yes to any two of these. Of other kinds it says yes itself. */
bool tls_pem_key_fits(const struct tls_file *chain, const struct tls_file *key);

#endif
