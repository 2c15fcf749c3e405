/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* `tidewire serve`: opens what can fail first, starts a thread per shard, waits for signals,
 * drains. On the main thread, but for shard_main(). */

#include "tools/tidewire/serve.h"

#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "core/io_socket.h"
#include "net/tls_ktls.h"
#include "tools/tidewire/address.h"
#include "tools/tidewire/certificates.h"
#include "tools/tidewire/commands.h"
#include "tools/tidewire/notify.h"
#include "tools/tidewire/redis_trust.h"
#include "tools/tidewire/reload.h"
#include "tools/tidewire/server.h"

/* Descriptors that are not connections: standard streams, listeners, doorbells, rings, spare. */
#define DESCRIPTORS_FIXED 32
#define DESCRIPTORS_PER_SHARD 16
/* Links of a shard: one publishes, one subscribes, one asks the Sentinels. */
#define DESCRIPTORS_PER_REDIS 3
/* To a cluster: one asks for the map; pairs to so many masters, more take of the clients' share. */
#define DESCRIPTORS_PER_CLUSTER (1 + 2 * 16)
/* A drain that goes on this much longer than it should is cut off. */
#define DRAIN_GRACE_NS (2 * NS_PER_SEC)
/* How often main looks at the expiry of certificates. */
#define CERTIFICATES_LOOK_S 3600
/* How often main looks at a drain. */
#define DRAIN_LOOK_NS (20 * NS_PER_MS)

struct place {
    struct address address;
    uint8_t kind;             /* enum net_listener_kind */
    bool bound;               /* a Unix socket's file is ours to remove */
    int fds[MESH_SHARDS_MAX]; /* one per shard, -1: none */
};

/* What a shard's thread is given. */
struct shard_start {
    struct serve *serve;
    struct server_shard *shard;
};

struct serve {
    struct config config;
    struct options *options;
    struct certificates certificates; /* where there are TLS ports */
    struct redis_trust redis_trust;
    struct server server;
    struct reload reload;
    struct place places[NET_LISTENERS_MAX];
    uint32_t place_count;
    uint32_t shard_count;
    uint32_t nofile;
    uint32_t capacity;   /* connections that descriptors allow */
    const char *backend; /* that runs, and why it was chosen */
    const char *backend_reason;
    cpu_set_t cpus; /* usable ones */
    sigset_t signals;
    pthread_barrier_t started; /* all rings are enabled */
    struct shard_start starts[MESH_SHARDS_MAX];
};

/* One line with the remedy, on standard error: the log is for a server that runs. */
static int fail(int code, const char *what, const char *where, const char *why, const char *remedy)
{
    fprintf(stderr, "tidewire: %s%s%s: %s; %s\n", what, where[0] != '\0' ? " " : "", where, why,
            remedy);
    return code;
}

/* What this host gives
 * ------------------------------------------------------------------------------- */

static int count_shards(struct serve *s)
{
    uint32_t want = s->config.core.shards;

    if (sched_getaffinity(0, sizeof(s->cpus), &s->cpus) != 0)
        CPU_ZERO(&s->cpus);
    s->shard_count = want != 0 ? want : (uint32_t)CPU_COUNT(&s->cpus);
    if (s->shard_count == 0)
        s->shard_count = 1;
    s->shard_count = min_u32(s->shard_count, MESH_SHARDS_MAX);
    return 0;
}

static uint64_t fixed_descriptors(const struct serve *s)
{
    const struct option_list *urls = &s->config.pubsub.redis.urls;
    uint32_t links = 0;

    for (uint32_t i = 0; i < urls->count; i++)
        links +=
            redis_url_is_cluster(urls->items[i]) ? DESCRIPTORS_PER_CLUSTER : DESCRIPTORS_PER_REDIS;

    return DESCRIPTORS_FIXED + (uint64_t)s->shard_count * (DESCRIPTORS_PER_SHARD + links);
}

static int raise_descriptors(struct serve *s)
{
    int64_t n = io_socket_raise_nofile();
    uint64_t fixed = fixed_descriptors(s);

    if (n < 0)
        return fail(EXIT_LIMIT, "RLIMIT_NOFILE", "", strerror((int)-n), "set it with ulimit -n");
    if ((uint64_t)n < fixed + 2 * NET_REFUSALS_MAX)
        return fail(EXIT_LIMIT, "RLIMIT_NOFILE", "", "too low for the shards alone",
                    "raise it (ulimit -n, LimitNOFILE=) or lower --shards");
    s->nofile = (uint32_t)min_u64((uint64_t)n, UINT32_MAX);
    return 0;
}

/* io
 * -----------------------------------------------------------------------------------------------
 */

static int make_ios(struct serve *s, struct io **ios,
                    int (*make)(const struct io_config *, struct io **, const char **),
                    const char **why)
{
    uint32_t fixed = (uint32_t)fixed_descriptors(s);
    struct io_config cfg = {.conns_max = min_u32(s->nofile - fixed, NET_CONNS_MAX),
                            .recv_buffers = s->config.core.recv_buffers};

    for (uint32_t i = 0; i < s->shard_count; i++) {
        int err;

        cfg.shard_idx = i;
        err = make(&cfg, &ios[i], why);
        if (err != 0) {
            while (i-- > 0)
                io_free(ios[i]);
            return err;
        }
    }
    return 0;
}

static int choose_io(struct serve *s, struct io **ios)
{
    const char *why = "";
    int want = s->config.core.io;
    int err = -ENOSYS;

    if (want != CORE_IO_EPOLL)
        err = make_ios(s, ios, io_uring_new, &why);
    if (want == CORE_IO_URING && err != 0)
        return fail(EXIT_BACKEND, "--io uring", "", why, "use --io epoll or --io auto");
    if (err == 0) {
        s->backend_reason = want == CORE_IO_URING ? "asked for" : "the kernel has what it needs";
        return 0;
    }
    s->backend_reason = want == CORE_IO_EPOLL ? "asked for" : why;
    err = make_ios(s, ios, io_epoll_new, &why);
    if (err != 0)
        return fail(EXIT_BACKEND, "--io epoll", "", why, "see the limits of this host");
    return 0;
}

/* io_uring's direct descriptors are counted per ring, epoll's sockets for the process. */
static int resolve_capacity(struct serve *s, struct io **ios)
{
    uint64_t sum = 0;
    uint32_t want = s->config.net.max_connections;
    char text[32];

    for (uint32_t i = 0; i < s->shard_count; i++) {
        uint32_t room = ios[i]->conns_max - NET_REFUSALS_MAX;

        sum = strcmp(ios[i]->backend->name, "epoll") == 0 ? room : sum + room;
    }
    s->capacity = (uint32_t)min_u64(sum, UINT32_MAX);
    if (want > s->capacity) {
        snprintf(text, sizeof(text), "%u", want);
        for (uint32_t i = 0; i < s->shard_count; i++)
            io_free(ios[i]);
        return fail(EXIT_LIMIT, "--max-connections", text, "RLIMIT_NOFILE does not allow as many",
                    "raise it (ulimit -n, LimitNOFILE=) or lower --max-connections");
    }
    return 0;
}

/* Listening sockets
 * -------------------------------------------------------------------------------- */

static int listen_failed(const struct place *p, int err)
{
    char where[ADDRESS_PATH_MAX + IO_ADDR_TEXT_MAX];
    const char *remedy = "choose another --address or --port";

    io_addr_format(&p->address.addr, where);
    if (p->address.path != NULL)
        snprintf(where, sizeof(where), "unix:%s", p->address.path);
    if (err == -EADDRINUSE)
        remedy = p->kind == NET_LISTENER_ADMIN
                     ? "stop who listens there, or choose another --admin-address"
                 : p->kind == NET_LISTENER_TLS
                     ? "stop who listens there, or choose another --tls-port"
                     : "stop who listens there, or choose another --port";
    else if (err == -EACCES || err == -EPERM)
        remedy = p->address.path != NULL ? "check the directory's permissions"
                                         : "ports below 1024 need CAP_NET_BIND_SERVICE";
    else if (err == -EADDRNOTAVAIL)
        remedy = "the address is not one of this host's";
    return fail(EXIT_LISTEN, "can't listen on", where, strerror(-err), remedy);
}

/* The core that a shard is pinned to: the n-th usable one. -1: none, as --pin is off or cores are
 * too few. */
static int core_of(const struct serve *s, uint32_t n)
{
    if (!s->config.core.pin || s->shard_count > (uint32_t)CPU_COUNT(&s->cpus))
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &s->cpus) && n-- == 0)
            return cpu;
    }
    return -1;
}

static int try_place(struct serve *s, struct place *p)
{
    bool everywhere = p->kind != NET_LISTENER_ADMIN && p->address.path == NULL;
    struct io_socket_options opt = {.backlog = (int)s->config.net.backlog,
                                    .sndbuf_bytes = (int)s->config.net.tcp_sndbuf_bytes,
                                    .reuseport = everywhere};
    int err = 0;

    for (uint32_t i = 0; i < MESH_SHARDS_MAX; i++)
        p->fds[i] = -1;
    if (everywhere && p->address.addr.port != 0)
        err = io_socket_probe(&p->address.addr);
    for (uint32_t i = 0; err == 0 && i < s->shard_count; i++) {
        if (s->config.core.incoming_cpu)
            opt.core_plus_1 = (uint32_t)(core_of(s, i) + 1);
        if (i == 0 || everywhere) {
            err = io_socket_listen(&p->address.addr, p->address.path, &opt, &p->fds[i]);
        } else if (p->kind != NET_LISTENER_ADMIN) {
            p->fds[i] = dup(p->fds[0]); /* a Unix socket has one queue: all shards take from it */
            err = p->fds[i] < 0 ? -errno : 0;
        }
        p->bound |= err == 0;
    }
    return err;
}

/* The listeners of a process that was killed are given back a little after it has gone, those of a
 * ring some 10 ms: whoever restarts it at once shall not fail for that. */
#define LISTEN_TRIES 10
#define LISTEN_RETRY_NS (20 * NS_PER_MS)

static int open_place(struct serve *s, struct place *p)
{
    const struct timespec pause = {.tv_nsec = LISTEN_RETRY_NS};
    int err = try_place(s, p);

    for (int i = 1; err == -EADDRINUSE && !p->bound && i < LISTEN_TRIES; i++) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        err = try_place(s, p);
    }
    return err == 0 ? 0 : listen_failed(p, err);
}

static int add_place(struct serve *s, const char *text, uint16_t port, enum net_listener_kind kind)
{
    struct place *p = &s->places[s->place_count];
    int err;

    if (s->place_count == NET_LISTENERS_MAX)
        return fail(EXIT_USAGE, "too many addresses at", text, "16 are the most", "name fewer");
    p->kind = (uint8_t)kind;
    err = kind == NET_LISTENER_ADMIN ? address_parse_with_port(text, &p->address)
                                     : address_parse(text, port, &p->address);
    CHECK(err == 0); /* config_read() has checked it */
    if (kind == NET_LISTENER_TLS && p->address.path != NULL)
        return 0; /* Unix sockets have no ports */
    s->place_count++;
    return open_place(s, p);
}

static int open_places(struct serve *s)
{
    const struct config *c = &s->config;
    int code = 0;

    if (c->core.incoming_cpu && core_of(s, 0) < 0)
        return fail(EXIT_USAGE, "--incoming-cpu", "on", "there are more shards than cores",
                    "lower --shards");
    for (uint32_t i = 0; i < c->address.count && code == 0; i++)
        code = add_place(s, c->address.items[i], (uint16_t)c->port, NET_LISTENER_PUBLIC);
    for (uint32_t i = 0; i < c->address.count * c->tls_port.count && code == 0; i++)
        code = add_place(s, c->address.items[i / c->tls_port.count],
                         config_tls_port(c, i % c->tls_port.count), NET_LISTENER_TLS);
    if (config_admin_is_off(c))
        return code;
    for (uint32_t i = 0; i < c->admin_address.count && code == 0; i++)
        code = add_place(s, c->admin_address.items[i], 0, NET_LISTENER_ADMIN);
    return code;
}

static bool has_tls(const struct serve *s)
{
    return s->config.tls_port.count > 0;
}

static int load_certificates(struct serve *s)
{
    const struct redis_config *redis = &s->config.pubsub.redis;
    char complaint[TLS_COMPLAINT_MAX];
    struct tls_client *client = NULL;

    if ((!redis_trust_is_needed(redis) || redis_trust_load(redis, &client, complaint) == 0) &&
        (!has_tls(s) || certificates_init(&s->certificates, &s->config.net, complaint) == 0)) {
        if (client != NULL)
            redis_trust_take(&s->redis_trust, client);
        return 0;
    }
    tls_client_free(client);
    fprintf(stderr, "tidewire: %s\n", complaint);
    return EXIT_TLS;
}

/* Shards
 * ------------------------------------------------------------------------------------------- */

static void pin(const struct serve *s, uint32_t n)
{
    int core = core_of(s, n);
    cpu_set_t one;

    if (core < 0)
        return;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    (void)pthread_setaffinity_np(pthread_self(), sizeof(one), &one); /* only a wish */
}

static int start_listening(struct serve *s, struct server_shard *ss)
{
    int err = 0;

    for (uint32_t i = 0; i < s->place_count && err == 0; i++) {
        struct place *p = &s->places[i];
        int fd = p->fds[ss->shard.idx];

        if (fd < 0)
            continue;
        err = net_listen(&ss->net, fd, (enum net_listener_kind)p->kind);
        if (err == 0)
            p->fds[ss->shard.idx] = -1; /* the shard's now */
    }
    return err;
}

static void *shard_main(void *arg)
{
    struct shard_start start = *(struct shard_start *)arg;
    struct server_shard *ss = start.shard;

    pin(start.serve, ss->shard.idx);
    ss->err = io_start(ss->shard.io);
    if (ss->err == 0)
        ss->err = start_listening(start.serve, ss);
    pthread_barrier_wait(&start.serve->started); /* no doorbell before every ring is enabled */
    if (ss->err == 0)
        ss->err = shard_run(&ss->shard);
    net_leave(&ss->net);
    if (ss->err != 0) /* a shard can't go on: neither can the node */
        kill(getpid(), SIGTERM);
    return NULL;
}

static int start_shards(struct serve *s)
{
    char text[16];

    pthread_barrier_init(&s->started, NULL, s->shard_count + 1);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        struct server_shard *ss = &s->server.shards[i];
        int err;

        s->starts[i] = (struct shard_start){s, ss};
        err = pthread_create(&ss->thread, NULL, shard_main, &s->starts[i]);
        snprintf(text, sizeof(text), "%u", i);
        if (err != 0) /* those that wait at the barrier go with the process */
            return fail(EXIT_LIMIT, "can't start shard", text, strerror(err),
                        "lower --shards or raise the limit on threads");
        pthread_setname_np(ss->thread, "tw-shard");
    }
    pthread_barrier_wait(&s->started);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        if (s->server.shards[i].err != 0)
            return fail(EXIT_INTERNAL, "a shard could not start", "",
                        strerror(-s->server.shards[i].err), "see the limits of this host");
    }
    return 0;
}

/* Life -------------------------------------------------------------------------------------------
 */

/* Linux before 6.2 does not ask SO_INCOMING_CPU of listeners that share a port. */
static bool kernel_heeds_incoming_cpu(void)
{
    struct utsname u;
    int major, minor;

    if (uname(&u) != 0 || sscanf(u.release, "%d.%d", &major, &minor) != 2)
        return true;
    return major > 6 || (major == 6 && minor >= 2);
}

static void log_start(const struct serve *s)
{
    static const char *const what[] = {[NET_LISTENER_PUBLIC] = "listening",
                                       [NET_LISTENER_ADMIN] = "admin listening",
                                       [NET_LISTENER_TLS] = "TLS listening"};
    const char *exposed = config_exposed_address(&s->config);
    struct log_num a, b, c;
    char where[ADDRESS_PATH_MAX + IO_ADDR_TEXT_MAX];

    /* All of them: log_info() would limit the repeats. */
    for (uint32_t i = 0; i < s->place_count && log_level_now <= LOG_INFO; i++) {
        const struct place *p = &s->places[i];

        io_addr_format(&p->address.addr, where);
        if (p->address.path != NULL)
            snprintf(where, sizeof(where), "unix:%s", p->address.path);
        log_write(NULL, LOG_INFO, what[p->kind], "address", where, NULL);
    }
    if (exposed != NULL)
        log_warn("listening beyond loopback without authentication, as --insecure allows",
                 "address", exposed, NULL);
    if (s->config.core.incoming_cpu && !kernel_heeds_incoming_cpu())
        log_warn("--incoming-cpu does nothing before Linux 6.2", NULL);
    log_info("ready", "version", TW_VERSION, "shards", log_u64(&a, s->shard_count), "io",
             s->backend, "io_reason", s->backend_reason, "connections_fit",
             log_u64(&b, s->capacity), "max_connections",
             log_u64(&c, s->server.net_shared.max_connections), NULL);
}

static bool shards_are_done(struct serve *s)
{
    return atomic_load_explicit(&s->server.node.done, memory_order_acquire) >= s->shard_count;
}

static uint64_t ns_between(const struct timespec *a, const struct timespec *b)
{
    return (uint64_t)((b->tv_sec - a->tv_sec) * (int64_t)NS_PER_SEC + (b->tv_nsec - a->tv_nsec));
}

/* Everyone is asked to go within --drain-time, and has --close-timeout to answer. */
static void drain(struct serve *s)
{
    const struct net_config *net = &reload_config(&s->reload)->net;
    const struct redis_config *redis = &s->config.pubsub.redis;
    uint64_t answers_ns = redis->urls.count > 0 ? redis->timeout_ns : 0;
    uint64_t bound_ns =
        net->drain_time_ns + max_u64(net->close_timeout_ns, answers_ns) + DRAIN_GRACE_NS;
    struct timespec begin, now, look = {.tv_nsec = DRAIN_LOOK_NS};

    notify("STOPPING=1");
    log_info("draining; a second signal exits at once", NULL);
    server_set_phase(&s->server, NODE_DRAINING);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        int sig = sigtimedwait(&s->signals, NULL, &look);

        if (sig == SIGTERM || sig == SIGINT) {
            log_warn("second signal: exiting now", NULL);
            _exit(EXIT_FORCED);
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (!shards_are_done(s) && ns_between(&begin, &now) < bound_ns);
    if (!shards_are_done(s))
        log_warn("some connections did not close in time", NULL);
    server_set_phase(&s->server, NODE_STOPPING);
}

static void watch_expiries(struct serve *s)
{
    if (has_tls(s))
        certificates_watch(&s->certificates);
    redis_trust_watch(&s->redis_trust);
}

static int run(struct serve *s)
{
    const struct timespec watch = {.tv_sec = CERTIFICATES_LOOK_S};
    int code = start_shards(s);
    int sig;

    if (code != 0)
        return code;
    log_start(s);
    notify("READY=1");
    do {
        sig = sigtimedwait(&s->signals, NULL, &watch);
        if (sig == SIGHUP)
            reload_run(&s->reload);
        else
            watch_expiries(s);
    } while (sig != SIGTERM && sig != SIGINT);
    drain(s);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        pthread_join(s->server.shards[i].thread, NULL);
        if (s->server.shards[i].err != 0) {
            log_error("a shard failed", "error", strerror(-s->server.shards[i].err), NULL);
            code = EXIT_INTERNAL;
        }
    }
    server_settle(&s->server);
    log_info("stopped", NULL);
    return code;
}

static void remove_socket_files(const struct serve *s)
{
    for (uint32_t i = 0; i < s->place_count; i++) {
        if (s->places[i].bound && s->places[i].address.path != NULL)
            unlink(s->places[i].address.path);
    }
}

/* Removes the files of Unix sockets; closes what no shard has taken. */
static void close_places(struct serve *s)
{
    for (uint32_t i = 0; i < s->place_count; i++) {
        for (uint32_t k = 0; k < s->shard_count; k++) {
            if (s->places[i].fds[k] >= 0)
                close(s->places[i].fds[k]);
        }
    }
    remove_socket_files(s);
}

static void block_signals(struct serve *s)
{
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGTERM);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* --ktls auto: what of TLS this kernel is given to do, where io has a way to it. */
static void offer_ktls(struct serve *s, const struct io *io)
{
    struct tls_ktls_probe p;
    char text[TLS_KTLS_TEXT_MAX];

    if (s->config.net.ktls == NET_KTLS_OFF)
        return;
    if (!io->has_tls) {
        log_warn("--ktls auto: io can't ask the kernel to seal, so it is done here", "io",
                 io->backend->name, "why", "io_uring can from Linux 6.8 on; --io epoll can here",
                 NULL);
        return;
    }
    tls_ktls_probe(&p);
    s->server.net_shared.ktls_suites = tls_ktls_usable(&p);
    if (p.err != 0)
        log_warn("--ktls auto: the kernel can't seal, so it is done here", "why",
                 tls_ktls_why(p.err), NULL);
    else
        log_info("--ktls auto: the kernel seals what it can", "suites",
                 tls_ktls_text(tls_ktls_usable(&p), text), "changes_keys",
                 p.rekeys ? "true" : "false", NULL);
}

/* Where plain requests are led to. */
static uint16_t first_tls_port(const struct serve *s)
{
    uint32_t i = 0;

    while (s->places[i].kind != NET_LISTENER_TLS)
        i++;
    return s->places[i].address.addr.port;
}

static int build(struct serve *s)
{
    struct io *ios[MESH_SHARDS_MAX];
    uint32_t max;
    uint64_t seed;
    int code = choose_io(s, ios);

    if (code == 0)
        code = resolve_capacity(s, ios);
    if (code != 0)
        return code;
    s->backend = ios[0]->backend->name;
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = io_random(ios[0]);
    max = s->config.net.max_connections != 0 ? s->config.net.max_connections : s->capacity;
    if (server_init(&s->server, &s->config, ios, s->shard_count, seed, max,
                    has_tls(s) ? &s->certificates.shared : NULL, s->redis_trust.client) != 0)
        return fail(EXIT_INTERNAL, "can't build the shards", "", "out of memory",
                    "free memory or lower --shards");
    if (s->shard_count <= (uint32_t)CPU_COUNT(&s->cpus)) /* else it would spin on another's core */
        s->server.node.mesh_spin_ns = s->config.core.mesh_spin_ns;
    if (has_tls(s)) {
        certificates_register(&s->certificates, &s->server.stats);
        certificates_forget_seed(&s->certificates);
        s->reload.certificates = &s->certificates;
        offer_ktls(s, ios[0]);
    }
    if (s->redis_trust.client != NULL)
        redis_trust_register(&s->redis_trust, &s->server.stats);
    s->reload.redis_trust = &s->redis_trust;
    s->reload.server = &s->server;
    reload_register(&s->reload, &s->server.stats);
    if (s->config.redirect_http)
        s->server.routes_shared.redirect_port = first_tls_port(s);
    return 0;
}

int serve_main(int argc, char **argv, char **envp)
{
    struct serve *s = calloc(1, sizeof(*s));
    int code;

    if (s == NULL)
        return fail(EXIT_INTERNAL, "can't start", "", "out of memory", "free memory");
    code = config_read(&s->config, argc, argv, envp, stderr, &s->options);
    if (code != 0) {
        free(s);
        return code == CONFIG_DONE ? EXIT_OK : code;
    }
    s->reload = (struct reload){.argc = argc,
                                .argv = argv,
                                .envp = envp,
                                .started = &s->config,
                                .started_options = s->options};
    log_setup((enum log_level)s->config.log_level, (enum log_format)s->config.log_format);
    /* The heap serves what is large and rare: tables, messages over 96 KiB. Fixed thresholds give
     * it back as soon as it is free; glibc would raise them with use. */
    mallopt(M_MMAP_THRESHOLD, 64 << 10);
    mallopt(M_TRIM_THRESHOLD, 64 << 10);
    block_signals(s);
    CHECK(simd_init(NULL) == 0);
    count_shards(s);
    code = raise_descriptors(s);
    if (code == 0)
        code = load_certificates(s);
    if (code == 0)
        code = open_places(s);
    if (code == 0)
        code = build(s);
    if (code == 0) {
        code = run(s);
        if (code != 0) { /* shards may still be running: their memory goes with the process */
            remove_socket_files(s);
            _exit(code);
        }
        server_deinit(&s->server);
        reload_deinit(&s->reload);
        if (has_tls(s))
            certificates_deinit(&s->certificates);
    }
    tls_client_free(s->redis_trust.client);
    close_places(s);
    options_free(s->options);
    free(s);
    return code;
}
