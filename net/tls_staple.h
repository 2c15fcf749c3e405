/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_STAPLE_H
#define NET_TLS_STAPLE_H

/* OCSP responses (RFC 6960) from files, stapled to the certificate that they speak of for clients
 * that ask (RFC 6066 8; in TLS 1.3 RFC 8446 4.4.2.1).
 *
 * A WOLFSSL_CTX that staples is one of its own, beside the one for clients that do not ask, and two
 * things about it are particular to some versions of wolfSSL:
 *  - 5.5.4 keeps in it one request for all handshakes of TLS 1.2, and in that the last WOLFSSL that
 *    has used it: from there, on whatever thread, it calls back for a response, which it then keeps
 *    until that expires. tls_self_test() has it called back before there is a second thread, and
 *    later it is only answered about the object whose step is under way on the thread that asks.
 *  - 5.5.4 leaks in TLS 1.3, what it parses for the request and the response: tls_self_test() finds
 *    that out, see tls_context_staples_13().
 * Main; handshakes on any thread. */

#include <stdbool.h>

#include "net/tls_file.h"

struct tls_staple;

/* The complaint about one that is not valid now, for its file. */
#define TLS_STAPLE_NOT_NOW                                                                         \
    "%s: is no OCSP response in DER that is valid now, or has expired; fetch a new one from the "  \
    "certificate's authority"

/* Reads a response in DER. Returns 0 and *out, or -EINVAL and a complaint: it is none, or not valid
 * now. */
MUST_USE int tls_staple_load(const char *file, struct tls_staple **out,
                             char complaint[TLS_COMPLAINT_MAX]);
void tls_staple_free(struct tls_staple *s);

/* Whether it speaks of the first certificate of a PEM chain; the second must be its issuer's. */
bool tls_staple_fits(struct tls_staple *s, const struct tls_file *chain);

/* Has a WOLFSSL_CTX of that chain staple it; s must outlive that. The issuer becomes an authority
 * of the CTX's, so it must not be the one that judges clients' certificates. False: the library
 * declines. */
MUST_USE bool tls_staple_install(struct tls_staple *s, const struct tls_file *chain, void *library);

/* Within a handshake: a copy becomes the WOLFSSL's. False without memory. */
MUST_USE bool tls_staple_give(const struct tls_staple *s, void *library);

/* Whether a flight of the server holds it: the self-test of a stapled certificate. */
bool tls_staple_is_in(const struct tls_staple *s, struct bytes flight);

const char *tls_staple_file(const struct tls_staple *s);

size_t tls_staple_bytes(const struct tls_staple *s);

/* After tls_staple_fits() was true: whether it calls the certificate good, neither revoked nor
 * unknown; its nextUpdate, in seconds since 1970; and whether now_s lies between thisUpdate and
 * that. */
bool tls_staple_is_good(const struct tls_staple *s);
int64_t tls_staple_expiry_s(const struct tls_staple *s);
bool tls_staple_is_valid(const struct tls_staple *s, int64_t now_s);

#endif
