/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Builds nodes on the virtual network, turns them, takes them down and looks for what is left. In
 * the simulation's one thread. */

#include "tests/sim/sim_nodes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_world.h"

#define STEPS_MAX 6000000
#define CONNS_MAX 500

void nodes_fail(struct nodes *c, const char *text, ...)
{
    va_list args;

    if (c->failure[0] != '\0')
        return;
    va_start(args, text);
    vsnprintf(c->failure, sizeof(c->failure), text, args);
    va_end(args);
}

const char *nodes_failure(const struct nodes *c)
{
    if (c->failure[0] != '\0')
        return c->failure;
    return c->net != NULL ? sim_net_violation(c->net) : NULL;
}

uint64_t nodes_stat(struct nodes *c, uint32_t node, uint32_t i)
{
    struct server *s = &c->nodes[node].server;
    uint64_t sum = 0;

    for (uint32_t k = 0; k < s->ready; k++)
        sum += stats_get(&s->shards[k].redis->stats[i]);
    return sum;
}

uint64_t nodes_given_up(struct nodes *c, uint32_t node)
{
    return nodes_stat(c, node, REDIS_STAT_UNKNOWN) + nodes_stat(c, node, REDIS_STAT_LOCAL_ONLY) +
           nodes_stat(c, node, REDIS_STAT_REFUSED) + nodes_stat(c, node, REDIS_STAT_DROPPED);
}

/* Beginning
 * -------------------------------------------------------------------------------------- */

void nodes_prepare(struct nodes *c, uint64_t seed, uint32_t node_count, uint32_t shards,
                   uint32_t redis_count)
{
    *c = (struct nodes){.seed = seed,
                        .node_count = node_count,
                        .shard_count = shards,
                        .redis_count = redis_count,
                        .master_count = redis_count,
                        .room_count = 1,
                        .prefix = "t:",
                        .fault_ns = UINT64_MAX};
    c->net = sim_net_new(seed, NULL);
    CHECK(c->net != NULL);
    for (uint32_t i = 0; i < redis_count; i++) {
        snprintf(c->url_texts[i], sizeof(c->url_texts[i]), "redis://10.0.1.%u:6379", i + 1);
        c->urls[i] = c->url_texts[i];
    }
    for (uint32_t i = 0; i < node_count; i++) {
        struct config *config = &c->nodes[i].config;

        world_config_defaults(config);
        config->net.drain_time_ns = 0;
        config->net.ping_interval_ns = 0;
        config->pubsub.redis.urls = (struct option_list){c->urls, redis_count};
        config->pubsub.redis.prefix = c->prefix;
    }
}

static void shard_fiber(void *arg)
{
    struct server_shard *ss = arg;

    ss->err = shard_run(&ss->shard);
}

static bool start_node(struct nodes *c, uint32_t n)
{
    struct node_one *one = &c->nodes[n];
    struct io *ios[NODES_SHARDS_MAX];
    char ip[24];

    snprintf(ip, sizeof(ip), "10.0.2.%u", n + 1);
    CHECK(io_addr_parse(&one->address, ip, 8000) == 0);
    for (uint32_t i = 0; i < c->shard_count; i++) {
        struct io_config cfg = {.conns_max = CONNS_MAX, .shard_idx = i};

        if (io_sim_new(c->net, &cfg, &ios[i]) != 0)
            return false;
    }
    if (server_init(&one->server, &one->config, ios, c->shard_count,
                    sim_net_below(c->net, UINT64_MAX), UINT32_MAX, NULL, NULL) != 0)
        return false;
    for (uint32_t i = 0; i < c->shard_count; i++) {
        struct server_shard *ss = &one->server.shards[i];
        int fd = sim_net_listen(c->net, &one->address, 64);

        if (fd < 0 || io_start(ss->shard.io) != 0 ||
            sim_fibers_add(c->fibers, ss->shard.io, shard_fiber, ss) != 0 ||
            net_listen(&ss->net, fd, NET_LISTENER_PUBLIC) != 0)
            return false;
    }
    return true;
}

/* One URL, with some of the masters. */
static void name_cluster(struct nodes *c)
{
    snprintf(c->url_texts[0], sizeof(c->url_texts[0]), "redis+cluster://10.0.1.1,10.0.1.2");
    for (uint32_t i = 0; i < c->node_count; i++)
        c->nodes[i].config.pubsub.redis.urls.count = 1;
    sim_cluster_init(&c->cluster, c->redis, c->master_count);
    for (uint32_t i = c->master_count; i + c->spare_count < c->redis_count; i++)
        sim_cluster_add_replica(&c->cluster, &c->redis[i], i % c->master_count);
}

bool nodes_start(struct nodes *c)
{
    c->fibers = sim_fibers_new(c->net);
    if (c->fibers == NULL)
        return false;
    for (uint32_t i = 0; i < c->redis_count; i++) {
        char ip[24];

        snprintf(ip, sizeof(ip), "10.0.1.%u", i + 1);
        if (!sim_redis_init(&c->redis[i], c->net, ip, 6379))
            return false;
    }
    if (c->is_cluster)
        name_cluster(c);
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (!start_node(c, i))
            return false;
    }
    return true;
}

/* Turning
 * ---------------------------------------------------------------------------------------- */

static bool step(struct nodes *c)
{
    bool busy = sim_fibers_step(c->fibers);
    uint32_t first = c->peer_count > 0 ? (uint32_t)sim_net_below(c->net, c->peer_count) : 0;

    if (++c->steps > STEPS_MAX)
        nodes_fail(c, "it does not come to an end");
    if (busy && sim_net_below(c->net, 4) != 0)
        return true;
    for (uint32_t i = 0; i < c->redis_count; i++)
        busy |= sim_redis_turn(&c->redis[i]);
    for (uint32_t i = 0; i < c->peer_count; i++)
        busy |= peer_visit(c->peers[(first + i) % c->peer_count]);
    return busy;
}

static uint64_t deadline_of(struct nodes *c, uint64_t until_ns)
{
    uint64_t next_ns = min_u64(until_ns, sim_fibers_deadline_ns(c->fibers));

    next_ns = min_u64(next_ns, c->fault_ns);
    for (uint32_t i = 0; c->storm && i < c->peer_count; i++) {
        struct peer *p = c->peers[i];

        if (p->todo > 0 && p->act_ns > nodes_now(c) && !p->is_done)
            next_ns = min_u64(next_ns, p->act_ns);
    }
    return next_ns;
}

/* The engine's running sum is what its links have. */
static void check_sums(struct nodes *c)
{
    for (uint32_t n = 0; n < c->node_count; n++) {
        struct server *s = &c->nodes[n].server;

        for (uint32_t i = 0; i < s->ready; i++) {
            const struct engine_redis *e = s->shards[i].redis;
            uint64_t sum = 0;

            for (const struct redis_server *r = e->servers; r != NULL; r = r->next)
                sum += redis_link_is_up(&r->publish) ? r->publish.unanswered_bytes : 0;
            if (sum != e->sent_bytes)
                nodes_fail(c, "node %u, shard %u: %llu bytes under way, counted as %llu", n, i,
                           (unsigned long long)sum, (unsigned long long)e->sent_bytes);
        }
    }
}

bool nodes_run(struct nodes *c, uint64_t until_ns, bool (*done)(struct nodes *c))
{
    while (nodes_failure(c) == NULL) {
        uint64_t deadline_ns;

        if (nodes_now(c) >= c->fault_ns)
            return false;
        if (step(c))
            continue;
        check_sums(c);
        if (done != NULL && done(c))
            return true;
        if (nodes_now(c) >= until_ns)
            return false;
        deadline_ns = deadline_of(c, until_ns);
        if (sim_net_idle(c->net, deadline_ns) == SIM_BUSY)
            sim_net_advance(c->net, min_u64(deadline_ns, nodes_now(c) + NS_PER_MS / 10));
    }
    return false;
}

/* End
 * -------------------------------------------------------------------------------------------- */

static bool all_ended(struct nodes *c)
{
    for (uint32_t i = 0; i < c->peer_count; i++) {
        if (!c->peers[i]->is_done)
            return false;
    }
    return sim_fibers_running(c->fibers) == 0;
}

#define REST(what, value)                                                                          \
    do {                                                                                           \
        if ((value) != 0)                                                                          \
            nodes_fail(c, "node %u, shard %u: %llu %s are left", n, i,                             \
                       (unsigned long long)(value), what);                                         \
    } while (0)

static void check_leaks(struct nodes *c, uint32_t n, uint32_t i)
{
    struct server_shard *ss = &c->nodes[n].server.shards[i];
    struct message_pool *mp = &ss->shard.messages;
    struct engine_redis *e = ss->redis;
    uint32_t used = 0, servers = 0;

    for (uint32_t k = 0; k < c->shard_count; k++) {
        REST("bytes of credit", ss->routes.pubsub.hub.credit_used[k]);
        REST("bytes of credit to give back", ss->routes.pubsub.home.credit_due[k]);
    }
    REST("channels of the home", ss->routes.pubsub.home.pool.used);
    REST("bytes that wait", e->waiting_bytes);
    for (const struct redis_server *s = e->servers; s != NULL; s = s->next, servers++)
        REST("publishes under way", s->first != NULL);
    message_pool_trim(mp);
    for (uint32_t k = 0; k < MESSAGE_CLASSES; k++)
        used += mp->classes[k].used;
    /* The ping, the canaries' channels, and those of rooms that linger. */
    REST("messages", used - 1 - servers - e->pool.used);
    REST("runs", mp->runs.used);
    if (ss->err != 0)
        nodes_fail(c, "shard %u of node %u has ended with %d", i, n, ss->err);
}

static void drain(struct nodes *c)
{
    for (uint32_t n = 0; n < c->node_count; n++)
        server_set_phase(&c->nodes[n].server, NODE_DRAINING);
    if (c->leaves_speaking) {
        nodes_run(c, nodes_now(c) + 300 * NS_PER_MS, NULL);
        for (uint32_t i = 0; i < c->redis_count; i++)
            sim_redis_silence(&c->redis[i], false);
    }
    if (!nodes_run(c, nodes_now(c) + 60 * NS_PER_SEC, all_ended))
        nodes_fail(c, "the drain does not end");
    for (uint32_t n = 0; n < c->node_count && nodes_failure(c) == NULL; n++) {
        if (c->leaves_speaking && nodes_given_up(c, n) != c->given_up[n])
            nodes_fail(c, "node %u has given up %llu messages in its drain", n,
                       (unsigned long long)(nodes_given_up(c, n) - c->given_up[n]));
        server_settle(&c->nodes[n].server);
        for (uint32_t i = 0; i < c->shard_count; i++)
            check_leaks(c, n, i);
    }
}

void nodes_end(struct nodes *c)
{
    c->fault_ns = UINT64_MAX;
    c->storm = false;
    if (nodes_failure(c) == NULL)
        drain(c);
    /* Nodes that have failed may stand anywhere: their parts are left as they are. */
    if (nodes_failure(c) != NULL) {
        nodes_fail(c, "%s", sim_net_violation(c->net));
        return;
    }
    for (uint32_t n = 0; n < c->node_count; n++)
        server_deinit(&c->nodes[n].server);
    for (uint32_t i = 0; i < c->redis_count; i++)
        sim_redis_deinit(&c->redis[i]);
    sim_fibers_free(c->fibers);
    for (uint32_t i = 0; i < c->peer_count; i++)
        peer_free(c->peers[i]);
    if (sim_net_open_count(c->net) != 0)
        nodes_fail(c, "%u ends of connections are left", sim_net_open_count(c->net));
    sim_net_free(c->net);
    c->net = NULL;
}
