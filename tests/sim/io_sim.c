/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The simulated implementation of core/io.h: the shards' end of the virtual network. One thread
 * runs all shards in turn. */

#include "tests/sim/io_sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_net.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#endif
#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#define SIM_POISON(p, len) __asan_poison_memory_region(p, len)
#define SIM_UNPOISON(p, len) __asan_unpoison_memory_region(p, len)
#else
#define SIM_POISON(p, len) ((void)(p), (void)(len))
#define SIM_UNPOISON(p, len) ((void)(p), (void)(len))
#endif

/* Connections accepted of one listener, and slices lent of one connection, in one poll, at most. */
#define SIM_ACCEPTS_PER_POLL 8
#define SIM_SLICES_PER_POLL 8

static struct sim_io *sim(struct io *io)
{
    return container_of(io, struct sim_io, io);
}

/* The connection's end while it is attached, else NULL with a violation. */
static struct sim_end *end_of(struct sim_io *s, struct io_conn *c, const char *what)
{
    struct sim_end *e = sim_end_find(s->net, c->sock);

    if (e == NULL || e->owner != SIM_IO || e->conn != c || e->io != s) {
        sim_violation(s->net, "%s: the connection is not attached to this io", what);
        return NULL;
    }
    return e;
}

/* Sends ---------------------------------------------------------------------------------------- */

#define CHECKSUM_START 0xcbf29ce484222325u

/* FNV-1a, continued. */
static uint64_t checksum(uint64_t sum, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3u;
    return sum;
}

/* Takes up to `max` bytes of the send under way off its spans; puts them into the wire or, when
 * that is not wanted any more, only reads them. */
static void send_take(struct sim_end *e, size_t max, bool put)
{
    struct sim_send *send = &e->send;

    while (send->iov_idx < send->iov_count) {
        const struct iovec *iov = &send->iov[send->iov_idx];
        const uint8_t *from = (const uint8_t *)iov->iov_base + send->iov_pos;
        size_t len = min_size(max, iov->iov_len - send->iov_pos);
        send->seen = checksum(send->seen, from, len);
        if (put && len > 0)
            sim_put(e, from, len);
        max -= len;
        send->iov_pos += len;
        if (send->iov_pos < iov->iov_len)
            return;
        send->iov_idx++;
        send->iov_pos = 0;
    }
}

/* The memory of a send is the backend's to its end, so that it is read here even if in vain. */
static void send_end(struct sim_io *s, struct sim_end *e)
{
    send_take(e, SIZE_MAX, false);
    e->send.active = false;
    e->conn->send_want = 0;
    if (e->send.seen != e->send.checksum)
        sim_violation(s->net, "the bytes of a send have changed while it was under way");
}

static uint64_t send_next_ns(struct sim_end *e)
{
    uint64_t now_ns = e->link->net->now_ns;
    const struct sim_send *send = &e->send;

    if (!send->active)
        return IO_FOREVER;
    if (sim_is_reset(e))
        return now_ns;
    if (send->iov_idx < send->iov_count && sim_room(e) == 0)
        return IO_FOREVER;
    return max_u64(send->next_ns, now_ns);
}

static bool send_is_legal(struct sim_io *s, struct sim_end *e, const struct iovec *iov, int count,
                          size_t bytes)
{
    size_t sum = 0;

    if (count < 1 || count > IO_IOV_MAX) {
        sim_violation(s->net, "io_send: %d spans", count);
        return false;
    }
    for (int i = 0; i < count; i++)
        sum += iov[i].iov_len;
    if (sum != bytes || bytes == 0 || bytes > INT32_MAX)
        sim_violation(s->net, "io_send: %zu bytes were announced, the spans hold %zu", bytes, sum);
    else if (e->send.active)
        sim_violation(s->net, "io_send: a send is under way");
    else if (e->was_shutdown || e->closing || e->connecting)
        sim_violation(s->net, "io_send: the connection is %s",
                      e->closing ? "closing" : (e->connecting ? "not connected" : "shut down"));
    else if (e->send_failed)
        sim_violation(s->net, "io_send: the one before has failed");
    else
        return true;
    return false;
}

static int sim_send(struct io *io, struct io_conn *c, const struct iovec *iov, int count,
                    size_t bytes)
{
    struct sim_io *s = sim(io);
    struct sim_end *e = end_of(s, c, "io_send");

    if (e == NULL || !send_is_legal(s, e, iov, count, bytes))
        return -EINVAL;
    io->stats.sends++;
    io->stats.send_bytes += bytes;
    if (sim_is_reset(e) || sim_chance(s->net, s->net->faults.send_error)) {
        e->send_failed = true;
        return sim_is_reset(e) ? -EPIPE : -ENOMEM;
    }
    struct sim_send *send = &e->send;
    memcpy(send->iov, iov, (size_t)count * sizeof(*iov));
    send->iov_count = count;
    send->iov_idx = 0;
    send->iov_pos = 0;
    send->seen = CHECKSUM_START;
    size_t room = sim_room(e);
    if (room >= bytes && !sim_chance(s->net, s->net->faults.pending)) {
        send_take(e, bytes, true);
        return IO_SENT;
    }
    send->active = true;
    send->checksum = CHECKSUM_START;
    for (int i = 0; i < count; i++)
        send->checksum = checksum(send->checksum, iov[i].iov_base, iov[i].iov_len);
    if (room > 0 && sim_net_below(s->net, 2) == 0)
        send_take(e, sim_part(s->net, min_size(room, bytes)), true);
    send->next_ns = sim_due_ns(s->net);
    c->send_want = (uint32_t)bytes;
    io->stats.sends_pending++;
    return IO_PENDING;
}

/* Callbacks ------------------------------------------------------------------------------------ */

/* Whether the end with this number is still what it was before a callback. */
static bool is_still(struct sim_io *s, int32_t number, const struct sim_end *e,
                     const struct io_conn *c)
{
    return sim_end_find(s->net, number) == e && e->owner == SIM_IO && e->conn == c && !e->closing;
}

static void tell_sent(struct sim_io *s, struct sim_end *e, int err)
{
    struct io_conn *c = e->conn;

    s->in_callback = true;
    c->events->on_sent(c, err);
    s->in_callback = false;
}

static void tell_eof(struct sim_io *s, struct sim_end *e, int err)
{
    struct io_conn *c = e->conn;

    e->eof_told = true;
    s->in_callback = true;
    c->events->on_eof(c, err);
    s->in_callback = false;
}

/* Continues a send, or tells that it is over. Returns the number of callbacks. */
static int serve_send(struct sim_io *s, struct sim_end *e)
{
    struct sim_net *net = s->net;

    if (send_next_ns(e) > net->now_ns)
        return 0;
    if (sim_is_reset(e)) {
        send_end(s, e);
        tell_sent(s, e, sim_net_below(net, 2) == 0 ? -EPIPE : -ECONNRESET);
        return 1;
    }
    if (e->send.iov_idx < e->send.iov_count) {
        size_t room = sim_room(e);
        send_take(e, sim_part(net, room), true);
        e->send.next_ns = sim_due_ns(net);
        if (e->send.iov_idx < e->send.iov_count || e->send.next_ns > net->now_ns)
            return 0;
    }
    send_end(s, e);
    tell_sent(s, e, 0);
    return 1;
}

/* Lends `len` bytes of e in surroundings of noise; nothing outside of them may change, and nothing
 * of them lasts. */
static void lend(struct sim_io *s, struct sim_end *e, size_t len)
{
    struct sim_net *net = s->net;
    struct io_conn *c = e->conn;
    uint8_t *slice = s->lend + IO_RECV_PAD + sim_net_below(net, 2 * IO_RECV_PAD);
    uint8_t around[2 * IO_RECV_PAD];

    SIM_UNPOISON(slice - IO_RECV_PAD, len + 2 * IO_RECV_PAD);
    sim_noise(net, around, sizeof(around));
    memcpy(slice - IO_RECV_PAD, around, IO_RECV_PAD);
    memcpy(slice + len, around + IO_RECV_PAD, IO_RECV_PAD);
    sim_take(e, slice, len);
    c->turn_bytes += (uint32_t)len;
    s->io.stats.recvs++;
    s->io.stats.recv_bytes += len;
    s->in_callback = true;
    c->events->on_recv(c, (struct bytes){slice, len});
    s->in_callback = false;
    if (memcmp(slice - IO_RECV_PAD, around, IO_RECV_PAD) != 0 ||
        memcmp(slice + len, around + IO_RECV_PAD, IO_RECV_PAD) != 0)
        sim_violation(net, "on_recv has written beyond its slice");
    sim_noise(net, slice, len);
    SIM_POISON(s->lend, sizeof(s->lend));
}

/* How much may be lent now: everything that has arrived, or, paused, what overruns the pause. */
static size_t lendable(struct sim_io *s, struct sim_end *e)
{
    if (e->eof_told)
        return 0;
    sim_settle(e);
    if (e->recv_on)
        return sim_readable(e);
    if (e->overrun_poll != s->io.stats.polls || e->overrun_end <= e->rx.taken)
        return 0;
    return min_size(sim_readable(e), e->overrun_end - e->rx.taken);
}

/* An end is told behind the last byte; a reset also to one who has paused, who then loses what he
 * has not read. */
static bool recv_end_is_due(struct sim_end *e, int *err)
{
    *err = 0;
    if (e->eof_told)
        return false;
    if (e->recv_on && sim_is_eof(e))
        return true;
    *err = -ECONNRESET;
    return sim_is_reset(e) && (!e->recv_on || sim_readable(e) == 0);
}

static int serve_recv(struct sim_io *s, struct sim_end *e)
{
    struct sim_net *net = s->net;
    struct io_conn *c = e->conn;
    int32_t number = c->sock;
    int callbacks = 0, err;

    c->turn_bytes = 0;
    for (int i = 0; i < SIM_SLICES_PER_POLL; i++) {
        size_t len = min_size(lendable(s, e), IO_RECV_TURN_BYTES - c->turn_bytes);
        if (len == 0)
            break;
        lend(s, e, sim_part(net, min_size(len, SIM_SLICE_BYTES)));
        callbacks++;
        if (!is_still(s, number, e, c))
            return callbacks;
    }
    if (recv_end_is_due(e, &err)) {
        tell_eof(s, e, err);
        callbacks++;
    }
    return callbacks;
}

static void detach(struct sim_io *s, struct sim_end *e)
{
    int32_t number = sim_end_number(e);
    uint32_t i = 0;

    while (s->ends[i] != number)
        i++;
    s->ends[i] = s->ends[--s->ends_count];
}

static int serve_closed(struct sim_io *s, struct sim_end *e)
{
    struct io_conn *c = e->conn;

    if (e->send.active)
        send_end(s, e);
    detach(s, e);
    sim_release(e, e->reset_on_close);
    c->sock = -1;
    s->io.conn_count--;
    s->in_callback = true;
    c->events->on_closed(c);
    s->in_callback = false;
    return 1;
}

static int serve_connect(struct sim_io *s, struct sim_end *e)
{
    struct io_conn *c = e->conn;

    e->connecting = false;
    e->recv_on = e->connect_err == 0;
    e->eof_told = e->connect_err != 0; /* the failure has said it all */
    s->in_callback = true;
    c->events->on_connect(c, e->connect_err);
    s->in_callback = false;
    return 1;
}

static uint64_t end_next_ns(struct sim_io *s, struct sim_end *e)
{
    uint64_t now_ns = s->net->now_ns;
    int err;

    if (e->closing || e->connecting)
        return max_u64(e->ready_ns, now_ns);
    uint64_t next_ns = send_next_ns(e);
    if (next_ns <= now_ns || e->eof_told)
        return next_ns;
    sim_settle(e);
    if (recv_end_is_due(e, &err) || (e->recv_on && sim_readable(e) > 0))
        return now_ns;
    if (e->overrun_poll == s->io.stats.polls + 1 && e->overrun_end > e->rx.taken)
        return now_ns;
    if (e->recv_on)
        return min_u64(next_ns, max_u64(sim_arrival_ns(e), now_ns));
    return e->rx.reset ? min_u64(next_ns, max_u64(e->rx.reset_ns, now_ns)) : next_ns;
}

static int serve_end(struct sim_io *s, int32_t number)
{
    struct sim_end *e = sim_end_find(s->net, number);

    if (e == NULL || e->owner != SIM_IO || e->io != s)
        return 0; /* closed by an earlier callback of this poll */
    if (e->closing || e->connecting) {
        if (e->ready_ns > s->net->now_ns)
            return 0;
        return e->closing ? serve_closed(s, e) : serve_connect(s, e);
    }
    struct io_conn *c = e->conn;
    int callbacks = 0;
    if (sim_net_below(s->net, 2) == 0) {
        callbacks = serve_send(s, e);
        if (is_still(s, number, e, c))
            callbacks += serve_recv(s, e);
    } else {
        callbacks = serve_recv(s, e);
        if (is_still(s, number, e, c))
            callbacks += serve_send(s, e);
    }
    return callbacks;
}

/* Listeners and attaching ---------------------------------------------------------------------- */

static bool reserve_end(struct sim_io *s)
{
    if (s->ends_count < s->ends_cap)
        return true;
    uint32_t cap = s->ends_cap * 2 + 32;
    int32_t *ends = realloc(s->ends, cap * sizeof(*ends));
    if (ends == NULL)
        return false;
    s->ends = ends;
    int32_t *order = realloc(s->order, cap * sizeof(*order));
    if (order == NULL)
        return false;
    s->order = order;
    s->ends_cap = cap;
    return true;
}

/* There is room in `ends`, and conn_count is counted already. */
static void attach(struct sim_io *s, struct sim_end *e, struct io_conn *c)
{
    e->owner = SIM_IO;
    e->io = s;
    e->conn = c;
    e->recv_on = true;
    c->sock = sim_end_number(e);
    c->backend_state = NULL;
    c->send_want = 0;
    c->flags = 0;
    c->turn_bytes = 0;
    s->ends[s->ends_count++] = c->sock;
}

static void accepted(struct sim_io *s, struct io_listener *owner, struct sim_end *e)
{
    const struct io_addr peer = e->link->from;

    s->io.stats.accepts++;
    s->in_callback = true;
    if (owner->mode == IO_ACCEPT_TICKETS || s->io.conn_count == s->io.conns_max ||
        !reserve_end(s)) {
        e->owner = SIM_TICKET;
        owner->events->on_ticket(owner, (struct io_ticket){sim_end_number(e)}, &peer);
        s->in_callback = false;
        return;
    }
    s->io.conn_count++;
    struct io_conn *c = owner->events->on_accept(owner, &peer);
    s->in_callback = false;
    if (c == NULL) {
        s->io.conn_count--;
        s->io.stats.accept_refused++;
        e->owner = SIM_TICKET;
        s->in_callback = true;
        owner->events->on_ticket(owner, (struct io_ticket){sim_end_number(e)}, &peer);
        s->in_callback = false;
        return;
    }
    CHECK(reserve_end(s)); /* the callback may have adopted others */
    attach(s, e, c);
}

static int serve_listener(struct sim_io *s, int32_t number)
{
    struct sim_net *net = s->net;
    int callbacks = 0;

    while (callbacks < SIM_ACCEPTS_PER_POLL) {
        struct sim_listener *l = sim_listener_find(net, number);
        if (l == NULL || l->owner->mode == IO_ACCEPT_OFF || !sim_listener_is_ready(l))
            break;
        if (sim_chance(net, net->faults.accept_error)) {
            s->io.stats.accept_errors++;
            l->retry_ns = sim_due_ns(net) + NS_PER_MS;
            break;
        }
        accepted(s, l->owner, sim_listener_take(l, false));
        callbacks++;
    }
    return callbacks;
}

static int sim_listen(struct io *io, struct io_listener *owner, int fd)
{
    struct sim_listener *l = sim_listener_find(sim(io)->net, fd);

    if (l == NULL || l->io != NULL)
        return -EBADF;
    l->io = sim(io);
    l->owner = owner;
    owner->io = io;
    owner->fd = fd;
    owner->mode = IO_ACCEPT_CONNS;
    return 0;
}

static void sim_accept_mode(struct io *io, struct io_listener *owner, enum io_accept_mode mode)
{
    if (owner->io != io)
        sim_violation(sim(io)->net, "io_accept_mode: the listener is another io's");
    owner->mode = (uint8_t)mode;
}

static void sim_unlisten(struct io *io, struct io_listener *owner)
{
    struct sim_io *s = sim(io);
    struct sim_listener *l = sim_listener_find(s->net, owner->fd);
    struct sim_end *e;

    if (l == NULL || l->io != s) {
        sim_violation(s->net, "io_unlisten: the listener is not attached to this io");
        return;
    }
    bool in_callback = s->in_callback;
    l->is_open = false; /* whoever connects from now on finds nobody */
    while ((e = sim_listener_take(l, false)) != NULL)
        accepted(s, owner, e);
    s->in_callback = in_callback;
    sim_listener_close(l);
    owner->io = NULL;
    owner->fd = -1;
}

static struct sim_end *ticket_end(struct sim_io *s, struct io_ticket t, const char *what)
{
    struct sim_end *e = sim_end_find(s->net, t.fd);

    if (e == NULL || e->owner != SIM_TICKET) {
        sim_violation(s->net, "%s: %d is no ticket", what, t.fd);
        return NULL;
    }
    return e;
}

static int sim_adopt(struct io *io, struct io_conn *c, struct io_ticket t)
{
    struct sim_io *s = sim(io);
    struct sim_end *e = ticket_end(s, t, "io_adopt");

    if (e == NULL)
        return -EBADF;
    if (io->conn_count == io->conns_max || sim_chance(s->net, s->net->faults.adopt_error))
        return -ENFILE;
    if (!reserve_end(s))
        return -ENOMEM;
    io->conn_count++;
    attach(s, e, c);
    return 0;
}

static void sim_discard(struct io *io, struct io_ticket t, const void *last_words, size_t len)
{
    struct sim_end *e = ticket_end(sim(io), t, "io_discard");

    if (e == NULL)
        return;
    len = last_words != NULL ? min_size(len, sim_room(e)) : 0;
    if (len > 0)
        sim_put(e, last_words, len);
    sim_release(e, false);
}

static int sim_connect(struct io *io, struct io_conn *c, const struct io_addr *to,
                       const struct io_addr *from)
{
    struct sim_io *s = sim(io);
    struct io_addr own = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
                          .family = AF_INET};
    struct sim_end *e;

    if (io->conn_count == io->conns_max)
        return -ENFILE;
    if (!reserve_end(s))
        return -ENOMEM;
    own.port = (uint16_t)(32768 + sim_net_below(s->net, 28000));
    int err = sim_link_new(s->net, to, from != NULL ? from : &own, SIM_IO, &e);
    if (e == NULL)
        return err;
    io->conn_count++;
    attach(s, e, c);
    e->recv_on = false;
    e->connecting = true;
    e->connect_err = err;
    e->ready_ns = sim_due_ns(s->net);
    return 0;
}

/* Connections ---------------------------------------------------------------------------------- */

static void sim_recv(struct io *io, struct io_conn *c, bool on)
{
    struct sim_io *s = sim(io);
    struct sim_end *e = end_of(s, c, "io_recv");

    if (e == NULL || e->closing || e->connecting || e->recv_on == on)
        return;
    e->recv_on = on;
    e->overrun_end = 0;
    if (!on && sim_chance(s->net, s->net->faults.overrun)) {
        sim_settle(e);
        e->overrun_end = e->rx.arrived;
        e->overrun_poll = io->stats.polls + !s->in_poll;
    }
}

static void sim_shutdown(struct io *io, struct io_conn *c)
{
    struct sim_io *s = sim(io);
    struct sim_end *e = end_of(s, c, "io_shutdown");

    if (e == NULL || e->closing)
        return;
    if (e->send.active)
        sim_violation(s->net, "io_shutdown: a send is under way");
    e->was_shutdown = true;
    sim_put_fin(e);
}

static void sim_close(struct io *io, struct io_conn *c, bool reset)
{
    struct sim_io *s = sim(io);
    struct sim_end *e = end_of(s, c, "io_close");

    if (e == NULL || e->closing)
        return;
    e->closing = true;
    e->connecting = false;
    e->reset_on_close = reset;
    e->ready_ns = sim_due_ns(s->net);
    /* A part of the send under way may still slip out. */
    size_t room = sim_room(e);
    if (e->send.active && !reset && room > 0 && sim_net_below(s->net, 2) == 0)
        send_take(e, sim_part(s->net, room), true);
}

/* The loop ------------------------------------------------------------------------------------- */

static uint64_t listener_next_ns(const struct sim_listener *l)
{
    if (l->owner == NULL || l->owner->mode == IO_ACCEPT_OFF || l->first == NULL)
        return IO_FOREVER;
    return max_u64(max_u64(l->first->ready_ns, l->retry_ns), l->net->now_ns);
}

uint64_t sim_io_next_ns(struct sim_io *s)
{
    struct sim_net *net = s->net;
    uint64_t next_ns = max_u64(s->wake_ns, net->now_ns);

    for (uint32_t i = 0; i < net->listeners_count && next_ns > net->now_ns; i++) {
        if (net->listeners[i]->io == s)
            next_ns = min_u64(next_ns, listener_next_ns(net->listeners[i]));
    }
    for (uint32_t i = 0; i < s->ends_count && next_ns > net->now_ns; i++)
        next_ns = min_u64(next_ns, end_next_ns(s, sim_end_find(net, s->ends[i])));
    return next_ns;
}

bool sim_io_would_wait(struct io *io, uint64_t deadline_ns)
{
    struct sim_io *s = sim(io);

    return deadline_ns > s->net->now_ns && sim_io_next_ns(s) > s->net->now_ns;
}

/* Everything that is ready, in any order; some of it is passed over. */
static uint32_t collect(struct sim_io *s, int32_t *order)
{
    struct sim_net *net = s->net;
    uint32_t count = 0;

    for (uint32_t i = 0; i < s->ends_count; i++) {
        struct sim_end *e = sim_end_find(net, s->ends[i]);
        if (end_next_ns(s, e) <= net->now_ns || (e->overrun_poll == s->io.stats.polls))
            order[count++] = s->ends[i];
    }
    for (uint32_t i = count; i > 1; i--) {
        uint32_t k = (uint32_t)sim_net_below(net, i);
        int32_t number = order[i - 1];
        order[i - 1] = order[k];
        order[k] = number;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!sim_chance(net, net->faults.skip))
            order[kept++] = order[i];
    }
    return kept;
}

static int serve_listeners(struct sim_io *s)
{
    struct sim_net *net = s->net;
    int callbacks = 0;

    for (uint32_t i = 0; i < net->listeners_count; i++) {
        if (net->listeners[i]->io == s && !sim_chance(net, net->faults.skip))
            callbacks += serve_listener(s, SIM_LISTENER_BASE + (int32_t)i);
    }
    return callbacks;
}

static void take_wake(struct sim_io *s)
{
    if (s->wake_ns > s->net->now_ns)
        return;
    s->wake_ns = IO_FOREVER;
    s->io.stats.wakes_received++;
}

static int sim_poll(struct io *io, uint64_t deadline_ns)
{
    struct sim_io *s = sim(io);
    struct sim_net *net = s->net;
    int callbacks = 0;

    if (s->in_poll || s->in_callback) {
        sim_violation(net, "io_poll: called within a callback");
        return -EINVAL;
    }
    if (net->wait != NULL)
        net->wait(net->wait_ctx, io, deadline_ns);
    io->stats.polls++;
    io->now_ns = net->now_ns;
    s->in_poll = true;
    s->is_retired = false;
    take_wake(s);
    bool listeners_first = sim_net_below(net, 2) == 0;
    if (listeners_first)
        callbacks += serve_listeners(s);
    uint32_t count = collect(s, s->order);
    for (uint32_t i = 0; i < count; i++)
        callbacks += serve_end(s, s->order[i]); /* read anew: adopting may move the array */
    if (!listeners_first)
        callbacks += serve_listeners(s);
    s->in_poll = false;
    return callbacks;
}

static void sim_wake(struct io *io, struct io *from)
{
    struct sim_io *s = sim(io);

    s->wake_ns = min_u64(s->wake_ns, sim_due_ns(s->net));
    if (from != NULL)
        from->stats.wakes_sent++;
}

static int sim_start(struct io *io)
{
    io->now_ns = sim(io)->net->now_ns;
    return 0;
}

static uint64_t sim_wall_ns(struct io *io)
{
    return SIM_WALL_START_NS + sim(io)->net->now_ns;
}

static void sim_free(struct io *io)
{
    struct sim_io *s = sim(io);
    struct sim_net *net = s->net;
    uint32_t i = 0;

    if (io->conn_count != 0 || s->ends_count != 0)
        sim_violation(net, "io_free: %u connections are attached", io->conn_count);
    for (uint32_t k = 0; k < net->listeners_count; k++) {
        if (net->listeners[k]->io == s) {
            sim_violation(net, "io_free: a listener is attached");
            sim_listener_close(net->listeners[k]);
        }
    }
    for (uint32_t k = 0; k < s->ends_count; k++) {
        struct sim_end *e = sim_end_find(net, s->ends[k]);
        sim_release(e, true);
    }
    while (net->ios[i] != s)
        i++;
    net->ios[i] = net->ios[--net->ios_count];
    SIM_UNPOISON(s->lend, sizeof(s->lend));
    free(s->ends);
    free(s->order);
    free(s);
}

static const struct io_backend io_backend_sim = {
    .name = "sim",
    .start = sim_start,
    .free = sim_free,
    .listen = sim_listen,
    .accept_mode = sim_accept_mode,
    .unlisten = sim_unlisten,
    .adopt = sim_adopt,
    .discard = sim_discard,
    .connect = sim_connect,
    .recv = sim_recv,
    .send = sim_send,
    .shutdown = sim_shutdown,
    .close = sim_close,
    .poll = sim_poll,
    .wake = sim_wake,
    .wall_ns = sim_wall_ns,
};

int io_sim_new(struct sim_net *net, const struct io_config *cfg, struct io **io)
{
    struct sim_io *s;

    *io = NULL;
    if (net->ios_count == ARRAY_LEN(net->ios))
        return -EMFILE;
    s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->io.backend = &io_backend_sim;
    s->io.conns_max = cfg->conns_max;
    s->io.now_ns = net->now_ns;
    io_random_seed(&s->io, sim_net_below(net, UINT64_MAX) + cfg->shard_idx);
    s->net = net;
    s->wake_ns = IO_FOREVER;
    SIM_POISON(s->lend, sizeof(s->lend));
    net->ios[net->ios_count++] = s;
    *io = &s->io;
    return 0;
}
