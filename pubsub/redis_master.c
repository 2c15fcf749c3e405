/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A pair of links at the master that Sentinels name. On the shard's thread. */

#include "pubsub/redis_master.h"

#include <errno.h>
#include <stdlib.h>

#include "core/log.h"
#include "pubsub/engine_redis.h"

/* Sentinels are asked again soon: they are as many as somebody must wait for. */
#define BACKOFF_MAX_NS NS_PER_SEC
#define QUEUE_BYTES (64u << 10)
#define REPLY_BYTES_MAX (64u << 10)

static void go_to(struct redis_link *l, const struct redis_endpoint *master)
{
    redis_link_set_endpoint(l, master);
    if (redis_link_is_idle(l))
        redis_link_start(l);
    else
        redis_link_reopen(l, "another server is the master now");
}

static void on_master(struct redis_sentinel *sentinel, const struct redis_endpoint *master)
{
    struct redis_server *s = sentinel->owner;
    char address[REDIS_ENDPOINT_TEXT_MAX];

    redis_endpoint_format(master, address);
    log_info("redis master", "server", s->text, "address", address, NULL);
    redis_stat(s->engine, REDIS_STAT_MASTERS);
    go_to(&s->publish, master);
    go_to(&s->subscribe, master);
}

static void on_useless(struct redis_sentinel *sentinel, const struct redis_endpoint *asked,
                       const char *text)
{
    struct redis_server *s = sentinel->owner;
    char address[REDIS_ENDPOINT_TEXT_MAX];

    redis_endpoint_format(asked, address);
    log_warn("a sentinel is of no use", "server", s->text, "address", address, "detail", text,
             NULL);
    redis_stat(s->engine, REDIS_STAT_SENTINELS_USELESS);
    redis_server_unreachable(s);
}

static const struct redis_sentinel_events events = {.on_master = on_master,
                                                    .on_useless = on_useless};

int redis_master_watch(struct redis_server *s, const struct redis_url *url,
                       const struct redis_link_config *link)
{
    struct redis_link_config config = *link;

    s->sentinel = malloc(sizeof(*s->sentinel));
    if (s->sentinel == NULL)
        return -ENOMEM;
    config.user = url->sentinel_user;
    config.password = url->sentinel_password;
    config.backoff_max_ns = BACKOFF_MAX_NS;
    config.queue_bytes_max = QUEUE_BYTES;
    config.reply_bytes_max = REPLY_BYTES_MAX;
    redis_sentinel_init(s->sentinel, s->engine->shard->io, &config, url->endpoints,
                        url->endpoint_count, url->master, &events, s);
    redis_scout_start(&s->sentinel->scout);
    return 0;
}

void redis_master_deinit(struct redis_server *s)
{
    if (s->sentinel == NULL)
        return;
    redis_scout_deinit(&s->sentinel->scout);
    free(s->sentinel);
    s->sentinel = NULL;
}

void redis_master_doubt(struct redis_server *s)
{
    if (s->sentinel != NULL)
        redis_scout_doubt(&s->sentinel->scout);
}

void redis_master_stop(struct redis_server *s)
{
    if (s->sentinel != NULL)
        redis_scout_stop(&s->sentinel->scout);
}

uint64_t redis_master_turn(struct redis_server *s, uint64_t now_ns)
{
    return s->sentinel == NULL ? IO_FOREVER : redis_scout_turn(&s->sentinel->scout, now_ns);
}

void redis_master_flush(struct redis_server *s)
{
    if (s->sentinel != NULL)
        redis_scout_flush(&s->sentinel->scout);
}
