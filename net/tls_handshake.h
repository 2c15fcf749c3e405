/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_HANDSHAKE_H
#define NET_TLS_HANDSHAKE_H

/* Either side of one TLS handshake, by wolfSSL, over bytes: no socket, no clock. When it is
 * complete the keys are exported into a record state (net/tls_record.h), and the library's object,
 * 60 KB of it, is freed in the same call. From then on the library knows nothing of the connection.
 *
 *     id = tls_context_choose(context, &hello);             once the ClientHello is complete
 *     hs = tls_handshake_new(workshop, context, id, tls_context_staples(context, id, &hello, now));
 *     while ((st = tls_handshake_step(hs, &in)) == TLS_HANDSHAKE_MORE)
 *         send tls_handshake_output(hs); wait for more input;
 *     send tls_handshake_output(hs);                        the last flight, or an alert
 *     DONE:   tls_handshake_finish(hs, record, &info)
 *     FAILED: tls_handshake_free(hs)
 *
 * A client's begins with tls_handshake_new_client(), and with a step without input.
 *
 * What the export needs beyond the library's plain getters:
 *  - TLS 1.3: the traffic secrets, for KeyUpdates. A callback sees every HKDF-Expand-Label and
 * keeps the two. tls_record_init() derives keys and IVs from them again and compares.
 *  - TLS 1.2 with AES-GCM: the explicit nonce, which the library starts at a random value. It
 * stands in the clear in our Finished record, where the send callback reads it; we go on behind it.
 * Whatever is not as expected refuses the export: the connection is closed, there is no other path.
 * tls_self_test() (net/tls_self_test.h) proves all this before the first client comes. */

#include "net/tls_context.h"
#include "net/tls_record.h"

/* What all handshakes of a shard use. */
struct tls_workshop {
    struct tls_ticket_keys tickets; /* only where the contexts have tickets */
    bool has_tickets;
    bool is_trial;   /* asks no client for a certificate: the self-test has none */
    bool is_crowded; /* handshakes are many: a new one spares memory; set by the caller */
    uint64_t now_ns; /* of the turn, for the tickets' keys; set by the caller before each step */
};

struct tls_handshake;

enum tls_handshake_status {
    TLS_HANDSHAKE_MORE,
    TLS_HANDSHAKE_DONE,
    TLS_HANDSHAKE_FAILED,
};

/* X(id, label): why a handshake failed, as the metric names it. Up to NO_MEMORY they are the
 * engine's, the others those of net/conn_handshake.c. */
#define TLS_FAILURES(X)                                                                            \
    X(NONE, "none")                                                                                \
    X(PROTOCOL_VERSION, "protocol_version")     /* only versions before 1.2 are offered */         \
    X(NO_SHARED, "no_shared_parameters")        /* no suite, group or signature in common */       \
    X(NO_ALPN, "no_application_protocol")       /* ALPN without http/1.1 */                        \
    X(CLIENT_CERTIFICATE, "client_certificate") /* missing, expired, of an unknown authority */    \
    X(PEER_ALERT, "peer_alert")                 /* the client gave up, by an alert */              \
    X(PROTOCOL, "protocol_error")               /* malformed, out of order, wrong MAC */           \
    X(EXPORT, "export_refused")                 /* keys could not be taken over */                 \
    X(NO_MEMORY, "no_memory")                                                                      \
    X(PLAIN_HTTP, "plain_http")                                                                    \
    X(NOT_TLS, "not_tls")                                                                          \
    X(HELLO, "bad_client_hello")                                                                   \
    X(STALLED, "stalled") /* idle while others waited for its slot */                              \
    X(TIMEOUT, "timeout")                                                                          \
    X(GONE, "client_gone")

enum tls_failure {
#define X(id, label) TLS_FAILURE_##id,
    TLS_FAILURES(X)
#undef X
        TLS_FAILURE_COUNT
};

const char *tls_failure_label(enum tls_failure f);

/* What a handshake has come to. */
struct tls_handshake_info {
    enum tls_version version;
    enum tls_aead aead;
    bool is_resumed;
    bool is_stapled;   /* with an OCSP response: in 1.2 it was seen, in 1.3 it was due */
    char subject[256]; /* of the client's certificate, one line; "": none was asked for */
};

/* Has the library's object call back here. Main, when a context is made. */
void tls_handshake_set_up(void *library);
/* The same for an OCSP response (net/tls_staple.h), which must outlive it. False: it can't. */
struct tls_staple;
MUST_USE bool tls_handshake_set_up_staple(void *library, struct tls_staple *s);

/* Prepares a shard's workshop; lifetime_ns 0: no tickets. 0 or -EIO. */
MUST_USE int tls_workshop_init(struct tls_workshop *w, const uint8_t seed[TLS_TICKET_SEED_BYTES],
                               uint64_t start_ns, uint64_t lifetime_ns);
/* On the shard's thread, at its end: frees what the library keeps for the thread. */
void tls_workshop_deinit(struct tls_workshop *w);

/* With a certificate of ctx, of which it holds a reference as long as it lives; `staples`: what
 * tls_context_staples() says. NULL without memory. */
struct tls_handshake *tls_handshake_new(struct tls_workshop *w, struct tls_context *ctx,
                                        const struct tls_identity *id, bool staples);

/* The client's side, with a WOLFSSL object that the caller has prepared and that is taken: freed
 * with the handshake, or at once when the answer is NULL, for want of memory. The object's context
 * must have gone through tls_handshake_set_up(). `await_ticket`: a handshake of 1.3 is not done
 * before the server has sent a ticket, for tls_handshake_session(). */
struct tls_handshake *tls_handshake_new_client(void *library, bool await_ticket);

/* After DONE, before tls_handshake_finish(): whether a session was resumed. */
bool tls_handshake_is_resumed(const struct tls_handshake *hs);

/* The same, of a client: a reference to the WOLFSSL_SESSION to be
 * resumed later, for the caller to free; NULL: there is none. */
void *tls_handshake_session(const struct tls_handshake *hs);

/* Goes on with what has arrived; steps *in behind what it has used, which at DONE may leave records
 * of the established connection, untouched. */
enum tls_handshake_status tls_handshake_step(struct tls_handshake *hs, struct bytes *in);

/* What must be sent; a view until the next call, which forgets it. */
struct bytes tls_handshake_output(struct tls_handshake *hs);

/* What tls_handshake_output() has shown was taken: its memory is not kept for the next flight. */
void tls_handshake_drop_output(struct tls_handshake *hs);

/* After FAILED: why, for the metric; the library's number; and in its words, for the log. */
enum tls_failure tls_handshake_failure(const struct tls_handshake *hs);
int tls_handshake_error(const struct tls_handshake *hs);
const char *tls_handshake_problem(const struct tls_handshake *hs);
/* After FAILED by PEER_ALERT: the alert's description (RFC 8446 6). */
uint8_t tls_handshake_peer_alert(const struct tls_handshake *hs);

/* After DONE: the size of the record state. 0: what was agreed can't be taken over. */
size_t tls_handshake_record_bytes(const struct tls_handshake *hs);

/* After DONE: exports into r (of that size) and frees hs, in any case. False: refused; r is wiped,
 * nothing may be sent any more. */
MUST_USE bool tls_handshake_finish(struct tls_handshake *hs, struct tls_record *r,
                                   struct tls_handshake_info *info);

void tls_handshake_free(struct tls_handshake *hs);

#endif
