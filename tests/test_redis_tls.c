/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* TLS of a link as bytes in and bytes out, with OpenSSL as the server. The module is compiled in
 * here, so that its allocations are seen and a key can be worn out. */

#include <stdlib.h>

static unsigned allocations;

static void *counted_malloc(size_t n)
{
    allocations++;
    return malloc(n);
}

static void *counted_realloc(void *p, size_t n)
{
    allocations++;
    return realloc(p, n);
}

#define malloc counted_malloc
#define realloc counted_realloc
#include "pubsub/redis_tls.c"
#undef malloc
#undef realloc

#include "tests/tls_server_rig.h"

#define WIRE_MAX (1u << 20)

struct rig {
    struct rig_cert authority, cert;
    SSL_CTX *server;
    struct tls_client *client;
    struct redis_tls *tls;
    SSL *ssl;
    struct redis_out out;
    struct message_pool messages;
    uint8_t *wire, *plain; /* WIRE_MAX bytes */
    size_t plain_len;      /* that the client has been told */
    unsigned ups;
};

static void release(void *ctx, struct message *m)
{
    message_free(&((struct rig *)ctx)->messages, m);
}

static struct tls_client *client_of(const char *ca, const struct rig_cert *own)
{
    struct tls_client_config cfg = {.ca_file = ca,
                                    .cert_file = own != NULL ? own->cert_file : NULL,
                                    .key_file = own != NULL ? own->key_file : NULL};
    char complaint[TLS_COMPLAINT_MAX];
    struct tls_client *client;

    cr_assert_eq(tls_client_new(&cfg, &client, complaint), 0, "%s", complaint);
    return client;
}

/* A server of that certificate, trusted by the client. */
static void rig_init(struct rig *r, const char *names, bool rsa)
{
    memset(r, 0, sizeof(*r));
    r->authority = rig_cert_new(NULL, NULL, rsa, -2, 60);
    r->cert = rig_cert_new(&r->authority, names, rsa, -2, 60);
    r->server = rig_server(&r->cert, NULL);
    r->client = client_of(r->authority.cert_file, NULL);
    r->wire = malloc(WIRE_MAX);
    r->plain = malloc(WIRE_MAX);
    message_pool_init(&r->messages, 0);
    redis_out_init(&r->out, release, r);
}

static void rig_begin(struct rig *r, const char *name, int version, const char *suite)
{
    r->ssl = rig_accept(r->server, version, suite);
    r->tls = redis_tls_new(r->client, name);
    cr_assert_not_null(r->tls);
    r->ups = 0;
    r->plain_len = 0;
}

static void rig_end(struct rig *r)
{
    redis_tls_free(r->tls);
    redis_out_clear(&r->out);
    SSL_free(r->ssl);
    ERR_clear_error();
}

static void rig_deinit(struct rig *r)
{
    tls_client_free(r->client);
    SSL_CTX_free(r->server);
    rig_cert_free(&r->cert);
    rig_cert_free(&r->authority);
    message_pool_deinit(&r->messages);
    free(r->wire);
    free(r->plain);
}

/* Has the client read one piece. Returns what ended that. */
static enum redis_tls_status hear(struct rig *r, uint8_t *ptr, size_t len)
{
    struct bytes in = {ptr, len}, plain;
    enum redis_tls_status st;

    while ((st = redis_tls_open(r->tls, &in, &plain)) == REDIS_TLS_DATA || st == REDIS_TLS_UP) {
        r->ups += st == REDIS_TLS_UP;
        if (st != REDIS_TLS_DATA)
            continue;
        cr_assert_gt(plain.len, 0);
        memcpy(r->plain + r->plain_len, plain.ptr, plain.len);
        r->plain_len += plain.len;
    }
    if (st == REDIS_TLS_MORE)
        cr_assert_eq(in.len, 0, "all is taken");
    return st;
}

/* What the server has to say, in pieces of `step`. */
static enum redis_tls_status hear_all(struct rig *r, size_t step)
{
    enum redis_tls_status st = REDIS_TLS_MORE;
    size_t n;

    while (st == REDIS_TLS_MORE && (n = rig_from_server(r->ssl, r->wire, step)) > 0)
        st = hear(r, r->wire, n);
    return st;
}

/* Sends all that there is. Returns how many bytes of commands went. */
static size_t say_all(struct rig *r)
{
    size_t taken, sum = 0;
    struct bytes sealed;

    while ((sealed = redis_tls_seal(r->tls, &r->out, &taken)).len > 0) {
        rig_to_server(r->ssl, sealed);
        sum += taken;
    }
    return sum;
}

static enum redis_tls_status shake_hands(struct rig *r, size_t step)
{
    enum redis_tls_status st = REDIS_TLS_MORE;

    for (int i = 0; i < 6 && st == REDIS_TLS_MORE; i++) {
        say_all(r);
        (void)SSL_do_handshake(r->ssl);
        st = hear_all(r, step);
    }
    return st;
}

static void rig_up(struct rig *r, const char *name, int version, const char *suite)
{
    rig_begin(r, name, version, suite);
    cr_assert_eq(shake_hands(r, 4096), REDIS_TLS_MORE, "%s", redis_tls_problem(r->tls));
    cr_assert_eq(r->ups, 1);
}

/* A command of `len` bytes of payload. */
static void command(struct rig *r, uint32_t len)
{
    struct message *m = message_new(&r->messages, len);
    struct redis_arg arg = {.body = m};

    cr_assert_not_null(m);
    for (uint32_t i = 0; i < len; i++)
        message_payload(m)[i] = (uint8_t)('a' + (len + i) % 26);
    cr_assert_eq(redis_out_add(&r->out, "ECHO", &arg, 1), 0);
}

/* The server reads exactly that command. */
static void expect_command(struct rig *r, uint32_t len)
{
    char head[64];
    size_t head_len = (size_t)snprintf(head, sizeof(head), "*2\r\n$4\r\nECHO\r\n$%u\r\n", len);
    size_t want = head_len + len + 2, got = 0, n;

    while (got < want && SSL_read_ex(r->ssl, r->wire + got, want - got, &n) == 1)
        got += n;
    cr_assert_eq(got, want, "%zu of %zu", got, want);
    cr_assert_arr_eq(r->wire, head, head_len);
    for (uint32_t i = 0; i < len; i++)
        cr_assert_eq(r->wire[head_len + i], (uint8_t)('a' + (len + i) % 26), "byte %u", i);
}

/* The server says so many bytes that depend on `mark`; the client hears them in such pieces. */
static void answer(struct rig *r, size_t len, uint8_t mark, size_t step)
{
    uint8_t *text = malloc(len);
    size_t n;

    for (size_t i = 0; i < len; i++)
        text[i] = (uint8_t)(mark + i);
    cr_assert_eq(SSL_write_ex(r->ssl, text, len, &n), 1);
    r->plain_len = 0;
    cr_assert_eq(hear_all(r, step), REDIS_TLS_MORE, "%s", redis_tls_problem(r->tls));
    cr_assert_eq(r->plain_len, len);
    cr_assert_arr_eq(r->plain, text, len);
    free(text);
}

static const struct {
    int version;
    const char *name;
    bool rsa;
} suites[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", false},
    {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", true},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", false},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", false},
    {TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", true},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", false},
};

Test(redis_tls, commands_and_answers_go_through_with_every_suite_in_any_pieces)
{
    static const size_t steps[] = {1, 7, 1460, WIRE_MAX};
    static const uint32_t sizes[] = {0, 1, 1024, 1025, 16383, 16384, 16385, 100000};

    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        struct rig r;
        rig_init(&r, "DNS:redis.example", suites[i].rsa);
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            rig_begin(&r, "redis.example", suites[i].version, suites[i].name);
            cr_assert_eq(shake_hands(&r, steps[k]), REDIS_TLS_MORE);
            cr_assert_eq(r.ups, 1);
            for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
                command(&r, sizes[s]);
            cr_assert_gt(say_all(&r), 100000);
            cr_assert_eq(r.out.bytes, 0);
            for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
                expect_command(&r, sizes[s]);
            for (size_t s = 1; s < ARRAY_LEN(sizes); s++)
                answer(&r, sizes[s], (uint8_t)s, steps[k]);
            rig_end(&r);
        }
        rig_deinit(&r);
    }
}

Test(redis_tls, same_plaintext_wherever_records_are_cut)
{
    struct rig r;
    rig_init(&r, "DNS:localhost", false);
    rig_up(&r, "localhost", TLS1_3_VERSION, NULL);
    size_t total = 3;
    for (size_t cut = 1; cut < total; cut++) {
        size_t n;
        cr_assert_eq(SSL_write_ex(r.ssl, "first", 5, &n), 1);
        cr_assert_eq(SSL_write_ex(r.ssl, "second one", 10, &n), 1);
        total = rig_from_server(r.ssl, r.wire, WIRE_MAX);
        r.plain_len = 0;
        cr_assert_eq(hear(&r, r.wire, cut), REDIS_TLS_MORE);
        cr_assert_eq(r.plain_len, cut >= total ? 15 : cut >= 27 ? 5 : 0, "%zu", cut);
        cr_assert_eq(hear(&r, r.wire + cut, total - cut), REDIS_TLS_MORE);
        cr_assert_eq(r.plain_len, 15);
        cr_assert_arr_eq(r.plain, "firstsecond one", 15);
    }
    cr_assert_eq(total, 2 * 22 + 15);
    rig_end(&r);
    rig_deinit(&r);
}

Test(redis_tls, nothing_of_a_command_is_taken_before_the_handshake_is_through)
{
    struct rig r;
    rig_init(&r, "DNS:localhost", false);
    rig_begin(&r, "localhost", TLS1_3_VERSION, NULL);
    struct redis_arg args[] = {{.head = "hunter2hunter2", .head_len = 14}};
    cr_assert_eq(redis_out_add(&r.out, "AUTH", args, 1), 0);
    uint64_t waiting = r.out.bytes;
    for (int i = 0; i < 3; i++) {
        size_t taken = 7;
        struct bytes sealed = redis_tls_seal(r.tls, &r.out, &taken);
        cr_assert_eq(taken, 0);
        cr_assert_eq(r.out.bytes, waiting);
        cr_assert_null(memmem(sealed.ptr, sealed.len, "hunter2", 7));
        rig_to_server(r.ssl, sealed);
    }
    (void)SSL_do_handshake(r.ssl);
    cr_assert_eq(shake_hands(&r, 100), REDIS_TLS_MORE);
    cr_assert_eq(say_all(&r) + r.out.bytes, r.out.bytes == 0 ? 0 : waiting);
    size_t n;
    char got[64];
    cr_assert_eq(SSL_read_ex(r.ssl, got, sizeof(got), &n), 1);
    cr_assert_not_null(memmem(got, n, "hunter2hunter2", 14));
    rig_end(&r);
    rig_deinit(&r);
}

Test(redis_tls, what_waits_leaves_in_records_of_16_KiB_at_the_most)
{
    struct rig r;
    size_t taken;
    rig_init(&r, "DNS:localhost", false);
    rig_up(&r, "localhost", TLS1_3_VERSION, NULL);
    say_all(&r);
    for (int i = 0; i < 50; i++)
        command(&r, 100);
    uint64_t bytes = r.out.bytes;
    struct bytes sealed = redis_tls_seal(r.tls, &r.out, &taken);
    cr_assert_eq(taken, bytes, "one record for all");
    cr_assert_eq(sealed.len, bytes + 22);
    rig_to_server(r.ssl, sealed);
    for (int i = 0; i < 50; i++)
        expect_command(&r, 100);

    command(&r, 40000);
    bytes = r.out.bytes;
    for (int i = 0; i < 3; i++) {
        cr_assert_gt(r.out.bytes, bytes - 1, "spans stay until all of them is sealed");
        sealed = redis_tls_seal(r.tls, &r.out, &taken);
        cr_assert_eq(taken, i < 2 ? 16384 : bytes - 2 * 16384);
        cr_assert_eq(sealed.len, taken + 22);
        rig_to_server(r.ssl, sealed);
        if (i == 0)
            command(&r, 3); /* while the others are lent */
    }
    say_all(&r);
    cr_assert_eq(r.out.bytes, 0);
    expect_command(&r, 40000);
    expect_command(&r, 3);
    rig_end(&r);
    rig_deinit(&r);
}

Test(redis_tls, no_memory_is_taken_for_a_record)
{
    struct rig r;
    rig_init(&r, "DNS:localhost", false);
    rig_up(&r, "localhost", TLS1_3_VERSION, NULL);
    say_all(&r);
    allocations = 0;
    for (int i = 0; i < 20; i++) {
        command(&r, 30000);
        say_all(&r);
        expect_command(&r, 30000);
        answer(&r, 30000, (uint8_t)i, 1000);
    }
    cr_assert_eq(allocations, 0);
    rig_end(&r);
    rig_deinit(&r);
}

Test(redis_tls, keys_are_renewed_when_the_server_asks)
{
    struct rig r;
    rig_init(&r, "DNS:localhost", false);
    rig_up(&r, "localhost", TLS1_3_VERSION, NULL);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(SSL_key_update(r.ssl, i % 2 == 0 ? SSL_KEY_UPDATE_REQUESTED
                                                      : SSL_KEY_UPDATE_NOT_REQUESTED),
                     1);
        answer(&r, 100, (uint8_t)i, 13);
        command(&r, 100);
        size_t taken;
        struct bytes sealed = redis_tls_seal(r.tls, &r.out, &taken);
        cr_assert_eq(sealed.len, taken + 22 + (i % 2 == 0 ? 27 : 0), "a KeyUpdate of ours");
        rig_to_server(r.ssl, sealed);
        expect_command(&r, 100);
    }
    rig_end(&r);
    rig_deinit(&r);
}

Test(redis_tls, a_key_of_1_2_is_worn_in_time_and_then_seals_no_more)
{
    struct rig r;
    rig_init(&r, "DNS:localhost", false);
    rig_up(&r, "localhost", TLS1_2_VERSION, NULL);
    say_all(&r);
    record_of(r.tls)->rekey_log2 = 3;
    unsigned sealed = 0;
    while (!redis_tls_has_failed(r.tls)) {
        cr_assert_lt(sealed, 20);
        cr_assert_eq(redis_tls_is_worn(r.tls), sealed >= 7, "%u; Finished was the first", sealed);
        command(&r, 1);
        say_all(&r);
        sealed++;
    }
    cr_assert_eq(sealed, 16, "one more than 15, which failed");
    cr_assert_not_null(strstr(redis_tls_problem(r.tls), "key"));
    rig_end(&r);
    rig_deinit(&r);
}

/* Ends ----------------------------------------------------------------------------------------- */

Test(redis_tls, close_notify_is_an_end_and_ours_is_understood)
{
    struct rig r;
    rig_init(&r, "DNS:localhost", false);
    rig_up(&r, "localhost", TLS1_3_VERSION, NULL);
    say_all(&r);
    rig_to_server(r.ssl, redis_tls_end(r.tls));
    char c;
    cr_assert_leq(SSL_read(r.ssl, &c, 1), 0);
    cr_assert_eq(SSL_get_error(r.ssl, 0), SSL_ERROR_ZERO_RETURN);
    cr_assert_eq(redis_tls_end(r.tls).len, 0, "said once");
    (void)SSL_shutdown(r.ssl);
    size_t n = rig_from_server(r.ssl, r.wire, WIRE_MAX);
    cr_assert_eq(hear(&r, r.wire, n - 1), REDIS_TLS_MORE, "cut, it is not there yet");
    cr_assert_eq(hear(&r, r.wire + n - 1, 1), REDIS_TLS_CLOSED);
    cr_assert_eq(hear(&r, r.wire, n), REDIS_TLS_CLOSED, "it lasts");
    rig_end(&r);
    rig_deinit(&r);
}

Test(redis_tls, a_wrong_record_ends_it_with_an_alert)
{
    for (int whole = 0; whole < 2; whole++) {
        struct rig r;
        rig_init(&r, "DNS:localhost", false);
        rig_up(&r, "localhost", TLS1_3_VERSION, NULL);
        say_all(&r);
        size_t n;
        cr_assert_eq(SSL_write_ex(r.ssl, "hello", 5, &n), 1);
        n = rig_from_server(r.ssl, r.wire, WIRE_MAX);
        r.wire[n - 1] ^= 1;
        if (!whole)
            cr_assert_eq(hear(&r, r.wire, 10), REDIS_TLS_MORE);
        cr_assert_eq(hear(&r, r.wire + (whole ? 0 : 10), n - (whole ? 0 : 10)), REDIS_TLS_FAILED);
        cr_assert_not_null(strstr(redis_tls_problem(r.tls), "authentication"));
        cr_assert_eq(r.plain_len, 0);
        cr_assert_eq(hear(&r, r.wire, 1), REDIS_TLS_FAILED, "it lasts");
        command(&r, 10);
        size_t taken;
        cr_assert_eq(redis_tls_seal(r.tls, &r.out, &taken).len, 0);
        cr_assert_eq(taken, 0);
        rig_to_server(r.ssl, redis_tls_end(r.tls));
        char c;
        cr_assert_leq(SSL_read(r.ssl, &c, 1), 0);
        cr_assert_eq(rig_reason(), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
        rig_end(&r);
        rig_deinit(&r);
    }
}

/* Refusals ------------------------------------------------------------------------------------- */

/* Shakes hands until it fails; the server then reads what the client says to that. */
static void expect_refusal(struct rig *r, const char *word)
{
    cr_assert_eq(shake_hands(r, WIRE_MAX), REDIS_TLS_FAILED, "expected: %s", word);
    cr_assert_not_null(strstr(redis_tls_problem(r->tls), word), "%s", redis_tls_problem(r->tls));
    rig_to_server(r->ssl, redis_tls_end(r->tls));
}

Test(redis_tls,
     certificates_that_are_not_right_are_refused_by_an_alert_and_the_log_names_the_remedy)
{
    static const struct {
        const char *names, *name, *word;
        long begin_day, end_day;
        bool other_authority;
        int alert; /* OpenSSL's reason for it; 0: any */
    } rows[] = {
        {"DNS:redis.example", "redis.example", "--redis-ca", -2, 60, true,
         SSL_R_TLSV1_ALERT_UNKNOWN_CA},
        {"DNS:redis.example", "other.example", "another name", -2, 60, false, 0},
        {"DNS:redis.example", "127.0.0.1", "another name", -2, 60, false, 0},
        {"IP:127.0.0.1", "127.0.0.2", "another name", -2, 60, false, 0},
        {"IP:127.0.0.1", "localhost", "another name", -2, 60, false, 0},
        {"IP:::1", "::2", "another name", -2, 60, false, 0},
        {"DNS:redis.example", "::1", "another name", -2, 60, false, 0},
        {"DNS:redis.example", "redis.example", "has expired", -20, -1, false, 0},
        {"DNS:redis.example", "redis.example", "not valid yet", 2, 60, false, 0},
    };
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
            struct rig r;
            char c;
            rig_init(&r, NULL, false);
            struct rig_cert other = rig_cert_new(NULL, NULL, false, -2, 60);
            struct rig_cert cert =
                rig_cert_new(rows[i].other_authority ? &other : &r.authority, rows[i].names, false,
                             rows[i].begin_day, rows[i].end_day);
            SSL_CTX_free(r.server);
            r.server = rig_server(&cert, NULL);
            rig_begin(&r, rows[i].name, versions[v], NULL);
            expect_refusal(&r, rows[i].word);
            cr_assert_eq(r.ups, 0);
            cr_assert_leq(SSL_read(r.ssl, &c, 1), 0);
            int reason = rig_reason();
            cr_assert_neq(reason, 0, "%zu: the server is told", i);
            if (rows[i].alert != 0)
                cr_assert_eq(reason, rows[i].alert);
            rig_end(&r);
            rig_cert_free(&cert);
            rig_cert_free(&other);
            rig_deinit(&r);
        }
    }
}

Test(redis_tls, names_and_addresses_in_a_certificate_are_good)
{
    static const char *const rows[][2] = {{"DNS:a.example,DNS:redis.example", "redis.example"},
                                          {"DNS:*.example", "redis.example"},
                                          {"IP:127.0.0.1", "127.0.0.1"},
                                          {"DNS:a,IP:10.0.0.1,IP:::1", "::1"},
                                          {"IP:fe80::12ab:0:3", "fe80::12ab:0:3"}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig r;
        rig_init(&r, rows[i][0], false);
        rig_up(&r, rows[i][1], 0, NULL);
        say_all(&r);
        const char *sni = SSL_get_servername(r.ssl, TLSEXT_NAMETYPE_host_name);
        if (rows[i][0][0] == 'I' || strchr(rows[i][1], ':') != NULL)
            cr_assert_null(sni, "an address is no server name");
        else
            cr_assert_str_eq(sni, rows[i][1]);
        rig_end(&r);
        rig_deinit(&r);
    }
}

/* The server's refusal of 1.3 comes behind the handshake, with its first words. */
static void expect_refused_client(struct rig *r, int version, const char *word)
{
    enum redis_tls_status st;

    rig_begin(r, "localhost", version, NULL);
    st = shake_hands(r, WIRE_MAX);
    for (int i = 0; i < 3 && st == REDIS_TLS_MORE; i++) {
        say_all(r);
        (void)SSL_do_handshake(r->ssl);
        st = hear_all(r, WIRE_MAX);
    }
    cr_assert_eq(st, REDIS_TLS_FAILED, "%s", word);
    cr_assert_not_null(strstr(redis_tls_problem(r->tls), word), "%s", redis_tls_problem(r->tls));
    rig_end(r);
}

Test(redis_tls, a_client_certificate_is_shown_and_its_lack_is_named)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        for (int rsa = 0; rsa < 2; rsa++) {
            struct rig r;
            rig_init(&r, "DNS:localhost", false);
            struct rig_cert other = rig_cert_new(NULL, NULL, false, -2, 60);
            struct rig_cert good = rig_cert_new(&r.authority, NULL, rsa != 0, -2, 60);
            struct rig_cert foreign = rig_cert_new(&other, NULL, false, -2, 60);
            struct rig_cert old = rig_cert_new(&r.authority, NULL, false, -20, -1);
            SSL_CTX_free(r.server);
            r.server = rig_server(&r.cert, &r.authority);
            expect_refused_client(&r, versions[v], "give --redis-cert and --redis-key");

            tls_client_replace(r.client, client_of(r.authority.cert_file, &good));
            rig_up(&r, "localhost", versions[v], NULL);
            say_all(&r);
            (void)SSL_do_handshake(r.ssl);
            answer(&r, 10, 1, 100);
            X509 *shown = SSL_get1_peer_certificate(r.ssl);
            cr_assert_eq(X509_cmp(shown, good.x), 0);
            X509_free(shown);
            rig_end(&r);

            tls_client_replace(r.client, client_of(r.authority.cert_file, &foreign));
            expect_refused_client(&r, versions[v], "tls-ca-cert-file");
            tls_client_replace(r.client, client_of(r.authority.cert_file, &old));
            expect_refused_client(&r, versions[v], "has expired; renew it");
            rig_cert_free(&old);
            rig_cert_free(&foreign);
            rig_cert_free(&good);
            rig_cert_free(&other);
            rig_deinit(&r);
        }
    }
}

Test(redis_tls, a_server_without_tls_is_told_by_its_first_byte)
{
    static const char *const rows[] = {"-ERR unknown command\r\n", "+OK\r\n", "HTTP/1.1 400\r\n"};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig r;
        char text[32];
        rig_init(&r, "DNS:localhost", false);
        rig_begin(&r, "localhost", 0, NULL);
        say_all(&r);
        strcpy(text, rows[i]);
        cr_assert_eq(hear(&r, (uint8_t *)text, 1), REDIS_TLS_FAILED);
        cr_assert_not_null(strstr(redis_tls_problem(r.tls), "use redis://"));
        rig_end(&r);
        rig_deinit(&r);
    }
}

Test(redis_tls, a_server_of_old_versions_only_or_without_a_suite_in_common_is_named)
{
    struct rig r;
    rig_init(&r, "DNS:localhost", true);
    SSL_CTX_set_security_level(r.server, 0);
    rig_begin(&r, "localhost", TLS1_1_VERSION, NULL);
    expect_refusal(&r, "neither TLS 1.2 nor 1.3");
    rig_end(&r);
    rig_begin(&r, "localhost", TLS1_2_VERSION, "AES128-SHA");
    expect_refusal(&r, "client certificate");
    rig_end(&r);
    rig_deinit(&r);
}

/* Files ---------------------------------------------------------------------------------------- */

Test(redis_tls, files_that_are_not_right_are_named)
{
    struct rig_cert authority = rig_cert_new(NULL, NULL, false, -2, 60);
    struct rig_cert a = rig_cert_new(&authority, NULL, false, -2, 60);
    struct rig_cert b = rig_cert_new(&authority, NULL, false, -2, 60);
    const struct {
        const char *ca, *cert, *key, *word;
    } rows[] = {
        {"/nowhere/ca.pem", NULL, NULL, "/nowhere/ca.pem: can't be read"},
        {a.key_file, NULL, NULL, "holds no PEM certificates"},
        {authority.cert_file, "/nowhere/c.pem", a.key_file, "/nowhere/c.pem: No such file"},
        {authority.cert_file, a.cert_file, "/nowhere/k.pem", "/nowhere/k.pem: No such file"},
        {authority.cert_file, a.key_file, a.key_file, "holds no certificate"},
        {authority.cert_file, a.cert_file, a.cert_file, "holds no private key"},
        {authority.cert_file, a.cert_file, b.key_file, "is not the key"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tls_client_config cfg = {
            .ca_file = rows[i].ca, .cert_file = rows[i].cert, .key_file = rows[i].key};
        char complaint[TLS_COMPLAINT_MAX];
        struct tls_client *client;
        cr_assert_eq(tls_client_new(&cfg, &client, complaint), -ENOENT, "%zu", i);
        cr_assert_not_null(strstr(complaint, rows[i].word), "%s", complaint);
    }
    rig_cert_free(&b);
    rig_cert_free(&a);
    rig_cert_free(&authority);
}
