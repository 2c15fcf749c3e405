/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_RELOAD_H
#define TOOLS_TIDEWIRE_RELOAD_H

/* SIGHUP: the settings are read again from where they came (command line, environment, config
 * file), and all certificates from their files. All or nothing: what is wrong is logged, and what
 * was in force stays. What only a start can change is told and left as it was. Main thread. */

#include "tools/tidewire/certificates.h"
#include "tools/tidewire/config.h"
#include "tools/tidewire/server.h"

enum reload_stat { RELOAD_STAT_DONE, RELOAD_STAT_REFUSED, RELOAD_STAT_COUNT };

/* Settings that a reload has read. */
struct reload_settings {
    struct config read;    /* all as they were read */
    struct config applied; /* of the start, but for what a reload may change */
    struct options *options;
    struct reload_settings *older; /* that a shard may still read */
};

struct reload {
    int argc; /* of the start */
    char **argv;
    char **envp;
    const struct config *started;
    const struct options *started_options;
    struct certificates *certificates; /* NULL: no TLS ports */
    struct redis_trust *redis_trust;
    struct server *server;
    struct reload_settings *live; /* NULL: those of the start are in force */
    stats_value stats[RELOAD_STAT_COUNT];
};

void reload_register(struct reload *r, struct stats_registry *registry);

/* Waits up to a second until all shards have taken the new settings. */
void reload_run(struct reload *r);

/* The settings in force; until the next reload. */
const struct config *reload_config(const struct reload *r);

/* No shard runs any more. */
void reload_deinit(struct reload *r);

#endif
