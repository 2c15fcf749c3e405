/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* LD_PRELOAD module that stands in for the kernel's TLS, which few kernels have loaded: TCP_ULP
 * "tls" and TLS_TX are taken, and what is sent from then on is sealed here, by libcrypto and from
 * the RFCs. It is not the kernel: what it takes, refuses and keeps back was written after the
 * kernel's documentation and source (net/tls), not copied, and nobody has compared the two running.
 * Sockets of an io_uring pass by it.
 *
 * $FAKE_KTLS: "" as a kernel of 6.14; "no_rekey" as an older one; "start:N" refuses a connection's
 * key with errno N, "rekey:N" the next; a key of zeros is a probe, which is never refused so.
 * "old_ring": an io_uring of before Linux 6.8, which knows nothing of sockets' options.
 *
 * As in the kernel a record is made of what one call gives, 2^14 bytes at the most; what the
 * socket has no room for is taken in part, a record that has left in part is kept and goes before
 * anything else, and is lost at a close. */

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <liburing.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#define FDS_MAX 65536
#define PLAIN_MAX 16384
#define RECORD_MAX (5 + 8 + PLAIN_MAX + 1 + 16)
#define TYPE_DATA 23
#define LAST_OP_OF_6_7 53 /* IORING_OP_FUTEX_WAITV */
/* Flags that a socket with TLS takes: net/tls/tls_sw.c. */
#define FLAGS_TAKEN (MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL)

/* A socket with the "tls" protocol. A descriptor belongs to one thread at a time. */
struct sock {
    uint16_t version; /* 0: no key yet */
    uint16_t cipher;
    uint8_t key[32];
    uint8_t iv[12];       /* salt and IV */
    uint64_t seq;         /* of the next record */
    uint64_t explicit_iv; /* 1.2 GCM: of the next record */
    EVP_CIPHER_CTX *aead;
    size_t out_off; /* out[out_off..out_len) is what has no room */
    size_t out_len;
    uint8_t out[RECORD_MAX];
};

static struct sock *socks[FDS_MAX];

/* Those of this thread that have something in `out`, perhaps. */
static __thread int waiting[256];
static __thread uint32_t waiting_count;

/* The next definition of a function: the one that this module stands before. */
#define NEXT(name) next_##name()
#define DEFINE_NEXT(ret, name, ...)                                                                \
    typedef ret (*name##_fn)(__VA_ARGS__);                                                         \
    static name##_fn next_##name(void)                                                             \
    {                                                                                              \
        static _Atomic(name##_fn) cached;                                                          \
        name##_fn fn = cached;                                                                     \
        if (fn == NULL) {                                                                          \
            *(void **)&fn = dlsym(RTLD_NEXT, #name);                                               \
            cached = fn;                                                                           \
        }                                                                                          \
        return fn;                                                                                 \
    }

DEFINE_NEXT(int, setsockopt, int, int, int, const void *, socklen_t)
DEFINE_NEXT(ssize_t, send, int, const void *, size_t, int)
DEFINE_NEXT(ssize_t, sendmsg, int, const struct msghdr *, int)
DEFINE_NEXT(int, shutdown, int, int)
DEFINE_NEXT(int, close, int)
DEFINE_NEXT(long, syscall, long, ...)
DEFINE_NEXT(struct io_uring_probe *, io_uring_get_probe_ring, struct io_uring *)
DEFINE_NEXT(int, epoll_wait, int, struct epoll_event *, int, int)
DEFINE_NEXT(int, epoll_pwait2, int, struct epoll_event *, int, const struct timespec *,
            const sigset_t *)

static struct sock *sock_of(int fd)
{
    return fd >= 0 && fd < FDS_MAX ? socks[fd] : NULL;
}

static int fail(int err)
{
    errno = err;
    return -1;
}

/* Records -------------------------------------------------------------------------------------- */

static void put(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8)
        p[i] = (uint8_t)value;
}

static bool is_13(const struct sock *s)
{
    return s->version == TLS_1_3_VERSION;
}

static bool has_explicit(const struct sock *s)
{
    return !is_13(s) && s->cipher != TLS_CIPHER_CHACHA20_POLY1305;
}

/* Writes the nonce; returns the length of the additional data. */
static int frame(struct sock *s, uint8_t type, size_t len, uint8_t nonce[12], uint8_t aad[13])
{
    size_t body = len + 16 + (is_13(s) ? 1 : 0) + (has_explicit(s) ? 8 : 0);
    uint8_t seq[8];

    s->out[0] = is_13(s) ? TYPE_DATA : type;
    put(s->out + 1, 0x0303, 2);
    put(s->out + 3, body, 2);
    put(seq, s->seq, 8);
    memcpy(nonce, s->iv, 12);
    if (has_explicit(s)) { /* RFC 5288 3 */
        put(nonce + 4, s->explicit_iv, 8);
        put(s->out + 5, s->explicit_iv, 8);
    } else { /* RFC 8446 5.3, RFC 7905 2 */
        for (int i = 0; i < 8; i++)
            nonce[4 + i] ^= seq[i];
    }
    if (is_13(s)) {
        memcpy(aad, s->out, 5);
        return 5;
    }
    memcpy(aad, seq, 8); /* RFC 5246 6.2.3.3 */
    aad[8] = type;
    put(aad + 9, 0x0303, 2);
    put(aad + 11, len, 2);
    return 13;
}

/* Seals a record into the empty s->out. */
static void seal(struct sock *s, uint8_t type, const uint8_t *plain, size_t len)
{
    uint8_t nonce[12], aad[13];
    int aad_len = frame(s, type, len, nonce, aad), n, ok;
    uint8_t *body = s->out + 5 + (has_explicit(s) ? 8 : 0);

    ok = EVP_EncryptInit_ex(s->aead, NULL, NULL, s->key, nonce);
    ok &= EVP_EncryptUpdate(s->aead, NULL, &n, aad, aad_len);
    if (len > 0)
        ok &= EVP_EncryptUpdate(s->aead, body, &n, plain, (int)len);
    body += len;
    if (is_13(s))
        ok &= EVP_EncryptUpdate(s->aead, body++, &n, &type, 1);
    ok &= EVP_EncryptFinal_ex(s->aead, body, &n);
    ok &= EVP_CIPHER_CTX_ctrl(s->aead, EVP_CTRL_AEAD_GET_TAG, 16, body);
    if (ok != 1)
        abort();
    s->out_off = 0;
    s->out_len = (size_t)(body + 16 - s->out);
    s->seq++;
    s->explicit_iv++;
}

/* Gives the socket what waits. False: an error, in errno. */
static bool push(int fd, struct sock *s)
{
    while (s->out_off < s->out_len) {
        ssize_t n = NEXT(syscall)(SYS_sendto, fd, s->out + s->out_off, s->out_len - s->out_off,
                                  MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
        if (n < 0)
            return errno == EAGAIN;
        s->out_off += (size_t)n;
    }
    return true;
}

static bool is_stuck(const struct sock *s)
{
    return s->out_off < s->out_len;
}

static void wait_for_room(int fd)
{
    if (waiting_count == sizeof(waiting) / sizeof(waiting[0]))
        abort(); /* more than the tests have */
    waiting[waiting_count++] = fd;
}

/* What the kernel does when there is room again. */
static void push_waiting(void)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < waiting_count; i++) {
        struct sock *s = sock_of(waiting[i]);
        if (s != NULL && push(waiting[i], s) && is_stuck(s))
            waiting[kept++] = waiting[i];
    }
    waiting_count = kept;
}

/* The next bytes of the spans, `*at` of them having been taken. */
static size_t gather(const struct iovec *iov, size_t count, size_t at, uint8_t *plain, size_t max)
{
    size_t got = 0;
    for (size_t i = 0; i < count && got < max; i++) {
        if (at >= iov[i].iov_len) {
            at -= iov[i].iov_len;
            continue;
        }
        size_t n = iov[i].iov_len - at < max - got ? iov[i].iov_len - at : max - got;
        memcpy(plain + got, (const uint8_t *)iov[i].iov_base + at, n);
        got += n;
        at = 0;
    }
    return got;
}

static ssize_t send_sealed(int fd, struct sock *s, const struct iovec *iov, size_t count,
                           uint8_t type, int flags)
{
    uint8_t plain[PLAIN_MAX];
    size_t taken = 0, n;

    if ((flags & ~FLAGS_TAKEN) != 0)
        return fail(EOPNOTSUPP);
    if (!push(fd, s))
        return -1;
    if (is_stuck(s))
        return fail(EAGAIN);
    while (!is_stuck(s) && (n = gather(iov, count, taken, plain, PLAIN_MAX)) > 0) {
        seal(s, type, plain, n);
        taken += n;
        if (!push(fd, s))
            return -1;
    }
    if (is_stuck(s))
        wait_for_room(fd);
    return (ssize_t)taken;
}

/* Keys ----------------------------------------------------------------------------------------- */

/* The errno of a rule such as "start:12"; 0: none. */
static int ruled(const char *rule, const uint8_t *key, size_t key_len)
{
    const char *env = getenv("FAKE_KTLS");
    size_t len = strlen(rule);
    bool is_probe = true;

    for (size_t i = 0; i < key_len; i++)
        is_probe = is_probe && key[i] == 0;
    if (is_probe || env == NULL || strncmp(env, rule, len) != 0 || env[len] != ':')
        return 0;
    return atoi(env + len + 1);
}

static int refusal(const struct sock *s, const struct tls_crypto_info *head, const uint8_t *key,
                   size_t key_len)
{
    const char *env = getenv("FAKE_KTLS");

    if (head->version != TLS_1_2_VERSION && head->version != TLS_1_3_VERSION)
        return EINVAL;
    if (s->version == 0)
        return ruled("start", key, key_len);
    if (head->version != TLS_1_3_VERSION || (env != NULL && strcmp(env, "no_rekey") == 0))
        return EBUSY;
    if (head->version != s->version || head->cipher_type != s->cipher)
        return EINVAL;
    return ruled("rekey", key, key_len);
}

static uint64_t get(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static int set_key(struct sock *s, const void *value, size_t len)
{
    static const struct {
        uint16_t cipher;
        size_t iv, key, salt;
        const EVP_CIPHER *(*evp)(void);
    } rows[] = {
        {TLS_CIPHER_AES_GCM_128, 8, 16, 4, EVP_aes_128_gcm},
        {TLS_CIPHER_AES_GCM_256, 8, 32, 4, EVP_aes_256_gcm},
        {TLS_CIPHER_CHACHA20_POLY1305, 12, 32, 0, EVP_chacha20_poly1305},
    };
    const struct tls_crypto_info *head = value;
    const uint8_t *p = (const uint8_t *)value + sizeof(*head);
    size_t i = 0;

    if (len < sizeof(*head))
        return fail(EINVAL);
    while (i < 3 && rows[i].cipher != head->cipher_type)
        i++;
    if (i == 3 || len != sizeof(*head) + rows[i].iv + rows[i].key + rows[i].salt + 8)
        return fail(EINVAL);
    int err = refusal(s, head, p + rows[i].iv, rows[i].key);
    if (err != 0)
        return fail(err);
    s->version = head->version;
    s->cipher = head->cipher_type;
    memcpy(s->iv, p + rows[i].iv + rows[i].key, rows[i].salt);
    memcpy(s->iv + rows[i].salt, p, rows[i].iv);
    memcpy(s->key, p + rows[i].iv, rows[i].key);
    s->seq = get(p + rows[i].iv + rows[i].key + rows[i].salt);
    s->explicit_iv = get(p);
    if (s->aead == NULL)
        s->aead = EVP_CIPHER_CTX_new();
    if (s->aead == NULL || EVP_EncryptInit_ex(s->aead, rows[i].evp(), NULL, NULL, NULL) != 1)
        abort();
    return 0;
}

static int set_protocol(int fd)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);

    if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0)
        return -1; /* ENOTCONN */
    if (sock_of(fd) != NULL)
        return fail(EEXIST);
    if (fd >= FDS_MAX || (socks[fd] = calloc(1, sizeof(*socks[fd]))) == NULL)
        return fail(ENOMEM);
    return 0;
}

static void forget(int fd)
{
    struct sock *s = sock_of(fd);

    if (s == NULL)
        return;
    (void)push(fd, s);
    socks[fd] = NULL;
    EVP_CIPHER_CTX_free(s->aead);
    free(s);
}

/* Calls ---------------------------------------------------------------------------------------- */

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    if (level == IPPROTO_TCP && name == TCP_ULP && len == sizeof("tls") &&
        memcmp(value, "tls", sizeof("tls")) == 0)
        return set_protocol(fd);
    if (level == SOL_TLS && name == TLS_TX)
        return sock_of(fd) == NULL ? fail(ENOPROTOOPT) : set_key(sock_of(fd), value, len);
    return NEXT(setsockopt)(fd, level, name, value, len);
}

static bool is_sealing(int fd)
{
    return sock_of(fd) != NULL && sock_of(fd)->version != 0;
}

ssize_t send(int fd, const void *p, size_t len, int flags)
{
    struct iovec iov = {(void *)p, len};

    if (!is_sealing(fd))
        return NEXT(send)(fd, p, len, flags);
    return send_sealed(fd, sock_of(fd), &iov, 1, TYPE_DATA, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    const struct cmsghdr *control = msg->msg_controllen > 0 ? CMSG_FIRSTHDR(msg) : NULL;
    uint8_t type = TYPE_DATA;

    if (!is_sealing(fd))
        return NEXT(sendmsg)(fd, msg, flags);
    if (msg->msg_controllen > 0) {
        if (control == NULL || control->cmsg_level != SOL_TLS ||
            control->cmsg_type != TLS_SET_RECORD_TYPE || control->cmsg_len < CMSG_LEN(1) ||
            (flags & MSG_MORE) != 0)
            return fail(EINVAL);
        type = *CMSG_DATA(control);
    }
    return send_sealed(fd, sock_of(fd), msg->msg_iov, msg->msg_iovlen, type, flags);
}

/* The server makes its most frequent calls this way. */
long syscall(long number, ...)
{
    va_list ap;
    long a[6];
    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (number == SYS_sendto && is_sealing((int)a[0]))
        return send((int)a[0], (const void *)a[1], (size_t)a[2], (int)a[3]);
    if (number == SYS_epoll_pwait || number == SYS_epoll_pwait2)
        push_waiting();
    return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int ms)
{
    push_waiting();
    return NEXT(epoll_wait)(fd, events, max, ms);
}

int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *ts,
                 const sigset_t *signals)
{
    push_waiting();
    return NEXT(epoll_pwait2)(fd, events, max, ts, signals);
}

int shutdown(int fd, int how)
{
    if (is_sealing(fd))
        (void)push(fd, sock_of(fd));
    return NEXT(shutdown)(fd, how);
}

int close(int fd)
{
    forget(fd);
    return NEXT(close)(fd);
}

/* io_uring ------------------------------------------------------------------------------------- */

struct io_uring_probe *io_uring_get_probe_ring(struct io_uring *ring)
{
    const char *env = getenv("FAKE_KTLS");
    struct io_uring_probe *probe = NEXT(io_uring_get_probe_ring)(ring);

    if (probe != NULL && env != NULL && strcmp(env, "old_ring") == 0 &&
        probe->last_op > LAST_OP_OF_6_7)
        probe->last_op = LAST_OP_OF_6_7;
    return probe;
}
