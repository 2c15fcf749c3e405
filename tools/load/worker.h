/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_WORKER_H
#define TOOLS_LOAD_WORKER_H

/* A thread of the generator: its io, its share of the connections, its counts. Fields belong to the
 * thread; what main reads meanwhile are the atomics in `shown`, and after the join everything. */

#include <pthread.h>
#include <stdatomic.h>

#include "core/io.h"
#include "net/deflate.h"
#include "tools/load/client.h"
#include "tools/load/histogram.h"
#include "tools/load/schedule.h"
#include "tools/load/verify.h"

struct run;
struct worker_tls;

/* The course of a run. Main sets it; workers follow. */
enum phase {
    PHASE_CONNECT,
    PHASE_WARMUP,
    PHASE_MEASURE,
    PHASE_DRAIN, /* nothing is sent any more; what is under way comes */
    PHASE_CLOSE,
};

/* What is counted in a part of the run. */
struct tally {
    uint64_t sent; /* messages */
    uint64_t received;
    uint64_t received_bytes;
    uint64_t begin_ns; /* of that part, on this thread */
    uint64_t end_ns;
    uint64_t cpu_ns;  /* of this thread */
    uint64_t wait_ns; /* that this thread was ready to run and had no core */
    struct histogram latency;
    struct histogram lag; /* open loop: how much later than due messages left */
};

/* Written by the worker once a turn, read by main. */
struct shown {
    _Alignas(CORE_CACHE_LINE) _Atomic uint64_t sent;
    _Atomic uint64_t received;
    _Atomic uint64_t expected; /* messages that must come, over all workers */
    _Atomic uint32_t open;
    _Atomic uint32_t attached;
    _Atomic uint32_t phase;  /* the one that the worker is in */
    _Atomic uint32_t failed; /* connections that should not have ended */
};

struct worker {
    struct shown shown;
    pthread_t thread;
    struct run *run;
    struct io *io;
    struct client *clients;
    uint32_t count;
    uint32_t idx;
    enum phase phase;

    uint32_t begun; /* clients that have been opened in PHASE_CONNECT */
    uint32_t open;
    struct client_list opening; /* those being opened, oldest first */
    uint32_t shaking;           /* of them, with TLS: whose handshake is not done */

    uint64_t now_ns; /* a clock that is at most a few sends or receives old */
    uint32_t now_age;
    uint64_t budget; /* messages that a sender may send at most, now */
    uint64_t sent;
    uint64_t received;
    uint64_t expected;
    struct tally *tally; /* the part of the run that is on */
    struct tally *warm;
    struct tally *measured;
    struct verify_counts verify;

    struct schedule pace;
    uint64_t paced;          /* events of it that were handed out */
    struct client **senders; /* in the order of events */
    uint32_t sender_count;

    void *state; /* the scenario's; fan-out's within a soak */
    void *extra; /* the soak's own */

    uint8_t *out_free;   /* free send buffers, linked through their first bytes */
    size_t out_bytes;    /* of each */
    uint32_t sources;    /* addresses to connect from, on loopback */
    uint32_t batch;      /* messages that one send takes at most */
    uint64_t times_mask; /* of each client's times */
    struct deflate *deflate;
    struct worker_tls *tls; /* NULL: without TLS */

    uint32_t failed;
    uint32_t ends[CLIENT_WHYS]; /* failed ones, by cause */
    char failure[256];          /* the first one */
    int err;                    /* of the ring itself */
};

/* Of the whole run: constant while workers run. */
struct pattern {
    uint8_t *plain; /* what follows the stamps: see pattern_tail() */
    uint8_t *masked;
    uint32_t key;
};

/* Payloads of different messages differ behind the stamp, too: their tail is the pattern from one
 * of 64 places on, at a multiple of the masking key's length. */
#define PATTERN_PLACES 64
#define PATTERN_SLACK (PATTERN_PLACES * 4)

static inline size_t pattern_place(uint32_t sender, uint64_t seq)
{
    return (size_t)((sender * 5 + seq) % PATTERN_PLACES) * 4;
}

/* Adds to what the run tells as its first failure. */
void worker_fail(struct worker *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A connection ended that should not have: counted, told, and the run is over. */
void worker_lost(struct client *c, const struct client_end *end);

/* Whether a payload has the expected length and is that of the message that its stamp names; a
 * failure is counted and told. The stamp is returned in *s. */
bool worker_check(struct client *c, struct bytes payload, size_t expected, struct stamp *s);

/* The same for a payload with a small stamp, of this client's own. */
bool worker_check_small(struct client *c, struct bytes payload, size_t expected, struct stamp *s);

/* Takes message s->seq of a stream into account: order, latency. */
void worker_take(struct client *c, struct verify_stream *stream, const struct stamp *s);

/* Whether another connection may be opened: TLS handshakes are bounded. */
bool worker_may_open(const struct worker *w);

/* Reads the clock again. */
uint64_t worker_clock(struct worker *w);

/* The clock as it was at most eight calls ago, and not before this turn began. */
static inline uint64_t worker_now(struct worker *w)
{
    if (unlikely(w->now_ns < w->io->now_ns || ++w->now_age >= 8))
        return worker_clock(w);
    return w->now_ns;
}

/* Makes the clients of w->idx and what they share. Returns 0, or an exit code after one line. */
MUST_USE int worker_init(struct worker *w, struct run *run, uint32_t idx);
void worker_deinit(struct worker *w);

/* Thread. */
void *worker_main(void *arg);

#endif
