/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_REDIS_TRUST_H
#define TOOLS_TIDEWIRE_REDIS_TRUST_H

/* Whom connections to rediss:// trust, and what they show: the files of --redis-ca, --redis-cert
 * and --redis-key, and the expiry of that certificate. Main thread. */

#include "core/stats.h"
#include "net/tls_client.h"
#include "pubsub/redis_config.h"
#include "pubsub/redis_url.h"

/* Whether one of the servers is to be reached by TLS. */
static inline bool redis_trust_is_needed(const struct redis_config *config)
{
    for (uint32_t i = 0; i < config->urls.count; i++) {
        if (redis_url_is_tls(config->urls.items[i]))
            return true;
    }
    return false;
}

enum redis_trust_stat {
    REDIS_TRUST_STAT_EXPIRY, /* of --redis-cert, seconds since 1970; 0: there is none */
    REDIS_TRUST_STAT_COUNT
};

struct redis_trust {
    struct tls_client *client; /* NULL: no --redis by TLS */
    int64_t warned_s;          /* when the log was last told of an expiry that is near */
    stats_value stats[REDIS_TRUST_STAT_COUNT];
};

/* Reads the files. 0, or -errno, and one line in complaint that names the setting and the file. */
MUST_USE int redis_trust_load(const struct redis_config *config, struct tls_client **out,
                              char complaint[TLS_COMPLAINT_MAX]);

/* Takes what was loaded, instead of what there was. */
void redis_trust_take(struct redis_trust *t, struct tls_client *next);

/* Warns, at most once a day, of an expiry that is near or past. */
void redis_trust_watch(struct redis_trust *t);

void redis_trust_register(struct redis_trust *t, struct stats_registry *r);

#endif
