/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* TLS of a connection to Redis. On the shard's thread. */

#include "pubsub/redis_tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_STATE_MAX 216 /* of tls_record_bytes() */
#define SPANS_MAX 64         /* of commands that a record gathers */
#define PROBLEM_MAX 160
/* The end of a flight and a record behind it, whatever is due. */
#define OUT_BYTES (TLS_RECORD_PLAIN_MAX + TLS_RECORD_ROOM + 4096)

/* Content types that a server may begin with (RFC 8446 5.1). */
enum { TYPE_ALERT = 21, TYPE_HANDSHAKE = 22 };

struct redis_tls {
    struct tls_client *client;
    struct tls_handshake *shake; /* NULL: it is through, or was refused */
    uint8_t *flight;             /* of the handshake, to be sent: flight[flight_at..flight_len) */
    size_t flight_len;
    size_t flight_at;
    struct tls_source source; /* what is left of the spans that out has lent, in iov */
    uint32_t cut_len;
    bool is_up;
    bool has_heard; /* anything */
    bool has_failed;
    char problem[PROBLEM_MAX];
    struct tls_work work;
    struct iovec iov[SPANS_MAX];
    _Alignas(struct tls_record) uint8_t record_state[RECORD_STATE_MAX];
    uint8_t cut[TLS_RECORD_BYTES_MAX]; /* the beginning of a record that is cut: cut_len bytes */
    uint8_t out[OUT_BYTES];            /* being sent */
};

static struct tls_record *record_of(struct redis_tls *t)
{
    return (struct tls_record *)t->record_state;
}

/* Failures
 * ----------------------------------------------------------------------------------------- */

static enum redis_tls_status fail(struct redis_tls *t, const char *problem)
{
    t->has_failed = true;
    snprintf(t->problem, sizeof(t->problem), "%s", problem);
    return REDIS_TLS_FAILED;
}

/* The server has refused by an alert (RFC 8446 6.2): most often it is about our certificate. */
static enum redis_tls_status fail_by_alert(struct redis_tls *t, uint8_t alert)
{
    bool has_certificate = tls_client_has_certificate(t->client);

    switch (alert) {
    case 40:  /* handshake_failure: TLS 1.2's way to ask for a certificate, too */
    case 116: /* certificate_required */
        if (!has_certificate)
            return fail(t, "the server wants a client certificate: give --redis-cert and "
                           "--redis-key, or set its tls-auth-clients no");
        return fail(t, "the server refused the handshake: no suite in common, or it does not take "
                       "the kind of --redis-cert");
    case 42: /* bad_certificate, unsupported_certificate, certificate_revoked, _expired, _unknown */
    case 43:
    case 44:
    case 46:
    case 48: /* unknown_ca */
        return fail(t, "the server refused the certificate in --redis-cert: an authority in its "
                       "tls-ca-cert-file must have signed it");
    case 45:
        return fail(t, "the server says that the certificate in --redis-cert has expired; renew "
                       "it, then SIGHUP");
    case 70: /* protocol_version */
        return fail(t, "the server speaks neither TLS 1.2 nor 1.3; see its tls-protocols");
    default:
        t->has_failed = true;
        snprintf(t->problem, sizeof(t->problem),
                 "the server refused by the alert %u; its log tells why", alert);
        return REDIS_TLS_FAILED;
    }
}

static enum redis_tls_status fail_handshake(struct redis_tls *t)
{
    static const char *const texts[] = {
        [TLS_FAULT_AUTHORITY] = "the server's certificate is signed by no authority in --redis-ca; "
                                "give the file of the one that signed it",
        [TLS_FAULT_NAME] = "the server's certificate is for another name than that which it is "
                           "connected by; use a name or address that stands in it",
        [TLS_FAULT_EXPIRED] = "the server's certificate has expired; renew it",
        [TLS_FAULT_EARLY] = "the server's certificate is not valid yet; look at the clocks",
    };
    enum tls_fault fault = tls_client_fault(t->shake);

    if (fault == TLS_FAULT_ALERT)
        return fail_by_alert(t, tls_handshake_peer_alert(t->shake));
    return fail(t, fault == TLS_FAULT_OTHER ? tls_handshake_problem(t->shake) : texts[fault]);
}

static enum redis_tls_status fail_record(struct redis_tls *t)
{
    const struct tls_record *r = record_of(t);

    if (tls_record_reason(r) == TLS_REASON_PEER_ALERT)
        return fail_by_alert(t, tls_record_peer_alert(r));
    return fail(t, tls_reason_text(tls_record_reason(r)));
}

/* The handshake
 * ------------------------------------------------------------------------------------ */

/* Adds what the library wants to say to what waits. */
static bool keep_flight(struct redis_tls *t)
{
    struct bytes more = tls_handshake_output(t->shake);
    uint8_t *longer;

    if (more.len == 0)
        return true;
    longer = realloc(t->flight, t->flight_len + more.len);
    if (longer == NULL)
        return false;
    memcpy(longer + t->flight_len, more.ptr, more.len);
    t->flight = longer;
    t->flight_len += more.len;
    return true;
}

/* The keys are ours now, and the library's object goes. */
static enum redis_tls_status take_over(struct redis_tls *t)
{
    struct tls_handshake *shake = t->shake;
    size_t bytes = tls_handshake_record_bytes(shake);
    struct tls_handshake_info info;

    if (bytes == 0)
        return fail(t, "a suite was agreed on that is no AEAD of TLS 1.2 or 1.3");
    CHECK(bytes <= sizeof(t->record_state));
    t->shake = NULL;
    if (!tls_handshake_finish(shake, record_of(t), &info))
        return fail(t, "keys can't be taken over from the library");
    t->is_up = true;
    return REDIS_TLS_UP;
}

static enum redis_tls_status step(struct redis_tls *t, struct bytes *in)
{
    enum tls_handshake_status st = tls_handshake_step(t->shake, in);

    if (!keep_flight(t))
        return fail(t, "out of memory");
    switch (st) {
    case TLS_HANDSHAKE_MORE:
        return REDIS_TLS_MORE;
    case TLS_HANDSHAKE_DONE:
        return take_over(t);
    default:
        return fail_handshake(t);
    }
}

static enum redis_tls_status shake(struct redis_tls *t, struct bytes *in)
{
    if (in->len == 0)
        return REDIS_TLS_MORE;
    if (!t->has_heard && in->ptr[0] != TYPE_HANDSHAKE && in->ptr[0] != TYPE_ALERT)
        return fail(t, "the server does not answer by TLS; use redis:// where its port is without");
    t->has_heard = true;
    return step(t, in);
}

struct redis_tls *redis_tls_new(struct tls_client *client, const char *name)
{
    struct redis_tls *t = malloc(sizeof(*t));
    struct bytes none = {0};

    if (t == NULL)
        return NULL;
    memset(t, 0, offsetof(struct redis_tls, cut));
    t->client = client;
    t->shake = tls_client_handshake(client, name, NULL);
    if (t->shake != NULL && step(t, &none) == REDIS_TLS_MORE)
        return t;
    redis_tls_free(t);
    return NULL;
}

void redis_tls_free(struct redis_tls *t)
{
    if (t == NULL)
        return;
    if (t->shake != NULL)
        tls_handshake_free(t->shake);
    tls_work_wipe(&t->work);
    explicit_bzero(t->record_state, sizeof(t->record_state));
    free(t->flight);
    free(t);
}

/* Receiving
 * ---------------------------------------------------------------------------------------- */

static enum redis_tls_status open_record(struct redis_tls *t, struct bytes *in, struct bytes *plain,
                                         size_t *needed)
{
    struct tls_piece piece;
    enum tls_record_status st = tls_record_open(record_of(t), &t->work, in, &piece);

    *plain = piece.data;
    *needed = piece.record_bytes;
    switch (st) {
    case TLS_RECORD_DATA:
        return REDIS_TLS_DATA;
    case TLS_RECORD_NEED_MORE:
        return REDIS_TLS_MORE;
    case TLS_RECORD_CLOSED:
        return REDIS_TLS_CLOSED;
    default:
        return fail_record(t);
    }
}

static void keep(struct redis_tls *t, struct bytes *in, size_t len)
{
    memcpy(t->cut + t->cut_len, in->ptr, len);
    t->cut_len += (uint32_t)len;
    in->ptr += len;
    in->len -= len;
}

/* Goes on with the record that is kept, as far as its head tells how long it is; a record that is
 * too long is refused by its head. */
static enum redis_tls_status continue_cut(struct redis_tls *t, struct bytes *in,
                                          struct bytes *plain)
{
    struct bytes whole = {t->cut, t->cut_len};
    size_t needed;
    enum redis_tls_status st;

    while ((st = open_record(t, &whole, plain, &needed)) == REDIS_TLS_MORE && whole.len > 0) {
        size_t more = min_size(in->len, needed - t->cut_len);

        if (more == 0)
            return REDIS_TLS_MORE;
        keep(t, in, more);
        whole = (struct bytes){t->cut, t->cut_len};
    }
    t->cut_len = 0;
    return st;
}

enum redis_tls_status redis_tls_open(struct redis_tls *t, struct bytes *in, struct bytes *plain)
{
    enum redis_tls_status st = REDIS_TLS_MORE;
    size_t needed;

    if (t->has_failed)
        return REDIS_TLS_FAILED;
    if (!t->is_up)
        return shake(t, in);
    if (t->cut_len > 0)
        st = continue_cut(t, in, plain);
    if (st != REDIS_TLS_MORE || t->cut_len > 0)
        return st;
    st = open_record(t, in, plain, &needed);
    if (st == REDIS_TLS_MORE)
        keep(t, in, in->len);
    return st;
}

/* Sending
 * ------------------------------------------------------------------------------------------ */

static size_t put_flight(struct redis_tls *t)
{
    size_t n = min_size(t->flight_len - t->flight_at, sizeof(t->out));

    if (n == 0)
        return 0;
    memcpy(t->out, t->flight + t->flight_at, n);
    t->flight_at += n;
    if (t->flight_at == t->flight_len) {
        free(t->flight);
        t->flight = NULL;
        t->flight_len = 0;
        t->flight_at = 0;
    }
    return n;
}

static size_t source_bytes(const struct tls_source *s)
{
    size_t sum = 0;

    for (int i = 0; i < s->count; i++)
        sum += s->iov[i].iov_len;
    return sum - s->off;
}

/* Seals a record of what waits behind the first `used` bytes of t->out. Spans stay lent until the
 * last byte of them is sealed, which is a copy. */
static size_t seal_commands(struct redis_tls *t, struct redis_out *out, size_t used, size_t *taken)
{
    size_t before, sealed, bytes;

    if (t->source.count == 0)
        t->source = (struct tls_source){
            .iov = t->iov, .count = (int)redis_out_gather(out, t->iov, SPANS_MAX, &bytes)};
    if (t->source.count == 0)
        return 0;
    before = source_bytes(&t->source);
    sealed = tls_record_seal(record_of(t), &t->work, &t->source, TLS_RECORD_PLAIN_MAX,
                             t->out + used, sizeof(t->out) - used);
    *taken = before - source_bytes(&t->source);
    if (t->source.count == 0)
        redis_out_sent(out);
    if (sealed == 0)
        (void)fail_record(t);
    return sealed;
}

struct bytes redis_tls_seal(struct redis_tls *t, struct redis_out *out, size_t *taken)
{
    size_t len = put_flight(t);

    *taken = 0;
    if (t->is_up && !t->has_failed && len + TLS_RECORD_PLAIN_MAX + TLS_RECORD_ROOM <= OUT_BYTES)
        len += seal_commands(t, out, len, taken);
    return (struct bytes){t->out, len};
}

struct bytes redis_tls_end(struct redis_tls *t)
{
    size_t len = put_flight(t);

    if (t->is_up && len + TLS_RECORD_END_BYTES_MAX <= OUT_BYTES)
        len += tls_record_seal_end(record_of(t), &t->work, t->out + len);
    return (struct bytes){t->out, len};
}

/* What is asked
 * ------------------------------------------------------------------------------------ */

bool redis_tls_is_up(const struct redis_tls *t)
{
    return t->is_up;
}

bool redis_tls_has_failed(const struct redis_tls *t)
{
    return t->has_failed;
}

bool redis_tls_is_worn(const struct redis_tls *t)
{
    return t->is_up && tls_record_is_worn((const struct tls_record *)t->record_state);
}

const char *redis_tls_problem(const struct redis_tls *t)
{
    return t->problem;
}
