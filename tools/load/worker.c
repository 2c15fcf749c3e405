/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A thread of the generator. Turn after turn: the phase, connecting, what is due, io. */

#include "tools/load/worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "net/tls_client.h"
#include "tools/load/client_tls.h"
#include "tools/load/exits.h"
#include "tools/load/handshake.h"
#include "tools/load/run.h"

/* A turn is no longer than this, so that phases and time-outs are seen. */
#define TURN_NS (20 * NS_PER_MS)
/* A send gathers about so much. */
#define BATCH_BYTES (64u << 10)
#define BATCH_MAX 512
#define HEAD_BYTES 14 /* of a client's frame, at most */
#define CONNECTIONS_PER_SOURCE 500
#define BUDGET_MAX (1ULL << STAMP_SEQ_BITS)
#define RING_SPARE 16 /* slots for what is being closed */

uint64_t worker_clock(struct worker *w)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    w->now_age = 0;
    w->now_ns = (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
    return w->now_ns;
}

/* Failures --------------------------------------------------------------------------------------
 */

void worker_fail(struct worker *w, const char *format, ...)
{
    va_list args;

    if (w->failure[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(w->failure, sizeof(w->failure), format, args);
    va_end(args);
}

void worker_lost(struct client *c, const struct client_end *end)
{
    struct worker *w = c->worker;
    char text[160];

    w->failed++;
    w->ends[end->why]++;
    client_end_text(end, text, sizeof(text));
    worker_fail(w, "connection %u %s", c->id, text);
}

static bool is_tail_good(const struct worker *w, struct bytes payload, const struct stamp *s)
{
    const uint8_t *tail = w->run->pattern.plain + pattern_place(s->sender, s->seq);

    return memcmp(payload.ptr + STAMP_BYTES, tail, payload.len - STAMP_BYTES) == 0;
}

static bool corrupted(struct client *c, size_t len, const char *how)
{
    struct worker *w = c->worker;

    w->verify.checked++;
    w->verify.corrupted++;
    worker_fail(w, "connection %u got a message of %zu bytes that nobody sent: %s", c->id, len,
                how);
    return false;
}

bool worker_check(struct client *c, struct bytes payload, size_t expected, struct stamp *s)
{
    if (unlikely(payload.len != expected))
        return corrupted(c, payload.len, "wrong length");
    if (unlikely(!stamp_get(payload.ptr, s)))
        return corrupted(c, payload.len, "no stamp");
    if (unlikely(!is_tail_good(c->worker, payload, s)))
        return corrupted(c, payload.len, "other bytes behind the stamp");
    return true;
}

/* Nothing else may come than what is under way, and what is late by less than the stream's window:
 * check_small() in load_config.c has seen that the numbers tell these apart. */
bool worker_check_small(struct client *c, struct bytes payload, size_t expected, struct stamp *s)
{
    uint32_t bytes = stamp_small_bytes(expected);
    uint64_t numbers = stamp_small_numbers(bytes);
    uint64_t ahead;

    if (unlikely(payload.len != expected))
        return corrupted(c, payload.len, "wrong length");
    if (unlikely(!stamp_small_get(payload.ptr, bytes, c->id, c->stream.next, &ahead)))
        return corrupted(c, payload.len, "no stamp");
    s->sender = c->id;
    s->seq = c->stream.next + ahead - (ahead >= numbers - VERIFY_WINDOW ? numbers : 0);
    if (unlikely(s->seq >= c->seq)) /* below 0, too */
        return corrupted(c, payload.len, "the number of none that is under way");
    const uint8_t *tail = c->worker->run->pattern.plain + pattern_place(s->sender, s->seq);
    if (unlikely(memcmp(payload.ptr + bytes, tail + bytes % 4, payload.len - bytes) != 0))
        return corrupted(c, payload.len, "other bytes behind the stamp");
    s->time_ns = c->times[s->seq & c->worker->times_mask];
    return true;
}

void worker_take(struct client *c, struct verify_stream *stream, const struct stamp *s)
{
    static const char *const names[] = {
        [VERIFY_GAP] = "behind a gap",
        [VERIFY_DUPLICATE] = "again",
        [VERIFY_REORDERED] = "after a later one",
    };
    struct worker *w = c->worker;
    uint64_t expected = stream->next;
    enum verify_result r = verify_take(stream, &w->verify, s->seq);

    if (unlikely(r != VERIFY_GOOD))
        worker_fail(w,
                    "connection %u got message %llu of sender %u %s: message %llu was to come "
                    "next",
                    c->id, (unsigned long long)s->seq, s->sender, names[r],
                    (unsigned long long)expected);
    if (r != VERIFY_DUPLICATE)
        histogram_add(&w->tally->latency, w->now_ns > s->time_ns ? w->now_ns - s->time_ns : 0);
}

/* Connecting ------------------------------------------------------------------------------------
 */

bool worker_may_open(const struct worker *w)
{
    return w->tls == NULL || w->shaking < w->run->config.tls_handshakes;
}

static void connect_some(struct worker *w)
{
    const struct load_config *cfg = &w->run->config;

    for (; w->begun < w->count && w->opening.count < cfg->connecting && worker_may_open(w) &&
           w->failed == 0;
         w->begun++) {
        if (!w->clients[w->begun].group->waits)
            client_open(&w->clients[w->begun]);
    }
}

static void expire_openings(struct worker *w)
{
    uint64_t timeout_ns = w->run->config.timeout_ns;

    while (w->opening.first != NULL && w->opening.first->opened_ns + timeout_ns < w->io->now_ns)
        client_expire(w->opening.first);
}

/* Phases ----------------------------------------------------------------------------------------
 */

static void begin_tally(struct worker *w, struct tally *t)
{
    proc_thread(&t->cpu_ns, &t->wait_ns);
    t->begin_ns = worker_clock(w);
    w->tally = t;
}

static void end_tally(struct worker *w, struct tally *t)
{
    uint64_t cpu_ns, wait_ns;

    proc_thread(&cpu_ns, &wait_ns);
    t->end_ns = worker_clock(w);
    t->cpu_ns = cpu_ns - t->cpu_ns;
    t->wait_ns = wait_ns - t->wait_ns;
    w->tally = w->warm;
}

static void start_messages(struct worker *w)
{
    const struct load_config *cfg = &w->run->config;

    w->budget = cfg->messages > 0 ? cfg->messages : BUDGET_MAX;
    if (cfg->rate > 0 && w->sender_count > 0) {
        w->pace = (struct schedule){
            .start_ns = w->run->start_ns,
            .per_second = cfg->rate,
            .first = w->idx,
            .step = min_u32(w->run->threads, w->run->sender_count),
        };
    }
    if (w->run->scenario->on_start != NULL)
        w->run->scenario->on_start(w);
}

static void close_all(struct worker *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        client_cut(&w->clients[i], false);
}

static void enter(struct worker *w, enum phase phase)
{
    enum phase before = w->phase;

    w->phase = phase;
    if (before == PHASE_MEASURE)
        end_tally(w, w->measured);
    if (phase == PHASE_MEASURE)
        begin_tally(w, w->measured);
    if (before == PHASE_CONNECT && (phase == PHASE_WARMUP || phase == PHASE_MEASURE))
        start_messages(w);
    if (phase >= PHASE_DRAIN)
        w->budget = 0;
    if (phase == PHASE_DRAIN && w->run->scenario->on_drain != NULL)
        w->run->scenario->on_drain(w);
    if (phase == PHASE_CLOSE)
        close_all(w);
}

/* Turns -----------------------------------------------------------------------------------------
 */

/* Open loop: lets go what is due. Returns when the next message is. */
static uint64_t pace(struct worker *w)
{
    uint64_t due = schedule_due(&w->pace, worker_clock(w));

    while (w->paced < due) {
        struct client *c = w->senders[w->paced++ % w->sender_count];
        client_allow(c, c->allowed + 1);
    }
    return schedule_at(&w->pace, w->paced);
}

static void show(struct worker *w)
{
    struct shown *s = &w->shown;

    atomic_store_explicit(&s->sent, w->sent, memory_order_relaxed);
    atomic_store_explicit(&s->received, w->received, memory_order_relaxed);
    atomic_store_explicit(&s->expected, w->expected, memory_order_relaxed);
    atomic_store_explicit(&s->open, w->open, memory_order_relaxed);
    atomic_store_explicit(&s->failed, w->failed, memory_order_relaxed);
    /* Release: who sees the phase sees the counts that it began with. */
    atomic_store_explicit(&s->phase, w->phase, memory_order_release);
}

/* Returns until when the next poll may wait. */
static uint64_t turn(struct worker *w)
{
    uint64_t deadline_ns = w->io->now_ns + TURN_NS;
    enum phase phase = run_phase(w->run);

    if (phase != w->phase)
        enter(w, phase);
    if (phase == PHASE_CONNECT)
        connect_some(w);
    expire_openings(w);
    if (phase == PHASE_WARMUP || phase == PHASE_MEASURE) {
        if (w->pace.per_second > 0)
            deadline_ns = min_u64(deadline_ns, pace(w));
        if (w->run->scenario->on_turn != NULL)
            deadline_ns = min_u64(deadline_ns, w->run->scenario->on_turn(w));
    }
    show(w);
    return deadline_ns;
}

void *worker_main(void *arg)
{
    struct worker *w = arg;

    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* messages that are due shall not wait */
    w->err = io_start(w->io);
    while (w->err >= 0) {
        uint64_t deadline_ns = turn(w);
        if (w->phase == PHASE_CLOSE && w->io->conn_count == 0)
            break;
        w->err = io_poll(w->io, deadline_ns);
    }
    if (w->err < 0) {
        w->failed++;
        worker_fail(w, "the io of thread %u is broken: %s", w->idx, strerror(-w->err));
        w->phase = PHASE_CLOSE;
        show(w);
    }
    if (w->tls != NULL)
        tls_client_thread_ends();
    return NULL;
}

/* Making ----------------------------------------------------------------------------------------
 */

static void init_client(struct worker *w, struct client *c, const struct group *g, uint32_t number)
{
    c->worker = w;
    c->group = g;
    c->number = number;
    c->id = g->first_id + number;
    c->room = number % g->rooms;
    c->copies = 1;
    if (g->payload_bytes > 0) {
        c->pace_idx = w->sender_count;
        w->senders[w->sender_count++] = c;
    }
}

/* Connection n of the run is thread n % threads's. */
static void init_clients(struct worker *w)
{
    const struct run *r = w->run;

    for (uint32_t g = 0; g < r->group_count; g++) {
        const struct group *group = &r->groups[g];
        for (uint32_t i = 0; i < group->count; i++) {
            if ((group->first_id + i) % r->threads == w->idx)
                init_client(w, &w->clients[w->count++], group, i);
        }
    }
}

/* How much one send gathers, and the memory for it. */
static void size_batch(struct worker *w)
{
    const struct load_config *cfg = &w->run->config;
    size_t payload = run_payload_max(w->run);
    size_t each = HEAD_BYTES + (cfg->compress ? deflate_bound(payload) : payload);

    w->batch = (uint32_t)min_size(BATCH_MAX, 1 + BATCH_BYTES / each);
    if (cfg->compress || payload > STAMP_BYTES + CLIENT_TAIL_COPY_MAX) /* up to two spans each */
        w->batch = min_u32(w->batch, IO_IOV_MAX / 2);
    w->out_bytes = w->batch * each + (cfg->compress ? payload : 0) + HANDSHAKE_REQUEST_MAX;
    if (w->run->tls != NULL)
        w->out_bytes += client_tls_extra_bytes(w->out_bytes);
}

static int no_memory(void)
{
    fprintf(stderr, "tidewire-load: out of memory; ask for fewer connections\n");
    return LOAD_EXIT_FAILED;
}

static int make_io(struct worker *w, uint32_t count)
{
    struct io_config cfg = {.conns_max = count + RING_SPARE, .shard_idx = w->idx};
    int want = w->run->config.io;
    const char *why = "";
    int err = -ENOSYS;

    if (want != CORE_IO_EPOLL)
        err = io_uring_new(&cfg, &w->io, &why);
    if (want != CORE_IO_URING && err != 0)
        err = io_epoll_new(&cfg, &w->io, &why);
    if (err == 0)
        return 0;
    fprintf(stderr, "tidewire-load: --io %s: %s; use another --io\n",
            want == CORE_IO_URING ? "uring" : "epoll", why);
    return LOAD_EXIT_BACKEND;
}

int worker_init(struct worker *w, struct run *run, uint32_t idx)
{
    uint32_t count = run->client_count / run->threads + 1;

    w->run = run;
    w->idx = idx;
    int code = make_io(w, count);
    if (code != 0)
        return code;
    if (w->io->conns_max < count) {
        fprintf(stderr,
                "tidewire-load: %u connections on a thread: RLIMIT_NOFILE allows %u; raise it "
                "(ulimit -n) or --threads\n",
                count, w->io->conns_max);
        return LOAD_EXIT_LIMIT;
    }
    w->clients = calloc(count, sizeof(*w->clients));
    w->senders = calloc(count, sizeof(struct client *));
    w->warm = calloc(1, sizeof(*w->warm));
    w->measured = calloc(1, sizeof(*w->measured));
    w->deflate = deflate_new();
    if (w->clients == NULL || w->senders == NULL || w->warm == NULL || w->measured == NULL ||
        w->deflate == NULL)
        return no_memory();
    w->tally = w->warm;
    w->sources = run->config.sources;
    if (w->sources == 0)
        w->sources = max_u64(1 + count / CONNECTIONS_PER_SOURCE, run->scenario->sources);
    size_batch(w);
    if (run->tls != NULL && worker_tls_init(w) != 0)
        return no_memory();
    init_clients(w);
    if (run->scenario->worker_init != NULL && run->scenario->worker_init(w) != 0)
        return no_memory();
    return 0;
}

void worker_deinit(struct worker *w)
{
    if (w->run != NULL && w->run->scenario->worker_deinit != NULL)
        w->run->scenario->worker_deinit(w);
    while (w->out_free != NULL) {
        uint8_t *next;
        memcpy(&next, w->out_free, sizeof(next));
        free(w->out_free);
        w->out_free = next;
    }
    worker_tls_deinit(w);
    deflate_free(w->deflate);
    free(w->clients);
    free(w->senders);
    free(w->warm);
    free(w->measured);
    if (w->io != NULL)
        io_free(w->io);
}
