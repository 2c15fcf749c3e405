/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* LD_PRELOAD module that makes allocations and system calls fail on demand. Any thread.
 *
 * $FAIL_NTH names a file of rules (struct rule, by name), which is mapped: the test that made it
 * arms and disarms them while the program runs, and reads how often each was passed. A rule fails
 * the call numbered `first`, then each `every`-th after it, or by chance. The calls before main()
 * are not counted.
 *
 * What fails must fail as the kernel would: who is told EAGAIN, or that only a part was taken,
 * hears from epoll when it goes on. Requests to an io_uring fail by becoming a NOP with that
 * result. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* In place of an errno: a part is taken. */
#define ERROR_SHORT 1000
#define NOP_INJECT_RESULT 1u /* IORING_NOP_INJECT_RESULT, Linux 6.10 */
#define CHANCE_ONE 1000000u
#define WATCHED_MAX 65536

/* One entry of the file. */
struct rule {
    char name[16];
    _Atomic uint64_t calls;  /* so far */
    _Atomic uint64_t first;  /* the call that fails, counted from 1; 0: none */
    _Atomic uint64_t every;  /* and each such one after it; 0: only that one */
    _Atomic uint64_t failed; /* so far */
    _Atomic uint32_t error;  /* errno, or ERROR_SHORT */
    _Atomic uint32_t chance; /* of a million, besides */
    uint64_t seed;           /* of the chance */
};

#define RULES(X)                                                                                   \
    X(HEAP, "heap")                                                                                \
    X(MMAP, "mmap")                                                                                \
    X(ACCEPT, "accept")                                                                            \
    X(RECV, "recv")                                                                                \
    X(SEND, "send")                                                                                \
    X(EPOLL_CREATE, "epoll_create")                                                                \
    X(EPOLL_CTL, "epoll_ctl")                                                                      \
    X(EPOLL_WAIT, "epoll_wait")                                                                    \
    X(SOCKET, "socket")                                                                            \
    X(BIND, "bind")                                                                                \
    X(LISTEN, "listen")                                                                            \
    X(SETSOCKOPT, "setsockopt")                                                                    \
    X(GETSOCKNAME, "getsockname")                                                                  \
    X(EVENTFD, "eventfd")                                                                          \
    X(FCNTL, "fcntl")                                                                              \
    X(DUP, "dup")                                                                                  \
    X(FOPEN, "fopen")                                                                              \
    X(GETRANDOM, "getrandom")                                                                      \
    X(THREAD, "pthread_create")                                                                    \
    X(URING_INIT, "uring_init")                                                                    \
    X(URING_REGISTER, "uring_register")                                                            \
    X(URING_PROBE, "uring_probe")                                                                  \
    X(URING_SUBMIT, "uring_submit")                                                                \
    X(URING_ACCEPT, "uring_accept")                                                                \
    X(URING_RECV, "uring_recv")                                                                    \
    X(URING_SEND, "uring_send")                                                                    \
    X(URING_BELL, "uring_bell")

enum rule_idx {
#define X(id, name) RULE_##id,
    RULES(X)
#undef X
        RULE_COUNT
};

static const char *const rule_names[RULE_COUNT] = {
#define X(id, name) [RULE_##id] = (name),
    RULES(X)
#undef X
};

static struct rule *rules[RULE_COUNT]; /* NULL before main(), and for what the file does not name */

/* What each descriptor is watched for, so that an edge can be repeated. */
static struct watched {
    int epoll_fd;
    struct epoll_event event;
} watched[WATCHED_MAX];

/* The next definition of a function: the one that this module stands before. */
#define NEXT(name) next_##name()
#define DEFINE_NEXT(ret, name, ...)                                                                \
    typedef ret (*name##_fn)(__VA_ARGS__);                                                         \
    static name##_fn next_##name(void)                                                             \
    {                                                                                              \
        static _Atomic(name##_fn) cached;                                                          \
        name##_fn fn = atomic_load_explicit(&cached, memory_order_relaxed);                        \
        if (fn == NULL) {                                                                          \
            *(void **)&fn = dlsym(RTLD_NEXT, #name);                                               \
            atomic_store_explicit(&cached, fn, memory_order_relaxed);                              \
        }                                                                                          \
        return fn;                                                                                 \
    }

/* Rules ---------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Counts a call. Returns 0, or the error that it fails with. */
static int failing(enum rule_idx idx)
{
    struct rule *r = rules[idx];
    if (r == NULL)
        return 0;
    uint64_t n = atomic_fetch_add(&r->calls, 1) + 1;
    uint64_t first = atomic_load(&r->first);
    uint64_t every = atomic_load(&r->every);
    uint32_t chance = atomic_load(&r->chance);
    bool hit = first != 0 && (n == first || (every != 0 && n > first && (n - first) % every == 0));
    if (!hit && (chance == 0 || mix(r->seed + n * 0x9e3779b97f4a7c15u) % CHANCE_ONE >= chance))
        return 0;
    atomic_fetch_add(&r->failed, 1);
    return (int)atomic_load(&r->error);
}

/* Whether this call fails; errno is set then. */
static bool fails(enum rule_idx idx)
{
    int err = failing(idx);
    if (err == 0)
        return false;
    errno = err;
    return true;
}

/* Runs behind the constructors of the libraries and before main(). */
static __attribute__((constructor)) void map_rules(void)
{
    const char *path = getenv("FAIL_NTH");
    struct stat st;
    if (path == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        fprintf(stderr, "fail_nth: can't open %s\n", path);
        abort();
    }
    struct rule *all = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (all == MAP_FAILED)
        abort();
    syscall(SYS_close, fd);
    for (size_t i = 0; i < (size_t)st.st_size / sizeof(*all); i++) {
        for (int k = 0; k < RULE_COUNT; k++) {
            if (strncmp(all[i].name, rule_names[k], sizeof(all[i].name)) == 0)
                rules[k] = &all[i];
        }
    }
}

/* Memory ----------------------------------------------------------------------------------------
 * The C library's own names need no look-up, which would itself allocate. */

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *p, size_t bytes);
extern void *__libc_memalign(size_t align, size_t bytes);

void *malloc(size_t bytes)
{
    return fails(RULE_HEAP) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return fails(RULE_HEAP) ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *p, size_t bytes)
{
    return fails(RULE_HEAP) ? NULL : __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
    return fails(RULE_HEAP) ? NULL : __libc_memalign(align, bytes);
}

int posix_memalign(void **p, size_t align, size_t bytes)
{
    int err = failing(RULE_HEAP);
    if (err != 0)
        return err;
    *p = __libc_memalign(align, bytes);
    return *p == NULL ? ENOMEM : 0;
}

DEFINE_NEXT(void *, mmap, void *, size_t, int, int, int, off_t)

void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    return fails(RULE_MMAP) ? MAP_FAILED : NEXT(mmap)(at, bytes, prot, flags, fd, offset);
}

/* System calls --------------------------------------------------------------------------------- */

#define DEFINE_CALL(rule, name, params, args, ...)                                                 \
    DEFINE_NEXT(int, name, __VA_ARGS__)                                                            \
    int name params                                                                                \
    {                                                                                              \
        return fails(rule) ? -1 : NEXT(name) args;                                                 \
    }

DEFINE_CALL(RULE_ACCEPT, accept4,
            (int fd, struct sockaddr *restrict addr, socklen_t *restrict len, int flags),
            (fd, addr, len, flags), int, struct sockaddr *, socklen_t *, int)
DEFINE_CALL(RULE_EPOLL_CREATE, epoll_create1, (int flags), (flags), int)
DEFINE_CALL(RULE_EPOLL_WAIT, epoll_wait, (int fd, struct epoll_event *events, int max, int ms),
            (fd, events, max, ms), int, struct epoll_event *, int, int)
DEFINE_CALL(RULE_EPOLL_WAIT, epoll_pwait2,
            (int fd, struct epoll_event *events, int max, const struct timespec *ts,
             const sigset_t *signals),
            (fd, events, max, ts, signals), int, struct epoll_event *, int, const struct timespec *,
            const sigset_t *)
DEFINE_CALL(RULE_SOCKET, socket, (int family, int type, int protocol), (family, type, protocol),
            int, int, int)
DEFINE_CALL(RULE_BIND, bind, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len),
            int, const struct sockaddr *, socklen_t)
DEFINE_CALL(RULE_LISTEN, listen, (int fd, int backlog), (fd, backlog), int, int)
DEFINE_CALL(RULE_SETSOCKOPT, setsockopt,
            (int fd, int level, int name, const void *value, socklen_t len),
            (fd, level, name, value, len), int, int, int, const void *, socklen_t)
DEFINE_CALL(RULE_GETSOCKNAME, getsockname,
            (int fd, struct sockaddr *restrict addr, socklen_t *restrict len), (fd, addr, len), int,
            struct sockaddr *, socklen_t *)
DEFINE_CALL(RULE_EVENTFD, eventfd, (unsigned count, int flags), (count, flags), unsigned, int)
DEFINE_CALL(RULE_DUP, dup, (int fd), (fd), int)

DEFINE_NEXT(int, fcntl, int, int, ...)

int fcntl(int fd, int what, ...)
{
    va_list ap;
    va_start(ap, what);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    return fails(RULE_FCNTL) ? -1 : NEXT(fcntl)(fd, what, arg);
}

DEFINE_NEXT(FILE *, fopen, const char *, const char *)

FILE *fopen(const char *restrict path, const char *restrict mode)
{
    return fails(RULE_FOPEN) ? NULL : NEXT(fopen)(path, mode);
}

DEFINE_NEXT(ssize_t, getrandom, void *, size_t, unsigned)

ssize_t getrandom(void *p, size_t len, unsigned flags)
{
    return fails(RULE_GETRANDOM) ? -1 : NEXT(getrandom)(p, len, flags);
}

DEFINE_NEXT(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attr,
                   void *(*run)(void *), void *restrict arg)
{
    int err = failing(RULE_THREAD);
    return err != 0 ? err : NEXT(pthread_create)(thread, attr, run, arg);
}

DEFINE_NEXT(int, epoll_ctl, int, int, int, struct epoll_event *)

int epoll_ctl(int epoll_fd, int what, int fd, struct epoll_event *event)
{
    if (fails(RULE_EPOLL_CTL))
        return -1;
    if (fd >= 0 && fd < WATCHED_MAX && event != NULL)
        watched[fd] = (struct watched){epoll_fd, *event};
    return NEXT(epoll_ctl)(epoll_fd, what, fd, event);
}

/* Has epoll tell again what fd is ready for. */
static void repeat_edge(int fd)
{
    int keep = errno;
    if (fd >= 0 && fd < WATCHED_MAX && watched[fd].epoll_fd > 0)
        NEXT(epoll_ctl)(watched[fd].epoll_fd, EPOLL_CTL_MOD, fd, &watched[fd].event);
    errno = keep;
}

/* Whether a transfer on fd fails; *len is cut when only a part shall be taken. */
static bool transfer_fails(enum rule_idx idx, int fd, size_t *len)
{
    int err = failing(idx);
    if (err == 0)
        return false;
    if (err == ERROR_SHORT) {
        *len = *len > 1 ? *len / 2 : *len;
        repeat_edge(fd);
        return false;
    }
    if (err == EAGAIN)
        repeat_edge(fd);
    errno = err;
    return true;
}

DEFINE_NEXT(ssize_t, recv, int, void *, size_t, int)
DEFINE_NEXT(ssize_t, send, int, const void *, size_t, int)
DEFINE_NEXT(ssize_t, sendmsg, int, const struct msghdr *, int)

ssize_t recv(int fd, void *p, size_t len, int flags)
{
    return transfer_fails(RULE_RECV, fd, &len) ? -1 : NEXT(recv)(fd, p, len, flags);
}

ssize_t send(int fd, const void *p, size_t len, int flags)
{
    return transfer_fails(RULE_SEND, fd, &len) ? -1 : NEXT(send)(fd, p, len, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    size_t whole = msg->msg_iovlen > 0 ? msg->msg_iov[0].iov_len : 0;
    size_t len = whole;
    if (transfer_fails(RULE_SEND, fd, &len))
        return -1;
    if (len == whole)
        return NEXT(sendmsg)(fd, msg, flags);
    return NEXT(send)(fd, msg->msg_iov[0].iov_base, len, flags);
}

DEFINE_NEXT(long, syscall, long, ...)

/* The server makes its most frequent calls this way. */
long syscall(long number, ...)
{
    va_list ap;
    long a[6];
    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    size_t len = (size_t)a[2];
    if (number == SYS_recvfrom && transfer_fails(RULE_RECV, (int)a[0], &len))
        return -1;
    if (number == SYS_sendto && transfer_fails(RULE_SEND, (int)a[0], &len))
        return -1;
    if ((number == SYS_epoll_pwait || number == SYS_epoll_pwait2) && fails(RULE_EPOLL_WAIT))
        return -1;
    return NEXT(syscall)(number, a[0], a[1], (long)len, a[3], a[4], a[5]);
}

/* io_uring ------------------------------------------------------------------------------------- */

static enum rule_idx rule_of_request(uint8_t opcode)
{
    switch (opcode) {
    case IORING_OP_ACCEPT:
        return RULE_URING_ACCEPT;
    case IORING_OP_RECV:
        return RULE_URING_RECV;
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
        return RULE_URING_SEND;
    case IORING_OP_MSG_RING:
        return RULE_URING_BELL;
    default:
        return RULE_COUNT;
    }
}

/* A send that is broken off answers with what it has sent. */
static void fail_request(struct io_uring_sqe *sqe, int err)
{
    uint64_t data = sqe->user_data;
    uint8_t flags = sqe->flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_CQE_SKIP_SUCCESS);
    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = IORING_OP_NOP;
    sqe->fd = -1;
    sqe->flags = flags;
    sqe->user_data = data;
    sqe->len = err == ERROR_SHORT ? 1 : (uint32_t)-err;
    sqe->rw_flags = NOP_INJECT_RESULT;
}

/* Those that the next submit will show to the kernel. */
static void pass_requests(struct io_uring *ring)
{
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        struct io_uring_sqe *sqe = &ring->sq.sqes[i & ring->sq.ring_mask];
        enum rule_idx idx = rule_of_request(sqe->opcode);
        int err = idx < RULE_COUNT ? failing(idx) : 0;
        if (err != 0)
            fail_request(sqe, err);
    }
}

DEFINE_NEXT(int, io_uring_submit, struct io_uring *)

int io_uring_submit(struct io_uring *ring)
{
    int err = failing(RULE_URING_SUBMIT);
    if (err != 0)
        return -err;
    pass_requests(ring);
    return NEXT(io_uring_submit)(ring);
}

DEFINE_NEXT(int, io_uring_submit_and_get_events, struct io_uring *)

int io_uring_submit_and_get_events(struct io_uring *ring)
{
    int err = failing(RULE_URING_SUBMIT);
    if (err != 0)
        return -err;
    pass_requests(ring);
    return NEXT(io_uring_submit_and_get_events)(ring);
}

DEFINE_NEXT(int, io_uring_submit_and_wait_timeout, struct io_uring *, struct io_uring_cqe **,
            unsigned, struct __kernel_timespec *, sigset_t *)

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n,
                                     struct __kernel_timespec *ts, sigset_t *signals)
{
    int err = failing(RULE_URING_SUBMIT);
    if (err != 0)
        return -err;
    pass_requests(ring);
    return NEXT(io_uring_submit_and_wait_timeout)(ring, cqe, n, ts, signals);
}

#define DEFINE_URING(rule, name, params, args, ...)                                                \
    DEFINE_NEXT(int, name, __VA_ARGS__)                                                            \
    int name params                                                                                \
    {                                                                                              \
        int err = failing(rule);                                                                   \
        return err != 0 ? -err : NEXT(name) args;                                                  \
    }

DEFINE_URING(RULE_URING_INIT, io_uring_queue_init_params,
             (unsigned entries, struct io_uring *ring, struct io_uring_params *p),
             (entries, ring, p), unsigned, struct io_uring *, struct io_uring_params *)
DEFINE_URING(RULE_URING_REGISTER, io_uring_register,
             (unsigned fd, unsigned opcode, const void *arg, unsigned count),
             (fd, opcode, arg, count), unsigned, unsigned, const void *, unsigned)
DEFINE_URING(RULE_URING_REGISTER, io_uring_register_buf_ring,
             (struct io_uring * ring, struct io_uring_buf_reg *reg, unsigned flags),
             (ring, reg, flags), struct io_uring *, struct io_uring_buf_reg *, unsigned)
DEFINE_URING(RULE_URING_REGISTER, io_uring_register_files_sparse,
             (struct io_uring * ring, unsigned count), (ring, count), struct io_uring *, unsigned)
DEFINE_URING(RULE_URING_REGISTER, io_uring_register_files_update,
             (struct io_uring * ring, unsigned at, const int *fds, unsigned count),
             (ring, at, fds, count), struct io_uring *, unsigned, const int *, unsigned)
DEFINE_URING(RULE_URING_REGISTER, io_uring_register_ring_fd, (struct io_uring * ring), (ring),
             struct io_uring *)

DEFINE_NEXT(struct io_uring_probe *, io_uring_get_probe_ring, struct io_uring *)

struct io_uring_probe *io_uring_get_probe_ring(struct io_uring *ring)
{
    return fails(RULE_URING_PROBE) ? NULL : NEXT(io_uring_get_probe_ring)(ring);
}
