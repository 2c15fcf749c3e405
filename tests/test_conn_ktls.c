/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Connections whose sending is lent to the kernel, step by step: a whole server on the simulated
 * io, and a kernel of the test's that notes what it is given and passes it on unsealed. */

#include "net/conn_ktls.h"

#include "net/conn.h"
#include "net/conn_tls.h"
#include "net/tls_hkdf.h"
#include "net/tls_ktls.h"
#include "tests/server_fixture.h"

#define STEPS_MAX 64
#define ALL_SUITES 0x3fu

enum what { KEY, NEXT_KEY, RECORD, DATA };

static struct step {
    enum what what;
    uint8_t type; /* of a RECORD */
    uint8_t bytes[80];
    size_t len;
} steps[STEPS_MAX];
static int step_count;

/* What the kernel answers to keys and records: 0 at once, 1 later, or -errno. */
static int key_answer, next_key_answer, record_answer;
static const struct io_backend *real;
static struct io_backend kernel;

static void note(enum what what, uint8_t type, const void *bytes, size_t len)
{
    struct step *s = &steps[step_count++];

    cr_assert_leq(step_count, STEPS_MAX);
    *s = (struct step){.what = what, .type = type, .len = len};
    memcpy(s->bytes, bytes, min_size(len, sizeof(s->bytes)));
}

static int answer(int how)
{
    return how < 0 ? how : how == 0 ? IO_SENT : IO_PENDING;
}

static int kernel_key(struct io *io, struct io_conn *c, const void *info, size_t len, bool again)
{
    (void)io;
    (void)c;
    note(again ? NEXT_KEY : KEY, 0, info, len);
    return answer(again ? next_key_answer : key_answer);
}

static int kernel_record(struct io *io, struct io_conn *c, enum io_tls_type type, struct bytes b)
{
    (void)io;
    (void)c;
    note(RECORD, (uint8_t)type, b.ptr, b.len);
    return answer(record_answer);
}

static int kernel_send(struct io *io, struct io_conn *c, const struct iovec *iov, int count,
                       size_t bytes)
{
    note(DATA, 0, iov[0].iov_base, iov[0].iov_len);
    steps[step_count - 1].len = bytes;
    return real->send(io, c, iov, count, bytes);
}

/* A TLS client of a server with a kernel. */
struct talk {
    struct rig rig;
    struct client client;
    struct conn *conn;       /* the server's */
    struct tls_record *peer; /* the client's layer */
    struct tls_work *work;
};

static void derive(enum tls_version version, const uint8_t *secret, uint8_t key[16], uint8_t iv[12])
{
    struct bytes none = {NULL, 0};

    memset(key, secret[0], 16);
    memset(iv, secret[0] + 1, 12);
    if (version == TLS_VERSION_1_2)
        return;
    tls_hkdf_expand_label(TLS_HASH_SHA256, secret, (struct bytes){(uint8_t *)"key", 3}, none, key,
                          16);
    tls_hkdf_expand_label(TLS_HASH_SHA256, secret, (struct bytes){(uint8_t *)"iv", 2}, none, iv,
                          12);
}

/* Both layers of a connection with AES-128, and the client's. */
static void init_records(struct talk *t, struct tls_record *ours, enum tls_version version,
                         uint8_t rekey_log2, uint16_t fragment_max)
{
    uint8_t secrets[2][32], keys[2][16], ivs[2][12];
    struct tls_record_params p = {.version = version,
                                  .aead = TLS_AEAD_AES_128_GCM,
                                  .read_key = keys[0],
                                  .write_key = keys[1],
                                  .read_iv = ivs[0],
                                  .write_iv = ivs[1],
                                  .read_secret = secrets[0],
                                  .write_secret = secrets[1],
                                  .explicit_nonce = 77,
                                  .fragment_max = fragment_max,
                                  .rekey_log2 = rekey_log2};

    for (int i = 0; i < 2; i++) {
        memset(secrets[i], 10 * (i + 1), 32);
        derive(version, secrets[i], keys[i], ivs[i]);
    }
    cr_assert_eq(tls_record_init(ours, &p), 0);
    p.is_client = true;
    p.read_key = keys[1];
    p.write_key = keys[0];
    p.read_iv = ivs[1];
    p.write_iv = ivs[0];
    p.read_secret = secrets[1];
    p.write_secret = secrets[0];
    p.rekey_log2 = 0;
    t->peer = malloc(tls_record_bytes(version, TLS_AEAD_AES_128_GCM));
    t->work = aligned_alloc(16, sizeof(*t->work));
    cr_assert(t->peer != NULL && t->work != NULL);
    memset(t->work, 0, sizeof(*t->work));
    cr_assert_eq(tls_record_init(t->peer, &p), 0);
}

struct how {
    enum tls_version version;
    uint32_t suites;
    uint8_t rekey_log2;
    uint16_t fragment_max;
    const char *flight; /* of the handshake, not sent yet */
};

/* The handshake is over; the client has sent nothing yet. */
static void talk_begin(struct talk *t, const struct how *how)
{
    static struct tls_shared no_certificates;
    char *argv[] = {"tidewire", "--echo", "--ping-interval", "0"};
    uint32_t i = 0;

    rig_init(&t->rig, ARRAY_LEN(argv), argv);
    struct net *n = net_of(&t->rig);
    real = n->io->backend;
    kernel = *real;
    kernel.tls_key = kernel_key;
    kernel.tls_send = kernel_record;
    kernel.send = kernel_send;
    n->io->backend = &kernel;
    t->rig.server.net_shared.tls = &no_certificates;
    t->rig.server.net_shared.ktls_suites = how->suites;
    cr_assert_eq(conn_tls_init(n), 0);
    t->client = client_connect(&t->rig, &t->rig.address);
    t->conn = pool_next(&n->conns, &i);
    cr_assert_not_null(t->conn);
    struct conn_tls *state =
        conn_tls_acquire(n, tls_record_bytes(how->version, TLS_AEAD_AES_128_GCM));
    cr_assert_not_null(state);
    init_records(t, &state->record, how->version, how->rekey_log2, how->fragment_max);
    if (how->flight != NULL)
        cr_assert(conn_queue_bytes(t->conn, how->flight, (uint32_t)strlen(how->flight)));
    conn_tls_open(t->conn, state);
}

static void say(struct talk *t, const void *bytes, size_t len)
{
    static uint8_t out[2 * TLS_RECORD_BYTES_MAX];
    struct iovec iov = {(void *)bytes, len};
    struct tls_source src = {&iov, len > 0, 0};
    size_t n = tls_record_seal(t->peer, t->work, &src, len, out, sizeof(out));

    client_send(&t->rig, &t->client, out, n);
    turns(&t->rig, 5);
}

static void say_request(struct talk *t)
{
    static const char request[] =
        "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

    say(t, request, sizeof(request) - 1);
}

static void say_hello(struct talk *t)
{
    static const uint8_t frame[] = {0x81, 0x85, 0, 0, 0, 0, 'h', 'e', 'l', 'l', 'o'};

    say(t, frame, sizeof(frame));
}

static void say_close(struct talk *t)
{
    static const uint8_t frame[] = {0x88, 0x82, 0, 0, 0, 0, 3, 0xe8};

    say(t, frame, sizeof(frame));
}

/* The kernel answers to what is under way. */
static void told_key(struct talk *t, int err)
{
    t->conn->io.events->on_tls_key(&t->conn->io, err);
    turns(&t->rig, 5);
}

static void told_sent(struct talk *t)
{
    t->conn->io.events->on_sent(&t->conn->io, 0);
    turns(&t->rig, 5);
}

static void talk_end(struct talk *t)
{
    sim_client_close(t->client.sim);
    turns(&t->rig, 20);
    client_free(&t->client);
    turns(&t->rig, 20);
    rig_deinit(&t->rig);
    free(t->peer);
    free(t->work);
}

/* The next step since the last of these. */
static int step_seen;

static const struct step *next_step(enum what what)
{
    cr_assert_lt(step_seen, step_count, "no step of kind %d", what);
    cr_assert_eq(steps[step_seen].what, what, "step %d is of kind %d, not %d", step_seen,
                 steps[step_seen].what, what);
    return &steps[step_seen++];
}

static void expect_data(const char *begins)
{
    cr_assert_eq(memcmp(next_step(DATA)->bytes, begins, strlen(begins)), 0);
}

static void expect_record(uint8_t type, const uint8_t *bytes, size_t len)
{
    const struct step *s = next_step(RECORD);

    cr_assert_eq(s->type, type);
    cr_assert_eq(s->len, len);
    cr_assert_eq(memcmp(s->bytes, bytes, len), 0);
}

static void expect_no_step(void)
{
    cr_assert_eq(step_seen, step_count, "a step of kind %d", steps[step_seen].what);
}

#define EXPECT_STAT(t, stat, value) cr_assert_eq(stat_of(&(t)->rig, NET_STAT_##stat), value)
#define HELLO "\x81\x05hello"

static const struct how plain_13 = {.version = TLS_VERSION_1_3, .suites = ALL_SUITES};
static const struct how plain_12 = {.version = TLS_VERSION_1_2, .suites = ALL_SUITES};

/* A WebSocket whose sending the kernel has. */
static void talk_open(struct talk *t, const struct how *how)
{
    talk_begin(t, how);
    say_request(t);
    next_step(KEY);
    expect_data("HTTP/1.1 101 ");
    say_hello(t);
    expect_data(HELLO);
    expect_no_step();
    EXPECT_STAT(t, KTLS_CONNECTIONS, 1);
}

/* Begin ---------------------------------------------------------------------------------------- */

Test(conn_ktls, the_kernel_gets_the_key_and_then_what_is_sent_as_it_is)
{
    const struct how *const hows[] = {&plain_12, &plain_13};

    for (int i = 0; i < 2; i++) {
        struct talk t;
        union tls_ktls_info info;

        step_seen = step_count = 0;
        talk_begin(&t, hows[i]);
        size_t len = tls_ktls_info(&t.conn->tls->record, &info);
        say_request(&t);
        const struct step *key = next_step(KEY);
        cr_assert_eq(key->len, len);
        cr_assert_eq(memcmp(key->bytes, &info, len), 0);
        expect_data("HTTP/1.1 101 ");
        say_hello(&t);
        expect_data(HELLO);
        EXPECT_STAT(&t, KTLS_STARTED, 1);
        EXPECT_STAT(&t, KTLS_CONNECTIONS, 1);
        EXPECT_STAT(&t, TLS_RECORDS_OUT, 0);
        EXPECT_STAT(&t, SENT_BYTES, stat_of(&t.rig, NET_STAT_KTLS_BYTES));
        sim_client_close(t.client.sim);
        turns(&t.rig, 20);
        EXPECT_STAT(&t, KTLS_CONNECTIONS, 0);
        talk_end(&t);
    }
}

/* What we have sealed, or wolfSSL, must be in the socket before the kernel seals. */
Test(conn_ktls, the_flight_of_the_handshake_leaves_before_the_key)
{
    struct talk t;

    talk_begin(&t, &(struct how){TLS_VERSION_1_3, ALL_SUITES, 0, 0, "flight"});
    say_request(&t);
    expect_data("flight");
    next_step(KEY);
    expect_data("HTTP/1.1 101 ");
    talk_end(&t);
}

Test(conn_ktls, nothing_is_sent_until_the_kernel_has_answered)
{
    struct talk t;

    key_answer = 1;
    talk_begin(&t, &plain_13);
    say_request(&t);
    next_step(KEY);
    say_hello(&t);
    expect_no_step();
    EXPECT_STAT(&t, KTLS_CONNECTIONS, 0);
    told_key(&t, 0);
    cr_assert_eq(memcmp(next_step(DATA)->bytes, "HTTP/1.1 101 ", 13), 0);
    EXPECT_STAT(&t, KTLS_CONNECTIONS, 1);
    talk_end(&t);
}

/* The client's layer opens what ours has sealed, from its first record on. */
static void expect_sealed_answer(struct talk *t)
{
    struct tls_piece piece;

    client_recv(&t->client);
    struct bytes in = {t->client.in, t->client.in_len};
    cr_assert_eq(tls_record_open(t->peer, t->work, &in, &piece), TLS_RECORD_DATA);
    cr_assert_eq(memcmp(piece.data.ptr, "HTTP/1.1 101 ", 13), 0);
}

Test(conn_ktls, whatever_the_kernel_refuses_it_with_our_layer_goes_on)
{
    static const struct {
        int err;
        enum conn_ktls_fallback why;
    } rows[] = {
        {-ENOENT, CONN_KTLS_FALLBACK_NO_MODULE},   {-EOPNOTSUPP, CONN_KTLS_FALLBACK_UNSUPPORTED},
        {-EINVAL, CONN_KTLS_FALLBACK_UNSUPPORTED}, {-ENOPROTOOPT, CONN_KTLS_FALLBACK_UNSUPPORTED},
        {-ENOMEM, CONN_KTLS_FALLBACK_NO_MEMORY},   {-ENOBUFS, CONN_KTLS_FALLBACK_NO_MEMORY},
        {-ENOTCONN, CONN_KTLS_FALLBACK_SOCKET},    {-EEXIST, CONN_KTLS_FALLBACK_SOCKET},
        {-EBUSY, CONN_KTLS_FALLBACK_SOCKET},       {-EIO, CONN_KTLS_FALLBACK_OTHER},
    };

    for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
        bool at_once = i < ARRAY_LEN(rows);
        int err = rows[i % ARRAY_LEN(rows)].err;
        struct talk t;

        step_seen = step_count = 0;
        key_answer = at_once ? err : 1;
        talk_begin(&t, i % 2 == 0 ? &plain_12 : &plain_13);
        say_request(&t);
        next_step(KEY);
        if (!at_once)
            told_key(&t, err);
        next_step(DATA);
        expect_sealed_answer(&t);
        say_hello(&t);
        next_step(DATA);
        expect_no_step();
        EXPECT_STAT(&t, KTLS_FALLBACKS + rows[i % ARRAY_LEN(rows)].why, 1);
        EXPECT_STAT(&t, KTLS_STARTED, 0);
        EXPECT_STAT(&t, KTLS_CONNECTIONS, 0);
        EXPECT_STAT(&t, TLS_RECORDS_OUT, 2);
        talk_end(&t);
    }
}

Test(conn_ktls, a_suite_that_the_kernel_lacks_is_sealed_by_us)
{
    struct talk t;

    talk_begin(&t,
               &(struct how){TLS_VERSION_1_3,
                             ALL_SUITES & ~TLS_KTLS_SUITE(TLS_VERSION_1_3, TLS_AEAD_AES_128_GCM), 0,
                             0, NULL});
    say_request(&t);
    next_step(DATA);
    expect_sealed_answer(&t);
    EXPECT_STAT(&t, KTLS_FALLBACKS + CONN_KTLS_FALLBACK_SUITE, 1);
    talk_end(&t);
}

Test(conn_ktls, short_records_are_sealed_by_us)
{
    struct talk t;

    talk_begin(&t, &(struct how){TLS_VERSION_1_3, ALL_SUITES, 0, 512, NULL});
    say_request(&t);
    next_step(DATA);
    expect_sealed_answer(&t);
    EXPECT_STAT(&t, KTLS_FALLBACKS + CONN_KTLS_FALLBACK_SHORT_RECORDS, 1);
    talk_end(&t);
}

Test(conn_ktls, without_it_the_kernel_is_not_asked)
{
    struct talk t;

    talk_begin(&t, &(struct how){.version = TLS_VERSION_1_3});
    say_request(&t);
    next_step(DATA);
    expect_sealed_answer(&t);
    for (int i = 0; i < CONN_KTLS_FALLBACK_COUNT; i++)
        EXPECT_STAT(&t, KTLS_FALLBACKS + i, 0);
    talk_end(&t);
}

/* New keys ------------------------------------------------------------------------------------- */

static void ask_for_a_key(struct talk *t, bool request)
{
    tls_record_update(t->peer, request);
    say(t, NULL, 0);
}

/* The peer's own new key is followed in any case; what is asked of us leaves with the next data. */
Test(conn_ktls, a_key_that_is_asked_for_goes_update_key_data)
{
    struct talk t;

    talk_open(&t, &plain_13);
    for (int i = 0; i < 3; i++) {
        uint8_t last[80];

        memcpy(last, steps[0].bytes, sizeof(last));
        ask_for_a_key(&t, true);
        expect_no_step();
        say_hello(&t);
        expect_record(22, (uint8_t[]){24, 0, 0, 1, 0}, 5);
        const struct step *key = next_step(NEXT_KEY);
        cr_assert_eq(key->len, sizeof(struct tls12_crypto_info_aes_gcm_128));
        cr_assert_neq(memcmp(key->bytes + 12, last + 12, 16), 0, "the same key");
        cr_assert_eq(memcmp(key->bytes + 32, (uint8_t[8]){0}, 8), 0, "it begins with record 0");
        expect_data(HELLO);
        EXPECT_STAT(&t, KTLS_REKEYED, i + 1u);
    }
    ask_for_a_key(&t, false);
    say_hello(&t);
    expect_data(HELLO);
    expect_no_step();
    talk_end(&t);
}

Test(conn_ktls, data_waits_for_the_update_and_for_the_key)
{
    struct talk t;

    talk_open(&t, &plain_13);
    record_answer = next_key_answer = 1;
    ask_for_a_key(&t, true);
    say_hello(&t);
    next_step(RECORD);
    say_hello(&t);
    expect_no_step();
    told_sent(&t);
    next_step(NEXT_KEY);
    say_hello(&t);
    expect_no_step();
    EXPECT_STAT(&t, KTLS_REKEYED, 0);
    told_key(&t, 0);
    expect_data(HELLO);
    EXPECT_STAT(&t, KTLS_REKEYED, 1);
    record_answer = 0;
    talk_end(&t);
}

/* The peer waits for records under the next key: neither we nor the kernel can say anything. */
Test(conn_ktls, a_refused_next_key_ends_the_connection_without_a_word)
{
    for (int later = 0; later < 2; later++) {
        struct talk t;

        step_seen = step_count = 0;
        talk_open(&t, &plain_13);
        next_key_answer = later ? 1 : -ENOMEM;
        ask_for_a_key(&t, true);
        say_hello(&t);
        next_step(RECORD);
        next_step(NEXT_KEY);
        if (later)
            told_key(&t, -ENOMEM);
        expect_no_step();
        turns(&t.rig, 20);
        EXPECT_STAT(&t, KTLS_REKEY_FAILED, 1);
        EXPECT_STAT(&t, ENDS + CONN_END_SEND_ERROR, 1);
        EXPECT_STAT(&t, KTLS_CONNECTIONS, 0);
        cr_assert(client_was_ended(&t.client));
        next_key_answer = 0;
        talk_end(&t);
    }
}

/* All messages of the size of a key that are to be had. Returns how many. */
static int take_messages(struct message_pool *mp, struct message **all, int max)
{
    int count = 0;

    mp->classes[0].slots_max = mp->classes[0].per_chunk * mp->classes[0].chunk_count;
    while ((all[count] = message_new(mp, sizeof(union tls_ktls_info))) != NULL)
        cr_assert_lt(++count, max);
    return count;
}

Test(conn_ktls, without_memory_for_the_next_key_nobody_has_refused_it)
{
    struct message *taken[4096];
    struct talk t;

    talk_open(&t, &plain_13);
    ask_for_a_key(&t, true);
    record_answer = 1;
    say_hello(&t);
    next_step(RECORD);
    t.conn->io.events->on_sent(&t.conn->io, 0);
    struct message_pool *mp = &net_of(&t.rig)->shard->messages;
    int count = take_messages(mp, taken, ARRAY_LEN(taken));
    turns(&t.rig, 20);
    expect_no_step();
    EXPECT_STAT(&t, KTLS_REKEYED, 0);
    EXPECT_STAT(&t, KTLS_REKEY_FAILED, 0);
    EXPECT_STAT(&t, ENDS + CONN_END_NO_MEMORY, 1);
    EXPECT_STAT(&t, KTLS_CONNECTIONS, 0);
    cr_assert(client_was_ended(&t.client));
    while (count > 0)
        message_free(mp, taken[--count]);
    record_answer = 0;
    talk_end(&t);
}

/* 2^4 records, of which the answer and the first echo are two. */
Test(conn_ktls, a_key_of_1_3_that_is_used_up_is_changed)
{
    struct talk t;

    talk_open(&t, &(struct how){TLS_VERSION_1_3, ALL_SUITES, 4, 0, NULL});
    for (int i = 2; i < 16; i++) {
        say_hello(&t);
        expect_data(HELLO);
    }
    say_hello(&t);
    expect_record(22, (uint8_t[]){24, 0, 0, 1, 0}, 5);
    next_step(NEXT_KEY);
    expect_data(HELLO);
    EXPECT_STAT(&t, KTLS_REKEYED, 1);
    talk_end(&t);
}

Test(conn_ktls, a_key_of_1_2_that_is_used_up_ends_the_connection_in_good_order)
{
    struct talk t;

    talk_open(&t, &(struct how){TLS_VERSION_1_2, ALL_SUITES, 4, 0, NULL});
    for (int i = 2; i < 16; i++) {
        say_hello(&t);
        expect_data(HELLO);
    }
    turns(&t.rig, 5);
    expect_data("\x88"); /* the close frame: 1012 */
    EXPECT_STAT(&t, ENDS + CONN_END_TLS_WORN, 1);
    say_close(&t);
    expect_record(21, (uint8_t[]){1, 0}, 2);
    talk_end(&t);
}

/* End ------------------------------------------------------------------------------------------ */

Test(conn_ktls, the_last_record_is_close_notify)
{
    const struct how *const hows[] = {&plain_12, &plain_13};

    for (int i = 0; i < 2; i++) {
        struct talk t;

        step_seen = step_count = 0;
        talk_open(&t, hows[i]);
        say_close(&t);
        expect_data("\x88\x02\x03\xe8");
        expect_record(21, (uint8_t[]){1, 0}, 2);
        expect_no_step();
        cr_assert(client_was_ended(&t.client));
        talk_end(&t);
    }
}

Test(conn_ktls, the_end_waits_for_close_notify_to_leave)
{
    struct talk t;

    talk_open(&t, &plain_13);
    record_answer = 1;
    say_close(&t);
    expect_data("\x88\x02\x03\xe8");
    next_step(RECORD);
    turns(&t.rig, 20);
    cr_assert_not(client_was_ended(&t.client));
    told_sent(&t);
    expect_no_step();
    turns(&t.rig, 20);
    cr_assert(client_was_ended(&t.client));
    record_answer = 0;
    talk_end(&t);
}

Test(conn_ktls, a_wrong_record_is_told_by_its_alert)
{
    const struct how *const hows[] = {&plain_12, &plain_13};

    for (int i = 0; i < 2; i++) {
        struct talk t;
        uint8_t wrong[5 + 40] = {23, 3, 3, 0, 40};

        step_seen = step_count = 0;
        talk_open(&t, hows[i]);
        client_send(&t.rig, &t.client, wrong, sizeof(wrong));
        turns(&t.rig, 10);
        expect_record(21, (uint8_t[]){2, 20}, 2);
        expect_no_step();
        EXPECT_STAT(&t, TLS_REASONS + TLS_REASON_BAD_TAG, 1);
        talk_end(&t);
    }
}

/* A key that was asked for is given before the last record, which the peer opens by it. */
Test(conn_ktls, an_end_between_update_and_key_gives_the_key_first)
{
    struct talk t;
    uint8_t wrong[5 + 40] = {23, 3, 3, 0, 40};

    talk_open(&t, &plain_13);
    record_answer = 1;
    ask_for_a_key(&t, true);
    say_hello(&t);
    next_step(RECORD);
    client_send(&t.rig, &t.client, wrong, sizeof(wrong)); /* what waits is dropped */
    turns(&t.rig, 10);
    expect_no_step();
    record_answer = 0;
    told_sent(&t);
    next_step(NEXT_KEY);
    expect_record(21, (uint8_t[]){2, 20}, 2);
    expect_no_step();
    talk_end(&t);
}

Test(conn_ktls, one_that_ends_while_the_kernel_answers_says_goodbye_by_it)
{
    struct talk t;

    key_answer = 1;
    talk_begin(&t, &plain_13);
    say_request(&t);
    next_step(KEY);
    say_close(&t);
    expect_no_step();
    told_key(&t, 0);
    expect_data("HTTP/1.1 101 ");
    turns(&t.rig, 10);
    const struct step *last = &steps[step_count - 1];
    cr_assert_eq(last->what, RECORD);
    cr_assert_eq(last->type, 21);
    talk_end(&t);
}

/* Nothing of ours is left under way: talk_end() asserts that. */
Test(conn_ktls, one_that_is_reset_while_the_kernel_answers_leaves_nothing)
{
    struct talk t;

    key_answer = 1;
    talk_begin(&t, &plain_13);
    say_request(&t);
    next_step(KEY);
    cr_assert_gt(net_of(&t.rig)->tls->sealed_bytes, 0);
    sim_client_reset(t.client.sim);
    pass(&t.rig, 10 * NS_PER_SEC);
    cr_assert_eq(net_of(&t.rig)->tls->sealed_bytes, 0);
    talk_end(&t);
}

/* One that ends with its first answer is not worth a key. */
Test(conn_ktls, an_answer_that_is_the_last_is_sealed_by_us)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct talk t;

    talk_begin(&t, &plain_13);
    say(&t, request, sizeof(request) - 1);
    cr_assert_gt(step_count, 0);
    for (int i = 0; i < step_count; i++)
        cr_assert_eq(steps[i].what, DATA);
    EXPECT_STAT(&t, KTLS_STARTED, 0);
    cr_assert_gt(stat_of(&t.rig, NET_STAT_TLS_RECORDS_OUT), 0);
    talk_end(&t);
}
