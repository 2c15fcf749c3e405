/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_NET_SETTINGS_H
#define NET_NET_SETTINGS_H

/* The settings that a shard's transport works by, and how main gives it others while it runs. */

#include "net/net.h"

/* Takes these settings and what is kept at hand of them; at the start, and from
 * net_settings_look(). The config is borrowed until the next one is taken. Returns 0; -ENOMEM:
 * those that it had stay; -EINVAL: a network of --proxy-from is none. Shard's thread, or main
 * before it. */
MUST_USE int net_settings_take(struct net *n, const struct net_config *config);

/* A shard that could not take new settings, for want of memory, tries again in its next turn. */
void net_settings_change(struct net *n);

/* Once a turn: whether main has given others. */
static inline void net_settings_look(struct net *n)
{
    /* Acquire: main's release says that all of them are written. */
    if (unlikely(atomic_load_explicit(&n->shared->config, memory_order_acquire) != n->config))
        net_settings_change(n);
}

/* Gives all shards other settings, which must live until net_settings_are_taken(); the shards must
 * be woken after it. Only those that config_table.c calls OPTION_RELOAD may differ. Main. */
void net_settings_give(struct net_shared *shared, const struct net_config *config);

/* Whether every one of `shards` shards works by the settings given last, so that nobody reads those
 * before any more. Main. */
bool net_settings_are_taken(const struct net_shared *shared, uint32_t shards);

#endif
