/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The least that an echo or a fan-out can cost with io_uring: multishot receives into incremental
 * buffers, frames turned in place and sent from there. A buffer goes back to the kernel when all
 * that was in it has been sent.
 *
 *   limit-uring [--fanout] [--gather] [--once] [--port N] [--seconds N] [--sndbuf BYTES]
 *               [--buffers N] [--buffer-bytes BYTES]
 *
 * A short send is over when it has been submitted: it may not wait, and says nothing when all of it
 * was taken. A longer one, or what a socket did not take, is awaited; a connection has one such
 * send under way, or a chain of linked ones, and what comes meanwhile waits, which is rare. A
 * fan-out goes to every connection, the sender's included, and takes one sender at a time. One
 * thread. */

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

/* Bytes of a send that is not awaited, at most. */
#define QUICK_MAX 2048
/* A tag has 20 bits for the slot, 12 for the place of the request in the ring. */
#define SLOT_BITS 20
#define SLOT_MASK ((1u << SLOT_BITS) - 1)

/* No frame begins where so much of the last one is still to come: what a stream says that is not
 * open, so that the common case has one thing less to ask. */
#define NOT_OPEN UINT64_MAX

_Static_assert(SLOTS_MAX <= SLOT_MASK && SQ_ENTRIES <= 1u << (32 - SLOT_BITS), "tags");

enum op { OP_ACCEPT, OP_RECV, OP_SEND, OP_QUICK, OP_CLOSE };

/* What waits for the end of the sends under way; parts of one buffer leave together. */
struct waiting {
    struct waiting *next;
    uint16_t buffer;
    struct raw_batch batch;
};

struct peer {
    struct raw_stream stream;
    struct waiting *first, *last;
    uint32_t member;
    uint32_t quick_batch; /* the submit with which a quick send left last */
    uint16_t under_way;   /* sends that are awaited */
    bool is_open;
    bool is_closing;
};

_Static_assert(sizeof(struct peer) == 64, "a line of cache, found by a shift");

/* A request that the end of a buffer has cut; until the slot is closed. */
struct request {
    uint8_t *bytes;
    size_t len;
};

struct buffer {
    uint8_t *next;   /* where the kernel goes on */
    uint32_t uses;   /* awaited sends, under way or waiting, that read from it */
    bool is_kernels; /* the kernel may fill it further */
};

static struct io_uring ring;
static struct io_uring_buf_ring *lent;
static uint8_t *memory; /* buffer i starts at memory + RAW_PAD + i * buffer_bytes */
static struct buffer buffers[BUFFERS_MAX];
static struct peer peers[SLOTS_MAX] __attribute__((aligned(64)));
static struct request requests[SLOTS_MAX];
static uint32_t members[SLOTS_MAX];
static uint32_t member_count;
/* Buffers that nothing awaited reads from; quick sends that are not submitted yet may. */
static uint16_t done[BUFFERS_MAX];
static uint32_t done_count;
static uint32_t batch = 1;      /* counts submits */
static bool is_mixed;           /* the next submit is not of quick sends alone */
static unsigned failures_until; /* completions before this one hold no failure of a quick send */
static int listener_fd;
static struct raw_options o;
/* Message headers of the sends that the next submit copies. */
static uint8_t arena[ARENA_BYTES] __attribute__((aligned(64)));
static size_t arena_used;
/* Gathered for a fan-out, whose sends follow when all completions are walked. len 0: nothing. */
static struct raw_span held;
static uint32_t held_buffer; /* counts a use */
/* Heads that were cut, one or none for each slice: so many slices are never under way. */
static uint8_t heads[HEAD_PLACES][RAW_PAD];
static uint32_t heads_used;

static uint64_t tag(enum op op, uint32_t slot, uint32_t buffer)
{
    return (uint64_t)op << 56 | (uint64_t)buffer << 32 | slot;
}

/* Buffers ------------------------------------------------------------------------------------- */

static void lend(uint32_t i)
{
    uint8_t *begin = memory + RAW_PAD + (size_t)i * o.buffer_bytes;

    buffers[i] = (struct buffer){.next = begin, .is_kernels = true};
    io_uring_buf_ring_add(lent, begin, o.buffer_bytes, (unsigned short)i,
                          io_uring_buf_ring_mask(o.buffers), 0);
    io_uring_buf_ring_advance(lent, 1);
}

static void release(uint32_t i, uint32_t uses)
{
    struct buffer *b = &buffers[i];

    b->uses -= uses;
    if (b->uses == 0 && !b->is_kernels)
        done[done_count++] = (uint16_t)i;
}

/* Submitting ---------------------------------------------------------------------------------- */

static void take_failure(const struct io_uring_cqe *cqe);

/* All quick sends are over. */
static void note_submit(void)
{
    batch++;
    arena_used = 0;
    while (done_count > 0) {
        uint32_t i = done[--done_count];

        if (buffers[i].uses == 0) /* else the rest of a quick send reads from it */
            lend(i);
    }
}

/* Deals with what failed among the completions from `at` on, before more for the same connections
 * can follow. */
static void take_failures(unsigned at)
{
    failures_until = __atomic_load_n(ring.cq.ktail, __ATOMIC_ACQUIRE);
    for (; at != failures_until; at++) {
        const struct io_uring_cqe *cqe = &ring.cq.cqes[at & *ring.cq.kring_mask];

        if (cqe->user_data >> 56 == OP_QUICK)
            take_failure(cqe);
    }
}

/* Out of turn. */
static void submit(void)
{
    unsigned at = *ring.cq.ktail;

    if (io_uring_submit(&ring) < 0)
        raw_die("io_uring_submit", errno);
    take_failures(at);
    note_submit();
}

/* liburing's own also serves rings with larger entries, which costs. */
static inline unsigned next_place(void)
{
    if (__builtin_expect(ring.sq.sqe_tail - ring.sq.sqe_head == SQ_ENTRIES, 0))
        submit();
    return ring.sq.sqe_tail++ & (SQ_ENTRIES - 1);
}

/* For anything but a quick send. */
static struct io_uring_sqe *next_sqe(void)
{
    is_mixed = true;
    return &ring.sq.sqes[next_place()];
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
    p->stream.left = NOT_OPEN;
    if (p->under_way > 0)
        return;
    for (struct waiting *w; (w = p->first) != NULL;) {
        p->first = w->next;
        release(w->buffer, 1);
        free(w);
    }
    free(requests[slot].bytes);
    requests[slot] = (struct request){0};
    sqe = next_sqe();
    io_uring_prep_close_direct(sqe, slot);
    sqe->user_data = tag(OP_CLOSE, slot, 0);
}

/* Sending ------------------------------------------------------------------------------------- */

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

/* Whether the quick send of the slot, if one is not submitted yet, leaves nothing to be awaited. */
static bool is_over(uint32_t slot)
{
    if (peers[slot].quick_batch == batch)
        submit();
    return peers[slot].under_way == 0;
}

__attribute__((noinline)) static void send_single_later(uint32_t slot, uint32_t buffer,
                                                        struct raw_span s)
{
    struct raw_batch b = {.count = 1, .spans[0] = s};

    send_later(&peers[slot], buffer, &b);
}

/* Another quick send behind one that is not submitted yet. False: it waits now. */
__attribute__((noinline)) static bool may_follow(uint32_t slot, uint32_t buffer, struct raw_span s)
{
    if (is_over(slot))
        return true;
    send_single_later(slot, buffer, s);
    return false;
}

static const struct io_uring_sqe QUICK = {
    .opcode = IORING_OP_SEND,
    .flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS,
    .msg_flags = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT, /* all or a failure, at once */
};

/* Nothing awaited is under way there. Two in one submit could overtake each other, if the first
 * was cut and the second found room. */
static inline void send_quick(uint32_t slot, uint32_t buffer, struct raw_span s)
{
    struct peer *p = &peers[slot];

    if (__builtin_expect(p->quick_batch == batch, 0) && !may_follow(slot, buffer, s))
        return;
    unsigned place = next_place();
    struct io_uring_sqe *sqe = &ring.sq.sqes[place];

    p->quick_batch = batch;
    /* The kernel leaves requests as they are, so most places hold one of this kind already. */
    if (__builtin_expect(sqe->opcode != QUICK.opcode || sqe->flags != QUICK.flags, 0))
        *sqe = QUICK;
    sqe->fd = (int)slot;
    sqe->addr = (uintptr_t)s.ptr;
    sqe->len = (uint32_t)s.len;
    sqe->user_data = tag(OP_QUICK, slot | place << SLOT_BITS, buffer);
}

/* Counts a send and tags it, when it has been prepared. */
static inline void note_send(struct io_uring_sqe *sqe, uint32_t slot, uint32_t buffer)
{
    peers[slot].under_way++;
    buffers[buffer].uses++;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = tag(OP_SEND, slot, buffer);
}

static inline struct io_uring_sqe *send_span(uint32_t slot, uint32_t buffer, struct raw_span s)
{
    struct io_uring_sqe *sqe = next_sqe();

    io_uring_prep_send(sqe, (int)slot, s.ptr, s.len, MSG_NOSIGNAL | MSG_WAITALL);
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
    if (b->count == 1 && b->spans[0].len <= QUICK_MAX) {
        send_quick(slot, buffer, b->spans[0]);
        return;
    }
    if (b->count > 1 && o.gather) {
        send_gathered(slot, buffer, b);
        return;
    }
    if (b->count > 1 && io_uring_sq_space_left(&ring) < (unsigned)b->count)
        submit();
    for (int i = 0; i < b->count; i++) {
        struct io_uring_sqe *sqe = send_span(slot, buffer, b->spans[i]);
        if (i + 1 < b->count)
            sqe->flags |= IOSQE_IO_LINK;
    }
}

static inline void send_or_wait(uint32_t slot, uint32_t buffer, const struct raw_batch *b)
{
    struct peer *p = &peers[slot];

    if (__builtin_expect(p->under_way > 0, 0) || !is_over(slot))
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
    if (p->is_closing)
        close_slot(slot);
    while (p->first != NULL && p->under_way == 0 && is_over(slot)) {
        struct waiting *w = p->first;

        p->first = w->next;
        send_batch(slot, w->buffer, &w->batch);
        release(w->buffer, 1);
        free(w);
    }
}

/* A quick send was cut, or its socket was full: the rest is awaited. Its request still stands in
 * the ring. A broken connection is found by its receive. */
static void take_failure(const struct io_uring_cqe *cqe)
{
    uint32_t low = (uint32_t)cqe->user_data;
    uint32_t slot = low & SLOT_MASK, buffer = (uint32_t)(cqe->user_data >> 32) & UINT16_MAX;
    const struct io_uring_sqe *sent = &ring.sq.sqes[low >> SLOT_BITS];
    uint32_t skip = cqe->res > 0 ? (uint32_t)cqe->res : 0;
    struct raw_span rest = {(uint8_t *)(uintptr_t)sent->addr + skip, sent->len - skip};

    if (cqe->res > 0 || cqe->res == -EAGAIN)
        send_span(slot, buffer, rest);
}

/* Passing on --------------------------------------------------------------------------------- */

static inline void send_single(uint32_t slot, uint32_t buffer, struct raw_span s)
{
    if (__builtin_expect(peers[slot].under_way == 0, 1))
        send_quick(slot, buffer, s);
    else
        send_single_later(slot, buffer, s);
}

__attribute__((noinline)) static void fan_out_single(uint32_t buffer, struct raw_span s)
{
    for (uint32_t i = 0; i < member_count; i++)
        send_single(members[i], buffer, s);
}

static void send_held(void)
{
    if (held.len == 0)
        return;
    fan_out_single(held_buffer, held);
    release(held_buffer, 1);
    held.len = 0;
}

static inline bool may_hold(const struct raw_batch *b)
{
    return o.fanout && o.gather && !b->closes && b->count == 1 && b->spans[0].len <= QUICK_MAX;
}

/* Moves what has come in another receive behind what is held, or holds it in its place. */
__attribute__((noinline)) static void hold(uint32_t buffer, struct raw_span s)
{
    if (held.len > 0 && held_buffer == buffer && held.len + s.len <= QUICK_MAX) {
        memmove(held.ptr + held.len, s.ptr, s.len);
        held.len += s.len;
        return;
    }
    send_held();
    held = s;
    held_buffer = buffer;
    buffers[buffer].uses++;
}

static inline void pass_on_single(uint32_t slot, uint32_t buffer, struct raw_span s)
{
    if (!o.fanout)
        send_single(slot, buffer, s);
    else if (o.gather)
        hold(buffer, s);
    else
        fan_out_single(buffer, s);
}

static void pass_on(uint32_t slot, uint32_t buffer, const struct raw_batch *b)
{
    send_held();
    if (!o.fanout || b->closes) {
        send_or_wait(slot, buffer, b);
        return;
    }
    for (uint32_t i = 0; i < member_count; i++)
        send_or_wait(members[i], buffer, b);
}

/* Receiving ----------------------------------------------------------------------------------- */

/* Collects a request that did not come in one piece. Returns whether it is whole now. */
static bool collect_request(struct request *r, const uint8_t *in, size_t len)
{
    if (r->bytes == NULL)
        r->bytes = malloc(REQUEST_MAX);
    if (r->bytes == NULL || r->len + len > REQUEST_MAX)
        raw_die("a request is too long", 0);
    memcpy(r->bytes + r->len, in, len);
    r->len += len;
    return r->len >= 4 && memcmp(r->bytes + r->len - 4, "\r\n\r\n", 4) == 0;
}

static void greet(uint32_t slot, uint32_t buffer, uint8_t *in, size_t len)
{
    struct request *r = &requests[slot];
    struct raw_span answer = {in, RAW_ANSWER_BYTES};

    send_held(); /* the answer is written where more for it would go */
    if (r->bytes != NULL || len < 4 || memcmp(in + len - 4, "\r\n\r\n", 4) != 0) {
        if (!collect_request(r, in, len))
            return;
        answer.ptr = in = r->bytes;
        len = r->len;
    }
    if (!raw_answer(in, len, in))
        raw_die("a request that is no upgrade", 0);
    peers[slot].is_open = true;
    peers[slot].stream.left = 0;
    peers[slot].member = member_count;
    members[member_count++] = slot;
    send_quick(slot, buffer, answer);
}

__attribute__((noinline)) static void turn_slice(uint32_t slot, uint32_t buffer, uint8_t *in,
                                                 size_t len)
{
    static struct raw_batch b;

    while (len > 0) {
        uint8_t *cut_head = heads[heads_used++ % HEAD_PLACES] + RAW_PAD;
        bool is_cut = peers[slot].stream.head_len != 0; /* then bytes outside of the buffer leave */
        size_t taken = raw_turn(&peers[slot].stream, in, len, cut_head, o.gather, &b);

        if (!is_cut && may_hold(&b))
            hold(buffer, b.spans[0]);
        else if (b.count > 0)
            pass_on(slot, buffer, &b);
        in += taken;
        len -= taken;
    }
}

/* Not one short frame alone. */
__attribute__((noinline)) static void on_bytes(uint32_t slot, uint32_t buffer, uint8_t *in,
                                               size_t len)
{
    if (peers[slot].is_open)
        turn_slice(slot, buffer, in, len);
    else if (!peers[slot].is_closing)
        greet(slot, buffer, in, len);
}

static inline void take_bytes(uint32_t slot, int res, unsigned flags)
{
    uint32_t i = flags >> IORING_CQE_BUFFER_SHIFT;
    uint8_t *in = buffers[i].next;
    struct raw_span single;

    buffers[i].next = in + res;
    if (raw_turn_single(&peers[slot].stream, in, (size_t)res, &single))
        pass_on_single(slot, i, single);
    else
        on_bytes(slot, i, in, (size_t)res);
}

/* The buffer is used up, or the receive is over. */
__attribute__((noinline)) static void on_recv_odd(uint32_t slot, int res, unsigned flags)
{
    if (flags & IORING_CQE_F_BUFFER)
        take_bytes(slot, res, flags);
    if ((flags & (IORING_CQE_F_BUFFER | URING_CQE_F_BUF_MORE)) == IORING_CQE_F_BUFFER) {
        uint32_t i = flags >> IORING_CQE_BUFFER_SHIFT;

        buffers[i].is_kernels = false;
        release(i, 0);
    }
    if (flags & IORING_CQE_F_MORE)
        return;
    if (res > 0 || res == -ENOBUFS)
        arm_recv(slot);
    else
        close_slot(slot);
}

static inline void on_recv(uint32_t slot, int res, unsigned flags)
{
    const unsigned usual = IORING_CQE_F_BUFFER | IORING_CQE_F_MORE | URING_CQE_F_BUF_MORE;

    if (__builtin_expect((flags & usual) == usual, 1))
        take_bytes(slot, res, flags);
    else
        on_recv_odd(slot, res, flags);
}

static void on_accept(int slot, unsigned flags)
{
    if (slot < 0 || slot >= SLOTS_MAX)
        raw_die("accept", slot < 0 ? -slot : ENFILE);
    memset(&peers[slot], 0, sizeof(peers[slot]));
    peers[slot].stream.left = NOT_OPEN;
    arm_recv((uint32_t)slot);
    if (!(flags & IORING_CQE_F_MORE))
        arm_accept();
}

__attribute__((noinline)) static void on_other(const struct io_uring_cqe *cqe, unsigned place)
{
    uint32_t slot = (uint32_t)cqe->user_data;
    uint32_t buffer = (uint32_t)(cqe->user_data >> 32) & UINT16_MAX;

    switch ((enum op)(cqe->user_data >> 56)) {
    case OP_SEND:
        on_sent(slot, buffer);
        break;
    case OP_QUICK:
        if ((int)(place - failures_until) >= 0)
            take_failure(cqe);
        break;
    case OP_ACCEPT:
        on_accept(cqe->res, cqe->flags);
        break;
    case OP_CLOSE:
        if (o.once && member_count == 0)
            exit(0);
        break;
    case OP_RECV:
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
    for (unsigned i = 0; i < SQ_ENTRIES; i++)
        ring.sq.sqes[i] = QUICK;
}

/* liburing's own walk also serves rings with larger entries, which costs. */
static void walk_completions(void)
{
    const struct io_uring_cqe *cqes = ring.cq.cqes;
    unsigned mask = *ring.cq.kring_mask;
    unsigned head = *ring.cq.khead;
    unsigned tail = __atomic_load_n(ring.cq.ktail, __ATOMIC_ACQUIRE);

    if (is_mixed) {
        is_mixed = false;
        take_failures((int)(head - failures_until) > 0 ? head : failures_until);
    }
    for (; head != tail && cqes[head & mask].user_data >> 56 == OP_QUICK; head++)
        on_other(&cqes[head & mask], head); /* nothing else completes within a submit */
    note_submit();
    for (; head != tail; head++) {
        const struct io_uring_cqe *cqe = &cqes[head & mask];

        if (__builtin_expect(cqe->user_data >> 56 == OP_RECV, 1))
            on_recv((uint32_t)cqe->user_data, cqe->res, cqe->flags);
        else
            on_other(cqe, head);
    }
    send_held();
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
        if (err >= 0)
            walk_completions();
    }
}
