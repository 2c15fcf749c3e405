/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_CLIENT_H
#define NET_TLS_CLIENT_H

/* What all handshakes with one server share on the client's side: authorities, the server's name,
 * suites. For programs that connect by TLS, such as the load generator. */

#include "net/tls_handshake.h"

struct tls_client_config {
    const char *ca_file; /* PEM, the authorities that are trusted; not read when is_insecure */
    const char *name;    /* the server's, or its address: sent (SNI), and judged */
    bool is_insecure;    /* any certificate is good */
    bool resume;         /* sessions are kept: the first handshake of 1.3 awaits a ticket */
};

struct tls_client;

/* Prepares the library; cfg's texts must live as long as *out. 0; -ENOENT: the file can't be read
 * or is none of certificates; -ENOTSUP: the library lacks something; -ENOMEM. With an error
 * `complaint` says what helps. Main. */
MUST_USE int tls_client_new(const struct tls_client_config *cfg, struct tls_client **out,
                            char complaint[TLS_COMPLAINT_MAX]);
/* No handshake is under way any more; NULL is allowed. */
void tls_client_free(struct tls_client *t);

/* A handshake with the server, which resumes `session` if there is one (of the same thread, from
 * tls_handshake_session()). NULL without memory. Any thread. */
struct tls_handshake *tls_client_handshake(const struct tls_client *t, void *session);

/* Frees a session; NULL is allowed. */
void tls_client_forget(void *session);

/* Why a handshake failed; a constant text. *is_certificate: the server's was refused. */
const char *tls_client_problem(const struct tls_handshake *hs, bool *is_certificate);

/* The calling thread ends: frees what the library keeps for it. */
void tls_client_thread_ends(void);

/* "TLS 1.3, AES-128-GCM". */
const char *tls_client_text(const struct tls_handshake_info *info);

#endif
