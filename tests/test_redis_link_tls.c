/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A link by TLS on the simulated network, which cuts and delays bytes as it likes; OpenSSL is the
 * server, and answers every command by +OK. */

#include "net/tls_client.h"
#include "tests/redis_fixture.h"
#include "tests/tls_server_rig.h"

#define WIRE_MAX (256u << 10)

struct tls_rig {
    struct link_rig *r;
    struct rig_cert authority, cert;
    struct tls_client *client;
    SSL_CTX *context;
    struct io *io;
    struct io_listener listener;
    struct io_conn conn;
    SSL *ssl; /* of the connection; NULL: none */
    bool is_silent;
    bool closes_after_words;
    char plain[4096]; /* the beginning of what was decrypted, of all connections */
    size_t plain_len;
    uint32_t commands;
    int reason; /* of OpenSSL's last error */
    bool said_goodbye;
    uint8_t wire[WIRE_MAX];
    bool is_sending;
};

static struct tls_rig *rig_of_conn(struct io_conn *c)
{
    return container_of(c, struct tls_rig, conn);
}

static void server_send(struct tls_rig *t)
{
    struct iovec iov = {t->wire, 0};

    if (t->is_sending || t->ssl == NULL)
        return;
    iov.iov_len = rig_from_server(t->ssl, t->wire, WIRE_MAX);
    if (iov.iov_len > 0)
        t->is_sending = io_send(t->io, &t->conn, &iov, 1, iov.iov_len) == IO_PENDING;
    if (iov.iov_len > 0 && !t->is_sending)
        server_send(t);
}

/* Every command is an array. */
static void answer(struct tls_rig *t, const char *bytes, size_t len)
{
    size_t n;

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != '*')
            continue;
        t->commands++;
        if (!t->is_silent)
            cr_assert_eq(SSL_write_ex(t->ssl, "+OK\r\n", 5, &n), 1);
    }
}

static void server_recv(struct io_conn *c, struct bytes in)
{
    struct tls_rig *t = rig_of_conn(c);
    char plain[4096];
    size_t n;

    rig_to_server(t->ssl, in);
    while (SSL_read_ex(t->ssl, plain, sizeof(plain), &n) == 1) {
        size_t kept = min_size(n, sizeof(t->plain) - t->plain_len);
        memcpy(t->plain + t->plain_len, plain, kept);
        t->plain_len += kept;
        answer(t, plain, n);
    }
    int reason = rig_reason();
    if (reason != 0)
        t->reason = reason;
    if (SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN)
        t->said_goodbye = t->reason == 0;
    server_send(t);
    if (t->closes_after_words)
        io_close(t->io, c, false);
}

static void server_eof(struct io_conn *c, int err)
{
    (void)err;
    io_close(rig_of_conn(c)->io, c, false);
}

static void server_sent(struct io_conn *c, int err)
{
    struct tls_rig *t = rig_of_conn(c);

    t->is_sending = false;
    if (err == 0)
        server_send(t);
}

static void server_closed(struct io_conn *c)
{
    struct tls_rig *t = rig_of_conn(c);

    SSL_free(t->ssl);
    t->ssl = NULL;
    t->is_sending = false;
}

static const struct io_events server_events = {.on_recv = server_recv,
                                               .on_eof = server_eof,
                                               .on_sent = server_sent,
                                               .on_closed = server_closed};

static struct io_conn *server_accept(struct io_listener *l, const struct io_addr *peer)
{
    struct tls_rig *t = container_of(l, struct tls_rig, listener);

    (void)peer;
    if (t->ssl != NULL)
        return NULL;
    t->ssl = rig_accept(t->context, 0, NULL);
    t->conn.events = &server_events;
    return &t->conn;
}

/* The last connection is not over yet: the link tries again. */
static void server_refuse(struct io_listener *l, struct io_ticket ticket,
                          const struct io_addr *peer)
{
    (void)peer;
    io_discard(container_of(l, struct tls_rig, listener)->io, ticket, NULL, 0);
}

static const struct io_listener_events listener_events = {.on_accept = server_accept,
                                                          .on_ticket = server_refuse};

static struct tls_client *trusting(const struct rig_cert *authority)
{
    struct tls_client_config cfg = {.ca_file = authority->cert_file};
    char complaint[TLS_COMPLAINT_MAX];
    struct tls_client *client;

    cr_assert_eq(tls_client_new(&cfg, &client, complaint), 0, "%s", complaint);
    return client;
}

/* Faults of a network that gets a handshake through in seconds. */
static const struct sim_faults *draw(struct sim_faults *faults, uint64_t seed, bool harsh)
{
    sim_faults_draw(faults, seed, harsh);
    faults->buffer_min_bytes += 100;
    faults->buffer_max_bytes += 200;
    faults->accept_error = faults->adopt_error = 0;
    return faults;
}

/* The link is not made yet. */
static struct tls_rig *tls_rig_new(uint64_t seed, const struct sim_faults *faults,
                                   const char *names)
{
    struct tls_rig *t = calloc(1, sizeof(*t));
    struct io_config cfg = {.conns_max = 10};

    t->r = link_rig_new(seed, faults, REDIS_ROLE_COMMAND);
    sim_redis_stop(&t->r->redis);
    t->authority = rig_cert_new(NULL, NULL, false, -2, 60);
    t->cert = rig_cert_new(&t->authority, names, false, -2, 60);
    t->context = rig_server(&t->cert, NULL);
    t->client = trusting(&t->authority);
    cr_assert_eq(io_sim_new(t->r->net, &cfg, &t->io), 0);
    cr_assert_eq(io_start(t->io), 0);
    t->listener.events = &listener_events;
    cr_assert_eq(
        io_listen(t->io, &t->listener, sim_net_listen(t->r->net, &t->r->redis.address, 16)), 0);
    t->r->config.tls = t->client;
    t->r->config.user = "alice";
    t->r->config.password = "hunter2hunter2";
    return t;
}

static void turn(struct tls_rig *t)
{
    cr_assert_geq(io_poll(t->io, 0), 0);
    link_rig_step(t->r, sim_net_now(t->r->net) + NS_PER_MS);
}

#define turn_until(t, condition)                                                                   \
    do {                                                                                           \
        uint64_t end_ns_ = sim_net_now((t)->r->net) + 60 * NS_PER_SEC;                             \
        while (!(condition)) {                                                                     \
            cr_assert_lt(sim_net_now((t)->r->net), end_ns_, "not in time: %s; %s", #condition,     \
                         (t)->r->text);                                                            \
            turn(t);                                                                               \
        }                                                                                          \
    } while (0)

static void tls_rig_free(struct tls_rig *t)
{
    redis_link_stop(&t->r->link);
    turn_until(t, redis_link_is_idle(&t->r->link) && t->ssl == NULL);
    io_unlisten(t->io, &t->listener);
    io_free(t->io);
    link_rig_free(t->r);
    tls_client_free(t->client);
    SSL_CTX_free(t->context);
    rig_cert_free(&t->cert);
    rig_cert_free(&t->authority);
    free(t);
}

Test(redis_link_tls, commands_are_answered_in_order_whatever_the_network_does)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim_faults faults;
        struct tls_rig *t =
            tls_rig_new(seed, seed % 4 == 0 ? NULL : draw(&faults, seed, false), "IP:127.0.0.1");
        t->r->config.connect_timeout_ns = 60 * NS_PER_SEC;
        link_rig_link(t->r);
        turn_until(t, t->r->ups == 1);
        cr_assert_eq(t->r->link.stats.tls_handshakes, 1);
        cr_assert_eq(strncmp(t->plain, "*3\r\n$4\r\nAUTH\r\n$5\r\nalice\r\n$14\r\nhunter2", 37), 0);
        for (uint64_t tag = 0; tag < 60; tag++) {
            struct redis_arg args[] = {arg_of("room"), arg_of("")};
            args[1].body = message_of(t->r, (uint32_t)(tag * 977 % (seed % 4 == 0 ? 20000 : 1500)));
            for (uint32_t i = 0; i < args[1].body->payload_len; i++)
                message_payload(args[1].body)[i] = '.';
            cr_assert_eq(redis_link_command(&t->r->link, "PUBLISH", args, 2, tag), 0);
            if (tag % 7 == 0)
                turn(t);
        }
        turn_until(t, t->r->replies_count == 60);
        for (uint64_t tag = 0; tag < 60; tag++)
            cr_assert(t->r->replies[tag].tag == tag && !t->r->replies[tag].lost);
        cr_assert_eq(t->r->downs, 0);
        cr_assert_gt(t->r->link.stats.sent_bytes, seed % 4 == 0 ? 60 * 5000 : 60 * 500);
        tls_rig_free(t);
    }
}

Test(redis_link_tls, whoever_stops_says_close_notify)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_faults faults;
        struct tls_rig *t =
            tls_rig_new(seed, seed % 2 == 0 ? NULL : draw(&faults, seed, false), "IP:127.0.0.1");
        t->r->config.connect_timeout_ns = 60 * NS_PER_SEC;
        link_rig_link(t->r);
        turn_until(t, t->r->ups == 1 && !t->r->link.sending);
        redis_link_stop(&t->r->link);
        turn_until(t, redis_link_is_idle(&t->r->link) && t->ssl == NULL);
        cr_assert(t->said_goodbye);
        cr_assert_eq(t->r->why, REDIS_DOWN_STOPPED);
        tls_rig_free(t);
    }
}

/* The server reads no more, and the network has room for the beginning of close_notify only. */
Test(redis_link_tls, last_words_that_nobody_takes_hold_the_end_up_for_a_moment)
{
    enum { ROOM = 2000, LEFT = 12 };
    const struct sim_faults faults = {.buffer_min_bytes = ROOM, .buffer_max_bytes = ROOM};
    struct tls_rig *t = tls_rig_new(1, &faults, "IP:127.0.0.1");
    char text[ROOM] = "";
    uint64_t before, record, now_ns;

    link_rig_link(t->r);
    turn_until(t, t->r->ups == 1 && !t->r->link.sending);
    before = t->r->link.stats.sent_bytes;
    cr_assert_eq(publish(t->r, "room", "", 0), 0);
    redis_link_flush(&t->r->link);
    record = t->r->link.stats.sent_bytes - before;
    memset(text, '.', ROOM - LEFT - 2 * record - 3); /* whose length has three digits more */
    cr_assert_eq(publish(t->r, "room", text, 1), 0);
    redis_link_flush(&t->r->link);
    cr_assert_eq(t->r->link.stats.sent_bytes - before, ROOM - LEFT);
    cr_assert(!t->r->link.sending);
    redis_link_stop(&t->r->link);
    cr_assert(t->r->link.sending);
    sim_net_retire(t->r->net, t->io);
    now_ns = sim_net_now(t->r->net);
    link_rig_until(t->r, redis_link_is_idle(&t->r->link));
    cr_assert_leq(sim_net_now(t->r->net) - now_ns, 101 * NS_PER_MS);
    tls_rig_free(t);
}

Test(redis_link_tls, what_is_sealed_when_it_ends_was_sent_and_the_rest_was_not)
{
    struct tls_rig *t = tls_rig_new(1, NULL, "IP:127.0.0.1");

    link_rig_link(t->r);
    turn_until(t, t->r->ups == 1);
    t->is_silent = true;
    for (uint64_t tag = 0; tag < 3; tag++)
        cr_assert_eq(publish(t->r, "room", "sent", tag), 0);
    redis_link_flush(&t->r->link);
    for (uint64_t tag = 3; tag < 5; tag++)
        cr_assert_eq(publish(t->r, "room", "unsent", tag), 0);
    redis_link_reopen(&t->r->link, "test");
    cr_assert_eq(t->r->replies_count, 5);
    for (uint64_t tag = 0; tag < 5; tag++)
        cr_assert(t->r->replies[tag].lost && t->r->replies[tag].was_sent == (tag < 3), "%lu", tag);
    t->is_silent = false;
    turn_until(t, t->r->ups == 2);
    cr_assert_eq(t->r->link.stats.tls_handshakes, 2);
    tls_rig_free(t);
}

/* The first attempt comes down so, nothing but TLS was sent in it, and the log says these words. */
static void expect_down(struct tls_rig *t, enum redis_down why, const char *words)
{
    link_rig_link(t->r);
    turn_until(t, t->r->downs == 1);
    cr_assert_eq(t->r->why, why, "%s: %s", redis_down_label(t->r->why), t->r->text);
    cr_assert_not_null(strstr(t->r->text, words), "%s", t->r->text);
    cr_assert(!t->r->was_up);
    cr_assert_eq(t->r->ups, 0);
    cr_assert_eq(t->plain_len, 0, "no password");
    cr_assert_eq(t->r->link.stats.downs[why], 1);
}

Test(redis_link_tls, an_authority_that_is_not_known_ends_it_before_the_password_by_an_alert)
{
    struct tls_rig *t = tls_rig_new(1, NULL, "IP:127.0.0.1");
    struct rig_cert other = rig_cert_new(NULL, NULL, false, -2, 60);

    tls_client_replace(t->client, trusting(&other));
    expect_down(t, REDIS_DOWN_TLS, "--redis-ca");
    turn_until(t, t->reason == SSL_R_TLSV1_ALERT_UNKNOWN_CA);
    tls_client_replace(t->client, trusting(&t->authority));
    turn_until(t, t->r->ups == 1);
    rig_cert_free(&other);
    tls_rig_free(t);
}

Test(redis_link_tls, a_certificate_is_for_the_host_of_the_endpoint)
{
    struct tls_rig *t = tls_rig_new(1, NULL, "IP:127.0.0.2,DNS:localhost");

    expect_down(t, REDIS_DOWN_TLS, "another name");
    tls_rig_free(t);
}

Test(redis_link_tls, a_server_that_says_nothing_is_a_timeout_with_a_hint)
{
    struct tls_rig *t = tls_rig_new(1, NULL, "IP:127.0.0.1");

    t->is_sending = true; /* for ever */
    expect_down(t, REDIS_DOWN_TIMEOUT, "use redis://");
    tls_rig_free(t);
}

Test(redis_link_tls, a_server_that_ends_it_within_the_handshake_is_told)
{
    struct tls_rig *t = tls_rig_new(1, NULL, "IP:127.0.0.1");

    t->is_sending = true;
    t->closes_after_words = true;
    expect_down(t, REDIS_DOWN_TLS, "within the TLS handshake");
    t->closes_after_words = false;
    t->is_sending = false;
    turn_until(t, t->r->ups == 1);
    tls_rig_free(t);
}

Test(redis_link_tls, without_tls_a_server_that_ends_it_without_a_word_may_want_it)
{
    struct tls_rig *t = tls_rig_new(1, NULL, "IP:127.0.0.1");

    t->r->config.tls = NULL;
    link_rig_link(t->r);
    t->closes_after_words = true;
    t->is_sending = true;
    turn_until(t, t->r->downs == 1);
    cr_assert(t->r->why == REDIS_DOWN_CLOSED || t->r->why == REDIS_DOWN_RESET);
    cr_assert_not_null(strstr(t->r->text, "use rediss://"), "%s", t->r->text);
    cr_assert_eq(t->r->link.stats.tls_handshakes, 0);
    tls_rig_free(t);
}

/* Every command is answered or lost exactly once, in order, through ends of all kinds. */
Test(redis_link_tls, nothing_is_told_twice_whatever_happens)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct sim_faults faults;
        uint64_t tag = 0;
        struct tls_rig *t = tls_rig_new(seed, draw(&faults, seed, true), "IP:127.0.0.1");
        link_rig_link(t->r);
        for (uint32_t i = 0; i < 800 && tag < TOLD_MAX / 2; i++) {
            uint64_t dice = sim_net_below(t->r->net, 1000);
            if (dice < 400 && publish(t->r, "room", "hello", tag) == 0)
                tag++;
            else if (dice == 500)
                redis_link_reopen(&t->r->link, "storm");
            else if (dice < 504 && t->ssl != NULL)
                io_close(t->io, &t->conn, dice == 502);
            else if (dice == 510)
                t->is_silent = !t->is_silent;
            else if (dice == 511) {
                redis_link_stop(&t->r->link);
                redis_link_start(&t->r->link);
            }
            cr_assert_geq(io_poll(t->io, 0), 0);
            link_rig_step(t->r, sim_net_now(t->r->net) + 20 * NS_PER_MS);
        }
        t->is_silent = false;
        sim_net_set_faults(t->r->net, NULL);
        redis_link_reopen(&t->r->link, "calm");
        turn_until(t, redis_link_is_up(&t->r->link) && t->r->link.unanswered == 0);
        cr_assert_eq(t->r->replies_count, tag);
        for (uint64_t i = 0; i < tag; i++)
            cr_assert_eq(t->r->replies[i].tag, i);
        tls_rig_free(t);
    }
}
