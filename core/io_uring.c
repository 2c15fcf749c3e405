/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* io on io_uring: one ring per shard, direct descriptors, multishot receives into lent buffers,
 * one enter per turn. Runs on the shard's thread, but for uring_new(), uring_free() and
 * uring_wake().
 *
 * A turn (uring_poll): arm what waits to be armed; one enter submits everything that was collected
 * since the last turn, and waits; then completions are walked in order and callbacks run. The
 * kernel delivers about 20 events per enter, so while it says that there are more, it is asked
 * again, up to a limit: what the callbacks send leaves together with the next turn's enter all the
 * same. Receive buffers go back to the kernel at the end of the turn.
 *
 * Closing: everything under way for the connection is cancelled by its user data and awaited (the
 * bits of URING_F_BUSY), then the descriptor is closed, then the slot is free and on_closed() runs.
 *
 * A receive ends with -ENOBUFS when the buffers are exhausted. That is normal: the connection joins
 * the starved list. While somebody is there the buffers are not lent again: their memory is cut
 * into slices, one for each of the first of the list, and filled by receives that do not wait; when
 * nobody is there any more the buffers are lent and all is as before. To arm all at once would let
 * the first take everything and make the others starve again, at a cost that grows with their
 * number.
 */

#include "core/uring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sys/random.h>
#include <sys/socket.h>

/* Enters per turn that only fetch more events, each about 20. */
#define FETCH_ROUNDS_MAX 16
/* What each is given when several connections wait for buffers: about what they have been sending
 * lately, but no less than the memory makes slices of. */
#define STARVED_SHARE_MIN (IO_RECV_TURN_BYTES / URING_SLICES_MAX)
#define STARVED_SHARE_MAX IO_RECV_TURN_BYTES
/* Attempts to hand a full submission queue to the kernel. */
#define SUBMIT_TRIES 16

static const struct sockaddr NO_ADDRESS = {.sa_family = AF_UNSPEC};
/* Lives for as long as requests that point to it. */
static const struct linger NO_LINGER = {.l_onoff = 1, .l_linger = 0};

static uint64_t monotonic_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Requests ------------------------------------------------------------------------------------ */

void uring_submitted(struct uring *u)
{
    u->bell_last = -1;
    if (io_uring_sq_ready(&u->ring) == 0)
        u->arena_used = 0;
}

/* Empties the submission queue in the middle of a turn. */
static void uring_submit(struct uring *u)
{
    int err = 0;
    for (int i = 0; i < SUBMIT_TRIES && io_uring_sq_ready(&u->ring) > 0; i++) {
        u->io.stats.syscalls++;
        int n = io_uring_submit(&u->ring);
        err = n < 0 ? n : 0;
    }
    uring_submitted(u);
    if (io_uring_sq_ready(&u->ring) > 0)
        u->broken = err < 0 ? err : -EBUSY;
}

void uring_reserve(struct uring *u, uint32_t count)
{
    if (io_uring_sq_space_left(&u->ring) < count)
        uring_submit(u);
}

struct io_uring_sqe *uring_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (likely(sqe != NULL))
        return sqe;
    uring_submit(u);
    sqe = io_uring_get_sqe(&u->ring);
    return sqe != NULL ? sqe : &u->dud;
}

void uring_cancel(struct uring *u, uint64_t data, uint64_t failure)
{
    struct io_uring_sqe *sqe = uring_sqe(u);
    io_uring_prep_cancel64(sqe, data, 0);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = failure;
}

void *uring_arena(struct uring *u, size_t bytes, uint32_t requests)
{
    uring_reserve(u, requests);
    bytes = (bytes + 15) & ~(size_t)15;
    if (u->arena_used + bytes > URING_ARENA_BYTES)
        uring_submit(u);
    if (u->arena_used + bytes > URING_ARENA_BYTES)
        u->arena_used = 0; /* broken: nothing of it will be read any more */
    void *p = u->arena + u->arena_used;
    u->arena_used += (uint32_t)bytes;
    return p;
}

/* Connections --------------------------------------------------------------------------------- */

static uint64_t conn_data(enum uring_op op, const struct io_conn *c)
{
    return uring_data(op, c->generation, (uint32_t)c->sock);
}

/* The connection that a completion belongs to, or NULL. */
static struct io_conn *conn_of(struct uring *u, uint64_t data)
{
    uint32_t slot = (uint32_t)data;
    if (slot >= u->slots.count || u->slots.slots[slot].generation != (uint16_t)(data >> 32))
        return NULL;
    return u->slots.slots[slot].conn;
}

/* A request for c; `flag` says that it is under way until its completion. */
static struct io_uring_sqe *conn_sqe(struct uring *u, struct io_conn *c, uint16_t flag)
{
    c->flags |= flag;
    return uring_sqe(u);
}

static void conn_init(struct uring *u, struct io_conn *c, uint32_t slot)
{
    c->backend_state = NULL;
    c->sock = (int32_t)slot;
    c->send_want = 0;
    c->flags = 0;
    c->turn_bytes = 0;
    c->generation = u->slots.slots[slot].generation;
    u->slots.slots[slot].conn = c;
    u->io.conn_count++;
}

/* Receiving ----------------------------------------------------------------------------------- */

static bool may_arm(const struct io_conn *c)
{
    const uint16_t need_not =
        URING_F_EOF | URING_F_CLOSING | URING_F_RECV | URING_F_STARVED | URING_F_CONNECT;
    return (c->flags & (URING_F_WANT | need_not)) == URING_F_WANT;
}

/* Without a look at the poll first, a receive asks for a buffer even where there is nothing to
 * receive, and ends for want of one. */
static void arm_recv(struct uring *u, struct io_conn *c)
{
    struct io_uring_sqe *sqe = conn_sqe(u, c, URING_F_RECV);
    io_uring_prep_recv_multishot(sqe, c->sock, NULL, 0, 0);
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_RECV_GROUP;
    sqe->user_data = conn_data(URING_RECV, c);
}

static void start_recv(struct uring *u, struct io_conn *c)
{
    c->flags |= URING_F_WANT;
    if (may_arm(c))
        arm_recv(u, c);
}

void uring_attach(struct uring *u, struct io_conn *c, uint32_t slot)
{
    conn_init(u, c, slot);
    start_recv(u, c);
}

void uring_attach_connecting(struct uring *u, struct io_conn *c, uint32_t slot)
{
    conn_init(u, c, slot);
    c->flags |= URING_F_CONNECT | URING_F_WANT;
}

/* Who is behind c in the list of the starved. */
static struct io_conn *starved_next(const struct io_conn *c)
{
    const struct uring_rest *rest = c->backend_state;
    return c->flags & URING_F_REST ? rest->starved_next : c->backend_state;
}

static void set_starved_next(struct io_conn *c, struct io_conn *next)
{
    struct uring_rest *rest = c->backend_state;
    if (c->flags & URING_F_REST)
        rest->starved_next = next;
    else
        c->backend_state = next;
}

static void starved_push(struct uring *u, struct io_conn *c)
{
    c->flags |= URING_F_STARVED;
    set_starved_next(c, NULL);
    if (u->starved_head == NULL)
        u->starved_head = c;
    else
        set_starved_next(u->starved_tail, c);
    u->starved_tail = c;
    u->starved_count++;
}

static void close_step(struct uring *u, struct io_conn *c);

static struct io_conn *starved_pop(struct uring *u)
{
    struct io_conn *c = u->starved_head;
    u->starved_head = starved_next(c);
    u->starved_count--;
    set_starved_next(c, NULL);
    c->flags &= (uint16_t)~URING_F_STARVED;
    return c;
}

/* A receive that is over when it has been submitted, with -EAGAIN if nothing was there: so slices
 * serve others in the next turn. */
static void arm_slice(struct uring *u, struct io_conn *c, uint32_t i)
{
    struct io_uring_sqe *sqe = conn_sqe(u, c, URING_F_RECV);
    io_uring_prep_recv(sqe, c->sock, u->buffers.base + (size_t)i * u->slice_bytes, u->slice_bytes,
                       MSG_DONTWAIT);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = conn_data(URING_SLICE, c) | (uint64_t)i << URING_DETAIL_SHIFT;
    u->slices_under_way++;
}

/* The first `slices` of the list get one each; without slices, all are armed as ever. */
static void starved_serve(struct uring *u, uint32_t slices)
{
    uint32_t i = 0;
    while (u->starved_head != NULL && (slices == 0 || i < slices)) {
        struct io_conn *c = starved_pop(u);
        if (c->flags & URING_F_CLOSING)
            close_step(u, c);
        else if (may_arm(c) && slices == 0)
            arm_recv(u, c);
        else if (may_arm(c))
            arm_slice(u, c, i++);
    }
}

/* Into how many slices the memory of the buffers is cut for those who wait. */
static uint32_t count_slices(const struct uring *u)
{
    uint32_t share = u->recv_average > STARVED_SHARE_MIN ? u->recv_average : STARVED_SHARE_MIN;
    uint32_t slices = min_u32(u->starved_count, uring_buffers_bytes(&u->buffers) / share);
    return slices > 0 ? slices : 1;
}

/* Shares out the memory of the buffers among the first of the list, so that none is refused and
 * none can take it all. Where buffers are left, it was not for want of them. */
static void starved_arm(struct uring *u)
{
    if (u->starved_head == NULL || u->slices_under_way > 0)
        return;
    if (!uring_buffers_are_spent(&u->buffers)) {
        uring_buffers_return(&u->buffers);
        starved_serve(u, 0);
        return;
    }
    uint32_t slices = count_slices(u);
    u->slice_bytes = uring_buffers_bytes(&u->buffers) / slices;
    starved_serve(u, slices);
}

static void tell_eof(struct uring *u, struct io_conn *c, int err)
{
    if (c->flags & (URING_F_EOF | URING_F_CLOSING))
        return;
    c->flags |= URING_F_EOF;
    u->callbacks++;
    c->events->on_eof(c, err);
}

static void give_bytes(struct uring *u, struct io_conn *c, struct bytes in)
{
    if (c->flags & (URING_F_EOF | URING_F_CLOSING))
        return;
    u->io.stats.recvs++;
    u->io.stats.recv_bytes += in.len;
    u->callbacks++;
    c->events->on_recv(c, in);
}

/* The receive is over. Cancelled, it is armed again when the owner has changed its mind. After a
 * share of scarce buffers it queues up for the next, as long as others wait. */
static void recv_ended(struct uring *u, struct io_conn *c, int32_t res)
{
    c->flags &= (uint16_t) ~(URING_F_RECV | URING_F_RECV_CANCEL);
    if (c->flags & URING_F_CLOSING) {
        close_step(u, c);
        return;
    }
    if (res == -ENOBUFS) {
        u->io.stats.recv_starved++;
        if (may_arm(c))
            starved_push(u, c);
    } else if (res > 0 && u->starved_count > 0) {
        if (may_arm(c))
            starved_push(u, c);
    } else if (res > 0 || res == -ECANCELED || res == -EINTR || res == -EAGAIN) {
        if (may_arm(c))
            arm_recv(u, c);
    } else {
        tell_eof(u, c, res);
    }
}

/* A moving average of what a receive brings, or would bring. */
static void measure_recv(struct uring *u, uint32_t len, bool has_rest)
{
    int32_t sample = (int32_t)(has_rest ? STARVED_SHARE_MAX : min_u32(len, STARVED_SHARE_MAX));
    u->recv_average += (uint32_t)((sample - (int32_t)u->recv_average) / 8);
}

static void on_recv(struct uring *u, uint64_t data, int32_t res, uint32_t flags)
{
    struct io_conn *c = conn_of(u, data);
    struct bytes in = {NULL, 0};
    if (flags & IORING_CQE_F_BUFFER)
        in = uring_buffers_take(&u->buffers, flags, res);
    if (c == NULL)
        return;
    if (in.len > 0) {
        measure_recv(u, (uint32_t)in.len, flags & IORING_CQE_F_SOCK_NONEMPTY);
        give_bytes(u, c, in);
    }
    if (!(flags & IORING_CQE_F_MORE))
        recv_ended(u, c, res);
}

static void on_slice(struct uring *u, uint64_t data, int32_t res, uint32_t flags)
{
    struct io_conn *c = conn_of(u, data);
    uint32_t i = (uint32_t)(data >> URING_DETAIL_SHIFT) % URING_SLICES_MAX;
    u->slices_under_way--;
    if (c == NULL)
        return;
    if (res > 0) {
        struct bytes in = {u->buffers.base + (size_t)i * u->slice_bytes, (uint32_t)res};
        measure_recv(u, (uint32_t)in.len, flags & IORING_CQE_F_SOCK_NONEMPTY);
        give_bytes(u, c, in);
    }
    recv_ended(u, c, res);
}

/* A paused connection receives nothing, not even a reset; this tells. The request stays when
 * receiving is resumed. */
static void watch_reset(struct uring *u, struct io_conn *c)
{
    if (c->flags & (URING_F_POLL | URING_F_EOF))
        return;
    struct io_uring_sqe *sqe = conn_sqe(u, c, URING_F_POLL);
    io_uring_prep_poll_add(sqe, c->sock, POLLERR);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = conn_data(URING_POLL, c);
}

static void on_poll_event(struct uring *u, struct io_conn *c, int32_t res)
{
    c->flags &= (uint16_t)~URING_F_POLL;
    if (c->flags & URING_F_CLOSING)
        close_step(u, c);
    else if (res > 0 && res & POLLERR && !(c->flags & URING_F_WANT))
        tell_eof(u, c, -ECONNRESET);
}

static void uring_recv(struct io *io, struct io_conn *c, bool on)
{
    struct uring *u = uring_of(io);
    if (c->flags & URING_F_CLOSING)
        return;
    if (on) {
        start_recv(u, c);
        return;
    }
    if (!(c->flags & URING_F_WANT))
        return;
    c->flags &= (uint16_t)~URING_F_WANT;
    if (c->flags & URING_F_CONNECT)
        return;
    if ((c->flags & (URING_F_RECV | URING_F_RECV_CANCEL)) == URING_F_RECV) {
        c->flags |= URING_F_RECV_CANCEL;
        uring_cancel(u, conn_data(URING_RECV, c), uring_data(URING_IGNORE, 0, 0));
    }
    watch_reset(u, c);
}

/* Sending ------------------------------------------------------------------------------------- */

static int uring_send(struct io *io, struct io_conn *c, const struct iovec *iov, int count,
                      size_t bytes)
{
    struct uring *u = uring_of(io);
    if (count < 1 || count > IO_IOV_MAX || bytes == 0 || bytes > INT32_MAX)
        return -EINVAL;
    if (c->flags & (URING_F_CONNECT | URING_F_CLOSING))
        return -ENOTCONN;
    if (c->flags & URING_F_SEND)
        return -EALREADY;
    if (unlikely(c->flags & URING_F_TLS))
        return uring_tls_data(u, c, iov, count, bytes);
    const int flags = MSG_NOSIGNAL | MSG_WAITALL;
    struct io_uring_sqe *sqe;
    if (count == 1) {
        sqe = conn_sqe(u, c, URING_F_SEND);
        io_uring_prep_send(sqe, c->sock, iov->iov_base, bytes, flags);
    } else {
        size_t iov_bytes = (size_t)count * sizeof(*iov);
        struct msghdr *msg = uring_arena(u, sizeof(*msg) + iov_bytes, 1);
        memset(msg, 0, sizeof(*msg));
        msg->msg_iov = (struct iovec *)(msg + 1);
        msg->msg_iovlen = (size_t)count;
        memcpy(msg->msg_iov, iov, iov_bytes);
        sqe = conn_sqe(u, c, URING_F_SEND);
        io_uring_prep_sendmsg(sqe, c->sock, msg, (unsigned)flags);
    }
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = conn_data(URING_SEND, c);
    c->send_want = (uint32_t)bytes;
    io->stats.sends++;
    io->stats.sends_pending++;
    io->stats.send_bytes += bytes;
    return IO_PENDING;
}

/* Of io_tls_key(): see uring_tls.c. */
static void on_tls_key(struct uring *u, struct io_conn *c, int32_t res)
{
    if (!(c->flags & URING_F_SEND))
        return;
    c->flags &= (uint16_t)~URING_F_SEND;
    if (c->flags & URING_F_CLOSING) {
        close_step(u, c);
        return;
    }
    if (res >= 0)
        c->flags |= URING_F_TLS;
    u->callbacks++;
    c->events->on_tls_key(c, res < 0 ? res : 0);
}

/* A short count is how a broken MSG_WAITALL send ends; the next one would say why. */
static void on_sent(struct uring *u, struct io_conn *c, int32_t res)
{
    if (unlikely(c->flags & URING_F_REST) && uring_tls_goes_on(u, c, res))
        return;
    int err = res < 0 ? res : (uint32_t)res == c->send_want ? 0 : -EPIPE;
    c->flags &= (uint16_t)~URING_F_SEND;
    c->send_want = 0;
    if (c->flags & URING_F_CLOSING) {
        close_step(u, c);
        return;
    }
    u->callbacks++;
    c->events->on_sent(c, err);
}

static void uring_shutdown(struct io *io, struct io_conn *c)
{
    if (c->flags & (URING_F_CLOSING | URING_F_CONNECT | URING_F_SHUTDOWN))
        return;
    struct io_uring_sqe *sqe = conn_sqe(uring_of(io), c, URING_F_SHUTDOWN);
    io_uring_prep_shutdown(sqe, c->sock, SHUT_WR);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = conn_data(URING_SHUTDOWN, c);
}

/* Closing ------------------------------------------------------------------------------------- */

/* The link before a close that makes the peer see RST: a TCP socket is connected to no address. One
 * with the kernel's TLS may refuse that (since commit 5071a1e606b3, "net: tls: explicitly disallow
 * disconnect"), so its close is told not to linger. */
static void prep_abort(struct io_uring_sqe *sqe, const struct io_conn *c)
{
    if (c->flags & URING_F_ULP)
        uring_prep_setsockopt(sqe, c->sock, SOL_SOCKET, SO_LINGER, &NO_LINGER, sizeof(NO_LINGER));
    else
        io_uring_prep_connect(sqe, c->sock, &NO_ADDRESS, sizeof(NO_ADDRESS));
    sqe->flags = IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK;
    sqe->user_data = uring_data(URING_IGNORE, 0, 0);
}

/* Closes the descriptor once nothing else is under way. */
static void close_step(struct uring *u, struct io_conn *c)
{
    if (c->flags & URING_F_BUSY)
        return;
    uring_reserve(u, 2); /* a chain must not be cut by a submit */
    if (c->flags & URING_F_RESET)
        prep_abort(uring_sqe(u), c);
    struct io_uring_sqe *sqe = conn_sqe(u, c, URING_F_CLOSE);
    io_uring_prep_close_direct(sqe, (unsigned)c->sock);
    sqe->user_data = conn_data(URING_CLOSE, c);
}

/* Cancels such a request, if it is under way. A failure comes back. */
static void cancel_for_close(struct uring *u, struct io_conn *c, enum uring_op op)
{
    static const uint16_t flags[] = {[URING_RECV] = URING_F_RECV,
                                     [URING_SEND] = URING_F_SEND,
                                     [URING_CONNECT] = URING_F_CONNECT,
                                     [URING_POLL] = URING_F_POLL};
    if (c->flags & flags[op])
        uring_cancel(u, conn_data(op, c),
                     conn_data(URING_CANCEL, c) | (uint64_t)op << URING_DETAIL_SHIFT);
}

/* The kernel does not find a request that it is about to run again, such as the next link of a
 * chain. What has ended meanwhile was told before this. */
static void on_cancel_failed(struct uring *u, struct io_conn *c, uint64_t data, int32_t res)
{
    if (res == -ENOENT)
        cancel_for_close(u, c, (enum uring_op)(data >> URING_DETAIL_SHIFT & 0xff));
}

static void uring_close(struct io *io, struct io_conn *c, bool reset)
{
    struct uring *u = uring_of(io);
    if (reset)
        c->flags |= URING_F_RESET;
    if (c->flags & URING_F_CLOSING)
        return;
    c->flags |= URING_F_CLOSING;
    cancel_for_close(u, c, URING_RECV);
    cancel_for_close(u, c, URING_SEND);
    cancel_for_close(u, c, URING_CONNECT);
    cancel_for_close(u, c, URING_POLL);
    close_step(u, c);
}

static void on_closed(struct uring *u, struct io_conn *c)
{
    uring_slots_free(&u->slots, (uint32_t)c->sock);
    c->sock = -1;
    u->io.conn_count--;
    u->callbacks++;
    c->events->on_closed(c);
}

static void on_connected(struct uring *u, struct io_conn *c, int32_t res)
{
    if (!(c->flags & URING_F_CONNECT))
        return;
    c->flags &= (uint16_t)~URING_F_CONNECT;
    if (c->flags & URING_F_CLOSING) {
        close_step(u, c);
        return;
    }
    if (res < 0)
        c->flags |= URING_F_EOF;
    else if (c->flags & URING_F_WANT)
        start_recv(u, c);
    else
        watch_reset(u, c);
    u->callbacks++;
    c->events->on_connect(c, res < 0 ? res : 0);
}

/* The turn ------------------------------------------------------------------------------------ */

static void dispatch_conn(struct uring *u, uint64_t data, int32_t res)
{
    struct io_conn *c = conn_of(u, data);
    if (c == NULL)
        return;
    switch (data >> 56) {
    case URING_SEND:
        on_sent(u, c, res);
        break;
    case URING_TLS_KEY:
        on_tls_key(u, c, res);
        break;
    case URING_CONNECT:
        on_connected(u, c, res);
        break;
    case URING_POLL:
        on_poll_event(u, c, res);
        break;
    case URING_CANCEL:
        on_cancel_failed(u, c, data, res);
        break;
    case URING_SHUTDOWN:
        c->flags &= (uint16_t)~URING_F_SHUTDOWN;
        if (c->flags & URING_F_CLOSING)
            close_step(u, c);
        break;
    case URING_CLOSE:
        on_closed(u, c);
        break;
    default:
        break;
    }
}

static void dispatch(struct uring *u, uint64_t data, int32_t res, uint32_t flags)
{
    switch (data >> 56) {
    case URING_IGNORE:
        break;
    case URING_RECV:
        on_recv(u, data, res, flags);
        break;
    case URING_SLICE:
        on_slice(u, data, res, flags);
        break;
    case URING_DROP:
        if ((uint32_t)data < u->slots.count)
            uring_slots_free(&u->slots, (uint32_t)data);
        break;
    case URING_ACCEPT:
        uring_accept_done(u, (uint32_t)data, res);
        break;
    case URING_BELL:
        uring_bell_done(u, data, res);
        break;
    case URING_EVENTFD:
        uring_eventfd_done(u, res);
        break;
    default:
        dispatch_conn(u, data, res);
        break;
    }
}

/* Each completion leaves the queue before its callback runs, which may look for others in it
 * (uring_unlisten) or submit. */
static void walk(struct uring *u)
{
    uint32_t left = io_uring_cq_ready(&u->ring);
    for (; left > 0 && io_uring_cq_ready(&u->ring) > 0; left--) {
        const struct io_uring_cqe *cqe = &u->ring.cq.cqes[*u->ring.cq.khead & u->ring.cq.ring_mask];
        uint64_t data = cqe->user_data;
        int32_t res = cqe->res;
        uint32_t flags = cqe->flags;
        io_uring_cq_advance(&u->ring, 1);
        dispatch(u, data, res, flags);
    }
}

/* More is there when the kernel has said so, and worth fetching while buffers are left. */
static bool has_more(struct uring *u)
{
    unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);
    if (flags & IORING_SQ_CQ_OVERFLOW) {
        u->io.stats.cq_overflows++;
        return true;
    }
    return flags & IORING_SQ_TASKRUN &&
           u->buffers.left_bytes > u->buffers.count * u->buffers.buffer_bytes / 4;
}

/* Submits, and waits until deadline_ns for one completion. Returns 0 or -errno. */
static int uring_enter(struct uring *u, uint64_t deadline_ns)
{
    struct io_uring_cqe *cqe;
    int n;
    uint64_t now_ns = deadline_ns == 0 || deadline_ns == IO_FOREVER ? 0 : monotonic_ns();
    u->io.stats.syscalls++;
    if (deadline_ns <= now_ns) {
        n = io_uring_submit_and_get_events(&u->ring);
    } else if (deadline_ns == IO_FOREVER) {
        n = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, NULL, NULL);
    } else {
        uint64_t wait_ns = deadline_ns - now_ns;
        struct __kernel_timespec ts = {.tv_sec = (int64_t)(wait_ns / NS_PER_SEC),
                                       .tv_nsec = (int64_t)(wait_ns % NS_PER_SEC)};
        n = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
    }
    uring_submitted(u);
    if (n >= 0 || n == -ETIME || n == -EINTR || n == -EAGAIN || n == -EBUSY)
        return 0;
    return n;
}

static int uring_poll(struct io *io, uint64_t deadline_ns)
{
    struct uring *u = uring_of(io);
    io->stats.polls++;
    u->callbacks = 0;
    starved_arm(u);
    uint64_t retry_ns = uring_listeners_arm(u);
    if (u->starved_head != NULL || u->self_woken)
        deadline_ns = 0;
    u->self_woken = false;
    int err = uring_enter(u, min_u64(deadline_ns, retry_ns));
    io->now_ns = monotonic_ns();
    if (err < 0)
        return err;
    walk(u);
    for (int i = 0; i < FETCH_ROUNDS_MAX && has_more(u); i++) {
        io->stats.syscalls++;
        io_uring_get_events(&u->ring);
        walk(u);
    }
    if (u->starved_head == NULL && u->slices_under_way == 0)
        uring_buffers_return(&u->buffers);
    return u->broken < 0 ? u->broken : (int)u->callbacks;
}

/* Life ---------------------------------------------------------------------------------------- */

static void uring_free(struct io *io)
{
    struct uring *u = uring_of(io);
    uring_unmake(u);
    uring_listeners_free(u);
    free(u);
}

static int uring_start(struct io *io)
{
    struct uring *u = uring_of(io);
    int err = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (err < 0)
        return err;
    io->stats.syscalls += 2;
    io_uring_register_ring_fd(&u->ring); /* saves a little per enter; without it all works, too */
    io->now_ns = monotonic_ns();
    uring_eventfd_arm(u);
    atomic_store_explicit(&u->started, true, memory_order_release);
    return 0;
}

static const struct io_backend URING_BACKEND = {
    .name = "uring",
    .start = uring_start,
    .free = uring_free,
    .listen = uring_listen,
    .accept_mode = uring_accept_mode,
    .unlisten = uring_unlisten,
    .adopt = uring_adopt,
    .discard = uring_discard,
    .connect = uring_connect,
    .recv = uring_recv,
    .send = uring_send,
    .tls_key = uring_tls_key,
    .tls_send = uring_tls_send,
    .shutdown = uring_shutdown,
    .close = uring_close,
    .poll = uring_poll,
    .wake = uring_wake,
    .trim = uring_trim,
    .wall_ns = io_system_wall_ns,
};

int uring_new(const struct io_config *cfg, const struct uring_quirks *quirks, struct io **io,
              const char **why)
{
    static const struct uring_quirks NO_QUIRKS;
    struct uring *u = aligned_alloc(CORE_CACHE_LINE, sizeof(*u));
    *why = "io_uring: no memory";
    if (u == NULL)
        return -ENOMEM;
    memset(u, 0, sizeof(*u));
    u->io.backend = &URING_BACKEND;
    u->bell_last = -1;
    u->io.now_ns = monotonic_ns();
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = u->io.now_ns;
    io_random_seed(&u->io, seed + cfg->shard_idx);
    int err = uring_make(u, cfg, quirks != NULL ? quirks : &NO_QUIRKS, why);
    if (err < 0) {
        free(u);
        return err;
    }
    *why = "";
    *io = &u->io;
    return 0;
}

int io_uring_new(const struct io_config *cfg, struct io **io, const char **why)
{
    return uring_new(cfg, NULL, io, why);
}
