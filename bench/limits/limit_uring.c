/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The least that an echo or a fan-out can cost with io_uring: multishot receives into incremental
 * buffers, frames turned in place and sent from there. A buffer goes back to the kernel when all
 * that was in it has been sent.
 *
 *   limit-uring [--fanout] [--gather] [--once] [--port N] [--seconds N] [--sndbuf BYTES]
 *               [--buffers N] [--buffer-bytes BYTES]
 *
 * A connection has one send under way, or a chain of linked ones; what comes meanwhile waits, which
 * is rare. A fan-out goes to every connection, the sender's included, and takes one sender at a
 * time. One thread. */

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/socket.h>

#include "bench/limits/raw.h"
#include "core/uring_compat.h"

#define SQ_ENTRIES 4096
#define CQ_ENTRIES (8 * SQ_ENTRIES)
#define SLOTS_MAX 19000
#define GROUP 1
#define BUFFERS_MAX 4096
#define ARENA_BYTES (1u << 20)
#define HEAD_PLACES 4096
#define REQUEST_MAX 1024

enum op { OP_ACCEPT, OP_RECV, OP_SEND, OP_CLOSE };

/* What waits for the end of the sends under way; parts of one buffer leave together. */
struct waiting {
    struct waiting *next;
    uint16_t buffer;
    struct raw_batch batch;
};

struct peer {
    struct raw_stream stream;
    struct waiting *first, *last;
    uint8_t *request; /* one that the end of a buffer has cut; until the slot is closed */
    uint16_t request_len;
    uint32_t member;
    uint16_t under_way; /* sends */
    bool is_open;
    bool is_closing;
};

struct buffer {
    uint32_t filled; /* bytes told by the kernel */
    uint32_t uses;   /* sends under way or waiting that read from it */
    bool is_kernels; /* the kernel may fill it further */
};

static struct io_uring ring;
static struct io_uring_buf_ring *lent;
static uint8_t *memory; /* buffer i starts at memory + RAW_PAD + i * buffer_bytes */
static struct buffer buffers[BUFFERS_MAX];
static struct peer peers[SLOTS_MAX];
static uint32_t members[SLOTS_MAX];
static uint32_t member_count;
static int listener_fd;
static struct raw_options o;
/* Message headers of the sends that the next submit copies. */
static uint8_t arena[ARENA_BYTES] __attribute__((aligned(64)));
static size_t arena_used;
/* Heads that were cut, one or none for each slice: so many slices are never under way. */
static uint8_t heads[HEAD_PLACES][RAW_PAD];
static uint32_t heads_used;

static uint64_t tag(enum op op, uint32_t slot, uint32_t buffer)
{
    return (uint64_t)op << 56 | (uint64_t)buffer << 32 | slot;
}

static void submit(void)
{
    if (io_uring_submit(&ring) < 0)
        raw_die("io_uring_submit", errno);
    arena_used = 0;
}

static struct io_uring_sqe *next_sqe(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

    if (__builtin_expect(sqe == NULL, 0)) {
        submit();
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

/* Buffers ------------------------------------------------------------------------------------- */

static uint8_t *buffer_at(uint32_t i)
{
    return memory + RAW_PAD + (size_t)i * o.buffer_bytes;
}

static void lend(uint32_t i)
{
    buffers[i] = (struct buffer){.is_kernels = true};
    io_uring_buf_ring_add(lent, buffer_at(i), o.buffer_bytes, (unsigned short)i,
                          io_uring_buf_ring_mask(o.buffers), 0);
    io_uring_buf_ring_advance(lent, 1);
}

static void release(uint32_t i, uint32_t uses)
{
    struct buffer *b = &buffers[i];

    b->uses -= uses;
    if (b->uses == 0 && !b->is_kernels)
        lend(i);
}

static void make_buffers(void)
{
    size_t bytes = (size_t)o.buffers * o.buffer_bytes + 2 * RAW_PAD;

    if (o.buffers == 0 || o.buffers > BUFFERS_MAX || (o.buffers & (o.buffers - 1)) != 0)
        raw_die("--buffers must be a power of two up to 4096", 0);
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    lent = mmap(NULL, o.buffers * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || (void *)lent == MAP_FAILED)
        raw_die("no memory for buffers", errno);
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)lent,
                                   .ring_entries = o.buffers,
                                   .bgid = GROUP,
                                   .pad = URING_PBUF_INCREMENTAL};
    int err = io_uring_register_buf_ring(&ring, &reg, 0);

    if (err < 0)
        raw_die("no incremental buffers (kernel 6.12)", -err);
    io_uring_buf_ring_init(lent);
    for (uint32_t i = 0; i < o.buffers; i++)
        lend(i);
}

/* Connections --------------------------------------------------------------------------------- */

static void arm_accept(void)
{
    struct io_uring_sqe *sqe = next_sqe();

    io_uring_prep_multishot_accept_direct(sqe, listener_fd, NULL, NULL, 0);
    sqe->user_data = tag(OP_ACCEPT, 0, 0);
}

static void arm_recv(uint32_t slot)
{
    struct io_uring_sqe *sqe = next_sqe();

    io_uring_prep_recv_multishot(sqe, (int)slot, NULL, 0, 0);
    sqe->flags = IOSQE_BUFFER_SELECT | IOSQE_FIXED_FILE;
    sqe->buf_group = GROUP;
    sqe->user_data = tag(OP_RECV, slot, 0);
}

/* Nothing is armed any more: its receive has ended. */
static void close_slot(uint32_t slot)
{
    struct peer *p = &peers[slot];
    struct io_uring_sqe *sqe;

    if (p->is_open) {
        uint32_t last = members[--member_count];

        members[p->member] = last;
        peers[last].member = p->member;
        p->is_open = false;
    }
    p->is_closing = true;
    if (p->under_way > 0)
        return;
    for (struct waiting *w; (w = p->first) != NULL;) {
        p->first = w->next;
        release(w->buffer, 1);
        free(w);
    }
    free(p->request);
    p->request = NULL;
    sqe = next_sqe();
    io_uring_prep_close_direct(sqe, slot);
    sqe->user_data = tag(OP_CLOSE, slot, 0);
}

/* Sending ------------------------------------------------------------------------------------- */

/* Counts a send and tags it, when it has been prepared. */
static inline void note_send(struct io_uring_sqe *sqe, uint32_t slot, uint32_t buffer)
{
    peers[slot].under_way++;
    buffers[buffer].uses++;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = tag(OP_SEND, slot, buffer);
}

static inline struct io_uring_sqe *send_span(uint32_t slot, uint32_t buffer,
                                             const struct raw_span *s)
{
    struct io_uring_sqe *sqe = next_sqe();

    io_uring_prep_send(sqe, (int)slot, s->ptr, s->len, MSG_NOSIGNAL | MSG_WAITALL);
    note_send(sqe, slot, buffer);
    return sqe;
}

static void send_gathered(uint32_t slot, uint32_t buffer, const struct raw_batch *b)
{
    size_t bytes = sizeof(struct msghdr) + sizeof(struct iovec) * RAW_SPANS_MAX;

    if (arena_used + bytes > ARENA_BYTES)
        submit();
    struct msghdr *msg = (struct msghdr *)(arena + arena_used);
    struct iovec *iov = (struct iovec *)(msg + 1);
    struct io_uring_sqe *sqe = next_sqe();

    arena_used += bytes;
    for (int i = 0; i < b->count; i++)
        iov[i] = (struct iovec){b->spans[i].ptr, b->spans[i].len};
    *msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = (size_t)b->count};
    io_uring_prep_sendmsg(sqe, (int)slot, msg, MSG_NOSIGNAL | MSG_WAITALL);
    note_send(sqe, slot, buffer);
}

/* One send; or a chain, whose order the links keep, and which one submit takes as a whole. */
static void send_batch(uint32_t slot, uint32_t buffer, const struct raw_batch *b)
{
    struct io_uring_sqe *sqe = NULL;

    if (b->count > 1 && o.gather) {
        send_gathered(slot, buffer, b);
        return;
    }
    if (b->count > 1 && io_uring_sq_space_left(&ring) < (unsigned)b->count)
        submit();
    for (int i = 0; i < b->count; i++) {
        sqe = send_span(slot, buffer, &b->spans[i]);
        sqe->flags |= IOSQE_IO_LINK;
    }
    sqe->flags &= (unsigned char)~IOSQE_IO_LINK;
}

static void send_later(struct peer *p, uint32_t buffer, const struct raw_batch *b)
{
    struct waiting *w = malloc(sizeof(*w));

    if (w == NULL)
        raw_die("no memory", 0);
    w->next = NULL;
    w->buffer = (uint16_t)buffer;
    w->batch = *b;
    buffers[buffer].uses++;
    if (p->first == NULL)
        p->first = w;
    else
        p->last->next = w;
    p->last = w;
}

static inline void send_or_wait(uint32_t slot, uint32_t buffer, const struct raw_batch *b)
{
    struct peer *p = &peers[slot];

    if (__builtin_expect(p->under_way > 0, 0))
        send_later(p, buffer, b);
    else
        send_batch(slot, buffer, b);
}

static void on_sent(uint32_t slot, uint32_t buffer)
{
    struct peer *p = &peers[slot];

    p->under_way--;
    release(buffer, 1);
    if (p->under_way > 0)
        return;
    if (p->is_closing) {
        close_slot(slot);
    } else if (p->first != NULL) {
        struct waiting *w = p->first;

        p->first = w->next;
        send_batch(slot, w->buffer, &w->batch);
        release(w->buffer, 1);
        free(w);
    }
}

/* Receiving ----------------------------------------------------------------------------------- */

static void pass_on(uint32_t slot, uint32_t buffer, const struct raw_batch *b)
{
    if (!o.fanout || b->closes) {
        send_or_wait(slot, buffer, b);
        return;
    }
    for (uint32_t i = 0; i < member_count; i++)
        send_or_wait(members[i], buffer, b);
}

/* Collects a request that did not come in one piece. Returns whether it is whole now. */
static bool collect_request(struct peer *p, const uint8_t *in, size_t len)
{
    if (p->request == NULL)
        p->request = malloc(REQUEST_MAX);
    if (p->request == NULL || p->request_len + len > REQUEST_MAX)
        raw_die("a request is too long", 0);
    memcpy(p->request + p->request_len, in, len);
    p->request_len += (uint16_t)len;
    return p->request_len >= 4 && memcmp(p->request + p->request_len - 4, "\r\n\r\n", 4) == 0;
}

static void greet(uint32_t slot, uint32_t buffer, uint8_t *in, size_t len)
{
    struct peer *p = &peers[slot];
    struct raw_batch answer = {.count = 1};

    if (p->request != NULL || len < 4 || memcmp(in + len - 4, "\r\n\r\n", 4) != 0) {
        if (!collect_request(p, in, len))
            return;
        in = p->request;
        len = p->request_len;
    }
    if (!raw_answer(in, len, in))
        raw_die("a request that is no upgrade", 0);
    answer.spans[0] = (struct raw_span){in, RAW_ANSWER_BYTES};
    peers[slot].is_open = true;
    peers[slot].member = member_count;
    members[member_count++] = slot;
    send_batch(slot, buffer, &answer);
}

static void pass_on_single(uint32_t slot, uint32_t buffer, const struct raw_span *s)
{
    struct raw_batch b;
    uint32_t first = o.fanout ? 0 : slot, last = o.fanout ? member_count : slot + 1;

    for (uint32_t i = first; i < last; i++) {
        uint32_t to = o.fanout ? members[i] : slot;

        if (__builtin_expect(peers[to].under_way == 0, 1)) {
            send_span(to, buffer, s);
        } else {
            b.count = 1;
            b.spans[0] = *s;
            send_later(&peers[to], buffer, &b);
        }
    }
}

__attribute__((noinline)) static void turn_slice(uint32_t slot, uint32_t buffer, uint8_t *in,
                                                 size_t len)
{
    static struct raw_batch b;

    while (len > 0) {
        uint8_t *cut_head = heads[heads_used++ % HEAD_PLACES] + RAW_PAD;
        size_t taken = raw_turn(&peers[slot].stream, in, len, cut_head, o.gather, &b);

        if (b.count > 0)
            pass_on(slot, buffer, &b);
        in += taken;
        len -= taken;
    }
}

static void on_bytes(uint32_t slot, uint32_t buffer, uint8_t *in, size_t len)
{
    struct peer *p = &peers[slot];
    struct raw_span single;

    if (__builtin_expect(!p->is_open, 0)) {
        if (!p->is_closing)
            greet(slot, buffer, in, len);
    } else if (raw_turn_single(&p->stream, in, len, &single)) {
        pass_on_single(slot, buffer, &single);
    } else {
        turn_slice(slot, buffer, in, len);
    }
}

static inline void on_recv(uint32_t slot, int res, unsigned flags)
{
    if (__builtin_expect(flags & IORING_CQE_F_BUFFER, IORING_CQE_F_BUFFER)) {
        uint32_t i = flags >> IORING_CQE_BUFFER_SHIFT;
        struct buffer *b = &buffers[i];
        uint8_t *in = buffer_at(i) + b->filled;

        b->filled += (uint32_t)res;
        on_bytes(slot, i, in, (size_t)res);
        if (!(flags & URING_CQE_F_BUF_MORE)) {
            b->is_kernels = false;
            release(i, 0);
        }
    }
    if (__builtin_expect(flags & IORING_CQE_F_MORE, IORING_CQE_F_MORE))
        return;
    if (res > 0 || res == -ENOBUFS)
        arm_recv(slot);
    else
        close_slot(slot);
}

static void on_accept(int slot, unsigned flags)
{
    if (slot < 0 || slot >= SLOTS_MAX)
        raw_die("accept", slot < 0 ? -slot : ENFILE);
    memset(&peers[slot], 0, sizeof(peers[slot]));
    arm_recv((uint32_t)slot);
    if (!(flags & IORING_CQE_F_MORE))
        arm_accept();
}

static void on_completion(const struct io_uring_cqe *cqe)
{
    uint32_t slot = (uint32_t)cqe->user_data;
    uint32_t buffer = (uint32_t)(cqe->user_data >> 32) & UINT16_MAX;

    switch ((enum op)(cqe->user_data >> 56)) {
    case OP_SEND:
        on_sent(slot, buffer);
        break;
    case OP_RECV:
        on_recv(slot, cqe->res, cqe->flags);
        break;
    case OP_ACCEPT:
        on_accept(cqe->res, cqe->flags);
        break;
    case OP_CLOSE:
        if (o.once && member_count == 0)
            exit(0);
        break;
    }
}

static void make_ring(void)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE,
        .cq_entries = CQ_ENTRIES,
    };
    int err = io_uring_queue_init_params(SQ_ENTRIES, &ring, &params);

    if (err == 0)
        err = io_uring_register_files_sparse(&ring, SLOTS_MAX);
    if (err < 0)
        raw_die("io_uring", -err);
    io_uring_register_ring_fd(&ring);
}

/* liburing's own walk also serves rings with larger entries, which costs. */
static void walk_completions(void)
{
    const struct io_uring_cqe *cqes = ring.cq.cqes;
    unsigned mask = *ring.cq.kring_mask;
    unsigned head = *ring.cq.khead;
    unsigned tail = __atomic_load_n(ring.cq.ktail, __ATOMIC_ACQUIRE);

    while (head != tail)
        on_completion(&cqes[head++ & mask]);
    __atomic_store_n(ring.cq.khead, head, __ATOMIC_RELEASE);
}

int main(int argc, char **argv)
{
    o = raw_options_read(argc, argv);
    listener_fd = raw_listen(&o);
    make_ring();
    make_buffers();
    arm_accept();
    for (;;) {
        int err = io_uring_submit_and_wait(&ring, 1);

        if (err < 0 && err != -EINTR)
            raw_die("io_uring_submit_and_wait", -err);
        arena_used = 0;
        walk_completions();
    }
}
