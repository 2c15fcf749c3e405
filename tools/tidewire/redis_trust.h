/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_REDIS_TRUST_H
#define TOOLS_TIDEWIRE_REDIS_TRUST_H

/* Whom connections to rediss:// trust, and what they show: the files of --redis-ca, --redis-cert
 * and --redis-key. Main thread. */

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

/* Reads the files. 0, or -errno, and one line in complaint that names the setting and the file. */
MUST_USE int redis_trust_load(const struct redis_config *config, struct tls_client **out,
                              char complaint[TLS_COMPLAINT_MAX]);

#endif
