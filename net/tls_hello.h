/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_HELLO_H
#define NET_TLS_HELLO_H

/* The first words of a client on a TLS port: is it a ClientHello (RFC 8446 4.1.2, RFC
 * 5246 7.4.1.2), is all of it there, and which certificate does it ask for? Pure. The handshake
 * proper is wolfSSL's, which reads the same bytes again and judges them; nothing is answered from
 * here. */

#include <stdbool.h>

#include "core/base.h"

/* What a client may send before its ClientHello is complete. */
#define TLS_HELLO_BYTES_MAX (20u << 10)
/* A message that one record can hold, with the record's head: RFC 8446 5.1. */
#define TLS_HELLO_RECORD_MAX (5 + 16384)

enum tls_hello_result {
    TLS_HELLO_OK,
    TLS_HELLO_MORE,     /* so far it may become one */
    TLS_HELLO_HTTP,     /* an HTTP request without TLS */
    TLS_HELLO_NOT_TLS,  /* no handshake record */
    TLS_HELLO_BAD,      /* a record or message that can't be a ClientHello */
    TLS_HELLO_TOO_LONG, /* a message over 16 KiB, or input over TLS_HELLO_BYTES_MAX */
};

/* Groups of the key exchange, in the order in which we take them. */
enum tls_group {
    TLS_GROUP_X25519,
    TLS_GROUP_P256,
    TLS_GROUP_P384,
    TLS_GROUP_COUNT,
};

struct tls_hello {
    const char *server_name; /* RFC 6066 3; a view of the input or of scratch, NULL: none */
    size_t server_name_len;
    bool can_ecdsa; /* the client takes an ECDSA (or EdDSA) certificate, an RSA one */
    bool can_rsa;
    bool is_13;          /* it offers TLS 1.3 */
    bool wants_staple;   /* asks for an OCSP response, by RFC 6066 8 and not by RFC 6961 as well */
    uint8_t group;       /* enum tls_group: the one that will be taken, for its cost */
    size_t record_bytes; /* input that it took */
    size_t missing;      /* MORE: so many bytes have to come before another look tells more */
    struct bytes joined; /* the message as one record in scratch, when it was cut; ptr NULL: not */
};

/* Looks at everything received so far; who waits for out->missing bytes each time looks some 50
 * times at the most, however the message is cut, and not at each byte that comes. A message that is
 * cut into several records (RFC 8446 5.1) is joined in scratch, TLS_HELLO_RECORD_MAX bytes: the
 * library does not take pieces under 4 bytes. */
enum tls_hello_result tls_hello_parse(const uint8_t *p, size_t len, uint8_t *scratch,
                                      struct tls_hello *out);

#endif
