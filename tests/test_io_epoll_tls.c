/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What io over epoll asks of the kernel's TLS, and what it makes of the answers. The calls below
 * stand in for the C library's. */

#define TW_TEST_ONLY_EPOLL /* the other implementation does not go through these calls */

#include "tests/io_fixture.h"

#include <linux/tls.h>
#include <sys/syscall.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define SENDS_MAX 8

static const struct tls12_crypto_info_aes_gcm_128 some_key = {
    .info = {TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128}, .key = {1, 2, 3}};

static int ulps, keys, ulp_err, key_err; /* calls so far; the errno of each, or 0 */
static const void *key_value;
static socklen_t key_len;

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    if (level == IPPROTO_TCP && name == TCP_ULP) {
        cr_assert_eq(len, 4);
        cr_assert_str_eq(value, "tls");
        ulps++;
        errno = ulp_err;
        return ulp_err != 0 ? -1 : 0;
    }
    if (level == SOL_TLS && name == TLS_TX) {
        keys++;
        key_value = value;
        key_len = len;
        errno = key_err;
        return key_err != 0 ? -1 : 0;
    }
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

static int refuse_sends; /* so many answer EAGAIN */
static int sends;        /* with a control message */
static struct {
    uint8_t type;
    size_t len;
} sent[SENDS_MAX];

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    const struct cmsghdr *control = CMSG_FIRSTHDR(msg);
    struct msghdr plain = *msg;

    if (control == NULL) /* the rest of a send */
        return syscall(SYS_sendmsg, fd, msg, flags);
    cr_assert_lt(sends, SENDS_MAX);
    cr_assert_eq(flags, MSG_NOSIGNAL, "the kernel's TLS takes but a few flags");
    cr_assert_eq(control->cmsg_level, SOL_TLS);
    cr_assert_eq(control->cmsg_type, TLS_SET_RECORD_TYPE);
    cr_assert_eq(control->cmsg_len, CMSG_LEN(1));
    cr_assert_null(CMSG_NXTHDR((struct msghdr *)msg, (struct cmsghdr *)control));
    sent[sends].type = *CMSG_DATA(control);
    sent[sends++].len = msg->msg_iov[0].iov_len;
    if (refuse_sends > 0) {
        refuse_sends--;
        errno = EAGAIN;
        return -1;
    }
    plain.msg_control = NULL;
    plain.msg_controllen = 0;
    return syscall(SYS_sendmsg, fd, &plain, flags);
}

static int give_key(struct fixture *t, struct side *s, bool again)
{
    return io_tls_key(t->io, &s->conn, &some_key, sizeof(some_key), again);
}

IO_TEST(the_first_key_comes_with_the_protocol_and_the_next_without)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    cr_assert_eq(give_key(t, s, false), IO_SENT);
    cr_assert_eq(ulps, 1);
    cr_assert_eq(keys, 1);
    cr_assert_eq(key_value, &some_key);
    cr_assert_eq(key_len, sizeof(some_key));
    cr_assert_eq(give_key(t, s, true), IO_SENT);
    cr_assert_eq(ulps, 1);
    cr_assert_eq(keys, 2);
    close(peer);
}

IO_TEST(a_refused_protocol_is_asked_for_no_key)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);

    ulp_err = ENOENT;
    cr_assert_eq(give_key(t, s, false), -ENOENT);
    cr_assert_eq(keys, 0);
    ulp_err = 0;
    key_err = ENOMEM;
    cr_assert_eq(give_key(t, s, false), -ENOMEM);
    close(peer);
}

static int send_record(struct fixture *t, struct side *s, enum io_tls_type type, void *p,
                       size_t len)
{
    int r = io_tls_send(t->io, &s->conn, type, (struct bytes){p, len});

    s->send_pending = r == IO_PENDING;
    return r;
}

IO_TEST(a_record_has_its_type)
{
    int peer;
    struct side *s = fixture_pair(t, &peer);
    char got[8];

    cr_assert_eq(send_record(t, s, IO_TLS_HANDSHAKE, "abcde", 5), IO_SENT);
    cr_assert_eq(send_record(t, s, IO_TLS_ALERT, "fg", 2), IO_SENT);
    cr_assert_eq(sends, 2);
    cr_assert_eq(sent[0].type, 22);
    cr_assert_eq(sent[1].type, 21);
    cr_assert_eq(recv(peer, got, 7, MSG_WAITALL), 7);
    cr_assert_eq(memcmp(got, "abcdefg", 7), 0);
    cr_assert_eq(t->io->stats.sends, 2);
    cr_assert_eq(t->io->stats.send_bytes, 7);
    close(peer);
}

/* Sent again as data it would be read as that. */
IO_TEST(a_record_that_found_no_room_goes_later_with_its_type)
{
    int peer;
    struct side *s = fixture_pair_with(t, &peer, 8 << 10);
    uint8_t *data = pattern_new(4 << 20);
    struct streamer r = {.fd = peer, .total = (4 << 20) + 2, .piece_max = 60000, .seed = 5};

    cr_assert_eq(side_send(s, data, 4 << 20), IO_PENDING); /* fills it, and arms the edge */
    streamer_start(&r, streamer_read);
    UNTIL(t, !s->send_pending);
    sends = 0;
    refuse_sends = 1;
    cr_assert_eq(send_record(t, s, IO_TLS_ALERT, data, 2), IO_PENDING);
    for (int i = 0; s->send_pending && i < 100; i++) {
        io_recv(t->io, &s->conn, false); /* an edge of another kind will do */
        io_recv(t->io, &s->conn, true);
        peer_write(peer, "x", 1);
        turn_for_ms(t, 5);
    }
    cr_assert_not(s->send_pending);
    cr_assert_eq(sends, 2);
    cr_assert_eq(sent[1].type, 21);
    cr_assert_eq(sent[1].len, 2);
    pthread_join(r.thread, NULL);
    cr_assert_eq(r.done, r.total);
    free(data);
    close(peer);
}
