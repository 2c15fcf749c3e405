/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Stands in for net/tls_handshake.c and net/tls_context.c: what wolfSSL does, without arithmetic
 * and without chance. A ClientHello says what is agreed on (struct sim_tls_terms); the flights have
 * its lengths. net/conn_shake.c above is the node's own. In the simulation's one thread. */

#include <stdlib.h>
#include <string.h>

#include "net/tls_client.h"
#include "tests/sim/sim_tls.h"

/* Where `random` stands in a ClientHello's record. */
#define RANDOM_AT (TLS_RECORD_HEAD_BYTES + 4 + 2)

/* Of all simulated nodes: nothing of it changes. */
static struct tls_context {
    int nothing;
} the_context;

struct tls_identity {
    bool is_rsa;
};

static const struct tls_identity identities[2] = {{.is_rsa = false}, {.is_rsa = true}};

struct tls_handshake {
    struct sim_tls_terms terms;
    uint8_t in[SIM_TLS_HELLO_BYTES_MAX + TLS_RECORD_HEAD_BYTES]; /* the record that is being read */
    uint8_t out[SIM_TLS_FLIGHT_BYTES_MAX];
    uint32_t in_len;
    uint32_t out_len;
    bool has_hello;
    bool taken;
    uint8_t failure; /* enum tls_failure */
};

/* Contexts ------------------------------------------------------------------------------------- */

const struct tls_identity *tls_context_choose(const struct tls_context *ctx,
                                              const struct tls_hello *hello)
{
    (void)ctx;
    return &identities[hello->record_bytes % 2];
}

const struct tls_staple *tls_identity_staple(const struct tls_identity *id)
{
    (void)id;
    return NULL;
}

bool tls_context_staples(const struct tls_context *ctx, const struct tls_identity *id,
                         const struct tls_hello *hello, int64_t now_s)
{
    (void)ctx, (void)id, (void)hello, (void)now_s;
    return false;
}

bool tls_identity_is_rsa(const struct tls_identity *id)
{
    return id->is_rsa;
}

void tls_context_unref(struct tls_context *ctx)
{
    CHECK(ctx == NULL || ctx == &the_context);
}

void tls_shared_renew(struct tls_shared *s, struct tls_context **mine, uint32_t *generation)
{
    (void)s;
    *mine = &the_context;
    *generation = 1;
}

int tls_workshop_init(struct tls_workshop *w, const uint8_t seed[TLS_TICKET_SEED_BYTES],
                      uint64_t start_ns, uint64_t lifetime_ns)
{
    (void)seed, (void)lifetime_ns;
    *w = (struct tls_workshop){.now_ns = start_ns};
    return 0;
}

void tls_workshop_deinit(struct tls_workshop *w)
{
    tls_ticket_wipe(&w->tickets);
}

/* Handshakes ----------------------------------------------------------------------------------- */

const char *tls_failure_label(enum tls_failure f)
{
    static const char *const labels[] = {
#define X(id, label) (label),
        TLS_FAILURES(X)
#undef X
    };

    return labels[f];
}

struct tls_handshake *tls_handshake_new(struct tls_workshop *w, struct tls_context *ctx,
                                        const struct tls_identity *id, bool staples)
{
    (void)w, (void)ctx, (void)id, (void)staples;
    return calloc(1, sizeof(struct tls_handshake));
}

void tls_handshake_free(struct tls_handshake *hs)
{
    free(hs);
}

static void say(struct tls_handshake *hs, uint32_t flight)
{
    uint32_t len = hs->terms.flight_bytes[flight];

    CHECK(hs->out_len + len <= sizeof(hs->out));
    sim_tls_flight(&hs->terms, flight, hs->out + hs->out_len, len);
    hs->out_len += len;
}

static enum tls_handshake_status refuse(struct tls_handshake *hs, enum tls_failure why)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 40};

    memcpy(hs->out, alert, sizeof(alert));
    hs->out_len = sizeof(alert);
    hs->failure = (uint8_t)why;
    return TLS_HANDSHAKE_FAILED;
}

/* A whole record has come. */
static enum tls_handshake_status take_record(struct tls_handshake *hs)
{
    uint8_t body[SIM_TLS_FINISHED_BYTES - TLS_RECORD_HEAD_BYTES];

    if (!hs->has_hello) {
        CHECK(hs->in_len >= RANDOM_AT + 32);
        memcpy(&hs->terms, hs->in + RANDOM_AT, sizeof(hs->terms));
        hs->has_hello = true;
        if (hs->terms.is_refused)
            return refuse(hs, TLS_FAILURE_NO_SHARED);
        say(hs, 0);
        return TLS_HANDSHAKE_MORE;
    }
    sim_tls_flight(&hs->terms, 2, body, sizeof(body));
    if (hs->in_len != SIM_TLS_FINISHED_BYTES ||
        memcmp(hs->in + TLS_RECORD_HEAD_BYTES, body, sizeof(body)) != 0)
        return refuse(hs, TLS_FAILURE_PROTOCOL);
    say(hs, 1);
    return TLS_HANDSHAKE_DONE;
}

/* What the record needs, as far as is known. */
static uint32_t needs(const struct tls_handshake *hs)
{
    uint32_t n = TLS_RECORD_HEAD_BYTES;

    if (hs->in_len >= TLS_RECORD_HEAD_BYTES)
        n += (uint32_t)hs->in[3] << 8 | hs->in[4];
    return n;
}

/* Like the library, it takes no byte behind what it needs. */
enum tls_handshake_status tls_handshake_step(struct tls_handshake *hs, struct bytes *in)
{
    enum tls_handshake_status st = TLS_HANDSHAKE_MORE;

    if (hs->taken)
        hs->out_len = 0;
    hs->taken = false;
    while (st == TLS_HANDSHAKE_MORE) {
        size_t take = min_size(needs(hs) - hs->in_len, in->len);

        if (needs(hs) > sizeof(hs->in))
            return refuse(hs, TLS_FAILURE_PROTOCOL);
        memcpy(hs->in + hs->in_len, in->ptr, take);
        hs->in_len += (uint32_t)take;
        in->ptr += take;
        in->len -= take;
        if (hs->in_len == needs(hs) && hs->in_len > TLS_RECORD_HEAD_BYTES) {
            st = take_record(hs);
            hs->in_len = 0;
        } else if (in->len == 0) {
            break;
        }
    }
    return st;
}

void tls_handshake_drop_output(struct tls_handshake *hs)
{
    hs->out_len = 0;
}

struct bytes tls_handshake_output(struct tls_handshake *hs)
{
    struct bytes out = {hs->out, hs->taken ? 0 : hs->out_len};

    hs->taken = true;
    return out;
}

enum tls_failure tls_handshake_failure(const struct tls_handshake *hs)
{
    return (enum tls_failure)hs->failure;
}

const char *tls_handshake_problem(const struct tls_handshake *hs)
{
    (void)hs;
    return "";
}

size_t tls_handshake_record_bytes(const struct tls_handshake *hs)
{
    return tls_record_bytes((enum tls_version)hs->terms.version, (enum tls_aead)hs->terms.aead);
}

bool tls_handshake_finish(struct tls_handshake *hs, struct tls_record *r,
                          struct tls_handshake_info *info)
{
    memset(info, 0, sizeof(*info));
    info->version = (enum tls_version)hs->terms.version;
    info->aead = (enum tls_aead)hs->terms.aead;
    sim_tls_state(&hs->terms, false, r);
    tls_handshake_free(hs);
    return true;
}

/* The client's side: no simulated Redis speaks TLS --------------------------------------------- */

struct tls_handshake *tls_client_handshake(struct tls_client *t, const char *name, void *session)
{
    (void)t;
    (void)name;
    (void)session;
    return NULL;
}

bool tls_client_has_certificate(struct tls_client *t)
{
    (void)t;
    return false;
}

enum tls_fault tls_client_fault(const struct tls_handshake *hs)
{
    (void)hs;
    return TLS_FAULT_OTHER;
}

uint8_t tls_handshake_peer_alert(const struct tls_handshake *hs)
{
    (void)hs;
    return 0;
}

void tls_client_thread_ends(void)
{
}
