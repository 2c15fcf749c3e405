/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Puts links, canaries, subscriptions and publishes together. On the shard's thread, except what is
 * main's. */

#include "pubsub/engine_redis.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "pubsub/pubsub.h"
#include "pubsub/redis_publish.h"
#include "pubsub/redis_resolver.h"

/* Of one reply: the longest message that --max-message allows, its header, its channel. */
#define REPLY_BYTES_MAX ((64u << 20) + (64u << 10))
/* Beyond --redis-queue, so that canaries find room. */
#define QUEUE_SPARE_BYTES (64u << 10)
/* Of a subscribing link: commands for a million rooms fit. */
#define SUBSCRIBE_QUEUE_BYTES (512u << 20)
#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (10 * NS_PER_SEC)
/* No name of a room holds this byte, as those are UTF-8. */
#define CANARY_MARK "\xff"
#define CANARY_NAME_MAX 64

static struct engine_redis *of(const struct engine *e)
{
    return (struct engine_redis *)(uintptr_t)e;
}

/* Up and down
 * ------------------------------------------------------------------------------------ */

static void open_if_ready(struct engine_redis *e, struct redis_sub *sub)
{
    if (!sub->opening || sub->state != REDIS_SUB_CONFIRMED ||
        !redis_server_is_up(&e->servers[sub->server]))
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

/* Looks at all rooms of the server that are waited for. */
static void look_at_openings(struct engine_redis *e, const struct redis_server *s)
{
    for (uint32_t i = 0; i < due_queue_count(&e->opening); i++) {
        struct redis_sub *sub = pool_find(&e->pool, due_queue_at(&e->opening, i));

        if (sub == NULL || !sub->opening || &e->servers[sub->server] != s)
            continue;
        if (s->is_away)
            open_without(e, sub);
        else
            open_if_ready(e, sub);
    }
}

static void set_up(struct redis_server *s)
{
    struct engine_redis *e = s->engine;
    struct log_num ms;
    uint64_t now_ns = e->shard->io->now_ns;

    atomic_fetch_add_explicit(&e->shared->up, 1, memory_order_relaxed);
    s->is_away = false;
    log_info("redis is up", "server", s->text, "away_ms",
             log_u64(&ms, (now_ns - s->down_since_ns) / NS_PER_MS), NULL);
    look_at_openings(e, s);
}

static void set_down(struct redis_server *s)
{
    struct engine_redis *e = s->engine;
    bool was_up = s->canary.is_up;
    struct redis_sub *sub;
    uint32_t i = 0;

    redis_canary_end(&s->canary);
    if (!was_up)
        return;
    atomic_fetch_sub_explicit(&e->shared->up, 1, memory_order_relaxed);
    s->down_since_ns = e->shard->io->now_ns;
    if (!e->stopping)
        log_warn("redis is away", "server", s->text, "rooms",
                 e->config->away == REDIS_AWAY_LOCAL ? "go on within this node" : "are closed",
                 NULL);
    while (e->waiting_bytes > 0 && (sub = pool_next(&e->pool, &i)) != NULL) {
        if (&e->servers[sub->server] == s)
            redis_publish_give_up(e, sub);
    }
}

static void set_away(struct redis_server *s)
{
    if (s->is_away)
        return;
    s->is_away = true;
    look_at_openings(s->engine, s);
}

void engine_redis_unreachable(struct redis_server *s)
{
    if (!redis_server_is_up(s))
        set_away(s);
}

void engine_redis_confirmed(struct engine_redis *e, struct redis_sub *sub)
{
    if (redis_server_is_up(&e->servers[sub->server]))
        redis_publish_waiting(e, sub);
    open_if_ready(e, sub);
}

/* Canaries
 * --------------------------------------------------------------------------------------- */

static void send_canary(struct redis_server *s)
{
    struct engine_redis *e = s->engine;
    char text[24];
    uint64_t number = ++s->canary.number;
    const struct redis_arg args[] = {
        {.head = message_payload(s->canary_channel), .head_len = s->canary_channel->payload_len},
        {.head = text, .head_len = (uint32_t)snprintf(text, sizeof(text), "%" PRIu64, number)},
    };

    if (redis_link_command(&s->publish, "PUBLISH", args, ARRAY_LEN(args),
                           REDIS_TAG(REDIS_TAG_CANARY, 0)) != 0)
        return; /* the one before has not come back yet: it is judged by */
    redis_stat(e, REDIS_STAT_CANARIES_SENT);
    redis_canary_published(&s->canary, e->shard->io->now_ns, s->publish.stats.received_bytes,
                           s->subscribe.stats.received_bytes);
    e->shard->next_turn_ns = 0;
}

static void send_probe(struct redis_server *s, uint64_t now_ns)
{
    const struct redis_arg arg = {.head = message_payload(s->canary_channel),
                                  .head_len = s->canary_channel->payload_len};

    if (redis_link_subscribe(&s->subscribe, REDIS_PUSH_SUBSCRIBE, &arg, 1,
                             REDIS_TAG(REDIS_TAG_PROBE, 0)) != 0) {
        s->canary.next_ns = now_ns + REDIS_CANARY_INTERVAL_NS; /* no memory, or its queue is full */
        return;
    }
    redis_canary_probed(&s->canary, now_ns, s->subscribe.stats.received_bytes);
    if (s->canary.is_subscribed)
        send_canary(s);
}

static void reopen_silent(struct redis_server *s, struct redis_link *l, enum redis_stat which)
{
    redis_stat(s->engine, which);
    redis_link_reopen(l, "silent: a canary did not come back");
}

static void judge(struct redis_server *s, uint64_t now_ns)
{
    /* A link that is reopened ends the canary; the other one is judged first where both are mute.
     */
    struct redis_canary copy;
    enum redis_canary_verdict v;

    if (unlikely(s->engine->shard->lag_ns > SHARD_LAG_NS))
        redis_canary_excuse(&s->canary, now_ns);
    copy = s->canary;
    v = redis_canary_judge(&s->canary, now_ns, s->publish.stats.received_bytes,
                           s->subscribe.stats.received_bytes);
    if (likely(v == REDIS_CANARY_FINE))
        return;
    copy.answer = (struct redis_canary_wait){0};
    copy.copy = (struct redis_canary_wait){0};
    if (v == REDIS_CANARY_PUBLISHER_SILENT)
        reopen_silent(s, &s->publish, REDIS_STAT_SILENT_PUBLISHERS);
    if (v == REDIS_CANARY_SUBSCRIBER_SILENT ||
        redis_canary_judge(&copy, now_ns, 0, s->subscribe.stats.received_bytes) !=
            REDIS_CANARY_FINE)
        reopen_silent(s, &s->subscribe, REDIS_STAT_SILENT_SUBSCRIBERS);
}

/* Redis does not let canaries through: nor would it let messages. */
static void canary_refused(struct redis_server *s, const struct redis_reply *r)
{
    enum redis_error error = redis_error_of(r->text, r->len);

    log_warn("redis refuses a canary", "server", s->text, "error", r->text, "remedy",
             redis_error_remedy(error), NULL);
    set_down(s);
    set_away(s);
    if (redis_link_is_up(&s->publish) && redis_link_is_up(&s->subscribe))
        redis_canary_begin(&s->canary, s->engine->shard->io->now_ns + REDIS_CANARY_INTERVAL_NS);
}

static void canary_came(struct redis_server *s, const struct redis_push *push)
{
    uint64_t number = 0;

    for (uint32_t i = 0; i < push->payload_len && i < 20; i++)
        number = number * 10 + (uint64_t)(push->payload[i] - '0');
    redis_stat(s->engine, REDIS_STAT_CANARIES_RETURNED);
    if (redis_canary_returned(&s->canary, number, s->engine->shard->io->now_ns))
        set_up(s);
}

static uint64_t turn_canary(struct redis_server *s, uint64_t now_ns)
{
    judge(s, now_ns);
    if (redis_canary_is_due(&s->canary, now_ns)) {
        redis_subs_look_again(s->engine, s);
        send_probe(s, now_ns);
    }
    return redis_canary_next_ns(&s->canary);
}

/* Links
 * ------------------------------------------------------------------------------------------ */

static const char *role_of(const struct redis_link *l)
{
    return l->config.role == REDIS_ROLE_SUBSCRIBER ? "subscribe" : "publish";
}

static void on_up(struct redis_link *l)
{
    struct redis_server *s = l->owner;

    if (l == &s->subscribe)
        redis_subs_up(s->engine, s);
    if (redis_link_is_up(&s->publish) && redis_link_is_up(&s->subscribe))
        redis_canary_begin(&s->canary, s->engine->shard->io->now_ns);
}

/* Without its partner no canary watches the publishing link: it shall not hold publishers for ever
 * with what it does not answer. */
static void reopen_unwatched(struct redis_server *s)
{
    if (redis_link_is_up(&s->publish) && s->publish.unanswered > 0)
        redis_link_reopen(&s->publish, "unanswered, and its partner can't connect");
}

static void on_down(struct redis_link *l, enum redis_down why, const char *text, bool was_up)
{
    struct redis_server *s = l->owner;

    if (why != REDIS_DOWN_STOPPED)
        log_warn(was_up ? "a connection to redis has ended" : "redis can't be reached", "server",
                 s->text, "link", role_of(l), "reason", redis_down_label(why), "detail", text,
                 NULL);
    set_down(s);
    if (l == &s->subscribe && was_up)
        redis_subs_down(s->engine, s);
    if (!was_up)
        set_away(s);
    if (!was_up && l == &s->subscribe)
        reopen_unwatched(s);
    redis_master_doubt(s);
}

static void on_publish_reply(struct redis_link *l, uint64_t tag, const struct redis_reply *r)
{
    struct redis_server *s = l->owner;

    if (REDIS_TAG_KIND(tag) != REDIS_TAG_CANARY)
        redis_publish_answered(s, tag, r);
    else if (r->type == REDIS_TYPE_ERROR)
        canary_refused(s, r);
    else
        redis_canary_publish_answered(&s->canary);
}

static void on_publish_lost(struct redis_link *l, uint64_t tag, bool was_sent)
{
    if (REDIS_TAG_KIND(tag) != REDIS_TAG_CANARY)
        redis_publish_lost(l->owner, tag, was_sent);
}

static void on_subscribe_reply(struct redis_link *l, uint64_t tag, const struct redis_reply *r)
{
    struct redis_server *s = l->owner;
    bool refused = r->type == REDIS_TYPE_ERROR;

    if (REDIS_TAG_KIND(tag) != REDIS_TAG_PROBE) {
        redis_subs_batch_over(s->engine, s, (uint32_t)REDIS_TAG_REST(tag), refused);
        return;
    }
    if (refused)
        canary_refused(s, r);
    else if (redis_canary_has_begun(&s->canary) && redis_canary_probe_answered(&s->canary))
        send_canary(s);
}

static bool is_canary(const struct redis_server *s, const struct redis_push *push)
{
    return push->channel_len == s->canary_channel->payload_len &&
           memcmp(push->channel, message_payload(s->canary_channel), push->channel_len) == 0;
}

static void on_push(struct redis_link *l, const struct redis_push *push)
{
    struct redis_server *s = l->owner;
    struct redis_sub *sub;

    if (push->kind != REDIS_PUSH_MESSAGE) {
        redis_subs_push(s->engine, s, push);
        return;
    }
    if (unlikely(is_canary(s, push))) {
        canary_came(s, push);
        return;
    }
    sub = redis_sub_find(s->engine, push->channel, push->channel_len);
    if (likely(sub != NULL))
        redis_publish_received(
            s->engine, sub, (struct bytes){(uint8_t *)(uintptr_t)push->payload, push->payload_len});
    else
        redis_stat(s->engine, REDIS_STAT_STALE);
}

static void on_release(struct redis_link *l, struct message *m)
{
    struct redis_server *s = l->owner;

    shard_message_release(s->engine->shard, m);
}

static const struct redis_link_events publish_events = {.on_up = on_up,
                                                        .on_down = on_down,
                                                        .on_reply = on_publish_reply,
                                                        .on_lost = on_publish_lost,
                                                        .on_release = on_release};
static const struct redis_link_events subscribe_events = {.on_up = on_up,
                                                          .on_down = on_down,
                                                          .on_reply = on_subscribe_reply,
                                                          .on_push = on_push,
                                                          .on_release = on_release};

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
    s = &e->servers[sub->server];
    sub->home_handle = pool_handle(&e->home->pool, ch);
    ch->engine = pool_handle(&e->pool, sub);
    redis_sub_hurry(e, sub);
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

static uint64_t on_turn(void *ctx, uint64_t now_ns)
{
    struct engine_redis *e = ctx;
    uint64_t next_ns;

    turn_openings(e, now_ns);
    next_ns = min_u64(redis_subs_turn(e, now_ns), due_queue_next_ns(&e->opening));
    for (uint32_t i = 0; i < e->server_count; i++) {
        struct redis_server *s = &e->servers[i];

        next_ns = min_u64(next_ns, turn_canary(s, now_ns));
        next_ns = min_u64(next_ns, redis_master_turn(s, now_ns));
        next_ns = min_u64(next_ns, redis_link_turn(&s->publish, now_ns));
        next_ns = min_u64(next_ns, redis_link_turn(&s->subscribe, now_ns));
    }
    return next_ns;
}

static void on_flush(void *ctx)
{
    struct engine_redis *e = ctx;

    for (uint32_t i = 0; i < e->server_count; i++) {
        redis_subs_flush(e, &e->servers[i]);
        redis_link_flush(&e->servers[i].subscribe);
        redis_link_flush(&e->servers[i].publish);
        redis_master_flush(&e->servers[i]);
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
    for (uint32_t i = 0; phase == NODE_STOPPING && i < e->server_count; i++) {
        redis_link_stop(&e->servers[i].publish);
        redis_link_stop(&e->servers[i].subscribe);
        redis_master_stop(&e->servers[i]);
        set_away(&e->servers[i]); /* nobody answers rooms that wait, nor those that still come */
    }
}

static void on_quiet(void *ctx)
{
    struct engine_redis *e = ctx;

    pool_trim(&e->pool);
    due_queue_trim(&e->unused);
    due_queue_trim(&e->opening);
    for (uint32_t i = 0; i < e->server_count; i++) {
        due_queue_trim(&e->servers[i].batches.urgent);
        due_queue_trim(&e->servers[i].batches.needed);
    }
}

static void add_link(const struct redis_link *l, uint64_t *sums)
{
    sums[REDIS_STAT_SENT_BYTES] += l->stats.sent_bytes;
    sums[REDIS_STAT_RECEIVED_BYTES] += l->stats.received_bytes;
    sums[REDIS_STAT_CONNECTS] += l->stats.connects;
    for (uint32_t i = 0; i < REDIS_DOWN_COUNT; i++)
        sums[REDIS_STAT_DOWNS + i] += l->stats.downs[i];
    for (uint32_t i = 0; i < REDIS_ERROR_COUNT; i++)
        sums[REDIS_STAT_ERRORS + i] += l->stats.errors[i];
}

static void on_publish(void *ctx)
{
    struct engine_redis *e = ctx;
    uint64_t sums[REDIS_STAT_COUNT] = {0};

    for (uint32_t i = 0; i < e->server_count; i++) {
        const struct redis_server *s = &e->servers[i];

        add_link(&s->publish, sums);
        add_link(&s->subscribe, sums);
        sums[REDIS_STAT_PAIRS_UP] += redis_server_is_up(s);
        sums[REDIS_STAT_CANARY_NS] += s->canary.round_trip_ns;
    }
    for (uint32_t i = REDIS_STAT_SENT_BYTES; i < REDIS_STAT_COUNT; i++)
        stats_set(&e->stats[i], sums[i]);
    stats_set(&e->stats[REDIS_STAT_PAIRS_UP], sums[REDIS_STAT_PAIRS_UP]);
    stats_set(&e->stats[REDIS_STAT_CANARY_NS], sums[REDIS_STAT_CANARY_NS]);
    stats_set(&e->stats[REDIS_STAT_PAIRS], e->server_count);
    stats_set(&e->stats[REDIS_STAT_QUEUE_BYTES], redis_publish_bytes(e));
}

/* Beginning and end
 * ------------------------------------------------------------------------------ */

static bool add_server(struct redis_shared *r, const struct redis_url *url)
{
    char text[REDIS_URL_TEXT_MAX];

    redis_url_format(url, text);
    return redis_hash_add(&r->hash, text) == 0;
}

int redis_shared_init(struct redis_shared *r, const struct redis_config *config, uint64_t node,
                      uint32_t shards, uint32_t message_max)
{
    char why[REDIS_URL_WHY_MAX];
    uint32_t n = config->urls.count;

    *r = (struct redis_shared){.config = config, .node = node, .message_max = message_max};
    if (n > REDIS_SERVERS_MAX)
        return -EINVAL;
    r->urls = calloc(n, sizeof(*r->urls));
    r->resolver = redis_resolver_new();
    if (r->urls == NULL || r->resolver == NULL) {
        redis_shared_deinit(r);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (redis_url_parse(config->urls.items[i], &r->urls[i], why) != 0 ||
            !add_server(r, &r->urls[i])) {
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
    *r = (struct redis_shared){0};
}

/* "PREFIX\xffcanary:NODE:SHARD": on each server its own, though it is called the same. */
static struct message *canary_name(struct engine_redis *e)
{
    size_t prefix = strlen(e->config->prefix);
    struct message *m = message_new(&e->shard->messages, (uint32_t)prefix + CANARY_NAME_MAX);

    if (m == NULL)
        return NULL;
    memcpy(message_payload(m), e->config->prefix, prefix);
    m->payload_len =
        (uint32_t)prefix + (uint32_t)snprintf((char *)message_payload(m) + prefix, CANARY_NAME_MAX,
                                              CANARY_MARK "canary:%016" PRIx64 ":%u",
                                              e->shared->node, e->shard->idx);
    return m;
}

static int init_server(struct engine_redis *e, uint32_t i)
{
    struct redis_server *s = &e->servers[i];
    const struct redis_url *url = &e->shared->urls[i];
    struct redis_link_config c = {.role = REDIS_ROLE_COMMAND,
                                  .endpoint = url->endpoint,
                                  .user = url->user,
                                  .password = url->password,
                                  .name = "tidewire",
                                  .db = url->db,
                                  .wants_master = true,
                                  .connect_timeout_ns = e->config->timeout_ns,
                                  .backoff_min_ns = BACKOFF_MIN_NS,
                                  .backoff_max_ns = BACKOFF_MAX_NS,
                                  .reply_bytes_max = REPLY_BYTES_MAX,
                                  .resolver = e->shared->resolver};

    s->engine = e;
    redis_url_format(url, s->text);
    s->canary_channel = canary_name(e);
    if (s->canary_channel == NULL)
        return -ENOMEM;
    s->down_since_ns = e->shard->io->now_ns;
    /* One message more than --redis-queue is let in. */
    c.queue_bytes_max = (uint32_t)e->config->queue_bytes + REPLY_BYTES_MAX + QUEUE_SPARE_BYTES;
    redis_link_init(&s->publish, e->shard->io, &c, &publish_events, s);
    c.role = REDIS_ROLE_SUBSCRIBER;
    c.queue_bytes_max = SUBSCRIBE_QUEUE_BYTES;
    redis_link_init(&s->subscribe, e->shard->io, &c, &subscribe_events, s);
    e->server_count++;
    if (url->kind == REDIS_KIND_SENTINEL)
        return redis_master_watch(s, url, &c);
    redis_link_start(&s->publish);
    redis_link_start(&s->subscribe);
    return 0;
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
    e->servers = calloc(shared->url_count, sizeof(*e->servers));
    if (e->servers == NULL)
        err = -ENOMEM;
    for (uint32_t i = 0; err == 0 && i < shared->url_count; i++)
        err = init_server(e, i);
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

    for (uint32_t k = 0; e->servers != NULL && k < e->server_count; k++) {
        struct redis_server *s = &e->servers[k];

        redis_link_deinit(&s->publish);
        redis_link_deinit(&s->subscribe);
        redis_master_deinit(s);
        message_free(&e->shard->messages, s->canary_channel);
        due_queue_deinit(&s->batches.urgent);
        due_queue_deinit(&s->batches.needed);
    }
    while ((sub = pool_next(&e->pool, &i)) != NULL)
        redis_sub_free(e, sub);
    due_queue_deinit(&e->unused);
    due_queue_deinit(&e->opening);
    map_deinit(&e->subs);
    pool_deinit(&e->pool);
    free(e->servers);
}
