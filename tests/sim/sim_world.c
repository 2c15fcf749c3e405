/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Builds a node on the virtual network, turns its shards and users, takes it down and looks for
 * what is left. In the simulation's one thread. */

#include "tests/sim/sim_world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn_tls.h"
#include "tests/sim/sim_oracle.h"
#include "tests/sim/sim_tls.h"
#include "tests/sim/sim_user.h"

/* What a world may take: beyond it something turns without end. */
#define STEPS_MAX 3000000

/* The clock leaps so far at the most. */
#define LEAP_NS (500 * NS_PER_MS)

/* Failures ------------------------------------------------------------------------------------- */

void world_fail(struct world *w, const char *text, ...)
{
    va_list args;

    if (w->failure[0] != '\0')
        return;
    va_start(args, text);
    vsnprintf(w->failure, sizeof(w->failure), text, args);
    va_end(args);
}

const char *world_failure(const struct world *w)
{
    if (w->failure[0] != '\0')
        return w->failure;
    return w->net != NULL ? sim_net_violation(w->net) : NULL;
}

void world_note(struct world *w, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint64_t sum = w->hash ^ world_now(w) ^ len;

    for (size_t i = 0; i < len; i += 7)
        sum = (sum ^ p[i]) * 0x100000001b3u;
    w->hash = sum * 0x9e3779b97f4a7c15u ^ sum >> 29;
}

uint64_t world_net_stat(struct world *w, enum net_stat i)
{
    uint64_t sum = 0;

    for (uint32_t k = 0; k < w->server.ready; k++)
        sum += stats_get(&w->server.shards[k].net.stats[i]);
    return sum;
}

/* Beginning ------------------------------------------------------------------------------------ */

void world_config_defaults(struct config *c)
{
    char name[] = "tidewire";
    char *argv[] = {name, NULL};
    char *envp[] = {NULL};
    struct options *options;

    CHECK(options_read(config_table, config_table_len, c, 1, argv, envp, NULL, stderr, &options) ==
          0);
    options_free(options);
    c->address = c->admin_address = (struct option_list){0}; /* they were the options' */
    c->net.allow_origin = c->net.proxy_from = (struct option_list){0};
    c->page = CONFIG_PAGE_OFF;
    c->pubsub.echo = true;
}

static void shard_fiber(void *arg)
{
    struct server_shard *ss = arg;

    ss->err = shard_run(&ss->shard);
}

static bool start_shard(struct world *w, uint32_t i)
{
    struct server_shard *ss = &w->server.shards[i];
    int fd;

    if (io_start(ss->shard.io) != 0 ||
        sim_fibers_add(w->fibers, ss->shard.io, shard_fiber, ss) != 0)
        return false;
    if (w->listen_count != 0 && i >= w->listen_count)
        return true;
    fd = sim_net_listen(w->net, &w->address, w->config.net.backlog);
    if (fd < 0 || net_listen(&ss->net, fd, NET_LISTENER_PUBLIC) != 0)
        return false;
    if (!w->has_tls)
        return true;
    fd = sim_net_listen(w->net, &w->tls_address, w->config.net.backlog);
    return fd >= 0 && net_listen(&ss->net, fd, NET_LISTENER_TLS) == 0;
}

bool world_start(struct world *w, uint64_t seed, uint32_t shards, uint32_t conns_max)
{
    struct io *ios[WORLD_SHARDS_MAX];
    uint32_t max = w->config.net.max_connections;

    w->seed = seed;
    w->shard_count = shards;
    w->scratch = malloc(ORACLE_MESSAGE_MAX);
    if (w->net == NULL)
        w->net = sim_net_new(seed, &w->faults);
    if (w->net == NULL || w->scratch == NULL)
        return false;
    w->fibers = sim_fibers_new(w->net);
    if (w->fibers == NULL || io_addr_parse(&w->address, "127.0.0.1", 8000) != 0 ||
        io_addr_parse(&w->tls_address, "127.0.0.1", 8443) != 0)
        return false;
    for (uint32_t i = 0; i < shards; i++) {
        struct io_config cfg = {.conns_max = conns_max, .shard_idx = i};

        if (io_sim_new(w->net, &cfg, &ios[i]) != 0)
            return false;
    }
    if (server_init(&w->server, &w->config, ios, shards, world_below(w, UINT64_MAX),
                    max != 0 ? max : UINT32_MAX, w->has_tls ? &w->tls : NULL, NULL) != 0)
        return false;
    for (uint32_t i = 0; i < shards; i++) {
        if (!start_shard(w, i))
            return false;
    }
    return true;
}

/* Configuration -------------------------------------------------------------------------------- */

#define DRAW(w, ...)                                                                               \
    ((const uint64_t[]){                                                                           \
        __VA_ARGS__}[world_below(w, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))])

/* Limits that end connections for what others do: then less can be said about who gets what. */
static void draw_lossy(struct world *w)
{
    struct net_config *c = &w->config.net;

    w->lossy = true;
    switch (world_below(w, 4)) {
    case 0:
        c->queue_memory_bytes = DRAW(w, 3000, 20000);
        return;
    case 1:
        c->assembly_memory_bytes = DRAW(w, 3000, 20000);
        return;
    case 2:
        c->message_rate = (struct option_rate){.per_second = 50, .burst = 10};
        return;
    default:
        c->byte_rate = (struct option_rate){.per_second = 20000, .burst = 10000};
    }
}

static void draw_crowd(struct world *w, uint32_t *conns_max)
{
    struct net_config *c = &w->config.net;

    w->crowded = true;
    switch (world_below(w, 5)) {
    case 0:
        *conns_max = (uint32_t)DRAW(w, 2, 4, 7);
        return;
    case 1:
        c->max_connections = (uint32_t)DRAW(w, 3, 8);
        return;
    case 2:
        c->max_connections_per_ip = (uint32_t)DRAW(w, 1, 3, 6);
        return;
    case 3:
        c->connect_rate = (struct option_rate){.per_second = 1000, .burst = 4};
        return;
    default:
        c->connect_rate_per_ip = (struct option_rate){.per_second = 100, .burst = 3};
    }
}

static void draw_config(struct world *w)
{
    struct config *c = &w->config;

    c->core.mesh_slots = (uint32_t)DRAW(w, 2, 4, 8, 32, 1024);
    c->pubsub.mesh_window_bytes = DRAW(w, 1, 400, 3000, 65536, 4 << 20);
    c->pubsub.mesh_backlog_bytes = DRAW(w, 1, 2000, 50000, 16 << 20, 16 << 20);
    c->net.max_queue_bytes = DRAW(w, 1000, 20000, 1 << 20, 1 << 20, 1 << 20);
    c->net.compress = world_one_in(w, 3);
    c->net.compress_min_bytes = DRAW(w, 1, 64, 256);
    c->net.max_message_bytes = DRAW(w, 100, 3000, 65536, 100000);
    c->net.max_fragments = (uint32_t)DRAW(w, 3, 16, 16384);
    c->net.ping_interval_ns = DRAW(w, 0, 300, 2000, 25000) * NS_PER_MS;
    c->net.pong_timeout_ns = 10 * NS_PER_SEC;
    c->net.pong_misses = 1 + (uint32_t)world_below(w, 3);
    c->net.drain_time_ns = DRAW(w, 0, 300, 3000) * NS_PER_MS;
    c->net.backlog = 64;
    if (world_one_in(w, 4))
        c->pubsub.write_delay_ns = DRAW(w, 1, 5, 20, 200) * NS_PER_MS;
    if (world_one_in(w, 6))
        c->net.message_timeout_ns = (50 + world_below(w, 500)) * NS_PER_MS;
    if (world_one_in(w, 6))
        c->net.handshake_timeout_ns = (50 + world_below(w, 500)) * NS_PER_MS;
    if (world_one_in(w, 4)) {
        strcpy(w->proxy, "10.0.0.3");
        w->proxies[0] = w->proxy;
        c->net.proxy_from = (struct option_list){.items = w->proxies, .count = 1};
    }
}

static void draw_tls(struct world *w)
{
    w->has_tls = world_one_in(w, 2);
    if (!w->has_tls || !world_one_in(w, 6))
        return;
    w->config.net.tls_handshakes_max = (uint32_t)DRAW(w, 1, 2, 5);
    w->hurried = true;
}

/* Links of single bytes are rare: they cost most and find least. */
static void draw_faults(struct world *w)
{
    struct sim_faults *f = &w->faults;

    sim_faults_draw(f, w->seed, world_one_in(w, 2));
    if (!world_one_in(w, 10)) {
        f->buffer_min_bytes += 100;
        f->buffer_max_bytes += 200;
    }
    if (world_one_in(w, 4))
        f->buffer_min_bytes = f->buffer_max_bytes = 0;
    sim_net_set_faults(w->net, f);
}

bool world_init(struct world *w, uint64_t seed, bool verbose)
{
    uint32_t conns_max = 1000;

    *w = (struct world){.seed = seed, .verbose = verbose};
    w->net = sim_net_new(seed, NULL);
    if (w->net == NULL)
        return false;
    draw_faults(w);
    world_config_defaults(&w->config);
    draw_config(w);
    if (world_one_in(w, 8))
        draw_lossy(w);
    if (world_one_in(w, 8))
        draw_crowd(w, &conns_max);
    draw_tls(w);
    w->room_count = 1 + (uint32_t)world_below(w, WORLD_ROOMS_MAX - 1);
    w->storm = true;
    return world_start(w, seed, 1 + (uint32_t)world_below(w, 4), conns_max);
}

/* Turning -------------------------------------------------------------------------------------- */

void world_calm(struct world *w, bool calm)
{
    w->storm = !calm;
    sim_net_set_faults(w->net, calm ? NULL : &w->faults);
}

static bool visit_all(struct world *w)
{
    uint32_t n = w->user_count;
    uint32_t first = n > 0 ? (uint32_t)world_below(w, n) : 0;
    bool busy = false;

    for (uint32_t i = 0; i < n; i++) {
        if (user_visit(w->users[(first + i) % n]))
            busy = true;
    }
    return busy;
}

static uint64_t deadline_of(struct world *w, uint64_t until_ns)
{
    uint64_t next_ns = min_u64(until_ns, sim_fibers_deadline_ns(w->fibers));

    for (uint32_t i = 0; i < w->user_count; i++)
        next_ns = min_u64(next_ns, user_next_ns(w->users[i]));
    return next_ns;
}

/* One doing of a shard or of users; false: nothing is to do now. */
static bool step(struct world *w)
{
    bool ran = sim_fibers_step(w->fibers);

    if (++w->steps > STEPS_MAX)
        world_fail(w, "it does not come to an end");
    if (ran && w->user_count > 0 && world_below(w, 4) != 0) {
        user_visit(w->users[world_below(w, w->user_count)]);
        return true;
    }
    return visit_all(w) || ran;
}

/* Nothing is to do now: time passes. What is under way to a shard that has ended (a late wake) is
 * told as due for ever; then the clock goes on in small steps. */
static void pass_time(struct world *w, uint64_t until_ns)
{
    uint64_t deadline_ns = deadline_of(w, until_ns);

    if (sim_net_idle(w->net, deadline_ns) == SIM_BUSY && w->draining)
        sim_net_advance(w->net, min_u64(deadline_ns, world_now(w) + NS_PER_MS / 10));
}

bool world_run(struct world *w, uint64_t until_ns, bool (*done)(struct world *w))
{
    while (world_failure(w) == NULL) {
        if (step(w))
            continue;
        if (done != NULL && done(w))
            return true;
        if (world_now(w) >= until_ns)
            return false;
        pass_time(w, until_ns);
        if (w->storm && world_one_in(w, 200)) /* all shards are late */
            sim_net_advance(w->net, world_now(w) + world_below(w, LEAP_NS));
    }
    return false;
}

/* End ------------------------------------------------------------------------------------------ */

static bool shards_ended(struct world *w)
{
    return sim_fibers_running(w->fibers) == 0;
}

static bool users_ended(struct world *w)
{
    for (uint32_t i = 0; i < w->user_count; i++) {
        if (w->users[i]->state != USER_DONE)
            return false;
    }
    return true;
}

void world_drain(struct world *w)
{
    const struct net_config *c = &w->config.net;
    uint64_t bound_ns = c->drain_time_ns + 2 * c->close_timeout_ns + c->handshake_timeout_ns;

    w->draining = true;
    server_set_phase(&w->server, NODE_DRAINING);
    if (!world_run(w, world_now(w) + bound_ns, shards_ended))
        world_fail(w, "the drain does not end: %llu connections are left",
                   (unsigned long long)world_net_stat(w, NET_STAT_CONNECTIONS));
    world_calm(w, true);
    if (!world_run(w, world_now(w) + 10 * NS_PER_SEC, users_ended))
        world_fail(w, "users have not noticed the end of the node");
}

#define REST(w, shard, what, value)                                                                \
    do {                                                                                           \
        if ((value) != 0)                                                                          \
            world_fail(w, "shard %u: %llu %s are left", shard, (unsigned long long)(value), what); \
    } while (0)

void world_check_rest(struct world *w)
{
    for (uint32_t i = 0; i < w->shard_count; i++) {
        struct server_shard *ss = &w->server.shards[i];

        for (uint32_t k = 0; k < w->shard_count; k++) {
            REST(w, i, "bytes of credit", ss->routes.pubsub.hub.credit_used[k]);
            REST(w, i, "bytes of credit to give back", ss->routes.pubsub.home.credit_due[k]);
            REST(w, i, "waiting publishers", ss->routes.pubsub.hub.waiting[k] != NULL);
        }
        REST(w, i, "items in backlogs", mesh_stats(ss->shard.mesh)->backlog_items);
        REST(w, i, "bytes in send queues", ss->net.queue_bytes);
        REST(w, i, "held connections", stats_get(&ss->net.stats[NET_STAT_HELD]));
        if (w->has_tls) {
            REST(w, i, "handshakes in line", ss->net.tls->shake.line.count);
            REST(w, i, "handshakes", ss->net.tls->shake.running.count);
            REST(w, i, "bytes sealed and not sent", ss->net.tls->sealed_bytes);
        }
    }
}

static void check_messages(struct world *w, uint32_t i)
{
    struct message_pool *mp = &w->server.shards[i].shard.messages;
    uint32_t used = 0;

    message_pool_trim(mp);
    for (uint32_t k = 0; k < MESSAGE_CLASSES; k++)
        used += mp->classes[k].used;
    REST(w, i, "messages", used - 1); /* the ping is kept */
    REST(w, i, "large messages", mp->large_now);
    REST(w, i, "runs", mp->runs.used);
}

/* No connection fails twice, nor without a reason of its user's. */
static void check_failures(struct world *w)
{
    uint64_t failures = 0, reasons = 0;

    for (int i = TLS_REASON_NONE + 1; i < TLS_REASON_COUNT; i++)
        failures += world_net_stat(w, (enum net_stat)(NET_STAT_TLS_REASONS + i));
    for (uint32_t i = 0; i < w->user_count; i++)
        reasons += w->users[i]->tls != NULL && sim_tls_violates(w->users[i]);
    if (failures > reasons)
        world_fail(w, "%llu records were refused, of %llu users that sent such",
                   (unsigned long long)failures, (unsigned long long)reasons);
}

static void check_tls(struct world *w, uint32_t i)
{
    struct net_tls *tls = w->server.shards[i].net.tls;

    if (tls == NULL)
        return;
    for (int k = 0; k < CONN_TLS_POOLS; k++)
        REST(w, i, "TLS states", tls->states[k].used);
    REST(w, i, "states of handshakes", tls->shake.shakes.used);
}

static void check_leaks(struct world *w, uint32_t i)
{
    struct server_shard *ss = &w->server.shards[i];
    struct net *n = &ss->net;
    struct pubsub *p = &ss->routes.pubsub;

    REST(w, i, "connections", n->conns.used);
    REST(w, i, "receive states", n->rxs.used);
    REST(w, i, "queue chunks", n->chunks.used);
    REST(w, i, "bytes in send queues", n->queue_bytes);
    REST(w, i, "bytes of incomplete messages", n->assembly_bytes);
    REST(w, i, "refusals", n->refusals);
    REST(w, i, "connections of the node", atomic_load(&n->shared->connections));
    REST(w, i, "held connections", stats_get(&n->stats[NET_STAT_HELD]));
    REST(w, i, "WebSockets", stats_get(&n->stats[NET_STAT_WEBSOCKETS]));
    REST(w, i, "members", p->members.used);
    REST(w, i, "channels of the hub", p->hub.pool.used);
    REST(w, i, "channels of the home", p->home.pool.used);
    admission_sweep(n, UINT64_MAX);
    REST(w, i, "addresses", n->admission.entries.used);
    check_messages(w, i);
    check_tls(w, i);
    if (ss->err != 0)
        world_fail(w, "shard %u has ended with %d", i, ss->err);
}

static void end_node(struct world *w)
{
    if (world_failure(w) == NULL) {
        server_settle(&w->server);
        world_check_rest(w);
        for (uint32_t i = 0; i < w->shard_count; i++)
            check_leaks(w, i);
        check_failures(w);
    }
    /* A node that has failed may stand anywhere: its parts are left as they are. */
    if (world_failure(w) == NULL)
        server_deinit(&w->server);
}

void world_end(struct world *w)
{
    if (w->fibers != NULL && w->server.ready > 0)
        end_node(w);
    if (world_failure(w) != NULL)
        world_fail(w, "%s", sim_net_violation(w->net)); /* outlives the network */
    if (w->fibers != NULL)
        sim_fibers_free(w->fibers);
    for (uint32_t i = 0; i < w->user_count; i++)
        user_free(w->users[i]);
    if (w->net != NULL && world_failure(w) == NULL) {
        if (sim_net_open_count(w->net) != 0)
            world_fail(w, "%u ends of connections are left", sim_net_open_count(w->net));
        sim_net_free(w->net);
    }
    w->net = NULL;
    free(w->scratch);
}
