/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A run from main's side: makes workers, sets phases, shows progress, adds up. */

#include "tools/load/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/io_socket.h"
#include "core/simd.h"
#include "tools/load/exits.h"
#include "tools/load/report.h"

#define LOOK_NS (5 * NS_PER_MS)
#define PROGRESS_NS NS_PER_SEC
/* Descriptors that are no connections: standard streams, rings or epolls, doorbells, /proc. */
#define DESCRIPTORS_FIXED 32
#define DESCRIPTORS_PER_THREAD 8
#define SLOTS_RESERVED 256 /* of a ring, for what closes */
#define CLOSE_NS (10 * NS_PER_SEC)

static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
    (void)number;
    signalled = 1;
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

struct group *run_add_group(struct run *r, const struct role *role, const char *path,
                            uint32_t count, uint32_t payload_bytes)
{
    CHECK(r->group_count < RUN_GROUPS_MAX);
    struct group *g = &r->groups[r->group_count++];

    *g = (struct group){.role = role,
                        .path = path,
                        .count = count,
                        .first_id = r->client_count,
                        .rooms = 1,
                        .payload_bytes = payload_bytes};
    r->client_count += count;
    r->opened_first += count;
    if (payload_bytes > 0)
        r->sender_count += count;
    return g;
}

/* Preparing -------------------------------------------------------------------------------------
 */

/* Words of an update as applications send them: ASCII, and compressible as such texts are. */
static void fill_pattern(struct pattern *p, size_t len, uint64_t seed)
{
    static const char *const words[] = {
        "\"price\":", "\"volume\":", "1042.5,",   "{\"id\":", "\"room\":", "\"bid\":",
        "77,",        "\"ask\":",    "\"text\":", "true,",    "null,",     "\"level\":"};
    struct io random = {0};
    size_t at = 0;

    io_random_seed(&random, seed);
    while (at < len) {
        const char *word = words[io_random_below(&random, ARRAY_LEN(words))];
        size_t n = min_size(strlen(word), len - at);
        memcpy(p->plain + at, word, n);
        at += n;
    }
    p->key = (uint32_t)io_random(&random);
    simd->unmask(p->masked, p->plain, len, p->key);
}

static int make_pattern(struct run *r)
{
    size_t len = run_payload_max(r) + PATTERN_SLACK;
    uint64_t seed;

    r->pattern.plain = malloc(len);
    r->pattern.masked = malloc(len);
    if (r->pattern.plain == NULL || r->pattern.masked == NULL)
        return LOAD_EXIT_FAILED;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        seed = now();
    r->number = (uint32_t)(seed >> 32) % 1000000000;
    fill_pattern(&r->pattern, len, seed);
    return 0;
}

static int find_target(struct run *r)
{
    const char *wrong = target_resolve(r->config.url, &r->target);

    if (wrong != NULL) {
        fprintf(stderr, "tidewire-load: --url %s: %s; give an address or a name that resolves\n",
                r->config.url, wrong);
        return LOAD_EXIT_CONNECT;
    }
    r->target.is_tls |= r->config.tls;
    if (r->config.sources > 0 && !r->target.is_loopback) {
        fprintf(stderr, "tidewire-load: --sources: the server is not on 127.0.0.0/8; leave it "
                        "out\n");
        return LOAD_EXIT_USAGE;
    }
    r->path = r->config.path != NULL      ? r->config.path
              : r->target.path[0] != '\0' ? r->target.path
                                          : r->scenario->path;
    return 0;
}

/* io_uring's direct descriptors count per ring, epoll's sockets for the process: more threads help
 * the former alone. */
static int choose_threads(struct run *r)
{
    int64_t limit = io_socket_raise_nofile();
    uint64_t room = limit > 0 ? (uint64_t)limit : 1024;
    uint32_t fixed = DESCRIPTORS_FIXED + DESCRIPTORS_PER_THREAD * max_u64(r->config.threads, 1);

    room = room > fixed + SLOTS_RESERVED ? room - fixed - SLOTS_RESERVED : 1;
    r->threads = r->config.threads;
    if (r->threads == 0)
        r->threads = r->config.io == CORE_IO_EPOLL ? 1 : 1 + (r->client_count - 1) / room;
    uint64_t most = r->config.io == CORE_IO_EPOLL ? room : room * r->threads;
    if (r->threads > RUN_THREADS_MAX || r->client_count > most) {
        fprintf(stderr,
                "tidewire-load: %u connections: RLIMIT_NOFILE allows %llu here; raise it (ulimit "
                "-n), or take --io uring and more --threads\n",
                r->client_count, (unsigned long long)most);
        return LOAD_EXIT_LIMIT;
    }
    return 0;
}

static int make_tls(struct run *r)
{
    const struct load_config *c = &r->config;
    struct tls_client_config cfg = {
        .ca_file = c->tls_ca,
        .protocol = "http/1.1",
        .is_insecure = c->tls_insecure,
        .resume = c->tls_resume,
    };
    char complaint[TLS_COMPLAINT_MAX];
    int err = tls_client_new(&cfg, &r->tls, complaint);

    r->tls_name = c->tls_name != NULL ? c->tls_name : r->target.name;
    if (err == 0)
        return 0;
    fprintf(stderr, "tidewire-load: %s%s\n", err == -ENOENT ? "--tls-ca " : "TLS: ", complaint);
    return err == -ENOENT ? LOAD_EXIT_FILE : LOAD_EXIT_FAILED;
}

static int check_server(struct run *r)
{
    const char *missing = "";

    r->has_server = r->config.server_pid.count > 0;
    if (!r->has_server || proc_cpu_read(&r->config.server_pid, &r->server_begin, &missing))
        return 0;
    fprintf(stderr,
            "tidewire-load: --server-pid %s: there is no such process, or it is not "
            "yours; give that of the server on this host\n",
            missing);
    return LOAD_EXIT_USAGE;
}

static int make_workers(struct run *r)
{
    int code = 0;

    r->workers = aligned_alloc(CORE_CACHE_LINE, r->threads * sizeof(*r->workers));
    if (r->workers == NULL)
        return LOAD_EXIT_FAILED;
    memset(r->workers, 0, r->threads * sizeof(*r->workers));
    for (uint32_t i = 0; i < r->threads && code == 0; i++)
        code = worker_init(&r->workers[i], r, i);
    if (code == 0)
        r->backend = r->workers[0].io->backend->name;
    return code;
}

static int prepare(struct run *r)
{
    int code = simd_init(NULL) == 0 ? find_target(r) : LOAD_EXIT_FAILED;

    if (code == 0 && r->target.is_tls)
        code = make_tls(r);
    if (code == 0)
        code = check_server(r);
    if (code == 0)
        code = r->scenario->setup(r);
    if (code == 0)
        code = make_pattern(r);
    if (code == 0)
        code = choose_threads(r);
    if (code == 0 && r->scenario->before != NULL)
        code = r->scenario->before(r);
    return code == 0 ? make_workers(r) : code;
}

/* Watching --------------------------------------------------------------------------------------
 */

struct totals {
    uint64_t sent, received, expected;
    uint32_t open, failed;
    bool arrived; /* all workers are in the phase that was set last */
};

static void read_totals(const struct run *r, struct totals *t)
{
    enum phase phase = run_phase(r);

    *t = (struct totals){.arrived = true};
    for (uint32_t i = 0; i < r->threads; i++) {
        const struct shown *s = &r->workers[i].shown;
        t->arrived &= atomic_load_explicit(&s->phase, memory_order_acquire) == phase;
        t->sent += atomic_load_explicit(&s->sent, memory_order_relaxed);
        t->received += atomic_load_explicit(&s->received, memory_order_relaxed);
        t->expected += atomic_load_explicit(&s->expected, memory_order_relaxed);
        t->open += atomic_load_explicit(&s->open, memory_order_relaxed);
        t->failed += atomic_load_explicit(&s->failed, memory_order_relaxed);
    }
}

/* The live line. */
struct progress {
    bool on;
    uint64_t next_ns;
    uint64_t last_ns;
    uint64_t last_received;
};

static void show_progress(struct run *r, struct progress *p, const struct totals *t)
{
    static const char *const names[] = {"connecting", "warming up", "measuring", "draining",
                                        "closing"};
    uint64_t now_ns = now();

    if (!p->on || now_ns < p->next_ns)
        return;
    double seconds = (double)(now_ns - p->last_ns) / NS_PER_SEC;
    fprintf(stderr, "\r\033[K%s: %s, %u of %u connections, %.0f %s/s", r->scenario->name,
            names[run_phase(r)], t->open, r->client_count,
            (double)(t->received - p->last_received) / seconds, r->scenario->received);
    fflush(stderr);
    p->next_ns = now_ns + PROGRESS_NS;
    p->last_ns = now_ns;
    p->last_received = t->received;
}

static void set_phase(struct run *r, enum phase phase)
{
    atomic_store_explicit(&r->phase, phase, memory_order_release);
    for (uint32_t i = 0; i < r->threads; i++)
        io_wake(r->workers[i].io, NULL);
}

typedef bool (*until_fn)(const struct run *r, const struct totals *t);

/* Looks until `until` says so, the time is over, something failed or a signal came. Returns whether
 * `until` was met. */
static bool watch(struct run *r, struct progress *p, uint64_t length_ns, until_fn until)
{
    uint64_t end_ns = now() + length_ns;
    struct totals t;

    for (;;) {
        uint64_t now_ns = now();
        read_totals(r, &t);
        show_progress(r, p, &t);
        if (until != NULL && until(r, &t))
            return true;
        if (now_ns >= end_ns || signalled || (t.failed > 0 && run_phase(r) < PHASE_CLOSE))
            return false;
        uint64_t wait_ns = min_u64(LOOK_NS, end_ns - now_ns);
        struct timespec pause = {.tv_nsec = (long)wait_ns};
        nanosleep(&pause, NULL);
    }
}

static bool is_connected(const struct run *r, const struct totals *t)
{
    return t->open >= r->opened_first;
}

/* Nothing is sent any more, and all that was has come. */
static bool is_drained(const struct run *r, const struct totals *t)
{
    (void)r;
    return t->arrived && t->received >= t->expected;
}

/* --messages: all have been sent and have come. */
static bool is_done(const struct run *r, const struct totals *t)
{
    return t->sent >= (uint64_t)r->config.messages * r->sender_count && t->received >= t->expected;
}

static bool is_arrived(const struct run *r, const struct totals *t)
{
    (void)r;
    return t->arrived;
}

static void read_server(const struct run *r, struct proc_cpu *cpu)
{
    const char *missing;

    if (r->has_server)
        (void)proc_cpu_read(&r->config.server_pid, cpu, &missing);
}

/* A signal ends the phase that it meets; a second one ends the program. */
static void note_signal(struct run *r)
{
    r->interrupted |= signalled;
    signalled = 0;
}

static void measure(struct run *r, struct progress *p)
{
    uint64_t begin_ns = now();

    read_server(r, &r->server_begin);
    set_phase(r, PHASE_MEASURE);
    if (r->config.messages > 0)
        (void)watch(r, p, UINT64_MAX / 2, is_done);
    else
        (void)watch(r, p, r->config.duration_ns, NULL);
    read_server(r, &r->server_end);
    if (r->scenario->after != NULL)
        r->scenario->after(r);
    set_phase(r, PHASE_DRAIN);
    note_signal(r);
    r->measure_ns = now() - begin_ns;
}

static void run_phases(struct run *r)
{
    struct progress p = {.last_ns = now()};
    struct totals t;
    uint64_t begin_ns = now();

    p.on = r->config.progress == LOAD_PROGRESS_ON ||
           (r->config.progress == LOAD_PROGRESS_AUTO && isatty(STDERR_FILENO));
    if (watch(r, &p, UINT64_MAX / 2, is_connected)) {
        r->connect_ns = now() - begin_ns;
        r->start_ns = now();
        if (r->config.messages == 0 && r->config.warmup_ns > 0) {
            set_phase(r, PHASE_WARMUP);
            (void)watch(r, &p, r->config.warmup_ns, NULL);
        }
        measure(r, &p);
        (void)watch(r, &p, r->config.grace_ns, is_drained);
    }
    read_totals(r, &t);
    r->opened = t.open;
    note_signal(r);
    set_phase(r, PHASE_CLOSE);
    (void)watch(r, &p, CLOSE_NS, is_arrived);
    if (p.on)
        fputs("\r\033[K", stderr);
}

static void start_threads(struct run *r)
{
    for (uint32_t i = 0; i < r->threads; i++) {
        int err = pthread_create(&r->workers[i].thread, NULL, worker_main, &r->workers[i]);
        if (err != 0) {
            fprintf(stderr, "tidewire-load: can't start thread %u: %s; take fewer --threads\n", i,
                    strerror(err));
            _exit(LOAD_EXIT_LIMIT); /* those that run already share what would be freed */
        }
    }
}

static void catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};

    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void tear_down(struct run *r)
{
    for (uint32_t i = 0; r->workers != NULL && i < r->threads; i++)
        worker_deinit(&r->workers[i]);
    if (r->scenario->teardown != NULL)
        r->scenario->teardown(r);
    tls_client_free(r->tls);
    free(r->workers);
    free(r->pattern.plain);
    free(r->pattern.masked);
}

int run_main(struct run *r)
{
    int code = prepare(r);

    if (code == 0) {
        catch_signals();
        start_threads(r);
        run_phases(r);
        for (uint32_t i = 0; i < r->threads; i++)
            pthread_join(r->workers[i].thread, NULL);
        if (r->scenario->finish != NULL)
            r->scenario->finish(r);
        code = report(r);
    }
    tear_down(r);
    return code;
}
