/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The contract of core/io.h for the kernel's TLS, as far as it holds on any kernel: most have not
 * loaded it. What follows a key that was taken is tested with stand-ins (test_io_epoll_tls.c,
 * test_io_uring_tls.c). */

#include "tests/io_fixture.h"

#include <linux/tls.h>

/* A key that the kernel takes if it has TLS at all; lives as long as the test. */
static const struct tls12_crypto_info_aes_gcm_128 some_key = {
    .info = {TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128}, .key = {1, 2, 3}};

/* What came of it, at once or in time. */
static int give_key(struct fixture *t, struct side *s)
{
    int told = s->tls_keys;
    int r = io_tls_key(t->io, &s->conn, &some_key, sizeof(some_key), false);

    if (r != IO_PENDING)
        return r == IO_SENT ? 0 : r;
    UNTIL(t, s->tls_keys > told);
    return s->tls_key_err;
}

IO_TEST(a_kernel_takes_a_key_or_says_that_it_has_no_tls)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    int err = give_key(t, s);

    cr_assert(err == 0 || err == -ENOENT || err == -EOPNOTSUPP, "%s", strerror(-err));
    close(peer);
}

/* Whether it is sealed or not, something is sent; unsealed it is what was given. */
IO_TEST(sending_goes_on_behind_a_refused_key)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    char got[64];

    cr_assert_geq(side_send(s, "before", 6), 0);
    UNTIL(t, !s->send_pending);
    int err = give_key(t, s);
    cr_assert_geq(side_send(s, "behind", 6), 0);
    UNTIL(t, !s->send_pending);
    cr_assert_eq(recv(peer, got, 6, MSG_WAITALL), 6);
    cr_assert_eq(memcmp(got, "before", 6), 0);
    cr_assert_eq(recv(peer, got, 6, MSG_WAITALL), 6);
    cr_assert_eq(memcmp(got, "behind", 6) == 0, err != 0);
    close(peer);
}

/* A send that stalls is under way when anything that is left of the refusal would be told. */
IO_TEST(a_refusal_is_told_once_and_not_as_the_end_of_the_next_send)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = pattern_new(1 << 20);
    struct streamer r = {.fd = peer, .total = 1 << 20, .piece_max = 60000, .seed = 5};

    if (give_key(t, s) == 0) { /* a kernel with TLS: the stream would be records */
        free(data);
        close(peer);
        return;
    }
    int told = s->tls_keys;
    cr_assert_eq(side_send(s, data, 1 << 20), IO_PENDING);
    turn_for_ms(t, 20);
    cr_assert(s->send_pending);
    cr_assert_eq(s->tls_keys, told);
    streamer_start(&r, streamer_read);
    UNTIL(t, !s->send_pending);
    cr_assert_eq(s->sent_err, 0);
    streamer_finish(&r);
    free(data);
    close(peer);
}

IO_TEST(receiving_does_not_change_with_a_key)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    peer_write(peer, "before", 6);
    UNTIL(t, s->got_len == 6);
    (void)give_key(t, s);
    peer_write(peer, "behind", 6);
    UNTIL(t, s->got_len == 12);
    side_got(s, "beforebehind", 12);
    close(peer);
}

/* The fixture asserts that on_closed() comes once, and nothing else. */
IO_TEST(a_connection_may_be_closed_while_its_key_is_under_way)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    cr_assert_leq(io_tls_key(t->io, &s->conn, &some_key, sizeof(some_key), false), IO_SENT);
    side_close(s, false);
    UNTIL(t, s->closeds > 0);
    cr_assert_eq(s->tls_keys, 0);
    close(peer);
}

/* Also what could not be sent is given up; the peer would read it before an orderly end. */
IO_TEST(a_reset_is_one_behind_a_key_that_was_offered)
{
    enum { BYTES = 4 << 20 };
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = calloc(1, BYTES);
    char got[4096];
    ssize_t n;

    (void)give_key(t, s);
    cr_assert_eq(side_send(s, data, BYTES), IO_PENDING);
    side_close(s, true);
    UNTIL(t, s->closeds > 0);
    while ((n = recv(peer, got, sizeof(got), 0)) > 0)
        ;
    cr_assert_lt(n, 0);
    cr_assert_eq(errno, ECONNRESET);
    free(data);
    close(peer);
}

IO_TEST(a_closing_connection_takes_no_key_and_no_record)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    uint8_t alert[2] = {1, 0};

    side_close(s, false);
    int key = io_tls_key(t->io, &s->conn, &some_key, sizeof(some_key), false);
    cr_assert(key == -ENOTCONN || key == -EOPNOTSUPP);
    cr_assert_eq(io_tls_send(t->io, &s->conn, IO_TLS_ALERT, (struct bytes){alert, sizeof(alert)}),
                 -ENOTCONN);
    UNTIL(t, s->closeds > 0);
    close(peer);
}
