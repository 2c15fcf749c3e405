/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Puts links, canaries, subscriptions and publishes together. On the shard's thread, except what is
 * main's. */

#include "pubsub/engine_redis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "net/tls_client.h"
#include "pubsub/pubsub.h"
#include "pubsub/redis_master.h"
#include "pubsub/redis_masters.h"
#include "pubsub/redis_publish.h"
#include "pubsub/redis_resolver.h"
#include "pubsub/redis_sentinel.h"

/* Of one reply: the longest message that --max-message allows, its header, its channel. */
#define REPLY_BYTES_MAX ((64u << 20) + (64u << 10))
/* --redis-prefix and the longest name of a room. */
#define CHANNEL_MAX 512
#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (10 * NS_PER_SEC)

static struct engine_redis *of(const struct engine *e)
{
    return (struct engine_redis *)(uintptr_t)e;
}

/* Up and down
 * ------------------------------------------------------------------------------------ */

static void open_if_ready(struct engine_redis *e, struct redis_sub *sub)
{
    if (!sub->opening || sub->state != REDIS_SUB_CONFIRMED || !redis_server_is_up(sub->server))
        return;
    sub->opening = false;
    home_opened(e->home, sub->home_handle);
}

/* Redis does not answer in time, or is away. */
static void open_without(struct engine_redis *e, struct redis_sub *sub)
{
    uint32_t handle = sub->home_handle;

    sub->opening = false;
    if (e->config->away == REDIS_AWAY_LOCAL) {
        redis_stat(e, REDIS_STAT_JOINED_ALONE);
        home_opened(e->home, handle);
        return;
    }
    redis_stat(e, REDIS_STAT_JOINS_REFUSED);
    redis_sub_unuse(e, sub);
    home_open_failed(e->home, handle, ENGINE_AWAY);
}

void engine_redis_look_at_openings(struct engine_redis *e, const struct redis_server *s)
{
    for (uint32_t i = 0; i < due_queue_count(&e->opening); i++) {
        struct redis_sub *sub = pool_find(&e->pool, due_queue_at(&e->opening, i));

        if (sub == NULL || !sub->opening || sub->server != s)
            continue;
        if (s->is_away)
            open_without(e, sub);
        else
            open_if_ready(e, sub);
    }
}

void engine_redis_confirmed(struct engine_redis *e, struct redis_sub *sub)
{
    if (redis_server_is_up(sub->server))
        redis_publish_waiting(e, sub);
    open_if_ready(e, sub);
}

void engine_redis_moved(struct engine_redis *e, struct redis_sub *sub)
{
    if (sub->opening && sub->server->is_away)
        open_without(e, sub);
}

/* The home's calls
 * ------------------------------------------------------------------------------- */

static enum engine_open open_channel(struct engine *base, struct home_channel *ch)
{
    struct engine_redis *e = of(base);
    struct redis_sub *sub = redis_sub_get(e, message_payload(ch->name), ch->name->payload_len);
    struct redis_server *s;
    uint64_t now_ns = e->shard->io->now_ns;

    if (sub == NULL)
        return ENGINE_NO_MEMORY;
    s = sub->server;
    sub->home_handle = pool_handle(&e->home->pool, ch);
    ch->engine = pool_handle(&e->pool, sub);
    redis_sub_use(e, sub);
    if (sub->state == REDIS_SUB_CONFIRMED && redis_server_is_up(s))
        return ENGINE_OPEN;
    if (s->is_away && e->config->away == REDIS_AWAY_LOCAL) {
        redis_stat(e, REDIS_STAT_JOINED_ALONE);
        return ENGINE_OPEN;
    }
    if (s->is_away) {
        redis_stat(e, REDIS_STAT_JOINS_REFUSED);
        redis_sub_unuse(e, sub);
        return ENGINE_AWAY;
    }
    if (!due_queue_push(&e->opening, ch->engine, now_ns + e->config->timeout_ns)) {
        redis_sub_unuse(e, sub);
        return ENGINE_NO_MEMORY;
    }
    sub->opening = true;
    sub->since_ns = now_ns;
    return ENGINE_OPENING;
}

static void close_channel(struct engine *base, struct home_channel *ch)
{
    struct engine_redis *e = of(base);
    struct redis_sub *sub = pool_find(&e->pool, ch->engine);

    CHECK(sub != NULL);
    redis_sub_unuse(e, sub);
}

/* Which URL a room belongs to. */
static uint32_t url_of(const struct engine_redis *e, const void *name, uint32_t len)
{
    char channel[CHANNEL_MAX];
    size_t prefix = strlen(e->config->prefix);

    CHECK(prefix + len <= sizeof(channel));
    memcpy(channel, e->config->prefix, prefix);
    memcpy(channel + prefix, name, len);
    return redis_shared_server(e->shared, channel, prefix + len);
}

static bool refuses(struct engine *base, uint32_t home, const void *name, uint32_t len)
{
    struct engine_redis *e = of(base);
    uint32_t away = atomic_load_explicit(&e->shared->away[home], memory_order_relaxed);

    if (likely(away == 0) || (away >> url_of(e, name, len) & 1) == 0)
        return false;
    redis_stat(e, REDIS_STAT_JOINS_REFUSED);
    return true;
}

static void publish(struct engine *base, struct home_channel *ch, struct message *m)
{
    struct engine_redis *e = of(base);
    struct redis_sub *sub = pool_find(&e->pool, ch->engine);

    CHECK(sub != NULL);
    redis_publish(e, sub, m);
}

/* Three quarters of the queue are for what other shards may have under way here, see
 * narrow_window(), a quarter is for this shard's own publishers. */
static uint64_t room(const struct engine *base)
{
    const struct engine_redis *e = of(base);
    uint64_t bytes = redis_publish_bytes(e), bound = e->config->queue_bytes / 4;

    return bytes < bound ? bound - bytes : 0;
}

/* Windows count home_cost(), the queue the bytes of commands: an empty message in a room with the
 * longest name is six times as long there, so all windows together are an eighth. */
static void narrow_window(struct engine_redis *e)
{
    struct hub *hub = &e->home->pubsub->hub;

    hub->window_bytes =
        min_u64(hub->window_bytes, e->config->queue_bytes / 8 / e->shard->node->shard_count);
}

static bool is_done(const struct engine *base)
{
    const struct engine_redis *e = of(base);

    return e->under_way == 0 && e->waiting_bytes == 0;
}

static const struct engine_calls calls = {.name = "redis",
                                          .open = open_channel,
                                          .close = close_channel,
                                          .refuses = refuses,
                                          .publish = publish,
                                          .room = room,
                                          .is_done = is_done};

/* The module
 * ------------------------------------------------------------------------------------- */

static void turn_openings(struct engine_redis *e, uint64_t now_ns)
{
    while (due_queue_next_ns(&e->opening) <= now_ns) {
        struct redis_sub *sub = pool_find(&e->pool, due_queue_pop(&e->opening));

        if (sub != NULL && sub->opening && now_ns >= sub->since_ns + e->config->timeout_ns)
            open_without(e, sub);
    }
}

/* In a cluster all masters, or the map. */
static bool is_url_away(const struct engine_redis *e, uint32_t url)
{
    const struct redis_masters *m = e->masters[url];

    if (m == NULL)
        return e->by_url[url]->is_away;
    for (const struct redis_server *s = e->servers; s != NULL; s = s->next) {
        if (s->masters == m && s->leave_ns == 0 && !s->is_away)
            return false;
    }
    return m->nowhere.is_away;
}

/* Tells all shards. */
static void note_away(struct engine_redis *e)
{
    uint32_t away = 0;

    for (uint32_t i = 0; i < e->shared->url_count; i++)
        away |= (uint32_t)is_url_away(e, i) << i;
    atomic_store_explicit(&e->shared->away[e->shard->idx], away, memory_order_relaxed);
}

static uint64_t on_turn(void *ctx, uint64_t now_ns)
{
    struct engine_redis *e = ctx;
    uint64_t next_ns;

    turn_openings(e, now_ns);
    next_ns = min_u64(redis_subs_turn(e, now_ns), due_queue_next_ns(&e->opening));
    for (uint32_t i = 0; i < e->shared->url_count; i++) {
        if (e->masters[i] != NULL)
            next_ns = min_u64(next_ns, redis_masters_turn(e->masters[i], now_ns));
    }
    for (struct redis_server *s = e->servers; s != NULL; s = s->next)
        next_ns = min_u64(next_ns, redis_server_turn(s, now_ns));
    return next_ns;
}

static void on_flush(void *ctx)
{
    struct engine_redis *e = ctx;

    if (e->config->away == REDIS_AWAY_REFUSE)
        note_away(e);
    for (struct redis_server *s = e->servers; s != NULL; s = s->next)
        redis_server_flush(s);
    for (uint32_t i = 0; i < e->shared->url_count; i++) {
        if (e->masters[i] != NULL)
            redis_masters_flush(e->masters[i]);
    }
}

/* The drain has waited long enough. */
static void note_unanswered(const struct engine_redis *e)
{
    struct log_num messages, waiting;

    if (!is_done(&e->engine))
        log_warn("stopping before redis has answered: messages are given up", "under_way",
                 log_u64(&messages, e->under_way), "waiting_bytes",
                 log_u64(&waiting, e->waiting_bytes), NULL);
}

static void on_phase(void *ctx, enum node_phase phase)
{
    struct engine_redis *e = ctx;

    if (phase == NODE_STOPPING && !e->stopping)
        note_unanswered(e);
    e->stopping = phase == NODE_STOPPING;
    for (struct redis_server *s = e->servers; e->stopping && s != NULL; s = s->next)
        redis_server_stop(s);
    for (uint32_t i = 0; e->stopping && i < e->shared->url_count; i++) {
        if (e->masters[i] != NULL)
            redis_masters_stop(e->masters[i]);
    }
    if (e->stopping && e->shared->tls != NULL)
        tls_client_thread_ends();
}

static void on_quiet(void *ctx)
{
    struct engine_redis *e = ctx;

    pool_trim(&e->pool);
    due_queue_trim(&e->unused);
    due_queue_trim(&e->opening);
    for (struct redis_server *s = e->servers; s != NULL; s = s->next)
        redis_server_trim(s);
}

static void add_link(const struct redis_link *l, uint64_t *sums)
{
    sums[REDIS_STAT_SENT_BYTES] += l->stats.sent_bytes;
    sums[REDIS_STAT_RECEIVED_BYTES] += l->stats.received_bytes;
    sums[REDIS_STAT_CONNECTS] += l->stats.connects;
    sums[REDIS_STAT_TLS_HANDSHAKES] += l->stats.tls_handshakes;
    for (uint32_t i = 0; i < REDIS_DOWN_COUNT; i++)
        sums[REDIS_STAT_DOWNS + i] += l->stats.downs[i];
    for (uint32_t i = 0; i < REDIS_ERROR_COUNT; i++)
        sums[REDIS_STAT_ERRORS + i] += l->stats.errors[i];
}

static void add_server(const struct redis_server *s, uint64_t *sums)
{
    add_link(&s->publish, sums);
    add_link(&s->subscribe, sums);
    if (s->sentinel != NULL)
        add_link(&s->sentinel->scout.link, sums);
    if (s->leave_ns != 0)
        return;
    sums[REDIS_STAT_PAIRS]++;
    sums[REDIS_STAT_PAIRS_UP] += redis_server_is_up(s);
    sums[REDIS_STAT_CANARY_NS] += s->canary.round_trip_ns;
}

/* A map that lacks a master counts as a pair that is not up: so these two differ whenever the node
 * is not ready. */
static void add_masters(const struct redis_masters *m, uint64_t *sums)
{
    add_link(&m->map.scout.link, sums);
    sums[REDIS_STAT_PAIRS] += !m->is_covered;
    sums[REDIS_STAT_CLUSTER_UNCOVERED] += redis_masters_uncovered(m);
}

static void on_publish(void *ctx)
{
    struct engine_redis *e = ctx;
    uint64_t sums[REDIS_STAT_COUNT];

    memcpy(sums, e->gone, sizeof(sums));
    for (const struct redis_server *s = e->servers; s != NULL; s = s->next)
        add_server(s, sums);
    for (uint32_t i = 0; i < e->shared->url_count; i++) {
        if (e->masters[i] != NULL)
            add_masters(e->masters[i], sums);
    }
    stats_set(&e->stats[REDIS_STAT_CLUSTER_UNCOVERED], sums[REDIS_STAT_CLUSTER_UNCOVERED]);
    for (uint32_t i = REDIS_STAT_SENT_BYTES; i < REDIS_STAT_COUNT; i++)
        stats_set(&e->stats[i], sums[i]);
    stats_set(&e->stats[REDIS_STAT_PAIRS], sums[REDIS_STAT_PAIRS]);
    stats_set(&e->stats[REDIS_STAT_PAIRS_UP], sums[REDIS_STAT_PAIRS_UP]);
    stats_set(&e->stats[REDIS_STAT_CANARY_NS], sums[REDIS_STAT_CANARY_NS]);
    stats_set(&e->stats[REDIS_STAT_QUEUE_BYTES], redis_publish_bytes(e));
}

/* Beginning and end
 * ------------------------------------------------------------------------------ */

static bool add_url(struct redis_shared *r, const struct redis_url *url)
{
    char text[REDIS_URL_TEXT_MAX];

    redis_url_format(url, text);
    return redis_hash_add(&r->hash, text) == 0;
}

int redis_shared_init(struct redis_shared *r, const struct redis_config *config,
                      struct tls_client *tls, uint64_t node, uint32_t shards, uint32_t message_max)
{
    char why[REDIS_URL_WHY_MAX];
    uint32_t n = config->urls.count;

    *r = (struct redis_shared){
        .config = config, .tls = tls, .node = node, .message_max = message_max};
    if (n > REDIS_SERVERS_MAX)
        return -EINVAL;
    r->urls = calloc(n, sizeof(*r->urls));
    r->away = calloc(shards, sizeof(*r->away));
    r->resolver = redis_resolver_new();
    if (r->urls == NULL || r->away == NULL || r->resolver == NULL) {
        redis_shared_deinit(r);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (redis_url_parse(config->urls.items[i], &r->urls[i], why) != 0 ||
            !add_url(r, &r->urls[i])) {
            redis_shared_deinit(r);
            return -EINVAL;
        }
    }
    r->url_count = n;
    r->pairs = n * shards;
    return 0;
}

uint32_t redis_shared_server(const struct redis_shared *r, const void *channel, size_t len)
{
    return r->url_count == 1 ? 0 : redis_hash_pick(&r->hash, channel, len);
}

void redis_shared_deinit(struct redis_shared *r)
{
    if (r->resolver != NULL)
        redis_resolver_free(r->resolver);
    free(r->urls);
    free(r->away);
    *r = (struct redis_shared){0};
}

void engine_redis_add(struct engine_redis *e, struct redis_server *s)
{
    s->next = e->servers;
    e->servers = s;
}

void engine_redis_remove(struct engine_redis *e, struct redis_server *s)
{
    struct redis_server **at = &e->servers;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    add_link(&s->publish, e->gone);
    add_link(&s->subscribe, e->gone);
    redis_server_deinit(s);
    free(s);
}

static int init_masters(struct engine_redis *e, uint32_t i, const struct redis_link_config *links)
{
    struct redis_masters *m = redis_masters_new(e, &e->shared->urls[i], links);

    if (m == NULL)
        return -ENOMEM;
    e->masters[i] = m;
    e->by_url[i] = &m->nowhere;
    return 0;
}

static int init_server(struct engine_redis *e, uint32_t i, const struct redis_link_config *links)
{
    const struct redis_url *url = &e->shared->urls[i];
    struct redis_server *s = malloc(sizeof(*s));
    char text[REDIS_URL_TEXT_MAX];

    if (s == NULL)
        return -ENOMEM;
    redis_url_format(url, text);
    if (redis_server_init(s, e, links, text) != 0) {
        free(s);
        return -ENOMEM;
    }
    engine_redis_add(e, s);
    e->by_url[i] = s;
    if (url->kind == REDIS_KIND_SENTINEL)
        return redis_master_watch(s, url, links);
    redis_server_start(s);
    return 0;
}

static int init_url(struct engine_redis *e, uint32_t i)
{
    const struct redis_url *url = &e->shared->urls[i];
    const struct redis_link_config links = {.endpoint = url->endpoint,
                                            .user = url->user,
                                            .password = url->password,
                                            .name = "tidewire",
                                            .db = url->db,
                                            .wants_master = true,
                                            .connect_timeout_ns = e->config->timeout_ns,
                                            .backoff_min_ns = BACKOFF_MIN_NS,
                                            .backoff_max_ns = BACKOFF_MAX_NS,
                                            .reply_bytes_max = REPLY_BYTES_MAX,
                                            .resolver = e->shared->resolver,
                                            .tls = url->is_tls ? e->shared->tls : NULL};

    return url->kind == REDIS_KIND_CLUSTER ? init_masters(e, i, &links) : init_server(e, i, &links);
}

static struct bytes sub_key(const void *object)
{
    const struct redis_sub *sub = object;

    return (struct bytes){message_payload(sub->channel), sub->channel->payload_len};
}

int engine_redis_init(struct engine_redis *e, struct shard *s, struct home *h,
                      struct redis_shared *shared)
{
    const struct shard_module module = {.ctx = e,
                                        .on_turn = on_turn,
                                        .on_flush = on_flush,
                                        .on_quiet = on_quiet,
                                        .on_publish = on_publish,
                                        .on_phase = on_phase};
    int err = 0;

    *e = (struct engine_redis){
        .engine.calls = &calls, .shard = s, .home = h, .shared = shared, .config = shared->config};
    map_init(&e->subs, sub_key, s->node->seed);
    pool_init(&e->pool, "redis_rooms", sizeof(struct redis_sub), 1u << POOL_INDEX_BITS, 0);
    for (uint32_t i = 0; err == 0 && i < shared->url_count; i++)
        err = init_url(e, i);
    if (err != 0) {
        engine_redis_deinit(e);
        return err;
    }
    if (s->node->stats != NULL)
        stats_register(s->node->stats, redis_stat_descs, REDIS_STAT_COUNT, s->idx, e->stats);
    shard_set_module(s, SHARD_MODULE_ENGINE, &module);
    s->next_turn_ns = 0; /* connects */
    h->engine = &e->engine;
    narrow_window(e);
    return 0;
}

void engine_redis_deinit(struct engine_redis *e)
{
    struct redis_sub *sub;
    uint32_t i = 0;

    while ((sub = pool_next(&e->pool, &i)) != NULL)
        redis_sub_free(e, sub);
    while (e->servers != NULL)
        engine_redis_remove(e, e->servers);
    for (i = 0; i < REDIS_SERVERS_MAX; i++) {
        if (e->masters[i] != NULL)
            redis_masters_free(e->masters[i]);
    }
    due_queue_deinit(&e->unused);
    due_queue_deinit(&e->opening);
    map_deinit(&e->subs);
    pool_deinit(&e->pool);
}
