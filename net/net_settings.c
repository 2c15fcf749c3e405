/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Taking settings: at the start, and others while the shard runs. */

#include "net/net_settings.h"

#include <errno.h>
#include <stdlib.h>

#include "net/conn.h"

static int parse_proxy_nets(const struct option_list *list, struct proxy_net **out)
{
    struct proxy_net *nets = NULL;

    if (list->count > 0) {
        nets = calloc(list->count, sizeof(*nets));
        if (nets == NULL)
            return -ENOMEM;
    }
    for (uint32_t i = 0; i < list->count; i++) {
        int err = proxy_net_parse(list->items[i], &nets[i]);

        if (err != 0) {
            free(nets);
            return err;
        }
    }
    *out = nets;
    return 0;
}

static bool is_same_rate(const struct option_rate *a, const struct option_rate *b)
{
    return a->per_second == b->per_second && a->burst == b->burst;
}

/* What was used up by the measure of one rate is a debt by that of a higher one. */
static void forget_rates(struct net *n, const struct net_config *next)
{
    const struct net_config *last = n->config;
    bool messages = !is_same_rate(&last->message_rate, &next->message_rate);
    bool bytes = !is_same_rate(&last->byte_rate, &next->byte_rate);
    struct conn *c;
    uint32_t i = 0;

    if (!is_same_rate(&last->connect_rate_per_ip, &next->connect_rate_per_ip))
        admission_forget_rates(n);
    while ((messages || bytes) && (c = pool_next(&n->conns, &i)) != NULL) {
        c->message_tat = messages ? 0 : c->message_tat;
        c->byte_tat = bytes ? 0 : c->byte_tat;
    }
}

int net_settings_take(struct net *n, const struct net_config *config)
{
    struct proxy_net *nets;
    int err = parse_proxy_nets(&config->proxy_from, &nets);

    if (err != 0)
        return err;
    if (n->config != NULL)
        forget_rates(n, config);
    free(n->proxy_nets);
    n->proxy_nets = nets;
    n->proxy_net_count = config->proxy_from.count;
    n->message_rate = config->message_rate.per_second != 0;
    n->byte_rate = config->byte_rate.per_second != 0;
    n->max_queue_bytes = config->max_queue_bytes;
    n->max_queue_refs = (uint32_t)min_u64(config->max_queue_bytes / SENDQ_REF_COST, UINT32_MAX);
    n->send_batch_bytes = config->send_batch_bytes;
    n->ws_limits[0] = (struct ws_limits){.max_message_bytes = config->max_message_bytes,
                                         .max_fragments = config->max_fragments};
    n->ws_limits[1] = n->ws_limits[0];
    n->ws_limits[1].rsv1 = true;
    n->http_limits = (struct http_limits){.max_head_bytes = (uint32_t)config->max_head_bytes,
                                          .max_headers = config->max_headers};
    n->sweep_next_ns = 0; /* it was due by the interval before */
    n->config = config;
    /* Release: this shard's reads of the last one are over. */
    atomic_store_explicit(&n->config_told, config, memory_order_release);
    return 0;
}

void net_settings_change(struct net *n)
{
    int err = net_settings_take(n, atomic_load_explicit(&n->shared->config, memory_order_acquire));

    CHECK(err == 0 || err == -ENOMEM); /* who gives them has checked them */
}

void net_settings_give(struct net_shared *shared, const struct net_config *config)
{
    const struct net_config *last = atomic_load_explicit(&shared->config, memory_order_relaxed);

    if (!is_same_rate(&last->connect_rate, &config->connect_rate))
        atomic_store_explicit(&shared->connect_tat, 0, memory_order_relaxed);
    atomic_store_explicit(&shared->config, config, memory_order_release);
}

bool net_settings_are_taken(const struct net_shared *shared, uint32_t shards)
{
    const struct net_config *config = atomic_load_explicit(&shared->config, memory_order_relaxed);

    for (uint32_t i = 0; i < shards; i++) {
        if (atomic_load_explicit(&shared->nets[i]->config_told, memory_order_acquire) != config)
            return false;
    }
    return true;
}
