/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The clients' side of TLS, right and wrong. In the simulation's one thread. */

#include "tests/sim/sim_tls.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/kdf.h>
#include <wolfssl/wolfcrypt/types.h>

#include "net/tls_record_internal.h"

#define RECORD_BYTES_MAX (TLS_RECORD_BYTES_MAX + TLS_RECORD_ROOM)

/* Keys ----------------------------------------------------------------------------------------- */

static void fill(uint64_t state, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (i % 8 == 0)
            state = (state ^ state >> 29) * 0xbf58476d1ce4e5b9u + 0x9e3779b97f4a7c15u;
        out[i] = (uint8_t)(state >> (i % 8 * 8));
    }
}

/* RFC 8446 7.3. */
static void derive(enum tls_aead aead, const uint8_t *secret, const char *label, uint8_t *out,
                   size_t len)
{
    static const uint8_t protocol[] = "tls13 ", none[1];
    bool is_384 = aead == TLS_AEAD_AES_256_GCM;

    CHECK(wc_Tls13_HKDF_Expand_Label(out, (word32)len, secret, is_384 ? 48 : 32, protocol,
                                     sizeof(protocol) - 1, (const uint8_t *)label,
                                     (word32)strlen(label), none, 0,
                                     is_384 ? WC_SHA384 : WC_SHA256) == 0);
}

/* One direction. */
struct way {
    uint8_t secret[48];
    uint8_t key[TLS_AEAD_KEY_BYTES_MAX];
    uint8_t iv[TLS_AEAD_NONCE_BYTES];
};

static void way_make(const struct sim_tls_terms *terms, uint64_t salt, struct way *way)
{
    enum tls_aead aead = (enum tls_aead)terms->aead;

    fill(terms->seed ^ salt, (uint8_t *)way, sizeof(*way));
    if (terms->version != TLS_VERSION_1_3)
        return;
    derive(aead, way->secret, "key", way->key, tls_aead_key_bytes(aead));
    derive(aead, way->secret, "iv", way->iv, sizeof(way->iv));
}

void sim_tls_state(const struct sim_tls_terms *terms, bool is_client, struct tls_record *r)
{
    struct way up, down;
    const struct way *read = is_client ? &down : &up, *write = is_client ? &up : &down;
    struct tls_record_params p = {
        .version = (enum tls_version)terms->version,
        .aead = (enum tls_aead)terms->aead,
        .is_client = is_client,
        .read_key = read->key,
        .write_key = write->key,
        .read_iv = read->iv,
        .write_iv = write->iv,
        .read_secret = read->secret,
        .write_secret = write->secret,
        .explicit_nonce = terms->seed,
        .fragment_max = is_client ? 0 : terms->fragment_max,
        .rekey_log2 = is_client && terms->version == TLS_VERSION_1_2 ? 0 : terms->rekey_log2,
    };

    way_make(terms, 1, &up);
    way_make(terms, 2, &down);
    CHECK(tls_record_init(r, &p) == 0);
}

void sim_tls_flight(const struct sim_tls_terms *terms, uint32_t flight, uint8_t *out, size_t len)
{
    fill(terms->seed ^ (uint64_t)(16 + flight) << 40, out, len);
}

/* Beginning ------------------------------------------------------------------------------------ */

static void draw_terms(struct world *w, struct sim_tls_terms *t)
{
    *t = (struct sim_tls_terms){
        .seed = world_below(w, UINT64_MAX),
        .version = world_one_in(w, 3) ? TLS_VERSION_1_2 : TLS_VERSION_1_3,
        .aead = (uint8_t)world_below(w, TLS_AEAD_COUNT),
        .is_refused = world_one_in(w, 24),
        .fragment_max = world_one_in(w, 8) ? (uint16_t)(512u << world_below(w, 4)) : 0,
    };
    if (world_one_in(w, t->version == TLS_VERSION_1_3 ? 2 : 12))
        t->rekey_log2 = 7; /* one send of the server's is never more */
    if (t->rekey_log2 != 0 && t->version == TLS_VERSION_1_2)
        t->fragment_max = 0;
    for (int i = 0; i < 2; i++)
        t->flight_bytes[i] = (uint16_t)(1 + world_below(w, 1u << world_below(w, 12)));
    if (world_one_in(w, 12))
        t->flight_bytes[0] = SIM_TLS_FLIGHT_BYTES_MAX;
}

void sim_tls_new(struct user *u)
{
    struct sim_tls *t = calloc(1, sizeof(*t));

    CHECK(t != NULL);
    draw_terms(u->w, &t->terms);
    t->expected_alert = SIM_TLS_NO_ALERT;
    t->record = calloc(1, SIM_TLS_STATE_BYTES_MAX);
    CHECK(t->record != NULL);
    u->tls = t;
    if (t->terms.is_refused) {
        u->is_http = true; /* it ends before it begins */
        u->intact = false;
    }
}

void sim_tls_free(struct user *u)
{
    if (u->tls == NULL)
        return;
    free(u->tls->wire.bytes);
    free(u->tls->in.bytes);
    free(u->tls->record);
    free(u->tls);
}

void sim_tls_lead(struct user *u, const void *bytes, size_t len)
{
    user_buffer_add(&u->tls->wire, bytes, len);
}

static size_t put(uint8_t *out, const void *bytes, size_t len)
{
    memcpy(out, bytes, len);
    return len;
}

/* RFC 8446 4.1.2, with a padding extension (RFC 7685) of `padding` bytes. */
static size_t make_hello(const struct sim_tls_terms *terms, size_t padding, uint8_t *out)
{
    static const uint8_t fixed[] = {0, 0, 2, 0x13, 0x01, 1, 0}; /* session, suites, compression */
    uint8_t random[32] = {0};
    size_t n = 4;

    memcpy(random, terms, sizeof(*terms));
    n += put(out + n, "\x03\x03", 2);
    n += put(out + n, random, sizeof(random));
    n += put(out + n, fixed, sizeof(fixed));
    record_put_u16(out + n, padding + 4);
    record_put_u16(out + n + 2, 21);
    record_put_u16(out + n + 4, padding);
    memset(out + n + 6, 0, padding);
    n += 6 + padding;
    record_put_u16(out, 0x0100); /* client_hello */
    record_put_u16(out + 2, n - 4);
    return n;
}

static void add_head(struct sim_tls *t, uint8_t type, size_t len)
{
    uint8_t head[TLS_RECORD_HEAD_BYTES] = {type, 3, 3};

    record_put_u16(head + 3, len);
    user_buffer_add(&t->wire, head, sizeof(head));
}

/* In one record, or cut into several (RFC 8446 5.1). */
static void say_hello(struct user *u)
{
    struct world *w = u->w;
    uint8_t hello[SIM_TLS_HELLO_BYTES_MAX];
    size_t len = make_hello(&u->tls->terms, world_one_in(w, 4) ? world_below(w, 3500) : 0, hello);
    uint64_t cuts = world_one_in(w, 4) ? world_below(w, 6) : 0;
    const uint8_t *p = hello;

    while (len > 0) {
        size_t n = cuts-- > 0 ? 1 + world_below(w, len) : len;

        add_head(u->tls, RECORD_TYPE_HANDSHAKE, n);
        user_buffer_add(&u->tls->wire, p, n);
        p += n;
        len -= n;
        cuts = len == 0 ? 0 : cuts;
    }
    u->tls->phase = SIM_TLS_HELLO;
}

static void say_finished(struct user *u)
{
    struct sim_tls *t = u->tls;
    uint8_t body[SIM_TLS_FINISHED_BYTES - TLS_RECORD_HEAD_BYTES];

    sim_tls_flight(&t->terms, 2, body, sizeof(body));
    add_head(t, RECORD_TYPE_HANDSHAKE, sizeof(body));
    user_buffer_add(&t->wire, body, sizeof(body));
    sim_tls_state(&t->terms, true, t->record);
    t->phase = SIM_TLS_FINISHED;
}

/* Reading -------------------------------------------------------------------------------------- */

/* Bytes of the server's flight that is due. Returns whether it is whole. */
static bool read_flight(struct user *u)
{
    static const uint8_t refusal[] = {21, 3, 3, 0, 2, 2, 40};
    struct sim_tls *t = u->tls;
    uint32_t flight = t->phase == SIM_TLS_FINISHED;
    uint8_t expected[SIM_TLS_FLIGHT_BYTES_MAX];
    size_t len = t->terms.is_refused ? sizeof(refusal) : t->terms.flight_bytes[flight];
    size_t n = min_size(t->in.len - t->in.pos, len - t->flight_pos);

    if (t->terms.is_refused)
        memcpy(expected, refusal, len);
    else
        sim_tls_flight(&t->terms, flight, expected, len);
    if (memcmp(t->in.bytes + t->in.pos, expected + t->flight_pos, n) != 0)
        world_fail(u->w, "user %u: flight %u of its handshake is not what was sent", u->uid,
                   flight);
    t->in.pos += n;
    t->flight_pos += (uint32_t)n;
    if (t->flight_pos < len)
        return false;
    t->flight_pos = 0;
    return true;
}

static void read_flights(struct user *u)
{
    struct sim_tls *t = u->tls;

    while (t->phase != SIM_TLS_OPEN && u->w->failure[0] == '\0') {
        if (t->phase == SIM_TLS_NEW || t->is_told) {
            if (t->in.pos < t->in.len)
                world_fail(u->w, "user %u of TLS was told something where nothing is due", u->uid);
            return;
        }
        if (!read_flight(u))
            return;
        if (t->terms.is_refused)
            t->is_told = true;
        else if (t->phase == SIM_TLS_HELLO)
            say_finished(u);
        else
            t->phase = SIM_TLS_OPEN;
    }
}

static void connection_failed(struct user *u)
{
    struct sim_tls *t = u->tls;
    enum tls_reason why = tls_record_reason(t->record);
    uint8_t alert = tls_record_peer_alert(t->record);

    if (why != TLS_REASON_PEER_ALERT)
        world_fail(u->w, "user %u got a record that is wrong: %s", u->uid, tls_reason_text(why));
    else if (t->expected_alert != alert)
        world_fail(u->w, "user %u got the alert %u, expected %d", u->uid, alert, t->expected_alert);
    t->is_told = true;
}

static void read_records(struct user *u)
{
    struct sim_tls *t = u->tls;
    struct bytes in = {t->in.bytes + t->in.pos, t->in.len - t->in.pos};
    uint8_t secret[TLS_HASH_BYTES_MAX];
    enum tls_record_status st = TLS_RECORD_DATA;
    struct tls_piece piece;

    while (st == TLS_RECORD_DATA && u->w->failure[0] == '\0') {
        if (record_is_13(t->record))
            memcpy(secret, record_read_secret(t->record), 32);
        st = tls_record_open(t->record, &t->work, &in, &piece);
        if (record_is_13(t->record) && memcmp(secret, record_read_secret(t->record), 32) != 0)
            t->asked = false;
        if (st == TLS_RECORD_DATA)
            user_buffer_add(&u->in, piece.data.ptr, piece.data.len);
    }
    t->in.pos = t->in.len - in.len;
    if (st == TLS_RECORD_CLOSED)
        t->is_closed = true;
    else if (st == TLS_RECORD_FAILED && !t->is_told)
        connection_failed(u);
}

void sim_tls_input(struct user *u, const uint8_t *bytes, size_t len)
{
    struct sim_tls *t = u->tls;

    user_buffer_add(&t->in, bytes, len);
    read_flights(u);
    if (t->phase == SIM_TLS_OPEN)
        read_records(u);
}

void sim_tls_on_pong(struct user *u, uint32_t number)
{
    if (u->tls->asked && number >= u->tls->asked_pings)
        world_fail(u->w, "user %u has asked for new keys, and got pong %u under the old ones",
                   u->uid, number);
}

/* Writing -------------------------------------------------------------------------------------- */

/* A record of any content, with padding (1.3). */
static void seal_any(struct sim_tls *t, uint8_t type, const void *content, size_t len,
                     size_t padding)
{
    struct tls_record *r = t->record;
    uint8_t nonce[TLS_AEAD_NONCE_BYTES], aad[RECORD_AAD_BYTES_MAX];
    uint8_t record[RECORD_BYTES_MAX] = {record_is_13(r) ? RECORD_TYPE_DATA : type, 3, 3};
    uint8_t *body = record + TLS_RECORD_HEAD_BYTES + record_explicit_bytes(r);
    uint64_t counter = r->write_seq;
    size_t n = len;

    if (record_is_13(r)) {
        n += 1 + padding;
        memset(body, 0, n);
        body[len] = type;
    }
    memcpy(body, content, len);
    if (record_has_explicit(r)) {
        counter += r->explicit_base;
        record_put_u64(record + TLS_RECORD_HEAD_BYTES, counter);
    }
    record_put_u16(record + 3, record_explicit_bytes(r) + n + TLS_AEAD_TAG_BYTES);
    record_nonce(nonce, r->write_iv, counter);
    tls_aead_load(&t->work.seal, (enum tls_aead)r->aead, record_write_key(r));
    tls_aead_start(&t->work.seal, true, nonce, aad, record_aad(r, aad, record, r->write_seq, len));
    tls_aead_crypt(&t->work.seal, body, n);
    tls_aead_tag(&t->work.seal, body + n);
    r->write_seq++;
    user_buffer_add(&t->wire, record, (size_t)(body - record) + n + TLS_AEAD_TAG_BYTES);
}

/* By the record layer; what is due goes in front. */
static void seal(struct sim_tls *t, const uint8_t *p, size_t len)
{
    uint8_t out[RECORD_BYTES_MAX];
    struct iovec iov = {(void *)(uintptr_t)p, len};
    struct tls_source src = {&iov, 1, 0};
    size_t n = tls_record_seal(t->record, &t->work, &src, TLS_RECORD_PLAIN_MAX, out, sizeof(out));

    CHECK(n > 0);
    user_buffer_add(&t->wire, out, n);
}

/* Empty ones, fewer in a row than are taken. */
static void seal_empty(struct user *u)
{
    for (uint64_t n = world_below(u->w, 4); n > 0; n--)
        seal_any(u->tls, RECORD_TYPE_DATA, "", 0, world_below(u->w, 100));
}

static void draw_update(struct user *u)
{
    struct sim_tls *t = u->tls;
    bool ask = world_one_in(u->w, 2);

    if (!record_is_13(t->record) || !world_one_in(u->w, 12))
        return;
    tls_record_update(t->record, ask);
    if (!ask || t->asked)
        return;
    t->asked = true;
    t->asked_pings = u->pings_sent;
}

static bool may_write(const struct user *u)
{
    return u->tls->phase >= SIM_TLS_FINISHED && u->tls->ending == SIM_TLS_GOES_ON &&
           tls_record_is_writable(u->tls->record);
}

static size_t draw_record(struct world *w, size_t len)
{
    if (world_one_in(w, 4))
        len = 1 + world_below(w, len);
    if (world_one_in(w, 24))
        len = 1;
    return min_size(len, TLS_RECORD_PLAIN_MAX);
}

void sim_tls_fill(struct user *u, size_t most)
{
    struct sim_tls *t = u->tls;
    size_t len = min_size(u->out.len - u->out.pos, most);
    uint64_t limit;

    if (t->phase == SIM_TLS_NEW)
        say_hello(u);
    if (t->wire.pos < t->wire.len || len == 0 || !may_write(u))
        return;
    len = draw_record(u->w, len);
    draw_update(u);
    limit = record_key_limit(t->record);
    if (!world_one_in(u->w, 4) || tls_record_is_update_due(t->record) ||
        t->record->write_seq + 6 >= limit) {
        seal(t, u->out.bytes + u->out.pos, len);
    } else {
        len = min_size(len, TLS_RECORD_PLAIN_MAX - 600);
        seal_empty(u);
        seal_any(t, RECORD_TYPE_DATA, u->out.bytes + u->out.pos, len, world_below(u->w, 600));
    }
    t->plain = (uint32_t)len;
}

/* Ends ----------------------------------------------------------------------------------------- */

void sim_tls_end(struct user *u)
{
    struct sim_tls *t = u->tls;
    uint8_t out[TLS_RECORD_END_BYTES_MAX];

    if (!may_write(u) || world_one_in(u->w, 3)) {
        user_fin(u);
        return;
    }
    u->intact = false;
    u->state = USER_ENDING;
    t->ending = world_one_in(u->w, 2) ? SIM_TLS_THEN_FIN : SIM_TLS_THEN_NOTHING;
    user_buffer_add(&t->wire, out, tls_record_seal_end(t->record, &t->work, out));
}

bool sim_tls_is_ended(const struct user *u)
{
    return u->tls->is_closed || u->tls->is_told || u->tls->expected_alert == SIM_TLS_NO_ANSWER;
}

bool sim_tls_wants_end(const struct user *u)
{
    return u->tls->expected_alert != SIM_TLS_NO_ALERT || u->tls->terms.is_refused;
}

/* Violations ----------------------------------------------------------------------------------- */

/* Authentic records that may not come: type, content, alert in 1.3 and in 1.2. */
static const struct {
    uint8_t type;
    uint8_t len;
    char content[8];
    int16_t alert_13;
    int16_t alert_12;
} authentic[] = {
    {RECORD_TYPE_ALERT, 0, "", 10, 10},
    {RECORD_TYPE_ALERT, 1, "\x02", 50, 50},
    {RECORD_TYPE_ALERT, 2, "\x03\x0a", 47, 47},
    {RECORD_TYPE_ALERT, 2, "\x02\x50", SIM_TLS_NO_ANSWER, SIM_TLS_NO_ANSWER},
    {RECORD_TYPE_HANDSHAKE, 0, "", 10, 10},
    {RECORD_TYPE_HANDSHAKE, 4, "\x01\0\0\0", 10, 40},       /* ClientHello: renegotiation */
    {RECORD_TYPE_HANDSHAKE, 4, "\x0b\0\0\0", 10, 10},       /* Certificate */
    {RECORD_TYPE_HANDSHAKE, 5, "\x18\0\0\1\2", 47, 10},     /* KeyUpdate: request */
    {RECORD_TYPE_HANDSHAKE, 4, "\x18\0\0\1", 50, 10},       /* ... cut */
    {RECORD_TYPE_HANDSHAKE, 6, "\x18\0\0\1\0\x18", 10, 10}, /* ... with a tail */
};

static void violate_authentic(struct user *u, uint64_t i)
{
    struct sim_tls *t = u->tls;

    seal_any(t, authentic[i].type, authentic[i].content, authentic[i].len, 0);
    t->expected_alert = record_is_13(t->record) ? authentic[i].alert_13 : authentic[i].alert_12;
}

/* A frame that is right, in a record of which one bit is wrong, or that comes twice or too early.
 */
static void violate_seal(struct user *u, uint64_t kind)
{
    static const uint8_t pong[] = {0x8a, 0x80, 0, 0, 0, 0};
    struct sim_tls *t = u->tls;
    uint8_t *record;
    size_t len;

    if (kind == 0)
        t->record->write_seq++;
    seal_any(t, RECORD_TYPE_DATA, pong, sizeof(pong), 0);
    record = t->wire.bytes + t->wire.pos; /* the wire was empty */
    len = t->wire.len - t->wire.pos;
    if (kind == 1) {
        uint8_t *copy = malloc(len);

        CHECK(copy != NULL);
        memcpy(copy, record, len);
        user_buffer_add(&t->wire, copy, len);
        free(copy);
    } else if (kind == 2) {
        record[TLS_RECORD_HEAD_BYTES + world_below(u->w, len - TLS_RECORD_HEAD_BYTES)] ^=
            (uint8_t)(1u << world_below(u->w, 8));
    }
    t->expected_alert = 20;
}

/* Judged by the head alone. */
static void violate_head(struct user *u, uint64_t kind)
{
    bool is_13 = record_is_13(u->tls->record);
    uint8_t head[TLS_RECORD_HEAD_BYTES] = {RECORD_TYPE_DATA, 3, 3, 0, 100};

    u->tls->expected_alert = 10;
    if (kind == 0) {
        head[0] = is_13 ? RECORD_TYPE_HANDSHAKE : 24; /* heartbeat */
    } else if (kind == 1) {
        record_put_u16(head + 3, TLS_RECORD_PLAIN_MAX + 300);
        u->tls->expected_alert = 22;
    } else if (kind == 2) {
        record_put_u16(head + 3, 7);
        u->tls->expected_alert = 50;
    } else if (is_13) {
        head[0] = 0x47; /* a plain request */
    } else {
        head[2] = 4;
        u->tls->expected_alert = 70;
    }
    user_buffer_add(&u->tls->wire, head, sizeof(head));
}

static void violate_flood(struct user *u)
{
    for (int i = 0; i <= TLS_RECORD_QUIET_MAX; i++)
        seal_any(u->tls, RECORD_TYPE_DATA, "", 0, 0);
    u->tls->expected_alert = 10;
}

void sim_tls_violate(struct user *u)
{
    uint64_t kind = world_below(u->w, ARRAY_LEN(authentic) + 8);

    u->close_sent = true; /* nothing more is said, but for what nobody shall look at */
    if (kind < ARRAY_LEN(authentic))
        violate_authentic(u, kind);
    else if (kind < ARRAY_LEN(authentic) + 3)
        violate_seal(u, kind - ARRAY_LEN(authentic));
    else if (kind < ARRAY_LEN(authentic) + 7)
        violate_head(u, kind - ARRAY_LEN(authentic) - 3);
    else
        violate_flood(u);
    if (u->tls->expected_alert >= 0 && world_one_in(u->w, 2))
        user_buffer_add(&u->tls->wire, "not a second failure", 20);
    u->tls->ending = SIM_TLS_THEN_SILENCE;
}
