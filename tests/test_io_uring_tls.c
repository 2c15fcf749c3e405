/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Sends of io over io_uring as they go on a socket of the kernel's TLS, which takes no MSG_WAITALL.
 * The flag that says so is set by the tests, on ordinary sockets. */

#include "tests/uring_rig.h"

#include <linux/tls.h>

#define SPANS 40

static void expect_pattern(int fd, size_t len)
{
    uint8_t *got = malloc(len);

    cr_assert_eq(recv(fd, got, len, MSG_WAITALL), (ssize_t)len);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(got[i], (uint8_t)(i * 31 + (i >> 10)), "byte %zu of %zu", i, len);
    free(got);
}

static uint8_t *pattern(size_t len)
{
    uint8_t *data = malloc(len);

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 31 + (i >> 10));
    return data;
}

/* A reader that begins when some of it is stuck. */
struct reader {
    pthread_t thread;
    int fd;
    size_t len;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;

    expect_pattern(r->fd, r->len);
    return NULL;
}

static void send_stuck(struct rig *r, struct peer *p, int fd, int spans, size_t len)
{
    struct reader reader = {.fd = fd, .len = len};
    uint8_t *data = pattern(len);
    struct iovec iov[SPANS];

    for (int i = 0; i < spans; i++)
        iov[i] = (struct iovec){data + len / (size_t)spans * (size_t)i, len / (size_t)spans};
    iov[spans - 1].iov_len = len - len / (size_t)spans * (size_t)(spans - 1);
    p->c.flags |= URING_F_TLS;
    cr_assert_eq(io_send(r->io, &p->c, iov, spans, len), IO_PENDING);
    cr_assert_eq(io_send(r->io, &p->c, iov, spans, len), -EALREADY);
    memset(iov, 0xff, sizeof(iov)); /* it was borrowed */
    for (int i = 0; i < 5; i++)
        turn(r);
    cr_assert_eq(p->sents, 0, "all of it went at once: the test shows nothing");
    cr_assert(p->c.flags & URING_F_REST);
    cr_assert_lt(p->c.send_want, len, "a part has left");
    cr_assert_eq(pthread_create(&reader.thread, NULL, read_all, &reader), 0);
    TURN_UNTIL(r, p->sents == 1);
    cr_assert_eq(p->sent_err, 0);
    cr_assert_not(p->c.flags & URING_F_REST);
    cr_assert_null(p->c.backend_state);
    pthread_join(reader.thread, NULL);
    free(data);
}

static struct peer *small_pair(struct rig *r, int *fd)
{
    int bytes = 64 << 10;

    cr_assert_eq(setsockopt(r->listener.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    return pair_new(r, fd);
}

Test(io_uring_tls, a_send_taken_in_parts_goes_on)
{
    struct rig *r = rig_new(4, NULL);
    int fd;
    struct peer *p = small_pair(r, &fd);

    send_stuck(r, p, fd, 1, 8 << 20);
    close(fd);
    rig_free(r);
}

Test(io_uring_tls, a_gathered_send_taken_in_parts_goes_on)
{
    struct rig *r = rig_new(4, NULL);
    int fd;
    struct peer *p = small_pair(r, &fd);

    send_stuck(r, p, fd, SPANS, (8 << 20) + 7);
    close(fd);
    rig_free(r);
}

Test(io_uring_tls, a_connection_closed_within_a_part_is_closed_once)
{
    struct rig *r = rig_new(4, NULL);
    int fd;
    struct peer *p = small_pair(r, &fd);
    uint8_t *data = pattern(8 << 20);
    struct iovec iov = {data, 8 << 20};

    p->c.flags |= URING_F_TLS;
    cr_assert_eq(io_send(r->io, &p->c, &iov, 1, iov.iov_len), IO_PENDING);
    for (int i = 0; i < 3; i++)
        turn(r);
    io_close(r->io, &p->c, false);
    TURN_UNTIL(r, p->closes == 1);
    cr_expect_eq(p->sents, 0);
    free(data);
    close(fd);
    rig_free(r);
}

Test(io_uring_tls, a_reset_within_a_part_fails_the_send)
{
    struct rig *r = rig_new(4, NULL);
    int fd;
    struct peer *p = small_pair(r, &fd);
    uint8_t *data = pattern(8 << 20);
    struct iovec iov = {data, 8 << 20};
    struct linger hard = {.l_onoff = 1};

    p->c.flags |= URING_F_TLS;
    cr_assert_eq(io_send(r->io, &p->c, &iov, 1, iov.iov_len), IO_PENDING);
    for (int i = 0; i < 3; i++)
        turn(r);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    TURN_UNTIL(r, p->sents == 1);
    cr_expect_lt(p->sent_err, 0);
    free(data);
    rig_free(r);
}

/* The list of the starved and the rest of a send share a word of the connection. */
Test(io_uring_tls, those_that_starve_while_they_send_lose_neither)
{
    enum { CLIENTS = 24, BYTES = 96 << 10, SENT = 1 << 20 };
    struct rig *r = rig_new(CLIENTS, NULL);
    uint8_t *data = pattern(SENT);
    struct iovec iov = {data, SENT};
    struct reader readers[CLIENTS];
    int fds[CLIENTS];

    for (int i = 0; i < CLIENTS; i++)
        small_pair(r, &fds[i]);
    for (int i = 0; i < CLIENTS; i++) {
        write_all(fds[i], (uint8_t)i, BYTES);
        r->peers[i].c.flags |= URING_F_TLS;
        if (i % 2 == 0)
            cr_assert_eq(io_send(r->io, &r->peers[i].c, &iov, 1, iov.iov_len), IO_PENDING);
    }
    for (int turns = 0; r->io->stats.recv_bytes < (uint64_t)CLIENTS * BYTES; turns++) {
        int i = turns % CLIENTS;

        cr_assert_lt(turns, 10000);
        if (i % 2 == 1 && r->peers[i].sents == 0 && !(r->peers[i].c.flags & URING_F_SEND))
            cr_assert_eq(io_send(r->io, &r->peers[i].c, &iov, 1, iov.iov_len), IO_PENDING);
        turn(r);
    }
    cr_expect_gt(r->io->stats.recv_starved, 0);
    for (int i = 0; i < CLIENTS; i++) {
        cr_expect_not(r->peers[i].mixed);
        if (r->peers[i].sents == 0 && !(r->peers[i].c.flags & URING_F_SEND))
            cr_assert_eq(io_send(r->io, &r->peers[i].c, &iov, 1, iov.iov_len), IO_PENDING);
    }
    for (int i = 0; i < CLIENTS; i++) {
        readers[i] = (struct reader){.fd = fds[i], .len = SENT};
        cr_assert_eq(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]), 0);
        TURN_UNTIL(r, r->peers[i].sents == 1);
        pthread_join(readers[i].thread, NULL);
        cr_expect_eq(r->peers[i].sent_err, 0);
        close(fds[i]);
    }
    free(data);
    rig_free(r);
}

static bool is_hard(int fd)
{
    struct linger l;
    socklen_t len = sizeof(l);

    cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len), 0);
    return l.l_onoff != 0 && l.l_linger == 0;
}

/* The last descriptor of the socket is the test's: a connect to no address, which the kernel's TLS
 * refuses, would reset it before that is closed, and leave no option behind. */
Test(io_uring_tls, a_reset_is_by_the_close_itself)
{
    for (int reset = 0; reset < 2; reset++) {
        struct rig *r = rig_new(4, NULL);
        struct peer *p = peer_new(r);
        int fd = client(r);
        int own = accept(r->listener.fd, NULL, NULL);
        int kept = dup(own);
        char byte;

        cr_assert_eq(io_adopt(r->io, &p->c, (struct io_ticket){own}), 0);
        p->c.flags |= URING_F_ULP;
        io_close(r->io, &p->c, reset);
        TURN_UNTIL(r, p->closes == 1);
        cr_expect_eq(is_hard(kept), reset);
        cr_expect_eq(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
        cr_expect_eq(errno, EAGAIN);
        close(kept);
        cr_expect_eq(recv(fd, &byte, 1, 0), reset ? -1 : 0);
        cr_expect(!reset || errno == ECONNRESET);
        close(fd);
        rig_free(r);
    }
}

/* A refused key may have left the socket with the kernel's protocol. */
Test(io_uring_tls, a_key_that_was_offered_is_remembered_until_the_end)
{
    static const struct tls12_crypto_info_aes_gcm_128 key = {
        .info = {TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128}};
    struct rig *r = rig_new(4, NULL);
    int fd;
    struct peer *p = pair_new(r, &fd);

    cr_assert(r->io->has_tls);
    cr_assert_not(p->c.flags & URING_F_ULP);
    cr_assert_eq(io_tls_key(r->io, &p->c, &key, 1, false), IO_PENDING); /* too short */
    TURN_UNTIL(r, p->tls_keys == 1);
    cr_expect_lt(p->tls_key_err, 0);
    cr_expect_not(p->c.flags & URING_F_TLS);
    cr_expect(p->c.flags & URING_F_ULP);
    close(fd);
    rig_free(r);
}

Test(io_uring_tls, without_options_of_slots_there_is_no_way_to_it)
{
    static const struct tls12_crypto_info_aes_gcm_128 key = {
        .info = {TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128}};
    struct rig *r = rig_new(4, &(struct uring_quirks){.no_options = true});
    int fd;
    struct peer *p = pair_new(r, &fd);

    cr_assert_not(r->io->has_tls);
    cr_assert_eq(io_tls_key(r->io, &p->c, &key, sizeof(key), false), -EOPNOTSUPP);
    cr_assert_eq(io_send(r->io, &p->c, &(struct iovec){"x", 1}, 1, 1), IO_PENDING);
    TURN_UNTIL(r, p->sents == 1);
    close(fd);
    rig_free(r);
}

/* The socket has no TLS: it shows what the request is, and the kernel's answer comes as any. */
Test(io_uring_tls, a_record_goes_as_one_send)
{
    struct rig *r = rig_new(4, NULL);
    int fd;
    struct peer *p = pair_new(r, &fd);
    uint8_t alert[2] = {1, 0}, got[2];

    cr_assert_eq(io_tls_send(r->io, &p->c, IO_TLS_ALERT, (struct bytes){alert, 2}), IO_PENDING);
    cr_assert_eq(io_tls_send(r->io, &p->c, IO_TLS_ALERT, (struct bytes){alert, 2}), -EALREADY);
    TURN_UNTIL(r, p->sents == 1);
    if (p->sent_err == 0) /* plain TCP heeds no control messages of others */
        cr_assert_eq(recv(fd, got, 2, MSG_WAITALL), 2);
    close(fd);
    rig_free(r);
}
