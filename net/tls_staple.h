/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_STAPLE_H
#define NET_TLS_STAPLE_H

/* OCSP responses (RFC 6960) from files, stapled to the certificate that they speak of for clients
 * that ask (RFC 6066 8; in TLS 1.3 RFC 8446 4.4.2.1). The library checks a response each time: who
 * has signed it, its times, its status. So one that has expired is sent to nobody. Main; handshakes
 * on any thread. */

#include <stdbool.h>

#include "net/tls_file.h"

struct tls_staple;

/* Reads a response in DER. Returns 0 and *out, or -EINVAL and a complaint: it is none, or not valid
 * now. */
MUST_USE int tls_staple_load(const char *file, struct tls_staple **out,
                             char complaint[TLS_COMPLAINT_MAX]);
void tls_staple_free(struct tls_staple *s);

/* Whether it speaks of the first certificate of a PEM chain; the second must be its issuer's. */
bool tls_staple_fits(struct tls_staple *s, const struct tls_file *chain);

/* Has a WOLFSSL_CTX of that chain staple it; s must outlive that. The issuer becomes an authority
 * of the CTX's, so clients' certificates may not be asked for. False: the library declines. */
MUST_USE bool tls_staple_install(struct tls_staple *s, const struct tls_file *chain, void *library);

/* Whether a flight of the server holds it: the self-test of a stapled certificate. */
bool tls_staple_is_in(const struct tls_staple *s, struct bytes flight);

const char *tls_staple_file(const struct tls_staple *s);

/* After tls_staple_fits() was true: whether it calls the certificate good, neither revoked nor
 * unknown; and its nextUpdate, in seconds since 1970. */
bool tls_staple_is_good(const struct tls_staple *s);
int64_t tls_staple_expiry_s(const struct tls_staple *s);

#endif
