/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_CLIENT_H
#define NET_TLS_CLIENT_H

/* What all handshakes as a client share: the authorities that are trusted, a certificate of our
 * own, suites. For what connects by TLS: the links to Redis, the load generator. */

#include "net/tls_handshake.h"

struct tls_client_config {
    const char *ca_file; /* PEM, the authorities that are trusted; not read when is_insecure */
    const char
        *cert_file;       /* PEM, our certificate and its chain, for servers that ask; NULL: none */
    const char *key_file; /* PEM, its key, not encrypted */
    const char *protocol; /* a constant text, offered by ALPN; NULL: none is */
    bool is_insecure;     /* any certificate is good */
    bool resume;          /* sessions are kept: the first handshake of 1.3 awaits a ticket */
};

struct tls_client;

/* Reads the files and prepares the library; cfg is borrowed. 0; -ENOENT: a file can't be read, or
 * is not what it should be; -ENOTSUP: the library lacks something; -ENOMEM. With an error
 * `complaint` says what helps. Main. */
MUST_USE int tls_client_new(const struct tls_client_config *cfg, struct tls_client **out,
                            char complaint[TLS_COMPLAINT_MAX]);
/* Nobody begins a handshake any more; NULL is allowed. */
void tls_client_free(struct tls_client *t);

/* From its next handshake on t is as `by`, which is taken. Main, beside those who shake. */
void tls_client_replace(struct tls_client *t, struct tls_client *by);

/* A handshake with the server of that name or address, which is sent (SNI, a name only) and which
 * its certificate must bear; borrowed. Resumes `session` if there is one (of the same thread, from
 * tls_handshake_session()). NULL without memory. Any thread. */
struct tls_handshake *tls_client_handshake(struct tls_client *t, const char *name, void *session);

/* Whether there is a certificate of our own. Any thread. */
bool tls_client_has_certificate(struct tls_client *t);

/* When that expires, in seconds since 1970, and in *file its name, until it is replaced; 0 and
 * NULL: there is none. Main. */
int64_t tls_client_expiry_s(const struct tls_client *t, const char **file);

/* Frees a session; NULL is allowed. */
void tls_client_forget(void *session);

/* Why a handshake failed. Up to EARLY it was the server's certificate that was refused. */
enum tls_fault {
    TLS_FAULT_AUTHORITY, /* signed by nobody who is trusted */
    TLS_FAULT_NAME,      /* for another name */
    TLS_FAULT_EXPIRED,
    TLS_FAULT_EARLY, /* not valid yet */
    TLS_FAULT_ALERT, /* the server refused: tls_handshake_peer_alert() */
    TLS_FAULT_OTHER, /* tls_handshake_problem() */
};
enum tls_fault tls_client_fault(const struct tls_handshake *hs);

/* The same in words; a constant text. *is_certificate: the server's was refused. */
const char *tls_client_problem(const struct tls_handshake *hs, bool *is_certificate);

/* The calling thread ends: frees what the library keeps for it. */
void tls_client_thread_ends(void);

/* "TLS 1.3, AES-128-GCM". */
const char *tls_client_text(const struct tls_handshake_info *info);

#endif
