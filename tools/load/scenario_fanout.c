/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Fan-out: publishers send into rooms, and each message must come to every member. On workers'
 * threads, but for setup and finish.
 *
 * Closed loop across threads: each worker counts, per publisher, how many copies its members have
 * got, and tells the others once a turn. A message is answered when all members of the room have
 * it; since they get messages in order, the sum of copies over the number of members says how many
 * are, to within a window. */

#include <errno.h>
#include <stdlib.h>

#include "tools/load/exits.h"
#include "tools/load/scenarios.h"

/* Receivers times publishers of a room: memory of 16 bytes each. */
#define STREAMS_MAX (1ULL << 27)
#define ORDER_PRIME 0x9e3779b97f4a7c15ULL

struct fanout_shared {
    uint32_t publishers;
    uint32_t rooms;
    uint32_t streams; /* publishers of a room, at most */
    uint32_t *here;   /* [thread][publisher]: members on that thread that get its messages */
    _Atomic uint64_t *copies; /* [thread][publisher]: that they have got */
};

/* w->state */
struct fanout {
    uint64_t *copies; /* per publisher, of this worker's members */
    uint32_t *touched;
    uint32_t touched_count; /* publishers whose copies have changed in this turn */
    bool *is_touched;
    struct verify_stream *streams; /* of all members here */
};

static bool is_publisher(const struct client *c);

static struct fanout_shared *shared_of(const struct worker *w)
{
    return w->run->shared;
}

/* Whether c is to get what publisher `sender` sends into the same room. */
static bool gets(const struct client *c, uint32_t sender)
{
    int what = c->worker->run->config.publisher_gets;

    return !is_publisher(c) || what == LOAD_GETS_ALL ||
           (what == LOAD_GETS_OTHERS && sender != c->id);
}

static bool is_in_room_of(const struct client *c, uint32_t sender)
{
    uint32_t rooms = c->group->rooms;

    return sender % rooms == c->number % rooms;
}

static void on_open(struct client *c)
{
    (void)c; /* messages flow when all are open */
}

static void touch(struct fanout *f, uint32_t publisher)
{
    f->copies[publisher]++;
    if (f->is_touched[publisher])
        return;
    f->is_touched[publisher] = true;
    f->touched[f->touched_count++] = publisher;
}

static void misrouted(struct client *c, uint32_t sender)
{
    struct worker *w = c->worker;

    w->verify.checked++;
    w->verify.misrouted++;
    worker_fail(w, "connection %u got a message of sender %u that is not for it", c->id, sender);
}

static void on_message(struct client *c, struct bytes payload, uint8_t opcode)
{
    const struct fanout_shared *k = shared_of(c->worker);
    struct stamp s;

    (void)opcode;
    if (!worker_check(c, payload, c->worker->run->groups[0].payload_bytes, &s))
        return;
    if (unlikely(s.sender >= k->publishers || !is_in_room_of(c, s.sender) || !gets(c, s.sender))) {
        misrouted(c, s.sender);
        return;
    }
    worker_take(c, &c->streams[s.sender / k->rooms], &s);
    c->order = (c->order ^ (s.seq << STAMP_SENDER_BITS | s.sender)) * ORDER_PRIME;
    touch(c->worker->state, s.sender);
}

static const struct role subscriber_role = {.on_open = on_open, .on_message = on_message};
static const struct role publisher_role = {.on_open = on_open, .on_message = on_message};

static bool is_publisher(const struct client *c)
{
    return c->group->role == &publisher_role;
}

static bool is_member(const struct client *c)
{
    return is_publisher(c) || c->group->role == &subscriber_role;
}

/* Setup -----------------------------------------------------------------------------------------
 */

static int no_room(const struct fanout_shared *k, uint64_t receivers)
{
    fprintf(stderr,
            "tidewire-load: --publishers %u: %llu receivers would keep account of too many of "
            "them; take more --rooms or fewer of either\n",
            k->publishers, (unsigned long long)receivers);
    return LOAD_EXIT_USAGE;
}

int fanout_setup(struct run *r)
{
    const struct load_config *cfg = &r->config;
    const char *publish_path = cfg->publish_path != NULL ? cfg->publish_path : r->path;
    struct fanout_shared *k = calloc(1, sizeof(*k));

    r->shared = k;
    if (k == NULL)
        return LOAD_EXIT_FAILED;
    k->publishers = cfg->publishers;
    k->rooms = cfg->rooms;
    k->streams = (k->publishers + k->rooms - 1) / k->rooms;
    uint64_t receivers = (uint64_t)cfg->publishers + cfg->subscribers;
    if (receivers * k->streams > STREAMS_MAX)
        return no_room(k, receivers);
    /* Publishers first: their numbers are their senders'. */
    run_add_group(r, &publisher_role, publish_path, cfg->publishers, (uint32_t)cfg->payload_bytes)
        ->rooms = cfg->rooms;
    run_add_group(r, &subscriber_role, r->path, cfg->subscribers, 0)->rooms = cfg->rooms;
    k->here = calloc((size_t)RUN_THREADS_MAX * k->publishers, sizeof(*k->here));
    k->copies = calloc((size_t)RUN_THREADS_MAX * k->publishers, sizeof(*k->copies));
    return k->here == NULL || k->copies == NULL ? LOAD_EXIT_FAILED : 0;
}

/* How many of members first, first + rooms, ... < count get it: those of a room. */
static uint32_t in_room(uint32_t count, uint32_t rooms, uint32_t room)
{
    return count / rooms + (room < count % rooms);
}

/* All members that get the messages of a publisher, on all threads. */
static uint32_t receivers_of(const struct run *r, uint32_t publisher)
{
    const struct load_config *cfg = &r->config;
    uint32_t room = publisher % cfg->rooms;
    uint32_t n = in_room(cfg->subscribers, cfg->rooms, room);

    if (cfg->publisher_gets != LOAD_GETS_NOTHING)
        n += in_room(cfg->publishers, cfg->rooms, room);
    return n - (cfg->publisher_gets == LOAD_GETS_OTHERS);
}

static void count_here(struct worker *w, const struct client *c)
{
    const struct fanout_shared *k = shared_of(w);

    for (uint32_t p = c->number % k->rooms; p < k->publishers; p += k->rooms) {
        if (gets(c, p))
            k->here[w->idx * k->publishers + p]++;
    }
}

int fanout_worker_init(struct worker *w)
{
    const struct fanout_shared *k = shared_of(w);
    struct fanout *f = calloc(1, sizeof(*f));

    w->state = f;
    if (f == NULL)
        return -ENOMEM;
    f->copies = calloc(k->publishers, sizeof(*f->copies));
    f->touched = calloc(k->publishers, sizeof(*f->touched));
    f->is_touched = calloc(k->publishers, sizeof(*f->is_touched));
    f->streams = calloc((size_t)w->count * k->streams + 1, sizeof(*f->streams));
    if (f->copies == NULL || f->touched == NULL || f->is_touched == NULL || f->streams == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < w->count; i++) {
        struct client *c = &w->clients[i];
        if (!is_member(c))
            continue;
        c->streams = &f->streams[(size_t)i * k->streams];
        c->copies = is_publisher(c) ? receivers_of(w->run, c->id) : 0;
        count_here(w, c);
    }
    return 0;
}

void fanout_worker_deinit(struct worker *w)
{
    struct fanout *f = w->state;

    if (f == NULL)
        return;
    free(f->copies);
    free(f->touched);
    free(f->is_touched);
    free(f->streams);
    free(f);
    w->state = NULL;
}

void fanout_teardown(struct run *r)
{
    struct fanout_shared *k = r->shared;

    if (k == NULL)
        return;
    free(k->here);
    free(k->copies);
    free(k);
}

/* Closed loop -----------------------------------------------------------------------------------
 */

static uint64_t copies_of(const struct worker *w, uint32_t publisher)
{
    const struct fanout_shared *k = shared_of(w);
    uint64_t sum = 0;

    for (uint32_t t = 0; t < w->run->threads; t++)
        sum +=
            atomic_load_explicit(&k->copies[t * k->publishers + publisher], memory_order_relaxed);
    return sum;
}

static void next_window(struct client *c)
{
    const struct load_config *cfg = &c->worker->run->config;
    uint64_t copies = copies_of(c->worker, c->id);

    if (!cfg->lockstep)
        client_allow(c, copies / c->copies + cfg->window);
    else if (copies >= c->seq * c->copies && c->seq == c->allowed)
        client_allow(c, c->seq + cfg->window);
}

/* Tells the others what came in this turn. Returns the threads, as bits, whose publishers may now
 * go on: all members here have got one message more. */
static uint64_t tell_copies(struct worker *w)
{
    const struct fanout_shared *k = shared_of(w);
    struct fanout *f = w->state;
    uint64_t wake = 0;

    for (uint32_t i = 0; i < f->touched_count; i++) {
        uint32_t p = f->touched[i];
        _Atomic uint64_t *told = &k->copies[w->idx * k->publishers + p];
        uint64_t before = atomic_load_explicit(told, memory_order_relaxed);
        uint32_t here = k->here[w->idx * k->publishers + p];

        atomic_store_explicit(told, f->copies[p], memory_order_relaxed);
        if (before / here != f->copies[p] / here)
            wake |= 1ULL << p % w->run->threads;
        f->is_touched[p] = false;
    }
    f->touched_count = 0;
    return wake & ~(1ULL << w->idx);
}

uint64_t fanout_turn(struct worker *w)
{
    uint64_t wake = tell_copies(w);

    if (w->pace.per_second > 0)
        return IO_FOREVER;
    for (uint32_t t = 0; wake != 0; t++, wake >>= 1) {
        if ((wake & 1) != 0)
            io_wake(w->run->workers[t].io, w->io);
    }
    for (uint32_t i = 0; i < w->sender_count; i++)
        next_window(w->senders[i]);
    return IO_FOREVER;
}

/* Judging at the end ----------------------------------------------------------------------------
 */

static uint64_t sent_by(const struct run *r, uint32_t publisher)
{
    const struct worker *w = &r->workers[publisher % r->threads];

    return w->senders[publisher / r->threads]->seq;
}

static void finish_member(struct run *r, struct worker *w, struct client *c)
{
    const struct fanout_shared *k = r->shared;

    for (uint32_t p = c->number % k->rooms; p < k->publishers; p += k->rooms) {
        if (gets(c, p) && verify_end(&c->streams[p / k->rooms], &w->verify, sent_by(r, p)) > 0)
            worker_fail(w, "connection %u did not get the last messages of sender %u", c->id, p);
    }
}

/* The first member of a room sets the order, the others must have seen the same. */
static void compare_order(struct worker *w, const struct client *c, uint64_t *orders, bool *known)
{
    uint32_t room = c->number % c->group->rooms;

    if (is_publisher(c) && w->run->config.publisher_gets != LOAD_GETS_ALL)
        return;
    if (known[room] && orders[room] != c->order) {
        w->verify.reordered++;
        worker_fail(w, "connection %u saw another order of senders than the others of its room",
                    c->id);
    }
    known[room] = true;
    orders[room] = c->order;
}

void fanout_finish(struct run *r)
{
    const struct fanout_shared *k = r->shared;
    uint64_t *orders = calloc(k->rooms, sizeof(*orders));
    bool *known = calloc(k->rooms, sizeof(*known));

    for (uint32_t t = 0; t < r->threads; t++) {
        struct worker *w = &r->workers[t];
        for (uint32_t i = 0; i < w->count; i++) {
            if (!is_member(&w->clients[i]))
                continue;
            finish_member(r, w, &w->clients[i]);
            if (r->config.one_order && orders != NULL && known != NULL)
                compare_order(w, &w->clients[i], orders, known);
        }
    }
    free(orders);
    free(known);
}

const struct scenario scenario_fanout = {
    .name = "fanout",
    .summary = "publishers send into rooms, every member gets each message",
    .path = "/rooms/load-{run}-{room}",
    .sent = "published",
    .received = "deliveries",
    .bit = LOAD_FANOUT,
    .setup = fanout_setup,
    .teardown = fanout_teardown,
    .worker_init = fanout_worker_init,
    .worker_deinit = fanout_worker_deinit,
    .on_turn = fanout_turn,
    .finish = fanout_finish,
};
