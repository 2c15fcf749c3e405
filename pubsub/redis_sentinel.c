/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The master, by Sentinel. On the shard's thread. */

#include "pubsub/redis_sentinel.h"

#include <stdlib.h>
#include <string.h>

/* The value of a field in the flat list of names and values; NULL: it is not there. */
static const struct redis_reply *field(const struct redis_reply *r, const char *name)
{
    for (uint32_t i = 0; i + 1 < r->len; i += 2) {
        if (redis_reply_is(&r->items[i], name) && redis_reply_is_text(&r->items[i + 1]))
            return &r->items[i + 1];
    }
    return NULL;
}

static bool read_master(const struct redis_reply *r, struct redis_endpoint *e, uint64_t *epoch)
{
    const struct redis_reply *host, *port, *config_epoch;
    unsigned long number;

    if (r->type != REDIS_TYPE_ARRAY)
        return false;
    host = field(r, "ip");
    port = field(r, "port");
    config_epoch = field(r, "config-epoch");
    if (host == NULL || port == NULL || host->len == 0 || host->len >= sizeof(e->host))
        return false;
    number = strtoul(port->text, NULL, 10);
    if (number == 0 || number > UINT16_MAX)
        return false;
    *e = (struct redis_endpoint){.port = (uint16_t)number};
    memcpy(e->host, host->text, host->len);
    *epoch = config_epoch == NULL ? 0 : strtoull(config_epoch->text, NULL, 10);
    return true;
}

static bool is_stale(const struct redis_sentinel *s, uint64_t epoch)
{
    return s->is_known && epoch < s->epoch &&
           s->scout.link.io->now_ns - s->scout.last_use_ns < REDIS_SENTINEL_TRUST_NS;
}

static bool on_answer(struct redis_scout *scout, const struct redis_reply *r)
{
    struct redis_sentinel *s = scout->owner;
    struct redis_endpoint e;
    uint64_t epoch;

    if (!read_master(r, &e, &epoch) || is_stale(s, epoch))
        return false;
    s->epoch = epoch;
    if (s->is_known && e.port == s->master.port && strcmp(e.host, s->master.host) == 0)
        return true;
    s->master = e;
    s->is_known = true;
    s->events->on_master(s, &s->master);
    return true;
}

static void on_useless(struct redis_scout *scout, const char *text)
{
    struct redis_sentinel *s = scout->owner;

    if (s->events->on_useless != NULL)
        s->events->on_useless(s, redis_scout_asked(scout), text);
}

static const struct redis_scout_events scout_events = {.on_answer = on_answer,
                                                       .on_useless = on_useless};

void redis_sentinel_init(struct redis_sentinel *s, struct io *io,
                         const struct redis_link_config *config,
                         const struct redis_endpoint *endpoints, uint32_t endpoint_count,
                         const char *master_name, const struct redis_sentinel_events *events,
                         void *owner)
{
    struct redis_link_config link = *config;

    *s = (struct redis_sentinel){.events = events, .owner = owner};
    s->args[0] = (struct redis_arg){.head = "MASTER", .head_len = 6};
    s->args[1] = (struct redis_arg){.head = master_name, .head_len = (uint32_t)strlen(master_name)};
    link.db = 0;
    link.wants_master = false;
    redis_scout_init(&s->scout, io, &link, endpoints, endpoint_count, "SENTINEL", s->args, 2,
                     REDIS_SENTINEL_INTERVAL_NS, &scout_events, s);
}
